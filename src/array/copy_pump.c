/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* When a group is cut, when it falls to the bitmap, and when it comes back: once in every pump,
 * between two requests. Only while this controller serves; what it finds to be said waits until the
 * change stream has room. */

#include "array/internal.h"
#include "base/mistake.h"

static bool serves(const struct array *array)
{
    return (array->role.state == ROLE_SOLO || array->role.state == ROLE_PAIRED) &&
           !array->drop_pending && array->role.orders == 0 &&
           role_may_serve(&array->role, array->now_us);
}

static bool can_say(struct array *array)
{
    return !array->mirroring || lists_have_room(&array->lists, 1, true);
}

uint64_t copy_next_term(const struct array *array, const struct group *group)
{
    uint64_t term = max_u64(group->sender.term, group->state.term) + 1;
    return max_u64(term, array->role.epoch << 16);
}

/* The pins are a claim on the second array's memory as well. */
static void size_up(struct group *group)
{
    struct sender_config *config = &group->sender.config;
    uint32_t room = group->state.room_pages;
    config->budget_pages = min_u32(group->config->budget_pages, room / 8 * 3 + 1);
    config->base_pages = min_u32(group->config->base_pages, room / 16 + 1);
}

static bool may_rise(struct array *array, const struct group *group)
{
    return group->sender.leader && group->up && !group->suspended && !group->fall_unsaid &&
           group->falls_out == 0 && array->now_us >= group->rise_us &&
           array->refill.state == REFILL_NONE &&
           (array->role.state == ROLE_SOLO || array->mirroring) && can_say(array);
}

static void rise(struct array *array, struct group *group)
{
    struct sender *sender = &group->sender;
    uint64_t term = copy_next_term(array, group);
    uint64_t cycle = max_u64(sender->open, group->state.promoted) + 1;
    size_up(group);
    sender_begin(sender, array->now_us, term, cycle, true);
    sender_pair(sender, array->role.state == ROLE_PAIRED);
    group->confirmed_said = sender->confirmed;
    group->memory_known = group->state.memory;
    memset(group->said, 0, sizeof group->said);
    memset(group->cleared, 0, sizeof group->cleared);
    if (array->mirroring)
        copy_say_header(array, group,
                        &(struct header){.type = HEADER_GROUP,
                                         .flags = HEADER_BEGIN,
                                         .volume = (uint8_t)(group - array->copy.groups),
                                         .page = term,
                                         .count = cycle});
    array_log(array, LOG_INFO, "group %s: copies again, from cycle %llu of term %llu",
              group->config->name, (unsigned long long)cycle, (unsigned long long)term);
}

/* A session is there, and batches may go in it. When the second array has lost what it held of
 * cycles that were not promoted, all of that is sent anew, as one cycle. */
static void attach(struct array *array, struct group *group)
{
    struct sender *sender = &group->sender;
    bool lost =
        sender->leader && group->memory_known != 0 && group->memory_known != group->state.memory;
    if (lost) {
        if (array->refill.state != REFILL_NONE || !can_say(array))
            return;
        group->memory_known = group->state.memory;
        copy_restart(array, group, copy_next_term(array, group), !sender->paired);
        if (array->mirroring)
            copy_say_header(array, group,
                            &(struct header){.type = HEADER_GROUP,
                                             .flags = HEADER_RESTART,
                                             .volume = (uint8_t)(group - array->copy.groups),
                                             .page = sender->term,
                                             .count = sender->open});
        return;
    }
    group->memory_known = group->state.memory;
    size_up(group);
    sender_attach(sender, group->state.window);
}

static void cut(struct array *array, struct group *group)
{
    struct sender *sender = &group->sender;
    if (!sender->leader || !sender_cut_due(sender, array->now_us) || !can_say(array) ||
        (sender->paired && !array->mirroring) ||
        (array->mirroring && group->confirmed_said < sender->confirmed))
        return;
    uint64_t cycle = sender->open;
    uint8_t halves = sender->paired ? 2 : 1;
    sender_close(sender, array->now_us, array->copy.wall_us, halves);
    group->cuts++;
    if (array->mirroring && !MISTAKE(mark_not_said))
        copy_say_header(array, group,
                        &(struct header){.type = HEADER_MARK,
                                         .flags = halves == 2 ? HEADER_BOTH : 0,
                                         .volume = (uint8_t)(group - array->copy.groups),
                                         .page = cycle,
                                         .count = array->copy.wall_us});
}

static void group_pump(struct array *array, struct group *group)
{
    struct sender *sender = &group->sender;
    if (sender->mode == SENDER_CYCLES && sender_over_budget(sender))
        copy_fall(array, group, "the second array does not keep up: the pages' budget is used",
                  true);
    copy_say(array, group);
    if (sender->mode == SENDER_BITMAP && may_rise(array, group))
        rise(array, group);
    if (sender->mode == SENDER_BITMAP)
        return;
    if (group->up && !sender->attached)
        attach(array, group);
    copy_base_pump(array, group);
    cut(array, group);
    copy_say(array, group);
    copy_send(array, group);
}

void copy_pump(struct array *array)
{
    if (array->config.group_count == 0 || !serves(array))
        return;
    for (uint32_t i = 0; i < array->config.group_count; i++)
        group_pump(array, &array->copy.groups[i]);
}

static uint64_t group_deadline(const struct array *array, const struct group *group)
{
    const struct sender *sender = &group->sender;
    uint64_t deadline = UINT64_MAX;
    if (sender->mode == SENDER_BITMAP)
        return sender->leader && group->up && group->rise_us > array->now_us ? group->rise_us
                                                                             : UINT64_MAX;
    if (group->base.reading > 0 && group->base_retry_us > array->now_us)
        deadline = group->base_retry_us;
    /* What cannot be said now waits for the peer's answer, and that brings a pump. */
    if (sender->leader && (!sender->paired || array->mirroring))
        deadline = min_u64(deadline, sender_cut_deadline(sender));
    return deadline;
}

uint64_t copy_deadline(const struct array *array)
{
    uint64_t deadline = UINT64_MAX;
    if (!serves(array) || (array->mirroring && !lists_have_room(&array->lists, 1, true)))
        return deadline;
    for (uint32_t i = 0; i < array->config.group_count; i++)
        deadline = min_u64(deadline, group_deadline(array, &array->copy.groups[i]));
    return deadline;
}

void array_set_wall(struct array *array, uint64_t wall_us)
{
    array->copy.wall_us = wall_us;
}

void array_operator_group(struct array *array, uint64_t now_us, uint64_t handle, uint8_t number,
                          enum group_action action, bool force)
{
    array_begin(array, now_us);
    CHECK(number < array->config.group_count);
    struct group *group = &array->copy.groups[number];
    bool suspend = action == GROUP_SUSPEND;
    (void)force;
    if (action > GROUP_RESUME) {
        array_reply(array, handle, false, "this version cannot do it yet");
        return;
    }
    if (!serves(array)) {
        array_reply(array, handle, false, "this controller does not serve: ask the other one");
        return;
    }
    if (group->suspended == suspend) {
        array_reply(array, handle, true,
                    suspend ? "it is suspended already" : "it is not suspended");
        return;
    }
    group->suspended = suspend;
    group->resumed = !suspend;
    copy_fall(array, group, suspend ? "an operator suspended it" : "an operator resumed it", true);
    group->fall_unsaid = array->mirroring;
    array_reply(array, handle, true, suspend ? "suspended" : "resumed");
}
