/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* `holdfast run`: the one call by which main() becomes a controller. */

#ifndef SHELL_RUN_H
#define SHELL_RUN_H

#include "shell/config.h"

/* Runs controller 0 = a or 1 = b in the foreground until it has stopped, logs to stderr, and
 * returns the process's exit status: 0 after a clean stop. The calling process becomes the parent
 * ("warden") that outlives the controller. `config` has passed config_load() and stays the
 * caller's. */
int shell_run(const struct config *config, int controller);

#endif
