/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The calendar: known days, and every number that the C library's calendar knows says the same. */

#include "base/generator.h"
#include "base/wall.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

static void expect(uint64_t seconds, const char *expected)
{
    char text[WALL_TEXT];
    wall_text(text, seconds * 1000000 + 999999);
    assert_string_equal(text, expected);
}

static void known_days(void **state)
{
    expect(0, "1970-01-01T00:00:00Z");
    expect(951782399, "2000-02-28T23:59:59Z");
    expect(951782400, "2000-02-29T00:00:00Z");
    expect(951868800, "2000-03-01T00:00:00Z");
    expect(1798761599, "2026-12-31T23:59:59Z");
    expect(4107542400, "2100-03-01T00:00:00Z"); /* no 29 February before it */
    char text[WALL_TEXT];
    wall_text(text, UINT64_MAX);
    assert_string_equal(text, "586524-01-19T08:01:49Z");
}

static void as_the_library_says(void **state)
{
    struct generator generator;
    generator_seed(&generator, 8);
    for (int i = 0; i < 200000; i++) {
        time_t seconds =
            (time_t)generator_below(&generator, UINT64_C(253402300800)); /* year 10000 */
        struct tm parts;
        char expected[WALL_TEXT];
        assert_non_null(gmtime_r(&seconds, &parts));
        assert_true(strftime(expected, sizeof expected, "%Y-%m-%dT%H:%M:%SZ", &parts) > 0);
        expect((uint64_t)seconds, expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_days),
        cmocka_unit_test(as_the_library_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
