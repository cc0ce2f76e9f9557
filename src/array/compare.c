/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* COMPARE AND WRITE (SBC-3 5.2): look and change as one step. Every page must be whole in the cache
 * and safe to be seen; then there is room for all of the change, or none of it is made. All its
 * headers go into one list, so the peer, and a takeover, see the whole of it or nothing. */

#include "array/internal.h"

#include "base/mistake.h"

/* The bytes of the request that lie in the page where it stands. */
static uint32_t page_bytes(const struct request *request, uint64_t *page, uint32_t *from)
{
    uint64_t at = request->host.offset_bytes + request->done_bytes;
    *page = at / PAGE_SIZE_BYTES;
    *from = (uint32_t)(at % PAGE_SIZE_BYTES);
    return (uint32_t)min_u64(PAGE_SIZE_BYTES - *from,
                             request->host.length_bytes - request->done_bytes);
}

static uint8_t sectors_of(uint32_t from, uint32_t size)
{
    uint32_t first = from / SECTOR_SIZE;
    uint32_t end = (from + size + SECTOR_SIZE - 1) / SECTOR_SIZE;
    return (uint8_t)((1u << end) - (1u << first));
}

/* The page's slot, when its bytes may be looked at; NULL: the request now waits. */
static struct slot *slot_to_see(struct array *array, struct request *request, uint64_t page,
                                uint8_t sectors)
{
    uint64_t key = slot_key(request->host.volume, page);
    if (array->ranges_used > 0 && range_covers(array, request->host.volume, page, NULL)) {
        request_queue_append(&array->requests, &array->range_wait, request);
        return NULL;
    }
    struct slot *slot = pages_find(array, key);
    if (slot == NULL || (sectors & ~slot->valid) != 0) {
        host_fetch(array, request, slot, key);
        return NULL;
    }
    if (slot->unsafe) {
        host_wait_slot(array, request, slot);
        return NULL;
    }
    return slot;
}

static uint64_t first_difference(const uint8_t *a, const uint8_t *b, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++) {
        if (a[i] != b[i])
            return i;
    }
    return size;
}

/* Whether everything is there and the same; else the request waits or is over. */
static bool compare(struct array *array, struct request *request, uint32_t *carried,
                    uint32_t *pages)
{
    const uint8_t *expected = request->host.data;
    *carried = *pages = 0;
    for (request->done_bytes = 0; request->done_bytes < request->host.length_bytes;) {
        uint64_t page;
        uint32_t from;
        uint32_t size = page_bytes(request, &page, &from);
        struct slot *slot = slot_to_see(array, request, page, sectors_of(from, size));
        if (slot == NULL)
            return false;
        const uint8_t *present = slot_frame(&array->table, slot) + from;
        if (memcmp(present, expected + request->done_bytes, size) != 0) {
            uint64_t at = request->done_bytes +
                          first_difference(present, expected + request->done_bytes, size);
            host_complete_detail(array, request, HOST_MISCOMPARE, at);
            return false;
        }
        replace_on_hit(slot);
        *carried += slot_is_carried(slot) || copy_frozen(array, slot);
        ++*pages;
        request->done_bytes += size;
    }
    return true;
}

/* Making room may have evicted one of our own pages. */
static bool all_here(struct array *array, const struct request *request)
{
    uint64_t end = request->host.offset_bytes + request->host.length_bytes;
    uint64_t page = request->host.offset_bytes / PAGE_SIZE_BYTES;
    for (; page * PAGE_SIZE_BYTES < end; page++) {
        if (slot_find(&array->table, slot_key(request->host.volume, page)) == NULL)
            return false;
    }
    return true;
}

static void write_all(struct array *array, struct request *request)
{
    const uint8_t *data = (const uint8_t *)request->host.data + request->host.length_bytes;
    array->reserved = true;
    for (request->done_bytes = 0; request->done_bytes < request->host.length_bytes;) {
        uint64_t page;
        uint32_t from;
        uint32_t size = page_bytes(request, &page, &from);
        bool written =
            host_write_page(array, request, page, from, from + size, data + request->done_bytes);
        CHECK(written);
        request->done_bytes += size;
    }
    array->reserved = false;
    ship_note_progress(array, request, request->host.length_bytes);
}

void compare_run(struct array *array, struct request *request)
{
    /* Shipped, and the owner that was lost after that had done it: only durability is missing. */
    bool done = request->resumed && request->done_bytes == request->host.length_bytes;
    if (!done) {
        uint32_t carried = 1, pages = 1;
        if (MISTAKE(compare_in_pieces) && request->tried)
            carried = pages = request->host.length_bytes / PAGE_SIZE_BYTES + 2;
        else if (!compare(array, request, &carried, &pages))
            return;
        request->tried = true;
        request->done_bytes = 0;
        if (!host_reserve(array, request, pages + 1, carried, pages))
            return;
        if (!all_here(array, request)) {
            request_queue_append(&array->requests, &array->room_reads, request);
            return; /* again in the next pump */
        }
        write_all(array, request);
    }
    host_write_applied(array, request);
}
