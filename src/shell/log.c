/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Writes log lines to standard error. Never waits for more than that write, never keeps a line, and
 * cuts one that is longer than LINE_BYTES. */

#include "shell/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES = 1024 };

static char process_name[24] = "holdfast";
static enum log_level least_level = LOG_INFO;
static bool to_journal;

void log_open(const char *name, enum log_level least)
{
    snprintf(process_name, sizeof process_name, "%s", name);
    least_level = least;
    to_journal = getenv("JOURNAL_STREAM") != NULL;
}

static int line_head(char *line, size_t size, enum log_level level)
{
    static const char *const priority[] = {"<7>", "<6>", "<4>", "<3>"};
    static const char *const word[] = {"trace", "info", "warning", "error"};
    if (to_journal)
        return snprintf(line, size, "%s%s: ", priority[level], process_name);
    struct timeval now;
    struct tm parts;
    gettimeofday(&now, NULL);
    localtime_r(&now.tv_sec, &parts);
    return snprintf(line, size, "%02d:%02d:%02d.%06ld %s %s: ", parts.tm_hour, parts.tm_min,
                    parts.tm_sec, (long)now.tv_usec, process_name, word[level]);
}

/* Whether this second still has a line to give. When a new one begins, what was left out is said
 * first. */
static bool line_allowed(void)
{
    static time_t second;
    static unsigned written, left_out;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    if (now.tv_sec != second) {
        unsigned missing = left_out;
        second = now.tv_sec;
        written = left_out = 0;
        if (missing > 0)
            log_say(LOG_WARNING, "%u more lines were left out", missing);
    }
    if (written < LOG_LINES_A_SECOND)
        return ++written;
    left_out++;
    return false;
}

void log_say(enum log_level level, const char *format, ...)
{
    if (level < least_level || (least_level > LOG_TRACE && !line_allowed()))
        return;
    char line[LINE_BYTES];
    int head = line_head(line, sizeof line - 1, level);
    va_list arguments;
    va_start(arguments, format);
    int body = vsnprintf(line + head, sizeof line - 1 - (size_t)head, format, arguments);
    va_end(arguments);
    size_t length = (size_t)head + (body > 0 ? (size_t)body : 0);
    if (length > sizeof line - 2)
        length = sizeof line - 2;
    /* What foreign bytes quoted in a line may hold must not start a second line or reach the
     * terminal. */
    for (size_t at = (size_t)head; at < length; at++)
        if ((unsigned char)line[at] < ' ' || line[at] == 127)
            line[at] = '?';
    line[length] = '\n';
    if (write(STDERR_FILENO, line, length + 1) < 0)
        return; /* nobody listens: there is no one to tell */
}
