/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Judges what no single key shows: sections that are missing, names that lead nowhere, addresses,
 * directories and store ranges that collide. A key that was wrong by itself takes no part, so that
 * one mistake is reported once. */

#include "shell/config_read.h"
#include "shell/config_value.h"

#include <stdio.h>
#include <string.h>

enum { ADDRESS_LIMIT = CONTROLLER_COUNT * (3 + CONFIG_NBD_LIMIT + CONFIG_ISCSI_LIMIT) };

bool config_has(const struct section *section, uint32_t key)
{
    return section && section->key_good[key];
}

static bool has(const struct section *section, uint32_t key)
{
    return config_has(section, key);
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
        if (has(section, CONTROLLER_COPY))
            places[count++] =
                (struct place){&controller->copy, section, CONTROLLER_COPY, "copy", i};
        for (uint32_t j = 0; has(section, CONTROLLER_NBD) && j < controller->nbd_count; j++)
            places[count++] =
                (struct place){&controller->nbd[j], section, CONTROLLER_NBD, "nbd", i};
        for (uint32_t j = 0; has(section, CONTROLLER_ISCSI) && j < controller->iscsi_count; j++)
            places[count++] =
                (struct place){&controller->iscsi[j], section, CONTROLLER_ISCSI, "iscsi", i};
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
        if (volume->size_bytes % config->scsi[i].block_size_bytes != 0)
            report_key(read, section, VOLUME_BLOCK, "block",
                       "the volume's size is not a multiple of that; write 512, or another size");
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

/* ---- hosts ---- */

/* The array's name is part of the target's, which takes fewer characters. */
static void check_target_name(struct config_read *read)
{
    static const char legal[] = "abcdefghijklmnopqrstuvwxyz0123456789.-";
    const struct config *config = read->config;
    const struct section *array = config_section(read, SECTION_ARRAY, 0);
    bool iscsi = config->controllers[0].iscsi_count > 0 || config->controllers[1].iscsi_count > 0;
    if (iscsi && has(array, ARRAY_NAME) && strspn(config->name, legal) != strlen(config->name))
        report_key(read, array, ARRAY_NAME, "name",
                   "it stands in the name of the iSCSI target, which takes a-z 0-9 . - only");
}

/* CHAP's keys come in pairs, and the way back only with the way there. */
static void check_chap(struct config_read *read, const struct section *section,
                       const struct config_host *host)
{
    static const struct {
        uint32_t key, needs;
        const char *name, *needed;
    } rows[] = {
        {HOST_CHAP_USER, HOST_CHAP_SECRET, "chap_user", "chap_secret"},
        {HOST_CHAP_SECRET, HOST_CHAP_USER, "chap_secret", "chap_user"},
        {HOST_MUTUAL_USER, HOST_MUTUAL_SECRET, "mutual_user", "mutual_secret"},
        {HOST_MUTUAL_SECRET, HOST_MUTUAL_USER, "mutual_secret", "mutual_user"},
        {HOST_MUTUAL_SECRET, HOST_CHAP_SECRET, "mutual_secret", "chap_secret"},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++)
        if (section->key_line[rows[i].key] > 0 && section->key_line[rows[i].needs] == 0) {
            config_report(read, section->key_line[rows[i].key], section->title, rows[i].name, NULL,
                          "needs %s = in the same section", rows[i].needed);
            return;
        }
    if (has(section, HOST_CHAP_SECRET) && has(section, HOST_MUTUAL_SECRET) &&
        strcmp(host->chap_secret, host->mutual_secret) == 0)
        config_report(read, section->key_line[HOST_MUTUAL_SECRET], section->title, "mutual_secret",
                      NULL, "the same as chap_secret; write another one (RFC 7143 9.2.1)");
}

static void check_initiators(struct config_read *read, uint32_t index,
                             const struct section *section)
{
    const struct config_host *hosts = read->config->hosts;
    for (uint32_t i = 0; i < hosts[index].initiator_count; i++)
        for (uint32_t other = 0; other < index; other++) {
            const struct section *earlier = config_section(read, SECTION_HOST, other);
            for (uint32_t j = 0; has(earlier, HOST_INITIATOR) && j < hosts[other].initiator_count;
                 j++)
                if (strcmp(hosts[index].initiators[i], hosts[other].initiators[j]) == 0) {
                    config_report(read, section->key_line[HOST_INITIATOR], section->title,
                                  "initiator", NULL,
                                  "%.100s stands in [%.60s] already; write it once",
                                  hosts[index].initiators[i], earlier->title);
                    return;
                }
        }
}

/* One item of `volumes =`. A LUN that is not given is one more than that of the item before. */
static bool take_lun(struct config_read *read, struct config_host *host, const char *item,
                     char why[TRACE_LINE])
{
    char name[CONFIG_NAME_SIZE];
    int lun;
    bool read_only;
    if (!value_lun(item, name, &lun, &read_only, why))
        return false;
    int volume = config_volume_by_name(read->config, name);
    if (volume < 0)
        return value_refuse(why,
                            "there is no volume %.63s; write a [volume %.63s], or one that is "
                            "there",
                            name, name);
    if (lun < 0)
        lun = host->lun_count == 0 ? 0 : host->luns[host->lun_count - 1].lun + 1;
    if (lun >= CONFIG_LUN_LIMIT)
        return value_refuse(why, "\"%.40s\" would be LUN %d; write NAME@LUN with 0 to %d", item,
                            lun, CONFIG_LUN_LIMIT - 1);
    for (uint32_t i = 0; i < host->lun_count; i++) {
        if (host->luns[i].lun == lun)
            return value_refuse(why, "\"%.40s\": LUN %d is taken by %.63s; write another one", item,
                                lun, read->config->volumes[host->luns[i].volume].name);
        if (host->luns[i].volume == volume)
            return value_refuse(why, "the volume %.63s stands here twice", name);
    }
    host->luns[host->lun_count++] = (struct config_lun){
        .lun = (uint16_t)lun, .volume = (uint8_t)volume, .read_only = read_only};
    return true;
}

static void check_luns(struct config_read *read, uint32_t index, const struct section *section)
{
    struct config_host *host = &read->config->hosts[index];
    struct value_list list = {.at = read->host_volumes[index]};
    char item[CONFIG_NAME_SIZE + 16], why[TRACE_LINE];
    int more;
    while ((more = value_list_next(&list, item, sizeof item, CONFIG_LUN_LIMIT, "volumes", why)) > 0)
        if (!take_lun(read, host, item, why))
            break;
    if (more != 0)
        report_key(read, section, HOST_VOLUMES, "volumes", why);
}

static void check_hosts(struct config_read *read)
{
    for (uint32_t i = 0; i < read->config->host_count; i++) {
        const struct section *section = config_section(read, SECTION_HOST, i);
        CHECK(section);
        if (has(section, HOST_INITIATOR))
            check_initiators(read, i, section);
        check_chap(read, section, &read->config->hosts[i]);
        if (has(section, HOST_VOLUMES))
            check_luns(read, i, section);
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
    check_target_name(read);
    check_hosts(read);
    config_check_groups(read);
}
