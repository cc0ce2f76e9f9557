/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See histogram.h. Values 0..7 have a bucket each; above, the two bits below the leading one
 * choose. */

#include "base/histogram.h"

static unsigned bucket_of(uint64_t value)
{
    if (value < 8)
        return (unsigned)value;
    unsigned exponent = 63 - (unsigned)__builtin_clzll(value);
    unsigned bucket = exponent * 4 + (unsigned)(value >> (exponent - 2) & 3) - 4;
    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

static uint64_t bucket_upper(unsigned bucket)
{
    if (bucket < 8)
        return bucket;
    unsigned exponent = (bucket + 4) / 4;
    uint64_t quarter = (bucket + 4) % 4;
    return ((4 + quarter + 1) << (exponent - 2)) - 1;
}

void histogram_add(struct histogram *histogram, uint64_t value_us)
{
    histogram->count++;
    histogram->bucket[bucket_of(value_us)]++;
}

uint64_t histogram_percentile(const struct histogram *histogram, unsigned per_mille)
{
    if (histogram->count == 0)
        return 0;
    uint64_t rank = (histogram->count * per_mille + 999) / 1000;
    uint64_t seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->bucket[i];
        if (seen >= rank && seen > 0)
            return bucket_upper(i);
    }
    return bucket_upper(HISTOGRAM_BUCKETS - 1);
}
