/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See bucket.h. What a refill's division leaves is kept for the next, so that many short steps give
 * as much as one long one. */

#include "shell/bucket.h"

#include "base/bytes.h"

enum { SECOND_US = 1000000 };

static uint64_t most(const struct bucket *bucket)
{
    uint64_t burst = bucket->rate_bytes / 1000 * BUCKET_BURST_MS;
    return burst > 2 * BUCKET_LEAST_BYTES ? burst : 2 * BUCKET_LEAST_BYTES;
}

void bucket_start(struct bucket *bucket, uint64_t now_us, uint64_t rate_bytes)
{
    *bucket = (struct bucket){.rate_bytes = rate_bytes, .at_us = now_us};
}

uint64_t bucket_allows(struct bucket *bucket, uint64_t now_us)
{
    if (bucket->rate_bytes == 0)
        return UINT64_MAX;
    /* Past a second the bucket is full anyway, and nothing overflows. */
    uint64_t passed_us = min_u64(now_us - bucket->at_us, SECOND_US);
    uint64_t gained = passed_us * bucket->rate_bytes + bucket->rest;
    bucket->at_us = now_us;
    bucket->rest = gained % SECOND_US;
    bucket->tokens = min_u64(bucket->tokens + gained / SECOND_US, most(bucket));
    return bucket->tokens >= BUCKET_LEAST_BYTES ? bucket->tokens : 0;
}

void bucket_take(struct bucket *bucket, uint64_t bytes)
{
    if (bucket->rate_bytes == 0)
        return;
    CHECK(bytes <= bucket->tokens);
    bucket->tokens -= bytes;
}

uint64_t bucket_when_us(const struct bucket *bucket)
{
    if (bucket->rate_bytes == 0 || bucket->tokens >= BUCKET_LEAST_BYTES)
        return bucket->at_us;
    return bucket->at_us +
           ((BUCKET_LEAST_BYTES - bucket->tokens) * SECOND_US) / bucket->rate_bytes + 1;
}
