/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The token bucket: over any time no more leaves than the rate and one burst, over a long time
 * nearly all of it does, whatever the steps; and it says rightly when it allows more. */

#include "shell/bucket.h"

#include "base/generator.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void the_rate_is_kept_to_and_used(void **state)
{
    static const uint64_t rates[] = {64 << 10, 1000003, 8 << 20, 125000000, (uint64_t)1 << 40};
    struct generator chance;
    generator_seed(&chance, 3);
    for (unsigned i = 0; i < sizeof rates / sizeof rates[0]; i++)
        for (unsigned step = 1; step < 100000; step *= 17) {
            struct bucket bucket;
            uint64_t now_us = 77, sent = 0, start_us = now_us;
            bucket_start(&bucket, now_us, rates[i]);
            while (now_us - start_us < 3000000) {
                uint64_t allowed = bucket_allows(&bucket, now_us);
                if (allowed > 0) {
                    uint64_t take = generator_next(&chance) % 4 ? allowed : allowed / 2;
                    bucket_take(&bucket, take);
                    sent += take;
                }
                uint64_t burst = rates[i] / 1000 * BUCKET_BURST_MS + 2 * BUCKET_LEAST_BYTES;
                assert_true(sent <= (now_us - start_us) * rates[i] / 1000000 + burst);
                now_us += 1 + generator_next(&chance) % step;
            }
            /* Steps longer than a burst leave some of it unused. */
            if (step < BUCKET_BURST_MS * 100)
                assert_true(sent > 3 * rates[i] / 10 * 9);
        }
}

static void it_says_when_it_allows_more(void **state)
{
    struct bucket bucket;
    bucket_start(&bucket, 1000, 1 << 20);
    assert_int_equal(bucket_allows(&bucket, 1000), 0);
    uint64_t when_us = bucket_when_us(&bucket);
    assert_true(when_us > 1000);
    assert_int_equal(bucket_allows(&bucket, when_us - 2), 0);
    assert_true(bucket_allows(&bucket, when_us) >= BUCKET_LEAST_BYTES);
}

static void without_a_rate_everything_may_leave(void **state)
{
    struct bucket bucket;
    bucket_start(&bucket, 5, 0);
    assert_true(bucket_allows(&bucket, 5) == UINT64_MAX);
    bucket_take(&bucket, (uint64_t)1 << 40);
    assert_true(bucket_allows(&bucket, 5) == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rate_is_kept_to_and_used),
        cmocka_unit_test(it_says_when_it_allows_more),
        cmocka_unit_test(without_a_rate_everything_may_leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
