/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The transmission phase of the NBD engine by rows, its replies byte by byte, and the rule that how
 * a stream is cut changes nothing. With NBD_CORPUS=<folder> in the environment it writes the fuzz
 * target's seeds there instead. */

#include "nbd_client.h"

static struct feed other; /* the one that is compared with `feed` */

static void bad_magic_closes(void **state)
{
    begin(&three);
    send_bytes(&stream, "GET / HTTP/1.1\r\n", 16);
    flush_stream();
    assert_int_equal(feed.record.last, NBD_BROKEN);
    assert_string_equal(feed.conn.reason, "bad option magic");

    BEGIN_TRANSMISSION(false, GO_VM0);
    send_request(&stream, 0, NBD_READ, 1, 0, 512);
    stream.bytes[3] ^= 1;
    flush_stream();
    assert_int_equal(feed.record.last, NBD_BROKEN);
    assert_string_equal(feed.conn.reason, "bad request magic");
    assert_int_equal(feed.conn.reason_value, 0x25609512);
    assert_int_equal(feed.record.request_count, 0);
    /* Nothing wakes it up again. */
    send_request(&stream, 0, NBD_READ, 1, 0, 512);
    flush_stream();
    assert_int_equal(feed.record.last, NBD_BROKEN);
    assert_int_equal(feed.record.request_count, 0);
}

/* One request on vm0 (1 TiB) or ro (1 MiB, read-only), and what becomes of it. */
struct command_row {
    const char *what;
    bool structured, read_only;
    uint16_t flags, command;
    uint64_t offset;
    uint32_t length;
    enum nbd_next next;
    enum nbd_error error; /* of NBD_ANSWER */
    uint32_t op;          /* of NBD_REQUEST */
    uint8_t host_flags;
};

#define TIB      (UINT64_C(1) << 40)
#define MIB      (UINT64_C(1) << 20)
#define NO_OP    UINT32_MAX
#define ANSWERED NBD_ANSWER

static const struct command_row command_rows[] = {
    {"read", 0, 0, 0, NBD_READ, 512, 4096, NBD_REQUEST, 0, HOST_READ, 0},
    {"read to the end", 0, 0, 0, NBD_READ, TIB - 1, 1, NBD_REQUEST, 0, HOST_READ, 0},
    {"read past the end", 0, 0, 0, NBD_READ, TIB - 1, 2, ANSWERED, NBD_EINVAL, 0, 0},
    {"read, wrapping", 0, 0, 0, NBD_READ, UINT64_MAX, 2, ANSWERED, NBD_EINVAL, 0, 0},
    {"read, the most", 0, 0, 0, NBD_READ, 0, HOST_IO_BYTES, NBD_REQUEST, 0, HOST_READ, 0},
    {"read, more", 0, 0, 0, NBD_READ, 0, HOST_IO_BYTES + 1, ANSWERED, NBD_EINVAL, 0, 0},
    {"read nothing", 0, 0, 0, NBD_READ, 0, 0, ANSWERED, NBD_OK, 0, 0},
    {"read nothing past", 0, 0, 0, NBD_READ, TIB + 1, 0, ANSWERED, NBD_EINVAL, 0, 0},
    {"read, FUA means nothing", 0, 0, NBD_FUA, NBD_READ, 0, 1, NBD_REQUEST, 0, HOST_READ, 0},
    {"read, DF", 1, 0, NBD_DF, NBD_READ, 0, 1, NBD_REQUEST, 0, HOST_READ, 0},
    {"read, DF unstructured", 0, 0, NBD_DF, NBD_READ, 0, 1, ANSWERED, NBD_EINVAL, 0, 0},
    {"read, NO_HOLE", 0, 0, NBD_NO_HOLE, NBD_READ, 0, 1, ANSWERED, NBD_EINVAL, 0, 0},
    {"read, unknown flag", 0, 0, 0x8000, NBD_READ, 0, 1, ANSWERED, NBD_EINVAL, 0, 0},
    {"read of read-only", 0, 1, 0, NBD_READ, 0, 4096, NBD_REQUEST, 0, HOST_READ, 0},

    {"write", 0, 0, 0, NBD_WRITE, 3, 700, NBD_REQUEST, 0, HOST_WRITE, 0},
    {"write, FUA", 0, 0, NBD_FUA, NBD_WRITE, 0, 1, NBD_REQUEST, 0, HOST_WRITE, HOST_FUA},
    {"write to the end", 0, 0, 0, NBD_WRITE, TIB - 512, 512, NBD_REQUEST, 0, HOST_WRITE, 0},
    {"write past the end", 0, 0, 0, NBD_WRITE, TIB - 512, 513, ANSWERED, NBD_ENOSPC, 0, 0},
    {"write nothing", 0, 0, 0, NBD_WRITE, 0, 0, ANSWERED, NBD_OK, 0, 0},
    {"write, NO_HOLE", 0, 0, NBD_NO_HOLE, NBD_WRITE, 0, 9, ANSWERED, NBD_EINVAL, 0, 0},
    {"write, DF", 1, 0, NBD_DF, NBD_WRITE, 0, 9, ANSWERED, NBD_EINVAL, 0, 0},
    {"write of read-only", 0, 1, 0, NBD_WRITE, 0, 9, ANSWERED, NBD_EPERM, 0, 0},

    {"flush", 0, 0, 0, NBD_FLUSH, 0, 0, NBD_REQUEST, 0, HOST_FLUSH, 0},
    {"flush, FUA means nothing", 0, 0, NBD_FUA, NBD_FLUSH, 0, 0, NBD_REQUEST, 0, HOST_FLUSH, 0},
    {"flush with an offset", 0, 0, 0, NBD_FLUSH, 1, 0, ANSWERED, NBD_EINVAL, 0, 0},
    {"flush with a length", 0, 0, 0, NBD_FLUSH, 0, 1, ANSWERED, NBD_EINVAL, 0, 0},
    {"flush of read-only", 0, 1, 0, NBD_FLUSH, 0, 0, NBD_REQUEST, 0, HOST_FLUSH, 0},

    {"trim", 0, 0, 0, NBD_TRIM, 1, 0xFFFFFFFF, NBD_REQUEST, 0, HOST_TRIM, 0},
    {"trim, FUA", 0, 0, NBD_FUA, NBD_TRIM, 0, 1, NBD_REQUEST, 0, HOST_TRIM, HOST_FUA},
    {"trim past the end", 0, 0, 0, NBD_TRIM, TIB, 1, ANSWERED, NBD_EINVAL, 0, 0},
    {"trim nothing", 0, 0, 0, NBD_TRIM, 0, 0, ANSWERED, NBD_OK, 0, 0},
    {"trim, NO_HOLE", 0, 0, NBD_NO_HOLE, NBD_TRIM, 0, 1, ANSWERED, NBD_EINVAL, 0, 0},
    {"trim of read-only", 0, 1, 0, NBD_TRIM, 0, 1, ANSWERED, NBD_EPERM, 0, 0},

    {"zero", 0, 0, 0, NBD_WRITE_ZEROES, 1, 0xFFFFFFFF, NBD_REQUEST, 0, HOST_ZERO, 0},
    {"zero, NO_HOLE", 0, 0, NBD_NO_HOLE, NBD_WRITE_ZEROES, 0, 1, NBD_REQUEST, 0, HOST_ZERO,
     HOST_NO_HOLE},
    {"zero, both", 0, 0, NBD_FUA | NBD_NO_HOLE, NBD_WRITE_ZEROES, 0, 1, NBD_REQUEST, 0, HOST_ZERO,
     HOST_FUA | HOST_NO_HOLE},
    {"zero, FAST_ZERO", 0, 0, NBD_FAST_ZERO, NBD_WRITE_ZEROES, 0, 1, ANSWERED, NBD_ENOTSUP, 0, 0},
    {"zero past the end", 0, 0, 0, NBD_WRITE_ZEROES, TIB, 1, ANSWERED, NBD_ENOSPC, 0, 0},
    {"zero nothing", 0, 0, 0, NBD_WRITE_ZEROES, 0, 0, ANSWERED, NBD_OK, 0, 0},
    {"zero of read-only", 0, 1, 0, NBD_WRITE_ZEROES, 0, 1, ANSWERED, NBD_EPERM, 0, 0},

    {"status", 1, 0, 0, NBD_BLOCK_STATUS, 0, 0xFFFFFFFF, NBD_REQUEST, 0, NO_OP, 0},
    {"status, REQ_ONE", 1, 0, NBD_REQ_ONE, NBD_BLOCK_STATUS, 0, 1, NBD_REQUEST, 0, NO_OP, 0},
    {"status unnegotiated", 0, 0, 0, NBD_BLOCK_STATUS, 0, 1, ANSWERED, NBD_EINVAL, 0, 0},
    {"status of another volume", 1, 1, 0, NBD_BLOCK_STATUS, 0, 1, ANSWERED, NBD_EINVAL, 0, 0},
    {"status past the end", 1, 0, 0, NBD_BLOCK_STATUS, TIB, 1, ANSWERED, NBD_EINVAL, 0, 0},
    {"status of nothing", 1, 0, 0, NBD_BLOCK_STATUS, 0, 0, ANSWERED, NBD_EINVAL, 0, 0},
    {"status, DF", 1, 0, NBD_DF, NBD_BLOCK_STATUS, 0, 1, ANSWERED, NBD_EINVAL, 0, 0},

    {"cache", 0, 0, 0, 5, 0, 4096, ANSWERED, NBD_EINVAL, 0, 0},
    {"resize", 0, 0, 0, 8, 0, 4096, ANSWERED, NBD_EINVAL, 0, 0},
    {"unknown", 0, 0, 0, 0xFFFF, 0, 4096, ANSWERED, NBD_EINVAL, 0, 0},
};

static void command_rows_are_passed_on_or_answered(void **state)
{
    for (size_t i = 0; i < ARRAY_LENGTH(command_rows); i++) {
        const struct command_row *row = &command_rows[i];
        if (row->read_only)
            BEGIN_TRANSMISSION(row->structured, GO_RO);
        else
            BEGIN_TRANSMISSION(row->structured, GO_VM0);
        send_request(&stream, row->flags, row->command, 0x1122334455667788, row->offset,
                     row->length);
        if (row->command == NBD_WRITE)
            send_payload(&stream, row->length);
        send_request(&stream, 0, NBD_FLUSH, 2, 0, 0); /* the stream is still in step */
        flush_stream();
        const struct feed_request *got = feed.record.requests;
        if (got->next != row->next || got->error != row->error)
            fail_msg("%s: %u, error %u", row->what, got->next, got->error);
        if (got->next == NBD_REQUEST && (got->op != row->op || got->host_flags != row->host_flags))
            fail_msg("%s: op %u, flags %u", row->what, got->op, got->host_flags);
        assert_true(got->cookie == 0x1122334455667788);
        assert_true(got->offset_bytes == row->offset);
        assert_int_equal(got->length_bytes, row->length);
        assert_int_equal(feed.record.request_count, 2);
        assert_int_equal(got[1].op, HOST_FLUSH);
        if (row->next == NBD_ANSWER && row->error != NBD_OK)
            assert_int_equal(feed.record.payload_bytes, 0);
    }
}

static void disconnect_ends_in_order(void **state)
{
    BEGIN_TRANSMISSION(false, GO_VM0);
    size_t wire = feed.record.wire_bytes;
    send_request(&stream, 0, NBD_DISC, 1, 0, 0);
    flush_stream();
    assert_int_equal(feed.record.last, NBD_END);
    assert_int_equal(feed.record.wire_bytes, wire);
    assert_string_equal(feed.conn.reason, "the client disconnected");
    send_request(&stream, 0, NBD_READ, 1, 0, 1);
    flush_stream();
    assert_int_equal(feed.record.request_count, 0);
}

static void oversized_writes_are_skipped_or_close(void **state)
{
    static const struct {
        uint32_t length;
        enum nbd_next last;
    } rows[] = {
        {HOST_IO_BYTES + 1, NBD_MORE},
        {NBD_PAYLOAD_SKIP_BYTES, NBD_MORE},
        {NBD_PAYLOAD_SKIP_BYTES + 1, NBD_BROKEN},
        {0xFFFFFFFF, NBD_BROKEN},
    };
    static uint8_t zeroes[1 << 16];
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        BEGIN_TRANSMISSION(true, GO_VM0);
        send_request(&stream, 0, NBD_WRITE, 1, 0, rows[i].length);
        flush_stream();
        assert_int_equal(feed.record.last, rows[i].last);
        if (rows[i].last != NBD_MORE)
            continue;
        size_t left = rows[i].length;
        for (; left > sizeof zeroes; left -= sizeof zeroes)
            feed_bytes(&feed, zeroes, sizeof zeroes);
        feed_bytes(&feed, zeroes, left - 1);
        assert_int_equal(feed.record.request_count, 0); /* answered after its payload only */
        feed_bytes(&feed, zeroes, 1);
        send_request(&stream, 0, NBD_FLUSH, 2, 0, 0);
        flush_stream();
        assert_int_equal(feed.record.request_count, 2);
        assert_int_equal(feed.record.requests[0].error, NBD_EINVAL);
        assert_int_equal(feed.record.requests[0].length_bytes, rows[i].length);
        assert_int_equal(feed.record.payload_bytes, 0);
    }
}

/* ---- payloads ---- */

static void payload_is_handed_out_in_place(void **state)
{
    BEGIN_TRANSMISSION(false, GO_VM0);
    struct nbd_request request;
    struct nbd_output output = feed.out;
    send_request(&stream, 0, NBD_WRITE, 1, 0, 1000);
    send_payload(&stream, 1000);

    /* Half of it is here: the header comes at once, with what is missing. */
    struct nbd_input input = {stream.bytes, NBD_REQUEST_BYTES + 400};
    assert_int_equal(nbd_step(&feed.conn, &three, &input, &output, &request), NBD_REQUEST);
    assert_ptr_equal(request.payload, stream.bytes + NBD_REQUEST_BYTES);
    assert_int_equal(request.payload_bytes, 400);
    assert_int_equal(request.payload_missing_bytes, 600);
    assert_int_equal(input.length, 0);

    /* A payload that the caller wants whole waits, without a byte consumed. */
    feed.conn.whole_payload_bytes = 1000;
    input = (struct nbd_input){stream.bytes, NBD_REQUEST_BYTES + 999};
    assert_int_equal(nbd_step(&feed.conn, &three, &input, &output, &request), NBD_MORE);
    assert_int_equal(input.length, NBD_REQUEST_BYTES + 999);
    input.length++;
    assert_int_equal(nbd_step(&feed.conn, &three, &input, &output, &request), NBD_REQUEST);
    assert_ptr_equal(request.payload, stream.bytes + NBD_REQUEST_BYTES);
    assert_int_equal(request.payload_bytes, 1000);
    assert_int_equal(request.payload_missing_bytes, 0);
    assert_int_equal(input.length, 0);

    /* One byte longer than that does not wait. */
    feed.conn.whole_payload_bytes = 999;
    input = (struct nbd_input){stream.bytes, NBD_REQUEST_BYTES};
    assert_int_equal(nbd_step(&feed.conn, &three, &input, &output, &request), NBD_REQUEST);
    assert_int_equal(request.payload_missing_bytes, 1000);
}

static void output_without_room_consumes_nothing(void **state)
{
    begin(&three);
    flush_stream();
    SEND_OPTION(&stream, NBD_OPT_STRUCTURED_REPLY, "");
    struct nbd_input input = {stream.bytes, stream.length};
    struct nbd_output output = {feed.output, FEED_OUTPUT_LIMIT,
                                FEED_OUTPUT_LIMIT - NBD_OUTPUT_BYTES + 1};
    struct nbd_request request;
    assert_int_equal(nbd_step(&feed.conn, &three, &input, &output, &request), NBD_OUTPUT_FULL);
    assert_int_equal(input.length, stream.length);
    output.used--;
    assert_int_equal(nbd_step(&feed.conn, &three, &input, &output, &request), NBD_MORE);
    assert_int_equal(input.length, 0);
}

/* ---- replies ---- */

static void replies_have_the_form_of_the_document(void **state)
{
    static const struct nbd_conn simple = {.structured = false};
    static const struct nbd_conn chunks = {.structured = true, .block_status = true};
    uint8_t to[NBD_REPLY_BYTES];
    const uint64_t cookie = 0x0102030405060708;
#define COOKIE "\1\2\3\4\5\6\7\10"
#define IS(call, text)                                                                             \
    do {                                                                                           \
        assert_int_equal((call), sizeof(text) - 1);                                                \
        assert_memory_equal(to, (text), sizeof(text) - 1);                                         \
    } while (0)
#define SIMPLE "\147\104\146\230"
#define CHUNK  "\146\216\063\357\0\1"
    IS(nbd_reply(&simple, to, NBD_READ, cookie, NBD_EIO, "why"), SIMPLE "\0\0\0\5" COOKIE);
    IS(nbd_reply(&simple, to, NBD_WRITE, cookie, NBD_OK, NULL), SIMPLE "\0\0\0\0" COOKIE);
    IS(nbd_reply(&chunks, to, NBD_WRITE, cookie, NBD_OK, NULL), SIMPLE "\0\0\0\0" COOKIE);
    IS(nbd_reply(&chunks, to, NBD_READ, cookie, NBD_OK, NULL), CHUNK "\0\0" COOKIE "\0\0\0\0");
    IS(nbd_reply(&chunks, to, NBD_READ, cookie, NBD_ESHUTDOWN, "why"),
       CHUNK "\200\1" COOKIE "\0\0\0\11\0\0\0\154\0\3why");
    IS(nbd_reply(&chunks, to, NBD_WRITE, cookie, NBD_EPERM, NULL),
       CHUNK "\200\1" COOKIE "\0\0\0\6\0\0\0\1\0\0");

    IS(nbd_reply_read_header(&simple, to, cookie, 512, 4096), SIMPLE "\0\0\0\0" COOKIE);
    assert_int_equal(nbd_read_header_size(&simple), 16);
    IS(nbd_reply_read_header(&chunks, to, cookie, 512, 4096),
       CHUNK "\0\1" COOKIE "\0\0\20\10\0\0\0\0\0\0\2\0");
    assert_int_equal(nbd_read_header_size(&chunks), 28);

    struct nbd_extent extents[] = {{4096, 0}, {512, NBD_STATE_HOLE | NBD_STATE_ZERO}};
    IS(nbd_reply_block_status(&chunks, to, cookie, extents, 2),
       CHUNK "\0\5" COOKIE "\0\0\0\24\0\0\0\1\0\0\20\0\0\0\0\0\0\0\2\0\0\0\0\3");
    assert_int_equal(NBD_BLOCK_STATUS_BYTES(2), 20 + 20);
}

static void texts_are_cut_between_characters(void **state)
{
    static const struct nbd_conn chunks = {.structured = true};
    uint8_t to[NBD_REPLY_BYTES];
    char text[NBD_TEXT_BYTES + 10] = {0};
    memset(text, 'x', NBD_TEXT_BYTES);
    assert_int_equal(nbd_reply(&chunks, to, NBD_READ, 1, NBD_EIO, text), NBD_REPLY_BYTES);
    memcpy(text + NBD_TEXT_BYTES - 1, "\xC3\xA9", 2); /* one character across the limit */
    assert_int_equal(nbd_reply(&chunks, to, NBD_READ, 1, NBD_EIO, text), NBD_REPLY_BYTES - 1);
    assert_int_equal(get_u16(to + 24), NBD_TEXT_BYTES - 1);
}

static void results_become_error_values(void **state)
{
    static const struct {
        enum host_result result;
        uint16_t command;
        enum nbd_error error;
    } rows[] = {
        {HOST_OK, NBD_READ, NBD_OK},         {HOST_NOT_OWNER, NBD_WRITE, NBD_ESHUTDOWN},
        {HOST_RANGE, NBD_READ, NBD_EINVAL},  {HOST_RANGE, NBD_TRIM, NBD_EINVAL},
        {HOST_RANGE, NBD_WRITE, NBD_ENOSPC}, {HOST_RANGE, NBD_WRITE_ZEROES, NBD_ENOSPC},
        {HOST_BUSY, NBD_READ, NBD_ENOMEM},   {HOST_IO_ERROR, NBD_READ, NBD_EIO},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++)
        assert_int_equal(nbd_error_of(rows[i].result, rows[i].command), rows[i].error);
}

/* ---- how the bytes are cut changes nothing ---- */

static void long_story(bool structured)
{
    stream.length = 0;
    send_flags(&stream, 3);
    if (structured) {
        SEND_OPTION(&stream, NBD_OPT_STRUCTURED_REPLY, "");
        SEND_OPTION(&stream, NBD_OPT_SET_META_CONTEXT, META_VM0);
    }
    SEND_OPTION(&stream, NBD_OPT_LIST, "");
    SEND_OPTION(&stream, 99, "what is this");
    SEND_OPTION(&stream, NBD_OPT_INFO, "\0\0\0\3vm1\0\0");
    SEND_OPTION(&stream, NBD_OPT_GO, "\0\0\0\3vm0\0\4\0\0\0\1\0\2\0\3");
    send_request(&stream, 0, NBD_READ, 1, 0, 4096);
    send_request(&stream, NBD_FUA, NBD_WRITE, 2, 0, 100);
    send_payload(&stream, 100);
    send_request(&stream, 0, NBD_WRITE, 3, TIB, 90); /* refused, payload skipped */
    send_payload(&stream, 90);
    send_request(&stream, 0, NBD_WRITE, 4, 0, 0);
    send_request(&stream, 0, NBD_WRITE, 5, 7, 301);
    send_payload(&stream, 301);
    send_request(&stream, 0, NBD_FLUSH, 6, 0, 0);
    send_request(&stream, 0, NBD_TRIM, 7, 0, 512);
    send_request(&stream, NBD_NO_HOLE, NBD_WRITE_ZEROES, 8, 0, 512);
    send_request(&stream, NBD_REQ_ONE, NBD_BLOCK_STATUS, 9, 0, 65536);
    send_request(&stream, 0, 42, 10, 0, 512);
    send_request(&stream, 0, NBD_DISC, 11, 0, 0);
}

static void skipping_story(bool structured)
{
    stream.length = 0;
    send_flags(&stream, 3);
    send_option_head(&stream, structured ? NBD_OPT_SET_META_CONTEXT : 99, NBD_OPTION_BYTES + 9);
    send_payload(&stream, NBD_OPTION_BYTES + 9);
    SEND_OPTION(&stream, NBD_OPT_EXPORT_NAME, "ro");
    send_request(&stream, 0, NBD_WRITE, 1, 0, 33);
    send_payload(&stream, 33);
    send_request(&stream, 0, NBD_READ, 2, 0, 33);
    send_bytes(&stream, "garbage, garbage, garbage, garbage", 34);
}

static void feed_in_two(size_t cut, uint32_t whole, size_t output)
{
    feed_start(&other, &three, whole, output);
    feed_bytes(&other, stream.bytes, cut);
    feed_bytes(&other, stream.bytes + cut, stream.length - cut);
    if (!feed_equal(&feed, &other))
        fail_msg("cut at %zu of %zu: different", cut, stream.length);
}

static void cuts_change_nothing_in(void (*story)(bool), enum nbd_next last)
{
    static const uint32_t whole[] = {0, 100, 4096};
    for (unsigned i = 0; i < 2 * ARRAY_LENGTH(whole); i++) {
        story(i % 2);
        uint32_t whole_bytes = whole[i / 2];
        feed_start(&feed, &three, whole_bytes, FEED_OUTPUT_LIMIT);
        feed_bytes(&feed, stream.bytes, stream.length);
        assert_int_equal(feed.record.last, last);
        for (size_t cut = 0; cut <= stream.length; cut++)
            feed_in_two(cut, whole_bytes, cut % 2 ? NBD_OUTPUT_BYTES : FEED_OUTPUT_LIMIT);

        for (size_t piece = 1; piece < 40; piece++) {
            feed_start(&other, &three, whole_bytes, NBD_OUTPUT_BYTES);
            for (size_t at = 0; at < stream.length; at += piece)
                feed_bytes(&other, stream.bytes + at,
                           piece < stream.length - at ? piece : stream.length - at);
            assert_true(feed_equal(&feed, &other));
        }
    }
}

static void cuts_change_nothing(void **state)
{
    cuts_change_nothing_in(long_story, NBD_END);
    assert_int_equal(feed.record.request_count, 10);
    assert_int_equal(feed.record.payload_bytes, 401);
}

static void cuts_change_nothing_where_bytes_are_skipped(void **state)
{
    cuts_change_nothing_in(skipping_story, NBD_BROKEN);
    assert_int_equal(feed.record.request_count, 2);
}

/* ---- seeds ---- */

static void write_seed(const char *folder, const char *name, const char *choice)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(choice, 1, 3, file), 3);
    assert_int_equal(fwrite(stream.bytes, 1, stream.length, file), stream.length);
    assert_int_equal(fclose(file), 0);
}

/* Each kind of client once; the first three bytes are the fuzz target's choices. */
static void seeds_for_the_fuzz_target(void **state)
{
    const char *folder = getenv("NBD_CORPUS");
    long_story(true);
    write_seed(folder, "structured", "\0\7\77");
    long_story(false);
    write_seed(folder, "simple", "\2\1\0");
    skipping_story(false);
    write_seed(folder, "skipping", "\4\377\377");
    stream.length = 0;
    send_flags(&stream, 0);
    SEND_OPTION(&stream, NBD_OPT_EXPORT_NAME, "");
    send_request(&stream, 0, NBD_WRITE, 1, 4096, 64);
    send_payload(&stream, 64);
    write_seed(folder, "default", "\7\20\3");
    stream.length = 0;
    send_flags(&stream, 3);
    SEND_OPTION(&stream, NBD_OPT_STRUCTURED_REPLY, "");
    SEND_OPTION(&stream, NBD_OPT_LIST_META_CONTEXT, "\0\0\0\3vm0\0\0\0\1\0\0\0\5base:");
    SEND_OPTION(&stream, NBD_OPT_STARTTLS, "");
    SEND_OPTION(&stream, NBD_OPT_ABORT, "");
    write_seed(folder, "abort", "\0\0\17");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_magic_closes),
        cmocka_unit_test(command_rows_are_passed_on_or_answered),
        cmocka_unit_test(disconnect_ends_in_order),
        cmocka_unit_test(oversized_writes_are_skipped_or_close),
        cmocka_unit_test(payload_is_handed_out_in_place),
        cmocka_unit_test(output_without_room_consumes_nothing),
        cmocka_unit_test(replies_have_the_form_of_the_document),
        cmocka_unit_test(texts_are_cut_between_characters),
        cmocka_unit_test(results_become_error_values),
        cmocka_unit_test(cuts_change_nothing),
        cmocka_unit_test(cuts_change_nothing_where_bytes_are_skipped),
    };
    const struct CMUnitTest seeds[] = {cmocka_unit_test(seeds_for_the_fuzz_target)};
    if (getenv("NBD_CORPUS") != NULL)
        return cmocka_run_group_tests(seeds, NULL, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
