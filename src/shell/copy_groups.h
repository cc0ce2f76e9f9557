/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The groups of the remote copy between the core and the long link: what the configuration says of
 * them in the core's words, a session for each group that this array sends, the core's batches to
 * it and its answers back. */

#ifndef SHELL_COPY_GROUPS_H
#define SHELL_COPY_GROUPS_H

#include "array/array.h"
#include "shell/copy_outgoing.h"

struct copy_groups;

/* `made->groups` from the configuration. NULL, or a sentence: a group that this version cannot
 * carry out is refused, because an operator would believe it copied. */
const char *copy_groups_fill(const struct config *config, struct array_config *made,
                             char why[TRACE_LINE]);

/* Begins to connect. *groups stays NULL when there is none. NULL, or a sentence. */
const char *copy_groups_start(struct copy_groups **groups, struct loop *loop, struct array *array,
                              const struct config *config, int self, char why[TRACE_LINE]);

/* Before each array_pump(): the time of day. */
void copy_groups_wall(struct copy_groups *groups);

/* The core's actions; calls nothing of the core. */
void copy_groups_send(struct copy_groups *groups, const struct copy_action *actions,
                      uint32_t count);

/* After the actions: drop the sessions of these groups (a bit each). */
void copy_groups_reset(struct copy_groups *groups, uint32_t which);

/* Once a turn. The core may be called: answers arrive here too when TLS takes bytes over. */
void copy_groups_flush(struct copy_groups *groups);

/* For the status; group < config.group_count. */
void copy_groups_counts(const struct copy_groups *groups, uint32_t group,
                        struct copy_outgoing_counts *counts);

#endif
