/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The commands: one row each, sorted by operation code and service action. A row says which bits of
 * the CDB mean something (SPC-4 6.35.3), in which states of the unit and against which reservations
 * the command is allowed (SPC-4 5.13 table 64, SBC-3 4.18 table 13), and who carries it out.
 * Nothing else in the program knows an operation code's meaning. */

#include "scsi/command.h"

/* What the table's columns need of enum command_flag, in words that leave room for the rest. */
enum {
    ATTENTION = COMMAND_WITH_ATTENTION,
    NO_UNIT = COMMAND_WITHOUT_UNIT,
    UNAVAILABLE = COMMAND_WHILE_UNAVAILABLE,
    STOPPED = COMMAND_WHILE_STOPPED,
    ANY = COMMAND_RESERVED_ANY,
    READS = COMMAND_RESERVED_READS,
    SPC2 = COMMAND_RESERVED_SPC2,
    WRITES = COMMAND_WRITES,
    ITSELF = COMMAND_RESERVED_ITSELF,
    STALE = COMMAND_STALE_ITSELF,
    THIN = COMMAND_THIN,
};

/* Operation code, service action, length of the CDB, name, flags, begin, run, io_done; then the
 * usage map from byte 1 on. */
#define ROW(opcode, action, has_action, length, name, flags, begin, run, done, ...)                \
    {                                                                                              \
        opcode, action, has_action, length, flags, name, {opcode, __VA_ARGS__}, begin, run, done   \
    }
#define PLAIN(opcode, ...)          ROW(opcode, 0, false, __VA_ARGS__)
#define ACTION(opcode, action, ...) ROW(opcode, action, true, __VA_ARGS__)

const struct scsi_command commands[] = {
    PLAIN(0x00, 6, "TEST UNIT READY", ANY, report_ready_begin, NULL, NULL, 0, 0, 0, 0, 4),
    PLAIN(0x03, 6, "REQUEST SENSE", ATTENTION | NO_UNIT | UNAVAILABLE | STOPPED | ANY | SPC2,
          report_sense_begin, report_sense_run, NULL, 1, 0, 0, 0xFF, 4),
    PLAIN(0x08, 6, "READ(6)", READS, block_read_begin, block_read_run, block_read_done, 0x1F, 0xFF,
          0xFF, 0xFF, 4),
    PLAIN(0x0A, 6, "WRITE(6)", WRITES, block_write_begin, block_write_run, block_write_done, 0x1F,
          0xFF, 0xFF, 0xFF, 4),
    PLAIN(0x12, 6, "INQUIRY", ATTENTION | NO_UNIT | UNAVAILABLE | STOPPED | ANY | SPC2,
          inquiry_begin, inquiry_run, NULL, 1, 0xFF, 0xFF, 0xFF, 4),
    PLAIN(0x15, 6, "MODE SELECT(6)", STOPPED, mode_select_begin, mode_select_run, mode_select_done,
          0x11, 0, 0, 0xFF, 4),
    PLAIN(0x16, 6, "RESERVE(6)", ITSELF | SPC2 | STOPPED, reservation_reserve_begin,
          reservation_reserve_run, reservation_reserve_done, 0, 0, 0, 0, 4),
    PLAIN(0x17, 6, "RELEASE(6)", ITSELF | SPC2 | STOPPED, reservation_release_begin,
          reservation_release_run, reservation_release_done, 0, 0, 0, 0, 4),
    PLAIN(0x1A, 6, "MODE SENSE(6)", READS | STOPPED, mode_sense_begin, mode_sense_run, NULL, 8,
          0xFF, 0xFF, 0xFF, 4),
    PLAIN(0x1B, 6, "START STOP UNIT", ITSELF | STOPPED, mode_start_stop_begin, mode_start_stop_run,
          mode_start_stop_done, 1, 0, 0x0F, 0xF7, 4),
    PLAIN(0x1D, 6, "SEND DIAGNOSTIC", STOPPED, buffer_diagnostic_begin, NULL, NULL, 0xE4, 0, 0xFF,
          0xFF, 4),
    PLAIN(0x25, 10, "READ CAPACITY(10)", ANY | STOPPED, report_capacity10_begin,
          report_capacity10_run, NULL, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 1, 4),
    PLAIN(0x28, 10, "READ(10)", READS, block_read_begin, block_read_run, block_read_done, 0xF8,
          0xFF, 0xFF, 0xFF, 0xFF, 0, 0xFF, 0xFF, 4),
    PLAIN(0x2A, 10, "WRITE(10)", WRITES, block_write_begin, block_write_run, block_write_done, 0xF8,
          0xFF, 0xFF, 0xFF, 0xFF, 0, 0xFF, 0xFF, 4),
    PLAIN(0x2E, 10, "WRITE AND VERIFY(10)", WRITES, verify_write_begin, verify_write_run,
          verify_write_done, 0xF6, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0xFF, 0xFF, 4),
    PLAIN(0x2F, 10, "VERIFY(10)", READS, verify_begin, verify_run, verify_done, 0xF6, 0xFF, 0xFF,
          0xFF, 0xFF, 0, 0xFF, 0xFF, 4),
    PLAIN(0x34, 10, "PRE-FETCH(10)", READS, block_prefetch_begin, block_prefetch_run,
          block_prefetch_done, 2, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0xFF, 0xFF, 4),
    PLAIN(0x35, 10, "SYNCHRONIZE CACHE(10)", 0, block_flush_begin, NULL, block_flush_done, 2, 0xFF,
          0xFF, 0xFF, 0xFF, 0, 0xFF, 0xFF, 4),
    PLAIN(0x37, 10, "READ DEFECT DATA(10)", READS, report_defects_begin, report_defects_run, NULL,
          0, 0x1F, 0, 0, 0, 0, 0xFF, 0xFF, 4),
    PLAIN(0x3B, 10, "WRITE BUFFER", STOPPED, buffer_write_begin, buffer_write_run, NULL, 0x1F, 0xFF,
          0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 4),
    PLAIN(0x3C, 10, "READ BUFFER", READS | STOPPED, buffer_read_begin, buffer_read_run, NULL, 0x1F,
          0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 4),
    PLAIN(0x41, 10, "WRITE SAME(10)", WRITES, provisioning_same_begin, provisioning_same_run,
          provisioning_same_done, 0xF8, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0xFF, 0xFF, 4),
    PLAIN(0x42, 10, "UNMAP", WRITES | THIN, provisioning_unmap_begin, provisioning_unmap_run,
          provisioning_unmap_done, 1, 0, 0, 0, 0, 0, 0xFF, 0xFF, 4),
    PLAIN(0x55, 10, "MODE SELECT(10)", STOPPED, mode_select_begin, mode_select_run,
          mode_select_done, 0x11, 0, 0, 0, 0, 0, 0xFF, 0xFF, 4),
    PLAIN(0x56, 10, "RESERVE(10)", ITSELF | SPC2 | STOPPED, reservation_reserve_begin,
          reservation_reserve_run, reservation_reserve_done, 2, 0, 0, 0, 0, 0, 0xFF, 0xFF, 4),
    PLAIN(0x57, 10, "RELEASE(10)", ITSELF | SPC2 | STOPPED, reservation_release_begin,
          reservation_release_run, reservation_release_done, 2, 0, 0, 0, 0, 0, 0xFF, 0xFF, 4),
    PLAIN(0x5A, 10, "MODE SENSE(10)", READS | STOPPED, mode_sense_begin, mode_sense_run, NULL, 0x18,
          0xFF, 0xFF, 0, 0, 0, 0xFF, 0xFF, 4),
    ACTION(0x5E, 0x00, 10, "PERSISTENT RESERVE IN, READ KEYS", ANY | STOPPED, reservation_in_begin,
           reservation_in_run, NULL, 0x1F, 0, 0, 0, 0, 0, 0xFF, 0xFF, 4),
    ACTION(0x5E, 0x01, 10, "PERSISTENT RESERVE IN, READ RESERVATION", ANY | STOPPED,
           reservation_in_begin, reservation_in_run, NULL, 0x1F, 0, 0, 0, 0, 0, 0xFF, 0xFF, 4),
    ACTION(0x5E, 0x02, 10, "PERSISTENT RESERVE IN, REPORT CAPABILITIES", ANY | STOPPED,
           reservation_in_begin, reservation_in_run, NULL, 0x1F, 0, 0, 0, 0, 0, 0xFF, 0xFF, 4),
    ACTION(0x5E, 0x03, 10, "PERSISTENT RESERVE IN, READ FULL STATUS", ANY | STOPPED,
           reservation_in_begin, reservation_in_run, NULL, 0x1F, 0, 0, 0, 0, 0, 0xFF, 0xFF, 4),
    ACTION(0x5F, 0x00, 10, "PERSISTENT RESERVE OUT, REGISTER", ITSELF | STOPPED,
           reservation_out_begin, reservation_out_run, reservation_out_done, 0x1F, 0, 0, 0, 0xFF,
           0xFF, 0xFF, 0xFF, 4),
    ACTION(0x5F, 0x01, 10, "PERSISTENT RESERVE OUT, RESERVE", ITSELF | STOPPED,
           reservation_out_begin, reservation_out_run, reservation_out_done, 0x1F, 0xFF, 0, 0, 0xFF,
           0xFF, 0xFF, 0xFF, 4),
    ACTION(0x5F, 0x02, 10, "PERSISTENT RESERVE OUT, RELEASE", ITSELF | STOPPED,
           reservation_out_begin, reservation_out_run, reservation_out_done, 0x1F, 0xFF, 0, 0, 0xFF,
           0xFF, 0xFF, 0xFF, 4),
    ACTION(0x5F, 0x03, 10, "PERSISTENT RESERVE OUT, CLEAR", ITSELF | STOPPED, reservation_out_begin,
           reservation_out_run, reservation_out_done, 0x1F, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 4),
    ACTION(0x5F, 0x04, 10, "PERSISTENT RESERVE OUT, PREEMPT", ITSELF | STOPPED,
           reservation_out_begin, reservation_out_run, reservation_out_done, 0x1F, 0xFF, 0, 0, 0xFF,
           0xFF, 0xFF, 0xFF, 4),
    ACTION(0x5F, 0x05, 10, "PERSISTENT RESERVE OUT, PREEMPT AND ABORT", ITSELF | STOPPED,
           reservation_out_begin, reservation_out_run, reservation_out_done, 0x1F, 0xFF, 0, 0, 0xFF,
           0xFF, 0xFF, 0xFF, 4),
    ACTION(0x5F, 0x06, 10, "PERSISTENT RESERVE OUT, REGISTER AND IGNORE EXISTING KEY",
           ITSELF | STOPPED, reservation_out_begin, reservation_out_run, reservation_out_done, 0x1F,
           0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 4),
    ACTION(0x5F, 0x07, 10, "PERSISTENT RESERVE OUT, REGISTER AND MOVE", ITSELF | STOPPED,
           reservation_out_begin, reservation_out_run, reservation_out_done, 0x1F, 0, 0, 0, 0xFF,
           0xFF, 0xFF, 0xFF, 4),
    ACTION(0x83, 0x00, 16, "EXTENDED COPY(LID1)", STALE, copy_begin, copy_run, copy_done, 0x1F, 0,
           0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 4),
    ACTION(0x84, 0x00, 16, "RECEIVE COPY COPY STATUS(LID1)", STOPPED, copy_results_begin,
           copy_results_run, NULL, 0x1F, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 4),
    ACTION(0x84, 0x03, 16, "RECEIVE COPY OPERATING PARAMETERS", STOPPED, copy_results_begin,
           copy_results_run, NULL, 0x1F, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 4),
    ACTION(0x84, 0x04, 16, "RECEIVE COPY FAILED SEGMENT DETAILS(LID1)", STOPPED, copy_results_begin,
           copy_results_run, NULL, 0x1F, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 4),
    PLAIN(0x88, 16, "READ(16)", READS, block_read_begin, block_read_run, block_read_done, 0xF8,
          0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 4),
    PLAIN(0x89, 16, "COMPARE AND WRITE", WRITES, atomic_compare_begin, atomic_compare_run,
          atomic_compare_done, 0xF8, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0xFF,
          0, 4),
    PLAIN(0x8A, 16, "WRITE(16)", WRITES, block_write_begin, block_write_run, block_write_done, 0xF8,
          0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 4),
    PLAIN(0x8B, 16, "ORWRITE(16)", WRITES, atomic_or_begin, atomic_or_run, atomic_or_done, 0xF8,
          0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 4),
    PLAIN(0x8E, 16, "WRITE AND VERIFY(16)", WRITES, verify_write_begin, verify_write_run,
          verify_write_done, 0xF6, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
          0xFF, 0, 4),
    PLAIN(0x8F, 16, "VERIFY(16)", READS, verify_begin, verify_run, verify_done, 0xF6, 0xFF, 0xFF,
          0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 4),
    PLAIN(0x90, 16, "PRE-FETCH(16)", READS, block_prefetch_begin, block_prefetch_run,
          block_prefetch_done, 2, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
          0xFF, 0, 4),
    PLAIN(0x91, 16, "SYNCHRONIZE CACHE(16)", 0, block_flush_begin, NULL, block_flush_done, 2, 0xFF,
          0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 4),
    PLAIN(0x93, 16, "WRITE SAME(16)", WRITES, provisioning_same_begin, provisioning_same_run,
          provisioning_same_done, 0xF9, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
          0xFF, 0xFF, 0, 4),
    ACTION(0x9E, 0x10, 16, "READ CAPACITY(16)", ANY | STOPPED, report_capacity16_begin,
           report_capacity16_run, NULL, 0x1F, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 4),
    ACTION(0x9E, 0x12, 16, "GET LBA STATUS", READS, provisioning_status_begin,
           provisioning_status_run, NULL, 0x1F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
           0xFF, 0xFF, 0xFF, 0xFF, 0, 4),
    PLAIN(0xA0, 12, "REPORT LUNS", ATTENTION | NO_UNIT | UNAVAILABLE | STOPPED | ANY | SPC2,
          report_luns_begin, report_luns_run, NULL, 0, 0xFF, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 4),
    ACTION(0xA3, 0x0A, 12, "REPORT TARGET PORT GROUPS", UNAVAILABLE | STOPPED | ANY | SPC2,
           alua_report_begin, alua_report_run, NULL, 0xFF, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0,
           4),
    ACTION(0xA3, 0x0C, 12, "REPORT SUPPORTED OPERATION CODES", UNAVAILABLE | STOPPED | READS,
           report_opcodes_begin, report_opcodes_run, NULL, 0x1F, 0x87, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
           0xFF, 0xFF, 0, 4),
    ACTION(0xA3, 0x0D, 12, "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS",
           UNAVAILABLE | STOPPED | READS, report_functions_begin, report_functions_run, NULL, 0x1F,
           0x80, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 4),
    ACTION(0xA4, 0x0A, 12, "SET TARGET PORT GROUPS", UNAVAILABLE | STOPPED, alua_set_begin,
           alua_set_run, alua_set_done, 0x1F, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 4),
    PLAIN(0xA8, 12, "READ(12)", READS, block_read_begin, block_read_run, block_read_done, 0xF8,
          0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 4),
    PLAIN(0xAA, 12, "WRITE(12)", WRITES, block_write_begin, block_write_run, block_write_done, 0xF8,
          0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 4),
    PLAIN(0xAE, 12, "WRITE AND VERIFY(12)", WRITES, verify_write_begin, verify_write_run,
          verify_write_done, 0xF6, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 4),
    PLAIN(0xAF, 12, "VERIFY(12)", READS, verify_begin, verify_run, verify_done, 0xF6, 0xFF, 0xFF,
          0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 4),
    PLAIN(0xB7, 12, "READ DEFECT DATA(12)", READS, report_defects_begin, report_defects_run, NULL,
          0x1F, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 4),
};

const uint32_t command_count = ARRAY_LENGTH(commands);

_Static_assert(ARRAY_LENGTH(commands) <= COMMAND_LIMIT, "the buffer of the whole table fits");

void command_index(uint8_t first[256])
{
    memset(first, 0, 256);
    for (uint32_t i = command_count; i-- > 0;)
        first[commands[i].opcode] = (uint8_t)(i + 1);
}

const struct scsi_command *command_find(const uint8_t first[256], const uint8_t *cdb,
                                        bool *known_opcode)
{
    uint32_t row = first[cdb[0]];

    if (row == 0)
        return NULL;
    *known_opcode = true;
    for (const struct scsi_command *command = &commands[row - 1];
         command < commands + command_count && command->opcode == cdb[0]; command++)
        if (!command->has_service_action || command->service_action == (cdb[1] & 0x1F))
            return command;
    return NULL;
}
