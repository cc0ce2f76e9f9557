/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* `group failover` of a set against controllers that only answer: which cut is chosen, who is told,
 * and that nobody is told anything when the copies cannot all go there. Each row is what the
 * controllers of two arrays say of their groups, and what comes of it. */

#include "cli/cli.h"

#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

enum { ARRAYS = 2, FAKES = ARRAYS * CLI_CONTROLLERS, TEXT_BYTES = 8192 };

/* One controller: answers every status with `groups`, and every other request with `answer`. */
static struct fake {
    char path[CLI_SOCKET_SIZE];
    int listener;
    pthread_t thread;
    const char *array;
    char groups[TEXT_BYTES];
    char later[TEXT_BYTES]; /* what it answers when it has been told something; empty: the same */
    const char *answer;     /* NULL: it does not run */
    char told[TEXT_BYTES];  /* all requests but status */
} fakes[FAKES];
static char directory[] = "/tmp/holdfast-failover-test-XXXXXX";
static char out[TEXT_BYTES], err[TEXT_BYTES];

static void answer(struct fake *fake, int connection)
{
    char line[512] = "", reply[TEXT_BYTES + 256];
    size_t length = 0;
    while (length + 1 < sizeof line && !memchr(line, '\n', length)) {
        ssize_t count = recv(connection, line + length, sizeof line - 1 - length, 0);
        if (count <= 0)
            return;
        length += (size_t)count;
    }
    line[length] = '\0';
    if (strstr(line, "status")) {
        snprintf(reply, sizeof reply,
                 "{\"ok\":true,\"status\":{\"array\":\"%s\",\"groups\":[%s]}}\n", fake->array,
                 fake->told[0] && fake->later[0] ? fake->later : fake->groups);
    } else {
        strncat(fake->told, line, TEXT_BYTES - 1 - strlen(fake->told));
        snprintf(reply, sizeof reply, "%s\n", fake->answer);
    }
    send(connection, reply, strlen(reply), MSG_NOSIGNAL);
}

static void *serve(void *argument)
{
    struct fake *fake = argument;
    int connection;
    while ((connection = accept(fake->listener, NULL, NULL)) >= 0) {
        answer(fake, connection);
        close(connection);
    }
    return NULL;
}

static bool on_sockets(const char *config, char sockets[CLI_CONTROLLERS][CLI_SOCKET_SIZE])
{
    int array = config[0] - '0';
    for (int i = 0; i < CLI_CONTROLLERS; i++)
        memcpy(sockets[i], fakes[array * CLI_CONTROLLERS + i].path, CLI_SOCKET_SIZE);
    return true;
}

static void start_all(void)
{
    for (int i = 0; i < FAKES; i++) {
        struct fake *fake = &fakes[i];
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        fake->told[0] = '\0';
        fake->listener = -1;
        if (!fake->answer)
            continue;
        snprintf(address.sun_path, sizeof address.sun_path, "%.90s", fake->path);
        fake->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fake->listener, (struct sockaddr *)&address, sizeof address), 0);
        assert_int_equal(listen(fake->listener, 4), 0);
        assert_int_equal(pthread_create(&fake->thread, NULL, serve, fake), 0);
    }
}

static void stop_all(void)
{
    for (int i = 0; i < FAKES; i++) {
        if (fakes[i].listener < 0)
            continue;
        shutdown(fakes[i].listener, SHUT_RDWR);
        pthread_join(fakes[i].thread, NULL);
        close(fakes[i].listener);
        unlink(fakes[i].path);
    }
}

static void take_over(int target, int *saved, int *file)
{
    char path[128];
    snprintf(path, sizeof path, "%s/text-XXXXXX", directory);
    *file = mkstemp(path);
    assert_true(*file >= 0);
    unlink(path);
    *saved = dup(target);
    dup2(*file, target);
}

static void give_back(int target, int saved, int file, char *text)
{
    ssize_t count = pread(file, text, TEXT_BYTES - 1, 0);
    text[count > 0 ? count : 0] = '\0';
    dup2(saved, target);
    close(saved);
    close(file);
}

static int type(const char *line)
{
    static const struct cli_hooks hooks = {.version = "1", .sockets = on_sockets};
    char words[512], *argv[16], *rest = words;
    int argc = 0, saved[2], files[2];
    snprintf(words, sizeof words, "%s", line);
    for (char *word; (word = strsep(&rest, " ")) != NULL && argc < 15;)
        argv[argc++] = word;
    argv[argc] = NULL;
    fflush(stdout);
    fflush(stderr);
    take_over(1, &saved[0], &files[0]);
    take_over(2, &saved[1], &files[1]);
    int status = cli_main(argc, argv, &hooks);
    fflush(stdout);
    fflush(stderr);
    give_back(1, saved[0], files[0], out);
    give_back(2, saved[1], files[1], err);
    return status;
}

/* ---- what controllers say ---- */

#define MEMBERS "\"members\":[{\"array\":\"berlin\"},{\"array\":\"paris\"}]"
#define GROUP(name, from, place, role, here, shown, held)                                          \
    "{\"name\":\"" name "\",\"array\":\"" from "\",\"role\":\"" role "\",\"era\":1,\"set\":{"      \
    "\"name\":\"shop\",\"place\":" #place ",\"here\":" here ",\"shown_cut\":" #shown               \
    ",\"held_cut\":" #held "," MEMBERS "}}"
#define ORDERS(here, shown, held) GROUP("orders", "berlin", 0, "receiving", here, shown, held)
#define STOCK(here, shown, held)  GROUP("stock", "paris", 1, "receiving", here, shown, held)

#define YES  "{\"ok\":true,\"text\":\"serves\"}"
#define NO   "{\"ok\":false,\"text\":\"still answers\"}"
#define BOTH "holdfast group failover shop --config 0 --config 1"
#define TO(group, rest)                                                                            \
    "{\"command\":\"group\",\"group\":\"" group "\",\"action\":\"failover\"" rest "}\n"

#define STAND(group, rest)                                                                         \
    "{\"command\":\"group\",\"group\":\"" group "\",\"action\":\"stand\"" rest "}\n"
/* First it is told to stand. */
#define SET(group, cut, rest) STAND(group, rest) TO(group, cut rest)

struct said {
    const char *groups;
    const char *answer; /* NULL: it does not run */
};

static const struct row {
    struct said said[FAKES]; /* munich a, b; vienna a, b */
    const char *line;
    int result;
    const char *told[FAKES]; /* NULL: nothing */
    const char *out, *err;   /* a part of it; NULL: nothing */
} rows[] = {
    /* both show the same cut */
    {{{ORDERS("true", 9, 0), YES}, {"", YES}, {"", YES}, {STOCK("true", 9, 10), YES}},
     BOTH,
     CLI_DONE,
     {SET("orders", ",\"cut\":9", ""), NULL, NULL, SET("stock", ",\"cut\":9", "")},
     "set shop: all copies go to cut 9\narray munich, group orders: serves\narray vienna, group "
     "stock: serves\n",
     NULL},
    /* one has promoted a later one, which the other holds; who does not hold the group knows less
     */
    {{{ORDERS("false", 0, 0), YES},
      {ORDERS("true", 8, 9), YES},
      {STOCK("true", 9, 0), YES},
      {STOCK("false", 12, 12), YES}},
     BOTH,
     CLI_DONE,
     {NULL, SET("orders", ",\"cut\":9", ""), SET("stock", ",\"cut\":9", ""), NULL},
     "all copies go to cut 9\n",
     NULL},
    /* both copies are at one array */
    {{{ORDERS("true", 8, 9) "," STOCK("true", 9, 9), YES}, {"", NULL}, {"", YES}, {"", YES}},
     "holdfast group failover shop --config 0",
     CLI_DONE,
     {STAND("orders", "") STAND("stock", "") TO("orders", ",\"cut\":9") TO("stock", ",\"cut\":9"),
      NULL, NULL, NULL},
     "all copies go to cut 9\n",
     NULL},
    /* one neither shows nor holds it */
    {{{ORDERS("true", 8, 8), YES}, {"", YES}, {STOCK("true", 9, 9), YES}, {"", YES}},
     BOTH,
     CLI_FAILED,
     {NULL},
     NULL,
     "set shop: group orders at array munich shows cut 8 and holds up to 8, so it cannot go to cut "
     "9\nset shop: nothing was done"},
    {{{ORDERS("true", 8, 8), YES}, {"", YES}, {STOCK("true", 9, 9), YES}, {"", YES}},
     BOTH " --force",
     CLI_DONE,
     {SET("orders", "", ",\"force\":true"), NULL, SET("stock", ",\"cut\":9", ",\"force\":true"),
      NULL},
     "group stock: serves\n",
     "so it cannot go to cut 9\n"},
    /* an array that is not asked, one that does not answer, a group that nobody holds */
    {{{ORDERS("true", 9, 9), YES}, {"", YES}, {STOCK("true", 9, 9), YES}, {"", YES}},
     "holdfast group failover shop --config 0",
     CLI_FAILED,
     {NULL},
     NULL,
     "the copy of what is at array paris is not at the arrays asked; name its array's file with "
     "--config\n"},
    {{{ORDERS("true", 9, 9), YES}, {"", YES}, {"", NULL}, {"", NULL}},
     BOTH,
     CLI_FAILED,
     {NULL},
     NULL,
     "no controller of 1 answers: "},
    {{{ORDERS("true", 9, 9), YES}, {"", YES}, {"", NULL}, {"", NULL}},
     BOTH " --force",
     CLI_DONE,
     {SET("orders", ",\"cut\":9", ",\"force\":true"), NULL, NULL, NULL},
     "group orders: serves\n",
     "no controller of 1 answers: "},
    {{{ORDERS("true", 9, 9), YES}, {"", YES}, {STOCK("false", 9, 9), YES}, {"", NULL}},
     BOTH,
     CLI_FAILED,
     {NULL},
     NULL,
     "no controller of array vienna that answers holds group stock\n"},
    /* one is no state of its primary */
    {{{"{\"name\":\"orders\",\"array\":\"berlin\",\"role\":\"receiving\",\"era\":1,"
       "\"condition\":\"resynchronising\",\"set\":{\"name\":\"shop\",\"place\":0,\"here\":true,"
       "\"shown_cut\":9,\"held_cut\":9," MEMBERS "}}",
       YES},
      {"", YES},
      {STOCK("true", 9, 9), YES},
      {"", YES}},
     BOTH,
     CLI_FAILED,
     {NULL},
     NULL,
     "group orders at array munich is part old, part new"},
    /* there never was a cut */
    {{{ORDERS("true", 0, 0), YES}, {"", YES}, {STOCK("true", 0, 4), YES}, {"", YES}},
     BOTH,
     CLI_FAILED,
     {NULL},
     NULL,
     "no cut of the set came whole"},
    {{{ORDERS("true", 0, 0), YES}, {"", YES}, {STOCK("true", 0, 4), YES}, {"", YES}},
     BOTH " --force",
     CLI_DONE,
     {SET("orders", "", ",\"force\":true"), NULL, SET("stock", "", ",\"force\":true"), NULL},
     "group stock: serves\n",
     "no cut of the set came whole"},
    /* one of them hears its primary: nobody is failed over */
    {{{ORDERS("true", 9, 9), YES}, {"", YES}, {STOCK("true", 9, 9), NO}, {"", NO}},
     BOTH,
     CLI_FAILED,
     {STAND("orders", ""), NULL, STAND("stock", ""), NULL},
     NULL,
     "array vienna, group stock: refused: still answers\nset shop: nothing was done"},
    /* a call that got half way: the one that was failed over is left alone */
    {{{GROUP("orders", "berlin", 0, "failed over", "false", 9, 0), YES},
      {"", YES},
      {STOCK("true", 8, 9), YES},
      {"", YES}},
     BOTH,
     CLI_DONE,
     {NULL, NULL, SET("stock", ",\"cut\":9", ""), NULL},
     "array munich, group orders: it was failed over before\narray vienna, group stock: serves\n",
     NULL},
    /* failed over to another one alone */
    {{{GROUP("orders", "berlin", 0, "failed over", "false", 7, 0), YES},
      {"", YES},
      {STOCK("true", 8, 9), YES},
      {"", YES}},
     BOTH,
     CLI_FAILED,
     {NULL},
     NULL,
     "group orders at array munich was failed over to cut 7 and holds none up to 0, so it cannot "
     "go "
     "to cut 8\n"},
    /* the originals are no copies */
    {{{ORDERS("true", 9, 9), YES},
      {"", YES},
      {STOCK("true", 9, 9), YES},
      {GROUP("x", "y", 1, "primary", "false", 0, 0), YES}},
     BOTH,
     CLI_FAILED,
     {NULL},
     NULL,
     "group x at array paris is no copy; name the arrays that hold the copies\n"},
    /* a group of a set is not failed over by itself */
    {{{ORDERS("true", 9, 9), YES}, {"", YES}, {"", YES}, {"", YES}},
     "holdfast group failover orders --config 0",
     CLI_FAILED,
     {NULL},
     NULL,
     "group orders is one of set shop: `holdfast group failover shop` with a --config"},
    {{{ORDERS("true", 9, 9), YES}, {"", YES}, {"", YES}, {"", YES}},
     "holdfast group failover orders --config 0 --force",
     CLI_DONE,
     {TO("orders", ",\"force\":true"), NULL, NULL, NULL},
     "controller a: serves\n",
     NULL},
    /* and one of none is, without a word more */
    {{{"{\"name\":\"db\",\"role\":\"receiving\",\"era\":1,\"set\":null}", YES},
      {"", YES},
      {"", YES},
      {"", YES}},
     "holdfast group failover db --config 0",
     CLI_DONE,
     {TO("db", ""), NULL, NULL, NULL},
     "controller a: serves\n",
     NULL},
    {{{"", YES}, {"", YES}, {"", YES}, {"", YES}},
     BOTH,
     CLI_FAILED,
     {NULL},
     NULL,
     "no controller that answers has a set shop\n"},
};

static void each_row_comes_out(void **state)
{
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        for (int j = 0; j < FAKES; j++) {
            snprintf(fakes[j].groups, TEXT_BYTES, "%s", rows[i].said[j].groups);
            fakes[j].answer = rows[i].said[j].answer;
        }
        if (strstr(fakes[3].groups, "\"x\"")) /* vienna's b shows an array of its own */
            fakes[3].array = "paris";
        start_all();
        int result = type(rows[i].line);
        stop_all();
        fakes[3].array = "vienna";
        if (result != rows[i].result)
            fail_msg("row %zu: %d\n%s%s", i, result, out, err);
        for (int j = 0; j < FAKES; j++)
            if (strcmp(fakes[j].told, rows[i].told[j] ? rows[i].told[j] : "") != 0)
                fail_msg("row %zu: controller %d was told %s\n%s%s", i, j, fakes[j].told, out, err);
        if (rows[i].out ? !strstr(out, rows[i].out) : out[0] != '\0')
            fail_msg("row %zu: out: %s", i, out);
        if (rows[i].err ? !strstr(err, rows[i].err) : err[0] != '\0')
            fail_msg("row %zu: err: %s", i, err);
    }
}

/* The primaries live, and one more cut is promoted between the first look and the stand. */
static void a_cut_that_is_promoted_meanwhile_counts(void **state)
{
    snprintf(fakes[0].groups, TEXT_BYTES, "%s", ORDERS("true", 8, 9));
    snprintf(fakes[0].later, TEXT_BYTES, "%s", ORDERS("true", 9, 9));
    snprintf(fakes[2].groups, TEXT_BYTES, "%s", STOCK("true", 8, 9));
    fakes[0].answer = fakes[2].answer = YES;
    fakes[1].answer = fakes[3].answer = NULL;
    start_all();
    int result = type(BOTH " --force");
    stop_all();
    assert_int_equal(result, CLI_DONE);
    assert_string_equal(fakes[0].told, SET("orders", ",\"cut\":9", ",\"force\":true"));
    assert_string_equal(fakes[2].told, SET("stock", ",\"cut\":9", ",\"force\":true"));
    /* And one that it cannot have gone to is seen before anything is done. */
    snprintf(fakes[0].later, TEXT_BYTES, "%s", ORDERS("true", 10, 10));
    start_all();
    result = type(BOTH);
    stop_all();
    fakes[0].later[0] = '\0';
    assert_int_equal(result, CLI_FAILED);
    assert_non_null(strstr(err, "so it cannot go to cut 10\nset shop: nothing was done"));
    assert_string_equal(fakes[2].told, STAND("stock", ""));
}

static void arrays_that_mean_other_sets_are_not_mixed(void **state)
{
    snprintf(fakes[0].groups, TEXT_BYTES, "%s", ORDERS("true", 9, 9));
    snprintf(fakes[2].groups, TEXT_BYTES,
             "{\"name\":\"stock\",\"array\":\"rome\",\"role\":\"receiving\",\"era\":1,\"set\":{"
             "\"name\":\"shop\",\"place\":1,\"here\":true,\"shown_cut\":9,\"held_cut\":9,"
             "\"members\":[{\"array\":\"berlin\"},{\"array\":\"rome\"}]}}");
    fakes[0].answer = fakes[2].answer = YES;
    fakes[1].answer = fakes[3].answer = NULL;
    start_all();
    int result = type(BOTH);
    stop_all();
    assert_int_equal(result, CLI_FAILED);
    assert_non_null(strstr(err, "1 names other primary arrays than the other files"));
    assert_string_equal(fakes[0].told, "");
    assert_string_equal(fakes[2].told, "");
}

static void only_failover_takes_many_files(void **state)
{
    assert_int_equal(type("holdfast group reverse shop --config 0 --config 1"), CLI_USAGE);
    assert_non_null(strstr(err, "too many files with --config: 1"));
    assert_int_equal(type("holdfast group failover shop --config 0 --config 0 --config 0 --config "
                          "0 --config 0"),
                     CLI_FAILED);
}

static int set_up(void **state)
{
    assert_non_null(mkdtemp(directory));
    for (int i = 0; i < FAKES; i++) {
        snprintf(fakes[i].path, CLI_SOCKET_SIZE, "%s/%d", directory, i);
        fakes[i].array = i < CLI_CONTROLLERS ? "munich" : "vienna";
    }
    return 0;
}

static int tear_down(void **state)
{
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_row_comes_out),
        cmocka_unit_test(a_cut_that_is_promoted_meanwhile_counts),
        cmocka_unit_test(arrays_that_mean_other_sets_are_not_mixed),
        cmocka_unit_test(only_failover_takes_many_files),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
