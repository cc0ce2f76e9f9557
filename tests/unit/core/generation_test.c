/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Flush generations against a plain list of what each FLUSH must wait for. */

#include "destage/generation.h"

#include "base/generator.h"

#include "slot_table.h"

static void a_flush_waits_for_what_was_dirty_and_not_for_what_comes_later(void **state)
{
    struct generations generations = {0};
    struct slot before = {0}, after = {0};
    generation_join(&generations, &before);
    uint64_t cut = generation_cut(&generations);
    generation_join(&generations, &after);
    assert_false(generation_is_over(&generations, cut));
    generation_leave(&generations, &after);
    assert_false(generation_is_over(&generations, cut));
    generation_leave(&generations, &before);
    assert_true(generation_is_over(&generations, cut));
}

static void a_flush_of_nothing_is_over_at_once(void **state)
{
    struct generations generations = {0};
    for (int i = 0; i < 3 * FLUSH_GENERATIONS; i++)
        assert_true(generation_is_over(&generations, generation_cut(&generations)));
}

static void a_later_flush_waits_for_what_an_earlier_one_waits_for(void **state)
{
    struct generations generations = {0};
    struct slot first = {0}, second = {0};
    generation_join(&generations, &first);
    uint64_t cut = generation_cut(&generations);
    generation_join(&generations, &second);
    uint64_t later = generation_cut(&generations);
    generation_leave(&generations, &second);
    assert_false(generation_is_over(&generations, cut));
    assert_false(generation_is_over(&generations, later));
    generation_leave(&generations, &first);
    assert_true(generation_is_over(&generations, later));
}

static void a_page_written_again_is_still_owed_to_the_first_flush(void **state)
{
    struct generations generations = {0};
    struct slot slot = {0};
    generation_join(&generations, &slot);
    uint64_t cut = generation_cut(&generations);
    generation_join(&generations, &slot);
    assert_false(generation_is_over(&generations, cut));
    generation_leave(&generations, &slot);
    assert_true(generation_is_over(&generations, cut));
    generation_leave(&generations, &slot); /* nothing to leave */
}

static void an_heir_owes_what_its_elder_owed(void **state)
{
    struct generations generations = {0};
    struct slot elder = {0}, heir = {0}, nobody = {0};
    generation_join(&generations, &elder);
    uint64_t cut = generation_cut(&generations);
    generation_inherit(&generations, &elder, &heir);
    assert_true(heir.counted);
    assert_false(elder.counted);
    generation_join(&generations, &heir);
    assert_false(generation_is_over(&generations, cut));
    generation_leave(&generations, &heir);
    assert_true(generation_is_over(&generations, cut));
    generation_inherit(&generations, &elder, &nobody); /* owes nothing any more */
    assert_false(nobody.counted);
    generation_join(&generations, &heir);
    generation_join(&generations, &elder);
    ASSERT_CHECK_FAILS(generation_inherit(&generations, &elder, &heir));
}

/* A takeover: one addition counts all that the image holds; each is marked as it leaves its list.
 */
static void adopted_pages_are_owed_to_every_flush_from_the_takeover_on(void **state)
{
    struct generations generations = {0};
    struct slot_table table;
    struct arena arena = table_arena();
    slot_table_create(&table, &arena, 8);
    struct slot own = {0};
    struct slot *adopted[2] = {slot_take_image(&table, 0, slot_key(3, 0)),
                               slot_take_image(&table, 1, slot_key(3, 1))};
    generation_join(&generations, &own);
    generation_cut(&generations);
    generation_adopt(&generations, &table);
    ASSERT_CHECK_FAILS(generation_adopt(&generations, &table));
    uint64_t cut = generation_cut(&generations);
    generation_leave(&generations, &own);
    assert_false(generation_is_over(&generations, cut));
    assert_int_equal(generations.volume_pages[3], 0);
    generation_join(&generations, adopted[0]); /* on its way to the store */
    assert_true(adopted[0]->counted);
    assert_int_equal(generations.volume_pages[3], 1);
    slot_list_remove(&table, adopted[0]);
    ASSERT_CHECK_FAILS(generation_adopt_end(&generations, &table));
    generation_leave(&generations, adopted[0]);
    assert_false(generation_is_over(&generations, cut));
    generation_leave(&generations, adopted[1]); /* discarded straight from the list */
    slot_list_remove(&table, adopted[1]);
    assert_true(generation_is_over(&generations, cut));
    generation_adopt_end(&generations, &table);
    assert_int_equal(generations.volume_pages[3], 0);
}

static void when_all_generations_are_in_use_a_flush_waits_for_more_not_less(void **state)
{
    struct generations generations = {0};
    struct slot slots[FLUSH_GENERATIONS + 8];
    uint64_t cuts[ARRAY_LENGTH(slots)];
    memset(slots, 0, sizeof slots);
    for (size_t i = 0; i < ARRAY_LENGTH(slots); i++) {
        generation_join(&generations, &slots[i]);
        cuts[i] = generation_cut(&generations);
        assert_true(generations.open - generations.oldest < FLUSH_GENERATIONS);
    }
    /* Leaving in the reverse order: no flush may be over before the first slot has left. */
    for (size_t i = ARRAY_LENGTH(slots); i-- > 0;) {
        for (size_t c = 0; c < ARRAY_LENGTH(slots); c++)
            assert_false(generation_is_over(&generations, cuts[c]));
        generation_leave(&generations, &slots[i]);
    }
    for (size_t c = 0; c < ARRAY_LENGTH(slots); c++)
        assert_true(generation_is_over(&generations, cuts[c]));
}

/* The reference: each flush keeps its own set of slots. */
static void random_steps_agree_with_a_plain_model(void **state)
{
    enum { SLOTS = 24, FLUSHES = 40, STEPS = 200000 };
    static struct slot slots[SLOTS];
    static struct {
        bool used, owed[SLOTS];
        uint64_t cut;
    } flushes[FLUSHES];
    struct generations generations = {0};
    struct generator random;
    unsigned over = 0, exact = 0;
    memset(slots, 0, sizeof slots);
    memset(flushes, 0, sizeof flushes);
    generator_seed(&random, 7);
    for (int step = 0; step < STEPS; step++) {
        uint32_t s = (uint32_t)generator_below(&random, SLOTS);
        uint32_t f = (uint32_t)generator_below(&random, FLUSHES);
        switch (generator_below(&random, 5)) {
        case 0:
        case 1:
            generation_join(&generations, &slots[s]);
            break;
        case 2:
        case 3:
            generation_leave(&generations, &slots[s]);
            for (int i = 0; i < FLUSHES; i++)
                flushes[i].owed[s] = false;
            break;
        default:
            if (flushes[f].used)
                break;
            flushes[f].used = true;
            flushes[f].cut = generation_cut(&generations);
            for (int i = 0; i < SLOTS; i++)
                flushes[f].owed[i] = slots[i].counted;
        }
        for (f = 0; f < FLUSHES; f++) {
            bool owes = false;
            for (int i = 0; i < SLOTS; i++)
                owes |= flushes[f].owed[i];
            if (!flushes[f].used)
                continue;
            bool says_over = generation_is_over(&generations, flushes[f].cut);
            assert_false(says_over && owes); /* never too early */
            exact += !owes && says_over;
            over += !owes;
            flushes[f].used = !says_over;
        }
        uint32_t counted = 0, sum = 0;
        for (int i = 0; i < SLOTS; i++)
            counted += slots[i].counted;
        for (int i = 0; i < FLUSH_GENERATIONS; i++)
            sum += generations.count[i];
        assert_int_equal(counted, sum);
        assert_true(generations.open - generations.oldest < FLUSH_GENERATIONS);
    }
    assert_true(exact > 1000);
    for (int i = 0; i < SLOTS; i++)
        generation_leave(&generations, &slots[i]);
    for (int f = 0; f < FLUSHES; f++)
        assert_true(!flushes[f].used || generation_is_over(&generations, flushes[f].cut));
    (void)over;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flush_waits_for_what_was_dirty_and_not_for_what_comes_later),
        cmocka_unit_test(a_flush_of_nothing_is_over_at_once),
        cmocka_unit_test(a_later_flush_waits_for_what_an_earlier_one_waits_for),
        cmocka_unit_test(a_page_written_again_is_still_owed_to_the_first_flush),
        cmocka_unit_test(an_heir_owes_what_its_elder_owed),
        cmocka_unit_test(adopted_pages_are_owed_to_every_flush_from_the_takeover_on),
        cmocka_unit_test(when_all_generations_are_in_use_a_flush_waits_for_more_not_less),
        cmocka_unit_test(random_steps_agree_with_a_plain_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
