/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The slot table: the diagram's steps and no others, one index, and lists that stay lists. */

#include "cache/slot.h"

#include "base/generator.h"
#include "slot_table.h"

enum { HALF = 100 };

static struct slot_table table;

static int set_up(void **state)
{
    struct arena arena = table_arena();
    slot_table_create(&table, &arena, HALF);
    return 0;
}

/* Written from the diagram in slot.h, not from the code. F C I T D G = FREE .. DESTAGING. */
static const char *const legal_steps[SLOT_STATE_COUNT] = {
    [SLOT_FREE] = "CD",   /* slot_take; slot_take_image */
    [SLOT_CLEAN] = "FID", /* release; write while mirroring; write while solo */
    /* To CLEAN: superseded, and the remote copy still needs it. */
    [SLOT_FILLING] = "FCTD",   /* superseded and released; sealed; mirror lost */
    [SLOT_TRAVELLING] = "FCD", /* superseded and released; acknowledged or mirror lost */
    [SLOT_DIRTY] = "FCIG",     /* discarded; written or refilled; picked */
    [SLOT_DESTAGING] = "FCD",  /* superseded and durable; durable; store error */
};

static bool step_is_legal(int from, int to)
{
    static const char letters[] = "FCITDG";
    return strchr(legal_steps[from], letters[to]) != NULL;
}

static void every_step_of_the_diagram_is_taken_and_counted(void **state)
{
    for (int from = 0; from < SLOT_STATE_COUNT; from++) {
        for (int to = 0; to < SLOT_STATE_COUNT; to++) {
            if (!step_is_legal(from, to))
                continue;
            set_up(state);
            struct slot *slot = slot_at(&table, 7);
            slot_walk_to(&table, slot, (enum slot_state)from);
            assert_int_equal(table.state_count[0][from], from == SLOT_FREE ? HALF : 1);
            slot_set_state(&table, slot, (enum slot_state)to);
            assert_int_equal(slot->state, to);
            for (int i = 0; i < SLOT_STATE_COUNT; i++) {
                uint32_t others = i == SLOT_FREE ? HALF - 1 : 0;
                assert_int_equal(table.state_count[0][i], others + (i == to));
                assert_int_equal(table.state_count[1][i], i == SLOT_FREE ? HALF : 0);
            }
        }
    }
}

static void every_step_outside_the_diagram_stops_the_process(void **state)
{
    volatile unsigned tried = 0;
    for (volatile int from = 0; from < SLOT_STATE_COUNT; from++) {
        for (volatile int to = 0; to < SLOT_STATE_COUNT; to++) {
            if (step_is_legal(from, to))
                continue;
            set_up(state);
            struct slot *slot = slot_at(&table, 7);
            slot_walk_to(&table, slot, (enum slot_state)from);
            ASSERT_CHECK_FAILS(slot_set_state(&table, slot, (enum slot_state)to));
            tried = tried + 1;
        }
    }
    assert_int_equal(tried, 17);
}

static void the_halves_are_counted_apart(void **state)
{
    struct slot *slot = slot_take_image(&table, 3, slot_key(1, 9));
    assert_int_equal(slot_index(&table, slot), HALF + 3);
    assert_true(slot_in_image(&table, slot));
    assert_int_equal(slot->state, SLOT_DIRTY);
    assert_int_equal(slot->list, LIST_IMAGE);
    assert_int_equal(slot_dirty_count(&table, 0), 0);
    assert_int_equal(slot_dirty_count(&table, 1), 1);
    assert_ptr_equal(slot_find(&table, slot_key(1, 9)), slot);
    slot_release(&table, slot);
    assert_null(slot_find(&table, slot_key(1, 9)));
    assert_int_equal(table.state_count[1][SLOT_FREE], HALF);
    assert_int_equal(slot_list_count(&table, LIST_FREE),
                     HALF); /* the image's slots are on no free list */
    ASSERT_CHECK_FAILS(slot_take_image(&table, HALF, 0));
}

static void every_page_is_found_by_its_own_key_only(void **state)
{
    struct slot *slots[HALF];
    for (uint32_t i = 0; i < HALF; i++) {
        slots[i] = slot_take(&table, slot_key((uint8_t)(i % 3 == 2 ? 255 : i % 3), i / 3));
        assert_non_null(slots[i]);
        assert_int_equal(slots[i]->state, SLOT_CLEAN);
        assert_int_equal(slots[i]->valid, 0);
        assert_int_equal(slots[i]->list, LIST_NONE);
    }
    assert_null(slot_take(&table, slot_key(9, 9)));
    for (uint32_t i = 0; i < HALF; i++)
        assert_ptr_equal(slot_find(&table, slot_key((uint8_t)(i % 3 == 2 ? 255 : i % 3), i / 3)),
                         slots[i]);
    assert_null(slot_find(&table, slot_key(0, HALF)));
    /* Taken out in another order, so that ends and middles of chains are removed. */
    for (uint32_t i = 0; i < HALF; i += 2)
        slot_release(&table, slots[i]);
    for (uint32_t i = 0; i < HALF; i++) {
        struct slot *found =
            slot_find(&table, slot_key((uint8_t)(i % 3 == 2 ? 255 : i % 3), i / 3));
        assert_ptr_equal(found, i % 2 ? slots[i] : NULL);
    }
    assert_int_equal(slot_list_count(&table, LIST_FREE), HALF / 2);
}

static void a_key_names_volume_and_page(void **state)
{
    uint64_t key = slot_key(255, (UINT64_C(1) << 40) - 1);
    assert_int_equal(slot_key_volume(key), 255);
    assert_true(slot_key_page(key) == (UINT64_C(1) << 40) - 1);
    assert_true(slot_key(1, 0) != slot_key(0, 1));
}

static void a_superseded_slot_leaves_the_index_and_keeps_its_data(void **state)
{
    struct slot *old = slot_take(&table, 5);
    memset(slot_frame(&table, old), 0xEE, PAGE_SIZE_BYTES);
    old->valid = 0xFF;
    slot_walk_to(&table, old, SLOT_FILLING);
    slot_supersede(&table, old);
    assert_null(slot_find(&table, 5));
    struct slot *heir = slot_take(&table, 5);
    assert_ptr_not_equal(heir, old);
    assert_ptr_equal(slot_find(&table, 5), heir);
    assert_int_equal(slot_frame(&table, old)[100], 0xEE);
    assert_int_equal(old->valid, 0xFF);
    ASSERT_CHECK_FAILS(slot_supersede(&table, old));
    assert_ptr_equal(slot_find(&table, 5), heir);
    slot_release(&table, old);
    assert_ptr_equal(slot_find(&table, 5), heir);
}

static void a_free_slot_cannot_be_superseded(void **state)
{
    ASSERT_CHECK_FAILS(slot_supersede(&table, slot_at(&table, 0)));
}

static void a_released_slot_is_the_next_one_taken_and_holds_nothing(void **state)
{
    struct slot *slot = slot_take(&table, 1);
    slot->valid = slot->dirty = slot->send = 0xFF;
    slot->unsafe = slot->failed = slot->held = true;
    slot->elder = 4;
    slot->frequency = 3;
    slot_set_mirrored(&table, slot, true);
    slot_release(&table, slot);
    assert_false(slot_is_mirrored(&table, slot));
    struct slot *again = slot_take(&table, 2);
    assert_ptr_equal(again, slot);
    assert_int_equal(again->valid | again->dirty | again->send | again->frequency, 0);
    assert_false(again->unsafe || again->failed || again->held || again->superseded ||
                 again->counted);
    assert_int_equal(again->elder, NO_INDEX);
    assert_null(slot_find(&table, 1));
}

static void a_slot_that_someone_waits_for_or_counts_on_is_not_released(void **state)
{
    struct slot *slot = slot_take(&table, 1);
    slot->waiters = 0;
    ASSERT_CHECK_FAILS(slot_release(&table, slot));
    slot->waiters = NO_INDEX;
    slot->fetch = 1;
    ASSERT_CHECK_FAILS(slot_release(&table, slot));
    slot->fetch = 0;
    slot->counted = true;
    ASSERT_CHECK_FAILS(slot_release(&table, slot));
    slot->counted = false;
    slot_release(&table, slot);
    ASSERT_CHECK_FAILS(slot_release(&table, slot));
}

static void one_number_makes_every_peer_copy_of_a_volume_invalid(void **state)
{
    struct slot *slot = slot_take(&table, 1);
    assert_false(slot_is_mirrored(&table, slot));
    slot_set_mirrored(&table, slot, true);
    assert_true(slot_is_mirrored(&table, slot));
    slot_mirror_forget_all(&table);
    assert_false(slot_is_mirrored(&table, slot));
}

static void a_volumes_copies_at_the_peer_become_invalid_without_the_others(void **state)
{
    struct slot *slot = slot_take(&table, slot_key(0, 1)),
                *other = slot_take(&table, slot_key(1, 1));
    for (uint8_t volume = 0; volume < 2; volume++) {
        slot_set_mirrored(&table, slot, true);
        slot_set_mirrored(&table, other, true);
        slot_mirror_forget(&table, volume);
        assert_true(slot_is_mirrored(&table, slot) == (volume == 1));
        assert_true(slot_is_mirrored(&table, other) == (volume == 0));
        assert_false(slot_is_mirrored(&table, slot_at(&table, 50))); /* never was */
    }
}

static void a_slot_stands_on_one_list_at_most(void **state)
{
    struct slot *slot = slot_take(&table, 1);
    slot_list_append(&table, LIST_SMALL, slot);
    ASSERT_CHECK_FAILS(slot_list_append(&table, LIST_MAIN, slot));
    ASSERT_CHECK_FAILS(slot_list_prepend(&table, LIST_MAIN, slot));
    slot_list_remove(&table, slot);
    assert_int_equal(slot->list, LIST_NONE);
    slot_list_remove(&table, slot); /* nothing to do */
    assert_int_equal(slot_list_count(&table, LIST_SMALL), 0);
}

/* Random steps on two lists against two plain arrays. */
static void lists_keep_their_order_under_any_steps(void **state)
{
    enum { LISTS = 2, SLOTS = 12 };
    static const enum slot_list_id ids[LISTS] = {LIST_SMALL, LIST_BACKLOG};
    struct slot *slots[SLOTS], *model[LISTS][SLOTS];
    uint32_t count[LISTS] = {0};
    struct generator random;
    generator_seed(&random, 1);
    for (uint32_t i = 0; i < SLOTS; i++)
        slots[i] = slot_take(&table, i);
    for (int step = 0; step < 5000; step++) {
        struct slot *slot = slots[generator_below(&random, SLOTS)];
        int to = (int)generator_below(&random, LISTS);
        if (slot->list == LIST_NONE && generator_chance(&random, 1, 2)) {
            slot_list_append(&table, ids[to], slot);
            model[to][count[to]++] = slot;
        } else if (slot->list == LIST_NONE) {
            slot_list_prepend(&table, ids[to], slot);
            memmove(&model[to][1], &model[to][0], count[to]++ * sizeof slot);
            model[to][0] = slot;
        } else {
            int from = slot->list == ids[1];
            uint32_t at = 0;
            while (model[from][at] != slot)
                at++;
            memmove(&model[from][at], &model[from][at + 1], (--count[from] - at) * sizeof slot);
            slot_list_remove(&table, slot);
        }
        for (int i = 0; i < LISTS; i++) {
            assert_int_equal(slot_list_count(&table, ids[i]), count[i]);
            struct slot *next = slot_list_first(&table, ids[i]);
            for (uint32_t at = 0; at < count[i]; at++) {
                assert_ptr_equal(next, model[i][at]);
                assert_int_equal(next->prev,
                                 at == 0 ? NO_INDEX : slot_index(&table, model[i][at - 1]));
                next = next->next == NO_INDEX ? NULL : slot_at(&table, next->next);
            }
            assert_null(next);
        }
    }
}

static void a_reset_makes_everything_free(void **state)
{
    slot_list_append(&table, LIST_BACKLOG, slot_take(&table, 1));
    slot_walk_to(&table, slot_find(&table, 1), SLOT_DESTAGING);
    slot_take_image(&table, 0, 2);
    slot_table_reset(&table);
    assert_null(slot_find(&table, 1));
    assert_null(slot_find(&table, 2));
    assert_int_equal(slot_list_count(&table, LIST_FREE), HALF);
    assert_int_equal(slot_list_count(&table, LIST_BACKLOG), 0);
    assert_int_equal(slot_list_count(&table, LIST_IMAGE), 0);
    for (int half = 0; half < 2; half++) {
        assert_int_equal(table.state_count[half][SLOT_FREE], HALF);
        assert_int_equal(slot_dirty_count(&table, half), 0);
    }
}

static void frames_are_pages_that_do_not_overlap(void **state)
{
    for (uint32_t i = 0; i < 2 * HALF; i++)
        memset(slot_frame(&table, slot_at(&table, i)), (int)i, PAGE_SIZE_BYTES);
    for (uint32_t i = 0; i < 2 * HALF; i++) {
        const uint8_t *frame = slot_frame(&table, slot_at(&table, i));
        assert_int_equal((uintptr_t)frame % PAGE_SIZE_BYTES, 0);
        assert_int_equal(frame[0], (uint8_t)i);
        assert_int_equal(frame[PAGE_SIZE_BYTES - 1], (uint8_t)i);
    }
    ASSERT_CHECK_FAILS(slot_at(&table, 2 * HALF));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(every_step_of_the_diagram_is_taken_and_counted, set_up),
        cmocka_unit_test_setup(every_step_outside_the_diagram_stops_the_process, set_up),
        cmocka_unit_test_setup(the_halves_are_counted_apart, set_up),
        cmocka_unit_test_setup(every_page_is_found_by_its_own_key_only, set_up),
        cmocka_unit_test_setup(a_key_names_volume_and_page, set_up),
        cmocka_unit_test_setup(a_superseded_slot_leaves_the_index_and_keeps_its_data, set_up),
        cmocka_unit_test_setup(a_free_slot_cannot_be_superseded, set_up),
        cmocka_unit_test_setup(a_released_slot_is_the_next_one_taken_and_holds_nothing, set_up),
        cmocka_unit_test_setup(a_slot_that_someone_waits_for_or_counts_on_is_not_released, set_up),
        cmocka_unit_test_setup(one_number_makes_every_peer_copy_of_a_volume_invalid, set_up),
        cmocka_unit_test_setup(a_volumes_copies_at_the_peer_become_invalid_without_the_others,
                               set_up),
        cmocka_unit_test_setup(a_slot_stands_on_one_list_at_most, set_up),
        cmocka_unit_test_setup(lists_keep_their_order_under_any_steps, set_up),
        cmocka_unit_test_setup(a_reset_makes_everything_free, set_up),
        cmocka_unit_test_setup(frames_are_pages_that_do_not_overlap, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
