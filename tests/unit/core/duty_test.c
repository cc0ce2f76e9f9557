/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What the role orders and the operator asks: takeover, filling a returned peer, moves, stops,
 * accepted losses. */

#include "pair.h"

static uint32_t operator_handle;

static void move(int self, uint8_t volume, uint8_t to)
{
    array_operator_move(pair.side[self].array, pair.now_us, operator_handle++, volume, to);
}

static void a_fresh_pair_sends_each_volume_home(void **state)
{
    for (uint8_t v = 0; v < VOLUMES; v++) {
        uint8_t home = pair.config.volumes[v].home;
        assert_int_equal(array_owner(pair.side[home].array, v), 1);
        assert_int_equal(array_owner(pair.side[home ^ 1].array, v), 0);
    }
    assert_int_equal(pair.record.in, REGISTER_IN_BOTH);
    assert_true(pair.record.unclean);
}

static void a_moved_volume_is_refused_at_the_former_owner(void **state)
{
    write_now(A, V_A, 0, 20 * PAGE, 1);
    move(A, V_A, B);
    pass_ms(50);
    assert_int_equal(pair.side[A].operator_done, 1);
    assert_bytes(store_at(V_A, 0), 20 * PAGE, 1); /* it was drained */
    uint32_t refused = ask_read(A, V_A, 0, PAGE);
    assert_true(is_done(refused));
    assert_int_equal(pair.seen[refused].result, HOST_NOT_OWNER);
    assert_reads(B, V_A, 0, 20 * PAGE, 1);
    write_now(B, V_A, 0, PAGE, 2);
    kill_side(B);
    assert_reads(A, V_A, 0, PAGE, 2); /* not what a's memory held of it before */
    assert_reads(A, V_A, PAGE, PAGE, 1);
}

/* Whoever gets a volume lets go of its copies of it; whoever gave it may not count on them when it
 * comes back. */
static void a_page_that_was_read_elsewhere_may_be_written_when_its_volume_is_back(void **state)
{
    write_now(A, V_A, 0, PAGE, 1);
    move(A, V_A, B);
    pass_ms(50);
    assert_int_equal(array_owner(pair.side[B].array, V_A), 1);
    assert_reads(B, V_A, 0, PAGE, 1);
    move(B, V_A, A);
    pass_ms(50);
    assert_int_equal(array_owner(pair.side[A].array, V_A), 1);
    write_now(A, V_A, 512, 512, 2);
    assert_int_equal(status_of(B)->received.refused, 0);
    kill_side(A);
    assert_reads(B, V_A, 0, 512, 1);
    assert_reads(B, V_A, 512, 512, 2);
}

static void hosts_are_held_while_a_volume_changes_hands_and_then_refused(void **state)
{
    write_now(A, V_A, 0, PAGE, 1);
    move(A, V_A, B);
    pair.side[A].hold_store = true;
    settle();
    pair.now_us += 2000;
    settle();
    uint32_t during = ask_write(A, V_A, PAGE, PAGE, 2);
    assert_false(is_done(during));
    pair.side[A].hold_store = false;
    pass_ms(20);
    assert_true(is_done(during));
    assert_int_equal(pair.seen[during].result, HOST_NOT_OWNER);
    assert_reads(B, V_A, PAGE, PAGE, 0);
}

static void a_move_that_cannot_be_drained_in_time_is_given_up(void **state)
{
    write_now(A, V_A, 0, PAGE, 1);
    pair.side[A].hold_store = true;
    move(A, V_A, B);
    settle();
    uint32_t held = ask_write(A, V_A, PAGE, PAGE, 2);
    pass_ms(2100);
    assert_int_equal(pair.side[A].operator_refused, 1);
    assert_ok(held);
    assert_int_equal(array_owner(pair.side[A].array, V_A), 1);
    pair.side[A].hold_store = false;
    pass_ms(20);
}

static void a_move_is_refused_where_it_makes_no_sense(void **state)
{
    move(B, V_A, A); /* it is there already */
    move(A, V_A, A);
    settle();
    assert_int_equal(pair.side[B].operator_refused + pair.side[B].operator_done, 1);
    assert_int_equal(pair.side[A].operator_done, 1);
    move(B, V_A, B); /* not b's to give */
    settle();
    assert_int_equal(pair.side[B].operator_refused, 1);
    pair.side[A].hold_store = true;
    write_now(A, V_A, 0, PAGE, 1);
    move(A, V_A, B);
    move(A, V_A, B);
    settle();
    assert_int_equal(pair.side[A].operator_refused, 1);
    pair.side[A].hold_store = false;
    pass_ms(20);
    kill_side(B);
    move(A, V_SAFE, B);
    settle();
    assert_int_equal(pair.side[A].operator_refused, 2);
}

static void a_takeover_serves_every_acknowledged_byte(void **state)
{
    write_now(A, V_A, 0, 30 * PAGE, 1);
    write_now(A, V_A, PAGE, 512, 2);
    write_now(B, V_B, 0, PAGE, 3);
    pair.side[B].hold_link = true;
    uint32_t lost = ask_write(A, V_A, 0, PAGE, 9); /* never acknowledged */
    settle();
    assert_false(is_done(lost));
    pair.side[B].hold_link = false;
    pair.side[B].message_due = false;
    kill_side(A);
    assert_int_equal(status_of(B)->role, ROLE_SOLO);
    assert_int_equal(status_of(B)->takeover_count, 1);
    for (uint8_t v = 0; v < VOLUMES; v++)
        assert_int_equal(array_owner(pair.side[B].array, v), 1);
    assert_reads(B, V_A, 0, PAGE, 1);
    assert_reads(B, V_A, PAGE, 512, 2);
    assert_reads(B, V_A, PAGE + 512, 28 * PAGE, 1);
    assert_reads(B, V_B, 0, PAGE, 3);
}

static void requests_of_the_survivor_are_held_and_go_on(void **state)
{
    uint32_t write = ask_write(B, V_B, 0, PAGE, 1);
    side_step(B); /* on its way to a */
    pair.side[A].dead = true;
    settle();
    assert_false(is_done(write));
    kill_side(A);
    assert_ok(write);
    assert_bytes(store_at(V_B, 0), PAGE, 1);
    assert_reads(B, V_B, 0, PAGE, 1);
}

static void without_proof_the_winner_waits_out_the_lease(void **state)
{
    write_now(A, V_A, 0, PAGE, 1);
    pair.side[A].dead = true;
    pair.side[B].down_due = true;
    uint64_t from = pair.now_us;
    for (int i = 0; i < 400 && status_of(B)->role != ROLE_SOLO; i++)
        pass_ms(10);
    assert_true(pair.side[B].fence_asked);
    assert_in_range(pair.now_us - from, 1000000, 1500000);
    assert_reads(B, V_A, 0, PAGE, 1);
}

static void a_returned_peer_is_filled_with_every_dirty_page(void **state)
{
    write_now(A, V_A, 0, 10 * PAGE, 1);
    pair.answer[STORE_WRITE] = STORE_ERROR; /* everything stays dirty */
    kill_side(A);
    ask_write(B, V_A, 10 * PAGE, PAGE, 2);
    pair_create_side(A);
    pair.side[A].up_due = pair.side[B].up_due = true;
    for (int i = 0; i < 1000 && status_of(B)->role != ROLE_PAIRED; i++)
        pass_ms(10);
    assert_int_equal(status_of(B)->role, ROLE_PAIRED);
    assert_int_equal(status_of(A)->role, ROLE_PAIRED);
    pass_ms(100);
    write_now(B, V_A, 20 * PAGE, PAGE, 3);
    kill_side(B);
    assert_bytes(store_at(V_A, 0), 30 * PAGE, 0);
    pair.answer[STORE_WRITE] = STORE_DONE;
    pass_ms(6000);
    assert_reads(A, V_A, 0, 10 * PAGE, 1);
    assert_reads(A, V_A, 10 * PAGE, PAGE, 2);
    assert_reads(A, V_A, 20 * PAGE, PAGE, 3);
    assert_bytes(store_at(V_A, 0), 10 * PAGE, 1);
}

static void a_clean_stop_of_one_hands_its_volumes_over(void **state)
{
    write_now(A, V_A, 0, 10 * PAGE, 1);
    array_operator_stop(pair.side[A].array, pair.now_us);
    pass_ms(100);
    assert_true(pair.side[A].stopped);
    assert_int_equal(status_of(A)->role, ROLE_STOPPED);
    pair.side[A].dead = true;
    pass_ms(50);
    assert_int_equal(status_of(B)->role, ROLE_SOLO);
    assert_reads(B, V_A, 0, 10 * PAGE, 1);
    assert_bytes(store_at(V_A, 0), 10 * PAGE, 1);
}

/* It comes after the word that this one leaves: the other goes on alone as soon as it hears that.
 */
static void a_volume_that_comes_to_one_that_leaves_is_not_served(void **state)
{
    write_now(B, V_B, 0, PAGE, 1);
    destage_all();
    pair.side[A].hold_link = true;
    array_operator_move(pair.side[B].array, pair.now_us, 1, V_B, A);
    settle();
    assert_true(pair.side[A].message_due); /* MOVE */
    pair.side[B].hold_link = true;
    array_operator_stop(pair.side[A].array, pair.now_us);
    for (int i = 0; i < 10 && !pair.side[A].stopped; i++) {
        settle();
        if (status_of(A)->sent.batches > 0 && array_owner(pair.side[A].array, V_A) != 1 &&
            array_owner(pair.side[A].array, V_SAFE) != 1 &&
            array_owner(pair.side[A].array, V_BLOCKS) != 1)
            break; /* LEAVE is on its way */
        pair.side[B].hold_link = false;
        side_step(B);
        pair.side[B].hold_link = true;
        pair.now_us += 1000;
    }
    settle();
    assert_true(pair.side[B].message_due);
    pair.side[A].hold_link = false;
    settle();
    uint32_t read = ask_read(A, V_B, 0, PAGE);
    settle();
    assert_false(is_done(read));
    pair.side[B].hold_link = false;
    pass_ms(20);
    assert_true(pair.side[A].stopped);
    assert_true(pair.seen[read].complete);
    assert_int_equal(pair.seen[read].result, HOST_NOT_OWNER);
    assert_reads(B, V_B, 0, PAGE, 1);
}

static void a_clean_stop_of_both_leaves_everything_on_the_stores(void **state)
{
    write_now(A, V_A, 0, 10 * PAGE, 1);
    write_now(B, V_B, 0, 10 * PAGE, 2);
    array_operator_stop(pair.side[A].array, pair.now_us);
    array_operator_stop(pair.side[B].array, pair.now_us);
    pass_ms(3000);
    assert_true(pair.side[A].stopped && pair.side[B].stopped);
    assert_bytes(store_at(V_A, 0), 10 * PAGE, 1);
    assert_bytes(store_at(V_B, 0), 10 * PAGE, 2);
    assert_int_equal(pair.record.in, 0);
    assert_false(pair.record.unclean);
    uint32_t late = ask_read(A, V_A, 0, PAGE);
    assert_true(is_done(late));
    assert_int_equal(pair.seen[late].result, HOST_NOT_OWNER);
}

static void after_both_died_nobody_serves_until_the_loss_is_accepted(void **state)
{
    write_now(A, V_A, 0, PAGE, 1);
    pair_create_side(A);
    pair_create_side(B);
    pair.side[A].up_due = pair.side[B].up_due = true;
    pass_ms(3000);
    assert_int_equal(status_of(A)->role, ROLE_OFFLINE);
    assert_int_equal(status_of(B)->role, ROLE_OFFLINE);
    assert_int_equal(array_owner(pair.side[A].array, V_A), -1);
    uint32_t read = ask_read(A, V_A, 0, PAGE);
    assert_true(is_done(read));
    assert_int_equal(pair.seen[read].result, HOST_NOT_OWNER);
    array_operator_accept_loss(pair.side[A].array, pair.now_us, 1, false);
    for (int i = 0; i < 500 && status_of(A)->role != ROLE_PAIRED; i++)
        pass_ms(10);
    assert_int_equal(pair.side[A].operator_done, 1);
    assert_int_equal(status_of(A)->role, ROLE_PAIRED);
    assert_reads(A, V_A, 0, PAGE, 0);
}

static void a_loss_is_not_accepted_while_both_serve(void **state)
{
    array_operator_accept_loss(pair.side[A].array, pair.now_us, 1, true);
    settle();
    assert_int_equal(pair.side[A].operator_refused, 1);
    assert_int_equal(status_of(A)->role, ROLE_PAIRED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, pair_set_up, pair_destroy)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_fresh_pair_sends_each_volume_home),
        TEST(a_moved_volume_is_refused_at_the_former_owner),
        TEST(a_page_that_was_read_elsewhere_may_be_written_when_its_volume_is_back),
        TEST(hosts_are_held_while_a_volume_changes_hands_and_then_refused),
        TEST(a_move_that_cannot_be_drained_in_time_is_given_up),
        TEST(a_move_is_refused_where_it_makes_no_sense),
        TEST(a_takeover_serves_every_acknowledged_byte),
        TEST(requests_of_the_survivor_are_held_and_go_on),
        TEST(without_proof_the_winner_waits_out_the_lease),
        TEST(a_returned_peer_is_filled_with_every_dirty_page),
        TEST(a_clean_stop_of_one_hands_its_volumes_over),
        TEST(a_volume_that_comes_to_one_that_leaves_is_not_served),
        TEST(a_clean_stop_of_both_leaves_everything_on_the_stores),
        TEST(after_both_died_nobody_serves_until_the_loss_is_accepted),
        TEST(a_loss_is_not_accepted_while_both_serve),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
