/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The demonstration: a script that stands where the program was installed. */

#ifndef CLI_DEMO_H
#define CLI_DEMO_H

/* Becomes the script, with these words (NULL behind the last) and this program in $HOLDFAST.
 * Returns only when that is not possible, with CLI_FAILED, and the reason on stderr. */
int demo_run(const char *const words[]);

#endif
