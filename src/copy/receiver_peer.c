/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What the two controllers of the receiving array tell each other about a group beside its pages:
 * everything at once, as bytes, when one of them returns or the group moves; and whether what is
 * said can be true of what stands here. It never holds or gives back a slot. */

#include "copy/receiver.h"

#include <string.h>

enum {
    PART_BYTES = 48,
    CYCLE_BYTES = 16 + 2 * PART_BYTES,
    FIXED_BYTES = 56,
    NUMBERS_BYTES = 16,
    FLAG_CONSISTENT = 1,
    HALF_A_ENDED = 1,
    HALF_B_ENDED = 2,
    HALF_A_DONE = 4,
    HALF_B_DONE = 8,
};

enum {
    CUTS_AT = FIXED_BYTES + 2 * NUMBERS_BYTES + RECEIVER_CYCLES * CYCLE_BYTES,
    FLAG_SEALED = 2,
    FLAGS = FLAG_CONSISTENT | FLAG_SEALED,
};

_Static_assert(CUTS_AT + 8 + 8 * RECEIVER_CYCLES <= RECEIVER_BYTES, "all of it fits");

static void put_counts(uint8_t *bytes, const struct receiver_counts *counts)
{
    put_u64(bytes, counts->pages);
    put_u64(bytes + 8, counts->base);
    put_u64(bytes + 16, counts->ranges);
}

static struct receiver_counts get_counts(const uint8_t *bytes)
{
    return (struct receiver_counts){
        .pages = get_u64(bytes), .base = get_u64(bytes + 8), .ranges = get_u64(bytes + 16)};
}

void receiver_put(const struct receiver *receiver, uint8_t bytes[RECEIVER_BYTES])
{
    memset(bytes, 0, RECEIVER_BYTES);
    bytes[0] = receiver->role;
    bytes[1] = (uint8_t)((receiver->consistent ? FLAG_CONSISTENT : 0) |
                         (receiver->sealed ? FLAG_SEALED : 0));
    put_u64(bytes + CUTS_AT, receiver->promoted_cut);
    for (int i = 0; i < RECEIVER_CYCLES; i++)
        put_u64(bytes + CUTS_AT + 8 + 8 * i, receiver->cycle[i].cut);
    put_u64(bytes + 8, receiver->era);
    put_u64(bytes + 16, receiver->term);
    put_u64(bytes + 24, receiver->first);
    put_u64(bytes + 32, receiver->promoted);
    put_u64(bytes + 40, receiver->promoted_wall_us);
    put_u64(bytes + 48, receiver->memory);
    uint8_t *at = bytes + FIXED_BYTES;
    for (int half = 0; half < 2; half++, at += NUMBERS_BYTES) {
        put_u64(at, receiver->numbers[half].upto);
        put_u64(at + 8, receiver->numbers[half].done);
    }
    for (int i = 0; i < RECEIVER_CYCLES; i++, at += CYCLE_BYTES) {
        const struct receiver_cycle *cycle = &receiver->cycle[i];
        put_u64(at, cycle->number);
        at[8] = cycle->halves;
        at[9] = (uint8_t)((cycle->part[0].ended ? HALF_A_ENDED : 0) |
                          (cycle->part[1].ended ? HALF_B_ENDED : 0) |
                          (cycle->part[0].done ? HALF_A_DONE : 0) |
                          (cycle->part[1].done ? HALF_B_DONE : 0));
        for (int half = 0; half < 2; half++) {
            put_counts(at + 16 + half * PART_BYTES, &cycle->part[half].got);
            put_counts(at + 16 + half * PART_BYTES + PART_BYTES / 2, &cycle->part[half].told);
        }
    }
}

const char *receiver_judge_bytes(const uint8_t *bytes, uint32_t length)
{
    if (length != RECEIVER_BYTES)
        return "received header of a wrong length";
    if (bytes[0] >= COPY_ROLE_COUNT || bytes[1] & ~FLAGS)
        return "received header of an unknown role or with unknown flags";
    if (get_u64(bytes + 48) == 0)
        return "received header without a memory number";
    uint64_t promoted = get_u64(bytes + 32);
    const uint8_t *cycle = bytes + FIXED_BYTES + 2 * NUMBERS_BYTES;
    uint64_t first = get_u64(cycle), second = get_u64(cycle + CYCLE_BYTES);
    if ((first != 0 && first <= promoted) || (second != 0 && second <= promoted) ||
        (first != 0 && first == second))
        return "received header with impossible cycles";
    if (cycle[8] > 2 || cycle[CYCLE_BYTES + 8] > 2)
        return "received header of a cycle with too many halves";
    return NULL;
}

void receiver_get(struct receiver *receiver, const uint8_t bytes[RECEIVER_BYTES])
{
    CHECK(receiver->drain == RECEIVER_REST);
    CHECK(receiver->held_count == 0);
    CHECK(receiver_judge_bytes(bytes, RECEIVER_BYTES) == NULL);
    receiver->role = bytes[0];
    receiver->consistent = (bytes[1] & FLAG_CONSISTENT) != 0;
    receiver->sealed = (bytes[1] & FLAG_SEALED) != 0;
    receiver->promoted_cut = get_u64(bytes + CUTS_AT);
    receiver->era = get_u64(bytes + 8);
    receiver->term = get_u64(bytes + 16);
    receiver->first = get_u64(bytes + 24);
    receiver->promoted = get_u64(bytes + 32);
    receiver->promoted_wall_us = get_u64(bytes + 40);
    receiver->memory = get_u64(bytes + 48);
    receiver->promoting = false;
    const uint8_t *at = bytes + FIXED_BYTES;
    for (int half = 0; half < 2; half++, at += NUMBERS_BYTES)
        receiver->numbers[half] =
            (struct receiver_numbers){.upto = get_u64(at), .done = get_u64(at + 8)};
    for (int i = 0; i < RECEIVER_CYCLES; i++, at += CYCLE_BYTES) {
        struct receiver_cycle *cycle = &receiver->cycle[i];
        *cycle = (struct receiver_cycle){.number = get_u64(at),
                                         .cut = get_u64(bytes + CUTS_AT + 8 + 8 * i),
                                         .halves = at[8],
                                         .head = NO_INDEX,
                                         .tail = NO_INDEX};
        for (int half = 0; half < 2; half++) {
            const uint8_t *part = at + 16 + half * PART_BYTES;
            cycle->part[half] = (struct receiver_part){.got = get_counts(part),
                                                       .told = get_counts(part + PART_BYTES / 2),
                                                       .ended = (at[9] & 1 << half) != 0,
                                                       .done = (at[9] & 4 << half) != 0};
        }
    }
}

/* Whether the cycle is held, or there is a place for another one. */
static bool has_place(const struct receiver *receiver, uint64_t number)
{
    bool place = false;
    for (int i = 0; i < RECEIVER_CYCLES; i++)
        place |= receiver->cycle[i].number == number || receiver->cycle[i].number == 0;
    return place && number > receiver->promoted;
}

bool receiver_may_hold(const struct receiver *receiver, uint32_t slot, uint64_t cycle,
                       const struct record *record)
{
    if (!has_place(receiver, cycle))
        return false;
    if (record->type == RECORD_PAGE)
        return receiver->held[slot].place == HELD_NONE && receiver->held_count < receiver->room &&
               !receiver_holds(receiver, cycle, record);
    return record->type != RECORD_ZERO || receiver->zero_count < RECEIVER_ZEROES;
}

bool receiver_may_count(const struct receiver *receiver, uint8_t half, uint64_t number,
                        uint64_t cycle)
{
    const struct receiver_numbers *numbers = &receiver->numbers[half];
    if (number < numbers->upto || number - numbers->upto >= RECEIVER_AHEAD)
        return false;
    if (number - numbers->upto < 64 && (numbers->done & 1ull << (number - numbers->upto)))
        return false;
    return cycle <= receiver->promoted || has_place(receiver, cycle);
}
