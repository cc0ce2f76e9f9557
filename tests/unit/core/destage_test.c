/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Destaging: which pages go together, what must be filled first, when a store is flushed, and what
 * a failure leaves. */

#include "destage/destage.h"

#include "slot_table.h"

enum { HALF = 700, WRITES = 4, NOW = 1000000 };

static struct slot_table table;
static struct destage destage;
static struct volume_config volumes[3];
static struct store_config stores[2];

static int set_up(void **state)
{
    struct arena arena = table_arena();
    slot_table_create(&table, &arena, HALF);
    destage_create(&destage, &arena, WRITES);
    volumes[0] = (struct volume_config){.size_bytes = 1 << 30, .store_offset_bytes = 1 << 20};
    volumes[1] = (struct volume_config){.size_bytes = 1 << 30, .store = 1};
    stores[0] = (struct store_config){.block_size_bytes = 512};
    stores[1] = (struct store_config){.block_size_bytes = 4096};
    destage.volumes = volumes;
    destage.store_configs = stores;
    return 0;
}

/* A mirrored dirty page on the backlog. */
static struct slot *dirty(uint8_t volume, uint64_t page, uint8_t sectors)
{
    struct slot *slot = slot_take(&table, slot_key(volume, page));
    assert_non_null(slot);
    slot_set_state(&table, slot, SLOT_DIRTY);
    slot->valid = slot->dirty = sectors;
    slot_set_mirrored(&table, slot, true);
    slot_list_append(&table, LIST_BACKLOG, slot);
    return slot;
}

static struct run *pick_from(enum slot_list_id list)
{
    struct slot *fill;
    struct run *run = destage_pick(&destage, &table, list, false, &fill);
    assert_null(fill);
    return run;
}

static struct run *pick(void)
{
    return pick_from(LIST_BACKLOG);
}

static void assert_run(const struct run *run, uint64_t offset, uint64_t length, uint32_t count)
{
    assert_non_null(run);
    assert_int_equal(run->state, RUN_WRITING);
    assert_int_equal(run->offset_bytes, offset);
    assert_int_equal(run->length_bytes, length);
    assert_int_equal(run->count, count);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct slot *slot = slot_at(&table, run->slots[i]);
        assert_int_equal(slot->state, SLOT_DESTAGING);
        assert_int_equal(slot->list, LIST_NONE);
        sum += run->iov[i].iov_len;
    }
    assert_int_equal(sum, length);
}

static void neighbours_on_both_sides_go_as_one_write(void **state)
{
    struct slot *oldest = dirty(0, 5, 0xFF);
    struct slot *after = dirty(0, 6, 0xFF), *before = dirty(0, 4, 0xFF), *first = dirty(0, 3, 0xFF);
    struct slot *apart = dirty(0, 8, 0xFF);
    struct run *run = pick();
    assert_run(run, (1 << 20) + 3 * 4096, 4 * 4096, 4);
    struct slot *order[] = {first, before, oldest, after};
    for (size_t i = 0; i < ARRAY_LENGTH(order); i++) {
        assert_int_equal(run->slots[i], slot_index(&table, order[i]));
        assert_ptr_equal(run->iov[i].iov_base, slot_frame(&table, order[i]));
    }
    assert_int_equal(apart->state, SLOT_DIRTY);
    assert_int_equal(destage.store_writes, 1);
    assert_int_equal(destage.pages_written, 4);
}

static void page_zero_has_nothing_before_it_and_volumes_do_not_join(void **state)
{
    dirty(1, 0, 0xFF);
    dirty(0, (UINT64_C(1) << 48) - 1, 0xFF); /* its key is one less */
    struct run *run = pick();
    assert_run(run, 0, 4096, 1);
    assert_int_equal(run->store, 1);
}

static void a_run_is_at_most_a_mebibyte(void **state)
{
    for (uint64_t page = 0; page < 600; page++)
        dirty(0, page, 0xFF);
    struct run *first = pick();
    assert_run(first, 1 << 20, STORE_IO_BYTES, STORE_IO_PAGES);
    struct run *second = pick();
    assert_run(second, (1 << 20) + STORE_IO_BYTES, STORE_IO_BYTES, STORE_IO_PAGES);
    assert_run(pick(), (1 << 20) + 2 * STORE_IO_BYTES, 88 * 4096, 88);
    assert_null(pick());
}

static void going_back_for_the_first_page_keeps_the_oldest_in_the_run(void **state)
{
    struct slot *oldest = dirty(0, 300, 0xFF);
    for (uint64_t page = 0; page < 600; page++) {
        if (page != 300)
            dirty(0, page, 0xFF);
    }
    struct run *run = pick();
    assert_run(run, (1 << 20) + 45 * 4096, STORE_IO_BYTES, STORE_IO_PAGES);
    assert_int_equal(oldest->state, SLOT_DESTAGING);
}

static void only_the_hull_of_the_dirty_sectors_is_written(void **state)
{
    struct slot *slot = dirty(0, 2, 0x34); /* sectors 2, 4, 5; 3 is valid and clean */
    slot->valid = 0x3C;
    struct run *run = pick();
    assert_run(run, (1 << 20) + 2 * 4096 + 2 * 512, 4 * 512, 1);
    assert_ptr_equal(run->iov[0].iov_base, slot_frame(&table, slot) + 2 * 512);
}

static void pages_join_only_where_their_hulls_touch(void **state)
{
    static const struct {
        uint8_t before, here, after;
        uint64_t from, sectors;
        uint32_t count;
    } rows[] = {
        {0xFF, 0xFF, 0xFF, 0, 24, 3},
        {0x7F, 0xFF, 0xFF, 8, 16, 2}, /* gap at the end of the first */
        {0xFF, 0xFF, 0xFE, 0, 16, 2},
        {0xF0, 0xFF, 0x0F, 4, 16, 3}, /* partial at the outer edges */
        {0xFF, 0xFE, 0xFF, 9, 15, 2},
        {0xFF, 0x7F, 0xFF, 0, 15, 2}, /* the oldest has a gap */
        {0x80, 0x18, 0x01, 11, 2, 1},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        set_up(state);
        dirty(0, 11, rows[i].here);
        dirty(0, 10, rows[i].before);
        dirty(0, 12, rows[i].after);
        assert_run(pick(), (1 << 20) + 10 * 4096 + rows[i].from * 512, rows[i].sectors * 512,
                   rows[i].count);
    }
}

static void a_hole_inside_the_hull_is_filled_first(void **state)
{
    struct slot *slot = dirty(0, 2, 0x05), *fill; /* sector 1 is not valid */
    assert_null(destage_pick(&destage, &table, LIST_BACKLOG, false, &fill));
    assert_ptr_equal(fill, slot);
    assert_int_equal(slot->state, SLOT_DIRTY);
    slot->fetch = 1; /* while it is fetched it may not go */
    assert_null(pick());
    slot->fetch = 0;
    slot->valid = 0xFF;
    assert_run(pick(), (1 << 20) + 2 * 4096, 3 * 512, 1);
}

static void a_store_with_4096_byte_blocks_gets_whole_pages(void **state)
{
    struct slot *slot = dirty(1, 2, 0x10), *fill;
    assert_null(destage_pick(&destage, &table, LIST_BACKLOG, false, &fill));
    assert_ptr_equal(fill, slot);
    slot->valid = 0xFF;
    struct run *run = pick();
    assert_run(run, 2 * 4096, 4096, 1);
    assert_ptr_equal(run->iov[0].iov_base, slot_frame(&table, slot));
}

static void a_neighbour_that_must_be_filled_does_not_join(void **state)
{
    dirty(1, 2, 0xFF);
    dirty(1, 3, 0x01);
    dirty(1, 1, 0x80);
    assert_run(pick(), 2 * 4096, 4096, 1);
}

static void who_may_not_go_is_passed_over_and_does_not_join(void **state)
{
    for (int why = 0; why < 5; why++) {
        set_up(state);
        struct slot *barred = dirty(0, 1, 0xFF), *other = dirty(0, 2, 0xFF);
        if (why == 0)
            slot_set_mirrored(&table, barred, false);
        else if (why == 1)
            barred->elder = 9;
        else if (why == 2)
            barred->fetch = 1;
        else if (why == 3)
            barred->held = true;
        else {
            slot_mirror_forget_all(&table); /* no copy at the peer is valid any more */
            slot_set_mirrored(&table, other, true);
        }
        struct run *run = pick();
        assert_run(run, (1 << 20) + 2 * 4096, 4096, 1);
        assert_int_equal(run->slots[0], slot_index(&table, other));
        assert_null(pick());
        assert_int_equal(barred->list, LIST_BACKLOG);
    }
}

static void alone_nothing_needs_to_be_mirrored(void **state)
{
    struct slot *slot = dirty(0, 1, 0xFF), *fill;
    slot_set_mirrored(&table, slot, false);
    assert_null(pick());
    assert_run(destage_pick(&destage, &table, LIST_BACKLOG, true, &fill), (1 << 20) + 4096, 4096,
               1);
}

static void clean_filling_and_travelling_neighbours_do_not_join(void **state)
{
    dirty(0, 2, 0xFF);
    struct slot *filling = dirty(0, 3, 0xFF), *travelling = dirty(0, 1, 0xFF);
    slot_list_remove(&table, filling);
    slot_set_state(&table, filling, SLOT_FILLING);
    slot_list_remove(&table, travelling);
    slot_set_state(&table, travelling, SLOT_FILLING);
    slot_set_state(&table, travelling, SLOT_TRAVELLING);
    assert_run(pick(), (1 << 20) + 2 * 4096, 4096, 1);
}

static void writes_in_flight_and_runs_that_wait_are_bounded(void **state)
{
    uint32_t total = destage_run_count(WRITES), picked = 0;
    struct run *run;
    for (uint64_t page = 0; page < 2 * total + 20; page += 2)
        dirty(0, page, 0xFF);
    for (int i = 0; i < WRITES; i++)
        assert_non_null(pick());
    assert_null(pick());
    for (uint32_t i = 0; i < destage.run_count; i++) {
        if (destage.runs[i].state == RUN_WRITING)
            destage_written(&destage, &destage.runs[i]);
    }
    picked = WRITES;
    while ((run = pick()) != NULL) {
        destage_written(&destage, run);
        picked++;
    }
    assert_int_equal(picked, total);
    assert_int_equal(destage.used, total);
    assert_true(slot_list_count(&table, LIST_BACKLOG) > 0);
}

static void one_flush_makes_many_writes_durable(void **state)
{
    struct run *runs[3];
    for (uint64_t i = 0; i < 3; i++) {
        dirty(0, i * 2, 0xFF);
        runs[i] = pick();
    }
    assert_false(destage_flush(&destage, 0, false, true)); /* nothing written yet */
    destage_written(&destage, runs[0]);
    destage_written(&destage, runs[1]);
    assert_false(destage_flush(&destage, 0, false, false)); /* another write is coming */
    assert_false(destage_flush(&destage, 1, false, true));  /* another store */
    destage_written(&destage, runs[2]);
    assert_true(destage_flush(&destage, 0, false, false));
    for (int i = 0; i < 3; i++)
        assert_int_equal(runs[i]->state, RUN_FLUSHING);
    assert_false(destage_flush(&destage, 0, false, true)); /* one at a time */
    destage_flushed(&destage, 0);
    for (int i = 0; i < 3; i++) {
        destage_done(&destage, runs[i]);
        assert_int_equal(runs[i]->state, RUN_FREE);
    }
    assert_int_equal(destage.used, 0);
    assert_int_equal(destage.flushes, 1);
}

static void a_write_that_ends_during_a_flush_waits_for_the_next(void **state)
{
    dirty(0, 0, 0xFF);
    dirty(0, 2, 0xFF);
    struct run *first = pick(), *second = pick();
    destage_written(&destage, first);
    assert_true(destage_flush(&destage, 0, false, true)); /* someone waits: no need for the other */
    destage_written(&destage, second);
    assert_false(destage_flush(&destage, 0, false, true)); /* the present one began before it */
    destage_flushed(&destage, 0);
    assert_int_equal(second->state, RUN_WRITTEN);
    ASSERT_CHECK_FAILS(destage_done(&destage, second));
    assert_true(destage_flush(&destage, 0, false, true));
    assert_int_equal(second->state, RUN_FLUSHING);
}

static void enough_written_runs_are_flushed_although_more_are_coming(void **state)
{
    uint32_t written = 0;
    for (uint64_t page = 0; page < 200; page += 2)
        dirty(0, page, 0xFF);
    struct run *open = pick();
    while (!destage_flush(&destage, 0, false, false)) {
        struct run *run = pick();
        assert_non_null(run);
        destage_written(&destage, run);
        written++;
    }
    assert_int_equal(written, WRITES * 4);
    assert_int_equal(open->state, RUN_WRITING);
}

static void a_failed_run_is_taken_apart_and_its_pages_stay_dirty(void **state)
{
    struct slot *slots[2] = {dirty(0, 4, 0xFF), dirty(0, 5, 0xFF)};
    struct run *run = pick();
    destage_failed(&destage, &table, run, NOW);
    assert_int_equal(run->state, RUN_FREE);
    assert_int_equal(destage.writing, 0);
    assert_int_equal(destage.used, 0);
    assert_int_equal(destage.errors, 1);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(slots[i]->state, SLOT_DIRTY);
        assert_int_equal(slots[i]->list, LIST_FAILED);
        assert_true(slots[i]->failed);
    }
    assert_true(destage.retry_at_us == NOW + 20000);
    destage_retry(&destage, &table, NOW + 19999);
    assert_int_equal(slot_list_count(&table, LIST_FAILED), 2);
    destage_retry(&destage, &table, NOW + 20000);
    assert_int_equal(slot_list_count(&table, LIST_URGENT), 2);
    /* Each alone, so that a good page does not suffer for its neighbour. */
    assert_run(pick_from(LIST_URGENT), (1 << 20) + 4 * 4096, 4096, 1);
    assert_run(pick_from(LIST_URGENT), (1 << 20) + 5 * 4096, 4096, 1);
}

static void a_page_that_failed_joins_no_other_run(void **state)
{
    struct slot *bad = dirty(0, 5, 0xFF);
    bad->failed = true;
    slot_list_remove(&table, bad);
    slot_list_append(&table, LIST_FAILED, bad);
    dirty(0, 4, 0xFF);
    dirty(0, 6, 0xFF);
    assert_run(pick(), (1 << 20) + 4 * 4096, 4096, 1);
    assert_run(pick(), (1 << 20) + 6 * 4096, 4096, 1);
}

static void a_failed_flush_fails_its_runs(void **state)
{
    struct slot *slot = dirty(0, 4, 0xFF);
    struct run *run = pick();
    destage_written(&destage, run);
    assert_true(destage_flush(&destage, 0, false, true));
    destage_flushed(&destage, 0);
    destage_failed(&destage, &table, run, NOW);
    assert_int_equal(slot->state, SLOT_DIRTY);
    assert_int_equal(slot->list, LIST_FAILED);
    assert_int_equal(destage.writing, 0);
    ASSERT_CHECK_FAILS(destage_failed(&destage, &table, run, NOW)); /* it is over */
}

/* A store may forget any write that it took before a flush failed, and the next flush does not
 * tell. */
static void after_a_failed_flush_every_write_since_the_last_good_one_is_suspect(void **state)
{
    struct slot *slots[4];
    struct run *runs[4];
    for (uint64_t i = 0; i < 3; i++) {
        slots[i] = dirty(0, i * 2, 0xFF);
        runs[i] = pick();
    }
    slots[3] = dirty(1, 0, 0xFF); /* another store */
    runs[3] = pick();
    destage_written(&destage, runs[3]);
    destage_written(&destage, runs[0]);
    assert_true(destage_flush(&destage, 0, false, true));
    destage_written(&destage, runs[1]); /* during the flush; runs[2] is still on its way */
    destage_flushed(&destage, 0);
    destage_flush_failed(&destage, &table, 0, NOW);
    assert_int_equal(slots[0]->list, LIST_FAILED);
    assert_int_equal(slots[1]->list, LIST_FAILED);
    assert_int_equal(slots[2]->state, SLOT_DESTAGING);
    assert_true(runs[2]->suspect);
    assert_int_equal(runs[3]->state, RUN_WRITTEN);
    assert_false(
        destage_flush(&destage, 0, false, true)); /* nothing of that store is left to flush */
    destage_failed(&destage, &table, runs[2], NOW);
    destage_retry(&destage, &table, NOW + 20000);
    for (uint32_t i = 0; i <= destage.run_count;
         i++) { /* the same record comes round again: a new write */
        struct run *run = pick_from(LIST_URGENT);
        assert_false(run->suspect);
        destage_failed(&destage, &table, run, NOW + 20000);
        destage_retry(&destage, &table, UINT64_MAX - 1);
    }
}

static void the_pause_doubles_up_to_five_seconds_and_starts_again_after_success(void **state)
{
    uint64_t pause = 20000, now = NOW;
    struct slot *slot = dirty(0, 4, 0xFF);
    enum slot_list_id list = LIST_BACKLOG;
    for (int i = 0; i < 12; i++) {
        destage_failed(&destage, &table, pick_from(list), now);
        assert_true(destage.retry_at_us == now + pause);
        now += pause;
        destage_retry(&destage, &table, now);
        assert_true(destage.retry_at_us == UINT64_MAX);
        assert_int_equal(slot->list, LIST_URGENT);
        list = LIST_URGENT;
        pause = min_u64(pause * 2, 5000000);
    }
    assert_int_equal(pause, 5000000);
    destage_recovered(&destage, &table);
    destage_failed(&destage, &table, pick_from(LIST_URGENT), now);
    assert_true(destage.retry_at_us == now + 20000);
    /* While others have failed the pause is kept. */
    destage_recovered(&destage, &table);
    destage_retry(&destage, &table, now + 20000);
    destage_failed(&destage, &table, pick_from(LIST_URGENT), now);
    assert_true(destage.retry_at_us == now + 40000);
}

static void a_second_failure_does_not_put_off_the_retry_of_the_first(void **state)
{
    dirty(0, 4, 0xFF);
    dirty(0, 8, 0xFF);
    struct run *first = pick(), *second = pick();
    destage_failed(&destage, &table, first, NOW);
    destage_failed(&destage, &table, second, NOW + 10000);
    assert_true(destage.retry_at_us == NOW + 20000);
}

static void an_elder_goes_first_and_its_heir_after_it(void **state)
{
    struct slot *elder = dirty(0, 4, 0xFF), *fill;
    struct run *run = pick();
    slot_supersede(&table, elder);
    slot_set_mirrored(&table, elder, false); /* the heir's header took its place at the peer */
    struct slot *heir = dirty(0, 4, 0xFF);
    heir->elder = slot_index(&table, elder);
    assert_null(pick());
    destage_failed(&destage, &table, run, NOW);
    assert_null(pick());
    destage_retry(&destage, &table, NOW + 20000);
    dirty(0, 5, 0xFF);
    dirty(0, 3, 0xFF);
    run = destage_pick(&destage, &table, LIST_URGENT, false, &fill);
    assert_run(run, (1 << 20) + 4 * 4096, 4096, 1); /* alone: its neighbours belong to the heir */
    assert_int_equal(run->slots[0], slot_index(&table, elder));
    heir->elder = NO_INDEX;
    assert_run(pick(), (1 << 20) + 3 * 4096, 3 * 4096, 3);
}

static void a_page_that_cannot_be_filled_waits_with_the_failed(void **state)
{
    struct slot *slot = dirty(1, 4, 0x01);
    destage_defer(&destage, &table, slot, NOW);
    assert_int_equal(slot->list, LIST_FAILED);
    assert_true(slot->failed);
    assert_true(destage.retry_at_us == NOW + 20000);
}

static void a_reset_forgets_everything_once_the_store_is_quiet(void **state)
{
    dirty(0, 4, 0xFF);
    dirty(0, 8, 0xFF);
    struct run *first = pick(), *second = pick();
    destage_written(&destage, first);
    assert_true(destage_flush(&destage, 0, false, true));
    ASSERT_CHECK_FAILS(destage_reset(&destage));
    destage_failed(&destage, &table, second, NOW);
    generation_cut(&destage.generations);
    destage_reset(&destage);
    assert_int_equal(destage.used, 0);
    assert_false(destage.stores[0].flushing);
    assert_true(destage.retry_at_us == UINT64_MAX);
    assert_int_equal(destage.generations.open, 0);
    for (uint32_t i = 0; i < destage.run_count; i++)
        assert_int_equal(destage.runs[i].state, RUN_FREE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(neighbours_on_both_sides_go_as_one_write, set_up),
        cmocka_unit_test_setup(page_zero_has_nothing_before_it_and_volumes_do_not_join, set_up),
        cmocka_unit_test_setup(a_run_is_at_most_a_mebibyte, set_up),
        cmocka_unit_test_setup(going_back_for_the_first_page_keeps_the_oldest_in_the_run, set_up),
        cmocka_unit_test_setup(only_the_hull_of_the_dirty_sectors_is_written, set_up),
        cmocka_unit_test_setup(pages_join_only_where_their_hulls_touch, set_up),
        cmocka_unit_test_setup(a_hole_inside_the_hull_is_filled_first, set_up),
        cmocka_unit_test_setup(a_store_with_4096_byte_blocks_gets_whole_pages, set_up),
        cmocka_unit_test_setup(a_neighbour_that_must_be_filled_does_not_join, set_up),
        cmocka_unit_test_setup(who_may_not_go_is_passed_over_and_does_not_join, set_up),
        cmocka_unit_test_setup(alone_nothing_needs_to_be_mirrored, set_up),
        cmocka_unit_test_setup(clean_filling_and_travelling_neighbours_do_not_join, set_up),
        cmocka_unit_test_setup(writes_in_flight_and_runs_that_wait_are_bounded, set_up),
        cmocka_unit_test_setup(one_flush_makes_many_writes_durable, set_up),
        cmocka_unit_test_setup(a_write_that_ends_during_a_flush_waits_for_the_next, set_up),
        cmocka_unit_test_setup(enough_written_runs_are_flushed_although_more_are_coming, set_up),
        cmocka_unit_test_setup(a_failed_run_is_taken_apart_and_its_pages_stay_dirty, set_up),
        cmocka_unit_test_setup(a_page_that_failed_joins_no_other_run, set_up),
        cmocka_unit_test_setup(a_failed_flush_fails_its_runs, set_up),
        cmocka_unit_test_setup(after_a_failed_flush_every_write_since_the_last_good_one_is_suspect,
                               set_up),
        cmocka_unit_test_setup(the_pause_doubles_up_to_five_seconds_and_starts_again_after_success,
                               set_up),
        cmocka_unit_test_setup(a_second_failure_does_not_put_off_the_retry_of_the_first, set_up),
        cmocka_unit_test_setup(an_elder_goes_first_and_its_heir_after_it, set_up),
        cmocka_unit_test_setup(a_page_that_cannot_be_filled_waits_with_the_failed, set_up),
        cmocka_unit_test_setup(a_reset_forgets_everything_once_the_store_is_quiet, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
