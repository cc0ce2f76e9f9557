/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* `group failover` of a set: every copy goes to one and the same cut. */

#ifndef CLI_FAILOVER_H
#define CLI_FAILOVER_H

#include "cli/cli.h"

/* One array that is asked, by its configuration. */
struct failover_array {
    const char *config;
    char sockets[CLI_CONTROLLERS][CLI_SOCKET_SIZE];
};

/* Fails over the set of that name at these arrays, or says why not, and then nothing has changed.
 * `force`: also where the copies cannot all go to one cut, or are not all here; what that gives up
 * is said. `found`: whether any of the arrays has such a set, or `name` is a group of one and force
 * is not given, which is refused; when not, nothing was done and nothing said. An exit status. */
int failover_set(const char *name, const struct failover_array *arrays, uint32_t count, bool force,
                 uint32_t timeout_ms, bool *found);

#endif
