/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* PERSISTENT RESERVE IN (SPC-4 6.15): the record as a host may read it. It changes nothing, and
 * says the same through both controllers. Whatever the allocation length, the length fields say how
 * much there is. */

#include "scsi/sense.h"

enum {
    READ_KEYS = 0,
    READ_RESERVATION = 1,
    REPORT_CAPABILITIES = 2,
    READ_FULL_STATUS = 3,

    /* REPORT CAPABILITIES, table 174. */
    CAPABLE_CRH = 0x10,
    CAPABLE_SIP = 0x08,
    CAPABLE_ATP = 0x04,
    CAPABLE_PTPL = 0x01,
    TMV = 0x80,
    ALLOW_TEST_UNIT_READY = 1 << 4, /* ALLOW COMMANDS 001b: through every reservation */

    TRANSPORT_ISCSI_PORT = 0x45, /* TPID FORMAT 01b, iSCSI (table 507) */
    DESCRIPTOR_HEAD = 24,
    DESCRIPTOR_LIMIT = DESCRIPTOR_HEAD + 4 + (SCSI_PORT_NAME_SIZE + 3) / 4 * 4,
};

/* Data that may be longer than there is room for: what does not fit only counts. */
struct answer {
    uint8_t *bytes;
    uint32_t room;
    uint32_t used;
};

static void add(struct answer *answer, const uint8_t *bytes, uint32_t size)
{
    if (answer->used < answer->room)
        memcpy(answer->bytes + answer->used, bytes, min_u32(size, answer->room - answer->used));
    answer->used += size;
}

static void read_keys(struct answer *answer, const struct record *record)
{
    uint8_t head[8];
    uint8_t key[8];

    put_u32(head, record->generation);
    put_u32(head + 4, 8u * record->registrant_count);
    add(answer, head, sizeof head);
    for (uint32_t i = 0; i < record->registrant_count; i++) {
        put_u64(key, record->registrants[i].key);
        add(answer, key, sizeof key);
    }
}

static void read_reservation(struct answer *answer, const struct record *record)
{
    uint8_t bytes[24] = {0};

    put_u32(bytes, record->generation);
    if (record->type == RESERVATION_NONE) {
        add(answer, bytes, 8);
        return;
    }
    put_u32(bytes + 4, 16);
    /* Of all registrants: no single key (SPC-4 5.13.9). */
    if (!reservation_of_all(record->type))
        put_u64(bytes + 8, record->registrants[record->holder].key);
    bytes[21] = record->type; /* SCOPE 0: the logical unit */
    add(answer, bytes, sizeof bytes);
}

static void report_capabilities(struct answer *answer, const struct record *record)
{
    uint8_t bytes[8] = {0};

    put_u16(bytes, sizeof bytes);
    bytes[2] = CAPABLE_CRH | CAPABLE_SIP | CAPABLE_ATP | CAPABLE_PTPL;
    bytes[3] = (uint8_t)(TMV | ALLOW_TEST_UNIT_READY | (record->aptpl ? 1 : 0));
    bytes[4] = 0xEA; /* types 7, 6, 5, 3 and 1 ... */
    bytes[5] = 0x01; /* ... and 8 */
    add(answer, bytes, sizeof bytes);
}

/* One full status descriptor (table 176). Returns its size. */
static uint32_t full_status(uint8_t *to, const struct record *record, uint32_t index)
{
    const struct record_registrant *registrant = &record->registrants[index];
    uint32_t name_bytes = (uint32_t)strnlen(registrant->nexus.initiator, SCSI_PORT_NAME_SIZE) + 1;
    uint32_t padded = (name_bytes + 3) / 4 * 4;

    if (padded < 20) /* table 511 */
        padded = 20;
    memset(to, 0, DESCRIPTOR_LIMIT);
    put_u64(to, registrant->key);
    if (reservation_of_all(record->type) || record->holder == index) {
        to[12] = 0x01; /* R_HOLDER */
        to[13] = record->type;
    }
    put_u16(to + 18, registrant->nexus.port);
    put_u32(to + 20, 4 + padded);
    to[24] = TRANSPORT_ISCSI_PORT;
    put_u16(to + 26, (uint16_t)padded);
    memcpy(to + 28, registrant->nexus.initiator, name_bytes);
    return DESCRIPTOR_HEAD + 4 + padded;
}

static void read_full_status(struct answer *answer, const struct record *record)
{
    uint8_t bytes[DESCRIPTOR_LIMIT];
    uint32_t size = 0;

    for (uint32_t i = 0; i < record->registrant_count; i++)
        size += full_status(bytes, record, i);
    put_u32(bytes, record->generation);
    put_u32(bytes + 4, size);
    add(answer, bytes, 8);
    for (uint32_t i = 0; i < record->registrant_count; i++) {
        size = full_status(bytes, record, i);
        add(answer, bytes, size);
    }
}

enum scsi_step reservation_in_begin(struct scsi_task *task)
{
    uint32_t allocation_bytes = get_u16(task->cdb + 7);

    /* SPC-2 5.5.1: under RESERVE(6)/(10) everybody is refused, the holder too. */
    if (reservation_of_spc2(task->unit))
        return task_status(task, SCSI_RESERVATION_CONFLICT);
    return task_buffer_in(task, max_u32(allocation_bytes, 1));
}

enum scsi_step reservation_in_run(struct scsi_task *task)
{
    const struct record *record = &task->unit->record;
    uint32_t allocation_bytes = get_u16(task->cdb + 7);
    struct answer answer = {.bytes = task->buffer, .room = task->buffer_bytes};

    switch (task->cdb[1] & 0x1F) {
    case READ_KEYS:
        read_keys(&answer, record);
        break;
    case READ_RESERVATION:
        read_reservation(&answer, record);
        break;
    case REPORT_CAPABILITIES:
        report_capabilities(&answer, record);
        break;
    case READ_FULL_STATUS:
        read_full_status(&answer, record);
        break;
    default:
        return sense_invalid_field_in_cdb(task, 1, 4);
    }
    return task_in(task, min_u32(answer.used, answer.room), allocation_bytes);
}
