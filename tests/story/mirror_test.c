/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Stories of a healthy pair: what travels when a host writes, reads and writes again; and what
 * never travels. */

#include "story.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* A write is acknowledged once the peer has applied it, and a read then needs nobody. */
static void plain_write(void **state)
{
    struct story *story = story_begin();
    story_write(story, A, 1, 5, 0x11);
    story_expect(story, "a: host 1 op 1 volume 0 offset 20480 length 4096\n"
                        "a: fill write slot 0 volume 0 page 5 fresh\n"
                        "a: seal batch headers 1 data 4096\n"
                        "a: send batch 4224\n");
    story_deliver(story, A);
    story_expect(story, "b: apply batch headers 1\n"
                        "b: reply good\n");
    story_answer(story, A);
    story_expect(story, "a: acknowledged batch\n"
                        "a: complete 1 result 0\n"
                        "a: done 1 ok\n");
    story_read(story, A, 2, 5);
    assert_int_equal(story_found(story, 2), 0x11);
    story_expect(story, "a: done 2 ok at once\n"
                        "a: host 2 op 0 volume 0 offset 20480 length 4096\n"
                        "a: complete 2 result 0\n");
    story_end(story);
}

/* A read of a page that is not mirrored yet waits for the mirror: it never returns what a crash
 * could take back. */
static void read_of_an_unmirrored_page_waits(void **state)
{
    struct story *story = story_begin();
    story_write(story, A, 1, 5, 0x11);
    story_skip(story);
    story_read(story, A, 2, 5);
    story_expect(story, "a: host 2 op 0 volume 0 offset 20480 length 4096\n");
    story_carry(story, A);
    assert_int_equal(story_found(story, 2), 0x11);
    story_expect(story, "b: apply batch headers 1\n"
                        "b: reply good\n"
                        "a: acknowledged batch\n"
                        "a: complete 2 result 0\n"
                        "a: complete 1 result 0\n"
                        "a: done 2 ok\n"
                        "a: done 1 ok\n");
    story_end(story);
}

/* While one list travels the next one fills; it goes the moment the link is free, as one command.
 */
static void two_writes_while_one_list_travels(void **state)
{
    struct story *story = story_begin();
    story_write(story, A, 1, 1, 0x11);
    story_skip(story);
    story_write(story, A, 2, 2, 0x22);
    story_write(story, A, 3, 3, 0x33);
    story_expect(story, "a: host 2 op 1 volume 0 offset 8192 length 4096\n"
                        "a: fill write slot 1 volume 0 page 2 fresh\n"
                        "a: host 3 op 1 volume 0 offset 12288 length 4096\n"
                        "a: fill write slot 2 volume 0 page 3 fresh\n");
    story_carry(story, A);
    story_expect(story, "b: apply batch headers 1\n"
                        "b: reply good\n"
                        "a: acknowledged batch\n"
                        "a: complete 1 result 0\n"
                        "a: seal batch headers 2 data 8192\n"
                        "a: send batch 8352\n"
                        "a: done 1 ok\n");
    story_carry(story, A);
    story_expect(story, "b: apply batch headers 2\n"
                        "b: reply good\n"
                        "a: acknowledged batch\n"
                        "a: complete 2 result 0\n"
                        "a: complete 3 result 0\n"
                        "a: done 2 ok\n"
                        "a: done 3 ok\n");
    story_end(story);
}

/* Two writes of one page in the filling list are one header. */
static void overwrite_before_the_list_goes_folds(void **state)
{
    struct story *story = story_begin();
    story_write(story, A, 1, 1, 0x11);
    story_write(story, A, 2, 2, 0x22);
    story_skip(story);
    story_write(story, A, 3, 2, 0x33);
    story_expect(story, "a: host 3 op 1 volume 0 offset 8192 length 4096\n");
    story_carry(story, A);
    story_carry(story, A);
    story_expect(story, "b: apply batch headers 1\n"
                        "b: reply good\n"
                        "a: acknowledged batch\n"
                        "a: complete 1 result 0\n"
                        "a: seal batch headers 1 data 4096\n"
                        "a: send batch 4224\n"
                        "a: done 1 ok\n"
                        "b: apply batch headers 1\n"
                        "b: reply good\n"
                        "a: acknowledged batch\n"
                        "a: complete 2 result 0\n"
                        "a: complete 3 result 0\n"
                        "a: done 2 ok\n"
                        "a: done 3 ok\n");
    story_read(story, A, 4, 2);
    assert_int_equal(story_found(story, 4), 0x33);
    story_skip(story);
    story_end(story);
}

/* What travels is immutable: a write to its page takes a fresh slot. */
static void overwrite_in_transit_takes_a_fresh_slot(void **state)
{
    struct story *story = story_begin();
    story_write(story, A, 1, 5, 0x11);
    story_skip(story);
    story_write(story, A, 2, 5, 0x22);
    story_expect(story, "a: host 2 op 1 volume 0 offset 20480 length 4096\n"
                        "a: slot 1 supersedes slot 0\n"
                        "a: fill write slot 1 volume 0 page 5 fresh\n");
    story_carry(story, A);
    story_expect(story, "b: apply batch headers 1\n"
                        "b: reply good\n"
                        "a: acknowledged batch\n"
                        "a: complete 1 result 0\n"
                        "a: seal batch headers 1 data 4096\n"
                        "a: send batch 4224\n"
                        "a: done 1 ok\n");
    story_carry(story, A);
    story_expect(story, "b: apply batch headers 1\n"
                        "b: reply good\n"
                        "a: acknowledged batch\n"
                        "a: complete 2 result 0\n"
                        "a: done 2 ok\n");
    story_end(story);
}

/* As many pages as there are slots are written and destaged: every slot is in use, clean, and known
 * to the peer. */
static struct story *begin_with_full_cache(void)
{
    struct story *story = story_begin();
    for (uint64_t page = 0; page < STORY_SLOTS; page++) {
        story_write(story, A, 1000 + page, page, (uint8_t)(page + 1));
        story_settle(story, 1);
    }
    story_settle(story, 120000);
    assert_int_equal(story_status(story, A)->slots_clean, STORY_SLOTS);
    assert_int_equal(story_status(story, A)->flush_messages, 0);
    assert_int_equal(story_stored(story, 7), 8);
    story_skip(story);
    return story;
}

/* Destaging sent nothing. A read that takes a once-mirrored slot says so with a DROP; a write that
 * takes one needs no DROP, because its own header says it. */
static void read_drops_and_write_reuses(void **state)
{
    struct story *story = begin_with_full_cache();
    story_read(story, A, 1, 100);
    story_expect(story, "a: host 1 op 0 volume 0 offset 409600 length 4096\n"
                        "a: drop slot 0\n"
                        "a: seal batch headers 1 data 0\n"
                        "a: store read 409600+4096\n"
                        "a: send batch 128\n");
    story_store(story, A, STORE_DONE);
    story_carry(story, A);
    story_expect(story, "a: store done io 3:0 result 0\n"
                        "a: complete 1 result 0\n"
                        "a: done 1 ok\n"
                        "b: apply batch headers 1\n"
                        "b: reply good\n"
                        "a: acknowledged batch\n");
    story_write(story, A, 2, 101, 0x77);
    story_expect(story, "a: host 2 op 1 volume 0 offset 413696 length 4096\n"
                        "a: fill write slot 1 volume 0 page 101 fresh\n"
                        "a: seal batch headers 1 data 4096\n"
                        "a: send batch 4224\n");
    story_carry(story, A);
    story_skip(story);
    story_end(story);
}

/* A page whose mirrored slot was dropped, and that was written again elsewhere, is taken over in
 * its new version. */
static void old_version_never_returns_after_drop_and_rewrite(void **state)
{
    struct story *story = begin_with_full_cache();
    for (uint64_t page = 100; page < 160; page++) { /* enough to push every old page out */
        story_read(story, A, page, page);
        story_settle(story, 1);
    }
    for (uint64_t page = 0; page < 10; page++) {
        story_write(story, A, 200 + page, page, 0xB0);
        story_settle(story, 1);
    }
    story_crash(story, A);
    story_gone(story, B);
    story_settle(story, 10);
    assert_int_equal(story_role(story, B), ROLE_SOLO);
    for (uint64_t page = 0; page < 10; page++) {
        story_read(story, B, 300 + page, page);
        story_settle(story, 1);
        assert_int_equal(story_found(story, 300 + page), 0xB0);
    }
    story_read(story, B, 400, 20);
    story_settle(story, 1);
    assert_int_equal(story_found(story, 400), 21); /* destaged, dropped, never written again */
    story_skip(story);
    story_end(story);
}

/* A discarded page does not come back from the mirror after a takeover. */
static void trimmed_page_stays_trimmed_after_takeover(void **state)
{
    struct story *story = story_begin();
    story_write(story, A, 1, 5, 0x11);
    story_settle(story, 1);
    story_trim(story, A, 2, 0, 16);
    story_settle(story, 1);
    story_skip(story);
    story_crash(story, A);
    story_gone(story, B);
    story_settle(story, 10);
    story_read(story, B, 3, 5);
    story_settle(story, 1);
    assert_int_equal(story_found(story, 3), 0);
    story_skip(story);
    story_end(story);
}

/* WRITE ZEROES whose head is part of a page: that goes through the cache, ahead of the range. The
 * answer to the range's list is the answer to both, and the host has not to wait for a list that
 * only another host, or the next sign of life, would send. */
static void zeroes_with_a_ragged_head_are_over_with_their_range(void **state)
{
    struct story *story = story_begin();
    story_zero(story, A, 1, 512, 40 * PAGE_SIZE_BYTES);
    story_expect(story, "a: host 1 op 4 volume 0 offset 512 length 163328\n"
                        "a: fill write slot 0 volume 0 page 0 fresh\n"
                        "a: seal batch headers 1 data 3584\n"
                        "a: store trim 4096+159744\n"
                        "a: send batch 3712\n");
    story_carry(story, A);
    story_skip(story);
    story_store(story, A, STORE_DONE);
    story_expect(story, "a: store done io 4:0 result 0\n"
                        "a: flush store 0\n"
                        "a: store flush\n");
    story_store(story, A, STORE_DONE);
    story_skip(story);
    story_carry(story, A);
    story_expect(story, "b: apply batch headers 1\n"
                        "b: reply good\n"
                        "a: acknowledged batch\n"
                        "a: complete 1 result 0\n"
                        "a: done 1 ok\n");
    story_end(story);
}

/* The store fails a destage: the page stays dirty, is still read from the cache, and goes when the
 * store is well. */
static void store_error_during_destage(void **state)
{
    struct story *story = story_begin();
    story_write(story, A, 1, 5, 0x11);
    story_settle(story, 1);
    story_skip(story);
    story_log(story, false);
    while (story_status(story, A)->destage.in_flight == 0) { /* the page grows old */
        story_settle(story, 0);
        story_wait(story, 200);
    }
    story_skip(story);
    story_store(story, A, STORE_ERROR);
    story_expect(story, "a: store 0: a write of 4096 bytes at 20480 failed: its pages stay dirty "
                        "and will be tried again\n");
    assert_int_equal(story_stored(story, 5), 0);
    assert_int_equal(story_status(story, A)->destage.failed_pages, 1);
    story_read(story, A, 2, 5);
    assert_int_equal(story_found(story, 2), 0x11);
    story_settle(story, 20000);
    assert_int_equal(story_stored(story, 5), 0x11);
    assert_int_equal(story_status(story, A)->slots_dirty, 0);
    assert_int_equal(story_status(story, A)->flush_messages, 0);
    story_skip(story);
    story_end(story);
}

/* A discard that the store fails is done with zeros through the cache, when there is room. Until
 * then nobody else touches its pages: a write that waited before it for room would be seen, and
 * then be lost to the zeros. */
static void a_failed_discard_keeps_its_pages_until_they_are_zero(void **state)
{
    struct story *story = story_begin();
    for (uint64_t page = 0; page < 48; page++) { /* three quarters of the cache: no more room */
        story_write(story, A, 1 + page, page, 0x11);
        story_carry(story, A);
    }
    story_skip(story);
    story_log(story, false);
    story_write(story, A, 60, 110, 0x22);
    story_trim(story, A, 61, 100, 20);
    story_expect(story, "a: store trim 409600+81920\n");
    story_store(story, A, STORE_ERROR); /* a run */
    story_store(story, A, STORE_ERROR); /* the discard */
    story_expect(story, "a: store 0: a write of 102400 bytes at 0 failed: its pages stay dirty and "
                        "will be tried again\n"
                        "a: store write 102400+94208\n");
    story_settle(story, 20000);
    story_read(story, A, 62, 110);
    story_settle(story, 1);
    assert_int_equal(story_found(story, 62), 0x22);
    story_read(story, A, 63, 111);
    story_settle(story, 1);
    assert_int_equal(story_found(story, 63), 0);
    story_skip(story);
    story_end(story);
}

/* B has a page in its cache from when it owned the volume; A discards it on the store and dies
 * before B hears of that. B reads what the store has: its own copy would show old data, and zeros
 * later. */
static void what_was_clean_before_a_takeover_is_not_believed(void **state)
{
    struct story *story = story_begin();
    story_write(story, A, 1, 5, 0x11);
    story_settle(story, 1);
    story_move(story, A, B);
    story_settle(story, 1000);
    story_read(story, B, 2, 5);
    story_settle(story, 1);
    assert_int_equal(story_found(story, 2), 0x11);
    story_move(story, B, A);
    story_settle(story, 1000);
    assert_int_equal(story_owner(story, A), 1);
    story_trim(story, A, 3, 0, 64);
    story_stores(story, A); /* the discard and its flush */
    story_crash(story, A);  /* what it sent is lost with it */
    story_gone(story, B);
    story_settle(story, 1000);
    assert_int_equal(story_stored(story, 5), 0);
    story_read(story, B, 4, 5);
    story_settle(story, 1);
    assert_int_equal(story_found(story, 4), 0);
    story_skip(story);
    story_end(story);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_clean_before_a_takeover_is_not_believed),
        cmocka_unit_test(plain_write),
        cmocka_unit_test(read_of_an_unmirrored_page_waits),
        cmocka_unit_test(two_writes_while_one_list_travels),
        cmocka_unit_test(overwrite_before_the_list_goes_folds),
        cmocka_unit_test(overwrite_in_transit_takes_a_fresh_slot),
        cmocka_unit_test(read_drops_and_write_reuses),
        cmocka_unit_test(old_version_never_returns_after_drop_and_rewrite),
        cmocka_unit_test(trimmed_page_stays_trimmed_after_takeover),
        cmocka_unit_test(zeroes_with_a_ragged_head_are_over_with_their_range),
        cmocka_unit_test(store_error_during_destage),
        cmocka_unit_test(a_failed_discard_keeps_its_pages_until_they_are_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
