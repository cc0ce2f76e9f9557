/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Which slots the remote copy still needs, and for which cycle: 20 bytes beside each slot of the
 * table, for all groups together. A slot is on at most one list: of its group, its cycle, and
 * whether it is ours (a pin) or an image slot of the peer's (a tag). Only numbers of slots are
 * known here; bytes, states and pages are array/'s.
 *
 * `sectors` were written in the slot's cycle. `owed` were written in any unconfirmed cycle: the
 * slot holds them all, because an heir inherits what its elder owes. */

#ifndef COPY_PINS_H
#define COPY_PINS_H

#include "base/arena.h"
#include "base/limits.h"

enum { PIN_NONE = 0xFF };

struct pin {
    uint32_t prev, next;
    uint8_t ring; /* cycle % COPY_RING, or PIN_NONE: on no list */
    uint8_t sectors;
    uint8_t owed;
    bool tag : 1;
    bool passed_on : 1;  /* another slot of ours holds and owes all that it owed */
    bool summed : 1;     /* the checksum of `sectors` as they stand in the slot is known */
    uint16_t generation; /* of its volume when it was last written in its cycle */
    uint16_t group;
};

_Static_assert(sizeof(struct pin) == 16, "four to a cache line");

struct pins {
    struct pin *pin; /* by slot */
    uint32_t *crc;   /* by slot: of its sectors, where it is summed */
    uint32_t count;
};

struct pin_list {
    uint32_t head, tail;
    uint32_t count;
};

void pins_create(struct pins *pins, struct arena *arena, uint32_t slot_count);

static inline struct pin_list pin_list_empty(void)
{
    return (struct pin_list){.head = NO_INDEX, .tail = NO_INDEX};
}

static inline struct pin *pins_at(const struct pins *pins, uint32_t slot)
{
    CHECK(slot < pins->count);
    return &pins->pin[slot];
}

static inline bool pins_has(const struct pins *pins, uint32_t slot)
{
    return pins_at(pins, slot)->ring != PIN_NONE;
}

/* The slot, on no list, becomes the last of `list`. */
void pins_append(struct pins *pins, struct pin_list *list, uint32_t slot, uint8_t ring);

/* The slot leaves `list`, on which it stands. What it owes stays noted until pins_clear(). */
void pins_remove(struct pins *pins, struct pin_list *list, uint32_t slot);

/* The pinned slot's `sectors` have left for the mirror with that checksum: if they are all that it
 * sends to the second array, it need not be made again until they are written anew. */
void pins_summed(struct pins *pins, uint32_t slot, uint8_t sectors, uint32_t crc);

/* The slot, on no list, owes nothing any more. */
void pins_clear(struct pins *pins, uint32_t slot);

/* The first, taken out; NO_INDEX when the list is empty. */
uint32_t pins_pop(struct pins *pins, struct pin_list *list);

static inline uint32_t pins_next(const struct pins *pins, uint32_t slot)
{
    return pins_at(pins, slot)->next;
}

#endif
