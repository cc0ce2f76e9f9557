/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Ranges of a promoted cycle, carried out on the stores by the group's owner: zeroed piece by
 * piece, made durable, and then said to the peer. Until then hosts of the volume wait, and no page
 * of a range is destaged, so that it can all be done again: after an error, after a flush that
 * failed, or by the peer after a takeover. */

#include "array/internal.h"
#include "base/mistake.h"

enum { ZERO_RETRY_US = 50 * 1000 };

/* Once the group has been given away its new owner may promote, and say so, before the answer to
 * the MOVE is back: what it says then is for it to carry out. */
static bool owner_serves(const struct array *array, const struct group *group)
{
    uint8_t first = group->config->volumes[0];
    return (array->role.state == ROLE_SOLO || array->role.state == ROLE_PAIRED) &&
           array->role.orders == 0 && !array->drop_pending &&
           role_may_serve(&array->role, array->now_us) && array_owns(array, first) &&
           array->volumes[first].move != MOVE_SENT;
}

/* The next piece of the range where the walk stands. */
static void ask_store(struct array *array, struct group *group)
{
    static uint8_t zeros[PAGE_SIZE_BYTES]; /* never written */
    struct second_zeroes *zero = &group->second.zero;
    const struct second_zero *range = &zero->zeroes[zero->at];
    const struct volume_config *volume =
        &array->config.volumes[group->config->volumes[range->volume]];
    bool can = array->config.stores[volume->store].can_zero && !zero->plain;
    uint64_t first = range->page + zero->done;
    zero->piece = min_u64(range->count - zero->done, can ? RANGE_CHUNK_PAGES : STORE_IO_PAGES);
    uint64_t end = min_u64((first + zero->piece) * PAGE_SIZE_BYTES, volume->size_bytes);
    struct store_action action = {.io = io_id(IO_ZERO, (uint32_t)(group - array->copy.groups)),
                                  .op = can ? STORE_TRIM : STORE_WRITE,
                                  .store = volume->store,
                                  .offset_bytes =
                                      volume->store_offset_bytes + first * PAGE_SIZE_BYTES,
                                  .length_bytes = end - first * PAGE_SIZE_BYTES,
                                  .not_after_us = role_serve_until(&array->role)};
    for (uint64_t left = action.length_bytes; left > 0 && !can; action.iov_count++) {
        size_t size = (size_t)min_u64(left, PAGE_SIZE_BYTES);
        zero->iov[action.iov_count] = (struct iovec){.iov_base = zeros, .iov_len = size};
        left -= size;
    }
    action.iov = can ? NULL : zero->iov;
    zero->state = ZERO_STORE;
    zero->stores |= 1ull << volume->store;
    array_store_action(array, &action);
}

static void begin_anew(struct array *array, struct second_zeroes *zero)
{
    zero->state = ZERO_NEXT;
    zero->at = 0;
    zero->done = zero->stores = zero->wanted = zero->covered = 0;
    zero->suspect = false;
    zero->retry_us = array->now_us + ZERO_RETRY_US;
}

void copy_second_zero_over(struct array *array, struct group *group)
{
    struct second_zeroes *zero = &group->second.zero;
    for (uint32_t i = 0; i < zero->count; i++) {
        const struct second_zero *range = &zero->zeroes[i];
        for (uint64_t at = 0; at < copy_second_steps(array, range); at++) {
            struct slot *slot = copy_second_step(array, group, range, at);
            if (slot != NULL)
                slot->held = false;
        }
    }
    zero->count = zero->at = 0;
    zero->done = zero->stores = zero->wanted = zero->covered = zero->retry_us = 0;
    zero->state = ZERO_NEXT;
    zero->plain = zero->suspect = false;
}

void copy_second_zero_pump(struct array *array, struct group *group)
{
    struct second_zeroes *zero = &group->second.zero;
    if (zero->count == 0 || !owner_serves(array, group) || zero->state == ZERO_STORE ||
        array->now_us < zero->retry_us)
        return;
    if (zero->at < zero->count && !MISTAKE(promoted_not_zeroed)) {
        ask_store(array, group);
        return;
    }
    if (zero->state == ZERO_NEXT) {
        zero->state = ZERO_FLUSH;
        zero->wanted = zero->stores;
    }
    if (zero->wanted != 0)
        return; /* stores_pump() asks */
    if (array->mirroring) {
        if (!lists_have_room(&array->lists, 1, true))
            return;
        copy_second_say_zeroed(array, group);
    }
    copy_second_zero_over(array, group);
    host_resume(array, &array->held);
}

void copy_second_zero_on_store(struct array *array, uint32_t index, enum store_result result)
{
    CHECK(index < array->config.group_count);
    struct second_zeroes *zero = &array->copy.groups[index].second.zero;
    CHECK(zero->state == ZERO_STORE);
    zero->state = ZERO_NEXT;
    if (result == STORE_NOT_SENT)
        return;
    if (result != STORE_DONE) {
        array->destage.errors++;
        zero->plain = true; /* a store that cannot zero can perhaps write */
        zero->retry_us = array->now_us + ZERO_RETRY_US;
        return;
    }
    zero->done += zero->piece;
    if (zero->done < zero->zeroes[zero->at].count)
        return;
    zero->at++;
    zero->done = 0;
}

bool copy_second_zero_wants_flush(struct array *array, uint32_t store)
{
    bool wanted = false;
    uint64_t bit = 1ull << store;
    for (uint32_t i = 0; i < array->config.group_count; i++) {
        struct second_zeroes *zero = &array->copy.groups[i].second.zero;
        if (!(zero->wanted & bit))
            continue;
        zero->covered |= bit;
        wanted = true;
    }
    return wanted;
}

void copy_second_zero_suspect(struct array *array, uint32_t store)
{
    for (uint32_t i = 0; i < array->config.group_count; i++) {
        struct second_zeroes *zero = &array->copy.groups[i].second.zero;
        zero->suspect |= (zero->stores & 1ull << store) != 0;
    }
}

void copy_second_zero_flushed(struct array *array, uint32_t store, enum store_result result)
{
    uint64_t bit = 1ull << store;
    for (uint32_t i = 0; i < array->config.group_count; i++) {
        struct second_zeroes *zero = &array->copy.groups[i].second.zero;
        if (!(zero->covered & bit))
            continue;
        zero->covered &= ~bit;
        if (result == STORE_DONE && !zero->suspect)
            zero->wanted &= ~bit;
        else if (result != STORE_NOT_SENT)
            begin_anew(array, zero);
    }
}

bool copy_second_zero_with_store(const struct array *array)
{
    for (uint32_t i = 0; i < array->config.group_count; i++) {
        if (array->copy.groups[i].second.zero.state == ZERO_STORE)
            return true;
    }
    return false;
}
