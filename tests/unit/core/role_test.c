/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Who may serve: every state with every event, every row of the first decision, and the arithmetic
 * of leases. The register here is a variable that each test answers for by hand. */

#include "role/role.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

enum { LEASE = 1000000, SETTLE = 100000, NOW = 10000000, ME = 101, PEER = 202, OTHER = 203 };

static struct role_machine role;

static const struct register_record clean_none = {0};
static uint64_t peer_epoch; /* what the peer's next hello says */

static void start(void)
{
    const struct role_config config = {
        .self = 0, .incarnation = ME, .lease_us = LEASE, .settle_us = SETTLE};
    role_init(&role, &config, NOW);
}

static int set_up(void **state)
{
    peer_epoch = 0;
    start();
    return 0;
}

/* The shell takes the operation and answers it. */
static void answer(enum register_result result, struct register_record record, uint64_t now)
{
    assert_true(role.register_busy);
    role.register_asked = true;
    role_on_register(&role, now, result, &record);
}

static bool a_read_is_out(void)
{
    return role.register_busy && (role.swap == SWAP_NONE || role.swap_unknown);
}

static void read_gives(struct register_record record, uint64_t now)
{
    role_tick(&role, now);
    assert_true(a_read_is_out());
    answer(REGISTER_OK, record, now);
}

static void hello(enum role peer, uint64_t incarnation, uint64_t now)
{
    struct role_peer said = {.known = true,
                             .serving_memory = role_has_memory(peer),
                             .fits = true,
                             .role = peer,
                             .incarnation = incarnation,
                             .epoch = peer_epoch};
    role_on_hello(&role, now, &said);
}

static void go_solo_at(uint64_t now)
{
    start();
    role.register_next_us = now;
    read_gives(clean_none, now);
    assert_int_equal(role.swap, SWAP_BEGIN);
    answer(REGISTER_OK, clean_none, now);
    assert_int_equal(role.state, ROLE_SOLO);
    assert_int_equal(role.epoch, 1);
}

/* The survivor of a former life, paired with PEER at epoch 2; it last answered and was last
 * answered at `now`. */
static void go_paired_at(uint64_t now)
{
    go_solo_at(now);
    hello(ROLE_WAITING, PEER, now);
    role.joiner = PEER;
    role_on_answer(&role, now);
    role_on_answering(&role, now);
    role_on_refilled(&role, now);
    assert_int_equal(role.swap, SWAP_PAIR);
    assert_int_equal(role.wanted.in, REGISTER_IN_BOTH);
    assert_true(role.wanted.unclean);
    assert_int_equal(role.wanted.epoch, 2);
    answer(REGISTER_OK, clean_none, now);
    assert_int_equal(role.state, ROLE_PAIRED);
    assert_int_equal(role.epoch, 2);
    role.orders = 0;
}

static void go_joining_at(uint64_t now)
{
    start();
    hello(ROLE_SOLO, PEER, now);
    role.register_next_us = now;
    read_gives((struct register_record){.epoch = 1, .in = REGISTER_IN_B, .unclean = true}, now);
    assert_int_equal(role.state, ROLE_WAITING);
    assert_true(role_on_start(&role, now));
    assert_int_equal(role.state, ROLE_JOINING);
}

static void go_racing_at(uint64_t now)
{
    go_paired_at(now - LEASE);
    role_tick(&role, now);
    assert_int_equal(role.state, ROLE_RACING);
}

static void go_fencing_at(uint64_t now)
{
    go_racing_at(now);
    answer(REGISTER_OK, clean_none, now);
    assert_int_equal(role.state, ROLE_FENCING);
}

static void go_offline_at(uint64_t now)
{
    start();
    role.register_next_us = now;
    read_gives((struct register_record){.epoch = 7, .in = REGISTER_IN_A, .unclean = true}, now);
    assert_int_equal(role.state, ROLE_OFFLINE);
}

static void go_waiting_at(uint64_t now)
{
    start();
    role.register_next_us = now;
    read_gives((struct register_record){.epoch = 7, .in = REGISTER_IN_B, .unclean = true}, now);
    assert_int_equal(role.state, ROLE_WAITING);
}

static void go_stopped_at(uint64_t now)
{
    go_offline_at(now);
    role_stop(&role, now, false);
}

static void go_starting_at(uint64_t now)
{
    start();
    role.register_next_us = now;
}

static void (*const go_to[ROLE_COUNT])(uint64_t) = {
    [ROLE_STARTING] = go_starting_at, [ROLE_WAITING] = go_waiting_at,
    [ROLE_JOINING] = go_joining_at,   [ROLE_OFFLINE] = go_offline_at,
    [ROLE_SOLO] = go_solo_at,         [ROLE_PAIRED] = go_paired_at,
    [ROLE_RACING] = go_racing_at,     [ROLE_FENCING] = go_fencing_at,
    [ROLE_STOPPED] = go_stopped_at,
};

/* ---- the first decision ---- */

enum outcome { BEGIN, LOST_ALONE, LOST_BOTH, WAIT_FOR_DATA, LOST_PEER, WAIT_TO_JOIN, OUTCOMES };

static enum outcome outcome_seen(void)
{
    if (role.swap == SWAP_BEGIN)
        return BEGIN;
    if (role.state == ROLE_OFFLINE)
        return strstr(role.reason, "this controller served alone") ? LOST_ALONE
               : strstr(role.reason, "both memories")              ? LOST_BOTH
                                                                   : LOST_PEER;
    assert_int_equal(role.state, ROLE_WAITING);
    return strstr(role.reason, "may hold the data") ? WAIT_FOR_DATA : WAIT_TO_JOIN;
}

enum peer_seen {
    UNKNOWN,
    EMPTY,
    SERVING,
    SERVED_BEFORE,
    PEERS
}; /* the last: in an epoch that is over */

/* The rule in words, once more. Nothing owed and the other is not in: begin. The other is in: only
 * when it is gone, and was the one that made the record. Owed: whoever held it decides. */
static enum outcome outcome_due(uint8_t in, bool unclean, bool gone, enum peer_seen peer)
{
    bool holder_gone = gone && peer == SERVING;
    if (!unclean)
        return in == REGISTER_IN_B && !holder_gone ? WAIT_TO_JOIN : BEGIN;
    switch (in) {
    case REGISTER_IN_A:
        return LOST_ALONE;
    case REGISTER_IN_BOTH:
        return (gone && peer != UNKNOWN) || peer == EMPTY ? LOST_BOTH : WAIT_FOR_DATA;
    default:
        return holder_gone ? LOST_PEER : WAIT_TO_JOIN;
    }
}

static void every_row_of_the_first_decision_meets_one_outcome(void **state)
{
    unsigned met[OUTCOMES] = {0};
    for (uint8_t in = 0; in <= REGISTER_IN_BOTH; in++) {
        for (int row = 0; row < 4; row++) {
            bool unclean = row & 1, gone = row & 2;
            for (enum peer_seen peer = UNKNOWN; peer < PEERS; peer++) {
                start();
                peer_epoch = peer == SERVED_BEFORE ? 3 : 4;
                if (peer != UNKNOWN)
                    hello(peer == EMPTY ? ROLE_WAITING : ROLE_SOLO, PEER, NOW);
                if (gone)
                    role_on_peer_gone(&role, NOW, PEER);
                read_gives((struct register_record){.epoch = 4, .in = in, .unclean = unclean}, NOW);
                enum outcome due = outcome_due(in, unclean, gone, peer);
                assert_int_equal(outcome_seen(), due);
                met[due]++;
                if (due != BEGIN) {
                    assert_false(role.register_busy);
                    continue;
                }
                assert_true(role.register_busy);
                assert_int_equal(role.wanted.epoch, 5);
                assert_int_equal(role.wanted.in, REGISTER_IN_A);
                assert_false(role.wanted.unclean);
                assert_int_equal(role.expected.epoch, 4);
                assert_int_equal(role.expected.in, in);
            }
        }
    }
    for (int i = 0; i < OUTCOMES; i++)
        assert_true(met[i] > 0);
}

static void a_new_start_of_the_peer_proves_its_former_one_gone_only(void **state)
{
    hello(ROLE_SOLO, PEER, NOW);
    hello(ROLE_STARTING, OTHER, NOW);
    assert_int_equal(role.gone_incarnation, PEER);
    /* The start that is there now is not the one that is gone. */
    read_gives((struct register_record){.epoch = 4, .in = REGISTER_IN_B, .unclean = true}, NOW);
    assert_int_equal(outcome_seen(), WAIT_TO_JOIN);
}

static void a_lost_begin_reads_again_and_a_won_one_serves(void **state)
{
    read_gives(clean_none, NOW);
    answer(REGISTER_CONFLICT, (struct register_record){.epoch = 1, .in = REGISTER_IN_B}, NOW);
    assert_int_equal(role.state, ROLE_STARTING);
    assert_false(role_may_serve(&role, NOW));
    read_gives((struct register_record){.epoch = 1, .in = REGISTER_IN_B}, NOW);
    assert_int_equal(role.state, ROLE_WAITING);
    go_solo_at(NOW);
    assert_int_equal(role.orders, ORDER_SERVE_FRESH | ORDER_RESUME);
    assert_true(role_may_serve(&role, NOW));
    assert_true(role_serve_until(&role) == UINT64_MAX);
}

static void while_out_the_register_is_read_twice_a_second(void **state)
{
    go_waiting_at(NOW);
    assert_true(role_deadline(&role) == NOW + 500000);
    role_tick(&role, NOW + 499999);
    assert_false(role.register_busy);
    role_tick(&role, NOW + 500000);
    assert_true(a_read_is_out());
    assert_true(role_deadline(&role) == UINT64_MAX); /* the answer wakes it */
    answer(REGISTER_UNKNOWN, clean_none, NOW + 600000);
    assert_string_equal(role.reason, "the register cannot be reached");
    assert_true(role_deadline(&role) == NOW + 700000);
}

/* ---- leases ---- */

static void a_paired_controller_serves_for_a_lease_from_when_it_sent(void **state)
{
    go_paired_at(NOW);
    assert_true(role_serve_until(&role) == NOW + LEASE);
    assert_true(role_may_serve(&role, NOW + LEASE - 1));
    assert_false(role_may_serve(&role, NOW + LEASE));
    role_on_answer(&role, NOW + 300000);
    assert_true(role_may_serve(&role, NOW + LEASE + 299999));
    assert_false(role_may_serve(&role, NOW + LEASE + 300000));
    role_on_answer(&role, NOW + 200000); /* an older message's answer shortens nothing */
    assert_true(role_serve_until(&role) == NOW + LEASE + 300000);
    assert_true(role_deadline(&role) == NOW + LEASE + 300000);
}

static void a_lease_that_runs_out_holds_hosts_and_asks_the_register(void **state)
{
    go_paired_at(NOW);
    role_tick(&role, NOW + LEASE - 1);
    assert_int_equal(role.state, ROLE_PAIRED);
    role_tick(&role, NOW + LEASE);
    assert_int_equal(role.state, ROLE_RACING);
    assert_int_equal(role.orders, ORDER_HOLD);
    assert_int_equal(role.swap, SWAP_TAKEOVER);
    assert_int_equal(role.expected.epoch, 2);
    assert_int_equal(role.expected.in, REGISTER_IN_BOTH);
    assert_int_equal(role.wanted.epoch, 3);
    assert_int_equal(role.wanted.in, REGISTER_IN_A);
    assert_true(role.wanted.unclean);
    assert_false(role_may_serve(&role, NOW + LEASE));
    role_on_answer(&role, NOW + LEASE); /* too late: nothing turns back */
    assert_int_equal(role.state, ROLE_RACING);
    assert_false(role_may_serve(&role, NOW + LEASE));
    assert_true(role_serve_until(&role) == 0);
}

static void the_winner_waits_until_every_answer_it_gave_has_run_out(void **state)
{
    go_paired_at(NOW);
    role_on_answering(&role, NOW + 700000);
    role_tick(&role, NOW + LEASE);
    answer(REGISTER_OK, clean_none, NOW + LEASE);
    assert_int_equal(role.state, ROLE_FENCING);
    assert_int_equal(role.orders, ORDER_HOLD | ORDER_FENCE_PEER);
    uint64_t end = NOW + 700000 + LEASE + LEASE / 8 + SETTLE;
    assert_true(role_deadline(&role) == end);
    role_tick(&role, end - 1);
    assert_int_equal(role.state, ROLE_FENCING);
    assert_false(role_may_serve(&role, end - 1));
    role_tick(&role, end);
    assert_int_equal(role.state, ROLE_SOLO);
    assert_true(role.orders & ORDER_ADOPT);
    assert_true(role.orders & ORDER_RESUME);
    assert_int_equal(role.epoch, 3);
    assert_int_equal(role.takeover_count, 1);
    assert_int_equal(role.takeover_last_us, end - (NOW + LEASE));
}

static void while_the_peers_parent_answers_its_proof_is_awaited_and_no_time(void **state)
{
    go_fencing_at(NOW);
    role_on_warden(&role, NOW, true);
    assert_true(role_deadline(&role) == UINT64_MAX);
    role_tick(&role, NOW + 100 * LEASE);
    assert_int_equal(role.state, ROLE_FENCING);
    role_on_peer_gone(&role, NOW + 100 * LEASE,
                      OTHER); /* another start than the one that may be writing */
    role_tick(&role, NOW + 100 * LEASE);
    assert_int_equal(role.state, ROLE_FENCING);
    role_on_peer_gone(&role, NOW + 100 * LEASE, PEER);
    role_tick(&role, NOW + 100 * LEASE);
    assert_int_equal(role.state, ROLE_SOLO);
}

static void when_the_peers_parent_falls_silent_the_time_counts_again(void **state)
{
    go_fencing_at(NOW);
    role_on_warden(&role, NOW, true);
    role_tick(&role, NOW + 100 * LEASE);
    role_on_warden(&role, NOW + 100 * LEASE, false);
    role_tick(&role, NOW + 100 * LEASE);
    assert_int_equal(role.state, ROLE_SOLO);
}

static void proof_of_death_is_taken_over_at_once(void **state)
{
    static const uint64_t proofs[] = {PEER, 0}; /* 0: whichever was there */
    for (size_t i = 0; i < ARRAY_LENGTH(proofs); i++) {
        go_paired_at(NOW);
        role_on_peer_gone(&role, NOW + 10, proofs[i]);
        role_tick(&role, NOW + 10);
        assert_int_equal(role.state, ROLE_RACING);
        answer(REGISTER_OK, clean_none, NOW + 20);
        assert_int_equal(role.state, ROLE_SOLO);
        assert_false(role.orders & ORDER_FENCE_PEER);
        assert_true(role.orders & ORDER_ADOPT);
        assert_int_equal(role.takeover_last_us, 10);
    }
}

static void proof_of_another_starts_death_is_no_reason_to_take_over(void **state)
{
    go_paired_at(NOW);
    role_on_peer_gone(&role, NOW, OTHER);
    role_tick(&role, NOW);
    assert_int_equal(role.state, ROLE_PAIRED);
}

static void a_new_start_of_the_partner_is_proof_too(void **state)
{
    go_paired_at(NOW);
    hello(ROLE_STARTING, OTHER, NOW + 5);
    role_tick(&role, NOW + 5);
    assert_int_equal(role.state, ROLE_RACING);
    answer(REGISTER_OK, clean_none, NOW + 5);
    assert_int_equal(role.state, ROLE_SOLO);
}

static void a_peer_that_left_is_taken_over_at_once(void **state)
{
    go_paired_at(NOW);
    role_on_left(&role, NOW);
    role_tick(&role, NOW);
    assert_int_equal(role.state, ROLE_RACING);
    answer(REGISTER_OK, clean_none, NOW);
    assert_int_equal(role.state, ROLE_SOLO);
    assert_false(role.left);
}

/* ---- races ---- */

static void the_loser_of_the_register_is_out(void **state)
{
    go_racing_at(NOW);
    answer(REGISTER_CONFLICT,
           (struct register_record){.epoch = 3, .in = REGISTER_IN_B, .unclean = true}, NOW);
    assert_int_equal(role.state, ROLE_WAITING);
    assert_true(role.orders & ORDER_REFUSE);
    assert_false(role.orders & ORDER_ADOPT);
    assert_false(role_may_serve(&role, NOW));
    assert_true(role.register_next_us == NOW);
}

static void a_conflict_over_the_same_record_is_tried_again(void **state)
{
    go_racing_at(NOW);
    answer(REGISTER_CONFLICT, role.expected, NOW);
    assert_int_equal(role.state, ROLE_RACING);
    role_tick(&role, NOW);
    assert_int_equal(role.swap, SWAP_TAKEOVER);
    assert_true(role.register_busy);
}

static void a_swap_of_unknown_outcome_is_read_until_it_is_known(void **state)
{
    static const struct {
        struct register_record found;
        enum role then;
        bool again;
    } rows[] = {
        {{.epoch = 3, .in = REGISTER_IN_A, .unclean = true}, ROLE_FENCING, false}, /* it happened */
        {{.epoch = 3, .in = REGISTER_IN_B, .unclean = true},
         ROLE_WAITING,
         false}, /* the other won */
        {{.epoch = 2, .in = REGISTER_IN_BOTH, .unclean = true}, ROLE_RACING, true}, /* it did not */
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        go_racing_at(NOW);
        answer(REGISTER_UNKNOWN, clean_none, NOW);
        assert_int_equal(role.state, ROLE_RACING);
        assert_false(role.register_busy);
        assert_true(role_deadline(&role) == NOW + 100000);
        role_tick(&role, NOW + 99999);
        assert_false(role.register_busy);
        role_tick(&role, NOW + 100000);
        assert_true(a_read_is_out());
        answer(REGISTER_UNKNOWN, clean_none, NOW + 100000); /* and once more */
        role_tick(&role, NOW + 200000);
        assert_true(a_read_is_out());
        answer(REGISTER_OK, rows[i].found, NOW + 200000);
        assert_int_equal(role.state, rows[i].then);
        role_tick(&role, NOW + 200000);
        assert_true((role.swap == SWAP_TAKEOVER && role.register_busy) == rows[i].again);
        assert_false(role.swap_unknown);
    }
}

static void with_no_register_both_keep_holding(void **state)
{
    go_racing_at(NOW);
    for (uint64_t now = NOW; now < NOW + 20 * LEASE; now += 100000) {
        role_tick(&role, now);
        if (role.register_busy)
            answer(REGISTER_UNKNOWN, clean_none, now);
        assert_int_equal(role.state, ROLE_RACING);
        assert_false(role_may_serve(&role, now));
    }
}

static void while_the_pairing_swap_is_out_solo_is_no_right_any_more(void **state)
{
    go_solo_at(NOW);
    hello(ROLE_JOINING, PEER, NOW);
    role_on_answer(&role, NOW);
    assert_true(role_may_serve(&role, NOW + 100 * LEASE));
    role_on_refilled(&role, NOW);
    assert_true(role.pairing);
    assert_true(role_serve_until(&role) == NOW + LEASE);
    assert_true(role_may_serve(&role, NOW + LEASE - 1));
    assert_false(role_may_serve(&role, NOW + LEASE));
    role_on_refilled(&role, NOW); /* once is enough */
    answer(REGISTER_CONFLICT,
           (struct register_record){.epoch = 2, .in = REGISTER_IN_B, .unclean = true}, NOW);
    assert_int_equal(role.state, ROLE_WAITING);
    assert_true(role.orders & ORDER_REFUSE);
    assert_false(role.pairing);
}

static void a_pairing_swap_that_did_not_happen_is_tried_again(void **state)
{
    go_solo_at(NOW);
    role_on_refilled(&role, NOW);
    answer(REGISTER_UNKNOWN, clean_none, NOW);
    role_tick(&role, NOW + 100000);
    answer(REGISTER_OK, (struct register_record){.epoch = 1, .in = REGISTER_IN_A}, NOW + 100000);
    assert_int_equal(role.state, ROLE_SOLO);
    assert_int_equal(role.swap, SWAP_PAIR);
    answer(REGISTER_OK, clean_none, NOW + 100000);
    assert_int_equal(role.state, ROLE_PAIRED);
    assert_int_equal(role.orders & ORDER_PAIRED_LEAD, ORDER_PAIRED_LEAD);
}

/* A read that the joiner asked for before it was in may be answered at any time after. */
static void an_old_answer_of_the_register_does_not_spoil_a_takeover(void **state)
{
    const struct register_record before = {.epoch = 1, .in = REGISTER_IN_B, .unclean = true};
    for (int late = 0; late < 2; late++) {
        go_waiting_at(NOW);
        hello(ROLE_SOLO, PEER, NOW);
        role_tick(&role, NOW + 500000);
        assert_true(a_read_is_out());
        assert_true(role_on_start(&role, NOW + 500000));
        role_on_ready(&role, 2);
        assert_true(role_on_pair(&role, NOW + 500000, 2));
        if (!late)
            answer(REGISTER_OK, before, NOW + 500000);
        role_on_peer_gone(&role, NOW + 500000, PEER);
        role_tick(&role, NOW + 500000);
        assert_int_equal(role.state, ROLE_RACING);
        if (late) {
            answer(REGISTER_OK, before, NOW + 500000);
            assert_int_equal(role.state, ROLE_RACING);
            role_tick(&role, NOW + 500000);
        }
        assert_int_equal(role.swap, SWAP_TAKEOVER);
        assert_int_equal(role.expected.epoch, 2);
        assert_int_equal(role.expected.in, REGISTER_IN_BOTH);
        assert_true(role.expected.unclean);
        answer(REGISTER_OK, clean_none, NOW + 500000);
        assert_int_equal(role.state, ROLE_SOLO);
        assert_true(role.orders & ORDER_ADOPT);
    }
}

/* ---- joining ---- */

static void a_joiner_is_in_when_it_is_told_and_serves_when_it_is_answered(void **state)
{
    go_joining_at(NOW);
    assert_false(role_on_pair(&role, NOW, 2)); /* not before READY has named the epoch */
    role_on_ready(&role, 2);
    assert_false(role_on_pair(&role, NOW, 3));
    assert_true(role_on_pair(&role, NOW + 10, 2));
    assert_int_equal(role.state, ROLE_PAIRED);
    assert_int_equal(role.epoch, 2);
    assert_true(role.orders & ORDER_PAIRED_JOIN);
    assert_false(role_may_serve(&role, NOW + 10));
    role_on_answer(&role, NOW + 20);
    assert_true(role_may_serve(&role, NOW + 20));
    assert_true(role_on_pair(&role, NOW + 30, 2)); /* said again: the same */
    role_tick(&role, NOW + 20 + LEASE - 1);
    assert_int_equal(role.state, ROLE_PAIRED);
}

static void a_joiner_that_is_never_answered_races_after_a_lease(void **state)
{
    go_joining_at(NOW);
    role_on_ready(&role, 2);
    assert_true(role_on_pair(&role, NOW, 2));
    role_tick(&role, NOW + LEASE - 1);
    assert_int_equal(role.state, ROLE_PAIRED);
    role_tick(&role, NOW + LEASE);
    assert_int_equal(role.state, ROLE_RACING);
    assert_int_equal(role.expected.epoch, 2);
    assert_int_equal(role.expected.in, REGISTER_IN_BOTH);
}

static void a_joiner_whose_peer_falls_silent_before_ready_is_out(void **state)
{
    go_joining_at(NOW);
    assert_true(role_deadline(&role) >= NOW + LEASE);
    role_tick(&role, NOW + LEASE - 1);
    assert_int_equal(role.state, ROLE_JOINING);
    role_tick(&role, NOW + LEASE);
    assert_int_equal(role.state, ROLE_WAITING);
    assert_true(role.orders & ORDER_REFUSE);
}

static void a_joiner_whose_peer_falls_silent_after_ready_asks_the_register(void **state)
{
    static const struct {
        struct register_record found;
        enum role then;
    } rows[] = {
        {{.epoch = 2, .in = REGISTER_IN_BOTH, .unclean = true}, ROLE_PAIRED},
        {{.epoch = 1, .in = REGISTER_IN_B, .unclean = true}, ROLE_WAITING},
        {{.epoch = 3, .in = REGISTER_IN_BOTH, .unclean = true}, ROLE_WAITING},
        {{.epoch = 2, .in = REGISTER_IN_B, .unclean = true}, ROLE_WAITING},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        go_joining_at(NOW);
        role_on_ready(&role, 2);
        role_tick(&role, NOW + LEASE - 1);
        assert_false(role.register_busy);
        role_tick(&role, NOW + LEASE);
        assert_int_equal(role.state, ROLE_JOINING);
        assert_true(a_read_is_out());
        answer(REGISTER_OK, rows[i].found, NOW + LEASE);
        assert_int_equal(role.state, rows[i].then);
        assert_false(role_may_serve(&role, NOW + LEASE));
        if (rows[i].then == ROLE_PAIRED) {
            role_tick(&role, NOW + LEASE);
            assert_int_equal(role.state, ROLE_RACING); /* in, and at once the one that goes on */
        }
    }
}

static void a_read_asked_before_the_filling_began_says_nothing(void **state)
{
    go_waiting_at(NOW);
    hello(ROLE_SOLO, PEER, NOW);
    role_tick(&role, NOW + 500000);
    assert_true(a_read_is_out());
    assert_true(role_on_start(&role, NOW + 500010));
    answer(REGISTER_OK, (struct register_record){.epoch = 7, .in = REGISTER_IN_B, .unclean = true},
           NOW + 500020);
    assert_int_equal(role.state, ROLE_JOINING);
}

static void a_stream_is_taken_only_by_who_is_out(void **state)
{
    static const bool takes[ROLE_COUNT] = {[ROLE_STARTING] = true,
                                           [ROLE_WAITING] = true,
                                           [ROLE_OFFLINE] = true,
                                           [ROLE_JOINING] = true};
    for (int from = 0; from < ROLE_COUNT; from++) {
        go_to[from](NOW);
        assert_int_equal(role.state, from);
        assert_true(role_on_start(&role, NOW) == takes[from]);
        assert_int_equal(role.state, takes[from] ? ROLE_JOINING : from);
    }
    go_starting_at(NOW); /* a swap is out that may make us solo */
    read_gives(clean_none, NOW);
    assert_false(role_on_start(&role, NOW));
}

/* ---- every state with every event ---- */

static void events_that_do_not_concern_a_state_leave_it_alone(void **state)
{
    for (int from = 0; from < ROLE_COUNT; from++) {
        go_to[from](NOW);
        role.orders = 0;
        assert_true(role_may_serve(&role, NOW) == (from == ROLE_SOLO || from == ROLE_PAIRED));
        assert_true(role_has_memory((enum role)from) ==
                    (from == ROLE_SOLO || from == ROLE_PAIRED || from == ROLE_RACING ||
                     from == ROLE_FENCING || from == ROLE_JOINING));
        assert_true(role_name((enum role)from)[0] != 'u');
        hello(ROLE_WAITING, PEER, NOW);
        role_on_warden(&role, NOW, true);
        role_on_warden(&role, NOW, false);
        role_on_answer(&role, NOW);
        role_on_answering(&role, NOW);
        if (from != ROLE_JOINING) {
            role_on_ready(&role, 9);
            assert_int_equal(role.pending_epoch, 0);
            assert_true(role_on_pair(&role, NOW, 9) == false);
        }
        if (from != ROLE_SOLO) {
            bool busy = role.register_busy;
            role_on_refilled(&role, NOW);
            role_on_drained(&role, NOW);
            assert_true(role.register_busy == busy);
        }
        role_on_left(&role, NOW);
        assert_true(role.left == (from == ROLE_PAIRED));
        assert_int_equal(role.state, from);
        assert_int_equal(role.orders, 0);
    }
    assert_string_equal(role_name(ROLE_COUNT), "unknown");
}

static void a_drained_solo_marks_the_register_clean_once(void **state)
{
    go_racing_at(NOW);
    role_on_peer_gone(&role, NOW, PEER);
    answer(REGISTER_OK, clean_none, NOW);
    assert_int_equal(role.state, ROLE_SOLO);
    role_on_drained(&role, NOW);
    assert_int_equal(role.swap, SWAP_CLEAN);
    assert_int_equal(role.wanted.epoch, role.epoch);
    assert_int_equal(role.wanted.in, REGISTER_IN_A);
    assert_false(role.wanted.unclean);
    answer(REGISTER_OK, clean_none, NOW);
    assert_int_equal(role.state, ROLE_SOLO);
    role_on_drained(&role, NOW + LEASE);
    assert_false(role.register_busy);
}

static void a_clean_mark_that_meets_another_record_means_out(void **state)
{
    go_racing_at(NOW);
    role_on_peer_gone(&role, NOW, PEER);
    answer(REGISTER_OK, clean_none, NOW);
    role_on_drained(&role, NOW);
    answer(REGISTER_CONFLICT, (struct register_record){.epoch = 4, .in = REGISTER_IN_B}, NOW);
    assert_int_equal(role.state, ROLE_WAITING);
    assert_true(role.orders & ORDER_REFUSE);
}

/* ---- stopping ---- */

static void a_stop_ends_where_nothing_is_held(void **state)
{
    static const enum role out[] = {ROLE_STARTING, ROLE_WAITING, ROLE_OFFLINE, ROLE_JOINING};
    for (size_t i = 0; i < ARRAY_LENGTH(out); i++) {
        go_to[out[i]](NOW);
        role_stop(&role, NOW, false);
        assert_int_equal(role.state, ROLE_STOPPED);
        assert_true(role.orders & ORDER_STOPPED);
    }
    static const enum role busy[] = {ROLE_PAIRED, ROLE_RACING, ROLE_FENCING};
    for (size_t i = 0; i < ARRAY_LENGTH(busy); i++) {
        go_to[busy[i]](NOW);
        role_stop(&role, NOW, false);
        assert_int_equal(role.state, busy[i]);
    }
}

static void a_solo_stop_leaves_the_register_clean_with_nobody_in(void **state)
{
    go_solo_at(NOW);
    role_stop(&role, NOW + LEASE, false);
    assert_int_equal(role.state, ROLE_SOLO);
    assert_int_equal(role.swap, SWAP_STOP);
    assert_int_equal(role.wanted.epoch, 2);
    assert_int_equal(role.wanted.in, 0);
    assert_false(role.wanted.unclean);
    role_stop(&role, NOW + LEASE, false); /* while it is out: nothing more */
    answer(REGISTER_OK, clean_none, NOW + LEASE);
    assert_int_equal(role.state, ROLE_STOPPED);
    assert_true(role.orders & ORDER_STOPPED);
    assert_false(role_may_serve(&role, NOW + LEASE));
}

static void a_paired_stop_ends_when_the_peer_knows(void **state)
{
    go_paired_at(NOW);
    role_stop(&role, NOW, true);
    assert_int_equal(role.state, ROLE_STOPPED);
    assert_false(role.register_busy); /* the peer, not this one, changes the register */
}

static void a_stop_waits_for_a_register_operation_that_is_out(void **state)
{
    go_starting_at(NOW);
    role_tick(&role, NOW);
    role_stop(&role, NOW, false);
    assert_int_equal(role.state, ROLE_STARTING);
    answer(REGISTER_UNKNOWN, clean_none, NOW);
    role_stop(&role, NOW, false);
    assert_int_equal(role.state, ROLE_STOPPED);
}

/* ---- accepting a loss ---- */

/* An empty mount point, a restored file: such a register decides nothing. */
static void a_register_that_went_back_in_time_is_not_believed(void **state)
{
    go_waiting_at(NOW);
    role_tick(&role, NOW + 500000);
    answer(REGISTER_OK, clean_none, NOW + 500000);
    assert_int_equal(role.state, ROLE_WAITING);
    assert_false(role.register_busy);
    assert_non_null(strstr(role.reason, "older epoch"));
    assert_int_equal(role.record.epoch, 7);
    go_racing_at(NOW);
    answer(REGISTER_CONFLICT, (struct register_record){.epoch = 1, .in = REGISTER_IN_B}, NOW);
    assert_int_equal(role.state, ROLE_RACING);
    assert_true(role.swap_unknown);
}

static void a_loss_is_accepted_only_where_there_is_one(void **state)
{
    static const struct {
        uint8_t in;
        bool unclean, gone, dead;
        enum peer_seen peer;
        bool accepted;
    } rows[] = {
        {REGISTER_IN_A, true, false, false, UNKNOWN, true},
        {REGISTER_IN_A, true, false, false, EMPTY, true},
        {REGISTER_IN_BOTH, true, false, false, UNKNOWN, false}, /* it may be alone with the data */
        {REGISTER_IN_BOTH, true, false, true, UNKNOWN, true},
        {REGISTER_IN_BOTH, true, false, false, EMPTY, true},
        {REGISTER_IN_BOTH, true, false, false, SERVING, false},
        {REGISTER_IN_BOTH, true, false, true, SERVING, true},
        {REGISTER_IN_BOTH, true, true, false, SERVING, true},
        {REGISTER_IN_B, true, false, false, UNKNOWN, false},
        {REGISTER_IN_B, true, false, false, EMPTY,
         false}, /* its parent may have begun it anew a moment ago */
        {REGISTER_IN_B, true, false, true, UNKNOWN, true},
        {REGISTER_IN_B, true, true, false, UNKNOWN, false}, /* of whom? */
        {REGISTER_IN_B, true, true, false, SERVING, true},
        {REGISTER_IN_B, true, true, false, SERVED_BEFORE,
         false}, /* a later start of it made the record */
        {REGISTER_IN_B, false, false, false, UNKNOWN, false},
        {REGISTER_IN_B, false, false, true, UNKNOWN, true},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        start();
        peer_epoch = rows[i].peer == SERVED_BEFORE ? 3 : 4;
        if (rows[i].peer != UNKNOWN)
            hello(rows[i].peer == EMPTY ? ROLE_WAITING : ROLE_SOLO, PEER, NOW);
        if (rows[i].gone)
            role_on_peer_gone(&role, NOW, PEER);
        read_gives(
            (struct register_record){.epoch = 4, .in = rows[i].in, .unclean = rows[i].unclean},
            NOW);
        const char *why = role_accept_loss(&role, NOW, rows[i].dead);
        assert_true((why == NULL) == rows[i].accepted);
        assert_true(role.register_busy == rows[i].accepted);
        if (!rows[i].accepted)
            continue;
        assert_int_equal(role.swap, SWAP_ACCEPT_LOSS);
        assert_int_equal(role.wanted.epoch, 5);
        assert_int_equal(role.wanted.in, REGISTER_IN_A);
    }
}

static void before_the_register_answered_nothing_is_accepted(void **state)
{
    assert_non_null(role_accept_loss(&role, NOW, true));
    go_solo_at(NOW);
    assert_non_null(role_accept_loss(&role, NOW, true));
}

static void an_accepted_loss_fences_and_then_serves_afresh(void **state)
{
    go_offline_at(NOW);
    assert_null(role_accept_loss(&role, NOW, false));
    answer(REGISTER_OK, clean_none, NOW);
    assert_int_equal(role.state, ROLE_FENCING);
    assert_true(role.orders & ORDER_FENCE_PEER);
    uint64_t end = NOW + LEASE + LEASE / 8 + SETTLE;
    role_tick(&role, end - 1);
    assert_int_equal(role.state, ROLE_FENCING);
    role_tick(&role, end);
    assert_int_equal(role.state, ROLE_SOLO);
    assert_true(role.orders & ORDER_SERVE_FRESH);
    assert_false(role.orders & ORDER_ADOPT);
    assert_int_equal(role.takeover_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(every_row_of_the_first_decision_meets_one_outcome, set_up),
        cmocka_unit_test_setup(a_new_start_of_the_peer_proves_its_former_one_gone_only, set_up),
        cmocka_unit_test_setup(a_lost_begin_reads_again_and_a_won_one_serves, set_up),
        cmocka_unit_test_setup(while_out_the_register_is_read_twice_a_second, set_up),
        cmocka_unit_test_setup(a_paired_controller_serves_for_a_lease_from_when_it_sent, set_up),
        cmocka_unit_test_setup(a_lease_that_runs_out_holds_hosts_and_asks_the_register, set_up),
        cmocka_unit_test_setup(the_winner_waits_until_every_answer_it_gave_has_run_out, set_up),
        cmocka_unit_test_setup(while_the_peers_parent_answers_its_proof_is_awaited_and_no_time,
                               set_up),
        cmocka_unit_test_setup(when_the_peers_parent_falls_silent_the_time_counts_again, set_up),
        cmocka_unit_test_setup(proof_of_death_is_taken_over_at_once, set_up),
        cmocka_unit_test_setup(proof_of_another_starts_death_is_no_reason_to_take_over, set_up),
        cmocka_unit_test_setup(a_new_start_of_the_partner_is_proof_too, set_up),
        cmocka_unit_test_setup(a_peer_that_left_is_taken_over_at_once, set_up),
        cmocka_unit_test_setup(the_loser_of_the_register_is_out, set_up),
        cmocka_unit_test_setup(a_conflict_over_the_same_record_is_tried_again, set_up),
        cmocka_unit_test_setup(a_swap_of_unknown_outcome_is_read_until_it_is_known, set_up),
        cmocka_unit_test_setup(with_no_register_both_keep_holding, set_up),
        cmocka_unit_test_setup(while_the_pairing_swap_is_out_solo_is_no_right_any_more, set_up),
        cmocka_unit_test_setup(a_pairing_swap_that_did_not_happen_is_tried_again, set_up),
        cmocka_unit_test_setup(an_old_answer_of_the_register_does_not_spoil_a_takeover, set_up),
        cmocka_unit_test_setup(a_joiner_is_in_when_it_is_told_and_serves_when_it_is_answered,
                               set_up),
        cmocka_unit_test_setup(a_joiner_that_is_never_answered_races_after_a_lease, set_up),
        cmocka_unit_test_setup(a_joiner_whose_peer_falls_silent_before_ready_is_out, set_up),
        cmocka_unit_test_setup(a_joiner_whose_peer_falls_silent_after_ready_asks_the_register,
                               set_up),
        cmocka_unit_test_setup(a_read_asked_before_the_filling_began_says_nothing, set_up),
        cmocka_unit_test_setup(a_stream_is_taken_only_by_who_is_out, set_up),
        cmocka_unit_test_setup(events_that_do_not_concern_a_state_leave_it_alone, set_up),
        cmocka_unit_test_setup(a_drained_solo_marks_the_register_clean_once, set_up),
        cmocka_unit_test_setup(a_clean_mark_that_meets_another_record_means_out, set_up),
        cmocka_unit_test_setup(a_stop_ends_where_nothing_is_held, set_up),
        cmocka_unit_test_setup(a_solo_stop_leaves_the_register_clean_with_nobody_in, set_up),
        cmocka_unit_test_setup(a_paired_stop_ends_when_the_peer_knows, set_up),
        cmocka_unit_test_setup(a_stop_waits_for_a_register_operation_that_is_out, set_up),
        cmocka_unit_test_setup(a_register_that_went_back_in_time_is_not_believed, set_up),
        cmocka_unit_test_setup(a_loss_is_accepted_only_where_there_is_one, set_up),
        cmocka_unit_test_setup(before_the_register_answered_nothing_is_accepted, set_up),
        cmocka_unit_test_setup(an_accepted_loss_fences_and_then_serves_afresh, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
