/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Commands that only tell: TEST UNIT READY, REQUEST SENSE, REPORT LUNS, READ CAPACITY, READ DEFECT
 * DATA, REPORT SUPPORTED OPERATION CODES and TASK MANAGEMENT FUNCTIONS
 * (SPC-4 6.33, 6.35, 6.36, 6.39, 6.47; SBC-3 5.15 to 5.18). None of them makes a request to the
 * core or changes anything but the unit attentions that it reports. */

#include "scsi/command.h"
#include "scsi/sense.h"

enum scsi_step report_ready_begin(struct scsi_task *task)
{
    return task_good(task);
}

/* ---- REQUEST SENSE ---- */

enum scsi_step report_sense_begin(struct scsi_task *task)
{
    return task_buffer_in(task, SCSI_SENSE_BYTES);
}

enum scsi_step report_sense_run(struct scsi_task *task)
{
    bool descriptor = (task->cdb[1] & 0x01) != 0;
    enum sense_key key = SENSE_NO_SENSE;
    uint16_t additional = 0;

    if (task->unit == NULL) {
        key = SENSE_ILLEGAL_REQUEST;
        additional = 0x2500;
    } else if (task->access->attentions != 0) {
        enum attention attention = (enum attention)__builtin_ctz(task->access->attentions);
        task->access->attentions &= (uint16_t)~attention_bit(attention);
        key = SENSE_UNIT_ATTENTION;
        additional = sense_of_attention(attention);
    }
    return task_in(task, sense_make(task->buffer, descriptor, key, additional), task->cdb[4]);
}

/* ---- REPORT LUNS ---- */

enum { LUNS_HEADER_BYTES = 8, LUN_BYTES = 8 };

enum scsi_step report_luns_begin(struct scsi_task *task)
{
    if (task->cdb[2] > 2) /* SELECT REPORT */
        return sense_invalid_field_in_cdb(task, 2, -1);
    return task_buffer_in(task, LUNS_HEADER_BYTES + SCSI_LUN_LIMIT * LUN_BYTES);
}

enum scsi_step report_luns_run(struct scsi_task *task)
{
    uint8_t *to = task->buffer;
    uint32_t at = LUNS_HEADER_BYTES;

    memset(to, 0, LUNS_HEADER_BYTES);
    /* 01h asks for well known logical units; there are none. */
    for (uint32_t lun = 0; lun < SCSI_LUN_LIMIT && task->cdb[2] != 1; lun++) {
        if (!task->nexus->luns[lun].present)
            continue;
        put_u64(to + at, (uint64_t)lun << 48); /* peripheral device addressing, bus 0 */
        at += LUN_BYTES;
    }
    put_u32(to, at - LUNS_HEADER_BYTES);
    return task_in(task, at, get_u32(task->cdb + 6));
}

/* ---- READ CAPACITY ---- */

enum scsi_step report_capacity10_begin(struct scsi_task *task)
{
    if (!(task->cdb[8] & 0x01) && get_u32(task->cdb + 2) != 0) /* LBA without PMI */
        return sense_invalid_field_in_cdb(task, 2, -1);
    return task_buffer_in(task, 8);
}

enum scsi_step report_capacity10_run(struct scsi_task *task)
{
    put_u32(task->buffer, (uint32_t)min_u64(task->unit->block_count - 1, UINT32_MAX));
    put_u32(task->buffer + 4, unit_block_bytes(task->unit));
    return task_in(task, 8, 8);
}

enum scsi_step report_capacity16_begin(struct scsi_task *task)
{
    return task_buffer_in(task, 32);
}

enum scsi_step report_capacity16_run(struct scsi_task *task)
{
    uint8_t *to = task->buffer;

    memset(to, 0, 32);
    put_u64(to, task->unit->block_count - 1);
    put_u32(to + 8, unit_block_bytes(task->unit));
    to[13] = task->unit->block_shift == 9 ? 3 : 0; /* physical blocks of 4096 bytes */
    to[14] = task->unit->thin ? 0x80 | 0x40 : 0;   /* LBPME, LBPRZ */
    return task_in(task, 32, get_u32(task->cdb + 10));
}

/* ---- READ DEFECT DATA: both lists are empty ---- */

enum scsi_step report_defects_begin(struct scsi_task *task)
{
    return task_buffer_in(task, 8);
}

enum scsi_step report_defects_run(struct scsi_task *task)
{
    bool twelve = task->cdb[0] == 0xB7;

    memset(task->buffer, 0, 8);
    /* PLISTV, GLISTV and the format, as asked for. */
    task->buffer[1] = task->cdb[twelve ? 1 : 2] & 0x1F;
    if (twelve)
        return task_in(task, 8, get_u32(task->cdb + 6));
    return task_in(task, 4, get_u16(task->cdb + 7));
}

/* ---- REPORT SUPPORTED OPERATION CODES ---- */

enum {
    OPTIONS_ALL = 0,
    OPTIONS_OPCODE = 1,
    OPTIONS_SERVICE_ACTION = 2,
    OPTIONS_EITHER = 3,

    TIMEOUT_BYTES = 12,
    OPCODES_BYTES = 4 + COMMAND_LIMIT * (8 + TIMEOUT_BYTES),
    NOT_SUPPORTED = 1,
    SUPPORTED = 3,
};

/* SPC-4 6.35.4: no estimates are given. */
static uint32_t put_timeouts(uint8_t *to)
{
    memset(to, 0, TIMEOUT_BYTES);
    to[1] = TIMEOUT_BYTES - 2;
    return TIMEOUT_BYTES;
}

/* The command of an opcode without service action; any of its commands when it has them. */
static const struct scsi_command *of_opcode(uint8_t opcode)
{
    for (uint32_t i = 0; i < command_count; i++)
        if (commands[i].opcode == opcode)
            return &commands[i];
    return NULL;
}

static const struct scsi_command *of_service_action(uint8_t opcode, uint16_t service_action)
{
    for (uint32_t i = 0; i < command_count; i++)
        if (commands[i].opcode == opcode && commands[i].has_service_action &&
            commands[i].service_action == service_action)
            return &commands[i];
    return NULL;
}

/* What the one-command form is about, or NULL when it is not supported. */
static const struct scsi_command *asked(const struct scsi_task *task)
{
    const struct scsi_command *command = of_opcode(task->cdb[3]);

    if (command != NULL && command->has_service_action)
        command = of_service_action(task->cdb[3], get_u16(task->cdb + 4));
    /* The table has it for volumes that can discard. */
    if (command != NULL && (command->flags & COMMAND_THIN) && !task->unit->thin)
        return NULL;
    return command;
}

enum scsi_step report_opcodes_begin(struct scsi_task *task)
{
    uint8_t options = task->cdb[2] & 0x07;
    const struct scsi_command *command = of_opcode(task->cdb[3]);

    if (options > OPTIONS_EITHER)
        return sense_invalid_field_in_cdb(task, 2, 2);
    if (options == OPTIONS_OPCODE && command != NULL && command->has_service_action)
        return sense_invalid_field_in_cdb(task, 2, 2);
    if (options == OPTIONS_SERVICE_ACTION && command != NULL && !command->has_service_action)
        return sense_invalid_field_in_cdb(task, 2, 2);
    return task_buffer_in(task, OPCODES_BYTES);
}

static uint32_t put_all(const struct scsi_task *task, uint8_t *to, bool timeouts)
{
    uint32_t at = 4;

    for (uint32_t i = 0; i < command_count; i++) {
        const struct scsi_command *command = &commands[i];
        if ((command->flags & COMMAND_THIN) && !task->unit->thin)
            continue;
        memset(to + at, 0, 8);
        to[at] = command->opcode;
        put_u16(to + at + 2, command->service_action);
        to[at + 5] = (timeouts ? 0x02 : 0) | (command->has_service_action ? 0x01 : 0);
        put_u16(to + at + 6, command->cdb_bytes);
        at += 8;
        if (timeouts)
            at += put_timeouts(to + at);
    }
    put_u32(to, at - 4);
    return at;
}

static uint32_t put_one(const struct scsi_task *task, uint8_t *to, bool timeouts)
{
    const struct scsi_command *command = asked(task);
    uint32_t at = 4;

    memset(to, 0, 4);
    to[1] = NOT_SUPPORTED;
    if (command == NULL)
        return at;
    to[1] = (timeouts ? 0x80 : 0) | SUPPORTED;
    put_u16(to + 2, command->cdb_bytes);
    memcpy(to + at, command->usage, command->cdb_bytes);
    to[at] = command->opcode;
    at += command->cdb_bytes;
    if (timeouts)
        at += put_timeouts(to + at);
    return at;
}

enum scsi_step report_opcodes_run(struct scsi_task *task)
{
    bool timeouts = (task->cdb[2] & 0x80) != 0; /* RCTD */
    bool all = (task->cdb[2] & 0x07) == OPTIONS_ALL;
    uint32_t length =
        all ? put_all(task, task->buffer, timeouts) : put_one(task, task->buffer, timeouts);

    return task_in(task, length, get_u32(task->cdb + 6));
}

/* ---- REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS ---- */

enum scsi_step report_functions_begin(struct scsi_task *task)
{
    return task_buffer_in(task, 16);
}

enum scsi_step report_functions_run(struct scsi_task *task)
{
    bool extended = (task->cdb[2] & 0x80) != 0; /* REPD */

    memset(task->buffer, 0, 16);
    /* ATS, ATSS, CTSS, LURS, TRS: ABORT TASK, ABORT and CLEAR TASK SET, LOGICAL UNIT RESET, TARGET
     * RESET. */
    task->buffer[0] = 0x80 | 0x40 | 0x10 | 0x08 | 0x02;
    if (extended)
        task->buffer[3] = 12;
    return task_in(task, extended ? 16 : 4, get_u32(task->cdb + 6));
}
