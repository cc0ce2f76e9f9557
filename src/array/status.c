/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What is shown of a controller. Only looks; changes nothing. */

#include "array/internal.h"

#include <stdio.h>

static void volume_status(const struct array *array, uint32_t index, struct volume_status *status)
{
    const struct volume *volume = &array->volumes[index];
    *status = volume->status;
    status->owner = role_has_memory(array->role.state) ? volume->owner : -1;
    status->moving = volume->move != MOVE_NONE;
    status->dirty_pages = array->destage.generations.volume_pages[index];
    status->waiting = volume->active;
}

/* Every header has a host's read or write, a refill or a change of role as its cause; what is left
 * over could only come from a destage. */
static uint64_t flush_messages(const struct array *array)
{
    return array->lists.added - array->sent.writes - array->sent.drops - array->sent.ranges -
           array->controls_sent;
}

struct array_glance array_glance(const struct array *array)
{
    return (struct array_glance){.role = array->role.state,
                                 .epoch = array->role.epoch,
                                 .reason = array->role.reason,
                                 .flush_messages = flush_messages(array)};
}

bool array_moving(const struct array *array, uint8_t volume)
{
    return array->volumes[volume].move != MOVE_NONE;
}

void array_status(const struct array *array, uint64_t now_us, struct array_status *status)
{
    const struct role_machine *role = &array->role;
    const struct slot_table *table = &array->table;
    const struct destage *destage = &array->destage;
    memset(status, 0,
           offsetof(struct array_status, volumes)); /* of those, all that there are follow */
    status->role = role->state;
    snprintf(status->reason, sizeof status->reason, "%s", role->reason);
    status->epoch = role->epoch;
    status->incarnation = array->config.incarnation;
    status->refilling = array->refill.state != REFILL_NONE;
    status->stopping = array->stopping;
    status->link_up = array->outgoing.link_up;
    status->peer_known = role->peer.known;
    status->peer_role = role->peer.role;
    if (role->state == ROLE_PAIRED)
        status->lease_left_us = (int64_t)(role->lease_until_us - now_us);
    status->takeover_count = role->takeover_count;
    status->takeover_last_us = role->takeover_count > 0 ? role->takeover_last_us : 0;
    status->slots = table->half;
    status->slots_clean = table->state_count[0][SLOT_CLEAN];
    status->slots_free = table->state_count[0][SLOT_FREE];
    status->slots_dirty =
        slot_dirty_count(table, 0) + (array_is_solo(array) ? slot_dirty_count(table, 1) : 0);
    status->slots_image = array_is_solo(array) ? 0 : slot_dirty_count(table, 1);
    status->requests_waiting_for_room = array->room_writes.count;
    status->flush_messages = flush_messages(array);
    status->sent = array->sent;
    status->sent.headers_waiting = array->lists.list[array->lists.filling].count;
    status->received = array->received;
    status->destage =
        (struct destage_status){.store_writes = destage->store_writes,
                                .pages_written = destage->pages_written,
                                .flushes = destage->flushes,
                                .joined_pages = destage->pages_written - destage->store_writes,
                                .host_pages = array->host_pages,
                                .errors = destage->errors,
                                .failed_pages = slot_list_count(table, LIST_FAILED),
                                .in_flight = destage->writing,
                                .backlog_pages = status->slots_dirty};
    copy_status(array, status);
    status->volume_count = array->config.volume_count;
    for (uint32_t i = 0; i < array->config.volume_count; i++)
        volume_status(array, i, &status->volumes[i]);
}

enum array_hosts array_hosts(const struct array *array, uint8_t volume)
{
    const struct group *group = copy_group(array, volume);
    if (group == NULL || copy_site_judge(group, HOST_WRITE) == HOST_OK || copy_site_waits(group))
        return ARRAY_HOSTS_SERVED;
    return copy_site_judge(group, HOST_READ) == HOST_OK ? ARRAY_HOSTS_READ_ONLY
                                                        : ARRAY_HOSTS_REFUSED;
}

enum array_service array_service(const struct array *array, uint8_t volume)
{
    const struct group *group = copy_group(array, volume);
    bool serves = array->role.state == ROLE_SOLO || array->role.state == ROLE_PAIRED;
    if (copy_site_refuses(array, volume))
        return ARRAY_UNSERVED;
    if (serves && group != NULL && copy_site_waits(group))
        return ARRAY_HELD;
    switch (array->role.state) {
    case ROLE_PAIRED:
        if (array->volumes[volume].move >= MOVE_HOLD)
            return ARRAY_HELD;
        return array_owns(array, volume) ? ARRAY_SERVED_HERE : ARRAY_SERVED_THERE;
    case ROLE_SOLO:
        return ARRAY_SERVED_HERE;
    case ROLE_RACING:
    case ROLE_FENCING:
        return ARRAY_HELD;
    default:
        return ARRAY_UNSERVED;
    }
}

const void *array_state(const struct array *array, uint8_t volume, uint32_t *version,
                        uint32_t *length)
{
    const struct volume_state *state = &array->volumes[volume].state;
    *version = state->version;
    *length = state->length;
    return state->bytes;
}

int array_owner(const struct array *array, uint8_t volume)
{
    if (array->role.state == ROLE_SOLO || array->role.state == ROLE_PAIRED)
        return array_owns(array, volume) ? 1 : 0;
    return -1;
}

uint64_t array_next_cached(const struct array *array, uint8_t volume, uint64_t from, uint64_t to)
{
    for (uint64_t page = from / PAGE_SIZE_BYTES; page * PAGE_SIZE_BYTES < to; page++) {
        const struct slot *slot = slot_find(&array->table, slot_key(volume, page));
        if (slot != NULL && slot_is_dirty(slot))
            return max_u64(from, page * PAGE_SIZE_BYTES);
    }
    return to;
}
