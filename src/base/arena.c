/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See arena.h. Too small an arena is a bug in the caller's measuring, so it is asserted, not
 * reported. */

#include "base/arena.h"

void *arena_take(struct arena *arena, size_t size, size_t alignment)
{
    CHECK(alignment > 0);
    CHECK((alignment & (alignment - 1)) == 0);
    size_t start = (arena->used + alignment - 1) & ~(alignment - 1);
    CHECK(start >= arena->used);
    CHECK(size <= SIZE_MAX - start);
    arena->used = start + size;
    if (arena->base == NULL)
        return NULL;
    CHECK(arena->used <= arena->size);
    return arena->base + start;
}
