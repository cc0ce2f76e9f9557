/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Records on disk: a head with a magic number, the record's version and length, the record, and a
 * CRC-32C over all of it. The loop never waits for any of it. */

#include "shell/state_file.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "shell/durable.h"
#include "shell/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint8_t magic[4] = {'H', 'F', 'S', 'T'};

/* ---- one record ---- */

uint32_t state_file_encode(uint8_t *bytes, uint32_t version, const void *record, uint32_t length)
{
    CHECK(length <= VOLUME_STATE_BYTES);
    memset(bytes, 0, STATE_FILE_HEAD);
    memcpy(bytes, magic, sizeof magic);
    bytes[4] = 1;
    put_u32(bytes + 8, version);
    put_u32(bytes + 12, length);
    memcpy(bytes + STATE_FILE_HEAD, record, length);
    uint32_t end = STATE_FILE_HEAD + length;
    put_u32(bytes + end, crc32c(bytes, end));
    return end + 4;
}

const char *state_file_decode(const uint8_t *bytes, size_t size, uint32_t *version,
                              const uint8_t **record, uint32_t *length)
{
    static const uint8_t reserved[3];
    if (size < STATE_FILE_HEAD + 4 || memcmp(bytes, magic, sizeof magic) != 0)
        return "it is not a state record";
    if (bytes[4] != 1 || memcmp(bytes + 5, reserved, sizeof reserved) != 0)
        return "it has a version that this program does not know";
    uint32_t said = get_u32(bytes + 12);
    if (said > VOLUME_STATE_BYTES || size != STATE_FILE_HEAD + said + 4u)
        return "its length is wrong";
    if (get_u32(bytes + STATE_FILE_HEAD + said) != crc32c(bytes, STATE_FILE_HEAD + said))
        return "its checksum is wrong";
    if (get_u32(bytes + 8) == 0 || said == 0)
        return "it holds nothing";
    *version = get_u32(bytes + 8);
    *length = said;
    *record = bytes + STATE_FILE_HEAD;
    return NULL;
}

int state_file_read(const char *folder, const char *name, uint8_t *bytes, size_t room,
                    char why[TRACE_LINE])
{
    char path[STATE_PATH_SIZE + CONFIG_NAME_SIZE + 1];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 && errno == ENOENT)
        return 0;
    ssize_t got = file < 0 ? -1 : read(file, bytes, room);
    if (got < 0)
        snprintf(why, TRACE_LINE, "cannot read %.150s: %s", path, strerror(errno));
    if (file >= 0)
        close(file);
    return (int)got;
}

/* ---- the thread ---- */

static void *thread_main(void *context)
{
    struct state_files *files = context;
    uint32_t next = 0;
    pthread_mutex_lock(&files->mutex);
    for (;;) {
        uint32_t looked = 0;
        while (looked < VOLUME_LIMIT && !files->slots[next].wanted) {
            next = (next + 1) % VOLUME_LIMIT;
            looked++;
        }
        if (looked == VOLUME_LIMIT) {
            pthread_cond_wait(&files->wake, &files->mutex);
            continue;
        }
        struct state_slot *slot = &files->slots[next];
        uint32_t size = slot->size, taken = slot->taken;
        memcpy(files->written, slot->bytes, size);
        slot->wanted = false;
        pthread_mutex_unlock(&files->mutex);
        char why[TRACE_LINE];
        const struct durable_piece record = {files->written, size};
        if (durable_write(files->folder, files->config->volumes[next].name, &record, size > 0, why))
            log_say(LOG_ERROR, "volume %s: its reservations are not kept over a loss of power: %s",
                    files->config->volumes[next].name, why);
        pthread_mutex_lock(&files->mutex);
        __atomic_store_n(&slot->saved, taken, __ATOMIC_RELEASE);
        uint64_t one = 1;
        CHECK(write(files->event, &one, sizeof one) == sizeof one);
    }
    return NULL;
}

static void event_wait(struct state_files *files)
{
    struct io_uring_sqe *sqe = loop_sqe(files->loop);
    io_uring_prep_read(sqe, files->event, &files->event_value, sizeof files->event_value, 0);
    loop_own(sqe, &files->op);
}

static void event_done(struct op *op, int result, unsigned flags)
{
    struct state_files *files = (struct state_files *)op;
    CHECK(result == sizeof files->event_value || result == -EINTR || result == -EAGAIN);
    event_wait(files);
    if (result > 0)
        files->saved(files->context);
}

const char *state_files_start(struct state_files *files, struct loop *loop,
                              const struct config *config, int controller,
                              void (*saved)(void *context), void *context, char why[TRACE_LINE])
{
    memset(files, 0, sizeof *files);
    files->op.done = event_done;
    files->loop = loop;
    files->config = config;
    files->saved = saved;
    files->context = context;
    snprintf(files->folder, sizeof files->folder, "%s/state", config->controllers[controller].run);
    if (mkdir(files->folder, 0700) < 0 && errno != EEXIST) {
        snprintf(why, TRACE_LINE, "cannot make %.120s: %s", files->folder, strerror(errno));
        return why;
    }
    files->event = eventfd(0, EFD_CLOEXEC);
    if (files->event < 0)
        return strerror(errno);
    pthread_mutex_init(&files->mutex, NULL);
    pthread_cond_init(&files->wake, NULL);
    int result = pthread_create(&files->thread, NULL, thread_main, files);
    if (result != 0)
        return strerror(result);
    event_wait(files);
    return NULL;
}

bool state_files_load(struct state_files *files, uint8_t volume, uint32_t *version,
                      const uint8_t **record, uint32_t *length)
{
    static uint8_t bytes[STATE_FILE_BYTES + 1];
    const char *name = files->config->volumes[volume].name;
    char why[TRACE_LINE];
    int got = state_file_read(files->folder, name, bytes, sizeof bytes, why);
    files->slots[volume].on_disk = got != 0;
    if (got < 0)
        log_say(LOG_ERROR, "volume %s: its reservations cannot be read: %s", name, why);
    if (got <= 0)
        return false;
    const char *wrong = state_file_decode(bytes, (size_t)got, version, record, length);
    if (wrong)
        log_say(LOG_ERROR, "volume %s: %s/%s is not taken, %s", name, files->folder, name, wrong);
    return !wrong;
}

void state_files_save(struct state_files *files, uint8_t volume, uint32_t version,
                      const void *record, uint32_t length)
{
    struct state_slot *slot = &files->slots[volume];
    if (length == 0 && !slot->on_disk)
        return;
    pthread_mutex_lock(&files->mutex);
    if (!slot->bytes)
        slot->bytes = malloc(STATE_FILE_BYTES);
    CHECK(slot->bytes);
    slot->size = length > 0 ? state_file_encode(slot->bytes, version, record, length) : 0;
    slot->taken = ++slot->asked;
    slot->wanted = true;
    slot->on_disk = length > 0;
    pthread_cond_signal(&files->wake);
    pthread_mutex_unlock(&files->mutex);
}

bool state_files_busy(const struct state_files *files, uint8_t volume)
{
    const struct state_slot *slot = &files->slots[volume];
    return slot->asked != __atomic_load_n(&slot->saved, __ATOMIC_ACQUIRE);
}
