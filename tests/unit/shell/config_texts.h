/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What the tests of the configuration have in common: a text is read as a file named f, and each
 * row of a test changes one piece of a good one. */

#ifndef TESTS_CONFIG_TEXTS_H
#define TESTS_CONFIG_TEXTS_H

#include "shell/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct config config;
static struct config_errors errors;

static inline bool parse(const char *text, struct config *to)
{
    return config_parse("f", text, strlen(text), to, &errors);
}

/* `text` with the piece of so many bytes at `at` replaced, to be freed. */
static inline char *replaced(const char *text, const char *at, size_t bytes, const char *replace)
{
    char *made = malloc(strlen(text) + strlen(replace) + 1);
    assert_non_null(made);
    sprintf(made, "%.*s%s%s", (int)(at - text), text, replace, at + bytes);
    return made;
}

/* `text` with its first `find` replaced, to be freed. */
static inline char *changed(const char *text, const char *find, const char *replace)
{
    const char *at = strstr(text, find);
    if (!at)
        fail_msg("\"%s\" is not in the file", find);
    return replaced(text, at, strlen(find), replace);
}

/* `text` with its last `find` replaced, to be freed. */
static inline char *changed_last(const char *text, const char *find, const char *replace)
{
    const char *at = NULL;
    for (const char *next = text; (next = strstr(next, find)); next++)
        at = next;
    if (!at)
        fail_msg("\"%s\" is not in the file", find);
    return replaced(text, at, strlen(find), replace);
}

/* The same messages, in this order, and no others; else those that came are printed. `wanted` ends
 * with NULL, or after `limit`. */
static inline bool said_just(const char *const *wanted, unsigned limit)
{
    unsigned count = 0;
    bool same = true;
    for (; count < limit && wanted[count]; count++)
        same = same && count < errors.count && strcmp(errors.text[count], wanted[count]) == 0;
    same = same && errors.total == count;
    for (unsigned i = 0; !same && i < errors.count; i++)
        print_error("got: %s\n", errors.text[i]);
    return same;
}

#endif
