/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The coordinator's session to one other primary array of a set: an array_session.h that looks for
 * the controller there that leads the set's group (CUT_STATE_LEADER) and carries the core's
 * messages as WRITE BUFFER commands, a few at a time, each answered once and in any order. What a
 * message means is not its business, but it may want the state that was read after it was carried
 * out.
 *
 * A cut holds completions back for some 50 ms, so a controller that says nothing for CUT_SILENT_MS
 * is left, and the state is asked for often. */

#ifndef SHELL_CUT_OUTGOING_H
#define SHELL_CUT_OUTGOING_H

#include "shell/array_session.h"

enum {
    CUT_RETRY_LEAST_MS = 50,
    CUT_RETRY_MOST_MS = 1000,
    CUT_LOGIN_MS = 5000, /* connect, TLS, login and the first answer */
    CUT_ASK_MS = 200,
    CUT_SILENT_MS = 3000,
};

/* What it tells its owner, from the loop, never from inside a call. A table, with `context`. */
struct cut_outgoing_user {
    /* It is at the controller that leads: messages may be sent. */
    void (*up)(void *context, const struct cut_state *state);
    /* The same, asked for again while it is up. */
    void (*state)(void *context, const struct cut_state *state);
    /* No message under way is answered any more. */
    void (*down)(void *context);
    void (*answered)(void *context, uint64_t number, bool good);
};

struct cut_outgoing {
    /* Read by the owner. */
    struct array_session session;
    uint64_t messages; /* sent */

    /* Its own. */
    const struct cut_outgoing_user *user;
    void *context;
    uint8_t id[GROUP_ID_SIZE]; /* of the set */
    struct cut_state state;    /* the newest answer */
    struct cut_message_slot {
        uint64_t number; /* 0: free */
        bool with_state; /* it is answered when the state was read after it was GOOD ... */
        bool good;       /* ... and it was */
        uint8_t bytes[CUT_MESSAGE_SIZE];
    } slots[CUT_WINDOW]; /* by task tag */
    uint32_t asked_for;  /* slots that were GOOD when the question was asked: a bit each */
};

/* Does not connect before array_session_want(). The group, and the array at `place` in its set,
 * which has an address, are borrowed for good. NULL, or a sentence. */
const char *cut_outgoing_start(struct cut_outgoing *out, struct loop *loop,
                               const struct config *config, const struct config_group *group,
                               uint32_t place, int self, const struct cut_outgoing_user *user,
                               void *context, char why[TRACE_LINE]);

/* One message of CUT_MESSAGE_SIZE bytes, while up: `number` is not zero, not under way, and one of
 * at most CUT_WINDOW that are; the bytes are copied. `with_state`: when it was GOOD the state is
 * read, state() told of it, and only then answered(). After a loss that down() has not told of yet
 * nothing is sent. */
void cut_outgoing_send(struct cut_outgoing *out, uint64_t number, const uint8_t *bytes,
                       bool with_state);

#endif
