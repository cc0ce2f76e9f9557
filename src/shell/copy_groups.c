/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See copy_groups.h. A group's number is its place in the configuration, for the core too. Which
 * way a group goes is the core's to say, at any time: the sessions follow. */

#include "shell/copy_groups.h"

#include "base/bytes.h"
#include "shell/crypto.h"
#include "shell/group_file.h"
#include "shell/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct copy_group {
    struct copy_groups *all;
    uint8_t id[COPY_ID_SIZE];
    bool out_there; /* `out` was started: the group has an address */
    bool no_address_said;
    bool here; /* it was held here when that was last looked at */
    uint64_t batches_in, bytes_in;
    struct copy_outgoing out;
    struct copy_set *set; /* NULL: it coordinates none */
    bool leads;           /* its part of a set, when that was last looked at */
    bool initial;         /* see struct copy_group_counts */
    uint64_t sync_from, sync_left, sync_at_us;
    double sync_rate;
};

struct copy_groups {
    struct loop *loop;
    struct array *array;
    const struct config *config;
    uint32_t count;
    bool called; /* the core was, since its last pump */
    bool listens;
    struct timer look;
    struct copy_server server;
    struct group_files files;
    struct copy_group *group[GROUP_LIMIT];
};

static uint8_t number_of(const struct copy_group *group)
{
    for (uint8_t i = 0; i < group->all->count; i++)
        if (group->all->group[i] == group)
            return i;
    CHECK(false);
    return 0;
}

/* ---- from our sessions to the core ---- */

static void on_up(void *context, const struct copy_state *state)
{
    struct copy_group *group = context;
    group->all->called = true;
    group->initial |= state->promoted == 0;
    array_on_copy_up(group->all->array, group->all->loop->now_us, number_of(group), state);
}

static void on_state(void *context, const struct copy_state *state)
{
    struct copy_group *group = context;
    group->all->called = true;
    array_on_copy_state(group->all->array, group->all->loop->now_us, number_of(group), state);
}

static void on_down(void *context)
{
    struct copy_group *group = context;
    group->all->called = true;
    array_on_copy_down(group->all->array, group->all->loop->now_us, number_of(group));
}

static void on_answered(void *context, uint64_t number, bool good)
{
    struct copy_group *group = context;
    group->all->called = true;
    array_on_copy_answered(group->all->array, group->all->loop->now_us, number_of(group), number,
                           good);
}

static const struct copy_outgoing_user outgoing_user = {
    .up = on_up, .state = on_state, .down = on_down, .answered = on_answered};

/* ---- from other arrays' sessions to the core ---- */

static void on_asked(void *context, uint32_t group, struct copy_state *state)
{
    struct copy_groups *groups = context;
    groups->called = true;
    array_on_copy_heard(groups->array, groups->loop->now_us, (uint8_t)group);
    array_copy_state(groups->array, (uint8_t)group, state);
}

static void on_batch(void *context, uint32_t group, int half, uint32_t handle, const uint8_t *bytes,
                     uint32_t length)
{
    struct copy_groups *groups = context;
    groups->called = true;
    groups->group[group]->batches_in++;
    groups->group[group]->bytes_in += length;
    array_on_copy_heard(groups->array, groups->loop->now_us, (uint8_t)group);
    array_on_copy_message(groups->array, groups->loop->now_us, handle, (uint8_t)group, bytes,
                          length);
}

static void on_cut_asked(void *context, uint32_t group, struct cut_state *state)
{
    struct copy_groups *groups = context;
    array_cut_state(groups->array, (uint8_t)group, state);
}

static void on_cut(void *context, uint32_t group, uint32_t handle, const uint8_t *bytes,
                   uint32_t length)
{
    struct copy_groups *groups = context;
    groups->called = true;
    array_on_cut_message(groups->array, groups->loop->now_us, handle, (uint8_t)group, bytes,
                         length);
}

static const struct copy_server_user server_user = {
    .state = on_asked, .batch = on_batch, .cut_state = on_cut_asked, .cut = on_cut};

static void on_kept(void *context, uint8_t group, bool good)
{
    struct copy_groups *groups = context;
    groups->called = true;
    array_on_group_record_kept(groups->array, groups->loop->now_us, group, good);
}

/* ---- from the core ---- */

void copy_groups_perform(struct copy_groups *groups, const struct actions *actions)
{
    for (uint32_t i = 0; i < actions->group_record_count; i++) {
        const struct group_record *record = &actions->group_records[i];
        CHECK(record->group < groups->count);
        group_files_save(&groups->files, record->group, groups->group[record->group]->id,
                         record->bytes, record->length_bytes);
    }
    for (uint32_t i = 0; i < actions->copy_count; i++) {
        const struct copy_action *action = &actions->copies[i];
        CHECK(action->group < groups->count);
        copy_outgoing_send(&groups->group[action->group]->out, action->number, action->iov,
                           action->iov_count, action->length_bytes);
    }
    for (uint32_t i = 0; i < actions->copy_reply_count; i++)
        copy_server_answer(&groups->server, (uint32_t)actions->copy_replies[i].handle,
                           actions->copy_replies[i].good);
    for (uint32_t i = 0; i < actions->cut_count; i++) {
        CHECK(actions->cuts[i].group < groups->count);
        copy_set_send(groups->group[actions->cuts[i].group]->set, &actions->cuts[i]);
    }
    for (uint32_t i = 0; i < actions->cut_reply_count; i++)
        copy_server_answer(&groups->server, (uint32_t)actions->cut_replies[i].handle,
                           actions->cut_replies[i].good);
}

void copy_groups_reset(struct copy_groups *groups, uint32_t which)
{
    for (uint32_t i = 0; groups && i < groups->count; i++)
        if (which & 1u << i)
            array_session_reset(&groups->group[i]->out.session);
}

/* Whoever has, or believes to have, the group's truth has a session to the other array: it hears
 * there when that has changed. */
static void follow_role(struct copy_group *group)
{
    enum group_role role = array_group_role(group->all->array, number_of(group));
    bool primary = role == GROUP_ROLE_PRIMARY;
    if (group->out_there)
        array_session_want(&group->out.session, role != GROUP_ROLE_RECEIVING);
    else if (primary && !group->no_address_said)
        log_say(LOG_WARNING,
                "copy: group %s: it is sent from here now, but its section has no address = of "
                "array %s: write one and start again",
                group->all->config->groups[number_of(group)].name,
                group->all->config->groups[number_of(group)].array);
    group->no_address_said = primary;
}

bool copy_groups_flush(struct copy_groups *groups)
{
    if (!groups)
        return false;
    for (uint32_t i = 0; i < groups->count; i++) {
        follow_role(groups->group[i]);
        groups->group[i]->out.session.stream.pace = array_copy_pace(groups->array, (uint8_t)i);
        if (groups->group[i]->out_there)
            copy_outgoing_flush(&groups->group[i]->out);
        copy_set_flush(groups->group[i]->set);
    }
    if (groups->listens)
        copy_server_flush(&groups->server);
    return groups->called;
}

static uint64_t wall_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void copy_groups_wall(struct copy_groups *groups)
{
    if (!groups)
        return;
    groups->called = false; /* the pump follows */
    array_set_wall(groups->array, wall_us());
}

/* Who brings batches to a controller that lost the group is sent to the other one at once; when
 * nobody holds it, it asks again and again. */
static void look(struct timer *timer)
{
    struct copy_groups *groups =
        (struct copy_groups *)((char *)timer - offsetof(struct copy_groups, look));
    for (uint32_t i = 0; i < groups->count; i++) {
        struct copy_state state = {0};
        struct copy_group *group = groups->group[i];
        array_copy_state(groups->array, (uint8_t)i, &state);
        bool here = state.flags & COPY_STATE_HERE;
        group->initial |= state.promoted == 0;
        group->initial &= !(state.flags & COPY_STATE_CONSISTENT);
        if (group->here && !here)
            copy_server_leave(&groups->server, i);
        group->here = here;
        struct cut_state cut = {0};
        array_cut_state(groups->array, (uint8_t)i, &cut);
        bool leads = cut.flags & CUT_STATE_LEADER;
        if (group->leads && !leads)
            copy_server_leave_set(&groups->server, i);
        group->leads = leads;
    }
    loop_timer_set(groups->loop, timer, groups->loop->now_us + COPY_GROUPS_LOOK_MS * 1000ull);
}

/* The rate is that of the last seconds, the older ones counting less and less. */
static void sample(struct copy_group *group, const struct group_status *status, uint64_t now_us)
{
    enum { WEIGHT = 4 };
    uint64_t left = status->marked_regions;
    if (status->role == GROUP_ROLE_PRIMARY && status->state == GROUP_COPYING)
        group->initial = false;
    if (status->state != GROUP_SYNCING || left > group->sync_left) {
        group->sync_from = group->sync_left = left;
        group->sync_rate = 0;
    } else {
        double seconds = (double)(now_us - group->sync_at_us) / 1e6;
        double rate = (double)(group->sync_left - left) / (seconds > 0.001 ? seconds : 0.001);
        group->sync_rate =
            group->sync_rate > 0 ? (group->sync_rate * (WEIGHT - 1) + rate) / WEIGHT : rate;
        group->sync_left = left;
    }
    group->sync_at_us = now_us;
}

void copy_groups_sample(struct copy_groups *groups, const struct array_status *status)
{
    for (uint32_t i = 0; groups && i < groups->count; i++)
        sample(groups->group[i], &status->groups[i], groups->loop->now_us);
}

void copy_groups_counts(const struct copy_groups *groups, uint32_t number,
                        struct copy_group_counts *counts)
{
    CHECK(number < groups->count);
    const struct copy_group *group = groups->group[number];
    *counts = (struct copy_group_counts){.sends = group->out_there && group->out.session.wanted,
                                         .listens = groups->listens,
                                         .batches_in = group->batches_in,
                                         .bytes_in = group->bytes_in,
                                         .initial = group->initial,
                                         .sync_from = group->sync_from,
                                         .sync_rate = group->sync_rate,
                                         .now_wall_us = wall_us()};
    if (groups->listens)
        array_copy_state(groups->array, (uint8_t)number, &counts->here);
    if (group->out_there) {
        counts->link = group->out.session.counts;
        counts->out = group->out.counts;
    }
    copy_set_counts(group->set, &counts->set);
    const char *coordinator =
        groups->listens ? copy_server_coordinator(&groups->server, number) : NULL;
    if (coordinator)
        snprintf(counts->set.coordinator, sizeof counts->set.coordinator, "%s", coordinator);
    for (int half = 0; groups->listens && half < CONTROLLER_COUNT; half++) {
        const char *from = copy_server_from(&groups->server, number, half);
        if (from)
            snprintf(counts->from[half], sizeof counts->from[half], "%s", from);
    }
}

/* ---- starting ---- */

const char *copy_groups_fill(const struct config *config, struct array_config *made,
                             char why[TRACE_LINE])
{
    struct iscsi_crypto crypto = crypto_of_library();
    bool listens = config->controllers[0].copy.kind != ADDRESS_NONE;
    made->group_count = config->group_count;
    for (uint32_t i = 0; i < config->group_count; i++) {
        const struct config_group *from = &config->groups[i];
        struct group_config *to = &made->groups[i];
        uint64_t pages = config_group_memory(config, from) / PAGE_SIZE_BYTES;
        *to = (struct group_config){
            .side = from->receives ? GROUP_SECOND : GROUP_PRIMARY,
            .volume_count = from->volume_count,
            .budget_pages = (uint32_t)pages,
            .room_pages = listens ? (uint32_t)pages : 0,
            /* What differs is sent beside what hosts write, and not instead of it. */
            .base_pages = (uint32_t)min_u64(pages / 4, GROUP_BASE_PAGES),
            .shortest_us = from->cycle_ms * 1000ull,
            .expose = from->expose,
        };
        snprintf(to->name, sizeof to->name, "%s", from->name);
        for (uint32_t j = 0; j < from->volume_count; j++)
            to->volumes[j] = from->volumes[j].volume;
        if (!copy_identity(to->id, &crypto, config, from) ||
            !copy_set_fill(config, from, &crypto, &to->set))
            return "the cryptographic library has no SHA-256";
    }
    return NULL;
}

static const char *load_record(struct copy_groups *groups, uint8_t number,
                               const struct array_config *made, char why[TRACE_LINE])
{
    uint8_t *bytes;
    const uint8_t *record;
    uint32_t length;
    const char *wrong =
        group_files_load(&groups->files, number, groups->group[number]->id,
                         array_group_record_size(made, number), &bytes, &record, &length, why);
    if (!wrong && bytes)
        array_load_group(groups->array, number, record, length);
    free(bytes);
    return wrong;
}

static const char *start_group(struct copy_groups *groups, uint8_t number,
                               const struct array_config *made, int self, char why[TRACE_LINE])
{
    const struct config_group *config = &groups->config->groups[number];
    struct copy_group *group = calloc(1, sizeof *group);
    CHECK(group);
    group->all = groups;
    memcpy(group->id, made->groups[number].id, COPY_ID_SIZE);
    groups->group[groups->count++] = group;
    const char *wrong = load_record(groups, number, made, why);
    if (!wrong)
        wrong = copy_set_start(&group->set, groups->loop, groups->array, groups->config, number,
                               self, &groups->called, why);
    if (wrong || config->address_count == 0)
        return wrong;
    group->out_there = true;
    return copy_outgoing_start(&group->out, groups->loop, groups->config, config, self,
                               &outgoing_user, group, why);
}

const char *copy_groups_start(struct copy_groups **started, struct loop *loop, struct array *array,
                              const struct array_config *made, const struct config *config,
                              int self, char why[TRACE_LINE])
{
    *started = NULL;
    if (config->group_count == 0)
        return NULL;
    struct copy_groups *groups = calloc(1, sizeof *groups);
    CHECK(groups);
    groups->loop = loop;
    groups->array = array;
    groups->config = config;
    const char *wrong = group_files_start(&groups->files, loop, config, self, on_kept, groups, why);
    for (uint32_t i = 0; i < config->group_count && !wrong; i++)
        wrong = start_group(groups, (uint8_t)i, made, self, why);
    groups->listens = config->controllers[self].copy.kind != ADDRESS_NONE;
    if (!wrong && groups->listens)
        wrong = copy_server_start(&groups->server, loop, config, self, &server_user, groups, why);
    if (wrong)
        return wrong;
    groups->look.fire = look;
    if (groups->listens)
        loop_timer_set(loop, &groups->look, loop->now_us);
    *started = groups;
    return NULL;
}
