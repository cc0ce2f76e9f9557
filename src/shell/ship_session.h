/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Inside the shipping transport; between ship_outgoing.c and ship_server.c only. */

#ifndef SHELL_SHIP_SESSION_H
#define SHELL_SHIP_SESSION_H

#include "front/iscsi_ship.h"
#include "front/iscsi_target.h"
#include "shell/buffers.h"
#include "shell/ship.h"
#include "shell/ship_wire.h"

#include <sys/socket.h>

enum {
    SHIP_RETRY_LEAST_MS = 20,
    SHIP_RETRY_MOST_MS = 200,
    SHIP_LOGIN_MS = 2000,
    SHIP_PING_MS = 500,  /* with nothing heard for so long while something is under way, ask ... */
    SHIP_DEAD_MS = 5000, /* ... and past this the session is made anew */
    SHIP_SWEEP_MS = 100,
    SHIP_INPUT = 64 * 1024,
    SHIP_INPUT_AFTER = 4096, /* received behind data that go to their own place */
    SHIP_INCOMING_LIMIT = 4, /* one that is served, and those that want to be */
    SHIP_WINDOW = ISCSI_TARGET_WINDOW_LIMIT,
    SHIP_NAME_BYTES = 128,
};

/* Our session to the peer. */
struct ship_outgoing {
    struct op connect, receive, send;
    int descriptor;   /* -1: none */
    unsigned pending; /* operations under way */
    bool connected, sending;
    bool up; /* logged in, and the core knows */
    bool closing, send_waits, poll_first, feed_waits, is_dirty;
    uint64_t since_us, heard_us;
    uint32_t retry_ms;
    struct timer retry;
    struct sockaddr_storage address;
    struct msghdr send_message, receive_message;
    struct iovec receive_iov[2];
    size_t send_bytes;
    struct iscsi_login_config login;
    uint32_t direct_bytes, input_start, input_end;
    uint8_t input[SHIP_INPUT];
    struct iscsi_ship session;
};

struct ship_incoming;

/* One request of the peer. Free when the core and the front have let go of it. */
struct ship_task {
    struct ship_incoming *session; /* NULL: gone, or free */
    struct iscsi_target_task *front;
    struct buffer *buffer;
    struct host_request request;
    struct ship_command command;
    uint32_t index, next_free, sense_bytes;
    bool used, in_core;
    uint8_t sense[SHIP_SENSE_BYTES];
};

/* A session of the peer, or of somebody who has not yet proved to be. */
struct ship_incoming {
    struct op receive, send;
    struct ship *ship;
    int descriptor;   /* -1: free */
    unsigned pending; /* operations under way */
    bool sending, receiving, closing, ending, send_waits, poll_first, feed_waits;
    bool logged_in;
    bool held; /* logged in, but what an older session has begun has not ended yet */
    uint64_t since_us, number;
    char who[ADDRESS_TEXT_SIZE];
    struct msghdr send_message, receive_message;
    struct iovec receive_iov[2];
    size_t send_bytes;
    uint32_t direct_bytes, input_start, input_end;
    uint8_t *input; /* SHIP_INPUT bytes */
    struct iscsi_target_login *login;
    struct iscsi_target_task *slots;
    struct iscsi_target session;
};

struct ship {
    struct loop *loop;
    struct array *array;
    const struct config *config;
    int self, peer;
    struct iscsi_crypto crypto;
    char target_name[SHIP_NAME_BYTES], initiator_names[CONTROLLER_COUNT][SHIP_NAME_BYTES];
    char secrets[CONTROLLER_COUNT][2][ISCSI_CHAP_DERIVED_SIZE]; /* [controller][0: initiator, 1:
                                                                   target] */
    struct timer sweep;
    struct ship_outgoing out;
    struct ship_incoming *in[SHIP_INCOMING_LIMIT];
    struct ship_task tasks[SHIP_TASK_LIMIT];
    uint32_t free_task, task_used;
    uint32_t
        changing_left; /* requests of sessions that have gone, which may still change a volume */
    struct buffers buffers;
    struct ship_counts counts;
    char said[TRACE_LINE];
};

void ship_outgoing_start(struct ship *ship);
void ship_outgoing_sweep(struct ship *ship);
void ship_outgoing_flush(struct ship *ship);
void ship_server_sweep(struct ship *ship);
/* True: the core was called. */
MUST_CHECK bool ship_server_flush(struct ship *ship);

#endif
