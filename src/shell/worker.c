/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See worker.h. The thread yields to the loop: it runs where the loop does not, in the ordinary
 * class of the scheduler and a little behind, whatever the loop was started with. */

#include "shell/worker.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

enum { WORKER_NICE = 5 };

static void push(struct work_list *list, struct work *work)
{
    work->next = NULL;
    if (list->last)
        list->last->next = work;
    else
        list->first = work;
    list->last = work;
}

static struct work *pop(struct work_list *list)
{
    struct work *work = list->first;
    if (!work)
        return NULL;
    list->first = work->next;
    if (!list->first)
        list->last = NULL;
    return work;
}

static void stand_back(void)
{
    cpu_set_t all;
    memset(&all, 0xFF, sizeof all);
    /* Each only helps: none of them failing is a reason not to work. On Linux they are about this
     * thread alone. */
    sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){0});
    (void)!sched_setaffinity(0, sizeof all, &all);
    (void)!setpriority(PRIO_PROCESS, (id_t)gettid(), WORKER_NICE);
}

static void *thread_main(void *context)
{
    struct worker *worker = context;
    stand_back();
    pthread_mutex_lock(&worker->mutex);
    while (!worker->ending) {
        struct work *work = pop(&worker->given);
        if (!work) {
            pthread_cond_wait(&worker->wake, &worker->mutex);
            continue;
        }
        pthread_mutex_unlock(&worker->mutex);
        work->run(work);
        pthread_mutex_lock(&worker->mutex);
        bool told = worker->over.first != NULL;
        push(&worker->over, work);
        if (told)
            continue;
        uint64_t one = 1;
        CHECK(write(worker->event, &one, sizeof one) == sizeof one);
    }
    pthread_mutex_unlock(&worker->mutex);
    return NULL;
}

static void event_wait(struct worker *worker)
{
    struct io_uring_sqe *sqe = loop_sqe(worker->loop);
    io_uring_prep_read(sqe, worker->event, &worker->event_value, sizeof worker->event_value, 0);
    loop_own(sqe, &worker->op);
}

static void event_done(struct op *op, int result, unsigned flags)
{
    struct worker *worker = (struct worker *)op;
    CHECK(result == sizeof worker->event_value || result == -EINTR || result == -EAGAIN);
    event_wait(worker);
    pthread_mutex_lock(&worker->mutex);
    struct work_list over = worker->over;
    worker->over = (struct work_list){0};
    pthread_mutex_unlock(&worker->mutex);
    struct work *work;
    while ((work = pop(&over)))
        work->done(work);
}

const char *worker_start(struct worker *worker, struct loop *loop)
{
    memset(worker, 0, sizeof *worker);
    worker->op.done = event_done;
    worker->loop = loop;
    worker->event = eventfd(0, EFD_CLOEXEC);
    if (worker->event < 0)
        return strerror(errno);
    pthread_mutex_init(&worker->mutex, NULL);
    pthread_cond_init(&worker->wake, NULL);
    int result = pthread_create(&worker->thread, NULL, thread_main, worker);
    if (result != 0)
        return strerror(result);
    event_wait(worker);
    return NULL;
}

void worker_give(struct worker *worker, struct work *work)
{
    pthread_mutex_lock(&worker->mutex);
    push(&worker->given, work);
    pthread_cond_signal(&worker->wake);
    pthread_mutex_unlock(&worker->mutex);
}

void worker_end(struct worker *worker)
{
    if (!worker->loop || worker->event < 0)
        return;
    pthread_mutex_lock(&worker->mutex);
    worker->ending = true;
    pthread_cond_signal(&worker->wake);
    pthread_mutex_unlock(&worker->mutex);
    pthread_join(worker->thread, NULL);
    pthread_cond_destroy(&worker->wake);
    pthread_mutex_destroy(&worker->mutex);
    close(worker->event);
    worker->event = -1;
}
