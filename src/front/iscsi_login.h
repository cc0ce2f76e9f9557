/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The login phase of one connection (RFC 7143 sections 6.3 and 11.12-11.13), as initiator and as
 * target: a Login PDU goes in, the next one comes out, until the full-feature phase or a failure
 * with status class and detail. It never sees the byte stream and has no clock; the login's time
 * limit is the caller's. Invariant: with a secret configured no path leads to the full-feature
 * phase without the proof of it. */

#ifndef FRONT_ISCSI_LOGIN_H
#define FRONT_ISCSI_LOGIN_H

#include "front/iscsi_chap.h"
#include "front/iscsi_keys.h"
#include "front/iscsi_pdu.h"

enum { ISCSI_LOGIN_STEP_LIMIT = 32, ISCSI_REASON_SIZE = 160, ISCSI_LOGIN_TEXT_SIZE = 4096 };

/* RFC 7143 11.13.5, class << 8 | detail. */
enum iscsi_login_status {
    ISCSI_LOGIN_SUCCESS = 0x0000,
    ISCSI_LOGIN_INITIATOR_ERROR = 0x0200,
    ISCSI_LOGIN_AUTHENTICATION_FAILURE = 0x0201,
    ISCSI_LOGIN_AUTHORIZATION_FAILURE = 0x0202,
    ISCSI_LOGIN_NOT_FOUND = 0x0203,
    ISCSI_LOGIN_UNSUPPORTED_VERSION = 0x0205,
    ISCSI_LOGIN_MISSING_PARAMETER = 0x0207,
    ISCSI_LOGIN_CANNOT_INCLUDE = 0x0208,
    ISCSI_LOGIN_SESSION_TYPE = 0x0209,
    ISCSI_LOGIN_NO_SESSION = 0x020A,
    ISCSI_LOGIN_INVALID_REQUEST = 0x020B,
    ISCSI_LOGIN_TARGET_ERROR = 0x0300,
    ISCSI_LOGIN_UNAVAILABLE = 0x0301,
    ISCSI_LOGIN_OUT_OF_RESOURCES = 0x0302,
};

/* Borrowed, with all that it points to, for the session's life. */
struct iscsi_login_config {
    const char *initiator_name; /* target: the only one admitted, or NULL for any */
    const char *target_name;
    const char *alias; /* InitiatorAlias or TargetAlias; may be NULL */
    uint8_t isid[6];   /* initiator: RFC 7143 11.12.5; 0x80 in the first byte says "random" */
    uint16_t tsih;     /* target: the number of a new session; not zero */
    uint16_t portal_group_tag; /* target */
    uint32_t first_sn;         /* initiator: first CmdSN; target: first StatSN */
    /* Target: who wants in is asked of the owner first (ISCSI_LOGIN_IDENTIFY), who then fills in
     * this config; until then only first_sn and crypto hold. Discovery sessions are possible. */
    bool identify;
    struct iscsi_params wish;
    const struct iscsi_crypto *crypto; /* needed when either identity has a secret */
    /* How we prove ourselves, and how the peer must. Initiator with only `self`: one-way; with
     * both: mutual. Target: `peer` makes it demand proof; `self` lets it answer an initiator that
     * demands it. */
    struct iscsi_identity self, peer;
};

enum iscsi_login_event {
    ISCSI_LOGIN_IDENTIFY, /* target: names are known; fill in the config, call iscsi_login_admit()
                           */
    ISCSI_LOGIN_REPLY,    /* send `out`; the login goes on */
    ISCSI_LOGIN_DONE,     /* target: send `out`; both: the full-feature phase begins */
    ISCSI_LOGIN_FAILED,   /* target: send `out`, then close; initiator: close. `status` and `reason`
                             say why */
};

struct iscsi_login {
    /* Read by the owner. */
    struct iscsi_pdu out; /* the next Login PDU to send, data_size bytes of out_text */
    char out_text[ISCSI_LOGIN_TEXT_SIZE];
    uint16_t status; /* enum iscsi_login_status or the peer's own */
    char reason[ISCSI_REASON_SIZE];
    struct iscsi_negotiation negotiation; /* .agreed holds when done */
    char initiator_name[ISCSI_NAME_SIZE]; /* target: who logs in */
    char target_name[ISCSI_NAME_SIZE];    /* target, ISCSI_LOGIN_IDENTIFY: to whom; "" when not said
                                           */
    bool discovery;                       /* target: SessionType=Discovery */
    bool authenticated;                   /* the peer has proved itself */
    uint32_t cmd_sn;  /* initiator: the first command's; target: expected (ExpCmdSN) */
    uint32_t stat_sn; /* initiator: expected (ExpStatSN); target: the next one's */
    uint16_t tsih;

    /* The login's own. */
    const struct iscsi_login_config *config;
    enum iscsi_role role;
    uint8_t stage;              /* 0 security, 1 operational, 3 full-feature (RFC 7143 11.12.3) */
    uint8_t security;           /* enum security_step */
    bool started;               /* the first PDU of the peer has been taken */
    bool named;                 /* target: the first whole request has been taken */
    bool asked;                 /* target: ISCSI_LOGIN_IDENTIFY waits for its answer */
    struct iscsi_pdu asked_pdu; /* the request that it waits with; its text is in_text */
    uint32_t asked_size;
    bool over;
    uint32_t step_count;
    uint8_t isid[6];
    uint16_t cid;
    uint32_t itt;
    struct iscsi_chap chap;
    uint32_t in_used; /* text of PDUs with the C bit gathers here */
    uint8_t in_text[ISCSI_TEXT_LIMIT];
};

/* NULL when the config is sound for `role`, else a static sentence that says what is wrong. */
const char *iscsi_login_config_check(const struct iscsi_login_config *config, enum iscsi_role role);

/* Initiator: `out` is the first Login Request. Target: nothing to send yet. */
void iscsi_login_start(struct iscsi_login *login, const struct iscsi_login_config *config,
                       enum iscsi_role role);

/* Initiator: a Login Response came. Target: a Login Request came. `data`: pdu->data_size bytes. */
enum iscsi_login_event iscsi_login_on_pdu(struct iscsi_login *login, const struct iscsi_pdu *pdu,
                                          const uint8_t *data);

/* Target, after ISCSI_LOGIN_IDENTIFY: the owner's answer. `status` 0 (the config is filled in and
 * sound), or why not, with a literal for the reason. */
enum iscsi_login_event iscsi_login_admit(struct iscsi_login *login, uint16_t status,
                                         const char *reason);

/* `first` and `second` one after the other into `reason`, cut at its size; bytes that do not print
 * become '?', because they may be a peer's and end up in a log. */
void iscsi_reason_set(char reason[ISCSI_REASON_SIZE], const char *first, const char *second);

#endif
