/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See disks.h. A write lands (changes what reads find) at some instant within rates.land_limit_us
 * of its submission, in one piece or torn in two, whether or not its controller still lives; its
 * end is reported later. What lands stands in the store's own cache until a flush. Every submission
 * and every landing is held against the fence: a controller whose peer has served alone in a later
 * epoch may do neither. */

#include "sim/disks.h"

#include "sim/cuts.h"
#include "sim/focus.h"
#include "sim/wires.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void disks_create(struct world *world)
{
    bool power = world->rates.mean_us[FAULT_POWER] > 0;
    for (uint32_t s = 0; s < world->config.store_count; s++) {
        struct disk *disk = &world->disks[s];
        uint32_t block = world->config.stores[s].block_size_bytes;
        disk->size = (disk->size + block) / block * block;
        disk->content = calloc(1, disk->size);
        CHECK(disk->content != NULL);
        if (power) {
            disk->durable = calloc(1, disk->size);
            CHECK(disk->durable != NULL);
        }
    }
}

static void operation_free(struct operation *operation)
{
    free(operation->data);
    free(operation->iov);
    *operation = (struct operation){.used = false};
}

void disks_destroy(struct world *world)
{
    for (uint32_t i = 0; i < world->operation_room; i++)
        if (world->operations[i].used)
            operation_free(&world->operations[i]);
    free(world->operations);
    for (uint32_t s = 0; s < world->config.store_count; s++) {
        struct disk *disk = &world->disks[s];
        for (uint64_t i = 0; i < disk->log_count; i++)
            free(disk->log[i].data);
        free(disk->log);
        free(disk->content);
        free(disk->durable);
    }
}

static uint32_t operation_take(struct world *world)
{
    uint32_t i = 0;
    while (i < world->operation_room && world->operations[i].used)
        i++;
    if (i == world->operation_room)
        world->operations =
            world_grow(world->operations, &world->operation_room, sizeof *world->operations, 64);
    world->operations[i].used = true;
    return i;
}

static bool is_change(enum store_op op)
{
    return op == STORE_WRITE || op == STORE_ZERO || op == STORE_TRIM;
}

static const char *op_name(enum store_op op)
{
    static const char *const name[] = {"read", "write", "flush", "zero", "trim"};
    return name[op];
}

/* The volume that the range lies in; NO_INDEX when it does not lie within one. */
static uint32_t volume_of(const struct world *world, const struct store_action *action)
{
    for (uint32_t v = 0; v < world->config.volume_count; v++) {
        const struct volume_config *volume = &world->config.volumes[v];
        if (volume->store == action->store && action->offset_bytes >= volume->store_offset_bytes &&
            action->offset_bytes + action->length_bytes <=
                volume->store_offset_bytes + volume->size_bytes)
            return v;
    }
    return NO_INDEX;
}

static uint64_t iov_sum(const struct store_action *action)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < action->iov_count; i++)
        sum += action->iov[i].iov_len;
    return sum;
}

static bool overlaps(const struct store_action *a, const struct store_action *b)
{
    return a->store == b->store && a->offset_bytes < b->offset_bytes + b->length_bytes &&
           b->offset_bytes < a->offset_bytes + a->length_bytes;
}

/* What array.h and backend.h promise about every operation. */
static void check_action(struct world *world, uint8_t who, const struct store_action *action)
{
    const char *name = op_name(action->op);
    if (action->store >= world->config.store_count)
        world_fail(world, "%c asks for store %u, which is not there", world_letter(who),
                   action->store);
    for (uint32_t i = 0; i < world->operation_room; i++) {
        const struct operation *other = &world->operations[i];
        if (other->used && other->who == who &&
            other->incarnation == world->controllers[who].incarnation &&
            other->action.io == action->io)
            world_fail(world, "%c uses io number %u twice", world_letter(who), action->io);
        if (other->used && other->who == who &&
            other->incarnation == world->controllers[who].incarnation && is_change(action->op) &&
            is_change(other->action.op) && overlaps(&other->action, action))
            world_fail(world,
                       "%c asks for a %s of %" PRIu64 "+%" PRIu64
                       " beside a %s that is under way there",
                       world_letter(who), name, action->offset_bytes, action->length_bytes,
                       op_name(other->action.op));
    }
    if (action->op == STORE_FLUSH)
        return;
    uint32_t block = world->config.stores[action->store].block_size_bytes;
    if (action->offset_bytes % block || action->length_bytes % block || action->length_bytes == 0)
        world_fail(world, "%c asks for a %s of %" PRIu64 "+%" PRIu64 ", not in blocks of %u",
                   world_letter(who), name, action->offset_bytes, action->length_bytes, block);
    if (volume_of(world, action) == NO_INDEX)
        world_fail(world, "%c asks for a %s of %" PRIu64 "+%" PRIu64 ", outside every volume",
                   world_letter(who), name, action->offset_bytes, action->length_bytes);
    if (action->op == STORE_TRIM && !world->config.stores[action->store].can_zero)
        world_fail(world, "%c trims a store that cannot", world_letter(who));
    if (action->op != STORE_READ && action->op != STORE_WRITE)
        return;
    if (iov_sum(action) != action->length_bytes || action->length_bytes > STORE_IO_BYTES)
        world_fail(world, "%c asks for a %s of %" PRIu64 " bytes with %" PRIu64 " in its iov",
                   world_letter(who), name, action->length_bytes, iov_sum(action));
    struct controller *controller = &world->controllers[who];
    /* And each group may be zeroing a promoted range. */
    if (controller->writes_in_flight > world->config.destage_io_limit + world->config.group_count ||
        controller->reads_in_flight > world->config.fetch_io_limit)
        world_fail(world, "%c has %u store writes and %u store reads in flight", world_letter(who),
                   controller->writes_in_flight, controller->reads_in_flight);
}

/* No write of a controller that another has replaced, neither submitted nor landing. */
static void check_fence(struct world *world, uint8_t who, uint64_t epoch,
                        const struct store_action *action, const char *what)
{
    const struct controller *other = &world->controllers[!who];
    if (!is_change(action->op))
        return;
    if (epoch < other->solo_epoch)
        world_fail(world,
                   "a store %s of %c, of epoch %" PRIu64
                   ", %s after %c served alone in epoch %" PRIu64,
                   op_name(action->op), world_letter(who), epoch, what, world_letter(!who),
                   other->solo_epoch);
    const struct controller *self = &world->controllers[who];
    uint8_t volume = (uint8_t)volume_of(world, action);
    if (self->running && self->role == ROLE_PAIRED && world_serves(world, !who, volume) &&
        !other->moving[volume])
        world_fail(world, "a store %s of %c %s, but %c serves volume %u", op_name(action->op),
                   world_letter(who), what, world_letter(!who), volume);
}

/* When it lands and when it ends, both from now. */
static void draw_times(struct world *world, struct operation *operation, uint64_t *end_us)
{
    struct rates *rates = &world->rates;
    struct generator *latency = &world->latency;
    const struct disk *disk = &world->disks[operation->action.store];
    uint64_t typical = operation->action.op == STORE_READ    ? rates->read_us
                       : operation->action.op == STORE_FLUSH ? rates->flush_us
                                                             : rates->write_us;
    uint64_t land = 1 + generator_below(latency, typical * 2);
    if (rates->late && !world->healing && generator_chance(latency, 1, 8))
        land = 1 + generator_below(latency, rates->land_limit_us);
    land = min_u64(land, rates->land_limit_us);
    uint64_t end = land + generator_below(latency, typical + 1);
    if (world->now_us < disk->slow_until_us)
        end += generator_below(latency, 300000);
    operation->land_us = world->now_us + land;
    *end_us = world->now_us + end;
}

static void copy_out(const struct operation *operation, uint8_t *to)
{
    for (uint32_t i = 0; i < operation->action.iov_count; i++) {
        memcpy(to, operation->iov[i].iov_base, operation->iov[i].iov_len);
        to += operation->iov[i].iov_len;
    }
}

void disks_submit(struct world *world, uint8_t who, const struct store_action *action)
{
    struct controller *controller = &world->controllers[who];
    if (action->op == STORE_READ)
        controller->reads_in_flight++;
    if (action->op == STORE_WRITE)
        controller->writes_in_flight++;
    check_action(world, who, action);
    world->count.store_operations++;
    uint32_t index = operation_take(world);
    struct operation *operation = &world->operations[index];
    operation->who = who;
    operation->incarnation = controller->incarnation;
    operation->epoch = controller->epoch;
    operation->action = *action;
    operation->log_entry = UINT64_MAX;
    operation->done_sequence = world->disks[action->store].done_sequence;
    if (action->iov_count > 0 && (action->op == STORE_READ || action->op == STORE_WRITE)) {
        operation->iov = malloc(action->iov_count * sizeof *operation->iov);
        operation->data = malloc(action->length_bytes);
        CHECK(operation->iov != NULL);
        CHECK(operation->data != NULL);
        memcpy(operation->iov, action->iov, action->iov_count * sizeof *operation->iov);
        if (action->op == STORE_WRITE)
            copy_out(operation, operation->data);
    }
    world_trace(world, "%c store %u %s %" PRIu64 "+%" PRIu64 " io %u", world_letter(who),
                action->store, op_name(action->op), action->offset_bytes, action->length_bytes,
                action->io);
    if (world_clock(world, who) > action->not_after_us) {
        operation->result = STORE_NOT_SENT;
        operation->landed = true;
        world_event(world, world->now_us, EVENT_STORE_END, who, index, operation->incarnation);
        return;
    }
    check_fence(world, who, operation->epoch, action, "is submitted");
    if (world->options.fail_store == world->count.store_operations) {
        operation->result = STORE_ERROR;
        world->errors_injected++;
        world_trace(world, "  which will fail");
    }
    operation->torn = action->op == STORE_WRITE &&
                      generator_chance(&world->latency, world->rates.torn_percent, 100);
    uint64_t end_us;
    draw_times(world, operation, &end_us);
    world_event(world, operation->torn ? world->now_us + 1 : operation->land_us, EVENT_STORE_APPLY,
                2, index, operation->incarnation);
    world_event(world, end_us, EVENT_STORE_END, who, index, operation->incarnation);
}

/* ---- landing ---- */

static bool in_error(const struct world *world, const struct operation *operation)
{
    const struct disk *disk = &world->disks[operation->action.store];
    const struct store_action *action = &operation->action;
    if (world->now_us >= disk->error_until_us)
        return false;
    if (action->op == STORE_FLUSH)
        return disk->error_from == 0 && disk->error_to == disk->size;
    if (action->op == STORE_READ && !disk->error_reads)
        return false;
    return action->offset_bytes < disk->error_to &&
           action->offset_bytes + action->length_bytes > disk->error_from;
}

/* What lands is entered in the store's log, to be lost with its power until it is flushed. */
static void log_write(struct disk *disk, const struct operation *operation, uint64_t at,
                      uint64_t length)
{
    if (!disk->durable)
        return;
    if (disk->log_count == disk->log_room) {
        disk->log_room = disk->log_room ? disk->log_room * 2 : 64;
        disk->log = realloc(disk->log, disk->log_room * sizeof *disk->log);
        CHECK(disk->log != NULL);
    }
    uint8_t *data = calloc(1, length);
    CHECK(data != NULL);
    if (operation->data)
        memcpy(data, operation->data + at, length);
    disk->log[disk->log_count++] = (struct unflushed){.number = operation->log_entry,
                                                      .done_sequence = UINT64_MAX,
                                                      .offset = operation->action.offset_bytes + at,
                                                      .length = length,
                                                      .data = data,
                                                      .who = operation->who,
                                                      .incarnation = operation->incarnation};
}

/* Who serves alone reads nothing that a former owner wrote before that and nobody has flushed: a
 * host would see it, and a loss of power would take it back. */
static void check_read(struct world *world, const struct operation *operation)
{
    const struct controller *reader = &world->controllers[operation->who];
    const struct disk *disk = &world->disks[operation->action.store];
    const struct store_action *action = &operation->action;
    if (!reader->running || reader->incarnation != operation->incarnation ||
        reader->role != ROLE_SOLO || reader->epoch != operation->epoch)
        return;
    for (uint64_t i = 0; i < disk->log_count; i++) {
        const struct unflushed *entry = &disk->log[i];
        if (entry->incarnation != operation->incarnation &&
            entry->done_sequence <= reader->solo_done[action->store] &&
            entry->offset < action->offset_bytes + action->length_bytes &&
            entry->offset + entry->length > action->offset_bytes)
            world_fail(world,
                       "%c serves alone and reads %" PRIu64 "+%" PRIu64
                       " of store %u, which a former owner wrote and nobody flushed",
                       world_letter(operation->who), action->offset_bytes, action->length_bytes,
                       action->store);
    }
}

const uint8_t *disks_durable(const struct world *world, uint8_t volume, uint64_t offset)
{
    const struct volume_config *config = &world->config.volumes[volume];
    const struct disk *disk = &world->disks[config->store];
    return (disk->durable ? disk->durable : disk->content) + config->store_offset_bytes + offset;
}

static void land_part(struct world *world, const struct operation *operation, uint64_t at,
                      uint64_t length)
{
    struct disk *disk = &world->disks[operation->action.store];
    if (world->cuts)
        cuts_landed(world, operation->action.store, operation->action.offset_bytes + at, length,
                    operation->data ? operation->data + at : NULL);
    uint8_t *to = disk->content + operation->action.offset_bytes + at;
    if (operation->data)
        memcpy(to, operation->data + at, length);
    else
        memset(to, 0, length);
    log_write(disk, operation, at, length);
}

/* Sector by sector; `some`: each with one chance in two. */
static void land(struct world *world, struct operation *operation, bool some)
{
    struct disk *disk = &world->disks[operation->action.store];
    uint64_t length = operation->action.length_bytes;
    operation->log_entry = ++disk->next_number;
    if (!some) {
        land_part(world, operation, 0, length);
        return;
    }
    for (uint64_t at = 0; at < length; at += SECTOR_SIZE)
        if (generator_chance(&world->latency, 1, 2))
            land_part(world, operation, at, SECTOR_SIZE);
}

/* The first `count` entries of the log become durable. */
static void flush_first(struct disk *disk, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        memcpy(disk->durable + disk->log[i].offset, disk->log[i].data, disk->log[i].length);
        free(disk->log[i].data);
    }
    disk->log_count -= count;
    if (disk->log_count > 0 && count > 0)
        memmove(disk->log, disk->log + count, disk->log_count * sizeof *disk->log);
}

/* Everything up to the last write that was reported done before the flush began becomes durable. */
static void flush(struct disk *disk, uint64_t done_sequence)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < disk->log_count; i++)
        if (disk->log[i].done_sequence <= done_sequence)
            count = i + 1;
    flush_first(disk, count);
}

static void apply_change(struct world *world, struct operation *operation, uint32_t index)
{
    if (operation->torn) {
        operation->torn = false;
        check_fence(world, operation->who, operation->epoch, &operation->action, "lands");
        land(world, operation, true);
        world_event(world, operation->land_us, EVENT_STORE_APPLY, 2, index, operation->incarnation);
        return;
    }
    operation->landed = true;
    check_fence(world, operation->who, operation->epoch, &operation->action, "lands");
    if (operation->result != STORE_DONE) {
        land(world, operation, true);
        return;
    }
    land(world, operation, false);
}

void disks_on_apply(struct world *world, uint32_t index)
{
    struct operation *operation = &world->operations[index];
    struct disk *disk = &world->disks[operation->action.store];
    if (!operation->used || operation->landed)
        return;
    if (operation->result == STORE_DONE && in_error(world, operation)) {
        operation->result =
            disk->error_space && is_change(operation->action.op) ? STORE_NO_SPACE : STORE_ERROR;
        world->errors_injected++;
    }
    if (is_change(operation->action.op)) {
        apply_change(world, operation, index);
        if (operation->action.op != STORE_WRITE)
            focus_at(world, operation->who, MOMENT_ZEROED);
        return;
    }
    operation->landed = true;
    if (operation->action.op == STORE_READ) {
        check_read(world, operation);
        memcpy(operation->data, disk->content + operation->action.offset_bytes,
               operation->action.length_bytes);
        if (operation->result != STORE_DONE)
            memset(operation->data, 0xEE, operation->action.length_bytes);
        return;
    }
    if (disk->flush_lies[operation->who] && operation->result == STORE_DONE) {
        disk->flush_lies[operation->who] = false;
        operation->result = STORE_ERROR;
        world->errors_injected++;
    }
    if (operation->result == STORE_DONE && disk->durable)
        flush(disk, operation->done_sequence);
}

/* ---- ending ---- */

/* The kernel is done with it; whoever waits for the end of a dead controller's operations may hear
 * of it. */
static void over(struct world *world, struct operation *operation)
{
    struct controller *controller = &world->controllers[operation->who];
    struct disk *disk = &world->disks[operation->action.store];
    operation->over = true;
    /* One that failed may have landed in part: a flush that begins from now on covers that, too. */
    if (operation->log_entry != UINT64_MAX)
        for (uint64_t i = 0; i < disk->log_count; i++)
            if (disk->log[i].number == operation->log_entry)
                disk->log[i].done_sequence = ++disk->done_sequence;
    if (controller->running && controller->incarnation == operation->incarnation)
        return;
    CHECK(controller->last_dead_ops > 0);
    if (--controller->last_dead_ops == 0 && controller->last_dead_provable)
        wires_prove(world, operation->who, operation->incarnation);
}

bool disks_on_end(struct world *world, uint32_t index)
{
    struct operation *operation = &world->operations[index];
    CHECK(operation->used);
    uint8_t who = operation->who;
    struct controller *controller = &world->controllers[who];
    if (!operation->over && !operation->landed)
        disks_on_apply(world, index); /* a torn one whose second half is due now */
    if (!operation->over && !operation->landed)
        disks_on_apply(world, index);
    if (!operation->over)
        over(world, operation);
    if (!controller->running || controller->incarnation != operation->incarnation) {
        operation_free(operation);
        return true;
    }
    if (controller->paused)
        return false;
    const struct store_action *action = &operation->action;
    if (action->op == STORE_WRITE) {
        uint8_t *now = malloc(action->length_bytes);
        CHECK(now != NULL);
        copy_out(operation, now);
        bool same = memcmp(now, operation->data, action->length_bytes) == 0;
        free(now);
        if (!same)
            world_fail(world, "%c changed bytes that a store write was carrying (io %u)",
                       world_letter(who), action->io);
        controller->writes_in_flight--;
    }
    if (action->op == STORE_READ) {
        uint64_t at = 0;
        for (uint32_t i = 0; i < action->iov_count && operation->result != STORE_NOT_SENT; i++) {
            memcpy(operation->iov[i].iov_base, operation->data + at, operation->iov[i].iov_len);
            at += operation->iov[i].iov_len;
        }
        controller->reads_in_flight--;
    }
    if (operation->result != STORE_DONE)
        world_trace(world, "%c store io %u ends with result %d", world_letter(who), action->io,
                    operation->result);
    uint32_t io = action->io;
    enum store_result result = operation->result;
    operation_free(operation);
    array_on_store(controller->array, world_clock(world, who), io, result);
    world_touch(world, who);
    return true;
}

void disks_orphan(struct world *world, uint8_t who)
{
    struct controller *controller = &world->controllers[who];
    controller->last_dead_ops = 0;
    for (uint32_t i = 0; i < world->operation_room; i++) {
        struct operation *operation = &world->operations[i];
        if (!operation->used || operation->who != who ||
            operation->incarnation != controller->incarnation || operation->over)
            continue;
        controller->last_dead_ops++;
        if (!operation->landed && generator_chance(&world->latency, 1, 3))
            operation->landed = true; /* it never will be: the bytes did not leave the machine */
    }
}

void disks_lose_power(struct world *world, uint8_t store)
{
    struct disk *disk = &world->disks[store];
    if (!disk->durable)
        return;
    world_trace(world, "store %u loses its power, with %" PRIu64 " writes not flushed", store,
                disk->log_count);
    for (uint64_t i = 0; i < disk->log_count; i++) {
        struct unflushed *entry = &disk->log[i];
        for (uint64_t at = 0; at < entry->length; at += SECTOR_SIZE)
            if (generator_chance(&world->latency, 1, 2))
                memcpy(disk->durable + entry->offset + at, entry->data + at, SECTOR_SIZE);
        disk->flush_lies[entry->who] = true;
    }
    /* Elsewhere the two are the same. */
    for (uint64_t i = 0; i < disk->log_count; i++) {
        struct unflushed *entry = &disk->log[i];
        memcpy(disk->content + entry->offset, disk->durable + entry->offset, entry->length);
        free(entry->data);
    }
    disk->log_count = 0;
    for (uint32_t i = 0; i < world->operation_room; i++) {
        struct operation *operation = &world->operations[i];
        if (!operation->used || operation->action.store != store || operation->over ||
            operation->result == STORE_NOT_SENT)
            continue;
        operation->result = STORE_ERROR;
        world->errors_injected++;
        if (operation->action.op == STORE_FLUSH)
            disk->flush_lies[operation->who] = false; /* an error is told once: to this one */
    }
}
