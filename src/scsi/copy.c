/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* EXTENDED COPY(LID1) from block device to block device and RECEIVE COPY RESULTS (SPC-4 6.5, 6.22,
 * 6.23, 6.25). A copy's two ends are volumes that this nexus may use itself; each request is
 * checked against the reservations of its own volume. The whole list is looked at before anything
 * is copied; then segments go one after the other, a piece at a time: read, written, read, ... The
 * outcome of a nexus's last copy is kept for its questions. */

#include "scsi/sense.h"

enum {
    LIST_HEADER_BYTES = 16,
    TARGET_BYTES = 32,
    SEGMENT_BYTES = 28,
    TARGET_LIMIT = 8,
    SEGMENT_LIMIT = 32,
    DESCRIPTOR_BYTES_LIMIT = 1024,
    SEGMENT_DATA_BYTES = 64 << 20, /* of one segment */
    TYPE_IDENTIFICATION = 0xE4,
    TYPE_BLOCK_TO_BLOCK = 0x02,
    NO_HOLD = 3, /* LIST ID USAGE: no results are kept */

    STATUS_IN_PROGRESS = 0,
    STATUS_GOOD = 1,
    STATUS_FAILED = 2,

    PHASE_READ = 0,
    PHASE_WRITE = 1,

    NO_ADDITIONAL = 0x0000,
    THIRD_PARTY_FAILURE = 0x0D01,
    TARGET_UNREACHABLE = 0x0D02,
    INEXACT_SEGMENT = 0x260A,
};

/* One segment, read out of the list again for every step: nothing is kept beside the list. */
struct segment {
    struct scsi_access *source_access, *target_access;
    struct scsi_unit *source, *target;
    uint64_t source_offset, target_offset;
    uint64_t length;
};

static const uint8_t *target_at(const struct scsi_task *task, uint32_t index)
{
    return task->buffer + LIST_HEADER_BYTES + index * TARGET_BYTES;
}

static const uint8_t *segment_at(const struct scsi_task *task, uint32_t index)
{
    return task->buffer + LIST_HEADER_BYTES + get_u16(task->buffer + 2) + index * SEGMENT_BYTES;
}

static uint32_t segment_count(const struct scsi_task *task)
{
    return get_u32(task->buffer + 8) / SEGMENT_BYTES;
}

/* ---- the outcome ---- */

/* The answer is in the task: keep it. */
static enum scsi_step ended(struct scsi_task *task)
{
    struct copy_outcome *copy = &task->nexus->copy;

    copy->status = task->status == SCSI_GOOD ? STATUS_GOOD : STATUS_FAILED;
    copy->sense_bytes = task->sense_bytes;
    memcpy(copy->sense, task->sense, task->sense_bytes);
    return SCSI_DONE;
}

static enum scsi_step failed(struct scsi_task *task, uint16_t additional)
{
    (void)sense_copy_aborted(task, additional);
    return ended(task);
}

/* ---- the list ---- */

/* The LUN of this nexus that an identification descriptor means; NULL: none. */
static struct scsi_access *target_access(struct scsi_task *task, const uint8_t *target)
{
    if ((target[4] & 0x0F) != 1 || (target[5] & 0x3F) != 0x03 || target[7] != 16)
        return NULL;
    for (uint32_t lun = 0; lun < SCSI_LUN_LIMIT; lun++) {
        struct scsi_access *access = &task->nexus->luns[lun];
        if (access->present && memcmp(task->scsi->units[access->volume].naa, target + 8, 16) == 0)
            return access;
    }
    return NULL;
}

/* Lengths and counts of the list's parts. */
static bool list_fits(struct scsi_task *task)
{
    uint32_t list = get_u32(task->cdb + 10), targets, segments;

    if (task->out_bytes < list || list < LIST_HEADER_BYTES) {
        (void)sense_list_length(task);
        return false;
    }
    targets = get_u16(task->buffer + 2);
    segments = get_u32(task->buffer + 8);
    if ((uint64_t)targets + segments > DESCRIPTOR_BYTES_LIMIT) {
        (void)sense_list_length(task);
        return false;
    }
    if (targets > TARGET_LIMIT * TARGET_BYTES) {
        (void)sense_too_many_targets(task);
        return false;
    }
    if (segments > SEGMENT_LIMIT * SEGMENT_BYTES) {
        (void)sense_too_many_segments(task);
        return false;
    }
    if (get_u32(task->buffer + 12) != 0) {
        (void)sense_inline_data(task);
        return false;
    }
    if (targets % TARGET_BYTES != 0 || LIST_HEADER_BYTES + targets + segments > list) {
        (void)sense_list_length(task);
        return false;
    }
    return true;
}

static bool targets_fit(struct scsi_task *task)
{
    uint32_t count = get_u16(task->buffer + 2) / TARGET_BYTES;

    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *target = target_at(task, i);
        uint32_t at = LIST_HEADER_BYTES + i * TARGET_BYTES;
        if (target[0] != TYPE_IDENTIFICATION) {
            (void)sense_unsupported_target(task);
            return false;
        }
        /* NUL, peripheral device type; LU ID TYPE means nothing here (SPC-4 6.5.6). */
        if ((target[1] & 0x3F) != 0) {
            (void)sense_invalid_field_in_list(task, (uint16_t)(at + 1),
                                              31 - __builtin_clz(target[1] & 0x3Fu));
            return false;
        }
    }
    return true;
}

static bool segments_fit(struct scsi_task *task)
{
    uint32_t bytes = get_u32(task->buffer + 8), targets = get_u16(task->buffer + 2) / TARGET_BYTES;

    for (uint32_t at = 0; at < bytes; at += SEGMENT_BYTES) {
        const uint8_t *segment = segment_at(task, at / SEGMENT_BYTES);
        uint32_t place = (uint32_t)(segment - task->buffer);
        if (segment[0] != TYPE_BLOCK_TO_BLOCK) {
            (void)sense_unsupported_segment(task);
            return false;
        }
        if (bytes - at < SEGMENT_BYTES) {
            (void)sense_list_length(task);
            return false;
        }
        if (get_u16(segment + 2) != SEGMENT_BYTES - 4) {
            (void)sense_invalid_field_in_list(task, (uint16_t)(place + 2), -1);
            return false;
        }
        if (get_u16(segment + 4) >= targets || get_u16(segment + 6) >= targets) {
            (void)sense_copy_aborted(task, NO_ADDITIONAL);
            return false;
        }
    }
    return true;
}

/* Segment `index`, whose indexes have been looked at. False: the answer is in the task. */
static bool segment_read(struct scsi_task *task, uint32_t index, struct segment *to)
{
    const uint8_t *at = segment_at(task, index);
    const uint8_t *source = target_at(task, get_u16(at + 4));
    const uint8_t *target = target_at(task, get_u16(at + 6));
    uint64_t blocks = get_u16(at + 10), source_lba = get_u64(at + 12),
             target_lba = get_u64(at + 20);
    bool counts_target = (at[1] & 0x02) != 0; /* DC */

    to->source_access = target_access(task, source);
    to->target_access = target_access(task, target);
    if (to->source_access == NULL || to->target_access == NULL) {
        (void)sense_copy_aborted(task, TARGET_UNREACHABLE);
        return false;
    }
    to->source = &task->scsi->units[to->source_access->volume];
    to->target = &task->scsi->units[to->target_access->volume];
    to->length = blocks << (counts_target ? to->target : to->source)->block_shift;
    if (to->length > SEGMENT_DATA_BYTES) {
        (void)sense_invalid_field_in_list(task, (uint16_t)(at + 10 - task->buffer), -1);
        return false;
    }
    if (get_u24(source + 29) != unit_block_bytes(to->source) ||
        get_u24(target + 29) != unit_block_bytes(to->target) ||
        (to->length & (unit_block_bytes(to->source) - 1)) != 0 ||
        (to->length & (unit_block_bytes(to->target) - 1)) != 0) {
        (void)sense_copy_aborted(task, INEXACT_SEGMENT);
        return false;
    }
    if (source_lba > to->source->block_count || target_lba > to->target->block_count ||
        to->length >> to->source->block_shift > to->source->block_count - source_lba ||
        to->length >> to->target->block_shift > to->target->block_count - target_lba) {
        (void)sense_copy_aborted(task, NO_ADDITIONAL);
        return false;
    }
    to->source_offset = source_lba << to->source->block_shift;
    to->target_offset = target_lba << to->target->block_shift;
    return true;
}

/* ---- the copy ---- */

enum scsi_step copy_begin(struct scsi_task *task)
{
    uint32_t list = get_u32(task->cdb + 10);

    if (list == 0)
        return task_good(task);
    if (list > LIST_HEADER_BYTES + SCSI_PARAMETER_BYTES)
        return sense_list_length(task);
    return task_buffer_out(task, list, list + SCSI_PIECE_BYTES);
}

/* Whether this nexus may do to this volume now what the copy's next request does. */
static bool may(const struct scsi_task *task, const struct scsi_access *access,
                const struct scsi_unit *unit, bool writes)
{
    if (unit->guarded &&
        !reservation_check(unit, access, writes ? COMMAND_WRITES : COMMAND_RESERVED_READS))
        return false;
    if (writes && task_is_protected(unit, access))
        return false;
    return !unit->record.stopped;
}

/* The request for the piece and phase that the task stands at. */
static enum scsi_step submit(struct scsi_task *task, const struct segment *segment)
{
    bool writes = task->phase == PHASE_WRITE;
    struct scsi_unit *unit = writes ? segment->target : segment->source;
    uint8_t flags = writes && unit->record.mode.write_cache_disabled ? HOST_FUA : 0;

    if (!may(task, writes ? segment->target_access : segment->source_access, unit, writes))
        return failed(task, THIRD_PARTY_FAILURE);
    task->piece_bytes = (uint32_t)min_u64(segment->length - task->done_bytes, SCSI_PIECE_BYTES);
    (void)task_host(task, writes ? HOST_WRITE : HOST_READ, flags,
                    (writes ? segment->target_offset : segment->source_offset) + task->done_bytes,
                    task->piece_bytes, task->buffer + task->out_bytes);
    task->request.volume = unit->volume;
    task->request.state_version = unit->state_version;
    return SCSI_IO;
}

/* Go on at value[0], the segment, and done_bytes in it. */
static enum scsi_step go_on(struct scsi_task *task)
{
    struct segment segment;

    for (; task->value[0] < segment_count(task); task->value[0]++, task->done_bytes = 0) {
        CHECK(segment_read(task, task->value[0], &segment));
        if (task->done_bytes < segment.length)
            return submit(task, &segment);
        task->nexus->copy.segments++;
    }
    (void)task_good(task);
    return ended(task);
}

enum scsi_step copy_run(struct scsi_task *task)
{
    struct copy_outcome *copy = &task->nexus->copy;
    struct segment segment;

    if (!list_fits(task) || !targets_fit(task) || !segments_fit(task))
        return SCSI_DONE;
    for (uint32_t i = 0; i < segment_count(task); i++)
        if (!segment_read(task, i, &segment))
            return SCSI_DONE;
    *copy = (struct copy_outcome){
        .held = (task->buffer[1] >> 3 & 3) != NO_HOLD,
        .list_id = task->buffer[0],
        .status = STATUS_IN_PROGRESS,
    };
    task->value[0] = 0;
    task->done_bytes = 0;
    task->phase = PHASE_READ;
    return go_on(task);
}

enum scsi_step copy_done(struct scsi_task *task, enum host_result result, uint64_t detail)
{
    if (result == HOST_STALE && task_may_retry(task))
        return go_on(task); /* the same piece again, looked at again */
    if (result != HOST_OK)
        return failed(task, THIRD_PARTY_FAILURE);
    if (task->phase == PHASE_READ) {
        task->phase = PHASE_WRITE;
        return go_on(task);
    }
    task->phase = PHASE_READ;
    task->done_bytes += task->piece_bytes;
    task->nexus->copy.transfer_count += task->piece_bytes;
    return go_on(task);
}

/* ---- RECEIVE COPY RESULTS ---- */

enum { ACTION_STATUS = 0, ACTION_PARAMETERS = 3, ACTION_FAILED_SEGMENT = 4, RESULTS_BYTES = 192 };

enum scsi_step copy_results_begin(struct scsi_task *task)
{
    const struct copy_outcome *copy = &task->nexus->copy;
    uint8_t action = task->cdb[1] & 0x1F;

    if (action != ACTION_PARAMETERS && (!copy->held || copy->list_id != task->cdb[2]))
        return sense_invalid_field_in_cdb(task, 2, -1);
    if (action == ACTION_FAILED_SEGMENT && copy->status != STATUS_FAILED)
        return sense_invalid_field_in_cdb(task, 2, -1);
    return task_buffer_in(task, RESULTS_BYTES);
}

/* SPC-4 6.23. */
static uint32_t parameters(uint8_t *to)
{
    to[4] = 0x01; /* SNLID */
    put_u16(to + 8, TARGET_LIMIT);
    put_u16(to + 10, SEGMENT_LIMIT);
    put_u32(to + 12, DESCRIPTOR_BYTES_LIMIT);
    put_u32(to + 16, SEGMENT_DATA_BYTES);
    put_u16(to + 34, 1); /* concurrent copies whose results are kept */
    to[36] = 1;
    to[37] = 9; /* data segment granularity: 512 bytes */
    to[43] = 2; /* descriptor types: */
    to[44] = TYPE_BLOCK_TO_BLOCK;
    to[45] = TYPE_IDENTIFICATION;
    put_u32(to, 46 - 4);
    return 46;
}

enum scsi_step copy_results_run(struct scsi_task *task)
{
    struct copy_outcome *copy = &task->nexus->copy;
    uint8_t *to = task->buffer;
    uint32_t length;

    memset(to, 0, RESULTS_BYTES);
    switch (task->cdb[1] & 0x1F) {
    case ACTION_STATUS:
        put_u32(to, 8);
        to[4] = copy->status;
        put_u16(to + 5, copy->segments);
        put_u32(to + 8, copy->transfer_count); /* in bytes: units 0 */
        length = 12;
        break;
    case ACTION_PARAMETERS:
        length = parameters(to);
        break;
    default:
        to[56] = SCSI_CHECK_CONDITION; /* EXTENDED COPY COMMAND STATUS */
        put_u16(to + 58, copy->sense_bytes);
        memcpy(to + 60, copy->sense, copy->sense_bytes);
        length = 60u + copy->sense_bytes;
        put_u32(to, length - 4);
        copy->held = false; /* told once (SPC-4 6.22) */
        break;
    }
    return task_in(task, length, get_u32(task->cdb + 10));
}
