/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* TRIM and WRITE ZEROES over whole pages, in chunks of RANGE_CHUNK_PAGES. The order of the steps is
 * what keeps a page's old data from ever coming back:
 *
 *   QUIET   nothing may be reading from or writing to the store within the range; what is dirty
 * there is held back STORE   the store discards or zeroes FLUSH   ... durably. Until here both
 * memories still hold the old data: a takeover finds the old state DROP    every slot of the range
 * leaves the cache, and one RANGE header makes the peer do the same MIRROR  the peer has applied
 * it: over
 *
 * All other requests to these pages wait until it is over, reads too: a read that saw zeros in
 * between could see the old data again after a takeover. Ends that are not whole pages, and small
 * WRITE ZEROES, are written through the cache. */

#include "array/internal.h"

#include "base/mistake.h"

bool range_covers(const struct array *array, uint8_t volume, uint64_t page,
                  const struct request *except)
{
    for (uint32_t i = 0; i < RANGE_OPS; i++) {
        const struct range *range = &array->ranges[i];
        if (range->state != RANGE_FREE && range->volume == volume && page >= range->first &&
            page < range->end && (except == NULL || except->range != i + 1))
            return true;
    }
    return false;
}

static bool overlaps(const struct array *array, uint8_t volume, uint64_t first, uint64_t end)
{
    for (uint32_t i = 0; i < RANGE_OPS; i++) {
        const struct range *range = &array->ranges[i];
        if (range->state != RANGE_FREE && range->volume == volume && first < range->end &&
            range->first < end)
            return true;
    }
    return false;
}

static uint64_t range_bytes(const struct array *array, const struct range *range)
{
    uint64_t end =
        min_u64(range->end * PAGE_SIZE_BYTES, array->config.volumes[range->volume].size_bytes);
    return end - range->first * PAGE_SIZE_BYTES;
}

static void set_held(struct array *array, const struct range *range, bool held)
{
    for (uint64_t page = range->first; page < range->end; page++) {
        struct slot *slot = slot_find(&array->table, slot_key(range->volume, page));
        if (slot != NULL)
            slot->held = held;
    }
}

static void range_over(struct array *array, struct request *request, struct range *range)
{
    request->done_bytes += range_bytes(array, range);
    request->ranged = true;
    request->range = 0;
    range->state = RANGE_FREE;
    array->ranges_used--;
    host_resume(array, &array->range_wait);
}

/* Whether nothing within the range is on its way from or to the store. Else the request waits for
 * the first such slot. */
static bool range_is_quiet(struct array *array, struct request *request, struct range *range)
{
    for (; range->scan < range->end; range->scan++) {
        struct slot *slot = pages_find(array, slot_key(range->volume, range->scan));
        if (slot == NULL)
            continue;
        if ((slot->state == SLOT_DESTAGING || slot->fetch != 0) && !MISTAKE(range_while_busy)) {
            host_wait_slot(array, request, slot);
            return false;
        }
        if (slot->elder != NO_INDEX) {
            host_wait_slot(array, request, slot_at(&array->table, slot->elder));
            return false;
        }
        slot->held = true;
    }
    return true;
}

static void ask_store(struct array *array, const struct range *range)
{
    const struct volume_config *config = &array->config.volumes[range->volume];
    uint32_t index = (uint32_t)(range - array->ranges);
    array_store_action(
        array, &(struct store_action){
                   .io = io_id(IO_RANGE, index),
                   .op = range->trim || !range->no_hole ? STORE_TRIM : STORE_ZERO,
                   .store = config->store,
                   .offset_bytes = config->store_offset_bytes + range->first * PAGE_SIZE_BYTES,
                   .length_bytes = range_bytes(array, range),
                   .not_after_us = role_serve_until(&array->role)});
}

static void drop_page(struct array *array, struct slot *slot)
{
    slot->held = false;
    copy_discarded(array, slot);
    if (slot->state == SLOT_FILLING || slot->state == SLOT_TRAVELLING) {
        generation_leave(&array->destage.generations, slot);
        slot_set_mirrored(&array->table, slot, false);
        slot_supersede(&array->table,
                       slot); /* released when the list that carries it is acknowledged */
        return;
    }
    generation_leave(&array->destage.generations, slot);
    host_slot_settled(array, slot, true);
    if (slot->pinned)
        pages_put_aside(array, slot);
    else
        slot_release(&array->table, slot);
}

/* The zeros go through the cache, page by page. */
static void write_instead(struct array *array, struct request *request, struct range *range)
{
    set_held(array, range, false);
    request->by_write = true;
    range->state = RANGE_WRITE;
}

/* Every slot of the range goes. False: the filling list is full, and the request waits. */
static bool range_drop(struct array *array, struct request *request, struct range *range)
{
    uint64_t cycle;
    if (array->mirroring && !lists_have_room(&array->lists, 2, true)) {
        request_queue_append(&array->requests, &array->room_reads, request);
        return false;
    }
    if (!copy_range(array, range->volume, range->first, range->end - range->first, &cycle)) {
        write_instead(array, request, range); /* the remote copy has no place for another range */
        return true;
    }
    for (uint64_t page = range->first; page < range->end; page++) {
        struct slot *slot = slot_find(&array->table, slot_key(range->volume, page));
        if (slot != NULL)
            drop_page(array, slot);
    }
    if (array->mirroring && !MISTAKE(range_not_sent)) {
        struct header header = {.type = HEADER_RANGE,
                                .volume = range->volume,
                                .page = range->first,
                                .count = range->end - range->first,
                                .cycle = cycle};
        lists_add(&array->lists, &header);
        array->sent.ranges++;
        ship_note_progress(array, request, request->done_bytes + range_bytes(array, range));
        TRACE(array, "fill range volume %u page %llu count %llu", header.volume,
              (unsigned long long)header.page, (unsigned long long)header.count);
    }
    return true;
}

/* Before the store changes anything the peer has to know, when the remote copy may miss it: a
 * takeover would find zeros there, or not, and nothing that says which. */
static bool range_announce(struct array *array, struct request *request, struct range *range)
{
    bool copied = copy_group(array, range->volume) != NULL && !MISTAKE(zeroing_not_said);
    if (!copied || !array->mirroring) {
        range->state = RANGE_STORE;
        ask_store(array, range);
        return false;
    }
    if (!lists_have_room(&array->lists, 2, true)) {
        request_queue_append(&array->requests, &array->room_reads, request);
        return false;
    }
    copy_say_zeroing(array, (uint32_t)(range - array->ranges), range->volume, range->first,
                     range->end - range->first);
    range->state = RANGE_ANNOUNCE;
    request_queue_append(&array->requests, &lists_filling(&array->lists)->waiting, request);
    return false;
}

/* As far as the range can go now; true when it is over. */
static bool range_step(struct array *array, struct request *request, struct range *range)
{
    switch (range->state) {
    case RANGE_QUIET:
        if (!range_is_quiet(array, request, range))
            return false;
        return range_announce(array, request, range);
    case RANGE_ANNOUNCE:
        range->state = RANGE_STORE;
        ask_store(array, range);
        return false;
    case RANGE_DROP:
        if (!range_drop(array, request, range))
            return false;
        if (range->state == RANGE_WRITE)
            return true;
        if (array->mirroring) {
            range->state = RANGE_MIRROR;
            request_queue_append(&array->requests, &lists_filling(&array->lists)->waiting, request);
            return false;
        }
        range_over(array, request, range);
        return true;
    case RANGE_MIRROR: /* acknowledged, or the mirror is gone and need not know */
        /* What the request wrote through the cache before stands ahead of the range in the stream,
         * so it is acknowledged too; waiting for the next list would be waiting for other hosts. */
        if (array->mirroring && request->wrote) {
            request->wrote = false;
            request->wrote_mirrored = true;
        }
        range_over(array, request, range);
        return true;
    default:
        CHECK(false);
        return false;
    }
}

/* The request was refused while the store was busy with its range. */
static bool range_bury(struct array *array, struct range *range)
{
    if (range->state != RANGE_DEAD)
        return false;
    range->state = RANGE_FREE;
    array->ranges_used--;
    host_resume(array, &array->range_wait);
    return true;
}

/* The store did not do it. With the lease over, the range begins again when this controller serves
 * again. Otherwise what the store holds now is old data or zeros, and the cache has lost nothing:
 * the zeros go through the cache instead, where a failing store is met with patience. A TRIM is
 * only advice, but must not leave half of its pages zero beside a mirror that knows the old ones:
 * it is zeroed too. Others still wait for each page until it is: they could see the store's zeros,
 * write, and lose that to the zeros that follow. */
static void range_failed(struct array *array, struct request *request, struct range *range,
                         enum store_result result)
{
    if (result == STORE_NOT_SENT) {
        range->state = RANGE_QUIET;
        range->scan = range->first;
        range->suspect = false;
        return;
    }
    array->destage.errors++;
    write_instead(array, request, range);
}

/* One more page of a range that failed holds zeros in the cache. */
static void range_page_written(struct array *array, struct request *request)
{
    struct range *range = &array->ranges[request->range - 1];
    CHECK(range->state == RANGE_WRITE);
    range->first++;
    if (range->first == range->end) {
        request->range = 0;
        range->state = RANGE_FREE;
        array->ranges_used--;
    }
    host_resume(array, &array->range_wait);
}

void range_on_store(struct array *array, uint32_t index, enum store_result result)
{
    CHECK(index < RANGE_OPS);
    struct range *range = &array->ranges[index];
    if (range_bury(array, range))
        return;
    CHECK(range->state == RANGE_STORE);
    if (result == STORE_DONE && !MISTAKE(range_not_flushed)) {
        range->state = RANGE_FLUSH; /* stores_pump() asks for it */
        range->covered = false;
        return;
    }
    struct request *request = &array->requests.requests[range->request];
    if (MISTAKE(range_not_flushed) && result == STORE_DONE)
        range->state = RANGE_DROP;
    else
        range_failed(array, request, range, result);
    request_queue_append(&array->requests, &array->run, request);
}

void range_on_flush(struct array *array, struct range *range, enum store_result result)
{
    if (range_bury(array, range))
        return;
    CHECK(range->state == RANGE_FLUSH);
    CHECK(range->covered);
    struct request *request = &array->requests.requests[range->request];
    if (result == STORE_DONE && range->suspect)
        result = STORE_ERROR; /* a flush that failed may have taken this one's work along */
    if (result == STORE_DONE)
        range->state = RANGE_DROP;
    else
        range_failed(array, request, range, result);
    request_queue_append(&array->requests, &array->run, request);
}

/* A range over the whole pages from `page` on. False: the request waits for another range. */
static bool range_start(struct array *array, struct request *request, uint64_t page, uint64_t end)
{
    end = min_u64(end, page + RANGE_CHUNK_PAGES);
    if (array->ranges_used == RANGE_OPS || overlaps(array, request->host.volume, page, end)) {
        request_queue_append(&array->requests, &array->range_wait, request);
        return false;
    }
    uint32_t index = 0;
    while (array->ranges[index].state != RANGE_FREE)
        index++;
    array->ranges[index] = (struct range){.state = RANGE_QUIET,
                                          .volume = request->host.volume,
                                          .trim = request->host.op == HOST_TRIM,
                                          .no_hole = (request->host.flags & HOST_NO_HOLE) != 0,
                                          .request = request_index(&array->requests, request),
                                          .first = page,
                                          .end = end,
                                          .scan = page};
    array->ranges_used++;
    request->range = (uint8_t)(index + 1);
    return true;
}

void range_run(struct array *array, struct request *request)
{
    const struct volume_config *config = &array->config.volumes[request->host.volume];
    bool trim = request->host.op == HOST_TRIM;
    uint64_t offset = request->host.offset_bytes;
    uint64_t end = offset + request->host.length_bytes;
    uint64_t whole_end = end == config->size_bytes ? array->volumes[request->host.volume].page_count
                                                   : end / PAGE_SIZE_BYTES;
    bool store_can = array->config.stores[config->store].can_zero;
    if (trim && !store_can)
        request->done_bytes = request->host.length_bytes;
    for (;;) {
        if (request->range != 0 && array->ranges[request->range - 1].state != RANGE_WRITE) {
            if (!range_step(array, request, &array->ranges[request->range - 1]))
                return;
            continue;
        }
        if (request->dropped && request->range == 0) {
            host_complete(array, request, HOST_NOT_OWNER);
            return;
        }
        uint64_t at = offset + request->done_bytes;
        if (at >= end)
            break;
        uint64_t page = at / PAGE_SIZE_BYTES;
        bool whole = at % PAGE_SIZE_BYTES == 0 && page < whole_end;
        bool worth = trim || whole_end - page > RANGE_SMALL_PAGES || request->range != 0;
        if (whole && worth && store_can && !request->by_write) {
            if (!range_start(array, request, page, whole_end))
                return;
            continue;
        }
        uint64_t to = min_u64(end, (page + 1) * PAGE_SIZE_BYTES);
        if (!trim || (whole && request->by_write)) {
            if (!host_write_page(array, request, page, (uint32_t)(at % PAGE_SIZE_BYTES),
                                 (uint32_t)(to - page * PAGE_SIZE_BYTES), NULL))
                return;
            request->wrote = true;
            ship_note_progress(array, request, request->done_bytes + (to - at));
        }
        request->done_bytes += to - at;
        if (request->range != 0)
            range_page_written(array, request);
    }
    if (request->resumed && array_is_solo(array)) {
        request->settling = true; /* part of it is in what was adopted */
        host_run(array, request);
    } else if (request->wrote)
        host_write_applied(array, request);
    else if (request->wrote_mirrored)
        host_write_mirrored(array, request);
    else
        host_complete(array, request, HOST_OK);
}
