/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What the second site may show. A model of the copy that shares nothing with the core but the
 * reading of records: it keeps every batch that left the first site, and when the second array says
 * that a cycle is promoted it builds the image that must stand there now, from the named cycle and
 * those before it. Each image of a copy that is called consistent must be a cut of what the oracle
 * knows: of two writes the later is in it only when the earlier, acknowledged before the later was
 * issued, is in it or overwritten. Whatever the second array's stores and hosts see is held against
 * these images. */

#ifndef SIM_CUTS_H
#define SIM_CUTS_H

#include "sim/world.h"

struct cuts *cuts_create(struct world *root);
void cuts_destroy(struct cuts *cuts);

/* A batch leaves for the other site. */
void cuts_sent(struct world *from, uint8_t group, const uint8_t *bytes, uint32_t length);

/* The controller that holds the group says this of it. */
void cuts_state(struct world *world, uint8_t who, uint8_t group, const struct copy_state *state);
/* One that does not hold it any more may end a promotion that was under way. */
void cuts_late(struct world *world, uint8_t who, uint8_t group, const struct copy_state *state);

/* Bytes land on a store of a site. `data` NULL: zeros. */
void cuts_landed(struct world *world, uint8_t store, uint64_t offset, uint64_t length,
                 const uint8_t *data);

/* What hosts have written to this volume counts: it is no copy. */
bool cuts_is_original(const struct world *world, uint8_t volume);

/* A host has read this from a copy that hosts may read; `since`: cuts_count() when it asked. */
uint64_t cuts_count(const struct world *world, uint8_t volume);
void cuts_read(struct world *world, uint8_t volume, uint64_t offset, uint64_t length,
               const uint8_t *data, uint64_t since);

/* Nobody there has anything in memory: what is known of the copy may be less, if it says so. */
void cuts_blackout(struct world *world);
/* The array has accepted that what it had acknowledged is lost. */
void cuts_loss(struct world *world);

/* Both memories are lost, and hosts are served from what the stores hold: what the other site has
 * is better, and stays until an operator says otherwise. */
void cuts_lacking(struct world *world);
/* One of its records is durable. */
void cuts_recorded(struct world *world, uint8_t group);
void cuts_decided(struct world *world, uint8_t group);

/* The group is served at this site from now on, from what was promoted. */
void cuts_failover(struct world *world, uint8_t group);
/* The other site is lost on the way home: what follows is served from what has come so far. */
void cuts_return(struct world *world, uint8_t group);
/* The same on the way home: nothing may be missing, so the oracle knows already what is there. */
void cuts_home(struct world *world, uint8_t group);
/* What was promoted; whether each of its bytes is known. */
uint64_t cuts_promoted(const struct world *world, uint8_t group, bool *known);

/* Nothing of the copy there has been lost since it was caught up. */
bool cuts_whole(const struct world *world, uint8_t group);
/* Of a set: how often the images of all groups were of one cut. */
uint64_t cuts_common_count(const struct world *root);
/* An operator names this one. */
void cuts_name(struct world *root, uint64_t cut);
/* Whether a second array may refuse to be failed over to the newest cut that any has promoted: one
 * of them has lost what it held, or never had all. */
bool cuts_may_refuse(const struct world *root, uint64_t cut);
/* All were failed over to this cut. */
void cuts_check_failover(struct world *root, uint64_t cut);

/* The bytes of a volume of the group, after a clean stop. */
void cuts_compare(struct world *world, uint8_t volume, const uint8_t *data);

#endif
