/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The io_uring reactor. It owns the ring and the armed timers, and nothing that they belong to. It
 * never blocks except in its one io_uring_enter(2) a turn, and handles no more completions in a
 * turn than were there when it looked, so that the end-of-burst hook is always reached. */

#include "shell/loop.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <time.h>

/* TURNS_A_YIELD: a loop of a real-time class that always finds work would else keep those of its
 * own priority, perhaps its peer, from this processor for ever. */
enum { CQ_FACTOR = 8, SECOND_US = 1000000, TURNS_A_YIELD = 32 };

uint64_t loop_clock_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * SECOND_US + (uint64_t)now.tv_nsec / 1000;
}

static int ring_open(struct io_uring *ring, unsigned entries)
{
    /* The best first; a kernel that does not know a flag says EINVAL (DEFER_TASKRUN came with 6.1).
     */
    static const unsigned wanted[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN,
        IORING_SETUP_COOP_TASKRUN,
        0,
    };
    int result = -EINVAL;
    for (size_t i = 0; i < ARRAY_LENGTH(wanted) && result == -EINVAL; i++) {
        struct io_uring_params params = {
            .flags = wanted[i] | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
            .cq_entries = entries * CQ_FACTOR,
        };
        result = io_uring_queue_init_params(entries, ring, &params);
    }
    return result;
}

const char *loop_open(struct loop *loop, unsigned entries, int cpu)
{
    memset(loop, 0, sizeof *loop);
    loop->timers.previous = loop->timers.next = &loop->timers;
    int result = ring_open(&loop->ring, entries);
    if (result == -ENOSYS || result == -EPERM)
        return "the kernel does not let this process use io_uring (see kernel.io_uring_disabled)";
    if (result < 0)
        return strerror(-result);
    if (!(loop->ring.features & IORING_FEAT_EXT_ARG)) {
        io_uring_queue_exit(&loop->ring);
        return "this kernel's io_uring is too old; 6.1 or later is needed";
    }
    io_uring_register_ring_fd(
        &loop->ring); /* only saves a look-up a turn: not having it is no harm */
    if (cpu >= 0) {
        cpu_set_t mask;
        CPU_ZERO(&mask);
        CPU_SET((size_t)cpu, &mask);
        io_uring_register_iowq_aff(&loop->ring, sizeof mask, &mask);
    }
    loop->now_us = loop_clock_us();
    return NULL;
}

void loop_close(struct loop *loop)
{
    io_uring_queue_exit(&loop->ring);
}

const char *loop_hold(struct loop *loop, const int *descriptors, unsigned count)
{
    int result = io_uring_register_files(&loop->ring, descriptors, count);
    return result < 0 ? strerror(-result) : NULL;
}

static void submit_guard(struct loop *loop)
{
    if (loop->before_submit)
        loop->before_submit(loop->context);
}

struct io_uring_sqe *loop_sqe(struct loop *loop)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);
    if (sqe)
        return sqe;
    submit_guard(loop);
    loop->enters++;
    /* EBUSY and EAGAIN mean that the kernel is short of memory for the moment. */
    for (int tries = 0; !sqe && tries < 1000; tries++) {
        int result = io_uring_submit(&loop->ring);
        CHECK(result >= 0 || result == -EBUSY || result == -EAGAIN || result == -EINTR);
        sqe = io_uring_get_sqe(&loop->ring);
    }
    CHECK(sqe);
    return sqe;
}

static void cancel_done(struct op *op, int result, unsigned flags)
{
    /* Whether the operation was still there does not matter: its own completion tells. */
}

void loop_cancel(struct loop *loop, struct op *op)
{
    static struct op ignored = {.done = cancel_done};
    struct io_uring_sqe *sqe = loop_sqe(loop);
    io_uring_prep_cancel(sqe, op, 0);
    loop_own(sqe, &ignored);
}

void loop_timer_clear(struct timer *timer)
{
    if (!timer->armed)
        return;
    timer->previous->next = timer->next;
    timer->next->previous = timer->previous;
    timer->armed = false;
}

void loop_timer_set(struct loop *loop, struct timer *timer, uint64_t at_us)
{
    loop_timer_clear(timer);
    timer->at_us = at_us;
    timer->armed = true;
    timer->next = &loop->timers;
    timer->previous = loop->timers.previous;
    timer->previous->next = timer;
    loop->timers.previous = timer;
}

static uint64_t timers_next_us(const struct loop *loop)
{
    uint64_t next_us = UINT64_MAX;
    for (const struct timer *t = loop->timers.next; t != &loop->timers; t = t->next)
        next_us = min_u64(next_us, t->at_us);
    return next_us;
}

/* A timer that is set while timers fire waits for the next turn, since only those due before are
 * counted. */
static void timers_fire(struct loop *loop)
{
    unsigned due = 0;
    for (struct timer *t = loop->timers.next; t != &loop->timers; t = t->next)
        due += t->at_us <= loop->now_us;
    while (due-- > 0) {
        struct timer *t = loop->timers.next;
        while (t != &loop->timers && t->at_us > loop->now_us)
            t = t->next;
        if (t == &loop->timers)
            return;
        loop_timer_clear(t);
        t->fire(t);
    }
}

/* Looks for completions without sleeping, and lets others run in between. To sleep and be woken by
 * another processor takes longer than much of what is waited for here. Whether it was worth while
 * decides about the next time. The kernel is asked once in any case: what has come to a socket gets
 * its completion only then, and operations that complete while they are submitted, one in each
 * turn, would else keep it waiting. True: there are enough, or it is time. */
static bool poll_for_work(struct loop *loop, unsigned least, uint64_t until_us)
{
    int result = io_uring_submit_and_get_events(&loop->ring);
    CHECK(result >= 0 || result == -EBUSY || result == -EAGAIN || result == -EINTR);
    uint64_t clock_us = loop_clock_us();
    uint64_t end_us = clock_us + loop->poll_us;
    while (io_uring_cq_ready(&loop->ring) < least && clock_us < until_us) {
        if (clock_us >= end_us) {
            loop->eager = false;
            return false;
        }
        sched_yield();
        io_uring_get_events(&loop->ring);
        clock_us = loop_clock_us();
    }
    return true;
}

static void wait_for_work(struct loop *loop, uint64_t until_us)
{
    submit_guard(loop);
    until_us = min_u64(until_us, timers_next_us(loop));
    unsigned least = 1 + loop->sends_now; /* those complete in any case: wait for one more */
    loop->sends_now = 0;
    loop->enters++;
    if (loop->yields || until_us <= loop->now_us || loop->enters % TURNS_A_YIELD == 0)
        sched_yield();
    loop->yields = false;
    if (loop->eager && poll_for_work(loop, least, until_us))
        return;
    uint64_t clock_us = loop_clock_us();
    uint64_t wait_us = until_us > clock_us ? until_us - clock_us : 0;
    struct __kernel_timespec timeout = {
        .tv_sec = (long long)(wait_us / SECOND_US),
        .tv_nsec = (long long)(wait_us % SECOND_US * 1000),
    };
    struct io_uring_cqe *cqe;
    int result = io_uring_submit_and_wait_timeout(&loop->ring, &cqe, least,
                                                  until_us == UINT64_MAX ? NULL : &timeout, NULL);
    CHECK(result >= 0 || result == -ETIME || result == -EINTR || result == -EBUSY ||
          result == -EAGAIN);
    if (loop->poll_us > 0 && !loop->eager && io_uring_cq_ready(&loop->ring) >= least)
        loop->eager = loop_clock_us() - clock_us <= loop->poll_us;
}

void loop_turn(struct loop *loop, uint64_t until_us)
{
    wait_for_work(loop, until_us);
    unsigned ready = io_uring_cq_ready(&loop->ring);
    /* Only now: a completion must never be told with a time from before it was there. */
    loop->now_us = loop_clock_us();
    loop->completions += ready;
    while (ready-- > 0) {
        struct io_uring_cqe *cqe = NULL;
        CHECK(io_uring_peek_cqe(&loop->ring, &cqe) == 0);
        struct op *op = io_uring_cqe_get_data(cqe);
        int result = cqe->res;
        unsigned flags = cqe->flags;
        io_uring_cqe_seen(&loop->ring, cqe);
        op->done(op, result, flags);
    }
    timers_fire(loop);
}

void loop_run(struct loop *loop)
{
    uint64_t next_us = 0;
    while (!loop->stopped) {
        loop_turn(loop, next_us);
        next_us = loop->burst ? loop->burst(loop->context) : UINT64_MAX;
    }
}
