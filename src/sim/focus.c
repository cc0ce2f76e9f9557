/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See focus.h. What strikes at a moment has dice of its own: a replay, which has the strikes in its
 * listing, meets the same chances in everything else. */

#include "sim/focus.h"

#include "sim/faults.h"
#include "sim/sites.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct focus {
    struct generator draw;
    uint32_t habits;
    enum moment wanted; /* the next strike waits for this one */
    uint64_t gap_us;    /* between two strikes, in the mean */
    uint64_t next_us;   /* none before */
    uint64_t until_us;  /* then another moment is wanted */
    bool site_due;
    uint8_t site_how;
};

static uint64_t pick(struct generator *generator, const uint64_t *from, size_t count)
{
    return from[generator_below(generator, count)];
}

#define PICK(generator, ...)                                                                       \
    pick((generator), (const uint64_t[]){__VA_ARGS__},                                             \
         sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

enum { USUAL_HABITS = 7 };

static const char *const habit_name[] = {"zeroes", "parts", "tight", "far",   "stalls",
                                         "slow",   "moves", "wide",  "falls", "hands"};

bool focus_has(const struct world *world, enum focus_habit habit)
{
    return world->focus && (world->focus->habits & habit) != 0;
}

bool focus_roomy(const struct world *second)
{
    return second->focus && !focus_has(second, FOCUS_TIGHT);
}

/* ---- what is drawn ---- */

/* An array that has lost its memory has nothing to say about its copy. */
static void calm(struct world *world, struct generator *draw)
{
    bool never = world->rates.mean_us[FAULT_MOVE] == 0;
    for (uint32_t kind = 0; kind < FAULT_OF_ARRAY; kind++) {
        uint64_t *mean_us = &world->rates.mean_us[kind];
        if (*mean_us == 0)
            continue;
        *mean_us = max_u64(*mean_us, 1000000); /* the strikes are enough */
        if (kind == FAULT_BOTH || kind == FAULT_MACHINE || kind == FAULT_STOP ||
            kind == FAULT_REGISTER || kind == FAULT_PARTITION || kind == FAULT_ERROR)
            *mean_us *= 10;
    }
    world->config.lease_ms = min_u32(world->config.lease_ms, 200);
    if (!focus_has(world, FOCUS_TIGHT))
        world->config.slot_count = max_u32(world->config.slot_count, 512);
    if (generator_chance(draw, 7, 8))
        world->rates.restart_us = min_u64(world->rates.restart_us, 100000);
    if (focus_has(world, FOCUS_SLOW)) {
        world->rates.write_us = PICK(draw, 200, 2000, 2000);
        world->rates.read_us = PICK(draw, 200, 2000, 2000);
    }
    if (focus_has(world, FOCUS_MOVES) && !(world->options.without & 1u << FAULT_MOVE))
        world->rates.mean_us[FAULT_MOVE] =
            focus_has(world, FOCUS_HANDS) ? 10000 : PICK(draw, 20000, 100000);
    if (focus_has(world, FOCUS_HANDS)) {
        if (never && world->rates.mean_us[FAULT_MOVE] > 0)
            world_event(world, world->now_us + 50000, EVENT_FAULT, 2, FAULT_MOVE, 0);
        world->rates.link_us = PICK(draw, 500, 2000);
        world->rates.link_jitter_us = world->rates.link_us;
    }
    if (focus_has(world, FOCUS_PARTS))
        world->config.destage_after_ms = (uint32_t)PICK(draw, 1, 1, 20);
}

/* A region is 16 pages, and is sent as a whole: only where there are many, most of which nobody
 * writes to, it can be seen that one was not marked. */
static void widen(struct world *first, struct generator *draw)
{
    for (uint32_t s = 0; s < first->config.store_count; s++)
        first->disks[s].size = 0;
    for (uint32_t v = 0; v < first->config.volume_count; v++) {
        struct volume_config *volume = &first->config.volumes[v];
        volume->size_bytes = PICK(draw, 256, 512, 1024) * PAGE_SIZE_BYTES;
        volume->store_offset_bytes = first->disks[volume->store].size;
        first->disks[volume->store].size += volume->size_bytes;
    }
}

/* With dice of their own: the other seeds are as they were before there were these habits. */
static void draw_seldom(struct world *first)
{
    struct focus *focus = first->focus;
    struct generator dice;
    generator_seed(&dice, first->options.seed * 0xD6E8FEB86659FD93u + 11);
    if (!generator_chance(&dice, 1, 2))
        return;
    if (generator_chance(&dice, 1, 2))
        focus->habits |= FOCUS_ZEROES;
    for (uint32_t i = USUAL_HABITS; i < ARRAY_LENGTH(habit_name); i++)
        focus->habits |= (uint32_t)generator_chance(&dice, 1, 2) << i;
    if (focus_has(first, FOCUS_HANDS)) {
        focus->habits |= FOCUS_WIDE | FOCUS_FALLS | FOCUS_MOVES;
        focus->habits &= ~(uint32_t)FOCUS_FAR;
    }
    if (focus_has(first, FOCUS_WIDE))
        widen(first, &dice);
    if (focus_has(first, FOCUS_FALLS) && !(first->options.without & 1u << FAULT_SUSPEND))
        first->rates.mean_us[FAULT_SUSPEND] = PICK(&dice, 100000, 300000);
}

void focus_draw(struct world *first, struct copies_rates *rates)
{
    struct generator decide;
    generator_seed(&decide, first->options.seed * 0xA24BAED4963EE407u + 9);
    bool closely = generator_chance(&decide, 1, 2) || first->options.groups == GROUPS_CLOSELY;
    if (first->options.replay || !closely)
        return;
    struct focus *focus = calloc(1, sizeof *focus);
    CHECK(focus != NULL);
    focus->draw = decide;
    for (struct world *at = first; at; at = at->next)
        at->focus = focus;
    struct generator *draw = &focus->draw;
    for (uint32_t i = 0; i < USUAL_HABITS; i++)
        focus->habits |= (uint32_t)generator_chance(draw, 1, 3) << i;
    focus->gap_us = PICK(draw, 50000, 200000, 500000);
    for (uint32_t v = 0; v < first->config.volume_count; v++) {
        uint64_t *size_bytes = &first->config.volumes[v].size_bytes;
        *size_bytes = min_u64(*size_bytes, PICK(draw, 8, 33, 64) * PAGE_SIZE_BYTES);
    }
    draw_seldom(first);
    rates->latency_us =
        focus_has(first, FOCUS_FAR) ? PICK(draw, 5000, 25000) : PICK(draw, 200, 1000);
    rates->jitter_us = rates->latency_us * generator_below(draw, 3) / 2;
    rates->bytes_per_ms = PICK(draw, 20000, 200000, 10000000);
    rates->notice_us = PICK(draw, 500, 20000);
    for (uint32_t kind = FAULT_LONG_BREAK; kind <= FAULT_SUSPEND; kind++)
        if (first->rates.mean_us[kind] > 0 &&
            !(kind == FAULT_SUSPEND && focus_has(first, FOCUS_FALLS)))
            first->rates.mean_us[kind] = max_u64(first->rates.mean_us[kind], 1000000);
    if (!(first->options.without & 1u << FAULT_LONG_STALL))
        first->rates.mean_us[FAULT_LONG_STALL] =
            focus_has(first, FOCUS_STALLS) ? PICK(draw, 100000, 400000) : 0;
    for (struct world *at = first; at; at = at->next)
        calm(at, draw);
}

void focus_draw_groups(struct world *first)
{
    if (first->focus == NULL)
        return;
    struct generator *draw = &first->focus->draw;
    for (uint32_t g = 0; g < first->config.group_count; g++) {
        struct group_config *group = &first->config.groups[g];
        group->shortest_us = PICK(draw, 200, 2000, 5000);
        if (focus_has(first, FOCUS_TIGHT)) {
            group->budget_pages = min_u32(group->budget_pages, (uint32_t)PICK(draw, 4, 8, 16));
            group->base_pages = (uint32_t)PICK(draw, 4, 16);
        }
        if (focus_has(first, FOCUS_HANDS)) {
            group->shortest_us = 200;
            group->base_pages = 4;
        }
        group->expose |= focus_has(first, FOCUS_ZEROES);
    }
}

void focus_destroy(struct world *first)
{
    free(first->focus);
}

void focus_print(const struct world *first)
{
    const struct focus *focus = first->focus;
    if (focus == NULL)
        return;
    printf("looks closely:");
    for (uint32_t i = 0; i < ARRAY_LENGTH(habit_name); i++)
        if (focus->habits & 1u << i)
            printf(" %s", habit_name[i]);
    printf("; strikes every %" PRIu64 " us\n", focus->gap_us);
}

/* ---- strikes ---- */

bool focus_takes_site(struct world *first, uint8_t how)
{
    struct focus *focus = first->focus;
    if (focus == NULL || !generator_chance(&focus->draw, 3, 4))
        return false;
    focus->site_due = true;
    focus->site_how = how;
    return true;
}

static const struct {
    enum fault_kind kind;
    uint32_t weight;
} strikes[] = {
    {FAULT_CRASH, 10},  {FAULT_CUT, 3},        {FAULT_BREAK, 3},      {FAULT_MOVE, 3},
    {FAULT_PAUSE, 2},   {FAULT_LONG_BREAK, 4}, {FAULT_LONG_STALL, 1}, {FAULT_POWER, 1},
    {FAULT_CORRUPT, 1}, {FAULT_SUSPEND, 1},    {FAULT_MACHINE, 1},
};

static enum fault_kind draw_kind(struct generator *draw)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < ARRAY_LENGTH(strikes); i++)
        sum += strikes[i].weight;
    uint64_t at = generator_below(draw, sum);
    size_t i = 0;
    while (at >= strikes[i].weight)
        at -= strikes[i++].weight;
    return strikes[i].kind;
}

static struct world *any_other(struct world *world, struct generator *draw)
{
    struct world *others[ARRAYS_LIMIT];
    uint32_t count = 0;
    for (struct world *at = world->root; at; at = at->next)
        if (at != world)
            others[count++] = at;
    return others[count > 1 ? generator_below(draw, count) : 0];
}

/* What a record or a role is not durable of yet is gone when both go at once. */
static bool takes_both(struct world *world, enum moment moment)
{
    bool record = moment == MOMENT_RECORD || moment == MOMENT_GROUP_ROLE;
    return record && generator_chance(&world->focus->draw, 1, 4);
}

static void strike(struct world *world, uint8_t owner, enum moment moment)
{
    uint8_t who = owner;
    struct focus *focus = world->focus;
    struct generator *draw = &focus->draw;
    struct world *at = generator_chance(draw, 1, 2) ? world : any_other(world, draw);
    struct world *first = world->root;
    enum fault_kind kind = draw_kind(draw);
    uint64_t after_us = generator_below(draw, PICK(draw, 1, 300, 5000));
    if (generator_chance(draw, 1, 3))
        who = !who;
    if (takes_both(world, moment)) {
        kind = FAULT_BOTH;
        at = world;
    }
    if (moment == MOMENT_AGAIN) { /* before the peer has it */
        kind = FAULT_CRASH;
        at = world;
        after_us = generator_below(draw, 1000);
    }
    if (moment == MOMENT_ZEROED && focus_has(world, FOCUS_WIDE)) { /* before it has said so */
        kind = FAULT_CRASH;
        at = world;
        who = owner;
        after_us = generator_below(draw, 1 + world->rates.flush_us);
    }
    if (focus->site_due) {
        kind = FAULT_SITE;
        who = focus->site_how;
        focus->site_due = false;
    }
    if (kind >= FAULT_OF_ARRAY)
        at = first;
    bool deadly = kind == FAULT_CRASH || kind == FAULT_CUT || kind == FAULT_MACHINE;
    bool whole = at->controllers[0].role == ROLE_PAIRED && at->controllers[0].running &&
                 at->controllers[1].role == ROLE_PAIRED && at->controllers[1].running;
    if (deadly && !whole && !generator_chance(draw, 1, 10))
        return; /* an array that has lost both has nothing to say */
    if (first->options.without & 1u << kind ||
        (kind == FAULT_POWER && at->rates.mean_us[FAULT_POWER] == 0))
        return; /* its stores keep no older state */
    faults_aim(at, kind, who, after_us);
}

static void want(struct focus *focus, uint64_t from_us)
{
    focus->wanted = (enum moment)generator_below(&focus->draw, MOMENT_USUAL);
    if (focus->habits & FOCUS_ZEROES && generator_chance(&focus->draw, 1, 2))
        focus->wanted = generator_chance(&focus->draw, 2, 3) ? MOMENT_ZEROED : MOMENT_ZERO_THERE;
    focus->next_us = from_us;
    focus->until_us = from_us + 200000;
}

void focus_at(struct world *world, uint8_t who, enum moment moment)
{
    struct focus *focus = world->focus;
    if (focus == NULL || world->healing || world->finishing || world->destroyed ||
        sites_quiet(world))
        return;
    struct generator *draw = &focus->draw;
    if (world->now_us > focus->until_us)
        want(focus, world->now_us);
    bool seldom =
        moment >= MOMENT_USUAL && generator_chance(draw, 1, moment >= MOMENT_OFTEN_ENOUGH ? 10 : 3);
    if (!seldom && (moment != focus->wanted || world->now_us < focus->next_us))
        return;
    strike(world, who, moment);
    want(focus, world->now_us + generator_below(draw, focus->gap_us * 2));
}
