/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The receiver's own guards, one by one: those that a sender without mistakes never touches, so
 * that the model cannot show that they hold. */

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "base/crc32c.h"
#include "copy/receiver.h"

enum { SLOTS = 32, ROOM = 8, VOLUMES = 2, PAGES = 100 };

static const uint8_t group[COPY_ID_SIZE] = "the group";
static const uint64_t page_counts[VOLUMES] = {PAGES, PAGES};
static uint64_t memory[16384];
static struct receiver receiver;
static uint32_t next_slot;
static uint64_t next_number[2];
static uint8_t body[2 * COPY_RECORD_SIZE + PAGE_SIZE_BYTES];

static int create(void **state)
{
    memset(memory, 0, sizeof memory);
    struct arena arena = arena_over(memory, sizeof memory);
    receiver_create(&receiver, &arena, SLOTS, ROOM, VOLUMES, page_counts, group, 1);
    assert_true(arena.used <= sizeof memory);
    next_slot = 0;
    next_number[0] = next_number[1] = 1;
    receiver_begin_term(&receiver, 5, 10);
    struct receiver_popped popped;
    assert_false(receiver_pop(&receiver, &popped));
    return 0;
}

static struct copy_head head_of(uint8_t half, uint64_t cycle)
{
    struct copy_head head = {.half = half,
                             .term = 5,
                             .cycle = cycle,
                             .number = next_number[half],
                             .first = 10,
                             .wall_us = 1000 + cycle,
                             .record_count = 1};
    memcpy(head.group, group, COPY_ID_SIZE);
    return head;
}

static enum receiver_verdict judged(const struct copy_head *head)
{
    bool new_term;
    const char *why = NULL;
    enum receiver_verdict verdict = receiver_judge(&receiver, head, &new_term, &why);
    assert_int_equal(verdict == RECEIVER_REFUSE, why != NULL);
    return verdict;
}

static const char *records_error(const struct copy_head *head, const struct record *record)
{
    record_put(body, record);
    return receiver_judge_records(&receiver, head, head->term > receiver.term, body);
}

static void done(uint8_t half, uint64_t cycle, struct receiver_counts counts)
{
    receiver_taken(&receiver, half, next_number[half]);
    receiver_batch_done(&receiver, half, next_number[half]++, cycle, &counts);
}

static uint32_t hold(uint8_t half, uint64_t cycle, uint64_t page, uint32_t generation,
                     uint8_t sectors)
{
    struct record record = {
        .type = RECORD_PAGE, .sectors = sectors, .generation = generation, .page = page};
    receiver_hold(&receiver, next_slot, cycle, 1000 + cycle, &record);
    done(half, cycle, (struct receiver_counts){.pages = generation > 0, .base = generation == 0});
    return next_slot++;
}

static void end(uint8_t half, uint64_t cycle, uint8_t halves, uint64_t pages, uint64_t base,
                uint32_t ranges)
{
    struct record record = {
        .type = RECORD_END, .generation = halves, .page = pages, .count = base, .crc = ranges};
    receiver_end(&receiver, half, cycle, 1000 + cycle, &record);
    done(half, cycle, (struct receiver_counts){0});
}

static void a_cycle_is_complete_when_all_of_both_halves_came(void **state)
{
    hold(0, 10, 1, 1, 0xFF);
    end(0, 10, 2, 1, 1, 0);
    assert_false(receiver_complete(&receiver, 10)); /* the other half's END */
    end(1, 10, 2, 0, 0, 1);
    assert_false(receiver_complete(&receiver, 10)); /* a base page, and a range */
    receiver_zero(&receiver, 10, 1010,
                  &(struct record){.type = RECORD_ZERO, .generation = 1, .page = 7, .count = 2});
    done(1, 10, (struct receiver_counts){.ranges = 1});
    assert_false(receiver_complete(&receiver, 10)); /* the base page */
    hold(0, 10, 2, 0, 0xFF);
    assert_true(receiver_complete(&receiver, 10));
    assert_false(receiver_complete(&receiver, 11));
    assert_null(receiver_check(&receiver));
}

static void nothing_is_promoted_that_is_not_complete(void **state)
{
    const struct record promote = {.type = RECORD_PROMOTE};
    struct copy_head head = head_of(0, 11);
    end(0, 11, 1, 0, 0, 0);
    assert_string_equal(records_error(&head, &promote),
                        "promote record of a cycle that is not complete"); /* 10 is not */
    end(0, 10, 1, 0, 0, 0);
    assert_null(records_error(&head, &promote));
}

/* Two cycles at once, as with several primary arrays: the older first, and in each the ranges. */
static void what_is_promoted_comes_out_in_order(void **state)
{
    uint32_t newer = hold(0, 11, 1, 1, 0x0F), older = hold(0, 10, 1, 1, 0xF0);
    receiver_zero(&receiver, 11, 1011,
                  &(struct record){.type = RECORD_ZERO, .generation = 1, .page = 1, .count = 1});
    done(0, 11, (struct receiver_counts){.ranges = 1});
    end(0, 10, 1, 1, 0, 0);
    end(0, 11, 1, 1, 0, 1);
    receiver_promote(&receiver, 11, 1011, true);
    const uint32_t expected[] = {older, NO_INDEX, newer};
    struct receiver_popped popped;
    uint8_t sectors;
    for (size_t i = 0; i < ARRAY_LENGTH(expected); i++) {
        assert_true(receiver_pop(&receiver, &popped));
        assert_int_equal(popped.slot, expected[i]);
        assert_false(popped.discard);
        if (popped.slot != NO_INDEX)
            assert_int_equal(receiver_older(&receiver, &sectors), NO_INDEX);
    }
    assert_false(receiver_pop(&receiver, &popped));
    assert_int_equal(receiver.promoted, 11);
    assert_null(receiver_check(&receiver));
}

static void versions_of_a_page_come_newest_first_and_what_a_range_ended_does_not_count(void **state)
{
    uint32_t third = hold(0, 10, 1, 3, 0x01), base = hold(0, 10, 1, 0, 0xFF);
    uint32_t first = hold(1, 10, 1, 1, 0x06), fourth = hold(1, 10, 1, 4, 0x80);
    receiver_zero(&receiver, 10, 1010,
                  &(struct record){.type = RECORD_ZERO, .generation = 3, .page = 1, .count = 1});
    done(0, 10, (struct receiver_counts){.ranges = 1});
    end(0, 10, 2, 1, 1, 1);
    end(1, 10, 2, 2, 0, 0);
    receiver_promote(&receiver, 10, 1010, false);
    struct receiver_popped popped;
    uint8_t sectors;
    assert_true(receiver_pop(&receiver, &popped));
    assert_int_equal(popped.slot, NO_INDEX);
    assert_true(receiver_pop(&receiver, &popped));
    assert_int_equal(popped.slot, fourth);
    assert_int_equal(popped.sectors, 0x80);
    assert_int_equal(receiver_older(&receiver, &sectors), third);
    assert_int_equal(sectors, 0x01);
    assert_int_equal(receiver_older(&receiver, &sectors), first);
    assert_int_equal(sectors, 0);
    assert_int_equal(receiver_older(&receiver, &sectors), base);
    assert_int_equal(sectors, 0);
    assert_int_equal(receiver_older(&receiver, &sectors), NO_INDEX);
    assert_false(receiver_pop(&receiver, &popped));
}

static void other_groups_eras_and_terms_are_refused(void **state)
{
    struct copy_head head = head_of(0, 10);
    assert_int_equal(judged(&head), RECEIVER_TAKE);
    head.group[3] ^= 1;
    assert_int_equal(judged(&head), RECEIVER_REFUSE);
    head = head_of(0, 10);
    head.era = 1;
    assert_int_equal(judged(&head), RECEIVER_REFUSE);
    head = head_of(0, 10);
    head.term = 4; /* the same first cycle: only its age speaks against it */
    assert_int_equal(judged(&head), RECEIVER_REFUSE);
    head = head_of(0, 10);
    head.first = 9;
    assert_int_equal(judged(&head), RECEIVER_REFUSE);
    head = head_of(0, 12);
    assert_int_equal(judged(&head), RECEIVER_REFUSE); /* two cycles are held at most */
    end(0, 10, 1, 0, 0, 0);
    receiver_promote(&receiver, 10, 1010, true);
    struct receiver_popped popped;
    assert_false(receiver_pop(&receiver, &popped));
    head = head_of(0, 10);
    head.term = 6;
    assert_int_equal(judged(&head), RECEIVER_REFUSE); /* its numbers go back */
    head.cycle = head.first = 11;
    head.number = COPY_WINDOW + 1;
    assert_int_equal(judged(&head), RECEIVER_REFUSE);
    head.number = COPY_WINDOW;
    assert_int_equal(judged(&head), RECEIVER_TAKE);
}

static void nothing_comes_after_a_site_failover(void **state)
{
    hold(0, 10, 1, 1, 0xFF);
    receiver_fail_over(&receiver, 1);
    struct receiver_popped popped;
    uint8_t sectors;
    assert_true(receiver_pop(&receiver, &popped));
    assert_true(popped.discard);
    assert_int_equal(receiver_older(&receiver, &sectors), NO_INDEX);
    assert_false(receiver_pop(&receiver, &popped));
    struct copy_head head = head_of(0, 10);
    assert_int_equal(judged(&head), RECEIVER_REFUSE);
    head.era = 1;
    assert_int_equal(judged(&head), RECEIVER_REFUSE);
}

/* A batch of a promoted cycle is answered without being noted. Its number stays open for good, and
 * those that follow are taken all the same. */
static void a_number_that_was_left_out_does_not_stop_the_others(void **state)
{
    next_number[0] = 2;
    for (int i = 0; i < 300; i++) {
        struct copy_head head = head_of(0, 10);
        assert_int_equal(judged(&head), RECEIVER_TAKE);
        receiver_taken(&receiver, 0, head.number);
        assert_int_equal(judged(&head), RECEIVER_WAIT);
        receiver_batch_done(&receiver, 0, head.number, 10, &(struct receiver_counts){0});
        assert_int_equal(judged(&head), RECEIVER_KNOWN);
        next_number[0]++;
    }
    struct copy_head head = head_of(0, 10);
    head.number += RECEIVER_AHEAD;
    assert_int_equal(judged(&head), RECEIVER_REFUSE);
}

static void a_batch_that_was_given_up_may_come_again(void **state)
{
    struct copy_head head = head_of(1, 10);
    receiver_taken(&receiver, 1, head.number);
    assert_int_equal(judged(&head), RECEIVER_WAIT);
    receiver_untaken(&receiver, 1, head.number);
    assert_int_equal(judged(&head), RECEIVER_TAKE);
}

static void strange_records_are_refused(void **state)
{
    struct copy_head head = head_of(0, 10);
    struct record record = {.type = RECORD_ZERO, .generation = 1, .page = PAGES - 1, .count = 1};
    assert_null(records_error(&head, &record));
    record.count = 2;
    assert_string_equal(records_error(&head, &record), "record outside its volume");
    record.page = PAGES;
    record.count = 1;
    assert_string_equal(records_error(&head, &record), "record outside its volume");
    record = (struct record){.type = RECORD_ZERO, .generation = 1, .volume = VOLUMES, .count = 1};
    assert_string_equal(records_error(&head, &record), "record of an unknown volume");
    record = (struct record){.type = RECORD_ZERO, .count = 1};
    assert_string_equal(records_error(&head, &record),
                        "record whose generation disagrees with its kind");
    record.generation = UINT16_MAX + 1;
    assert_string_equal(records_error(&head, &record), "record of an impossible generation");
    record = (struct record){.type = RECORD_PAGE, .sectors = 1, .generation = 1};
    assert_string_equal(records_error(&head, &record), "page record without its data");
    head.data_bytes = SECTOR_SIZE;
    assert_string_equal(records_error(&head, &record), "copy data checksum is wrong");
    memset(body + COPY_RECORD_SIZE, 0, SECTOR_SIZE);
    record.crc = crc32c(body + COPY_RECORD_SIZE, SECTOR_SIZE);
    assert_null(records_error(&head, &record));
    head.data_bytes = 2 * SECTOR_SIZE;
    assert_string_equal(records_error(&head, &record), "copy batch with data that no record names");
    head = head_of(0, 10);
    head.record_count = 2;
    record_put(body + COPY_RECORD_SIZE, &(struct record){.type = RECORD_PROMOTE});
    record = (struct record){.type = RECORD_END, .generation = 1};
    assert_string_equal(records_error(&head, &record), "end or promote record that is not alone");
    end(0, 10, 2, 3, 0, 0);
    head = head_of(1, 10);
    record.generation = 1;
    assert_string_equal(records_error(&head, &record),
                        "end record of a cycle that has other halves");
    head = head_of(0, 10);
    record = (struct record){.type = RECORD_END, .generation = 2, .page = 4};
    assert_string_equal(records_error(&head, &record), "end record unlike the one that came");
}

static void no_more_is_taken_than_there_is_room_for(void **state)
{
    struct copy_head head = head_of(0, 10);
    struct record record = {.type = RECORD_PAGE, .sectors = 1, .generation = 1, .page = 50};
    memset(body, 0, sizeof body);
    record.crc = crc32c(body, SECTOR_SIZE);
    head.data_bytes = SECTOR_SIZE;
    for (uint64_t page = 0; page < ROOM; page++) {
        assert_null(records_error(&head, &record));
        hold(0, 10, page, 1, 0xFF);
    }
    memset(body + COPY_RECORD_SIZE, 0, SECTOR_SIZE);
    assert_string_equal(records_error(&head, &record), "copy batch for which there is no room");
    record.page = 3; /* what is held already needs none */
    assert_null(records_error(&head, &record));
    head.term = 6; /* nor what comes when all of it has gone */
    record.page = 50;
    assert_null(records_error(&head, &record));
}

/* ---- the peer, and slots that move ---- */

static void a_held_slot_may_stand_elsewhere(void **state)
{
    uint32_t oldest = hold(0, 10, 1, 1, 0x0F), newest = hold(0, 10, 1, 2, 0xF0);
    uint32_t other = hold(0, 10, 2, 1, 0xFF), last = hold(0, 10, 3, 1, 0xFF);
    uint64_t cycle = 0;
    uint32_t generation = 0;
    const uint32_t moved[] = {oldest, newest, other, last};
    for (size_t i = 0; i < ARRAY_LENGTH(moved); i++) {
        receiver_moved(&receiver, moved[i], 20 + (uint32_t)i);
        assert_false(receiver_has(&receiver, moved[i], &cycle, &generation));
        assert_null(receiver_check(&receiver));
    }
    assert_true(receiver_has(&receiver, 21, &cycle, &generation));
    assert_int_equal(cycle, 10);
    assert_int_equal(generation, 2);
    const struct record record = {.type = RECORD_PAGE, .generation = 1, .page = 1};
    assert_true(receiver_holds(&receiver, 10, &record));
    end(0, 10, 1, 4, 0, 0);
    receiver_promote(&receiver, 10, 1010, true);
    const uint32_t expected[] = {21, 20, 22, 23};
    struct receiver_popped popped;
    uint8_t sectors = 0;
    for (size_t i = 0; i < ARRAY_LENGTH(expected); i++) {
        uint32_t slot = i == 1 ? receiver_older(&receiver, &sectors) : NO_INDEX;
        if (i == 1) {
            assert_int_equal(slot, 20);
            assert_int_equal(receiver_older(&receiver, &sectors), NO_INDEX);
            continue;
        }
        assert_true(receiver_pop(&receiver, &popped));
        assert_int_equal(popped.slot, expected[i]);
        if (i != 0)
            assert_int_equal(receiver_older(&receiver, &sectors), NO_INDEX);
    }
    assert_false(receiver_pop(&receiver, &popped));
}

static void a_peer_knows_all_that_is_put_into_bytes(void **state)
{
    static uint64_t other_memory[16384];
    uint8_t bytes[RECEIVER_BYTES], again[RECEIVER_BYTES];
    struct receiver other;
    hold(0, 10, 1, 1, 0x0F);
    end(0, 10, 2, 1, 0, 0);
    end(1, 10, 2, 0, 0, 0);
    receiver_promote(&receiver, 10, 1010, true);
    struct receiver_popped popped;
    uint8_t sectors;
    assert_true(receiver_pop(&receiver, &popped));
    assert_int_equal(receiver_older(&receiver, &sectors), NO_INDEX);
    assert_false(receiver_pop(&receiver, &popped));
    end(0, 12, 2, 3, 2, 1);
    next_number[1]++; /* one that has not come */
    hold(1, 11, 4, 0, 0xFF);
    memset(other_memory, 0, sizeof other_memory);
    struct arena arena = arena_over(other_memory, sizeof other_memory);
    receiver_create(&other, &arena, SLOTS, ROOM, VOLUMES, page_counts, group, 9);
    receiver_put(&receiver, bytes);
    assert_null(receiver_judge_bytes(bytes, sizeof bytes));
    receiver_get(&other, bytes);
    receiver_put(&other, again);
    assert_memory_equal(bytes, again, sizeof bytes);
    assert_int_equal(other.promoted, 10);
    assert_int_equal(other.memory, 1);
    assert_int_equal(other.numbers[1].upto, receiver.numbers[1].upto);
    assert_true(receiver_may_count(&other, 1, next_number[1] - 2, 11));
    assert_false(receiver_may_count(&other, 1, next_number[1] - 1, 11)); /* it was counted */
    assert_false(receiver_may_count(&other, 0, 1, 11));
    assert_string_equal(receiver_judge_bytes(bytes, sizeof bytes - 1),
                        "received header of a wrong length");
    bytes[0] = COPY_ROLE_COUNT;
    assert_string_equal(receiver_judge_bytes(bytes, sizeof bytes),
                        "received header of an unknown role or with unknown flags");
}

static void what_cannot_be_held_is_known_before(void **state)
{
    struct record record = {.type = RECORD_PAGE, .sectors = 1, .generation = 1, .page = 1};
    assert_true(receiver_may_hold(&receiver, 30, 10, &record));
    uint32_t slot = hold(0, 10, 1, 1, 1);
    assert_false(receiver_may_hold(&receiver, 30, 10, &record)); /* it is held */
    assert_true(receiver_may_hold(&receiver, 30, 11, &record));
    hold(0, 11, 1, 1, 1);
    assert_false(receiver_may_hold(&receiver, 30, 12, &record)); /* a third cycle */
    record.page = 2;
    assert_false(receiver_may_hold(&receiver, slot, 10, &record)); /* the slot holds another */
    for (uint64_t page = 2; page < ROOM; page++)
        hold(0, 10, page, 1, 1);
    record.page = 50;
    assert_false(receiver_may_hold(&receiver, 30, 10, &record)); /* no room */
}

static void what_is_lost_is_asked_for_again(void **state)
{
    struct receiver_popped popped;
    uint8_t sectors;
    uint32_t slot = hold(0, 10, 1, 1, 0xFF);
    receiver_lose(&receiver, 77);
    assert_true(receiver_pop(&receiver, &popped));
    assert_int_equal(popped.slot, slot);
    assert_true(popped.discard);
    assert_int_equal(receiver_older(&receiver, &sectors), NO_INDEX);
    assert_false(receiver_pop(&receiver, &popped));
    struct copy_state there;
    receiver_state(&receiver, &there);
    assert_int_equal(there.memory, 77);
    struct copy_head head = head_of(0, 10);
    assert_int_equal(judged(&head), RECEIVER_REFUSE); /* of the same term */
    head.term++;
    assert_int_equal(judged(&head), RECEIVER_TAKE);
}

static enum receiver_verdict promotes_cut(uint64_t cut, uint64_t *cycle, const char **why)
{
    struct copy_head head = head_of(0, 0);
    head.term = 6;
    head.cut = cut;
    return receiver_judge_kept(&receiver, &head, true, cycle, why);
}

/* Cycle 10 is a part of cut 7, and the cut before that was lost. */
static void a_cut_that_was_lost_is_not_asked_for_for_ever(void **state)
{
    uint64_t cycle = 0;
    const char *why = NULL;
    receiver_name_cut(&receiver, 10, 7);
    end(0, 10, 1, 0, 0, 0);
    receiver_seal(&receiver, 6);
    assert_int_equal(promotes_cut(6, &cycle, &why), RECEIVER_KNOWN);
    assert_int_equal(cycle, 0);
    assert_int_equal(promotes_cut(8, &cycle, &why), RECEIVER_REFUSE);
    assert_string_equal(why, "promotion of a cut that is not held");
    assert_int_equal(promotes_cut(7, &cycle, &why), RECEIVER_TAKE);
    assert_int_equal(cycle, 10);
    receiver_promote(&receiver, 10, 1010, true);
    assert_int_equal(promotes_cut(7, &cycle, &why), RECEIVER_KNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_cycle_is_complete_when_all_of_both_halves_came, create),
        cmocka_unit_test_setup(nothing_is_promoted_that_is_not_complete, create),
        cmocka_unit_test_setup(what_is_promoted_comes_out_in_order, create),
        cmocka_unit_test_setup(
            versions_of_a_page_come_newest_first_and_what_a_range_ended_does_not_count, create),
        cmocka_unit_test_setup(other_groups_eras_and_terms_are_refused, create),
        cmocka_unit_test_setup(nothing_comes_after_a_site_failover, create),
        cmocka_unit_test_setup(a_number_that_was_left_out_does_not_stop_the_others, create),
        cmocka_unit_test_setup(a_batch_that_was_given_up_may_come_again, create),
        cmocka_unit_test_setup(strange_records_are_refused, create),
        cmocka_unit_test_setup(no_more_is_taken_than_there_is_room_for, create),
        cmocka_unit_test_setup(a_held_slot_may_stand_elsewhere, create),
        cmocka_unit_test_setup(a_peer_knows_all_that_is_put_into_bytes, create),
        cmocka_unit_test_setup(what_cannot_be_held_is_known_before, create),
        cmocka_unit_test_setup(what_is_lost_is_asked_for_again, create),
        cmocka_unit_test_setup(a_cut_that_was_lost_is_not_asked_for_for_ever, create),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
