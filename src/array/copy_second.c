/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Groups that another array copies to this one: what comes, where it waits, and what is answered.
 * Batches are foreign until copy/receiver.h has judged them; one of a group at a time is applied,
 * in the order of arrival, as far as there is room. GOOD is said only when the peer has all of it
 * too, or, alone, when a promotion is on the stores; and each batch is answered exactly once
 * (invariants 14, 15). */

#include "array/internal.h"
#include "base/mistake.h"

/* Another one for each start of each controller, and for each loss of what was held. */
static uint64_t next_memory(const struct array_config *config, struct second *second)
{
    uint64_t start = config->incarnation << 1 | config->self;
    uint64_t number = start * 0x9E3779B97F4A7C15ull + ++second->memories;
    return number == 0 ? 1 : number;
}

uint64_t copy_second_next_memory(const struct array *array, struct group *group)
{
    return next_memory(&array->config, &group->second);
}

void copy_second_create(struct second *second, const struct array_config *config, uint8_t index,
                        struct arena *arena)
{
    const struct group_config *group = &config->groups[index];
    if (group->room_pages == 0)
        return;
    uint64_t *page_counts = arena_array(arena, uint64_t, group->volume_count);
    for (uint32_t i = 0; i < group->volume_count && page_counts != NULL; i++)
        page_counts[i] =
            (config->volumes[group->volumes[i]].size_bytes + PAGE_SIZE_BYTES - 1) / PAGE_SIZE_BYTES;
    receiver_create(second == NULL ? NULL : &second->receiver, arena, config->slot_count * 2,
                    group->room_pages, group->volume_count, page_counts, group->id, 1);
    struct second_zero *zeroes = arena_array(arena, struct second_zero, RECEIVER_ZEROES);
    struct iovec *iov = arena_array(arena, struct iovec, STORE_IO_PAGES);
    if (second == NULL)
        return;
    second->zero = (struct second_zeroes){.zeroes = zeroes, .iov = iov};
    second->receiver.memory = next_memory(config, second);
    second->astray = second->saying = second->quieting = false;
    second->quiet_at = 0;
    second->quiet_page = 0;
}

void copy_second_lay_out(struct second *second, const struct group_config *config,
                         struct arena *arena)
{
    if (config->room_pages == 0)
        return;
    struct arrival *arrivals = arena_array(arena, struct arrival, COPY_MESSAGES);
    uint8_t *said = arena_take(arena, RECEIVER_BYTES, 64);
    if (second == NULL)
        return;
    second->arrivals = arrivals;
    second->said = said;
}

/* ---- answers ---- */

static void reply(struct array *array, uint64_t handle, bool good)
{
    struct actions *actions = &array->actions;
    CHECK(actions->copy_reply_count < COPY_REPLIES);
    array->copy.replies[actions->copy_reply_count++] =
        (struct copy_reply){.handle = handle, .good = good};
}

static void answer(struct array *array, struct arrival *arrival, bool good)
{
    if (!arrival->answered)
        reply(array, arrival->handle, good);
    arrival->answered = true;
}

static void end_arrival(struct array *array, struct group *group, struct arrival *arrival,
                        bool good)
{
    answer(array, arrival, good);
    arrival->state = ARRIVAL_FREE;
    CHECK(group->second.waiting > 0);
    group->second.waiting--;
    if (arrival->operates)
        copy_site_cut_over(array, group, good);
}

void array_on_copy_message(struct array *array, uint64_t now_us, uint64_t handle, uint8_t index,
                           const void *bytes, uint32_t length_bytes)
{
    array_begin(array, now_us);
    CHECK(index < array->config.group_count);
    struct group *group = &array->copy.groups[index];
    struct second *second = &group->second;
    struct copy_head head;
    const char *why;
    if (copy_site_message(array, group, bytes, length_bytes, &why)) {
        reply(array, handle, why == NULL);
        second->refused += why != NULL;
        return;
    }
    why = record_get_head(bytes, length_bytes, &head);
    if (why == NULL && !copy_receives(group))
        why = "copy batch for a group that is not received here";
    if (why == NULL && second->waiting == COPY_MESSAGES)
        why = "more copy batches at a time than are allowed";
    if (why != NULL) {
        array_log(array, LOG_INFO, "group %s: %s", group->config->name, why);
        second->refused++;
        reply(array, handle, false);
        return;
    }
    struct arrival *arrival = second->arrivals;
    while (arrival->state != ARRIVAL_FREE)
        arrival++;
    *arrival = (struct arrival){.state = ARRIVAL_WAITS,
                                .handle = handle,
                                .place = ++second->arrived,
                                .bytes = bytes,
                                .head = head};
    second->waiting++;
}

/* ---- whether batches are taken ---- */

static bool serves(const struct array *array)
{
    return (array->role.state == ROLE_SOLO || array->role.state == ROLE_PAIRED) &&
           array->role.orders == 0 && !array->drop_pending && !array->leave_sent &&
           role_may_serve(&array->role, array->now_us);
}

static bool owns_all(const struct array *array, const struct group *group)
{
    for (uint32_t i = 0; i < group->config->volume_count; i++) {
        const struct volume *volume = &array->volumes[group->config->volumes[i]];
        if (volume->owner != array->config.self || volume->move >= MOVE_HOLD)
            return false;
    }
    return true;
}

static bool takes(const struct array *array, const struct group *group)
{
    return copy_receives(group) && copy_site_takes(group) && serves(array) &&
           owns_all(array, group) &&
           !(array->stopping && (array_is_solo(array) || array->peer_stopping));
}

/* A failover of a set that was told less would leave out what is shown a moment later. */
uint64_t copy_second_cut(const struct group *group)
{
    const struct receiver *receiver = &group->second.receiver;
    uint64_t cut = receiver->promoted_cut;
    for (uint32_t i = 0; i < COPY_MESSAGES && receiver->promoting; i++) {
        const struct arrival *arrival = &group->second.arrivals[i];
        if (arrival->promotes && arrival->state >= ARRIVAL_TAKEN &&
            arrival->state <= ARRIVAL_DECIDED)
            cut = max_u64(cut, receiver_cut_of(receiver, arrival->head.cycle));
    }
    return cut;
}

void array_copy_state(const struct array *array, uint8_t index, struct copy_state *state)
{
    CHECK(index < array->config.group_count);
    const struct group *group = &array->copy.groups[index];
    *state = (struct copy_state){.memory = 1, .window = 1};
    memcpy(state->group, group->config->id, COPY_ID_SIZE);
    if (copy_receives(group)) {
        receiver_state(&group->second.receiver, state);
        state->cut = copy_second_cut(group);
    }
    if (takes(array, group))
        state->flags |= COPY_STATE_HERE;
    copy_site_state(array, group, state);
}

bool copy_second_together(const struct array *array, uint8_t volume)
{
    const struct group *group = copy_group(array, volume);
    if (group == NULL || !copy_receives(group) || group->role != GROUP_ROLE_RECEIVING)
        return false;
    for (uint32_t i = 0; i < group->config->volume_count; i++) {
        if (array->volumes[group->config->volumes[i]].owner != array->volumes[volume].owner)
            return false; /* not yet: each by itself, until they are */
    }
    return true;
}

static struct arrival *find_state(const struct group *group, enum arrival_state state)
{
    for (uint32_t i = 0; i < COPY_MESSAGES && group->second.waiting > 0; i++) {
        if (group->second.arrivals[i].state == state)
            return &group->second.arrivals[i];
    }
    return NULL;
}

bool copy_second_busy(const struct array *array, const struct group *group)
{
    (void)array;
    if (!copy_receives(group))
        return false;
    return group->second.zero.count > 0 || group->second.quieting || group->second.saying ||
           find_state(group, ARRIVAL_SAID) != NULL || find_state(group, ARRIVAL_TAKEN) != NULL ||
           find_state(group, ARRIVAL_DECIDED) != NULL || find_state(group, ARRIVAL_DURABLE) != NULL;
}

bool copy_second_any_busy(const struct array *array)
{
    for (uint32_t i = 0; i < array->config.group_count; i++) {
        if (copy_second_busy(array, &array->copy.groups[i]))
            return true;
    }
    return false;
}

bool copy_second_any_zeroing(const struct array *array)
{
    for (uint32_t i = 0; i < array->config.group_count; i++) {
        if (array->copy.groups[i].second.zero.count > 0)
            return true;
    }
    return false;
}

bool copy_second_promotes(const struct array *array)
{
    for (uint32_t i = 0; i < array->config.group_count; i++) {
        if (array->copy.groups[i].second.receiver.promoting)
            return true;
    }
    return false;
}

bool copy_second_holds_hosts(const struct array *array, uint8_t volume)
{
    const struct group *group = copy_group(array, volume);
    return group != NULL && !MISTAKE(read_before_zeroed) &&
           (group->second.zero.count > 0 || group->second.quieting);
}

bool copy_second_holds_fetches(const struct array *array, uint8_t volume)
{
    const struct group *group = copy_group(array, volume);
    bool zeroing = group != NULL && group->second.zero.count > 0 && !MISTAKE(read_before_zeroed);
    return zeroing || (group != NULL && group->second.quieting);
}

/* ---- applying ---- */

/* What the receiver cannot know: where in its volume the last page ends, and what fits a header. */
static const char *judge_more(const struct array *array, const struct group *group,
                              const struct arrival *arrival)
{
    const uint8_t *records = arrival->bytes + COPY_HEAD_SIZE;
    for (uint32_t i = 0; i < arrival->head.record_count; i++) {
        struct record record;
        const char *why = record_get(records + (size_t)i * COPY_RECORD_SIZE, &record);
        CHECK(why == NULL);
        if (record.type == RECORD_END && record.count > UINT32_MAX)
            return "end record of an impossible number of base pages";
        if (record.type != RECORD_PAGE)
            continue;
        const struct volume *volume = &array->volumes[group->config->volumes[record.volume]];
        if (record.sectors & ~page_mask(volume, record.page))
            return "record outside its volume";
    }
    return NULL;
}

/* As many of its records as there is room for now. */
static bool apply_records(struct array *array, struct group *group, struct arrival *arrival)
{
    const struct copy_head *head = &arrival->head;
    for (; arrival->record < head->record_count; arrival->record++) {
        const uint8_t *records = arrival->bytes + COPY_HEAD_SIZE; /* a cut of our own has none */
        const uint8_t *data = records + (size_t)head->record_count * COPY_RECORD_SIZE;
        struct record record;
        const char *why = record_get(records + (size_t)arrival->record * COPY_RECORD_SIZE, &record);
        CHECK(why == NULL);
        if (array->mirroring && !lists_have_room(&array->lists, head->cut == 0 ? 1 : 2, false))
            return false;
        if (record.type == RECORD_PAGE) {
            if (!copy_second_hold(array, group, head, &record, data + arrival->data_at))
                return false;
            *(record.flags & RECORD_BASE ? &arrival->counts.base : &arrival->counts.pages) += 1;
        } else if (record.type == RECORD_ZERO) {
            receiver_zero(&group->second.receiver, head->cycle, head->wall_us, &record);
            arrival->counts.ranges++;
            if (array->mirroring)
                copy_second_say_range(array, group, head->cycle, &record);
        } else if (record.type == RECORD_END) {
            receiver_end(&group->second.receiver, head->half, head->cycle, head->wall_us, &record);
            if (head->cut != 0)
                receiver_name_cut(&group->second.receiver, head->cycle, head->cut);
            if (head->cut != 0 && array->mirroring)
                copy_second_say_cut(array, group, head);
            if (array->mirroring)
                copy_second_say_end(array, group, arrival, &record);
        }
        arrival->data_at += record_data_bytes(&record);
    }
    return true;
}

/* Both memories have it, or there is only one. */
static void said_over(struct array *array, struct group *group, struct arrival *arrival)
{
    if (arrival->promotes) {
        arrival->state = ARRIVAL_DECIDED;
        return;
    }
    if (arrival->own) {
        end_arrival(array, group, arrival, true);
        return;
    }
    receiver_batch_done(&group->second.receiver, arrival->head.half, arrival->head.number,
                        arrival->head.cycle, &arrival->counts);
    end_arrival(array, group, arrival, true);
}

/* The arrival goes on as far as it can; false: it waits for room. */
static bool apply(struct array *array, struct group *group, struct arrival *arrival)
{
    if (!apply_records(array, group, arrival))
        return false;
    arrival->state = ARRIVAL_SAID;
    if (!array->mirroring || MISTAKE(held_by_one)) {
        said_over(array, group, arrival);
        return true;
    }
    if (!lists_have_room(&array->lists, 2, false)) {
        arrival->state = ARRIVAL_TAKEN;
        return false;
    }
    if (arrival->promotes)
        copy_second_say_promote(array, group, arrival);
    if (!arrival->own)
        copy_second_say_taken(array, group, arrival);
    arrival->said = lists_filling_number(&array->lists);
    arrival->unheard = false;
    return true;
}

/* An operator is about to fail over the set. Refused, not kept waiting: what would come after the
 * time is over may be of a run that the failover of another copy has ended. */
static const char stands_text[] = "promote record while an operator fails the set over";

static bool stands(const struct array *array, const struct group *group)
{
    return array->now_us < group->second.stands_us;
}

static bool is_promotion(const struct arrival *arrival)
{
    struct record record;
    const char *why = record_get(arrival->bytes + COPY_HEAD_SIZE, &record);
    CHECK(why == NULL);
    return record.type == RECORD_PROMOTE;
}

/* What is left of the term before: its batches count for nothing. A promotion is done, or this
 * would have to wait. */
static void end_term(struct array *array, struct group *group)
{
    for (uint32_t i = 0; i < COPY_MESSAGES && group->second.waiting > 0; i++) {
        struct arrival *arrival = &group->second.arrivals[i];
        if (arrival->state == ARRIVAL_SAID)
            end_arrival(array, group, arrival, false);
        else if (arrival->state == ARRIVAL_DURABLE)
            arrival->stale = true;
    }
}

/* One promotion at a time; and while a returned peer is filled its image and this memory differ. */
static bool may_promote(const struct array *array, const struct group *group)
{
    return !group->second.receiver.promoting && group->second.zero.count == 0 &&
           array->refill.state == REFILL_NONE && array->mirroring == !array_is_solo(array);
}

static void begin_cut(struct array *array, struct group *group, struct arrival *arrival,
                      uint64_t cycle)
{
    struct receiver *receiver = &group->second.receiver;
    if (!may_promote(array, group))
        return;
    arrival->own = arrival->promotes = true;
    arrival->consistent = receiver_is_consistent(receiver, cycle);
    arrival->head.cycle = cycle;
    arrival->head.wall_us = receiver_wall_us(receiver, cycle);
    arrival->head.record_count = 0;
    receiver_promote_begin(receiver);
    arrival->state = ARRIVAL_TAKEN;
    group->second.taken++;
}

static void begin_seal(struct array *array, struct group *group, struct arrival *arrival)
{
    /* What was said of the older term counts at the peer: so it has to here. */
    if (find_state(group, ARRIVAL_SAID) != NULL ||
        (array->mirroring && !lists_have_room(&array->lists, 1, false)))
        return;
    end_term(array, group);
    receiver_seal(&group->second.receiver, arrival->head.term);
    if (array->mirroring)
        copy_second_say_term(array, group);
    arrival->own = true;
    arrival->head.record_count = 0;
    arrival->state = ARRIVAL_TAKEN;
    group->second.taken++;
}

/* A batch with KEEP. False: it ends with *verdict, or waits. */
static enum receiver_verdict judge_kept(struct array *array, struct group *group,
                                        struct arrival *arrival, const char **why)
{
    struct record record;
    uint64_t cycle = 0;
    *why = record_get(arrival->bytes + COPY_HEAD_SIZE, &record);
    if (*why == NULL && (arrival->head.record_count != 1 || arrival->head.data_bytes != 0 ||
                         (record.type != RECORD_SEAL && record.type != RECORD_PROMOTE)))
        *why = "copy batch that keeps what is held, and carries something";
    if (*why != NULL)
        return RECEIVER_REFUSE;
    bool promotes = record.type == RECORD_PROMOTE;
    enum receiver_verdict verdict =
        receiver_judge_kept(&group->second.receiver, &arrival->head, promotes, &cycle, why);
    if (verdict == RECEIVER_TAKE && promotes && stands(array, group)) {
        *why = stands_text;
        return RECEIVER_REFUSE;
    }
    if (verdict == RECEIVER_TAKE && promotes)
        begin_cut(array, group, arrival, cycle);
    else if (verdict == RECEIVER_TAKE)
        begin_seal(array, group, arrival);
    return verdict;
}

static void judge_operators(struct array *array, struct group *group, struct arrival *arrival)
{
    const struct receiver *receiver = &group->second.receiver;
    uint64_t cycle = receiver_find_cut(receiver, arrival->head.cut);
    if (receiver->promoted_cut == arrival->head.cut)
        end_arrival(array, group, arrival, true);
    else if (cycle != 0)
        begin_cut(array, group, arrival, cycle);
    else if (!receiver->promoting)
        end_arrival(array, group, arrival, false);
}

/* False: it may not begin just now. */
static bool begin(struct array *array, struct group *group, struct arrival *arrival, bool new_term)
{
    struct receiver *receiver = &group->second.receiver;
    const struct copy_head *head = &arrival->head;
    struct record record;
    const char *why = record_get(arrival->bytes + COPY_HEAD_SIZE, &record);
    CHECK(why == NULL);
    arrival->promotes = is_promotion(arrival);
    arrival->consistent = (record.flags & RECORD_CONSISTENT) != 0;
    if (arrival->promotes && !may_promote(array, group))
        return false;
    if (new_term) {
        if (array->mirroring && !lists_have_room(&array->lists, 1, false))
            return false;
        end_term(array, group);
        receiver_begin_term(receiver, head->term, head->first);
        copy_second_discard(array, group);
        if (array->mirroring)
            copy_second_say_term(array, group);
    }
    receiver_taken(receiver, head->half, head->number);
    if (arrival->promotes)
        receiver_promote_begin(receiver);
    arrival->state = ARRIVAL_TAKEN;
    group->second.taken++;
    return true;
}

static void judge(struct array *array, struct group *group, struct arrival *arrival)
{
    struct receiver *receiver = &group->second.receiver;
    bool new_term = false;
    const char *why = NULL;
    if (arrival->operates) {
        judge_operators(array, group, arrival);
        return;
    }
    bool keep = arrival->head.keep;
    enum receiver_verdict verdict = keep
                                        ? judge_kept(array, group, arrival, &why)
                                        : receiver_judge(receiver, &arrival->head, &new_term, &why);
    if (verdict == RECEIVER_TAKE && keep)
        return;
    if (verdict == RECEIVER_TAKE) {
        why = receiver_judge_records(receiver, &arrival->head, new_term,
                                     arrival->bytes + COPY_HEAD_SIZE);
        if (why == NULL)
            why = judge_more(array, group, arrival);
        if (why == NULL && is_promotion(arrival) && stands(array, group))
            why = stands_text;
        if (why == NULL) {
            begin(array, group, arrival, new_term);
            return;
        }
        verdict = RECEIVER_REFUSE;
    }
    if (verdict == RECEIVER_WAIT)
        return;
    if (verdict == RECEIVER_REFUSE) {
        array_log(array, array->config.trace ? LOG_TRACE : LOG_INFO, "group %s: refused: %s",
                  group->config->name, why);
        group->second.refused++;
    }
    end_arrival(array, group, arrival, verdict == RECEIVER_KNOWN);
}

static struct arrival *oldest_waiting(const struct group *group, uint64_t after)
{
    struct arrival *oldest = NULL;
    for (uint32_t i = 0; i < COPY_MESSAGES; i++) {
        struct arrival *arrival = &group->second.arrivals[i];
        if (arrival->state == ARRIVAL_WAITS && arrival->place > after &&
            (oldest == NULL || arrival->place < oldest->place))
            oldest = arrival;
    }
    return oldest;
}

static void take_batches(struct array *array, struct group *group)
{
    struct arrival *taken = find_state(group, ARRIVAL_TAKEN);
    uint64_t place = 0;
    for (;;) {
        if (taken != NULL && !apply(array, group, taken))
            return;
        taken = oldest_waiting(group, place);
        if (taken == NULL)
            return;
        place = taken->place;
        judge(array, group, taken);
        if (taken->state != ARRIVAL_TAKEN)
            taken = NULL;
    }
}

/* ---- promotions ---- */

static void carry_out(struct array *array, struct group *group, struct arrival *arrival)
{
    if (!copy_second_quiet(array, group, arrival->head.cycle))
        return;
    copy_second_promote(array, group, arrival->head.cycle, arrival->head.wall_us,
                        arrival->consistent, true);
    arrival->cut = generation_cut(&array->destage.generations);
    arrival->state = ARRIVAL_DURABLE;
}

static bool is_safe(const struct array *array, const struct group *group,
                    const struct arrival *arrival)
{
    if (!array_is_solo(array) || MISTAKE(promoted_before_durable))
        return true; /* both memories have it */
    return group->second.zero.count == 0 &&
           generation_is_over(&array->destage.generations, arrival->cut);
}

static void promote_pump(struct array *array, struct group *group)
{
    struct arrival *arrival = find_state(group, ARRIVAL_DECIDED);
    if (arrival != NULL)
        carry_out(array, group, arrival);
    for (uint32_t i = 0; i < COPY_MESSAGES; i++) {
        arrival = &group->second.arrivals[i];
        if (arrival->state != ARRIVAL_DURABLE || !is_safe(array, group, arrival))
            continue;
        const struct receiver_counts none = {0};
        if (!arrival->stale && !arrival->own)
            receiver_batch_done(&group->second.receiver, arrival->head.half, arrival->head.number,
                                arrival->head.cycle, &none);
        end_arrival(array, group, arrival, true);
    }
}

/* ---- when ---- */

/* No batch is taken now: what has not begun ends, what both must agree about goes on. */
static void turn_away(struct array *array, struct group *group)
{
    bool lost = array->role.state != ROLE_SOLO && array->role.state != ROLE_PAIRED;
    for (uint32_t i = 0; i < COPY_MESSAGES; i++) {
        struct arrival *arrival = &group->second.arrivals[i];
        if (arrival->state == ARRIVAL_WAITS) {
            end_arrival(array, group, arrival, false);
        } else if (arrival->state == ARRIVAL_TAKEN) {
            if (!arrival->own)
                receiver_untaken(&group->second.receiver, arrival->head.half, arrival->head.number);
            if (arrival->promotes)
                group->second.receiver.promoting = false;
            end_arrival(array, group, arrival, false);
        } else if (arrival->state != ARRIVAL_FREE && lost) {
            answer(array, arrival, false);
        }
    }
}

/* A group that came to be received here may have volumes at both controllers: they follow the
 * first. */
static void gather(struct array *array, struct group *group)
{
    if (array->role.state != ROLE_PAIRED || group->role != GROUP_ROLE_RECEIVING ||
        array->stopping || array->peer_stopping || !serves(array))
        return;
    uint8_t owner = array->volumes[group->config->volumes[0]].owner;
    for (uint32_t i = 1; i < group->config->volume_count; i++) {
        uint8_t volume = group->config->volumes[i];
        if (array_owns(array, volume) && owner != array->config.self &&
            array->volumes[volume].move == MOVE_NONE)
            duty_move(array, volume);
    }
}

static void group_pump(struct array *array, struct group *group)
{
    struct second *second = &group->second;
    gather(array, group);
    bool can = serves(array) && array_owns(array, group->config->volumes[0]);
    for (uint32_t i = 0; i < COPY_MESSAGES && second->waiting > 0 && can && array_is_solo(array);
         i++) {
        struct arrival *arrival = &second->arrivals[i];
        if (arrival->state == ARRIVAL_SAID && arrival->unheard)
            said_over(array, group, arrival);
    }
    if (second->waiting > 0 && !takes(array, group))
        turn_away(array, group);
    if (can && second->waiting > 0)
        promote_pump(array, group);
    copy_second_zero_pump(array, group);
    if (second->waiting > 0 && takes(array, group))
        take_batches(array, group);
    if (can && second->waiting > 0)
        promote_pump(array, group); /* serving alone, what has just come can go on at once */
}

void copy_second_pump(struct array *array)
{
    array->copy.hungry = false;
    for (uint32_t i = 0; i < array->config.group_count; i++) {
        if (copy_receives(&array->copy.groups[i]))
            group_pump(array, &array->copy.groups[i]);
    }
}

uint64_t copy_second_deadline(const struct array *array)
{
    uint64_t deadline = UINT64_MAX;
    for (uint32_t i = 0; i < array->config.group_count; i++) {
        const struct second_zeroes *zero = &array->copy.groups[i].second.zero;
        if (zero->count > 0 && zero->state == ZERO_NEXT && serves(array) &&
            array_owns(array, array->config.groups[i].volumes[0]))
            deadline = min_u64(deadline, max_u64(zero->retry_us, array->now_us + 1));
    }
    return deadline;
}

void copy_second_acknowledged(struct array *array, uint64_t number)
{
    for (uint32_t g = 0; g < array->config.group_count; g++) {
        struct group *group = &array->copy.groups[g];
        for (uint32_t i = 0; i < COPY_MESSAGES && group->second.waiting > 0; i++) {
            struct arrival *arrival = &group->second.arrivals[i];
            if (arrival->state == ARRIVAL_SAID && !arrival->unheard && arrival->said <= number)
                said_over(array, group, arrival);
        }
    }
}

void copy_second_mirror_void(struct array *array)
{
    for (uint32_t g = 0; g < array->config.group_count; g++) {
        struct group *group = &array->copy.groups[g];
        group->second.saying = false;
        for (uint32_t i = 0; i < COPY_MESSAGES && group->second.waiting > 0; i++)
            group->second.arrivals[i].unheard = true;
    }
}

void copy_second_takeover(struct array *array)
{
    for (uint32_t g = 0; g < array->config.group_count; g++)
        array->copy.groups[g].second.astray = false; /* the other array hears that all is lost */
}

void copy_second_leave(struct array *array)
{
    for (uint32_t g = 0; g < array->config.group_count; g++) {
        struct group *group = &array->copy.groups[g];
        for (uint32_t i = 0; i < COPY_MESSAGES && group->second.waiting > 0; i++) {
            if (group->second.arrivals[i].state != ARRIVAL_FREE)
                end_arrival(array, group, &group->second.arrivals[i], false);
        }
        group->second.receiver.promoting = group->second.quieting = false;
        group->second.stands_us = 0;
    }
}

void copy_second_promote_cut(struct array *array, struct group *group, uint64_t cut)
{
    struct second *second = &group->second;
    if (second->waiting == COPY_MESSAGES) {
        copy_site_cut_over(array, group, false);
        return;
    }
    struct arrival *arrival = second->arrivals;
    while (arrival->state != ARRIVAL_FREE)
        arrival++;
    *arrival = (struct arrival){.state = ARRIVAL_WAITS,
                                .own = true,
                                .operates = true,
                                .answered = true,
                                .place = ++second->arrived,
                                .head = {.cut = cut}};
    second->waiting++;
}

bool copy_second_keeps_cut(const struct group *group)
{
    const struct receiver *receiver = &group->second.receiver;
    if (!copy_receives(group))
        return false;
    return receiver_held_cut(receiver) != 0 ||
           (receiver->promoted_cut != 0 && group->second.waiting > 0);
}

/* ---- handing over ---- */

void copy_second_hand_over(struct array *array, struct group *group)
{
    CHECK(!copy_second_busy(array, group));
    receiver_lose(&group->second.receiver, copy_second_next_memory(array, group));
    copy_second_discard(array, group);
    copy_second_say_all(array, group);
}

/* ---- looking ---- */

static const char *check_group(const struct array *array, const struct group *group)
{
    const struct receiver *receiver = &group->second.receiver;
    const char *why = receiver_check(receiver);
    uint32_t waiting = 0, taken = 0;
    for (uint32_t i = 0; i < COPY_MESSAGES; i++) {
        waiting += group->second.arrivals[i].state != ARRIVAL_FREE;
        taken += group->second.arrivals[i].state == ARRIVAL_TAKEN;
    }
    if (why != NULL)
        return why;
    if (waiting != group->second.waiting || taken > 1)
        return "a group counts other batches than wait, or applies two at a time";
    if (receiver->held_count > receiver->room)
        return "more is held than there is room for";
    for (uint32_t i = 0; i < array->table.total; i++) {
        const struct slot *slot = &array->table.slots[i];
        const struct held *held = &receiver->held[i];
        if (held->place == HELD_NONE)
            continue;
        if (!slot->foreign ||
            slot->key != slot_key(group->config->volumes[held->volume], held->page) ||
            slot->valid != held->sectors)
            return "a receiver holds a slot that does not hold its page";
    }
    return NULL;
}

const char *copy_second_check(const struct array *array)
{
    uint32_t foreign = 0, held = 0, own = 0;
    for (uint32_t i = 0; i < array->config.group_count; i++) {
        const struct group *group = &array->copy.groups[i];
        const char *why = copy_receives(group) ? check_group(array, group) : NULL;
        if (why != NULL)
            return why;
        held += group->second.receiver.held_count;
    }
    for (uint32_t i = 0; i < array->table.total; i++) {
        const struct slot *slot = &array->table.slots[i];
        if (!slot->foreign)
            continue;
        foreign++;
        own += i < array->table.half;
        if (slot->state == SLOT_FREE || !slot->superseded || slot->dirty != 0 ||
            slot->list != LIST_NONE || slot->state == SLOT_DIRTY || slot->state == SLOT_DESTAGING)
            return "a held slot can be found, given up or destaged";
    }
    if (foreign != held || own != array->copy.foreign)
        return "other slots are held than the receivers hold";
    return NULL;
}

static const char *compare(const struct group *from, const struct group *to)
{
    const struct receiver *a = &from->second.receiver, *b = &to->second.receiver;
    uint8_t bytes[2][RECEIVER_BYTES];
    if (from->second.waiting > 0 || to->second.astray || from->second.zero.count > 0)
        return NULL;
    receiver_put(a, bytes[0]);
    receiver_put(b, bytes[1]);
    if (a->term != b->term || a->first != b->first || a->promoted != b->promoted ||
        a->memory != b->memory || a->era != b->era || a->role != b->role ||
        a->promoted_cut != b->promoted_cut || a->sealed != b->sealed)
        return "the two controllers know another term, memory or promotion of a group";
    for (int half = 0; half < 2; half++) {
        if (a->numbers[half].upto != b->numbers[half].upto ||
            a->numbers[half].done != b->numbers[half].done)
            return "the two controllers know other batches of a group";
    }
    if (a->held_count != b->held_count || a->zero_count != b->zero_count)
        return "the two controllers hold other pages or ranges of a group";
    if (to->second.zero.count > 0)
        return "the peer counts on ranges that have been zeroed";
    return NULL;
}

const char *copy_second_check_mirror(const struct array *from, const struct array *to)
{
    for (uint32_t i = 0; i < from->config.group_count; i++) {
        const struct group *group = &from->copy.groups[i];
        if (!copy_receives(group) || !owns_all(from, group) || group->site.sync_due ||
            group->role != GROUP_ROLE_RECEIVING || to->copy.groups[i].role != GROUP_ROLE_RECEIVING)
            continue; /* a receiver that receives nothing is told anew when it does */
        const char *why = compare(group, &to->copy.groups[i]);
        if (why != NULL)
            return why;
    }
    return NULL;
}
