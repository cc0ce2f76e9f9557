/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Big-endian integers: each byte stands where the protocols say, at any address. */

#include "base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void the_highest_byte_comes_first(void **state)
{
    static const uint8_t expected[] = {1, 2, 3, 4, 5, 6, 7, 8};
    uint8_t bytes[8];
    put_u64(bytes, 0x0102030405060708u);
    assert_memory_equal(bytes, expected, 8);
    put_u32(bytes, 0x01020304u);
    assert_memory_equal(bytes, expected, 4);
    put_u24(bytes, 0x010203u);
    assert_memory_equal(bytes, expected, 3);
    put_u16(bytes, 0x0102u);
    assert_memory_equal(bytes, expected, 2);
    assert_int_equal(get_u16(expected), 0x0102u);
    assert_int_equal(get_u24(expected), 0x010203u);
    assert_int_equal(get_u32(expected), 0x01020304u);
    assert_true(get_u64(expected) == 0x0102030405060708u);
}

static void only_the_bytes_of_the_integer_are_written(void **state)
{
    static void (*const put64)(uint8_t *, uint64_t) = put_u64;
    static void (*const put32)(uint8_t *, uint32_t) = put_u32;
    for (size_t at = 1; at < 9; at++) { /* odd addresses too */
        uint8_t bytes[20];
        memset(bytes, 0xAA, sizeof bytes);
        put64(bytes + at, 0);
        for (size_t i = 0; i < sizeof bytes; i++)
            assert_int_equal(bytes[i], i >= at && i < at + 8 ? 0 : 0xAA);
        memset(bytes, 0xAA, sizeof bytes);
        put32(bytes + at, 0);
        for (size_t i = 0; i < sizeof bytes; i++)
            assert_int_equal(bytes[i], i >= at && i < at + 4 ? 0 : 0xAA);
        memset(bytes, 0xAA, sizeof bytes);
        put_u24(bytes + at, 0);
        for (size_t i = 0; i < sizeof bytes; i++)
            assert_int_equal(bytes[i], i >= at && i < at + 3 ? 0 : 0xAA);
        memset(bytes, 0xAA, sizeof bytes);
        put_u16(bytes + at, 0);
        for (size_t i = 0; i < sizeof bytes; i++)
            assert_int_equal(bytes[i], i >= at && i < at + 2 ? 0 : 0xAA);
    }
}

static void extremes_read_back(void **state)
{
    static const uint64_t values[] = {0, 1, 0x7F, 0x80, 0xFFFF, 0x800000, UINT32_MAX, UINT64_MAX};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        uint8_t bytes[8];
        put_u16(bytes, (uint16_t)values[i]);
        assert_int_equal(get_u16(bytes), (uint16_t)values[i]);
        put_u24(bytes, (uint32_t)values[i]); /* what does not fit is cut off */
        assert_int_equal(get_u24(bytes), values[i] & 0xFFFFFF);
        put_u32(bytes, (uint32_t)values[i]);
        assert_int_equal(get_u32(bytes), (uint32_t)values[i]);
        put_u64(bytes, values[i]);
        assert_true(get_u64(bytes) == values[i]);
    }
}

static void every_byte_decides_whether_all_are_zero(void **state)
{
    uint8_t bytes[40] = {0};
    assert_true(bytes_all_zero(bytes, 0));
    for (size_t size = 1; size <= sizeof bytes; size++) {
        assert_true(bytes_all_zero(bytes, size));
        for (size_t at = 0; at < size; at++) {
            bytes[at] = 1;
            assert_false(bytes_all_zero(bytes, size));
            assert_true(bytes_all_zero(bytes, at));
            bytes[at] = 0;
        }
    }
    memset(bytes, 7, sizeof bytes); /* equal, and not zero */
    assert_false(bytes_all_zero(bytes, sizeof bytes));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_highest_byte_comes_first),
        cmocka_unit_test(only_the_bytes_of_the_integer_are_written),
        cmocka_unit_test(extremes_read_back),
        cmocka_unit_test(every_byte_decides_whether_all_are_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
