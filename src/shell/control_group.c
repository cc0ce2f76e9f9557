/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See control_group.h. Clocks of two sites are compared where nothing else can be: what comes out
 * is shown, and nothing is decided by it. */

#include "shell/control_group.h"

#include "shell/control_set.h"

#include <string.h>

/* ---- judging ---- */

static bool late(const struct control_group *to, const struct config_group *config,
                 const struct copy_group_counts *counts)
{
    return to->behind_us >
           CONTROL_BEHIND_US + 2000ull * config->cycle_ms + 2 * counts->link.round_trip_us;
}

/* What keeps a set from being cut, or NULL. */
static const char *set_cause(const struct config_group *config, const struct group_status *status)
{
    if (control_set_is_late(status))
        return "hold";
    return control_set_waits(config, status) ? "members" : NULL;
}

static void judge_sync(struct control_group *to, const struct copy_group_counts *counts,
                       const struct group_status *status, const char *set)
{
    uint64_t from = max_u64(counts->sync_from, status->marked_regions);
    to->syncs = true;
    to->percent = from > 0 ? 100.0 * (double)(from - status->marked_regions) / (double)from : 100;
    to->seconds_left =
        counts->sync_rate > 0 ? (double)status->marked_regions / counts->sync_rate : -1;
    /* Nothing there is of use until all of it has come. */
    to->condition = counts->initial ? "initial copy" : "resynchronising";
    to->cause = !counts->link.up ? "link" : set;
}

static void judge_primary(struct control_group *to, const struct config_group *config,
                          const struct copy_group_counts *counts, const struct group_status *status)
{
    to->behind_bytes =
        (status->pinned_pages + status->tagged_pages + status->range_pages + status->marked_pages) *
        PAGE_SIZE_BYTES;
    to->behind_cycles = status->open > status->confirmed ? status->open - status->confirmed : 0;
    enum group_state state = status->state;
    const char *set = set_cause(config, status);
    /* The half that does not lead does not hear that the last bit is gone. */
    if (state == GROUP_SYNCING && !status->leader && status->marked_regions == 0 &&
        counts->out.state.flags & COPY_STATE_CONSISTENT)
        state = GROUP_COPYING;
    if (status->hosts_refused) {
        /* In odd eras the truth is where `role = send` stands (docs/remote-copy.md). */
        bool here = (status->era % 2 == 1) == !config->receives;
        to->condition = "suspended";
        to->cause = here || status->record_away ? "record" : "other site";
        return;
    }
    switch (state) {
    case GROUP_SUSPENDED:
        to->condition = "suspended";
        to->cause = "operator";
        break;
    case GROUP_FALLEN:
        to->condition = "suspended";
        to->cause = status->record_away ? "record"
                    : !counts->link.up  ? "link"
                    : set               ? set
                                        : "budget";
        break;
    case GROUP_SYNCING:
        judge_sync(to, counts, status, set);
        break;
    case GROUP_COPYING:
        to->condition = late(to, config, counts) ? "behind" : "consistent";
        to->cause = !counts->link.up ? "link" : set;
        break;
    default:
        to->condition = "not here";
    }
}

static void judge_copy(struct control_group *to, const struct config_group *config,
                       const struct copy_group_counts *counts, const struct group_status *status)
{
    if (status->record_away) {
        to->condition = "suspended";
        to->cause = "record";
        return;
    }
    /* Nobody logs in at the controller that does not hold the group. */
    bool comes =
        counts->from[0][0] || counts->from[1][0] || !(counts->here.flags & COPY_STATE_HERE);
    if (counts->here.role == COPY_EMPTY || !(counts->here.flags & COPY_STATE_CONSISTENT)) {
        to->condition = counts->initial ? "initial copy" : "resynchronising";
        to->cause = comes ? NULL : "link";
    } else {
        to->condition = late(to, config, counts) ? "behind" : "consistent";
        to->cause = late(to, config, counts) && !comes ? "link" : NULL;
    }
}

void control_group_judge(struct control_group *to, const struct config_group *config,
                         const struct copy_group_counts *counts, const struct group_status *status)
{
    bool primary = status->role == GROUP_ROLE_PRIMARY;
    *to = (struct control_group){.condition = "failed over",
                                 .seconds_left = -1,
                                 .shown_cycle = primary ? status->confirmed : counts->here.promoted,
                                 .shown_wall_us = primary ? status->confirmed_wall_us
                                                          : counts->here.promoted_wall_us};
    if (to->shown_wall_us > 0 && counts->now_wall_us > to->shown_wall_us)
        to->behind_us = counts->now_wall_us - to->shown_wall_us;
    if (primary)
        judge_primary(to, config, counts, status);
    else if (status->role == GROUP_ROLE_RECEIVING)
        judge_copy(to, config, counts, status);
}

/* ---- as JSON ---- */

static void put(json_t *object, const char *key, json_t *value)
{
    json_object_set_new(object, key, value);
}

static json_t *number(uint64_t value)
{
    return json_integer((json_int_t)min_u64(value, INT64_MAX));
}

static json_t *tenths(double value)
{
    bool sane = value >= 0 && value < 1e12;
    return sane ? json_real((double)(uint64_t)(value * 10 + 0.5) / 10) : json_null();
}

static json_t *format_behind(const struct control_group *group)
{
    json_t *object = json_object();
    put(object, "seconds", tenths((double)group->behind_us / 1e6));
    put(object, "bytes", number(group->behind_bytes));
    put(object, "cycles", number(group->behind_cycles));
    return object;
}

static json_t *format_sync(const struct control_group *group)
{
    json_t *object = json_object();
    put(object, "percent", tenths(group->percent));
    put(object, "seconds_left", tenths(group->seconds_left));
    return object;
}

static json_t *format_incoming(const struct copy_group_counts *counts)
{
    json_t *object = json_object();
    for (int half = 0; half < CONTROLLER_COUNT; half++)
        put(object, controller_name(half),
            counts->from[half][0] ? json_string(counts->from[half]) : json_null());
    put(object, "batches", number(counts->batches_in));
    put(object, "bytes", number(counts->bytes_in));
    return object;
}

void control_group_put(json_t *object, const struct config_group *config,
                       const struct copy_group_counts *counts, const struct group_status *status)
{
    static const char *const roles[GROUP_ROLE_COUNT] = {
        [GROUP_ROLE_PRIMARY] = "primary",
        [GROUP_ROLE_RECEIVING] = "receiving",
        [GROUP_ROLE_FAILED_OVER] = "failed over",
    };
    struct control_group group;
    control_group_judge(&group, config, counts, status);
    bool reads = status->role == GROUP_ROLE_RECEIVING && config->expose;
    put(object, "role", json_string(roles[status->role]));
    put(object, "era", number(status->era));
    put(object, "condition", json_string(group.condition));
    put(object, "cause", group.cause ? json_string(group.cause) : json_null());
    put(object, "hosts",
        json_string(!status->hosts_refused ? "served"
                    : reads                ? "read-only"
                                           : "refused"));
    put(object, "shown_cycle", number(group.shown_cycle));
    put(object, "shown_wall_us", group.shown_wall_us ? number(group.shown_wall_us) : json_null());
    put(object, "behind", group.shown_wall_us ? format_behind(&group) : json_null());
    put(object, "sync", group.syncs ? format_sync(&group) : json_null());
    put(object, "incoming", counts->listens ? format_incoming(counts) : json_null());
}
