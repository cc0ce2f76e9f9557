/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A session to another array, whatever it carries: it logs in at one after the other of the
 * addresses there, asks for a state with READ BUFFER until a controller says that it is the right
 * one, asks again and again while it is up, leaves who is silent or no longer right, and begins
 * again after a loss. What the state means, and every other command, is its kind's: copy_outgoing.c
 * and cut_outgoing.c. Invariant: over() is told of an up() once, when the kernel no longer touches
 * anything, and nothing of the kind's is called between a reset and it.
 *
 *     connect -> log in -> READ BUFFER: here? -> up()  again(), answered() ...  over()
 *        ^                        | no: the other controller                     |
 *        +------------------------+-------- back-off -----------------------------+ */

#ifndef SHELL_ARRAY_SESSION_H
#define SHELL_ARRAY_SESSION_H

#include "front/iscsi_ship.h"
#include "shell/copy_names.h"
#include "shell/stream.h"

enum { ARRAY_SESSION_STATE_LIMIT = 128 }; /* bytes of an answer */

struct array_session;

enum array_session_verdict {
    ARRAY_SESSION_HERE,
    ARRAY_SESSION_ELSEWHERE, /* not this controller */
    ARRAY_SESSION_WRONG,     /* the session ends, for the reason that is given */
    ARRAY_SESSION_ANOTHER,   /* another command was issued, whose answer says why it has to end */
};

/* One table for all sessions of a kind. Nothing of it is called from inside a call of the owner's.
 */
struct array_session_kind {
    uint32_t retry_least_ms, retry_most_ms; /* the pause when no address is the right one */
    uint32_t login_ms;                      /* connect, TLS, login and the first answer */
    uint32_t ask_ms;
    uint32_t silent_ms;
    bool silent_by_question; /* silent_ms count from an unanswered question; else from when
                                something last came or left */
    uint32_t state_tag;      /* of the question; the other tags are the kind's */
    uint32_t state_bytes;    /* of the answer */
    /* Sentences for operators. */
    const char *ended, *silent, *elsewhere, *unwanted;

    void (*state_cdb)(uint8_t cdb[16]);
    void (*asked)(struct array_session *session); /* the question goes out now; may be NULL */
    enum array_session_verdict (*judge)(struct array_session *session,
                                        const struct iscsi_ship_done *done, const char **why);
    void (*up)(struct array_session *session);
    /* It was up, and has judged another state to be that of the right controller. */
    void (*again)(struct array_session *session);
    void (*answered)(struct array_session *session, const struct iscsi_ship_done *done);
    /* The connection is over. True: nothing that was given is used any more; else
     * array_session_emptied() follows. NULL: always true. */
    bool (*drop)(struct array_session *session);
    void (*over)(struct array_session *session, bool was_up);
};

struct array_session_counts {
    bool up;
    uint32_t address; /* of those given: where it is, or tries */
    uint64_t logins;
    uint64_t round_trip_us; /* of the newest answered question, some of it spent in queues */
    char error[TRACE_LINE]; /* why it is not up; empty: it is */
};

struct array_session {
    /* Read by the owner. */
    struct array_session_counts counts;
    struct iscsi_ship ship;
    struct stream stream;
    bool wanted;

    /* Written by the owner before array_session_start(). */
    struct iscsi_crypto crypto;
    struct copy_names names;
    struct tls_context *tls;         /* NULL: none */
    const struct address *addresses; /* at least one; borrowed for good */
    uint32_t address_count;
    uint64_t rate_bytes;               /* a second; 0: no limit */
    char what[CONFIG_NAME_SIZE + 16];  /* "group NAME", for the log */
    char where[CONFIG_NAME_SIZE + 16]; /* before the address: "array NAME, ", or nothing */

    /* Its own. */
    const struct array_session_kind *kind;
    struct loop *loop;
    struct iscsi_login_config login;
    uint8_t answer[ARRAY_SESSION_STATE_LIMIT];
    bool asking, elsewhere;
    bool emptying; /* over() waits for array_session_emptied() */
    uint64_t since_us, asked_us;
    uint32_t retry_ms, address, tried; /* tried: addresses in a row that were not the right one */
    struct timer retry, sweep;
    char said[TRACE_LINE];
};

/* Once for each struct, which was zero but for what the owner writes. Does not connect before
 * array_session_want(). */
void array_session_start(struct array_session *session, struct loop *loop,
                         const struct array_session_kind *kind);

/* Whether there is to be a session. May be said again and again. */
void array_session_want(struct array_session *session, bool wanted);

/* Whether commands may be issued. When it is up and they may not, over() is near. */
bool array_session_is_ready(const struct array_session *session);

/* The question out of its turn: while up, ready, and not asking. */
void array_session_ask(struct array_session *session);

/* The kind found something that ends the session; over() follows. */
void array_session_lose(struct array_session *session, const char *why);

/* After drop() said false. */
void array_session_emptied(struct array_session *session);

/* Drop the session and make a new one; over() follows. */
void array_session_reset(struct array_session *session);

/* Once a turn of the loop. */
void array_session_flush(struct array_session *session);

#endif
