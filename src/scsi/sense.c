/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Sense data (SPC-4 4.5): every outcome that is not GOOD is made here and nowhere else, in the
 * fixed or the descriptor format, as the unit's control mode page says. It only writes the answer
 * into the task; it decides nothing. */

#include "scsi/sense.h"

enum {
    FIXED_BYTES = 18,           /* SPC-4 4.5.3, with no additional bytes */
    DESCRIPTOR_HEADER_BYTES = 8 /* SPC-4 4.5.2.1 */
};

uint8_t sense_make(uint8_t *to, bool descriptor, enum sense_key key, uint16_t additional)
{
    if (descriptor) {
        memset(to, 0, DESCRIPTOR_HEADER_BYTES);
        to[0] = 0x72;
        to[1] = (uint8_t)key;
        put_u16(to + 2, additional);
        return DESCRIPTOR_HEADER_BYTES;
    }
    memset(to, 0, FIXED_BYTES);
    to[0] = 0x70;
    to[2] = (uint8_t)key;
    to[7] = FIXED_BYTES - 8;
    put_u16(to + 12, additional);
    return FIXED_BYTES;
}

static bool wants_descriptor(const struct scsi_task *task)
{
    return task->unit != NULL && task->unit->record.mode.descriptor_sense;
}

static enum scsi_step check_condition(struct scsi_task *task, enum sense_key key,
                                      uint16_t additional)
{
    task->status = SCSI_CHECK_CONDITION;
    task->sense_bytes = sense_make(task->sense, wants_descriptor(task), key, additional);
    task->in_bytes = 0;
    return SCSI_DONE;
}

/* The three sense key specific bytes of a field pointer (SPC-4 4.5.2.4.2). */
static enum scsi_step with_field(struct scsi_task *task, uint16_t additional, bool in_cdb,
                                 uint16_t byte, int bit)
{
    uint8_t *specific;

    (void)check_condition(task, SENSE_ILLEGAL_REQUEST, additional);
    if (wants_descriptor(task)) {
        uint8_t *descriptor = task->sense + DESCRIPTOR_HEADER_BYTES;
        memset(descriptor, 0, 8);
        descriptor[0] = 0x02;
        descriptor[1] = 0x06;
        task->sense[7] = 8;
        task->sense_bytes = DESCRIPTOR_HEADER_BYTES + 8;
        specific = descriptor + 4;
    } else {
        specific = task->sense + 15;
    }
    specific[0] = 0x80 | (in_cdb ? 0x40 : 0);
    if (bit >= 0)
        specific[0] |= 0x08 | (uint8_t)bit;
    put_u16(specific + 1, byte);
    return SCSI_DONE;
}

static enum scsi_step with_information(struct scsi_task *task, enum sense_key key,
                                       uint16_t additional, uint64_t information)
{
    (void)check_condition(task, key, additional);
    if (wants_descriptor(task)) {
        uint8_t *descriptor = task->sense + DESCRIPTOR_HEADER_BYTES;
        memset(descriptor, 0, 12);
        descriptor[1] = 0x0A;
        descriptor[2] = 0x80;
        put_u64(descriptor + 4, information);
        task->sense[7] = 12;
        task->sense_bytes = DESCRIPTOR_HEADER_BYTES + 12;
    } else if (information <= UINT32_MAX) {
        task->sense[0] |= 0x80;
        put_u32(task->sense + 3, (uint32_t)information);
    }
    return SCSI_DONE;
}

enum scsi_step sense_invalid_opcode(struct scsi_task *task)
{
    return with_field(task, 0x2000, true, 0, -1);
}

enum scsi_step sense_invalid_field_in_cdb(struct scsi_task *task, uint16_t byte, int bit)
{
    return with_field(task, 0x2400, true, byte, bit);
}

enum scsi_step sense_invalid_field_in_list(struct scsi_task *task, uint16_t byte, int bit)
{
    return with_field(task, 0x2600, false, byte, bit);
}

enum scsi_step sense_list_length(struct scsi_task *task)
{
    return check_condition(task, SENSE_ILLEGAL_REQUEST, 0x1A00);
}

enum scsi_step sense_lba_out_of_range(struct scsi_task *task)
{
    return check_condition(task, SENSE_ILLEGAL_REQUEST, 0x2100);
}

enum scsi_step sense_lun_not_supported(struct scsi_task *task)
{
    return check_condition(task, SENSE_ILLEGAL_REQUEST, 0x2500);
}

enum scsi_step sense_invalid_release(struct scsi_task *task)
{
    return check_condition(task, SENSE_ILLEGAL_REQUEST, 0x2604);
}

enum scsi_step sense_registration_resources(struct scsi_task *task)
{
    return check_condition(task, SENSE_ILLEGAL_REQUEST, 0x5504);
}

enum scsi_step sense_saving_not_supported(struct scsi_task *task)
{
    return check_condition(task, SENSE_ILLEGAL_REQUEST, 0x3900);
}

enum scsi_step sense_sequence_error(struct scsi_task *task)
{
    return check_condition(task, SENSE_ILLEGAL_REQUEST, 0x2C00);
}

enum scsi_step sense_too_many_targets(struct scsi_task *task)
{
    return check_condition(task, SENSE_ILLEGAL_REQUEST, 0x2606);
}

enum scsi_step sense_unsupported_target(struct scsi_task *task)
{
    return check_condition(task, SENSE_ILLEGAL_REQUEST, 0x2607);
}

enum scsi_step sense_too_many_segments(struct scsi_task *task)
{
    return check_condition(task, SENSE_ILLEGAL_REQUEST, 0x2608);
}

enum scsi_step sense_unsupported_segment(struct scsi_task *task)
{
    return check_condition(task, SENSE_ILLEGAL_REQUEST, 0x2609);
}

enum scsi_step sense_inline_data(struct scsi_task *task)
{
    return check_condition(task, SENSE_ILLEGAL_REQUEST, 0x260B);
}

enum scsi_step sense_stopped(struct scsi_task *task)
{
    return check_condition(task, SENSE_NOT_READY, 0x0402);
}

enum scsi_step sense_transitioning(struct scsi_task *task)
{
    return check_condition(task, SENSE_NOT_READY, 0x040A);
}

enum scsi_step sense_intervention(struct scsi_task *task)
{
    return check_condition(task, SENSE_NOT_READY, 0x0403);
}

enum scsi_step sense_unavailable(struct scsi_task *task)
{
    return check_condition(task, SENSE_NOT_READY, 0x040C);
}

enum scsi_step sense_read_error(struct scsi_task *task)
{
    return check_condition(task, SENSE_MEDIUM_ERROR, 0x1100);
}

enum scsi_step sense_write_error(struct scsi_task *task)
{
    return check_condition(task, SENSE_MEDIUM_ERROR, 0x0C00);
}

enum scsi_step sense_target_failure(struct scsi_task *task)
{
    return check_condition(task, SENSE_HARDWARE_ERROR, 0x4400);
}

enum scsi_step sense_write_protected(struct scsi_task *task)
{
    return check_condition(task, SENSE_DATA_PROTECT, 0x2700);
}

enum scsi_step sense_set_groups_failed(struct scsi_task *task)
{
    return check_condition(task, SENSE_HARDWARE_ERROR, 0x670A);
}

enum scsi_step sense_echo_overwritten(struct scsi_task *task)
{
    return check_condition(task, SENSE_ABORTED_COMMAND, 0x3F0F);
}

enum scsi_step sense_miscompare(struct scsi_task *task, uint32_t offset)
{
    return with_information(task, SENSE_MISCOMPARE, 0x1D00, offset);
}

enum scsi_step sense_aborted(struct scsi_task *task, uint16_t additional)
{
    return check_condition(task, SENSE_ABORTED_COMMAND, additional);
}

enum scsi_step sense_copy_aborted(struct scsi_task *task, uint16_t additional)
{
    return check_condition(task, SENSE_COPY_ABORTED, additional);
}

uint16_t sense_of_attention(enum attention attention)
{
    static const uint16_t codes[ATTENTION_COUNT] = {
        [ATTENTION_POWER_ON] = 0x2900,
        [ATTENTION_BUS_DEVICE_RESET] = 0x2903,
        [ATTENTION_NEXUS_LOSS] = 0x2907,
        [ATTENTION_RESERVATIONS_PREEMPTED] = 0x2A03,
        [ATTENTION_RESERVATIONS_RELEASED] = 0x2A04,
        [ATTENTION_REGISTRATIONS_PREEMPTED] = 0x2A05,
        [ATTENTION_COMMANDS_CLEARED] = 0x2F00,
        [ATTENTION_MODE_CHANGED] = 0x2A01,
        [ATTENTION_ACCESS_STATE_CHANGED] = 0x2A06,
    };

    CHECK(attention < ATTENTION_COUNT);
    return codes[attention];
}

enum scsi_step sense_attention(struct scsi_task *task, enum attention attention)
{
    return check_condition(task, SENSE_UNIT_ATTENTION, sense_of_attention(attention));
}
