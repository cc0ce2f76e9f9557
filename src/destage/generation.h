/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What a FLUSH waits for. Every dirty slot is counted in the generation that was open when it
 * became dirty. A FLUSH that must wait for the store closes the open generation and is over when
 * that one and all before it are empty. Slots leave in any order, so a count each is enough: no
 * list, no sequence number, no scan. */

#ifndef DESTAGE_GENERATION_H
#define DESTAGE_GENERATION_H

#include "cache/slot.h"

struct generations {
    uint64_t open;   /* the generation that new dirty slots join */
    uint64_t oldest; /* the first that is not empty, or `open` */
    uint32_t count[FLUSH_GENERATIONS];
    /* After a takeover every slot of LIST_IMAGE is counted in generation `adopted` without being
     * marked: one addition for all of them. A slot is marked when it leaves that list. */
    bool adopting;
    uint64_t adopted;
    uint64_t volume_pages[VOLUME_LIMIT]; /* marked slots of each volume */
};

/* A slot becomes dirty, or leaves LIST_IMAGE after a takeover; nothing when it is counted already
 * (its older data is then still owed). To be called while the slot still stands on its list. */
void generation_join(struct generations *generations, struct slot *slot);

/* A takeover: all that LIST_IMAGE holds is owed from now on. */
void generation_adopt(struct generations *generations, const struct slot_table *table);

/* LIST_IMAGE is empty and is the peer's again. */
void generation_adopt_end(struct generations *generations, const struct slot_table *table);

/* `heir` takes over what `slot` owes: the newer slot of a page whose older one will never be
 * destaged. */
void generation_inherit(struct generations *generations, struct slot *slot, struct slot *heir);

/* The slot's data is durable, or discarded. */
void generation_leave(struct generations *generations, struct slot *slot);

/* All that is dirty now: the generation to wait for. When all FLUSH_GENERATIONS are in use the open
 * one is returned unclosed, so the caller waits for somewhat more than it must. */
uint64_t generation_cut(struct generations *generations);

/* Everything up to and including `generation` is durable. */
static inline bool generation_is_over(const struct generations *generations, uint64_t generation)
{
    return generations->oldest > generation ||
           (generations->oldest == generation &&
            generations->count[generation % FLUSH_GENERATIONS] == 0);
}

#endif
