/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The histogram: a percentile is never below the true value, and above it by less than a quarter.
 */

#include "base/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void one_entry_is_known_to_a_quarter(void **state)
{
    for (uint64_t value = 0; value < UINT64_C(1) << 32; value += 1 + value / 37) {
        struct histogram histogram = {0};
        histogram_add(&histogram, value);
        uint64_t found = histogram_percentile(&histogram, 500);
        assert_true(found >= value);
        assert_true(found <= value + value / 4);
    }
}

static void below_eight_microseconds_it_is_exact(void **state)
{
    for (uint64_t value = 0; value < 8; value++) {
        struct histogram histogram = {0};
        histogram_add(&histogram, value);
        assert_true(histogram_percentile(&histogram, 1000) == value);
        assert_true(histogram_percentile(&histogram, 1) == value);
    }
}

static void larger_values_never_come_into_lower_buckets(void **state)
{
    unsigned last = 0;
    for (uint64_t value = 0; value < UINT64_C(1) << 33; value += 1 + value / 97) {
        struct histogram histogram = {0};
        histogram_add(&histogram, value);
        unsigned bucket = 0;
        while (histogram.bucket[bucket] == 0)
            bucket++;
        assert_true(bucket == last || bucket == last + 1);
        last = bucket;
    }
    assert_int_equal(last, HISTOGRAM_BUCKETS - 1);
}

static void what_no_bucket_holds_counts_in_the_last(void **state)
{
    struct histogram histogram = {0};
    histogram_add(&histogram, UINT64_MAX);
    histogram_add(&histogram, UINT64_C(1) << 40);
    assert_int_equal(histogram.bucket[HISTOGRAM_BUCKETS - 1], 2);
    assert_true(histogram_percentile(&histogram, 500) == (UINT64_C(1) << 33) - 1);
}

static void the_percentile_is_the_entry_of_that_rank(void **state)
{
    struct histogram histogram = {0};
    for (int i = 0; i < 990; i++)
        histogram_add(&histogram, 1);
    for (int i = 0; i < 9; i++)
        histogram_add(&histogram, 3);
    histogram_add(&histogram, 7);
    assert_int_equal(histogram.count, 1000);
    assert_int_equal(histogram_percentile(&histogram, 1), 1);
    assert_int_equal(histogram_percentile(&histogram, 990), 1);
    assert_int_equal(histogram_percentile(&histogram, 991), 3);
    assert_int_equal(histogram_percentile(&histogram, 999), 3);
    assert_int_equal(histogram_percentile(&histogram, 1000), 7);
}

static void a_rank_between_two_entries_is_the_upper_one(void **state)
{
    struct histogram histogram = {0};
    for (int i = 0; i < 9; i++)
        histogram_add(&histogram, 1);
    histogram_add(&histogram, 3);
    assert_int_equal(histogram_percentile(&histogram, 900), 1);
    assert_int_equal(histogram_percentile(&histogram, 901), 3);
}

static void an_empty_one_says_zero(void **state)
{
    struct histogram histogram = {0};
    assert_int_equal(histogram_percentile(&histogram, 500), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_entry_is_known_to_a_quarter),
        cmocka_unit_test(below_eight_microseconds_it_is_exact),
        cmocka_unit_test(larger_values_never_come_into_lower_buckets),
        cmocka_unit_test(what_no_bucket_holds_counts_in_the_last),
        cmocka_unit_test(the_percentile_is_the_entry_of_that_rank),
        cmocka_unit_test(a_rank_between_two_entries_is_the_upper_one),
        cmocka_unit_test(an_empty_one_says_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
