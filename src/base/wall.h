/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A time of day as text, without the C library's calendar: the core has no clock and no time zone.
 */

#ifndef BASE_WALL_H
#define BASE_WALL_H

#include <stdint.h>

enum { WALL_TEXT = 32 };

/* "2026-11-21T17:45:52Z" of microseconds since 1970, UTC (RFC 3339); any number is a time. */
void wall_text(char text[WALL_TEXT], uint64_t wall_us);

#endif
