/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* WRITE BUFFER, READ BUFFER and SEND DIAGNOSTIC (SPC-4 6.18, 6.42, 6.49): a small data buffer and
 * an echo buffer for each logical unit, at each controller, for tests of the path. They touch
 * neither the volume nor the program; every mode that would (microcode) is refused. */

#include "scsi/sense.h"

enum {
    MODE_DATA = 0x02,
    MODE_DESCRIPTOR = 0x03,
    MODE_ECHO = 0x0A,
    MODE_ECHO_DESCRIPTOR = 0x0B,
};

static uint8_t mode_of(const struct scsi_task *task)
{
    return task->cdb[1] & 0x1F;
}

/* Buffer id, offset and length of the data mode; the echo mode has no use for the first two. */
static bool place_fits(struct scsi_task *task, bool writes)
{
    uint32_t offset = get_u24(task->cdb + 3), length = get_u24(task->cdb + 6);

    if (mode_of(task) == MODE_ECHO) {
        if (writes && length > sizeof task->unit->echo) {
            (void)sense_invalid_field_in_cdb(task, 6, -1);
            return false;
        }
        return true;
    }
    if (task->cdb[2] != 0) { /* BUFFER ID */
        (void)sense_invalid_field_in_cdb(task, 2, -1);
        return false;
    }
    if (offset > sizeof task->unit->data || offset % 4 != 0) {
        (void)sense_invalid_field_in_cdb(task, 3, -1);
        return false;
    }
    if (writes && length > sizeof task->unit->data - offset) {
        (void)sense_invalid_field_in_cdb(task, 6, -1);
        return false;
    }
    return true;
}

enum scsi_step buffer_write_begin(struct scsi_task *task)
{
    uint32_t length = get_u24(task->cdb + 6);

    if (mode_of(task) != MODE_DATA && mode_of(task) != MODE_ECHO)
        return sense_invalid_field_in_cdb(task, 1, 4);
    if (!place_fits(task, true))
        return SCSI_DONE;
    if (length == 0)
        return task_good(task);
    return task_buffer_out(task, length, length);
}

enum scsi_step buffer_write_run(struct scsi_task *task)
{
    struct scsi_unit *unit = task->unit;

    if (mode_of(task) == MODE_DATA) {
        memcpy(unit->data + get_u24(task->cdb + 3), task->buffer, task->out_bytes);
    } else {
        memcpy(unit->echo, task->buffer, task->out_bytes);
        unit->echo_bytes = task->out_bytes;
        unit->echo_by = task->nexus;
    }
    return task_good(task);
}

enum scsi_step buffer_read_begin(struct scsi_task *task)
{
    switch (mode_of(task)) {
    case MODE_DATA:
    case MODE_ECHO:
        if (!place_fits(task, false))
            return SCSI_DONE;
        break;
    case MODE_DESCRIPTOR:
    case MODE_ECHO_DESCRIPTOR:
        break;
    default:
        return sense_invalid_field_in_cdb(task, 1, 4);
    }
    return task_buffer_in(task, sizeof task->unit->data);
}

enum scsi_step buffer_read_run(struct scsi_task *task)
{
    const struct scsi_unit *unit = task->unit;
    uint32_t limit = get_u24(task->cdb + 6), offset = get_u24(task->cdb + 3), length = 4;
    uint8_t *to = task->buffer;

    memset(to, 0, 4);
    switch (mode_of(task)) {
    case MODE_DATA:
        length = (uint32_t)sizeof unit->data - offset;
        memcpy(to, unit->data + offset, length);
        break;
    case MODE_ECHO:
        if (unit->echo_by == NULL)
            return sense_sequence_error(task);
        if (unit->echo_by != task->nexus)
            return sense_echo_overwritten(task);
        length = unit->echo_bytes;
        memcpy(to, unit->echo, length);
        break;
    case MODE_DESCRIPTOR:
        to[0] = 2; /* offsets are multiples of 4 */
        if (task->cdb[2] == 0)
            put_u24(to + 1, sizeof unit->data);
        break;
    default:
        to[0] = 0x01; /* EBOS: another nexus's write is noticed */
        put_u16(to + 2, sizeof unit->echo);
        break;
    }
    return task_in(task, length, limit);
}

/* ---- SEND DIAGNOSTIC: the default self-test passes; there are no pages ---- */

enum scsi_step buffer_diagnostic_begin(struct scsi_task *task)
{
    if (task->cdb[1] & 0xE0) /* SELF-TEST CODE */
        return sense_invalid_field_in_cdb(task, 1, 7);
    if (get_u16(task->cdb + 3) != 0)
        return sense_invalid_field_in_cdb(task, 3, -1);
    return task_good(task);
}
