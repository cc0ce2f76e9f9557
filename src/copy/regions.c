/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See regions.h. A set bit is never lost: the only ways to clear one are a confirmed cycle and the
 * peer's word. */

#include "base/mistake.h"
#include "copy/regions.h"

#include <string.h>

static struct region_map *map_of(const struct regions *regions, uint8_t volume)
{
    CHECK(volume < regions->volume_count);
    return &regions->maps[volume];
}

static uint8_t region_shift(uint64_t page_count)
{
    uint8_t shift = 0;
    while (1u << shift < COPY_REGION_PAGES ||
           (page_count + (1ull << shift) - 1) >> shift > COPY_REGIONS)
        shift++;
    return shift;
}

void regions_create(struct regions *regions, struct arena *arena, uint32_t volume_count,
                    const uint64_t *page_counts)
{
    struct region_map *maps = arena_array(arena, struct region_map, volume_count);
    for (uint32_t i = 0; i < volume_count; i++) {
        uint8_t shift = region_shift(page_counts[i]);
        uint32_t count = (uint32_t)((page_counts[i] + (1ull << shift) - 1) >> shift);
        uint64_t *bits = arena_array(arena, uint64_t, (count + 63) / 64);
        if (arena->base == NULL)
            continue;
        maps[i] = (struct region_map){
            .bits = bits, .page_count = page_counts[i], .region_count = count, .shift = shift};
    }
    if (arena->base != NULL)
        *regions = (struct regions){.maps = maps, .volume_count = volume_count};
}

static bool bit(const struct region_map *map, uint64_t region)
{
    return map->bits[region / 64] & 1ull << region % 64;
}

static void clear_below(struct region_map *map, uint64_t end)
{
    CHECK(end <= map->region_count);
    for (uint64_t region = 0; region < end && map->marked > 0; region++) {
        if (region % 64 == 0 && map->bits[region / 64] == 0) {
            region += 63;
            continue;
        }
        map->marked -= bit(map, region);
        map->bits[region / 64] &= ~(1ull << region % 64);
    }
}

void regions_mark(struct regions *regions, uint8_t volume, uint64_t first, uint64_t count)
{
    struct region_map *map = map_of(regions, volume);
    CHECK(count > 0);
    CHECK(first < map->page_count);
    CHECK(count <= map->page_count - first);
    uint64_t last = (first + count - 1) >> map->shift;
    for (uint64_t region = first >> map->shift; region <= last; region++) {
        map->marked += !bit(map, region);
        map->bits[region / 64] |= 1ull << region % 64;
    }
}

void regions_mark_all(struct regions *regions)
{
    for (uint32_t i = 0; i < regions->volume_count; i++)
        regions_mark(regions, (uint8_t)i, 0, regions->maps[i].page_count);
}

bool regions_marked(const struct regions *regions, uint8_t volume, uint64_t page)
{
    const struct region_map *map = map_of(regions, volume);
    CHECK(page < map->page_count);
    return bit(map, page >> map->shift);
}

uint64_t regions_left(const struct regions *regions)
{
    uint64_t left = 0;
    for (uint32_t i = 0; i < regions->volume_count; i++)
        left += regions->maps[i].marked;
    return left;
}

/* The first marked page at or after `page`, or the volume's end. */
static uint64_t marked_from(const struct region_map *map, uint64_t page)
{
    uint64_t region = page >> map->shift;
    if (map->marked == 0 || page >= map->page_count)
        return map->page_count;
    if (bit(map, region))
        return page;
    for (region++; region < map->region_count; region++) {
        if (region % 64 == 0 && map->bits[region / 64] == 0)
            region += 63;
        else if (bit(map, region))
            return region << map->shift;
    }
    return map->page_count;
}

static uint64_t next_marked(const struct region_map *map)
{
    return marked_from(map, map->cursor);
}

bool regions_run(const struct regions *regions, uint8_t volume, uint64_t from, uint64_t *first,
                 uint64_t *count)
{
    const struct region_map *map = map_of(regions, volume);
    *first = marked_from(map, from);
    if (*first == map->page_count)
        return false;
    uint64_t region = *first >> map->shift;
    while (region < map->region_count && bit(map, region))
        region++;
    *count = min_u64(region << map->shift, map->page_count) - *first;
    return true;
}

bool regions_pending(const struct regions *regions, uint8_t volume)
{
    const struct region_map *map = map_of(regions, volume);
    return next_marked(map) < map->page_count;
}

bool regions_next(struct regions *regions, uint8_t volume, uint32_t limit, uint64_t *first,
                  uint32_t *count)
{
    struct region_map *map = map_of(regions, volume);
    CHECK(limit > 0);
    map->cursor = next_marked(map);
    if (map->cursor == map->page_count)
        return false;
    uint64_t end = min_u64(((map->cursor >> map->shift) + 1) << map->shift, map->page_count);
    *first = map->cursor;
    *count = (uint32_t)min_u64(limit, end - map->cursor);
    map->cursor += *count;
    return true;
}

void regions_rewind(struct regions *regions, uint8_t volume)
{
    struct region_map *map = map_of(regions, volume);
    map->cursor = 0;
    memset(map->sent, 0, sizeof map->sent);
}

void regions_close(struct regions *regions, uint32_t ring)
{
    CHECK(ring < COPY_RING);
    for (uint32_t i = 0; i < regions->volume_count; i++)
        regions->maps[i].sent[ring] = regions->maps[i].cursor;
    if (MISTAKE(copy_bits_cleared_early))
        regions_confirm(regions, ring);
}

uint64_t regions_confirmed(const struct regions *regions, uint8_t volume, uint32_t ring)
{
    const struct region_map *map = map_of(regions, volume);
    CHECK(ring < COPY_RING);
    /* One that was sent in part stays marked. */
    return map->sent[ring] == map->page_count ? map->region_count : map->sent[ring] >> map->shift;
}

void regions_confirm(struct regions *regions, uint32_t ring)
{
    for (uint32_t i = 0; i < regions->volume_count; i++)
        clear_below(&regions->maps[i], regions_confirmed(regions, (uint8_t)i, ring));
}

uint64_t regions_bytes_of(uint64_t page_count)
{
    uint8_t shift = region_shift(page_count);
    return (((page_count + (1ull << shift) - 1) >> shift) + 7) / 8;
}

uint64_t regions_byte_count(const struct regions *regions, uint8_t volume)
{
    return (map_of(regions, volume)->region_count + 7u) / 8;
}

void regions_get_bytes(const struct regions *regions, uint8_t volume, uint64_t from, uint32_t count,
                       uint8_t *bytes)
{
    const struct region_map *map = map_of(regions, volume);
    CHECK(from + count <= regions_byte_count(regions, volume));
    for (uint32_t i = 0; i < count; i++)
        bytes[i] = (uint8_t)(map->bits[(from + i) / 8] >> (from + i) % 8 * 8);
}

void regions_join_bytes(struct regions *regions, uint8_t volume, uint64_t from, uint32_t count,
                        const uint8_t *bytes)
{
    struct region_map *map = map_of(regions, volume);
    CHECK(from + count <= regions_byte_count(regions, volume));
    for (uint64_t region = from * 8; region < min_u64((from + count) * 8, map->region_count);
         region++) {
        if (!(bytes[region / 8 - from] & 1u << region % 8))
            continue;
        map->marked += !bit(map, region);
        map->bits[region / 64] |= 1ull << region % 64;
    }
}

void regions_clear(struct regions *regions, uint8_t volume, uint64_t region)
{
    struct region_map *map = map_of(regions, volume);
    clear_below(map, min_u64(region, map->region_count));
}
