/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The groups of the remote copy at the controller where their hosts write: what their configuration
 * may be. */

#include "array/internal.h"
#include "base/crc32c.h"

static const char *check_group(const struct array_config *config, const struct group_config *group,
                               bool taken[VOLUME_LIMIT])
{
    static const uint8_t nobody[GROUP_ID_SIZE];
    if (memcmp(group->id, nobody, sizeof nobody) == 0)
        return "a group's id must not be zero";
    if (group->side != GROUP_PRIMARY)
        return "a group's side must be primary: the second side is not served yet";
    if (group->volume_count == 0 || group->volume_count > VOLUME_LIMIT)
        return "a group must have 1 to 256 volumes";
    for (uint32_t i = 0; i < group->volume_count; i++) {
        uint8_t volume = group->volumes[i];
        if (volume >= config->volume_count)
            return "a group's volumes must exist";
        if (taken[volume])
            return "a volume may be in one group only, and there once";
        taken[volume] = true;
    }
    if (group->budget_pages == 0)
        return "a group's budget_pages must not be zero";
    if (group->base_pages == 0 || group->base_pages > GROUP_BASE_PAGES)
        return "a group's base_pages must be 1 to 65536";
    return NULL;
}

const char *copy_config_check(const struct array_config *config)
{
    bool taken[VOLUME_LIMIT] = {false};
    uint64_t budget = 0;
    if (config->group_count > GROUP_LIMIT)
        return "group_count must be at most 16";
    for (uint32_t i = 0; i < config->group_count; i++) {
        const struct group_config *group = &config->groups[i];
        for (uint32_t other = 0; other < i; other++) {
            if (memcmp(config->groups[other].id, group->id, GROUP_ID_SIZE) == 0)
                return "two groups must not have the same id";
        }
        const char *why = check_group(config, group, taken);
        if (why != NULL)
            return why;
        budget += group->budget_pages;
    }
    /* Else pins and dirty pages together could leave no slot to read into. */
    uint64_t high = (uint64_t)config->slot_count * config->dirty_high_percent / 100;
    if (budget > (config->slot_count - high) / 2)
        return "all groups' budget_pages must fit half of the slots that dirty_high_percent leaves";
    return NULL;
}

uint32_t copy_config_checksum(const struct array_config *config, uint32_t crc)
{
    for (uint32_t i = 0; i < config->group_count; i++) {
        const struct group_config *group = &config->groups[i];
        uint8_t bytes[5] = {group->side};
        put_u32(bytes + 1, group->volume_count);
        crc = crc32c_more(crc, group->id, sizeof group->id);
        crc = crc32c_more(crc, bytes, sizeof bytes);
        crc = crc32c_more(crc, group->volumes, group->volume_count);
    }
    return crc;
}
