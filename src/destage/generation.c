/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See generation.h. A slot keeps its generation modulo FLUSH_GENERATIONS; that is exact because `open` never runs
 * further ahead of `oldest` than that. */

#include "destage/generation.h"

static void join(struct generations *generations, struct slot *slot, uint64_t generation)
{
    slot->generation = (uint8_t)(generation % FLUSH_GENERATIONS);
    slot->counted = true;
    generations->count[slot->generation]++;
}

void generation_join(struct generations *generations, struct slot *slot)
{
    if (!slot->counted)
        join(generations, slot, generations->open);
}

void generation_join_oldest(struct generations *generations, struct slot *slot)
{
    if (!slot->counted)
        join(generations, slot, generations->oldest);
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
    if (!slot->counted)
        return;
    uint32_t *count = &generations->count[slot->generation];
    CHECK(*count > 0);
    (*count)--;
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
