/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A controller's life, its pump, and the lists of actions it hands out. All memory is laid out
 * here, once. */

#include "array/internal.h"
#include "base/crc32c.h"

#include <stdarg.h>
#include <stdio.h>

enum { SLOTS_LEAST = 64 };

const char *array_config_check(const struct array_config *config)
{
    if (config->self > 1)
        return "self must be 0 (a) or 1 (b)";
    if (config->incarnation == 0)
        return "incarnation must not be zero";
    if (config->slot_count < SLOTS_LEAST || config->slot_count > 1u << 29)
        return "slot_count must be 64 to 2^29";
    if (config->request_limit == 0 || config->request_limit > 1u << 20)
        return "request_limit must be 1 to 2^20";
    if (config->destage_io_limit == 0 || config->destage_io_limit > 4096)
        return "destage_io_limit must be 1 to 4096";
    if (config->fetch_io_limit == 0 || config->fetch_io_limit > 4096)
        return "fetch_io_limit must be 1 to 4096";
    if (config->dirty_low_percent >= config->dirty_high_percent || config->dirty_high_percent > 90)
        return "dirty_low_percent must be below dirty_high_percent, and that at most 90";
    if (config->lease_ms == 0)
        return "lease_ms must not be zero";
    if (config->volume_count == 0 || config->volume_count > VOLUME_LIMIT)
        return "volume_count must be 1 to 256";
    if (config->store_count == 0 || config->store_count > STORE_LIMIT)
        return "store_count must be 1 to 64";
    for (uint32_t i = 0; i < config->store_count; i++) {
        uint32_t block = config->stores[i].block_size_bytes;
        if (block != SECTOR_SIZE && block != PAGE_SIZE_BYTES)
            return "a store's block size must be 512 or 4096";
    }
    for (uint32_t i = 0; i < config->volume_count; i++) {
        const struct volume_config *volume = &config->volumes[i];
        if (volume->store >= config->store_count || volume->home > 1)
            return "a volume's store and home must exist";
        uint32_t block = config->stores[volume->store].block_size_bytes;
        if (volume->size_bytes == 0 || volume->size_bytes % block ||
            volume->store_offset_bytes % block)
            return "a volume's size and offset must be multiples of its store's block size";
        if (volume->size_bytes / PAGE_SIZE_BYTES >= 1ull << 40)
            return "a volume must be smaller than 2^40 pages";
    }
    return copy_config_check(config);
}

/* Store operations that can be asked for between two pumps: one for each thing that may have one
 * under way. */
static uint32_t store_action_limit(const struct array_config *config)
{
    return destage_run_count(config->destage_io_limit) + STORE_LIMIT + config->fetch_io_limit +
           RANGE_OPS + config->group_count;
}

/* Lays out everything in the arena. While it only measures nothing is written, and NULL is
 * returned. */
static struct array *lay_out(const struct array_config *config, struct arena *arena)
{
    struct slot_table table;
    struct replace replace;
    struct destage destage;
    struct lists lists;
    struct request_pool requests;
    struct fetches fetches;
    slot_table_create(&table, arena, config->slot_count); /* first: its frames are page-aligned */
    struct array *array = arena_array(arena, struct array, 1);
    replace_create(&replace, arena, config->slot_count);
    destage_create(&destage, arena, config->destage_io_limit);
    lists_create(&lists, arena);
    request_pool_create(&requests, arena, config->request_limit);
    stores_create(&fetches, arena, config->fetch_io_limit);
    uint32_t limit = store_action_limit(config);
    struct store_action *store_actions = arena_array(arena, struct store_action, limit);
    struct completion *completions = arena_array(arena, struct completion, config->request_limit);
    uint8_t *states = arena_take(arena, state_bytes_needed(config->volume_count), 64);
    copy_lay_out(array == NULL ? NULL : &array->copy, config, arena);
    if (array == NULL)
        return NULL;
    array->config = *config;
    array->table = table;
    array->replace = replace;
    array->destage = destage;
    array->destage.volumes = array->config.volumes;
    array->destage.store_configs = array->config.stores;
    array->lists = lists;
    array->requests = requests;
    array->fetches = fetches;
    array->store_actions = store_actions;
    array->store_action_limit = limit;
    array->completions = completions;
    state_create(array, states);
    return array;
}

size_t array_memory_size(const struct array_config *config)
{
    CHECK(array_config_check(config) == NULL);
    struct arena arena = arena_over(NULL, 0);
    lay_out(config, &arena);
    return arena.used + PAGE_SIZE_BYTES;
}

/* What both controllers must have in common. */
static uint32_t config_checksum(const struct array_config *config)
{
    uint32_t crc = CRC32C_START;
    for (uint32_t i = 0; i < config->volume_count; i++) {
        const struct volume_config *volume = &config->volumes[i];
        uint8_t bytes[18];
        put_u64(bytes, volume->size_bytes);
        put_u64(bytes + 8, volume->store_offset_bytes);
        bytes[16] = volume->store;
        bytes[17] = volume->home;
        crc = crc32c_more(crc, volume->name, strnlen(volume->name, sizeof volume->name));
        crc = crc32c_more(crc, bytes, sizeof bytes);
    }
    /* Fencing compares one controller's lease with the other's wait. */
    uint8_t times[8];
    put_u32(times, config->lease_ms);
    put_u32(times + 4, config->settle_ms);
    crc = crc32c_more(crc, times, sizeof times);
    return crc32c_end(copy_config_checksum(config, crc));
}

struct array *array_create(const struct array_config *config, void *memory, size_t size,
                           uint64_t now_us)
{
    CHECK(array_config_check(config) == NULL);
    struct arena arena = arena_over(memory, size);
    struct array *array = lay_out(config, &arena);
    array->now_us = now_us;
    array->drained = true;
    array->config_crc = config_checksum(config);
    array->high_slots = (uint32_t)((uint64_t)config->slot_count * config->dirty_high_percent / 100);
    array->low_slots = (uint32_t)((uint64_t)config->slot_count * config->dirty_low_percent / 100);
    array->run = array->room_writes = array->room_reads = array->held = request_queue_empty();
    array->range_wait = array->flush_wait = request_queue_empty();
    array->state_wait = array->move_wait = array->ship_wait = array->hold_wait =
        request_queue_empty();
    for (uint32_t i = 0; i < config->volume_count; i++) {
        const struct volume_config *volume = &array->config.volumes[i];
        array->volumes[i] = (struct volume){
            .config = volume,
            .page_count = (volume->size_bytes + PAGE_SIZE_BYTES - 1) / PAGE_SIZE_BYTES,
            .state = array->volumes[i].state,
            .service_said = ARRAY_UNSERVED,
            .owner = volume->home};
    }
    copy_create(array);
    ship_create(array);
    struct role_config role = {.self = config->self,
                               .incarnation = config->incarnation,
                               .lease_us = (uint64_t)config->lease_ms * 1000,
                               .settle_us = (uint64_t)config->settle_ms * 1000};
    role_init(&array->role, &role, now_us);
    return array;
}

void array_begin(struct array *array, uint64_t now_us)
{
    CHECK(now_us >= array->now_us);
    array->now_us = now_us;
    if (!array->drained)
        return;
    array->drained = false;
    array->actions = (struct actions){.store = array->store_actions,
                                      .completions = array->completions,
                                      .ships = array->ships.actions,
                                      .copies = array->copy.actions,
                                      .group_records = array->copy.records,
                                      .copy_replies = array->copy.replies,
                                      .cuts = array->copy.cut_actions,
                                      .cut_replies = array->copy.cut_replies,
                                      .operators = array->operators,
                                      .log = array->log};
}

void array_log(struct array *array, enum log_level level, const char *format, ...)
{
    struct actions *actions = &array->actions;
    if (actions->log_count == LOG_LINES) {
        array->log_lost++;
        return;
    }
    struct log_line *line = &array->log[actions->log_count++];
    line->level = level;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line->text, sizeof line->text, format, arguments);
    va_end(arguments);
}

void array_store_action(struct array *array, const struct store_action *action)
{
    CHECK(array->actions.store_count < array->store_action_limit);
    array->store_actions[array->actions.store_count++] = *action;
}

void array_reply(struct array *array, uint64_t handle, bool done, const char *text)
{
    struct actions *actions = &array->actions;
    if (actions->operator_count == OPERATOR_REPLIES) {
        array_log(array, LOG_WARNING,
                  "too many operators ask at once: one is left without an answer");
        return;
    }
    struct operator_reply *reply = &array->operators[actions->operator_count++];
    *reply = (struct operator_reply){.handle = handle, .done = done};
    snprintf(reply->text, sizeof reply->text, "%s", text);
}

static void ask_register(struct array *array)
{
    struct role_machine *role = &array->role;
    if (!role->register_busy || role->register_asked)
        return;
    role->register_asked = true;
    array->actions.register_wanted = true;
    array->actions.reg =
        (struct register_action){.swap = role->swap != SWAP_NONE && !role->swap_unknown,
                                 .expected = role->expected,
                                 .wanted = role->wanted};
}

static uint64_t next_deadline(const struct array *array)
{
    if (array->run.count > 0 || array->role.orders != 0)
        return array->now_us;
    uint64_t deadline = min_u64(role_deadline(&array->role), link_deadline(array));
    deadline = min_u64(deadline, ship_deadline(array));
    if (role_may_serve(&array->role, array->now_us))
        deadline = min_u64(deadline, stores_deadline(array));
    bool waiting = array->refill.state == REFILL_CLOSING || array->refill.state == REFILL_SENDING ||
                   array->stopping || array->drop_pending;
    for (uint32_t i = 0; i < array->config.volume_count && !waiting; i++)
        waiting = array->volumes[i].move != MOVE_NONE;
    if (array->config.group_count > 0)
        deadline = min_u64(min_u64(deadline, copy_deadline(array)), copy_second_deadline(array));
    return waiting ? min_u64(deadline, array->now_us + 1000) : deadline;
}

const struct actions *array_pump(struct array *array, uint64_t now_us)
{
    array_begin(array, now_us);
    role_tick(&array->role, now_us);
    duty_orders(array);
    ship_resume(array);
    host_pump(array);
    duty_pump(array);
    duty_orders(array);
    copy_second_pump(array);
    copy_pump(array);
    host_pump(array);
    stores_pump(array);
    ship_pump(array);
    link_pump(array);
    ask_register(array);
    state_pump(array);
    array->actions.deadline_us = next_deadline(array);
    array->drained = true;
    return &array->actions;
}

void array_on_register(struct array *array, uint64_t now_us, enum register_result result,
                       const struct register_record *record)
{
    array_begin(array, now_us);
    TRACE(array, "register result %d", (int)result);
    role_on_register(&array->role, now_us, result, record);
}

void array_on_peer_gone(struct array *array, uint64_t now_us, uint64_t incarnation)
{
    array_begin(array, now_us);
    TRACE(array, "peer gone");
    role_on_peer_gone(&array->role, now_us, incarnation);
}

void array_on_warden(struct array *array, uint64_t now_us, bool answers)
{
    array_begin(array, now_us);
    role_on_warden(&array->role, now_us, answers);
}
