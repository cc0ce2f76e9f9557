/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Groups of several primary arrays that are cut at one moment: what a group does as the member of
 * its set, at its leader, and the way between the coordinator (copy/coordinator.h) and its members,
 * of which some may be here. The rule kept here: nothing of a group in a set goes to its second
 * array but in a run of the set, because a new term there discards what is held, and that may be
 * the cut that another second array has promoted. */

#include "array/internal.h"
#include "base/mistake.h"

#include <stdio.h>

static uint8_t index_of(const struct array *array, const struct group *group)
{
    return (uint8_t)(group - array->copy.groups);
}

/* The group here that is this member of the same set, or NULL: it is at another array. */
static struct group *member_here(struct array *array, const struct group_set *set, uint8_t member)
{
    for (uint32_t i = 0; i < array->config.group_count; i++) {
        const struct group_set *other = &array->config.groups[i].set;
        if (other->member_count != 0 && other->self == member &&
            memcmp(other->id, set->id, GROUP_ID_SIZE) == 0)
            return &array->copy.groups[i];
    }
    return NULL;
}

bool array_cut_elsewhere(const struct array_config *config, uint8_t group, uint8_t member)
{
    CHECK(group < config->group_count);
    const struct group_set *set = &config->groups[group].set;
    if (set->member_count == 0 || member >= set->member_count || member == set->self ||
        config->groups[group].side != GROUP_PRIMARY)
        return false;
    for (uint32_t i = 0; i < config->group_count; i++) {
        const struct group_set *other = &config->groups[i].set;
        if (other->member_count != 0 && other->self == member &&
            memcmp(other->id, set->id, GROUP_ID_SIZE) == 0)
            return false;
    }
    return true;
}

void copy_set_create(struct group *group)
{
    if (copy_in_set(group))
        coordinator_create(&group->coordinator, group->config->set.id,
                           group->config->set.member_count, group->config->set.self,
                           group->config->shortest_us);
}

/* This controller speaks for the group. */
static bool leads(const struct array *array, const struct group *group)
{
    const struct site *site = &group->site;
    return copy_in_set(group) && copy_serves(array) && group->sender.leader &&
           site->now.role == SITE_PRIMARY && site->settled && !site->now.unknown;
}

/* ---- answers ---- */

static void say_state(const struct array *array, const struct group *group, struct cut_state *state)
{
    const struct set_member *member = &group->member;
    *state = (struct cut_state){.run = member->run};
    memcpy(state->set, group->config->set.id, GROUP_ID_SIZE);
    if (!leads(array, group))
        return;
    state->flags = CUT_STATE_LEADER;
    if (member->phase >= SET_SEALED) {
        state->flags |= CUT_STATE_SEALED;
        state->promoted = max_u64(member->sealed.cut, member->promoted);
        state->held = member->sealed.held_cut;
    }
    if (member->phase == SET_RUNS)
        state->flags |= CUT_STATE_RUNS;
}

void array_cut_state(const struct array *array, uint8_t group, struct cut_state *state)
{
    CHECK(group < array->config.group_count);
    say_state(array, &array->copy.groups[group], state);
}

static void reply(struct array *array, uint64_t handle, bool good)
{
    CHECK(array->actions.cut_reply_count < COPY_CUT_REPLIES);
    array->copy.cut_replies[array->actions.cut_reply_count++] =
        (struct cut_reply){.handle = handle, .good = good};
}

static void answer(struct array *array, struct group *group, struct set_ask *ask, bool good)
{
    const struct group_set *set = &group->config->set;
    if (!ask->waits)
        return;
    ask->waits = false;
    if (!ask->local) {
        reply(array, ask->handle, good);
        return;
    }
    struct coordinator *coordinator = &member_here(array, set, 0)->coordinator;
    struct cut_state state;
    say_state(array, group, &state);
    if (good && ask == &group->member.resolve)
        coordinator_state(coordinator, array->now_us, set->self, &state);
    coordinator_answered(coordinator, array->now_us, set->self, ask->handle, good);
}

static void ask_anew(struct array *array, struct group *group, struct set_ask *ask,
                     const struct set_ask *by)
{
    answer(array, group, ask, false);
    *ask = *by;
}

static void end_cuts(struct array *array, struct group *group)
{
    struct set_member *member = &group->member;
    for (int i = 0; i < COPY_CLOSED; i++) {
        struct set_cut *cut = &member->cuts[i];
        answer(array, group, &cut->close, false);
        answer(array, group, &cut->release, false);
        answer(array, group, &cut->promote, false);
        *cut = (struct set_cut){.cut = 0};
    }
    answer(array, group, &member->wanted, false);
    group->sender.promote_to = 0;
    group->hold.release_due = 0;
    if (group->sender.holding != 0)
        copy_set_let_go(array, group, true);
}

void copy_set_break(struct array *array, struct group *group)
{
    struct set_member *member = &group->member;
    if (!copy_in_set(group))
        return;
    if (member->phase != SET_OUT)
        TRACE(array, "group %s takes no part in run %llu any more", group->config->name,
              (unsigned long long)member->run);
    end_cuts(array, group);
    member->phase = SET_OUT;
    if (member->asked != 0)
        copy_drop_session(array, group); /* the next one takes the same place */
    member->asked = 0;
    answer(array, group, &member->resolve, false);
    answer(array, group, &member->begin, false);
}

/* ---- the second array stands still ---- */

/* One batch that touches no cycle: the term that seals, or a promotion in it. */
static void send_kept(struct array *array, struct group *group, enum record_type type, uint64_t cut)
{
    struct set_member *member = &group->member;
    struct copy_head head = {.half = array->config.self,
                             .keep = true,
                             .era = group->site.now.era,
                             .term = member->seal_term,
                             .cycle = group->state.promoted + 1,
                             .number = ++member->batch_number,
                             .first = group->state.promoted + 1,
                             .cut = cut,
                             .record_count = 1};
    memcpy(head.group, group->config->id, COPY_ID_SIZE);
    record_put(member->bytes + COPY_HEAD_SIZE, &(struct record){.type = (uint8_t)type});
    record_put_head(member->bytes, &head);
    member->asked = head.number;
    member->promotes = type == RECORD_PROMOTE;
    member->iov = (struct iovec){.iov_base = member->bytes, .iov_len = sizeof member->bytes};
    CHECK(array->actions.copy_count < array->config.group_count * COPY_WINDOW);
    array->copy.actions[array->actions.copy_count++] =
        (struct copy_action){.group = index_of(array, group),
                             .number = head.number,
                             .iov = &member->iov,
                             .iov_count = 1,
                             .length_bytes = sizeof member->bytes};
    TRACE(array, "group %s sends kept batch type %d cut %llu", group->config->name, (int)type,
          (unsigned long long)cut);
}

static void sealed(struct array *array, struct group *group)
{
    struct set_member *member = &group->member;
    member->sealed = group->state;
    member->phase = member->begin.waits ? SET_BEGINNING : SET_SEALED;
    answer(array, group, &member->resolve, true);
}

static void seal(struct array *array, struct group *group)
{
    struct set_member *member = &group->member;
    if (member->asked != 0 || !group->up || group->suspended || group->sender.attached ||
        !copy_site_copies(group))
        return;
    if (MISTAKE(set_promotes_unsealed)) {
        member->seal_term = group->state.term;
        sealed(array, group);
        return;
    }
    member->seal_term = max_u64(copy_next_term(array, group), member->seal_term + 1);
    send_kept(array, group, RECORD_SEAL, group->state.held_cut);
}

bool copy_set_answered(struct array *array, struct group *group, uint64_t number, bool good)
{
    struct set_member *member = &group->member;
    if (member->asked == 0 || member->asked != number)
        return false;
    member->asked = 0;
    if (!group->up)
        return true;
    if (!good || member->promotes) {
        group->refused += !good;
        if (good)
            member->asked_for = member->target;
        if (member->phase == SET_BEGINNING)
            member->phase = SET_SEALING; /* what it holds now is asked anew */
        copy_drop_session(array, group);
        return true;
    }
    if (member->phase != SET_SEALING)
        return true;
    group->state.term = member->seal_term;
    sealed(array, group);
    return true;
}

void copy_set_session(struct array *array, struct group *group)
{
    struct set_member *member = &group->member;
    (void)array;
    member->asked = 0;
    if (!group->up || (member->phase != SET_SEALED && member->phase != SET_BEGINNING))
        return;
    const struct copy_state *was = &member->sealed, *is = &group->state;
    if (is->term != was->term || is->memory != was->memory || is->promoted != was->promoted ||
        is->cut != was->cut || is->held_cut != was->held_cut)
        member->phase = SET_SEALING;
}

/* ---- beginning ---- */

static bool promotion_is_due(const struct group *group)
{
    const struct set_member *member = &group->member;
    return member->target > member->sealed.cut && member->target <= member->sealed.held_cut &&
           member->target != member->asked_for; /* it is not there, although a newer one is */
}

bool copy_set_may_begin(const struct group *group)
{
    return !copy_in_set(group) || (group->member.phase == SET_BEGINNING &&
                                   group->member.asked == 0 && !promotion_is_due(group));
}

bool copy_set_may_send(const struct group *group)
{
    return !copy_in_set(group) || !group->sender.leader ||
           (group->member.phase == SET_RUNS && group->member.term == group->sender.term);
}

static void runs(struct array *array, struct group *group, struct set_ask *begin)
{
    struct set_member *member = &group->member;
    member->phase = SET_RUNS;
    member->term = group->sender.term;
    member->promoted = member->sealed.cut;
    TRACE(array, "group %s takes part in run %llu", group->config->name,
          (unsigned long long)member->run);
    answer(array, group, begin, true);
}

void copy_set_begun(struct array *array, struct group *group)
{
    if (copy_in_set(group))
        runs(array, group, &group->member.begin);
}

static bool can_say(struct array *array)
{
    return !array->mirroring || lists_have_room(&array->lists, 1, true);
}

/* Cycles run: all that is not confirmed goes as one, in a term of this run. */
static void restart(struct array *array, struct group *group)
{
    struct set_member *member = &group->member;
    struct sender *sender = &group->sender;
    if (array->refill.state != REFILL_NONE || !can_say(array))
        return;
    if (group->coordinator.floor > sender->open) {
        copy_fall(array, group, "the set has cuts with higher numbers than its cycles", true);
        return;
    }
    struct set_ask begin = member->begin;
    member->begin.waits = false;
    copy_restart_both(array, group);
    runs(array, group, &begin);
}

static void begin_pump(struct array *array, struct group *group)
{
    struct set_member *member = &group->member;
    if (member->asked != 0 || !group->up || !copy_site_copies(group))
        return;
    if (promotion_is_due(group)) {
        send_kept(array, group, RECORD_PROMOTE, member->target);
        return;
    }
    if (member->target > member->sealed.cut)
        array_log(array, LOG_WARNING,
                  "group %s: its second array does not have cut %llu, which others of the set "
                  "have promoted; until the next one the copies are not of one moment",
                  group->config->name, (unsigned long long)member->target);
    member->target = 0;
    if (group->sender.mode == SENDER_CYCLES)
        restart(array, group);
}

/* ---- cuts ---- */

static struct set_cut *find_cut(struct set_member *member, uint64_t number)
{
    for (int i = 0; i < COPY_CLOSED; i++) {
        if (member->cuts[i].cut == number)
            return &member->cuts[i];
    }
    return NULL;
}

/* The member's part of the cut: its open cycle. It waits for room in the stream. */
static void close_cycle(struct array *array, struct group *group, struct set_cut *cut)
{
    struct sender *sender = &group->sender;
    uint8_t halves = sender->paired ? 2 : 1;
    bool own = group->config->set.self == 0; /* its cycles' numbers are those of the cuts */
    if (sender->mode == SENDER_BITMAP || sender_closed_count(sender) >= COPY_CLOSED ||
        (own && sender->open != cut->cut)) {
        answer(array, group, &cut->close, false);
        cut->cut = 0;
        return;
    }
    if (!can_say(array) || (sender->paired && !array->mirroring) || copy_joiner_may_go_on(array) ||
        (array->mirroring && group->confirmed_said < sender->confirmed))
        return;
    cut->cycle = sender->open;
    cut->marked = halves == 1;
    sender_close(sender, array->now_us, array->copy.wall_us, halves);
    sender->cycle[cut->cycle % COPY_RING].cut = cut->cut;
    group->cuts++;
    if (array->mirroring)
        copy_say_header(array, group,
                        &(struct header){.type = HEADER_MARK,
                                         .flags = halves == 2 ? HEADER_BOTH | HEADER_HOLDS : 0,
                                         .volume = index_of(array, group),
                                         .page = cut->cycle,
                                         .count = array->copy.wall_us});
    copy_set_hold(array, group, cut->cycle);
    TRACE(array, "group %s closed cycle %llu for cut %llu", group->config->name,
          (unsigned long long)cut->cycle, (unsigned long long)cut->cut);
}

void copy_set_marked(struct array *array, struct group *group, uint64_t cycle)
{
    (void)array;
    for (int i = 0; i < COPY_CLOSED; i++) {
        if (group->member.cuts[i].cut != 0 && group->member.cuts[i].cycle == cycle)
            group->member.cuts[i].marked = true;
    }
}

static void cut_pump(struct array *array, struct group *group, struct set_cut *cut)
{
    struct sender *sender = &group->sender;
    if (cut->cut != 0 && cut->cycle == 0)
        close_cycle(array, group, cut);
    if (cut->cut == 0 || cut->cycle == 0)
        return;
    if (cut->marked)
        answer(array, group, &cut->close, true);
    const struct sender_cycle *cycle = &sender->cycle[cut->cycle % COPY_RING];
    bool late = (cycle->late || cycle->peer_late) && !MISTAKE(set_late_unnoticed);
    bool confirmed = sender->confirmed >= cut->cycle;
    if (!confirmed && cycle->late && late)
        answer(array, group, &cut->release, false);
    else if (confirmed || sender_whole(sender, cut->cycle))
        answer(array, group, &cut->release, confirmed || !late);
    if (!confirmed)
        return;
    group->member.promoted = max_u64(group->member.promoted, cut->cut);
    answer(array, group, &cut->promote, true);
    if (!cut->close.waits && !cut->release.waits)
        *cut = (struct set_cut){.cut = 0};
}

/* ---- messages ---- */

static void take_resolve(struct array *array, struct group *group, uint64_t run,
                         const struct set_ask *ask)
{
    struct set_member *member = &group->member;
    if (run < member->run || (run == member->run && member->phase == SET_OUT)) {
        struct set_ask refused = *ask;
        answer(array, group, &refused, false);
        return;
    }
    if (run > member->run) {
        copy_set_break(array, group);
        member->run = run;
        member->asked_for = 0;
        member->phase = SET_SEALING;
        if (group->sender.attached)
            copy_drop_session(array, group);
    }
    ask_anew(array, group, &member->resolve, ask);
    if (member->phase >= SET_SEALED)
        answer(array, group, &member->resolve, true);
}

static bool take_begin(struct array *array, struct group *group, uint64_t target,
                       const struct set_ask *ask)
{
    struct set_member *member = &group->member;
    if (member->phase < SET_SEALING || member->sealed.memory == 0)
        return false;
    ask_anew(array, group, &member->begin, ask);
    if (member->phase == SET_RUNS) {
        answer(array, group, &member->begin, true);
        return true;
    }
    member->target = target;
    if (member->phase == SET_SEALED)
        member->phase = SET_BEGINNING;
    return true;
}

static bool take_close(struct array *array, struct group *group, uint64_t number,
                       const struct set_ask *ask)
{
    struct set_member *member = &group->member;
    struct set_cut *cut = find_cut(member, number);
    if (cut == NULL)
        cut = find_cut(member, 0);
    if (cut == NULL || member->phase != SET_RUNS)
        return false;
    cut->cut = number;
    ask_anew(array, group, &cut->close, ask);
    return true;
}

static bool take_release(struct array *array, struct group *group, uint64_t number,
                         const struct set_ask *ask)
{
    struct sender *sender = &group->sender;
    struct set_cut *cut = find_cut(&group->member, number);
    if (cut == NULL || cut->cycle == 0)
        return false;
    const struct sender_cycle *cycle = &sender->cycle[cut->cycle % COPY_RING];
    if (sender->holding == cut->cycle) {
        copy_set_let_go(array, group, false);
        if (cycle->halves == 2)
            group->hold.release_due = cut->cycle;
    }
    ask_anew(array, group, &cut->release, ask);
    return true;
}

static bool take_promote(struct array *array, struct group *group, uint64_t number,
                         const struct set_ask *ask)
{
    struct set_member *member = &group->member;
    struct sender *sender = &group->sender;
    struct set_cut *cut = find_cut(member, number);
    if (cut == NULL && number <= member->promoted && member->phase == SET_RUNS) {
        struct set_ask done = *ask;
        answer(array, group, &done, true);
        return true;
    }
    if (cut == NULL || cut->cycle == 0 ||
        (!sender_whole(sender, cut->cycle) && !MISTAKE(set_promoted_early)))
        return false;
    sender->promote_to = max_u64(sender->promote_to, cut->cycle);
    ask_anew(array, group, &cut->promote, ask);
    return true;
}

static bool take_wanted(struct array *array, struct group *group, const struct set_ask *ask)
{
    struct set_member *member = &group->member;
    if (member->phase != SET_RUNS)
        return false;
    ask_anew(array, group, &member->wanted, ask);
    return true;
}

static void take(struct array *array, struct group *group, const struct cut_message *message,
                 const struct set_ask *ask)
{
    struct set_member *member = &group->member;
    bool taken = false;
    TRACE(array, "group %s hears type %u run %llu cut %llu in phase %d of run %llu",
          group->config->name, message->type, (unsigned long long)message->run,
          (unsigned long long)message->cut, (int)member->phase, (unsigned long long)member->run);
    bool here =
        leads(array, group) && memcmp(message->set, group->config->set.id, GROUP_ID_SIZE) == 0;
    if (here && message->type == CUT_RESOLVE) {
        take_resolve(array, group, message->run, ask);
        return;
    }
    if (here && message->run == member->run) {
        if (message->type == CUT_BEGIN)
            taken = take_begin(array, group, message->cut, ask);
        else if (message->type == CUT_CLOSE)
            taken = take_close(array, group, message->cut, ask);
        else if (message->type == CUT_RELEASE)
            taken = take_release(array, group, message->cut, ask);
        else if (message->type == CUT_WANTED)
            taken = take_wanted(array, group, ask);
        else
            taken = take_promote(array, group, message->cut, ask);
    }
    struct set_ask refused = *ask;
    if (!taken)
        answer(array, group, &refused, false);
}

void array_on_cut_message(struct array *array, uint64_t now_us, uint64_t handle, uint8_t index,
                          const void *bytes, uint32_t length_bytes)
{
    struct cut_message message;
    array_begin(array, now_us);
    CHECK(index < array->config.group_count);
    struct group *group = &array->copy.groups[index];
    const char *why = cut_get_message(bytes, length_bytes, &message);
    if (why == NULL) {
        take(array, group, &message, &(struct set_ask){.waits = true, .handle = handle});
        return;
    }
    array_log(array, LOG_INFO, "group %s: refused: %s", group->config->name, why);
    reply(array, handle, false);
}

/* ---- the coordinator ---- */

static struct coordinator *coordinator_of(struct array *array, uint8_t group, uint8_t member)
{
    CHECK(group < array->config.group_count);
    CHECK(array_cut_elsewhere(&array->config, group, member));
    return &array->copy.groups[group].coordinator;
}

void array_on_cut_up(struct array *array, uint64_t now_us, uint8_t group, uint8_t member,
                     const struct cut_state *state)
{
    array_begin(array, now_us);
    coordinator_up(coordinator_of(array, group, member), now_us, member, state);
}

void array_on_cut_down(struct array *array, uint64_t now_us, uint8_t group, uint8_t member)
{
    array_begin(array, now_us);
    coordinator_down(coordinator_of(array, group, member), now_us, member);
}

void array_on_cut_state(struct array *array, uint64_t now_us, uint8_t group, uint8_t member,
                        const struct cut_state *state)
{
    array_begin(array, now_us);
    coordinator_state(coordinator_of(array, group, member), now_us, member, state);
}

void array_on_cut_answered(struct array *array, uint64_t now_us, uint8_t group, uint8_t member,
                           uint64_t number, bool good)
{
    array_begin(array, now_us);
    coordinator_answered(coordinator_of(array, group, member), now_us, member, number, good);
}

static void hand_out(struct array *array, struct group *group, uint8_t member,
                     const struct coordinator_message *message)
{
    struct group *local = member_here(array, &group->config->set, member);
    if (local != NULL) {
        const struct cut_message copy = message->message;
        take(array, local, &copy,
             &(struct set_ask){.waits = true, .local = true, .handle = message->number});
        return;
    }
    uint8_t *bytes = group->cut_bytes[member][message->number % CUT_WINDOW];
    cut_put_message(bytes, &message->message);
    CHECK(array->actions.cut_count < array->config.group_count * SET_LIMIT * CUT_WINDOW);
    array->copy.cut_actions[array->actions.cut_count++] =
        (struct cut_action){.group = index_of(array, group),
                            .member = member,
                            .state_wanted = message->message.type == CUT_RESOLVE,
                            .number = message->number,
                            .bytes = bytes};
}

/* Members that are here are always reached, and what breaks one is seen at once. */
static void look_at_members(struct array *array, struct group *group)
{
    struct coordinator *coordinator = &group->coordinator;
    for (uint8_t m = 0; m < coordinator->member_count; m++) {
        struct group *local = member_here(array, &group->config->set, m);
        struct cut_state state;
        if (local == NULL)
            continue;
        say_state(array, local, &state);
        if (!coordinator->members[m].up)
            coordinator_up(coordinator, array->now_us, m, &state);
        else if (coordinator->phase == COORDINATOR_RUNS)
            coordinator_state(coordinator, array->now_us, m, &state);
    }
}

static void coordinate(struct array *array, struct group *group)
{
    struct coordinator *coordinator = &group->coordinator;
    const struct sender *sender = &group->sender;
    if (!leads(array, group)) {
        if (coordinator->phase != COORDINATOR_IDLE)
            coordinator_stop(coordinator);
        return;
    }
    if (coordinator->phase == COORDINATOR_IDLE)
        coordinator_lead(coordinator, array->now_us, array->role.epoch << 16);
    look_at_members(array, group);
    bool can = group->member.phase == SET_RUNS && sender->mode == SENDER_CYCLES &&
               sender_closed_count(sender) < COPY_CLOSED;
    coordinator_pump(coordinator, array->now_us, can ? sender->open : 0);
    for (uint8_t m = 0; m < coordinator->member_count; m++) {
        const struct coordinator_message *message;
        while ((message = coordinator_next(coordinator, m)) != NULL)
            hand_out(array, group, m, message);
    }
}

/* ---- when ---- */

static void member_pump(struct array *array, struct group *group)
{
    struct set_member *member = &group->member;
    if (member->phase != SET_OUT && !leads(array, group))
        copy_set_break(array, group);
    if (member->phase == SET_SEALING)
        seal(array, group);
    if (member->phase == SET_BEGINNING)
        begin_pump(array, group);
    for (int i = 0; i < COPY_CLOSED && member->phase == SET_RUNS; i++)
        cut_pump(array, group, &member->cuts[i]);
    if (member->phase == SET_RUNS && sender_wants_cut(&group->sender))
        answer(array, group, &member->wanted, true);
}

void copy_set_pump(struct array *array, struct group *group)
{
    member_pump(array, group);
    if (group->config->set.self != 0)
        return;
    coordinate(array, group);
    member_pump(array, group); /* what it was told just now */
    coordinate(array, group);
}

uint64_t copy_set_deadline(const struct array *array, const struct group *group)
{
    const struct coordinator *coordinator = &group->coordinator;
    if (coordinator->touched)
        return array->now_us;
    uint64_t deadline = coordinator_deadline(coordinator);
    return deadline > array->now_us ? deadline : UINT64_MAX;
}

/* Nobody can know beforehand how long it takes until all arrays have closed. */
void copy_set_reason(const struct group *group, char reason[TRACE_LINE])
{
    const struct coordinator *coordinator = &group->coordinator;
    if (coordinator->phase != COORDINATOR_IDLE && coordinator->late_row >= CUT_LATE_ROW)
        snprintf(
            reason, TRACE_LINE,
            "no cut is made: completions are held for %u ms at most (hold), and it took %.1f ms "
            "until all arrays of the set had closed, and more until they knew",
            group->config->set.hold_ms, (double)coordinator->close_us / 1e3);
}

void copy_set_status(const struct array *array, const struct group *group, struct set_status *into)
{
    const struct coordinator *coordinator = &group->coordinator;
    const struct set_member *member = &group->member;
    const struct set_hold *hold = &group->hold;
    if (!copy_in_set(group))
        return;
    bool coordinates = coordinator->phase != COORDINATOR_IDLE;
    *into = (struct set_status){.member_count = group->config->set.member_count,
                                .self = group->config->set.self,
                                .coordinates = coordinates,
                                .runs = coordinates ? coordinator->phase == COORDINATOR_RUNS
                                                    : member->phase == SET_RUNS,
                                .run = coordinates ? coordinator->run : member->run,
                                .cut = coordinator->cut,
                                .promoted = coordinates ? coordinator->promoted : member->promoted,
                                .cuts = coordinator->cuts_made,
                                .failed_cuts = coordinator->cuts_failed,
                                .runs_begun = coordinator->runs,
                                .holds = hold->holds,
                                .late_holds = hold->late,
                                .hold_last_us = hold->last_us,
                                .hold_longest_us = hold->longest_us,
                                .hold_total_us = hold->total_us,
                                .late_row = coordinator->late_row,
                                .close_us = coordinator->close_us,
                                .holding = group->sender.holding != 0};
    for (uint8_t m = 0; m < into->member_count && coordinates; m++) {
        const struct coordinator_member *from = &coordinator->members[m];
        bool in_run = from->up && from->state.run == coordinator->run;
        into->members[m] = (struct set_member_status){
            .session = from->up,
            .sealed = in_run && (from->state.flags & CUT_STATE_SEALED),
            .runs = coordinator->phase == COORDINATOR_RUNS && from->up,
        };
    }
    (void)array;
}
