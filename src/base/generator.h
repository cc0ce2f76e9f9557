/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Numbers from a seed (xoshiro256**, seeded by splitmix64): the same seed gives the same numbers on
 * every machine. For tests, the simulator and jitter; never for secrets. */

#ifndef BASE_GENERATOR_H
#define BASE_GENERATOR_H

#include <stdbool.h>
#include <stdint.h>

struct generator {
    uint64_t state[4];
};

void generator_seed(struct generator *generator, uint64_t seed);
uint64_t generator_next(struct generator *generator);

/* A number in [0, bound), without bias; bound > 0. */
uint64_t generator_below(struct generator *generator, uint64_t bound);

/* True with probability numerator / denominator. */
bool generator_chance(struct generator *generator, uint64_t numerator, uint64_t denominator);

#endif
