/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See replace.h. The small queue is kept near a tenth of the clean slots. The ghost memory is
 * direct-mapped: an older fingerprint is overwritten by a newer one of the same bucket, which ages
 * it without a queue. */

#include "cache/replace.h"

void replace_create(struct replace *replace, struct arena *arena, uint32_t half)
{
    uint32_t count = 16;
    while (count < half)
        count *= 2;
    uint32_t *ghosts = arena_array(arena, uint32_t, count);
    if (arena->base != NULL)
        *replace = (struct replace){.ghosts = ghosts, .ghost_mask = count - 1};
}

static uint32_t *ghost_of(struct replace *replace, uint64_t key, uint32_t *fingerprint)
{
    uint64_t mixed = (key + 1) * 0xD6E8FEB86659FD93u;
    mixed ^= mixed >> 32;
    *fingerprint = (uint32_t)mixed | 1; /* zero means empty */
    return &replace->ghosts[(uint32_t)(mixed >> 32) & replace->ghost_mask];
}

static bool ghost_forget(struct replace *replace, uint64_t key)
{
    uint32_t fingerprint;
    uint32_t *ghost = ghost_of(replace, key, &fingerprint);
    if (*ghost != fingerprint)
        return false;
    *ghost = 0;
    return true;
}

void replace_insert(struct replace *replace, struct slot_table *table, struct slot *slot)
{
    CHECK(slot->state == SLOT_CLEAN);
    CHECK(slot->fetch == 0);
    if (slot_in_image(table, slot))
        return; /* adopted: serves reads until the peer rejoins, never given up for another page */
    bool seen = slot->frequency > 0 || ghost_forget(replace, slot->key);
    slot->frequency = 0;
    slot_list_append(table, seen ? LIST_MAIN : LIST_SMALL, slot);
}

struct slot *replace_victim(struct replace *replace, struct slot_table *table)
{
    /* Each turn either returns, or takes one from a frequency, or moves a slot from small to main:
     * it ends. */
    for (;;) {
        uint32_t small = slot_list_count(table, LIST_SMALL);
        uint32_t main = slot_list_count(table, LIST_MAIN);
        if (small + main == 0)
            return NULL;
        bool from_small = small > 0 && (main == 0 || small * 10 >= small + main);
        struct slot *slot = slot_list_first(table, from_small ? LIST_SMALL : LIST_MAIN);
        slot_list_remove(table, slot);
        if (slot->frequency > 0) {
            slot->frequency = from_small ? 0 : slot->frequency - 1;
            slot_list_append(table, LIST_MAIN, slot);
            continue;
        }
        if (from_small) {
            uint32_t fingerprint;
            uint32_t *ghost = ghost_of(replace, slot->key, &fingerprint);
            *ghost = fingerprint;
        }
        return slot;
    }
}
