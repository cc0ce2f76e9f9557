/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Asymmetric access: the same answer through every path, in every situation; who is told of a
 * change, and when; and SET TARGET PORT GROUPS. */

#include "shared_record.h"

enum { OPTIMIZED = 0, NON_OPTIMIZED = 1, UNAVAILABLE = 3, TRANSITIONING = 15 };

static uint8_t report(enum host host, uint8_t format, uint32_t allocation_bytes)
{
    uint8_t cdb[12] = {0xA3, (uint8_t)(format << 5 | 0x0A)};

    put_u32(cdb + 6, allocation_bytes);
    return send_in(host, cdb, sizeof cdb);
}

static void states_are(enum host host, uint8_t a, uint8_t b)
{
    const uint8_t expected[28] = {0, 0, 0, 24,   a, 0x8B, 0, 1, 0, 0, 0, 1, 0, 0,
                                  0, 1, b, 0x8B, 0, 2,    0, 0, 0, 1, 0, 0, 0, 2};

    assert_int_equal(report(host, 0, 255), SCSI_GOOD);
    assert_int_equal(task.in_bytes, 28);
    assert_memory_equal(shared.buffer, expected, 28);
}

static void serve(int side, int owner, enum scsi_service service, uint8_t controllers)
{
    for (uint8_t volume = 0; volume < VOLUMES; volume++)
        scsi_on_service(shared.side[side], volume, owner, service);
    scsi_on_controllers(shared.side[side], controllers);
}

static void the_answer_is_the_same_through_every_path(void **state)
{
    states_are(A1, OPTIMIZED, NON_OPTIMIZED);
    states_are(B4, OPTIMIZED, NON_OPTIMIZED);
    shared_serve(B, 3);
    clear_attentions();
    states_are(A1, NON_OPTIMIZED, OPTIMIZED);
    states_are(B4, NON_OPTIMIZED, OPTIMIZED);
    shared_stop(A);
    shared_serve(B, 2);
    clear_attentions();
    states_are(B4, UNAVAILABLE, OPTIMIZED);
}

static void every_situation_has_its_states(void **state)
{
    static const struct {
        int owner;
        enum scsi_service service;
        uint8_t controllers;
        uint8_t a, b; /* as controller a says */
    } rows[] = {
        {0, SCSI_SERVED_HERE, 3, OPTIMIZED, NON_OPTIMIZED},
        {1, SCSI_SERVED_THERE, 3, NON_OPTIMIZED, OPTIMIZED},
        {0, SCSI_SERVED_HERE, 1, OPTIMIZED, UNAVAILABLE},
        {0, SCSI_HELD, 3, TRANSITIONING, TRANSITIONING},
        {1, SCSI_HELD, 3, TRANSITIONING, TRANSITIONING},
        {-1, SCSI_HELD, 3, TRANSITIONING, TRANSITIONING},
        {0, SCSI_HELD, 1, TRANSITIONING, UNAVAILABLE},
        {-1, SCSI_SERVED_THERE, 3, TRANSITIONING, TRANSITIONING},
        {-1, SCSI_UNSERVED, 3, UNAVAILABLE, UNAVAILABLE},
        {0, SCSI_UNSERVED, 3, UNAVAILABLE, UNAVAILABLE},
        {0, SCSI_UNSERVED, 1, UNAVAILABLE, UNAVAILABLE}, /* it waits for an operator */
        {-1, SCSI_UNSERVED, 0, UNAVAILABLE, UNAVAILABLE},
        /* This controller is out: it must not say that the other is down, too. */
        {1, SCSI_UNSERVED, 2, UNAVAILABLE, OPTIMIZED},
        {-1, SCSI_UNSERVED, 2, UNAVAILABLE, OPTIMIZED},
    };

    for (uint32_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        serve(A, rows[i].owner, rows[i].service, rows[i].controllers);
        clear_attentions();
        states_are(A1, rows[i].a, rows[i].b);
    }
}

static void the_extended_header_says_how_long_a_transition_takes(void **state)
{
    assert_int_equal(report(A1, 1, 255), SCSI_GOOD);
    assert_int_equal(task.in_bytes, 32);
    assert_int_equal(get_u32(shared.buffer), 28);
    assert_int_equal(shared.buffer[4], 0x10);
    assert_int_equal(shared.buffer[5], 60);
    assert_int_equal(get_u16(shared.buffer + 6), 0);
    assert_int_equal(shared.buffer[8 + 1], 0x8B);
    assert_int_equal(get_u16(shared.buffer + 8 + 12 + 10), 2);
    for (uint8_t format = 2; format < 8; format++) {
        assert_int_equal(report(A1, format, 255), SCSI_CHECK_CONDITION);
        assert_int_equal(sense(), INVALID_IN_CDB);
        assert_int_equal(field_pointer(), 1 << 4 | 8 | 7);
    }
}

static void an_answer_is_cut_at_the_allocation_length(void **state)
{
    uint8_t whole[28];

    assert_int_equal(report(A1, 0, 28), SCSI_GOOD);
    memcpy(whole, shared.buffer, 28);
    for (uint32_t length = 0; length < 28; length++) {
        assert_int_equal(report(A1, 0, length), SCSI_GOOD);
        assert_int_equal(task.in_bytes, length);
        assert_memory_equal(shared.buffer, whole, length);
    }
}

/* ---- who is told ---- */

static void a_move_is_told_to_everybody_once_when_it_has_settled(void **state)
{
    for (int side = 0; side < 2; side++)
        serve(side, 0, SCSI_HELD, 3);
    no_attention_but(0);
    shared_serve(B, 3);
    for (int host = 0; host < HOSTS; host++)
        assert_int_equal(attention((enum host)host), ACCESS_STATE_CHANGED);
    shared_serve(B, 3);
    no_attention_but(0);
}

static void a_hold_that_ends_where_it_began_is_told_to_nobody(void **state)
{
    for (int side = 0; side < 2; side++)
        serve(side, 0, SCSI_HELD, 3);
    shared_serve(A, 3);
    no_attention_but(0);
}

static void a_takeover_and_a_rejoin_are_told(void **state)
{
    shared_stop(A);
    serve(B, 0, SCSI_HELD, 3);
    no_attention_but(0);
    shared_serve(B, 2);
    assert_int_equal(attention(B1), ACCESS_STATE_CHANGED);
    assert_int_equal(attention(B4), ACCESS_STATE_CHANGED);
    shared_start(A);
    shared_serve(B, 3);
    assert_int_equal(attention(B4), ACCESS_STATE_CHANGED);
    states_are(B4, NON_OPTIMIZED, OPTIMIZED);
}

static void a_unit_that_does_not_change_has_no_attention(void **state)
{
    scsi_on_service(shared.side[A], 2, 1, SCSI_SERVED_THERE);
    no_attention_but(0);
    assert_int_equal(shared.nexus[A1]->luns[5].attentions,
                     attention_bit(ATTENTION_ACCESS_STATE_CHANGED));
}

/* ---- SET TARGET PORT GROUPS ---- */

static uint8_t set(enum host host, const uint8_t *list, uint32_t list_bytes)
{
    uint8_t cdb[12] = {0xA4, 0x0A};

    put_u32(cdb + 6, list_bytes);
    return send_out(host, cdb, sizeof cdb, list, list_bytes);
}

static void a_host_moves_a_volume_and_the_others_are_told(void **state)
{
    static const uint8_t lists[][12] = {
        {0, 0, 0, 0, OPTIMIZED, 0, 0, 2},                         /* b, optimized */
        {0, 0, 0, 0, NON_OPTIMIZED, 0, 0, 1},                     /* a, not */
        {0, 0, 0, 0, NON_OPTIMIZED, 0, 0, 1, OPTIMIZED, 0, 0, 2}, /* both */
        {0, 0, 0, 0, OPTIMIZED, 0, 0, 2, NON_OPTIMIZED, 0, 0, 1},
    };

    for (uint32_t i = 0; i < ARRAY_LENGTH(lists); i++) {
        enum host asker = i % 2 == 0 ? A1 : B4;
        shared.moved_to = 9;
        assert_int_equal(set(asker, lists[i], i < 2 ? 8 : 12), SCSI_GOOD);
        assert_int_equal(shared.moved_to, B);
        for (int host = 0; host < HOSTS; host++)
            assert_int_equal(attention((enum host)host),
                             (int)asker == host ? 0 : ACCESS_STATE_CHANGED);
        states_are(A1, NON_OPTIMIZED, OPTIMIZED);
        /* It is there already. */
        shared.ios = 0;
        assert_int_equal(set(asker, lists[i], i < 2 ? 8 : 12), SCSI_GOOD);
        assert_int_equal(shared.ios, 0);
        shared_serve(A, 3);
        clear_attentions();
    }
}

static void what_cannot_be_set_is_refused(void **state)
{
    static const struct {
        uint8_t list[16];
        uint32_t bytes;
        uint32_t expected;
        int pointer;
    } wrong[] = {
        {{0, 0, 0, 0, 2, 0, 0, 2}, 8, INVALID_IN_LIST, 4 << 4 | 8 | 3}, /* standby */
        {{0, 0, 0, 0, 3, 0, 0, 2}, 8, INVALID_IN_LIST, 4 << 4 | 8 | 3}, /* unavailable */
        {{0, 0, 0, 0, 14, 0, 0, 2}, 8, INVALID_IN_LIST, 4 << 4 | 8 | 3},
        {{0, 0, 0, 0, 15, 0, 0, 2}, 8, INVALID_IN_LIST, 4 << 4 | 8 | 3},
        {{0, 0, 0, 0, 0, 0, 0, 0}, 8, INVALID_IN_LIST, 6 << 4}, /* no such group */
        {{0, 0, 0, 0, 0, 0, 0, 3}, 8, INVALID_IN_LIST, 6 << 4},
        {{0, 0, 0, 0, 0, 0, 1, 2}, 8, INVALID_IN_LIST, 6 << 4},
        {{0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1}, 12, INVALID_IN_LIST, 8 << 4 | 8 | 3}, /* both */
        {{0, 0, 0, 0, 1, 0, 0, 2, 1, 0, 0, 1}, 12, INVALID_IN_LIST, 8 << 4 | 8 | 3}, /* none */
        {{0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 2}, 12, INVALID_IN_LIST, 10 << 4},        /* twice */
        {{0}, 3, LIST_LENGTH, -1},
        {{0}, 7, LIST_LENGTH, -1},
        {{0}, 9, LIST_LENGTH, -1},
        {{0}, 16, LIST_LENGTH, -1},
    };
    static const uint8_t good[8] = {0, 0, 0, 0, 0, 0, 0, 2};
    uint8_t cdb[12] = {0xA4, 0x0A, [9] = 8};

    for (uint32_t i = 0; i < ARRAY_LENGTH(wrong); i++) {
        assert_int_equal(set(A1, wrong[i].list, wrong[i].bytes), SCSI_CHECK_CONDITION);
        assert_int_equal(sense(), wrong[i].expected);
        assert_int_equal(field_pointer(), wrong[i].pointer);
    }
    assert_int_equal(send_out(A1, cdb, sizeof cdb, good, 7), SCSI_CHECK_CONDITION);
    assert_int_equal(sense(), LIST_LENGTH);
    /* Nothing asked for: nothing done. */
    assert_int_equal(set(A1, good, 0), SCSI_GOOD);
    assert_int_equal(set(A1, good, 4), SCSI_GOOD);
    assert_int_equal(shared.ios, 0);
}

static void a_move_that_fails_says_so_and_leaves_nothing_behind(void **state)
{
    static const uint8_t good[8] = {0, 0, 0, 0, 0, 0, 0, 2};

    shared.move_result = HOST_REFUSED;
    assert_int_equal(set(A1, good, 8), SCSI_CHECK_CONDITION);
    assert_int_equal(sense(), 0x4670A);
    shared.move_result = HOST_NOT_OWNER;
    assert_int_equal(set(A1, good, 8), SCSI_CHECK_CONDITION);
    assert_int_equal(sense(), 0x2040C);
    /* Who asked in vain hears of the next move like everybody. */
    shared_serve(B, 3);
    assert_int_equal(attention(A1), ACCESS_STATE_CHANGED);
}

static void who_asked_and_gave_up_misses_no_later_move(void **state)
{
    struct scsi_task begun = {0};
    uint8_t list[8] = {0, 0, 0, 0, 0, 0, 0, 2};

    begun.nexus = shared.nexus[A1];
    memcpy(begun.cdb, (const uint8_t[12]){0xA4, 0x0A, [9] = 8}, 12);
    begun.cdb_bytes = 12;
    begun.attribute = SCSI_SIMPLE;
    begun.expected_out_bytes = 8;
    assert_int_equal(scsi_task_begin(shared.side[A], &begun), SCSI_BUFFER);
    begun.buffer = list;
    assert_int_equal(scsi_task_run(&begun), SCSI_IO);
    assert_int_equal(begun.request.op, HOST_MOVE);
    assert_int_equal(begun.request.offset_bytes, B);
    scsi_task_abort(&begun);
    shared_serve(B, 3); /* the move that it asked for */
    assert_int_equal(attention(A1), 0);
    assert_int_equal(attention(A2), ACCESS_STATE_CHANGED);
    shared_serve(A, 3);
    assert_int_equal(attention(A1), ACCESS_STATE_CHANGED);
    shared_serve(B, 3);
    assert_int_equal(attention(A1), ACCESS_STATE_CHANGED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, shared_setup, shared_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_answer_is_the_same_through_every_path),
        TEST(every_situation_has_its_states),
        TEST(the_extended_header_says_how_long_a_transition_takes),
        TEST(an_answer_is_cut_at_the_allocation_length),
        TEST(a_move_is_told_to_everybody_once_when_it_has_settled),
        TEST(a_hold_that_ends_where_it_began_is_told_to_nobody),
        TEST(a_takeover_and_a_rejoin_are_told),
        TEST(a_unit_that_does_not_change_has_no_attention),
        TEST(a_host_moves_a_volume_and_the_others_are_told),
        TEST(what_cannot_be_set_is_refused),
        TEST(a_move_that_fails_says_so_and_leaves_nothing_behind),
        TEST(who_asked_and_gave_up_misses_no_later_move),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
