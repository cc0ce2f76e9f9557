/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Memory taken once at start. The caller owns the bytes; the arena only hands out parts of them, in
 * order, and never takes one back. Running it over a NULL base measures: the same code that builds
 * a thing says how much it needs, so the two cannot disagree. */

#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/check.h"

struct arena {
    uint8_t *base; /* NULL: measuring only */
    size_t size;
    size_t used;
};

static inline struct arena arena_over(void *base, size_t size)
{
    return (struct arena){.base = base, .size = size};
}

/* `size` bytes aligned to `alignment` (a power of two), zero-filled when the caller's memory was.
 * Returns NULL while measuring. */
void *arena_take(struct arena *arena, size_t size, size_t alignment);

#define arena_array(arena, type, count)                                                            \
    ((type *)arena_take((arena), sizeof(type) * (size_t)(count), _Alignof(type)))

#endif
