/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* One scripted run of the simulated pair (writes, a move, a crash, lost sessions, a pause beyond
 * the lease, a clean stop, a rejoin) is done again and again; in the Nth run the Nth store
 * operation fails, or the Nth message of the link is lost, or its answer, or the Nth question to
 * the register gets none. However it is hit, the oracle must stay content, everything must come to
 * rest, and the stores must hold every acknowledged write in the end. */

#include "sim/world.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum {
    RUN_LIMIT = 20000
}; /* a run that never ends before its Nth operation would be a mistake of this test */

/* The seeds give different caches, hosts and stores; each has to survive all of it. */
static const uint64_t seeds[] = {31, 22, 9, 40, 7};

static uint64_t run(const struct world_options *options, uint64_t counted(const struct world *),
                    uint64_t *takeovers)
{
    struct world *world = world_create(options);
    const char *wrong = world_run(world);
    if (wrong) {
        print_message("holdfast-sim --scripted --seed %" PRIu64 " --fail-store %" PRIu64
                      " --fail-message %" PRIu64 " --fail-status %" PRIu64
                      " --fail-register %" PRIu64 "\n",
                      options->seed, options->fail_store, options->fail_message,
                      options->fail_status, options->fail_register);
        fail_msg("%s", wrong);
    }
    uint64_t count = counted(world);
    *takeovers = world->count.takeovers;
    world_destroy(world);
    return count;
}

static uint64_t store_operations(const struct world *world)
{
    return world->count.store_operations;
}

static uint64_t messages(const struct world *world)
{
    return world->count.messages;
}

static uint64_t register_operations(const struct world *world)
{
    return world->count.register_operations;
}

/* `quiet`: what is hit must not even be noticed in the roles: no controller goes on alone that
 * would not have. */
static void fail_each(size_t field, uint64_t counted(const struct world *), bool quiet)
{
    for (size_t s = 0; s < ARRAY_LENGTH(seeds); s++) {
        struct world_options options = {.seed = seeds[s], .scripted = true, .check_every = 1};
        uint64_t usual, takeovers;
        run(&options, counted, &usual);
        uint64_t n = 1;
        for (; n < RUN_LIMIT; n++) {
            *(uint64_t *)((uint8_t *)&options + field) = n;
            uint64_t count = run(&options, counted, &takeovers);
            if (quiet && takeovers > usual)
                fail_msg("seed %" PRIu64 ", number %" PRIu64 ": %" PRIu64
                         " takeovers instead of %" PRIu64,
                         options.seed, n, takeovers, usual);
            if (count < n)
                break; /* it ended without getting there */
        }
        assert_true(n > 1); /* at least one was hit */
        assert_true(n < RUN_LIMIT);
    }
}

static void every_store_operation_may_fail_once(void **state)
{
    fail_each(offsetof(struct world_options, fail_store), store_operations, true);
}

static void every_message_may_be_lost_once(void **state)
{
    fail_each(offsetof(struct world_options, fail_message), messages, true);
}

static void every_answer_of_the_link_may_be_lost_once(void **state)
{
    fail_each(offsetof(struct world_options, fail_status), messages, true);
}

static void every_register_operation_may_go_unanswered_once(void **state)
{
    fail_each(offsetof(struct world_options, fail_register), register_operations, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_store_operation_may_fail_once),
        cmocka_unit_test(every_message_may_be_lost_once),
        cmocka_unit_test(every_answer_of_the_link_may_be_lost_once),
        cmocka_unit_test(every_register_operation_may_go_unanswered_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
