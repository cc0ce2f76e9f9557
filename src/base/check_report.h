/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* How a shell hears of a failed assertion before the process stops. The reporter may print, or
 * leave by longjmp (the simulator does, to name the seed); when it returns, the process stops. */

#ifndef BASE_CHECK_REPORT_H
#define BASE_CHECK_REPORT_H

typedef void (*check_reporter)(const char *expression, const char *file, int line);

void check_on_failure(check_reporter function);

#endif
