/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What is held, what is complete, what is promoted. Judging foreign batches is in
 * receiver_judge.c. The rules kept here: nothing beyond the promoted cycle is ever given out but to
 * be discarded, the promoted cycle never goes back, and a batch counts once (invariants 14, 15). */

#include "base/mistake.h"
#include "copy/receiver.h"

#include <string.h>

void receiver_create(struct receiver *receiver, struct arena *arena, uint32_t slot_count,
                     uint32_t room, uint32_t volume_count, const uint64_t *page_counts,
                     const uint8_t group[COPY_ID_SIZE], uint64_t memory)
{
    uint32_t bucket_count = 64;
    while (bucket_count < room)
        bucket_count *= 2;
    struct held *held = arena_array(arena, struct held, slot_count);
    uint32_t *buckets = arena_array(arena, uint32_t, bucket_count);
    struct receiver_zero *zeroes = arena_array(arena, struct receiver_zero, RECEIVER_ZEROES);
    if (arena->base == NULL)
        return;
    CHECK(memory != 0);
    *receiver = (struct receiver){.memory = memory,
                                  .room = room,
                                  .volume_count = volume_count,
                                  .page_counts = page_counts,
                                  .zeroes = zeroes,
                                  .held = held,
                                  .slot_count = slot_count,
                                  .buckets = buckets,
                                  .bucket_mask = bucket_count - 1,
                                  .walking = NO_INDEX};
    memcpy(receiver->group, group, COPY_ID_SIZE);
    for (uint32_t i = 0; i < slot_count; i++)
        held[i] = (struct held){.place = HELD_NONE};
    for (uint32_t i = 0; i < bucket_count; i++)
        buckets[i] = NO_INDEX;
}

void receiver_restore(struct receiver *receiver, const struct copy_state *state)
{
    CHECK(receiver->term == 0);
    receiver->role = state->role;
    receiver->era = state->era;
    receiver->term = state->term;
    receiver->first = 0; /* no batch of that term names it */
    receiver->promoted = state->promoted;
    receiver->promoted_wall_us = state->promoted_wall_us;
    receiver->promoted_cut = state->cut;
    receiver->consistent = (state->flags & COPY_STATE_CONSISTENT) != 0;
}

static struct held *held_at(const struct receiver *receiver, uint32_t slot)
{
    CHECK(slot < receiver->slot_count);
    return &receiver->held[slot];
}

static const struct receiver_cycle *find_cycle(const struct receiver *receiver, uint64_t number)
{
    for (int i = 0; i < RECEIVER_CYCLES; i++) {
        if (receiver->cycle[i].number == number)
            return &receiver->cycle[i];
    }
    return NULL;
}

/* The cycle, which begins to be held if it was not. */
static struct receiver_cycle *take_cycle(struct receiver *receiver, uint64_t number,
                                         uint64_t wall_us)
{
    CHECK(number > receiver->promoted);
    int at = -1;
    for (int i = 0; i < RECEIVER_CYCLES; i++) {
        if (receiver->cycle[i].number == number)
            return &receiver->cycle[i];
        if (receiver->cycle[i].number == 0)
            at = i;
    }
    CHECK(at >= 0);
    receiver->cycle[at] = (struct receiver_cycle){
        .number = number, .wall_us = wall_us, .head = NO_INDEX, .tail = NO_INDEX};
    return &receiver->cycle[at];
}

/* ---- the index ---- */

static uint32_t *bucket_of(const struct receiver *receiver, uint64_t cycle, uint8_t volume,
                           uint64_t page)
{
    uint64_t hash = (page ^ (uint64_t)volume << 48 ^ cycle << 57) * 0x9E3779B97F4A7C15ull;
    return &receiver->buckets[(hash >> 32) & receiver->bucket_mask];
}

/* The newest slot of the page in the cycle, or NO_INDEX. */
static uint32_t find(const struct receiver *receiver, uint64_t cycle, uint8_t volume, uint64_t page)
{
    uint32_t slot = *bucket_of(receiver, cycle, volume, page);
    while (slot != NO_INDEX) {
        const struct held *held = held_at(receiver, slot);
        if (held->page == page && held->volume == volume &&
            receiver->cycle[held->place].number == cycle)
            return slot;
        slot = held->hash_next;
    }
    return NO_INDEX;
}

static void insert(struct receiver *receiver, struct receiver_cycle *cycle, uint32_t slot)
{
    struct held *held = held_at(receiver, slot);
    uint32_t *bucket = bucket_of(receiver, cycle->number, held->volume, held->page);
    held->hash_next = *bucket;
    *bucket = slot;
    held->prev = cycle->tail;
    held->next = NO_INDEX;
    if (cycle->tail == NO_INDEX)
        cycle->head = slot;
    else
        held_at(receiver, cycle->tail)->next = slot;
    cycle->tail = slot;
    cycle->count++;
}

static void take_out(struct receiver *receiver, struct receiver_cycle *cycle, uint32_t slot)
{
    struct held *held = held_at(receiver, slot);
    uint32_t *at = bucket_of(receiver, cycle->number, held->volume, held->page);
    while (*at != slot)
        at = &held_at(receiver, *at)->hash_next;
    *at = held->hash_next;
    if (held->prev == NO_INDEX)
        cycle->head = held->next;
    else
        held_at(receiver, held->prev)->next = held->next;
    if (held->next == NO_INDEX)
        cycle->tail = held->prev;
    else
        held_at(receiver, held->next)->prev = held->prev;
    cycle->count--;
}

/* ---- what comes ---- */

bool receiver_holds(const struct receiver *receiver, uint64_t cycle, const struct record *record)
{
    uint32_t slot = find(receiver, cycle, record->volume, record->page);
    while (slot != NO_INDEX && held_at(receiver, slot)->generation > record->generation)
        slot = held_at(receiver, slot)->older;
    return slot != NO_INDEX && held_at(receiver, slot)->generation == record->generation;
}

void receiver_hold(struct receiver *receiver, uint32_t slot, uint64_t number, uint64_t wall_us,
                   const struct record *record)
{
    CHECK(receiver->drain == RECEIVER_REST);
    CHECK(!receiver_holds(receiver, number, record));
    struct held *held = held_at(receiver, slot);
    CHECK(held->place == HELD_NONE);
    struct receiver_cycle *cycle = take_cycle(receiver, number, wall_us);
    *held = (struct held){.older = NO_INDEX,
                          .page = record->page,
                          .generation = record->generation,
                          .volume = record->volume,
                          .sectors = record->sectors,
                          .place = (uint8_t)(cycle - receiver->cycle)};
    cycle->slots++;
    receiver->held_count++;
    uint32_t newest = find(receiver, number, record->volume, record->page);
    if (newest == NO_INDEX || held_at(receiver, newest)->generation < record->generation ||
        MISTAKE(copy_generation_ignored)) {
        if (newest != NO_INDEX)
            take_out(receiver, cycle, newest);
        held->older = newest;
        insert(receiver, cycle, slot);
        return;
    }
    struct held *at = held_at(receiver, newest);
    while (at->older != NO_INDEX && held_at(receiver, at->older)->generation > record->generation)
        at = held_at(receiver, at->older);
    held->older = at->older;
    at->older = slot;
}

void receiver_zero(struct receiver *receiver, uint64_t number, uint64_t wall_us,
                   const struct record *record)
{
    CHECK(receiver->drain == RECEIVER_REST);
    struct receiver_zero *room = NULL;
    take_cycle(receiver, number, wall_us);
    for (uint32_t i = 0; i < RECEIVER_ZEROES; i++) {
        struct receiver_zero *zero = &receiver->zeroes[i];
        if (zero->cycle == number && zero->volume == record->volume && zero->page == record->page &&
            zero->count == record->count && zero->generation == record->generation)
            return; /* it came before, in a batch that was not finished */
        if (zero->cycle == 0 && room == NULL)
            room = zero;
    }
    CHECK(room != NULL);
    *room = (struct receiver_zero){.cycle = number,
                                   .page = record->page,
                                   .count = record->count,
                                   .generation = record->generation,
                                   .volume = record->volume};
    receiver->zero_count++;
}

void receiver_end(struct receiver *receiver, uint8_t half, uint64_t number, uint64_t wall_us,
                  const struct record *record)
{
    CHECK(half < 2);
    struct receiver_cycle *cycle = take_cycle(receiver, number, wall_us);
    cycle->halves = (uint8_t)record->generation;
    cycle->part[half].ended = true;
    cycle->part[half].done = (record->flags & RECORD_DONE) != 0;
    cycle->part[half].told = (struct receiver_counts){
        .pages = record->page, .base = record->count, .ranges = record->crc};
}

void receiver_name_cut(struct receiver *receiver, uint64_t number, uint64_t cut)
{
    take_cycle(receiver, number, 0)->cut = cut;
}

static void pass_number(struct receiver_numbers *numbers)
{
    numbers->done >>= 1;
    numbers->taken >>= 1;
    numbers->upto++;
}

/* The bits reach as far as `number`. A batch that came again when its cycle had been promoted was
 * answered without a trace here; its sender goes on, by one window at most before it has the next
 * answer, so what is left out so far behind has been answered. */
static void reach(struct receiver_numbers *numbers, uint64_t number)
{
    CHECK(number >= numbers->upto);
    CHECK(number - numbers->upto < RECEIVER_AHEAD);
    while (number - numbers->upto >= 64)
        pass_number(numbers);
    while (numbers->done & 1)
        pass_number(numbers);
}

void receiver_taken(struct receiver *receiver, uint8_t half, uint64_t number)
{
    struct receiver_numbers *numbers = &receiver->numbers[half];
    reach(numbers, number);
    numbers->taken |= 1ull << (number - numbers->upto);
}

void receiver_untaken(struct receiver *receiver, uint8_t half, uint64_t number)
{
    struct receiver_numbers *numbers = &receiver->numbers[half];
    if (number >= numbers->upto && number - numbers->upto < 64)
        numbers->taken &= ~(1ull << (number - numbers->upto));
}

void receiver_batch_done(struct receiver *receiver, uint8_t half, uint64_t number, uint64_t cycle,
                         const struct receiver_counts *counts)
{
    CHECK(half < 2);
    struct receiver_numbers *numbers = &receiver->numbers[half];
    reach(numbers, number);
    CHECK(!(numbers->done & 1ull << (number - numbers->upto)));
    numbers->done |= 1ull << (number - numbers->upto);
    while (numbers->done & 1)
        pass_number(numbers);
    if (cycle <= receiver->promoted)
        return; /* the PROMOTE itself */
    struct receiver_cycle *held = take_cycle(receiver, cycle, 0);
    held->part[half].got.pages += counts->pages;
    held->part[half].got.base += counts->base;
    held->part[half].got.ranges += counts->ranges;
}

/* ---- what becomes of it ---- */

static bool part_is_whole(const struct receiver_part *part)
{
    return part->got.pages == part->told.pages && part->got.base == part->told.base &&
           part->got.ranges == part->told.ranges;
}

static bool cycle_is_complete(const struct receiver_cycle *cycle)
{
    return cycle->part[0].ended + cycle->part[1].ended == cycle->halves && cycle->halves > 0 &&
           part_is_whole(&cycle->part[0]) && part_is_whole(&cycle->part[1]);
}

bool receiver_complete(const struct receiver *receiver, uint64_t cycle)
{
    uint64_t from = max_u64(receiver->promoted + 1, receiver->first);
    if (cycle < from || cycle - from >= RECEIVER_CYCLES)
        return false;
    for (uint64_t number = from; number <= cycle; number++) {
        const struct receiver_cycle *held = find_cycle(receiver, number);
        if (held == NULL || !cycle_is_complete(held))
            return false;
    }
    return true;
}

uint64_t receiver_find_cut(const struct receiver *receiver, uint64_t cut)
{
    for (int i = 0; i < RECEIVER_CYCLES && cut != 0; i++) {
        const struct receiver_cycle *cycle = &receiver->cycle[i];
        if (cycle->number != 0 && cycle->cut == cut && receiver_complete(receiver, cycle->number))
            return cycle->number;
    }
    return 0;
}

uint64_t receiver_held_cut(const struct receiver *receiver)
{
    uint64_t newest = 0;
    for (int i = 0; i < RECEIVER_CYCLES; i++) {
        const struct receiver_cycle *cycle = &receiver->cycle[i];
        if (cycle->number != 0 && cycle->cut > newest && receiver_complete(receiver, cycle->number))
            newest = cycle->cut;
    }
    return newest;
}

bool receiver_is_consistent(const struct receiver *receiver, uint64_t cycle)
{
    const struct receiver_cycle *held = find_cycle(receiver, cycle);
    if (receiver->consistent && receiver->promoted >= receiver->first)
        return true;
    for (int half = 0; held != NULL && half < 2; half++) {
        if (held->part[half].ended && !held->part[half].done)
            return false;
    }
    return held != NULL;
}

uint64_t receiver_cut_of(const struct receiver *receiver, uint64_t cycle)
{
    const struct receiver_cycle *held = find_cycle(receiver, cycle);
    return held == NULL ? 0 : held->cut;
}

uint64_t receiver_wall_us(const struct receiver *receiver, uint64_t cycle)
{
    const struct receiver_cycle *held = find_cycle(receiver, cycle);
    return held == NULL ? 0 : held->wall_us;
}

void receiver_promote_begin(struct receiver *receiver)
{
    CHECK(!receiver->promoting);
    receiver->promoting = true;
}

void receiver_promote(struct receiver *receiver, uint64_t cycle, uint64_t wall_us, bool consistent)
{
    CHECK(receiver->drain == RECEIVER_REST);
    CHECK(receiver_complete(receiver, cycle));
    receiver->promoting = false;
    receiver->promoted_cut = find_cycle(receiver, cycle)->cut;
    receiver->promoted = cycle;
    receiver->promoted_wall_us = wall_us;
    receiver->consistent = consistent;
    receiver->drain = RECEIVER_PROMOTING;
    receiver->drain_to = cycle;
}

static void discard_all(struct receiver *receiver)
{
    CHECK(receiver->drain == RECEIVER_REST);
    receiver->drain = RECEIVER_DISCARDING;
    receiver->drain_to = UINT64_MAX;
}

void receiver_begin_term(struct receiver *receiver, uint64_t term, uint64_t first)
{
    CHECK(term > receiver->term);
    CHECK(first > receiver->promoted);
    CHECK(!receiver->promoting);
    receiver->role = COPY_RECEIVING;
    receiver->sealed = false;
    receiver->term = term;
    receiver->first = first;
    for (int half = 0; half < 2; half++)
        receiver->numbers[half] = (struct receiver_numbers){.upto = 1};
    if (!MISTAKE(copy_term_keeps_held))
        discard_all(receiver);
}

void receiver_seal(struct receiver *receiver, uint64_t term)
{
    CHECK(term > receiver->term);
    CHECK(!receiver->promoting);
    receiver->term = term;
    receiver->sealed = true;
    for (int half = 0; half < 2; half++)
        receiver->numbers[half] = (struct receiver_numbers){.upto = 1};
}

void receiver_fail_over(struct receiver *receiver, uint64_t era)
{
    CHECK(era > receiver->era);
    CHECK(!receiver->promoting);
    receiver->era = era;
    receiver->role = COPY_FAILED_OVER;
    discard_all(receiver);
}

void receiver_lose(struct receiver *receiver, uint64_t memory)
{
    CHECK(!receiver->promoting);
    receiver->memory = memory;
    receiver->first = 0; /* no batch of this term names it: the sender has to begin another */
    for (int half = 0; half < 2; half++)
        receiver->numbers[half] = (struct receiver_numbers){.upto = 1};
    discard_all(receiver);
}

bool receiver_has(const struct receiver *receiver, uint32_t slot, uint64_t *cycle,
                  uint32_t *generation)
{
    const struct held *held = held_at(receiver, slot);
    if (held->place == HELD_NONE)
        return false;
    *cycle = receiver->cycle[held->place].number;
    *generation = held->generation;
    return true;
}

void receiver_moved(struct receiver *receiver, uint32_t from, uint32_t to)
{
    CHECK(receiver->drain == RECEIVER_REST);
    struct held *old = held_at(receiver, from), *held = held_at(receiver, to);
    CHECK(old->place != HELD_NONE);
    CHECK(held->place == HELD_NONE);
    struct receiver_cycle *cycle = &receiver->cycle[old->place];
    uint32_t newest = find(receiver, cycle->number, old->volume, old->page);
    *held = *old;
    if (newest != from) {
        struct held *at = held_at(receiver, newest);
        while (at->older != from)
            at = held_at(receiver, at->older);
        at->older = to;
    } else {
        uint32_t *bucket = bucket_of(receiver, cycle->number, old->volume, old->page);
        while (*bucket != from)
            bucket = &held_at(receiver, *bucket)->hash_next;
        *bucket = to;
        if (held->prev == NO_INDEX)
            cycle->head = to;
        else
            held_at(receiver, held->prev)->next = to;
        if (held->next == NO_INDEX)
            cycle->tail = to;
        else
            held_at(receiver, held->next)->prev = to;
    }
    *old = (struct held){.place = HELD_NONE};
}

void receiver_reopen(struct receiver *receiver)
{
    CHECK(receiver->drain == RECEIVER_REST);
    CHECK(receiver->held_count == 0);
    CHECK(!receiver->promoting);
    receiver->role = COPY_EMPTY;
    receiver->consistent = receiver->sealed = false;
    receiver->promoted_cut = 0;
    receiver->promoted = max_u64(receiver->promoted, 1);
    for (int half = 0; half < 2; half++)
        receiver->numbers[half] = (struct receiver_numbers){.upto = 1};
}

/* A host's range of the same cycle that is newer than the page. */
static bool zeroed(const struct receiver *receiver, uint64_t cycle, const struct held *held)
{
    for (uint32_t i = 0, left = receiver->zero_count; i < RECEIVER_ZEROES && left > 0; i++) {
        const struct receiver_zero *zero = &receiver->zeroes[i];
        left -= zero->cycle != 0;
        if (zero->cycle == cycle && zero->volume == held->volume && held->page >= zero->page &&
            held->page - zero->page < zero->count &&
            zero->generation + MISTAKE(copy_ranges_last) > held->generation)
            return true;
    }
    return false;
}

static struct receiver_cycle *oldest_to_drain(struct receiver *receiver)
{
    struct receiver_cycle *oldest = NULL;
    for (int i = 0; i < RECEIVER_CYCLES; i++) {
        struct receiver_cycle *cycle = &receiver->cycle[i];
        if (cycle->number != 0 && cycle->number <= receiver->drain_to &&
            (oldest == NULL || cycle->number < oldest->number))
            oldest = cycle;
    }
    return oldest;
}

static bool pop_zero(struct receiver *receiver, uint64_t cycle, struct receiver_popped *popped)
{
    for (uint32_t i = 0; i < RECEIVER_ZEROES && receiver->zero_count > 0; i++) {
        struct receiver_zero *zero = &receiver->zeroes[i];
        if (zero->cycle != cycle || zero->popped)
            continue;
        zero->popped = true; /* its pages are still measured against it */
        *popped = (struct receiver_popped){
            .slot = NO_INDEX, .volume = zero->volume, .page = zero->page, .count = zero->count};
        return true;
    }
    return false;
}

static void pop_page(struct receiver *receiver, struct receiver_cycle *cycle,
                     struct receiver_popped *popped)
{
    uint32_t slot = cycle->head;
    const struct held *held = held_at(receiver, slot);
    take_out(receiver, cycle, slot);
    receiver->walking = slot;
    *popped = (struct receiver_popped){.slot = slot,
                                       .discard = receiver->drain == RECEIVER_DISCARDING ||
                                                  zeroed(receiver, cycle->number, held),
                                       .volume = held->volume,
                                       .sectors = held->sectors,
                                       .page = held->page,
                                       .count = 1};
}

static void forget_cycle(struct receiver *receiver, struct receiver_cycle *cycle)
{
    CHECK(cycle->slots == 0);
    for (uint32_t i = 0; i < RECEIVER_ZEROES && receiver->zero_count > 0; i++) {
        struct receiver_zero *zero = &receiver->zeroes[i];
        if (zero->cycle != cycle->number)
            continue;
        *zero = (struct receiver_zero){0};
        receiver->zero_count--;
    }
    *cycle = (struct receiver_cycle){0};
}

bool receiver_pop(struct receiver *receiver, struct receiver_popped *popped)
{
    CHECK(receiver->walking == NO_INDEX);
    if (receiver->drain == RECEIVER_REST)
        return false;
    for (struct receiver_cycle *cycle; (cycle = oldest_to_drain(receiver)) != NULL;) {
        if (receiver->drain == RECEIVER_PROMOTING && pop_zero(receiver, cycle->number, popped))
            return true;
        if (cycle->head != NO_INDEX) {
            pop_page(receiver, cycle, popped);
            return true;
        }
        forget_cycle(receiver, cycle);
    }
    receiver->drain = RECEIVER_REST;
    return false;
}

uint32_t receiver_older(struct receiver *receiver, uint8_t *sectors)
{
    uint32_t slot = receiver->walking;
    CHECK(slot != NO_INDEX);
    struct held *held = held_at(receiver, slot);
    struct receiver_cycle *cycle = &receiver->cycle[held->place];
    uint32_t older = held->older;
    *held = (struct held){.place = HELD_NONE};
    cycle->slots--;
    receiver->held_count--;
    receiver->walking = older;
    if (older == NO_INDEX)
        return NO_INDEX;
    const struct held *next = held_at(receiver, older);
    bool counts = receiver->drain == RECEIVER_PROMOTING && !zeroed(receiver, cycle->number, next);
    *sectors = counts ? next->sectors : 0;
    return older;
}

void receiver_state(const struct receiver *receiver, struct copy_state *state)
{
    *state = (struct copy_state){.role = receiver->role,
                                 .flags = receiver->consistent ? COPY_STATE_CONSISTENT : 0,
                                 .era = receiver->era,
                                 .term = receiver->term,
                                 .promoted = receiver->promoted,
                                 .promoted_wall_us = receiver->promoted_wall_us,
                                 .memory = receiver->memory,
                                 .cut = receiver->promoted_cut,
                                 .held_cut = receiver_held_cut(receiver),
                                 .room_pages = receiver->room,
                                 .window = COPY_WINDOW};
    memcpy(state->group, receiver->group, COPY_ID_SIZE);
}

static const char *check_cycle(const struct receiver *receiver, uint8_t place)
{
    const struct receiver_cycle *cycle = &receiver->cycle[place];
    if (cycle->number <= receiver->promoted)
        return "a cycle is held that was promoted";
    uint32_t count = 0, slots = 0;
    for (uint32_t slot = cycle->head; slot != NO_INDEX && count <= cycle->count;
         slot = held_at(receiver, slot)->next) {
        const struct held *head = held_at(receiver, slot);
        count++;
        if (find(receiver, cycle->number, head->volume, head->page) != slot)
            return "a held page is not in the index, or there twice";
        uint64_t newer = UINT64_MAX;
        for (uint32_t at = slot; at != NO_INDEX; at = held_at(receiver, at)->older) {
            const struct held *held = held_at(receiver, at);
            slots++;
            if (held->generation >= newer)
                return "a chain of held slots is out of order";
            newer = held->generation;
            if (held->place != place || held->page != head->page || held->volume != head->volume ||
                held->sectors == 0)
                return "a chain of held slots has a stranger in it";
        }
    }
    return count == cycle->count && slots == cycle->slots
               ? NULL
               : "a cycle counts other held slots than it has";
}

const char *receiver_check(const struct receiver *receiver)
{
    if (receiver->drain != RECEIVER_REST)
        return "held slots are being given back, and nobody takes them";
    uint32_t slots = 0, zeroes = 0, marked = 0;
    for (int i = 0; i < RECEIVER_CYCLES; i++) {
        if (receiver->cycle[i].number == 0)
            continue;
        const char *why = check_cycle(receiver, (uint8_t)i);
        if (why != NULL)
            return why;
        slots += receiver->cycle[i].slots;
    }
    for (uint32_t i = 0; i < RECEIVER_ZEROES; i++) {
        zeroes += receiver->zeroes[i].cycle != 0;
        if (receiver->zeroes[i].cycle != 0 &&
            find_cycle(receiver, receiver->zeroes[i].cycle) == NULL)
            return "a range is held of a cycle that is none";
    }
    for (uint32_t i = 0; i < receiver->slot_count; i++)
        marked += receiver->held[i].place != HELD_NONE;
    if (slots != receiver->held_count || marked != slots || zeroes != receiver->zero_count)
        return "other slots or ranges are held than are counted";
    return NULL;
}
