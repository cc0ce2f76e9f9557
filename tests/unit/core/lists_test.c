/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The filling and the active list: they change places when the link is free, and nothing is lost
 * between them. */

#include "mirror/lists.h"

#include "../check_trap.h"

static struct lists lists;
static uint8_t pages[4][PAGE_SIZE_BYTES];

static int set_up(void **state)
{
    static _Alignas(64) uint8_t memory[1 << 20];
    struct arena measure = arena_over(NULL, 0), arena = arena_over(memory, sizeof memory);
    lists_create(&lists, &measure);
    memset(memory, 0, sizeof memory);
    lists_create(&lists, &arena);
    assert_int_equal(measure.used, arena.used);
    lists_reset(&lists, 55);
    return 0;
}

static void add_drop(uint32_t slot)
{
    lists_add(&lists, &(struct header){.type = HEADER_DROP, .slot = slot});
}

static void seal_and_encode(struct batch_head *head)
{
    lists_seal(&lists);
    lists_encode(&lists, head);
}

static void one_header_is_enough_to_travel(void **state)
{
    struct batch_head head = {.sender = 1}, back;
    struct header header;
    add_drop(9);
    seal_and_encode(&head);
    assert_true(lists.active);
    assert_int_equal(lists.iov_count, 1);
    assert_int_equal(lists.length_bytes, BATCH_HEAD_SIZE + HEADER_SIZE);
    assert_int_equal(lists.iov[0].iov_len, lists.length_bytes);
    assert_null(wire_get_batch_head(lists.iov[0].iov_base, lists.length_bytes, &back));
    assert_int_equal(back.stream, 55);
    assert_int_equal(back.number, 1);
    assert_int_equal(back.header_count, 1);
    assert_null(wire_get_header((uint8_t *)lists.iov[0].iov_base + BATCH_HEAD_SIZE, &header));
    assert_int_equal(header.slot, 9);
}

static void an_empty_list_travels_too(void **state)
{
    struct batch_head head = {0}, back;
    seal_and_encode(&head);
    assert_int_equal(lists.length_bytes, BATCH_HEAD_SIZE);
    assert_null(wire_get_batch_head(lists.iov[0].iov_base, BATCH_HEAD_SIZE, &back));
    ASSERT_CHECK_FAILS(lists_seal(&lists)); /* it is on its way, although it is empty */
}

static void while_one_list_travels_the_other_fills(void **state)
{
    struct batch_head head = {0};
    add_drop(1);
    struct list *first = lists_filling(&lists);
    seal_and_encode(&head);
    assert_ptr_equal(lists_active(&lists), first);
    assert_ptr_not_equal(lists_filling(&lists), first);
    add_drop(2);
    add_drop(3);
    assert_int_equal(lists_active(&lists)->count, 1);
    assert_int_equal(lists_active(&lists)->headers[0].slot, 1);
    assert_int_equal(lists_filling(&lists)->count, 2);
    ASSERT_CHECK_FAILS(lists_seal(&lists)); /* one at a time */
    lists_acknowledged(&lists);
    assert_false(lists.active);
    assert_int_equal(first->count, 0);
    seal_and_encode(&head);
    assert_int_equal(lists_active(&lists)->headers[0].slot, 2);
    assert_int_equal(lists_active(&lists)->headers[1].slot, 3);
    assert_ptr_equal(lists_filling(&lists), first);
}

static void batches_are_numbered_from_one_in_their_stream(void **state)
{
    struct batch_head head = {0};
    for (uint64_t number = 1; number < 5; number++) {
        seal_and_encode(&head);
        assert_int_equal(head.number, number);
        assert_int_equal(head.stream, 55);
        lists_acknowledged(&lists);
    }
    lists_reset(&lists, 56);
    seal_and_encode(&head);
    assert_int_equal(head.number, 1);
    assert_int_equal(head.stream, 56);
}

static void neighbouring_data_leaves_as_one_piece(void **state)
{
    struct batch_head head = {0};
    lists_add(&lists, &(struct header){.type = HEADER_WRITE, .sectors = 0xFF});
    lists_seal(&lists);
    lists_add_data(&lists, pages[0], PAGE_SIZE_BYTES);
    lists_add_data(&lists, pages[1], PAGE_SIZE_BYTES); /* follows in memory */
    lists_add_data(&lists, pages[3], 512);
    lists_add_data(&lists, pages[3] + 1024, 512);
    lists_add_data(&lists, pages[2], 512); /* before it: another piece */
    lists_encode(&lists, &head);
    assert_int_equal(lists.iov_count, 5);
    assert_ptr_equal(lists.iov[1].iov_base, pages[0]);
    assert_int_equal(lists.iov[1].iov_len, 2 * PAGE_SIZE_BYTES);
    assert_ptr_equal(lists.iov[2].iov_base, pages[3]);
    assert_int_equal(lists.iov[2].iov_len, 512);
    assert_ptr_equal(lists.iov[3].iov_base, pages[3] + 1024);
    assert_ptr_equal(lists.iov[4].iov_base, pages[2]);
    assert_int_equal(head.data_bytes, 2 * PAGE_SIZE_BYTES + 3 * 512);
    assert_int_equal(lists.length_bytes, BATCH_HEAD_SIZE + HEADER_SIZE + head.data_bytes);
    uint32_t sum = 0;
    for (uint32_t i = 0; i < lists.iov_count; i++)
        sum += (uint32_t)lists.iov[i].iov_len;
    assert_int_equal(sum, lists.length_bytes);
}

/* Data that happens to lie right behind the encoded heads is not joined to them. */
static void data_never_joins_the_heads(void **state)
{
    struct batch_head head = {0};
    lists_seal(&lists);
    lists.iov[0] = (struct iovec){.iov_base = pages[0], .iov_len = PAGE_SIZE_BYTES};
    lists_add_data(&lists, pages[1], 512);
    lists_encode(&lists, &head);
    assert_int_equal(lists.iov_count, 2);
    assert_int_equal(lists.iov[0].iov_len, BATCH_HEAD_SIZE);
}

static void the_worst_batch_fits(void **state)
{
    struct batch_head head = {0};
    for (uint32_t i = 0; i < BATCH_HEADERS; i++)
        add_drop(i);
    ASSERT_CHECK_FAILS(add_drop(BATCH_HEADERS));
    lists_seal(&lists);
    for (uint32_t i = 0; i < BATCH_HEADERS * 4; i++) /* four runs a page, none of them neighbours */
        lists_add_data(&lists, pages[i % 4], 512);
    ASSERT_CHECK_FAILS(lists_add_data(&lists, pages[0], 512));
    lists_encode(&lists, &head);
    assert_int_equal(lists.iov_count, 1 + BATCH_HEADERS * 4);
}

static void writers_leave_room_to_reads_and_both_to_control(void **state)
{
    for (uint32_t i = 0; i < BATCH_HEADERS; i++) {
        uint32_t left = BATCH_HEADERS - i;
        assert_true(lists_have_room(&lists, 1, false) ==
                    (left > BATCH_HEADERS_FOR_READS + BATCH_HEADERS_FOR_CONTROL));
        assert_true(lists_have_room(&lists, 1, true) == (left > BATCH_HEADERS_FOR_CONTROL));
        add_drop(i);
    }
    set_up(state);
    assert_true(lists_have_room(&lists, BATCH_HEADERS - BATCH_HEADERS_FOR_CONTROL, true));
    assert_false(lists_have_room(&lists, BATCH_HEADERS - BATCH_HEADERS_FOR_CONTROL + 1, true));
}

static void a_list_with_requests_waiting_is_neither_emptied_nor_forgotten(void **state)
{
    struct batch_head head = {0};
    add_drop(1);
    lists_filling(&lists)->waiting.count = 1;
    seal_and_encode(&head);
    ASSERT_CHECK_FAILS(lists_acknowledged(&lists));
    ASSERT_CHECK_FAILS(lists_reset(&lists, 1));
    lists_active(&lists)->waiting.count = 0;
    lists_acknowledged(&lists);
    ASSERT_CHECK_FAILS(lists_acknowledged(&lists));
}

static void a_reset_forgets_both_lists(void **state)
{
    struct batch_head head = {0};
    add_drop(1);
    seal_and_encode(&head);
    lists.on_the_way = true;
    add_drop(2);
    lists_reset(&lists, 8);
    assert_false(lists.active || lists.on_the_way);
    assert_int_equal(lists.list[0].count, 0);
    assert_int_equal(lists.list[1].count, 0);
    assert_int_equal(lists.length_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(one_header_is_enough_to_travel, set_up),
        cmocka_unit_test_setup(an_empty_list_travels_too, set_up),
        cmocka_unit_test_setup(while_one_list_travels_the_other_fills, set_up),
        cmocka_unit_test_setup(batches_are_numbered_from_one_in_their_stream, set_up),
        cmocka_unit_test_setup(neighbouring_data_leaves_as_one_piece, set_up),
        cmocka_unit_test_setup(data_never_joins_the_heads, set_up),
        cmocka_unit_test_setup(the_worst_batch_fits, set_up),
        cmocka_unit_test_setup(writers_leave_room_to_reads_and_both_to_control, set_up),
        cmocka_unit_test_setup(a_list_with_requests_waiting_is_neither_emptied_nor_forgotten,
                               set_up),
        cmocka_unit_test_setup(a_reset_forgets_both_lists, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
