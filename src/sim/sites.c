/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See sites.h. The operator takes one step at a time for each group, and asks again when his
 * controller died without an answer or refused. Hosts move to the other site at the moment at which
 * a failover is answered. What they had written and what was not promoted is lost then, but for the
 * way home: there nothing may be missing. */

#include "sim/sites.h"

#include "sim/calls.h"
#include "sim/copies.h"
#include "sim/cuts.h"
#include "sim/draw.h"
#include "sim/faults.h"
#include "sim/focus.h"
#include "sim/hosts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum stage {
    STAGE_COPYING,   /* from the first site to the second */
    STAGE_LEAVING,   /* the copy is to be failed over */
    STAGE_LEFT,      /* it was, and hosts wait until all of the set are */
    STAGE_AWAY,      /* hosts are at the second site, nothing is copied */
    STAGE_REVERSING, /* it is to be copied back */
    STAGE_BACK,      /* it is being copied back */
    STAGE_DRAINING,  /* hosts wait, and all is to be copied */
    STAGE_STOPPING,  /* the group is to be suspended at the second site */
    STAGE_HOMING,    /* and failed over to the first */
    STAGE_TURNING,   /* hosts are at home again, and it is to be copied again */
};

enum { REFUSALS = 30 }; /* until he does something else */
enum { SETTLED_US = 5 * 1000 * 1000 };

/* What an EVENT_SITES says besides. */
enum { SITE_NOW = 1 };

static const char *const stage_name[] = {"copying", "leaving",  "left",     "away",   "reversing",
                                         "back",    "draining", "stopping", "homing", "turning"};

struct site_group {
    enum stage stage;
    uint64_t next_us; /* the operator's next look at it */
    enum group_action action;
    uint64_t handle; /* what he asked, and has no answer to; 0: nothing */
    struct world *asked;
    uint8_t asked_who;
    uint64_t asked_incarnation;
    uint32_t refusals;
    char said[TRACE_LINE]; /* the last refusal */
};

/* Groups of several primary arrays: none, or two with one second array for both, or one for each.
 */
enum set { SET_NONE, SET_SHARED, SET_APART };

struct sites {
    enum set set;
    struct generator draw;
    uint32_t group_count; /* twins */
    struct site_group groups[TWINS_LIMIT];
    uint64_t site_after; /* host requests until the first site is lost; UINT64_MAX: never */
    uint8_t site_how;    /* 0: for good, 1: it is given up while it lives */
    uint64_t away_us;    /* until hosts go home */
    uint64_t leave_us;   /* until the operator acts */
    bool goes_home;
    struct copies_rates rates;
    struct calls_rates calls;
    uint64_t cut; /* that the set is failed over to */
    bool cut_known, forced;
    bool late_faults;       /* of a set: none before it has begun */
    bool begun;             /* of a set: all copies have been one, or never will be */
    uint64_t at_first;      /* requests until then */
    uint64_t common_before; /* common cuts when the faults stopped */
    uint64_t lose_by_us;    /* a site is due to be lost, and will be by then; 0: it is not */
};

static uint64_t pick(struct generator *generator, const uint64_t *from, size_t count)
{
    return from[generator_below(generator, count)];
}

#define PICK(generator, ...)                                                                       \
    pick((generator), (const uint64_t[]){__VA_ARGS__},                                             \
         sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

/* ---- what a seed means ---- */

/* Dirty, pinned and held pages share the cache. */
static void make_room(struct array_config *config)
{
    uint32_t high = max_u32(min_u32(config->dirty_high_percent, 70), 40);
    config->dirty_high_percent = (uint8_t)high;
    config->dirty_low_percent = (uint8_t)min_u32(config->dirty_low_percent, 35);
}

/* A group's share of what may be held. */
static uint32_t room_of(const struct array_config *config)
{
    return config->slot_count * config->dirty_high_percent / 100 / 2 / config->group_count;
}

/* `twin`: what its first group is in the whole. */
static void draw_groups(struct sites *sites, struct world *first, uint32_t twin)
{
    static const char *const ids[TWINS_LIMIT] = {"the identity....", "another identity"};
    struct generator *draw = &sites->draw;
    struct array_config *config = &first->config;
    config->slot_count = max_u32(config->slot_count, 128);
    make_room(config);
    config->group_count = 1;
    if (sites->set == SET_NONE && config->volume_count >= 2 && generator_chance(draw, 1, 4))
        config->group_count = 2;
    config->slot_count = max_u32(config->slot_count, 128 * config->group_count);
    uint32_t high = config->slot_count * config->dirty_high_percent / 100;
    uint32_t most = (config->slot_count - high) / 2 / config->group_count;
    for (uint32_t g = 0; g < config->group_count; g++) {
        struct group_config *group = &config->groups[g];
        *group = (struct group_config){.side = GROUP_PRIMARY};
        snprintf(group->name, sizeof group->name, "g%u", twin + g);
        memcpy(group->id, ids[twin + g], sizeof group->id);
        group->budget_pages = (uint32_t)PICK(draw, most, most, max_u32(most / 4, 2));
        group->room_pages = room_of(config);
        group->base_pages = (uint32_t)PICK(draw, 16, 64, 256);
        group->shortest_us = PICK(draw, 200, 2000, 20000, 100000);
        group->expose = generator_chance(draw, 1, 2);
    }
    for (uint32_t v = 0; v < config->volume_count; v++) {
        uint32_t g = (uint32_t)generator_below(draw, config->group_count);
        struct group_config *group = &config->groups[g];
        if (v < config->group_count) /* none stays empty */
            group = &config->groups[v];
        else if (generator_chance(draw, 1, 4))
            continue;
        group->volumes[group->volume_count++] = (uint8_t)v;
    }
}

static void add_volume(struct world *second, uint64_t size_bytes, uint8_t home)
{
    struct array_config *config = &second->config;
    struct generator *draw = &second->draw;
    struct volume_config *volume = &config->volumes[config->volume_count];
    uint8_t store = (uint8_t)generator_below(draw, config->store_count);
    if (size_bytes % config->stores[store].block_size_bytes != 0)
        config->stores[store].block_size_bytes = SECTOR_SIZE;
    struct disk *disk = &second->disks[store];
    snprintf(volume->name, sizeof volume->name, "w%u", config->volume_count);
    volume->store = store;
    volume->size_bytes = size_bytes;
    disk->size = (disk->size + PAGE_SIZE_BYTES - 1) / PAGE_SIZE_BYTES * PAGE_SIZE_BYTES;
    volume->store_offset_bytes = disk->size;
    disk->size += size_bytes;
    volume->home = home;
    volume->flush_destage = generator_chance(draw, 1, 4);
    config->volume_count++;
}

/* Which group is of which arrays: those of the first one are at the second one; in a set each
 * primary array has one. */
static void tie_twins(const struct sites *sites, struct world *root)
{
    struct world *second = root->next;
    root->twin_count = (uint8_t)min_u32(root->config.group_count, TWINS_LIMIT);
    for (uint8_t g = 0; g < root->twin_count; g++)
        root->twins[g] = (struct twin){{root, second}, {g, g}};
    if (sites->set == SET_NONE)
        return;
    root->twin_count = 2;
    root->twins[1] = (struct twin){{second->next, second}, {0, 1}};
    if (sites->set == SET_APART)
        root->twins[1] = (struct twin){{second->next, second->next->next}, {0, 0}};
}

/* The volumes of the groups, and sometimes one of its own. */
static void draw_second(struct sites *sites, struct world *second)
{
    const struct world *root = second->root;
    struct generator *draw = &sites->draw;
    struct array_config *config = &second->config;
    for (uint32_t s = 0; s < config->store_count; s++)
        second->disks[s].size = 0;
    config->volume_count = 0;
    config->slot_count = (uint32_t)PICK(draw, 128, 256, 512, 1024);
    bool far = sites->rates.latency_us >= 25000 ||
               sites->set != SET_NONE; /* with little room that would take hours */
    if (far)
        config->slot_count = sites->set != SET_NONE ? 4096 : 1024;
    config->group_count = 0;
    for (uint8_t t = 0; t < root->twin_count; t++)
        config->group_count += world_has_twin(second, t);
    bool roomy = focus_roomy(second) || sites->set != SET_NONE;
    if (roomy && sites->set == SET_NONE)
        config->slot_count = 1024;
    config->slot_count = max_u32(config->slot_count, 128 * config->group_count);
    make_room(config);
    uint32_t high = config->slot_count * config->dirty_high_percent / 100;
    uint32_t most = (config->slot_count - high) / 2 / config->group_count;
    bool before = generator_chance(draw, 1, 2);
    if (before) {
        uint8_t home = (uint8_t)generator_below(draw, 2);
        add_volume(second, PICK(draw, 8, 64) * PAGE_SIZE_BYTES, home);
    }
    for (uint32_t g = 0; g < config->group_count; g++) {
        const struct world *first = world_far(second, (uint8_t)g);
        const struct group_config *here =
            &first->config.groups[world_far_group(second, (uint8_t)g)];
        struct group_config *there = &config->groups[g];
        uint8_t home = (uint8_t)generator_below(draw, 2);
        *there = *here;
        there->side = GROUP_SECOND;
        there->budget_pages = most;
        uint32_t room = room_of(config);
        there->room_pages = (uint32_t)PICK(
            draw, room, room, far || roomy ? room : max_u32(room / 4, COPY_ROOM_LEAST));
        for (uint32_t i = 0; i < here->volume_count; i++) {
            there->volumes[i] = (uint8_t)config->volume_count;
            add_volume(second, first->config.volumes[here->volumes[i]].size_bytes, home);
        }
    }
}

/* What the oracle calls the volumes: those of the first array by their numbers, then of other
 * primary arrays, the second ones' own behind them; a copy has its original's. */
static void name_volumes(struct world *root)
{
    uint8_t next = 0;
    for (struct world *at = root; at; at = at->next)
        for (uint32_t v = 0; v < at->config.volume_count && !at->second; v++)
            at->oracle_volume[v] = next++;
    for (struct world *at = root; at; at = at->next)
        for (uint32_t v = 0; v < at->config.volume_count && at->second; v++) {
            uint8_t place;
            uint32_t g = copies_group_of(at, (uint8_t)v, &place);
            at->closed[v] = g < COPIES_GROUPS;
            if (!at->closed[v]) {
                at->oracle_volume[v] = next++;
                continue;
            }
            const struct world *far = world_far(at, (uint8_t)g);
            const struct group_config *group = &far->config.groups[world_far_group(at, (uint8_t)g)];
            at->oracle_volume[v] = far->oracle_volume[group->volumes[place]];
        }
}

static void draw_way(struct sites *sites, struct world *first)
{
    struct generator *draw = &sites->draw;
    struct copies_rates *rates = &sites->rates;
    rates->latency_us = PICK(draw, 200, 1000, 1000, 5000, 25000, 100000);
    rates->jitter_us = rates->latency_us * generator_below(draw, 3) / 2;
    rates->bytes_per_ms = PICK(draw, 2000, 20000, 200000, 10000000);
    rates->slow_bytes = PICK(draw, 50, 500, 5000);
    rates->notice_us = PICK(draw, 20000, 1000000);
    rates->ask_us = PICK(draw, 100000, 1000000);
    rates->record_us = PICK(draw, 100, 5000, 50000);
    static const uint64_t means[] = {50000, 300000, 2000000};
    uint64_t one_in = PICK(draw, 2, 4, 8);
    for (uint32_t kind = FAULT_LONG_BREAK; kind <= FAULT_SUSPEND; kind++) {
        bool never = !generator_chance(draw, 1, one_in);
        uint64_t mean_us = pick(draw, means, ARRAY_LENGTH(means));
        if (kind == FAULT_SUSPEND)
            mean_us *= 5;
        if (!never && !(first->options.without & 1u << kind))
            first->rates.mean_us[kind] = mean_us;
    }
    uint64_t fate = generator_below(draw, 10);
    uint64_t share = generator_below(draw, 70) + 20;
    sites->site_after = fate < 4 ? UINT64_MAX : first->options.steps * share / 100;
    sites->site_how = fate >= 7;
    if (first->options.without & 1u << FAULT_SITE)
        sites->site_after = UINT64_MAX;
    sites->leave_us = PICK(draw, 1000, 100000, 2000000);
    sites->away_us = PICK(draw, 100000, 1000000, 5000000);
    sites->goes_home = generator_chance(draw, 3, 4);
}

/* What ties the groups of the two primary arrays. */
static void draw_set(struct sites *sites, struct world *root)
{
    struct generator *draw = &sites->draw;
    struct calls_rates *rates = &sites->calls;
    uint32_t hold_ms = (uint32_t)PICK(draw, 5, 20, 50, 50, 200);
    struct world *primary[2] = {root, root->next->next};
    for (uint8_t m = 0; m < 2; m++) {
        struct array_config *config = &primary[m]->config;
        for (uint32_t v = 0; v < config->volume_count; v++) /* soon copied */
            config->volumes[v].size_bytes =
                min_u64(config->volumes[v].size_bytes, 64 * PAGE_SIZE_BYTES);
        config->slot_count =
            max_u32(config->slot_count, generator_chance(draw, 1, 12) ? 256 : 2048);
        config->dirty_high_percent = (uint8_t)min_u32(config->dirty_high_percent, 50);
        uint32_t high = config->slot_count * config->dirty_high_percent / 100;
        config->groups[0].budget_pages = (config->slot_count - high) / 2;
        config->groups[0].room_pages = room_of(config);
        config->groups[0].base_pages = 256;
        config->groups[0].shortest_us = min_u64(config->groups[0].shortest_us, 20000);
        struct group_set *set = &primary[m]->config.groups[0].set;
        *set = (struct group_set){.member_count = 2, .self = m, .hold_ms = hold_ms};
        memcpy(set->id, "one of two sets.", sizeof set->id);
    }
    bool calm = generator_chance(draw, 2, 3);
    sites->late_faults = generator_chance(draw, 7, 8);
    uint64_t least_us = calm ? 5000000 : 300000;
    for (struct world *at = root; at; at = at->next)
        for (uint32_t kind = 0; kind < FAULT_OF_ARRAY; kind++)
            if (at->rates.mean_us[kind] > 0)
                at->rates.mean_us[kind] = max_u64(at->rates.mean_us[kind], least_us);
    rates->latency_us = PICK(draw, 50, 200, 200, 1000, 1000, 5000);
    rates->jitter_us = rates->latency_us * generator_below(draw, 4) / 2;
    uint64_t round_ms = (rates->latency_us + rates->jitter_us) * 4 / 1000 + 15;
    for (uint8_t m = 0; m < 2; m++) /* else no cut is ever good */
        primary[m]->config.groups[0].set.hold_ms = max_u32(hold_ms, (uint32_t)round_ms);
    rates->notice_us = PICK(draw, 2000, 20000, 300000);
    rates->ask_us = PICK(draw, 100000, 1000000);
    static const uint64_t means[] = {50000, 300000, 2000000};
    uint64_t one_in = PICK(draw, 1, 2, 4);
    for (uint32_t kind = FAULT_CALL_BREAK; kind <= FAULT_CALL_STRIKE; kind++) {
        bool never = !generator_chance(draw, 1, one_in);
        uint64_t mean_us = pick(draw, means, ARRAY_LENGTH(means));
        if (!never && !(root->options.without & 1u << kind))
            root->rates.mean_us[kind] = mean_us;
    }
}

/* One more array, with dice of its own. */
static struct world *draw_array(struct world *root, bool second)
{
    struct world_options options = root->options;
    for (const struct world *at = root; at; at = at->next)
        options.seed = options.seed * 0x9E3779B97F4A7C15u + 0x632BE59BD9B4E019u;
    options.check_every = 0;
    options.fail_store = options.fail_message = options.fail_status = options.fail_register = 0;
    struct world *world = draw_world(&options, root, second);
    world->sites = root->sites;
    world->cell_bytes = root->cell_bytes;
    return world;
}

void sites_draw(struct world *first)
{
    struct generator decide;
    generator_seed(&decide, first->options.seed * 0xD1B54A32D192ED03u + 5);
    bool has = generator_chance(&decide, 1, 3);
    enum set set = first->options.sets ? SET_SHARED : SET_NONE;
    if (first->options.groups != GROUPS_DRAWN)
        has = first->options.groups >= GROUPS_ALWAYS;
    if (first->options.replay) {
        struct listing copy = *first->options.replay;
        const uint64_t *setting = listing_setting(&copy, "groups");
        has = setting && *setting > 0;
        setting = listing_setting(&copy, "set");
        set = setting ? (enum set)min_u64(*setting, SET_APART) : SET_NONE;
    }
    if (set != SET_NONE) {
        enum set drawn = generator_chance(&decide, 1, 2) ? SET_SHARED : SET_APART;
        set = first->options.replay ? set : drawn;
    }
    if (!(has || set != SET_NONE) || first->options.scripted)
        return;
    struct sites *sites = calloc(1, sizeof *sites);
    CHECK(sites != NULL);
    first->sites = sites;
    sites->draw = decide;
    sites->set = set;
    struct world *second = draw_array(first, true), *third = NULL, *fourth = NULL;
    if (set != SET_NONE)
        third = draw_array(first, false);
    if (set == SET_APART)
        fourth = draw_array(first, true);
    draw_way(sites, first);
    focus_draw(first, &sites->rates);
    draw_groups(sites, first, 0);
    focus_draw_groups(first);
    if (third) {
        sites->rates.bytes_per_ms = max_u64(sites->rates.bytes_per_ms, 20000);
        sites->rates.latency_us = min_u64(sites->rates.latency_us, 25000);
        draw_groups(sites, third, 1);
        draw_set(sites, first);
    }
    tie_twins(sites, first);
    draw_second(sites, second);
    if (fourth)
        draw_second(sites, fourth);
}

void sites_create(struct world *first)
{
    struct sites *sites = first->sites;
    tie_twins(sites, first);
    sites->group_count = first->twin_count;
    name_volumes(first);
    first->copies = copies_create(first);
    *copies_rates(first->copies) = sites->rates;
    first->cuts = cuts_create(first);
    for (struct world *at = first->next; at; at = at->next) {
        at->copies = first->copies;
        at->cuts = first->cuts;
    }
    if (sites->set != SET_NONE)
        for (struct world *at = first; at; at = at->next)
            at->calls = at == first ? calls_create(first, &sites->calls) : first->calls;
    if (!first->options.replay)
        for (uint32_t kind = FAULT_LONG_BREAK; kind < FAULT_COUNT; kind++)
            if (first->rates.mean_us[kind] > 0)
                world_event(first,
                            first->now_us + 50000 +
                                generator_below(&sites->draw, first->rates.mean_us[kind] * 2),
                            EVENT_FAULT, 2, kind, 0);
    world_event(first, first->now_us + 50000, EVENT_SITES, 2, 0, 0);
}

void sites_destroy(struct world *first)
{
    copies_destroy(first->copies);
    calls_destroy(first->calls);
    cuts_destroy(first->cuts);
    focus_destroy(first);
    free(first->sites);
}

#define EACH(name, field) visit(context, name, &(field), sizeof(field))

void sites_each_setting(struct world *first, each_setting *visit, void *context)
{
    char name[LISTING_NAME];
    struct sites *sites = first->sites;
    EACH("set", sites->set);
    for (struct world *world = first; world; world = world->next) {
        snprintf(name, sizeof name, "%s%sgroups", world_name(world->number),
                 world->number ? "-" : "");
        EACH(name, world->config.group_count);
    }
    for (uint32_t g = 0; g < COPIES_GROUPS; g++)
        for (struct world *world = first; world; world = world->next) {
            char prefix[16];
            snprintf(prefix, sizeof prefix, "%s%s", world_name(world->number),
                     world->number ? "-" : "");
            struct group_config *group = &world->config.groups[g];
            snprintf(name, sizeof name, "%sgroup-%u-volumes", prefix, g);
            EACH(name, group->volume_count);
            for (uint32_t i = 0; i < group->volume_count && i < VOLUME_LIMIT; i++) {
                snprintf(name, sizeof name, "%sgroup-%u-place-%u", prefix, g, i);
                EACH(name, group->volumes[i]);
            }
            snprintf(name, sizeof name, "%sgroup-%u-budget", prefix, g);
            EACH(name, group->budget_pages);
            snprintf(name, sizeof name, "%sgroup-%u-room", prefix, g);
            EACH(name, group->room_pages);
            snprintf(name, sizeof name, "%sgroup-%u-base", prefix, g);
            EACH(name, group->base_pages);
            snprintf(name, sizeof name, "%sgroup-%u-shortest", prefix, g);
            EACH(name, group->shortest_us);
            snprintf(name, sizeof name, "%sgroup-%u-expose", prefix, g);
            EACH(name, group->expose);
            if (sites->set == SET_NONE)
                continue;
            snprintf(name, sizeof name, "%sgroup-%u-members", prefix, g);
            EACH(name, group->set.member_count);
            snprintf(name, sizeof name, "%sgroup-%u-member", prefix, g);
            EACH(name, group->set.self);
            snprintf(name, sizeof name, "%sgroup-%u-hold", prefix, g);
            EACH(name, group->set.hold_ms);
        }
    if (sites->set != SET_NONE) {
        EACH("call-latency", sites->calls.latency_us);
        EACH("call-jitter", sites->calls.jitter_us);
        EACH("call-notice", sites->calls.notice_us);
        EACH("call-ask", sites->calls.ask_us);
    }
    EACH("way-latency", sites->rates.latency_us);
    EACH("way-jitter", sites->rates.jitter_us);
    EACH("way-rate", sites->rates.bytes_per_ms);
    EACH("way-slow-rate", sites->rates.slow_bytes);
    EACH("way-notice", sites->rates.notice_us);
    EACH("way-ask", sites->rates.ask_us);
    EACH("way-record", sites->rates.record_us);
    EACH("site-leave", sites->leave_us);
    EACH("site-away", sites->away_us);
    EACH("site-home", sites->goes_home);
}

/* A twin's configuration at one of its arrays. */
static const struct group_config *config_of(const struct world *root, uint32_t twin, int site)
{
    const struct twin *of = &root->twins[twin];
    return &of->site[site]->config.groups[of->group[site]];
}

void sites_print(const struct world *first)
{
    const struct sites *sites = first->sites;
    for (uint32_t g = 0; g < sites->group_count; g++) {
        const struct group_config *group = config_of(first, g, 0), *there = config_of(first, g, 1);
        printf("group %u: volumes", g);
        for (uint32_t i = 0; i < group->volume_count; i++)
            printf(" %u:%u", group->volumes[i], there->volumes[i]);
        printf(", budget %u, room there %u, base %u, shortest cycle %" PRIu64 " us%s\n",
               group->budget_pages, there->room_pages, group->base_pages, group->shortest_us,
               group->expose ? ", hosts may read the copy" : "");
    }
    const struct copies_rates *rates = &sites->rates;
    printf("long way: %" PRIu64 "+%" PRIu64 " us, %" PRIu64 " bytes/ms (%" PRIu64
           " when slow), losses are heard of within %" PRIu64 " us\n",
           rates->latency_us, rates->jitter_us, rates->bytes_per_ms, rates->slow_bytes,
           rates->notice_us);
    if (sites->set != SET_NONE)
        printf("a set of two primary arrays and %s, completions held up to %u ms; between them "
               "%" PRIu64 "+%" PRIu64 " us, losses are heard of within %" PRIu64 " us\n",
               sites->set == SET_SHARED ? "one second array" : "two second arrays",
               first->config.groups[0].set.hold_ms, sites->calls.latency_us, sites->calls.jitter_us,
               sites->calls.notice_us);
    if (sites->site_after != UINT64_MAX)
        printf("after %" PRIu64 " requests the first site is %s\n", sites->site_after,
               sites->site_how ? "given up" : "lost");
    focus_print(first);
}

/* ---- the operator ---- */

static bool asks_cut(struct world *world, uint8_t index, enum group_action action, uint64_t cut,
                     bool force)
{
    struct site_group *group = &world->sites->groups[index];
    uint8_t first_try = (uint8_t)generator_below(&world->chaos, 2);
    for (uint8_t i = 0; i < 2; i++) {
        uint8_t who = (uint8_t)(first_try ^ i);
        struct controller *controller = &world->controllers[who];
        bool serves = controller->role == ROLE_PAIRED || controller->role == ROLE_SOLO;
        if (!controller->running || controller->paused || controller->stop_asked || !serves)
            continue;
        static const char *const names[] = {"suspends", "resumes", "fails over", "reverses",
                                            "resynchronises"};
        world_trace(world, "the operator %s group %u at %c%s", names[action], index,
                    world_letter(who), force ? ", by force" : "");
        world->operator_pending[who]++;
        group->handle = ++world->operator_handle;
        group->asked = world;
        group->action = action;
        group->asked_who = who;
        group->asked_incarnation = controller->incarnation;
        uint8_t number = world_group(world, index);
        uint64_t clock = world_clock(world, who);
        if (action == GROUP_FAILOVER && cut != 0)
            array_operator_failover(controller->array, clock, group->handle, number, cut, force);
        else
            array_operator_group(controller->array, clock, group->handle, number, action, force);
        cuts_decided(world, index);
        world_touch(world, who);
        return true;
    }
    return false;
}

static bool asks(struct world *world, uint8_t index, enum group_action action, bool force)
{
    return asks_cut(world, index, action, 0, force);
}

static bool waits(const struct site_group *group)
{
    if (group->handle == 0)
        return false;
    const struct controller *controller = &group->asked->controllers[group->asked_who];
    return controller->running && controller->incarnation == group->asked_incarnation;
}

static void set_closed(struct world *world, uint8_t index, bool closed)
{
    const struct group_config *group = &world->config.groups[world_group(world, index)];
    for (uint32_t i = 0; i < group->volume_count; i++)
        world->closed[group->volumes[i]] = closed;
}

/* Hosts go on at `to`. */
static void hosts_move(struct world *to, uint8_t index, bool lossless)
{
    uint8_t here = world_group(to, index), there = world_far_group(to, here);
    struct world *far = world_far(to, here);
    const struct group_config *group = &far->config.groups[there];
    for (uint32_t i = 0; i < group->volume_count; i++)
        hosts_leave_volume(far, group->volumes[i]);
    set_closed(far, index, true);
    if (!lossless) {
        cuts_failover(to, here);
        hosts_accept_loss(to); /* what was replaced last may be there again */
        hosts_accept_loss(far);
    } else {
        cuts_home(to, here);
    }
    set_closed(to, index, false);
    for (uint32_t i = 0; i < group->volume_count; i++)
        hosts_join_volume(to, to->config.groups[here].volumes[i]);
    to->count.failovers++;
}

static void stage_is(struct world *world, uint8_t index, enum stage stage, uint64_t after_us)
{
    struct site_group *group = &world->sites->groups[index];
    struct world *first = world->root->twins[index].site[0];
    group->stage = stage;
    group->refusals = 0;
    group->next_us = first->now_us + after_us;
    world_trace(first, "group %u is %s", index, stage_name[stage]);
}

/* He has asked before, and did not hear the answer. What one controller alone knows, and goes out
 * with, is not done: the one that holds the group says it. */
static bool is_done(const struct site_group *group, uint8_t index)
{
    struct copy_state state;
    uint8_t number = world_group(group->asked, index);
    uint8_t holder = copies_holder(group->asked, number, &state);
    if (holder == 2 || group->refusals == 0)
        return false;
    enum group_role role = array_group_role(group->asked->controllers[holder].array, number);
    switch (group->stage) {
    case STAGE_LEAVING:
    case STAGE_HOMING:
        return role == GROUP_ROLE_FAILED_OVER;
    case STAGE_REVERSING:
    case STAGE_TURNING:
        return role == GROUP_ROLE_PRIMARY;
    default:
        return false;
    }
}

bool sites_may_stray(const struct world *world, uint8_t volume)
{
    uint8_t place;
    uint32_t g = copies_group_of(world, volume, &place);
    if (g == COPIES_GROUPS || world->options.without & 1u << FAULT_STRAY)
        return false;
    enum stage stage = world->sites->groups[world_twin(world, (uint8_t)g)].stage;
    if (world->second)
        return stage == STAGE_COPYING && copies_is_copy(world, (uint8_t)g); /* it has heard of it */
    return stage == STAGE_AWAY || stage == STAGE_REVERSING || stage == STAGE_BACK;
}

/* Hosts go on when every second array of the set has done it. */
static void set_has_left(struct world *root)
{
    struct sites *sites = root->sites;
    for (uint8_t g = 0; g < sites->group_count; g++)
        if (sites->groups[g].stage != STAGE_LEFT)
            return;
    if (sites->forced)
        root->count.forced_failovers++;
    else
        cuts_check_failover(root, sites->cut);
    root->count.common_failovers += !sites->forced;
    for (uint8_t g = 0; g < sites->group_count; g++) {
        hosts_move(root->twins[g].site[1], g, false);
        stage_is(root, g, STAGE_AWAY, sites->away_us);
    }
    copies_part(root->copies, false);
}

void sites_on_reply(struct world *world, uint8_t who, const struct operator_reply *reply)
{
    struct sites *sites = world->sites;
    for (uint8_t g = 0; g < sites->group_count; g++) {
        struct site_group *group = &sites->groups[g];
        struct world *first = world->root->twins[g].site[0];
        struct world *second = world->root->twins[g].site[1];
        if (group->handle != reply->handle || group->asked != world || group->asked_who != who)
            continue;
        group->handle = 0;
        if (group->action == GROUP_RESUME)
            return;
        if (!reply->done && !is_done(group, g)) {
            group->refusals++;
            snprintf(group->said, sizeof group->said, "%s", reply->text);
            return;
        }
        switch (group->stage) {
        case STAGE_LEAVING:
            if (sites->set != SET_NONE) {
                stage_is(world, g, STAGE_LEFT, 1);
                set_has_left(world->root);
                break;
            }
            hosts_move(second, g, false);
            stage_is(world, g, STAGE_AWAY, sites->away_us);
            break;
        case STAGE_REVERSING:
            stage_is(world, g, STAGE_BACK, 50000);
            break;
        case STAGE_STOPPING:
            stage_is(world, g, STAGE_HOMING, 1000);
            break;
        case STAGE_HOMING:
            hosts_move(first, g, cuts_whole(first, g));
            stage_is(world, g, STAGE_TURNING, 10000);
            break;
        case STAGE_TURNING:
            stage_is(world, g, STAGE_COPYING, 10000);
            break;
        default:
            break;
        }
        return;
    }
}

/* All that hosts have written at `from` has been promoted at the other site, which says that it is
 * consistent. */
static bool has_caught_up(const struct world *from, uint8_t index)
{
    static struct array_status status;
    struct copy_state state;
    uint8_t here = world_group(from, index);
    const struct world *far = world_far(from, here);
    if (copies_holder(far, world_far_group(from, here), &state) == 2 ||
        !(state.flags & COPY_STATE_CONSISTENT))
        return false;
    for (uint8_t w = 0; w < 2; w++) {
        const struct controller *controller = &from->controllers[w];
        if (!controller->running || controller->paused)
            return false;
        array_status(controller->array, world_clock(from, w), &status);
        const struct group_status *group = &status.groups[here];
        bool runs = group->state == GROUP_COPYING || group->state == GROUP_SYNCING;
        if (!runs || group->pinned_pages > 0 || group->tagged_pages > 0 || group->range_pages > 0 ||
            group->marked_regions > 0)
            return false;
    }
    return true;
}

/* An operator does not believe the record of one controller before he has started the other. */
static bool is_whole(const struct world *world)
{
    return world->controllers[0].running && world->controllers[1].running &&
           world->controllers[0].role == ROLE_PAIRED && world->controllers[1].role == ROLE_PAIRED;
}

/* The newest cut that any second array of the set has promoted, when all can be asked. */
static bool read_cut(struct world *root)
{
    struct sites *sites = root->sites;
    sites->cut = 0;
    for (uint8_t g = 0; g < sites->group_count; g++) {
        const struct twin *twin = &root->twins[g];
        struct copy_state state;
        if (copies_holder(twin->site[1], twin->group[1], &state) == 2)
            return false;
        sites->cut = max_u64(sites->cut, state.cut);
    }
    sites->cut_known = true;
    cuts_name(root, sites->cut);
    world_trace(root, "the set is to be failed over to cut %" PRIu64, sites->cut);
    return true;
}

/* All go to the same cut. When one refuses again and again, what it has is taken by force. */
static void leave_set(struct world *root, uint8_t index)
{
    struct sites *sites = root->sites;
    struct site_group *group = &sites->groups[index];
    struct world *second = root->twins[index].site[1];
    if (!sites->cut_known && !read_cut(root) && ++group->refusals < REFUSALS)
        return;
    if (group->refusals < REFUSALS && sites->cut != 0) {
        asks_cut(second, index, GROUP_FAILOVER, sites->cut, group->refusals > 0);
        return;
    }
    if (!cuts_may_refuse(root, sites->cut))
        world_fail(second, "cut %" PRIu64 " is refused: %.150s", sites->cut, group->said);
    sites->forced = true;
    asks(second, index, GROUP_FAILOVER, true);
}

/* Of a set all, or none. */
static bool goes_home(const struct world *root, uint8_t index)
{
    bool lost = root->twins[index].site[0]->destroyed;
    for (uint8_t g = 0; g < root->twin_count && root->sites->set != SET_NONE; g++)
        lost = lost || root->twins[g].site[0]->destroyed;
    return !lost && root->sites->goes_home;
}

/* The controller that reversed the group is gone, and the other one had no record of that. */
static bool forgot_reverse(const struct world *second, uint8_t index)
{
    struct copy_state state;
    uint8_t number = world_group(second, index), holder = copies_holder(second, number, &state);
    return holder != 2 &&
           array_group_role(second->controllers[holder].array, number) == GROUP_ROLE_FAILED_OVER;
}

static void look_at(struct world *root, uint8_t index)
{
    struct sites *sites = root->sites;
    struct site_group *group = &sites->groups[index];
    const struct twin *twin = &root->twins[index];
    struct world *first = twin->site[0], *second = twin->site[1];
    struct generator *chaos = &root->chaos;
    struct copy_state state;
    group->next_us = first->now_us + world_between(chaos, 20000, 200000);
    if (waits(group))
        return;
    group->handle = 0;
    struct world *where = group->stage >= STAGE_HOMING ? first : second;
    if (group->refusals > 0 && is_whole(where) && generator_chance(chaos, 1, 3)) {
        asks(where, index, GROUP_RESUME, true); /* perhaps it does not know what it is */
        return;
    }
    switch (group->stage) {
    case STAGE_LEAVING:
        if (sites->set != SET_NONE)
            leave_set(root, index);
        else
            asks(second, index, GROUP_FAILOVER, group->refusals > 0);
        break;
    case STAGE_LEFT:
        break;
    case STAGE_AWAY:
        if (goes_home(root, index))
            stage_is(first, index, STAGE_REVERSING, 1);
        break;
    case STAGE_REVERSING:
        asks(second, index, GROUP_REVERSE, false);
        break;
    case STAGE_BACK:
        if (has_caught_up(second, index) || generator_chance(chaos, 1, 20)) {
            set_closed(second, index, true);
            stage_is(first, index, STAGE_DRAINING, 20000);
        }
        break;
    case STAGE_DRAINING:
        if (forgot_reverse(second, index))
            asks(second, index, GROUP_REVERSE, false);
        else if (hosts_under_way(second, index) == 0 && has_caught_up(second, index))
            stage_is(first, index, STAGE_STOPPING, 1);
        else if (copies_holder(first, twin->group[0], &state) == 2 && is_whole(first))
            asks(first, index, GROUP_RESUME, true); /* it has lost its record */
        else if (!has_caught_up(second, index))
            asks(second, index, GROUP_RESUME, false); /* a loss was accepted there */
        break;
    case STAGE_STOPPING:
        asks(second, index, GROUP_SUSPEND, false);
        break;
    case STAGE_HOMING:
        asks(first, index, GROUP_FAILOVER, group->refusals > 0);
        break;
    case STAGE_TURNING:
        asks(first, index, GROUP_REVERSE, false);
        break;
    case STAGE_COPYING:
        /* A site that has lost more than one controller may not know any more what it is. */
        if (copies_holder(second, twin->group[1], &state) == 2 && is_whole(second))
            asks(second, index, GROUP_RESUME, true);
        else if (!has_caught_up(first, index) && (first->healing || generator_chance(chaos, 1, 2)))
            asks(first, index, GROUP_RESUME, is_whole(first));
        group->next_us = first->now_us + 1000000;
        break;
    }
}

void sites_on_turn(struct world *world, const struct event *event)
{
    struct sites *sites = world->sites;
    for (const struct world *at = world; at; at = at->next)
        if (at->finishing)
            return;
    uint64_t completed = world->count.completed;
    for (const struct world *at = world->next; at && sites->set != SET_NONE; at = at->next)
        completed += at->count.completed;
    if (sites->set != SET_NONE && !sites->begun) {
        sites->begun = cuts_common_count(world) > 2 || world->now_us > SETTLED_US;
        sites->at_first = completed;
    }
    bool due = completed >= sites->site_after && completed - sites->at_first >= sites->site_after;
    if (due && !world->healing && !world->options.replay) {
        sites->site_after = UINT64_MAX;
        if (world->calls && generator_chance(&sites->draw, 2, 3)) { /* in the middle of a cut */
            calls_arm_site(world->calls);
            sites->lose_by_us = world->now_us + 500000;
        } else if (!focus_takes_site(world, sites->site_how)) {
            sites->lose_by_us = world->now_us;
        }
    }
    bool now = event->index == SITE_NOW || world->now_us >= sites->lose_by_us;
    if (now && sites->lose_by_us > 0 && !world->healing) {
        sites->lose_by_us = 0;
        if (!focus_takes_site(world, sites->site_how))
            faults_aim(world, FAULT_SITE, sites->site_how, 0);
    }
    if (event->index == SITE_NOW)
        return;
    if (copies_apart(world->copies))
        copies_part(world->copies, true);
    for (uint8_t g = 0; g < sites->group_count; g++)
        if (world->now_us >= sites->groups[g].next_us)
            look_at(world, g);
    world_event(world, world->now_us + 10000, EVENT_SITES, 2, 0, 0);
}

/* ---- faults ---- */

void sites_strike(struct world *root, uint64_t after_us)
{
    world_event(root, root->now_us + after_us, EVENT_SITES, 2, SITE_NOW, 0);
}

static void destroy(struct world *first)
{
    world_trace(first, "the %s is lost for good",
                first->number ? "other primary array" : "first site");
    first->destroyed = true;
    world_kill(first, 0, false);
    world_kill(first, 1, false);
}

/* Of a set: one of its primary arrays, or both. */
static void lose_primaries(struct world *root)
{
    uint64_t how = generator_below(&root->chaos, 4);
    if (how != 1)
        destroy(root);
    if (how != 2)
        destroy(root->next->next);
}

void sites_fault(struct world *world, enum fault_kind kind, uint8_t who)
{
    struct sites *sites = world->sites;
    if (kind == FAULT_SUSPEND) {
        uint8_t g = (uint8_t)generator_below(&world->chaos, sites->group_count);
        struct site_group *group = &sites->groups[g];
        if (group->stage == STAGE_COPYING && !waits(group))
            asks(world->root->twins[g].site[0], g,
                 generator_chance(&world->chaos, 1, 2) ? GROUP_SUSPEND : GROUP_RESUME, false);
        return;
    }
    if (world->destroyed)
        return;
    if (who == 0 && sites->set == SET_NONE)
        destroy(world);
    else if (who == 0)
        lose_primaries(world);
    if (sites->set != SET_NONE) /* what lives there is out of reach, or the operator sees to it */
        copies_part(world->copies, true);
    for (uint8_t g = 0; g < sites->group_count; g++)
        if (sites->groups[g].stage == STAGE_COPYING)
            stage_is(world, g, STAGE_LEAVING, sites->leave_us);
}

void sites_heal(struct world *first)
{
    struct sites *sites = first->sites;
    copies_heal(first->copies);
    if (first->calls)
        calls_heal(first->calls);
    sites->lose_by_us = 0;
    sites->site_after = UINT64_MAX;
    sites->common_before = cuts_common_count(first);
    for (uint8_t g = 0; g < sites->group_count; g++)
        sites->groups[g].next_us = min_u64(sites->groups[g].next_us, first->now_us + 200000);
}

/* ---- rest ---- */

uint64_t sites_at_first(const struct world *root)
{
    return root->sites ? root->sites->at_first : 0;
}

bool sites_quiet(const struct world *world)
{
    return world->sites && world->sites->late_faults && !sites_begun(world->root);
}

bool sites_begun(const struct world *root)
{
    return root->sites == NULL || root->sites->set == SET_NONE || root->sites->begun;
}

uint64_t sites_rest_us(const struct world *first)
{
    const struct sites *sites = first->sites;
    uint64_t most_us = 0;
    for (uint8_t g = 0; g < sites->group_count; g++) {
        const struct world *from = first->twins[g].site[0];
        const struct group_config *group = config_of(first, g, 0);
        uint64_t pages = 0;
        for (uint32_t i = 0; i < group->volume_count; i++)
            pages += from->config.volumes[group->volumes[i]].size_bytes / PAGE_SIZE_BYTES + 1;
        uint32_t room = min_u32(group->room_pages, config_of(first, g, 1)->room_pages);
        uint64_t cycles = pages / min_u32(room / 16 + 1, group->base_pages) + 1;
        uint64_t cycle_us =
            group->shortest_us + 4 * sites->rates.latency_us + 4 * sites->rates.jitter_us + 10000;
        most_us = max_u64(most_us, cycles * cycle_us);
    }
    return most_us;
}

bool sites_resting(const struct world *first)
{
    const struct sites *sites = first->sites;
    bool copying = true;
    for (uint8_t g = 0; g < sites->group_count; g++) {
        const struct site_group *group = &sites->groups[g];
        const struct world *from = first->twins[g].site[0];
        bool stays = group->stage == STAGE_AWAY && !goes_home(first, g);
        if (waits(group) || (group->stage != STAGE_COPYING && !stays))
            return false;
        if (group->stage == STAGE_COPYING && !has_caught_up(from, g))
            return false;
        copying = copying && group->stage == STAGE_COPYING;
    }
    bool cuts = sites->set != SET_NONE && copying; /* they go on */
    return !cuts || cuts_common_count(first) > sites->common_before;
}

static size_t describe_at(const struct world *world, uint8_t twin, char *text, size_t size)
{
    static struct array_status status;
    uint8_t g = world_group(world, twin);
    size_t used = 0;
    for (uint8_t w = 0; w < 2 && used < size; w++) {
        if (!world->controllers[w].running)
            continue;
        array_status(world->controllers[w].array, world_clock(world, w), &status);
        const struct group_status *group = &status.groups[g];
        static const char *const roles[] = {"primary", "receiving", "failed over"};
        used += (size_t)snprintf(
            text + used, size - used, ", %s%s%c %s, pinned %" PRIu64 " marked %" PRIu64 " (%.70s)",
            world_name(world->number), world->number > 0 ? " " : "", world_letter(w),
            roles[array_group_role(world->controllers[w].array, g)], group->pinned_pages,
            group->marked_regions, group->reason);
    }
    return min_u64(used, size);
}

void sites_describe(const struct world *world, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (uint8_t g = 0; g < world->sites->group_count && used < size; g++) {
        const struct site_group *group = &world->sites->groups[g];
        const struct twin *twin = &world->root->twins[g];
        const struct world *first = twin->site[0];
        struct copy_state state;
        if (group->stage == STAGE_COPYING && !first->destroyed && has_caught_up(first, g))
            continue;
        uint8_t holder = copies_holder(twin->site[1], twin->group[1], &state);
        used += (size_t)snprintf(
            text + used, size - used, "; group %u %s%s%.60s, there at %c %s", g,
            stage_name[group->stage], group->refusals ? ", refused: " : "",
            group->refusals ? group->said : "", world_letter(holder),
            holder < 2 && state.flags & COPY_STATE_CONSISTENT ? "consistent" : "not consistent");
        if (used < size && !first->destroyed)
            used += describe_at(first, g, text + used, size - used);
        if (used < size)
            used += describe_at(twin->site[1], g, text + used, size - used);
    }
}

void sites_compare(struct world *root)
{
    const struct sites *sites = root->sites;
    for (uint8_t g = 0; g < sites->group_count; g++) {
        struct world *first = root->twins[g].site[0], *second = root->twins[g].site[1];
        const struct group_config *ours = config_of(root, g, 0), *theirs = config_of(root, g, 1);
        if (sites->groups[g].stage != STAGE_COPYING || first->destroyed)
            continue;
        for (uint32_t i = 0; i < ours->volume_count; i++) {
            uint8_t here = ours->volumes[i];
            uint8_t there = theirs->volumes[i];
            const struct volume_config *from = &first->config.volumes[here];
            const struct volume_config *to = &second->config.volumes[there];
            const uint8_t *a = first->disks[from->store].content + from->store_offset_bytes;
            const uint8_t *b = second->disks[to->store].content + to->store_offset_bytes;
            for (uint64_t at = 0; at < from->size_bytes; at += SECTOR_SIZE)
                if (memcmp(a + at, b + at, SECTOR_SIZE) != 0)
                    world_fail(first,
                               "after a clean stop of both sites volume %u, byte %" PRIu64
                               ", is not the same at the second one",
                               here, at);
            cuts_compare(second, there, b);
        }
    }
}
