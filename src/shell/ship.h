/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The third kind of session between the controllers: it carries requests to the owner of their
 * volume, many at a time (docs/protocol.md, "Shipped requests"). This controller logs in at its
 * peer to send what the core ships (ship_outgoing.c), and serves the peer's own session
 * (ship_server.c), whose connections the link's listener hands over. */

#ifndef SHELL_SHIP_H
#define SHELL_SHIP_H

#include "array/array.h"
#include "shell/config.h"
#include "shell/loop.h"

enum {
    SHIP_TASK_LIMIT = 2 * SHIP_LIMIT, /* of the peer's requests in the core: those of a session that
                                         broke may still be there when the next one has begun */
};

struct ship;

/* For the status. */
struct ship_counts {
    bool up;                     /* our session to the peer is logged in */
    uint64_t logins;             /* of ours */
    uint64_t shipped, served;    /* requests sent to the peer; requests of the peer carried out */
    uint32_t in_flight, serving; /* now */
    char error[TRACE_LINE];      /* why there is no session; empty: there is one */
};

/* Listens nowhere; begins to connect. NULL, or a sentence. */
const char *ship_start(struct ship **ship, struct loop *loop, struct array *array,
                       const struct config *config, int self);

/* ---- from the link's listener ---- */

/* What a connection has sent so far: does it want this service? 1 yes, 0 no, -1 not yet known. */
int ship_is_wanted(const struct ship *ship, const uint8_t *bytes, uint32_t size);
/* Takes the descriptor over, and the bytes that came. */
void ship_take(struct ship *ship, int descriptor, const uint8_t *bytes, uint32_t size);

/* ---- the core's actions; none of these calls the core ---- */

void ship_send(struct ship *ship, const struct ship_action *actions, uint32_t count);
/* A completion whose handle is HANDLE_SHIPPED. */
void ship_complete(struct ship *ship, const struct completion *completion);

/* ---- after the actions ---- */

/* Drop our session; array_on_ship_down() follows. */
void ship_reset(struct ship *ship);
/* Start every send. */
MUST_CHECK bool ship_flush(struct ship *ship);

void ship_get_counts(const struct ship *ship, struct ship_counts *counts);

#endif
