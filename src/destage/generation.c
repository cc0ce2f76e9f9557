/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See generation.h. A slot keeps its generation modulo FLUSH_GENERATIONS; that is exact because
 * `open` never runs further ahead of `oldest` than that. */

#include "destage/generation.h"

#include "base/mistake.h"

void generation_join(struct generations *generations, struct slot *slot)
{
    if (slot->counted)
        return;
    bool adopted =
        generations->adopting && slot->list == LIST_IMAGE && !MISTAKE(adopted_not_counted);
    uint64_t generation = adopted ? generations->adopted : generations->open;
    slot->generation = (uint8_t)(generation % FLUSH_GENERATIONS);
    slot->counted = true;
    generations->volume_pages[slot_key_volume(slot->key)]++;
    if (!adopted)
        generations->count[slot->generation]++;
}

void generation_adopt(struct generations *generations, const struct slot_table *table)
{
    CHECK(!generations->adopting);
    generations->adopting = true;
    generations->adopted = generations->open;
    if (!MISTAKE(adopted_not_counted))
        generations->count[generations->open % FLUSH_GENERATIONS] +=
            slot_list_count(table, LIST_IMAGE);
}

void generation_adopt_end(struct generations *generations, const struct slot_table *table)
{
    CHECK(slot_list_count(table, LIST_IMAGE) == 0);
    generations->adopting = false;
}

void generation_inherit(struct generations *generations, struct slot *slot, struct slot *heir)
{
    CHECK(!heir->counted);
    if (!slot->counted)
        return;
    heir->generation = slot->generation;
    heir->counted = true;
    slot->counted = false;
}

void generation_leave(struct generations *generations, struct slot *slot)
{
    if (generations->adopting && slot->list == LIST_IMAGE)
        generation_join(generations, slot);
    if (!slot->counted)
        return;
    uint32_t *count = &generations->count[slot->generation];
    uint64_t *pages = &generations->volume_pages[slot_key_volume(slot->key)];
    CHECK(*count > 0);
    CHECK(*pages > 0);
    (*count)--;
    (*pages)--;
    slot->counted = false;
    while (generations->oldest < generations->open &&
           generations->count[generations->oldest % FLUSH_GENERATIONS] == 0)
        generations->oldest++;
}

uint64_t generation_cut(struct generations *generations)
{
    uint64_t cut = generations->open;
    if (generations->open - generations->oldest + 1 < FLUSH_GENERATIONS)
        generations->open++;
    while (generations->oldest < generations->open &&
           generations->count[generations->oldest % FLUSH_GENERATIONS] == 0)
        generations->oldest++;
    return cut;
}
