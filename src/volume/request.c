/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See request.h. */

#include "volume/request.h"

void request_pool_create(struct request_pool *pool, struct arena *arena, uint32_t limit)
{
    struct request *requests = arena_array(arena, struct request, limit);
    if (arena->base == NULL)
        return;
    *pool =
        (struct request_pool){.requests = requests, .limit = limit, .free = request_queue_empty()};
    for (uint32_t i = 0; i < limit; i++)
        request_queue_append(pool, &pool->free, &requests[i]);
}

struct request *request_take(struct request_pool *pool, const struct host_request *host,
                             uint64_t now_us)
{
    struct request *request = request_queue_pop(pool, &pool->free);
    if (request == NULL)
        return NULL;
    *request = (struct request){
        .host = *host, .next = NO_INDEX, .wait_slot = NO_INDEX, .used = true, .started_us = now_us};
    return request;
}

void request_release(struct request_pool *pool, struct request *request)
{
    CHECK(request->range == 0);
    CHECK(request->wait_slot == NO_INDEX);
    request->used = false;
    /* The newest released is the next taken: its record is still in the processor's cache. */
    request_queue_prepend(pool, &pool->free, request);
}

void request_queue_append(struct request_pool *pool, struct request_queue *queue,
                          struct request *request)
{
    CHECK(!request->queued);
    uint32_t index = request_index(pool, request);
    request->queued = true;
    request->next = NO_INDEX;
    if (queue->tail == NO_INDEX)
        queue->head = index;
    else
        pool->requests[queue->tail].next = index;
    queue->tail = index;
    queue->count++;
}

void request_queue_prepend(struct request_pool *pool, struct request_queue *queue,
                           struct request *request)
{
    CHECK(!request->queued);
    request->queued = true;
    request->next = queue->head;
    queue->head = request_index(pool, request);
    if (queue->tail == NO_INDEX)
        queue->tail = queue->head;
    queue->count++;
}

struct request *request_queue_pop(struct request_pool *pool, struct request_queue *queue)
{
    if (queue->head == NO_INDEX)
        return NULL;
    struct request *request = &pool->requests[queue->head];
    queue->head = request->next;
    if (queue->head == NO_INDEX)
        queue->tail = NO_INDEX;
    CHECK(queue->count > 0);
    queue->count--;
    request->queued = false;
    request->next = NO_INDEX;
    return request;
}
