/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* One SCSI command from its arrival to its answer: what scsi/ asks for at each step is done here,
 * with a buffer of our own that the front fills or sends from and that the core reads or writes. A
 * task is freed only when scsi/, the core and the front have all let go of it, so an abort never
 * takes memory away under a transfer. */

#include "shell/iscsi_session.h"
#include "shell/log.h"
#include "shell/volume_map.h"

#include <string.h>

static void go(struct iscsi_task *task, enum scsi_step step);

/* ---- taking and freeing ---- */

static bool is_special(const struct iscsi_task *task)
{
    return task->scsi.attribute == SCSI_ORDERED || task->scsi.attribute == SCSI_HEAD_OF_QUEUE;
}

static struct iscsi_task *take(struct iscsi_session *session, struct iscsi_target_task *front)
{
    struct iscsi_server *server = session->server;
    uint32_t index = server->free_task;
    CHECK(index != NO_INDEX);
    struct iscsi_task *task = &server->tasks[index];
    CHECK(!task->used);
    server->free_task = task->next_free;
    server->task_used++;
    task->used = true;
    task->begun = task->over = task->in_core = task->listed = false;
    task->may_change = task->data_due = task->parked = false;
    task->session = session;
    task->front = front;
    task->buffer = task->early = NULL;
    task->awaited_by = NULL;
    task->since_us = server->loop->now_us;
    task->next = NULL;
    task->previous = session->last;
    if (session->last)
        session->last->next = task;
    else
        session->first = task;
    session->last = task;
    session->task_count++;
    front->owner = task;
    return task;
}

static uint64_t lent_bytes(const struct iscsi_task *task)
{
    return (task->buffer ? 1ull << task->buffer->shift : 0) +
           (task->early ? 1ull << task->early->shift : 0);
}

static void leave_session(struct iscsi_task *task)
{
    struct iscsi_session *session = task->session;
    CHECK(session->lent_bytes >= lent_bytes(task));
    if (task->previous)
        task->previous->next = task->next;
    else
        session->first = task->next;
    if (task->next)
        task->next->previous = task->previous;
    else
        session->last = task->previous;
    session->task_count--;
    session->lent_bytes -= lent_bytes(task);
    task->session = NULL;
    if (session->closing && !session->clearing)
        iscsi_server_dirty(session->server, session); /* it may have waited for this */
}

/* Whoever waited for the end of what the task may still change hears of it. */
static void tell_awaiting(struct iscsi_task *task)
{
    struct iscsi_manage *manage = task->awaited_by;
    if (!manage || task->may_change)
        return;
    task->awaited_by = NULL;
    iscsi_manage_task_ended(manage);
}

void iscsi_task_free_if_over(struct iscsi_server *server, struct iscsi_task *task)
{
    if (!task->over || task->in_core || task->front)
        return;
    CHECK(task->used);
    CHECK(!task->awaited_by);
    if (task->session)
        leave_session(task);
    if (task->buffer)
        buffer_give(&server->buffers, task->buffer);
    if (task->early)
        buffer_give(&server->buffers, task->early);
    task->buffer = task->early = NULL;
    task->used = false;
    task->next_free = server->free_task;
    server->free_task = task->index;
    server->task_used--;
}

/* From here on scsi/ knows nothing of it, and commands behind it need not wait for it. */
static void set_over(struct iscsi_task *task)
{
    CHECK(!task->over);
    task->over = true;
    task->data_due = false;
    task->parked = false;
    if (task->begun && is_special(task))
        task->session->ordered_count--;
    /* Somebody may have waited for an ORDERED one before it, or it for those before it. */
    task->session->recheck = true;
}

/* ---- answers ---- */

static void count(struct iscsi_task *task)
{
    struct iscsi_server *server = task->session->server;
    int volume = scsi_nexus_volume(task->session->nexus, task->scsi.lun);
    if (volume < 0)
        return;
    struct iscsi_volume_counts *counts = &server->counts.volumes[volume];
    counts->commands++;
    if (task->scsi.writes)
        counts->out_bytes += task->scsi.transfer_bytes;
    else
        counts->in_bytes += task->scsi.in_bytes;
    counts->conflicts += task->scsi.status == SCSI_RESERVATION_CONFLICT;
    counts->errors += task->scsi.status == SCSI_CHECK_CONDITION;
    counts->busy +=
        task->scsi.status == SCSI_STATUS_BUSY || task->scsi.status == SCSI_TASK_SET_FULL;
}

static void answer(struct iscsi_task *task)
{
    struct iscsi_session *session = task->session;
    const struct scsi_task *scsi = &task->scsi;
    CHECK(session);
    CHECK(task->front);
    CHECK_IMPLIES(scsi->in_bytes > 0, scsi->buffer);
    CHECK(scsi->in_bytes <= scsi->expected_in_bytes);
    count(task);
    struct iscsi_target_answer answer = {
        .status = scsi->status,
        .sense = scsi->sense,
        .sense_bytes = scsi->sense_bytes,
        .out_bytes = scsi->writes ? (uint32_t)min_u64(scsi->transfer_bytes, UINT32_MAX) : 0,
    };
    if (scsi->in_bytes > 0)
        answer.data = scsi->buffer + scsi->in_offset;
    /* What there was beyond the host's expectation shows in the residual count only. */
    if (!scsi->writes)
        answer.data_bytes =
            scsi->in_bytes == scsi->expected_in_bytes
                ? (uint32_t)min_u64(max_u64(scsi->transfer_bytes, scsi->in_bytes), UINT32_MAX)
                : scsi->in_bytes;
    set_over(task);
    iscsi_target_respond(&session->target, task->front, &answer);
    iscsi_server_dirty(session->server, session);
}

bool iscsi_task_has_share(const struct iscsi_session *session,
                          const struct iscsi_target_task *front)
{
    if (session->lent_bytes == 0 || front->expected_bytes == 0)
        return true;
    uint64_t size = buffer_bytes_for(min_u32(front->expected_bytes, ISCSI_TRANSFER_BYTES));
    uint64_t left = buffers_free_bytes(&session->server->buffers);
    uint64_t kept = size + ISCSI_FIRST_BYTES;
    return kept <= left && session->lent_bytes + size <= ISCSI_SHARE * (left - kept);
}

void iscsi_task_refuse(struct iscsi_session *session, struct iscsi_target_task *front,
                       enum scsi_status status)
{
    int volume = scsi_nexus_volume(session->nexus, front->lun);
    if (volume >= 0)
        session->server->counts.volumes[volume].busy++;
    iscsi_target_respond(&session->target, front, &(struct iscsi_target_answer){.status = status});
    iscsi_server_dirty(session->server, session);
}

/* ---- steps ---- */

/* Whether commands that came before it must end first (SAM-5 8.6): an ORDERED one waits for all of
 * them, any but HEAD OF QUEUE for those that are ORDERED or HEAD OF QUEUE. */
static bool must_wait(const struct iscsi_task *task)
{
    if (task->session->ordered_count == 0 || task->scsi.attribute == SCSI_HEAD_OF_QUEUE)
        return false;
    bool ordered = task->scsi.attribute == SCSI_ORDERED;
    for (const struct iscsi_task *t = task->previous; t; t = t->previous)
        if (t->begun && !t->over && (ordered || is_special(t)) &&
            memcmp(t->scsi.lun, task->scsi.lun, sizeof t->scsi.lun) == 0)
            return true;
    return false;
}

static struct buffer *buffer_of(struct iscsi_session *session, uint32_t size)
{
    CHECK(size > 0);
    CHECK(size <= HOST_IO_BYTES);
    struct buffer *buffer = buffer_take(&session->server->buffers, size);
    if (!buffer)
        log_say(LOG_ERROR, "out of memory for a command of %u bytes", size);
    CHECK(buffer); /* the budget was taken into account: the machine itself has no memory */
    session->lent_bytes += 1ull << buffer->shift;
    return buffer;
}

/* The command wants a buffer. True: go on at once. */
static bool give_buffer(struct iscsi_task *task)
{
    struct iscsi_session *session = task->session;
    task->buffer = buffer_of(session, task->scsi.buffer_bytes);
    task->scsi.buffer = task->buffer->data;
    if (task->scsi.out_bytes == 0)
        return true;
    if (task->early)
        task->data_due = task->front->received_bytes < task->scsi.out_bytes;
    else
        task->data_due = !iscsi_target_receive(&session->target, task->front, task->scsi.buffer,
                                               task->scsi.out_bytes);
    return !task->data_due;
}

/* All data of the host are here: let scsi/ look at them. */
static enum scsi_step run(struct iscsi_task *task)
{
    if (task->early && task->scsi.out_bytes > 0)
        memcpy(task->buffer->data, task->early->data, task->scsi.out_bytes);
    return scsi_task_run(&task->scsi);
}

/* Into the core. True: it is complete already. */
static bool submit(struct iscsi_task *task)
{
    struct iscsi_server *server = task->session->server;
    struct host_request *request = &task->scsi.request;
    request->handle = handle_make(HANDLE_ISCSI, task->index);
    task->in_core = true;
    struct host_outcome outcome = array_host(server->array, server->loop->now_us, request);
    task->may_change = request->op != HOST_READ && request->op != HOST_FLUSH &&
                       !(request->op == HOST_WRITE && !outcome.data_held);
    if (!outcome.complete)
        return false;
    task->in_core = task->may_change = false;
    task->result = outcome.result;
    task->detail = outcome.detail;
    return true;
}

static enum scsi_step map(struct iscsi_task *task)
{
    const struct iscsi_server *server = task->session->server;
    const struct scsi_map *map = &task->scsi.map;
    struct scsi_extent extents[ISCSI_MAP_EXTENTS];
    uint32_t count = 0, most = min_u32(map->extent_limit, ISCSI_MAP_EXTENTS);
    uint64_t at = map->offset_bytes, end = at + map->length_bytes;
    /* A host asks on where the answer stops short. */
    for (uint32_t looks = 0; at < end && looks < 16 * ISCSI_MAP_EXTENTS; looks++) {
        bool hole;
        uint64_t to =
            volume_map_next(server->array, server->stores, &server->config->volumes[map->volume],
                            map->volume, at, end, &hole);
        CHECK(to > at);
        CHECK(to <= end);
        if (count > 0 && extents[count - 1].hole == hole)
            extents[count - 1].length_bytes += to - at;
        else if (count == most)
            break;
        else
            extents[count++] = (struct scsi_extent){.length_bytes = to - at, .hole = hole};
        at = to;
    }
    return scsi_task_map_done(&task->scsi, extents, count);
}

static void list_done(struct iscsi_server *server, struct iscsi_task *task)
{
    CHECK(!task->listed);
    task->listed = true;
    task->next_done = NULL;
    if (server->done_last)
        server->done_last->next_done = task;
    else
        server->done_first = task;
    server->done_last = task;
}

/* Do what scsi/ asks for, until something has to be waited for. */
static void go(struct iscsi_task *task, enum scsi_step step)
{
    for (uint32_t steps = 0; step != SCSI_DONE; steps++) {
        if (step == SCSI_BUFFER) {
            if (!give_buffer(task))
                return;
            step = run(task);
            continue;
        }
        if (must_wait(task)) {
            task->parked = true;
            task->step = step;
            return;
        }
        if (step == SCSI_MAP) {
            step = map(task);
            continue;
        }
        CHECK(step == SCSI_IO);
        if (!submit(task))
            return;
        if (steps == ISCSI_INLINE_STEPS ||
            (task->scsi.request.op == HOST_STATE && task->result == HOST_OK)) {
            /* It goes on behind the others, as if the core had taken its time; a change of the
             * record because scsi/ hears of that first. */
            task->in_core = true;
            list_done(task->session->server, task);
            return;
        }
        step = scsi_task_io_done(&task->scsi, task->result, task->detail);
    }
    answer(task);
}

static void begin(struct iscsi_task *task)
{
    struct iscsi_session *session = task->session;
    const struct iscsi_target_task *front = task->front;
    struct scsi_task *scsi = &task->scsi;
    scsi->nexus = session->nexus;
    memcpy(scsi->lun, front->lun, sizeof scsi->lun);
    memcpy(scsi->cdb, front->cdb, sizeof scsi->cdb);
    scsi->cdb_bytes = sizeof scsi->cdb;
    scsi->attribute = (enum scsi_attribute)front->attribute;
    scsi->expected_out_bytes = front->write ? front->expected_bytes : 0;
    scsi->expected_in_bytes = front->read && !front->write ? front->expected_bytes : 0;
    scsi->buffer = NULL;
    task->begun = true;
    if (is_special(task))
        session->ordered_count++;
    go(task, scsi_task_begin(session->server->scsi, scsi));
}

void iscsi_task_command(struct iscsi_session *session, struct iscsi_target_task *front)
{
    /* With an owner: its data came ahead of its turn. */
    struct iscsi_task *task = front->owner ? front->owner : take(session, front);
    CHECK(task->front == front);
    CHECK(!task->begun);
    begin(task);
}

void iscsi_task_early(struct iscsi_session *session, struct iscsi_target_task *front)
{
    if (!iscsi_server_has_room(session->server) || !iscsi_task_has_share(session, front) ||
        front->expected_bytes == 0 || front->expected_bytes > ISCSI_TRANSFER_BYTES)
        return; /* it is answered BUSY in its turn */
    struct iscsi_task *task = take(session, front);
    task->early = buffer_of(session, front->expected_bytes);
    iscsi_target_receive(&session->target, front, task->early->data, front->expected_bytes);
}

bool iscsi_task_data_due(const struct iscsi_session *session)
{
    for (const struct iscsi_task *task = session->first; task; task = task->next)
        if (task->data_due)
            return true;
    return false;
}

void iscsi_task_data(struct iscsi_session *session, struct iscsi_target_task *front)
{
    struct iscsi_task *task = front->owner;
    CHECK(task);
    if (task->over || !task->data_due)
        return; /* early ones: the command has not begun, or did not want them */
    task->data_due = false;
    go(task, run(task));
}

void iscsi_task_released(struct iscsi_session *session, struct iscsi_target_task *front)
{
    struct iscsi_task *task = front->owner;
    if (!task)
        return; /* it never became one */
    CHECK(task->front == front);
    task->front = NULL;
    if (!task->over) {
        /* Only what has not begun can go without an answer. */
        CHECK(!task->begun);
        set_over(task);
    }
    iscsi_task_free_if_over(session->server, task);
}

void iscsi_task_go_on(struct iscsi_server *server, struct iscsi_task *task)
{
    CHECK(task->in_core);
    task->in_core = task->may_change = false;
    tell_awaiting(task);
    if (task->over)
        iscsi_task_free_if_over(server, task);
    else
        go(task, scsi_task_io_done(&task->scsi, task->result, task->detail));
}

bool iscsi_task_unpark(struct iscsi_session *session)
{
    bool any = false;
    session->recheck = false;
    for (struct iscsi_task *task = session->first; task; task = task->next)
        if (task->parked && !must_wait(task)) {
            task->parked = false;
            any = true;
            go(task, task->step);
        }
    return any;
}

/* ---- ends without an answer ---- */

void iscsi_task_abort(struct iscsi_task *task, struct iscsi_manage *awaited_by)
{
    struct iscsi_server *server = task->session->server;
    if (task->begun && !task->over)
        scsi_task_abort(&task->scsi);
    if (!task->over)
        set_over(task);
    if (task->front) {
        struct iscsi_target_task *front = task->front;
        if (iscsi_target_abort(&task->session->target, front)) {
            front->owner = NULL;
            task->front = NULL;
        }
    }
    if (awaited_by && task->may_change && !task->awaited_by) {
        task->awaited_by = awaited_by;
        awaited_by->awaited++;
    }
    if (task->in_core) { /* it may be waiting for long, and need not */
        array_host_abandon(server->array, server->loop->now_us, task->scsi.request.handle);
        server->abandoned = true;
    }
    iscsi_server_dirty(server, task->session);
    iscsi_task_free_if_over(server, task);
}

static void end_with(struct iscsi_task *task, const struct iscsi_target_answer *answer)
{
    struct iscsi_session *session = task->session;
    CHECK(!task->over);
    CHECK(task->front);
    if (task->begun)
        scsi_task_abort(&task->scsi);
    set_over(task);
    iscsi_target_respond(&session->target, task->front, answer);
    iscsi_server_dirty(session->server, session);
}

void iscsi_task_end_aborted(struct iscsi_task *task)
{
    if (task->in_core) { /* it may be waiting for long, and need not */
        array_host_abandon(task->session->server->array, task->session->server->loop->now_us,
                           task->scsi.request.handle);
        task->session->server->abandoned = true;
    }
    end_with(task, &(struct iscsi_target_answer){.status = SCSI_TASK_ABORTED});
}

void iscsi_task_damaged(struct iscsi_target_task *front)
{
    /* Fixed format (SPC-4 4.5.3): ABORTED COMMAND, PROTOCOL SERVICE CRC ERROR (RFC 7143 11.4.7.2).
     */
    static const uint8_t sense[18] = {0x70, 0, 0x0B, [7] = 10, [12] = 0x47, [13] = 0x05};
    struct iscsi_task *task = front->owner;
    CHECK(task);
    if (!task->over)
        end_with(task, &(struct iscsi_target_answer){.status = SCSI_CHECK_CONDITION,
                                                     .sense = sense,
                                                     .sense_bytes = sizeof sense});
}

/* What may still change the volume keeps the session, so that a host which logs in again does not
 * get ahead of it; the rest is left to end by itself. */
void iscsi_task_leave_all(struct iscsi_session *session)
{
    struct iscsi_task *next;
    for (struct iscsi_task *task = session->first; task; task = next) {
        next = task->next;
        if (task->begun && !task->over)
            scsi_task_abort(&task->scsi);
        if (!task->over)
            set_over(task);
        task->front = NULL;
        if (task->in_core) {
            array_host_abandon(session->server->array, session->server->loop->now_us,
                               task->scsi.request.handle);
            session->server->abandoned = true;
        }
        if (task->in_core && !task->may_change)
            leave_session(task);
        else
            iscsi_task_free_if_over(session->server, task);
    }
}

/* ---- completions ---- */

void iscsi_server_complete(struct iscsi_server *server, const struct completion *completion)
{
    uint32_t index = handle_index(completion->handle);
    if (handle_kind(completion->handle) == HANDLE_ISCSI_MANAGE) {
        CHECK(index < ISCSI_MANAGE_LIMIT);
        struct iscsi_manage *manage = server->manages[index];
        CHECK(manage);
        CHECK(manage->in_core);
        manage->result = completion->result;
        manage->next_done = server->manage_done;
        server->manage_done = manage;
        return;
    }
    CHECK(index < server->task_limit);
    struct iscsi_task *task = &server->tasks[index];
    CHECK(task->used);
    CHECK(task->in_core);
    task->result = completion->result;
    task->detail = completion->detail;
    list_done(server, task);
}
