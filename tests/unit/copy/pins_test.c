/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Lists of pins against arrays of numbers. */

#include "../check_trap.h"

#include "base/generator.h"
#include "copy/pins.h"

enum { SLOTS = 50, LISTS = COPY_RING };

static uint64_t memory[256];
static struct pins pins;
static struct pin_list lists[LISTS];

static int create(void **state)
{
    memset(memory, 0, sizeof memory);
    struct arena arena = arena_over(memory, sizeof memory);
    pins_create(&pins, &arena, SLOTS);
    for (int i = 0; i < LISTS; i++)
        lists[i] = pin_list_empty();
    return 0;
}

static void a_new_slot_is_on_no_list_and_owes_nothing(void **state)
{
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        assert_false(pins_has(&pins, slot));
        assert_int_equal(pins_at(&pins, slot)->owed, 0);
    }
    ASSERT_CHECK_FAILS(pins_at(&pins, SLOTS));
}

static void a_slot_is_on_one_list_at_most(void **state)
{
    pins_append(&pins, &lists[0], 3, 0);
    ASSERT_CHECK_FAILS(pins_append(&pins, &lists[1], 3, 1));
    ASSERT_CHECK_FAILS(pins_clear(&pins, 3));
    ASSERT_CHECK_FAILS(pins_remove(&pins, &lists[1], 3)); /* not the one it stands on */
    ASSERT_CHECK_FAILS(pins_append(&pins, &lists[1], 4, COPY_RING));
}

static void what_a_slot_owes_outlives_its_list_until_it_is_cleared(void **state)
{
    pins_append(&pins, &lists[0], 3, 0);
    pins_at(&pins, 3)->sectors = pins_at(&pins, 3)->owed = 7;
    pins_at(&pins, 3)->generation = 9;
    pins_at(&pins, 3)->passed_on = true;
    pins_remove(&pins, &lists[0], 3);
    assert_int_equal(pins_at(&pins, 3)->owed, 7);
    pins_clear(&pins, 3);
    assert_int_equal(pins_at(&pins, 3)->owed, 0);
    assert_int_equal(pins_at(&pins, 3)->generation, 0);
    assert_false(pins_at(&pins, 3)->passed_on);
}

static void the_lists_are_what_was_appended_and_not_removed(void **state)
{
    uint32_t expected[LISTS][SLOTS], count[LISTS] = {0};
    struct generator dice;
    generator_seed(&dice, 3);
    for (int step = 0; step < 20000; step++) {
        uint32_t slot = (uint32_t)generator_below(&dice, SLOTS);
        uint32_t list = (uint32_t)generator_below(&dice, LISTS);
        if (!pins_has(&pins, slot)) {
            pins_append(&pins, &lists[list], slot, (uint8_t)list);
            expected[list][count[list]++] = slot;
        } else if (generator_chance(&dice, 1, 4)) {
            uint32_t popped = pins_pop(&pins, &lists[list]);
            assert_int_equal(popped, count[list] == 0 ? NO_INDEX : expected[list][0]);
            if (popped != NO_INDEX)
                memmove(expected[list], expected[list] + 1, --count[list] * sizeof(uint32_t));
        } else {
            list = pins_at(&pins, slot)->ring;
            uint32_t at = 0;
            while (expected[list][at] != slot)
                at++;
            pins_remove(&pins, &lists[list], slot);
            memmove(&expected[list][at], &expected[list][at + 1],
                    (--count[list] - at) * sizeof(uint32_t));
        }
        for (list = 0; list < LISTS; list++) {
            uint32_t at = 0;
            for (slot = lists[list].head; slot != NO_INDEX; slot = pins_next(&pins, slot))
                assert_int_equal(slot, expected[list][at++]);
            assert_int_equal(at, count[list]);
            assert_int_equal(lists[list].count, at);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_new_slot_is_on_no_list_and_owes_nothing, create),
        cmocka_unit_test_setup(a_slot_is_on_one_list_at_most, create),
        cmocka_unit_test_setup(what_a_slot_owes_outlives_its_list_until_it_is_cleared, create),
        cmocka_unit_test_setup(the_lists_are_what_was_appended_and_not_removed, create),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
