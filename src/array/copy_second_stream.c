/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What the owner of a received group tells its peer, in the change stream, and what the peer does
 * at that word: the very calls that the owner makes, so that both hold the same. Where the two do
 * not agree the peer forgets what it held and says so if it ever takes over: the other array then
 * sends all of it again. */

#include "array/internal.h"
#include "base/mistake.h"

static uint8_t index_of(const struct array *array, const struct group *group)
{
    return (uint8_t)(group - array->copy.groups);
}

static void say(struct array *array, const struct header *header)
{
    CHECK(array->mirroring);
    lists_add(&array->lists, header);
    array->controls_sent++;
    TRACE(array, "fill received header %d group %u page %llu count %llu", header->type,
          header->volume, (unsigned long long)header->page, (unsigned long long)header->count);
}

void copy_second_say_held(struct array *array, struct group *group, struct slot *slot)
{
    struct header header = {.type = HEADER_WRITE,
                            .flags = HEADER_FRESH | HEADER_HOLD,
                            .volume = slot_key_volume(slot->key),
                            .slot = slot_index(&array->table, slot),
                            .page = slot_key_page(slot->key)};
    bool has =
        receiver_has(&group->second.receiver, header.slot, &header.cycle, &header.generation);
    CHECK(has);
    slot->fresh = true;
    slot->send = slot->valid;
    slot_set_mirrored(&array->table, slot, true);
    slot_set_state(&array->table, slot, SLOT_FILLING);
    lists_add(&array->lists, &header);
    array->sent.writes++;
    TRACE(array, "fill held slot %u volume %u page %llu cycle %llu", header.slot, header.volume,
          (unsigned long long)header.page, (unsigned long long)header.cycle);
}

void copy_second_say_range(struct array *array, const struct group *group, uint64_t cycle,
                           const struct record *record)
{
    lists_add(&array->lists, &(struct header){.type = HEADER_RANGE,
                                              .flags = HEADER_HELD_RANGE,
                                              .volume = group->config->volumes[record->volume],
                                              .page = record->page,
                                              .count = record->count,
                                              .cycle = cycle,
                                              .generation = record->generation});
    array->sent.ranges++;
}

void copy_second_say_end(struct array *array, const struct group *group,
                         const struct arrival *arrival, const struct record *record)
{
    say(array, &(struct header){.type = HEADER_END,
                                .flags = (uint8_t)((arrival->head.half ? HEADER_HALF : 0) |
                                                   (record->generation == 2 ? HEADER_TWO : 0) |
                                                   (record->flags & RECORD_DONE ? HEADER_ALL : 0)),
                                .volume = index_of(array, group),
                                .slot = (uint32_t)record->count,
                                .page = arrival->head.cycle,
                                .count = record->page,
                                .data_crc = record->crc});
}

void copy_second_say_term(struct array *array, const struct group *group)
{
    const struct receiver *receiver = &group->second.receiver;
    say(array, &(struct header){.type = HEADER_TERM,
                                .flags = receiver->sealed ? HEADER_KEEP : 0,
                                .volume = index_of(array, group),
                                .page = receiver->term,
                                .count = max_u64(receiver->first, 1)});
}

void copy_second_say_cut(struct array *array, const struct group *group,
                         const struct copy_head *head)
{
    say(array, &(struct header){.type = HEADER_CUT,
                                .volume = index_of(array, group),
                                .page = head->cycle,
                                .count = head->cut});
}

void copy_second_say_taken(struct array *array, const struct group *group,
                           const struct arrival *arrival)
{
    const struct receiver_counts *counts = &arrival->counts;
    say(array, &(struct header){.type = HEADER_TAKEN,
                                .flags = arrival->head.half ? HEADER_HALF : 0,
                                .volume = index_of(array, group),
                                .slot = (uint32_t)(counts->pages | counts->base << 16),
                                .page = arrival->head.number,
                                .count = arrival->head.cycle,
                                .data_crc = (uint32_t)counts->ranges});
}

void copy_second_say_promote(struct array *array, const struct group *group,
                             const struct arrival *arrival)
{
    say(array, &(struct header){.type = HEADER_PROMOTE,
                                .flags = arrival->consistent ? HEADER_CONSISTENT : 0,
                                .volume = index_of(array, group),
                                .page = arrival->head.cycle,
                                .count = arrival->head.wall_us});
}

void copy_second_say_zeroed(struct array *array, const struct group *group)
{
    say(array, &(struct header){.type = HEADER_ZEROED,
                                .volume = index_of(array, group),
                                .page = group->second.zero.cycle});
}

void copy_second_say_all(struct array *array, struct group *group)
{
    struct second *second = &group->second;
    CHECK(!second->saying);
    second->saying = true;
    receiver_put(&second->receiver, second->said);
    say(array, &(struct header){.type = HEADER_RECEIVED,
                                .volume = index_of(array, group),
                                .count = RECEIVER_BYTES});
}

bool copy_second_refill_ranges(struct array *array, struct group *group, uint32_t *at)
{
    for (; copy_receives(group) && *at < RECEIVER_ZEROES; ++*at) {
        const struct receiver_zero *zero = &group->second.receiver.zeroes[*at];
        if (zero->cycle == 0)
            continue;
        if (!lists_have_room(&array->lists, 1, false))
            return false;
        copy_second_say_range(array, group, zero->cycle,
                              &(struct record){.type = RECORD_ZERO,
                                               .volume = zero->volume,
                                               .generation = zero->generation,
                                               .page = zero->page,
                                               .count = zero->count});
    }
    return true;
}

/* ---- what the owner says ---- */

static const char *judge_group(const struct array *array, const struct group *group)
{
    if (!copy_receives(group))
        return "header of a received group for one that never is";
    if (array->role.state == ROLE_PAIRED && array_owns(array, group->config->volumes[0]) &&
        array->volumes[group->config->volumes[0]].move != MOVE_SENT)
        return "header of a received group that this controller owns";
    return NULL;
}

const char *copy_second_judge(const struct array *array, const struct header *header,
                              const uint8_t *data)
{
    if (header->volume >= array->config.group_count)
        return "header of an unknown group";
    const struct group *group = &array->copy.groups[header->volume];
    bool told = header->type == HEADER_RECEIVED && group->site.lacks && copy_receives(group);
    const char *why = told ? NULL : judge_group(array, group);
    if (why == NULL && header->type == HEADER_RECEIVED)
        why = receiver_judge_bytes(data, (uint32_t)header->count);
    return why;
}

const char *copy_second_judge_held(const struct array *array, const struct header *header)
{
    const struct group *group = copy_group(array, header->volume);
    return group == NULL ? "held header for a volume without a group" : judge_group(array, group);
}

static void discard_all(struct array *array, struct group *group)
{
    struct receiver *receiver = &group->second.receiver;
    receiver->promoting = false;
    receiver_lose(receiver, copy_second_next_memory(array, group));
    copy_second_discard(array, group);
    copy_second_zero_over(array, group);
}

static void go_astray(struct array *array, struct group *group, const char *why)
{
    array_log(
        array, LOG_ERROR,
        "group %s: the two controllers do not agree about what is held: %s; everything has to "
        "be copied again after a takeover",
        group->config->name, why);
    discard_all(array, group);
    group->second.receiver.role = COPY_EMPTY;
    group->second.receiver.consistent = false;
    group->second.receiver.promoted = group->second.receiver.promoted_wall_us = 0;
    group->second.receiver.promoted_cut = 0;
    group->second.astray = true;
}

void copy_second_lost_slot(struct array *array, struct slot *slot)
{
    go_astray(array, copy_group(array, slot_key_volume(slot->key)), "a held slot is used anew");
}

static void apply_all(struct array *array, struct group *group, const uint8_t *data)
{
    discard_all(array, group);
    receiver_get(&group->second.receiver, data);
    group->second.astray = false;
}

static void apply_term(struct array *array, struct group *group, const struct header *header)
{
    struct receiver *receiver = &group->second.receiver;
    bool keeps = (header->flags & HEADER_KEEP) != 0;
    if (header->page <= receiver->term || (!keeps && header->count <= receiver->promoted)) {
        go_astray(array, group, "a term that is not newer");
        return;
    }
    if (keeps) {
        receiver_seal(receiver, header->page);
        return;
    }
    receiver_begin_term(receiver, header->page, header->count);
    copy_second_discard(array, group);
}

static void apply_cut(struct array *array, struct group *group, const struct header *header)
{
    if (!receiver_may_hold(&group->second.receiver, 0, header->page,
                           &(struct record){.type = RECORD_END}))
        go_astray(array, group, "a cut that is a cycle that cannot be held");
    else
        receiver_name_cut(&group->second.receiver, header->page, header->count);
}

static void apply_end(struct array *array, struct group *group, const struct header *header)
{
    const struct record record = {.type = RECORD_END,
                                  .flags = header->flags & HEADER_ALL ? RECORD_DONE : 0,
                                  .generation = header->flags & HEADER_TWO ? 2 : 1,
                                  .page = header->count,
                                  .count = header->slot,
                                  .crc = header->data_crc};
    if (!receiver_may_hold(&group->second.receiver, 0, header->page, &record)) {
        go_astray(array, group, "the end of a cycle that cannot be held");
        return;
    }
    receiver_end(&group->second.receiver, header->flags & HEADER_HALF, header->page, 0, &record);
}

static void apply_taken(struct array *array, struct group *group, const struct header *header)
{
    uint8_t half = header->flags & HEADER_HALF;
    const struct receiver_counts counts = {
        .pages = header->slot & 0xFFFF, .base = header->slot >> 16, .ranges = header->data_crc};
    if (!receiver_may_count(&group->second.receiver, half, header->page, header->count)) {
        go_astray(array, group, "a batch that was taken before");
        return;
    }
    receiver_batch_done(&group->second.receiver, half, header->page, header->count, &counts);
}

static void apply_promote(struct array *array, struct group *group, const struct header *header)
{
    if (!receiver_complete(&group->second.receiver, header->page) || group->second.zero.count > 0) {
        go_astray(array, group, "a promotion of what is not complete");
        return;
    }
    copy_second_promote(array, group, header->page, header->count,
                        (header->flags & HEADER_CONSISTENT) != 0, false);
}

void copy_second_apply(struct array *array, const struct header *header, const uint8_t *data)
{
    struct group *group = &array->copy.groups[header->volume];
    TRACE(array, "apply received header %d group %u page %llu count %llu", header->type,
          header->volume, (unsigned long long)header->page, (unsigned long long)header->count);
    if (group->second.astray && header->type != HEADER_RECEIVED)
        return;
    switch (header->type) {
    case HEADER_RECEIVED:
        apply_all(array, group, data);
        break;
    case HEADER_TERM:
        apply_term(array, group, header);
        break;
    case HEADER_CUT:
        apply_cut(array, group, header);
        break;
    case HEADER_END:
        apply_end(array, group, header);
        break;
    case HEADER_TAKEN:
        apply_taken(array, group, header);
        break;
    case HEADER_PROMOTE:
        if (!MISTAKE(promotion_not_applied))
            apply_promote(array, group, header);
        break;
    case HEADER_ZEROED:
        copy_second_zero_over(array, group);
        break;
    default:
        CHECK(false);
    }
}

void copy_second_apply_write(struct array *array, const struct header *header, const uint8_t *data)
{
    struct group *group = copy_group(array, header->volume);
    const struct record record = {.type = RECORD_PAGE,
                                  .volume = array->volumes[header->volume].group_place,
                                  .sectors = header->sectors,
                                  .generation = header->generation,
                                  .page = header->page};
    if (group->second.astray)
        return;
    if (!receiver_may_hold(&group->second.receiver, array->table.half + header->slot, header->cycle,
                           &record)) {
        go_astray(array, group, "a page that cannot be held");
        return;
    }
    copy_second_take_image(array, group, header->slot, header, data);
}

void copy_second_apply_range(struct array *array, const struct header *header)
{
    struct group *group = copy_group(array, header->volume);
    const struct record record = {.type = RECORD_ZERO,
                                  .volume = array->volumes[header->volume].group_place,
                                  .generation = header->generation,
                                  .page = header->page,
                                  .count = header->count};
    if (group->second.astray)
        return;
    if (!receiver_may_hold(&group->second.receiver, 0, header->cycle, &record)) {
        go_astray(array, group, "a range that cannot be held");
        return;
    }
    receiver_zero(&group->second.receiver, header->cycle, 0, &record);
}
