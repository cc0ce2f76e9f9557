/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What hosts see: when a request is over, what it waits for, and what a read may return. */

#include "pair.h"

static void a_write_is_over_when_the_peer_has_it(void **state)
{
    pair.side[B].hold_link = true;
    uint32_t handle = ask_write(A, V_A, 0, PAGE, 1);
    settle();
    assert_false(is_done(handle));
    assert_int_equal(status_of(B)->slots_image, 0);
    pair.side[B].hold_link = false;
    settle();
    assert_ok(handle);
    assert_int_equal(status_of(B)->slots_image, 1);
    assert_int_equal(pair.asked[STORE_WRITE], 0);
}

static void a_read_of_an_unmirrored_page_waits(void **state)
{
    pair.side[B].hold_link = true;
    uint32_t write = ask_write(A, V_A, 0, PAGE, 1);
    uint32_t read = ask_read(A, V_A, 100, 50);
    settle();
    assert_false(is_done(read));
    uint32_t travelling = ask_read(A, V_A, 0, PAGE);
    settle();
    assert_false(is_done(travelling));
    pair.side[B].hold_link = false;
    settle();
    assert_ok(write);
    assert_ok(read);
    assert_ok(travelling);
    assert_bytes(pair.seen[read].data, 50, 1);
    assert_bytes(pair.seen[travelling].data, PAGE, 1);
}

static void a_read_that_waited_gets_its_version_although_a_newer_one_is_under_way(void **state)
{
    pair.side[B].hold_link = true;
    ask_write(A, V_A, 0, PAGE, 1);
    side_step(A); /* travels */
    uint32_t read = ask_read(A, V_A, 0, PAGE);
    uint32_t newer = ask_write(A, V_A, 0, PAGE, 2);
    settle();
    assert_false(is_done(read));
    pair.side[B].hold_link = false;
    side_step(B);
    side_step(A); /* the first is acknowledged, the second travels */
    assert_ok(read);
    assert_false(is_done(newer));
    assert_bytes(pair.seen[read].data, PAGE, 1);
    settle();
    assert_reads(A, V_A, 0, PAGE, 2);
}

static void a_hit_is_over_at_once(void **state)
{
    write_now(A, V_A, 0, PAGE, 7);
    uint32_t read = ask_read(A, V_A, 512, 1024);
    assert_ok(read);
    assert_bytes(pair.seen[read].data, 1024, 7);
    assert_int_equal(pair.asked[STORE_READ], 0);
}

static void a_miss_reads_the_store_once_for_all_its_pages(void **state)
{
    memset(store_at(V_A, 0), 9, 8 * PAGE);
    assert_reads(A, V_A, 0, 8 * PAGE, 9);
    assert_int_equal(pair.asked[STORE_READ], 1);
    assert_reads(A, V_A, 0, 8 * PAGE, 9);
    assert_int_equal(pair.asked[STORE_READ], 1);
}

static void a_512_byte_write_to_an_absent_page_reads_nothing(void **state)
{
    memset(store_at(V_A, 0), 9, PAGE);
    write_now(A, V_A, 1024, 512, 1);
    assert_int_equal(pair.asked[STORE_READ], 0);
    assert_reads(A, V_A, 1024, 512, 1);
    assert_int_equal(pair.asked[STORE_READ], 0);
    assert_reads(A, V_A, 0, 1024, 9);
    assert_int_equal(pair.asked[STORE_READ], 1); /* now it fetches what is missing */
    assert_reads(A, V_A, 1024, 512, 1);
    assert_reads(A, V_A, 1536, PAGE - 1536, 9);
    destage_all();
    assert_bytes(store_at(V_A, 0), 1024, 9);
    assert_bytes(store_at(V_A, 1024), 512, 1);
    assert_bytes(store_at(V_A, 1536), PAGE - 1536, 9);
}

static void a_write_of_part_of_a_sector_fetches_first(void **state)
{
    memset(store_at(V_A, 0), 9, PAGE);
    pair.side[A].hold_store = true;
    uint32_t write = ask_write(A, V_A, 700, 100, 1);
    settle();
    assert_int_equal(pair.asked[STORE_READ], 1);
    assert_false(is_done(write));
    pair.side[A].hold_store = false;
    settle();
    assert_ok(write);
    assert_reads(A, V_A, 0, 700, 9);
    assert_reads(A, V_A, 700, 100, 1);
    assert_reads(A, V_A, 800, PAGE - 800, 9);
}

static void a_write_meanwhile_is_newer_than_what_a_fetch_brings(void **state)
{
    memset(store_at(V_A, 0), 9, PAGE);
    pair.side[A].hold_store = true;
    uint32_t read = ask_read(A, V_A, 0, PAGE);
    settle();
    uint32_t write = ask_write(A, V_A, 512, 512, 1);
    settle();
    assert_ok(write);
    pair.side[A].hold_store = false;
    settle();
    assert_ok(read);
    assert_reads(A, V_A, 0, 512, 9);
    assert_reads(A, V_A, 512, 512, 1);
    assert_reads(A, V_A, 1024, PAGE - 1024, 9);
}

static void a_failed_read_is_an_error_and_the_next_one_tries_again(void **state)
{
    memset(store_at(V_A, 0), 9, PAGE);
    pair.answer[STORE_READ] = STORE_ERROR;
    uint32_t read = ask_read(A, V_A, 0, PAGE);
    settle();
    assert_true(is_done(read));
    assert_int_equal(pair.seen[read].result, HOST_IO_ERROR);
    assert_int_equal(status_of(A)->destage.errors, 1);
    pair.answer[STORE_READ] = STORE_DONE;
    assert_reads(A, V_A, 0, PAGE, 9);
}

static void a_flush_is_over_at_once_while_two_memories_hold_the_data(void **state)
{
    write_now(A, V_A, 0, PAGE, 1);
    assert_ok(ask(A, HOST_FLUSH, V_A, 0, 0, 0, 0));
    assert_int_equal(pair.asked[STORE_WRITE], 0);
}

static void a_flush_with_flush_destage_waits(void **state)
{
    write_now(A, V_SAFE, 0, PAGE, 1);
    pair.side[A].hold_store = true;
    uint32_t flush = ask(A, HOST_FLUSH, V_SAFE, 0, 0, 0, 0);
    settle();
    assert_false(is_done(flush));
    assert_int_equal(pair.asked[STORE_WRITE], 1);
    assert_int_equal(pair.asked[STORE_FLUSH], 0);
    store_answer(A); /* written, and not yet durable */
    settle();
    assert_false(is_done(flush));
    assert_int_equal(pair.asked[STORE_FLUSH], 1);
    pair.side[A].hold_store = false;
    settle();
    assert_ok(flush);
    assert_bytes(store_at(V_SAFE, 0), PAGE, 1);
}

static void a_forced_write_with_flush_destage_waits_for_the_store(void **state)
{
    pair.side[A].hold_store = true;
    uint32_t plain = ask_write(A, V_SAFE, 8 * PAGE, PAGE, 2);
    uint32_t forced = ask(A, HOST_WRITE, V_SAFE, 0, PAGE, 1, HOST_FUA);
    settle();
    assert_ok(plain);
    assert_false(is_done(forced));
    pair.side[A].hold_store = false;
    settle();
    assert_ok(forced);
    assert_bytes(store_at(V_SAFE, 0), PAGE, 1);
    uint32_t mirrored = ask(A, HOST_WRITE, V_A, 0, PAGE, 1,
                            HOST_FUA); /* two memories are as safe as a FLUSH there */
    settle();
    assert_ok(mirrored);
    assert_bytes(store_at(V_A, 0), PAGE, 0);
}

static void writes_wait_in_arrival_order_above_the_high_watermark_and_reads_go_on(void **state)
{
    uint32_t high = pair.config.slot_count * pair.config.dirty_high_percent / 100, first, others[8];
    memset(store_at(V_A, 2000 * 512), 9, PAGE);
    pair.side[A].hold_store = true;
    for (uint32_t page = 0; page < high; page++)
        write_now(A, V_A, page * 2ull * PAGE, PAGE, 1); /* none are neighbours */
    first = ask_write(A, V_BLOCKS, 0, 2 * PAGE, 2);
    for (uint32_t i = 0; i < 8; i++)
        others[i] =
            ask_write(A, V_BLOCKS, 0, PAGE, (uint8_t)(3 + i)); /* the same page: order shows */
    settle();
    assert_false(is_done(first));
    assert_int_equal(status_of(A)->requests_waiting_for_room, 9);
    uint32_t hit = ask_read(A, V_A, 0, PAGE);
    assert_ok(hit);
    uint32_t again =
        ask_write(A, V_A, 0, 512, 1); /* to a page that has its room: still behind the others */
    pair.side[A].hold_store = false;
    uint32_t miss = ask_read(A, V_A, 900 * PAGE, PAGE);
    for (int i = 0; i < 50; i++)
        settle();
    assert_ok(miss);
    assert_ok(first);
    for (uint32_t i = 0; i < 8; i++)
        assert_ok(others[i]);
    assert_ok(again);
    assert_reads(A, V_BLOCKS, 0, PAGE, 10);
    assert_reads(A, V_BLOCKS, PAGE, PAGE, 2);
}

static void the_one_that_waits_longest_gets_the_room(void **state)
{
    uint32_t high = pair.config.slot_count * pair.config.dirty_high_percent / 100, waiting[6];
    pair.side[A].hold_store = true;
    for (uint32_t page = 0; page < high; page++)
        write_now(A, V_A, page * 2ull * PAGE, PAGE, 1);
    for (uint32_t i = 0; i < 6; i++)
        waiting[i] = ask_write(A, V_BLOCKS, i * 4ull * PAGE, PAGE, 2);
    for (int turn = 0; turn < 4000 && !is_done(waiting[5]); turn++) {
        if (turn % 8 == 0)
            store_answer(A);
        side_step(A);
        side_step(B);
        pair.now_us++;
        for (int i = 1; i < 6; i++)
            assert_true(!is_done(waiting[i]) || is_done(waiting[i - 1]));
    }
    assert_ok(waiting[5]);
}

static void a_newcomer_does_not_pass_those_that_wait_for_room(void **state)
{
    uint32_t high = pair.config.slot_count * pair.config.dirty_high_percent / 100;
    pair.side[A].hold_store = true;
    for (uint32_t page = 0; page < high; page++)
        write_now(A, V_A, page * 2ull * PAGE, PAGE, 1);
    uint32_t first = ask_write(A, V_BLOCKS, 0, PAGE, 2);
    settle();
    assert_false(is_done(first));
    for (int i = 0; i < 50 && !is_done(first); i++) {
        store_answer(A);
        if (status_of(A)->slots_dirty < high)
            break;
        settle();
    }
    assert_true(status_of(A)->slots_dirty < high); /* there is room, and nobody has been told yet */
    assert_false(is_done(first));
    uint32_t newcomer = ask_write(A, V_BLOCKS, 0, PAGE, 3);
    pair.side[A].hold_store = false;
    settle();
    assert_ok(first);
    assert_ok(newcomer);
    assert_reads(A, V_BLOCKS, 0, PAGE, 3);
}

static void outside_the_volume_is_refused_at_once(void **state)
{
    static const struct {
        uint8_t volume;
        uint64_t offset, length;
        bool good;
    } rows[] = {
        {V_A, VOLUME_BYTES - 1, 1, true},
        {V_A, VOLUME_BYTES, 1, false},
        {V_A, VOLUME_BYTES - 1, 2, false},
        {V_A, UINT64_MAX, 2, false},
        {V_A, 1, UINT64_MAX, false},
        {V_A, VOLUME_BYTES, 0, true},
        {V_A, VOLUME_BYTES + 1, 0, false},
        {VOLUMES, 0, 1, false},
        {255, 0, 1, false},
    };
    uint8_t bytes[8];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct host_request request = {.op = HOST_READ,
                                       .handle = pair.request_count++,
                                       .volume = rows[i].volume,
                                       .offset_bytes = rows[i].offset,
                                       .length_bytes = rows[i].length,
                                       .data = bytes};
        struct host_outcome outcome = array_host(pair.side[A].array, pair.now_us, &request);
        assert_true((outcome.complete && outcome.result == HOST_RANGE) == !rows[i].good);
        settle();
    }
}

static void the_last_page_of_a_volume_may_be_part_of_one(void **state)
{
    uint64_t size = pair.config.volumes[V_B].size_bytes;
    memset(store_at(V_B, size), 0x77, 3 * SECTOR_SIZE); /* another's bytes */
    memset(store_at(V_B, size - 5 * SECTOR_SIZE), 9, 5 * SECTOR_SIZE);
    assert_reads(B, V_B, size - 5 * SECTOR_SIZE, 5 * SECTOR_SIZE, 9);
    write_now(B, V_B, size - 100, 100, 1);
    assert_reads(B, V_B, size - 100, 100, 1);
    assert_reads(B, V_B, size - 512, 412, 9);
    destage_all();
    assert_bytes(store_at(V_B, size - 100), 100, 1);
    assert_bytes(store_at(V_B, size), 3 * SECTOR_SIZE, 0x77);
}

static void the_other_controllers_volume_is_refused(void **state)
{
    uint32_t read = ask_read(B, V_A, 0, PAGE), write = ask_write(A, V_B, 0, PAGE, 1);
    assert_true(is_done(read) && is_done(write));
    assert_int_equal(pair.seen[read].result, HOST_NOT_OWNER);
    assert_int_equal(pair.seen[write].result, HOST_NOT_OWNER);
}

static void more_requests_than_configured_are_busy(void **state)
{
    pair.side[B].hold_link = true;
    uint32_t last = 0;
    for (uint32_t i = 0; i <= pair.config.request_limit; i++)
        last = ask_write(A, V_A, 0, 512, 1);
    assert_true(is_done(last));
    assert_int_equal(pair.seen[last].result, HOST_BUSY);
    assert_false(is_done(last - 1));
    pair.side[B].hold_link = false;
    settle();
    assert_ok(last - 1);
}

static void data_that_is_held_may_be_moved(void **state)
{
    uint8_t elsewhere[PAGE];
    memset(store_at(V_A, 0), 9, PAGE);
    uint32_t read = ask_read(A, V_A, 0, PAGE);
    array_host_move_data(pair.side[A].array, elsewhere);
    settle();
    assert_ok(read);
    assert_bytes(elsewhere, PAGE, 9);
    assert_bytes(pair.seen[read].data, PAGE, 0xC3);
}

static void a_solo_write_is_over_when_it_is_durable(void **state)
{
    kill_side(B);
    assert_int_equal(status_of(A)->role, ROLE_SOLO);
    pair.side[A].hold_store = true;
    uint32_t write = ask_write(A, V_A, 0, PAGE, 1), read = ask_read(A, V_A, 0, PAGE);
    settle();
    store_answer(A);
    settle();
    assert_false(is_done(write));
    assert_false(is_done(read)); /* what could still be lost is not shown */
    pair.side[A].hold_store = false;
    settle();
    assert_ok(write);
    assert_ok(read);
    assert_bytes(store_at(V_A, 0), PAGE, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, pair_set_up, pair_destroy)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_write_is_over_when_the_peer_has_it),
        TEST(a_read_of_an_unmirrored_page_waits),
        TEST(a_read_that_waited_gets_its_version_although_a_newer_one_is_under_way),
        TEST(a_hit_is_over_at_once),
        TEST(a_miss_reads_the_store_once_for_all_its_pages),
        TEST(a_512_byte_write_to_an_absent_page_reads_nothing),
        TEST(a_write_of_part_of_a_sector_fetches_first),
        TEST(a_write_meanwhile_is_newer_than_what_a_fetch_brings),
        TEST(a_failed_read_is_an_error_and_the_next_one_tries_again),
        TEST(a_flush_is_over_at_once_while_two_memories_hold_the_data),
        TEST(a_flush_with_flush_destage_waits),
        TEST(a_forced_write_with_flush_destage_waits_for_the_store),
        TEST(writes_wait_in_arrival_order_above_the_high_watermark_and_reads_go_on),
        TEST(the_one_that_waits_longest_gets_the_room),
        TEST(a_newcomer_does_not_pass_those_that_wait_for_room),
        TEST(outside_the_volume_is_refused_at_once),
        TEST(the_last_page_of_a_volume_may_be_part_of_one),
        TEST(the_other_controllers_volume_is_refused),
        TEST(more_requests_than_configured_are_busy),
        TEST(data_that_is_held_may_be_moved),
        TEST(a_solo_write_is_over_when_it_is_durable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
