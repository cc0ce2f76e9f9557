/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The world of one array as its seed says, without its parts. `root`: the first array's, which it
 * joins as the last one; NULL: it is the first. */

#ifndef SIM_DRAW_H
#define SIM_DRAW_H

#include "sim/world.h"

struct world *draw_world(const struct world_options *options, struct world *root, bool second);

#endif
