/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A token bucket: how many bytes may leave now so that no more than `rate_bytes` leave in a second.
 * What was not used in a pause counts for at most BUCKET_BURST_MS, so a pause is followed by a
 * short burst and not by a flood. No clock of its own. */

#ifndef SHELL_BUCKET_H
#define SHELL_BUCKET_H

#include "base/check.h"

enum {
    BUCKET_BURST_MS = 20,
    BUCKET_LEAST_BYTES = 16 * 1024, /* fewer are not worth a call of the kernel */
};

struct bucket {
    uint64_t rate_bytes; /* a second; 0: no limit */
    uint64_t tokens;     /* bytes that may leave */
    uint64_t at_us;      /* when that was so */
    uint64_t rest;       /* of the division, in bytes x microseconds */
};

void bucket_start(struct bucket *bucket, uint64_t now_us, uint64_t rate_bytes);

/* How many may leave now: 0 until BUCKET_LEAST_BYTES are there. */
uint64_t bucket_allows(struct bucket *bucket, uint64_t now_us);

/* So many have left; at most as many as were allowed. */
void bucket_take(struct bucket *bucket, uint64_t bytes);

/* When it allows some again, if none leave before. */
uint64_t bucket_when_us(const struct bucket *bucket);

#endif
