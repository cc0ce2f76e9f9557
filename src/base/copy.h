/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Copies to memory that the processor's caches do not hold: a frame of a large cache hardly ever
 * stands there. memcpy() would wait for each line of it to be read before it is overwritten, and
 * that wait is most of what such a copy costs. They change what a copy costs, never what it does.
 */

#ifndef BASE_COPY_H
#define BASE_COPY_H

#include <stddef.h>

/* memcpy() to a place that is read again soon. */
void copy_to_cold(void *to, const void *from, size_t size);

/* memcpy() to a place that is not read soon: the bytes go past the caches. After the last of
 * several copies comes copy_past_cache_end(): only then they are in order with what this thread
 * writes later, for whoever else reads that memory. */
void copy_past_cache(void *to, const void *from, size_t size);
void copy_past_cache_end(void);

#endif
