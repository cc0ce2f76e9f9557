/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A slot table in static memory for the tests of cache/ and destage/, and slots in any state by
 * legal steps. */

#ifndef TESTS_SLOT_TABLE_H
#define TESTS_SLOT_TABLE_H

#include "cache/slot.h"

#include "../check_trap.h"

#include <stdlib.h>

enum { TABLE_BYTES = 8 << 20 };

static uint8_t *table_memory;

static inline struct arena table_arena(void)
{
    if (table_memory == NULL)
        table_memory = aligned_alloc(PAGE_SIZE_BYTES, TABLE_BYTES);
    assert_non_null(table_memory);
    memset(table_memory, 0, TABLE_BYTES);
    return arena_over(table_memory, TABLE_BYTES);
}

/* One step along the diagram's edges leads to each state from FREE. */
static inline void slot_walk_to(struct slot_table *table, struct slot *slot, enum slot_state to)
{
    static const enum slot_state before[SLOT_STATE_COUNT] = {
        [SLOT_CLEAN] = SLOT_FREE,         [SLOT_FILLING] = SLOT_CLEAN,   [SLOT_DIRTY] = SLOT_CLEAN,
        [SLOT_TRAVELLING] = SLOT_FILLING, [SLOT_DESTAGING] = SLOT_DIRTY,
    };
    if (slot->state == to)
        return;
    slot_walk_to(table, slot, before[to]);
    slot_set_state(table, slot, to);
}

#endif
