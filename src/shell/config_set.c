/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Judges the sets of a configuration: groups of several primary arrays that are cut together. Every
 * array that takes part, with the original or with a copy, has the same two lines, so that each can
 * tell whether it knows all of a set; what differs between two arrays' files is found here. It
 * never judges a key that was wrong by itself. */

#include "shell/config_read.h"

#include <stdio.h>
#include <string.h>

int config_set_place(const struct config_group *group, const char *array)
{
    for (uint32_t i = 0; i < group->set_count; i++)
        if (strcmp(group->set_arrays[i].name, array) == 0)
            return (int)i;
    return -1;
}

int config_set_place_of(const struct config *config, const struct config_group *group)
{
    return config_set_place(group, group->receives ? group->array : config->name);
}

/* ---- one file ---- */

static void check_keys(struct config_read *read, const struct section *section)
{
    static const struct {
        uint32_t key, needs;
        const char *message;
    } rows[] = {
        {GROUP_SET, GROUP_SET_ARRAYS, "needs set_arrays = in the same section"},
        {GROUP_SET_ARRAYS, GROUP_SET, "needs set = in the same section"},
        {GROUP_HOLD, GROUP_SET, "needs set = in the same section"},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++)
        if (section->key_line[rows[i].key] > 0 && section->key_line[rows[i].needs] == 0) {
            config_report_key(read, section, rows[i].key, rows[i].message);
            return;
        }
}

/* The coordinator goes to the others, at the addresses that its own file names. */
static void check_ways(struct config_read *read, const struct config_group *group,
                       const struct section *section, int place)
{
    char why[TRACE_LINE];
    for (uint32_t i = 1; place == 0 && i < group->set_count; i++) {
        const struct config_set_array *array = &group->set_arrays[i];
        if (array->address_count > 0)
            continue;
        snprintf(why, sizeof why,
                 "no address behind %.63s; this array coordinates, and goes to those that stand as "
                 "copy = there",
                 array->name);
        config_report_key(read, section, GROUP_SET_ARRAYS, why);
        return;
    }
    for (int i = 0; place > 0 && i < CONTROLLER_COUNT; i++) {
        const struct section *controller = config_section(read, SECTION_CONTROLLER, (uint32_t)i);
        if (controller && controller->key_line[CONTROLLER_COPY] == 0)
            config_report(read, section->line, section->title, NULL, NULL,
                          "array %.63s coordinates the set, but [controller %s] has no copy = for "
                          "it to come to; write one",
                          group->set_arrays[0].name, controller_name(i));
    }
}

static bool same_arrays(const struct config_group *one, const struct config_group *other)
{
    bool same = one->set_count == other->set_count;
    for (uint32_t i = 0; same && i < one->set_count; i++)
        same = strcmp(one->set_arrays[i].name, other->set_arrays[i].name) == 0;
    return same;
}

/* Two groups of one set, in one file. */
static void check_beside(struct config_read *read, const struct config_group *group,
                         const struct section *section)
{
    const struct config *config = read->config;
    for (const struct config_group *other = config->groups; other < group; other++) {
        if (strcmp(other->set, group->set) != 0 || other->set_count == 0)
            continue;
        int place = config_set_place_of(config, group);
        const char *wrong =
            !same_arrays(group, other) ? "other arrays, or another order, than in another group of "
                                         "the set; write the same line"
            : place >= 0 && place == config_set_place_of(config, other)
                ? "another group of the same primary array is in the set; one group of each array "
                  "is, so put all its volumes into that one"
            : strcmp(group->secret, other->secret) != 0
                ? "the groups of a set have one secret; write the same"
                : NULL;
        if (wrong)
            config_report_key(read, section, GROUP_SET, wrong);
        if (wrong)
            return;
    }
}

void config_check_set(struct config_read *read, uint32_t index)
{
    const struct config_group *group = &read->config->groups[index];
    const struct section *section = config_section(read, SECTION_GROUP, index);
    const struct section *array = config_section(read, SECTION_ARRAY, 0);
    check_keys(read, section);
    if (!config_has(section, GROUP_SET) || !config_has(section, GROUP_SET_ARRAYS) ||
        !config_has(section, GROUP_ROLE) || !config_has(section, GROUP_ARRAY) ||
        !config_has(array, ARRAY_NAME))
        return;
    char why[TRACE_LINE];
    const char *names[] = {group->set, group->receives ? group->array : read->config->name};
    static const uint32_t keys[] = {GROUP_SET, GROUP_SET_ARRAYS};
    if (!config_stands_in_a_name(names[0])) {
        config_report_key(
            read, section, keys[0],
            "it stands in an iSCSI name; write a-z 0-9 . - only, with a letter or digit first");
        return;
    }
    for (uint32_t i = 0; i < read->config->group_count; i++)
        if (strcmp(read->config->groups[i].name, group->set) == 0) {
            config_report_key(read, section, keys[0],
                              "a group has this name, and commands take both; write another one");
            return;
        }
    int place = config_set_place_of(read->config, group);
    if (place < 0) {
        snprintf(why, sizeof why, "%.63s, where the group's hosts write, is not among them",
                 names[1]);
        config_report_key(read, section, keys[1], why);
        return;
    }
    if (!group->receives)
        check_ways(read, group, section, place);
    check_beside(read, group, section);
}

/* ---- two arrays ---- */

static bool tls_kind_differs(const struct config_group *one, const struct config_group *other)
{
    return (one->tls_psk[0] != '\0') != (other->tls_psk[0] != '\0') ||
           (one->tls_certificate[0] != '\0') != (other->tls_certificate[0] != '\0');
}

/* Two groups of one set. Those of two primaries are cut by one session; those that only share the
 * set need to mean the same by its name. */
static void compare(struct config_read *read, const struct config_group *here,
                    const struct config *there, const char *there_file,
                    const struct config_group *other)
{
    bool pair = strcmp(here->name, other->name) == 0 && strcmp(here->array, there->name) == 0;
    if (!same_arrays(here, other)) {
        config_report(read, 0, here->name, "set_arrays", NULL,
                      "other arrays, or another order, than of [group %.63s] in %.100s; write the "
                      "same line",
                      other->name, there_file);
        return;
    }
    if (pair || here->receives || other->receives)
        return;
    if (strcmp(here->secret, other->secret) != 0)
        config_report(read, 0, here->name, "secret", NULL,
                      "not that of [group %.63s] in %.100s; the groups of a set have one secret",
                      other->name, there_file);
    if (here->hold_ms != other->hold_ms)
        config_report(read, 0, here->name, "hold", NULL,
                      "%u ms, and %u ms for [group %.63s] in %.100s; write the same", here->hold_ms,
                      other->hold_ms, other->name, there_file);
    if (tls_kind_differs(here, other))
        config_report(read, 0, here->name, "tls_psk", NULL,
                      "[group %.63s] in %.100s proves itself by other means; write the same kind "
                      "of TLS keys in both",
                      other->name, there_file);
}

uint32_t config_compare_sets(struct config_read *read, const struct config *there,
                             const char *there_file)
{
    const struct config *here = read->config;
    uint32_t common = 0;
    for (uint32_t i = 0; i < here->group_count; i++) {
        const struct config_group *group = &here->groups[i];
        bool found = false;
        for (uint32_t j = 0; group->set[0] && j < there->group_count; j++) {
            if (strcmp(group->set, there->groups[j].set) != 0)
                continue;
            compare(read, group, there, there_file, &there->groups[j]);
            found = true;
        }
        common += found;
        for (uint32_t j = 0; j < there->group_count; j++)
            if (strcmp(group->array, there->name) == 0 &&
                strcmp(there->groups[j].name, group->name) == 0 &&
                strcmp(there->groups[j].set, group->set) != 0)
                config_report(read, 0, group->name, "set", NULL,
                              "\"%.63s\" here and \"%.63s\" in %.100s; write the same set = and "
                              "set_arrays = in both",
                              group->set, there->groups[j].set, there_file);
    }
    return common;
}
