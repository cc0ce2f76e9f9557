/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Any bytes as a configuration file: they are refused with at least one message, or they give a
 * configuration that keeps every promise config.h makes to its readers. */

#include "shell/config.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_accepted(const struct config *config)
{
    CHECK(config->name[0] != '\0');
    CHECK(config->register_path[0] == '/');
    CHECK(config->secret[0] == '\0' || strlen(config->secret) >= CONFIG_SECRET_MIN);
    CHECK(config->cache_bytes >= CONFIG_CACHE_MIN);
    CHECK(config->cache_bytes % PAGE_SIZE_BYTES == 0);
    CHECK(config->dirty_low_percent < config->dirty_high_percent);
    CHECK(config->store_count >= 1);
    CHECK(config->store_count <= STORE_LIMIT);
    CHECK(config->volume_count >= 1);
    CHECK(config->volume_count <= VOLUME_LIMIT);
    for (int i = 0; i < CONTROLLER_COUNT; i++) {
        const struct config_controller *controller = &config->controllers[i];
        char path[ADDRESS_PATH_SIZE];
        config_control_path(config, i, path);
        CHECK(controller->link.kind == ADDRESS_IP);
        CHECK(controller->warden.kind == ADDRESS_IP);
        CHECK(controller->nbd_count >= 1);
        CHECK(controller->nbd_count <= CONFIG_NBD_LIMIT);
        for (uint32_t j = 0; j < controller->nbd_count; j++)
            CHECK(controller->nbd[j].kind != ADDRESS_NONE);
    }
    for (uint32_t i = 0; i < config->volume_count; i++) {
        const struct volume_config *volume = &config->volumes[i];
        CHECK(volume->store < config->store_count);
        CHECK(volume->size_bytes > 0);
        CHECK(volume->size_bytes % SECTOR_SIZE == 0);
        CHECK(volume->store_offset_bytes % PAGE_SIZE_BYTES == 0);
        CHECK(volume->store_offset_bytes <= INT64_MAX - volume->size_bytes);
        CHECK(config_volume_by_name(config, volume->name) == (int)i);
    }
    for (uint32_t i = 0; i < config->group_count; i++) {
        const struct config_group *group = &config->groups[i];
        CHECK(group->volume_count >= 1);
        CHECK(strlen(group->secret) >= CONFIG_SECRET_MIN);
        CHECK(strcmp(group->array, config->name) != 0);
        CHECK(group->receives || group->address_count >= 1);
        CHECK(config_group_memory(config, group) <= config->cache_bytes / 2);
        for (uint32_t j = 0; j < group->volume_count; j++) {
            CHECK(group->volumes[j].volume < config->volume_count);
            CHECK(config_group_of(config, group->volumes[j].volume) == group);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config config;
    static struct config_errors errors;
    bool good = config_parse("fuzz", (const char *)data, size, &config, &errors);
    CHECK(good == (errors.total == 0));
    CHECK(errors.count <= errors.total);
    for (uint32_t i = 0; i < errors.count; i++) {
        CHECK(strncmp(errors.text[i], "fuzz:", 5) == 0);
        CHECK(!strchr(errors.text[i], '\n'));
    }
    if (good)
        check_accepted(&config);
    return 0;
}
