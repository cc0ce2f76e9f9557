/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What the core ships, to the peer: connect, log in, many commands at a time, and again after a
 * loss. The core hears of a loss only when the kernel no longer reads from or writes to any of the
 * requests' data. */

#include "shell/crypto.h"
#include "shell/log.h"
#include "shell/ship_session.h"
#include "shell/socket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct ship *ship_of(struct ship_outgoing *out)
{
    return (struct ship *)((char *)out - offsetof(struct ship, out));
}

static bool is_open(const struct ship_outgoing *out)
{
    return out->descriptor >= 0 && !out->closing;
}

static void outgoing_free(struct ship *ship)
{
    struct ship_outgoing *out = &ship->out;
    close(out->descriptor);
    out->descriptor = -1;
    out->closing = out->connected = false;
    loop_timer_set(ship->loop, &out->retry, ship->loop->now_us + out->retry_ms * 1000ull);
    out->retry_ms = min_u32(out->retry_ms * 2, SHIP_RETRY_MOST_MS);
    ship->counts.in_flight = 0;
    if (out->up) {
        out->up = false;
        array_on_ship_down(ship->array, ship->loop->now_us);
    }
}

static void lost(struct ship *ship, const char *why)
{
    struct ship_outgoing *out = &ship->out;
    if (out->closing || out->descriptor < 0)
        return;
    snprintf(ship->counts.error, sizeof ship->counts.error, "%s", why);
    if (strcmp(ship->said, why) != 0) {
        log_say(out->up ? LOG_WARNING : LOG_INFO, "ship: session to the peer at %s: %s",
                ship->config->controllers[ship->peer].link.text, why);
        snprintf(ship->said, sizeof ship->said, "%s", why);
    }
    out->closing = true;
    if (out->pending == 0)
        outgoing_free(ship);
    else if (out->connected)
        shutdown(out->descriptor, SHUT_RDWR);
    else
        loop_cancel(ship->loop, &out->connect);
}

/* An operation has ended. True: the session goes on. */
static bool operation_ended(struct ship *ship)
{
    CHECK(ship->out.pending > 0);
    ship->out.pending--;
    if (ship->out.closing && ship->out.pending == 0)
        outgoing_free(ship);
    return is_open(&ship->out);
}

void ship_outgoing_flush(struct ship *ship)
{
    struct ship_outgoing *out = &ship->out;
    if (!is_open(out) || !out->connected || out->sending)
        return;
    struct iovec *iov;
    uint32_t count = iscsi_ship_output(&out->session, &iov);
    if (count == 0)
        return;
    out->send_bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        out->send_bytes += iov[i].iov_len;
    out->send_message = (struct msghdr){.msg_iov = iov, .msg_iovlen = count};
    struct io_uring_sqe *sqe = loop_sqe(ship->loop);
    io_uring_prep_sendmsg(sqe, out->descriptor, &out->send_message, MSG_NOSIGNAL);
    if (!out->send_waits)
        loop_send_now(ship->loop, sqe);
    loop_own(sqe, &out->send);
    out->sending = true;
    out->pending++;
}

static bool is_receiving(const struct ship_outgoing *out)
{
    return out->pending > (out->sending ? 1u : 0u);
}

static void receive(struct ship *ship)
{
    struct ship_outgoing *out = &ship->out;
    if (is_receiving(out))
        return;
    uint32_t left = out->input_end - out->input_start;
    memmove(out->input, out->input + out->input_start, left);
    out->input_start = 0;
    out->input_end = left;
    uint8_t *place = NULL;
    uint32_t wanted = left == 0 ? iscsi_ship_wants(&out->session, &place) : 0;
    struct io_uring_sqe *sqe = loop_sqe(ship->loop);
    out->direct_bytes = wanted;
    if (wanted > 0) {
        out->receive_iov[0] = (struct iovec){place, wanted};
        out->receive_iov[1] = (struct iovec){out->input, SHIP_INPUT_AFTER};
        out->receive_message = (struct msghdr){.msg_iov = out->receive_iov, .msg_iovlen = 2};
        io_uring_prep_recvmsg(sqe, out->descriptor, &out->receive_message, 0);
    } else {
        io_uring_prep_recv(sqe, out->descriptor, out->input + left, SHIP_INPUT - left, 0);
    }
    if (out->poll_first)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    loop_own(sqe, &out->receive);
    out->pending++;
}

static void on_status(struct ship *ship)
{
    const struct iscsi_ship_done *done = &ship->out.session.done;
    enum host_result result;
    uint64_t detail;
    if (!ship_decode_result(done->status, done->sense, done->sense_bytes, &result, &detail) ||
        (result == HOST_OK && (done->overflow || done->underflow))) {
        char why[TRACE_LINE];
        snprintf(why, sizeof why, "the peer answered a request with status %02x that is not known",
                 done->status);
        lost(ship, why);
        return;
    }
    ship->counts.in_flight--;
    ship->counts.shipped++;
    array_on_shipped(ship->array, ship->loop->now_us, done->itt, result, detail);
}

static void on_event(struct ship *ship, enum iscsi_ship_event event)
{
    struct ship_outgoing *out = &ship->out;
    switch (event) {
    case ISCSI_SHIP_MORE:
        break;
    case ISCSI_SHIP_LOGGED_IN:
        out->up = true;
        out->retry_ms = SHIP_RETRY_LEAST_MS;
        ship->counts.error[0] = ship->said[0] = '\0';
        ship->counts.logins++;
        log_say(LOG_INFO, "ship: logged in at the peer%s",
                ship->config->secret[0] ? ", authenticated both ways" : "");
        array_on_ship_up(ship->array, ship->loop->now_us, ship_session_name(out->login.isid));
        break;
    case ISCSI_SHIP_STATUS:
        on_status(ship);
        break;
    case ISCSI_SHIP_CLOSED:
        lost(ship, "the peer ended the session");
        break;
    case ISCSI_SHIP_FAILED:
        lost(ship, out->session.reason);
        break;
    }
}

static void go_on(struct ship *ship)
{
    struct ship_outgoing *out = &ship->out;
    out->feed_waits = false;
    while (is_open(out) && !is_receiving(out)) {
        enum iscsi_ship_event event;
        uint32_t size = out->input_end - out->input_start;
        size_t taken = iscsi_ship_feed(&out->session, out->input + out->input_start, size, &event);
        out->input_start += (uint32_t)taken;
        if (event != ISCSI_SHIP_MORE) {
            on_event(ship, event);
            continue;
        }
        if (out->input_start == out->input_end)
            break;
        if (taken == 0) {
            out->feed_waits = true;
            break;
        }
    }
    if (is_open(out) && !out->feed_waits)
        receive(ship);
}

static void received(struct op *op, int result, unsigned flags)
{
    struct ship_outgoing *out =
        (struct ship_outgoing *)((char *)op - offsetof(struct ship_outgoing, receive));
    struct ship *ship = ship_of(out);
    if (!operation_ended(ship))
        return;
    if (result <= 0 && result != -EINTR && result != -EAGAIN) {
        lost(ship, result == 0 ? "the peer closed the connection" : strerror(-result));
        return;
    }
    uint32_t got = result > 0 ? (uint32_t)result : 0;
    uint32_t direct = min_u32(got, out->direct_bytes);
    out->poll_first = !(flags & IORING_CQE_F_SOCK_NONEMPTY);
    out->heard_us = ship->loop->now_us;
    if (direct > 0)
        iscsi_ship_filled(&out->session, direct);
    out->input_end += got - direct;
    go_on(ship);
}

static void sent(struct op *op, int result, unsigned flags)
{
    struct ship_outgoing *out =
        (struct ship_outgoing *)((char *)op - offsetof(struct ship_outgoing, send));
    struct ship *ship = ship_of(out);
    out->sending = false;
    if (!operation_ended(ship))
        return;
    if (result < 0 && result != -EINTR && result != -EAGAIN) {
        lost(ship, strerror(-result));
        return;
    }
    size_t size = result > 0 ? (size_t)result : 0;
    out->send_waits = size < out->send_bytes;
    iscsi_ship_sent(&out->session, size);
    /* A status may have waited for its command's last bytes to leave. */
    enum iscsi_ship_event event = ISCSI_SHIP_STATUS;
    while (is_open(out) && is_receiving(out) && event != ISCSI_SHIP_MORE) {
        iscsi_ship_feed(&out->session, NULL, 0, &event);
        on_event(ship, event);
    }
    if (is_open(out) && !is_receiving(out))
        go_on(ship);
}

/* Each login is a session of its own name. */
static void next_isid(uint8_t isid[6])
{
    for (int i = 3; i > 0 && ++isid[i] == 0; i--)
        ;
}

static void connected(struct op *op, int result, unsigned flags)
{
    struct ship_outgoing *out =
        (struct ship_outgoing *)((char *)op - offsetof(struct ship_outgoing, connect));
    struct ship *ship = ship_of(out);
    if (!operation_ended(ship))
        return;
    if (result < 0) {
        lost(ship, strerror(-result));
        return;
    }
    out->connected = true;
    out->input_start = out->input_end = 0;
    out->send_waits = out->feed_waits = false;
    out->poll_first = true;
    out->heard_us = ship->loop->now_us;
    socket_to_peer(out->descriptor);
    next_isid(out->login.isid);
    iscsi_ship_start(&out->session, &out->login);
    receive(ship);
}

static void connect_now(struct ship *ship)
{
    struct ship_outgoing *out = &ship->out;
    const struct address *address = &ship->config->controllers[ship->peer].link;
    socklen_t size = socket_address(address, &out->address);
    out->since_us = ship->loop->now_us;
    out->descriptor = socket_for(address, 0);
    if (out->descriptor < 0) {
        snprintf(ship->counts.error, sizeof ship->counts.error, "no socket: %s", strerror(errno));
        loop_timer_set(ship->loop, &out->retry, ship->loop->now_us + SHIP_RETRY_MOST_MS * 1000ull);
        return;
    }
    struct io_uring_sqe *sqe = loop_sqe(ship->loop);
    io_uring_prep_connect(sqe, out->descriptor, (struct sockaddr *)&out->address, size);
    loop_own(sqe, &out->connect);
    out->pending++;
}

static void retry(struct timer *timer)
{
    struct ship_outgoing *out =
        (struct ship_outgoing *)((char *)timer - offsetof(struct ship_outgoing, retry));
    connect_now(ship_of(out));
}

void ship_outgoing_sweep(struct ship *ship)
{
    struct ship_outgoing *out = &ship->out;
    uint64_t now_us = ship->loop->now_us;
    if (!is_open(out))
        return;
    if (!out->up) {
        if (now_us - out->since_us > SHIP_LOGIN_MS * 1000ull)
            lost(ship, out->connected ? "the login is not answered" : "it does not answer");
        return;
    }
    if (now_us < out->heard_us + SHIP_PING_MS * 1000ull)
        return;
    if (now_us > out->heard_us + SHIP_DEAD_MS * 1000ull && out->session.ping_pending)
        lost(ship, "the peer does not answer");
    else if (!out->session.ping_pending)
        iscsi_ship_ping(&out->session);
}

static void login_config(struct ship *ship)
{
    struct iscsi_login_config *login = &ship->out.login;
    *login = (struct iscsi_login_config){
        .initiator_name = ship->initiator_names[ship->self],
        .target_name = ship->target_name,
        .isid = {0x80},
        .first_sn = 1,
        .wish = iscsi_params_wish(),
        .crypto = &ship->crypto,
    };
    /* RFC 7143 11.12.5: 24 random bits, then a qualifier: the link's is 0. */
    CHECK(ship->crypto.random(ship->crypto.context, login->isid + 1, 3));
    login->isid[5] = 1;
    if (ship->config->secret[0]) {
        login->self = (struct iscsi_identity){ship->initiator_names[ship->self],
                                              ship->secrets[ship->self][0]};
        login->peer = (struct iscsi_identity){ship->initiator_names[ship->peer],
                                              ship->secrets[ship->peer][1]};
    }
    const char *wrong = iscsi_login_config_check(login, ISCSI_INITIATOR);
    if (wrong)
        log_say(LOG_ERROR, "ship: %s", wrong);
    CHECK(!wrong);
}

void ship_outgoing_start(struct ship *ship)
{
    struct ship_outgoing *out = &ship->out;
    out->descriptor = -1;
    out->connect.done = connected;
    out->receive.done = received;
    out->send.done = sent;
    out->retry.fire = retry;
    out->retry_ms = SHIP_RETRY_LEAST_MS;
    login_config(ship);
    connect_now(ship);
}

void ship_send(struct ship *ship, const struct ship_action *actions, uint32_t count)
{
    struct ship_outgoing *out = &ship->out;
    CHECK(out->up);
    if (out->closing)
        return; /* the core hears of the loss as soon as the kernel is done */
    for (uint32_t i = 0; i < count; i++) {
        const struct host_request *request = &actions[i].request;
        struct ship_command encoded;
        ship_encode(request, &encoded);
        struct iscsi_ship_command command = {.out_bytes = encoded.out_bytes,
                                             .in_bytes = encoded.in_bytes};
        memcpy(command.lun, encoded.lun, sizeof command.lun);
        memcpy(command.cdb, encoded.cdb, sizeof command.cdb);
        const void *parameters = ship_parameters(request);
        if (encoded.out_bytes > 0)
            command.out = parameters ? parameters : request->data;
        else if (encoded.in_bytes > 0)
            command.in = request->data;
        iscsi_ship_command(&out->session, actions[i].tag, &command);
        ship->counts.in_flight++;
    }
}

void ship_reset(struct ship *ship)
{
    lost(ship, "this controller begins again");
}

bool ship_flush(struct ship *ship)
{
    ship_outgoing_flush(ship);
    return ship_server_flush(ship);
}

/* ---- both halves ---- */

static bool names_and_secrets(struct ship *ship)
{
    static const char *const ends[] = {"initiator", "target"};
    const char *array_name = ship->config->name;
    snprintf(ship->target_name, SHIP_NAME_BYTES, CONFIG_TARGET_PREFIX "%s.ship", array_name);
    for (int i = 0; i < CONTROLLER_COUNT; i++) {
        snprintf(ship->initiator_names[i], SHIP_NAME_BYTES, CONFIG_TARGET_PREFIX "%s.%s",
                 array_name, controller_name(i));
        for (int end = 0; ship->config->secret[0] && end < 2; end++) {
            char label[32];
            snprintf(label, sizeof label, "%s ship %s", controller_name(i), ends[end]);
            if (!iscsi_chap_derive(&ship->crypto, ship->config->secret, label,
                                   ship->secrets[i][end]))
                return false;
        }
    }
    return true;
}

static void sweep(struct timer *timer)
{
    struct ship *ship = (struct ship *)((char *)timer - offsetof(struct ship, sweep));
    ship_outgoing_sweep(ship);
    ship_server_sweep(ship);
    loop_timer_set(ship->loop, timer, ship->loop->now_us + SHIP_SWEEP_MS * 1000ull);
}

const char *ship_start(struct ship **started, struct loop *loop, struct array *array,
                       const struct config *config, int self)
{
    struct ship *ship = calloc(1, sizeof *ship);
    CHECK(ship);
    ship->loop = loop;
    ship->array = array;
    ship->config = config;
    ship->self = self;
    ship->peer = 1 - self;
    ship->crypto = crypto_of_library();
    if (!names_and_secrets(ship)) {
        free(ship);
        return "the cryptographic library has no SHA-256";
    }
    for (uint32_t i = 0; i < SHIP_TASK_LIMIT; i++) {
        ship->tasks[i].index = i;
        ship->tasks[i].next_free = i + 1 < SHIP_TASK_LIMIT ? i + 1 : NO_INDEX;
    }
    ship->sweep.fire = sweep;
    loop_timer_set(loop, &ship->sweep, loop->now_us + SHIP_SWEEP_MS * 1000ull);
    ship_outgoing_start(ship);
    *started = ship;
    return NULL;
}

void ship_get_counts(const struct ship *ship, struct ship_counts *counts)
{
    *counts = ship->counts;
    counts->up = ship->out.up;
    counts->serving = ship->task_used;
}
