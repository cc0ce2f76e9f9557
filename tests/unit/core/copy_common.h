/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What tests of the remote copy have in common: which volumes are copied, the story of a test, and
 * the mistake that a build with -Dmistakes=true is to make. */

#ifndef TESTS_COPY_COMMON_H
#define TESTS_COPY_COMMON_H

#include "base/mistake.h"
#include "pair.h"

enum { COPIED = 2, LAST_PAGES = VOLUME_BYTES / PAGE };

/* With COPY_TRACE in the environment a test tells its story. */
static inline bool story_is_told(void)
{
    return getenv("COPY_TRACE") != NULL;
}

#define TELL(...)                                                                                  \
    do {                                                                                           \
        if (story_is_told())                                                                       \
            printf(__VA_ARGS__);                                                                   \
    } while (0)

static const uint8_t copied[COPIED] = {V_A, V_B};

static inline const struct group_status *group_of(int self)
{
    return &status_of(self)->groups[0];
}

/* What the pair in use is made with: a group of two volumes, at a first or a second array; slots of
 * each controller's cache. The caller may change the rest. */
static inline struct group_config *configure_group(uint8_t side, uint32_t slots, uint32_t budget)
{
    struct group_config *group = &pair.config.groups[0];
    pair_defaults();
    pair.config.trace = story_is_told();
    pair.config.slot_count = slots;
    pair.config.group_count = 1;
    *group = (struct group_config){.name = "g",
                                   .id = "identity",
                                   .side = side,
                                   .volume_count = COPIED,
                                   .volumes = {copied[0], copied[1]},
                                   .budget_pages = budget,
                                   .base_pages = 64,
                                   .shortest_us = 2000};
    if (side == GROUP_SECOND)
        pair.config.volumes[V_B].home = 0;
    return group;
}

/* In a build with -Dmistakes=true the one that COPY_MISTAKE names is made. */
static inline void make_a_mistake(void)
{
    static const struct {
        const char *name;
        enum mistake mistake;
    } mistakes[] = {
#define ROW(name, text) {#name, MISTAKE_##name},
        COPY_MISTAKE_LIST(ROW)
#undef ROW
    };
    const char *name = getenv("COPY_MISTAKE");
    for (size_t i = 0; name != NULL && i < ARRAY_LENGTH(mistakes); i++) {
        if (strcmp(mistakes[i].name, name) == 0)
            assert_true(mistake_make(mistakes[i].mistake));
    }
}

#endif
