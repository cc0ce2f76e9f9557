/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A thread for work that would keep the loop from its hosts: what is given to it is run in the
 * order given, and told of from the loop when it is over. It takes no memory: the work is the
 * giver's, embedded in what it is about, and the giver bounds how much there is. Invariant: of each
 * piece given, done() is called once, from the loop, after run().
 *
 *     worker_give() -> [thread] run() -> [loop] done() */

#ifndef SHELL_WORKER_H
#define SHELL_WORKER_H

#include "shell/loop.h"

#include <pthread.h>

struct work {
    void (*run)(struct work *work);  /* in the thread */
    void (*done)(struct work *work); /* from the loop; the work may be given again, or freed */
    struct work *next;               /* the worker's */
};

struct work_list {
    struct work *first, *last;
};

struct worker {
    struct op op; /* reads the event descriptor */
    struct loop *loop;
    int event; /* -1: not started */
    uint64_t event_value;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct work_list given, over; /* under the mutex */
    bool ending;                  /* under the mutex */
};

/* NULL, or a sentence. */
const char *worker_start(struct worker *worker, struct loop *loop);

/* Borrowed until done(). */
void worker_give(struct worker *worker, struct work *work);

/* Waits for what is being run, and forgets the rest. Nothing when it was not started; once the
 * loop is closed. */
void worker_end(struct worker *worker);

#endif
