/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The bitmap of a group: which regions of its volumes may differ between the sites, and how far
 * each volume's marked regions have been sent. Marking costs one bit. A bit is cleared only when
 * the cycle that carried the end of its region is confirmed, so a cycle that comes to nothing
 * leaves it. */

#ifndef COPY_REGIONS_H
#define COPY_REGIONS_H

#include "base/arena.h"
#include "base/limits.h"

struct region_map {
    uint64_t *bits;
    uint64_t page_count;
    uint32_t region_count;
    uint32_t marked;          /* bits that are set */
    uint8_t shift;            /* pages of a region, as a power of two */
    uint64_t cursor;          /* marked pages before it have been sent, or are being read */
    uint64_t sent[COPY_RING]; /* where the cursor stood when that cycle was closed */
};

struct regions {
    struct region_map *maps; /* by the volume's place in the group */
    uint32_t volume_count;
};

void regions_create(struct regions *regions, struct arena *arena, uint32_t volume_count,
                    const uint64_t *page_counts);

/* Pages [first, first + count) of the volume may differ. */
void regions_mark(struct regions *regions, uint8_t volume, uint64_t first, uint64_t count);
void regions_mark_all(struct regions *regions);
bool regions_marked(const struct regions *regions, uint8_t volume, uint64_t page);
/* Bits set, over all volumes. */
uint64_t regions_left(const struct regions *regions);

/* The next marked pages to send, at most `limit` and within one region: false when the cursor is
 * past them all. */
bool regions_next(struct regions *regions, uint8_t volume, uint32_t limit, uint64_t *first,
                  uint32_t *count);
/* Whether regions_next() would find any. */
bool regions_pending(const struct regions *regions, uint8_t volume);

/* The first run of marked pages at or after `from`, whatever has been sent. False: there is none.
 */
bool regions_run(const struct regions *regions, uint8_t volume, uint64_t from, uint64_t *first,
                 uint64_t *count);

/* What has been sent must be sent again. */
void regions_rewind(struct regions *regions, uint8_t volume);

/* The cycle of place `ring` is closed; later: it is confirmed, and what was sent until it was
 * closed is clear. */
void regions_close(struct regions *regions, uint32_t ring);
void regions_confirm(struct regions *regions, uint32_t ring);

/* How far the volume's bits are clear once the cycle of place `ring` is confirmed: up to this
 * region. */
uint64_t regions_confirmed(const struct regions *regions, uint8_t volume, uint32_t ring);

/* The volume's bitmap as bytes, region i = bit i % 8 of byte i / 8: some of them, and others'
 * joined to it. */
uint64_t regions_byte_count(const struct regions *regions, uint8_t volume);
/* The same, of a volume of so many pages. */
uint64_t regions_bytes_of(uint64_t page_count);
void regions_get_bytes(const struct regions *regions, uint8_t volume, uint64_t from, uint32_t count,
                       uint8_t *bytes);
void regions_join_bytes(struct regions *regions, uint8_t volume, uint64_t from, uint32_t count,
                        const uint8_t *bytes);

/* Regions before `region` are clear: the peer, which owns the volume, says so. */
void regions_clear(struct regions *regions, uint8_t volume, uint64_t region);

#endif
