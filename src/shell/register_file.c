/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Compare-and-swap over a small file. Whoever changes it holds an fcntl lock on PATH.lock, writes
 * the new record to PATH.new, makes that durable, renames it over PATH and makes the folder
 * durable: at every moment PATH is a whole record, the old one or the new one. It never writes PATH
 * in place, and never answers OK before the record is durable. A PATH.new that a crash left behind
 * is simply overwritten.
 *
 * Everything happens inside the folder that was there first, which is held open. Where the path
 * leads to no folder any more, or to another one (the mount point under a file system that is
 * gone), nothing that stands or is missing there says anything about the register: the answer is
 * UNKNOWN until the path leads to the first folder again. */

#include "shell/register_file.h"

#include "shell/config.h"
#include "shell/log.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static enum register_result unknown(char why[TRACE_LINE], const char *what, const char *path)
{
    snprintf(why, TRACE_LINE, "%s %.110s: %s", what, path, strerror(errno));
    return REGISTER_UNKNOWN;
}

static void close_descriptor(const int *descriptor)
{
    if (*descriptor >= 0)
        close(*descriptor);
}
#define CLEANUP_CLOSE __attribute__((cleanup(close_descriptor)))

/* ---- the folder ---- */

void register_file_init(struct register_file *file, const char *path)
{
    *file = (struct register_file){.path = path, .folder = -1};
    char copy[CONFIG_PATH_SIZE]; /* dirname() and basename() write into it */
    snprintf(copy, sizeof copy, "%s", path);
    snprintf(file->folder_path, sizeof file->folder_path, "%s", dirname(copy));
    snprintf(copy, sizeof copy, "%s", path);
    snprintf(file->name, sizeof file->name, "%s", basename(copy));
}

void register_file_close(struct register_file *file)
{
    close_descriptor(&file->folder);
    file->folder = -1;
}

/* Whether the path still leads to the folder that is held open; the first one that is there is the
 * one. An open folder's inode number is not given to another one. */
static bool folder_is_ours(struct register_file *file, char why[TRACE_LINE])
{
    struct stat held, now;
    if (file->folder < 0)
        file->folder = open(file->folder_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file->folder < 0) {
        unknown(why, "cannot open the register's folder", file->folder_path);
        return false;
    }
    if (stat(file->folder_path, &now) < 0) {
        unknown(why, "the register's folder is gone:", file->folder_path);
        return false;
    }
    if (fstat(file->folder, &held) < 0) {
        unknown(why, "cannot look at the register's folder", file->folder_path);
        return false;
    }
    if (held.st_dev == now.st_dev && held.st_ino == now.st_ino)
        return true;
    snprintf(why, TRACE_LINE,
             "%.80s is not the folder that held the register when this controller started: "
             "is its file system not mounted?",
             file->folder_path);
    return false;
}

/* ---- reading and swapping ---- */

static enum register_result read_record(struct register_file *file, struct register_record *record,
                                        char why[TRACE_LINE])
{
    memset(record, 0, sizeof *record);
    CLEANUP_CLOSE int descriptor = openat(file->folder, file->name, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0 && errno == ENOENT)
        return folder_is_ours(file, why) ? REGISTER_OK : REGISTER_UNKNOWN;
    if (descriptor < 0)
        return unknown(why, "cannot open the register", file->path);
    uint8_t bytes[REGISTER_SIZE + 1];
    ssize_t got = read(descriptor, bytes, sizeof bytes);
    if (got < 0)
        return unknown(why, "cannot read the register", file->path);
    const char *reason = "it has the wrong length";
    if (got != REGISTER_SIZE || !register_decode(bytes, record, &reason)) {
        snprintf(why, TRACE_LINE, "the register %.100s is damaged: %s", file->path, reason);
        memset(record, 0, sizeof *record);
        return REGISTER_UNKNOWN;
    }
    return REGISTER_OK;
}

enum register_result register_file_read(struct register_file *file, struct register_record *record,
                                        char why[TRACE_LINE])
{
    memset(record, 0, sizeof *record);
    return folder_is_ours(file, why) ? read_record(file, record, why) : REGISTER_UNKNOWN;
}

/* fcntl locks, since network file systems pass those on; an open-file-description lock, so that two
 * threads of one process keep each other out as well. */
static int lock_take(const struct register_file *file, char why[TRACE_LINE])
{
    char name[CONFIG_PATH_SIZE + 8];
    snprintf(name, sizeof name, "%s.lock", file->name);
    int lock = openat(file->folder, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0) {
        unknown(why, "cannot open the lock of the register", file->path);
        return -1;
    }
    for (int waited_ms = 0;; waited_ms += 2) {
        struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        if (fcntl(lock, F_OFD_SETLK, &whole) == 0)
            return lock;
        if ((errno != EAGAIN && errno != EACCES && errno != EINTR) ||
            waited_ms >= REGISTER_LOCK_WAIT_MS)
            break;
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    unknown(why, "cannot lock the register", file->path);
    close(lock);
    return -1;
}

static enum register_result replace(const struct register_file *file,
                                    const struct register_record *wanted, char why[TRACE_LINE])
{
    char name[CONFIG_PATH_SIZE + 8];
    snprintf(name, sizeof name, "%s.new", file->name);
    uint8_t bytes[REGISTER_SIZE];
    register_encode(wanted, bytes);
    CLEANUP_CLOSE int fresh =
        openat(file->folder, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fresh < 0)
        return unknown(why, "cannot create a new file beside the register", file->path);
    ssize_t put = write(fresh, bytes, sizeof bytes);
    if (put >= 0 && put != (ssize_t)sizeof bytes)
        errno = ENOSPC;
    if (put != (ssize_t)sizeof bytes || fsync(fresh) < 0)
        return unknown(why, "cannot write a new file beside the register", file->path);
    if (renameat(file->folder, name, file->folder, file->name) < 0)
        return unknown(why, "cannot replace the register", file->path);
    if (fsync(file->folder) < 0)
        return unknown(why, "cannot make the register durable at", file->path);
    return REGISTER_OK;
}

enum register_result register_file_swap(struct register_file *file,
                                        const struct register_record *expected,
                                        const struct register_record *wanted,
                                        struct register_record *record, char why[TRACE_LINE])
{
    memset(record, 0, sizeof *record);
    if (!folder_is_ours(file, why))
        return REGISTER_UNKNOWN;
    CLEANUP_CLOSE int lock = lock_take(file, why);
    if (lock < 0)
        return REGISTER_UNKNOWN;
    enum register_result result = read_record(file, record, why);
    if (result != REGISTER_OK)
        return result;
    if (!register_equal(record, expected))
        return REGISTER_CONFLICT;
    result = replace(file, wanted, why);
    if (result == REGISTER_OK)
        *record = *wanted;
    return result;
}

/* ---- the thread ---- */

static void perform(struct register_thread *thread)
{
    const struct register_action *action = &thread->action;
    thread->why[0] = '\0';
    if (action->swap)
        thread->result = register_file_swap(&thread->file, &action->expected, &action->wanted,
                                            &thread->record, thread->why);
    else
        thread->result = register_file_read(&thread->file, &thread->record, thread->why);
}

static void *thread_main(void *context)
{
    struct register_thread *thread = context;
    for (;;) {
        pthread_mutex_lock(&thread->mutex);
        while (!thread->asked)
            pthread_cond_wait(&thread->wake, &thread->mutex);
        thread->asked = false;
        pthread_mutex_unlock(&thread->mutex);
        perform(thread); /* the loop does not look at the fields before it has read the event */
        uint64_t one = 1;
        CHECK(write(thread->event, &one, sizeof one) == sizeof one);
    }
    return NULL;
}

static void event_wait(struct register_thread *thread)
{
    struct io_uring_sqe *sqe = loop_sqe(thread->loop);
    io_uring_prep_read(sqe, thread->event, &thread->event_value, sizeof thread->event_value, 0);
    loop_own(sqe, &thread->op);
}

/* A register that cannot be reached is asked again and again: said when it begins or its reason
 * changes, then now and then, and once when it is over. */
static void say(struct register_thread *thread)
{
    uint64_t now_us = thread->loop->now_us;
    if (thread->result != REGISTER_UNKNOWN) {
        if (thread->said[0])
            log_say(LOG_INFO, "the register %s answers again", thread->file.path);
        thread->said[0] = '\0';
    } else if (strcmp(thread->said, thread->why) != 0 || now_us >= thread->say_next_us) {
        log_say(LOG_ERROR, "%s", thread->why);
        memcpy(thread->said, thread->why, sizeof thread->said);
        thread->say_next_us = now_us + REGISTER_SAY_MS * 1000ull;
    }
}

static void event_done(struct op *op, int result, unsigned flags)
{
    struct register_thread *thread = (struct register_thread *)op;
    if (result != sizeof thread->event_value) {
        CHECK(result == -EINTR || result == -EAGAIN);
        event_wait(thread);
        return;
    }
    CHECK(thread->busy);
    thread->busy = false;
    event_wait(thread);
    say(thread);
    thread->answered(thread->context, thread->result, &thread->record, thread->why);
}

const char *
register_thread_start(struct register_thread *thread, struct loop *loop, const char *path,
                      void (*answered)(void *context, enum register_result result,
                                       const struct register_record *record, const char *why),
                      void *context)
{
    memset(thread, 0, sizeof *thread);
    thread->op.done = event_done;
    thread->loop = loop;
    register_file_init(&thread->file, path);
    thread->answered = answered;
    thread->context = context;
    thread->event = eventfd(0, EFD_CLOEXEC);
    if (thread->event < 0)
        return strerror(errno);
    pthread_mutex_init(&thread->mutex, NULL);
    pthread_cond_init(&thread->wake, NULL);
    int result = pthread_create(&thread->thread, NULL, thread_main, thread);
    if (result != 0)
        return strerror(result);
    event_wait(thread);
    return NULL;
}

void register_thread_ask(struct register_thread *thread, const struct register_action *action)
{
    CHECK(!thread->busy);
    thread->busy = true;
    pthread_mutex_lock(&thread->mutex);
    thread->action = *action;
    thread->asked = true;
    pthread_cond_signal(&thread->wake);
    pthread_mutex_unlock(&thread->mutex);
}
