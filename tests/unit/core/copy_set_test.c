/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Groups of two primary arrays that are one set, whatever happens at whichever step of a cut: what
 * the second arrays show together is always a beginning of what the host wrote in turn to both; the
 * host never waits long; and when both primaries are lost the copies fail over to one cut. */

#include "four_arrays.h"

static void are_cut_at_one_moment(void **state)
{
    (void)state;
    create_all();
    until_cuts(40);
    pair_use(0);
    const struct set_status *set = &status_of(leader_of(0))->groups[0].set;
    assert_true(set->coordinates && set->runs);
    assert_int_equal(set->failed_cuts, 0);
    assert_true(set->holds > 40 && set->late_holds == 0);
    assert_true(world.written > 100);
    destroy_all();
}

/* Nothing is heard of the coordinator any more, and the session looks well. */
static void completions_are_held_no_longer_than_they_may(void **state)
{
    (void)state;
    create_all();
    for (int i = 0; i < 20; i++) {
        pass(1);
        world.hold_calls = true;
        world.slowest_us = 0;
        uint64_t written = world.written;
        pass(2 * HOLD_MS);
        assert_true(world.written > written);
        assert_true(world.slowest_us <= (HOLD_MS + 3) * 1000);
        world.hold_calls = false;
        until_cuts(3);
    }
    pair_use(0);
    const struct set_status *set = &status_of(leader_of(0))->groups[0].set;
    assert_true(set->late_holds > 0);
    assert_true(set->hold_longest_us <= (HOLD_MS + 2) * 1000);
    destroy_all();
}

static uint8_t volume_of(int self)
{
    for (int v = 0; v < COPIED; v++) {
        if (array_owner(array_of(0, self), copied[v]) == 1)
            return copied[v];
    }
    fail_msg("it owns none");
    return 0;
}

/* Who reads what was written after the cut may write to another array that is not cut yet. The
 * version that is read may have lost its place to a newer one by then, or be gone: discarded. */
static void what_is_held_is_not_read(void **state)
{
    (void)state;
    create_all();
    world.host_rests = true;
    pass(50);
    int self = leader_of(0);
    uint8_t volume = volume_of(self);
    pair_use(0);
    world.hold_calls = true; /* the other array never closes */
    ask_write(self, volume, 41 * PAGE, PAGE, 0x09);
    for (int i = 0; i < 15 && inner(0, self)->sender.holding == 0; i++)
        pass(1);
    assert_true(inner(0, self)->sender.holding != 0);
    pair_use(0);
    uint32_t first = ask_write(self, volume, 40 * PAGE, PAGE, 0x11);
    uint32_t reads = ask_read(self, volume, 40 * PAGE, PAGE);
    uint32_t discards = ask(self, HOST_TRIM, volume, 50 * PAGE, 4 * PAGE, 0, 0);
    side_step(self); /* it travels: the next one takes another slot */
    uint32_t second = ask_write(self, volume, 40 * PAGE, PAGE, 0x22);
    pass(3);
    pair_use(0);
    uint32_t reads_none = ask_read(self, volume, 51 * PAGE, PAGE);
    uint32_t reads_other = ask_read(self, volume, 60 * PAGE, PAGE);
    pass(3);
    pair_use(0);
    assert_true(inner(0, self)->sender.holding != 0);
    assert_false(is_done(first) || is_done(second) || is_done(discards));
    assert_ok(reads_other);
    assert_false(is_done(reads));
    assert_false(is_done(reads_none));
    world.hold_calls = false;
    pass(HOLD_MS);
    pair_use(0);
    assert_ok(first);
    assert_ok(second);
    assert_ok(discards);
    assert_ok(reads);
    assert_ok(reads_none);
    assert_int_equal(pair.seen[reads_none].data[0], 0);
    destroy_all();
}

/* Cycles that carry nothing but the time are as rare as those of a group alone; and what is written
 * anywhere in the set is cut as soon as ever. */
static void a_set_where_nothing_is_written_is_cut_once_a_second(void **state)
{
    (void)state;
    create_all();
    for (int which = 0; which < PRIMARIES; which++) {
        const struct coordinator *coordinator = &inner(0, leader_of(0))->coordinator;
        world.host_rests = true;
        pass(50);
        uint64_t cuts = coordinator->cuts_made, steps = world.steps;
        pass(400);
        assert_true(coordinator->cuts_made - cuts <= 1);
        assert_true(world.steps - steps <= 12);
        while (array_at(world.written + 1) != which) {
            world.host_rests = false;
            pass(1);
            world.host_rests = true;
            pass(50);
        }
        uint64_t written = world.written + 1;
        cuts = coordinator->cuts_made;
        world.host_rests = false;
        for (int i = 0; i < 20 && world.written < written; i++)
            settle_all();
        world.host_rests = true;
        pass(30);
        assert_true(coordinator->cuts_made > cuts);
        assert_true(world.written >= written);
    }
    pass(1200);
    assert_int_equal(inner(0, leader_of(0))->coordinator.cuts_failed, 0);
    until_cuts(1);
    destroy_all();
}

/* The line between the primaries is longer than completions may be held. */
static void cuts_that_all_fail_say_why(void **state)
{
    struct array_status *status;
    (void)state;
    create_all();
    pair_use(0);
    status = status_of(leader_of(0));
    assert_null(strstr(status->groups[0].reason, "hold"));
    world.way_us = (HOLD_MS + 5) * 1000;
    world.host_rests = true; /* or its pages are too many before the first cut */
    for (int i = 0; i < 2000 && status->groups[0].set.late_row < CUT_LATE_ROW; i++) {
        pass(1);
        pair_use(0);
        status = status_of(leader_of(0));
    }
    assert_non_null(
        strstr(status->groups[0].reason, "no cut is made: completions are held for 20"));
    assert_true(status->groups[0].set.close_us >= world.way_us);
    world.way_us = 0;
    world.host_rests = false;
    until_cuts(3);
    pair_use(0);
    status = status_of(leader_of(0));
    assert_int_equal(status->groups[0].set.late_row, 0);
    assert_null(strstr(status->groups[0].reason, "hold"));
    destroy_all();
}

/* It stands still while it holds one, and its peer takes over. */
static void what_is_held_is_not_acknowledged_after_the_lease(void **state)
{
    (void)state;
    create_all();
    until_cuts(5);
    world.hold_calls = true;
    bool held = false;
    for (int i = 0; i < 100 && !held; i++) {
        pass(1);
        held = world.handle != 0 &&
               array_of(array_at(world.written + 1), world.asked_of)->hold_wait.count > 0;
    }
    assert_true(held);
    int which = array_at(world.written + 1), self = world.asked_of;
    const struct seen *seen = &pair_worlds[which].seen[world.handle];
    assert_false(seen->complete);
    world.host_rests = true;
    side_of(which, self)->dead = true;
    pass(3000);
    pair_use(which);
    assert_int_equal(status_of(self ^ 1)->role, ROLE_SOLO);
    side_of(which, self)->dead = false;
    for (int i = 0; i < 10; i++)
        side_step(self);
    assert_false(seen->complete && seen->result == HOST_OK);
    destroy_all();
}

/* ---- something happens at each step ---- */

enum { STEPS = 18 }; /* two cuts and more */

static void break_the_lines(void)
{
    for (int self = A; self < PAIR; self++)
        world.line[self].down_due = true;
}

static void lose_the_coordinator(void)
{
    if (leader_of(0) >= 0)
        lose(0, leader_of(0));
}

static void lose_its_peer(void)
{
    if (leader_of(0) >= 0)
        lose(0, leader_of(0) ^ 1);
}

static void lose_the_member(void)
{
    if (leader_of(1) >= 0)
        lose(1, leader_of(1));
}

static void lose_its_other_half(void)
{
    if (leader_of(1) >= 0)
        lose(1, leader_of(1) ^ 1);
}

static void lose_both_arrays(void)
{
    lose_array(0);
    lose_array(1);
}

static void break_a_copys_session(void)
{
    int self = leader_of(0);
    if (self >= 0 && world.session[0][self].up)
        world.session[0][self].down_due = true;
}

/* The operator's part: the newest cut that any has promoted, at all of them. */
static void fail_over(void)
{
    int at[PRIMARIES];
    uint64_t cut = 0;
    pass(3); /* what was on its way has come */
    for (int m = 0; m < PRIMARIES; m++) {
        struct copy_state state;
        at[m] = holder(m + PRIMARIES, &state);
        assert_true(at[m] >= 0);
        cut = max_u64(cut, state.cut);
    }
    for (int m = 0; m < PRIMARIES; m++) {
        struct pair_world *there = &pair_worlds[m + PRIMARIES];
        there->side[at[m]].operator_done = 0;
        array_operator_failover(there->side[at[m]].array, there->now_us, 1, 0, cut, true);
    }
    pass(5);
    for (int m = 0; m < PRIMARIES; m++) {
        struct side *side = &pair_worlds[m + PRIMARIES].side[at[m]];
        if (side->operator_done != 1)
            fail_msg("array %d refuses: %s", m + PRIMARIES, side->operator_text);
        assert_int_equal(inner(m + PRIMARIES, at[m])->role, GROUP_ROLE_FAILED_OVER);
    }
    uint64_t last = look_at_the_chain(at);
    assert_true(last <= world.written + 1);
}

/* At the n-th step `first` happens; then, after some time, both primaries are lost. */
static void strike_at_each_step(void (*first)(void), uint64_t from, uint64_t step,
                                const uint32_t *delays_ms, uint32_t delay_count)
{
    for (uint32_t d = 0; d < delay_count; d++) {
        for (uint64_t n = from; n < from + STEPS; n += step) {
            create_all();
            world.strike = first;
            world.strike_at = world.steps + n;
            for (int i = 0; i < 2000 && world.steps < world.strike_at; i++)
                pass(1);
            TELL("---- struck at %llu\n", (unsigned long long)n);
            pass(delays_ms[d]);
            if (delays_ms[d] >= 1000) {
                uint64_t written = world.written;
                until_cuts(2); /* all goes on */
                assert_true(world.written > written);
            }
            if (!world.lost[0])
                lose_both_arrays();
            fail_over();
            destroy_all();
        }
    }
}

static void any_message_or_answer_may_be_lost(void **state)
{
    static const uint32_t delays_ms[] = {7};
    (void)state;
    strike_at_each_step(break_the_lines, 1, 2, delays_ms, 1);
}

static void both_arrays_may_be_lost_at_any_step(void **state)
{
    static const uint32_t delays_ms[] = {0};
    (void)state;
    strike_at_each_step(lose_both_arrays, 1, 1, delays_ms, 1);
}

static void the_coordinator_may_be_lost_at_any_step(void **state)
{
    static const uint32_t delays_ms[] = {3, 60};
    (void)state;
    strike_at_each_step(lose_the_coordinator, 1, 3, delays_ms, 2);
}

static void a_member_may_be_lost_at_any_step(void **state)
{
    static const uint32_t delays_ms[] = {3, 60};
    (void)state;
    strike_at_each_step(lose_the_member, 1, 3, delays_ms, 2);
}

static void the_other_halves_may_be_lost_at_any_step(void **state)
{
    static const uint32_t delays_ms[] = {3};
    (void)state;
    strike_at_each_step(lose_its_peer, 1, 7, delays_ms, 1);
    strike_at_each_step(lose_its_other_half, 2, 7, delays_ms, 1);
}

static void a_session_of_the_copy_may_break_at_any_step(void **state)
{
    static const uint32_t delays_ms[] = {5};
    (void)state;
    strike_at_each_step(break_a_copys_session, 1, 5, delays_ms, 1);
}

static void after_each_of_these_all_goes_on(void **state)
{
    static const uint32_t delays_ms[] = {1000};
    (void)state;
    strike_at_each_step(break_the_lines, 3, STEPS, delays_ms, 1);
    strike_at_each_step(lose_the_coordinator, 4, STEPS, delays_ms, 1);
    strike_at_each_step(lose_the_member, 5, STEPS, delays_ms, 1);
    strike_at_each_step(lose_its_other_half, 6, STEPS, delays_ms, 1);
}

/* ---- a second array loses what it held ---- */

static const struct receiver *receiver_at(int which)
{
    struct copy_state state;
    int self = holder(which, &state);
    return self < 0 ? NULL : &inner(which, self)->second.receiver;
}

static bool one_has_promoted(void)
{
    const struct receiver *one = receiver_at(2), *other = receiver_at(3);
    return one != NULL && other != NULL && one->promoted_cut > other->promoted_cut;
}

static bool the_other_holds_a_newer_cut(void)
{
    const struct receiver *one = receiver_at(2), *other = receiver_at(3);
    return one != NULL && other != NULL && other->promoted_cut < one->promoted_cut &&
           receiver_held_cut(other) > one->promoted_cut;
}

/* To the burst in which it becomes so. */
static void until(bool (*is_so)(void))
{
    for (int i = 0; i < 400000; i++) {
        for (int which = 0; which < PAIRS; which++) {
            for (int self = A; self < PAIR && !world.lost[which]; self++) {
                array_step(which, self);
                if (is_so())
                    return;
            }
        }
        pass_time(ROUND_US);
    }
    fail_msg("never so");
}

/* Its second array is copied anew, which begins after a while. */
static void until_the_member_copies_again(void)
{
    world.host_rests = true;
    for (int i = 0; i < 2000; i++) {
        pass(1);
        int self = leader_of(1);
        if (self < 0 || inner(1, self)->sender.mode != SENDER_CYCLES)
            continue;
        world.host_rests = false;
        return;
    }
    fail_msg("the set does not go on: %s", inner(1, A)->reason);
}

static void lose_memory(int which)
{
    world.cut_seen = 0; /* what the other one has promoted is not held there any more */
    for (int self = A; self < PAIR; self++)
        lose(which, self);
    pair_use(which);
    for (int self = A; self < PAIR; self++) {
        pair_create_side(self);
        pair.side[self].up_due = true;
    }
    pass(200);
    pair_use(which);
    for (int self = A; self < PAIR; self++) /* where it is of use */
        array_operator_accept_loss(pair.side[self].array, pair.now_us, 1, true);
    pass(200);
}

/* One of the second arrays has promoted a cut, and the other one loses it before that; then it
 * holds a newer one, and the run of the set breaks. */
static void a_cut_that_one_copy_has_lost_does_not_stop_the_set(void **state)
{
    (void)state;
    create_all();
    until(one_has_promoted);
    lose_memory(3);
    until_the_member_copies_again();
    until(the_other_holds_a_newer_cut);
    break_the_lines();
    pass(20);
    until_the_member_copies_again();
    uint64_t written = world.written;
    until_cuts(3);
    assert_true(world.written > written);
    lose_both_arrays();
    fail_over();
    destroy_all();
}

/* ---- the operator ---- */

static void a_failover_to_a_cut_that_is_not_there_is_refused(void **state)
{
    struct copy_state shown;
    (void)state;
    create_all();
    until_cuts(3);
    lose_both_arrays();
    pass(3);
    int at = holder(2, &shown);
    struct side *side = &pair_worlds[2].side[at];
    array_operator_failover(side->array, pair_worlds[2].now_us, 1, 0,
                            max_u64(shown.held_cut, shown.cut) + 1, true);
    pass(1);
    assert_int_equal(side->operator_refused, 1);
    assert_string_equal(side->operator_text, "this cut is not held here");
    array_operator_failover(side->array, pair_worlds[2].now_us, 2, 0, shown.cut - 1, true);
    pass(1);
    assert_int_equal(side->operator_refused, 2);
    assert_string_equal(side->operator_text, "a newer cut than this one has been promoted here");
    fail_over();
    destroy_all();
}

static void say(int array, int at, enum group_action action, uint64_t cut)
{
    struct pair_world *there = &pair_worlds[array];
    struct side *side = &there->side[at];
    uint32_t done = side->operator_done;
    if (action == GROUP_FAILOVER)
        array_operator_failover(side->array, there->now_us, 1, 0, cut, true);
    else
        array_operator_group(side->array, there->now_us, 1, 0, action, true);
    pass(5);
    if (side->operator_done != done + 1)
        fail_msg("array %d refuses: %s", array, side->operator_text);
}

/* The primaries live, and are heard: every copy stands before one looks, and while one after the
 * other is failed over. */
static void copies_that_stand_are_failed_over_to_one_cut_while_the_primaries_live(void **state)
{
    (void)state;
    for (int n = 0; n < 6; n++) {
        int at[PRIMARIES];
        uint64_t cut = 0;
        struct copy_state shown;
        create_all();
        until_cuts(3);
        pass((uint32_t)n % 4);
        for (int m = 0; m < PRIMARIES; m++) {
            int which = n % 2 ? m : PRIMARIES - 1 - m;
            at[which] = holder(which + PRIMARIES, &shown);
            say(which + PRIMARIES, at[which], GROUP_STAND, 0);
            pass((uint32_t)n);
        }
        for (int m = 0; m < PRIMARIES; m++) {
            (void)holder(m + PRIMARIES, &shown);
            cut = max_u64(cut, shown.cut);
        }
        for (int m = 0; m < PRIMARIES; m++) {
            pass(20); /* a cut takes less: without a stand others come whole */
            say(m + PRIMARIES, at[m], GROUP_FAILOVER, cut);
        }
        look_at_the_chain(at);
        destroy_all();
    }
}

/* An operator who thought better of it has nothing to take back. */
static void a_stand_ends_by_itself(void **state)
{
    struct copy_state shown, later;
    (void)state;
    create_all();
    until_cuts(3);
    int at = holder(2, &shown);
    say(2, at, GROUP_STAND, 0);
    (void)holder(2, &shown);
    pass(200);
    at = holder(2, &later);
    assert_int_equal(later.cut, shown.cut);
    uint64_t *until_us = &inner(2, at)->second.stands_us;
    assert_true(*until_us > pair_worlds[2].now_us);
    assert_true(*until_us <= pair_worlds[2].now_us + 30 * 1000 * 1000);
    *until_us = pair_worlds[2].now_us + 5000; /* half a minute is long for eight controllers */
    until_cuts(3);
    destroy_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(are_cut_at_one_moment),
        cmocka_unit_test(completions_are_held_no_longer_than_they_may),
        cmocka_unit_test(what_is_held_is_not_read),
        cmocka_unit_test(what_is_held_is_not_acknowledged_after_the_lease),
        cmocka_unit_test(a_set_where_nothing_is_written_is_cut_once_a_second),
        cmocka_unit_test(cuts_that_all_fail_say_why),
        cmocka_unit_test(both_arrays_may_be_lost_at_any_step),
        cmocka_unit_test(any_message_or_answer_may_be_lost),
        cmocka_unit_test(the_coordinator_may_be_lost_at_any_step),
        cmocka_unit_test(a_member_may_be_lost_at_any_step),
        cmocka_unit_test(the_other_halves_may_be_lost_at_any_step),
        cmocka_unit_test(a_session_of_the_copy_may_break_at_any_step),
        cmocka_unit_test(after_each_of_these_all_goes_on),
        cmocka_unit_test(a_cut_that_one_copy_has_lost_does_not_stop_the_set),
        cmocka_unit_test(a_failover_to_a_cut_that_is_not_there_is_refused),
        cmocka_unit_test(copies_that_stand_are_failed_over_to_one_cut_while_the_primaries_live),
        cmocka_unit_test(a_stand_ends_by_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
