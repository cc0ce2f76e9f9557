/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The register in a file: for two controllers on one machine, or on a file system that both reach
 * and whose fcntl locks and renames are honoured. The calls wait for the disk; register_thread_*()
 * makes them for the loop on a thread of its own, so that a slow file system holds nothing else up.
 */

#ifndef SHELL_REGISTER_FILE_H
#define SHELL_REGISTER_FILE_H

#include "array/array.h"
#include "shell/config.h"
#include "shell/loop.h"

#include <pthread.h>

enum {
    REGISTER_LOCK_WAIT_MS = 2000, /* longer than that nobody honest holds the lock: UNKNOWN */
    REGISTER_SAY_MS = 10000, /* how often a register that stays out of reach is said to be so */
};

/* The register's place: a name in the folder that was first found at its path. While the path leads
 * elsewhere (the file system is unmounted, the folder was replaced) every answer is UNKNOWN. */
struct register_file {
    const char *path;
    char folder_path[CONFIG_PATH_SIZE], name[CONFIG_PATH_SIZE];
    int folder; /* held open; -1: there was none yet */
};

/* Touches no file. `path` must stay. */
void register_file_init(struct register_file *file, const char *path);
void register_file_close(struct register_file *file);

/* What is in the file; a file that is absent from its folder reads as the record that was never
 * written. For UNKNOWN, `why` says more. */
enum register_result register_file_read(struct register_file *file, struct register_record *record,
                                        char why[TRACE_LINE]);

/* Replace `expected` by `wanted`, durably. For CONFLICT, `record` is what is there; for OK it is
 * `wanted`. */
enum register_result register_file_swap(struct register_file *file,
                                        const struct register_record *expected,
                                        const struct register_record *wanted,
                                        struct register_record *record, char why[TRACE_LINE]);

struct register_thread {
    struct op op; /* reads the event descriptor */
    struct loop *loop;
    char said[TRACE_LINE]; /* the reason that was last logged; empty: it answers */
    uint64_t say_next_us;
    void (*answered)(void *context, enum register_result result,
                     const struct register_record *record, const char *why);
    void *context;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    int event;
    uint64_t event_value;
    bool busy;          /* the loop's view: asked and not answered */
    bool asked, finish; /* under the mutex, as all below */
    struct register_file file;
    struct register_action action;
    enum register_result result;
    struct register_record record;
    char why[TRACE_LINE];
};

const char *
register_thread_start(struct register_thread *thread, struct loop *loop, const char *path,
                      void (*answered)(void *context, enum register_result result,
                                       const struct register_record *record, const char *why),
                      void *context);
/* One at a time: the next only after `answered`. */
void register_thread_ask(struct register_thread *thread, const struct register_action *action);

#endif
