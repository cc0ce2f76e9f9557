/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See world.h. This file has the events, the life of the controllers, and the performing of their
 * actions, and after every pump it looks at what must hold over both controllers at once: at most
 * one server, no message for a destage, every invariant that the core can check of itself. It never
 * decides what the core does. */

#include "sim/world.h"

#include "base/check_report.h"
#include "sim/calls.h"
#include "sim/copies.h"
#include "sim/cuts.h"
#include "sim/disks.h"
#include "sim/faults.h"
#include "sim/focus.h"
#include "sim/hosts.h"
#include "sim/listing.h"
#include "sim/ships.h"
#include "sim/sites.h"
#include "sim/wires.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    PUMPS_AT_ONCE = 1000,              /* more without time passing is a loop that never ends */
    FAULT_PHASE_US = 60 * 1000 * 1000, /* the hosts may be held for long; not for ever */
    SCRIPT_US = 1700 * 1000,           /* the fixed run of a fault test */
    REST_US = 120 * 1000 * 1000, /* after the faults stopped, everything is done within this */
    MIRROR_CHECK_EVERY = 5,      /* array_check()s for each look at the mirror */
    EVENTS_AT_ONCE = 200 * 1000, /* at one instant: more is a loop that never ends */
    EVENTS_A_PHASE = 40 * 1000 * 1000, /* a bound on the simulator itself */
};

static struct world
    *failing; /* whose core the failed assertion belongs to; one world runs at a time */

char world_letter(uint8_t who)
{
    return who < 2 ? (char)('a' + who) : '-';
}

void *world_grow(void *table, uint32_t *room, size_t place_bytes, uint32_t first)
{
    uint32_t larger = *room ? *room * 2 : first;
    uint8_t *grown = realloc(table, larger * place_bytes);
    CHECK(grown != NULL);
    memset(grown + *room * place_bytes, 0, (larger - *room) * place_bytes);
    *room = larger;
    return grown;
}

bool world_answers(const struct world *world, uint8_t who)
{
    return world->controllers[who].running && !world->controllers[who].paused;
}

const char *world_site(const struct world *world)
{
    static const char *const sites[ARRAYS_LIMIT] = {
        "", "at the second site, ", "at the third array, ", "at the fourth array, "};
    return sites[world->number];
}

const char *world_name(uint8_t number)
{
    static const char *const names[ARRAYS_LIMIT] = {"", "second", "third", "fourth"};
    CHECK(number < ARRAYS_LIMIT);
    return names[number];
}

bool world_has_twin(const struct world *world, uint8_t twin)
{
    return world->root->twins[twin].site[world->second] == world;
}

uint8_t world_twin(const struct world *world, uint8_t group)
{
    uint8_t twin = 0;
    while (!world_has_twin(world, twin) || world_group(world, twin) != group)
        CHECK(++twin < world->root->twin_count);
    return twin;
}

uint8_t world_group(const struct world *world, uint8_t twin)
{
    return world->root->twins[twin].group[world->second];
}

struct world *world_far(const struct world *world, uint8_t group)
{
    return world->root->twins[world_twin(world, group)].site[!world->second];
}

uint8_t world_far_group(const struct world *world, uint8_t group)
{
    return world->root->twins[world_twin(world, group)].group[!world->second];
}

_Noreturn void world_fail(struct world *world, const char *format, ...)
{
    struct world *first = world->root;
    va_list arguments;
    int used = snprintf(first->failure, sizeof first->failure, "%s", world_site(world));
    va_start(arguments, format);
    vsnprintf(first->failure + used, sizeof first->failure - (size_t)used, format, arguments);
    va_end(arguments);
    longjmp(first->out, 1);
}

static void on_check(const char *expression, const char *file, int line)
{
    if (failing)
        world_fail(failing, "CHECK(%s) failed at %s:%d", expression, file, line);
}

void world_trace(struct world *world, const char *format, ...)
{
    if (!world->options.trace)
        return;
    va_list arguments;
    va_start(arguments, format);
    printf("%10" PRIu64 " %s%s", world->now_us, world_name(world->number),
           world->number > 0 ? ": " : "");
    vprintf(format, arguments);
    putchar('\n');
    va_end(arguments);
}

void world_reseed(struct world *world, struct generator *generator, uint64_t salt)
{
    generator_seed(generator,
                   world->options.seed * 0x9E3779B97F4A7C15u ^ world->now_us << 20 ^ salt);
}

uint64_t world_between(struct generator *generator, uint64_t from, uint64_t to)
{
    CHECK(from <= to);
    return from + generator_below(generator, to - from + 1);
}

/* ---- events ---- */

/* At one instant what is known comes by its kind: a replay, which has its hosts' turns from the
 * beginning, keeps the order of the run. */
static bool event_before(const struct event *a, const struct event *b)
{
    if (a->at_us != b->at_us)
        return a->at_us < b->at_us;
    return a->kind != b->kind ? a->kind < b->kind : a->sequence < b->sequence;
}

static void event_push(struct world *world, struct event event)
{
    if (world->event_count == world->event_room)
        world->events = world_grow(world->events, &world->event_room, sizeof *world->events, 1024);
    uint32_t at = world->event_count++;
    while (at > 0 && event_before(&event, &world->events[(at - 1) / 2])) {
        world->events[at] = world->events[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    world->events[at] = event;
}

static struct event event_pop(struct world *world)
{
    CHECK(world->event_count > 0);
    struct event first = world->events[0];
    struct event last = world->events[--world->event_count];
    uint32_t at = 0;
    for (;;) {
        uint32_t child = at * 2 + 1;
        if (child >= world->event_count)
            break;
        if (child + 1 < world->event_count &&
            event_before(&world->events[child + 1], &world->events[child]))
            child++;
        if (!event_before(&world->events[child], &last))
            break;
        world->events[at] = world->events[child];
        at = child;
    }
    world->events[at] = last;
    return first;
}

void world_event(struct world *world, uint64_t at_us, enum event_kind kind, uint8_t who,
                 uint32_t index, uint64_t stamp)
{
    event_push(world, (struct event){.at_us = max_u64(at_us, world->now_us),
                                     .sequence = ++world->sequence,
                                     .kind = kind,
                                     .who = who,
                                     .index = index,
                                     .stamp = stamp});
}

/* ---- clocks ---- */

static uint64_t clock_at(const struct controller *controller, uint64_t world_us)
{
    return controller->clock_offset + world_us * controller->clock_rate / 1000000;
}

uint64_t world_clock(const struct world *world, uint8_t who)
{
    return clock_at(&world->controllers[who], world->now_us);
}

/* The first world time at which the controller's clock shows `local_us` or more. */
static uint64_t clock_reaches(const struct world *world, uint8_t who, uint64_t local_us)
{
    const struct controller *controller = &world->controllers[who];
    if (local_us <= world_clock(world, who))
        return world->now_us;
    if (local_us - controller->clock_offset > UINT64_MAX / 2000000)
        return UINT64_MAX;
    uint64_t at = (local_us - controller->clock_offset) * 1000000 / controller->clock_rate;
    while (clock_at(controller, at) < local_us)
        at++;
    return at;
}

/* ---- the life of a controller ---- */

void world_start(struct world *world, uint8_t who)
{
    struct controller *controller = &world->controllers[who];
    CHECK(!controller->running);
    struct array_config config = world->config;
    config.self = who;
    config.incarnation = ++world->incarnations * 1000 + generator_below(&world->latency, 1000);
    config.seed = generator_next(&world->latency);
    config.request_limit += SHIP_LIMIT; /* the peer's, beside those of our own hosts */
    size_t size = array_memory_size(&config);
    size_t rounded = (size + 4095) / 4096 * 4096;
    controller->memory =
        mmap(NULL, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(controller->memory != MAP_FAILED);
    controller->memory_size = rounded;
    controller->running = true;
    controller->paused = controller->stop_asked = controller->machine_down = false;
    controller->accepted = false;
    controller->warden_answers = false;
    controller->held = NULL;
    controller->incarnation = config.incarnation;
    controller->message = NO_INDEX;
    controller->register_busy = controller->swap_open = false;
    controller->register_seen_us = 0;
    controller->writes_in_flight = controller->reads_in_flight = 0;
    controller->role = ROLE_STARTING;
    controller->epoch = 0;
    controller->pump_us = UINT64_MAX;
    controller->pumps_at_once = 0;
    world_trace(world, "%c starts, incarnation %" PRIu64, world_letter(who),
                controller->incarnation);
    controller->array = array_create(&config, controller->memory, size, world_clock(world, who));
    if (!controller->array)
        world_fail(world, "array_create() gave nothing");
    wires_login_later(world, who, world_between(&world->latency, 100, 20000));
    ships_login_later(world, who, world_between(&world->latency, 100, 20000));
    copies_start(world, who);
    calls_start(world, who);
    world_event(world, world->now_us + world_between(&world->latency, 1000, 20000), EVENT_WARDEN,
                who, 0, controller->incarnation);
    world_touch(world, who);
}

void world_kill(struct world *world, uint8_t who, bool provable)
{
    struct controller *controller = &world->controllers[who];
    if (!controller->running)
        return;
    world_trace(world, "%c is gone (%s)", world_letter(who),
                !provable                ? "with its machine"
                : controller->stop_asked ? "process ended while stopping"
                                         : "process");
    controller->running = controller->paused = false;
    controller->array = NULL;
    controller->held = NULL;
    controller->pump_us = UINT64_MAX;
    controller->pump_stamp++;
    controller->last_dead = controller->incarnation;
    /* State records live in the memories of those who are in, and nowhere else. */
    enum role other = world->controllers[!who].role;
    bool kept =
        other == ROLE_PAIRED || other == ROLE_RACING || other == ROLE_FENCING || other == ROLE_SOLO;
    if (!world->controllers[!who].running || !kept ||
        world->controllers[!who].epoch < controller->epoch) {
        memset(world->state_done, 0, sizeof world->state_done);
        cuts_blackout(world);
    }
    controller->last_watcher =
        world->controllers[!who].running ? world->controllers[!who].incarnation : 0;
    controller->last_dead_provable = provable;
    controller->machine_down = !provable;
    controller->down_since_us = world->now_us;
    world->operator_pending[who] = 0;
    faults_on_death(world);
    hosts_orphan(world, who);
    disks_orphan(world, who);
    wires_orphan(world, who, !provable);
    ships_orphan(world, who, !provable);
    copies_orphan(world, who, !provable);
    calls_orphan(world, who, !provable);
    /* What the process had in memory is really gone: nobody may read it by mistake. */
    munmap(controller->memory, controller->memory_size);
    controller->memory = NULL;
    if (controller->last_dead_ops == 0 && provable)
        wires_prove(world, who, controller->last_dead);
    /* Some are back before the peer knows that they were gone. */
    uint64_t most_us = generator_chance(&world->chaos, 1, 3) ? 2000 : world->rates.restart_us;
    if (!world->finishing && !world->destroyed)
        world_event(world, world->now_us + world_between(&world->chaos, 200, max_u64(most_us, 201)),
                    EVENT_RESTART, who, 0, controller->incarnation);
}

void world_pause(struct world *world, uint8_t who, uint64_t for_us)
{
    struct controller *controller = &world->controllers[who];
    if (!controller->running || controller->paused)
        return;
    controller->paused = true;
    controller->resume_us = world->now_us + for_us;
    world->count.pauses++;
    world_trace(world, "%c stands still for %" PRIu64 " us", world_letter(who), for_us);
    world_event(world, controller->resume_us, EVENT_RESUME, who, 0, controller->incarnation);
}

/* ---- performing ---- */

static void pump_at(struct world *world, uint8_t who, uint64_t at_us)
{
    struct controller *controller = &world->controllers[who];
    if (at_us >= controller->pump_us)
        return;
    controller->pump_us = at_us;
    world_event(world, at_us, EVENT_PUMP, who, 0, ++controller->pump_stamp);
}

static uint64_t pump_delay(struct world *world)
{
    if (world->rates.pump_delay_us == 0 || !generator_chance(&world->latency, 1, 4))
        return 0;
    return generator_below(&world->latency, world->rates.pump_delay_us);
}

void world_touch(struct world *world, uint8_t who)
{
    pump_at(world, who, world->now_us + pump_delay(world));
}

void world_touch_later(struct world *world, uint8_t who)
{
    pump_at(world, who, world->now_us + 1 + pump_delay(world));
}

/* It says that it serves the volume, in the same epoch as the other. */
bool world_serves(const struct world *world, uint8_t who, uint8_t volume)
{
    const struct controller *controller = &world->controllers[who];
    const struct controller *other = &world->controllers[!who];
    return controller->running && !controller->paused && controller->role == ROLE_PAIRED &&
           other->running && other->role == ROLE_PAIRED && controller->epoch == other->epoch &&
           array_owner(controller->array, volume) == 1;
}

void world_check_completion(struct world *world, uint8_t who, uint8_t volume)
{
    const struct controller *controller = &world->controllers[who];
    const struct controller *other = &world->controllers[!who];
    if (controller->late)
        return;
    if (other->solo_epoch > controller->epoch)
        world_fail(world,
                   "%c completes host I/O in epoch %" PRIu64
                   ", but %c served alone in epoch %" PRIu64,
                   world_letter(who), controller->epoch, world_letter(!who), other->solo_epoch);
    /* While a volume moves, the former owner may not know yet that the new one has it; it holds its
     * hosts. */
    if (controller->role == ROLE_PAIRED && world_serves(world, !who, volume) &&
        !other->moving[volume])
        world_fail(world, "%c completes host I/O of volume %u, which %c serves", world_letter(who),
                   volume, world_letter(!who));
}

static void look_at_mirror(struct world *world, uint8_t who)
{
    const struct controller *controller = &world->controllers[who];
    const struct controller *other = &world->controllers[!who];
    if (controller->role != ROLE_PAIRED || !other->running || other->role != ROLE_PAIRED ||
        controller->epoch != other->epoch)
        return;
    const char *wrong = array_check_mirror(controller->array, other->array, world->moved);
    if (wrong)
        world_fail(world, "the mirror of %c: %s", world_letter(who), wrong);
}

/* Which volumes have changed hands since the pair was formed. */
static void note_moves(struct world *world, uint8_t who)
{
    const struct controller *controller = &world->controllers[who];
    if (world->moved_epoch != controller->epoch)
        memset(world->moved, 0, sizeof world->moved);
    world->moved_epoch = controller->epoch;
    for (uint32_t v = 0; v < world->config.volume_count; v++)
        world->moved[v] = world->moved[v] || controller->moving[v];
}

/* A change of a state record that a host was told of is not forgotten. */
static void check_states(struct world *world, uint8_t who)
{
    const struct controller *controller = &world->controllers[who];
    if (world->controllers[!who].solo_epoch > controller->epoch)
        return; /* it has not heard yet that it is out */
    for (uint32_t v = 0; v < world->config.volume_count; v++) {
        if (array_service(controller->array, (uint8_t)v) != ARRAY_SERVED_HERE)
            continue;
        uint32_t version, length;
        array_state(controller->array, (uint8_t)v, &version, &length);
        if (version < world->state_done[v])
            world_fail(world, "%c serves volume %u with version %u of its state record, after %u",
                       world_letter(who), v, version, world->state_done[v]);
    }
}

/* What must hold of both controllers together, and of this one by itself. */
static void look(struct world *world, uint8_t who)
{
    struct controller *controller = &world->controllers[who];
    struct controller *other = &world->controllers[!who];
    struct array_glance status = array_glance(controller->array);
    if (status.role != controller->role || status.epoch != controller->epoch)
        world_trace(world, "%c is %s, epoch %" PRIu64 ": %s", world_letter(who),
                    role_name(status.role), status.epoch, status.reason);
    if (controller->role != ROLE_SOLO && status.role == ROLE_SOLO) {
        world->count.takeovers++;
        if (controller->role == ROLE_WAITING || controller->role == ROLE_STARTING)
            cuts_blackout(world); /* one that knows more may live, and is out */
        for (uint32_t s = 0; s < world->config.store_count; s++)
            controller->solo_done[s] = world->disks[s].done_sequence;
        faults_on_takeover(world);
        if (controller->accepted && strcmp(status.reason, "the loss was accepted") == 0)
            cuts_lacking(world);
        controller->accepted = false;
    }
    if (controller->role != status.role)
        faults_on_role(world, who);
    if (controller->role != status.role && status.role == ROLE_PAIRED)
        focus_at(world, who, MOMENT_PAIRED);
    if (controller->role != status.role && status.role == ROLE_SOLO)
        focus_at(world, who, MOMENT_ALONE);
    controller->role = status.role;
    controller->epoch = status.epoch;
    if (status.role == ROLE_SOLO)
        controller->solo_epoch = max_u64(controller->solo_epoch, status.epoch);
    if (status.role == ROLE_SOLO && world->record.epoch == status.epoch &&
        world->member[who] != controller->incarnation) {
        world->member[who] = controller->incarnation; /* from now on it acknowledges */
        world->member_since_us[who] = world->now_us;
    }
    if (status.flush_messages != 0)
        world_fail(world, "%c sent %" PRIu64 " messages for destages", world_letter(who),
                   status.flush_messages);
    for (uint32_t v = 0; v < world->config.volume_count; v++) {
        controller->moving[v] = array_moving(controller->array, (uint8_t)v);
        if (world_serves(world, who, (uint8_t)v) && world_serves(world, !who, (uint8_t)v) &&
            !controller->moving[v] && !other->moving[v])
            world_fail(world, "both controllers serve volume %u in epoch %" PRIu64, v,
                       status.epoch);
    }
    check_states(world, who);
    if (status.role == ROLE_OFFLINE && world->record.unclean) {
        /* Data may only be given up for lost when everyone who held it died; at the time of the
         * question to the register that led to it. */
        for (uint8_t m = 0; m < 2; m++)
            if ((world->record.in & (1 << m)) && world->controllers[m].running &&
                world->controllers[m].incarnation == world->member[m] &&
                world->member_since_us[m] <= controller->register_seen_us)
                world_fail(world, "%c is offline, but %c never died and holds the data",
                           world_letter(who), world_letter(m));
    }
    if (status.role == ROLE_PAIRED)
        note_moves(world, who);
    if (++world->count.checks % world->options.check_every == 0) {
        const char *wrong = array_check(controller->array);
        if (wrong)
            world_fail(world, "array_check() of %c: %s", world_letter(who), wrong);
        if (world->count.checks % (world->options.check_every * MIRROR_CHECK_EVERY) == 0)
            look_at_mirror(world, who);
    }
}

static void on_stopped(struct world *world, uint8_t who)
{
    struct controller *controller = &world->controllers[who];
    if (!controller->stop_asked)
        world_fail(world, "%c says that it has stopped, but nobody asked", world_letter(who));
    /* One that is out may leave with its last writes under way: its warden proves its end only
     * after them. */
    bool other_is_in = (world->record.in & (1 << !who)) != 0;
    if (controller->writes_in_flight > 0 && !other_is_in)
        world_fail(world, "%c says that it has stopped, with %u store writes under way",
                   world_letter(who), controller->writes_in_flight);
    world->count.stops++;
    world_trace(world, "%c has stopped", world_letter(who));
    world_kill(world, who, true);
}

static void perform_peer(struct world *world, uint8_t who, const struct actions *actions)
{
    struct controller *controller = &world->controllers[who];
    if (actions->reply_wanted != (controller->message != NO_INDEX))
        world_fail(world,
                   actions->reply_wanted ? "%c answers a message that it did not get"
                                         : "%c does not answer a message",
                   world_letter(who));
    if (actions->reply_wanted)
        wires_reply(world, who, actions->reply_good);
    if (actions->send_wanted)
        wires_send(world, who, &actions->send);
    if (actions->link_reset && world->sessions[who].up) {
        world_trace(world, "%c resets its session", world_letter(who));
        wires_break(world, who, 200);
        world->sessions[who].given_up = true;
        /* The shell closes its own end: it does not wait until the network says so. */
        world_event(world, world->now_us + 100, EVENT_LINK_DOWN, who, 0,
                    world->sessions[who].generation);
    }
    if (actions->fence_peer)
        wires_fence(world, who);
    for (uint32_t i = 0; i < actions->ship_count; i++)
        ships_send(world, who, &actions->ships[i]);
    if (actions->ship_reset)
        ships_reset(world, who);
    copies_perform(world, who, actions);
    calls_perform(world, who, actions);
}

/* After how many of the actions an armed cut strikes. One behind a batch leaves the peer with a
 * message that says what has become of its shipped requests, from a controller that is no more. */
static uint64_t where_to_cut(struct world *world, uint8_t who, const struct actions *actions)
{
    if (!world->cut_armed)
        return UINT64_MAX;
    if (world->cut_behind_pairing) { /* nobody is told whether it came about */
        if (!actions->register_wanted || !actions->reg.swap || actions->reg.wanted.in != 3)
            return UINT64_MAX;
        world->cut_armed = false;
        for (int i = 0; i < 4; i++) /* and the operator is not patient */
            world_event(world, world->now_us + world_between(&world->chaos, 500, 60000),
                        EVENT_OPERATOR, 2, 1, 0);
        return actions->store_count + 1;
    }
    if (world->cut_behind_batch) {
        bool batch = actions->send_wanted && actions->send.buffer_id == MESSAGE_BATCH;
        if (!batch || !ships_run_at(world, who))
            return UINT64_MAX;
        world->cut_armed = false;
        return actions->store_count + actions->register_wanted + 1;
    }
    if (actions->store_count + actions->completion_count == 0)
        return UINT64_MAX;
    world->cut_armed = false;
    return generator_below(&world->chaos, actions->store_count + actions->completion_count + 3);
}

/* In the promised order. A cut ends the controller after `cut` of them. */
static void perform(struct world *world, uint8_t who, const struct actions *actions)
{
    struct controller *controller = &world->controllers[who];
    uint64_t cut = where_to_cut(world, who, actions);
    for (uint32_t i = 0; i < actions->log_count; i++)
        if (actions->log[i].level > LOG_TRACE || world->options.core_trace)
            world_trace(world, "%c says: %s", world_letter(who), actions->log[i].text);
    for (uint32_t i = 0; i < actions->store_count && cut > 0; i++, cut--)
        disks_submit(world, who, &actions->store[i]);
    if (actions->register_wanted && cut > 0) {
        cut--;
        wires_register(world, who, &actions->reg);
    }
    if (cut > 0) {
        cut--;
        perform_peer(world, who, actions);
    }
    for (uint32_t i = 0; i < actions->operator_count && cut > 0; i++)
        faults_on_reply(world, who, &actions->operators[i]);
    for (uint32_t i = 0; i < actions->completion_count && cut > 0; i++, cut--) {
        if (actions->completions[i].handle & SHIPS_HANDLE)
            ships_on_completion(world, who, &actions->completions[i]);
        else
            hosts_on_completion(world, who, &actions->completions[i]);
    }
    if (cut == 0) {
        world_trace(world, "%c dies in the middle of its actions", world_letter(who));
        world->count.faults[FAULT_CUT]++;
        world_kill(world, who, true);
        return;
    }
    uint64_t deadline_us = actions->deadline_us;
    if (actions->stopped) {
        on_stopped(world, who);
        return;
    }
    uint64_t at = deadline_us == UINT64_MAX ? UINT64_MAX : clock_reaches(world, who, deadline_us);
    if (at > world->now_us) {
        controller->pumps_at_once = 0;
    } else {
        at = world->now_us + 1;
        if (++controller->pumps_at_once > PUMPS_AT_ONCE)
            world_fail(world, "%c asks to be pumped at once, for ever", world_letter(who));
    }
    if (at != UINT64_MAX && at > world->now_us + 1 && world->rates.pump_delay_us > 0)
        at += generator_below(&world->latency, world->rates.pump_delay_us);
    pump_at(world, who, at);
}

static void on_pump(struct world *world, uint8_t who)
{
    struct controller *controller = &world->controllers[who];
    controller->pump_us = UINT64_MAX;
    if (world->sites)
        array_set_wall(controller->array, copies_wall(world));
    const struct actions *actions = array_pump(controller->array, world_clock(world, who));
    look(world, who);
    copies_look(world, who);
    calls_look(world, who);
    /* Now and then the process is stopped between deciding and doing. */
    bool hold = world->rates.mean_us[FAULT_PAUSE] > 0 && !sites_quiet(world) &&
                generator_chance(&world->chaos, 1, 120);
    if (world->options.replay)
        hold = world->hold_armed[who];
    if (hold && !world->healing && actions->store_count > 0) {
        world->hold_armed[who] = false;
        world_reseed(world, &world->chaos, FAULT_OF_ARRAY);
        if (world->options.record)
            listing_add(world->options.record, &(struct listing_line){.at_us = world->now_us,
                                                                      .kind = LISTING_HOLD,
                                                                      .who = who,
                                                                      .array = world->number});
        uint64_t for_us = world_between(&world->chaos, 1000, world->config.lease_ms * 3000u);
        controller->held = actions;
        world_pause(world, who, for_us);
        if (generator_chance(&world->chaos, 1, 2)) { /* and nobody can end it meanwhile */
            wires_stall_path(world, 0, for_us + 5000);
            wires_stall_path(world, 1, for_us + 5000);
        }
        return;
    }
    perform(world, who, actions);
}

static void on_resume(struct world *world, uint8_t who)
{
    struct controller *controller = &world->controllers[who];
    world_trace(world, "%c goes on", world_letter(who));
    controller->paused = false;
    const struct actions *held = controller->held;
    controller->held = NULL;
    if (held) {
        controller->late = true; /* what it completes now was decided before */
        perform(world, who, held);
        controller->late = false;
    }
    if (controller->running)
        world_touch(world, who);
}

static void on_restart(struct world *world, const struct event *event)
{
    struct controller *controller = &world->controllers[event->who];
    if (controller->running || controller->incarnation != event->stamp || world->finishing ||
        world->destroyed)
        return;
    /* A new process of the same controller first waits until the old one's store operations are
     * over. */
    if (controller->last_dead_ops > 0) {
        world_event(world, world->now_us + 1000, EVENT_RESTART, event->who, 0, event->stamp);
        return;
    }
    bool rebooted = controller->machine_down;
    if (rebooted)
        controller->clock_offset = world_between(&world->latency, 1, 1000000000);
    world_start(world, event->who);
    if (rebooted)
        wires_prove(world, event->who, controller->last_dead);
}

/* ---- the loop ---- */

/* Whether the event waits because the controller that it is for stands still. */
static bool defer(struct world *world, struct event *event)
{
    if (event->who > 1 || !world->controllers[event->who].paused)
        return false;
    switch (event->kind) {
    case EVENT_PUMP:
    case EVENT_MESSAGE:
    case EVENT_STATUS:
    case EVENT_LINK_DOWN:
    case EVENT_LINK_UP:
    case EVENT_REGISTER_ANSWER:
    case EVENT_PROOF:
    case EVENT_SHIP:
    case EVENT_SHIPPED:
    case EVENT_SHIP_DOWN:
    case EVENT_COPY_BATCH:
    case EVENT_COPY_ANSWER:
    case EVENT_COPY_DOWN:
    case EVENT_COPY_RECORD:
    case EVENT_CALL:
    case EVENT_CALL_ANSWER:
    case EVENT_CALL_DOWN:
        event->at_us = world->controllers[event->who].resume_us + 1;
        event_push(world, *event);
        return true;
    default:
        return false;
    }
}

static void dispatch(struct world *world, const struct event *event)
{
    struct controller *controller = event->who < 2 ? &world->controllers[event->who] : NULL;
    switch (event->kind) {
    case EVENT_PUMP:
        if (controller->running && controller->pump_stamp == event->stamp)
            on_pump(world, event->who);
        break;
    case EVENT_STORE_APPLY:
        disks_on_apply(world, event->index);
        break;
    case EVENT_STORE_END:
        if (!disks_on_end(world, event->index))
            world_event(world, world->controllers[event->who].resume_us + 1, EVENT_STORE_END,
                        event->who, event->index, event->stamp);
        break;
    case EVENT_MESSAGE:
        wires_on_message(world, event);
        break;
    case EVENT_STATUS:
        wires_on_status(world, event);
        break;
    case EVENT_LINK_DOWN:
        wires_on_down(world, event);
        break;
    case EVENT_LOGIN:
        wires_on_login(world, event);
        break;
    case EVENT_LINK_UP:
        wires_on_up(world, event);
        break;
    case EVENT_REGISTER_APPLY:
        wires_on_register_apply(world, event);
        break;
    case EVENT_REGISTER_ANSWER:
        wires_on_register_answer(world, event);
        break;
    case EVENT_PROOF:
        wires_on_proof(world, event);
        break;
    case EVENT_FENCE:
        wires_on_fence(world, event);
        break;
    case EVENT_WARDEN:
        wires_on_warden(world, event);
        break;
    case EVENT_RESTART:
        on_restart(world, event);
        break;
    case EVENT_RESUME:
        if (controller->running && controller->incarnation == event->stamp && controller->paused)
            on_resume(world, event->who);
        break;
    case EVENT_FAULT:
        faults_on_fault(world, event);
        break;
    case EVENT_OPERATOR:
        faults_on_operator(world, event);
        break;
    case EVENT_HOST:
        hosts_on_turn(world, event);
        break;
    case EVENT_LEAVE:
        hosts_on_leave(world, event);
        break;
    case EVENT_SHIP:
        ships_on_arrival(world, event);
        break;
    case EVENT_SHIPPED:
        ships_on_answer(world, event);
        break;
    case EVENT_SHIP_DOWN:
        ships_on_down(world, event);
        break;
    case EVENT_SHIP_LOGIN:
        ships_on_login(world, event);
        break;
    case EVENT_COPY_LOGIN:
    case EVENT_COPY_BATCH:
    case EVENT_COPY_ANSWER:
    case EVENT_COPY_DOWN:
    case EVENT_COPY_RECORD:
        copies_on_event(world, event);
        break;
    case EVENT_SITES:
        sites_on_turn(world, event);
        break;
    case EVENT_CALL:
    case EVENT_CALL_LOGIN:
    case EVENT_CALL_ANSWER:
    case EVENT_CALL_DOWN:
    case EVENT_CALL_STRIKE:
        calls_on_event(world, event);
        break;
    }
}

/* A site that is destroyed rests. */
static bool site_resting(const struct world *world)
{
    if (world->destroyed)
        return true;
    for (uint8_t w = 0; w < 2; w++) {
        const struct controller *controller = &world->controllers[w];
        if (!controller->running || controller->paused || controller->role != ROLE_PAIRED)
            return false;
        if (world->operator_pending[w] > 0 || controller->stop_asked)
            return false;
    }
    return world->controllers[0].epoch == world->controllers[1].epoch && hosts_waiting(world) == 0;
}

bool world_resting(const struct world *world)
{
    for (const struct world *at = world->root; at; at = at->next)
        if (!site_resting(at))
            return false;
    return world->sites == NULL || sites_resting(world->root);
}

static bool faults_over(const struct world *world)
{
    if (world->options.replay)
        return world->now_us >= world->options.replay->end_us;
    if (world->options.scripted)
        return world->now_us >= SCRIPT_US;
    uint64_t completed = 0;
    for (const struct world *at = world->root; at; at = at->next)
        completed += at->count.completed;
    return sites_begun(world) && completed - sites_at_first(world) >= world->options.steps;
}

static bool both_down(const struct world *world)
{
    return !world->controllers[0].running && !world->controllers[1].running;
}

/* What chance does to this event depends on the seed, the time and the event, and on nothing that
 * happened before: a listing of a run (replay.h) from which other things have been taken out meets
 * the same chances at the same times. */
static void throw_dice(struct world *world, const struct event *event)
{
    uint64_t salt = (uint64_t)event->kind << 3 | (uint64_t)event->who << 1;
    world_reseed(world, &world->latency, salt << 8);
    world_reseed(world, &world->chaos, (salt | 1) << 8);
    for (struct world *at = world->root; at;
         at = at->next) { /* what happens here may be felt there */
        uint64_t far = (uint64_t)(at->number ^ world->number ^ 1) << 40;
        if (at == world)
            continue;
        world_reseed(at, &at->latency, (salt | 1) << 24 | far);
        world_reseed(at, &at->chaos, salt << 24 | far);
    }
}

/* Whose event is next: of several at one instant the first array's. */
static struct world *next_of(struct world *root)
{
    struct world *found = root;
    for (struct world *at = root->next; at; at = at->next)
        if (at->event_count > 0 &&
            (found->event_count == 0 || at->events[0].at_us < found->events[0].at_us))
            found = at;
    return found;
}

static _Noreturn void fail_to_rest(struct world *world, uint64_t limit_us, const char *awaited)
{
    char text[200] = "no request waits", copy[700] = "";
    static struct array_status status[2];
    for (uint8_t w = 0; w < 2; w++)
        if (world->controllers[w].running)
            array_status(world->controllers[w].array, world_clock(world, w), &status[w]);
    hosts_oldest(world, text, sizeof text);
    if (world->sites)
        sites_describe(world, copy, sizeof copy);
    world_fail(world,
               "liveness: %s within %" PRIu64
               " s of calm; a %s %s (%.100s), b %s %s (%.100s); %s%s",
               awaited, limit_us / 1000000, world->controllers[0].running ? "is" : "is down, was",
               role_name(world->controllers[0].role), status[0].reason,
               world->controllers[1].running ? "is" : "is down, was",
               role_name(world->controllers[1].role), status[1].reason, text, copy);
}

/* Steps until `done`, or fails with what was awaited. limit_us: UINT64_MAX when running out of time
 * is no failure. */
static void run_until(struct world *world, bool (*done)(const struct world *), uint64_t limit_us,
                      const char *awaited)
{
    struct world *first = world->root;
    uint64_t end_us = first->now_us + limit_us;
    for (uint64_t i = 0; i < EVENTS_A_PHASE; i++) {
        struct world *at = next_of(first);
        /* Phases change between instants, never within one. */
        bool pause = at->event_count == 0 || at->events[0].at_us > first->now_us;
        if (pause && done(world))
            return;
        struct event event = event_pop(at);
        if (event.at_us > end_us) {
            event_push(at, event);
            if (awaited)
                fail_to_rest(world, limit_us, awaited);
            return;
        }
        CHECK(event.at_us >= first->now_us);
        if (event.at_us > first->now_us)
            first->events_at_once = 0;
        if (++first->events_at_once > EVENTS_AT_ONCE)
            world_fail(at, "time stands still: %d things happened at this instant, without end",
                       EVENTS_AT_ONCE);
        for (struct world *each = first; each; each = each->next)
            each->now_us = event.at_us;
        at->count.events++;
        throw_dice(at, &event);
        if (!defer(at, &event))
            dispatch(at, &event);
    }
    if (awaited && !done(world))
        world_fail(world, "liveness: %s within %d events", awaited, EVENTS_A_PHASE);
}

static void stop(struct world *world, uint8_t who)
{
    if (!world->controllers[who].running)
        return;
    world->controllers[who].stop_asked = true;
    world_trace(world, "the operator stops %c", world_letter(who));
    array_operator_stop(world->controllers[who].array, world_clock(world, who));
    world_touch(world, who);
}

static bool a_down(const struct world *world)
{
    return !world->controllers[0].running;
}

static bool b_down(const struct world *world)
{
    return !world->controllers[1].running;
}

/* Both are stopped cleanly, in some order; then the stores alone must hold everything. */
static void finish(struct world *world)
{
    world->finishing = true;
    switch (world->finish) {
    case 0:
        stop(world, 0);
        run_until(world, a_down, REST_US, "a stops cleanly");
        stop(world, 1);
        break;
    case 1:
        stop(world, 1);
        run_until(world, b_down, REST_US, "b stops cleanly");
        stop(world, 0);
        break;
    default:
        stop(world, 0);
        stop(world, 1);
        break;
    }
    run_until(world, both_down, REST_US, "both stop cleanly");
    if (world->record.unclean)
        world_fail(world, "both stopped cleanly, but the register says that writes may be missing");
    for (uint8_t s = 0; s < world->config.store_count; s++)
        disks_lose_power(world, s);
    for (uint8_t v = 0; v < world->config.volume_count; v++) {
        const struct volume_config *volume = &world->config.volumes[v];
        if (world->closed[v])
            continue; /* a copy: see sites_compare() */
        const char *wrong =
            oracle_check_store(world->oracle, world->oracle_volume[v],
                               world->disks[volume->store].content + volume->store_offset_bytes);
        if (wrong)
            world_fail(world, "the store, after a clean stop: %s", wrong);
    }
}

static void verify(struct world *world)
{
    world_trace(world, "everything is read");
    hosts_verify(world);
    run_until(world, hosts_verified, REST_US, "everything read");
}

/* What is left when the faults are over and all has come to rest: everything is read, and stopped,
 * and the stores are looked at. */
static void conclude(struct world *root, uint64_t rest_us)
{
    for (struct world *at = root; at; at = at->next)
        if (!at->destroyed)
            verify(at);
    if (root->sites)
        run_until(root, world_resting, rest_us, "the copy at rest");
    for (struct world *at = root; at; at = at->next)
        if (!at->destroyed)
            finish(at);
    if (root->sites)
        sites_compare(root);
}

const char *world_run(struct world *world)
{
    failing = world;
    check_on_failure(on_check);
    if (setjmp(world->out)) {
        if (world->options.record && world->options.record->end_us == 0)
            world->options.record->end_us = world->now_us;
        failing = NULL;
        check_on_failure(NULL);
        return world->failure;
    }
    throw_dice(world, &(struct event){.kind = EVENT_RESTART, .who = 2});
    for (struct world *at = world; at; at = at->next) {
        world_start(at, 0);
        world_start(at, 1);
    }
    run_until(world, faults_over,
              world->options.phase_us > 0 ? world->options.phase_us : FAULT_PHASE_US, NULL);
    world_trace(world, "the faults stop");
    if (world->options.record)
        world->options.record->end_us = world->now_us;
    uint64_t rest_us = REST_US + (world->sites ? sites_rest_us(world) : 0);
    for (struct world *at = world; at; at = at->next)
        faults_heal(at);
    if (world->sites)
        sites_heal(world);
    run_until(world, world_resting, rest_us, "all requests done and the pair paired again");
    conclude(world, rest_us);
    failing = NULL;
    check_on_failure(NULL);
    return NULL;
}
