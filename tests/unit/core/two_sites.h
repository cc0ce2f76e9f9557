/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Two whole arrays whose roles change: each controller of either keeps a session to the other array
 * while its group's role says so, and asks for the state there now and then. A test may cut the
 * sites from each other. What is looked at after every step: no era has hosts at two sites. */

#ifndef TESTS_TWO_SITES_H
#define TESTS_TWO_SITES_H

#include "array/internal.h"
#include "copy_common.h"

enum { STRAY = 1 << 30 };
enum { ONE = 0, TWO = 1, FLIGHTS = 4 * COPY_WINDOW, ROOM = 150, POLL_US = 50 * 1000 };

struct flight {
    bool used, left, delivered, answered, good;
    int at;
    struct copy_action action;
    uint8_t *bytes;
};

struct session {
    bool up, reset_due, down_due;
    int at; /* which controller of the other array */
    uint64_t asked_us;
    struct flight flight[FLIGHTS];
};

static struct between {
    struct session session[PAIRS][PAIR];
    bool cut; /* nothing goes between the sites */
    bool hold_batches;
    void (*look)(void); /* after every step */
    int stray;          /* the answer to a batch that a test made: -1 none yet */
    uint32_t batches[PAIRS], refused[PAIRS];
} between;

static inline int used_site(void)
{
    return (int)(pair_used - pair_worlds);
}

static inline struct side *side_of(int site, int self)
{
    return &pair_worlds[site].side[self];
}

static inline struct array *array_of(int site, int self)
{
    struct side *side = side_of(site, self);
    return side->dead || side->stopped ? NULL : side->array;
}

static inline struct group *inner(int site, int self)
{
    return &side_of(site, self)->array->copy.groups[0];
}

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

static inline bool holds(int site, int self, struct copy_state *state)
{
    if (array_of(site, self) == NULL || between.cut)
        return false;
    array_copy_state(array_of(site, self), 0, state);
    uint8_t bytes[COPY_STATE_SIZE]; /* as it travels */
    record_put_state(bytes, state);
    assert_null(record_get_state(bytes, sizeof bytes, state));
    array_on_copy_heard(array_of(site, self), pair_worlds[site].now_us, 0);
    return (state->flags & COPY_STATE_HERE) != 0;
}

static inline void flatten(const struct copy_action *action, uint8_t *bytes)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < action->iov_count; at += (uint32_t)action->iov[i++].iov_len)
        memcpy(bytes + at, action->iov[i].iov_base, action->iov[i].iov_len);
    assert_int_equal(at, action->length_bytes);
}

static inline void take_replies(int site, int self, const struct actions *actions)
{
    for (uint32_t i = 0; i < actions->copy_reply_count; i++) {
        uint64_t handle = actions->copy_replies[i].handle;
        if (handle == STRAY) {
            between.stray = actions->copy_replies[i].good;
            continue;
        }
        struct flight *flight =
            &between.session[site ^ 1][handle / FLIGHTS].flight[handle % FLIGHTS];
        assert_true(flight->used && flight->delivered && !flight->answered);
        assert_int_equal(flight->at, self);
        flight->answered = true;
        flight->good = actions->copy_replies[i].good;
        if (flight->left)
            flight_over(flight);
    }
}

static inline void site_take(int self, const struct actions *actions)
{
    int site = used_site();
    struct session *session = &between.session[site][self];
    for (uint32_t i = 0; i < actions->log_count; i++)
        TELL("%llu %d%c: %s\n", (unsigned long long)pair.now_us, site + 1, 'a' + self,
             actions->log[i].text);
    for (uint32_t i = 0; i < actions->operator_count; i++)
        TELL("%llu %d%c: answer %d: %s\n", (unsigned long long)pair.now_us, site + 1, 'a' + self,
             actions->operators[i].done, actions->operators[i].text);
    take_replies(site, self, actions);
    for (uint32_t i = 0; i < actions->copy_count; i++) {
        const struct copy_action *action = &actions->copies[i];
        int at = 0;
        assert_true(session->up);
        while (session->flight[at].used)
            assert_true(++at < FLIGHTS);
        session->flight[at] =
            (struct flight){.used = true, .action = *action, .bytes = malloc(action->length_bytes)};
        flatten(action, session->flight[at].bytes);
        between.batches[site]++;
    }
    if (!(actions->copy_reset & 1))
        return;
    session->reset_due = true;
    session_over(session);
}

static inline bool flight_step(int site, int self, struct flight *flight)
{
    struct session *session = &between.session[site][self];
    struct array *there = array_of(site ^ 1, session->at);
    if (flight->delivered) {
        if (!flight->answered || flight->left)
            return false;
        uint64_t number = flight->action.number;
        bool good = flight->good;
        flight_over(flight);
        between.refused[site] += !good;
        array_on_copy_answered(pair.side[self].array, pair.now_us, 0, number, good);
        return true;
    }
    if (there == NULL || between.cut || between.hold_batches)
        return false;
    flight->delivered = true;
    flight->at = session->at;
    uint64_t handle = (uint64_t)self * FLIGHTS + (uint64_t)(flight - session->flight);
    array_on_copy_message(there, pair_worlds[site ^ 1].now_us, handle, 0, flight->bytes,
                          flight->action.length_bytes);
    return true;
}

static inline bool log_in(int site, int self)
{
    struct session *session = &between.session[site][self];
    struct copy_state state;
    for (int at = A; at < PAIR; at++) {
        if (!holds(site ^ 1, at, &state))
            continue;
        session->up = true;
        session->at = at;
        session->asked_us = pair.now_us;
        array_on_copy_up(pair.side[self].array, pair.now_us, 0, &state);
        return true;
    }
    return false;
}

static inline bool site_step(int self)
{
    int site = used_site();
    struct session *session = &between.session[site][self];
    struct array *array = pair.side[self].array;
    bool wanted = array_group_role(array, 0) != GROUP_ROLE_RECEIVING && !pair.side[self].stopped;
    struct copy_state state;
    bool more = false;
    array_set_wall(array, pair.now_us + 1000000);
    if (session->up && pair.now_us >= session->asked_us + POLL_US) {
        session->asked_us = pair.now_us;
        if (holds(site ^ 1, session->at, &state))
            array_on_copy_state(array, pair.now_us, 0, &state);
        else
            session->down_due = true;
    }
    if (session->reset_due || session->down_due || (session->up && !wanted)) {
        if (session->up)
            array_on_copy_down(array, pair.now_us, 0);
        session_over(session);
        more = true;
        session->up = session->reset_due = session->down_due = false;
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

/* What a host would read at that controller: the cache over the store, and zeros where the store
 * has yet to forget. */
static inline void peek_at(int site, int self, int volume, uint64_t page, uint8_t into[PAGE])
{
    const struct array *array = side_of(site, self)->array;
    const struct volume_config *config = &array->config.volumes[copied[volume]];
    const struct second_zeroes *zero = &inner(site, self)->second.zero;
    uint64_t at = page * PAGE;
    uint64_t size = config->size_bytes - at < PAGE ? config->size_bytes - at : PAGE;
    memset(into, 0, PAGE);
    memcpy(into, pair_worlds[site].store[config->store] + config->store_offset_bytes + at, size);
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

/* The controller's process has ended: so have its sessions, and what it had of others' is never
 * answered. */
static inline void sessions_lost(int site, int self)
{
    struct session *own = &between.session[site][self];
    session_over(own);
    own->up = own->reset_due = own->down_due = false;
    for (int other = A; other < PAIR; other++) {
        struct session *session = &between.session[site ^ 1][other];
        for (int i = 0; i < FLIGHTS; i++) {
            struct flight *flight = &session->flight[i];
            if (flight->used && flight->delivered && !flight->answered && flight->at == self)
                flight_over(flight);
        }
        if (session->up && session->at == self)
            session->down_due = true;
    }
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

static inline void pass_time(uint64_t us)
{
    pair_worlds[ONE].now_us += us;
    pair_worlds[TWO].now_us += us;
}

static inline void settle_both(void)
{
    int used = used_site();
    for (int i = 0; i < 4000; i++) {
        bool more = false;
        for (int self = A; self < PAIR; self++) {
            more |= array_step(ONE, self);
            more |= array_step(TWO, self);
        }
        pass_time(1);
        if (more)
            continue;
        pair_use(used);
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

static inline void configure_site(int site, uint32_t slots, uint32_t budget)
{
    struct group_config *group = &pair.config.groups[0];
    pair_defaults();
    pair.config.trace = story_is_told();
    pair.config.slot_count = slots;
    pair.config.group_count = 1;
    *group = (struct group_config){.name = "g",
                                   .id = "identity",
                                   .side = site == ONE ? GROUP_PRIMARY : GROUP_SECOND,
                                   .volume_count = COPIED,
                                   .volumes = {copied[0], copied[1]},
                                   .budget_pages = budget,
                                   .room_pages = ROOM,
                                   .base_pages = 64,
                                   .shortest_us = 2000};
    if (site == TWO)
        pair.config.volumes[V_B].home = 0;
    pair.copies = site_take;
    pair.copy_step = site_step;
}

static inline void create_sites(uint32_t slots, uint32_t budget)
{
    memset(&between, 0, sizeof between);
    make_a_mistake();
    between.cut = true;
    for (int site = ONE; site < PAIRS; site++) {
        pair_use(site);
        configure_site(site, slots, budget);
        pair_create();
        pair_up();
    }
    between.cut = false;
    uint64_t now_us = pair_worlds[ONE].now_us > pair_worlds[TWO].now_us ? pair_worlds[ONE].now_us
                                                                        : pair_worlds[TWO].now_us;
    pair_worlds[ONE].now_us = pair_worlds[TWO].now_us = now_us;
    pair_use(ONE);
}

static inline void destroy_sites(void)
{
    void *state = NULL;
    for (int site = ONE; site < PAIRS; site++) {
        for (int self = A; self < PAIR; self++) {
            for (int i = 0; i < FLIGHTS; i++)
                flight_over(&between.session[site][self].flight[i]);
        }
        pair_use(site);
        pair_destroy(&state);
    }
    pair_use(ONE);
}

#endif
