/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Sessions that the peer makes to us. At most one is logged in: the newest, because a peer that
 * logs in again has lost the old one. At most one message is with the core; others wait unread. A
 * small batch is handed over where it was received, the data of a large one are received where they
 * are assembled. */

#include "shell/link.h"

#include "shell/log.h"
#include "shell/socket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_open(const struct link_incoming *incoming)
{
    return incoming->descriptor >= 0 && !incoming->closing;
}

static void incoming_free(struct link_incoming *incoming)
{
    close(incoming->descriptor);
    incoming->descriptor = -1;
    incoming->closing = incoming->logged_in = false;
}

static void incoming_close(struct link_incoming *incoming, const char *why)
{
    if (incoming->closing)
        return;
    if (why) {
        if (!incoming->logged_in)
            incoming->link->refused++;
        log_say(LOG_WARNING, "link: session from %s ended: %s", incoming->who, why);
    }
    if (incoming->link->owed == incoming)
        incoming->link->owed = NULL; /* the core's answer goes nowhere */
    incoming->closing = true;
    shutdown(incoming->descriptor, SHUT_RDWR);
    if (incoming->pending == 0)
        incoming_free(incoming);
}

static bool operation_ended(struct link_incoming *incoming)
{
    CHECK(incoming->pending > 0);
    incoming->pending--;
    if (incoming->closing && incoming->pending == 0)
        incoming_free(incoming);
    return is_open(incoming);
}

void link_incoming_flush(struct link_incoming *incoming)
{
    if (!is_open(incoming) || incoming->sending)
        return;
    struct iovec *iov;
    uint32_t count = iscsi_link_target_output(&incoming->session, &iov);
    if (count == 0)
        return;
    incoming->send_message = (struct msghdr){.msg_iov = iov, .msg_iovlen = count};
    struct io_uring_sqe *sqe = loop_sqe(incoming->link->loop);
    io_uring_prep_sendmsg(sqe, incoming->descriptor, &incoming->send_message, MSG_NOSIGNAL);
    if (!incoming->send_waits)
        loop_send_now(incoming->link->loop, sqe);
    loop_own(sqe, &incoming->send);
    incoming->sending = true;
    incoming->pending++;
}

static bool is_receiving(const struct link_incoming *incoming)
{
    return incoming->pending > (incoming->sending ? 1u : 0u);
}

static void receive(struct link_incoming *incoming, bool poll_first)
{
    if (is_receiving(incoming))
        return;
    uint32_t left = incoming->input_end - incoming->input_start;
    memmove(incoming->input, incoming->input + incoming->input_start, left);
    incoming->input_start = 0;
    incoming->input_end = left;
    uint8_t *place = NULL;
    uint32_t wanted = left == 0 ? iscsi_link_target_wants(&incoming->session, &place) : 0;
    struct io_uring_sqe *sqe = loop_sqe(incoming->link->loop);
    incoming->direct_bytes = wanted;
    if (wanted > 0) {
        incoming->receive_iov[0] = (struct iovec){place, wanted};
        incoming->receive_iov[1] = (struct iovec){incoming->input, LINK_IN_AFTER};
        incoming->receive_message =
            (struct msghdr){.msg_iov = incoming->receive_iov, .msg_iovlen = 2};
        io_uring_prep_recvmsg(sqe, incoming->descriptor, &incoming->receive_message, 0);
    } else {
        io_uring_prep_recv(sqe, incoming->descriptor, incoming->input + left, LINK_IN_INPUT - left,
                           0);
    }
    if (poll_first)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    loop_own(sqe, &incoming->receive);
    incoming->pending++;
}

static void on_logged_in(struct link_incoming *incoming)
{
    struct link *link = incoming->link;
    incoming->logged_in = true;
    log_say(LOG_INFO, "link: the peer has logged in%s",
            incoming->session.login.authenticated ? ", authenticated" : "");
    for (int i = 0; i < LINK_INCOMING_LIMIT; i++) {
        struct link_incoming *other = &link->in[i];
        if (other != incoming && other->descriptor >= 0 && other->logged_in)
            incoming_close(other, "the peer has logged in again");
    }
}

static void on_command(struct link_incoming *incoming)
{
    struct link *link = incoming->link;
    const struct iscsi_link_command *command = &incoming->session.command;
    CHECK(!link->owes);
    link->owes = true;
    link->owed = incoming;
    array_on_message(link->array, link->loop->now_us, command->buffer_id, command->data,
                     command->length);
}

static void on_event(struct link_incoming *incoming, enum iscsi_link_event event)
{
    switch (event) {
    case ISCSI_LINK_LOGGED_IN:
        on_logged_in(incoming);
        break;
    case ISCSI_LINK_COMMAND:
        on_command(incoming);
        break;
    case ISCSI_LINK_CLOSED:
    case ISCSI_LINK_FAILED:
        /* What is left to say (a login's refusal, a reject) is sent before the connection is
         * closed, if it fits. */
        {
            struct iovec *iov;
            if (!incoming->sending && iscsi_link_target_output(&incoming->session, &iov) > 0 &&
                send(incoming->descriptor, iov->iov_base, iov->iov_len,
                     MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
                log_say(LOG_INFO, "link: the last answer could not be sent: %s", strerror(errno));
        }
        incoming_close(incoming,
                       event == ISCSI_LINK_FAILED ? incoming->session.reason : "logged out");
        break;
    case ISCSI_LINK_MORE:
    case ISCSI_LINK_STATUS:
        break;
    }
}

/* Whether the connection is for the link, by the first Login Request. One that is for the shipping
 * of requests is handed over; what is not yet known is waited for. */
static bool sort(struct link_incoming *incoming)
{
    struct ship *ship = incoming->link->ship;
    int wanted = ship ? ship_is_wanted(ship, incoming->input, incoming->input_end) : 0;
    if (wanted < 0) {
        receive(incoming, true);
        return false;
    }
    incoming->sorted = true;
    if (wanted == 0)
        return true;
    int descriptor = incoming->descriptor;
    CHECK(incoming->pending == 0);
    incoming->descriptor = -1;
    ship_take(ship, descriptor, incoming->input, incoming->input_end);
    return false;
}

/* Feed what has arrived, as far as it goes; then send, and receive more. While the core has a
 * message, nothing is fed. */
static void go_on(struct link_incoming *incoming, bool poll_first)
{
    struct link *link = incoming->link;
    bool fed = false;
    if (!incoming->sorted && !is_receiving(incoming) && !sort(incoming))
        return;
    while (is_open(incoming) && !link->owes && !is_receiving(incoming)) {
        enum iscsi_link_event event;
        uint32_t size = incoming->input_end - incoming->input_start;
        size_t taken = iscsi_link_target_feed(
            &incoming->session, incoming->input + incoming->input_start, size, &event);
        incoming->input_start += (uint32_t)taken;
        fed = true;
        if (event != ISCSI_LINK_MORE)
            on_event(incoming, event);
        else if (taken == 0 || incoming->input_start == incoming->input_end)
            break;
    }
    if (!is_open(incoming))
        return;
    link_incoming_flush(incoming);
    if (link->owes || !fed)
        return; /* link_reply() goes on */
    if (incoming->input_start != incoming->input_end && incoming->sending)
        return; /* it waits for room in the output; sent() goes on */
    if (incoming->input_end - incoming->input_start == LINK_IN_INPUT)
        incoming_close(incoming, "it sends what is not taken");
    else
        receive(incoming, poll_first);
}

void link_incoming_go_on(struct link_incoming *incoming)
{
    if (is_receiving(incoming))
        link_incoming_flush(incoming);
    else
        go_on(incoming, true);
}

static void received(struct op *op, int result, unsigned flags)
{
    struct link_incoming *incoming = (struct link_incoming *)op;
    if (!operation_ended(incoming))
        return;
    if (result <= 0 && result != -EINTR && result != -EAGAIN) {
        incoming_close(incoming, result == 0 ? "the connection was closed" : strerror(-result));
        return;
    }
    uint32_t got = result > 0 ? (uint32_t)result : 0;
    uint32_t direct = min_u32(got, incoming->direct_bytes);
    if (direct > 0)
        iscsi_link_target_filled(&incoming->session, direct);
    incoming->input_end += got - direct;
    go_on(incoming, !(flags & IORING_CQE_F_SOCK_NONEMPTY));
}

static void sent(struct op *op, int result, unsigned flags)
{
    struct link_incoming *incoming =
        (struct link_incoming *)((char *)op - offsetof(struct link_incoming, send));
    incoming->sending = false;
    incoming->send_waits = result < 0 || (size_t)result < incoming->send_message.msg_iov->iov_len;
    if (!operation_ended(incoming))
        return;
    if (result < 0 && result != -EINTR && result != -EAGAIN) {
        incoming_close(incoming, strerror(-result));
        return;
    }
    iscsi_link_target_sent(&incoming->session, result > 0 ? (size_t)result : 0);
    if (is_receiving(incoming))
        link_incoming_flush(incoming);
    else
        go_on(incoming, false);
}

/* ---- accepting ---- */

static void login_config(struct link_incoming *incoming)
{
    struct link *link = incoming->link;
    struct iscsi_login_config *login = &incoming->login;
    *login = (struct iscsi_login_config){
        .initiator_name = link->initiator_names[link->peer],
        .target_name = link->target_name,
        .tsih = (uint16_t)(incoming->number % UINT16_MAX + 1),
        .portal_group_tag = 1,
        .first_sn = 1,
        .wish = iscsi_params_wish(),
        .crypto = &link->crypto,
    };
    if (link->config->secret[0]) {
        login->self = (struct iscsi_identity){link->initiator_names[link->self],
                                              link->secrets[link->self][1]};
        login->peer = (struct iscsi_identity){link->initiator_names[link->peer],
                                              link->secrets[link->peer][0]};
    }
    const char *wrong = iscsi_login_config_check(login, ISCSI_TARGET);
    if (wrong)
        log_say(LOG_ERROR, "link: %s", wrong);
    CHECK(!wrong);
}

static void session_start(struct link *link, int descriptor)
{
    static uint64_t number;
    struct link_incoming *incoming = NULL;
    for (int i = 0; i < LINK_INCOMING_LIMIT && !incoming; i++)
        if (link->in[i].descriptor < 0)
            incoming = &link->in[i];
    if (!incoming) {
        log_say(LOG_WARNING, "link: too many sessions at a time; one more was refused");
        link->refused++;
        close(descriptor);
        return;
    }
    if (!incoming->input) {
        incoming->input = malloc(LINK_IN_INPUT);
        incoming->assembly =
            aligned_alloc(PAGE_SIZE_BYTES, (LINK_MESSAGE_MOST + PAGE_SIZE_BYTES - 1) &
                                               ~(size_t)(PAGE_SIZE_BYTES - 1));
        CHECK(incoming->input);
        CHECK(incoming->assembly);
    }
    incoming->descriptor = descriptor;
    incoming->since_us = link->loop->now_us;
    incoming->number = ++number;
    incoming->input_start = incoming->input_end = 0;
    incoming->send_waits = incoming->sending = incoming->sorted = false;
    socket_peer_text(descriptor, incoming->who);
    socket_to_peer(descriptor);
    login_config(incoming);
    iscsi_link_target_start(&incoming->session, &incoming->login, incoming->assembly,
                            LINK_MESSAGE_MOST);
    receive(incoming, true);
}

static void accept_more(struct link *link)
{
    struct io_uring_sqe *sqe = loop_sqe(link->loop);
    io_uring_prep_multishot_accept(sqe, link->listener, NULL, NULL, SOCK_CLOEXEC);
    loop_own(sqe, &link->accept);
}

static void retry_accept(struct timer *timer)
{
    accept_more((struct link *)((char *)timer - offsetof(struct link, accept_retry)));
}

static void accepted(struct op *op, int result, unsigned flags)
{
    struct link *link = (struct link *)((char *)op - offsetof(struct link, accept));
    if (result >= 0)
        session_start(link, result);
    else
        log_say(LOG_WARNING, "link: cannot accept: %s", strerror(-result));
    if (!(flags & IORING_CQE_F_MORE))
        loop_timer_set(link->loop, &link->accept_retry,
                       link->loop->now_us + (result < 0 ? LINK_SWEEP_MS * 1000ull : 0));
}

void link_incoming_sweep(struct link *link)
{
    for (int i = 0; i < LINK_INCOMING_LIMIT; i++) {
        struct link_incoming *incoming = &link->in[i];
        if (incoming->descriptor >= 0 && !incoming->closing && !incoming->logged_in &&
            link->loop->now_us - incoming->since_us > LINK_LOGIN_MS * 1000ull)
            incoming_close(incoming, "it does not finish the login");
    }
}

void link_incoming_start(struct link *link)
{
    for (int i = 0; i < LINK_INCOMING_LIMIT; i++) {
        link->in[i].link = link;
        link->in[i].descriptor = -1;
        link->in[i].receive.done = received;
        link->in[i].send.done = sent;
    }
    link->accept.done = accepted;
    link->accept_retry.fire = retry_accept;
    accept_more(link);
}
