/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The stores of the simulated world: they tear writes, land them late, fail, are slow, and forget
 * what was not flushed when they lose power. */

#ifndef SIM_DISKS_H
#define SIM_DISKS_H

#include "sim/world.h"

void disks_create(struct world *world);
void disks_destroy(struct world *world);

/* A controller submits an operation. */
void disks_submit(struct world *world, uint8_t who, const struct store_action *action);

/* Its effect happens. */
void disks_on_apply(struct world *world, uint32_t index);

/* It is over. Returns true when the controller has been told (or never will be), false when it is
 * paused. */
bool disks_on_end(struct world *world, uint32_t index);

/* A controller died: nobody waits for its operations any more, but they go on. */
void disks_orphan(struct world *world, uint8_t who);

/* A store loses power. */
void disks_lose_power(struct world *world, uint8_t store);

/* What a loss of power would leave of the volume, from `offset` on. */
const uint8_t *disks_durable(const struct world *world, uint8_t volume, uint64_t offset);

#endif
