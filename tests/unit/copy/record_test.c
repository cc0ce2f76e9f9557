/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What two arrays say to each other, as bytes: what goes in comes out, and whatever is not exactly
 * that is refused, with its checksum right as well as wrong. */

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "base/crc32c.h"
#include "copy/record.h"

enum { RECORDS = 3, LENGTH = COPY_HEAD_SIZE + RECORDS * COPY_RECORD_SIZE };

static uint8_t bytes[LENGTH];
static struct copy_head head;

/* The sum is made right, as a peer with a mistake would make it. */
static void seal(void)
{
    static const uint8_t zero[4];
    uint32_t crc = crc32c_more(CRC32C_START, bytes, 80);
    crc = crc32c_more(crc, zero, 4);
    crc = crc32c_more(crc, bytes + 84, LENGTH - 84);
    put_u32(bytes + 80, crc32c_end(crc));
}

static int full_batch(void **state)
{
    const struct record records[RECORDS] = {
        {.type = RECORD_ZERO, .volume = 3, .generation = 4, .page = 5, .count = 6},
        {.type = RECORD_END, .generation = 2, .page = 7, .count = 8, .crc = 9},
        {.type = RECORD_PROMOTE, .flags = RECORD_CONSISTENT},
    };
    head = (struct copy_head){.half = 1,
                              .era = 0x0102030405060708,
                              .term = 0x1112131415161718,
                              .cycle = 0x2122232425262728,
                              .number = 0x3132333435363738,
                              .first = 0x2122232425262720,
                              .wall_us = 0x4142434445464748,
                              .keep = true,
                              .cut = 0x5152535455565758,
                              .record_count = RECORDS};
    memcpy(head.group, "0123456789abcdef", COPY_ID_SIZE);
    for (int i = 0; i < RECORDS; i++)
        record_put(bytes + COPY_HEAD_SIZE + i * COPY_RECORD_SIZE, &records[i]);
    record_put_head(bytes, &head);
    return 0;
}

static const char *head_error(void)
{
    struct copy_head got;
    return record_get_head(bytes, LENGTH, &got);
}

static void a_head_comes_out_as_it_went_in(void **state)
{
    struct copy_head got;
    assert_null(record_get_head(bytes, LENGTH, &got));
    uint8_t again[LENGTH];
    memcpy(again, bytes, sizeof again);
    record_put_head(again, &got);
    assert_memory_equal(again, bytes, sizeof again);
    assert_int_equal(got.wall_us, head.wall_us);
    seal(); /* the test's own sum is the same */
    assert_null(head_error());
}

static void every_flipped_bit_of_a_head_and_its_records_is_seen(void **state)
{
    for (int bit = 0; bit < LENGTH * 8; bit++) {
        bytes[bit / 8] ^= 1 << bit % 8;
        assert_non_null(head_error());
        bytes[bit / 8] ^= 1 << bit % 8;
    }
    assert_null(head_error());
}

static void every_reserved_byte_of_a_head_is_zero(void **state)
{
    for (int at = 0; at < COPY_HEAD_SIZE; at++) {
        if (at != 7 && at < 92)
            continue;
        bytes[at] = 2; /* bit 0 of byte 7 is KEEP */
        seal();
        assert_string_equal(head_error(), "copy batch head with reserved bytes set");
        bytes[at] = 0;
    }
}

static void a_head_has_its_length_and_no_other(void **state)
{
    struct copy_head got;
    for (uint32_t length = 0; length <= LENGTH + 1; length++) {
        if (length != LENGTH)
            assert_non_null(record_get_head(bytes, length, &got));
    }
}

/* The head with one field changed, and its sum right. */
static void refused(uint32_t at, uint32_t size, uint64_t value, const char *why)
{
    full_batch(NULL);
    if (size == 1)
        bytes[at] = (uint8_t)value;
    else if (size == 2)
        put_u16(bytes + at, (uint16_t)value);
    else if (size == 4)
        put_u32(bytes + at, (uint32_t)value);
    else
        put_u64(bytes + at, value);
    seal();
    assert_string_equal(head_error(), why);
}

static void every_bound_of_a_head_is_kept(void **state)
{
    refused(0, 4, 0x48464353, "copy batch without its magic");
    refused(4, 2, 2, "copy batch of another version");
    refused(6, 1, 2, "copy batch of an unknown half");
    refused(72, 4, 0, "copy batch with no record or too many");
    refused(72, 4, COPY_RECORDS + 1, "copy batch with no record or too many");
    refused(72, 4, UINT32_MAX, "copy batch with no record or too many");
    refused(72, 4, RECORDS + 1, "copy batch whose length disagrees with its head");
    refused(76, 4, COPY_DATA_BYTES + 1, "copy batch with too much data");
    refused(76, 4, 1, "copy batch whose length disagrees with its head");
    const char *why = "copy batch without a term, a number or a cycle of its term";
    refused(32, 8, 0, why);
    refused(48, 8, 0, why);
    refused(56, 8, 0, why);
    refused(56, 8, 0x2122232425262729, why); /* the cycle is before the term's first */
}

static const char *record_error(const struct record *record)
{
    uint8_t raw[COPY_RECORD_SIZE];
    struct record got;
    record_put(raw, record);
    const char *why = record_get(raw, &got);
    if (why == NULL) {
        uint8_t again[COPY_RECORD_SIZE];
        record_put(again, &got);
        assert_memory_equal(again, raw, sizeof raw);
        assert_int_equal(got.type, record->type);
        assert_int_equal(got.page, record->page);
    }
    return why;
}

static const struct record sound[] = {
    {.type = RECORD_PAGE, .volume = 1, .sectors = 0x81, .generation = 2, .page = 3, .crc = 4},
    {.type = RECORD_PAGE, .flags = RECORD_BASE, .sectors = 0xFF, .page = UINT64_MAX},
    {.type = RECORD_ZERO, .volume = 1, .generation = 2, .page = 3, .count = UINT64_MAX - 3},
    {.type = RECORD_END, .generation = 1, .page = 2, .count = 3, .crc = 4},
    {.type = RECORD_END, .generation = 2},
    {.type = RECORD_PROMOTE},
    {.type = RECORD_PROMOTE, .flags = RECORD_CONSISTENT},
    {.type = RECORD_MARKED, .volume = 255, .page = 3, .count = UINT64_MAX - 3},
    {.type = RECORD_MARKED_END},
};

static void a_record_comes_out_as_it_went_in(void **state)
{
    for (size_t i = 0; i < ARRAY_LENGTH(sound); i++)
        assert_null(record_error(&sound[i]));
}

static void every_reserved_byte_of_a_record_is_zero(void **state)
{
    for (size_t i = 0; i < ARRAY_LENGTH(sound); i++) {
        for (int at = 28; at < COPY_RECORD_SIZE; at++) {
            uint8_t raw[COPY_RECORD_SIZE];
            struct record got;
            record_put(raw, &sound[i]);
            raw[at] = 1;
            assert_string_equal(record_get(raw, &got), "record with reserved bytes set");
        }
    }
}

static void a_record_has_no_field_of_another_type(void **state)
{
    const char *why = "record with a field set that its type does not have";
    const struct record strange[] = {
        {.type = RECORD_PAGE, .sectors = 1, .count = 1},
        {.type = RECORD_ZERO, .count = 1, .sectors = 1},
        {.type = RECORD_ZERO, .count = 1, .crc = 1},
        {.type = RECORD_END, .generation = 1, .volume = 1},
        {.type = RECORD_END, .generation = 1, .sectors = 1},
        {.type = RECORD_PROMOTE, .volume = 1},
        {.type = RECORD_PROMOTE, .sectors = 1},
        {.type = RECORD_PROMOTE, .generation = 1},
        {.type = RECORD_PROMOTE, .page = 1},
        {.type = RECORD_PROMOTE, .count = 1},
        {.type = RECORD_PROMOTE, .crc = 1},
        {.type = RECORD_MARKED, .count = 1, .sectors = 1},
        {.type = RECORD_MARKED, .count = 1, .generation = 1},
        {.type = RECORD_MARKED, .count = 1, .crc = 1},
        {.type = RECORD_MARKED_END, .page = 1},
        {.type = RECORD_MARKED_END, .count = 1},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(strange); i++)
        assert_string_equal(record_error(&strange[i]), why);
}

static void every_bound_of_a_record_is_kept(void **state)
{
    const struct {
        struct record record;
        const char *why;
    } wrong[] = {
        {{.type = 0}, "record of unknown type"},
        {{.type = RECORD_TYPE_COUNT}, "record of unknown type"},
        {{.type = 255}, "record of unknown type"},
        {{.type = RECORD_PAGE, .sectors = 1, .flags = 2}, "record with unknown flags"},
        {{.type = RECORD_ZERO, .count = 1, .flags = 1}, "record with unknown flags"},
        {{.type = RECORD_END, .generation = 1, .flags = 2}, "record with unknown flags"},
        {{.type = RECORD_PROMOTE, .flags = 0x80}, "record with unknown flags"},
        {{.type = RECORD_PAGE}, "page record without sectors"},
        {{.type = RECORD_ZERO}, "record of an impossible range"},
        {{.type = RECORD_ZERO, .page = 2, .count = UINT64_MAX - 1},
         "record of an impossible range"},
        {{.type = RECORD_MARKED}, "record of an impossible range"},
        {{.type = RECORD_MARKED, .count = 1, .flags = 1}, "record with unknown flags"},
        {{.type = RECORD_END}, "end record of an impossible number of halves"},
        {{.type = RECORD_END, .generation = 3}, "end record of an impossible number of halves"},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(wrong); i++)
        assert_string_equal(record_error(&wrong[i].record), wrong[i].why);
}

static void only_pages_have_data(void **state)
{
    for (int sectors = 0; sectors < 256; sectors++) {
        struct record record = {.type = RECORD_PAGE, .sectors = (uint8_t)sectors};
        uint32_t count = 0;
        for (int bit = 0; bit < 8; bit++)
            count += sectors >> bit & 1;
        assert_int_equal(record_data_bytes(&record), count * SECTOR_SIZE);
        record.type = RECORD_ZERO;
        assert_int_equal(record_data_bytes(&record), 0);
    }
}

/* ---- the state ---- */

static const struct copy_state whole = {.role = COPY_FAILED_OVER,
                                        .flags = COPY_STATE_CONSISTENT | COPY_STATE_HERE |
                                                 COPY_STATE_ZSTD,
                                        .group = "0123456789abcde",
                                        .era = 0x0102030405060708,
                                        .term = 0x1112131415161718,
                                        .promoted = 0x2122232425262728,
                                        .promoted_wall_us = 0x3132333435363738,
                                        .memory = 0x4142434445464748,
                                        .room_pages = 0x51525354,
                                        .window = COPY_WINDOW,
                                        .cut = 0x6162636465666768,
                                        .held_cut = 0x7172737475767778};

static void a_state_comes_out_as_it_went_in(void **state)
{
    uint8_t raw[COPY_STATE_SIZE];
    struct copy_state got;
    record_put_state(raw, &whole);
    assert_null(record_get_state(raw, sizeof raw, &got));
    uint8_t again[COPY_STATE_SIZE];
    record_put_state(again, &got);
    assert_memory_equal(again, raw, sizeof raw);
    assert_int_equal(got.memory, whole.memory);
    assert_non_null(record_get_state(raw, sizeof raw - 1, &got));
    assert_non_null(record_get_state(raw, sizeof raw + 1, &got));
    assert_non_null(record_get_state(raw, 0, &got));
}

static void every_flipped_bit_of_a_state_is_seen(void **state)
{
    uint8_t raw[COPY_STATE_SIZE];
    struct copy_state got;
    record_put_state(raw, &whole);
    for (int bit = 0; bit < COPY_STATE_SIZE * 8; bit++) {
        raw[bit / 8] ^= 1 << bit % 8;
        assert_non_null(record_get_state(raw, sizeof raw, &got));
        raw[bit / 8] ^= 1 << bit % 8;
    }
}

/* The state with one byte changed, and its sum right. */
static const char *state_error(int at, uint8_t value)
{
    uint8_t raw[COPY_STATE_SIZE];
    struct copy_state got;
    record_put_state(raw, &whole);
    raw[at] = value;
    put_u32(raw + 124, crc32c(raw, 124));
    return record_get_state(raw, sizeof raw, &got);
}

static void every_reserved_byte_and_bound_of_a_state_is_kept(void **state)
{
    for (int at = 88; at < 124; at++)
        assert_string_equal(state_error(at, 1), "copy state with reserved bytes set");
    assert_string_equal(state_error(3, 0), "copy state without its magic");
    assert_string_equal(state_error(5, 2), "copy state of another version");
    assert_string_equal(state_error(6, COPY_ROLE_COUNT), "copy state of an unknown role");
    assert_string_equal(state_error(7, 8), "copy state with unknown flags");
    const char *why = "copy state without a memory number, or with an impossible window";
    assert_string_equal(state_error(71, 0), why);
    assert_string_equal(state_error(71, COPY_WINDOW + 1), why);
    struct copy_state got = whole;
    uint8_t raw[COPY_STATE_SIZE];
    got.memory = 0;
    record_put_state(raw, &got);
    assert_string_equal(record_get_state(raw, sizeof raw, &got), why);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_head_comes_out_as_it_went_in, full_batch),
        cmocka_unit_test_setup(every_flipped_bit_of_a_head_and_its_records_is_seen, full_batch),
        cmocka_unit_test_setup(every_reserved_byte_of_a_head_is_zero, full_batch),
        cmocka_unit_test_setup(a_head_has_its_length_and_no_other, full_batch),
        cmocka_unit_test(every_bound_of_a_head_is_kept),
        cmocka_unit_test(a_record_comes_out_as_it_went_in),
        cmocka_unit_test(every_reserved_byte_of_a_record_is_zero),
        cmocka_unit_test(a_record_has_no_field_of_another_type),
        cmocka_unit_test(every_bound_of_a_record_is_kept),
        cmocka_unit_test(only_pages_have_data),
        cmocka_unit_test(a_state_comes_out_as_it_went_in),
        cmocka_unit_test(every_flipped_bit_of_a_state_is_seen),
        cmocka_unit_test(every_reserved_byte_and_bound_of_a_state_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
