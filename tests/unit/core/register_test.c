/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The register's bytes: what is written reads back, and nothing else is taken for a record. */

#include "role/register.h"

#include "base/crc32c.h"
#include "base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const struct register_record rows[] = {
    {.epoch = 0, .in = 0, .unclean = false},
    {.epoch = 1, .in = REGISTER_IN_A, .unclean = true},
    {.epoch = 2, .in = REGISTER_IN_B, .unclean = false},
    {.epoch = UINT64_MAX, .in = REGISTER_IN_BOTH, .unclean = true},
};

static void a_record_reads_back_as_it_was_written(void **state)
{
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        uint8_t bytes[REGISTER_SIZE];
        struct register_record back;
        const char *why;
        register_encode(&rows[i], bytes);
        assert_true(register_decode(bytes, &back, &why));
        assert_true(register_equal(&rows[i], &back));
    }
}

static void the_layout_is_fixed(void **state)
{
    static const uint8_t expected[16] = {'H', 'F', 'R', 'G', 1, 1, 2, 0, 0, 0, 0, 0, 0, 0, 1, 2};
    uint8_t bytes[REGISTER_SIZE];
    register_encode(&(struct register_record){.epoch = 0x102, .in = REGISTER_IN_B, .unclean = true},
                    bytes);
    assert_memory_equal(bytes, expected, sizeof expected);
}

static void any_flipped_bit_is_refused(void **state)
{
    for (unsigned bit = 0; bit < REGISTER_SIZE * 8; bit++) {
        uint8_t bytes[REGISTER_SIZE];
        struct register_record back;
        const char *why = NULL;
        register_encode(&rows[3], bytes);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(register_decode(bytes, &back, &why));
        assert_non_null(why);
    }
}

/* Bytes that some other writer made, with a right checksum. */
static void unknown_contents_are_refused_although_the_checksum_is_right(void **state)
{
    static const struct {
        unsigned at;
        uint8_t value;
    } changes[] = {{4, 2}, {5, 3}, {6, 4}, {7, 1}, {16, 1}, {27, 1}};
    for (size_t i = 0; i < ARRAY_LENGTH(changes); i++) {
        uint8_t bytes[REGISTER_SIZE];
        struct register_record back;
        const char *why = NULL;
        register_encode(&rows[1], bytes);
        bytes[changes[i].at] = changes[i].value;
        put_u32(bytes + REGISTER_SIZE - 4, crc32c(bytes, REGISTER_SIZE - 4));
        assert_false(register_decode(bytes, &back, &why));
        assert_non_null(why);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_reads_back_as_it_was_written),
        cmocka_unit_test(the_layout_is_fixed),
        cmocka_unit_test(any_flipped_bit_is_refused),
        cmocka_unit_test(unknown_contents_are_refused_although_the_checksum_is_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
