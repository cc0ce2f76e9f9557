/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The link between the controllers: two iSCSI sessions (front/iscsi_link.h), one each way. This
 * controller logs in at its peer and sends messages there; it is the target of the peer's own
 * session and hands what comes to the core. */

#ifndef SHELL_LINK_H
#define SHELL_LINK_H

#include "array/array.h"
#include "front/iscsi_link.h"
#include "shell/config.h"
#include "shell/loop.h"
#include "shell/ship.h"

#include <sys/socket.h>

enum {
    LINK_RETRY_LEAST_MS = 20,
    LINK_RETRY_MOST_MS = 200,
    LINK_LOGIN_MS = 2000, /* connect and login, either way */
    LINK_SWEEP_MS = 200,
    LINK_INCOMING_LIMIT = 4,    /* one that is logged in, and those that want to be */
    LINK_OUT_INPUT = 16 * 1024, /* responses of the peer */
    LINK_IN_INPUT = 256 * 1024, /* a batch that fits is handed to the core where it was received */
    LINK_IN_AFTER = 4096, /* received behind data that go to their own place: the next header */
    LINK_MESSAGE_MOST = BATCH_DATA_BYTES + BATCH_HEADERS * 64 + 256,
    LINK_NAME_BYTES = 128,
};

struct link;

/* Our session to the peer. */
struct link_outgoing {
    struct op connect, receive, send;
    int descriptor;     /* -1: none */
    unsigned pending;   /* operations under way */
    bool connected, up; /* up: logged in, and the core knows */
    bool closing;
    bool send_waits; /* the socket had no room: the next send waits for some */
    uint64_t since_us;
    uint32_t retry_ms;
    struct timer retry;
    struct sockaddr_storage address;
    struct msghdr message;
    struct iscsi_login_config login;
    struct iscsi_initiator session;
    uint32_t input_end;
    uint8_t input[LINK_OUT_INPUT];
};

/* A session of the peer, or of somebody who has not yet proved to be. */
struct link_incoming {
    struct op receive, send;
    struct link *link;
    int descriptor; /* -1: free */
    unsigned pending;
    bool sending, closing, send_waits;
    uint64_t since_us;
    uint64_t number; /* higher is newer */
    char who[ADDRESS_TEXT_SIZE];
    bool sorted; /* it is for the link and not for the shipping of requests */
    bool logged_in;
    struct msghdr send_message, receive_message;
    struct iovec receive_iov[2];
    uint32_t direct_bytes; /* of the receive under way, to the place that the session wants */
    struct iscsi_login_config login;
    struct iscsi_link_target session;
    uint32_t input_start, input_end;
    uint8_t *input, *assembly; /* LINK_IN_INPUT, LINK_MESSAGE_MOST bytes */
};

struct link {
    struct loop *loop;
    struct array *array;
    const struct config *config;
    struct ship *ship; /* takes over the connections that are for it */
    int self, peer;

    struct iscsi_crypto crypto;
    char target_name[LINK_NAME_BYTES], initiator_names[CONTROLLER_COUNT][LINK_NAME_BYTES];
    char secrets[CONTROLLER_COUNT][2]
                [ISCSI_CHAP_DERIVED_SIZE]; /* [controller][0: initiator, 1: target] */

    struct op accept;
    struct timer accept_retry, sweep;
    int listener;
    struct link_outgoing out;
    struct link_incoming in[LINK_INCOMING_LIMIT];
    struct link_incoming *owed; /* the core has a message of this session and owes the answer */
    bool owes;                  /* the same, when the session may have gone since */
    bool replied;               /* since link_go_on() */

    uint64_t logins, refused;
    char error[TRACE_LINE]; /* why there is no session to the peer; empty: there is one */
    char said[TRACE_LINE];  /* what was last logged: the same is not said at every retry */
};

/* Listens and begins to connect. NULL, or a sentence. */
const char *link_start(struct link *link, struct loop *loop, struct array *array, struct ship *ship,
                       const struct config *config, int self, char why[TRACE_LINE]);

/* ---- the core's actions ---- */

/* The answer to the message that the core got last. Calls nothing of the core. */
void link_reply(struct link *link, bool good);
/* After all actions: go on with what waited for that answer. Returns whether the core got another
 * message. */
bool link_go_on(struct link *link);
/* One message to the peer; what it points to stays until the core hears of its end. */
void link_send(struct link *link, const struct send_action *action);
/* Drop the session to the peer and make a new one. */
void link_reset(struct link *link);

/* ---- between link.c, link_outgoing.c and link_incoming.c ---- */

void link_outgoing_start(struct link *link);
void link_outgoing_lost(struct link *link, const char *why);
void link_incoming_start(struct link *link);
void link_incoming_go_on(struct link_incoming *incoming);
void link_incoming_flush(struct link_incoming *incoming);
void link_incoming_sweep(struct link *link);

#endif
