/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Which command is let through by which reservation, for every row of the command table, every type
 * and everyone who may ask; and the RESERVE and RELEASE of SPC-2. What is expected is written down
 * here a second time, command by command, from SPC-4 table 64, SBC-3 table 13 and SPC-2 table 10.
 */

#include "shared_record.h"

#include "scsi/command.h"

/* What somebody may do against whom the reservation works. */
enum through {
    ALWAYS,  /* allowed through write exclusive and exclusive access */
    READING, /* allowed through write exclusive */
    NEVER,
    OWN, /* judged by the command itself: tests of its own */
};

static const struct {
    uint8_t opcode;
    int action; /* -1: has none */
    enum through persistent;
    bool spc2; /* allowed though another has reserved by RESERVE(6)/(10) */
} rows[] = {
    {0x00, -1, ALWAYS, false}, /* TEST UNIT READY */
    {0x03, -1, ALWAYS, true},  /* REQUEST SENSE */
    {0x08, -1, READING, false},
    {0x0A, -1, NEVER, false},
    {0x12, -1, ALWAYS, true}, /* INQUIRY */
    {0x15, -1, NEVER, false}, /* MODE SELECT */
    {0x16, -1, OWN, true},    /* RESERVE */
    {0x17, -1, OWN, true},    /* RELEASE */
    {0x1A, -1, READING, false},
    {0x1B, -1, OWN, false},    /* START STOP UNIT: starting is allowed, stopping is not */
    {0x1D, -1, NEVER, false},  /* SEND DIAGNOSTIC */
    {0x25, -1, ALWAYS, false}, /* READ CAPACITY */
    {0x28, -1, READING, false},
    {0x2A, -1, NEVER, false},
    {0x2E, -1, NEVER, false},
    {0x2F, -1, READING, false}, /* VERIFY */
    {0x34, -1, READING, false}, /* PRE-FETCH */
    {0x35, -1, NEVER, false},   /* SYNCHRONIZE CACHE */
    {0x37, -1, READING, false},
    {0x3B, -1, NEVER, false},   /* WRITE BUFFER */
    {0x3C, -1, READING, false}, /* READ BUFFER */
    {0x41, -1, NEVER, false},
    {0x42, -1, NEVER, false}, /* UNMAP */
    {0x55, -1, NEVER, false},
    {0x56, -1, OWN, true},
    {0x57, -1, OWN, true},
    {0x5A, -1, READING, false},
    {0x5E, 0, ALWAYS, false}, /* PERSISTENT RESERVE IN */
    {0x5E, 1, ALWAYS, false},
    {0x5E, 2, ALWAYS, false},
    {0x5E, 3, ALWAYS, false},
    {0x5F, 0, OWN, false}, /* PERSISTENT RESERVE OUT */
    {0x5F, 1, OWN, false},
    {0x5F, 2, OWN, false},
    {0x5F, 3, OWN, false},
    {0x5F, 4, OWN, false},
    {0x5F, 5, OWN, false},
    {0x5F, 6, OWN, false},
    {0x5F, 7, OWN, false},
    {0x83, 0, NEVER, false}, /* EXTENDED COPY */
    {0x84, 0, NEVER, false}, /* RECEIVE COPY RESULTS */
    {0x84, 3, NEVER, false},
    {0x84, 4, NEVER, false},
    {0x88, -1, READING, false},
    {0x89, -1, NEVER, false}, /* COMPARE AND WRITE */
    {0x8A, -1, NEVER, false},
    {0x8B, -1, NEVER, false}, /* ORWRITE */
    {0x8E, -1, NEVER, false},
    {0x8F, -1, READING, false},
    {0x90, -1, READING, false},
    {0x91, -1, NEVER, false},
    {0x93, -1, NEVER, false},
    {0x9E, 0x10, ALWAYS, false},
    {0x9E, 0x12, READING, false}, /* GET LBA STATUS */
    {0xA0, -1, ALWAYS, true},     /* REPORT LUNS */
    {0xA3, 0x0A, ALWAYS, true},   /* REPORT TARGET PORT GROUPS */
    {0xA3, 0x0C, READING, false},
    {0xA3, 0x0D, READING, false},
    {0xA4, 0x0A, NEVER, false}, /* SET TARGET PORT GROUPS */
    {0xA8, -1, READING, false},
    {0xAA, -1, NEVER, false},
    {0xAE, -1, NEVER, false},
    {0xAF, -1, READING, false},
    {0xB7, -1, READING, false},
};

static void every_command_of_the_table_stands_here(void **state)
{
    for (uint32_t i = 0; i < command_count; i++) {
        int action = commands[i].has_service_action ? commands[i].service_action : -1;
        uint32_t found = 0;
        for (uint32_t j = 0; j < ARRAY_LENGTH(rows); j++)
            found += rows[j].opcode == commands[i].opcode && rows[j].action == action;
        if (found != 1)
            print_error("%s: %u rows\n", commands[i].name, found);
        assert_int_equal(found, 1);
    }
    assert_int_equal(ARRAY_LENGTH(rows), command_count);
}

/* Whether the command is refused for a reservation. Only its beginning counts. */
static bool refused(enum host host, uint32_t row)
{
    struct scsi_task begun = {0};
    enum scsi_step step;

    begun.nexus = shared.nexus[host];
    begun.cdb[0] = rows[row].opcode;
    begun.cdb[1] = rows[row].action >= 0 ? (uint8_t)rows[row].action : 0;
    begun.cdb_bytes = SCSI_CDB_BYTES;
    begun.attribute = SCSI_SIMPLE;
    begun.expected_in_bytes = 512;
    begun.expected_out_bytes = 512;
    step = scsi_task_begin(shared.side[host_side(host)], &begun);
    if (step == SCSI_DONE && begun.status == SCSI_CHECK_CONDITION)
        assert_int_not_equal(begun.sense[2] & 15, 6);
    return step == SCSI_DONE && begun.status == SCSI_RESERVATION_CONFLICT;
}

static bool lets_through(uint8_t type, enum through through)
{
    bool write_exclusive = type == WE || type == WERO || type == WEAR;

    return through == ALWAYS || (through == READING && write_exclusive);
}

static void each_command_meets_each_reservation(void **state)
{
    /* Who holds; a registered one and others at both controllers. */
    for (int side = 0; side < 2; side++) {
        enum host holder = side == 0 ? A1 : B1;
        enum host members[2] = {side == 0 ? B1 : A1, A2};
        enum host others[2] = {A3, B4};
        enroll(holder);
        for (int i = 0; i < 2; i++)
            enroll(members[i]);
        for (uint32_t t = 0; t < ARRAY_LENGTH(TYPES); t++) {
            uint8_t type = TYPES[t];
            reserve(holder, type);
            for (uint32_t row = 0; row < ARRAY_LENGTH(rows); row++) {
                bool through = lets_through(type, rows[row].persistent);
                if (rows[row].persistent == OWN)
                    continue;
                assert_false(refused(holder, row));
                for (int i = 0; i < 2; i++) {
                    if (refused(members[i], row) != !(type >= WERO || through) ||
                        refused(others[i], row) != !through)
                        print_error("opcode %02x, type %u\n", rows[row].opcode, type);
                    assert_int_equal(refused(members[i], row), !(type >= WERO || through));
                    assert_int_equal(refused(others[i], row), !through);
                }
            }
            assert_int_equal(pr_out(holder, RELEASE, type, key_of(holder), 0, 0), SCSI_GOOD);
            clear_attentions();
            for (uint32_t row = 0; row < ARRAY_LENGTH(rows); row++)
                if (rows[row].persistent != OWN)
                    assert_false(refused(B4, row));
        }
        assert_int_equal(pr_out(holder, CLEAR, 0, key_of(holder), 0, 0), SCSI_GOOD);
        clear_attentions();
    }
}

static uint8_t spc2(enum host host, uint8_t opcode)
{
    return send_in(host, (const uint8_t[10]){opcode}, opcode < 0x20 ? 6 : 10);
}

static void each_command_meets_an_spc2_reservation(void **state)
{
    for (int i = 0; i < 4; i++) {
        enum host holder = i % 2 == 0 ? A1 : B1;
        enum host others[3] = {A2, B4, holder == A1 ? B1 : A1};
        assert_int_equal(spc2(holder, i < 2 ? 0x16 : 0x56), SCSI_GOOD);
        for (uint32_t row = 0; row < ARRAY_LENGTH(rows); row++) {
            if (rows[row].persistent == OWN || rows[row].opcode == 0x5E)
                continue;
            assert_false(refused(holder, row));
            for (int j = 0; j < 3; j++)
                assert_int_equal(refused(others[j], row), !rows[row].spc2);
        }
        assert_int_equal(spc2(holder, i < 2 ? 0x17 : 0x57), SCSI_GOOD);
        for (uint32_t row = 0; row < ARRAY_LENGTH(rows); row++)
            for (int j = 0; j < 3 && rows[row].persistent != OWN; j++)
                assert_false(refused(others[j], row));
        no_attention_but(0);
    }
}

static void starting_is_allowed_and_stopping_is_not(void **state)
{
    static const uint8_t start[6] = {0x1B, [4] = 1};
    static const uint8_t stop[6] = {0x1B};

    enroll(A1);
    for (uint32_t t = 0; t < ARRAY_LENGTH(TYPES); t++) {
        reserve(A1, TYPES[t]);
        assert_int_equal(send_in(B4, start, 6), SCSI_GOOD);
        assert_int_equal(send_in(B4, stop, 6), SCSI_RESERVATION_CONFLICT);
        assert_int_equal(send_in(A1, stop, 6), SCSI_GOOD);
        assert_int_equal(send_in(B4, start, 6), SCSI_GOOD);
        assert_int_equal(pr_out(A1, RELEASE, TYPES[t], key_of(A1), 0, 0), SCSI_GOOD);
    }
    assert_int_equal(pr_out(A1, CLEAR, 0, key_of(A1), 0, 0), SCSI_GOOD);
    assert_int_equal(spc2(A1, 0x16), SCSI_GOOD);
    assert_int_equal(send_in(B4, start, 6), SCSI_RESERVATION_CONFLICT);
}

/* A write that was judged before the reservation came is judged again by the core's word, and not
 * carried out. */
static void reserved_by_b1(void)
{
    assert_int_equal(pr_out(B1, RESERVE, WE, key_of(B1), 0, 0), SCSI_GOOD);
}

static void a_write_that_was_overtaken_by_a_reservation_is_refused(void **state)
{
    struct scsi_task write = {0};
    uint8_t data[512] = {0};
    enum scsi_step step;

    enroll(B1);
    write.nexus = shared.nexus[A2];
    memcpy(write.cdb, (const uint8_t[10]){0x2A, [8] = 1}, 10);
    write.cdb_bytes = 10;
    write.attribute = SCSI_SIMPLE;
    write.expected_out_bytes = 512;
    assert_int_equal(scsi_task_begin(shared.side[A], &write), SCSI_BUFFER);
    write.buffer = data;
    assert_int_equal(scsi_task_run(&write), SCSI_IO);
    assert_int_equal(write.request.flags & HOST_VERSIONED, HOST_VERSIONED);
    reserved_by_b1();
    assert_int_equal(carry_out(&write.request), HOST_STALE);
    step = scsi_task_io_done(&write, HOST_STALE, 0);
    assert_int_equal(step, SCSI_DONE);
    assert_int_equal(write.status, SCSI_RESERVATION_CONFLICT);
}

static void a_mode_select_that_was_overtaken_by_a_reservation_is_refused(void **state)
{
    static const uint8_t stop[6] = {0x1B, [4] = 4}; /* NO_FLUSH: only the record */
    static const uint8_t select[6] = {0x15, 0x10, [4] = 16};
    uint8_t list[16] = {0};

    enroll(B1);
    assert_int_equal(send_in(A2, (const uint8_t[6]){0x1A, 8, 0x0A, 0, 16}, 6), SCSI_GOOD);
    memcpy(list + 4, shared.buffer + 4, 12);
    list[4] &= 0x3F;
    list[6] ^= 4; /* D_SENSE */
    shared.before_change = reserved_by_b1;
    assert_int_equal(send_out(A2, select, 6, list, sizeof list), SCSI_RESERVATION_CONFLICT);
    assert_null(shared.before_change);
    assert_int_equal(pr_out(B1, RELEASE, WE, key_of(B1), 0, 0), SCSI_GOOD);
    shared.before_change = reserved_by_b1;
    assert_int_equal(send_in(A2, stop, 6), SCSI_RESERVATION_CONFLICT);
    assert_null(shared.before_change);
}

/* ---- RESERVE and RELEASE ---- */

static void an_spc2_reservation_has_one_holder(void **state)
{
    uint32_t changes;

    assert_int_equal(spc2(A1, 0x16), SCSI_GOOD);
    changes = shared.changes;
    assert_int_equal(spc2(A1, 0x16), SCSI_GOOD);
    assert_int_equal(spc2(A2, 0x16), SCSI_RESERVATION_CONFLICT);
    assert_int_equal(spc2(B1, 0x56), SCSI_RESERVATION_CONFLICT);
    /* Releasing what another holds: GOOD, and nothing happens. */
    assert_int_equal(spc2(A2, 0x17), SCSI_GOOD);
    assert_int_equal(spc2(B1, 0x57), SCSI_GOOD);
    assert_int_equal(shared.changes, changes);
    assert_int_equal(write_block(B4), SCSI_RESERVATION_CONFLICT);
    assert_int_equal(spc2(A1, 0x57), SCSI_GOOD);
    assert_int_equal(write_block(B4), SCSI_GOOD);
    assert_int_equal(spc2(B4, 0x16), SCSI_GOOD);
    assert_int_equal(write_block(A1), SCSI_RESERVATION_CONFLICT);
}

static void reserved_by_a2(void)
{
    assert_int_equal(spc2(A2, 0x16), SCSI_GOOD);
}

static void of_two_that_reserve_at_once_one_has_it(void **state)
{
    shared.before_change = reserved_by_a2;
    assert_int_equal(spc2(B1, 0x16), SCSI_RESERVATION_CONFLICT);
    assert_int_equal(write_block(A2), SCSI_GOOD);
    assert_int_equal(write_block(B1), SCSI_RESERVATION_CONFLICT);
}

static void what_an_spc2_reservation_no_longer_has_is_refused(void **state)
{
    static const struct {
        uint8_t opcode, bits;
        int pointer;
    } wrong[] = {
        {0x16, 0x10, 1 << 4 | 8 | 4}, {0x16, 0x01, 1 << 4 | 8 | 0}, {0x17, 0x10, 1 << 4 | 8 | 4},
        {0x17, 0x01, 1 << 4 | 8 | 0}, {0x56, 0x10, 1 << 4 | 8 | 4}, {0x56, 0x02, 1 << 4 | 8 | 1},
        {0x56, 0x01, 1 << 4 | 8 | 0}, {0x57, 0x10, 1 << 4 | 8 | 4}, {0x57, 0x02, 1 << 4 | 8 | 1},
    };

    for (uint32_t i = 0; i < ARRAY_LENGTH(wrong); i++) {
        uint8_t cdb[10] = {wrong[i].opcode, wrong[i].bits};
        (void)send_in(A1, cdb, wrong[i].opcode < 0x20 ? 6 : 10);
        assert_int_equal(sense(), INVALID_IN_CDB);
        assert_int_equal(field_pointer(), wrong[i].pointer);
    }
    assert_int_equal(shared.ios, 0);
}

static void persistent_reserve_is_refused_under_an_spc2_reservation(void **state)
{
    assert_int_equal(spc2(A1, 0x16), SCSI_GOOD);
    for (uint8_t action = 0; action < 4; action++) {
        assert_int_equal(pr_in(A1, action, 64), SCSI_RESERVATION_CONFLICT);
        assert_int_equal(pr_in(B4, action, 64), SCSI_RESERVATION_CONFLICT);
    }
    for (uint8_t action = REGISTER; action <= REGISTER_IGNORE; action++) {
        assert_int_equal(pr_out(A1, action, EA, 0, 5, 0), SCSI_RESERVATION_CONFLICT);
        assert_int_equal(pr_out(B4, action, EA, 0, 5, 0), SCSI_RESERVATION_CONFLICT);
    }
    assert_int_equal(shared.changes, 1);
}

/* SPC-4 5.13.3. */
static void with_registrations_reserve_does_nothing_for_those_who_have_access(void **state)
{
    static const uint8_t opcodes[] = {0x16, 0x17, 0x56, 0x57};
    uint32_t changes;

    enroll(A1);
    enroll(B1);
    for (uint32_t o = 0; o < ARRAY_LENGTH(opcodes); o++) {
        /* Nothing is reserved: registrations alone are enough for a conflict. */
        assert_int_equal(spc2(A1, opcodes[o]), SCSI_RESERVATION_CONFLICT);
        assert_int_equal(spc2(B4, opcodes[o]), SCSI_RESERVATION_CONFLICT);
    }
    for (uint32_t t = 0; t < ARRAY_LENGTH(TYPES); t++) {
        uint8_t type = TYPES[t];
        reserve(A1, type);
        changes = shared.changes;
        for (uint32_t o = 0; o < ARRAY_LENGTH(opcodes); o++) {
            assert_int_equal(spc2(A1, opcodes[o]), SCSI_GOOD);
            assert_int_equal(spc2(B1, opcodes[o]),
                             type >= WERO ? SCSI_GOOD : SCSI_RESERVATION_CONFLICT);
            assert_int_equal(spc2(B4, opcodes[o]), SCSI_RESERVATION_CONFLICT);
        }
        assert_int_equal(shared.changes, changes);
        reserved_as(type, type >= WEAR ? 0 : key_of(A1));
        assert_int_equal(pr_out(A1, RELEASE, type, key_of(A1), 0, 0), SCSI_GOOD);
        clear_attentions();
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, shared_setup, shared_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_command_of_the_table_stands_here),
        TEST(each_command_meets_each_reservation),
        TEST(each_command_meets_an_spc2_reservation),
        TEST(starting_is_allowed_and_stopping_is_not),
        TEST(a_write_that_was_overtaken_by_a_reservation_is_refused),
        TEST(a_mode_select_that_was_overtaken_by_a_reservation_is_refused),
        TEST(an_spc2_reservation_has_one_holder),
        TEST(of_two_that_reserve_at_once_one_has_it),
        TEST(what_an_spc2_reservation_no_longer_has_is_refused),
        TEST(persistent_reserve_is_refused_under_an_spc2_reservation),
        TEST(with_registrations_reserve_does_nothing_for_those_who_have_access),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
