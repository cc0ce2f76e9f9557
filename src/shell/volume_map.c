/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Joins what the cache holds dirty with what the store says. It never calls a hole what the cache
 * holds dirty, whatever the store says. */

#include "shell/volume_map.h"

uint64_t volume_map_next(const struct array *array, const struct stores *stores,
                         const struct volume_config *config, uint8_t volume, uint64_t from,
                         uint64_t to, bool *hole)
{
    CHECK(from < to);
    *hole = false;
    if (array_owner(array, volume) != 1)
        return to;
    uint64_t cached = array_next_cached(array, volume, from, to);
    if (cached == from)
        return min_u64(to, (from / PAGE_SIZE_BYTES + 1) * PAGE_SIZE_BYTES);
    uint64_t offset = config->store_offset_bytes;
    return store_extent(&stores->store[config->store], offset + from, offset + cached, hole) -
           offset;
}
