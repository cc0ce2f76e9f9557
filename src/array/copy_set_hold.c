/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Completions that are held while a set is cut: from the moment at which this half closed its cycle
 * until all halves of all arrays have, or until the time is over. Writes go on meanwhile; only
 * their answers wait, and with them reads that would show them. The rule kept here: nobody hears of
 * what was written after the cut here before the cut is made everywhere, or the cut fails. */

#include "array/internal.h"
#include "base/mistake.h"

void copy_set_hold(struct array *array, struct group *group, uint64_t cycle)
{
    struct set_hold *hold = &group->hold;
    if (group->sender.holding != 0)
        copy_set_let_go(array, group, true);
    group->sender.holding = cycle;
    hold->since_us = array->now_us;
    hold->until_us = array->now_us + (uint64_t)group->config->set.hold_ms * 1000;
    array->copy.holds++;
}

void copy_set_let_go(struct array *array, struct group *group, bool late)
{
    struct set_hold *hold = &group->hold;
    struct sender *sender = &group->sender;
    struct sender_cycle *cycle = &sender->cycle[sender->holding % COPY_RING];
    CHECK(sender->holding != 0);
    CHECK(array->copy.holds > 0);
    if (cycle->number == sender->holding)
        cycle->late = late;
    sender->holding = 0;
    array->copy.holds--;
    hold->last_us = array->now_us - hold->since_us;
    hold->longest_us = max_u64(hold->longest_us, hold->last_us);
    hold->total_us += hold->last_us;
    hold->holds++;
    hold->late += late;
    TRACE(array, "group %s lets completions go, late %d, %u of them", group->config->name, late,
          array->hold_wait.count);
    for (uint32_t left = array->hold_wait.count; left > 0; left--) {
        struct request *request = request_queue_pop(&array->requests, &array->hold_wait);
        request->over = true;
        if (copy_set_goes_on(array, request))
            request_queue_append(&array->requests, &array->run, request);
    }
}

/* It was let go after the lease, when the peer may serve in this controller's place: it waits until
 * it is known who does. True when that is this one, alone, and what was written is to be on the
 * store first. */
bool copy_set_goes_on(struct array *array, struct request *request)
{
    if (!role_may_answer(&array->role, array->now_us)) {
        request_queue_append(&array->requests, &array->held, request);
        return false;
    }
    request->over = false;
    /* The peer that had it may be lost by now: alone, what is acknowledged is on the store. */
    if (array_is_solo(array) && request->phase == REQUEST_MIRROR && request->kept == HOST_OK)
        return true;
    host_complete_detail(array, request, request->kept, request->detail);
    return false;
}

void copy_set_let_all_go(struct array *array)
{
    for (uint32_t i = 0; i < array->config.group_count; i++) {
        if (array->copy.groups[i].sender.holding != 0)
            copy_set_let_go(array, &array->copy.groups[i], true);
    }
}

/* What is held has been in both memories. If it waited until this controller serves alone it would
 * be acknowledged then, out of one memory, and alone only the store counts. */
void copy_set_hold_pump(struct array *array)
{
    if (array->role.state != ROLE_PAIRED && array->role.state != ROLE_SOLO &&
        !MISTAKE(set_hold_endless)) {
        copy_set_let_all_go(array);
        return;
    }
    for (uint32_t i = 0; i < array->config.group_count; i++) {
        struct group *group = &array->copy.groups[i];
        if (group->sender.holding != 0 && array->now_us >= group->hold.until_us &&
            !MISTAKE(set_hold_endless))
            copy_set_let_go(array, group, true);
    }
}

uint64_t copy_set_hold_deadline(const struct array *array)
{
    uint64_t deadline = UINT64_MAX;
    for (uint32_t i = 0; i < array->config.group_count && array->copy.holds > 0; i++) {
        const struct group *group = &array->copy.groups[i];
        if (group->sender.holding != 0)
            deadline = min_u64(deadline, group->hold.until_us);
    }
    return deadline;
}

/* A comparison that failed tells what was written, too. */
bool copy_set_holds(const struct array *array, const struct request *request,
                    enum host_result result)
{
    const struct group *group = copy_group(array, request->host.volume);
    enum host_op op = request->host.op;
    bool writes =
        op == HOST_WRITE || op == HOST_TRIM || op == HOST_ZERO || op == HOST_COMPARE_WRITE;
    return group != NULL && group->sender.holding != 0 && writes &&
           (result == HOST_OK || result == HOST_MISCOMPARE) && !MISTAKE(set_hold_forgotten);
}

bool copy_set_hides_slot(const struct array *array, const struct slot *slot)
{
    const struct group *group = copy_group(array, slot_key_volume(slot->key));
    if (group == NULL || group->sender.holding == 0 || MISTAKE(set_hold_forgotten))
        return false;
    if (!slot->pinned)
        return slot->superseded; /* its heir has the pin; what it holds may be as new */
    const struct pin *pin = pins_at(&array->copy.pins, slot_index(&array->table, slot));
    return !pin->tag && pin->ring == group->sender.open % COPY_RING;
}

bool copy_set_hides_range(const struct array *array, uint8_t volume, uint64_t page)
{
    const struct group *group = copy_group(array, volume);
    if (group == NULL || group->sender.holding == 0 || MISTAKE(set_hold_forgotten))
        return false;
    const struct sender *sender = &group->sender;
    if (sender->cycle[sender->open % COPY_RING].ranges[0] == 0)
        return false;
    const struct sender_range *range = sender_range_at(sender, sender->open, 0);
    while (range != NULL) {
        if (range->volume == array->volumes[volume].group_place && page >= range->page &&
            page - range->page < range->count)
            return true;
        range = sender_range_at(sender, sender->open, (uint32_t)(range - sender->ranges) + 1);
    }
    return false;
}
