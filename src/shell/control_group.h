/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* How a group is, in an operator's words: one word for its condition, what is to blame, how far the
 * copy is behind, and when it last was a state of the other site. Decided from what the core and
 * the sessions say, without keeping anything. */

#ifndef SHELL_CONTROL_GROUP_H
#define SHELL_CONTROL_GROUP_H

#include "array/status.h"
#include "shell/copy_groups.h"

#include <jansson.h>

enum {
    CONTROL_BEHIND_US = 2000000
}; /* an idle group is cut once a second: more than that, two
      cycles and two round trips is behind */

struct control_group {
    const char *condition;               /* docs/status-json.md lists them */
    const char *cause;                   /* NULL: nothing is wrong */
    uint64_t shown_cycle, shown_wall_us; /* newest state of the primary that the copy shows; 0 */
    uint64_t behind_us, behind_bytes, behind_cycles;
    bool syncs;
    double percent, seconds_left; /* seconds_left < 0: not known */
};

void control_group_judge(struct control_group *to, const struct config_group *config,
                         const struct copy_group_counts *counts, const struct group_status *status);

/* The keys of all that, into a group's object. */
void control_group_put(json_t *object, const struct config_group *config,
                       const struct copy_group_counts *counts, const struct group_status *status);

#endif
