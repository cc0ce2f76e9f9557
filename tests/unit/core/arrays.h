/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Whole arrays beside each other, each with its stores, its register and its own link, at one time
 * of day: what any world of several has. What goes between them is for the world to say. */

#ifndef TESTS_ARRAYS_H
#define TESTS_ARRAYS_H

#include "array/internal.h"
#include "flights.h"

static inline int array_used(void)
{
    return (int)(pair_used - pair_worlds);
}

static inline struct side *side_of(int which, int self)
{
    return &pair_worlds[which].side[self];
}

/* NULL: the controller is not there. */
static inline struct array *array_of(int which, int self)
{
    struct side *side = side_of(which, self);
    return side->dead || side->stopped ? NULL : side->array;
}

static inline struct group *inner(int which, int self)
{
    return &side_of(which, self)->array->copy.groups[0];
}

static inline bool holds(int which, int self, struct copy_state *state)
{
    if (array_of(which, self) == NULL)
        return false;
    array_copy_state(array_of(which, self), 0, state);
    uint8_t bytes[COPY_STATE_SIZE]; /* as it travels */
    record_put_state(bytes, state);
    assert_null(record_get_state(bytes, sizeof bytes, state));
    return (state->flags & COPY_STATE_HERE) != 0;
}

/* The controller that holds the group there, and would show it if its site had to take over; or
 * -1. */
static inline int holder(int which, struct copy_state *state)
{
    for (int self = A; self < PAIR; self++) {
        if (holds(which, self, state))
            return self;
    }
    return -1;
}

static inline void tell(const struct actions *actions, int which, int self)
{
    for (uint32_t i = 0; i < actions->log_count; i++)
        TELL("%llu %d%c: %s\n", (unsigned long long)pair.now_us, which + 1, 'a' + self,
             actions->log[i].text);
    for (uint32_t i = 0; i < actions->operator_count; i++)
        TELL("%llu %d%c: answer %d: %s\n", (unsigned long long)pair.now_us, which + 1, 'a' + self,
             actions->operators[i].done, actions->operators[i].text);
}

/* What a host would read at that controller: the cache over the store, and zeros where the store
 * has yet to forget. */
static inline void peek_at(int which, int self, int volume, uint64_t page, uint8_t into[PAGE])
{
    const struct array *array = side_of(which, self)->array;
    const struct volume_config *config = &array->config.volumes[copied[volume]];
    const struct second_zeroes *zero = &inner(which, self)->second.zero;
    uint64_t at = page * PAGE;
    uint64_t size = config->size_bytes - at < PAGE ? config->size_bytes - at : PAGE;
    memset(into, 0, PAGE);
    memcpy(into, pair_worlds[which].store[config->store] + config->store_offset_bytes + at, size);
    for (uint32_t i = 0; i < zero->count; i++) {
        if (zero->zeroes[i].volume == volume && page >= zero->zeroes[i].page &&
            page - zero->zeroes[i].page < zero->zeroes[i].count)
            memset(into, 0, PAGE);
    }
    const struct slot *slot = slot_find(&array->table, slot_key(copied[volume], page));
    for (int s = 0; slot != NULL && s < PAGE_SECTORS; s++) {
        if (slot->valid & 1 << s)
            memcpy(into + s * SECTOR_SIZE, slot_frame(&array->table, slot) + s * SECTOR_SIZE,
                   SECTOR_SIZE);
    }
}

/* The controller's process has ended, and its peer knows. */
static inline void side_dies(int which, int self)
{
    struct side *side = side_of(which, self), *peer = side_of(which, self ^ 1);
    side->dead = true;
    side->op_count = 0;
    side->message_due = side->status_due = false;
    peer->down_due = true;
    if (!peer->dead)
        array_on_peer_gone(peer->array, pair_worlds[which].now_us, 0);
}

static inline void pass_time(uint64_t us)
{
    for (int which = 0; which < PAIRS; which++)
        pair_worlds[which].now_us += us;
}

static inline void set_clocks_alike(void)
{
    uint64_t now_us = 0;
    for (int which = 0; which < PAIRS; which++)
        now_us = max_u64(now_us, pair_worlds[which].now_us);
    for (int which = 0; which < PAIRS; which++)
        pair_worlds[which].now_us = now_us;
}

/* One burst of one controller; what the world looks at after it. */
static inline bool array_step(int which, int self);

/* Until nothing more happens by itself. */
static inline void settle_both(void)
{
    int used = array_used();
    for (int i = 0; i < 4000; i++) {
        bool more = false;
        for (int self = A; self < PAIR; self++) {
            for (int which = 0; which < PAIRS; which++)
                more |= array_step(which, self);
        }
        pass_time(1);
        if (more)
            continue;
        pair_use(used);
        return;
    }
    fail_msg("no end");
}

static inline void pass_both_ms(uint32_t ms)
{
    for (uint32_t i = 0; i < ms; i += 10) {
        pass_time(10000);
        settle_both();
    }
}

#endif
