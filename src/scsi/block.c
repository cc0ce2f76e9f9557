/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Blocks in and out (SBC-3 5.8 to 5.13, 5.26, 5.27, 5.33 to 5.35): READ, WRITE, SYNCHRONIZE
 * CACHE, PRE-FETCH. A READ or WRITE is one request to the core. When the initiator expects to move
 * less than the CDB says, no more than that is moved, in whole blocks for a WRITE; the residual
 * count tells it (RFC 7143 11.4.5). */

#include "scsi/sense.h"

void task_range(struct scsi_task *task)
{
    const uint8_t *cdb = task->cdb;

    switch (cdb[0] >> 5) {
    case 0:
        task->lba = get_u24(cdb + 1) & 0x1FFFFF;
        task->block_count = cdb[4] != 0 ? cdb[4] : 256;
        break;
    case 1:
    case 2:
        task->lba = get_u32(cdb + 2);
        task->block_count = get_u16(cdb + 7);
        break;
    case 4:
        task->lba = get_u64(cdb + 2);
        task->block_count = get_u32(cdb + 10);
        break;
    default:
        task->lba = get_u32(cdb + 2);
        task->block_count = get_u32(cdb + 6);
        break;
    }
}

bool task_range_fits(struct scsi_task *task)
{
    uint64_t blocks = task->unit->block_count;

    if (__builtin_expect(task->lba >= blocks || task->block_count > blocks - task->lba, 0)) {
        (void)sense_lba_out_of_range(task);
        return false;
    }
    return true;
}

/* Where the length field stands in a CDB of this size. */
static uint16_t length_field(const struct scsi_task *task)
{
    switch (task->cdb[0] >> 5) {
    case 0:
        return 4;
    case 1:
    case 2:
        return 7;
    case 4:
        return 10;
    default:
        return 6;
    }
}

bool task_length_fits(struct scsi_task *task)
{
    if (__builtin_expect(
            task->block_count > task->scsi->config.transfer_bytes >> task->unit->block_shift, 0)) {
        (void)sense_invalid_field_in_cdb(task, length_field(task), -1);
        return false;
    }
    return true;
}

uint8_t task_fua(const struct scsi_task *task)
{
    bool in_cdb = task->cdb[0] >> 5 != 0 && (task->cdb[1] & 0x08) != 0;

    return in_cdb || task->unit->record.mode.write_cache_disabled ? HOST_FUA : 0;
}

/* RDPROTECT, WRPROTECT: no protection information (SBC-3 4.22). */
static bool protects(const struct scsi_task *task)
{
    return task->cdb[0] >> 5 != 0 && (task->cdb[1] & 0xE0) != 0;
}

/* ---- READ ---- */

enum scsi_step block_read_begin(struct scsi_task *task)
{
    task_range(task);
    if (protects(task))
        return sense_invalid_field_in_cdb(task, 1, 7);
    if (!task_range_fits(task) || !task_length_fits(task))
        return SCSI_DONE;
    task->transfer_bytes = task->block_count << task->unit->block_shift;
    task->buffer_bytes = (uint32_t)min_u64(task->transfer_bytes, task->expected_in_bytes);
    if (task->buffer_bytes == 0)
        return task_good(task);
    return SCSI_BUFFER;
}

enum scsi_step block_read_run(struct scsi_task *task)
{
    return task_host(task, HOST_READ, 0, task->lba << task->unit->block_shift, task->buffer_bytes,
                     task->buffer);
}

enum scsi_step block_read_done(struct scsi_task *task, enum host_result result, uint64_t detail)
{
    if (result != HOST_OK)
        return task_host_error(task, result);
    task->in_bytes = task->buffer_bytes;
    return task_good(task);
}

/* ---- WRITE ---- */

enum scsi_step block_write_begin(struct scsi_task *task)
{
    task_range(task);
    if (protects(task))
        return sense_invalid_field_in_cdb(task, 1, 7);
    if (!task_range_fits(task) || !task_length_fits(task))
        return SCSI_DONE;
    task->writes = true;
    task->transfer_bytes = task->block_count << task->unit->block_shift;
    task->out_bytes = (uint32_t)min_u64(task->transfer_bytes, task->expected_out_bytes);
    task->buffer_bytes = task->out_bytes;
    if (task->buffer_bytes == 0)
        return task_good(task);
    return SCSI_BUFFER;
}

enum scsi_step block_write_run(struct scsi_task *task)
{
    uint32_t whole = task->out_bytes & ~(unit_block_bytes(task->unit) - 1);

    if (whole == 0)
        return task_good(task);
    return task_host(task, HOST_WRITE, task_fua(task), task->lba << task->unit->block_shift, whole,
                     task->buffer);
}

enum scsi_step block_write_done(struct scsi_task *task, enum host_result result, uint64_t detail)
{
    if (result != HOST_OK)
        return task_host_error(task, result);
    return task_good(task);
}

/* ---- SYNCHRONIZE CACHE: the whole volume, whatever the range; IMMED is not taken advantage of
 * ----
 */

enum scsi_step block_flush_begin(struct scsi_task *task)
{
    task_range(task);
    if (!task_range_fits(task))
        return SCSI_DONE;
    return task_host(task, HOST_FLUSH, 0, 0, 0, NULL);
}

enum scsi_step block_flush_done(struct scsi_task *task, enum host_result result, uint64_t detail)
{
    if (result != HOST_OK)
        return task_host_error(task, result);
    return task_good(task);
}

/* ---- PRE-FETCH: read and thrown away, so that the cache has it ---- */

static enum scsi_step prefetch_piece(struct scsi_task *task)
{
    if (task->done_bytes == task->want_bytes)
        return task_status(task, SCSI_CONDITION_MET);
    task->piece_bytes = (uint32_t)min_u64(task->want_bytes - task->done_bytes, task->buffer_bytes);
    return task_host(task, HOST_READ, 0, (task->lba << task->unit->block_shift) + task->done_bytes,
                     task->piece_bytes, task->buffer);
}

enum scsi_step block_prefetch_begin(struct scsi_task *task)
{
    task_range(task);
    if (!task_range_fits(task))
        return SCSI_DONE;
    if (task->block_count == 0) /* to the end of the medium */
        task->block_count = task->unit->block_count - task->lba;
    task->want_bytes = task->block_count << task->unit->block_shift;
    task->done_bytes = 0;
    /* IMMED: what cannot be promised is not. */
    if (task->want_bytes > PREFETCH_BYTES || (task->cdb[1] & 0x02))
        return task_good(task);
    task->buffer_bytes = (uint32_t)min_u64(task->want_bytes, SCSI_PIECE_BYTES);
    return SCSI_BUFFER;
}

enum scsi_step block_prefetch_run(struct scsi_task *task)
{
    return prefetch_piece(task);
}

enum scsi_step block_prefetch_done(struct scsi_task *task, enum host_result result, uint64_t detail)
{
    if (result != HOST_OK)
        return task_host_error(task, result);
    task->done_bytes += task->piece_bytes;
    return prefetch_piece(task);
}
