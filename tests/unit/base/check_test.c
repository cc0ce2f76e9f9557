/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Assertions: a failed one names itself and the process never goes on after it. */

#include "base/check.h"
#include "base/check_report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static jmp_buf back;
static const char *said_expression, *said_file;
static int said_line;

static void note_and_leave(const char *expression, const char *file, int line)
{
    said_expression = expression;
    said_file = file;
    said_line = line;
    longjmp(back, 1);
}

static void note_and_return(const char *expression, const char *file, int line)
{
    said_line = line;
}

static void the_reporter_hears_the_expression_the_file_and_the_line(void **state)
{
    check_on_failure(note_and_leave);
    volatile int line = 0;
    said_expression = NULL;
    if (setjmp(back) == 0) {
        line = __LINE__ + 1;
        CHECK(1 + 1 == 3);
        fail_msg("went on");
    }
    check_on_failure(NULL);
    assert_string_equal(said_expression, "1 + 1 == 3");
    assert_non_null(strstr(said_file, "check_test.c"));
    assert_int_equal(said_line, line);
}

static void a_true_expression_is_evaluated_once_and_nothing_happens(void **state)
{
    volatile int count = 0;
    check_on_failure(note_and_leave);
    if (setjmp(back) == 0)
        CHECK(++count == 1);
    else
        fail_msg("tripped");
    check_on_failure(NULL);
    assert_int_equal(count, 1);
}

static bool implies_trips(bool a, bool b)
{
    check_on_failure(note_and_leave);
    volatile bool tripped = true;
    if (setjmp(back) == 0) {
        CHECK_IMPLIES(a, b);
        tripped = false;
    }
    check_on_failure(NULL);
    return tripped;
}

static void an_implication_fails_only_from_true_to_false(void **state)
{
    assert_false(implies_trips(false, false));
    assert_false(implies_trips(false, true));
    assert_true(implies_trips(true, false));
    assert_false(implies_trips(true, true));
}

/* The child must die by a signal, not return. */
static void assert_child_dies(check_reporter reporter)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        signal(SIGILL, SIG_DFL);
        signal(SIGTRAP, SIG_DFL);
        check_on_failure(reporter);
        CHECK(getpid() == 0);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
}

static void without_a_reporter_the_process_stops(void **state)
{
    assert_child_dies(NULL);
}

static void when_the_reporter_returns_the_process_stops(void **state)
{
    assert_child_dies(note_and_return);
}

static void the_smaller_and_the_larger(void **state)
{
    assert_true(min_u64(1, UINT64_MAX) == 1 && min_u64(UINT64_MAX, 1) == 1);
    assert_true(max_u64(1, UINT64_MAX) == UINT64_MAX && max_u64(UINT64_MAX, 1) == UINT64_MAX);
    assert_true(min_u32(2, 7) == 2 && min_u32(7, 2) == 2 && max_u32(2, 7) == 7 &&
                max_u32(7, 2) == 7);
    int three[3] = {0};
    assert_int_equal(ARRAY_LENGTH(three), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_reporter_hears_the_expression_the_file_and_the_line),
        cmocka_unit_test(a_true_expression_is_evaluated_once_and_nothing_happens),
        cmocka_unit_test(an_implication_fails_only_from_true_to_false),
        cmocka_unit_test(without_a_reporter_the_process_stops),
        cmocka_unit_test(when_the_reporter_returns_the_process_stops),
        cmocka_unit_test(the_smaller_and_the_larger),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
