/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Memory for the data of host requests that cannot be served straight from a socket's buffer: large
 * ones, and small ones that have to wait. All connections share one budget. Running out makes
 * connections wait in turn; it never fails a request, because nobody takes a request on before
 * buffers_have_room() says that its buffer will be there. */

#ifndef SHELL_BUFFERS_H
#define SHELL_BUFFERS_H

#include "base/check.h"
#include "base/limits.h"

enum {
    BUFFER_HEAD_BYTES = 32,  /* room before the data for what goes out in front of it */
    BUFFER_LEAST_SHIFT = 12, /* the smallest buffer: 4 KiB */
    BUFFER_MOST_SHIFT = 25,  /* the largest: HOST_IO_BYTES */
    BUFFER_CLASSES = BUFFER_MOST_SHIFT - BUFFER_LEAST_SHIFT + 1,
    BUFFER_BUDGET_BYTES = 8 * HOST_IO_BYTES,
    BUFFER_IDLE_BYTES = 64 * 1024 * 1024, /* freed buffers kept for reuse */
};
_Static_assert((1 << BUFFER_MOST_SHIFT) == HOST_IO_BYTES,
               "the largest host request fits the largest buffer");

struct buffer {
    struct buffer *next; /* idle list */
    uint32_t shift;
    uint8_t
        *data; /* 1 << shift bytes, page-aligned; BUFFER_HEAD_BYTES before it are ours as well */
};

struct buffers {
    uint64_t used_bytes, idle_bytes;
    struct buffer *idle[BUFFER_CLASSES];
};

/* Whether a buffer for the largest request can be taken now. */
static inline bool buffers_have_room(const struct buffers *buffers)
{
    return buffers->used_bytes + HOST_IO_BYTES <= BUFFER_BUDGET_BYTES;
}

/* What is left to be lent; the last HOST_IO_BYTES, which buffers_have_room() keeps, do not count.
 */
static inline uint64_t buffers_free_bytes(const struct buffers *buffers)
{
    uint64_t most = BUFFER_BUDGET_BYTES - HOST_IO_BYTES;
    return buffers->used_bytes < most ? most - buffers->used_bytes : 0;
}

/* What a buffer for `size` bytes takes of the budget. */
uint64_t buffer_bytes_for(uint64_t size);

/* At least `size` bytes, 1 to HOST_IO_BYTES. NULL only when the machine has no memory. */
struct buffer *buffer_take(struct buffers *buffers, uint64_t size);
void buffer_give(struct buffers *buffers, struct buffer *buffer);

#endif
