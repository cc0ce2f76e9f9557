/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Fuzz target of the NBD engine. The first three bytes choose the volumes, how the stream is cut,
 * and the sizes of the caller's buffers; the rest is what a client sends. The stream is fed once
 * whole and once cut, and both must look the same from outside; the feed itself checks progress and
 * bounds.
 *
 *     clang -g -D_GNU_SOURCE -fsanitize=fuzzer,address,undefined -Isrc tests/fuzz/nbd_fuzz.c \
 *         src/front/nbd*.c src/base/check.c src/base/crc32c.c -lisal */

#include "../unit/front/nbd_feed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct nbd_export table[] = {
    {"vm0", "the first volume", UINT64_C(1) << 40, false},
    {"vm1", NULL, 1 << 20, false},
    {"ro", "never written", 1 << 20, true},
};
static const struct nbd_owner owners[] = {
    {1, NULL, false},
    {0, "volume vm1 is served by controller b at 127.0.0.1:10810", false},
    {1, NULL, false},
};

static struct feed whole, cut; /* large; feed_start() clears them */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    struct nbd_exports exports = {table, owners, data[0] & 1 ? 1 : ARRAY_LENGTH(table), NULL};
    uint32_t whole_payload_bytes = data[0] & 2 ? 4096 : 0;
    size_t output_bytes = data[0] & 4 ? FEED_OUTPUT_LIMIT : NBD_OUTPUT_BYTES;
    size_t first = data[1], then = (size_t)data[2] + 1;
    data += 3;
    size -= 3;

    feed_start(&whole, &exports, whole_payload_bytes, FEED_OUTPUT_LIMIT);
    feed_bytes(&whole, data, size);

    feed_start(&cut, &exports, whole_payload_bytes, output_bytes);
    for (size_t at = 0, piece = first; at < size; at += piece, piece = then) {
        piece = piece < size - at ? piece : size - at;
        feed_bytes(&cut, data + at, piece);
    }
    FEED_CHECK(feed_equal(&whole, &cut));
    return 0;
}
