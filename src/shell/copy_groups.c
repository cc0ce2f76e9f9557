/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See copy_groups.h. A group's number is its place in the configuration, for the core too. */

#include "shell/copy_groups.h"

#include "base/bytes.h"
#include "shell/crypto.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct copy_group {
    struct copy_groups *all;
    struct copy_outgoing out;
};

struct copy_groups {
    struct loop *loop;
    struct array *array;
    uint32_t count;
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

/* ---- from the sessions to the core ---- */

static void on_up(void *context, const struct copy_state *state)
{
    struct copy_group *group = context;
    array_on_copy_up(group->all->array, group->all->loop->now_us, number_of(group), state);
}

static void on_down(void *context)
{
    struct copy_group *group = context;
    array_on_copy_down(group->all->array, group->all->loop->now_us, number_of(group));
}

static void on_answered(void *context, uint64_t number, bool good)
{
    struct copy_group *group = context;
    array_on_copy_answered(group->all->array, group->all->loop->now_us, number_of(group), number,
                           good);
}

static const struct copy_outgoing_user user = {
    .up = on_up, .down = on_down, .answered = on_answered};

/* ---- from the core to the sessions ---- */

void copy_groups_send(struct copy_groups *groups, const struct copy_action *actions, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct copy_action *action = &actions[i];
        CHECK(action->group < groups->count);
        copy_outgoing_send(&groups->group[action->group]->out, action->number, action->iov,
                           action->iov_count, action->length_bytes);
    }
}

void copy_groups_reset(struct copy_groups *groups, uint32_t which)
{
    for (uint32_t i = 0; groups && i < groups->count; i++)
        if (which & 1u << i)
            copy_outgoing_reset(&groups->group[i]->out);
}

void copy_groups_flush(struct copy_groups *groups)
{
    for (uint32_t i = 0; groups && i < groups->count; i++)
        copy_outgoing_flush(&groups->group[i]->out);
}

void copy_groups_wall(struct copy_groups *groups)
{
    struct timespec now;
    if (!groups)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    array_set_wall(groups->array, (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
}

void copy_groups_counts(const struct copy_groups *groups, uint32_t group,
                        struct copy_outgoing_counts *counts)
{
    CHECK(group < groups->count);
    *counts = groups->group[group]->out.counts;
}

/* ---- starting ---- */

const char *copy_groups_fill(const struct config *config, struct array_config *made,
                             char why[TRACE_LINE])
{
    struct iscsi_crypto crypto = crypto_of_library();
    made->group_count = config->group_count;
    for (uint32_t i = 0; i < config->group_count; i++) {
        const struct config_group *from = &config->groups[i];
        struct group_config *to = &made->groups[i];
        if (from->receives) {
            snprintf(why, TRACE_LINE, "[group %.60s]: this version does not receive copies yet",
                     from->name);
            return why;
        }
        uint64_t pages = config_group_memory(config, from) / PAGE_SIZE_BYTES;
        *to = (struct group_config){
            .side = GROUP_PRIMARY,
            .volume_count = from->volume_count,
            .budget_pages = (uint32_t)pages,
            /* What differs is sent beside what hosts write, and not instead of it. */
            .base_pages = (uint32_t)min_u64(pages / 4, GROUP_BASE_PAGES),
            .shortest_us = from->cycle_ms * 1000ull,
        };
        snprintf(to->name, sizeof to->name, "%s", from->name);
        for (uint32_t j = 0; j < from->volume_count; j++)
            to->volumes[j] = from->volumes[j].volume;
        if (!copy_identity(to->id, &crypto, config, from))
            return "the cryptographic library has no SHA-256";
    }
    return NULL;
}

const char *copy_groups_start(struct copy_groups **started, struct loop *loop, struct array *array,
                              const struct config *config, int self, char why[TRACE_LINE])
{
    *started = NULL;
    if (config->group_count == 0)
        return NULL;
    struct copy_groups *groups = calloc(1, sizeof *groups);
    CHECK(groups);
    groups->loop = loop;
    groups->array = array;
    for (uint32_t i = 0; i < config->group_count; i++) {
        struct copy_group *group = calloc(1, sizeof *group);
        CHECK(group);
        group->all = groups;
        groups->group[groups->count++] = group;
        const char *wrong = copy_outgoing_start(&group->out, loop, config, &config->groups[i], self,
                                                &user, group, why);
        if (wrong)
            return wrong;
    }
    *started = groups;
    return NULL;
}
