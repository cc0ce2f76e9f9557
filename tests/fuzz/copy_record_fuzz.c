/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Batches and states from another array, and what the arrays of a set say: no input may crash or
 * read past its end, what is taken encodes to the same bytes, and a receiver in the middle of a
 * term judges every batch whole. The checksums are made right first, so that what is behind them is
 * reached. The first byte says for what the rest is taken. */

#include "base/crc32c.h"
#include "copy/cut.h"
#include "copy/receiver.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SLOTS = 64, ROOM = 16, VOLUMES = 2, PAGES = 1000 };

static const uint64_t page_counts[VOLUMES] = {PAGES, PAGES / 2};
static const uint8_t group[COPY_ID_SIZE] = "0123456789abcde";
static uint64_t memory[16384];

/* Cycle 10 of term 5 has a page, a range and the END of one half. */
static void create(struct receiver *receiver)
{
    struct arena arena = arena_over(memory, sizeof memory);
    struct receiver_popped popped;
    memset(memory, 0, sizeof memory);
    receiver_create(receiver, &arena, SLOTS, ROOM, VOLUMES, page_counts, group, 1);
    receiver_begin_term(receiver, 5, 10);
    while (receiver_pop(receiver, &popped))
        ;
    receiver_hold(receiver, 0, 10, 1,
                  &(struct record){.type = RECORD_PAGE, .sectors = 3, .generation = 1, .page = 7});
    receiver_zero(receiver, 10, 1,
                  &(struct record){.type = RECORD_ZERO, .generation = 1, .page = 8, .count = 9});
    receiver_end(receiver, 0, 10, 1, &(struct record){.type = RECORD_END, .generation = 2});
    receiver_taken(receiver, 0, 1);
}

static void try_record(const uint8_t *bytes)
{
    struct record record;
    uint8_t again[COPY_RECORD_SIZE];
    if (record_get(bytes, &record) != NULL)
        return;
    CHECK(record_data_bytes(&record) <= PAGE_SIZE_BYTES);
    record_put(again, &record);
    CHECK(memcmp(again, bytes, sizeof again) == 0);
}

static void make_checksums_right(uint8_t *bytes, uint32_t size)
{
    static const uint8_t zero[4];
    uint32_t count = get_u32(bytes + 72);
    if (count > (size - COPY_HEAD_SIZE) / COPY_RECORD_SIZE)
        return;
    uint8_t *records = bytes + COPY_HEAD_SIZE, *data = records + count * COPY_RECORD_SIZE;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *raw = records + i * COPY_RECORD_SIZE;
        struct record record = {.type = raw[0], .sectors = raw[3]};
        uint32_t length = record_data_bytes(&record);
        if (length == 0 || length > (size_t)(bytes + size - data))
            continue;
        put_u32(raw + 24, crc32c(data, length));
        data += length;
    }
    uint32_t crc = crc32c_more(CRC32C_START, bytes, 80);
    crc = crc32c_more(crc, zero, 4);
    crc = crc32c_more(crc, bytes + 84, COPY_HEAD_SIZE - 84 + count * COPY_RECORD_SIZE);
    put_u32(bytes + 80, crc32c_end(crc));
}

static void try_batch(uint8_t *bytes, uint32_t size)
{
    static struct receiver receiver;
    struct copy_head head;
    bool new_term;
    const char *why = NULL;
    if (size >= COPY_HEAD_SIZE)
        make_checksums_right(bytes, size);
    if (record_get_head(bytes, size, &head) != NULL)
        return;
    CHECK(head.record_count <= COPY_RECORDS);
    CHECK(size ==
          COPY_HEAD_SIZE + head.record_count * COPY_RECORD_SIZE + (uint64_t)head.data_bytes);
    uint8_t *again = malloc(size);
    CHECK(again != NULL);
    memcpy(again, bytes, size);
    record_put_head(again, &head);
    CHECK(memcmp(again, bytes, size) == 0);
    free(again);
    create(&receiver);
    enum receiver_verdict verdict = receiver_judge(&receiver, &head, &new_term, &why);
    CHECK((verdict == RECEIVER_REFUSE) == (why != NULL));
    if (verdict == RECEIVER_TAKE)
        (void)receiver_judge_records(&receiver, &head, new_term, bytes + COPY_HEAD_SIZE);
    CHECK(receiver_check(&receiver) == NULL); /* judging has changed nothing */
}

static void try_state(uint8_t *bytes, uint32_t size)
{
    struct copy_state state;
    uint8_t again[COPY_STATE_SIZE];
    if (size == COPY_STATE_SIZE)
        put_u32(bytes + 124, crc32c(bytes, 124));
    if (record_get_state(bytes, size, &state) != NULL)
        return;
    record_put_state(again, &state);
    CHECK(memcmp(again, bytes, sizeof again) == 0);
}

/* Of a set's coordinator, and the answer to its question. */
static void try_cut(uint8_t *bytes, uint32_t size, bool is_state)
{
    struct cut_message message;
    struct cut_state state;
    uint8_t again[CUT_MESSAGE_SIZE];
    if (size == CUT_MESSAGE_SIZE)
        put_u32(bytes + 60, crc32c(bytes, 60));
    const char *why =
        is_state ? cut_get_state(bytes, size, &state) : cut_get_message(bytes, size, &message);
    if (why != NULL)
        return;
    if (is_state)
        cut_put_state(again, &state);
    else
        cut_put_message(again, &message);
    CHECK(memcmp(again, bytes, sizeof again) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > COPY_BATCH_BYTES + 1)
        return 0;
    uint8_t *copy = malloc(size); /* of exactly its length, so that a read past it is seen */
    CHECK(copy != NULL);
    size--;
    memcpy(copy, data + 1, size);
    if (data[0] == 'r' && size == COPY_RECORD_SIZE)
        try_record(copy);
    else if (data[0] == 's')
        try_state(copy, (uint32_t)size);
    else if (data[0] == 'c' || data[0] == 't')
        try_cut(copy, (uint32_t)size, data[0] == 't');
    else
        try_batch(copy, (uint32_t)size);
    free(copy);
    return 0;
}
