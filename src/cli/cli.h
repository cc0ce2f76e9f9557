/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What the operator types. It parses the words, asks a controller over its control socket, and
 * prints. It does not know what a configuration is or how a controller runs: whoever calls it hands
 * those over as functions. */

#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "base/check.h"

#define CLI_CONFIG_PATH "/etc/holdfast/holdfast.conf"

enum {
    CLI_CONTROLLERS = 2,   /* 0 = a, 1 = b */
    CLI_SOCKET_SIZE = 108, /* sun_path */
    CLI_FILE_LIMIT = 8, /* configurations of one call: a set's arrays, with originals and copies */

    CLI_DONE = 0,
    CLI_FAILED = 1, /* refused, or no answer */
    CLI_USAGE = 2,  /* the words make no sense */
};

/* Each reports its own mistakes to stderr. */
struct cli_hooks {
    const char *version;
    /* The control sockets of both controllers by the configuration; false when it has mistakes. */
    bool (*sockets)(const char *config, char sockets[CLI_CONTROLLERS][CLI_SOCKET_SIZE]);
    /* These return the exit status. */
    /* One array's configuration or more; with more than one, whether they fit each other. */
    int (*check)(const char *const *configs, uint32_t count);
    int (*run)(const char *config, int controller);
    int (*demo)(const char *const words[]); /* for the script; NULL behind the last */
};

/* The whole program: returns its exit status, one of CLI_* or what hooks->run() returned. */
int cli_main(int argc, char **argv, const struct cli_hooks *hooks);

#endif
