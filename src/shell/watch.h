/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The controller's connection to its peer's parent process: hears that the peer is gone, and asks
 * for its end when this controller has taken over. */

#ifndef SHELL_WATCH_H
#define SHELL_WATCH_H

#include "shell/loop.h"
#include "shell/warden_wire.h"

#include <sys/socket.h>

enum {
    WATCH_RETRY_LEAST_MS = 50,
    WATCH_RETRY_MOST_MS = 500,
    WATCH_PING_LEAST_MS = 20,
};

struct watch_events {
    /* Proof: this incarnation of the peer (0: whichever was alive when watch_fence() was called) is
     * gone. */
    void (*gone)(void *context, uint64_t incarnation);
    /* Whether the peer's parent answers now; told at every change. */
    void (*answers)(void *context, bool answers);
    /* Whether the fence that was asked for is still wanted: looked at just before it is sent. */
    bool (*fence_wanted)(void *context);
    void *context;
};

struct watch {
    struct loop *loop;
    const struct config *config;
    int peer; /* the controller whose parent this is */
    struct watch_events events;
    struct op connect, receive;
    struct timer timer;
    int descriptor;   /* -1: none */
    unsigned pending; /* operations under way on it */
    bool closing;     /* shut down; closed when nothing is pending */
    bool connected, answering, fence;
    bool fence_said;           /* on this connection */
    uint64_t incarnation;      /* last ALIVE, over all connections; 0: none yet */
    uint64_t connection_alive; /* ALIVE on this connection; 0: none yet */
    uint64_t heard_us, since_us, ping_count;
    uint32_t retry_ms, ping_ms, silence_ms;
    struct warden_wire wire;
    struct sockaddr_storage address;
    char error[TRACE_LINE]; /* why there is no connection; empty: there is one */
};

void watch_start(struct watch *watch, struct loop *loop, const struct config *config, int peer,
                 const struct watch_events *events);

/* Ask the peer's parent to end the peer; now, or when it answers again. */
void watch_fence(struct watch *watch);

#endif
