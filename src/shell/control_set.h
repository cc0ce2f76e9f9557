/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A group's set as JSON: who takes part, how the cuts go and what they cost, and at a copy which
 * cut it shows and which it could show. Nothing is kept or decided. */

#ifndef SHELL_CONTROL_SET_H
#define SHELL_CONTROL_SET_H

#include "array/status.h"
#include "shell/copy_groups.h"

#include <jansson.h>

/* Whether a primary copies singly although its set should be cut: not all members take part. At the
 * controller that does not lead nothing of it is known. */
bool control_set_waits(const struct config_group *config, const struct group_status *status);

/* Where it coordinates: cut after cut fails, because completions may not be held as long as it
 * takes until all arrays have closed. */
bool control_set_is_late(const struct group_status *status);

/* The object, or null for a group in no set. */
json_t *control_set_format(const struct config *config, const struct config_group *group,
                           const struct copy_group_counts *counts,
                           const struct group_status *status);

#endif
