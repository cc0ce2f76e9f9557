/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Stores that are files or block devices: the core's store operations, performed on the loop. A
 * store holds the volumes' bytes and nothing else; what lies past the end of a file reads as zeros.
 */

#ifndef SHELL_STORE_H
#define SHELL_STORE_H

#include "backend/backend.h"
#include "shell/config.h"
#include "shell/loop.h"

enum {
    STORE_ZERO_CHUNK = 64 * 1024, /* zeros kept to be written where a store cannot zero by itself */
    STORE_ZERO_PIECES = 16,       /* of them in one write: 1 MiB */
    STORE_OPS_LIMIT = 16384,      /* operations under way on all stores; the core has far fewer */
    STORE_RETRY_LIMIT = 10,       /* of one operation, after EINTR or EAGAIN */
};

struct store {
    struct store_config config; /* for the core */
    char name[CONFIG_NAME_SIZE];
    int descriptor;
    bool direct;         /* O_DIRECT; else buffered, with flushes */
    bool block_device;   /* size_bytes is a hard end */
    bool can_zero_range; /* until the store has said otherwise */
    bool can_punch;
    uint64_t size_bytes; /* when it was opened */

    bool failing; /* the last operation failed */
    uint64_t errors;
    char error[TRACE_LINE]; /* the last error in words; empty: none */
    uint64_t logged_us;     /* when an error was last logged */
};

struct store_work;

/* All stores of a controller and what is under way on them. */
struct stores {
    struct loop *loop;
    uint32_t count;
    struct store store[STORE_LIMIT];
    /* Called for each operation exactly once, never from inside stores_perform(). */
    void (*done)(void *context, uint32_t io, enum store_result result);
    void *context;

    struct store_work *idle;    /* freed, for reuse */
    struct store_work *pending; /* filled into the queue and not yet given to the kernel */
    uint32_t under_way, allocated;
};

void stores_init(struct stores *stores, struct loop *loop,
                 void (*done)(void *context, uint32_t io, enum store_result result), void *context);
void stores_close(struct stores *stores);

/* Adds one. Returns NULL, or a sentence in `why`. The file or device must exist. */
const char *stores_open(struct stores *stores, const struct config_store *config,
                        char why[TRACE_LINE]);

/* `action` is copied; what its iov points at stays until done. */
void stores_perform(struct stores *stores, const struct store_action *action);

/* The last look at the clock, just before the loop gives its operations to the kernel: one whose
 * not_after_us has passed is taken back and ends as STORE_NOT_SENT. */
void stores_before_submit(struct stores *stores);

/* What stands at `from` in the store, for block status: *hole, and where that ends (at most `to`).
 * Asks the file system with SEEK_DATA and SEEK_HOLE; a store that cannot say is all data. */
uint64_t store_extent(const struct store *store, uint64_t from, uint64_t to, bool *hole);

#endif
