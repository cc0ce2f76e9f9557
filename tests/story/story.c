/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See story.h. Everything here is as plain as can be: messages and store operations stand in short
 * lists until the test lets them go on. After every pump array_check() is asked. */

#include "story.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    STORE_OPS = 64,
    READS = 256,
    WRITES = 1024,
    TRACE_SIZE = 64 * 1024,
    PUMPS_TO_SETTLE = 20000,
    LEASE_MS = 1000,
    SETTLE_MS = 100,
};

struct store_operation {
    struct store_action action;
    struct iovec *iov;
};

struct side {
    struct array *array;
    void *memory;
    bool running, paused;
    uint64_t incarnation;
    uint64_t pump_us;
    struct store_operation operations[STORE_OPS];
    uint32_t operation_count;
    bool link_up;
    uint8_t *message; /* sent, not delivered */
    uint32_t message_length;
    uint8_t message_id;
    bool waits_for_answer; /* sent, and not answered */
    bool answered, answer; /* the peer's answer, on the way back */
    bool register_asked;
    struct register_action reg;
};

struct read {
    uint64_t handle;
    uint8_t data[PAGE_SIZE_BYTES];
    bool waiting;
};

struct story {
    uint64_t now_us, incarnations;
    struct side sides[2];
    struct array_config config;
    uint8_t *store;
    struct register_record record;
    struct read reads[READS];
    uint32_t read_count;
    uint8_t *writes[WRITES]; /* their data: a held one keeps it until it is done */
    uint32_t write_count;
    bool log, silent, register_held;
    char trace[TRACE_SIZE];
    size_t used;
    struct array_status status;
};

/* ---- the trace ---- */

static void note(struct story *story, int who, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Batches are numbered from the start of a stream, and empty ones keep the lease alive: how many
 * went before is no part of a story. */
static void strip_batch_number(char *line)
{
    char *at = strstr(line, "batch ");
    if (!at)
        return;
    at += strlen("batch");
    size_t digits = 1 + strspn(at + 1, "0123456789");
    if (strstr(line, "send batch") == NULL && digits > 1)
        memmove(at, at + digits, strlen(at + digits) + 1);
}

static void note(struct story *story, int who, const char *format, ...)
{
    if (story->silent)
        return;
    va_list arguments;
    va_start(arguments, format);
    size_t left = TRACE_SIZE - story->used;
    size_t head = (size_t)snprintf(story->trace + story->used, left, "%c: ", 'a' + who);
    size_t body =
        (size_t)vsnprintf(story->trace + story->used + head, left - head, format, arguments);
    va_end(arguments);
    assert_true(head + body + 2 < left);
    strip_batch_number(story->trace + story->used);
    story->used += strlen(story->trace + story->used);
    story->trace[story->used++] = '\n';
    story->trace[story->used] = 0;
}

void story_expect(struct story *story, const char *text)
{
    if (strcmp(story->trace, text) != 0) {
        size_t at = 0;
        while (story->trace[at] == text[at])
            at++;
        while (at > 0 && text[at - 1] != '\n')
            at--;
        print_message(
            "---- the trace:\n%s---- differs from what was expected, from here on:\n%s----\n",
            story->trace, text + at);
        fail();
    }
    story_skip(story);
}

void story_skip(struct story *story)
{
    story->used = 0;
    story->trace[0] = 0;
}

void story_log(struct story *story, bool on)
{
    story->log = on;
}

/* ---- performing ---- */

static const char *members(uint8_t in)
{
    static const char *const name[] = {"-", "a", "b", "ab"};
    return name[in & 3];
}

static void perform_store(struct story *story, int who, const struct store_action *action)
{
    static const char *const name[] = {"read", "write", "flush", "zero", "trim"};
    struct side *side = &story->sides[who];
    if (action->op == STORE_FLUSH)
        note(story, who, "store flush");
    else
        note(story, who, "store %s %" PRIu64 "+%" PRIu64, name[action->op], action->offset_bytes,
             action->length_bytes);
    assert_true(side->operation_count < STORE_OPS);
    struct store_operation *operation = &side->operations[side->operation_count++];
    operation->action = *action;
    operation->iov = NULL;
    if (action->iov_count > 0) {
        operation->iov = malloc(action->iov_count * sizeof *operation->iov);
        memcpy(operation->iov, action->iov, action->iov_count * sizeof *operation->iov);
    }
}

static void perform_send(struct story *story, int who, const struct send_action *send)
{
    struct side *side = &story->sides[who];
    if (send->buffer_id == MESSAGE_HELLO)
        note(story, who, "send hello");
    else
        note(story, who, "send batch %u", send->length_bytes);
    assert_true(side->link_up);
    assert_false(side->waits_for_answer);
    side->waits_for_answer = true;
    side->answered = false;
    side->message_id = send->buffer_id;
    side->message_length = send->length_bytes;
    side->message = malloc(send->length_bytes);
    uint8_t *to = side->message;
    for (uint32_t i = 0; i < send->iov_count; i++) {
        memcpy(to, send->iov[i].iov_base, send->iov[i].iov_len);
        to += send->iov[i].iov_len;
    }
}

static void perform_register(struct story *story, int who, const struct register_action *action)
{
    struct side *side = &story->sides[who];
    assert_false(side->register_asked);
    side->register_asked = true;
    side->reg = *action;
    if (action->swap)
        note(story, who, "register swap %" PRIu64 "/%s/%s to %" PRIu64 "/%s/%s",
             action->expected.epoch, members(action->expected.in),
             action->expected.unclean ? "unclean" : "clean", action->wanted.epoch,
             members(action->wanted.in), action->wanted.unclean ? "unclean" : "clean");
    else
        note(story, who, "register read");
}

static const char *result_name(enum host_result result)
{
    static const char *const name[] = {"ok", "not-owner", "range", "busy", "io-error"};
    return name[result];
}

static void perform(struct story *story, int who, const struct actions *actions)
{
    struct side *side = &story->sides[who];
    for (uint32_t i = 0; i < actions->log_count; i++)
        if (story->log || actions->log[i].level > LOG_TRACE)
            note(story, who, "%s", actions->log[i].text);
    for (uint32_t i = 0; i < actions->store_count; i++)
        perform_store(story, who, &actions->store[i]);
    if (actions->register_wanted)
        perform_register(story, who, &actions->reg);
    if (actions->reply_wanted) {
        note(story, who, "reply %s", actions->reply_good ? "good" : "refused");
        story->sides[!who].answered = true;
        story->sides[!who].answer = actions->reply_good;
    }
    if (actions->send_wanted)
        perform_send(story, who, &actions->send);
    if (actions->link_reset)
        note(story, who, "reset link");
    if (actions->fence_peer)
        note(story, who, "fence peer");
    for (uint32_t i = 0; i < actions->completion_count; i++) {
        note(story, who, "done %" PRIu64 " %s", actions->completions[i].handle,
             result_name(actions->completions[i].result));
        for (uint32_t r = 0; r < story->read_count; r++)
            if (story->reads[r].handle == actions->completions[i].handle)
                story->reads[r].waiting = false;
    }
    for (uint32_t i = 0; i < actions->operator_count; i++)
        note(story, who, "operator %s: %s", actions->operators[i].done ? "done" : "refused",
             actions->operators[i].text);
    if (actions->stopped)
        note(story, who, "stopped");
    bool reset = actions->link_reset, stopped = actions->stopped;
    side->pump_us = actions->deadline_us;
    if (reset && side->link_up)
        story_link_down(story, who);
    if (stopped)
        story_crash(story, who);
}

static void pump(struct story *story, int who)
{
    struct side *side = &story->sides[who];
    if (!side->running || side->paused)
        return;
    const struct actions *actions = array_pump(side->array, story->now_us);
    const char *wrong = array_check(side->array);
    if (wrong)
        fail_msg("array_check() of %c: %s", 'a' + who, wrong);
    perform(story, who, actions);
}

/* ---- life ---- */

struct story *story_begin_cold(void)
{
    struct story *story = calloc(1, sizeof *story);
    assert_non_null(story);
    story->now_us = 1000000;
    story->log = true;
    story->config = (struct array_config){.slot_count = STORY_SLOTS,
                                          .request_limit = 32,
                                          .destage_io_limit = 4,
                                          .fetch_io_limit = 4,
                                          .dirty_low_percent = 40,
                                          .dirty_high_percent = 75,
                                          .destage_after_ms = 60000,
                                          .lease_ms = LEASE_MS,
                                          .settle_ms = SETTLE_MS,
                                          .trace = true,
                                          .volume_count = 1,
                                          .store_count = 1};
    story->config.volumes[0] =
        (struct volume_config){.name = "v", .size_bytes = STORY_PAGES * PAGE_SIZE_BYTES};
    story->config.stores[0] =
        (struct store_config){.block_size_bytes = PAGE_SIZE_BYTES, .can_zero = true};
    story->store = calloc(STORY_PAGES, PAGE_SIZE_BYTES);
    return story;
}

struct story *story_begin(void)
{
    struct story *story = story_begin_cold();
    story->silent = true;
    story_start(story, A);
    story_settle(story, 2000);
    story_start(story, B);
    for (int i = 0;
         i < 500 && (story_role(story, A) != ROLE_PAIRED || story_role(story, B) != ROLE_PAIRED);
         i++)
        story_settle(story, 10);
    story_settle(story, 100);
    assert_int_equal(story_role(story, A), ROLE_PAIRED);
    assert_int_equal(story_role(story, B), ROLE_PAIRED);
    assert_int_equal(story_owner(story, A), 1);
    story->silent = false;
    return story;
}

static void forget(struct side *side)
{
    for (uint32_t i = 0; i < side->operation_count; i++)
        free(side->operations[i].iov);
    free(side->message);
    free(side->memory);
    *side = (struct side){.running = false};
}

void story_end(struct story *story)
{
    if (story->used > 0) {
        print_message("---- nobody expected:\n%s----\n", story->trace);
        fail();
    }
    for (int who = 0; who < 2; who++)
        forget(&story->sides[who]);
    free(story->store);
    for (uint32_t i = 0; i < story->write_count; i++)
        free(story->writes[i]);
    free(story);
}

void story_start(struct story *story, int who)
{
    struct side *side = &story->sides[who];
    assert_false(side->running);
    struct array_config config = story->config;
    config.self = (uint8_t)who;
    config.incarnation = ++story->incarnations;
    assert_null(array_config_check(&config));
    size_t size = (array_memory_size(&config) + 4095) / 4096 * 4096;
    side->memory = aligned_alloc(4096, size);
    memset(side->memory, 0, size);
    side->running = true;
    side->incarnation = config.incarnation;
    side->array = array_create(&config, side->memory, size, story->now_us);
    assert_non_null(side->array);
    pump(story, who);
}

void story_crash(struct story *story, int who)
{
    forget(&story->sides[who]);
    story->sides[!who].answered = false;
    if (story->sides[!who].link_up)
        story_link_down(story, !who);
}

/* ---- hosts ---- */

static void request(struct story *story, int who, const struct host_request *host)
{
    struct side *side = &story->sides[who];
    struct host_request here = *host;
    here.flags |= HOST_HERE; /* a story says itself who serves */
    struct host_outcome outcome = array_host(side->array, story->now_us, &here);
    if (outcome.complete)
        note(story, who, "done %" PRIu64 " %s at once", host->handle, result_name(outcome.result));
    else if (host->op == HOST_WRITE && !outcome.data_held)
        memset(host->data, 0xDD, host->length_bytes); /* nobody may need it any more */
    for (uint32_t r = 0; r < story->read_count; r++)
        if (story->reads[r].handle == host->handle)
            story->reads[r].waiting = !outcome.complete;
    pump(story, who);
}

void story_write(struct story *story, int who, uint64_t handle, uint64_t page, uint8_t byte)
{
    assert_true(story->write_count < WRITES);
    uint8_t *data = story->writes[story->write_count++] = malloc(PAGE_SIZE_BYTES);
    memset(data, byte, PAGE_SIZE_BYTES);
    request(story, who,
            &(struct host_request){.handle = handle,
                                   .op = HOST_WRITE,
                                   .offset_bytes = page * PAGE_SIZE_BYTES,
                                   .length_bytes = PAGE_SIZE_BYTES,
                                   .data = data});
}

void story_read(struct story *story, int who, uint64_t handle, uint64_t page)
{
    assert_true(story->read_count < READS);
    struct read *read = &story->reads[story->read_count++];
    *read = (struct read){.handle = handle, .waiting = true};
    request(story, who,
            &(struct host_request){.handle = handle,
                                   .op = HOST_READ,
                                   .offset_bytes = page * PAGE_SIZE_BYTES,
                                   .length_bytes = PAGE_SIZE_BYTES,
                                   .data = read->data});
}

void story_flush(struct story *story, int who, uint64_t handle)
{
    request(story, who, &(struct host_request){.handle = handle, .op = HOST_FLUSH});
}

void story_trim(struct story *story, int who, uint64_t handle, uint64_t page, uint64_t count)
{
    request(story, who,
            &(struct host_request){.handle = handle,
                                   .op = HOST_TRIM,
                                   .offset_bytes = page * PAGE_SIZE_BYTES,
                                   .length_bytes = count * PAGE_SIZE_BYTES});
}

void story_zero(struct story *story, int who, uint64_t handle, uint64_t from, uint64_t to)
{
    request(
        story, who,
        &(struct host_request){
            .handle = handle, .op = HOST_ZERO, .offset_bytes = from, .length_bytes = to - from});
}

static int only_byte(const uint8_t *page)
{
    for (uint32_t i = 1; i < PAGE_SIZE_BYTES; i++)
        if (page[i] != page[0])
            return -1;
    return page[0];
}

int story_found(const struct story *story, uint64_t handle)
{
    for (uint32_t r = 0; r < story->read_count; r++)
        if (story->reads[r].handle == handle && !story->reads[r].waiting)
            return only_byte(story->reads[r].data);
    fail_msg("read %" PRIu64 " has not completed", handle);
    return -1;
}

int story_stored(const struct story *story, uint64_t page)
{
    return only_byte(story->store + page * PAGE_SIZE_BYTES);
}

/* ---- the link ---- */

void story_deliver(struct story *story, int from)
{
    struct side *side = &story->sides[from], *to = &story->sides[!from];
    assert_non_null(side->message);
    assert_true(to->running);
    uint8_t *bytes = side->message;
    side->message = NULL;
    array_on_message(to->array, story->now_us, side->message_id, bytes, side->message_length);
    free(bytes);
    pump(story, !from);
}

void story_answer(struct story *story, int from)
{
    struct side *side = &story->sides[from];
    assert_true(side->answered);
    assert_true(side->waits_for_answer);
    side->answered = side->waits_for_answer = false;
    array_on_status(side->array, story->now_us, side->answer);
    pump(story, from);
}

void story_carry(struct story *story, int from)
{
    story_deliver(story, from);
    story_answer(story, from);
}

void story_link_down(struct story *story, int who)
{
    struct side *side = &story->sides[who];
    assert_true(side->link_up);
    side->link_up = side->waits_for_answer = side->answered = false;
    free(side->message);
    side->message = NULL;
    array_on_link_down(side->array, story->now_us);
    pump(story, who);
}

void story_link_up(struct story *story, int who)
{
    struct side *side = &story->sides[who];
    assert_false(side->link_up);
    side->link_up = true;
    array_on_link_up(side->array, story->now_us);
    pump(story, who);
}

/* ---- the store ---- */

static void apply(struct story *story, const struct store_operation *operation)
{
    const struct store_action *action = &operation->action;
    uint8_t *at = story->store + action->offset_bytes;
    if (action->op == STORE_ZERO || action->op == STORE_TRIM)
        memset(at, 0, action->length_bytes);
    for (uint32_t i = 0; i < action->iov_count; i++) {
        if (action->op == STORE_WRITE)
            memcpy(at, operation->iov[i].iov_base, operation->iov[i].iov_len);
        if (action->op == STORE_READ)
            memcpy(operation->iov[i].iov_base, at, operation->iov[i].iov_len);
        at += operation->iov[i].iov_len;
    }
}

void story_store(struct story *story, int who, enum store_result result)
{
    struct side *side = &story->sides[who];
    assert_true(side->operation_count > 0);
    struct store_operation operation = side->operations[0];
    side->operation_count--;
    memmove(side->operations, side->operations + 1,
            side->operation_count * sizeof *side->operations);
    if (result == STORE_DONE && story->now_us > operation.action.not_after_us)
        result = STORE_NOT_SENT;
    if (result == STORE_DONE)
        apply(story, &operation);
    free(operation.iov);
    array_on_store(side->array, story->now_us, operation.action.io, result);
    pump(story, who);
}

void story_stores(struct story *story, int who)
{
    for (int i = 0; i < 1000 && story->sides[who].operation_count > 0; i++)
        story_store(story, who, STORE_DONE);
    assert_int_equal(story->sides[who].operation_count, 0);
}

/* ---- the register, the wardens, the operator ---- */

void story_register(struct story *story, int who)
{
    struct side *side = &story->sides[who];
    assert_true(side->register_asked);
    side->register_asked = false;
    enum register_result result = REGISTER_OK;
    if (side->reg.swap && register_equal(&story->record, &side->reg.expected))
        story->record = side->reg.wanted;
    else if (side->reg.swap)
        result = REGISTER_CONFLICT;
    array_on_register(side->array, story->now_us, result, &story->record);
    pump(story, who);
}

void story_register_silent(struct story *story, int who)
{
    struct side *side = &story->sides[who];
    assert_true(side->register_asked);
    side->register_asked = false;
    struct register_record none = {0};
    array_on_register(side->array, story->now_us, REGISTER_UNKNOWN, &none);
    pump(story, who);
}

void story_register_holds(struct story *story, uint64_t epoch, uint8_t in, bool unclean)
{
    story->record = (struct register_record){.epoch = epoch, .in = in, .unclean = unclean};
}

void story_register_hold(struct story *story, bool hold)
{
    story->register_held = hold;
}

void story_gone(struct story *story, int who)
{
    array_on_peer_gone(story->sides[who].array, story->now_us, 0);
    pump(story, who);
}

void story_warden(struct story *story, int who, bool answers)
{
    array_on_warden(story->sides[who].array, story->now_us, answers);
    pump(story, who);
}

void story_move(struct story *story, int who, int to)
{
    array_operator_move(story->sides[who].array, story->now_us, 1, 0, (uint8_t)to);
    pump(story, who);
}

void story_accept_loss(struct story *story, int who, bool peer_is_dead)
{
    array_operator_accept_loss(story->sides[who].array, story->now_us, 2, peer_is_dead);
    pump(story, who);
}

void story_stop(struct story *story, int who)
{
    array_operator_stop(story->sides[who].array, story->now_us);
    pump(story, who);
}

/* ---- time ---- */

void story_wait(struct story *story, uint32_t ms)
{
    story->now_us += ms * 1000ull;
    pump(story, A);
    pump(story, B);
}

void story_pause(struct story *story, int who)
{
    story->sides[who].paused = true;
}

void story_wake(struct story *story, int who)
{
    story->sides[who].paused = false;
    pump(story, who);
}

/* One thing that can go on, goes on. Returns false when there is none. */
static bool go_on(struct story *story)
{
    bool both = story->sides[A].running && story->sides[B].running;
    for (int who = 0; who < 2; who++) {
        struct side *side = &story->sides[who];
        if (!side->running || side->paused)
            continue;
        if (side->register_asked && !story->register_held)
            return story_register(story, who), true;
        if (side->operation_count > 0)
            return story_store(story, who, STORE_DONE), true;
        if (both && !side->link_up && !story->sides[!who].paused)
            return story_link_up(story, who), true;
        if (side->message && both && !story->sides[!who].paused)
            return story_deliver(story, who), true;
        if (side->waits_for_answer && side->answered)
            return story_answer(story, who), true;
    }
    return false;
}

void story_settle(struct story *story, uint32_t ms)
{
    uint64_t end_us = story->now_us + ms * 1000ull;
    bool silent = story->silent;
    story->silent = true;
    for (int i = 0; i < PUMPS_TO_SETTLE; i++) {
        if (go_on(story))
            continue;
        uint64_t next_us = end_us;
        for (int who = 0; who < 2; who++)
            if (story->sides[who].running && !story->sides[who].paused)
                next_us = min_u64(next_us, max_u64(story->sides[who].pump_us, story->now_us + 1));
        story->now_us = next_us;
        pump(story, A);
        pump(story, B);
        if (next_us >= end_us)
            break;
    }
    for (int i = 0; i < PUMPS_TO_SETTLE && go_on(story); i++)
        ;
    story->silent = silent;
}

/* ---- questions ---- */

struct array_status *story_status(struct story *story, int who)
{
    assert_true(story->sides[who].running);
    array_status(story->sides[who].array, story->now_us, &story->status);
    return &story->status;
}

enum role story_role(struct story *story, int who)
{
    return story_status(story, who)->role;
}

int story_owner(struct story *story, int who)
{
    return array_owner(story->sides[who].array, 0);
}
