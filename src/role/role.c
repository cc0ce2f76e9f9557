/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See role.h. Every change of state goes through enter(); every swap of the register names what it
 * is for, so that an answer that comes late, or not at all, is always read in the light of the
 * question. */

#include "role/role.h"

#include "base/mistake.h"

#include <stdarg.h>
#include <stdio.h>

enum {
    REGISTER_POLL_US = 500 * 1000,
    REGISTER_RETRY_US = 100 * 1000,
};

static const char *const names[ROLE_COUNT] = {
    [ROLE_STARTING] = "starting", [ROLE_WAITING] = "waiting", [ROLE_JOINING] = "joining",
    [ROLE_OFFLINE] = "offline",   [ROLE_SOLO] = "solo",       [ROLE_PAIRED] = "paired",
    [ROLE_RACING] = "racing",     [ROLE_FENCING] = "fencing", [ROLE_STOPPED] = "stopped",
};

const char *role_name(enum role role)
{
    return (unsigned)role < ROLE_COUNT ? names[role] : "unknown";
}

/* Row: from. Column: to. */
static const bool legal[ROLE_COUNT][ROLE_COUNT] = {
    [ROLE_STARTING] = {[ROLE_WAITING] = true,
                       [ROLE_OFFLINE] = true,
                       [ROLE_SOLO] = true,
                       [ROLE_FENCING] = true,
                       [ROLE_JOINING] = true,
                       [ROLE_STOPPED] = true},
    [ROLE_WAITING] = {[ROLE_OFFLINE] = true,
                      [ROLE_PAIRED] = true,
                      [ROLE_SOLO] = true,
                      [ROLE_FENCING] = true,
                      [ROLE_JOINING] = true,
                      [ROLE_STOPPED] = true},
    [ROLE_OFFLINE] = {[ROLE_WAITING] = true,
                      [ROLE_SOLO] = true,
                      [ROLE_FENCING] = true,
                      [ROLE_JOINING] = true,
                      [ROLE_STOPPED] = true},
    [ROLE_JOINING] = {[ROLE_WAITING] = true, [ROLE_PAIRED] = true, [ROLE_STOPPED] = true},
    [ROLE_SOLO] = {[ROLE_PAIRED] = true, [ROLE_WAITING] = true, [ROLE_STOPPED] = true},
    [ROLE_PAIRED] = {[ROLE_RACING] = true, [ROLE_STOPPED] = true},
    [ROLE_RACING] = {[ROLE_FENCING] = true, [ROLE_WAITING] = true},
    [ROLE_FENCING] = {[ROLE_SOLO] = true},
};

bool role_has_memory(enum role role)
{
    return role == ROLE_SOLO || role == ROLE_PAIRED || role == ROLE_RACING ||
           role == ROLE_FENCING || role == ROLE_JOINING;
}

static uint8_t bit_of(uint8_t controller)
{
    return controller == 0 ? REGISTER_IN_A : REGISTER_IN_B;
}

static char letter_of_peer(const struct role_machine *role)
{
    return role->config.self == 0 ? 'b' : 'a';
}

static bool is_out(const struct role_machine *role)
{
    return role->state == ROLE_STARTING || role->state == ROLE_WAITING ||
           role->state == ROLE_OFFLINE;
}

__attribute__((format(printf, 3, 4))) static void enter(struct role_machine *role, enum role state,
                                                        const char *why, ...)
{
    CHECK(state == role->state || legal[role->state][state]);
    role->state = state;
    va_list arguments;
    va_start(arguments, why);
    vsnprintf(role->reason, sizeof role->reason, why, arguments);
    va_end(arguments);
}

void role_init(struct role_machine *role, const struct role_config *config, uint64_t now_us)
{
    *role = (struct role_machine){
        .config = *config, .state = ROLE_STARTING, .register_next_us = now_us};
    snprintf(role->reason, sizeof role->reason, "reading the register");
}

static void begin_swap(struct role_machine *role, enum role_swap swap, uint64_t epoch, uint8_t in,
                       bool unclean)
{
    CHECK(!role->register_busy);
    CHECK(!role->swap_unknown);
    role->register_busy = true;
    role->register_asked = false;
    role->swap = swap;
    role->expected = swap == SWAP_TAKEOVER ? (struct register_record){.epoch = role->epoch,
                                                                      .in = REGISTER_IN_BOTH,
                                                                      .unclean = true}
                                           : role->record;
    role->wanted = (struct register_record){.epoch = epoch, .in = in, .unclean = unclean};
}

static void begin_read(struct role_machine *role, uint64_t now_us)
{
    role->read_began_us = now_us;
    role->register_busy = true;
    role->register_asked = false;
}

/* The peer, as far as it could have data or be serving, is certainly gone. */
static bool peer_is_gone(const struct role_machine *role)
{
    if (role->left)
        return true;
    if (role->partner != 0)
        return role->gone_incarnation == role->partner ||
               (role->peer.known && role->peer.incarnation != role->partner);
    if (role->state == ROLE_FENCING)
        return role->gone_incarnation != 0; /* whoever it was: forgotten when the fencing began */
    return role->peer.known && role->gone_incarnation == role->peer.incarnation;
}

bool role_may_be_in(const struct role_machine *role)
{
    return role->state == ROLE_WAITING && role->pending_epoch != 0;
}

/* The peer is there and says that it holds nothing of the record's epoch. */
static bool peer_is_empty(const struct role_machine *role)
{
    const struct role_peer *peer = &role->peer;
    bool may_hold = peer->may_be_in && role->record.in == REGISTER_IN_BOTH &&
                    peer->epoch == role->record.epoch && !MISTAKE(joiner_taken_for_empty);
    return peer->known && !peer->serving_memory && !may_hold;
}

/* The record is the one by which the peer that is proven gone was serving. A later start of the
 * peer would have made a record of its own: a proof about an older one says nothing about that. */
static bool holder_is_gone(const struct role_machine *role)
{
    if (MISTAKE(stale_proof))
        return role->gone_incarnation != 0;
    return peer_is_gone(role) && role->peer.serving_memory &&
           role->peer.epoch == role->record.epoch;
}

/* Out, and the register has just been read: what now? Each row of conditions is met by exactly one
 * case. */
static void decide(struct role_machine *role)
{
    const struct register_record *record = &role->record;
    uint8_t mine = bit_of(role->config.self);
    char peer = letter_of_peer(role);
    bool owed = record->unclean;
    bool gone = record->in == REGISTER_IN_BOTH ? peer_is_gone(role) : holder_is_gone(role);
    bool peer_empty = peer_is_empty(role);

    if (!owed &&
        (record->in == 0 || record->in == mine || record->in == REGISTER_IN_BOTH || gone)) {
        begin_swap(role, SWAP_BEGIN, record->epoch + 1, mine, false);
    } else if (record->in == mine) {
        enter(role, ROLE_OFFLINE,
              "this controller served alone and its memory is lost: writes of epoch %llu may be "
              "missing; "
              "holdfast accept-loss serves what the stores hold",
              (unsigned long long)record->epoch);
    } else if (record->in == REGISTER_IN_BOTH && (gone || peer_empty)) {
        enter(role, ROLE_OFFLINE,
              "both memories are lost: writes of epoch %llu may be missing; "
              "holdfast accept-loss serves what the stores hold",
              (unsigned long long)record->epoch);
    } else if (record->in == REGISTER_IN_BOTH) {
        enter(role, ROLE_WAITING, "controller %c may hold the data of epoch %llu: waiting for it",
              peer, (unsigned long long)record->epoch);
    } else if (gone) {
        enter(role, ROLE_OFFLINE,
              "controller %c served alone and is gone: writes of epoch %llu may be missing; "
              "holdfast accept-loss serves what the stores hold",
              peer, (unsigned long long)record->epoch);
    } else {
        enter(role, ROLE_WAITING, "controller %c holds the volumes: asking to join", peer);
    }
}

static void go_out(struct role_machine *role, uint64_t now_us, const char *why)
{
    enter(role, ROLE_WAITING, "%s", why);
    role->orders |= ORDER_REFUSE;
    role->pairing = false;
    role->partner = 0;
    role->pending_epoch = 0;
    role->register_next_us = now_us;
}

static void lose_peer(struct role_machine *role, uint64_t now_us, const char *why)
{
    CHECK(role->state == ROLE_PAIRED);
    enter(role, ROLE_RACING, "%s: asking the register", why);
    role->orders |= ORDER_HOLD;
    role->lost_us = now_us;
}

static uint64_t fence_deadline(const struct role_machine *role)
{
    return role->answered_us + role->config.lease_us + role->config.lease_us / 8 +
           role->config.settle_us;
}

static void go_solo(struct role_machine *role, uint64_t now_us, uint32_t order, const char *why)
{
    enter(role, ROLE_SOLO, "%s", why);
    role->epoch = role->record.epoch;
    role->orders |= order | ORDER_RESUME;
    role->partner = 0;
    role->left = false;
    role->pairing = false;
    role->pending_epoch = 0;
    if (role->peer_is_dead)
        role->gone_incarnation =
            0; /* an operator's word was enough once; it is no proof for later */
    role->peer_is_dead = false;
    role->takeover_last_us = now_us - role->lost_us;
}

static void try_end_fencing(struct role_machine *role, uint64_t now_us)
{
    bool gone = peer_is_gone(role);
    if (!gone && (role->warden_answers || now_us < fence_deadline(role)) && !MISTAKE(no_lease_wait))
        return;
    if (role->adopt)
        role->takeover_count++;
    go_solo(role, now_us, role->adopt ? ORDER_ADOPT : ORDER_SERVE_FRESH,
            !role->adopt ? "the loss was accepted"
            : gone       ? "took over: the peer is gone"
                         : "took over: the peer's lease is over");
}

static void on_swapped(struct role_machine *role, uint64_t now_us)
{
    enum role_swap swap = role->swap;
    role->swap = SWAP_NONE;
    switch (swap) {
    case SWAP_BEGIN:
        role->lost_us = now_us;
        role->loss_accepted = false;
        go_solo(role, now_us, ORDER_SERVE_FRESH,
                "nothing was owed: serving alone until the peer joins");
        break;
    case SWAP_ACCEPT_LOSS:
        role->lost_us = now_us;
        role->answered_us = now_us; /* our former self may have answered until just now */
        enter(role, ROLE_FENCING, "the loss was accepted: waiting until the peer certainly is out");
        role->adopt = false;
        role->loss_accepted = true;
        role->partner = role->peer.known ? role->peer.incarnation : 0;
        if (role->peer_is_dead)
            role->gone_incarnation = role->peer.known ? role->partner : UINT64_MAX;
        else if (role->partner == 0)
            role->gone_incarnation = 0;
        role->orders |= ORDER_FENCE_PEER;
        try_end_fencing(role, now_us);
        break;
    case SWAP_TAKEOVER:
        enter(role, ROLE_FENCING,
              "won the register: waiting until the peer certainly touches no store");
        role->adopt = true;
        if (!peer_is_gone(role))
            role->orders |= ORDER_FENCE_PEER;
        try_end_fencing(role, now_us);
        break;
    case SWAP_PAIR:
        enter(role, ROLE_PAIRED, "both controllers hold every dirty page");
        role->epoch = role->record.epoch;
        role->pairing = false;
        role->left = false;
        role->partner = role->joiner;
        role->race_after_us = role->lease_until_us;
        role->orders |= ORDER_PAIRED_LEAD | ORDER_RESUME;
        break;
    case SWAP_CLEAN:
        break;
    case SWAP_STOP:
        enter(role, ROLE_STOPPED, "stopped cleanly: the stores hold everything");
        role->orders |= ORDER_STOPPED;
        break;
    case SWAP_NONE:
        CHECK(false);
    }
}

/* The register holds something else than what we wanted to put there. */
static void on_swap_lost(struct role_machine *role, uint64_t now_us)
{
    enum role_swap swap = role->swap;
    role->swap = SWAP_NONE;
    bool unchanged = register_equal(&role->record, &role->expected);
    switch (swap) {
    case SWAP_BEGIN:
    case SWAP_ACCEPT_LOSS:
        role->register_next_us = now_us;
        break;
    case SWAP_TAKEOVER:
        if (!unchanged) /* else role_tick() tries again */
            go_out(role, now_us, "the other controller won the register");
        break;
    case SWAP_PAIR:
        if (unchanged) {
            begin_swap(role, SWAP_PAIR, role->wanted.epoch, REGISTER_IN_BOTH, true);
            break;
        }
        go_out(role, now_us, "the register was taken by the other controller");
        break;
    case SWAP_CLEAN:
    case SWAP_STOP:
        if (!unchanged)
            go_out(role, now_us, "the register was taken by the other controller");
        break;
    case SWAP_NONE:
        CHECK(false);
    }
}

/* The register says that the pairing which READY announced has happened: this controller is in,
 * with a complete image, and its lease has run out already. */
static bool is_in_after_all(struct role_machine *role, uint64_t now_us)
{
    if ((role->pending_epoch == 0 || role->record.epoch != role->pending_epoch) &&
        !MISTAKE(join_in_any_epoch))
        return false;
    if (role->record.in != REGISTER_IN_BOTH)
        return false;
    enter(role, ROLE_PAIRED, "the register has this controller in");
    role->epoch = role->pending_epoch;
    role->partner = role->peer.incarnation;
    role->lease_until_us = role->race_after_us = now_us;
    role->orders |= ORDER_PAIRED_JOIN;
    return true;
}

static void on_read(struct role_machine *role, uint64_t now_us)
{
    role->register_next_us = now_us + REGISTER_POLL_US;
    if (role->state == ROLE_JOINING) {
        if (role->read_began_us < role->heard_us + role->config.lease_us)
            return; /* asked before the peer fell silent: it may show less than has happened since
                     */
        /* Not in, or not yet: the swap may still land. The image is kept until a living peer begins
         * anew. */
        if (!is_in_after_all(role, now_us))
            enter(role, ROLE_WAITING, "the peer fell silent before this controller was in");
        return;
    }
    if (is_out(role) && !(role->state == ROLE_WAITING && is_in_after_all(role, now_us)))
        decide(role);
}

void role_on_register(struct role_machine *role, uint64_t now_us, enum register_result result,
                      const struct register_record *record)
{
    CHECK(role->register_busy);
    CHECK(role->register_asked);
    role->register_busy = role->register_asked = false;
    bool was_read = role->swap == SWAP_NONE || role->swap_unknown;
    /* An epoch never goes back: what shows an older one is not our register (an empty mount point,
     * a restored file). */
    bool reads_record = was_read ? result == REGISTER_OK : result == REGISTER_CONFLICT;
    bool older = reads_record && role->record_known && record->epoch < role->record.epoch;
    if (older)
        result = REGISTER_UNKNOWN;
    if (MISTAKE(register_unknown_is_won) && result == REGISTER_UNKNOWN && !was_read)
        result = REGISTER_OK;
    if (result == REGISTER_UNKNOWN) {
        role->register_next_us = now_us + REGISTER_RETRY_US;
        if (!was_read)
            role->swap_unknown = true;
        if (is_out(role))
            snprintf(role->reason, sizeof role->reason, "%s",
                     older ? "the register shows an older epoch than before: is it the right file?"
                           : "the register cannot be reached");
        return;
    }
    role->record_known = true;
    if (!was_read) {
        role->record = result == REGISTER_OK ? role->wanted : *record;
        if (result == REGISTER_OK)
            on_swapped(role, now_us);
        else
            on_swap_lost(role, now_us);
        return;
    }
    role->record = *record;
    if (role->swap == SWAP_NONE) {
        on_read(role, now_us);
        return;
    }
    role->swap_unknown = false;
    if (register_equal(&role->record, &role->wanted))
        on_swapped(role, now_us);
    else
        on_swap_lost(role, now_us);
}

static bool read_is_due(const struct role_machine *role, uint64_t now_us)
{
    if (role->register_busy || now_us < role->register_next_us)
        return false;
    if (role->swap_unknown || is_out(role))
        return true;
    return role->state == ROLE_JOINING && role->pending_epoch != 0 &&
           now_us >= role->heard_us + role->config.lease_us;
}

void role_tick(struct role_machine *role, uint64_t now_us)
{
    if (read_is_due(role, now_us))
        begin_read(role, now_us);
    switch (role->state) {
    case ROLE_PAIRED:
        if (role->left)
            lose_peer(role, now_us, "the peer stopped cleanly");
        else if (peer_is_gone(role))
            lose_peer(role, now_us, "the peer is gone");
        else if (now_us >= max_u64(role->lease_until_us, role->race_after_us))
            lose_peer(role, now_us, "the peer has not answered for a lease");
        break;
    case ROLE_FENCING:
        try_end_fencing(role, now_us);
        break;
    case ROLE_JOINING:
        if (role->pending_epoch == 0 && now_us >= role->heard_us + role->config.lease_us)
            go_out(role, now_us, "the peer fell silent while it filled this controller");
        break;
    default:
        break;
    }
    /* A read from before may still be out. */
    if (role->state == ROLE_RACING && !role->register_busy && role->swap == SWAP_NONE)
        begin_swap(role, SWAP_TAKEOVER, role->epoch + 1, bit_of(role->config.self), true);
}

uint64_t role_deadline(const struct role_machine *role)
{
    uint64_t deadline = UINT64_MAX;
    if (!role->register_busy && (role->swap_unknown || is_out(role)))
        deadline = role->register_next_us;
    if (role->state == ROLE_PAIRED)
        deadline = min_u64(deadline, max_u64(role->lease_until_us, role->race_after_us));
    if (role->state == ROLE_FENCING && !role->warden_answers)
        deadline = min_u64(deadline, fence_deadline(role));
    if (role->state == ROLE_JOINING && !role->register_busy)
        deadline = min_u64(deadline,
                           max_u64(role->register_next_us, role->heard_us + role->config.lease_us));
    return deadline;
}

void role_on_hello(struct role_machine *role, uint64_t now_us, const struct role_peer *peer)
{
    bool was_known = role->peer.known;
    uint64_t former = role->peer.incarnation;
    role->peer = *peer;
    role->peer.known = true;
    role->peer.heard_us = now_us;
    /* A start of the peer other than the one known: its parent began it only after the former one
     * had ended. */
    if (was_known && former != peer->incarnation)
        role->gone_incarnation = former;
}

void role_on_peer_gone(struct role_machine *role, uint64_t now_us, uint64_t incarnation)
{
    (void)now_us;
    if (incarnation == 0)
        incarnation = role->partner != 0 ? role->partner : role->peer.incarnation;
    if (incarnation != 0)
        role->gone_incarnation = incarnation;
}

void role_on_warden(struct role_machine *role, uint64_t now_us, bool answers)
{
    (void)now_us;
    role->warden_answers = answers;
}

void role_on_left(struct role_machine *role, uint64_t now_us)
{
    (void)now_us;
    if (role->state == ROLE_PAIRED)
        role->left = true;
}

void role_on_answer(struct role_machine *role, uint64_t sent_us)
{
    if (role->state == ROLE_PAIRED || role->state == ROLE_SOLO)
        role->lease_until_us = max_u64(role->lease_until_us, sent_us + role->config.lease_us);
}

void role_on_answering(struct role_machine *role, uint64_t now_us)
{
    role->answered_us = now_us;
    role->heard_us = now_us;
}

bool role_on_start(struct role_machine *role, uint64_t now_us)
{
    if ((!is_out(role) && role->state != ROLE_JOINING) || role->swap != SWAP_NONE)
        return false;
    enter(role, ROLE_JOINING, "controller %c is sending its dirty pages", letter_of_peer(role));
    role->pending_epoch = 0;
    role->heard_us = now_us;
    return true;
}

void role_on_ready(struct role_machine *role, uint64_t epoch)
{
    if (role->state == ROLE_JOINING)
        role->pending_epoch = epoch;
}

bool role_on_pair(struct role_machine *role, uint64_t now_us, uint64_t epoch)
{
    if (role->state == ROLE_PAIRED && role->epoch == epoch)
        return true; /* the register told us first */
    if (role->state != ROLE_JOINING || role->pending_epoch != epoch)
        return false;
    enter(role, ROLE_PAIRED, "both controllers hold every dirty page");
    role->epoch = epoch;
    role->record =
        (struct register_record){.epoch = epoch, .in = REGISTER_IN_BOTH, .unclean = true};
    role->record_known = true;
    role->partner = role->peer.incarnation;
    role->left = false;
    role->lease_until_us = 0; /* serves only once the survivor has answered */
    role->race_after_us = now_us + role->config.lease_us;
    role->orders |= ORDER_PAIRED_JOIN;
    return true;
}

void role_on_refilled(struct role_machine *role, uint64_t now_us)
{
    (void)now_us;
    if (role->state != ROLE_SOLO || role->pairing || role->register_busy || role->swap_unknown)
        return;
    role->pairing = true;
    begin_swap(role, SWAP_PAIR, role->epoch + 1, REGISTER_IN_BOTH, true);
}

void role_on_drained(struct role_machine *role, uint64_t now_us)
{
    if (role->state != ROLE_SOLO || !role->record.unclean || role->register_busy ||
        role->swap_unknown || role->pairing || now_us < role->register_next_us)
        return;
    role->register_next_us = now_us + REGISTER_RETRY_US;
    begin_swap(role, SWAP_CLEAN, role->epoch, role->record.in, false);
}

void role_stop(struct role_machine *role, uint64_t now_us, bool left)
{
    if (role->state == ROLE_STOPPED || role->register_busy || role->swap_unknown)
        return;
    if (left || is_out(role) || role->state == ROLE_JOINING) {
        enter(role, ROLE_STOPPED, left ? "stopped cleanly: the peer goes on" : "stopped");
        role->orders |= ORDER_STOPPED;
    } else if (role->state == ROLE_SOLO && !role->pairing && now_us >= role->register_next_us) {
        role->register_next_us = now_us + REGISTER_RETRY_US;
        begin_swap(role, SWAP_STOP, role->epoch + 1, 0, false);
    }
}

const char *role_accept_loss(struct role_machine *role, uint64_t now_us, bool peer_is_dead)
{
    (void)now_us;
    if (!is_out(role))
        return "nothing is lost: this controller serves or is being filled";
    if (!role->record_known || role->register_busy || role->swap_unknown)
        return "the register has not answered yet: try again";
    uint8_t theirs = bit_of(role->config.self ^ 1);
    bool gone = role->record.in == REGISTER_IN_BOTH ? peer_is_gone(role) : holder_is_gone(role);
    bool peer_serves = role->peer.known && role->peer.serving_memory && !gone;
    if (peer_serves && !peer_is_dead)
        return "the other controller is alive and may hold the data: nothing needs to be accepted";
    bool peer_empty = peer_is_empty(role);
    bool peer_out = gone || (role->record.in == REGISTER_IN_BOTH && peer_empty);
    if (role->record.in != bit_of(role->config.self) && !peer_out && !peer_is_dead)
        return "the other controller may hold the data or even serve: start it, or make sure that "
               "it is dead and "
               "then say --peer-is-dead";
    if (!role->record.unclean && role->record.in != theirs)
        return "nothing is lost: the register says that the stores hold everything";
    /* Not clean before the fencing is over: a restart meanwhile may not serve without it. */
    begin_swap(role, SWAP_ACCEPT_LOSS, role->record.epoch + 1, bit_of(role->config.self), true);
    role->peer_is_dead = peer_is_dead;
    return NULL;
}

bool role_may_serve(const struct role_machine *role, uint64_t now_us)
{
    if (role->state == ROLE_SOLO)
        return !role->pairing || now_us < role->lease_until_us;
    return role->state == ROLE_PAIRED && (now_us < role->lease_until_us || MISTAKE(lease_forever));
}

bool role_may_answer(const struct role_machine *role, uint64_t now_us)
{
    return role_may_serve(role, now_us) || now_us < role->lease_until_us;
}

uint64_t role_serve_until(const struct role_machine *role)
{
    if (MISTAKE(write_after_lease))
        return UINT64_MAX;
    if (role->state == ROLE_PAIRED || (role->state == ROLE_SOLO && role->pairing))
        return role->lease_until_us;
    return role->state == ROLE_SOLO ? UINT64_MAX : 0;
}
