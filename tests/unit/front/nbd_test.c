/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The NBD engine by rows: what goes in, what must come out. Every rule is one from the protocol
 * document or from front/nbd.h. With NBD_CORPUS=<folder> in the environment it writes the fuzz
 * target's seeds there instead. */

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
static const struct nbd_owner owners[] = {{1, NULL}, {0, VM1_REFUSAL}, {1, NULL}};
static const struct nbd_exports three = {table, owners, 3};
static const struct nbd_exports one = {table, owners, 1};

/* ---- what a client sends ---- */

struct stream {
    size_t length;
    uint8_t bytes[64 * 1024];
};

static void send_bytes(struct stream *stream, const void *bytes, size_t length)
{
    assert_true(length <= sizeof stream->bytes - stream->length);
    memcpy(stream->bytes + stream->length, bytes, length);
    stream->length += length;
}

static void send_flags(struct stream *stream, uint32_t flags)
{
    uint8_t bytes[4];
    put_u32(bytes, flags);
    send_bytes(stream, bytes, sizeof bytes);
}

static void send_option_head(struct stream *stream, uint32_t option, uint32_t length)
{
    uint8_t head[16];
    put_u64(head, NBD_MAGIC_OPTION);
    put_u32(head + 8, option);
    put_u32(head + 12, length);
    send_bytes(stream, head, sizeof head);
}

static void send_option(struct stream *stream, uint32_t option, const void *data, size_t length)
{
    send_option_head(stream, option, (uint32_t)length);
    send_bytes(stream, data, length);
}

#define SEND_OPTION(stream, option, literal)                                                       \
    send_option((stream), (option), (literal), sizeof(literal) - 1)

#define GO_VM0   "\0\0\0\3vm0\0\0"
#define GO_RO    "\0\0\0\2ro\0\0"
#define META_VM0 "\0\0\0\3vm0\0\0\0\1\0\0\0\17base:allocation"

static void send_request(struct stream *stream, uint16_t flags, uint16_t command, uint64_t cookie,
                         uint64_t offset, uint32_t length)
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

static void send_payload(struct stream *stream, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++) {
        uint8_t byte = (uint8_t)(i * 7 + length);
        send_bytes(stream, &byte, 1);
    }
}

static struct stream stream; /* large; each test empties it */
static struct feed feed, other;

static void begin(const struct nbd_exports *exports)
{
    stream.length = 0;
    feed_start(&feed, exports, 0, FEED_OUTPUT_LIMIT);
    send_flags(&stream, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
}

static void flush_stream(void)
{
    feed_bytes(&feed, stream.bytes, stream.length);
    stream.length = 0;
}

/* To the transmission phase, leaving the record at its end. */
static void begin_transmission(bool structured, const char *go, size_t go_length)
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

/* ---- what it gets ---- */

/* Take one option reply off the wire; its data is left in *data. */
static uint32_t next_reply(size_t *at, uint32_t option, const uint8_t **data, uint32_t *length)
{
    const uint8_t *head = feed.record.wire + *at;
    assert_true(*at + NBD_OPTION_REPLY_BYTES <= feed.record.wire_bytes);
    assert_true(get_u64(head) == NBD_MAGIC_OPTION_REPLY);
    assert_int_equal(get_u32(head + 8), option);
    *length = get_u32(head + 16);
    *data = head + NBD_OPTION_REPLY_BYTES;
    *at += NBD_OPTION_REPLY_BYTES + *length;
    assert_true(*at <= feed.record.wire_bytes);
    return get_u32(head + 12);
}

static void greeting_is_fixed_newstyle_no_zeroes(void **state)
{
    feed_start(&feed, &three, 0, NBD_OUTPUT_BYTES);
    assert_int_equal(feed.record.wire_bytes, 18);
    assert_memory_equal(feed.record.wire, "NBDMAGICIHAVEOPT\0\3", 18);
    assert_int_equal(feed.record.last, NBD_MORE);
}

static void client_flags_unknown_ones_close(void **state)
{
    for (unsigned bit = 0; bit < 32; bit++) {
        feed_start(&feed, &three, 0, NBD_OUTPUT_BYTES);
        stream.length = 0;
        send_flags(&stream, UINT32_C(1) << bit);
        flush_stream();
        assert_int_equal(feed.record.last, bit < 2 ? NBD_MORE : NBD_BROKEN);
        if (bit >= 2) {
            assert_string_equal(feed.conn.reason, "unknown client flags");
            assert_true(feed.conn.reason_value == UINT32_C(1) << bit);
        }
    }
}

/* One option after the client's flags, and the types of the replies. */
struct option_row {
    const char *what;
    const struct nbd_exports *exports;
    bool structured; /* negotiated before */
    uint32_t option;
    const char *data;
    size_t length;
    uint32_t replies[6]; /* ends with 0 */
    enum nbd_next last;
    const char *text; /* the data of the last reply, when it matters */
};

#define DATA(literal) (literal), sizeof(literal) - 1
#define ACK           NBD_REP_ACK
#define INFO          NBD_REP_INFO
#define INVALID       NBD_REP_ERR_INVALID
#define UNKNOWN       NBD_REP_ERR_UNKNOWN
#define CONTEXT       NBD_REP_META_CONTEXT

static const struct option_row option_rows[] = {
    {"abort", &three, 0, NBD_OPT_ABORT, DATA(""), {ACK}, NBD_END, NULL},
    {"abort ignores data", &three, 0, NBD_OPT_ABORT, DATA("xyz"), {ACK}, NBD_END, NULL},
    {"list",
     &three,
     0,
     NBD_OPT_LIST,
     DATA(""),
     {NBD_REP_SERVER, NBD_REP_SERVER, NBD_REP_SERVER, ACK},
     NBD_MORE,
     NULL},
    {"list with data", &three, 0, NBD_OPT_LIST, DATA("x"), {INVALID}, NBD_MORE, NULL},
    {"structured", &three, 0, NBD_OPT_STRUCTURED_REPLY, DATA(""), {ACK}, NBD_MORE, NULL},
    {"structured twice", &three, 1, NBD_OPT_STRUCTURED_REPLY, DATA(""), {ACK}, NBD_MORE, NULL},
    {"structured with data",
     &three,
     0,
     NBD_OPT_STRUCTURED_REPLY,
     DATA("x"),
     {INVALID},
     NBD_MORE,
     NULL},
    {"starttls",
     &three,
     0,
     NBD_OPT_STARTTLS,
     DATA(""),
     {NBD_REP_ERR_UNSUP},
     NBD_MORE,
     "TLS is not offered here"},
    {"starttls with data", &three, 0, NBD_OPT_STARTTLS, DATA("x"), {INVALID}, NBD_MORE, NULL},
    {"peek export", &three, 0, 4, DATA(""), {NBD_REP_ERR_UNSUP}, NBD_MORE, NULL},
    {"extended headers", &three, 1, 11, DATA(""), {NBD_REP_ERR_UNSUP}, NBD_MORE, NULL},
    {"option 0", &three, 0, 0, DATA("abc"), {NBD_REP_ERR_UNSUP}, NBD_MORE, NULL},
    {"unknown option", &three, 0, 0xFFFFFFFF, DATA("abc"), {NBD_REP_ERR_UNSUP}, NBD_MORE, NULL},

    {"info", &three, 0, NBD_OPT_INFO, DATA("\0\0\0\3vm0\0\0"), {INFO, ACK}, NBD_MORE, NULL},
    {"info, all types and an unknown one",
     &three,
     0,
     NBD_OPT_INFO,
     DATA("\0\0\0\3vm0\0\6\0\0\0\1\0\2\0\3\0\3\0\11"),
     {INFO, INFO, INFO, INFO, ACK},
     NBD_MORE,
     NULL},
    {"info, no description to tell",
     &one,
     0,
     NBD_OPT_INFO,
     DATA("\0\0\0\3vm1\0\1\0\2"),
     {UNKNOWN},
     NBD_MORE,
     "no volume has this name"},
    {"info, default of one",
     &one,
     0,
     NBD_OPT_INFO,
     DATA("\0\0\0\0\0\0"),
     {INFO, ACK},
     NBD_MORE,
     NULL},
    {"info, default of three",
     &three,
     0,
     NBD_OPT_INFO,
     DATA("\0\0\0\0\0\0"),
     {UNKNOWN},
     NBD_MORE,
     "there is no default volume; ask for one by name"},
    {"info, a name's beginning",
     &three,
     0,
     NBD_OPT_INFO,
     DATA("\0\0\0\2vm\0\0"),
     {UNKNOWN},
     NBD_MORE,
     NULL},
    {"info, a name and more",
     &three,
     0,
     NBD_OPT_INFO,
     DATA("\0\0\0\4vm0\0\0\0"),
     {UNKNOWN},
     NBD_MORE,
     NULL},
    {"info, not ours",
     &three,
     0,
     NBD_OPT_INFO,
     DATA("\0\0\0\3vm1\0\0"),
     {NBD_REP_ERR_POLICY},
     NBD_MORE,
     VM1_REFUSAL},
    {"info, empty", &three, 0, NBD_OPT_INFO, DATA(""), {INVALID}, NBD_MORE, NULL},
    {"info, no count", &three, 0, NBD_OPT_INFO, DATA("\0\0\0\3vm0"), {INVALID}, NBD_MORE, NULL},
    {"info, half a count",
     &three,
     0,
     NBD_OPT_INFO,
     DATA("\0\0\0\3vm0\0"),
     {INVALID},
     NBD_MORE,
     NULL},
    {"info, name past the data",
     &three,
     0,
     NBD_OPT_INFO,
     DATA("\0\0\0\6vm0\0\0"),
     {INVALID},
     NBD_MORE,
     NULL},
    {"info, huge name",
     &three,
     0,
     NBD_OPT_INFO,
     DATA("\377\377\377\377vm0\0\0"),
     {INVALID},
     NBD_MORE,
     NULL},
    {"info, fewer types than counted",
     &three,
     0,
     NBD_OPT_INFO,
     DATA("\0\0\0\3vm0\0\2\0\0"),
     {INVALID},
     NBD_MORE,
     NULL},
    {"info, more types than counted",
     &three,
     0,
     NBD_OPT_INFO,
     DATA("\0\0\0\3vm0\0\1\0\0\0\1"),
     {INVALID},
     NBD_MORE,
     NULL},

    {"go", &three, 0, NBD_OPT_GO, DATA(GO_VM0), {INFO, ACK}, NBD_READY, NULL},
    {"go, block size",
     &three,
     0,
     NBD_OPT_GO,
     DATA("\0\0\0\3vm0\0\1\0\3"),
     {INFO, INFO, ACK},
     NBD_READY,
     NULL},
    {"go, default of one", &one, 0, NBD_OPT_GO, DATA("\0\0\0\0\0\0"), {INFO, ACK}, NBD_READY, NULL},
    {"go, unknown",
     &three,
     0,
     NBD_OPT_GO,
     DATA("\0\0\0\3vm9\0\0"),
     {UNKNOWN},
     NBD_MORE,
     "no volume has this name"},
    {"go, not ours",
     &three,
     0,
     NBD_OPT_GO,
     DATA("\0\0\0\3vm1\0\0"),
     {NBD_REP_ERR_POLICY},
     NBD_MORE,
     VM1_REFUSAL},
    {"go, broken", &three, 0, NBD_OPT_GO, DATA("\0\0\0\3vm0\0\1"), {INVALID}, NBD_MORE, NULL},

    {"list contexts, unstructured",
     &three,
     0,
     NBD_OPT_LIST_META_CONTEXT,
     DATA(META_VM0),
     {INVALID},
     NBD_MORE,
     "negotiate structured replies first"},
    {"set contexts, unstructured",
     &three,
     0,
     NBD_OPT_SET_META_CONTEXT,
     DATA(META_VM0),
     {INVALID},
     NBD_MORE,
     "negotiate structured replies first"},
    {"list contexts",
     &three,
     1,
     NBD_OPT_LIST_META_CONTEXT,
     DATA(META_VM0),
     {CONTEXT, ACK},
     NBD_MORE,
     NULL},
    {"list contexts, no query",
     &three,
     1,
     NBD_OPT_LIST_META_CONTEXT,
     DATA("\0\0\0\3vm0\0\0\0\0"),
     {CONTEXT, ACK},
     NBD_MORE,
     NULL},
    {"list contexts, base:",
     &three,
     1,
     NBD_OPT_LIST_META_CONTEXT,
     DATA("\0\0\0\3vm0\0\0\0\1\0\0\0\5base:"),
     {CONTEXT, ACK},
     NBD_MORE,
     NULL},
    {"list contexts, another",
     &three,
     1,
     NBD_OPT_LIST_META_CONTEXT,
     DATA("\0\0\0\3vm0\0\0\0\1\0\0\0\5qemu:"),
     {ACK},
     NBD_MORE,
     NULL},
    {"set contexts",
     &three,
     1,
     NBD_OPT_SET_META_CONTEXT,
     DATA(META_VM0),
     {CONTEXT, ACK},
     NBD_MORE,
     NULL},
    {"set contexts, twice the same",
     &three,
     1,
     NBD_OPT_SET_META_CONTEXT,
     DATA("\0\0\0\3vm0\0\0\0\2\0\0\0\17base:allocation\0\0\0\17base:allocation"),
     {CONTEXT, ACK},
     NBD_MORE,
     NULL},
    {"set contexts, no query",
     &three,
     1,
     NBD_OPT_SET_META_CONTEXT,
     DATA("\0\0\0\3vm0\0\0\0\0"),
     {ACK},
     NBD_MORE,
     NULL},
    {"set contexts, base:",
     &three,
     1,
     NBD_OPT_SET_META_CONTEXT,
     DATA("\0\0\0\3vm0\0\0\0\1\0\0\0\5base:"),
     {ACK},
     NBD_MORE,
     NULL},
    {"set contexts, unknown volume",
     &three,
     1,
     NBD_OPT_SET_META_CONTEXT,
     DATA("\0\0\0\3vm9\0\0\0\0"),
     {UNKNOWN},
     NBD_MORE,
     NULL},
    {"set contexts, empty",
     &three,
     1,
     NBD_OPT_SET_META_CONTEXT,
     DATA(""),
     {INVALID},
     NBD_MORE,
     NULL},
    {"set contexts, query past the data",
     &three,
     1,
     NBD_OPT_SET_META_CONTEXT,
     DATA("\0\0\0\3vm0\0\0\0\1\0\0\0\6base:"),
     {INVALID},
     NBD_MORE,
     NULL},
    {"set contexts, false count",
     &three,
     1,
     NBD_OPT_SET_META_CONTEXT,
     DATA("\0\0\0\3vm0\377\377\377\377\0\0\0\5base:"),
     {INVALID},
     NBD_MORE,
     NULL},
    {"set contexts, bytes left over",
     &three,
     1,
     NBD_OPT_SET_META_CONTEXT,
     DATA("\0\0\0\3vm0\0\0\0\0x"),
     {INVALID},
     NBD_MORE,
     NULL},
};

static void option_rows_get_their_replies(void **state)
{
    for (size_t i = 0; i < ARRAY_LENGTH(option_rows); i++) {
        const struct option_row *row = &option_rows[i];
        begin(row->exports);
        if (row->structured)
            SEND_OPTION(&stream, NBD_OPT_STRUCTURED_REPLY, "");
        flush_stream();
        size_t at = feed.record.wire_bytes;
        send_option(&stream, row->option, row->data, row->length);
        flush_stream();

        const uint8_t *data = NULL;
        uint32_t length = 0;
        for (size_t r = 0; r < ARRAY_LENGTH(row->replies) && row->replies[r] != 0; r++) {
            uint32_t type = next_reply(&at, row->option, &data, &length);
            if (type != row->replies[r])
                fail_msg("%s: reply %zu is %x", row->what, r, type);
        }
        if (at != feed.record.wire_bytes)
            fail_msg("%s: more was written", row->what);
        if (row->text != NULL) {
            assert_int_equal(length, strlen(row->text));
            assert_memory_equal(data, row->text, length);
        }
        bool ready = row->last == NBD_READY;
        if (feed.record.last != (ready ? NBD_MORE : row->last))
            fail_msg("%s: ended with %u", row->what, feed.record.last);
        assert_int_equal(feed.conn.state == NBD_TRANSMISSION, ready);
        if (row->last == NBD_MORE) { /* the client may go on */
            SEND_OPTION(&stream, NBD_OPT_GO, GO_VM0);
            flush_stream();
            assert_int_equal(feed.conn.state, NBD_TRANSMISSION);
        }
    }
}

static void info_says_size_flags_name_description_and_block_size(void **state)
{
    begin(&three);
    SEND_OPTION(&stream, NBD_OPT_INFO, "\0\0\0\3vm0\0\3\0\1\0\2\0\3");
    flush_stream();
    size_t at = NBD_GREETING_BYTES;
    const uint8_t *data;
    uint32_t length;
    assert_int_equal(next_reply(&at, NBD_OPT_INFO, &data, &length), INFO);
    assert_int_equal(length, 12);
    /* HAS_FLAGS, FLUSH, FUA, TRIM, WRITE_ZEROES, CAN_MULTI_CONN; DF only with structured replies */
    assert_memory_equal(data,
                        "\0\0"
                        "\0\0\1\0\0\0\0\0"
                        "\001\155",
                        12);
    assert_int_equal(next_reply(&at, NBD_OPT_INFO, &data, &length), INFO);
    assert_int_equal(length, 5);
    assert_memory_equal(data, "\0\1vm0", 5);
    assert_int_equal(next_reply(&at, NBD_OPT_INFO, &data, &length), INFO);
    assert_int_equal(length, 18);
    assert_memory_equal(data, "\0\2the first volume", 18);
    assert_int_equal(next_reply(&at, NBD_OPT_INFO, &data, &length), INFO);
    assert_int_equal(length, 14);
    assert_memory_equal(data,
                        "\0\3"
                        "\0\0\0\1"
                        "\0\0\20\0"
                        "\2\0\0\0",
                        14);
}

static void flags_follow_the_volume_and_the_negotiation(void **state)
{
    static const struct {
        bool structured, read_only;
        uint16_t flags;
    } rows[] = {{0, 0, 0x16D}, {1, 0, 0x1ED}, {0, 1, 0x10F}, {1, 1, 0x18F}};
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        begin(&three);
        if (rows[i].structured)
            SEND_OPTION(&stream, NBD_OPT_STRUCTURED_REPLY, "");
        if (rows[i].read_only)
            SEND_OPTION(&stream, NBD_OPT_EXPORT_NAME, "ro");
        else
            SEND_OPTION(&stream, NBD_OPT_EXPORT_NAME, "vm0");
        flush_stream();
        assert_int_equal(get_u16(feed.record.wire + feed.record.wire_bytes - 2), rows[i].flags);
    }
}

static void export_name_pads_unless_no_zeroes(void **state)
{
    for (uint32_t flags = 0; flags < 4; flags++) {
        stream.length = 0;
        feed_start(&feed, &three, 0, NBD_OUTPUT_BYTES);
        send_flags(&stream, flags);
        SEND_OPTION(&stream, NBD_OPT_EXPORT_NAME, "vm0");
        flush_stream();
        assert_int_equal(feed.conn.state, NBD_TRANSMISSION);
        assert_int_equal(feed.conn.export_index, 0);
        assert_true(feed.conn.size_bytes == UINT64_C(1) << 40);
        size_t length = feed.record.wire_bytes - NBD_GREETING_BYTES;
        assert_int_equal(length, flags & NBD_FLAG_NO_ZEROES ? 10 : 134);
        assert_memory_equal(feed.record.wire + NBD_GREETING_BYTES, "\0\0\1\0\0\0\0\0\1\155", 10);
        for (size_t i = 10; i < length; i++)
            assert_int_equal(feed.record.wire[NBD_GREETING_BYTES + i], 0);
    }
}

static void export_name_closes_where_it_cannot_refuse(void **state)
{
    static const struct {
        const struct nbd_exports *exports;
        const char *name;
        const char *reason;
    } rows[] = {
        {&three, "vm1", "EXPORT_NAME of a volume that this controller does not serve"},
        {&three, "vm9", "EXPORT_NAME of a volume that does not exist"},
        {&three, "", "EXPORT_NAME of a volume that does not exist"},
        {&one, "", NULL},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        begin(rows[i].exports);
        send_option(&stream, NBD_OPT_EXPORT_NAME, rows[i].name, strlen(rows[i].name));
        flush_stream();
        assert_int_equal(feed.record.last, rows[i].reason != NULL ? NBD_BROKEN : NBD_MORE);
        if (rows[i].reason != NULL) {
            assert_string_equal(feed.conn.reason, rows[i].reason);
            assert_int_equal(feed.record.wire_bytes, NBD_GREETING_BYTES);
        }
    }
}

static void list_of_256_volumes_comes_in_pieces(void **state)
{
    static char names[VOLUME_LIMIT][VOLUME_NAME_SIZE];
    static struct nbd_export many[VOLUME_LIMIT];
    static struct nbd_owner served[VOLUME_LIMIT];
    static char text[400];
    memset(text, 'd', sizeof text - 1);
    for (unsigned i = 0; i < VOLUME_LIMIT; i++) {
        snprintf(names[i], sizeof names[i], "%0*u", (int)(i % 63 + 1), i);
        many[i] = (struct nbd_export){names[i], i % 3 == 0 ? text : NULL, 1 << 20, false};
    }
    struct nbd_exports exports = {many, served, VOLUME_LIMIT};
    for (size_t output = NBD_OUTPUT_BYTES; output <= FEED_OUTPUT_LIMIT; output += 1024) {
        feed_start(&feed, &exports, 0, output);
        stream.length = 0;
        send_flags(&stream, 3);
        SEND_OPTION(&stream, NBD_OPT_LIST, "");
        flush_stream();
        size_t at = NBD_GREETING_BYTES;
        const uint8_t *data;
        uint32_t length;
        for (unsigned i = 0; i < VOLUME_LIMIT; i++) {
            assert_int_equal(next_reply(&at, NBD_OPT_LIST, &data, &length), NBD_REP_SERVER);
            uint32_t name = get_u32(data);
            assert_int_equal(name, strlen(names[i]));
            assert_memory_equal(data + 4, names[i], name);
            assert_int_equal(length - 4 - name, i % 3 == 0 ? NBD_TEXT_BYTES : 0);
        }
        assert_int_equal(next_reply(&at, NBD_OPT_LIST, &data, &length), ACK);
        assert_int_equal(at, feed.record.wire_bytes);
    }
}

static void list_can_be_asked_again(void **state)
{
    begin(&three);
    flush_stream();
    for (unsigned i = 0; i < 2; i++) {
        size_t at = feed.record.wire_bytes;
        SEND_OPTION(&stream, NBD_OPT_LIST, "");
        flush_stream();
        const uint8_t *data;
        uint32_t length;
        for (unsigned r = 0; r < 3; r++)
            assert_int_equal(next_reply(&at, NBD_OPT_LIST, &data, &length), NBD_REP_SERVER);
        assert_int_equal(next_reply(&at, NBD_OPT_LIST, &data, &length), ACK);
    }
}

/* "Values", strings: at most 4096 bytes. */
static void names_are_bounded_in_length(void **state)
{
    static const struct {
        uint32_t length, type;
    } rows[] = {{NBD_NAME_BYTES, UNKNOWN}, {NBD_NAME_BYTES + 1, INVALID}};
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        begin(&three);
        send_option_head(&stream, NBD_OPT_GO, rows[i].length + 6);
        send_flags(&stream, rows[i].length); /* any 32 bits */
        send_payload(&stream, rows[i].length);
        send_bytes(&stream, "\0\0", 2);
        flush_stream();
        size_t at = NBD_GREETING_BYTES;
        const uint8_t *data;
        uint32_t length;
        assert_int_equal(next_reply(&at, NBD_OPT_GO, &data, &length), rows[i].type);
    }
}

static void a_selection_too_long_to_keep_selects_nothing(void **state)
{
    begin(&three);
    SEND_OPTION(&stream, NBD_OPT_STRUCTURED_REPLY, "");
    SEND_OPTION(&stream, NBD_OPT_SET_META_CONTEXT, META_VM0);
    send_option_head(&stream, NBD_OPT_SET_META_CONTEXT, NBD_OPTION_BYTES + 1);
    send_payload(&stream, NBD_OPTION_BYTES + 1);
    SEND_OPTION(&stream, NBD_OPT_GO, GO_VM0);
    flush_stream();
    assert_int_equal(feed.conn.state, NBD_TRANSMISSION);
    assert_false(feed.conn.block_status);
}

static void contexts_have_an_id_only_when_set(void **state)
{
    static const uint32_t options[] = {NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT};
    for (uint32_t i = 0; i < 2; i++) {
        begin(&three);
        SEND_OPTION(&stream, NBD_OPT_STRUCTURED_REPLY, "");
        flush_stream();
        size_t at = feed.record.wire_bytes;
        SEND_OPTION(&stream, options[i], META_VM0);
        flush_stream();
        const uint8_t *data;
        uint32_t length;
        next_reply(&at, options[i], &data, &length);
        assert_int_equal(length, 19);
        assert_int_equal(get_u32(data), i);
        assert_memory_equal(data + 4, "base:allocation", 15);
    }
}

/* Block status is for the volume it was selected for, and for the last selection, even one that
 * failed. */
static void block_status_follows_the_last_selection(void **state)
{
    static const struct {
        const char *data; /* of a second SET_META_CONTEXT, or NULL */
        size_t length;
        bool usable;
    } rows[] = {
        {NULL, 0, true},
        {DATA(META_VM0), true},
        {DATA("\0\0\0\2ro\0\0\0\1\0\0\0\17base:allocation"), false},
        {DATA("\0\0\0\3vm0\0\0\0\0"), false},
        {DATA("broken"), false},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        begin(&three);
        SEND_OPTION(&stream, NBD_OPT_STRUCTURED_REPLY, "");
        SEND_OPTION(&stream, NBD_OPT_SET_META_CONTEXT, META_VM0);
        if (rows[i].data != NULL)
            send_option(&stream, NBD_OPT_SET_META_CONTEXT, rows[i].data, rows[i].length);
        SEND_OPTION(&stream, NBD_OPT_GO, GO_VM0);
        send_request(&stream, 0, NBD_BLOCK_STATUS, 1, 0, 4096);
        flush_stream();
        assert_int_equal(feed.record.requests[0].next, rows[i].usable ? NBD_REQUEST : NBD_ANSWER);
    }
}

static void long_options_are_skipped_and_longer_ones_close(void **state)
{
    static const struct {
        uint32_t option, length;
        enum nbd_next last;
        uint32_t type;
    } rows[] = {
        {77, NBD_OPTION_BYTES, NBD_MORE, NBD_REP_ERR_UNSUP},
        {77, NBD_OPTION_BYTES + 1, NBD_MORE, NBD_REP_ERR_TOO_BIG},
        {NBD_OPT_GO, NBD_OPTION_SKIP_BYTES, NBD_MORE, NBD_REP_ERR_TOO_BIG},
        {NBD_OPT_GO, NBD_OPTION_SKIP_BYTES + 1, NBD_BROKEN, 0},
        {NBD_OPT_GO, 0xFFFFFFFF, NBD_BROKEN, 0},
        {NBD_OPT_EXPORT_NAME, NBD_OPTION_BYTES + 1, NBD_BROKEN, 0},
    };
    static uint8_t zeroes[NBD_OPTION_SKIP_BYTES];
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        begin(&three);
        send_option_head(&stream, rows[i].option, rows[i].length);
        flush_stream();
        assert_int_equal(feed.record.last, rows[i].last);
        if (rows[i].last != NBD_MORE)
            continue;
        assert_int_equal(feed.record.wire_bytes, NBD_GREETING_BYTES);
        feed_bytes(&feed, zeroes, rows[i].length);
        size_t at = NBD_GREETING_BYTES;
        const uint8_t *data;
        uint32_t length;
        assert_int_equal(next_reply(&at, rows[i].option, &data, &length), rows[i].type);
        SEND_OPTION(&stream, NBD_OPT_GO, GO_VM0);
        flush_stream();
        assert_int_equal(feed.conn.state, NBD_TRANSMISSION);
    }
}

static void options_are_bounded_in_number(void **state)
{
    begin(&three);
    for (unsigned i = 0; i < NBD_OPTION_LIMIT; i++) {
        SEND_OPTION(&stream, NBD_OPT_STRUCTURED_REPLY, "");
        flush_stream();
        assert_int_equal(feed.record.last, NBD_MORE);
    }
    SEND_OPTION(&stream, NBD_OPT_STRUCTURED_REPLY, "");
    flush_stream();
    assert_int_equal(feed.record.last, NBD_BROKEN);
    assert_string_equal(feed.conn.reason, "too many options");
}

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
        cmocka_unit_test(greeting_is_fixed_newstyle_no_zeroes),
        cmocka_unit_test(client_flags_unknown_ones_close),
        cmocka_unit_test(option_rows_get_their_replies),
        cmocka_unit_test(info_says_size_flags_name_description_and_block_size),
        cmocka_unit_test(flags_follow_the_volume_and_the_negotiation),
        cmocka_unit_test(export_name_pads_unless_no_zeroes),
        cmocka_unit_test(export_name_closes_where_it_cannot_refuse),
        cmocka_unit_test(list_of_256_volumes_comes_in_pieces),
        cmocka_unit_test(list_can_be_asked_again),
        cmocka_unit_test(names_are_bounded_in_length),
        cmocka_unit_test(a_selection_too_long_to_keep_selects_nothing),
        cmocka_unit_test(contexts_have_an_id_only_when_set),
        cmocka_unit_test(block_status_follows_the_last_selection),
        cmocka_unit_test(long_options_are_skipped_and_longer_ones_close),
        cmocka_unit_test(options_are_bounded_in_number),
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
