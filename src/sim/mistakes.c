/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See mistakes.h. The names stand here and not in the core, so that no program but the simulator
 * carries them. */

#include "sim/mistakes.h"

#include "base/check.h"
#include "base/mistake.h"

#include <string.h>

static const struct {
    const char *name, *text;
    bool groups; /* found only in seeds with groups */
} rows[] = {
#define MISTAKE_ROW(name, text) {#name, text, false},
#define GROUP_ROW(name, text)   {#name, text, true},
    MISTAKE_LIST(MISTAKE_ROW) COPY_MISTAKE_LIST(GROUP_ROW) GROUP_MISTAKE_LIST(GROUP_ROW)
#undef GROUP_ROW
#undef MISTAKE_ROW
};

_Static_assert(ARRAY_LENGTH(rows) == MISTAKE_COUNT - 1, "one row for each mistake");

const char *mistakes_make(const char *name)
{
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        if (strcmp(rows[i].name, name) != 0)
            continue;
        return mistake_make((enum mistake)(i + 1))
                   ? NULL
                   : "this build makes no mistakes: meson setup build-mistakes -Dmistakes=true";
    }
    return "no such mistake: see --list-mistakes";
}

void mistakes_print(FILE *to)
{
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++)
        fprintf(to, "%s\t%s\t%s\n", rows[i].name, rows[i].text,
                strncmp(rows[i].name, "set_", 4) == 0 ? "sets"
                : rows[i].groups                      ? "on"
                                                      : "off");
}
