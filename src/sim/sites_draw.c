/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Several arrays as a seed means them: their groups, what ties these, what the long way is like,
 * and what will become of the sites. The order of the draws is part of what a seed means. Nothing
 * here happens in virtual time. */

#include "sim/draw.h"
#include "sim/focus.h"
#include "sim/sites_inner.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t pick(struct generator *generator, const uint64_t *from, size_t count)
{
    return from[generator_below(generator, count)];
}

#define PICK(generator, ...)                                                                       \
    pick((generator), (const uint64_t[]){__VA_ARGS__},                                             \
         sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

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

void sites_tie_twins(const struct sites *sites, struct world *root)
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

void sites_name_volumes(struct world *root)
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

/* With dice of their own: the other seeds are as they were before there was this. */
static void draw_way_loss(struct sites *sites, const struct world *first)
{
    struct generator dice;
    generator_seed(&dice, first->options.seed * 0x9FB21C651E98DF25u + 13);
    if (sites->set != SET_NONE || first->options.without & 1u << FAULT_SITE ||
        first->options.replay || !generator_chance(&dice, 1, 4))
        return;
    sites->site_how = 1; /* there is a way home, and time for it */
    sites->site_after = first->options.steps * (5 + generator_below(&dice, 40)) / 100;
    sites->goes_home = true;
    sites->away_us = PICK(&dice, 20000, 100000, 1000000);
    sites->way_loss = WAY_LOSES_FIRST + (enum way_loss)generator_below(&dice, 2);
    sites->way_us = 1 + generator_below(&dice, PICK(&dice, 2000, 100000, 1000000, 1000000));
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
    draw_way_loss(sites, first);
    focus_draw(first, &sites->rates);
    draw_groups(sites, first, 0);
    focus_draw_groups(first);
    if (third) {
        sites->rates.bytes_per_ms = max_u64(sites->rates.bytes_per_ms, 20000);
        sites->rates.latency_us = min_u64(sites->rates.latency_us, 25000);
        draw_groups(sites, third, 1);
        draw_set(sites, first);
    }
    sites_tie_twins(sites, first);
    draw_second(sites, second);
    if (fourth)
        draw_second(sites, fourth);
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

void sites_print(const struct world *first)
{
    const struct sites *sites = first->sites;
    for (uint32_t g = 0; g < sites->group_count; g++) {
        const struct group_config *group = sites_config_of(first, g, 0),
                                  *there = sites_config_of(first, g, 1);
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
    if (sites->way_loss != WAY_LOSES_NONE)
        printf("%" PRIu64 " us after the way home has begun the %s site is lost\n", sites->way_us,
               sites->way_loss == WAY_LOSES_FIRST ? "first" : "second");
    focus_print(first);
}
