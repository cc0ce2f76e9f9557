/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Lines for the operator on standard error. Under systemd (JOURNAL_STREAM is set) each begins with
 * the priority that sd-daemon(3) defines, else with the time of day. A line is one write(2), so two
 * processes do not mix. */

#ifndef SHELL_LOG_H
#define SHELL_LOG_H

#include "array/array.h"

enum {
    LOG_LINES_A_SECOND = 200
}; /* past it lines are only counted: a failing disk must not fill another one */

/* Call once before the first line. `name` (a few letters, copied) stands in every line: which
 * process speaks. Lines below `least` are dropped. */
void log_open(const char *name, enum log_level least);

void log_say(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
