/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Asymmetric access (SPC-4 5.15): target port group 1 is controller a, 2 is b; the owner's is
 * active/optimized. States are worked out from what both controllers know alike (who owns the
 * volume, which controllers are in the pair), so that a host gets one answer through every path.
 * PREF is never set: multipath would send I/O to the preferred port even where it is not optimized.
 * Nothing here moves a volume; SET TARGET PORT GROUPS asks the core to. */

#include "scsi/sense.h"

enum {
    GROUP_COUNT = 2,

    /* REPORT TARGET PORT GROUPS (6.36). */
    FORMAT_LENGTH_ONLY = 0,
    FORMAT_EXTENDED = 1,
    HEADER_BYTES = 4,
    EXTENDED_HEADER_BYTES = 8,
    DESCRIPTOR_BYTES = 12,                 /* with its one target port */
    SUPPORTED = 0x80 | 0x08 | 0x02 | 0x01, /* T_SUP, U_SUP, AN_SUP, AO_SUP */
    /* What hosts may wait for a transition by themselves: a takeover after a machine's loss waits
     * for the lease, which is seconds. */
    IMPLICIT_TRANSITION_SECONDS = 60,

    /* SET TARGET PORT GROUPS (6.45). */
    SET_HEADER_BYTES = 4,
    SET_DESCRIPTOR_BYTES = 4,
    SET_LIMIT_BYTES = SET_HEADER_BYTES + GROUP_COUNT * SET_DESCRIPTOR_BYTES,
};

enum alua_state alua_state(const struct scsi *scsi, const struct scsi_unit *unit, uint16_t group)
{
    uint32_t controller = group - 1u;
    bool alone = scsi->controllers == 1u << controller;

    CHECK(group >= 1);
    CHECK(group <= GROUP_COUNT);
    if (!(scsi->controllers & 1u << controller))
        return ALUA_UNAVAILABLE;
    if (unit->service == SCSI_HELD)
        return ALUA_TRANSITIONING;
    /* A controller that is out of the pair must not say of the other that it is down, too: hosts
     * believe what one path says of all. */
    if (alone && controller != scsi->self)
        return ALUA_OPTIMIZED;
    if (unit->service == SCSI_UNSERVED)
        return ALUA_UNAVAILABLE;
    if (unit->owner < 0)
        return ALUA_TRANSITIONING;
    return unit->owner == (int)controller ? ALUA_OPTIMIZED : ALUA_NON_OPTIMIZED;
}

/* ---- REPORT TARGET PORT GROUPS ---- */

enum scsi_step alua_report_begin(struct scsi_task *task)
{
    if (task->cdb[1] >> 5 > FORMAT_EXTENDED)
        return sense_invalid_field_in_cdb(task, 1, 7);
    return task_buffer_in(task, EXTENDED_HEADER_BYTES + GROUP_COUNT * DESCRIPTOR_BYTES);
}

enum scsi_step alua_report_run(struct scsi_task *task)
{
    bool extended = task->cdb[1] >> 5 == FORMAT_EXTENDED;
    uint32_t length = extended ? EXTENDED_HEADER_BYTES : HEADER_BYTES;
    uint8_t *bytes = task->buffer;

    memset(bytes, 0, EXTENDED_HEADER_BYTES + GROUP_COUNT * DESCRIPTOR_BYTES);
    if (extended) {
        bytes[4] = FORMAT_EXTENDED << 4;
        bytes[5] = IMPLICIT_TRANSITION_SECONDS;
    }
    for (uint16_t group = 1; group <= GROUP_COUNT; group++) {
        uint8_t *descriptor = bytes + length;
        descriptor[0] = (uint8_t)alua_state(task->scsi, task->unit, group);
        descriptor[1] = SUPPORTED;
        put_u16(descriptor + 2, group);
        descriptor[7] = 1;               /* target port count */
        put_u16(descriptor + 10, group); /* its relative identifier */
        length += DESCRIPTOR_BYTES;
    }
    put_u32(bytes, length - 4);
    return task_in(task, length, get_u32(task->cdb + 6));
}

/* ---- SET TARGET PORT GROUPS ---- */

enum scsi_step alua_set_begin(struct scsi_task *task)
{
    uint32_t list_bytes = get_u32(task->cdb + 6);

    /* 6.45: length zero changes nothing and is no error. */
    if (list_bytes == 0)
        return task_good(task);
    if (list_bytes % SET_DESCRIPTOR_BYTES != 0 || list_bytes > SET_LIMIT_BYTES ||
        list_bytes > task->expected_out_bytes)
        return sense_list_length(task);
    return task_buffer_out(task, list_bytes, list_bytes);
}

enum scsi_step alua_set_run(struct scsi_task *task)
{
    struct scsi_unit *unit = task->unit;
    bool asked[GROUP_COUNT] = {false};
    int wanted = -1;

    for (uint32_t at = SET_HEADER_BYTES; at < task->out_bytes; at += SET_DESCRIPTOR_BYTES) {
        const uint8_t *descriptor = task->buffer + at;
        uint8_t state = descriptor[0] & 0x0F;
        uint16_t group = get_u16(descriptor + 2);
        int owner;
        if (group < 1 || group > GROUP_COUNT || asked[group - 1])
            return sense_invalid_field_in_list(task, (uint16_t)(at + 2), -1);
        if (state != ALUA_OPTIMIZED && state != ALUA_NON_OPTIMIZED)
            return sense_invalid_field_in_list(task, (uint16_t)at, 3);
        /* One group is optimized and the other is not: either state of either says who owns. */
        owner = state == ALUA_OPTIMIZED ? group - 1 : 2 - group;
        if (wanted >= 0 && wanted != owner)
            return sense_invalid_field_in_list(task, (uint16_t)at, 3);
        asked[group - 1] = true;
        wanted = owner;
    }
    if (wanted < 0 || (wanted == unit->owner && unit->service < SCSI_HELD))
        return task_good(task);
    /* 5.15.2.5: the nexus that asked for the change gets no unit attention for it. */
    task->access->asked_group = (uint8_t)(wanted + 1);
    task->request.op = HOST_MOVE;
    task->request.volume = unit->volume;
    task->request.flags = 0;
    task->request.tag = 0;
    task->request.offset_bytes = (uint64_t)wanted;
    task->request.length_bytes = 0;
    task->request.data = NULL;
    return SCSI_IO;
}

enum scsi_step alua_set_done(struct scsi_task *task, enum host_result result, uint64_t detail)
{
    task->access->asked_group = 0;
    if (result == HOST_OK)
        return task_good(task);
    if (result == HOST_REFUSED)
        return sense_set_groups_failed(task);
    return task_host_error(task, result);
}

/* ---- ASYMMETRIC ACCESS STATE CHANGED ---- */

/* While a volume is between owners hosts wait, and need not hear of it; what they must hear is
 * where it settled, if that is elsewhere than before. */
void alua_on_change(struct scsi *scsi, struct scsi_unit *unit)
{
    uint8_t now[GROUP_COUNT];

    for (uint16_t group = 1; group <= GROUP_COUNT; group++) {
        now[group - 1] = (uint8_t)alua_state(scsi, unit, group);
        if (now[group - 1] == ALUA_TRANSITIONING)
            return;
    }
    if (memcmp(now, unit->settled, sizeof now) == 0)
        return;
    memcpy(unit->settled, now, sizeof now);
    for (uint32_t i = 0; i < scsi->nexus_high; i++) {
        struct scsi_nexus *nexus = &scsi->nexuses[i];
        struct scsi_access *access = nexus->open ? nexus_access(nexus, unit->volume) : NULL;
        if (access == NULL)
            continue;
        if (access->asked_group != 0 && now[access->asked_group - 1] == ALUA_OPTIMIZED)
            access->asked_group = 0;
        else
            access->attentions |= attention_bit(ATTENTION_ACCESS_STATE_CHANGED);
    }
}
