/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Pages of marked regions: chosen for the open cycle, read through the cache, and kept in frames of
 * their own until their cycle is confirmed. What a host writes meanwhile needs no care: it is in
 * that cycle, where it wins, or in a later one. Reads of hosts come first: at most half of the
 * fetches are for these pages. */

#include "array/internal.h"
#include "base/mistake.h"

enum { BASE_STEP = 16, BASE_RETRY_US = 100 * 1000 };

size_t copy_base_count(const struct group_config *config)
{
    return (size_t)config->base_pages * (COPY_CLOSED + 1);
}

static uint8_t *frame_of(const struct base_pages *base, uint32_t place)
{
    return base->frames + (size_t)place * PAGE_SIZE_BYTES;
}

static uint32_t take_place(struct base_pages *base)
{
    uint32_t place = base->free;
    if (place == NO_INDEX) {
        CHECK(base->fresh < base->count); /* there is room for all cycles that are alive */
        return base->fresh++;
    }
    base->free = base->pages[place].next;
    return place;
}

void copy_base_forget(struct group *group)
{
    struct base_pages *base = &group->base;
    base->free = NO_INDEX;
    base->fresh = base->reading = 0;
    for (int i = 0; i < COPY_RING; i++)
        base->cycles[i].first = base->cycles[i].last = base->cycles[i].waits = NO_INDEX;
    memset(base->batches, 0, sizeof base->batches);
}

/* All of its pages had been read, or it would not be complete. */
void copy_base_confirmed(struct group *group, uint64_t cycle)
{
    struct base_pages *base = &group->base;
    uint32_t ring = cycle % COPY_RING;
    if (base->cycles[ring].first == NO_INDEX)
        return;
    CHECK(base->pages[base->cycles[ring].first].cycle == cycle);
    base->pages[base->cycles[ring].last].next = base->free;
    base->free = base->cycles[ring].first;
    base->cycles[ring].first = base->cycles[ring].last = base->cycles[ring].waits = NO_INDEX;
}

bool copy_base_reads(const struct group *group, uint8_t place)
{
    for (uint32_t i = 0; i < group->base.reading; i++) {
        if (group->base.pages[group->base.at[i]].volume == place)
            return true;
    }
    return false;
}

static uint64_t key_of(const struct group *group, const struct base_page *page)
{
    return slot_key(group->config->volumes[page->volume], page->page);
}

static void add_ready(struct base_pages *base, uint32_t place)
{
    uint32_t ring = base->pages[place].cycle % COPY_RING;
    base->pages[place].next = NO_INDEX;
    if (base->cycles[ring].first == NO_INDEX)
        base->cycles[ring].first = place;
    else
        base->pages[base->cycles[ring].last].next = place;
    base->cycles[ring].last = place;
    if (base->cycles[ring].waits == NO_INDEX)
        base->cycles[ring].waits = place;
}

/* The page's bytes as they are now, when all of them are here. */
static bool take_bytes(const struct array *array, struct group *group, uint32_t place,
                       const struct slot *slot)
{
    struct base_page *page = &group->base.pages[place];
    const struct volume *volume = &array->volumes[slot_key_volume(slot->key)];
    if (page_mask(volume, page->page) & ~slot->valid)
        return false;
    memcpy(frame_of(&group->base, place), slot_frame(&array->table, slot), PAGE_SIZE_BYTES);
    add_ready(&group->base, place);
    sender_base_read(&group->sender, page->cycle, 1);
    return true;
}

/* Whether the page has been read; else its fetch is under way, or has to wait. */
static bool read_page(struct array *array, struct group *group, uint32_t place)
{
    const struct base_page *page = &group->base.pages[place];
    uint64_t key = key_of(group, page);
    uint8_t volume = slot_key_volume(key);
    if (!array_owns(array, volume) || range_covers(array, volume, page->page, NULL))
        return false;
    struct slot *slot = pages_find(array, key);
    if (slot != NULL && take_bytes(array, group, place, slot))
        return true;
    if ((slot != NULL && slot->fetch != 0) || array->now_us < group->base_retry_us ||
        array->fill_first || array->fetches.ios_used >= (array->fetches.io_count + 1) / 2)
        return false;
    bool taken = slot == NULL;
    if (taken)
        slot = pages_take(array, key, true);
    if (slot == NULL)
        return false;
    uint64_t end = page->page + 1;
    for (uint32_t i = 0; i < group->base.reading; i++) {
        const struct base_page *next = &group->base.pages[group->base.at[i]];
        end += next->volume == page->volume && next->page == end;
    }
    if (!stores_fetch(array, slot, end) && taken)
        slot_release(&array->table, slot);
    return false;
}

static void choose(struct array *array, struct group *group, uint64_t cycle, uint8_t volume,
                   uint64_t first, uint32_t count)
{
    struct base_pages *base = &group->base;
    (void)array;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t place = take_place(base);
        base->pages[place] =
            (struct base_page){.cycle = cycle, .page = first + i, .volume = volume};
        base->at[base->reading++] = place;
    }
}

static bool any_moves(const struct array *array, const struct group *group)
{
    for (uint32_t i = 0; i < group->config->volume_count; i++) {
        if (array->volumes[group->config->volumes[i]].move != MOVE_NONE)
            return true;
    }
    return false;
}

static void read_all(struct array *array, struct group *group)
{
    struct base_pages *base = &group->base;
    for (uint32_t i = 0; i < base->reading;) {
        if (read_page(array, group, base->at[i]))
            base->at[i] = base->at[--base->reading];
        else
            i++;
    }
}

/* A few pages in a pump: hosts wait while they are copied. */
void copy_base_pump(struct array *array, struct group *group)
{
    struct base_pages *base = &group->base;
    uint8_t volume;
    uint64_t first, cycle;
    uint32_t count;
    read_all(array, group);
    if (!group->sender.attached || any_moves(array, group) ||
        base->reading + BASE_STEP > BASE_READING ||
        !sender_base_next(&group->sender, BASE_STEP, &volume, &first, &count, &cycle))
        return;
    choose(array, group, cycle, volume, first, count);
    read_all(array, group);
    group->more |= base->reading + BASE_STEP <= BASE_READING;
}

void copy_base_fetched(struct array *array, const struct slot *slot)
{
    struct group *group = copy_group(array, slot_key_volume(slot->key));
    if (group == NULL)
        return;
    struct base_pages *base = &group->base;
    if (slot->valid == 0)
        group->base_retry_us = array->now_us + BASE_RETRY_US; /* the store failed */
    for (uint32_t i = 0; i < base->reading; i++) {
        if (key_of(group, &base->pages[base->at[i]]) != slot->key ||
            !take_bytes(array, group, base->at[i], slot))
            continue;
        base->at[i] = base->at[--base->reading];
        return;
    }
}

uint32_t copy_base_take(struct group *group, const struct sender_batch *batch)
{
    struct base_pages *base = &group->base;
    uint32_t at = batch->number % COPY_WINDOW, ring = batch->cycle % COPY_RING;
    if (base->batches[at].number == batch->number)
        return base->batches[at].first; /* it is sent again */
    uint32_t place = base->cycles[ring].waits;
    base->batches[at].number = batch->number;
    base->batches[at].first = place;
    for (uint32_t i = 0; i < batch->count; i++) {
        CHECK(place != NO_INDEX);
        CHECK(base->pages[place].cycle == batch->cycle);
        place = base->pages[place].next;
    }
    base->cycles[ring].waits = place;
    return base->batches[at].first;
}
