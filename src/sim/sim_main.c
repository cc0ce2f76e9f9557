/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* holdfast-sim: runs the simulated world for one seed or many, prints what was drawn and what was
 * found. Exit status 0: nothing; 1: the oracle's sentence was printed, with the seed; 2: wrong
 * usage. */

#include "sim/mistakes.h"
#include "sim/shrink.h"
#include "sim/world.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct arguments {
    struct world_options options;
    uint64_t seeds;
    uint64_t limit_s;
    bool quiet;
    bool first; /* stop at the first failure */
    bool shrink;
    const char *replay; /* a file */
    const char *record; /* a file */
};

static void usage(FILE *to)
{
    fprintf(
        to,
        "usage: holdfast-sim --seed N [--seeds COUNT] [--steps N] [--trace] [--core-trace] "
        "[--quiet]\n"
        "                    [--check-every N] [--without KIND[,KIND...]] [--seconds N]\n"
        "  --seed N         the first seed; fresh: one that nobody has tried, and it is printed\n"
        "  --seeds COUNT    how many seeds, one after the other (1)\n"
        "  --steps N        host requests of a seed that end well until its faults stop (3000)\n"
        "  --phase N        or until N seconds of virtual time have passed (60)\n"
        "  --trace          print everything that happens\n"
        "  --core-trace     and what the core says about every header, batch and slot\n"
        "  --quiet          print the drawn choices only of a seed that fails\n"
        "  --check-every N  array_check() after every N pumps (drawn)\n"
        "  --without KIND   leave out a kind of fault:");
    for (int kind = 0; kind < FAULT_COUNT; kind++)
        fprintf(to, " %s", fault_name[kind]);
    fprintf(to,
            "\n  --seconds N      start no further seed after this long\n"
            "  --scripted       the fixed run of the fault tests instead of drawn faults; then\n"
            "  --fail-store N, --fail-message N, --fail-status N, --fail-register N\n"
            "                   the Nth of its kind fails\n"
            "  --groups WHEN    a second array with a copy: off, auto (one seed in three), on,\n"
            "                   close: and looked at closely (off)\n"
            "  --sets WHEN      two primary arrays whose groups are one set: off, on (off)\n"
            "  --first          stop at the first seed that fails\n"
            "  --shrink         make the failing seed small and print it as a listing\n"
            "  --record FILE    write the run of one seed down as a listing\n"
            "  --replay FILE    play a listing\n"
            "  --mistake NAME   the core makes this mistake (a build with -Dmistakes=true)\n"
            "  --list-mistakes  all of them, with what is done wrong\n");
}

static bool parse_kinds(const char *text, uint32_t *kinds)
{
    while (*text) {
        size_t length = strcspn(text, ",");
        int kind = 0;
        while (kind < FAULT_COUNT &&
               (strlen(fault_name[kind]) != length || strncmp(fault_name[kind], text, length) != 0))
            kind++;
        if (kind == FAULT_COUNT)
            return false;
        *kinds |= 1u << kind;
        text += length + (text[length] == ',');
    }
    return true;
}

static bool parse_groups(const char *text, enum groups_wish *wish)
{
    static const char *const names[] = {"off", "auto", "on", "close"};
    for (int i = 0; i < 4; i++)
        if (strcmp(text, names[i]) == 0) {
            *wish = (enum groups_wish)i;
            return true;
        }
    return false;
}

static bool parse(int argc, char **argv, struct arguments *arguments)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},
        {"seeds", required_argument, NULL, 'n'},
        {"steps", required_argument, NULL, 'p'},
        {"trace", no_argument, NULL, 't'},
        {"core-trace", no_argument, NULL, 'T'},
        {"quiet", no_argument, NULL, 'q'},
        {"without", required_argument, NULL, 'w'},
        {"check-every", required_argument, NULL, 'c'},
        {"seconds", required_argument, NULL, 'S'},
        {"help", no_argument, NULL, 'h'},
        {"scripted", no_argument, NULL, 'F'},
        {"fail-store", required_argument, NULL, '1'},
        {"fail-message", required_argument, NULL, '2'},
        {"fail-status", required_argument, NULL, '3'},
        {"fail-register", required_argument, NULL, '4'},
        {"first", no_argument, NULL, 'f'},
        {"phase", required_argument, NULL, 'P'},
        {"shrink", no_argument, NULL, 'k'},
        {"replay", required_argument, NULL, 'r'},
        {"record", required_argument, NULL, 'R'},
        {"mistake", required_argument, NULL, 'm'},
        {"list-mistakes", no_argument, NULL, 'M'},
        {"groups", required_argument, NULL, 'g'},
        {"sets", required_argument, NULL, 'e'},
        {NULL, 0, NULL, 0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 's':
            if (strcmp(optarg, "fresh") == 0) {
                arguments->options.seed =
                    ((uint64_t)time(NULL) << 20) + (uint64_t)getpid() % 1024 * 1024;
                printf("fresh seeds from %" PRIu64 "\n", arguments->options.seed);
            } else {
                arguments->options.seed = strtoull(optarg, NULL, 0);
            }
            break;
        case 'n':
            arguments->seeds = strtoull(optarg, NULL, 0);
            break;
        case 'p':
            arguments->options.steps = strtoull(optarg, NULL, 0);
            break;
        case 'T':
            arguments->options.core_trace = true;
            arguments->options.trace = true;
            break;
        case 't':
            arguments->options.trace = true;
            break;
        case 'q':
            arguments->quiet = true;
            break;
        case 'c':
            arguments->options.check_every = (uint32_t)strtoul(optarg, NULL, 0);
            break;
        case 'S':
            arguments->limit_s = strtoull(optarg, NULL, 0);
            break;
        case 'w':
            if (!parse_kinds(optarg, &arguments->options.without)) {
                fprintf(stderr, "holdfast-sim: no such kind of fault in '%s'\n", optarg);
                return false;
            }
            break;
        case 'F':
            arguments->options.scripted = true;
            break;
        case '1':
            arguments->options.fail_store = strtoull(optarg, NULL, 0);
            break;
        case '2':
            arguments->options.fail_message = strtoull(optarg, NULL, 0);
            break;
        case '3':
            arguments->options.fail_status = strtoull(optarg, NULL, 0);
            break;
        case '4':
            arguments->options.fail_register = strtoull(optarg, NULL, 0);
            break;
        case 'f':
            arguments->first = true;
            break;
        case 'P':
            arguments->options.phase_us = strtoull(optarg, NULL, 0) * 1000000;
            break;
        case 'k':
            arguments->shrink = true;
            break;
        case 'r':
            arguments->replay = optarg;
            break;
        case 'R':
            arguments->record = optarg;
            break;
        case 'm': {
            const char *wrong = mistakes_make(optarg);
            if (wrong) {
                fprintf(stderr, "holdfast-sim: --mistake %s: %s\n", optarg, wrong);
                return false;
            }
            break;
        }
        case 'e':
            arguments->options.sets = strcmp(optarg, "on") == 0;
            if (!arguments->options.sets && strcmp(optarg, "off") != 0)
                return false;
            break;
        case 'g':
            if (!parse_groups(optarg, &arguments->options.groups)) {
                fprintf(stderr, "holdfast-sim: --groups is auto, on, close or off\n");
                return false;
            }
            break;
        case 'M':
            mistakes_print(stdout);
            exit(0);
        case 'h':
            usage(stdout);
            exit(0);
        default:
            usage(stderr);
            return false;
        }
    }
    return optind == argc;
}

static void print_counts(const struct statistics *count)
{
    printf("%" PRIu64 " requests (%" PRIu64 " completed, %" PRIu64
           " refused or unanswered), %" PRIu64 " store operations, %" PRIu64 " messages, %" PRIu64
           " register operations, %" PRIu64 " events\n",
           count->requests, count->completed, count->refused, count->store_operations,
           count->messages, count->register_operations, count->events);
    printf("%" PRIu64 " times served alone, %" PRIu64 " clean stops, %" PRIu64
           " losses accepted; faults:",
           count->takeovers, count->stops, count->losses);
    for (int kind = 0; kind < FAULT_COUNT; kind++)
        if (count->faults[kind] > 0)
            printf(" %s %" PRIu64, fault_name[kind], count->faults[kind]);
    putchar('\n');
    if (count->group_seeds > 0)
        printf("%" PRIu64 " seeds with groups: %" PRIu64 " requests completed, %" PRIu64
               " batches (%" PRIu64 " good, %" PRIu64 " refused), %" PRIu64 " promotions, %" PRIu64
               " of them consistent, %" PRIu64 " failovers\n",
               count->group_seeds, count->group_requests, count->batches, count->replies[1],
               count->replies[0], count->cuts, count->consistent, count->failovers);
}

static void print_sets(const struct statistics *count)
{
    printf("sets: %" PRIu64 " messages about cuts (%" PRIu64 " good, %" PRIu64 " refused), %" PRIu64
           " times all copies were one cut, %" PRIu64 " failovers to one cut, %" PRIu64
           " by force; longest hold %" PRIu64 " us\n",
           count->calls, count->cut_replies[1], count->cut_replies[0], count->common_cuts,
           count->common_failovers, count->forced_failovers, count->hold_longest_us);
}

static void add_counts(struct statistics *sum, const struct statistics *one)
{
    sum->requests += one->requests;
    sum->completed += one->completed;
    sum->refused += one->refused;
    sum->store_operations += one->store_operations;
    sum->messages += one->messages;
    sum->register_operations += one->register_operations;
    sum->events += one->events;
    sum->takeovers += one->takeovers;
    sum->stops += one->stops;
    sum->losses += one->losses;
    sum->batches += one->batches;
    sum->replies[0] += one->replies[0];
    sum->replies[1] += one->replies[1];
    sum->cuts += one->cuts;
    sum->consistent += one->consistent;
    sum->failovers += one->failovers;
    sum->calls += one->calls;
    sum->cut_replies[0] += one->cut_replies[0];
    sum->cut_replies[1] += one->cut_replies[1];
    sum->common_cuts += one->common_cuts;
    sum->common_failovers += one->common_failovers;
    sum->forced_failovers += one->forced_failovers;
    sum->hold_longest_us = max_u64(sum->hold_longest_us, one->hold_longest_us);
    for (int kind = 0; kind < FAULT_COUNT; kind++)
        sum->faults[kind] += one->faults[kind];
    for (int op = 0; op < HOST_OP_COUNT; op++)
        sum->done[op] += one->done[op];
}

/* For tools/soak: everything that was counted, as names and numbers. */
static void print_totals(const struct statistics *sum, uint64_t seeds, uint64_t failed)
{
    static const char *const ops[] = {"read", "write", "flush", "trim", "zero"};
    printf("totals: seeds %" PRIu64 " failed %" PRIu64 " requests %" PRIu64 " completed %" PRIu64
           " refused %" PRIu64 " store_operations %" PRIu64 " messages %" PRIu64
           " register_operations %" PRIu64 " events %" PRIu64 " served_alone %" PRIu64
           " clean_stops %" PRIu64 " losses_accepted %" PRIu64,
           seeds, failed, sum->requests, sum->completed, sum->refused, sum->store_operations,
           sum->messages, sum->register_operations, sum->events, sum->takeovers, sum->stops,
           sum->losses);
    for (size_t op = 0; op < ARRAY_LENGTH(ops); op++)
        printf(" host_%s %" PRIu64, ops[op], sum->done[op]);
    printf(" group_seeds %" PRIu64 " group_requests %" PRIu64 " batches %" PRIu64
           " promotions %" PRIu64 " promotions_consistent %" PRIu64 " failovers %" PRIu64,
           sum->group_seeds, sum->group_requests, sum->batches, sum->cuts, sum->consistent,
           sum->failovers);
    for (int kind = 0; kind < FAULT_COUNT; kind++)
        printf(" fault_%s %" PRIu64, fault_name[kind], sum->faults[kind]);
    putchar('\n');
}

enum { SHRINK_LIMIT_S = 120 };

/* The listing goes to stdout: a file of it can be played again. */
static int shrink(const struct arguments *arguments)
{
    struct listing listing;
    struct shrink_result result;
    uint64_t limit_s = arguments->limit_s > 0 ? arguments->limit_s : SHRINK_LIMIT_S;
    bool good = shrink_seed(&arguments->options, limit_s, &listing, &result);
    printf("# %s\n# seed %" PRIu64 " --steps %" PRIu64 ", %u of %u lines are left after %u runs\n",
           result.failure, arguments->options.seed, arguments->options.steps,
           good ? result.after : listing.line_count, result.before, result.runs);
    if (listing.setting_count > 0)
        listing_print(&listing, stdout);
    listing_free(&listing);
    return good ? 0 : 1;
}

static int replay(const struct arguments *arguments)
{
    struct listing listing;
    struct statistics count;
    const char *wrong = listing_read(&listing, arguments->replay);
    if (wrong) {
        fprintf(stderr, "holdfast-sim: %s: %s\n", arguments->replay, wrong);
        listing_free(&listing);
        return 2;
    }
    wrong = shrink_replay(&listing, &arguments->options, &count);
    if (wrong)
        printf("FAILED %s: %s\n", arguments->replay, wrong);
    print_counts(&count);
    listing_free(&listing);
    return wrong ? 1 : 0;
}

/* A run without a failure can be written down, too: played again it has to be the same. */
static int record(const struct arguments *arguments)
{
    struct listing listing = {.seed = 0};
    struct world_options options = arguments->options;
    options.record = &listing;
    FILE *file = fopen(arguments->record, "w");
    if (file == NULL) {
        fprintf(stderr, "holdfast-sim: --record %s: %s\n", arguments->record, strerror(errno));
        return 2;
    }
    struct world *world = world_create(&options);
    const char *wrong = world_run(world);
    if (wrong)
        printf("FAILED seed %" PRIu64 ": %s\n", options.seed, wrong);
    print_counts(&world->count);
    world_destroy(world);
    listing_print(&listing, file);
    listing_free(&listing);
    return fclose(file) != 0 ? 2 : wrong ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct arguments arguments = {.options = {.seed = 1, .steps = 3000}, .seeds = 1};
    if (!parse(argc, argv, &arguments)) {
        fprintf(stderr, "holdfast-sim: see --help\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    if (arguments.shrink)
        return shrink(&arguments);
    if (arguments.replay)
        return replay(&arguments);
    if (arguments.record)
        return record(&arguments);
    struct statistics sum = {0};
    time_t start = time(NULL);
    uint64_t done = 0, failed = 0;
    for (uint64_t i = 0; i < arguments.seeds; i++) {
        if (arguments.limit_s > 0 && (uint64_t)(time(NULL) - start) >= arguments.limit_s)
            break;
        struct world_options options = arguments.options;
        options.seed += i;
        struct world *world = world_create(&options);
        if (!arguments.quiet)
            world_print(world);
        const char *wrong = world_run(world);
        done++;
        add_counts(&sum, &world->count);
        sum.group_seeds += world->sites != NULL;
        for (const struct world *at = world; at && world->sites; at = at->next) {
            sum.group_requests += at->count.completed;
            if (at != world)
                add_counts(&sum, &at->count);
        }
        if (wrong) {
            failed++;
            if (arguments.quiet)
                world_print(world);
            printf("FAILED seed %" PRIu64 " at %" PRIu64 " us, after %" PRIu64 " requests: %s\n",
                   options.seed, world->now_us, world->count.requests, wrong);
        }
        fflush(stdout);
        world_destroy(world);
        if (wrong && (arguments.first || !arguments.quiet))
            break;
    }
    print_counts(&sum);
    if (arguments.options.sets)
        print_sets(&sum);
    if (arguments.quiet)
        print_totals(&sum, done, failed);
    printf("%" PRIu64 " seeds, %" PRIu64 " failed\n", done, failed);
    return failed > 0 ? 1 : 0;
}
