/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The receiving side of the remote copy, driven by a whole primary pair: what is held is in both
 * memories and cannot be seen; a promotion shows all of a cycle at once; whoever dies, nothing that
 * was answered well is missing. */

#include "two_arrays.h"

static int set_up(void **state)
{
    (void)state;
    create_both(512, 60, ROOM);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    destroy_both();
    return 0;
}

static void assert_shows_at(int self, int volume, uint64_t page, uint64_t pages, uint8_t fill)
{
    uint8_t bytes[PAGE];
    for (uint64_t p = page; p < page + pages; p++) {
        peek(self, volume, p, bytes);
        assert_bytes(bytes, PAGE, fill);
    }
}

static void assert_shows(int volume, uint64_t page, uint64_t pages, uint8_t fill)
{
    int self = shower();
    assert_true(self >= 0);
    assert_shows_at(self, volume, page, pages, fill);
}

static void write_here(int self, uint8_t volume, uint64_t page, uint64_t pages, uint8_t fill)
{
    uint32_t handle = ask_write(self, volume, page * PAGE, pages * PAGE, fill);
    settle_both();
    assert_ok(handle);
}

static uint32_t held_at(int self)
{
    return group_there(self)->second.receiver.held_count;
}

static void kill_there(int self)
{
    pair_use(THERE);
    pair.side[self].dead = true;
    pair.side[self].op_count = 0;
    pair.side[self ^ 1].down_due = true;
    array_on_peer_gone(pair.side[self ^ 1].array, pair.now_us, 0);
    pair_use(HERE);
    there_lost(self);
    settle_both();
}

static bool paired_there(void)
{
    pair_use(THERE);
    bool paired = !pair.side[A].dead && !pair.side[B].dead && status_of(A)->role == ROLE_PAIRED &&
                  status_of(B)->role == ROLE_PAIRED;
    pair_use(HERE);
    return paired;
}

static void return_there(int self)
{
    pair_use(THERE);
    pair_create_side(self);
    pair.side[self].up_due = pair.side[self ^ 1].up_due = true;
    pair_use(HERE);
    for (int i = 0; i < 1000; i++) {
        pass_both_ms(10);
        if (paired_there())
            return;
    }
    fail_msg("never paired again");
}

/* ---- one thing at a time ---- */

static void what_hosts_write_is_shown_there(void **state)
{
    until_consistent();
    write_here(A, V_A, 3, 2, 0x11);
    write_here(B, V_B, 9, 1, 0x22);
    pass_both_ms(50);
    assert_shows(0, 3, 2, 0x11);
    assert_shows(1, 9, 1, 0x22);
    assert_int_equal(group_of(A)->pinned_pages + group_of(B)->pinned_pages, 0);
    assert_int_equal(held_at(A) + held_at(B), 0);
}

static void what_is_held_is_in_both_memories_and_cannot_be_seen(void **state)
{
    until_consistent();
    write_here(A, V_A, 0, 4, 0x21);
    pass_both_ms(50);
    between.hold_answers = true;
    write_here(A, V_A, 0, 4, 0x22);
    write_here(B, V_B, 0, 4, 0x23);
    pass_both_ms(50);
    assert_true(held_at(A) >= 8);
    assert_int_equal(held_at(A), held_at(B));
    assert_shows(0, 0, 4, 0x21);
    assert_shows(1, 0, 4, 0);
    assert_bytes(pair_worlds[THERE].store[1], PAGE, 0);
    between.hold_answers = false;
    pass_both_ms(50);
    assert_shows(0, 0, 4, 0x22);
    assert_shows(1, 0, 4, 0x23);
    assert_int_equal(held_at(A) + held_at(B), 0);
}

static void a_survivor_there_has_what_was_held(void **state)
{
    until_consistent();
    between.hold_answers = true;
    write_here(A, V_A, 0, 4, 0x31);
    write_here(B, V_B, 0, 4, 0x32);
    pass_both_ms(50);
    uint64_t batches = between.batches;
    kill_there(shower());
    between.hold_answers = false;
    pass_both_ms(100);
    assert_shows(0, 0, 4, 0x31);
    assert_shows(1, 0, 4, 0x32);
    assert_true(between.batches > batches);
    assert_int_equal(group_of(A)->falls + group_of(B)->falls, 0);
    assert_int_equal(group_of(A)->restarts + group_of(B)->restarts, 0);
}

static void a_returned_controller_there_gets_what_is_held(void **state)
{
    until_consistent();
    kill_there(B);
    between.hold_answers = true;
    write_here(A, V_A, 0, 4, 0x41);
    write_here(B, V_B, 0, 4, 0x42);
    pass_both_ms(50);
    assert_true(held_at(A) >= 8);
    return_there(B);
    assert_int_equal(held_at(A), held_at(B));
    kill_there(A);
    between.hold_answers = false;
    pass_both_ms(100);
    assert_shows(0, 0, 4, 0x41);
    assert_shows(1, 0, 4, 0x42);
    assert_int_equal(group_of(A)->restarts + group_of(B)->restarts, 0);
}

static void alone_a_promotion_counts_when_the_stores_have_it(void **state)
{
    until_consistent();
    kill_there(B);
    pass_both_ms(50);
    pair_worlds[THERE].side[A].hold_store = true;
    uint64_t confirmed = group_of(A)->confirmed;
    write_here(A, V_A, 0, 4, 0x51);
    pass_both_ms(50);
    assert_true(group_of(A)->pinned_pages >= 4);
    assert_true(group_of(A)->confirmed <= confirmed + 2);
    pair_worlds[THERE].side[A].hold_store = false;
    pass_both_ms(50);
    assert_int_equal(group_of(A)->pinned_pages, 0);
    pair_use(THERE);
    assert_bytes(store_at(V_A, 0), 4 * PAGE, 0x51);
    pair_use(HERE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_hosts_write_is_shown_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_held_is_in_both_memories_and_cannot_be_seen, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_survivor_there_has_what_was_held, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_returned_controller_there_gets_what_is_held, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(alone_a_promotion_counts_when_the_stores_have_it, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
