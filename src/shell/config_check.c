/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Judges what no single key shows: sections that are missing, names that lead nowhere, addresses,
 * directories and store ranges that collide. A key that was wrong by itself takes no part, so that
 * one mistake is reported once. */

#include "shell/config_read.h"

#include <stdio.h>
#include <string.h>

enum { ADDRESS_LIMIT = CONTROLLER_COUNT * (2 + CONFIG_NBD_LIMIT) };

/* Whether the section is there and that key of it was read without a mistake. */
static bool has(const struct section *section, uint32_t key)
{
    return section && section->key_good[key];
}

static void report_key(struct config_read *read, const struct section *section, uint32_t key,
                       const char *name, const char *message)
{
    config_report(read, section->key_line[key], section->title, name, section->key_text[key], "%s",
                  message);
}

static void check_sections(struct config_read *read)
{
    static const char *const needed[] = {"array", "controller a", "controller b"};
    for (uint32_t i = 0; i < ARRAY_LENGTH(needed); i++) {
        const struct section *section = i == 0 ? config_section(read, SECTION_ARRAY, 0)
                                               : config_section(read, SECTION_CONTROLLER, i - 1);
        if (!section)
            config_report(read, 0, needed[i], NULL, NULL,
                          "missing; both controllers share one file");
    }
    if (read->config->store_count == 0)
        config_report(read, 0, NULL, NULL, NULL, "no store; write [store NAME] with path = in it");
    if (read->config->volume_count == 0)
        config_report(read, 0, NULL, NULL, NULL,
                      "no volume; write [volume NAME] with store = and size = in it");
}

static void check_array(struct config_read *read)
{
    const struct config *config = read->config;
    const struct section *array = config_section(read, SECTION_ARRAY, 0);
    if (!array || config->dirty_low_percent < config->dirty_high_percent)
        return;
    char message[TRACE_LINE];
    bool low_given = has(array, ARRAY_DIRTY_LOW);
    if (low_given)
        snprintf(message, sizeof message, "not below dirty_high (%u%%); write less",
                 config->dirty_high_percent);
    else
        snprintf(message, sizeof message, "not above dirty_low (%u%%); write more",
                 config->dirty_low_percent);
    if (low_given)
        report_key(read, array, ARRAY_DIRTY_LOW, "dirty_low", message);
    else if (has(array, ARRAY_DIRTY_HIGH))
        report_key(read, array, ARRAY_DIRTY_HIGH, "dirty_high", message);
}

/* ---- addresses ---- */

struct place {
    const struct address *address;
    const struct section *section;
    uint32_t key;
    const char *name;
    int controller;
};

static bool any_host(const struct address *address)
{
    return strcmp(address->host, "0.0.0.0") == 0 || strcmp(address->host, "::") == 0;
}

/* Whether the two cannot both be listened at. "Any" on both controllers means two machines. */
static bool collide(const struct place *one, const struct place *other)
{
    const struct address *a = one->address, *b = other->address;
    if (a->kind != b->kind)
        return false;
    if (a->kind == ADDRESS_UNIX)
        return strcmp(a->path, b->path) == 0;
    if (a->port != b->port || strcmp(a->host, b->host) != 0)
        return false;
    return one->controller == other->controller || !any_host(a);
}

static uint32_t gather_addresses(const struct config_read *read, struct place places[ADDRESS_LIMIT])
{
    uint32_t count = 0;
    for (int i = 0; i < CONTROLLER_COUNT; i++) {
        const struct config_controller *controller = &read->config->controllers[i];
        const struct section *section = config_section(read, SECTION_CONTROLLER, (uint32_t)i);
        if (has(section, CONTROLLER_LINK))
            places[count++] =
                (struct place){&controller->link, section, CONTROLLER_LINK, "link", i};
        if (has(section, CONTROLLER_WARDEN))
            places[count++] =
                (struct place){&controller->warden, section, CONTROLLER_WARDEN, "warden", i};
        for (uint32_t j = 0; has(section, CONTROLLER_NBD) && j < controller->nbd_count; j++)
            places[count++] =
                (struct place){&controller->nbd[j], section, CONTROLLER_NBD, "nbd", i};
    }
    return count;
}

static void check_addresses(struct config_read *read)
{
    struct place places[ADDRESS_LIMIT];
    uint32_t count = gather_addresses(read, places);
    for (uint32_t i = 1; i < count; i++) {
        const struct place *later = &places[i];
        for (uint32_t j = 0; j < i; j++) {
            const struct place *earlier = &places[j];
            if (!collide(later, earlier))
                continue;
            config_report(read, later->section->key_line[later->key], later->section->title,
                          later->name, later->section->key_text[later->key],
                          "%.100s is taken by %s in [%s]; write another address or port",
                          later->address->text, earlier->name, earlier->section->title);
            break;
        }
    }
}

static void check_run_directories(struct config_read *read)
{
    const struct section *a = config_section(read, SECTION_CONTROLLER, 0);
    const struct section *b = config_section(read, SECTION_CONTROLLER, 1);
    if (has(a, CONTROLLER_RUN) && has(b, CONTROLLER_RUN) &&
        strcmp(read->config->controllers[0].run, read->config->controllers[1].run) == 0)
        report_key(read, b, CONTROLLER_RUN, "run",
                   "the directory of controller a; write one for each controller");
}

/* ---- stores and volumes ---- */

static void check_store_paths(struct config_read *read)
{
    const struct config *config = read->config;
    const struct section *array = config_section(read, SECTION_ARRAY, 0);
    for (uint32_t i = 0; i < config->store_count; i++) {
        const struct section *section = config_section(read, SECTION_STORE, i);
        if (!has(section, STORE_PATH))
            continue;
        if (has(array, ARRAY_REGISTER) &&
            strcmp(config->register_path, config->stores[i].path) == 0)
            report_key(read, section, STORE_PATH, "path",
                       "the register's file; a store holds volumes and nothing else");
        for (uint32_t j = 0; j < i; j++) {
            if (strcmp(config->stores[i].path, config->stores[j].path) != 0)
                continue;
            config_report(read, section->key_line[STORE_PATH], section->title, "path",
                          section->key_text[STORE_PATH],
                          "the path of [store %s]; write one store and let both volumes name it",
                          config->stores[j].name);
            break;
        }
    }
}

/* The volume's store by its name; false, reported, when there is none. */
static bool resolve_store(struct config_read *read, uint32_t volume, const struct section *section)
{
    struct config *config = read->config;
    for (uint32_t i = 0; i < config->store_count; i++) {
        if (strcmp(config->stores[i].name, read->volume_store[volume]) == 0) {
            config->volumes[volume].store = (uint8_t)i;
            return true;
        }
    }
    char message[TRACE_LINE];
    snprintf(message, sizeof message, "no such store; write a [store %s] or one that is there",
             read->volume_store[volume]);
    report_key(read, section, VOLUME_STORE, "store", message);
    return false;
}

static bool overlap(const struct volume_config *one, const struct volume_config *other)
{
    return one->store == other->store &&
           one->store_offset_bytes < other->store_offset_bytes + other->size_bytes &&
           other->store_offset_bytes < one->store_offset_bytes + one->size_bytes;
}

static void check_volumes(struct config_read *read)
{
    const struct config *config = read->config;
    bool placed[VOLUME_LIMIT] = {false}; /* its store and range are known to be legal */
    for (uint32_t i = 0; i < config->volume_count; i++) {
        const struct volume_config *volume = &config->volumes[i];
        const struct section *section = config_section(read, SECTION_VOLUME, i);
        CHECK(section);
        bool found = has(section, VOLUME_STORE) && resolve_store(read, i, section);
        bool offset_wrong =
            section->key_line[VOLUME_OFFSET] > 0 && !section->key_good[VOLUME_OFFSET];
        if (!has(section, VOLUME_SIZE) || offset_wrong)
            continue;
        if (volume->size_bytes > (uint64_t)INT64_MAX - volume->store_offset_bytes) {
            report_key(read, section, VOLUME_SIZE, "size",
                       "offset and size together pass the largest store there can be; write less");
            continue;
        }
        placed[i] = found;
        for (uint32_t j = 0; found && j < i; j++) {
            if (!placed[j] || !overlap(volume, &config->volumes[j]))
                continue;
            config_report(
                read, section->line, section->title, NULL, NULL,
                "overlaps [volume %s] on store %s, which ends at %llu; write an offset there or "
                "after it",
                config->volumes[j].name, config->stores[volume->store].name,
                (unsigned long long)(config->volumes[j].store_offset_bytes +
                                     config->volumes[j].size_bytes));
            break;
        }
    }
}

void config_check(struct config_read *read)
{
    check_sections(read);
    check_array(read);
    check_addresses(read);
    check_run_directories(read);
    check_store_paths(read);
    check_volumes(read);
}
