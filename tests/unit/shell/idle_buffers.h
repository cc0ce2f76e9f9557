/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Frees what a pool of buffers keeps for reuse, which a controller does only by ending, so that a
 * leak in a test is one. */

#ifndef TESTS_UNIT_SHELL_IDLE_BUFFERS_H
#define TESTS_UNIT_SHELL_IDLE_BUFFERS_H

#include "shell/buffers.h"

#include <stdlib.h>

static inline void free_idle_buffers(struct buffers *buffers)
{
    for (int i = 0; i < BUFFER_CLASSES; i++) {
        for (struct buffer *next, *buffer = buffers->idle[i]; buffer; buffer = next) {
            next = buffer->next;
            free(buffer->data - PAGE_SIZE_BYTES);
            free(buffer);
        }
        buffers->idle[i] = NULL;
    }
    buffers->idle_bytes = 0;
}

#endif
