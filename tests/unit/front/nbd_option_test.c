/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Negotiation of the NBD engine by rows: what a client asks for, what it must get. Every rule is
 * one from the protocol document or from front/nbd.h. */

#include "nbd_client.h"

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

static void a_volume_that_is_read_only_for_now_says_so(void **state)
{
    struct nbd_owner now[] = {{1, NULL, true}, {0, NULL, false}, {1, NULL, false}};
    const struct nbd_exports exports = {table, now, 3, NULL};
    for (int i = 0; i < 2; i++) {
        begin(&exports);
        SEND_OPTION(&stream, NBD_OPT_EXPORT_NAME, "vm0");
        flush_stream();
        assert_int_equal(get_u16(feed.record.wire + feed.record.wire_bytes - 2),
                         now[0].read_only ? 0x10F : 0x16D);
        assert_int_equal(feed.conn.read_only, now[0].read_only);
        now[0].read_only = false; /* the next client may write */
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

/* INFO, GO and EXPORT_NAME of a volume that the other controller serves are counted, each once;
 * what names no volume, or one served here, is not. */
static void refusals_of_a_volume_are_counted_for_it(void **state)
{
    begin(&three);
    SEND_OPTION(&stream, NBD_OPT_INFO, "\0\0\0\3vm0\0\0");
    SEND_OPTION(&stream, NBD_OPT_GO, "\0\0\0\3vm9\0\0");
    flush_stream();
    assert_int_equal(feed.conn.refused_export, NO_INDEX);
    assert_int_equal(refused[1], 0);
    SEND_OPTION(&stream, NBD_OPT_INFO, "\0\0\0\3vm1\0\0");
    flush_stream();
    assert_int_equal(feed.conn.refused_export, 1);
    assert_int_equal(refused[1], 1);
    SEND_OPTION(&stream, NBD_OPT_GO, "\0\0\0\3vm1\0\0");
    SEND_OPTION(&stream, NBD_OPT_EXPORT_NAME, "vm1");
    flush_stream();
    assert_int_equal(refused[1], 3);
    assert_int_equal(refused[0] + refused[2], 0);
    begin(&three);
    SEND_OPTION(&stream, NBD_OPT_GO, GO_VM0);
    flush_stream();
    assert_int_equal(feed.conn.state, NBD_TRANSMISSION);
    assert_int_equal(feed.conn.refused_export, NO_INDEX);
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
    struct nbd_exports exports = {many, served, VOLUME_LIMIT, NULL};
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greeting_is_fixed_newstyle_no_zeroes),
        cmocka_unit_test(client_flags_unknown_ones_close),
        cmocka_unit_test(option_rows_get_their_replies),
        cmocka_unit_test(info_says_size_flags_name_description_and_block_size),
        cmocka_unit_test(flags_follow_the_volume_and_the_negotiation),
        cmocka_unit_test(a_volume_that_is_read_only_for_now_says_so),
        cmocka_unit_test(export_name_pads_unless_no_zeroes),
        cmocka_unit_test(export_name_closes_where_it_cannot_refuse),
        cmocka_unit_test(refusals_of_a_volume_are_counted_for_it),
        cmocka_unit_test(list_of_256_volumes_comes_in_pieces),
        cmocka_unit_test(list_can_be_asked_again),
        cmocka_unit_test(names_are_bounded_in_length),
        cmocka_unit_test(a_selection_too_long_to_keep_selects_nothing),
        cmocka_unit_test(contexts_have_an_id_only_when_set),
        cmocka_unit_test(block_status_follows_the_last_selection),
        cmocka_unit_test(long_options_are_skipped_and_longer_ones_close),
        cmocka_unit_test(options_are_bounded_in_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
