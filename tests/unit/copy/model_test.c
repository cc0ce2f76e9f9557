/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Senders and receivers together, under everything that can happen to them, from seeds: after each
 * promotion the copy is a consistent cut of what hosts did and never an older one than before, and
 * when the faults are over it becomes what the primary holds. */

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <unistd.h>

#include "base/mistake.h"
#include "copy_world.h"

#include "copy_primary.h"

static uint64_t seed_now; /* 0: none is under way */

static int tell_seed(void **state)
{
    if (seed_now != 0)
        print_message("COPY_SEED=%llu\n", (unsigned long long)seed_now);
    return 0;
}

static void look(void)
{
    for (int i = 0; i < 2; i++) {
        const char *why = receiver_check(&w->second[i].receiver);
        if (why == NULL && w->half[i].alive)
            why = sender_check(&w->half[i].sender);
        if (why != NULL)
            fail_msg("%s", why);
    }
}

static void host_step(struct half *half)
{
    uint8_t volume = (uint8_t)below(VOLUMES);
    if (!half->in || half->owner[volume] != half - w->half || half->moving[volume] ||
        half->giving[volume] || w->write_count + 1 >= WRITES)
        return;
    uint64_t page = below(chance(50) ? 4 : PAGES);
    if (chance(6))
        host_discards(half, volume, page, 1 + below((uint32_t)(PAGES - page)) % 8);
    else
        host_writes(half, volume, page, chance(50) ? 0xFF : (uint8_t)(1 + below(255)));
}

static void fault_step(struct half *half)
{
    uint8_t volume = (uint8_t)below(VOLUMES);
    switch (below(10)) {
    case 0:
        half_dies(half);
        break;
    case 1:
    case 2:
        half_returns(half);
        break;
    case 3:
        second_dies();
        break;
    case 4:
        second_returns();
        break;
    case 5:
        if (half->in && chance(30))
            fall(half, true);
        break;
    case 6:
    case 7:
        half->giving[volume] =
            half->in && !half->moving[volume] && half->owner[volume] == half - w->half;
        break;
    case 8:
        if (chance(20))
            second_restarts();
        break;
    default:
        if (half->session)
            sender_detach(&half->sender);
        half->session = false;
    }
}

static void step(bool faults, bool hosts)
{
    struct half *half = &w->half[below(2)];
    w->now_us++;
    switch (below(9)) {
    case 0:
    case 1:
        if (hosts)
            host_step(half);
        if (half->in)
            range_step(half);
        break;
    case 2:
        for (uint32_t i = below(4); i > 0; i--)
            stream_step(half);
        break;
    case 3:
        cut(half);
        report(half);
        break;
    case 4:
        attach(half);
        send(half);
        break;
    case 5:
        if (hosts)
            evict(half);
        rise(half);
        break;
    case 6:
        give_away(half, (uint8_t)below(VOLUMES));
        base_start(half);
        if (chance(40))
            base_end(half);
        break;
    case 7:
        deliver(faults);
        break;
    default:
        for (uint32_t i = below(4); i > 0; i--)
            second_stream_step();
    }
    if (faults && chance(2))
        fault_step(half);
    if (w->now_us % 8 == 0)
        look();
}

/* No more faults: everything that is lost comes back, and the copy catches up. */
static void heal(void)
{
    for (int i = 0; i < 20000; i++) {
        if (i % 64 == 0) {
            half_returns(&w->half[0]);
            half_returns(&w->half[1]);
            second_returns();
        }
        step(false, false);
    }
    struct second *second = &w->second[w->main];
    MUST(w->half[0].in && w->half[1].in);
    if (!second->receiver.consistent)
        fail_msg("never consistent again");
    for (int v = 0; v < VOLUMES; v++) {
        for (int p = 0; p < PAGES; p++) {
            cells cell;
            read_page(&w->half[w->half[0].owner[v]], (uint8_t)v, (uint64_t)p, cell);
            for (int s = 0; s < PAGE_SECTORS; s++) {
                if (cell[s] != second->visible[v][p][s])
                    fail_msg("the sites differ: %d/%d/%d is %u here and %u there", v, p, s, cell[s],
                             second->visible[v][p][s]);
            }
        }
    }
}

static void world_begin(uint64_t seed)
{
    w = calloc(1, sizeof *w);
    trace_begin();
    generator_seed(&w->dice, seed);
    w->memory_number = 1;
    w->second_paired = true;
    w->epoch = w->tenure = 1;
    for (int v = 0; v < VOLUMES; v++)
        w->page_counts[v] = PAGES;
    for (int i = 0; i < 2; i++) {
        second_create(&w->second[i]);
        half_create(&w->half[i]);
        w->half[i].in = w->half[i].streaming = w->half[i].mirrors = true;
    }
    for (uint8_t v = 0; v < VOLUMES; v++) {
        for (int i = 0; i < 2; i++) {
            w->half[i].owner[v] = v % 2;
            w->half[i].view.tenure[v] = v % 2 == i;
            sender_own(&w->half[i].sender, v, v % 2 == i);
            regions_mark(&w->half[i].sender.regions, v, 0, PAGES);
        }
    }
    w->half[0].sender.leader = true;
}

static void world_end(void)
{
    for (int i = 0; i < 2; i++) {
        free(w->half[i].memory);
        free(w->second[i].memory);
        for (int b = 0; b < COPY_WINDOW; b++)
            free(w->half[i].sent[b].bytes);
    }
    for (int i = 0; i < FLIGHTS; i++)
        free(w->flight[i].bytes);
    free(w);
}

static void without_faults(void **state)
{
    uint32_t consistent = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        world_begin(seed_now = seed);
        for (int i = 0; i < 3000; i++)
            step(false, true);
        heal();
        consistent += w->consistent;
        world_end();
    }
    seed_now = 0;
    assert_in_range(consistent, 100, UINT32_MAX);
}

static void with_every_fault(void **state)
{
    const char *seeds = getenv("COPY_SEEDS"), *first = getenv("COPY_SEED");
    uint64_t from = first != NULL ? strtoull(first, NULL, 10) : 1;
    uint64_t count = seeds != NULL ? strtoull(seeds, NULL, 10) : 60;
    struct world sum = {0};
    for (uint64_t seed = from; seed < from + count; seed++) {
        world_begin(seed_now = seed);
        for (int i = 0; i < 8000; i++)
            step(true, true);
        heal();
#define ADD(name) sum.name += w->name
        ADD(promotions), ADD(consistent), ADD(takeovers), ADD(returns), ADD(falls), ADD(restarts);
        ADD(moves), ADD(second_lost), ADD(wiped), ADD(duplicates), ADD(refused), ADD(given_up);
        ADD(base_sent), ADD(ranges);
        world_end();
    }
    seed_now = 0;
    print_message("promotions %u, consistent %u, takeovers %u, returns %u, falls %u, restarts %u, "
                  "moves %u, lost there %u, wiped %u, known %u, refused %u, given up %u, base %u, "
                  "ranges %u\n",
                  sum.promotions, sum.consistent, sum.takeovers, sum.returns, sum.falls,
                  sum.restarts, sum.moves, sum.second_lost, sum.wiped, sum.duplicates, sum.refused,
                  sum.given_up, sum.base_sent, sum.ranges);
}

/* ---- planted mistakes ---- */

static const struct {
    const char *name, *text;
    enum mistake mistake;
} mistakes[] = {
#define ROW(name, text) {#name, text, MISTAKE_##name},
    GROUP_MISTAKE_LIST(ROW)
#undef ROW
};

/* The model as another process that makes the mistake: whether it failed, and what it said. */
static bool is_found(const char *name, char *said, size_t size)
{
    char command[200], line[200];
    snprintf(command, sizeof command,
             "COPY_MISTAKE=%s COPY_SEED=1 COPY_SEEDS=1000 timeout 300 /proc/%ld/exe 2>&1", name,
             (long)getpid());
    FILE *out = popen(command, "r");
    assert_non_null(out);
    snprintf(said, size, "%s", "");
    while (fgets(line, sizeof line, out) != NULL) {
        line[strcspn(line, "\n")] = 0;
        if (said[0] == 0 && (strstr(line, "ERROR: ") != NULL || strstr(line, "exception") != NULL))
            snprintf(said, size, "%s", line);
    }
    return pclose(out) != 0;
}

/* In a build with -Dmistakes=true: the model finds each mistake of GROUP_MISTAKE_LIST. */
static void each_planted_mistake_is_found(void **state)
{
    uint32_t missed = 0;
    if (!mistake_make(mistakes[0].mistake))
        skip();
    mistake_make(MISTAKE_NONE);
    for (size_t i = 0; i < ARRAY_LENGTH(mistakes); i++) {
        char said[200];
        bool found = is_found(mistakes[i].name, said, sizeof said);
        print_message("%-30s %s\n", mistakes[i].name, found ? said : "NOT FOUND");
        missed += !found;
    }
    assert_int_equal(missed, 0);
}

static void make_the_mistake(const char *name)
{
    for (size_t i = 0; i < ARRAY_LENGTH(mistakes); i++) {
        if (strcmp(mistakes[i].name, name) == 0 && mistake_make(mistakes[i].mistake))
            return;
    }
    fprintf(stderr, "no such mistake, or a build that makes none: %s\n", name);
    exit(0); /* it is not found */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(without_faults, tell_seed),
        cmocka_unit_test_teardown(with_every_fault, tell_seed),
        cmocka_unit_test(each_planted_mistake_is_found),
    };
    if (getenv("COPY_MISTAKE") != NULL)
        make_the_mistake(getenv("COPY_MISTAKE"));
    if (getenv("COPY_SEED") != NULL)
        cmocka_set_test_filter("with_every_fault");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
