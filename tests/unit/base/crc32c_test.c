/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* CRC-32C against the examples of RFC 3720 B.4, whole and in pieces. */

#include "base/crc32c.h"

#include "base/bytes.h"

#include "../check_trap.h"

static const uint8_t read_10[48] = {
    0x01, 0xc0, 0, 0,    0, 0, 0, 0,    0,    0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0x04, 0,
    0,    0,    0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0,    0,
};

/* The RFC prints the checksum's bytes in the order in which they are sent, lowest first. */
static void assert_crc(const uint8_t *data, size_t size, const uint8_t expected[4])
{
    uint32_t crc = crc32c(data, size);
    uint8_t sent[4] = {(uint8_t)crc, (uint8_t)(crc >> 8), (uint8_t)(crc >> 16),
                       (uint8_t)(crc >> 24)};
    assert_memory_equal(sent, expected, 4);
}

static void the_examples_of_rfc_3720_b4(void **state)
{
    uint8_t zeros[32], ones[32], up[32], down[32];
    for (uint8_t i = 0; i < 32; i++) {
        zeros[i] = 0;
        ones[i] = 0xFF;
        up[i] = i;
        down[i] = (uint8_t)(31 - i);
    }
    assert_crc(zeros, 32, (const uint8_t[]){0xaa, 0x36, 0x91, 0x8a});
    assert_crc(ones, 32, (const uint8_t[]){0x43, 0xab, 0xa8, 0x62});
    assert_crc(up, 32, (const uint8_t[]){0x4e, 0x79, 0xdd, 0x46});
    assert_crc(down, 32, (const uint8_t[]){0x5c, 0xdb, 0x3f, 0x11});
    assert_crc(read_10, sizeof read_10, (const uint8_t[]){0x56, 0x3a, 0x96, 0xd9});
}

static void the_check_value_of_the_catalogue(void **state)
{
    assert_int_equal(crc32c("123456789", 9), 0xE3069283u);
    assert_int_equal(crc32c("", 0), 0);
}

static void pieces_give_what_the_whole_gives(void **state)
{
    uint32_t whole = crc32c(read_10, sizeof read_10);
    for (size_t cut = 0; cut <= sizeof read_10; cut++) {
        uint32_t crc = crc32c_more(CRC32C_START, read_10, cut);
        crc = crc32c_more(crc, read_10 + cut, sizeof read_10 - cut);
        assert_int_equal(crc32c_end(crc), whole);
    }
}

static void around_itself_is_as_with_zeroes_there(void **state)
{
    uint8_t bytes[sizeof read_10], blank[sizeof read_10];
    for (size_t at = 0; at + 4 <= sizeof bytes; at++) {
        memcpy(blank, read_10, sizeof blank);
        memset(blank + at, 0, 4);
        memcpy(bytes, read_10, sizeof bytes);
        memset(bytes + at, 0xA5, 4); /* whatever stands there */
        assert_int_equal(crc32c_around(bytes, sizeof bytes, at), crc32c(blank, sizeof blank));
    }
    ASSERT_CHECK_FAILS(crc32c_around(bytes, sizeof bytes, sizeof bytes - 3));
}

static void a_size_that_the_library_cannot_count_stops_the_process(void **state)
{
    ASSERT_CHECK_FAILS(crc32c(read_10, (size_t)INT32_MAX + 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_examples_of_rfc_3720_b4),
        cmocka_unit_test(the_check_value_of_the_catalogue),
        cmocka_unit_test(pieces_give_what_the_whole_gives),
        cmocka_unit_test(around_itself_is_as_with_zeroes_there),
        cmocka_unit_test(a_size_that_the_library_cannot_count_stops_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
