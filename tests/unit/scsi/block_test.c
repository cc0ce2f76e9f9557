/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* READ, WRITE, SYNCHRONIZE CACHE, PRE-FETCH, VERIFY, COMPARE AND WRITE, ORWRITE: each form of each,
 * at the edges of the medium, with 512- and 4096-byte blocks, with every residual, and with every
 * way in which the core can refuse. */

#include "memory_units.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static uint8_t out[3 << 20];

static int setup(void **state)
{
    units_create();
    for (uint32_t i = 0; i < sizeof out; i++)
        out[i] = (uint8_t)(i * 7 + i / 512);
    return 0;
}

static int teardown(void **state)
{
    units_destroy();
    return 0;
}

/* A READ or WRITE of any size, with flags in byte 1. */
static uint8_t move(uint8_t lun, uint8_t opcode, uint64_t lba, uint32_t blocks, uint8_t flags,
                    uint32_t out_bytes)
{
    uint8_t cdb[16] = {opcode, flags};

    switch (opcode >> 5) {
    case 0:
        put_u24(cdb + 1, (uint32_t)lba);
        cdb[4] = (uint8_t)blocks;
        return units_send(lun, cdb, 6, out, out_bytes);
    case 1:
    case 2:
        put_u32(cdb + 2, (uint32_t)lba);
        put_u16(cdb + 7, (uint16_t)blocks);
        return units_send(lun, cdb, 10, out, out_bytes);
    case 4:
        put_u64(cdb + 2, lba);
        put_u32(cdb + 10, blocks);
        return units_send(lun, cdb, 16, out, out_bytes);
    default:
        put_u32(cdb + 2, (uint32_t)lba);
        put_u32(cdb + 6, blocks);
        return units_send(lun, cdb, 12, out, out_bytes);
    }
}

static const uint8_t reads[] = {0x08, 0x28, 0xA8, 0x88};
static const uint8_t writes[] = {0x0A, 0x2A, 0xAA, 0x8A};

static uint32_t block_of(int lun)
{
    return lun == BIG ? 4096 : 512;
}

static void what_is_written_is_read(void **state)
{
    for (int lun = THIN; lun <= THICK; lun++)
        for (uint32_t i = 0; i < ARRAY_LENGTH(reads); i++) {
            uint32_t block = block_of(lun), last = UNIT_BYTES / block - 3;
            assert_int_equal(move(lun, writes[i], last, 3, 0, 3 * block), SCSI_GOOD);
            assert_int_equal(units.task.transfer_bytes, 3 * block);
            assert_true(units.task.writes);
            assert_int_equal(units.requests, 1);
            assert_int_equal(units.log[0].flags, HOST_VERSIONED);
            assert_memory_equal(units.bytes[lun] + UNIT_BYTES - 3 * block, out, 3 * block);
            assert_int_equal(units.bytes[lun][UNIT_BYTES - 3 * block - 1], 0x11 * (lun + 1));
            assert_int_equal(move(lun, reads[i], last, 3, 0, 0), SCSI_GOOD);
            assert_int_equal(units.task.in_bytes, 3 * block);
            assert_false(units.task.writes);
            assert_memory_equal(units.in, out, 3 * block);
            memset(units.bytes[lun] + UNIT_BYTES - 3 * block, 0x11 * (lun + 1), 3 * block);
        }
}

/* The last block is the last one; a command of no blocks must also begin on the medium. */
static void nothing_lies_past_the_end(void **state)
{
    static const uint8_t opcodes[] = {0x08, 0x28, 0xA8, 0x88, 0x0A, 0x2A, 0xAA,
                                      0x8A, 0x2E, 0xAE, 0x8E, 0x8B, 0x2F, 0xAF,
                                      0x8F, 0x35, 0x91, 0x34, 0x90, 0x41, 0x93};

    for (uint32_t i = 0; i < ARRAY_LENGTH(opcodes); i++) {
        uint64_t end = UNIT_BYTES / 512;
        bool sends = opcodes[i] != 0x35 && opcodes[i] != 0x91 && opcodes[i] != 0x34 &&
                     opcodes[i] != 0x90 && (opcodes[i] & 0x1F) != 0x08;
        uint8_t flags = (opcodes[i] & 0x1F) == 0x0F ? 0x02 : 0;
        uint32_t bytes = !sends ? 0 : opcodes[i] == 0x41 || opcodes[i] == 0x93 ? 512 : 1024;
        uint8_t good = opcodes[i] == 0x34 || opcodes[i] == 0x90 ? SCSI_CONDITION_MET : SCSI_GOOD;
        memcpy(units.bytes[THIN] + UNIT_BYTES - 1024, out, 1024); /* VERIFY finds it there */
        assert_int_equal(move(THIN, opcodes[i], end - 2, 2, flags, bytes), good);
        assert_int_equal(move(THIN, opcodes[i], end - 1, 2, flags, bytes), SCSI_CHECK_CONDITION);
        assert_int_equal(units_sense(), OUT_OF_RANGE);
        assert_int_equal(units.requests, 0);
        if (opcodes[i] != 0x08 && opcodes[i] != 0x0A) {
            move(THIN, opcodes[i], end, 0, flags, 0);
            assert_int_equal(units_sense(), OUT_OF_RANGE);
            move(THIN, opcodes[i], UINT32_MAX, 1, flags, bytes);
            assert_int_equal(units_sense(), OUT_OF_RANGE);
        }
        if (opcodes[i] >> 5 == 4) {
            move(THIN, opcodes[i], UINT64_MAX, UINT32_MAX, flags, bytes);
            assert_int_equal(units_sense(), OUT_OF_RANGE);
            move(THIN, opcodes[i], UINT64_C(1) << 55, 1, flags, bytes);
            assert_int_equal(units_sense(), OUT_OF_RANGE);
        }
    }
}

static void six_bytes_name_256_blocks_by_zero(void **state)
{
    assert_int_equal(move(THIN, 0x0A, 1, 0, 0, 256 * 512), SCSI_GOOD);
    assert_int_equal(units.log[0].length_bytes, 256 * 512);
    assert_int_equal(move(THIN, 0x08, 1, 0, 0, 0), SCSI_GOOD);
    assert_int_equal(units.task.in_bytes, 256 * 512);
    assert_memory_equal(units.in, out, 256 * 512);
    assert_int_equal(move(THIN, 0x28, 1, 0, 0, 0), SCSI_GOOD);
    assert_int_equal(units.requests, 0);
}

static void a_transfer_has_a_longest_length(void **state)
{
    uint32_t most = TRANSFER_BYTES / 512;

    assert_int_equal(move(THIN, 0x88, 0, most, 0, 0), SCSI_GOOD);
    assert_int_equal(units.task.in_bytes, TRANSFER_BYTES);
    static const struct {
        uint8_t opcode;
        int field;
    } rows[] = {{0x28, BYTE(7)}, {0xA8, BYTE(6)},  {0x88, BYTE(10)}, {0x2A, BYTE(7)},
                {0xAA, BYTE(6)}, {0x8A, BYTE(10)}, {0x2E, BYTE(7)},  {0x8B, BYTE(10)},
                {0x41, BYTE(7)}, {0x93, BYTE(10)}};
    for (uint32_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        move(THIN, rows[i].opcode, 0, most + 1, 0, rows[i].opcode == 0x41 ? 512 : sizeof out);
        assert_int_equal(units_sense(), INVALID_CDB);
        assert_int_equal(units_field(), rows[i].field);
    }
    /* VERIFY compares what it was sent, else it may look at all. */
    move(THIN, 0x8F, 0, most + 1, 0x02, sizeof out);
    assert_int_equal(units_sense(), INVALID_CDB);
    assert_int_equal(move(THIN, 0x8F, 0, UNIT_BYTES / 512, 0, 0), SCSI_GOOD);
    assert_int_equal(units.requests, UNIT_BYTES / SCSI_PIECE_BYTES);
}

static void protection_information_is_refused(void **state)
{
    static const uint8_t opcodes[] = {0x28, 0xA8, 0x88, 0x2A, 0xAA, 0x8A, 0x2E, 0xAE,
                                      0x8E, 0x2F, 0xAF, 0x8F, 0x8B, 0x89, 0x41, 0x93};

    for (uint32_t i = 0; i < ARRAY_LENGTH(opcodes); i++)
        for (uint8_t protect = 1; protect < 8; protect++) {
            move(THIN, opcodes[i], 0, 1, (uint8_t)(protect << 5), 512);
            assert_int_equal(units_sense(), INVALID_CDB);
            assert_int_equal(units_field(), FIELD(1, 7));
            assert_int_equal(units.requests, 0);
        }
}

static void force_unit_access(void **state)
{
    assert_int_equal(move(THIN, 0x2A, 0, 1, 0x08, 512), SCSI_GOOD);
    assert_int_equal(units.log[0].flags, HOST_VERSIONED | HOST_FUA);
    assert_int_equal(move(THIN, 0x2A, 0, 1, 0x18, 512), SCSI_GOOD);
    assert_int_equal(units.log[0].flags, HOST_VERSIONED | HOST_FUA);
    assert_int_equal(move(THIN, 0x2A, 0, 1, 0x10, 512), SCSI_GOOD); /* DPO alone */
    assert_int_equal(units.log[0].flags, HOST_VERSIONED);
    /* In six bytes the same bit is part of the address. */
    units.scsi->units[THIN].block_count = 1 << 21;
    units.fail_at = 0;
    units.fail_with = HOST_OK;
    assert_int_equal(move(THIN, 0x0A, 0x080000, 1, 0, 512), SCSI_GOOD);
    assert_int_equal(units.log[0].flags, HOST_VERSIONED);
    units.fail_at = UINT32_MAX;
    /* Without a write cache every write is safe when it is answered. */
    units.scsi->units[THIN].record.mode.write_cache_disabled = true;
    static const uint8_t all[] = {0x0A, 0x2A, 0xAA, 0x8A, 0x8B, 0x41, 0x93};
    for (uint32_t i = 0; i < ARRAY_LENGTH(all); i++) {
        assert_int_equal(move(THIN, all[i], 0, 1, 0, 512), SCSI_GOOD);
        assert_int_equal(units.log[units.requests - 1].flags & HOST_FUA, HOST_FUA);
    }
}

/* RFC 7143 11.4.5: the residual counts come from what the command wants and what is expected. */
static void no_more_is_moved_than_expected(void **state)
{
    units.in_expected = 0;
    assert_int_equal(move(THIN, 0x28, 0, 1, 0, 0), SCSI_GOOD);
    assert_int_equal(units.task.transfer_bytes, 512);
    assert_int_equal(units.task.in_bytes, 0);
    units.in_expected = 200;
    assert_int_equal(move(THIN, 0x28, 0, 2, 0, 0), SCSI_GOOD);
    assert_int_equal(units.task.transfer_bytes, 1024);
    assert_int_equal(units.task.in_bytes, 200);
    units.in_expected = 10000;
    assert_int_equal(move(THIN, 0x28, 0, 1, 0, 0), SCSI_GOOD);
    assert_int_equal(units.task.transfer_bytes, 512);
    assert_int_equal(units.task.in_bytes, 512);

    /* Whole blocks only. */
    assert_int_equal(move(THIN, 0x2A, 0, 2, 0, 1023), SCSI_GOOD);
    assert_int_equal(units.task.transfer_bytes, 1024);
    assert_int_equal(units.log[0].length_bytes, 512);
    assert_memory_equal(units.bytes[THIN], out, 512);
    assert_int_equal(units.bytes[THIN][512], 0x11);
    assert_int_equal(move(THIN, 0x2A, 8, 1, 0, 511), SCSI_GOOD);
    assert_int_equal(units.requests, 0);
    assert_int_equal(move(THIN, 0x2A, 8, 1, 0, 10000), SCSI_GOOD);
    assert_int_equal(units.task.transfer_bytes, 512);
    assert_int_equal(units.bytes[THIN][9 * 512], 0x11);
    assert_int_equal(move(THIN, 0x8E, 16, 2, 0x02, 600), SCSI_GOOD);
    assert_int_equal(units.log[0].length_bytes, 512);
    assert_int_equal(move(THIN, 0x8B, 24, 2, 0, 600), SCSI_GOOD);
    assert_int_equal(units.log[1].length_bytes, 512);
}

static void results_of_the_core_have_their_answers(void **state)
{
    static const struct {
        enum host_result result;
        uint8_t status;
        uint32_t read_sense, write_sense;
    } rows[] = {
        {HOST_NOT_OWNER, SCSI_CHECK_CONDITION, 0x2040C, 0x2040C},
        {HOST_RANGE, SCSI_CHECK_CONDITION, OUT_OF_RANGE, OUT_OF_RANGE},
        {HOST_BUSY, SCSI_TASK_SET_FULL, 0, 0},
        {HOST_IO_ERROR, SCSI_CHECK_CONDITION, 0x31100, 0x30C00},
        {HOST_MISCOMPARE, SCSI_CHECK_CONDITION, 0x44400, 0x44400},
        {HOST_REFUSED, SCSI_CHECK_CONDITION, 0x44400, 0x44400},
        {HOST_COPY, SCSI_CHECK_CONDITION, 0x20403, 0x20403},
        {HOST_READ_ONLY, SCSI_CHECK_CONDITION, 0x72700, 0x72700},
    };
    static const uint8_t out_opcodes[] = {0x2A, 0x2E, 0x41};

    for (uint32_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        units.fail_at = 0;
        units.fail_with = rows[i].result;
        assert_int_equal(move(THIN, 0x28, 0, 1, 0, 0), rows[i].status);
        assert_int_equal(units_sense(), rows[i].read_sense);
        assert_int_equal(units.task.in_bytes, 0);
        assert_int_equal(move(THIN, 0x2F, 0, 1, 0, 0), rows[i].status);
        assert_int_equal(units_sense(), rows[i].read_sense);
        assert_int_equal(move(THIN, 0x34, 0, 1, 0, 0), rows[i].status);
        for (uint32_t j = 0; j < ARRAY_LENGTH(out_opcodes); j++) {
            assert_int_equal(move(THIN, out_opcodes[j], 0, 1, 0, 512), rows[i].status);
            assert_int_equal(units_sense(), rows[i].write_sense);
        }
        assert_int_equal(move(THIN, 0x35, 0, 0, 0, 0), rows[i].status);
    }
}

/* ---- the record changes under a command ---- */

static uint32_t changes_left;

static void change_record(const struct host_request *request)
{
    static struct record record;
    static uint8_t bytes[VOLUME_STATE_BYTES];
    const char *reason;
    uint32_t length;

    if (changes_left == 0)
        return;
    changes_left--;
    record = units.scsi->units[THIN].record;
    record.generation++;
    length = record_encode(&record, bytes);
    (void)!scsi_on_state(units.scsi, THIN, ++units.version[THIN], bytes, length, &reason);
    assert_null(reason);
}

static void a_changed_record_is_looked_at_again(void **state)
{
    units.before = change_record;
    changes_left = 1;
    assert_int_equal(move(THIN, 0x2A, 0, 1, 0, 512), SCSI_GOOD);
    assert_int_equal(units.requests, 2);
    assert_int_equal(units.log[0].state_version, 0);
    assert_int_equal(units.log[1].state_version, 1);
    assert_memory_equal(units.bytes[THIN], out, 512);
    changes_left = SCSI_STALE_RETRIES;
    assert_int_equal(move(THIN, 0x28, 0, 1, 0, 0), SCSI_GOOD);
    assert_int_equal(units.requests, SCSI_STALE_RETRIES + 1);
    /* And not for ever. */
    changes_left = 1000;
    assert_int_equal(move(THIN, 0x28, 0, 1, 0, 0), SCSI_STATUS_BUSY);
    assert_int_equal(units.requests, SCSI_STALE_RETRIES + 1);
}

static void reserve_for_other(const struct host_request *request)
{
    static struct record record;
    static uint8_t bytes[VOLUME_STATE_BYTES];
    const char *reason;
    uint32_t length;

    units.before = NULL;
    record = units.scsi->units[THIN].record;
    record_nexus_set(&record.reserved_by, units.nexus[1]);
    length = record_encode(&record, bytes);
    (void)!scsi_on_state(units.scsi, THIN, ++units.version[THIN], bytes, length, &reason);
    assert_null(reason);
}

static void a_reservation_that_comes_in_between_counts(void **state)
{
    units.before = reserve_for_other;
    assert_int_equal(move(THIN, 0x2A, 0, 1, 0, 512), SCSI_RESERVATION_CONFLICT);
    assert_int_equal(units.task.sense_bytes, 0);
    assert_int_equal(units.bytes[THIN][0], 0x11);
    units.nexus_used = 1;
    assert_int_equal(move(THIN, 0x2A, 0, 1, 0, 512), SCSI_GOOD);
}

/* ---- SYNCHRONIZE CACHE, PRE-FETCH ---- */

static void flushes(void **state)
{
    assert_int_equal(SEND(THIN, 0x35, 0x02, 0, 0, 0, 5, 0, 0, 3, 0), SCSI_GOOD);
    assert_int_equal(units.requests, 1);
    assert_int_equal(units.log[0].op, HOST_FLUSH);
    assert_int_equal(move(THIN, 0x91, 0, 0, 0, 0), SCSI_GOOD);
    assert_int_equal(units.log[0].op, HOST_FLUSH);
}

static void prefetch_reads_and_gives_nothing(void **state)
{
    assert_int_equal(move(THIN, 0x34, 0, 8, 0, 0), SCSI_CONDITION_MET);
    assert_int_equal(units.requests, 1);
    assert_int_equal(units.log[0].op, HOST_READ);
    assert_int_equal(units.task.in_bytes, 0);
    assert_int_equal(move(THIN, 0x90, 8, 0, 0, 0), SCSI_CONDITION_MET); /* to the end */
    assert_int_equal(units.requests, 4);
    assert_int_equal(move(THIN, 0x34, 0, 8, 0x02, 0), SCSI_GOOD); /* IMMED: nothing is promised */
    assert_int_equal(units.requests, 0);
}

/* ---- VERIFY, WRITE AND VERIFY ---- */

static void verify_compares(void **state)
{
    static const uint8_t opcodes[] = {0x2F, 0xAF, 0x8F};

    memcpy(units.bytes[THIN], out, sizeof out);
    memcpy(units.bytes[BIG], out, sizeof out);
    for (uint32_t i = 0; i < ARRAY_LENGTH(opcodes); i++) {
        assert_int_equal(move(THIN, opcodes[i], 0, 4, 0x02, 2048), SCSI_GOOD);
        assert_int_equal(move(BIG, opcodes[i], 0, 4, 0x12, 16384), SCSI_GOOD);
        out[2047] ^= 1;
        assert_int_equal(move(THIN, opcodes[i], 0, 4, 0x02, 2048), SCSI_CHECK_CONDITION);
        assert_int_equal(units_sense(), MISCOMPARE);
        assert_true(units.task.sense[0] & 0x80);
        assert_int_equal(get_u32(units.task.sense + 3), 2047);
        assert_int_equal(move(THIN, opcodes[i], 0, 4, 0, 0), SCSI_GOOD); /* BYTCHK 0 */
        assert_int_equal(move(THIN, opcodes[i], 0, 3, 0x02, 1536), SCSI_GOOD);
        assert_int_equal(move(THIN, opcodes[i], 0, 4, 0x02, 1536), SCSI_GOOD); /* what came */
        out[2047] ^= 1;
        /* BYTCHK 3: one block, for all. */
        assert_int_equal(move(THICK, opcodes[i], 0, 100, 0x06, 512), SCSI_CHECK_CONDITION);
        memset(out, 0x33, 512);
        assert_int_equal(move(THICK, opcodes[i], 0, 100, 0x06, 512), SCSI_GOOD);
        units.bytes[THICK][99 * 512 + 17] = 0;
        assert_int_equal(move(THICK, opcodes[i], 0, 99, 0x06, 512), SCSI_GOOD);
        assert_int_equal(move(THICK, opcodes[i], 0, 100, 0x06, 512), SCSI_CHECK_CONDITION);
        assert_int_equal(get_u32(units.task.sense + 3), 17);
        units.bytes[THICK][99 * 512 + 17] = 0x33;
        memcpy(out, units.bytes[THIN], 512);
        move(THIN, opcodes[i], 0, 1, 0x04, 512);
        assert_int_equal(units_sense(), INVALID_CDB);
        assert_int_equal(units_field(), FIELD(1, 2));
    }
    /* Longer than a piece. */
    assert_int_equal(move(THIN, 0x8F, 0, TRANSFER_BYTES / 512, 0x02, TRANSFER_BYTES), SCSI_GOOD);
    out[TRANSFER_BYTES - 1] ^= 1;
    move(THIN, 0x8F, 0, TRANSFER_BYTES / 512, 0x02, TRANSFER_BYTES);
    assert_int_equal(get_u32(units.task.sense + 3), TRANSFER_BYTES - 1);
}

static void spoil(const struct host_request *request)
{
    if (request->op == HOST_READ)
        units.bytes[THIN][5] ^= 1;
}

static void write_and_verify_reads_back(void **state)
{
    static const uint8_t opcodes[] = {0x2E, 0xAE, 0x8E};

    for (uint32_t i = 0; i < ARRAY_LENGTH(opcodes); i++) {
        assert_int_equal(move(THIN, opcodes[i], 0, 4, 0x02, 2048), SCSI_GOOD);
        assert_int_equal(units.requests, 2);
        assert_int_equal(units.log[0].op, HOST_WRITE);
        assert_int_equal(units.log[0].flags & HOST_FUA, HOST_FUA);
        assert_int_equal(units.log[1].op, HOST_READ);
        assert_memory_equal(units.bytes[THIN], out, 2048);
        units.before = spoil;
        assert_int_equal(move(THIN, opcodes[i], 0, 4, 0x02, 2048), SCSI_CHECK_CONDITION);
        assert_int_equal(units_sense(), MISCOMPARE);
        assert_int_equal(move(THIN, opcodes[i], 0, 4, 0, 2048), SCSI_GOOD);
        units.before = NULL;
        move(THIN, opcodes[i], 0, 1, 0x06, 512);
        assert_int_equal(units_field(), FIELD(1, 2));
    }
}

/* ---- COMPARE AND WRITE, ORWRITE ---- */

static uint8_t compare_and_write(uint8_t lun, uint64_t lba, uint8_t blocks, uint8_t flags,
                                 uint32_t bytes)
{
    uint8_t cdb[16] = {0x89, flags};

    put_u64(cdb + 2, lba);
    cdb[13] = blocks;
    return units_send(lun, cdb, sizeof cdb, out, bytes);
}

static void compare_and_write_is_one_request(void **state)
{
    memcpy(units.bytes[THIN], out, 1024);
    assert_int_equal(compare_and_write(THIN, 0, 2, 0x08, 2048), SCSI_GOOD);
    assert_int_equal(units.requests, 1);
    assert_int_equal(units.log[0].op, HOST_COMPARE_WRITE);
    assert_int_equal(units.log[0].flags, HOST_VERSIONED | HOST_FUA);
    assert_int_equal(units.log[0].length_bytes, 1024);
    assert_memory_equal(units.bytes[THIN], out + 1024, 1024);
    memcpy(units.bytes[THIN], out, 1024);
    units.bytes[THIN][700] ^= 1;
    assert_int_equal(compare_and_write(THIN, 0, 2, 0, 2048), SCSI_CHECK_CONDITION);
    assert_int_equal(units_sense(), MISCOMPARE);
    assert_int_equal(get_u32(units.task.sense + 3), 700);
    assert_int_equal(units.bytes[THIN][0], out[0]);
    /* Data-out of another size than twice the blocks. */
    static const uint32_t sizes[] = {0, 1024, 2047, 2049, 4096};
    for (uint32_t i = 0; i < ARRAY_LENGTH(sizes); i++) {
        compare_and_write(THIN, 0, 2, 0, sizes[i]);
        assert_int_equal(units_sense(), INVALID_CDB);
        assert_int_equal(units_field(), BYTE(13));
    }
    assert_int_equal(compare_and_write(THIN, 0, 0, 0, 0), SCSI_GOOD);
    compare_and_write(THIN, 0, 0, 0, 512);
    assert_int_equal(units_field(), BYTE(13));
    compare_and_write(THIN, UNIT_BYTES / 512, 0, 0, 0);
    assert_int_equal(units_sense(), OUT_OF_RANGE);
    memcpy(out, units.bytes[THIN], 255 * 512);
    assert_int_equal(compare_and_write(THIN, 0, 255, 0, 255 * 1024), SCSI_GOOD);
    memcpy(out, units.bytes[BIG], 32 * 4096);
    assert_int_equal(compare_and_write(BIG, 0, 32, 0, 32 * 8192), SCSI_GOOD);
    compare_and_write(BIG, 0, 33, 0, 33 * 8192);
    assert_int_equal(units_field(), BYTE(13));
}

static uint32_t writers;

static void write_in_between(const struct host_request *request)
{
    if (request->op == HOST_COMPARE_WRITE && writers > 0) {
        writers--;
        units.bytes[THIN][request->offset_bytes] ^= 0x40;
    }
}

static void orwrite_loses_no_write_in_between(void **state)
{
    memset(units.bytes[THIN], 0x11, UNIT_BYTES);
    assert_int_equal(move(THIN, 0x8B, 1, 600, 0, 600 * 512), SCSI_GOOD);
    for (uint32_t i = 0; i < 600 * 512; i++)
        assert_int_equal(units.bytes[THIN][512 + i], out[i] | 0x11);
    assert_int_equal(units.requests, 6); /* three pieces, read and written */
    memset(units.bytes[THIN], 0x10, 512);
    memset(out, 0x01, 512);
    units.before = write_in_between;
    writers = 3;
    assert_int_equal(move(THIN, 0x8B, 0, 1, 0x08, 512), SCSI_GOOD);
    assert_int_equal(units.bytes[THIN][0], 0x51);
    assert_int_equal(units.bytes[THIN][1], 0x11);
    assert_int_equal(units.log[units.requests - 1].flags, HOST_VERSIONED | HOST_FUA);
    writers = 100000;
    assert_int_equal(move(THIN, 0x8B, 0, 1, 0, 512), SCSI_STATUS_BUSY);
}

static void read_only_and_write_protected_units_are_not_written(void **state)
{
    static const uint8_t opcodes[] = {0x0A, 0x2A, 0xAA, 0x8A, 0x2E, 0xAE,
                                      0x8E, 0x8B, 0x89, 0x41, 0x93, 0x42};

    units.scsi->units[THIN].record.mode.software_protected = true;
    for (uint32_t i = 0; i < ARRAY_LENGTH(opcodes); i++) {
        for (int lun = 0; lun < UNITS; lun++) {
            if (lun != THIN && lun != READ_ONLY)
                continue;
            move(lun, opcodes[i], 0, 1, 0, 512);
            assert_int_equal(units_sense(), WRITE_PROTECTED);
            assert_int_equal(units.requests, 0);
        }
    }
    assert_int_equal(move(READ_ONLY, 0x28, 0, 1, 0, 0), SCSI_GOOD);
    assert_int_equal(move(READ_ONLY, 0x35, 0, 0, 0, 0), SCSI_GOOD);
}

static void a_copy_is_read_and_not_written_until_it_is_none(void **state)
{
    static const uint8_t mode_sense[16] = {0x1A, 0, 0x0A, 0, 64};

    scsi_on_copy(units.scsi, THIN, true);
    scsi_on_copy(units.scsi, THIN, true);
    assert_int_equal(move(THIN, 0x28, 0, 1, 0, 0), SCSI_CHECK_CONDITION);
    assert_int_equal(units_sense(), 0x62A01); /* MODE PARAMETERS CHANGED, once */
    assert_int_equal(move(THIN, 0x28, 0, 1, 0, 0), SCSI_GOOD);
    move(THIN, 0x2A, 0, 1, 0, 512);
    assert_int_equal(units_sense(), WRITE_PROTECTED);
    assert_int_equal(units.requests, 0);
    assert_int_equal(units_send(THIN, mode_sense, 16, NULL, 0), SCSI_GOOD);
    assert_int_equal(units.in[2] & 0x80, 0x80);
    scsi_on_copy(units.scsi, THIN, false);
    move(THIN, 0x2A, 0, 1, 0, 512);
    assert_int_equal(units_sense(), 0x62A01);
    assert_int_equal(move(THIN, 0x2A, 0, 1, 0, 512), SCSI_GOOD);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_is_written_is_read),
        TEST(nothing_lies_past_the_end),
        TEST(six_bytes_name_256_blocks_by_zero),
        TEST(a_transfer_has_a_longest_length),
        TEST(protection_information_is_refused),
        TEST(force_unit_access),
        TEST(no_more_is_moved_than_expected),
        TEST(results_of_the_core_have_their_answers),
        TEST(a_changed_record_is_looked_at_again),
        TEST(a_reservation_that_comes_in_between_counts),
        TEST(flushes),
        TEST(prefetch_reads_and_gives_nothing),
        TEST(verify_compares),
        TEST(write_and_verify_reads_back),
        TEST(compare_and_write_is_one_request),
        TEST(orwrite_loses_no_write_in_between),
        TEST(read_only_and_write_protected_units_are_not_written),
        TEST(a_copy_is_read_and_not_written_until_it_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
