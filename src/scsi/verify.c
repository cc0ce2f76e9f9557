/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* VERIFY and WRITE AND VERIFY (SBC-3 5.29 to 5.31, 5.37 to 5.39): what is stored is read back, a
 * piece at a time, and compared with what the initiator sent. VERIFY changes nothing. A WRITE AND
 * VERIFY reads back only after its write is as safe as one with FUA. */

#include "scsi/sense.h"

enum { BYTCHK_READABLE = 0, BYTCHK_COMPARE = 1, BYTCHK_ONE_BLOCK = 3 };

enum { PHASE_WRITE, PHASE_READ };

static uint8_t bytchk(const struct scsi_task *task)
{
    return task->cdb[1] >> 1 & 3;
}

/* The first byte that differs, or `length`. */
static uint32_t first_difference(const uint8_t *a, const uint8_t *b, uint32_t length)
{
    uint32_t at = 0;

    if (memcmp(a, b, length) == 0)
        return length;
    while (a[at] == b[at])
        at++;
    return at;
}

/* Read the next piece of want_bytes behind the out data, or be done. */
static enum scsi_step next_piece(struct scsi_task *task)
{
    if (task->done_bytes == task->want_bytes)
        return task_good(task);
    task->phase = PHASE_READ;
    task->piece_bytes = (uint32_t)min_u64(task->want_bytes - task->done_bytes,
                                          task->buffer_bytes - task->out_bytes);
    return task_host(task, HOST_READ, 0, (task->lba << task->unit->block_shift) + task->done_bytes,
                     task->piece_bytes, task->buffer + task->out_bytes);
}

static enum scsi_step compare_piece(struct scsi_task *task)
{
    const uint8_t *medium = task->buffer + task->out_bytes;
    uint32_t block = unit_block_bytes(task->unit);
    uint32_t at;

    if (bytchk(task) == BYTCHK_COMPARE) {
        at = first_difference(task->buffer + task->done_bytes, medium, task->piece_bytes);
        if (at < task->piece_bytes)
            return sense_miscompare(task, (uint32_t)(task->done_bytes + at));
    } else if (bytchk(task) == BYTCHK_ONE_BLOCK) {
        for (uint32_t from = 0; from < task->piece_bytes; from += block) {
            at = first_difference(task->buffer, medium + from, block);
            if (at < block)
                return sense_miscompare(task, at);
        }
    }
    task->done_bytes += task->piece_bytes;
    return next_piece(task);
}

/* Room for the out data and one piece behind it. */
static uint32_t buffer_for(const struct scsi_task *task, uint64_t out_bytes)
{
    return (uint32_t)(out_bytes + min_u64(task->want_bytes, SCSI_PIECE_BYTES));
}

static bool fields_fit(struct scsi_task *task, bool one_block)
{
    task_range(task);
    if (task->cdb[1] & 0xE0) {
        (void)sense_invalid_field_in_cdb(task, 1, 7);
        return false;
    }
    if (bytchk(task) == 2 || (bytchk(task) == BYTCHK_ONE_BLOCK && !one_block)) {
        (void)sense_invalid_field_in_cdb(task, 1, 2);
        return false;
    }
    return task_range_fits(task);
}

/* ---- VERIFY ---- */

enum scsi_step verify_begin(struct scsi_task *task)
{
    uint32_t block = unit_block_bytes(task->unit);
    uint64_t bytes, out;

    if (!fields_fit(task, true))
        return SCSI_DONE;
    if (bytchk(task) == BYTCHK_COMPARE && !task_length_fits(task))
        return SCSI_DONE;
    bytes = task->block_count << task->unit->block_shift;
    task->done_bytes = 0;
    task->want_bytes = bytes;
    if (bytes == 0)
        return task_good(task);
    if (bytchk(task) == BYTCHK_READABLE) {
        task->buffer_bytes = buffer_for(task, 0);
        return SCSI_BUFFER;
    }
    out = bytchk(task) == BYTCHK_COMPARE ? bytes : block;
    return task_buffer_out(task, out, buffer_for(task, out));
}

enum scsi_step verify_run(struct scsi_task *task)
{
    uint32_t whole = task->out_bytes & ~(unit_block_bytes(task->unit) - 1);

    /* Only what came can be compared. */
    if (bytchk(task) == BYTCHK_COMPARE)
        task->want_bytes = whole;
    else if (bytchk(task) == BYTCHK_ONE_BLOCK && whole == 0)
        task->want_bytes = 0;
    return next_piece(task);
}

enum scsi_step verify_done(struct scsi_task *task, enum host_result result, uint64_t detail)
{
    if (result != HOST_OK)
        return task_host_error(task, result);
    return compare_piece(task);
}

/* ---- WRITE AND VERIFY ---- */

enum scsi_step verify_write_begin(struct scsi_task *task)
{
    uint64_t bytes;

    if (!fields_fit(task, false) || !task_length_fits(task))
        return SCSI_DONE;
    bytes = task->block_count << task->unit->block_shift;
    task->done_bytes = 0;
    task->want_bytes = min_u64(bytes, task->expected_out_bytes);
    task->want_bytes &= ~(uint64_t)(unit_block_bytes(task->unit) - 1);
    task->writes = true;
    task->transfer_bytes = bytes;
    if (task->want_bytes == 0)
        return task_good(task);
    return task_buffer_out(task, bytes, buffer_for(task, bytes));
}

enum scsi_step verify_write_run(struct scsi_task *task)
{
    task->phase = PHASE_WRITE;
    return task_host(task, HOST_WRITE, HOST_FUA, task->lba << task->unit->block_shift,
                     task->want_bytes, task->buffer);
}

enum scsi_step verify_write_done(struct scsi_task *task, enum host_result result, uint64_t detail)
{
    if (result != HOST_OK)
        return task_host_error(task, result);
    return task->phase == PHASE_WRITE ? next_piece(task) : compare_piece(task);
}
