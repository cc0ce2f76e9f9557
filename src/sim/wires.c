/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See wires.h. A message is copied when it is sent; when it arrives, the sender's own bytes must
 * still be the same. A cut session may still deliver what it carried, until its initiator has
 * logged in anew; the answer is then lost. A proof is only ever about an incarnation that is dead
 * and whose store operations are all over. */

#include "sim/ships.h"
#include "sim/wires.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void wires_create(struct world *world)
{
    for (int w = 0; w < 2; w++)
        world->sessions[w] = (struct session){.message = NO_INDEX};
}

static void message_free(struct message *message)
{
    free(message->bytes);
    free(message->iov);
    *message = (struct message){.used = false};
}

void wires_destroy(struct world *world)
{
    for (uint32_t i = 0; i < world->message_room; i++)
        if (world->messages[i].used)
            message_free(&world->messages[i]);
    free(world->messages);
}

static uint32_t message_take(struct world *world)
{
    uint32_t i = 0;
    while (i < world->message_room && world->messages[i].used)
        i++;
    if (i == world->message_room)
        world->messages =
            world_grow(world->messages, &world->message_room, sizeof *world->messages, 8);
    world->messages[i].used = true;
    return i;
}

bool wires_path_up(const struct world *world, uint8_t from)
{
    return world->now_us >= world->path_heals_us[from];
}

static uint64_t travel_us(struct world *world)
{
    const struct rates *rates = &world->rates;
    uint64_t delay = rates->link_us + generator_below(&world->latency, rates->link_jitter_us + 1);
    if (!world->healing && generator_chance(&world->latency, rates->link_spike_per_mille, 1000))
        delay += generator_below(&world->latency, world->config.lease_ms * 1500u);
    return delay;
}

/* ---- messages ---- */

static void gather(const struct iovec *iov, uint32_t count, uint8_t *to)
{
    for (uint32_t i = 0; i < count; i++) {
        memcpy(to, iov[i].iov_base, iov[i].iov_len);
        to += iov[i].iov_len;
    }
}

void wires_send(struct world *world, uint8_t from, const struct send_action *send)
{
    struct session *session = &world->sessions[from];
    if (!session->up)
        world_fail(world, "%c sends although its session is down", world_letter(from));
    if (session->message != NO_INDEX)
        world_fail(world, "%c sends while a message is under way", world_letter(from));
    uint64_t sum = 0;
    for (uint32_t i = 0; i < send->iov_count; i++)
        sum += send->iov[i].iov_len;
    if (sum != send->length_bytes || sum == 0)
        world_fail(world, "%c sends %u bytes with %" PRIu64 " in its iov", world_letter(from),
                   send->length_bytes, sum);
    uint32_t index = message_take(world);
    struct message *message = &world->messages[index];
    message->from = from;
    message->number = ++world->count.messages;
    message->buffer_id = send->buffer_id;
    message->length = send->length_bytes;
    message->session = session->generation;
    message->incarnation = world->controllers[from].incarnation;
    message->bytes = malloc(send->length_bytes);
    message->iov = malloc(send->iov_count * sizeof *message->iov);
    CHECK(message->bytes != NULL);
    CHECK(message->iov != NULL);
    memcpy(message->iov, send->iov, send->iov_count * sizeof *message->iov);
    message->iov_count = send->iov_count;
    gather(send->iov, send->iov_count, message->bytes);
    session->message = index;
    session->number = message->number;
    world_trace(world, "%c sends message %" PRIu64 ", buffer %u, %u bytes", world_letter(from),
                message->number, message->buffer_id, message->length);
    if (session->lost || (session->breaking && generator_chance(&world->latency, 1, 2)))
        message->dropped = true;
    if (world->corrupt_next > 0) {
        world->corrupt_next--;
        message->corrupt = true;
    }
    if (world->options.fail_message == message->number) {
        wires_break(world, from, 2000);
        message->dropped = true;
    }
    world_event(world, world->now_us + travel_us(world), EVENT_MESSAGE, !from, index,
                message->number);
}

/* The sender still keeps the bytes of what is under way, unless it has given its session up: then
 * some of what arrives is from before and the rest from now. */
static void check_unchanged(struct world *world, uint32_t index)
{
    struct message *message = &world->messages[index];
    const struct controller *sender = &world->controllers[message->from];
    const struct session *session = &world->sessions[message->from];
    if (!sender->running || sender->incarnation != message->incarnation || !session->up ||
        session->generation != message->session || session->message != index ||
        session->number != message->number)
        return;
    uint8_t *now = malloc(message->length);
    CHECK(now != NULL);
    gather(message->iov, message->iov_count, now);
    bool same = memcmp(now, message->bytes, message->length) == 0;
    if (!same && session->given_up) {
        uint64_t from = generator_below(&world->latency, message->length);
        memcpy(message->bytes + from, now + from, message->length - from);
    }
    free(now);
    if (!same && !session->given_up)
        world_fail(world, "%c changed bytes of message %" PRIu64 " while it was under way",
                   world_letter(message->from), message->number);
}

void wires_on_message(struct world *world, const struct event *event)
{
    struct message *message = &world->messages[event->index];
    if (!message->used || message->number != event->stamp)
        return;
    uint8_t target = event->who;
    struct controller *controller = &world->controllers[target];
    struct session *session = &world->sessions[message->from];
    bool live = session->up && session->generation == message->session && !session->breaking;
    if (message->dropped || !controller->running) {
        world_trace(world, "message %" PRIu64 " is lost", message->number);
        message_free(message);
        return;
    }
    if (world->now_us < message->late_us) {
        world_event(world, message->late_us, EVENT_MESSAGE, target, event->index, event->stamp);
        return;
    }
    if (!wires_path_up(world, message->from)) {
        if (live)
            world_event(world, world->path_heals_us[message->from] + 100, EVENT_MESSAGE, target,
                        event->index, event->stamp);
        else
            message_free(message);
        return;
    }
    if (controller->message != NO_INDEX) {
        world_touch(world, target);
        world_event(world, world->now_us + 10, EVENT_MESSAGE, target, event->index, event->stamp);
        return;
    }
    check_unchanged(world, event->index);
    world_trace(world, "%c gets message %" PRIu64 "%s%s", world_letter(target), message->number,
                live ? "" : ", of a session that is cut",
                message->corrupt ? ", changed on the way" : "");
    uint32_t arrived = message->length;
    if (message->corrupt && generator_chance(&world->chaos, 1, 3))
        arrived = (uint32_t)generator_below(&world->chaos, message->length);
    else if (message->corrupt) {
        uint8_t bit = (uint8_t)(1 << generator_below(&world->chaos, 8));
        message->bytes[generator_below(&world->chaos, message->length)] ^= bit;
    }
    controller->message = event->index;
    array_on_message(controller->array, world_clock(world, target), message->buffer_id,
                     message->bytes, arrived);
    /* The bytes were only the core's during the call. */
    memset(message->bytes, 0xDD, message->length);
    free(message->bytes);
    message->bytes = NULL;
    world_touch(world, target);
}

void wires_reply(struct world *world, uint8_t who, bool good)
{
    struct controller *controller = &world->controllers[who];
    struct message *message = &world->messages[controller->message];
    message->good = good;
    /* Between two that are paired nothing that arrives whole is refused: that would end the pair.
     */
    const struct controller *sender = &world->controllers[message->from];
    const struct session *session = &world->sessions[message->from];
    if (!good && !message->corrupt && message->buffer_id == MESSAGE_BATCH &&
        controller->role == ROLE_PAIRED && sender->running && sender->role == ROLE_PAIRED &&
        sender->epoch == controller->epoch && sender->incarnation == message->incarnation &&
        session->up && session->generation == message->session)
        world_fail(world, "%c refuses a sound batch of %c although they are paired",
                   world_letter(who), world_letter(!who));
    world_trace(world, "%c answers message %" PRIu64 ": %s", world_letter(who), message->number,
                good ? "good" : "refused");
    uint64_t at_us = world->now_us + travel_us(world);
    if (world->options.fail_status == message->number)
        wires_break(world, message->from, 2000);
    world_event(world, at_us, EVENT_STATUS, message->from, controller->message, message->number);
    controller->message = NO_INDEX;
}

void wires_on_status(struct world *world, const struct event *event)
{
    struct message *message = &world->messages[event->index];
    if (!message->used || message->number != event->stamp)
        return;
    uint8_t who = message->from;
    struct controller *controller = &world->controllers[who];
    struct session *session = &world->sessions[who];
    bool live = controller->running && controller->incarnation == message->incarnation &&
                session->up && session->generation == message->session && !session->breaking;
    if (live && !wires_path_up(world, !who)) {
        world_event(world, world->path_heals_us[!who] + 100, EVENT_STATUS, who, event->index,
                    event->stamp);
        return;
    }
    bool good = message->good;
    if (!live) {
        world_trace(world, "the answer to message %" PRIu64 " is lost", message->number);
        message_free(message);
        return;
    }
    CHECK(session->message == event->index);
    message_free(message);
    session->message = NO_INDEX;
    array_on_status(controller->array, world_clock(world, who), good);
    world_touch(world, who);
}

/* ---- sessions ---- */

void wires_break(struct world *world, uint8_t initiator, uint64_t notice_us)
{
    struct session *session = &world->sessions[initiator];
    if (!session->up || session->breaking)
        return;
    session->breaking = true;
    world_trace(world, "the session of %c is cut", world_letter(initiator));
    if (session->message != NO_INDEX) {
        struct message *message = &world->messages[session->message];
        if (message->used && message->number == session->number &&
            generator_chance(&world->latency, 1, 2))
            message->dropped = true;
    }
    world_event(world, world->now_us + 1 + generator_below(&world->latency, notice_us),
                EVENT_LINK_DOWN, initiator, 0, session->generation);
}

void wires_on_down(struct world *world, const struct event *event)
{
    struct session *session = &world->sessions[event->who];
    struct controller *controller = &world->controllers[event->who];
    if (!session->up || session->generation != event->stamp || !controller->running)
        return;
    world_trace(world, "%c loses its session", world_letter(event->who));
    session->up = session->breaking = session->lost = session->given_up = false;
    session->message = NO_INDEX;
    array_on_link_down(controller->array, world_clock(world, event->who));
    world_touch(world, event->who);
    wires_login_later(world, event->who, world_between(&world->latency, 100, 20000));
}

void wires_login_later(struct world *world, uint8_t initiator, uint64_t after_us)
{
    world_event(world, world->now_us + after_us, EVENT_LOGIN, initiator, 0,
                world->controllers[initiator].incarnation);
}

static bool can_log_in(const struct world *world, uint8_t initiator)
{
    const struct controller *self = &world->controllers[initiator];
    const struct controller *other = &world->controllers[!initiator];
    return other->running && !other->paused && !self->paused && wires_path_up(world, 0) &&
           wires_path_up(world, 1);
}

void wires_on_login(struct world *world, const struct event *event)
{
    const struct controller *controller = &world->controllers[event->who];
    if (!controller->running || controller->incarnation != event->stamp ||
        world->sessions[event->who].up)
        return;
    if (can_log_in(world, event->who))
        world_event(world, world->now_us + 3 * travel_us(world), EVENT_LINK_UP, event->who, 0,
                    event->stamp);
    else
        wires_login_later(world, event->who, world_between(&world->latency, 5000, 50000));
}

void wires_on_up(struct world *world, const struct event *event)
{
    struct controller *controller = &world->controllers[event->who];
    struct session *session = &world->sessions[event->who];
    if (!controller->running || controller->incarnation != event->stamp || session->up)
        return;
    if (!can_log_in(world, event->who)) {
        wires_login_later(world, event->who, world_between(&world->latency, 5000, 50000));
        return;
    }
    /* The target ends the old session before it takes the new login: nothing of it arrives any
     * more. */
    for (uint32_t i = 0; i < world->message_room; i++)
        if (world->messages[i].used && world->messages[i].from == event->who)
            world->messages[i].dropped = true;
    world_trace(world, "%c is logged in at %c", world_letter(event->who),
                world_letter(!event->who));
    session->up = true;
    session->generation++;
    session->message = NO_INDEX;
    array_on_link_up(controller->array, world_clock(world, event->who));
    world_touch(world, event->who);
}

void wires_orphan(struct world *world, uint8_t who, bool silent)
{
    struct session *session = &world->sessions[who];
    session->up = session->breaking = session->lost = session->given_up = false;
    session->message = NO_INDEX;
    session->generation++;
    for (uint32_t i = 0; i < world->message_room; i++) {
        struct message *message = &world->messages[i];
        if (!message->used)
            continue;
        if (message->from != who || generator_chance(&world->latency, 1, 2))
            message->dropped = true;
        else if (generator_chance(&world->latency, 1, 2))
            message->late_us = world->now_us + generator_below(&world->latency, 10000);
    }
    uint32_t unanswered = world->controllers[who].message;
    if (unanswered != NO_INDEX)
        message_free(&world->messages[unanswered]);
    world->controllers[who].message = NO_INDEX;
    wires_break(world, !who, silent ? 2000000 : 2000);
    world->sessions[!who].lost = world->sessions[!who].up;
}

void wires_stall_path(struct world *world, uint8_t from, uint64_t for_us)
{
    world->path_heals_us[from] = max_u64(world->path_heals_us[from], world->now_us + for_us);
    world_trace(world, "nothing gets from %c to %c for %" PRIu64 " us", world_letter(from),
                world_letter(!from), for_us);
}

void wires_cut_path(struct world *world, uint8_t from, uint64_t for_us)
{
    wires_stall_path(world, from, for_us);
    for (uint8_t i = 0; i < 2; i++) {
        if (generator_chance(&world->chaos, 3, 5))
            wires_break(world, i, world_between(&world->chaos, 10000, 1500000));
        if (generator_chance(&world->chaos, 3, 5))
            ships_break(world, i, world_between(&world->chaos, 10000, 1500000));
    }
}

/* ---- wardens ---- */

void wires_prove(struct world *world, uint8_t dead, uint64_t incarnation)
{
    if (incarnation == 0)
        return;
    world_event(world, world->now_us + world_between(&world->latency, 300, 10000), EVENT_PROOF,
                !dead, 0, incarnation);
}

void wires_on_proof(struct world *world, const struct event *event)
{
    struct controller *controller = &world->controllers[event->who];
    const struct controller *dead = &world->controllers[!event->who];
    if (dead->running && dead->incarnation == event->stamp)
        world_fail(world, "the simulator proves the death of a living controller");
    /* A warden speaks for its own child only: a watcher that came later never hears of an earlier
     * one. */
    bool told = dead->last_dead == event->stamp &&
                (!dead->running || controller->incarnation == dead->last_watcher);
    if (!told)
        return;
    if (!wires_path_up(world, !event->who) || !controller->running) {
        if (dead->last_dead == event->stamp)
            world_event(world, world->now_us + 10000, EVENT_PROOF, event->who, 0, event->stamp);
        return;
    }
    world_trace(world, "%c hears that incarnation %" PRIu64 " of %c is gone",
                world_letter(event->who), event->stamp, world_letter(!event->who));
    array_on_peer_gone(controller->array, world_clock(world, event->who), event->stamp);
    world_touch(world, event->who);
}

void wires_on_warden(struct world *world, const struct event *event)
{
    struct controller *controller = &world->controllers[event->who];
    if (!controller->running || controller->incarnation != event->stamp)
        return;
    bool answers = !world->controllers[!event->who].machine_down && wires_path_up(world, 0) &&
                   wires_path_up(world, 1);
    if (!controller->paused && answers != controller->warden_answers) {
        controller->warden_answers = answers;
        world_trace(world, "the warden of %c %s %c", world_letter(!event->who),
                    answers ? "answers" : "does not answer", world_letter(event->who));
        array_on_warden(controller->array, world_clock(world, event->who), answers);
        world_touch(world, event->who);
    }
    world_event(world, world->now_us + world_between(&world->latency, 5000, 50000), EVENT_WARDEN,
                event->who, 0, event->stamp);
}

void wires_fence(struct world *world, uint8_t asker)
{
    world_trace(world, "%c asks for %c to be ended", world_letter(asker), world_letter(!asker));
    world_event(world, world->now_us + world_between(&world->latency, 500, 10000), EVENT_FENCE, 2,
                asker, world->controllers[asker].incarnation);
}

void wires_on_fence(struct world *world, const struct event *event)
{
    uint8_t asker = (uint8_t)event->index;
    const struct controller *controller = &world->controllers[asker];
    struct controller *target = &world->controllers[!asker];
    if (!controller->running || controller->incarnation != event->stamp ||
        (controller->role != ROLE_RACING && controller->role != ROLE_FENCING))
        return; /* the takeover is over: the shell has dropped its question */
    /* The shell asks again, on every connection, for as long as the takeover waits. */
    world_event(world, world->now_us + 20000, EVENT_FENCE, 2, asker, event->stamp);
    if (target->machine_down || !wires_path_up(world, 0) || !wires_path_up(world, 1))
        return;
    if (target->running)
        world_kill(world, !asker, true);
    else if (target->last_dead_ops == 0 && target->last_dead != 0)
        wires_prove(world, !asker, target->last_dead);
}

/* ---- the register ---- */

void wires_register(struct world *world, uint8_t who, const struct register_action *action)
{
    struct controller *controller = &world->controllers[who];
    if (controller->register_busy)
        world_fail(world, "%c asks the register while it waits for an answer", world_letter(who));
    controller->register_busy = true;
    uint32_t index = 0;
    while (index < ARRAY_LENGTH(world->register_operations) &&
           world->register_operations[index].used)
        index++;
    CHECK(index < ARRAY_LENGTH(world->register_operations));
    struct register_operation *operation = &world->register_operations[index];
    *operation = (struct register_operation){.used = true,
                                             .who = who,
                                             .asked_us = world->now_us,
                                             .incarnation = controller->incarnation,
                                             .action = *action};
    operation->empty = controller->role == ROLE_STARTING || controller->role == ROLE_WAITING ||
                       controller->role == ROLE_OFFLINE;
    /* A later start of the other has nothing of what the one that was filled had. */
    const struct controller *other = &world->controllers[!who];
    operation->partner = other->running && other->role == ROLE_JOINING ? other->incarnation : 0;
    world->count.register_operations++;
    uint64_t limit_us = world->now_us < world->register_slow_us ? 400000 : 3000;
    uint64_t apply_us = 1 + generator_below(&world->latency, limit_us);
    uint64_t answer_us = apply_us + generator_below(&world->latency, limit_us);
    bool unreachable = world->now_us < world->register_down_us[who];
    if (world->options.fail_register == world->count.register_operations)
        unreachable = true;
    if (unreachable) {
        bool request = generator_chance(&world->chaos, 1, 2);
        operation->lost_request = request;
        operation->lost_answer = !request;
        answer_us += generator_below(&world->latency, 200000);
    }
    if (action->swap)
        world_trace(world, "%c register swap %" PRIu64 "/%u/%u to %" PRIu64 "/%u/%u%s",
                    world_letter(who), action->expected.epoch, action->expected.in,
                    action->expected.unclean, action->wanted.epoch, action->wanted.in,
                    action->wanted.unclean, unreachable ? ", out of reach" : "");
    world_event(world, world->now_us + apply_us, EVENT_REGISTER_APPLY, 2, index,
                operation->incarnation);
    world_event(world, world->now_us + answer_us, EVENT_REGISTER_ANSWER, who, index,
                operation->incarnation);
}

static void swapped(struct world *world, const struct register_operation *operation)
{
    const struct register_record *old = &operation->action.expected,
                                 *new = &operation->action.wanted;
    bool moved = old->in != new->in;
    if (new->epoch != old->epoch + (moved ? 1 : 0) && new->epoch != old->epoch + 1)
        world_fail(world,
                   "%c changes the register from epoch %" PRIu64 " (in %u) to epoch %" PRIu64
                   " (in %u)",
                   world_letter(operation->who), old->epoch, old->in, new->epoch, new->in);
    world_trace(world, "the register holds epoch %" PRIu64 ", in %u, %s", new->epoch, new->in,
                new->unclean ? "unclean" : "clean");
    for (uint8_t m = 0; m < 2; m++) {
        uint64_t former = world->member[m];
        if (!(new->in &(1 << m)))
            world->member[m] = 0;
        else if (m == operation->who)
            world->member[m] = operation->empty ? 0 : operation->incarnation;
        else if (new->epoch != old->epoch)
            world->member[m] = operation->partner;
        if (world->member[m] != former)
            world->member_since_us[m] = world->now_us;
    }
    if (new->in == 0) /* nobody is in any more, and nobody else has the state records */
        memset(world->state_done, 0, sizeof world->state_done);
    world->record = *new;
}

void wires_on_register_apply(struct world *world, const struct event *event)
{
    struct register_operation *operation = &world->register_operations[event->index];
    if (!operation->used || operation->incarnation != event->stamp || operation->applied)
        return;
    operation->applied = true;
    operation->result = REGISTER_OK;
    if (operation->lost_request) {
        operation->result = REGISTER_UNKNOWN;
        return;
    }
    if (operation->action.swap) {
        if (register_equal(&world->record, &operation->action.expected))
            swapped(world, operation);
        else
            operation->result = REGISTER_CONFLICT;
    }
    operation->record = world->record;
    if (operation->lost_answer)
        operation->result = REGISTER_UNKNOWN;
}

void wires_on_register_answer(struct world *world, const struct event *event)
{
    struct register_operation *operation = &world->register_operations[event->index];
    CHECK(operation->used);
    CHECK(operation->applied);
    struct controller *controller = &world->controllers[operation->who];
    struct register_operation over = *operation;
    operation->used = false;
    if (!controller->running || controller->incarnation != over.incarnation)
        return;
    static const char *const name[] = {"ok", "conflict", "unknown"};
    world_trace(world, "%c register answers %s: epoch %" PRIu64 ", in %u, %s",
                world_letter(over.who), name[over.result], over.record.epoch, over.record.in,
                over.record.unclean ? "unclean" : "clean");
    controller->register_busy = false;
    /* The read after a swap without an answer only says what became of that. */
    if (over.result == REGISTER_OK && !over.action.swap && !controller->swap_open)
        controller->register_seen_us = over.asked_us;
    if (over.result != REGISTER_UNKNOWN)
        controller->swap_open = false;
    else if (over.action.swap)
        controller->swap_open = true;
    array_on_register(controller->array, world_clock(world, over.who), over.result, &over.record);
    world_touch(world, over.who);
}
