/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What the coordinating array of a set says to the others: a session of each of its controllers to
 * the controller there that leads the member. Messages arrive in the order in which they left,
 * their answers in any; either may be late, be changed, or never come; controllers die with the
 * most delicate of them. */

#ifndef SIM_CALLS_H
#define SIM_CALLS_H

#include "sim/listing.h"
#include "sim/world.h"

struct calls_rates {
    uint64_t latency_us, jitter_us; /* one way */
    uint64_t notice_us;             /* how late the loss of a session is heard of */
    uint64_t ask_us;                /* between two questions for the state */
};

/* All arrays have their configurations. */
struct calls *calls_create(struct world *root, const struct calls_rates *rates);
void calls_destroy(struct calls *calls);

/* A controller has been created; nothing has happened to it yet. */
void calls_start(struct world *world, uint8_t who);
void calls_orphan(struct world *world, uint8_t who, bool silent);
void calls_perform(struct world *world, uint8_t who, const struct actions *actions);
/* After a pump: what must hold of the set at this controller. */
void calls_look(struct world *world, uint8_t who);
void calls_on_event(struct world *world, const struct event *event);

void calls_fault(struct world *root, enum fault_kind kind, uint8_t who);
void calls_heal(struct calls *calls);
/* A site is lost with the next message of some kind, or a controller, and the site with a message
 * of the one that goes on. Returns how long to wait for that. */
uint64_t calls_arm_site(struct calls *calls);

#endif
