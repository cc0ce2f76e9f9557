/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A host's request while the core has it, and the queues it can stand in. A request stands in at
 * most one queue; it remembers how far it has come (`done_bytes`) and is simply run again when what
 * it waited for has happened. */

#ifndef VOLUME_REQUEST_H
#define VOLUME_REQUEST_H

#include "base/arena.h"
#include "volume/volume.h"

enum request_phase {
    REQUEST_APPLY,  /* READ: copy out; WRITE: copy in; TRIM, ZERO: discard, chunk by chunk */
    REQUEST_MIRROR, /* WRITE, FLUSH: the peer must acknowledge the batch it went into */
    REQUEST_STORE,  /* WRITE, FLUSH: the store must have it durably */
};

struct request {
    struct host_request host;
    enum request_phase phase;
    uint32_t next;        /* of the queue it stands in */
    uint32_t wait_slot;   /* the slot among whose waiters it stands, or NO_INDEX */
    bool used;            /* taken and not released */
    bool queued;          /* stands in some queue */
    bool begun;           /* may have touched the cache; counted in its volume's `active` */
    bool wrote;           /* ZERO: part of it went through the cache */
    bool wrote_mirrored;  /* ZERO: and the peer has that part */
    bool ranged;          /* TRIM, ZERO: the store itself dealt with its whole pages */
    bool by_write;        /* ZERO: the store could not; all the rest goes through the cache */
    uint8_t range;        /* TRIM, ZERO: 1 + index of its range lock, or 0 */
    uint64_t done_bytes;  /* REQUEST_APPLY: bytes dealt with; REQUEST_STORE of a WRITE: bytes known
                             durable */
    uint8_t side;         /* which of its volume's two counts of active requests it is in */
    bool resumed;         /* the owner was lost, or the session to it; it had come to done_bytes */
    bool settling;        /* TRIM, ZERO resumed: waits until what was adopted is durable */
    bool dropped;         /* its sender or its host is lost: refused when it would go on */
    bool refused;         /* SHIPPED out: this controller went out meanwhile; no second try */
    bool tried;           /* MOVE: it has been started once */
    uint16_t ship;        /* 1 + index of the ship that has it, or 0 */
    uint32_t progress_at; /* where in the filling list its PROGRESS stands ... */
    uint64_t progress_number; /* ... if this is that list's number */
    uint64_t progress_stream;
    uint64_t detail;       /* MISCOMPARE: for the completion */
    enum host_result kept; /* over, and held for a cut: how it ended */
    bool over;             /* and let go when it could not be said any more: see copy_set_hold.c */
    uint64_t generation;   /* REQUEST_STORE of a FLUSH: what it waits for */
    uint64_t started_us;
};

struct request_queue {
    uint32_t head, tail;
    uint32_t count;
};

struct request_pool {
    struct request *requests;
    uint32_t limit;
    struct request_queue free;
};

void request_pool_create(struct request_pool *pool, struct arena *arena, uint32_t limit);

/* NULL when all are in use. */
struct request *request_take(struct request_pool *pool, const struct host_request *host,
                             uint64_t now_us);
void request_release(struct request_pool *pool, struct request *request);

static inline uint32_t request_index(const struct request_pool *pool, const struct request *request)
{
    return (uint32_t)(request - pool->requests);
}

static inline struct request_queue request_queue_empty(void)
{
    return (struct request_queue){.head = NO_INDEX, .tail = NO_INDEX};
}

void request_queue_append(struct request_pool *pool, struct request_queue *queue,
                          struct request *request);
void request_queue_prepend(struct request_pool *pool, struct request_queue *queue,
                           struct request *request);

/* The first, taken out; NULL when empty. */
struct request *request_queue_pop(struct request_pool *pool, struct request_queue *queue);

#endif
