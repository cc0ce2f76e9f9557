/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What a group of the remote copy must find again after a start (its era and role, and after a
 * clean stop its bitmap), on disk: RUN/group/NAME. The loop only names the bytes; a thread of its
 * own writes them, one group after the other. */

#ifndef SHELL_GROUP_FILE_H
#define SHELL_GROUP_FILE_H

#include "shell/config.h"
#include "shell/worker.h"

enum {
    GROUP_FILE_HEAD = 32,
    GROUP_PATH_SIZE = CONFIG_RUN_SIZE + CONFIG_NAME_SIZE + 16,
};

/* ---- one file; each waits for the disk ---- */

/* The head and the tail of a file with this record between them. */
void group_file_ends(const uint8_t id[GROUP_ID_SIZE], const void *record, uint32_t length,
                     uint8_t head[GROUP_FILE_HEAD], uint8_t tail[4]);
/* NULL, or why the bytes are no record of the group; *record points into them. */
const char *group_file_decode(const uint8_t *bytes, size_t size, const uint8_t id[GROUP_ID_SIZE],
                              const uint8_t **record, uint32_t *length);
/* The whole file, from malloc(): how many bytes, 0 when there is none, -1 with a sentence. A file
 * of more than `most` bytes is read as far as that and a byte more. */
int64_t group_file_read(const char *folder, const char *name, size_t most, uint8_t **bytes,
                        char why[TRACE_LINE]);

/* ---- the thread ---- */

struct group_slot {
    struct work work;
    struct group_files *files;
    uint8_t id[GROUP_ID_SIZE];
    const void *record; /* the caller's, until it is reported */
    uint32_t length;
    bool busy; /* handed over and not reported */
    bool good; /* it is durable */
};

struct group_files {
    struct worker worker;
    const struct config *config;
    char folder[GROUP_PATH_SIZE];
    void (*kept)(void *context, uint8_t group, bool good);
    void *context;
    struct group_slot slots[GROUP_LIMIT];
};

/* Makes RUN/group. `kept` is called from the loop. NULL, or a sentence. */
const char *group_files_start(struct group_files *files, struct loop *loop,
                              const struct config *config, int controller,
                              void (*kept)(void *context, uint8_t group, bool good), void *context,
                              char why[TRACE_LINE]);

/* What is kept of the group, at most `most` bytes; *bytes is to be freed and *record stands in it.
 * *bytes stays NULL when there is nothing. A file that is there and cannot be what this controller
 * wrote is an error, because it may say that the truth is at the other array: a sentence. */
const char *group_files_load(struct group_files *files, uint8_t group,
                             const uint8_t id[GROUP_ID_SIZE], uint32_t most, uint8_t **bytes,
                             const uint8_t **record, uint32_t *length, char why[TRACE_LINE]);

/* Keep this record; the bytes stay until it has been reported. One of a group at a time. */
void group_files_save(struct group_files *files, uint8_t group, const uint8_t id[GROUP_ID_SIZE],
                      const void *record, uint32_t length);

#endif
