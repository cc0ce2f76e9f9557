/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The smallest world in which two controllers can be a pair: two stores in memory, a register that
 * is a variable, a link that copies, and time that moves only when a test says so. A test may hold
 * or fail any of them. After every step both controllers' array_check() must find nothing. */

#ifndef TESTS_PAIR_H
#define TESTS_PAIR_H

#include "array/array.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "mirror/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum {
    A,
    B,
    PAIR,
    STORES = 2,
    STORE_BYTES = 16 << 20,
    VOLUME_BYTES = 4 << 20,
    PAGE = PAGE_SIZE_BYTES,
    V_A = 0,      /* of a, on the store with blocks of 512 bytes */
    V_BLOCKS = 1, /* of a, on the store with blocks of 4096 bytes */
    V_B = 2,      /* of b; its last page has five sectors */
    V_SAFE = 3,   /* of a, flush = destage */
    VOLUMES = 4,
    OPS = 8192,
    REQUESTS = 4096,
    MESSAGE_BYTES = 1 << 23,
};

struct seen {
    bool complete;
    enum host_result result;
    uint64_t detail;
    uint8_t *data;
};

/* A step that one side has shipped to the other. */
struct shipment {
    bool used, runs, answered;
    struct ship_action action;
    enum host_result result;
    uint64_t detail;
};

enum { SHIPMENTS = 512, SHIPPED_HANDLE = 1 << 30 };

struct side {
    struct array *array;
    void *memory;
    bool dead;
    bool hold_store, hold_link, hold_register; /* what it asks for is kept, and not done */
    uint32_t op_count;
    struct store_action ops[OPS];
    bool register_due;
    struct register_action reg;
    bool up_due, down_due;
    bool status_due, status_good;
    bool hold_status; /* the answer to what it has sent is kept */
    bool message_due; /* one for this controller, from its peer */
    uint8_t buffer_id;
    uint32_t message_bytes, most_bytes; /* most: of all that came */
    uint8_t *message;
    bool stopped, fence_asked;
    bool hold_ships, hold_answers; /* what it has shipped is kept; the answers to it are */
    uint32_t ships_sent, ships_reset;
    struct shipment shipments[SHIPMENTS];
    uint64_t changed;
    uint32_t batches_sent;
    uint32_t operator_done, operator_refused;
    char operator_text[TRACE_LINE];
    bool hold_records, fail_records; /* what a group asks to be kept is; else it is at once */
    struct kept_record {
        bool due, there;
        uint8_t *fresh, *bytes;
        uint32_t fresh_bytes, length_bytes;
    } records[GROUP_LIMIT];
    char refused_why[TRACE_LINE]; /* the last "refused a batch" */
};

struct pair_world {
    struct array_config config;
    struct side side[PAIR];
    struct register_record record;
    uint8_t *store[STORES];
    enum store_result answer[STORE_TRIM + 1]; /* for each store_op */
    uint32_t asked[STORE_TRIM + 1];
    uint64_t now_us;
    uint32_t request_count;
    /* The remote copy's second array, when a test has one: takes what a side gives it; and lets
     * happen what is due, true when something did. */
    void (*copies)(int self, const struct actions *actions);
    bool (*copy_step)(int self);
    bool (*store_later)(void); /* whether a store operation waits, and others pass it */
    uint32_t session;          /* the newest one that carries ships */
    bool ships;                /* else requests to the other controller's volumes are refused */
    struct seen seen[REQUESTS];
};

/* A test may have several of them, and works on one at a time: pair_use(). */
#ifndef PAIRS_WANTED
#define PAIRS_WANTED 2
#endif
enum { PAIRS = PAIRS_WANTED };
static struct pair_world pair_worlds[PAIRS], *pair_used = &pair_worlds[0];
#define pair (*pair_used)

static inline void pair_use(int which)
{
    pair_used = &pair_worlds[which];
}

static inline void pair_defaults(void)
{
    memset(&pair, 0, sizeof pair);
    pair.now_us = 1000000;
    struct array_config *config = &pair.config;
    *config = (struct array_config){.seed = 1,
                                    .slot_count = 128,
                                    .request_limit = 256,
                                    .destage_io_limit = 4,
                                    .fetch_io_limit = 4,
                                    .dirty_low_percent = 40,
                                    .dirty_high_percent = 75,
                                    .destage_after_ms = 5000,
                                    .lease_ms = 1000,
                                    .settle_ms = 100,
                                    .volume_count = VOLUMES,
                                    .store_count = STORES};
    for (uint32_t i = 0; i < VOLUMES; i++) {
        config->volumes[i].size_bytes = VOLUME_BYTES;
        config->volumes[i].store_offset_bytes = i * (uint64_t)VOLUME_BYTES;
        snprintf(config->volumes[i].name, VOLUME_NAME_SIZE, "v%u", i);
    }
    config->volumes[V_BLOCKS].store = 1;
    config->volumes[V_B].home = 1;
    config->volumes[V_B].size_bytes = VOLUME_BYTES - 3 * SECTOR_SIZE;
    config->volumes[V_SAFE].flush_destage = true;
    config->stores[0] = (struct store_config){.block_size_bytes = 512, .can_zero = true};
    config->stores[1] = (struct store_config){.block_size_bytes = 4096, .can_zero = true};
}

/* A start of one controller; a second call is its next start, with nothing in memory. */
static inline void pair_create_side(int self)
{
    static uint64_t starts = 1000;
    struct side *side = &pair.side[self];
    struct array_config config = pair.config;
    config.self = (uint8_t)self;
    config.incarnation = starts += 1000;
    assert_null(array_config_check(&config));
    size_t size = array_memory_size(&config);
    size = (size + PAGE - 1) / PAGE * PAGE;
    free(side->memory);
    free(side->message);
    struct kept_record records[GROUP_LIMIT];
    memcpy(records, side->records, sizeof records);
    *side = (struct side){.memory = aligned_alloc(PAGE, size), .message = malloc(MESSAGE_BYTES)};
    memcpy(side->records, records, sizeof records);
    memset(side->memory, 0, size);
    side->array = array_create(&config, side->memory, size, pair.now_us);
    for (uint8_t i = 0; i < config.group_count; i++) {
        side->records[i].due = false;
        if (records[i].there)
            array_load_group(side->array, i, records[i].bytes, records[i].length_bytes);
    }
}

static inline void pair_create(void)
{
    for (int i = 0; i < STORES; i++)
        pair.store[i] = calloc(1, STORE_BYTES);
    for (int self = A; self < PAIR; self++)
        pair_create_side(self);
}

static inline int pair_destroy(void **state)
{
    (void)state;
    for (int i = 0; i < STORES; i++)
        free(pair.store[i]);
    for (int self = A; self < PAIR; self++) {
        free(pair.side[self].memory);
        free(pair.side[self].message);
        for (int i = 0; i < GROUP_LIMIT; i++) {
            free(pair.side[self].records[i].fresh);
            free(pair.side[self].records[i].bytes);
        }
    }
    for (uint32_t i = 0; i < pair.request_count; i++)
        free(pair.seen[i].data);
    memset(&pair, 0, sizeof pair);
    return 0;
}

static inline void store_move(const struct store_action *op)
{
    uint64_t at = op->offset_bytes;
    uint32_t block = pair.config.stores[op->store].block_size_bytes;
    if (op->op == STORE_FLUSH)
        return;
    assert_int_equal(op->offset_bytes % block, 0);
    assert_int_equal(op->length_bytes % block, 0);
    assert_true(op->offset_bytes + op->length_bytes <= STORE_BYTES);
    if (op->op == STORE_ZERO || op->op == STORE_TRIM)
        memset(pair.store[op->store] + at, 0, op->length_bytes);
    for (uint32_t i = 0; i < op->iov_count && op->op <= STORE_WRITE; at += op->iov[i++].iov_len) {
        if (op->op == STORE_READ)
            memcpy(op->iov[i].iov_base, pair.store[op->store] + at, op->iov[i].iov_len);
        else
            memcpy(pair.store[op->store] + at, op->iov[i].iov_base, op->iov[i].iov_len);
    }
}

/* Ends the store operations that are under way, in the order in which they were asked for. */
static inline void store_answer(int self)
{
    struct side *side = &pair.side[self];
    static struct store_action ops[OPS];
    uint32_t count = side->op_count;
    memcpy(ops, side->ops, count * sizeof ops[0]);
    side->op_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        enum store_result result = pair.answer[ops[i].op];
        if (pair.store_later != NULL && pair.store_later()) {
            side->ops[side->op_count++] = ops[i];
            continue;
        }
        if (result == STORE_DONE)
            store_move(&ops[i]);
        array_on_store(side->array, pair.now_us, ops[i].io, result);
    }
}

static inline void register_answer(struct side *side)
{
    bool differs = side->reg.swap && !register_equal(&pair.record, &side->reg.expected);
    if (side->reg.swap && !differs)
        pair.record = side->reg.wanted;
    side->register_due = false;
    array_on_register(side->array, pair.now_us, differs ? REGISTER_CONFLICT : REGISTER_OK,
                      &pair.record);
}

static inline void records_take(struct side *side, const struct actions *actions)
{
    for (uint32_t i = 0; i < actions->group_record_count; i++) {
        const struct group_record *record = &actions->group_records[i];
        struct kept_record *kept = &side->records[record->group];
        assert_false(kept->due);
        kept->due = true;
        free(kept->fresh);
        kept->fresh = malloc(record->length_bytes);
        kept->fresh_bytes = record->length_bytes;
        memcpy(kept->fresh, record->bytes, record->length_bytes);
    }
}

static inline bool records_step(struct side *side)
{
    bool more = false;
    for (uint8_t i = 0; i < GROUP_LIMIT && !side->hold_records; i++) {
        struct kept_record *kept = &side->records[i];
        if (!kept->due)
            continue;
        kept->due = false;
        more = true;
        if (!side->fail_records) {
            free(kept->bytes);
            kept->bytes = kept->fresh;
            kept->length_bytes = kept->fresh_bytes;
            kept->fresh = NULL;
            kept->there = true;
        }
        array_on_group_record_kept(side->array, pair.now_us, i, !side->fail_records);
    }
    return more;
}

static inline void take_log(struct side *side, const struct actions *actions)
{
    for (uint32_t i = 0; i < actions->log_count; i++) {
        const char *refused = strstr(actions->log[i].text, "refused a batch: ");
        if (refused != NULL)
            snprintf(side->refused_why, sizeof side->refused_why, "%s", refused + 17);
    }
}

static inline void send(int self, const struct send_action *send)
{
    struct side *side = &pair.side[self], *peer = &pair.side[self ^ 1];
    side->batches_sent += send->buffer_id == MESSAGE_BATCH;
    if (peer->dead)
        return;
    assert_false(peer->message_due);
    assert_true(send->length_bytes <= MESSAGE_BYTES);
    uint32_t at = 0;
    for (uint32_t i = 0; i < send->iov_count; at += (uint32_t)send->iov[i++].iov_len)
        memcpy(peer->message + at, send->iov[i].iov_base, send->iov[i].iov_len);
    assert_int_equal(at, send->length_bytes);
    peer->message_due = true;
    peer->buffer_id = send->buffer_id;
    peer->message_bytes = at;
    peer->most_bytes = max_u32(peer->most_bytes, at);
}

static inline void ship_answered(int self, uint64_t handle, enum host_result result,
                                 uint64_t detail)
{
    struct shipment *shipment = &pair.side[self ^ 1].shipments[handle - SHIPPED_HANDLE];
    assert_true(shipment->used && shipment->runs);
    shipment->answered = true;
    shipment->result = result;
    shipment->detail = detail;
}

/* What `self` has shipped arrives at the other side; what has been answered comes back. */
static inline bool ships_step(int self)
{
    struct side *side = &pair.side[self], *peer = &pair.side[self ^ 1];
    bool more = false;
    for (uint32_t i = 0; i < SHIPMENTS; i++) {
        struct shipment *shipment = &side->shipments[i];
        if (shipment->used && !shipment->runs && !side->hold_ships && !peer->dead) {
            shipment->runs = more = true;
            struct host_request request = shipment->action.request;
            request.handle = SHIPPED_HANDLE + i;
            request.flags |= HOST_SHIPPED;
            request.tag = shipment->action.tag;
            struct host_outcome outcome = array_host(peer->array, pair.now_us, &request);
            if (outcome.complete)
                ship_answered(self ^ 1, request.handle, outcome.result, outcome.detail);
        }
        if (shipment->used && shipment->answered && !side->hold_answers) {
            shipment->used = false;
            more = true;
            array_on_shipped(side->array, pair.now_us, shipment->action.tag, shipment->result,
                             shipment->detail);
        }
    }
    return more;
}

static inline bool side_perform(int self, const struct actions *actions)
{
    struct side *side = &pair.side[self];
    for (uint32_t i = 0; i < actions->store_count; i++) {
        assert_true(side->op_count < OPS);
        pair.asked[actions->store[i].op]++;
        side->ops[side->op_count++] = actions->store[i];
    }
    if (actions->register_wanted) {
        side->reg = actions->reg;
        side->register_due = true;
    }
    if (actions->reply_wanted) {
        pair.side[self ^ 1].status_due = true;
        pair.side[self ^ 1].status_good = actions->reply_good;
    }
    if (actions->send_wanted)
        send(self, &actions->send);
    if (actions->link_reset)
        side->down_due = side->up_due = true;
    for (uint32_t i = 0; i < actions->completion_count; i++) {
        const struct completion *completion = &actions->completions[i];
        if (completion->handle >= SHIPPED_HANDLE) {
            ship_answered(self, completion->handle, completion->result, completion->detail);
            continue;
        }
        struct seen *seen = &pair.seen[completion->handle];
        assert_false(seen->complete);
        seen->detail = completion->detail;
        seen->complete = true;
        seen->result = actions->completions[i].result;
    }
    for (uint32_t i = 0; i < actions->ship_count; i++) {
        uint32_t at = 0;
        while (side->shipments[at].used)
            at++;
        side->shipments[at] = (struct shipment){.used = true, .action = actions->ships[i]};
        side->ships_sent++;
    }
    side->ships_reset += actions->ship_reset;
    side->changed |= actions->changed[0];
    for (uint32_t i = 0; i < actions->operator_count; i++) {
        side->operator_done += actions->operators[i].done;
        side->operator_refused += !actions->operators[i].done;
        snprintf(side->operator_text, sizeof side->operator_text, "%s", actions->operators[i].text);
    }
    records_take(side, actions);
    if (pair.copies != NULL)
        pair.copies(self, actions);
    side->stopped |= actions->stopped;
    side->fence_asked |= actions->fence_peer;
    take_log(side, actions);
    return actions->store_count > 0 || actions->register_wanted || actions->reply_wanted ||
           actions->send_wanted || actions->link_reset || actions->completion_count > 0 ||
           actions->ship_count > 0 || actions->group_record_count > 0;
}

/* One burst: all that is due, then the pump, then its actions. True when more is due somewhere. */
static inline bool side_step(int self)
{
    struct side *side = &pair.side[self];
    struct array *array = side->array;
    if (side->dead)
        return false;
    if (side->down_due) {
        pair.side[self ^ 1].message_due = false;
        side->status_due = false;
        array_on_link_down(array, pair.now_us);
    }
    if (side->up_due)
        array_on_link_up(array, pair.now_us);
    side->down_due = side->up_due = false;
    if (!side->hold_store)
        store_answer(self);
    if (side->register_due && !side->hold_register)
        register_answer(side);
    if (side->status_due && !side->hold_status)
        array_on_status(array, pair.now_us, side->status_good);
    side->status_due = side->status_due && side->hold_status;
    if (side->message_due && !side->hold_link)
        array_on_message(array, pair.now_us, side->buffer_id, side->message, side->message_bytes);
    if (!side->hold_link)
        side->message_due = false;
    bool shipped = ships_step(self);
    shipped |= records_step(side);
    if (pair.copy_step != NULL)
        shipped |= pair.copy_step(self);
    bool more = side_perform(self, array_pump(array, pair.now_us));
    const char *why = array_check(array);
    if (why != NULL)
        fail_msg("array_check of %c: %s", 'a' + self, why);
    return more || shipped;
}

/* Until nothing more happens by itself. */
static inline void settle(void)
{
    for (int i = 0; i < 2000; i++) {
        bool more = side_step(A);
        more |= side_step(B);
        pair.now_us++;
        if (!more)
            return;
    }
    fail_msg("no end");
}

static inline void pass_ms(uint32_t ms)
{
    for (uint32_t i = 0; i < ms; i += 10) {
        pair.now_us += 10000;
        settle();
    }
}

static inline struct array_status *status_of(int self)
{
    static struct array_status status[PAIR];
    array_status(pair.side[self].array, pair.now_us, &status[self]);
    return &status[self];
}

static inline void pair_up(void)
{
    for (int self = A; self < PAIR; self++)
        pair.side[self].up_due = true;
    for (int i = 0; i < 500; i++) {
        pass_ms(10);
        bool home = true;
        for (int v = 0; v < VOLUMES; v++)
            home &= array_owner(pair.side[pair.config.volumes[v].home].array, (uint8_t)v) == 1;
        if (home && status_of(A)->role == ROLE_PAIRED && status_of(B)->role == ROLE_PAIRED) {
            memset(pair.asked, 0, sizeof pair.asked); /* counted from here */
            return;
        }
    }
    fail_msg("never paired");
}

static inline int pair_set_up(void **state)
{
    (void)state;
    pair_defaults();
    pair_create();
    pair_up();
    return 0;
}

/* Asks; the result is in pair.seen[] under the handle that comes back. A WRITE's bytes are all
 * `fill`. */
static inline uint32_t ask(int self, enum host_op op, uint8_t volume, uint64_t offset,
                           uint64_t length, uint8_t fill, uint8_t flags)
{
    uint32_t handle = pair.request_count++;
    assert_true(handle < REQUESTS);
    struct seen *seen = &pair.seen[handle];
    if (op <= HOST_WRITE) {
        seen->data = malloc(length + 1);
        memset(seen->data, fill, length);
    }
    const struct host_request request = {.handle = handle,
                                         .op = op,
                                         .volume = volume,
                                         .flags = flags | (pair.ships ? 0 : HOST_HERE),
                                         .offset_bytes = offset,
                                         .length_bytes = length,
                                         .data = seen->data};
    struct host_outcome outcome = array_host(pair.side[self].array, pair.now_us, &request);
    seen->complete = outcome.complete;
    seen->result = outcome.result;
    seen->detail = outcome.detail;
    if (op == HOST_WRITE && !outcome.data_held)
        memset(seen->data, 0x5A, length); /* it said that it needs them no more */
    return handle;
}

static inline uint32_t ask_write(int self, uint8_t volume, uint64_t offset, uint64_t length,
                                 uint8_t fill)
{
    return ask(self, HOST_WRITE, volume, offset, length, fill, 0);
}

static inline uint32_t ask_read(int self, uint8_t volume, uint64_t offset, uint64_t length)
{
    return ask(self, HOST_READ, volume, offset, length, 0xC3, 0);
}

static inline bool is_done(uint32_t handle)
{
    return pair.seen[handle].complete;
}

static inline void assert_ok(uint32_t handle)
{
    assert_true(pair.seen[handle].complete);
    assert_int_equal(pair.seen[handle].result, HOST_OK);
}

static inline void write_now(int self, uint8_t volume, uint64_t offset, uint64_t length,
                             uint8_t fill)
{
    uint32_t handle = ask_write(self, volume, offset, length, fill);
    settle();
    assert_ok(handle);
}

static inline void assert_bytes(const uint8_t *bytes, uint64_t length, uint8_t fill)
{
    for (uint64_t i = 0; i < length; i++) {
        if (bytes[i] != fill)
            fail_msg("byte %llu is %02x, not %02x", (unsigned long long)i, bytes[i], fill);
    }
}

static inline void assert_reads(int self, uint8_t volume, uint64_t offset, uint64_t length,
                                uint8_t fill)
{
    uint32_t handle = ask_read(self, volume, offset, length);
    settle();
    assert_ok(handle);
    assert_bytes(pair.seen[handle].data, length, fill);
}

static inline uint8_t *store_at(uint8_t volume, uint64_t offset)
{
    const struct volume_config *config = &pair.config.volumes[volume];
    return pair.store[config->store] + config->store_offset_bytes + offset;
}

/* Everything that is dirty reaches the stores, and both still serve. */
static inline void destage_all(void)
{
    for (int i = 0; i < 200; i++) {
        pass_ms(100);
        if (status_of(A)->slots_dirty == 0 && status_of(B)->slots_dirty == 0)
            return;
    }
    fail_msg("never clean");
}

/* The peer's process ends and its parent proves it. */
static inline void kill_side(int self)
{
    pair.side[self].dead = true;
    pair.side[self].op_count = 0;
    pair.side[self ^ 1].down_due = true;
    array_on_peer_gone(pair.side[self ^ 1].array, pair.now_us, 0);
    settle();
}

#endif
