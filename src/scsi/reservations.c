/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What a reservation lets through, and the RESERVE and RELEASE of SPC-2. Which command needs what
 * stands in the command table's flags; who a nexus is stands in its access. A command that goes on
 * to the core carries the version of the record that it was judged by, so a reservation that
 * completes at one controller is never overtaken by a command judged before it at the other. */

#include "scsi/sense.h"

/* ---- the check ---- */

bool reservation_of_all(uint8_t type)
{
    return type == RESERVATION_WRITE_EXCLUSIVE_ALL_REGISTRANTS ||
           type == RESERVATION_EXCLUSIVE_ACCESS_ALL_REGISTRANTS;
}

bool reservation_of_registrants(uint8_t type)
{
    return type == RESERVATION_WRITE_EXCLUSIVE_REGISTRANTS_ONLY ||
           type == RESERVATION_EXCLUSIVE_ACCESS_REGISTRANTS_ONLY || reservation_of_all(type);
}

bool reservation_type_known(uint8_t type)
{
    return type == RESERVATION_WRITE_EXCLUSIVE || type == RESERVATION_EXCLUSIVE_ACCESS ||
           reservation_of_registrants(type);
}

static bool write_exclusive(uint8_t type)
{
    return type == RESERVATION_WRITE_EXCLUSIVE ||
           type == RESERVATION_WRITE_EXCLUSIVE_REGISTRANTS_ONLY ||
           type == RESERVATION_WRITE_EXCLUSIVE_ALL_REGISTRANTS;
}

bool reservation_present(const struct record *record)
{
    return record->type != RESERVATION_NONE || record->reserved_by.port != 0;
}

uint32_t reservation_find(const struct record *record, uint16_t port, const char *initiator)
{
    for (uint32_t i = 0; i < record->registrant_count; i++) {
        const struct record_nexus *nexus = &record->registrants[i].nexus;
        if (nexus->port == port && strcmp(nexus->initiator, initiator) == 0)
            return i;
    }
    return record->registrant_count;
}

/* SPC-4 table 64 and SBC-3 table 13, as rules over the flags of a command:
 *
 *   reserved as            holder  registered  others
 *   write exclusive        all     reads       reads     reads: COMMAND_RESERVED_READS
 *   exclusive access       all     any         any       any: COMMAND_RESERVED_ANY
 *   ..., registrants only  all     all         as above
 *   ..., all registrants   -       all         as above
 *   SPC-2                  all     -           spc2      spc2: COMMAND_RESERVED_SPC2 */
bool reservation_check(const struct scsi_unit *unit, const struct scsi_access *access,
                       uint16_t flags)
{
    const struct record *record = &unit->record;
    uint8_t allowing = STANDING_HOLDER;

    if (reservation_of_spc2(unit) && !(access->standing & STANDING_RESERVER) &&
        !(flags & COMMAND_RESERVED_SPC2))
        return false;
    if (record->type == RESERVATION_NONE || (flags & COMMAND_RESERVED_ANY))
        return true;
    if (reservation_of_registrants(record->type))
        allowing |= STANDING_REGISTERED;
    if (access->standing & allowing)
        return true;
    return write_exclusive(record->type) && (flags & COMMAND_RESERVED_READS);
}

/* ---- RESERVE and RELEASE (SPC-2 7.21, 7.16) ---- */

enum {
    THIRD_PARTY = 0x10, /* 3RDPTY: obsolete; nobody but the sender can be meant */
    LONG_ID = 0x02,
    EXTENT = 0x01, /* obsolete */
    RESERVE_6 = 0x16,
    RELEASE_6 = 0x17,
};

static enum scsi_step spc2_begin(struct scsi_task *task)
{
    bool six = task->cdb[0] == RESERVE_6 || task->cdb[0] == RELEASE_6;

    if (task->cdb[1] & THIRD_PARTY)
        return sense_invalid_field_in_cdb(task, 1, 4);
    if (!six && (task->cdb[1] & LONG_ID))
        return sense_invalid_field_in_cdb(task, 1, 1);
    if (task->cdb[1] & EXTENT)
        return sense_invalid_field_in_cdb(task, 1, 0);
    return task_buffer_out(task, 0, VOLUME_STATE_BYTES);
}

/* Registrations and SPC-2 reservations exclude each other, but for the exceptions of SPC-4 5.13.3
 * (CRH): to one who has the access anyway both commands say GOOD and do nothing. True: answered. */
static bool spc2_meets_registrations(struct scsi_task *task)
{
    const struct record *record = &task->unit->record;
    uint8_t allowing = STANDING_HOLDER;

    if (record->registrant_count == 0)
        return false;
    if (reservation_of_registrants(record->type))
        allowing |= STANDING_REGISTERED;
    if (task->access->standing & allowing)
        (void)task_good(task);
    else
        (void)task_status(task, SCSI_RESERVATION_CONFLICT);
    return true;
}

enum scsi_step reservation_reserve_begin(struct scsi_task *task)
{
    return spc2_begin(task);
}

enum scsi_step reservation_reserve_run(struct scsi_task *task)
{
    const struct record *record = &task->unit->record;
    struct record *draft = &task->scsi->draft;

    if (spc2_meets_registrations(task))
        return SCSI_DONE;
    if (task->access->standing & STANDING_RESERVER)
        return task_good(task);
    if (reservation_of_spc2(task->unit))
        return task_status(task, SCSI_RESERVATION_CONFLICT);
    *draft = *record;
    record_nexus_set(&draft->reserved_by, task->nexus);
    return task_record(task, draft, 0);
}

enum scsi_step reservation_reserve_done(struct scsi_task *task, enum host_result result,
                                        uint64_t detail)
{
    if (result == HOST_STALE && task_may_retry(task))
        return reservation_reserve_run(task);
    return result == HOST_OK ? task_good(task) : task_host_error(task, result);
}

enum scsi_step reservation_release_begin(struct scsi_task *task)
{
    return spc2_begin(task);
}

enum scsi_step reservation_release_run(struct scsi_task *task)
{
    struct record *draft = &task->scsi->draft;

    if (spc2_meets_registrations(task))
        return SCSI_DONE;
    if (!(task->access->standing & STANDING_RESERVER))
        return task_good(task); /* SPC-2 7.16.1: not an error, and nothing changes */
    *draft = task->unit->record;
    draft->reserved_by.port = 0;
    return task_record(task, draft, 0);
}

enum scsi_step reservation_release_done(struct scsi_task *task, enum host_result result,
                                        uint64_t detail)
{
    if (result == HOST_STALE && task_may_retry(task))
        return reservation_release_run(task);
    return result == HOST_OK ? task_good(task) : task_host_error(task, result);
}
