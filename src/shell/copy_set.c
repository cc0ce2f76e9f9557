/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See copy_set.h. It decides nothing: which member is asked what is the core's to say, and sessions
 * are there as long as this array may have the group's truth. */

#include "shell/copy_set.h"

#include <stdlib.h>
#include <string.h>

/* The session to one member. */
struct member {
    struct copy_set *set;
    uint8_t place;
    bool there; /* it is at another array */
    struct cut_outgoing out;
};

struct copy_set {
    struct loop *loop;
    struct array *array;
    bool *called;
    uint8_t group;
    uint32_t count;
    struct member members[CONFIG_SET_LIMIT];
};

_Static_assert((int)CONFIG_SET_LIMIT == (int)SET_LIMIT, "what a file may say the core can do");

/* ---- from the sessions to the core ---- */

static void on_up(void *context, const struct cut_state *state)
{
    struct member *member = context;
    struct copy_set *set = member->set;
    *set->called = true;
    array_on_cut_up(set->array, set->loop->now_us, set->group, member->place, state);
}

static void on_state(void *context, const struct cut_state *state)
{
    struct member *member = context;
    struct copy_set *set = member->set;
    *set->called = true;
    array_on_cut_state(set->array, set->loop->now_us, set->group, member->place, state);
}

static void on_down(void *context)
{
    struct member *member = context;
    struct copy_set *set = member->set;
    *set->called = true;
    array_on_cut_down(set->array, set->loop->now_us, set->group, member->place);
}

static void on_answered(void *context, uint64_t number, bool good)
{
    struct member *member = context;
    struct copy_set *set = member->set;
    *set->called = true;
    array_on_cut_answered(set->array, set->loop->now_us, set->group, member->place, number, good);
}

static const struct cut_outgoing_user user = {
    .up = on_up, .state = on_state, .down = on_down, .answered = on_answered};

/* ---- from the core ---- */

void copy_set_send(struct copy_set *set, const struct cut_action *action)
{
    CHECK(set && action->member < set->count && set->members[action->member].there);
    cut_outgoing_send(&set->members[action->member].out, action->number, action->bytes,
                      action->state_wanted);
}

void copy_set_flush(struct copy_set *set)
{
    bool wanted = set && array_group_role(set->array, set->group) != GROUP_ROLE_RECEIVING;
    for (uint32_t i = 0; set && i < set->count; i++) {
        if (!set->members[i].there)
            continue;
        array_session_want(&set->members[i].out.session, wanted);
        array_session_flush(&set->members[i].out.session);
    }
}

void copy_set_counts(const struct copy_set *set, struct copy_set_counts *counts)
{
    counts->coordinates = set != NULL;
    for (uint32_t i = 0; set && i < set->count; i++) {
        const struct cut_outgoing *out = &set->members[i].out;
        if (set->members[i].there)
            counts->members[i] = (struct copy_set_member){out->session.counts, out->messages};
    }
}

/* ---- starting ---- */

bool copy_set_fill(const struct config *config, const struct config_group *group,
                   const struct iscsi_crypto *crypto, struct group_set *set)
{
    *set = (struct group_set){0};
    if (group->set_count == 0)
        return true;
    set->member_count = (uint8_t)group->set_count;
    set->self = (uint8_t)config_set_place_of(config, group);
    set->hold_ms = group->hold_ms;
    return copy_set_identity(set->id, crypto, group);
}

const char *copy_set_start(struct copy_set **started, struct loop *loop, struct array *array,
                           const struct config *config, uint8_t number, int self, bool *called,
                           char why[TRACE_LINE])
{
    const struct config_group *group = &config->groups[number];
    const char *wrong = NULL;
    *started = NULL;
    if (group->set_count == 0 || group->receives || config_set_place_of(config, group) != 0)
        return NULL;
    struct copy_set *set = calloc(1, sizeof *set);
    CHECK(set);
    set->loop = loop;
    set->array = array;
    set->called = called;
    set->group = number;
    set->count = group->set_count;
    for (uint32_t i = 1; i < set->count && !wrong; i++) {
        set->members[i] = (struct member){.set = set, .place = (uint8_t)i, .there = true};
        wrong = cut_outgoing_start(&set->members[i].out, loop, config, group, i, self, &user,
                                   &set->members[i], why);
    }
    *started = set;
    return wrong;
}
