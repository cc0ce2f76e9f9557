/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A controller's session to the second array, for one group: an array_session.h that looks for the
 * controller there that holds the group (COPY_STATE_HERE) and carries batches as WRITE BUFFER
 * commands, up to COPY_WINDOW at a time, answered in any order. Where the group asks for
 * compression and the other side knows it, batches are compressed first, in a thread of their own;
 * those that do not get shorter go as they are. */

#ifndef SHELL_COPY_OUTGOING_H
#define SHELL_COPY_OUTGOING_H

#include "shell/array_session.h"
#include "shell/copy_press.h"

enum {
    COPY_RETRY_LEAST_MS = 50,
    COPY_RETRY_MOST_MS = 2000,
    COPY_LOGIN_MS = 10000, /* connect, TLS, login and the first answer */
    COPY_ASK_MS = 1000,
    COPY_SILENT_MS = 30000, /* nothing moves either way although something is under way */
};

/* What it tells its owner, from the loop, never from inside a call. A table, with `context`. */
struct copy_outgoing_user {
    void (*up)(void *context, const struct copy_state *state);
    /* The same, asked for again while it is up. */
    void (*state)(void *context, const struct copy_state *state);
    /* Nothing of the batches under way is touched any more, and none of them is answered. */
    void (*down)(void *context);
    void (*answered)(void *context, uint64_t number, bool good);
};

struct copy_outgoing_counts {
    uint32_t in_flight;
    uint64_t batches, sent_bytes;       /* bytes: over the wire */
    bool zstd;                          /* the session compresses */
    uint64_t batch_bytes, packed_bytes; /* of batches sent: as they are, and as they went */
    struct copy_state state;            /* the newest answer; memory 0: none yet */
};

struct copy_outgoing {
    /* Read by the owner. */
    struct array_session session;
    struct copy_outgoing_counts counts;

    /* Its own. */
    const struct config *config;
    const struct config_group *group;
    const struct copy_outgoing_user *user;
    void *context;
    uint8_t id[COPY_ID_SIZE];
    uint8_t layout[COPY_LAYOUT_BYTES]; /* the other array's, when it does not fit */
    uint64_t numbers[COPY_WINDOW];     /* by task tag; 0: free */
    struct copy_batch {
        const struct iovec *pieces;
        uint32_t piece_count, length_bytes;
    } batches[COPY_WINDOW];   /* by task tag */
    struct copy_press *press; /* NULL: the group asks for no compression */
    uint64_t sent_before;     /* by sessions that are over */
};

/* Does not connect before array_session_want(). `config` and the group, which has an address, are
 * borrowed for good. NULL, or a sentence. */
const char *copy_outgoing_start(struct copy_outgoing *out, struct loop *loop,
                                const struct config *config, const struct config_group *group,
                                int self, const struct copy_outgoing_user *user, void *context,
                                char why[TRACE_LINE]);

/* One batch, while up: `number` is not zero and not under way. Everything is borrowed until it is
 * answered, or until down() or array_session_reset(). After a loss that down() has not told of yet
 * nothing is sent. */
void copy_outgoing_send(struct copy_outgoing *out, uint64_t number, const struct iovec *iov,
                        uint32_t iov_count, uint32_t length_bytes);

/* Once a turn of the loop. */
void copy_outgoing_flush(struct copy_outgoing *out);

#endif
