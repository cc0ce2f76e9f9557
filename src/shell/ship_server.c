/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Sessions in which the peer ships requests to volumes that this controller owns. Each command
 * becomes one request of the core, marked as shipped. At most one session is served, the newest;
 * its login is answered only when every request of the ones before that may still change a volume
 * has ended, so that the peer, once it is logged in, knows how far each of them came. */

#include "shell/handle.h"
#include "shell/log.h"
#include "shell/ship_session.h"
#include "shell/socket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* ---- requests ---- */

static struct ship_task *take(struct ship_incoming *in, struct iscsi_target_task *front)
{
    struct ship *ship = in->ship;
    uint32_t index = ship->free_task;
    if (index == NO_INDEX || !buffers_have_room(&ship->buffers))
        return NULL;
    struct ship_task *task = &ship->tasks[index];
    CHECK(!task->used);
    ship->free_task = task->next_free;
    ship->task_used++;
    task->used = true;
    task->in_core = false;
    task->session = in;
    task->front = front;
    task->buffer = NULL;
    front->owner = task;
    return task;
}

static void free_if_over(struct ship *ship, struct ship_task *task)
{
    if (task->in_core || task->front)
        return;
    if (task->buffer)
        buffer_give(&ship->buffers, task->buffer);
    task->buffer = NULL;
    task->used = false;
    task->session = NULL;
    task->next_free = ship->free_task;
    ship->free_task = task->index;
    ship->task_used--;
}

static void answer(struct ship_task *task, enum host_result result, uint64_t detail)
{
    struct ship_incoming *in = task->session;
    struct iscsi_target_answer answer = {
        .status = ship_encode_result(result, detail, task->sense, &task->sense_bytes),
        .sense = task->sense,
        .sense_bytes = task->sense_bytes,
        .out_bytes = task->command.out_bytes,
    };
    if (result == HOST_OK && task->command.in_bytes > 0) {
        answer.data = task->buffer->data;
        answer.data_bytes = task->command.in_bytes;
    }
    in->ship->counts.served++;
    iscsi_target_respond(&in->session, task->front, &answer);
}

static bool changes(const struct ship_task *task)
{
    return task->request.op != HOST_READ && task->request.op != HOST_FLUSH;
}

static void submit(struct ship_task *task)
{
    struct ship *ship = task->session->ship;
    struct host_request *request = &task->request;
    request->handle = handle_make(HANDLE_SHIPPED, task->index);
    request->flags |= HOST_SHIPPED;
    request->tag = task->front->itt;
    request->data = task->buffer ? task->buffer->data : NULL;
    task->in_core = true;
    struct host_outcome outcome = array_host(ship->array, ship->loop->now_us, request);
    if (!outcome.complete)
        return;
    task->in_core = false;
    answer(task, outcome.result, outcome.detail);
}

void ship_complete(struct ship *ship, const struct completion *completion)
{
    uint32_t index = handle_index(completion->handle);
    CHECK(index < SHIP_TASK_LIMIT);
    struct ship_task *task = &ship->tasks[index];
    CHECK(task->used);
    CHECK(task->in_core);
    task->in_core = false;
    if (task->session) {
        answer(task, completion->result, completion->detail);
        return;
    }
    if (changes(task))
        ship->changing_left--;
    free_if_over(ship, task);
}

/* ---- ending ---- */

static bool is_open(const struct ship_incoming *in)
{
    return in->descriptor >= 0 && !in->closing;
}

/* What is still in the core goes on without the session. */
static void leave_tasks(struct ship_incoming *in)
{
    struct ship *ship = in->ship;
    for (uint32_t i = 0; i < SHIP_TASK_LIMIT; i++) {
        struct ship_task *task = &ship->tasks[i];
        if (!task->used || task->session != in)
            continue;
        task->session = NULL;
        task->front = NULL;
        if (task->in_core && changes(task))
            ship->changing_left++;
        free_if_over(ship, task);
    }
}

static void incoming_free(struct ship_incoming *in)
{
    close(in->descriptor);
    leave_tasks(in);
    in->descriptor = -1;
    in->closing = in->logged_in = in->held = false;
}

static void incoming_close(struct ship_incoming *in, const char *why)
{
    if (in->closing)
        return;
    if (why)
        log_say(LOG_WARNING, "ship: session from %s ended: %s", in->who, why);
    in->closing = true;
    shutdown(in->descriptor, SHUT_RDWR);
    if (in->pending == 0)
        incoming_free(in);
}

static bool operation_ended(struct ship_incoming *in)
{
    CHECK(in->pending > 0);
    in->pending--;
    if (in->closing && in->pending == 0)
        incoming_free(in);
    return is_open(in);
}

/* ---- bytes ---- */

static void receive(struct ship_incoming *in)
{
    if (in->receiving || in->ending)
        return;
    uint32_t left = in->input_end - in->input_start;
    memmove(in->input, in->input + in->input_start, left);
    in->input_start = 0;
    in->input_end = left;
    uint8_t *place = NULL;
    uint32_t wanted = left == 0 ? iscsi_target_wants(&in->session, &place) : 0;
    struct io_uring_sqe *sqe = loop_sqe(in->ship->loop);
    in->direct_bytes = wanted;
    if (wanted > 0) {
        in->receive_iov[0] = (struct iovec){place, wanted};
        in->receive_iov[1] = (struct iovec){in->input, SHIP_INPUT_AFTER};
        in->receive_message = (struct msghdr){.msg_iov = in->receive_iov, .msg_iovlen = 2};
        io_uring_prep_recvmsg(sqe, in->descriptor, &in->receive_message, 0);
    } else {
        io_uring_prep_recv(sqe, in->descriptor, in->input + left, SHIP_INPUT - left, 0);
    }
    if (in->poll_first)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    loop_own(sqe, &in->receive);
    in->receiving = true;
    in->pending++;
}

static void identify(struct ship_incoming *in)
{
    static uint16_t tsih;
    struct ship *ship = in->ship;
    const struct iscsi_target_identify *who = &in->session.identify;
    const char *peer = ship->initiator_names[ship->peer];
    if (who->discovery || strcasecmp(who->target_name, ship->target_name) != 0) {
        iscsi_target_refuse(&in->session, ISCSI_LOGIN_NOT_FOUND, "there is no such target");
        return;
    }
    if (strcasecmp(who->initiator_name, peer) != 0) {
        iscsi_target_refuse(&in->session, ISCSI_LOGIN_AUTHORIZATION_FAILURE,
                            "only the other controller comes in here");
        return;
    }
    struct iscsi_target_admission admission = {
        .target_name = ship->target_name,
        .tsih = ++tsih ? tsih : ++tsih,
        .portal_group_tag = 1,
        .wish = iscsi_target_wish(),
    };
    /* Every step of a request in one burst, without R2T. */
    admission.wish.first_burst_bytes = SHIP_BYTES;
    if (ship->config->secret[0]) {
        admission.initiator = (struct iscsi_identity){peer, ship->secrets[ship->peer][0]};
        admission.self = (struct iscsi_identity){ship->initiator_names[ship->self],
                                                 ship->secrets[ship->self][1]};
    }
    iscsi_target_admit(&in->session, &admission);
}

static void on_logged_in(struct ship_incoming *in)
{
    struct ship *ship = in->ship;
    in->logged_in = true;
    in->held = true; /* nothing is sent before: ship_server_flush() */
    for (int i = 0; i < SHIP_INCOMING_LIMIT; i++) {
        struct ship_incoming *other = ship->in[i];
        if (other && other != in && is_open(other) && other->logged_in)
            incoming_close(other, "the peer has logged in again");
    }
}

static void on_command(struct ship_incoming *in, struct iscsi_target_task *front)
{
    struct ship *ship = in->ship;
    struct ship_task *task = take(in, front);
    if (!task) {
        iscsi_target_respond(&in->session, front,
                             &(struct iscsi_target_answer){.status = SHIP_STATUS_TASK_SET_FULL});
        return;
    }
    struct ship_command *command = &task->command;
    memcpy(command->lun, front->lun, sizeof command->lun);
    memcpy(command->cdb, front->cdb, sizeof command->cdb);
    command->out_bytes = front->write ? front->expected_bytes : 0;
    command->in_bytes = front->read && !front->write ? front->expected_bytes : 0;
    const char *wrong = ship_decode(command, ship->config->volume_count, &task->request);
    if (wrong) {
        incoming_close(in, wrong);
        return;
    }
    uint32_t bytes = max_u32(command->out_bytes, command->in_bytes);
    if (bytes > 0) {
        task->buffer = buffer_take(&ship->buffers, bytes);
        CHECK(task->buffer);
    }
    if (command->out_bytes > 0 &&
        !iscsi_target_receive(&in->session, front, task->buffer->data, command->out_bytes))
        return;
    if (task->request.op == HOST_MOVE && ship_decode_move(task->buffer->data, &task->request))
        incoming_close(in, "target port groups that are not ours");
    else
        submit(task);
}

static void on_data(struct ship_incoming *in, struct iscsi_target_task *front)
{
    struct ship_task *task = front->owner;
    CHECK(task);
    if (task->request.op == HOST_MOVE && ship_decode_move(task->buffer->data, &task->request))
        incoming_close(in, "target port groups that are not ours");
    else
        submit(task);
}

static void on_event(struct ship_incoming *in, enum iscsi_target_event event)
{
    switch (event) {
    case ISCSI_TARGET_MORE:
    case ISCSI_TARGET_PONG:
    case ISCSI_TARGET_EARLY:
        break;
    case ISCSI_TARGET_IDENTIFY:
        identify(in);
        break;
    case ISCSI_TARGET_LOGGED_IN:
        on_logged_in(in);
        break;
    case ISCSI_TARGET_COMMAND:
        on_command(in, in->session.task);
        break;
    case ISCSI_TARGET_DATA:
        on_data(in, in->session.task);
        break;
    case ISCSI_TARGET_DAMAGED: /* a controller does not lose PDUs of its own stream */
        incoming_close(in, "a Data-Out with a wrong DataSN");
        break;
    case ISCSI_TARGET_MANAGE:
        iscsi_target_manage_done(&in->session, in->session.manage.request,
                                 ISCSI_FUNCTION_NOT_SUPPORTED);
        break;
    case ISCSI_TARGET_CLOSED:
    case ISCSI_TARGET_FAILED:
        if (event == ISCSI_TARGET_FAILED)
            log_say(LOG_WARNING, "ship: session from %s ended: %s", in->who, in->session.reason);
        in->ending = true;
        break;
    }
}

static void take_released(struct ship_incoming *in)
{
    struct iscsi_target_task *front;
    while ((front = iscsi_target_released(&in->session))) {
        struct ship_task *task = front->owner;
        if (!task)
            continue;
        task->front = NULL;
        free_if_over(in->ship, task);
    }
}

static void process(struct ship_incoming *in)
{
    in->feed_waits = false;
    while (is_open(in) && !in->ending && !in->receiving && !in->held) {
        enum iscsi_target_event event;
        size_t taken = iscsi_target_feed(&in->session, in->input + in->input_start,
                                         in->input_end - in->input_start, &event);
        in->input_start += (uint32_t)taken;
        take_released(in);
        if (event != ISCSI_TARGET_MORE) {
            on_event(in, event);
            continue;
        }
        if (in->input_start == in->input_end)
            break;
        if (taken == 0) {
            in->feed_waits = true;
            break;
        }
    }
    if (is_open(in) && !in->feed_waits && !in->held)
        receive(in);
}

static void received(struct op *op, int result, unsigned flags)
{
    struct ship_incoming *in = (struct ship_incoming *)op;
    in->receiving = false;
    if (!operation_ended(in))
        return;
    if (result <= 0 && result != -EINTR && result != -EAGAIN) {
        incoming_close(in, result == 0 ? "the connection was closed" : strerror(-result));
        return;
    }
    uint32_t got = result > 0 ? (uint32_t)result : 0;
    uint32_t direct = min_u32(got, in->direct_bytes);
    in->poll_first = !(flags & IORING_CQE_F_SOCK_NONEMPTY);
    if (direct > 0)
        iscsi_target_filled(&in->session, direct);
    in->input_end += got - direct;
    process(in);
}

static void sent(struct op *op, int result, unsigned flags)
{
    struct ship_incoming *in =
        (struct ship_incoming *)((char *)op - offsetof(struct ship_incoming, send));
    in->sending = false;
    if (!operation_ended(in))
        return;
    if (result < 0 && result != -EINTR && result != -EAGAIN) {
        incoming_close(in, strerror(-result));
        return;
    }
    size_t size = result > 0 ? (size_t)result : 0;
    in->send_waits = size < in->send_bytes;
    iscsi_target_sent(&in->session, size);
    take_released(in);
    if (in->feed_waits)
        process(in);
}

/* What former sessions have begun has ended: the login is answered, and the core says so too. */
static void let_in(struct ship_incoming *in)
{
    in->held = false;
    array_on_ship_admitted(in->ship->array, in->ship->loop->now_us,
                           ship_session_name(in->session.isid));
    log_say(LOG_INFO, "ship: the peer has logged in%s",
            in->session.authenticated ? ", authenticated" : "");
    process(in);
}

static void flush(struct ship_incoming *in)
{
    if (!is_open(in) || in->sending || in->held)
        return;
    struct iovec *iov;
    uint32_t count = iscsi_target_output(&in->session, &iov);
    if (count == 0) {
        if (in->ending)
            incoming_close(in, NULL);
        else if (in->feed_waits)
            incoming_close(in, "it sends what is not taken");
        return;
    }
    in->send_bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        in->send_bytes += iov[i].iov_len;
    in->send_message = (struct msghdr){.msg_iov = iov, .msg_iovlen = count};
    struct io_uring_sqe *sqe = loop_sqe(in->ship->loop);
    io_uring_prep_sendmsg(sqe, in->descriptor, &in->send_message, MSG_NOSIGNAL);
    if (!in->send_waits)
        loop_send_now(in->ship->loop, sqe);
    loop_own(sqe, &in->send);
    in->sending = true;
    in->pending++;
}

bool ship_server_flush(struct ship *ship)
{
    bool again = false;
    /* Closing ones first: what they leave behind decides whether a held one is let in. */
    for (int i = 0; i < SHIP_INCOMING_LIMIT; i++)
        if (ship->in[i] && ship->in[i]->closing)
            return false;
    for (int i = 0; i < SHIP_INCOMING_LIMIT; i++) {
        struct ship_incoming *in = ship->in[i];
        if (in && is_open(in) && in->held && ship->changing_left == 0) {
            let_in(in);
            again = true;
        }
        if (in)
            flush(in);
    }
    return again;
}

void ship_server_sweep(struct ship *ship)
{
    for (int i = 0; i < SHIP_INCOMING_LIMIT; i++) {
        struct ship_incoming *in = ship->in[i];
        if (in && is_open(in) && !in->logged_in &&
            ship->loop->now_us - in->since_us > SHIP_LOGIN_MS * 1000ull)
            incoming_close(in, "it does not finish the login");
    }
}

/* ---- from the link's listener ---- */

int ship_is_wanted(const struct ship *ship, const uint8_t *bytes, uint32_t size)
{
    struct iscsi_pdu pdu;
    struct iscsi_pair pair;
    uint32_t at = 0;
    if (size < ISCSI_BHS_SIZE)
        return -1;
    if (!iscsi_bhs_decode(bytes, &pdu) || pdu.opcode != ISCSI_LOGIN_REQUEST)
        return 0;
    uint32_t start = ISCSI_BHS_SIZE + 4u * bytes[4]; /* behind additional header segments */
    if (start + pdu.data_size > SHIP_INPUT / 4)
        return 0;
    if (size < start + pdu.data_size)
        return -1;
    while (iscsi_pair_next(bytes + start, pdu.data_size, &at, &pair) == ISCSI_PAIR_OK)
        if (strcmp(pair.key, "TargetName") == 0)
            return strcasecmp(pair.value, ship->target_name) == 0;
    return 0;
}

static struct ship_incoming *incoming_make(struct ship *ship)
{
    for (int i = 0; i < SHIP_INCOMING_LIMIT; i++) {
        struct ship_incoming *in = ship->in[i];
        if (in && in->descriptor >= 0)
            continue;
        if (!in) {
            in = calloc(1, sizeof *in);
            CHECK(in);
            in->ship = ship;
            in->receive.done = received;
            in->send.done = sent;
            in->input = malloc(SHIP_INPUT);
            in->login = malloc(sizeof *in->login);
            in->slots = malloc(ISCSI_TARGET_TASKS(SHIP_WINDOW) * sizeof *in->slots);
            CHECK(in->input);
            CHECK(in->login);
            CHECK(in->slots);
            ship->in[i] = in;
        }
        return in;
    }
    return NULL;
}

void ship_take(struct ship *ship, int descriptor, const uint8_t *bytes, uint32_t size)
{
    static uint64_t number;
    struct ship_incoming *in = incoming_make(ship);
    if (!in || size > SHIP_INPUT) {
        log_say(LOG_WARNING, "ship: too many sessions at a time; one more was refused");
        close(descriptor);
        return;
    }
    in->descriptor = descriptor;
    in->since_us = ship->loop->now_us;
    in->number = ++number;
    in->pending = 0;
    in->sending = in->receiving = in->closing = in->ending = in->send_waits = false;
    in->feed_waits = in->logged_in = in->held = false;
    in->poll_first = true;
    socket_peer_text(descriptor, in->who);
    iscsi_target_start(&in->session, in->login, in->slots, SHIP_WINDOW, &ship->crypto, 1);
    memcpy(in->input, bytes, size);
    in->input_start = 0;
    in->input_end = size;
    process(in);
}
