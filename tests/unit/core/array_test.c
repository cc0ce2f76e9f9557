/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A controller's life: which configurations are sound, what it asks for first, what it shows, and
 * that the audit sees. */

#include "pair.h"

#include "../check_trap.h"

#include "array/internal.h"

static int defaults(void **state)
{
    pair_defaults();
    pair.config.incarnation = 1;
    return 0;
}

#define BREAK(field, value)                                                                        \
    (defaults(state), pair.config.field = (value), array_config_check(&pair.config))

static void each_wrong_value_of_a_configuration_is_named(void **state)
{
    defaults(state);
    assert_null(array_config_check(&pair.config));
    assert_non_null(strstr(BREAK(self, 2), "self"));
    assert_non_null(strstr(BREAK(incarnation, 0), "incarnation"));
    assert_non_null(strstr(BREAK(slot_count, 63), "slot_count"));
    assert_non_null(strstr(BREAK(slot_count, (1u << 29) + 1), "slot_count"));
    assert_non_null(strstr(BREAK(request_limit, 0), "request_limit"));
    assert_non_null(strstr(BREAK(request_limit, (1u << 20) + 1), "request_limit"));
    assert_non_null(strstr(BREAK(destage_io_limit, 0), "destage_io_limit"));
    assert_non_null(strstr(BREAK(destage_io_limit, 4097), "destage_io_limit"));
    assert_non_null(strstr(BREAK(fetch_io_limit, 0), "fetch_io_limit"));
    assert_non_null(strstr(BREAK(fetch_io_limit, 4097), "fetch_io_limit"));
    assert_non_null(strstr(BREAK(dirty_low_percent, 75), "dirty_low_percent"));
    assert_non_null(strstr(BREAK(dirty_high_percent, 91), "90"));
    assert_non_null(strstr(BREAK(lease_ms, 0), "lease_ms"));
    assert_non_null(strstr(BREAK(volume_count, 0), "volume_count"));
    assert_non_null(strstr(BREAK(volume_count, VOLUME_LIMIT + 1), "volume_count"));
    assert_non_null(strstr(BREAK(store_count, 0), "store_count"));
    assert_non_null(strstr(BREAK(store_count, STORE_LIMIT + 1), "store_count"));
    assert_non_null(strstr(BREAK(stores[1].block_size_bytes, 1024), "block size"));
    assert_non_null(strstr(BREAK(volumes[0].store, 2), "store and home"));
    assert_non_null(strstr(BREAK(volumes[0].home, 2), "store and home"));
    assert_non_null(strstr(BREAK(volumes[0].size_bytes, 0), "multiples"));
    assert_non_null(strstr(BREAK(volumes[0].size_bytes, 511), "multiples"));
    assert_non_null(strstr(BREAK(volumes[0].store_offset_bytes, 1), "multiples"));
    assert_non_null(strstr(BREAK(volumes[V_BLOCKS].size_bytes, 512), "multiples"));
    assert_non_null(strstr(BREAK(volumes[0].size_bytes, UINT64_C(1) << 52), "2^40"));
}

static void the_edges_of_a_configuration_are_sound(void **state)
{
    assert_null(BREAK(self, 1));
    assert_null(BREAK(slot_count, 64));
    assert_null(BREAK(dirty_high_percent, 90));
    assert_null(BREAK(dirty_low_percent, 74));
    assert_null(BREAK(volumes[0].size_bytes, 512));
    assert_null(BREAK(volumes[0].size_bytes, (UINT64_C(1) << 52) - 4096));
    assert_null(BREAK(settle_ms, 0));
    assert_null(BREAK(destage_after_ms, 0));
}

static void what_is_measured_is_enough_and_a_page_less_is_not(void **state)
{
    size_t size = array_memory_size(&pair.config);
    uint8_t *memory = aligned_alloc(PAGE, (size + PAGE - 1) / PAGE * PAGE);
    memset(memory, 0, size);
    assert_non_null(array_create(&pair.config, memory, size, 0));
    memset(memory, 0, size);
    ASSERT_CHECK_FAILS(array_create(&pair.config, memory, size - PAGE - 1, 0));
    free(memory);
}

static void the_first_pump_asks_for_the_register_and_nothing_else(void **state)
{
    pair_create();
    const struct actions *actions = array_pump(pair.side[A].array, pair.now_us);
    assert_true(actions->register_wanted);
    assert_false(actions->reg.swap);
    assert_false(actions->send_wanted || actions->reply_wanted || actions->stopped);
    assert_int_equal(actions->store_count, 0);
    actions = array_pump(pair.side[A].array, pair.now_us + 1);
    assert_false(actions->register_wanted); /* once */
    assert_int_equal(array_owner(pair.side[A].array, V_A), -1);
    ASSERT_CHECK_FAILS(array_pump(pair.side[A].array, pair.now_us)); /* time never goes back */
    pair_destroy(state);
}

static void configurations_that_differ_never_pair(void **state)
{
    for (int row = 0; row < 6; row++) {
        pair_defaults();
        pair_create();
        if (row == 0)
            pair.config.volumes[0].size_bytes -= 4096;
        else if (row == 1)
            pair.config.volumes[0].store_offset_bytes += 4096;
        else if (row == 2)
            pair.config.volumes[0].name[0] = 'w';
        else if (row == 3)
            pair.config.volumes[0].store = 1;
        else if (row == 4)
            pair.config.volumes[0].home = 1;
        else
            pair.config.slot_count *= 2;
        pair_create_side(B);
        pair.side[A].up_due = pair.side[B].up_due = true;
        pass_ms(3000);
        assert_int_equal(status_of(A)->role, ROLE_SOLO);
        assert_int_equal(status_of(B)->role, ROLE_WAITING);
        pair_destroy(state);
    }
}

static void the_status_counts_what_hosts_did(void **state)
{
    pair_set_up(state);
    write_now(A, V_A, 0, 2 * PAGE, 1);
    assert_reads(A, V_A, 0, PAGE, 1);
    assert_reads(A, V_A, 100 * PAGE, PAGE, 0);
    const struct array_status *status = status_of(A);
    const struct volume_status *volume = &status->volumes[V_A];
    assert_int_equal(volume->owner, A);
    assert_int_equal(volume->writes, 1);
    assert_int_equal(volume->write_bytes, 2 * PAGE);
    assert_int_equal(volume->reads, 2);
    assert_int_equal(volume->read_page_hits, 1);
    assert_int_equal(volume->read_page_misses, 1);
    assert_int_equal(volume->dirty_pages, 2);
    assert_int_equal(volume->waiting, 0);
    assert_int_equal(volume->write_latency_us.count, 1);
    assert_int_equal(status->destage.host_pages, 2);
    assert_int_equal(status->slots, 128);
    assert_int_equal(status->slots_free, 125);
    assert_int_equal(status->slots_clean, 1);
    assert_int_equal(status->slots_dirty, 2);
    assert_int_equal(status->sent.data_bytes, 2 * PAGE);
    assert_int_equal(status_of(B)->received.data_bytes, 2 * PAGE);
    assert_int_equal(status_of(B)->slots_image, 2);
    assert_in_range(status->lease_left_us, 1, 1000000);
    assert_true(array_next_cached(pair.side[A].array, V_A, 0, VOLUME_BYTES) == 0);
    assert_true(array_next_cached(pair.side[A].array, V_A, PAGE + 5, VOLUME_BYTES) == PAGE + 5);
    assert_true(array_next_cached(pair.side[A].array, V_A, 2 * PAGE, VOLUME_BYTES) == VOLUME_BYTES);
    destage_all();
    status = status_of(A);
    assert_int_equal(status->destage.pages_written, 2);
    assert_int_equal(status->destage.store_writes, 1);
    assert_int_equal(status->destage.joined_pages, 1);
    assert_int_equal(status->volumes[V_A].dirty_pages, 0);
    pair_destroy(state);
}

/* Break one thing at a time in a sound pair: the audit must see each. */
static void the_audit_sees_each_broken_invariant(void **state)
{
    pair_set_up(state);
    struct array *array = pair.side[A].array;
    write_now(A, V_A, 0, PAGE, 1);
    assert_reads(A, V_A, 100 * PAGE, PAGE, 0);
    struct slot *dirty = slot_find(&array->table, slot_key(V_A, 0));
    struct slot *clean = slot_find(&array->table, slot_key(V_A, 100));
    struct slot *none = slot_list_first(&array->table, LIST_FREE);
    assert_null(array_check(array));
    const struct slot saved_dirty = *dirty, saved_clean = *clean, saved_none = *none;
#define SEEN(slot, change)                                                                         \
    do {                                                                                           \
        (slot)->change;                                                                            \
        assert_non_null(array_check(array));                                                       \
        *(slot) = saved_##slot;                                                                    \
    } while (0)
    SEEN(none, valid = 1);
    SEEN(none, waiters = 0);
    SEEN(none, fetch = 1);
    SEEN(none, counted = true);
    SEEN(none, mirror_stamp = saved_dirty.mirror_stamp);
    SEEN(none, list = LIST_NONE);
    SEEN(dirty, valid = 0x7F);
    SEEN(dirty, dirty = 0);
    SEEN(dirty, superseded = true);
    SEEN(dirty, list = LIST_NONE);
    SEEN(dirty, mirror_stamp = 0);
    SEEN(dirty, counted = false);
    SEEN(dirty, elder = slot_index(&array->table, clean));
    SEEN(dirty, state = SLOT_FILLING);
    SEEN(dirty, state = SLOT_TRAVELLING);
    SEEN(clean, dirty = 1);
    SEEN(clean, superseded = true);
    SEEN(clean, list = LIST_NONE);
    SEEN(clean, fetch = 1);
    assert_null(array_check(array));
    array->volumes[V_A].active++;
    assert_non_null(array_check(array));
    array->volumes[V_A].active--;
    array->destage.generations.count[5]++;
    assert_non_null(array_check(array));
    array->destage.generations.count[5]--;
    assert_null(array_check(array));
    pair_destroy(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(each_wrong_value_of_a_configuration_is_named, defaults),
        cmocka_unit_test_setup(the_edges_of_a_configuration_are_sound, defaults),
        cmocka_unit_test_setup(what_is_measured_is_enough_and_a_page_less_is_not, defaults),
        cmocka_unit_test_setup(the_first_pump_asks_for_the_register_and_nothing_else, defaults),
        cmocka_unit_test(configurations_that_differ_never_pair),
        cmocka_unit_test(the_status_counts_what_hosts_did),
        cmocka_unit_test(the_audit_sees_each_broken_invariant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
