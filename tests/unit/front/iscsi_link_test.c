/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The link's initiator against its target in memory: every combination of what the login can agree
 * on, every cut of the stream, and peers that break the rules. */

#include "front/iscsi_link.h"

#include "base/bytes.h"
#include "base/check.h"

#include "iscsi_test_crypto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define COUNT(rows) (sizeof(rows) / sizeof(rows)[0])

enum { LARGE = 4 << 20 };

static struct iscsi_initiator initiator;
static struct iscsi_link_target target;
static struct iscsi_login_config a_config, b_config;
static uint8_t source[LARGE], buffer[LARGE], wire[LARGE + (1 << 20)], record[1 << 16];
static size_t record_size; /* what the target sent */
static struct iovec pieces[8192];
static unsigned a_event_count[8], b_event_count[8];
static bool answer_good = true;
static bool direct;        /* receive large data straight to their place */
static size_t chunk_bytes; /* the wire hands over at most so many bytes at a time */

static void start(void)
{
    a_config = (struct iscsi_login_config){.initiator_name = "iqn.2026-11.holdfast:a",
                                           .target_name = "iqn.2026-11.holdfast:t.link",
                                           .isid = {0x80},
                                           .tsih = 1,
                                           .portal_group_tag = 1,
                                           .first_sn = 0xFFFFFFFE,
                                           .wish = iscsi_params_wish()};
    b_config = a_config;
    answer_good = true;
    direct = false;
    chunk_bytes = SIZE_MAX;
    record_size = 0;
    memset(a_event_count, 0, sizeof a_event_count);
    memset(b_event_count, 0, sizeof b_event_count);
    for (size_t i = 0; i < sizeof source; i++)
        source[i] = (uint8_t)(i * 31 + (i >> 8) * 7 + (i >> 16));
}

static void connect_both(void)
{
    iscsi_initiator_start(&initiator, &a_config);
    iscsi_link_target_start(&target, &b_config, buffer, sizeof buffer);
}

static void note_target(enum iscsi_link_event event)
{
    b_event_count[event]++;
    if (event != ISCSI_LINK_COMMAND)
        return;
    assert_int_equal(target.command.length, initiator.length);
    assert_int_equal(target.command.buffer_id, initiator.buffer_id);
    assert_memory_equal(target.command.data, source, target.command.length);
    iscsi_link_target_respond(&target, answer_good);
}

/* Hand `size` bytes of the wire to the target. */
static void target_takes(const uint8_t *bytes, size_t size)
{
    enum iscsi_link_event event;
    uint8_t *place;
    size_t at = 0;

    while (at < size) {
        uint32_t wants = direct ? iscsi_link_target_wants(&target, &place) : 0;

        if (wants > 0) {
            size_t take = min_u64(wants, size - at);

            memcpy(place, bytes + at, take);
            iscsi_link_target_filled(&target, (uint32_t)take);
            at += take;
            if (at < size)
                continue;
        }
        at += iscsi_link_target_feed(&target, at < size ? bytes + at : NULL, size - at, &event);
        note_target(event);
        if (event == ISCSI_LINK_FAILED || event == ISCSI_LINK_CLOSED)
            return;
    }
    iscsi_link_target_feed(&target, NULL, 0, &event);
    if (event != ISCSI_LINK_MORE && target.state != ISCSI_LINK_TARGET_OVER)
        note_target(event);
}

static void initiator_takes(const uint8_t *bytes, size_t size)
{
    enum iscsi_link_event event = ISCSI_LINK_MORE;
    size_t at = 0;

    while (at < size && event != ISCSI_LINK_FAILED && event != ISCSI_LINK_CLOSED) {
        at += iscsi_initiator_feed(&initiator, bytes + at, size - at, &event);
        a_event_count[event]++;
    }
}

/* Move bytes both ways until nothing moves. The initiator's list is sent in two parts to see that
 * it can be. */
static void run(void)
{
    for (unsigned round = 0; round < 100000; round++) {
        struct iovec *iov;
        uint32_t count = iscsi_initiator_output(&initiator, &iov);
        size_t size = 0, back;

        assert_true(count <= ISCSI_IOV_LIMIT);
        for (uint32_t i = 0; i < count; i++) {
            memcpy(wire + size, iov[i].iov_base, iov[i].iov_len);
            size += iov[i].iov_len;
        }
        if (size > 100) {
            iscsi_initiator_sent(&initiator, size / 3);
            iscsi_initiator_sent(&initiator, size - size / 3);
        } else {
            iscsi_initiator_sent(&initiator, size);
        }
        for (size_t at = 0; at < size; at += min_u64(chunk_bytes, size - at))
            target_takes(wire + at, min_u64(chunk_bytes, size - at));
        count = iscsi_link_target_output(&target, &iov);
        back = count > 0 ? iov[0].iov_len : 0;
        if (back > 0) {
            uint8_t *copy = record + record_size;

            assert_true(back <= sizeof record - record_size);
            memcpy(copy, iov[0].iov_base, back);
            iscsi_link_target_sent(&target, back);
            for (size_t at = 0; at < back; at += min_u64(chunk_bytes, back - at))
                initiator_takes(copy + at, min_u64(chunk_bytes, back - at));
            record_size = (record_size + back) % (sizeof record / 2);
        }
        if (size == 0 && back == 0)
            return;
    }
    fail_msg("the two never rest");
}

static void write_pieces(uint8_t buffer_id, uint32_t length, uint32_t piece)
{
    uint32_t count = 0;

    for (uint32_t at = 0; at < length; at += piece) {
        assert_true(count < COUNT(pieces));
        pieces[count++] =
            (struct iovec){.iov_base = source + at, .iov_len = min_u32(piece, length - at)};
    }
    memset(buffer, 0, length);
    iscsi_initiator_command(&initiator, buffer_id, pieces, count, length);
    run();
}

static void expect_status(unsigned count, uint8_t status)
{
    if (a_event_count[ISCSI_LINK_STATUS] != count)
        fail_msg("no status: %s / %s", initiator.reason, target.reason);
    assert_int_equal(initiator.result.status, status);
    assert_int_equal(initiator.state, ISCSI_INITIATOR_READY);
}

static void every_combination_carries_the_data(void **state)
{
    static const uint32_t limits[] = {512, 4096, 262144}, bursts[] = {512, 5000, 16777215};
    static const uint32_t lengths[] = {0, 1, 511, 512, 513, 5001, 70003};

    for (unsigned mix = 0; mix < 16; mix++)
        for (unsigned l = 0; l < COUNT(limits); l++)
            for (unsigned f = 0; f < COUNT(bursts); f++)
                for (unsigned m = f; m < COUNT(bursts); m++) {
                    struct iscsi_params *wish = &b_config.wish;
                    unsigned sent = 0;

                    start();
                    wish->initial_r2t = mix & 1;
                    wish->immediate_data = mix & 2;
                    wish->header_digest = mix & 4;
                    wish->data_digest = mix & 8;
                    wish->own_data_limit_bytes = limits[l];
                    wish->first_burst_bytes = bursts[f];
                    wish->max_burst_bytes = bursts[m];
                    a_config.wish.header_digest = a_config.wish.data_digest = true;
                    direct = l & 1;
                    connect_both();
                    run();
                    assert_int_equal(a_event_count[ISCSI_LINK_LOGGED_IN], 1);
                    assert_int_equal(initiator.params.header_digest, !!(mix & 4));
                    for (unsigned n = 0; n < COUNT(lengths); n++) {
                        write_pieces((uint8_t)n, lengths[n], n % 2 ? 512 : 4096);
                        expect_status(++sent, SCSI_GOOD);
                    }
                    assert_int_equal(b_event_count[ISCSI_LINK_COMMAND], COUNT(lengths));
                }
}

static void no_r2t_is_needed_by_default(void **state)
{
    start();
    connect_both();
    run();
    write_pieces(0, LARGE, 4096);
    expect_status(1, SCSI_GOOD);
    assert_int_equal(initiator.r2t_count, 0);
    /* Pieces of 512 bytes: more of them than one list holds. */
    write_pieces(0, LARGE, 512);
    expect_status(2, SCSI_GOOD);
    b_config.wish.first_burst_bytes = 65536;
    b_config.wish.max_burst_bytes = 131072;
    connect_both();
    run();
    write_pieces(0, LARGE, 4096);
    expect_status(3, SCSI_GOOD);
    assert_int_equal(initiator.r2t_count, (LARGE - 65536 + 131071) / 131072);
}

static void odd_pieces_go_through(void **state)
{
    static const uint32_t sizes[] = {1, 3, 7, 513, 4097};

    for (unsigned i = 0; i < COUNT(sizes); i++) {
        start();
        a_config.wish.data_digest = b_config.wish.data_digest = true;
        b_config.wish.own_data_limit_bytes = 515;
        chunk_bytes = 1000 + i;
        direct = i & 1;
        connect_both();
        run();
        write_pieces(1, sizes[i] * 901, sizes[i]);
        expect_status(1, SCSI_GOOD);
    }
}

/* Every chunk size from one byte up: so each PDU of both sides is cut at each of its bytes. */
static void the_stream_may_be_cut_anywhere(void **state)
{
    for (unsigned digests = 0; digests < 2; digests++)
        for (size_t chunk = 1; chunk < 150; chunk++) {
            start();
            a_config.wish.header_digest = b_config.wish.header_digest = digests;
            a_config.wish.data_digest = b_config.wish.data_digest = digests;
            b_config.wish.own_data_limit_bytes = 512;
            b_config.wish.first_burst_bytes = 600;
            chunk_bytes = chunk;
            connect_both();
            run();
            write_pieces(0, 1501, 700);
            expect_status(1, SCSI_GOOD);
            answer_good = false;
            write_pieces(1, 3, 3);
            expect_status(2, SCSI_CHECK_CONDITION);
            assert_true(initiator.result.has_sense);
            assert_int_equal(initiator.result.sense_key, 0x0B);
        }
}

static void a_small_command_is_handed_out_where_it_came(void **state)
{
    start();
    connect_both();
    run();
    write_pieces(0, 8192, 4096);
    expect_status(1, SCSI_GOOD);
    assert_int_equal(target.in_place_count, 1);
    assert_true(target.command.data >= wire && target.command.data < wire + sizeof wire);
    chunk_bytes = 1000;
    write_pieces(0, 8192, 4096);
    expect_status(2, SCSI_GOOD);
    assert_int_equal(target.in_place_count, 1);
    assert_ptr_equal(target.command.data, buffer);
}

static void a_command_larger_than_the_buffer_is_refused(void **state)
{
    static const uint32_t lengths[] = {1001, 70000};

    for (unsigned i = 0; i < COUNT(lengths); i++)
        for (unsigned chunk = 0; chunk < 2; chunk++) {
            start();
            chunk_bytes = chunk ? 777 : SIZE_MAX;
            b_config.wish.own_data_limit_bytes = 4096;
            b_config.wish.first_burst_bytes = 32768;
            connect_both();
            target.buffer_size = 1000;
            run();
            memset(buffer, 0xEE, 80000);
            iscsi_initiator_command(&initiator, 0,
                                    &(struct iovec){.iov_base = source, .iov_len = lengths[i]}, 1,
                                    lengths[i]);
            run();
            expect_status(1, SCSI_CHECK_CONDITION);
            assert_int_equal(initiator.result.sense_key, 0x05);
            assert_int_equal(initiator.result.asc, 0x24);
            assert_int_equal(b_event_count[ISCSI_LINK_COMMAND], 0);
            for (unsigned at = 1000; at < 80000; at++)
                assert_int_equal(buffer[at], 0xEE);
            write_pieces(0, 999, 999); /* and the stream is still in step */
            expect_status(2, SCSI_GOOD);
        }
}

static void logout_closes_both(void **state)
{
    start();
    connect_both();
    run();
    iscsi_initiator_logout(&initiator);
    run();
    assert_int_equal(target.state, ISCSI_LINK_TARGET_OVER);
    assert_int_equal(initiator.ending, ISCSI_LINK_CLOSED);
    assert_int_equal(b_event_count[ISCSI_LINK_CLOSED], 1);
}

static void chap_works_over_the_bytes(void **state)
{
    static struct generator seed;
    static struct iscsi_crypto crypto = {
        .digest = test_digest, .random = test_random, .context = &seed};

    for (unsigned wrong = 0; wrong < 2; wrong++)
        for (size_t chunk = 1; chunk < 100; chunk += 7) {
            start();
            generator_seed(&seed, chunk);
            chunk_bytes = chunk;
            a_config.crypto = b_config.crypto = &crypto;
            a_config.self = b_config.peer = (struct iscsi_identity){"a", "secret of a....."};
            a_config.peer = b_config.self = (struct iscsi_identity){"b", "secret of b....."};
            if (wrong)
                a_config.self.secret = "another secret..";
            connect_both();
            run();
            assert_int_equal(a_event_count[ISCSI_LINK_LOGGED_IN], !wrong);
            assert_int_equal(b_event_count[ISCSI_LINK_LOGGED_IN], !wrong);
            if (wrong)
                assert_non_null(strstr(initiator.reason, "0201"));
        }
}

/* ---- a peer made by hand ---- */

static struct iscsi_pdu answers[16]; /* what the target said, decoded */
static unsigned answer_count;

/* One PDU to the target; its answers are collected. The last event. */
static enum iscsi_link_event tell(struct iscsi_pdu pdu, const void *data)
{
    uint8_t bytes[16384];
    enum iscsi_link_event event, last = ISCSI_LINK_MORE;
    struct iscsi_receiver receiver;
    enum iscsi_receive_event received;
    uint32_t size = iscsi_header_put(&pdu, false, bytes);
    struct iovec *iov;
    size_t at = 0;

    memcpy(bytes + size, data ? data : "", pdu.data_size);
    size += pdu.data_size;
    size += iscsi_trailer_put(pdu.data_size, false, 0, bytes + size);
    while (at < size) {
        at += iscsi_link_target_feed(&target, bytes + at, size - at, &event);
        if (event != ISCSI_LINK_MORE)
            last = event;
        if (event == ISCSI_LINK_COMMAND)
            iscsi_link_target_respond(&target, true);
    }
    answer_count = 0;
    if (iscsi_link_target_output(&target, &iov) == 0)
        return last;
    iscsi_receiver_start(&receiver, 1 << 20);
    for (at = 0; at < iov[0].iov_len && answer_count < COUNT(answers);) {
        at += iscsi_receiver_step(&receiver, (uint8_t *)iov[0].iov_base + at, iov[0].iov_len - at,
                                  &received);
        assert_int_equal(received, ISCSI_RECEIVE_PDU);
        answers[answer_count++] = receiver.pdu;
        if (receiver.pdu.data_size > 0)
            memcpy(record, receiver.data, receiver.pdu.data_size);
    }
    iscsi_link_target_sent(&target, iov[0].iov_len);
    return last;
}

/* A target that is logged in, expecting CmdSN 0xFFFFFFFE. */
static void log_in(void)
{
    start();
    b_config.wish.first_burst_bytes = 2048;
    b_config.wish.max_burst_bytes = 4096;
    connect_both();
    run();
    assert_int_equal(target.state, ISCSI_LINK_TARGET_READY);
}

static struct iscsi_pdu command_of(uint8_t opcode, uint32_t expected, uint32_t data_size)
{
    struct iscsi_pdu pdu = {.opcode = ISCSI_SCSI_COMMAND,
                            .final = true,
                            .data_size = data_size,
                            .itt = 50,
                            .cmd_sn = target.exp_cmd_sn};

    pdu.command.write = expected > 0;
    pdu.command.expected_size = expected;
    pdu.command.cdb[0] = opcode;
    if (opcode == 0x3B) {
        pdu.command.cdb[1] = 2;
        put_u24(pdu.command.cdb + 6, expected);
    }
    return pdu;
}

static struct iscsi_pdu data_of(uint32_t ttt, uint32_t sn, uint32_t offset, uint32_t size,
                                bool final)
{
    struct iscsi_pdu pdu = {
        .opcode = ISCSI_DATA_OUT, .final = final, .data_size = size, .itt = 50, .ttt = ttt};

    pdu.data.data_sn = sn;
    pdu.data.offset = offset;
    return pdu;
}

static void expect_check_condition(uint8_t key, uint16_t code)
{
    assert_int_equal(answer_count, 1);
    assert_int_equal(answers[0].opcode, ISCSI_SCSI_RESPONSE);
    assert_int_equal(answers[0].response.status, SCSI_CHECK_CONDITION);
    assert_int_equal(answers[0].data_size, 20);
    assert_int_equal(get_u16(record), 18);
    assert_int_equal(record[4], key);
    assert_int_equal(get_u16(record + 14), code);
}

static void other_commands_are_answered(void **state)
{
    struct iscsi_pdu pdu;
    uint32_t stat_sn;

    log_in();
    stat_sn = target.stat_sn;
    tell(command_of(0x00, 0, 0), NULL);
    assert_int_equal(answers[0].response.status, SCSI_GOOD);
    assert_int_equal(answers[0].stat_sn, stat_sn);
    assert_int_equal(answers[0].exp_cmd_sn, 0xFFFFFFFF);
    assert_int_equal(answers[0].max_cmd_sn, 0xFFFFFFFF);
    pdu = command_of(0x12, 0, 0);
    pdu.command.read = true;
    pdu.command.expected_size = 255;
    pdu.command.cdb[4] = 255;
    tell(pdu, NULL);
    assert_int_equal(answers[0].opcode, ISCSI_DATA_IN);
    assert_int_equal(answers[0].data_size, 36);
    assert_int_equal(answers[0].stat_sn, stat_sn + 1);
    assert_true(answers[0].data.has_status && answers[0].data.underflow && answers[0].final);
    assert_int_equal(answers[0].data.residual, 255 - 36);
    assert_memory_equal(record + 8, "HOLDFAST", 8);
    pdu.cmd_sn = target.exp_cmd_sn;
    pdu.command.cdb[1] = 1;
    tell(pdu, NULL);
    expect_check_condition(5, 0x2400);
    tell(command_of(0x2A, 0, 0), NULL);
    expect_check_condition(5, 0x2000);
    /* With data: they are dropped, then the answer comes. */
    pdu = command_of(0x2A, 1000, 600);
    pdu.final = false;
    assert_int_equal(tell(pdu, source), ISCSI_LINK_MORE);
    assert_int_equal(answer_count, 0);
    tell(data_of(ISCSI_NO_TAG, 0, 600, 400, true), source);
    expect_check_condition(5, 0x2000);
    assert_int_equal(answers[0].response.residual, 1000);
    pdu = command_of(0x3B, 100, 100);
    pdu.lun = 1ull << 48;
    tell(pdu, source);
    expect_check_condition(5, 0x2500);
    for (unsigned at = 1; at < 9; at++) { /* each field of the CDB, wrong */
        if (at == 2)
            continue;
        pdu = command_of(0x3B, 100, 100);
        pdu.command.cdb[at] ^= 1;
        assert_int_equal(tell(pdu, source), ISCSI_LINK_MORE);
        expect_check_condition(5, 0x2400);
    }
    assert_int_equal(tell(command_of(0x3B, 100, 100), source), ISCSI_LINK_COMMAND);
}

static void pings_text_and_logout_are_answered(void **state)
{
    struct iscsi_pdu pdu = {.opcode = ISCSI_NOP_OUT,
                            .immediate = true,
                            .final = true,
                            .data_size = 5,
                            .itt = 9,
                            .ttt = ISCSI_NO_TAG};
    uint32_t stat_sn;

    log_in();
    stat_sn = target.stat_sn;
    tell(pdu, "hello");
    assert_int_equal(answers[0].opcode, ISCSI_NOP_IN);
    assert_int_equal(answers[0].itt, 9);
    assert_int_equal(answers[0].ttt, ISCSI_NO_TAG);
    assert_int_equal(answers[0].stat_sn, stat_sn);
    assert_memory_equal(record, "hello", 5);
    pdu.itt = ISCSI_NO_TAG;
    tell(pdu, "hello");
    assert_int_equal(answer_count, 0);
    pdu = (struct iscsi_pdu){.opcode = ISCSI_TEXT_REQUEST,
                             .final = true,
                             .itt = 10,
                             .data_size = 45,
                             .ttt = ISCSI_NO_TAG,
                             .cmd_sn = target.exp_cmd_sn};
    tell(pdu, "MaxRecvDataSegmentLength=600\0SendTargets=All\0");
    assert_int_equal(answers[0].opcode, ISCSI_TEXT_RESPONSE);
    assert_string_equal((char *)record, "TargetName=iqn.2026-11.holdfast:t.link");
    assert_int_equal(target.params.peer_data_limit_bytes, 600);
    pdu = (struct iscsi_pdu){.opcode = ISCSI_TASK_REQUEST, .immediate = true, .final = true};
    tell(pdu, NULL);
    assert_int_equal(answers[0].opcode, ISCSI_REJECT);
    assert_int_equal(answers[0].reject.reason, ISCSI_REJECT_UNSUPPORTED);
    assert_int_equal(answers[0].data_size, 48);
    pdu = (struct iscsi_pdu){.opcode = ISCSI_LOGOUT_REQUEST, .immediate = true, .final = true};
    pdu.logout.reason = 2;
    assert_int_equal(tell(pdu, NULL), ISCSI_LINK_MORE);
    assert_int_equal(answers[0].logout.response, 2);
    pdu.logout.reason = 0;
    assert_int_equal(tell(pdu, NULL), ISCSI_LINK_CLOSED);
    assert_int_equal(answers[0].opcode, ISCSI_LOGOUT_RESPONSE);
}

static void data_out_and_r2t_follow_the_rules(void **state)
{
    struct iscsi_pdu pdu;
    uint32_t ttt, stat_sn;

    log_in();
    pdu = command_of(0x3B, 8000, 1000);
    pdu.final = false;
    stat_sn = target.stat_sn;
    tell(pdu, source);
    assert_int_equal(answer_count, 0);
    tell(data_of(ISCSI_NO_TAG, 0, 1000, 500, false), source + 1000);
    tell(data_of(ISCSI_NO_TAG, 1, 1500, 500, true), source + 1500); /* less than the burst */
    assert_int_equal(answers[0].opcode, ISCSI_R2T);
    assert_int_equal(answers[0].r2t.offset, 2000);
    assert_int_equal(answers[0].r2t.desired_size, 4096);
    assert_int_equal(answers[0].stat_sn, stat_sn); /* an R2T uses up no StatSN */
    assert_int_equal(answers[0].max_cmd_sn, answers[0].exp_cmd_sn - 1);
    ttt = answers[0].ttt;
    tell(data_of(ttt, 0, 2000, 4096, true), source + 2000);
    assert_int_equal(answers[0].r2t.r2t_sn, 1);
    assert_int_equal(answers[0].r2t.desired_size, 8000 - 6096);
    assert_int_equal(tell(data_of(answers[0].ttt, 0, 6096, 8000 - 6096, true), source + 6096),
                     ISCSI_LINK_COMMAND);
    assert_memory_equal(target.command.data, source, 8000);
    assert_int_equal(answers[0].stat_sn, stat_sn);
    assert_int_equal(answers[0].response.exp_data_sn, 2);
}

static void data_that_break_the_rules_end_the_session(void **state)
{
    enum { COMMAND_FINAL = 1, NO_COMMAND = 2 };
    const struct {
        const char *label;
        unsigned how;
        uint32_t ttt, sn, offset, size;
        bool final;
        uint32_t itt;
    } rows[] = {
        {"no command", NO_COMMAND, ISCSI_NO_TAG, 0, 0, 10, true, 50},
        {"wrong tag", 0, ISCSI_NO_TAG, 0, 1000, 10, true, 51},
        {"wrong ttt", 0, 7, 0, 1000, 10, true, 50},
        {"wrong DataSN", 0, ISCSI_NO_TAG, 1, 1000, 10, true, 50},
        {"offset before", 0, ISCSI_NO_TAG, 0, 999, 10, true, 50},
        {"offset behind", 0, ISCSI_NO_TAG, 0, 1001, 10, true, 50},
        {"offset far", 0, ISCSI_NO_TAG, 0, 0xFFFFFFF0, 10, true, 50},
        {"past the first burst", 0, ISCSI_NO_TAG, 0, 1000, 1049, true, 50},
        {"nothing", 0, ISCSI_NO_TAG, 0, 1000, 0, false, 50},
        {"unsolicited for an R2T", COMMAND_FINAL, ISCSI_NO_TAG, 0, 1000, 10, true, 50},
        {"short sequence", COMMAND_FINAL, 1, 0, 1000, 10, true, 50},
        {"past the R2T", COMMAND_FINAL, 1, 0, 1000, 4097, true, 50},
    };

    for (unsigned i = 0; i < COUNT(rows); i++)
        for (unsigned cut = 0; cut < 2; cut++) {
            struct iscsi_pdu pdu = command_of(0x3B, 8000, 1000);
            enum iscsi_link_event event;
            uint8_t bytes[ISCSI_BHS_SIZE];

            log_in();
            pdu.cmd_sn = target.exp_cmd_sn;
            pdu.final = rows[i].how == COMMAND_FINAL;
            if (rows[i].how != NO_COMMAND)
                assert_int_equal(tell(pdu, source), ISCSI_LINK_MORE);
            pdu = data_of(rows[i].ttt, rows[i].sn, rows[i].offset, rows[i].size, rows[i].final);
            pdu.itt = rows[i].itt;
            if (cut &&
                rows[i].size > 0) { /* the header alone, then the data: nothing may be placed */
                iscsi_bhs_encode(&pdu, bytes);
                iscsi_link_target_feed(&target, bytes, sizeof bytes, &event);
                assert_int_equal(target.receiver.kept_size, 0);
                iscsi_link_target_feed(&target, source, (rows[i].size + 3) & ~3u, &event);
            } else {
                event = tell(pdu, source);
                assert_int_equal(answers[answer_count - 1].opcode, ISCSI_REJECT);
            }
            if (event != ISCSI_LINK_FAILED || !*target.reason)
                fail_msg("%s", rows[i].label);
        }
}

static void commands_that_break_the_rules_end_the_session(void **state)
{
    for (unsigned row = 0; row < 8; row++) {
        struct iscsi_pdu pdu;

        log_in();
        pdu = command_of(0x3B, 4000, 1000);
        switch (row) {
        case 0:
            pdu.itt = ISCSI_NO_TAG;
            break;
        case 1:
            pdu.command.expected_size = 999;
            break;
        case 2:
            pdu.data_size = 2049; /* FirstBurstLength is 2048 */
            break;
        case 3:
            pdu.command.write = false;
            break;
        case 4:
            target.params.immediate_data = false;
            break;
        case 5:
            target.params.initial_r2t = true;
            pdu.final = false;
            break;
        case 6:
            pdu.opcode = ISCSI_LOGIN_REQUEST;
            break;
        case 7:
            pdu.opcode = ISCSI_SCSI_RESPONSE;
            break;
        }
        assert_int_equal(tell(pdu, source), ISCSI_LINK_FAILED);
        assert_int_equal(answers[answer_count - 1].opcode, ISCSI_REJECT);
        assert_int_equal(answers[answer_count - 1].reject.reason, ISCSI_REJECT_PROTOCOL);
    }
}

static void commands_out_of_the_window_are_ignored(void **state)
{
    struct iscsi_pdu pdu;

    log_in();
    pdu = command_of(0x3B, 100, 100);
    pdu.cmd_sn++;
    assert_int_equal(tell(pdu, source), ISCSI_LINK_MORE);
    assert_int_equal(answer_count, 0);
    pdu.cmd_sn -= 2;
    assert_int_equal(tell(pdu, source), ISCSI_LINK_MORE);
    assert_int_equal(answer_count, 0);
    pdu.immediate = true;
    assert_int_equal(tell(pdu, source), ISCSI_LINK_COMMAND);
    assert_int_equal(answers[0].exp_cmd_sn, 0xFFFFFFFE);
}

/* ---- a target made by hand ---- */

static enum iscsi_link_event hear(struct iscsi_pdu pdu, const void *data)
{
    uint8_t bytes[1024];
    enum iscsi_link_event event;
    uint32_t size = iscsi_header_put(&pdu, false, bytes);

    memcpy(bytes + size, data ? data : "", pdu.data_size);
    size += pdu.data_size;
    size += iscsi_trailer_put(pdu.data_size, false, 0, bytes + size);
    assert_int_equal(iscsi_initiator_feed(&initiator, bytes, size, &event), size);
    return event;
}

static struct iscsi_pdu from_target(uint8_t opcode)
{
    return (struct iscsi_pdu){.opcode = opcode,
                              .final = true,
                              .itt = initiator.itt,
                              .ttt = ISCSI_NO_TAG,
                              .stat_sn = initiator.exp_stat_sn,
                              .exp_cmd_sn = initiator.cmd_sn,
                              .max_cmd_sn = initiator.cmd_sn};
}

static void initiator_command(uint32_t length)
{
    struct iovec *iov;
    size_t size = 0;
    static struct iovec one;

    one = (struct iovec){.iov_base = source, .iov_len = length};
    iscsi_initiator_command(&initiator, 0, &one, 1, length);
    for (uint32_t count = iscsi_initiator_output(&initiator, &iov); count > 0; count--, iov++)
        size += iov->iov_len;
    iscsi_initiator_sent(&initiator, size);
}

static void a_ping_from_the_target_is_answered_between_pdus(void **state)
{
    struct iscsi_pdu pdu;
    struct iovec *iov;

    log_in();
    pdu = from_target(ISCSI_NOP_IN);
    pdu.itt = ISCSI_NO_TAG;
    assert_int_equal(hear(pdu, NULL), ISCSI_LINK_MORE);
    assert_int_equal(iscsi_initiator_output(&initiator, &iov), 0); /* no tag, no answer */
    pdu.ttt = 77;
    assert_int_equal(hear(pdu, NULL), ISCSI_LINK_MORE);
    assert_int_equal(iscsi_initiator_output(&initiator, &iov), 1);
    assert_int_equal(iov[0].iov_len, 48);
    assert_true(iscsi_bhs_decode(iov[0].iov_base, &pdu));
    assert_int_equal(pdu.opcode, ISCSI_NOP_OUT);
    assert_true(pdu.immediate);
    assert_int_equal(pdu.itt, ISCSI_NO_TAG);
    assert_int_equal(pdu.ttt, 77);
    iscsi_initiator_sent(&initiator, 48);
    /* While a list is under way the answer waits for its end. */
    iscsi_initiator_command(&initiator, 0, &(struct iovec){.iov_base = source, .iov_len = 100}, 1,
                            100);
    assert_int_equal(iscsi_initiator_output(&initiator, &iov), 2);
    iscsi_initiator_sent(&initiator, 50);
    pdu = from_target(ISCSI_NOP_IN);
    pdu.itt = ISCSI_NO_TAG;
    pdu.ttt = 78;
    assert_int_equal(hear(pdu, NULL), ISCSI_LINK_MORE);
    assert_int_equal(iscsi_initiator_output(&initiator, &iov), 1);
    assert_ptr_equal(iov[0].iov_base, source + 2);
    iscsi_initiator_sent(&initiator, 98);
    assert_int_equal(iscsi_initiator_output(&initiator, &iov), 1);
    assert_int_equal(iov[0].iov_len, 48);
}

/* A PDU of more pieces than a list holds goes on in the next list, whatever waits beside it. */
static void an_answer_waits_for_the_end_of_a_pdu_over_two_lists(void **state)
{
    struct iscsi_pdu pdu;
    struct iovec *iov;
    uint32_t count;

    start();
    connect_both();
    run();
    for (unsigned i = 0; i < 2000; i++)
        pieces[i] = (struct iovec){.iov_base = source + i, .iov_len = 1};
    iscsi_initiator_command(&initiator, 0, pieces, 2000, 2000);
    count = iscsi_initiator_output(&initiator, &iov);
    assert_in_range(count, 1000, ISCSI_IOV_LIMIT);
    iscsi_initiator_sent(&initiator, 48 + count - 1);
    pdu = from_target(ISCSI_NOP_IN);
    pdu.itt = ISCSI_NO_TAG;
    pdu.ttt = 1;
    assert_int_equal(hear(pdu, NULL), ISCSI_LINK_MORE);
    assert_int_equal(iscsi_initiator_output(&initiator, &iov), 2000 - (count - 1));
    assert_ptr_equal(iov[0].iov_base, source + count - 1);
    iscsi_initiator_sent(&initiator, 2000 - (count - 1));
    assert_int_equal(iscsi_initiator_output(&initiator, &iov), 1);
    assert_int_equal(iov[0].iov_len, 48);
}

static void a_closed_window_holds_the_command(void **state)
{
    struct iscsi_pdu pdu;
    struct iovec *iov;

    log_in();
    initiator.max_cmd_sn = initiator.cmd_sn - 1;
    iscsi_initiator_command(&initiator, 0, &(struct iovec){.iov_base = source, .iov_len = 10}, 1,
                            10);
    assert_int_equal(iscsi_initiator_output(&initiator, &iov), 0);
    pdu = from_target(ISCSI_NOP_IN);
    pdu.itt = ISCSI_NO_TAG;
    assert_int_equal(hear(pdu, NULL), ISCSI_LINK_MORE);
    assert_int_equal(iscsi_initiator_output(&initiator, &iov), 3);
}

static void a_target_that_breaks_the_rules_is_left(void **state)
{
    for (unsigned row = 0; row < 16; row++) {
        struct iscsi_pdu pdu;

        log_in(); /* FirstBurstLength 2048, MaxBurstLength 4096 */
        initiator_command(8000);
        pdu = from_target(ISCSI_SCSI_RESPONSE);
        if (row >= 6 && row <= 11) {
            pdu = from_target(ISCSI_R2T);
            pdu.ttt = 5;
            pdu.r2t.offset = 2048;
            pdu.r2t.desired_size = 4096;
        }
        switch (row) {
        case 0: /* GOOD although most of the data were never asked for */
            break;
        case 1:
            pdu.itt++;
            break;
        case 2:
            pdu.stat_sn++;
            break;
        case 3:
            pdu.response.response = 1;
            break;
        case 4:
            pdu.response.underflow = true;
            break;
        case 5:
            pdu.opcode = ISCSI_LOGOUT_RESPONSE;
            break;
        case 6:
            pdu.r2t.offset = 2047;
            break;
        case 7:
            pdu.r2t.desired_size = 4097;
            break;
        case 8:
            pdu.r2t.desired_size = 0;
            break;
        case 9:
            pdu.r2t.r2t_sn = 1;
            break;
        case 10:
            pdu.itt = 1000;
            break;
        case 11: /* a second one beside the first */
            assert_int_equal(hear(pdu, NULL), ISCSI_LINK_MORE);
            pdu.r2t.r2t_sn = 1;
            pdu.r2t.offset = 6144;
            pdu.r2t.desired_size = 100;
            break;
        case 12:
            pdu = from_target(ISCSI_REJECT);
            pdu.reject.reason = 4;
            break;
        case 13:
            pdu = from_target(ISCSI_ASYNC_MESSAGE);
            pdu.async.event = 1;
            break;
        case 14:
            pdu = from_target(ISCSI_SCSI_COMMAND);
            break;
        case 15:
            pdu = from_target(ISCSI_NOP_IN);
            break;
        }
        if (hear(pdu, NULL) != ISCSI_LINK_FAILED || !*initiator.reason)
            fail_msg("row %u", row);
    }
}

static void sense_is_read_in_both_formats(void **state)
{
    static const uint8_t descriptor[] = {0, 8, 0x72, 0x05, 0x26, 0x01, 0, 0, 0, 0};
    static const uint8_t cut[] = {0, 200, 0x70, 0, 0x0B};
    struct iscsi_pdu pdu;

    log_in();
    initiator_command(100);
    pdu = from_target(ISCSI_SCSI_RESPONSE);
    pdu.response.status = SCSI_CHECK_CONDITION;
    pdu.data_size = sizeof descriptor;
    assert_int_equal(hear(pdu, descriptor), ISCSI_LINK_STATUS);
    assert_true(initiator.result.has_sense);
    assert_int_equal(initiator.result.asc, 0x26);
    assert_int_equal(initiator.result.ascq, 0x01);
    initiator_command(100);
    pdu = from_target(ISCSI_SCSI_RESPONSE);
    pdu.response.status = SCSI_CHECK_CONDITION;
    pdu.data_size = sizeof cut;
    assert_int_equal(hear(pdu, cut), ISCSI_LINK_STATUS);
    assert_false(initiator.result.has_sense);
    initiator_command(100);
    pdu.itt = initiator.itt;
    pdu.stat_sn = initiator.exp_stat_sn;
    pdu.data_size = 0;
    assert_int_equal(hear(pdu, NULL), ISCSI_LINK_STATUS);
    assert_false(initiator.result.has_sense);
}

/* A peer that asks and never reads fills the queue; then its input waits, and nothing is lost. */
static void a_peer_that_does_not_read_is_not_answered_for_ever(void **state)
{
    struct iscsi_pdu pdu = {.opcode = ISCSI_NOP_OUT,
                            .immediate = true,
                            .final = true,
                            .data_size = 4096,
                            .itt = 9,
                            .ttt = ISCSI_NO_TAG};
    uint8_t bytes[48 + 4096];
    enum iscsi_link_event event;
    unsigned taken = 0, answered = 0;
    struct iovec *iov;

    log_in();
    iscsi_bhs_encode(&pdu, bytes);
    memset(bytes + 48, 'x', 4096);
    while (taken < 100 &&
           iscsi_link_target_feed(&target, bytes, sizeof bytes, &event) == sizeof bytes)
        taken++;
    assert_in_range(taken, 2, 10);
    assert_int_equal(event, ISCSI_LINK_MORE);
    while (iscsi_link_target_output(&target, &iov) > 0) {
        answered += (unsigned)iov[0].iov_len;
        iscsi_link_target_sent(&target, iov[0].iov_len);
    }
    assert_int_equal(answered, taken * sizeof bytes);
    assert_int_equal(iscsi_link_target_feed(&target, bytes, sizeof bytes, &event), sizeof bytes);
}

static void a_digest_error_ends_the_session_with_a_reject(void **state)
{
    struct iovec *iov;
    struct iscsi_pdu pdu;
    enum iscsi_link_event event;

    start();
    a_config.wish.data_digest = b_config.wish.data_digest = true;
    connect_both();
    run();
    source[50] = 1;
    iscsi_initiator_command(&initiator, 0, &(struct iovec){.iov_base = source, .iov_len = 100}, 1,
                            100);
    assert_int_equal(iscsi_initiator_output(&initiator, &iov), 3);
    source[50] = 2; /* behind the digest's back */
    for (unsigned i = 0; i < 3; i++)
        iscsi_link_target_feed(&target, iov[i].iov_base, iov[i].iov_len, &event);
    assert_int_equal(event, ISCSI_LINK_FAILED);
    assert_int_equal(iscsi_link_target_output(&target, &iov), 1);
    assert_true(iscsi_bhs_decode(iov[0].iov_base, &pdu));
    assert_int_equal(pdu.opcode, ISCSI_REJECT);
    assert_int_equal(pdu.reject.reason, ISCSI_REJECT_DATA_DIGEST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_combination_carries_the_data),
        cmocka_unit_test(no_r2t_is_needed_by_default),
        cmocka_unit_test(odd_pieces_go_through),
        cmocka_unit_test(the_stream_may_be_cut_anywhere),
        cmocka_unit_test(a_small_command_is_handed_out_where_it_came),
        cmocka_unit_test(a_command_larger_than_the_buffer_is_refused),
        cmocka_unit_test(logout_closes_both),
        cmocka_unit_test(chap_works_over_the_bytes),
        cmocka_unit_test(other_commands_are_answered),
        cmocka_unit_test(pings_text_and_logout_are_answered),
        cmocka_unit_test(data_out_and_r2t_follow_the_rules),
        cmocka_unit_test(data_that_break_the_rules_end_the_session),
        cmocka_unit_test(commands_that_break_the_rules_end_the_session),
        cmocka_unit_test(commands_out_of_the_window_are_ignored),
        cmocka_unit_test(a_ping_from_the_target_is_answered_between_pdus),
        cmocka_unit_test(an_answer_waits_for_the_end_of_a_pdu_over_two_lists),
        cmocka_unit_test(a_closed_window_holds_the_command),
        cmocka_unit_test(a_target_that_breaks_the_rules_is_left),
        cmocka_unit_test(sense_is_read_in_both_formats),
        cmocka_unit_test(a_peer_that_does_not_read_is_not_answered_for_ever),
        cmocka_unit_test(a_digest_error_ends_the_session_with_a_reject),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
