/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Compare-and-swap over a small file. Whoever changes it holds an fcntl lock on PATH.lock, writes
 * the new record to PATH.new, makes that durable, renames it over PATH and makes the folder
 * durable: at every moment PATH is a whole record, the old one or the new one. It never writes PATH
 * in place, and never answers OK before the record is durable. A PATH.new that a crash left behind
 * is simply overwritten. */

#include "shell/register_file.h"

#include "shell/config.h"
#include "shell/log.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <sys/eventfd.h>
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

enum register_result register_file_read(const char *path, struct register_record *record,
                                        char why[TRACE_LINE])
{
    memset(record, 0, sizeof *record);
    CLEANUP_CLOSE int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return errno == ENOENT ? REGISTER_OK : unknown(why, "cannot open the register", path);
    uint8_t bytes[REGISTER_SIZE + 1];
    ssize_t got = read(file, bytes, sizeof bytes);
    if (got < 0)
        return unknown(why, "cannot read the register", path);
    const char *reason = "it has the wrong length";
    if (got != REGISTER_SIZE || !register_decode(bytes, record, &reason)) {
        snprintf(why, TRACE_LINE, "the register %.100s is damaged: %s", path, reason);
        memset(record, 0, sizeof *record);
        return REGISTER_UNKNOWN;
    }
    return REGISTER_OK;
}

/* fcntl locks, since network file systems pass those on; an open-file-description lock, so that two
 * threads of one process keep each other out as well. */
static int lock_take(const char *path, char why[TRACE_LINE])
{
    char name[CONFIG_PATH_SIZE + 8];
    snprintf(name, sizeof name, "%s.lock", path);
    int lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0) {
        unknown(why, "cannot open the register's lock", name);
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
    unknown(why, "cannot lock the register with", name);
    close(lock);
    return -1;
}

static bool folder_sync(const char *path)
{
    char copy[CONFIG_PATH_SIZE];
    snprintf(copy, sizeof copy, "%s", path);
    CLEANUP_CLOSE int folder = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return folder >= 0 && fsync(folder) == 0;
}

static enum register_result replace(const char *path, const struct register_record *wanted,
                                    char why[TRACE_LINE])
{
    char name[CONFIG_PATH_SIZE + 8];
    snprintf(name, sizeof name, "%s.new", path);
    uint8_t bytes[REGISTER_SIZE];
    register_encode(wanted, bytes);
    CLEANUP_CLOSE int file = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0)
        return unknown(why, "cannot create", name);
    ssize_t put = write(file, bytes, sizeof bytes);
    if (put >= 0 && put != (ssize_t)sizeof bytes)
        errno = ENOSPC;
    if (put != (ssize_t)sizeof bytes || fsync(file) < 0)
        return unknown(why, "cannot write", name);
    if (rename(name, path) < 0)
        return unknown(why, "cannot replace the register", path);
    if (!folder_sync(path))
        return unknown(why, "cannot make the register durable at", path);
    return REGISTER_OK;
}

enum register_result register_file_swap(const char *path, const struct register_record *expected,
                                        const struct register_record *wanted,
                                        struct register_record *record, char why[TRACE_LINE])
{
    CLEANUP_CLOSE int lock = lock_take(path, why);
    if (lock < 0)
        return REGISTER_UNKNOWN;
    enum register_result result = register_file_read(path, record, why);
    if (result != REGISTER_OK)
        return result;
    if (!register_equal(record, expected))
        return REGISTER_CONFLICT;
    result = replace(path, wanted, why);
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
        thread->result = register_file_swap(thread->path, &action->expected, &action->wanted,
                                            &thread->record, thread->why);
    else
        thread->result = register_file_read(thread->path, &thread->record, thread->why);
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
    if (thread->result == REGISTER_UNKNOWN)
        log_say(LOG_ERROR, "%s", thread->why);
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
    thread->path = path;
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
