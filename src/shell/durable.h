/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A small file that is replaced as a whole, for records that a controller must find again after any
 * crash. Each call waits for the disk, so none is for the loop while hosts are served. What the
 * bytes mean is its caller's (state_file.h, group_file.h). */

#ifndef SHELL_DURABLE_H
#define SHELL_DURABLE_H

#include "base/limits.h"

#include <stddef.h>
#include <stdint.h>

struct durable_piece {
    const void *bytes;
    size_t size;
};

/* FOLDER/NAME holds these pieces, one behind the other; no pieces: there is no such file. A crash
 * leaves the old file or the new one. NULL, or a sentence in `why`. */
const char *durable_write(const char *folder, const char *name, const struct durable_piece *pieces,
                          uint32_t count, char why[TRACE_LINE]);

#endif
