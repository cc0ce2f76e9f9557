/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Task management (SAM-5 7), the loss of a nexus, and what lapses by itself. A task set belongs to
 * one nexus (TST = 001b), so most functions only concern tasks that the caller knows; a reset is a
 * change of the state record, from which every controller learns that its tasks must end. Nothing
 * here ends a task: scsi_task_fate() says which must, and how. */

#include "scsi/internal.h"

/* ---- which tasks end ---- */

enum scsi_fate scsi_task_fate(const struct scsi_task *task)
{
    struct scsi_access *access = task->access;

    if (access == NULL || task->epoch == access->epoch)
        return SCSI_GO_ON;
    /* The PERSISTENT RESERVE OUT that has removed its own nexus's registration. */
    if (task->exempt && !access->aborted_by_other)
        return SCSI_GO_ON;
    if (access->aborted_status)
        return SCSI_END_ABORTED;
    /* SAM-5 5.6: without a status for each task the nexus is told once. */
    if (access->commands_cleared)
        access->attentions |= attention_bit(ATTENTION_COMMANDS_CLEARED);
    return SCSI_END_SILENT;
}

/* ---- what lapses ---- */

static bool nexus_is_open(const struct scsi *scsi, const struct record_nexus *named)
{
    for (uint32_t i = 0; i < scsi->nexus_high; i++)
        if (scsi->nexuses[i].open && record_nexus_is(named, &scsi->nexuses[i]))
            return true;
    return false;
}

/* An SPC-2 reservation ends with its nexus (SAM-5 6.3.4). One of this controller's is looked for
 * here; those of the other are its own business, for as long as it is in the pair. */
static bool lapsed(const struct scsi *scsi, const struct scsi_unit *unit)
{
    const struct record_nexus *holder = &unit->record.reserved_by;
    uint32_t controller = holder->port - 1u;

    if (holder->port == 0 || unit->service >= SCSI_HELD || !(scsi->controllers & 1u << scsi->self))
        return false;
    if (controller == scsi->self)
        return !nexus_is_open(scsi, holder);
    return !(scsi->controllers & 1u << controller);
}

/* A holder at this controller that is no more, but whose end the record does not know, has left as
 * well: its release could not be written, and upkeep will. */
void manage_reserver_left(struct scsi *scsi, struct scsi_unit *unit)
{
    const struct record_nexus *holder = &unit->record.reserved_by;

    unit->reserver_left = false;
    if (holder->port == 0 || holder->port - 1u != scsi->self)
        return;
    unit->reserver_left = true;
    for (uint32_t i = 0; i < scsi->nexus_high; i++)
        if (scsi->nexuses[i].open && !scsi->nexuses[i].leaving &&
            record_nexus_is(holder, &scsi->nexuses[i]))
            unit->reserver_left = false;
}

void manage_look(struct scsi *scsi, struct scsi_unit *unit)
{
    if (lapsed(scsi, unit))
        scsi->upkeep = true;
}

bool scsi_upkeep(const struct scsi *scsi)
{
    return scsi->upkeep;
}

/* ---- functions ---- */

static void release_spc2(struct record *draft)
{
    draft->reserved_by.port = 0;
}

/* SAM-5 6.3.3: like power on, but persistent reservations stay. */
static void reset(struct record *draft, const struct scsi_nexus *by)
{
    draft->reset_count++;
    record_nexus_set(&draft->reset_by, by);
    release_spc2(draft);
    draft->stopped = false;
    draft->mode = (struct record_mode){.change_count = draft->mode.change_count,
                                       .changed_by = draft->mode.changed_by};
}

static enum scsi_step submit(struct scsi_manage *manage, struct scsi_unit *unit, uint8_t flags)
{
    manage->request = (struct host_request){
        .handle = manage->request.handle,
        .op = HOST_STATE,
        .volume = unit->volume,
        .flags = flags,
        .state_version = unit->state_version,
        .length_bytes = record_encode(&manage->scsi->draft, manage->buffer),
        .data = manage->buffer,
    };
    return SCSI_IO;
}

static enum scsi_step submit_reset(struct scsi_manage *manage, struct scsi_unit *unit)
{
    manage->scsi->draft = unit->record;
    reset(&manage->scsi->draft, manage->nexus);
    return submit(manage, unit, HOST_BARRIER);
}

static enum scsi_step submit_release(struct scsi_manage *manage, struct scsi_unit *unit)
{
    manage->scsi->draft = unit->record;
    release_spc2(&manage->scsi->draft);
    return submit(manage, unit, 0);
}

/* The unit at place `next` of what the function goes through, if it has something to do there. */
static struct scsi_unit *unit_to_change(const struct scsi_manage *manage)
{
    struct scsi *scsi = manage->scsi;
    const struct scsi_access *access;
    struct scsi_unit *unit;

    if (manage->function == SCSI_UPKEEP) {
        unit = &scsi->units[manage->next];
        return lapsed(scsi, unit) ? unit : NULL;
    }
    access = &manage->nexus->luns[manage->next];
    if (!access->present)
        return NULL;
    unit = &scsi->units[access->volume];
    switch (manage->function) {
    case SCSI_LOGICAL_UNIT_RESET:
        return access->volume == scsi_nexus_volume(manage->nexus, manage->lun) ? unit : NULL;
    case SCSI_TARGET_RESET:
        return unit;
    case SCSI_NEXUS_LOSS:
        return record_nexus_is(&unit->record.reserved_by, manage->nexus) ? unit : NULL;
    default:
        return NULL;
    }
}

static enum scsi_step go_on(struct scsi_manage *manage)
{
    struct scsi *scsi = manage->scsi;
    bool upkeep = manage->function == SCSI_UPKEEP;
    uint32_t places = upkeep ? scsi->config.unit_count : SCSI_LUN_LIMIT;

    for (; manage->next < places; manage->next++) {
        struct scsi_unit *unit = unit_to_change(manage);
        if (unit == NULL)
            continue;
        if (manage->function == SCSI_NEXUS_LOSS || upkeep)
            return submit_release(manage, unit);
        return submit_reset(manage, unit);
    }
    if (upkeep) {
        /* What could not be done is looked at again when something changes, not at once. */
        scsi->upkeep = false;
        for (uint32_t i = 0; i < places && manage->result == SCSI_FUNCTION_COMPLETE; i++)
            manage_look(scsi, &scsi->units[i]);
    }
    return SCSI_DONE;
}

enum scsi_step scsi_manage_begin(struct scsi *scsi, struct scsi_manage *manage)
{
    manage->scsi = scsi;
    manage->next = 0;
    manage->retries = 0;
    manage->result = SCSI_FUNCTION_COMPLETE;
    switch (manage->function) {
    case SCSI_ABORT_TASK:
    case SCSI_ABORT_TASK_SET:
    case SCSI_CLEAR_TASK_SET:
    case SCSI_QUERY_TASK:
    case SCSI_QUERY_TASK_SET:
        if (scsi_nexus_volume(manage->nexus, manage->lun) < 0)
            manage->result = SCSI_FUNCTION_NO_LUN;
        return SCSI_DONE;
    case SCSI_CLEAR_ACA:
        manage->result = SCSI_FUNCTION_REJECTED;
        return SCSI_DONE;
    case SCSI_LOGICAL_UNIT_RESET:
        if (scsi_nexus_volume(manage->nexus, manage->lun) < 0) {
            manage->result = SCSI_FUNCTION_NO_LUN;
            return SCSI_DONE;
        }
        break;
    case SCSI_TARGET_RESET:
    case SCSI_NEXUS_LOSS:
    case SCSI_UPKEEP:
        break;
    }
    return go_on(manage);
}

enum scsi_step scsi_manage_io_done(struct scsi_manage *manage, enum host_result result)
{
    if (result == HOST_STALE && manage->retries++ < SCSI_STALE_RETRIES)
        return go_on(manage); /* the same place, from the newer record */
    if (result != HOST_OK)
        manage->result = SCSI_FUNCTION_FAILED;
    manage->retries = 0;
    manage->next++;
    return go_on(manage);
}
