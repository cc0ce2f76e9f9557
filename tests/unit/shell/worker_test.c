/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A thread beside the loop: work is run in the order given, each piece is told of once and from the
 * loop, the loop turns meanwhile, and an end waits for no more than what is being run. */

#include "shell/worker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

enum { PIECES = 1000 };

static struct loop loop;
static struct worker worker;
static pthread_t loop_thread;
static atomic_uint run_count, slow_ms;
static unsigned done_count;
static struct piece {
    struct work work;
    unsigned run_at, done_at, done_times;
    bool again;
} pieces[PIECES];

static void run(struct work *work)
{
    struct piece *piece = (struct piece *)work;
    assert_false(pthread_equal(pthread_self(), loop_thread));
    usleep(atomic_load(&slow_ms) * 1000);
    piece->run_at = ++run_count;
}

static void done(struct work *work)
{
    struct piece *piece = (struct piece *)work;
    assert_true(pthread_equal(pthread_self(), loop_thread));
    piece->done_at = ++done_count;
    piece->done_times++;
    if (!piece->again)
        return;
    piece->again = false;
    worker_give(&worker, work);
}

static int set_up(void **state)
{
    loop_thread = pthread_self();
    run_count = slow_ms = done_count = 0;
    for (int i = 0; i < PIECES; i++)
        pieces[i] = (struct piece){.work = {.run = run, .done = done}};
    assert_null(loop_open(&loop, 16, -1));
    assert_null(worker_start(&worker, &loop));
    return 0;
}

static int tear_down(void **state)
{
    loop_close(&loop);
    worker_end(&worker);
    return 0;
}

static void turn_until(unsigned count)
{
    uint64_t end_us = loop_clock_us() + 10000000;
    while (done_count < count) {
        assert_true(loop_clock_us() < end_us);
        loop_turn(&loop, loop_clock_us() + 10000);
    }
}

static void work_is_run_in_order_and_told_of_once(void **state)
{
    for (int i = 0; i < PIECES; i++) {
        worker_give(&worker, &pieces[i].work);
        if (i % 100 == 0)
            loop_turn(&loop, 0);
    }
    turn_until(PIECES);
    for (unsigned i = 0; i < PIECES; i++) {
        assert_int_equal(pieces[i].run_at, i + 1);
        assert_int_equal(pieces[i].done_at, i + 1);
        assert_int_equal(pieces[i].done_times, 1);
    }
}

static void what_is_told_of_may_be_given_again_at_once(void **state)
{
    for (int i = 0; i < 10; i++) {
        pieces[i].again = true;
        worker_give(&worker, &pieces[i].work);
    }
    turn_until(20);
    for (int i = 0; i < 10; i++)
        assert_int_equal(pieces[i].done_times, 2);
}

static void the_loop_turns_meanwhile(void **state)
{
    atomic_store(&slow_ms, 300);
    uint64_t start_us = loop_clock_us();
    worker_give(&worker, &pieces[0].work);
    for (int i = 0; i < 10; i++)
        loop_turn(&loop, loop_clock_us() + 1000);
    assert_int_equal(done_count, 0);
    assert_true(loop_clock_us() - start_us < 250000);
    turn_until(1);
    assert_true(loop_clock_us() - start_us >= 300000);
}

static void an_end_waits_only_for_what_is_being_run(void **state)
{
    atomic_store(&slow_ms, 50);
    for (int i = 0; i < 100; i++)
        worker_give(&worker, &pieces[i].work);
    usleep(20000);
    uint64_t start_us = loop_clock_us();
    loop_close(&loop);
    worker_end(&worker);
    assert_true(loop_clock_us() - start_us < 2000000);
    assert_true(run_count >= 1 && run_count < 50);
    assert_int_equal(done_count, 0);
    assert_null(loop_open(&loop, 16, -1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(work_is_run_in_order_and_told_of_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_told_of_may_be_given_again_at_once, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_loop_turns_meanwhile, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_end_waits_only_for_what_is_being_run, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
