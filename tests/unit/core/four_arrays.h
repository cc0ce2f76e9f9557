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
#include "arrays.h"

enum {
    POLL_US = 20 * 1000,
    HOLD_MS = 20,
    CALLS = 2 * CUT_WINDOW,
    ROUNDS = 50, /* of all controllers, in a millisecond that is busy */
    ROUND_US = 10,
    PRIMARIES = 2,
    PLACES = 32, /* pages of each volume that the host writes */
    CHAIN = PRIMARIES * COPIED * PLACES,
};

struct call {
    bool used, left, delivered, answered, good;
    int at;
    struct cut_action action;
    uint8_t bytes[CUT_MESSAGE_SIZE];
    uint64_t said_us;
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
    uint64_t way_us;           /* of a message to the other primary */
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

static inline bool flight_step(int which, int self, struct flight *flight)
{
    struct session *session = &world.session[which][self];
    int there = which + PRIMARIES;
    if (flight->delivered)
        return flight_returns_now(session, flight, self, false);
    if (flight_has_changed(session, flight))
        return true;
    if (array_of(there, session->at) == NULL)
        return false;
    uint64_t handle =
        (uint64_t)(which * PAIR + self) * FLIGHTS + (uint64_t)(flight - session->flight);
    flight_arrives(session, flight, there, handle);
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
        session_ends(session, self);
        more = true;
    } else if (!session->up && at >= 0) {
        session_begins(session, self, at, &state);
        more = true;
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
        flight_answered(&session->flight[handle % FLIGHTS], self, actions->copy_replies[i].good);
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
        line->call[at] =
            (struct call){.used = true, .action = actions->cuts[i], .said_us = pair.now_us};
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
    if (!call->delivered && pair.now_us < call->said_us + world.way_us)
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
    int which = array_used();
    tell(actions, which, self);
    if (which < PRIMARIES)
        session_take(&world.session[which][self], actions);
    else
        take_replies(which, self, actions);
    if (which == 0)
        take_calls(self, actions);
    if (which == 1)
        take_cut_replies(self, actions);
}

static inline bool step_all(int self)
{
    int which = array_used();
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
    side_dies(which, self);
    if (which < PRIMARIES)
        session_lost(&world.session[which][self]);
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

static inline bool array_step(int which, int self)
{
    pair_use(which);
    bool more = world.lost[which] ? false : side_step(self);
    if (world.strike_due) {
        world.strike_due = world.hold_calls = false;
        world.strike();
    }
    host_step();
    look_at_the_copies();
    return more;
}

/* Not until nothing happens any more: the host always goes on. */
static inline void settle_all(void)
{
    for (int i = 0; i < ROUNDS; i++) {
        bool more = false;
        for (int which = 0; which < PAIRS; which++) {
            for (int self = A; self < PAIR && !world.lost[which]; self++)
                more |= array_step(which, self);
        }
        pass_time(ROUND_US);
        if (!more)
            return;
    }
}

static inline void pass(uint32_t ms)
{
    for (uint32_t i = 0; i < ms; i++) {
        pass_time(500);
        settle_all();
    }
}

static inline void configure(int which)
{
    bool primary = which < PRIMARIES;
    struct group_config *group = configure_group(primary ? GROUP_PRIMARY : GROUP_SECOND, 384, 48);
    for (uint32_t v = 0; v < VOLUMES; v++)
        pair.config.volumes[v].size_bytes = VOLUME_BYTES / 16; /* an initial copy takes no time */
    group->room_pages = primary ? 0 : 140;
    if (primary)
        group->set = (struct group_set){
            .member_count = PRIMARIES, .self = (uint8_t)which, .id = "set", .hold_ms = HOLD_MS};
    group->id[0] = (uint8_t)('a' + which % PRIMARIES);
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
    for (int which = PAIRS - 1; which >= 0; which--) {
        pair_use(which);
        configure(which);
        pair.copies = take_all;
        pair.copy_step = NULL;
        pair_create();
        pair_up();
        pair.copy_step = step_all;
    }
    set_clocks_alike();
    world.hold_calls = world.host_rests = false;
    until_cuts(3);
}

static inline void destroy_all(void)
{
    void *state = NULL;
    for (int which = 0; which < PAIRS; which++) {
        for (int self = A; self < PAIR && which < PRIMARIES; self++)
            session_free(&world.session[which][self]);
        pair_use(which);
        pair_destroy(&state);
    }
    pair_use(0);
}

#endif
