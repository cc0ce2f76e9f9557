/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The groups of the remote copy between the core and the long link: what the configuration says of
 * them in the core's words, a session for each group that this array sends, the listener for those
 * of other arrays, the core's batches and answers, and the record of each group on disk. */

#ifndef SHELL_COPY_GROUPS_H
#define SHELL_COPY_GROUPS_H

#include "array/array.h"
#include "shell/copy_outgoing.h"
#include "shell/copy_server.h"
#include "shell/copy_set.h"

enum { COPY_GROUPS_LOOK_MS = 100 }; /* how soon a group that is held no more is noticed */

struct copy_groups;

/* What the status shows of one group's sessions. */
struct copy_group_counts {
    bool sends;                       /* the one to the other array is wanted */
    struct array_session_counts link; /* that one */
    struct copy_outgoing_counts out;
    bool listens;
    char from[CONTROLLER_COUNT][ADDRESS_TEXT_SIZE]; /* where the other array's controllers are
                                                       logged in from; empty: they are not */
    uint64_t batches_in, bytes_in;
    struct copy_state here; /* what the other array is told, without the identity */
    bool initial;           /* the copy was no state of the primary yet, as far as is known here */
    uint64_t sync_from;     /* regions that were marked when the core began to send them ... */
    double sync_rate;       /* ... and how many a second are done with; 0: not known */
    uint64_t now_wall_us;
    struct copy_set_counts set;
};

/* `made->groups` from the configuration. NULL, or a sentence. */
const char *copy_groups_fill(const struct config *config, struct array_config *made,
                             char why[TRACE_LINE]);

/* Gives the core the groups' records, begins to listen, and connects where the core's roles say so.
 * Before the first array_pump(). *groups stays NULL when there is none. NULL, or a sentence. */
const char *copy_groups_start(struct copy_groups **groups, struct loop *loop, struct array *array,
                              const struct array_config *made, const struct config *config,
                              int self, char why[TRACE_LINE]);

/* Before each array_pump(): the time of day. */
void copy_groups_wall(struct copy_groups *groups);

/* The core's actions: records to be kept, batches to send, answers to batches that came. Calls
 * nothing of the core. */
void copy_groups_perform(struct copy_groups *groups, const struct actions *actions);

/* After the actions: drop the sessions of these groups (a bit each). */
void copy_groups_reset(struct copy_groups *groups, uint32_t which);

/* Once a turn. The core may be called: answers and batches arrive here too. True: it was, so it is
 * to be pumped again. */
bool copy_groups_flush(struct copy_groups *groups);

/* Every CONTROLLER_SAMPLE_MS or so: how far the marked regions have been sent. */
void copy_groups_sample(struct copy_groups *groups, const struct array_status *status);

/* For the status; group < config.group_count. */
void copy_groups_counts(const struct copy_groups *groups, uint32_t group,
                        struct copy_group_counts *counts);

#endif
