/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Finds the demonstration's script and becomes it. It looks where it was installed together with
 * this very program, which may stand below another root than the one that it was built for, and in
 * the source tree that this program was built in; nowhere else, and never in a path that the
 * environment names: the script is run with the rights of whoever typed the command. */

#include "cli/demo.h"
#include "cli/cli.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* HOLDFAST_DEMO: from the program's directory, or absolute where the build was told so. */
static const char *const places[] = {HOLDFAST_DEMO, "../tools/demo"};

enum { WORD_LIMIT = 8 };

/* The directory of this program, without the slash; false: not known. */
static bool own_directory(char program[PATH_MAX], char directory[PATH_MAX])
{
    ssize_t length = readlink("/proc/self/exe", program, PATH_MAX - 1);
    if (length <= 0)
        return false;
    program[length] = '\0';
    memcpy(directory, program, (size_t)length + 1);
    char *slash = strrchr(directory, '/');
    if (!slash)
        return false;
    *slash = '\0';
    return true;
}

static bool find(const char *directory, char script[PATH_MAX])
{
    for (size_t i = 0; i < ARRAY_LENGTH(places); i++) {
        bool absolute = places[i][0] == '/';
        int length = snprintf(script, PATH_MAX, "%s%s%s", absolute ? "" : directory,
                              absolute ? "" : "/", places[i]);
        if (length < PATH_MAX && access(script, X_OK) == 0)
            return true;
    }
    return false;
}

int demo_run(const char *const words[])
{
    char program[PATH_MAX], directory[PATH_MAX], script[PATH_MAX];
    char *arguments[WORD_LIMIT + 2] = {script};
    if (!own_directory(program, directory) || !find(directory, script)) {
        fprintf(stderr, "holdfast demo: it was not installed with this program; `make demo` in the "
                        "source tree shows it\n");
        return CLI_FAILED;
    }
    for (uint32_t i = 0; words[i]; i++) {
        CHECK(i < WORD_LIMIT);
        arguments[i + 1] = (char *)(uintptr_t)words[i]; /* execv() does not change them */
    }
    if (setenv("HOLDFAST", program, 1) == 0)
        execv(script, arguments);
    fprintf(stderr,
            "holdfast demo: %s: %s; it needs /usr/bin/python3, and Debian's python3-libnbd\n",
            script, strerror(errno));
    return CLI_FAILED;
}
