/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* One iSCSI connection: bytes to events and back. Data of a write are received where the core reads
 * them, data of a read are sent from where the core wrote them. It takes no more from a host than
 * there is room for, and it outlives its socket until its commands have let go of their buffers and
 * what its nexus had reserved is given back. */

#include "shell/iscsi_session.h"
#include "shell/log.h"
#include "shell/socket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void receive(struct iscsi_session *session);

/* ---- ending ---- */

void iscsi_session_close(struct iscsi_session *session, const char *why)
{
    if (session->closing)
        return;
    if (why) {
        session->server->counts.dropped++;
        log_say(LOG_WARNING, "iSCSI: %s%s%s: %s", session->target.initiator_name,
                session->target.initiator_name[0] ? " at " : "", session->who, why);
    } else if (session->nexus) {
        log_say(LOG_INFO, "iSCSI: %s at %s has gone", session->target.initiator_name, session->who);
    }
    if (session->nexus)
        scsi_nexus_leave(session->server->scsi, session->nexus);
    if (session->login)
        session->server->counts.logging_in--; /* its memory goes as soon as the kernel lets go */
    session->closing = true;
    shutdown(session->descriptor, SHUT_RDWR); /* ends what is under way on the socket */
    iscsi_server_dirty(session->server, session);
}

void iscsi_session_end(struct iscsi_session *session)
{
    if (session->ending || session->closing)
        return;
    session->ending = true;
    session->since_us = session->server->loop->now_us;
    iscsi_server_dirty(session->server, session);
}

/* The login is over, one way or the other. */
static void free_login(struct iscsi_session *session)
{
    if (!session->login)
        return;
    free(session->login);
    session->login = NULL;
    if (!session->closing)
        session->server->counts.logging_in--;
}

static void free_session(struct iscsi_session *session)
{
    struct iscsi_server *server = session->server;
    if (session->nexus)
        scsi_nexus_close(server->scsi, session->nexus);
    iscsi_server_forget(server, session);
    free_login(session);
    free(session->input);
    free(session->slots);
    free(session);
}

void iscsi_session_clear_up(struct iscsi_session *session)
{
    CHECK(session->closing);
    if (session->receiving || session->sending || session->is_waiting || session->is_dirty)
        return;
    session->clearing = true;
    if (session->descriptor >= 0) {
        close(session->descriptor);
        session->descriptor = -1;
        session->stalled = NULL;
        iscsi_manage_leave_all(session);
        iscsi_task_leave_all(session);
    }
    bool gone = session->task_count == 0 && !session->loss && !iscsi_manage_of(session);
    if (gone && session->nexus && !session->loss_done) {
        iscsi_manage_loss(session); /* when there is no room the sweep asks again */
        gone = session->loss_done;
    }
    session->clearing = false;
    if (gone)
        free_session(session);
}

/* ---- input ---- */

/* What is left stands at the buffer's beginning afterwards, and there is room behind it. */
static void make_input_room(struct iscsi_session *session)
{
    uint32_t left = session->input_end - session->input_start;
    if (left > 0 && session->input_start > 0)
        memmove(session->input, session->input + session->input_start, left);
    session->input_start = 0;
    session->input_end = left;
    if (left < session->input_size && !session->input_short)
        return;
    session->input_short = false;
    if (session->input_size == ISCSI_INPUT_MOST)
        return;
    session->input_size = session->input_size ? session->input_size * 2 : ISCSI_INPUT_FIRST;
    session->input = realloc(session->input, session->input_size);
    CHECK(session->input);
}

static void receive(struct iscsi_session *session)
{
    if (session->receiving || session->closing || session->ending)
        return;
    make_input_room(session);
    uint8_t *place = NULL;
    uint32_t left = session->input_end;
    uint32_t wanted = left == 0 ? iscsi_target_wants(&session->target, &place) : 0;
    struct io_uring_sqe *sqe = loop_sqe(session->server->loop);
    session->direct_bytes = wanted;
    if (wanted > 0) {
        session->receive_iov[0] = (struct iovec){place, wanted};
        session->receive_iov[1] = (struct iovec){session->input, ISCSI_INPUT_AFTER};
        session->receive_message =
            (struct msghdr){.msg_iov = session->receive_iov, .msg_iovlen = 2};
        io_uring_prep_recvmsg(sqe, session->descriptor, &session->receive_message, 0);
    } else {
        CHECK(left < session->input_size);
        io_uring_prep_recv(sqe, session->descriptor, session->input + left,
                           session->input_size - left, 0);
    }
    if (session->poll_first)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    loop_own(sqe, &session->receive);
    session->receiving = true;
}

static void on_end(struct iscsi_session *session, enum iscsi_target_event event)
{
    bool in = session->logged_in;
    free_login(session);
    if (event == ISCSI_TARGET_FAILED) {
        struct iscsi_server *server = session->server;
        if (in)
            server->counts.dropped++;
        else
            server->counts.refused++;
        log_say(LOG_WARNING, "iSCSI: %s%s%s: %s", session->target.initiator_name,
                session->target.initiator_name[0] ? " at " : "", session->who,
                session->target.reason);
    }
    iscsi_session_end(session);
}

static bool finds_room(const struct iscsi_session *session, const struct iscsi_target_task *front)
{
    return iscsi_server_has_room(session->server) && iscsi_task_has_share(session, front);
}

bool iscsi_session_finds_room(const struct iscsi_session *session)
{
    return finds_room(session, session->stalled);
}

static void on_command(struct iscsi_session *session, struct iscsi_target_task *front)
{
    if (front->owner || finds_room(session, front)) {
        iscsi_task_command(session, front);
        return;
    }
    /* The data that would make room stand behind this command, if they come at all. */
    if (!iscsi_task_has_share(session, front) && iscsi_task_data_due(session)) {
        iscsi_task_refuse(session, front, SCSI_TASK_SET_FULL);
        return;
    }
    session->stalled = front;
    session->stalled_us = session->server->loop->now_us;
    iscsi_server_wait(session->server, session);
}

static void on_event(struct iscsi_session *session, enum iscsi_target_event event)
{
    struct iscsi_server *server = session->server;
    switch (event) {
    case ISCSI_TARGET_MORE:
    case ISCSI_TARGET_PONG:
        break;
    case ISCSI_TARGET_IDENTIFY:
        iscsi_server_identify(server, session);
        break;
    case ISCSI_TARGET_LOGGED_IN:
        free_login(session);
        session->logged_in = true;
        iscsi_server_logged_in(server, session);
        break;
    case ISCSI_TARGET_COMMAND:
        on_command(session, session->target.task);
        break;
    case ISCSI_TARGET_EARLY:
        iscsi_task_early(session, session->target.task);
        break;
    case ISCSI_TARGET_DATA:
        iscsi_task_data(session, session->target.task);
        break;
    case ISCSI_TARGET_DAMAGED:
        iscsi_task_damaged(session->target.task);
        break;
    case ISCSI_TARGET_MANAGE:
        iscsi_manage_request(session);
        break;
    case ISCSI_TARGET_CLOSED:
    case ISCSI_TARGET_FAILED:
        on_end(session, event);
        break;
    }
}

static void take_released(struct iscsi_session *session)
{
    struct iscsi_target_task *front;
    while ((front = iscsi_target_released(&session->target)))
        iscsi_task_released(session, front);
}

/* The command that found no room. False: there still is none. */
static bool unstall(struct iscsi_session *session)
{
    struct iscsi_server *server = session->server;
    struct iscsi_target_task *front = session->stalled;
    bool room = finds_room(session, front);
    if (!room && server->loop->now_us - session->stalled_us < ISCSI_ROOM_MS * 1000ull) {
        iscsi_server_wait(server, session);
        return false;
    }
    session->stalled = NULL;
    if (room)
        iscsi_task_command(session, front);
    else
        iscsi_task_refuse(session, front,
                          iscsi_task_has_share(session, front) ? SCSI_STATUS_BUSY
                                                               : SCSI_TASK_SET_FULL);
    return true;
}

void iscsi_session_process(struct iscsi_session *session)
{
    session->feed_waits = false;
    while (!session->closing && !session->ending && !session->receiving &&
           !session->waits_for_old) {
        if (session->stalled) {
            if (!unstall(session))
                break;
            continue;
        }
        uint32_t size = session->input_end - session->input_start;
        enum iscsi_target_event event;
        size_t taken = iscsi_target_feed(&session->target, session->input + session->input_start,
                                         size, &event);
        session->input_start += (uint32_t)taken;
        take_released(session);
        if (event != ISCSI_TARGET_MORE) {
            on_event(session, event);
            continue;
        }
        if (session->input_start == session->input_end)
            break;
        if (taken == 0) {
            session->feed_waits = true; /* goes on when something has been sent */
            break;
        }
    }
    iscsi_server_dirty(session->server, session);
    if (!session->stalled && !session->feed_waits && !session->waits_for_old)
        receive(session);
}

static void received(struct op *op, int result, unsigned flags)
{
    struct iscsi_session *session = (struct iscsi_session *)op;
    session->receiving = false;
    if (session->closing || session->ending) {
        iscsi_server_dirty(session->server, session);
        return;
    }
    if (result <= 0 && result != -EINTR && result != -EAGAIN) {
        bool clean = result == 0 || result == -ECONNRESET;
        iscsi_session_close(session, clean ? NULL : strerror(-result));
        return;
    }
    uint32_t got = result > 0 ? (uint32_t)result : 0;
    uint32_t direct = min_u32(got, session->direct_bytes);
    session->poll_first = !(flags & IORING_CQE_F_SOCK_NONEMPTY);
    session->received_us = session->server->loop->now_us;
    session->pinged_us = 0;
    if (direct > 0)
        iscsi_target_filled(&session->target, direct);
    session->input_end += got - direct;
    session->input_short = session->direct_bytes == 0 && session->input_end == session->input_size;
    iscsi_session_process(session);
}

/* ---- output ---- */

static void send_on(struct iscsi_session *session, struct iovec *iov, uint32_t count)
{
    session->send_bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        session->send_bytes += iov[i].iov_len;
    session->send_message = (struct msghdr){.msg_iov = iov, .msg_iovlen = count};
    struct io_uring_sqe *sqe = loop_sqe(session->server->loop);
    io_uring_prep_sendmsg(sqe, session->descriptor, &session->send_message, MSG_NOSIGNAL);
    if (!session->send_waits)
        loop_send_now(session->server->loop, sqe);
    loop_own(sqe, &session->send);
    session->sending = true;
}

/* A host that has heard the answer to its logout may tell another that the volume is free: what it
 * had reserved is given back before. Bounded by ISCSI_DRAIN_MS. */
static bool gives_back(struct iscsi_session *session)
{
    if (!session->ending || !session->nexus || session->loss_done || session->task_count > 0)
        return false;
    return session->loss || (iscsi_manage_loss(session) && !session->loss_done);
}

void iscsi_session_flush(struct iscsi_session *session)
{
    if (session->closing) {
        iscsi_session_clear_up(session);
        return;
    }
    if (session->sending || gives_back(session))
        return;
    struct iovec *iov;
    uint32_t count = iscsi_target_output(&session->target, &iov);
    if (count > 0) {
        session->sent_us = session->server->loop->now_us;
        send_on(session, iov, count);
    } else if (session->ending) {
        iscsi_session_close(session, NULL);
    } else if (session->feed_waits) {
        iscsi_session_close(session, "it sends what is not taken");
    }
}

static void sent(struct op *op, int result, unsigned flags)
{
    struct iscsi_session *session =
        (struct iscsi_session *)((char *)op - offsetof(struct iscsi_session, send));
    session->sending = false;
    iscsi_server_dirty(session->server, session);
    if (session->closing)
        return;
    if (result < 0 && result != -EINTR && result != -EAGAIN) {
        bool clean = result == -EPIPE || result == -ECONNRESET;
        iscsi_session_close(session, clean ? NULL : strerror(-result));
        return;
    }
    size_t size = result > 0 ? (size_t)result : 0;
    session->send_waits = size < session->send_bytes;
    if (size > 0)
        session->sent_us = session->server->loop->now_us;
    iscsi_target_sent(&session->target, size);
    take_released(session);
    if (session->feed_waits)
        iscsi_session_process(session);
}

/* ---- starting ---- */

void iscsi_session_start(struct iscsi_server *server, int descriptor)
{
    struct iscsi_session *session = malloc(sizeof *session);
    if (session) {
        memset(session, 0, offsetof(struct iscsi_session, target));
        session->login = malloc(sizeof *session->login);
        session->slots =
            malloc(ISCSI_TARGET_TASKS(ISCSI_WINDOW) * sizeof(struct iscsi_target_task));
    }
    if (!session || !session->login || !session->slots) {
        if (session) {
            free(session->login);
            free(session->slots);
        }
        free(session);
        close(descriptor);
        return;
    }
    session->receive.done = received;
    session->send.done = sent;
    session->server = server;
    session->descriptor = descriptor;
    session->number = ++server->next_number;
    session->since_us = session->received_us = session->sent_us = server->loop->now_us;
    session->poll_first = true;
    session->next = server->sessions;
    if (server->sessions)
        server->sessions->previous = session;
    server->sessions = session;
    server->session_count++;
    server->counts.logging_in++;
    socket_peer_text(descriptor, session->who);
    socket_no_delay(descriptor);
    int on = 1;
    setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    iscsi_target_start(&session->target, session->login, session->slots, ISCSI_WINDOW,
                       &server->crypto, 1);
    receive(session);
}
