/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What goes between the slots and the stores: fetches on a miss, destages, flushes. Every operation
 * carries the time until which this controller may touch a store; nothing is asked for once that
 * has passed (invariant 8). */

#include "array/internal.h"

#include "base/mistake.h"

enum {
    DESTAGE_SPARE_TURNS = 16,
    BARRIER_RETRY_US = 50 * 1000,
    PACE_SPREAD_MS =
        30000, /* what is due by age goes to the store over so long, while there is room */
    PACE_LEAST_PAGES = 256, /* a second */
    FLUSH_PATIENCE_US =
        250 * 1000, /* while paced runs follow each other, one flush for those of so long */
    FLUSH_PATIENCE_RUNS = 64, /* or for so many */
};

void stores_create(struct fetches *fetches, struct arena *arena, uint32_t io_count)
{
    uint32_t frame_count = min_u32(io_count * PAGES_PER_FETCH_IO + STORE_IO_PAGES, UINT16_MAX - 1);
    struct fetch_io *ios = arena_array(arena, struct fetch_io, io_count);
    uint32_t *frame_slot = arena_array(arena, uint32_t, frame_count);
    uint8_t *frames = arena_take(arena, (size_t)frame_count * PAGE_SIZE_BYTES, PAGE_SIZE_BYTES);
    if (arena->base == NULL)
        return;
    *fetches = (struct fetches){.ios = ios,
                                .io_count = io_count,
                                .frames = frames,
                                .frame_slot = frame_slot,
                                .frame_count = frame_count};
    for (uint32_t i = 0; i < io_count; i++)
        ios[i].next_free = i + 1 < io_count ? i + 1 : NO_INDEX;
    for (uint32_t i = 0; i < frame_count; i++)
        frame_slot[i] = i + 1 < frame_count ? i + 1 : NO_INDEX;
}

static uint32_t page_read_bytes(const struct array *array, uint8_t volume, uint64_t page)
{
    return (uint32_t)min_u64(PAGE_SIZE_BYTES,
                             array->config.volumes[volume].size_bytes - page * PAGE_SIZE_BYTES);
}

static void fetch_add(struct array *array, struct fetch_io *io, struct slot *slot)
{
    struct fetches *fetches = &array->fetches;
    uint32_t frame = fetches->frame_free;
    CHECK(frame != NO_INDEX);
    fetches->frame_free = fetches->frame_slot[frame];
    fetches->frames_used++;
    fetches->frame_slot[frame] = slot_index(&array->table, slot);
    slot->fetch = (uint16_t)(frame + 1);
    array->volumes[slot_key_volume(slot->key)].fetches++;
    if (slot->state == SLOT_CLEAN)
        slot_list_remove(&array->table, slot); /* not to be given up meanwhile */
    io->frames[io->count] = (uint16_t)frame;
    io->iov[io->count++] = (struct iovec){
        .iov_base = fetches->frames + (size_t)frame * PAGE_SIZE_BYTES,
        .iov_len = page_read_bytes(array, slot_key_volume(slot->key), slot_key_page(slot->key))};
}

bool stores_fetch(struct array *array, struct slot *slot, uint64_t end_page)
{
    struct fetches *fetches = &array->fetches;
    CHECK(slot->fetch == 0);
    uint8_t store = array->config.volumes[slot_key_volume(slot->key)].store;
    if (array->config.group_count > 0 &&
        copy_second_holds_fetches(array, slot_key_volume(slot->key)))
        return false;
    if (fetches->io_free == NO_INDEX || fetches->frame_free == NO_INDEX ||
        (array->barrier_wanted & 1ull << store))
        return false;
    uint32_t index = fetches->io_free;
    struct fetch_io *io = &fetches->ios[index];
    fetches->io_free = io->next_free;
    fetches->ios_used++;
    io->used = true;
    io->count = 0;
    uint8_t volume = slot_key_volume(slot->key);
    uint64_t first = slot_key_page(slot->key);
    fetch_add(array, io, slot);
    for (uint64_t page = first + 1; page < end_page && io->count < STORE_IO_PAGES; page++) {
        uint64_t key = slot_key(volume, page);
        if (fetches->frame_free == NO_INDEX || slot_find(&array->table, key) != NULL ||
            range_covers(array, volume, page, NULL))
            break;
        struct slot *next = pages_take(array, key, true);
        if (next == NULL)
            break;
        fetch_add(array, io, next);
    }
    uint64_t length = 0;
    for (uint32_t i = 0; i < io->count; i++)
        length += io->iov[i].iov_len;
    const struct volume_config *config = &array->config.volumes[volume];
    array_store_action(
        array,
        &(struct store_action){.io = io_id(IO_FETCH, index),
                               .op = STORE_READ,
                               .store = config->store,
                               .offset_bytes = config->store_offset_bytes + first * PAGE_SIZE_BYTES,
                               .length_bytes = length,
                               .iov = io->iov,
                               .iov_count = io->count,
                               .not_after_us = role_serve_until(&array->role)});
    return true;
}

/* The store's bytes fill what is not valid: whatever was written meanwhile is newer. */
static void fetch_merge(struct array *array, struct slot *slot, const uint8_t *from)
{
    uint8_t *to = slot_frame(&array->table, slot);
    if (slot->valid == 0) {
        memcpy(to, from, PAGE_SIZE_BYTES);
    } else {
        for (uint32_t sector = 0; sector < PAGE_SECTORS; sector++) {
            if (!(slot->valid & 1u << sector))
                memcpy(to + sector * SECTOR_SIZE, from + sector * SECTOR_SIZE, SECTOR_SIZE);
        }
    }
    slot->valid |= page_mask(&array->volumes[slot_key_volume(slot->key)], slot_key_page(slot->key));
}

static void fetch_done(struct array *array, struct fetch_io *io, enum store_result result)
{
    struct fetches *fetches = &array->fetches;
    CHECK(io->used);
    for (uint32_t i = 0; i < io->count; i++) {
        uint32_t frame = io->frames[i];
        struct slot *slot = slot_at(&array->table, fetches->frame_slot[frame]);
        fetches->frame_slot[frame] = fetches->frame_free;
        fetches->frame_free = frame;
        fetches->frames_used--;
        CHECK(slot->fetch == frame + 1);
        slot->fetch = 0;
        array->volumes[slot_key_volume(slot->key)].fetches--;
        if (result == STORE_DONE) {
            fetch_merge(array, slot, fetches->frames + (size_t)frame * PAGE_SIZE_BYTES);
            host_slot_settled(array, slot, false);
        } else {
            host_slot_fetch_failed(array, slot, result == STORE_NOT_SENT);
            if (slot->state == SLOT_DIRTY)
                destage_defer(&array->destage, &array->table, slot, array->now_us);
        }
        if (array->config.group_count > 0)
            copy_base_fetched(array, slot);
        if (slot->state == SLOT_CLEAN && slot->valid == 0)
            slot_release(&array->table, slot);
        else if (slot->state == SLOT_CLEAN)
            pages_keep_clean(array, slot);
    }
    if (result == STORE_ERROR || result == STORE_NO_SPACE)
        array->destage.errors++;
    io->used = false;
    io->next_free = fetches->io_free;
    fetches->io_free = (uint32_t)(io - fetches->ios);
    fetches->ios_used--;
}

static void run_flushed(struct array *array, struct run *run, enum store_result result);

static void run_written(struct array *array, struct run *run, enum store_result result)
{
    if (result == STORE_DONE && !run->suspect) {
        destage_written(&array->destage, run);
        if (MISTAKE(clean_before_flush)) {
            array->destage.stores[run->store].written--;
            run->state = RUN_FLUSHING;
            run_flushed(array, run, STORE_DONE);
        }
        return;
    }
    if (result != STORE_NOT_SENT)
        array_log(array, LOG_WARNING,
                  "store %u: a write of %llu bytes at %llu failed: its pages stay dirty and will "
                  "be tried again",
                  run->store, (unsigned long long)run->length_bytes,
                  (unsigned long long)run->offset_bytes);
    destage_failed(&array->destage, &array->table, run, array->now_us);
}

/* A flush failed: whatever the store had taken and not made durable is in doubt, whoever sent it.
 */
static void flush_failed(struct array *array, uint32_t store)
{
    array_log(array, LOG_WARNING,
              "store %u: a flush failed: what it was to make durable will be written again", store);
    destage_flush_failed(&array->destage, &array->table, store, array->now_us);
    for (uint32_t i = 0; i < RANGE_OPS; i++) {
        struct range *range = &array->ranges[i];
        if (range->state != RANGE_FREE && array->config.volumes[range->volume].store == store)
            range->suspect = true;
    }
    copy_second_zero_suspect(array, store);
}

static void run_flushed(struct array *array, struct run *run, enum store_result result)
{
    if (result != STORE_DONE) {
        destage_failed(&array->destage, &array->table, run, array->now_us);
        return;
    }
    bool had_failed = false;
    for (uint32_t s = 0; s < run->count; s++) {
        struct slot *slot = slot_at(&array->table, run->slots[s]);
        had_failed |= slot->failed;
        pages_durable(array, slot);
    }
    destage_done(&array->destage, run);
    if (had_failed)
        destage_recovered(&array->destage, &array->table);
}

static void barrier_flushed(struct array *array, uint32_t store, enum store_result result)
{
    uint64_t bit = 1ull << store;
    if (!(array->barrier_covered & bit))
        return;
    array->barrier_covered &= ~bit;
    if (result == STORE_DONE || MISTAKE(barrier_error_ignored))
        array->barrier_wanted &= ~bit;
    else
        array->barrier_retry_us = array->now_us + BARRIER_RETRY_US;
}

/* The one flush of the store ended: for the runs, the ranges and the barrier that it was to cover.
 */
static void flushed(struct array *array, uint32_t store, enum store_result result)
{
    destage_flushed(&array->destage, store);
    if (result != STORE_DONE && result != STORE_NOT_SENT && !MISTAKE(flush_error_for_runs_only))
        flush_failed(array, store);
    for (uint32_t i = 0; i < array->destage.run_count; i++) {
        struct run *run = &array->destage.runs[i];
        if (run->state == RUN_FLUSHING && run->store == store)
            run_flushed(array, run, result);
    }
    for (uint32_t i = 0; i < RANGE_OPS; i++) {
        struct range *range = &array->ranges[i];
        if (range->covered && range->state != RANGE_FREE &&
            array->config.volumes[range->volume].store == store)
            range_on_flush(array, range, result);
        else
            continue;
        range->covered = false;
    }
    barrier_flushed(array, store, result);
    copy_second_zero_flushed(array, store, result);
}

/* Someone other than a run needs the store to be flushed; if so it is covered by the flush that is
 * asked for now. */
static bool flush_is_wanted(struct array *array, uint32_t store)
{
    if (array->destage.stores[store].flushing && !MISTAKE(flush_covers_latecomers))
        return false;
    bool wanted = false;
    uint64_t bit = 1ull << store;
    if ((array->barrier_wanted & bit) && array->now_us >= array->barrier_retry_us) {
        array->barrier_covered |= bit;
        wanted = true;
    }
    for (uint32_t i = 0; i < RANGE_OPS && array->ranges_used > 0; i++) {
        struct range *range = &array->ranges[i];
        if (range->state != RANGE_FLUSH || array->config.volumes[range->volume].store != store)
            continue;
        range->covered = true;
        wanted = true;
    }
    if (array->config.group_count > 0)
        wanted |= copy_second_zero_wants_flush(array, store);
    return wanted;
}

void array_on_store(struct array *array, uint64_t now_us, uint32_t io, enum store_result result)
{
    array_begin(array, now_us);
    uint32_t index = io & ((1u << IO_KIND_SHIFT) - 1);
    TRACE(array, "store done io %u:%u result %d", io >> IO_KIND_SHIFT, index, (int)result);
    switch (io >> IO_KIND_SHIFT) {
    case IO_RUN:
        CHECK(index < array->destage.run_count);
        run_written(array, &array->destage.runs[index], result);
        break;
    case IO_FLUSH:
        CHECK(index < STORE_LIMIT);
        flushed(array, index, result);
        break;
    case IO_FETCH:
        CHECK(index < array->fetches.io_count);
        fetch_done(array, &array->fetches.ios[index], result);
        break;
    case IO_RANGE:
        range_on_store(array, index, result);
        break;
    case IO_ZERO:
        copy_second_zero_on_store(array, index, result);
        break;
    default:
        CHECK(false);
    }
}

/* Someone waits for the stores, or nothing is gained by waiting: destage all there is. */
static bool destage_eagerly(const struct array *array)
{
    if (array_is_solo(array) || array->flush_wait.count > 0 || array->store_waiting > 0 ||
        array->stopping || array->copy.hungry)
        return true;
    for (uint32_t i = 0; i < array->config.volume_count; i++) {
        if (array->volumes[i].move != MOVE_NONE)
            return true;
    }
    return false;
}

/* Pages that are still being written to are spared a round, unless they are old. */
static void spare_hot_pages(struct array *array, uint32_t now_ms)
{
    struct slot_table *table = &array->table;
    for (int i = 0; i < DESTAGE_SPARE_TURNS; i++) {
        struct slot *slot = slot_list_first(table, LIST_BACKLOG);
        if (slot == NULL || slot->frequency < 2 ||
            now_ms - slot->dirty_ms > array->config.destage_after_ms)
            return;
        slot->frequency /= 2;
        slot_list_remove(table, slot);
        slot_list_append(table, LIST_BACKLOG, slot);
    }
}

static bool backlog_is_due(struct array *array, bool eager)
{
    struct slot *oldest = slot_list_first(&array->table, LIST_BACKLOG);
    if (oldest == NULL)
        return false;
    uint32_t now_ms = (uint32_t)(array->now_us / 1000);
    if (eager || now_ms - oldest->dirty_ms >= array->config.destage_after_ms)
        return true;
    /* What is already on its way to the store counts as gone. */
    uint32_t waiting =
        slot_dirty_count(&array->table, 0) - array->table.state_count[0][SLOT_DESTAGING];
    return waiting + array->copy.foreign > array->low_slots;
}

/* Pages a second that go to the store while nobody waits for it. What is due by age is spread over
 * PACE_SPREAD_MS, since two memories hold it; what stands above the low watermark goes the faster
 * the nearer the high one is, and at that one there is no limit. So a destage is never a burst that
 * hosts feel, and a page that is written again soon goes once. */
static uint64_t pace_pages(const struct array *array)
{
    uint32_t dirty = slot_dirty_count(&array->table, 0);
    uint32_t waiting = dirty - array->table.state_count[0][SLOT_DESTAGING];
    if (dirty + array->copy.foreign >= array->high_slots || array->room_writes.count > 0 ||
        array->room_reads.count > 0)
        return UINT32_MAX;
    uint64_t spread_ms = PACE_SPREAD_MS;
    uint64_t pages =
        PACE_LEAST_PAGES + slot_list_count(&array->table, LIST_BACKLOG) * 1000ull / spread_ms;
    if (waiting > array->low_slots)
        pages += (uint64_t)(waiting - array->low_slots) * (array->high_slots - array->low_slots) /
                 (array->high_slots - waiting);
    return min_u64(pages, UINT32_MAX);
}

/* Whether the next run may go now. A run takes more than the credit that is there: the next then
 * waits for longer. */
static bool pace_allows(struct array *array)
{
    uint64_t since_us = min_u64(array->now_us - array->pace_us, 1000 * 1000);
    uint64_t pages = pace_pages(array);
    int64_t most = (int64_t)STORE_IO_PAGES * 1000 * 1000;
    array->pace_us = array->now_us;
    array->pace_credit += (int64_t)(since_us * pages);
    if (pages == UINT32_MAX || array->pace_credit > most)
        array->pace_credit = most;
    return array->pace_credit > 0;
}

/* The next run of a list goes to its store: how many pages, or 0. */
static uint32_t destage_from(struct array *array, enum slot_list_id list)
{
    struct slot *fill;
    struct run *run =
        destage_pick(&array->destage, &array->table, list, array_is_solo(array), &fill);
    /* It may go once it is filled: the next place for a fetch is its own, or hosts' reads that take
     * the only clean slot from each other could keep every destage waiting. */
    if (fill != NULL && !stores_fetch(array, fill, 0))
        array->fill_first |=
            array->fetches.io_free == NO_INDEX || array->fetches.frame_free == NO_INDEX;
    if (run == NULL)
        return 0;
    uint32_t index = (uint32_t)(run - array->destage.runs);
    array_store_action(array,
                       &(struct store_action){.io = io_id(IO_RUN, index),
                                              .op = STORE_WRITE,
                                              .store = run->store,
                                              .offset_bytes = run->offset_bytes,
                                              .length_bytes = run->length_bytes,
                                              .iov = run->iov,
                                              .iov_count = run->count,
                                              .not_after_us = role_serve_until(&array->role)});
    TRACE(array, "destage store %u offset %llu pages %u", run->store,
          (unsigned long long)run->offset_bytes, run->count);
    return run->count;
}

static int compare_offset(const struct store_action *a, const struct store_action *b)
{
    if (a->store != b->store)
        return a->store < b->store ? -1 : 1;
    return a->offset_bytes < b->offset_bytes ? -1 : a->offset_bytes > b->offset_bytes;
}

/* The writes chosen in this pump go to each store in the order of its blocks. Few at a time:
 * insertion sort. */
static void sort_writes(struct array *array, uint32_t first)
{
    struct store_action *actions = array->store_actions;
    for (uint32_t i = first + 1; i < array->actions.store_count; i++) {
        struct store_action moving = actions[i];
        uint32_t at = i;
        for (; at > first && compare_offset(&moving, &actions[at - 1]) < 0; at--)
            actions[at] = actions[at - 1];
        actions[at] = moving;
    }
}

/* Whether there is more of it to destage than may go now. */
static bool destage_backlog(struct array *array, bool eager)
{
    while (backlog_is_due(array, eager)) {
        if (!eager && !pace_allows(array))
            return true;
        if (!eager)
            spare_hot_pages(array, (uint32_t)(array->now_us / 1000));
        uint32_t pages = destage_from(array, LIST_BACKLOG);
        if (pages == 0)
            return true;
        if (!eager)
            array->pace_credit -= (int64_t)pages * 1000 * 1000;
    }
    return false;
}

void stores_pump(struct array *array)
{
    if (!role_may_serve(&array->role, array->now_us))
        return;
    array->fill_first = false;
    bool eager = destage_eagerly(array);
    uint32_t first = array->actions.store_count;
    destage_retry(&array->destage, &array->table, array->now_us);
    while (slot_list_count(&array->table, LIST_URGENT) > 0 && destage_from(array, LIST_URGENT))
        ;
    while (array_is_solo(array) && slot_list_count(&array->table, LIST_IMAGE) > 0 &&
           destage_from(array, LIST_IMAGE))
        ;
    bool due = destage_backlog(array, eager);
    sort_writes(array, first);
    bool hurry = eager || slot_list_count(&array->table, LIST_URGENT) > 0;
    array->pace_due = due && !hurry && pace_pages(array) != UINT32_MAX;
    for (uint32_t store = 0; store < array->config.store_count; store++) {
        bool wanted = flush_is_wanted(array, store);
        uint32_t enough = min_u32(FLUSH_PATIENCE_RUNS, array->destage.run_count / 2);
        if (array->pace_due && !wanted && array->destage.stores[store].written < enough &&
            array->now_us - array->flushed_us < FLUSH_PATIENCE_US)
            continue; /* more is about to come that can share the flush */
        if (!destage_flush(&array->destage, store, wanted, hurry))
            continue;
        array->flushed_us = array->now_us;
        array_store_action(array,
                           &(struct store_action){.io = io_id(IO_FLUSH, store),
                                                  .op = STORE_FLUSH,
                                                  .store = (uint8_t)store,
                                                  .not_after_us = role_serve_until(&array->role)});
        TRACE(array, "flush store %u", store);
    }
}

uint64_t stores_deadline(const struct array *array)
{
    uint64_t deadline = array->destage.retry_at_us;
    for (uint32_t store = 0; store < array->config.store_count; store++) {
        /* While a flush is under way, its end brings the next pump. */
        if ((array->barrier_wanted & 1ull << store) && !array->destage.stores[store].flushing)
            deadline = min_u64(deadline, array->barrier_retry_us);
    }
    const struct slot *oldest = slot_list_first(&array->table, LIST_BACKLOG);
    if (oldest != NULL && array->destage.writing < array->destage.write_limit) {
        uint32_t age_ms = (uint32_t)(array->now_us / 1000) - oldest->dirty_ms;
        uint32_t left_ms =
            age_ms < array->config.destage_after_ms ? array->config.destage_after_ms - age_ms : 0;
        if (left_ms > 0)
            deadline = min_u64(deadline, array->now_us + (uint64_t)left_ms * 1000);
    }
    if (array->pace_due && array->pace_credit <= 0 &&
        array->destage.writing < array->destage.write_limit)
        deadline = min_u64(deadline,
                           array->now_us + 1 + (uint64_t)-array->pace_credit / pace_pages(array));
    for (uint32_t i = 0; array->pace_due && i < array->config.store_count; i++) {
        const struct destage_store *state = &array->destage.stores[i];
        if (state->written > 0 && state->writing == 0 && !state->flushing)
            deadline =
                min_u64(deadline, max_u64(array->now_us, array->flushed_us + FLUSH_PATIENCE_US));
    }
    return deadline;
}

bool stores_quiet(const struct array *array)
{
    for (uint32_t i = 0; i < RANGE_OPS; i++) {
        if (array->ranges[i].state != RANGE_FREE)
            return false;
    }
    for (uint32_t i = 0; i < array->config.store_count; i++) {
        if (array->destage.stores[i].flushing)
            return false;
    }
    return array->destage.writing == 0 && array->fetches.ios_used == 0 &&
           !copy_second_zero_with_store(array);
}
