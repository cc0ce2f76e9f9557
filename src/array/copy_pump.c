/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* When a group is cut, when it falls to the bitmap, and when it comes back: once in every pump,
 * between two requests. Only while this controller serves; what it finds to be said waits until the
 * change stream has room. */

#include "array/internal.h"
#include "base/mistake.h"

bool copy_serves(const struct array *array)
{
    return (array->role.state == ROLE_SOLO || array->role.state == ROLE_PAIRED) &&
           !array->drop_pending && array->role.orders == 0 &&
           role_may_serve(&array->role, array->now_us);
}

static bool can_say(struct array *array)
{
    return !array->mirroring || lists_have_room(&array->lists, 1, true);
}

uint64_t copy_next_term(const struct array *array, const struct group *group)
{
    uint64_t term = max_u64(group->sender.term, group->state.term) + 1;
    return max_u64(term, array->role.epoch << 16);
}

/* The pins are a claim on the second array's memory as well: those of both halves, and the marked
 * pages of two cycles of both, must fit there, or what is refused for want of room is sent again
 * for ever. */
static void size_up(struct group *group)
{
    struct sender_config *config = &group->sender.config;
    uint32_t room = group->state.room_pages;
    config->budget_pages = min_u32(group->config->budget_pages, max_u32(room / 8 * 3, 1));
    config->base_pages = min_u32(group->config->base_pages, max_u32(room / 16, 1));
}

static bool may_rise(struct array *array, const struct group *group)
{
    return group->sender.leader && group->up && !group->suspended && !group->fall_unsaid &&
           copy_set_may_begin(group) && group->falls_out == 0 && array->now_us >= group->rise_us &&
           copy_site_copies(group) && array->refill.state == REFILL_NONE &&
           (array->role.state == ROLE_SOLO || array->mirroring) && can_say(array);
}

/* What the second array says of itself does not fit what is known here: it lost what it had
 * promoted, or it never heard what this site would have to know of it. Then everything is marked,
 * and the peer hears of it before cycles run. */
static bool doubt(struct array *array, struct group *group)
{
    const struct sender *sender = &group->sender;
    const struct site *site = &group->site;
    const struct copy_state *state = &group->state;
    const char *why = NULL;
    if (!sender->leader || site->all_marked || MISTAKE(copy_loss_not_seen))
        return false;
    if (state->era != site->now.era)
        why = "the second array knows of an older era only";
    else if (state->promoted < max_u64(site->known_cycle, site->now.era > 1))
        why = "the second array has lost what it had promoted";
    else if (site->now.era > 1 && !site->now.marks)
        why = "what the second array had of its own is not known";
    if (why != NULL)
        copy_site_mark_all(array, group, why);
    return why != NULL;
}

static void rise(struct array *array, struct group *group)
{
    struct sender *sender = &group->sender;
    uint64_t term = copy_next_term(array, group);
    /* What another controller of this array had sent may have been promoted since the state was
     * read; a number of which that can be true is refused. */
    uint64_t promoted = group->state.promoted + (group->state.term != 0 ? COPY_CLOSED : 0);
    uint64_t cycle = max_u64(max_u64(sender->open, promoted), group->coordinator.floor) + 1;
    size_up(group);
    sender_begin(sender, array->now_us, term, cycle, true);
    sender_pair(sender, array->role.state == ROLE_PAIRED);
    group->confirmed_said = sender->confirmed;
    group->memory_known = group->state.memory;
    memset(group->said, 0, sizeof group->said);
    memset(group->cleared, 0, sizeof group->cleared);
    if (array->mirroring)
        copy_say_header(array, group,
                        &(struct header){.type = HEADER_GROUP,
                                         .flags = HEADER_BEGIN,
                                         .volume = (uint8_t)(group - array->copy.groups),
                                         .page = term,
                                         .count = cycle});
    copy_set_begun(array, group);
    array_log(array, LOG_INFO, "group %s: copies again, from cycle %llu of term %llu",
              group->config->name, (unsigned long long)cycle, (unsigned long long)term);
}

/* A session is there, and batches may go in it. When the second array has lost what it held of
 * cycles that were not promoted, all of that is sent anew, as one cycle. */
static void attach(struct array *array, struct group *group)
{
    struct sender *sender = &group->sender;
    bool lost =
        sender->leader && group->memory_known != 0 && group->memory_known != group->state.memory;
    if (lost && copy_in_set(group)) {
        copy_set_break(array, group); /* the members agree first */
        return;
    }
    if (lost) {
        if (array->refill.state != REFILL_NONE || !can_say(array))
            return;
        copy_restart_both(array, group);
        return;
    }
    group->memory_known = group->state.memory;
    size_up(group);
    sender_attach(sender, group->state.window);
}

/* It has given up what it held while this session went on: its group moved there and back. Nothing
 * that is sent for this term is of use any more. */
static bool has_lost(const struct group *group)
{
    return group->sender.leader && group->state.flags & COPY_STATE_HERE &&
           group->memory_known != 0 && group->memory_known != group->state.memory;
}

/* A joiner that has heard READY may be paired by the register, and go on alone, before it hears of
 * anything that this controller does afterwards. A cycle that is promoted meanwhile it would not
 * know of, neither its number nor what was in it. */
bool copy_joiner_may_go_on(const struct array *array)
{
    return array->refill.state == REFILL_READY || array->refill.state == REFILL_DONE;
}

static void cut(struct array *array, struct group *group)
{
    struct sender *sender = &group->sender;
    if (!sender->leader || !sender_cut_due(sender, array->now_us) || !can_say(array) ||
        copy_joiner_may_go_on(array) || (sender->paired && !array->mirroring) ||
        (array->mirroring && group->confirmed_said < sender->confirmed))
        return;
    uint64_t cycle = sender->open;
    uint8_t halves = sender->paired ? 2 : 1;
    sender_close(sender, array->now_us, array->copy.wall_us, halves);
    group->cuts++;
    if (array->mirroring && !MISTAKE(mark_not_said))
        copy_say_header(array, group,
                        &(struct header){.type = HEADER_MARK,
                                         .flags = halves == 2 ? HEADER_BOTH : 0,
                                         .volume = (uint8_t)(group - array->copy.groups),
                                         .page = cycle,
                                         .count = array->copy.wall_us});
}

/* ---- when its work is done ---- */

/* While hosts are served the work on a cycle's pages is done in pieces of some 10 microseconds,
 * each at a moment at which nobody waits for this controller: a host, or the peer, has just been
 * answered, and nothing has been asked since. When no such moment comes, a piece is done all the
 * same after a pause. Slots that are given back in one: GIVE_BACK_STEP. */
enum { GIVE_BACK_STEP = 32, GENTLE_BACK_STEP = 16, PAUSE_US = 150, HOSTS_NEAR_US = 1000 };

static bool nobody_waits(const struct array *array)
{
    const struct request_pool *requests = &array->requests;
    return requests->free.count == requests->limit && !array->outgoing.batch_sent &&
           array->lists.list[array->lists.filling].count == 0;
}

static void find_moment(struct array *array)
{
    struct copy *copy = &array->copy;
    bool answers = array->actions.completion_count > 0 || array->actions.reply_wanted;
    copy->answered |= answers;
    copy->moment = copy->answered && !answers && nobody_waits(array);
    if (copy->moment)
        copy->answered = false;
}

enum copy_pace array_copy_pace(const struct array *array, uint8_t group)
{
    const struct copy *copy = &array->copy;
    const struct sender *sender = &copy->groups[group].sender;
    if (array->now_us >= copy->host_us + HOSTS_NEAR_US ||
        sender->batch_next - sender->batch_oldest >= COPY_WINDOW / 2)
        return COPY_FREELY;
    if (copy->moment)
        return COPY_NOW;
    return copy->answered && nobody_waits(array) ? COPY_SOON : COPY_NOT_NOW;
}

/* Whether a piece may be done in this pump. */
static bool is_turn(const struct array *array, struct group *group)
{
    enum copy_pace pace = array_copy_pace(array, (uint8_t)(group - array->copy.groups));
    bool turn = pace == COPY_FREELY || pace == COPY_NOW ||
                (pace == COPY_NOT_NOW && array->now_us >= group->pause_us);
    if (turn)
        group->pause_us = array->now_us + PAUSE_US;
    group->more = false;
    return turn;
}

static void give_back(struct array *array, struct group *group)
{
    bool freely = array_copy_pace(array, (uint8_t)(group - array->copy.groups)) == COPY_FREELY;
    group->more =
        !copy_give_back(array, group, freely ? GIVE_BACK_STEP : GENTLE_BACK_STEP) && freely;
}

/* When the next piece is to be done; UINT64_MAX: there is none. */
static uint64_t piece_us(const struct array *array, const struct group *group)
{
    const struct sender *sender = &group->sender;
    if (sender->over == 0 && group->encoding.batch.number == 0 && !sender_has_batch(sender))
        return UINT64_MAX;
    enum copy_pace pace = array_copy_pace(array, (uint8_t)(group - array->copy.groups));
    return pace == COPY_FREELY || pace == COPY_SOON ? array->now_us : group->pause_us;
}

static void group_pump(struct array *array, struct group *group)
{
    struct sender *sender = &group->sender;
    bool turn = is_turn(array, group);
    if (turn)
        give_back(array, group);
    copy_site_pump(array, group);
    if (sender->mode == SENDER_CYCLES && sender_over_budget(sender))
        copy_fall(array, group, "the second array does not keep up: the pages' budget is used",
                  true);
    copy_say(array, group);
    if (copy_in_set(group))
        copy_set_pump(array, group);
    if (sender->mode == SENDER_BITMAP && may_rise(array, group) && !doubt(array, group))
        rise(array, group);
    if (sender->mode == SENDER_BITMAP)
        return;
    if (group->up && (!sender->attached || has_lost(group)) && copy_set_may_send(group) &&
        copy_site_copies(group) && !doubt(array, group))
        attach(array, group);
    if (sender->mode == SENDER_BITMAP)
        return;
    copy_base_pump(array, group);
    cut(array, group);
    copy_say(array, group);
    if (turn)
        copy_send(array, group);
}

void copy_pump(struct array *array)
{
    if (array->copy.holds > 0)
        copy_set_hold_pump(array);
    if (array->config.group_count == 0 || !copy_serves(array))
        return;
    find_moment(array);
    for (uint32_t i = 0; i < array->config.group_count; i++)
        group_pump(array, &array->copy.groups[i]);
}

static uint64_t group_deadline(const struct array *array, const struct group *group)
{
    const struct sender *sender = &group->sender;
    uint64_t deadline = copy_site_deadline(array, group);
    if (sender->mode == SENDER_BITMAP)
        return sender->leader && group->up && group->rise_us > array->now_us
                   ? min_u64(deadline, group->rise_us)
                   : deadline;
    if (group->base.reading > 0 && group->base_retry_us > array->now_us)
        deadline = group->base_retry_us;
    deadline = min_u64(deadline, piece_us(array, group));
    /* What cannot be said now waits for the peer's answer, and that brings a pump. */
    if (sender->leader && (!sender->paired || array->mirroring) && !copy_joiner_may_go_on(array))
        deadline = min_u64(deadline, sender_cut_deadline(sender));
    return deadline;
}

uint64_t copy_deadline(const struct array *array)
{
    uint64_t deadline = copy_set_hold_deadline(array);
    for (uint32_t i = 0; i < array->config.group_count && copy_serves(array); i++)
        if (array->copy.groups[i].more)
            return array->now_us;
    if (!copy_serves(array) || (array->mirroring && !lists_have_room(&array->lists, 1, true)))
        return deadline;
    for (uint32_t i = 0; i < array->config.group_count; i++) {
        const struct group *group = &array->copy.groups[i];
        deadline = min_u64(deadline, group_deadline(array, group));
        if (copy_in_set(group))
            deadline = min_u64(deadline, copy_set_deadline(array, group));
    }
    return deadline;
}

void array_set_wall(struct array *array, uint64_t wall_us)
{
    array->copy.wall_us = wall_us;
}
