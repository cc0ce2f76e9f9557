/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The planted mistakes of base/mistake.h by their names. */

#ifndef SIM_MISTAKES_H
#define SIM_MISTAKES_H

#include <stdbool.h>
#include <stdio.h>

/* The core makes this mistake from now on. NULL, or a sentence saying why it does not. */
const char *mistakes_make(const char *name);

/* One line for each: its name, what is done wrong, and what --groups has to be, or `sets`: then
 * --sets is on; tabs between. */
void mistakes_print(FILE *to);

#endif
