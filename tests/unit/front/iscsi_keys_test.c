/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Login text by rows: each key with what the other side says, and what must be answered and agreed.
 */

#include "front/iscsi_keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define COUNT(rows) (sizeof(rows) / sizeof(rows)[0])

static struct iscsi_pair pair_of(const char *key, const char *value)
{
    struct iscsi_pair pair = {.value = value, .value_size = (uint32_t)strlen(value)};

    snprintf(pair.key, sizeof pair.key, "%s", key);
    return pair;
}

struct answer_row {
    const char *key, *offer, *answer;
    enum iscsi_key_result result;
};

#define DONE     ISCSI_KEY_DONE
#define REJECTED ISCSI_KEY_REJECTED

/* A target with the link's wishes (InitialR2T=No, 16 MiB - 1 bursts, no digests). */
static const struct answer_row answers[] = {
    {"HeaderDigest", "None", "None", DONE},
    {"HeaderDigest", "CRC32C,None", "None", DONE},
    {"HeaderDigest", "CRC32C", "Reject", REJECTED},
    {"HeaderDigest", "", "Reject", REJECTED},
    {"DataDigest", "None,CRC32C", "None", DONE},
    {"DataDigest", "SHA,CRC", "Reject", REJECTED},
    {"MaxConnections", "8", "1", DONE},
    {"MaxConnections", "0", "Reject", REJECTED},
    {"MaxConnections", "65536", "Reject", REJECTED},
    {"InitialR2T", "Yes", "Yes", DONE},
    {"InitialR2T", "No", "No", DONE},
    {"InitialR2T", "no", "Reject", REJECTED},
    {"ImmediateData", "Yes", "Yes", DONE},
    {"ImmediateData", "No", "No", DONE},
    {"ImmediateData", "Maybe", "Reject", REJECTED},
    {"MaxRecvDataSegmentLength", "512", NULL, DONE},
    {"MaxRecvDataSegmentLength", "0x10000", NULL, DONE},
    {"MaxRecvDataSegmentLength", "16777215", NULL, DONE},
    {"MaxRecvDataSegmentLength", "511", "Reject", REJECTED},
    {"MaxRecvDataSegmentLength", "16777216", "Reject", REJECTED},
    {"MaxRecvDataSegmentLength", "8192x", "Reject", REJECTED},
    {"MaxBurstLength", "262144", "262144", DONE},
    {"MaxBurstLength", "16777215", "16777215", DONE},
    {"MaxBurstLength", "16777216", "Reject", REJECTED},
    {"MaxBurstLength", "4294967808", "Reject", REJECTED},
    {"MaxBurstLength", "-1", "Reject", REJECTED},
    {"FirstBurstLength", "65536", "65536", DONE},
    {"FirstBurstLength", "511", "Reject", REJECTED},
    {"DefaultTime2Wait", "1", "2", DONE},
    {"DefaultTime2Wait", "5", "5", DONE},
    {"DefaultTime2Wait", "3601", "Reject", REJECTED},
    {"DefaultTime2Retain", "20", "0", DONE},
    {"DefaultTime2Retain", "", "Reject", REJECTED},
    {"MaxOutstandingR2T", "16", "1", DONE},
    {"MaxOutstandingR2T", "0", "Reject", REJECTED},
    {"DataPDUInOrder", "No", "Yes", DONE},
    {"DataPDUInOrder", "1", "Reject", REJECTED},
    {"DataSequenceInOrder", "No", "Yes", DONE},
    {"DataSequenceInOrder", "YES", "Reject", REJECTED},
    {"ErrorRecoveryLevel", "2", "0", DONE},
    {"ErrorRecoveryLevel", "3", "Reject", REJECTED},
    {"TaskReporting", "FastAbort,RFC3720", "RFC3720", DONE},
    {"TaskReporting", "FastAbort", "Reject", REJECTED},
    {"iSCSIProtocolLevel", "2", "1", DONE},
    {"iSCSIProtocolLevel", "32", "Reject", REJECTED},
    {"IFMarker", "No", "Reject", REJECTED},
    {"OFMarkInt", "2048~65535", "Reject", REJECTED},
    {"X-com.example.speed", "fast", "NotUnderstood", ISCSI_KEY_UNKNOWN},
    {"headerdigest", "None", "NotUnderstood", ISCSI_KEY_UNKNOWN},
};

static void a_target_answers_each_key_by_its_rule(void **state)
{
    for (unsigned i = 0; i < COUNT(answers); i++) {
        const struct answer_row *row = &answers[i];
        struct iscsi_params wish = iscsi_params_wish();
        struct iscsi_params before;
        struct iscsi_negotiation negotiation;
        struct iscsi_pair pair = pair_of(row->key, row->offer);
        struct iscsi_text out;
        char text[256] = "", expected[256] = "";
        const char *why;

        iscsi_negotiation_start(&negotiation, ISCSI_TARGET, &wish);
        before = negotiation.agreed;
        iscsi_text_start(&out, text, sizeof text);
        assert_int_equal(iscsi_negotiation_on_pair(&negotiation, &pair, &out, &why), row->result);
        if (row->answer)
            snprintf(expected, sizeof expected, "%s=%s", row->key, row->answer);
        assert_string_equal(text, expected);
        assert_int_equal(out.used, row->answer ? strlen(expected) + 1 : 0);
        if (row->result != DONE) {
            assert_memory_equal(&before, &negotiation.agreed, sizeof before);
            assert_true(*why != '\0');
        }
        /* The same key again is an error of the peer, unless it is not a key. */
        if (row->result != ISCSI_KEY_UNKNOWN)
            assert_int_equal(iscsi_negotiation_on_pair(&negotiation, &pair, &out, &why),
                             ISCSI_KEY_PROTOCOL);
    }
}

static void digests_follow_the_offer_and_the_wish(void **state)
{
    static const struct {
        bool wanted, required;
        const char *offer, *answer;
    } rows[] = {
        {true, false, "CRC32C,None", "CRC32C"}, {true, false, "None,CRC32C", "None"},
        {true, true, "None,CRC32C", "CRC32C"},  {true, true, "None", "Reject"},
        {true, false, "None", "None"},          {false, false, "CRC32C,None", "None"},
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct iscsi_params wish = iscsi_params_wish();
        struct iscsi_negotiation negotiation;
        struct iscsi_pair pair = pair_of("DataDigest", rows[i].offer);
        struct iscsi_text out;
        char text[64] = "";
        const char *why;

        wish.data_digest = rows[i].wanted;
        wish.digest_required = rows[i].required;
        iscsi_negotiation_start(&negotiation, ISCSI_TARGET, &wish);
        iscsi_text_start(&out, text, sizeof text);
        iscsi_negotiation_on_pair(&negotiation, &pair, &out, &why);
        assert_string_equal(text + strlen("DataDigest="), rows[i].answer);
        assert_int_equal(negotiation.agreed.data_digest, strcmp(rows[i].answer, "CRC32C") == 0);
    }
}

#define PROTOCOL ISCSI_KEY_PROTOCOL

/* What a target may answer to the link's offers, and what it may not. */
static const struct answer_row taken[] = {
    {"HeaderDigest", "None", NULL, DONE},
    {"HeaderDigest", "CRC32C", NULL, PROTOCOL},
    {"MaxConnections", "1", NULL, DONE},
    {"MaxConnections", "2", NULL, PROTOCOL},
    {"InitialR2T", "Yes", NULL, DONE},
    {"InitialR2T", "No", NULL, DONE},
    {"InitialR2T", "Both", NULL, PROTOCOL},
    {"ImmediateData", "No", NULL, DONE},
    {"DataPDUInOrder", "No", NULL, PROTOCOL},
    {"MaxBurstLength", "512", NULL, DONE},
    {"MaxBurstLength", "16777216", NULL, PROTOCOL},
    {"FirstBurstLength", "Irrelevant", NULL, DONE},
    {"FirstBurstLength", "Reject", NULL, DONE},
    {"DefaultTime2Wait", "1", NULL, PROTOCOL},
    {"DefaultTime2Wait", "3", NULL, DONE},
    {"DefaultTime2Retain", "1", NULL, PROTOCOL},
    {"ErrorRecoveryLevel", "1", NULL, PROTOCOL},
    {"X-unheard", "NotUnderstood", NULL, PROTOCOL},
    {"MaxRecvDataSegmentLength", "1024", NULL, DONE},
};

static void an_initiator_takes_only_answers_to_its_offers(void **state)
{
    for (unsigned i = 0; i < COUNT(taken); i++) {
        struct iscsi_params wish = iscsi_params_wish();
        struct iscsi_negotiation negotiation;
        struct iscsi_pair pair = pair_of(taken[i].key, taken[i].offer);
        struct iscsi_text out;
        char text[1024];
        uint32_t used;
        const char *why;

        iscsi_negotiation_start(&negotiation, ISCSI_INITIATOR, &wish);
        iscsi_text_start(&out, text, sizeof text);
        iscsi_negotiation_offer(&negotiation, &out);
        assert_false(out.overflow);
        assert_false(iscsi_negotiation_done(&negotiation));
        used = out.used;
        if (iscsi_negotiation_on_pair(&negotiation, &pair, &out, &why) != taken[i].result)
            fail_msg("row %u: %s=%s", i, taken[i].key, taken[i].offer);
        assert_int_equal(out.used, used);
    }
}

static void a_required_digest_may_not_be_refused(void **state)
{
    struct iscsi_params wish = iscsi_params_wish();
    struct iscsi_negotiation negotiation;
    struct iscsi_pair pair = pair_of("HeaderDigest", "Reject");
    struct iscsi_text out;
    char text[1024];
    const char *why;

    wish.header_digest = wish.digest_required = true;
    iscsi_negotiation_start(&negotiation, ISCSI_INITIATOR, &wish);
    iscsi_text_start(&out, text, sizeof text);
    iscsi_negotiation_offer(&negotiation, &out);
    assert_string_equal(text, "HeaderDigest=CRC32C");
    assert_int_equal(iscsi_negotiation_on_pair(&negotiation, &pair, &out, &why), PROTOCOL);
}

static void offers_meet_answers(void **state)
{
    struct iscsi_params wish = iscsi_params_wish(), small = wish;
    struct iscsi_negotiation initiator, target;
    struct iscsi_text out, back;
    struct iscsi_pair pair;
    char text[1024], answer[1024];
    uint32_t at = 0;
    const char *why;

    small.first_burst_bytes = 4096;
    small.max_burst_bytes = 8192;
    small.own_data_limit_bytes = 1024;
    iscsi_negotiation_start(&initiator, ISCSI_INITIATOR, &wish);
    iscsi_negotiation_start(&target, ISCSI_TARGET, &small);
    iscsi_text_start(&out, text, sizeof text);
    iscsi_text_start(&back, answer, sizeof answer);
    iscsi_negotiation_offer(&initiator, &out);
    while (iscsi_pair_next((uint8_t *)text, out.used, &at, &pair) == ISCSI_PAIR_OK)
        assert_int_equal(iscsi_negotiation_on_pair(&target, &pair, &back, &why), DONE);
    iscsi_negotiation_declare(&target, &back);
    assert_int_equal(at, out.used);
    at = 0;
    while (iscsi_pair_next((uint8_t *)answer, back.used, &at, &pair) == ISCSI_PAIR_OK)
        assert_int_equal(iscsi_negotiation_on_pair(&initiator, &pair, &out, &why), DONE);
    assert_true(iscsi_negotiation_done(&initiator));
    assert_int_equal(initiator.agreed.first_burst_bytes, 4096);
    assert_int_equal(initiator.agreed.max_burst_bytes, 8192);
    assert_int_equal(initiator.agreed.peer_data_limit_bytes, 1024);
    assert_int_equal(target.agreed.peer_data_limit_bytes, 262144);
    assert_false(initiator.agreed.initial_r2t);
}

static void text_is_cut_into_pairs_or_refused(void **state)
{
    static const struct {
        const char *text;
        uint32_t size;
        unsigned pairs;
        enum iscsi_pair_result end;
    } rows[] = {
        {"A=b\0C=d\0", 8, 2, ISCSI_PAIR_END},
        {"A=b\0\0\0C=d\0\0", 11, 2, ISCSI_PAIR_END},
        {"A=\0", 3, 1, ISCSI_PAIR_END},
        {"A=b=c\0", 6, 1, ISCSI_PAIR_END},
        {"", 0, 0, ISCSI_PAIR_END},
        {"A=b", 3, 0, ISCSI_PAIR_MALFORMED},
        {"=b\0", 3, 0, ISCSI_PAIR_MALFORMED},
        {"AB\0", 3, 0, ISCSI_PAIR_MALFORMED},
        {"A", 1, 0, ISCSI_PAIR_MALFORMED},
        {"A b=c\0", 6, 0, ISCSI_PAIR_MALFORMED},
        {"A=b\0\xff=c\0", 8, 1, ISCSI_PAIR_MALFORMED},
        {"A23456789012345678901234567890123456789012345678901234567890123=x\0", 66, 1,
         ISCSI_PAIR_END},
        {"A234567890123456789012345678901234567890123456789012345678901234=x\0", 67, 0,
         ISCSI_PAIR_MALFORMED},
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct iscsi_pair pair;
        enum iscsi_pair_result result;
        uint32_t at = 0;
        unsigned pairs = 0;

        while ((result = iscsi_pair_next((const uint8_t *)rows[i].text, rows[i].size, &at,
                                         &pair)) == ISCSI_PAIR_OK)
            pairs++;
        assert_int_equal(result, rows[i].end);
        assert_int_equal(pairs, rows[i].pairs);
    }
}

static void binary_values_have_three_spellings(void **state)
{
    static const struct {
        const char *value;
        int size;
        const char *bytes;
    } rows[] = {
        {"0x", 0, ""},
        {"0x00ff10", 3, "\x00\xff\x10"},
        {"0XAbCd", 2, "\xab\xcd"},
        {"0x123", -1, ""},
        {"0x12g4", -1, ""},
        {"0bAP8Q", 3, "\x00\xff\x10"},
        {"0bAP8=", 2, "\x00\xff"},
        {"0bAA==", 1, "\x00"},
        {"0bAP8", -1, ""},
        {"0bA===", -1, ""},
        {"0bAP9=", -1, ""},
        {"258", 2, "\x01\x02"},
        {"0", 1, "\x00"},
        {"", -1, ""},
        {"18446744073709551616", -1, ""},
        {"0x0102030405060708090a", -1, ""},
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        uint8_t bytes[8];
        int size = iscsi_binary_parse(rows[i].value, bytes, sizeof bytes);

        if (size != rows[i].size)
            fail_msg("row %u: %s gives %d", i, rows[i].value, size);
        if (size > 0)
            assert_memory_equal(bytes, rows[i].bytes, (size_t)size);
    }
}

static void writing_stops_at_the_end_of_the_text(void **state)
{
    char text[13];
    struct iscsi_text out;

    memset(text, 'x', sizeof text);
    iscsi_text_start(&out, text, 12);
    iscsi_text_put_number(&out, "A", 4294967295u); /* "A=4294967295" needs 13 */
    assert_true(out.overflow);
    assert_int_equal(text[12], 'x');
    iscsi_text_start(&out, text, 13);
    iscsi_text_put_number(&out, "A", 4294967295u);
    assert_false(out.overflow);
    assert_string_equal(text, "A=4294967295");
    iscsi_text_start(&out, text, 13);
    iscsi_text_put_binary(&out, "A", "\x01\xfe", 2);
    assert_string_equal(text, "A=0x01fe");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_target_answers_each_key_by_its_rule),
        cmocka_unit_test(digests_follow_the_offer_and_the_wish),
        cmocka_unit_test(an_initiator_takes_only_answers_to_its_offers),
        cmocka_unit_test(a_required_digest_may_not_be_refused),
        cmocka_unit_test(offers_meet_answers),
        cmocka_unit_test(text_is_cut_into_pairs_or_refused),
        cmocka_unit_test(binary_values_have_three_spellings),
        cmocka_unit_test(writing_stops_at_the_end_of_the_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
