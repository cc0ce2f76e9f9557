/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See copies.h. What travels is copied when it is sent; when it arrives, the sender's bytes must
 * still be the same, unless it has given the session up. A session may still deliver what it
 * carried when its initiator believes it lost, until the same controller lets a new one in; at the
 * other controller even later. The bytes of a batch stay as they are until its reply; then they are
 * spoiled. */

#include "sim/copies.h"

#include "sim/cuts.h"
#include "sim/focus.h"
#include "sim/sites.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { WALL_BEGIN_S = 1700000000, REPLY_LIMIT_US = 60 * 1000 * 1000, PART_US = 30000 };

struct way { /* a session */
    bool up, breaking, given_up;
    bool asking;     /* for the state */
    uint8_t target;  /* the controller there */
    uint32_t misses; /* logins in a row that came to nothing */
    uint64_t generation;
    uint64_t turn;        /* the event that asks or logs in next */
    enum group_role role; /* as it was last seen */
};

enum travel_kind { TRAVEL_BATCH, TRAVEL_ASK };

struct travel {
    bool used, dropped, there, corrupt, login;
    enum travel_kind kind;
    struct world *from, *to;
    uint8_t who, group, target;
    uint8_t to_group; /* what the group's number is there */
    uint64_t number;  /* which of all travels */
    uint64_t session, incarnation;
    uint64_t target_incarnation; /* there: who has it */
    uint64_t since_us;
    /* TRAVEL_BATCH */
    uint64_t batch;
    uint32_t length, arrived;
    uint8_t *bytes;
    struct iovec *iov;
    uint32_t iov_count;
    bool good;
    /* TRAVEL_ASK */
    struct copy_state state;
};

struct record_file {
    uint8_t *bytes, *coming;
    uint32_t length, coming_length;
    enum group_role role, coming_role; /* that it was kept in */
    bool busy;
};

struct copies {
    struct world *root;
    struct copies_rates rates;
    uint64_t heals_us[ARRAYS_LIMIT][ARRAYS_LIMIT]; /* nothing gets from this one to that before */
    bool apart;                                    /* all that, for as long as this stands */
    uint64_t slow_until_us;
    uint64_t wire_free_us[ARRAYS_LIMIT][ARRAYS_LIMIT];
    uint32_t corrupt_next;
    uint64_t numbers;
    struct travel *travels;
    uint32_t room;
    struct way ways[ARRAYS_LIMIT][2][COPIES_GROUPS];
    struct record_file files[ARRAYS_LIMIT][2][COPIES_GROUPS];
};

/* What an event's index says. */
enum { INDEX_GROUP = 0xFF };

struct copies *copies_create(struct world *root)
{
    struct copies *copies = calloc(1, sizeof *copies);
    CHECK(copies != NULL);
    copies->root = root;
    return copies;
}

static void travel_free(struct travel *travel)
{
    free(travel->bytes);
    free(travel->iov);
    *travel = (struct travel){.used = false};
}

void copies_destroy(struct copies *copies)
{
    for (uint32_t i = 0; i < copies->room; i++)
        travel_free(&copies->travels[i]);
    for (int s = 0; s < ARRAYS_LIMIT; s++)
        for (int w = 0; w < 2; w++)
            for (int g = 0; g < COPIES_GROUPS; g++) {
                free(copies->files[s][w][g].bytes);
                free(copies->files[s][w][g].coming);
            }
    free(copies->travels);
    free(copies);
}

struct copies_rates *copies_rates(struct copies *copies)
{
    return &copies->rates;
}

uint64_t copies_wall(const struct world *world)
{
    return WALL_BEGIN_S * UINT64_C(1000000) + world->now_us;
}

static struct way *way_of(const struct world *world, uint8_t who, uint8_t group)
{
    return &world->copies->ways[world->number][who][group];
}

static bool path_up(const struct world *from, const struct world *to)
{
    return from->now_us >= from->copies->heals_us[from->number][to->number] && !from->destroyed;
}

static bool both_ways_up(const struct world *world, const struct world *far)
{
    return path_up(world, far) && path_up(far, world);
}

/* When `bytes` that leave now are on the other side. */
static uint64_t arrival_us(struct world *from, const struct world *to, uint32_t bytes)
{
    struct copies *copies = from->copies;
    const struct copies_rates *rates = &copies->rates;
    uint64_t *free_us = &copies->wire_free_us[from->number][to->number];
    uint64_t rate = from->now_us < copies->slow_until_us ? rates->slow_bytes : rates->bytes_per_ms;
    *free_us = max_u64(*free_us, from->now_us) + bytes * UINT64_C(1000) / rate;
    return *free_us + rates->latency_us + generator_below(&from->latency, rates->jitter_us + 1);
}

/* ---- travels ---- */

static struct travel *travel_take(struct copies *copies)
{
    uint32_t i = 0;
    while (i < copies->room && copies->travels[i].used)
        i++;
    if (i == copies->room)
        copies->travels = world_grow(copies->travels, &copies->room, sizeof *copies->travels, 64);
    copies->travels[i] = (struct travel){.used = true, .number = ++copies->numbers};
    return &copies->travels[i];
}

static uint32_t index_of(const struct copies *copies, const struct travel *travel)
{
    return (uint32_t)(travel - copies->travels);
}

static struct travel *travel_begin(struct world *from, uint8_t who, uint8_t group,
                                   enum travel_kind kind)
{
    const struct way *way = way_of(from, who, group);
    struct travel *travel = travel_take(from->copies);
    travel->kind = kind;
    travel->from = from;
    travel->to = world_far(from, group);
    travel->to_group = world_far_group(from, group);
    travel->who = who;
    travel->group = group;
    travel->target = way->target;
    travel->session = way->generation;
    travel->incarnation = from->controllers[who].incarnation;
    travel->since_us = from->now_us;
    return travel;
}

static void travel_go(struct travel *travel, uint32_t bytes)
{
    struct world *from = travel->from, *to = travel->to;
    world_event(to, arrival_us(from, to, bytes), EVENT_COPY_BATCH, travel->target,
                index_of(from->copies, travel), travel->number);
}

static void travel_return(struct travel *travel)
{
    struct world *from = travel->from, *to = travel->to;
    world_event(from, arrival_us(to, from, COPY_STATE_SIZE), EVENT_COPY_ANSWER, travel->who,
                index_of(to->copies, travel), travel->number);
}

/* Its initiator still takes answers in the session that it belongs to. */
static bool is_live(const struct travel *travel)
{
    const struct controller *controller = &travel->from->controllers[travel->who];
    const struct way *way = way_of(travel->from, travel->who, travel->group);
    return controller->running && controller->incarnation == travel->incarnation &&
           way->generation == travel->session && !way->breaking && !way->given_up &&
           (way->up || travel->login);
}

static void gather(const struct iovec *iov, uint32_t count, uint8_t *to)
{
    for (uint32_t i = 0; i < count; i++) {
        memcpy(to, iov[i].iov_base, iov[i].iov_len);
        to += iov[i].iov_len;
    }
}

/* What a batch is about, there or on its way. */
static void tell_focus(struct world *world, uint8_t who, const struct travel *travel, bool there)
{
    switch (travel->bytes[COPY_HEAD_SIZE]) {
    case RECORD_PROMOTE:
        focus_at(world, who, there ? MOMENT_PROMOTE_THERE : MOMENT_PROMOTE_SENT);
        break;
    case RECORD_END:
        focus_at(world, who, there ? MOMENT_END_THERE : MOMENT_END_SENT);
        break;
    case RECORD_MARKED:
    case RECORD_MARKED_END:
        focus_at(world, who, MOMENT_MARKED);
        break;
    case RECORD_ZERO:
        if (there)
            focus_at(world, who, MOMENT_ZERO_THERE);
        break;
    default:
        if (there)
            focus_at(world, who, MOMENT_PAGES_THERE);
        break;
    }
}

/* The same batch came before, in a session that is gone, and has no answer yet. */
static bool is_under_way(const struct copies *copies, const struct travel *travel)
{
    struct copy_head head, other;
    if (record_get_head(travel->bytes, travel->arrived, &head) != NULL)
        return false;
    for (uint32_t i = 0; i < copies->room; i++) {
        const struct travel *before = &copies->travels[i];
        if (before != travel && before->used && before->there && before->kind == TRAVEL_BATCH &&
            before->from == travel->from && before->group == travel->group &&
            before->target == travel->target && before->target_incarnation != 0 &&
            record_get_head(before->bytes, before->arrived, &other) == NULL &&
            other.half == head.half && other.term == head.term && other.number == head.number)
            return true;
    }
    return false;
}

static void send_batch(struct world *world, uint8_t who, const struct copy_action *action)
{
    struct copies *copies = world->copies;
    CHECK(action->group < world->config.group_count);
    struct way *way = way_of(world, who, action->group);
    if (!way->up)
        world_fail(world, "%c sends a batch although its session to the other site is down",
                   world_letter(who));
    uint64_t sum = 0;
    for (uint32_t i = 0; i < action->iov_count; i++)
        sum += action->iov[i].iov_len;
    if (sum != action->length_bytes || sum == 0 || sum > COPY_BATCH_BYTES)
        world_fail(world, "%c sends a batch of %u bytes with %" PRIu64 " in its iov",
                   world_letter(who), action->length_bytes, sum);
    struct travel *travel = travel_begin(world, who, action->group, TRAVEL_BATCH);
    travel->batch = action->number;
    travel->length = travel->arrived = action->length_bytes;
    travel->bytes = malloc(travel->length);
    travel->iov = malloc(action->iov_count * sizeof *travel->iov);
    CHECK(travel->bytes != NULL);
    CHECK(travel->iov != NULL);
    memcpy(travel->iov, action->iov, action->iov_count * sizeof *travel->iov);
    travel->iov_count = action->iov_count;
    gather(action->iov, action->iov_count, travel->bytes);
    world->count.batches++;
    struct copy_head head;
    const char *wrong = record_get_head(travel->bytes, travel->length, &head);
    if (wrong)
        world_fail(world, "%c sends a batch that is not sound: %s", world_letter(who), wrong);
    world_trace(world,
                "%c sends batch %" PRIu64 " of group %u to %c: cycle %" PRIu64 " of term %" PRIu64
                ", %u records, first %u",
                world_letter(who), action->number, action->group, world_letter(way->target),
                head.cycle, head.term, head.record_count, travel->bytes[COPY_HEAD_SIZE]);
    cuts_sent(world, action->group, travel->bytes, travel->length);
    tell_focus(world, who, travel, false);
    if (head.number == 1 && head.term > 1)
        focus_at(world, who, MOMENT_TERM);
    if (way->breaking && generator_chance(&world->latency, 1, 2))
        travel->dropped = true;
    if (copies->corrupt_next > 0 && !world->healing) {
        copies->corrupt_next--;
        travel->corrupt = true;
    }
    travel_go(travel, travel->length);
}

/* ---- sessions ---- */

static void login_later(struct world *world, uint8_t who, uint8_t group, uint64_t after_us)
{
    struct way *way = way_of(world, who, group);
    way->turn = ++world->copies->numbers;
    world_event(world, world->now_us + after_us, EVENT_COPY_LOGIN, who, group, way->turn);
}

static void lose(struct world *world, uint8_t who, uint8_t group, uint64_t notice_us)
{
    struct way *way = way_of(world, who, group);
    struct copies *copies = world->copies;
    if (!way->up || way->breaking)
        return;
    way->breaking = true;
    world_trace(world, "the session of %c for group %u to the other site is cut", world_letter(who),
                group);
    for (uint32_t i = 0; i < copies->room; i++) {
        struct travel *travel = &copies->travels[i];
        if (travel->used && travel->from == world && travel->who == who && travel->group == group &&
            !travel->there && generator_chance(&world->latency, 1, 2))
            travel->dropped = true;
    }
    world_event(world, world->now_us + 1 + generator_below(&world->latency, notice_us),
                EVENT_COPY_DOWN, who, group, way->generation);
}

static void on_down(struct world *world, const struct event *event)
{
    uint8_t group = (uint8_t)(event->index & INDEX_GROUP);
    struct way *way = way_of(world, event->who, group);
    struct controller *controller = &world->controllers[event->who];
    if (!way->up || way->generation != event->stamp || !controller->running)
        return;
    way->up = way->breaking = way->given_up = way->asking = false;
    way->generation++;
    world_trace(world, "%c loses its session for group %u", world_letter(event->who), group);
    array_on_copy_down(controller->array, world_clock(world, event->who), group);
    world_touch(world, event->who);
    login_later(world, event->who, group, world_between(&world->latency, 100, 50000));
}

static void ask(struct world *world, uint8_t who, uint8_t group, bool login)
{
    struct travel *travel = travel_begin(world, who, group, TRAVEL_ASK);
    way_of(world, who, group)->asking = true;
    travel->login = login;
    travel_go(travel, COPY_STATE_SIZE);
}

static void miss(struct world *world, uint8_t who, uint8_t group)
{
    struct way *way = way_of(world, who, group);
    way->asking = false;
    way->generation++;
    way->target = !way->target;
    uint64_t most_us = ++way->misses % 2 ? 1000 : 100000;
    login_later(world, who, group, world_between(&world->latency, 100, most_us));
}

static void on_login(struct world *world, const struct event *event)
{
    uint8_t who = event->who, group = (uint8_t)(event->index & INDEX_GROUP);
    struct controller *controller = &world->controllers[who];
    struct way *way = way_of(world, who, group);
    if (!controller->running || way->turn != event->stamp || world->destroyed)
        return;
    if (way->up) { /* the state is asked for again */
        if (!way->asking && !way->breaking && !controller->paused)
            ask(world, who, group, false);
        login_later(world, who, group, world->copies->rates.ask_us);
        return;
    }
    if (controller->paused || array_group_role(controller->array, group) == GROUP_ROLE_RECEIVING) {
        login_later(world, who, group, world_between(&world->latency, 5000, 50000));
        return;
    }
    const struct world *far = world_far(world, group);
    if (!both_ways_up(world, far) || !world_answers(far, way->target)) {
        miss(world, who, group);
        return;
    }
    ask(world, who, group, true);
}

static void on_up(struct world *world, uint8_t who, uint8_t group, const struct copy_state *state)
{
    struct copies *copies = world->copies;
    struct way *way = way_of(world, who, group);
    struct controller *controller = &world->controllers[who];
    for (uint32_t i = 0; i < copies->room; i++) { /* a new session ends the old one there */
        struct travel *travel = &copies->travels[i];
        if (travel->used && travel->from == world && travel->who == who && travel->group == group &&
            travel->target == way->target && !travel->there)
            travel->dropped = true;
    }
    way->up = true;
    way->misses = 0;
    world_trace(world, "%c is logged in at %c of the other site for group %u, cycle %" PRIu64 "%s",
                world_letter(who), world_letter(way->target), group, state->promoted,
                state->flags & COPY_STATE_CONSISTENT ? ", consistent" : "");
    array_on_copy_up(controller->array, world_clock(world, who), group, state);
    world_touch(world, who);
    login_later(world, who, group, copies->rates.ask_us);
}

static void on_state(struct world *world, struct travel *travel)
{
    uint8_t who = travel->who, group = travel->group;
    struct controller *controller = &world->controllers[who];
    struct way *way = way_of(world, who, group);
    bool here = travel->state.flags & COPY_STATE_HERE;
    way->asking = false;
    if (travel->login && !here) {
        miss(world, who, group);
        return;
    }
    if (travel->login) {
        on_up(world, who, group, &travel->state);
        return;
    }
    if (!here) {
        way->target = !way->target;
        lose(world, who, group, 200);
        return;
    }
    array_on_copy_state(controller->array, world_clock(world, who), group, &travel->state);
    world_touch(world, who);
}

void copies_start(struct world *world, uint8_t who)
{
    struct copies *copies = world->copies;
    if (copies == NULL)
        return;
    for (uint8_t g = 0; g < world->config.group_count; g++) {
        const struct record_file *file = &copies->files[world->number][who][g];
        if (file->bytes)
            array_load_group(world->controllers[who].array, g, file->bytes, file->length);
        way_of(world, who, g)->target = (uint8_t)generator_below(&world->latency, 2);
        login_later(world, who, g, world_between(&world->latency, 100, 20000));
    }
}

uint32_t copies_group_of(const struct world *world, uint8_t volume, uint8_t *place)
{
    for (uint32_t g = 0; g < world->config.group_count; g++)
        for (uint32_t i = 0; i < world->config.groups[g].volume_count; i++)
            if (world->config.groups[g].volumes[i] == volume) {
                *place = (uint8_t)i;
                return g;
            }
    return COPIES_GROUPS;
}

bool copies_is_copy(const struct world *world, uint8_t group)
{
    for (uint8_t w = 0; w < 2; w++) {
        const struct controller *controller = &world->controllers[w];
        enum group_role role = controller->running
                                   ? array_group_role(controller->array, group)
                                   : way_of(world, w, group)->role; /* what it wrote may land yet */
        if (role != GROUP_ROLE_RECEIVING)
            return false;
    }
    return true;
}

bool copies_connected(const struct world *world, uint8_t group)
{
    return way_of(world, 0, group)->up && way_of(world, 1, group)->up;
}

uint8_t copies_holder(const struct world *world, uint8_t group, struct copy_state *state)
{
    for (uint8_t w = 0; w < 2; w++) {
        if (!world->controllers[w].running || world->controllers[w].paused)
            continue;
        array_copy_state(world->controllers[w].array, group, state);
        if (state->flags & COPY_STATE_HERE)
            return w;
    }
    return 2;
}

/* ---- records ---- */

static void keep_record(struct world *world, uint8_t who, const struct group_record *record)
{
    struct copies *copies = world->copies;
    CHECK(record->group < world->config.group_count);
    struct record_file *file = &copies->files[world->number][who][record->group];
    if (file->busy)
        world_fail(world, "%c keeps a record of group %u while one is under way", world_letter(who),
                   record->group);
    if (record->length_bytes > array_group_record_size(&world->config, record->group))
        world_fail(world, "%c keeps a record of %u bytes", world_letter(who), record->length_bytes);
    file->busy = true;
    file->coming = malloc(record->length_bytes + 1);
    CHECK(file->coming != NULL);
    memcpy(file->coming, record->bytes, record->length_bytes);
    file->coming_length = record->length_bytes;
    file->coming_role = array_group_role(world->controllers[who].array, record->group);
    world_event(world,
                world->now_us + 1 + generator_below(&world->latency, copies->rates.record_us + 1),
                EVENT_COPY_RECORD, who, record->group, world->controllers[who].incarnation);
    focus_at(world, who, MOMENT_RECORD);
}

static void record_lands(struct record_file *file, bool good)
{
    if (good) {
        free(file->bytes);
        file->bytes = file->coming;
        file->length = file->coming_length;
        file->role = file->coming_role;
    } else {
        free(file->coming);
    }
    file->coming = NULL;
    file->busy = false;
}

bool copies_failover_kept(const struct world *world, uint8_t group)
{
    for (uint8_t w = 0; w < 2; w++) {
        const struct record_file *file = &world->copies->files[world->number][w][group];
        if (file->bytes && file->role != GROUP_ROLE_RECEIVING)
            return true;
    }
    return false;
}

static void on_record(struct world *world, const struct event *event)
{
    struct controller *controller = &world->controllers[event->who];
    struct record_file *file = &world->copies->files[world->number][event->who][event->index];
    if (!controller->running || controller->incarnation != event->stamp || !file->busy)
        return;
    bool good = world->healing || !generator_chance(&world->chaos, 1, 20);
    record_lands(file, good);
    world_trace(world, "the record of group %u at %c is %s", event->index, world_letter(event->who),
                good ? "kept" : "not kept");
    if (good)
        cuts_recorded(world, (uint8_t)event->index);
    array_on_group_record_kept(controller->array, world_clock(world, event->who),
                               (uint8_t)event->index, good);
    world_touch(world, event->who);
}

/* ---- at the other site ---- */

static void spoil(struct travel *travel)
{
    if (travel->bytes)
        memset(travel->bytes, 0xDD, travel->length);
}

/* Nothing gets through now: again when the path is back. */
static bool is_stalled(const struct world *from, struct world *to, const struct event *event)
{
    if (path_up(from, to) || from->destroyed)
        return false;
    world_event(to, from->copies->heals_us[from->number][to->number] + 100, event->kind, event->who,
                event->index, event->stamp);
    return true;
}

static struct travel *travel_of(struct world *world, const struct event *event)
{
    struct travel *travel = &world->copies->travels[event->index];
    return travel->used && travel->number == event->stamp ? travel : NULL;
}

/* The sender still keeps the bytes of what is under way, unless it has given its session up: then
 * some of what arrives is from before and the rest from now. */
static void check_unchanged(struct travel *travel)
{
    struct world *from = travel->from;
    const struct way *way = way_of(from, travel->who, travel->group);
    const struct controller *sender = &from->controllers[travel->who];
    if (!sender->running || sender->incarnation != travel->incarnation || !way->up ||
        way->generation != travel->session)
        return;
    uint8_t *now = malloc(travel->length);
    CHECK(now != NULL);
    gather(travel->iov, travel->iov_count, now);
    bool same = memcmp(now, travel->bytes, travel->length) == 0;
    if (!same && way->given_up) {
        uint64_t at = generator_below(&from->latency, travel->length);
        memcpy(travel->bytes + at, now + at, travel->length - at);
    }
    free(now);
    if (!same && !way->given_up)
        world_fail(
            from, "%c changed bytes of batch %" PRIu64 " for the other site while it was under way",
            world_letter(travel->who), travel->batch);
}

static void on_arrival(struct world *world, const struct event *event)
{
    struct travel *travel = travel_of(world, event);
    if (travel == NULL)
        return;
    struct controller *controller = &world->controllers[event->who];
    if (travel->dropped || !controller->running || travel->from->destroyed) {
        travel_free(travel);
        return;
    }
    if (is_stalled(travel->from, world, event))
        return;
    uint64_t clock = world_clock(world, event->who);
    travel->there = true;
    travel->target_incarnation = controller->incarnation;
    array_on_copy_heard(controller->array, clock, travel->to_group);
    if (travel->kind == TRAVEL_ASK) {
        array_copy_state(controller->array, travel->to_group, &travel->state);
        travel_return(travel);
        world_touch(world, event->who);
        return;
    }
    check_unchanged(travel);
    struct generator *chaos = &world->chaos;
    if (travel->corrupt && generator_chance(chaos, 1, 3))
        travel->arrived = (uint32_t)generator_below(chaos, travel->length);
    else if (travel->corrupt) {
        uint32_t at = (uint32_t)generator_below(chaos, travel->length);
        travel->bytes[at] ^= (uint8_t)(1 << generator_below(chaos, 8));
        if (at >= COPY_HEAD_SIZE) /* the data of one that is known already is not looked at */
            travel->corrupt = false;
    }
    world_trace(world, "%c gets batch %" PRIu64 " of group %u of %c%s", world_letter(event->who),
                travel->batch, travel->group, world_letter(travel->who),
                travel->corrupt ? ", changed on the way" : "");
    travel->since_us = world->now_us;
    tell_focus(world, event->who, travel, true);
    if (world->focus && is_under_way(world->copies, travel))
        focus_at(world, event->who, MOMENT_AGAIN);
    array_on_copy_message(controller->array, clock, travel->number, travel->to_group, travel->bytes,
                          travel->arrived);
    world_touch(world, event->who);
}

static void reply(struct world *world, uint8_t who, const struct copy_reply *reply)
{
    struct copies *copies = world->copies;
    for (uint32_t i = 0; i < copies->room; i++) {
        struct travel *travel = &copies->travels[i];
        if (!travel->used || travel->kind != TRAVEL_BATCH || travel->number != reply->handle ||
            !travel->there || travel->to != world || travel->target != who ||
            travel->target_incarnation != world->controllers[who].incarnation)
            continue;
        world_trace(world, "%c answers batch %" PRIu64 " of group %u of %c: %s", world_letter(who),
                    travel->batch, travel->group, world_letter(travel->who),
                    reply->good ? "good" : "refused");
        if (travel->corrupt && reply->good)
            world_fail(world, "%c takes a batch that was changed on its way", world_letter(who));
        travel->good = reply->good;
        spoil(travel);
        travel->target_incarnation = 0;
        world->count.replies[reply->good]++;
        travel_return(travel);
        return;
    }
    world_fail(world, "%c answers a batch that it does not have", world_letter(who));
}

static void on_answer(struct world *world, const struct event *event)
{
    struct travel *travel = travel_of(world, event);
    if (travel == NULL)
        return;
    struct controller *controller = &world->controllers[event->who];
    if (travel->dropped || !is_live(travel) || travel->to->destroyed) {
        struct way *way = way_of(world, travel->who, travel->group);
        bool asked = travel->kind == TRAVEL_ASK && way->generation == travel->session &&
                     controller->running && controller->incarnation == travel->incarnation;
        uint8_t group = travel->group;
        travel_free(travel);
        if (asked)
            way->asking = false;
        if (asked && !way->up)
            miss(world, event->who, group);
        return;
    }
    if (is_stalled(travel->to, world, event))
        return;
    struct travel over = *travel;
    travel_free(travel);
    if (over.kind == TRAVEL_ASK) {
        on_state(world, &over);
        return;
    }
    array_on_copy_answered(controller->array, world_clock(world, event->who), over.group,
                           over.batch, over.good);
    focus_at(world, event->who, MOMENT_ANSWERED);
    world_touch(world, event->who);
}

/* ---- what a controller asks for ---- */

void copies_perform(struct world *world, uint8_t who, const struct actions *actions)
{
    struct copies *copies = world->copies;
    if (copies == NULL)
        return;
    for (uint32_t i = 0; i < actions->copy_reply_count; i++)
        reply(world, who, &actions->copy_replies[i]);
    for (uint32_t i = 0; i < actions->copy_count; i++)
        send_batch(world, who, &actions->copies[i]);
    for (uint32_t i = 0; i < actions->group_record_count; i++)
        keep_record(world, who, &actions->group_records[i]);
    for (uint8_t g = 0; g < world->config.group_count; g++) {
        struct way *way = way_of(world, who, g);
        if (!(actions->copy_reset & 1u << g) || !way->up)
            continue;
        world_trace(world, "%c gives its session for group %u up", world_letter(who), g);
        lose(world, who, g, 200);
        way->given_up = true;
        world_event(world, world->now_us + 100, EVENT_COPY_DOWN, who, g, way->generation);
    }
}

/* While a volume is on its way both say that it is theirs; the new one promotes then. */
static bool owns_alone(const struct world *world, uint8_t who, uint8_t volume)
{
    const struct controller *other = &world->controllers[!who];
    return array_owner(world->controllers[who].array, volume) == 1 &&
           (!other->running || array_owner(other->array, volume) != 1);
}

/* Alone, a promotion is answered when the stores have it. */
static bool stores_fail(const struct world *world)
{
    for (uint32_t s = 0; s < world->config.store_count; s++)
        if (world->disks[s].error_until_us + REPLY_LIMIT_US > world->now_us)
            return true;
    return false;
}

void copies_look(struct world *world, uint8_t who)
{
    struct copies *copies = world->copies;
    if (copies == NULL)
        return;
    for (uint8_t g = 0; g < world->config.group_count; g++) {
        struct copy_state state;
        enum group_role role = array_group_role(world->controllers[who].array, g);
        if (role != way_of(world, who, g)->role)
            focus_at(world, who, MOMENT_GROUP_ROLE);
        way_of(world, who, g)->role = role;
        if (role == GROUP_ROLE_PRIMARY)
            continue;
        array_copy_state(world->controllers[who].array, g, &state);
        /* A promotion that was under way ends before the failover does, or the move. */
        bool owner = owns_alone(world, who, world->config.groups[g].volumes[0]);
        bool here = role != GROUP_ROLE_FAILED_OVER && state.flags & COPY_STATE_HERE;
        if (here)
            cuts_state(world, who, g, &state);
        else if (role == GROUP_ROLE_FAILED_OVER || owner)
            cuts_late(world, who, g, &state);
    }
    for (uint32_t i = 0; i < copies->room; i++) {
        const struct travel *travel = &copies->travels[i];
        if (travel->used && travel->kind == TRAVEL_BATCH && travel->there && travel->to == world &&
            travel->target == who &&
            travel->target_incarnation == world->controllers[who].incarnation &&
            world->now_us - travel->since_us > REPLY_LIMIT_US && !stores_fail(world))
            world_fail(world, "%c keeps batch %" PRIu64 " of group %u without an answer",
                       world_letter(who), travel->batch, travel->group);
    }
}

/* ---- deaths ---- */

void copies_orphan(struct world *world, uint8_t who, bool silent)
{
    struct copies *copies = world->copies;
    if (copies == NULL)
        return;
    for (uint32_t i = 0; i < copies->room; i++) {
        struct travel *travel = &copies->travels[i];
        if (!travel->used)
            continue;
        bool mine = travel->from == world && travel->who == who;
        if (mine && !travel->there && generator_chance(&world->latency, 1, 2))
            travel->dropped = true;
        if (travel->to == world && travel->target == who && travel->there &&
            travel->target_incarnation == world->controllers[who].incarnation)
            travel_free(travel); /* its memory is gone, and so is the answer */
    }
    for (uint8_t g = 0; g < world->config.group_count; g++) {
        struct way *way = way_of(world, who, g);
        way->up = way->breaking = way->given_up = way->asking = false;
        way->generation++;
        way->turn = 0;
        struct record_file *file = &copies->files[world->number][who][g];
        struct world *far = world_far(world, g);
        uint8_t far_group = world_far_group(world, g);
        if (file->busy)
            record_lands(file, generator_chance(&world->latency, 1, 2));
        for (uint8_t w = 0; w < 2; w++) {
            struct way *theirs = way_of(far, w, far_group);
            if (theirs->target != who)
                continue;
            lose(far, w, far_group, silent ? copies->rates.notice_us : 2000);
            if (!theirs->up && theirs->asking) /* the login is not answered any more */
                miss(far, w, far_group);
        }
    }
}

/* ---- faults ---- */

/* Both halves of what is up between the two arrays may lose their sessions, each with the chance of
 * `in` 4 or 3. */
static void lose_some(struct world *const site[2], uint8_t who, uint32_t in)
{
    for (int s = 0; s < 2; s++)
        for (uint8_t g = 0; g < site[s]->config.group_count; g++)
            for (uint8_t w = 0; w < 2; w++)
                if (world_far(site[s], g) == site[!s] && (who > 1 || w == who) &&
                    generator_chance(&site[0]->root->chaos, in == 4 ? 3 : 1, in))
                    lose(site[s], w, g, site[s]->copies->rates.notice_us);
}

void copies_fault(struct world *root, enum fault_kind kind, uint8_t who)
{
    struct copies *copies = root->copies;
    struct generator *chaos = &root->chaos;
    uint64_t for_us = generator_chance(chaos, 1, 2) ? world_between(chaos, 100, 50000)
                                                    : world_between(chaos, 1000, 3000000);
    uint64_t how = generator_below(chaos, 3);
    bool there = generator_chance(chaos, 1, 2);
    const struct twin *twin = &root->twins[0]; /* of two arrays all go the same way */
    if (root->next->next)
        twin = &root->twins[generator_below(chaos, root->twin_count)];
    struct world *const *site = twin->site;
    switch (kind) {
    case FAULT_LONG_BREAK:
        lose_some(site, who, 4);
        break;
    case FAULT_LONG_STALL:
        for (int s = 0; s < 2; s++) {
            uint64_t *heals_us = &copies->heals_us[site[s]->number][site[!s]->number];
            if (how == 2 || s == !there)
                *heals_us = max_u64(*heals_us, root->now_us + for_us);
        }
        world_trace(site[0], "nothing gets %s for %" PRIu64 " us",
                    how == 2 ? "to the other site and back"
                    : there  ? "to the second site"
                             : "back from the second site",
                    for_us);
        lose_some(site, 2, 3);
        break;
    case FAULT_LONG_SLOW:
        copies->slow_until_us = root->now_us + for_us;
        world_trace(root, "the long way is slow for %" PRIu64 " us", for_us);
        break;
    case FAULT_LONG_CORRUPT:
        copies->corrupt_next = 1;
        break;
    default:
        CHECK(false);
    }
}

void copies_part(struct copies *copies, bool apart)
{
    if (apart != copies->apart)
        world_trace(copies->root,
                    apart ? "nothing gets to the other sites" : "the other sites are heard again");
    copies->apart = apart;
    for (int s = 0; s < ARRAYS_LIMIT && apart; s++)
        for (int t = 0; t < ARRAYS_LIMIT; t++)
            copies->heals_us[s][t] =
                max_u64(copies->heals_us[s][t], copies->root->now_us + PART_US);
}

bool copies_apart(const struct copies *copies)
{
    return copies->apart;
}

void copies_heal(struct copies *copies)
{
    uint64_t now_us = copies->root->now_us;
    copies->corrupt_next = 0;
    copies->slow_until_us = now_us;
    for (int s = 0; s < ARRAYS_LIMIT; s++)
        for (int t = 0; t < ARRAYS_LIMIT; t++) {
            copies->heals_us[s][t] = min_u64(copies->heals_us[s][t], now_us);
            copies->wire_free_us[s][t] = min_u64(copies->wire_free_us[s][t], now_us + 1000000);
        }
}

void copies_on_event(struct world *world, const struct event *event)
{
    switch (event->kind) {
    case EVENT_COPY_LOGIN:
        on_login(world, event);
        break;
    case EVENT_COPY_BATCH:
        on_arrival(world, event);
        break;
    case EVENT_COPY_ANSWER:
        on_answer(world, event);
        break;
    case EVENT_COPY_DOWN:
        on_down(world, event);
        break;
    case EVENT_COPY_RECORD:
        on_record(world, event);
        break;
    default:
        CHECK(false);
    }
}
