/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* State records of volumes on disk, for what SCSI hosts asked to be kept over a loss of power
 * (APTPL): RUN/state/VOLUME. The loop only hands copies to a thread of its own, which writes one
 * record after the other; of records of one volume that wait, the newest is written. */

#ifndef SHELL_STATE_FILE_H
#define SHELL_STATE_FILE_H

#include "shell/config.h"
#include "shell/loop.h"

#include <pthread.h>

enum {
    STATE_FILE_HEAD = 16,
    STATE_FILE_BYTES = STATE_FILE_HEAD + VOLUME_STATE_BYTES + 4,
    STATE_PATH_SIZE = CONFIG_RUN_SIZE + CONFIG_NAME_SIZE + 16,
};

/* ---- one record; each waits for the disk ---- */

/* Into `bytes` of STATE_FILE_BYTES; returns how many. */
uint32_t state_file_encode(uint8_t *bytes, uint32_t version, const void *record, uint32_t length);
/* NULL, or why the bytes are no record; *record points into them. */
const char *state_file_decode(const uint8_t *bytes, size_t size, uint32_t *version,
                              const uint8_t **record, uint32_t *length);
/* How many bytes (at most `room`); 0: there is none; -1 with a sentence. */
int state_file_read(const char *folder, const char *name, uint8_t *bytes, size_t room,
                    char why[TRACE_LINE]);

/* ---- the thread ---- */

struct state_slot {
    uint8_t *bytes; /* STATE_FILE_BYTES; NULL until the volume has had a record to write */
    uint32_t size;
    bool on_disk;   /* the loop's view: a file is there, or will be */
    bool wanted;    /* under the mutex: to be written */
    uint32_t asked; /* the loop's: how many records were handed over ... */
    uint32_t taken; /* ... under the mutex: how many of them the one being written stands for ... */
    uint32_t saved; /* ... and how many are durable or failed */
};

struct state_files {
    struct op op; /* reads the event descriptor */
    struct loop *loop;
    const struct config *config;
    char folder[STATE_PATH_SIZE];
    /* Something that was asked for has been saved. */
    void (*saved)(void *context);
    void *context;
    int event;
    uint64_t event_value;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    uint8_t written[STATE_FILE_BYTES]; /* the thread's */
    struct state_slot slots[VOLUME_LIMIT];
};

/* Makes RUN/state. NULL, or a sentence. */
const char *state_files_start(struct state_files *files, struct loop *loop,
                              const struct config *config, int controller,
                              void (*saved)(void *context), void *context, char why[TRACE_LINE]);

/* What is kept of the volume; *record stays valid until the next call. False: nothing. A file that
 * is damaged counts as nothing and is said in the log. */
bool state_files_load(struct state_files *files, uint8_t volume, uint32_t *version,
                      const uint8_t **record, uint32_t *length);

/* Keep this record; `length` 0: keep none, and take away one that is there. The bytes are copied.
 */
void state_files_save(struct state_files *files, uint8_t volume, uint32_t version,
                      const void *record, uint32_t length);

/* Whether a record of the volume is still on its way to the disk. */
bool state_files_busy(const struct state_files *files, uint8_t volume);

#endif
