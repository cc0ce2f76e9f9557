/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A batch between two arrays, made shorter (zstd, RFC 8878) and whole again. Its head goes as it
 * is; one zstd frame follows, of the records and the data. The head says how long they are, so the
 * receiver knows the length before it decompresses a byte, and nothing is ever written past it.
 *
 *     packed batch = the batch's head (128 bytes), one zstd frame that says its content's size */

#ifndef SHELL_COPY_ZSTD_H
#define SHELL_COPY_ZSTD_H

#include "copy/record.h"

#include <sys/uio.h>
#include <zstd.h>

enum {
    COPY_ZSTD_LEVEL = 1, /* a link that is worth compressing for is faster than the others */
    COPY_ZSTD_LEAST_BYTES = 4096, /* a shorter batch (END, PROMOTE) gains nothing */
    COPY_ZSTD_MOST_BYTES = COPY_BATCH_BYTES / 8 * 7, /* what gains less than an eighth goes raw */
};

/* With all the memory it will need; NULL: there is none. */
ZSTD_CCtx *copy_zstd_compressor(void);

/* The batch in these pieces, of `length_bytes` together, to `to`, which has COPY_ZSTD_MOST_BYTES.
 * Returns how long it is now; 0: it does not get shorter by an eighth. The batch's head is in the
 * first piece. */
uint32_t copy_zstd_pack(ZSTD_CCtx *context, const struct iovec *pieces, uint32_t count,
                        uint32_t length_bytes, uint8_t *to);

/* Foreign bytes. NULL and how long the batch is, at most COPY_BATCH_BYTES; or what is wrong. Looks
 * at the head and at what the frame says of itself. */
const char *copy_zstd_measure(const uint8_t *bytes, uint32_t length_bytes, uint32_t *batch_bytes);

/* Foreign bytes that were measured: the batch to `to`, exactly `batch_bytes` of it; or what is
 * wrong, and `to` is anything. What the batch says is not judged: its checksums are made for
 * that. */
const char *copy_zstd_unpack(ZSTD_DCtx *context, const uint8_t *bytes, uint32_t length_bytes,
                             uint8_t *to, uint32_t batch_bytes);

#endif
