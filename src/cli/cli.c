/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The commands: their words, their help, and what each asks of a controller. A command is a row of
 * a table; the row says which options and how many names it takes, so that nothing else is
 * accepted. Answers go to stdout, what went wrong to stderr. */

#include "cli/cli.h"
#include "cli/client.h"
#include "cli/failover.h"
#include "cli/show.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPTION_CONFIG = 1,
    OPTION_CONTROLLER = 2,
    OPTION_SOCKET = 4,
    OPTION_JSON = 8,
    OPTION_PEER_IS_DEAD = 16,
    OPTION_TIMEOUT = 32,
    OPTION_FORCE = 64,
    OPTION_CONFIGS = 128, /* more than one --config */
    OPTION_REMOTE = 1024, /* of the demonstration */
    OPTION_POSTGRES = 2048,
    OPTION_KEEP = 4096,
    OPTIONS_ASK = OPTION_CONFIG | OPTION_CONTROLLER | OPTION_SOCKET | OPTION_TIMEOUT,
};

enum { DEMO_WORDS = 4 }; /* with the NULL */
enum { NAME_LIMIT = CLI_FILE_LIMIT, TIMEOUT_LIMIT_S = 86400 };

/* One call, taken apart. */
struct call {
    const struct command *command;
    const struct cli_hooks *hooks;
    const char *config; /* the last one named */
    uint32_t config_count;
    const char *configs[CLI_FILE_LIMIT]; /* all that were named */
    int controller;                      /* -1: none named */
    const char *socket;                  /* NULL: by the configuration */
    bool json;
    bool peer_is_dead;
    bool force;
    uint32_t demo_count;
    const char *demo[DEMO_WORDS]; /* the options of the demonstration, as they stand */
    uint32_t timeout_ms;
    uint32_t name_count;
    const char *names[NAME_LIMIT];
};

struct command {
    const char *words; /* "volume move" */
    const char *names; /* for the usage line */
    uint32_t name_min, name_max;
    unsigned options; /* OPTION_* */
    uint32_t timeout_s;
    const char *line; /* for the list of commands */
    const char *help;
    int (*run)(const struct call *call);
};

static int run_run(const struct call *call);
static int run_check(const struct call *call);
static int run_status(const struct call *call);
static int run_move(const struct call *call);
static int run_stop(const struct call *call);
static int run_accept_loss(const struct call *call);
static int run_group(const struct call *call);
static int run_failover(const struct call *call);
static int run_group_status(const struct call *call);
static int run_demo(const struct call *call);

static const struct command commands[] = {
    {"run", "", 0, 0, OPTION_CONFIG | OPTION_CONTROLLER, 0, "be one controller, in the foreground",
     "Becomes controller a or b and serves until it is stopped. It logs to stderr and tells "
     "systemd\n"
     "when it is ready. SIGTERM stops it cleanly: its volumes go to the other controller, or\n"
     "everything is destaged. A second SIGTERM ends it now; the other controller takes over.\n",
     run_run},
    {"check", "[FILE...]", 0, CLI_FILE_LIMIT, OPTION_CONFIG, 0, "check a configuration",
     "Reads the configuration and names every mistake in it with its line and what would be "
     "right.\n"
     "With the files of other arrays as well it compares the groups that are copied between them:\n"
     "roles, volumes and their sizes, secrets, and the sets of groups that are cut together.\n",
     run_check},
    {"status", "", 0, 0, OPTIONS_ASK | OPTION_JSON, 5, "show what a controller is doing, and why",
     "Without --controller it shows both. It ends with 1 when one of those asked did not answer.\n",
     run_status},
    {"volume move", "NAME a|b", 2, 2, OPTIONS_ASK, 120, "hand a volume over to a controller",
     "Moves a volume while hosts use it: the owner destages it, holds its hosts for a few\n"
     "milliseconds, and the other controller serves it. Returns when it has moved, or says why "
     "not.\n"
     "Without --controller the controllers are asked in turn.\n",
     run_move},
    {"stop", "", 0, 0, OPTIONS_ASK, 600, "stop cleanly",
     "Hands the volumes over to the other controller where it can, else destages everything, and\n"
     "ends the controller. Without --controller it stops both: a, then b.\n",
     run_stop},
    {"accept-loss", "", 0, 0, OPTIONS_ASK | OPTION_PEER_IS_DEAD, 60,
     "serve again although writes were lost",
     "After both controllers died with writes that were on no store, the volumes stay offline;\n"
     "`status` says what is missing. This command accepts that loss: the volumes are served as "
     "the\n"
     "stores hold them.\n"
     "\n"
     "--peer-is-dead says that the other controller cannot be reached and certainly does not run\n"
     "any more. If it does run, both would write to the stores, and data is destroyed.\n",
     run_accept_loss},
    {"group status", "[NAME]", 0, 1, OPTIONS_ASK | OPTION_JSON, 5,
     "show groups that are copied to or from another array",
     "For each group, or the one named: its role here, its condition and why, how far the copy is\n"
     "behind, and when it last was a state of the first site. It works at both arrays.\n",
     run_group_status},
    {"group suspend", "NAME", 1, 1, OPTIONS_ASK, 10, "stop copying a group to the other array",
     "What hosts write is only noted from now on; when the group is resumed, what differs is\n"
     "sent. The other array keeps the last state that it has. `status` shows every group.\n",
     run_group},
    {"group resume", "NAME", 1, 1, OPTIONS_ASK | OPTION_FORCE, 10, "copy a suspended group again",
     "Copies what has changed since the group was suspended, then goes on in cycles.\n"
     "\n"
     "--force is for a controller that does not know whether the group was failed over while it\n"
     "was out (`status` says so), when the one that knows is lost: it says that it was not. If it\n"
     "was, what hosts wrote at the other site since is thrown away.\n",
     run_group},
    {"group failover", "NAME", 1, 1, OPTIONS_ASK | OPTION_FORCE | OPTION_CONFIGS, 120,
     "serve the copy: the other site is lost",
     "At the array that holds the copy: from now on hosts use it here. It shows the newest state "
     "of\n"
     "the other site that came whole; the answer says which, and of what time. What the other "
     "site\n"
     "acknowledged after that is not here.\n"
     "\n"
     "While the other array is heard it needs --force: both sites may then serve hosts until the\n"
     "other one hears of it. Suspend the group there first, and stop its hosts.\n"
     "\n"
     "NAME may be a set, with a --config for each array that holds copies of it: all of them go "
     "to\n"
     "one cut, the newest that any has. When one is not there or cannot, nothing is done; --force\n"
     "does it for the others, and says what that gives up.\n",
     run_failover},
    {"group reverse", "NAME", 1, 1, OPTIONS_ASK, 120, "copy back after a failover",
     "At the array that was failed over, once the other site is there again: what differs is "
     "copied\n"
     "to it, and it holds the copy from then on. Nothing else is copied.\n",
     run_group},
    {"group resync", "NAME", 1, 1, OPTIONS_ASK | OPTION_FORCE, 10, "send again what may differ",
     "At the array that is copied: what is marked as different is sent anew. With --force all of "
     "it\n"
     "is, as in the initial copy.\n",
     run_group},
    {"demo", "", 0, 0, OPTION_REMOTE | OPTION_POSTGRES | OPTION_KEEP, 0,
     "see on this machine what it is for",
     "Starts controllers of its own on loopback addresses, in temporary directories, and kills "
     "one\n"
     "of them under load: nothing is lost. It tells what happens, and ends with 1 when anything\n"
     "was lost after all.\n",
     run_demo},
};

/* ---- help ---- */

static void print_help(const struct command *command)
{
    int first = printf("usage: holdfast %s%s%s", command->words, *command->names ? " " : "",
                       command->names);
    int column = first;
    static const struct {
        unsigned option;
        const char *usage;
        const char *help;
    } options[] = {
        {OPTION_CONFIG, "[--config FILE]",
         "--config FILE       the configuration; else " CLI_CONFIG_PATH},
        {OPTION_CONTROLLER, "[--controller a|b]", "--controller a|b    which controller"},
        {OPTION_SOCKET, "[--socket PATH]",
         "--socket PATH       its control socket; no configuration is read"},
        {OPTION_TIMEOUT, "[--timeout SECONDS]",
         "--timeout SECONDS   how long to wait for an answer"},
        {OPTION_JSON, "[--json]",
         "--json              for programs; docs/status-json.md names the keys"},
        {OPTION_PEER_IS_DEAD, "[--peer-is-dead]",
         "--peer-is-dead      the other controller does not run any more"},
        {OPTION_FORCE, "[--force]", "--force             see above"},
        {OPTION_REMOTE, "[--remote]",
         "--remote            two arrays: one is destroyed, the other has a state that it had"},
        {OPTION_POSTGRES, "[--postgres]",
         "--postgres          the same with PostgreSQL on two of the volumes; needs root"},
        {OPTION_KEEP, "[--keep]", "--keep              leave the directories for a look"},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(options); i++)
        if (command->options & options[i].option) {
            if (column + 1 + (int)strlen(options[i].usage) > SHOW_COLUMNS)
                column = printf("\n%*s", first, "") - 1;
            column += printf(" %s", options[i].usage);
        }
    printf("\n\n%s\n", command->help);
    for (size_t i = 0; i < ARRAY_LENGTH(options); i++)
        if (command->options & options[i].option)
            printf("  %s\n", options[i].help);
    printf("  --help              this text\n");
}

static void print_overview(void)
{
    printf("usage: holdfast COMMAND ...\n\n"
           "Two controllers, one mirrored write-back cache in front of the stores that both "
           "reach.\n\n");
    for (size_t i = 0; i < ARRAY_LENGTH(commands); i++)
        printf("  %-14s %s\n", commands[i].words, commands[i].line);
    printf("\n`holdfast COMMAND --help` explains one; the manual is holdfast(1) and "
           "holdfast.conf(5).\n");
}

/* ---- words ---- */

static int usage(const struct command *command, const char *what, const char *word)
{
    fprintf(stderr, "holdfast%s%s: %s%s%s\n", command ? " " : "", command ? command->words : "",
            what, word ? ": " : "", word ? word : "");
    fprintf(stderr, "`holdfast%s%s --help` shows how.\n", command ? " " : "",
            command ? command->words : "");
    return CLI_USAGE;
}

/* The command whose words begin at argv[1]; *used gets how many they are. NULL: none. */
static const struct command *find_command(int argc, char **argv, int *used)
{
    for (size_t i = 0; i < ARRAY_LENGTH(commands); i++) {
        const char *space = strchr(commands[i].words, ' ');
        size_t first = space ? (size_t)(space - commands[i].words) : strlen(commands[i].words);
        if (strlen(argv[1]) != first || strncmp(argv[1], commands[i].words, first) != 0)
            continue;
        *used = space ? 2 : 1;
        if (!space || (argc > 2 && strcmp(argv[2], space + 1) == 0))
            return &commands[i];
    }
    return NULL;
}

static const struct option {
    const char *name;
    unsigned bit;
    bool takes_value;
} options[] = {
    {"--config", OPTION_CONFIG, true},      {"--controller", OPTION_CONTROLLER, true},
    {"--socket", OPTION_SOCKET, true},      {"--timeout", OPTION_TIMEOUT, true},
    {"--json", OPTION_JSON, false},         {"--peer-is-dead", OPTION_PEER_IS_DEAD, false},
    {"--force", OPTION_FORCE, false},       {"--remote", OPTION_REMOTE, false},
    {"--postgres", OPTION_POSTGRES, false}, {"--keep", OPTION_KEEP, false},
};

/* Takes the option; an exit status when its value makes no sense, else CLI_DONE. */
static int take_option(struct call *call, const struct option *option, const char *value)
{
    switch (option->bit) {
    case OPTION_CONFIG:
        if (call->config_count == CLI_FILE_LIMIT ||
            (call->config_count > 0 && !(call->command->options & OPTION_CONFIGS)))
            return usage(call->command, "too many files with --config", value);
        call->config = call->configs[call->config_count++] = value;
        break;
    case OPTION_CONTROLLER:
        if (strcmp(value, "a") != 0 && strcmp(value, "b") != 0)
            return usage(call->command, "--controller is a or b, not", value);
        call->controller = value[0] - 'a';
        break;
    case OPTION_SOCKET:
        call->socket = value;
        break;
    case OPTION_TIMEOUT: {
        char *end;
        long seconds = strtol(value, &end, 10);
        if (*value == '\0' || *end != '\0' || seconds < 1 || seconds > TIMEOUT_LIMIT_S)
            return usage(call->command, "--timeout is 1 to 86400 seconds, not", value);
        call->timeout_ms = (uint32_t)seconds * 1000;
        break;
    }
    case OPTION_JSON:
        call->json = true;
        break;
    case OPTION_PEER_IS_DEAD:
        call->peer_is_dead = true;
        break;
    case OPTION_FORCE:
        call->force = true;
        break;
    case OPTION_REMOTE:
    case OPTION_POSTGRES:
    case OPTION_KEEP:
        for (uint32_t i = 0; i < call->demo_count; i++)
            if (strcmp(call->demo[i], option->name) == 0)
                return CLI_DONE;
        CHECK(call->demo_count + 1 < DEMO_WORDS);
        call->demo[call->demo_count++] = option->name;
        break;
    default:
        CHECK(false);
    }
    return CLI_DONE;
}

/* One word that begins with "--"; *at moves on when its value is the next word. */
static int parse_option(struct call *call, int argc, char **argv, int *at)
{
    const char *word = argv[*at];
    size_t length = strcspn(word, "=");
    for (size_t i = 0; i < ARRAY_LENGTH(options); i++) {
        const struct option *option = &options[i];
        if (strlen(option->name) != length || memcmp(option->name, word, length) != 0)
            continue;
        if (!(call->command->options & option->bit))
            return usage(call->command, "does not take", option->name);
        if (!option->takes_value)
            return word[length] ? usage(call->command, "takes no value", option->name)
                                : take_option(call, option, NULL);
        if (word[length])
            return take_option(call, option, word + length + 1);
        if (*at + 1 >= argc)
            return usage(call->command, "needs a value", option->name);
        return take_option(call, option, argv[++*at]);
    }
    return usage(call->command, "no such option", word);
}

/* Everything behind the command's words. *help: it asks for the help and nothing else matters. */
static int parse_rest(struct call *call, int argc, char **argv, int at, bool *help)
{
    bool options_over = false;
    for (; at < argc; at++) {
        const char *word = argv[at];
        if (!options_over && strcmp(word, "--") == 0) {
            options_over = true;
        } else if (!options_over && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)) {
            *help = true;
            return CLI_DONE;
        } else if (!options_over && word[0] == '-') {
            int status = parse_option(call, argc, argv, &at);
            if (status != CLI_DONE)
                return status;
        } else if (call->name_count == call->command->name_max) {
            return usage(call->command, "one word too many", word);
        } else {
            call->names[call->name_count++] = word;
        }
    }
    if (call->name_count < call->command->name_min)
        return usage(call->command, "more words are needed", call->command->names);
    return CLI_DONE;
}

int cli_main(int argc, char **argv, const struct cli_hooks *hooks)
{
    if (argc < 2) {
        print_overview();
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_overview();
        return CLI_DONE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("holdfast %s\n", hooks->version);
        return CLI_DONE;
    }
    int used = 0;
    char move_word[] = "move"; /* the only command of `volume`: its help is the help of `volume` */
    struct call call = {.hooks = hooks, .config = CLI_CONFIG_PATH, .controller = -1};
    call.command = find_command(argc, argv, &used);
    if (!call.command && strcmp(argv[1], "volume") == 0 && argc > 2 &&
        (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0)) {
        print_help(find_command(3, (char *[]){argv[0], argv[1], move_word}, &used));
        return CLI_DONE;
    }
    if (!call.command && strcmp(argv[1], "volume") == 0)
        return usage(NULL, "volume has one command", "volume move NAME a|b");
    if (!call.command && strcmp(argv[1], "group") == 0)
        return usage(NULL, "group has six commands",
                     "group status, suspend, resume, failover, reverse, resync");
    if (!call.command)
        return usage(NULL, "no such command", argv[1]);
    call.timeout_ms = call.command->timeout_s * 1000;
    bool help = false;
    int status = parse_rest(&call, argc, argv, used + 1, &help);
    if (help) {
        print_help(call.command);
        return CLI_DONE;
    }
    return status == CLI_DONE ? call.command->run(&call) : status;
}

/* ---- asking ---- */

/* Whom a call asks. */
struct targets {
    uint32_t count;
    int controller[CLI_CONTROLLERS]; /* -1: not known, by its socket */
    char socket[CLI_CONTROLLERS][CLI_SOCKET_SIZE];
};

static int find_targets(const struct call *call, struct targets *targets)
{
    if (call->socket) {
        targets->count = 1;
        targets->controller[0] = call->controller;
        if (strlen(call->socket) >= CLI_SOCKET_SIZE)
            return usage(call->command, "longer than a socket's path can be", call->socket);
        snprintf(targets->socket[0], CLI_SOCKET_SIZE, "%s", call->socket);
        return CLI_DONE;
    }
    char sockets[CLI_CONTROLLERS][CLI_SOCKET_SIZE];
    if (!call->hooks->sockets(call->config, sockets))
        return CLI_FAILED;
    targets->count = 0;
    for (int i = 0; i < CLI_CONTROLLERS; i++) {
        if (call->controller >= 0 && call->controller != i)
            continue;
        targets->controller[targets->count] = i;
        memcpy(targets->socket[targets->count], sockets[i], CLI_SOCKET_SIZE);
        targets->count++;
    }
    return CLI_DONE;
}

/* "controller a", or the socket. */
static const char *target_name(const struct targets *targets, uint32_t index)
{
    static const char *const names[] = {"controller a", "controller b"};
    int controller = targets->controller[index];
    return controller < 0 ? targets->socket[index] : names[controller];
}

/* Asks target `index` and prints its answer. CLI_DONE when it is "ok"; *reached tells whether it
 * answered at all. */
static int ask_and_print(const struct call *call, const struct targets *targets, uint32_t index,
                         json_t *request, bool *reached)
{
    char why[TRACE_LINE];
    json_t *reply = client_request(targets->socket[index], request, call->timeout_ms, why);
    *reached = reply != NULL;
    if (!reply) {
        fprintf(stderr, "%s: not reached: %s\n", target_name(targets, index), why);
        return CLI_FAILED;
    }
    bool ok = json_is_true(json_object_get(reply, "ok"));
    const char *text = json_string_value(json_object_get(reply, "text"));
    fprintf(ok ? stdout : stderr, "%s: %s%s\n", target_name(targets, index),
            ok ? "" : "refused: ", text ? text : "done");
    json_decref(reply);
    return ok ? CLI_DONE : CLI_FAILED;
}

/* ---- the commands ---- */

static int run_run(const struct call *call)
{
    if (call->controller < 0)
        return usage(call->command, "which controller is it? Needs",
                     "--controller a or --controller b");
    return call->hooks->run(call->config, call->controller);
}

static int run_check(const struct call *call)
{
    return call->name_count > 0 ? call->hooks->check(call->names, call->name_count)
                                : call->hooks->check(&call->config, 1);
}

/* The status object of one target; takes no reference away from the reply that it is part of. */
static json_t *ask_status(const struct call *call, const char *path, char why[TRACE_LINE])
{
    return client_status(path, call->timeout_ms, why);
}

static void print_json(const json_t *value)
{
    json_dumpf(value, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
    putchar('\n');
}

static int run_status(const struct call *call)
{
    struct targets targets;
    int found = find_targets(call, &targets);
    if (found != CLI_DONE)
        return found;
    int result = CLI_DONE;
    json_t *both = json_object();
    for (uint32_t i = 0; i < targets.count; i++) {
        char why[TRACE_LINE] = "";
        json_t *status = ask_status(call, targets.socket[i], why);
        if (!status)
            result = CLI_FAILED;
        if (call->json && targets.count > 1) {
            static const char *const keys[] = {"a", "b"};
            json_object_set_new(both, keys[targets.controller[i]],
                                status ? json_incref(status) : json_pack("{ss}", "error", why));
        } else if (call->json && status) {
            print_json(status);
        } else if (!call->json && status) {
            if (i > 0)
                putchar('\n');
            show_status(stdout, status);
        }
        if (!status) {
            fflush(stdout);
            fprintf(stderr, "%s%s: no answer: %s\n", !call->json && i > 0 ? "\n" : "",
                    target_name(&targets, i), why);
        }
        json_decref(status);
    }
    if (call->json && targets.count > 1)
        print_json(both);
    json_decref(both);
    return result;
}

/* Asks one controller after the other until one agrees: either finds out which of them it concerns.
 * NULL for a request: what the user named cannot be a name. Takes the request. */
static int ask_either(const struct call *call, json_t *request)
{
    struct targets targets;
    int result = CLI_FAILED;
    if (!request)
        return usage(call->command, "not a name", call->names[0]);
    int found = find_targets(call, &targets);
    for (uint32_t i = 0; found == CLI_DONE && i < targets.count && result != CLI_DONE; i++) {
        bool reached;
        result = ask_and_print(call, &targets, i, json_incref(request), &reached);
    }
    json_decref(request);
    return found == CLI_DONE ? result : found;
}

static int run_move(const struct call *call)
{
    const char *to = call->names[1];
    if (strcmp(to, "a") != 0 && strcmp(to, "b") != 0)
        return usage(call->command, "a volume moves to a or b, not to", to);
    return ask_either(call,
                      json_pack("{ssssss}", "command", "move", "volume", call->names[0], "to", to));
}

static int run_stop(const struct call *call)
{
    struct targets targets;
    int result = find_targets(call, &targets);
    if (result != CLI_DONE)
        return result;
    uint32_t stopped = 0;
    for (uint32_t i = 0; i < targets.count; i++) {
        bool reached;
        int one = ask_and_print(call, &targets, i, json_pack("{ss}", "command", "stop"), &reached);
        if (one == CLI_DONE)
            stopped++;
        else if (reached || targets.count == 1)
            result = CLI_FAILED;
    }
    /* One that does not run needs no stop; but if neither does, nothing was done. */
    return stopped > 0 ? result : CLI_FAILED;
}

static int run_accept_loss(const struct call *call)
{
    struct targets targets;
    int result = find_targets(call, &targets);
    if (result != CLI_DONE)
        return result;
    if (targets.count != 1)
        return usage(call->command, "which controller shall serve? Needs",
                     "--controller a or --controller b");
    bool reached;
    json_t *request =
        json_pack("{sssb}", "command", "accept-loss", "peer_is_dead", (int)call->peer_is_dead);
    return ask_and_print(call, &targets, 0, request, &reached);
}

static int run_group(const struct call *call)
{
    const char *action = strchr(call->command->words, ' ') + 1;
    json_t *request =
        json_pack("{ssssss}", "command", "group", "group", call->names[0], "action", action);
    if (request && call->force)
        json_object_set_new(request, "force", json_true());
    return ask_either(call, request);
}

/* A set when one of the arrays has it, else a group. */
static int run_failover(const struct call *call)
{
    static struct failover_array arrays[CLI_FILE_LIMIT];
    uint32_t count = call->config_count > 0 ? call->config_count : 1;
    bool found = false;
    if (call->socket)
        return run_group(call);
    for (uint32_t i = 0; i < count; i++) {
        arrays[i].config = call->config_count > 0 ? call->configs[i] : call->config;
        if (!call->hooks->sockets(arrays[i].config, arrays[i].sockets))
            return CLI_FAILED;
    }
    int result = failover_set(call->names[0], arrays, count, call->force, call->timeout_ms, &found);
    if (found)
        return result;
    if (count == 1)
        return run_group(call);
    fprintf(stderr, "no controller that answers has a set %s\n", call->names[0]);
    return CLI_FAILED;
}

/* Takes what is not a group of that name away; false when nothing is left of several. */
static bool only_group(const json_t *status, const char *name)
{
    json_t *groups = json_object_get(status, "groups");
    for (size_t i = json_array_size(groups); name && i-- > 0;) {
        const char *one = json_string_value(json_object_get(json_array_get(groups, i), "name"));
        if (!one || strcmp(one, name) != 0)
            json_array_remove(groups, i);
    }
    return json_array_size(groups) > 0;
}

static int show_groups_of(const struct call *call, const struct targets *targets, uint32_t index,
                          json_t *all)
{
    static const char *const keys[] = {"a", "b"};
    char why[TRACE_LINE] = "";
    const char *name = call->name_count > 0 ? call->names[0] : NULL;
    json_t *status = ask_status(call, targets->socket[index], why);
    bool found = status && only_group(status, name);
    int result = found || (status && !name) ? CLI_DONE : CLI_FAILED;
    if (status && !found && name)
        snprintf(why, sizeof why, "there is no group %.60s", name);
    if (!status || (!found && name))
        fprintf(stderr, "%s: %s%s\n", target_name(targets, index),
                status ? "" : "no answer: ", why);
    else if (!call->json)
        show_groups(stdout, status);
    if (call->json) {
        json_t *shown = status ? json_incref(json_object_get(status, "groups"))
                               : json_pack("{ss}", "error", why);
        int controller = targets->controller[index];
        if (targets->count > 1)
            json_object_set_new(all, keys[controller], shown ? shown : json_array());
        else {
            print_json(shown);
            json_decref(shown);
        }
    }
    json_decref(status);
    return result;
}

static int run_group_status(const struct call *call)
{
    struct targets targets;
    int result = find_targets(call, &targets);
    if (result != CLI_DONE)
        return result;
    json_t *all = json_object();
    for (uint32_t i = 0; i < targets.count; i++) {
        int one = show_groups_of(call, &targets, i, all);
        fflush(stdout);
        if (one != CLI_DONE)
            result = one;
    }
    if (call->json && targets.count > 1)
        print_json(all);
    json_decref(all);
    return result;
}

static int run_demo(const struct call *call)
{
    return call->hooks->demo(call->demo);
}
