/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Unit attentions: which there are, in which order they come, what lets them stand; task management
 * and the loss of a nexus, at both controllers. */

#include "shared_record.h"

/* ---- order and life ---- */

static void a_new_nexus_hears_of_the_power_on_on_each_lun_once(void **state)
{
    host_logout(A3);
    memset(shared.side[A]->departed, 0, sizeof shared.side[A]->departed);
    shared.side[A]->departed_count = 0;
    host_login(A3);
    assert_int_equal(attention(A3), POWER_ON);
    assert_int_equal(send_to_lun(A3, 5, (const uint8_t[6]){0}, 6, NULL, 0), SCSI_CHECK_CONDITION);
    assert_int_equal(sense(), POWER_ON);
    assert_int_equal(send_to_lun(A3, 5, (const uint8_t[6]){0}, 6, NULL, 0), SCSI_GOOD);
}

static void a_nexus_that_was_here_before_hears_of_its_loss(void **state)
{
    host_logout(A3);
    host_login(A3);
    assert_int_equal(attention(A3), NEXUS_LOSS);
    host_logout(A3);
    host_login(A3);
    assert_int_equal(attention(A3), NEXUS_LOSS);
    assert_int_equal(shared.side[A]->departed_count, 1);
    /* Each controller remembers its own, so many. */
    for (uint32_t i = 0; i < 3 * SCSI_DEPARTED; i++) {
        struct scsi_nexus *nexus;
        static const struct scsi_lun_map lun = {0, VOLUME, false};
        char name[SCSI_PORT_NAME_SIZE];
        snprintf(name, sizeof name, "iqn.2026-11.example:many,i,0x%x", i);
        nexus = scsi_nexus_open(shared.side[A], name, &lun, 1);
        assert_non_null(nexus);
        assert_int_equal(nexus->luns[0].attentions, attention_bit(ATTENTION_POWER_ON));
        scsi_nexus_close(shared.side[A], nexus);
        assert_in_range(shared.side[A]->departed_count, 1, 2 * SCSI_DEPARTED - 1);
    }
    host_logout(A2);
    host_login(A2);
    assert_int_equal(attention(A2), NEXUS_LOSS);
}

static void all_of_them_come_in_order(void **state)
{
    static const uint32_t order[] = {POWER_ON,
                                     BUS_DEVICE_RESET,
                                     NEXUS_LOSS,
                                     RESERVATIONS_PREEMPTED,
                                     RESERVATIONS_RELEASED,
                                     REGISTRATIONS_PREEMPTED,
                                     COMMANDS_CLEARED,
                                     MODE_CHANGED,
                                     ACCESS_STATE_CHANGED};

    assert_int_equal(ARRAY_LENGTH(order), ATTENTION_COUNT);
    shared.nexus[A1]->luns[0].attentions = (1 << ATTENTION_COUNT) - 1;
    for (uint32_t i = 0; i < ARRAY_LENGTH(order); i++) {
        assert_int_equal(ready(A1), SCSI_CHECK_CONDITION);
        assert_int_equal(sense(), order[i]);
    }
    assert_int_equal(ready(A1), SCSI_GOOD);
}

static void inquiry_and_report_luns_let_them_stand_and_request_sense_reports_one(void **state)
{
    shared.nexus[A1]->luns[0].attentions = attention_bit(ATTENTION_MODE_CHANGED);
    assert_int_equal(send_in(A1, (const uint8_t[6]){0x12, [4] = 36}, 6), SCSI_GOOD);
    assert_int_equal(send_in(A1, (const uint8_t[12]){0xA0, [9] = 255}, 12), SCSI_GOOD);
    assert_int_equal(shared.nexus[A1]->luns[0].attentions, attention_bit(ATTENTION_MODE_CHANGED));
    assert_int_equal(send_in(A1, (const uint8_t[6]){0x03, [4] = 18}, 6), SCSI_GOOD);
    assert_int_equal(shared.buffer[2] & 15, 6);
    assert_int_equal(get_u16(shared.buffer + 12), MODE_CHANGED & 0xFFFF);
    assert_int_equal(ready(A1), SCSI_GOOD);
}

/* ---- mode parameters ---- */

static void change_mode(enum host host, uint8_t bit)
{
    uint8_t list[16] = {0};
    static const uint8_t select[6] = {0x15, 0x10, [4] = 16};

    assert_int_equal(send_in(host, (const uint8_t[6]){0x1A, 8, 0x0A, 0, 16}, 6), SCSI_GOOD);
    memcpy(list + 4, shared.buffer + 4, 12);
    list[4] &= 0x3F;
    if (bit == 0x40)
        list[4 + 5] ^= bit; /* TAS */
    else
        list[4 + 4] ^= bit; /* SWP */
    assert_int_equal(send_out(host, select, 6, list, sizeof list), SCSI_GOOD);
}

static void who_changes_the_mode_tells_all_others(void **state)
{
    change_mode(B1, 0x40);
    for (int host = 0; host < HOSTS; host++)
        assert_int_equal(attention((enum host)host), host == B1 ? 0 : MODE_CHANGED);
    /* Of two changes that come as one, everybody is told: either may have been another's. */
    shared.alive[A] = false;
    change_mode(B1, 0x40);
    clear_attentions();
    change_mode(B4, 0x40);
    shared.alive[A] = true;
    tell_both(VOLUME);
    assert_int_equal(attention(A1), MODE_CHANGED);
    assert_int_equal(attention(B1), MODE_CHANGED);
    assert_int_equal(attention(B4), 0);
    shared.alive[B] = false;
    change_mode(A1, 0x40);
    clear_attentions();
    change_mode(A2, 0x40);
    shared.alive[B] = true;
    tell_both(VOLUME);
    assert_int_equal(attention(A1), MODE_CHANGED);
    assert_int_equal(attention(B4), MODE_CHANGED);
    /* Even who did the last one: a controller may get both of them at once. */
    shared.alive[B] = false;
    change_mode(A1, 0x40);
    clear_attentions();
    change_mode(A2, 0x40);
    record_nexus_set(&shared.side[A]->draft.mode.changed_by, shared.nexus[B4]);
    shared.length[VOLUME] = record_encode(&shared.side[A]->draft, shared.record[VOLUME]);
    shared.alive[B] = true;
    tell_both(VOLUME);
    assert_int_equal(attention(B4), MODE_CHANGED);
}

/* ---- LOGICAL UNIT RESET, TARGET RESET ---- */

static void a_reset_ends_all_tasks_at_both_controllers(void **state)
{
    struct scsi_task tasks[HOSTS];
    struct scsi_task other_unit = {0};

    for (int host = 0; host < HOSTS; host++)
        tasks[host] = under_way((enum host)host);
    other_unit = tasks[A1];
    other_unit.lun[1] = 5;
    assert_int_equal(scsi_task_begin(shared.side[A], &other_unit), SCSI_BUFFER);
    assert_int_equal(manage(A1, SCSI_LOGICAL_UNIT_RESET, 0), SCSI_FUNCTION_COMPLETE);
    assert_int_equal(shared.barriers, 1);
    for (int host = 0; host < HOSTS; host++)
        assert_int_equal(scsi_task_fate(&tasks[host]), SCSI_END_SILENT);
    assert_int_equal(scsi_task_fate(&other_unit), SCSI_GO_ON);
    /* Everybody hears of it, who did it too, and of nothing else. */
    for (int host = 0; host < HOSTS; host++)
        assert_int_equal(attention((enum host)host), BUS_DEVICE_RESET);
    assert_int_equal(shared.nexus[A1]->luns[5].attentions, 0);
    tasks[0] = under_way(A1);
    assert_int_equal(scsi_task_fate(&tasks[0]), SCSI_GO_ON);
}

static void with_tas_the_tasks_of_others_get_a_status(void **state)
{
    struct scsi_task mine;
    struct scsi_task other;
    struct scsi_task far;

    change_mode(A1, 0x40);
    clear_attentions();
    mine = under_way(A1);
    other = under_way(A2);
    far = under_way(B4);
    enroll(A2);
    enroll(A1);
    assert_int_equal(pr_out(A1, PREEMPT_AND_ABORT, 0, key_of(A1), key_of(A2), 0), SCSI_GOOD);
    assert_int_equal(scsi_task_fate(&other), SCSI_END_ABORTED);
    assert_int_equal(scsi_task_fate(&far), SCSI_GO_ON);
    assert_int_equal(attention(A2), REGISTRATIONS_PREEMPTED);
    assert_int_equal(scsi_task_fate(&mine), SCSI_GO_ON);
    other = under_way(A2);
    assert_int_equal(manage(A1, SCSI_LOGICAL_UNIT_RESET, 0), SCSI_FUNCTION_COMPLETE);
    /* The reset sets TAS back to zero; what it ended is answered as it was before. */
    assert_false(shared.side[A]->units[VOLUME].record.mode.task_aborted_status);
    assert_int_equal(scsi_task_fate(&mine), SCSI_END_SILENT);
    assert_int_equal(scsi_task_fate(&other), SCSI_END_ABORTED);
    assert_int_equal(scsi_task_fate(&far), SCSI_END_ABORTED);
    assert_int_equal(attention(A2), BUS_DEVICE_RESET);
    other = under_way(A2);
    assert_int_equal(manage(B1, SCSI_LOGICAL_UNIT_RESET, 0), SCSI_FUNCTION_COMPLETE);
    assert_int_equal(scsi_task_fate(&other), SCSI_END_SILENT);
}

static void a_reset_keeps_persistent_reservations_and_sets_the_rest_back(void **state)
{
    const struct record *record = &shared.side[B]->units[VOLUME].record;

    enroll(A1);
    reserve(A1, WE);
    change_mode(A1, 0x40);
    assert_int_equal(send_in(A1, (const uint8_t[6]){0x1B, [4] = 4}, 6), SCSI_GOOD);
    assert_true(record->stopped);
    assert_true(record->mode.task_aborted_status);
    assert_int_equal(manage(B4, SCSI_LOGICAL_UNIT_RESET, 0), SCSI_FUNCTION_COMPLETE);
    clear_attentions();
    assert_false(record->stopped);
    assert_false(record->mode.task_aborted_status);
    reserved_as(WE, key_of(A1));
    assert_int_equal(ready(A1), SCSI_GOOD);
}

static void a_reset_releases_an_spc2_reservation(void **state)
{
    assert_int_equal(send_in(A1, (const uint8_t[6]){0x16}, 6), SCSI_GOOD);
    assert_int_equal(manage(B4, SCSI_LOGICAL_UNIT_RESET, 0), SCSI_FUNCTION_COMPLETE);
    clear_attentions();
    assert_int_equal(send_in(B1, (const uint8_t[6]){0x16}, 6), SCSI_GOOD);
}

static void a_target_reset_resets_each_lun_of_the_nexus(void **state)
{
    assert_int_equal(manage(B1, SCSI_TARGET_RESET, 77), SCSI_FUNCTION_COMPLETE);
    assert_int_equal(shared.barriers, 2);
    assert_int_equal(shared.version[VOLUME], 1);
    assert_int_equal(shared.version[2], 1);
    assert_int_equal(shared.version[0], 0);
    assert_int_equal(attention(A1), BUS_DEVICE_RESET);
    assert_int_equal(shared.nexus[A1]->luns[5].attentions,
                     attention_bit(ATTENTION_BUS_DEVICE_RESET));
}

static void reset_by_b4(void)
{
    assert_int_equal(manage(B4, SCSI_LOGICAL_UNIT_RESET, 0), SCSI_FUNCTION_COMPLETE);
}

static void keep_overtaking(void)
{
    shared.version[VOLUME]++;
    tell_both(VOLUME);
    shared.before_change = keep_overtaking;
}

static void a_reset_that_was_overtaken_is_made_again(void **state)
{
    shared.before_change = reset_by_b4;
    assert_int_equal(manage(A1, SCSI_LOGICAL_UNIT_RESET, 0), SCSI_FUNCTION_COMPLETE);
    assert_int_equal(shared.changes, 2);
    shared.ios = 0;
    shared.before_change = keep_overtaking;
    assert_int_equal(manage(A1, SCSI_LOGICAL_UNIT_RESET, 0), SCSI_FUNCTION_FAILED);
    assert_int_equal(shared.ios, SCSI_STALE_RETRIES + 1);
    /* A target reset goes on with the next unit. */
    assert_int_equal(manage(A1, SCSI_TARGET_RESET, 0), SCSI_FUNCTION_FAILED);
    assert_int_equal(shared.version[2], 1);
}

static int overtakings;

static void overtake_some(void);

static void let_one_pass(void)
{
    shared.before_change = overtake_some;
}

static void overtake_some(void)
{
    for (uint8_t volume = 0; volume < VOLUMES; volume++) {
        shared.version[volume]++;
        tell_both(volume);
    }
    if (--overtakings > 0)
        shared.before_change = overtakings == SCSI_STALE_RETRIES - 4 ? let_one_pass : overtake_some;
}

static void each_unit_of_a_target_reset_has_its_own_retries(void **state)
{
    uint32_t resets = 0;

    /* Twelve for the first unit and, from its record's arrival on, twelve for the second. */
    overtakings = 2 * (SCSI_STALE_RETRIES - 4);
    shared.before_change = overtake_some;
    assert_int_equal(manage(A1, SCSI_TARGET_RESET, 0), SCSI_FUNCTION_COMPLETE);
    assert_null(shared.before_change);
    for (uint8_t volume = 0; volume < VOLUMES; volume++)
        resets += shared.side[B]->units[volume].record.reset_count;
    assert_int_equal(resets, 2);
}

static void functions_that_need_no_change_make_none(void **state)
{
    static const enum scsi_function functions[] = {SCSI_ABORT_TASK, SCSI_ABORT_TASK_SET,
                                                   SCSI_CLEAR_TASK_SET, SCSI_QUERY_TASK,
                                                   SCSI_QUERY_TASK_SET};

    for (uint32_t i = 0; i < ARRAY_LENGTH(functions); i++) {
        assert_int_equal(manage(A1, functions[i], 0), SCSI_FUNCTION_COMPLETE);
        assert_int_equal(manage(A1, functions[i], 1), SCSI_FUNCTION_NO_LUN);
    }
    assert_int_equal(manage(A1, SCSI_LOGICAL_UNIT_RESET, 1), SCSI_FUNCTION_NO_LUN);
    assert_int_equal(manage(A1, SCSI_CLEAR_ACA, 0), SCSI_FUNCTION_REJECTED);
    assert_int_equal(shared.ios, 0);
    shared.state_result = HOST_NOT_OWNER;
    assert_int_equal(manage(A1, SCSI_LOGICAL_UNIT_RESET, 0), SCSI_FUNCTION_FAILED);
    no_attention_but(0);
}

/* ---- the loss of a nexus ---- */

static void a_nexus_that_goes_gives_back_what_it_reserved(void **state)
{
    uint8_t reserve_5[6] = {0x16};

    assert_int_equal(send_in(A1, (const uint8_t[6]){0x16}, 6), SCSI_GOOD);
    assert_int_equal(send_to_lun(A1, 5, reserve_5, 6, NULL, 0), SCSI_GOOD);
    host_logout(A2);
    assert_int_equal(write_block(B4), SCSI_RESERVATION_CONFLICT);
    host_logout(A1);
    assert_int_equal(write_block(B4), SCSI_GOOD);
    assert_int_equal(send_to_lun(B4, 5, reserve_5, 6, NULL, 0), SCSI_GOOD);
    assert_false(scsi_upkeep(shared.side[A]));
}

static void one_that_has_left_hinders_nobody_before_its_release_is_written(void **state)
{
    const uint8_t reserve_6[6] = {0x16};
    struct scsi *here = shared.side[A];
    struct scsi_nexus *left = shared.nexus[A1];

    assert_int_equal(send_in(A1, reserve_6, 6), SCSI_GOOD);
    scsi_nexus_leave(here, left);
    assert_int_equal(write_block(B4), SCSI_RESERVATION_CONFLICT); /* it is not known there yet */
    assert_int_equal(write_block(A2), SCSI_GOOD);
    assert_int_equal(send_in(A2, reserve_6, 6), SCSI_GOOD);
    assert_int_equal(write_block(A3), SCSI_RESERVATION_CONFLICT);
    assert_int_equal(manage(A1, SCSI_NEXUS_LOSS, 0), SCSI_FUNCTION_COMPLETE);
    assert_int_equal(write_block(A3), SCSI_RESERVATION_CONFLICT); /* A2's is not given back */
    assert_int_equal(write_block(A2), SCSI_GOOD);
    scsi_nexus_close(here, left);
    shared.nexus[A1] = NULL;
    assert_false(scsi_upkeep(here));
}

static void a_registration_ends_the_reservation_of_one_that_has_left(void **state)
{
    assert_int_equal(send_in(A1, (const uint8_t[6]){0x16}, 6), SCSI_GOOD);
    scsi_nexus_leave(shared.side[A], shared.nexus[A1]);
    enroll(A2);
    assert_int_equal(shared.side[B]->units[VOLUME].record.reserved_by.port, 0);
    assert_int_equal(write_block(B4), SCSI_GOOD);
    host_logout(A1);
}

static void a_registration_outlives_its_nexus(void **state)
{
    enroll(A1);
    reserve(A1, EA);
    host_logout(A1);
    assert_int_equal(write_block(B4), SCSI_RESERVATION_CONFLICT);
    host_login(A1);
    assert_int_equal(attention(A1), NEXUS_LOSS);
    assert_int_equal(write_block(A1), SCSI_GOOD);
}

static void what_a_dead_controllers_nexus_had_reserved_lapses(void **state)
{
    assert_int_equal(send_in(A1, (const uint8_t[6]){0x16}, 6), SCSI_GOOD);
    shared_stop(A);
    assert_false(scsi_upkeep(shared.side[B]));
    shared_serve(B, 2);
    assert_true(scsi_upkeep(shared.side[B]));
    assert_int_equal(write_block(B4) == SCSI_RESERVATION_CONFLICT, 1);
    assert_int_equal(manage_at(B, SCSI_UPKEEP, NULL, 0), SCSI_FUNCTION_COMPLETE);
    assert_false(scsi_upkeep(shared.side[B]));
    clear_attentions();
    assert_int_equal(write_block(B4), SCSI_GOOD);
}

static void nothing_lapses_for_a_controller_that_does_not_serve(void **state)
{
    assert_int_equal(send_in(B1, (const uint8_t[6]){0x16}, 6), SCSI_GOOD);
    scsi_on_service(shared.side[A], VOLUME, 1, SCSI_HELD);
    scsi_on_controllers(shared.side[A], 1);
    assert_false(scsi_upkeep(shared.side[A]));
    scsi_on_controllers(shared.side[A], 0);
    scsi_on_service(shared.side[A], VOLUME, 1, SCSI_SERVED_THERE);
    assert_false(scsi_upkeep(shared.side[A]));
    scsi_on_controllers(shared.side[A], 1);
    assert_true(scsi_upkeep(shared.side[A]));
}

static void upkeep_that_fails_waits_for_the_next_change(void **state)
{
    assert_int_equal(send_in(A1, (const uint8_t[6]){0x16}, 6), SCSI_GOOD);
    shared_stop(A);
    shared_serve(B, 2);
    shared.state_result = HOST_NOT_OWNER;
    assert_int_equal(manage_at(B, SCSI_UPKEEP, NULL, 0), SCSI_FUNCTION_FAILED);
    assert_false(scsi_upkeep(shared.side[B]));
    shared.state_result = HOST_OK;
    shared_serve(B, 2);
    assert_true(scsi_upkeep(shared.side[B]));
}

static void what_the_other_controllers_nexus_reserved_is_its_own_business(void **state)
{
    assert_int_equal(send_in(A1, (const uint8_t[6]){0x16}, 6), SCSI_GOOD);
    shared_serve(B, 3);
    assert_false(scsi_upkeep(shared.side[A]));
    assert_false(scsi_upkeep(shared.side[B]));
    /* Out of the pair nobody touches the record. */
    shared.alive[B] = false;
    shared_serve(B, 2);
    assert_false(scsi_upkeep(shared.side[A]));
    shared.alive[B] = true;
    shared_serve(A, 3);
    /* A controller that starts again finds what its own nexus had before. */
    shared_stop(A);
    shared_start(A);
    shared_serve(B, 3);
    assert_true(scsi_upkeep(shared.side[A]));
    assert_false(scsi_upkeep(shared.side[B]));
    assert_int_equal(manage_at(A, SCSI_UPKEEP, NULL, 0), SCSI_FUNCTION_COMPLETE);
    assert_int_equal(shared.side[B]->units[VOLUME].record.reserved_by.port, 0);
}

/* ---- a controller that was out of the pair ---- */

static void forget(int side)
{
    const char *reason = NULL;

    for (uint8_t volume = 0; volume < VOLUMES; volume++)
        (void)!scsi_on_state(shared.side[side], volume, 0, NULL, 0, &reason);
}

static void a_record_that_is_forgotten_and_comes_back_is_no_event(void **state)
{
    struct scsi_task begun;

    enroll(A1);
    enroll(B1);
    change_mode(A1, 0x40);
    assert_int_equal(manage(B4, SCSI_LOGICAL_UNIT_RESET, 0), SCSI_FUNCTION_COMPLETE);
    clear_attentions();
    begun = under_way(A1);
    forget(A);
    assert_int_equal(keys(A2, 0), 0);
    tell_both(VOLUME);
    assert_int_equal(scsi_task_fate(&begun), SCSI_GO_ON);
    no_attention_but(0);
    assert_int_equal(keys(A2, 0), 2);
}

static void what_happened_while_it_was_forgotten_counts_when_it_is_known_again(void **state)
{
    struct scsi_task begun;

    enroll(A1);
    enroll(B1);
    begun = under_way(A1);
    shared.alive[A] = false;
    forget(A);
    assert_int_equal(manage(B4, SCSI_LOGICAL_UNIT_RESET, 0), SCSI_FUNCTION_COMPLETE);
    clear_attentions();
    assert_int_equal(pr_out(B1, PREEMPT, 0, key_of(B1), key_of(A1), 0), SCSI_GOOD);
    shared.alive[A] = true;
    tell_both(VOLUME);
    assert_int_equal(scsi_task_fate(&begun), SCSI_END_SILENT);
    (void)ready(A1);
    assert_int_equal(sense(), BUS_DEVICE_RESET);
    assert_int_equal(attention(A1), REGISTRATIONS_PREEMPTED);
    assert_int_equal(attention(A2), BUS_DEVICE_RESET);
}

static void a_record_that_the_pair_has_lost_is_a_power_on(void **state)
{
    struct scsi_task task_a;

    assert_int_equal(manage(B4, SCSI_LOGICAL_UNIT_RESET, 0), SCSI_FUNCTION_COMPLETE);
    clear_attentions();
    task_a = under_way(A1);
    forget(A);
    /* The other has started again without it, and somebody registers: it has the same version. */
    shared.alive[A] = false;
    shared.version[VOLUME] = 0;
    shared.length[VOLUME] = 0;
    shared_stop(B);
    shared_start(B);
    shared_serve(B, 3);
    host_login(B1);
    clear_attentions();
    enroll(B1);
    shared.alive[A] = true;
    tell_both(VOLUME);
    assert_int_equal(shared.version[VOLUME], 1);
    assert_int_equal(scsi_task_fate(&task_a), SCSI_GO_ON);
    assert_int_equal(attention(A1), POWER_ON);
    clear_attentions();
    assert_int_equal(keys(A3, 0), 1);
}

static void equal_versions_with_other_bytes_are_two_records(void **state)
{
    const char *reason = NULL;
    uint8_t bytes[VOLUME_STATE_BYTES];
    static struct record record;
    uint32_t length;

    enroll(A1);
    record = shared.side[A]->units[VOLUME].record;
    record.registrants[0].key = 0x4242;
    length = record_encode(&record, bytes);
    (void)!scsi_on_state(shared.side[A], VOLUME, shared.version[VOLUME], bytes, length, &reason);
    assert_null(reason);
    assert_int_equal(keys(A2, 0x4242), 1);
}

static void a_record_that_cannot_be_read_changes_nothing(void **state)
{
    const char *reason = NULL;

    enroll(A1);
    assert_false(scsi_on_state(shared.side[A], VOLUME, 99, "rubbish", 7, &reason));
    assert_non_null(reason);
    assert_int_equal(keys(A2, 0), 1);
    assert_int_equal(shared.side[A]->units[VOLUME].state_version, 1);
}

/* ---- power loss ---- */

static void what_is_kept_over_a_power_loss(void **state)
{
    const char *reason = NULL;
    uint8_t kept[VOLUME_STATE_BYTES];
    uint32_t length;

    enroll(A1);
    reserve(A1, EA);
    assert_int_equal(scsi_power_on_state(shared.side[A], shared.record[VOLUME],
                                         shared.length[VOLUME], kept, &reason),
                     0);
    assert_null(reason);
    assert_false(scsi_keeps_state(shared.side[A], VOLUME));
    assert_false(scsi_keeps_state(shared.side[B], VOLUME));
    assert_int_equal(pr_out(A1, REGISTER, 0, key_of(A1), key_of(A1), APTPL), SCSI_GOOD);
    assert_true(scsi_keeps_state(shared.side[A], VOLUME));
    assert_true(scsi_keeps_state(shared.side[B], VOLUME));
    change_mode(A1, 0x40);
    length = scsi_power_on_state(shared.side[A], shared.record[VOLUME], shared.length[VOLUME], kept,
                                 &reason);
    assert_null(reason);
    assert_in_range(length, 1, VOLUME_STATE_BYTES);
    memcpy(shared.record[VOLUME], kept, length);
    shared.length[VOLUME] = length;
    shared_stop(A);
    shared_stop(B);
    shared_start(A);
    shared_start(B);
    shared_serve(A, 3);
    for (int host = 0; host < HOSTS; host++)
        host_login((enum host)host);
    clear_attentions();
    reserved_as(EA, key_of(A1));
    assert_int_equal(generation(A1), 0);
    assert_int_equal(write_block(B4), SCSI_RESERVATION_CONFLICT);
    assert_int_equal(write_block(A1), SCSI_GOOD);
    assert_false(shared.side[A]->units[VOLUME].record.mode.task_aborted_status);
    assert_int_equal(scsi_power_on_state(shared.side[A], "rubbish", 7, kept, &reason), 0);
    assert_non_null(reason);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, shared_setup, shared_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_new_nexus_hears_of_the_power_on_on_each_lun_once),
        TEST(a_nexus_that_was_here_before_hears_of_its_loss),
        TEST(all_of_them_come_in_order),
        TEST(inquiry_and_report_luns_let_them_stand_and_request_sense_reports_one),
        TEST(who_changes_the_mode_tells_all_others),
        TEST(a_reset_ends_all_tasks_at_both_controllers),
        TEST(with_tas_the_tasks_of_others_get_a_status),
        TEST(a_reset_keeps_persistent_reservations_and_sets_the_rest_back),
        TEST(a_reset_releases_an_spc2_reservation),
        TEST(a_target_reset_resets_each_lun_of_the_nexus),
        TEST(a_reset_that_was_overtaken_is_made_again),
        TEST(each_unit_of_a_target_reset_has_its_own_retries),
        TEST(functions_that_need_no_change_make_none),
        TEST(a_nexus_that_goes_gives_back_what_it_reserved),
        TEST(one_that_has_left_hinders_nobody_before_its_release_is_written),
        TEST(a_registration_ends_the_reservation_of_one_that_has_left),
        TEST(a_registration_outlives_its_nexus),
        TEST(what_a_dead_controllers_nexus_had_reserved_lapses),
        TEST(nothing_lapses_for_a_controller_that_does_not_serve),
        TEST(upkeep_that_fails_waits_for_the_next_change),
        TEST(what_the_other_controllers_nexus_reserved_is_its_own_business),
        TEST(a_record_that_is_forgotten_and_comes_back_is_no_event),
        TEST(what_happened_while_it_was_forgotten_counts_when_it_is_known_again),
        TEST(a_record_that_the_pair_has_lost_is_a_power_on),
        TEST(equal_versions_with_other_bytes_are_two_records),
        TEST(a_record_that_cannot_be_read_changes_nothing),
        TEST(what_is_kept_over_a_power_loss),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
