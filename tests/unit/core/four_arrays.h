/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Two primary arrays whose groups are one set, and a second array for each: eight controllers. The
 * sessions of the copy go from a primary to its second array, those of the set from the first
 * primary to the other. A test may hold what is said about cuts, and have something happen at the
 * n-th step of it: a message that arrives, or an answer. One host writes in turn to both arrays,
 * each write after the one before was acknowledged. */

#ifndef TESTS_FOUR_ARRAYS_H
#define TESTS_FOUR_ARRAYS_H

#define PAIRS_WANTED 4
#include "array/internal.h"
#include "copy_common.h"

enum {
    FLIGHTS = 4 * COPY_WINDOW,

    POLL_US = 20 * 1000,
    HOLD_MS = 20,
    CALLS = 2 * CUT_WINDOW,
    ROUNDS = 50, /* of all controllers, in a millisecond that is busy */
    ROUND_US = 10,
    PRIMARIES = 2,
    PLACES = 32, /* pages of each volume that the host writes */
    CHAIN = PRIMARIES * COPIED * PLACES,
};

struct flight {
    bool used, left, delivered, answered, good;
    int at;
    struct copy_action action;
    uint8_t *bytes;
};

struct session {
    bool up, reset_due, down_due;
    int at;
    uint64_t asked_us;
    struct flight flight[FLIGHTS];
};

struct call {
    bool used, left, delivered, answered, good;
    int at;
    struct cut_action action;
    uint8_t bytes[CUT_MESSAGE_SIZE];
};

struct line {
    bool up, down_due;
    int at;
    uint64_t asked_us;
    struct call call[CALLS];
};

static struct world {
    struct session session[PRIMARIES][PAIR];
    struct line line[PAIR]; /* of the coordinating array's controllers */
    bool lost[PAIRS];       /* the whole array */
    bool hold_calls, strike_due;
    uint64_t steps, strike_at; /* messages and answers about cuts; 0: nothing happens */
    void (*strike)(void);
    /* the host */
    uint64_t written; /* acknowledged: 1 to this */
    uint32_t handle;  /* of the next one; 0: not asked yet */
    int asked_of;     /* which controller */
    uint64_t asked_us;
    bool host_rests;
    uint64_t slowest_us;
    uint64_t looks, cut_seen;
} world;

static inline struct array *array_of(int which, int self)
{
    struct side *side = &pair_worlds[which].side[self];
    return side->dead ? NULL : side->array;
}

static inline struct group *inner(int which, int self)
{
    return &pair_worlds[which].side[self].array->copy.groups[0];
}

/* The controller of a second array that holds the group, or -1. */
static inline int holder(int which, struct copy_state *state)
{
    for (int self = A; self < PAIR; self++) {
        if (array_of(which, self) == NULL)
            continue;
        array_copy_state(array_of(which, self), 0, state);
        if (state->flags & COPY_STATE_HERE)
            return self;
    }
    return -1;
}

static inline int leader_of(int which)
{
    for (int self = A; self < PAIR; self++) {
        struct cut_state state;
        if (array_of(which, self) == NULL)
            continue;
        array_cut_state(array_of(which, self), 0, &state);
        if (state.flags & CUT_STATE_LEADER)
            return self;
    }
    return -1;
}

/* ---- the copy's sessions ---- */

static inline void flight_over(struct flight *flight)
{
    free(flight->bytes);
    *flight = (struct flight){.used = false};
}

static inline void session_over(struct session *session)
{
    for (int i = 0; i < FLIGHTS; i++) {
        struct flight *flight = &session->flight[i];
        flight->left = true;
        if (flight->used && (!flight->delivered || flight->answered))
            flight_over(flight);
    }
}

static inline void flatten(const struct copy_action *action, uint8_t *bytes)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < action->iov_count; at += (uint32_t)action->iov[i++].iov_len)
        memcpy(bytes + at, action->iov[i].iov_base, action->iov[i].iov_len);
    assert_int_equal(at, action->length_bytes);
}

static inline void take_batches(int which, int self, const struct actions *actions)
{
    struct session *session = &world.session[which][self];
    for (uint32_t i = 0; i < actions->copy_count; i++) {
        const struct copy_action *action = &actions->copies[i];
        int at = 0;
        assert_true(session->up);
        while (session->flight[at].used)
            assert_true(++at < FLIGHTS);
        session->flight[at] =
            (struct flight){.used = true, .action = *action, .bytes = malloc(action->length_bytes)};
        flatten(action, session->flight[at].bytes);
    }
    if (actions->copy_reset & 1) {
        session->reset_due = true;
        session_over(session);
    }
}

static inline bool flight_step(int which, int self, struct flight *flight)
{
    struct session *session = &world.session[which][self];
    int there = which + PRIMARIES;
    if (flight->delivered) {
        if (!flight->answered || flight->left)
            return false;
        uint64_t number = flight->action.number;
        bool good = flight->good;
        flight_over(flight);
        array_on_copy_answered(pair.side[self].array, pair.now_us, 0, number, good);
        return true;
    }
    if (array_of(there, session->at) == NULL)
        return false;
    flight->delivered = true;
    flight->at = session->at;
    uint64_t handle =
        (uint64_t)(which * PAIR + self) * FLIGHTS + (uint64_t)(flight - session->flight);
    array_on_copy_message(array_of(there, flight->at), pair_worlds[there].now_us, handle, 0,
                          flight->bytes, flight->action.length_bytes);
    return true;
}

static inline bool session_step(int which, int self)
{
    struct session *session = &world.session[which][self];
    struct array *array = pair.side[self].array;
    struct copy_state state;
    bool more = false;
    int at = holder(which + PRIMARIES, &state);
    if (session->up && pair.now_us >= session->asked_us + POLL_US) {
        session->asked_us = pair.now_us;
        if (at == session->at)
            array_on_copy_state(array, pair.now_us, 0, &state);
        else
            session->down_due = true;
    }
    if (session->reset_due || session->down_due) {
        if (session->up)
            array_on_copy_down(array, pair.now_us, 0);
        session_over(session);
        session->up = session->reset_due = session->down_due = false;
        more = true;
    } else if (!session->up && at >= 0) {
        session->up = more = true;
        session->at = at;
        session->asked_us = pair.now_us;
        array_on_copy_up(array, pair.now_us, 0, &state);
    }
    for (int i = 0; i < FLIGHTS && !session->reset_due; i++) {
        if (session->flight[i].used)
            more |= flight_step(which, self, &session->flight[i]);
    }
    return more;
}

static inline void take_replies(int which, int self, const struct actions *actions)
{
    for (uint32_t i = 0; i < actions->copy_reply_count; i++) {
        uint64_t handle = actions->copy_replies[i].handle;
        struct session *session = &world.session[which - PRIMARIES][handle / FLIGHTS % PAIR];
        struct flight *flight = &session->flight[handle % FLIGHTS];
        assert_true(flight->used && flight->delivered && !flight->answered);
        assert_int_equal(flight->at, self);
        flight->answered = true;
        flight->good = actions->copy_replies[i].good;
        if (flight->left)
            flight_over(flight);
    }
}

/* ---- what is said about cuts ---- */

static inline void line_over(struct line *line)
{
    for (int i = 0; i < CALLS; i++) {
        struct call *call = &line->call[i];
        call->left = true;
        if (call->used && (!call->delivered || call->answered))
            call->used = false;
    }
    line->up = line->down_due = false;
}

static inline void take_calls(int self, const struct actions *actions)
{
    for (uint32_t i = 0; i < actions->cut_count; i++) {
        struct line *line = &world.line[self];
        int at = 0;
        assert_true(line->up);
        assert_int_equal(actions->cuts[i].member, 1);
        while (line->call[at].used)
            assert_true(++at < CALLS);
        line->call[at] = (struct call){.used = true, .action = actions->cuts[i]};
        memcpy(line->call[at].bytes, actions->cuts[i].bytes, CUT_MESSAGE_SIZE);
    }
}

static inline void take_cut_replies(int self, const struct actions *actions)
{
    for (uint32_t i = 0; i < actions->cut_reply_count; i++) {
        uint64_t handle = actions->cut_replies[i].handle;
        struct call *call = &world.line[handle / CALLS].call[handle % CALLS];
        assert_true(call->used && call->delivered && !call->answered);
        assert_int_equal(call->at, self);
        call->answered = true;
        call->good = actions->cut_replies[i].good;
        if (call->left)
            call->used = false;
    }
}

/* One step of what is said. True: it is lost, because something else happens now. */
static inline bool struck(void)
{
    if (++world.steps != world.strike_at)
        return false;
    world.strike_due = world.hold_calls = true;
    return true;
}

static inline bool call_step(int self, struct call *call)
{
    struct line *line = &world.line[self];
    if (call->delivered && (!call->answered || call->left))
        return false;
    if (struck())
        return true;
    struct array *array = pair.side[self].array;
    if (call->delivered) {
        struct cut_state state;
        call->used = false;
        if (call->good && call->action.state_wanted) {
            array_cut_state(array_of(1, call->at), 0, &state);
            array_on_cut_state(array, pair.now_us, 0, 1, &state);
        }
        array_on_cut_answered(array, pair.now_us, 0, 1, call->action.number, call->good);
        return true;
    }
    call->delivered = true;
    call->at = line->at;
    uint64_t handle = (uint64_t)self * CALLS + (uint64_t)(call - line->call);
    array_on_cut_message(array_of(1, call->at), pair_worlds[1].now_us, handle, 0, call->bytes,
                         CUT_MESSAGE_SIZE);
    return true;
}

static inline bool line_step(int self)
{
    struct line *line = &world.line[self];
    struct array *array = pair.side[self].array;
    struct cut_state state;
    int at = leader_of(1);
    bool more = false;
    if (at >= 0)
        array_cut_state(array_of(1, at), 0, &state);
    if (line->up && (line->down_due || at != line->at)) {
        line_over(line);
        array_on_cut_down(array, pair.now_us, 0, 1);
        return true;
    }
    if (!line->up && at >= 0 && !world.hold_calls) {
        line->up = true;
        line->at = at;
        line->asked_us = pair.now_us;
        array_on_cut_up(array, pair.now_us, 0, 1, &state);
        return true;
    }
    if (line->up && pair.now_us >= line->asked_us + POLL_US && !world.hold_calls) {
        line->asked_us = pair.now_us;
        array_on_cut_state(array, pair.now_us, 0, 1, &state);
    }
    for (int i = 0; i < CALLS && !world.hold_calls; i++) {
        if (line->call[i].used)
            more |= call_step(self, &line->call[i]);
    }
    return more;
}

/* ---- controllers ---- */

static inline void take_all(int self, const struct actions *actions)
{
    int which = (int)(pair_used - pair_worlds);
    for (uint32_t i = 0; i < actions->log_count; i++)
        TELL("%llu %d%c: %s\n", (unsigned long long)pair.now_us, which, 'a' + self,
             actions->log[i].text);
    for (uint32_t i = 0; i < actions->operator_count; i++)
        TELL("%d%c: %s\n", which, 'a' + self, actions->operators[i].text);
    if (which < PRIMARIES)
        take_batches(which, self, actions);
    else
        take_replies(which, self, actions);
    if (which == 0)
        take_calls(self, actions);
    if (which == 1)
        take_cut_replies(self, actions);
}

static inline bool step_all(int self)
{
    int which = (int)(pair_used - pair_worlds);
    array_set_wall(pair.side[self].array, pair.now_us + 1000000);
    if (which >= PRIMARIES)
        return false;
    bool more = session_step(which, self);
    if (which == 0)
        more |= line_step(self);
    return more;
}

/* The controller of a primary array ends, with its sessions; what it had been told is never
 * answered. */
static inline void lose(int which, int self)
{
    struct side *side = &pair_worlds[which].side[self], *peer = &pair_worlds[which].side[self ^ 1];
    side->dead = true;
    side->op_count = 0;
    peer->down_due = true;
    array_on_peer_gone(peer->array, pair_worlds[which].now_us, 0);
    if (which < PRIMARIES) {
        struct session *session = &world.session[which][self];
        session_over(session);
        session->up = session->reset_due = session->down_due = false;
    }
    if (which == 0)
        line_over(&world.line[self]);
    for (int half = A; half < PAIR && which == 1; half++) {
        for (int i = 0; i < CALLS; i++) {
            struct call *call = &world.line[half].call[i];
            if (call->used && call->delivered && !call->answered && call->at == self)
                call->used = false;
        }
        if (world.line[half].up && world.line[half].at == self)
            world.line[half].down_due = true;
    }
}

static inline void lose_array(int which)
{
    world.lost[which] = true;
    for (int self = A; self < PAIR; self++) {
        if (array_of(which, self) != NULL)
            lose(which, self);
    }
}

/* ---- the host ---- */

static inline int array_at(uint64_t number)
{
    return (int)(number % PRIMARIES);
}

static inline uint64_t page_at(uint64_t number)
{
    return number / (PRIMARIES * COPIED) % PLACES;
}

static inline int volume_at(uint64_t number)
{
    return (int)(number / PRIMARIES % COPIED);
}

static inline void host_write(int self, uint64_t number)
{
    uint32_t handle = 1 + (uint32_t)(number % 64);
    struct seen *seen = &pair.seen[handle];
    uint8_t *data = seen->data == NULL ? malloc(PAGE) : seen->data;
    for (uint32_t at = 0; at < PAGE; at += 8)
        put_u64(data + at, number);
    *seen = (struct seen){.data = data};
    const struct host_request request = {.handle = handle,
                                         .op = HOST_WRITE,
                                         .volume = copied[volume_at(number)],
                                         .flags = HOST_HERE,
                                         .offset_bytes = page_at(number) * PAGE,
                                         .length_bytes = PAGE,
                                         .data = data};
    struct host_outcome outcome = array_host(pair.side[self].array, pair.now_us, &request);
    seen->complete = outcome.complete;
    seen->result = outcome.result;
    pair.request_count = 66;
    world.handle = handle;
    world.asked_of = self;
    world.asked_us = pair.now_us;
}

/* The next write, when the one before is acknowledged; the same again when it was not. */
static inline void host_step(void)
{
    struct pair_world *used = pair_used;
    uint64_t next = world.written + 1;
    int which = array_at(next);
    if (world.lost[which] || world.host_rests)
        return;
    pair_use(which);
    if (world.handle != 0 && pair.seen[world.handle].complete) {
        bool good = pair.seen[world.handle].result == HOST_OK;
        world.handle = 0;
        world.written += good;
        if (good)
            world.slowest_us = max_u64(world.slowest_us, pair.now_us - world.asked_us);
    } else if (world.handle != 0 && array_of(which, world.asked_of) == NULL) {
        world.handle = 0;
    }
    for (int self = A; self < PAIR && world.handle == 0 && world.written + 1 == next; self++) {
        if (array_of(which, self) != NULL &&
            array_owner(array_of(which, self), copied[volume_at(next)]) == 1)
            host_write(self, next);
    }
    pair_used = used;
}

/* ---- what the second arrays show ---- */

static inline uint64_t shown_at(int which, int self, int volume, uint64_t page)
{
    const struct array *array = pair_worlds[which].side[self].array;
    const struct volume_config *config = &array->config.volumes[copied[volume]];
    const struct slot *slot = slot_find(&array->table, slot_key(copied[volume], page));
    if (slot != NULL && (slot->valid & 1))
        return get_u64(slot_frame(&array->table, slot));
    return get_u64(pair_worlds[which].store[config->store] + config->store_offset_bytes +
                   page * PAGE);
}

/* All of them together show a beginning of what the host wrote. Returns its last. */
static inline uint64_t look_at_the_chain(const int at[PRIMARIES])
{
    uint64_t value[CHAIN], last = 0;
    for (uint64_t place = 0; place < CHAIN; place++) {
        int which = array_at(place);
        value[place] = shown_at(which + PRIMARIES, at[which], volume_at(place), page_at(place));
        last = max_u64(last, value[place]);
    }
    for (uint64_t place = 0; place < CHAIN; place++) {
        uint64_t back = (last % CHAIN + CHAIN - place) % CHAIN;
        uint64_t wanted = back > last ? 0 : last - back;
        if (value[place] != wanted)
            fail_msg("write %llu shows, and so %llu has to; %llu is there",
                     (unsigned long long)last, (unsigned long long)wanted,
                     (unsigned long long)value[place]);
    }
    return last;
}

static inline void look_at_the_copies(void)
{
    int at[PRIMARIES];
    uint64_t cut[PRIMARIES], newest = 0;
    struct copy_state state;
    bool consistent = true;
    for (int m = 0; m < PRIMARIES; m++) {
        at[m] = holder(m + PRIMARIES, &state);
        if (at[m] < 0 || state.role == COPY_FAILED_OVER)
            return;
        const struct receiver *receiver = &inner(m + PRIMARIES, at[m])->second.receiver;
        cut[m] = receiver->promoted_cut;
        newest = max_u64(newest, cut[m]);
        consistent &= receiver->consistent;
    }
    if (!consistent || newest == 0)
        return;
    for (int m = 0; m < PRIMARIES; m++) {
        const struct receiver *receiver = &inner(m + PRIMARIES, at[m])->second.receiver;
        if (cut[m] != newest && world.cut_seen > 0 && receiver_find_cut(receiver, newest) == 0)
            fail_msg("one has promoted cut %llu, and the other does not hold it",
                     (unsigned long long)newest);
        if (cut[m] != newest)
            return;
    }
    if (newest == world.cut_seen)
        return;
    if (newest < world.cut_seen)
        fail_msg("cut numbers go back");
    world.cut_seen = newest;
    world.looks++;
    look_at_the_chain(at);
}

/* ---- all of it ---- */

/* Not until nothing happens any more: the host always goes on. */
static inline void settle_all(void)
{
    for (int i = 0; i < ROUNDS; i++) {
        bool more = false;
        for (int which = 0; which < PAIRS; which++) {
            for (int self = A; self < PAIR && !world.lost[which]; self++) {
                pair_use(which);
                more |= side_step(self);
                if (world.strike_due) {
                    world.strike_due = world.hold_calls = false;
                    world.strike();
                }
                host_step();
                look_at_the_copies();
            }
        }
        for (int which = 0; which < PAIRS; which++)
            pair_worlds[which].now_us += ROUND_US;
        if (!more)
            return;
    }
}

static inline void pass(uint32_t ms)
{
    for (uint32_t i = 0; i < ms; i++) {
        for (int which = 0; which < PAIRS; which++)
            pair_worlds[which].now_us += 500;
        settle_all();
    }
}

static inline void configure(int which)
{
    struct group_config *group = &pair.config.groups[0];
    pair_defaults();
    pair.config.trace = story_is_told();
    pair.config.slot_count = 384;
    pair.config.group_count = 1;
    for (uint32_t v = 0; v < VOLUMES; v++)
        pair.config.volumes[v].size_bytes = VOLUME_BYTES / 16; /* an initial copy takes no time */
    *group = (struct group_config){.name = "g",
                                   .id = "identity",
                                   .side = which < PRIMARIES ? GROUP_PRIMARY : GROUP_SECOND,
                                   .volume_count = COPIED,
                                   .volumes = {copied[0], copied[1]},
                                   .budget_pages = 48,
                                   .room_pages = which < PRIMARIES ? 0 : 140,
                                   .base_pages = 64,
                                   .shortest_us = 2000};
    if (which < PRIMARIES)
        group->set = (struct group_set){
            .member_count = PRIMARIES, .self = (uint8_t)which, .id = "set", .hold_ms = HOLD_MS};
    group->id[0] = (uint8_t)('a' + which % PRIMARIES);
    if (which >= PRIMARIES)
        pair.config.volumes[V_B].home = 0;
}

static inline void until_cuts(uint64_t looks)
{
    uint64_t wanted = world.looks + looks;
    for (int i = 0; i < 4000; i++) {
        if (world.looks >= wanted)
            return;
        pass(1);
    }
    fail_msg("no cuts are made");
}

static inline void create_all(void)
{
    memset(&world, 0, sizeof world);
    make_a_mistake();
    world.hold_calls = world.host_rests = true;
    uint64_t now_us = 0;
    for (int which = PAIRS - 1; which >= 0; which--) {
        pair_use(which);
        configure(which);
        pair.copies = take_all;
        pair.copy_step = NULL;
        pair_create();
        pair_up();
        pair.copy_step = step_all;
        now_us = max_u64(now_us, pair.now_us);
    }
    for (int which = 0; which < PAIRS; which++)
        pair_worlds[which].now_us = now_us;
    world.hold_calls = world.host_rests = false;
    until_cuts(3);
}

static inline void destroy_all(void)
{
    void *state = NULL;
    for (int which = 0; which < PAIRS; which++) {
        for (int self = A; self < PAIR && which < PRIMARIES; self++) {
            for (int i = 0; i < FLIGHTS; i++)
                flight_over(&world.session[which][self].flight[i]);
        }
        pair_use(which);
        pair_destroy(&state);
    }
    pair_use(0);
}

#endif
