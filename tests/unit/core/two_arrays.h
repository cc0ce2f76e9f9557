/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Two whole arrays: the pair whose volumes are copied, and the pair that receives them, each with
 * its stores, its register and its own link. Between them a session for each controller of the
 * first, which a test may hold or break. */

#ifndef TESTS_TWO_ARRAYS_H
#define TESTS_TWO_ARRAYS_H

#include "arrays.h"

enum { HERE = 0, THERE = 1, ROOM = 150 };

static struct between {
    struct session session[PAIR];
    bool hold_batches, hold_sessions, hold_answers;
    void (*promoted)(void); /* looks at what is to be seen there now */
    uint64_t promoted_seen;
    uint32_t promotions, consistent;
} between;

static inline struct array *there(int self)
{
    return array_of(THERE, self);
}

/* ---- the first array's side ---- */

static inline void here_take(int self, const struct actions *actions)
{
    tell(actions, HERE, self);
    session_take(&between.session[self], actions);
}

static inline bool flight_step(int self, struct flight *flight)
{
    struct session *session = &between.session[self];
    if (flight->delivered)
        return flight_returns_now(session, flight, self, between.hold_answers);
    if (flight_has_changed(session, flight))
        return true;
    if (there(session->at) == NULL || between.hold_batches)
        return false;
    uint64_t handle = (uint64_t)self * FLIGHTS + (uint64_t)(flight - session->flight);
    flight_arrives(session, flight, THERE, handle);
    return true;
}

static inline bool here_up(int self)
{
    struct copy_state state;
    int at = between.hold_sessions ? -1 : holder(THERE, &state);
    if (at >= 0)
        session_begins(&between.session[self], self, at, &state);
    return at >= 0;
}

static inline bool here_step(int self)
{
    struct session *session = &between.session[self];
    struct copy_state state;
    bool more = false;
    array_set_wall(pair.side[self].array, pair.now_us + 1000000);
    if (session->up && !holds(THERE, session->at, &state))
        session->down_due = true;
    if (session->reset_due || session->down_due) {
        session_ends(session, self);
        more = true;
    } else if (!session->up) {
        more = here_up(self);
    }
    for (int i = 0; i < FLIGHTS && !session->reset_due; i++) {
        if (session->flight[i].used)
            more |= flight_step(self, &session->flight[i]);
    }
    return more;
}

/* ---- the second array's side ---- */

static inline void there_take(int self, const struct actions *actions)
{
    tell(actions, THERE, self);
    for (uint32_t i = 0; i < actions->copy_reply_count; i++) {
        uint64_t handle = actions->copy_replies[i].handle;
        flight_answered(&between.session[handle / FLIGHTS].flight[handle % FLIGHTS], self,
                        actions->copy_replies[i].good);
    }
}

/* The controller there has ended: what it had is never answered. */
static inline void there_lost(int self)
{
    for (int half = A; half < PAIR; half++)
        session_lost_there(&between.session[half], self);
}

/* The controller that would show the volume now, if its site had to take over. */
static inline int shower(void)
{
    struct copy_state state;
    return holder(THERE, &state);
}

static inline const struct group *group_there(int self)
{
    return &there(self)->copy.groups[0];
}

static inline void peek(int self, int volume, uint64_t page, uint8_t into[PAGE])
{
    peek_at(THERE, self, volume, page, into);
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
    bool more = pair.side[self].stopped ? false : side_step(self);
    pair_use(HERE);
    look_there();
    look_at_the_mirror_there();
    return more;
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
        struct group_config *group =
            configure_group(which == HERE ? GROUP_PRIMARY : GROUP_SECOND, slots, budget);
        group->expose = which == THERE;
        group->room_pages = which == THERE ? room : 0;
        pair.copies = which == HERE ? here_take : there_take;
        pair.copy_step = which == HERE ? here_step : NULL;
        pair_create();
    }
    between.hold_sessions = true;
    up_there();
    pair_up();
    between.hold_sessions = false;
    set_clocks_alike();
}

static inline void destroy_both(void)
{
    void *state = NULL;
    for (int half = A; half < PAIR; half++)
        session_free(&between.session[half]);
    for (int which = THERE; which >= HERE; which--) {
        pair_use(which);
        pair_destroy(&state);
    }
}

#endif
