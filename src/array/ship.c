/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Requests to volumes that the peer owns: sent to it, step by step, and answered with what it says.
 * Each is carried out once, whatever becomes of the peer or of the session: beside every change
 * that a shipped request makes, the owner puts into the change stream how far the request has come.
 * When the peer is lost the request goes on here, from there; had it begun anew, it could undo what
 * others have been told since. A new session is of use only once the owner's stream has named it:
 * then all that the owner had to say of the former one's requests has come, and it is no new start
 * of the peer that answers there while what the dead one said is still on its way.
 *
 *   ship_wait -> out -> answered                          the normal course
 *                 \-> lost -> sent again from where it was     the session broke
 *                 \-> lost -> carried out here                the peer was lost, or the volume came
 *
 * A request that is out cannot end before the shell has let go of its data: array_on_shipped() or
 * array_on_ship_down(). */

#include "array/internal.h"

#include "base/mistake.h"

enum {
    SHIP_RANGE_BYTES = 1 << 30,
    SHIP_PAUSE_US = 1000,
    SHIP_GENERATIONS = 0xFFFFFE, /* no tag is 0 or, as an iSCSI task tag, 0xFFFFFFFF */
};

void ship_create(struct array *array)
{
    struct ships *ships = &array->ships;
    /* Another start begins elsewhere: the owner may not be done with the tags of the last. */
    *ships = (struct ships){.generation = (uint32_t)(array->config.incarnation % SHIP_GENERATIONS)};
    for (uint32_t i = 0; i < SHIP_LIMIT; i++)
        ships->ship[i] =
            (struct ship){.request = NO_INDEX, .next_free = i + 1 < SHIP_LIMIT ? i + 1 : NO_INDEX};
}

static struct request *request_of(struct array *array, const struct ship *ship)
{
    return &array->requests.requests[ship->request];
}

static void ship_free(struct array *array, struct ship *ship)
{
    struct ships *ships = &array->ships;
    request_of(array, ship)->ship = 0;
    bool goes_on = ship->lost && array->role.state == ROLE_PAIRED && !array->stopping;
    uint32_t gone_on = goes_on ? ship->tag : ship->gone_on;
    *ship = (struct ship){.request = NO_INDEX, .next_free = ships->free, .gone_on = gone_on};
    ships->free = (uint32_t)(ship - ships->ship);
    CHECK(ships->used > 0);
    ships->used--;
}

static bool has_length(const struct request *request)
{
    return request->host.op != HOST_FLUSH && request->host.op != HOST_MOVE;
}

/* Every byte has been dealt with at the owner; what may be missing is durability. */
static bool is_done(const struct request *request)
{
    return has_length(request) && request->done_bytes == request->host.length_bytes;
}

void ship_request(struct array *array, struct request *request)
{
    const struct volume_config *config = array->volumes[request->host.volume].config;
    bool wants_store = config->flush_destage && (request->host.flags & HOST_FUA);
    if (request->dropped)
        host_complete(array, request, HOST_NOT_OWNER);
    else if (is_done(request) && !(wants_store && request->resumed))
        host_complete(array, request, HOST_OK);
    else
        request_queue_append(&array->requests, &array->ship_wait, request);
}

static uint64_t step_bytes(const struct request *request)
{
    uint64_t left = request->host.length_bytes - request->done_bytes;
    switch (request->host.op) {
    case HOST_READ:
    case HOST_WRITE:
        return min_u64(left, SHIP_BYTES);
    case HOST_TRIM:
    case HOST_ZERO:
        return min_u64(left, SHIP_RANGE_BYTES);
    default:
        return left;
    }
}

static void send_step(struct array *array, struct request *request)
{
    struct ships *ships = &array->ships;
    uint32_t index = ships->free;
    struct ship *ship = &ships->ship[index];
    ships->free = ship->next_free;
    ships->used++;
    ships->generation = (ships->generation + 1) % SHIP_GENERATIONS;
    *ship = (struct ship){.request = request_index(&array->requests, request),
                          .next_free = NO_INDEX,
                          .gone_on = ship->gone_on,
                          .tag = (ships->generation << 8 | index) + 1,
                          .out = true,
                          .flush = is_done(request),
                          .length_bytes = step_bytes(request)};
    request->ship = (uint16_t)(index + 1);
    struct ship_action *action = &ships->actions[array->actions.ship_count++];
    *action = (struct ship_action){.tag = ship->tag, .request = request->host};
    struct host_request *step = &action->request;
    if (ship->flush) {
        *step = (struct host_request){.op = HOST_FLUSH, .volume = step->volume};
    } else if (has_length(request)) {
        step->offset_bytes += request->done_bytes;
        step->length_bytes = ship->length_bytes;
        if (step->data != NULL)
            step->data = (uint8_t *)step->data + request->done_bytes;
    }
    TRACE(array, "ship %u op %d volume %u offset %llu length %llu", ship->tag, (int)step->op,
          step->volume, (unsigned long long)step->offset_bytes,
          (unsigned long long)step->length_bytes);
}
_Static_assert(SHIP_LIMIT == 256, "a ship's index is the low byte of its tag");

static struct ship *ship_by_tag(struct array *array, uint32_t tag)
{
    struct ship *ship = &array->ships.ship[(tag - 1) % SHIP_LIMIT];
    return ship->request != NO_INDEX && ship->tag == tag ? ship : NULL;
}

void ship_note_progress(struct array *array, struct request *request, uint64_t done_bytes)
{
    if (!(request->host.flags & HOST_SHIPPED) || !array->mirroring)
        return;
    struct lists *lists = &array->lists;
    struct list *list = lists_filling(lists);
    if (request->progress_number == lists_filling_number(lists) &&
        request->progress_stream == lists->stream) {
        CHECK(list->headers[request->progress_at].slot == request->host.tag);
        list->headers[request->progress_at].page = done_bytes;
        return;
    }
    request->progress_at = list->count;
    request->progress_number = lists_filling_number(lists);
    request->progress_stream = lists->stream;
    struct header header = {.type = HEADER_PROGRESS, .slot = request->host.tag, .page = done_bytes};
    lists_add(lists, &header);
    array->controls_sent++;
}

void ship_progress(struct array *array, uint32_t tag, uint64_t done_bytes)
{
    struct ship *ship = ship_by_tag(array, tag);
    if (ship == NULL) { /* answered already */
        array->ships.late_progress |= array->ships.ship[(tag - 1) % SHIP_LIMIT].gone_on == tag;
        return;
    }
    ship->done_bytes = min_u64(done_bytes, ship->length_bytes);
    TRACE(array, "shipped %u has come to %llu", tag, (unsigned long long)ship->done_bytes);
}

/* It is known how far the step has come: the request looks anew where it is to go on. */
static void resolve(struct array *array, struct ship *ship)
{
    struct request *request = request_of(array, ship);
    bool anew = MISTAKE(shipped_begins_anew) && array->role.state != ROLE_PAIRED;
    anew |= MISTAKE(shipped_twice) && array->role.state == ROLE_PAIRED;
    if (!ship->flush && ship->done_bytes > 0 && !anew) {
        request->done_bytes += ship->done_bytes;
        request->resumed = true;
    }
    ship_free(array, ship);
    request_queue_append(&array->requests, &array->run, request);
}

static void resolve_lost(struct array *array)
{
    struct ships *ships = &array->ships;
    for (uint32_t i = 0; i < SHIP_LIMIT && ships->lost > 0; i++) {
        if (ships->ship[i].request == NO_INDEX || !ships->ship[i].lost)
            continue;
        ships->lost--;
        resolve(array, &ships->ship[i]);
    }
}

static bool is_open(const struct array *array)
{
    const struct ships *ships = &array->ships;
    bool named = array->incoming.open && array->incoming.ship_session == ships->session;
    return ships->up && array->role.state == ROLE_PAIRED && (named || MISTAKE(resumed_too_early));
}

void ship_resume(struct array *array)
{
    const struct ships *ships = &array->ships;
    if (is_open(array))
        resolve_lost(array);
    if (!ships->up && array->stopping) {
        resolve_lost(array); /* nobody will take them: they are refused */
        host_resume(array, &array->ship_wait);
    }
}

void ship_pump(struct array *array)
{
    struct ships *ships = &array->ships;
    if (ships->reset_wanted) {
        array->actions.ship_reset = true;
        ships->reset_wanted = false;
    }
    if (!is_open(array) || array->now_us < ships->again_us)
        return;
    while (array->ship_wait.count > 0 && ships->free != NO_INDEX &&
           array->actions.ship_count < SHIP_LIMIT)
        send_step(array, request_queue_pop(&array->requests, &array->ship_wait));
}

uint64_t ship_deadline(const struct array *array)
{
    uint64_t again_us = array->ships.again_us;
    return array->ship_wait.count > 0 && again_us > array->now_us ? again_us : UINT64_MAX;
}

void array_on_shipped(struct array *array, uint64_t now_us, uint32_t tag, enum host_result result,
                      uint64_t detail)
{
    array_begin(array, now_us);
    struct ship *ship = ship_by_tag(array, tag);
    if (ship == NULL || !ship->out)
        return;
    struct request *request = request_of(array, ship);
    TRACE(array, "shipped %u result %d", tag, (int)result);
    if (request->refused) {
        ship_free(array, ship);
        host_complete(array, request, HOST_NOT_OWNER);
        return;
    }
    if (result == HOST_NOT_OWNER || result == HOST_BUSY) {
        /* The volume moves, or the peer changes its role: it may refuse for as long as a lease. */
        array->ships.again_us = array->now_us + SHIP_PAUSE_US;
        resolve(array, ship);
        return;
    }
    bool flushed = ship->flush;
    if (result == HOST_OK && has_length(request) && !flushed)
        request->done_bytes += ship->length_bytes;
    ship_free(array, ship);
    array->volumes[request->host.volume].status.shipped++;
    if (result == HOST_OK && has_length(request) && !flushed && !is_done(request))
        ship_request(array, request);
    else
        host_complete_detail(array, request, result, detail);
}

void array_on_ship_up(struct array *array, uint64_t now_us, uint32_t session)
{
    array_begin(array, now_us);
    CHECK(session != 0);
    array->ships.up = true;
    array->ships.session = session;
    TRACE(array, "ship up");
}

void array_on_ship_admitted(struct array *array, uint64_t now_us, uint32_t session)
{
    array_begin(array, now_us);
    CHECK(session != 0);
    array->ships.served = session;
    TRACE(array, "ship admitted");
}

void array_on_ship_down(struct array *array, uint64_t now_us)
{
    array_begin(array, now_us);
    struct ships *ships = &array->ships;
    ships->up = false;
    TRACE(array, "ship down");
    bool between = array->role.state == ROLE_PAIRED || array->role.state == ROLE_RACING ||
                   array->role.state == ROLE_FENCING;
    for (uint32_t i = 0; i < SHIP_LIMIT; i++) {
        struct ship *ship = &ships->ship[i];
        if (ship->request == NO_INDEX || !ship->out)
            continue;
        struct request *request = request_of(array, ship);
        ship->out = false;
        if (request->refused) {
            ship_free(array, ship);
            host_complete(array, request, HOST_NOT_OWNER);
        } else if (between) {
            ship->lost = true;
            ships->lost++;
        } else {
            resolve(array, ship);
        }
    }
}

void ship_leave(struct array *array)
{
    struct ships *ships = &array->ships;
    resolve_lost(array);
    host_resume(array, &array->ship_wait);
    for (uint32_t i = 0; i < SHIP_LIMIT; i++) {
        struct ship *ship = &ships->ship[i];
        if (ship->request == NO_INDEX || !ship->out)
            continue;
        ships->reset_wanted = true;
        if (array->role.state != ROLE_SOLO && array->role.state != ROLE_FENCING)
            continue;
        /* The lost owner's store may hold its zeros, and nobody may see them, write, and have that
         * zeroed by what is left: it goes on before anyone else. The shell has no data of it. */
        struct request *request = request_of(array, ship);
        bool range = request->host.op == HOST_TRIM || request->host.op == HOST_ZERO;
        if (range && !request->refused)
            resolve(array, ship);
    }
}

bool ship_refuse(struct array *array, struct request *request)
{
    if (request->ship == 0)
        return true;
    struct ship *ship = &array->ships.ship[request->ship - 1];
    if (ship->out) {
        request->refused = true;
        return false;
    }
    CHECK(ship->lost);
    array->ships.lost--;
    ship_free(array, ship);
    return true;
}
