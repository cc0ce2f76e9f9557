/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What a half sends to the second array, and what it has been answered. A batch keeps its number
 * and its contents until it is answered: closed cycles do not change, so it can be sent again from
 * what stands here. The other half of sender.h is sender.c. */

#include "base/mistake.h"
#include "copy/sender.h"

static struct sender_cycle *cycle_of(struct sender *sender, uint64_t number)
{
    struct sender_cycle *cycle = &sender->cycle[number % COPY_RING];
    CHECK(cycle->number == number);
    return cycle;
}

static struct sender_batch *batch_of(struct sender *sender, uint64_t number)
{
    return &sender->batches[number % COPY_WINDOW];
}

void sender_attach(struct sender *sender, uint32_t window)
{
    CHECK(!sender->attached);
    CHECK(window > 0);
    sender->attached = true;
    sender->window = min_u32(window, COPY_WINDOW);
}

void sender_detach(struct sender *sender)
{
    sender->attached = false;
    for (uint32_t i = 0; i < COPY_WINDOW; i++) {
        if (sender->batches[i].state == SENDER_OUT)
            sender->batches[i].state = SENDER_LOST;
    }
}

/* Pages: as many as one batch takes, from the cycle's cursor on. */
static void take_pages(struct sender *sender, struct sender_cycle *cycle,
                       struct sender_batch *batch)
{
    batch->kind = SEND_PAGES;
    batch->first = cycle->cursor;
    while (cycle->cursor != NO_INDEX && batch->count < SENDER_PAGES) {
        batch->count++;
        cycle->cursor = pins_next(sender->pins, cycle->cursor);
    }
}

/* What of a closed cycle goes next; false: nothing now. */
static bool fill(struct sender *sender, struct sender_cycle *cycle, struct sender_batch *batch)
{
    if (cycle->end_sent)
        return false;
    if (!cycle->ranges_sent && cycle->ranges[0] > 0) {
        batch->kind = SEND_RANGES;
        batch->count = cycle->ranges[0];
        cycle->ranges_sent = true;
    } else if (cycle->cursor != NO_INDEX) {
        take_pages(sender, cycle, batch);
    } else if (cycle->base_ready > 0) {
        batch->kind = SEND_BASE;
        batch->count = min_u32(cycle->base_ready, SENDER_PAGES);
        cycle->base_ready -= batch->count;
    } else if (cycle->base_reading == 0 || MISTAKE(copy_end_before_reads)) {
        batch->kind = SEND_END;
        batch->pages = cycle->pages;
        batch->base = cycle->base;
        batch->ranges = cycle->ranges[0];
        batch->halves = cycle->halves;
        batch->cut = cycle->cut;
        batch->consistent = sender->config.coordinated && cycle->done && !cycle->moved;
        cycle->end_sent = true;
    } else {
        return false;
    }
    return true;
}

/* In its order, or, of a set, all up to the cycle that it names. */
static bool promote_is_due(const struct sender *sender, const struct sender_cycle *cycle)
{
    if (!sender->leader)
        return false;
    if (sender->config.coordinated)
        return cycle->number == sender->promote_to && !cycle->promote_sent &&
               sender_whole(sender, cycle->number);
    return cycle->number == sender->confirmed + 1 && cycle->complete && !cycle->promote_sent &&
           (cycle->halves == 1 || cycle->peer_complete || MISTAKE(copy_one_half_promotes));
}

static bool choose(struct sender *sender, struct sender_batch *batch)
{
    for (uint64_t number = sender->confirmed + 1; number < sender->open; number++) {
        struct sender_cycle *cycle = cycle_of(sender, number);
        batch->cycle = number;
        batch->wall_us = cycle->wall_us;
        if (promote_is_due(sender, cycle)) {
            cycle->promote_sent = true;
            batch->kind = SEND_PROMOTE;
            batch->count = 1;
            batch->consistent = sender_vouches(sender, cycle);
            return true;
        }
        if (fill(sender, cycle, batch)) {
            cycle->batches_out++;
            return true;
        }
    }
    return false;
}

/* Whether fill() would find something. */
static bool has_more(const struct sender_cycle *cycle)
{
    return !cycle->end_sent &&
           ((!cycle->ranges_sent && cycle->ranges[0] > 0) || cycle->cursor != NO_INDEX ||
            cycle->base_ready > 0 || cycle->base_reading == 0);
}

bool sender_has_batch(const struct sender *sender)
{
    if (sender->mode == SENDER_BITMAP || !sender->attached)
        return false;
    for (uint64_t number = sender->batch_oldest; number < sender->batch_next; number++)
        if (sender->batches[number % COPY_WINDOW].state == SENDER_LOST)
            return true;
    if (sender->batch_next - sender->batch_oldest >= sender->window)
        return false;
    for (uint64_t number = sender->confirmed + 1; number < sender->open; number++) {
        const struct sender_cycle *cycle = &sender->cycle[number % COPY_RING];
        if (promote_is_due(sender, cycle) || has_more(cycle))
            return true;
    }
    return false;
}

bool sender_next_batch(struct sender *sender, struct sender_batch *next)
{
    CHECK(sender->drain == DRAIN_NONE);
    if (sender->mode == SENDER_BITMAP || !sender->attached)
        return false;
    for (uint64_t number = sender->batch_oldest; number < sender->batch_next; number++) {
        struct sender_batch *batch = batch_of(sender, number);
        if (batch->state != SENDER_LOST)
            continue;
        batch->state = SENDER_OUT;
        *next = *batch;
        return true;
    }
    if (sender->batch_next - sender->batch_oldest >= sender->window)
        return false;
    struct sender_batch fresh = {.state = SENDER_OUT, .number = sender->batch_next};
    if (!choose(sender, &fresh))
        return false;
    sender->batch_next++;
    *batch_of(sender, fresh.number) = fresh;
    *next = fresh;
    return true;
}

uint64_t sender_answered(struct sender *sender, uint64_t number)
{
    if (number < sender->batch_oldest || number >= sender->batch_next)
        return 0;
    struct sender_batch *batch = batch_of(sender, number);
    if (batch->state != SENDER_OUT)
        return 0;
    uint64_t promoted = batch->kind == SEND_PROMOTE ? batch->cycle : 0;
    if (promoted == 0) {
        struct sender_cycle *cycle = cycle_of(sender, batch->cycle);
        CHECK(cycle->batches_out > 0);
        cycle->batches_out--;
        cycle->complete =
            cycle->end_sent && (cycle->batches_out == 0 || MISTAKE(copy_complete_without_answers));
    }
    batch->state = SENDER_ANSWERED;
    while (sender->batch_oldest < sender->batch_next &&
           batch_of(sender, sender->batch_oldest)->state == SENDER_ANSWERED) {
        batch_of(sender, sender->batch_oldest)->state = SENDER_FREE;
        sender->batch_oldest++;
    }
    return promoted;
}

const struct sender_range *sender_range_at(const struct sender *sender, uint64_t cycle, uint32_t at)
{
    for (uint32_t i = at; i < SENDER_RANGES; i++) {
        if (sender->ranges[i].cycle == cycle && !sender->ranges[i].tag)
            return &sender->ranges[i];
    }
    return NULL;
}

static const char *check_list(const struct sender *sender, const struct pin_list *list,
                              uint32_t ring, bool tag)
{
    uint32_t count = 0;
    for (uint32_t slot = list->head; slot != NO_INDEX; slot = pins_next(sender->pins, slot)) {
        const struct pin *pin = pins_at(sender->pins, slot);
        if (pin->ring != ring || pin->tag != tag || pin->group != sender->config.group)
            return "a slot stands on another list than it says";
        if (pin->sectors == 0 || (pin->sectors & ~pin->owed))
            return "a pinned slot owes less than it sends";
        if (++count > list->count)
            return "a list of pins is longer than its count";
    }
    return count == list->count ? NULL : "a list of pins is shorter than its count";
}

static const char *check_ranges(const struct sender *sender)
{
    uint32_t count[2] = {0};
    uint32_t by_cycle[COPY_RING][2] = {0};
    for (uint32_t i = 0; i < SENDER_RANGES; i++) {
        const struct sender_range *range = &sender->ranges[i];
        if (range->cycle == 0)
            continue;
        if (sender->cycle[range->cycle % COPY_RING].number != range->cycle)
            return "a range belongs to a cycle that is none";
        count[range->tag]++;
        by_cycle[range->cycle % COPY_RING][range->tag]++;
    }
    for (uint32_t i = 0; i < COPY_RING; i++) {
        for (int tag = 0; tag < 2; tag++) {
            if (sender->cycle[i].ranges[tag] != by_cycle[i][tag])
                return "a cycle counts other ranges than it has";
        }
    }
    return count[0] == sender->range_count[0] && count[1] == sender->range_count[1]
               ? NULL
               : "the table of ranges counts others than it holds";
}

const char *sender_check(const struct sender *sender)
{
    if (sender->drain != DRAIN_NONE)
        return "slots are being given back, and nobody takes them";
    uint32_t pinned = 0;
    for (uint32_t i = 0; i < COPY_RING; i++) {
        const struct sender_cycle *cycle = &sender->cycle[i];
        bool over = cycle->number != 0 && cycle->number == sender->over;
        bool alive = sender->mode == SENDER_CYCLES && cycle->number <= sender->open &&
                     (over || cycle->number > sender->confirmed);
        if ((cycle->number != 0) != alive)
            return "a cycle is there that is confirmed, or was never opened";
        if (!alive)
            continue;
        const char *why = check_list(sender, &cycle->pins, i, false);
        if (why == NULL)
            why = check_list(sender, &cycle->tags, i, true);
        if (why != NULL)
            return why;
        pinned += cycle->pins.count;
        if (!over && cycle->number < sender->open && cycle->pages != cycle->pins.count)
            return "a closed cycle has changed";
    }
    if (pinned != sender->pinned)
        return "other slots are pinned than are counted";
    if (sender->mode == SENDER_CYCLES && sender_closed_count(sender) > COPY_CLOSED)
        return "too many cycles are closed";
    return check_ranges(sender);
}
