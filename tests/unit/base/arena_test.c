/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The arena: what is measured is what is taken, aligned, in order, and never more than there is. */

#include "base/arena.h"

#include "../check_trap.h"

static void parts_are_aligned_in_order_and_do_not_overlap(void **state)
{
    static _Alignas(4096) uint8_t memory[3 * 4096];
    struct arena arena = arena_over(memory, sizeof memory);
    uint8_t *first = arena_take(&arena, 3, 1);
    uint8_t *second = arena_take(&arena, 8, 8);
    uint8_t *third = arena_take(&arena, 4096, 4096);
    assert_ptr_equal(first, memory);
    assert_ptr_equal(second, memory + 8);
    assert_ptr_equal(third, memory + 4096);
    assert_int_equal(arena.used, 2 * 4096);
    uint32_t *numbers = arena_array(&arena, uint32_t, 1024);
    assert_ptr_equal(numbers, memory + 2 * 4096);
    assert_int_equal(arena.used, arena.size);
}

static void measuring_says_exactly_what_taking_uses(void **state)
{
    static _Alignas(64) uint8_t memory[4096];
    struct arena arenas[2] = {arena_over(NULL, 0), arena_over(memory, sizeof memory)};
    for (int i = 0; i < 2; i++) {
        void *part = arena_take(&arenas[i], 5, 1);
        assert_true((part == NULL) == (i == 0));
        arena_take(&arenas[i], 100, 64);
        arena_array(&arenas[i], uint64_t, 7);
    }
    assert_int_equal(arenas[0].used, 64 + 100 + 4 + 56);
    assert_int_equal(arenas[0].used, arenas[1].used);
}

static void taking_more_than_there_is_stops_the_process(void **state)
{
    uint8_t memory[16];
    struct arena arena = arena_over(memory, sizeof memory);
    assert_non_null(arena_take(&arena, 16, 1));
    ASSERT_CHECK_FAILS(arena_take(&arena, 1, 1));
}

static void sizes_that_overflow_stop_the_process(void **state)
{
    struct arena arena = arena_over(NULL, 0);
    arena_take(&arena, 16, 1);
    ASSERT_CHECK_FAILS(arena_take(&arena, SIZE_MAX - 8, 1));
    struct arena full = {.base = NULL, .used = SIZE_MAX - 1};
    ASSERT_CHECK_FAILS(arena_take(&full, 0, 4096));
}

static void an_alignment_that_is_no_power_of_two_stops_the_process(void **state)
{
    struct arena arena = arena_over(NULL, 0);
    ASSERT_CHECK_FAILS(arena_take(&arena, 1, 0));
    ASSERT_CHECK_FAILS(arena_take(&arena, 1, 24));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_are_aligned_in_order_and_do_not_overlap),
        cmocka_unit_test(measuring_says_exactly_what_taking_uses),
        cmocka_unit_test(taking_more_than_there_is_stops_the_process),
        cmocka_unit_test(sizes_that_overflow_stop_the_process),
        cmocka_unit_test(an_alignment_that_is_no_power_of_two_stops_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
