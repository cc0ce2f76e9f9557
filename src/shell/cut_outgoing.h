/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The coordinator's session to one other primary array of a set: it logs in at whichever of the two
 * controllers there leads the set's group, carries the core's messages as WRITE BUFFER commands, a
 * few at a time, each answered once and in any order, and begins again after a loss. What a message
 * means is not its business, but it may want the state that was read after it was carried out.
 *
 *     connect -> log in -> READ BUFFER: leads? -> up()  ... answered() ...  down()
 *        ^                        | no: the other controller                  |
 *        +------------------------+-------- back-off --------------------------+
 *
 * A cut holds completions back for some 50 ms, so a controller that says nothing for CUT_SILENT_MS
 * is left, and the state is asked for often. */

#ifndef SHELL_CUT_OUTGOING_H
#define SHELL_CUT_OUTGOING_H

#include "front/iscsi_ship.h"
#include "shell/copy_names.h"
#include "shell/stream.h"

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

struct cut_outgoing_counts {
    bool up;
    uint32_t address; /* of the array's: where it is, or tries */
    uint64_t logins, messages;
    uint64_t round_trip_us; /* of the newest answered question */
    struct cut_state state; /* the newest answer */
    char error[TRACE_LINE]; /* why it is not up; empty: it is */
};

struct cut_outgoing {
    /* Read by the owner. */
    struct cut_outgoing_counts counts;

    /* Its own. */
    const struct config_group *group;
    const struct config_set_array *array;
    const struct cut_outgoing_user *user;
    void *context;
    struct loop *loop;
    struct stream stream;
    struct iscsi_ship session;
    struct iscsi_login_config login;
    struct iscsi_crypto crypto;
    struct copy_names names;
    struct tls_context *tls;
    uint8_t id[GROUP_ID_SIZE]; /* of the set */
    uint8_t answer[CUT_STATE_SIZE];
    struct cut_message_slot {
        uint64_t number; /* 0: free */
        bool with_state; /* it is answered when the state was read after it was GOOD ... */
        bool good;       /* ... and it was */
        uint8_t bytes[CUT_MESSAGE_SIZE];
    } slots[CUT_WINDOW]; /* by task tag */
    uint32_t asked_for;  /* slots that were GOOD when the question was asked: a bit each */
    bool wanted, asking, up, elsewhere;
    uint64_t since_us, asked_us;
    uint32_t retry_ms, address, tried; /* tried: addresses in a row that do not lead the group */
    struct timer retry, sweep;
    char said[TRACE_LINE];
};

/* Does not connect before cut_outgoing_want(). The group, and the array at `place` in its set,
 * which has an address, are borrowed for good. NULL, or a sentence. */
const char *cut_outgoing_start(struct cut_outgoing *out, struct loop *loop,
                               const struct config *config, const struct config_group *group,
                               uint32_t place, int self, const struct cut_outgoing_user *user,
                               void *context, char why[TRACE_LINE]);

/* Whether there is to be a session. May be said again and again. */
void cut_outgoing_want(struct cut_outgoing *out, bool wanted);

/* One message of CUT_MESSAGE_SIZE bytes, while up: `number` is not zero, not under way, and one of
 * at most CUT_WINDOW that are; the bytes are copied. `with_state`: when it was GOOD the state is
 * read, state() told of it, and only then answered(). After a loss that down() has not told of yet
 * nothing is sent. */
void cut_outgoing_send(struct cut_outgoing *out, uint64_t number, const uint8_t *bytes,
                       bool with_state);

/* Drop the session and make a new one; down() follows. */
void cut_outgoing_reset(struct cut_outgoing *out);

/* Once a turn of the loop. */
void cut_outgoing_flush(struct cut_outgoing *out);

#endif
