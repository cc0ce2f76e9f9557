/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Shipped requests as SCSI commands and back: every kind of request comes back as it was, in the
 * bytes that docs/protocol.md says, and what is none of ours is refused with a reason. */

#include "shell/ship_wire.h"

#include "base/bytes.h"
#include "base/generator.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static void same(const struct host_request *one, const struct host_request *other)
{
    assert_int_equal(one->op, other->op);
    assert_int_equal(one->volume, other->volume);
    assert_int_equal(one->flags, other->flags);
    assert_int_equal(one->state_version, other->state_version);
    assert_int_equal(one->offset_bytes, other->offset_bytes);
    assert_int_equal(one->length_bytes, other->length_bytes);
}

/* Requests, and the beginning of the CDB that each must be. */
static const struct row {
    struct host_request request;
    uint8_t cdb[16];
    uint32_t out_bytes, in_bytes;
} rows[] = {
    {{.op = HOST_READ, .volume = 3, .offset_bytes = 512 * 7, .length_bytes = 1024},
     {0x88, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 2},
     0,
     1024},
    {{.op = HOST_READ, .volume = 255, .offset_bytes = 513, .length_bytes = 512},
     {0xC8, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 2, 0},
     0,
     512},
    {{.op = HOST_WRITE,
      .flags = HOST_FUA | HOST_VERSIONED,
      .state_version = 0x01020304,
      .offset_bytes = 512,
      .length_bytes = SHIP_BYTES},
     {0x8A, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 2, 0, 4},
     SHIP_BYTES,
     0},
    {{.op = HOST_WRITE, .offset_bytes = 1ull << 40, .length_bytes = 1},
     {0xCA, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1},
     1,
     0},
    {{.op = HOST_FLUSH, .volume = 1}, {0x91}, 0, 0},
    {{.op = HOST_TRIM, .flags = HOST_FUA, .offset_bytes = 4096, .length_bytes = 1 << 30},
     {0x93, 9, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0x20, 0, 0, 1},
     0,
     0},
    {{.op = HOST_ZERO, .flags = HOST_NO_HOLE, .offset_bytes = 0, .length_bytes = 100},
     {0xD3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100, 2},
     0,
     0},
    {{.op = HOST_COMPARE_WRITE, .flags = HOST_FUA, .offset_bytes = 512, .length_bytes = 255 * 512},
     {0x89, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 255},
     2 * 255 * 512,
     0},
    /* One block more than the standard's count can name. */
    {{.op = HOST_COMPARE_WRITE, .offset_bytes = 512, .length_bytes = COMPARE_WRITE_BYTES},
     {0xC9, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 2, 0, 0},
     2 * COMPARE_WRITE_BYTES,
     0},
    {{.op = HOST_STATE, .state_version = 9, .flags = HOST_BARRIER, .length_bytes = 300},
     {0x3B, 2, 2, 0, 0, 0, 0, 1, 44, 0x40},
     300,
     0},
    {{.op = HOST_MOVE, .offset_bytes = 1}, {0xA4, 0x0A, 0, 0, 0, 0, 0, 0, 0, 8}, 8, 0},
};

static void every_request_comes_back_as_it_was(void **state)
{
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        const struct host_request *request = &rows[i].request;
        struct ship_command command;
        ship_encode(request, &command);
        assert_memory_equal(command.cdb, rows[i].cdb, sizeof command.cdb);
        assert_int_equal(command.lun[0], 0x40);
        assert_int_equal(command.lun[1], request->volume);
        assert_int_equal(get_u32(command.lun + 4), request->state_version);
        assert_int_equal(command.out_bytes, rows[i].out_bytes);
        assert_int_equal(command.in_bytes, rows[i].in_bytes);
        struct host_request back;
        const char *wrong = ship_decode(&command, 256, &back);
        if (wrong)
            fail_msg("row %zu: %s", i, wrong);
        if (request->op == HOST_MOVE)
            assert_null(ship_decode_move(ship_parameters(request), &back));
        else
            assert_null(ship_parameters(request));
        same(request, &back);
        if (request->volume > 0)
            assert_non_null(ship_decode(&command, request->volume, &back));
    }
}

static void random_bytes_are_refused_or_mean_what_they_say(void **state)
{
    struct generator generator;
    uint32_t taken = 0;
    generator_seed(&generator, 4);
    for (uint32_t i = 0; i < 200000; i++) {
        struct ship_command command;
        struct host_request request;
        ship_encode(&rows[generator_below(&generator, ARRAY_LENGTH(rows))].request, &command);
        for (uint64_t n = generator_below(&generator, 4); n > 0; n--) {
            uint8_t *bytes = (uint8_t *)&command;
            bytes[generator_below(&generator, 24)] = (uint8_t)generator_next(&generator);
        }
        if (ship_decode(&command, 8, &request))
            continue;
        taken++;
        assert_true(request.op < HOST_OP_COUNT);
        assert_true(request.volume < 8);
        assert_int_equal(request.flags & (HOST_SHIPPED | HOST_HERE), 0);
        if (request.op == HOST_READ || request.op == HOST_WRITE)
            assert_true(request.length_bytes > 0 && request.length_bytes <= SHIP_BYTES);
        if (request.op == HOST_COMPARE_WRITE)
            assert_true(request.length_bytes <= COMPARE_WRITE_BYTES);
        if (request.op == HOST_STATE)
            assert_true(request.length_bytes <= VOLUME_STATE_BYTES);
    }
    assert_true(taken > 1000);
}

static void every_result_comes_back_as_it_was(void **state)
{
    static const enum host_result results[] = {
        HOST_OK,         HOST_NOT_OWNER, HOST_RANGE,   HOST_BUSY, HOST_IO_ERROR,
        HOST_MISCOMPARE, HOST_STALE,     HOST_REFUSED, HOST_COPY, HOST_READ_ONLY,
    };
    for (size_t i = 0; i < ARRAY_LENGTH(results); i++) {
        uint8_t sense[SHIP_SENSE_BYTES];
        uint32_t sense_bytes;
        enum host_result back;
        uint64_t detail;
        uint8_t status = ship_encode_result(results[i], 70000, sense, &sense_bytes);
        assert_true(ship_decode_result(status, sense, sense_bytes, &back, &detail));
        assert_int_equal(back, results[i]);
        assert_int_equal(detail, results[i] == HOST_MISCOMPARE ? 70000 : 0);
        if (sense_bytes == 0)
            continue;
        assert_int_equal(sense[0] & 0x7f, 0x70);
        assert_false(ship_decode_result(status, sense, sense_bytes - 1, &back, &detail));
        sense[12] ^= 0x55;
        assert_false(ship_decode_result(status, sense, sense_bytes, &back, &detail));
    }
    enum host_result back;
    uint64_t detail;
    assert_false(ship_decode_result(0x18, NULL, 0, &back, &detail));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_request_comes_back_as_it_was),
        cmocka_unit_test(random_bytes_are_refused_or_mean_what_they_say),
        cmocka_unit_test(every_result_comes_back_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
