/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What becomes of slots: who may change which bytes, which header says what, and what a destage
 * costs. */

#include "pair.h"

static void a_page_written_again_before_it_travels_is_one_header(void **state)
{
    pair.side[B].hold_link = true;
    ask_write(A, V_A, 100 * PAGE, PAGE, 1);
    side_step(A); /* this one travels, so the next ones gather */
    ask_write(A, V_A, 0, 512, 1);
    ask_write(A, V_A, 512, 512, 2);
    uint32_t last = ask_write(A, V_A, 0, 512, 3);
    assert_int_equal(status_of(A)->sent.headers_waiting, 1);
    assert_int_equal(status_of(A)->sent.folds, 2);
    pair.side[B].hold_link = false;
    settle();
    assert_ok(last);
    kill_side(A);
    assert_reads(B, V_A, 0, 512, 3);
    assert_reads(B, V_A, 512, 512, 2);
}

static void an_overwrite_in_transit_takes_a_fresh_slot(void **state)
{
    pair.side[B].hold_link = true;
    uint32_t first = ask_write(A, V_A, 0, PAGE, 1);
    side_step(A);
    uint32_t second = ask_write(A, V_A, 0, 512, 2);
    assert_int_equal(status_of(A)->slots_dirty, 2);
    pair.side[B].hold_link = false;
    side_step(B);
    side_step(A);
    assert_ok(first); /* with the bytes of then: their checksum was right */
    assert_false(is_done(second));
    settle();
    assert_ok(second);
    assert_int_equal(status_of(A)->slots_dirty, 1);
    assert_int_equal(status_of(B)->slots_image, 1);
    assert_int_equal(status_of(B)->received.refused, 0);
    kill_side(A);
    assert_reads(B, V_A, 0, 512, 2);
    assert_reads(B, V_A, 512, PAGE - 512, 1);
}

static void an_overwrite_while_it_is_destaged_takes_a_fresh_slot(void **state)
{
    write_now(A, V_SAFE, 0, PAGE, 1);
    pair.side[A].hold_store = true;
    uint32_t flush = ask(A, HOST_FLUSH, V_SAFE, 0, 0, 0, 0);
    settle();
    write_now(A, V_SAFE, 0, PAGE, 2);
    store_answer(A); /* the store gets the bytes of then */
    assert_bytes(store_at(V_SAFE, 0), PAGE, 1);
    pair.side[A].hold_store = false;
    settle();
    assert_ok(flush);
    assert_reads(A, V_SAFE, 0, PAGE, 2);
    destage_all();
    assert_bytes(store_at(V_SAFE, 0), PAGE, 2);
}

static void a_destage_that_fails_after_an_overwrite_holds_nothing_up(void **state)
{
    write_now(A, V_SAFE, 0, PAGE, 1);
    pair.side[A].hold_store = true;
    uint32_t flush = ask(A, HOST_FLUSH, V_SAFE, 0, 0, 0, 0);
    settle();
    write_now(A, V_SAFE, 0, PAGE, 2);
    pair.answer[STORE_WRITE] = STORE_ERROR;
    store_answer(A);
    pair.answer[STORE_WRITE] = STORE_DONE;
    pair.side[A].hold_store = false;
    pass_ms(1000);
    assert_ok(flush);
    destage_all();
    assert_bytes(store_at(V_SAFE, 0), PAGE, 2);
}

static void a_destage_sends_no_message(void **state)
{
    for (uint64_t page = 0; page < 20; page++)
        write_now(A, V_SAFE, page * PAGE, PAGE, 1);
    uint64_t headers = status_of(A)->sent.headers, writes = status_of(A)->sent.writes;
    uint32_t batches = pair.side[A].batches_sent;
    uint32_t flush = ask(A, HOST_FLUSH, V_SAFE, 0, 0, 0, 0);
    settle();
    assert_ok(flush);
    assert_int_equal(status_of(A)->slots_dirty, 0);
    assert_int_equal(pair.side[A].batches_sent, batches);
    assert_int_equal(status_of(A)->sent.headers, headers);
    assert_int_equal(status_of(A)->sent.writes, writes);
    assert_int_equal(status_of(A)->sent.drops, 0);
    assert_int_equal(status_of(A)->flush_messages, 0);
    assert_int_equal(status_of(B)->slots_image, 20); /* the peer still holds them: nobody told it */
}

static void fill_cache_with_clean_pages(void)
{
    for (uint64_t page = 0; page < pair.config.slot_count; page += 16) {
        write_now(A, V_A, page * PAGE, 16 * PAGE, 1);
        destage_all();
    }
    assert_int_equal(status_of(A)->slots_clean, pair.config.slot_count);
}

static void a_read_that_takes_a_once_mirrored_slot_tells_the_peer_to_drop_it(void **state)
{
    fill_cache_with_clean_pages();
    uint64_t image = status_of(B)->slots_image;
    assert_reads(A, V_A, 900 * PAGE, PAGE, 0);
    assert_int_equal(status_of(A)->sent.drops, 1);
    settle();
    assert_int_equal(status_of(B)->received.drops, 1);
    assert_int_equal(status_of(B)->slots_image, image - 1);
}

static void a_write_that_takes_a_once_mirrored_slot_needs_no_drop(void **state)
{
    fill_cache_with_clean_pages();
    uint64_t image = status_of(B)->slots_image;
    write_now(A, V_A, 900 * PAGE, PAGE, 2);
    assert_int_equal(status_of(A)->sent.drops, 0);
    assert_int_equal(status_of(B)->slots_image, image); /* its own header took the slot */
    kill_side(A);
    assert_reads(B, V_A, 900 * PAGE, PAGE, 2);
    assert_reads(B, V_A, 0, 128 * PAGE, 1);
}

static void a_slot_that_was_never_mirrored_is_given_up_without_a_word(void **state)
{
    for (uint64_t page = 0; page < 3 * pair.config.slot_count; page++)
        assert_reads(A, V_A, page * PAGE, PAGE, 0);
    assert_int_equal(status_of(A)->sent.drops, 0);
}

static void an_old_version_never_comes_back_over_a_drop_and_a_rewrite(void **state)
{
    fill_cache_with_clean_pages();
    for (uint64_t page = 0; page < pair.config.slot_count; page++)
        assert_reads(A, V_A, (512 + page) * PAGE, PAGE, 0); /* all dropped */
    write_now(A, V_A, 3 * PAGE, 512, 7);
    settle();
    kill_side(A);
    assert_reads(B, V_A, 3 * PAGE, 512, 7);
    assert_reads(B, V_A, 3 * PAGE + 512, PAGE - 512, 1); /* from the store: it was destaged */
}

static void an_adopted_page_is_destaged(void **state)
{
    write_now(A, V_A, 0, 4 * PAGE, 1);
    assert_bytes(store_at(V_A, 0), PAGE, 0);
    kill_side(A);
    pass_ms(100);
    assert_bytes(store_at(V_A, 0), 4 * PAGE, 1);
    assert_int_equal(status_of(B)->slots_dirty, 0);
    pass_ms(1000);
    assert_false(pair.record.unclean); /* and the register says so */
    assert_reads(B, V_A, 0, 4 * PAGE, 1);
}

static void a_flush_after_a_takeover_waits_for_adopted_pages(void **state)
{
    write_now(A, V_A, 0, 4 * PAGE, 1);
    pair.side[B].hold_store = true;
    kill_side(A);
    uint32_t flush = ask(B, HOST_FLUSH, V_A, 0, 0, 0, 0);
    pass_ms(3000);
    assert_false(is_done(flush));
    assert_true(pair.record.unclean); /* nor may the register say that the stores hold everything */
    pair.side[B].hold_store = false;
    settle();
    assert_ok(flush);
    assert_bytes(store_at(V_A, 0), 4 * PAGE, 1);
}

static void an_adopted_page_may_be_written(void **state)
{
    write_now(A, V_A, 0, PAGE, 1);
    pair.side[B].hold_store = true;
    kill_side(A);
    settle(); /* its destage is under way */
    uint32_t write = ask_write(B, V_A, 512, 512, 2);
    settle();
    assert_false(is_done(write));
    pair.side[B].hold_store = false;
    settle();
    assert_ok(write);
    assert_bytes(store_at(V_A, 0), 512, 1);
    assert_bytes(store_at(V_A, 512), 512, 2);
    assert_bytes(store_at(V_A, 1024), PAGE - 1024, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, pair_set_up, pair_destroy)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_page_written_again_before_it_travels_is_one_header),
        TEST(an_overwrite_in_transit_takes_a_fresh_slot),
        TEST(an_overwrite_while_it_is_destaged_takes_a_fresh_slot),
        TEST(a_destage_that_fails_after_an_overwrite_holds_nothing_up),
        TEST(a_destage_sends_no_message),
        TEST(a_read_that_takes_a_once_mirrored_slot_tells_the_peer_to_drop_it),
        TEST(a_write_that_takes_a_once_mirrored_slot_needs_no_drop),
        TEST(a_slot_that_was_never_mirrored_is_given_up_without_a_word),
        TEST(an_old_version_never_comes_back_over_a_drop_and_a_rewrite),
        TEST(an_adopted_page_is_destaged),
        TEST(a_flush_after_a_takeover_waits_for_adopted_pages),
        TEST(an_adopted_page_may_be_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
