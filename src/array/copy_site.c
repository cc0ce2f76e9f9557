/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Where a group's truth is, as this controller knows: its era, its role, the record of both that a
 * start finds again, and what an operator asks about them. */

#include "array/internal.h"

void array_on_copy_state(struct array *array, uint64_t now_us, uint8_t number,
                         const struct copy_state *state)
{
    array_begin(array, now_us);
    CHECK(number < array->config.group_count);
    struct group *group = &array->copy.groups[number];
    if (group->up)
        group->state = *state;
}

void array_on_copy_heard(struct array *array, uint64_t now_us, uint8_t number)
{
    array_begin(array, now_us);
    CHECK(number < array->config.group_count);
    array->copy.groups[number].heard_us = now_us;
}

void array_load_group(struct array *array, uint8_t number, const void *bytes, uint32_t length_bytes)
{
    CHECK(number < array->config.group_count);
    (void)bytes;
    (void)length_bytes;
}

void array_on_group_record_kept(struct array *array, uint64_t now_us, uint8_t number, bool good)
{
    array_begin(array, now_us);
    CHECK(number < array->config.group_count);
    (void)good;
}

uint32_t array_group_record_size(const struct array_config *config, uint8_t number)
{
    CHECK(number < config->group_count);
    return 128;
}

enum group_role array_group_role(const struct array *array, uint8_t number)
{
    CHECK(number < array->config.group_count);
    return array->copy.groups[number].role;
}

bool copy_site_refuses(const struct array *array, uint8_t volume)
{
    const struct group *group = copy_group(array, volume);
    return group != NULL && group->role == GROUP_ROLE_RECEIVING;
}
