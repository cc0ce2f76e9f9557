/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* CHAP by known answers, and the login as a matrix: who has which secret, and what must come of it.
 */

#include "front/iscsi_login.h"

#include "iscsi_test_crypto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define COUNT(rows) (sizeof(rows) / sizeof(rows)[0])
#define ONE         "the first secret"
#define TWO         "the second secret"

static struct generator seed;
static struct iscsi_crypto crypto = {
    .digest = test_digest, .random = test_random, .context = &seed};
static struct iscsi_crypto sha_only = {
    .digest = test_digest, .random = test_random, .context = &seed, .no_md5 = true};

static struct iscsi_login initiator, target;

static struct iscsi_login_config config_of(void)
{
    struct iscsi_login_config config = {.initiator_name = "iqn.2026-11.holdfast:a",
                                        .target_name = "iqn.2026-11.holdfast:t.link",
                                        .isid = {0x80, 1, 2, 3, 4, 5},
                                        .tsih = 9,
                                        .portal_group_tag = 1,
                                        .first_sn = 0xFFFFFFFE,
                                        .wish = iscsi_params_wish(),
                                        .crypto = &crypto};
    return config;
}

/* Through the header bytes, as on a wire. */
static enum iscsi_login_event pass(struct iscsi_login *from, struct iscsi_login *to)
{
    uint8_t bhs[ISCSI_BHS_SIZE], text[ISCSI_LOGIN_TEXT_SIZE];
    struct iscsi_pdu pdu;

    iscsi_bhs_encode(&from->out, bhs);
    assert_true(iscsi_bhs_decode(bhs, &pdu));
    memcpy(text, from->out_text, pdu.data_size);
    return iscsi_login_on_pdu(to, &pdu, text);
}

/* Until one side ends; the initiator's last event, with the target's in *at_target. */
static enum iscsi_login_event login(const struct iscsi_login_config *a,
                                    const struct iscsi_login_config *b,
                                    enum iscsi_login_event *at_target)
{
    enum iscsi_login_event event = ISCSI_LOGIN_REPLY;

    iscsi_login_start(&initiator, a, ISCSI_INITIATOR);
    iscsi_login_start(&target, b, ISCSI_TARGET);
    for (unsigned step = 0; step < 10 && event == ISCSI_LOGIN_REPLY; step++) {
        *at_target = pass(&initiator, &target);
        event = pass(&target, &initiator);
    }
    return event;
}

struct row {
    const char *label;
    const char *a_self, *a_peer; /* the initiator's secrets: its own, the target's */
    const char *b_self, *b_peer; /* the target's: its own, the initiator's */
    bool done, a_sure, b_sure;   /* logged in; who has proof of the other */
    uint16_t status;
};

static const struct row matrix[] = {
    {"no secret", NULL, NULL, NULL, NULL, true, false, false, 0},
    {"one way", ONE, NULL, NULL, ONE, true, false, true, 0},
    {"both ways", ONE, TWO, TWO, ONE, true, true, true, 0},
    {"one secret both ways", ONE, ONE, ONE, ONE, true, true, true, 0},
    {"one way asked, both possible", ONE, NULL, TWO, ONE, true, false, true, 0},
    {"wrong secret", TWO, NULL, NULL, ONE, false, false, false, 0x0201},
    {"wrong target secret", ONE, TWO, ONE, ONE, false, false, true, 0x0201},
    {"target cannot prove itself", ONE, TWO, NULL, ONE, false, false, false, 0x0201},
    {"only the target has a secret", NULL, NULL, NULL, ONE, false, false, false, 0x0201},
    {"only the initiator has one", ONE, NULL, NULL, NULL, false, false, false, 0x0201},
    {"only the initiator has both", ONE, TWO, NULL, NULL, false, false, false, 0x0201},
};

static void the_matrix_of_secrets(void **state)
{
    for (unsigned i = 0; i < COUNT(matrix); i++) {
        const struct row *row = &matrix[i];
        struct iscsi_login_config a = config_of(), b = config_of();
        enum iscsi_login_event at_target, event;

        a.self = (struct iscsi_identity){.name = "a", .secret = row->a_self};
        a.peer = (struct iscsi_identity){.name = "b", .secret = row->a_peer};
        b.self = (struct iscsi_identity){.name = "b", .secret = row->b_self};
        b.peer = (struct iscsi_identity){.name = "a", .secret = row->b_peer};
        event = login(&a, &b, &at_target);
        if (event != (row->done ? ISCSI_LOGIN_DONE : ISCSI_LOGIN_FAILED) ||
            initiator.status != row->status || initiator.authenticated != row->a_sure ||
            target.authenticated != row->b_sure)
            fail_msg("%s: event %d status %04x: %s / %s", row->label, event, initiator.status,
                     initiator.reason, target.reason);
        assert_int_equal(*initiator.reason != '\0', !row->done);
        if (!row->done) {
            assert_null(strstr(initiator.reason, ONE)); /* a secret never reaches a log */
            continue;
        }
        assert_int_equal(at_target, ISCSI_LOGIN_DONE);
        assert_int_equal(initiator.tsih, 9);
        assert_int_equal(initiator.stat_sn, target.stat_sn);
        assert_int_equal(initiator.cmd_sn, target.cmd_sn);
        assert_string_equal(target.initiator_name, a.initiator_name);
        assert_int_equal(initiator.negotiation.agreed.first_burst_bytes, 16777215);
        assert_int_equal(initiator.negotiation.agreed.peer_data_limit_bytes, 262144);
        assert_int_equal(target.negotiation.agreed.peer_data_limit_bytes, 262144);
        assert_false(target.negotiation.agreed.initial_r2t);
    }
}

static void sha256_is_preferred_and_md5_can_be_refused(void **state)
{
    enum iscsi_chap_algorithm algorithm;
    struct iscsi_login_config a = config_of(), b = config_of();
    enum iscsi_login_event at_target;

    assert_true(iscsi_chap_choose(&crypto, "5,7", &algorithm));
    assert_int_equal(algorithm, ISCSI_CHAP_SHA256);
    assert_true(iscsi_chap_choose(&crypto, "6,5", &algorithm));
    assert_int_equal(algorithm, ISCSI_CHAP_MD5);
    assert_false(iscsi_chap_choose(&sha_only, "5", &algorithm));
    assert_false(iscsi_chap_choose(&crypto, "77,55,", &algorithm));
    a.self = b.peer = (struct iscsi_identity){.name = "a", .secret = ONE};
    assert_int_equal(login(&a, &b, &at_target), ISCSI_LOGIN_DONE);
    assert_int_equal(initiator.chap.algorithm, ISCSI_CHAP_SHA256);
}

/* RFC 1994: MD5 or SHA-256 over identifier, secret and challenge; computed with Python's hashlib.
 */
static void responses_have_the_known_values(void **state)
{
    struct iscsi_chap chap = {.algorithm = ISCSI_CHAP_MD5};
    uint8_t response[ISCSI_CHAP_DIGEST_LIMIT];
    const uint8_t challenge[] = {1, 2, 3, 4};

    assert_int_equal(iscsi_chap_respond(&chap, &crypto, ONE, 7, challenge, 4, response),
                     ISCSI_CHAP_OK);
    assert_memory_equal(response,
                        "\xcf\xcd\x5d\xdd\xdf\x08\x78\x09\xb9\x91\xcf\x24\xec\xb8\x14\xd4", 16);
    chap.algorithm = ISCSI_CHAP_SHA256;
    assert_int_equal(iscsi_chap_respond(&chap, &crypto, ONE, 7, challenge, 4, response),
                     ISCSI_CHAP_OK);
    assert_memory_equal(response,
                        "\xe1\xc9\x42\x17\x59\xf2\xa8\x9e\x1e\xe0\xe5\x3e\xdf\x50\xe3\x53\x3d\x97"
                        "\x68\x5b\xf0\xb2\x0d\xa2\x6e\x15\xc2\x5d\x09\x60\x6e\x9f",
                        32);
    assert_int_equal(iscsi_chap_respond(&chap, &crypto, ONE, 7, challenge, 0, response),
                     ISCSI_CHAP_WEAK);
}

static void our_own_challenge_is_never_answered(void **state)
{
    struct iscsi_chap chap = {.algorithm = ISCSI_CHAP_SHA256};
    uint8_t response[ISCSI_CHAP_DIGEST_LIMIT];

    assert_true(iscsi_chap_challenge(&chap, &crypto));
    assert_int_equal(iscsi_chap_respond(&chap, &crypto, ONE, 200, chap.own_challenge,
                                        sizeof chap.own_challenge, response),
                     ISCSI_CHAP_REFLECTED);
}

static void each_direction_derives_its_own_secret(void **state)
{
    char a[ISCSI_CHAP_DERIVED_SIZE], b[ISCSI_CHAP_DERIVED_SIZE], c[ISCSI_CHAP_DERIVED_SIZE];

    assert_true(iscsi_chap_derive(&crypto, ONE, "a initiator", a));
    assert_true(iscsi_chap_derive(&crypto, ONE, "a target", b));
    assert_true(iscsi_chap_derive(&crypto, TWO, "a initiator", c));
    assert_int_equal(strlen(a), 64);
    assert_string_not_equal(a, b);
    assert_string_not_equal(a, c);
    assert_true(iscsi_chap_derive(&crypto, ONE, "a initiator", c));
    assert_string_equal(a, c);
}

/* ---- a peer that says what the test wants ---- */

static enum iscsi_login_event say(struct iscsi_pdu pdu, const char *text, uint32_t size)
{
    pdu.data_size = size;
    return iscsi_login_on_pdu(&target, &pdu, (const uint8_t *)text);
}

static struct iscsi_pdu request(unsigned stage, bool transit, unsigned next)
{
    struct iscsi_pdu pdu = {
        .opcode = ISCSI_LOGIN_REQUEST, .immediate = true, .final = transit, .itt = 3, .cmd_sn = 4};

    pdu.login.current_stage = (uint8_t)stage;
    pdu.login.next_stage = (uint8_t)next;
    return pdu;
}

#define NAMES          "InitiatorName=iqn.x\0TargetName=iqn.2026-11.holdfast:t.link\0"
#define SAY(pdu, text) say(pdu, text, sizeof(text) - 1)

static const char *found(const char *key)
{
    struct iscsi_pair pair;
    uint32_t at = 0;
    static char value[2048];

    while (iscsi_pair_next((uint8_t *)target.out_text, target.out.data_size, &at, &pair) ==
           ISCSI_PAIR_OK)
        if (strcmp(pair.key, key) == 0) {
            snprintf(value, sizeof value, "%s", pair.value);
            return value;
        }
    return NULL;
}

/* The attacker knows no secret: it sends the target's challenge and, as its proof, whatever it was
 * told. */
static void an_initiator_that_reflects_is_refused(void **state)
{
    struct iscsi_login_config b = config_of();
    char text[4096], challenge[2048];
    int size;

    b.initiator_name = NULL;
    b.self = (struct iscsi_identity){.name = "b", .secret = ONE};
    b.peer = (struct iscsi_identity){.name = "a", .secret = ONE};
    iscsi_login_start(&target, &b, ISCSI_TARGET);
    assert_int_equal(SAY(request(0, false, 0), NAMES "AuthMethod=CHAP\0"), ISCSI_LOGIN_REPLY);
    assert_int_equal(SAY(request(0, false, 0), "CHAP_A=7\0"), ISCSI_LOGIN_REPLY);
    snprintf(challenge, sizeof challenge, "%s", found("CHAP_C"));
    /* Even with the right proof (here computed), the reflected challenge ends the login. */
    {
        uint8_t response[32];
        struct iscsi_chap honest = {.algorithm = ISCSI_CHAP_SHA256};

        assert_int_equal(iscsi_chap_respond(&honest, &crypto, ONE, target.chap.own_id,
                                            target.chap.own_challenge, 32, response),
                         ISCSI_CHAP_OK);
        size = snprintf(text, sizeof text, "CHAP_N=a%cCHAP_I=1%cCHAP_C=%s%cCHAP_R=0x", 0, 0,
                        challenge, 0);
        for (unsigned i = 0; i < 32; i++)
            size += snprintf(text + size, sizeof text - (size_t)size, "%02x", response[i]);
    }
    assert_int_equal(say(request(0, true, 1), text, (uint32_t)size + 1), ISCSI_LOGIN_FAILED);
    assert_int_equal(target.status, ISCSI_LOGIN_AUTHENTICATION_FAILURE);
    assert_non_null(strstr(target.reason, "our own CHAP challenge"));
    assert_int_equal(target.out.data_size, 0);
    assert_false(target.authenticated);
}

static void malformed_requests_get_their_status(void **state)
{
    static const struct {
        const char *label, *text;
        uint32_t size;
        unsigned stage;
        bool transit;
        unsigned next;
        uint16_t status;
    } rows[] = {
#define ROW(label, text, stage, transit, next, status)                                             \
    {label, text, sizeof(text) - 1, stage, transit, next, status}
        ROW("no initiator", "TargetName=x\0", 0, true, 1, 0x0207),
        ROW("no target", "InitiatorName=x\0", 0, true, 1, 0x0207),
        ROW("other target", "InitiatorName=x\0TargetName=y\0", 0, true, 1, 0x0203),
        ROW("discovery", "InitiatorName=x\0SessionType=Discovery\0", 0, true, 1, 0x0209),
        ROW("other session", "InitiatorName=x\0SessionType=Odd\0", 0, true, 1, 0x0200),
        ROW("key twice", NAMES "InitiatorName=x\0", 0, true, 1, 0x0200),
        ROW("target's key", NAMES "TargetAlias=x\0", 0, true, 1, 0x0200),
        ROW("no NUL", "InitiatorName=x", 0, true, 1, 0x0200),
        ROW("stage 2", NAMES, 2, true, 3, 0x0200),
        ROW("stage 3", NAMES, 3, false, 0, 0x0200),
        ROW("transit back", NAMES, 1, true, 0, 0x0200),
        ROW("transit to 2", NAMES, 1, true, 2, 0x0200),
        ROW("transit nowhere", NAMES, 1, true, 1, 0x0200),
        ROW("skips CHAP", NAMES, 1, true, 3, 0x0201),
        ROW("leaves without CHAP", NAMES, 0, true, 3, 0x0201),
        ROW("offers None", NAMES "AuthMethod=None\0", 0, true, 1, 0x0201),
        ROW("CHAP_R first", NAMES "CHAP_N=a\0CHAP_R=0x00\0", 0, true, 1, 0x0201),
        ROW("security key late", NAMES "AuthMethod=CHAP\0", 1, false, 0, 0x0200),
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct iscsi_login_config b = config_of();

        b.initiator_name = NULL;
        b.peer = (struct iscsi_identity){.name = "a", .secret = ONE};
        iscsi_login_start(&target, &b, ISCSI_TARGET);
        if (say(request(rows[i].stage, rows[i].transit, rows[i].next), rows[i].text,
                rows[i].size) != ISCSI_LOGIN_FAILED ||
            target.status != rows[i].status)
            fail_msg("%s: %04x %s", rows[i].label, target.status, target.reason);
        assert_int_equal(target.out.login.status_class, rows[i].status >> 8);
        assert_int_equal(target.out.login.status_detail, rows[i].status & 0xFF);
        assert_false(target.out.final);
    }
}

static void names_and_header_fields_are_checked(void **state)
{
    struct iscsi_login_config b = config_of();
    struct iscsi_pdu pdu = request(0, false, 0);

    iscsi_login_start(&target, &b, ISCSI_TARGET); /* admits only one initiator */
    assert_int_equal(SAY(pdu, NAMES), ISCSI_LOGIN_FAILED);
    assert_int_equal(target.status, ISCSI_LOGIN_AUTHORIZATION_FAILURE);
    iscsi_login_start(&target, &b, ISCSI_TARGET);
    pdu.login.tsih = 5;
    assert_int_equal(SAY(pdu, NAMES), ISCSI_LOGIN_FAILED);
    assert_int_equal(target.status, ISCSI_LOGIN_NO_SESSION);
    iscsi_login_start(&target, &b, ISCSI_TARGET);
    pdu.login.tsih = 0;
    pdu.login.version_min = 1;
    assert_int_equal(SAY(pdu, NAMES), ISCSI_LOGIN_FAILED);
    assert_int_equal(target.status, ISCSI_LOGIN_UNSUPPORTED_VERSION);
    iscsi_login_start(&target, &b, ISCSI_TARGET);
    pdu.opcode = ISCSI_SCSI_COMMAND;
    assert_int_equal(SAY(pdu, NAMES), ISCSI_LOGIN_FAILED);
    assert_int_equal(target.status, ISCSI_LOGIN_INVALID_REQUEST);
    b.initiator_name = NULL;
    iscsi_login_start(&target, &b, ISCSI_TARGET);
    assert_int_equal(SAY(request(0, false, 0), NAMES), ISCSI_LOGIN_REPLY);
    pdu = request(0, false, 0);
    pdu.itt = 4;
    assert_int_equal(say(pdu, "", 0), ISCSI_LOGIN_FAILED);
}

/* A text may come in pieces cut anywhere (C bit); too much of it fails. */
static void text_in_pieces_is_put_together(void **state)
{
    static const char text[] = NAMES "AuthMethod=None\0";
    struct iscsi_login_config b = config_of();
    struct iscsi_pdu pdu;
    char filler[4096];

    b.initiator_name = NULL;
    for (uint32_t cut = 0; cut < sizeof text; cut++) {
        iscsi_login_start(&target, &b, ISCSI_TARGET);
        pdu = request(0, false, 0);
        pdu.login.continues = true;
        assert_int_equal(say(pdu, text, cut), ISCSI_LOGIN_REPLY);
        assert_int_equal(target.out.data_size, 0);
        assert_int_equal(say(request(0, true, 1), text + cut, (uint32_t)sizeof text - 1 - cut),
                         ISCSI_LOGIN_REPLY);
        assert_string_equal(found("AuthMethod"), "None");
        assert_true(target.out.final);
    }
    memset(filler, 'A', sizeof filler);
    iscsi_login_start(&target, &b, ISCSI_TARGET);
    pdu = request(0, false, 0);
    pdu.login.continues = true;
    assert_int_equal(say(pdu, filler, sizeof filler), ISCSI_LOGIN_REPLY);
    assert_int_equal(say(pdu, filler, sizeof filler), ISCSI_LOGIN_REPLY);
    assert_int_equal(say(pdu, filler, 1), ISCSI_LOGIN_FAILED);
    /* Steps without end are ended. */
    iscsi_login_start(&target, &b, ISCSI_TARGET);
    for (unsigned i = 0; i < ISCSI_LOGIN_STEP_LIMIT; i++)
        assert_int_equal(say(pdu, "", 0), ISCSI_LOGIN_REPLY);
    assert_int_equal(say(pdu, "", 0), ISCSI_LOGIN_FAILED);
}

/* A target that skips its proof, or everything, gets no session from an initiator with secrets. */
static void an_initiator_with_secrets_takes_no_short_cut(void **state)
{
    static const struct {
        const char *text;
        uint32_t size;
        bool transit;
    } rows[] = {
        {"AuthMethod=None\0", 17, false},
        {"AuthMethod=None\0", 17, true},
        {"", 0, true},
        {"", 0, false},
        {"AuthMethod=CHAP\0", 17, true},
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct iscsi_login_config a = config_of();
        struct iscsi_pdu pdu = {.opcode = ISCSI_LOGIN_RESPONSE,
                                .final = rows[i].transit,
                                .data_size = rows[i].size ? rows[i].size - 1 : 0};

        pdu.login.next_stage = rows[i].transit ? 1 : 0;
        a.self = (struct iscsi_identity){.name = "a", .secret = ONE};
        a.peer = (struct iscsi_identity){.name = "b", .secret = TWO};
        iscsi_login_start(&initiator, &a, ISCSI_INITIATOR);
        assert_int_equal(iscsi_login_on_pdu(&initiator, &pdu, (const uint8_t *)rows[i].text),
                         ISCSI_LOGIN_FAILED);
    }
}

static void configurations_are_checked(void **state)
{
    struct iscsi_login_config config = config_of();

    assert_null(iscsi_login_config_check(&config, ISCSI_INITIATOR));
    assert_null(iscsi_login_config_check(&config, ISCSI_TARGET));
    config.self = (struct iscsi_identity){.name = "a", .secret = "short"};
    assert_non_null(iscsi_login_config_check(&config, ISCSI_INITIATOR));
    config.self.secret = ONE;
    assert_null(iscsi_login_config_check(&config, ISCSI_INITIATOR));
    assert_non_null(iscsi_login_config_check(&config, ISCSI_TARGET));
    config.crypto = NULL;
    assert_non_null(iscsi_login_config_check(&config, ISCSI_INITIATOR));
    config = config_of();
    config.peer.secret = ONE;
    assert_non_null(iscsi_login_config_check(&config, ISCSI_INITIATOR));
    assert_null(iscsi_login_config_check(&config, ISCSI_TARGET));
    config = config_of();
    config.tsih = 0;
    assert_non_null(iscsi_login_config_check(&config, ISCSI_TARGET));
    config.wish.first_burst_bytes = 100;
    assert_non_null(iscsi_login_config_check(&config, ISCSI_INITIATOR));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_matrix_of_secrets),
        cmocka_unit_test(sha256_is_preferred_and_md5_can_be_refused),
        cmocka_unit_test(responses_have_the_known_values),
        cmocka_unit_test(our_own_challenge_is_never_answered),
        cmocka_unit_test(each_direction_derives_its_own_secret),
        cmocka_unit_test(an_initiator_that_reflects_is_refused),
        cmocka_unit_test(malformed_requests_get_their_status),
        cmocka_unit_test(names_and_header_fields_are_checked),
        cmocka_unit_test(text_in_pieces_is_put_together),
        cmocka_unit_test(an_initiator_with_secrets_takes_no_short_cut),
        cmocka_unit_test(configurations_are_checked),
    };

    generator_seed(&seed, 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
