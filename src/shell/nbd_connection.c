/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Bytes of one NBD client to requests of the core, and completions to reply bytes. A READ that hits
 * is copied once, from the cache into the bytes that are sent; a WRITE once, from the bytes
 * received into the cache. It reads no more from a client that does not take its replies or while
 * the core has no room, and it outlives its socket until the core has given back every request of
 * it. */

#include "shell/nbd_connection.h"

#include "shell/log.h"
#include "shell/socket.h"
#include "shell/volume_map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- ending ---- */

static void free_if_idle(struct nbd_connection *connection)
{
    struct nbd_server *server = connection->server;
    if (!connection->closing || connection->receiving || connection->sending ||
        connection->requests > 0 || connection->is_dirty || connection->is_waiting)
        return;
    if (connection->direct != NO_INDEX)
        nbd_server_free_slot(server, connection->direct);
    if (connection->nbd.export_index != NO_INDEX)
        server->volume_connections[connection->nbd.export_index]--;
    close(connection->descriptor);
    output_free(&connection->output);
    free(connection->input);
    if (connection->previous)
        connection->previous->next = connection->next;
    else
        server->connections = connection->next;
    if (connection->next)
        connection->next->previous = connection->previous;
    server->connection_count--;
    free(connection);
}

void nbd_connection_close(struct nbd_connection *connection, const char *why)
{
    if (connection->closing)
        return;
    if (why) {
        char who[ADDRESS_TEXT_SIZE];
        socket_peer_text(connection->descriptor, who);
        log_say(LOG_WARNING, "NBD connection from %s closed: %s", who, why);
    }
    connection->closing = true;
    shutdown(connection->descriptor, SHUT_RDWR); /* ends what is under way on the socket */
    nbd_server_dirty(connection->server,
                     connection); /* freed at the end of the burst at the earliest */
}

static void drain(struct nbd_connection *connection)
{
    if (connection->draining)
        return;
    connection->draining = true;
    connection->since_us = connection->server->loop->now_us;
    nbd_server_dirty(connection->server, connection);
}

/* ---- replies ---- */

static void reply(struct nbd_connection *connection, uint16_t command, uint64_t cookie,
                  enum nbd_error error, const char *message)
{
    uint8_t *to = output_reserve(&connection->output, NBD_REPLY_BYTES);
    output_commit(&connection->output,
                  nbd_reply(&connection->nbd, to, command, cookie, error, message));
    nbd_server_dirty(connection->server, connection);
}

static void reply_result(struct nbd_connection *connection, uint16_t command, uint64_t cookie,
                         enum host_result result)
{
    struct nbd_server *server = connection->server;
    const char *message = NULL;
    if (result == HOST_NOT_OWNER || result == HOST_COPY) {
        server->volume_refused[connection->nbd.export_index]++;
        nbd_server_refresh_owners(server);
        message = server->owners[connection->nbd.export_index].refusal;
    }
    reply(connection, command, cookie, result == HOST_OK ? NBD_OK : nbd_error_of(result, command),
          message);
}

/* The data stand in the slot's buffer: sent from there, the header in the room before them. */
static void reply_read(struct nbd_connection *connection, struct nbd_slot *slot)
{
    size_t head = nbd_read_header_size(&connection->nbd);
    uint8_t *at = slot->buffer->data - head;
    nbd_reply_read_header(&connection->nbd, at, slot->cookie, slot->offset_bytes,
                          slot->length_bytes);
    output_put_buffer(&connection->output, slot->buffer, at, head + slot->length_bytes);
    slot->buffer = NULL;
    nbd_server_dirty(connection->server, connection);
}

void nbd_connection_answer(struct nbd_connection *connection, uint32_t index,
                           enum host_result result)
{
    struct nbd_server *server = connection->server;
    struct nbd_slot *slot = &server->slots[index];
    CHECK(connection->requests > 0);
    connection->requests--;
    if (connection->closing)
        nbd_server_dirty(server, connection);
    else if (slot->command == NBD_READ && result == HOST_OK)
        reply_read(connection, slot);
    else
        reply_result(connection, slot->command, slot->cookie, result);
    nbd_server_free_slot(server, index);
}

/* ---- requests ---- */

static struct host_outcome give_to_core(struct nbd_connection *connection, uint32_t index,
                                        const struct nbd_request *request, void *data)
{
    struct nbd_server *server = connection->server;
    connection->requests++;
    return array_host(server->array, server->loop->now_us,
                      &(struct host_request){
                          .handle = index,
                          .op = request->op,
                          .volume = (uint8_t)connection->nbd.export_index,
                          .flags = request->host_flags,
                          .offset_bytes = request->offset_bytes,
                          .length_bytes = request->length_bytes,
                          .data = data,
                      });
}

static struct buffer *slot_buffer(struct nbd_connection *connection, struct nbd_slot *slot)
{
    slot->buffer = buffer_take(&connection->server->buffers, slot->length_bytes);
    if (!slot->buffer)
        log_say(LOG_ERROR, "out of memory for a request of %u bytes", slot->length_bytes);
    CHECK(slot->buffer); /* the budget was taken into account: the machine itself has no memory */
    return slot->buffer;
}

/* Straight into the output run; only a miss takes a buffer. */
static void start_small_read(struct nbd_connection *connection, uint32_t index,
                             const struct nbd_request *request)
{
    struct nbd_slot *slot = &connection->server->slots[index];
    size_t head = nbd_read_header_size(&connection->nbd);
    uint8_t *to = output_reserve(&connection->output, head + slot->length_bytes);
    struct host_outcome outcome = give_to_core(connection, index, request, to + head);
    if (!outcome.complete) {
        struct buffer *buffer = slot_buffer(connection, slot);
        memcpy(buffer->data, to + head,
               slot->length_bytes); /* pages that hit may be there already */
        array_host_move_data(connection->server->array, buffer->data);
        return;
    }
    if (outcome.result != HOST_OK) {
        nbd_connection_answer(connection, index, outcome.result);
        return;
    }
    nbd_reply_read_header(&connection->nbd, to, slot->cookie, slot->offset_bytes,
                          slot->length_bytes);
    output_commit(&connection->output, head + slot->length_bytes);
    nbd_server_dirty(connection->server, connection);
    connection->requests--;
    nbd_server_free_slot(connection->server, index);
}

static void start_large_read(struct nbd_connection *connection, uint32_t index,
                             const struct nbd_request *request)
{
    struct buffer *buffer = slot_buffer(connection, &connection->server->slots[index]);
    struct host_outcome outcome = give_to_core(connection, index, request, buffer->data);
    if (outcome.complete)
        nbd_connection_answer(connection, index, outcome.result);
}

/* `payload` is either in the slot's own buffer, or borrowed from the input until this returns. */
static void start_write(struct nbd_connection *connection, uint32_t index,
                        const struct nbd_request *request, const uint8_t *payload)
{
    struct nbd_server *server = connection->server;
    struct nbd_slot *slot = &server->slots[index];
    struct host_outcome outcome =
        give_to_core(connection, index, request, (void *)(uintptr_t)payload);
    if (outcome.complete) {
        nbd_connection_answer(connection, index, outcome.result);
    } else if (!outcome.data_held) {
        if (slot->buffer)
            buffer_give(&server->buffers, slot->buffer);
        slot->buffer = NULL;
    } else if (!slot->buffer) {
        struct buffer *buffer = slot_buffer(connection, slot);
        memcpy(buffer->data, payload, slot->length_bytes);
        array_host_move_data(server->array, buffer->data);
    }
}

/* The rest of a large payload goes straight from the socket into the request's buffer. */
static void begin_direct(struct nbd_connection *connection, uint32_t index,
                         const struct nbd_request *request)
{
    struct nbd_slot *slot = &connection->server->slots[index];
    struct buffer *buffer = slot_buffer(connection, slot);
    memcpy(buffer->data, request->payload, request->payload_bytes);
    slot->host_flags = request->host_flags;
    connection->direct = index;
    connection->direct_filled = request->payload_bytes;
}

static void end_direct(struct nbd_connection *connection)
{
    uint32_t index = connection->direct;
    struct nbd_slot *slot = &connection->server->slots[index];
    connection->direct = NO_INDEX;
    const struct nbd_request request = {
        .op = HOST_WRITE,
        .host_flags = slot->host_flags,
        .offset_bytes = slot->offset_bytes,
        .length_bytes = slot->length_bytes,
    };
    start_write(connection, index, &request, slot->buffer->data);
}

static void block_status(struct nbd_connection *connection, const struct nbd_request *request)
{
    enum {
        LOOK_LIMIT = 4096
    }; /* pieces looked at; a client asks on where the answer stops short */
    const struct nbd_server *server = connection->server;
    uint8_t volume = (uint8_t)connection->nbd.export_index;
    struct nbd_extent extents[NBD_EXTENT_LIMIT];
    uint32_t count = 0, most = request->flags & NBD_REQ_ONE ? 1 : NBD_EXTENT_LIMIT;
    uint64_t at = request->offset_bytes, end = at + request->length_bytes;
    if (array_hosts(server->array, volume) == ARRAY_HOSTS_REFUSED) {
        reply_result(connection, request->command, request->cookie, HOST_COPY);
        return;
    }
    if (array_service(server->array, volume) == ARRAY_UNSERVED) {
        reply_result(connection, request->command, request->cookie, HOST_NOT_OWNER);
        return;
    }
    for (int looks = 0; at < end && looks < LOOK_LIMIT; looks++) {
        bool hole;
        uint64_t to = volume_map_next(server->array, server->stores,
                                      &server->config->volumes[volume], volume, at, end, &hole);
        CHECK(to > at && to <= end);
        uint32_t flags = hole ? NBD_STATE_HOLE | NBD_STATE_ZERO : 0;
        if (count > 0 && extents[count - 1].flags == flags)
            extents[count - 1].length_bytes += (uint32_t)(to - at);
        else if (count == most)
            break;
        else
            extents[count++] =
                (struct nbd_extent){.length_bytes = (uint32_t)(to - at), .flags = flags};
        at = to;
    }
    uint8_t *bytes = output_reserve(&connection->output, NBD_BLOCK_STATUS_BYTES(NBD_EXTENT_LIMIT));
    output_commit(&connection->output,
                  nbd_reply_block_status(&connection->nbd, bytes, request->cookie, extents, count));
    nbd_server_dirty(connection->server, connection);
}

static void start_request(struct nbd_connection *connection, const struct nbd_request *request)
{
    struct nbd_server *server = connection->server;
    if (request->command == NBD_BLOCK_STATUS) {
        block_status(connection, request);
        return;
    }
    uint32_t index = nbd_server_take_slot(server, connection);
    struct nbd_slot *slot = &server->slots[index];
    slot->command = request->command;
    slot->cookie = request->cookie;
    slot->offset_bytes = request->offset_bytes;
    slot->length_bytes = request->length_bytes;
    if (request->command == NBD_WRITE && request->payload_missing_bytes > 0) {
        begin_direct(connection, index, request);
    } else if (request->command == NBD_WRITE) {
        start_write(connection, index, request, request->payload);
    } else if (request->command == NBD_READ && request->length_bytes <= NBD_READ_IN_RUN) {
        start_small_read(connection, index, request);
    } else if (request->command == NBD_READ) {
        start_large_read(connection, index, request);
    } else {
        struct host_outcome outcome = give_to_core(connection, index, request, NULL);
        if (outcome.complete)
            nbd_connection_answer(connection, index, outcome.result);
    }
}

/* ---- input ---- */

static void make_input_room(struct nbd_connection *connection)
{
    uint32_t left = connection->input_end - connection->input_start;
    if (left == 0) {
        connection->input_start = connection->input_end = 0;
    } else if (connection->input_start > 0) {
        memmove(connection->input, connection->input + connection->input_start, left);
        connection->input_start = 0;
        connection->input_end = left;
    }
    if (connection->input_end < connection->input_size && !connection->input_short)
        return;
    connection->input_short = false;
    CHECK(connection->input_size < NBD_INPUT_MOST);
    connection->input_size = connection->input_size ? connection->input_size * 2 : NBD_INPUT_FIRST;
    connection->input = realloc(connection->input, connection->input_size);
    CHECK(connection->input);
}

static void receive(struct nbd_connection *connection)
{
    if (connection->receiving || connection->closing || connection->draining)
        return;
    struct io_uring_sqe *sqe = loop_sqe(connection->server->loop);
    if (connection->direct != NO_INDEX) {
        struct nbd_slot *slot = &connection->server->slots[connection->direct];
        io_uring_prep_recv(sqe, connection->descriptor,
                           slot->buffer->data + connection->direct_filled,
                           slot->length_bytes - connection->direct_filled, MSG_WAITALL);
    } else {
        make_input_room(connection);
        io_uring_prep_recv(sqe, connection->descriptor, connection->input + connection->input_end,
                           connection->input_size - connection->input_end, 0);
    }
    if (connection->poll_first)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    loop_own(sqe, &connection->receive);
    connection->receiving = true;
}

/* One step of the protocol. False: it cannot go on now. */
static bool step(struct nbd_connection *connection)
{
    struct nbd_server *server = connection->server;
    const struct nbd_exports exports = {.table = server->exports,
                                        .owners = server->owners,
                                        .count = server->config->volume_count,
                                        .refused = server->volume_refused};
    struct nbd_input input = {connection->input + connection->input_start,
                              connection->input_end - connection->input_start};
    struct nbd_output output = {NULL, 0, 0};
    bool negotiating = connection->nbd.state != NBD_TRANSMISSION;
    if (negotiating) {
        nbd_server_refresh_owners(server);
        output.size = 2 * NBD_OUTPUT_BYTES;
        output.bytes = output_reserve(&connection->output, output.size);
    }
    struct nbd_request request;
    enum nbd_next next = nbd_step(&connection->nbd, &exports, &input, &output, &request);
    connection->input_start = connection->input_end - (uint32_t)input.length;
    if (negotiating && connection->nbd.refused_export != NO_INDEX)
        nbd_server_say_refused(server, connection);
    if (output.used > 0) {
        output_commit(&connection->output, output.used);
        nbd_server_dirty(server, connection);
    }
    switch (next) {
    case NBD_MORE:
        return false;
    case NBD_OUTPUT_FULL:
        return true; /* there is fresh room in every step */
    case NBD_READY:
        server->volume_connections[connection->nbd.export_index]++;
        return true;
    case NBD_REQUEST:
        start_request(connection, &request);
        return connection->direct == NO_INDEX;
    case NBD_ANSWER:
        reply(connection, request.command, request.cookie, request.error, request.message);
        return true;
    case NBD_END:
        drain(connection);
        return false;
    case NBD_BROKEN:
        server->refused++;
        log_say(LOG_WARNING, "NBD client turned away: %s (%llu)", connection->nbd.reason,
                (unsigned long long)connection->nbd.reason_value);
        drain(connection);
        return false;
    }
    return false;
}

void nbd_connection_process(struct nbd_connection *connection)
{
    struct nbd_server *server = connection->server;
    while (!connection->closing && !connection->draining && connection->direct == NO_INDEX) {
        if (connection->output.waiting_bytes > NBD_OUTPUT_HIGH)
            return; /* goes on when the client has taken some */
        if (connection->nbd.state == NBD_TRANSMISSION && !nbd_server_has_room(server)) {
            nbd_server_wait(server, connection);
            return;
        }
        if (!step(connection))
            break;
    }
    receive(connection);
}

static void received(struct op *op, int result, unsigned flags)
{
    struct nbd_connection *connection = (struct nbd_connection *)op;
    connection->receiving = false;
    if (connection->closing || connection->draining) {
        nbd_server_dirty(connection->server, connection);
        return;
    }
    if (result == -EINTR || result == -EAGAIN) {
        receive(connection);
        return;
    }
    if (result <= 0) {
        bool clean = result == 0 || result == -ECONNRESET;
        nbd_connection_close(connection, clean ? NULL : strerror(-result));
        return;
    }
    connection->poll_first = !(flags & IORING_CQE_F_SOCK_NONEMPTY);
    if (connection->direct == NO_INDEX) {
        connection->input_end += (uint32_t)result;
        bool full = connection->input_end == connection->input_size;
        connection->input_short = full && connection->input_size < NBD_INPUT_BURST;
        nbd_connection_process(connection);
        /* A client that fills the buffer in one go sends more at a time than it holds. */
        if (full && !connection->receiving && connection->input_start == connection->input_end)
            connection->poll_first = false;
        return;
    }
    connection->direct_filled += (uint32_t)result;
    if (connection->direct_filled == connection->server->slots[connection->direct].length_bytes)
        end_direct(connection);
    nbd_connection_process(connection);
}

/* ---- output ---- */

static void send_on(struct nbd_connection *connection)
{
    struct io_uring_sqe *sqe = loop_sqe(connection->server->loop);
    output_prepare(&connection->output, sqe, connection->descriptor);
    if (!connection->send_waits)
        loop_send_now(connection->server->loop, sqe);
    loop_own(sqe, &connection->send);
    connection->sending = true;
}

/* The client may come to the other controller with the same requests. */
static void abandon(struct nbd_connection *connection)
{
    struct nbd_server *server = connection->server;
    connection->abandoned = true;
    for (uint32_t i = 0; i < server->slot_count && connection->requests > 0; i++) {
        if (server->slots[i].connection != connection || i == connection->direct)
            continue;
        array_host_abandon(server->array, server->loop->now_us, i);
        server->abandoned = true;
    }
}

void nbd_connection_flush(struct nbd_connection *connection)
{
    if (connection->closing) {
        if (!connection->abandoned)
            abandon(connection);
        free_if_idle(connection);
        return;
    }
    if (connection->sending)
        return;
    if (output_gathered(&connection->output)) {
        connection->sent_us = connection->server->loop->now_us;
        send_on(connection);
        return;
    }
    if (connection->draining && connection->requests == 0)
        nbd_connection_close(connection, NULL);
}

static void sent(struct op *op, int result, unsigned flags)
{
    struct nbd_connection *connection =
        (struct nbd_connection *)((char *)op - offsetof(struct nbd_connection, send));
    connection->sending = false;
    if (connection->closing) {
        nbd_server_dirty(connection->server, connection);
        return;
    }
    if (result < 0 && result != -EINTR && result != -EAGAIN) {
        bool clean = result == -EPIPE || result == -ECONNRESET;
        nbd_connection_close(connection, clean ? NULL : strerror(-result));
        return;
    }
    connection->sent_us = connection->server->loop->now_us;
    bool was_full = connection->output.waiting_bytes > NBD_OUTPUT_HIGH;
    connection->send_waits = !output_sent(&connection->output, result > 0 ? (size_t)result : 0);
    if (connection->send_waits) {
        send_on(connection);
    } else if (output_gathered(&connection->output) || connection->draining) {
        nbd_server_dirty(connection->server, connection);
    }
    if (was_full && connection->output.waiting_bytes <= NBD_OUTPUT_HIGH && !connection->is_waiting)
        nbd_connection_process(connection);
}

void nbd_connection_start(struct nbd_server *server, int descriptor)
{
    struct nbd_connection *connection = calloc(1, sizeof *connection);
    if (!connection) {
        close(descriptor);
        return;
    }
    connection->receive.done = received;
    connection->send.done = sent;
    connection->server = server;
    connection->descriptor = descriptor;
    connection->since_us = connection->sent_us = server->loop->now_us;
    connection->direct = NO_INDEX;
    output_init(&connection->output, &server->buffers);
    nbd_start(&connection->nbd, NBD_WHOLE_PAYLOAD);
    connection->next = server->connections;
    if (server->connections)
        server->connections->previous = connection;
    server->connections = connection;
    server->connection_count++;
    server->connections_total++;
    socket_no_delay(descriptor);
    int on = 1;
    setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    make_input_room(connection); /* the first step looks at the input, empty as it is */
    nbd_connection_process(connection);
}
