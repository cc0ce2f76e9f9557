/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Both copies do what memcpy() does, for any size and place, and touch nothing beside it. */

#include "base/copy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { ROOM = 16384, GUARD = 0xA5 };

static void copies_like_memcpy(void (*copy)(void *to, const void *from, size_t size))
{
    static const size_t sizes[] = {0, 1, 63, 64, 65, 512, 3584, 4096, 4097, 8192};
    static const size_t places[] = {0, 1, 16, 64, 512, 4095};
    static uint8_t from[ROOM], to[ROOM] __attribute__((aligned(4096))), expected[ROOM];
    for (size_t i = 0; i < ROOM; i++)
        from[i] = (uint8_t)(i * 7 + (i >> 8));
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        for (size_t t = 0; t < sizeof places / sizeof *places; t++) {
            for (size_t f = 0; f < sizeof places / sizeof *places; f++) {
                memset(to, GUARD, ROOM);
                memset(expected, GUARD, ROOM);
                copy(to + places[t], from + places[f], sizes[s]);
                memcpy(expected + places[t], from + places[f], sizes[s]);
                assert_memory_equal(to, expected, ROOM);
            }
        }
    }
}

static void to_cold(void **state)
{
    copies_like_memcpy(copy_to_cold);
}

static void past_cache(void **state)
{
    copies_like_memcpy(copy_past_cache);
    copy_past_cache_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(to_cold),
        cmocka_unit_test(past_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
