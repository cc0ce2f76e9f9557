/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The long way between two arrays: for each group a session of each controller of the array
 * that sends, to the controller of the other one that holds the group. Batches take up to 100 ms,
 * arrive in any order, changed, or not at all; sessions are lost with some of what they carried;
 * the line may be narrow. And the little file in which each controller keeps what it must know of a
 * group when it starts. */

#ifndef SIM_COPIES_H
#define SIM_COPIES_H

#include "sim/world.h"

enum { COPIES_GROUPS = 2 };

struct copies_rates {
    uint64_t latency_us, jitter_us;    /* one way */
    uint64_t bytes_per_ms, slow_bytes; /* the line, and while it is slow */
    uint64_t notice_us;                /* how late the loss of a session is heard of */
    uint64_t ask_us;                   /* between two questions for the state */
    uint64_t record_us;                /* until a record is durable */
};

/* All arrays have their configurations. */
struct copies *copies_create(struct world *root);
void copies_destroy(struct copies *copies);
struct copies_rates *copies_rates(struct copies *copies);

/* A controller has been created; nothing has happened to it yet. */
void copies_start(struct world *world, uint8_t who);
void copies_orphan(struct world *world, uint8_t who, bool silent);
void copies_perform(struct world *world, uint8_t who, const struct actions *actions);
void copies_look(struct world *world, uint8_t who);
void copies_on_event(struct world *world, const struct event *event);

/* The time of day at all sites. */
uint64_t copies_wall(const struct world *world);

/* The group of a volume of this array, and its place there; COPIES_GROUPS: none. */
uint32_t copies_group_of(const struct world *world, uint8_t volume, uint8_t *place);
/* Whether every controller of this array that serves knows that the group is a copy here. */
bool copies_is_copy(const struct world *world, uint8_t group);

/* Whether a record is durable here which says that the group is not received any more. */
bool copies_failover_kept(const struct world *world, uint8_t group);

/* Whether the group's sessions of both controllers of this array are up. */
bool copies_connected(const struct world *world, uint8_t group);

/* The controller of this array whose state says that it holds the group, or 2. */
uint8_t copies_holder(const struct world *world, uint8_t group, struct copy_state *state);

/* What goes wrong on it. `who` is 0 or 1. */
void copies_fault(struct world *root, enum fault_kind kind, uint8_t who);
void copies_heal(struct copies *copies);
/* Nothing gets from any site to another until it may again; to be said every 20 ms. */
void copies_part(struct copies *copies, bool apart);
bool copies_apart(const struct copies *copies);

#endif
