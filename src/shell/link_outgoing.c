/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Our session to the peer: connect, log in, one command at a time, and again after a loss. The core
 * hears of a loss only when the kernel no longer reads from the message's bytes. */

#include "shell/link.h"

#include "shell/log.h"
#include "shell/socket.h"

#include <errno.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool is_open(const struct link_outgoing *out)
{
    return out->descriptor >= 0 && !out->closing;
}

static void outgoing_free(struct link *link)
{
    struct link_outgoing *out = &link->out;
    close(out->descriptor);
    out->descriptor = -1;
    out->closing = out->connected = false;
    loop_timer_set(link->loop, &out->retry, link->loop->now_us + out->retry_ms * 1000ull);
    out->retry_ms = min_u32(out->retry_ms * 2, LINK_RETRY_MOST_MS);
    if (out->up) {
        out->up = false;
        array_on_link_down(link->array, link->loop->now_us);
    }
}

void link_outgoing_lost(struct link *link, const char *why)
{
    struct link_outgoing *out = &link->out;
    if (out->closing)
        return;
    snprintf(link->error, sizeof link->error, "%s", why);
    if (strcmp(link->said, link->error) != 0) {
        log_say(LOG_WARNING, "link: session to the peer at %s: %s",
                link->config->controllers[link->peer].link.text, why);
        snprintf(link->said, sizeof link->said, "%s", why);
    }
    out->closing = true;
    if (out->pending == 0)
        outgoing_free(link);
    else if (out->connected)
        shutdown(out->descriptor, SHUT_RDWR);
    else
        loop_cancel(link->loop, &out->connect);
}

/* An operation has ended. True: the session goes on. */
static bool operation_ended(struct link *link)
{
    CHECK(link->out.pending > 0);
    link->out.pending--;
    if (link->out.closing && link->out.pending == 0)
        outgoing_free(link);
    return is_open(&link->out);
}

static void flush(struct link *link)
{
    struct link_outgoing *out = &link->out;
    if (!is_open(out) || out->message.msg_iov)
        return;
    struct iovec *iov;
    uint32_t count = iscsi_initiator_output(&out->session, &iov);
    if (count == 0)
        return;
    out->message = (struct msghdr){.msg_iov = iov, .msg_iovlen = count};
    struct io_uring_sqe *sqe = loop_sqe(link->loop);
    io_uring_prep_sendmsg(sqe, out->descriptor, &out->message, MSG_NOSIGNAL);
    if (!out->send_waits)
        loop_send_now(link->loop, sqe);
    loop_own(sqe, &out->send);
    out->pending++;
}

static void receive(struct link *link, bool poll_first)
{
    struct link_outgoing *out = &link->out;
    struct io_uring_sqe *sqe = loop_sqe(link->loop);
    io_uring_prep_recv(sqe, out->descriptor, out->input + out->input_end,
                       sizeof out->input - out->input_end, 0);
    if (poll_first)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    loop_own(sqe, &out->receive);
    out->pending++;
}

static void on_logged_in(struct link *link)
{
    struct link_outgoing *out = &link->out;
    out->up = true;
    out->retry_ms = LINK_RETRY_LEAST_MS;
    link->error[0] = link->said[0] = '\0';
    link->logins++;
    log_say(LOG_INFO, "link: logged in at the peer%s",
            link->config->secret[0] ? ", authenticated both ways" : "");
    array_on_link_up(link->array, link->loop->now_us);
}

static void on_event(struct link *link, enum iscsi_link_event event)
{
    struct link_outgoing *out = &link->out;
    switch (event) {
    case ISCSI_LINK_LOGGED_IN:
        on_logged_in(link);
        break;
    case ISCSI_LINK_STATUS:
        if (out->message.msg_iov)
            link_outgoing_lost(link, "a status came before the data were sent");
        else
            array_on_status(link->array, link->loop->now_us,
                            out->session.result.status == SCSI_GOOD);
        break;
    case ISCSI_LINK_CLOSED:
        link_outgoing_lost(link, "the peer ended the session");
        break;
    case ISCSI_LINK_FAILED:
        link_outgoing_lost(link, out->session.reason);
        break;
    case ISCSI_LINK_MORE:
    case ISCSI_LINK_COMMAND:
        break;
    }
}

static void feed(struct link *link)
{
    struct link_outgoing *out = &link->out;
    uint32_t at = 0;
    while (is_open(out)) {
        enum iscsi_link_event event;
        at += (uint32_t)iscsi_initiator_feed(&out->session, out->input + at, out->input_end - at,
                                             &event);
        if (event == ISCSI_LINK_MORE)
            break;
        on_event(link, event);
    }
    out->input_end -= at;
    memmove(out->input, out->input + at, out->input_end);
}

/* What has arrived is fed; what is left of it waits for room in the session's output, and sent()
 * goes on. */
static void go_on(struct link *link, bool poll_first)
{
    struct link_outgoing *out = &link->out;
    feed(link);
    flush(link);
    if (!is_open(out) || (out->input_end > 0 && out->message.msg_iov))
        return;
    if (out->input_end == sizeof out->input)
        link_outgoing_lost(link, "the peer sends what is not taken");
    else
        receive(link, poll_first);
}

static void received(struct op *op, int result, unsigned flags)
{
    struct link *link = (struct link *)((char *)op - offsetof(struct link, out.receive));
    struct link_outgoing *out = &link->out;
    if (!operation_ended(link))
        return;
    if (result <= 0 && result != -EINTR && result != -EAGAIN) {
        link_outgoing_lost(link,
                           result == 0 ? "the peer closed the connection" : strerror(-result));
        return;
    }
    out->input_end += result > 0 ? (uint32_t)result : 0;
    go_on(link, !(flags & IORING_CQE_F_SOCK_NONEMPTY));
}

static size_t message_size(const struct msghdr *message)
{
    size_t size = 0;
    for (size_t i = 0; i < message->msg_iovlen; i++)
        size += message->msg_iov[i].iov_len;
    return size;
}

static void sent(struct op *op, int result, unsigned flags)
{
    struct link *link = (struct link *)((char *)op - offsetof(struct link, out.send));
    struct link_outgoing *out = &link->out;
    size_t wanted = message_size(&out->message);
    out->message.msg_iov = NULL;
    out->send_waits = result < 0 || (size_t)result < wanted;
    if (!operation_ended(link))
        return;
    if (result < 0 && result != -EINTR && result != -EAGAIN) {
        link_outgoing_lost(link, strerror(-result));
        return;
    }
    iscsi_initiator_sent(&out->session, result > 0 ? (size_t)result : 0);
    if (out->pending == 0)
        go_on(link, false);
    else
        flush(link);
}

static void connected(struct op *op, int result, unsigned flags)
{
    struct link *link = (struct link *)((char *)op - offsetof(struct link, out.connect));
    struct link_outgoing *out = &link->out;
    if (!operation_ended(link))
        return;
    if (result < 0) {
        link_outgoing_lost(link, strerror(-result));
        return;
    }
    out->connected = true;
    out->input_end = 0;
    out->send_waits = false;
    socket_to_peer(out->descriptor);
    iscsi_initiator_start(&out->session, &out->login);
    receive(link, true);
    flush(link);
}

static void connect_now(struct link *link)
{
    struct link_outgoing *out = &link->out;
    const struct address *address = &link->config->controllers[link->peer].link;
    socklen_t size = socket_address(address, &out->address);
    out->since_us = link->loop->now_us;
    out->descriptor = socket_for(address, 0);
    if (out->descriptor < 0) {
        snprintf(link->error, sizeof link->error, "no socket: %s", strerror(errno));
        loop_timer_set(link->loop, &out->retry, link->loop->now_us + LINK_RETRY_MOST_MS * 1000ull);
        return;
    }
    struct io_uring_sqe *sqe = loop_sqe(link->loop);
    io_uring_prep_connect(sqe, out->descriptor, (struct sockaddr *)&out->address, size);
    loop_own(sqe, &out->connect);
    out->pending++;
}

static void retry(struct timer *timer)
{
    connect_now((struct link *)((char *)timer - offsetof(struct link, out.retry)));
}

static void login_config(struct link *link)
{
    struct iscsi_login_config *login = &link->out.login;
    *login = (struct iscsi_login_config){
        .initiator_name = link->initiator_names[link->self],
        .target_name = link->target_name,
        .isid = {0x80},
        .first_sn = 1,
        .wish = iscsi_params_wish(),
        .crypto = &link->crypto,
    };
    CHECK(RAND_bytes(login->isid + 1, 3) ==
          1); /* RFC 7143 11.12.5: 24 random bits, then a qualifier */
    if (link->config->secret[0]) {
        login->self = (struct iscsi_identity){link->initiator_names[link->self],
                                              link->secrets[link->self][0]};
        login->peer = (struct iscsi_identity){link->initiator_names[link->peer],
                                              link->secrets[link->peer][1]};
    }
    const char *wrong = iscsi_login_config_check(login, ISCSI_INITIATOR);
    if (wrong)
        log_say(LOG_ERROR, "link: %s", wrong);
    CHECK(!wrong);
}

void link_outgoing_start(struct link *link)
{
    struct link_outgoing *out = &link->out;
    out->connect.done = connected;
    out->receive.done = received;
    out->send.done = sent;
    out->retry.fire = retry;
    out->retry_ms = LINK_RETRY_LEAST_MS;
    login_config(link);
    connect_now(link);
}

void link_send(struct link *link, const struct send_action *action)
{
    struct link_outgoing *out = &link->out;
    CHECK(out->up);
    if (out->closing)
        return; /* the core hears of the loss as soon as the kernel is done */
    CHECK(action->length_bytes <= LINK_MESSAGE_MOST);
    iscsi_initiator_command(&out->session, action->buffer_id, action->iov, action->iov_count,
                            action->length_bytes);
    flush(link);
}

void link_reset(struct link *link)
{
    if (link->out.descriptor >= 0)
        link_outgoing_lost(link, "this controller begins again");
}
