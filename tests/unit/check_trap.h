/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Lets a test see that an assertion of the core trips: the failed CHECK() leaves by longjmp into
 * the test, which goes on. What the statement was changing is in no known state afterwards. */

#ifndef TESTS_CHECK_TRAP_H
#define TESTS_CHECK_TRAP_H

#include "base/check.h"
#include "base/check_report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static jmp_buf check_trap_back;

static void check_trap_report(const char *expression, const char *file, int line)
{
    (void)expression;
    (void)file;
    (void)line;
    longjmp(check_trap_back, 1);
}

#define ASSERT_CHECK_FAILS(statement)                                                              \
    do {                                                                                           \
        volatile bool check_trap_failed = true;                                                    \
        check_on_failure(check_trap_report);                                                       \
        if (setjmp(check_trap_back) == 0) {                                                        \
            statement;                                                                             \
            check_trap_failed = false;                                                             \
        }                                                                                          \
        check_on_failure(NULL);                                                                    \
        assert_true(check_trap_failed);                                                            \
    } while (0)

#endif
