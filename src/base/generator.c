/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See generator.h. */

#include "base/generator.h"

#include "base/check.h"

static uint64_t rotate_left(uint64_t value, int bits)
{
    return value << bits | value >> (64 - bits);
}

void generator_seed(struct generator *generator, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        seed += 0x9E3779B97F4A7C15u;
        uint64_t mixed = seed;
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9u;
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EBu;
        generator->state[i] = mixed ^ mixed >> 31;
    }
}

uint64_t generator_next(struct generator *generator)
{
    uint64_t *s = generator->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t generator_below(struct generator *generator, uint64_t bound)
{
    CHECK(bound > 0);
    uint64_t skip = -bound % bound; /* numbers below this would favour the small results */
    for (;;) {
        uint64_t value = generator_next(generator);
        if (value >= skip)
            return value % bound;
    }
}

bool generator_chance(struct generator *generator, uint64_t numerator, uint64_t denominator)
{
    return generator_below(generator, denominator) < numerator;
}
