/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A controller's status for a person to read: at most 100 columns, whatever the names and numbers
 * are. */

#ifndef CLI_SHOW_H
#define CLI_SHOW_H

#include "base/check.h"

#include <jansson.h>
#include <stdio.h>

enum {
    SHOW_COLUMNS = 100,
    SHOW_SHORT = 16, /* bytes of a short number with its NUL */
};

/* The "status" object of a reply (docs/status-json.md). A key that is not there counts as zero or
 * "none", so that an older or newer controller can be shown. */
void show_status(FILE *out, const json_t *status);

/* Its groups only, below a line that says whose they are. */
void show_groups(FILE *out, const json_t *status);

/* Numbers in few columns: 950us 1.2ms 41ms 3.5s; 99999 123k 1.2M; 512 4.0K 1.5G. At most 6 columns
 * each. */
void show_duration(char text[SHOW_SHORT], uint64_t us);
void show_count(char text[SHOW_SHORT], uint64_t count);
void show_size(char text[SHOW_SHORT], uint64_t bytes);

/* "2026-11-21 17:05:03 UTC", of microseconds since 1970. */
void show_time(char text[SHOW_SHORT * 2], uint64_t wall_us);

#endif
