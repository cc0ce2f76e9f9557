/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See faults.h. Each kind of fault of a seed comes again and again, at drawn distances. The
 * operator is honest: he says that the peer is dead only when it is, and accepts a loss only where
 * a controller is offline or by a slip of the finger, which the core has to refuse while a
 * controller that holds the data lives. */

#include "sim/faults.h"

#include "sim/calls.h"
#include "sim/copies.h"
#include "sim/cuts.h"
#include "sim/disks.h"
#include "sim/focus.h"
#include "sim/listing.h"
#include "sim/hosts.h"
#include "sim/ships.h"
#include "sim/sites.h"
#include "sim/wires.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char *const fault_name[FAULT_COUNT] = {
    "crash",    "machine", "both",  "pause",      "break",      "partition",    "oneway",
    "register", "error",   "slow",  "power",      "corrupt",    "move",         "stop",
    "cut",      "late",    "clock", "long-break", "long-stall", "long-slow",    "long-corrupt",
    "suspend",  "site",    "stray", "call-break", "call-stall", "call-corrupt", "call-strike",
};

/* An EVENT_FAULT that is not of a kind: see late_answer(), faults_on_death(). */
enum {
    SILENCE = 1000,
    POWER_AFTER_DEATH,
    LISTED,       /* a line of a replay */
    ONCE = 2000,  /* and a kind: it happens once more than planned */
    AIMED = 3000, /* and twice a kind, and whom it strikes */
};

/* The fixed run of a fault test: one of each thing that a pair goes through. */
static const struct {
    uint32_t at_ms;
    enum fault_kind kind;
    uint8_t who;
} script[] = {
    {30, FAULT_MOVE, 0},   {80, FAULT_CRASH, 0}, {300, FAULT_BREAK, 1}, {340, FAULT_BREAK, 0},
    {400, FAULT_PAUSE, 1}, {900, FAULT_STOP, 0}, {1500, FAULT_MOVE, 1},
};

/* From the slowest clock's lease to the fastest clock's lease and settle: what a write may take to
 * land. */
static uint64_t land_limit_us(const struct world *world)
{
    uint64_t slow = 1000000 - world->rates.skew_ppm, fast = 1000000 + world->rates.skew_ppm;
    uint64_t lease_us = world->config.lease_ms * 1000u, settle_us = world->config.settle_ms * 1000u;
    uint64_t waited_us = (lease_us + settle_us) * 1000000 / fast;
    uint64_t held_us = lease_us * 1000000 / slow;
    CHECK(waited_us > held_us + 4000);
    return waited_us - held_us - 2000;
}

/* No wait for a lease to be over is longer. */
static uint64_t fence_us(const struct world *world)
{
    return (world->config.lease_ms * 9 / 8 + world->config.settle_ms) * 1100u;
}

static uint64_t pick(struct generator *draw, const uint64_t *from, size_t count)
{
    return from[generator_below(draw, count)];
}

void faults_create(struct world *world)
{
    struct generator *draw = &world->draw;
    struct rates *rates = &world->rates;
    static const uint64_t means[] = {50000, 300000, 2000000}, wild_means[] = {5000, 30000, 200000};
    static const uint64_t restarts[] = {5000, 100000, 2000000};
    static const uint64_t links[] = {10, 50, 500};
    static const uint64_t stores[] = {20, 200, 2000};
    static const uint64_t delays[] = {0, 0, 50, 2000};
    /* Few kinds together go deeper than all at once: each seed has its own few. */
    static const uint64_t ones_in[] = {2, 4, 8};
    uint64_t one_in = pick(draw, ones_in, ARRAY_LENGTH(ones_in));
    uint64_t mood = generator_below(draw, 12); /* 0: no faults at all; 1: nothing but faults */
    for (int kind = 0; kind < FAULT_OF_ARRAY; kind++) {
        uint64_t mean_us = pick(draw, mood == 1 ? wild_means : means, 3);
        bool never = !generator_chance(draw, 1, kind == FAULT_LATE ? 2 : one_in);
        if (kind == FAULT_BOTH || kind == FAULT_MACHINE || kind == FAULT_STOP)
            mean_us *= 5;
        if (kind == FAULT_LATE) /* each lasts for a lease and three more */
            mean_us = max_u64(mean_us, world->config.lease_ms * 6000u);
        if (kind == FAULT_CLOCK) /* one jump within a wait for a lease, not many */
            mean_us = max_u64(mean_us, fence_us(world) * 4);
        if (!never && mood != 0 && !(world->options.without & 1u << kind) &&
            !world->options.scripted)
            rates->mean_us[kind] = mean_us;
    }
    rates->link_us = pick(draw, links, ARRAY_LENGTH(links));
    rates->link_jitter_us = rates->link_us * generator_below(draw, 5);
    rates->link_spike_per_mille = generator_chance(draw, 1, 3) ? generator_below(draw, 5) : 0;
    rates->read_us = pick(draw, stores, ARRAY_LENGTH(stores));
    rates->write_us = pick(draw, stores, ARRAY_LENGTH(stores));
    rates->flush_us = pick(draw, stores, ARRAY_LENGTH(stores)) * 2;
    rates->land_limit_us = land_limit_us(world);
    rates->late = generator_chance(draw, 1, 2) && !world->options.scripted;
    rates->torn_percent = generator_chance(draw, 1, 2) ? generator_below(draw, 50) : 0;
    rates->restart_us = pick(draw, restarts, ARRAY_LENGTH(restarts));
    rates->pump_delay_us = pick(draw, delays, ARRAY_LENGTH(delays));
    rates->proof_missing_percent = generator_chance(draw, 1, 3) ? generator_below(draw, 60) : 0;
    rates->leaves_listed = world->options.record != NULL;
    rates->data_moves = generator_chance(draw, 1, 2);
    rates->worst_percent = generator_chance(draw, 1, 2) ? generator_below(draw, 40) : 0;
    const struct listing *replay = world->options.replay;
    for (uint32_t i = 0; replay && i < replay->line_count; i++)
        if (replay->lines[i].kind != LISTING_HOST && replay->lines[i].kind != LISTING_LEAVE &&
            replay->lines[i].array == world->number)
            world_event(world, replay->lines[i].at_us - (replay->lines[i].kind == LISTING_HOLD),
                        EVENT_FAULT, 2, LISTED, i); /* a hold is armed before its pump */
    for (uint32_t kind = 0; kind < FAULT_OF_ARRAY && !replay; kind++)
        if (rates->mean_us[kind] > 0)
            world_event(world,
                        world->now_us + 50000 +
                            generator_below(&world->chaos, rates->mean_us[kind] * 2),
                        EVENT_FAULT, 2, kind, 0);
    if (world->options.scripted)
        for (uint32_t i = 0; i < ARRAY_LENGTH(script); i++)
            world_event(world, script[i].at_ms * 1000u, EVENT_FAULT, 2, FAULT_COUNT + i, 0);
    world_event(world, world->now_us + 100000, EVENT_OPERATOR, 2, 0, 0);
}

void faults_print(const struct world *world)
{
    const struct rates *rates = &world->rates;
    printf("delays: link %" PRIu64 "+%" PRIu64 " us, spikes %" PRIu64 "/1000, read %" PRIu64
           " write %" PRIu64 " flush %" PRIu64 " us, lands within %" PRIu64 " us%s, torn %" PRIu64
           "%%, pump %" PRIu64 " us\n",
           rates->link_us, rates->link_jitter_us, rates->link_spike_per_mille, rates->read_us,
           rates->write_us, rates->flush_us, rates->land_limit_us, rates->late ? " (late)" : "",
           rates->torn_percent, rates->pump_delay_us);
    printf("restart within %" PRIu64 " us, proofs missing %" PRIu64
           "%%, data %s, a fault with %" PRIu64 "%% of the changes of role\nfaults:",
           rates->restart_us, rates->proof_missing_percent, rates->data_moves ? "moves" : "stays",
           rates->worst_percent);
    for (int kind = 0; kind < FAULT_COUNT; kind++)
        if (rates->mean_us[kind] > 0)
            printf(" %s %" PRIu64, fault_name[kind], rates->mean_us[kind]);
    printf(" (mean us between)\n");
}

/* ---- the operator ---- */

static bool everyone_in_died(const struct world *world)
{
    for (uint8_t m = 0; m < 2; m++)
        if ((world->record.in & (1 << m)) && world->controllers[m].running &&
            world->controllers[m].incarnation == world->member[m])
            return false;
    return true;
}

static void accept_loss(struct world *world, uint8_t who)
{
    struct controller *controller = &world->controllers[who];
    const struct controller *other = &world->controllers[!who];
    bool dead = !other->running && other->last_dead_ops == 0;
    if (world->operator_pending[who] > 0 || controller->stop_asked)
        return;
    if (world->options.record && !world->healing)
        listing_add(world->options.record, &(struct listing_line){.at_us = world->now_us,
                                                                  .kind = LISTING_ACCEPT,
                                                                  .who = who,
                                                                  .array = world->number});
    bool lost = world->record.unclean && everyone_in_died(world);
    world_trace(world, "the operator accepts the loss at %c%s%s", world_letter(who),
                dead ? ", the peer is dead" : "", lost ? "" : ", although nothing is lost");
    if (lost) {
        bool volumes[VOLUME_LIMIT] = {false};
        for (uint32_t v = 0; v < world->config.volume_count; v++)
            if (cuts_is_original(world, (uint8_t)v))
                volumes[world->oracle_volume[v]] = true;
        oracle_accept_loss(world->oracle, volumes);
        cuts_loss(world);
        world->loss_epoch = world->record.epoch + 1;
        hosts_accept_loss(world);
        memset(world->state_done, 0, sizeof world->state_done);
        world->count.losses++;
    }
    world->operator_pending[who]++;
    array_operator_accept_loss(controller->array, world_clock(world, who), ++world->operator_handle,
                               dead);
    if (world->sites && !world->healing) { /* in a replay it is another event that asks for it */
        world_reseed(world, &world->latency, FAULT_OF_ARRAY + 1);
        world_touch_later(world, who);
    } else {
        world_touch(world, who);
    }
}

void faults_on_operator(struct world *world, const struct event *event)
{
    if (world->finishing || world->destroyed)
        return;
    bool hasty = event->index != 0; /* once, besides */
    for (uint8_t w = 0; w < 2; w++) {
        const struct controller *controller = &world->controllers[w];
        if (!controller->running || controller->paused)
            continue;
        bool happens_here = false, slip = !world->healing && !world->options.scripted &&
                                          !sites_quiet(world) &&
                                          generator_chance(&world->chaos, 1, hasty ? 2 : 60);
        if (slip || (controller->role == ROLE_OFFLINE && generator_chance(&world->chaos, 1, 2)))
            happens_here = true;
        if (happens_here && (world->healing || !world->options.replay))
            accept_loss(world, w); /* a replay's acceptances are in its listing */
    }
    if (!hasty)
        world_event(world, world->now_us + world_between(&world->chaos, 20000, 200000),
                    EVENT_OPERATOR, 2, 0, 0);
}

void faults_on_reply(struct world *world, uint8_t who, const struct operator_reply *reply)
{
    world_trace(world, "%c tells the operator: %s (%s)", world_letter(who), reply->text,
                reply->done ? "done" : "not done");
    if (world->operator_pending[who] == 0)
        world_fail(world, "%c answers an operator who did not ask", world_letter(who));
    world->operator_pending[who]--;
    if (reply->done && strncmp(reply->text, "accepted:", 9) == 0)
        world->controllers[who].accepted = true;
    if (world->sites)
        sites_on_reply(world, who, reply);
}

static void move_volume(struct world *world, uint8_t who, uint8_t volume, uint8_t to)
{
    struct controller *controller = &world->controllers[who];
    if (!controller->running || controller->paused || controller->stop_asked)
        return;
    world->count.moves++;
    world->operator_pending[who]++;
    world_trace(world, "the operator moves volume %u to %c, at %c", volume, world_letter(to),
                world_letter(who));
    array_operator_move(controller->array, world_clock(world, who), ++world->operator_handle,
                        volume, to);
    world_touch(world, who);
}

static void move(struct world *world, uint8_t who)
{
    uint8_t volume = (uint8_t)generator_below(&world->chaos, world->config.volume_count);
    uint8_t to = (uint8_t)generator_below(&world->chaos, 2);
    move_volume(world, who, volume, to);
}

/* Sometimes volumes are on their way to it, or the other one is stopped, too. */
static void stop(struct world *world, uint8_t who)
{
    struct controller *controller = &world->controllers[who];
    if (!controller->running || controller->paused || controller->stop_asked)
        return;
    controller->stop_asked = true;
    world_trace(world, "the operator stops %c", world_letter(who));
    array_operator_stop(controller->array, world_clock(world, who));
    world_touch(world, who);
    uint64_t also = generator_below(&world->chaos, 6);
    for (uint32_t i = 0; i < world->config.volume_count && also < 2; i++)
        move_volume(world, !who, (uint8_t)i, who);
    if (also == 2)
        stop(world, !who);
}

/* ---- faults ---- */

static void fail_store(struct world *world, bool slow)
{
    struct generator *chaos = &world->chaos;
    struct disk *disk = &world->disks[generator_below(chaos, world->config.store_count)];
    uint64_t until_us = world->now_us + world_between(chaos, 100, 500000);
    if (slow) {
        disk->slow_until_us = until_us;
        world_trace(world, "a store is slow until %" PRIu64, until_us);
        return;
    }
    disk->error_until_us = until_us;
    disk->error_from = 0;
    disk->error_to = disk->size;
    if (generator_chance(chaos, 2, 3)) {
        disk->error_from = generator_below(chaos, disk->size);
        disk->error_to = disk->error_from + 1 + generator_below(chaos, 64 * PAGE_SIZE_BYTES);
    }
    disk->error_reads = generator_chance(chaos, 1, 2);
    disk->error_space = generator_chance(chaos, 1, 3);
    world_trace(world, "a store fails until %" PRIu64 ", %" PRIu64 " to %" PRIu64 "%s%s", until_us,
                disk->error_from, disk->error_to, disk->error_reads ? ", reads too" : "",
                disk->error_space ? ", no space" : "");
}

/* An answer comes late, just before nothing comes any more: whoever counts his lease from the
 * answer, and not from what he asked, serves for too long. */
static void late_answer(struct world *world)
{
    struct generator *chaos = &world->chaos;
    uint64_t for_us = world_between(chaos, 1000, world->config.lease_ms * 900u);
    wires_stall_path(world, (uint8_t)generator_below(chaos, 2), for_us);
    /* What was stalled goes on 100 us after the path is open: the silence begins just behind it. */
    world_event(world, world->now_us + for_us + 101 + generator_below(chaos, 20), EVENT_FAULT, 2,
                SILENCE, 0);
}

static void cut_paths(struct world *world, bool both)
{
    struct generator *chaos = &world->chaos;
    uint64_t for_us = generator_chance(chaos, 1, 2)
                          ? world_between(chaos, 100, 30000)
                          : world_between(chaos, 1000, world->config.lease_ms * 4000u);
    uint8_t from = (uint8_t)generator_below(chaos, 2);
    wires_cut_path(world, from, for_us);
    if (both)
        wires_cut_path(world, !from, for_us);
}

static void lose_register(struct world *world)
{
    struct generator *chaos = &world->chaos;
    uint64_t until_us = world->now_us + world_between(chaos, 1000, world->config.lease_ms * 4000u);
    uint64_t how = generator_below(chaos, 4);
    world_trace(world, "the register is %s until %" PRIu64, how == 3 ? "slow" : "out of reach",
                until_us);
    if (how == 3)
        world->register_slow_us = until_us;
    if (how == 0 || how == 2)
        world->register_down_us[0] = until_us;
    if (how == 1 || how == 2)
        world->register_down_us[1] = until_us;
}

/* The clock goes on from where it is, faster or slower, within what the leases allow for. */
static void change_clock(struct world *world, uint8_t who)
{
    struct generator *chaos = &world->chaos;
    struct controller *controller = &world->controllers[who];
    uint64_t now = world_clock(world, who);
    if (generator_chance(chaos, 1, 2) && world->now_us >= world->clock_jump_us) {
        now += generator_below(chaos, world->config.lease_ms * 1000u / 16);
        world->clock_jump_us = world->now_us + 2 * fence_us(world);
    }
    uint64_t skew = world->rates.skew_ppm;
    controller->clock_rate = world_between(chaos, 1000000 - skew, 1000000 + skew);
    controller->clock_offset = now - world->now_us * controller->clock_rate / 1000000;
    world_trace(world, "the clock of %c goes at %" PRIu64 " ppm, and shows %" PRIu64,
                world_letter(who), controller->clock_rate, now);
}

void faults_happen(struct world *world, enum fault_kind kind, uint8_t who)
{
    struct generator *chaos = &world->chaos;
    world->count.faults[kind]++;
    world_reseed(world, chaos, (uint64_t)kind);
    if (world->options.record)
        listing_add(world->options.record, &(struct listing_line){.at_us = world->now_us,
                                                                  .kind = LISTING_FAULT,
                                                                  .what = (uint8_t)kind,
                                                                  .who = who,
                                                                  .array = world->number});
    switch (kind) {
    case FAULT_CRASH: /* now and then its warden dies with it */
        world_kill(world, who, !generator_chance(chaos, world->rates.proof_missing_percent, 100));
        break;
    case FAULT_MACHINE:
        world_kill(world, who, false);
        break;
    case FAULT_BOTH:
        world_kill(world, who, generator_chance(chaos, 1, 2));
        world_kill(world, !who, generator_chance(chaos, 1, 2));
        break;
    case FAULT_PAUSE:
        world_pause(world, who,
                    world->options.scripted ? world->config.lease_ms * 2500u
                    : generator_chance(chaos, 1, 2)
                        ? world_between(chaos, 100, 20000)
                        : world_between(chaos, 1000, world->config.lease_ms * 3000u));
        break;
    case FAULT_BREAK:
        if (generator_chance(&world->chaos, 2, 3))
            wires_break(world, who, 20000);
        if (generator_chance(&world->chaos, 1, 2))
            ships_break(world, who, 20000);
        break;
    case FAULT_PARTITION:
        cut_paths(world, true);
        break;
    case FAULT_ONE_WAY:
        cut_paths(world, false);
        break;
    case FAULT_REGISTER:
        lose_register(world);
        break;
    case FAULT_ERROR:
        fail_store(world, false);
        break;
    case FAULT_SLOW:
        fail_store(world, true);
        break;
    case FAULT_POWER:
        disks_lose_power(world, (uint8_t)generator_below(chaos, world->config.store_count));
        break;
    case FAULT_CORRUPT:
        world->corrupt_next = 1;
        break;
    case FAULT_MOVE:
        move(world, who);
        break;
    case FAULT_STOP:
        stop(world, who);
        break;
    case FAULT_CUT:
        world->cut_armed = true;
        world->cut_behind_batch = generator_chance(&world->chaos, 1, 3);
        world->cut_behind_pairing = generator_chance(&world->chaos, 1, 4);
        break;
    case FAULT_LATE:
        late_answer(world);
        break;
    case FAULT_CLOCK:
        change_clock(world, who);
        break;
    case FAULT_LONG_BREAK:
    case FAULT_LONG_STALL:
    case FAULT_LONG_SLOW:
    case FAULT_LONG_CORRUPT:
        if (world->copies)
            copies_fault(world, kind, who);
        break;
    case FAULT_SUSPEND:
    case FAULT_SITE:
        if (world->copies)
            sites_fault(world, kind, who);
        break;
    case FAULT_CALL_BREAK:
    case FAULT_CALL_STALL:
    case FAULT_CALL_CORRUPT:
    case FAULT_CALL_STRIKE:
        if (world->calls)
            calls_fault(world, kind, who);
        break;
    case FAULT_STRAY:
    case FAULT_COUNT:
        break;
    }
}

void faults_aim(struct world *world, enum fault_kind kind, uint8_t who, uint64_t after_us)
{
    /* Not at this instant: in a replay it would come before what is happening now. */
    world_event(world, world->now_us + 1 + after_us, EVENT_FAULT, 2, AIMED + kind * 2u + who, 0);
}

void faults_on_role(struct world *world, uint8_t who)
{
    struct generator *chaos = &world->chaos;
    if (world->healing || world->options.scripted ||
        !generator_chance(chaos, world->rates.worst_percent, 100))
        return;
    uint32_t kind = (uint32_t)generator_below(chaos, FAULT_OF_ARRAY);
    if (world->rates.mean_us[kind] == 0 || kind == FAULT_LATE || kind == FAULT_CLOCK)
        return;
    (void)who;
    uint64_t after_us = generator_below(chaos, 300);
    if (!world->options.replay) /* a replay has it in its listing */
        world_event(world, world->now_us + after_us, EVENT_FAULT, 2, ONCE + kind, 0);
}

void faults_on_takeover(struct world *world)
{
    bool soon = world->rates.mean_us[FAULT_POWER] > 0 && generator_chance(&world->chaos, 1, 2);
    uint64_t after_us = soon ? generator_below(&world->chaos, 5000) : 0;
    if (soon && !world->healing && !world->options.replay)
        world_event(world, world->now_us + after_us, EVENT_FAULT, 2, POWER_AFTER_DEATH, 0);
}

/* What ends a controller often ends a shelf of disks with it, or a little later: when the survivor
 * has just begun to read what the dead one had written. */
void faults_on_death(struct world *world)
{
    uint64_t until_us = world->config.lease_ms * 1500u + world->config.settle_ms * 1000u;
    if (world->rates.mean_us[FAULT_POWER] == 0 || !generator_chance(&world->chaos, 1, 3))
        return;
    if (generator_chance(&world->chaos, 1, 2))
        until_us = 30000;
    uint64_t after_us = generator_below(&world->chaos, until_us);
    if (!world->options.replay) /* a replay has it in its listing */
        world_event(world, world->now_us + after_us, EVENT_FAULT, 2, POWER_AFTER_DEATH, 0);
}

static void listed(struct world *world, const struct listing_line *line)
{
    if (world->healing)
        return;
    if (line->kind == LISTING_FAULT)
        faults_happen(world, (enum fault_kind)line->what, line->who);
    else if (line->kind == LISTING_HOLD)
        world->hold_armed[line->who] = true;
    else if (world->controllers[line->who].running && !world->controllers[line->who].paused)
        accept_loss(world, line->who);
}

void faults_on_fault(struct world *world, const struct event *event)
{
    const struct listing_line *line = NULL;
    uint32_t kind = event->index;
    if (event->index == LISTED) {
        line = &world->options.replay->lines[event->stamp];
        kind = line->kind == LISTING_FAULT ? line->what : FAULT_COUNT;
    }
    if (world->destroyed && (kind < FAULT_OF_ARRAY || kind >= FAULT_COUNT))
        return; /* but what happens between others goes on */
    if (line != NULL) {
        listed(world, line);
        return;
    }
    if (event->index == SILENCE && !world->healing) {
        wires_stall_path(world, 0, world->config.lease_ms * 3000u);
        wires_stall_path(world, 1, world->config.lease_ms * 3000u);
    }
    if (event->index == POWER_AFTER_DEATH && !world->healing)
        faults_happen(world, FAULT_POWER, 0);
    if (event->index >= SILENCE && event->index < ONCE)
        return;
    if (event->index >= AIMED) {
        uint32_t aim = event->index - AIMED;
        if (!world->healing)
            faults_happen(world, (enum fault_kind)(aim / 2), aim % 2);
        return;
    }
    if (event->index >= ONCE) {
        if (!world->healing && !sites_quiet(world))
            faults_happen(world, (enum fault_kind)(event->index - ONCE),
                          (uint8_t)generator_below(&world->chaos, 2));
        return;
    }
    if (event->index >= FAULT_COUNT) {
        faults_happen(world, script[event->index - FAULT_COUNT].kind,
                      script[event->index - FAULT_COUNT].who);
        return;
    }
    if (world->healing)
        return;
    if (!sites_quiet(world))
        faults_happen(world, (enum fault_kind)event->index,
                      (uint8_t)generator_below(&world->chaos, 2));
    world_event(world,
                world->now_us + 1 +
                    generator_below(&world->chaos, world->rates.mean_us[event->index] * 2),
                EVENT_FAULT, 2, event->index, 0);
}

void faults_heal(struct world *world)
{
    world->healing = true;
    if (world->destroyed)
        return;
    world->corrupt_next = 0;
    world->cut_armed = false;
    world->register_slow_us = world->now_us;
    for (int w = 0; w < 2; w++) {
        world->path_heals_us[w] = min_u64(world->path_heals_us[w], world->now_us);
        world->register_down_us[w] = world->now_us;
        if (!world->controllers[w].running)
            world_event(world, world->now_us + 1000, EVENT_RESTART, (uint8_t)w, 0,
                        world->controllers[w].incarnation);
    }
    for (uint32_t s = 0; s < world->config.store_count; s++)
        world->disks[s].error_until_us = world->disks[s].slow_until_us = world->now_us;
}
