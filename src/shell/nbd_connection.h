/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* One NBD connection; between nbd_server.c and nbd_connection.c only. */

#ifndef SHELL_NBD_CONNECTION_H
#define SHELL_NBD_CONNECTION_H

#include "shell/nbd_server.h"
#include "shell/output.h"

struct nbd_connection {
    struct op receive, send;
    struct nbd_server *server;
    struct nbd_connection *previous, *next; /* all connections */
    struct nbd_connection *next_dirty, *next_waiting;
    int descriptor;
    bool is_dirty, is_waiting;
    bool receiving, sending; /* operations under way */
    bool draining;           /* nothing more is read; closed when all is answered and sent */
    bool closing;            /* shut down; freed when nothing is under way */
    bool send_waits;         /* the socket had no room: this send waits for some */
    bool poll_first;         /* the last receive emptied the socket */
    bool input_short;  /* the last receive filled the input buffer: a larger one saves calls */
    uint32_t requests; /* in the core */
    bool abandoned;    /* closing, and the core knows it */
    uint64_t since_us; /* accepted, or draining since */
    uint64_t sent_us;  /* when the client last took something */

    uint8_t *input;
    uint32_t input_size, input_start, input_end;
    uint32_t
        direct; /* slot whose WRITE payload is received straight into its buffer, or NO_INDEX */
    uint32_t direct_filled;

    struct output output;
    struct nbd_conn nbd;
};

/* Takes over the accepted descriptor. */
void nbd_connection_start(struct nbd_server *server, int descriptor);

/* Step through the input as far as it goes, then receive more. */
void nbd_connection_process(struct nbd_connection *connection);

/* Reply to a slot's request and free the slot. */
void nbd_connection_answer(struct nbd_connection *connection, uint32_t slot,
                           enum host_result result);

/* Start sending what was gathered, if nothing is being sent. */
void nbd_connection_flush(struct nbd_connection *connection);

/* `why` NULL: in order. */
void nbd_connection_close(struct nbd_connection *connection, const char *why);

/* ---- of the server ---- */

bool nbd_server_has_room(const struct nbd_server *server);
void nbd_server_wait(struct nbd_server *server, struct nbd_connection *connection);
void nbd_server_dirty(struct nbd_server *server, struct nbd_connection *connection);
void nbd_server_refresh_owners(struct nbd_server *server);
/* Log that the connection asked for a volume that is not served here, and forget it. */
void nbd_server_say_refused(struct nbd_server *server, struct nbd_connection *connection);
uint32_t nbd_server_take_slot(struct nbd_server *server, struct nbd_connection *connection);
void nbd_server_free_slot(struct nbd_server *server, uint32_t slot);

#endif
