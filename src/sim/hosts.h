/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The hosts of the simulated world, with their habits: how much they keep in flight, where and how
 * large, how they share ranges, and what they do when a controller refuses or dies. Each tells the
 * oracle what it does. */

#ifndef SIM_HOSTS_H
#define SIM_HOSTS_H

#include "sim/world.h"

void hosts_create(struct world *world);
void hosts_destroy(struct world *world);
void hosts_print(const struct world *world);

/* A host's turn: `index` is its slot. */
void hosts_on_turn(struct world *world, const struct event *event);

/* A host loses its connection in the middle of a request. */
void hosts_on_leave(struct world *world, const struct event *event);

/* A controller completes a request. */
void hosts_on_completion(struct world *world, uint8_t who, const struct completion *completion);

/* Acknowledged writes are lost: what was replaced may be there again. */
void hosts_accept_loss(struct world *world);

/* A step of the request was sent on by its controller. */
void hosts_shipped(struct world *world, uint8_t who, uint64_t handle);

/* A controller died: what was in flight there has no answer. */
void hosts_orphan(struct world *world, uint8_t who);

/* Another site goes on with the volume: what is under way here has no effect there. */
void hosts_leave_volume(struct world *world, uint8_t volume);

/* This site goes on with the volume: requests that came to the copy may be carried out after all.
 */
void hosts_join_volume(struct world *world, uint8_t volume);

/* Requests about the volumes of a group that have not ended at their controllers. */
uint32_t hosts_under_way(const struct world *world, uint8_t group);

/* Requests without an answer. */
uint32_t hosts_waiting(const struct world *world);

/* The oldest of them, for a message: which controller and how old. Returns false when there is
 * none. */
bool hosts_oldest(const struct world *world, char *text, size_t size);

/* From now on: read everything once, through whoever serves it. */
void hosts_verify(struct world *world);
bool hosts_verified(const struct world *world);

#endif
