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
    side_dies(THERE, self);
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

static void return_there_begins(int self)
{
    pair_use(THERE);
    pair_create_side(self);
    pair.side[self].up_due = pair.side[self ^ 1].up_due = true;
    pair_use(HERE);
}

static void return_there(int self)
{
    return_there_begins(self);
    for (int i = 0; i < 1000; i++) {
        pass_both_ms(10);
        if (paired_there())
            return;
    }
    fail_msg("never paired again");
}

static void up_first_there(int self)
{
    pair_worlds[THERE].side[self ^ 1].dead = true;
    pair_worlds[THERE].side[self].up_due = true;
    pass_both_ms(200);
    pair_use(THERE);
    assert_int_equal(status_of(self)->role, ROLE_SOLO);
    pair_use(HERE);
    return_there(self ^ 1);
}

/* All that is dirty there reaches the stores. */
static void destage_both(void)
{
    for (int i = 0; i < 200; i++) {
        pass_both_ms(200);
        pair_use(THERE);
        bool clean = (pair.side[A].dead || status_of(A)->slots_dirty == 0) &&
                     (pair.side[B].dead || status_of(B)->slots_dirty == 0);
        pair_use(HERE);
        if (clean)
            return;
    }
    fail_msg("never clean there");
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
    uint64_t batches = between.session[A].batches;
    kill_there(shower());
    between.hold_answers = false;
    pass_both_ms(100);
    assert_shows(0, 0, 4, 0x31);
    assert_shows(1, 0, 4, 0x32);
    assert_true(between.session[A].batches > batches);
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

/* Operations on the page that are with the store of the controller there. */
static uint32_t under_way(int self, enum store_op kind, uint8_t volume, uint64_t page)
{
    const struct side *side = &pair_worlds[THERE].side[self];
    const struct volume_config *config = &pair_worlds[THERE].config.volumes[volume];
    uint64_t at = config->store_offset_bytes + page * PAGE;
    uint32_t count = 0;
    for (uint32_t i = 0; i < side->op_count; i++) {
        const struct store_action *op = &side->ops[i];
        count += op->op == kind && op->store == config->store && op->offset_bytes <= at &&
                 op->offset_bytes + op->length_bytes > at;
    }
    return count;
}

/* The store does not forget by itself what it is asked to forget. */
static void discarded_pages_are_zeros_before_anybody_reads(void **state)
{
    until_consistent();
    write_here(A, V_A, 0, 40, 0x61);
    pass_both_ms(50);
    destage_both();
    pair_use(THERE);
    assert_bytes(store_at(V_A, 0), 40 * PAGE, 0x61);
    pair_use(HERE);
    int self = shower();
    pair_worlds[THERE].side[self].hold_store = true;
    uint32_t trim = ask(A, HOST_TRIM, V_A, 4 * PAGE, 30 * PAGE, 0, 0);
    settle_both();
    assert_ok(trim);
    write_here(A, V_A, 6, 1, 0x62);
    pass_both_ms(50);
    pair_use(THERE);
    assert_bytes(store_at(V_A, 4 * PAGE), 30 * PAGE, 0x61);
    uint32_t read = ask_read(self, V_A, 5 * PAGE, PAGE);
    pair_use(HERE);
    settle_both();
    assert_false(pair_worlds[THERE].seen[read].complete);
    assert_int_equal(under_way(self, STORE_TRIM, V_A, 5), 1);
    assert_int_equal(under_way(self, STORE_READ, V_A, 5), 0);
    pair_worlds[THERE].side[self].hold_store = false;
    pass_both_ms(50);
    assert_true(pair_worlds[THERE].seen[read].complete);
    assert_bytes(pair_worlds[THERE].seen[read].data, PAGE, 0);
    pair_use(THERE);
    assert_bytes(store_at(V_A, 7 * PAGE), 27 * PAGE, 0);
    pair_use(HERE);
    assert_shows(0, 0, 4, 0x61);
    assert_shows(0, 4, 2, 0);
    assert_shows(0, 6, 1, 0x62);
    assert_shows(0, 34, 6, 0x61);
}

/* The owner dies between its word and the store's: its peer zeroes the ranges. */
static void a_survivor_there_zeroes_what_was_promoted(void **state)
{
    until_consistent();
    write_here(A, V_A, 0, 40, 0x71);
    pass_both_ms(50);
    destage_both();
    int self = shower();
    pair_worlds[THERE].side[self].hold_store = true;
    uint32_t trim = ask(A, HOST_TRIM, V_A, 4 * PAGE, 30 * PAGE, 0, 0);
    settle_both();
    assert_ok(trim);
    write_here(A, V_A, 6, 1, 0x72);
    pass_both_ms(50);
    assert_int_equal(group_there(self)->second.zero.count, 1);
    assert_int_equal(group_there(self ^ 1)->second.zero.count, 1);
    kill_there(self);
    pass_both_ms(100);
    assert_int_equal(shower(), self ^ 1);
    assert_int_equal(group_there(self ^ 1)->second.zero.count, 0);
    destage_both();
    pair_use(THERE);
    assert_bytes(store_at(V_A, 0), 4 * PAGE, 0x71);
    assert_bytes(store_at(V_A, 4 * PAGE), 2 * PAGE, 0);
    assert_bytes(store_at(V_A, 6 * PAGE), PAGE, 0x72);
    assert_bytes(store_at(V_A, 7 * PAGE), 27 * PAGE, 0);
    pair_use(HERE);
}

static void what_is_on_its_way_to_the_store_goes_first(void **state)
{
    until_consistent();
    destage_both();
    int self = shower();
    pair_worlds[THERE].side[self].hold_store = true;
    write_here(A, V_A, 0, 1, 0x81);
    pass_both_ms(50);
    kill_there(self ^ 1); /* alone it destages at once */
    pass_both_ms(20);
    assert_int_equal(under_way(self, STORE_WRITE, V_A, 0), 1);
    write_here(A, V_A, 0, 1, 0x82);
    pass_both_ms(300);
    assert_shows(0, 0, 1, 0x82);
    assert_int_equal(under_way(self, STORE_WRITE, V_A, 0), 1);
    pair_worlds[THERE].side[self].hold_store = false;
    pass_both_ms(300);
    assert_shows(0, 0, 1, 0x82);
    destage_both();
    pair_use(THERE);
    assert_bytes(store_at(V_A, 0), PAGE, 0x82);
    pair_use(HERE);
}

static void a_received_group_moves_as_one(void **state)
{
    until_consistent();
    write_here(A, V_A, 0, 4, 0x91);
    write_here(B, V_B, 0, 4, 0x92);
    pass_both_ms(50);
    between.hold_answers = true;
    write_here(A, V_A, 2, 4, 0x93);
    pass_both_ms(20);
    int self = shower();
    uint32_t done = pair_worlds[THERE].side[self].operator_done;
    array_operator_move(there(self), pair_worlds[THERE].now_us, 1, V_B, (uint8_t)!self);
    pass_both_ms(500);
    assert_int_equal(pair_worlds[THERE].side[self].operator_done, done + 1);
    assert_int_equal(array_owner(there(self ^ 1), V_A), 1);
    assert_int_equal(array_owner(there(self ^ 1), V_B), 1);
    assert_int_equal(shower(), self ^ 1);
    assert_shows(0, 0, 4, 0x91);
    between.hold_answers = false;
    pass_both_ms(200);
    assert_shows(0, 2, 4, 0x93);
    assert_shows(1, 0, 4, 0x92);
    assert_int_equal(group_of(A)->falls + group_of(B)->falls, 0);
}

/* A late zeroing would land on what the new owner has destaged since. */
static void what_was_given_away_is_zeroed_by_its_new_owner_alone(void **state)
{
    until_consistent();
    write_here(A, V_A, 0, 40, 0x71);
    pass_both_ms(50);
    destage_both();
    int self = shower();
    struct side *giver = &pair_worlds[THERE].side[self];
    giver->hold_status = true; /* the peer has the volumes, and its answer is on the way */
    array_operator_move(there(self), pair_worlds[THERE].now_us, 1, V_B, (uint8_t)!self);
    pass_both_ms(20);
    assert_int_equal(array_owner(there(self), V_A), 1);
    assert_int_equal(array_owner(there(self ^ 1), V_A), 1);
    giver->hold_store = true;
    pair_worlds[THERE].side[self ^ 1].hold_store = true;
    uint32_t trim = ask(A, HOST_TRIM, V_A, 4 * PAGE, 30 * PAGE, 0, 0);
    settle_both();
    assert_ok(trim);
    pass_both_ms(60);
    assert_int_equal(group_there(self)->second.zero.count, 1);
    assert_int_equal(group_there(self ^ 1)->second.zero.count, 1);
    assert_int_equal(giver->op_count, 0);
    assert_int_equal(pair_worlds[THERE].side[self ^ 1].op_count, 1);
    giver->hold_status = giver->hold_store = pair_worlds[THERE].side[self ^ 1].hold_store = false;
    pass_both_ms(100);
    assert_int_equal(group_there(self)->second.zero.count, 0);
    assert_int_equal(array_owner(there(self), V_A), 0);
    assert_shows(0, 0, 4, 0x71);
    assert_shows(0, 4, 30, 0);
    assert_shows(0, 34, 6, 0x71);
}

static void after_a_clean_stop_what_was_promoted_is_on_the_stores(void **state)
{
    for (int first = A; first < PAIR; first++) {
        if (first == B) {
            tear_down(state);
            set_up(state);
        }
        until_consistent();
        write_here(A, V_A, 0, 4, 0xA1);
        pass_both_ms(50);
        between.hold_answers = true;
        write_here(A, V_A, 0, 4, 0xA2);
        pass_both_ms(50);
        uint64_t memory = group_there(shower())->second.receiver.memory;
        uint64_t sent = group_of(A)->base_pages_sent + group_of(B)->base_pages_sent;
        for (int self = A; self < PAIR; self++)
            array_operator_stop(there(self), pair_worlds[THERE].now_us);
        pass_both_ms(2000);
        assert_true(pair_worlds[THERE].side[A].stopped && pair_worlds[THERE].side[B].stopped);
        for (int self = A; self < PAIR; self++) {
            pair_use(THERE);
            assert_bytes(store_at(V_A, 0), 4 * PAGE, 0xA1);
            pair_create_side(self);
            pair_use(HERE);
            there_lost(self);
        }
        between.hold_answers = false;
        up_first_there(first);
        until_consistent();
        pass_both_ms(50);
        assert_true(group_there(shower())->second.receiver.memory != memory);
        assert_shows(0, 0, 4, 0xA2);
        /* No initial copy: only what was held comes again. */
        assert_int_equal(group_of(A)->base_pages_sent + group_of(B)->base_pages_sent, sent);
    }
}

/* The promoted pages of many cycles and those that are held are more than the cache: what is held
 * waits for the stores, and hosts of other volumes there are served all the while. */
static void held_pages_leave_room_for_hosts_there(void **state)
{
    until_consistent();
    int self = shower();
    pair_worlds[THERE].side[self].hold_store = true;
    for (uint64_t page = 0; page < 900; page += 20) {
        write_here(A, V_A, page, 20, (uint8_t)(1 + page / 20));
        pass_both_ms(10);
    }
    const struct array *array = there(self);
    assert_true(array->copy.foreign + slot_dirty_count(&array->table, 0) <= array->high_slots);
    pair_use(THERE);
    uint32_t read = ask_read(self, V_SAFE, 0, 8 * PAGE);
    pair.side[self].hold_store = false;
    pair_use(HERE);
    pass_both_ms(5000);
    assert_true(pair_worlds[THERE].seen[read].complete);
    until_consistent();
    for (uint64_t page = 0; page < 900; page += 20)
        assert_shows(0, page, 20, (uint8_t)(1 + page / 20));
}

/* What arrives is passed to the peer in messages of few pages: nothing else moves meanwhile. */
static void messages_between_the_controllers_there_are_short(void **state)
{
    until_consistent();
    pair_use(THERE);
    pair.side[A].most_bytes = pair.side[B].most_bytes = 0;
    pair_use(HERE);
    for (int i = 0; i < 3; i++)
        write_here(A, V_A, 0, 50, (uint8_t)(0x60 + i));
    pass_both_ms(100);
    assert_shows(0, 0, 50, 0x62);
    pair_use(THERE);
    uint32_t most_bytes = max_u32(pair.side[A].most_bytes, pair.side[B].most_bytes);
    pair_use(HERE);
    assert_in_range(most_bytes, 18 * PAGE, 34 * PAGE);
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
        cmocka_unit_test_setup_teardown(discarded_pages_are_zeros_before_anybody_reads, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_survivor_there_zeroes_what_was_promoted, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_on_its_way_to_the_store_goes_first, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_received_group_moves_as_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_given_away_is_zeroed_by_its_new_owner_alone,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(after_a_clean_stop_what_was_promoted_is_on_the_stores,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(held_pages_leave_room_for_hosts_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(messages_between_the_controllers_there_are_short, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(alone_a_promotion_counts_when_the_stores_have_it, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
