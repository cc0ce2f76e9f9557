/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A group's set between the core and the coordinator's sessions: at the array that coordinates, one
 * session of each of its controllers to each other array of the set; the core of the one that does
 * not lead is told of them all the same, so that it can go on at once. */

#ifndef SHELL_COPY_SET_H
#define SHELL_COPY_SET_H

#include "array/array.h"
#include "shell/cut_outgoing.h"

struct copy_set;

/* What the status shows of the sessions. */
struct copy_set_counts {
    bool coordinates; /* by the configuration */
    struct copy_set_member {
        struct array_session_counts link;
        uint64_t messages;
    } members[CONFIG_SET_LIMIT];         /* by place; not the array's own */
    char coordinator[ADDRESS_TEXT_SIZE]; /* where it is logged in from, at the others; empty: not */
};

/* What the core has to know of the group's set. False: the library has no SHA-256. */
MUST_CHECK bool copy_set_fill(const struct config *config, const struct config_group *group,
                              const struct iscsi_crypto *crypto, struct group_set *set);

/* *set stays NULL where the configuration has nothing to coordinate. Every call of the core sets
 * *called. NULL, or a sentence. */
const char *copy_set_start(struct copy_set **set, struct loop *loop, struct array *array,
                           const struct config *config, uint8_t group, int self, bool *called,
                           char why[TRACE_LINE]);

/* One of the core's messages. Calls nothing of the core. */
void copy_set_send(struct copy_set *set, const struct cut_action *action);

/* Once a turn; the core may be called. */
void copy_set_flush(struct copy_set *set);

void copy_set_counts(const struct copy_set *set, struct copy_set_counts *counts);

#endif
