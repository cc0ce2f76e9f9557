/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Two arrays, and what an operator does with them: a group is suspended and resumed; a site is lost
 * for good, or given up while it lives; the copy is failed over, hosts go on there, and where the
 * first site is still there they go home again later. */

#ifndef SIM_SITES_H
#define SIM_SITES_H

#include "sim/listing.h"
#include "sim/world.h"

/* Whether this seed has a second array: then first->other is made, with its configuration. The dice
 * are its own, so a seed without one is as it ever was. */
void sites_draw(struct world *first);
/* The configurations are final. */
void sites_create(struct world *first);
void sites_destroy(struct world *first);
void sites_print(const struct world *first);
void sites_each_setting(struct world *first, each_setting *visit, void *context);

/* Whether a host may come here for a copy: not while it is about to become the original. */
bool sites_may_stray(const struct world *world, uint8_t volume);

/* Whether an operator is about to have the volume served at this site: hosts with paths to both
 * knock here. */
bool sites_is_leaving(const struct world *world, uint8_t volume);

void sites_fault(struct world *world, enum fault_kind kind, uint8_t who);
void sites_on_turn(struct world *world, const struct event *event);
void sites_on_reply(struct world *world, uint8_t who, const struct operator_reply *reply);
void sites_heal(struct world *first);
/* A site that is due to be lost is lost after so long. */
void sites_strike(struct world *root, uint64_t after_us);

/* A set's life counts from when all copies were one for the first time: so many requests had been
 * completed by then. */
bool sites_begun(const struct world *root);
/* And nothing goes wrong before. */
bool sites_quiet(const struct world *world);
uint64_t sites_at_first(const struct world *root);

/* So long may it take until all is copied when nothing goes wrong any more. */
uint64_t sites_rest_us(const struct world *first);
/* The copy has all that hosts have written, and says that it is consistent. */
bool sites_resting(const struct world *first);
/* Why not, for a sentence. */
void sites_describe(const struct world *world, char *text, size_t size);

/* Everything has stopped cleanly: the bytes of both sites. */
void sites_compare(struct world *first);

#endif
