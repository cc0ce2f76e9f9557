/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Listeners, the table of requests in the core, and whose turn it is. Connections that find no free
 * slot or buffer wait in one line and go on in that order, each for a bounded number of steps, so
 * none starves. Every reply of a burst leaves at its end, one send a connection. */

#include "shell/nbd_connection.h"

#include "shell/log.h"
#include "shell/socket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- slots and turns ---- */

bool nbd_server_has_room(const struct nbd_server *server)
{
    return server->free_slot != NO_INDEX && buffers_have_room(&server->buffers);
}

uint32_t nbd_server_take_slot(struct nbd_server *server, struct nbd_connection *connection)
{
    uint32_t index = server->free_slot;
    CHECK(index != NO_INDEX);
    struct nbd_slot *slot = &server->slots[index];
    server->free_slot = slot->next_free;
    server->slots_used++;
    slot->connection = connection;
    slot->buffer = NULL;
    return index;
}

void nbd_server_free_slot(struct nbd_server *server, uint32_t index)
{
    struct nbd_slot *slot = &server->slots[index];
    CHECK(slot->connection);
    if (slot->buffer)
        buffer_give(&server->buffers, slot->buffer);
    slot->buffer = NULL;
    slot->connection = NULL;
    slot->next_free = server->free_slot;
    server->free_slot = index;
    server->slots_used--;
}

void nbd_server_wait(struct nbd_server *server, struct nbd_connection *connection)
{
    if (connection->is_waiting)
        return;
    connection->is_waiting = true;
    connection->next_waiting = NULL;
    if (server->waiting_last)
        server->waiting_last->next_waiting = connection;
    else
        server->waiting_first = connection;
    server->waiting_last = connection;
}

void nbd_server_dirty(struct nbd_server *server, struct nbd_connection *connection)
{
    if (connection->is_dirty)
        return;
    connection->is_dirty = true;
    connection->next_dirty = server->dirty;
    server->dirty = connection;
}

static bool serve_waiting(struct nbd_server *server)
{
    bool any = false;
    /* Once round the line at most: who finds no room again stands at its end. */
    struct nbd_connection *last = server->waiting_last;
    while (server->waiting_first && nbd_server_has_room(server)) {
        struct nbd_connection *connection = server->waiting_first;
        server->waiting_first = connection->next_waiting;
        if (!server->waiting_first)
            server->waiting_last = NULL;
        connection->is_waiting = false;
        any = true;
        if (connection->closing)
            nbd_server_dirty(server, connection);
        else
            nbd_connection_process(connection);
        if (connection == last)
            break;
    }
    return any;
}

bool nbd_server_flush(struct nbd_server *server)
{
    bool any = serve_waiting(server);
    server->abandoned = false;
    struct nbd_connection *connection = server->dirty;
    server->dirty = NULL;
    while (connection) {
        struct nbd_connection *next = connection->next_dirty;
        connection->is_dirty = false;
        nbd_connection_flush(connection); /* may free it */
        connection = next;
    }
    return any || server->abandoned;
}

void nbd_server_complete(struct nbd_server *server, uint64_t handle, enum host_result result)
{
    CHECK(handle < server->slot_count);
    CHECK(server->slots[handle].connection);
    nbd_connection_answer(server->slots[handle].connection, (uint32_t)handle, result);
}

/* ---- who serves what ---- */

void nbd_server_refresh_owners(struct nbd_server *server)
{
    for (uint32_t i = 0; i < server->config->volume_count; i++) {
        int owner = array_owner(server->array, (uint8_t)i);
        int other = 1 - server->controller;
        /* What the peer owns is shipped to it; between owners requests wait. */
        bool served = array_service(server->array, (uint8_t)i) != ARRAY_UNSERVED;
        enum array_hosts hosts = array_hosts(server->array, (uint8_t)i);
        const struct config_group *group = config_group_of(server->config, i);
        server->owners[i].served = served;
        server->owners[i].read_only = hosts == ARRAY_HOSTS_READ_ONLY;
        if (group && hosts == ARRAY_HOSTS_REFUSED) {
            server->owners[i].served = false;
            server->owners[i].refusal = server->group_refusals[group - server->config->groups];
            continue;
        }
        server->owners[i].refusal = served       ? NULL
                                    : owner == 0 ? server->refusals[other]
                                                 : server->refusals[2];
    }
}

void nbd_server_say_refused(struct nbd_server *server, struct nbd_connection *connection)
{
    uint32_t volume = connection->nbd.refused_export;
    uint64_t now_us = server->loop->now_us;
    connection->nbd.refused_export = NO_INDEX;
    if (now_us < server->refused_say_us[volume]) {
        server->refused_unsaid[volume]++;
        return;
    }
    char who[ADDRESS_TEXT_SIZE], more[48] = "";
    socket_peer_text(connection->descriptor, who);
    if (server->refused_unsaid[volume] > 0)
        snprintf(more, sizeof more, " (and %u more since the last such line)",
                 server->refused_unsaid[volume]);
    log_say(LOG_WARNING, "volume %s: NBD client %s refused: %s%s",
            server->config->volumes[volume].name, who, server->owners[volume].refusal, more);
    server->refused_say_us[volume] = now_us + NBD_REFUSED_SAY_MS * 1000ull;
    server->refused_unsaid[volume] = 0;
}

static void write_refusals(struct nbd_server *server)
{
    for (int i = 0; i < CONTROLLER_COUNT; i++)
        snprintf(server->refusals[i], sizeof server->refusals[i],
                 "controller %s owns this volume now; connect to it at %.100s", controller_name(i),
                 server->config->controllers[i].nbd[0].text);
    snprintf(server->refusals[2], sizeof server->refusals[2],
             "no controller serves this volume now, as far as controller %s knows",
             controller_name(server->controller));
    for (uint32_t i = 0; i < server->config->group_count; i++)
        snprintf(server->group_refusals[i], sizeof server->group_refusals[i],
                 "group %.60s is in use at array %.60s, and this volume is its copy",
                 server->config->groups[i].name, server->config->groups[i].array);
}

/* ---- listeners ---- */

static void accept_more(struct nbd_listener *listener)
{
    struct io_uring_sqe *sqe = loop_sqe(listener->server->loop);
    io_uring_prep_multishot_accept(sqe, listener->descriptor, NULL, NULL, SOCK_CLOEXEC);
    loop_own(sqe, &listener->op);
}

static void retry_accept(struct timer *timer)
{
    accept_more((struct nbd_listener *)((char *)timer - offsetof(struct nbd_listener, retry)));
}

static void accepted(struct op *op, int result, unsigned flags)
{
    struct nbd_listener *listener = (struct nbd_listener *)op;
    struct nbd_server *server = listener->server;
    bool more = flags & IORING_CQE_F_MORE;
    if (server->stopping) {
        if (result >= 0)
            close(result);
        return;
    }
    if (result >= 0 && server->connection_count >= NBD_CONNECTION_LIMIT) {
        server->refused++;
        log_say(LOG_WARNING, "NBD connection at %s refused: %d are open, which is the limit",
                listener->address->text, NBD_CONNECTION_LIMIT);
        close(result);
    } else if (result >= 0) {
        nbd_connection_start(server, result);
    } else if (result != -ECONNABORTED && result != -EINTR && result != -EAGAIN) {
        server->refused++;
        log_say(LOG_WARNING, "NBD connection at %s refused: %s", listener->address->text,
                strerror(-result));
        if (!more)
            loop_timer_set(server->loop, &listener->retry,
                           server->loop->now_us + NBD_ACCEPT_RETRY_MS * 1000ull);
        return;
    }
    if (!more)
        accept_more(listener);
}

static void sweep(struct timer *timer)
{
    struct nbd_server *server =
        (struct nbd_server *)((char *)timer - offsetof(struct nbd_server, sweep));
    uint64_t now_us = server->loop->now_us;
    bool short_of_memory = !buffers_have_room(&server->buffers);
    for (struct nbd_connection *c = server->connections; c; c = c->next) {
        if (c->closing)
            continue;
        if (c->draining && now_us - c->since_us > NBD_DRAIN_MS * 1000ull && c->requests == 0)
            nbd_connection_close(c, "it does not take its last replies");
        else if (c->nbd.export_index == NO_INDEX &&
                 now_us - c->since_us > NBD_HANDSHAKE_MS * 1000ull)
            nbd_connection_close(c, "it does not finish the negotiation");
        else if (c->sending && short_of_memory && now_us - c->sent_us > NBD_STUCK_MS * 1000ull)
            nbd_connection_close(c,
                                 "it does not take its replies while others wait for their memory");
    }
    loop_timer_set(server->loop, timer, now_us + NBD_SWEEP_MS * 1000ull);
}

const char *nbd_server_start(struct nbd_server *server, struct loop *loop, struct array *array,
                             const struct stores *stores, const struct config *config,
                             int controller, char why[TRACE_LINE])
{
    memset(server, 0, sizeof *server);
    server->loop = loop;
    server->array = array;
    server->stores = stores;
    server->config = config;
    server->controller = controller;
    const struct config_controller *own = &config->controllers[controller];
    server->slot_count = own->request_limit;
    server->slots = calloc(server->slot_count, sizeof *server->slots);
    CHECK(server->slots);
    for (uint32_t i = 0; i < server->slot_count; i++)
        server->slots[i].next_free = i + 1 < server->slot_count ? i + 1 : NO_INDEX;
    for (uint32_t i = 0; i < config->volume_count; i++)
        server->exports[i] = (struct nbd_export){.name = config->volumes[i].name,
                                                 .size_bytes = config->volumes[i].size_bytes};
    write_refusals(server);
    for (uint32_t i = 0; i < own->nbd_count; i++) {
        struct nbd_listener *listener = &server->listeners[i];
        *listener = (struct nbd_listener){.op.done = accepted,
                                          .server = server,
                                          .retry.fire = retry_accept,
                                          .address = &own->nbd[i]};
        listener->descriptor = socket_listen(&own->nbd[i], why);
        if (listener->descriptor < 0)
            return why;
        accept_more(listener);
        log_say(LOG_INFO, "NBD at %s", own->nbd[i].text);
    }
    server->sweep.fire = sweep;
    loop_timer_set(loop, &server->sweep, loop->now_us + NBD_SWEEP_MS * 1000ull);
    return NULL;
}

void nbd_server_stop(struct nbd_server *server)
{
    if (server->stopping)
        return;
    server->stopping = true;
    const struct config_controller *own = &server->config->controllers[server->controller];
    for (uint32_t i = 0; i < own->nbd_count; i++) {
        loop_timer_clear(&server->listeners[i].retry);
        loop_cancel(server->loop, &server->listeners[i].op);
        if (own->nbd[i].kind == ADDRESS_UNIX)
            unlink(own->nbd[i].path);
    }
    for (struct nbd_connection *c = server->connections; c; c = c->next)
        nbd_connection_close(c, NULL);
}
