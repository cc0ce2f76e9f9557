/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Request buffers in sizes of powers of two, kept for reuse when freed, so that a steady load takes
 * nothing from the system. It never holds more idle memory than BUFFER_IDLE_BYTES. */

#include "shell/buffers.h"

#include <stdlib.h>

static uint32_t shift_for(uint64_t size)
{
    uint32_t shift = BUFFER_LEAST_SHIFT;
    while ((1ull << shift) < size)
        shift++;
    return shift;
}

uint64_t buffer_bytes_for(uint64_t size)
{
    return 1ull << shift_for(size);
}

struct buffer *buffer_take(struct buffers *buffers, uint64_t size)
{
    CHECK(size > 0 && size <= HOST_IO_BYTES);
    uint32_t shift = shift_for(size);
    struct buffer **idle = &buffers->idle[shift - BUFFER_LEAST_SHIFT];
    struct buffer *buffer = *idle;
    if (buffer) {
        *idle = buffer->next;
        buffers->idle_bytes -= 1ull << shift;
    } else {
        void *memory;
        buffer = malloc(sizeof *buffer);
        if (!buffer)
            return NULL;
        if (posix_memalign(&memory, PAGE_SIZE_BYTES, PAGE_SIZE_BYTES + (1ull << shift)) != 0) {
            free(buffer);
            return NULL;
        }
        *buffer = (struct buffer){.shift = shift, .data = (uint8_t *)memory + PAGE_SIZE_BYTES};
    }
    buffers->used_bytes += 1ull << shift;
    return buffer;
}

void buffer_give(struct buffers *buffers, struct buffer *buffer)
{
    uint64_t size = 1ull << buffer->shift;
    CHECK(buffers->used_bytes >= size);
    buffers->used_bytes -= size;
    if (buffers->idle_bytes + size > BUFFER_IDLE_BYTES) {
        free(buffer->data - PAGE_SIZE_BYTES);
        free(buffer);
        return;
    }
    struct buffer **idle = &buffers->idle[buffer->shift - BUFFER_LEAST_SHIFT];
    buffer->next = *idle;
    *idle = buffer;
    buffers->idle_bytes += size;
}
