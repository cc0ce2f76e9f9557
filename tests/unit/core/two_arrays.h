/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Two whole arrays: the pair whose volumes are copied, and the pair that receives them, each with
 * its stores, its register and its own link. Between them a session for each controller of the
 * first, which a test may hold or break. What a batch's bytes were when it was sent they must still
 * be when it arrives, unless its session is over; and each batch has exactly one answer. */

#ifndef TESTS_TWO_ARRAYS_H
#define TESTS_TWO_ARRAYS_H

#include "array/internal.h"
#include "copy_common.h"

enum { HERE = 0, THERE = 1, FLIGHTS = 4 * COPY_WINDOW, ROOM = 150 };

/* A batch on its way: in the session of `self`, or left behind by it. */
struct flight {
    bool used;
    bool left;      /* its session is over */
    bool delivered; /* its answer has to come */
    bool answered, good;
    int at; /* delivered: which controller there */
    struct copy_action action;
    uint8_t *bytes;
};

static struct between {
    bool up[PAIR], reset_due[PAIR], down_due[PAIR];
    bool changed[PAIR];
    int at[PAIR]; /* which controller there the session goes to */
    struct flight flight[PAIR][FLIGHTS];
    bool hold_batches, hold_sessions, hold_answers;
    void (*promoted)(void); /* looks at what is to be seen there now */
    uint64_t promoted_seen;
    uint32_t batches, refused, promotions, consistent;
} between;

static inline struct flight *flight_of(uint64_t handle)
{
    return &between.flight[handle / FLIGHTS][handle % FLIGHTS];
}

static inline void flight_over(struct flight *flight)
{
    free(flight->bytes);
    *flight = (struct flight){.used = false};
}

static inline void session_over(int self)
{
    for (int i = 0; i < FLIGHTS; i++) {
        struct flight *flight = &between.flight[self][i];
        flight->left = true;
        if (flight->used && (!flight->delivered || flight->answered))
            flight_over(flight);
    }
}

static inline struct array *there(int self)
{
    return pair_worlds[THERE].side[self].dead ? NULL : pair_worlds[THERE].side[self].array;
}

static inline bool is_here(int self)
{
    struct copy_state state;
    if (there(self) == NULL)
        return false;
    array_copy_state(there(self), 0, &state);
    return (state.flags & COPY_STATE_HERE) != 0;
}

/* ---- the first array's side ---- */

static inline void flatten(const struct copy_action *action, uint8_t *bytes)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < action->iov_count; at += (uint32_t)action->iov[i++].iov_len)
        memcpy(bytes + at, action->iov[i].iov_base, action->iov[i].iov_len);
    assert_int_equal(at, action->length_bytes);
}

static inline void tell_log(char name, const struct actions *actions)
{
    for (uint32_t i = 0; i < actions->log_count; i++)
        TELL("%llu %c: %s\n", (unsigned long long)pair.now_us, name, actions->log[i].text);
}

static inline void here_take(int self, const struct actions *actions)
{
    tell_log((char)('a' + self), actions);
    for (uint32_t i = 0; i < actions->copy_count; i++) {
        const struct copy_action *action = &actions->copies[i];
        int at = 0;
        assert_true(between.up[self]);
        while (between.flight[self][at].used)
            assert_true(++at < FLIGHTS);
        struct flight *flight = &between.flight[self][at];
        *flight =
            (struct flight){.used = true, .action = *action, .bytes = malloc(action->length_bytes)};
        flatten(action, flight->bytes);
        between.batches++;
    }
    if (between.changed[self] && !(actions->copy_reset & 1))
        fail_msg("a batch has changed on its way");
    between.changed[self] = false;
    if (!(actions->copy_reset & 1))
        return;
    between.reset_due[self] = true;
    session_over(self);
}

static inline bool flight_step(int self, struct flight *flight)
{
    if (flight->delivered) {
        if (!flight->answered || flight->left || between.hold_answers)
            return false;
        uint64_t number = flight->action.number;
        bool good = flight->good;
        flight_over(flight);
        between.refused += !good;
        array_on_copy_answered(pair.side[self].array, pair.now_us, 0, number, good);
        return true;
    }
    uint32_t length = flight->action.length_bytes;
    uint8_t *now = malloc(length);
    flatten(&flight->action, now);
    bool same = memcmp(now, flight->bytes, length) == 0;
    free(now);
    if (!same) { /* then the session is over, and the next pump says so */
        flight_over(flight);
        between.changed[self] = true;
        return true;
    }
    if (there(between.at[self]) == NULL || between.hold_batches)
        return false;
    flight->delivered = true;
    flight->at = between.at[self];
    uint64_t handle = (uint64_t)(flight - &between.flight[0][0]);
    array_on_copy_message(there(flight->at), pair_worlds[THERE].now_us, handle, 0, flight->bytes,
                          length);
    return true;
}

static inline bool here_up(int self)
{
    struct copy_state state;
    for (int at = A; at < PAIR && !between.hold_sessions; at++) {
        if (!is_here(at))
            continue;
        array_copy_state(there(at), 0, &state);
        between.up[self] = true;
        between.at[self] = at;
        array_on_copy_up(pair.side[self].array, pair.now_us, 0, &state);
        return true;
    }
    return false;
}

static inline bool here_step(int self)
{
    bool more = false;
    array_set_wall(pair.side[self].array, pair.now_us + 1000000);
    if (between.up[self] && !is_here(between.at[self]))
        between.down_due[self] = true;
    if (between.reset_due[self] || between.down_due[self]) {
        if (between.up[self])
            array_on_copy_down(pair.side[self].array, pair.now_us, 0);
        session_over(self);
        more = true;
        between.up[self] = between.reset_due[self] = between.down_due[self] = false;
    } else if (!between.up[self]) {
        more = here_up(self);
    }
    for (int i = 0; i < FLIGHTS && !between.reset_due[self]; i++) {
        if (between.flight[self][i].used)
            more |= flight_step(self, &between.flight[self][i]);
    }
    return more;
}

/* The controller's process has ended: so have its sessions. */
static inline void here_lost(int self)
{
    session_over(self);
    between.up[self] = between.reset_due[self] = between.down_due[self] = false;
}

/* ---- the second array's side ---- */

static inline void there_take(int self, const struct actions *actions)
{
    tell_log((char)('c' + self), actions);
    for (uint32_t i = 0; i < actions->copy_reply_count; i++) {
        const struct copy_reply *answer = &actions->copy_replies[i];
        struct flight *flight = flight_of(answer->handle);
        TELL("%llu %c: batch %llu is answered %d\n", (unsigned long long)pair.now_us, 'c' + self,
             (unsigned long long)flight->action.number, answer->good);
        assert_true(flight->used && flight->delivered && !flight->answered);
        assert_int_equal(flight->at, self);
        flight->answered = true;
        flight->good = answer->good;
        if (flight->left)
            flight_over(flight);
    }
}

/* The controller there has ended: what it had is never answered. */
static inline void there_lost(int self)
{
    for (int half = A; half < PAIR; half++) {
        for (int i = 0; i < FLIGHTS; i++) {
            struct flight *flight = &between.flight[half][i];
            if (flight->used && flight->delivered && !flight->answered && flight->at == self)
                flight_over(flight);
        }
        if (between.up[half] && between.at[half] == self)
            between.down_due[half] = true;
    }
}

/* The controller that would show the volume now, if its site had to take over. */
static inline int shower(void)
{
    for (int self = A; self < PAIR; self++) {
        if (there(self) != NULL && is_here(self))
            return self;
    }
    return -1;
}

static inline const struct group *group_there(int self)
{
    return &there(self)->copy.groups[0];
}

/* What a host would read there: the cache over the store, and zeros where the store has yet to
 * forget. */
static inline void peek(int self, int volume, uint64_t page, uint8_t into[PAGE])
{
    const struct array *array = there(self);
    const struct volume_config *config = &array->config.volumes[copied[volume]];
    const struct second_zeroes *zero = &group_there(self)->second.zero;
    uint64_t at = page * PAGE;
    uint64_t size = config->size_bytes - at < PAGE ? config->size_bytes - at : PAGE;
    memset(into, 0, PAGE);
    memcpy(into, pair_worlds[THERE].store[config->store] + config->store_offset_bytes + at, size);
    for (uint32_t i = 0; i < zero->count; i++) {
        if (zero->zeroes[i].volume == volume && page >= zero->zeroes[i].page &&
            page - zero->zeroes[i].page < zero->zeroes[i].count)
            memset(into, 0, PAGE);
    }
    const struct slot *slot = slot_find(&array->table, slot_key(copied[volume], page));
    for (int s = 0; slot != NULL && s < PAGE_SECTORS; s++) {
        if (slot->valid & 1 << s)
            memcpy(into + s * SECTOR_SIZE, slot_frame(&array->table, slot) + s * SECTOR_SIZE,
                   SECTOR_SIZE);
    }
}

static inline void look_there(void)
{
    int self = shower();
    if (self < 0)
        return;
    const struct receiver *receiver = &group_there(self)->second.receiver;
    if (receiver->promoted < between.promoted_seen)
        fail_msg("the promoted cycle goes back: %llu after %llu",
                 (unsigned long long)receiver->promoted, (unsigned long long)between.promoted_seen);
    if (receiver->promoted == between.promoted_seen)
        return;
    between.promoted_seen = receiver->promoted;
    between.promotions++;
    between.consistent += receiver->consistent;
    if (between.promoted != NULL)
        between.promoted();
}

/* ---- both ---- */

/* What one controller there holds or has promoted the other has, whenever nothing is on its way.
 */
static inline void look_at_the_mirror_there(void)
{
    bool moved[VOLUME_LIMIT];
    memset(moved, true, sizeof moved);
    for (int self = A; self < PAIR && there(A) != NULL && there(B) != NULL; self++) {
        const char *why = array_check_mirror(there(self), there(self ^ 1), moved);
        if (why != NULL)
            fail_msg("array_check_mirror from %c: %s", 'c' + self, why);
    }
}

/* One burst of one controller of one array. */
static inline bool array_step(int which, int self)
{
    pair_use(which);
    bool more = side_step(self);
    pair_use(HERE);
    look_there();
    look_at_the_mirror_there();
    return more;
}

static inline void pass_time(uint64_t us)
{
    pair_worlds[HERE].now_us += us;
    pair_worlds[THERE].now_us += us;
}

/* Until nothing more happens by itself. */
static inline void settle_both(void)
{
    for (int i = 0; i < 4000; i++) {
        bool more = false;
        for (int self = A; self < PAIR; self++) {
            more |= array_step(HERE, self);
            more |= array_step(THERE, self);
        }
        pass_time(1);
        if (!more)
            return;
    }
    fail_msg("no end");
}

static inline void pass_both_ms(uint32_t ms)
{
    for (uint32_t i = 0; i < ms; i += 10) {
        pass_time(10000);
        settle_both();
    }
}

static inline void until_consistent(void)
{
    for (int i = 0; i < 800; i++) {
        pass_both_ms(10);
        int self = shower();
        if (self >= 0 && group_there(self)->second.receiver.consistent &&
            group_there(self)->second.receiver.held_count == 0)
            return;
    }
    fail_msg("never consistent: %s, %s", group_of(A)->reason, group_of(B)->reason);
}

static inline void configure(uint32_t slots, uint32_t budget, uint32_t room, uint8_t side)
{
    struct group_config *group = &pair.config.groups[0];
    pair_defaults();
    pair.config.trace = story_is_told();
    pair.config.slot_count = slots;
    pair.config.group_count = 1;
    *group = (struct group_config){.name = "g",
                                   .id = "identity",
                                   .side = side,
                                   .volume_count = COPIED,
                                   .volumes = {copied[0], copied[1]},
                                   .budget_pages = budget,
                                   .room_pages = side == GROUP_SECOND ? room : 0,
                                   .base_pages = 64,
                                   .expose = side == GROUP_SECOND,
                                   .shortest_us = 2000};
    if (side == GROUP_SECOND)
        pair.config.volumes[V_B].home = 0;
}

static inline void up_there(void)
{
    pair_use(THERE);
    pair_up();
    pair_use(HERE);
}

/* Both pairs are up; slots of each controller's cache. */
static inline void create_both(uint32_t slots, uint32_t budget, uint32_t room)
{
    memset(&between, 0, sizeof between);
    make_a_mistake();
    for (int which = HERE; which < PAIRS; which++) {
        pair_use(which);
        configure(slots, budget, room, which == HERE ? GROUP_PRIMARY : GROUP_SECOND);
        pair.copies = which == HERE ? here_take : there_take;
        pair.copy_step = which == HERE ? here_step : NULL;
        pair_create();
    }
    between.hold_sessions = true;
    up_there();
    pair_up();
    between.hold_sessions = false;
    uint64_t now_us = pair_worlds[HERE].now_us > pair_worlds[THERE].now_us
                          ? pair_worlds[HERE].now_us
                          : pair_worlds[THERE].now_us;
    pair_worlds[HERE].now_us = pair_worlds[THERE].now_us = now_us;
}

static inline void destroy_both(void)
{
    void *state = NULL;
    for (int half = A; half < PAIR; half++) {
        for (int i = 0; i < FLIGHTS; i++)
            flight_over(&between.flight[half][i]);
    }
    for (int which = THERE; which >= HERE; which--) {
        pair_use(which);
        pair_destroy(&state);
    }
}

#endif
