/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What a host may set: MODE SENSE and MODE SELECT of the caching and control pages (SPC-4 6.11 to
 * 6.14, 7.5.8; SBC-3 6.5.5), and START STOP UNIT (SBC-3 5.25). All of it stands in the volume's
 * state record, so both controllers say the same. Current values only: nothing is saved (PS is
 * zero). A MODE SELECT is looked at whole before any of it counts. */

#include "scsi/sense.h"

enum {
    PAGE_CACHING = 0x08,
    PAGE_CONTROL = 0x0A,
    PAGE_ALL = 0x3F,
    CACHING_BYTES = 20,
    CONTROL_BYTES = 12,
    MODE_BYTES = 8 + 16 + CACHING_BYTES + CONTROL_BYTES,

    /* Bits that a host may change, and where they stand in their page. */
    WCE_BYTE = 2,
    WCE = 0x04,
    D_SENSE_BYTE = 2,
    D_SENSE = 0x04,
    SWP_BYTE = 4,
    SWP = 0x08,
    TAS_BYTE = 5,
    TAS = 0x40,
};

enum page_control { CURRENT = 0, CHANGEABLE = 1, DEFAULT = 2, SAVED = 3 };

static bool is_ten(const struct scsi_task *task)
{
    return task->cdb[0] >= 0x40;
}

/* ---- the pages ---- */

static uint32_t caching_page(const struct record_mode *mode, enum page_control control, uint8_t *to)
{
    memset(to, 0, CACHING_BYTES);
    to[0] = PAGE_CACHING;
    to[1] = CACHING_BYTES - 2;
    if (control == CHANGEABLE || control == DEFAULT || !mode->write_cache_disabled)
        to[WCE_BYTE] |= WCE;
    return CACHING_BYTES;
}

static uint32_t control_page(const struct record_mode *mode, enum page_control control, uint8_t *to)
{
    memset(to, 0, CONTROL_BYTES);
    to[0] = PAGE_CONTROL;
    to[1] = CONTROL_BYTES - 2;
    if (control == CHANGEABLE) {
        to[D_SENSE_BYTE] = D_SENSE;
        to[SWP_BYTE] = SWP;
        to[TAS_BYTE] = TAS;
        return CONTROL_BYTES;
    }
    to[2] = 0x20 | 0x02; /* TST: a task set for each nexus; GLTSD: no log parameters are saved */
    to[3] = 0x10;        /* QUEUE ALGORITHM MODIFIER: unrestricted reordering */
    put_u16(to + 8, 0xFFFF); /* BUSY TIMEOUT PERIOD: unlimited, a takeover takes its time */
    if (control == CURRENT) {
        to[D_SENSE_BYTE] |= mode->descriptor_sense ? D_SENSE : 0;
        to[SWP_BYTE] |= mode->software_protected ? SWP : 0;
        to[TAS_BYTE] |= mode->task_aborted_status ? TAS : 0;
    }
    return CONTROL_BYTES;
}

static const struct mode_page {
    uint8_t code;
    uint8_t size_bytes;
    uint32_t (*fill)(const struct record_mode *mode, enum page_control control, uint8_t *to);
} mode_pages[] = {
    {PAGE_CACHING, CACHING_BYTES, caching_page},
    {PAGE_CONTROL, CONTROL_BYTES, control_page},
};

static const struct mode_page *find_page(uint8_t code)
{
    for (uint32_t i = 0; i < ARRAY_LENGTH(mode_pages); i++)
        if (mode_pages[i].code == code)
            return &mode_pages[i];
    return NULL;
}

/* ---- MODE SENSE ---- */

enum scsi_step mode_sense_begin(struct scsi_task *task)
{
    uint8_t code = task->cdb[2] & 0x3F;

    if (code != PAGE_ALL && find_page(code) == NULL)
        return sense_invalid_field_in_cdb(task, 2, 5);
    if (task->cdb[3] != 0 && task->cdb[3] != 0xFF)
        return sense_invalid_field_in_cdb(task, 3, -1);
    if (task->cdb[2] >> 6 == SAVED)
        return sense_saving_not_supported(task);
    return task_buffer_in(task, MODE_BYTES);
}

/* SBC-3 6.5.2: the short descriptor has 32 bits for the number of blocks. */
static uint32_t block_descriptor(const struct scsi_unit *unit, bool long_form, uint8_t *to)
{
    if (long_form) {
        memset(to, 0, 16);
        put_u64(to, unit->block_count);
        put_u32(to + 12, unit_block_bytes(unit));
        return 16;
    }
    put_u32(to, (uint32_t)min_u64(unit->block_count, UINT32_MAX));
    put_u32(to + 4, unit_block_bytes(unit));
    return 8;
}

enum scsi_step mode_sense_run(struct scsi_task *task)
{
    const struct record_mode *mode = &task->unit->record.mode;
    bool ten = is_ten(task), without_descriptor = (task->cdb[1] & 0x08) != 0;
    uint8_t *to = task->buffer, code = task->cdb[2] & 0x3F;
    uint32_t header = ten ? 8 : 4, at = header, descriptor = 0;
    bool long_form = ten && (task->cdb[1] & 0x10) != 0; /* LLBAA */

    memset(to, 0, header);
    if (!without_descriptor)
        descriptor = block_descriptor(task->unit, long_form, to + at);
    at += descriptor;
    for (uint32_t i = 0; i < ARRAY_LENGTH(mode_pages); i++)
        if (code == PAGE_ALL || code == mode_pages[i].code)
            at += mode_pages[i].fill(mode, (enum page_control)(task->cdb[2] >> 6), to + at);
    to[ten ? 3 : 2] = 0x10; /* DPOFUA */
    if (task_is_protected(task->unit, task->access))
        to[ten ? 3 : 2] |= 0x80; /* WP */
    if (ten) {
        put_u16(to, (uint16_t)(at - 2));
        to[4] = long_form && !without_descriptor ? 0x01 : 0; /* LONGLBA */
        put_u16(to + 6, (uint16_t)descriptor);
        return task_in(task, at, get_u16(task->cdb + 7));
    }
    to[0] = (uint8_t)(at - 1);
    to[3] = (uint8_t)descriptor;
    return task_in(task, at, task->cdb[4]);
}

/* ---- MODE SELECT ---- */

static uint32_t list_length(const struct scsi_task *task)
{
    return is_ten(task) ? get_u16(task->cdb + 7) : task->cdb[4];
}

enum scsi_step mode_select_begin(struct scsi_task *task)
{
    if (!(task->cdb[1] & 0x10)) /* PF */
        return sense_invalid_field_in_cdb(task, 1, 4);
    if (task->cdb[1] & 0x01) /* SP */
        return sense_invalid_field_in_cdb(task, 1, 0);
    if (list_length(task) == 0)
        return task_good(task);
    return task_buffer_out(task, list_length(task), list_length(task) + VOLUME_STATE_BYTES);
}

/* The medium has one format: the descriptor may only repeat it. */
static bool descriptor_fits(struct scsi_task *task, uint32_t at, uint32_t length, bool long_form)
{
    const uint8_t *from = task->buffer + at;
    const struct scsi_unit *unit = task->unit;
    uint64_t blocks, given;

    if (length == 0)
        return true;
    blocks = long_form ? unit->block_count : min_u64(unit->block_count, UINT32_MAX);
    given = long_form ? get_u64(from) : get_u32(from);
    if (given != 0 && given != blocks && given != (long_form ? UINT64_MAX : UINT32_MAX)) {
        (void)sense_invalid_field_in_list(task, (uint16_t)at, -1);
        return false;
    }
    if ((long_form ? get_u32(from + 12) : get_u24(from + 5)) != unit_block_bytes(unit)) {
        (void)sense_invalid_field_in_list(task, (uint16_t)(at + (long_form ? 12 : 5)), -1);
        return false;
    }
    return true;
}

/* The page at `at`, into `mode`. Every bit that is not changeable must be as it is. */
static bool page_fits(struct scsi_task *task, uint32_t at, struct record_mode *mode)
{
    const uint8_t *from = task->buffer + at;
    const struct mode_page *page = find_page(from[0] & 0x3F);
    uint8_t current[CACHING_BYTES], changeable[CACHING_BYTES];

    if (page == NULL || (from[0] & 0x40) != 0) { /* SPF: no subpages */
        (void)sense_invalid_field_in_list(task, (uint16_t)at, page == NULL ? 5 : 6);
        return false;
    }
    if (from[1] != page->size_bytes - 2) {
        (void)sense_invalid_field_in_list(task, (uint16_t)(at + 1), -1);
        return false;
    }
    (void)page->fill(mode, CURRENT, current);
    (void)page->fill(mode, CHANGEABLE, changeable);
    for (uint32_t i = 2; i < page->size_bytes; i++) {
        uint8_t wrong = (uint8_t)((from[i] ^ current[i]) & ~changeable[i]);
        if (wrong != 0) {
            (void)sense_invalid_field_in_list(task, (uint16_t)(at + i), 31 - __builtin_clz(wrong));
            return false;
        }
    }
    if (page->code == PAGE_CACHING) {
        mode->write_cache_disabled = !(from[WCE_BYTE] & WCE);
    } else {
        mode->descriptor_sense = (from[D_SENSE_BYTE] & D_SENSE) != 0;
        mode->software_protected = (from[SWP_BYTE] & SWP) != 0;
        mode->task_aborted_status = (from[TAS_BYTE] & TAS) != 0;
    }
    return true;
}

/* The whole parameter list, into `mode`. */
static bool list_fits(struct scsi_task *task, struct record_mode *mode)
{
    bool ten = is_ten(task), long_form;
    uint32_t header = ten ? 8 : 4, length = list_length(task), at, descriptor;

    if (length < header || task->out_bytes < length) {
        (void)sense_list_length(task);
        return false;
    }
    long_form = ten && (task->buffer[4] & 0x01) != 0;
    descriptor = ten ? get_u16(task->buffer + 6) : task->buffer[3];
    if (descriptor != 0 && descriptor != (long_form ? 16u : 8u)) {
        (void)sense_invalid_field_in_list(task, ten ? 6 : 3, -1);
        return false;
    }
    if (header + descriptor > length) {
        (void)sense_list_length(task);
        return false;
    }
    if (!descriptor_fits(task, header, descriptor, long_form))
        return false;
    for (at = header + descriptor; at < length; at += 2u + task->buffer[at + 1]) {
        const struct mode_page *page = find_page(task->buffer[at] & 0x3F);
        if (length - at < 2 || (page != NULL && length - at < page->size_bytes)) {
            (void)sense_list_length(task);
            return false;
        }
        if (!page_fits(task, at, mode))
            return false;
    }
    return true;
}

enum scsi_step mode_select_run(struct scsi_task *task)
{
    struct record *draft = &task->scsi->draft;
    struct record_mode *mode = &draft->mode;
    const struct record_mode *old = &task->unit->record.mode;

    *draft = task->unit->record;
    if (!list_fits(task, mode))
        return SCSI_DONE;
    if (mode->write_cache_disabled == old->write_cache_disabled &&
        mode->descriptor_sense == old->descriptor_sense &&
        mode->software_protected == old->software_protected &&
        mode->task_aborted_status == old->task_aborted_status)
        return task_good(task);
    mode->change_count++;
    record_nexus_set(&mode->changed_by, task->nexus);
    return task_record(task, draft, 0);
}

enum scsi_step mode_select_done(struct scsi_task *task, enum host_result result, uint64_t detail)
{
    if (result == HOST_STALE && task_may_retry(task))
        return mode_select_run(task);
    if (result != HOST_OK)
        return task_host_error(task, result);
    return task_good(task);
}

/* ---- START STOP UNIT ---- */

enum { PHASE_FLUSH, PHASE_RECORD };

static bool starts(const struct scsi_task *task)
{
    return (task->cdb[4] & 0x01) != 0;
}

/* Starting is allowed through every persistent reservation, stopping through none (SBC-3 table 13).
 */
static bool conflicts(const struct scsi_task *task)
{
    return task->unit->guarded &&
           !reservation_check(task->unit, task->access, starts(task) ? COMMAND_RESERVED_ANY : 0);
}

enum scsi_step mode_start_stop_begin(struct scsi_task *task)
{
    if (task->cdb[4] & 0xF0) /* POWER CONDITION: none are supported */
        return sense_invalid_field_in_cdb(task, 4, 7);
    if (task->cdb[4] & 0x02) /* LOEJ: the medium is not removable */
        return sense_invalid_field_in_cdb(task, 4, 1);
    if (conflicts(task))
        return task_status(task, SCSI_RESERVATION_CONFLICT);
    if (task->unit->record.stopped == !starts(task))
        return task_good(task);
    return task_buffer_out(task, 0, VOLUME_STATE_BYTES);
}

static enum scsi_step set_stopped(struct scsi_task *task)
{
    struct record *draft = &task->scsi->draft;

    if (conflicts(task))
        return task_status(task, SCSI_RESERVATION_CONFLICT);
    if (task->unit->record.stopped == !starts(task))
        return task_good(task);
    *draft = task->unit->record;
    draft->stopped = !starts(task);
    task->phase = PHASE_RECORD;
    return task_record(task, draft, 0);
}

enum scsi_step mode_start_stop_run(struct scsi_task *task)
{
    if (starts(task) || (task->cdb[4] & 0x04)) /* NO_FLUSH */
        return set_stopped(task);
    task->phase = PHASE_FLUSH;
    return task_host(task, HOST_FLUSH, 0, 0, 0, NULL);
}

enum scsi_step mode_start_stop_done(struct scsi_task *task, enum host_result result,
                                    uint64_t detail)
{
    if (result == HOST_STALE && task_may_retry(task))
        return set_stopped(task);
    if (result != HOST_OK)
        return task_host_error(task, result);
    return task->phase == PHASE_FLUSH ? set_stopped(task) : task_good(task);
}
