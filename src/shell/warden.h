/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The parent process: it starts the controller, outlives it, and proves to the peer that it is gone
 * and that no store operation of it is under way any more. An exited process is no proof: the
 * kernel tears its io_uring down later, when the last operation has ended. So the ring holds the
 * write end of a pipe and the lock (loop_hold()), the controller closes its own copies, and the
 * proof is the end of file at the pipe. */

#ifndef SHELL_WARDEN_H
#define SHELL_WARDEN_H

#include "shell/config.h"

enum {
    WARDEN_SECOND_MS = 200,    /* a SIGTERM so soon after the first is the same: some senders signal
                                * the process and then its group */
    WARDEN_WATCHER_LIMIT = 8,  /* connections at a time; the peer needs one */
    WARDEN_GREETING_MS = 5000, /* an unknown connection has so long to say who it is */
    WARDEN_LINGER_MS = 10000, /* after a death: until a watching peer has confirmed that it knows */
    WARDEN_LINGER_ALONE_MS =
        3000, /* the same while no peer is connected; it would be back by then */
    WARDEN_LOCK_WAIT_MS =
        15000, /* for the end of an earlier run of this controller; more than LINGER */
};

/* What the parent hands to the controller. */
struct warden_ticket {
    uint64_t incarnation; /* random, not zero */
    int alive;            /* write end of the pipe: to be held by the ring, then closed */
    int lock;             /* the flock'ed RUN/lock: the same */
};

struct warden_job {
    const struct config *config;
    int controller;
    /* Runs in the child; its return value is the exit status. */
    int (*run)(void *context, const struct warden_ticket *ticket);
    void *context;
};

/* Takes the lock, listens, forks, waits, proves. Returns the process's exit status: the child's, or
 * 128 + the signal that ended it. SIGTERM and SIGINT go to the child as SIGTERM, a second one as
 * SIGKILL. */
int warden_run(const struct warden_job *job);

#endif
