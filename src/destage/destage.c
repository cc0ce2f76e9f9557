/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See destage.h. What a page contributes to a run is the hull of its dirty sectors, rounded out to
 * the store's blocks; all of the hull must be valid, or the page is filled first. Pages join when
 * the hulls touch. */

#include "destage/destage.h"

#include "base/mistake.h"

enum {
    RUNS_PER_WRITE = 8, /* runs that wait for a flush, for each write in flight */
    FLUSH_AFTER_RUNS = 4,
    PASS_OVER_LIMIT = 64, /* slots that may not go yet, looked at in one pick */
    RETRY_FIRST_US = 20 * 1000,
    RETRY_LAST_US = 5 * 1000 * 1000,
};

struct hull {
    uint8_t first, end; /* sectors */
};

uint32_t destage_run_count(uint32_t write_limit)
{
    return write_limit * RUNS_PER_WRITE;
}

void destage_create(struct destage *destage, struct arena *arena, uint32_t write_limit)
{
    uint32_t run_count = destage_run_count(write_limit);
    struct run *runs = arena_array(arena, struct run, run_count);
    if (arena->base == NULL)
        return;
    *destage = (struct destage){.runs = runs,
                                .run_count = run_count,
                                .write_limit = write_limit,
                                .retry_at_us = UINT64_MAX,
                                .retry_pause_us = RETRY_FIRST_US};
}

static uint8_t hull_mask(struct hull hull)
{
    return (uint8_t)((1u << hull.end) - (1u << hull.first));
}

static struct hull hull_of(const struct destage *destage, const struct slot *slot)
{
    const struct volume_config *volume = &destage->volumes[slot_key_volume(slot->key)];
    uint32_t block = destage->store_configs[volume->store].block_size_bytes / SECTOR_SIZE;
    CHECK(slot->dirty != 0);
    uint32_t first = (uint32_t)__builtin_ctz(slot->dirty) / block * block;
    uint32_t last = 31 - (uint32_t)__builtin_clz(slot->dirty);
    return (struct hull){.first = (uint8_t)first, .end = (uint8_t)((last / block + 1) * block)};
}

/* A superseded slot is here only because its write failed once: the newer slot of its page holds
 * all that it holds, and is mirrored in its place. */
static bool may_go(const struct slot_table *table, const struct slot *slot, bool solo)
{
    return slot->state == SLOT_DIRTY && (slot->elder == NO_INDEX || MISTAKE(pass_the_elder)) &&
           slot->fetch == 0 && (!slot->held || MISTAKE(pin_forgotten)) &&
           (solo || slot->superseded || slot_is_mirrored(table, slot) ||
            MISTAKE(destage_before_mirrored));
}

static struct run *run_take(struct destage *destage)
{
    for (uint32_t i = 0; i < destage->run_count; i++) {
        struct run *run = &destage->runs[(destage->free_hint + i) % destage->run_count];
        if (run->state == RUN_FREE) {
            destage->free_hint = (uint32_t)(run - destage->runs) + 1;
            return run;
        }
    }
    return NULL;
}

static void run_add(struct destage *destage, struct slot_table *table, struct run *run,
                    struct slot *slot, struct hull hull)
{
    generation_join(&destage->generations,
                    slot); /* an adopted page is marked as it leaves its list */
    slot_list_remove(table, slot);
    slot_set_state(table, slot, SLOT_DESTAGING);
    uint32_t size = (uint32_t)(hull.end - hull.first) * SECTOR_SIZE;
    run->slots[run->count] = slot_index(table, slot);
    run->iov[run->count++] = (struct iovec){
        .iov_base = slot_frame(table, slot) + (size_t)hull.first * SECTOR_SIZE, .iov_len = size};
    run->length_bytes += size;
}

/* The slot of the page `step` pages away, when it may join a run whose edge there lies at the
 * page's border. */
static struct slot *neighbour(struct destage *destage, struct slot_table *table,
                              const struct slot *slot, int step, bool solo, struct hull *hull)
{
    uint64_t page = slot_key_page(slot->key);
    if (step < 0 && page == 0)
        return NULL;
    struct slot *next = slot_find(table, slot->key + (uint64_t)(int64_t)step);
    if (next == NULL || next->failed || !may_go(table, next, solo))
        return NULL;
    *hull = hull_of(destage, next);
    if ((hull_mask(*hull) & ~next->valid) ||
        (step > 0 ? hull->first != 0 : hull->end != PAGE_SECTORS))
        return NULL;
    return next;
}

/* The first page of the run that `slot` lies in: back as far as dirty neighbours reach. */
static struct slot *run_start(struct destage *destage, struct slot_table *table, struct slot *slot,
                              bool solo)
{
    struct hull hull = hull_of(destage, slot);
    for (uint32_t i = 0; i + 1 < STORE_IO_PAGES && hull.first == 0; i++) {
        struct slot *before = neighbour(destage, table, slot, -1, solo, &hull);
        if (before == NULL)
            break;
        slot = before;
    }
    return slot;
}

static void run_build(struct destage *destage, struct slot_table *table, struct run *run,
                      struct slot *slot, bool solo)
{
    if (!slot->failed && !slot->superseded)
        slot = run_start(destage, table, slot, solo);
    struct hull hull = hull_of(destage, slot);
    const struct volume_config *volume = &destage->volumes[slot_key_volume(slot->key)];
    run->store = volume->store;
    run->count = 0;
    run->length_bytes = 0;
    run->offset_bytes = volume->store_offset_bytes + slot_key_page(slot->key) * PAGE_SIZE_BYTES +
                        (uint64_t)hull.first * SECTOR_SIZE;
    bool alone = slot->failed || slot->superseded;
    for (;;) {
        struct hull next_hull;
        struct slot *next = NULL;
        if (!alone && run->count + 1 < STORE_IO_PAGES && hull.end == PAGE_SECTORS)
            next = neighbour(destage, table, slot, 1, solo, &next_hull);
        run_add(destage, table, run, slot, hull);
        if (next == NULL)
            return;
        slot = next;
        hull = next_hull;
    }
}

struct run *destage_pick(struct destage *destage, struct slot_table *table, enum slot_list_id list,
                         bool solo, struct slot **fill)
{
    *fill = NULL;
    if (destage->writing >= destage->write_limit || destage->used == destage->run_count)
        return NULL;
    uint32_t pass_over = min_u32(PASS_OVER_LIMIT, slot_list_count(table, list));
    for (uint32_t i = 0; i < pass_over; i++) {
        struct slot *slot = slot_list_first(table, list);
        if (may_go(table, slot, solo)) {
            if (hull_mask(hull_of(destage, slot)) & ~slot->valid) {
                *fill = slot;
                return NULL;
            }
            struct run *run = run_take(destage);
            CHECK(run != NULL);
            run_build(destage, table, run, slot, solo);
            run->state = RUN_WRITING;
            run->suspect = false;
            destage->writing++;
            destage->used++;
            destage->stores[run->store].writing++;
            destage->store_writes++;
            destage->pages_written += run->count;
            return run;
        }
        slot_list_remove(table, slot);
        slot_list_append(table, list, slot);
    }
    return NULL;
}

static void leave_writing(struct destage *destage, struct run *run)
{
    CHECK(run->state == RUN_WRITING);
    CHECK(destage->writing > 0);
    destage->writing--;
    destage->stores[run->store].writing--;
}

void destage_written(struct destage *destage, struct run *run)
{
    leave_writing(destage, run);
    run->state = RUN_WRITTEN;
    destage->stores[run->store].written++;
}

bool destage_flush(struct destage *destage, uint32_t store, bool wanted, bool eager)
{
    struct destage_store *state = &destage->stores[store];
    if (state->flushing || (state->written == 0 && !wanted))
        return false;
    bool many = state->written >= destage->write_limit * FLUSH_AFTER_RUNS;
    if (!wanted && !eager && !many && state->writing > 0)
        return false;
    for (uint32_t i = 0; i < destage->run_count; i++) {
        struct run *run = &destage->runs[i];
        if (run->state == RUN_WRITTEN && run->store == store)
            run->state = RUN_FLUSHING;
    }
    state->written = 0;
    state->flushing = true;
    destage->flushes++;
    return true;
}

void destage_flushed(struct destage *destage, uint32_t store)
{
    CHECK(destage->stores[store].flushing);
    destage->stores[store].flushing = false;
}

void destage_done(struct destage *destage, struct run *run)
{
    CHECK(run->state == RUN_FLUSHING);
    run->state = RUN_FREE;
    CHECK(destage->used > 0);
    destage->used--;
}

static void schedule_retry(struct destage *destage, uint64_t now_us)
{
    if (destage->retry_at_us != UINT64_MAX)
        return;
    destage->retry_at_us = now_us + destage->retry_pause_us;
    destage->retry_pause_us = min_u64(destage->retry_pause_us * 2, RETRY_LAST_US);
}

void destage_defer(struct destage *destage, struct slot_table *table, struct slot *slot,
                   uint64_t now_us)
{
    CHECK(slot->state == SLOT_DIRTY);
    generation_join(&destage->generations, slot);
    slot_list_remove(table, slot);
    slot->failed = true;
    slot_list_append(table, LIST_FAILED, slot);
    schedule_retry(destage, now_us);
}

void destage_flush_failed(struct destage *destage, struct slot_table *table, uint32_t store,
                          uint64_t now_us)
{
    for (uint32_t i = 0; i < destage->run_count; i++) {
        struct run *run = &destage->runs[i];
        if (run->state == RUN_FREE || run->store != store)
            continue;
        if (run->state == RUN_WRITING)
            run->suspect = true;
        else
            destage_failed(destage, table, run, now_us);
    }
}

void destage_reset(struct destage *destage)
{
    CHECK(destage->writing == 0);
    for (uint32_t i = 0; i < destage->run_count; i++)
        destage->runs[i].state = RUN_FREE;
    for (uint32_t i = 0; i < STORE_LIMIT; i++)
        destage->stores[i] = (struct destage_store){0};
    destage->used = 0;
    destage->generations = (struct generations){0};
    destage->retry_at_us = UINT64_MAX;
    destage->retry_pause_us = RETRY_FIRST_US;
}

void destage_failed(struct destage *destage, struct slot_table *table, struct run *run,
                    uint64_t now_us)
{
    CHECK(run->state != RUN_FREE);
    if (run->state == RUN_WRITING)
        leave_writing(destage, run);
    else if (run->state == RUN_WRITTEN)
        destage->stores[run->store].written--;
    run->state = RUN_FREE;
    destage->used--;
    destage->errors++;
    for (uint32_t i = 0; i < run->count; i++) {
        struct slot *slot = slot_at(table, run->slots[i]);
        slot_set_state(table, slot, SLOT_DIRTY);
        slot->failed = true;
        slot_list_append(table, LIST_FAILED, slot);
    }
    schedule_retry(destage, now_us);
}

void destage_retry(struct destage *destage, struct slot_table *table, uint64_t now_us)
{
    if (now_us < destage->retry_at_us)
        return;
    destage->retry_at_us = UINT64_MAX;
    /* A host may be waiting for any of them: they go with the urgent ones. */
    for (struct slot *slot; (slot = slot_list_first(table, LIST_FAILED)) != NULL;) {
        slot_list_remove(table, slot);
        slot_list_append(table, LIST_URGENT, slot);
    }
}

void destage_recovered(struct destage *destage, struct slot_table *table)
{
    if (slot_list_count(table, LIST_FAILED) == 0)
        destage->retry_pause_us = RETRY_FIRST_US;
}
