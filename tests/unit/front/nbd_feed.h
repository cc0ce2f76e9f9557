/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A shell in small for the NBD engine: feeds it a stream of bytes in pieces of any size, answers
 * every request, and writes down all that comes out. The unit test and the fuzz target share it. It
 * checks what a shell relies on: that every step makes progress, that a payload lies inside the
 * input, and that nothing is written past the room given. Two feeds of the same stream must end
 * with equal feed_records, however the bytes were cut. */

#ifndef TESTS_UNIT_FRONT_NBD_FEED_H
#define TESTS_UNIT_FRONT_NBD_FEED_H

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "front/nbd.h"

enum {
    FEED_WIRE_BYTES = 128 * 1024,
    FEED_REQUESTS = 64,
    FEED_WHOLE_LIMIT = 16 * 1024,
    FEED_INPUT_BYTES = NBD_REQUEST_BYTES + FEED_WHOLE_LIMIT,
    FEED_OUTPUT_LIMIT = 4 * NBD_OUTPUT_BYTES,
};

_Static_assert((size_t)FEED_INPUT_BYTES >= (size_t)NBD_INPUT_BYTES, "the input holds any option");

#define FEED_CHECK(expression)                                                                     \
    do {                                                                                           \
        if (!(expression)) {                                                                       \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #expression);                       \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* What can be seen from outside; the checksums go on where the logs are full. */
struct feed_record {
    uint64_t wire_bytes, request_count, payload_bytes;
    uint32_t wire_crc, request_crc, payload_crc;
    uint32_t last; /* enum nbd_next */
    struct feed_request {
        uint64_t cookie, offset_bytes;
        uint32_t length_bytes, next, error, op;
        uint16_t command, flags, host_flags;
    } requests[FEED_REQUESTS];
    uint8_t wire[FEED_WIRE_BYTES];
};

_Static_assert(sizeof(struct feed_record) == offsetof(struct feed_record, wire) + FEED_WIRE_BYTES,
               "the wire stands last");

struct feed {
    struct nbd_conn conn;
    const struct nbd_exports *exports;
    size_t output_bytes; /* NBD_OUTPUT_BYTES to FEED_OUTPUT_LIMIT */

    uint8_t input[FEED_INPUT_BYTES];
    size_t filled;
    uint8_t output[FEED_OUTPUT_LIMIT + 16]; /* and a guard behind it */
    struct nbd_output out;
    uint32_t missing; /* of a payload, to be taken past the engine */

    struct feed_record record; /* last */
};

static inline void feed_wire(struct feed *feed, const uint8_t *bytes, size_t length)
{
    struct feed_record *record = &feed->record;
    for (size_t i = 0; i < length && record->wire_bytes + i < FEED_WIRE_BYTES; i++)
        record->wire[record->wire_bytes + i] = bytes[i];
    record->wire_bytes += length;
    record->wire_crc = crc32c_more(record->wire_crc, bytes, length);
}

static inline void feed_send(struct feed *feed)
{
    FEED_CHECK(feed->out.used <= feed->output_bytes);
    for (size_t i = 0; i < 16; i++)
        FEED_CHECK(feed->output[feed->output_bytes + i] == 0xA5);
    feed_wire(feed, feed->output, feed->out.used);
    feed->out.used = 0;
}

static inline void feed_payload(struct feed *feed, const uint8_t *bytes, size_t length)
{
    feed->record.payload_bytes += length;
    feed->record.payload_crc = crc32c_more(feed->record.payload_crc, bytes, length);
}

static inline void feed_log(struct feed *feed, enum nbd_next next,
                            const struct nbd_request *request)
{
    struct feed_record *record = &feed->record;
    struct feed_request entry = {0};
    entry.cookie = request->cookie;
    entry.offset_bytes = request->offset_bytes;
    entry.length_bytes = request->length_bytes;
    entry.next = next;
    entry.command = request->command;
    entry.flags = request->flags;
    if (next == NBD_ANSWER)
        entry.error = request->error;
    else {
        entry.op = request->command == NBD_BLOCK_STATUS ? UINT32_MAX : (uint32_t)request->op;
        entry.host_flags = request->host_flags;
    }
    if (record->request_count < FEED_REQUESTS)
        record->requests[record->request_count] = entry;
    record->request_count++;
    record->request_crc = crc32c_more(record->request_crc, &entry.cookie, 16);
    record->request_crc = crc32c_more(record->request_crc, &entry.length_bytes, 16);
    record->request_crc = crc32c_more(record->request_crc, &entry.command, 6);
}

/* What the engine promises of a request for the core. */
static inline void feed_request_check(const struct feed *feed, const struct nbd_request *request,
                                      const uint8_t *from, const uint8_t *to)
{
    const struct nbd_conn *conn = &feed->conn;
    bool flush = request->command == NBD_FLUSH;
    FEED_CHECK(flush == (request->length_bytes == 0));
    FEED_CHECK(request->offset_bytes <= conn->size_bytes);
    FEED_CHECK(request->length_bytes <= conn->size_bytes - request->offset_bytes);
    if (request->command == NBD_READ || request->command == NBD_WRITE)
        FEED_CHECK(request->length_bytes <= HOST_IO_BYTES);
    if (request->command == NBD_WRITE) {
        FEED_CHECK(!conn->read_only);
        FEED_CHECK(request->payload >= from);
        FEED_CHECK(request->payload + request->payload_bytes <= to);
        FEED_CHECK(request->payload_bytes + request->payload_missing_bytes ==
                   request->length_bytes);
        if (request->length_bytes <= conn->whole_payload_bytes)
            FEED_CHECK(request->payload_missing_bytes == 0);
    } else {
        FEED_CHECK(request->payload_bytes == 0);
        FEED_CHECK(request->payload_missing_bytes == 0);
    }
}

static inline void feed_answer(struct feed *feed, enum nbd_next next,
                               const struct nbd_request *request)
{
    uint8_t reply[NBD_REPLY_BYTES];
    size_t length;
    if (next == NBD_ANSWER) {
        length = nbd_reply(&feed->conn, reply, request->command, request->cookie, request->error,
                           request->message);
    } else if (request->command == NBD_READ) {
        length = nbd_reply_read_header(&feed->conn, reply, request->cookie, request->offset_bytes,
                                       request->length_bytes);
        FEED_CHECK(length == nbd_read_header_size(&feed->conn));
    } else if (request->command == NBD_BLOCK_STATUS) {
        struct nbd_extent extent = {request->length_bytes, 0};
        length = nbd_reply_block_status(&feed->conn, reply, request->cookie, &extent, 1);
    } else {
        length = nbd_reply(&feed->conn, reply, request->command, request->cookie, NBD_OK, NULL);
    }
    FEED_CHECK(length <= sizeof reply);
    feed_wire(feed, reply, length);
}

/* Step until the engine wants more bytes or the connection is over. */
static inline void feed_step(struct feed *feed)
{
    struct nbd_input input = {feed->input, feed->filled};
    const uint8_t *end = feed->input + feed->filled;
    for (;;) {
        struct nbd_request request;
        memset(&request, 0xA5, sizeof request); /* nothing of it outlives a step */
        size_t before = input.length;
        bool had_room = feed->out.used == 0;
        enum nbd_next next = nbd_step(&feed->conn, feed->exports, &input, &feed->out, &request);
        FEED_CHECK(input.bytes + input.length == end);
        FEED_CHECK(input.length <= before);
        feed->record.last = next;
        if (next == NBD_OUTPUT_FULL) {
            FEED_CHECK(!had_room || feed->out.used > 0);
            feed_send(feed);
            continue;
        }
        feed_send(feed);
        if (next == NBD_MORE || next == NBD_END || next == NBD_BROKEN)
            break;
        FEED_CHECK(input.length < before);
        if (next == NBD_READY)
            continue;
        feed_log(feed, next, &request);
        if (next == NBD_REQUEST) {
            feed_request_check(feed, &request, feed->input, end);
            feed_payload(feed, request.payload, request.payload_bytes);
            feed->missing = request.payload_missing_bytes;
            FEED_CHECK(feed->missing == 0 || input.length == 0);
        }
        feed_answer(feed, next, &request);
    }
    memmove(feed->input, input.bytes, input.length);
    feed->filled = input.length;
    FEED_CHECK(feed->record.last != NBD_MORE || feed->filled < sizeof feed->input);
}

static inline void feed_start(struct feed *feed, const struct nbd_exports *exports,
                              uint32_t whole_payload_bytes, size_t output_bytes)
{
    FEED_CHECK(whole_payload_bytes <= FEED_WHOLE_LIMIT);
    FEED_CHECK(output_bytes >= NBD_OUTPUT_BYTES);
    FEED_CHECK(output_bytes <= FEED_OUTPUT_LIMIT);
    memset(feed, 0, sizeof *feed - FEED_WIRE_BYTES); /* the wire stands last */
    memset(feed->output, 0xA5, sizeof feed->output);
    feed->exports = exports;
    feed->output_bytes = output_bytes;
    feed->out = (struct nbd_output){feed->output, output_bytes, 0};
    feed->record.wire_crc = CRC32C_START;
    feed->record.request_crc = CRC32C_START;
    feed->record.payload_crc = CRC32C_START;
    nbd_start(&feed->conn, whole_payload_bytes);
    feed_step(feed);
}

/* One piece of the stream arrives. */
static inline void feed_bytes(struct feed *feed, const uint8_t *bytes, size_t length)
{
    while (length > 0) {
        size_t direct = length < feed->missing ? length : feed->missing;
        feed_payload(feed, bytes, direct);
        feed->missing -= (uint32_t)direct;
        bytes += direct;
        length -= direct;

        size_t room = sizeof feed->input - feed->filled;
        size_t some = length < room ? length : room;
        if (some == 0)
            return; /* all was payload, or the connection is over and its buffer is full */
        memcpy(feed->input + feed->filled, bytes, some);
        feed->filled += some;
        bytes += some;
        length -= some;
        feed_step(feed);
    }
}

/* Whether two feeds of one stream look the same from outside. */
static inline bool feed_equal(const struct feed *a, const struct feed *b)
{
    size_t wire = a->record.wire_bytes < FEED_WIRE_BYTES ? a->record.wire_bytes : FEED_WIRE_BYTES;
    return memcmp(&a->record, &b->record, offsetof(struct feed_record, wire)) == 0 &&
           memcmp(a->record.wire, b->record.wire, wire) == 0 && a->conn.state == b->conn.state &&
           a->conn.skip_bytes == b->conn.skip_bytes && a->conn.reason == b->conn.reason &&
           a->conn.reason_value == b->conn.reason_value &&
           a->conn.export_index == b->conn.export_index;
}

#endif
