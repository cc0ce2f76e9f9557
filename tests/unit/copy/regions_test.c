/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The bitmap of a group against a plain list of marked pages: nothing that may differ is ever
 * forgotten, and what is confirmed is clear. */

#include "../check_trap.h"

#include "base/generator.h"
#include "copy/regions.h"

#include <stdlib.h>

static uint64_t memory[1 << 16];
static struct regions regions;

static void create(uint32_t volume_count, const uint64_t *page_counts)
{
    memset(memory, 0, sizeof memory);
    struct arena arena = arena_over(memory, sizeof memory);
    regions_create(&regions, &arena, volume_count, page_counts);
}

static void a_region_is_as_small_as_the_map_allows(void **state)
{
    const struct {
        uint64_t pages;
        uint32_t shift, count;
    } rows[] = {
        {1, 4, 1},
        {16, 4, 1},
        {17, 4, 2},
        {16ull * COPY_REGIONS, 4, COPY_REGIONS},
        {16ull * COPY_REGIONS + 1, 5, COPY_REGIONS / 2 + 1},
        {1ull << 40, 22, COPY_REGIONS},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        create(1, &rows[i].pages);
        assert_int_equal(regions.maps[0].shift, rows[i].shift);
        assert_int_equal(regions.maps[0].region_count, rows[i].count);
        regions_mark_all(&regions);
        assert_int_equal(regions_left(&regions), rows[i].count);
    }
}

static void a_page_marks_its_region_and_no_other(void **state)
{
    create(2, (const uint64_t[]){100, 100});
    regions_mark(&regions, 1, 31, 2);
    for (uint64_t page = 0; page < 100; page++) {
        assert_false(regions_marked(&regions, 0, page));
        assert_int_equal(regions_marked(&regions, 1, page), page >= 16 && page < 48);
    }
    assert_int_equal(regions_left(&regions), 2);
    regions_mark(&regions, 1, 20, 1);
    assert_int_equal(regions_left(&regions), 2);
}

static void pages_outside_their_volume_are_our_own_mistake(void **state)
{
    create(1, (const uint64_t[]){100});
    ASSERT_CHECK_FAILS(regions_mark(&regions, 0, 100, 1));
    ASSERT_CHECK_FAILS(regions_mark(&regions, 0, 99, 2));
    ASSERT_CHECK_FAILS(regions_mark(&regions, 0, 0, 0));
    ASSERT_CHECK_FAILS(regions_mark(&regions, 1, 0, 1));
    regions_mark(&regions, 0, 99, 1);
}

/* A region that was sent in part when its cycle was closed stays marked when that is confirmed. */
static void only_whole_regions_of_confirmed_cycles_are_clear(void **state)
{
    uint64_t first;
    uint32_t count;
    create(1, (const uint64_t[]){40});
    regions_mark_all(&regions);
    assert_true(regions_next(&regions, 0, 16, &first, &count));
    assert_true(regions_next(&regions, 0, 10, &first, &count));
    assert_int_equal(first, 16);
    assert_int_equal(count, 10);
    regions_close(&regions, 1);
    assert_true(regions_next(&regions, 0, 100, &first, &count));
    assert_int_equal(first, 26);
    assert_int_equal(count, 6); /* to the end of its region */
    assert_int_equal(regions_left(&regions), 3);
    regions_confirm(&regions, 1);
    assert_int_equal(regions_left(&regions), 2);
    assert_true(regions_next(&regions, 0, 100, &first, &count));
    assert_int_equal(count, 8); /* the volume ends within its last region */
    assert_false(regions_pending(&regions, 0));
    assert_false(regions_next(&regions, 0, 100, &first, &count));
    regions_close(&regions, 2);
    regions_confirm(&regions, 2);
    assert_int_equal(regions_left(&regions), 0);
}

static void what_was_rewound_is_sent_again_and_clears_nothing(void **state)
{
    uint64_t first;
    uint32_t count;
    create(1, (const uint64_t[]){40});
    regions_mark(&regions, 0, 0, 20);
    while (regions_next(&regions, 0, 100, &first, &count))
        ;
    regions_close(&regions, 1);
    regions_rewind(&regions, 0);
    regions_confirm(&regions, 1);
    assert_int_equal(regions_left(&regions), 2);
    assert_true(regions_next(&regions, 0, 100, &first, &count));
    assert_int_equal(first, 0);
}

static void the_peer_clears_what_it_has_sent(void **state)
{
    create(1, (const uint64_t[]){16 * 200});
    regions_mark_all(&regions);
    regions_clear(&regions, 0, 130);
    assert_int_equal(regions_left(&regions), 70);
    assert_false(regions_marked(&regions, 0, 130 * 16 - 1));
    assert_true(regions_marked(&regions, 0, 130 * 16));
    regions_clear(&regions, 0, UINT64_MAX); /* foreign: as far as the map goes */
    assert_int_equal(regions_left(&regions), 0);
}

static void a_map_that_travels_in_pieces_joins_what_is_there(void **state)
{
    enum { REGIONS = 203, BYTES = (REGIONS + 7) / 8 };
    uint8_t bytes[BYTES];
    create(1, (const uint64_t[]){16 * REGIONS});
    assert_int_equal(regions_byte_count(&regions, 0), BYTES);
    for (uint64_t region = 0; region < REGIONS; region += 3)
        regions_mark(&regions, 0, region * 16, 1);
    for (uint32_t at = 0; at < BYTES; at += 5)
        regions_get_bytes(&regions, 0, at, min_u32(5, BYTES - at), bytes + at);
    create(1, (const uint64_t[]){16 * REGIONS});
    regions_mark(&regions, 0, 16, 1);
    bytes[BYTES - 1] |= 0xF8; /* foreign: behind the last region */
    for (uint32_t at = 0; at < BYTES; at += 7)
        regions_join_bytes(&regions, 0, at, min_u32(7, BYTES - at), bytes + at);
    for (uint64_t region = 0; region < REGIONS; region++)
        assert_int_equal(regions_marked(&regions, 0, region * 16), region % 3 == 0 || region == 1);
    assert_int_equal(regions_left(&regions), (REGIONS + 2) / 3 + 1);
}

/* Whatever is marked and confirmed in any order: a page is clear only if all of its region was
 * given out after it was marked, and before a cycle that was confirmed was closed. */
static void nothing_is_forgotten_under_random_steps(void **state)
{
    enum { PAGES = 700, REGIONS = (PAGES + 15) / 16 };
    struct generator dice;
    generator_seed(&dice, 7);
    for (int round = 0; round < 200; round++) {
        bool marked[REGIONS] = {false};
        uint32_t given[REGIONS] = {0}, closed[REGIONS] = {0};
        create(1, (const uint64_t[]){PAGES});
        for (int i = 0; i < 60; i++) {
            uint64_t first = generator_below(&dice, PAGES);
            uint32_t count = 1 + (uint32_t)generator_below(&dice, PAGES - first);
            switch (generator_below(&dice, 6)) {
            case 0: /* as by a controller that rewinds when it marks: a new beginning */
                count = min_u32(count, 40);
                regions_mark(&regions, 0, first, count);
                regions_rewind(&regions, 0);
                memset(given, 0, sizeof given);
                memset(closed, 0, sizeof closed);
                for (uint64_t r = first / 16; r <= (first + count - 1) / 16; r++)
                    marked[r] = true;
                break;
            case 1:
                regions_close(&regions, 2);
                memcpy(closed, given, sizeof closed);
                break;
            case 2:
                regions_confirm(&regions, 2);
                for (int r = 0; r < REGIONS; r++)
                    marked[r] &= closed[r] < min_u32(16, PAGES - 16 * r);
                break;
            default:
                if (regions_next(&regions, 0, 1 + (uint32_t)generator_below(&dice, 20), &first,
                                 &count)) {
                    assert_true(marked[first / 16]);
                    given[first / 16] += count;
                }
            }
            uint32_t left = 0;
            for (int r = 0; r < REGIONS; r++) {
                assert_int_equal(regions_marked(&regions, 0, 16ull * r), marked[r]);
                left += marked[r];
            }
            assert_int_equal(regions_left(&regions), left);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_region_is_as_small_as_the_map_allows),
        cmocka_unit_test(a_page_marks_its_region_and_no_other),
        cmocka_unit_test(pages_outside_their_volume_are_our_own_mistake),
        cmocka_unit_test(only_whole_regions_of_confirmed_cycles_are_clear),
        cmocka_unit_test(what_was_rewound_is_sent_again_and_clears_nothing),
        cmocka_unit_test(the_peer_clears_what_it_has_sent),
        cmocka_unit_test(a_map_that_travels_in_pieces_joins_what_is_there),
        cmocka_unit_test(nothing_is_forgotten_under_random_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
