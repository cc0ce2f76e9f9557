/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Shipped requests as SCSI commands. Where the standard has a command and a bit for it, that is
 * used, with blocks of 512 bytes; a request that is not whole blocks has bit 6 of the operation
 * code set, which makes it a vendor specific one (SPC-4 4.2.5.1) whose units are bytes. It never
 * reads past the fixed sizes and refuses what it would not have written itself. */

#include "shell/ship_wire.h"

#include "base/bytes.h"

#include <string.h>

enum {
    OP_WRITE_BUFFER = 0x3B,
    OP_READ_16 = 0x88,
    OP_COMPARE_AND_WRITE = 0x89,
    OP_WRITE_16 = 0x8A,
    OP_SYNCHRONIZE_CACHE_16 = 0x91,
    OP_WRITE_SAME_16 = 0x93,
    OP_MAINTENANCE_OUT = 0xA4,
    OP_IN_BYTES = 0x40, /* added to READ(16), COMPARE AND WRITE, WRITE(16), WRITE SAME(16) */

    SET_TARGET_PORT_GROUPS = 0x0A, /* service action */
    PARAMETERS_BYTES = 8,
    BUFFER_MODE_DATA = 0x02,
    BUFFER_ID_STATE = 2,
    BIT_FUA = 0x08,   /* byte 1 of READ, WRITE, COMPARE AND WRITE */
    BIT_UNMAP = 0x08, /* byte 1 of WRITE SAME(16) ... */
    BIT_NDOB = 0x01,  /* ... no data-out buffer: zeros (SBC-3 5.53) */

    /* Byte 14, GROUP NUMBER; for WRITE BUFFER byte 9, CONTROL, in its vendor specific bits. */
    FLAG_FUA = 0x01, /* WRITE SAME has no bit of its own for it */
    FLAG_NO_HOLE = 0x02,
    FLAG_VERSIONED = 0x04,
    CONTROL_BARRIER = 0x40,

    ASC_STALE = 0x80, /* vendor specific */
};

static const struct row {
    uint8_t op, opcode;
    bool in, out;
    uint8_t fixed; /* bits of byte 1 that say which operation it is */
    uint8_t flags; /* host flags that it may carry */
} rows[] = {
    {HOST_READ, OP_READ_16, true, false, 0, HOST_FUA | HOST_VERSIONED},
    {HOST_WRITE, OP_WRITE_16, false, true, 0, HOST_FUA | HOST_VERSIONED},
    {HOST_COMPARE_WRITE, OP_COMPARE_AND_WRITE, false, true, 0, HOST_FUA | HOST_VERSIONED},
    {HOST_FLUSH, OP_SYNCHRONIZE_CACHE_16, false, false, 0, HOST_FUA | HOST_VERSIONED},
    {HOST_TRIM, OP_WRITE_SAME_16, false, false, BIT_UNMAP | BIT_NDOB, HOST_FUA | HOST_VERSIONED},
    {HOST_ZERO, OP_WRITE_SAME_16, false, false, BIT_NDOB, HOST_FUA | HOST_NO_HOLE | HOST_VERSIONED},
};

static const uint8_t groups[2][PARAMETERS_BYTES] = {
    {0, 0, 0, 0, 0 /* active/optimized */, 0, 0, 1},
    {0, 0, 0, 0, 0, 0, 0, 2},
};

static bool has_fua_bit(uint8_t opcode)
{
    uint8_t base = opcode & (uint8_t)~OP_IN_BYTES;
    return base == OP_READ_16 || base == OP_WRITE_16 || base == OP_COMPARE_AND_WRITE;
}

static uint32_t data_bytes(const struct host_request *request)
{
    uint32_t length = (uint32_t)request->length_bytes;
    return request->op == HOST_COMPARE_WRITE ? 2 * length : length;
}

static void encode_flags(const struct host_request *request, uint8_t *cdb)
{
    if (request->flags & HOST_FUA) {
        if (has_fua_bit(cdb[0]))
            cdb[1] |= BIT_FUA;
        else
            cdb[14] |= FLAG_FUA;
    }
    if (request->flags & HOST_NO_HOLE)
        cdb[14] |= FLAG_NO_HOLE;
    if (request->flags & HOST_VERSIONED)
        cdb[14] |= FLAG_VERSIONED;
}

static void encode_range(const struct host_request *request, uint8_t *cdb)
{
    uint64_t offset = request->offset_bytes, length = request->length_bytes;
    bool blocks = offset % SECTOR_SIZE == 0 && length % SECTOR_SIZE == 0;
    CHECK(length <= UINT32_MAX);
    if (cdb[0] == OP_COMPARE_AND_WRITE && length / SECTOR_SIZE > UINT8_MAX)
        blocks = false; /* its count is one byte */
    if (!blocks)
        cdb[0] |= OP_IN_BYTES;
    put_u64(cdb + 2, blocks ? offset / SECTOR_SIZE : offset);
    put_u32(cdb + 10, (uint32_t)(blocks ? length / SECTOR_SIZE : length));
}

void ship_encode(const struct host_request *request, struct ship_command *command)
{
    uint8_t *cdb = command->cdb;
    memset(command, 0, sizeof *command);
    command->lun[0] = 0x40; /* flat space addressing (SAM-5 4.7.7.3) */
    command->lun[1] = request->volume;
    put_u32(command->lun + 4, request->state_version);
    if (request->op == HOST_STATE) {
        cdb[0] = OP_WRITE_BUFFER;
        cdb[1] = BUFFER_MODE_DATA;
        cdb[2] = BUFFER_ID_STATE;
        put_u24(cdb + 6, (uint32_t)request->length_bytes);
        cdb[9] = request->flags & HOST_BARRIER ? CONTROL_BARRIER : 0;
        command->out_bytes = (uint32_t)request->length_bytes;
        return;
    }
    if (request->op == HOST_MOVE) {
        cdb[0] = OP_MAINTENANCE_OUT;
        cdb[1] = SET_TARGET_PORT_GROUPS;
        put_u32(cdb + 6, PARAMETERS_BYTES);
        command->out_bytes = PARAMETERS_BYTES;
        return;
    }
    const struct row *row = NULL;
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++)
        if (rows[i].op == request->op)
            row = &rows[i];
    CHECK(row);
    cdb[0] = row->opcode;
    cdb[1] = row->fixed;
    if (request->op != HOST_FLUSH)
        encode_range(request, cdb);
    encode_flags(request, cdb);
    command->in_bytes = row->in ? data_bytes(request) : 0;
    command->out_bytes = row->out ? data_bytes(request) : 0;
}

const void *ship_parameters(const struct host_request *request)
{
    return request->op == HOST_MOVE ? groups[request->offset_bytes != 0] : NULL;
}

/* ---- the way back ---- */

static const char *decode_state(const struct ship_command *command, struct host_request *request)
{
    const uint8_t *cdb = command->cdb;
    if (cdb[1] != BUFFER_MODE_DATA || cdb[2] != BUFFER_ID_STATE || get_u24(cdb + 3) != 0 ||
        (cdb[9] & ~CONTROL_BARRIER) != 0)
        return "a WRITE BUFFER that is no state record";
    request->op = HOST_STATE;
    request->length_bytes = get_u24(cdb + 6);
    request->flags = cdb[9] & CONTROL_BARRIER ? HOST_BARRIER : 0;
    if (request->length_bytes > VOLUME_STATE_BYTES || command->out_bytes != request->length_bytes)
        return "a state record of a wrong length";
    return NULL;
}

static const char *decode_range(const struct ship_command *command, struct host_request *request)
{
    const uint8_t *cdb = command->cdb;
    uint64_t offset = get_u64(cdb + 2), length = get_u32(cdb + 10);
    if (!(cdb[0] & OP_IN_BYTES)) {
        if (offset > UINT64_MAX / SECTOR_SIZE)
            return "a block past the end of any volume";
        offset *= SECTOR_SIZE;
        length *= SECTOR_SIZE;
    }
    uint64_t most = request->op == HOST_COMPARE_WRITE                       ? COMPARE_WRITE_BYTES
                    : request->op == HOST_READ || request->op == HOST_WRITE ? SHIP_BYTES
                                                                            : UINT32_MAX;
    if (length == 0 || length > most)
        return "a length that is not taken";
    request->offset_bytes = offset;
    request->length_bytes = length;
    return NULL;
}

static const struct row *row_of(const uint8_t *cdb)
{
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        bool in_bytes = rows[i].op != HOST_FLUSH && cdb[0] == (rows[i].opcode | OP_IN_BYTES);
        uint8_t fixed = has_fua_bit(rows[i].opcode) ? cdb[1] & (uint8_t)~BIT_FUA : cdb[1];
        if ((cdb[0] == rows[i].opcode || in_bytes) && fixed == rows[i].fixed)
            return &rows[i];
    }
    return NULL;
}

const char *ship_decode(const struct ship_command *command, uint32_t volume_count,
                        struct host_request *request)
{
    const uint8_t *cdb = command->cdb, *lun = command->lun;
    memset(request, 0, sizeof *request);
    if (lun[0] != 0x40 || lun[1] >= volume_count || lun[2] != 0 || lun[3] != 0)
        return "a volume that is not there";
    request->volume = lun[1];
    request->state_version = get_u32(lun + 4);
    if (cdb[0] == OP_WRITE_BUFFER)
        return decode_state(command, request);
    if (cdb[0] == OP_MAINTENANCE_OUT) {
        request->op = HOST_MOVE;
        bool good = cdb[1] == SET_TARGET_PORT_GROUPS && get_u32(cdb + 6) == PARAMETERS_BYTES &&
                    command->out_bytes == PARAMETERS_BYTES;
        return good ? NULL : "a MAINTENANCE OUT that is no move";
    }
    const struct row *row = row_of(cdb);
    if (!row)
        return "a command that is not known";
    request->op = (enum host_op)row->op;
    const char *wrong = request->op == HOST_FLUSH ? NULL : decode_range(command, request);
    if (wrong)
        return wrong;
    if (has_fua_bit(cdb[0]) ? cdb[1] & BIT_FUA : cdb[14] & FLAG_FUA)
        request->flags |= HOST_FUA;
    if (cdb[14] & FLAG_NO_HOLE)
        request->flags |= HOST_NO_HOLE;
    if (cdb[14] & FLAG_VERSIONED)
        request->flags |= HOST_VERSIONED;
    if ((request->flags & ~row->flags) != 0)
        return "a flag that the command does not take";
    if (command->in_bytes != (row->in ? data_bytes(request) : 0) ||
        command->out_bytes != (row->out ? data_bytes(request) : 0))
        return "an expected length that is not the command's";
    return NULL;
}

const char *ship_decode_move(const uint8_t *parameters, struct host_request *request)
{
    for (uint32_t i = 0; i < ARRAY_LENGTH(groups); i++)
        if (memcmp(parameters, groups[i], PARAMETERS_BYTES) == 0) {
            request->offset_bytes = i;
            return NULL;
        }
    return "target port groups that are not ours";
}

/* ---- results ---- */

static const struct result_row {
    enum host_result result;
    uint8_t key, asc, ascq;
} results[] = {
    {HOST_NOT_OWNER, 0x02, 0x04, 0x0C}, /* NOT READY, TARGET PORT IN UNAVAILABLE STATE */
    {HOST_RANGE, 0x05, 0x21, 0x00},     /* LOGICAL BLOCK ADDRESS OUT OF RANGE */
    {HOST_IO_ERROR, 0x03, 0x11, 0x00},  /* UNRECOVERED READ ERROR */
    {HOST_MISCOMPARE, 0x0E, 0x1D, 0x00}, {HOST_STALE, 0x0B, ASC_STALE, 0x00},
    {HOST_REFUSED, 0x04, 0x67, 0x0A},   /* SET TARGET PORT GROUPS COMMAND FAILED */
    {HOST_COPY, 0x02, 0x04, 0x03},      /* NOT READY, MANUAL INTERVENTION REQUIRED */
    {HOST_READ_ONLY, 0x07, 0x27, 0x00}, /* WRITE PROTECTED */
};

uint8_t ship_encode_result(enum host_result result, uint64_t detail,
                           uint8_t sense[SHIP_SENSE_BYTES], uint32_t *sense_bytes)
{
    *sense_bytes = 0;
    if (result == HOST_OK)
        return SHIP_STATUS_GOOD;
    for (size_t i = 0; i < ARRAY_LENGTH(results); i++) {
        if (results[i].result != result)
            continue;
        memset(sense, 0, SHIP_SENSE_BYTES);
        sense[0] = 0x70; /* fixed format, current (SPC-4 4.5.3) */
        if (result == HOST_MISCOMPARE) {
            sense[0] |= 0x80; /* VALID: INFORMATION holds where */
            put_u32(sense + 3, (uint32_t)detail);
        }
        sense[2] = results[i].key;
        sense[7] = SHIP_SENSE_BYTES - 8;
        sense[12] = results[i].asc;
        sense[13] = results[i].ascq;
        *sense_bytes = SHIP_SENSE_BYTES;
        return SHIP_STATUS_CHECK_CONDITION;
    }
    return SHIP_STATUS_TASK_SET_FULL;
}

bool ship_decode_result(uint8_t status, const uint8_t *sense, uint32_t sense_bytes,
                        enum host_result *result, uint64_t *detail)
{
    *detail = 0;
    if (status == SHIP_STATUS_GOOD || status == SHIP_STATUS_TASK_SET_FULL) {
        *result = status == SHIP_STATUS_GOOD ? HOST_OK : HOST_BUSY;
        return true;
    }
    if (status != SHIP_STATUS_CHECK_CONDITION || sense_bytes < SHIP_SENSE_BYTES ||
        (sense[0] & 0x7f) != 0x70)
        return false;
    for (size_t i = 0; i < ARRAY_LENGTH(results); i++)
        if (results[i].key == (sense[2] & 0x0f) && results[i].asc == sense[12] &&
            results[i].ascq == sense[13]) {
            *result = results[i].result;
            *detail = sense[0] & 0x80 ? get_u32(sense + 3) : 0;
            return true;
        }
    return false;
}
