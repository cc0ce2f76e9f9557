/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See slot.h. The index is a chained hash with as many buckets as slots, so a look-up touches one
 * bucket and about one slot, whatever the size of the cache. */

#include "cache/slot.h"

/* Row: from. Column: to. The diagram in slot.h, as data. */
static const bool legal[SLOT_STATE_COUNT][SLOT_STATE_COUNT] = {
    [SLOT_FREE] = {[SLOT_CLEAN] = true, [SLOT_DIRTY] = true},
    [SLOT_CLEAN] = {[SLOT_FREE] = true, [SLOT_FILLING] = true, [SLOT_DIRTY] = true},
    [SLOT_FILLING] =
        {[SLOT_FREE] = true, [SLOT_CLEAN] = true, [SLOT_TRAVELLING] = true, [SLOT_DIRTY] = true},
    [SLOT_TRAVELLING] = {[SLOT_FREE] = true, [SLOT_CLEAN] = true, [SLOT_DIRTY] = true},
    [SLOT_DIRTY] =
        {[SLOT_FREE] = true, [SLOT_CLEAN] = true, [SLOT_FILLING] = true, [SLOT_DESTAGING] = true},
    [SLOT_DESTAGING] = {[SLOT_FREE] = true, [SLOT_CLEAN] = true, [SLOT_DIRTY] = true},
};

/* Eight neighbouring pages have neighbouring buckets, half a cache line: a long write or read walks
 * through pages, and would else miss the processor's cache for each. */
enum { NEIGHBOUR_BITS = 3 };

static uint32_t bucket_of(const struct slot_table *table, uint64_t key)
{
    uint64_t hash = (key >> NEIGHBOUR_BITS) * 0x9E3779B97F4A7C15u >> 32;
    uint64_t within = key & ((1u << NEIGHBOUR_BITS) - 1);
    return (uint32_t)(hash << NEIGHBOUR_BITS | within) & table->bucket_mask;
}

void slot_table_create(struct slot_table *table, struct arena *arena, uint32_t half)
{
    CHECK(half > 0);
    CHECK(half <= UINT32_MAX / 4);
    uint32_t total = half * 2;
    uint32_t bucket_count = 16;
    while (bucket_count < total)
        bucket_count *= 2;
    /* The frames come first: they stay page-aligned, and the rest of the arena follows them. */
    uint8_t *frames = arena_take(arena, (size_t)total * PAGE_SIZE_BYTES, PAGE_SIZE_BYTES);
    struct slot *slots = arena_take(arena, sizeof(struct slot) * total, 64);
    uint32_t *buckets = arena_array(arena, uint32_t, bucket_count);
    if (arena->base == NULL)
        return;
    *table = (struct slot_table){.slots = slots,
                                 .frames = frames,
                                 .buckets = buckets,
                                 .bucket_mask = bucket_count - 1,
                                 .half = half,
                                 .total = total};
    slot_mirror_forget_all(table);
    slot_table_reset(table);
}

void slot_table_reset(struct slot_table *table)
{
    for (uint32_t i = 0; i <= table->bucket_mask; i++)
        table->buckets[i] = NO_INDEX;
    for (int i = 0; i < LIST_COUNT; i++)
        table->lists[i] = (struct slot_list){.head = NO_INDEX, .tail = NO_INDEX};
    for (uint32_t i = 0; i < table->total; i++) {
        struct slot *slot = &table->slots[i];
        *slot = (struct slot){.hash_next = NO_INDEX,
                              .prev = NO_INDEX,
                              .next = NO_INDEX,
                              .waiters = NO_INDEX,
                              .elder = NO_INDEX};
        if (i < table->half)
            slot_list_append(table, LIST_FREE, slot);
    }
    for (int half = 0; half < 2; half++) {
        for (int state = 0; state < SLOT_STATE_COUNT; state++)
            table->state_count[half][state] = state == SLOT_FREE ? table->half : 0;
    }
}

void slot_mirror_forget(struct slot_table *table, uint8_t volume)
{
    table->mirror_stamps[volume] = ++table->last_stamp;
}

void slot_mirror_forget_all(struct slot_table *table)
{
    table->last_stamp++;
    for (int volume = 0; volume < VOLUME_LIMIT; volume++)
        table->mirror_stamps[volume] = table->last_stamp;
}

struct slot *slot_find(const struct slot_table *table, uint64_t key)
{
    uint32_t index = table->buckets[bucket_of(table, key)];
    while (index != NO_INDEX) {
        struct slot *slot = &table->slots[index];
        if (slot->key == key)
            return slot;
        index = slot->hash_next;
    }
    return NULL;
}

static void index_insert(struct slot_table *table, struct slot *slot)
{
    uint32_t *bucket = &table->buckets[bucket_of(table, slot->key)];
    slot->hash_next = *bucket;
    *bucket = slot_index(table, slot);
}

static void index_remove(struct slot_table *table, struct slot *slot)
{
    uint32_t *link = &table->buckets[bucket_of(table, slot->key)];
    uint32_t wanted = slot_index(table, slot);
    while (*link != wanted) {
        CHECK(*link != NO_INDEX);
        link = &table->slots[*link].hash_next;
    }
    *link = slot->hash_next;
    slot->hash_next = NO_INDEX;
}

void slot_set_state(struct slot_table *table, struct slot *slot, enum slot_state state)
{
    CHECK(legal[slot->state][state]);
    int half = slot_in_image(table, slot);
    table->state_count[half][slot->state]--;
    table->state_count[half][state]++;
    slot->state = (uint8_t)state;
}

static void slot_give_identity(struct slot_table *table, struct slot *slot, uint64_t key)
{
    slot->key = key;
    slot->valid = slot->dirty = slot->send = 0;
    slot->frequency = 0;
    slot->superseded = slot->unsafe = slot->failed = slot->held = slot->fresh = slot->counted =
        slot->pinned = slot->foreign = slot->settled = false;
    slot->elder = NO_INDEX;
    CHECK(slot->waiters == NO_INDEX);
    CHECK(slot->fetch == 0);
    index_insert(table, slot);
}

struct slot *slot_take(struct slot_table *table, uint64_t key)
{
    struct slot *slot = slot_list_first(table, LIST_FREE);
    if (slot == NULL)
        return NULL;
    slot_list_remove(table, slot);
    slot_set_state(table, slot, SLOT_CLEAN);
    slot_give_identity(table, slot, key);
    return slot;
}

struct slot *slot_take_image(struct slot_table *table, uint32_t index, uint64_t key)
{
    CHECK(index < table->half);
    struct slot *slot = &table->slots[table->half + index];
    slot_set_state(table, slot, SLOT_DIRTY);
    slot_give_identity(table, slot, key);
    slot_list_append(table, LIST_IMAGE, slot);
    return slot;
}

void slot_supersede(struct slot_table *table, struct slot *slot)
{
    CHECK(!slot->superseded);
    CHECK(slot->state != SLOT_FREE);
    index_remove(table, slot);
    slot->superseded = true;
}

void slot_reinstate(struct slot_table *table, struct slot *slot)
{
    CHECK(slot->superseded);
    CHECK(slot_find(table, slot->key) == NULL);
    slot->superseded = false;
    index_insert(table, slot);
}

void slot_release(struct slot_table *table, struct slot *slot)
{
    CHECK(slot->waiters == NO_INDEX);
    CHECK(slot->fetch == 0);
    CHECK(!slot->counted);
    CHECK(!slot->pinned);
    CHECK(!slot->foreign);
    if (!slot->superseded)
        index_remove(table, slot);
    slot_list_remove(table, slot);
    slot_set_state(table, slot, SLOT_FREE);
    slot->superseded = slot->unsafe = slot->failed = slot->held = false;
    slot->valid = slot->dirty = 0;
    slot->elder = NO_INDEX;
    slot_set_mirrored(table, slot, false);
    if (!slot_in_image(table, slot))
        slot_list_prepend(table, LIST_FREE, slot);
}

void slot_list_append(struct slot_table *table, enum slot_list_id id, struct slot *slot)
{
    CHECK(slot->list == LIST_NONE);
    struct slot_list *list = &table->lists[id];
    uint32_t index = slot_index(table, slot);
    slot->list = (uint8_t)id;
    slot->prev = list->tail;
    slot->next = NO_INDEX;
    if (list->tail == NO_INDEX)
        list->head = index;
    else
        table->slots[list->tail].next = index;
    list->tail = index;
    list->count++;
}

void slot_list_prepend(struct slot_table *table, enum slot_list_id id, struct slot *slot)
{
    CHECK(slot->list == LIST_NONE);
    struct slot_list *list = &table->lists[id];
    uint32_t index = slot_index(table, slot);
    slot->list = (uint8_t)id;
    slot->next = list->head;
    slot->prev = NO_INDEX;
    if (list->head == NO_INDEX)
        list->tail = index;
    else
        table->slots[list->head].prev = index;
    list->head = index;
    list->count++;
}

void slot_list_remove(struct slot_table *table, struct slot *slot)
{
    if (slot->list == LIST_NONE)
        return;
    struct slot_list *list = &table->lists[slot->list];
    if (slot->prev == NO_INDEX)
        list->head = slot->next;
    else
        table->slots[slot->prev].next = slot->next;
    if (slot->next == NO_INDEX)
        list->tail = slot->prev;
    else
        table->slots[slot->next].prev = slot->prev;
    CHECK(list->count > 0);
    list->count--;
    slot->list = LIST_NONE;
    slot->prev = slot->next = NO_INDEX;
}
