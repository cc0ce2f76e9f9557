/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Numbers from a seed: the published sequences of splitmix64 and xoshiro256**, and fair bounds. */

#include "base/generator.h"

#include "../check_trap.h"

static void seeding_is_splitmix64(void **state)
{
    struct generator generator;
    generator_seed(&generator, 0);
    assert_true(generator.state[0] == 0xE220A8397B1DCDAFu);
    assert_true(generator.state[1] == 0x6E789E6AA1B965F4u);
    assert_true(generator.state[2] == 0x06C45D188009454Fu);
    assert_true(generator.state[3] == 0xF88BB8A8724C81ECu);
}

static void the_sequence_is_xoshiro256_starstar(void **state)
{
    static const uint64_t expected[] = {
        11520u,
        0u,
        1509978240u,
        1215971899390074240u,
        1216172134540287360u,
        607988272756665600u,
        16172922978634559625u,
        8476171486693032832u,
        10595114339597558777u,
        2904607092377533576u,
    };
    struct generator generator = {.state = {1, 2, 3, 4}};
    for (size_t i = 0; i < ARRAY_LENGTH(expected); i++)
        assert_true(generator_next(&generator) == expected[i]);
}

static void the_same_seed_gives_the_same_numbers(void **state)
{
    struct generator a, b, other;
    generator_seed(&a, 42);
    generator_seed(&b, 42);
    generator_seed(&other, 43);
    unsigned differ = 0;
    for (int i = 0; i < 100; i++) {
        uint64_t value = generator_next(&a);
        assert_true(value == generator_next(&b));
        differ += value != generator_next(&other);
    }
    assert_true(differ > 90);
}

static void every_number_below_the_bound_comes_and_no_other(void **state)
{
    struct generator generator;
    unsigned seen[7] = {0};
    generator_seed(&generator, 1);
    for (int i = 0; i < 7000; i++) {
        uint64_t value = generator_below(&generator, 7);
        assert_true(value < 7);
        seen[value]++;
    }
    for (int i = 0; i < 7; i++)
        assert_in_range(seen[i], 850, 1150);
    assert_true(generator_below(&generator, 1) == 0);
    ASSERT_CHECK_FAILS(generator_below(&generator, 0));
}

/* Three quarters of the range: a plain remainder would give the lowest third twice as often. */
static void a_large_bound_favours_nobody(void **state)
{
    struct generator generator;
    unsigned low = 0;
    generator_seed(&generator, 2);
    for (int i = 0; i < 30000; i++) {
        uint64_t value = generator_below(&generator, UINT64_C(3) << 62);
        assert_true(value < UINT64_C(3) << 62);
        low += value < UINT64_C(1) << 62;
    }
    assert_in_range(low, 9500, 10500);
}

static void a_chance_comes_as_often_as_it_says(void **state)
{
    struct generator generator;
    unsigned quarter = 0;
    generator_seed(&generator, 3);
    for (int i = 0; i < 10000; i++) {
        assert_false(generator_chance(&generator, 0, 5));
        assert_true(generator_chance(&generator, 5, 5));
        quarter += generator_chance(&generator, 1, 4);
    }
    assert_in_range(quarter, 2300, 2700);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seeding_is_splitmix64),
        cmocka_unit_test(the_sequence_is_xoshiro256_starstar),
        cmocka_unit_test(the_same_seed_gives_the_same_numbers),
        cmocka_unit_test(every_number_below_the_bound_comes_and_no_other),
        cmocka_unit_test(a_large_bound_favours_nobody),
        cmocka_unit_test(a_chance_comes_as_often_as_it_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
