/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Judges the groups of a configuration: volumes that are not there, in two groups or copied onto
 * themselves, keys that need each other, memory that is not there; and, of two arrays'
 * configurations, what in one does not fit the other. A key that was wrong by itself takes no part,
 * so that one mistake is reported once. */

#include "shell/config_read.h"
#include "shell/config_value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void config_report_key(struct config_read *read, const struct section *section, uint32_t key,
                       const char *message)
{
    const struct key *row = &config_section_types[SECTION_GROUP].keys[key];
    config_report(read, section->key_line[key], section->title, row->name,
                  row->hidden ? NULL : section->key_text[key], "%s", message);
}

bool config_stands_in_a_name(const char *name)
{
    return name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789.-")] == '\0' &&
           strchr(".-", name[0]) == NULL;
}

static void check_names(struct config_read *read, const struct config_group *group,
                        const struct section *section)
{
    static const char rule[] =
        "it stands in an iSCSI name; write a-z 0-9 . - only, with a letter or digit first";
    const struct section *array = config_section(read, SECTION_ARRAY, 0);
    if (!config_stands_in_a_name(group->name))
        config_report(read, section->line, section->title, NULL, NULL, "%s", rule);
    if (!config_has(section, GROUP_ARRAY))
        return;
    if (!config_stands_in_a_name(group->array))
        config_report_key(read, section, GROUP_ARRAY, rule);
    if (!config_has(array, ARRAY_NAME))
        return;
    if (strcmp(group->array, read->config->name) == 0)
        config_report_key(
            read, section, GROUP_ARRAY,
            "this array's own name: its volumes would be copied onto themselves; write the "
            "other array's");
    else if (!config_stands_in_a_name(read->config->name) && group == &read->config->groups[0])
        config_report(read, array->key_line[ARRAY_NAME], array->title, "name",
                      array->key_text[ARRAY_NAME], "%s", rule);
}

/* ---- volumes ---- */

/* One item of `volumes =`: NAME, or NAME:NAME-THERE. */
static bool take_volume(struct config_read *read, struct config_group *group, const char *item,
                        char why[TRACE_LINE])
{
    const struct config *config = read->config;
    char local[CONFIG_NAME_SIZE], text[2 * CONFIG_NAME_SIZE + 2], ignored[TRACE_LINE];
    struct config_copy copy;
    snprintf(text, sizeof text, "%s", item);
    char *colon = strchr(text, ':');
    if (colon)
        *colon = '\0';
    if (!value_name(text, local, ignored) ||
        !value_name(colon ? colon + 1 : text, copy.remote, ignored))
        return value_refuse(why, "\"%.60s\" names no volumes; write NAME or NAME:NAME-THERE", item);
    int volume = config_volume_by_name(config, local);
    if (volume < 0)
        return value_refuse(
            why, "there is no volume %.63s; write a [volume %.63s], or one that is there", local,
            local);
    const struct config_group *other = config_group_of(config, (uint32_t)volume);
    if (other == group)
        return value_refuse(why, "the volume %.63s stands here twice", local);
    if (other)
        return value_refuse(why, "the volume %.63s is in [group %.63s]; write it in one group",
                            local, other->name);
    for (uint32_t i = 0; i < config->group_count; i++) {
        const struct config_group *earlier = &config->groups[i];
        for (uint32_t j = 0; strcmp(earlier->array, group->array) == 0 && j < earlier->volume_count;
             j++)
            if (strcmp(earlier->volumes[j].remote, copy.remote) == 0)
                return value_refuse(
                    why, "%.63s at the other array is already %.63s's; write another one",
                    copy.remote, config->volumes[earlier->volumes[j].volume].name);
    }
    const struct volume_config *first = &config->volumes[group->volumes[0].volume];
    if (group->receives && group->volume_count > 0 && config->volumes[volume].home != first->home)
        return value_refuse(why,
                            "%.50s has owner %s and %.50s %s, and one controller holds a group "
                            "that is received; write the same",
                            first->name, controller_name(first->home), local,
                            controller_name(config->volumes[volume].home));
    copy.volume = (uint8_t)volume;
    group->volumes[group->volume_count++] = copy;
    return true;
}

static void check_volumes(struct config_read *read, uint32_t index, const struct section *section)
{
    struct value_list list = {.at = read->group_volumes[index]};
    char item[2 * CONFIG_NAME_SIZE + 2], why[TRACE_LINE];
    int more;
    while ((more = value_list_next(&list, item, sizeof item, VOLUME_LIMIT, "volumes", why)) > 0)
        if (!take_volume(read, &read->config->groups[index], item, why))
            break;
    if (more != 0)
        config_report_key(read, section, GROUP_VOLUMES, why);
}

/* ---- keys that need each other ---- */

static void check_addresses(struct config_read *read, const struct config_group *group,
                            const struct section *section)
{
    if (!config_has(section, GROUP_ROLE))
        return;
    if (!group->receives) {
        if (section->key_line[GROUP_ADDRESS] == 0)
            config_report(read, section->line, section->title, "address", NULL,
                          "missing; a group that sends needs the addresses that stand as copy = at "
                          "the other array's controllers");
        return;
    }
    for (int i = 0; i < CONTROLLER_COUNT; i++) {
        const struct section *controller = config_section(read, SECTION_CONTROLLER, (uint32_t)i);
        if (controller && controller->key_line[CONTROLLER_COPY] == 0)
            config_report(read, section->line, section->title, NULL, NULL,
                          "receives, but [controller %s] has no copy = to listen at; write one",
                          controller_name(i));
    }
}

/* A batch that one controller can take must reach the other as well. */
static void check_listeners(struct config_read *read)
{
    const struct section *a = config_section(read, SECTION_CONTROLLER, 0);
    const struct section *b = config_section(read, SECTION_CONTROLLER, 1);
    if (!a || !b || read->config->group_count == 0)
        return;
    bool at_a = a->key_line[CONTROLLER_COPY] > 0, at_b = b->key_line[CONTROLLER_COPY] > 0;
    for (uint32_t i = 0; i < read->config->group_count; i++)
        if (read->config->groups[i].receives)
            return; /* said there */
    if (at_a != at_b)
        config_report(read, (at_a ? b : a)->line, (at_a ? b : a)->title, "copy", NULL,
                      "missing, and the other controller has one; a group may be held by either: "
                      "write both or none");
}

static void check_tls(struct config_read *read, const struct section *section)
{
    static const struct {
        uint32_t key, needs;
        const char *message;
    } rows[] = {
        {GROUP_TLS_CERTIFICATE, GROUP_TLS_KEY, "needs tls_key = in the same section"},
        {GROUP_TLS_KEY, GROUP_TLS_CERTIFICATE, "needs tls_certificate = in the same section"},
        {GROUP_TLS_CERTIFICATE, GROUP_TLS_AUTHORITY, "needs tls_authority = in the same section"},
        {GROUP_TLS_AUTHORITY, GROUP_TLS_CERTIFICATE, "needs tls_certificate = in the same section"},
    };
    const uint32_t *line = section->key_line;
    if (line[GROUP_TLS_PSK] > 0 && (line[GROUP_TLS_CERTIFICATE] > 0 || line[GROUP_TLS_KEY] > 0 ||
                                    line[GROUP_TLS_AUTHORITY] > 0)) {
        config_report_key(
            read, section, GROUP_TLS_PSK,
            "beside a certificate; write the one or the other, the same at both arrays");
        return;
    }
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++)
        if (line[rows[i].key] > 0 && line[rows[i].needs] == 0) {
            config_report_key(read, section, rows[i].key, rows[i].message);
            return;
        }
}

/* One listener takes the copies of all groups, also of those that come back after a failover, so
 * they prove themselves in one way. */
static void check_same_tls(struct config_read *read, uint32_t index, const struct section *section)
{
    const struct config_group *group = &read->config->groups[index];
    const struct section *a = config_section(read, SECTION_CONTROLLER, 0);
    bool listens = a && a->key_line[CONTROLLER_COPY] > 0;
    for (uint32_t i = 0; i < index && listens; i++) {
        const struct config_group *other = &read->config->groups[i];
        if ((strcmp(other->tls_psk, group->tls_psk) == 0 &&
             strcmp(other->tls_certificate, group->tls_certificate) == 0 &&
             strcmp(other->tls_key, group->tls_key) == 0 &&
             strcmp(other->tls_authority, group->tls_authority) == 0))
            continue;
        config_report(read, section->line, section->title, NULL, NULL,
                      "other TLS files than [group %.63s]; what comes to this array comes to one "
                      "listener, copy =: write the same",
                      other->name);
        return;
    }
}

/* What no host's dirty page takes, and of that half: the rest stays for what hosts read. The core
 * demands the same. */
static void check_memory(struct config_read *read)
{
    const struct config *config = read->config;
    const struct section *array = config_section(read, SECTION_ARRAY, 0);
    uint64_t all = 0, most = config->cache_bytes / 100 * (100u - config->dirty_high_percent) / 2;
    if (array && array->key_line[ARRAY_CACHE] > 0 && !array->key_good[ARRAY_CACHE])
        return;
    for (uint32_t i = 0; i < config->group_count; i++) {
        const struct section *section = config_section(read, SECTION_GROUP, i);
        if (section->key_line[GROUP_MEMORY] > 0 && !section->key_good[GROUP_MEMORY])
            continue;
        all += config_group_memory(config, &config->groups[i]);
        if (all <= most)
            continue;
        config_report(
            read, section->key_line[GROUP_MEMORY] ? section->key_line[GROUP_MEMORY] : section->line,
            section->title, "memory", NULL,
            "the groups together take %lluM, more than the %lluM that a cache of %lluM "
            "leaves above dirty_high; write less, or a larger cache",
            (unsigned long long)(all >> 20), (unsigned long long)(most >> 20),
            (unsigned long long)(config->cache_bytes >> 20));
        return;
    }
}

uint64_t config_group_memory(const struct config *config, const struct config_group *group)
{
    return group->memory_bytes ? group->memory_bytes : config->cache_bytes / 32;
}

void config_check_groups(struct config_read *read)
{
    struct config *config = read->config;
    for (uint32_t i = 0; i < config->group_count; i++) {
        const struct section *section = config_section(read, SECTION_GROUP, i);
        CHECK(section);
        check_names(read, &config->groups[i], section);
        if (config_has(section, GROUP_VOLUMES))
            check_volumes(read, i, section);
        check_addresses(read, &config->groups[i], section);
        check_tls(read, section);
        check_same_tls(read, i, section);
        config_check_set(read, i);
    }
    check_listeners(read);
    check_memory(read);
}

const struct config_group *config_group_of(const struct config *config, uint32_t volume)
{
    for (uint32_t i = 0; i < config->group_count; i++)
        for (uint32_t j = 0; j < config->groups[i].volume_count; j++)
            if (config->groups[i].volumes[j].volume == volume)
                return &config->groups[i];
    return NULL;
}

/* ---- two arrays ---- */

static const struct config_group *group_by_name(const struct config *config, const char *name)
{
    for (uint32_t i = 0; i < config->group_count; i++)
        if (strcmp(config->groups[i].name, name) == 0)
            return &config->groups[i];
    return NULL;
}

/* The two sides of one place of a group. */
static void compare_volume(struct config_read *read, const struct config *there,
                           const struct config_group *here_group,
                           const struct config_group *there_group, uint32_t place)
{
    const struct config *here = read->config;
    const struct config_copy *mine = &here_group->volumes[place];
    const struct config_copy *theirs = &there_group->volumes[place];
    const struct volume_config *volume = &here->volumes[mine->volume];
    const struct volume_config *other = &there->volumes[theirs->volume];
    if (strcmp(mine->remote, other->name) != 0 || strcmp(theirs->remote, volume->name) != 0)
        config_report(read, 0, here_group->name, "volumes", NULL,
                      "number %u is %.40s:%.40s here and %.40s:%.40s there; write the same pairs "
                      "in the same order",
                      place + 1, volume->name, mine->remote, other->name, theirs->remote);
    else if (volume->size_bytes != other->size_bytes)
        config_report(read, 0, here_group->name, "volumes", NULL,
                      "%.40s has %llu bytes here and %.40s %llu there; make them the same size",
                      volume->name, (unsigned long long)volume->size_bytes, other->name,
                      (unsigned long long)other->size_bytes);
}

static void compare_group(struct config_read *read, const struct config *there,
                          const char *there_file, const struct config_group *here_group,
                          const struct config_group *there_group)
{
    const char *name = here_group->name;
    if (strcmp(there_group->array, read->config->name) != 0)
        config_report(read, 0, name, "array", NULL, "there it is %.63s's, not this array's",
                      there_group->array);
    if (here_group->receives == there_group->receives)
        config_report(read, 0, name, "role", NULL,
                      "the same at both arrays; one sends and the other receives");
    if (strcmp(here_group->secret, there_group->secret) != 0)
        config_report(read, 0, name, "secret", NULL, "not the other array's; write the same");
    if ((here_group->tls_psk[0] != '\0') != (there_group->tls_psk[0] != '\0') ||
        (here_group->tls_certificate[0] != '\0') != (there_group->tls_certificate[0] != '\0'))
        config_report(read, 0, name, "tls_psk", NULL,
                      "one array proves itself by other means than the other; write the same kind "
                      "of TLS keys in both");
    if (here_group->receives && here_group->address_count > 0 &&
        there->controllers[0].copy.kind == ADDRESS_NONE)
        config_report(read, 0, name, "address", NULL,
                      "nothing listens there: %.100s has no copy =; write it there, or no address",
                      there_file);
    if (there_group->receives && there_group->address_count > 0 &&
        read->config->controllers[0].copy.kind == ADDRESS_NONE)
        config_report(read, 0, "controller a", "copy", NULL,
                      "missing, and %.100s sends group %.63s back here; write it in both "
                      "controllers' sections",
                      there_file, name);
    if (here_group->volume_count != there_group->volume_count) {
        config_report(read, 0, name, "volumes", NULL, "%u here and %u there; write the same pairs",
                      here_group->volume_count, there_group->volume_count);
        return;
    }
    for (uint32_t i = 0; i < here_group->volume_count; i++)
        compare_volume(read, there, here_group, there_group, i);
}

bool config_related(const struct config *here, const struct config *there)
{
    for (uint32_t i = 0; i < here->group_count; i++)
        if (strcmp(here->groups[i].array, there->name) == 0)
            return true;
    for (uint32_t i = 0; i < there->group_count; i++)
        if (strcmp(there->groups[i].array, here->name) == 0)
            return true;
    for (uint32_t i = 0; i < here->group_count; i++)
        for (uint32_t j = 0; here->groups[i].set[0] && j < there->group_count; j++)
            if (strcmp(here->groups[i].set, there->groups[j].set) == 0)
                return true;
    return false;
}

bool config_compare(const struct config *here, const char *here_file, const struct config *there,
                    const char *there_file, struct config_errors *errors)
{
    struct config_read *read = calloc(1, sizeof *read);
    CHECK(read);
    read->file = here_file;
    read->config = (struct config *)(uintptr_t)here; /* config_report() does not change it */
    read->errors = errors;
    errors->count = errors->total = 0;
    uint32_t common = 0;
    for (uint32_t i = 0; i < here->group_count; i++) {
        const struct config_group *group = &here->groups[i];
        if (strcmp(group->array, there->name) != 0)
            continue;
        const struct config_group *other = group_by_name(there, group->name);
        if (other)
            compare_group(read, there, there_file, group, other);
        else
            config_report(read, 0, group->name, NULL, NULL, "there is no such group in %.100s",
                          there_file);
        common++;
    }
    for (uint32_t i = 0; i < there->group_count; i++)
        if (strcmp(there->groups[i].array, here->name) == 0 &&
            !group_by_name(here, there->groups[i].name))
            config_report(read, 0, there->groups[i].name, NULL, NULL,
                          "this group of %.100s is not here", there_file);
    common += config_compare_sets(read, there, there_file);
    if (common == 0 && errors->total == 0)
        config_report(read, 0, NULL, NULL, NULL, "no group is copied to or from %.63s of %.100s",
                      there->name, there_file);
    free(read);
    return errors->total == 0;
}
