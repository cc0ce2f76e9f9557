/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A connection's output: everything leaves in order whatever the socket takes at a time, what is
 * being sent does not move while more gathers, and every buffer comes back to the budget. */

#include "shell/output.h"

#include "idle_buffers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct buffers buffers;
static struct output output;
static uint8_t sent[1 << 22], expected[1 << 22];
static size_t sent_bytes, expected_bytes;

static void put_run(uint8_t value, size_t size)
{
    uint8_t *to = output_reserve(&output, size + 100);
    memset(to, value, size);
    output_commit(&output, size);
    memset(expected + expected_bytes, value, size);
    expected_bytes += size;
}

static void put_buffer(uint8_t value, size_t size)
{
    struct buffer *buffer = buffer_take(&buffers, size);
    memset(buffer->data, value, size);
    output_put_buffer(&output, buffer, buffer->data, size);
    memset(expected + expected_bytes, value, size);
    expected_bytes += size;
}

/* A socket that takes at most `most` bytes. */
static bool take(size_t most)
{
    struct io_uring_sqe sqe;
    memset(&sqe, 0, sizeof sqe);
    output_prepare(&output, &sqe, 7);
    struct iovec one = {(void *)(uintptr_t)sqe.addr, sqe.len}, *iov = &one;
    size_t count = 1, got = 0;
    if (sqe.opcode == IORING_OP_SENDMSG) {
        const struct msghdr *message = (const struct msghdr *)(uintptr_t)sqe.addr;
        iov = message->msg_iov;
        count = message->msg_iovlen;
    }
    for (size_t i = 0; i < count && got < most; i++) {
        size_t part = iov[i].iov_len < most - got ? iov[i].iov_len : most - got;
        memcpy(sent + sent_bytes, iov[i].iov_base, part);
        sent_bytes += part;
        got += part;
    }
    return output_sent(&output, got);
}

static int set_up(void **state)
{
    memset(&buffers, 0, sizeof buffers);
    output_init(&output, &buffers);
    sent_bytes = expected_bytes = 0;
    return 0;
}

static int tear_down(void **state)
{
    output_free(&output);
    assert_int_equal(buffers.used_bytes, 0);
    free_idle_buffers(&buffers);
    return 0;
}

static void assert_all_sent(void)
{
    assert_int_equal(sent_bytes, expected_bytes);
    assert_memory_equal(sent, expected, expected_bytes);
    assert_int_equal(output.waiting_bytes, 0);
    assert_false(output_gathered(&output));
}

static void short_sends_go_on_where_they_stopped(void **state)
{
    static const size_t steps[] = {1, 7, 16, 100, 4096, 5000, 100000, 1 << 20};
    for (size_t i = 0; i < ARRAY_LENGTH(steps); i++) {
        sent_bytes = expected_bytes = 0;
        put_run(1, 16);
        put_run(2, 4112);
        put_buffer(3, 5000);
        put_buffer(4, 1);
        put_run(5, 16);
        put_run(6, 300);
        int rounds = 0;
        while (!take(steps[i]))
            assert_true(rounds++ < 20000);
        assert_all_sent();
        assert_int_equal(buffers.used_bytes, 0);
    }
}

static void what_gathers_while_a_send_is_under_way_comes_after_it(void **state)
{
    put_run(1, 2000);
    assert_false(take(1000));
    const uint8_t *stays = output.sides[output.gathering ^ 1].run;
    for (int i = 0; i < 100; i++)
        put_run(2, 4096); /* grows the other side's run many times */
    put_buffer(3, 70000);
    assert_ptr_equal(stays, output.sides[output.gathering ^ 1].run);
    assert_true(take(1 << 20));
    while (!take(1 << 20))
        ;
    assert_all_sent();
}

static void more_pieces_than_one_call_takes_are_sent_all(void **state)
{
    for (int i = 0; i < 3 * OUTPUT_IOV_LIMIT; i++) {
        put_run((uint8_t)i, 28);
        put_buffer((uint8_t)(i + 1), 512);
    }
    int rounds = 0;
    while (!take(1 << 20))
        assert_true(rounds++ < 100);
    assert_true(rounds >= 5);
    assert_all_sent();
}

static void a_connection_that_ends_gives_its_buffers_back(void **state)
{
    put_buffer(1, 100000);
    put_buffer(2, 100000);
    take(50);
    put_buffer(3, 100000);
    assert_true(buffers.used_bytes > 0); /* tear_down() checks that nothing is left */
}

static void the_budget_always_has_room_for_the_largest_request_or_says_no(void **state)
{
    struct buffer *taken[64];
    int count = 0;
    while (buffers_have_room(&buffers)) {
        assert_true(count < 64);
        taken[count] = buffer_take(&buffers, HOST_IO_BYTES);
        assert_non_null(taken[count++]);
    }
    assert_int_equal(buffers.used_bytes, BUFFER_BUDGET_BYTES);
    while (count > 0)
        buffer_give(&buffers, taken[--count]);
    assert_true(buffers.idle_bytes <= BUFFER_IDLE_BYTES);
    assert_true(buffers_have_room(&buffers));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(short_sends_go_on_where_they_stopped),
        TEST(what_gathers_while_a_send_is_under_way_comes_after_it),
        TEST(more_pieces_than_one_call_takes_are_sent_all),
        TEST(a_connection_that_ends_gives_its_buffers_back),
        TEST(the_budget_always_has_room_for_the_largest_request_or_says_no),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
