/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* EXTENDED COPY(LID1) from block device to block device and RECEIVE COPY RESULTS: what is copied,
 * to whom it is refused, that a wrong list copies nothing, and what is told of it afterwards. */

#include "memory_units.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { TARGET_UNREACHABLE = 0xA0D02, THIRD_PARTY_FAILURE = 0xA0D01 };

static uint8_t list[2048];
static uint32_t targets, segments, list_bytes;

static int setup(void **state)
{
    units_create();
    memset(list, 0, sizeof list);
    targets = segments = 0;
    for (uint32_t i = 0; i < UNIT_BYTES; i++)
        units.bytes[THIN][i] = (uint8_t)(i * 5 + i / 512);
    return 0;
}

static int teardown(void **state)
{
    units_destroy();
    return 0;
}

static uint8_t *add_target(uint8_t lun)
{
    uint8_t *to = list + 16 + 32 * targets++;

    memset(to, 0, 32);
    to[0] = 0xE4;
    to[4] = 1;
    to[5] = 3;
    to[7] = 16;
    memcpy(to + 8, units.scsi->units[lun].naa, 16);
    put_u24(to + 29, lun == BIG ? 4096 : 512);
    return to;
}

/* After the last target. */
static uint8_t *add_segment(uint16_t from, uint16_t to, uint16_t blocks, uint64_t from_lba,
                            uint64_t to_lba)
{
    uint8_t *at = list + 16 + 32 * targets + 28 * segments++;

    memset(at, 0, 28);
    at[0] = 2;
    put_u16(at + 2, 24);
    put_u16(at + 4, from);
    put_u16(at + 6, to);
    put_u16(at + 10, blocks);
    put_u64(at + 12, from_lba);
    put_u64(at + 20, to_lba);
    return at;
}

static uint8_t send_list(uint32_t length)
{
    uint8_t cdb[16] = {0x83};

    put_u32(cdb + 10, length);
    return units_send(THIN, cdb, sizeof cdb, list, length);
}

static uint8_t copy(void)
{
    list[0] = 0x5A;
    put_u16(list + 2, (uint16_t)(32 * targets));
    put_u32(list + 8, 28 * segments);
    list_bytes = 16 + 32 * targets + 28 * segments;
    return send_list(list_bytes);
}

static uint8_t results(uint8_t action, uint8_t id)
{
    return SEND(THIN, 0x84, action, id, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0);
}

static void blocks_are_copied_between_volumes(void **state)
{
    results(0, 0x5A);
    assert_int_equal(units_sense(), INVALID_CDB);
    assert_int_equal(units_field(), BYTE(2));
    add_target(THIN);
    add_target(THICK);
    add_target(BIG);
    add_segment(0, 1, 3, 5, 100);
    add_segment(0, 2, 16, 8, 1);           /* 16 blocks of 512 are two of 4096 */
    add_segment(0, 2, 2, 0, 10)[1] = 0x02; /* DC: two of the target's */
    add_segment(0, 0, 5000, 0, 3000);      /* more than a piece, in one volume */
    assert_int_equal(copy(), SCSI_GOOD);
    assert_memory_equal(units.bytes[THICK] + 100 * 512, units.bytes[THIN] + 5 * 512, 3 * 512);
    assert_int_equal(units.bytes[THICK][100 * 512 - 1], 0x33);
    assert_int_equal(units.bytes[THICK][103 * 512], 0x33);
    assert_memory_equal(units.bytes[BIG] + 4096, units.bytes[THIN] + 4096, 8192);
    assert_memory_equal(units.bytes[BIG] + 40960, units.bytes[THIN], 8192);
    assert_int_equal(units.bytes[BIG][40960 + 8192], 0x22);
    assert_int_equal(units.requests, 2 + 2 + 2 + 6);
    assert_memory_equal(units.bytes[THIN] + 3000 * 512, units.bytes[THIN], 3000 * 512);

    assert_int_equal(results(0, 0x5A), SCSI_GOOD);
    assert_int_equal(units.task.in_bytes, 12);
    assert_int_equal(units.in[4], 1);
    assert_int_equal(get_u16(units.in + 5), 4);
    assert_int_equal(get_u32(units.in + 8), 3 * 512 + 8192 + 8192 + 5000 * 512);
    results(0, 0x5B);
    assert_int_equal(units_field(), BYTE(2));
    results(4, 0x5A); /* nothing failed */
    assert_int_equal(units_sense(), INVALID_CDB);
    units.nexus_used = 1; /* and it was not this nexus's */
    results(0, 0x5A);
    assert_int_equal(units_sense(), INVALID_CDB);
}

static void nothing_is_copied(uint32_t sense)
{
    assert_int_equal(copy(), SCSI_CHECK_CONDITION);
    assert_int_equal(units_sense(), sense);
    assert_int_equal(units.requests, 0);
}

static void a_wrong_list_copies_nothing(void **state)
{
    uint8_t *target, *segment;

    add_target(THIN);
    target = add_target(THICK);
    add_segment(0, 1, 1, 0, 0);
    segment = add_segment(0, 1, 1, 0, 0);
    assert_int_equal(copy(), SCSI_GOOD);
    target[0] = 0xE0;
    nothing_is_copied(0x52607);
    target[0] = 0xE4;
    target[1] = 0x05;
    nothing_is_copied(INVALID_LIST);
    target[1] = 0x20;
    nothing_is_copied(INVALID_LIST);
    assert_int_equal(units_field(), LIST(FIELD(49, 5)));
    target[1] = 0;
    target[8 + 15] ^= 1;
    nothing_is_copied(TARGET_UNREACHABLE);
    target[8 + 15] ^= 1;
    put_u24(target + 29, 4096);
    nothing_is_copied(0xA260A);
    put_u24(target + 29, 512);
    segment[0] = 3;
    nothing_is_copied(0x52609);
    segment[0] = 2;
    segment[3] = 20;
    nothing_is_copied(INVALID_LIST);
    assert_int_equal(units_field(), LIST(BYTE(16 + 64 + 28 + 2)));
    segment[3] = 24;
    segment[7] = 2;
    nothing_is_copied(0xA0000);
    segment[7] = 1;
    put_u64(segment + 20, UNIT_BYTES / 512);
    nothing_is_copied(0xA0000);
    put_u64(segment + 20, UINT64_MAX);
    nothing_is_copied(0xA0000);
    put_u64(segment + 20, 0);
    put_u64(segment + 12, UNIT_BYTES / 512 - 1);
    assert_int_equal(copy(), SCSI_GOOD);
    put_u32(list + 12, 4);
    nothing_is_copied(0x5260B);
    put_u32(list + 12, 0);
    for (uint32_t length = 1; length < list_bytes; length++) {
        send_list(length);
        assert_int_equal(units_sense(), LIST_LENGTH_ERROR);
        assert_int_equal(units.requests, 0);
    }
    assert_int_equal(send_list(0), SCSI_GOOD);
    put_u16(list + 2, 63);
    send_list(list_bytes);
    assert_int_equal(units_sense(), LIST_LENGTH_ERROR);
}

static void counts_have_limits(void **state)
{
    for (int i = 0; i < 9; i++)
        add_target(THIN);
    nothing_is_copied(0x52606);
    targets = 1;
    for (int i = 0; i < 33; i++)
        add_segment(0, 0, 1, 0, 0);
    nothing_is_copied(0x52608);
    targets = 34;
    segments = 0;
    nothing_is_copied(LIST_LENGTH_ERROR);
    targets = 1;
    segments = 0;
    for (int i = 0; i < 32; i++)
        add_segment(0, 0, 1, 0, 4);
    assert_int_equal(copy(), SCSI_GOOD);
    /* And they are told. */
    assert_int_equal(results(3, 0), SCSI_GOOD);
    assert_int_equal(get_u32(units.in), units.task.in_bytes - 4);
    assert_int_equal(get_u16(units.in + 8), 8);
    assert_int_equal(get_u16(units.in + 10), 32);
    assert_int_equal(get_u32(units.in + 12), 1024);
    assert_memory_equal(units.in + 43, ((uint8_t[]){2, 0x02, 0xE4}), 3);
}

static void a_copy_may_do_what_its_nexus_may(void **state)
{
    add_target(THIN);
    add_target(READ_ONLY);
    add_segment(0, 1, 1, 0, 0);
    assert_int_equal(copy(), SCSI_CHECK_CONDITION);
    assert_int_equal(units_sense(), THIRD_PARTY_FAILURE);
    assert_int_equal(units.bytes[READ_ONLY][0], 0x44);
    results(0, 0x5A);
    assert_int_equal(units.in[4], 2);
    assert_int_equal(results(4, 0x5A), SCSI_GOOD);
    assert_int_equal(units.in[56], SCSI_CHECK_CONDITION);
    assert_int_equal(get_u16(units.in + 58), 18);
    assert_int_equal(units.in[60 + 2], 0x0A);
    results(4, 0x5A); /* told once */
    assert_int_equal(units_sense(), INVALID_CDB);

    /* Reserved by another, on one side or the other. */
    targets = segments = 0;
    add_target(THIN);
    add_target(THICK);
    add_segment(0, 1, 1, 0, 0);
    units.nexus_used = 1;
    assert_int_equal(SEND(THICK, 0x16, 0, 0, 0, 0, 0), SCSI_GOOD);
    units.nexus_used = 0;
    assert_int_equal(copy(), SCSI_CHECK_CONDITION);
    assert_int_equal(units_sense(), THIRD_PARTY_FAILURE);
    assert_int_equal(units.bytes[THICK][0], 0x33);
    units.nexus_used = 1;
    assert_int_equal(SEND(THICK, 0x17, 0, 0, 0, 0, 0), SCSI_GOOD);
    units.nexus_used = 0;
    assert_int_equal(copy(), SCSI_GOOD);
}

static void reserve_target(const struct host_request *request)
{
    static struct record record;
    static uint8_t bytes[VOLUME_STATE_BYTES];
    const char *reason;
    uint32_t length;

    if (request->op != HOST_WRITE)
        return;
    units.before = NULL;
    record = units.scsi->units[THICK].record;
    record_nexus_set(&record.reserved_by, units.nexus[1]);
    length = record_encode(&record, bytes);
    (void)!scsi_on_state(units.scsi, THICK, ++units.version[THICK], bytes, length, &reason);
    assert_null(reason);
}

static void failures_on_the_way_end_the_copy(void **state)
{
    add_target(THIN);
    add_target(THICK);
    add_segment(0, 1, 8, 0, 0);
    add_segment(0, 1, 8, 0, 8);
    for (uint32_t at = 0; at < 4; at++) {
        units.fail_at = at;
        units.fail_with = HOST_IO_ERROR;
        assert_int_equal(copy(), SCSI_CHECK_CONDITION);
        assert_int_equal(units_sense(), THIRD_PARTY_FAILURE);
        assert_int_equal(units.requests, at + 1);
        results(0, 0x5A);
        assert_int_equal(get_u16(units.in + 5), at / 2);
        assert_int_equal(get_u32(units.in + 8), at / 2 * 4096);
    }
    units.fail_at = 2; /* stale once: asked again */
    units.fail_with = HOST_STALE;
    assert_int_equal(copy(), SCSI_GOOD);
    assert_int_equal(units.requests, 5);
    units.fail_at = UINT32_MAX;
    units.before = reserve_target;
    assert_int_equal(copy(), SCSI_CHECK_CONDITION);
    assert_int_equal(units_sense(), THIRD_PARTY_FAILURE);
}

static void results_are_kept_only_when_wanted(void **state)
{
    add_target(THIN);
    add_segment(0, 0, 1, 0, 9);
    list[1] = 0x18; /* LIST ID USAGE 11b */
    assert_int_equal(copy(), SCSI_GOOD);
    results(0, 0x5A);
    assert_int_equal(units_sense(), INVALID_CDB);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(blocks_are_copied_between_volumes),
        TEST(a_wrong_list_copies_nothing),
        TEST(counts_have_limits),
        TEST(a_copy_may_do_what_its_nexus_may),
        TEST(failures_on_the_way_end_the_copy),
        TEST(results_are_kept_only_when_wanted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
