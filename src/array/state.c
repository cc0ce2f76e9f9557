/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The volumes' state records: what SCSI remembers of a volume (reservations, mode pages), opaque
 * here. The owner replaces one by compare-and-swap on its version; the new one travels in the
 * change stream and counts here only when the peer has it, so a takeover never forgets what a host
 * was told. One change is under way at a time: they are rare. */

#include "array/internal.h"
#include "base/crc32c.h"
#include "base/mistake.h"

size_t state_bytes_needed(uint32_t volume_count)
{
    return (size_t)(volume_count + 1) * VOLUME_STATE_BYTES;
}

void state_create(struct array *array, uint8_t *memory)
{
    for (uint32_t i = 0; i < array->config.volume_count; i++)
        array->volumes[i].state.bytes = memory + (size_t)i * VOLUME_STATE_BYTES;
    array->state_change.bytes = memory + (size_t)array->config.volume_count * VOLUME_STATE_BYTES;
}

void array_load_state(struct array *array, uint8_t volume, uint32_t version, const void *bytes,
                      uint32_t length)
{
    CHECK(volume < array->config.volume_count);
    CHECK(length <= VOLUME_STATE_BYTES);
    CHECK(version != 0);
    struct volume_state *state = &array->volumes[volume].state;
    memcpy(state->bytes, bytes, length);
    state->version = version;
    state->length = length;
    state_changed(array, volume);
}

void state_changed(struct array *array, uint8_t volume)
{
    array->changed_volumes[volume / 64] |= 1ull << volume % 64;
}

static void set_state(struct array *array, uint8_t volume, uint32_t version, const void *bytes,
                      uint32_t length)
{
    struct volume_state *state = &array->volumes[volume].state;
    memcpy(state->bytes, bytes, length);
    state->version = version;
    state->length = length;
    TRACE(array, "state volume %u version %u", volume, version);
    state_changed(array, volume);
}

void state_forget_all(struct array *array)
{
    for (uint32_t i = 0; i < array->config.volume_count; i++) {
        struct volume_state *state = &array->volumes[i].state;
        if (state->version == 0)
            continue;
        state->version = state->length = 0;
        state_changed(array, (uint8_t)i);
    }
}

bool state_admit(struct array *array, struct request *request)
{
    const struct state_change *change = &array->state_change;
    uint8_t volume = request->host.volume;
    if (change->used && !change->committed && change->volume == volume) {
        request_queue_append(&array->requests, &array->state_wait, request);
        return false;
    }
    if (request->host.state_version != array->volumes[volume].state.version) {
        host_complete(array, request, HOST_STALE);
        return false;
    }
    return true;
}

static void commit(struct array *array, struct request *request)
{
    struct state_change *change = &array->state_change;
    struct volume *volume = &array->volumes[change->volume];
    change->committed = true;
    set_state(array, change->volume, change->version, change->bytes, change->length);
    request->side = volume->side;
    if (request->host.flags & HOST_BARRIER)
        volume->side ^= 1;
    host_clear_room_line(array);
    host_resume(array, &array->state_wait);
}

/* Complete, unless something that had begun before the change may still change the volume. */
static void finish(struct array *array, struct request *request)
{
    const struct volume *volume = &array->volumes[request->host.volume];
    bool barrier = (request->host.flags & HOST_BARRIER) != 0;
    if (barrier && volume->side_active[request->side] > 0)
        request_queue_append(&array->requests, &array->state_wait, request);
    else
        host_complete(array, request, HOST_OK);
}

static void start(struct array *array, struct request *request)
{
    struct state_change *change = &array->state_change;
    const struct volume_state *state = &array->volumes[request->host.volume].state;
    uint32_t version = state->version == UINT32_MAX ? 1 : state->version + 1;
    *change = (struct state_change){.used = true,
                                    .volume = request->host.volume,
                                    .request = request_index(&array->requests, request),
                                    .version = version,
                                    .length = (uint32_t)request->host.length_bytes,
                                    .bytes = change->bytes};
    memcpy(change->bytes, request->host.data, change->length);
    request->phase = REQUEST_MIRROR;
    if (!array->mirroring || MISTAKE(state_not_mirrored)) {
        commit(array, request);
        finish(array, request);
        return;
    }
    struct header header = {.type = HEADER_STATE,
                            .volume = change->volume,
                            .page = change->version,
                            .count = change->length};
    lists_add(&array->lists, &header);
    array->controls_sent++;
    TRACE(array, "fill state volume %u version %u", header.volume, change->version);
    ship_note_progress(array, request, request->host.length_bytes);
    request_queue_append(&array->requests, &lists_filling(&array->lists)->waiting, request);
}

void state_run(struct array *array, struct request *request)
{
    struct state_change *change = &array->state_change;
    if (request->phase == REQUEST_MIRROR) { /* the peer has it, or is gone and need not know */
        if (!change->committed)
            commit(array, request);
        finish(array, request);
    } else if (change->used) {
        request_queue_append(&array->requests, &array->state_wait, request);
    } else if (request->resumed && request->done_bytes == request->host.length_bytes) {
        host_complete(array, request, HOST_OK); /* shipped: the lost owner had done it */
    } else if (request->host.state_version != array->volumes[request->host.volume].state.version) {
        host_complete(array, request, HOST_STALE);
    } else if (array->mirroring && !lists_have_room(&array->lists, LISTS_STATE_WEIGHT + 1, false)) {
        host_wait_room(array, request);
    } else {
        start(array, request);
    }
}

void state_request_over(struct array *array, const struct request *request)
{
    struct state_change *change = &array->state_change;
    if (change->used && request->host.op == HOST_STATE &&
        change->request == request_index(&array->requests, request)) {
        change->used = false;
        host_resume(array, &array->state_wait);
    } else if (change->used && change->committed && change->volume == request->host.volume) {
        host_resume(array, &array->state_wait); /* perhaps the last that the barrier waits for */
    }
}

static const uint8_t *bytes_of(const struct array *array, const struct header *header)
{
    const struct state_change *change = &array->state_change;
    const struct volume_state *state = &array->volumes[header->volume].state;
    if (change->used && !change->committed && change->volume == header->volume &&
        change->version == header->page)
        return change->bytes;
    CHECK(state->version == header->page);
    return state->bytes;
}

void state_seal(struct array *array, struct header *header)
{
    const uint8_t *bytes = bytes_of(array, header);
    uint32_t length = (uint32_t)header->count;
    header->data_crc = crc32c(bytes, length);
    lists_add_data(&array->lists, (void *)(uintptr_t)bytes, length);
}

void state_send(struct array *array, uint8_t volume)
{
    const struct state_change *change = &array->state_change;
    if (change->used && !change->committed && change->volume == volume)
        return; /* a newer one stands in the stream already */
    const struct volume_state *state = &array->volumes[volume].state;
    struct header header = {
        .type = HEADER_STATE, .volume = volume, .page = state->version, .count = state->length};
    lists_add(&array->lists, &header);
    array->controls_sent++;
}

void state_apply(struct array *array, const struct header *header, const uint8_t *data)
{
    set_state(array, header->volume, (uint32_t)header->page, data, (uint32_t)header->count);
}

/* Tell whom it concerns: records, owners and service that changed since the last pump. */
void state_pump(struct array *array)
{
    if (array->service_stamp != array->service_stamp_said ||
        array->role.state != array->service_role_said) {
        array->service_stamp_said = array->service_stamp;
        array->service_role_said = array->role.state;
        for (uint32_t i = 0; i < array->config.volume_count; i++) {
            enum array_service service = array_service(array, (uint8_t)i);
            if (service != array->volumes[i].service_said)
                state_changed(array, (uint8_t)i);
            array->volumes[i].service_said = service;
        }
    }
    memcpy(array->actions.changed, array->changed_volumes, sizeof array->actions.changed);
    memset(array->changed_volumes, 0, sizeof array->changed_volumes);
}
