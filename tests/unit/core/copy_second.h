/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A second array for the pair in pair.h: one controller that loses nothing, whose sessions a test
 * may hold or break. What a batch's bytes were when it was sent they must still be when it arrives,
 * so a core that changes what it has given away is found here. */

#ifndef TESTS_COPY_SECOND_H
#define TESTS_COPY_SECOND_H

#include "copy/receiver.h"
#include "flights.h"

enum { ROOM = 4096 };

static struct second_array {
    void *memory;
    struct receiver receiver;
    uint64_t page_counts[COPIED];
    uint64_t memory_number;
    uint8_t *frames;
    uint32_t free[ROOM], free_count;
    uint8_t *visible[COPIED];
    struct session session[PAIR];
    bool hold_answers, hold_sessions;
    void (*promoted)(void); /* looks at what is visible now */
    uint32_t promotions;
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

static inline void second_destroy(void)
{
    for (int self = A; self < PAIR; self++)
        session_free(&second.session[self]);
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
    second.session[A].down_due = second.session[B].down_due = true;
}

static inline void second_take(int self, const struct actions *actions)
{
    for (uint32_t i = 0; i < actions->log_count; i++)
        TELL("%llu %c: %s\n", (unsigned long long)pair.now_us, 'a' + self, actions->log[i].text);
    session_take(&second.session[self], actions);
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

static inline bool flight_step(int self, struct flight *flight)
{
    struct session *session = &second.session[self];
    if (flight_has_changed(session, flight))
        return true;
    int answer = second_receive(flight->bytes, flight->action.length_bytes);
    if (answer >= 0)
        flight_returns(session, flight, self, answer);
    return answer >= 0;
}

static inline bool second_step(int self)
{
    struct session *session = &second.session[self];
    bool more = false;
    array_set_wall(pair.side[self].array, pair.now_us + 1000000);
    if (session->reset_due || session->down_due) {
        session_ends(session, self);
        more = true;
    } else if (!session->up && !second.hold_sessions) {
        struct copy_state state;
        receiver_state(&second.receiver, &state);
        state.flags |= COPY_STATE_HERE;
        state.room_pages = ROOM;
        state.window = 4;
        more = true;
        session_begins(session, self, 0, &state);
    }
    for (int i = 0; i < FLIGHTS && !second.hold_answers && !session->reset_due; i++) {
        if (session->flight[i].used)
            more |= flight_step(self, &session->flight[i]);
    }
    return more;
}

/* The pair, its group and the second array; slots of each controller's cache. */
static inline int set_up_copy(uint32_t slots, uint32_t budget)
{
    configure_group(GROUP_PRIMARY, slots, budget)->base_pages = 256;
    second_create();
    make_a_mistake();
    pair.copies = second_take;
    pair.copy_step = second_step;
    pair_create();
    pair_up();
    return 0;
}

#endif
