/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What a store is: a flat run of bytes in blocks, written, flushed, and told to forget. It holds
 * the volumes' bytes and nothing else. The core asks for operations on it; the shell (or the
 * simulator) performs them. */

#ifndef BACKEND_BACKEND_H
#define BACKEND_BACKEND_H

#include "base/check.h"
#include "base/limits.h"

#include <sys/uio.h>

struct store_config {
    uint32_t block_size_bytes; /* 512 or 4096: every offset and length of an operation is a multiple
                                  of it */
    bool can_zero; /* STORE_ZERO and STORE_TRIM leave zeros behind; else STORE_TRIM is not sent */
};

enum store_op {
    STORE_READ,
    STORE_WRITE,
    STORE_FLUSH, /* everything whose write was reported done before is durable when this is done */
    STORE_ZERO,  /* the range reads as zeros; the performer writes zeros itself where it must */
    STORE_TRIM,  /* as STORE_ZERO, giving the blocks back */
};

enum store_result {
    STORE_DONE,
    STORE_ERROR,    /* EIO and the like: what the range holds now is unknown */
    STORE_NO_SPACE, /* ENOSPC, EDQUOT */
    STORE_NOT_SENT, /* not_after_us had passed: nothing was submitted */
};

/* One operation the core asks for. `iov` stays valid and the bytes stay unchanged until its
 * completion. */
struct store_action {
    uint32_t io; /* comes back in array_on_store() */
    enum store_op op;
    uint8_t store;
    uint64_t offset_bytes;
    uint64_t length_bytes;
    const struct iovec *iov; /* READ and WRITE */
    uint32_t iov_count;
    /* Look at the clock just before submitting; when it is past this, do not submit, and report
     * STORE_NOT_SENT: the link lease has run out and the peer may be serving. UINT64_MAX: no bound.
     */
    uint64_t not_after_us;
};

#endif
