/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See sites.h. The operator takes one step at a time for each group, and asks again when his
 * controller died without an answer or refused. Hosts move to the other site at the moment at which
 * a failover is answered. What they had written and what was not promoted is lost then, but for the
 * way home: there nothing may be missing. */

#include "sim/sites_inner.h"

#include "sim/cuts.h"
#include "sim/draw.h"
#include "sim/faults.h"
#include "sim/focus.h"
#include "sim/hosts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const stage_name[] = {"copying",   "leaving",   "left",     "away",
                                         "reversing", "back",      "draining", "stopping",
                                         "homing",    "returning", "turning",  "alone"};

const struct group_config *sites_config_of(const struct world *root, uint32_t twin, int site)
{
    const struct twin *of = &root->twins[twin];
    return &of->site[site]->config.groups[of->group[site]];
}

void sites_create(struct world *first)
{
    struct sites *sites = first->sites;
    sites_tie_twins(sites, first);
    sites->group_count = first->twin_count;
    sites_name_volumes(first);
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
    case STAGE_RETURNING: /* or it has never heard that it is not the primary any more */
        return role != GROUP_ROLE_RECEIVING;
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

bool sites_is_leaving(const struct world *world, uint8_t volume)
{
    uint8_t place;
    uint32_t g = copies_group_of(world, volume, &place);
    if (g == COPIES_GROUPS || !world->second || world->options.without & 1u << FAULT_STRAY ||
        world->sites->set != SET_NONE)
        return false;
    const struct site_group *group = &world->sites->groups[world_twin(world, (uint8_t)g)];
    return group->stage == STAGE_LEAVING;
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
        case STAGE_RETURNING:
            cuts_return(first, world_group(first, g));
            hosts_move(first, g, false);
            stage_is(world, g, STAGE_ALONE, UINT64_MAX / 2);
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
        if (!goes_home(root, index))
            break;
        stage_is(first, index, STAGE_REVERSING, 1);
        if (sites->way_loss != WAY_LOSES_NONE)
            world_event(root, root->now_us + sites->way_us, EVENT_SITES, 2, SITE_ON_WAY, 0);
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
    case STAGE_RETURNING:
        asks(first, index, GROUP_FAILOVER, true);
        break;
    case STAGE_TURNING:
        asks(first, index, GROUP_REVERSE, false);
        break;
    case STAGE_ALONE:
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

static void destroy(struct world *first)
{
    world_trace(first, "the %s is lost for good",
                first->second   ? "second site"
                : first->number ? "other primary array"
                                : "first site");
    first->destroyed = true;
    world_kill(first, 0, false);
    world_kill(first, 1, false);
}

/* Whether what an operator does then is known: not while he asks the lost site for something that
 * the other one may have heard of, or not. */
static bool may_lose_on_way(const struct world *root)
{
    const struct sites *sites = root->sites;
    bool first = sites->way_loss == WAY_LOSES_FIRST;
    for (uint8_t g = 0; g < sites->group_count; g++) {
        enum stage stage = sites->groups[g].stage;
        bool at_home = first ? stage == STAGE_LEAVING || stage == STAGE_AWAY : false;
        if (stage != STAGE_COPYING && stage != STAGE_BACK && stage != STAGE_DRAINING &&
            stage != STAGE_STOPPING && !(first && stage == STAGE_REVERSING) && !at_home)
            return false;
    }
    return true;
}

static void look_on_way(struct world *root)
{
    const struct sites *sites = root->sites;
    if (root->healing || root->destroyed || root->next->destroyed)
        return;
    if (may_lose_on_way(root))
        faults_happen(root, FAULT_SITE, (uint8_t)(SITE_HOW_WAY + sites->way_loss));
    else
        world_event(root, root->now_us + 20000, EVENT_SITES, 2, SITE_ON_WAY, 0);
}

/* The first site is lost: hosts stay where they are. The second: they go back to what has come home
 * so far. */
static void lose_on_way(struct world *root, bool is_first)
{
    struct sites *sites = root->sites;
    destroy(is_first ? root : root->next);
    for (uint8_t g = 0; g < sites->group_count; g++) {
        enum stage stage = sites->groups[g].stage;
        bool away = stage != STAGE_COPYING && stage != STAGE_LEAVING;
        if (away)
            set_closed(root->next, g, !is_first);
        if (is_first && stage != STAGE_LEAVING)
            stage_is(root, g, away ? STAGE_AWAY : STAGE_LEAVING, sites->leave_us);
        else if (!is_first)
            stage_is(root, g, away ? STAGE_RETURNING : STAGE_ALONE, sites->leave_us);
    }
}

void sites_on_turn(struct world *world, const struct event *event)
{
    struct sites *sites = world->sites;
    for (const struct world *at = world; at; at = at->next)
        if (at->finishing)
            return;
    if (event->index == SITE_ON_WAY) {
        look_on_way(world);
        return;
    }
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
            sites->lose_by_us = world->now_us + calls_arm_site(world->calls);
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
    if (who > SITE_HOW_WAY) {
        lose_on_way(world, who == SITE_HOW_WAY + WAY_LOSES_FIRST);
        return;
    }
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
        const struct group_config *group = sites_config_of(first, g, 0);
        uint64_t pages = 0;
        for (uint32_t i = 0; i < group->volume_count; i++)
            pages += from->config.volumes[group->volumes[i]].size_bytes / PAGE_SIZE_BYTES + 1;
        uint32_t room = min_u32(group->room_pages, sites_config_of(first, g, 1)->room_pages);
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
        bool stays =
            (group->stage == STAGE_AWAY && !goes_home(first, g)) || group->stage == STAGE_ALONE;
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
        const struct group_config *ours = sites_config_of(root, g, 0),
                                  *theirs = sites_config_of(root, g, 1);
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
