/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* COMPARE AND WRITE (SBC-3 5.2) and ORWRITE (SBC-3 5.5): a read, a decision and a write that no
 * other command comes between, at either controller. Both stand on the core's one atomic request;
 * nothing here holds a lock. */

#include "scsi/sense.h"

/* ---- COMPARE AND WRITE ---- */

enum scsi_step atomic_compare_begin(struct scsi_task *task)
{
    uint64_t bytes;

    task->lba = get_u64(task->cdb + 2);
    task->block_count = task->cdb[13];
    if (task->cdb[1] & 0xE0)
        return sense_invalid_field_in_cdb(task, 1, 7);
    if (!task_range_fits(task))
        return SCSI_DONE;
    bytes = task->block_count << task->unit->block_shift;
    if (bytes > COMPARE_WRITE_BYTES)
        return sense_invalid_field_in_cdb(task, 13, -1);
    task->writes = true;
    task->transfer_bytes = 2 * bytes;
    /* Half of an instance of the data cannot be compared or written. */
    if (task->expected_out_bytes != 2 * bytes)
        return sense_invalid_field_in_cdb(task, 13, -1);
    if (bytes == 0)
        return task_good(task);
    return task_buffer_out(task, 2 * bytes, (uint32_t)(2 * bytes));
}

enum scsi_step atomic_compare_run(struct scsi_task *task)
{
    return task_host(task, HOST_COMPARE_WRITE, task_fua(task), task->lba << task->unit->block_shift,
                     task->out_bytes / 2, task->buffer);
}

enum scsi_step atomic_compare_done(struct scsi_task *task, enum host_result result, uint64_t detail)
{
    if (result == HOST_MISCOMPARE)
        return sense_miscompare(task, (uint32_t)detail);
    if (result != HOST_OK)
        return task_host_error(task, result);
    return task_good(task);
}

/* ---- ORWRITE ---- */

enum {
    PHASE_READ,
    PHASE_WRITE,
    /* How often a piece is read again because somebody wrote it in between. */
    OR_RETRIES = 64
};

static enum scsi_step or_read(struct scsi_task *task)
{
    if (task->done_bytes == task->want_bytes)
        return task_good(task);
    task->phase = PHASE_READ;
    task->piece_bytes = (uint32_t)min_u64(task->want_bytes - task->done_bytes, COMPARE_WRITE_BYTES);
    return task_host(task, HOST_READ, 0, (task->lba << task->unit->block_shift) + task->done_bytes,
                     task->piece_bytes, task->buffer + task->out_bytes);
}

/* What was read stands behind the out data; what is to be written goes behind that. */
static enum scsi_step or_write(struct scsi_task *task)
{
    const uint8_t *sent = task->buffer + task->done_bytes;
    const uint8_t *old = task->buffer + task->out_bytes;
    uint8_t *wanted = task->buffer + task->out_bytes + task->piece_bytes;

    for (uint32_t i = 0; i < task->piece_bytes; i++)
        wanted[i] = old[i] | sent[i];
    task->phase = PHASE_WRITE;
    return task_host(task, HOST_COMPARE_WRITE, task_fua(task),
                     (task->lba << task->unit->block_shift) + task->done_bytes, task->piece_bytes,
                     task->buffer + task->out_bytes);
}

enum scsi_step atomic_or_begin(struct scsi_task *task)
{
    uint64_t bytes;

    task_range(task);
    if (task->cdb[1] & 0xE0)
        return sense_invalid_field_in_cdb(task, 1, 7);
    if (!task_range_fits(task) || !task_length_fits(task))
        return SCSI_DONE;
    bytes = task->block_count << task->unit->block_shift;
    task->done_bytes = 0;
    task->value[0] = 0;
    task->writes = true;
    task->transfer_bytes = bytes;
    if (min_u64(bytes, task->expected_out_bytes) < unit_block_bytes(task->unit))
        return task_good(task);
    return task_buffer_out(task, bytes,
                           (uint32_t)(bytes + 2 * min_u64(bytes, COMPARE_WRITE_BYTES)));
}

enum scsi_step atomic_or_run(struct scsi_task *task)
{
    task->want_bytes = task->out_bytes & ~(unit_block_bytes(task->unit) - 1);
    return or_read(task);
}

enum scsi_step atomic_or_done(struct scsi_task *task, enum host_result result, uint64_t detail)
{
    if (result == HOST_MISCOMPARE && task->phase == PHASE_WRITE) {
        /* Doing the whole command again gives the same, so BUSY is a safe answer. */
        if (++task->value[0] > OR_RETRIES)
            return task_status(task, SCSI_STATUS_BUSY);
        return or_read(task);
    }
    if (result != HOST_OK)
        return task_host_error(task, result);
    if (task->phase == PHASE_READ)
        return or_write(task);
    task->done_bytes += task->piece_bytes;
    return or_read(task);
}
