/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See ships.h. A step is copied when it is sent; when it arrives, the sender's bytes must still be
 * the same. The owner carries it out as its own request. A cut session may still deliver what it
 * carried; a new one is let in only when every changing request of the old one has ended. */

#include "sim/ships.h"

#include "sim/hosts.h"
#include "sim/wires.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum ship_state { SHIP_TRAVELS, SHIP_RUNS, SHIP_RETURNS };

struct ship_op {
    bool used, dropped;
    uint64_t late_us; /* its sender died: it arrives when this is reached */
    enum ship_state state;
    uint8_t from;
    uint64_t number, session, incarnation;
    uint64_t owner; /* the incarnation that let its session in: a later one gets nothing of it */
    uint32_t tag;
    uint64_t handle; /* of the host's request */
    struct host_request request;
    const void *source;
    uint64_t bytes; /* at `source` and in `data` */
    uint8_t *data;
    enum host_result result;
    uint64_t detail;
    uint64_t write_id; /* its host has no answer and waits for none; 0: not so */
};

enum { LOGIN_ASKED, LOGIN_ANSWERED }; /* the index of an EVENT_SHIP_LOGIN */

struct ship_session {
    bool up, breaking, admitted; /* admitted: the answer to the login is under way */
    uint64_t generation, owner;  /* owner: the incarnation that let it in */
};

struct ship_lane {
    struct ship_op *ops;
    uint32_t room;
    uint64_t numbers;
    struct ship_session sessions[2];
};

void ships_create(struct world *world)
{
    world->lane = calloc(1, sizeof *world->lane);
    CHECK(world->lane != NULL);
}

void ships_destroy(struct world *world)
{
    for (uint32_t i = 0; i < world->lane->room; i++)
        free(world->lane->ops[i].data);
    free(world->lane->ops);
    free(world->lane);
}

static uint32_t op_take(struct ship_lane *lane)
{
    uint32_t i = 0;
    while (i < lane->room && lane->ops[i].used)
        i++;
    if (i == lane->room)
        lane->ops = world_grow(lane->ops, &lane->room, sizeof *lane->ops, 32);
    return i;
}

static bool changes(const struct ship_op *op)
{
    return op->request.op != HOST_READ && op->request.op != HOST_FLUSH;
}

bool ships_carry(struct world *world, uint8_t from, uint64_t handle, uint64_t write_id)
{
    struct ship_lane *lane = world->lane;
    for (uint32_t i = 0; i < lane->room; i++) {
        struct ship_op *op = &lane->ops[i];
        if (op->used && changes(op) && op->from == from && op->handle == handle &&
            op->state != SHIP_RETURNS) {
            op->write_id = write_id;
            return true;
        }
    }
    return false;
}

void ships_superseded(struct world *world, uint64_t write_id)
{
    for (uint32_t i = 0; i < world->lane->room; i++) {
        struct ship_op *op = &world->lane->ops[i];
        if (!op->used || op->write_id != write_id)
            continue;
        op->write_id = 0;
        oracle_write_unknown(world->oracle, write_id);
        return;
    }
}

void ships_forget(struct world *world, uint8_t volume)
{
    for (uint32_t i = 0; i < world->lane->room; i++) {
        struct ship_op *op = &world->lane->ops[i];
        if (!op->used || op->write_id == 0 || op->request.volume != volume)
            continue;
        uint64_t write_id = op->write_id;
        for (uint32_t j = i; j < world->lane->room; j++)
            if (world->lane->ops[j].write_id == write_id)
                world->lane->ops[j].write_id = 0;
        oracle_write_unknown(world->oracle, write_id);
    }
}

/* It can have no effect any more. */
static void op_over(struct world *world, struct ship_op *op)
{
    uint64_t write_id = op->write_id;
    op->used = false;
    free(op->data);
    op->data = NULL;
    if (write_id != 0 && !ships_carry(world, op->from, op->handle, write_id))
        oracle_write_unknown(world->oracle, write_id);
}

static bool is_live(const struct world *world, const struct ship_op *op)
{
    const struct ship_session *session = &world->lane->sessions[op->from];
    const struct controller *controller = &world->controllers[op->from];
    return controller->running && controller->incarnation == op->incarnation && session->up &&
           !session->breaking && session->generation == op->session;
}

static uint64_t travel_us(struct world *world)
{
    const struct rates *rates = &world->rates;
    return rates->link_us + generator_below(&world->latency, rates->link_jitter_us + 1);
}

static uint64_t bytes_of(const struct host_request *request)
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

void ships_send(struct world *world, uint8_t from, const struct ship_action *action)
{
    struct ship_lane *lane = world->lane;
    struct ship_session *session = &lane->sessions[from];
    if (!session->up)
        world_fail(world, "%c ships although its session is down", world_letter(from));
    uint32_t index = op_take(lane);
    struct ship_op *op = &lane->ops[index];
    *op = (struct ship_op){.used = true,
                           .from = from,
                           .number = ++lane->numbers,
                           .session = session->generation,
                           .incarnation = world->controllers[from].incarnation,
                           .owner = session->owner,
                           .tag = action->tag,
                           .handle = action->request.handle,
                           .request = action->request,
                           .source = action->request.data,
                           .bytes = bytes_of(&action->request)};
    world->count.shipped++;
    if (op->bytes > 0) {
        op->data = malloc(op->bytes);
        CHECK(op->data != NULL);
        if (op->request.op == HOST_READ)
            memset(op->data, 0xA7, op->bytes);
        else
            memcpy(op->data, op->source, op->bytes);
    }
    hosts_shipped(world, from, op->handle);
    world_trace(world, "%c ships %u (op %d)", world_letter(from), op->tag, (int)op->request.op);
    if (session->breaking && generator_chance(&world->latency, 1, 2))
        op->dropped = true;
    world_event(world, world->now_us + travel_us(world), EVENT_SHIP, !from, index, op->number);
}

/* NULL: the event is about one that is over. */
static struct ship_op *op_of(struct world *world, const struct event *event)
{
    struct ship_op *op = &world->lane->ops[event->index];
    return op->used && op->number == event->stamp ? op : NULL;
}

/* Nothing gets through now: again when the path is back. */
static bool is_stalled(struct world *world, uint8_t from, const struct event *event)
{
    if (wires_path_up(world, from))
        return false;
    world_event(world, world->path_heals_us[from] + 100, event->kind, event->who, event->index,
                event->stamp);
    return true;
}

static void answer(struct world *world, struct ship_op *op, enum host_result result,
                   uint64_t detail)
{
    op->state = SHIP_RETURNS;
    op->result = result;
    op->detail = detail;
    uint64_t write_id = op->write_id;
    op->write_id = 0; /* it has had its effect, or never will */
    if (write_id != 0 && !ships_carry(world, op->from, op->handle, write_id))
        oracle_write_unknown(world->oracle, write_id);
    if (result == HOST_OK && op->request.op != HOST_MOVE)
        world_check_completion(world, !op->from, op->request.volume);
    world_event(world, world->now_us + travel_us(world), EVENT_SHIPPED, op->from,
                (uint32_t)(op - world->lane->ops), op->number);
}

void ships_on_arrival(struct world *world, const struct event *event)
{
    struct ship_op *op = op_of(world, event);
    if (op == NULL)
        return;
    uint8_t target = event->who;
    struct controller *owner = &world->controllers[target];
    if (op->dropped || !owner->running) {
        op_over(world, op);
        return;
    }
    if (world->now_us < op->late_us) {
        world_event(world, op->late_us, EVENT_SHIP, target, event->index, event->stamp);
        return;
    }
    if (is_stalled(world, op->from, event))
        return;
    if (owner->incarnation != op->owner) {
        op_over(world, op);
        return;
    }
    bool same = op->request.op == HOST_READ || op->bytes == 0 || !is_live(world, op) ||
                memcmp(op->data, op->source, op->bytes) == 0;
    if (!same)
        world_fail(world, "%c changed bytes of shipped request %u while it was under way",
                   world_letter(op->from), op->tag);
    op->state = SHIP_RUNS;
    struct host_request request = op->request;
    request.handle = SHIPS_HANDLE | op->number << 24 | event->index;
    request.flags |= HOST_SHIPPED;
    request.tag = op->tag;
    request.data = op->data;
    struct host_outcome outcome = array_host(owner->array, world_clock(world, target), &request);
    world_touch(world, target);
    if (outcome.complete)
        answer(world, op, outcome.result, outcome.detail);
    else if (op->request.op == HOST_WRITE && !outcome.data_held)
        memset(op->data, 0xDD, op->bytes);
}

void ships_on_completion(struct world *world, uint8_t who, const struct completion *completion)
{
    uint32_t index = completion->handle & 0xFFFFFF;
    struct ship_op *op = index < world->lane->room ? &world->lane->ops[index] : NULL;
    if (op == NULL || !op->used || op->state != SHIP_RUNS || op->from == who ||
        op->owner != world->controllers[who].incarnation ||
        completion->handle != (SHIPS_HANDLE | op->number << 24 | index))
        world_fail(world, "%c completes a shipped request that does not run there",
                   world_letter(who));
    answer(world, op, completion->result, completion->detail);
}

void ships_on_answer(struct world *world, const struct event *event)
{
    struct ship_op *op = op_of(world, event);
    if (op == NULL)
        return;
    if (!is_live(world, op)) {
        op_over(world, op);
        return;
    }
    if (is_stalled(world, !op->from, event))
        return;
    struct controller *controller = &world->controllers[op->from];
    if (op->request.op == HOST_READ && op->result == HOST_OK)
        memcpy(op->request.data, op->data, op->bytes);
    uint32_t tag = op->tag;
    enum host_result result = op->result;
    uint64_t detail = op->detail;
    uint8_t from = op->from;
    op_over(world, op);
    world_trace(world, "%c hears %d of shipped %u", world_letter(from), (int)result, tag);
    array_on_shipped(controller->array, world_clock(world, from), tag, result, detail);
    world_touch(world, from);
}

/* ---- sessions ---- */

void ships_break(struct world *world, uint8_t initiator, uint64_t notice_us)
{
    struct ship_session *session = &world->lane->sessions[initiator];
    if (!session->up || session->breaking)
        return;
    session->breaking = true;
    world_trace(world, "the shipping session of %c is cut", world_letter(initiator));
    for (uint32_t i = 0; i < world->lane->room; i++) {
        struct ship_op *op = &world->lane->ops[i];
        if (op->used && op->from == initiator && op->state == SHIP_TRAVELS &&
            generator_chance(&world->latency, 1, 2))
            op->dropped = true;
    }
    world_event(world, world->now_us + 1 + generator_below(&world->latency, notice_us),
                EVENT_SHIP_DOWN, initiator, 0, session->generation);
}

void ships_reset(struct world *world, uint8_t initiator)
{
    const struct ship_session *session = &world->lane->sessions[initiator];
    ships_break(world, initiator, 200);
    if (session->up)
        world_event(world, world->now_us + 100, EVENT_SHIP_DOWN, initiator, 0, session->generation);
}

void ships_on_down(struct world *world, const struct event *event)
{
    struct ship_session *session = &world->lane->sessions[event->who];
    struct controller *controller = &world->controllers[event->who];
    if (!session->up || session->generation != event->stamp || !controller->running)
        return;
    session->up = session->breaking = false;
    world_trace(world, "%c loses its shipping session", world_letter(event->who));
    array_on_ship_down(controller->array, world_clock(world, event->who));
    world_touch(world, event->who);
    uint64_t most_us = generator_chance(&world->latency, 1, 2) ? 2000 : 20000;
    ships_login_later(world, event->who, world_between(&world->latency, 100, most_us));
}

void ships_login_later(struct world *world, uint8_t initiator, uint64_t after_us)
{
    world_event(world, world->now_us + after_us, EVENT_SHIP_LOGIN, initiator, LOGIN_ASKED,
                world->controllers[initiator].incarnation);
}

/* The answer may come late: the owner's change stream may have named the session already, and the
 * owner that has let it in may be dead by now. */
static void on_login_answer(struct world *world, uint8_t who)
{
    struct controller *self = &world->controllers[who], *other = &world->controllers[!who];
    struct ship_session *session = &world->lane->sessions[who];
    session->admitted = false;
    if (self->paused || !wires_path_up(world, !who)) {
        ships_login_later(world, who, world_between(&world->latency, 2000, 50000));
        return;
    }
    session->up = true;
    world_trace(world, "%c may ship to %c", world_letter(who), world_letter(!who));
    array_on_ship_up(self->array, world_clock(world, who), (uint32_t)session->generation);
    world_touch(world, who);
    if (!other->running || other->incarnation != session->owner)
        ships_break(world, who, 20000);
}

void ships_on_login(struct world *world, const struct event *event)
{
    uint8_t who = event->who;
    struct controller *self = &world->controllers[who], *other = &world->controllers[!who];
    struct ship_session *session = &world->lane->sessions[who];
    if (!self->running || self->incarnation != event->stamp || session->up)
        return;
    if (event->index == LOGIN_ANSWERED) {
        on_login_answer(world, who);
        return;
    }
    if (session->admitted)
        return;
    bool can = other->running && !other->paused && !self->paused && wires_path_up(world, 0) &&
               wires_path_up(world, 1);
    for (uint32_t i = 0; i < world->lane->room && can; i++) {
        const struct ship_op *op = &world->lane->ops[i];
        if (op->used && op->from == who && op->state == SHIP_RUNS && changes(op) &&
            op->owner == other->incarnation)
            can = false; /* the target lets nobody in before these have ended */
    }
    if (!can) {
        ships_login_later(world, who, world_between(&world->latency, 2000, 50000));
        return;
    }
    for (uint32_t i = 0; i < world->lane->room; i++) {
        struct ship_op *op = &world->lane->ops[i];
        if (op->used && op->from == who && op->state == SHIP_TRAVELS)
            op->dropped = true; /* the old session is ended first: nothing of it arrives any more */
    }
    session->admitted = true;
    session->generation++;
    session->owner = other->incarnation;
    world_trace(world, "%c lets the shipping session of %c in", world_letter(!who),
                world_letter(who));
    array_on_ship_admitted(other->array, world_clock(world, !who), (uint32_t)session->generation);
    world_touch(world, !who);
    world_event(world, world->now_us + travel_us(world), EVENT_SHIP_LOGIN, who, LOGIN_ANSWERED,
                self->incarnation);
}

bool ships_run_at(const struct world *world, uint8_t who)
{
    for (uint32_t i = 0; i < world->lane->room; i++) {
        const struct ship_op *op = &world->lane->ops[i];
        if (op->used && op->from != who && op->state == SHIP_RUNS && changes(op))
            return true;
    }
    return false;
}

void ships_orphan(struct world *world, uint8_t who, bool silent)
{
    struct ship_lane *lane = world->lane;
    struct ship_session *session = &lane->sessions[who];
    session->up = session->breaking = session->admitted = false;
    session->generation++;
    for (uint32_t i = 0; i < lane->room; i++) {
        struct ship_op *op = &lane->ops[i];
        if (!op->used)
            continue;
        if (op->from != who && op->state == SHIP_RUNS)
            op_over(world, op);
        else if (op->from == who && op->state == SHIP_TRAVELS &&
                 generator_chance(&world->latency, 1, 2))
            op->dropped = true;
        else if (op->from == who && op->state == SHIP_TRAVELS)
            op->late_us = world->now_us + generator_below(&world->latency, 1000000);
    }
    ships_break(world, !who, silent ? 2000000 : 2000);
}
