/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Makes a failing seed small: what can be left out while the same failure stays is left out. */

#ifndef SIM_SHRINK_H
#define SIM_SHRINK_H

#include "sim/listing.h"
#include "sim/world.h"

struct shrink_result {
    char failure[1024];     /* what the run found */
    uint32_t before, after; /* lines of the listing */
    uint32_t runs;          /* worlds that were run for it */
};

/* Runs the seed of the options, writes it down and shrinks that. False: it does not fail, or not
 * any more when it is played again (then `listing` is all of it, and result->failure says so). */
bool shrink_seed(const struct world_options *options, uint64_t limit_s, struct listing *listing,
                 struct shrink_result *result);

/* Plays a listing. NULL, or what was found, valid until the next call. */
const char *shrink_replay(const struct listing *listing, const struct world_options *options,
                          struct statistics *count);

#endif
