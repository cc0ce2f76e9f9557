/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The oracle itself: what it must allow and, more important, what it must blame. A rule that it
 * forgets would make the simulator blind, so each is tried from both sides. */

#include "sim/oracle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CELL = 32, SIZE = 4096, AT = 512, LENGTH = 64 };

static struct oracle *create(void)
{
    uint64_t size = SIZE;
    return oracle_create(CELL, 1, &size);
}

static uint64_t begin(struct oracle *oracle)
{
    return oracle_write_begin(oracle, 0, AT, LENGTH, false);
}

static uint64_t write(struct oracle *oracle)
{
    uint64_t id = begin(oracle);
    oracle_write_done(oracle, id);
    return id;
}

/* A read that began as `token` ends with what write `id` wrote (0: zeros). */
static bool ends(struct oracle *oracle, uint64_t token, uint64_t id)
{
    uint8_t data[LENGTH] = {0};
    if (id != 0)
        oracle_fill(oracle, id, data);
    return oracle_read_end(oracle, token, 0, AT, LENGTH, data) == NULL;
}

static bool reads(struct oracle *oracle, uint64_t id)
{
    return ends(oracle, oracle_read_begin(oracle), id);
}

static void accept_loss(struct oracle *oracle)
{
    static bool all[VOLUME_LIMIT];
    memset(all, true, sizeof all);
    oracle_accept_loss(oracle, all);
}

static void never_written_reads_as_zeros(void **state)
{
    struct oracle *oracle = create();
    assert_true(reads(oracle, 0));
    uint8_t junk[LENGTH];
    memset(junk, 0xA5, sizeof junk);
    assert_non_null(oracle_read_end(oracle, oracle_read_begin(oracle), 0, AT, LENGTH, junk));
    oracle_destroy(oracle);
}

static void acknowledged_write_hides_what_was_before(void **state)
{
    struct oracle *oracle = create();
    uint64_t first = write(oracle);
    assert_true(reads(oracle, first));
    uint64_t second = write(oracle);
    assert_false(reads(oracle, first));
    assert_true(reads(oracle, second));
    assert_false(reads(oracle, 0));
    oracle_destroy(oracle);
}

static void pending_write_may_be_seen_or_not_but_never_goes_back(void **state)
{
    struct oracle *oracle = create();
    uint64_t old = write(oracle), new = begin(oracle);
    assert_true(reads(oracle, old));
    assert_true(reads(oracle, new));
    assert_false(reads(oracle, old));
    oracle_write_done(oracle, new);
    assert_true(reads(oracle, new));
    oracle_destroy(oracle);
}

static void of_two_writes_at_once_either_stays_once_seen(void **state)
{
    for (int which = 0; which < 2; which++) {
        struct oracle *oracle = create();
        uint64_t id[2] = {begin(oracle), begin(oracle)};
        oracle_write_done(oracle, id[0]);
        oracle_write_done(oracle, id[1]);
        assert_true(reads(oracle, id[which]));
        assert_false(reads(oracle, id[!which]));
        oracle_destroy(oracle);
    }
}

static void read_may_give_what_was_true_while_it_ran(void **state)
{
    struct oracle *oracle = create();
    uint64_t old = write(oracle), token = oracle_read_begin(oracle), new = write(oracle);
    uint64_t late = oracle_read_begin(oracle);
    assert_true(ends(oracle, token, old));
    assert_false(ends(oracle, late, old));
    assert_true(reads(oracle, new));
    oracle_destroy(oracle);
}

static void read_fixes_the_order_for_reads_that_begin_later(void **state)
{
    struct oracle *oracle = create();
    uint64_t old = write(oracle), new = begin(oracle);
    uint64_t early = oracle_read_begin(oracle);
    assert_true(reads(oracle, new));
    assert_true(ends(oracle, early, old)); /* it may have looked before */
    assert_false(reads(oracle, old));
    oracle_write_done(oracle, new);
    oracle_destroy(oracle);
}

static void unknown_write_may_show_until_overwritten(void **state)
{
    struct oracle *oracle = create();
    uint64_t old = write(oracle), lost = begin(oracle);
    oracle_write_unknown(oracle, lost);
    assert_true(reads(oracle, lost));
    assert_false(reads(oracle, old));
    lost = begin(oracle);
    oracle_write_unknown(oracle, lost);
    uint64_t new = write(oracle);
    assert_false(reads(oracle, lost));
    assert_true(reads(oracle, new));
    oracle_destroy(oracle);
}

static void unknown_write_that_was_not_there_does_not_come_later(void **state)
{
    struct oracle *oracle = create();
    uint64_t old = write(oracle), lost = begin(oracle);
    oracle_write_unknown(oracle, lost);
    assert_true(reads(oracle, old));
    assert_false(reads(oracle, lost));
    oracle_destroy(oracle);
}

static void zeroing_is_a_write_of_zeros(void **state)
{
    struct oracle *oracle = create();
    uint64_t old = write(oracle);
    oracle_write_done(oracle, oracle_write_begin(oracle, 0, 0, SIZE, true));
    assert_false(reads(oracle, old));
    assert_true(reads(oracle, 0));
    oracle_destroy(oracle);
}

static void accepted_loss_allows_any_past_but_only_one(void **state)
{
    struct oracle *oracle = create();
    uint64_t first = write(oracle), second = write(oracle);
    accept_loss(oracle);
    assert_true(reads(oracle, first));
    assert_false(reads(oracle, second));
    assert_true(reads(oracle, first));
    accept_loss(oracle);
    uint64_t third = write(oracle);
    assert_false(reads(oracle, first));
    assert_true(reads(oracle, third));
    oracle_destroy(oracle);
}

/* They may be those of the beginning, or of a zeroing that then still may come. */
static void zeros_after_an_accepted_loss_do_not_say_whose_they_are(void **state)
{
    struct oracle *oracle = create();
    uint64_t first = write(oracle);
    accept_loss(oracle);
    uint64_t zeroing = oracle_write_begin(oracle, 0, 0, SIZE, true);
    assert_true(reads(oracle, 0));
    uint64_t second = write(oracle);
    oracle_write_done(oracle, zeroing);
    assert_false(reads(oracle, first));
    assert_true(reads(oracle, 0));
    assert_false(reads(oracle, second));
    oracle_destroy(oracle);
}

static void bytes_of_another_place_are_blamed(void **state)
{
    struct oracle *oracle = create();
    uint64_t id = write(oracle);
    uint8_t data[LENGTH], moved[LENGTH];
    oracle_fill(oracle, id, data);
    memcpy(moved, data + CELL, CELL);
    memcpy(moved + CELL, data, CELL);
    assert_non_null(oracle_read_end(oracle, oracle_read_begin(oracle), 0, AT, LENGTH, moved));
    memcpy(moved, data, sizeof moved);
    moved[CELL + 9] ^= 1;
    assert_non_null(oracle_read_end(oracle, oracle_read_begin(oracle), 0, AT, LENGTH, moved));
    assert_true(reads(oracle, id));
    oracle_destroy(oracle);
}

static void store_must_hold_the_last_acknowledged(void **state)
{
    struct oracle *oracle = create();
    uint64_t old = write(oracle);
    uint8_t *store = calloc(1, SIZE);
    oracle_fill(oracle, old, store + AT);
    assert_null(oracle_check_store(oracle, 0, store));
    write(oracle);
    assert_non_null(oracle_check_store(oracle, 0, store));
    free(store);
    oracle_destroy(oracle);
}

/* What the store was promised to hold stays, whatever is lost: nothing older may come back. */
static void an_accepted_loss_keeps_what_was_durable(void **state)
{
    struct oracle *oracle = create();
    uint64_t old = write(oracle);
    uint64_t kept = write(oracle);
    oracle_write_durable(oracle, kept);
    uint64_t lost = write(oracle);
    accept_loss(oracle);
    assert_false(ends(oracle, oracle_read_begin(oracle), old));
    accept_loss(oracle);
    assert_true(ends(oracle, oracle_read_begin(oracle), kept));
    accept_loss(oracle);
    assert_true(ends(oracle, oracle_read_begin(oracle), lost));
    oracle_destroy(oracle);
}

/* A flush makes durable what was acknowledged before it began, unless that was lost meanwhile. */
static void a_flush_covers_what_came_before_it(void **state)
{
    struct oracle *oracle = create();
    uint64_t old = write(oracle);
    uint64_t kept = write(oracle);
    oracle_flushed(oracle, 0, oracle_now(oracle) + 1);
    accept_loss(oracle);
    assert_false(ends(oracle, oracle_read_begin(oracle), old));
    assert_true(ends(oracle, oracle_read_begin(oracle), kept));
    write(oracle);
    accept_loss(oracle);
    oracle_flushed(oracle, 0, oracle_now(oracle) + 1);
    assert_true(ends(oracle, oracle_read_begin(oracle), kept));
    oracle_destroy(oracle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_accepted_loss_keeps_what_was_durable),
        cmocka_unit_test(a_flush_covers_what_came_before_it),
        cmocka_unit_test(never_written_reads_as_zeros),
        cmocka_unit_test(acknowledged_write_hides_what_was_before),
        cmocka_unit_test(pending_write_may_be_seen_or_not_but_never_goes_back),
        cmocka_unit_test(of_two_writes_at_once_either_stays_once_seen),
        cmocka_unit_test(read_may_give_what_was_true_while_it_ran),
        cmocka_unit_test(read_fixes_the_order_for_reads_that_begin_later),
        cmocka_unit_test(unknown_write_may_show_until_overwritten),
        cmocka_unit_test(unknown_write_that_was_not_there_does_not_come_later),
        cmocka_unit_test(zeroing_is_a_write_of_zeros),
        cmocka_unit_test(accepted_loss_allows_any_past_but_only_one),
        cmocka_unit_test(zeros_after_an_accepted_loss_do_not_say_whose_they_are),
        cmocka_unit_test(bytes_of_another_place_are_blamed),
        cmocka_unit_test(store_must_hold_the_last_acknowledged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
