/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Which clean slot to give up: S3-FIFO (Yang et al., SOSP 2023). Two queues and a memory of what
 * was given up lately. A hit costs one increment and moves nothing; a scan passes through the small
 * queue and leaves the main one alone. Only CLEAN slots of our own half with nothing under way
 * stand in the queues; dirty ones come back when clean. */

#ifndef CACHE_REPLACE_H
#define CACHE_REPLACE_H

#include "cache/slot.h"

struct replace {
    uint32_t *ghosts; /* fingerprints of pages given up from the small queue, by hash */
    uint32_t ghost_mask;
};

void replace_create(struct replace *replace, struct arena *arena, uint32_t half);

static inline void replace_on_hit(struct slot *slot)
{
    if (slot->frequency < 3)
        slot->frequency++;
}

/* A CLEAN slot, on no list, with no fetch, may be given up from now on. */
void replace_insert(struct replace *replace, struct slot_table *table, struct slot *slot);

/* The slot to give up next, off its queue, still CLEAN and in the index; NULL when there is none.
 */
struct slot *replace_victim(struct replace *replace, struct slot_table *table);

#endif
