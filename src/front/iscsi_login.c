/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Both sides of the login phase. A request or a response is first gathered (C bit), then cut into
 * pairs, then taken as a whole: names, security, operational keys, transit. Every failure goes
 * through one of the two *_fail() functions, so `over` is set on each; the full-feature phase is
 * entered in one place on each side. */

#include "front/iscsi_login.h"

#include "base/check.h"

#include <string.h>

enum { STAGE_SECURITY = 0, STAGE_OPERATIONAL = 1, STAGE_FULL = 3 };

/* Target:     START --AuthMethod=CHAP--> METHOD --CHAP_A--> CHALLENGED --right CHAP_R--> DONE
 *               |--AuthMethod=None, and no proof is demanded----------------------------> DONE
 * Initiator:  the same steps, each left when the target's answer to it came. */
enum security_step { SECURITY_START, SECURITY_METHOD, SECURITY_CHALLENGED, SECURITY_DONE };

/* The keys that the login itself understands; all others are operational (iscsi_keys). */
enum heard_key {
    HEARD_AUTH_METHOD,
    HEARD_CHAP_A,
    HEARD_CHAP_I,
    HEARD_CHAP_C,
    HEARD_CHAP_N,
    HEARD_CHAP_R,
    HEARD_LAST_SECURITY = HEARD_CHAP_R,
    HEARD_INITIATOR_NAME,
    HEARD_INITIATOR_ALIAS,
    HEARD_TARGET_NAME,
    HEARD_SESSION_TYPE,
    HEARD_TARGET_ALIAS,
    HEARD_TARGET_ADDRESS,
    HEARD_PORTAL_GROUP,
    HEARD_COUNT
};

static const struct {
    const char *name;
    unsigned senders; /* enum iscsi_role, as a mask */
} heard_keys[HEARD_COUNT] = {
    [HEARD_AUTH_METHOD] = {"AuthMethod", ISCSI_INITIATOR | ISCSI_TARGET},
    [HEARD_CHAP_A] = {"CHAP_A", ISCSI_INITIATOR | ISCSI_TARGET},
    [HEARD_CHAP_I] = {"CHAP_I", ISCSI_INITIATOR | ISCSI_TARGET},
    [HEARD_CHAP_C] = {"CHAP_C", ISCSI_INITIATOR | ISCSI_TARGET},
    [HEARD_CHAP_N] = {"CHAP_N", ISCSI_INITIATOR | ISCSI_TARGET},
    [HEARD_CHAP_R] = {"CHAP_R", ISCSI_INITIATOR | ISCSI_TARGET},
    [HEARD_INITIATOR_NAME] = {"InitiatorName", ISCSI_INITIATOR},
    [HEARD_INITIATOR_ALIAS] = {"InitiatorAlias", ISCSI_INITIATOR},
    [HEARD_TARGET_NAME] = {"TargetName", ISCSI_INITIATOR},
    [HEARD_SESSION_TYPE] = {"SessionType", ISCSI_INITIATOR},
    [HEARD_TARGET_ALIAS] = {"TargetAlias", ISCSI_TARGET},
    [HEARD_TARGET_ADDRESS] = {"TargetAddress", ISCSI_TARGET},
    [HEARD_PORTAL_GROUP] = {"TargetPortalGroupTag", ISCSI_TARGET},
};

struct heard {
    const char *value[HEARD_COUNT]; /* NULL: not sent */
};

/* ---- configuration and reasons ---- */

void iscsi_reason_set(char reason[ISCSI_REASON_SIZE], const char *first, const char *second)
{
    const char *parts[] = {first, second};
    size_t used = 0;

    for (unsigned part = 0; part < ARRAY_LENGTH(parts); part++)
        for (const char *at = parts[part]; *at && used < ISCSI_REASON_SIZE - 1; at++)
            reason[used++] = *at >= 0x20 && *at < 0x7F ? *at : '?';
    reason[used] = '\0';
}

static const char *identity_check(const struct iscsi_identity *identity)
{
    size_t size = identity->secret ? strlen(identity->secret) : ISCSI_CHAP_SECRET_LEAST;

    if (size < ISCSI_CHAP_SECRET_LEAST || size > ISCSI_CHAP_SECRET_LIMIT)
        return "a secret has 12 to 255 bytes";
    if (identity->name && (strlen(identity->name) >= ISCSI_CHAP_NAME_SIZE || !*identity->name))
        return "a CHAP name has 1 to 255 bytes";
    return NULL;
}

static bool name_fits(const char *name)
{
    return name && *name && strlen(name) < ISCSI_NAME_SIZE;
}

static const char *wish_check(const struct iscsi_params *wish)
{
    if (wish->own_data_limit_bytes < 512 || wish->own_data_limit_bytes > ISCSI_DATA_LIMIT)
        return "MaxRecvDataSegmentLength is 512 to 16777215";
    if (wish->max_burst_bytes < 512 || wish->max_burst_bytes > ISCSI_DATA_LIMIT)
        return "MaxBurstLength is 512 to 16777215";
    if (wish->first_burst_bytes < 512 || wish->first_burst_bytes > wish->max_burst_bytes)
        return "FirstBurstLength is 512 to MaxBurstLength";
    if (wish->max_connections != 1 || wish->max_outstanding_r2t != 1 ||
        wish->error_recovery_level != 0)
        return "one connection, one outstanding R2T and error recovery level 0 are supported";
    if (!wish->data_pdu_in_order || !wish->data_sequence_in_order)
        return "data come in order";
    if (wish->default_time2wait_s > 3600 || wish->default_time2retain_s > 3600)
        return "DefaultTime2Wait and DefaultTime2Retain are 0 to 3600";
    return NULL;
}

const char *iscsi_login_config_check(const struct iscsi_login_config *config, enum iscsi_role role)
{
    bool asking = role == ISCSI_TARGET && config->identify;
    const char *wrong = wish_check(&config->wish);

    if (!wrong)
        wrong = identity_check(&config->self);
    if (!wrong)
        wrong = identity_check(&config->peer);
    if (wrong)
        return wrong;
    if (asking ? config->target_name && !name_fits(config->target_name)
               : !name_fits(config->target_name))
        return "the target's name has 1 to 223 bytes";
    if (role == ISCSI_INITIATOR ? !name_fits(config->initiator_name)
                                : config->initiator_name && !name_fits(config->initiator_name))
        return "the initiator's name has 1 to 223 bytes";
    if (config->alias && strlen(config->alias) > ISCSI_SIMPLE_LIMIT)
        return "an alias has at most 255 bytes";
    if (role == ISCSI_TARGET && config->tsih == 0)
        return "a new session's TSIH is not zero";
    if ((config->self.secret || config->peer.secret) && !config->crypto)
        return "a secret needs digests and random bytes";
    if (config->self.secret && !config->self.name)
        return "a secret needs the name it belongs to";
    if (role == ISCSI_INITIATOR && config->peer.secret && !config->self.secret)
        return "a target proves itself only to an initiator that does (RFC 7143 12.1.3)";
    if (role == ISCSI_TARGET && config->self.secret && !config->peer.secret)
        return "a target that proves itself must first be sure of the initiator (RFC 7143 12.1.3)";
    return NULL;
}

/* ---- what both sides do with a PDU's text ---- */

/* Add this PDU's text to what the C bit has gathered. False: it is too long. */
static bool gather(struct iscsi_login *login, const struct iscsi_pdu *pdu, const uint8_t *data,
                   const uint8_t **text, uint32_t *size)
{
    if (login->in_used == 0 && !pdu->login.continues) {
        *text = data;
        *size = pdu->data_size;
        return true;
    }
    if (pdu->data_size > sizeof login->in_text - login->in_used)
        return false;
    if (pdu->data_size > 0)
        memcpy(login->in_text + login->in_used, data, pdu->data_size);
    login->in_used += pdu->data_size;
    *text = login->in_text;
    *size = login->in_used;
    return true;
}

/* Sort one pair; NULL, or why the login must fail. */
static const char *take_pair(struct iscsi_login *login, const struct iscsi_pair *pair,
                             struct heard *heard, struct iscsi_text *out)
{
    const unsigned sender = login->role == ISCSI_TARGET ? ISCSI_INITIATOR : ISCSI_TARGET;
    const char *why;

    for (unsigned i = 0; i < HEARD_COUNT; i++) {
        if (strcmp(pair->key, heard_keys[i].name) != 0)
            continue;
        if (heard->value[i])
            return "a key was sent twice";
        if (!(heard_keys[i].senders & sender))
            return "a key that only the other side may send";
        if (i <= HEARD_LAST_SECURITY && login->stage != STAGE_SECURITY)
            return "a security key after the security stage";
        heard->value[i] = pair->value;
        return NULL;
    }
    if (iscsi_negotiation_on_pair(&login->negotiation, pair, out, &why) == ISCSI_KEY_PROTOCOL)
        return why;
    return NULL;
}

static const char *take_text(struct iscsi_login *login, const uint8_t *text, uint32_t size,
                             struct heard *heard, struct iscsi_text *out)
{
    struct iscsi_pair pair;
    uint32_t at = 0;

    /* Each pair takes at least three bytes, so this ends. */
    for (;;) {
        enum iscsi_pair_result result = iscsi_pair_next(text, size, &at, &pair);
        const char *wrong;

        if (result == ISCSI_PAIR_END)
            return out->overflow ? "too many keys to answer" : NULL;
        if (result == ISCSI_PAIR_MALFORMED)
            return "malformed text";
        wrong = take_pair(login, &pair, heard, out);
        if (wrong)
            return wrong;
    }
}

static void login_settle(struct iscsi_login *login)
{
    struct iscsi_params *agreed = &login->negotiation.agreed;

    /* RFC 7143 13.14: the first burst is never longer than a burst. */
    agreed->first_burst_bytes = min_u32(agreed->first_burst_bytes, agreed->max_burst_bytes);
    login->stage = STAGE_FULL;
    login->over = true;
}

static const char *chap_reason(enum iscsi_chap_result result)
{
    switch (result) {
    case ISCSI_CHAP_WRONG:
        return "wrong CHAP secret";
    case ISCSI_CHAP_REFLECTED:
        return "the peer sent our own CHAP challenge back";
    case ISCSI_CHAP_WEAK:
        return "an empty or overlong CHAP challenge";
    case ISCSI_CHAP_NO_DIGEST:
        return "the CHAP digest is not available";
    case ISCSI_CHAP_OK:
        break;
    }
    return NULL;
}

/* Answer the CHAP_I and CHAP_C in `heard`; NULL, or what is wrong. */
static const char *answer_challenge(struct iscsi_login *login, const struct heard *heard,
                                    struct iscsi_text *out)
{
    const struct iscsi_login_config *config = login->config;
    uint8_t challenge[ISCSI_CHAP_CHALLENGE_LIMIT], response[ISCSI_CHAP_DIGEST_LIMIT];
    int size = iscsi_binary_parse(heard->value[HEARD_CHAP_C], challenge, sizeof challenge);
    enum iscsi_chap_result result;
    uint32_t id;

    if (size < 0 || !iscsi_number_parse(heard->value[HEARD_CHAP_I], &id) || id > 255)
        return "a malformed CHAP challenge";
    result = iscsi_chap_respond(&login->chap, config->crypto, config->self.secret, (uint8_t)id,
                                challenge, (uint32_t)size, response);
    if (result != ISCSI_CHAP_OK)
        return chap_reason(result);
    iscsi_text_put(out, "CHAP_N", config->self.name);
    iscsi_text_put_binary(out, "CHAP_R", response, iscsi_chap_digest_size(login->chap.algorithm));
    return NULL;
}

/* Check the CHAP_N and CHAP_R in `heard` against the peer's secret; NULL, or what is wrong. */
static const char *check_response(struct iscsi_login *login, const struct heard *heard)
{
    const struct iscsi_login_config *config = login->config;
    uint8_t response[ISCSI_CHAP_DIGEST_LIMIT];
    int size;
    const char *wrong;

    if (!heard->value[HEARD_CHAP_N] || !heard->value[HEARD_CHAP_R])
        return "CHAP_N and CHAP_R are missing";
    size = iscsi_binary_parse(heard->value[HEARD_CHAP_R], response, sizeof response);
    if (size < 0)
        return "a malformed CHAP response";
    if (config->peer.name && strcmp(config->peer.name, heard->value[HEARD_CHAP_N]) != 0)
        return "an unknown CHAP name";
    wrong = chap_reason(iscsi_chap_verify(&login->chap, config->crypto, config->peer.secret,
                                          response, (uint32_t)size));
    if (!wrong)
        login->authenticated = true;
    return wrong;
}

static void put_challenge(const struct iscsi_login *login, struct iscsi_text *out)
{
    iscsi_text_put_number(out, "CHAP_I", login->chap.own_id);
    iscsi_text_put_binary(out, "CHAP_C", login->chap.own_challenge,
                          sizeof login->chap.own_challenge);
}

/* ---- target ---- */

static enum iscsi_login_event target_reply(struct iscsi_login *login, uint32_t text_size,
                                           bool transit, uint8_t next_stage)
{
    login->out = (struct iscsi_pdu){.opcode = ISCSI_LOGIN_RESPONSE,
                                    .final = transit,
                                    .data_size = text_size,
                                    .itt = login->itt,
                                    .stat_sn = login->stat_sn++,
                                    .exp_cmd_sn = login->cmd_sn,
                                    .max_cmd_sn = login->cmd_sn};
    memcpy(login->out.login.isid, login->isid, sizeof login->isid);
    login->out.login.current_stage = login->stage;
    login->out.login.next_stage = transit ? next_stage : 0;
    if (!transit)
        return ISCSI_LOGIN_REPLY;
    if (next_stage != STAGE_FULL) {
        login->stage = next_stage;
        return ISCSI_LOGIN_REPLY;
    }
    login->tsih = login->config->tsih;
    login->out.login.tsih = login->tsih;
    login_settle(login);
    return ISCSI_LOGIN_DONE;
}

static enum iscsi_login_event target_fail(struct iscsi_login *login, uint16_t status,
                                          const char *reason, const char *detail)
{
    login->over = true;
    login->status = status;
    iscsi_reason_set(login->reason, reason, detail);
    login->out = (struct iscsi_pdu){.opcode = ISCSI_LOGIN_RESPONSE,
                                    .itt = login->itt,
                                    .stat_sn = login->stat_sn,
                                    .exp_cmd_sn = login->cmd_sn,
                                    .max_cmd_sn = login->cmd_sn};
    memcpy(login->out.login.isid, login->isid, sizeof login->isid);
    login->out.login.current_stage = login->stage;
    login->out.login.status_class = (uint8_t)(status >> 8);
    login->out.login.status_detail = (uint8_t)status;
    return ISCSI_LOGIN_FAILED;
}

/* The header of a request; 0, or the status to fail with. */
static uint16_t target_check_header(struct iscsi_login *login, const struct iscsi_pdu *pdu,
                                    const char **reason)
{
    if (!login->started) {
        login->started = true;
        memcpy(login->isid, pdu->login.isid, sizeof login->isid);
        login->cid = pdu->login.cid;
        login->itt = pdu->itt;
        login->cmd_sn = pdu->cmd_sn;
        login->stage = pdu->login.current_stage;
        *reason = "only iSCSI version 0 is supported";
        if (pdu->login.version_min > 0)
            return ISCSI_LOGIN_UNSUPPORTED_VERSION;
        *reason = "there is no such session to add a connection to";
        if (pdu->login.tsih != 0)
            return ISCSI_LOGIN_NO_SESSION;
        *reason = "a login begins with the security or the operational stage";
        if (login->stage > STAGE_OPERATIONAL)
            return ISCSI_LOGIN_INITIATOR_ERROR;
    }
    *reason = "ISID, CID, TSIH, task tag or stage changed within the login";
    if (memcmp(login->isid, pdu->login.isid, sizeof login->isid) != 0 ||
        login->cid != pdu->login.cid || login->itt != pdu->itt || pdu->login.tsih != 0 ||
        login->stage != pdu->login.current_stage)
        return ISCSI_LOGIN_INITIATOR_ERROR;
    *reason = "a transit to a stage that does not follow";
    if (pdu->final && (pdu->login.next_stage <= login->stage || pdu->login.next_stage == 2))
        return ISCSI_LOGIN_INITIATOR_ERROR;
    *reason = "T and C bits together";
    if (pdu->final && pdu->login.continues)
        return ISCSI_LOGIN_INITIATOR_ERROR;
    return 0;
}

/* Who wants in, and to what, from the first request; 0, or the status to fail with. */
static uint16_t target_take_names(struct iscsi_login *login, const char *initiator,
                                  const char *target, const char *type, const char **reason)
{
    const bool asking = login->config->identify;

    *reason = "InitiatorName is missing";
    if (!initiator || !*initiator)
        return ISCSI_LOGIN_MISSING_PARAMETER;
    *reason = "InitiatorName is longer than 223 bytes";
    if (strlen(initiator) >= sizeof login->initiator_name)
        return ISCSI_LOGIN_INITIATOR_ERROR;
    *reason = "InitiatorName has a character that a name cannot have";
    for (const char *at = initiator; *at; at++)
        if ((uint8_t)*at <= ' ' || *at == 0x7F)
            return ISCSI_LOGIN_INITIATOR_ERROR;
    memcpy(login->initiator_name, initiator, strlen(initiator) + 1);
    if (type && strcmp(type, "Normal") != 0) {
        bool discovery = strcmp(type, "Discovery") == 0;

        *reason = "only normal sessions are supported";
        if (!discovery || !asking)
            return discovery ? ISCSI_LOGIN_SESSION_TYPE : ISCSI_LOGIN_INITIATOR_ERROR;
        login->discovery = true;
    }
    *reason = "TargetName is missing";
    if (!target)
        return login->discovery ? 0 : ISCSI_LOGIN_MISSING_PARAMETER;
    *reason = "no such target";
    if (strlen(target) >= sizeof login->target_name)
        return ISCSI_LOGIN_NOT_FOUND;
    memcpy(login->target_name, target, strlen(target) + 1);
    return 0;
}

/* The names in the first request, and none in a later one. */
static uint16_t target_check_names(struct iscsi_login *login, const struct heard *heard,
                                   const char **reason)
{
    const struct iscsi_login_config *config = login->config;
    const char *initiator = heard->value[HEARD_INITIATOR_NAME];
    const char *target = heard->value[HEARD_TARGET_NAME];
    const char *type = heard->value[HEARD_SESSION_TYPE];
    uint16_t status;

    if (login->named) {
        *reason = "names belong to the first request";
        return initiator || target || type ? ISCSI_LOGIN_INITIATOR_ERROR : 0;
    }
    login->named = true;
    if (config->identify)
        return 0; /* they were taken before the owner was asked */
    status = target_take_names(login, initiator, target, type, reason);
    if (status)
        return status;
    *reason = "no such target";
    if (strcmp(target, config->target_name) != 0)
        return ISCSI_LOGIN_NOT_FOUND;
    *reason = "this initiator is not admitted: ";
    if (config->initiator_name && strcmp(initiator, config->initiator_name) != 0)
        return ISCSI_LOGIN_AUTHORIZATION_FAILURE;
    return 0;
}

/* The first whole request of a login whose owner decides who may come in: only the names are read;
 * the text is kept and taken as a whole when the owner has answered. */
static uint16_t target_ask(struct iscsi_login *login, const struct iscsi_pdu *pdu,
                           const uint8_t *text, uint32_t size, const char **reason)
{
    const char *names[3] = {NULL, NULL, NULL};
    static const char *const keys[3] = {"InitiatorName", "TargetName", "SessionType"};
    enum iscsi_pair_result result;
    struct iscsi_pair pair;
    uint32_t at = 0;

    *reason = "too much text";
    if (size > sizeof login->in_text)
        return ISCSI_LOGIN_OUT_OF_RESOURCES;
    if (size > 0 && text != login->in_text)
        memcpy(login->in_text, text, size);
    /* Each pair takes at least three bytes, so this ends. */
    while ((result = iscsi_pair_next(login->in_text, size, &at, &pair)) == ISCSI_PAIR_OK)
        for (unsigned i = 0; i < ARRAY_LENGTH(keys); i++)
            if (strcmp(pair.key, keys[i]) == 0)
                names[i] = pair.value;
    *reason = "malformed text";
    if (result == ISCSI_PAIR_MALFORMED)
        return ISCSI_LOGIN_INITIATOR_ERROR;
    login->asked_pdu = *pdu;
    login->asked_size = size;
    return target_take_names(login, names[0], names[1], names[2], reason);
}

static uint16_t target_choose_method(struct iscsi_login *login, const char *methods,
                                     struct iscsi_text *out, const char **reason)
{
    const struct iscsi_login_config *config = login->config;

    if (config->peer.secret) {
        *reason = "the initiator offers no CHAP, which is required";
        if (!iscsi_list_has(methods, "CHAP"))
            return ISCSI_LOGIN_AUTHENTICATION_FAILURE;
        login->security = SECURITY_METHOD;
        iscsi_text_put(out, "AuthMethod", "CHAP");
        return 0;
    }
    *reason = "the initiator demands authentication, and no secret is configured here";
    if (!iscsi_list_has(methods, "None"))
        return ISCSI_LOGIN_AUTHENTICATION_FAILURE;
    login->security = SECURITY_DONE;
    iscsi_text_put(out, "AuthMethod", "None");
    return 0;
}

static uint16_t target_check_proof(struct iscsi_login *login, const struct heard *heard,
                                   struct iscsi_text *out, const char **reason)
{
    *reason = check_response(login, heard);
    if (*reason)
        return ISCSI_LOGIN_AUTHENTICATION_FAILURE;
    login->security = SECURITY_DONE;
    if (!heard->value[HEARD_CHAP_I] && !heard->value[HEARD_CHAP_C])
        return 0;
    login->authenticated = false; /* until its own demand turns out to be sound */
    *reason = "CHAP_I and CHAP_C belong together";
    if (!heard->value[HEARD_CHAP_I] || !heard->value[HEARD_CHAP_C])
        return ISCSI_LOGIN_INITIATOR_ERROR;
    *reason = "the initiator demands proof, and no secret for it is configured here";
    if (!login->config->self.secret)
        return ISCSI_LOGIN_AUTHENTICATION_FAILURE;
    *reason = answer_challenge(login, heard, out);
    if (*reason)
        return ISCSI_LOGIN_AUTHENTICATION_FAILURE;
    login->authenticated = true;
    return 0;
}

/* The security stage: 0, or the status to fail with. */
static uint16_t target_security(struct iscsi_login *login, const struct heard *heard, bool transit,
                                struct iscsi_text *out, const char **reason)
{
    const struct iscsi_login_config *config = login->config;
    bool any = false;

    for (unsigned i = 0; i <= HEARD_LAST_SECURITY; i++)
        any |= heard->value[i] != NULL;
    switch ((enum security_step)login->security) {
    case SECURITY_START:
        if (heard->value[HEARD_AUTH_METHOD])
            return target_choose_method(login, heard->value[HEARD_AUTH_METHOD], out, reason);
        *reason = "AuthMethod is missing";
        return any || (transit && config->peer.secret) ? ISCSI_LOGIN_AUTHENTICATION_FAILURE : 0;
    case SECURITY_METHOD:
        *reason = "CHAP_A is missing";
        if (!heard->value[HEARD_CHAP_A])
            return ISCSI_LOGIN_AUTHENTICATION_FAILURE;
        *reason = "no CHAP algorithm in common";
        if (!iscsi_chap_choose(config->crypto, heard->value[HEARD_CHAP_A], &login->chap.algorithm))
            return ISCSI_LOGIN_AUTHENTICATION_FAILURE;
        *reason = "no random bytes for a challenge";
        if (!iscsi_chap_challenge(&login->chap, config->crypto))
            return ISCSI_LOGIN_OUT_OF_RESOURCES;
        login->security = SECURITY_CHALLENGED;
        iscsi_text_put_number(out, "CHAP_A", login->chap.algorithm);
        put_challenge(login, out);
        return 0;
    case SECURITY_CHALLENGED:
        return target_check_proof(login, heard, out, reason);
    case SECURITY_DONE:
        *reason = "a security key after the authentication";
        return any ? ISCSI_LOGIN_INITIATOR_ERROR : 0;
    }
    return 0;
}

/* A whole request, its header checked. */
static enum iscsi_login_event target_on_text(struct iscsi_login *login, const struct iscsi_pdu *pdu,
                                             const uint8_t *text, uint32_t size)
{
    const struct iscsi_login_config *config = login->config;
    struct heard heard = {0};
    struct iscsi_text out;
    const char *reason;
    uint16_t status;
    bool first = !login->named, may_leave;

    iscsi_text_start(&out, login->out_text, sizeof login->out_text);
    reason = take_text(login, text, size, &heard, &out);
    if (reason)
        return target_fail(login, ISCSI_LOGIN_INITIATOR_ERROR, reason, "");
    status = target_check_names(login, &heard, &reason);
    if (status)
        return target_fail(login, status, reason,
                           status == ISCSI_LOGIN_AUTHORIZATION_FAILURE ? login->initiator_name
                                                                       : "");
    if (login->stage == STAGE_SECURITY) {
        status = target_security(login, &heard, pdu->final, &out, &reason);
        if (status)
            return target_fail(login, status, reason, "");
    }
    may_leave = !config->peer.secret || login->authenticated;
    if (login->stage == STAGE_OPERATIONAL) {
        if (!may_leave)
            return target_fail(login, ISCSI_LOGIN_AUTHENTICATION_FAILURE,
                               "the initiator skipped the authentication", "");
        iscsi_negotiation_declare(&login->negotiation, &out);
    }
    if (first && !login->discovery) {
        iscsi_text_put_number(&out, "TargetPortalGroupTag", config->portal_group_tag);
        if (config->alias)
            iscsi_text_put(&out, "TargetAlias", config->alias);
    }
    if (out.overflow)
        return target_fail(login, ISCSI_LOGIN_INITIATOR_ERROR, "too many keys to answer", "");
    return target_reply(login, out.used, pdu->final && may_leave, pdu->login.next_stage);
}

static enum iscsi_login_event target_on_request(struct iscsi_login *login,
                                                const struct iscsi_pdu *pdu, const uint8_t *data)
{
    const char *reason = "";
    const uint8_t *text;
    uint32_t size;
    uint16_t status;

    if (!login->started)
        login->itt = pdu->itt;
    if (pdu->opcode != ISCSI_LOGIN_REQUEST)
        return target_fail(login, ISCSI_LOGIN_INVALID_REQUEST, "not a Login Request", "");
    status = target_check_header(login, pdu, &reason);
    if (status)
        return target_fail(login, status, reason, "");
    if (++login->step_count > ISCSI_LOGIN_STEP_LIMIT)
        return target_fail(login, ISCSI_LOGIN_INITIATOR_ERROR, "the login takes too many steps",
                           "");
    if (!gather(login, pdu, data, &text, &size))
        return target_fail(login, ISCSI_LOGIN_OUT_OF_RESOURCES, "too much text", "");
    if (pdu->login.continues)
        return target_reply(login, 0, false, 0);
    login->in_used = 0;
    if (!login->config->identify || login->named)
        return target_on_text(login, pdu, text, size);
    status = target_ask(login, pdu, text, size, &reason);
    if (status)
        return target_fail(login, status, reason, "");
    login->asked = true;
    return ISCSI_LOGIN_IDENTIFY;
}

enum iscsi_login_event iscsi_login_admit(struct iscsi_login *login, uint16_t status,
                                         const char *reason)
{
    const struct iscsi_login_config *config = login->config;

    CHECK(login->asked);
    login->asked = false;
    if (status)
        return target_fail(login, status, reason, login->initiator_name);
    CHECK(iscsi_login_config_check(config, ISCSI_TARGET) == NULL);
    iscsi_negotiation_start(&login->negotiation, ISCSI_TARGET, &config->wish);
    login->negotiation.discovery = login->discovery;
    return target_on_text(login, &login->asked_pdu, login->in_text, login->asked_size);
}

/* ---- initiator ---- */

static enum iscsi_login_event initiator_fail(struct iscsi_login *login, uint16_t status,
                                             const char *reason, const char *detail)
{
    login->over = true;
    login->status = status;
    iscsi_reason_set(login->reason, reason, detail);
    return ISCSI_LOGIN_FAILED;
}

static enum iscsi_login_event initiator_request(struct iscsi_login *login, uint32_t text_size,
                                                bool transit)
{
    login->out = (struct iscsi_pdu){.opcode = ISCSI_LOGIN_REQUEST,
                                    .immediate = true,
                                    .final = transit,
                                    .data_size = text_size,
                                    .itt = login->itt,
                                    .cmd_sn = login->cmd_sn,
                                    .exp_stat_sn = login->started ? login->stat_sn : 0};
    memcpy(login->out.login.isid, login->isid, sizeof login->isid);
    login->out.login.cid = login->cid;
    login->out.login.current_stage = login->stage;
    if (transit)
        login->out.login.next_stage =
            login->stage == STAGE_SECURITY ? STAGE_OPERATIONAL : STAGE_FULL;
    return ISCSI_LOGIN_REPLY;
}

static void initiator_begin(struct iscsi_login *login)
{
    const struct iscsi_login_config *config = login->config;
    struct iscsi_text out;

    iscsi_text_start(&out, login->out_text, sizeof login->out_text);
    iscsi_text_put(&out, "InitiatorName", config->initiator_name);
    if (config->alias)
        iscsi_text_put(&out, "InitiatorAlias", config->alias);
    iscsi_text_put(&out, "TargetName", config->target_name);
    iscsi_text_put(&out, "SessionType", "Normal");
    iscsi_text_put(&out, "AuthMethod", config->self.secret ? "CHAP" : "None");
    CHECK(!out.overflow);
    initiator_request(login, out.used, !config->self.secret);
}

static const char *status_text(uint16_t status)
{
    switch (status) {
    case ISCSI_LOGIN_AUTHENTICATION_FAILURE:
        return "authentication failure (0201)";
    case ISCSI_LOGIN_AUTHORIZATION_FAILURE:
        return "this initiator is not admitted (0202)";
    case ISCSI_LOGIN_NOT_FOUND:
        return "no such target (0203)";
    case ISCSI_LOGIN_UNSUPPORTED_VERSION:
        return "unsupported version (0205)";
    case ISCSI_LOGIN_MISSING_PARAMETER:
        return "a parameter is missing (0207)";
    case ISCSI_LOGIN_SESSION_TYPE:
        return "session type not supported (0209)";
    default:
        break;
    }
    switch (status >> 8) {
    case 1:
        return "it redirects us, which is not supported";
    case 2:
        return "it sees an error of ours (class 02)";
    case 3:
        return "it is not able to (class 03)";
    default:
        return "unknown status class";
    }
}

/* The header of a response; NULL, or what is wrong with it. */
static const char *initiator_check_header(struct iscsi_login *login, const struct iscsi_pdu *pdu)
{
    if (pdu->opcode != ISCSI_LOGIN_RESPONSE)
        return "not a Login Response";
    if (pdu->itt != login->itt)
        return "a Login Response with another task tag";
    if (pdu->login.status_class != 0)
        return NULL;
    if (login->started && pdu->stat_sn != login->stat_sn)
        return "a Login Response with a wrong StatSN";
    if (pdu->login.version_min != 0)
        return "only iSCSI version 0 is supported";
    if (pdu->login.current_stage != login->stage)
        return "a Login Response of another stage";
    if (pdu->final && (pdu->login.continues || !login->out.final ||
                       pdu->login.next_stage != login->out.login.next_stage))
        return "a transit that was not asked for";
    login->started = true;
    login->stat_sn = pdu->stat_sn + 1;
    return NULL;
}

/* The target's AuthMethod. */
static const char *initiator_on_method(struct iscsi_login *login, const struct heard *heard,
                                       struct iscsi_text *out)
{
    const struct iscsi_login_config *config = login->config;
    const char *method = heard->value[HEARD_AUTH_METHOD];

    if (!config->self.secret) {
        if (method && strcmp(method, "None") != 0)
            return "the target demands authentication, and no secret is configured here";
        login->security = SECURITY_DONE;
        return NULL;
    }
    if (!method || strcmp(method, "CHAP") != 0)
        return "the target does not authenticate, and a secret is configured here";
    login->security = SECURITY_METHOD;
    iscsi_text_put(out, "CHAP_A", iscsi_chap_offer(config->crypto));
    return NULL;
}

/* The target's challenge. */
static const char *initiator_on_challenge(struct iscsi_login *login, const struct heard *heard,
                                          struct iscsi_text *out)
{
    const struct iscsi_login_config *config = login->config;
    const char *algorithm = heard->value[HEARD_CHAP_A], *wrong;

    if (!algorithm || !heard->value[HEARD_CHAP_I] || !heard->value[HEARD_CHAP_C])
        return "CHAP_A, CHAP_I or CHAP_C is missing";
    if (strchr(algorithm, ',') ||
        !iscsi_chap_choose(config->crypto, algorithm, &login->chap.algorithm))
        return "the target chose no CHAP algorithm that was offered";
    if (config->peer.secret && !iscsi_chap_challenge(&login->chap, config->crypto))
        return "no random bytes for a challenge";
    wrong = answer_challenge(login, heard, out);
    if (wrong)
        return wrong;
    if (config->peer.secret)
        put_challenge(login, out);
    login->security = SECURITY_CHALLENGED;
    return NULL;
}

/* The security stage: NULL, or why the login fails. `*transit`: the next request asks to leave the
 * stage. */
static const char *initiator_security(struct iscsi_login *login, const struct heard *heard,
                                      struct iscsi_text *out, bool *transit)
{
    const char *wrong = NULL;

    switch ((enum security_step)login->security) {
    case SECURITY_START:
        wrong = initiator_on_method(login, heard, out);
        break;
    case SECURITY_METHOD:
        wrong = initiator_on_challenge(login, heard, out);
        break;
    case SECURITY_CHALLENGED:
        if (login->config->peer.secret)
            wrong = check_response(login, heard);
        else if (heard->value[HEARD_CHAP_R])
            wrong = "a proof that was not asked for";
        if (!wrong)
            login->security = SECURITY_DONE;
        break;
    case SECURITY_DONE:
        break;
    }
    *transit = login->security >= SECURITY_CHALLENGED;
    return wrong;
}

/* A whole response without error. */
static enum iscsi_login_event initiator_on_text(struct iscsi_login *login,
                                                const struct iscsi_pdu *pdu, const uint8_t *text,
                                                uint32_t size)
{
    struct heard heard = {0};
    struct iscsi_text out;
    const char *wrong;
    bool transit = true;

    iscsi_text_start(&out, login->out_text, sizeof login->out_text);
    wrong = take_text(login, text, size, &heard, &out);
    if (wrong)
        return initiator_fail(login, ISCSI_LOGIN_TARGET_ERROR, "login: ", wrong);
    if (login->stage == STAGE_SECURITY) {
        wrong = initiator_security(login, &heard, &out, &transit);
        if (wrong)
            return initiator_fail(login, ISCSI_LOGIN_AUTHENTICATION_FAILURE, wrong, "");
        /* A transit was checked to be asked for, and it is asked for only after the challenge was
         * answered. */
        CHECK_IMPLIES(pdu->final, login->security == SECURITY_DONE);
        if (pdu->final) {
            login->stage = STAGE_OPERATIONAL;
            iscsi_negotiation_offer(&login->negotiation, &out);
        }
    } else if (pdu->final) {
        if (out.used > 0 || !iscsi_negotiation_done(&login->negotiation))
            return initiator_fail(login, ISCSI_LOGIN_TARGET_ERROR,
                                  "the target left the login with keys unanswered", "");
        if (pdu->login.tsih == 0)
            return initiator_fail(login, ISCSI_LOGIN_TARGET_ERROR, "a session without TSIH", "");
        login->tsih = pdu->login.tsih;
        login_settle(login);
        return ISCSI_LOGIN_DONE;
    }
    if (out.overflow)
        return initiator_fail(login, ISCSI_LOGIN_TARGET_ERROR, "too many keys to answer", "");
    return initiator_request(login, out.used, transit);
}

static enum iscsi_login_event
initiator_on_response(struct iscsi_login *login, const struct iscsi_pdu *pdu, const uint8_t *data)
{
    const char *wrong = initiator_check_header(login, pdu);
    const uint8_t *text;
    uint32_t size;

    if (wrong)
        return initiator_fail(login, ISCSI_LOGIN_TARGET_ERROR, "login: ", wrong);
    if (pdu->login.status_class != 0) {
        uint16_t status = (uint16_t)(pdu->login.status_class << 8 | pdu->login.status_detail);

        return initiator_fail(login, status, "the target refused the login: ", status_text(status));
    }
    if (++login->step_count > ISCSI_LOGIN_STEP_LIMIT)
        return initiator_fail(login, ISCSI_LOGIN_TARGET_ERROR, "the login takes too many steps",
                              "");
    if (!gather(login, pdu, data, &text, &size))
        return initiator_fail(login, ISCSI_LOGIN_TARGET_ERROR, "too much text", "");
    if (pdu->login.continues)
        return initiator_request(login, 0, false);
    login->in_used = 0;
    return initiator_on_text(login, pdu, text, size);
}

/* ---- entry ---- */

void iscsi_login_start(struct iscsi_login *login, const struct iscsi_login_config *config,
                       enum iscsi_role role)
{
    /* A target that asks its owner has no more than half a config until it is answered. */
    if (role == ISCSI_INITIATOR || !config->identify)
        CHECK(iscsi_login_config_check(config, role) == NULL);
    memset(login, 0, sizeof *login);
    login->config = config;
    login->role = role;
    login->stage = STAGE_SECURITY;
    login->security = SECURITY_START;
    iscsi_negotiation_start(&login->negotiation, role, &config->wish);
    if (role == ISCSI_TARGET) {
        login->stat_sn = config->first_sn;
        return;
    }
    memcpy(login->isid, config->isid, sizeof login->isid);
    login->cmd_sn = config->first_sn;
    initiator_begin(login);
}

enum iscsi_login_event iscsi_login_on_pdu(struct iscsi_login *login, const struct iscsi_pdu *pdu,
                                          const uint8_t *data)
{
    CHECK(!login->over);
    CHECK(!login->asked);
    CHECK_IMPLIES(pdu->data_size > 0, data != NULL);
    if (login->role == ISCSI_TARGET)
        return target_on_request(login, pdu, data);
    return initiator_on_response(login, pdu, data);
}
