/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The parent process. It is small on purpose and takes no memory after the fork, so it lives when
 * the controller does not. It never touches a store, never says GONE before both the process has
 * been reaped and the pipe has ended, and waits for nothing without a bound once the proof is
 * there. Foreign bytes at its port are limited to a few connections, each of one line.
 *
 *     WARDEN_RUNNING --child_ended()--> WARDEN_DRAINING --pipe_ended()--> WARDEN_PROVEN
 * --linger()--> return
 *
 *     WARDEN_RUNNING    the child has not been reaped.
 *     WARDEN_DRAINING   it has; its ring is not torn down: a store operation may still be under
 * way. WARDEN_PROVEN     both: every watcher is told GONE, and so is each that comes now. */

#include "shell/warden.h"

#include "shell/log.h"
#include "shell/loop.h"
#include "shell/socket.h"
#include "shell/warden_wire.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/rand.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum warden_state { WARDEN_RUNNING, WARDEN_DRAINING, WARDEN_PROVEN };

struct watcher {
    int descriptor; /* -1: free */
    struct warden_wire wire;
    uint64_t since_us;
    bool watching; /* greeted, and signed where there is a secret */
    bool seen;     /* has confirmed GONE */
};

struct warden {
    const struct warden_job *job;
    const struct config_controller *config;
    enum warden_state state;
    uint64_t incarnation;
    pid_t child;
    int child_descriptor, pipe, listener, signals, lock;
    bool pipe_over, stop_asked;
    uint64_t stop_asked_us;
    int exit_status;
    uint64_t proven_us;
    struct watcher watchers[WARDEN_WATCHER_LIMIT];
};

/* ---- watchers ---- */

static void watcher_close(struct watcher *watcher)
{
    close(watcher->descriptor);
    watcher->descriptor = -1;
    watcher->watching = false;
}

static void watcher_say(struct watcher *watcher, enum warden_word word, uint64_t number)
{
    char line[WARDEN_LINE_BYTES];
    uint32_t length = warden_wire_put(&watcher->wire, word, number, line);
    /* A socket that does not take a line of this size at once belongs to someone who does not
     * listen. */
    if (send(watcher->descriptor, line, length, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)length)
        watcher_close(watcher);
}

static void watcher_tell_state(struct warden *warden, struct watcher *watcher)
{
    if (warden->state == WARDEN_PROVEN)
        watcher_say(watcher, WARDEN_GONE, warden->incarnation);
    else
        watcher_say(watcher, WARDEN_ALIVE, warden->incarnation);
}

static void watcher_on_line(struct warden *warden, struct watcher *watcher,
                            const struct warden_line *line)
{
    switch (line->word) {
    case WARDEN_HEAD:
        break;
    case WARDEN_WATCH:
        watcher->watching = true;
        watcher_tell_state(warden, watcher);
        break;
    case WARDEN_PING:
        watcher_say(watcher, WARDEN_PONG, line->number);
        break;
    case WARDEN_FENCE:
        if (line->number != warden->incarnation)
            break; /* meant for an earlier start, which is gone: the lock says so */
        log_say(LOG_WARNING, "the peer has taken over and asks for the end of controller %s",
                controller_name(warden->job->controller));
        if (warden->state == WARDEN_RUNNING)
            kill(warden->child, SIGKILL);
        if (warden->state == WARDEN_PROVEN)
            watcher_tell_state(warden, watcher);
        break;
    case WARDEN_SEEN:
        watcher->seen = line->number == warden->incarnation && warden->state == WARDEN_PROVEN;
        break;
    case WARDEN_ALIVE:
    case WARDEN_PONG:
    case WARDEN_GONE:
    case WARDEN_WORD_COUNT:
        watcher_close(watcher);
        break;
    }
}

static void watcher_read(struct warden *warden, struct watcher *watcher)
{
    uint32_t room;
    char *place = warden_wire_place(&watcher->wire, &room);
    ssize_t got = recv(watcher->descriptor, place, room, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        watcher_close(watcher);
        return;
    }
    warden_wire_received(&watcher->wire, (uint32_t)got);
    struct warden_line line;
    const char *why = NULL;
    int next = 0;
    while (watcher->descriptor >= 0 && (next = warden_wire_next(&watcher->wire, &line, &why)) > 0)
        watcher_on_line(warden, watcher, &line);
    if (watcher->descriptor >= 0 && next < 0) {
        char who[ADDRESS_TEXT_SIZE];
        socket_peer_text(watcher->descriptor, who);
        log_say(LOG_WARNING, "parent: connection from %s refused: %s", who, why);
        watcher_close(watcher);
    }
}

/* A free place; when there is none, that of the oldest connection that has not said who it is. */
static struct watcher *watcher_place(struct warden *warden)
{
    struct watcher *oldest = NULL;
    for (int i = 0; i < WARDEN_WATCHER_LIMIT; i++) {
        struct watcher *watcher = &warden->watchers[i];
        if (watcher->descriptor < 0)
            return watcher;
        if (!watcher->watching && (!oldest || watcher->since_us < oldest->since_us))
            oldest = watcher;
    }
    if (oldest)
        watcher_close(oldest);
    return oldest;
}

static void watcher_accept(struct warden *warden)
{
    int descriptor = accept4(warden->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (descriptor < 0)
        return;
    struct watcher *watcher = watcher_place(warden);
    const struct config *config = warden->job->config;
    if (!watcher || !warden_wire_start(&watcher->wire, config->name, config->secret,
                                       warden->job->controller, true)) {
        close(descriptor);
        return;
    }
    socket_no_delay(descriptor);
    watcher->descriptor = descriptor;
    watcher->since_us = loop_clock_us();
    watcher->watching = watcher->seen = false;
    watcher_say(watcher, WARDEN_HEAD, 0);
}

/* ---- the child's end ---- */

static void proof_if_complete(struct warden *warden)
{
    if (warden->state != WARDEN_DRAINING || !warden->pipe_over)
        return;
    warden->state = WARDEN_PROVEN;
    warden->proven_us = loop_clock_us();
    log_say(LOG_INFO, "controller %s is gone, and no store operation of it is under way",
            controller_name(warden->job->controller));
    for (int i = 0; i < WARDEN_WATCHER_LIMIT; i++)
        if (warden->watchers[i].watching)
            watcher_tell_state(warden, &warden->watchers[i]);
}

static void child_ended(struct warden *warden)
{
    int status = 0;
    if (waitpid(warden->child, &status, WNOHANG) != warden->child)
        return;
    CHECK(warden->state == WARDEN_RUNNING);
    warden->state = WARDEN_DRAINING;
    if (WIFEXITED(status)) {
        warden->exit_status = WEXITSTATUS(status);
    } else {
        warden->exit_status = 128 + WTERMSIG(status);
        log_say(LOG_ERROR, "controller %s was ended by signal %d (%s)",
                controller_name(warden->job->controller), WTERMSIG(status),
                strsignal(WTERMSIG(status)));
    }
    proof_if_complete(warden);
}

static void pipe_read(struct warden *warden)
{
    char byte;
    ssize_t got = read(warden->pipe, &byte, 1);
    if (got != 0)
        return;
    warden->pipe_over = true;
    proof_if_complete(warden);
}

static void on_signal(struct warden *warden)
{
    struct signalfd_siginfo info;
    if (read(warden->signals, &info, sizeof info) != sizeof info)
        return;
    if (warden->state != WARDEN_RUNNING)
        return;
    uint64_t now_us = loop_clock_us();
    if (warden->stop_asked && now_us - warden->stop_asked_us < WARDEN_SECOND_MS * 1000ull)
        return;
    log_say(LOG_INFO,
            warden->stop_asked ? "asked to stop a second time: ending controller %s at once"
                               : "asked to stop: controller %s stops cleanly",
            controller_name(warden->job->controller));
    kill(warden->child, warden->stop_asked ? SIGKILL : SIGTERM);
    warden->stop_asked = true;
    warden->stop_asked_us = now_us;
}

/* ---- waiting ---- */

/* How long to stay once there is nothing left to prove; 0: no longer. */
static uint64_t linger_until_us(const struct warden *warden)
{
    if (warden->state != WARDEN_PROVEN)
        return UINT64_MAX;
    bool watched = false, seen = false;
    for (int i = 0; i < WARDEN_WATCHER_LIMIT; i++) {
        const struct watcher *watcher = &warden->watchers[i];
        watched |= watcher->watching && !watcher->seen;
        seen |= watcher->seen;
    }
    if (watched)
        return warden->proven_us + WARDEN_LINGER_MS * 1000ull;
    if (seen || warden->exit_status == 0)
        return 0;
    return warden->proven_us + WARDEN_LINGER_ALONE_MS * 1000ull;
}

static void expire_strangers(struct warden *warden, uint64_t now_us)
{
    for (int i = 0; i < WARDEN_WATCHER_LIMIT; i++) {
        struct watcher *watcher = &warden->watchers[i];
        if (watcher->descriptor >= 0 && !watcher->watching &&
            now_us - watcher->since_us > WARDEN_GREETING_MS * 1000ull)
            watcher_close(watcher);
    }
}

static void wait_once(struct warden *warden)
{
    enum { CHILD, PIPE, SIGNALS, LISTENER, FIRST_WATCHER };
    struct pollfd wait[FIRST_WATCHER + WARDEN_WATCHER_LIMIT];
    wait[CHILD] = (struct pollfd){
        .fd = warden->state == WARDEN_RUNNING ? warden->child_descriptor : -1, .events = POLLIN};
    wait[PIPE] = (struct pollfd){.fd = warden->pipe_over ? -1 : warden->pipe, .events = POLLIN};
    wait[SIGNALS] = (struct pollfd){.fd = warden->signals, .events = POLLIN};
    wait[LISTENER] = (struct pollfd){.fd = warden->listener, .events = POLLIN};
    bool strangers = false;
    for (int i = 0; i < WARDEN_WATCHER_LIMIT; i++) {
        wait[FIRST_WATCHER + i] =
            (struct pollfd){.fd = warden->watchers[i].descriptor, .events = POLLIN};
        strangers |= warden->watchers[i].descriptor >= 0 && !warden->watchers[i].watching;
    }
    bool timed = strangers || warden->state == WARDEN_PROVEN;
    if (poll(wait, ARRAY_LENGTH(wait), timed ? 100 : -1) < 0)
        return;
    /* The death first: whoever asks in the same moment gets the newest answer. */
    if (wait[CHILD].revents)
        child_ended(warden);
    if (wait[PIPE].revents)
        pipe_read(warden);
    if (wait[SIGNALS].revents)
        on_signal(warden);
    for (int i = 0; i < WARDEN_WATCHER_LIMIT; i++)
        if (wait[FIRST_WATCHER + i].revents && warden->watchers[i].descriptor >= 0)
            watcher_read(warden, &warden->watchers[i]);
    if (wait[LISTENER].revents)
        watcher_accept(warden);
    expire_strangers(warden, loop_clock_us());
}

/* ---- starting ---- */

static int take_lock(const struct config_controller *config, int controller)
{
    if (mkdir(config->run, 0750) < 0 && errno != EEXIST) {
        log_say(LOG_ERROR, "cannot make the run directory %s: %s", config->run, strerror(errno));
        return -1;
    }
    char path[CONFIG_RUN_SIZE + 8];
    snprintf(path, sizeof path, "%s/lock", config->run);
    int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0) {
        log_say(LOG_ERROR, "cannot open %s: %s", path, strerror(errno));
        return -1;
    }
    for (int waited_ms = 0; flock(lock, LOCK_EX | LOCK_NB) < 0; waited_ms += 10) {
        if (waited_ms == 0)
            log_say(LOG_INFO,
                    "waiting for the end of an earlier run of controller %s (%s is locked)",
                    controller_name(controller), path);
        if (waited_ms >= WARDEN_LOCK_WAIT_MS) {
            log_say(LOG_ERROR,
                    "controller %s is already running, or a store operation of its last run does "
                    "not end: %s is locked",
                    controller_name(controller), path);
            close(lock);
            return -1;
        }
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return lock;
}

_Noreturn static void child_main(struct warden *warden, int alive, pid_t parent,
                                 const sigset_t *old_mask)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1); /* the parent died before it could have been noticed */
    close(warden->listener);
    close(warden->signals);
    close(warden->pipe);
    signal(SIGINT, SIG_IGN); /* a terminal's SIGINT reaches both; the parent passes it on */
    sigprocmask(SIG_SETMASK, old_mask, NULL);
    struct warden_ticket ticket = {
        .incarnation = warden->incarnation, .alive = alive, .lock = warden->lock};
    _exit(warden->job->run(warden->job->context, &ticket));
}

static bool start_child(struct warden *warden)
{
    int ends[2];
    sigset_t stop, old;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    if (pipe2(ends, O_CLOEXEC) < 0 || sigprocmask(SIG_BLOCK, &stop, &old) < 0)
        return false;
    warden->pipe = ends[0];
    warden->signals = signalfd(-1, &stop, SFD_CLOEXEC | SFD_NONBLOCK);
    pid_t self = getpid();
    warden->child = fork();
    if (warden->child < 0)
        return false;
    if (warden->child == 0)
        child_main(warden, ends[1], self, &old);
    close(ends[1]);
    warden->child_descriptor = pidfd_open(warden->child, 0);
    return warden->child_descriptor >= 0 && warden->signals >= 0;
}

int warden_run(const struct warden_job *job)
{
    static struct warden warden;
    warden = (struct warden){.job = job, .config = &job->config->controllers[job->controller]};
    for (int i = 0; i < WARDEN_WATCHER_LIMIT; i++)
        warden.watchers[i].descriptor = -1;
    while (warden.incarnation == 0)
        if (RAND_bytes((uint8_t *)&warden.incarnation, sizeof warden.incarnation) != 1)
            return 1;
    warden.lock = take_lock(warden.config, job->controller);
    if (warden.lock < 0)
        return 1;
    char why[TRACE_LINE];
    warden.listener = socket_listen(&warden.config->warden, why);
    if (warden.listener < 0) {
        log_say(LOG_ERROR, "%s", why);
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    if (!start_child(&warden)) {
        log_say(LOG_ERROR, "cannot start the controller's process: %s", strerror(errno));
        return 1;
    }
    while (linger_until_us(&warden) > loop_clock_us())
        wait_once(&warden);
    close(warden.listener);
    for (int i = 0; i < WARDEN_WATCHER_LIMIT; i++)
        if (warden.watchers[i].descriptor >= 0)
            watcher_close(&warden.watchers[i]);
    close(warden.pipe);
    close(warden.signals);
    close(warden.child_descriptor);
    close(warden.lock);
    return warden.exit_status;
}
