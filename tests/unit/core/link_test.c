/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Our side of the link, and what goes to the stores: one message at a time, sent again until it is
 * answered; destages by age and by watermark, each with the time until which it may be submitted.
 */

#include "pair.h"

static void what_comes_while_one_batch_travels_goes_as_the_next(void **state)
{
    pair.side[B].hold_link = true;
    uint32_t before = pair.side[A].batches_sent, handles[20];
    for (uint32_t i = 0; i < 20; i++) {
        handles[i] = ask_write(A, V_A, i * 2ull * PAGE, PAGE, 1);
        side_step(A);
    }
    assert_int_equal(pair.side[A].batches_sent, before + 1);
    pair.side[B].hold_link = false;
    settle();
    assert_int_equal(pair.side[A].batches_sent, before + 2); /* one header, and nineteen */
    for (uint32_t i = 0; i < 20; i++)
        assert_ok(handles[i]);
}

static void an_unanswered_batch_is_sent_again_after_the_session_is_made_anew(void **state)
{
    pair.side[B].hold_link = true;
    uint32_t write = ask_write(A, V_A, 0, PAGE, 1);
    settle();
    pair.side[A].down_due = true; /* b never got it */
    settle();
    assert_false(is_done(write));
    pair.side[B].hold_link = false;
    pair.side[A].up_due = true;
    settle();
    assert_ok(write);
    assert_int_equal(status_of(A)->sent.resends, 1);
    assert_int_equal(status_of(A)->role, ROLE_PAIRED);
    assert_int_equal(status_of(B)->slots_image, 1);
}

static void a_batch_whose_answer_was_lost_is_applied_once(void **state)
{
    uint32_t write = ask_write(A, V_A, 0, PAGE, 1);
    side_step(A);
    side_step(B); /* applied, and the answer is on its way */
    uint64_t applied = status_of(B)->received.batches;
    pair.side[A].down_due = pair.side[A].up_due = true;
    settle();
    assert_ok(write);
    assert_int_equal(status_of(B)->received.batches, applied);
    assert_int_equal(status_of(A)->sent.resends, 1);
}

static void a_refused_batch_makes_a_new_session(void **state)
{
    ask_write(A, V_A, 0, PAGE, 1);
    side_step(A);
    pair.side[B].message_due = false;
    array_on_status(pair.side[A].array, pair.now_us, false);
    const struct actions *actions = array_pump(pair.side[A].array, pair.now_us);
    assert_true(actions->link_reset);
    assert_false(actions->send_wanted); /* not before the peer has been greeted */
    assert_int_equal(status_of(A)->sent.refused, 1);
}

static void an_idle_link_carries_empty_batches_so_that_leases_live(void **state)
{
    uint32_t before = pair.side[A].batches_sent;
    pass_ms(3000);
    assert_int_equal(status_of(A)->role, ROLE_PAIRED);
    assert_int_equal(status_of(B)->role, ROLE_PAIRED);
    assert_in_range(pair.side[A].batches_sent - before, 11, 13); /* four a lease */
}

static void every_store_operation_ends_with_the_lease(void **state)
{
    uint64_t lease_end = pair.now_us + (uint64_t)status_of(A)->lease_left_us;
    pair.side[A].hold_store = true;
    ask_read(A, V_A, 0, PAGE);
    side_step(A);
    assert_int_equal(pair.side[A].op_count, 1);
    assert_true(pair.side[A].ops[0].not_after_us == lease_end);
    pair.side[A].hold_store = false;
    settle();
    kill_side(B);
    pair.side[A].hold_store = true;
    ask_read(A, V_A, 50 * PAGE, PAGE);
    side_step(A);
    assert_true(pair.side[A].ops[pair.side[A].op_count - 1].not_after_us == UINT64_MAX);
}

static void a_read_that_was_not_sent_for_the_lease_goes_on_later(void **state)
{
    memset(store_at(V_A, 0), 9, PAGE);
    pair.answer[STORE_READ] = STORE_NOT_SENT;
    uint32_t read = ask_read(A, V_A, 0, PAGE);
    side_step(A);
    side_step(A);
    assert_false(is_done(read));
    pair.answer[STORE_READ] = STORE_DONE;
    settle();
    assert_ok(read);
    assert_bytes(pair.seen[read].data, PAGE, 9);
}

static void after_its_lease_a_controller_asks_the_stores_for_nothing(void **state)
{
    write_now(A, V_A, 0, PAGE, 1);
    pair.side[A].hold_register = true;
    pair.side[B].dead = true;
    pass_ms(1200);
    assert_int_equal(status_of(A)->role, ROLE_RACING);
    uint32_t asked = pair.asked[STORE_WRITE] + pair.asked[STORE_READ];
    uint32_t read = ask_read(A, V_A, 50 * PAGE, PAGE), hit = ask_read(A, V_A, 0, PAGE);
    pass_ms(10000);
    assert_int_equal(pair.asked[STORE_WRITE] + pair.asked[STORE_READ], asked);
    assert_false(is_done(read) || is_done(hit)); /* held, not failed */
}

static void a_page_is_destaged_when_it_is_old(void **state)
{
    write_now(A, V_A, 0, PAGE, 1);
    pass_ms(4900);
    assert_int_equal(pair.asked[STORE_WRITE], 0);
    pass_ms(200);
    assert_int_equal(pair.asked[STORE_WRITE], 1);
    assert_bytes(store_at(V_A, 0), PAGE, 1);
}

static void above_the_low_watermark_pages_are_destaged_ahead_of_need(void **state)
{
    uint32_t low = pair.config.slot_count * pair.config.dirty_low_percent / 100;
    for (uint32_t page = 0; page < low; page++)
        write_now(A, V_A, page * 2ull * PAGE, PAGE, 1);
    assert_int_equal(pair.asked[STORE_WRITE], 0);
    for (uint32_t page = low; page < low + 4; page++)
        write_now(A, V_A, page * 2ull * PAGE, PAGE, 1);
    assert_int_equal(pair.asked[STORE_WRITE], 4);
    assert_bytes(store_at(V_A, 0), PAGE, 1); /* the oldest first */
}

static void a_store_error_keeps_the_page_dirty_and_is_tried_again(void **state)
{
    write_now(A, V_SAFE, 0, PAGE, 1);
    pair.answer[STORE_WRITE] = STORE_ERROR;
    uint32_t flush = ask(A, HOST_FLUSH, V_SAFE, 0, 0, 0, 0);
    pass_ms(500);
    assert_false(is_done(flush));
    assert_int_equal(status_of(A)->destage.failed_pages, 1);
    assert_in_range(status_of(A)->destage.errors, 3, 10); /* with a pause that doubles */
    assert_reads(A, V_SAFE, 0, PAGE, 1);
    pair.answer[STORE_WRITE] = STORE_DONE;
    pass_ms(1000);
    assert_ok(flush);
    assert_int_equal(status_of(A)->destage.failed_pages, 0);
    assert_bytes(store_at(V_SAFE, 0), PAGE, 1);
}

static void a_failed_flush_writes_again(void **state)
{
    write_now(A, V_SAFE, 0, PAGE, 1);
    pair.answer[STORE_FLUSH] = STORE_ERROR;
    uint32_t flush = ask(A, HOST_FLUSH, V_SAFE, 0, 0, 0, 0);
    settle();
    assert_int_equal(pair.asked[STORE_WRITE], 1);
    pair.answer[STORE_FLUSH] = STORE_DONE;
    pass_ms(500);
    assert_ok(flush);
    assert_int_equal(pair.asked[STORE_WRITE], 2);
}

static void writes_chosen_together_go_in_the_order_of_blocks(void **state)
{
    static const uint64_t pages[] = {30, 10, 40, 20};
    for (int i = 0; i < 4; i++)
        write_now(A, V_SAFE, pages[i] * PAGE, PAGE, 1);
    pair.side[A].hold_store = true;
    ask(A, HOST_FLUSH, V_SAFE, 0, 0, 0, 0);
    side_step(A);
    assert_int_equal(pair.side[A].op_count, 4);
    for (int i = 1; i < 4; i++)
        assert_true(pair.side[A].ops[i].offset_bytes > pair.side[A].ops[i - 1].offset_bytes);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, pair_set_up, pair_destroy)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_comes_while_one_batch_travels_goes_as_the_next),
        TEST(an_unanswered_batch_is_sent_again_after_the_session_is_made_anew),
        TEST(a_batch_whose_answer_was_lost_is_applied_once),
        TEST(a_refused_batch_makes_a_new_session),
        TEST(an_idle_link_carries_empty_batches_so_that_leases_live),
        TEST(every_store_operation_ends_with_the_lease),
        TEST(a_read_that_was_not_sent_for_the_lease_goes_on_later),
        TEST(after_its_lease_a_controller_asks_the_stores_for_nothing),
        TEST(a_page_is_destaged_when_it_is_old),
        TEST(above_the_low_watermark_pages_are_destaged_ahead_of_need),
        TEST(a_store_error_keeps_the_page_dirty_and_is_tried_again),
        TEST(a_failed_flush_writes_again),
        TEST(writes_chosen_together_go_in_the_order_of_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
