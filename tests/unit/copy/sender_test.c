/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* One half by itself: the rules that the model meets too rarely to rely on it, and the bounds. */

#include "../check_trap.h"

#include "copy/sender.h"

enum { SLOTS = 3000, VOLUMES = 2, PAGES = 1000, BUDGET = 2000 };

static uint64_t memory[32768];
static struct pins pins;
static struct sender sender;

static int create(void **state)
{
    const struct sender_config config = {
        .volume_count = VOLUMES, .budget_pages = BUDGET, .base_pages = 40, .shortest_us = 100};
    memset(memory, 0, sizeof memory);
    struct arena arena = arena_over(memory, sizeof memory);
    pins_create(&pins, &arena, SLOTS);
    sender_create(&sender, &arena, &pins, &config, (const uint64_t[]){PAGES, PAGES});
    for (uint8_t v = 0; v < VOLUMES; v++)
        sender_own(&sender, v, true);
    return 0;
}

/* The leader of a pair, in cycle 1. */
static int leads(void **state)
{
    create(state);
    sender_begin(&sender, 0, 7, 1, true);
    sender_pair(&sender, true);
    return 0;
}

/* Everything that is given back, as a bit for each slot below 64. */
static uint64_t given_back(void)
{
    uint64_t slots = 0;
    struct sender_popped popped;
    while (sender_pop(&sender, &popped))
        slots |= 1ull << popped.slot;
    return slots;
}

static void a_write_in_the_bitmap_sets_a_bit_and_pins_nothing(void **state)
{
    assert_int_equal(sender_written(&sender, 3, 1, 500, 0xFF), 0);
    assert_false(pins_has(&pins, 3));
    assert_true(regions_marked(&sender.regions, 1, 500));
    assert_true(sender_range(&sender, 0, 0, PAGES));
    assert_int_equal(sender.regions.maps[0].marked, sender.regions.maps[0].region_count);
    assert_int_equal(sender_cut_deadline(&sender), UINT64_MAX);
}

static void a_slot_of_a_closed_cycle_is_frozen_until_that_is_confirmed(void **state)
{
    assert_int_equal(sender_written(&sender, 3, 0, 1, 0x01), 1);
    assert_false(sender_frozen(&sender, 3));
    sender_close(&sender, 100, 1000, 1);
    assert_true(sender_frozen(&sender, 3));
    ASSERT_CHECK_FAILS(sender_written(&sender, 3, 0, 1, 0x02));
    sender_inherit(&sender, 3, 4);
    assert_int_equal(sender_written(&sender, 4, 0, 1, 0x02), 2);
    assert_int_equal(sender_owed(&sender, 4), 0x03);
    assert_int_equal(pins_at(&pins, 4)->sectors, 0x02);
}

static void two_closed_cycles_are_the_most(void **state)
{
    for (uint64_t cycle = 1; cycle <= COPY_CLOSED; cycle++) {
        assert_true(sender_may_close(&sender, cycle, 2));
        sender_close(&sender, cycle, cycle, 2);
    }
    assert_false(sender_may_close(&sender, COPY_CLOSED + 1, 2));
    assert_int_equal(sender_cut_deadline(&sender), UINT64_MAX);
    ASSERT_CHECK_FAILS(sender_close(&sender, 9, 9, 2));
}

/* sends: the kind of the next batch, which is answered at once; -1: none. */
static int send(void)
{
    struct sender_batch batch;
    if (!sender_next_batch(&sender, &batch))
        return -1;
    uint64_t promoted = sender_answered(&sender, batch.number);
    assert_int_equal(promoted, batch.kind == SEND_PROMOTE ? batch.cycle : 0);
    if (promoted != 0)
        assert_true(sender_confirm(&sender, promoted));
    return batch.kind;
}

static void a_cycle_goes_in_order_and_is_promoted_when_the_peer_has_it(void **state)
{
    sender_attach(&sender, 4);
    sender_written(&sender, 3, 0, 1, 0x01);
    assert_true(sender_range(&sender, 0, 10, 5));
    assert_int_equal(send(), -1); /* nothing of an open cycle travels */
    sender_close(&sender, 100, 1000, 2);
    assert_int_equal(send(), SEND_RANGES);
    assert_int_equal(send(), SEND_PAGES);
    assert_int_equal(send(), SEND_END);
    assert_int_equal(send(), -1);
    assert_false(sender_peer_held(&sender, 2, true)); /* open */
    assert_true(sender_peer_held(&sender, 1, true));
    assert_false(sender_peer_held(&sender, 1, true)); /* said twice */
    assert_int_equal(send(), SEND_PROMOTE);
    assert_int_equal(given_back(), 1ull << 3);
    assert_true(sender.consistent);
    assert_int_equal(sender.range_count[0], 0);
    assert_null(sender_check(&sender));
}

/* What was confirmed is given back a few slots at a time, while cycles go on: until then a slot
 * stays frozen, and nothing waits for it any more. */
static void what_was_confirmed_is_given_back_while_cycles_go_on(void **state)
{
    assert_true(sender_range(&sender, 0, 100, 50));
    for (uint32_t slot = 3; slot < 6; slot++)
        sender_written(&sender, slot, 0, slot, 0x0F);
    sender_tagged(&sender, 6, 0, 6, 1, 0x0F);
    sender_close(&sender, 100, 1000, 2);
    sender_written(&sender, 7, 0, 7, 0xFF);
    sender_attach(&sender, 8);
    while (send() >= 0)
        continue;
    assert_true(sender_peer_held(&sender, 1, true));
    assert_int_equal(sender_waits(&sender, 3), 1);
    assert_int_equal(send(), SEND_PROMOTE);
    struct sender_popped popped;
    assert_true(sender_pop(&sender, &popped));
    assert_int_equal(popped.slot, 3);
    assert_false(sender_frozen(&sender, 3));
    assert_true(sender_frozen(&sender, 4));
    assert_int_equal(sender_waits(&sender, 4), 0);
    assert_int_equal(sender_waits(&sender, 6), 0);
    assert_int_equal(sender_waits(&sender, 7), 2);
    sender.config.budget_pages = 1;
    assert_false(sender_over_budget(&sender));
    sender_inherit(&sender, 4, 8); /* written meanwhile: the heir owes what was written now */
    sender_written(&sender, 8, 0, 4, 0x10);
    assert_int_equal(sender_owed(&sender, 8), 0x10);
    sender_tagged(&sender, 6, 0, 6, 2, 0x80);
    assert_int_equal(sender_owed(&sender, 6), 0x80);
    sender_close(&sender, 200, 2000, 2);
    sender_close(&sender, 300, 3000, 2); /* every place for a cycle is taken */
    assert_false(sender_may_close(&sender, sender.open, 2));
    assert_null(sender_check(&sender));
    assert_int_equal(given_back(), 1ull << 4 | 1ull << 5);
    assert_int_equal(sender.over, 0);
    assert_null(sender_check(&sender));
}

static void what_has_no_answer_is_sent_again_the_same(void **state)
{
    struct sender_batch first, again;
    sender_attach(&sender, 1);
    for (uint32_t slot = 0; slot < SENDER_PAGES + 1; slot++)
        sender_written(&sender, slot, 0, slot % PAGES, 0xFF);
    sender_close(&sender, 100, 1000, 1);
    assert_true(sender_next_batch(&sender, &first));
    assert_int_equal(first.count, SENDER_PAGES);
    assert_false(sender_next_batch(&sender, &again)); /* the window */
    sender_detach(&sender);
    assert_false(sender_next_batch(&sender, &again));
    sender_answered(&sender, first.number); /* of the session that is gone */
    sender_attach(&sender, 1);
    assert_true(sender_next_batch(&sender, &again));
    assert_memory_equal(&again, &first, sizeof first);
    sender_answered(&sender, first.number);
    assert_true(sender_next_batch(&sender, &again));
    assert_int_equal(again.count, 1);
    assert_int_equal(again.first, SENDER_PAGES);
    assert_int_equal(sender_answered(&sender, again.number + 1), 0); /* never sent */
}

/* An own heir says all that its elder said; the page's newest slot is the peer's meanwhile. */
static void a_restart_drops_an_elder_whose_heir_is_pinned(void **state)
{
    sender_written(&sender, 3, 0, 1, 0xE0);
    sender_close(&sender, 100, 1000, 2);
    sender_inherit(&sender, 3, 4);
    sender_written(&sender, 4, 0, 1, 0xFF);
    sender_moved(&sender, 0);
    sender_tagged(&sender, 5, 0, 1, 2, 0x1F);
    sender_restart(&sender, 8, false);
    struct sender_popped popped;
    enum sender_fate fate[6] = {0};
    while (sender_pop(&sender, &popped))
        fate[popped.slot] = sender_keep(&sender, &popped, 0, 1, popped.slot != 5, 5);
    assert_int_equal(fate[3], SENDER_DROPPED);
    assert_int_equal(fate[4], SENDER_KEPT);
    assert_int_equal(fate[5], SENDER_KEPT);
    assert_int_equal(sender.cycle[sender.open % COPY_RING].pins.count, 1);
    assert_int_equal(sender.cycle[sender.open % COPY_RING].tags.count, 1);
    assert_null(sender_check(&sender));
}

/* After a takeover: the page is read anew, and no range of the same cycle may zero what is read. */
static void a_takeover_marks_what_was_superseded_and_takes_it_out_of_ranges(void **state)
{
    assert_true(sender_range(&sender, 0, 100, 50));
    sender_written(&sender, 3, 0, 120, 0xE0);
    sender_moved(&sender, 0);
    sender_tagged(&sender, 5, 0, 120, 1, 0x1F);
    sender_restart(&sender, 8, true);
    struct sender_popped popped;
    while (sender_pop(&sender, &popped)) {
        enum sender_fate fate = sender_keep(&sender, &popped, 0, 120, popped.slot == 3, 5);
        assert_int_equal(fate, popped.slot == 3 ? SENDER_DROPPED : SENDER_KEPT);
    }
    assert_true(regions_marked(&sender.regions, 0, 120));
    assert_int_equal(regions_left(&sender.regions), 1);
    uint64_t zeroed = 0;
    for (const struct sender_range *range = sender_range_at(&sender, sender.open, 0); range != NULL;
         range = sender_range_at(&sender, sender.open, (uint32_t)(range - sender.ranges) + 1)) {
        assert_true(range->page + range->count <= 120 || range->page > 120);
        zeroed += range->count;
    }
    assert_int_equal(zeroed, 49);
    assert_null(sender_check(&sender));
}

static void a_marked_page_cuts_ranges_at_every_place(void **state)
{
    for (uint64_t page = 8; page < 24; page++) {
        for (uint64_t count = 1; count < 12; count++) {
            leads(state);
            assert_true(sender_range(&sender, 0, 12, 6));
            assert_true(sender_range(&sender, 1, 12, 6));
            sender_mark(&sender, 0, page, count);
            bool zeroed[2][PAGES] = {{false}};
            for (uint32_t i = 0; i < SENDER_RANGES; i++) {
                const struct sender_range *range = &sender.ranges[i];
                for (uint64_t p = range->page; range->cycle != 0 && p < range->page + range->count;
                     p++)
                    zeroed[range->volume][p] = true;
            }
            for (uint64_t p = 0; p < 40; p++) {
                bool in = p >= 12 && p < 18;
                assert_int_equal(zeroed[1][p], in);
                assert_int_equal(zeroed[0][p], in && (p < page || p >= page + count));
            }
            assert_null(sender_check(&sender));
        }
    }
}

static void a_full_table_takes_no_range(void **state)
{
    for (uint32_t i = 0; i < COPY_RANGES; i++)
        assert_true(sender_range(&sender, 0, 2 * i, 1));
    assert_false(sender_range(&sender, 0, 999, 1));
    for (uint32_t i = 0; i < 2 * COPY_RANGES; i++)
        assert_true(sender_range_tagged(&sender, 1, i, 1, 1));
    assert_false(sender_range_tagged(&sender, 1, 999, 1, 1));
    assert_null(sender_check(&sender));
    sender_restart(&sender, 8, true); /* all of them are this half's: a third has no place */
    assert_int_equal(given_back(), 0);
    assert_int_equal(sender.range_count[0], 2 * COPY_RANGES);
    assert_int_equal(sender.range_count[1], 0);
    assert_true(regions_left(&sender.regions) > 0);
    sender_fall(&sender);
    assert_int_equal(given_back(), 0);
    for (uint32_t i = 0; i < COPY_RANGES; i++)
        assert_true(regions_marked(&sender.regions, 0, 2 * i));
    assert_true(regions_marked(&sender.regions, 1, 2 * COPY_RANGES - 1));
    assert_null(sender_check(&sender));
}

static void the_peers_word_from_before_a_fall_or_a_restart_is_placed(void **state)
{
    sender_tagged(&sender, 5, 0, 40, 0, 0xFF); /* it had not heard of GROUP */
    assert_false(pins_has(&pins, 5));
    assert_true(regions_marked(&sender.regions, 0, 40));
    sender_close(&sender, 100, 1000, 2);
    sender_restart(&sender, 8, false);
    assert_int_equal(given_back(), 0);
    sender_tagged(&sender, 5, 0, 40, 1, 0xFF); /* nor of the restart: it is in its one cycle */
    assert_int_equal(pins_at(&pins, 5)->ring, sender.open % COPY_RING);
    assert_true(sender_fall_concerns(&sender, 7)); /* said before the restart, and still true */
    assert_false(sender_fall_concerns(&sender, 6));
    sender_fall(&sender);
    given_back();
    assert_false(sender_fall_concerns(&sender, 8)); /* it fell already */
    sender_begin(&sender, 200, 9, sender.open + 1, true);
    assert_false(sender_fall_concerns(&sender, 8));
    assert_true(sender_fall_concerns(&sender, 9));
}

static void a_survivor_in_the_bitmap_leads(void **state)
{
    sender_fall(&sender);
    given_back();
    sender.leader = false;
    sender_lead(&sender);
    assert_true(sender.leader);
    assert_false(sender.paired);
}

static void a_returned_half_has_no_part_in_what_was_closed_without_it(void **state)
{
    create(state);
    sender_join(&sender, 0, 7, 3, 4, 7, (const uint16_t[]){2, 3});
    assert_int_equal(sender_closed_count(&sender), 2);
    sender_attach(&sender, 4);
    assert_int_equal(send(), -1);
    bool done;
    assert_int_equal(sender_held_due(&sender, &done), 0);
    assert_int_equal(sender.generation[1], 3);
    assert_true(sender_confirm(&sender, 5));
    given_back();
    assert_false(sender_confirm(&sender, 5));
    assert_null(sender_check(&sender));
}

static void marked_pages_are_shared_out_and_kept_until_confirmed(void **state)
{
    uint8_t volume;
    uint64_t first, cycle;
    uint32_t count, sum = 0;
    create(state);
    regions_mark(&sender.regions, 0, 0, 64);
    sender_begin(&sender, 0, 7, 1, true);
    while (sender_base_next(&sender, 16, &volume, &first, &count, &cycle))
        sum += count;
    assert_int_equal(sum, 40); /* a cycle's share */
    sender_close(&sender, 100, 1000, 1);
    assert_false(sender.cycle[1].done);
    sender_attach(&sender, 8);
    assert_int_equal(send(), -1); /* END waits for the reads */
    sender_base_read(&sender, 1, 40);
    assert_int_equal(send(), SEND_BASE);
    assert_int_equal(send(), SEND_END);
    assert_int_equal(regions_left(&sender.regions), 4);
    assert_int_equal(send(), SEND_PROMOTE);
    assert_int_equal(given_back(), 0);
    assert_false(sender.consistent);
    assert_int_equal(regions_left(&sender.regions), 2); /* the third region went in part */
    ASSERT_CHECK_FAILS(sender_base_read(&sender, 2, 1));
}

/* Closes the open cycle, with the other half done too, and confirms it. */
static bool confirm_next(uint64_t cycle)
{
    sender_close(&sender, 100, 1000, 2);
    assert_int_equal(send(), SEND_END);
    assert_true(sender_peer_held(&sender, cycle, true));
    assert_int_equal(send(), SEND_PROMOTE);
    given_back();
    assert_int_equal(sender.confirmed, cycle);
    return sender.consistent;
}

static void a_cycle_in_which_a_volume_moved_is_vouched_for_when_no_bit_was_on_its_way(void **state)
{
    leads(state);
    sender_attach(&sender, 8);
    sender_moved(&sender, 0); /* with bits, perhaps: at neither half when they closed */
    assert_false(confirm_next(1));
    assert_true(confirm_next(2));
    sender_moved(&sender, 0); /* there were none to go with it */
    assert_true(confirm_next(3));
    sender_mark(&sender, 0, 3, 1); /* there is one, and away it goes */
    sender_moved(&sender, 0);
    sender_own(&sender, 0, false);
    assert_false(confirm_next(4));
    sender_moved(&sender, 0); /* the cut before does not say that there is none */
    assert_false(confirm_next(5));
}

static void an_idle_group_is_cut_each_second_once_it_is_consistent(void **state)
{
    assert_int_equal(sender_cut_deadline(&sender), 100); /* the copy does not say it is */
    sender.consistent = true;
    assert_int_equal(sender_cut_deadline(&sender), 1000 * 1000);
    sender_tagged(&sender, 5, 0, 40, 1, 0xFF); /* the other half wrote */
    assert_int_equal(sender_cut_deadline(&sender), 100);
    assert_false(sender_cut_due(&sender, 99));
    assert_true(sender_cut_due(&sender, 100));
}

static void the_budget_counts_own_pins_alone(void **state)
{
    for (uint32_t slot = 0; slot < BUDGET; slot++)
        sender_written(&sender, slot, 0, slot % PAGES, 1);
    sender_tagged(&sender, BUDGET, 0, 1, 1, 1);
    assert_false(sender_over_budget(&sender));
    sender_written(&sender, BUDGET + 1, 0, 1, 1);
    assert_true(sender_over_budget(&sender));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_write_in_the_bitmap_sets_a_bit_and_pins_nothing, create),
        cmocka_unit_test_setup(a_slot_of_a_closed_cycle_is_frozen_until_that_is_confirmed, leads),
        cmocka_unit_test_setup(two_closed_cycles_are_the_most, leads),
        cmocka_unit_test_setup(a_cycle_goes_in_order_and_is_promoted_when_the_peer_has_it, leads),
        cmocka_unit_test_setup(what_was_confirmed_is_given_back_while_cycles_go_on, leads),
        cmocka_unit_test_setup(what_has_no_answer_is_sent_again_the_same, leads),
        cmocka_unit_test_setup(a_restart_drops_an_elder_whose_heir_is_pinned, leads),
        cmocka_unit_test_setup(a_takeover_marks_what_was_superseded_and_takes_it_out_of_ranges,
                               leads),
        cmocka_unit_test(a_marked_page_cuts_ranges_at_every_place),
        cmocka_unit_test_setup(a_full_table_takes_no_range, leads),
        cmocka_unit_test_setup(the_peers_word_from_before_a_fall_or_a_restart_is_placed, leads),
        cmocka_unit_test_setup(a_survivor_in_the_bitmap_leads, leads),
        cmocka_unit_test(a_returned_half_has_no_part_in_what_was_closed_without_it),
        cmocka_unit_test(marked_pages_are_shared_out_and_kept_until_confirmed),
        cmocka_unit_test(a_cycle_in_which_a_volume_moved_is_vouched_for_when_no_bit_was_on_its_way),
        cmocka_unit_test_setup(an_idle_group_is_cut_each_second_once_it_is_consistent, leads),
        cmocka_unit_test_setup(the_budget_counts_own_pins_alone, leads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
