/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* UNMAP, WRITE SAME and GET LBA STATUS (SBC-3 5.28, 5.43, 5.44, 5.4). LBPRZ is one: what has been
 * unmapped reads as zeros. The store discards whole pages only, so the ragged ends of an unmapped
 * range are zeroed; a zero WRITE SAME with UNMAP is the core's own zeroing, which lets go of what
 * it can. Every list is looked at whole before anything of it is done. */

#include "scsi/sense.h"

static uint64_t range_blocks(const struct scsi_unit *unit)
{
    return RANGE_BYTES >> unit->block_shift;
}

/* ---- UNMAP ---- */

enum { UNMAP_HEADER_BYTES = 8, UNMAP_DESCRIPTOR_BYTES = 16 };

enum { PART_HEAD, PART_PAGES, PART_TAIL };

enum scsi_step provisioning_unmap_begin(struct scsi_task *task)
{
    uint16_t list_bytes = get_u16(task->cdb + 7);

    if (!task->unit->thin)
        return sense_invalid_opcode(task);
    if (task->cdb[1] & 0x01) /* ANCHOR: ANC_SUP is zero */
        return sense_invalid_field_in_cdb(task, 1, 0);
    if (list_bytes == 0)
        return task_good(task);
    if (list_bytes < UNMAP_HEADER_BYTES)
        return sense_list_length(task);
    return task_buffer_out(task, list_bytes, list_bytes);
}

static void unmap_descriptor(const struct scsi_task *task, uint64_t index, uint64_t *from,
                             uint64_t *to)
{
    const uint8_t *at = task->buffer + UNMAP_HEADER_BYTES + index * UNMAP_DESCRIPTOR_BYTES;
    *from = get_u64(at) << task->unit->block_shift;
    *to = *from + ((uint64_t)get_u32(at + 8) << task->unit->block_shift);
}

/* What the descriptor value[0] names, and those behind it that go on where it ends: each discard
 * costs a flush of the store, so many small ones in a row become one. Returns the descriptor after
 * them. */
static uint64_t unmap_run_of(const struct scsi_task *task, uint64_t *from, uint64_t *to)
{
    uint64_t next = task->value[0] + 1, first, end;

    unmap_descriptor(task, task->value[0], from, to);
    for (; *from < *to && next < task->value[1]; next++) {
        unmap_descriptor(task, next, &first, &end);
        if (first != *to)
            break;
        *to = end;
    }
    return next;
}

/* Start the next part of the descriptor value[0] of value[1]; phase says which part. */
static enum scsi_step unmap_next(struct scsi_task *task)
{
    uint64_t from, to, next;

    for (; task->value[0] < task->value[1]; task->value[0] = next, task->phase = PART_HEAD) {
        next = unmap_run_of(task, &from, &to);
        uint64_t first = (from + PAGE_SIZE_BYTES - 1) & ~(uint64_t)(PAGE_SIZE_BYTES - 1);
        uint64_t last = to & ~(uint64_t)(PAGE_SIZE_BYTES - 1);

        if (from == to)
            continue;
        if (first > last) /* inside one page */
            first = last = to;
        if (task->phase == PART_HEAD) {
            task->phase = PART_PAGES;
            if (from < first)
                return task_host(task, HOST_ZERO, 0, from, min_u64(first, to) - from, NULL);
        }
        if (task->phase == PART_PAGES) {
            task->phase = PART_TAIL;
            if (first < last)
                return task_host(task, HOST_TRIM, 0, first, last - first, NULL);
        }
        if (task->phase == PART_TAIL) {
            task->phase = PART_TAIL + 1;
            if (last < to)
                return task_host(task, HOST_ZERO, 0, last, to - last, NULL);
        }
    }
    return task_good(task);
}

enum scsi_step provisioning_unmap_run(struct scsi_task *task)
{
    uint64_t total = 0;
    uint32_t count;

    if (task->out_bytes < UNMAP_HEADER_BYTES)
        return sense_list_length(task);
    count = get_u16(task->buffer + 2) / UNMAP_DESCRIPTOR_BYTES;
    if (UNMAP_HEADER_BYTES + count * UNMAP_DESCRIPTOR_BYTES > task->out_bytes)
        return sense_list_length(task);
    if (count > UNMAP_DESCRIPTOR_LIMIT)
        return sense_invalid_field_in_list(task, 2, -1);
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *at = task->buffer + UNMAP_HEADER_BYTES + i * UNMAP_DESCRIPTOR_BYTES;
        task->lba = get_u64(at);
        task->block_count = get_u32(at + 8);
        if (task->block_count > 0 && !task_range_fits(task))
            return SCSI_DONE;
        total += task->block_count;
        if (total > range_blocks(task->unit))
            return sense_invalid_field_in_list(
                task, (uint16_t)(UNMAP_HEADER_BYTES + i * UNMAP_DESCRIPTOR_BYTES + 8), -1);
    }
    task->value[0] = 0;
    task->value[1] = count;
    task->phase = PART_HEAD;
    return unmap_next(task);
}

enum scsi_step provisioning_unmap_done(struct scsi_task *task, enum host_result result,
                                       uint64_t detail)
{
    if (result != HOST_OK)
        return task_host_error(task, result);
    return unmap_next(task);
}

/* ---- WRITE SAME ---- */

static bool same_without_data(const struct scsi_task *task)
{
    return task->cdb[0] == 0x93 && (task->cdb[1] & 0x01) != 0; /* NDOB */
}

enum scsi_step provisioning_same_begin(struct scsi_task *task)
{
    uint32_t block = unit_block_bytes(task->unit);
    uint16_t length_field = task->cdb[0] == 0x93 ? 10 : 7;

    task_range(task);
    if (task->cdb[1] & 0xE0)
        return sense_invalid_field_in_cdb(task, 1, 7);
    if (task->cdb[1] & 0x10) /* ANCHOR: ANC_SUP is zero */
        return sense_invalid_field_in_cdb(task, 1, 4);
    if ((task->cdb[1] & 0x08) && !task->unit->thin) /* UNMAP */
        return sense_invalid_field_in_cdb(task, 1, 3);
    if (task->cdb[1] & 0x06) /* PBDATA, LBDATA: obsolete */
        return sense_invalid_field_in_cdb(task, 1, task->cdb[1] & 0x04 ? 2 : 1);
    if (!task_range_fits(task))
        return SCSI_DONE;
    /* WSNZ is one, and MAXIMUM WRITE SAME LENGTH bounds the time that it takes. */
    if (task->block_count == 0)
        return sense_invalid_field_in_cdb(task, length_field, -1);
    if (!task_length_fits(task))
        return SCSI_DONE;
    /* One block is sent, no more and no less (SBC-3 5.43). */
    if (!same_without_data(task) && task->expected_out_bytes != block)
        return sense_invalid_field_in_cdb(task, length_field, -1);
    task->want_bytes = task->block_count << task->unit->block_shift;
    task->done_bytes = 0;
    if (same_without_data(task))
        return provisioning_same_run(task);
    return task_buffer_out(task, block,
                           block + (uint32_t)min_u64(task->want_bytes, SCSI_PIECE_BYTES));
}

/* The CDB has no FUA bit; with the write cache off every write is safe when it is answered. */
static uint8_t safe_flag(const struct scsi_task *task)
{
    return task->unit->record.mode.write_cache_disabled ? HOST_FUA : 0;
}

static enum scsi_step same_next(struct scsi_task *task)
{
    uint32_t block = unit_block_bytes(task->unit);

    if (task->done_bytes == task->want_bytes)
        return task_good(task);
    task->piece_bytes =
        (uint32_t)min_u64(task->want_bytes - task->done_bytes, task->buffer_bytes - block);
    return task_host(task, HOST_WRITE, safe_flag(task),
                     (task->lba << task->unit->block_shift) + task->done_bytes, task->piece_bytes,
                     task->buffer + block);
}

enum scsi_step provisioning_same_run(struct scsi_task *task)
{
    uint32_t block = unit_block_bytes(task->unit);

    if (same_without_data(task) || bytes_all_zero(task->buffer, block)) {
        uint8_t keep = task->cdb[1] & 0x08 ? 0 : HOST_NO_HOLE;
        task->done_bytes = task->want_bytes;
        return task_host(task, HOST_ZERO, keep | safe_flag(task),
                         task->lba << task->unit->block_shift, task->want_bytes, NULL);
    }
    for (uint32_t at = block; at < task->buffer_bytes; at += block)
        memcpy(task->buffer + at, task->buffer, block);
    task->piece_bytes = 0;
    return same_next(task);
}

enum scsi_step provisioning_same_done(struct scsi_task *task, enum host_result result,
                                      uint64_t detail)
{
    if (result != HOST_OK)
        return task_host_error(task, result);
    if (task->request.op == HOST_WRITE)
        task->done_bytes += task->piece_bytes;
    return same_next(task);
}

/* ---- GET LBA STATUS ---- */

enum { STATUS_HEADER_BYTES = 8, STATUS_DESCRIPTOR_BYTES = 16, STATUS_DESCRIPTOR_LIMIT = 256 };

/* SBC-3 5.4.2. */
enum { PROVISIONING_MAPPED = 0, PROVISIONING_DEALLOCATED = 1 };

enum scsi_step provisioning_status_begin(struct scsi_task *task)
{
    task->lba = get_u64(task->cdb + 2);
    task->block_count = 0;
    if (!task_range_fits(task))
        return SCSI_DONE;
    task->block_count = task->unit->block_count - task->lba;
    return task_buffer_in(task,
                          STATUS_HEADER_BYTES + STATUS_DESCRIPTOR_LIMIT * STATUS_DESCRIPTOR_BYTES);
}

static uint32_t status_limit(const struct scsi_task *task)
{
    uint32_t allocation = get_u32(task->cdb + 10);
    uint32_t fit = allocation < STATUS_HEADER_BYTES
                       ? 0
                       : (allocation - STATUS_HEADER_BYTES) / STATUS_DESCRIPTOR_BYTES;

    return min_u32(max_u32(fit, 1), STATUS_DESCRIPTOR_LIMIT);
}

enum scsi_step provisioning_status_run(struct scsi_task *task)
{
    if (!task->unit->thin)
        return scsi_task_map_done(task, NULL, 0);
    task->map.volume = task->unit->volume;
    task->map.offset_bytes = task->lba << task->unit->block_shift;
    task->map.length_bytes = task->block_count << task->unit->block_shift;
    task->map.extent_limit = status_limit(task);
    return SCSI_MAP;
}

/* The descriptors written so far: value[0] of them, value[1] the status of the last; done_bytes
 * counts the blocks that they cover. False: there is no room for more. */
static bool status_add(struct scsi_task *task, uint64_t to_block, uint8_t status)
{
    while (task->done_bytes < to_block) {
        uint8_t *at =
            task->buffer + STATUS_HEADER_BYTES + task->value[0] * (uint64_t)STATUS_DESCRIPTOR_BYTES;
        uint64_t count = min_u64(to_block - task->done_bytes, UINT32_MAX);

        if (task->value[0] > 0 && task->value[1] == status) {
            uint8_t *last = at - STATUS_DESCRIPTOR_BYTES;
            uint64_t room = UINT32_MAX - get_u32(last + 8);
            if (room > 0) {
                count = min_u64(count, room);
                put_u32(last + 8, (uint32_t)(get_u32(last + 8) + count));
                task->done_bytes += count;
                continue;
            }
        }
        if (task->value[0] == status_limit(task))
            return false;
        memset(at, 0, STATUS_DESCRIPTOR_BYTES);
        put_u64(at, task->lba + task->done_bytes);
        put_u32(at + 8, (uint32_t)count);
        at[12] = status;
        task->value[0]++;
        task->value[1] = status;
        task->done_bytes += count;
    }
    return true;
}

enum scsi_step scsi_task_map_done(struct scsi_task *task, const struct scsi_extent *extents,
                                  uint32_t count)
{
    uint8_t shift = task->unit->block_shift;
    uint64_t whole = task->block_count << shift, at = 0;
    uint32_t length;
    bool room = true;

    task->value[0] = 0;
    task->value[1] = 0;
    task->done_bytes = 0;
    for (uint32_t i = 0; i < count && at < whole && room; i++) {
        uint64_t end = at + min_u64(extents[i].length_bytes, whole - at);
        /* Only whole blocks of a hole are deallocated; a block that is partly something else
         * counts as mapped. */
        uint64_t first = (at + unit_block_bytes(task->unit) - 1) >> shift, last = end >> shift;
        if (extents[i].hole && first < last)
            room = status_add(task, first, PROVISIONING_MAPPED) &&
                   status_add(task, last, PROVISIONING_DEALLOCATED);
        at = end;
    }
    /* What came after the last hole; and everything, when nothing is known. */
    if (count == 0)
        at = whole;
    if (room)
        (void)status_add(task, max_u64(at >> shift, 1), PROVISIONING_MAPPED);
    length = STATUS_HEADER_BYTES + task->value[0] * STATUS_DESCRIPTOR_BYTES;
    memset(task->buffer, 0, STATUS_HEADER_BYTES);
    put_u32(task->buffer, length - 4);
    return task_in(task, length, get_u32(task->cdb + 10));
}
