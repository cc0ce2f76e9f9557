/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See copy_zstd.h. Only one frame of the one kind that a sender makes is taken: no dictionary, no
 * skippable frame, none of the formats from before RFC 8878, which the library may still know. */

#include "shell/copy_zstd.h"

/* Where the head says how many records and bytes of data follow (docs/remote-copy.md). */
enum { COUNT_AT = 72, DATA_AT = 76 };

ZSTD_CCtx *copy_zstd_compressor(void)
{
    ZSTD_CCtx *context = ZSTD_createCCtx();
    /* One longest batch is begun, so that the library takes its tables now. */
    uint8_t byte = 0, room[64];
    ZSTD_outBuffer out = {room, sizeof room, 0};
    ZSTD_inBuffer in = {&byte, 1, 0};
    if (context &&
        !ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, COPY_ZSTD_LEVEL)) &&
        !ZSTD_isError(ZSTD_CCtx_setPledgedSrcSize(context, COPY_BATCH_BYTES - COPY_HEAD_SIZE)) &&
        !ZSTD_isError(ZSTD_compressStream2(context, &out, &in, ZSTD_e_continue)))
        return context;
    ZSTD_freeCCtx(context);
    return NULL;
}

uint32_t copy_zstd_pack(ZSTD_CCtx *context, const struct iovec *pieces, uint32_t count,
                        uint32_t length_bytes, uint8_t *to)
{
    CHECK(count > 0);
    CHECK(pieces[0].iov_len >= COPY_HEAD_SIZE);
    CHECK(length_bytes > COPY_HEAD_SIZE);
    CHECK(length_bytes <= COPY_BATCH_BYTES);
    memcpy(to, pieces[0].iov_base, COPY_HEAD_SIZE);
    ZSTD_outBuffer out = {to, length_bytes / 8 * 7, COPY_HEAD_SIZE};
    ZSTD_CCtx_reset(context, ZSTD_reset_session_only);
    if (ZSTD_isError(ZSTD_CCtx_setPledgedSrcSize(context, length_bytes - COPY_HEAD_SIZE)))
        return 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t skip = i == 0 ? COPY_HEAD_SIZE : 0;
        bool last = i + 1 == count;
        ZSTD_inBuffer in = {(const uint8_t *)pieces[i].iov_base + skip, pieces[i].iov_len - skip,
                            0};
        size_t left = ZSTD_compressStream2(context, &out, &in, last ? ZSTD_e_end : ZSTD_e_continue);
        /* Not all taken, or not all written: there was no room, so it does not pay. */
        if (ZSTD_isError(left) || in.pos < in.size || (last && left > 0))
            return 0;
    }
    return (uint32_t)out.pos;
}

const char *copy_zstd_measure(const uint8_t *bytes, uint32_t length_bytes, uint32_t *batch_bytes)
{
    static const uint8_t magic[4] = {0x28, 0xB5, 0x2F, 0xFD}; /* RFC 8878 3.1.1 */
    if (length_bytes < COPY_HEAD_SIZE + sizeof magic)
        return "packed batch shorter than its head";
    const uint8_t *frame = bytes + COPY_HEAD_SIZE;
    uint32_t frame_bytes = length_bytes - COPY_HEAD_SIZE;
    uint32_t records = get_u32(bytes + COUNT_AT), data = get_u32(bytes + DATA_AT);
    if (records == 0 || records > COPY_RECORDS || data > COPY_DATA_BYTES)
        return "packed batch with an impossible number of records or bytes";
    uint32_t content = records * COPY_RECORD_SIZE + data;
    if (memcmp(frame, magic, sizeof magic) != 0)
        return "packed batch that is not zstd";
    if (ZSTD_getFrameContentSize(frame, frame_bytes) != content)
        return "packed batch whose frame has another length than its head says";
    if (ZSTD_findFrameCompressedSize(frame, frame_bytes) != frame_bytes)
        return "packed batch that is not one whole zstd frame";
    *batch_bytes = COPY_HEAD_SIZE + content;
    return NULL;
}

const char *copy_zstd_unpack(ZSTD_DCtx *context, const uint8_t *bytes, uint32_t length_bytes,
                             uint8_t *to, uint32_t batch_bytes)
{
    uint32_t content = batch_bytes - COPY_HEAD_SIZE;
    memcpy(to, bytes, COPY_HEAD_SIZE);
    size_t got = ZSTD_decompressDCtx(context, to + COPY_HEAD_SIZE, content, bytes + COPY_HEAD_SIZE,
                                     length_bytes - COPY_HEAD_SIZE);
    if (ZSTD_isError(got) || got != content)
        return "packed batch that does not decompress to what its head says";
    return NULL;
}
