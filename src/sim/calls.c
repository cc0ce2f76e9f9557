/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See calls.h. What travels is copied when it is sent. A session may still deliver what it carried
 * when its initiator believes it lost, until the same controller lets a new one in; at the other
 * controller even later. Each message is answered exactly once, unless its controller dies. */

#include "sim/calls.h"

#include "sim/faults.h"
#include "sim/sites.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_LIMIT_US = 60 * 1000 * 1000 };

/* Who dies with a message. */
enum { STRIKE_SENDER, STRIKE_TARGET, STRIKE_OTHER, STRIKE_SECOND, STRIKE_SITE, STRIKE_BETWEEN };

struct line { /* the session of one coordinating controller to one member */
    bool up, breaking;
    bool asking;     /* for the state */
    uint8_t target;  /* the controller there */
    uint32_t misses; /* logins in a row that came to nothing */
    uint64_t generation;
    uint64_t turn;       /* the event that asks or logs in next */
    uint64_t arrives_us; /* what was sent last: nothing passes it */
};

struct call {
    bool used, dropped, there, corrupt;
    bool message;   /* a message; else a question for the state */
    bool login;     /* the question that a login begins with */
    uint64_t after; /* the question belongs to the answer of this message; 0: it does not */
    uint8_t who, member, target;
    uint64_t number; /* which of all calls */
    uint64_t session, incarnation;
    uint64_t target_incarnation; /* there: who has it */
    uint64_t since_us;
    uint64_t action;
    bool state_wanted, good;
    uint8_t type;
    uint8_t bytes[CUT_MESSAGE_SIZE];
    struct cut_state state;
};

/* How long completions have been held at a controller. */
struct hold {
    bool on;
    uint64_t count, since_us; /* on its own clock */
};

struct calls {
    struct world *root;
    struct calls_rates rates;
    uint8_t group;        /* of the coordinating array */
    uint64_t heals_us[2]; /* nothing gets to the members, or back, before */
    bool corrupt_next;
    uint8_t strike_type; /* armed: who dies when the next message of this type has left; 0: no */
    uint8_t strike_whom;
    uint64_t numbers;
    struct call *calls;
    uint32_t room;
    struct line lines[2][SET_LIMIT];
    struct hold holds[ARRAYS_LIMIT][2];
};

static const char *const type_name[CUT_TYPE_COUNT] = {"?",       "RESOLVE", "BEGIN", "CLOSE",
                                                      "RELEASE", "PROMOTE", "WANTED"};

struct calls *calls_create(struct world *root, const struct calls_rates *rates)
{
    struct calls *calls = calloc(1, sizeof *calls);
    CHECK(calls != NULL);
    calls->root = root;
    calls->rates = *rates;
    calls->group = root->twins[0].group[0];
    return calls;
}

void calls_destroy(struct calls *calls)
{
    if (calls)
        free(calls->calls);
    free(calls);
}

static struct world *member_at(const struct calls *calls, uint8_t member)
{
    return calls->root->twins[member].site[0];
}

static uint8_t group_at(const struct calls *calls, uint8_t member)
{
    return calls->root->twins[member].group[0];
}

static struct line *line_of(struct calls *calls, uint8_t who, uint8_t member)
{
    return &calls->lines[who][member];
}

static uint64_t travel_us(struct calls *calls, struct world *from)
{
    return calls->rates.latency_us + generator_below(&from->latency, calls->rates.jitter_us + 1);
}

static bool way_up(const struct calls *calls, bool back)
{
    return calls->root->now_us >= calls->heals_us[back];
}

/* ---- calls ---- */

static struct call *call_take(struct calls *calls)
{
    uint32_t i = 0;
    while (i < calls->room && calls->calls[i].used)
        i++;
    if (i == calls->room)
        calls->calls = world_grow(calls->calls, &calls->room, sizeof *calls->calls, 16);
    calls->calls[i] = (struct call){.used = true, .number = ++calls->numbers};
    return &calls->calls[i];
}

static struct call *call_begin(struct calls *calls, uint8_t who, uint8_t member)
{
    const struct line *line = line_of(calls, who, member);
    struct call *call = call_take(calls);
    call->who = who;
    call->member = member;
    call->target = line->target;
    call->session = line->generation;
    call->incarnation = calls->root->controllers[who].incarnation;
    call->since_us = calls->root->now_us;
    return call;
}

static void call_go(struct calls *calls, struct call *call)
{
    struct line *line = line_of(calls, call->who, call->member);
    uint64_t at_us = calls->root->now_us + travel_us(calls, calls->root);
    line->arrives_us = max_u64(line->arrives_us + 1, at_us);
    world_event(member_at(calls, call->member), line->arrives_us, EVENT_CALL, call->target,
                (uint32_t)(call - calls->calls), call->number);
}

static void call_return(struct calls *calls, struct call *call)
{
    struct world *from = member_at(calls, call->member);
    world_event(calls->root, from->now_us + travel_us(calls, from), EVENT_CALL_ANSWER, call->who,
                (uint32_t)(call - calls->calls), call->number);
}

/* Its initiator still takes answers in the session that it belongs to. */
static bool is_live(struct calls *calls, const struct call *call)
{
    const struct controller *controller = &calls->root->controllers[call->who];
    const struct line *line = line_of(calls, call->who, call->member);
    return controller->running && controller->incarnation == call->incarnation &&
           line->generation == call->session && !line->breaking && (line->up || call->login);
}

static struct call *call_of(struct calls *calls, const struct event *event)
{
    struct call *call = &calls->calls[event->index];
    return call->used && call->number == event->stamp ? call : NULL;
}

/* ---- sessions ---- */

static void login_later(struct calls *calls, uint8_t who, uint8_t member, uint64_t after_us)
{
    struct line *line = line_of(calls, who, member);
    line->turn = ++calls->numbers;
    world_event(calls->root, calls->root->now_us + after_us, EVENT_CALL_LOGIN, who, member,
                line->turn);
}

static void lose(struct calls *calls, uint8_t who, uint8_t member, uint64_t notice_us)
{
    struct line *line = line_of(calls, who, member);
    struct world *root = calls->root;
    if (!line->up || line->breaking)
        return;
    line->breaking = true;
    world_trace(root, "the session of %c to member %u is cut", world_letter(who), member);
    for (uint32_t i = 0; i < calls->room; i++) {
        struct call *call = &calls->calls[i];
        if (call->used && call->who == who && call->member == member && !call->there &&
            generator_chance(&root->latency, 1, 2))
            call->dropped = true;
    }
    world_event(root, root->now_us + 1 + generator_below(&root->latency, notice_us),
                EVENT_CALL_DOWN, who, member, line->generation);
}

static void on_down(struct calls *calls, const struct event *event)
{
    struct world *root = calls->root;
    uint8_t who = event->who, member = (uint8_t)event->index;
    struct line *line = line_of(calls, who, member);
    struct controller *controller = &root->controllers[who];
    if (!line->up || line->generation != event->stamp || !controller->running)
        return;
    line->up = line->breaking = line->asking = false;
    line->generation++;
    world_trace(root, "%c loses its session to member %u", world_letter(who), member);
    array_on_cut_down(controller->array, world_clock(root, who), calls->group, member);
    world_touch(root, who);
    login_later(calls, who, member, world_between(&root->latency, 100, 50000));
}

static void ask(struct calls *calls, uint8_t who, uint8_t member, bool login, uint64_t after)
{
    struct call *call = call_begin(calls, who, member);
    if (after == 0)
        line_of(calls, who, member)->asking = true;
    call->login = login;
    call->after = after;
    call_go(calls, call);
}

static void miss(struct calls *calls, uint8_t who, uint8_t member)
{
    struct line *line = line_of(calls, who, member);
    line->asking = false;
    line->generation++;
    line->target = !line->target;
    uint64_t most_us = ++line->misses % 2 ? 1000 : 100000;
    login_later(calls, who, member, world_between(&calls->root->latency, 100, most_us));
}

static void on_login(struct calls *calls, const struct event *event)
{
    struct world *root = calls->root;
    uint8_t who = event->who, member = (uint8_t)event->index;
    struct controller *controller = &root->controllers[who];
    struct line *line = line_of(calls, who, member);
    const struct world *there = member_at(calls, member);
    if (!controller->running || line->turn != event->stamp || root->destroyed)
        return;
    if (line->up) { /* the state is asked for again */
        if (!line->asking && !line->breaking && !controller->paused)
            ask(calls, who, member, false, 0);
        login_later(calls, who, member, calls->rates.ask_us);
        return;
    }
    if (controller->paused ||
        array_group_role(controller->array, calls->group) == GROUP_ROLE_RECEIVING) {
        login_later(calls, who, member, world_between(&root->latency, 5000, 50000));
        return;
    }
    if (!way_up(calls, false) || !way_up(calls, true) || there->destroyed ||
        !world_answers(there, line->target)) {
        miss(calls, who, member);
        return;
    }
    ask(calls, who, member, true, 0);
}

static void on_state(struct calls *calls, const struct call *call)
{
    struct world *root = calls->root;
    uint8_t who = call->who, member = call->member;
    struct controller *controller = &root->controllers[who];
    struct line *line = line_of(calls, who, member);
    bool leads = call->state.flags & CUT_STATE_LEADER;
    if (call->after == 0)
        line->asking = false;
    if (call->login && !leads) {
        miss(calls, who, member);
        return;
    }
    uint64_t clock = world_clock(root, who);
    if (call->login) {
        for (uint32_t i = 0; i < calls->room; i++) { /* a new session ends the old one there */
            struct call *old = &calls->calls[i];
            if (old->used && old->who == who && old->member == member &&
                old->target == line->target && !old->there)
                old->dropped = true;
        }
        line->up = true;
        line->misses = 0;
        world_trace(root,
                    "%c is logged in at %c of member %u: run %" PRIu64 " promoted %" PRIu64
                    " held %" PRIu64 "%s%s",
                    world_letter(who), world_letter(line->target), member, call->state.run,
                    call->state.promoted, call->state.held,
                    call->state.flags & CUT_STATE_SEALED ? ", sealed" : "",
                    call->state.flags & CUT_STATE_RUNS ? ", runs" : "");
        array_on_cut_up(controller->array, clock, calls->group, member, &call->state);
        world_touch(root, who);
        login_later(calls, who, member, calls->rates.ask_us);
        return;
    }
    if (!leads) {
        line->target = !line->target;
        lose(calls, who, member, 200);
        return;
    }
    array_on_cut_state(controller->array, clock, calls->group, member, &call->state);
    if (call->after != 0)
        array_on_cut_answered(controller->array, clock, calls->group, member, call->after, true);
    world_touch(root, who);
}

void calls_start(struct world *world, uint8_t who)
{
    struct calls *calls = world->calls;
    if (calls == NULL || world != calls->root)
        return;
    for (uint8_t m = 0; m < world->root->twin_count; m++) {
        if (!array_cut_elsewhere(&world->config, calls->group, m))
            continue;
        line_of(calls, who, m)->target = (uint8_t)generator_below(&world->latency, 2);
        login_later(calls, who, m, world_between(&world->latency, 100, 20000));
    }
}

/* ---- at the member ---- */

/* Nothing gets through now: again when the way is open. */
static bool is_stalled(struct calls *calls, struct world *to, bool back, const struct event *event)
{
    if (way_up(calls, back))
        return false;
    world_event(to, calls->heals_us[back] + 100, event->kind, event->who, event->index,
                event->stamp);
    return true;
}

static void on_arrival(struct calls *calls, struct world *world, const struct event *event)
{
    struct call *call = call_of(calls, event);
    if (call == NULL)
        return;
    struct controller *controller = &world->controllers[event->who];
    if (call->dropped || !controller->running || calls->root->destroyed) {
        call->used = false;
        return;
    }
    if (is_stalled(calls, world, false, event))
        return;
    uint8_t group = group_at(calls, call->member);
    call->there = true;
    call->since_us = world->now_us;
    call->target_incarnation = controller->incarnation;
    if (!call->message) {
        uint8_t bytes[CUT_STATE_SIZE];
        array_cut_state(controller->array, group, &call->state);
        cut_put_state(bytes, &call->state);
        const char *wrong = cut_get_state(bytes, sizeof bytes, &call->state);
        if (wrong)
            world_fail(world, "%c says of its part in the set: %s", world_letter(event->who),
                       wrong);
        call_return(calls, call);
        return;
    }
    uint32_t length = CUT_MESSAGE_SIZE;
    if (call->corrupt && generator_chance(&world->chaos, 1, 3))
        length = (uint32_t)generator_below(&world->chaos, length);
    else if (call->corrupt) {
        uint8_t bit = (uint8_t)(1 << generator_below(&world->chaos, 8));
        call->bytes[generator_below(&world->chaos, length)] ^= bit;
    }
    world_trace(world, "%c gets %s %" PRIu64 " of %c%s", world_letter(event->who),
                type_name[call->type], call->action, world_letter(call->who),
                call->corrupt ? ", changed on its way" : "");
    array_on_cut_message(controller->array, world_clock(world, event->who), call->number, group,
                         call->bytes, length);
    memset(call->bytes, 0xDD, sizeof call->bytes);
    world_touch(world, event->who);
}

static void reply(struct calls *calls, struct world *world, uint8_t who,
                  const struct cut_reply *reply)
{
    for (uint32_t i = 0; i < calls->room; i++) {
        struct call *call = &calls->calls[i];
        if (!call->used || !call->message || call->number != reply->handle || !call->there ||
            call->target != who || member_at(calls, call->member) != world ||
            call->target_incarnation != world->controllers[who].incarnation)
            continue;
        world_trace(world, "%c answers %s %" PRIu64 " of %c: %s", world_letter(who),
                    type_name[call->type], call->action, world_letter(call->who),
                    reply->good ? "good" : "refused");
        if (call->corrupt && reply->good)
            world_fail(world, "%c takes a message that was changed on its way", world_letter(who));
        call->good = reply->good;
        call->target_incarnation = 0;
        world->count.cut_replies[reply->good]++;
        call_return(calls, call);
        return;
    }
    world_fail(world, "%c answers a message about a cut that it does not have", world_letter(who));
}

static void on_answer(struct calls *calls, const struct event *event)
{
    struct world *root = calls->root;
    struct call *call = call_of(calls, event);
    if (call == NULL)
        return;
    struct controller *controller = &root->controllers[event->who];
    struct line *line = line_of(calls, call->who, call->member);
    if (call->dropped || !is_live(calls, call) || member_at(calls, call->member)->destroyed) {
        bool asked = !call->message && call->after == 0 && line->generation == call->session &&
                     controller->running && controller->incarnation == call->incarnation;
        call->used = false;
        if (asked)
            line->asking = false;
        if (asked && !line->up)
            miss(calls, event->who, call->member);
        return;
    }
    if (is_stalled(calls, root, true, event))
        return;
    call->used = false;
    struct call over = *call;
    if (!over.message) {
        on_state(calls, &over);
    } else if (over.good && over.state_wanted) {
        ask(calls, over.who, over.member, false, over.action);
    } else {
        array_on_cut_answered(controller->array, world_clock(root, event->who), calls->group,
                              over.member, over.action, over.good);
        world_touch(root, event->who);
    }
}

/* ---- what a controller asks for ---- */

/* The message that an armed fault waits for has left: somebody dies while it is on its way, or its
 * answer, or just behind that. */
static void strike(struct calls *calls, const struct call *call)
{
    struct world *root = calls->root, *there = member_at(calls, call->member);
    if (calls->strike_type != call->type || root->healing)
        return;
    calls->strike_type = 0;
    uint64_t after_us = 1 + generator_below(&root->chaos, calls->rates.latency_us * 5 + 2000);
    uint8_t other = (uint8_t)generator_below(&root->chaos, 2);
    world_trace(root, "this %s is the last of someone's", type_name[call->type]);
    switch (calls->strike_whom) {
    case STRIKE_SENDER:
        world_event(root, root->now_us + after_us, EVENT_CALL_STRIKE, call->who, 0,
                    call->incarnation);
        break;
    case STRIKE_TARGET:
        world_event(there, there->now_us + after_us, EVENT_CALL_STRIKE, call->target, 0,
                    there->controllers[call->target].incarnation);
        break;
    case STRIKE_OTHER: /* the other half of either */
        there = other ? there : root;
        other = there == root ? !call->who : !call->target;
        world_event(there, there->now_us + after_us, EVENT_CALL_STRIKE, other, 0,
                    there->controllers[other].incarnation);
        break;
    case STRIKE_SECOND: {
        uint8_t twin = (uint8_t)generator_below(&root->chaos, root->twin_count);
        there = root->twins[twin].site[1];
        world_event(there, there->now_us + after_us, EVENT_CALL_STRIKE, other, 0,
                    there->controllers[other].incarnation);
        break;
    }
    case STRIKE_SITE:
        sites_strike(root, after_us);
        break;
    case STRIKE_BETWEEN: /* one copy may show the cut and another not; and that is the last chance
                            to make them show the same */
        after_us = 1 + generator_below(&root->chaos, calls->rates.latency_us + 1);
        world_event(root, root->now_us + after_us, EVENT_CALL_STRIKE, call->who, 0,
                    call->incarnation);
        calls->strike_type = other ? CUT_BEGIN : CUT_CLOSE;
        calls->strike_whom = STRIKE_SITE;
        break;
    default:
        CHECK(false);
    }
}

static void send(struct calls *calls, struct world *world, uint8_t who,
                 const struct cut_action *action)
{
    struct cut_message message;
    struct line *line = line_of(calls, who, action->member);
    if (world != calls->root || action->group != calls->group ||
        action->member >= calls->root->twin_count)
        world_fail(world, "%c says something about a cut to nobody", world_letter(who));
    if (!line->up)
        world_fail(world, "%c says something about a cut although its session is down",
                   world_letter(who));
    const char *wrong = cut_get_message(action->bytes, CUT_MESSAGE_SIZE, &message);
    if (wrong)
        world_fail(world, "%c says something that is not sound: %s", world_letter(who), wrong);
    struct call *call = call_begin(calls, who, action->member);
    call->message = true;
    call->action = action->number;
    call->state_wanted = action->state_wanted;
    call->type = message.type;
    memcpy(call->bytes, action->bytes, sizeof call->bytes);
    world->count.calls++;
    world_trace(world, "%c says %s %" PRIu64 " to %c of member %u: run %" PRIu64 " cut %" PRIu64,
                world_letter(who), type_name[message.type], action->number,
                world_letter(line->target), action->member, message.run, message.cut);
    if (line->breaking && generator_chance(&world->latency, 1, 2))
        call->dropped = true;
    if (calls->corrupt_next && !world->healing) {
        calls->corrupt_next = false;
        call->corrupt = true;
    }
    call_go(calls, call);
    strike(calls, call);
}

void calls_perform(struct world *world, uint8_t who, const struct actions *actions)
{
    struct calls *calls = world->calls;
    if (calls == NULL)
        return;
    for (uint32_t i = 0; i < actions->cut_reply_count; i++)
        reply(calls, world, who, &actions->cut_replies[i]);
    for (uint32_t i = 0; i < actions->cut_count; i++)
        send(calls, world, who, &actions->cuts[i]);
}

/* ---- what must hold ---- */

static void look_at_hold(struct calls *calls, struct world *world, uint8_t who)
{
    static struct array_status status;
    struct hold *hold = &calls->holds[world->number][who];
    const struct group_config *config = &world->config.groups[0];
    uint64_t clock = world_clock(world, who);
    array_status(world->controllers[who].array, clock, &status);
    const struct set_status *set = &status.groups[0].set;
    if (set->holding && (!hold->on || hold->count != set->holds)) {
        hold->since_us = clock;
        hold->count = set->holds;
    }
    hold->on = set->holding;
    uint64_t limit_us = config->set.hold_ms * UINT64_C(1000);
    if (hold->on && clock - hold->since_us > limit_us)
        world_fail(world, "%c still holds completions after %" PRIu64 " us", world_letter(who),
                   clock - hold->since_us);
    uint64_t most_us = world->count.hold_longest_us;
    world->count.hold_longest_us = max_u64(most_us, set->hold_longest_us);
}

void calls_look(struct world *world, uint8_t who)
{
    struct calls *calls = world->calls;
    if (calls == NULL)
        return;
    if (!world->second)
        look_at_hold(calls, world, who);
    for (uint32_t i = 0; i < calls->room; i++) {
        const struct call *call = &calls->calls[i];
        if (call->used && call->message && call->there && call->target == who &&
            member_at(calls, call->member) == world &&
            call->target_incarnation == world->controllers[who].incarnation &&
            world->now_us - call->since_us > ANSWER_LIMIT_US)
            world_fail(world, "%c keeps %s %" PRIu64 " of %c without an answer", world_letter(who),
                       type_name[call->type], call->action, world_letter(call->who));
    }
}

/* ---- deaths ---- */

void calls_orphan(struct world *world, uint8_t who, bool silent)
{
    struct calls *calls = world->calls;
    if (calls == NULL)
        return;
    calls->holds[world->number][who] = (struct hold){.on = false};
    bool coordinates = world == calls->root;
    for (uint32_t i = 0; i < calls->room; i++) {
        struct call *call = &calls->calls[i];
        if (!call->used)
            continue;
        if (coordinates && call->who == who && !call->there &&
            generator_chance(&world->latency, 1, 2))
            call->dropped = true;
        if (member_at(calls, call->member) == world && call->target == who && call->there &&
            call->target_incarnation == world->controllers[who].incarnation)
            call->used = false; /* its memory is gone, and so is the answer */
    }
    for (uint8_t m = 0; m < calls->root->twin_count; m++) {
        struct line *line = line_of(calls, who, m);
        if (coordinates) {
            line->up = line->breaking = line->asking = false;
            line->generation++;
            line->turn = 0;
        }
        for (uint8_t w = 0; w < 2 && member_at(calls, m) == world && !coordinates; w++) {
            line = line_of(calls, w, m);
            if (line->target != who)
                continue;
            lose(calls, w, m, silent ? calls->rates.notice_us : 2000);
            if (!line->up && line->asking) /* the login is not answered any more */
                miss(calls, w, m);
        }
    }
}

/* ---- faults ---- */

void calls_fault(struct world *root, enum fault_kind kind, uint8_t who)
{
    struct calls *calls = root->calls;
    struct generator *chaos = &root->chaos;
    uint64_t for_us = generator_chance(chaos, 2, 3) ? world_between(chaos, 100, 50000)
                                                    : world_between(chaos, 1000, 1000000);
    uint64_t how = generator_below(chaos, 3);
    switch (kind) {
    case FAULT_CALL_BREAK:
        for (uint8_t m = 0; m < root->twin_count; m++)
            lose(calls, who, m, calls->rates.notice_us);
        break;
    case FAULT_CALL_STALL:
        for (int back = 0; back < 2; back++)
            if (how == 2 || (int)how == back)
                calls->heals_us[back] = max_u64(calls->heals_us[back], root->now_us + for_us);
        world_trace(root, "nothing gets %s for %" PRIu64 " us",
                    how == 2   ? "to the members and back"
                    : how == 0 ? "to the members"
                               : "back from the members",
                    for_us);
        for (uint8_t w = 0; w < 2; w++)
            for (uint8_t m = 0; m < root->twin_count; m++)
                if (generator_chance(chaos, 1, 4))
                    lose(calls, w, m, calls->rates.notice_us);
        break;
    case FAULT_CALL_CORRUPT:
        calls->corrupt_next = true;
        break;
    case FAULT_CALL_STRIKE:
        calls->strike_type = (uint8_t)world_between(chaos, CUT_RESOLVE, CUT_PROMOTE);
        calls->strike_whom = (uint8_t)generator_below(chaos, STRIKE_SITE);
        break;
    default:
        CHECK(false);
    }
}

uint64_t calls_arm_site(struct calls *calls)
{
    struct generator *chaos = &calls->root->chaos;
    calls->strike_type = (uint8_t)world_between(chaos, CUT_CLOSE, CUT_PROMOTE);
    calls->strike_whom = STRIKE_SITE;
    if (generator_chance(chaos, 1, 2))
        return 500000;
    calls->strike_type = CUT_PROMOTE;
    calls->strike_whom = STRIKE_BETWEEN;
    return 3000000; /* another controller has to take over first */
}

void calls_heal(struct calls *calls)
{
    uint64_t now_us = calls->root->now_us;
    calls->corrupt_next = false;
    calls->strike_type = 0;
    for (int back = 0; back < 2; back++)
        calls->heals_us[back] = min_u64(calls->heals_us[back], now_us);
}

void calls_on_event(struct world *world, const struct event *event)
{
    struct calls *calls = world->calls;
    switch (event->kind) {
    case EVENT_CALL_LOGIN:
        on_login(calls, event);
        break;
    case EVENT_CALL:
        on_arrival(calls, world, event);
        break;
    case EVENT_CALL_ANSWER:
        on_answer(calls, event);
        break;
    case EVENT_CALL_DOWN:
        on_down(calls, event);
        break;
    case EVENT_CALL_STRIKE:
        if (world->controllers[event->who].running && !world->healing && !world->options.replay &&
            world->controllers[event->who].incarnation == event->stamp)
            faults_aim(world, FAULT_CRASH, event->who, 0);
        break;
    default:
        CHECK(false);
    }
}
