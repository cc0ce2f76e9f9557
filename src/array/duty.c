/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What the role orders and the operator asks, carried out on slots and volumes: takeover, filling a
 * returned peer, moving a volume, a clean stop. Each is a small state machine that one pump moves
 * as far as it can go. */

#include "array/internal.h"

#include "base/mistake.h"

enum {
    MOVE_CUT_US = 10 * 1000 * 1000, /* a received group waits so long for its cut's promotion */
    MOVE_HOLD_LIMIT_US =
        2 * 1000 * 1000, /* hosts are held no longer than this for a planned move */
    MOVE_FEW_PAGES = 64, /* so few dirty pages drain within the hold */
};

static uint64_t next_stream(struct array *array)
{
    array->stream_count++;
    return array->config.incarnation + array->stream_count;
}

static void send_control(struct array *array, enum header_type type, uint8_t volume, uint32_t slot,
                         uint64_t page)
{
    struct header header = {.type = (uint8_t)type, .volume = volume, .slot = slot, .page = page};
    lists_add(&array->lists, &header);
    array->controls_sent++;
    TRACE(array, "fill control %d volume %u", (int)type, volume);
}

/* ---- moves ---- */

/* Who asked for what has just become true is told so at once: had each to look again, two who want
 * the volume at different controllers could send it to and fro for ever. */
static void wake_movers(struct array *array, uint8_t index)
{
    for (uint32_t left = array->move_wait.count; left > 0; left--) {
        struct request *request = request_queue_pop(&array->requests, &array->move_wait);
        const struct host_request *host = &request->host;
        if (host->volume == index && host->offset_bytes == array->volumes[index].owner)
            host_complete(array, request, HOST_OK);
        else
            request_queue_append(&array->requests, &array->run, request);
    }
}

static void move_end(struct array *array, struct volume *volume, bool done, const char *text)
{
    volume->move = MOVE_NONE;
    if (volume->move_answer)
        array_reply(array, volume->move_handle, done, text);
    volume->move_answer = false;
    array->service_stamp++;
    host_resume(array, &array->held);
    wake_movers(array, (uint8_t)(volume - array->volumes));
}

static void abort_moves(struct array *array, const char *why)
{
    for (uint32_t i = 0; i < array->config.volume_count; i++) {
        if (array->volumes[i].move != MOVE_NONE)
            move_end(array, &array->volumes[i], false, why);
    }
}

static void move_start_one(struct array *array, uint32_t index)
{
    struct volume *volume = &array->volumes[index];
    volume->move = MOVE_DESTAGE;
    volume->move_cut = generation_cut(&array->destage.generations);
    volume->move_since_us = array->now_us;
}

/* The volumes of a received group go together: what is promoted is decided in one place. */
static void move_start(struct array *array, uint32_t index)
{
    move_start_one(array, index);
    if (!copy_second_together(array, (uint8_t)index))
        return;
    const struct group_config *group = copy_group(array, (uint8_t)index)->config;
    for (uint32_t i = 0; i < group->volume_count; i++) {
        if (array->volumes[group->volumes[i]].move == MOVE_NONE)
            move_start_one(array, group->volumes[i]);
    }
}

void duty_move(struct array *array, uint8_t volume)
{
    if (array->volumes[volume].move == MOVE_NONE)
        move_start(array, volume);
}

static bool move_drained(const struct array *array, uint32_t index)
{
    const struct volume *volume = &array->volumes[index];
    bool dirty = array->destage.generations.volume_pages[index] > 0 && !MISTAKE(move_without_drain);
    return volume->move == MOVE_HOLD && volume->active == 0 && !dirty && volume->fetches == 0 &&
           !copy_reads(array, (uint8_t)index);
}

static bool move_has_room(struct array *array, uint32_t headers)
{
    const struct list *filling = lists_filling(&array->lists);
    return filling->count + filling->weight + headers <= BATCH_HEADERS;
}

static void move_send(struct array *array, uint32_t index)
{
    array->volumes[index].move = MOVE_SENT;
    copy_moved(array, (uint8_t)index);
    send_control(array, HEADER_MOVE, (uint8_t)index, array->config.self ^ 1u, 0);
}

/* One of a received group is drained: if all are, all go, and the peer learns what is known of the
 * group. */
static void move_group(struct array *array, struct group *group)
{
    const struct group_config *config = group->config;
    for (uint32_t i = 0; i < config->volume_count; i++) {
        if (!move_drained(array, config->volumes[i]))
            return;
    }
    if (copy_second_busy(array, group) || group->site.lacks ||
        !move_has_room(array, config->volume_count + 1))
        return;
    copy_second_hand_over(array, group);
    for (uint32_t i = 0; i < config->volume_count; i++)
        move_send(array, config->volumes[i]);
}

/* It could not be drained in time; nor, then, go those that would go with it. */
static void move_give_up(struct array *array, uint32_t index)
{
    static const char text[] = "the volume could not be drained in time; it stays where it is";
    bool together = copy_second_together(array, (uint8_t)index);
    const struct group *group = copy_group(array, (uint8_t)index);
    move_end(array, &array->volumes[index], false, text);
    for (uint32_t i = 0; together && i < group->config->volume_count; i++) {
        struct volume *volume = &array->volumes[group->config->volumes[i]];
        if (volume->move != MOVE_NONE && volume->move != MOVE_SENT)
            move_end(array, volume, false, text);
    }
}

static void move_step(struct array *array, uint32_t index)
{
    struct volume *volume = &array->volumes[index];
    uint64_t dirty_pages = array->destage.generations.volume_pages[index];
    if (volume->move == MOVE_DESTAGE) {
        if (dirty_pages > MOVE_FEW_PAGES &&
            !generation_is_over(&array->destage.generations, volume->move_cut))
            return;
        /* From here on nothing is taken, no promotion either, and what is held is given up. */
        if (copy_second_together(array, (uint8_t)index) &&
            copy_second_keeps_cut(copy_group(array, (uint8_t)index)) &&
            array->now_us < volume->move_since_us + MOVE_CUT_US)
            return;
        volume->move = MOVE_HOLD;
        volume->move_since_us = array->now_us;
        array->service_stamp++;
    }
    if (volume->move != MOVE_HOLD)
        return;
    bool together = copy_second_together(array, (uint8_t)index);
    if (together)
        move_group(array, copy_group(array, (uint8_t)index));
    else if (move_drained(array, index) && move_has_room(array, 1))
        move_send(array, index);
    if (volume->move == MOVE_HOLD && array->now_us > volume->move_since_us + MOVE_HOLD_LIMIT_US)
        move_give_up(array, index);
}

/* The peer has applied the MOVE. */
static void moved_away(struct array *array, uint8_t index, uint8_t owner)
{
    struct volume *volume = &array->volumes[index];
    CHECK(volume->move == MOVE_SENT);
    volume->owner = owner;
    copy_owner_changed(array, index);
    array->service_stamp++;
    /* All its slots here are clean, and the peer drops its copies as it comes upon them. */
    slot_mirror_forget(&array->table, index);
    array_log(array, LOG_INFO, "volume %s: now served by controller %c", volume->config->name,
              'a' + owner);
    move_end(array, volume, true, "moved");
}

void duty_moved_here(struct array *array, uint8_t index)
{
    /* It comes back before the answer to our own MOVE, which has been applied there, then. */
    if (array->volumes[index].move == MOVE_SENT)
        moved_away(array, index, array->config.self ^ 1);
    array->volumes[index].owner = array->config.self;
    copy_moved(array, index);
    copy_owner_changed(array, index);
    array_log(array, LOG_INFO, "volume %s: now served here", array->config.volumes[index].name);
    array->service_stamp++;
    host_resume(array, &array->held);
    host_resume(array, &array->ship_wait);
}

/* Waits outside the volume's count of active requests: the move waits for that to be zero. */
void duty_move_run(struct array *array, struct request *request)
{
    uint8_t index = request->host.volume;
    struct volume *volume = &array->volumes[index];
    if (array->role.state != ROLE_PAIRED || array->stopping) {
        host_complete(array, request, HOST_REFUSED);
    } else if (volume->move == MOVE_NONE && volume->owner == request->host.offset_bytes) {
        host_complete(array, request, HOST_OK);
    } else if (volume->move != MOVE_NONE || !request->tried) {
        if (volume->move == MOVE_NONE) {
            request->tried = true;
            move_start(array, index);
        }
        request_queue_append(&array->requests, &array->move_wait, request);
    } else {
        host_complete(array, request, HOST_REFUSED);
    }
}

void array_operator_move(struct array *array, uint64_t now_us, uint64_t handle, uint8_t index,
                         uint8_t to)
{
    array_begin(array, now_us);
    CHECK(index < array->config.volume_count);
    CHECK(to < 2);
    struct volume *volume = &array->volumes[index];
    if (array->role.state != ROLE_PAIRED || array->stopping) {
        array_reply(array, handle, false,
                    "a volume can be moved only while both controllers are paired");
    } else if (volume->owner == to) {
        array_reply(array, handle, true, "it is there already");
    } else if (!array_owns(array, index)) {
        array_reply(array, handle, false, "the other controller serves this volume: ask there");
    } else if (volume->move != MOVE_NONE) {
        array_reply(array, handle, false, "it is being moved already");
    } else {
        move_start(array, index);
        volume->move_answer = true;
        volume->move_handle = handle;
    }
}

/* ---- orders ---- */

static void own_all(struct array *array)
{
    array->service_stamp++;
    for (uint32_t i = 0; i < array->config.volume_count; i++) {
        array->volumes[i].tenure += !array_owns(array, (uint8_t)i);
        array->volumes[i].owner = array->config.self;
        copy_owner_changed(array, (uint8_t)i);
    }
}

static void leave_mirror(struct array *array, const char *why)
{
    abort_moves(array, why);
    ship_leave(array);
    host_drop_shipped(array);
    pages_mirror_void(array);
    array->incoming.open = array->incoming.open && MISTAKE(old_epoch_accepted);
    array->refill = (struct refill){.state = REFILL_NONE};
    array->leave_sent = array->leave_answered = false;
    array->peer_stopping = false;
}

static void begin_solo(struct array *array)
{
    own_all(array);
    array->barrier_wanted = array->config.store_count == STORE_LIMIT
                                ? UINT64_MAX
                                : (1ull << array->config.store_count) - 1;
    array->barrier_retry_us = array->now_us;
    if (MISTAKE(barrier_missing))
        array->barrier_wanted = 0;
    array->solo_drained = false;
    array->solo_cut = generation_cut(&array->destage.generations);
    array->outgoing.hello_wanted = true;
}

/* The survivor is paired: the joiner hears it in the stream, and volumes go home. */
static void lead_pair(struct array *array)
{
    array->incoming.open = false;
    array->refill = (struct refill){.state = REFILL_NONE};
    send_control(array, HEADER_PAIR, 0, 0, array->role.epoch);
    for (uint32_t i = 0; i < array->config.group_count; i++)
        sender_pair(&array->copy.groups[i].sender, true);
    bool home = array->homing || array->config.auto_giveback;
    for (uint32_t i = 0; i < array->config.volume_count && home && !array->stopping; i++) {
        if (array->config.volumes[i].home != array->config.self)
            duty_move(array, (uint8_t)i);
    }
    array->homing = false;
}

static void join_pair(struct array *array)
{
    CHECK(!array->mirroring);
    lists_reset(&array->lists, next_stream(array));
    slot_mirror_forget_all(&array->table);
    array->mirroring = true;
    send_control(array, HEADER_START, 0, 0, array->role.epoch);
}

/* Every change of role, and every new reason for one, is said once. */
static void log_role(struct array *array)
{
    const struct role_machine *role = &array->role;
    if (array->logged_role == role->state && strcmp(array->logged_reason, role->reason) == 0)
        return;
    array->logged_role = role->state;
    memcpy(array->logged_reason, role->reason, sizeof array->logged_reason);
    array_log(array, role->state == ROLE_OFFLINE ? LOG_ERROR : LOG_INFO, "%s: %s",
              role_name(role->state), role->reason);
}

void duty_orders(struct array *array)
{
    log_role(array);
    uint32_t orders = array->role.orders;
    array->role.orders = 0;
    if (orders == 0)
        return;
    if (orders & ORDER_HOLD)
        abort_moves(array, "the peer was lost");
    if (orders & ORDER_REFUSE) {
        leave_mirror(array, "this controller is out");
        copy_leave(array);
        host_refuse_all(array);
        array->drop_pending = true;
    }
    if (orders & ORDER_ADOPT) {
        leave_mirror(array, "the peer was lost");
        if (MISTAKE(takeover_forgets_image))
            array->drop_pending = true;
        generation_adopt(&array->destage.generations, &array->table);
        copy_take_over(array);
        array->homing = false;
        begin_solo(array);
    }
    if (orders & ORDER_SERVE_FRESH) {
        copy_site_note_fresh(array);
        array->drop_pending = true;
        array->homing = true;
        begin_solo(array);
    }
    if (orders & ORDER_PAIRED_LEAD)
        lead_pair(array);
    if (orders & ORDER_PAIRED_JOIN)
        join_pair(array);
    if (orders & (ORDER_PAIRED_LEAD | ORDER_PAIRED_JOIN))
        copy_site_paired(array);
    if (orders & ORDER_FENCE_PEER)
        array->actions.fence_peer = true;
    if (orders & ORDER_RESUME)
        host_resume(array, &array->held);
    if (orders & ORDER_STOPPED) {
        leave_mirror(array, "stopped");
        copy_leave(array);
        host_refuse_all(array);
        array->actions.stopped = true;
    }
}

/* ---- filling a returned peer ---- */

static bool peer_wants_filling(const struct array *array)
{
    const struct role_machine *role = &array->role;
    bool out = role->peer.role == ROLE_WAITING || role->peer.role == ROLE_OFFLINE ||
               role->peer.role == ROLE_STARTING || role->peer.role == ROLE_JOINING;
    return array_is_solo(array) && !array->stopping && !array->drop_pending &&
           array->outgoing.greeted && role->peer.known && role->peer.fits && out &&
           !role->register_busy && !role->swap_unknown &&
           array->now_us < role->peer.heard_us + role->config.lease_us;
}

/* The image half must be free for the peer's slots: what a takeover adopted there moves to our own
 * half. */
static void refill_close(struct array *array)
{
    struct slot_table *table = &array->table;
    struct refill *refill = &array->refill;
    uint32_t copies = 0;
    uint32_t step = min_u32(REFILL_STEP, table->half); /* once round is enough for one pump */
    for (uint32_t i = 0;
         i < step && copies < REFILL_COPIES && table->state_count[1][SLOT_FREE] < table->half;
         i++) {
        struct slot *slot = slot_at(table, table->half + refill->cursor);
        refill->cursor = (refill->cursor + 1) % table->half;
        if (slot->fetch != 0 || slot->held)
            continue;
        if (slot->foreign)
            copies += copy_second_relocate(array, slot);
        else if (slot->state == SLOT_CLEAN && slot->pinned)
            copies += pages_relocate_pinned(array, slot);
        else if (slot->state == SLOT_CLEAN && slot->waiters == NO_INDEX)
            slot_release(table, slot);
        else if (slot->state == SLOT_DIRTY && !slot->superseded)
            copies += pages_relocate(array, slot);
    }
    if (table->state_count[1][SLOT_FREE] < table->half || copy_second_any_busy(array))
        return;
    if (array->destage.generations.adopting)
        generation_adopt_end(&array->destage.generations, table);
    slot_mirror_forget_all(table);
    lists_reset(&array->lists, next_stream(array));
    array->mirroring = true;
    array->role.joiner = array->role.peer.incarnation;
    send_control(array, HEADER_START, 0, 0, array->role.epoch);
    for (uint32_t i = 0; i < array->config.volume_count; i++)
        send_control(array, HEADER_OWNER, (uint8_t)i, array->volumes[i].owner, 0);
    copy_refill_begin(array);
    *refill = (struct refill){.state = REFILL_SENDING, .states = 0};
    array_log(array, LOG_INFO, "the peer is back: sending it every dirty page");
}

static void refill_send(struct array *array)
{
    struct slot_table *table = &array->table;
    struct refill *refill = &array->refill;
    for (; refill->states < array->config.volume_count; refill->states++) {
        if (array->volumes[refill->states].state.version == 0 || MISTAKE(state_not_refilled))
            continue;
        if (!lists_have_room(&array->lists, LISTS_STATE_WEIGHT, false))
            return;
        state_send(array, (uint8_t)refill->states);
    }
    if (!copy_refill_send(array))
        return;
    if (MISTAKE(rejoin_without_refill))
        refill->cursor = table->half;
    for (uint32_t i = 0; i < REFILL_STEP && refill->cursor < table->half; i++, refill->cursor++) {
        struct slot *slot = slot_at(table, refill->cursor);
        if (slot_is_mirrored(table, slot))
            continue;
        if (slot->foreign && !MISTAKE(refill_skips_held)) {
            if (!lists_have_room(&array->lists, 1, false))
                return;
            copy_second_say_held(array, copy_group(array, slot_key_volume(slot->key)), slot);
            continue;
        }
        if (slot->superseded)
            continue;
        if (slot->state == SLOT_DESTAGING && !MISTAKE(refill_skips_destaging))
            refill->again =
                true; /* clean soon; or dirty again after an error, and then it must be sent */
        bool kept = slot->state == SLOT_CLEAN && slot->pinned && !MISTAKE(refill_skips_pinned);
        if (slot->state != SLOT_DIRTY && !kept)
            continue;
        if (!lists_have_room(&array->lists, 1, false))
            return;
        pages_send(array, slot);
    }
    if (refill->cursor < table->half)
        return;
    if (refill->again) {
        refill->cursor = 0;
        refill->again = false;
        return;
    }
    send_control(array, HEADER_READY, 0, 0, array->role.epoch + 1);
    refill->state = REFILL_READY;
}

static void refill_step(struct array *array)
{
    switch (array->refill.state) {
    case REFILL_NONE:
        if (peer_wants_filling(array))
            array->refill = (struct refill){.state = REFILL_CLOSING};
        break;
    case REFILL_CLOSING:
        if (!peer_wants_filling(array))
            array->refill.state = REFILL_NONE;
        else
            refill_close(array);
        break;
    case REFILL_SENDING:
        refill_send(array);
        break;
    case REFILL_DONE:
        role_on_refilled(&array->role, array->now_us);
        break;
    default:
        break;
    }
}

void duty_abort_refill(struct array *array)
{
    /* While "both" may already stand in the register the stream must go on: we may be paired. */
    if (!array_is_solo(array) || array->role.pairing || array->refill.state == REFILL_NONE)
        return;
    pages_mirror_void(array);
    array->refill = (struct refill){.state = REFILL_NONE};
}

/* ---- stopping ---- */

static bool everything_destaged(const struct array *array)
{
    if (MISTAKE(stop_without_destage))
        return stores_quiet(array);
    return slot_dirty_count(&array->table, 0) == 0 && slot_dirty_count(&array->table, 1) == 0 &&
           stores_quiet(array);
}

static bool no_request_active(const struct array *array)
{
    for (uint32_t i = 0; i < array->config.volume_count; i++) {
        if (array->volumes[i].active > 0)
            return false;
    }
    return true;
}

static void stop_paired(struct array *array)
{
    if (array->leave_sent || (array->peer_stopping && array->config.self == 1))
        return; /* both stop: b waits for a to leave, and is then the one that ends the array */
    bool owns_any = false;
    for (uint32_t i = 0; i < array->config.volume_count; i++) {
        if (!array_owns(array, (uint8_t)i))
            continue;
        owns_any = true;
        if (array->volumes[i].move == MOVE_NONE)
            move_start(array, i);
    }
    if (owns_any || array->lists.active || lists_filling(&array->lists)->count > 0 ||
        !stores_quiet(array) || array->ships.used > 0 || array->ship_wait.count > 0 ||
        !copy_site_stopped(array, true))
        return;
    send_control(array, HEADER_LEAVE, 0, 0, 0);
    array->leave_sent = true;
}

/* Both may say it at once. Then b takes a's word and forgets its own: it is the one that ends the
 * array. */
void duty_peer_leaves(struct array *array)
{
    if (array->leave_sent && array->config.self == 0)
        return;
    array->leave_sent = array->leave_answered = false;
    role_on_left(&array->role, array->now_us);
}

static void stop_step(struct array *array)
{
    switch (array->role.state) {
    case ROLE_PAIRED:
        if (array->leave_answered)
            role_stop(&array->role, array->now_us, true);
        else
            stop_paired(array);
        break;
    case ROLE_SOLO:
        duty_abort_refill(array);
        if (no_request_active(array) && everything_destaged(array) &&
            !copy_second_any_busy(array) && copy_site_stopped(array, false))
            role_stop(&array->role, array->now_us, false);
        break;
    case ROLE_RACING:
    case ROLE_FENCING:
    case ROLE_STOPPED:
        break;
    default:
        role_stop(&array->role, array->now_us, false);
    }
}

void array_operator_stop(struct array *array, uint64_t now_us)
{
    array_begin(array, now_us);
    array->stopping = true;
    array->outgoing.hello_wanted = true;
}

void array_operator_accept_loss(struct array *array, uint64_t now_us, uint64_t handle,
                                bool peer_is_dead)
{
    array_begin(array, now_us);
    const char *why = role_accept_loss(&array->role, now_us, peer_is_dead);
    array_reply(array, handle, why == NULL,
                why == NULL ? "accepted: the volumes will be served from what the stores hold"
                            : why);
}

/* ---- together ---- */

void duty_acknowledged(struct array *array, const struct header *header)
{
    switch (header->type) {
    case HEADER_READY:
        if (array->refill.state == REFILL_READY)
            array->refill.state = REFILL_DONE;
        break;
    case HEADER_MOVE:
        if (array->volumes[header->volume].move == MOVE_SENT)
            moved_away(array, header->volume, (uint8_t)header->slot);
        break;
    case HEADER_LEAVE:
        array->leave_answered = array->leave_sent;
        break;
    default:
        if (header->type >= HEADER_GROUP)
            copy_acknowledged(array, header);
        break;
    }
}

static void note_drained(struct array *array)
{
    if (!array_is_solo(array))
        return;
    if (!array->solo_drained)
        array->solo_drained = generation_is_over(&array->destage.generations, array->solo_cut);
    if (array->solo_drained && array->refill.state == REFILL_NONE &&
        !copy_second_any_zeroing(array))
        role_on_drained(&array->role, array->now_us);
}

void duty_pump(struct array *array)
{
    if (array->drop_pending && stores_quiet(array)) {
        image_drop_all(array);
        host_resume(array, &array->held);
        if (array_is_solo(array))
            array->solo_cut = generation_cut(&array->destage.generations);
        if (array_is_solo(array))
            copy_serve_fresh(array);
    }
    if (array->role.state == ROLE_PAIRED) {
        for (uint32_t i = 0; i < array->config.volume_count; i++) {
            if (array->volumes[i].move != MOVE_NONE)
                move_step(array, i);
        }
    }
    if (array_is_solo(array))
        refill_step(array);
    note_drained(array);
    if (array->stopping)
        stop_step(array);
}
