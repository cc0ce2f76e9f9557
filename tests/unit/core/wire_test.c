/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The wire format: what is written reads back, each byte stands where wire.h says, and each byte
 * that must not be there is refused with its own reason. */

#include "mirror/wire.h"

#include "base/crc32c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const struct batch_head a_head = {.flags = BATCH_STOPPING,
                                         .epoch = 0x0102030405060708u,
                                         .stream = 0x1112131415161718u,
                                         .sender = 0x2122232425262728u,
                                         .receiver = 0x3132333435363738u,
                                         .number = 0x4142434445464748u,
                                         .time_us = 0x5152535455565758u,
                                         .header_count = 1,
                                         .data_bytes = 512,
                                         .ship_session = 0x91929394};

static const struct header a_write = {.type = HEADER_WRITE,
                                      .flags = HEADER_FRESH,
                                      .volume = 7,
                                      .sectors = 0x10,
                                      .slot = 0x61626364,
                                      .page = 0x7172737475767778u,
                                      .data_crc = 0x81828384};

enum { LENGTH = BATCH_HEAD_SIZE + HEADER_SIZE + 512 };

static void put_batch(uint8_t bytes[LENGTH])
{
    memset(bytes, 0, LENGTH);
    wire_put_header(bytes + BATCH_HEAD_SIZE, &a_write);
    wire_put_batch_head(bytes, &a_head);
}

/* As wire.c does it, written again from wire.h's page. */
static void seal_head(uint8_t *bytes, uint32_t header_count)
{
    put_u32(bytes + 64, 0);
    put_u32(bytes + 64, crc32c(bytes, BATCH_HEAD_SIZE + header_count * HEADER_SIZE));
}

static void a_batch_head_stands_as_the_page_says(void **state)
{
    uint8_t bytes[LENGTH];
    put_batch(bytes);
    assert_memory_equal(bytes, "HFBT", 4);
    assert_int_equal(get_u16(bytes + 4), 1);
    assert_int_equal(get_u16(bytes + 6), BATCH_STOPPING);
    assert_true(get_u64(bytes + 8) == a_head.epoch && get_u64(bytes + 16) == a_head.stream);
    assert_true(get_u64(bytes + 24) == a_head.sender && get_u64(bytes + 32) == a_head.receiver);
    assert_true(get_u64(bytes + 40) == a_head.number && get_u64(bytes + 48) == a_head.time_us);
    assert_int_equal(get_u32(bytes + 56), 1);
    assert_int_equal(get_u32(bytes + 60), 512);
    assert_int_equal(get_u32(bytes + 68), a_head.ship_session);
    uint32_t crc = get_u32(bytes + 64);
    seal_head(bytes, 1);
    assert_int_equal(get_u32(bytes + 64), crc);
}

static void a_batch_head_reads_back(void **state)
{
    uint8_t bytes[LENGTH];
    struct batch_head back;
    put_batch(bytes);
    assert_null(wire_get_batch_head(bytes, LENGTH, &back));
    assert_int_equal(back.flags, a_head.flags);
    assert_true(back.epoch == a_head.epoch && back.stream == a_head.stream);
    assert_true(back.sender == a_head.sender && back.receiver == a_head.receiver);
    assert_true(back.number == a_head.number && back.time_us == a_head.time_us);
    assert_int_equal(back.ship_session, a_head.ship_session);
    assert_int_equal(back.header_count, 1);
    assert_int_equal(back.data_bytes, 512);
}

static void a_header_stands_as_the_page_says_and_reads_back(void **state)
{
    uint8_t bytes[HEADER_SIZE];
    struct header back;
    memset(bytes, 0xFF, sizeof bytes);
    wire_put_header(bytes, &a_write);
    assert_int_equal(bytes[0], 1);
    assert_int_equal(bytes[1], 1);
    assert_int_equal(bytes[2], 7);
    assert_int_equal(bytes[3], 0x10);
    assert_int_equal(get_u32(bytes + 4), a_write.slot);
    assert_true(get_u64(bytes + 8) == a_write.page);
    assert_true(get_u64(bytes + 16) == 0);
    assert_int_equal(get_u32(bytes + 24), a_write.data_crc);
    assert_int_equal(get_u32(bytes + 28), 0);
    assert_null(wire_get_header(bytes, &back));
    assert_int_equal(back.type, a_write.type);
    assert_int_equal(back.flags, a_write.flags);
    assert_int_equal(back.volume, a_write.volume);
    assert_int_equal(back.sectors, a_write.sectors);
    assert_int_equal(back.slot, a_write.slot);
    assert_true(back.page == a_write.page && back.count == 0);
    assert_int_equal(back.data_crc, a_write.data_crc);
    const struct header range = {.type = HEADER_RANGE, .volume = 1, .page = 2, .count = UINT64_MAX};
    wire_put_header(bytes, &range);
    assert_null(wire_get_header(bytes, &back));
    assert_true(back.count == UINT64_MAX);
}

/* Every byte of head and header is under the checksum, or is it. */
static void any_flipped_bit_of_head_or_headers_is_refused(void **state)
{
    for (unsigned bit = 0; bit < (BATCH_HEAD_SIZE + HEADER_SIZE) * 8; bit++) {
        uint8_t bytes[LENGTH];
        struct batch_head back;
        put_batch(bytes);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_non_null(wire_get_batch_head(bytes, LENGTH, &back));
    }
}

static void a_batch_of_any_other_length_is_refused(void **state)
{
    uint8_t bytes[LENGTH + 1] = {0};
    struct batch_head back;
    put_batch(bytes);
    for (uint32_t length = 0; length <= LENGTH + 1; length++) {
        const char *why = wire_get_batch_head(bytes, length, &back);
        if (length < BATCH_HEAD_SIZE)
            assert_string_equal(why, "batch shorter than its head");
        else if (length != LENGTH)
            assert_string_equal(why, "batch whose length disagrees with its head");
        else
            assert_null(why);
    }
}

/* Another writer, whose checksum is right. */
static void each_illegal_byte_of_a_head_gives_its_reason(void **state)
{
    static const struct {
        unsigned at;
        uint8_t value;
        const char *why;
    } rows[] = {
        {0, 'X', "batch without its magic"},
        {3, 0, "batch without its magic"},
        {4, 1, "batch of another version"},
        {5, 2, "batch of another version"},
        {5, 0, "batch of another version"},
        {6, 0x80, "batch with unknown flags"},
        {7, 2, "batch with unknown flags"},
        {7, 3, "batch with unknown flags"},
        {58, 5, "batch with too many headers"},
        {56, 1, "batch with too many headers"},
        {61, 0x41, "batch with too much data"},
        {60, 1, "batch with too much data"},
        {62, 0, "batch whose length disagrees with its head"},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        uint8_t bytes[LENGTH];
        struct batch_head back;
        put_batch(bytes);
        bytes[rows[i].at] = rows[i].value;
        seal_head(bytes, 1);
        assert_string_equal(wire_get_batch_head(bytes, LENGTH, &back), rows[i].why);
    }
    for (unsigned at = 72; at < BATCH_HEAD_SIZE; at++) {
        uint8_t bytes[LENGTH];
        struct batch_head back;
        put_batch(bytes);
        bytes[at] = 1;
        seal_head(bytes, 1);
        assert_string_equal(wire_get_batch_head(bytes, LENGTH, &back),
                            "batch head with reserved bytes set");
    }
}

static void a_wrong_head_checksum_is_named(void **state)
{
    uint8_t bytes[LENGTH];
    struct batch_head back;
    put_batch(bytes);
    bytes[64] ^= 1;
    assert_string_equal(wire_get_batch_head(bytes, LENGTH, &back), "batch head checksum is wrong");
    put_batch(bytes);
    bytes[BATCH_HEAD_SIZE + 9] ^= 1; /* in the header */
    assert_string_equal(wire_get_batch_head(bytes, LENGTH, &back), "batch head checksum is wrong");
}

/* As long as a batch may say it is, and not a header or a page longer: no sum may overflow. */
static void counts_are_bounded_before_they_are_believed(void **state)
{
    static const struct {
        uint32_t headers, data;
        const char *why;
    } rows[] = {
        {BATCH_HEADERS + 1, 0, "batch with too many headers"},
        {UINT32_MAX, 0, "batch with too many headers"},
        {(UINT32_MAX - BATCH_HEAD_SIZE) / HEADER_SIZE + 5, 0, "batch with too many headers"},
        {0, BATCH_DATA_BYTES + 1, "batch with too much data"},
        {0, UINT32_MAX - BATCH_HEAD_SIZE + 1, "batch with too much data"},
        {BATCH_HEADERS, BATCH_DATA_BYTES, "batch whose length disagrees with its head"},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        uint8_t bytes[LENGTH];
        struct batch_head back;
        put_batch(bytes);
        put_u32(bytes + 56, rows[i].headers);
        put_u32(bytes + 60, rows[i].data);
        assert_string_equal(wire_get_batch_head(bytes, LENGTH, &back), rows[i].why);
    }
}

/* What each type may carry, written from wire.h: every field of every type is set alone. */
enum { FLAGS = 1, VOLUME = 2, SECTORS = 4, SLOT = 8, PAGE = 16, COUNT = 32, CRC = 64 };
static const int may_carry[HEADER_TYPE_COUNT] = {
    [HEADER_WRITE] = FLAGS | VOLUME | SECTORS | SLOT | PAGE | CRC,
    [HEADER_DROP] = SLOT,
    [HEADER_RANGE] = FLAGS | VOLUME | PAGE | COUNT,
    [HEADER_START] = PAGE,
    [HEADER_OWNER] = VOLUME | SLOT,
    [HEADER_READY] = PAGE,
    [HEADER_PAIR] = PAGE,
    [HEADER_MOVE] = VOLUME | SLOT,
    [HEADER_LEAVE] = 0,
    [HEADER_STATE] = VOLUME | PAGE | COUNT | CRC,
    [HEADER_PROGRESS] = SLOT | PAGE,
    [HEADER_GROUP] = FLAGS | VOLUME | PAGE | COUNT,
    [HEADER_MARK] = FLAGS | VOLUME | PAGE | COUNT,
    [HEADER_HELD] = FLAGS | VOLUME | PAGE,
    [HEADER_CONFIRM] = VOLUME | PAGE,
    [HEADER_FALL] = VOLUME | SLOT | PAGE,
    [HEADER_REGIONS] = VOLUME | PAGE | COUNT,
    [HEADER_BITMAP] = VOLUME | PAGE | COUNT | CRC,
    [HEADER_ZEROING] = VOLUME | SLOT | PAGE | COUNT,
    [HEADER_RECEIVED] = VOLUME | COUNT | CRC,
    [HEADER_TERM] = FLAGS | VOLUME | PAGE | COUNT,
    [HEADER_END] = FLAGS | VOLUME | SLOT | PAGE | COUNT | CRC,
    [HEADER_TAKEN] = FLAGS | VOLUME | SLOT | PAGE | COUNT | CRC,
    [HEADER_PROMOTE] = FLAGS | VOLUME | PAGE | COUNT,
    [HEADER_ZEROED] = VOLUME | PAGE,
    [HEADER_SITE] = VOLUME | SLOT | PAGE | COUNT,
    [HEADER_CUT] = VOLUME | PAGE | COUNT,
    [HEADER_RELEASE] = VOLUME | PAGE,
};

/* Whether the type has a count, which must then not be zero. */
static bool counts(unsigned type)
{
    return type == HEADER_RANGE || type == HEADER_STATE || type == HEADER_GROUP ||
           type == HEADER_REGIONS || type == HEADER_BITMAP || type == HEADER_ZEROING ||
           type == HEADER_RECEIVED || type == HEADER_TERM || type == HEADER_TAKEN ||
           type == HEADER_SITE || type == HEADER_CUT;
}

/* The fields whose places WRITE and RANGE use for their cycle and generation. */
static int cycle_places(unsigned type)
{
    return type == HEADER_WRITE ? COUNT : type == HEADER_RANGE ? SLOT | CRC : 0;
}

static void each_type_carries_its_own_fields_and_no_other(void **state)
{
    for (uint8_t type = 1; type < HEADER_TYPE_COUNT; type++) {
        struct header least = {.type = type,
                               .sectors = type == HEADER_WRITE ? 1 : 0,
                               .flags = type == HEADER_GROUP ? HEADER_BEGIN : 0,
                               .page = type == HEADER_STATE || type == HEADER_GROUP ? 1 : 0,
                               .count = counts(type) ? 1 : 0};
        /* A state record's version and length have bounds of their own. */
        uint64_t page = type == HEADER_STATE ? UINT32_MAX : UINT64_C(1) << 63;
        uint64_t count = type == HEADER_STATE                               ? VOLUME_STATE_BYTES
                         : type == HEADER_BITMAP || type == HEADER_RECEIVED ? WIRE_DATA_BYTES
                                                                            : UINT64_C(1) << 63;
        for (int field = 0; field <= CRC; field = field ? field * 2 : FLAGS) {
            uint8_t bytes[HEADER_SIZE];
            struct header header = least, back;
            if (field & cycle_places(type))
                continue;
            header.flags = field & FLAGS ? 1 : least.flags;
            header.volume = field & VOLUME ? 1 : 0;
            header.sectors |= field & SECTORS ? 0x80 : 0;
            header.slot = field & SLOT ? 1 : 0;
            header.page = field & PAGE ? page : least.page;
            header.count = field & COUNT ? count : least.count;
            header.data_crc = field & CRC ? 1u << 31 : 0;
            wire_put_header(bytes, &header);
            const char *why = wire_get_header(bytes, &back);
            if ((field & ~may_carry[type]) == 0)
                assert_null(why);
            else if (type == HEADER_GROUP && field == CRC)
                assert_string_equal(why,
                                    "group header with a field set that its flag does not have");
            else if (field == FLAGS)
                assert_string_equal(why, "header with unknown flags");
            else
                assert_string_equal(why, "header with a field set that its type does not have");
        }
    }
}

static void a_cycle_takes_the_places_that_its_type_leaves(void **state)
{
    static const uint8_t types[] = {HEADER_WRITE, HEADER_RANGE};
    for (size_t i = 0; i < ARRAY_LENGTH(types); i++) {
        uint8_t bytes[HEADER_SIZE];
        struct header header = {.type = types[i],
                                .volume = 3,
                                .page = 7,
                                .slot = types[i] == HEADER_WRITE ? 9 : 0,
                                .sectors = types[i] == HEADER_WRITE ? 1 : 0,
                                .count = types[i] == HEADER_RANGE ? 5 : 0,
                                .cycle = UINT64_C(0x0123456789ABCDEF)};
        struct header back;
        wire_put_header(bytes, &header);
        assert_null(wire_get_header(bytes, &back));
        assert_int_equal(back.cycle, header.cycle);
        assert_int_equal(back.count, header.count);
        assert_int_equal(back.slot, header.slot);
        header.flags = types[i] == HEADER_WRITE ? HEADER_HOLD | HEADER_FRESH : HEADER_HELD_RANGE;
        header.generation = 0xBEEF;
        wire_put_header(bytes, &header);
        assert_null(wire_get_header(bytes, &back));
        assert_int_equal(back.cycle, header.cycle);
        assert_int_equal(back.generation, 0xBEEF);
        assert_int_equal(back.data_crc, 0);
    }
}

static void headers_that_say_nothing_or_too_much_are_refused(void **state)
{
    uint8_t bytes[HEADER_SIZE];
    struct header back;
    for (unsigned type = 0; type < 256; type++) {
        memset(bytes, 0, sizeof bytes);
        bytes[0] = (uint8_t)type;
        bytes[1] = type == HEADER_GROUP ? HEADER_BEGIN : 0;
        bytes[3] = type == HEADER_WRITE;
        bytes[15] = type == HEADER_STATE || type == HEADER_GROUP;
        bytes[23] = counts(type);
        const char *why = wire_get_header(bytes, &back);
        if (type == 0 || type >= HEADER_TYPE_COUNT)
            assert_string_equal(why, "header of unknown type");
        else
            assert_null(why);
        for (unsigned at = 28; at < 32 && why == NULL && type != HEADER_RANGE; at++) {
            bytes[at] = 1;
            assert_string_equal(wire_get_header(bytes, &back), "header with reserved bytes set");
            bytes[at] = 0;
        }
    }
    wire_put_header(bytes, &(struct header){.type = HEADER_WRITE});
    assert_string_equal(wire_get_header(bytes, &back), "write header without sectors");
    wire_put_header(bytes, &(struct header){.type = HEADER_RANGE});
    assert_string_equal(wire_get_header(bytes, &back),
                        "header without the count that its type has");
    static const struct {
        struct header header;
        const char *why;
    } groups[] = {
        {{.type = HEADER_GROUP, .page = 1, .count = 1},
         "group header that begins in no way, or in several"},
        {{.type = HEADER_GROUP, .flags = HEADER_BEGIN | HEADER_JOIN, .page = 1, .count = 1},
         "group header that begins in no way, or in several"},
        {{.type = HEADER_GROUP, .flags = HEADER_RESTART, .count = 1},
         "group header with a field set that its flag does not have"},
        {{.type = HEADER_GROUP, .flags = HEADER_JOIN, .count = WIRE_DATA_BYTES + 1},
         "group header of an impossible length"},
        {{.type = HEADER_BITMAP, .count = WIRE_DATA_BYTES + 1},
         "bitmap header of an impossible length"},
        {{.type = HEADER_WRITE, .flags = HEADER_HOLD | HEADER_FRESH, .sectors = 1},
         "header of a held page without its cycle, or of an impossible generation"},
        {{.type = HEADER_WRITE,
          .flags = HEADER_HOLD | HEADER_FRESH,
          .sectors = 1,
          .cycle = 1,
          .generation = UINT16_MAX + 1},
         "header of a held page without its cycle, or of an impossible generation"},
        {{.type = HEADER_WRITE, .flags = HEADER_HOLD, .sectors = 1, .cycle = 1},
         "write header of two kinds"},
        {{.type = HEADER_WRITE,
          .flags = HEADER_HOLD | HEADER_FRESH | HEADER_SETTLED,
          .sectors = 1,
          .cycle = 1},
         "write header of two kinds"},
        {{.type = HEADER_WRITE, .sectors = 1, .generation = 1}, "header with reserved bytes set"},
        {{.type = HEADER_RANGE, .flags = HEADER_HELD_RANGE, .count = 1},
         "header of a held page without its cycle, or of an impossible generation"},
        {{.type = HEADER_RANGE, .flags = HEADER_HELD_RANGE | HEADER_NOTED, .count = 1, .cycle = 1},
         "range header of two kinds"},
        {{.type = HEADER_RANGE, .count = 1, .generation = 1}, "header with reserved bytes set"},
        {{.type = HEADER_RECEIVED, .count = WIRE_DATA_BYTES + 1},
         "received header of an impossible length"},
        {{.type = HEADER_RANGE, .flags = 4, .count = 1}, "header with unknown flags"},
        {{.type = HEADER_HELD, .flags = 4}, "header with unknown flags"},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(groups); i++) {
        wire_put_header(bytes, &groups[i].header);
        assert_string_equal(wire_get_header(bytes, &back), groups[i].why);
    }
    static const struct header states[] = {
        {.type = HEADER_STATE, .page = 0, .count = 1},
        {.type = HEADER_STATE, .page = UINT64_C(1) << 32, .count = 1},
        {.type = HEADER_STATE, .page = 1, .count = VOLUME_STATE_BYTES + 1},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(states); i++) {
        wire_put_header(bytes, &states[i]);
        assert_string_equal(wire_get_header(bytes, &back),
                            "state header of an impossible length or version");
    }
    for (uint8_t flags = 8; flags != 0; flags = (uint8_t)(flags << 1)) {
        wire_put_header(bytes,
                        &(struct header){.type = HEADER_WRITE, .sectors = 1, .flags = flags});
        assert_string_equal(wire_get_header(bytes, &back), "header with unknown flags");
    }
}

static const struct hello a_hello = {.controller = 1,
                                     .role = 5,
                                     .flags = HELLO_STOPPING,
                                     .epoch = 0x0102030405060708u,
                                     .incarnation = 0x1112131415161718u,
                                     .peer_incarnation = 0x2122232425262728u,
                                     .slots = 0x31323334,
                                     .config_crc = 0x41424344};

static void a_hello_stands_as_the_page_says_and_reads_back(void **state)
{
    uint8_t bytes[HELLO_SIZE];
    struct hello back;
    wire_put_hello(bytes, &a_hello);
    assert_memory_equal(bytes, "HFHI\0\1\1\5", 8);
    assert_true(get_u64(bytes + 8) == a_hello.epoch && get_u64(bytes + 16) == a_hello.incarnation);
    assert_true(get_u64(bytes + 24) == a_hello.peer_incarnation);
    assert_int_equal(get_u32(bytes + 32), a_hello.slots);
    assert_int_equal(get_u32(bytes + 36), a_hello.config_crc);
    assert_int_equal(get_u16(bytes + 40), HELLO_STOPPING);
    assert_int_equal(get_u32(bytes + 60), crc32c(bytes, 60));
    assert_null(wire_get_hello(bytes, HELLO_SIZE, &back));
    uint8_t again[HELLO_SIZE];
    wire_put_hello(again, &back);
    assert_memory_equal(again, bytes, HELLO_SIZE);
    assert_int_equal(back.role, a_hello.role);
    assert_true(back.epoch == a_hello.epoch && back.incarnation == a_hello.incarnation);
    assert_true(back.peer_incarnation == a_hello.peer_incarnation);
}

static void any_flipped_bit_of_a_hello_is_refused(void **state)
{
    for (unsigned bit = 0; bit < HELLO_SIZE * 8; bit++) {
        uint8_t bytes[HELLO_SIZE];
        struct hello back;
        wire_put_hello(bytes, &a_hello);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_non_null(wire_get_hello(bytes, HELLO_SIZE, &back));
    }
}

static void each_illegal_byte_of_a_hello_gives_its_reason(void **state)
{
    static const struct {
        unsigned at;
        uint8_t value;
        const char *why;
    } rows[] = {
        {0, 'h', "hello without its magic"},      {5, 2, "hello of another version"},
        {6, 2, "hello of an unknown controller"}, {6, 255, "hello of an unknown controller"},
        {40, 1, "hello with unknown flags"},      {41, 4, "hello with unknown flags"},
    };
    uint8_t bytes[HELLO_SIZE + 1] = {0};
    struct hello back;
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        wire_put_hello(bytes, &a_hello);
        bytes[rows[i].at] = rows[i].value;
        put_u32(bytes + 60, crc32c(bytes, 60));
        assert_string_equal(wire_get_hello(bytes, HELLO_SIZE, &back), rows[i].why);
    }
    for (unsigned at = 42; at < 60; at++) {
        wire_put_hello(bytes, &a_hello);
        bytes[at] = 1;
        put_u32(bytes + 60, crc32c(bytes, 60));
        assert_string_equal(wire_get_hello(bytes, HELLO_SIZE, &back),
                            "hello with reserved bytes set");
    }
    struct hello nobody = a_hello;
    nobody.incarnation = 0;
    wire_put_hello(bytes, &nobody);
    assert_string_equal(wire_get_hello(bytes, HELLO_SIZE, &back), "hello without an incarnation");
    wire_put_hello(bytes, &a_hello);
    assert_string_equal(wire_get_hello(bytes, HELLO_SIZE - 1, &back), "hello of a wrong length");
    assert_string_equal(wire_get_hello(bytes, HELLO_SIZE + 1, &back), "hello of a wrong length");
    assert_string_equal(wire_get_hello(bytes, 0, &back), "hello of a wrong length");
}

static void a_write_carries_512_bytes_a_sector(void **state)
{
    for (unsigned sectors = 0; sectors < 256; sectors++) {
        uint32_t count = 0;
        for (unsigned i = 0; i < 8; i++)
            count += sectors >> i & 1;
        assert_int_equal(wire_data_bytes((uint8_t)sectors), count * 512);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_head_stands_as_the_page_says),
        cmocka_unit_test(a_batch_head_reads_back),
        cmocka_unit_test(a_header_stands_as_the_page_says_and_reads_back),
        cmocka_unit_test(any_flipped_bit_of_head_or_headers_is_refused),
        cmocka_unit_test(a_batch_of_any_other_length_is_refused),
        cmocka_unit_test(each_illegal_byte_of_a_head_gives_its_reason),
        cmocka_unit_test(a_wrong_head_checksum_is_named),
        cmocka_unit_test(counts_are_bounded_before_they_are_believed),
        cmocka_unit_test(each_type_carries_its_own_fields_and_no_other),
        cmocka_unit_test(a_cycle_takes_the_places_that_its_type_leaves),
        cmocka_unit_test(headers_that_say_nothing_or_too_much_are_refused),
        cmocka_unit_test(a_hello_stands_as_the_page_says_and_reads_back),
        cmocka_unit_test(any_flipped_bit_of_a_hello_is_refused),
        cmocka_unit_test(each_illegal_byte_of_a_hello_gives_its_reason),
        cmocka_unit_test(a_write_carries_512_bytes_a_sector),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
