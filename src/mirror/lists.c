/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See lists.h. */

#include "mirror/lists.h"

enum {
    IOV_LIMIT = 1 + BATCH_HEADERS * (PAGE_SECTORS / 2)
}; /* a page's sectors fall into at most four runs */

void lists_create(struct lists *lists, struct arena *arena)
{
    struct header *headers[2];
    headers[0] = arena_array(arena, struct header, BATCH_HEADERS);
    headers[1] = arena_array(arena, struct header, BATCH_HEADERS);
    uint8_t *bytes = arena_take(arena, BATCH_HEAD_SIZE + BATCH_HEADERS * HEADER_SIZE, 64);
    struct iovec *iov = arena_array(arena, struct iovec, IOV_LIMIT);
    if (arena->base == NULL)
        return;
    *lists = (struct lists){.bytes = bytes, .iov = iov};
    for (int i = 0; i < 2; i++)
        lists->list[i] = (struct list){.headers = headers[i], .waiting = request_queue_empty()};
    lists_reset(lists, 0);
}

void lists_reset(struct lists *lists, uint64_t stream)
{
    for (int i = 0; i < 2; i++) {
        CHECK(lists->list[i].waiting.count == 0);
        lists->list[i].count = 0;
        lists->list[i].weight = 0;
        lists->list[i].data_bytes = 0;
    }
    lists->active = lists->on_the_way = false;
    lists->stream = stream;
    lists->next_number = 1;
    lists->iov_count = 0;
    lists->length_bytes = 0;
}

void lists_add(struct lists *lists, const struct header *header)
{
    struct list *list = lists_filling(lists);
    if (header->type == HEADER_STATE)
        list->weight += LISTS_STATE_WEIGHT - 1;
    CHECK(list->count + list->weight < BATCH_HEADERS);
    list->headers[list->count++] = *header;
    lists->added++;
}

struct list *lists_seal(struct lists *lists)
{
    CHECK(!lists->active);
    CHECK(lists_active(lists)->count == 0);
    lists->filling ^= 1;
    lists->active = true;
    struct list *sealed = lists_active(lists);
    sealed->data_bytes = 0;
    lists->iov_count = 1;
    return sealed;
}

void lists_add_data(struct lists *lists, void *data, uint32_t size_bytes)
{
    CHECK(lists->active);
    CHECK(lists->iov_count < IOV_LIMIT);
    lists_active(lists)->data_bytes += size_bytes;
    struct iovec *last = &lists->iov[lists->iov_count - 1];
    if (lists->iov_count > 1 && (uint8_t *)last->iov_base + last->iov_len == (uint8_t *)data) {
        last->iov_len += size_bytes; /* neighbouring slots leave as one piece */
        return;
    }
    lists->iov[lists->iov_count++] = (struct iovec){.iov_base = data, .iov_len = size_bytes};
}

void lists_encode(struct lists *lists, struct batch_head *head)
{
    struct list *sealed = lists_active(lists);
    head->stream = lists->stream;
    head->number = lists->next_number++;
    head->header_count = sealed->count;
    head->data_bytes = sealed->data_bytes;
    for (uint32_t i = 0; i < sealed->count; i++)
        wire_put_header(lists->bytes + BATCH_HEAD_SIZE + i * HEADER_SIZE, &sealed->headers[i]);
    wire_put_batch_head(lists->bytes, head);
    uint32_t head_bytes = BATCH_HEAD_SIZE + sealed->count * HEADER_SIZE;
    lists->iov[0] = (struct iovec){.iov_base = lists->bytes, .iov_len = head_bytes};
    lists->length_bytes = head_bytes + sealed->data_bytes;
}

void lists_acknowledged(struct lists *lists)
{
    CHECK(lists->active);
    struct list *active = lists_active(lists);
    CHECK(active->waiting.count == 0);
    active->count = 0;
    active->weight = 0;
    active->data_bytes = 0;
    lists->active = lists->on_the_way = false;
}
