/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* UNMAP, WRITE SAME and GET LBA STATUS: that what was unmapped reads as zeros to the byte, whatever
 * its alignment; that a wrong list does nothing at all; how extents become descriptors. */

#include "memory_units.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static uint8_t list[8 + 16 * 300];

static int setup(void **state)
{
    units_create();
    memset(list, 0, sizeof list);
    return 0;
}

static int teardown(void **state)
{
    units_destroy();
    return 0;
}

static void put_descriptor(uint32_t index, uint64_t lba, uint32_t blocks)
{
    put_u64(list + 8 + 16 * index, lba);
    put_u32(list + 16 + 16 * index, blocks);
    put_u16(list, (uint16_t)(6 + 16 * (index + 1)));
    put_u16(list + 2, (uint16_t)(16 * (index + 1)));
}

static uint8_t unmap(uint8_t lun, uint32_t count, uint8_t flags)
{
    uint8_t cdb[10] = {0x42, flags};

    put_u16(cdb + 7, (uint16_t)(8 + 16 * count));
    return units_send(lun, cdb, sizeof cdb, list, 8 + 16 * count);
}

static bool all(const uint8_t *bytes, size_t length, uint8_t value)
{
    for (size_t i = 0; i < length; i++)
        if (bytes[i] != value)
            return false;
    return true;
}

/* Every range within four pages: zero inside, untouched outside, whole pages discarded. */
static void unmapped_blocks_read_as_zeros(void **state)
{
    for (uint32_t from = 0; from < 24; from++)
        for (uint32_t to = from; to <= 32; to++) {
            uint32_t trims = 0;
            memset(units.bytes[THIN], 0x77, 20000);
            put_descriptor(0, from, to - from);
            assert_int_equal(unmap(THIN, 1, 0), SCSI_GOOD);
            assert_true(all(units.bytes[THIN], from * 512, 0x77));
            assert_true(all(units.bytes[THIN] + from * 512, (to - from) * 512, 0));
            assert_true(all(units.bytes[THIN] + to * 512, 20000 - to * 512, 0x77));
            for (uint32_t i = 0; i < units.requests; i++)
                if (units.log[i].op == HOST_TRIM)
                    trims += (uint32_t)units.log[i].length_bytes / 4096;
            assert_int_equal(trims, to / 8 > (from + 7) / 8 ? to / 8 - (from + 7) / 8 : 0);
            assert_true(units.requests <= 3);
        }
}

static void unmap_does_each_descriptor(void **state)
{
    put_descriptor(0, 8, 8);
    put_descriptor(1, 0, 0);
    put_descriptor(2, UNIT_BYTES / 512 + 7, 0); /* nothing, wherever */
    put_descriptor(3, UNIT_BYTES / 512 - 1, 1);
    put_descriptor(4, 12, 8);
    assert_int_equal(unmap(THIN, 5, 0), SCSI_GOOD);
    assert_true(all(units.bytes[THIN] + 4096, 6144, 0));
    assert_true(all(units.bytes[THIN] + UNIT_BYTES - 512, 512, 0));
    assert_int_equal(units.bytes[THIN][UNIT_BYTES - 513], 0x11);
    assert_int_equal(units.bytes[THIN][4095], 0x11);
    put_descriptor(0, 3, 2);
    assert_int_equal(unmap(BIG, 1, 0), SCSI_GOOD);
    assert_int_equal(units.requests, 1);
    assert_int_equal(units.log[0].op, HOST_TRIM);
    assert_int_equal(units.log[0].offset_bytes, 3 * 4096);
    assert_int_equal(units.log[0].length_bytes, 2 * 4096);
}

static void descriptors_in_a_row_are_one_discard(void **state)
{
    for (uint32_t i = 0; i < 200; i++)
        put_descriptor(i, 3 + i, 1); /* bytes 1536 to 103936 */
    put_descriptor(200, 203, 0);
    put_descriptor(201, 211, 8); /* leaves a gap */
    put_descriptor(202, 203, 2); /* goes back */
    assert_int_equal(unmap(THIN, 203, 0), SCSI_GOOD);
    assert_true(all(units.bytes[THIN], 3 * 512, 0x11));
    assert_true(all(units.bytes[THIN] + 3 * 512, 202 * 512, 0));
    assert_true(all(units.bytes[THIN] + 205 * 512, 6 * 512, 0x11));
    assert_true(all(units.bytes[THIN] + 211 * 512, 8 * 512, 0));
    assert_int_equal(units.bytes[THIN][219 * 512], 0x11);
    assert_int_equal(units.log[1].op, HOST_TRIM);
    assert_int_equal(units.log[1].offset_bytes, 4096);
    assert_int_equal(units.log[1].length_bytes, 24 * 4096);
    assert_int_equal(units.requests, 3 + 2 + 1);
}

static void a_wrong_unmap_list_does_nothing(void **state)
{
    put_descriptor(0, 0, 8);
    put_descriptor(1, UNIT_BYTES / 512 - 1, 2);
    unmap(THIN, 2, 0);
    assert_int_equal(units_sense(), OUT_OF_RANGE);
    put_descriptor(1, UINT64_MAX, UINT32_MAX);
    unmap(THIN, 2, 0);
    assert_int_equal(units_sense(), OUT_OF_RANGE);
    put_u16(list + 2, 48);
    unmap(THIN, 2, 0); /* more descriptors than the list holds */
    assert_int_equal(units_sense(), LIST_LENGTH_ERROR);
    put_descriptor(0, 0, 8);
    unmap(THIN, 1, 1);
    assert_int_equal(units_sense(), INVALID_CDB);
    assert_int_equal(units_field(), FIELD(1, 0));
    for (uint8_t length = 1; length < 8; length++) {
        SEND_OUT(THIN, list, length, 0x42, 0, 0, 0, 0, 0, 0, 0, length, 0);
        assert_int_equal(units_sense(), LIST_LENGTH_ERROR);
    }
    SEND_OUT(THIN, list, 7, 0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0); /* the initiator sends less */
    assert_int_equal(units_sense(), LIST_LENGTH_ERROR);
    unmap(THICK, 1, 0);
    assert_int_equal(units_sense(), INVALID_OPCODE);
    for (uint32_t i = 0; i < 257; i++)
        put_descriptor(i, i * 8, 8);
    unmap(THIN, 257, 0);
    assert_int_equal(units_sense(), INVALID_LIST);
    assert_int_equal(units_field(), LIST(BYTE(2)));
    assert_true(all(units.bytes[THIN], UNIT_BYTES, 0x11));
    put_descriptor(255, 0, 8);
    assert_int_equal(unmap(THIN, 256, 0), SCSI_GOOD);
    assert_int_equal(SEND(THIN, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0), SCSI_GOOD);
    put_descriptor(0, 0, 8);
    units.fail_at = 0;
    units.fail_with = HOST_IO_ERROR;
    unmap(THIN, 1, 0);
    assert_int_equal(units_sense(), 0x30C00);
}

/* ---- WRITE SAME ---- */

static uint8_t write_same(uint8_t lun, uint8_t opcode, uint64_t lba, uint32_t blocks, uint8_t flags,
                          const uint8_t *block, uint32_t bytes)
{
    uint8_t cdb[16] = {opcode, flags};

    if (opcode == 0x93) {
        put_u64(cdb + 2, lba);
        put_u32(cdb + 10, blocks);
    } else {
        put_u32(cdb + 2, (uint32_t)lba);
        put_u16(cdb + 7, (uint16_t)blocks);
    }
    return units_send(lun, cdb, opcode == 0x93 ? 16 : 10, block, bytes);
}

static void write_same_repeats_a_block(void **state)
{
    static const uint8_t opcodes[] = {0x41, 0x93};
    uint8_t block[4096];

    for (uint32_t i = 0; i < sizeof block; i++)
        block[i] = (uint8_t)(i * 13 + i / 256);
    for (uint32_t i = 0; i < ARRAY_LENGTH(opcodes); i++)
        for (int lun = THIN; lun <= THICK; lun++) {
            uint32_t size = lun == BIG ? 4096 : 512, count = TRANSFER_BYTES / size;
            memset(units.bytes[lun], 0x77, UNIT_BYTES);
            assert_int_equal(write_same(lun, opcodes[i], 1, count, 0, block, size), SCSI_GOOD);
            for (uint32_t j = 1; j <= count; j++)
                assert_memory_equal(units.bytes[lun] + j * size, block, size);
            assert_true(all(units.bytes[lun], size, 0x77));
            assert_true(all(units.bytes[lun] + (count + 1) * size, size, 0x77));
        }
}

static void write_same_of_zeros_is_one_request(void **state)
{
    static const uint8_t zeros[4096];

    assert_int_equal(write_same(THIN, 0x41, 3, 9, 0, zeros, 512), SCSI_GOOD);
    assert_int_equal(units.requests, 1);
    assert_int_equal(units.log[0].op, HOST_ZERO);
    assert_int_equal(units.log[0].flags, HOST_VERSIONED | HOST_NO_HOLE);
    assert_true(all(units.bytes[THIN] + 3 * 512, 9 * 512, 0));
    assert_int_equal(write_same(THIN, 0x93, 3, 9, 0x08, zeros, 512), SCSI_GOOD); /* UNMAP */
    assert_int_equal(units.log[0].flags, HOST_VERSIONED);
    assert_int_equal(write_same(THIN, 0x93, 3, 9, 0x09, NULL, 0), SCSI_GOOD); /* NDOB */
    assert_int_equal(units.log[0].op, HOST_ZERO);
    assert_int_equal(units.task.transfer_bytes, 0);
    uint8_t one[512] = {[511] = 1}; /* UNMAP of other data writes them */
    assert_int_equal(write_same(THIN, 0x93, 3, 9, 0x08, one, 512), SCSI_GOOD);
    assert_int_equal(units.log[0].op, HOST_WRITE);
    assert_int_equal(units.bytes[THIN][11 * 512 + 511], 1);
}

static void write_same_refuses(void **state)
{
    static const uint8_t zeros[1024];
    static const struct {
        uint8_t lun, opcode, flags;
        uint32_t blocks, bytes;
        int field;
    } rows[] = {
        {THIN, 0x41, 0x10, 1, 512, FIELD(1, 4)},  {THIN, 0x93, 0x18, 1, 512, FIELD(1, 4)},
        {THICK, 0x41, 0x08, 1, 512, FIELD(1, 3)}, {THICK, 0x93, 0x08, 1, 512, FIELD(1, 3)},
        {THIN, 0x41, 0x04, 1, 512, FIELD(1, 2)},  {THIN, 0x41, 0x02, 1, 512, FIELD(1, 1)},
        {THIN, 0x41, 0, 0, 512, BYTE(7)},         {THIN, 0x93, 0, 0, 512, BYTE(10)},
        {THIN, 0x41, 0, 1, 1024, BYTE(7)},        {THIN, 0x93, 0, 1, 511, BYTE(10)},
    };

    for (uint32_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        write_same(rows[i].lun, rows[i].opcode, 0, rows[i].blocks, rows[i].flags, zeros,
                   rows[i].bytes);
        assert_int_equal(units_sense(), INVALID_CDB);
        assert_int_equal(units_field(), rows[i].field);
        assert_int_equal(units.requests, 0);
    }
}

/* ---- GET LBA STATUS ---- */

static void status_is(uint8_t lun, uint64_t lba, uint32_t allocation, const char *expected)
{
    uint8_t cdb[16] = {0x9E, 0x12};
    char text[1024] = "";

    put_u64(cdb + 2, lba);
    put_u32(cdb + 10, allocation);
    assert_int_equal(units_send(lun, cdb, sizeof cdb, NULL, 0), SCSI_GOOD);
    for (uint32_t at = 8; at + 16 <= units.task.in_bytes; at += 16)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%llu+%u:%u ",
                 (unsigned long long)get_u64(units.in + at), get_u32(units.in + at + 8),
                 units.in[at + 12]);
    assert_string_equal(text, expected);
}

static void extents_become_descriptors(void **state)
{
    static const struct scsi_extent whole[] = {{4096, false}, {8192, true}, {4096, false}};
    static const struct scsi_extent holes[] = {{4096, true}, {4096, true}, {UNIT_BYTES, true}};
    /* A hole that begins and ends inside blocks; data in pieces; stops short of the end. */
    static const struct scsi_extent ragged[] = {
        {100, false}, {50, false}, {1800, true}, {300, true}, {2000, false}};
    static const struct scsi_extent tiny[] = {{100, true}};

    units.extents = whole;
    units.extent_count = 3;
    status_is(THIN, 0, 1000, "0+8:0 8+16:1 24+8:0 ");
    assert_int_equal(get_u32(units.in), 4 + 3 * 16);
    status_is(THIN, 100, 1000, "100+8:0 108+16:1 124+8:0 ");
    status_is(THIN, 0, 40, "0+8:0 8+16:1 "); /* room for two */
    status_is(THIN, 0, 24, "0+8:0 ");
    status_is(THIN, 0, 55, "0+8:0 8+16:1 ");
    status_is(BIG, 0, 1000, "0+1:0 1+2:1 3+1:0 ");
    units.extents = holes;
    status_is(THIN, 0, 1000, "0+8192:1 ");
    status_is(THIN, 8191, 1000, "8191+1:1 ");
    units.extents = ragged;
    units.extent_count = 5;
    status_is(THIN, 0, 1000, "0+1:0 1+2:1 3+5:0 ");
    units.extents = tiny;
    units.extent_count = 1;
    status_is(THIN, 0, 1000, "0+1:0 ");
    units.extent_count = 0; /* not known: mapped */
    status_is(THIN, 5, 1000, "5+8187:0 ");
    status_is(THICK, 5, 1000, "5+8187:0 ");
    SEND(THIN, 0x9E, 0x12, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 4, 0, 0, 0);
    assert_int_equal(units_sense(), OUT_OF_RANGE);
}

static void a_map_asks_for_no_more_than_is_told(void **state)
{
    uint8_t cdb[16] = {0x9E, 0x12, [9] = 5, [13] = 56};
    struct scsi_task task = {.nexus = units.nexus[0], .cdb_bytes = 16, .expected_in_bytes = 56};

    memcpy(task.cdb, cdb, sizeof cdb);
    assert_int_equal(scsi_task_begin(units.scsi, &task), SCSI_BUFFER);
    task.buffer = units.in;
    assert_int_equal(scsi_task_run(&task), SCSI_MAP);
    assert_int_equal(task.map.volume, THIN);
    assert_int_equal(task.map.offset_bytes, 5 * 512);
    assert_int_equal(task.map.length_bytes, UNIT_BYTES - 5 * 512);
    assert_int_equal(task.map.extent_limit, 3);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(unmapped_blocks_read_as_zeros),
        TEST(unmap_does_each_descriptor),
        TEST(descriptors_in_a_row_are_one_discard),
        TEST(a_wrong_unmap_list_does_nothing),
        TEST(write_same_repeats_a_block),
        TEST(write_same_of_zeros_is_one_request),
        TEST(write_same_refuses),
        TEST(extents_become_descriptors),
        TEST(a_map_asks_for_no_more_than_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
