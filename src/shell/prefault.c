/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* One thread of low priority that populates the memory in small steps from its beginning, the order
 * in which slots are first taken. It changes no byte, and it takes no memory that the machine may
 * need for something else: a cache larger than what is free is touched as it is used. */

#include "shell/prefault.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

/* Written before the thread begins, then only by it. One memory a process. */
static struct {
    uint8_t *at;
    size_t left_bytes;
} work;

size_t prefault_step(size_t left_bytes, uint64_t free_bytes, uint64_t total_bytes)
{
    if (free_bytes < total_bytes / PREFAULT_SPARE_SHARE + PREFAULT_STEP_BYTES)
        return 0;
    return min_u64(left_bytes, PREFAULT_STEP_BYTES);
}

static void *run(void *unused)
{
    /* A real-time thread would keep the controller from running until all is done. */
    sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){0}); /* on Linux: of this thread */
    setpriority(PRIO_PROCESS, (id_t)gettid(), PREFAULT_NICE);
    while (work.left_bytes > 0) {
        struct sysinfo machine;
        if (sysinfo(&machine) < 0)
            break;
        size_t step = prefault_step(work.left_bytes, (uint64_t)machine.freeram * machine.mem_unit,
                                    (uint64_t)machine.totalram * machine.mem_unit);
        if (step == 0 ||
            (madvise(work.at, step, MADV_POPULATE_WRITE) < 0 && errno != EINTR && errno != EAGAIN))
            break;
        work.at += step;
        work.left_bytes -= step;
    }
    return NULL;
}

void prefault_start(void *memory, size_t size_bytes)
{
    pthread_attr_t attributes;
    pthread_t thread;
    work.at = memory;
    work.left_bytes = size_bytes;
    if (pthread_attr_init(&attributes) != 0)
        return;
    if (pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) == 0)
        (void)!pthread_create(&thread, &attributes, run, NULL);
    pthread_attr_destroy(&attributes);
}
