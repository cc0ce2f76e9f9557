/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The NBD server: listeners and connections on the loop, between front/nbd.h and the core. */

#ifndef SHELL_NBD_SERVER_H
#define SHELL_NBD_SERVER_H

#include "array/array.h"
#include "front/nbd.h"
#include "shell/buffers.h"
#include "shell/config.h"
#include "shell/loop.h"
#include "shell/store.h"

enum {
    NBD_CONNECTION_LIMIT = 8192,
    NBD_HANDSHAKE_MS = 15000, /* from accept to the end of negotiation */
    NBD_DRAIN_MS = 15000,     /* for the last replies of a connection that has ended */
    NBD_STUCK_MS = 30000, /* a client that takes nothing for so long while others wait for memory */
    NBD_SWEEP_MS = 1000,
    NBD_ACCEPT_RETRY_MS = 100, /* after accept() failed for want of descriptors */
    NBD_REFUSED_SAY_MS = 5000, /* of a volume: at most one line about refused clients in so long */

    NBD_WHOLE_PAYLOAD =
        64 * 1024,          /* a WRITE up to here goes to the core straight from the input buffer */
    NBD_INPUT_FIRST = 4096, /* an idle connection's input buffer */
    NBD_INPUT_BURST = 64 * 1024, /* it grows up to here for a client that sends much at a time */
    NBD_INPUT_MOST = 256 * 1024,
    NBD_READ_IN_RUN = 64 * 1024, /* a READ up to here is written straight into the output run */
    NBD_OUTPUT_HIGH =
        1024 * 1024, /* replies not taken: past this nothing more is read from the client */
};
_Static_assert((int)NBD_INPUT_MOST >= (int)NBD_INPUT_BYTES &&
                   (int)NBD_INPUT_MOST >= (int)NBD_REQUEST_BYTES + (int)NBD_WHOLE_PAYLOAD,
               "the input buffer can hold what nbd_step() asks for");

struct nbd_connection;

/* One host request in the core. Its index is the core's handle. */
struct nbd_slot {
    struct nbd_connection *connection; /* NULL: free */
    struct buffer *buffer;             /* or NULL */
    uint64_t cookie, offset_bytes;
    uint32_t length_bytes;
    uint32_t next_free;
    uint16_t command;
    uint8_t host_flags; /* of a WRITE whose payload is still coming */
};

struct nbd_listener {
    struct op op;
    struct nbd_server *server;
    struct timer retry;
    const struct address *address;
    int descriptor;
};

struct nbd_server {
    struct loop *loop;
    struct array *array;
    const struct stores *stores;
    const struct config *config;
    int controller;

    struct nbd_listener listeners[CONFIG_NBD_LIMIT];
    struct timer sweep;
    struct nbd_connection *connections; /* all; a ring of two-way links with this end */
    struct nbd_connection *dirty;       /* have something to send */
    struct nbd_connection *waiting_first, *waiting_last; /* for a slot or a buffer, in turn */
    bool stopping;
    bool abandoned; /* the core has to be pumped for it */

    struct buffers buffers;
    struct nbd_slot *slots;
    uint32_t slot_count, free_slot, slots_used;

    struct nbd_export exports[VOLUME_LIMIT];
    struct nbd_owner owners[VOLUME_LIMIT];
    char refusals[3][TRACE_LINE];                 /* a serves, b serves, nobody does */
    char group_refusals[GROUP_LIMIT][TRACE_LINE]; /* hosts use the other array's */

    uint32_t connection_count;
    uint64_t connections_total, refused;
    uint32_t volume_connections[VOLUME_LIMIT];
    uint64_t volume_refused[VOLUME_LIMIT]; /* at the handshake, and requests after it */
    uint64_t refused_say_us[VOLUME_LIMIT]; /* when the next line about it may be written */
    uint32_t refused_unsaid[VOLUME_LIMIT]; /* since the last line */
};

/* Opens the listeners of the controller. NULL, or a sentence. The config must stay. */
const char *nbd_server_start(struct nbd_server *server, struct loop *loop, struct array *array,
                             const struct stores *stores, const struct config *config,
                             int controller, char why[TRACE_LINE]);

/* A completion of the core. */
void nbd_server_complete(struct nbd_server *server, uint64_t handle, enum host_result result);

/* After the actions of a burst: let waiting connections go on, then start every send. Returns
 * whether requests were given to the core, so that it has to be pumped again. */
bool nbd_server_flush(struct nbd_server *server);

/* Stop listening and close every connection. */
void nbd_server_stop(struct nbd_server *server);

#endif
