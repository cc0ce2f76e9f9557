/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See copy_server.h. Of each controller of a sending array and group the newest session counts: who
 * logs in again has lost the old one. A batch that the owner has keeps its memory when its session
 * goes; its answer then goes nowhere, and the sender sends it again. */

#include "shell/copy_server.h"

#include "base/bytes.h"
#include "shell/crypto.h"
#include "shell/log.h"
#include "shell/socket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* ---- tasks ---- */

static bool has_room(const struct copy_server *server)
{
    return server->free_task != NO_INDEX && buffers_have_room(&server->buffers);
}

static struct copy_task *take(struct copy_session *session, struct iscsi_target_task *front)
{
    struct copy_server *server = session->server;
    if (server->free_task == NO_INDEX)
        return NULL;
    struct copy_task *task = &server->tasks[server->free_task];
    CHECK(!task->used);
    server->free_task = task->next_free;
    *task = (struct copy_task){
        .session = session, .server = server, .front = front, .index = task->index, .used = true};
    front->owner = task;
    return task;
}

static void free_if_over(struct copy_server *server, struct copy_task *task)
{
    if (task->with_owner || task->with_worker || task->front)
        return;
    if (task->buffer)
        buffer_give(&server->buffers, task->buffer);
    if (task->packed)
        buffer_give(&server->buffers, task->packed);
    *task = (struct copy_task){.index = task->index, .next_free = server->free_task};
    server->free_task = task->index;
}

static void respond(struct copy_task *task, bool good)
{
    struct iscsi_target_answer answer = {.status = COPY_STATUS_GOOD,
                                         .out_bytes = task->length_bytes};
    if (!good) {
        answer.status = COPY_STATUS_CHECK_CONDITION;
        task->sense[0] = 0x70; /* fixed format, current (SPC-4 4.5.3) */
        task->sense[2] = 0x0B; /* ABORTED COMMAND */
        task->sense[7] = COPY_SENSE_BYTES - 8;
        answer.sense = task->sense;
        answer.sense_bytes = COPY_SENSE_BYTES;
    }
    iscsi_target_respond(&task->session->target, task->front, &answer);
}

void copy_server_answer(struct copy_server *server, uint32_t handle, bool good)
{
    CHECK(handle < COPY_TASK_LIMIT);
    struct copy_task *task = &server->tasks[handle];
    CHECK(task->with_owner);
    task->with_owner = false;
    server->counts.waiting--;
    if (task->session)
        respond(task, good);
    else
        free_if_over(server, task);
}

static void leave_tasks(struct copy_session *session)
{
    struct copy_server *server = session->server;
    for (uint32_t i = 0; i < COPY_TASK_LIMIT; i++) {
        struct copy_task *task = &server->tasks[i];
        if (!task->used || task->session != session)
            continue;
        task->session = NULL;
        task->front = NULL;
        free_if_over(server, task);
    }
}

static void take_released(struct copy_session *session)
{
    struct iscsi_target_task *front;
    while ((front = iscsi_target_released(&session->target))) {
        struct copy_task *task = front->owner;
        if (!task)
            continue;
        task->front = NULL;
        free_if_over(session->server, task);
    }
}

/* ---- a session ---- */

static struct copy_session *of_stream(struct stream *stream)
{
    return (struct copy_session *)((char *)stream - offsetof(struct copy_session, stream));
}

static void end_session(struct copy_session *session, const char *why)
{
    stream_close(&session->stream, why);
}

/* The set of group `i` has its coordinator at another array, and a member here. */
static bool is_coordinated(const struct config *config, uint32_t i)
{
    const struct config_group *group = &config->groups[i];
    return !group->receives && group->set_count > 0 && config_set_place_of(config, group) > 0;
}

/* The group and the controller that the initiator's name says: its sender's, or that of the
 * coordinator of its set. */
static bool find_initiator(struct copy_session *session, const char *initiator)
{
    struct copy_server *server = session->server;
    const struct config *config = server->config;
    for (uint32_t i = 0; i < config->group_count; i++) {
        const struct config_group *group = &config->groups[i];
        if (session->cuts && !is_coordinated(config, i))
            continue;
        for (int half = 0; half < CONTROLLER_COUNT; half++) {
            bool made =
                session->cuts
                    ? copy_names_make_cut(&session->names, &server->crypto,
                                          group->set_arrays[0].name, group, config->name, half)
                    : copy_names_make(&session->names, &server->crypto, config, group, true, half);
            CHECK(made);
            if (strcasecmp(session->names.initiator, initiator) != 0)
                continue;
            session->group = i;
            session->half = half;
            return true;
        }
    }
    return false;
}

/* The array that the session has to come from. */
static const char *sender_of(const struct copy_session *session)
{
    const struct config_group *group = &session->server->config->groups[session->group];
    return session->cuts ? group->set_arrays[0].name : group->array;
}

static void identify(struct copy_session *session)
{
    static uint16_t tsih;
    const struct iscsi_target_identify *who = &session->target.identify;
    const struct config *config = session->server->config;
    char target[COPY_NAME_BYTES], cut_target[COPY_NAME_BYTES];
    snprintf(target, sizeof target, CONFIG_TARGET_PREFIX "%s.copy", config->name);
    snprintf(cut_target, sizeof cut_target, CONFIG_TARGET_PREFIX "%s.cut", config->name);
    session->cuts = strcasecmp(who->target_name, cut_target) == 0;
    if (who->discovery || (!session->cuts && strcasecmp(who->target_name, target) != 0)) {
        iscsi_target_refuse(&session->target, ISCSI_LOGIN_NOT_FOUND, "there is no such target");
        return;
    }
    if (!find_initiator(session, who->initiator_name)) {
        iscsi_target_refuse(&session->target, ISCSI_LOGIN_AUTHORIZATION_FAILURE,
                            session->cuts ? "it coordinates no set of which a group is here"
                                          : "no group here is received from it");
        return;
    }
    if (session->stream.with_tls && !tls_peer_is(&session->stream.tls, sender_of(session))) {
        iscsi_target_refuse(&session->target, ISCSI_LOGIN_AUTHORIZATION_FAILURE,
                            "its certificate has another name than its array");
        return;
    }
    struct iscsi_target_admission admission = {
        .target_name = session->names.target,
        .tsih = ++tsih ? tsih : ++tsih,
        .portal_group_tag = 1,
        .wish = iscsi_target_wish(),
        .initiator = {session->names.initiator, session->names.initiator_secret},
        .self = {session->names.target, session->names.target_secret},
    };
    /* A batch in one burst, without R2T: over a long way each would cost a round trip. */
    admission.wish.first_burst_bytes = (1 << 24) - 1;
    admission.wish.max_burst_bytes = (1 << 24) - 1;
    iscsi_target_admit(&session->target, &admission);
}

static void on_logged_in(struct copy_session *session)
{
    struct copy_server *server = session->server;
    if (!session->target.authenticated) {
        end_session(session, "it has not proved who it is");
        return;
    }
    for (uint32_t i = 0; i < COPY_SESSION_LIMIT; i++) {
        struct copy_session *other = server->sessions[i];
        if (other && other != session && other->used && other->logged_in &&
            other->group == session->group && other->half == session->half &&
            other->cuts == session->cuts)
            end_session(other, "the same controller has logged in again");
    }
    session->logged_in = true;
    server->counts.logins++;
}

/* The first answer that lets it stay. One that looks for the controller that holds the group logs
 * in again and again, and is not worth a line. */
static void say_held(struct copy_session *session)
{
    const struct copy_server *server = session->server;
    if (session->held)
        return;
    session->held = true;
    if (session->cuts) {
        log_say(LOG_INFO, "copy: set %s: controller %s of array %s coordinates, from %s%s",
                server->config->groups[session->group].set, controller_name(session->half),
                sender_of(session), session->who, session->stream.with_tls ? ", encrypted" : "");
        return;
    }
    log_say(LOG_INFO, "copy: group %s: controller %s of array %s has logged in from %s%s",
            server->config->groups[session->group].name, controller_name(session->half),
            server->config->groups[session->group].array, session->who,
            session->stream.with_tls ? ", encrypted" : "");
}

static void answer_layout(struct copy_session *session, struct copy_task *task)
{
    struct copy_server *server = session->server;
    task->buffer = buffer_take(&server->buffers, COPY_LAYOUT_BYTES);
    CHECK(task->buffer);
    uint32_t length = copy_layout_put(task->buffer->data, server->config,
                                      &server->config->groups[session->group]);
    struct iscsi_target_answer answer = {.status = COPY_STATUS_GOOD,
                                         .data = task->buffer->data,
                                         .data_bytes = min_u32(length, task->length_bytes)};
    iscsi_target_respond(&session->target, task->front, &answer);
}

static void answer_state(struct copy_session *session, struct copy_task *task)
{
    struct copy_server *server = session->server;
    struct copy_state state = {0};
    server->user->state(server->context, session->group, &state);
    memcpy(state.group, server->ids[session->group], COPY_ID_SIZE);
    state.flags |= server->zstd ? COPY_STATE_ZSTD : 0;
    if (state.flags & COPY_STATE_HERE)
        say_held(session);
    task->buffer = buffer_take(&server->buffers, COPY_STATE_SIZE);
    CHECK(task->buffer);
    record_put_state(task->buffer->data, &state);
    struct iscsi_target_answer answer = {.status = COPY_STATUS_GOOD,
                                         .data = task->buffer->data,
                                         .data_bytes =
                                             min_u32(COPY_STATE_SIZE, task->length_bytes)};
    iscsi_target_respond(&session->target, task->front, &answer);
}

static void answer_cut_state(struct copy_session *session, struct copy_task *task)
{
    struct copy_server *server = session->server;
    struct cut_state state = {0};
    server->user->cut_state(server->context, session->group, &state);
    if (state.flags & CUT_STATE_LEADER)
        say_held(session);
    task->buffer = buffer_take(&server->buffers, CUT_STATE_SIZE);
    CHECK(task->buffer);
    cut_put_state(task->buffer->data, &state);
    struct iscsi_target_answer answer = {.status = COPY_STATUS_GOOD,
                                         .data = task->buffer->data,
                                         .data_bytes = min_u32(CUT_STATE_SIZE, task->length_bytes)};
    iscsi_target_respond(&session->target, task->front, &answer);
}

static void hand_out(struct copy_session *session, struct copy_task *task)
{
    struct copy_server *server = session->server;
    task->with_owner = true;
    server->counts.waiting++;
    if (session->cuts) {
        server->user->cut(server->context, session->group, task->index, task->buffer->data,
                          task->batch_bytes);
        return;
    }
    server->counts.batches++;
    server->counts.received_bytes += task->length_bytes;
    server->user->batch(server->context, session->group, session->half, task->index,
                        task->buffer->data, task->batch_bytes);
}

/* ---- packed batches: measured, decompressed, handed out ---- */

static void refuse_packed(struct copy_task *task, const char *why)
{
    task->server->counts.packed_refused++;
    log_say(LOG_WARNING, "copy: from %s: %s", task->session->who, why);
    respond(task, false);
}

static struct copy_task *of_work(struct work *work)
{
    return (struct copy_task *)((char *)work - offsetof(struct copy_task, work));
}

static void unpack_run(struct work *work)
{
    struct copy_task *task = of_work(work);
    task->wrong = copy_zstd_unpack(task->server->decompressor, task->packed->data,
                                   task->length_bytes, task->buffer->data, task->batch_bytes);
}

static void unpack_done(struct work *work)
{
    struct copy_task *task = of_work(work);
    struct copy_server *server = task->server;
    task->with_worker = false;
    buffer_give(&server->buffers, task->packed);
    task->packed = NULL;
    if (!task->session)
        free_if_over(server, task);
    else if (task->wrong)
        refuse_packed(task, task->wrong);
    else
        hand_out(task->session, task);
}

static void unpack(struct copy_session *session, struct copy_task *task)
{
    struct copy_server *server = session->server;
    uint32_t batch_bytes;
    const char *why = copy_zstd_measure(task->packed->data, task->length_bytes, &batch_bytes);
    server->counts.packed_batches++;
    if (!why && batch_bytes != task->batch_bytes)
        why = "packed batch of another length than its command says";
    if (why) {
        refuse_packed(task, why);
        return;
    }
    task->with_worker = true;
    task->work = (struct work){.run = unpack_run, .done = unpack_done};
    worker_give(&server->worker, &task->work);
}

static void all_came(struct copy_session *session, struct copy_task *task)
{
    if (task->packed)
        unpack(session, task);
    else
        hand_out(session, task);
}

static void on_command(struct copy_session *session, struct iscsi_target_task *front)
{
    struct copy_task *task = take(session, front);
    if (!task) { /* only when what came had been received before the last one was taken */
        iscsi_target_respond(&session->target, front,
                             &(struct iscsi_target_answer){.status = COPY_STATUS_TASK_SET_FULL});
        return;
    }
    enum copy_command command = copy_cdb_judge(front->cdb, &task->length_bytes, &task->batch_bytes);
    bool of_cuts = command == COPY_COMMAND_CUT || command == COPY_COMMAND_CUT_STATE;
    if (of_cuts != session->cuts)
        command = COPY_COMMAND_NONE;
    if (command == COPY_COMMAND_CUT_STATE && front->read && !front->write) {
        answer_cut_state(session, task);
        return;
    }
    if (command == COPY_COMMAND_STATE && front->read && !front->write) {
        answer_state(session, task);
        return;
    }
    if (command == COPY_COMMAND_LAYOUT && front->read && !front->write) {
        answer_layout(session, task);
        return;
    }
    bool batch = command == COPY_COMMAND_BATCH || command == COPY_COMMAND_CUT ||
                 (command == COPY_COMMAND_PACKED && session->server->zstd);
    if (!batch || !front->write || front->expected_bytes != task->length_bytes) {
        end_session(session, "a command that no array sends");
        return;
    }
    task->buffer = buffer_take(&session->server->buffers, task->batch_bytes);
    if (command == COPY_COMMAND_PACKED)
        task->packed = buffer_take(&session->server->buffers, task->length_bytes);
    struct buffer *buffer = command == COPY_COMMAND_PACKED ? task->packed : task->buffer;
    CHECK(task->buffer && buffer);
    if (iscsi_target_receive(&session->target, front, buffer->data, task->length_bytes))
        all_came(session, task);
}

static void on_event(struct copy_session *session, enum iscsi_target_event event)
{
    switch (event) {
    case ISCSI_TARGET_MORE:
    case ISCSI_TARGET_PONG:
    case ISCSI_TARGET_EARLY:
        break;
    case ISCSI_TARGET_IDENTIFY:
        identify(session);
        break;
    case ISCSI_TARGET_LOGGED_IN:
        on_logged_in(session);
        break;
    case ISCSI_TARGET_COMMAND:
        on_command(session, session->target.task);
        break;
    case ISCSI_TARGET_DATA:
        CHECK(session->target.task->owner);
        all_came(session, session->target.task->owner);
        break;
    case ISCSI_TARGET_DAMAGED:
        end_session(session, "a Data-Out with a wrong DataSN");
        break;
    case ISCSI_TARGET_MANAGE:
        iscsi_target_manage_done(&session->target, session->target.manage.request,
                                 ISCSI_FUNCTION_NOT_SUPPORTED);
        break;
    case ISCSI_TARGET_CLOSED:
    case ISCSI_TARGET_FAILED:
        session->ending = true; /* closed when the last answer has left */
        break;
    }
}

/* ---- its stream ---- */

static void opened(struct stream *stream)
{
    struct copy_session *session = of_stream(stream);
    iscsi_target_start(&session->target, &session->login, session->slots, COPY_COMMANDS,
                       &session->server->crypto, 1);
}

static size_t feed(struct stream *stream, const uint8_t *bytes, size_t size, bool *again)
{
    struct copy_session *session = of_stream(stream);
    enum iscsi_target_event event;
    if (session->ending)
        return size;
    /* The memory for whatever comes next has to be there before it is known what it is. What is
     * received already is dealt with. */
    if (size > 0 && !has_room(session->server))
        return 0;
    size_t taken = iscsi_target_feed(&session->target, bytes, size, &event);
    take_released(session);
    *again = event != ISCSI_TARGET_MORE;
    on_event(session, event);
    return taken;
}

static uint32_t wants(struct stream *stream, uint8_t **place)
{
    struct copy_session *session = of_stream(stream);
    return session->ending ? 0 : iscsi_target_wants(&session->target, place);
}

static void filled(struct stream *stream, uint32_t size)
{
    iscsi_target_filled(&of_stream(stream)->target, size);
}

static uint32_t output(struct stream *stream, struct iovec **iov)
{
    return iscsi_target_output(&of_stream(stream)->target, iov);
}

static void sent(struct stream *stream, size_t size)
{
    iscsi_target_sent(&of_stream(stream)->target, size);
    take_released(of_stream(stream));
}

static void closed(struct stream *stream, const char *why)
{
    struct copy_session *session = of_stream(stream);
    struct copy_server *server = session->server;
    if (session->held || !session->logged_in)
        log_say(LOG_INFO, "copy: session from %s ended: %s", session->who,
                session->ending && session->target.reason[0] ? session->target.reason : why);
    if (!session->logged_in)
        server->counts.refused++;
    leave_tasks(session);
    session->used = session->logged_in = false;
}

static const struct stream_user stream_user = {.opened = opened,
                                               .feed = feed,
                                               .wants = wants,
                                               .filled = filled,
                                               .output = output,
                                               .sent = sent,
                                               .closed = closed};

/* ---- the listener ---- */

static struct copy_session *session_make(struct copy_server *server)
{
    for (uint32_t i = 0; i < COPY_SESSION_LIMIT; i++) {
        if (server->sessions[i] && server->sessions[i]->used)
            continue;
        if (!server->sessions[i]) {
            server->sessions[i] = calloc(1, sizeof *server->sessions[i]);
            CHECK(server->sessions[i]);
            server->sessions[i]->server = server;
            stream_make(&server->sessions[i]->stream, server->loop, &stream_user);
        }
        return server->sessions[i];
    }
    return NULL;
}

static void session_start(struct copy_server *server, int descriptor)
{
    struct copy_session *session = session_make(server);
    if (!session) {
        log_say(LOG_WARNING, "copy: too many sessions at a time; one more was refused");
        server->counts.refused++;
        close(descriptor);
        return;
    }
    session->used = true;
    session->logged_in = session->ending = session->held = false;
    session->target.reason[0] = '\0';
    session->since_us = server->loop->now_us;
    socket_peer_text(descriptor, session->who);
    stream_accept(&session->stream, descriptor, server->tls);
}

static void accept_more(struct copy_server *server)
{
    struct io_uring_sqe *sqe = loop_sqe(server->loop);
    io_uring_prep_multishot_accept(sqe, server->listener, NULL, NULL, SOCK_CLOEXEC);
    loop_own(sqe, &server->accept);
}

static void retry_accept(struct timer *timer)
{
    accept_more((struct copy_server *)((char *)timer - offsetof(struct copy_server, accept_retry)));
}

static void accepted(struct op *op, int result, unsigned flags)
{
    struct copy_server *server =
        (struct copy_server *)((char *)op - offsetof(struct copy_server, accept));
    if (result >= 0)
        session_start(server, result);
    else
        log_say(LOG_WARNING, "copy: cannot accept: %s", strerror(-result));
    if (!(flags & IORING_CQE_F_MORE))
        loop_timer_set(server->loop, &server->accept_retry,
                       server->loop->now_us + (result < 0 ? 200000 : 0));
}

static void sweep(struct timer *timer)
{
    struct copy_server *server =
        (struct copy_server *)((char *)timer - offsetof(struct copy_server, sweep));
    uint32_t count = 0;
    for (uint32_t i = 0; i < COPY_SESSION_LIMIT; i++) {
        struct copy_session *session = server->sessions[i];
        if (!session || !session->used)
            continue;
        count += session->logged_in;
        if (!session->logged_in &&
            server->loop->now_us - session->since_us > COPY_SERVER_LOGIN_MS * 1000ull)
            end_session(session, "it does not finish the login");
    }
    server->counts.sessions = count;
    loop_timer_set(server->loop, timer, server->loop->now_us + 200000);
}

void copy_server_leave(struct copy_server *server, uint32_t group)
{
    for (uint32_t i = 0; i < COPY_SESSION_LIMIT; i++) {
        struct copy_session *session = server->sessions[i];
        if (session && session->used && session->logged_in && session->group == group &&
            !session->cuts)
            end_session(session, "this controller does not hold the group any more");
    }
}

void copy_server_leave_set(struct copy_server *server, uint32_t group)
{
    for (uint32_t i = 0; i < COPY_SESSION_LIMIT; i++) {
        struct copy_session *session = server->sessions[i];
        if (session && session->used && session->logged_in && session->group == group &&
            session->cuts)
            end_session(session, "this controller does not lead the group any more");
    }
}

const char *copy_server_coordinator(const struct copy_server *server, uint32_t group)
{
    for (uint32_t i = 0; i < COPY_SESSION_LIMIT; i++) {
        const struct copy_session *session = server->sessions[i];
        if (session && session->used && session->logged_in && session->stream.is_open &&
            session->cuts && session->group == group)
            return session->who;
    }
    return NULL;
}

const char *copy_server_from(const struct copy_server *server, uint32_t group, int half)
{
    for (uint32_t i = 0; i < COPY_SESSION_LIMIT; i++) {
        const struct copy_session *session = server->sessions[i];
        if (session && session->used && session->logged_in && session->stream.is_open &&
            !session->cuts && session->group == group && session->half == half)
            return session->who;
    }
    return NULL;
}

void copy_server_flush(struct copy_server *server)
{
    for (uint32_t i = 0; i < COPY_SESSION_LIMIT; i++) {
        struct copy_session *session = server->sessions[i];
        struct iovec *iov;
        if (!session || !session->used)
            continue;
        stream_flush(&session->stream);
        if (session->ending && session->stream.is_open && !session->stream.sending &&
            iscsi_target_output(&session->target, &iov) == 0)
            end_session(session, "the session is over");
    }
}

static const char *prepare(struct copy_server *server, char why[TRACE_LINE])
{
    const struct config *config = server->config;
    CHECK(config->group_count > 0);
    for (uint32_t i = 0; i < config->group_count; i++) {
        const struct config_group *group = &config->groups[i];
        struct copy_names names;
        if (!copy_identity(server->ids[i], &server->crypto, config, group) ||
            !copy_names_make(&names, &server->crypto, config, group, true, 0))
            return "the cryptographic library has no SHA-256";
    }
    /* All of them have the same TLS keys; which array comes is judged when it says its name. */
    return copy_tls(&server->tls, &config->groups[0], "", why);
}

const char *copy_server_start(struct copy_server *server, struct loop *loop,
                              const struct config *config, int self,
                              const struct copy_server_user *user, void *context,
                              char why[TRACE_LINE])
{
    uint32_t ignored;
    memset(server, 0, sizeof *server);
    server->loop = loop;
    server->config = config;
    server->user = user;
    server->context = context;
    server->crypto = crypto_of_library();
    const char *wrong = prepare(server, why);
    if (wrong)
        return wrong;
    server->tasks = calloc(COPY_TASK_LIMIT, sizeof *server->tasks);
    CHECK(server->tasks);
    for (uint32_t i = 0; i < COPY_TASK_LIMIT; i++) {
        server->tasks[i].index = i;
        server->tasks[i].next_free = i + 1 < COPY_TASK_LIMIT ? i + 1 : NO_INDEX;
    }
    server->zstd = true;
    server->decompressor = ZSTD_createDCtx();
    if (!server->decompressor)
        return "no memory for zstd";
    wrong = worker_start(&server->worker, loop);
    if (wrong)
        return wrong;
    server->listener = socket_listen(&config->controllers[self].copy, why);
    if (server->listener < 0)
        return why;
    /* Accepted connections inherit it, and the window's scale. */
    socket_widen(server->listener, STREAM_SOCKET_BYTES, &ignored, &ignored);
    server->accept.done = accepted;
    server->accept_retry.fire = retry_accept;
    server->sweep.fire = sweep;
    accept_more(server);
    loop_timer_set(loop, &server->sweep, loop->now_us + 200000);
    log_say(LOG_INFO, "copies are taken at %s", config->controllers[self].copy.text);
    return NULL;
}
