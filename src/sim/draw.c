/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A world is drawn from its seed here, and what was drawn is printed: the configuration of the pair
 * and its clocks. The rates of faults are drawn in faults.c, the hosts' habits in hosts.c. The
 * order of the draws is part of what a seed means: a change here gives every seed another world. */

#include "sim/draw.h"

#include "sim/disks.h"
#include "sim/faults.h"
#include "sim/hosts.h"
#include "sim/listing.h"
#include "sim/ships.h"
#include "sim/sites.h"
#include "sim/wires.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

static uint64_t pick(struct generator *generator, const uint64_t *from, size_t count)
{
    return from[generator_below(generator, count)];
}

#define PICK(generator, ...)                                                                       \
    pick((generator), (const uint64_t[]){__VA_ARGS__},                                             \
         sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

static void draw_volumes(struct world *world)
{
    struct generator *draw = &world->draw;
    struct array_config *config = &world->config;
    config->store_count = (uint32_t)PICK(draw, 1, 1, 2);
    for (uint32_t s = 0; s < config->store_count; s++) {
        config->stores[s].block_size_bytes = (uint32_t)PICK(draw, 512, 512, 4096);
        config->stores[s].can_zero = generator_chance(draw, 3, 4);
        world->disks[s].size = 0;
    }
    config->volume_count = (uint32_t)PICK(draw, 1, 2, 2, 3, 4);
    for (uint32_t v = 0; v < config->volume_count; v++) {
        struct volume_config *volume = &config->volumes[v];
        volume->store = (uint8_t)generator_below(draw, config->store_count);
        uint32_t block = config->stores[volume->store].block_size_bytes;
        snprintf(volume->name, sizeof volume->name, "v%u", v);
        volume->size_bytes = PICK(draw, 1, 8, 33, 64, 200, 512) * PAGE_SIZE_BYTES;
        if (block == SECTOR_SIZE && generator_chance(draw, 1, 4))
            volume->size_bytes += SECTOR_SIZE * world_between(draw, 1, 7);
        struct disk *disk = &world->disks[volume->store];
        disk->size += block * PICK(draw, 0, 0, 1, 7);
        volume->store_offset_bytes = disk->size;
        disk->size += volume->size_bytes;
        volume->home = (uint8_t)generator_below(draw, 2);
        volume->flush_destage = generator_chance(draw, 1, 4);
    }
}

static void draw_config(struct world *world)
{
    struct generator *draw = &world->draw;
    struct array_config *config = &world->config;
    config->slot_count = (uint32_t)PICK(draw, 64, 128, 128, 256, 1024);
    config->request_limit = (uint32_t)PICK(draw, 16, 128, 256, 512);
    config->destage_io_limit = (uint32_t)PICK(draw, 1, 2, 8, 32);
    config->fetch_io_limit = (uint32_t)PICK(draw, 1, 4, 16, 64);
    config->dirty_low_percent = (uint8_t)world_between(draw, 5, 45);
    config->dirty_high_percent = (uint8_t)world_between(draw, config->dirty_low_percent + 5, 90);
    config->destage_after_ms = (uint32_t)PICK(draw, 1, 20, 200, 5000);
    config->lease_ms = (uint32_t)PICK(draw, 100, 200, 1000);
    config->settle_ms = (uint32_t)PICK(draw, 100, 200);
    config->auto_giveback = generator_chance(draw, 1, 2);
    config->trace = world->options.core_trace;
    /* array_config_check() wants them, although world_start() sets them again. */
    config->self = 0;
    config->incarnation = 1;
    uint64_t skew = PICK(draw, 0, 100, 20000);
    world->rates.skew_ppm = skew;
    for (int w = 0; w < 2; w++) {
        world->controllers[w].clock_rate = world_between(draw, 1000000 - skew, 1000000 + skew);
        world->controllers[w].clock_offset = world_between(draw, 1, 1000000000);
    }
    draw_volumes(world);
}

struct world *draw_world(const struct world_options *options, struct world *root, bool second)
{
    struct world *world = calloc(1, sizeof *world);
    CHECK(world != NULL);
    world->options = *options;
    world->root = root ? root : world;
    world->second = second;
    for (struct world *at = root; at; at = at->next) {
        world->number = at->number + 1;
        if (at->next)
            continue;
        at->next = world;
        break;
    }
    CHECK(world->number < ARRAYS_LIMIT);
    generator_seed(&world->draw, options->seed * 4);
    generator_seed(&world->latency, options->seed * 4 + 1);
    generator_seed(&world->chaos, options->seed * 4 + 2);
    generator_seed(&world->traffic, options->seed * 4 + 3);
    world->now_us = 1000;
    for (int w = 0; w < 2; w++)
        world->controllers[w].message = NO_INDEX;
    draw_config(world);
    uint64_t every = PICK(&world->draw, 1, 7, 50);
    if (world->options.check_every == 0)
        world->options.check_every = (uint32_t)every;
    world->cell_bytes = (uint32_t)PICK(&world->draw, 32, 128, 512, 512);
    world->finish = (uint32_t)(options->seed % 3);
    for (uint32_t v = 0; v < VOLUME_LIMIT; v++)
        world->oracle_volume[v] = (uint8_t)v;
    faults_create(world);
    return world;
}

static void check_config(const struct world *world)
{
    const char *wrong = array_config_check(&world->config);
    if (wrong) {
        fprintf(stderr, "a configuration that the core refuses: %s\n", wrong);
        exit(2);
    }
}

/* One for all arrays: a copy's bytes are its original's. */
static void create_oracle(struct world *world)
{
    uint64_t sizes[VOLUME_LIMIT];
    uint32_t count = 0;
    for (const struct world *at = world; at; at = at->next)
        for (uint32_t v = 0; v < at->config.volume_count; v++) {
            uint8_t name = at->oracle_volume[v];
            sizes[name] = at->config.volumes[v].size_bytes;
            count = max_u32(count, name + 1u);
        }
    world->oracle = oracle_create(world->cell_bytes, count, sizes);
    for (struct world *at = world->next; at; at = at->next)
        at->oracle = world->oracle;
}

static void create_parts(struct world *world)
{
    disks_create(world);
    wires_create(world);
    ships_create(world);
    hosts_create(world);
}

struct world *world_create(const struct world_options *options)
{
    struct world *world = draw_world(options, NULL, false);
    sites_draw(world);
    if (options->record)
        listing_take_settings(options->record, world);
    if (options->replay)
        listing_give_settings(options->replay, world);
    for (const struct world *at = world; at; at = at->next)
        check_config(at);
    if (world->sites)
        sites_create(world);
    create_oracle(world);
    for (struct world *at = world; at; at = at->next)
        create_parts(at);
    return world;
}

static void destroy_parts(struct world *world)
{
    hosts_destroy(world);
    wires_destroy(world);
    ships_destroy(world);
    disks_destroy(world);
    for (int w = 0; w < 2; w++)
        if (world->controllers[w].memory)
            munmap(world->controllers[w].memory, world->controllers[w].memory_size);
    free(world->events);
    free(world);
}

void world_destroy(struct world *world)
{
    oracle_destroy(world->oracle);
    if (world->sites)
        sites_destroy(world);
    for (struct world *next; world; world = next) {
        next = world->next;
        destroy_parts(world);
    }
}

void world_print(const struct world *world)
{
    const struct array_config *config = &world->config;
    if (world->number == 0)
        printf("seed %" PRIu64 " steps %" PRIu64 "\n", world->options.seed, world->options.steps);
    printf("cache: %u slots, dirty %u%%..%u%%, destage after %u ms, %u writes, %u fetches, %u "
           "requests\n",
           config->slot_count, config->dirty_low_percent, config->dirty_high_percent,
           config->destage_after_ms, config->destage_io_limit, config->fetch_io_limit,
           config->request_limit);
    printf("roles: lease %u ms, settle %u ms, giveback %s, clocks %" PRIu64 " and %" PRIu64
           " ppm, within %" PRIu64 "\n",
           config->lease_ms, config->settle_ms, config->auto_giveback ? "auto" : "manual",
           world->controllers[0].clock_rate, world->controllers[1].clock_rate,
           world->rates.skew_ppm);
    for (uint32_t s = 0; s < config->store_count; s++)
        printf("store %u: block %u, %s zero\n", s, config->stores[s].block_size_bytes,
               config->stores[s].can_zero ? "can" : "cannot");
    for (uint32_t v = 0; v < config->volume_count; v++)
        printf("volume %u: %" PRIu64 " bytes at %" PRIu64 " of store %u, home %c, flush=%s\n", v,
               config->volumes[v].size_bytes, config->volumes[v].store_offset_bytes,
               config->volumes[v].store, world_letter(config->volumes[v].home),
               config->volumes[v].flush_destage ? "destage" : "mirror");
    faults_print(world);
    hosts_print(world);
    printf("oracle: cells of %u bytes, array_check() after every %u pumps\n", world->cell_bytes,
           world->options.check_every);
    if (world->sites && world->number == 0)
        sites_print(world);
    if (world->next) {
        printf("the %s array:\n", world_name(world->next->number));
        world_print(world->next);
    }
}
