/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What a host sees: a volume, and what may be asked of it. A volume is a range of one store; one
 * controller owns it at a time. Offsets and lengths are bytes; the core takes any alignment. */

#ifndef VOLUME_VOLUME_H
#define VOLUME_VOLUME_H

#include "base/check.h"
#include "base/limits.h"

enum host_op {
    HOST_READ,
    HOST_WRITE,
    HOST_FLUSH,
    HOST_TRIM, /* whole pages read as zeros afterwards where the store can discard; else nothing
                  changes */
    HOST_ZERO, /* the range reads as zeros afterwards */
    HOST_OP_COUNT
};

enum {
    HOST_FUA = 1,     /* complete only when as safe as a following FLUSH would make it */
    HOST_NO_HOLE = 2, /* HOST_ZERO: keep the blocks allocated */
};

/* How a host's request ends. */
enum host_result {
    HOST_OK,
    HOST_NOT_OWNER, /* the other controller serves this volume, or none does now; ask there */
    HOST_RANGE,     /* outside the volume */
    HOST_BUSY,      /* no request slot free: the caller broke its own limit */
    HOST_IO_ERROR,  /* the store failed a read */
};

struct volume_config {
    char name[VOLUME_NAME_SIZE];
    uint64_t size_bytes;         /* a multiple of SECTOR_SIZE */
    uint64_t store_offset_bytes; /* a multiple of the store's block_size_bytes */
    uint8_t store;               /* index into the stores */
    uint8_t home;                /* the controller that owns it when both are well: 0 = a, 1 = b */
    bool flush_destage;          /* FLUSH and FUA wait for the store even while the mirror is up */
};

struct host_request {
    uint64_t handle; /* the caller's; comes back in the completion */
    enum host_op op;
    uint8_t volume;
    uint8_t flags; /* HOST_FUA | HOST_NO_HOLE */
    uint64_t offset_bytes;
    uint64_t length_bytes; /* READ and WRITE: at most HOST_IO_BYTES; TRIM and ZERO: any */
    /* READ: where the bytes go. WRITE: where they are. Borrowed until the request completes, or,
     * for a WRITE, until host_outcome.data_held is false. */
    void *data;
};

#endif
