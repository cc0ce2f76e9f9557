/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Stories of a pair that breaks: crashes, lost links, the register, sleepers, and the way back. */

#include "story.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* The owner dies while a batch is on its way: half of it arrives, which is nothing. What it had
 * acknowledged is served by the survivor, what it had not is not there. */
static void takeover_with_a_half_received_batch(void **state)
{
    struct story *story = story_begin();
    story_log(story, false);
    story_write(story, A, 1, 5, 0x11);
    story_carry(story, A);
    story_write(story, A, 2, 6, 0x22);
    story_expect(story, "a: send batch 4224\n"
                        "b: reply good\n"
                        "a: done 1 ok\n"
                        "a: send batch 4224\n");
    story_crash(story, A); /* the rest of the batch never comes */
    story_expect(story, "");
    story_gone(story, B);
    story_expect(story, "b: racing: the peer is gone: asking the register\n"
                        "b: register swap 2/ab/unclean to 3/b/unclean\n");
    story_register(story, B);
    story_expect(story, "b: solo: took over: the peer is gone\n"
                        "b: store write 20480+4096\n"
                        "b: store flush\n");
    assert_int_equal(story_role(story, B), ROLE_SOLO);
    story_read(story, B, 3, 5);
    assert_int_equal(story_found(story, 3), 0x11);
    story_read(story, B, 4, 6);
    story_settle(story, 1);
    assert_int_equal(story_found(story, 4), 0);
    story_skip(story);
    story_end(story);
}

/* A batch that was applied, but whose answer was lost with the session, is sent again and changes
 * nothing more. */
static void lost_link_and_send_again(void **state)
{
    struct story *story = story_begin();
    story_write(story, A, 1, 5, 0x11);
    story_deliver(story, A);
    story_skip(story);
    story_link_down(story, A);
    story_expect(story, "a: link down\n");
    story_link_up(story, A);
    story_carry(story, A);
    story_expect(story, "a: link up\n"
                        "a: send hello\n"
                        "b: hello from a role paired\n"
                        "b: reply good\n"
                        "a: send again batch\n"
                        "a: send batch 4224\n");
    story_carry(story, A);
    story_expect(story, "b: apply batch headers 1 again\n"
                        "b: reply good\n"
                        "a: acknowledged batch\n"
                        "a: complete 1 result 0\n"
                        "a: done 1 ok\n");
    assert_int_equal(story_status(story, A)->sent.resends, 1);
    story_end(story);
}

/* Both lose the link and ask the register: one goes on, after the other's lease is over; the other
 * refuses its hosts. */
static void both_race_for_the_register(void **state)
{
    struct story *story = story_begin();
    story_log(story, false);
    story_write(story, A, 1, 5, 0x11);
    story_settle(story, 1);
    story_skip(story);
    story_link_down(story, A);
    story_link_down(story, B);
    story_wait(story, 1200);
    story_expect(story, "a: racing: the peer has not answered for a lease: asking the register\n"
                        "a: register swap 2/ab/unclean to 3/a/unclean\n"
                        "b: racing: the peer has not answered for a lease: asking the register\n"
                        "b: register swap 2/ab/unclean to 3/b/unclean\n");
    story_write(story, A, 2, 6, 0x22); /* held */
    story_register(story, B);
    story_register(story, A);
    story_expect(story,
                 "b: fencing: won the register: waiting until the peer certainly touches no store\n"
                 "b: fence peer\n"
                 "a: waiting: the other controller won the register\n"
                 "a: register read\n"
                 "a: done 2 not-owner\n");
    assert_int_equal(story_role(story, B), ROLE_FENCING);
    assert_int_not_equal(story_owner(story, B), 1);
    story_wait(story, 1300);
    story_expect(story, "b: solo: took over: the peer's lease is over\n"
                        "b: store write 20480+4096\n"
                        "b: store flush\n");
    assert_int_equal(story_role(story, B), ROLE_SOLO);
    story_read(story, B, 3, 5);
    assert_int_equal(story_found(story, 3), 0x11);
    story_skip(story);
    story_end(story);
}

/* The link is lost and so is the register: nobody serves, nobody fails; when the register is back,
 * one goes on. */
static void register_gone(void **state)
{
    struct story *story = story_begin();
    story_log(story, false);
    story_link_down(story, A);
    story_link_down(story, B);
    story_wait(story, 1200);
    story_skip(story);
    story_write(story, A, 1, 5, 0x11);
    for (int i = 0; i < 20; i++) {
        story_register_silent(story, A);
        story_register_silent(story, B);
        story_wait(story, 200);
        assert_int_not_equal(story_owner(story, A), 1);
        assert_int_not_equal(story_owner(story, B), 1);
    }
    story_skip(story);
    story_register(story, A); /* reads: its swap did not happen */
    story_expect(story, "a: register swap 2/ab/unclean to 3/a/unclean\n");
    story_register(story, A);
    story_expect(story, "a: solo: took over: the peer's lease is over\n"
                        "a: store write 20480+4096\n"
                        "a: store flush\n"
                        "a: register swap 3/a/unclean to 3/a/clean\n"
                        "a: fence peer\n");
    story_wait(story, 2000);
    assert_int_equal(story_role(story, A), ROLE_SOLO);
    story_stores(story, A); /* alone, a write is done when the store has it durably */
    story_expect(story, "a: store flush\n"
                        "a: done 1 ok\n");
    assert_int_equal(story_stored(story, 5), 0x11);
    story_end(story);
}

/* A controller stands still for longer than its lease. When it wakes, the other serves: it must not
 * answer a host, and the destage that it had decided on is not sent. */
static void paused_controller_wakes_after_it_was_taken_over(void **state)
{
    struct story *story = story_begin();
    story_log(story, false);
    story_write(story, A, 1, 5, 0x11);
    story_settle(story, 1);
    story_skip(story);
    story_pause(story, A);
    story_link_down(story, B);
    story_wait(story, 1500);
    story_register(story, B);
    story_wait(story, 2500);
    assert_int_equal(story_role(story, B), ROLE_SOLO);
    story_write(story, B, 2, 5, 0x22);
    story_settle(story, 100);
    story_skip(story);
    story_wake(story, A);
    story_read(story, A, 3, 5); /* hits its cache, but that is over */
    story_expect(story, "a: racing: the peer has not answered for a lease: asking the register\n"
                        "a: register swap 2/ab/unclean to 3/a/unclean\n"
                        "a: send batch 96\n");
    story_register(story, A);
    story_expect(story, "a: waiting: the other controller won the register\n"
                        "a: register read\n"
                        "a: reset link\n"
                        "a: done 3 not-owner\n");
    story_settle(story, 5000);
    story_skip(story);
    story_read(story, B, 4, 5);
    story_settle(story, 1);
    assert_int_equal(story_found(story, 4), 0x22);
    assert_int_equal(story_role(story, A), ROLE_PAIRED);
    story_skip(story);
    story_end(story);
}

/* The very first thing that a woken sleeper hears is a host's read: it holds it although the page
 * is in its cache. */
static void woken_sleeper_does_not_serve_a_hit(void **state)
{
    struct story *story = story_begin();
    story_log(story, false);
    story_write(story, A, 1, 5, 0x11);
    story_settle(story, 1);
    story_skip(story);
    story_pause(story, A);
    story_wait(story, 1500);
    story_read(story, A, 2, 5); /* before any pump */
    story_expect(story, "b: racing: the peer has not answered for a lease: asking the register\n"
                        "b: register swap 2/ab/unclean to 3/b/unclean\n"
                        "b: send batch 96\n");
    story_wake(story, A);
    story_skip(story);
    story_end(story);
}

/* The crashed one comes back while hosts write: it is filled, the pair is paired again, and its
 * memory is as good as the survivor's. */
static void rejoin_under_writes(void **state)
{
    struct story *story = story_begin();
    story_log(story, false);
    for (uint64_t page = 0; page < 8; page++) {
        story_write(story, A, page, page, 0x11);
        story_settle(story, 1);
    }
    story_crash(story, A);
    story_gone(story, B);
    story_settle(story, 5);
    assert_int_equal(story_role(story, B), ROLE_SOLO);
    story_start(story, A);
    for (uint64_t i = 0; i < 400 && story_role(story, A) != ROLE_PAIRED; i++) {
        story_write(story, B, 100 + i, i % 12, (uint8_t)(i + 1));
        story_settle(story, 5);
    }
    assert_int_equal(story_role(story, A), ROLE_PAIRED);
    assert_int_equal(story_role(story, B), ROLE_PAIRED);
    story_settle(story, 5);
    for (uint64_t page = 0; page < 12; page++) {
        story_write(story, B, 1000 + page, page, (uint8_t)(0xC0 + page));
        story_settle(story, 1);
    }
    story_crash(story, B);
    story_gone(story, A);
    story_settle(story, 10);
    assert_int_equal(story_role(story, A), ROLE_SOLO);
    for (uint64_t page = 0; page < 12; page++) {
        story_read(story, A, 2000 + page, page);
        story_settle(story, 1);
        assert_int_equal(story_found(story, 2000 + page), 0xC0 + (int)page);
    }
    story_skip(story);
    story_end(story);
}

/* Both die with dirty pages: what was acknowledged is lost. Nobody serves until an operator accepts
 * that; then the volumes are what the stores hold. */
static void double_failure(void **state)
{
    struct story *story = story_begin();
    story_log(story, false);
    story_write(story, A, 1, 5, 0x11);
    story_settle(story, 1);
    story_crash(story, A);
    story_crash(story, B);
    story_start(story, A);
    story_start(story, B);
    story_settle(story, 3000);
    story_skip(story);
    assert_int_equal(story_role(story, A), ROLE_OFFLINE);
    assert_int_equal(story_role(story, B), ROLE_OFFLINE);
    story_read(story, A, 2, 5);
    story_expect(story, "a: done 2 not-owner at once\n");
    story_accept_loss(story, A, false);
    story_expect(
        story,
        "a: register swap 2/ab/unclean to 3/a/unclean\n"
        "a: operator done: accepted: the volumes will be served from what the stores hold\n");
    story_settle(story, 10000);
    assert_int_equal(story_role(story, A), ROLE_PAIRED);
    assert_int_equal(story_role(story, B), ROLE_PAIRED);
    story_skip(story);
    int who = story_owner(story, A) == 1 ? A : B;
    story_read(story, who, 3, 5);
    story_settle(story, 1);
    assert_int_equal(story_found(story, 3), 0);
    story_skip(story);
    story_end(story);
}

/* A loss is accepted, and the controller dies while it still waits until the peer's last store
 * writes are over. Its next start may not serve either: those may still land. */
static void accepted_loss_is_fenced_after_a_restart_too(void **state)
{
    struct story *story = story_begin();
    story_log(story, false);
    story_write(story, A, 1, 5, 0x11);
    story_settle(story, 1);
    story_crash(story, A);
    story_crash(story, B);
    story_start(story, A);
    story_start(story, B);
    story_settle(story, 3000);
    assert_int_equal(story_role(story, A), ROLE_OFFLINE);
    story_accept_loss(story, A, false);
    story_register(story, A);
    assert_int_equal(story_role(story, A), ROLE_FENCING);
    story_crash(story, A);
    story_start(story, A);
    story_register(story, A);
    assert_int_equal(story_role(story, A), ROLE_OFFLINE);
    story_skip(story);
    story_end(story);
}

/* A clean stop of both: whoever goes last leaves everything on the store, and the register clean.
 */
static void clean_stop_of_both(void **state)
{
    struct story *story = story_begin();
    story_log(story, false);
    story_write(story, A, 1, 5, 0x11);
    story_settle(story, 1);
    story_skip(story);
    story_stop(story, A);
    story_settle(story, 3000);
    assert_int_equal(story_role(story, B), ROLE_SOLO);
    story_stop(story, B);
    story_settle(story, 3000);
    assert_int_equal(story_stored(story, 5), 0x11);
    story_skip(story);
    story_start(story, A);
    story_settle(story, 3000);
    assert_int_equal(story_role(story, A), ROLE_SOLO); /* nothing was owed */
    story_skip(story);
    story_end(story);
}

/* A planned move: destaged while it still serves, then handed over; the former owner refuses from
 * then on. */
static void planned_move(void **state)
{
    struct story *story = story_begin();
    story_log(story, false);
    story_write(story, A, 1, 5, 0x11);
    story_settle(story, 1);
    story_skip(story);
    story_move(story, A, B);
    story_settle(story, 100);
    assert_int_equal(story_owner(story, A), 0);
    assert_int_equal(story_owner(story, B), 1);
    assert_int_equal(story_stored(story, 5), 0x11);
    story_skip(story);
    story_write(story, A, 2, 5, 0x22);
    story_expect(story, "a: done 2 not-owner at once\n");
    story_write(story, B, 3, 5, 0x33);
    story_carry(story, B);
    story_expect(story, "b: send batch 4224\n"
                        "a: reply good\n"
                        "b: done 3 ok\n");
    story_end(story);
}

/* b is filled, and a asks the register to have both in; then a dies, and its swap lands late. The
 * next start of a reads "both" while b waits: b may not be taken for empty, because it holds all.
 */
static void a_joiner_that_may_be_in_is_not_taken_for_empty(void **state)
{
    struct story *story = story_begin();
    story_log(story, false);
    story_crash(story, B);
    story_gone(story, A);
    story_settle(story, 3000);
    assert_int_equal(story_role(story, A), ROLE_SOLO);
    story_write(story, A, 1, 5, 0x11);
    story_settle(story, 100);
    story_start(story, B);
    story_register(story, B);
    story_register_hold(story, true);
    story_settle(story, 100);
    assert_int_equal(story_role(story, B), ROLE_JOINING);
    story_crash(story, A);
    story_wait(story, 2000);
    story_register(story, B); /* not in yet */
    assert_int_equal(story_role(story, B), ROLE_WAITING);
    story_register_holds(story, 4, REGISTER_IN_BOTH, true);
    story_start(story, A);
    story_register(story, A);
    story_settle(story, 100);
    story_wait(story, 600);
    story_register(story, A); /* by now it knows b's role */
    assert_int_equal(story_role(story, A), ROLE_WAITING);
    story_skip(story);
    story_accept_loss(story, A, false);
    story_expect(
        story,
        "a: operator refused: the other controller may hold the data or even serve: start it, "
        "or make sure that it is dead and then say --peer-is-dead\n");
    story_register_hold(story, false);
    story_settle(story, 10000);
    assert_int_equal(story_role(story, A), ROLE_PAIRED);
    assert_int_equal(story_role(story, B), ROLE_PAIRED);
    story_skip(story);
    story_end(story);
}

/* A volume is moved, and moved back before the first mover has heard the answer to its own word:
 * the answer, when it comes, is about the past. */
static void a_volume_comes_back_before_the_answer_to_its_move(void **state)
{
    struct story *story = story_begin();
    story_log(story, false);
    story_move(story, A, B);
    story_wait(story, 1);
    story_deliver(story, A);
    assert_int_equal(story_owner(story, B), 1);
    story_move(story, B, A);
    story_wait(story, 1);
    story_deliver(story, B);
    story_answer(story, A);
    story_answer(story, B);
    assert_int_equal(story_owner(story, A), 1);
    assert_int_equal(story_owner(story, B), 0);
    story_skip(story);
    story_end(story);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takeover_with_a_half_received_batch),
        cmocka_unit_test(lost_link_and_send_again),
        cmocka_unit_test(both_race_for_the_register),
        cmocka_unit_test(register_gone),
        cmocka_unit_test(paused_controller_wakes_after_it_was_taken_over),
        cmocka_unit_test(woken_sleeper_does_not_serve_a_hit),
        cmocka_unit_test(rejoin_under_writes),
        cmocka_unit_test(double_failure),
        cmocka_unit_test(accepted_loss_is_fenced_after_a_restart_too),
        cmocka_unit_test(clean_stop_of_both),
        cmocka_unit_test(planned_move),
        cmocka_unit_test(a_joiner_that_may_be_in_is_not_taken_for_empty),
        cmocka_unit_test(a_volume_comes_back_before_the_answer_to_its_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
