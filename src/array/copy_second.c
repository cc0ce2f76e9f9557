/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Groups that another array copies to this one: what comes, where it waits, and what is answered.
 * Batches are foreign until copy/receiver.h has judged them. One that is not taken changes nothing,
 * and each is answered exactly once. */

#include "array/internal.h"

/* Another one for each start, and for each loss of what was held. */
static uint64_t memory_number(const struct array_config *config, uint32_t losses)
{
    uint64_t number = (config->incarnation << 1 | config->self) * 0x9E3779B97F4A7C15ull + losses;
    return number == 0 ? 1 : number;
}

void copy_second_create(struct second *second, const struct array_config *config, uint8_t index,
                        struct arena *arena)
{
    const struct group_config *group = &config->groups[index];
    if (group->room_pages == 0)
        return;
    uint64_t *page_counts = arena_array(arena, uint64_t, group->volume_count);
    for (uint32_t i = 0; i < group->volume_count && page_counts != NULL; i++)
        page_counts[i] =
            (config->volumes[group->volumes[i]].size_bytes + PAGE_SIZE_BYTES - 1) / PAGE_SIZE_BYTES;
    receiver_create(second == NULL ? NULL : &second->receiver, arena, config->slot_count * 2,
                    group->room_pages, group->volume_count, page_counts, group->id,
                    second == NULL ? 1 : memory_number(config, second->memories++));
}

void copy_second_lay_out(struct second *second, const struct group_config *config,
                         struct arena *arena)
{
    if (config->room_pages == 0)
        return;
    struct arrival *arrivals = arena_array(arena, struct arrival, COPY_MESSAGES);
    if (second != NULL)
        second->arrivals = arrivals;
}

static void answer(struct array *array, uint64_t handle, bool good)
{
    struct actions *actions = &array->actions;
    CHECK(actions->copy_reply_count < array->config.group_count * COPY_MESSAGES * 2);
    array->copy.replies[actions->copy_reply_count++] =
        (struct copy_reply){.handle = handle, .good = good};
}

void array_on_copy_message(struct array *array, uint64_t now_us, uint64_t handle, uint8_t group,
                           const void *bytes, uint32_t length_bytes)
{
    array_begin(array, now_us);
    CHECK(group < array->config.group_count);
    (void)bytes;
    (void)length_bytes;
    answer(array, handle, false);
}

void array_copy_state(const struct array *array, uint8_t index, struct copy_state *state)
{
    CHECK(index < array->config.group_count);
    const struct group *group = &array->copy.groups[index];
    CHECK(copy_receives(group));
    receiver_state(&group->second.receiver, state);
}

void copy_second_pump(struct array *array)
{
    (void)array;
}

void copy_second_refuse_all(struct array *array)
{
    (void)array;
}
