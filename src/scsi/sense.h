/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The answers that are not GOOD: one function for each outcome. Each ends the task with CHECK
 * CONDITION and sense data in the format that the control mode page asks for (SPC-4 4.5), and
 * returns SCSI_DONE, so that a handler writes `return sense_...(task)`. */

#ifndef SCSI_SENSE_H
#define SCSI_SENSE_H

#include "scsi/internal.h"

/* SPC-4 4.5.6 table 48. */
enum sense_key {
    SENSE_NO_SENSE = 0x0,
    SENSE_NOT_READY = 0x2,
    SENSE_MEDIUM_ERROR = 0x3,
    SENSE_HARDWARE_ERROR = 0x4,
    SENSE_ILLEGAL_REQUEST = 0x5,
    SENSE_UNIT_ATTENTION = 0x6,
    SENSE_DATA_PROTECT = 0x7,
    SENSE_COPY_ABORTED = 0xA,
    SENSE_ABORTED_COMMAND = 0xB,
    SENSE_MISCOMPARE = 0xE,
};

/* ILLEGAL REQUEST. `byte`, `bit`: where the wrong field begins, its most significant bit; bit -1:
 * the whole byte (SPC-4 4.5.2.4.2). */
enum scsi_step sense_invalid_opcode(struct scsi_task *task); /* 20/00 */
enum scsi_step sense_invalid_field_in_cdb(struct scsi_task *task, uint16_t byte,
                                          int bit); /* 24/00 */
enum scsi_step sense_invalid_field_in_list(struct scsi_task *task, uint16_t byte,
                                           int bit);      /* 26/00 */
enum scsi_step sense_list_length(struct scsi_task *task); /* 1A/00 PARAMETER LIST LENGTH ERROR */
enum scsi_step sense_lba_out_of_range(struct scsi_task *task);  /* 21/00 */
enum scsi_step sense_lun_not_supported(struct scsi_task *task); /* 25/00 */
enum scsi_step sense_invalid_release(struct scsi_task *task); /* 26/04 INVALID RELEASE OF PERSISTENT
                                                                 RESERVATION */
enum scsi_step sense_registration_resources(struct scsi_task *task); /* 55/04 INSUFFICIENT
                                                                        REGISTRATION RESOURCES */
enum scsi_step sense_saving_not_supported(struct scsi_task *task);   /* 39/00 */
enum scsi_step sense_sequence_error(struct scsi_task *task);         /* 2C/00 */
/* EXTENDED COPY's parameter list (SPC-4 6.5): 26/06, 26/07, 26/08, 26/09, 26/0B. */
enum scsi_step sense_too_many_targets(struct scsi_task *task);
enum scsi_step sense_unsupported_target(struct scsi_task *task);
enum scsi_step sense_too_many_segments(struct scsi_task *task);
enum scsi_step sense_unsupported_segment(struct scsi_task *task);
enum scsi_step sense_inline_data(struct scsi_task *task);

/* NOT READY. */
enum scsi_step sense_stopped(struct scsi_task *task); /* 04/02 INITIALIZING COMMAND REQUIRED */
enum scsi_step sense_transitioning(struct scsi_task *task); /* 04/0A ASYMMETRIC ACCESS STATE
                                                               TRANSITION */
enum scsi_step sense_unavailable(struct scsi_task *task);  /* 04/0C TARGET PORT IN UNAVAILABLE STATE
                                                            */
enum scsi_step sense_intervention(struct scsi_task *task); /* 04/03 MANUAL INTERVENTION REQUIRED */

/* The rest. */
enum scsi_step sense_read_error(struct scsi_task *task);        /* MEDIUM ERROR 11/00 */
enum scsi_step sense_write_error(struct scsi_task *task);       /* MEDIUM ERROR 0C/00 */
enum scsi_step sense_target_failure(struct scsi_task *task);    /* HARDWARE ERROR 44/00 */
enum scsi_step sense_write_protected(struct scsi_task *task);   /* DATA PROTECT 27/00 */
enum scsi_step sense_set_groups_failed(struct scsi_task *task); /* HARDWARE ERROR 67/0A */
enum scsi_step sense_echo_overwritten(struct scsi_task *task);  /* ABORTED COMMAND 3F/0F */
enum scsi_step sense_miscompare(struct scsi_task *task, uint32_t offset); /* MISCOMPARE 1D/00, with
                                                                             INFORMATION */
enum scsi_step sense_attention(struct scsi_task *task, enum attention attention);
enum scsi_step sense_aborted(struct scsi_task *task, uint16_t additional); /* ABORTED COMMAND */
/* COPY ABORTED (SPC-4 5.16.4.3): a copy target cannot be had, a segment failed. */
enum scsi_step sense_copy_aborted(struct scsi_task *task, uint16_t additional);

/* The bytes of sense data without more information, for REQUEST SENSE. Returns how many. */
uint8_t sense_make(uint8_t *to, bool descriptor, enum sense_key key, uint16_t additional);
/* ASC << 8 | ASCQ of an attention. */
uint16_t sense_of_attention(enum attention attention);

#endif
