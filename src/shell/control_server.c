/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Operators at the control socket. A few at a time, one bounded line each; who says nothing is sent
 * away. A question that the core answers later keeps its connection open until then; the connection
 * may go first. */

#include "shell/control_server.h"

#include "shell/controller.h"
#include "shell/log.h"
#include "shell/socket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void connection_free_if_idle(struct control_connection *connection)
{
    if (!connection->closing || connection->receiving || connection->sending)
        return;
    close(connection->descriptor);
    free(connection->reply);
    connection->reply = NULL;
    connection->descriptor = -1;
}

static void connection_close(struct control_connection *connection)
{
    connection->closing = true;
    shutdown(connection->descriptor, SHUT_RDWR);
    connection_free_if_idle(connection);
}

static void send_on(struct control_connection *connection)
{
    struct io_uring_sqe *sqe = loop_sqe(connection->server->loop);
    io_uring_prep_send(sqe, connection->descriptor, connection->reply + connection->reply_sent,
                       connection->reply_size - connection->reply_sent, MSG_NOSIGNAL);
    loop_own(sqe, &connection->send);
    connection->sending = true;
}

/* `line` is handed over. */
static void answer(struct control_connection *connection, char *line)
{
    if (!line) {
        connection_close(connection);
        return;
    }
    CHECK(!connection->reply);
    connection->reply = line;
    connection->reply_size = strlen(line);
    connection->reply_sent = 0;
    connection->asked = connection->stopping = false;
    send_on(connection);
}

static void sent(struct op *op, int result, unsigned flags)
{
    struct control_connection *connection =
        (struct control_connection *)((char *)op - offsetof(struct control_connection, send));
    connection->sending = false;
    connection->reply_sent += result > 0 ? (size_t)result : 0;
    if (result > 0 && !connection->closing && connection->reply_sent < connection->reply_size)
        send_on(connection);
    else
        connection_close(connection);
}

static void move_volume(struct control_connection *connection,
                        const struct control_request *request)
{
    struct controller *controller = connection->server->controller;
    int volume = config_volume_by_name(controller->config, request->volume);
    if (volume < 0) {
        char text[TRACE_LINE];
        snprintf(text, sizeof text, "there is no volume %s", request->volume);
        answer(connection, control_format_reply(false, text));
        return;
    }
    connection->asked = true;
    array_operator_move(controller->array, controller->loop.now_us, connection->handle,
                        (uint8_t)volume, request->to);
}

static void act_on_group(struct control_connection *connection,
                         const struct control_request *request)
{
    struct controller *controller = connection->server->controller;
    uint32_t group = 0;
    while (group < controller->config->group_count &&
           strcmp(controller->config->groups[group].name, request->group) != 0)
        group++;
    if (group == controller->config->group_count) {
        char text[TRACE_LINE];
        snprintf(text, sizeof text, "there is no group %s", request->group);
        answer(connection, control_format_reply(false, text));
        return;
    }
    connection->asked = true;
    if (request->cut > 0)
        array_operator_failover(controller->array, controller->loop.now_us, connection->handle,
                                (uint8_t)group, request->cut, request->force);
    else
        array_operator_group(controller->array, controller->loop.now_us, connection->handle,
                             (uint8_t)group, request->action, request->force);
}

static void perform(struct control_connection *connection, const struct control_request *request)
{
    struct controller *controller = connection->server->controller;
    switch (request->command) {
    case CONTROL_STATUS:
        answer(connection, controller_status_line(controller));
        break;
    case CONTROL_MOVE:
        move_volume(connection, request);
        break;
    case CONTROL_STOP:
        connection->stopping = true;
        controller_stop(controller);
        break;
    case CONTROL_ACCEPT_LOSS:
        connection->asked = true;
        array_operator_accept_loss(controller->array, controller->loop.now_us, connection->handle,
                                   request->peer_is_dead);
        break;
    case CONTROL_GROUP:
        act_on_group(connection, request);
        break;
    }
}

static void receive(struct control_connection *connection)
{
    struct io_uring_sqe *sqe = loop_sqe(connection->server->loop);
    io_uring_prep_recv(sqe, connection->descriptor, connection->line + connection->used,
                       sizeof connection->line - connection->used, 0);
    loop_own(sqe, &connection->receive);
    connection->receiving = true;
}

static void received(struct op *op, int result, unsigned flags)
{
    struct control_connection *connection = (struct control_connection *)op;
    connection->receiving = false;
    if (result <= 0 || connection->closing) {
        connection_close(connection);
        return;
    }
    connection->used += (uint32_t)result;
    char *end = memchr(connection->line, '\n', connection->used);
    if (!end && connection->used < sizeof connection->line) {
        receive(connection);
        return;
    }
    struct control_request request;
    char why[TRACE_LINE] = "the request is too long";
    if (end &&
        control_parse_request(connection->line, (size_t)(end - connection->line), &request, why))
        perform(connection, &request);
    else
        answer(connection, control_format_reply(false, why));
}

void control_server_reply(struct control_server *server, const struct operator_reply *reply)
{
    for (int i = 0; i < CONTROL_CONNECTION_LIMIT; i++) {
        struct control_connection *connection = &server->connections[i];
        if (connection->descriptor >= 0 && connection->asked &&
            connection->handle == reply->handle && !connection->closing)
            answer(connection, control_format_reply(reply->done, reply->text));
    }
}

/* What a clean stop has left behind: the core's reason tells one end from the other. */
static const char *stopped_text(struct controller *controller)
{
    array_status(controller->array, controller->loop.now_us, &controller->status);
    if (strstr(controller->status.reason, "peer goes on"))
        return "stopped: the other controller goes on";
    if (strstr(controller->status.reason, "stores hold everything"))
        return "stopped: everything is on the stores";
    return "stopped: this controller served nothing";
}

void control_server_stopped(struct control_server *server)
{
    const char *text = stopped_text(server->controller);
    log_say(LOG_INFO, "%s", text);
    for (int i = 0; i < CONTROL_CONNECTION_LIMIT; i++) {
        struct control_connection *connection = &server->connections[i];
        if (connection->descriptor >= 0 && connection->stopping && !connection->closing)
            answer(connection, control_format_reply(true, text));
    }
}

/* ---- accepting ---- */

static void accept_more(struct control_server *server)
{
    struct io_uring_sqe *sqe = loop_sqe(server->loop);
    io_uring_prep_multishot_accept(sqe, server->listener, NULL, NULL, SOCK_CLOEXEC);
    loop_own(sqe, &server->accept);
}

static void retry_accept(struct timer *timer)
{
    accept_more(
        (struct control_server *)((char *)timer - offsetof(struct control_server, accept_retry)));
}

static void accepted(struct op *op, int result, unsigned flags)
{
    struct control_server *server =
        (struct control_server *)((char *)op - offsetof(struct control_server, accept));
    struct control_connection *connection = NULL;
    for (int i = 0; result >= 0 && i < CONTROL_CONNECTION_LIMIT && !connection; i++)
        if (server->connections[i].descriptor < 0)
            connection = &server->connections[i];
    if (connection) {
        *connection = (struct control_connection){
            .receive.done = received,
            .send.done = sent,
            .server = server,
            .descriptor = result,
            .since_us = server->loop->now_us,
            .handle = ++server->next_handle,
        };
        receive(connection);
    } else if (result >= 0) {
        log_say(LOG_WARNING, "control socket: %d operators are connected, one more was refused",
                CONTROL_CONNECTION_LIMIT);
        close(result);
    }
    if (!(flags & IORING_CQE_F_MORE))
        loop_timer_set(server->loop, &server->accept_retry,
                       server->loop->now_us + (result < 0 ? 100000 : 0));
}

static void sweep(struct timer *timer)
{
    struct control_server *server =
        (struct control_server *)((char *)timer - offsetof(struct control_server, sweep));
    for (int i = 0; i < CONTROL_CONNECTION_LIMIT; i++) {
        struct control_connection *connection = &server->connections[i];
        if (connection->descriptor >= 0 && !connection->closing && !connection->asked &&
            !connection->stopping &&
            server->loop->now_us - connection->since_us > CONTROL_ASK_MS * 1000ull)
            connection_close(connection);
    }
    loop_timer_set(server->loop, timer, server->loop->now_us + 1000000);
}

const char *control_server_start(struct control_server *server, struct controller *controller,
                                 char why[TRACE_LINE])
{
    memset(server, 0, sizeof *server);
    server->controller = controller;
    server->loop = &controller->loop;
    for (int i = 0; i < CONTROL_CONNECTION_LIMIT; i++)
        server->connections[i].descriptor = -1;
    server->address.kind = ADDRESS_UNIX;
    config_control_path(controller->config, controller->self, server->address.path);
    snprintf(server->address.text, sizeof server->address.text, "unix:%s", server->address.path);
    server->listener = socket_listen(&server->address, why);
    if (server->listener < 0)
        return why;
    server->accept.done = accepted;
    server->accept_retry.fire = retry_accept;
    server->sweep.fire = sweep;
    accept_more(server);
    loop_timer_set(server->loop, &server->sweep, server->loop->now_us + 1000000);
    return NULL;
}

void control_server_close(struct control_server *server)
{
    if (server->address.path[0])
        unlink(server->address.path);
}
