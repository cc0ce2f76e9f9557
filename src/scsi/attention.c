/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Unit attention conditions of the local nexuses (SAM-5 5.14). None is mirrored: a nexus dies with
 * its controller. What both controllers must tell their hosts is derived at each from the step of
 * the state record, so it makes no difference through which one a host acted. A condition is one
 * bit of the nexus and LUN; it is never lost, and never queued twice. When several steps arrive as
 * one, more nexuses may be told than had to be, never fewer. */

#include "scsi/internal.h"

#include "base/crc32c.h"

static uint32_t name_checksum(const struct scsi_nexus *nexus)
{
    return crc32c(nexus->name, strnlen(nexus->name, SCSI_PORT_NAME_SIZE));
}

static uint8_t standing_in(const struct record *record, const struct scsi_nexus *nexus)
{
    uint32_t index = reservation_find(record, nexus->port, nexus->name);
    uint8_t standing = 0;

    if (index < record->registrant_count) {
        standing |= STANDING_REGISTERED;
        if (index == record->holder)
            standing |= STANDING_HOLDER;
    }
    if (record_nexus_is(&record->reserved_by, nexus))
        standing |= STANDING_RESERVER;
    return standing;
}

void attention_on_open(struct scsi *scsi, struct scsi_nexus *nexus)
{
    uint32_t checksum = name_checksum(nexus);
    uint32_t remembered = min_u32(scsi->departed_count, SCSI_DEPARTED);
    enum attention first = ATTENTION_POWER_ON;

    for (uint32_t i = 0; i < remembered; i++)
        if (scsi->departed[i] == checksum)
            first = ATTENTION_NEXUS_LOSS;
    for (uint32_t lun = 0; lun < SCSI_LUN_LIMIT; lun++) {
        struct scsi_access *access = &nexus->luns[lun];
        if (!access->present)
            continue;
        access->attentions = attention_bit(first);
        access->standing = standing_in(&scsi->units[access->volume].record, nexus);
        access->was_registered = access->standing & STANDING_REGISTERED;
    }
}

void attention_on_close(struct scsi *scsi, const struct scsi_nexus *nexus)
{
    uint32_t checksum = name_checksum(nexus);
    uint32_t remembered = min_u32(scsi->departed_count, SCSI_DEPARTED);

    for (uint32_t i = 0; i < remembered; i++)
        if (scsi->departed[i] == checksum)
            return;
    scsi->departed[scsi->departed_count % SCSI_DEPARTED] = checksum;
    scsi->departed_count++;
    if (scsi->departed_count == 2 * SCSI_DEPARTED) /* it never wraps to "few" */
        scsi->departed_count = SCSI_DEPARTED;
}

/* Whether a counter's step is another nexus's doing. Of several steps in one only the last has a
 * name, so the others may have been anybody's. */
static bool by_other(uint32_t old, uint32_t new, const struct record_nexus *by,
                     const struct scsi_nexus *nexus)
{
    uint32_t steps = new - old;

    return steps > 1 || (steps == 1 && !record_nexus_is(by, nexus));
}

/* `unit` still has the old record: what a reset ends is answered as TAS was before it. */
static void end_tasks(const struct scsi_unit *unit, struct scsi_access *access, bool by_another,
                      bool leaves_attention)
{
    bool status = unit->record.mode.task_aborted_status;

    access->epoch++;
    access->aborted_by_other = by_another;
    access->aborted_status = by_another && status;
    access->commands_cleared = by_another && leaves_attention && !status;
}

/* What became of this nexus's registration and of the reservation (SPC-4 5.13.11). True when its
 * tasks must end. */
static bool on_reservations(const struct scsi_unit *unit, const struct scsi_nexus *nexus,
                            struct scsi_access *access, const struct record *new)
{
    const struct record_events *old = &unit->seen;
    bool was = access->was_registered;
    bool is = access->standing & STANDING_REGISTERED;

    if (was && by_other(old->clear, new->clear_count, &new->clear_by, nexus))
        access->attentions |= attention_bit(ATTENTION_RESERVATIONS_PREEMPTED);
    if (is && by_other(old->release, new->release_count, &new->release_by, nexus))
        access->attentions |= attention_bit(ATTENTION_RESERVATIONS_RELEASED);
    if (!was || is || old->preempt == new->preempt_count)
        return false;
    if (by_other(old->preempt, new->preempt_count, &new->preempt_by, nexus))
        access->attentions |= attention_bit(ATTENTION_REGISTRATIONS_PREEMPTED);
    if (old->abort == new->abort_count)
        return false;
    end_tasks(unit, access, by_other(old->preempt, new->preempt_count, &new->preempt_by, nexus),
              true);
    return true;
}

/* All that the step means to one nexus. True when its tasks must end. */
static bool on_step(const struct scsi_unit *unit, const struct scsi_nexus *nexus,
                    struct scsi_access *access, const struct record *new)
{
    const struct record_events *old = &unit->seen;
    bool ends = on_reservations(unit, nexus, access, new);

    if (by_other(old->mode, new->mode.change_count, &new->mode.changed_by, nexus))
        access->attentions |= attention_bit(ATTENTION_MODE_CHANGED);
    if (old->reset == new->reset_count)
        return ends;
    access->attentions |= attention_bit(ATTENTION_BUS_DEVICE_RESET);
    end_tasks(unit, access, by_other(old->reset, new->reset_count, &new->reset_by, nexus), false);
    return true;
}

static struct record_events events_of(const struct record *record)
{
    return (struct record_events){
        .reset = record->reset_count,
        .preempt = record->preempt_count,
        .abort = record->abort_count,
        .clear = record->clear_count,
        .release = record->release_count,
        .mode = record->mode.change_count,
    };
}

static bool behind(uint32_t old, uint32_t new)
{
    return (int32_t)(new - old) < 0;
}

bool attention_on_record(struct scsi *scsi, struct scsi_unit *unit, const struct record *new,
                         bool known)
{
    const struct record_events old = unit->seen;
    const struct record_events now = events_of(new);
    /* Counters that went back: the pair has lost the record while this controller was out of it.
     * To a host that is a power on. */
    bool lost = behind(old.reset, now.reset) || behind(old.preempt, now.preempt) ||
                behind(old.abort, now.abort) || behind(old.clear, now.clear) ||
                behind(old.release, now.release) || behind(old.mode, now.mode);
    bool ends = false;

    for (uint32_t i = 0; i < scsi->nexus_high; i++) {
        struct scsi_nexus *nexus = &scsi->nexuses[i];
        struct scsi_access *access = nexus->open ? nexus_access(nexus, unit->volume) : NULL;
        if (access == NULL)
            continue;
        access->standing = standing_in(new, nexus);
        if (!known)
            continue;
        if (lost)
            access->attentions |= attention_bit(ATTENTION_POWER_ON);
        else
            ends |= on_step(unit, nexus, access, new);
        access->was_registered = access->standing & STANDING_REGISTERED;
    }
    if (known)
        unit->seen = now;
    return ends;
}
