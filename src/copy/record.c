/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See record.h: bytes to structs and back, nothing else. */

#include "copy/record.h"

#include "base/crc32c.h"

enum {
    HEAD_MAGIC = 0x48464342,  /* "HFCB" */
    STATE_MAGIC = 0x48464353, /* "HFCS" */
    COPY_VERSION = 1,
    HEAD_KEEP = 1,
    HEAD_CRC_AT = 80,
    HEAD_RESERVED_AT = 92,
    STATE_CRC_AT = 124,
};

static uint32_t head_crc(const uint8_t *bytes, uint32_t record_count)
{
    return crc32c_around(bytes, COPY_HEAD_SIZE + (size_t)record_count * COPY_RECORD_SIZE,
                         HEAD_CRC_AT);
}

void record_put_head(uint8_t *bytes, const struct copy_head *head)
{
    memset(bytes, 0, COPY_HEAD_SIZE);
    put_u32(bytes, HEAD_MAGIC);
    put_u16(bytes + 4, COPY_VERSION);
    bytes[6] = head->half;
    bytes[7] = head->keep ? HEAD_KEEP : 0;
    memcpy(bytes + 8, head->group, COPY_ID_SIZE);
    put_u64(bytes + 24, head->era);
    put_u64(bytes + 32, head->term);
    put_u64(bytes + 40, head->cycle);
    put_u64(bytes + 48, head->number);
    put_u64(bytes + 56, head->first);
    put_u64(bytes + 64, head->wall_us);
    put_u32(bytes + 72, head->record_count);
    put_u32(bytes + 76, head->data_bytes);
    put_u64(bytes + 84, head->cut);
    put_u32(bytes + HEAD_CRC_AT, head_crc(bytes, head->record_count));
}

const char *record_get_head(const uint8_t *bytes, uint32_t length, struct copy_head *head)
{
    if (length < COPY_HEAD_SIZE)
        return "copy batch shorter than its head";
    if (get_u32(bytes) != HEAD_MAGIC)
        return "copy batch without its magic";
    if (get_u16(bytes + 4) != COPY_VERSION)
        return "copy batch of another version";
    *head = (struct copy_head){.half = bytes[6],
                               .keep = (bytes[7] & HEAD_KEEP) != 0,
                               .cut = get_u64(bytes + 84),
                               .era = get_u64(bytes + 24),
                               .term = get_u64(bytes + 32),
                               .cycle = get_u64(bytes + 40),
                               .number = get_u64(bytes + 48),
                               .first = get_u64(bytes + 56),
                               .wall_us = get_u64(bytes + 64),
                               .record_count = get_u32(bytes + 72),
                               .data_bytes = get_u32(bytes + 76)};
    memcpy(head->group, bytes + 8, COPY_ID_SIZE);
    if (!bytes_all_zero(bytes + HEAD_RESERVED_AT, COPY_HEAD_SIZE - HEAD_RESERVED_AT) ||
        (bytes[7] & ~HEAD_KEEP))
        return "copy batch head with reserved bytes set";
    if (head->record_count == 0 || head->record_count > COPY_RECORDS)
        return "copy batch with no record or too many";
    if (head->data_bytes > COPY_DATA_BYTES)
        return "copy batch with too much data";
    if (length != COPY_HEAD_SIZE + head->record_count * COPY_RECORD_SIZE + head->data_bytes)
        return "copy batch whose length disagrees with its head";
    if (get_u32(bytes + HEAD_CRC_AT) != head_crc(bytes, head->record_count))
        return "copy batch head checksum is wrong";
    if (head->half > 1)
        return "copy batch of an unknown half";
    if (head->term == 0 || head->number == 0 || head->first == 0 || head->cycle < head->first)
        return "copy batch without a term, a number or a cycle of its term";
    return NULL;
}

void record_put(uint8_t *bytes, const struct record *record)
{
    bytes[0] = record->type;
    bytes[1] = record->flags;
    bytes[2] = record->volume;
    bytes[3] = record->sectors;
    put_u32(bytes + 4, record->generation);
    put_u64(bytes + 8, record->page);
    put_u64(bytes + 16, record->count);
    put_u32(bytes + 24, record->crc);
    put_u32(bytes + 28, 0);
}

/* Which fields a type uses; the others must be zero. */
static const struct record_use {
    bool flags, volume, sectors, generation, page, count, crc;
} record_uses[RECORD_TYPE_COUNT] = {
    [RECORD_PAGE] = {.flags = true,
                     .volume = true,
                     .sectors = true,
                     .generation = true,
                     .page = true,
                     .crc = true},
    [RECORD_ZERO] = {.volume = true, .generation = true, .page = true, .count = true},
    [RECORD_END] = {.flags = true, .generation = true, .page = true, .count = true, .crc = true},
    [RECORD_PROMOTE] = {.flags = true},
    [RECORD_MARKED] = {.volume = true, .page = true, .count = true},
    [RECORD_MARKED_END] = {.flags = false},
    [RECORD_SEAL] = {.flags = false},
};

static const char *judge_values(const struct record *record)
{
    switch (record->type) {
    case RECORD_PAGE:
        return record->sectors == 0 ? "page record without sectors" : NULL;
    case RECORD_ZERO:
    case RECORD_MARKED:
        return record->count == 0 || record->page + record->count < record->page
                   ? "record of an impossible range"
                   : NULL;
    case RECORD_END:
        return record->generation != 1 && record->generation != 2
                   ? "end record of an impossible number of halves"
                   : NULL;
    default:
        return NULL;
    }
}

const char *record_get(const uint8_t *bytes, struct record *record)
{
    *record = (struct record){.type = bytes[0],
                              .flags = bytes[1],
                              .volume = bytes[2],
                              .sectors = bytes[3],
                              .generation = get_u32(bytes + 4),
                              .page = get_u64(bytes + 8),
                              .count = get_u64(bytes + 16),
                              .crc = get_u32(bytes + 24)};
    if (record->type == 0 || record->type >= RECORD_TYPE_COUNT)
        return "record of unknown type";
    if (get_u32(bytes + 28) != 0)
        return "record with reserved bytes set";
    const struct record_use *use = &record_uses[record->type];
    if (record->flags & ~(use->flags ? 1 : 0))
        return "record with unknown flags";
    if ((!use->volume && record->volume) || (!use->sectors && record->sectors) ||
        (!use->generation && record->generation) || (!use->page && record->page) ||
        (!use->count && record->count) || (!use->crc && record->crc))
        return "record with a field set that its type does not have";
    return judge_values(record);
}

void record_put_state(uint8_t bytes[COPY_STATE_SIZE], const struct copy_state *state)
{
    memset(bytes, 0, COPY_STATE_SIZE);
    put_u32(bytes, STATE_MAGIC);
    put_u16(bytes + 4, COPY_VERSION);
    bytes[6] = state->role;
    bytes[7] = state->flags;
    memcpy(bytes + 8, state->group, COPY_ID_SIZE);
    put_u64(bytes + 24, state->era);
    put_u64(bytes + 32, state->term);
    put_u64(bytes + 40, state->promoted);
    put_u64(bytes + 48, state->promoted_wall_us);
    put_u64(bytes + 56, state->memory);
    put_u32(bytes + 64, state->room_pages);
    put_u32(bytes + 68, state->window);
    put_u64(bytes + 72, state->cut);
    put_u64(bytes + 80, state->held_cut);
    put_u32(bytes + STATE_CRC_AT, crc32c(bytes, STATE_CRC_AT));
}

const char *record_get_state(const uint8_t *bytes, uint32_t length, struct copy_state *state)
{
    if (length != COPY_STATE_SIZE)
        return "copy state of a wrong length";
    if (get_u32(bytes) != STATE_MAGIC)
        return "copy state without its magic";
    if (get_u16(bytes + 4) != COPY_VERSION)
        return "copy state of another version";
    if (get_u32(bytes + STATE_CRC_AT) != crc32c(bytes, STATE_CRC_AT))
        return "copy state checksum is wrong";
    if (!bytes_all_zero(bytes + 88, STATE_CRC_AT - 88))
        return "copy state with reserved bytes set";
    *state = (struct copy_state){.role = bytes[6],
                                 .flags = bytes[7],
                                 .era = get_u64(bytes + 24),
                                 .term = get_u64(bytes + 32),
                                 .promoted = get_u64(bytes + 40),
                                 .promoted_wall_us = get_u64(bytes + 48),
                                 .memory = get_u64(bytes + 56),
                                 .room_pages = get_u32(bytes + 64),
                                 .window = get_u32(bytes + 68),
                                 .cut = get_u64(bytes + 72),
                                 .held_cut = get_u64(bytes + 80)};
    memcpy(state->group, bytes + 8, COPY_ID_SIZE);
    if (state->role >= COPY_ROLE_COUNT)
        return "copy state of an unknown role";
    if (state->flags & ~(COPY_STATE_CONSISTENT | COPY_STATE_HERE | COPY_STATE_ZSTD))
        return "copy state with unknown flags";
    if (state->memory == 0 || state->window == 0 || state->window > COPY_WINDOW)
        return "copy state without a memory number, or with an impossible window";
    return NULL;
}
