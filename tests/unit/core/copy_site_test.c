/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Which site a group's truth is at, and how that changes: failover, the old primary that hears of
 * it, the way back, and what every start finds again. */

#include "site_acts.h"

/* ---- hosts ---- */

static void a_copy_refuses_hosts(void **state)
{
    uint8_t fill;
    until_consistent(TWO);
    for (int self = A; self < PAIR; self++) {
        assert_int_equal(write_at(TWO, self, V_A, 0, 1, 1), HOST_COPY);
        assert_int_equal(read_at(TWO, self, V_A, 0, &fill), HOST_COPY);
        assert_int_equal(array_service(array_of(TWO, self), V_A), ARRAY_UNSERVED);
        assert_int_not_equal(array_service(array_of(TWO, self), V_SAFE), ARRAY_UNSERVED);
    }
}

static void an_exposed_copy_is_read_and_not_written(void **state)
{
    until_consistent(TWO);
    assert_int_equal(write_at(ONE, A, V_A, 3, 1, 0x31), HOST_OK);
    pass_both_ms(50);
    int owner = owner_at(TWO, V_A);
    for (int self = A; self < PAIR; self++)
        side_of(TWO, self)->array->config.groups[0].expose = true;
    assert_page(TWO, V_A, 3, 0x31);
    assert_int_equal(write_at(TWO, owner, V_A, 3, 1, 1), HOST_READ_ONLY);
    assert_page(TWO, V_A, 3, 0x31);
}

/* ---- failover ---- */

static void failed_over_hosts_are_served_from_the_promoted_cycle(void **state)
{
    until_consistent(TWO);
    assert_int_equal(write_at(ONE, A, V_A, 3, 2, 0x11), HOST_OK);
    assert_int_equal(write_at(ONE, B, V_B, 9, 1, 0x22), HOST_OK);
    pass_both_ms(50);
    uint64_t promoted = inner(TWO, A)->second.receiver.promoted;
    between.cut = true;
    assert_int_equal(write_at(ONE, A, V_A, 3, 1, 0x99), HOST_OK); /* never leaves the site */
    kill_at(ONE, A);
    kill_at(ONE, B);
    pass_both_ms(5100);
    assert_true(operate_there(GROUP_FAILOVER, false));
    char text[64];
    snprintf(text, sizeof text, "at cycle %llu of 1970-01-01T00:00:", (unsigned long long)promoted);
    assert_non_null(strstr(side_of(TWO, owner_at(TWO, V_A))->operator_text, text));
    for (int self = A; self < PAIR; self++) {
        assert_int_equal(array_group_role(array_of(TWO, self), 0), GROUP_ROLE_FAILED_OVER);
        assert_int_equal(site_of(TWO, self)->kept.era, 2);
        assert_int_equal(site_of(TWO, self)->kept.role, SITE_FAILED_OVER);
    }
    assert_page(TWO, V_A, 3, 0x11);
    assert_page(TWO, V_B, 9, 0x22);
    assert_int_equal(write_at(TWO, owner_at(TWO, V_A), V_A, 3, 1, 0x33), HOST_OK);
    assert_page(TWO, V_A, 3, 0x33);
    for (int self = A; self < PAIR; self++)
        assert_int_equal(regions_left(&inner(TWO, self)->sender.regions), 1);
}

/* Controller a does it, and b is not there. */
static void fail_over_at_one(void)
{
    until_consistent(TWO);
    silence_of_the_primary();
    kill_at(TWO, B);
    assert_true(operate(TWO, A, GROUP_FAILOVER, false));
}

static void a_failover_while_the_primary_answers_wants_force(void **state)
{
    assert_false(operate_there(GROUP_FAILOVER, false));
    until_consistent(TWO);
    assert_false(operate_there(GROUP_FAILOVER, false));
    assert_non_null(strstr(side_of(TWO, owner_at(TWO, V_A))->operator_text, "still answers"));
    silence_of_the_primary();
    inner(TWO, owner_at(TWO, V_A))->second.receiver.consistent = false;
    assert_false(operate_there(GROUP_FAILOVER, false));
    assert_non_null(strstr(side_of(TWO, owner_at(TWO, V_A))->operator_text, "not consistent"));
    assert_false(operate(TWO, owner_at(TWO, V_A) ^ 1, GROUP_FAILOVER, true));
    assert_true(operate_there(GROUP_FAILOVER, true));
    assert_false(operate_there(GROUP_FAILOVER, true));
    assert_false(operate(ONE, A, GROUP_FAILOVER, true));
}

static void what_is_held_and_not_promoted_is_not_shown(void **state)
{
    until_consistent(TWO);
    assert_int_equal(write_at(ONE, A, V_A, 0, 4, 0x41), HOST_OK);
    pass_both_ms(50);
    between.hold_batches = true;
    assert_int_equal(write_at(ONE, A, V_A, 0, 4, 0x42), HOST_OK);
    for (int i = 0; i < 200 && inner(TWO, A)->second.receiver.held_count == 0; i++) {
        between.hold_batches = false; /* one step: pages have come, their promotion has not */
        array_step(ONE, A);
        array_step(TWO, A);
        array_step(TWO, B);
        between.hold_batches = true;
        pass_time(1000);
    }
    assert_true(inner(TWO, A)->second.receiver.held_count > 0);
    between.cut = true;
    assert_true(operate_there(GROUP_FAILOVER, true));
    for (int self = A; self < PAIR; self++)
        assert_int_equal(inner(TWO, self)->second.receiver.held_count, 0);
    for (uint64_t page = 0; page < 4; page++)
        assert_page(TWO, V_A, page, 0x41);
}

static void hosts_wait_until_both_records_are_durable(void **state)
{
    for (int late = A; late < PAIR; late++) {
        begin_round(state, late);
        until_consistent(TWO);
        silence_of_the_primary();
        int owner = owner_at(TWO, V_A);
        struct side *asked = side_of(TWO, owner);
        side_of(TWO, late)->hold_records = true;
        array_operator_group(asked->array, pair_worlds[TWO].now_us, 1, 0, GROUP_FAILOVER, false);
        pass_both_ms(500);
        assert_int_equal(asked->operator_done, 0);
        for (int self = A; self < PAIR; self++)
            assert_int_equal(write_at(TWO, self, V_A, 0, 1, 1), HOST_COPY);
        side_of(TWO, late)->hold_records = false;
        pass_both_ms(20);
        assert_int_equal(asked->operator_done, 1);
        assert_int_equal(write_at(TWO, owner, V_A, 0, 1, 1), HOST_OK);
    }
}

static void a_record_that_cannot_be_kept_is_tried_again(void **state)
{
    until_consistent(TWO);
    silence_of_the_primary();
    struct side *asked = side_of(TWO, owner_at(TWO, V_A));
    asked->fail_records = true;
    array_operator_group(asked->array, pair_worlds[TWO].now_us, 1, 0, GROUP_FAILOVER, false);
    pass_both_ms(2500);
    assert_int_equal(asked->operator_done, 0);
    asked->fail_records = false;
    pass_both_ms(1100);
    assert_int_equal(asked->operator_done, 1);
}

static void a_survivor_ends_what_the_dead_one_began(void **state)
{
    until_consistent(TWO);
    silence_of_the_primary();
    int owner = owner_at(TWO, V_A);
    side_of(TWO, owner ^ 1)->hold_records = true;
    array_operator_group(array_of(TWO, owner), pair_worlds[TWO].now_us, 1, 0, GROUP_FAILOVER,
                         false);
    pass_both_ms(50);
    kill_at(TWO, owner);
    side_of(TWO, owner ^ 1)->hold_records = false;
    pass_both_ms(50);
    assert_int_equal(array_group_role(array_of(TWO, owner ^ 1), 0), GROUP_ROLE_FAILED_OVER);
    assert_int_equal(write_at(TWO, owner ^ 1, V_A, 0, 1, 1), HOST_OK);
    return_at(TWO, owner);
    assert_int_equal(site_of(TWO, owner)->kept.role, SITE_FAILED_OVER);
    assert_int_equal(site_of(TWO, owner)->kept.era, 2);
}

static void a_returned_controller_hears_of_it(void **state)
{
    fail_over_at_one();
    assert_int_equal(write_at(TWO, A, V_A, 7, 1, 0x71), HOST_OK);
    return_at(TWO, B);
    pass_both_ms(50);
    assert_int_equal(site_of(TWO, B)->kept.era, 2);
    kill_at(TWO, A);
    pass_both_ms(50);
    assert_page(TWO, V_A, 7, 0x71);
    assert_int_equal(write_at(TWO, B, V_A, 8, 1, 0x72), HOST_OK);
    assert_int_equal(regions_left(&inner(TWO, B)->sender.regions), 1);
}

/* ---- the old primary ---- */

static void an_old_primary_refuses_its_hosts_and_remembers(void **state)
{
    uint8_t fill;
    until_consistent(TWO);
    assert_true(operate_there(GROUP_FAILOVER, true));
    pass_both_ms(200);
    for (int self = A; self < PAIR; self++) {
        assert_int_equal(site_of(ONE, self)->kept.era, 2);
        assert_int_equal(write_at(ONE, self, V_A, 0, 1, 1), HOST_COPY);
        assert_int_equal(read_at(ONE, self, V_B, 0, &fill), HOST_COPY);
    }
    assert_int_equal(write_at(ONE, A, V_SAFE, 0, 1, 1), HOST_OK);
    assert_false(operate(ONE, A, GROUP_RESUME, false));
    assert_false(operate(ONE, A, GROUP_RESYNC, true));
    between.cut = true;
    kill_at(ONE, A);
    kill_at(ONE, B);
    start_at(ONE, A);
    start_at(ONE, B);
    for (int self = A; self < PAIR; self++) {
        array_operator_accept_loss(array_of(ONE, self), pair_worlds[ONE].now_us, 1, true);
        pass_both_ms(100);
    }
    until_paired(ONE);
    for (int self = A; self < PAIR; self++)
        assert_int_not_equal(write_at(ONE, self, V_A, 0, 1, 1), HOST_OK);
}

static void what_an_old_primary_still_sends_is_refused(void **state)
{
    until_consistent(TWO);
    assert_int_equal(write_at(ONE, A, V_A, 0, 4, 0x51), HOST_OK);
    pass_both_ms(50);
    between.hold_batches = true;
    assert_int_equal(write_at(ONE, A, V_A, 0, 4, 0x52), HOST_OK);
    pass_both_ms(20);
    const struct session *session = between.session[ONE];
    uint32_t refused = session[A].refused + session[B].refused;
    int owner = owner_at(TWO, V_A);
    array_operator_group(array_of(TWO, owner), pair_worlds[TWO].now_us, 1, 0, GROUP_FAILOVER, true);
    array_step(TWO, owner);
    between.hold_batches = false;
    pass_both_ms(300);
    assert_true(session[A].refused + session[B].refused > refused || !session[A].up ||
                site_of(ONE, A)->now.role != SITE_PRIMARY);
    for (uint64_t page = 0; page < 4; page++)
        assert_page(TWO, V_A, page, 0x51);
}

/* A batch of one record, as somebody makes it who knows the group. */
static bool stray_batch_is_taken(int site, uint64_t era, const struct record *record,
                                 const uint8_t *data)
{
    static uint8_t bytes[COPY_HEAD_SIZE + COPY_RECORD_SIZE + PAGE];
    uint32_t size = record_data_bytes(record);
    int self = owner_at(site, V_A);
    struct copy_head head = {.era = era,
                             .term = UINT64_C(1) << 50,
                             .cycle = UINT64_C(1) << 40,
                             .number = 1,
                             .first = UINT64_C(1) << 40,
                             .record_count = 1,
                             .data_bytes = size};
    memcpy(head.group, inner(site, self)->config->id, COPY_ID_SIZE);
    record_put(bytes + COPY_HEAD_SIZE, record);
    if (size > 0)
        memcpy(bytes + COPY_HEAD_SIZE + COPY_RECORD_SIZE, data, size);
    record_put_head(bytes, &head);
    between.stray = -1;
    array_on_copy_message(array_of(site, self), pair_worlds[site].now_us, STRAY, 0, bytes,
                          COPY_HEAD_SIZE + COPY_RECORD_SIZE + size);
    for (int i = 0; i < 100 && between.stray < 0; i++)
        settle_both();
    assert_true(between.stray >= 0);
    return between.stray == 1;
}

static void no_batch_of_an_older_era_is_taken(void **state)
{
    uint8_t page[PAGE];
    memset(page, 0xEE, sizeof page);
    const struct record record = {.type = RECORD_PAGE,
                                  .sectors = 0xFF,
                                  .generation = 1,
                                  .page = 60,
                                  .crc = crc32c(page, PAGE)};
    until_consistent(TWO);
    assert_true(operate_there(GROUP_FAILOVER, true));
    assert_false(stray_batch_is_taken(TWO, 1, &record, page));
    assert_false(stray_batch_is_taken(TWO, 2, &record, page));
    until_role(ONE, SITE_RECEIVING);
    between.hold_batches = true;
    assert_false(stray_batch_is_taken(ONE, 1, &record, page));
    assert_int_equal(inner(ONE, owner_at(ONE, V_A))->second.receiver.held_count, 0);
    assert_true(stray_batch_is_taken(ONE, 2, &record, page));
}

static void no_marks_of_another_era_are_taken(void **state)
{
    const struct record marked = {.type = RECORD_MARKED, .page = 32, .count = 1};
    const struct record outside = {.type = RECORD_MARKED, .page = LAST_PAGES, .count = 1};
    const struct record end = {.type = RECORD_MARKED_END};
    until_consistent(TWO);
    assert_false(stray_batch_is_taken(TWO, 1, &end, NULL)); /* it receives */
    silence_of_the_primary();
    assert_true(operate_there(GROUP_FAILOVER, false));
    assert_false(stray_batch_is_taken(TWO, 1, &marked, NULL));
    assert_false(stray_batch_is_taken(TWO, 1, &end, NULL));
    assert_false(stray_batch_is_taken(TWO, 4, &end, NULL));
    assert_false(stray_batch_is_taken(TWO, 2, &outside, NULL));
    assert_false(site_of(TWO, A)->now.marks);
    assert_int_equal(regions_left(&inner(TWO, A)->sender.regions), 0);
    assert_true(stray_batch_is_taken(TWO, 2, &marked, NULL));
    assert_int_equal(regions_left(&inner(TWO, A)->sender.regions), 1);
    assert_true(stray_batch_is_taken(TWO, 2, &end, NULL));
    pass_both_ms(20);
    for (int self = A; self < PAIR; self++) {
        assert_true(site_of(TWO, self)->now.marks);
        assert_true(regions_marked(&inner(TWO, self)->sender.regions, 0, 32));
    }
}

/* ---- the way back ---- */

/* At site ONE what never came to TWO, at TWO what was written after the failover. */
static void diverge(void)
{
    until_consistent(TWO);
    for (uint64_t page = 0; page < 64; page += 4) {
        assert_int_equal(write_at(ONE, A, V_A, page, 1, 0x10), HOST_OK);
        assert_int_equal(write_at(ONE, B, V_B, page, 1, 0x11), HOST_OK);
    }
    pass_both_ms(100);
    between.cut = true;
    pass_both_ms(100);
    assert_int_equal(write_at(ONE, A, V_A, 4, 2, 0x20), HOST_OK);  /* overwritten there */
    assert_int_equal(write_at(ONE, B, V_B, 32, 2, 0x21), HOST_OK); /* not touched there */
    pass_both_ms(5100);
    assert_true(operate_there(GROUP_FAILOVER, false));
    int owner = owner_at(TWO, V_A);
    assert_int_equal(write_at(TWO, owner, V_A, 4, 1, 0x30), HOST_OK);
    assert_int_equal(write_at(TWO, owner, V_B, 48, 1, 0x31), HOST_OK);
    between.cut = false;
    pass_both_ms(500);
}

static void reversed_only_what_differs_comes_back(void **state)
{
    diverge();
    until_role(ONE, SITE_RECEIVING);
    for (int self = A; self < PAIR; self++) {
        assert_true(site_of(TWO, self)->now.marks);
        assert_int_equal(regions_left(&inner(ONE, self)->sender.regions), 0);
        /* 4 at both, 32 at the old primary, 48 here: by regions of 16 pages */
        assert_int_equal(regions_left(&inner(TWO, self)->sender.regions), 3);
    }
    assert_true(operate_there(GROUP_REVERSE, false));
    until_consistent(ONE);
    pass_both_ms(100);
    uint64_t sent = base_pages_at(TWO);
    assert_int_equal(sent, 3 * 16);
    assert_sites_are_equal();
    assert_page(ONE, V_A, 4, 0x30);
    assert_page(ONE, V_B, 32, 0x11);
    assert_page(ONE, V_B, 48, 0x31);
}

static void going_home_loses_nothing_and_copies_nothing_untouched(void **state)
{
    diverge();
    assert_true(operate_there(GROUP_REVERSE, false));
    until_consistent(ONE);
    int owner = owner_at(TWO, V_A);
    assert_int_equal(write_at(TWO, owner, V_A, 12, 1, 0x61), HOST_OK);
    pass_both_ms(200);
    assert_true(operate(TWO, owner, GROUP_SUSPEND, false));
    pass_both_ms(200);
    assert_int_equal(regions_left(&inner(TWO, owner)->sender.regions), 0);
    assert_true(operate(ONE, owner_at(ONE, V_A), GROUP_FAILOVER, true));
    until_role(TWO, SITE_RECEIVING);
    assert_page(ONE, V_A, 12, 0x61);
    assert_page(ONE, V_A, 4, 0x30);
    assert_int_equal(write_at(ONE, owner_at(ONE, V_B), V_B, 20, 1, 0x62), HOST_OK);
    uint64_t before = base_pages_at(ONE);
    assert_true(operate(ONE, owner_at(ONE, V_A), GROUP_REVERSE, false));
    until_consistent(TWO);
    uint64_t sent = base_pages_at(ONE) - before;
    assert_int_equal(sent, 16);
    for (int self = A; self < PAIR; self++)
        assert_int_equal(site_of(ONE, self)->now.era, 3);
    assert_sites_are_equal();
}

static void a_reverse_before_the_old_primary_is_back_waits_for_it(void **state)
{
    until_consistent(TWO);
    assert_int_equal(write_at(ONE, A, V_A, 0, 2, 0x71), HOST_OK);
    pass_both_ms(100);
    silence_of_the_primary();
    assert_int_equal(write_at(ONE, A, V_A, 0, 2, 0x72), HOST_OK);
    assert_true(operate_there(GROUP_FAILOVER, false));
    assert_true(operate_there(GROUP_REVERSE, false));
    pass_both_ms(500);
    assert_int_equal(write_at(TWO, owner_at(TWO, V_A), V_A, 9, 1, 0x73), HOST_OK);
    between.cut = false;
    until_consistent(ONE);
    assert_int_equal(site_of(ONE, A)->now.role, SITE_RECEIVING);
    assert_sites_are_equal();
    assert_page(ONE, V_A, 0, 0x71);
}

static void a_site_with_one_controller_receives(void **state)
{
    until_consistent(TWO);
    kill_at(ONE, B);
    assert_int_equal(write_at(ONE, A, V_A, 2, 1, 0x75), HOST_OK);
    pass_both_ms(100);
    assert_true(operate_there(GROUP_FAILOVER, true));
    assert_true(operate_there(GROUP_REVERSE, false));
    until_consistent(ONE);
    return_at(ONE, B);
    until_consistent(ONE);
    pass_both_ms(100);
    assert_sites_are_equal();
}

static void controllers_of_both_sites_die_on_the_way_back(void **state)
{
    for (int dies = 0; dies < 4; dies++) {
        begin_round(state, dies);
        diverge();
        assert_true(operate_there(GROUP_REVERSE, false));
        pass_both_ms(20 * (uint32_t)dies);
        kill_at(dies % 2, dies / 2);
        pass_both_ms(300);
        return_at(dies % 2, dies / 2);
        until_consistent(ONE);
        pass_both_ms(300);
        assert_sites_are_equal();
    }
}

/* ---- records ---- */

static void a_clean_stop_keeps_role_and_bitmap(void **state)
{
    write_while_cut(40, 0x81);
    stop_both(ONE);
    assert_int_equal(site_of(ONE, B)->kept.stop, SITE_STOPPED);
    start_at(ONE, B); /* which was the last */
    pass_both_ms(200);
    assert_int_equal(regions_left(&inner(ONE, B)->sender.regions), 1);
    assert_true(regions_marked(&inner(ONE, B)->sender.regions, 0, 40));
    return_at(ONE, A);
    assert_int_equal(regions_left(&inner(ONE, A)->sender.regions), 1);
    uint64_t sent = base_pages_at(ONE);
    between.cut = false;
    until_consistent(TWO);
    pass_both_ms(100);
    assert_int_equal(base_pages_at(ONE), sent + 16);
    assert_sites_are_equal();
}

static void after_an_unclean_end_everything_is_marked(void **state)
{
    until_consistent(TWO);
    stop_both(ONE);
    between.cut = true;
    start_at(ONE, B);
    pass_both_ms(200);
    kill_at(ONE, B);
    start_at(ONE, B);
    pass_both_ms(200);
    array_operator_accept_loss(array_of(ONE, B), pair_worlds[ONE].now_us, 1, true);
    pass_both_ms(200);
    assert_int_equal(regions_left(&inner(ONE, B)->sender.regions),
                     2 * (uint64_t)(VOLUME_BYTES / PAGE / COPY_REGION_PAGES));
}

static void what_an_accepted_loss_left_is_not_copied_over_a_better_copy(void **state)
{
    uint8_t fill;
    until_consistent(TWO);
    side_of(ONE, A)->hold_store = side_of(ONE, B)->hold_store = true;
    assert_int_equal(write_at(ONE, A, V_A, 0, 8, 0x85), HOST_OK);
    pass_both_ms(100);
    lose_memory_at(ONE);
    pass_both_ms(3000);
    assert_true(inner(ONE, A)->suspended && inner(ONE, B)->suspended);
    assert_non_null(strstr(inner(ONE, A)->reason, "a loss was accepted here"));
    assert_true(operate(TWO, A, GROUP_FAILOVER, true));
    assert_int_equal(read_at(TWO, A, V_A, 0, &fill), HOST_OK);
    assert_int_equal(fill, 0x85);
}

/* The first record of the stop may be the last that can be kept. */
static void a_stop_at_once_does_not_forget_that_a_loss_was_accepted(void **state)
{
    until_consistent(TWO);
    side_of(ONE, A)->hold_store = side_of(ONE, B)->hold_store = true;
    assert_int_equal(write_at(ONE, A, V_A, 0, 8, 0x87), HOST_OK);
    pass_both_ms(100);
    kill_at(ONE, B);
    kill_at(ONE, A);
    start_at(ONE, A);
    pass_both_ms(100);
    side_of(ONE, A)->hold_records = true;
    array_operator_accept_loss(array_of(ONE, A), pair_worlds[ONE].now_us, 1, true);
    ask_stop(ONE, A);
    pass_both_ms(1000);
    assert_true(side_of(ONE, A)->records[0].due);
    side_of(ONE, A)->hold_records = false;
    array_step(ONE, A);
    side_of(ONE, A)->fail_records = true;
    until_stopped(ONE, A);
    side_of(ONE, A)->fail_records = false;
    start_at(ONE, A);
    pass_both_ms(500);
    assert_true(inner(ONE, A)->suspended);
}

static void a_stopped_second_array_goes_on_where_it_was(void **state)
{
    until_consistent(TWO);
    uint64_t sent = base_pages_at(ONE);
    stop_both(TWO);
    assert_int_equal(write_at(ONE, A, V_A, 40, 1, 0x82), HOST_OK);
    start_at(TWO, B);
    return_at(TWO, A);
    until_consistent(TWO);
    pass_both_ms(100);
    assert_true(base_pages_at(ONE) <= sent + 16);
    assert_sites_are_equal();
}

static void a_second_array_that_lost_what_it_had_gets_everything(void **state)
{
    until_consistent(TWO);
    assert_int_equal(write_at(ONE, A, V_A, 0, 8, 0x83), HOST_OK);
    pass_both_ms(50);
    side_of(TWO, A)->hold_store = side_of(TWO, B)->hold_store = true;
    assert_int_equal(write_at(ONE, A, V_A, 0, 8, 0x84), HOST_OK);
    pass_both_ms(50);
    lose_memory_at(TWO);
    until_consistent(TWO);
    pass_both_ms(100);
    assert_sites_are_equal();
    assert_page(ONE, V_A, 0, 0x84);
}

/* Its bitmap and the other site's are not all that differs: both memories are gone, and with them
 * what both sites had in common. */
static void
an_old_primary_that_loses_its_memory_before_the_first_cycle_gets_everything(void **state)
{
    until_consistent(TWO);
    side_of(ONE, A)->hold_store = side_of(ONE, B)->hold_store = true;
    assert_int_equal(write_at(ONE, A, V_A, 0, 8, 0x86), HOST_OK);
    until_consistent(TWO);
    pass_both_ms(100);
    assert_true(operate_there(GROUP_FAILOVER, true));
    pass_both_ms(1500);
    assert_int_equal(site_of(ONE, A)->now.role, SITE_RECEIVING);
    between.hold_batches = true;
    assert_true(operate_there(GROUP_REVERSE, false));
    pass_both_ms(1500);
    assert_int_equal(site_of(TWO, A)->known_cycle, 0);
    lose_memory_at(ONE);
    between.hold_batches = false;
    until_consistent(ONE);
    pass_both_ms(100);
    assert_sites_are_equal();
    assert_page(TWO, V_A, 0, 0x86);
}

/* What it lost, the first site has no bit for: it never heard of the loss. */
static void a_copy_that_lost_its_memory_and_is_failed_over_is_copied_back_whole(void **state)
{
    until_consistent(TWO);
    side_of(TWO, A)->hold_store = side_of(TWO, B)->hold_store = true;
    assert_int_equal(write_at(ONE, A, V_A, 0, 8, 0x87), HOST_OK);
    until_consistent(TWO);
    pass_both_ms(100);
    between.cut = true;
    pass_both_ms(100);
    lose_memory_at(TWO);
    assert_true(operate_there(GROUP_FAILOVER, true));
    between.cut = false;
    pass_both_ms(1500);
    assert_true(operate_there(GROUP_REVERSE, false));
    until_consistent(ONE);
    pass_both_ms(100);
    assert_sites_are_equal();
}

/* By both controllers of the second site. */
static void assert_known(enum site_role role, uint64_t era)
{
    for (int self = A; self < PAIR; self++) {
        assert_false(site_of(TWO, self)->now.unknown);
        assert_int_equal(site_of(TWO, self)->now.role, role);
        assert_int_equal(site_of(TWO, self)->now.era, era);
    }
}

/* Both were kept in the pair's same epoch; one of them after the failover. */
static void of_two_records_of_one_epoch_the_later_step_counts(void **state)
{
    until_consistent(TWO);
    silence_of_the_primary();
    int owner = owner_at(TWO, V_A), other = owner ^ 1;
    side_of(TWO, other)->hold_records = true;
    array_operator_group(array_of(TWO, owner), pair_worlds[TWO].now_us, 1, 0, GROUP_FAILOVER,
                         false);
    pass_both_ms(50);
    side_of(TWO, owner)->hold_records = true;
    kill_at(TWO, other);
    pass_both_ms(50);
    kill_at(TWO, owner);
    side_of(TWO, owner)->hold_records = side_of(TWO, other)->hold_records = false;
    start_at(TWO, other);
    pass_both_ms(100);
    array_operator_accept_loss(array_of(TWO, other), pair_worlds[TWO].now_us, 1, true);
    pass_both_ms(300);
    assert_int_equal(site_of(TWO, other)->now.era, 1);
    assert_true(site_of(TWO, other)->now.unknown);
    return_at(TWO, owner);
    pass_both_ms(100);
    assert_known(SITE_FAILED_OVER, 2);
}

static void an_older_record_is_not_believed(void **state)
{
    uint8_t fill;
    fail_over_at_one();
    assert_int_equal(write_at(TWO, A, V_A, 5, 1, 0x91), HOST_OK);
    ask_stop(TWO, A);
    until_stopped(TWO, A);
    start_at(TWO, B); /* alone, with a record of the first era */
    pass_both_ms(300);
    assert_true(site_of(TWO, B)->now.unknown);
    pair_use(TWO); /* it waits for the other controller first */
    uint32_t waits = ask_read(B, V_A, 5 * PAGE, PAGE);
    assert_int_equal(array_service(array_of(TWO, B), V_A), ARRAY_HELD);
    pass_both_ms(5000);
    assert_false(pair.seen[waits].complete);
    pass_both_ms(5000);
    assert_int_equal(pair.seen[waits].result, HOST_COPY);
    pair_use(ONE);
    assert_int_equal(array_service(array_of(TWO, B), V_A), ARRAY_UNSERVED);
    assert_int_equal(read_at(TWO, B, V_A, 5, &fill), HOST_COPY);
    between.cut = false; /* the old primary's batches must not come in */
    pass_both_ms(500);
    between.cut = true;
    assert_int_equal(site_of(TWO, B)->now.era, 1);
    assert_int_equal(inner(TWO, B)->second.receiver.held_count, 0);
    return_at(TWO, A);
    pass_both_ms(100);
    assert_known(SITE_FAILED_OVER, 2);
    assert_page(TWO, V_A, 5, 0x91);
}

/* It has no bit for what hosts wrote since, and the one that comes back has none either: it is
 * filled with what is here. */
static void who_began_as_a_copy_marks_everything_when_the_truth_is_here(void **state)
{
    fail_over_at_one();
    assert_true(operate(TWO, A, GROUP_REVERSE, false));
    assert_int_equal(write_at(TWO, A, V_A, 5, 1, 0x91), HOST_OK);
    pass_both_ms(6000); /* it is on the store */
    kill_at(TWO, A);
    begin_in_doubt_at(TWO, B, SITE_RECEIVING); /* alone, with a record of the first era */
    return_at(TWO, A);
    pass_both_ms(100);
    assert_known(SITE_PRIMARY, 2);
    for (int self = A; self < PAIR; self++)
        assert_true(regions_marked(&inner(TWO, self)->sender.regions, 0, 5));
    between.cut = false;
    pass_both_ms(300);
    for (int self = A; self < PAIR; self++) /* the other site's copy may be the better one */
        assert_true(inner(TWO, self)->suspended);
    assert_int_equal(inner(ONE, A)->second.receiver.held_count, 0);
    assert_true(operate(TWO, owner_at(TWO, V_A), GROUP_RESUME, false));
    until_consistent(ONE);
    pass_both_ms(100);
    assert_sites_are_equal();
}

static void assert_receivers_know_the_same(int site)
{
    const struct receiver *a = &inner(site, A)->second.receiver;
    const struct receiver *b = &inner(site, B)->second.receiver;
    assert_int_equal(a->memory, b->memory);
    assert_int_equal(a->term, b->term);
    assert_int_equal(a->promoted, b->promoted);
}

/* The survivor, with the older record, begins to receive with nothing: the other one has to tell
 * what had been received. */
static void who_begins_to_receive_late_hears_what_is_known(void **state)
{
    until_consistent(TWO);
    kill_at(ONE, B);
    assert_true(operate_there(GROUP_FAILOVER, true));
    assert_true(operate_there(GROUP_REVERSE, false));
    until_consistent(ONE);
    pass_both_ms(300);
    assert_true(inner(ONE, A)->second.receiver.promoted > 0);
    kill_at(ONE, A);
    between.cut = true;
    begin_in_doubt_at(ONE, B, SITE_PRIMARY);
    return_at(ONE, A);
    pass_both_ms(300);
    for (int self = A; self < PAIR; self++) {
        assert_false(site_of(ONE, self)->now.unknown);
        assert_int_equal(site_of(ONE, self)->now.role, SITE_RECEIVING);
    }
    assert_receivers_know_the_same(ONE);
    between.cut = false;
    until_consistent(ONE);
    assert_receivers_know_the_same(ONE);
    assert_sites_are_equal();
}

/* Its directory is new, or nothing could ever be kept there. */
static void without_a_record_nothing_is_believed_but_at_the_first_start(void **state)
{
    fail_over_at_one();
    assert_int_equal(write_at(TWO, A, V_A, 5, 1, 0x91), HOST_OK);
    ask_stop(TWO, A);
    until_stopped(TWO, A);
    side_of(TWO, B)->records[0].there = false;
    start_at(TWO, B);
    pass_both_ms(300);
    assert_true(site_of(TWO, B)->now.unknown);
    assert_int_equal(array_service(array_of(TWO, B), V_A), ARRAY_HELD);
    return_at(TWO, A);
    pass_both_ms(100);
    assert_known(SITE_FAILED_OVER, 2);
    assert_page(TWO, V_A, 5, 0x91);
}

static void where_nobody_has_a_record_it_is_the_first_era(void **state)
{
    until_consistent(TWO);
    silence_of_the_primary();
    stop_both(TWO);
    for (int self = A; self < PAIR; self++)
        side_of(TWO, self)->records[0].there = false;
    start_at(TWO, A);
    pass_both_ms(300);
    assert_true(site_of(TWO, A)->now.unknown);
    return_at(TWO, B);
    pass_both_ms(100);
    assert_known(SITE_RECEIVING, 1);
}

static void hosts_wait_for_the_controller_that_stopped_last(void **state)
{
    until_consistent(TWO);
    assert_int_equal(write_at(ONE, A, V_A, 6, 1, 0x95), HOST_OK);
    stop_one_after_the_other(ONE, B);
    between.cut = true;
    start_at(ONE, A);
    pass_both_ms(200);
    pair_use(ONE);
    uint32_t waits = ask_read(A, V_A, 6 * PAGE, PAGE);
    pass_both_ms(300);
    assert_true(site_of(ONE, A)->now.unknown);
    assert_false(pair.seen[waits].complete);
    return_at(ONE, B);
    pass_both_ms(100);
    assert_ok(waits);
    assert_bytes(pair.seen[waits].data, PAGE, 0x95);
    between.cut = false;
    until_consistent(TWO);
    assert_sites_are_equal();
}

static void records_that_cannot_be_the_groups_count_as_none(void **state)
{
    until_consistent(TWO);
    stop_both(ONE);
    struct kept_record *kept = &side_of(ONE, B)->records[0];
    assert_true(kept->there && kept->length_bytes > 96);
    uint32_t length = kept->length_bytes;
    uint8_t *good = malloc(length), *wrong = malloc(length);
    memcpy(good, kept->bytes, length);
    kept->there = false;
    pair_use(ONE);
    pair_create_side(B);
    struct array *array = pair.side[B].array;
    for (uint32_t bit = 0; bit < 8 * length; bit++) {
        memcpy(wrong, good, length);
        wrong[bit / 8] ^= (uint8_t)(1u << bit % 8);
        array_load_group(array, 0, wrong, length);
        assert_int_equal(site_of(ONE, B)->kept.epoch, 0);
        assert_false(site_of(ONE, B)->bitmap_loaded);
    }
    for (uint32_t shorter = 0; shorter < length; shorter += 7) {
        array_load_group(array, 0, good, shorter);
        assert_false(site_of(ONE, B)->bitmap_loaded);
    }
    array_load_group(array, 0, good, length);
    assert_true(site_of(ONE, B)->bitmap_loaded);
    free(good);
    free(wrong);
    side_of(ONE, B)->dead = true;
}

static void a_suspension_outlives_a_stop(void **state)
{
    until_consistent(TWO);
    assert_true(operate(ONE, A, GROUP_SUSPEND, false));
    pass_both_ms(50);
    stop_both(ONE);
    start_at(ONE, B);
    return_at(ONE, A);
    pass_both_ms(300);
    for (int self = A; self < PAIR; self++)
        assert_true(inner(ONE, self)->suspended);
    assert_true(operate(ONE, A, GROUP_RESUME, false));
    until_consistent(TWO);
}

/* The other site says that nobody has failed over; what the one that is gone did, it does not know.
 */
static void a_suspension_outlives_the_controller_that_knew_of_it(void **state)
{
    until_consistent(TWO);
    kill_at(ONE, B);
    side_of(ONE, B)->records[0].there = false;
    pass_both_ms(3000);
    assert_true(operate(ONE, A, GROUP_SUSPEND, false));
    assert_int_equal(write_at(ONE, A, V_A, 7, 1, 0x97), HOST_OK);
    ask_stop(ONE, A);
    until_stopped(ONE, A);
    start_at(ONE, B);
    pass_both_ms(3000);
    assert_false(site_of(ONE, B)->now.unknown);
    assert_true(inner(ONE, B)->suspended);
    assert_non_null(strstr(inner(ONE, B)->reason, "has served alone"));
    assert_true(operate(ONE, B, GROUP_RESUME, false));
    until_consistent(TWO);
    pass_both_ms(100);
    assert_page(ONE, V_A, 7, 0x97);
    assert_sites_are_equal();
}

static void a_resync_copies_what_is_asked_for(void **state)
{
    until_consistent(TWO);
    uint64_t sent = base_pages_at(ONE);
    assert_true(operate(ONE, A, GROUP_RESYNC, true));
    pass_both_ms(20);
    until_consistent(TWO);
    pass_both_ms(100);
    assert_int_equal(base_pages_at(ONE), sent + 2 * LAST_PAGES);
    assert_true(operate(ONE, A, GROUP_RESYNC, false));
    until_consistent(TWO);
    assert_sites_are_equal();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(a_copy_refuses_hosts),
        TEST(an_exposed_copy_is_read_and_not_written),
        TEST(failed_over_hosts_are_served_from_the_promoted_cycle),
        TEST(a_failover_while_the_primary_answers_wants_force),
        TEST(what_is_held_and_not_promoted_is_not_shown),
        TEST(hosts_wait_until_both_records_are_durable),
        TEST(a_record_that_cannot_be_kept_is_tried_again),
        TEST(a_survivor_ends_what_the_dead_one_began),
        TEST(a_returned_controller_hears_of_it),
        TEST(an_old_primary_refuses_its_hosts_and_remembers),
        TEST(what_an_old_primary_still_sends_is_refused),
        TEST(no_batch_of_an_older_era_is_taken),
        TEST(no_marks_of_another_era_are_taken),
        TEST(reversed_only_what_differs_comes_back),
        TEST(going_home_loses_nothing_and_copies_nothing_untouched),
        TEST(a_reverse_before_the_old_primary_is_back_waits_for_it),
        TEST(a_site_with_one_controller_receives),
        TEST(controllers_of_both_sites_die_on_the_way_back),
        TEST(a_clean_stop_keeps_role_and_bitmap),
        TEST(after_an_unclean_end_everything_is_marked),
        TEST(what_an_accepted_loss_left_is_not_copied_over_a_better_copy),
        TEST(a_stop_at_once_does_not_forget_that_a_loss_was_accepted),
        TEST(a_stopped_second_array_goes_on_where_it_was),
        TEST(a_second_array_that_lost_what_it_had_gets_everything),
        TEST(an_old_primary_that_loses_its_memory_before_the_first_cycle_gets_everything),
        TEST(a_copy_that_lost_its_memory_and_is_failed_over_is_copied_back_whole),
        TEST(of_two_records_of_one_epoch_the_later_step_counts),
        TEST(an_older_record_is_not_believed),
        TEST(who_began_as_a_copy_marks_everything_when_the_truth_is_here),
        TEST(who_begins_to_receive_late_hears_what_is_known),
        TEST(without_a_record_nothing_is_believed_but_at_the_first_start),
        TEST(where_nobody_has_a_record_it_is_the_first_era),
        TEST(hosts_wait_for_the_controller_that_stopped_last),
        TEST(records_that_cannot_be_the_groups_count_as_none),
        TEST(a_suspension_outlives_a_stop),
        TEST(a_suspension_outlives_the_controller_that_knew_of_it),
        TEST(a_resync_copies_what_is_asked_for),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
