/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Assertions that stay on in production. A failed one is a bug of ours, never of a host, a peer or
 * a disk: those are answered with an error. The process stops at once, because a controller that is
 * wrong about its own state must not acknowledge anything more; its peer takes over. */

#ifndef BASE_CHECK_H
#define BASE_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

_Noreturn void check_failed(const char *expression, const char *file, int line);

/* Stop the process when `expression` is false. */
#define CHECK(expression)                                                                          \
    do {                                                                                           \
        if (__builtin_expect(!(expression), 0))                                                    \
            check_failed(#expression, __FILE__, __LINE__);                                         \
    } while (0)

/* `a` implies `b`. */
#define CHECK_IMPLIES(a, b) CHECK(!(a) || (b))

#define ARRAY_LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define MUST_CHECK          __attribute__((warn_unused_result))

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static inline uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static inline uint32_t max_u32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

#endif
