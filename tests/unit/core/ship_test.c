/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Requests at the controller that does not own their volume, COMPARE AND WRITE, state records and
 * moves asked for by hosts, over two cores side by side. */

#include "pair.h"

/* The owner lets the session in, and then its initiator hears so. */
static void session_admitted(int self)
{
    array_on_ship_admitted(pair.side[self ^ 1].array, pair.now_us, ++pair.session);
}

static void session_up(int self)
{
    session_admitted(self);
    array_on_ship_up(pair.side[self].array, pair.now_us, pair.session);
}

static void session_lost(int self)
{
    array_on_ship_down(pair.side[self].array, pair.now_us);
    memset(pair.side[self].shipments, 0, sizeof pair.side[self].shipments);
}

static int ships_set_up(void **state)
{
    pair_set_up(state);
    pair.ships = true;
    for (int self = A; self < PAIR; self++)
        session_up(self);
    settle();
    return 0;
}

/* With data that the test has filled in. */
static uint32_t ask_with(int self, const struct host_request *wanted, const void *data, size_t size)
{
    uint32_t handle = pair.request_count++;
    struct seen *seen = &pair.seen[handle];
    seen->data = malloc(size + 1);
    memcpy(seen->data, data, size);
    struct host_request request = *wanted;
    request.handle = handle;
    request.data = seen->data;
    struct host_outcome outcome = array_host(pair.side[self].array, pair.now_us, &request);
    seen->complete = outcome.complete;
    seen->result = outcome.result;
    seen->detail = outcome.detail;
    return handle;
}

static uint32_t ask_compare(int self, uint8_t volume, uint64_t offset, uint32_t length,
                            uint8_t expected, uint8_t fill)
{
    uint8_t *data = malloc(2 * length);
    memset(data, expected, length);
    memset(data + length, fill, length);
    uint32_t handle = ask_with(self,
                               &(struct host_request){.op = HOST_COMPARE_WRITE,
                                                      .volume = volume,
                                                      .offset_bytes = offset,
                                                      .length_bytes = length},
                               data, 2 * length);
    free(data);
    return handle;
}

static uint32_t ask_state(int self, uint8_t volume, uint32_t version, const char *text,
                          uint8_t flags)
{
    return ask_with(self,
                    &(struct host_request){.op = HOST_STATE,
                                           .volume = volume,
                                           .flags = flags,
                                           .state_version = version,
                                           .length_bytes = strlen(text)},
                    text, strlen(text));
}

static void assert_state(int self, uint8_t volume, uint32_t version, const char *text)
{
    uint32_t present, length;
    const void *bytes = array_state(pair.side[self].array, volume, &present, &length);
    assert_int_equal(present, version);
    assert_int_equal(length, strlen(text));
    assert_memory_equal(bytes, text, length);
}

static void assert_result(uint32_t handle, enum host_result result)
{
    assert_true(is_done(handle));
    assert_int_equal(pair.seen[handle].result, result);
}

/* ---- shipping ---- */

static void the_owner_carries_out_what_the_other_is_asked(void **state)
{
    write_now(A, V_B, 0, 3 * PAGE, 1);
    assert_reads(B, V_B, 0, 3 * PAGE, 1);
    assert_reads(A, V_B, 100, 5000, 1);
    write_now(A, V_B, 100, 700, 2);
    assert_reads(B, V_B, 100, 700, 2);
    uint32_t zero = ask(A, HOST_ZERO, V_B, 0, 2 * PAGE, 0, 0);
    uint32_t flush = ask(A, HOST_FLUSH, V_B, 0, 0, 0, 0);
    settle();
    assert_ok(zero);
    assert_ok(flush);
    assert_reads(B, V_B, 0, 2 * PAGE, 0);
    assert_int_equal(status_of(A)->slots_dirty, 0); /* only the owner has them */
    assert_true(status_of(A)->volumes[V_B].shipped >= 5);
    assert_int_equal(status_of(B)->volumes[V_B].shipped, 0);
}

static void a_long_request_goes_in_steps(void **state)
{
    uint32_t before = pair.side[A].ships_sent;
    uint64_t length = 200 * PAGE;
    write_now(A, V_B, 0, length, 7);
    uint32_t steps = (uint32_t)((length + SHIP_BYTES - 1) / SHIP_BYTES);
    assert_int_equal(pair.side[A].ships_sent - before, steps);
    assert_reads(B, V_B, 0, length, 7);
    before = pair.side[A].ships_sent;
    assert_reads(A, V_B, 0, length, 7);
    assert_int_equal(pair.side[A].ships_sent - before, steps);
}

static void one_that_may_not_be_shipped_is_refused(void **state)
{
    uint32_t handle = ask(A, HOST_WRITE, V_B, 0, PAGE, 1, HOST_HERE);
    assert_result(handle, HOST_NOT_OWNER);
}

static void without_a_session_it_waits_for_one(void **state)
{
    array_on_ship_down(pair.side[A].array, pair.now_us);
    uint32_t handle = ask_write(A, V_B, 0, PAGE, 1);
    pass_ms(50);
    assert_false(is_done(handle));
    session_up(A);
    settle();
    assert_ok(handle);
}

/* The answer is lost with the session, and another host has written since: the request is over, and
 * what it wrote does not come back. */
static void a_new_session_does_not_do_it_twice(void **state)
{
    pair.side[A].hold_answers = true;
    uint32_t handle = ask_write(A, V_B, 0, 2 * PAGE, 1);
    settle();
    assert_false(is_done(handle));
    write_now(B, V_B, 0, PAGE, 2);
    session_lost(A);
    pair.side[A].hold_answers = false;
    settle();
    assert_false(is_done(handle));
    session_up(A);
    pass_ms(10);
    assert_ok(handle);
    assert_reads(B, V_B, 0, PAGE, 2);
    assert_reads(B, V_B, PAGE, PAGE, 1);
}

/* It is named at once, also when there is nothing else to say. */
static void a_session_is_of_use_once_the_owners_stream_has_named_it(void **state)
{
    session_lost(A);
    uint32_t handle = ask_write(A, V_B, 0, PAGE, 1);
    pair.side[A].hold_link = true;
    session_up(A);
    uint32_t sent = pair.side[A].ships_sent;
    settle();
    assert_int_equal(pair.side[A].ships_sent, sent);
    pair.side[A].hold_link = false;
    uint64_t before_us = pair.now_us;
    settle();
    assert_ok(handle);
    assert_true(pair.now_us < before_us + 1000);
    /* The other way round: the stream may be faster than the answer to the login. */
    session_lost(A);
    handle = ask_write(A, V_B, 0, PAGE, 2);
    session_admitted(A);
    settle();
    assert_false(is_done(handle));
    array_on_ship_up(pair.side[A].array, pair.now_us, pair.session);
    settle();
    assert_ok(handle);
}

/* The owner dies, and its next start answers the login while what the dead one said is still on its
 * way: the request and what was written after it. */
static void the_next_start_of_the_owner_is_asked_nothing_meanwhile(void **state)
{
    pair.side[A].hold_link = pair.side[A].hold_answers = true;
    uint32_t handle = ask_write(A, V_B, 0, PAGE, 1);
    side_step(A); /* it is shipped */
    side_step(A);
    ask_write(B, V_B, 0, PAGE, 2); /* in the same list */
    settle();
    assert_true(pair.side[A].message_due);
    pair.side[B].dead = true;
    session_lost(A);
    uint32_t sent = pair.side[A].ships_sent;
    array_on_ship_up(pair.side[A].array, pair.now_us, ++pair.session);
    settle();
    assert_int_equal(pair.side[A].ships_sent, sent);
    pair.side[A].hold_link = false;
    settle();
    kill_side(B);
    pass_ms(20);
    assert_ok(handle);
    assert_int_equal(pair.side[A].ships_sent, sent);
    assert_reads(A, V_B, 0, PAGE, 2);
}

/* Its answer does not wait for the stream, so the session may end and a new one begin before what
 * it had done is known. */
static void what_the_owner_did_before_it_failed_is_known_first(void **state)
{
    destage_all();
    pair.side[A].hold_answers = true;
    pair.side[A].hold_link = true;
    ask_write(B, V_B, 64 * PAGE, PAGE, 9); /* the link is busy */
    settle();
    pair.answer[STORE_READ] = STORE_ERROR;
    uint32_t handle = ask_write(A, V_B, 0, PAGE + 100, 1);
    settle();
    pair.answer[STORE_READ] = STORE_DONE;
    session_lost(A);
    session_up(A);
    uint32_t sent = pair.side[A].ships_sent;
    settle();
    assert_int_equal(pair.side[A].ships_sent, sent);
    uint32_t other = ask_write(B, V_B, 0, PAGE, 2);
    pair.side[A].hold_link = pair.side[A].hold_answers = false;
    settle();
    assert_ok(other);
    assert_ok(handle);
    assert_reads(B, V_B, 0, PAGE, 2);
    assert_reads(B, V_B, PAGE, 100, 1);
}

/* An owner that races may refuse for as long as a lease. */
static void what_was_refused_is_not_shipped_again_at_once(void **state)
{
    struct side *side = &pair.side[A];
    side->hold_ships = true;
    uint32_t handle = ask_write(A, V_B, 0, PAGE, 1);
    settle();
    uint32_t sent = side->ships_sent;
    assert_true(side->shipments[0].used);
    side->shipments[0].used = false;
    array_on_shipped(side->array, pair.now_us, side->shipments[0].action.tag, HOST_NOT_OWNER, 0);
    uint64_t deadline_us = array_pump(side->array, pair.now_us)->deadline_us;
    assert_true(deadline_us > pair.now_us && deadline_us <= pair.now_us + 1000);
    settle();
    assert_int_equal(side->ships_sent, sent);
    pair.now_us = deadline_us;
    side->hold_ships = false;
    settle();
    assert_ok(handle);
    assert_int_equal(side->ships_sent, sent + 1);
}

static void a_takeover_goes_on_from_where_the_owner_had_come(void **state)
{
    pair.side[A].hold_answers = true;
    uint32_t handle = ask_write(A, V_B, 0, 3 * PAGE, 1);
    uint32_t late = ask_write(A, V_B, 8 * PAGE, PAGE, 5);
    settle();
    write_now(B, V_B, 0, PAGE, 2);
    pair.side[A].hold_ships = true;
    uint32_t never_sent = ask_write(A, V_B, 16 * PAGE, PAGE, 6);
    settle();
    kill_side(B);
    pass_ms(20);
    assert_int_equal(pair.side[A].ships_reset, 1);
    assert_false(is_done(handle)); /* the shell still has its data */
    array_on_ship_down(pair.side[A].array, pair.now_us);
    pass_ms(20);
    assert_ok(handle);
    assert_ok(late);
    assert_ok(never_sent);
    assert_reads(A, V_B, 0, PAGE, 2);
    assert_reads(A, V_B, PAGE, 2 * PAGE, 1);
    assert_reads(A, V_B, 8 * PAGE, PAGE, 5);
    assert_reads(A, V_B, 16 * PAGE, PAGE, 6);
}

/* Part of it may be on the store already. Others must not see that, write there, and have what they
 * wrote discarded by the rest. */
static void a_discard_of_the_lost_owner_goes_on_before_anyone_else(void **state)
{
    write_now(A, V_B, 0, 4 * PAGE, 1);
    pair.side[A].hold_ships = true;
    uint32_t trim = ask(A, HOST_TRIM, V_B, 0, 4 * PAGE, 0, 0);
    settle();
    kill_side(B);
    uint32_t write = ask_write(A, V_B, 0, PAGE, 2);
    pass_ms(20);
    assert_ok(trim);
    assert_ok(write);
    session_lost(A); /* only now the shell is done with it */
    pass_ms(20);
    assert_reads(A, V_B, 0, PAGE, 2);
    assert_reads(A, V_B, PAGE, 3 * PAGE, 0);
}

/* The sender is lost before the owner could do it: its host may have come to the owner with the
 * same since. */
static void what_a_lost_sender_shipped_is_not_begun(void **state)
{
    destage_all();
    pair.side[B].hold_store = true;
    uint32_t slow = ask_write(A, V_B, 100, 100, 1); /* needs the rest of its sector first */
    settle();
    kill_side(A);
    pair.side[B].hold_store = false;
    pass_ms(50);
    assert_false(is_done(slow)); /* nobody is there to hear it */
    assert_int_equal(array_owner(pair.side[B].array, V_B), 1);
    assert_reads(B, V_B, 0, PAGE, 0);
}

static void a_controller_that_goes_out_ends_them_with_the_session(void **state)
{
    pair.side[A].hold_answers = true;
    uint32_t out = ask_read(A, V_B, 0, PAGE);
    settle();
    array_operator_stop(pair.side[A].array, pair.now_us);
    pass_ms(20);
    assert_false(is_done(out));
    assert_false(pair.side[A].stopped); /* it waits for what is out */
    pair.side[A].hold_answers = false;
    pass_ms(50);
    assert_ok(out);
    assert_true(pair.side[A].stopped);
}

static void a_volume_that_comes_here_takes_its_requests_along(void **state)
{
    pair.side[A].hold_ships = true;
    uint32_t handle = ask_write(A, V_B, 0, PAGE, 9);
    settle();
    array_operator_move(pair.side[B].array, pair.now_us, 1, V_B, A);
    pass_ms(50);
    assert_int_equal(array_owner(pair.side[A].array, V_B), 1);
    pair.side[A].hold_ships = false; /* it arrives at the former owner, and comes back */
    settle();
    assert_ok(handle);
    assert_reads(A, V_B, 0, PAGE, 9);
    assert_reads(B, V_B, 0, PAGE, 9);
}

/* The former owner did it and put it on the store; its answer was lost with the session, and the
 * volume came here. What the image still has of it is no reason to wait. */
static void a_forced_write_that_the_former_owner_did_is_over(void **state)
{
    pair.side[B].hold_answers = true;
    uint32_t forced = ask(B, HOST_WRITE, V_SAFE, 0, PAGE, 1, HOST_FUA);
    pass_ms(10);
    assert_false(is_done(forced));
    session_lost(B);
    pair.side[B].hold_answers = false;
    array_operator_move(pair.side[A].array, pair.now_us, 1, V_SAFE, B);
    pass_ms(50);
    assert_int_equal(array_owner(pair.side[B].array, V_SAFE), 1);
    session_up(B); /* what was out is looked at anew */
    pass_ms(1000);
    assert_ok(forced);
    write_now(B, V_SAFE, 0, PAGE, 2);
    assert_reads(B, V_SAFE, 0, PAGE, 2);
}

/* Its host has gone to the other controller with it, been answered, and has written anew. */
static void what_a_host_has_left_behind_does_not_come_back(void **state)
{
    array_on_ship_down(pair.side[A].array, pair.now_us);
    uint32_t waits = ask_write(A, V_B, 0, PAGE, 1);
    settle();
    array_host_abandon(pair.side[A].array, pair.now_us, waits);
    settle();
    assert_result(waits, HOST_NOT_OWNER);
    write_now(B, V_B, 0, PAGE, 2);
    session_up(A);
    pass_ms(20);
    assert_reads(B, V_B, 0, PAGE, 2);
    /* One that is out ends with its step, and takes no further one. */
    pair.side[A].hold_answers = true;
    uint32_t out = ask_write(A, V_B, 0, 200 * PAGE, 3);
    settle();
    array_host_abandon(pair.side[A].array, pair.now_us, out);
    settle();
    assert_false(is_done(out));
    pair.side[A].hold_answers = false;
    settle();
    assert_result(out, HOST_NOT_OWNER);
    assert_reads(B, V_B, SHIP_BYTES, PAGE, 0);
    array_host_abandon(pair.side[A].array, pair.now_us, 4711); /* nobody's */
}

/* ---- COMPARE AND WRITE ---- */

static void it_writes_what_matched_and_says_where_it_did_not(void **state)
{
    write_now(A, V_A, 0, 2 * PAGE, 1);
    uint32_t good = ask_compare(A, V_A, PAGE - 512, 1024, 1, 2); /* over two pages */
    settle();
    assert_ok(good);
    assert_reads(A, V_A, PAGE - 512, 1024, 2);
    assert_reads(A, V_A, 0, PAGE - 512, 1);
    uint32_t bad = ask_compare(A, V_A, PAGE - 1024, 1024, 1, 3);
    settle();
    assert_result(bad, HOST_MISCOMPARE);
    assert_int_equal(pair.seen[bad].detail, 512);
    assert_reads(A, V_A, PAGE - 512, 1024, 2);
    uint32_t absent = ask_compare(A, V_A, 100 * PAGE, 512, 0, 4);
    uint32_t there = ask_compare(B, V_A, 101 * PAGE, 512, 0, 5); /* shipped */
    settle();
    assert_ok(absent);
    assert_ok(there);
    assert_reads(A, V_A, 101 * PAGE, 512, 5);
    kill_side(A);
    pass_ms(20);
    assert_reads(B, V_A, 100 * PAGE, 512, 4);
}

/* Two ask for the same; one of them is late, whatever they wait for. */
static void of_two_one_is_told_that_it_was_late(void **state)
{
    uint32_t first = ask_compare(A, V_A, 0, 512, 0, 1);
    uint32_t second = ask_compare(B, V_A, 0, 512, 0, 2);
    uint32_t third = ask_compare(A, V_A, 0, 512, 0, 3);
    settle();
    int good = 0;
    for (uint32_t i = first; i <= third; i++) {
        assert_true(pair.seen[i].complete);
        good += pair.seen[i].result == HOST_OK;
        assert_true(pair.seen[i].result == HOST_OK || pair.seen[i].result == HOST_MISCOMPARE);
    }
    assert_int_equal(good, 1);
    assert_int_equal(second, first + 1);
}

/* A full cache: the whole of it waits for room, and goes in one batch. */
static void all_of_it_is_written_or_nothing(void **state)
{
    pair.side[A].hold_store = true;
    for (uint64_t page = 200; page < 290; page++)
        ask_write(A, V_A, page * PAGE, PAGE, 1);
    settle();
    uint32_t handle = ask_compare(A, V_BLOCKS, 0, 4 * PAGE, 0, 7);
    settle();
    assert_false(is_done(handle));
    uint64_t before = status_of(A)->sent.writes;
    assert_int_equal(status_of(A)->sent.writes, before);
    pair.side[A].hold_store = false;
    pass_ms(200);
    assert_ok(handle);
    assert_reads(A, V_BLOCKS, 0, 4 * PAGE, 7);
}

static void a_page_that_cannot_be_read_fails_it(void **state)
{
    destage_all();
    pair.answer[STORE_READ] = STORE_ERROR;
    uint32_t handle = ask_compare(A, V_A, 60 * PAGE, 512, 0, 1);
    settle();
    assert_result(handle, HOST_IO_ERROR);
    pair.answer[STORE_READ] = STORE_DONE;
    uint32_t large = ask_compare(A, V_A, 0, COMPARE_WRITE_BYTES + 512, 0, 1);
    assert_result(large, HOST_RANGE);
    assert_reads(A, V_A, 60 * PAGE, PAGE, 0);
}

/* ---- state records ---- */

static void a_record_is_replaced_only_by_who_knows_it(void **state)
{
    pair.side[A].changed = pair.side[B].changed = 0;
    uint32_t first = ask_state(A, V_A, 0, "one", 0);
    settle();
    assert_ok(first);
    assert_state(A, V_A, 1, "one");
    assert_state(B, V_A, 1, "one");
    assert_true(pair.side[A].changed & 1 << V_A && pair.side[B].changed & 1 << V_A);
    uint32_t stale = ask_state(B, V_A, 0, "two", 0);
    settle();
    assert_result(stale, HOST_STALE);
    uint32_t second = ask_state(B, V_A, 1, "two", 0);
    settle();
    assert_ok(second);
    assert_state(A, V_A, 2, "two");
    assert_state(B, V_A, 2, "two");
    kill_side(A);
    pass_ms(20);
    assert_state(B, V_A, 2, "two");
    uint32_t third = ask_state(B, V_A, 2, "three", 0);
    settle();
    assert_ok(third);
    pair_create_side(A);
    pair.side[A].up_due = pair.side[B].up_due = pair.side[B].down_due = true;
    for (int i = 0; i < 100 && status_of(A)->role != ROLE_PAIRED; i++)
        pass_ms(10);
    assert_state(A, V_A, 3, "three");
    assert_int_equal(status_of(A)->flush_messages, 0);
}

static void it_counts_only_when_the_peer_has_it(void **state)
{
    pair.side[B].hold_link = true;
    uint32_t handle = ask_state(A, V_A, 0, "new", 0);
    settle();
    assert_false(is_done(handle));
    assert_state(A, V_A, 0, "");
    pair.side[B].hold_link = false;
    settle();
    assert_ok(handle);
    assert_state(A, V_A, 1, "new");
}

static void a_request_that_was_judged_by_an_older_record_is_sent_back(void **state)
{
    uint32_t one = ask_state(A, V_A, 0, "one", 0);
    settle();
    assert_ok(one);
    uint32_t stale = ask(A, HOST_WRITE, V_A, 0, PAGE, 1, HOST_VERSIONED);
    assert_result(stale, HOST_STALE);
    uint32_t there = ask(B, HOST_WRITE, V_A, 0, PAGE, 1, HOST_VERSIONED);
    settle();
    assert_result(there, HOST_STALE);
    assert_reads(A, V_A, 0, PAGE, 0);
}

static void a_barrier_does_not_wait_for_a_read_that_the_store_keeps(void **state)
{
    destage_all();
    pair.side[A].hold_store = true;
    uint32_t older = ask_read(A, V_A, 50 * PAGE, PAGE);
    uint32_t barrier = ask_state(A, V_A, 0, "one", HOST_BARRIER);
    settle();
    assert_ok(barrier);
    assert_false(is_done(older));
    pair.side[A].hold_store = false;
    pass_ms(20);
    assert_ok(older);
}

static void a_barrier_waits_for_older_changes_only(void **state)
{
    destage_all();
    pair.side[A].hold_store = true;
    uint32_t older = ask_compare(A, V_A, 50 * PAGE, 512, 0, 5);
    uint32_t barrier = ask_state(A, V_A, 0, "one", HOST_BARRIER);
    uint32_t next = ask_state(A, V_A, 1, "two", 0);
    settle();
    assert_state(B, V_A, 1, "one");
    assert_false(is_done(barrier));
    uint32_t newer = ask_write(A, V_A, 10 * PAGE, PAGE, 1);
    settle();
    assert_ok(newer);
    assert_false(is_done(older) || is_done(barrier) || is_done(next));
    pair.side[A].hold_store = false;
    pass_ms(20);
    assert_ok(older);
    assert_ok(barrier);
    assert_ok(next);
    assert_state(B, V_A, 2, "two");
}

/* Up to where writes wait for room, with a store that hangs. */
static void fill_up(uint32_t pages_left)
{
    uint32_t high = pair.config.slot_count * pair.config.dirty_high_percent / 100;
    destage_all();
    pair.side[A].hold_store = true;
    for (uint32_t page = 0; page + pages_left < high; page++)
        write_now(A, V_A, page * 2ull * PAGE, PAGE, 1);
}

static void a_barrier_does_not_wait_for_a_write_that_waits_for_room(void **state)
{
    fill_up(0);
    uint32_t here[2], versionless = ask_write(A, V_A, 899 * PAGE, PAGE, 6);
    uint32_t there = ask(B, HOST_WRITE, V_A, 901 * PAGE, PAGE, 2, HOST_VERSIONED);
    here[0] = ask(A, HOST_WRITE, V_A, 903 * PAGE, 2 * PAGE, 3, HOST_VERSIONED);
    here[1] = ask(A, HOST_ZERO, V_A, 905 * PAGE, PAGE, 0, HOST_VERSIONED);
    uint32_t other = ask(A, HOST_WRITE, V_BLOCKS, 0, PAGE, 4, HOST_VERSIONED);
    settle();
    assert_false(is_done(there) || is_done(here[0]) || is_done(here[1]) || is_done(other));
    array_host_abandon(pair.side[A].array, pair.now_us, versionless);
    uint32_t barrier = ask_state(A, V_A, 0, "one", HOST_BARRIER);
    settle();
    assert_result(versionless, HOST_NOT_OWNER);
    assert_result(there, HOST_STALE);
    assert_result(here[0], HOST_STALE);
    assert_result(here[1], HOST_STALE);
    assert_ok(barrier);
    assert_false(is_done(other)); /* another volume's */
    pair.side[A].hold_store = false;
    pass_ms(100);
    assert_ok(other);
    assert_reads(A, V_A, 903 * PAGE, 2 * PAGE, 0);
}

static void a_write_that_has_come_some_way_ends_for_a_barrier_when_it_is_abandoned(void **state)
{
    fill_up(1); /* its first page finds room */
    uint32_t older = ask(A, HOST_WRITE, V_A, 901 * PAGE, 2 * PAGE, 3, HOST_VERSIONED);
    uint32_t barrier = ask_state(A, V_A, 0, "one", HOST_BARRIER);
    settle();
    assert_state(B, V_A, 1, "one");
    assert_false(is_done(older) || is_done(barrier));
    array_host_abandon(pair.side[A].array, pair.now_us, older);
    settle();
    assert_result(older, HOST_NOT_OWNER);
    assert_ok(barrier);
}

static void a_record_of_an_earlier_run_counts_until_a_newer_one_comes(void **state)
{
    pair_defaults();
    pair_create();
    array_load_state(pair.side[A].array, V_A, 41, "kept", 4);
    pair.side[A].up_due = pair.side[B].up_due = true;
    pair_up();
    assert_state(A, V_A, 41, "kept");
    assert_state(B, V_A, 41, "kept");
}

/* ---- moves ---- */

static void a_host_may_ask_either_for_a_move(void **state)
{
    for (int asked = A; asked < PAIR; asked++) {
        for (int to = B; to >= A; to--) {
            uint32_t handle =
                ask_with(asked,
                         &(struct host_request){
                             .op = HOST_MOVE, .volume = V_A, .offset_bytes = (uint64_t)to},
                         "", 0);
            pass_ms(50);
            assert_ok(handle);
            assert_int_equal(array_owner(pair.side[to].array, V_A), 1);
            assert_int_equal(array_service(pair.side[to].array, V_A), ARRAY_SERVED_HERE);
            assert_int_equal(array_service(pair.side[to ^ 1].array, V_A), ARRAY_SERVED_THERE);
        }
    }
    kill_side(B);
    pass_ms(20);
    uint32_t alone = ask_with(
        A, &(struct host_request){.op = HOST_MOVE, .volume = V_A, .offset_bytes = 1}, "", 0);
    settle();
    assert_result(alone, HOST_REFUSED);
}

int main(void)
{
#define SHIP_TEST(name) cmocka_unit_test_setup_teardown(name, ships_set_up, pair_destroy)
    const struct CMUnitTest tests[] = {
        SHIP_TEST(the_owner_carries_out_what_the_other_is_asked),
        SHIP_TEST(a_long_request_goes_in_steps),
        SHIP_TEST(one_that_may_not_be_shipped_is_refused),
        SHIP_TEST(without_a_session_it_waits_for_one),
        SHIP_TEST(a_new_session_does_not_do_it_twice),
        SHIP_TEST(a_session_is_of_use_once_the_owners_stream_has_named_it),
        SHIP_TEST(the_next_start_of_the_owner_is_asked_nothing_meanwhile),
        SHIP_TEST(what_the_owner_did_before_it_failed_is_known_first),
        SHIP_TEST(what_was_refused_is_not_shipped_again_at_once),
        SHIP_TEST(a_takeover_goes_on_from_where_the_owner_had_come),
        SHIP_TEST(a_discard_of_the_lost_owner_goes_on_before_anyone_else),
        SHIP_TEST(what_a_lost_sender_shipped_is_not_begun),
        SHIP_TEST(a_controller_that_goes_out_ends_them_with_the_session),
        SHIP_TEST(a_volume_that_comes_here_takes_its_requests_along),
        SHIP_TEST(a_forced_write_that_the_former_owner_did_is_over),
        SHIP_TEST(what_a_host_has_left_behind_does_not_come_back),
        SHIP_TEST(it_writes_what_matched_and_says_where_it_did_not),
        SHIP_TEST(of_two_one_is_told_that_it_was_late),
        SHIP_TEST(all_of_it_is_written_or_nothing),
        SHIP_TEST(a_page_that_cannot_be_read_fails_it),
        SHIP_TEST(a_record_is_replaced_only_by_who_knows_it),
        SHIP_TEST(it_counts_only_when_the_peer_has_it),
        SHIP_TEST(a_request_that_was_judged_by_an_older_record_is_sent_back),
        SHIP_TEST(a_barrier_does_not_wait_for_a_read_that_the_store_keeps),
        SHIP_TEST(a_barrier_waits_for_older_changes_only),
        SHIP_TEST(a_barrier_does_not_wait_for_a_write_that_waits_for_room),
        SHIP_TEST(a_write_that_has_come_some_way_ends_for_a_barrier_when_it_is_abandoned),
        cmocka_unit_test_teardown(a_record_of_an_earlier_run_counts_until_a_newer_one_comes,
                                  pair_destroy),
        SHIP_TEST(a_host_may_ask_either_for_a_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
