/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What a unit says of itself: INQUIRY and its pages, REPORT LUNS, capacity, mode pages, the lists
 * of commands and functions, REQUEST SENSE, buffers. What names the unit must be the same through
 * both controllers. */

#include "memory_units.h"
#include "scsi/command.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static int setup(void **state)
{
    units_create();
    return 0;
}

static int teardown(void **state)
{
    units_destroy();
    return 0;
}

static void page(uint8_t lun, uint8_t code)
{
    assert_int_equal(SEND(lun, 0x12, 1, code, 4, 0, 0), SCSI_GOOD);
    assert_int_equal(units.in[0], 0);
    assert_int_equal(units.in[1], code);
    assert_int_equal(units.task.in_bytes, get_u16(units.in + 2) + 4);
}

/* ---- INQUIRY ---- */

static void standard_data(void **state)
{
    assert_int_equal(SEND(THIN, 0x12, 0, 0, 0, 255, 0), SCSI_GOOD);
    assert_int_equal(units.task.in_bytes, 96);
    assert_int_equal(units.in[4], 91);
    assert_int_equal(units.in[2], 6);
    assert_int_equal(units.in[3] & 0x0F, 2);
    assert_int_equal(units.in[5] & 0x30, 0x30); /* TPGS */
    assert_memory_equal(units.in + 8, "HOLDFASTVOLUME          ", 24);
    for (uint16_t allocation = 0; allocation < 300; allocation++) {
        SEND(THIN, 0x12, 0, 0, (uint8_t)(allocation >> 8), (uint8_t)allocation, 0);
        assert_int_equal(units.task.in_bytes, min_u32(allocation, 96));
        assert_int_equal(units.task.transfer_bytes, min_u32(allocation, 96));
    }
    units.in_expected = 5;
    assert_int_equal(SEND(THIN, 0x12, 0, 0, 0, 255, 0), SCSI_GOOD);
    assert_int_equal(units.task.in_bytes, 5);
    assert_int_equal(units.task.transfer_bytes, 96);
}

static void inquiry_refuses(void **state)
{
    SEND(THIN, 0x12, 0, 0x80, 0, 255, 0);
    assert_int_equal(units_sense(), INVALID_CDB);
    assert_int_equal(units_field(), BYTE(2));
    SEND(THIN, 0x12, 1, 0xB5, 0, 255, 0);
    assert_int_equal(units_field(), BYTE(2));
    SEND(THIN, 0x12, 2, 0, 0, 255, 0);
    assert_int_equal(units_field(), FIELD(1, 1));
    assert_int_equal(SEND(9, 0x12, 0, 0, 0, 255, 0), SCSI_GOOD); /* no such LUN */
    assert_int_equal(units.in[0], 0x7F);
    SEND(9, 0x12, 1, 0, 0, 255, 0);
    assert_int_equal(units_sense(), INVALID_CDB);
}

static void every_listed_page_is_there(void **state)
{
    uint8_t codes[32];
    uint32_t count;

    page(THIN, 0x00);
    count = get_u16(units.in + 2);
    memcpy(codes, units.in + 4, count);
    assert_memory_equal(codes, ((uint8_t[]){0, 0x80, 0x83, 0x86, 0xB0, 0xB1, 0xB2}), 7);
    assert_int_equal(count, 7);
    for (uint32_t i = 0; i < count; i++)
        for (int lun = 0; lun < UNITS; lun++)
            page((uint8_t)lun, codes[i]);
}

/* The designator of an association and type, or NULL. */
static const uint8_t *designator(const uint8_t *from, uint32_t length, uint8_t place,
                                 uint32_t *size)
{
    for (uint32_t at = 4; at + 4 <= length; at += 4 + from[at + 3])
        if ((from[at + 1] & 0x3F) == place) {
            *size = from[at + 3];
            return from + at + 4;
        }
    return NULL;
}

static void both_controllers_name_a_unit_alike(void **state)
{
    static struct scsi_config config;
    uint8_t first[1024], serial[64];
    uint32_t first_bytes, size, other_size;
    struct scsi_lun_map map = {THIN, THIN, false};
    struct scsi *own = units.scsi, *peer;
    struct scsi_nexus *own_nexus = units.nexus[0];

    page(THIN, 0x83);
    first_bytes = units.task.in_bytes;
    memcpy(first, units.in, first_bytes);
    page(THIN, 0x80);
    memcpy(serial, units.in, 36);

    units_config(&config);
    config.self = 1;
    size_t bytes = (scsi_memory_size(&config) + 63) / 64 * 64;
    void *memory = aligned_alloc(64, bytes);
    memset(memory, 0, bytes);
    peer = scsi_create(&config, memory, bytes);
    units.scsi = peer;
    units.nexus[0] = scsi_nexus_open(peer, "iqn.1:h0,i,0x000000000000", &map, 1);
    page(THIN, 0x80);
    assert_memory_equal(serial, units.in, 36);
    page(THIN, 0x83);
    static const uint8_t of_unit[] = {0x03, 0x01, 0x28};
    for (uint32_t i = 0; i < ARRAY_LENGTH(of_unit); i++) {
        const uint8_t *one = designator(first, first_bytes, of_unit[i], &size);
        const uint8_t *other = designator(units.in, units.task.in_bytes, of_unit[i], &other_size);
        assert_non_null(one);
        assert_int_equal(size, other_size);
        assert_memory_equal(one, other, size);
    }
    static const uint8_t of_port[] = {0x14, 0x15, 0x18};
    for (uint32_t i = 0; i < ARRAY_LENGTH(of_port); i++) {
        const uint8_t *one = designator(first, first_bytes, of_port[i], &size);
        const uint8_t *other = designator(units.in, units.task.in_bytes, of_port[i], &other_size);
        assert_non_null(one);
        assert_memory_not_equal(one, other, size);
    }
    assert_int_equal(designator(first, first_bytes, 0x14, &size)[3], SCSI_PORT_A);
    assert_int_equal(designator(units.in, units.task.in_bytes, 0x15, &size)[3], SCSI_PORT_B);
    assert_string_equal((const char *)designator(first, first_bytes, 0x18, &size),
                        "iqn.2026-11.holdfast:array,t,0x0001");
    assert_int_equal(size % 4, 0);
    free(memory);
    units.scsi = own;
    units.nexus[0] = own_nexus;
}

/* Hosts know their disks by these: they must never change. */
static void identifiers_are_fixed_for_ever(void **state)
{
    static const uint8_t expected[16] = {0x60, 0x24, 0x84, 0x6C, 0x73, 0x3F, 0x36, 0xF9,
                                         0x4D, 0x00, 0x50, 0xCC, 0x53, 0xC0, 0xF6, 0x8E};
    uint8_t naa[16], other[16];

    scsi_identity_naa("array", "thin", naa);
    assert_memory_equal(naa, expected, 16);
    scsi_identity_naa("arrayt", "hin", other);
    assert_memory_not_equal(naa, other, 16);
    scsi_identity_naa("array", "thim", other);
    assert_memory_not_equal(naa, other, 16);
}

static void limits_are_those_that_hold(void **state)
{
    page(THIN, 0xB0);
    assert_int_equal(units.task.in_bytes, 64);
    assert_int_equal(units.in[4], 1);
    assert_int_equal(units.in[5], 255);
    assert_int_equal(get_u16(units.in + 6), 8);
    assert_int_equal(get_u32(units.in + 8), TRANSFER_BYTES / 512);
    assert_int_equal(get_u32(units.in + 20), RANGE_BYTES / 512);
    assert_int_equal(get_u32(units.in + 24), 256);
    assert_int_equal(get_u32(units.in + 28), 8);
    assert_true(get_u64(units.in + 36) == TRANSFER_BYTES / 512);
    page(BIG, 0xB0);
    assert_int_equal(units.in[5], 32);
    assert_int_equal(get_u16(units.in + 6), 1);
    assert_int_equal(get_u32(units.in + 8), TRANSFER_BYTES / 4096);
    page(THICK, 0xB0);
    assert_int_equal(get_u32(units.in + 20), 0);
    assert_int_equal(get_u32(units.in + 24), 0);
    page(THIN, 0xB2);
    assert_int_equal(units.in[5], 0xE4);
    assert_int_equal(units.in[6], 2);
    page(THICK, 0xB2);
    assert_int_equal(units.in[5], 0);
    page(THIN, 0x86);
    assert_int_equal(units.in[5], 0x07);
    page(THIN, 0xB1);
    assert_int_equal(get_u16(units.in + 4), 1);
}

/* ---- REPORT LUNS, READ CAPACITY, READ DEFECT DATA ---- */

static void luns_are_those_of_the_nexus(void **state)
{
    struct scsi_lun_map luns[] = {{200, THIN, false}, {7, BIG, false}};

    assert_int_equal(SEND(0, 0xA0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0), SCSI_GOOD);
    assert_int_equal(get_u32(units.in), 32);
    assert_int_equal(units.task.in_bytes, 40);
    scsi_nexus_close(units.scsi, units.nexus[1]);
    units.nexus[1] = scsi_nexus_open(units.scsi, "iqn.1:other,i,0x1", luns, 2);
    units.nexus_used = 1;
    /* LUN 0 is none of this host's, and still answers. */
    assert_int_equal(SEND(0, 0xA0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0), SCSI_GOOD);
    assert_int_equal(units.task.in_bytes, 24);
    assert_true(get_u64(units.in + 8) == UINT64_C(7) << 48);
    assert_true(get_u64(units.in + 16) == UINT64_C(200) << 48);
    assert_int_equal(SEND(7, 0xA0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0), SCSI_GOOD);
    assert_int_equal(units.task.in_bytes, 8);
    SEND(7, 0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0);
    assert_int_equal(units.task.in_bytes, 20);
    SEND(7, 0xA0, 0, 3, 0, 0, 0, 0, 0, 1, 0, 0, 0);
    assert_int_equal(units_field(), BYTE(2));
}

static void capacity(void **state)
{
    assert_int_equal(SEND(THIN, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0), SCSI_GOOD);
    assert_int_equal(get_u32(units.in), UNIT_BYTES / 512 - 1);
    assert_int_equal(get_u32(units.in + 4), 512);
    SEND(THIN, 0x25, 0, 0, 0, 0, 1, 0, 0, 0, 0);
    assert_int_equal(units_field(), BYTE(2));
    assert_int_equal(SEND(THIN, 0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0), SCSI_GOOD);
    assert_true(get_u64(units.in) == UNIT_BYTES / 512 - 1);
    assert_int_equal(units.in[13], 3);
    assert_int_equal(units.in[14], 0xC0);
    SEND(BIG, 0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0);
    assert_int_equal(get_u32(units.in + 8), 4096);
    assert_int_equal(units.in[13], 0);
    SEND(THICK, 0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0);
    assert_int_equal(units.in[14], 0);
    units.scsi->units[THIN].block_count = UINT64_C(1) << 33;
    SEND(THIN, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    assert_int_equal(get_u32(units.in), UINT32_MAX);
    SEND(THIN, 0x9E, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0);
    assert_int_equal(units_sense(), INVALID_CDB);
    assert_int_equal(units_field(), FIELD(1, 4));
}

static void no_block_is_defective(void **state)
{
    assert_int_equal(SEND(THIN, 0x37, 0, 0x1D, 0, 0, 0, 0, 0, 255, 0), SCSI_GOOD);
    assert_int_equal(units.task.in_bytes, 4);
    assert_memory_equal(units.in, ((uint8_t[]){0, 0x1D, 0, 0}), 4);
    assert_int_equal(SEND(THIN, 0xB7, 0x08, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0), SCSI_GOOD);
    assert_memory_equal(units.in, ((uint8_t[]){0, 0x08, 0, 0, 0, 0, 0, 0}), 8);
}

/* ---- what is supported ---- */

static void every_command_reports_itself(void **state)
{
    uint32_t at = 4, rows = 0;
    static uint8_t list[8192];
    uint32_t length;

    assert_int_equal(SEND(THIN, 0xA3, 0x0C, 0x80, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0), SCSI_GOOD);
    length = units.task.in_bytes;
    assert_int_equal(get_u32(units.in), length - 4);
    memcpy(list, units.in, length);
    for (; at < length; at += 20, rows++) {
        bool action = (list[at + 5] & 1) != 0;
        assert_true(list[at + 5] & 2);
        assert_int_equal(get_u16(list + at + 8), 10);
        assert_int_equal(SEND(THIN, 0xA3, 0x0C, action ? 2 : 1, list[at], list[at + 2],
                              list[at + 3], 0, 0, 1, 0, 0, 0),
                         SCSI_GOOD);
        assert_int_equal(units.in[1], 3);
        assert_int_equal(get_u16(units.in + 2), get_u16(list + at + 6));
        assert_int_equal(units.in[4], list[at]);
        SEND(THIN, 0xA3, 0x0C, action ? 1 : 2, list[at], 0, 0, 0, 0, 1, 0, 0, 0);
        assert_int_equal(units_field(), FIELD(2, 2));
    }
    assert_int_equal(rows, command_count);
    /* Where nothing can be discarded there is no UNMAP. */
    SEND(THICK, 0xA3, 0x0C, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0);
    assert_int_equal(units.task.in_bytes, 4 + 8 * (command_count - 1));
    SEND(THICK, 0xA3, 0x0C, 1, 0x42, 0, 0, 0, 0, 1, 0, 0, 0);
    assert_int_equal(units.in[1], 1);
    SEND(THIN, 0xA3, 0x0C, 1, 0xC0, 0, 0, 0, 0, 1, 0, 0, 0);
    assert_int_equal(units.in[1], 1);
    SEND(THIN, 0xA3, 0x0C, 2, 0x9E, 1, 0x10, 0, 0, 1, 0, 0, 0); /* 16 bits of service action */
    assert_int_equal(units.in[1], 1);
    SEND(THIN, 0xA3, 0x0C, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0);
    assert_int_equal(units_field(), FIELD(2, 2));
}

/* The index finds a row only because its neighbours have its operation code. */
static void the_table_is_sorted(void **state)
{
    for (uint32_t i = 1; i < command_count; i++) {
        const struct scsi_command *a = &commands[i - 1], *b = &commands[i];
        assert_true(a->opcode < b->opcode ||
                    (a->opcode == b->opcode && a->service_action < b->service_action));
        assert_int_equal(b->usage[0], b->opcode);
        assert_int_equal(b->usage[b->cdb_bytes - 1], 0x04);
        assert_true(b->run != NULL || b->io_done != NULL || b->begin != NULL);
    }
}

static void unknown_commands_are_refused(void **state)
{
    for (uint32_t opcode = 0; opcode < 256; opcode++) {
        bool known = false;
        for (uint32_t i = 0; i < command_count; i++)
            known |= commands[i].opcode == opcode;
        if (known)
            continue;
        SEND(THIN, (uint8_t)opcode, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
        assert_int_equal(units_sense(), INVALID_OPCODE);
        assert_int_equal(units_field(), BYTE(0));
        SEND(9, (uint8_t)opcode, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
        assert_int_equal(units_sense(), NO_LUN);
    }
}

static void task_management_functions(void **state)
{
    assert_int_equal(SEND(THIN, 0xA3, 0x0D, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0), SCSI_GOOD);
    assert_int_equal(units.task.in_bytes, 4);
    assert_int_equal(units.in[0], 0xDA);
    SEND(THIN, 0xA3, 0x0D, 0x80, 0, 0, 0, 0, 0, 0, 255, 0, 0);
    assert_int_equal(units.task.in_bytes, 16);
    assert_int_equal(units.in[3], 12);
}

/* ---- MODE SENSE, MODE SELECT ---- */

static void mode_pages_are_told(void **state)
{
    assert_int_equal(SEND(THIN, 0x1A, 0, 0x3F, 0, 255, 0), SCSI_GOOD);
    assert_int_equal(units.task.in_bytes, 4 + 8 + 20 + 12);
    assert_int_equal(units.in[0], 43);
    assert_int_equal(units.in[2], 0x10);
    assert_int_equal(units.in[3], 8);
    assert_int_equal(get_u32(units.in + 4), UNIT_BYTES / 512);
    assert_int_equal(get_u24(units.in + 9), 512);
    assert_int_equal(units.in[12], 0x08);
    assert_int_equal(units.in[14], 0x04); /* WCE */
    assert_int_equal(units.in[32], 0x0A);
    SEND(READ_ONLY, 0x1A, 0x08, 0x0A, 0, 255, 0);
    assert_int_equal(units.task.in_bytes, 16);
    assert_int_equal(units.in[2], 0x90);     /* WP */
    SEND(THIN, 0x1A, 0x08, 0x48, 0, 255, 0); /* changeable */
    assert_int_equal(units.in[6], 0x04);
    SEND(THIN, 0x1A, 0x08, 0x4A, 0, 255, 0);
    assert_memory_equal(units.in + 4,
                        ((uint8_t[]){0x0A, 10, 0x04, 0, 0x08, 0x40, 0, 0, 0, 0, 0, 0}), 12);
    SEND(THIN, 0x1A, 0x08, 0xC8, 0, 255, 0);
    assert_int_equal(units_sense(), 0x53900);
    SEND(THIN, 0x1A, 0x08, 0x1C, 0, 255, 0);
    assert_int_equal(units_field(), FIELD(2, 5));
    SEND(THIN, 0x1A, 0x08, 0x0A, 1, 255, 0);
    assert_int_equal(units_field(), BYTE(3));
    assert_int_equal(SEND(BIG, 0x5A, 0x10, 0x3F, 0, 0, 0, 0, 0, 255, 0), SCSI_GOOD);
    assert_int_equal(units.task.in_bytes, 8 + 16 + 32);
    assert_int_equal(get_u16(units.in), 54);
    assert_int_equal(units.in[4], 1);
    assert_true(get_u64(units.in + 8) == UNIT_BYTES / 4096);
    assert_int_equal(get_u32(units.in + 20), 4096);
    SEND(THIN, 0x5A, 0, 0x08, 0, 0, 0, 0, 0, 9, 0);
    assert_int_equal(units.task.in_bytes, 9);
}

/* The control page as it is, with the given bits of bytes 2, 4 and 5. */
static uint8_t select_control(uint8_t d_sense, uint8_t swp, uint8_t tas)
{
    uint8_t list[16] = {0, 0, 0, 0, 0x0A, 10, 0x22, 0x10, 0, 0, 0, 0, 0xFF, 0xFF};

    list[6] |= d_sense;
    list[8] |= swp;
    list[9] |= tas;
    return SEND_OUT(THIN, list, 16, 0x15, 0x10, 0, 0, 16, 0);
}

static void modes_are_kept_in_the_record(void **state)
{
    const struct record_mode *mode = &units.scsi->units[THIN].record.mode;
    uint8_t caching[24] = {0, 0, 0, 0, 0x08, 18};

    assert_int_equal(select_control(0, 0, 0x40), SCSI_GOOD);
    assert_int_equal(units.requests, 1);
    assert_int_equal(units.log[0].op, HOST_STATE);
    assert_true(mode->task_aborted_status);
    /* Only the other nexus hears of it. */
    assert_int_equal(SEND(THIN, 0, 0, 0, 0, 0, 0), SCSI_GOOD);
    units.nexus_used = 1;
    SEND(THIN, 0, 0, 0, 0, 0, 0);
    assert_int_equal(units_sense(), 0x62A01);
    assert_int_equal(SEND(THIN, 0, 0, 0, 0, 0, 0), SCSI_GOOD);
    units.nexus_used = 0;
    assert_int_equal(select_control(0, 0, 0x40), SCSI_GOOD); /* the same again changes nothing */
    assert_int_equal(units.requests, 0);
    assert_int_equal(SEND_OUT(THIN, caching, 24, 0x15, 0x10, 0, 0, 24, 0), SCSI_GOOD);
    assert_true(mode->write_cache_disabled);
    SEND(THIN, 0x1A, 0x08, 0x08, 0, 255, 0);
    assert_int_equal(units.in[6], 0);
    SEND(THIN, 0x1A, 0x08, 0x88, 0, 255, 0); /* default */
    assert_int_equal(units.in[6], 4);
    assert_int_equal(select_control(0, 0x08, 0), SCSI_GOOD);
    SEND(THIN, 0x1A, 0x08, 0x0A, 0, 255, 0);
    assert_int_equal(units.in[2] & 0x80, 0x80);
    assert_int_equal(units.in[8], 0x08);
    assert_int_equal(units.in[9], 0);
    /* A MODE SELECT is still possible, and sense data become descriptors. */
    assert_int_equal(select_control(0x04, 0, 0), SCSI_GOOD);
    SEND(THIN, 0x12, 0, 0x80, 0, 255, 0);
    assert_int_equal(units.task.sense[0], 0x72);
    assert_int_equal(units_sense(), INVALID_CDB);
    assert_int_equal(units.task.sense_bytes, 16);
    assert_memory_equal(units.task.sense + 7, ((uint8_t[]){8, 2, 6, 0, 0, 0xC0, 0, 2, 0}), 9);
}

static void a_wrong_mode_list_changes_nothing(void **state)
{
    static const struct {
        uint8_t bytes[24];
        uint8_t length;
        uint32_t sense;
        int field;
    } rows[] = {
        {{0, 0, 0, 0, 0x1C, 10}, 16, INVALID_LIST, LIST(FIELD(4, 5))},
        {{0, 0, 0, 0, 0x4A, 10}, 16, INVALID_LIST, LIST(FIELD(4, 6))},
        {{0, 0, 0, 0, 0x0A, 9}, 16, INVALID_LIST, LIST(BYTE(5))},
        {{0, 0, 0, 0, 0x0A, 10, 0x42, 0x10}, 16, INVALID_LIST, LIST(FIELD(6, 6))},
        {{0, 0, 0, 0, 0x0A, 10, 0x22, 0x10, 0, 0, 0, 0, 0xFF, 0xFE},
         16,
         INVALID_LIST,
         LIST(FIELD(13, 0))},
        {{0, 0, 0, 0, 0x08, 18, 0x05}, 24, INVALID_LIST, LIST(FIELD(6, 0))},
        {{0, 0, 0, 0, 0x0A, 10, 0x22, 0x10}, 15, LIST_LENGTH_ERROR, -1},
        {{0, 0, 0, 0, 0x0A}, 5, LIST_LENGTH_ERROR, -1},
        {{0}, 3, LIST_LENGTH_ERROR, -1},
        {{0, 0, 0, 8, 0, 0, 0x20, 0, 0, 0, 2}, 11, LIST_LENGTH_ERROR, -1},
        {{0, 0, 0, 8, 0, 0, 0x20, 0, 0, 0, 4, 0}, 12, INVALID_LIST, LIST(BYTE(9))},
        {{0, 0, 0, 8, 0, 0, 0x20, 1, 0, 0, 2, 0}, 12, INVALID_LIST, LIST(BYTE(4))},
        {{0, 0, 0, 7}, 12, INVALID_LIST, LIST(BYTE(3))},
    };

    for (uint32_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        SEND_OUT(THIN, rows[i].bytes, rows[i].length, 0x15, 0x10, 0, 0, rows[i].length, 0);
        assert_int_equal(units_sense(), rows[i].sense);
        assert_int_equal(units_field(), rows[i].field);
        assert_int_equal(units.requests, 0);
    }
    static const uint8_t repeats[12] = {0, 0, 0, 8, 0, 0, 0x20, 0, 0, 0, 2, 0};
    assert_int_equal(SEND_OUT(THIN, repeats, 12, 0x15, 0x10, 0, 0, 12, 0), SCSI_GOOD);
    SEND_OUT(THIN, repeats, 12, 0x15, 0, 0, 0, 12, 0);
    assert_int_equal(units_field(), FIELD(1, 4));
    SEND_OUT(THIN, repeats, 12, 0x55, 0x11, 0, 0, 0, 0, 0, 0, 12, 0);
    assert_int_equal(units_field(), FIELD(1, 0));
    SEND_OUT(THIN, repeats, 11, 0x15, 0x10, 0, 0, 12, 0); /* the initiator sends less */
    assert_int_equal(units_sense(), LIST_LENGTH_ERROR);
    assert_int_equal(SEND(THIN, 0x15, 0x10, 0, 0, 0, 0), SCSI_GOOD);
    uint8_t long_form[24] = {[4] = 1, [7] = 16, [14] = 0x20, [22] = 2};
    assert_int_equal(SEND_OUT(THIN, long_form, 24, 0x55, 0x10, 0, 0, 0, 0, 0, 0, 24, 0), SCSI_GOOD);
}

/* ---- START STOP UNIT ---- */

static void a_stopped_unit_moves_no_data(void **state)
{
    assert_int_equal(SEND(THIN, 0x1B, 0, 0, 0, 0x01, 0), SCSI_GOOD); /* it has not stopped */
    assert_int_equal(units.requests, 0);
    assert_int_equal(SEND(THIN, 0x1B, 0, 0, 0, 0, 0), SCSI_GOOD);
    assert_int_equal(units.requests, 2);
    assert_int_equal(units.log[0].op, HOST_FLUSH);
    assert_int_equal(units.log[1].op, HOST_STATE);
    SEND(THIN, 0, 0, 0, 0, 0, 0);
    assert_int_equal(units_sense(), 0x20402);
    SEND(THIN, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
    assert_int_equal(units_sense(), 0x20402);
    assert_int_equal(SEND(THIN, 0x12, 0, 0, 0, 96, 0), SCSI_GOOD);
    assert_int_equal(SEND(THIN, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0), SCSI_GOOD);
    assert_int_equal(SEND(THIN, 0x1B, 0, 0, 0, 0x01, 0), SCSI_GOOD);
    assert_int_equal(SEND(THIN, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0), SCSI_GOOD);
    assert_int_equal(SEND(THIN, 0x1B, 0, 0, 0, 0x04, 0), SCSI_GOOD); /* NO_FLUSH */
    assert_int_equal(units.requests, 1);
    SEND(THIN, 0x1B, 0, 0, 0, 0x10, 0);
    assert_int_equal(units_field(), FIELD(4, 7));
    SEND(THIN, 0x1B, 0, 0, 0, 0x02, 0);
    assert_int_equal(units_field(), FIELD(4, 1));
}

/* ---- REQUEST SENSE, buffers, diagnostics ---- */

static void request_sense_takes_an_attention(void **state)
{
    assert_int_equal(SEND(THIN, 3, 0, 0, 0, 255, 0), SCSI_GOOD);
    assert_int_equal(units.task.in_bytes, 18);
    assert_int_equal(units.in[2], 0);
    units.nexus[0]->luns[THIN].attentions =
        attention_bit(ATTENTION_MODE_CHANGED) | attention_bit(ATTENTION_POWER_ON);
    SEND(THIN, 3, 0, 0, 0, 255, 0);
    assert_memory_equal(units.in, ((uint8_t[]){0x70, 0, 6}), 3);
    assert_memory_equal(units.in + 12, ((uint8_t[]){0x29, 0}), 2);
    SEND(THIN, 3, 1, 0, 0, 255, 0);
    assert_int_equal(units.task.in_bytes, 8);
    assert_memory_equal(units.in, ((uint8_t[]){0x72, 6, 0x2A, 1}), 4);
    SEND(THIN, 3, 0, 0, 0, 255, 0);
    assert_int_equal(units.in[2], 0);
    assert_int_equal(SEND(9, 3, 0, 0, 0, 255, 0), SCSI_GOOD);
    assert_int_equal(units.in[2], 5);
    assert_int_equal(units.in[12], 0x25);
    SEND(THIN, 3, 0, 0, 0, 4, 0);
    assert_int_equal(units.task.in_bytes, 4);
}

static void buffers_give_back_what_was_written(void **state)
{
    uint8_t data[4096];

    for (uint32_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 3);
    assert_int_equal(SEND_OUT(THIN, data, 4096, 0x3B, 2, 0, 0, 0, 0, 0, 0x10, 0, 0), SCSI_GOOD);
    assert_int_equal(SEND(THIN, 0x3C, 2, 0, 0, 0, 4, 0, 0x10, 0, 0), SCSI_GOOD);
    assert_int_equal(units.task.in_bytes, 4092);
    assert_memory_equal(units.in, data + 4, 4092);
    SEND_OUT(THIN, data, 8, 0x3B, 2, 0, 0, 0x0F, 0xFC, 0, 0, 8, 0); /* past the end */
    assert_int_equal(units_field(), BYTE(6));
    SEND_OUT(THIN, data, 8, 0x3B, 2, 1, 0, 0, 0, 0, 0, 8, 0);
    assert_int_equal(units_field(), BYTE(2));
    SEND(THIN, 0x3C, 2, 0, 0, 0x10, 4, 0, 0, 8, 0);
    assert_int_equal(units_field(), BYTE(3));
    assert_int_equal(SEND(THIN, 0x3C, 3, 0, 0, 0, 0, 0, 0, 4, 0), SCSI_GOOD);
    assert_memory_equal(units.in, ((uint8_t[]){2, 0, 0x10, 0}), 4);
    /* Echo: nothing, mine, another's. */
    SEND(THIN, 0x3C, 0x0A, 0, 0, 0, 0, 0, 0, 8, 0);
    assert_int_equal(units_sense(), 0x52C00);
    assert_int_equal(SEND_OUT(THIN, data, 100, 0x3B, 0x0A, 0, 0, 0, 0, 0, 0, 100, 0), SCSI_GOOD);
    assert_int_equal(SEND(THIN, 0x3C, 0x0A, 0, 0, 0, 0, 0, 1, 0, 0), SCSI_GOOD);
    assert_int_equal(units.task.in_bytes, 100);
    assert_memory_equal(units.in, data, 100);
    units.nexus_used = 1;
    SEND(THIN, 0x3C, 0x0A, 0, 0, 0, 0, 0, 0, 8, 0);
    assert_int_equal(units_sense(), 0xB3F0F);
    assert_int_equal(SEND(THIN, 0x3C, 0x0B, 0, 0, 0, 0, 0, 0, 4, 0), SCSI_GOOD);
    assert_memory_equal(units.in, ((uint8_t[]){1, 0, 0x10, 0}), 4);
    /* Nothing that would load a program. */
    for (uint8_t mode = 0; mode < 32; mode++) {
        if (mode == 2 || mode == 0x0A)
            continue;
        SEND_OUT(THIN, data, 8, 0x3B, mode, 0, 0, 0, 0, 0, 0, 8, 0);
        assert_int_equal(units_sense(), INVALID_CDB);
        assert_int_equal(units_field(), FIELD(1, 4));
    }
    SEND(THIN, 0x3C, 0, 0, 0, 0, 0, 0, 0, 8, 0);
    assert_int_equal(units_field(), FIELD(1, 4));
}

static void the_default_self_test_passes(void **state)
{
    assert_int_equal(SEND(THIN, 0x1D, 0x04, 0, 0, 0, 0), SCSI_GOOD);
    SEND(THIN, 0x1D, 0x20, 0, 0, 0, 0);
    assert_int_equal(units_field(), FIELD(1, 7));
    SEND(THIN, 0x1D, 0x10, 0, 0, 4, 0);
    assert_int_equal(units_field(), BYTE(3));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(standard_data),
        TEST(inquiry_refuses),
        TEST(every_listed_page_is_there),
        TEST(both_controllers_name_a_unit_alike),
        TEST(identifiers_are_fixed_for_ever),
        TEST(limits_are_those_that_hold),
        TEST(luns_are_those_of_the_nexus),
        TEST(capacity),
        TEST(no_block_is_defective),
        TEST(every_command_reports_itself),
        TEST(the_table_is_sorted),
        TEST(unknown_commands_are_refused),
        TEST(task_management_functions),
        TEST(mode_pages_are_told),
        TEST(modes_are_kept_in_the_record),
        TEST(a_wrong_mode_list_changes_nothing),
        TEST(a_stopped_unit_moves_no_data),
        TEST(request_sense_takes_an_attention),
        TEST(buffers_give_back_what_was_written),
        TEST(the_default_self_test_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
