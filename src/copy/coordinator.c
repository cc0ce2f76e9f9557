/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* When a set is cut, and what follows from the answers: see coordinator.h. It never waits for
 * anything but answers; what goes wrong ends the run, and the next one begins by asking every
 * member what its second array has promoted. */

#include "copy/coordinator.h"

#include "base/mistake.h"

enum { RETRY_US = 100 * 1000 }; /* between two runs */

void coordinator_create(struct coordinator *coordinator, const uint8_t set[GROUP_ID_SIZE],
                        uint8_t member_count, uint8_t self, uint64_t shortest_us)
{
    *coordinator = (struct coordinator){
        .member_count = member_count, .self = self, .shortest_us = shortest_us};
    memcpy(coordinator->set, set, GROUP_ID_SIZE);
}

static uint8_t all_members(const struct coordinator *coordinator)
{
    return (uint8_t)((1u << coordinator->member_count) - 1);
}

/* ---- messages ---- */

static struct coordinator_message *message_of(struct coordinator_member *member, uint64_t number)
{
    return &member->messages[number % CUT_WINDOW];
}

/* The next number that has a place; WANTED may keep its own for long. 0: there is none. */
static uint64_t number_for(struct coordinator_member *member)
{
    for (uint64_t number = member->next_number + 1; number <= member->next_number + CUT_WINDOW;
         number++) {
        if (message_of(member, number)->number == 0)
            return number;
    }
    return 0;
}

static bool say(struct coordinator *coordinator, uint8_t index, enum cut_type type, uint64_t cut)
{
    struct coordinator_member *member = &coordinator->members[index];
    uint64_t number = number_for(member);
    if (!member->up || number == 0)
        return false;
    member->next_number = number;
    struct coordinator_message *message = message_of(member, number);
    *message = (struct coordinator_message){
        .number = member->next_number,
        .message = {.type = (uint8_t)type, .run = coordinator->run, .cut = cut}};
    memcpy(message->message.set, coordinator->set, GROUP_ID_SIZE);
    return true;
}

static bool is_asked(const struct coordinator *coordinator, uint8_t index, enum cut_type type)
{
    for (int i = 0; i < CUT_WINDOW; i++) {
        const struct coordinator_message *message = &coordinator->members[index].messages[i];
        if (message->number != 0 && message->message.type == type &&
            message->message.run == coordinator->run)
            return true;
    }
    return false;
}

/* What nobody has been given yet need not be said any more. */
static void unsay(struct coordinator *coordinator)
{
    for (uint8_t m = 0; m < coordinator->member_count; m++) {
        for (int i = 0; i < CUT_WINDOW; i++) {
            struct coordinator_message *message = &coordinator->members[m].messages[i];
            if (!message->given)
                message->number = 0;
        }
    }
}

const struct coordinator_message *coordinator_next(struct coordinator *coordinator, uint8_t index)
{
    struct coordinator_member *member = &coordinator->members[index];
    struct coordinator_message *oldest = NULL;
    for (int i = 0; i < CUT_WINDOW; i++) {
        struct coordinator_message *message = &member->messages[i];
        if (message->number != 0 && !message->given &&
            (oldest == NULL || message->number < oldest->number))
            oldest = message;
    }
    if (oldest != NULL)
        oldest->given = true;
    return oldest;
}

/* ---- runs ---- */

static void begin_run(struct coordinator *coordinator, uint64_t now_us, uint64_t pause_us)
{
    coordinator->phase = COORDINATOR_RESOLVING;
    coordinator->run++;
    coordinator->runs++;
    coordinator->target = 0;
    coordinator->retry_us = now_us + pause_us;
    for (int i = 0; i < COPY_CLOSED; i++) {
        bool lost = coordinator->cuts[i].step != CUT_NONE && coordinator->cuts[i].step < CUT_FAILED;
        coordinator->cuts_failed += lost;
        coordinator->cuts[i] = (struct coordinator_cut){.step = CUT_NONE};
    }
    for (uint8_t m = 0; m < coordinator->member_count; m++)
        coordinator->members[m].reported = false;
    unsay(coordinator);
}

/* The run is broken: another one. */
static void again(struct coordinator *coordinator, uint64_t now_us)
{
    if (coordinator->phase == COORDINATOR_IDLE)
        return;
    coordinator->touched = true;
    begin_run(coordinator, now_us, RETRY_US);
}

void coordinator_lead(struct coordinator *coordinator, uint64_t now_us, uint64_t run)
{
    CHECK(coordinator->phase == COORDINATOR_IDLE);
    coordinator->run = max_u64(coordinator->run, run);
    coordinator->late_row = 0;
    begin_run(coordinator, now_us, 0);
}

void coordinator_stop(struct coordinator *coordinator)
{
    coordinator->phase = COORDINATOR_IDLE;
    coordinator->touched = false;
    for (int i = 0; i < COPY_CLOSED; i++)
        coordinator->cuts[i].step = CUT_NONE;
    unsay(coordinator);
}

static void resolved(struct coordinator *coordinator)
{
    for (uint8_t m = 0; m < coordinator->member_count; m++) {
        const struct cut_state *state = &coordinator->members[m].state;
        coordinator->target = max_u64(coordinator->target, state->promoted);
        coordinator->floor = max_u64(coordinator->floor, max_u64(state->promoted, state->held));
        coordinator->members[m].reported = false;
    }
    if (MISTAKE(set_not_resolved))
        coordinator->target = 0;
    coordinator->promoted = coordinator->target;
    coordinator->phase = COORDINATOR_BEGINNING;
}

/* RESOLVE, and then BEGIN: to each member until it has answered well; when all have, the next. */
static void ask_all(struct coordinator *coordinator, uint64_t now_us)
{
    bool resolves = coordinator->phase == COORDINATOR_RESOLVING;
    enum cut_type type = resolves ? CUT_RESOLVE : CUT_BEGIN;
    bool all = true;
    for (uint8_t m = 0; m < coordinator->member_count; m++) {
        all &= coordinator->members[m].reported;
        if (!coordinator->members[m].reported && !is_asked(coordinator, m, type))
            say(coordinator, m, type, resolves ? 0 : coordinator->target);
    }
    if (!all)
        return;
    if (resolves) {
        resolved(coordinator);
        ask_all(coordinator, now_us);
        return;
    }
    coordinator->phase = COORDINATOR_RUNS;
    coordinator->cut_us = now_us;
    coordinator->wanted = true;
}

/* ---- members ---- */

void coordinator_up(struct coordinator *coordinator, uint64_t now_us, uint8_t index,
                    const struct cut_state *state)
{
    CHECK(index < coordinator->member_count);
    struct coordinator_member *member = &coordinator->members[index];
    CHECK(!member->up);
    member->up = true;
    coordinator_state(coordinator, now_us, index, state);
}

void coordinator_down(struct coordinator *coordinator, uint64_t now_us, uint8_t index)
{
    CHECK(index < coordinator->member_count);
    struct coordinator_member *member = &coordinator->members[index];
    if (!member->up)
        return;
    member->up = false;
    memset(member->messages, 0, sizeof member->messages);
    if (coordinator->phase == COORDINATOR_RESOLVING)
        member->reported = false; /* what it said may be another leader's by now */
    else
        again(coordinator, now_us);
}

void coordinator_state(struct coordinator *coordinator, uint64_t now_us, uint8_t index,
                       const struct cut_state *state)
{
    CHECK(index < coordinator->member_count);
    struct coordinator_member *member = &coordinator->members[index];
    if (!member->up || memcmp(state->set, coordinator->set, GROUP_ID_SIZE) != 0)
        return;
    member->state = *state;
    if (coordinator->phase == COORDINATOR_IDLE)
        return;
    coordinator->touched |= coordinator->phase != COORDINATOR_RUNS;
    /* Another controller of this array had begun runs: ours must be newer. */
    if (state->run > coordinator->run) {
        coordinator->run = state->run;
        begin_run(coordinator, now_us, 0);
    } else if (coordinator->phase == COORDINATOR_RUNS &&
               (state->run != coordinator->run || !(state->flags & CUT_STATE_RUNS))) {
        again(coordinator, now_us);
    }
}

/* ---- cuts ---- */

static struct coordinator_cut *cut_of(struct coordinator *coordinator, uint64_t cut)
{
    for (int i = 0; i < COPY_CLOSED; i++) {
        if (coordinator->cuts[i].step != CUT_NONE && coordinator->cuts[i].cut == cut)
            return &coordinator->cuts[i];
    }
    return NULL;
}

static void say_to_all(struct coordinator *coordinator, uint64_t now_us, enum cut_type type,
                       uint64_t cut)
{
    for (uint8_t m = 0; m < coordinator->member_count; m++) {
        if (say(coordinator, m, type, cut))
            continue;
        again(coordinator, now_us);
        return;
    }
}

static bool a_cut_closes(const struct coordinator *coordinator)
{
    for (int i = 0; i < COPY_CLOSED; i++) {
        if (coordinator->cuts[i].step == CUT_CLOSES)
            return true;
    }
    return false;
}

static void begin_cut(struct coordinator *coordinator, uint64_t now_us, uint64_t number)
{
    struct coordinator_cut *cut = coordinator->cuts;
    while (cut->step != CUT_NONE)
        cut++;
    CHECK(number > coordinator->cut);
    CHECK(number > coordinator->floor);
    *cut = (struct coordinator_cut){.step = CUT_CLOSES, .cut = number, .begun_us = now_us};
    coordinator->cut = number;
    coordinator->cut_us = now_us;
    coordinator->wanted = false;
    say_to_all(coordinator, now_us, CUT_CLOSE, number);
}

/* All second arrays have promoted it, and with it what failed before. */
static void promoted(struct coordinator *coordinator, uint64_t number)
{
    coordinator->promoted = max_u64(coordinator->promoted, number);
    coordinator->cuts_made++;
    coordinator->late_row = 0;
    for (int i = 0; i < COPY_CLOSED; i++) {
        struct coordinator_cut *cut = &coordinator->cuts[i];
        if (cut->step != CUT_NONE && cut->cut <= number)
            cut->step = CUT_NONE;
    }
}

static void next_step(struct coordinator *coordinator, uint64_t now_us, struct coordinator_cut *cut)
{
    cut->answered = 0;
    switch (cut->step) {
    case CUT_CLOSES:
        coordinator->close_us = now_us - cut->begun_us;
        cut->step = CUT_RELEASES;
        say_to_all(coordinator, now_us, CUT_RELEASE, cut->cut);
        break;
    case CUT_RELEASES:
        cut->step = CUT_PROMOTES;
        say_to_all(coordinator, now_us, CUT_PROMOTE, cut->cut);
        break;
    default:
        promoted(coordinator, cut->cut);
        break;
    }
}

static void cut_answered(struct coordinator *coordinator, uint64_t now_us, uint8_t index,
                         const struct cut_message *message, bool good)
{
    static const enum coordinator_step steps[CUT_TYPE_COUNT] = {
        [CUT_CLOSE] = CUT_CLOSES, [CUT_RELEASE] = CUT_RELEASES, [CUT_PROMOTE] = CUT_PROMOTES};
    struct coordinator_cut *cut = cut_of(coordinator, message->cut);
    if (cut == NULL || cut->step != steps[message->type])
        return;
    if (!good && cut->step == CUT_RELEASES) {
        cut->step = CUT_FAILED; /* its cycles stay closed, and count with the next cut */
        coordinator->cuts_failed++;
        coordinator->late_row++;
        coordinator->wanted = true; /* what is in it waits for the next one */
        return;
    }
    if (!good) {
        again(coordinator, now_us);
        return;
    }
    cut->answered |= (uint8_t)(1u << index);
    bool early = (MISTAKE(set_released_early) && cut->step == CUT_CLOSES) ||
                 (MISTAKE(set_promoted_early) && cut->step == CUT_RELEASES);
    if (cut->answered == all_members(coordinator) || early)
        next_step(coordinator, now_us, cut);
}

void coordinator_answered(struct coordinator *coordinator, uint64_t now_us, uint8_t index,
                          uint64_t number, bool good)
{
    CHECK(index < coordinator->member_count);
    struct coordinator_member *member = &coordinator->members[index];
    struct coordinator_message *place = message_of(member, number);
    if (number == 0 || place->number != number || !place->given)
        return;
    struct cut_message message = place->message;
    place->number = 0;
    if (coordinator->phase == COORDINATOR_IDLE)
        return;
    coordinator->touched = true;
    if (message.run != coordinator->run)
        return;
    if (message.type == CUT_WANTED && good) {
        coordinator->wanted = true;
        return;
    }
    if (message.type >= CUT_CLOSE && message.type != CUT_WANTED) {
        cut_answered(coordinator, now_us, index, &message, good);
        return;
    }
    bool right = member->state.run == coordinator->run && (member->state.flags & CUT_STATE_SEALED);
    if (good && (message.type == CUT_BEGIN || right))
        member->reported = true;
    else
        again(coordinator, now_us);
}

static uint64_t next_cut_us(const struct coordinator *coordinator)
{
    uint64_t pause_us = coordinator->wanted
                            ? coordinator->shortest_us
                            : max_u64(coordinator->shortest_us, COPY_IDLE_MS * 1000);
    return coordinator->cut_us + pause_us;
}

/* Who is asked already answers when there is something. */
static void ask_who_wants(struct coordinator *coordinator)
{
    for (uint8_t m = 0; m < coordinator->member_count && !coordinator->wanted; m++) {
        if (!is_asked(coordinator, m, CUT_WANTED))
            say(coordinator, m, CUT_WANTED, 0);
    }
}

void coordinator_pump(struct coordinator *coordinator, uint64_t now_us, uint64_t next_cut)
{
    uint32_t failed = 0, used = 0;
    coordinator->touched = false;
    switch (coordinator->phase) {
    case COORDINATOR_IDLE:
        return;
    case COORDINATOR_RUNS:
        break;
    default:
        if (now_us >= coordinator->retry_us)
            ask_all(coordinator, now_us);
        return;
    }
    for (int i = 0; i < COPY_CLOSED; i++) {
        failed += coordinator->cuts[i].step == CUT_FAILED;
        used += coordinator->cuts[i].step != CUT_NONE;
    }
    if (failed == COPY_CLOSED)
        again(coordinator, now_us); /* no place for a cycle is left anywhere */
    else if (used < COPY_CLOSED && !a_cut_closes(coordinator) && next_cut != 0 &&
             now_us >= next_cut_us(coordinator))
        begin_cut(coordinator, now_us, next_cut);
    if (coordinator->phase == COORDINATOR_RUNS)
        ask_who_wants(coordinator);
}

uint64_t coordinator_deadline(const struct coordinator *coordinator)
{
    uint32_t used = 0;
    switch (coordinator->phase) {
    case COORDINATOR_IDLE:
        return UINT64_MAX;
    case COORDINATOR_RUNS:
        for (int i = 0; i < COPY_CLOSED; i++)
            used += coordinator->cuts[i].step != CUT_NONE;
        return used == COPY_CLOSED || a_cut_closes(coordinator) ? UINT64_MAX
                                                                : next_cut_us(coordinator);
    default:
        return coordinator->retry_us;
    }
}
