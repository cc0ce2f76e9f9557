/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Two whole arrays whose roles change: each controller of either keeps a session to the other array
 * while its group's role says so, and asks for the state there now and then. A test may cut the
 * sites from each other. What is looked at after every step: no era has hosts at two sites. */

#ifndef TESTS_TWO_SITES_H
#define TESTS_TWO_SITES_H

#include "arrays.h"

enum { STRAY = 1 << 30 };
enum { ONE = 0, TWO = 1, ROOM = 150, POLL_US = 50 * 1000 };

static struct between {
    struct session session[PAIRS][PAIR];
    bool cut; /* nothing goes between the sites */
    bool hold_batches;
    bool hold_half[PAIR]; /* those of one controller of the first site */
    bool hold_states;     /* nobody asks for the other site's state */
    void (*look)(void);   /* after every step */
    int stray;            /* the answer to a batch that a test made: -1 none yet */
} between;

/* The controller is asked for its state, and is the one that holds the group. */
static inline bool answers(int site, int self, struct copy_state *state)
{
    if (array_of(site, self) == NULL || between.cut)
        return false;
    bool here = holds(site, self, state);
    array_on_copy_heard(array_of(site, self), pair_worlds[site].now_us, 0);
    return here;
}

static inline void take_replies(int site, int self, const struct actions *actions)
{
    for (uint32_t i = 0; i < actions->copy_reply_count; i++) {
        uint64_t handle = actions->copy_replies[i].handle;
        if (handle == STRAY) {
            between.stray = actions->copy_replies[i].good;
            continue;
        }
        struct session *session = &between.session[site ^ 1][handle / FLIGHTS];
        flight_answered(&session->flight[handle % FLIGHTS], self, actions->copy_replies[i].good);
    }
}

static inline void site_take(int self, const struct actions *actions)
{
    int site = array_used();
    tell(actions, site, self);
    take_replies(site, self, actions);
    session_take(&between.session[site][self], actions);
}

static inline bool flight_step(int site, int self, struct flight *flight)
{
    struct session *session = &between.session[site][self];
    if (flight->delivered)
        return flight_returns_now(session, flight, self, false);
    if (flight_has_changed(session, flight))
        return true;
    if (array_of(site ^ 1, session->at) == NULL || between.cut || between.hold_batches ||
        (site == ONE && between.hold_half[self]))
        return false;
    uint64_t handle = (uint64_t)self * FLIGHTS + (uint64_t)(flight - session->flight);
    flight_arrives(session, flight, site ^ 1, handle);
    return true;
}

static inline bool log_in(int site, int self)
{
    struct session *session = &between.session[site][self];
    struct copy_state state;
    for (int at = A; at < PAIR; at++) {
        if (!answers(site ^ 1, at, &state))
            continue;
        session_begins(session, self, at, &state);
        return true;
    }
    return false;
}

static inline bool site_step(int self)
{
    int site = array_used();
    struct session *session = &between.session[site][self];
    struct array *array = pair.side[self].array;
    bool wanted = array_group_role(array, 0) != GROUP_ROLE_RECEIVING && !pair.side[self].stopped;
    struct copy_state state;
    bool more = false;
    array_set_wall(array, pair.now_us + 1000000);
    if (session->up && !between.hold_states && pair.now_us >= session->asked_us + POLL_US) {
        session->asked_us = pair.now_us;
        if (answers(site ^ 1, session->at, &state))
            array_on_copy_state(array, pair.now_us, 0, &state);
        else
            session->down_due = true;
    }
    if (session->reset_due || session->down_due || (session->up && !wanted)) {
        session_ends(session, self);
        more = true;
    } else if (!session->up && wanted && pair.now_us >= session->asked_us + POLL_US) {
        session->asked_us = pair.now_us;
        more = log_in(site, self);
    }
    for (int i = 0; i < FLIGHTS && !session->reset_due; i++) {
        if (session->flight[i].used)
            more |= flight_step(site, self, &session->flight[i]);
    }
    return more;
}

/* The controller's process has ended: so have its sessions, and what it had of others' is never
 * answered. */
static inline void sessions_lost(int site, int self)
{
    session_lost(&between.session[site][self]);
    for (int other = A; other < PAIR; other++)
        session_lost_there(&between.session[site ^ 1][other], self);
}

/* Whether any controller of the site would carry out a host's write now; in which era. */
static inline bool site_is_open(int site, uint64_t *era)
{
    for (int self = A; self < PAIR; self++) {
        const struct array *array = array_of(site, self);
        if (array == NULL || !copy_serves(array) || !inner(site, self)->site.open)
            continue;
        *era = inner(site, self)->site.now.era;
        return true;
    }
    return false;
}

static inline void look_at_the_eras(void)
{
    uint64_t era[PAIRS];
    if (site_is_open(ONE, &era[ONE]) && site_is_open(TWO, &era[TWO]) && era[ONE] == era[TWO])
        fail_msg("hosts are served at both sites in era %llu", (unsigned long long)era[ONE]);
}

static inline bool array_step(int site, int self)
{
    pair_use(site);
    bool more = pair.side[self].stopped ? false : side_step(self);
    look_at_the_eras();
    if (between.look != NULL)
        between.look();
    return more;
}

static inline void create_sites(uint32_t slots, uint32_t budget)
{
    memset(&between, 0, sizeof between);
    make_a_mistake();
    between.cut = true;
    for (int site = ONE; site < PAIRS; site++) {
        pair_use(site);
        configure_group(site == ONE ? GROUP_PRIMARY : GROUP_SECOND, slots, budget)->room_pages =
            ROOM;
        pair.copies = site_take;
        pair.copy_step = site_step;
        pair_create();
        pair_up();
    }
    between.cut = false;
    set_clocks_alike();
    pair_use(ONE);
}

static inline void destroy_sites(void)
{
    void *state = NULL;
    for (int site = ONE; site < PAIRS; site++) {
        for (int self = A; self < PAIR; self++)
            session_free(&between.session[site][self]);
        pair_use(site);
        pair_destroy(&state);
    }
    pair_use(ONE);
}

#endif
