/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A group's condition in words: each row is what the core and the sessions say, and what an
 * operator reads. */

#include "shell/control_group.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { NOW = 100000000, SECOND = 1000000 };

static const struct row {
    struct group_status status;
    struct copy_group_counts counts;
    const char *condition, *cause;
} rows[] = {
    /* the primary */
    {{.state = GROUP_COPYING, .confirmed_wall_us = NOW - SECOND},
     {.link = {.up = true}},
     "consistent",
     NULL},
    {{.state = GROUP_COPYING, .confirmed_wall_us = NOW - 5 * SECOND},
     {.link = {.up = true}},
     "behind",
     NULL},
    {{.state = GROUP_COPYING, .confirmed_wall_us = NOW - 5 * SECOND},
     {.link = {.up = true, .round_trip_us = 2 * SECOND}},
     "consistent",
     NULL},
    {{.state = GROUP_COPYING, .confirmed_wall_us = NOW - 5 * SECOND}, {0}, "behind", "link"},
    {{.state = GROUP_SUSPENDED}, {.link = {.up = true}}, "suspended", "operator"},
    {{.state = GROUP_FALLEN, .era = 2, .hosts_refused = true},
     {.link = {.up = true}},
     "suspended",
     "other site"},
    {{.state = GROUP_FALLEN, .era = 3, .hosts_refused = true},
     {.link = {.up = true}},
     "suspended",
     "record"},
    {{.state = GROUP_FALLEN}, {.link = {.up = true}}, "suspended", "budget"},
    {{.state = GROUP_FALLEN}, {0}, "suspended", "link"},
    {{.state = GROUP_NOT_HERE}, {0}, "not here", NULL},
    /* of a set whose cuts are not made, as its leader knows, while the truth is at this site */
    {{.state = GROUP_FALLEN, .era = 1, .leader = true},
     {.link = {.up = true}, .set = {.coordinates = true}},
     "suspended",
     "members"},
    {{.state = GROUP_FALLEN, .era = 1, .leader = true},
     {.set = {.coordinates = true}},
     "suspended",
     "link"},
    {{.state = GROUP_FALLEN, .era = 1, .leader = true, .set = {.runs = true}},
     {.link = {.up = true}, .set = {.coordinates = true}},
     "suspended",
     "budget"},
    {{.state = GROUP_FALLEN, .era = 1},
     {.link = {.up = true}, .set = {.coordinates = true}},
     "suspended",
     "budget"},
    {{.state = GROUP_COPYING, .era = 1, .leader = true, .confirmed_wall_us = NOW - 5 * SECOND},
     {.link = {.up = true}, .set = {.coordinates = true}},
     "behind",
     "members"},
    {{.state = GROUP_COPYING, .era = 2, .leader = true, .confirmed_wall_us = NOW - SECOND},
     {.link = {.up = true}, .set = {.coordinates = true}},
     "consistent",
     NULL},
    {{.state = GROUP_SYNCING, .era = 1, .leader = true, .marked_regions = 10, .region_count = 100},
     {.link = {.up = true},
      .out = {.state = {.role = COPY_RECEIVING}},
      .sync_from = 40,
      .set = {.coordinates = true}},
     "resynchronising",
     "members"},
    {{.state = GROUP_SYNCING, .marked_regions = 10, .region_count = 100},
     {.link = {.up = true}, .initial = true, .sync_from = 100},
     "initial copy",
     NULL},
    {{.state = GROUP_SYNCING, .marked_regions = 10, .region_count = 100},
     {.link = {.up = true}, .out = {.state = {.role = COPY_RECEIVING}}, .sync_from = 40},
     "resynchronising",
     NULL},
    {{.state = GROUP_SYNCING, .marked_regions = 10, .region_count = 100},
     {.out = {.state = {.role = COPY_RECEIVING}}, .sync_from = 40},
     "resynchronising",
     "link"},
    /* the half that does not lead is told last */
    {{.state = GROUP_SYNCING, .region_count = 100, .confirmed_wall_us = NOW - SECOND},
     {.link = {.up = true},
      .out = {.state = {.role = COPY_RECEIVING, .flags = COPY_STATE_CONSISTENT}}},
     "consistent",
     NULL},
    /* the copy */
    {{.role = GROUP_ROLE_RECEIVING}, {.from = {"x"}, .initial = true}, "initial copy", NULL},
    {{.role = GROUP_ROLE_RECEIVING}, {.initial = true}, "initial copy", NULL}, /* held elsewhere */
    {{.role = GROUP_ROLE_RECEIVING},
     {.initial = true, .here = {.flags = COPY_STATE_HERE}},
     "initial copy",
     "link"},
    {{.role = GROUP_ROLE_RECEIVING},
     {.from = {"x"}, .here = {.role = COPY_RECEIVING, .promoted = 7}},
     "resynchronising",
     NULL},
    {{.role = GROUP_ROLE_RECEIVING},
     {.from = {"", "x"},
      .here = {.role = COPY_RECEIVING,
               .promoted = 7,
               .promoted_wall_us = NOW - SECOND,
               .flags = COPY_STATE_CONSISTENT}},
     "consistent",
     NULL},
    {{.role = GROUP_ROLE_RECEIVING},
     {.here = {.role = COPY_RECEIVING,
               .promoted = 7,
               .promoted_wall_us = NOW - 9 * SECOND,
               .flags = COPY_STATE_CONSISTENT | COPY_STATE_HERE}},
     "behind",
     "link"},
    /* cuts take longer than completions may be held; runs break of it, and in the end memory is
     * used up */
    {{.state = GROUP_COPYING,
      .era = 1,
      .leader = true,
      .confirmed_wall_us = NOW - 5 * SECOND,
      .set = {.coordinates = true, .late_row = CUT_LATE_ROW}},
     {.link = {.up = true}, .set = {.coordinates = true}},
     "behind",
     "hold"},
    {{.state = GROUP_FALLEN,
      .era = 1,
      .leader = true,
      .set = {.coordinates = true, .runs = true, .late_row = CUT_LATE_ROW}},
     {.link = {.up = true}, .set = {.coordinates = true}},
     "suspended",
     "hold"},
    {{.state = GROUP_COPYING,
      .era = 1,
      .leader = true,
      .confirmed_wall_us = NOW - 5 * SECOND,
      .set = {.coordinates = true, .runs = true, .late_row = CUT_LATE_ROW - 1}},
     {.link = {.up = true}, .set = {.coordinates = true}},
     "behind",
     NULL},
    /* the controller that stopped last is waited for */
    {{.state = GROUP_FALLEN, .era = 1, .record_away = true},
     {.link = {.up = true}},
     "suspended",
     "record"},
    {{.state = GROUP_FALLEN, .era = 2, .hosts_refused = true, .record_away = true},
     {.link = {.up = true}},
     "suspended",
     "record"},
    {{.role = GROUP_ROLE_RECEIVING, .era = 1, .record_away = true},
     {.from = {"x"}, .here = {.role = COPY_EMPTY}},
     "suspended",
     "record"},
    {{.role = GROUP_ROLE_FAILED_OVER},
     {.here = {.role = COPY_FAILED_OVER, .promoted = 7}},
     "failed over",
     NULL},
};

static void each_row_has_its_word(void **state)
{
    struct config_group config = {.cycle_ms = 100};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct copy_group_counts counts = rows[i].counts;
        struct control_group group;
        counts.now_wall_us = NOW;
        config.set_count = counts.set.coordinates ? 2 : 0; /* a row of a set says that */
        control_group_judge(&group, &config, &counts, &rows[i].status);
        if (strcmp(group.condition, rows[i].condition) != 0)
            fail_msg("row %zu: %s, not %s", i, group.condition, rows[i].condition);
        if ((group.cause == NULL) != (rows[i].cause == NULL) ||
            (group.cause && strcmp(group.cause, rows[i].cause) != 0))
            fail_msg("row %zu: cause %s", i, group.cause ? group.cause : "none");
    }
}

static void what_is_left_is_counted(void **state)
{
    const struct config_group config = {.cycle_ms = 100};
    const struct group_status status = {.state = GROUP_SYNCING,
                                        .open = 12,
                                        .confirmed = 10,
                                        .confirmed_wall_us = NOW - 3 * SECOND,
                                        .pinned_pages = 2,
                                        .tagged_pages = 3,
                                        .range_pages = 7,
                                        .marked_pages = 5,
                                        .marked_regions = 25,
                                        .region_count = 200};
    struct copy_group_counts counts = {
        .sync_from = 100, .sync_rate = 2.5, .now_wall_us = NOW, .link = {.up = true}};
    struct control_group group;
    control_group_judge(&group, &config, &counts, &status);
    assert_true(group.syncs);
    assert_int_equal((int)group.percent, 75);
    assert_int_equal((int)group.seconds_left, 10);
    assert_int_equal(group.behind_us, 3 * SECOND);
    assert_int_equal(group.behind_bytes, 17 * 4096);
    assert_int_equal(group.behind_cycles, 2);
    counts.sync_rate = 0;
    control_group_judge(&group, &config, &counts, &status);
    assert_true(group.seconds_left < 0);
    counts.now_wall_us = 1; /* a clock that was set back */
    control_group_judge(&group, &config, &counts, &status);
    assert_int_equal(group.behind_us, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_row_has_its_word),
        cmocka_unit_test(what_is_left_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
