/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A client in small for the tests of the NBD engine: three volumes, and what a client sends them.
 */

#ifndef TESTS_UNIT_FRONT_NBD_CLIENT_H
#define TESTS_UNIT_FRONT_NBD_CLIENT_H

#include <setjmp.h>
#include <stddef.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include "front/nbd_wire.h"
#include "nbd_feed.h"

#define VM1_REFUSAL "volume vm1 is served by controller b at 127.0.0.1:10810"

static const struct nbd_export table[] = {
    {"vm0", "the first volume", UINT64_C(1) << 40, false},
    {"vm1", NULL, 1 << 20, false},
    {"ro", "never written", 1 << 20, true},
};
static const struct nbd_owner owners[] = {
    {1, NULL, false}, {0, VM1_REFUSAL, false}, {1, NULL, false}};
static uint64_t refused[3];
static const struct nbd_exports three = {table, owners, 3, refused};
static const struct nbd_exports one __attribute__((unused)) = {table, owners, 1, NULL};

/* ---- what a client sends ---- */

struct stream {
    size_t length;
    uint8_t bytes[64 * 1024];
};

static inline void send_bytes(struct stream *stream, const void *bytes, size_t length)
{
    assert_true(length <= sizeof stream->bytes - stream->length);
    memcpy(stream->bytes + stream->length, bytes, length);
    stream->length += length;
}

static inline void send_flags(struct stream *stream, uint32_t flags)
{
    uint8_t bytes[4];
    put_u32(bytes, flags);
    send_bytes(stream, bytes, sizeof bytes);
}

static inline void send_option_head(struct stream *stream, uint32_t option, uint32_t length)
{
    uint8_t head[16];
    put_u64(head, NBD_MAGIC_OPTION);
    put_u32(head + 8, option);
    put_u32(head + 12, length);
    send_bytes(stream, head, sizeof head);
}

static inline void send_option(struct stream *stream, uint32_t option, const void *data,
                               size_t length)
{
    send_option_head(stream, option, (uint32_t)length);
    send_bytes(stream, data, length);
}

#define SEND_OPTION(stream, option, literal)                                                       \
    send_option((stream), (option), (literal), sizeof(literal) - 1)

#define GO_VM0   "\0\0\0\3vm0\0\0"
#define GO_RO    "\0\0\0\2ro\0\0"
#define META_VM0 "\0\0\0\3vm0\0\0\0\1\0\0\0\17base:allocation"

static inline void send_request(struct stream *stream, uint16_t flags, uint16_t command,
                                uint64_t cookie, uint64_t offset, uint32_t length)
{
    uint8_t head[NBD_REQUEST_BYTES];
    put_u32(head, NBD_MAGIC_REQUEST);
    put_u16(head + 4, flags);
    put_u16(head + 6, command);
    put_u64(head + 8, cookie);
    put_u64(head + 16, offset);
    put_u32(head + 24, length);
    send_bytes(stream, head, sizeof head);
}

static inline void send_payload(struct stream *stream, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++) {
        uint8_t byte = (uint8_t)(i * 7 + length);
        send_bytes(stream, &byte, 1);
    }
}

static struct stream stream; /* large; each test empties it */
static struct feed feed;

static inline void begin(const struct nbd_exports *exports)
{
    stream.length = 0;
    memset(refused, 0, sizeof refused);
    feed_start(&feed, exports, 0, FEED_OUTPUT_LIMIT);
    send_flags(&stream, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
}

static inline void flush_stream(void)
{
    feed_bytes(&feed, stream.bytes, stream.length);
    stream.length = 0;
}

/* To the transmission phase, leaving the record at its end. */
static inline void begin_transmission(bool structured, const char *go, size_t go_length)
{
    begin(&three);
    if (structured) {
        SEND_OPTION(&stream, NBD_OPT_STRUCTURED_REPLY, "");
        SEND_OPTION(&stream, NBD_OPT_SET_META_CONTEXT, META_VM0);
    }
    send_option(&stream, NBD_OPT_GO, go, go_length);
    flush_stream();
    assert_int_equal(feed.conn.state, NBD_TRANSMISSION);
}

#define BEGIN_TRANSMISSION(structured, go) begin_transmission((structured), (go), sizeof(go) - 1)

#endif
