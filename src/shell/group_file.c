/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Groups' records on disk: a head with a magic number, the group's identity and the length, the
 * record, and a CRC-32C over all of it. A record is written to NAME.new, made durable, renamed over
 * NAME, and the folder is made durable, so that at every moment NAME is a whole record. The bytes
 * are the core's, and are never copied: a bitmap may be megabytes. */

#include "shell/group_file.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "shell/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

static const uint8_t magic[4] = {'H', 'F', 'G', 'R'};

/* ---- one file ---- */

void group_file_ends(const uint8_t id[GROUP_ID_SIZE], const void *record, uint32_t length,
                     uint8_t head[GROUP_FILE_HEAD], uint8_t tail[4])
{
    memset(head, 0, GROUP_FILE_HEAD);
    memcpy(head, magic, sizeof magic);
    head[4] = 1;
    memcpy(head + 8, id, GROUP_ID_SIZE);
    put_u32(head + 24, length);
    uint32_t crc = crc32c_more(CRC32C_START, head, GROUP_FILE_HEAD);
    put_u32(tail, crc32c_end(crc32c_more(crc, record, length)));
}

const char *group_file_decode(const uint8_t *bytes, size_t size, const uint8_t id[GROUP_ID_SIZE],
                              const uint8_t **record, uint32_t *length)
{
    static const uint8_t reserved[4];
    if (size < GROUP_FILE_HEAD + 4 || memcmp(bytes, magic, sizeof magic) != 0)
        return "it is not a group's record";
    if (bytes[4] != 1 || memcmp(bytes + 5, reserved, 3) != 0 ||
        memcmp(bytes + 28, reserved, 4) != 0)
        return "it has a version that this program does not know";
    uint32_t said = get_u32(bytes + 24);
    if (size - GROUP_FILE_HEAD - 4 != said)
        return "its length is wrong";
    if (get_u32(bytes + size - 4) != crc32c(bytes, size - 4))
        return "its checksum is wrong";
    if (said == 0)
        return "it holds nothing";
    if (memcmp(bytes + 8, id, GROUP_ID_SIZE) != 0)
        return "it was written when the group had other volumes, sizes or arrays";
    *record = bytes + GROUP_FILE_HEAD;
    *length = said;
    return NULL;
}

static bool write_all(int descriptor, const uint8_t *bytes, uint32_t size)
{
    for (uint32_t at = 0; at < size;) {
        ssize_t done = write(descriptor, bytes + at, size - at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        at += (uint32_t)done;
    }
    return true;
}

const char *group_file_write(const char *folder, const char *name, const uint8_t id[GROUP_ID_SIZE],
                             const void *record, uint32_t length, char why[TRACE_LINE])
{
    uint8_t head[GROUP_FILE_HEAD], tail[4];
    char fresh[CONFIG_NAME_SIZE + 8];
    group_file_ends(id, record, length, head, tail);
    snprintf(fresh, sizeof fresh, "%s.new", name);
    int at = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int file = at < 0 ? -1 : openat(at, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool good = file >= 0 && write_all(file, head, sizeof head) &&
                write_all(file, record, length) && write_all(file, tail, sizeof tail) &&
                fsync(file) == 0 && renameat(at, fresh, at, name) == 0 && fsync(at) == 0;
    if (!good)
        snprintf(why, TRACE_LINE, "cannot write %.100s/%.60s: %s", folder, name, strerror(errno));
    if (file >= 0)
        close(file);
    if (at >= 0)
        close(at);
    return good ? NULL : why;
}

int64_t group_file_read(const char *folder, const char *name, size_t most, uint8_t **bytes,
                        char why[TRACE_LINE])
{
    char path[GROUP_PATH_SIZE + CONFIG_NAME_SIZE + 1];
    size_t room = most + 1, got = 0;
    ssize_t more = -1;
    *bytes = NULL;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 && errno == ENOENT)
        return 0;
    if (file >= 0)
        *bytes = malloc(room);
    if (*bytes)
        while (got < room &&
               ((more = read(file, *bytes + got, room - got)) > 0 || (more < 0 && errno == EINTR)))
            got += more > 0 ? (size_t)more : 0;
    if (file >= 0)
        close(file);
    if (more >= 0)
        return (int64_t)got;
    snprintf(why, TRACE_LINE, "cannot read %.150s: %s", path, strerror(errno));
    free(*bytes);
    *bytes = NULL;
    return -1;
}

/* ---- the thread ---- */

static struct group_slot *next_wanted(struct group_files *files, uint8_t *group)
{
    for (uint8_t i = 0; i < GROUP_LIMIT; i++)
        if (files->slots[i].wanted) {
            *group = i;
            return &files->slots[i];
        }
    return NULL;
}

static void *thread_main(void *context)
{
    struct group_files *files = context;
    pthread_mutex_lock(&files->mutex);
    for (;;) {
        uint8_t group;
        struct group_slot *slot = next_wanted(files, &group);
        if (!slot) {
            pthread_cond_wait(&files->wake, &files->mutex);
            continue;
        }
        slot->wanted = false;
        const void *record = slot->record;
        uint32_t length = slot->length;
        pthread_mutex_unlock(&files->mutex);
        char why[TRACE_LINE];
        const char *name = files->config->groups[group].name;
        const char *wrong = group_file_write(files->folder, name, slot->id, record, length, why);
        if (wrong)
            log_say(LOG_ERROR, "group %s: its record is not kept: %s", name, wrong);
        pthread_mutex_lock(&files->mutex);
        slot->done = true;
        slot->good = !wrong;
        uint64_t one = 1;
        CHECK(write(files->event, &one, sizeof one) == sizeof one);
    }
    return NULL;
}

static void event_wait(struct group_files *files)
{
    struct io_uring_sqe *sqe = loop_sqe(files->loop);
    io_uring_prep_read(sqe, files->event, &files->event_value, sizeof files->event_value, 0);
    loop_own(sqe, &files->op);
}

static void event_done(struct op *op, int result, unsigned flags)
{
    struct group_files *files = (struct group_files *)op;
    CHECK(result == sizeof files->event_value || result == -EINTR || result == -EAGAIN);
    event_wait(files);
    for (uint8_t i = 0; i < files->config->group_count; i++) {
        struct group_slot *slot = &files->slots[i];
        pthread_mutex_lock(&files->mutex);
        bool done = slot->done, good = slot->good;
        slot->done = false;
        pthread_mutex_unlock(&files->mutex);
        if (!done)
            continue;
        slot->busy = false;
        files->kept(files->context, i, good);
    }
}

const char *group_files_start(struct group_files *files, struct loop *loop,
                              const struct config *config, int controller,
                              void (*kept)(void *context, uint8_t group, bool good), void *context,
                              char why[TRACE_LINE])
{
    memset(files, 0, sizeof *files);
    files->op.done = event_done;
    files->loop = loop;
    files->config = config;
    files->kept = kept;
    files->context = context;
    snprintf(files->folder, sizeof files->folder, "%s/group", config->controllers[controller].run);
    if (mkdir(files->folder, 0700) < 0 && errno != EEXIST) {
        snprintf(why, TRACE_LINE, "cannot make %.120s: %s", files->folder, strerror(errno));
        return why;
    }
    struct statfs where;
    if (statfs(files->folder, &where) == 0 &&
        (where.f_type == TMPFS_MAGIC || where.f_type == RAMFS_MAGIC))
        log_say(LOG_WARNING,
                "%s is in memory: after a loss of power this controller does not know which site "
                "has a group's truth; set run = to a folder on a disk",
                files->folder);
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

const char *group_files_load(struct group_files *files, uint8_t group,
                             const uint8_t id[GROUP_ID_SIZE], uint32_t most, uint8_t **bytes,
                             const uint8_t **record, uint32_t *length, char why[TRACE_LINE])
{
    const char *name = files->config->groups[group].name;
    const size_t room = GROUP_FILE_HEAD + (size_t)most + 4;
    int64_t got = group_file_read(files->folder, name, room, bytes, why);
    if (got < 0)
        return why;
    if (!*bytes)
        return NULL;
    const char *wrong = (size_t)got > room
                            ? "its length is wrong"
                            : group_file_decode(*bytes, (size_t)got, id, record, length);
    if (!wrong)
        return NULL;
    free(*bytes);
    *bytes = NULL;
    log_say(LOG_ERROR,
            "group %s: the record in %s is not taken: %s. It says which site has the group's "
            "truth: look at the other controllers and the other array before you remove it",
            name, files->folder, wrong);
    snprintf(why, TRACE_LINE, "%.80s/%.40s: %s", files->folder, name, wrong);
    return why;
}

void group_files_save(struct group_files *files, uint8_t group, const uint8_t id[GROUP_ID_SIZE],
                      const void *record, uint32_t length)
{
    struct group_slot *slot = &files->slots[group];
    CHECK(!slot->busy);
    CHECK(length > 0);
    pthread_mutex_lock(&files->mutex);
    memcpy(slot->id, id, GROUP_ID_SIZE);
    slot->record = record;
    slot->length = length;
    slot->busy = slot->wanted = true;
    pthread_cond_signal(&files->wake);
    pthread_mutex_unlock(&files->mutex);
}
