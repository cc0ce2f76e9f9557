/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The loop: operations end in its handlers, the clock is never older than a completion, timers fire
 * once, and what the ring holds stays open until the ring is gone. */

#include "shell/loop.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

struct echo {
    struct op receive, send;
    struct loop *loop;
    int socket;
    char bytes[4096];
    unsigned rounds;
};

static void receive(struct echo *echo)
{
    struct io_uring_sqe *sqe = loop_sqe(echo->loop);
    io_uring_prep_recv(sqe, echo->socket, echo->bytes, sizeof echo->bytes, 0);
    loop_own(sqe, &echo->receive);
}

static void sent(struct op *op, int result, unsigned flags)
{
    assert_int_equal(result, 4096);
}

static void received(struct op *op, int result, unsigned flags)
{
    struct echo *echo = (struct echo *)op;
    if (result == 0) {
        echo->loop->stopped = true;
        return;
    }
    assert_int_equal(result, 4096);
    uint64_t stamp_us;
    memcpy(&stamp_us, echo->bytes, sizeof stamp_us);
    assert_true(echo->loop->now_us >= stamp_us);
    echo->rounds++;
    struct io_uring_sqe *sqe = loop_sqe(echo->loop);
    io_uring_prep_send(sqe, echo->socket, echo->bytes, 4096, 0);
    loop_send_now(echo->loop, sqe);
    loop_own(sqe, &echo->send);
    receive(echo);
}

static void *client(void *context)
{
    int socket = *(int *)context;
    char bytes[4096] = {0};
    for (int i = 0; i < 1000; i++) {
        uint64_t now_us = loop_clock_us();
        memcpy(bytes, &now_us, sizeof now_us);
        if (send(socket, bytes, sizeof bytes, 0) != sizeof bytes ||
            recv(socket, bytes, sizeof bytes, MSG_WAITALL) != sizeof bytes)
            break;
    }
    close(socket);
    return NULL;
}

static void an_echo_takes_one_system_call_a_round(void **state)
{
    struct loop loop;
    assert_null(loop_open(&loop, 64, -1));
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    struct echo echo = {
        .receive.done = received, .send.done = sent, .loop = &loop, .socket = pair[0]};
    pthread_t thread;
    pthread_create(&thread, NULL, client, &pair[1]);
    receive(&echo);
    loop_run(&loop);
    pthread_join(thread, NULL);
    assert_int_equal(echo.rounds, 1000);
    assert_true(loop.enters <= 1000 + 10);
    close(pair[0]);
    loop_close(&loop);
}

struct count {
    struct timer timer;
    struct loop *loop;
    unsigned fired;
    bool again;
};

static void fire(struct timer *timer)
{
    struct count *count = (struct count *)timer;
    count->fired++;
    if (count->again)
        loop_timer_set(count->loop, timer, 0);
}

static void a_timer_fires_once_and_not_before_its_time(void **state)
{
    struct loop loop;
    assert_null(loop_open(&loop, 8, -1));
    struct count one = {.timer.fire = fire, .loop = &loop}, never = one, cleared = one;
    uint64_t at_us = loop_clock_us() + 20000;
    loop_timer_set(&loop, &one.timer, at_us);
    loop_timer_set(&loop, &never.timer, at_us + 60000000);
    loop_timer_set(&loop, &cleared.timer, at_us);
    loop_timer_clear(&cleared.timer);
    for (int turns = 0; turns < 100 && one.fired == 0; turns++)
        loop_turn(&loop, UINT64_MAX);
    assert_true(loop.now_us >= at_us);
    loop_turn(&loop, loop.now_us + 1000);
    assert_int_equal(one.fired, 1);
    assert_int_equal(never.fired, 0);
    assert_int_equal(cleared.fired, 0);
    loop_close(&loop);
}

static void a_timer_set_again_by_itself_waits_for_the_next_turn(void **state)
{
    struct loop loop;
    assert_null(loop_open(&loop, 8, -1));
    struct count one = {.timer.fire = fire, .loop = &loop, .again = true};
    loop_timer_set(&loop, &one.timer, 0);
    loop_turn(&loop, 0);
    assert_int_equal(one.fired, 1);
    loop_close(&loop);
}

static void note_done(struct op *op, int result, unsigned flags)
{
    *(bool *)(op + 1) = true;
}

/* Work that asks for the next turn at once, and an operation in each that completes while it is
 * submitted: as when a batch is sent piece by piece while a host's request stands in its socket. */
static void what_has_come_is_not_kept_waiting_by_what_completes_at_once(void **state)
{
    struct loop loop;
    assert_null(loop_open(&loop, 64, -1));
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    struct noted {
        struct op op;
        bool done;
    } came = {.op.done = note_done}, at_once = came;
    char byte;
    struct io_uring_sqe *sqe = loop_sqe(&loop);
    io_uring_prep_recv(sqe, pair[0], &byte, 1, 0);
    loop_own(sqe, &came.op);
    for (int polls = 0; polls < 2; polls++) {
        came.done = false;
        loop.poll_us = polls ? 1000 : 0;
        loop_turn(&loop, 0);
        assert_false(came.done);
        assert_int_equal(send(pair[1], "x", 1, 0), 1);
        loop.eager = polls;
        for (int turns = 0; turns < 3; turns++) {
            sqe = loop_sqe(&loop);
            io_uring_prep_nop(sqe);
            loop_own(sqe, &at_once.op);
            loop_turn(&loop, 0);
        }
        assert_true(at_once.done);
        assert_true(came.done);
        sqe = loop_sqe(&loop);
        io_uring_prep_recv(sqe, pair[0], &byte, 1, 0);
        loop_own(sqe, &came.op);
    }
    close(pair[0]);
    close(pair[1]);
    loop_close(&loop);
}

static unsigned completed;
static void count_done(struct op *op, int result, unsigned flags)
{
    completed++;
}

static void a_full_queue_is_submitted_and_nothing_is_lost(void **state)
{
    struct loop loop;
    assert_null(loop_open(&loop, 8, -1));
    struct op op = {.done = count_done};
    completed = 0;
    for (int i = 0; i < 1000; i++) {
        struct io_uring_sqe *sqe = loop_sqe(&loop);
        io_uring_prep_nop(sqe);
        loop_own(sqe, &op);
    }
    for (int turns = 0; turns < 1000 && completed < 1000; turns++)
        loop_turn(&loop, loop.now_us + 100000);
    assert_int_equal(completed, 1000);
    loop_close(&loop);
}

static bool closed(int pipe_end, int wait_ms)
{
    struct pollfd wait = {.fd = pipe_end, .events = POLLIN};
    return poll(&wait, 1, wait_ms) == 1 && (wait.revents & POLLHUP);
}

static void what_the_ring_holds_closes_with_the_ring(void **state)
{
    struct loop loop;
    assert_null(loop_open(&loop, 8, -1));
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_null(loop_hold(&loop, &ends[1], 1));
    close(ends[1]);
    assert_false(closed(ends[0], 50));
    loop_close(&loop);
    assert_true(closed(ends[0], 2000));
    close(ends[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_echo_takes_one_system_call_a_round),
        cmocka_unit_test(a_timer_fires_once_and_not_before_its_time),
        cmocka_unit_test(a_timer_set_again_by_itself_waits_for_the_next_turn),
        cmocka_unit_test(what_has_come_is_not_kept_waiting_by_what_completes_at_once),
        cmocka_unit_test(a_full_queue_is_submitted_and_nothing_is_lost),
        cmocka_unit_test(what_the_ring_holds_closes_with_the_ring),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
