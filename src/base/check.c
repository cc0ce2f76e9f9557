/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Where a failed assertion ends. The message is left where a debugger and a core file show it; the
 * shell installs a printer with check_on_failure(), since the core itself never writes anywhere. */

#include "base/check.h"
#include "base/check_report.h"

static check_reporter reporter;

void check_on_failure(check_reporter function)
{
    reporter = function;
}

_Noreturn void check_failed(const char *expression, const char *file, int line)
{
    if (reporter)
        reporter(expression, file, line);
    __builtin_trap();
}
