/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See durable.h. The bytes go to NAME.new, which is made durable and renamed over NAME; then the
 * folder is made durable. So at every moment NAME is a whole file. */

#include "shell/durable.h"

#include "shell/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool write_all(int descriptor, const uint8_t *bytes, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t done = write(descriptor, bytes + at, size - at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        at += (size_t)done;
    }
    return true;
}

const char *durable_write(const char *folder, const char *name, const struct durable_piece *pieces,
                          uint32_t count, char why[TRACE_LINE])
{
    char fresh[CONFIG_NAME_SIZE + 8];
    snprintf(fresh, sizeof fresh, "%s.new", name);
    int at = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), file = -1;
    bool good = at >= 0;
    if (good && count > 0) {
        file = openat(at, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        good = file >= 0;
        for (uint32_t i = 0; i < count && good; i++)
            good = write_all(file, pieces[i].bytes, pieces[i].size);
        good = good && fsync(file) == 0 && renameat(at, fresh, at, name) == 0;
    } else if (good) {
        good = unlinkat(at, name, 0) == 0 || errno == ENOENT;
    }
    good = good && fsync(at) == 0;
    if (!good)
        snprintf(why, TRACE_LINE, "cannot write %.100s/%.60s: %s", folder, name, strerror(errno));
    if (file >= 0)
        close(file);
    if (at >= 0)
        close(at);
    return good ? NULL : why;
}
