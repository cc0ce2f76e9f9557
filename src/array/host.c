/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Hosts' requests: reads, writes, flushes, and where each waits. A request is run until it is over
 * or must wait; it then stands in exactly one queue and is run again from where it was. Nothing
 * here fails a write for lack of room (invariant 10), and no read returns what could still be lost
 * (invariant 2): it waits for the slot instead. */

#include "array/internal.h"

#include "base/copy.h"
#include "base/mistake.h"

static bool role_is_out(const struct array *array)
{
    return !role_has_memory(array->role.state) || array->role.state == ROLE_JOINING;
}

/* A barrier waits for what may still change the volume: not for a READ or a FLUSH, which a store
 * that hangs would keep for ever, and not for its own kind. */
static bool barrier_awaits(const struct request *request)
{
    return request->host.op != HOST_READ && request->host.op != HOST_FLUSH &&
           request->host.op != HOST_STATE;
}

void host_complete(struct array *array, struct request *request, enum host_result result)
{
    host_complete_detail(array, request, result, 0);
}

void host_complete_detail(struct array *array, struct request *request, enum host_result result,
                          uint64_t detail)
{
    CHECK(request->ship == 0);
    if (array->copy.holds > 0 && copy_set_holds(array, request, result)) {
        request->kept = result;
        request->detail = detail;
        request_queue_append(&array->requests, &array->hold_wait, request);
        return;
    }
    struct volume *volume = &array->volumes[request->host.volume];
    struct volume_status *status = &volume->status;
    uint64_t latency_us = array->now_us - request->started_us;
    if (request->begun) {
        volume->active--;
        if (barrier_awaits(request))
            volume->side_active[request->side]--;
        state_request_over(array, request);
    }
    if (request->host.op != HOST_FLUSH && !request->settling && request->phase == REQUEST_STORE)
        array->store_waiting--;
    switch (request->host.op) {
    case HOST_READ:
        status->reads++;
        status->read_bytes += request->host.length_bytes;
        histogram_add(&status->read_latency_us, latency_us);
        break;
    case HOST_WRITE:
        status->writes++;
        status->write_bytes += request->host.length_bytes;
        histogram_add(&status->write_latency_us, latency_us);
        break;
    case HOST_FLUSH:
        status->flushes++;
        break;
    case HOST_TRIM:
        status->trims++;
        break;
    case HOST_ZERO:
        status->zeroes++;
        break;
    case HOST_COMPARE_WRITE:
        status->compares++;
        break;
    default:
        status->states += request->host.op == HOST_STATE;
        break;
    }
    if (request == array->synchronous) {
        array->outcome =
            (struct host_outcome){.complete = true, .result = result, .detail = detail};
        array->synchronous = NULL;
    } else {
        CHECK(array->actions.completion_count < array->config.request_limit);
        array->completions[array->actions.completion_count++] =
            (struct completion){.handle = request->host.handle, .result = result, .detail = detail};
    }
    if (request == array->last_held)
        array->last_held = NULL;
    TRACE(array, "complete %llu result %d", (unsigned long long)request->host.handle, (int)result);
    request_release(&array->requests, request);
}

void host_resume(struct array *array, struct request_queue *queue)
{
    for (struct request *request; (request = request_queue_pop(&array->requests, queue)) != NULL;)
        request_queue_append(&array->requests, &array->run, request);
}

static void wait_in(struct array *array, struct request_queue *queue, struct request *request)
{
    request_queue_append(&array->requests, queue, request);
}

/* It was judged by a record that a barrier has replaced, and nothing of it has been done: it may as
 * well come after the barrier, which need not wait until there is room. One that has come some way
 * may not: begun anew, it could undo what others were told in between. */
static bool is_outdated(const struct array *array, const struct request *request)
{
    const struct state_change *change = &array->state_change;
    return change->used && change->committed && change->volume == request->host.volume &&
           request->begun && request->side != array->volumes[change->volume].side &&
           (request->host.flags & HOST_VERSIONED) && request->host.op != HOST_STATE &&
           request->done_bytes == 0 && request->range == 0;
}

/* In arrival order: the one whose turn it is keeps its place. */
static void wait_for_write_room(struct array *array, struct request *request)
{
    if (is_outdated(array, request)) {
        host_complete(array, request, HOST_STALE);
        return;
    }
    if (array->room_turn)
        request_queue_prepend(&array->requests, &array->room_writes, request);
    else
        wait_in(array, &array->room_writes, request);
}

void host_wait_room(struct array *array, struct request *request)
{
    wait_for_write_room(array, request);
}

void host_clear_room_line(struct array *array)
{
    for (uint32_t left = array->room_writes.count; left > 0; left--) {
        struct request *request = request_queue_pop(&array->requests, &array->room_writes);
        if (request->dropped && request->range == 0)
            wait_in(array, &array->run, request);
        else if (is_outdated(array, request))
            host_complete(array, request, HOST_STALE);
        else
            wait_in(array, &array->room_writes, request);
    }
}

bool host_reserve(struct array *array, struct request *request, uint32_t headers, uint32_t slots,
                  uint32_t pages)
{
    bool turn = array->room_turn || array->room_writes.count == 0;
    if (turn && pages_reserve(array, slots, pages) &&
        (!array->mirroring || lists_have_room(&array->lists, headers, false)))
        return true;
    wait_for_write_room(array, request);
    return false;
}

void host_wait_slot(struct array *array, struct request *request, struct slot *slot)
{
    CHECK(!request->queued);
    request->queued = true;
    request->next = slot->waiters;
    request->wait_slot = slot_index(&array->table, slot);
    slot->waiters = request_index(&array->requests, request);
}

static struct request *take_waiter(struct array *array, struct slot *slot)
{
    if (slot->waiters == NO_INDEX)
        return NULL;
    struct request *request = &array->requests.requests[slot->waiters];
    slot->waiters = request->next;
    request->queued = false;
    request->next = NO_INDEX;
    request->wait_slot = NO_INDEX;
    return request;
}

/* The part of the request that lies in the page where it stands. */
struct part {
    uint64_t page;
    uint64_t key;
    uint32_t from, to; /* bytes within the page */
    uint8_t touched;   /* sectors that the part meets */
    uint8_t partial;   /* of these, the ones that it does not cover */
};

static uint8_t sector_mask(uint32_t first, uint32_t end)
{
    return end <= first ? 0 : (uint8_t)((1u << end) - (1u << first));
}

static struct part part_at(const struct request *request)
{
    uint64_t at = request->host.offset_bytes + request->done_bytes;
    uint64_t left = request->host.length_bytes - request->done_bytes;
    struct part part = {.page = at / PAGE_SIZE_BYTES, .from = (uint32_t)(at % PAGE_SIZE_BYTES)};
    part.key = slot_key(request->host.volume, part.page);
    part.to = (uint32_t)min_u64(PAGE_SIZE_BYTES, part.from + left);
    uint32_t first = part.from / SECTOR_SIZE;
    uint32_t end = (part.to + SECTOR_SIZE - 1) / SECTOR_SIZE;
    uint32_t covered_first = (part.from + SECTOR_SIZE - 1) / SECTOR_SIZE;
    uint32_t covered_end = part.to / SECTOR_SIZE;
    part.touched = sector_mask(first, end);
    part.partial = part.touched & (uint8_t)~sector_mask(covered_first, covered_end);
    return part;
}

static void copy_out(struct array *array, struct request *request, const struct slot *slot,
                     const struct part *part)
{
    memcpy((uint8_t *)request->host.data + request->done_bytes,
           slot_frame(&array->table, slot) + part->from, part->to - part->from);
    request->done_bytes += part->to - part->from;
}

void host_slot_settled(struct array *array, struct slot *slot, bool durable)
{
    for (struct request *request; (request = take_waiter(array, slot)) != NULL;) {
        struct part part = part_at(request);
        bool here = part.key == slot->key;
        if (here && request->host.op == HOST_READ && (part.touched & ~slot->valid) == 0 &&
            !slot->unsafe && !copy_set_hides(array, slot))
            copy_out(array, request, slot,
                     &part); /* this version, before a newer one makes it wait again */
        else if (here && durable && request->host.op != HOST_FLUSH &&
                 request->phase == REQUEST_STORE)
            request->done_bytes += part.to - part.from;
        request_queue_append(&array->requests, &array->run, request);
    }
}

void host_slot_fetch_failed(struct array *array, struct slot *slot, bool retry)
{
    for (struct request *request; (request = take_waiter(array, slot)) != NULL;) {
        bool reads = request->host.op <= HOST_WRITE || request->host.op == HOST_COMPARE_WRITE;
        if (retry || !reads || request->phase != REQUEST_APPLY)
            request_queue_append(&array->requests, &array->run, request);
        else
            host_complete(array, request, HOST_IO_ERROR);
    }
}

/* The page is not (wholly) in the cache: fetch it and wait for it. */
static void wait_for_fetch(struct array *array, struct request *request, struct slot *slot,
                           uint64_t key, uint64_t end_page)
{
    bool taken = slot == NULL;
    if (taken)
        slot = pages_take(array, key, true);
    if (slot != NULL &&
        (slot->fetch != 0 || (!array->fill_first && stores_fetch(array, slot, end_page)))) {
        host_wait_slot(array, request, slot);
        return;
    }
    if (slot != NULL && taken)
        slot_release(&array->table, slot);
    wait_in(array, &array->room_reads, request);
}

void host_fetch(struct array *array, struct request *request, struct slot *slot, uint64_t key)
{
    uint64_t last = request->host.offset_bytes + request->host.length_bytes - 1;
    wait_for_fetch(array, request, slot, key, last / PAGE_SIZE_BYTES + 1);
}

static void host_read(struct array *array, struct request *request)
{
    struct volume_status *status = &array->volumes[request->host.volume].status;
    while (request->done_bytes < request->host.length_bytes) {
        struct part part = part_at(request);
        if (array->ranges_used > 0 && range_covers(array, request->host.volume, part.page, NULL)) {
            wait_in(array, &array->range_wait, request);
            return;
        }
        if (array->copy.holds > 0 && copy_set_hides_range(array, request->host.volume, part.page)) {
            wait_in(array, &array->held, request);
            return;
        }
        struct slot *slot = pages_find(array, part.key);
        if (slot == NULL || (part.touched & ~slot->valid) != 0) {
            uint64_t last = request->host.offset_bytes + request->host.length_bytes - 1;
            status->read_page_misses++;
            wait_for_fetch(array, request, slot, part.key, last / PAGE_SIZE_BYTES + 1);
            return;
        }
        if (slot->unsafe && !MISTAKE(read_before_mirror)) {
            host_wait_slot(array, request, slot);
            return;
        }
        if (copy_set_hides(array, slot)) {
            wait_in(array, &array->held, request);
            return;
        }
        status->read_page_hits++;
        replace_on_hit(slot);
        copy_out(array, request, slot, &part);
    }
    host_complete(array, request, HOST_OK);
}

bool host_write_page(struct array *array, struct request *request, uint64_t page, uint32_t from,
                     uint32_t to, const uint8_t *data)
{
    struct part part = part_at(request);
    CHECK(part.page == page);
    CHECK(part.from == from);
    if (array->ranges_used > 0 && range_covers(array, request->host.volume, page, request)) {
        wait_in(array, &array->range_wait, request);
        return false;
    }
    bool notes = (request->host.flags & HOST_SHIPPED) && array->mirroring;
    if (notes && !array->reserved && !lists_have_room(&array->lists, 2, false)) {
        wait_for_write_room(array, request); /* the page's header, and how far this has come */
        return false;
    }
    /* A new arrival may not pass those that wait for room, unless it needs none. */
    struct slot *slot = pages_find(array, part.key);
    bool needs_room = slot == NULL || slot->state != SLOT_FILLING || copy_frozen(array, slot);
    if (needs_room && array->room_writes.count > 0 && !array->room_turn) {
        wait_for_write_room(array, request);
        return false;
    }
    if ((part.partial & ~(slot == NULL ? 0 : slot->valid)) != 0) {
        wait_for_fetch(array, request, slot, part.key, page + 1);
        return false;
    }
    slot = pages_write_slot(array, slot, part.key);
    if (slot == NULL) {
        wait_for_write_room(array, request);
        return false;
    }
    uint8_t *frame = slot_frame(&array->table, slot);
    if (data != NULL)
        copy_to_cold(frame + from, data, to - from);
    else
        memset(frame + from, 0, to - from);
    replace_on_hit(slot);
    pages_written(array, slot, part.touched);
    return true;
}

/* Everything is in the cache: now it must become as safe as this mode of service promises. */
void host_write_applied(struct array *array, struct request *request)
{
    if (MISTAKE(ack_before_mirror) && array->mirroring) {
        host_complete(array, request, HOST_OK);
        return;
    }
    if (MISTAKE(ack_before_store) && !array->mirroring) {
        host_complete(array, request, HOST_OK);
        return;
    }
    if (array->mirroring) {
        request->phase = REQUEST_MIRROR;
        wait_in(array, &lists_filling(&array->lists)->waiting, request);
        return;
    }
    request->phase = REQUEST_STORE;
    array->store_waiting++;
    request->done_bytes = 0;
    request_queue_append(&array->requests, &array->run, request);
}

/* Walk over the pages: each must be clean, or have been when the request came by. */
static void host_write_stored(struct array *array, struct request *request)
{
    while (request->done_bytes < request->host.length_bytes) {
        struct part part = part_at(request);
        /* What is left of the former owner's writes is on the store. */
        struct slot *slot = pages_find(array, part.key);
        if (slot != NULL && slot_is_dirty(slot)) {
            host_wait_slot(array, request, slot);
            return;
        }
        request->done_bytes += part.to - part.from;
        uint64_t left = request->host.length_bytes - request->done_bytes;
        uint64_t tail = (RANGE_SMALL_PAGES + 1) * PAGE_SIZE_BYTES;
        bool ranged =
            request->ranged || (MISTAKE(zeroes_acked_early) && request->host.op == HOST_ZERO);
        if (ranged && !request->by_write && left > tail)
            request->done_bytes += left - tail; /* only its ends went through the cache */
    }
    host_complete(array, request, HOST_OK);
}

void host_write_mirrored(struct array *array, struct request *request)
{
    const struct volume_config *config = array->volumes[request->host.volume].config;
    bool wants_store =
        (array_is_solo(array) && !MISTAKE(ack_from_void_batch)) ||
        (config->flush_destage && (request->host.flags & HOST_FUA) && !MISTAKE(fua_ignored));
    if (!wants_store) {
        host_complete(array, request, HOST_OK);
        return;
    }
    request->phase = REQUEST_STORE;
    array->store_waiting++;
    request->done_bytes = 0;
    host_write_stored(array, request);
}

static void host_write(struct array *array, struct request *request)
{
    while (request->done_bytes < request->host.length_bytes) {
        struct part part = part_at(request);
        const uint8_t *data = (const uint8_t *)request->host.data + request->done_bytes;
        if (!host_write_page(array, request, part.page, part.from, part.to, data))
            return;
        request->done_bytes += part.to - part.from;
        ship_note_progress(array, request, request->done_bytes);
    }
    host_write_applied(array, request);
}

static bool flush_is_over(const struct array *array, const struct request *request)
{
    return generation_is_over(&array->destage.generations, request->generation);
}

static void host_flush(struct array *array, struct request *request)
{
    const struct volume_config *config = array->volumes[request->host.volume].config;
    if (request->phase == REQUEST_APPLY) {
        if (!array_is_solo(array) && (!config->flush_destage || MISTAKE(flush_does_nothing))) {
            host_complete(array, request,
                          HOST_OK); /* two memories hold whatever was acknowledged */
            return;
        }
        request->phase = REQUEST_STORE;
        request->generation = generation_cut(&array->destage.generations);
    }
    if (flush_is_over(array, request))
        host_complete(array, request, HOST_OK);
    else
        wait_in(array, &array->flush_wait, request);
}

/* Whether the request may go on now; else it has been refused or held. */
static bool host_admit(struct array *array, struct request *request)
{
    bool stray = (request->host.flags & HOST_SHIPPED) && array->role.state != ROLE_PAIRED;
    if (role_is_out(array) || (stray && !request->begun)) {
        host_complete(array, request, HOST_NOT_OWNER);
        return false;
    }
    const struct group *group = copy_group(array, request->host.volume);
    if (group != NULL && request->range == 0) {
        enum host_result refused = copy_site_judge(group, request->host.op);
        if (refused != HOST_OK && copy_site_waits(group)) {
            wait_in(array, &array->held, request);
            return false;
        }
        if (refused != HOST_OK) {
            host_complete(array, request, refused);
            return false;
        }
    }
    /* A role that was entered in this burst serves only once its orders have been carried out. */
    bool ready = array->role.orders == 0 && (!array->drop_pending || MISTAKE(serve_before_drop));
    bool serving = ready && role_may_serve(&array->role, array->now_us);
    serving &= !array->leave_sent; /* a MOVE may have crossed it: its sender goes on alone */
    struct volume *volume = &array->volumes[request->host.volume];
    serving &= !copy_second_holds_hosts(array, request->host.volume);
    if (request->begun) {
        if (!serving)
            wait_in(array, &array->held, request);
        return serving;
    }
    bool settled = ready && (array->role.state == ROLE_PAIRED || array->role.state == ROLE_SOLO);
    if (settled &&
        (!array_owns(array, request->host.volume) || (array->stopping && array_is_solo(array)))) {
        bool ships = array->role.state == ROLE_PAIRED && !array->stopping &&
                     !(request->host.flags & (HOST_SHIPPED | HOST_HERE));
        bool there = request->host.op == HOST_MOVE && array->role.state == ROLE_PAIRED &&
                     volume->owner == request->host.offset_bytes;
        if (there)
            host_complete(array, request, HOST_OK); /* what it asked for has come true */
        else if (ships)
            ship_request(array, request);
        else
            host_complete(array, request, HOST_NOT_OWNER);
        return false;
    }
    if (!serving || (volume->move >= MOVE_HOLD && request->host.op != HOST_MOVE)) {
        wait_in(array, &array->held, request);
        return false;
    }
    if (request->host.op == HOST_MOVE)
        return true; /* not counted as active: the move waits for these to end */
    if ((request->host.flags & HOST_VERSIONED) && request->host.op != HOST_STATE &&
        !state_admit(array, request))
        return false;
    request->begun = true;
    request->side = volume->side;
    volume->active++;
    if (barrier_awaits(request))
        volume->side_active[volume->side]++;
    return true;
}

void host_run(struct array *array, struct request *request)
{
    /* The part of a range that is locked may end as it began: nobody was answered about these pages
     * meanwhile. */
    if (request->dropped && request->range == 0) {
        host_complete(array, request, HOST_NOT_OWNER);
        return;
    }
    if (request->over && !role_is_out(array) && !copy_set_goes_on(array, request))
        return;
    if (!host_admit(array, request))
        return;
    if (request->settling) {
        host_flush(array, request);
        return;
    }
    if (request->host.op < HOST_STATE && request->host.op != HOST_FLUSH &&
        request->phase != REQUEST_APPLY) {
        if (request->phase == REQUEST_MIRROR)
            host_write_mirrored(array, request);
        else
            host_write_stored(array, request);
        return;
    }
    switch (request->host.op) {
    case HOST_READ:
        host_read(array, request);
        break;
    case HOST_WRITE:
        host_write(array, request);
        break;
    case HOST_FLUSH:
        host_flush(array, request);
        break;
    case HOST_COMPARE_WRITE:
        compare_run(array, request);
        break;
    case HOST_STATE:
        state_run(array, request);
        break;
    case HOST_MOVE:
        duty_move_run(array, request);
        break;
    default:
        range_run(array, request);
        break;
    }
}

static void run_queue(struct array *array)
{
    for (struct request *request;
         (request = request_queue_pop(&array->requests, &array->run)) != NULL;)
        host_run(array, request);
}

void host_pump(struct array *array)
{
    run_queue(array);
    if (array->held.count > 0 && array->role.orders == 0 &&
        role_may_serve(&array->role, array->now_us)) {
        host_resume(array, &array->held); /* what still may not go is held again */
        run_queue(array);
    }
    for (uint32_t left = array->room_reads.count; left > 0; left--) {
        struct request *request = request_queue_pop(&array->requests, &array->room_reads);
        host_run(array, request);
    }
    while (array->room_writes.count > 0) {
        struct request *request = request_queue_pop(&array->requests, &array->room_writes);
        uint32_t before = array->room_writes.count;
        array->room_turn = true;
        host_run(array, request);
        array->room_turn = false;
        if (array->room_writes.count > before)
            break; /* still no room for the first: nobody passes it */
    }
    for (uint32_t left = array->flush_wait.count; left > 0; left--) {
        struct request *request = request_queue_pop(&array->requests, &array->flush_wait);
        host_run(array, request);
    }
    run_queue(array);
}

void host_refuse_all(struct array *array)
{
    if (array->copy.holds > 0)
        copy_set_let_all_go(array); /* these are over, and well while the lease lasts */
    struct request_queue *queues[] = {&array->run,
                                      &array->room_writes,
                                      &array->room_reads,
                                      &array->held,
                                      &array->range_wait,
                                      &array->flush_wait,
                                      &array->state_wait,
                                      &array->move_wait,
                                      &array->ship_wait,
                                      &array->hold_wait,
                                      &array->lists.list[0].waiting,
                                      &array->lists.list[1].waiting};
    for (size_t i = 0; i < ARRAY_LENGTH(queues); i++) {
        while (request_queue_pop(&array->requests, queues[i]) != NULL)
            ;
    }
    for (uint32_t i = 0; i < array->requests.limit; i++) {
        struct request *request = &array->requests.requests[i];
        if (!request->used)
            continue;
        if (request->wait_slot != NO_INDEX)
            slot_at(&array->table, request->wait_slot)->waiters = NO_INDEX;
        request->wait_slot = NO_INDEX;
        request->queued = false;
        if (request->range != 0) {
            struct range *range = &array->ranges[request->range - 1];
            bool storing =
                range->state == RANGE_STORE || (range->state == RANGE_FLUSH && range->covered);
            range->state = storing ? RANGE_DEAD : RANGE_FREE;
            if (!storing)
                array->ranges_used--;
            request->range = 0;
        }
        if (ship_refuse(array, request))
            host_complete(array, request, HOST_NOT_OWNER);
    }
}

void host_drop_shipped(struct array *array)
{
    for (uint32_t i = 0; i < array->requests.limit; i++) {
        struct request *request = &array->requests.requests[i];
        if (request->used && (request->host.flags & HOST_SHIPPED))
            request->dropped = true;
    }
}

static bool request_in_bounds(const struct array *array, const struct host_request *host)
{
    if (host->volume >= array->config.volume_count)
        return false;
    uint64_t size = array->config.volumes[host->volume].size_bytes;
    if (host->op == HOST_STATE)
        return host->length_bytes > 0 && host->length_bytes <= VOLUME_STATE_BYTES;
    if (host->op == HOST_MOVE)
        return host->offset_bytes < 2;
    if (host->offset_bytes > size || host->length_bytes > size - host->offset_bytes)
        return false;
    switch (host->op) {
    case HOST_READ:
    case HOST_WRITE:
        return host->length_bytes <= HOST_IO_BYTES;
    case HOST_COMPARE_WRITE:
        return host->length_bytes > 0 && host->length_bytes <= COMPARE_WRITE_BYTES;
    default:
        return true;
    }
}

struct host_outcome array_host(struct array *array, uint64_t now_us,
                               const struct host_request *host)
{
    array_begin(array, now_us);
    array->copy.host_us = now_us;
    CHECK(host->op < HOST_OP_COUNT);
    array->last_held = NULL;
    if (!request_in_bounds(array, host))
        return (struct host_outcome){.complete = true, .result = HOST_RANGE};
    struct request *request = request_take(&array->requests, host, now_us);
    if (request == NULL)
        return (struct host_outcome){.complete = true, .result = HOST_BUSY};
    TRACE(array, "host %llu op %d volume %u offset %llu length %llu",
          (unsigned long long)host->handle, (int)host->op, host->volume,
          (unsigned long long)host->offset_bytes, (unsigned long long)host->length_bytes);
    array->synchronous = request;
    array->outcome = (struct host_outcome){.complete = false};
    host_run(array, request);
    if (array->synchronous == NULL)
        return array->outcome;
    array->synchronous = NULL;
    bool copying = host->op == HOST_READ || host->op == HOST_WRITE ||
                   host->op == HOST_COMPARE_WRITE || host->op == HOST_STATE;
    array->outcome.data_held = copying && request->phase == REQUEST_APPLY;
    if (array->outcome.data_held)
        array->last_held = request;
    return array->outcome;
}

void array_host_abandon(struct array *array, uint64_t now_us, uint64_t handle)
{
    array_begin(array, now_us);
    for (uint32_t i = 0; i < array->requests.limit; i++) {
        struct request *request = &array->requests.requests[i];
        bool is_it = request->used && request->host.handle == handle &&
                     !(request->host.flags & HOST_SHIPPED);
        if (!is_it)
            continue;
        request->dropped = true;
        host_resume(array, &array->ship_wait); /* the others queue again, in their order */
        host_resume(array, &array->held);
        host_clear_room_line(array);
        return;
    }
}

void array_host_move_data(struct array *array, void *data)
{
    CHECK(array->last_held != NULL);
    array->last_held->host.data = data;
    array->last_held = NULL;
}
