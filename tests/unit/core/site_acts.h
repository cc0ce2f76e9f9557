/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What the tests of two sites do, and wait for: hosts that read and write at a controller, deaths,
 * starts and stops, an operator's word. Nothing here judges more than that it came to an end. */

#ifndef TESTS_SITE_ACTS_H
#define TESTS_SITE_ACTS_H

#include "two_sites.h"

static inline int set_up(void **state)
{
    (void)state;
    create_sites(512, 60);
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    destroy_sites();
    return 0;
}

/* From the second round on the sites of a test's rounds are made anew. */
static inline void begin_round(void **state, int round)
{
    if (round == 0)
        return;
    tear_down(state);
    set_up(state);
}

static inline const struct site *site_of(int site, int self)
{
    return &inner(site, self)->site;
}

static inline void until_consistent(int site)
{
    for (int i = 0; i < 1500; i++) {
        pass_both_ms(10);
        for (int self = A; self < PAIR; self++) {
            const struct receiver *receiver = &inner(site, self)->second.receiver;
            if (array_of(site, self) != NULL && site_of(site, self)->now.role == SITE_RECEIVING &&
                receiver->consistent && receiver->held_count == 0)
                return;
        }
    }
    fail_msg("never consistent: %s", inner(site ^ 1, A)->reason);
}

static inline uint32_t write_at(int site, int self, uint8_t volume, uint64_t page, uint64_t pages,
                                uint8_t fill)
{
    pair_use(site);
    uint32_t handle = ask_write(self, volume, page * PAGE, pages * PAGE, fill);
    settle_both();
    enum host_result result = pair.seen[handle].result;
    assert_true(pair.seen[handle].complete);
    pair_use(ONE);
    return result;
}

static inline enum host_result read_at(int site, int self, uint8_t volume, uint64_t page,
                                       uint8_t *fill)
{
    pair_use(site);
    uint32_t handle = ask_read(self, volume, page * PAGE, PAGE);
    settle_both();
    assert_true(pair.seen[handle].complete);
    enum host_result result = pair.seen[handle].result;
    *fill = pair.seen[handle].data[0];
    if (result == HOST_OK)
        assert_bytes(pair.seen[handle].data, PAGE, *fill);
    pair_use(ONE);
    return result;
}

static inline int owner_at(int site, uint8_t volume)
{
    for (int self = A; self < PAIR; self++) {
        if (array_of(site, self) != NULL && array_owner(array_of(site, self), volume) == 1)
            return self;
    }
    fail_msg("nobody owns it");
    return A;
}

static inline void assert_page(int site, uint8_t volume, uint64_t page, uint8_t fill)
{
    uint8_t seen;
    assert_int_equal(read_at(site, owner_at(site, volume), volume, page, &seen), HOST_OK);
    assert_int_equal(seen, fill);
}

static inline void kill_at(int site, int self)
{
    side_dies(site, self);
    sessions_lost(site, self);
    settle_both();
}

static inline bool paired_at(int site)
{
    pair_use(site);
    bool paired = !pair.side[A].dead && !pair.side[B].dead && status_of(A)->role == ROLE_PAIRED &&
                  status_of(B)->role == ROLE_PAIRED;
    pair_use(ONE);
    return paired;
}

static inline void start_at(int site, int self)
{
    pair_use(site);
    sessions_lost(site, self);
    pair_create_side(self);
    pair.side[self].up_due = true;
    pair.side[self ^ 1].up_due = pair.side[self ^ 1].down_due = true;
    pair_use(ONE);
    settle_both();
}

static inline void until_paired(int site)
{
    for (int i = 0; i < 1000; i++) {
        pass_both_ms(10);
        if (paired_at(site))
            return;
    }
    fail_msg("never paired");
}

static inline void return_at(int site, int self)
{
    start_at(site, self);
    until_paired(site);
}

static inline void ask_stop(int site, int self)
{
    array_operator_stop(array_of(site, self), pair_worlds[site].now_us);
}

static inline void until_stopped(int site, int self)
{
    for (int i = 0; i < 1000 && !side_of(site, self)->stopped; i++)
        pass_both_ms(10);
    assert_true(side_of(site, self)->stopped);
    side_of(site, self)->dead = true;
    sessions_lost(site, self);
}

/* Asks for it, and lets it happen; whether it was done. */
static inline bool operate(int site, int self, enum group_action action, bool force)
{
    struct side *side = side_of(site, self);
    uint32_t done = side->operator_done, refused = side->operator_refused;
    array_operator_group(side->array, pair_worlds[site].now_us, 1, 0, action, force);
    for (int i = 0; i < 300; i++) {
        settle_both();
        if (side->operator_done > done)
            return true;
        if (side->operator_refused > refused)
            return false;
        pass_both_ms(10);
    }
    fail_msg("no answer");
    return false;
}

static inline void silence_of_the_primary(void)
{
    between.cut = true;
    pass_both_ms(5100);
}

/* A page at the first site that the second one does not get: nothing else differs. */
static inline void write_while_cut(uint64_t page, uint8_t fill)
{
    until_consistent(TWO);
    pass_both_ms(300); /* until the primary has heard of the last promotion */
    silence_of_the_primary();
    assert_int_equal(write_at(ONE, A, V_A, page, 1, fill), HOST_OK);
}

static inline bool operate_there(enum group_action action, bool force)
{
    return operate(TWO, owner_at(TWO, V_A), action, force);
}

static inline void until_role(int site, enum site_role role)
{
    for (int i = 0; i < 500; i++) {
        pass_both_ms(10);
        if (site_of(site, A)->now.role == role && site_of(site, B)->now.role == role &&
            site_of(site, A)->settled && site_of(site, B)->settled)
            return;
    }
    fail_msg("the role is %d at a and %d at b", (int)site_of(site, A)->now.role,
             (int)site_of(site, B)->now.role);
}

static inline void assert_sites_are_equal(void)
{
    uint8_t fill[PAIRS];
    for (int v = 0; v < COPIED; v++) {
        for (uint64_t page = 0; page < 64; page++) {
            int site = site_of(ONE, owner_at(ONE, V_A))->open ? TWO : ONE;
            for (int self = A; self < PAIR; self++)
                side_of(site, self)->array->config.groups[0].expose = true;
            for (int at = ONE; at < PAIRS; at++)
                assert_int_equal(read_at(at, owner_at(at, copied[v]), copied[v], page, &fill[at]),
                                 HOST_OK);
            if (fill[ONE] != fill[TWO])
                fail_msg("volume %d page %llu: %02x and %02x", v, (unsigned long long)page,
                         fill[ONE], fill[TWO]);
        }
    }
}

/* Of marked regions, by both controllers. */
static inline uint64_t base_pages_at(int site)
{
    return inner(site, A)->base_pages_sent + inner(site, B)->base_pages_sent;
}

/* The peer is dead, and what it had is given up: it begins in doubt. */
static inline void begin_in_doubt_at(int site, int self, enum site_role role)
{
    start_at(site, self);
    array_operator_accept_loss(array_of(site, self), pair_worlds[site].now_us, 1, true);
    pass_both_ms(300);
    assert_true(site_of(site, self)->now.unknown);
    assert_int_equal(site_of(site, self)->now.role, role);
}

/* Both memories are gone, and the operator takes what is on the stores. */
static inline void lose_memory_at(int site)
{
    kill_at(site, B);
    kill_at(site, A);
    start_at(site, A);
    start_at(site, B);
    pass_both_ms(100);
    array_operator_accept_loss(array_of(site, A), pair_worlds[site].now_us, 1, true);
    until_paired(site);
}

/* As `holdfast stop` does it: the one, and when it has gone the other. */
static inline void stop_one_after_the_other(int site, int last)
{
    ask_stop(site, last ^ 1);
    until_stopped(site, last ^ 1);
    ask_stop(site, last);
    until_stopped(site, last);
}

static inline void stop_both(int site)
{
    ask_stop(site, A);
    ask_stop(site, B);
    until_stopped(site, A);
    until_stopped(site, B);
}

#endif
