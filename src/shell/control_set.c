/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See control_set.h. */

#include "shell/control_set.h"

static void put(json_t *object, const char *key, json_t *value)
{
    json_object_set_new(object, key, value);
}

static void put_number(json_t *object, const char *key, uint64_t value)
{
    put(object, key, json_integer((json_int_t)min_u64(value, INT64_MAX)));
}

bool control_set_waits(const struct config_group *config, const struct group_status *status)
{
    /* In even eras the truth is where the file says `receive`, and each group goes its own way. */
    return config->set_count > 0 && !config->receives && status->era % 2 == 1 && status->leader &&
           status->role == GROUP_ROLE_PRIMARY && !status->set.runs;
}

bool control_set_is_late(const struct group_status *status)
{
    return status->set.coordinates && status->set.late_row >= CUT_LATE_ROW;
}

static json_t *format_hold(const struct config_group *group, const struct set_status *set)
{
    json_t *object = json_object();
    put_number(object, "limit_ms", group->hold_ms);
    put_number(object, "count", set->holds);
    put_number(object, "late", set->late_holds);
    put_number(object, "last_us", set->hold_last_us);
    put_number(object, "longest_us", set->hold_longest_us);
    put_number(object, "mean_us", set->holds ? set->hold_total_us / set->holds : 0);
    return object;
}

static json_t *format_session(const struct config_set_array *array,
                              const struct copy_set_member *member)
{
    const struct array_session_counts *link = &member->link;
    json_t *object = json_object();
    put(object, "up", json_boolean(link->up));
    put(object, "address", json_string(array->addresses[link->address].text));
    put_number(object, "logins", link->logins);
    put_number(object, "messages", member->messages);
    put_number(object, "round_trip_us", link->round_trip_us);
    json_t *error = link->error[0] ? json_string(link->error) : json_null();
    put(object, "error", error ? error : json_string("?")); /* no UTF-8 */
    return object;
}

static json_t *format_members(const struct config_group *group,
                              const struct copy_group_counts *counts, const struct set_status *set)
{
    json_t *members = json_array();
    for (uint32_t i = 0; i < group->set_count; i++) {
        json_t *object = json_object();
        put(object, "array", json_string(group->set_arrays[i].name));
        put(object, "runs", set->coordinates ? json_boolean(set->members[i].runs) : json_null());
        put(object, "session",
            counts->set.coordinates && i > 0
                ? format_session(&group->set_arrays[i], &counts->set.members[i])
                : json_null());
        json_array_append_new(members, object);
    }
    return members;
}

json_t *control_set_format(const struct config *config, const struct config_group *group,
                           const struct copy_group_counts *counts,
                           const struct group_status *status)
{
    const struct set_status *set = &status->set;
    if (group->set_count == 0)
        return json_null();
    json_t *object = json_object();
    put(object, "name", json_string(group->set));
    put_number(object, "place", (uint64_t)config_set_place_of(config, group));
    put(object, "coordinates", json_boolean(set->coordinates));
    put(object, "runs", json_boolean(set->runs));
    put(object, "coordinator",
        counts->set.coordinator[0] ? json_string(counts->set.coordinator) : json_null());
    put_number(object, "cut", set->cut);
    put_number(object, "promoted_cut", set->promoted);
    put_number(object, "cuts", set->cuts);
    put_number(object, "failed_cuts", set->failed_cuts);
    put_number(object, "failed_in_a_row", set->late_row);
    put_number(object, "close_us", set->close_us);
    put_number(object, "run_count", set->runs_begun);
    put(object, "hold", format_hold(group, set));
    put(object, "here", json_boolean(counts->here.flags & COPY_STATE_HERE));
    put_number(object, "shown_cut", status->shown_cut);
    put_number(object, "held_cut", status->held_cut);
    put(object, "members", format_members(group, counts, set));
    return object;
}
