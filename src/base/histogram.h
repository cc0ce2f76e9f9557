/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A histogram of microseconds: four buckets to each power of two, so a percentile is off by at most
 * 25 %, and adding one costs a few instructions. */

#ifndef BASE_HISTOGRAM_H
#define BASE_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_BUCKETS = 128 };

struct histogram {
    uint64_t count;
    uint64_t bucket[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, uint64_t value_us);

/* The value below which `per_mille` of the entries lie (upper bound of its bucket); 0 when empty.
 */
uint64_t histogram_percentile(const struct histogram *histogram, unsigned per_mille);

#endif
