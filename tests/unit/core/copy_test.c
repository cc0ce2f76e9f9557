/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The primary side of the remote copy: a pair whose volumes are copied to a second array. What is
 * promoted there is always a state that hosts could have seen here; nothing is forgotten, whoever
 * dies; and in the end both sites are the same. */

#include "array/internal.h"
#include "copy_second.h"

static int set_up(void **state)
{
    (void)state;
    return set_up_copy(512, 60);
}

static int tear_down(void **state)
{
    second_destroy();
    return pair_destroy(state);
}

static void until_consistent(void)
{
    for (int i = 0; i < 500; i++) {
        pass_ms(10);
        if (second.receiver.consistent && (second.receiver.held_count == 0))
            return;
    }
    fail_msg("never consistent: %s, %s", group_of(A)->reason, group_of(B)->reason);
}

static void assert_shows(int volume, uint64_t page, uint64_t pages, uint8_t fill)
{
    assert_bytes(second.visible[volume] + page * PAGE, pages * PAGE, fill);
}

/* ---- one thing at a time ---- */

static void what_hosts_write_is_shown_there(void **state)
{
    until_consistent();
    write_now(A, V_A, 3 * PAGE, 2 * PAGE, 0x11);
    write_now(B, V_B, 9 * PAGE, PAGE, 0x22);
    pass_ms(50);
    assert_shows(0, 3, 2, 0x11);
    assert_shows(1, 9, 1, 0x22);
    assert_int_equal(group_of(A)->pinned_pages + group_of(B)->pinned_pages, 0);
    assert_int_equal(group_of(A)->tagged_pages + group_of(B)->tagged_pages, 0);
    assert_int_equal(group_of(A)->state, GROUP_COPYING);
    assert_true(group_of(A)->leader != group_of(B)->leader);
}

static void what_is_on_its_way_does_not_change(void **state)
{
    until_consistent();
    second.hold_answers = true;
    for (int i = 1; i <= 8; i++) {
        write_now(A, V_A, 0, PAGE, (uint8_t)i);
        write_now(B, V_B, 0, PAGE, (uint8_t)(0x80 + i));
        pass_ms(10);
    }
    assert_true(group_of(A)->pinned_pages >= 2);
    assert_true(group_of(B)->tagged_pages >= 1); /* the newest of each page, in its image */
    assert_int_equal(group_of(B)->marked_regions, 0);
    destage_all();
    second.hold_answers = false; /* each batch is compared with what it was */
    pass_ms(50);
    assert_shows(0, 0, 1, 8);
    assert_shows(1, 0, 1, 0x88);
    assert_int_equal(group_of(A)->pinned_pages, 0);
}

static void pinned_pages_stay_while_others_are_read(void **state)
{
    until_consistent();
    second.hold_answers = true;
    write_now(A, V_A, 0, 20 * PAGE, 0x33);
    pass_ms(10);
    destage_all();
    for (uint64_t page = 100; page < 900; page++)
        assert_reads(A, V_A, page * PAGE, PAGE, 0);
    second.hold_answers = false;
    pass_ms(50);
    assert_shows(0, 0, 20, 0x33);
}

static void a_survivor_sends_what_the_dead_one_had_not(void **state)
{
    for (int dies = A; dies < PAIR; dies++) {
        if (dies == B) {
            tear_down(state);
            set_up(state);
        }
        until_consistent();
        second.hold_answers = true;
        write_now(A, V_A, 0, 4 * PAGE, 0x41);
        pass_ms(10);
        write_now(A, V_A, 2 * PAGE, 4 * PAGE, 0x42);
        write_now(B, V_B, 0, 4 * PAGE, 0x43);
        pass_ms(10);
        write_now(B, V_B, PAGE, PAGE, 0x44);
        destage_all();
        session_lost(&second.session[dies]);
        kill_side(dies);
        second.hold_answers = false;
        until_consistent();
        pass_ms(100);
        assert_shows(0, 0, 2, 0x41);
        assert_shows(0, 2, 4, 0x42);
        assert_shows(1, 0, 1, 0x43);
        assert_shows(1, 1, 1, 0x44);
        assert_shows(1, 2, 2, 0x43);
        assert_int_equal(group_of(dies ^ 1)->restarts, 1);
        assert_int_equal(group_of(dies ^ 1)->falls, 0);
    }
}

static void return_of(int self)
{
    session_lost(&second.session[self]);
    pair_create_side(self);
    pair.side[self].up_due = pair.side[self ^ 1].up_due = true;
    for (int i = 0; i < 1000; i++) {
        pass_ms(10);
        if (status_of(A)->role == ROLE_PAIRED && status_of(B)->role == ROLE_PAIRED)
            return;
    }
    fail_msg("never paired again");
}

static void a_returned_peer_knows_what_is_pending(void **state)
{
    until_consistent();
    second.hold_answers = true;
    write_now(A, V_A, 0, 4 * PAGE, 0x51);
    pass_ms(10);
    destage_all();
    session_lost(&second.session[B]);
    kill_side(B);
    write_now(A, V_A, 2 * PAGE, 4 * PAGE, 0x52);
    write_now(A, V_B, 7 * PAGE, PAGE, 0x53);
    pass_ms(20);
    return_of(B);
    session_lost(&second.session[A]);
    kill_side(A);
    second.hold_answers = false;
    pass_ms(200);
    assert_shows(0, 0, 2, 0x51);
    assert_shows(0, 2, 4, 0x52);
    assert_shows(1, 7, 1, 0x53);
}

static void past_the_budget_regions_are_marked_and_sent_later(void **state)
{
    until_consistent();
    second.hold_answers = true;
    for (uint64_t page = 0; page < 200; page += 10)
        write_now(A, V_A, page * PAGE, 10 * PAGE, 0x61);
    pass_ms(100);
    assert_int_equal(group_of(A)->state, GROUP_FALLEN);
    assert_int_equal(group_of(B)->state, GROUP_FALLEN);
    assert_true(group_of(A)->marked_regions > 0);
    assert_int_equal(group_of(A)->marked_regions, group_of(B)->marked_regions);
    assert_int_equal(group_of(A)->pinned_pages + group_of(B)->tagged_pages, 0);
    write_now(A, V_A, 500 * PAGE, PAGE, 0x62);
    second.hold_answers = false;
    pass_ms(2000);
    until_consistent();
    assert_shows(0, 0, 200, 0x61);
    assert_shows(0, 500, 1, 0x62);
    assert_int_equal(group_of(A)->marked_regions + group_of(B)->marked_regions, 0);
}

static void bits_outlive_the_controller_that_set_them(void **state)
{
    until_consistent();
    array_operator_group(pair.side[B].array, pair.now_us, 1, 0, GROUP_SUSPEND, false);
    pass_ms(100);
    assert_int_equal(group_of(A)->state, GROUP_SUSPENDED);
    assert_int_equal(group_of(B)->state, GROUP_SUSPENDED);
    write_now(A, V_A, 20 * PAGE, 4 * PAGE, 0x71);
    write_now(B, V_B, 1023 * PAGE, 5 * SECTOR_SIZE, 0x72);
    destage_all();
    session_lost(&second.session[A]);
    kill_side(A);
    return_of(A);
    pass_ms(2000);
    session_lost(&second.session[B]);
    kill_side(B);
    pass_ms(2000);
    assert_shows(0, 20, 4, 0);
    array_operator_group(pair.side[A].array, pair.now_us, 1, 0, GROUP_RESUME, false);
    pass_ms(1500);
    until_consistent();
    assert_shows(0, 20, 4, 0x71);
    assert_bytes(second.visible[1] + 1023 * PAGE, 5 * SECTOR_SIZE, 0x72);
}

static void discarded_pages_are_zero_there_too(void **state)
{
    until_consistent();
    write_now(A, V_A, 0, 40 * PAGE, 0x81);
    pass_ms(50);
    assert_shows(0, 0, 40, 0x81);
    second.hold_answers = true;
    write_now(A, V_A, 0, 40 * PAGE, 0x82);
    pass_ms(10);
    uint32_t trim = ask(A, HOST_TRIM, V_A, 4 * PAGE, 30 * PAGE, 0, 0);
    settle();
    assert_ok(trim);
    assert_int_equal(group_of(A)->range_pages, 30); /* nobody may believe that all is there */
    assert_int_equal(group_of(B)->range_pages, 30);
    write_now(A, V_A, 6 * PAGE, PAGE, 0x83);
    pass_ms(10);
    second.hold_answers = false;
    pass_ms(50);
    assert_int_equal(group_of(A)->range_pages + group_of(B)->range_pages, 0);
    assert_shows(0, 0, 4, 0x82);
    assert_shows(0, 4, 2, 0);
    assert_shows(0, 6, 1, 0x83);
    assert_shows(0, 7, 27, 0);
    assert_shows(0, 34, 6, 0x82);
}

/* The store has zeroed a range, and its owner dies before anybody was told. */
static void what_the_store_discarded_unheard_is_looked_at_again(void **state)
{
    write_now(A, V_A, 0, 40 * PAGE, 0x91);
    until_consistent();
    destage_all();
    /* None of it stays in the cache, nor in the peer's image. */
    for (uint64_t page = 0; page < 600; page++) {
        for (int turn = 0; turn < 4; turn++)
            assert_reads(A, V_A, (200 + page) * PAGE, PAGE, 0);
    }
    pass_ms(50);
    assert_shows(0, 0, 40, 0x91);
    uint32_t trim = ask(A, HOST_TRIM, V_A, 4 * PAGE, 32 * PAGE, 0, 0);
    for (int i = 0; i < 100 && pair.asked[STORE_TRIM] == 0; i++) {
        side_step(A);
        if (pair.asked[STORE_TRIM] == 0)
            side_step(B);
    }
    assert_int_equal(pair.asked[STORE_TRIM], 1);
    store_move(&pair.side[A].ops[0]);
    memset(store_at(V_A, 4 * PAGE), 0, 32 * PAGE);
    assert_false(is_done(trim));
    session_lost(&second.session[A]);
    kill_side(A);
    pass_ms(3000);
    until_consistent();
    uint32_t read = ask_read(B, V_A, 0, 40 * PAGE);
    settle();
    assert_ok(read);
    assert_memory_equal(second.visible[0], pair.seen[read].data, 40 * PAGE);
}

static void a_volume_that_moves_is_followed(void **state)
{
    until_consistent();
    second.hold_answers = true;
    write_now(A, V_A, 0, 4 * PAGE, 0xA1);
    pass_ms(10);
    array_operator_move(pair.side[A].array, pair.now_us, 5, V_A, B);
    pass_ms(3000);
    assert_int_equal(array_owner(pair.side[B].array, V_A), 1);
    write_now(B, V_A, PAGE, PAGE, 0xA2);
    write_now(B, V_A, 2 * PAGE, SECTOR_SIZE, 0xA3);
    pass_ms(10);
    second.hold_answers = false;
    pass_ms(100);
    assert_shows(0, 0, 1, 0xA1);
    assert_shows(0, 1, 1, 0xA2);
    assert_bytes(second.visible[0] + 2 * PAGE, SECTOR_SIZE, 0xA3);
    assert_bytes(second.visible[0] + 2 * PAGE + SECTOR_SIZE, PAGE - SECTOR_SIZE, 0xA1);
    assert_shows(0, 3, 1, 0xA1);
}

/* While hosts are served, a cycle's pages are read when nobody waits, or after a pause, and few at
 * a time. */
static void a_piece_is_done_where_nobody_waits(void **state)
{
    until_consistent();
    int self = group_of(A)->leader ? A : B;
    uint8_t volume = self == A ? V_A : V_B;
    struct array *array = pair.side[self].array;
    const struct group *group = &array->copy.groups[0];
    write_now(self, volume, 30 * PAGE, PAGE, 0x30); /* a cut is made, and the next not at once */
    write_now(self, volume, 0, 16 * PAGE, 0x31);
    assert_int_equal(group->encoding.batch.number, 0);
    pair.now_us = sender_cut_deadline(&group->sender);
    uint32_t handle = ask_write(self, volume, 20 * PAGE, PAGE, 0x32);
    side_step(self); /* the cut, and a piece: there has been none for long */
    assert_int_equal(group->encoding.done, 8);
    side_step(self);
    assert_int_equal(array_copy_pace(array, 0), COPY_NOT_NOW);
    assert_int_equal(group->encoding.done, 8);
    side_step(self ^ 1);
    side_step(self);
    assert_ok(handle);
    assert_int_equal(array_copy_pace(array, 0), COPY_SOON);
    assert_int_equal(group->encoding.done, 8);
    assert_true(array->actions.deadline_us <= pair.now_us);
    side_step(self); /* it has its answer, and has asked for nothing yet */
    assert_int_equal(array_copy_pace(array, 0), COPY_NOW);
    assert_int_equal(group->encoding.done, 12);
    side_step(self);
    assert_int_equal(group->encoding.done, 12);
    uint64_t deadline_us = array->actions.deadline_us;
    assert_in_range(deadline_us, pair.now_us + 1, pair.now_us + 150);
    pair.now_us = deadline_us;
    side_step(self);
    assert_int_equal(group->encoding.batch.number, 0); /* all of it has left */
    pair.now_us += 1000;
    side_step(self);
    assert_int_equal(array_copy_pace(array, 0), COPY_FREELY);
    pass_ms(100);
    assert_shows(volume == V_A ? 0 : 1, 0, 16, 0x31);
    assert_shows(volume == V_A ? 0 : 1, 20, 1, 0x32);
}

/* A page has the checksum that the mirror's frame had, unless it was written since. */
static void what_the_mirror_has_summed_is_not_summed_again(void **state)
{
    until_consistent();
    const struct group *group = &pair.side[A].array->copy.groups[0];
    write_now(A, V_A, 9 * PAGE, PAGE, 0x40); /* a cut is made, and the next is not due soon */
    write_now(A, V_A, 0, PAGE, 0x41);
    uint32_t slot = group->sender.cycle[group->sender.open % COPY_RING].pins.head;
    const struct pin *pin = pins_at(group->sender.pins, slot);
    assert_true(pin->summed);
    uint32_t handle = ask_write(A, V_A, 512, 512, 0x42);
    assert_false(pin->summed);
    settle();
    assert_ok(handle);
    assert_false(pin->summed); /* the frame had one sector, and the page has eight */
    pass_ms(50);
    assert_bytes(second.visible[0], 512, 0x41);
    assert_bytes(second.visible[0] + 512, 512, 0x42);
    assert_bytes(second.visible[0] + 1024, PAGE - 1024, 0x41);
}

/* An operator may move a volume at any time, and the first array may be lost in the next moment. */
static void a_move_leaves_the_copy_consistent(void **state)
{
    until_consistent();
    pass_ms(100); /* and both halves know that no bit is left */
    for (int i = 0; i < 4; i++) {
        int from = i % 2 ? B : A;
        array_operator_move(pair.side[from].array, pair.now_us, 5, V_A, (uint8_t)(1 - from));
        for (int step = 0; step < 200; step++) {
            write_now(array_owner(pair.side[A].array, V_A) == 1 ? A : B, V_A, 0, PAGE,
                      (uint8_t)step);
            pass_ms(5);
            assert_true(second.receiver.consistent);
        }
        assert_int_equal(array_owner(pair.side[1 - from].array, V_A), 1);
    }
}

static void what_the_second_array_lost_is_sent_again(void **state)
{
    until_consistent();
    second.hold_answers = true;
    write_now(A, V_A, 0, 4 * PAGE, 0xB1);
    write_now(B, V_B, 0, 4 * PAGE, 0xB2);
    pass_ms(10);
    second.hold_answers = false;
    side_step(A); /* held, and not promoted */
    side_step(B);
    second_restart();
    pass_ms(300);
    until_consistent();
    pass_ms(50);
    assert_shows(0, 0, 4, 0xB1);
    assert_shows(1, 0, 4, 0xB2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_hosts_write_is_shown_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_on_its_way_does_not_change, set_up, tear_down),
        cmocka_unit_test_setup_teardown(pinned_pages_stay_while_others_are_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_survivor_sends_what_the_dead_one_had_not, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_returned_peer_knows_what_is_pending, set_up, tear_down),
        cmocka_unit_test_setup_teardown(past_the_budget_regions_are_marked_and_sent_later, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(bits_outlive_the_controller_that_set_them, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(discarded_pages_are_zero_there_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_the_store_discarded_unheard_is_looked_at_again, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_volume_that_moves_is_followed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_move_leaves_the_copy_consistent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_the_second_array_lost_is_sent_again, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_piece_is_done_where_nobody_waits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_the_mirror_has_summed_is_not_summed_again, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
