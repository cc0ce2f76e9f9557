/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A group changes hands between the two controllers of a site while something else changes: the
 * other site does not see it, or this site's role is another one when it has arrived. */

#include "site_acts.h"

/* The volumes of a received group go as one. */
static void move_to(int site, int to)
{
    struct side *from = side_of(site, to ^ 1);
    uint32_t done = from->operator_done;
    array_operator_move(from->array, pair_worlds[site].now_us, 1, V_A, (uint8_t)to);
    for (int i = 0; i < 200 && from->operator_done == done; i++)
        pass_both_ms(10);
    assert_int_equal(from->operator_done, done + 1);
    assert_int_equal(owner_at(site, V_A), to);
}

/* The leader has sent its part of a cycle, the other half has not; then the group moves and comes
 * back, and what it held is given up. The leader's session knows nothing of it but by the state. */
static void a_leader_sees_that_the_group_moved_there_and_back(void **state)
{
    until_consistent(TWO);
    pass_both_ms(300);
    int at = owner_at(TWO, V_A), leader = inner(ONE, A)->sender.leader ? A : B;
    uint64_t memory = inner(TWO, at)->second.receiver.memory;
    between.hold_half[leader ^ 1] = true;
    for (int self = A; self < PAIR; self++)
        assert_int_equal(write_at(ONE, self, self == A ? V_A : V_B, 3, 1, 0x31), HOST_OK);
    pass_both_ms(100);
    assert_true(inner(TWO, at)->second.receiver.held_count > 0);
    between.hold_states = true;
    move_to(TWO, at ^ 1);
    move_to(TWO, at);
    between.hold_states = false;
    assert_true(inner(TWO, at)->second.receiver.memory != memory);
    assert_true(between.session[ONE][leader].up);
    assert_true(inner(ONE, leader)->sender.attached);
    between.hold_half[leader ^ 1] = false;
    until_consistent(TWO);
    pass_both_ms(300);
    assert_sites_are_equal();
}

/* Its new owner has applied the move already, and the answer to it is on its way: what was received
 * is for the new owner to say. */
static void a_site_becomes_a_copy_while_its_group_is_on_its_way(void **state)
{
    struct side *a = side_of(ONE, A), *b = side_of(ONE, B);
    until_consistent(TWO);
    between.hold_batches = true; /* what differs is not handed over yet */
    assert_true(operate_there(GROUP_FAILOVER, true));
    until_role(ONE, SITE_FENCED);
    pass_both_ms(100);
    array_operator_move(a->array, pair_worlds[ONE].now_us, 1, V_A, B);
    for (int i = 0; i < 100 && a->array->volumes[V_A].move != MOVE_SENT; i++) {
        array_step(ONE, B);
        array_step(ONE, A);
        pass_time(10);
    }
    assert_int_equal(a->array->volumes[V_A].move, MOVE_SENT);
    b->hold_link = true;
    between.hold_batches = false;
    for (int i = 0; i < 1000 && site_of(ONE, A)->now.role != SITE_RECEIVING; i++) {
        for (int self = A; self < PAIR; self++) {
            array_step(TWO, self);
            array_step(ONE, self);
        }
        pass_time(10);
    }
    assert_int_equal(site_of(ONE, A)->now.role, SITE_RECEIVING);
    assert_int_equal(a->array->volumes[V_A].move, MOVE_SENT);
    b->hold_link = false;
    pass_both_ms(300);
    assert_string_equal(b->refused_why, "");
    assert_int_equal(owner_at(ONE, V_A), B);
    until_role(ONE, SITE_RECEIVING);
    const struct receiver *one = &inner(ONE, A)->second.receiver;
    assert_int_equal(one->memory, inner(ONE, B)->second.receiver.memory);
    assert_true(operate_there(GROUP_REVERSE, false));
    until_consistent(ONE);
    assert_string_equal(b->refused_why, "");
    assert_sites_are_equal();
}

/* The register has paired them, and neither that nor anything of the stream has come through when
 * the one that served alone is lost. */
static void a_joiner_that_goes_on_alone_knows_every_cycle(void **state)
{
    struct side *a = side_of(ONE, A), *b = side_of(ONE, B);
    until_consistent(TWO);
    kill_at(ONE, B);
    pass_both_ms(2000);
    until_consistent(TWO);
    a->hold_register = true;
    start_at(ONE, B);
    for (int i = 0; i < 100 && !(a->register_due && a->reg.swap && a->reg.wanted.in == 3); i++)
        pass_both_ms(10);
    assert_true(a->register_due && a->reg.wanted.in == 3);
    b->hold_link = true;
    for (uint64_t page = 0; page < 8; page++) {
        pair_use(ONE);
        (void)ask_write(A, V_A, page * PAGE, PAGE, 0x91);
        pass_both_ms(20);
    }
    pair_worlds[ONE].record = a->reg.wanted;
    kill_at(ONE, A);
    b->hold_link = false;
    pair_use(ONE);
    for (int i = 0; i < 100 && status_of(B)->role != ROLE_SOLO; i++)
        pass_both_ms(100);
    assert_int_equal(write_at(ONE, B, V_A, 9, 1, 0x92), HOST_OK);
    pass_both_ms(1000);
    until_consistent(TWO);
    assert_sites_are_equal();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(a_leader_sees_that_the_group_moved_there_and_back),
        TEST(a_site_becomes_a_copy_while_its_group_is_on_its_way),
        TEST(a_joiner_that_goes_on_alone_knows_every_cycle),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
