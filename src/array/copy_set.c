/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Groups of several primary arrays that are cut at one moment. */

#include "array/internal.h"

bool array_cut_elsewhere(const struct array_config *config, uint8_t group, uint8_t member)
{
    CHECK(group < config->group_count);
    const struct group_set *set = &config->groups[group].set;
    if (set->member_count == 0 || member >= set->member_count || member == set->self)
        return false;
    for (uint32_t i = 0; i < config->group_count; i++) {
        const struct group_set *other = &config->groups[i].set;
        if (other->member_count != 0 && other->self == member &&
            memcmp(other->id, set->id, GROUP_ID_SIZE) == 0)
            return false;
    }
    return true;
}

void array_on_cut_up(struct array *array, uint64_t now_us, uint8_t group, uint8_t member,
                     const struct cut_state *state)
{
    array_begin(array, now_us);
    (void)group;
    (void)member;
    (void)state;
}

void array_on_cut_down(struct array *array, uint64_t now_us, uint8_t group, uint8_t member)
{
    array_begin(array, now_us);
    (void)group;
    (void)member;
}

void array_on_cut_state(struct array *array, uint64_t now_us, uint8_t group, uint8_t member,
                        const struct cut_state *state)
{
    array_on_cut_up(array, now_us, group, member, state);
}

void array_on_cut_answered(struct array *array, uint64_t now_us, uint8_t group, uint8_t member,
                           uint64_t number, bool good)
{
    array_on_cut_down(array, now_us, group, member);
    (void)number;
    (void)good;
}

void array_on_cut_message(struct array *array, uint64_t now_us, uint64_t handle, uint8_t group,
                          const void *bytes, uint32_t length_bytes)
{
    struct cut_message message;
    array_begin(array, now_us);
    CHECK(group < array->config.group_count);
    const char *why = cut_get_message(bytes, length_bytes, &message);
    if (why != NULL)
        array_log(array, LOG_INFO, "group %s: %s", array->config.groups[group].name, why);
    CHECK(array->actions.cut_reply_count < COPY_CUT_REPLIES);
    array->copy.cut_replies[array->actions.cut_reply_count++] =
        (struct cut_reply){.handle = handle};
}

void array_cut_state(const struct array *array, uint8_t group, struct cut_state *state)
{
    CHECK(group < array->config.group_count);
    *state = (struct cut_state){.flags = 0};
    memcpy(state->set, array->config.groups[group].set.id, GROUP_ID_SIZE);
}
