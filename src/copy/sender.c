/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What a half knows of its cycles: writes that join the open one, the cut, and how slots are given
 * back when a cycle is confirmed, when everything begins anew, and when the group falls to the
 * bitmap. Batches are in sender_batch.c. The rule kept here: whatever may differ between the sites
 * is pinned, tagged, in the range table, or marked (invariant 16). */

#include "base/mistake.h"
#include "copy/sender.h"

#include <string.h>

static uint8_t ring_of(uint64_t cycle)
{
    return (uint8_t)(cycle % COPY_RING);
}

static struct sender_cycle *cycle_of(struct sender *sender, uint64_t number)
{
    struct sender_cycle *cycle = &sender->cycle[ring_of(number)];
    CHECK(cycle->number == number);
    return cycle;
}

static void open_cycle(struct sender *sender, uint64_t number)
{
    struct sender_cycle *cycle = &sender->cycle[ring_of(number)];
    CHECK(cycle->number == 0);
    *cycle = (struct sender_cycle){
        .number = number, .pins = pin_list_empty(), .tags = pin_list_empty(), .cursor = NO_INDEX};
    sender->open = number;
}

void sender_create(struct sender *sender, struct arena *arena, struct pins *pins,
                   const struct sender_config *config, const uint64_t *page_counts)
{
    struct regions regions = {0};
    regions_create(&regions, arena, config->volume_count, page_counts);
    struct sender_range *ranges = arena_array(arena, struct sender_range, SENDER_RANGES);
    uint16_t *generation = arena_array(arena, uint16_t, config->volume_count);
    bool *own = arena_array(arena, bool, config->volume_count);
    if (arena->base == NULL)
        return;
    *sender = (struct sender){.config = *config,
                              .pins = pins,
                              .regions = regions,
                              .ranges = ranges,
                              .generation = generation,
                              .own = own,
                              .batch_oldest = 1,
                              .batch_next = 1};
    for (uint32_t i = 0; i < config->volume_count; i++)
        generation[i] = 1; /* 0 is below every host's write: base records */
}

/* ---- writes ---- */

/* Its cycle was confirmed; it only has not been given back yet. */
static bool is_over(const struct sender *sender, const struct pin *pin)
{
    return sender->over != 0 && pin->ring == ring_of(sender->over);
}

uint64_t sender_waits(const struct sender *sender, uint32_t slot)
{
    const struct pin *pin = pins_at(sender->pins, slot);
    return pin->ring == PIN_NONE || is_over(sender, pin) ? 0 : sender->cycle[pin->ring].number;
}

bool sender_frozen(const struct sender *sender, uint32_t slot)
{
    const struct pin *pin = pins_at(sender->pins, slot);
    return pin->ring != PIN_NONE && !pin->tag && pin->ring != ring_of(sender->open) &&
           !MISTAKE(copy_writes_frozen);
}

/* These pages may differ, and whoever closes the open cycle is to know that it happened in it. */
static void mark(struct sender *sender, uint8_t volume, uint64_t page, uint64_t count)
{
    regions_mark(&sender->regions, volume, page, count);
    if (sender->mode == SENDER_CYCLES)
        cycle_of(sender, sender->open)->marked = true;
}

static void pin_slot(struct sender *sender, struct sender_cycle *cycle, uint32_t slot, bool tag)
{
    struct pin *pin = pins_at(sender->pins, slot);
    pin->tag = tag;
    pin->group = sender->config.group;
    pins_append(sender->pins, tag ? &cycle->tags : &cycle->pins, slot, ring_of(cycle->number));
    sender->pinned += !tag;
}

uint64_t sender_written(struct sender *sender, uint32_t slot, uint8_t volume, uint64_t page,
                        uint8_t sectors)
{
    CHECK(sender->drain == DRAIN_NONE);
    CHECK(volume < sender->config.volume_count);
    if (sender->mode == SENDER_BITMAP) {
        mark(sender, volume, page, 1);
        return 0;
    }
    CHECK(!sender_frozen(sender, slot));
    struct pin *pin = pins_at(sender->pins, slot);
    if (pin->ring == PIN_NONE) {
        pin->sectors = 0;
        pin_slot(sender, cycle_of(sender, sender->open), slot, false);
    }
    CHECK(!pin->tag);
    pin->sectors |= sectors;
    pin->owed |= sectors;
    pin->summed = false;
    pin->generation = sender->generation[volume];
    return sender->open;
}

void sender_inherit(struct sender *sender, uint32_t old, uint32_t heir)
{
    struct pin *elder = pins_at(sender->pins, old);
    if (is_over(sender, elder))
        return; /* it owes nothing */
    if (!MISTAKE(copy_heir_owes_less))
        pins_at(sender->pins, heir)->owed |= elder->owed;
    elder->passed_on = elder->ring != PIN_NONE;
}

static void place_range(struct sender *sender, const struct sender_range *from)
{
    struct sender_range *range = sender->ranges;
    while (range->cycle != 0)
        range++;
    *range = *from;
    sender->range_count[from->tag]++;
    if (sender->drain == DRAIN_NONE) /* else drain_end() counts */
        cycle_of(sender, from->cycle)->ranges[from->tag]++;
}

static void forget_range(struct sender *sender, struct sender_range *range)
{
    sender->range_count[range->tag]--;
    if (sender->drain == DRAIN_NONE)
        cycle_of(sender, range->cycle)->ranges[range->tag]--;
    range->cycle = 0;
}

/* One end of a range that was cut; without a place for it its pages are marked. */
static void keep_part(struct sender *sender, const struct sender_range *whole, uint64_t first,
                      uint64_t end)
{
    struct sender_range part = *whole;
    part.page = first;
    part.count = end - first;
    if (sender->range_count[part.tag] < 2 * COPY_RANGES)
        place_range(sender, &part);
    else
        mark(sender, part.volume, first, end - first);
}

/* The own table takes COPY_RANGES and, after a takeover, as many again that were the peer's; so
 * does that of the tags, because such a table is sent to a peer that returns. */
static bool add_range(struct sender *sender, uint8_t volume, uint64_t page, uint64_t count,
                      uint64_t cycle, bool tag)
{
    if (sender->range_count[tag] >= (tag ? 2u : 1u) * COPY_RANGES)
        return false;
    place_range(sender, &(struct sender_range){.cycle = cycle,
                                               .page = page,
                                               .count = count,
                                               .generation = sender->generation[volume],
                                               .volume = volume,
                                               .tag = tag});
    return true;
}

bool sender_range(struct sender *sender, uint8_t volume, uint64_t page, uint64_t count)
{
    CHECK(sender->drain == DRAIN_NONE);
    CHECK(volume < sender->config.volume_count);
    if (sender->mode == SENDER_CYCLES)
        return add_range(sender, volume, page, count, sender->open, false);
    mark(sender, volume, page, count);
    return true;
}

uint64_t sender_range_pages(const struct sender *sender)
{
    uint64_t pages = 0;
    for (uint32_t i = 0; i < SENDER_RANGES; i++)
        pages += sender->ranges[i].cycle != 0 ? sender->ranges[i].count : 0;
    return pages;
}

void sender_unpin(struct sender *sender, uint32_t slot)
{
    if (!pins_has(sender->pins, slot))
        return;
    CHECK(!sender_frozen(sender, slot));
    CHECK(!pins_at(sender->pins, slot)->tag);
    pins_remove(sender->pins, &cycle_of(sender, sender->open)->pins, slot);
    pins_clear(sender->pins, slot);
    sender->pinned--;
}

/* The slot has taken another's place in `list`: its neighbours hear of it. */
static void relink(struct sender *sender, struct pin_list *list, uint32_t to)
{
    struct pin *pin = pins_at(sender->pins, to);
    if (pin->prev == NO_INDEX)
        list->head = to;
    else
        pins_at(sender->pins, pin->prev)->next = to;
    if (pin->next == NO_INDEX)
        list->tail = to;
    else
        pins_at(sender->pins, pin->next)->prev = to;
}

void sender_relocate(struct sender *sender, uint32_t from, uint32_t to)
{
    CHECK(sender->drain == DRAIN_NONE);
    struct pin *pin = pins_at(sender->pins, from);
    CHECK(!pins_has(sender->pins, to));
    if (pin->ring == PIN_NONE)
        return;
    struct sender_cycle *cycle = &sender->cycle[pin->ring];
    *pins_at(sender->pins, to) = *pin;
    sender->pins->crc[to] = sender->pins->crc[from];
    *pin = (struct pin){.prev = NO_INDEX, .next = NO_INDEX, .ring = PIN_NONE};
    relink(sender, pins_at(sender->pins, to)->tag ? &cycle->tags : &cycle->pins, to);
    if (cycle->cursor == from)
        cycle->cursor = to;
    for (uint32_t i = 0; i < COPY_WINDOW; i++) {
        struct sender_batch *batch = &sender->batches[i];
        if (batch->state != SENDER_FREE && batch->kind == SEND_PAGES && batch->first == from &&
            batch->cycle == cycle->number)
            batch->first = to;
    }
}

void sender_moved(struct sender *sender, uint8_t volume)
{
    CHECK(volume < sender->config.volume_count);
    CHECK(sender->generation[volume] < UINT16_MAX);
    sender->generation[volume]++;
    if (sender->mode == SENDER_BITMAP)
        return;
    for (uint64_t number = sender->confirmed + 1;
         number <= sender->open && !MISTAKE(copy_move_vouched); number++) {
        struct sender_cycle *cycle = cycle_of(sender, number);
        cycle->moved = true;
        cycle->done = cycle->done && !cycle->marked;
    }
}

void sender_own(struct sender *sender, uint8_t volume, bool own)
{
    CHECK(volume < sender->config.volume_count);
    if (own != sender->own[volume])
        regions_rewind(&sender->regions, volume);
    sender->own[volume] = own;
}

/* The cycle to which the peer's word about `cycle` belongs now; 0: to the bitmap. What it said
 * before it heard of a restart belongs to the one cycle into which everything went. */
static uint64_t tag_cycle(const struct sender *sender, uint64_t cycle)
{
    if (sender->mode == SENDER_BITMAP || cycle < sender->run_first)
        return 0;
    return min_u64(max_u64(cycle, sender->confirmed + 1), sender->open);
}

void sender_tagged(struct sender *sender, uint32_t slot, uint8_t volume, uint64_t page,
                   uint64_t cycle, uint8_t sectors)
{
    CHECK(sender->drain == DRAIN_NONE);
    CHECK(volume < sender->config.volume_count);
    uint64_t into = tag_cycle(sender, cycle);
    struct pin *pin = pins_at(sender->pins, slot);
    if (into == 0) {
        if (!MISTAKE(copy_old_writes_unmarked))
            mark(sender, volume, page, 1);
        return;
    }
    CHECK_IMPLIES(pin->ring != PIN_NONE, pin->tag);
    uint8_t owed = is_over(sender, pin) ? 0 : pin->owed;
    sender_untag(sender, slot); /* what it owed goes with the newer cycle */
    pin->owed = owed | sectors;
    pin->sectors = pin->owed;
    pin->generation = sender->generation[volume];
    pin_slot(sender, cycle_of(sender, into), slot, true);
}

void sender_untag(struct sender *sender, uint32_t slot)
{
    struct pin *pin = pins_at(sender->pins, slot);
    if (pin->ring == PIN_NONE)
        return;
    CHECK(pin->tag);
    pins_remove(sender->pins, &sender->cycle[pin->ring].tags, slot);
    pins_clear(sender->pins, slot);
}

bool sender_range_tagged(struct sender *sender, uint8_t volume, uint64_t page, uint64_t count,
                         uint64_t cycle)
{
    CHECK(volume < sender->config.volume_count);
    uint64_t into = tag_cycle(sender, cycle);
    if (into != 0)
        return add_range(sender, volume, page, count, into, true);
    mark(sender, volume, page, count);
    return true;
}

/* ---- cycles ---- */

static void forget_batches(struct sender *sender)
{
    memset(sender->batches, 0, sizeof sender->batches);
    sender->batch_oldest = sender->batch_next = 1;
    sender->attached = false;
}

static void begin(struct sender *sender, uint64_t now_us, uint64_t term, uint64_t first)
{
    CHECK(sender->mode == SENDER_BITMAP);
    CHECK(sender->drain == DRAIN_NONE);
    CHECK(term > sender->term);
    sender->mode = SENDER_CYCLES;
    sender->term = sender->run_term = term;
    sender->term_first = first;
    sender->cut_us = now_us;
    sender->consistent = false;
    forget_batches(sender);
    for (uint32_t i = 0; i < sender->config.volume_count; i++)
        regions_rewind(&sender->regions, (uint8_t)i);
}

void sender_begin(struct sender *sender, uint64_t now_us, uint64_t term, uint64_t cycle,
                  bool leader)
{
    CHECK(cycle > sender->open);
    begin(sender, now_us, term, cycle);
    sender->leader = leader;
    sender->run_first = cycle;
    sender->confirmed = cycle - 1;
    open_cycle(sender, cycle);
}

void sender_join(struct sender *sender, uint64_t now_us, uint64_t term, uint64_t first,
                 uint64_t confirmed, uint64_t open, const uint16_t *generation)
{
    CHECK(open > confirmed);
    CHECK(open - 1 - confirmed <= COPY_CLOSED);
    begin(sender, now_us, term, first);
    sender->leader = false;
    sender->run_first = confirmed + 1;
    memcpy(sender->generation, generation, sender->config.volume_count * sizeof *generation);
    sender->confirmed = confirmed;
    for (uint64_t number = confirmed + 1; number < open; number++) {
        open_cycle(sender, number);
        struct sender_cycle *cycle = cycle_of(sender, number);
        cycle->halves = 1;
        cycle->complete = cycle->held_said = true; /* no part of it is here */
        cycle->end_sent = !MISTAKE(copy_joiner_sends_end);
    }
    open_cycle(sender, open);
}

static bool has_something(const struct sender_cycle *cycle)
{
    return cycle->pins.count > 0 || cycle->tags.count > 0 || cycle->base > 0 ||
           cycle->ranges[0] + cycle->ranges[1] > 0;
}

bool sender_wants_cut(const struct sender *sender)
{
    /* While the copy does not say yet that it is consistent, an empty cycle may carry that. */
    return sender->mode == SENDER_CYCLES &&
           (!sender->consistent || has_something(&sender->cycle[ring_of(sender->open)]));
}

uint64_t sender_cut_deadline(const struct sender *sender)
{
    if (sender->mode == SENDER_BITMAP || !sender->leader || sender->config.coordinated ||
        sender_closed_count(sender) >= COPY_CLOSED)
        return UINT64_MAX;
    uint64_t pause_us = sender->config.shortest_us;
    if (!sender_wants_cut(sender))
        pause_us = max_u64(pause_us, COPY_IDLE_MS * 1000ull);
    return sender->cut_us + pause_us;
}

bool sender_cut_due(const struct sender *sender, uint64_t now_us)
{
    return now_us >= sender_cut_deadline(sender);
}

bool sender_may_close(const struct sender *sender, uint64_t cycle, uint8_t halves)
{
    if (sender->mode == SENDER_BITMAP || cycle != sender->open ||
        sender_closed_count(sender) >= COPY_CLOSED)
        return false;
    return halves == 2 ||
           (halves == 1 && (sender->leader || sender->cycle[ring_of(cycle)].pins.count == 0));
}

static bool nothing_marked_is_left(const struct sender *sender)
{
    for (uint32_t i = 0; i < sender->config.volume_count; i++) {
        if (sender->own[i] && regions_pending(&sender->regions, (uint8_t)i))
            return false;
    }
    return true;
}

/* A read that is still under way may return what is written after the cut: also one for an earlier
 * cycle, which this cut's state then stands on. */
static bool nothing_is_read(const struct sender *sender)
{
    for (uint64_t number = sender->confirmed + 1; number <= sender->open; number++) {
        if (sender->cycle[ring_of(number)].base_reading > 0 && !MISTAKE(copy_open_reads_done))
            return false;
    }
    return true;
}

void sender_close(struct sender *sender, uint64_t now_us, uint64_t wall_us, uint8_t halves)
{
    CHECK(sender->drain == DRAIN_NONE);
    CHECK(sender_may_close(sender, sender->open, halves));
    struct sender_cycle *cycle = cycle_of(sender, sender->open);
    cycle->wall_us = wall_us;
    cycle->halves = halves;
    cycle->pages = cycle->pins.count;
    cycle->cursor = cycle->pins.head;
    cycle->done = !(cycle->moved && cycle->marked) && nothing_is_read(sender) &&
                  nothing_marked_is_left(sender);
    regions_close(&sender->regions, ring_of(cycle->number));
    if (halves == 1 && !sender->leader)
        cycle->complete = cycle->held_said = cycle->end_sent = true; /* no part of it is here */
    sender->cut_us = now_us;
    open_cycle(sender, cycle->number + 1);
}

bool sender_peer_held(struct sender *sender, uint64_t cycle, bool done)
{
    if (sender->mode == SENDER_BITMAP || !sender->leader || cycle <= sender->confirmed ||
        cycle >= sender->open)
        return false;
    struct sender_cycle *closed = cycle_of(sender, cycle);
    if (closed->halves != 2 || closed->peer_complete)
        return false;
    closed->peer_complete = true;
    closed->peer_done = done;
    return true;
}

uint64_t sender_held_due(struct sender *sender, bool *done)
{
    if (sender->mode == SENDER_BITMAP || sender->leader)
        return 0;
    for (uint64_t number = sender->confirmed + 1; number < sender->open; number++) {
        struct sender_cycle *cycle = cycle_of(sender, number);
        if (!cycle->complete || number == sender->holding)
            return 0;
        if (cycle->held_said)
            continue;
        cycle->held_said = true;
        *done = cycle->done;
        return number;
    }
    return 0;
}

/* Both halves closed the cycle with no marked region left. When a volume changed hands meanwhile
 * its bits may have been at neither: the one had given it away before it closed, the other did not
 * have it yet. None was on its way like that if none stood anywhere at the cut before and the one
 * that gave it away had set none since, which it says. */
bool sender_vouches(const struct sender *sender, const struct sender_cycle *cycle)
{
    bool vouched = sender->consistent;
    for (uint64_t number = sender->confirmed + 1; number <= cycle->number; number++) {
        const struct sender_cycle *at = &sender->cycle[ring_of(number)];
        vouched = at->done && (at->halves == 1 || at->peer_done) && (!at->moved || vouched);
    }
    return vouched;
}

bool sender_whole(const struct sender *sender, uint64_t cycle)
{
    if (sender->mode == SENDER_BITMAP || cycle >= sender->open)
        return false;
    for (uint64_t number = sender->confirmed + 1; number <= cycle; number++) {
        const struct sender_cycle *closed = &sender->cycle[ring_of(number)];
        if (!closed->complete || (closed->halves == 2 && !closed->peer_complete))
            return false;
    }
    return true;
}

/* The ranges of a drained cycle: over when it was confirmed, marked when the group fell. */
static void drain_ranges(struct sender *sender, struct sender_cycle *cycle)
{
    for (uint32_t i = 0; i < SENDER_RANGES; i++) {
        struct sender_range *range = &sender->ranges[i];
        if (range->cycle != cycle->number)
            continue;
        if (sender->drain == DRAIN_FALL && !MISTAKE(copy_ranges_fall_unmarked))
            mark(sender, range->volume, range->page, range->count);
        sender->range_count[range->tag]--;
        range->cycle = 0;
    }
    cycle->ranges[0] = cycle->ranges[1] = 0;
}

bool sender_confirm(struct sender *sender, uint64_t number)
{
    CHECK(sender->drain == DRAIN_NONE);
    CHECK(sender->over == 0);
    if (sender->mode == SENDER_BITMAP || number != sender->confirmed + 1 || number >= sender->open)
        return false;
    struct sender_cycle *cycle = cycle_of(sender, number);
    if (!cycle->complete || (sender->leader && cycle->halves == 2 && !cycle->peer_complete))
        return false;
    sender->consistent = sender_vouches(sender, cycle);
    sender->confirmed = sender->over = number;
    regions_confirm(&sender->regions, ring_of(number));
    drain_ranges(sender, cycle);
    return true;
}

void sender_restart(struct sender *sender, uint64_t term, bool alone)
{
    CHECK(sender->mode == SENDER_CYCLES);
    CHECK(sender->drain == DRAIN_NONE);
    CHECK(sender->over == 0);
    CHECK(term > sender->term);
    sender->term = term;
    sender->drain = DRAIN_RESTART;
    sender->drain_alone = alone;
    sender->drain_at = sender->confirmed + 1;
    sender->drain_to = sender->open;
    bool marked = false;
    for (uint64_t number = sender->drain_at; number <= sender->open; number++)
        marked |= cycle_of(sender, number)->marked;
    sender->confirmed = sender->open;
    open_cycle(sender, sender->open + 1);
    sender->term_first = sender->open;
    cycle_of(sender, sender->open)->moved = !alone; /* a MOVE may be on its way */
    cycle_of(sender, sender->open)->marked = marked;
    if (alone) {
        sender->leader = true;
        sender->paired = false;
    }
    forget_batches(sender);
    for (uint32_t i = 0; i < sender->config.volume_count; i++)
        regions_rewind(&sender->regions, (uint8_t)i);
}

void sender_fall(struct sender *sender)
{
    CHECK(sender->drain == DRAIN_NONE);
    CHECK(sender->over == 0);
    if (sender->mode == SENDER_BITMAP)
        return;
    sender->mode = SENDER_BITMAP;
    sender->consistent = false;
    sender->drain = DRAIN_FALL;
    sender->drain_at = sender->confirmed + 1;
    sender->drain_to = sender->open;
    forget_batches(sender);
}

/* ---- giving back ---- */

/* One range of a restart joins the new cycle. Those for which there is no room are marked: until
 * their regions have been sent the copy is not consistent, and says so. */
static void carry_range(struct sender *sender, struct sender_range *range)
{
    bool tag = range->tag;
    sender->range_count[tag]--;
    if (MISTAKE(copy_takeover_drops_ranges)) {
        range->cycle = 0;
        return;
    }
    tag = tag && !sender->drain_alone;
    if (sender->range_count[tag] == 2 * COPY_RANGES) {
        mark(sender, range->volume, range->page, range->count);
        range->cycle = 0;
        return;
    }
    range->tag = tag;
    range->cycle = sender->open;
    sender->range_count[tag]++;
    cycle_of(sender, sender->open)->ranges[tag]++;
}

/* All slots have been given back or kept. */
static void drain_end(struct sender *sender)
{
    for (uint32_t i = 0; i < SENDER_RANGES && sender->drain == DRAIN_RESTART; i++) {
        if (sender->ranges[i].cycle != 0)
            carry_range(sender, &sender->ranges[i]);
    }
    sender->drain = DRAIN_NONE;
}

/* One slot of the cycle; false: none is left. */
static bool pop(struct sender *sender, struct sender_cycle *cycle, struct sender_popped *popped)
{
    bool tag = cycle->pins.count == 0;
    uint32_t slot = pins_pop(sender->pins, tag ? &cycle->tags : &cycle->pins);
    if (slot == NO_INDEX)
        return false;
    const struct pin *pin = pins_at(sender->pins, slot);
    CHECK(pin->group == sender->config.group);
    *popped = (struct sender_popped){.slot = slot,
                                     .tag = tag,
                                     .owed = pin->owed,
                                     .generation = pin->generation,
                                     .cycle = cycle->number};
    sender->pinned -= !tag;
    if (sender->drain != DRAIN_RESTART)
        pins_clear(sender->pins, slot);
    return true;
}

bool sender_pop(struct sender *sender, struct sender_popped *popped)
{
    if (sender->over != 0) {
        struct sender_cycle *cycle = cycle_of(sender, sender->over);
        if (pop(sender, cycle, popped))
            return true;
        *cycle = (struct sender_cycle){0};
        sender->over = 0;
    }
    if (sender->drain == DRAIN_NONE)
        return false;
    for (; sender->drain_at <= sender->drain_to; sender->drain_at++) {
        struct sender_cycle *cycle = cycle_of(sender, sender->drain_at);
        if (pop(sender, cycle, popped))
            return true;
        if (sender->drain != DRAIN_RESTART)
            drain_ranges(sender, cycle);
        *cycle = (struct sender_cycle){0};
    }
    drain_end(sender);
    return false;
}

/* A newer range has made the page zeros: of a later cycle, or of a later owner in the same one. */
static bool zeroed_since(const struct sender *sender, uint8_t volume, uint64_t page,
                         const struct sender_popped *popped)
{
    for (uint32_t i = 0; i < SENDER_RANGES; i++) {
        const struct sender_range *range = &sender->ranges[i];
        bool newer = range->cycle > popped->cycle ||
                     (range->cycle == popped->cycle && range->generation > popped->generation);
        if (range->cycle != 0 && newer && range->volume == volume && page >= range->page &&
            page - range->page < range->count)
            return true;
    }
    return false;
}

/* Pages [first, end) leave the range; what is left of it may need one more place. */
static void cut_range(struct sender *sender, struct sender_range *range, uint64_t first,
                      uint64_t end)
{
    const struct sender_range whole = *range;
    uint64_t whole_end = whole.page + whole.count;
    if (whole.page >= end || first >= whole_end)
        return;
    forget_range(sender, range);
    if (whole.page < first)
        keep_part(sender, &whole, whole.page, first);
    if (whole_end > end)
        keep_part(sender, &whole, end, whole_end);
}

void sender_mark(struct sender *sender, uint8_t volume, uint64_t page, uint64_t count)
{
    CHECK(sender->mode == SENDER_BITMAP || sender->confirmed + 1 == sender->open);
    mark(sender, volume, page, count);
    regions_rewind(&sender->regions, volume);
    for (uint32_t i = 0; i < SENDER_RANGES; i++) {
        struct sender_range *range = &sender->ranges[i];
        if (range->cycle != 0 && range->volume == volume)
            cut_range(sender, range, page, page + count);
    }
}

enum sender_fate sender_keep(struct sender *sender, const struct sender_popped *popped,
                             uint8_t volume, uint64_t page, bool superseded, uint32_t heir)
{
    CHECK(sender->drain == DRAIN_RESTART);
    CHECK(volume < sender->config.volume_count);
    struct pin *pin = pins_at(sender->pins, popped->slot);
    if (MISTAKE(copy_takeover_drops_tags) && popped->tag && sender->drain_alone) {
        pins_clear(sender->pins, popped->slot);
        return SENDER_DROPPED;
    }
    bool covered =
        superseded && heir != NO_INDEX && (popped->owed & ~pins_at(sender->pins, heir)->owed) == 0;
    if (covered || pin->passed_on || (superseded && zeroed_since(sender, volume, page, popped))) {
        pins_clear(sender->pins, popped->slot);
        return SENDER_DROPPED;
    }
    if (superseded && sender->drain_alone) {
        pins_clear(sender->pins, popped->slot);
        if (!MISTAKE(copy_superseded_forgotten))
            sender_mark(sender, volume, page, 1);
        return SENDER_DROPPED;
    }
    pin->sectors = pin->owed = popped->owed;
    pin_slot(sender, cycle_of(sender, sender->open), popped->slot,
             popped->tag && !sender->drain_alone);
    return SENDER_KEPT;
}

bool sender_over_budget(const struct sender *sender)
{
    uint32_t over = sender->over == 0 ? 0 : sender->cycle[ring_of(sender->over)].pins.count;
    return sender->pinned - over > sender->config.budget_pages;
}

/* ---- marked regions ---- */

bool sender_base_next(struct sender *sender, uint32_t limit, uint8_t *volume, uint64_t *first,
                      uint32_t *count, uint64_t *cycle)
{
    if (sender->mode == SENDER_BITMAP)
        return false;
    struct sender_cycle *open = cycle_of(sender, sender->open);
    limit = min_u32(limit, sender->config.base_pages - open->base);
    if (limit == 0)
        return false;
    for (uint32_t i = 0; i < sender->config.volume_count; i++) {
        if (!sender->own[i] || !regions_next(&sender->regions, (uint8_t)i, limit, first, count))
            continue;
        open->base += *count;
        open->base_reading += *count;
        *volume = (uint8_t)i;
        *cycle = open->number;
        return true;
    }
    return false;
}

void sender_base_read(struct sender *sender, uint64_t number, uint32_t count)
{
    struct sender_cycle *cycle = cycle_of(sender, number);
    CHECK(count <= cycle->base_reading);
    cycle->base_reading -= count;
    cycle->base_ready += count;
}
