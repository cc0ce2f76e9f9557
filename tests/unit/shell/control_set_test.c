/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A group's set as JSON, word for word: where it is coordinated, where it is a member, and at a
 * copy. */

#include "shell/control_set.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct config config;
static struct config_group *const group = &config.groups[0];
static struct copy_group_counts counts;
static struct group_status status;

static int fill(void **state)
{
    memset(&counts, 0, sizeof counts);
    memset(&status, 0, sizeof status);
    snprintf(config.name, sizeof config.name, "berlin");
    *group = (struct config_group){
        .name = "orders",
        .array = "munich",
        .set = "shop",
        .set_count = 2,
        .hold_ms = 50,
        .set_arrays = {{.name = "berlin"},
                       {.name = "paris",
                        .address_count = 2,
                        .addresses = {{.text = "10.3.0.1:1"}, {.text = "10.3.0.2:1"}}}}};
    status.era = 1;
    status.leader = true;
    return 0;
}

static void is(const char *wanted)
{
    json_t *object = control_set_format(&config, group, &counts, &status);
    char *text = json_dumps(object, JSON_COMPACT | JSON_ENCODE_ANY);
    assert_string_equal(text, wanted);
    free(text);
    json_decref(object);
}

static void a_coordinator_shows_cuts_and_members(void **state)
{
    status.set = (struct set_status){.member_count = 2,
                                     .coordinates = true,
                                     .runs = true,
                                     .cut = 11,
                                     .promoted = 10,
                                     .cuts = 12,
                                     .failed_cuts = 2,
                                     .late_row = 1,
                                     .close_us = 900,
                                     .runs_begun = 3,
                                     .holds = 4,
                                     .late_holds = 1,
                                     .hold_last_us = 700,
                                     .hold_longest_us = 50000,
                                     .hold_total_us = 60000,
                                     .members = {{.runs = true}, {.runs = true}}};
    counts.set.coordinates = true;
    counts.set.members[1] = (struct copy_set_member){
        .link = {.up = true, .address = 1, .logins = 5, .round_trip_us = 7, .error = "said before"},
        .messages = 6};
    is("{\"name\":\"shop\",\"place\":0,\"coordinates\":true,\"runs\":true,\"coordinator\":null,"
       "\"cut\":11,\"promoted_cut\":10,\"cuts\":12,\"failed_cuts\":2,\"failed_in_a_row\":1,\"close_"
       "us\":900,\"run_count\":3,"
       "\"hold\":{\"limit_ms\":50,\"count\":4,\"late\":1,\"last_us\":700,\"longest_us\":50000,"
       "\"mean_us\":15000},\"here\":false,\"shown_cut\":0,\"held_cut\":0,"
       "\"members\":[{\"array\":\"berlin\",\"runs\":true,\"session\":null},"
       "{\"array\":\"paris\",\"runs\":true,\"session\":{\"up\":true,\"address\":\"10.3.0.2:1\","
       "\"logins\":5,\"messages\":6,\"round_trip_us\":7,\"error\":\"said before\"}}]}");
}

static void a_member_shows_its_coordinator(void **state)
{
    snprintf(config.name, sizeof config.name, "paris");
    snprintf(counts.set.coordinator, sizeof counts.set.coordinator, "10.1.0.1:7");
    is("{\"name\":\"shop\",\"place\":1,\"coordinates\":false,\"runs\":false,"
       "\"coordinator\":\"10.1.0.1:7\",\"cut\":0,\"promoted_cut\":0,\"cuts\":0,\"failed_cuts\":0,"
       "\"failed_in_a_row\":0,\"close_us\":0,"
       "\"run_count\":0,\"hold\":{\"limit_ms\":50,\"count\":0,\"late\":0,\"last_us\":0,"
       "\"longest_us\":0,\"mean_us\":0},\"here\":false,\"shown_cut\":0,\"held_cut\":0,"
       "\"members\":[{\"array\":\"berlin\",\"runs\":null,\"session\":null},"
       "{\"array\":\"paris\",\"runs\":null,\"session\":null}]}");
}

static void a_copy_shows_its_cuts(void **state)
{
    snprintf(config.name, sizeof config.name, "munich");
    snprintf(group->array, sizeof group->array, "paris");
    group->receives = true;
    counts.here.flags = COPY_STATE_HERE;
    status.role = GROUP_ROLE_RECEIVING;
    status.shown_cut = 8;
    status.held_cut = UINT64_MAX;
    is("{\"name\":\"shop\",\"place\":1,\"coordinates\":false,\"runs\":false,\"coordinator\":null,"
       "\"cut\":0,\"promoted_cut\":0,\"cuts\":0,\"failed_cuts\":0,\"failed_in_a_row\":0,\"close_"
       "us\":0,\"run_count\":0,"
       "\"hold\":{\"limit_ms\":50,\"count\":0,\"late\":0,\"last_us\":0,\"longest_us\":0,"
       "\"mean_us\":0},\"here\":true,\"shown_cut\":8,\"held_cut\":9223372036854775807,"
       "\"members\":[{\"array\":\"berlin\",\"runs\":null,\"session\":null},"
       "{\"array\":\"paris\",\"runs\":null,\"session\":null}]}");
}

static void a_group_in_no_set_has_none(void **state)
{
    group->set_count = 0;
    is("null");
}

static void only_the_leader_at_home_says_that_it_waits(void **state)
{
    assert_true(control_set_waits(group, &status));
    status.set.runs = true;
    assert_false(control_set_waits(group, &status));
    status.set.runs = false;
    status.leader = false;
    assert_false(control_set_waits(group, &status));
    status.leader = true;
    status.era = 2;
    assert_false(control_set_waits(group, &status));
    status.era = 3;
    assert_true(control_set_waits(group, &status));
    group->receives = true;
    assert_false(control_set_waits(group, &status));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_coordinator_shows_cuts_and_members, fill),
        cmocka_unit_test_setup(a_member_shows_its_coordinator, fill),
        cmocka_unit_test_setup(a_copy_shows_its_cuts, fill),
        cmocka_unit_test_setup(a_group_in_no_set_has_none, fill),
        cmocka_unit_test_setup(only_the_leader_at_home_says_that_it_waits, fill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
