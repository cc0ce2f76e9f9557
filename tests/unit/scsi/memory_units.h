/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A device server over volumes of memory, with the smallest core that can carry out its requests at
 * once. A test sends whole commands and looks at the answer, at the bytes, and at the requests that
 * were made. Buffers are exactly as long as asked for, so that a sanitizer sees what goes past
 * them. */

#ifndef TESTS_MEMORY_UNITS_H
#define TESTS_MEMORY_UNITS_H

#include "scsi/internal.h"

#include <stdio.h>
#include <stdlib.h>

/* LUN and volume number are the same. All are of UNIT_BYTES. */
enum { THIN, BIG, THICK, READ_ONLY, UNITS };
#ifndef UNIT_BYTES
#define UNIT_BYTES     (4 << 20)
#define TRANSFER_BYTES (2 << 20)
#endif
enum {
    REQUEST_LOG = 64,
    STEP_LIMIT = 20000,
    UNITS_BUFFER = 8 << 20,
};

static struct {
    struct scsi *scsi;
    struct scsi_nexus *nexus[2];
    uint8_t *bytes[UNITS];
    uint8_t record[UNITS][VOLUME_STATE_BYTES];
    uint32_t length[UNITS], version[UNITS];

    struct host_request log[REQUEST_LOG]; /* the first ones since the last command began */
    uint32_t requests;
    /* The request number `fail_at` (from 0) ends with `fail_with`. */
    uint32_t fail_at;
    enum host_result fail_with;
    void (*before)(const struct host_request *request); /* before each request */

    /* What the next commands say. */
    enum scsi_attribute attribute;
    uint32_t nexus_used;
    uint32_t in_expected; /* UINT32_MAX: as much as there is */
    const struct scsi_extent *extents;
    uint32_t extent_count;

    struct scsi_task task; /* the last command's */
    uint8_t *in;           /* its data */
} units;

static inline void units_config(struct scsi_config *config)
{
    static const char *const names[UNITS] = {"thin", "big", "thick", "read-only"};

    memset(config, 0, sizeof *config);
    strcpy(config->array_name, "array");
    strcpy(config->target_name, "iqn.2026-11.holdfast:array");
    config->transfer_bytes = TRANSFER_BYTES;
    config->nexus_limit = 2;
    config->unit_count = UNITS;
    for (int i = 0; i < UNITS; i++) {
        strcpy(config->units[i].name, names[i]);
        config->units[i].size_bytes = UNIT_BYTES;
        config->units[i].block_bytes = i == BIG ? 4096 : 512;
        config->units[i].thin = i != THICK;
    }
}

static inline void units_quiet(void)
{
    for (int i = 0; i < 2; i++)
        for (int lun = 0; lun < SCSI_LUN_LIMIT; lun++)
            units.nexus[i]->luns[lun].attentions = 0;
}

static inline void units_create(void)
{
    static struct scsi_config config;
    struct scsi_lun_map luns[UNITS];
    size_t size;
    void *memory;

    memset(&units, 0, sizeof units);
    units_config(&config);
    CHECK(scsi_config_check(&config) == NULL);
    size = (scsi_memory_size(&config) + 63) / 64 * 64;
    memory = aligned_alloc(64, size);
    memset(memory, 0, size);
    units.scsi = scsi_create(&config, memory, size);
    scsi_on_controllers(units.scsi, 3);
    for (uint8_t i = 0; i < UNITS; i++) {
        units.bytes[i] = malloc(UNIT_BYTES);
        memset(units.bytes[i], 0x11 * (i + 1), UNIT_BYTES);
        luns[i] = (struct scsi_lun_map){i, i, i == READ_ONLY};
        scsi_on_service(units.scsi, i, 0, SCSI_SERVED_HERE);
    }
    units.nexus[0] = scsi_nexus_open(units.scsi, "iqn.1:h0,i,0x000000000000", luns, UNITS);
    units.nexus[1] = scsi_nexus_open(units.scsi, "iqn.1:h1,i,0x000000000001", luns, UNITS);
    units_quiet();
    units.in = malloc(UNITS_BUFFER);
    units.in_expected = UINT32_MAX;
    units.fail_at = UINT32_MAX;
    units.attribute = SCSI_SIMPLE;
}

static inline void units_destroy(void)
{
    for (int i = 0; i < UNITS; i++)
        free(units.bytes[i]);
    free(units.in);
    free(units.scsi);
}

/* The shared record as the core keeps it: the version decides, and everybody hears of a change. */
static inline enum host_result units_state(const struct host_request *request)
{
    uint8_t volume = request->volume;
    const char *reason;

    if (request->state_version != units.version[volume])
        return HOST_STALE;
    CHECK(request->length_bytes <= VOLUME_STATE_BYTES);
    memcpy(units.record[volume], request->data, request->length_bytes);
    units.length[volume] = (uint32_t)request->length_bytes;
    units.version[volume]++;
    (void)!scsi_on_state(units.scsi, volume, units.version[volume], units.record[volume],
                         units.length[volume], &reason);
    CHECK(reason == NULL);
    return HOST_OK;
}

static inline enum host_result units_blocks(const struct host_request *request, uint64_t *detail)
{
    uint8_t *at = units.bytes[request->volume] + request->offset_bytes;
    uint8_t *data = request->data;
    uint64_t length = request->length_bytes;

    if ((request->flags & HOST_VERSIONED) &&
        request->state_version != units.version[request->volume])
        return HOST_STALE;
    CHECK(request->offset_bytes <= UNIT_BYTES);
    CHECK(length <= UNIT_BYTES - request->offset_bytes);
    switch (request->op) {
    case HOST_READ:
        memcpy(data, at, length);
        break;
    case HOST_WRITE:
        memcpy(at, data, length);
        break;
    case HOST_TRIM:
        /* Whole pages only: what is not one stays as it is. */
        CHECK(request->offset_bytes % PAGE_SIZE_BYTES == 0 && length % PAGE_SIZE_BYTES == 0);
        memset(at, 0, length);
        break;
    case HOST_ZERO:
        memset(at, 0, length);
        break;
    case HOST_COMPARE_WRITE:
        CHECK(length <= COMPARE_WRITE_BYTES);
        for (*detail = 0; *detail < length; (*detail)++)
            if (at[*detail] != data[*detail])
                return HOST_MISCOMPARE;
        memcpy(at, data + length, length);
        break;
    default:
        CHECK(request->op == HOST_FLUSH);
        break;
    }
    return HOST_OK;
}

static inline enum host_result units_carry_out(const struct host_request *request, uint64_t *detail)
{
    uint32_t number = units.requests++;

    *detail = 0;
    CHECK(request->volume < UNITS);
    if (number < REQUEST_LOG)
        units.log[number] = *request;
    if (units.before != NULL)
        units.before(request);
    if (number == units.fail_at)
        return units.fail_with;
    if (request->op == HOST_MOVE)
        return HOST_REFUSED;
    return request->op == HOST_STATE ? units_state(request) : units_blocks(request, detail);
}

/* One whole command. `out` holds out_bytes: what the initiator says that it sends. */
static inline uint8_t units_send(uint8_t lun, const uint8_t *cdb, uint32_t cdb_bytes,
                                 const void *out, uint32_t out_bytes)
{
    struct scsi_task *task = &units.task;
    uint8_t *buffer = NULL;
    enum scsi_step step;

    memset(task, 0xEE, sizeof *task); /* nothing may depend on what was there */
    task->nexus = units.nexus[units.nexus_used];
    memset(task->lun, 0, sizeof task->lun);
    task->lun[1] = lun;
    memset(task->cdb, 0, sizeof task->cdb);
    memcpy(task->cdb, cdb, cdb_bytes < SCSI_CDB_BYTES ? cdb_bytes : SCSI_CDB_BYTES);
    task->cdb_bytes = cdb_bytes;
    task->attribute = units.attribute;
    task->expected_out_bytes = out_bytes;
    task->expected_in_bytes = out_bytes > 0 ? 0 : units.in_expected;
    units.requests = 0;
    step = scsi_task_begin(units.scsi, task);
    for (int i = 0; step != SCSI_DONE; i++) {
        CHECK(i < STEP_LIMIT);
        switch (step) {
        case SCSI_BUFFER:
            CHECK(buffer == NULL);
            CHECK(task->buffer_bytes > 0 &&
                  task->buffer_bytes <= TRANSFER_BYTES + SCSI_PIECE_BYTES);
            CHECK(task->out_bytes <= out_bytes && task->out_bytes <= task->buffer_bytes);
            buffer = malloc(task->buffer_bytes);
            memset(buffer, 0xA5, task->buffer_bytes);
            for (uint32_t at = 0; at < task->out_bytes; at++)
                buffer[at] = ((const uint8_t *)out)[at];
            task->buffer = buffer;
            step = scsi_task_run(task);
            break;
        case SCSI_IO: {
            uint64_t detail;
            enum host_result result = units_carry_out(&task->request, &detail);
            step = scsi_task_io_done(task, result, detail);
            break;
        }
        default:
            CHECK(step == SCSI_MAP);
            step = scsi_task_map_done(task, units.extents, units.extent_count);
            break;
        }
    }
    CHECK(task->in_bytes <= task->expected_in_bytes);
    CHECK(task->in_bytes <= task->transfer_bytes);
    CHECK(task->sense_bytes <= SCSI_SENSE_BYTES);
    CHECK((task->status == SCSI_CHECK_CONDITION) == (task->sense_bytes > 0));
    if (task->in_bytes > 0) {
        CHECK(task->in_offset + task->in_bytes <= task->buffer_bytes);
        memcpy(units.in, buffer + task->in_offset, task->in_bytes);
    }
    free(buffer);
    return task->status;
}

/* A command without data-out, its bytes written out. */
#define SEND(lun, ...)                                                                             \
    units_send(lun, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), NULL, 0)
/* The same with data-out. */
#define SEND_OUT(lun, out, out_bytes, ...)                                                         \
    units_send(lun, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), out,   \
               out_bytes)

/* Sense key << 16 | additional sense code and qualifier; 0 without sense. Both formats. */
static inline uint32_t units_sense(void)
{
    const uint8_t *sense = units.task.sense;

    if (units.task.sense_bytes == 0)
        return 0;
    if ((sense[0] & 0x7F) == 0x72)
        return (uint32_t)(sense[1] & 15) << 16 | get_u16(sense + 2);
    return (uint32_t)(sense[2] & 15) << 16 | get_u16(sense + 12);
}

/* Where the field pointer points: byte * 16 + 8 + bit, or byte * 16 without one; in the parameter
 * list 65536 more; -1: none. Fixed format. */
static inline int units_field(void)
{
    const uint8_t *sense = units.task.sense;

    if (units.task.sense_bytes < 18 || !(sense[15] & 0x80))
        return -1;
    return (sense[15] & 0x40 ? 0 : 65536) + get_u16(sense + 16) * 16 +
           (sense[15] & 8 ? 8 + (sense[15] & 7) : 0);
}

#define FIELD(byte, bit) ((byte)*16 + 8 + (bit))
#define BYTE(byte)       ((byte)*16)
#define LIST(field)      (65536 + (field))

enum {
    INVALID_OPCODE = 0x52000,
    INVALID_CDB = 0x52400,
    INVALID_LIST = 0x52600,
    LIST_LENGTH_ERROR = 0x51A00,
    OUT_OF_RANGE = 0x52100,
    MISCOMPARE = 0xE1D00,
    WRITE_PROTECTED = 0x72700,
    NO_LUN = 0x52500,
};

#endif
