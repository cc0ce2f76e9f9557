/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See wire.h: bytes to structs and back, nothing else. What a message means, and whether it fits
 * what came before, is judged where it is applied; here only what can be said from the bytes alone.
 */

#include "mirror/wire.h"

#include "base/crc32c.h"

enum {
    BATCH_MAGIC = 0x48464254, /* "HFBT" */
    HELLO_MAGIC = 0x48464849, /* "HFHI" */
    WIRE_VERSION = 1,
    HEAD_CRC_AT = 64,
    HEAD_RESERVED_AT = 72,
    HELLO_CRC_AT = 60,
};

static uint32_t batch_crc(const uint8_t *bytes, uint32_t header_count)
{
    return crc32c_around(bytes, BATCH_HEAD_SIZE + (size_t)header_count * HEADER_SIZE, HEAD_CRC_AT);
}

void wire_put_batch_head(uint8_t *bytes, const struct batch_head *head)
{
    memset(bytes, 0, BATCH_HEAD_SIZE);
    put_u32(bytes, BATCH_MAGIC);
    put_u16(bytes + 4, WIRE_VERSION);
    put_u16(bytes + 6, head->flags);
    put_u64(bytes + 8, head->epoch);
    put_u64(bytes + 16, head->stream);
    put_u64(bytes + 24, head->sender);
    put_u64(bytes + 32, head->receiver);
    put_u64(bytes + 40, head->number);
    put_u64(bytes + 48, head->time_us);
    put_u32(bytes + 56, head->header_count);
    put_u32(bytes + 60, head->data_bytes);
    put_u32(bytes + 68, head->ship_session);
    put_u32(bytes + HEAD_CRC_AT, batch_crc(bytes, head->header_count));
}

const char *wire_get_batch_head(const uint8_t *bytes, uint32_t length, struct batch_head *head)
{
    if (length < BATCH_HEAD_SIZE)
        return "batch shorter than its head";
    if (get_u32(bytes) != BATCH_MAGIC)
        return "batch without its magic";
    if (get_u16(bytes + 4) != WIRE_VERSION)
        return "batch of another version";
    *head = (struct batch_head){.flags = get_u16(bytes + 6),
                                .epoch = get_u64(bytes + 8),
                                .stream = get_u64(bytes + 16),
                                .sender = get_u64(bytes + 24),
                                .receiver = get_u64(bytes + 32),
                                .number = get_u64(bytes + 40),
                                .time_us = get_u64(bytes + 48),
                                .header_count = get_u32(bytes + 56),
                                .data_bytes = get_u32(bytes + 60),
                                .ship_session = get_u32(bytes + 68)};
    if (head->flags & ~BATCH_STOPPING)
        return "batch with unknown flags";
    if (!bytes_all_zero(bytes + HEAD_RESERVED_AT, BATCH_HEAD_SIZE - HEAD_RESERVED_AT))
        return "batch head with reserved bytes set";
    if (head->header_count > BATCH_HEADERS)
        return "batch with too many headers";
    if (head->data_bytes > BATCH_DATA_BYTES)
        return "batch with too much data";
    if (length != BATCH_HEAD_SIZE + head->header_count * HEADER_SIZE + head->data_bytes)
        return "batch whose length disagrees with its head";
    if (get_u32(bytes + HEAD_CRC_AT) != batch_crc(bytes, head->header_count))
        return "batch head checksum is wrong";
    return NULL;
}

/* A WRITE's cycle stands in the place of the count that it does not have, and its generation in the
 * last four bytes; a RANGE's cycle in that of the slot and in the last four bytes, its generation
 * in that of the checksum. */
void wire_put_header(uint8_t *bytes, const struct header *header)
{
    bool range = header->type == HEADER_RANGE;
    bytes[0] = header->type;
    bytes[1] = header->flags;
    bytes[2] = header->volume;
    bytes[3] = header->sectors;
    put_u32(bytes + 4, range ? (uint32_t)(header->cycle >> 32) : header->slot);
    put_u64(bytes + 8, header->page);
    put_u64(bytes + 16, header->type == HEADER_WRITE ? header->cycle : header->count);
    put_u32(bytes + 24, range ? header->generation : header->data_crc);
    put_u32(bytes + 28, range ? (uint32_t)header->cycle : header->generation);
}

/* Which fields a header's type uses, and which flags; the others must be zero. */
static const struct header_use {
    uint8_t flags;
    bool volume, sectors, slot, page, count, crc;
} header_uses[HEADER_TYPE_COUNT] = {
    [HEADER_WRITE] = {.flags = HEADER_FRESH | HEADER_SETTLED | HEADER_HOLD,
                      .volume = true,
                      .sectors = true,
                      .slot = true,
                      .page = true,
                      .crc = true},
    [HEADER_DROP] = {.slot = true},
    [HEADER_RANGE] = {.flags = HEADER_NOTED | HEADER_HELD_RANGE,
                      .volume = true,
                      .page = true,
                      .count = true},
    [HEADER_START] = {.page = true},
    [HEADER_OWNER] = {.volume = true, .slot = true},
    [HEADER_READY] = {.page = true},
    [HEADER_PAIR] = {.page = true},
    [HEADER_MOVE] = {.volume = true, .slot = true},
    [HEADER_LEAVE] = {.flags = 0},
    [HEADER_STATE] = {.volume = true, .page = true, .count = true, .crc = true},
    [HEADER_PROGRESS] = {.slot = true, .page = true},
    [HEADER_GROUP] = {.flags = HEADER_BEGIN | HEADER_RESTART | HEADER_JOIN,
                      .volume = true,
                      .page = true,
                      .count = true,
                      .crc = true},
    [HEADER_MARK] = {.flags = HEADER_BOTH | HEADER_HOLDS,
                     .volume = true,
                     .page = true,
                     .count = true},
    [HEADER_HELD] = {.flags = HEADER_DONE | HEADER_LATE, .volume = true, .page = true},
    [HEADER_CONFIRM] = {.volume = true, .page = true},
    [HEADER_FALL] = {.volume = true, .slot = true, .page = true},
    [HEADER_REGIONS] = {.volume = true, .page = true, .count = true},
    [HEADER_BITMAP] = {.volume = true, .page = true, .count = true, .crc = true},
    [HEADER_ZEROING] = {.volume = true, .slot = true, .page = true, .count = true},
    [HEADER_RECEIVED] = {.volume = true, .count = true, .crc = true},
    [HEADER_TERM] = {.flags = HEADER_KEEP, .volume = true, .page = true, .count = true},
    [HEADER_END] = {.flags = HEADER_HALF | HEADER_TWO | HEADER_ALL,
                    .volume = true,
                    .slot = true,
                    .page = true,
                    .count = true,
                    .crc = true},
    [HEADER_TAKEN] = {.flags = HEADER_HALF,
                      .volume = true,
                      .slot = true,
                      .page = true,
                      .count = true,
                      .crc = true},
    [HEADER_PROMOTE] = {.flags = HEADER_CONSISTENT, .volume = true, .page = true, .count = true},
    [HEADER_ZEROED] = {.volume = true, .page = true},
    [HEADER_SITE] = {.volume = true, .slot = true, .page = true, .count = true},
    [HEADER_CUT] = {.volume = true, .page = true, .count = true},
    [HEADER_RELEASE] = {.volume = true, .page = true},
};

static bool may_count_nothing(uint8_t type)
{
    return type == HEADER_MARK || type == HEADER_END || type == HEADER_PROMOTE;
}

/* What a WRITE and a RANGE say about a page or range that is held; the others say none of it. */
static const char *check_held(const struct header *header)
{
    bool held = (header->type == HEADER_WRITE && (header->flags & HEADER_HOLD)) ||
                (header->type == HEADER_RANGE && (header->flags & HEADER_HELD_RANGE));
    if (!held)
        return header->generation != 0 ? "header with reserved bytes set" : NULL;
    if (header->cycle == 0 || header->generation > UINT16_MAX)
        return "header of a held page without its cycle, or of an impossible generation";
    if (header->type == HEADER_RANGE)
        return header->flags == HEADER_HELD_RANGE ? NULL : "range header of two kinds";
    return header->flags == (HEADER_HOLD | HEADER_FRESH) ? NULL : "write header of two kinds";
}

static const char *check_group(const struct header *header)
{
    bool joins = header->flags == HEADER_JOIN;
    if (header->flags != HEADER_BEGIN && header->flags != HEADER_RESTART && !joins)
        return "group header that begins in no way, or in several";
    if (!joins && (header->data_crc != 0 || header->page == 0))
        return "group header with a field set that its flag does not have";
    return joins && header->count > WIRE_DATA_BYTES ? "group header of an impossible length" : NULL;
}

const char *wire_get_header(const uint8_t *bytes, struct header *header)
{
    *header = (struct header){.type = bytes[0],
                              .flags = bytes[1],
                              .volume = bytes[2],
                              .sectors = bytes[3],
                              .slot = get_u32(bytes + 4),
                              .page = get_u64(bytes + 8),
                              .count = get_u64(bytes + 16),
                              .data_crc = get_u32(bytes + 24)};
    uint32_t last = get_u32(bytes + 28);
    if (header->type == 0 || header->type >= HEADER_TYPE_COUNT)
        return "header of unknown type";
    if (header->type == HEADER_RANGE) {
        header->cycle = (uint64_t)header->slot << 32 | last;
        header->generation = header->data_crc;
        header->slot = header->data_crc = last = 0;
    } else if (header->type == HEADER_WRITE) {
        header->cycle = header->count;
        header->generation = last;
        header->count = last = 0;
    }
    if (last != 0)
        return "header with reserved bytes set";
    const struct header_use *use = &header_uses[header->type];
    if (header->flags & ~use->flags)
        return "header with unknown flags";
    if ((!use->volume && header->volume) || (!use->sectors && header->sectors) ||
        (!use->slot && header->slot) || (!use->page && header->page) ||
        (!use->count && header->count) || (!use->crc && header->data_crc))
        return "header with a field set that its type does not have";
    if (use->sectors && header->sectors == 0)
        return "write header without sectors";
    if (use->count && header->count == 0 && !may_count_nothing(header->type))
        return "header without the count that its type has";
    if (header->type == HEADER_STATE &&
        (header->count > VOLUME_STATE_BYTES || header->page == 0 || header->page > UINT32_MAX))
        return "state header of an impossible length or version";
    if ((header->type == HEADER_BITMAP || header->type == HEADER_RECEIVED) &&
        header->count > WIRE_DATA_BYTES)
        return header->type == HEADER_BITMAP ? "bitmap header of an impossible length"
                                             : "received header of an impossible length";
    return header->type == HEADER_GROUP ? check_group(header) : check_held(header);
}

void wire_put_hello(uint8_t bytes[HELLO_SIZE], const struct hello *hello)
{
    memset(bytes, 0, HELLO_SIZE);
    put_u32(bytes, HELLO_MAGIC);
    put_u16(bytes + 4, WIRE_VERSION);
    bytes[6] = hello->controller;
    bytes[7] = hello->role;
    put_u64(bytes + 8, hello->epoch);
    put_u64(bytes + 16, hello->incarnation);
    put_u64(bytes + 24, hello->peer_incarnation);
    put_u32(bytes + 32, hello->slots);
    put_u32(bytes + 36, hello->config_crc);
    put_u16(bytes + 40, hello->flags);
    put_u32(bytes + HELLO_CRC_AT, crc32c(bytes, HELLO_CRC_AT));
}

const char *wire_get_hello(const uint8_t *bytes, uint32_t length, struct hello *hello)
{
    if (length != HELLO_SIZE)
        return "hello of a wrong length";
    if (get_u32(bytes) != HELLO_MAGIC)
        return "hello without its magic";
    if (get_u16(bytes + 4) != WIRE_VERSION)
        return "hello of another version";
    if (get_u32(bytes + HELLO_CRC_AT) != crc32c(bytes, HELLO_CRC_AT))
        return "hello checksum is wrong";
    if (!bytes_all_zero(bytes + 42, HELLO_CRC_AT - 42))
        return "hello with reserved bytes set";
    *hello = (struct hello){.controller = bytes[6],
                            .role = bytes[7],
                            .epoch = get_u64(bytes + 8),
                            .incarnation = get_u64(bytes + 16),
                            .peer_incarnation = get_u64(bytes + 24),
                            .slots = get_u32(bytes + 32),
                            .config_crc = get_u32(bytes + 36),
                            .flags = get_u16(bytes + 40)};
    if (hello->controller > 1)
        return "hello of an unknown controller";
    if (hello->flags & ~(HELLO_STOPPING | HELLO_MAY_BE_IN))
        return "hello with unknown flags";
    if (hello->incarnation == 0)
        return "hello without an incarnation";
    return NULL;
}
