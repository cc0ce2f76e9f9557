/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Replacement (S3-FIFO): what was read again survives a scan, and what was given up is remembered.
 */

#include "cache/replace.h"

#include "base/generator.h"
#include "slot_table.h"

enum { HALF = 100 };

static struct slot_table table;
static struct replace replace;

static int set_up(void **state)
{
    struct arena arena = table_arena();
    slot_table_create(&table, &arena, HALF);
    replace_create(&replace, &arena, HALF);
    return 0;
}

/* As a read miss does: a free slot, or the victim's. */
static struct slot *bring_in(uint64_t page)
{
    if (slot_list_count(&table, LIST_FREE) == 0) {
        struct slot *victim = replace_victim(&replace, &table);
        assert_non_null(victim);
        slot_release(&table, victim);
    }
    struct slot *slot = slot_take(&table, page);
    slot->valid = SLOT_SECTORS_ALL;
    replace_insert(&replace, &table, slot);
    return slot;
}

/* True when it was a hit. */
static bool read_page(uint64_t page)
{
    struct slot *slot = slot_find(&table, page);
    if (slot != NULL)
        replace_on_hit(slot);
    else
        bring_in(page);
    return slot != NULL;
}

static void with_no_hits_the_oldest_goes_first(void **state)
{
    for (uint64_t page = 0; page < HALF; page++)
        bring_in(page);
    for (uint64_t page = 0; page < HALF; page++) {
        struct slot *victim = replace_victim(&replace, &table);
        assert_int_equal(victim->key, page);
        assert_int_equal(victim->state, SLOT_CLEAN);
        assert_int_equal(victim->list, LIST_NONE);
        assert_ptr_equal(slot_find(&table, page), victim);
        slot_release(&table, victim);
    }
    assert_null(replace_victim(&replace, &table));
}

static void a_page_read_again_outlives_a_scan(void **state)
{
    enum { HOT = 40 };
    for (uint64_t page = 0; page < HOT; page++) {
        read_page(page);
        read_page(page);
    }
    for (uint64_t page = 1000; page < 1000 + 20 * HALF; page++)
        read_page(page);
    for (uint64_t page = 0; page < HOT; page++)
        assert_non_null(slot_find(&table, page));
    assert_int_equal(slot_list_count(&table, LIST_MAIN), HOT);
}

static void a_page_read_once_does_not_outlive_a_scan(void **state)
{
    read_page(0);
    for (uint64_t page = 1000; page < 1000 + HALF; page++)
        read_page(page);
    assert_null(slot_find(&table, 0));
}

static void what_comes_back_soon_after_it_was_given_up_goes_to_the_main_queue(void **state)
{
    for (uint64_t page = 0; page <= HALF; page++)
        read_page(page);
    assert_null(slot_find(&table, 0));
    read_page(0);
    assert_int_equal(slot_find(&table, 0)->list, LIST_MAIN);
    read_page(500);
    assert_int_equal(slot_find(&table, 500)->list, LIST_SMALL);
    /* The memory of it is used up: given up from the main queue, it starts again as new. */
    struct slot *slot = slot_find(&table, 0);
    slot_list_remove(&table, slot);
    slot_release(&table, slot);
    read_page(0);
    assert_int_equal(slot_find(&table, 0)->list, LIST_SMALL);
}

static void a_page_that_was_hit_while_dirty_comes_to_the_main_queue(void **state)
{
    struct slot *slot = slot_take(&table, 1);
    replace_on_hit(slot);
    replace_insert(&replace, &table, slot);
    assert_int_equal(slot->list, LIST_MAIN);
    assert_int_equal(slot->frequency, 0);
}

static void hits_count_to_three_and_move_nothing(void **state)
{
    struct slot *slot = bring_in(1);
    bring_in(2);
    for (int i = 0; i < 300; i++)
        replace_on_hit(slot);
    assert_int_equal(slot->frequency, 3);
    assert_ptr_equal(slot_list_first(&table, LIST_SMALL), slot);
}

static void in_the_main_queue_each_hit_is_worth_one_more_turn(void **state)
{
    struct slot *slots[3];
    for (uint64_t page = 0; page < 3; page++) {
        slots[page] = slot_take(&table, page);
        slots[page]->frequency = 1;
        replace_insert(&replace, &table, slots[page]);
    }
    replace_on_hit(slots[0]);
    replace_on_hit(slots[0]);
    replace_on_hit(slots[1]);
    assert_ptr_equal(replace_victim(&replace, &table), slots[2]);
    assert_ptr_equal(replace_victim(&replace, &table), slots[1]);
    assert_ptr_equal(replace_victim(&replace, &table), slots[0]);
    assert_null(replace_victim(&replace, &table));
}

static void the_small_queue_is_kept_near_a_tenth(void **state)
{
    for (uint64_t page = 0; page < HALF; page++)
        bring_in(page)->frequency = 1;
    for (uint64_t page = 1000; page < 1500; page++)
        read_page(page);
    assert_in_range(slot_list_count(&table, LIST_SMALL), 8, 12);
}

static void a_skewed_load_beats_plain_first_in_first_out(void **state)
{
    /* A hot set of 60 read at random between scans of pages never seen again. */
    struct generator random;
    unsigned hits = 0, reads = 0;
    uint64_t cold = 100000;
    generator_seed(&random, 5);
    for (int i = 0; i < 20000; i++) {
        if (i % 2) {
            read_page(cold++);
        } else {
            bool hit = read_page(generator_below(&random, 60));
            hits += hit && i > 5000;
            reads += i > 5000;
        }
    }
    assert_true(hits * 100 / reads >= 95); /* first in first out gives about 70 */
}

static void adopted_slots_are_never_given_up(void **state)
{
    struct slot *slot = slot_take_image(&table, 0, 1);
    slot_list_remove(&table, slot);
    slot_set_state(&table, slot, SLOT_DESTAGING);
    slot_set_state(&table, slot, SLOT_CLEAN);
    replace_insert(&replace, &table, slot);
    assert_int_equal(slot->list, LIST_NONE);
    assert_null(replace_victim(&replace, &table));
}

static void only_clean_slots_without_a_fetch_may_be_given_up(void **state)
{
    struct slot *slot = slot_take(&table, 1);
    slot->fetch = 1;
    ASSERT_CHECK_FAILS(replace_insert(&replace, &table, slot));
    slot->fetch = 0;
    slot_set_state(&table, slot, SLOT_DIRTY);
    ASSERT_CHECK_FAILS(replace_insert(&replace, &table, slot));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(with_no_hits_the_oldest_goes_first, set_up),
        cmocka_unit_test_setup(a_page_read_again_outlives_a_scan, set_up),
        cmocka_unit_test_setup(a_page_read_once_does_not_outlive_a_scan, set_up),
        cmocka_unit_test_setup(what_comes_back_soon_after_it_was_given_up_goes_to_the_main_queue,
                               set_up),
        cmocka_unit_test_setup(a_page_that_was_hit_while_dirty_comes_to_the_main_queue, set_up),
        cmocka_unit_test_setup(hits_count_to_three_and_move_nothing, set_up),
        cmocka_unit_test_setup(in_the_main_queue_each_hit_is_worth_one_more_turn, set_up),
        cmocka_unit_test_setup(the_small_queue_is_kept_near_a_tenth, set_up),
        cmocka_unit_test_setup(a_skewed_load_beats_plain_first_in_first_out, set_up),
        cmocka_unit_test_setup(adopted_slots_are_never_given_up, set_up),
        cmocka_unit_test_setup(only_clean_slots_without_a_fetch_may_be_given_up, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
