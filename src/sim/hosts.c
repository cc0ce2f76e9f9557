/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See hosts.h. A slot is one request at a time: it is drawn, submitted to the controller that the
 * host believes in, ends, and after some thinking the next is drawn. A refused one, or one whose
 * controller died, is tried again at the other controller as a new request with a new stamp, for as
 * long as the host has that habit. */

#include "sim/hosts.h"

#include "sim/copies.h"
#include "sim/cuts.h"
#include "sim/disks.h"
#include "sim/focus.h"
#include "sim/listing.h"

#include "sim/ships.h"
#include "sim/sites.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum size_class {
    SIZE_BITS,
    SIZE_SECTORS,
    SIZE_PAGE,
    SIZE_ODD,
    SIZE_RUN,
    SIZE_LARGE,
    SIZE_HUGE,
    SIZE_COUNT
};

struct host {
    uint32_t depth;
    uint64_t think_us;
    bool gives_up; /* does not try again */
    uint32_t op_weight[HOST_OP_COUNT];
    uint32_t size_weight[SIZE_COUNT];
    uint32_t fua_percent;
    uint32_t hot_percent; /* of its requests go to the first pages of a volume */
    uint32_t hot_pages;
    uint32_t only_volume; /* NO_INDEX: all */
    bool here;            /* takes only a controller's own word: no shipping */
    uint32_t
        compare_percent; /* of its reads are followed by a COMPARE AND WRITE of the same range */
    uint32_t leaves_percent; /* of its requests lose their connection before they have ended */
    uint32_t astray_percent; /* of its requests go to the controller that it does not believe in */
    uint8_t path[VOLUME_LIMIT]; /* by volume: the controller that it believes to serve it */
};

struct slot {
    uint32_t host;
    bool waiting;      /* submitted, not ended */
    bool again;        /* the same is to be tried again */
    uint32_t refusals; /* in a row */
    uint8_t target;
    uint64_t incarnation, since_us, generation;
    uint64_t began; /* on the oracle's clock */
    struct host_request request;
    uint8_t *data;
    uint64_t write_id, read_token;
    bool out_of_range;
    uint64_t first_try; /* the same write at a controller that died with it on its way to the owner,
                           or 0 */
    bool astray;        /* what it finds says nothing: the volume is not this site's any more */
    bool stray;         /* made although the volume is not this site's: may have no effect */
    uint64_t stray_id;  /* the write that may have none */
    uint64_t cuts;      /* of the copy, when it was made */
    bool shipped;       /* it went on to the owner, at least in part */
    bool compare;       /* the next one compares with what the last read found */
    uint8_t *seen;      /* that, request.length_bytes of it */
};

enum {
    HOST_LIMIT = 8,
    SLOT_LIMIT = 128,
    REPLACED_LIMIT = 1024,
    GHOST_LIMIT = 64,
    EARLY_LIMIT = 256,
    COMPARE_MOST = 5 * 4096,
    CHAIN_SLOTS = 2,
};

/* A request whose host has left: nobody waits for it, but it may still have its effect. */
struct ghost {
    bool used;
    uint8_t who, volume;
    uint64_t handle, write_id;
    uint8_t *data;
};

struct replaced {
    uint64_t stamp, offset;
    uint8_t volume;
};

struct hosts {
    uint32_t host_count, slot_count;
    uint32_t chain_first, chain_count; /* of a set: slots */
    struct host hosts[HOST_LIMIT + 1]; /* the last one: see create_chain() */
    struct slot slots[SLOT_LIMIT + 1]; /* the last one reads everything at the end */
    uint32_t in_flight[2];
    struct replaced replaced[REPLACED_LIMIT]; /* what the latest COMPARE AND WRITEs replaced */
    uint32_t replaced_count;
    struct ghost ghosts[GHOST_LIMIT];
    uint64_t early[EARLY_LIMIT]; /* writes that a copy took when it was the original already */
    uint32_t early_count;
    bool verifying, verified;
    uint8_t verify_volume;
    uint64_t verify_offset;
};

static const char *const op_name[HOST_OP_COUNT] = {"read", "write",   "flush", "trim",
                                                   "zero", "compare", "state", "move"};

static void draw_host(struct world *world, struct host *host)
{
    struct generator *draw = &world->draw;
    static const uint32_t depths[] = {1, 1, 2, 4, 8, 16};
    static const uint64_t thinks[] = {50, 500, 3000, 20000};
    host->depth = depths[generator_below(draw, ARRAY_LENGTH(depths))];
    host->think_us = thinks[generator_below(draw, ARRAY_LENGTH(thinks))];
    if (world->options.scripted)
        host->think_us = 100000; /* the run is as long as its script */
    host->gives_up = generator_chance(draw, 1, 5);
    host->op_weight[HOST_READ] = (uint32_t)world_between(draw, 5, 60);
    host->op_weight[HOST_WRITE] = (uint32_t)world_between(draw, 10, 80);
    host->op_weight[HOST_FLUSH] = (uint32_t)world_between(draw, 0, 5);
    host->op_weight[HOST_TRIM] =
        generator_chance(draw, 1, 2) ? (uint32_t)world_between(draw, 0, 10) : 0;
    host->op_weight[HOST_ZERO] =
        generator_chance(draw, 1, 2) ? (uint32_t)world_between(draw, 0, 10) : 0;
    bool pages_only = generator_chance(draw, 1, 4);
    for (int c = 0; c < SIZE_COUNT; c++)
        host->size_weight[c] =
            pages_only && c != SIZE_PAGE ? 0 : (uint32_t)world_between(draw, 0, 40);
    host->size_weight[SIZE_PAGE] += 10;
    host->size_weight[SIZE_LARGE] /= 12;
    host->size_weight[SIZE_HUGE] = host->size_weight[SIZE_HUGE] >= 39; /* one in some hundreds */
    host->fua_percent = generator_chance(draw, 1, 3) ? (uint32_t)world_between(draw, 1, 30) : 0;
    host->hot_percent = (uint32_t)world_between(draw, 0, 90);
    host->hot_pages = (uint32_t)world_between(draw, 1, 16);
    host->only_volume = generator_chance(draw, 1, 3)
                            ? (uint32_t)generator_below(draw, world->config.volume_count)
                            : NO_INDEX;
    host->op_weight[HOST_STATE] = generator_chance(draw, 1, 3) ? 1 : 0;
    host->op_weight[HOST_MOVE] = generator_chance(draw, 1, 8) ? 1 : 0;
    host->here = generator_chance(draw, 1, 4);
    host->leaves_percent = generator_chance(draw, 1, 4) ? (uint32_t)world_between(draw, 1, 20) : 0;
    host->compare_percent = generator_chance(draw, 1, 2) ? (uint32_t)world_between(draw, 1, 60) : 0;
    host->astray_percent = generator_chance(draw, 1, 3) ? (uint32_t)world_between(draw, 1, 50) : 1;
    for (uint32_t v = 0; v < world->config.volume_count; v++)
        host->path[v] = world->config.volumes[v].home;
}

/* Habits that are about one thing. */
static void draw_focus(struct world *world, struct host *host)
{
    struct generator *draw = &world->draw;
    if (world->focus == NULL)
        return;
    host->depth = min_u32(host->depth, 2); /* a life of many cycles */
    host->think_us = 20000;
    if (focus_has(world, FOCUS_ZEROES)) {
        host->gives_up = generator_chance(draw, 1, 2);
        host->op_weight[HOST_TRIM] += (uint32_t)world_between(draw, 0, 20);
        host->op_weight[HOST_ZERO] += (uint32_t)world_between(draw, 5, 40);
    }
    if (focus_has(world, FOCUS_PARTS)) {
        for (int c = 0; c < SIZE_COUNT; c++)
            host->size_weight[c] /= 8;
        host->size_weight[SIZE_SECTORS] = 40;
        host->hot_percent = max_u32(host->hot_percent, 60);
    }
    if (focus_has(world, FOCUS_WIDE)) {
        host->hot_percent = 0;
        host->op_weight[HOST_READ] += 200;
        host->op_weight[HOST_MOVE] = 0;
        for (int c = SIZE_RUN; c < SIZE_COUNT; c++)
            host->size_weight[c] = 0;
    }
}

/* In a replay only the reading of everything at the end draws its own turns. */
static void turn_at(struct world *world, const struct slot *slot, uint64_t at_us)
{
    if (world->options.replay == NULL || slot == &world->hosts->slots[SLOT_LIMIT])
        world_event(world, at_us, EVENT_HOST, 2, (uint32_t)(slot - world->hosts->slots), 0);
}

static void calm_host(struct world *world, struct host *host)
{
    static const uint64_t thinks[] = {1000, 5000, 20000};
    host->depth = min_u32(host->depth, 4);
    host->think_us =
        max_u64(host->think_us, thinks[generator_below(&world->draw, ARRAY_LENGTH(thinks))]);
}

/* Of a set: a host with volumes of all primary arrays, whose every write follows from the one
 * before it, at another array. It is the same host at each of them: a slot here goes on there. */
static void create_chain(struct world *world)
{
    struct hosts *hosts = world->hosts;
    struct generator *draw = &world->draw;
    struct host *host = &hosts->hosts[HOST_LIMIT];
    static const uint64_t thinks[] = {1, 20, 200};
    draw_host(world, host);
    host->think_us = thinks[generator_below(draw, ARRAY_LENGTH(thinks))];
    host->op_weight[HOST_WRITE] = 400;
    host->only_volume = NO_INDEX;
    host->gives_up = false;
    host->leaves_percent = 0;
    hosts->chain_first = hosts->slot_count;
    while (hosts->chain_count < CHAIN_SLOTS && hosts->slot_count < SLOT_LIMIT) {
        struct slot *slot = &hosts->slots[hosts->slot_count++];
        slot->host = HOST_LIMIT;
        hosts->chain_count++;
        if (world == world->root)
            turn_at(world, slot, world->now_us + generator_below(draw, 20000));
    }
}

void hosts_create(struct world *world)
{
    struct hosts *hosts = calloc(1, sizeof *hosts);
    CHECK(hosts != NULL);
    world->hosts = hosts;
    hosts->host_count = (uint32_t)world_between(&world->draw, 1, HOST_LIMIT);
    for (uint32_t h = 0; h < hosts->host_count; h++) {
        struct host *host = &hosts->hosts[h];
        draw_host(world, host);
        if (world->calls) /* a life has many cuts */
            calm_host(world, host);
        draw_focus(world, host);
        for (uint32_t i = 0; i < host->depth && hosts->slot_count < SLOT_LIMIT; i++) {
            struct slot *slot = &hosts->slots[hosts->slot_count];
            slot->host = h;
            turn_at(world, slot, world->now_us + generator_below(&world->draw, 20000));
            hosts->slot_count++;
        }
    }
    if (world->calls && !world->second)
        create_chain(world);
    const struct listing *replay = world->options.replay;
    if (replay)
        hosts->slot_count = SLOT_LIMIT;
    for (uint32_t i = 0; replay && i < replay->line_count; i++) {
        const struct listing_line *line = &replay->lines[i];
        bool host = line->kind == LISTING_HOST;
        if ((host || line->kind == LISTING_LEAVE) && line->array == world->number)
            world_event(world, line->at_us, host ? EVENT_HOST : EVENT_LEAVE, 2,
                        line->slot % SLOT_LIMIT, host ? i + 1 : 0);
    }
}

/* A slot's next turn: at which array. */
static void next_turn(struct world *world, const struct slot *slot, uint64_t at_us)
{
    const struct hosts *hosts = world->hosts;
    uint32_t place = (uint32_t)(slot - hosts->slots) - hosts->chain_first;
    bool chained = hosts->chain_count > 0 && slot->host == HOST_LIMIT && !slot->again &&
                   !world->options.replay && slot != &hosts->slots[SLOT_LIMIT];
    struct world *to = world;
    while (chained && (to == world || to->second || place >= to->hosts->chain_count))
        to = to->next ? to->next : to->root;
    turn_at(to, chained ? &to->hosts->slots[to->hosts->chain_first + place] : slot, at_us);
}

void hosts_destroy(struct world *world)
{
    for (uint32_t i = 0; i <= SLOT_LIMIT; i++) {
        free(world->hosts->slots[i].data);
        free(world->hosts->slots[i].seen);
    }
    for (uint32_t i = 0; i < GHOST_LIMIT; i++)
        free(world->hosts->ghosts[i].data);
    free(world->hosts);
}

void hosts_print(const struct world *world)
{
    const struct hosts *hosts = world->hosts;
    for (uint32_t h = 0; h < hosts->host_count; h++) {
        const struct host *host = &hosts->hosts[h];
        printf("host %u: %u in flight, thinks %" PRIu64
               " us, %s; read %u write %u flush %u trim %u zero %u; sizes",
               h, host->depth, host->think_us, host->gives_up ? "gives up" : "tries again",
               host->op_weight[HOST_READ], host->op_weight[HOST_WRITE], host->op_weight[HOST_FLUSH],
               host->op_weight[HOST_TRIM], host->op_weight[HOST_ZERO]);
        for (int c = 0; c < SIZE_COUNT; c++)
            printf(" %u", host->size_weight[c]);
        printf("; fua %u%%, %u%% in %u pages, astray %u%%", host->fua_percent, host->hot_percent,
               host->hot_pages, host->astray_percent);
        if (host->only_volume != NO_INDEX)
            printf(", volume %u only", host->only_volume);
        putchar('\n');
    }
}

/* ---- drawing a request ---- */

static uint32_t weighted(struct generator *generator, const uint32_t *weight, uint32_t count)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += weight[i];
    uint64_t at = generator_below(generator, sum);
    for (uint32_t i = 0; i < count; i++) {
        if (at < weight[i])
            return i;
        at -= weight[i];
    }
    return 0;
}

/* Offset and length in units of `grain`, within the volume. */
static void draw_range(struct world *world, const struct host *host, struct host_request *request,
                       uint64_t grain, uint64_t length_limit)
{
    struct generator *traffic = &world->traffic;
    uint64_t size = world->config.volumes[request->volume].size_bytes;
    uint64_t length = (1 + generator_below(traffic, length_limit / grain)) * grain;
    uint64_t span = size;
    if (generator_chance(traffic, host->hot_percent, 100))
        span = min_u64(size, (uint64_t)host->hot_pages * PAGE_SIZE_BYTES);
    request->offset_bytes = generator_below(traffic, span) / grain * grain;
    if (focus_has(world,
                  FOCUS_WIDE)) /* the first pages of each region, so that zeros change some */
        request->offset_bytes &= ~(uint64_t)(14 * PAGE_SIZE_BYTES);
    request->length_bytes = min_u64(length, size - request->offset_bytes);
    CHECK(request->length_bytes > 0);
}

static void draw_size(struct world *world, const struct host *host, struct host_request *request)
{
    switch ((enum size_class)weighted(&world->traffic, host->size_weight, SIZE_COUNT)) {
    case SIZE_BITS:
        draw_range(world, host, request, world->cell_bytes, SECTOR_SIZE);
        break;
    case SIZE_SECTORS:
        draw_range(world, host, request, SECTOR_SIZE, PAGE_SIZE_BYTES);
        break;
    case SIZE_PAGE:
        draw_range(world, host, request, PAGE_SIZE_BYTES, PAGE_SIZE_BYTES);
        break;
    case SIZE_ODD:
        draw_range(world, host, request, world->cell_bytes, 3 * PAGE_SIZE_BYTES);
        break;
    case SIZE_RUN:
        draw_range(world, host, request, PAGE_SIZE_BYTES, 64 * 1024);
        break;
    case SIZE_LARGE:
        draw_range(world, host, request, SECTOR_SIZE, 256 * 1024);
        break;
    case SIZE_HUGE:
    case SIZE_COUNT:
        draw_range(world, host, request, SECTOR_SIZE, 2 * 1024 * 1024);
        break;
    }
}

static void draw_request(struct world *world, struct slot *slot)
{
    struct generator *traffic = &world->traffic;
    const struct host *host = &world->hosts->hosts[slot->host];
    struct host_request *request = &slot->request;
    if (slot->compare) {
        slot->compare = false; /* volume and range are the read's */
        request->op = HOST_COMPARE_WRITE;
        request->flags = host->here ? HOST_HERE : 0;
        slot->target = host->path[request->volume];
        if (generator_chance(traffic, host->astray_percent, 100))
            slot->target = !slot->target;
        return;
    }
    *request = (struct host_request){.handle = 0, .flags = host->here ? HOST_HERE : 0};
    request->op = (enum host_op)weighted(traffic, host->op_weight, HOST_OP_COUNT);
    request->volume = host->only_volume != NO_INDEX
                          ? (uint8_t)host->only_volume
                          : (uint8_t)generator_below(traffic, world->config.volume_count);
    slot->out_of_range = false;
    slot->target = host->path[request->volume];
    if (generator_chance(traffic, host->astray_percent, 100))
        slot->target = !slot->target;
    if (request->op == HOST_FLUSH)
        return;
    if (request->op == HOST_STATE) {
        request->length_bytes = world_between(traffic, 1, VOLUME_STATE_BYTES);
        if (generator_chance(traffic, 1, 2))
            request->flags |= HOST_BARRIER;
        return;
    }
    if (request->op == HOST_MOVE) {
        request->offset_bytes = generator_below(traffic, 2);
        return;
    }
    if (request->op != HOST_READ && generator_chance(traffic, host->fua_percent, 100))
        request->flags |= HOST_FUA;
    if (slot->generation % 2 != 0) /* as SCSI does; the other half as NBD */
        request->flags |= HOST_VERSIONED;
    if (request->op == HOST_ZERO && generator_chance(traffic, 1, 2))
        request->flags |= HOST_NO_HOLE;
    if ((request->op == HOST_TRIM || request->op == HOST_ZERO) && !focus_has(world, FOCUS_WIDE) &&
        generator_chance(traffic, 1, 24)) {
        request->length_bytes = world->config.volumes[request->volume].size_bytes;
        return; /* all of it */
    }
    draw_size(world, host, request);
    if (generator_chance(traffic, 1, 1000)) {
        slot->out_of_range = true;
        request->offset_bytes = world->config.volumes[request->volume].size_bytes - SECTOR_SIZE;
        request->length_bytes = PAGE_SIZE_BYTES * 2;
    }
}

/* ---- submitting ---- */

/* What the request changes for certain. TRIM is advice: only whole pages become zeros, where the
 * store can. */
static bool changed_range(const struct world *world, const struct slot *slot, uint64_t *from,
                          uint64_t *to)
{
    const struct host_request *request = &slot->request;
    const struct volume_config *volume = &world->config.volumes[request->volume];
    *from = request->offset_bytes;
    *to = request->offset_bytes + request->length_bytes;
    if (slot->out_of_range || request->op == HOST_READ || request->op == HOST_FLUSH ||
        request->op == HOST_STATE || request->op == HOST_MOVE)
        return false;
    if (request->op != HOST_TRIM)
        return true;
    if (!world->config.stores[volume->store].can_zero)
        return false;
    *from = (*from + PAGE_SIZE_BYTES - 1) / PAGE_SIZE_BYTES * PAGE_SIZE_BYTES;
    if (*to != volume->size_bytes)
        *to = *to / PAGE_SIZE_BYTES * PAGE_SIZE_BYTES;
    return *from < *to;
}

static uint64_t data_bytes(const struct host_request *request)
{
    switch (request->op) {
    case HOST_READ:
    case HOST_WRITE:
    case HOST_STATE:
        return request->length_bytes;
    case HOST_COMPARE_WRITE:
        return request->length_bytes * 2;
    default:
        return 0;
    }
}

static uint8_t oracle_volume(const struct world *world, const struct slot *slot)
{
    return world->oracle_volume[slot->request.volume];
}

static void begin(struct world *world, struct slot *slot)
{
    struct host_request *request = &slot->request;
    uint64_t bytes = data_bytes(request);
    slot->write_id = 0;
    slot->shipped = false;
    if (bytes > 0) {
        slot->data = malloc(bytes);
        CHECK(slot->data != NULL);
        memset(slot->data, 0xA5, bytes);
    }
    request->data = slot->data;
    uint64_t from, to;
    slot->stray = world->closed[request->volume];
    slot->astray = false;
    slot->stray_id = 0;
    slot->cuts = cuts_count(world, request->volume);
    if (changed_range(world, slot, &from, &to)) {
        slot->write_id =
            oracle_write_begin(world->oracle, oracle_volume(world, slot), from, to - from,
                               request->op == HOST_TRIM || request->op == HOST_ZERO);
        if (request->op == HOST_WRITE)
            oracle_fill(world->oracle, slot->write_id, slot->data);
        if (request->op == HOST_COMPARE_WRITE) {
            memcpy(slot->data, slot->seen, request->length_bytes);
            oracle_fill(world->oracle, slot->write_id, slot->data + request->length_bytes);
        }
    }
    if (slot->write_id != 0 && slot->stray) { /* what it writes may be seen nowhere */
        oracle_write_never(world->oracle, slot->write_id);
        slot->stray_id = slot->write_id;
        slot->write_id = 0;
    }
    if (request->op == HOST_READ || request->op == HOST_COMPARE_WRITE)
        slot->read_token = oracle_read_begin(world->oracle);
}

static void check_read(struct world *world, struct slot *slot, bool good)
{
    struct host_request *request = &slot->request;
    if (slot->out_of_range) {
        oracle_read_end(world->oracle, slot->read_token, oracle_volume(world, slot), 0, 0, NULL);
        return;
    }
    const char *wrong =
        oracle_read_end(world->oracle, slot->read_token, oracle_volume(world, slot),
                        request->offset_bytes, request->length_bytes, good ? slot->data : NULL);
    if (wrong)
        world_fail(world, "a read of %" PRIu64 "+%" PRIu64 " through %c: %s", request->offset_bytes,
                   request->length_bytes, world_letter(slot->target), wrong);
}

/* A success says two things: that the range held what was expected, and that nobody else has
 * replaced the same before. Every write has a stamp of its own, so what was replaced never comes
 * back, except for zeros. */
static void check_compare(struct world *world, struct slot *slot, bool good)
{
    struct host_request *request = &slot->request;
    struct hosts *hosts = world->hosts;
    const char *wrong =
        oracle_read_end(world->oracle, slot->read_token, oracle_volume(world, slot),
                        request->offset_bytes, request->length_bytes, good ? slot->data : NULL);
    if (wrong)
        world_fail(world, "a compare of %" PRIu64 "+%" PRIu64 " through %c: %s",
                   request->offset_bytes, request->length_bytes, world_letter(slot->target), wrong);
    if (!good)
        return;
    world->count.compares++;
    uint64_t first;
    memcpy(&first, slot->data, sizeof first);
    if (first == 0)
        return;
    struct replaced *replaced = &hosts->replaced[hosts->replaced_count++ % REPLACED_LIMIT];
    for (uint32_t i = 0; i < REPLACED_LIMIT; i++) {
        const struct replaced *other = &hosts->replaced[i];
        if (other->stamp == first && other->volume == request->volume &&
            other->offset == request->offset_bytes)
            world_fail(world, "two compares of volume %u at %" PRIu64 " replaced the same",
                       request->volume, request->offset_bytes);
    }
    *replaced = (struct replaced){first, request->offset_bytes, request->volume};
}

/* What was seen is compared with, sometimes. */
static void plan_compare(struct world *world, struct slot *slot)
{
    const struct host *host = &world->hosts->hosts[slot->host];
    const struct host_request *request = &slot->request;
    if (slot == &world->hosts->slots[SLOT_LIMIT] || request->length_bytes > COMPARE_MOST ||
        (!world->options.replay && !generator_chance(&world->traffic, host->compare_percent, 100)))
        return;
    slot->compare = true;
    slot->seen = realloc(slot->seen, request->length_bytes);
    CHECK(slot->seen != NULL);
    memcpy(slot->seen, slot->data, request->length_bytes);
}

enum how {
    AT_ONCE,  /* array_host() said so */
    LATER,    /* by a completion */
    ORPHANED, /* never: its controller died */
};

/* A request that ended well: does that promise what the store holds? It does while its controller
 * serves alone, and for FLUSH and FUA where the volume is configured so. */
static bool promises_store(const struct world *world, const struct slot *slot)
{
    const struct host_request *request = &slot->request;
    bool alone = world->controllers[slot->target].role == ROLE_SOLO && !slot->shipped;
    bool asked = request->op == HOST_FLUSH || (request->flags & HOST_FUA) != 0;
    return alone || (asked && world->config.volumes[request->volume].flush_destage);
}

static void check_durable(struct world *world, const struct slot *slot)
{
    uint8_t volume = slot->request.volume;
    uint64_t from, to;
    if (!changed_range(world, slot, &from, &to))
        return;
    const char *wrong =
        oracle_check_durable(world->oracle, slot->write_id, disks_durable(world, volume, from));
    if (wrong)
        world_fail(world, "a %s was promised to be on the store: %s", op_name[slot->request.op],
                   wrong);
}

/* A request about a copy, or about a group whose truth is at the other site. */
static void check_stray(struct world *world, const struct slot *slot, enum host_result result)
{
    const struct host_request *request = &slot->request;
    uint8_t place;
    uint32_t group = copies_group_of(world, request->volume, &place);
    bool good = result == HOST_OK;
    if (group == COPIES_GROUPS || !good || request->op == HOST_STATE || request->op == HOST_MOVE ||
        request->op == HOST_FLUSH || slot->out_of_range)
        return;
    if (!copies_is_copy(world, (uint8_t)group)) {
        /* The old site has not heard that the other one was failed over, or this one was, and its
         * operator has not heard of that yet. */
        if (request->op == HOST_READ && sites_is_leaving(world, request->volume) &&
            !world->config.groups[group].expose && !copies_failover_kept(world, (uint8_t)group))
            world_fail(world, "%c serves volume %u before a record of the failover is durable",
                       world_letter(slot->target), request->volume);
        if (slot->stray_id != 0 && world->hosts->early_count < EARLY_LIMIT)
            world->hosts->early[world->hosts->early_count++] = slot->stray_id;
        return;
    }
    if (request->op != HOST_READ || !world->config.groups[group].expose)
        world_fail(world, "%c does a %s of volume %u, which is a copy", world_letter(slot->target),
                   op_name[request->op], request->volume);
    cuts_read(world, request->volume, request->offset_bytes, request->length_bytes, slot->data,
              slot->cuts);
}

/* It ended at its controller. */
static void end(struct world *world, struct slot *slot, enum how how, enum host_result result)
{
    struct hosts *hosts = world->hosts;
    struct host_request *request = &slot->request;
    bool answered = how != ORPHANED;
    bool good = answered && result == HOST_OK;
    CHECK(slot->waiting);
    slot->waiting = false;
    CHECK(hosts->in_flight[slot->target] > 0);
    hosts->in_flight[slot->target]--;
    if (answered)
        world_trace(world, "host %u/%u: %s ends with %d", slot->host,
                    (uint32_t)(slot - hosts->slots), op_name[request->op], result);
    if (slot->stray && answered)
        check_stray(world, slot, result);
    if (good && !slot->shipped && request->op != HOST_MOVE)
        world_check_completion(world, slot->target, request->volume);
    if (answered && result == HOST_BUSY)
        world_fail(world, "%c says BUSY with %u of %u requests", world_letter(slot->target),
                   hosts->in_flight[slot->target] + 1, world->config.request_limit);
    bool copy = result == HOST_COPY || result == HOST_READ_ONLY;
    bool told = copy || result == HOST_MISCOMPARE || result == HOST_STALE || result == HOST_REFUSED;
    bool versioned = request->op == HOST_STATE || (request->flags & HOST_VERSIONED);
    if (result == HOST_STALE
            ? !versioned
            : told && !copy &&
                  request->op != (result == HOST_MISCOMPARE ? HOST_COMPARE_WRITE : HOST_MOVE))
        world_fail(world, "a %s ends with %d", op_name[request->op], result);
    if (answered && !told && result != HOST_NOT_OWNER &&
        (result == HOST_RANGE) != slot->out_of_range)
        world_fail(world, "a %s of %" PRIu64 "+%" PRIu64 " of volume %u ends with %d",
                   op_name[request->op], request->offset_bytes, request->length_bytes,
                   request->volume, result);
    if (answered && result == HOST_IO_ERROR && world->errors_injected == 0)
        world_fail(world, "a %s failed, but no store operation ever did", op_name[request->op]);
    if (request->op == HOST_COMPARE_WRITE)
        check_compare(world, slot,
                      good && !slot->astray &&
                          !slot->stray); /* before its own write counts as done */
    /* One that is out and has not heard of it yet: what the survivor had taken over from it is
     * among what an operator has accepted to be lost meanwhile; and what it reads says nothing
     * about what will be seen from now on. */
    bool lost =
        world->loss_epoch > world->controllers[slot->target].epoch || slot->astray || slot->stray;
    bool stored = good && !lost && promises_store(world, slot);
    if (stored && request->op == HOST_FLUSH)
        oracle_flushed(world->oracle, oracle_volume(world, slot), slot->began);
    if (slot->write_id != 0) {
        if (good && lost)
            oracle_write_unknown(world->oracle, slot->write_id);
        else if (good)
            oracle_write_done(world->oracle, slot->write_id);
        if (stored)
            oracle_write_durable(world->oracle, slot->write_id);
        if (stored)
            check_durable(world, slot);
        if (good)
            ;
        else if ((how == AT_ONCE && (result == HOST_NOT_OWNER || copy)) ||
                 result == HOST_MISCOMPARE || (result == HOST_STALE && !slot->shipped))
            oracle_write_never(world->oracle, slot->write_id);
        else if (ships_carry(world, slot->target, request->handle, slot->write_id))
            slot->first_try = how == ORPHANED ? slot->write_id : 0;
        else
            oracle_write_unknown(world->oracle, slot->write_id);
    }
    if (good && slot->first_try != 0 && slot->write_id != 0) {
        ships_superseded(world, slot->first_try);
        slot->first_try = 0;
    }
    if (request->op == HOST_READ)
        check_read(world, slot, good && !lost);
    if (request->op == HOST_READ && good && !slot->astray && !slot->stray)
        plan_compare(world, slot);
    if (request->op == HOST_STATE && good) {
        world->count.states++;
        world->state_done[request->volume] =
            max_u32(world->state_done[request->volume], request->state_version + 1);
    }
    free(slot->data);
    slot->data = NULL;
    bool verifier = slot == &hosts->slots[SLOT_LIMIT];
    struct host *host = &hosts->hosts[slot->host];
    slot->again = !good && !told && result != HOST_RANGE && (verifier || !host->gives_up) &&
                  (verifier || !world->options.replay);
    if (request->op == HOST_COMPARE_WRITE)
        slot->again = false; /* whether it was done is not known: look again first */
    /* A replay, whose hosts draw nothing, has to meet the same chances when everything is read. */
    struct generator *turns = verifier && world->sites ? &world->latency : &world->traffic;
    uint64_t wait_us = 1 + generator_below(turns, verifier ? 10 : host->think_us * 2);
    if (good) {
        world->count.completed++;
        world->count.done[request->op]++;
        host->path[request->volume] = slot->target;
        slot->refusals = 0;
    } else if (!told) {
        world->count.refused++;
        if (!answered || result == HOST_NOT_OWNER)
            slot->target = host->path[request->volume] = !slot->target;
        /* One refusal is answered by going to the other controller at once, more by patience. */
        wait_us += world_between(turns, 1000, 8000) << min_u32(slot->refusals, 5);
        slot->refusals++;
    }
    next_turn(world, slot, world->now_us + wait_us);
}

static void submit(struct world *world, struct slot *slot)
{
    struct hosts *hosts = world->hosts;
    struct controller *controller = &world->controllers[slot->target];
    struct host_request *request = &slot->request;
    begin(world, slot);
    slot->waiting = true;
    slot->incarnation = controller->incarnation;
    slot->since_us = world->now_us;
    slot->began = oracle_now(world->oracle);
    slot->generation++;
    hosts->in_flight[slot->target]++;
    if (request->op == HOST_STATE || (request->flags & HOST_VERSIONED)) {
        uint32_t length;
        array_state(controller->array, request->volume, &request->state_version, &length);
    }
    if (world->options.record && slot != &hosts->slots[SLOT_LIMIT])
        listing_add(world->options.record,
                    &(struct listing_line){.at_us = world->now_us,
                                           .kind = LISTING_HOST,
                                           .who = slot->target,
                                           .host = slot->host,
                                           .slot = (uint32_t)(slot - hosts->slots),
                                           .outside = slot->out_of_range,
                                           .array = world->number,
                                           .request = *request});
    request->handle = slot->generation << 8 | (uint64_t)(slot - hosts->slots);
    world->count.requests++;
    world_trace(
        world, "host %u/%u: %s of volume %u at %" PRIu64 "+%" PRIu64 "%s to %c (write %" PRIu64 ")",
        slot->host, (uint32_t)(slot - hosts->slots), op_name[request->op], request->volume,
        request->offset_bytes, request->length_bytes, request->flags & HOST_FUA ? " fua" : "",
        world_letter(slot->target), slot->write_id);
    struct host_outcome outcome =
        array_host(controller->array, world_clock(world, slot->target), request);
    world_touch(world, slot->target);
    if (outcome.complete) {
        end(world, slot, AT_ONCE, outcome.result);
        return;
    }
    bool listed = world->options.replay && world->rates.leaves_listed;
    if (slot != &hosts->slots[SLOT_LIMIT] && !slot->stray && !listed &&
        generator_chance(&world->traffic, hosts->hosts[slot->host].leaves_percent, 100))
        world_event(world, world->now_us + generator_below(&world->traffic, 20000), EVENT_LEAVE, 2,
                    (uint32_t)(slot - hosts->slots), slot->generation);
    if (request->op == HOST_WRITE && !outcome.data_held)
        memset(slot->data, 0xDD, request->length_bytes); /* nobody may need it any more */
    if (request->op == HOST_READ && !outcome.data_held)
        world_fail(world, "a read is under way without a place for its data");
    if (slot->data && outcome.data_held && world->rates.data_moves &&
        generator_chance(&world->latency, 1, 2)) {
        uint64_t bytes = data_bytes(request);
        uint8_t *place = malloc(bytes);
        CHECK(place != NULL);
        memcpy(place, slot->data, bytes);
        memset(slot->data, 0xDD, bytes);
        free(slot->data);
        slot->data = place;
        array_host_move_data(controller->array, place);
    }
}

/* The next piece of reading everything; false when all has been read. */
static bool draw_verify(struct world *world, struct slot *slot)
{
    struct hosts *hosts = world->hosts;
    while (hosts->verify_volume < world->config.volume_count && world->closed[hosts->verify_volume])
        hosts->verify_volume++;
    if (hosts->verify_volume == world->config.volume_count)
        return false;
    uint64_t size = world->config.volumes[hosts->verify_volume].size_bytes;
    uint64_t length = min_u64(size - hosts->verify_offset, 64 * 1024);
    slot->request = (struct host_request){.op = HOST_READ,
                                          .volume = hosts->verify_volume,
                                          .offset_bytes = hosts->verify_offset,
                                          .length_bytes = length};
    slot->out_of_range = false;
    hosts->verify_offset += length;
    if (hosts->verify_offset == size) {
        hosts->verify_offset = 0;
        hosts->verify_volume++;
    }
    return true;
}

/* A request of a listing: to be made now, if it can be. */
static void replay_turn(struct world *world, const struct listing_line *line)
{
    struct hosts *hosts = world->hosts;
    const struct controller *controller = &world->controllers[line->who];
    struct slot *slot = &hosts->slots[line->slot % SLOT_LIMIT];
    const struct host_request *request = &line->request;
    if (request->volume >= world->config.volume_count)
        return;
    bool seen = !slot->waiting && slot->compare && slot->request.op == HOST_READ &&
                slot->request.volume == request->volume &&
                slot->request.offset_bytes == request->offset_bytes &&
                slot->request.length_bytes == request->length_bytes;
    if (request->op == HOST_COMPARE_WRITE && !seen)
        return; /* the read that it compares with has been left out */
    for (uint32_t i = 0; i < SLOT_LIMIT && slot->waiting; i++)
        slot = &hosts->slots[i];
    if (slot->waiting || !controller->running || controller->paused ||
        hosts->in_flight[line->who] >= world->config.request_limit)
        return;
    slot->host = line->host % (HOST_LIMIT + 1);
    slot->target = line->who;
    slot->request = *request;
    slot->out_of_range = line->outside;
    slot->compare = false;
    submit(world, slot);
}

void hosts_on_turn(struct world *world, const struct event *event)
{
    struct hosts *hosts = world->hosts;
    if (event->stamp > 0) {
        replay_turn(world, &world->options.replay->lines[event->stamp - 1]);
        return;
    }
    struct slot *slot = &hosts->slots[event->index];
    bool verifier = event->index == SLOT_LIMIT;
    CHECK(!slot->waiting);
    if (slot->again && !verifier && world->closed[slot->request.volume] &&
        !sites_may_stray(world, slot->request.volume)) {
        slot->again = false;
        turn_at(world, slot, world->now_us + 20000);
        return;
    }
    if (!slot->again) {
        if (verifier && !draw_verify(world, slot)) {
            hosts->verified = true;
            return;
        }
        if (!verifier && world->healing)
            return;
        if (!verifier)
            draw_request(world, slot);
        bool early = !verifier && slot->request.op == HOST_READ &&
                     sites_is_leaving(world, slot->request.volume);
        if (!verifier && world->closed[slot->request.volume] && !early &&
            (!sites_may_stray(world, slot->request.volume) ||
             !generator_chance(&world->traffic, 1, focus_has(world, FOCUS_ZEROES) ? 3 : 20))) {
            /* hosts seldom go astray */
            bool soon = sites_is_leaving(world, slot->request.volume);
            turn_at(world, slot, world->now_us + (soon ? 500 : 20000));
            return;
        }
        slot->first_try = 0;
        slot->again = true; /* until it has been submitted */
    }
    if (!world->controllers[slot->target].running)
        slot->target = !slot->target;
    struct controller *controller = &world->controllers[slot->target];
    if (!controller->running) {
        turn_at(world, slot, world->now_us + 5000);
        return;
    }
    if (controller->paused) {
        uint64_t at_us = controller->resume_us + 1;
        if (generator_chance(&world->traffic, 2, 3)) {
            slot->target = !slot->target;
            at_us = world->now_us + world_between(&world->traffic, 1000, 20000);
        }
        turn_at(world, slot, at_us);
        return;
    }
    if (hosts->in_flight[slot->target] >= world->config.request_limit) {
        slot->again = true; /* the shell takes no more than it has room for */
        turn_at(world, slot, world->now_us + 1 + generator_below(&world->traffic, 500));
        return;
    }
    slot->again = false;
    submit(world, slot);
}

/* It has ended, or its controller has. */
static void ghost_over(struct world *world, struct ghost *ghost)
{
    struct hosts *hosts = world->hosts;
    CHECK(hosts->in_flight[ghost->who] > 0);
    hosts->in_flight[ghost->who]--;
    if (ghost->write_id != 0 && !ships_carry(world, ghost->who, ghost->handle, ghost->write_id))
        oracle_write_unknown(world->oracle, ghost->write_id);
    free(ghost->data);
    *ghost = (struct ghost){.used = false};
}

static bool ghost_completes(struct world *world, uint8_t who, uint64_t handle)
{
    for (uint32_t i = 0; i < GHOST_LIMIT; i++) {
        struct ghost *ghost = &world->hosts->ghosts[i];
        if (!ghost->used || ghost->who != who || ghost->handle != handle)
            continue;
        ghost_over(world, ghost);
        return true;
    }
    return false;
}

void hosts_on_completion(struct world *world, uint8_t who, const struct completion *completion)
{
    struct hosts *hosts = world->hosts;
    if (ghost_completes(world, who, completion->handle))
        return;
    uint64_t index = completion->handle & 0xFF;
    if (index > SLOT_LIMIT)
        world_fail(world, "%c completes a request that nobody made", world_letter(who));
    struct slot *slot = &hosts->slots[index];
    if (!slot->waiting || slot->request.handle != completion->handle || slot->target != who ||
        slot->incarnation != world->controllers[who].incarnation)
        world_fail(world, "%c completes request %" PRIx64 ", which is not waiting there",
                   world_letter(who), completion->handle);
    end(world, slot, LATER, completion->result);
}

void hosts_accept_loss(struct world *world)
{
    memset(world->hosts->replaced, 0, sizeof world->hosts->replaced);
}

void hosts_shipped(struct world *world, uint8_t who, uint64_t handle)
{
    struct slot *slot = &world->hosts->slots[handle & 0xFF];
    if (handle != 0 && slot->waiting && slot->target == who && slot->request.handle == handle)
        slot->shipped = true;
}

void hosts_on_leave(struct world *world, const struct event *event)
{
    struct hosts *hosts = world->hosts;
    struct slot *slot = &hosts->slots[event->index];
    struct controller *controller = &world->controllers[slot->target];
    uint32_t free_ghost = 0;
    while (free_ghost < GHOST_LIMIT && hosts->ghosts[free_ghost].used)
        free_ghost++;
    bool listed = event->stamp == 0; /* a listing does not know the request's number */
    if (!slot->waiting || (!listed && slot->generation != event->stamp) || !controller->running ||
        controller->paused || free_ghost == GHOST_LIMIT)
        return;
    if (world->options.record)
        listing_add(world->options.record, &(struct listing_line){.at_us = world->now_us,
                                                                  .kind = LISTING_LEAVE,
                                                                  .slot = event->index,
                                                                  .array = world->number});
    hosts->ghosts[free_ghost] = (struct ghost){.used = true,
                                               .who = slot->target,
                                               .volume = slot->request.volume,
                                               .handle = slot->request.handle,
                                               .write_id = slot->write_id,
                                               .data = slot->data};
    slot->data = NULL;
    slot->write_id = 0;
    hosts->in_flight[slot->target]++; /* end() counts it down */
    world_trace(world, "host %u/%u leaves its request at %c", slot->host, event->index,
                world_letter(slot->target));
    uint8_t who = slot->target;
    uint64_t handle = slot->request.handle;
    end(world, slot, ORPHANED, HOST_NOT_OWNER);
    array_host_abandon(controller->array, world_clock(world, who), handle);
    world_touch(world, who);
}

void hosts_orphan(struct world *world, uint8_t who)
{
    struct hosts *hosts = world->hosts;
    for (uint32_t i = 0; i < GHOST_LIMIT; i++)
        if (hosts->ghosts[i].used && hosts->ghosts[i].who == who)
            ghost_over(world, &hosts->ghosts[i]);
    for (uint32_t i = 0; i <= SLOT_LIMIT; i++)
        if (hosts->slots[i].waiting && hosts->slots[i].target == who)
            end(world, &hosts->slots[i], ORPHANED, HOST_NOT_OWNER);
}

uint32_t hosts_under_way(const struct world *world, uint8_t group)
{
    uint32_t count = 0;
    uint8_t place;
    for (uint32_t i = 0; i < SLOT_LIMIT; i++) {
        const struct slot *slot = &world->hosts->slots[i];
        count += slot->waiting && !slot->stray &&
                 copies_group_of(world, slot->request.volume, &place) == group;
    }
    for (uint32_t i = 0; i < GHOST_LIMIT; i++) {
        const struct ghost *ghost = &world->hosts->ghosts[i];
        count += ghost->used && copies_group_of(world, ghost->volume, &place) == group;
    }
    return count;
}

uint32_t hosts_waiting(const struct world *world)
{
    const struct hosts *hosts = world->hosts;
    uint32_t count = 0;
    for (uint32_t i = 0; i < GHOST_LIMIT; i++)
        count += hosts->ghosts[i].used;
    for (uint32_t i = 0; i < hosts->slot_count; i++)
        if (hosts->slots[i].waiting || hosts->slots[i].again)
            count++;
    const struct listing *replay = world->options.replay;
    if (replay && replay->line_count > 0 &&
        world->now_us < replay->lines[replay->line_count - 1].at_us)
        count++; /* there are more to come */
    return count;
}

bool hosts_oldest(const struct world *world, char *text, size_t size)
{
    const struct slot *oldest = NULL;
    for (uint32_t i = 0; i <= SLOT_LIMIT; i++) {
        const struct slot *slot = &world->hosts->slots[i];
        if (slot->waiting && (!oldest || slot->since_us < oldest->since_us))
            oldest = slot;
    }
    if (!oldest)
        return false;
    snprintf(text, size,
             "a %s of volume %u at %" PRIu64 "+%" PRIu64 " waits at %c since %" PRIu64 " us",
             op_name[oldest->request.op], oldest->request.volume, oldest->request.offset_bytes,
             oldest->request.length_bytes, world_letter(oldest->target), oldest->since_us);
    return true;
}

void hosts_leave_volume(struct world *world, uint8_t volume)
{
    struct hosts *hosts = world->hosts;
    ships_forget(world, volume);
    for (uint32_t i = 0; i < GHOST_LIMIT; i++) {
        struct ghost *ghost = &hosts->ghosts[i];
        if (!ghost->used || ghost->volume != volume)
            continue;
        if (ghost->write_id != 0)
            oracle_write_unknown(world->oracle, ghost->write_id);
        ghost->write_id = 0;
    }
    for (uint32_t i = 0; i < SLOT_LIMIT; i++) {
        struct slot *slot = &hosts->slots[i];
        if (slot->request.volume != volume)
            continue;
        slot->compare = slot->again = false;
        slot->first_try = 0;
        if (!slot->waiting)
            continue;
        if (slot->write_id != 0)
            oracle_write_unknown(world->oracle, slot->write_id);
        slot->write_id = 0;
        slot->astray = true;
    }
}

void hosts_join_volume(struct world *world, uint8_t volume)
{
    for (uint32_t i = 0; i < SLOT_LIMIT; i++) {
        struct slot *slot = &world->hosts->slots[i];
        if (!slot->waiting || !slot->stray || slot->request.volume != volume)
            continue;
        slot->stray = false;
        slot->astray = slot->request.op == HOST_READ || slot->request.op == HOST_COMPARE_WRITE;
        slot->write_id = slot->stray_id;
        if (slot->write_id != 0)
            oracle_write_revive(world->oracle, slot->write_id);
    }
    for (uint32_t i = 0; i < world->hosts->early_count; i++) {
        const struct oracle_write *write = oracle_write_of(world->oracle, world->hosts->early[i]);
        if (write->never && write->volume == world->oracle_volume[volume])
            oracle_write_revive(world->oracle, world->hosts->early[i]);
    }
    for (uint32_t i = 0; i < world->hosts->early_count; i++) {
        const struct oracle_write *write = oracle_write_of(world->oracle, world->hosts->early[i]);
        if (write->end == UINT64_MAX && write->volume == world->oracle_volume[volume])
            oracle_write_unknown(world->oracle, world->hosts->early[i]);
    }
}

void hosts_verify(struct world *world)
{
    struct hosts *hosts = world->hosts;
    hosts->verifying = true;
    hosts->verified = false;
    hosts->verify_volume = 0;
    hosts->verify_offset = 0;
    turn_at(world, &hosts->slots[SLOT_LIMIT], world->now_us + 1);
}

bool hosts_verified(const struct world *world)
{
    return world->hosts->verified;
}
