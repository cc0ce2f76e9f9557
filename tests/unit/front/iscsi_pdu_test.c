/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* PDU layouts against bytes written down from RFC 7143, and the receiver cut at every place. */

#include "front/iscsi_pdu.h"

#include "base/crc32c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static void encode(const struct iscsi_pdu *pdu, const char *expected_hex)
{
    uint8_t bhs[ISCSI_BHS_SIZE];
    char hex[2 * ISCSI_BHS_SIZE + 1];
    struct iscsi_pdu back;
    uint8_t again[ISCSI_BHS_SIZE];

    iscsi_bhs_encode(pdu, bhs);
    for (unsigned i = 0; i < sizeof bhs; i++)
        snprintf(hex + 2 * i, 3, "%02x", bhs[i]);
    assert_string_equal(hex, expected_hex);
    assert_true(iscsi_bhs_decode(bhs, &back));
    iscsi_bhs_encode(&back, again);
    assert_memory_equal(bhs, again, sizeof bhs);
}

static void headers_have_the_layout_of_rfc_7143(void **state)
{
    struct iscsi_pdu command = {.opcode = ISCSI_SCSI_COMMAND,
                                .final = true,
                                .data_size = 0x010203,
                                .lun = 0x0001000000000000,
                                .itt = 0x11223344,
                                .cmd_sn = 5,
                                .exp_stat_sn = 6};
    command.command.write = true;
    command.command.attribute = ISCSI_SIMPLE;
    command.command.expected_size = 0x01020304;
    command.command.cdb[0] = 0x3B;
    command.command.cdb[15] = 0xEE;
    encode(&command, "01a10000"
                     "00010203"
                     "0001000000000000"
                     "11223344"
                     "01020304"
                     "00000005"
                     "00000006"
                     "3b0000000000000000000000000000ee");

    struct iscsi_pdu response = {.opcode = ISCSI_SCSI_RESPONSE,
                                 .final = true,
                                 .data_size = 20,
                                 .itt = 7,
                                 .stat_sn = 8,
                                 .exp_cmd_sn = 9,
                                 .max_cmd_sn = 10};
    response.response.status = 2;
    response.response.underflow = true;
    response.response.residual = 11;
    response.response.exp_data_sn = 12;
    encode(&response, "21820002"
                      "00000014"
                      "0000000000000000"
                      "00000007"
                      "00000000"
                      "00000008"
                      "00000009"
                      "0000000a"
                      "0000000c"
                      "00000000"
                      "0000000b");

    struct iscsi_pdu data_out = {.opcode = ISCSI_DATA_OUT,
                                 .final = true,
                                 .data_size = 4,
                                 .itt = 1,
                                 .ttt = ISCSI_NO_TAG,
                                 .exp_stat_sn = 2};
    data_out.data.data_sn = 3;
    data_out.data.offset = 4;
    encode(&data_out, "05800000"
                      "00000004"
                      "0000000000000000"
                      "00000001"
                      "ffffffff"
                      "00000000"
                      "00000002"
                      "00000000"
                      "00000003"
                      "00000004"
                      "00000000");

    struct iscsi_pdu data_in = {.opcode = ISCSI_DATA_IN,
                                .final = true,
                                .data_size = 36,
                                .itt = 1,
                                .ttt = ISCSI_NO_TAG,
                                .stat_sn = 2,
                                .exp_cmd_sn = 3,
                                .max_cmd_sn = 4};
    data_in.data.has_status = true;
    data_in.data.underflow = true;
    data_in.data.residual = 9;
    encode(&data_in, "25830000"
                     "00000024"
                     "0000000000000000"
                     "00000001"
                     "ffffffff"
                     "00000002"
                     "00000003"
                     "00000004"
                     "00000000"
                     "00000000"
                     "00000009");

    struct iscsi_pdu r2t = {.opcode = ISCSI_R2T,
                            .final = true,
                            .itt = 1,
                            .ttt = 2,
                            .stat_sn = 3,
                            .exp_cmd_sn = 4,
                            .max_cmd_sn = 5};
    r2t.r2t.r2t_sn = 6;
    r2t.r2t.offset = 7;
    r2t.r2t.desired_size = 8;
    encode(&r2t, "31800000"
                 "00000000"
                 "0000000000000000"
                 "00000001"
                 "00000002"
                 "00000003"
                 "00000004"
                 "00000005"
                 "00000006"
                 "00000007"
                 "00000008");

    struct iscsi_pdu login = {.opcode = ISCSI_LOGIN_REQUEST,
                              .immediate = true,
                              .final = true,
                              .data_size = 1,
                              .itt = 1,
                              .cmd_sn = 2,
                              .exp_stat_sn = 3};
    login.login.next_stage = 1;
    memcpy(login.login.isid, "\x80\x01\x02\x03\x04\x05", 6);
    login.login.tsih = 0x0607;
    login.login.cid = 0x0809;
    encode(&login, "43810000"
                   "00000001"
                   "8001020304050607"
                   "00000001"
                   "08090000"
                   "00000002"
                   "00000003"
                   "00000000000000000000000000000000");

    struct iscsi_pdu answer = {
        .opcode = ISCSI_LOGIN_RESPONSE, .itt = 1, .stat_sn = 2, .exp_cmd_sn = 3, .max_cmd_sn = 4};
    answer.login.continues = true;
    answer.login.current_stage = 1;
    answer.login.status_class = 2;
    answer.login.status_detail = 1;
    encode(&answer, "23440000"
                    "00000000"
                    "0000000000000000"
                    "00000001"
                    "00000000"
                    "00000002"
                    "00000003"
                    "00000004"
                    "02010000"
                    "0000000000000000");

    struct iscsi_pdu nop = {.opcode = ISCSI_NOP_OUT,
                            .immediate = true,
                            .final = true,
                            .itt = ISCSI_NO_TAG,
                            .ttt = 1,
                            .cmd_sn = 2,
                            .exp_stat_sn = 3};
    encode(&nop, "40800000"
                 "00000000"
                 "0000000000000000"
                 "ffffffff"
                 "00000001"
                 "00000002"
                 "00000003"
                 "00000000000000000000000000000000");

    struct iscsi_pdu logout = {.opcode = ISCSI_LOGOUT_REQUEST,
                               .immediate = true,
                               .final = true,
                               .itt = 1,
                               .cmd_sn = 2,
                               .exp_stat_sn = 3};
    logout.logout.reason = 1;
    logout.logout.cid = 4;
    encode(&logout, "46810000"
                    "00000000"
                    "0000000000000000"
                    "00000001"
                    "00040000"
                    "00000002"
                    "00000003"
                    "00000000000000000000000000000000");

    struct iscsi_pdu reject = {.opcode = ISCSI_REJECT,
                               .final = true,
                               .data_size = 48,
                               .itt = ISCSI_NO_TAG,
                               .stat_sn = 1,
                               .exp_cmd_sn = 2,
                               .max_cmd_sn = 3};
    reject.reject.reason = ISCSI_REJECT_PROTOCOL;
    encode(&reject, "3f800400"
                    "00000030"
                    "0000000000000000"
                    "ffffffff"
                    "00000000"
                    "00000001"
                    "00000002"
                    "00000003"
                    "00000000"
                    "0000000000000000");
}

/* Each opcode survives a round trip with every one of its bytes set as far as its fields go. */
static void every_opcode_survives_a_round_trip(void **state)
{
    unsigned known = 0;

    for (unsigned opcode = 0; opcode < 64; opcode++) {
        uint8_t wild[ISCSI_BHS_SIZE], once[ISCSI_BHS_SIZE], twice[ISCSI_BHS_SIZE];
        struct iscsi_pdu pdu;

        for (unsigned i = 0; i < sizeof wild; i++)
            wild[i] = (uint8_t)(i * 37 + opcode + 1);
        wild[0] = (uint8_t)opcode;
        wild[4] = 3;
        if (!iscsi_bhs_decode(wild, &pdu)) {
            assert_int_equal(pdu.data_size, wild[5] << 16 | wild[6] << 8 | wild[7]);
            continue;
        }
        known++;
        assert_int_equal(pdu.ahs_words, 3);
        iscsi_bhs_encode(&pdu, once);
        assert_true(iscsi_bhs_decode(once, &pdu));
        iscsi_bhs_encode(&pdu, twice);
        assert_memory_equal(once, twice, sizeof once);
    }
    assert_int_equal(known, 18);
}

/* RFC 7143 appendix: 32 zero bytes give aa 36 91 8a on the wire. */
static void digests_go_out_least_significant_byte_first(void **state)
{
    uint8_t zeros[32] = {0}, trailer[ISCSI_TRAILER_ROOM];
    uint32_t size =
        iscsi_trailer_put(32, true, crc32c_more(CRC32C_START, zeros, sizeof zeros), trailer);

    assert_int_equal(size, 4);
    assert_memory_equal(trailer, "\xaa\x36\x91\x8a", 4);
    /* Padding goes into the digest. */
    size = iscsi_trailer_put(29, true, crc32c_more(CRC32C_START, zeros, 29), trailer);
    assert_int_equal(size, 7);
    assert_memory_equal(trailer, "\0\0\0\xaa\x36\x91\x8a", 7);
    assert_int_equal(iscsi_trailer_put(0, true, 0, trailer), 0);
    assert_int_equal(iscsi_trailer_put(5, false, 0, trailer), 3);
}

/* A PDU with AHS, `data_size` bytes and digests as asked for; returns its size. */
static size_t build(uint8_t *to, uint32_t data_size, uint8_t ahs_words, bool header_digest,
                    bool data_digest)
{
    struct iscsi_pdu pdu = {
        .opcode = ISCSI_NOP_OUT, .final = true, .data_size = data_size, .itt = 77};
    uint8_t *at = to;
    uint32_t crc;

    iscsi_bhs_encode(&pdu, at);
    at[4] = ahs_words;
    at += ISCSI_BHS_SIZE;
    for (unsigned i = 0; i < ahs_words * 4u; i++)
        *at++ = (uint8_t)(i + 100);
    if (header_digest) {
        crc = crc32c(to, (size_t)(at - to));
        memcpy(at, &crc, 4);
        at += 4;
    }
    for (uint32_t i = 0; i < data_size; i++)
        at[i] = (uint8_t)(i * 7 + 1);
    crc = crc32c_more(CRC32C_START, at, data_size);
    at += data_size;
    at += iscsi_trailer_put(data_size, data_digest, crc, at);
    return (size_t)(at - to);
}

static uint8_t placed[4096];

/* Feed `size` bytes in two pieces; the last event. */
static enum iscsi_receive_event feed(struct iscsi_receiver *receiver, const uint8_t *bytes,
                                     size_t cut, size_t size, unsigned *whole)
{
    const size_t ends[] = {cut, size, size};
    enum iscsi_receive_event event = ISCSI_RECEIVE_MORE;
    size_t at = 0;

    *whole = 0;
    for (unsigned piece = 0; piece < 3; piece++)
        for (unsigned pass = 0; pass < 8; pass++) {
            at += iscsi_receiver_step(receiver, bytes + at, ends[piece] - at, &event);
            if (event == ISCSI_RECEIVE_MORE)
                break;
            if (event == ISCSI_RECEIVE_FAILED)
                return event;
            if (event == ISCSI_RECEIVE_HEADER)
                iscsi_receiver_place(receiver, placed, sizeof placed);
            if (event == ISCSI_RECEIVE_PDU) {
                (*whole)++;
                assert_int_equal(receiver->pdu.itt, 77);
                assert_int_equal(receiver->kept_size, receiver->pdu.data_size);
                for (uint32_t i = 0; i < receiver->pdu.data_size; i++)
                    assert_int_equal(receiver->data[i], (uint8_t)(i * 7 + 1));
            }
        }
    assert_int_equal(at, size);
    return event;
}

static void a_pdu_survives_a_cut_at_every_byte(void **state)
{
    static const uint32_t sizes[] = {0, 1, 2, 3, 4, 5, 63, 64};
    uint8_t bytes[512];
    struct iscsi_receiver receiver;
    unsigned whole;

    for (unsigned digests = 0; digests < 4; digests++)
        for (unsigned s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
            for (uint8_t ahs = 0; ahs < 3; ahs++) {
                size_t one = build(bytes, sizes[s], ahs, digests & 1, digests & 2);
                size_t size = one + build(bytes + one, sizes[s], 0, digests & 1, digests & 2);

                for (size_t cut = 0; cut <= size; cut++) {
                    iscsi_receiver_start(&receiver, 64);
                    receiver.header_digest = digests & 1;
                    receiver.data_digest = digests & 2;
                    feed(&receiver, bytes, cut, size, &whole);
                    assert_int_equal(whole, 2);
                    /* A whole PDU is read where it stands. */
                    if (cut == 0 && sizes[s] > 0)
                        assert_true(receiver.data > bytes && receiver.data < bytes + size);
                }
            }
}

static void a_flipped_bit_fails_the_digest_it_is_under(void **state)
{
    uint8_t bytes[512];
    struct iscsi_receiver receiver;
    size_t size = build(bytes, 13, 1, true, true);
    unsigned whole;

    for (size_t at = 0; at < size; at++)
        for (unsigned cut = 0; cut < 2; cut++) {
            bool length = at >= 4 && at < 8; /* then the digest stands elsewhere */

            bytes[at] ^= 0x10;
            iscsi_receiver_start(&receiver, 1 << 24);
            receiver.header_digest = receiver.data_digest = true;
            if (!length) {
                assert_int_equal(feed(&receiver, bytes, cut ? 60 : 0, size, &whole),
                                 ISCSI_RECEIVE_FAILED);
                assert_int_equal(receiver.reject, at < 56 ? 0 : ISCSI_REJECT_DATA_DIGEST);
            }
            bytes[at] ^= 0x10;
        }
}

static void an_overlong_data_segment_fails_before_its_data(void **state)
{
    uint8_t bytes[512];
    struct iscsi_receiver receiver;
    enum iscsi_receive_event event;

    build(bytes, 65, 0, false, false);
    iscsi_receiver_start(&receiver, 64);
    assert_int_equal(iscsi_receiver_step(&receiver, bytes, 48, &event), 48);
    assert_int_equal(event, ISCSI_RECEIVE_FAILED);
    iscsi_receiver_step(&receiver, bytes, 10, &event);
    assert_int_equal(event, ISCSI_RECEIVE_FAILED);
}

/* The owner receives the data itself, in parts; what does not fit the place is dropped. */
static void data_can_be_received_straight_to_their_place(void **state)
{
    uint8_t bytes[512], place[40], *to = NULL;
    struct iscsi_receiver receiver;
    enum iscsi_receive_event event;
    size_t size = build(bytes, 50, 0, false, true), at;

    memset(place, 0xEE, sizeof place);
    iscsi_receiver_start(&receiver, 64);
    receiver.data_digest = true;
    at = iscsi_receiver_step(&receiver, bytes, 48, &event);
    assert_int_equal(event, ISCSI_RECEIVE_HEADER);
    assert_int_equal(iscsi_receiver_wants(&receiver, &to), 0);
    iscsi_receiver_place(&receiver, place, 30);
    assert_int_equal(iscsi_receiver_wants(&receiver, &to), 30);
    memcpy(to, bytes + at, 11);
    iscsi_receiver_filled(&receiver, 11);
    assert_int_equal(iscsi_receiver_wants(&receiver, &to), 19);
    assert_ptr_equal(to, place + 11);
    memcpy(to, bytes + at + 11, 19);
    iscsi_receiver_filled(&receiver, 19);
    at += 30;
    assert_int_equal(iscsi_receiver_wants(&receiver, &to), 0);
    at += iscsi_receiver_step(&receiver, bytes + at, size - at, &event);
    assert_int_equal(event, ISCSI_RECEIVE_PDU);
    assert_int_equal(at, size);
    assert_int_equal(receiver.kept_size, 30);
    assert_memory_equal(place, bytes + 48, 30);
    for (unsigned i = 30; i < sizeof place; i++)
        assert_int_equal(place[i], 0xEE);
}

static void serial_numbers_wrap(void **state)
{
    assert_true(iscsi_sn_before(0xFFFFFFFF, 0));
    assert_false(iscsi_sn_before(0, 0xFFFFFFFF));
    assert_false(iscsi_sn_before(5, 5));
    assert_int_equal(iscsi_padding(0), 0);
    assert_int_equal(iscsi_padding(1), 3);
    assert_int_equal(iscsi_padding(4), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_have_the_layout_of_rfc_7143),
        cmocka_unit_test(every_opcode_survives_a_round_trip),
        cmocka_unit_test(digests_go_out_least_significant_byte_first),
        cmocka_unit_test(a_pdu_survives_a_cut_at_every_byte),
        cmocka_unit_test(a_flipped_bit_fails_the_digest_it_is_under),
        cmocka_unit_test(an_overlong_data_segment_fails_before_its_data),
        cmocka_unit_test(data_can_be_received_straight_to_their_place),
        cmocka_unit_test(serial_numbers_wrap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
