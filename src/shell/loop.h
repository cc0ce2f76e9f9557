/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* One thread, one io_uring: everything that the process waits for comes through here. Each turn
 * enters the kernel once (submit what the last turn asked for, wait for the first completion),
 * takes every completion there is, reads the clock, calls the owners, then the end-of-burst hook,
 * where the controller decides about the whole burst at once. */

#ifndef SHELL_LOOP_H
#define SHELL_LOOP_H

#include "base/check.h"

#include <liburing.h>
#include <sys/socket.h>

/* One operation under way. Embedded in its owner, who must keep it until `done` (for a multishot
 * operation: until done without IORING_CQE_F_MORE). `result` is the CQE's: >= 0, or -errno. */
struct op {
    void (*done)(struct op *op, int result, unsigned flags);
};

/* A time at which something is called, once. Embedded in its owner; zero-filled when idle. */
struct timer {
    void (*fire)(struct timer *timer);
    uint64_t at_us;
    bool armed;
    struct timer *previous, *next;
};

struct loop {
    struct io_uring ring;
    uint64_t now_us; /* read after the completions of this turn were taken */
    bool stopped;
    /* After the handlers of a turn. Returns when it wants to be called next although nothing
     * happens. */
    uint64_t (*burst)(void *context);
    /* Just before the kernel is given new operations: the last place to look at the clock. */
    void (*before_submit)(void *context);
    void *context;
    struct timer timers; /* head of the ring of armed timers */
    unsigned sends_now;  /* since the last wait; see loop_send_now() */
    bool yields;         /* see loop_yield() */
    uint32_t poll_us; /* how long to look for the next completion before sleeping; 0: not at all */
    bool eager;       /* looking is worth while: the last wait ended, or would have, within that */
    uint64_t enters, completions;
};

/* Microseconds of CLOCK_BOOTTIME: it never goes back and runs while the machine sleeps. */
uint64_t loop_clock_us(void);

/* NULL, or a sentence saying why not. `cpu`: where the kernel's helper threads shall run, or -1. */
const char *loop_open(struct loop *loop, unsigned entries, int cpu);
void loop_close(struct loop *loop);

/* Let the ring hold these descriptors too (fixed files 0..count-1): they stay open until the ring
 * is really torn down, which is after its last operation, and after the process has gone. The
 * caller closes its own copies. */
const char *loop_hold(struct loop *loop, const int *descriptors, unsigned count);

/* An empty SQE for `op`, to be filled by io_uring_prep_*() at once and then marked by loop_own().
 * Never NULL: a full queue is submitted first. */
struct io_uring_sqe *loop_sqe(struct loop *loop);
static inline void loop_own(struct io_uring_sqe *sqe, struct op *op)
{
    io_uring_sqe_set_data(sqe, op);
}

/* Mark a prepared send as one that does not wait for room in the socket: it completes while it is
 * submitted, with -EAGAIN or short when there is not enough. Since the loop knows that, it does not
 * come back from the kernel for it alone, which saves a system call for each send. The rest of a
 * short one is sent without this. */
static inline void loop_send_now(struct loop *loop, struct io_uring_sqe *sqe)
{
    sqe->msg_flags |= MSG_DONTWAIT;
    loop->sends_now++;
}

/* A long piece of work goes on in the next turn, which comes at once: whoever else waits for this
 * processor, perhaps the peer, runs first. */
static inline void loop_yield(struct loop *loop)
{
    loop->yields = true;
}

/* Ask the kernel to end `op` early; its done() comes as usual, with -ECANCELED or what it had got.
 */
void loop_cancel(struct loop *loop, struct op *op);

void loop_timer_set(struct loop *loop, struct timer *timer, uint64_t at_us);
void loop_timer_clear(struct timer *timer);

/* One turn: waits until something completes, a timer is due, or `until_us`. */
void loop_turn(struct loop *loop, uint64_t until_us);

/* Turns until loop->stopped. */
void loop_run(struct loop *loop);

#endif
