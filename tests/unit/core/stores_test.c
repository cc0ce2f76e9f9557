/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What the core asks of the stores and when: the flush before a new server reads, one flush at a
 * time, what a failed flush puts in doubt, and the pace of destages for which nobody waits. */

#include "pair.h"

static uint32_t flushes_under_way(int self, uint8_t store)
{
    const struct side *side = &pair.side[self];
    uint32_t count = 0;
    for (uint32_t i = 0; i < side->op_count; i++)
        count += side->ops[i].op == STORE_FLUSH && side->ops[i].store == store;
    return count;
}

/* Ends the first operation of this kind that is under way; the others stay. */
static void end_one(int self, enum store_op op, enum store_result result)
{
    struct side *side = &pair.side[self];
    for (uint32_t i = 0; i < side->op_count; i++) {
        if (side->ops[i].op != op)
            continue;
        struct store_action ended = side->ops[i];
        memmove(&side->ops[i], &side->ops[i + 1], (side->op_count - i - 1) * sizeof ended);
        side->op_count--;
        if (result == STORE_DONE)
            store_move(&ended);
        array_on_store(side->array, pair.now_us, ended.io, result);
        side_step(self);
        return;
    }
    fail_msg("no such operation is under way");
}

static void nothing_is_read_after_a_takeover_before_the_store_was_flushed(void **state)
{
    pair.answer[STORE_FLUSH] = STORE_ERROR;
    kill_side(A);
    assert_int_equal(status_of(B)->role, ROLE_SOLO);
    uint32_t reads = pair.asked[STORE_READ];
    uint32_t read = ask_read(B, V_A, 100 * PAGE, PAGE);
    pass_ms(300);
    assert_int_equal(pair.asked[STORE_READ], reads);
    assert_false(is_done(read));
    pair.answer[STORE_FLUSH] = STORE_DONE;
    pass_ms(200);
    assert_ok(read);
}

static void a_store_has_one_flush_under_way_at_most(void **state)
{
    pair.side[B].hold_store = true;
    kill_side(A);
    uint32_t flushes = 0;
    for (int i = 0; i < 40; i++) {
        ask(B, HOST_TRIM, V_A, (uint64_t)(i % 8) * 64 * PAGE, 32 * PAGE, 0, 0);
        ask_write(B, V_A, (uint64_t)(600 + i) * PAGE, PAGE, (uint8_t)i);
        settle();
        assert_true(flushes_under_way(B, 0) <= 1);
        flushes += flushes_under_way(B, 0);
        store_answer(B);
        settle();
        assert_true(flushes_under_way(B, 0) <= 1);
        pair.now_us += 1000;
    }
    assert_true(flushes > 10);
}

static void a_failed_flush_puts_what_was_written_meanwhile_in_doubt(void **state)
{
    kill_side(A); /* B alone writes through */
    pass_ms(100);
    pair.side[B].hold_store = true;
    uint32_t first = ask_write(B, V_A, 10 * PAGE, PAGE, 1);
    settle();
    end_one(B, STORE_WRITE, STORE_DONE); /* and its flush is asked for */
    assert_int_equal(flushes_under_way(B, 0), 1);
    uint32_t second = ask_write(B, V_A, 20 * PAGE, PAGE, 2);
    settle();
    end_one(B, STORE_WRITE, STORE_DONE);
    uint32_t writes = pair.asked[STORE_WRITE];
    end_one(B, STORE_FLUSH, STORE_ERROR);
    settle();
    assert_false(is_done(first) || is_done(second));
    pair.side[B].hold_store = false;
    store_answer(B);
    pass_ms(500);
    assert_ok(first);
    assert_ok(second);
    assert_int_equal(pair.asked[STORE_WRITE], writes + 2); /* both, not only the first */
}

static void a_long_zeroing_beside_a_failed_flush_is_not_believed(void **state)
{
    kill_side(A);
    pass_ms(100);
    write_now(B, V_A, 0, PAGE, 7);
    pair.side[B].hold_store = true;
    uint32_t write = ask_write(B, V_A, 500 * PAGE, PAGE, 1);
    settle();
    end_one(B, STORE_WRITE, STORE_DONE);
    uint32_t zero = ask(B, HOST_ZERO, V_A, 0, 64 * PAGE, 0, 0);
    settle();
    end_one(B, STORE_TRIM, STORE_DONE); /* the zeros are there, and the write's flush fails */
    end_one(B, STORE_FLUSH, STORE_ERROR);
    memset(store_at(V_A, 0), 7, PAGE); /* it has lost them */
    pair.side[B].hold_store = false;
    store_answer(B);
    pass_ms(1000);
    assert_ok(write);
    assert_ok(zero);
    assert_bytes(store_at(V_A, 0), PAGE, 0);
}

static int large_set_up(void **state)
{
    pair_defaults();
    pair.config.slot_count = 4096;
    pair_create();
    pair_up();
    return 0;
}

static void what_is_due_by_age_goes_to_the_store_over_some_time(void **state)
{
    enum { PAGES = 1000 };
    for (uint64_t i = 0; i < PAGES; i++)
        write_now(A, i % 2 ? V_A : V_SAFE, i / 2 * 2 * PAGE, PAGE, 1);
    pass_ms(5100);
    uint64_t soon = status_of(A)->destage.pages_written;
    assert_in_range(soon, 1, PAGES * 6 / 10);
    pass_ms(5000);
    assert_int_equal(status_of(A)->destage.pages_written, PAGES);
    pass_ms(1000); /* the last of them share one flush */
    assert_int_equal(status_of(A)->slots_dirty, 0);
    assert_true(status_of(A)->destage.flushes < PAGES / 10);
}

static void nobody_who_waits_is_paced(void **state)
{
    enum { PAGES = 500 };
    for (uint64_t i = 0; i < PAGES; i++)
        write_now(A, V_SAFE, i * 2 * PAGE, PAGE, 1);
    uint32_t flush = ask(A, HOST_FLUSH, V_SAFE, 0, 0, 0, 0);
    settle();
    assert_ok(flush); /* in no time at all */
    assert_int_equal(status_of(A)->destage.pages_written, PAGES);
}

#define TEST(name)  cmocka_unit_test_setup_teardown(name, pair_set_up, pair_destroy)
#define LARGE(name) cmocka_unit_test_setup_teardown(name, large_set_up, pair_destroy)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_is_read_after_a_takeover_before_the_store_was_flushed),
        TEST(a_store_has_one_flush_under_way_at_most),
        TEST(a_failed_flush_puts_what_was_written_meanwhile_in_doubt),
        TEST(a_long_zeroing_beside_a_failed_flush_is_not_believed),
        LARGE(what_is_due_by_age_goes_to_the_store_over_some_time),
        LARGE(nobody_who_waits_is_paced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
