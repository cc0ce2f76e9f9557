/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Task management, the end of a nexus, and what a change that either controller made to a volume's
 * record means for the commands here. A function is answered as complete only when nothing that it
 * ended can change the volume any more; what takes too long for that is answered as rejected, so
 * that every function is answered within a bounded time, also when a store hangs. */

#include "shell/iscsi_session.h"
#include "shell/log.h"

#include <stdlib.h>
#include <string.h>

static void go(struct iscsi_manage *manage, enum scsi_step step);

/* ---- taking and freeing ---- */

static struct iscsi_manage *take(struct iscsi_server *server, struct iscsi_session *session)
{
    uint32_t index = 0;
    while (index < ISCSI_MANAGE_LIMIT && server->manages[index])
        index++;
    struct iscsi_manage *manage = index < ISCSI_MANAGE_LIMIT ? malloc(sizeof *manage) : NULL;
    if (!manage)
        return NULL;
    memset(manage, 0, offsetof(struct iscsi_manage, buffer));
    manage->server = server;
    manage->session = session;
    manage->index = index;
    manage->since_us = server->loop->now_us;
    manage->scsi.buffer = manage->buffer;
    server->manages[index] = manage;
    server->manage_used++;
    return manage;
}

/* TARGET COLD RESET ends the sessions of all initiators, here (RFC 7143 11.5.1). */
static void end_all_sessions(struct iscsi_server *server)
{
    for (struct iscsi_session *session = server->sessions; session; session = session->next)
        if (session->nexus)
            iscsi_session_end(session);
}

static void reply(struct iscsi_manage *manage, enum iscsi_target_function_response response)
{
    struct iscsi_session *session = manage->session;
    if (!manage->request)
        return;
    manage->server->counts.managed++;
    iscsi_target_manage_done(&session->target, manage->request, response);
    manage->request = NULL;
    if (manage->cold)
        end_all_sessions(manage->server);
    iscsi_server_dirty(manage->server, session);
}

static enum iscsi_target_function_response response_of(enum scsi_manage_result result)
{
    switch (result) {
    case SCSI_FUNCTION_COMPLETE:
        return ISCSI_FUNCTION_COMPLETE;
    case SCSI_FUNCTION_NO_LUN:
        return ISCSI_FUNCTION_NO_LUN;
    case SCSI_FUNCTION_REJECTED:
        return ISCSI_FUNCTION_NOT_SUPPORTED;
    case SCSI_FUNCTION_FAILED:
        break;
    }
    return ISCSI_FUNCTION_REJECTED;
}

static void finish_if_over(struct iscsi_manage *manage)
{
    struct iscsi_server *server = manage->server;
    struct iscsi_session *session = manage->session;
    if (!manage->over || manage->awaited > 0)
        return;
    reply(manage, response_of(manage->scsi.result));
    if (session && session->loss == manage) {
        session->loss = NULL;
        session->loss_done = true;
    }
    if (session && (session->closing || session->ending) && !session->clearing)
        iscsi_server_dirty(server, session); /* it may have waited for this */
    if (server->upkeep == manage)
        server->upkeep = NULL;
    server->manages[manage->index] = NULL;
    server->manage_used--;
    free(manage);
}

/* ---- steps ---- */

static void list_done(struct iscsi_manage *manage, enum host_result result)
{
    manage->result = result;
    manage->next_done = manage->server->manage_done;
    manage->server->manage_done = manage;
}

static void go(struct iscsi_manage *manage, enum scsi_step step)
{
    struct iscsi_server *server = manage->server;
    while (step == SCSI_IO) {
        manage->scsi.request.handle = handle_make(HANDLE_ISCSI_MANAGE, manage->index);
        struct host_outcome outcome =
            array_host(server->array, server->loop->now_us, &manage->scsi.request);
        if (!outcome.complete || outcome.result == HOST_OK) {
            /* What has changed is told at the next pump, and scsi/ hears of it first. */
            manage->in_core = true;
            if (outcome.complete)
                list_done(manage, HOST_OK);
            return;
        }
        step = scsi_manage_io_done(&manage->scsi, outcome.result);
    }
    CHECK(step == SCSI_DONE);
    manage->over = true;
    finish_if_over(manage);
}

void iscsi_manage_go_on(struct iscsi_manage *manage)
{
    CHECK(manage->in_core);
    manage->in_core = false;
    go(manage, scsi_manage_io_done(&manage->scsi, manage->result));
}

void iscsi_manage_task_ended(struct iscsi_manage *manage)
{
    CHECK(manage->awaited > 0);
    manage->awaited--;
    finish_if_over(manage);
}

/* ---- a host's request ---- */

static enum scsi_function function_of(enum iscsi_target_function function)
{
    switch (function) {
    case ISCSI_ABORT_TASK:
        return SCSI_ABORT_TASK;
    case ISCSI_ABORT_TASK_SET:
        return SCSI_ABORT_TASK_SET;
    case ISCSI_CLEAR_ACA:
        return SCSI_CLEAR_ACA;
    case ISCSI_CLEAR_TASK_SET:
        return SCSI_CLEAR_TASK_SET;
    case ISCSI_LOGICAL_UNIT_RESET:
        return SCSI_LOGICAL_UNIT_RESET;
    case ISCSI_TARGET_WARM_RESET:
    case ISCSI_TARGET_COLD_RESET:
        break;
    }
    return SCSI_TARGET_RESET;
}

/* The session's own tasks that the function ends here and now. Those that a reset ends, also of
 * other nexuses and at the other controller, end when the record has changed: see
 * end_tasks_of(). */
static void end_own_tasks(struct iscsi_session *session, struct iscsi_manage *manage)
{
    const struct iscsi_target_manage *asked = &session->target.manage;
    if (asked->function == ISCSI_ABORT_TASK) {
        struct iscsi_target_task *front = asked->aborted;
        if (front && front->owner)
            iscsi_task_abort(front->owner, manage);
        else if (front)
            iscsi_target_abort(&session->target, front);
        if (front && front == session->stalled)
            session->stalled = NULL;
        return;
    }
    if (asked->function != ISCSI_ABORT_TASK_SET && asked->function != ISCSI_CLEAR_TASK_SET)
        return;
    struct iscsi_task *next;
    for (struct iscsi_task *task = session->first; task; task = next) {
        next = task->next;
        if (task->begun && !task->over &&
            memcmp(task->scsi.lun, asked->lun, sizeof asked->lun) == 0)
            iscsi_task_abort(task, manage);
    }
    if (session->stalled && memcmp(session->stalled->lun, asked->lun, sizeof asked->lun) == 0) {
        iscsi_target_abort(&session->target, session->stalled);
        session->stalled = NULL;
    }
}

void iscsi_manage_request(struct iscsi_session *session)
{
    struct iscsi_server *server = session->server;
    const struct iscsi_target_manage *asked = &session->target.manage;
    struct iscsi_manage *manage = session->nexus ? take(server, session) : NULL;
    if (!manage) {
        iscsi_target_manage_done(&session->target, asked->request, ISCSI_FUNCTION_REJECTED);
        iscsi_server_dirty(server, session);
        return;
    }
    manage->request = asked->request;
    manage->cold = asked->function == ISCSI_TARGET_COLD_RESET;
    manage->scsi.function = function_of(asked->function);
    manage->scsi.nexus = session->nexus;
    memcpy(manage->scsi.lun, asked->lun, sizeof manage->scsi.lun);
    end_own_tasks(session, manage);
    if (manage->scsi.function == SCSI_ABORT_TASK) {
        manage->scsi.result = SCSI_FUNCTION_COMPLETE;
        go(manage, SCSI_DONE);
    } else {
        go(manage, scsi_manage_begin(server->scsi, &manage->scsi));
    }
}

/* ---- the end of a nexus, and upkeep ---- */

bool iscsi_manage_loss(struct iscsi_session *session)
{
    struct iscsi_manage *manage = take(session->server, session);
    if (!manage)
        return false;
    session->loss = manage;
    manage->scsi.function = SCSI_NEXUS_LOSS;
    manage->scsi.nexus = session->nexus;
    go(manage, scsi_manage_begin(session->server->scsi, &manage->scsi));
    return true;
}

static bool upkeep(struct iscsi_server *server)
{
    if (server->upkeep || !scsi_upkeep(server->scsi))
        return false;
    server->upkeep = take(server, NULL);
    if (!server->upkeep)
        return false;
    server->upkeep->scsi.function = SCSI_UPKEEP;
    go(server->upkeep, scsi_manage_begin(server->scsi, &server->upkeep->scsi));
    return true;
}

void iscsi_manage_leave_all(struct iscsi_session *session)
{
    struct iscsi_server *server = session->server;
    for (uint32_t i = 0; i < ISCSI_MANAGE_LIMIT; i++) {
        struct iscsi_manage *manage = server->manages[i];
        if (manage && manage->session == session)
            manage->request = NULL; /* the nexus stays until the function is through */
    }
}

bool iscsi_manage_of(const struct iscsi_session *session)
{
    const struct iscsi_server *server = session->server;
    for (uint32_t i = 0; server->manage_used > 0 && i < ISCSI_MANAGE_LIMIT; i++)
        if (server->manages[i] && server->manages[i]->session == session)
            return true;
    return false;
}

void iscsi_manage_sweep(struct iscsi_server *server)
{
    uint64_t now_us = server->loop->now_us;
    for (uint32_t i = 0; i < ISCSI_MANAGE_LIMIT; i++) {
        struct iscsi_manage *manage = server->manages[i];
        if (!manage || !manage->request || now_us - manage->since_us < ISCSI_MANAGE_MS * 1000ull)
            continue;
        log_say(LOG_WARNING, "iSCSI: a task management function of %s is not done after %d s",
                manage->session->target.initiator_name, ISCSI_MANAGE_MS / 1000);
        manage->cold = false;
        reply(manage, ISCSI_FUNCTION_REJECTED);
    }
    upkeep(server);
}

/* ---- changes ---- */

/* Tasks of the volume that a reset, a clear or a preempt ends (SAM-5 5.6). */
static void end_tasks_of(struct iscsi_server *server, uint8_t volume)
{
    for (uint32_t i = 0; i < server->task_limit; i++) {
        struct iscsi_task *task = &server->tasks[i];
        if (!task->used || !task->begun || task->over || !task->session ||
            scsi_nexus_volume(task->session->nexus, task->scsi.lun) != volume)
            continue;
        switch (scsi_task_fate(&task->scsi)) {
        case SCSI_GO_ON:
            break;
        case SCSI_END_SILENT:
            iscsi_task_abort(task, NULL);
            break;
        case SCSI_END_ABORTED:
            iscsi_task_end_aborted(task);
            break;
        }
    }
}

static void pass_on(struct iscsi_server *server, uint8_t volume)
{
    uint32_t version, length;
    const char *reason = NULL;
    const void *bytes = array_state(server->array, volume, &version, &length);
    bool ends = scsi_on_state(server->scsi, volume, version, bytes, length, &reason);
    if (reason)
        log_say(LOG_ERROR, "volume %s: its state record %u cannot be read: %s",
                server->config->volumes[volume].name, version, reason);
    else
        state_files_save(&server->files, volume, version, bytes,
                         scsi_keeps_state(server->scsi, volume) ? length : 0);
    int owner = array_owner(server->array, volume);
    if (owner >= 0)
        owner = owner == 1 ? server->controller : 1 - server->controller;
    scsi_on_service(server->scsi, volume, owner,
                    (enum scsi_service)array_service(server->array, volume));
    scsi_on_copy(server->scsi, volume, array_hosts(server->array, volume) == ARRAY_HOSTS_READ_ONLY);
    if (ends) {
        end_tasks_of(server, volume);
        upkeep(server);
    }
}

bool iscsi_manage_changes(struct iscsi_server *server)
{
    if (!server->any_changed)
        return false;
    server->any_changed = false;
    for (uint32_t i = 0; i < server->config->volume_count; i++)
        if (server->changed[i / 64] >> i % 64 & 1)
            pass_on(server, (uint8_t)i);
    memset(server->changed, 0, sizeof server->changed);
    return true;
}
