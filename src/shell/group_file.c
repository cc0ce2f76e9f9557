/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Groups' records on disk: a head with a magic number, the group's identity and the length, the
 * record, and a CRC-32C over all of it. The bytes are the core's, and are never copied: a bitmap
 * may be megabytes. */

#include "shell/group_file.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "shell/durable.h"
#include "shell/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

static void record_write(struct work *work)
{
    struct group_slot *slot = (struct group_slot *)work;
    struct group_files *files = slot->files;
    const char *name = files->config->groups[slot - files->slots].name;
    uint8_t head[GROUP_FILE_HEAD], tail[4];
    const struct durable_piece pieces[] = {
        {head, sizeof head}, {slot->record, slot->length}, {tail, sizeof tail}};
    char why[TRACE_LINE];
    group_file_ends(slot->id, slot->record, slot->length, head, tail);
    slot->good = !durable_write(files->folder, name, pieces, ARRAY_LENGTH(pieces), why);
    if (!slot->good)
        log_say(LOG_ERROR, "group %s: its record is not kept: %s", name, why);
}

static void record_written(struct work *work)
{
    struct group_slot *slot = (struct group_slot *)work;
    struct group_files *files = slot->files;
    slot->busy = false;
    files->kept(files->context, (uint8_t)(slot - files->slots), slot->good);
}

const char *group_files_start(struct group_files *files, struct loop *loop,
                              const struct config *config, int controller,
                              void (*kept)(void *context, uint8_t group, bool good), void *context,
                              char why[TRACE_LINE])
{
    memset(files, 0, sizeof *files);
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
    for (uint32_t i = 0; i < GROUP_LIMIT; i++)
        files->slots[i] = (struct group_slot){
            .work = {.run = record_write, .done = record_written},
            .files = files,
        };
    return worker_start(&files->worker, loop);
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
    memcpy(slot->id, id, GROUP_ID_SIZE);
    slot->record = record;
    slot->length = length;
    slot->busy = true;
    worker_give(&files->worker, &slot->work);
}
