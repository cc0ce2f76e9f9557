/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The batches of one group on their way to be sent, compressed in a thread of their own. Each has
 * a place in the window, with room for what becomes of it, taken at start; so no more wait here
 * than the window holds, and the loop never does. Invariant: after copy_press_drop() no batch is
 * told of, and none is read any more once emptied() was called. */

#ifndef SHELL_COPY_PRESS_H
#define SHELL_COPY_PRESS_H

#include "shell/copy_zstd.h"
#include "shell/worker.h"

#include <stdatomic.h>

/* What it tells its owner, from the loop. A table, with `context`. */
struct copy_press_user {
    /* The batch at this place: `packed_bytes` of it at `bytes`, which stay until the place is given
     * again; 0: it does not get shorter, and goes as it is. */
    void (*pressed)(void *context, uint32_t place, const uint8_t *bytes, uint32_t packed_bytes);
    /* After copy_press_drop(): nothing of what was given is read any more. */
    void (*emptied)(void *context);
};

struct copy_press;

struct copy_press_place {
    struct work work;
    struct copy_press *press;
    const struct iovec *pieces;
    uint32_t piece_count, length_bytes, packed_bytes;
    uint8_t *bytes; /* COPY_ZSTD_MOST_BYTES */
};

struct copy_press {
    const struct copy_press_user *user;
    void *context;
    struct worker worker;
    ZSTD_CCtx *compressor; /* the thread's */
    uint8_t *memory;       /* of all places; touched as far as it is used */
    uint32_t busy;         /* given, and not back yet */
    bool dropping;
    atomic_bool dropped; /* tells the thread not to begin any more */
    struct copy_press_place places[COPY_WINDOW];
};

/* NULL, or a sentence. */
const char *copy_press_start(struct copy_press *press, struct loop *loop,
                             const struct copy_press_user *user, void *context);

/* `place` < COPY_WINDOW is free. The pieces, and what they point at, stay until pressed() or
 * emptied(). */
void copy_press_give(struct copy_press *press, uint32_t place, const struct iovec *pieces,
                     uint32_t piece_count, uint32_t length_bytes);

/* Forget everything. True: it is done already, and emptied() is not called. */
bool copy_press_drop(struct copy_press *press);

/* Once the loop is closed. */
void copy_press_end(struct copy_press *press);

#endif
