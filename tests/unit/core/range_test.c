/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* TRIM and WRITE ZEROES: old data never comes back, nothing else is touched, and a store that
 * cannot is worked around. */

#include "pair.h"

enum { LARGE = 64 * PAGE_SIZE_BYTES };

static uint32_t trim(uint64_t offset, uint64_t length)
{
    return ask(A, HOST_TRIM, V_A, offset, length, 0, 0);
}

static uint32_t zero(uint64_t offset, uint64_t length, uint8_t flags)
{
    return ask(A, HOST_ZERO, V_A, offset, length, 0, flags);
}

static void a_trimmed_range_reads_as_zeros_here_and_after_a_takeover(void **state)
{
    memset(store_at(V_A, 0), 9, 2 * LARGE);
    write_now(A, V_A, PAGE, PAGE, 1);
    write_now(A, V_A, LARGE, PAGE, 2);
    uint32_t handle = trim(0, LARGE);
    settle();
    assert_ok(handle);
    assert_int_equal(pair.asked[STORE_TRIM], 1);
    assert_int_equal(status_of(B)->slots_image,
                     1); /* one RANGE header, and the peer forgot the page too */
    assert_int_equal(status_of(A)->sent.ranges, 1);
    assert_reads(A, V_A, 0, LARGE, 0);
    assert_reads(A, V_A, LARGE, PAGE, 2);
    kill_side(A);
    assert_reads(B, V_A, 0, LARGE, 0);
    assert_reads(B, V_A, LARGE, PAGE, 2);
    assert_reads(B, V_A, LARGE + PAGE, PAGE, 9);
}

static void trim_waits_for_what_is_under_way(void **state)
{
    write_now(A, V_SAFE, PAGE, PAGE, 1);
    pair.side[A].hold_store = true;
    ask(A, HOST_FLUSH, V_SAFE, 0, 0, 0, 0); /* destages the page */
    settle();
    assert_int_equal(pair.asked[STORE_WRITE], 1);
    uint32_t handle = ask(A, HOST_TRIM, V_SAFE, 0, LARGE, 0, 0);
    settle();
    assert_int_equal(pair.asked[STORE_TRIM], 0);
    store_answer(A);
    settle();
    assert_int_equal(pair.asked[STORE_TRIM], 0); /* its flush is still under way */
    pair.side[A].hold_store = false;
    settle();
    assert_ok(handle);
    assert_bytes(store_at(V_SAFE, 0), LARGE, 0);
    assert_reads(A, V_SAFE, 0, LARGE, 0);
}

static void trim_waits_for_a_read_that_is_under_way(void **state)
{
    memset(store_at(V_A, 0), 9, LARGE);
    pair.side[A].hold_store = true;
    uint32_t read = ask_read(A, V_A, 0, PAGE), handle = trim(0, LARGE);
    settle();
    assert_int_equal(pair.asked[STORE_TRIM], 0);
    pair.side[A].hold_store = false;
    settle();
    assert_ok(read);
    assert_ok(handle);
    assert_bytes(pair.seen[read].data, PAGE, 9);
    assert_reads(A, V_A, 0, PAGE, 0);
}

static void other_requests_to_the_range_wait_until_it_is_over(void **state)
{
    memset(store_at(V_A, 0), 9, 2 * LARGE);
    pair.side[A].hold_store = true;
    uint32_t handle = trim(0, LARGE);
    settle();
    uint32_t read = ask_read(A, V_A, 0, PAGE), write = ask_write(A, V_A, PAGE, PAGE, 1);
    uint32_t beside = ask_write(A, V_A, LARGE, PAGE, 2),
             again = zero(PAGE * 8, LARGE - PAGE * 8, 0);
    settle();
    assert_false(is_done(read) || is_done(write) || is_done(again));
    assert_ok(beside);
    assert_int_equal(pair.asked[STORE_TRIM], 1); /* two ranges that overlap: one after the other */
    store_answer(A);
    settle();
    assert_false(is_done(read) || is_done(write)); /* discarded, and not yet durably */
    pair.side[A].hold_store = false;
    pair.side[B].hold_link = true;
    settle();
    assert_false(is_done(handle) || is_done(read)); /* the peer has not forgotten yet */
    pair.side[B].hold_link = false;
    settle();
    assert_ok(handle);
    assert_ok(read);
    assert_ok(write);
    assert_ok(again);
    assert_bytes(pair.seen[read].data, PAGE, 0);
    assert_reads(A, V_A, PAGE, PAGE, 1);
}

static void until_the_store_has_it_durably_a_takeover_finds_the_old_state(void **state)
{
    write_now(A, V_A, PAGE, PAGE, 1);
    pair.side[A].hold_store = true;
    uint32_t handle = trim(0, LARGE);
    settle();
    store_answer(A);
    settle();
    assert_false(is_done(handle));
    kill_side(A);
    assert_reads(B, V_A, PAGE, PAGE, 1);
}

static void ends_that_are_no_whole_pages_are_written(void **state)
{
    memset(store_at(V_A, 0), 9, 2 * LARGE);
    uint32_t handle = zero(1000, LARGE, 0);
    settle();
    assert_ok(handle);
    assert_int_equal(pair.asked[STORE_TRIM], 1);
    assert_reads(A, V_A, 0, 1000, 9);
    assert_reads(A, V_A, 1000, LARGE, 0);
    assert_reads(A, V_A, 1000 + LARGE, PAGE, 9);
    destage_all();
    assert_bytes(store_at(V_A, 0), 1000, 9);
    assert_bytes(store_at(V_A, 1000), LARGE, 0);
    assert_bytes(store_at(V_A, 1000 + LARGE), PAGE, 9);
}

static void a_forced_zeroing_has_its_ends_on_the_store_too(void **state)
{
    write_now(A, V_SAFE, 0, 60 * PAGE, 1);
    destage_all();
    uint32_t zero = ask(A, HOST_ZERO, V_SAFE, 100, 50 * PAGE - 100, 0, HOST_FUA);
    settle();
    assert_ok(zero);
    assert_bytes(store_at(V_SAFE, 100), 50 * PAGE - 100, 0);
    assert_bytes(store_at(V_SAFE, 0), 100, 1);
    assert_bytes(store_at(V_SAFE, 50 * PAGE), PAGE, 1);
}

static void a_trim_leaves_ends_that_are_no_whole_pages_alone(void **state)
{
    memset(store_at(V_A, 0), 9, 2 * LARGE);
    uint32_t handle = trim(1000, LARGE);
    settle();
    assert_ok(handle);
    assert_reads(A, V_A, 0, PAGE, 9);
    assert_reads(A, V_A, PAGE, LARGE - PAGE, 0);
    assert_reads(A, V_A, LARGE, PAGE, 9);
}

static void the_volumes_last_part_of_a_page_counts_as_a_whole_one(void **state)
{
    uint64_t size = pair.config.volumes[V_B].size_bytes, from = VOLUME_BYTES - LARGE;
    memset(store_at(V_B, from), 9, LARGE);
    uint32_t handle = ask(B, HOST_TRIM, V_B, from, size - from, 0, 0);
    settle();
    assert_ok(handle);
    assert_bytes(store_at(V_B, from), size - from, 0);
    assert_bytes(store_at(V_B, size), 3 * SECTOR_SIZE, 9); /* beyond the volume */
}

static void a_small_write_zeroes_goes_through_the_cache(void **state)
{
    memset(store_at(V_A, 0), 9, LARGE);
    uint32_t handle = zero(0, RANGE_SMALL_PAGES * PAGE, 0);
    settle();
    assert_ok(handle);
    assert_int_equal(pair.asked[STORE_TRIM] + pair.asked[STORE_ZERO] + pair.asked[STORE_READ], 0);
    assert_reads(A, V_A, 0, RANGE_SMALL_PAGES * PAGE, 0);
    assert_reads(A, V_A, RANGE_SMALL_PAGES * PAGE, PAGE, 9);
}

static void blocks_that_must_stay_allocated_are_zeroed_and_not_discarded(void **state)
{
    uint32_t handle = zero(0, LARGE, HOST_NO_HOLE);
    settle();
    assert_ok(handle);
    assert_int_equal(pair.asked[STORE_ZERO], 1);
    assert_int_equal(pair.asked[STORE_TRIM], 0);
}

static void zero_falls_back_to_writes_when_the_store_fails(void **state)
{
    memset(store_at(V_A, 0), 9, 2 * LARGE);
    write_now(A, V_A, PAGE, PAGE, 1);
    pair.answer[STORE_TRIM] = STORE_ERROR;
    uint32_t handle = zero(0, LARGE, 0);
    settle();
    assert_ok(handle);
    assert_reads(A, V_A, 0, LARGE, 0);
    assert_reads(A, V_A, LARGE, PAGE, 9);
    kill_side(A);
    assert_reads(B, V_A, 0, LARGE, 0);
    assert_int_equal(status_of(A)->destage.errors, 1);
}

static void a_trim_that_the_store_fails_still_leaves_zeros(void **state)
{
    memset(store_at(V_A, 0), 9, LARGE);
    write_now(A, V_A, PAGE, PAGE, 1);
    pair.answer[STORE_FLUSH] = STORE_NO_SPACE;
    uint32_t handle = trim(0, LARGE);
    for (int i = 0; i < 20 && !is_done(handle); i++) {
        side_step(A);
        side_step(B);
        pair.now_us++;
    }
    pair.answer[STORE_FLUSH] = STORE_DONE;
    settle();
    assert_ok(handle);
    assert_reads(A, V_A, 0, LARGE, 0);
}

static void where_the_store_cannot_zero_a_trim_does_nothing_and_zero_writes(void **state)
{
    pair_destroy(state);
    pair_defaults();
    pair.config.stores[0].can_zero = false;
    pair_create();
    pair_up();
    memset(store_at(V_A, 0), 9, LARGE);
    assert_ok(trim(0, LARGE));
    assert_reads(A, V_A, 0, LARGE, 9);
    uint32_t handle = zero(0, 20 * PAGE, 0);
    settle();
    assert_ok(handle);
    assert_int_equal(pair.asked[STORE_TRIM] + pair.asked[STORE_ZERO], 0);
    assert_reads(A, V_A, 0, 20 * PAGE, 0);
}

static void nothing_in_the_range_is_destaged_meanwhile(void **state)
{
    write_now(A, V_A, PAGE, PAGE, 1);
    pair.side[A].hold_store = true;
    uint32_t handle = trim(0, LARGE);
    settle();
    ask(A, HOST_FLUSH, V_SAFE, 0, 0, 0, 0); /* eager now */
    pass_ms(100);
    assert_int_equal(pair.asked[STORE_WRITE], 0);
    pair.side[A].hold_store = false;
    pass_ms(100);
    assert_ok(handle);
    assert_bytes(store_at(V_A, 0), LARGE, 0);
}

static void more_ranges_than_there_are_places_wait_their_turn(void **state)
{
    uint32_t handles[RANGE_OPS + 4];
    pair.side[A].hold_store = true;
    for (uint32_t i = 0; i < RANGE_OPS + 4; i++)
        handles[i] = trim(i * 2ull * PAGE, PAGE);
    settle();
    assert_int_equal(pair.asked[STORE_TRIM], RANGE_OPS);
    pair.side[A].hold_store = false;
    settle();
    for (uint32_t i = 0; i < RANGE_OPS + 4; i++)
        assert_ok(handles[i]);
    assert_int_equal(pair.asked[STORE_TRIM], RANGE_OPS + 4);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, pair_set_up, pair_destroy)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_trimmed_range_reads_as_zeros_here_and_after_a_takeover),
        TEST(trim_waits_for_what_is_under_way),
        TEST(trim_waits_for_a_read_that_is_under_way),
        TEST(other_requests_to_the_range_wait_until_it_is_over),
        TEST(until_the_store_has_it_durably_a_takeover_finds_the_old_state),
        TEST(ends_that_are_no_whole_pages_are_written),
        TEST(a_forced_zeroing_has_its_ends_on_the_store_too),
        TEST(a_trim_leaves_ends_that_are_no_whole_pages_alone),
        TEST(the_volumes_last_part_of_a_page_counts_as_a_whole_one),
        TEST(a_small_write_zeroes_goes_through_the_cache),
        TEST(blocks_that_must_stay_allocated_are_zeroed_and_not_discarded),
        TEST(zero_falls_back_to_writes_when_the_store_fails),
        TEST(a_trim_that_the_store_fails_still_leaves_zeros),
        TEST(where_the_store_cannot_zero_a_trim_does_nothing_and_zero_writes),
        TEST(nothing_in_the_range_is_destaged_meanwhile),
        TEST(more_ranges_than_there_are_places_wait_their_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
