/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The register in a file: compare-and-swap holds between processes, a torn leftover is harmless,
 * and damage is told from absence. */

#include "shell/register_file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[64], path[96];
static struct register_file at; /* path, as one controller sees it */

static int make_folder(void **state)
{
    snprintf(folder, sizeof folder, "/tmp/holdfast-register-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/register", folder);
    register_file_init(&at, path);
    return 0;
}

static int remove_folder(void **state)
{
    char name[128];
    register_file_close(&at);
    static const char *const ends[] = {"", ".lock", ".new"};
    for (size_t i = 0; i < ARRAY_LENGTH(ends); i++) {
        snprintf(name, sizeof name, "%s%s", path, ends[i]);
        unlink(name);
    }
    return rmdir(folder);
}

static const struct register_record never,
    first = {.epoch = 1, .in = REGISTER_IN_A, .unclean = true},
    second = {.epoch = 2, .in = REGISTER_IN_BOTH};

static void an_absent_register_was_never_written(void **state)
{
    struct register_record record;
    char why[TRACE_LINE];
    assert_int_equal(register_file_read(&at, &record, why), REGISTER_OK);
    assert_true(register_equal(&record, &never));
}

static void a_swap_needs_what_it_expects(void **state)
{
    struct register_record record;
    char why[TRACE_LINE];
    assert_int_equal(register_file_swap(&at, &never, &first, &record, why), REGISTER_OK);
    assert_int_equal(register_file_swap(&at, &never, &second, &record, why), REGISTER_CONFLICT);
    assert_true(register_equal(&record, &first));
    assert_int_equal(register_file_swap(&at, &first, &second, &record, why), REGISTER_OK);
    assert_int_equal(register_file_read(&at, &record, why), REGISTER_OK);
    assert_true(register_equal(&record, &second));
}

/* Two processes, 200 epochs: each epoch is won by exactly one of them. */
static void racers(unsigned *won)
{
    for (uint64_t epoch = 0; epoch < 200;) {
        struct register_record record, from = {.epoch = epoch, .in = epoch ? REGISTER_IN_A : 0},
                                       to = {.epoch = epoch + 1, .in = REGISTER_IN_A};
        char why[TRACE_LINE];
        enum register_result result = register_file_swap(&at, &from, &to, &record, why);
        if (result == REGISTER_UNKNOWN)
            _exit(255);
        *won += result == REGISTER_OK;
        epoch = record.epoch;
    }
}

static void exactly_one_of_two_racers_wins_each_epoch(void **state)
{
    pid_t child[2];
    for (int i = 0; i < 2; i++) {
        child[i] = fork();
        if (child[i] == 0) {
            unsigned won = 0;
            racers(&won);
            _exit((int)won);
        }
    }
    int total = 0;
    for (int i = 0; i < 2; i++) {
        int status;
        assert_int_equal(waitpid(child[i], &status, 0), child[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 255);
        total += WEXITSTATUS(status);
    }
    assert_int_equal(total, 200);
}

static void put_file(const char *name, const void *bytes, size_t size)
{
    int file = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(file >= 0);
    assert_int_equal(write(file, bytes, size), size);
    close(file);
}

static void a_torn_new_file_of_a_crash_is_overwritten(void **state)
{
    struct register_record record;
    char why[TRACE_LINE], name[128];
    assert_int_equal(register_file_swap(&at, &never, &first, &record, why), REGISTER_OK);
    snprintf(name, sizeof name, "%s.new", path);
    put_file(name, "HFRG\1 half of a record, and more than fits into one", 40);
    assert_int_equal(register_file_read(&at, &record, why), REGISTER_OK);
    assert_true(register_equal(&record, &first));
    assert_int_equal(register_file_swap(&at, &first, &second, &record, why), REGISTER_OK);
    assert_int_equal(register_file_read(&at, &record, why), REGISTER_OK);
    assert_true(register_equal(&record, &second));
}

static void a_damaged_register_is_not_an_absent_one(void **state)
{
    struct register_record record;
    char why[TRACE_LINE];
    put_file(path, "HFRG", 4);
    assert_int_equal(register_file_read(&at, &record, why), REGISTER_UNKNOWN);
    assert_non_null(strstr(why, "damaged"));
    assert_int_equal(register_file_swap(&at, &never, &first, &record, why), REGISTER_UNKNOWN);
    put_file(path, "", 0);
    assert_int_equal(register_file_read(&at, &record, why), REGISTER_UNKNOWN);
}

static void assert_unknown(const char *because)
{
    struct register_record record;
    char why[TRACE_LINE] = "";
    assert_int_equal(register_file_read(&at, &record, why), REGISTER_UNKNOWN);
    assert_true(register_equal(&record, &never));
    assert_non_null(strstr(why, because));
    why[0] = '\0';
    assert_int_equal(register_file_swap(&at, &never, &second, &record, why), REGISTER_UNKNOWN);
    assert_non_null(strstr(why, because));
}

static void a_folder_that_was_never_there_is_unknown_until_it_is(void **state)
{
    struct register_record record;
    char why[TRACE_LINE];
    assert_int_equal(rmdir(folder), 0);
    assert_unknown("No such file");
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_int_equal(register_file_swap(&at, &never, &first, &record, why), REGISTER_OK);
}

/* What an unmounted file system looks like: its mount point, an empty folder, shows instead. */
static void another_folder_in_its_place_says_nothing_about_the_register(void **state)
{
    struct register_record record;
    char why[TRACE_LINE], aside[80], name[128];
    assert_int_equal(register_file_swap(&at, &never, &first, &record, why), REGISTER_OK);
    snprintf(aside, sizeof aside, "%s-aside", folder);
    assert_int_equal(rename(folder, aside), 0);
    assert_unknown("is gone");
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_unknown("not mounted");
    snprintf(name, sizeof name, "%s.lock", path);
    assert_int_equal(access(name, F_OK), -1); /* nothing was put there */

    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(rename(aside, folder), 0);
    assert_int_equal(register_file_read(&at, &record, why), REGISTER_OK);
    assert_true(register_equal(&record, &first));
    assert_int_equal(register_file_swap(&at, &first, &second, &record, why), REGISTER_OK);
}

/* The same, before the first record: an absent file is "never written" in the right folder only. */
static void a_folder_that_went_before_the_first_record_is_not_never_written(void **state)
{
    struct register_record record;
    char why[TRACE_LINE];
    assert_int_equal(register_file_read(&at, &record, why), REGISTER_OK);
    assert_int_equal(rmdir(folder), 0);
    assert_unknown("is gone");
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_unknown("not mounted");
}

/* While someone else holds the lock the answer waits; a lock that is never let go ends as UNKNOWN.
 */
static void a_lock_that_is_never_let_go_ends_as_unknown(void **state)
{
    char name[128], why[TRACE_LINE];
    snprintf(name, sizeof name, "%s.lock", path);
    int lock = open(name, O_RDWR | O_CREAT, 0600);
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    assert_int_equal(fcntl(lock, F_OFD_SETLK, &whole), 0);
    struct register_record record;
    assert_int_equal(register_file_swap(&at, &never, &first, &record, why), REGISTER_UNKNOWN);
    close(lock);
    assert_int_equal(register_file_swap(&at, &never, &first, &record, why), REGISTER_OK);
}

static unsigned answers;
static enum register_result last_result;
static struct register_record last_record;
static void answered(void *context, enum register_result result,
                     const struct register_record *record, const char *why)
{
    answers++;
    last_result = result;
    last_record = *record;
}

static void the_thread_answers_on_the_loop(void **state)
{
    struct loop loop;
    static struct register_thread thread; /* the thread lives as long as the process */
    assert_null(loop_open(&loop, 8, -1));
    assert_null(register_thread_start(&thread, &loop, path, answered, NULL));
    register_thread_ask(
        &thread, &(struct register_action){.swap = true, .expected = never, .wanted = first});
    for (int i = 0; i < 100 && answers < 1; i++)
        loop_turn(&loop, loop.now_us + 100000);
    assert_int_equal(answers, 1);
    assert_int_equal(last_result, REGISTER_OK);
    register_thread_ask(&thread, &(struct register_action){.swap = false});
    for (int i = 0; i < 100 && answers < 2; i++)
        loop_turn(&loop, loop.now_us + 100000);
    assert_int_equal(answers, 2);
    assert_true(register_equal(&last_record, &first));
}

/* Asks the thread and turns the loop until it has answered. */
static void ask(struct loop *loop, struct register_thread *thread,
                const struct register_action *action)
{
    unsigned before = answers;
    register_thread_ask(thread, action);
    for (int i = 0; i < 100 && answers == before; i++)
        loop_turn(loop, loop->now_us + 100000);
    assert_int_equal(answers, before + 1);
}

static unsigned count_lines(FILE *log, const char *sentence)
{
    char line[1024];
    unsigned count = 0;
    rewind(log);
    while (fgets(line, sizeof line, log))
        count += strstr(line, sentence) != NULL;
    return count;
}

static void a_folder_that_goes_and_comes_back_is_said_once_each(void **state)
{
    struct loop loop;
    static struct register_thread thread;
    const struct register_action read = {.swap = false};
    char aside[80];
    snprintf(aside, sizeof aside, "%s-aside", folder);
    FILE *log = tmpfile();
    assert_non_null(log);
    int standard = dup(STDERR_FILENO);
    dup2(fileno(log), STDERR_FILENO);
    assert_null(loop_open(&loop, 8, -1));
    assert_null(register_thread_start(&thread, &loop, path, answered, NULL));
    ask(&loop, &thread,
        &(struct register_action){.swap = true, .expected = never, .wanted = first});
    assert_int_equal(rename(folder, aside), 0);
    for (int i = 0; i < 3; i++) {
        ask(&loop, &thread, &read);
        assert_int_equal(last_result, REGISTER_UNKNOWN);
    }
    assert_int_equal(rename(aside, folder), 0);
    for (int i = 0; i < 3; i++) {
        ask(&loop, &thread, &read);
        assert_int_equal(last_result, REGISTER_OK);
        assert_true(register_equal(&last_record, &first));
    }
    dup2(standard, STDERR_FILENO);
    close(standard);
    assert_int_equal(count_lines(log, "the register's folder is gone"), 1);
    assert_int_equal(count_lines(log, "answers again"), 1);
    fclose(log);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(an_absent_register_was_never_written),
        TEST(a_swap_needs_what_it_expects),
        TEST(exactly_one_of_two_racers_wins_each_epoch),
        TEST(a_torn_new_file_of_a_crash_is_overwritten),
        TEST(a_damaged_register_is_not_an_absent_one),
        TEST(a_folder_that_was_never_there_is_unknown_until_it_is),
        TEST(another_folder_in_its_place_says_nothing_about_the_register),
        TEST(a_folder_that_went_before_the_first_record_is_not_never_written),
        TEST(a_lock_that_is_never_let_go_ends_as_unknown),
        TEST(the_thread_answers_on_the_loop),
        TEST(a_folder_that_goes_and_comes_back_is_said_once_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
