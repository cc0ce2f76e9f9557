/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What the operator types, against a controller that answers from a script: each command sends just
 * the request that it should, prints the answer, and ends with the right exit status; words that
 * make no sense are refused before anything is asked; a controller that does not answer is named
 * and waited for no longer than said. */

#include "cli/cli.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

enum { REQUEST_BYTES = 512, OUTPUT_BYTES = 16384 };

/* One controller: answers one connection with `answer`, or takes the request and says nothing. */
struct fake {
    char path[CLI_SOCKET_SIZE];
    int listener;
    pthread_t thread;
    const char *answer; /* NULL: close without an answer; "" say nothing until the client goes */
    char request[REQUEST_BYTES];
};

static char directory[] = "/tmp/holdfast-cli-test-XXXXXX";
static struct fake fakes[2];
static char out[OUTPUT_BYTES], err[OUTPUT_BYTES];
static int run_controller;
static char run_config[64];

static void *serve(void *argument)
{
    struct fake *fake = argument;
    int connection = accept(fake->listener, NULL, NULL);
    if (connection < 0)
        return NULL;
    size_t length = 0;
    while (length + 1 < REQUEST_BYTES && !memchr(fake->request, '\n', length)) {
        ssize_t count = recv(connection, fake->request + length, REQUEST_BYTES - 1 - length, 0);
        if (count <= 0)
            break;
        length += (size_t)count;
    }
    fake->request[length] = '\0';
    if (fake->answer && *fake->answer)
        send(connection, fake->answer, strlen(fake->answer), MSG_NOSIGNAL);
    else if (fake->answer)
        recv(connection, &(char){0}, 1, 0);
    close(connection);
    return NULL;
}

static void fake_start(int index, const char *answer)
{
    struct fake *fake = &fakes[index];
    fake->answer = answer;
    fake->request[0] = '\0';
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%.90s", fake->path);
    unlink(fake->path);
    fake->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fake->listener >= 0);
    assert_int_equal(bind(fake->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fake->listener, 4), 0);
    assert_int_equal(pthread_create(&fake->thread, NULL, serve, fake), 0);
}

/* What it was asked; "" when it was not. */
static const char *fake_stop(int index)
{
    struct fake *fake = &fakes[index];
    shutdown(fake->listener, SHUT_RDWR); /* ends an accept() that nobody came to */
    pthread_join(fake->thread, NULL);
    close(fake->listener);
    unlink(fake->path);
    return fake->request;
}

static bool on_sockets(const char *config, char sockets[CLI_CONTROLLERS][CLI_SOCKET_SIZE])
{
    snprintf(run_config, sizeof run_config, "%s", config);
    if (strcmp(config, "bad.conf") == 0)
        return false;
    for (int i = 0; i < CLI_CONTROLLERS; i++)
        memcpy(sockets[i], fakes[i].path, CLI_SOCKET_SIZE);
    return true;
}

static char run_other[64];

static int on_check(const char *config, const char *other)
{
    snprintf(run_other, sizeof run_other, "%s", other ? other : "none");
    snprintf(run_config, sizeof run_config, "%s", config);
    return 0;
}

static int on_run(const char *config, int controller)
{
    snprintf(run_config, sizeof run_config, "%s", config);
    run_controller = controller;
    return 7;
}

static int on_demo(const char *const words[])
{
    run_config[0] = '\0';
    for (; *words; words++)
        snprintf(run_config + strlen(run_config), sizeof run_config - strlen(run_config), " %s",
                 *words);
    return 9;
}

static void read_back(int descriptor, int saved, int target, char *text)
{
    ssize_t count = pread(descriptor, text, OUTPUT_BYTES - 1, 0);
    text[count > 0 ? count : 0] = '\0';
    dup2(saved, target);
    close(saved);
    close(descriptor);
}

/* Runs the words of `line` (split at blanks); what it prints is in `out` and `err`. */
static int type(const char *line)
{
    static const struct cli_hooks hooks = {"1.2.3", on_sockets, on_check, on_run, on_demo};
    char words[512], *argv[16], *rest = words;
    int argc = 0;
    snprintf(words, sizeof words, "%s", line);
    for (char *word; (word = strsep(&rest, " ")) != NULL && argc < 15;)
        argv[argc++] = word;
    argv[argc] = NULL;
    run_controller = -1;
    run_config[0] = '\0';

    fflush(stdout);
    fflush(stderr);
    char out_path[128], err_path[128];
    snprintf(out_path, sizeof out_path, "%s/out-XXXXXX", directory);
    snprintf(err_path, sizeof err_path, "%s/err-XXXXXX", directory);
    int out_file = mkstemp(out_path), err_file = mkstemp(err_path);
    assert_true(out_file >= 0);
    assert_true(err_file >= 0);
    unlink(out_path);
    unlink(err_path);
    int saved_out = dup(1), saved_err = dup(2);
    dup2(out_file, 1);
    dup2(err_file, 2);
    int status = cli_main(argc, argv, &hooks);
    fflush(stdout);
    fflush(stderr);
    read_back(out_file, saved_out, 1, out);
    read_back(err_file, saved_err, 2, err);
    return status;
}

static void every_command_has_help_and_exits_well(void **state)
{
    static const char *const commands[] = {
        "run",          "check",         "status",       "volume move",    "stop",
        "accept-loss",  "group suspend", "group resume", "group failover", "group reverse",
        "group resync", "group status",  "demo"};
    assert_int_equal(type("holdfast --help"), CLI_DONE);
    for (size_t i = 0; i < ARRAY_LENGTH(commands); i++) {
        char line[64], usage[64];
        assert_non_null(strstr(out, commands[i]));
        snprintf(line, sizeof line, "holdfast %s --help", commands[i]);
        snprintf(usage, sizeof usage, "usage: holdfast %s", commands[i]);
        assert_int_equal(type(line), CLI_DONE);
        assert_int_equal(strncmp(out, usage, strlen(usage)), 0);
        assert_string_equal(err, "");
        assert_int_equal(type("holdfast --help"), CLI_DONE);
    }
    assert_int_equal(type("holdfast --version"), CLI_DONE);
    assert_string_equal(out, "holdfast 1.2.3\n");
}

static void check_help_columns(void)
{
    size_t column = 0;
    for (const char *at = out; *at; at++) {
        column = *at == '\n' ? 0 : column + 1;
        assert_true(column <= 100);
    }
}

static void no_line_of_a_help_is_wider_than_a_terminal(void **state)
{
    static const char *const lines[] = {
        "holdfast --help",
        "holdfast run --help",
        "holdfast check --help",
        "holdfast status --help",
        "holdfast volume move --help",
        "holdfast stop --help",
        "holdfast volume --help",
        "holdfast accept-loss --help",
        "holdfast group suspend --help",
        "holdfast group resume --help",
        "holdfast group failover --help",
        "holdfast group reverse --help",
        "holdfast group resync --help",
        "holdfast group status --help",
        "holdfast demo --help",
    };
    for (size_t i = 0; i < ARRAY_LENGTH(lines); i++) {
        assert_int_equal(type(lines[i]), CLI_DONE);
        check_help_columns();
    }
}

static void help_of_volume_is_that_of_its_command(void **state)
{
    char expected[OUTPUT_BYTES];
    assert_int_equal(type("holdfast volume move --help"), CLI_DONE);
    memcpy(expected, out, sizeof expected);
    static const char *const lines[] = {"holdfast volume --help", "holdfast volume -h"};
    for (size_t i = 0; i < ARRAY_LENGTH(lines); i++) {
        assert_int_equal(type(lines[i]), CLI_DONE);
        assert_string_equal(out, expected);
        assert_string_equal(err, "");
    }
}

static void words_that_make_no_sense_are_refused(void **state)
{
    static const struct {
        const char *line, *message;
    } rows[] = {
        {"holdfast start", "holdfast: no such command: start\n"},
        {"holdfast volume", "holdfast: volume has one command: volume move NAME a|b\n"},
        {"holdfast group",
         "holdfast: group has six commands: group status, suspend, resume, failover, reverse, "
         "resync\n"},
        {"holdfast group suspend db --force", "holdfast group suspend: does not take: --force\n"},
        {"holdfast group failover", "holdfast group failover: more words are needed: NAME\n"},
        {"holdfast group suspend", "holdfast group suspend: more words are needed: NAME\n"},
        {"holdfast volume drop v", "holdfast: volume has one command: volume move NAME a|b\n"},
        {"holdfast status now", "holdfast status: one word too many: now\n"},
        {"holdfast status --yaml", "holdfast status: no such option: --yaml\n"},
        {"holdfast status --peer-is-dead", "holdfast status: does not take: --peer-is-dead\n"},
        {"holdfast status --json=1", "holdfast status: takes no value: --json\n"},
        {"holdfast status --config", "holdfast status: needs a value: --config\n"},
        {"holdfast status --controller c", "holdfast status: --controller is a or b, not: c\n"},
        {"holdfast status --timeout 0",
         "holdfast status: --timeout is 1 to 86400 seconds, not: 0\n"},
        {"holdfast status --timeout 5x",
         "holdfast status: --timeout is 1 to 86400 seconds, not: 5x\n"},
        {"holdfast volume move v", "holdfast volume move: more words are needed: NAME a|b\n"},
        {"holdfast volume move v c", "holdfast volume move: a volume moves to a or b, not to: c\n"},
        {"holdfast volume move \xff a", "holdfast volume move: not a name: \xff\n"},
        {"holdfast group resume \xff", "holdfast group resume: not a name: \xff\n"},
        {"holdfast run",
         "holdfast run: which controller is it? Needs: --controller a or --controller b\n"},
        {"holdfast demo --config x", "holdfast demo: does not take: --config\n"},
        {"holdfast demo remote", "holdfast demo: one word too many: remote\n"},
        {"holdfast status --remote", "holdfast status: does not take: --remote\n"},
        {"holdfast run --controller a --json", "holdfast run: does not take: --json\n"},
        {"holdfast accept-loss", "holdfast accept-loss: which controller shall serve? Needs: "
                                 "--controller a or --controller b\n"},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        assert_int_equal(type(rows[i].line), CLI_USAGE);
        assert_int_equal(strncmp(err, rows[i].message, strlen(rows[i].message)), 0);
        assert_string_equal(out, "");
        assert_int_equal(run_controller, -1);
    }
    assert_int_equal(type("holdfast"), CLI_USAGE);
}

static void run_and_check_get_their_words(void **state)
{
    assert_int_equal(type("holdfast run --controller b --config x.conf"), 7);
    assert_int_equal(run_controller, 1);
    assert_string_equal(run_config, "x.conf");
    assert_int_equal(type("holdfast run --controller=a"), 7);
    assert_int_equal(run_controller, 0);
    assert_string_equal(run_config, CLI_CONFIG_PATH);
    assert_int_equal(type("holdfast check y.conf"), 0);
    assert_string_equal(run_config, "y.conf");
    assert_string_equal(run_other, "none");
    assert_int_equal(type("holdfast check y.conf z.conf"), 0);
    assert_string_equal(run_config, "y.conf");
    assert_string_equal(run_other, "z.conf");
    assert_int_equal(type("holdfast check -- --odd"), 0);
    assert_string_equal(run_config, "--odd");
    assert_int_equal(type("holdfast status --config bad.conf"), CLI_FAILED);
    assert_int_equal(type("holdfast demo"), 9);
    assert_string_equal(run_config, "");
    assert_int_equal(type("holdfast demo --keep --remote --postgres --keep --remote"), 9);
    assert_string_equal(run_config, " --keep --remote --postgres");
}

static const char status_answer[] =
    "{\"ok\":true,\"status\":{\"array\":\"x\",\"controller\":\"a\",\"role\":\"solo\"}}\n";

static void status_asks_the_one_that_is_named(void **state)
{
    fake_start(1, status_answer);
    assert_int_equal(type("holdfast status --controller b --config c"), CLI_DONE);
    assert_string_equal(fake_stop(1), "{\"command\":\"status\"}\n");
    assert_int_equal(strncmp(out, "array x, controller a: solo\n", 28), 0);
    assert_string_equal(err, "");

    fake_start(0, status_answer);
    char line[256];
    snprintf(line, sizeof line, "holdfast status --json --socket %s", fakes[0].path);
    assert_int_equal(type(line), CLI_DONE);
    assert_string_equal(fake_stop(0), "{\"command\":\"status\"}\n");
    assert_string_equal(
        out, "{\n  \"array\": \"x\",\n  \"controller\": \"a\",\n  \"role\": \"solo\"\n}\n");
}

static void status_of_both_names_the_one_that_does_not_answer(void **state)
{
    fake_start(0, status_answer);
    assert_int_equal(type("holdfast status"), CLI_FAILED);
    assert_string_equal(fake_stop(0), "{\"command\":\"status\"}\n");
    assert_non_null(strstr(out, "controller a: solo"));
    assert_non_null(strstr(err, "controller b: no answer: "));
    assert_non_null(strstr(err, "/b: No such file or directory"));

    fake_start(0, status_answer);
    fake_start(1, status_answer);
    assert_int_equal(type("holdfast status"), CLI_DONE);
    fake_stop(0);
    fake_stop(1);
    assert_string_equal(err, "");

    fake_start(1, status_answer);
    assert_int_equal(type("holdfast status --json"), CLI_FAILED);
    fake_stop(1);
    assert_non_null(strstr(out, "\"a\": {\n    \"error\": \""));
    assert_non_null(strstr(out, "\"b\": {\n    \"array\": \"x\""));
}

static void move_goes_on_to_the_one_that_agrees(void **state)
{
    fake_start(0, "{\"ok\":false,\"text\":\"b owns it\"}\n");
    fake_start(1, "{\"ok\":true,\"text\":\"v moved to a\"}\n");
    assert_int_equal(type("holdfast volume move v a"), CLI_DONE);
    assert_string_equal(fake_stop(0), "{\"command\":\"move\",\"volume\":\"v\",\"to\":\"a\"}\n");
    assert_string_equal(fake_stop(1), "{\"command\":\"move\",\"volume\":\"v\",\"to\":\"a\"}\n");
    assert_string_equal(err, "controller a: refused: b owns it\n");
    assert_string_equal(out, "controller b: v moved to a\n");

    fake_start(0, "{\"ok\":true,\"text\":\"moved\"}\n");
    fake_start(1, status_answer);
    assert_int_equal(type("holdfast volume move v b"), CLI_DONE);
    fake_stop(0);
    assert_string_equal(fake_stop(1), "");

    fake_start(0, "{\"ok\":true,\"text\":\"moved\"}\n");
    fake_start(1, status_answer);
    assert_int_equal(type("holdfast volume move --controller a v b --config c"), CLI_DONE);
    fake_stop(0);
    assert_string_equal(fake_stop(1), "");
}

static void a_group_is_asked_for_where_somebody_answers(void **state)
{
    fake_start(0, "{\"ok\":false,\"text\":\"not here\"}\n");
    fake_start(1, "{\"ok\":true,\"text\":\"suspended\"}\n");
    assert_int_equal(type("holdfast group suspend db"), CLI_DONE);
    assert_string_equal(fake_stop(0),
                        "{\"command\":\"group\",\"group\":\"db\",\"action\":\"suspend\"}\n");
    assert_string_equal(fake_stop(1),
                        "{\"command\":\"group\",\"group\":\"db\",\"action\":\"suspend\"}\n");
    assert_string_equal(out, "controller b: suspended\n");
    fake_start(0, "{\"ok\":true,\"text\":\"resumed\"}\n");
    assert_int_equal(type("holdfast group resume db --controller a"), CLI_DONE);
    assert_string_equal(fake_stop(0),
                        "{\"command\":\"group\",\"group\":\"db\",\"action\":\"resume\"}\n");
}

static void force_is_said_when_it_was_given(void **state)
{
    static const struct {
        const char *line, *request;
    } rows[] = {
        {"holdfast group failover db --controller a",
         "{\"command\":\"group\",\"group\":\"db\",\"action\":\"failover\"}\n"},
        {"holdfast group failover db --force --controller a",
         "{\"command\":\"group\",\"group\":\"db\",\"action\":\"failover\",\"force\":true}\n"},
        {"holdfast group resume db --force --controller a",
         "{\"command\":\"group\",\"group\":\"db\",\"action\":\"resume\",\"force\":true}\n"},
        {"holdfast group reverse db --controller a",
         "{\"command\":\"group\",\"group\":\"db\",\"action\":\"reverse\"}\n"},
        {"holdfast group resync --force db --controller a",
         "{\"command\":\"group\",\"group\":\"db\",\"action\":\"resync\",\"force\":true}\n"},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        fake_start(0, "{\"ok\":true,\"text\":\"done\"}\n");
        assert_int_equal(type(rows[i].line), CLI_DONE);
        assert_string_equal(fake_stop(0), rows[i].request);
    }
}

static void a_status_of_groups_shows_only_them(void **state)
{
    static const char status[] =
        "{\"ok\":true,\"status\":{\"array\":\"first\",\"controller\":\"a\",\"groups\":["
        "{\"name\":\"db\",\"array\":\"far\",\"role\":\"primary\",\"condition\":\"consistent\"},"
        "{\"name\":\"web\",\"array\":\"far\",\"role\":\"primary\",\"condition\":\"suspended\"}]}}"
        "\n";
    fake_start(0, status);
    assert_int_equal(type("holdfast group status --controller a"), CLI_DONE);
    assert_string_equal(fake_stop(0), "{\"command\":\"status\"}\n");
    assert_non_null(strstr(out, "db, copied to array far: consistent"));
    assert_non_null(strstr(out, "web, copied to array far: suspended"));
    assert_null(strstr(out, "cache"));
    fake_start(0, status);
    assert_int_equal(type("holdfast group status web --controller a"), CLI_DONE);
    fake_stop(0);
    assert_null(strstr(out, "db,"));
    assert_non_null(strstr(out, "web,"));
    fake_start(0, status);
    assert_int_equal(type("holdfast group status web --json --controller a"), CLI_DONE);
    fake_stop(0);
    assert_int_equal(out[0], '[');
    assert_null(strstr(out, "\"db\""));
    fake_start(0, status);
    assert_int_equal(type("holdfast group status nothing --controller a"), CLI_FAILED);
    fake_stop(0);
    assert_string_equal(out, "");
    assert_string_equal(err, "controller a: there is no group nothing\n");
    fake_start(0, status);
    assert_int_equal(type("holdfast group status db --json"), CLI_FAILED); /* b does not answer */
    fake_stop(0);
    assert_non_null(strstr(out, "\"b\": {"));
    assert_non_null(strstr(out, "\"error\""));
}

static void stop_and_accept_loss_send_their_requests(void **state)
{
    fake_start(0, "{\"ok\":true,\"text\":\"stopped\"}\n");
    assert_int_equal(type("holdfast stop"), CLI_DONE); /* b does not run: nothing to stop there */
    assert_string_equal(fake_stop(0), "{\"command\":\"stop\"}\n");
    assert_int_equal(type("holdfast stop"), CLI_FAILED);
    assert_int_equal(type("holdfast stop --controller b"), CLI_FAILED);

    fake_start(1, "{\"ok\":false,\"text\":\"nothing was lost\"}\n");
    assert_int_equal(type("holdfast accept-loss --controller b"), CLI_FAILED);
    assert_string_equal(fake_stop(1), "{\"command\":\"accept-loss\",\"peer_is_dead\":false}\n");
    assert_string_equal(err, "controller b: refused: nothing was lost\n");

    fake_start(1, "{\"ok\":true,\"text\":\"serving\"}\n");
    assert_int_equal(type("holdfast accept-loss --peer-is-dead --controller b"), CLI_DONE);
    assert_string_equal(fake_stop(1), "{\"command\":\"accept-loss\",\"peer_is_dead\":true}\n");
}

static void an_answer_that_is_none_is_named(void **state)
{
    static const char *const answers[] = {"hello\n", "{\"ok\":7}\n", "[]\n", "{\"ok\":true}\n",
                                          NULL};
    static const char *const messages[] = {
        "the answer is not one of a controller", "the answer is not one of a controller",
        "the answer is not one of a controller", "the answer holds no status",
        "the controller closed the connection without an answer"};
    for (size_t i = 0; i < ARRAY_LENGTH(answers); i++) {
        fake_start(0, answers[i]);
        assert_int_equal(type("holdfast status --controller a"), CLI_FAILED);
        fake_stop(0);
        assert_non_null(strstr(err, messages[i]));
        assert_string_equal(out, "");
    }
    fake_start(0, "");
    assert_int_equal(type("holdfast status --controller a --timeout 1"), CLI_FAILED);
    fake_stop(0);
    assert_non_null(strstr(err, "controller a: no answer: no answer within the time given"));
}

static int group_setup(void **state)
{
    if (!mkdtemp(directory))
        return -1;
    for (int i = 0; i < 2; i++)
        snprintf(fakes[i].path, CLI_SOCKET_SIZE, "%s/%c", directory, 'a' + i);
    return 0;
}

static int group_teardown(void **state)
{
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_command_has_help_and_exits_well),
        cmocka_unit_test(no_line_of_a_help_is_wider_than_a_terminal),
        cmocka_unit_test(help_of_volume_is_that_of_its_command),
        cmocka_unit_test(words_that_make_no_sense_are_refused),
        cmocka_unit_test(run_and_check_get_their_words),
        cmocka_unit_test(status_asks_the_one_that_is_named),
        cmocka_unit_test(status_of_both_names_the_one_that_does_not_answer),
        cmocka_unit_test(move_goes_on_to_the_one_that_agrees),
        cmocka_unit_test(a_group_is_asked_for_where_somebody_answers),
        cmocka_unit_test(force_is_said_when_it_was_given),
        cmocka_unit_test(a_status_of_groups_shows_only_them),
        cmocka_unit_test(stop_and_accept_loss_send_their_requests),
        cmocka_unit_test(an_answer_that_is_none_is_named),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
