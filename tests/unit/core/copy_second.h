/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A second array for the pair in pair.h: one controller that loses nothing, whose sessions a test
 * may hold or break. What a batch's bytes were when it was sent they must still be when it arrives,
 * so a core that changes what it has given away is found here. */

#ifndef TESTS_COPY_SECOND_H
#define TESTS_COPY_SECOND_H

#include "copy/receiver.h"
#include "copy_common.h"

enum { FLIGHTS = 4 * COPY_WINDOW, ROOM = 4096 };

struct flight {
    bool used;
    struct copy_action action; /* its bytes are the core's: looked at again when it arrives */
    uint8_t *bytes;
};

static struct second {
    void *memory;
    struct receiver receiver;
    uint64_t page_counts[COPIED];
    uint64_t memory_number;
    uint8_t *frames;
    uint32_t free[ROOM], free_count;
    uint8_t *visible[COPIED];
    bool up[PAIR], reset_due[PAIR], down_due[PAIR];
    bool changed[PAIR]; /* a batch was not what it had been when it arrived */
    bool hold_answers, hold_sessions;
    struct flight flight[PAIR][FLIGHTS];
    void (*promoted)(void); /* looks at what is visible now */
    uint32_t promotions, batches, refused, resets;
} second;

static inline void second_memory(void)
{
    struct arena measure = arena_over(NULL, 0);
    const uint8_t *id = pair.config.groups[0].id;
    receiver_create(&second.receiver, &measure, ROOM, ROOM, COPIED, second.page_counts, id, 1);
    free(second.memory);
    second.memory = calloc(1, measure.used);
    struct arena arena = arena_over(second.memory, measure.used);
    receiver_create(&second.receiver, &arena, ROOM, ROOM, COPIED, second.page_counts, id,
                    ++second.memory_number);
    second.receiver.era = 1;
    second.free_count = ROOM;
    for (uint32_t i = 0; i < ROOM; i++)
        second.free[i] = i;
}

static inline void second_create(void)
{
    memset(&second, 0, sizeof second);
    second.frames = malloc((size_t)ROOM * PAGE);
    for (int i = 0; i < COPIED; i++) {
        uint64_t size = pair.config.volumes[copied[i]].size_bytes;
        second.page_counts[i] = (size + PAGE - 1) / PAGE;
        second.visible[i] = calloc(1, VOLUME_BYTES);
    }
    second_memory();
}

static inline void flights_forget(int self)
{
    for (int i = 0; i < FLIGHTS; i++) {
        free(second.flight[self][i].bytes);
        second.flight[self][i] = (struct flight){.used = false};
    }
}

static inline void second_destroy(void)
{
    for (int self = A; self < PAIR; self++)
        flights_forget(self);
    for (int i = 0; i < COPIED; i++)
        free(second.visible[i]);
    free(second.frames);
    free(second.memory);
}

/* It loses what it held of cycles that were not promoted, and every session. */
static inline void second_restart(void)
{
    struct copy_state state;
    receiver_state(&second.receiver, &state);
    second_memory();
    state.memory = second.memory_number;
    receiver_restore(&second.receiver, &state);
    second.down_due[A] = second.down_due[B] = true;
}

static inline void flatten(const struct copy_action *action, uint8_t *bytes)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < action->iov_count; at += (uint32_t)action->iov[i++].iov_len)
        memcpy(bytes + at, action->iov[i].iov_base, action->iov[i].iov_len);
    assert_int_equal(at, action->length_bytes);
}

static inline void second_take(int self, const struct actions *actions)
{
    for (uint32_t i = 0; i < actions->log_count; i++)
        TELL("%llu %c: %s\n", (unsigned long long)pair.now_us, 'a' + self, actions->log[i].text);
    for (uint32_t i = 0; i < actions->copy_count; i++) {
        const struct copy_action *action = &actions->copies[i];
        int at = 0;
        assert_true(second.up[self]);
        while (second.flight[self][at].used)
            at++;
        struct flight *flight = &second.flight[self][at];
        *flight =
            (struct flight){.used = true, .action = *action, .bytes = malloc(action->length_bytes)};
        flatten(action, flight->bytes);
        second.batches++;
    }
    if (second.changed[self] && !(actions->copy_reset & 1))
        fail_msg("a batch has changed on its way");
    second.changed[self] = false;
    if (!(actions->copy_reset & 1))
        return;
    second.reset_due[self] = true;
    second.resets++;
    flights_forget(self); /* of what is on its way the bytes may change from here on */
}

static inline void second_show(const struct receiver_popped *popped)
{
    uint8_t *page = second.visible[popped->volume] + popped->page * PAGE;
    if (popped->slot == NO_INDEX) {
        memset(page, 0, popped->count * PAGE);
        return;
    }
    uint8_t taken = 0, sectors = popped->sectors;
    for (uint32_t slot = popped->slot; slot != NO_INDEX;) {
        const uint8_t *frame = second.frames + (size_t)slot * PAGE;
        for (int s = 0; s < PAGE_SECTORS && !popped->discard; s++) {
            if (sectors & ~taken & 1 << s)
                memcpy(page + s * SECTOR_SIZE, frame + s * SECTOR_SIZE, SECTOR_SIZE);
        }
        taken |= sectors;
        second.free[second.free_count++] = slot;
        slot = receiver_older(&second.receiver, &sectors);
    }
}

static inline void second_drain(void)
{
    struct receiver_popped popped;
    while (receiver_pop(&second.receiver, &popped))
        second_show(&popped);
}

static inline void second_record(const struct copy_head *head, const struct record *record,
                                 const uint8_t *data, struct receiver_counts *counts)
{
    struct receiver *receiver = &second.receiver;
    switch (record->type) {
    case RECORD_PAGE:
        *(record->flags & RECORD_BASE ? &counts->base : &counts->pages) += 1;
        if (receiver_holds(receiver, head->cycle, record))
            break;
        assert_true(second.free_count > 0);
        uint32_t slot = second.free[--second.free_count];
        for (int s = 0; s < PAGE_SECTORS; s++) {
            if (!(record->sectors & 1 << s))
                continue;
            memcpy(second.frames + (size_t)slot * PAGE + s * SECTOR_SIZE, data, SECTOR_SIZE);
            data += SECTOR_SIZE;
        }
        receiver_hold(receiver, slot, head->cycle, head->wall_us, record);
        break;
    case RECORD_ZERO:
        counts->ranges++;
        receiver_zero(receiver, head->cycle, head->wall_us, record);
        break;
    case RECORD_END:
        receiver_end(receiver, head->half, head->cycle, head->wall_us, record);
        break;
    default:
        receiver_promote_begin(receiver);
        receiver_promote(receiver, head->cycle, head->wall_us,
                         (record->flags & RECORD_CONSISTENT) != 0);
        second_drain();
        second.promotions++;
        if (second.promoted != NULL)
            second.promoted();
    }
}

/* 1: GOOD; 0: refused; -1: it has to wait. */
static inline int second_receive(const uint8_t *bytes, uint32_t length)
{
    struct receiver *receiver = &second.receiver;
    struct copy_head head;
    struct receiver_counts counts = {0};
    bool new_term;
    const char *why = record_get_head(bytes, length, &head);
    if (why != NULL)
        fail_msg("%s", why);
    const uint8_t *records = bytes + COPY_HEAD_SIZE;
    enum receiver_verdict verdict = receiver_judge(receiver, &head, &new_term, &why);
    if (verdict == RECEIVER_WAIT)
        return -1;
    if (verdict == RECEIVER_KNOWN)
        return 1;
    if (verdict == RECEIVER_REFUSE)
        return 0;
    why = receiver_judge_records(receiver, &head, new_term, records);
    if (why != NULL)
        fail_msg("%s", why);
    if (new_term) {
        receiver_begin_term(receiver, head.term, head.first);
        second_drain();
    }
    receiver_taken(receiver, head.half, head.number);
    const uint8_t *data = records + head.record_count * COPY_RECORD_SIZE;
    for (uint32_t i = 0; i < head.record_count; i++) {
        struct record record;
        assert_null(record_get(records + i * COPY_RECORD_SIZE, &record));
        second_record(&head, &record, data, &counts);
        data += record_data_bytes(&record);
    }
    receiver_batch_done(receiver, head.half, head.number, head.cycle, &counts);
    why = receiver_check(receiver);
    if (why != NULL)
        fail_msg("receiver: %s", why);
    return 1;
}

static inline bool flight_arrives(int self, struct flight *flight)
{
    uint32_t length = flight->action.length_bytes;
    uint8_t *now = malloc(length);
    flatten(&flight->action, now);
    bool same = memcmp(now, flight->bytes, length) == 0;
    free(now);
    if (!same) { /* then the session is over, and the next pump says so */
        free(flight->bytes);
        *flight = (struct flight){.used = false};
        second.changed[self] = true;
        return true;
    }
    int answer = second_receive(flight->bytes, length);
    if (answer < 0)
        return false;
    uint64_t number = flight->action.number;
    free(flight->bytes);
    *flight = (struct flight){.used = false};
    second.refused += !answer;
    array_on_copy_answered(pair.side[self].array, pair.now_us, 0, number, answer);
    return true;
}

static inline bool second_step(int self)
{
    struct array *array = pair.side[self].array;
    bool more = false;
    array_set_wall(array, pair.now_us + 1000000);
    if (second.reset_due[self] || second.down_due[self]) {
        if (second.up[self])
            array_on_copy_down(array, pair.now_us, 0);
        flights_forget(self);
        more = true;
        second.up[self] = second.reset_due[self] = second.down_due[self] = false;
    } else if (!second.up[self] && !second.hold_sessions) {
        struct copy_state state;
        receiver_state(&second.receiver, &state);
        state.flags |= COPY_STATE_HERE;
        state.room_pages = ROOM;
        state.window = 4;
        second.up[self] = more = true;
        array_on_copy_up(array, pair.now_us, 0, &state);
    }
    for (int i = 0; i < FLIGHTS && !second.hold_answers && !second.reset_due[self]; i++) {
        if (second.flight[self][i].used)
            more |= flight_arrives(self, &second.flight[self][i]);
    }
    return more;
}

/* The controller's process has ended: so have its sessions. */
static inline void second_lost(int self)
{
    flights_forget(self);
    second.up[self] = second.reset_due[self] = second.down_due[self] = false;
}

/* The pair, its group and the second array; slots of each controller's cache. */
static inline int set_up_copy(uint32_t slots, uint32_t budget)
{
    pair_defaults();
    pair.config.trace = story_is_told();
    pair.config.slot_count = slots;
    pair.config.group_count = 1;
    pair.config.groups[0] = (struct group_config){.name = "g",
                                                  .id = "identity",
                                                  .side = GROUP_PRIMARY,
                                                  .volume_count = COPIED,
                                                  .volumes = {copied[0], copied[1]},
                                                  .budget_pages = budget,
                                                  .base_pages = 256,
                                                  .shortest_us = 2000};
    second_create();
    make_a_mistake();
    pair.copies = second_take;
    pair.copy_step = second_step;
    pair_create();
    pair_up();
    return 0;
}

#endif
