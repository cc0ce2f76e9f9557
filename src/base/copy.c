/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See copy.h. What a processor has no instruction for is left to memcpy(). */

#include "base/copy.h"

#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <immintrin.h>
#endif

enum { LINE_SIZE = 64 };

void copy_to_cold(void *to, const void *from, size_t size)
{
    for (size_t at = 0; at < size; at += LINE_SIZE)
        __builtin_prefetch((uint8_t *)to + at, 1);
    memcpy(to, from, size);
}

#ifdef __SSE2__
void copy_past_cache(void *to, const void *from, size_t size)
{
    if (((uintptr_t)to | size) % LINE_SIZE != 0) {
        memcpy(to, from, size);
        return;
    }
    __m128i *target = to;
    const __m128i *source = from;
    for (; size > 0; size -= LINE_SIZE, target += 4, source += 4) {
        __m128i a = _mm_loadu_si128(source), b = _mm_loadu_si128(source + 1);
        __m128i c = _mm_loadu_si128(source + 2), d = _mm_loadu_si128(source + 3);
        _mm_stream_si128(target, a);
        _mm_stream_si128(target + 1, b);
        _mm_stream_si128(target + 2, c);
        _mm_stream_si128(target + 3, d);
    }
}

void copy_past_cache_end(void)
{
    _mm_sfence();
}
#else
void copy_past_cache(void *to, const void *from, size_t size)
{
    memcpy(to, from, size);
}

void copy_past_cache_end(void)
{
}
#endif
