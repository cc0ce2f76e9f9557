/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Any bytes as a message of the peer: refused with a reason, or decoded to what gives the very same
 * bytes when it is encoded again; so no bit of an accepted message goes unread. A copy with its
 * checksum made right takes the mutations past the checksum. */

#include "base/crc32c.h"
#include "mirror/wire.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEAD_CRC_AT = 64, HELLO_CRC_AT = 60, COUNT_AT = 56, INPUT_LIMIT = 1 << 20 };

static void judge_batch(const uint8_t *bytes, uint32_t length)
{
    struct batch_head head;
    const char *why = wire_get_batch_head(bytes, length, &head);
    if (why) {
        CHECK(why[0] != '\0');
        return;
    }
    CHECK(head.header_count <= BATCH_HEADERS);
    CHECK(head.data_bytes <= BATCH_DATA_BYTES);
    uint32_t headers = head.header_count * HEADER_SIZE;
    CHECK(BATCH_HEAD_SIZE + headers + head.data_bytes == length);
    for (uint32_t i = 0; i < head.header_count; i++) {
        const uint8_t *at = bytes + BATCH_HEAD_SIZE + i * HEADER_SIZE;
        uint8_t again[HEADER_SIZE];
        struct header header;
        if (wire_get_header(at, &header))
            continue;
        CHECK(header.type > 0);
        CHECK(header.type < HEADER_TYPE_COUNT);
        wire_put_header(again, &header);
        CHECK(memcmp(again, at, HEADER_SIZE) == 0);
    }
    uint8_t *copy = malloc(BATCH_HEAD_SIZE + headers);
    CHECK(copy);
    memset(copy, 0, BATCH_HEAD_SIZE);
    memcpy(copy + BATCH_HEAD_SIZE, bytes + BATCH_HEAD_SIZE, headers);
    wire_put_batch_head(copy, &head);
    CHECK(memcmp(copy, bytes, BATCH_HEAD_SIZE) == 0);
    free(copy);
}

static void judge_hello(const uint8_t *bytes, uint32_t length)
{
    struct hello hello;
    uint8_t again[HELLO_SIZE] = {0};
    if (wire_get_hello(bytes, length, &hello))
        return;
    CHECK(length == HELLO_SIZE);
    wire_put_hello(again, &hello);
    CHECK(memcmp(again, bytes, HELLO_SIZE) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > INPUT_LIMIT)
        return 0;
    uint32_t length = (uint32_t)size;
    judge_batch(data, length);
    judge_hello(data, length);

    uint8_t *sealed = malloc(size > 0 ? size : 1);
    CHECK(sealed);
    if (size > 0)
        memcpy(sealed, data, size);
    if (size >= BATCH_HEAD_SIZE &&
        get_u32(data + COUNT_AT) <= (size - BATCH_HEAD_SIZE) / HEADER_SIZE) {
        put_u32(sealed + HEAD_CRC_AT, 0);
        put_u32(sealed + HEAD_CRC_AT,
                crc32c(sealed, BATCH_HEAD_SIZE + get_u32(data + COUNT_AT) * HEADER_SIZE));
        judge_batch(sealed, length);
    }
    if (size >= HELLO_SIZE) {
        put_u32(sealed + HELLO_CRC_AT, crc32c(sealed, HELLO_CRC_AT));
        judge_hello(sealed, length);
    }
    free(sealed);
    return 0;
}
