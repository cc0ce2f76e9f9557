/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The control socket RUN/control on the loop: one request line a connection, one reply line, then
 * it is closed. What the lines mean is in control.h. */

#ifndef SHELL_CONTROL_SERVER_H
#define SHELL_CONTROL_SERVER_H

#include "array/array.h"
#include "shell/control.h"
#include "shell/loop.h"

enum { CONTROL_ASK_MS = 5000 }; /* an operator's program has so long to send its line */

struct controller;
struct control_server;

struct control_connection {
    struct op receive, send;
    struct control_server *server;
    int descriptor; /* -1: free */
    bool receiving, sending, closing;
    bool asked;    /* handed to the core; the reply comes later */
    bool stopping; /* asked for the stop; replied when it has ended */
    uint64_t since_us;
    uint64_t handle;
    uint32_t used;
    char line[CONTROL_REQUEST_BYTES];
    char *reply; /* from malloc() */
    size_t reply_size, reply_sent;
};

struct control_server {
    struct controller *controller;
    struct loop *loop;
    struct op accept;
    struct timer sweep, accept_retry;
    int listener;
    struct address address;
    uint64_t next_handle;
    struct control_connection connections[CONTROL_CONNECTION_LIMIT];
};

const char *control_server_start(struct control_server *server, struct controller *controller,
                                 char why[TRACE_LINE]);
/* The core's answer to what an operator asked. */
void control_server_reply(struct control_server *server, const struct operator_reply *reply);
/* The clean stop has ended: whoever asked for it hears so. */
void control_server_stopped(struct control_server *server);
void control_server_close(struct control_server *server);

#endif
