/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* After a clean stop of a site: whichever controller begins first, only what differs is copied, and
 * nothing that differs is forgotten, whoever dies while it is told. */

#include "site_acts.h"

/* Both ways to stop, and either controller the last: the other one begins, alone for a while. */
static void whoever_begins_after_a_clean_stop_copies_only_what_was_touched(void **state)
{
    for (int way = 0; way < 4; way++) {
        int last = way % 2, first = last ^ 1;
        bool together = way >= 2;
        begin_round(state, way);
        write_while_cut(40, 0x81);
        if (together && last == B)
            stop_both(ONE);
        else
            stop_one_after_the_other(ONE, last);
        start_at(ONE, first);
        pass_both_ms(300);
        const struct group *group = inner(ONE, first);
        bool known = together && last == B; /* it left while the other one was stopping as well */
        assert_int_equal(group->site.now.unknown, !known);
        between.cut = false; /* the second array can say, too, that it was not failed over */
        pass_both_ms(300);
        assert_true(group->site.lacks);
        assert_false(group->site.now.unknown);
        assert_int_equal(write_at(ONE, first, V_B, 3, 1, 0x82), HOST_OK);
        pass_both_ms(300);
        assert_int_equal(group->batches, 0);
        struct array_status status;
        array_status(array_of(ONE, first), pair_worlds[ONE].now_us, &status);
        assert_non_null(strstr(status.groups[0].reason, "stopped last"));
        uint64_t confirmed = inner(ONE, last)->site.known_cycle;
        between.hold_batches = true;
        return_at(ONE, last);
        pass_both_ms(300);
        assert_false(group->site.lacks);
        assert_true(confirmed > 0); /* else a second array that lost it would not be found out */
        assert_int_equal(group->site.known_cycle, confirmed);
        between.hold_batches = false;
        until_consistent(TWO);
        assert_true(base_pages_at(ONE) <= 2 * 16);
        assert_sites_are_equal();
        assert_page(ONE, V_A, 40, 0x81);
        assert_page(ONE, V_B, 3, 0x82);
    }
}

static void whoever_begins_at_the_second_array_goes_on_where_the_last_one_was(void **state)
{
    for (int last = A; last < PAIR; last++) {
        begin_round(state, last);
        until_consistent(TWO);
        uint64_t sent = base_pages_at(ONE);
        stop_one_after_the_other(TWO, last);
        assert_int_equal(write_at(ONE, A, V_A, 40, 1, 0x82), HOST_OK);
        start_at(TWO, last ^ 1);
        pass_both_ms(300);
        assert_true(site_of(TWO, last ^ 1)->now.unknown);
        return_at(TWO, last);
        until_consistent(TWO);
        pass_both_ms(100);
        assert_true(base_pages_at(ONE) <= sent + 16);
        assert_sites_are_equal();
    }
}

/* What was told by a header each is not lost with either of them, and never believed in part. */
static void one_dies_while_b_tells_a(void **state, int who)
{
    for (int dies = 0; dies < 6; dies++) {
        begin_round(state, dies);
        write_while_cut(40, 0x81);
        stop_one_after_the_other(ONE, B);
        start_at(ONE, A);
        start_at(ONE, B);
        for (int step = 0; step < dies * 5; step++) {
            array_step(ONE, A);
            array_step(ONE, B);
            pass_time(1);
        }
        kill_at(ONE, who);
        pass_both_ms(50);
        between.cut = false;
        return_at(ONE, who);
        until_consistent(TWO);
        pass_both_ms(100);
        assert_sites_are_equal();
        assert_page(ONE, V_A, 40, 0x81);
    }
}

static void the_last_one_dies_while_it_tells(void **state)
{
    one_dies_while_b_tells_a(state, B);
}

static void the_one_that_began_dies_while_it_is_told(void **state)
{
    one_dies_while_b_tells_a(state, A);
}

/* By controller a, alone. */
static void until_all_was_sent(void)
{
    for (int i = 0; i < 1000 && inner(ONE, A)->base_pages_sent < 2 * LAST_PAGES; i++)
        pass_both_ms(10);
    pass_both_ms(300);
    assert_int_equal(inner(ONE, A)->base_pages_sent, 2 * LAST_PAGES);
    assert_int_equal(regions_left(&inner(ONE, A)->sender.regions), 0);
}

/* It may know of a suspension, or of a loss that was accepted: it is not for a clock to say that it
 * does not. */
static void who_stays_away_is_waited_for_until_an_operator_says_otherwise(void **state)
{
    write_while_cut(40, 0x81);
    stop_both(ONE);
    start_at(ONE, A);
    between.cut = false;
    pass_both_ms(300);
    assert_int_equal(write_at(ONE, A, V_B, 3, 1, 0x82), HOST_OK); /* hosts do not wait */
    pass_time(3600ull * 1000 * 1000);
    pass_both_ms(300);
    assert_true(inner(ONE, A)->site.lacks);
    assert_int_equal(inner(ONE, A)->base_pages_sent, 0);
    assert_false(operate(ONE, A, GROUP_RESYNC, false));
    assert_false(operate(ONE, A, GROUP_RESUME, false));
    assert_true(operate(ONE, A, GROUP_RESYNC, true));
    until_all_was_sent();
    assert_sites_are_equal();
}

/* The same where the other site was failed over meanwhile, and this one is to hand over its bitmap.
 */
static void who_stays_away_from_a_fenced_site_is_waited_for_as_well(void **state)
{
    until_consistent(TWO);
    stop_one_after_the_other(ONE, B);
    silence_of_the_primary();
    assert_true(operate_there(GROUP_FAILOVER, false));
    assert_int_equal(write_at(TWO, owner_at(TWO, V_A), V_A, 40, 1, 0x91), HOST_OK);
    start_at(ONE, A);
    between.cut = false;
    pass_both_ms(300);
    assert_int_equal(site_of(ONE, A)->now.role, SITE_FENCED);
    assert_true(site_of(ONE, A)->lacks);
    pass_time(3600ull * 1000 * 1000);
    pass_both_ms(300);
    assert_int_equal(site_of(ONE, A)->now.role, SITE_FENCED);
    assert_false(operate(ONE, A, GROUP_RESYNC, false));
    assert_true(operate(ONE, A, GROUP_RESYNC, true));
    pass_both_ms(300);
    assert_int_equal(site_of(ONE, A)->now.role, SITE_RECEIVING);
    assert_true(operate_there(GROUP_REVERSE, false));
    until_consistent(ONE);
    pass_both_ms(100);
    assert_int_equal(base_pages_at(TWO), 2 * LAST_PAGES);
    assert_sites_are_equal();
}

/* What it knew cannot be told any more: all of it would be copied, perhaps over the better copy. */
static void a_stop_before_it_came_leaves_the_copy_to_an_operator(void **state)
{
    until_consistent(TWO);
    pass_both_ms(300);
    silence_of_the_primary();
    assert_int_equal(write_at(ONE, A, V_A, 40, 1, 0x81), HOST_OK);
    stop_both(ONE);
    start_at(ONE, A);
    between.cut = false;
    pass_both_ms(300);
    assert_true(site_of(ONE, A)->lacks);
    ask_stop(ONE, A);
    until_stopped(ONE, A);
    start_at(ONE, A);
    return_at(ONE, B);
    pass_both_ms(300);
    assert_false(site_of(ONE, A)->lacks);
    for (int self = A; self < PAIR; self++)
        assert_true(inner(ONE, self)->suspended);
    assert_int_equal(base_pages_at(ONE), 0);
    assert_true(operate(ONE, owner_at(ONE, V_A), GROUP_RESUME, false));
    until_consistent(TWO);
    pass_both_ms(100);
    assert_sites_are_equal();
    assert_page(ONE, V_A, 40, 0x81);
}

static void an_operator_need_not_wait_for_who_never_comes(void **state)
{
    until_consistent(TWO);
    stop_one_after_the_other(ONE, B);
    between.cut = true;
    start_at(ONE, A);
    pass_both_ms(300);
    assert_true(site_of(ONE, A)->now.unknown && site_of(ONE, A)->lacks);
    assert_true(operate(ONE, A, GROUP_RESUME, true));
    assert_int_equal(write_at(ONE, A, V_A, 40, 1, 0x81), HOST_OK);
    between.cut = false;
    until_all_was_sent();
    return_at(ONE, B); /* its record is of no use any more */
    pass_both_ms(300);
    assert_int_equal(base_pages_at(ONE), 2 * LAST_PAGES);
    assert_sites_are_equal();
}

/* The record that comes is of a stop before the last one: what was written since is not in it. */
static void the_record_of_an_older_stop_is_not_the_last_ones(void **state)
{
    until_consistent(TWO);
    pass_both_ms(300);
    silence_of_the_primary();
    stop_one_after_the_other(ONE, B);
    struct kept_record old = side_of(ONE, B)->records[0];
    old.bytes = malloc(old.length_bytes);
    memcpy(old.bytes, side_of(ONE, B)->records[0].bytes, old.length_bytes);
    start_at(ONE, B);
    return_at(ONE, A);
    assert_int_equal(write_at(ONE, A, V_A, 40, 1, 0x81), HOST_OK);
    stop_one_after_the_other(ONE, B);
    free(side_of(ONE, B)->records[0].bytes);
    side_of(ONE, B)->records[0] = old;
    start_at(ONE, A);
    pass_both_ms(100);
    assert_true(site_of(ONE, A)->lacks);
    return_at(ONE, B);
    between.cut = false;
    pass_both_ms(300);
    for (int self = A; self < PAIR; self++) /* who knows what the one that stopped last had heard */
        assert_true(inner(ONE, self)->suspended);
    assert_true(operate(ONE, owner_at(ONE, V_A), GROUP_RESUME, false));
    until_consistent(TWO);
    pass_both_ms(100);
    assert_sites_are_equal();
    assert_page(ONE, V_A, 40, 0x81);
}

/* A stops, B suspends the group and stops as well. */
static void stop_suspended_by_the_last(void)
{
    ask_stop(ONE, A);
    until_stopped(ONE, A);
    pass_both_ms(300);
    assert_true(operate(ONE, B, GROUP_SUSPEND, false));
    ask_stop(ONE, B);
    until_stopped(ONE, B);
}

/* In doubt, or told meanwhile by the second array that it was not failed over. */
static void a_suspension_that_only_the_last_one_knows_outlives_the_stop(void **state)
{
    for (int doubts = 0; doubts < 2; doubts++) {
        begin_round(state, doubts);
        until_consistent(TWO);
        stop_suspended_by_the_last();
        between.cut = doubts > 0;
        start_at(ONE, A);
        pass_both_ms(300);
        assert_int_equal(site_of(ONE, A)->now.unknown, doubts > 0);
        assert_false(operate(ONE, A, GROUP_RESUME, false));
        return_at(ONE, B);
        between.cut = false;
        pass_both_ms(300);
        for (int self = A; self < PAIR; self++)
            assert_true(inner(ONE, self)->suspended);
        assert_true(operate(ONE, owner_at(ONE, V_A), GROUP_RESUME, false));
        until_consistent(TWO);
        pass_both_ms(300);
        assert_true(base_pages_at(ONE) <= 16);
    }
}

/* Of its stop it can say nothing any more, but its record is the newer one. */
static void a_suspension_outlives_a_stop_after_which_the_other_one_began_twice(void **state)
{
    until_consistent(TWO);
    stop_suspended_by_the_last();
    between.cut = true;
    start_at(ONE, A);
    pass_both_ms(300);
    kill_at(ONE, A);
    start_at(ONE, A);
    pass_both_ms(300);
    assert_true(site_of(ONE, A)->now.unknown);
    return_at(ONE, B);
    between.cut = false;
    pass_both_ms(300);
    for (int self = A; self < PAIR; self++) {
        assert_false(site_of(ONE, self)->now.unknown);
        assert_true(inner(ONE, self)->suspended);
    }
    assert_true(operate(ONE, owner_at(ONE, V_A), GROUP_RESUME, false));
    until_consistent(TWO);
    assert_sites_are_equal();
}

static void a_failover_that_only_the_last_one_knows_outlives_the_stop(void **state)
{
    until_consistent(TWO);
    pass_both_ms(300);
    silence_of_the_primary();
    ask_stop(TWO, A);
    until_stopped(TWO, A);
    pass_both_ms(300);
    assert_true(operate(TWO, B, GROUP_FAILOVER, false));
    assert_int_equal(write_at(TWO, B, V_A, 5, 1, 0x91), HOST_OK);
    ask_stop(TWO, B);
    until_stopped(TWO, B);
    start_at(TWO, A);
    pass_both_ms(100);
    return_at(TWO, B);
    pass_both_ms(100);
    for (int self = A; self < PAIR; self++) {
        assert_int_equal(site_of(TWO, self)->now.role, SITE_FAILED_OVER);
        assert_false(site_of(TWO, self)->lacks);
        assert_int_equal(regions_left(&inner(TWO, self)->sender.regions), 1);
    }
    between.cut = false;
    until_role(ONE, SITE_RECEIVING);
    assert_true(operate_there(GROUP_REVERSE, false));
    until_consistent(ONE);
    pass_both_ms(100);
    assert_int_equal(base_pages_at(TWO), 16);
    assert_sites_are_equal();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(whoever_begins_after_a_clean_stop_copies_only_what_was_touched),
        TEST(whoever_begins_at_the_second_array_goes_on_where_the_last_one_was),
        TEST(the_last_one_dies_while_it_tells),
        TEST(the_one_that_began_dies_while_it_is_told),
        TEST(who_stays_away_is_waited_for_until_an_operator_says_otherwise),
        TEST(who_stays_away_from_a_fenced_site_is_waited_for_as_well),
        TEST(a_stop_before_it_came_leaves_the_copy_to_an_operator),
        TEST(an_operator_need_not_wait_for_who_never_comes),
        TEST(the_record_of_an_older_stop_is_not_the_last_ones),
        TEST(a_suspension_that_only_the_last_one_knows_outlives_the_stop),
        TEST(a_suspension_outlives_a_stop_after_which_the_other_one_began_twice),
        TEST(a_failover_that_only_the_last_one_knows_outlives_the_stop),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
