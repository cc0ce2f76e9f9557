/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What the two cores of a pair spend on a mirrored 4 KiB write, with no socket, disk or kernel
 * between them.
 *
 *     array_host(a) -> array_pump(a) -> message -> array_on_message(b) -> array_pump(b) -> status
 * -> array_pump(a)
 *
 * This file is the smallest shell there can be: store operations succeed at once and keep nothing,
 * the register is a variable, the link is one copy into the peer's receive buffer, and time is a
 * counter. Everything that the core does happens inside core_cost_step_a() and core_cost_step_b(),
 * so callgrind's --toggle-collect can count either controller alone; the one copy of the link lies
 * outside both.
 *
 * Until the pair is paired and its pages are warm the same steps are made under another name,
 * core_cost_warm(), so nothing but the measured writes is counted. Prints one line of JSON. */

#include "array/array.h"
#include "base/check.h"
#include "base/generator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum {
    A,
    B,
    PAIR,

    DEPTH_LIMIT = 256,
    STORE_OPS = 4096,       /* answers that wait for one controller's next step */
    PAIRING_STEPS = 200000, /* steps of a millisecond until the pair must be paired */
    WRITE_STEPS = 1000,     /* steps that one round of writes may take */
    MESSAGE_BYTES = 1 << 24,
    STEP_US = 5, /* how far time moves with each step */
};

/* What the world owes one controller: handed over, in this order, in its next step. */
struct controller {
    struct array *array;
    const struct actions *actions;

    uint32_t host_count;
    struct host_request host[DEPTH_LIMIT];
    uint32_t store_count;
    uint32_t store_io[STORE_OPS];
    bool register_due;
    struct register_action reg;
    bool link_up_due, link_down_due;
    bool status_due, status_good;
    bool message_due;
    uint8_t message_buffer_id;
    uint32_t message_length;
    uint8_t *message;

    uint32_t completed; /* host writes that ended in the measured part */
};

struct world {
    struct controller controllers[PAIR];
    struct register_record record;
    uint64_t now_us;
    uint64_t copy_bytes;
};

struct options {
    uint32_t depth, slots, writes, pages;
};

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

_Noreturn static void refuse(const char *what)
{
    fprintf(stderr, "core-cost: %s\n", what);
    exit(1);
}

/* ---- the core's side ---- */

static void answer_register(struct world *world, struct controller *c)
{
    enum register_result result = REGISTER_OK;

    c->register_due = false;
    if (c->reg.swap && !register_equal(&world->record, &c->reg.expected))
        result = REGISTER_CONFLICT;
    else if (c->reg.swap)
        world->record = c->reg.wanted;
    array_on_register(c->array, world->now_us, result, &world->record);
}

/* Hand over everything that is due, then pump: all that the core does is under here. */
static inline __attribute__((always_inline)) void step(struct world *world, struct controller *c)
{
    uint64_t now = world->now_us;

    if (c->link_down_due)
        array_on_link_down(c->array, now);
    if (c->link_up_due)
        array_on_link_up(c->array, now);
    c->link_down_due = c->link_up_due = false;
    for (uint32_t i = 0; i < c->store_count; i++)
        array_on_store(c->array, now, c->store_io[i], STORE_DONE);
    c->store_count = 0;
    if (c->register_due)
        answer_register(world, c);
    if (c->status_due)
        array_on_status(c->array, now, c->status_good);
    c->status_due = false;
    if (c->message_due)
        array_on_message(c->array, now, c->message_buffer_id, c->message, c->message_length);
    c->message_due = false;
    for (uint32_t i = 0; i < c->host_count; i++) {
        struct host_outcome outcome = array_host(c->array, now, &c->host[i]);

        if (outcome.complete) {
            CHECK(outcome.result == HOST_OK);
            c->completed++;
        }
    }
    c->host_count = 0;
    c->actions = array_pump(c->array, now);
}

/* Two functions of the same body, under names that a profiler can be told. */
__attribute__((noinline)) void core_cost_step_a(struct world *world);
__attribute__((noinline)) void core_cost_step_b(struct world *world);
__attribute__((noinline)) void core_cost_warm(struct world *world, struct controller *c);

void core_cost_step_a(struct world *world)
{
    step(world, &world->controllers[A]);
}

void core_cost_step_b(struct world *world)
{
    step(world, &world->controllers[B]);
}

void core_cost_warm(struct world *world, struct controller *c)
{
    step(world, c);
}

/* ---- the world's side ---- */

static void deliver(struct world *world, const struct send_action *send, struct controller *to)
{
    uint32_t at = 0;

    CHECK(!to->message_due && send->length_bytes <= MESSAGE_BYTES);
    for (uint32_t i = 0; i < send->iov_count; i++) {
        memcpy(to->message + at, send->iov[i].iov_base, send->iov[i].iov_len);
        at += (uint32_t)send->iov[i].iov_len;
    }
    CHECK(at == send->length_bytes);
    to->message_due = true;
    to->message_buffer_id = send->buffer_id;
    to->message_length = send->length_bytes;
    world->copy_bytes += at;
}

/* Perform what the last step asked for; returns whether anything is now due anywhere. */
static bool perform(struct world *world, int self)
{
    struct controller *c = &world->controllers[self], *peer = &world->controllers[1 - self];
    const struct actions *actions = c->actions;
    bool more = false;

    CHECK(c->store_count + actions->store_count <= STORE_OPS);
    for (uint32_t i = 0; i < actions->store_count; i++) {
        const struct store_action *op = &actions->store[i];

        for (uint32_t j = 0; op->op == STORE_READ && j < op->iov_count; j++)
            memset(op->iov[j].iov_base, 0, op->iov[j].iov_len);
        c->store_io[c->store_count++] = op->io;
    }
    more = c->store_count > 0;
    if (actions->register_wanted) {
        c->reg = actions->reg;
        c->register_due = more = true;
    }
    if (actions->reply_wanted) {
        peer->status_due = more = true;
        peer->status_good = actions->reply_good;
    }
    if (actions->send_wanted) {
        deliver(world, &actions->send, peer);
        more = true;
    }
    if (actions->link_reset)
        c->link_down_due = c->link_up_due = more = true;
    for (uint32_t i = 0; i < actions->completion_count; i++) {
        CHECK(actions->completions[i].result == HOST_OK);
        c->completed++;
    }
    for (uint32_t i = 0; i < actions->log_count; i++)
        if (actions->log[i].level >= LOG_WARNING)
            fprintf(stderr, "%c: %s\n", "ab"[self], actions -> log[i].text);
    return more;
}

static enum role role_of(const struct world *world, int self)
{
    static struct array_status status;

    array_status(world->controllers[self].array, world->now_us, &status);
    return status.role;
}

/* Let time pass until both are paired and a serves the volume. */
static void become_paired(struct world *world)
{
    world->controllers[A].link_up_due = world->controllers[B].link_up_due = true;
    for (int i = 0; i < PAIRING_STEPS; i++) {
        for (int self = A; self < PAIR; self++) {
            core_cost_warm(world, &world->controllers[self]);
            perform(world, self);
        }
        world->now_us += 1000;
        if (i % 16 == 0 && role_of(world, A) == ROLE_PAIRED && role_of(world, B) == ROLE_PAIRED &&
            array_owner(world->controllers[A].array, 0) == 1)
            return;
    }
    refuse("the two arrays were never paired with a as the owner");
}

/* `count` writes at once, and steps until every one is complete. */
static void write_round(struct world *world, const struct options *options,
                        struct generator *random, uint32_t count, bool measured)
{
    static uint8_t data[DEPTH_LIMIT][PAGE_SIZE_BYTES];
    struct controller *a = &world->controllers[A], *b = &world->controllers[B];

    for (uint32_t i = 0; i < count; i++) {
        uint64_t page = generator_below(random, options->pages);

        a->host[i] = (struct host_request){.handle = i,
                                           .op = HOST_WRITE,
                                           .offset_bytes = page * PAGE_SIZE_BYTES,
                                           .length_bytes = PAGE_SIZE_BYTES,
                                           .data = data[i]};
    }
    a->host_count = count;
    a->completed = 0;
    for (int i = 0; i < WRITE_STEPS && a->completed < count; i++) {
        if (measured)
            core_cost_step_a(world);
        else
            core_cost_warm(world, a);
        perform(world, A);
        if (a->completed >= count)
            break;
        if (measured)
            core_cost_step_b(world);
        else
            core_cost_warm(world, b);
        perform(world, B);
        world->now_us += STEP_US;
    }
    if (a->completed < count)
        refuse("writes did not complete");
}

static void write_many(struct world *world, const struct options *options, struct generator *random,
                       uint32_t writes, bool measured)
{
    for (uint32_t done = 0; done < writes; done += options->depth)
        write_round(world, options, random, min_u32(options->depth, writes - done), measured);
}

static void *take_memory(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED)
        refuse("no memory");
    return memory;
}

static void create(struct world *world, const struct options *options)
{
    struct array_config config = {
        .seed = 1,
        .slot_count = options->slots,
        .request_limit = DEPTH_LIMIT,
        .destage_io_limit = 16,
        .fetch_io_limit = 16,
        .dirty_low_percent = 80,
        .dirty_high_percent = 90,
        .destage_after_ms = 24 * 3600 * 1000,
        .lease_ms = 1000,
        .settle_ms = 100,
        .auto_giveback = true,
        .volume_count = 1,
        .store_count = 1,
    };
    const char *wrong;

    snprintf(config.volumes[0].name, sizeof(config.volumes[0].name), "bench");
    config.volumes[0].size_bytes = (uint64_t)options->pages * PAGE_SIZE_BYTES;
    config.stores[0].block_size_bytes = PAGE_SIZE_BYTES;
    config.stores[0].can_zero = true;
    world->now_us = 1000000;
    for (uint8_t self = A; self < PAIR; self++) {
        struct controller *c = &world->controllers[self];
        size_t size;

        config.self = self;
        config.incarnation = 100u + self;
        wrong = array_config_check(&config);
        if (wrong != NULL)
            refuse(wrong);
        size = array_memory_size(&config);
        c->array = array_create(&config, take_memory(size), size, world->now_us);
        c->message = take_memory(MESSAGE_BYTES);
    }
}

static void report(const struct world *world, const struct options *options, uint64_t ns,
                   uint64_t batches)
{
    printf("{\"depth\": %u, \"slots\": %u, \"writes\": %u, \"ns_per_write\": %.1f, "
           "\"writes_per_batch\": %.2f, \"wire_bytes_per_write\": %.1f}\n",
           options->depth, options->slots, options->writes, (double)ns / options->writes,
           batches > 0 ? (double)options->writes / (double)batches : 0.0,
           (double)world->copy_bytes / options->writes);
}

static uint64_t batches_sent(const struct world *world)
{
    static struct array_status status;

    array_status(world->controllers[A].array, world->now_us, &status);
    CHECK(status.flush_messages == 0);
    return status.sent.batches;
}

static bool parse(int argc, char **argv, struct options *options)
{
    for (int i = 1; i < argc; i++) {
        uint32_t *number = NULL;

        if (strcmp(argv[i], "--depth") == 0)
            number = &options->depth;
        else if (strcmp(argv[i], "--slots") == 0)
            number = &options->slots;
        else if (strcmp(argv[i], "--writes") == 0)
            number = &options->writes;
        else if (strcmp(argv[i], "--pages") == 0)
            number = &options->pages;
        if (number == NULL || i + 1 == argc)
            return false;
        *number = (uint32_t)strtoul(argv[++i], NULL, 10);
    }
    return options->depth >= 1 && options->depth <= DEPTH_LIMIT && options->writes >= 1 &&
           options->pages >= 1 && options->pages <= options->slots / 2;
}

int main(int argc, char **argv)
{
    static struct world world;
    struct options options = {.depth = 32, .slots = 65536, .writes = 100000, .pages = 16384};
    struct generator random;
    uint64_t start, batches;

    if (!parse(argc, argv, &options)) {
        fprintf(stderr, "usage: %s [--depth 1..%d] [--slots N] [--pages 1..slots/2] [--writes N]\n",
                argv[0], DEPTH_LIMIT);
        return 2;
    }
    generator_seed(&random, 1);
    create(&world, &options);
    become_paired(&world);
    write_many(&world, &options, &random, 2 * options.pages, false);
    world.copy_bytes = 0;
    batches = batches_sent(&world);
    start = now_ns();
    write_many(&world, &options, &random, options.writes, true);
    report(&world, &options, now_ns() - start, batches_sent(&world) - batches);
    return 0;
}
