/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Requests: a bounded pool, and queues that keep their order. */

#include "volume/request.h"

#include "../check_trap.h"

enum { LIMIT = 5 };

static struct request_pool pool;

static int set_up(void **state)
{
    static _Alignas(64) uint8_t memory[LIMIT * sizeof(struct request) + 64];
    struct arena measure = arena_over(NULL, 0), arena;
    request_pool_create(&pool, &measure, LIMIT);
    memset(memory, 0, sizeof memory);
    arena = arena_over(memory, measure.used);
    request_pool_create(&pool, &arena, LIMIT);
    return 0;
}

static struct request *take(uint64_t handle)
{
    return request_take(&pool, &(struct host_request){.handle = handle, .op = HOST_WRITE}, 77);
}

static void as_many_as_the_limit_are_handed_out_and_no_more(void **state)
{
    struct request *taken[LIMIT];
    for (uint32_t i = 0; i < LIMIT; i++) {
        taken[i] = take(i);
        assert_non_null(taken[i]);
        for (uint32_t j = 0; j < i; j++)
            assert_ptr_not_equal(taken[i], taken[j]);
    }
    assert_null(take(99));
    request_release(&pool, taken[3]);
    assert_ptr_equal(take(100), taken[3]);
    assert_null(take(101));
}

static void a_taken_request_remembers_nothing_of_its_former_life(void **state)
{
    struct request *request = take(1);
    request->done_bytes = 9;
    request->phase = REQUEST_STORE;
    request->begun = request->wrote = request->by_write = true;
    request_release(&pool, request);
    assert_false(request->used);
    struct request *again = take(2);
    assert_ptr_equal(again, request); /* the newest released is the next taken */
    assert_int_equal(again->host.handle, 2);
    assert_int_equal(again->started_us, 77);
    assert_int_equal(again->done_bytes, 0);
    assert_int_equal(again->phase, REQUEST_APPLY);
    assert_false(again->begun || again->wrote || again->by_write || again->queued);
    assert_true(again->used);
    assert_int_equal(again->wait_slot, NO_INDEX);
}

static void a_queue_keeps_arrival_order(void **state)
{
    struct request_queue queue = request_queue_empty();
    struct request *a = take(0), *b = take(1), *c = take(2);
    request_queue_append(&pool, &queue, a);
    request_queue_append(&pool, &queue, b);
    request_queue_append(&pool, &queue, c);
    assert_int_equal(queue.count, 3);
    assert_true(a->queued && b->queued && c->queued);
    assert_ptr_equal(request_queue_pop(&pool, &queue), a);
    assert_false(a->queued);
    request_queue_append(&pool, &queue, a);
    assert_ptr_equal(request_queue_pop(&pool, &queue), b);
    assert_ptr_equal(request_queue_pop(&pool, &queue), c);
    assert_ptr_equal(request_queue_pop(&pool, &queue), a);
    assert_null(request_queue_pop(&pool, &queue));
    assert_int_equal(queue.count, 0);
}

static void whoever_is_put_back_first_comes_out_first(void **state)
{
    struct request_queue queue = request_queue_empty();
    struct request *a = take(0), *b = take(1), *c = take(2);
    request_queue_prepend(&pool, &queue, a); /* into an empty queue: also its last */
    request_queue_append(&pool, &queue, b);
    request_queue_prepend(&pool, &queue, c);
    assert_int_equal(queue.count, 3);
    assert_ptr_equal(request_queue_pop(&pool, &queue), c);
    assert_ptr_equal(request_queue_pop(&pool, &queue), a);
    assert_ptr_equal(request_queue_pop(&pool, &queue), b);
    assert_null(request_queue_pop(&pool, &queue));
}

static void a_request_stands_in_one_queue_at_most(void **state)
{
    struct request_queue one = request_queue_empty(), two = request_queue_empty();
    struct request *request = take(0);
    request_queue_append(&pool, &one, request);
    ASSERT_CHECK_FAILS(request_queue_append(&pool, &two, request));
    ASSERT_CHECK_FAILS(request_queue_prepend(&pool, &two, request));
    ASSERT_CHECK_FAILS(request_release(&pool, request));
}

static void what_still_holds_something_is_not_released(void **state)
{
    struct request *request = take(0);
    request->range = 1;
    ASSERT_CHECK_FAILS(request_release(&pool, request));
    request->range = 0;
    request->wait_slot = 4;
    ASSERT_CHECK_FAILS(request_release(&pool, request));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(as_many_as_the_limit_are_handed_out_and_no_more, set_up),
        cmocka_unit_test_setup(a_taken_request_remembers_nothing_of_its_former_life, set_up),
        cmocka_unit_test_setup(a_queue_keeps_arrival_order, set_up),
        cmocka_unit_test_setup(whoever_is_put_back_first_comes_out_first, set_up),
        cmocka_unit_test_setup(a_request_stands_in_one_queue_at_most, set_up),
        cmocka_unit_test_setup(what_still_holds_something_is_not_released, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
