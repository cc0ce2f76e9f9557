/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What comes before a command's own checks, and in which order (SAM-5 5.3.3); how LUNs are
 * addressed; what a configuration may say; every sense outcome in both formats. */

#include "memory_units.h"
#include "scsi/sense.h"

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

static uint8_t ready(void)
{
    return SEND(THIN, 0, 0, 0, 0, 0, 0);
}

static uint8_t read_one(void)
{
    return SEND(THIN, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
}

static void attend(enum attention attention)
{
    units.nexus[0]->luns[THIN].attentions |= attention_bit(attention);
}

static void reserve_by_other(void)
{
    units.nexus_used = 1;
    assert_int_equal(SEND(THIN, 0x16, 0, 0, 0, 0, 0), SCSI_GOOD);
    units.nexus_used = 0;
}

static void an_attention_is_told_once_in_order(void **state)
{
    for (int i = ATTENTION_COUNT - 1; i >= 0; i--)
        attend((enum attention)i);
    for (int i = 0; i < ATTENTION_COUNT; i++) {
        assert_int_equal(read_one(), SCSI_CHECK_CONDITION);
        assert_int_equal(units_sense(), 0x60000 | sense_of_attention((enum attention)i));
    }
    assert_int_equal(read_one(), SCSI_GOOD);
    /* INQUIRY and REPORT LUNS leave it. */
    attend(ATTENTION_POWER_ON);
    assert_int_equal(SEND(THIN, 0x12, 0, 0, 0, 96, 0), SCSI_GOOD);
    assert_int_equal(SEND(THIN, 0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0), SCSI_GOOD);
    assert_int_equal(ready(), SCSI_CHECK_CONDITION);
    /* Only for this LUN of this nexus. */
    attend(ATTENTION_POWER_ON);
    units.nexus_used = 1;
    assert_int_equal(ready(), SCSI_GOOD);
    units.nexus_used = 0;
    assert_int_equal(SEND(BIG, 0, 0, 0, 0, 0, 0), SCSI_GOOD);
}

/* SAM-5 5.3.3: reset and loss come before a conflict, every other attention after it. */
static void a_conflict_comes_between_the_attentions(void **state)
{
    reserve_by_other();
    attend(ATTENTION_NEXUS_LOSS);
    attend(ATTENTION_MODE_CHANGED);
    assert_int_equal(read_one(), SCSI_CHECK_CONDITION);
    assert_int_equal(units_sense(), 0x62907);
    assert_int_equal(read_one(), SCSI_RESERVATION_CONFLICT);
    assert_int_equal(units.task.sense_bytes, 0);
    assert_int_equal(read_one(), SCSI_RESERVATION_CONFLICT);
    units.nexus_used = 1;
    assert_int_equal(SEND(THIN, 0x17, 0, 0, 0, 0, 0), SCSI_GOOD);
    units.nexus_used = 0;
    assert_int_equal(read_one(), SCSI_CHECK_CONDITION);
    assert_int_equal(units_sense(), 0x62A01);
    assert_int_equal(read_one(), SCSI_GOOD);
}

static void a_unit_between_owners(void **state)
{
    struct scsi_unit *unit = &units.scsi->units[THIN];

    scsi_on_service(units.scsi, THIN, 0, SCSI_HELD);
    unit->transition = SCSI_TRANSITION_WAIT;
    assert_int_equal(read_one(), SCSI_GOOD); /* the core holds it */
    assert_int_equal(units.requests, 1);
    unit->transition = SCSI_TRANSITION_BUSY;
    assert_int_equal(read_one(), SCSI_STATUS_BUSY);
    assert_int_equal(units.requests, 0);
    unit->transition = SCSI_TRANSITION_SENSE;
    assert_int_equal(read_one(), SCSI_CHECK_CONDITION);
    assert_int_equal(units_sense(), 0x2040A);
    assert_int_equal(SEND(THIN, 0x12, 0, 0, 0, 96, 0), SCSI_GOOD);
    assert_int_equal(SEND(THIN, 0xA3, 0x0A, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0), SCSI_GOOD);
    scsi_on_service(units.scsi, THIN, -1, SCSI_UNSERVED);
    units_quiet();
    assert_int_equal(read_one(), SCSI_CHECK_CONDITION);
    assert_int_equal(units_sense(), 0x2040C);
    assert_int_equal(SEND(THIN, 0xA3, 0x0A, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0), SCSI_GOOD);
    scsi_on_service(units.scsi, THIN, 1, SCSI_SERVED_THERE);
    units_quiet();
    assert_int_equal(read_one(), SCSI_GOOD);
}

static void a_cdb_that_is_no_command(void **state)
{
    uint8_t cdb[32] = {0x88};

    units_send(THIN, cdb, 32, NULL, 0); /* longer than any of ours */
    assert_int_equal(units_sense(), INVALID_OPCODE);
    SEND(THIN, 0, 0, 0, 0, 0, 0x04); /* NACA */
    assert_int_equal(units_sense(), INVALID_CDB);
    assert_int_equal(units_field(), FIELD(5, 2));
    SEND(THIN, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0x04);
    assert_int_equal(units_field(), FIELD(9, 2));
    units.attribute = SCSI_ACA;
    ready();
    assert_int_equal(units_sense(), 0xB4900);
    for (int attribute = SCSI_UNTAGGED; attribute <= SCSI_HEAD_OF_QUEUE; attribute++) {
        units.attribute = (enum scsi_attribute)attribute;
        assert_int_equal(ready(), SCSI_GOOD);
    }
}

/* SAM-5 4.7: peripheral device addressing of bus 0, flat space addressing, and nothing else. */
static void luns_are_addressed_in_two_ways(void **state)
{
    static const struct {
        uint8_t lun[8];
        int volume;
    } rows[] = {
        {{0}, 0},           {{0, 1}, 1},        {{0x40, 0}, 0},        {{0x40, 3}, 3},
        {{0, 9}, -1},       {{1, 1}, -1},       {{0x41, 1}, -1},       {{0x80, 1}, -1},
        {{0xC1, 1}, -1},    {{0, 1, 1}, -1},    {{0, 1, [7] = 1}, -1}, {{0xFF, 0xFF}, -1},
        {{0x3F, 0xFF}, -1}, {{0x7F, 0xFF}, -1},
    };

    for (uint32_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        struct scsi_task task = {.nexus = units.nexus[0], .cdb_bytes = 6};
        memcpy(task.lun, rows[i].lun, 8);
        assert_int_equal(scsi_nexus_volume(units.nexus[0], rows[i].lun), rows[i].volume);
        assert_int_equal(scsi_task_begin(units.scsi, &task), SCSI_DONE);
        assert_int_equal(task.status, rows[i].volume < 0 ? SCSI_CHECK_CONDITION : SCSI_GOOD);
    }
}

static void a_nexus_needs_room_and_a_sound_map(void **state)
{
    static const struct scsi_lun_map twice[] = {{0, 0, false}, {0, 1, false}};
    static const struct scsi_lun_map same[] = {{0, 0, false}, {1, 0, false}};
    static const struct scsi_lun_map none[] = {{0, UNITS, false}};
    char name[300];

    assert_null(scsi_nexus_open(units.scsi, "iqn.1:x,i,0x1", NULL, 0)); /* two are open */
    scsi_nexus_close(units.scsi, units.nexus[1]);
    assert_null(scsi_nexus_open(units.scsi, "iqn.1:x,i,0x1", twice, 2));
    assert_null(scsi_nexus_open(units.scsi, "iqn.1:x,i,0x1", same, 2));
    assert_null(scsi_nexus_open(units.scsi, "iqn.1:x,i,0x1", none, 1));
    assert_null(scsi_nexus_open(units.scsi, "", NULL, 0));
    memset(name, 'x', sizeof name);
    name[SCSI_PORT_NAME_SIZE] = 0;
    assert_null(scsi_nexus_open(units.scsi, name, NULL, 0));
    strcpy(name + SCSI_PORT_NAME_SIZE - 1 - strlen(",i,0x000000000001"), ",i,0x000000000001");
    units.nexus[1] = scsi_nexus_open(units.scsi, name, NULL, 0);
    assert_non_null(units.nexus[1]);
}

static void a_wrong_configuration_is_named(void **state)
{
    static struct scsi_config good, config;
#define REFUSED(field, change)                                                                     \
    do {                                                                                           \
        config = good;                                                                             \
        change;                                                                                    \
        assert_non_null(scsi_config_check(&config));                                               \
        assert_ptr_equal(strstr(scsi_config_check(&config), field), scsi_config_check(&config));   \
    } while (0)

    units_config(&good);
    assert_null(scsi_config_check(&good));
    REFUSED("self", config.self = 2);
    REFUSED("array_name", memset(config.array_name, 'x', sizeof config.array_name));
    REFUSED("target_name", config.target_name[0] = 0);
    REFUSED("target_name", memset(config.target_name, 'x', sizeof config.target_name));
    REFUSED("transfer_bytes", config.transfer_bytes = 61440);
    REFUSED("transfer_bytes", config.transfer_bytes = HOST_IO_BYTES + 4096);
    REFUSED("transfer_bytes", config.transfer_bytes++);
    REFUSED("nexus_limit", config.nexus_limit = 0);
    REFUSED("nexus_limit", config.nexus_limit = SCSI_NEXUS_LIMIT + 1);
    REFUSED("unit_count", config.unit_count = VOLUME_LIMIT + 1);
    REFUSED("units[].name", config.units[1].name[0] = 0);
    REFUSED("units[].name", strcpy(config.units[1].name, "thin"));
    REFUSED("units[].block_bytes", config.units[1].block_bytes = 1024);
    REFUSED("units[].size_bytes", config.units[1].size_bytes = 0);
    REFUSED("units[].size_bytes", config.units[1].size_bytes += 512);
    REFUSED("units[].transition", config.units[1].transition = (enum scsi_transition)3);
}

static void a_record_that_is_none_is_refused(void **state)
{
    const char *reason;

    assert_false(scsi_on_state(units.scsi, THIN, 1, "nonsense", 8, &reason));
    assert_non_null(reason);
    assert_int_equal(units.scsi->units[THIN].state_version, 0);
    assert_int_equal(read_one(), SCSI_GOOD);
}

static void a_transfer_that_broke(void **state)
{
    struct scsi_task task = {.nexus = units.nexus[0], .cdb_bytes = 6, .sense_bytes = 1};

    assert_int_equal(scsi_task_begin(units.scsi, &task), SCSI_DONE);
    scsi_task_fail(&task, 0x4705);
    assert_int_equal(task.status, SCSI_CHECK_CONDITION);
    assert_int_equal(task.sense[2], 0x0B);
    assert_int_equal(get_u16(task.sense + 12), 0x4705);
    scsi_task_abort(&task);
    assert_int_equal(task.status, SCSI_TASK_ABORTED);
    assert_int_equal(task.sense_bytes, 0);
}

/* ---- sense ---- */

static enum scsi_step cdb_field(struct scsi_task *task)
{
    return sense_invalid_field_in_cdb(task, 0x0102, 6);
}

static enum scsi_step cdb_byte(struct scsi_task *task)
{
    return sense_invalid_field_in_cdb(task, 3, -1);
}

static enum scsi_step list_field(struct scsi_task *task)
{
    return sense_invalid_field_in_list(task, 0x1234, 0);
}

static enum scsi_step miscompare(struct scsi_task *task)
{
    return sense_miscompare(task, 0x01020304);
}

static enum scsi_step aborted(struct scsi_task *task)
{
    return sense_aborted(task, 0x4703);
}

static enum scsi_step copy_aborted(struct scsi_task *task)
{
    return sense_copy_aborted(task, 0x0D02);
}

static const struct {
    enum scsi_step (*answer)(struct scsi_task *task);
    uint32_t sense;
    uint8_t specific[3]; /* the field pointer; zeros: none */
} outcomes[] = {
    {sense_invalid_opcode, 0x52000, {0xC0, 0, 0}},
    {cdb_field, 0x52400, {0xCE, 1, 2}},
    {cdb_byte, 0x52400, {0xC0, 0, 3}},
    {list_field, 0x52600, {0x88, 0x12, 0x34}},
    {sense_list_length, 0x51A00, {0}},
    {sense_lba_out_of_range, 0x52100, {0}},
    {sense_lun_not_supported, 0x52500, {0}},
    {sense_invalid_release, 0x52604, {0}},
    {sense_registration_resources, 0x55504, {0}},
    {sense_saving_not_supported, 0x53900, {0}},
    {sense_sequence_error, 0x52C00, {0}},
    {sense_too_many_targets, 0x52606, {0}},
    {sense_unsupported_target, 0x52607, {0}},
    {sense_too_many_segments, 0x52608, {0}},
    {sense_unsupported_segment, 0x52609, {0}},
    {sense_inline_data, 0x5260B, {0}},
    {sense_stopped, 0x20402, {0}},
    {sense_transitioning, 0x2040A, {0}},
    {sense_unavailable, 0x2040C, {0}},
    {sense_read_error, 0x31100, {0}},
    {sense_write_error, 0x30C00, {0}},
    {sense_target_failure, 0x44400, {0}},
    {sense_write_protected, 0x72700, {0}},
    {sense_set_groups_failed, 0x4670A, {0}},
    {sense_echo_overwritten, 0xB3F0F, {0}},
    {miscompare, 0xE1D00, {0}},
    {aborted, 0xB4703, {0}},
    {copy_aborted, 0xA0D02, {0}},
};

static void every_outcome_in_both_formats(void **state)
{
    struct scsi_unit *unit = &units.scsi->units[THIN];
    struct scsi_task *task = &units.task;

    for (int descriptor = 0; descriptor < 2; descriptor++) {
        unit->record.mode.descriptor_sense = descriptor != 0;
        for (uint32_t i = 0; i < ARRAY_LENGTH(outcomes); i++) {
            memset(task, 0xEE, sizeof *task);
            task->unit = unit;
            assert_int_equal(outcomes[i].answer(task), SCSI_DONE);
            assert_int_equal(task->status, SCSI_CHECK_CONDITION);
            assert_int_equal(task->in_bytes, 0);
            assert_int_equal(units_sense(), outcomes[i].sense);
            assert_int_equal(task->sense[7], task->sense_bytes - 8);
            if (descriptor) {
                bool field = outcomes[i].specific[0] != 0, info = outcomes[i].answer == miscompare;
                assert_int_equal(task->sense[0], 0x72);
                assert_int_equal(task->sense_bytes, field ? 16 : info ? 20 : 8);
                if (field)
                    assert_memory_equal(task->sense + 12, outcomes[i].specific, 3);
                if (info)
                    assert_memory_equal(task->sense + 8,
                                        ((uint8_t[]){0, 10, 0x80, 0, 0, 0, 0, 0, 1, 2, 3, 4}), 12);
                continue;
            }
            assert_int_equal(task->sense_bytes, 18);
            assert_int_equal(task->sense[0], outcomes[i].answer == miscompare ? 0xF0 : 0x70);
            assert_memory_equal(task->sense + 15, outcomes[i].specific, 3);
            if (outcomes[i].answer == miscompare)
                assert_int_equal(get_u32(task->sense + 3), 0x01020304);
        }
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(an_attention_is_told_once_in_order),
        TEST(a_conflict_comes_between_the_attentions),
        TEST(a_unit_between_owners),
        TEST(a_cdb_that_is_no_command),
        TEST(luns_are_addressed_in_two_ways),
        TEST(a_nexus_needs_room_and_a_sound_map),
        TEST(a_wrong_configuration_is_named),
        TEST(a_record_that_is_none_is_refused),
        TEST(a_transfer_that_broke),
        TEST(every_outcome_in_both_formats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
