/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What the peer sends, given to a whole controller that is paired or being filled, and holds pages
 * of a group that another array copies to the pair. The first byte
 * chooses: whether checksums, data checksums and the place in the stream are made right (so that
 * mutations reach the judges of single headers), in which role the controller is, and whether it is
 * a hello. The second says where the bytes are cut into two messages. After each message every
 * invariant must hold, whatever was answered; a batch that is refused must leave the counts of what
 * was applied alone. */

#include "array/array.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "mirror/wire.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    FIX_HEAD = 1,
    FIX_DATA = 2,
    FIX_PLACE = 4,
    BEING_FILLED = 8,
    HELLO = 16,

    SLOTS = 64,
    VOLUMES = 4, /* the last two are received */
    ROOM = 20,
    PEER = 1000,
    SELF = 2000,
    STREAM = 77,
    NOW = 1000000,
    INPUT_LIMIT = 1 << 18,
};

static struct array *array;
static uint8_t *memory, *paired, *being_filled;
static size_t memory_size;
static uint64_t next_number[2]; /* paired, being filled */

static void check_all(void)
{
    const char *why = array_check(array);
    if (why != NULL)
        abort();
}

static bool give(uint8_t buffer_id, const uint8_t *bytes, uint32_t length)
{
    array_on_message(array, NOW, buffer_id, bytes, length);
    const struct actions *actions = array_pump(array, NOW);
    CHECK(actions->reply_wanted);
    check_all();
    return actions->reply_good;
}

static void give_headers(uint64_t number, const struct header *headers, uint32_t count)
{
    static uint8_t bytes[BATCH_HEAD_SIZE + 8 * HEADER_SIZE + 8 * PAGE_SIZE_BYTES];
    struct batch_head head = {.epoch = 1,
                              .stream = STREAM,
                              .sender = PEER,
                              .receiver = SELF,
                              .number = number,
                              .header_count = count};
    uint8_t *data = bytes + BATCH_HEAD_SIZE + count * HEADER_SIZE;
    for (uint32_t i = 0; i < count; i++) {
        struct header header = headers[i];
        uint32_t length = wire_data_bytes(header.sectors);
        memset(data, (int)i + 1, length);
        if (header.type == HEADER_WRITE)
            header.data_crc = crc32c(data, length);
        wire_put_header(bytes + BATCH_HEAD_SIZE + i * HEADER_SIZE, &header);
        head.data_bytes += length;
        data += length;
    }
    wire_put_batch_head(bytes, &head);
    CHECK(give(MESSAGE_BATCH, bytes, (uint32_t)(data - bytes)));
}

static uint8_t *shot(void)
{
    uint8_t *copy = malloc(memory_size);
    CHECK(copy != NULL);
    memcpy(copy, memory, memory_size);
    return copy;
}

static void prepare(void)
{
    static struct array_config config = {.self = 1,
                                         .incarnation = SELF,
                                         .slot_count = SLOTS,
                                         .request_limit = 4,
                                         .destage_io_limit = 1,
                                         .fetch_io_limit = 1,
                                         .dirty_low_percent = 40,
                                         .dirty_high_percent = 75,
                                         .destage_after_ms = 5000,
                                         .lease_ms = 1000,
                                         .settle_ms = 100,
                                         .volume_count = VOLUMES,
                                         .store_count = 1,
                                         .group_count = 1};
    config.groups[0] = (struct group_config){.name = "g",
                                             .id = "identity",
                                             .side = GROUP_SECOND,
                                             .volume_count = 2,
                                             .volumes = {2, 3},
                                             .budget_pages = 4,
                                             .room_pages = ROOM,
                                             .base_pages = 4};
    config.stores[0].block_size_bytes = SECTOR_SIZE;
    for (int i = 0; i < VOLUMES; i++) {
        config.volumes[i].size_bytes = 40 * PAGE_SIZE_BYTES + 3 * SECTOR_SIZE;
        config.volumes[i].store_offset_bytes = (uint64_t)i << 20;
    }
    memory_size =
        (array_memory_size(&config) + PAGE_SIZE_BYTES - 1) / PAGE_SIZE_BYTES * PAGE_SIZE_BYTES;
    memory = aligned_alloc(PAGE_SIZE_BYTES, memory_size);
    CHECK(memory != NULL);
    memset(memory, 0, memory_size);
    array = array_create(&config, memory, memory_size, NOW);
    CHECK(array_pump(array, NOW)->register_wanted);
    array_on_register(array, NOW, REGISTER_OK,
                      &(struct register_record){.epoch = 1, .in = REGISTER_IN_A, .unclean = true});
    uint8_t hello[HELLO_SIZE];
    wire_put_hello(
        hello, &(struct hello){.role = ROLE_SOLO, .epoch = 1, .incarnation = PEER, .slots = SLOTS});
    CHECK(give(MESSAGE_HELLO, hello, HELLO_SIZE));
    const struct header start[] = {
        {.type = HEADER_START, .page = 1},
        {.type = HEADER_OWNER, .volume = 0, .slot = 0},
        {.type = HEADER_OWNER, .volume = 1, .slot = 1},
        {.type = HEADER_OWNER, .volume = 2, .slot = 0},
        {.type = HEADER_OWNER, .volume = 3, .slot = 0},
        {.type = HEADER_WRITE, .flags = HEADER_FRESH, .sectors = 0xFF, .slot = 3, .page = 5},
        {.type = HEADER_WRITE, .flags = HEADER_FRESH, .sectors = 0x81, .slot = 4, .page = 6},
    };
    give_headers(1, start, 7);
    /* A cycle that is complete, and a part of the next one. */
    const struct header held[] = {
        {.type = HEADER_TERM, .page = 1, .count = 1},
        {.type = HEADER_WRITE,
         .flags = HEADER_FRESH | HEADER_HOLD,
         .volume = 2,
         .sectors = 0x0F,
         .slot = 10,
         .page = 7,
         .cycle = 1,
         .generation = 1},
        {.type = HEADER_TAKEN, .slot = 1, .page = 1, .count = 1},
        {.type = HEADER_END, .page = 1, .count = 1},
        {.type = HEADER_TAKEN, .page = 2, .count = 1},
        {.type = HEADER_WRITE,
         .flags = HEADER_FRESH | HEADER_HOLD,
         .volume = 3,
         .sectors = 0xFF,
         .slot = 11,
         .page = 8,
         .cycle = 2,
         .generation = 0},
        {.type = HEADER_RANGE,
         .flags = HEADER_HELD_RANGE,
         .volume = 2,
         .page = 6,
         .count = 3,
         .cycle = 2,
         .generation = 1},
    };
    give_headers(2, held, 7);
    next_number[1] = 3;
    being_filled = shot();
    give_headers(3, (const struct header[]){{.type = HEADER_READY, .page = 2}}, 1);
    give_headers(4, (const struct header[]){{.type = HEADER_PAIR, .page = 2}}, 1);
    next_number[0] = 5;
    paired = shot();
}

/* Each checksum of data that lies within the message. */
static void fix_data(uint8_t *bytes, uint32_t length)
{
    uint32_t count = get_u32(bytes + 56);
    uint64_t at = BATCH_HEAD_SIZE + (uint64_t)count * HEADER_SIZE;
    for (uint32_t i = 0; i < count && at < length; i++) {
        uint8_t *header = bytes + BATCH_HEAD_SIZE + (size_t)i * HEADER_SIZE;
        uint32_t size = header[0] == HEADER_WRITE      ? wire_data_bytes(header[3])
                        : header[0] == HEADER_RECEIVED ? get_u32(header + 20)
                                                       : 0;
        if (size == 0 || size > length || at + size > length)
            continue;
        put_u32(header + 24, crc32c(bytes + at, size));
        at += size;
    }
}

static void fix(uint8_t *bytes, uint32_t length, uint8_t how, uint64_t number)
{
    if (how & HELLO) {
        if (length == HELLO_SIZE && how & FIX_HEAD)
            put_u32(bytes + 60, crc32c(bytes, 60));
        return;
    }
    if (length < BATCH_HEAD_SIZE)
        return;
    if (how & FIX_PLACE) {
        put_u64(bytes + 24, PEER);
        put_u64(bytes + 32, SELF);
        if (length == BATCH_HEAD_SIZE || bytes[BATCH_HEAD_SIZE] != HEADER_START) {
            put_u64(bytes + 16, STREAM);
            put_u64(bytes + 40, number);
        }
    }
    if (get_u32(bytes + 56) > (length - BATCH_HEAD_SIZE) / HEADER_SIZE)
        return;
    if (how & FIX_DATA)
        fix_data(bytes, length);
    if (how & FIX_HEAD) {
        put_u32(bytes + 64, 0);
        put_u32(bytes + 64, crc32c(bytes, BATCH_HEAD_SIZE + get_u32(bytes + 56) * HEADER_SIZE));
    }
}

static void feed(const uint8_t *from, uint32_t length, uint8_t how, uint64_t number)
{
    static struct array_status before, after;
    uint8_t *bytes = malloc(length > 0 ? length : 1);
    CHECK(bytes != NULL);
    memcpy(bytes, from, length);
    fix(bytes, length, how, number);
    array_status(array, NOW, &before);
    bool good = give(how & HELLO ? MESSAGE_HELLO : MESSAGE_BATCH, bytes, length);
    array_status(array, NOW, &after);
    if (!good) {
        CHECK(after.received.batches == before.received.batches);
        CHECK(after.received.headers == before.received.headers);
        CHECK(after.slots_image == before.slots_image);
    }
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > INPUT_LIMIT)
        return 0;
    if (array == NULL)
        prepare();
    uint8_t how = data[0];
    memcpy(memory, how & BEING_FILLED ? being_filled : paired, memory_size);
    uint64_t number = next_number[(how & BEING_FILLED) != 0];
    uint32_t length = (uint32_t)size - 2, first = min_u32(length, data[1] ? data[1] * 16u : length);
    feed(data + 2, first, how, number);
    if (first < length)
        feed(data + 2 + first, length - first, how, number + 1);
    return 0;
}
