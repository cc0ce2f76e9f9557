/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Packed batches from another array: no input may crash, read past its end, or write past the
 * length that its head declares; what is taken packs and unpacks to the same bytes again. */

#include "shell/copy_zstd.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void there_and_back(ZSTD_DCtx *decompressor, const uint8_t *batch, uint32_t batch_bytes)
{
    static ZSTD_CCtx *compressor;
    if (!compressor)
        compressor = copy_zstd_compressor();
    CHECK(compressor);
    if (batch_bytes < COPY_ZSTD_LEAST_BYTES)
        return;
    uint8_t *packed = malloc(COPY_ZSTD_MOST_BYTES), *again = malloc(batch_bytes);
    CHECK(packed && again);
    struct iovec piece = {(void *)(uintptr_t)batch, batch_bytes};
    uint32_t length = copy_zstd_pack(compressor, &piece, 1, batch_bytes, packed), said;
    if (length > 0) {
        CHECK(copy_zstd_measure(packed, length, &said) == NULL);
        CHECK(said == batch_bytes);
        CHECK(copy_zstd_unpack(decompressor, packed, length, again, said) == NULL);
        CHECK(memcmp(again, batch, batch_bytes) == 0);
    }
    free(packed);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static ZSTD_DCtx *decompressor;
    uint32_t batch_bytes;
    if (!decompressor)
        decompressor = ZSTD_createDCtx();
    CHECK(decompressor);
    if (size == 0 || size > COPY_BATCH_BYTES)
        return 0;
    /* Both of exactly their lengths, so that a step past them is seen. */
    uint8_t *copy = malloc(size);
    CHECK(copy);
    memcpy(copy, data, size);
    if (copy_zstd_measure(copy, (uint32_t)size, &batch_bytes) == NULL) {
        CHECK(batch_bytes <= COPY_BATCH_BYTES);
        uint8_t *batch = malloc(batch_bytes);
        CHECK(batch);
        if (copy_zstd_unpack(decompressor, copy, (uint32_t)size, batch, batch_bytes) == NULL)
            there_and_back(decompressor, batch, batch_bytes);
        free(batch);
    }
    free(copy);
    return 0;
}
