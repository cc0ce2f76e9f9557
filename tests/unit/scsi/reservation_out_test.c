/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* PERSISTENT RESERVE IN and OUT between hosts of one controller and of both: who is registered, who
 * holds what, who is told, and that a wrong list changes nothing. Both controllers always answer
 * alike. */

#include "shared_record.h"

static void nothing_changes(uint32_t changes)
{
    assert_int_equal(shared.changes, changes);
}

/* ---- registering ---- */

static void a_registration_is_seen_through_both_controllers(void **state)
{
    assert_int_equal(pr_out(A1, REGISTER, 0, 0, 0x123, 0), SCSI_GOOD);
    assert_int_equal(keys(A2, 0x123), 1);
    assert_int_equal(keys(B4, 0x123), 1);
    assert_int_equal(keys(B4, 0), 1);
    assert_int_equal(generation(A3), 1);
    assert_int_equal(generation(B1), 1);
    no_attention_but(0);
}

/* Table 61: each row of it. */
static void register_follows_the_table(void **state)
{
    uint32_t changes;

    /* Not registered: a key that is not zero is a conflict, two zeros do nothing. */
    assert_int_equal(pr_out(A1, REGISTER, 0, 5, 6, 0), SCSI_RESERVATION_CONFLICT);
    assert_int_equal(pr_out(A1, REGISTER, 0, 0, 0, 0), SCSI_GOOD);
    assert_int_equal(pr_out(A1, REGISTER_IGNORE, 0, 99, 0, 0), SCSI_GOOD);
    nothing_changes(0);
    assert_int_equal(pr_out(A1, REGISTER, 0, 0, 6, 0), SCSI_GOOD);
    /* Registered: only with its key. */
    changes = shared.changes;
    assert_int_equal(pr_out(A1, REGISTER, 0, 0, 7, 0), SCSI_RESERVATION_CONFLICT);
    assert_int_equal(pr_out(A1, REGISTER, 0, 5, 7, 0), SCSI_RESERVATION_CONFLICT);
    assert_int_equal(pr_out(A1, REGISTER, 0, 5, 0, 0), SCSI_RESERVATION_CONFLICT);
    nothing_changes(changes);
    assert_int_equal(pr_out(A1, REGISTER, 0, 6, 7, 0), SCSI_GOOD);
    assert_int_equal(keys(B4, 7), 1);
    assert_int_equal(pr_out(A1, REGISTER_IGNORE, 0, 99, 8, 0), SCSI_GOOD);
    assert_int_equal(keys(B4, 8), 1);
    assert_int_equal(keys(B4, 0), 1);
    assert_int_equal(pr_out(A1, REGISTER, 0, 8, 0, 0), SCSI_GOOD);
    assert_int_equal(keys(B4, 0), 0);
    assert_int_equal(generation(B4), 4);
    no_attention_but(0);
}

static void a_registration_belongs_to_one_path_and_one_unit(void **state)
{
    uint8_t cdb[10] = {0x5E, 0, [7] = 1};

    assert_int_equal(pr_out(A1, REGISTER, 0, 0, 6, 0), SCSI_GOOD);
    /* The same initiator port at the other controller is another nexus. */
    assert_int_equal(pr_out(B1, REGISTER, 0, 6, 7, 0), SCSI_RESERVATION_CONFLICT);
    assert_int_equal(pr_out(B1, REGISTER, 0, 0, 6, 0), SCSI_GOOD);
    assert_int_equal(keys(A1, 6), 2);
    assert_int_equal(send_to_lun(A1, 5, cdb, sizeof cdb, NULL, 0), SCSI_GOOD);
    assert_int_equal(task.in_bytes, 8);
}

static void all_target_ports_at_once(void **state)
{
    assert_int_equal(pr_out(A1, REGISTER, 0, 0, 6, ALL_TG_PT), SCSI_GOOD);
    assert_int_equal(keys(B4, 6), 2);
    assert_int_equal(generation(B4), 1);
    assert_int_equal(pr_out(B1, RESERVE, EA, 6, 0, 0), SCSI_GOOD);
    assert_int_equal(pr_out(B1, REGISTER, 0, 6, 7, ALL_TG_PT), SCSI_GOOD);
    assert_int_equal(keys(A1, 7), 2);
    /* One of the two has another key: all or nothing. */
    assert_int_equal(pr_out(A1, REGISTER, 0, 7, 8, 0), SCSI_GOOD);
    assert_int_equal(pr_out(A1, REGISTER, 0, 8, 9, ALL_TG_PT), SCSI_RESERVATION_CONFLICT);
    assert_int_equal(keys(B4, 8), 1);
    assert_int_equal(keys(B4, 7), 1);
    assert_int_equal(pr_out(A1, REGISTER_IGNORE, 0, 0, 9, ALL_TG_PT), SCSI_GOOD);
    assert_int_equal(keys(B4, 9), 2);
    assert_int_equal(pr_out(A1, REGISTER, 0, 9, 0, ALL_TG_PT), SCSI_GOOD);
    assert_int_equal(keys(B4, 0), 0);
    reserved_as(0, 0); /* B1 held it */
    /* A new key spreads to a port that has none; taking away needs none there. */
    assert_int_equal(pr_out(A1, REGISTER, 0, 0, 3, 0), SCSI_GOOD);
    assert_int_equal(pr_out(A1, REGISTER, 0, 3, 4, ALL_TG_PT), SCSI_GOOD);
    assert_int_equal(keys(B4, 4), 2);
    assert_int_equal(pr_out(B1, REGISTER, 0, 4, 0, 0), SCSI_GOOD);
    assert_int_equal(pr_out(A1, REGISTER, 0, 4, 0, ALL_TG_PT), SCSI_GOOD);
    assert_int_equal(keys(B4, 0), 0);
    /* The first registration of a path whose other path has another key. */
    assert_int_equal(pr_out(B1, REGISTER, 0, 0, 1, 0), SCSI_GOOD);
    assert_int_equal(pr_out(A1, REGISTER, 0, 0, 2, ALL_TG_PT), SCSI_RESERVATION_CONFLICT);
    assert_int_equal(keys(B4, 0), 1);
    assert_int_equal(pr_out(A1, REGISTER_IGNORE, 0, 0, 2, ALL_TG_PT), SCSI_GOOD);
    assert_int_equal(keys(B4, 2), 2);
}

static uint32_t listed(uint8_t *list, uint64_t key, uint64_t service_key, uint8_t flags,
                       const char *const *names, uint32_t count)
{
    uint32_t size = 28;

    memset(list, 0, 28);
    put_u64(list, key);
    put_u64(list + 8, service_key);
    list[20] = flags;
    for (uint32_t i = 0; i < count; i++)
        size += put_transport_id(list + size, names[i]);
    put_u32(list + 24, size - 28);
    return size;
}

static void initiator_ports_that_a_list_names_are_registered_with_it(void **state)
{
    static const char *const names[] = {"iqn.2026-11.example:host2,i,0x00023d000002",
                                        "IQN.2026-11.Example:Host4,i,0x23D000004", "x,i,0x1"};
    uint8_t list[512];
    uint32_t size = listed(list, 0, 6, SPEC_I_PT | APTPL, names, 3);

    assert_int_equal(pr_out_list(A1, REGISTER, 0, list, size), SCSI_GOOD);
    assert_int_equal(keys(B4, 6), 4);
    assert_int_equal(generation(B4), 1);
    assert_int_equal(pr_out(A2, RESERVE, EA, 6, 0, 0), SCSI_GOOD);
    /* On this target port only: host 4 is at b. */
    assert_int_equal(pr_out(B4, REGISTER, 0, 6, 7, 0), SCSI_RESERVATION_CONFLICT);
    /* Those who are registered keep their key. */
    size = listed(list, 0, 9, SPEC_I_PT | ALL_TG_PT, names, 2);
    assert_int_equal(pr_out_list(A3, REGISTER, 0, list, size), SCSI_GOOD);
    assert_int_equal(keys(B4, 6), 4);
    assert_int_equal(keys(B4, 9), 4); /* A3, its other port, and hosts 2 and 4 at b */
    assert_int_equal(pr_out(B4, REGISTER, 0, 9, 7, 0), SCSI_GOOD);
    no_attention_but(0);
}

static void a_wrong_list_of_initiator_ports_changes_nothing(void **state)
{
    static const char *const names[] = {"iqn.2026-11.example:host2,i,0x00023d000002",
                                        "iqn.2026-11.example:host3,i,0x00023d000003"};
    uint8_t good[512];
    uint8_t list[512];
    uint32_t size = listed(good, 0, 6, SPEC_I_PT, names, 2);
    uint32_t second = 28 + 4 + get_u16(good + 30);

#define WITH(at, value, expected, pointer)                                                         \
    do {                                                                                           \
        memcpy(list, good, sizeof list);                                                           \
        list[at] = value;                                                                          \
        (void)pr_out_list(A1, REGISTER, 0, list, size);                                            \
        assert_int_equal(sense(), expected);                                                       \
        assert_int_equal(field_pointer(), pointer);                                                \
        nothing_changes(0);                                                                        \
    } while (0)
    WITH(28, 0x44, INVALID_IN_LIST, 28 << 4 | 8 | 3); /* not iSCSI */
    WITH(28, 0x05, INVALID_IN_LIST, 28 << 4 | 8 | 7); /* names a device */
    WITH(28, 0x85, INVALID_IN_LIST, 28 << 4 | 8 | 7); /* a format that does not exist */
    WITH(second, 0x46, INVALID_IN_LIST, (int)second << 4 | 8 | 3);
    WITH(31, 16, INVALID_IN_LIST, 30 << 4); /* shorter than any */
    WITH(31, 42, INVALID_IN_LIST, 30 << 4); /* not a multiple of four */
    WITH(second + 2, 1, LIST_LENGTH, -1);   /* longer than the list */
    WITH(32, ',', INVALID_IN_LIST, 32 << 4);
    WITH(32 + 28, 'j', INVALID_IN_LIST, 32 << 4); /* ",i," */
    WITH(27, 5, LIST_LENGTH, -1);                 /* its own length is wrong */
    WITH(24, 1, LIST_LENGTH, -1);
    WITH(20, 0, LIST_LENGTH, -1); /* SPEC_I_PT is not set */
#undef WITH
    /* A name without NUL. */
    memcpy(list, good, sizeof list);
    memset(list + second + 4, 'x', get_u16(list + second + 2));
    (void)pr_out_list(A1, REGISTER, 0, list, size);
    assert_int_equal(sense(), INVALID_IN_LIST);
    memcpy(list, good, sizeof list);
    memcpy(list + second + 4, "abcdefghijklmnopqrstuvwxyz0,i,0x000000000001", 44);
    (void)pr_out_list(A1, REGISTER, 0, list, size);
    assert_int_equal(sense(), INVALID_IN_LIST);
    assert_int_equal(field_pointer(), (int)(second + 4) << 4);
    /* Cut off within a TransportID's head, and before the list's own length. */
    memcpy(list, good, sizeof list);
    put_u32(list + 24, second - 28 + 3);
    (void)pr_out_list(A1, REGISTER, 0, list, second + 3);
    assert_int_equal(sense(), LIST_LENGTH);
    (void)pr_out_list(A1, REGISTER, 0, good, 27);
    assert_int_equal(sense(), LIST_LENGTH);
    (void)pr_out_list(A1, REGISTER, 0, good, 24);
    assert_int_equal(sense(), LIST_LENGTH);
    nothing_changes(0);
    /* Only the first registration of a nexus may name others, and only REGISTER. */
    enroll(A1);
    put_u64(good, key_of(A1));
    (void)pr_out_list(A1, REGISTER, 0, good, size);
    assert_int_equal(sense(), INVALID_IN_LIST);
    assert_int_equal(field_pointer(), 20 << 4 | 8 | 3);
    for (uint8_t action = RESERVE; action <= REGISTER_IGNORE; action++) {
        (void)pr_out(A1, action, EA, key_of(A1), key_of(A1), SPEC_I_PT);
        assert_int_equal(sense(), INVALID_IN_LIST);
        assert_int_equal(field_pointer(), 20 << 4 | 8 | 3);
    }
    nothing_changes(1);
}

static void a_list_has_the_length_that_its_action_needs(void **state)
{
    static uint8_t list[70000];
    uint8_t cdb[10] = {0x5F};

    for (uint8_t action = REGISTER; action <= MOVE; action++) {
        static const uint32_t lengths[] = {0, 1, 8, 23, 25, 28, 32, 65537, 70000};
        for (uint32_t i = 0; i < ARRAY_LENGTH(lengths); i++) {
            (void)pr_out_list(A1, action, EA, list, lengths[i]);
            assert_int_equal(sense(), LIST_LENGTH);
            if (lengths[i] < 24 || lengths[i] > 65536)
                assert_int_equal(task.buffer_bytes, 0); /* before any of it is taken */
        }
        /* The initiator has fewer bytes than its CDB says. */
        cdb[1] = action;
        cdb[8] = 24;
        (void)send_out(A1, cdb, sizeof cdb, list, 23);
        assert_int_equal(sense(), LIST_LENGTH);
    }
    nothing_changes(0);
    assert_int_equal(shared.ios, 0);
}

static void a_full_table_refuses_one_more(void **state)
{
    struct scsi_nexus *nexus = NULL;
    static const struct scsi_lun_map lun = {0, VOLUME, false};
    char name[SCSI_PORT_NAME_SIZE];
    uint32_t changes;

    for (int i = 0; i < RECORD_REGISTRANT_LIMIT; i++) {
        snprintf(name, sizeof name, "iqn.2026-11.example:many,i,0x%012x", i);
        nexus = shared.nexus[A1];
        shared.nexus[A1] = scsi_nexus_open(shared.side[A], name, &lun, 1);
        assert_non_null(shared.nexus[A1]);
        (void)ready(A1);
        assert_int_equal(pr_out(A1, REGISTER, 0, 0, 1 + (uint64_t)i, 0), SCSI_GOOD);
        scsi_nexus_close(shared.side[A], shared.nexus[A1]);
        shared.nexus[A1] = nexus;
    }
    changes = shared.changes;
    assert_int_equal(keys(B4, 0), RECORD_REGISTRANT_LIMIT);
    (void)pr_out(A2, REGISTER, 0, 0, 7, 0);
    assert_int_equal(sense(), NO_RESOURCES);
    (void)pr_out(B4, REGISTER_IGNORE, 0, 0, 7, 0);
    assert_int_equal(sense(), NO_RESOURCES);
    nothing_changes(changes);
    /* Full status of all is longer than any allocation length, and says so. */
    assert_int_equal(pr_in(B4, 3, 5000), SCSI_GOOD);
    assert_int_equal(task.in_bytes, 5000);
    assert_int_equal(get_u32(shared.buffer + 4), RECORD_REGISTRANT_LIMIT * (24 + 4 + 44));
}

static void a_table_full_of_long_names_refuses_one_more(void **state)
{
    static uint8_t list[70000];
    uint8_t *at = list + 28;
    char name[SCSI_PORT_NAME_SIZE];
    uint32_t size;

    memset(list, 0, 28);
    put_u64(list + 8, 6);
    list[20] = SPEC_I_PT;
    for (int i = 0; i < 80; i++) {
        memset(name, 'n', sizeof name);
        name[snprintf(name, 16, "i%03d", i)] = '.';
        snprintf(name + 223, 18, ",i,0x%012x", i);
        at += put_transport_id(at, name);
        if (i == 40) {
            size = (uint32_t)(at - list);
            put_u32(list + 24, size - 28);
            assert_int_equal(pr_out_list(A1, REGISTER, 0, list, size), SCSI_GOOD);
            assert_int_equal(keys(B4, 6), 42);
        }
    }
    size = (uint32_t)(at - list);
    put_u32(list + 24, size - 28);
    (void)pr_out_list(A2, REGISTER, 0, list, size);
    assert_int_equal(sense(), NO_RESOURCES);
    nothing_changes(1);
    assert_int_equal(keys(B4, 6), 42);
    /* A table that is full can still be reset, preempted and cleared by anybody in it. */
    assert_int_equal(manage(B4, SCSI_LOGICAL_UNIT_RESET, 0), SCSI_FUNCTION_COMPLETE);
    clear_attentions();
    assert_int_equal(pr_out(A1, CLEAR, 0, 6, 0, 0), SCSI_GOOD);
}

static void aptpl_is_the_last_registrations(void **state)
{
    for (int aptpl = 1; aptpl >= 0; aptpl--) {
        assert_int_equal(pr_out(A1, REGISTER_IGNORE, 0, 0, 6, (uint8_t)aptpl), SCSI_GOOD);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(pr_in(i == 0 ? A2 : B4, 2, 64), SCSI_GOOD);
            assert_int_equal(shared.buffer[3] & 1, aptpl);
        }
    }
    assert_int_equal(pr_out(B1, REGISTER, 0, 0, 6, APTPL), SCSI_GOOD);
    /* Other actions leave it. */
    assert_int_equal(pr_out(B1, RESERVE, EA, 6, 0, 0), SCSI_GOOD);
    assert_int_equal(pr_in(A2, 2, 64), SCSI_GOOD);
    assert_int_equal(shared.buffer[3] & 1, 1);
}

/* ---- reserving ---- */

static void every_type_is_reserved_and_released_from_either_side(void **state)
{
    static const enum host holders[] = {A1, B1};

    enroll(A1);
    enroll(B1);
    for (uint32_t i = 0; i < 2 * ARRAY_LENGTH(TYPES); i++) {
        enum host holder = holders[i % 2];
        enum host other = holders[1 - i % 2];
        uint8_t type = TYPES[i / 2];
        bool all = type >= WEAR;
        uint32_t before = generation(A3);
        uint32_t changes;
        reserve(holder, type);
        reserved_as(type, all ? 0 : key_of(holder));
        /* Again: nothing to do. Another type, or somebody else: a conflict. */
        changes = shared.changes;
        reserve(holder, type);
        assert_int_equal(pr_out(holder, RESERVE, type == EA ? WE : EA, key_of(holder), 0, 0),
                         SCSI_RESERVATION_CONFLICT);
        assert_int_equal(pr_out(other, RESERVE, type, key_of(other), 0, 0),
                         all ? SCSI_GOOD : SCSI_RESERVATION_CONFLICT);
        assert_int_equal(pr_out(A3, RESERVE, type, 0, 0, 0), SCSI_RESERVATION_CONFLICT);
        /* RELEASE: with its own key and the same type; of a reservation that it does not hold it
         * says GOOD and does nothing. */
        assert_int_equal(pr_out(holder, RELEASE, type, 1, 0, 0), SCSI_RESERVATION_CONFLICT);
        (void)pr_out(holder, RELEASE, type == EA ? WE : EA, key_of(holder), 0, 0);
        assert_int_equal(sense(), INVALID_RELEASE);
        if (!all)
            assert_int_equal(pr_out(other, RELEASE, type, key_of(other), 0, 0), SCSI_GOOD);
        nothing_changes(changes);
        reserved_as(type, all ? 0 : key_of(holder));
        no_attention_but(0);
        assert_int_equal(pr_out(holder, RELEASE, type, key_of(holder), 0, 0), SCSI_GOOD);
        reserved_as(0, 0);
        assert_int_equal(generation(B4), before);
        /* Only where registrants had more than others does anybody hear of it. */
        assert_int_equal(attention(other), type >= WERO ? RESERVATIONS_RELEASED : 0);
        no_attention_but(0);
        assert_int_equal(pr_out(holder, RELEASE, type, key_of(holder), 0, 0), SCSI_GOOD);
    }
}

static void scope_and_type_of_a_reservation_are_checked(void **state)
{
    enroll(A1);
    for (uint32_t type = 0; type < 256; type++) {
        bool known = memchr(TYPES, (int)(type & 15), 6) != NULL;
        (void)pr_out(A1, RESERVE, (uint8_t)type, key_of(A1), 0, 0);
        if (type >= 16) {
            assert_int_equal(sense(), INVALID_IN_CDB);
            assert_int_equal(field_pointer(), 2 << 4 | 8 | 7);
        } else if (!known) {
            assert_int_equal(sense(), INVALID_IN_CDB);
            assert_int_equal(field_pointer(), 2 << 4 | 8 | 3);
        } else {
            assert_int_equal(pr_out(A1, RELEASE, (uint8_t)(type | 0x10), key_of(A1), 0, 0),
                             SCSI_CHECK_CONDITION);
            assert_int_equal(sense(), INVALID_RELEASE);
            assert_int_equal(pr_out(A1, RELEASE, (uint8_t)type, key_of(A1), 0, 0), SCSI_GOOD);
        }
    }
}

static void who_is_not_registered_can_only_register(void **state)
{
    enroll(A1);
    for (uint8_t action = RESERVE; action <= PREEMPT_AND_ABORT; action++) {
        assert_int_equal(pr_out(B4, action, EA, 0, key_of(A1), 0), SCSI_RESERVATION_CONFLICT);
        assert_int_equal(pr_out(B4, action, EA, key_of(A1), key_of(A1), 0),
                         SCSI_RESERVATION_CONFLICT);
        /* And with a wrong key. */
        assert_int_equal(pr_out(A1, action, EA, 1, key_of(A1), 0), SCSI_RESERVATION_CONFLICT);
    }
    nothing_changes(1);
}

static void a_holder_that_unregisters_releases(void **state)
{
    for (uint32_t i = 0; i < ARRAY_LENGTH(TYPES); i++) {
        uint8_t type = TYPES[i];
        enroll(A1);
        enroll(A2);
        enroll(B1);
        reserve(A2, type);
        assert_int_equal(pr_out(A2, REGISTER, 0, key_of(A2), 0, 0), SCSI_GOOD);
        if (type >= WEAR) {
            /* All registrants hold it: until the last one goes. */
            reserved_as(type, 0);
            assert_int_equal(pr_out(A1, REGISTER, 0, key_of(A1), 0, 0), SCSI_GOOD);
            reserved_as(type, 0);
            no_attention_but(0);
            assert_int_equal(pr_out(B1, REGISTER, 0, key_of(B1), 0, 0), SCSI_GOOD);
            reserved_as(0, 0);
            no_attention_but(0);
            continue;
        }
        reserved_as(0, 0);
        assert_int_equal(attention(A1), type >= WERO ? RESERVATIONS_RELEASED : 0);
        assert_int_equal(attention(B1), type >= WERO ? RESERVATIONS_RELEASED : 0);
        no_attention_but(0);
        assert_int_equal(pr_out(A1, CLEAR, 0, key_of(A1), 0, 0), SCSI_GOOD);
        clear_attentions();
    }
}

static void the_holder_stays_when_others_go(void **state)
{
    enroll(A1);
    enroll(B1);
    enroll(A2);
    reserve(A2, EARO);
    assert_int_equal(pr_out(A1, REGISTER, 0, key_of(A1), 0, 0), SCSI_GOOD);
    reserved_as(EARO, key_of(A2));
    assert_int_equal(pr_out(A2, REGISTER, 0, key_of(A2), 0x77, 0), SCSI_GOOD);
    reserved_as(EARO, 0x77);
    no_attention_but(0);
}

static void clear_ends_everything_and_tells_the_others(void **state)
{
    for (uint32_t i = 0; i < ARRAY_LENGTH(TYPES); i++) {
        uint32_t before;
        enroll(A1);
        enroll(A2);
        enroll(B1);
        reserve(A1, TYPES[i]);
        before = generation(A3);
        assert_int_equal(pr_out(B1, CLEAR, 0, key_of(B1), 0, 0), SCSI_GOOD);
        reserved_as(0, 0);
        assert_int_equal(keys(A3, 0), 0);
        assert_int_equal(keys(B4, 0), 0);
        assert_int_equal(generation(B4), before + 1);
        assert_int_equal(attention(A1), RESERVATIONS_PREEMPTED);
        assert_int_equal(attention(A2), RESERVATIONS_PREEMPTED);
        no_attention_but(0);
    }
}

/* ---- preempting ---- */

static void preempting_a_key_without_reservation_removes_it(void **state)
{
    uint32_t before;

    enroll(A1);
    enroll(B1);
    enroll(A2);
    before = generation(A3);
    /* Type and scope do not matter then. */
    assert_int_equal(pr_out(B1, PREEMPT, 0xFF, key_of(B1), key_of(A1), 0), SCSI_GOOD);
    assert_int_equal(keys(A3, key_of(A1)), 0);
    assert_int_equal(keys(B4, 0), 2);
    reserved_as(0, 0);
    assert_int_equal(generation(A3), before + 1);
    assert_int_equal(attention(A1), REGISTRATIONS_PREEMPTED);
    no_attention_but(0);
    /* Nobody has it any more: a conflict. Zero means nothing without all registrants. */
    assert_int_equal(pr_out(B1, PREEMPT, EA, key_of(B1), key_of(A1), 0), SCSI_RESERVATION_CONFLICT);
    (void)pr_out(B1, PREEMPT, EA, key_of(B1), 0, 0);
    assert_int_equal(sense(), INVALID_IN_LIST);
    assert_int_equal(field_pointer(), 8 << 4);
    assert_int_equal(generation(A3), before + 1);
}

static void preempting_the_holder_takes_the_reservation(void **state)
{
    for (uint32_t i = 0; i < 6; i++)
        for (uint32_t j = 0; j < 6; j++) {
            uint8_t old = TYPES[i];
            uint8_t new = TYPES[j];
            if (old >= WEAR)
                continue;
            enroll(A1);
            enroll(A2);
            enroll(B1);
            enroll(B4);
            reserve(A1, old);
            assert_int_equal(pr_out(B1, PREEMPT, new, key_of(B1), key_of(A1), 0), SCSI_GOOD);
            assert_int_equal(attention(A1), REGISTRATIONS_PREEMPTED);
            /* Who stays registered is told when the type is another one now. */
            assert_int_equal(attention(A2), old != new ? RESERVATIONS_RELEASED : 0);
            assert_int_equal(attention(B4), old != new ? RESERVATIONS_RELEASED : 0);
            no_attention_but(0);
            reserved_as(new, new >= WEAR ? 0 : key_of(B1));
            assert_int_equal(keys(A3, key_of(A1)), 0);
            assert_int_equal(keys(A3, 0), 3);
            assert_int_equal(pr_out(B1, CLEAR, 0, key_of(B1), 0, 0), SCSI_GOOD);
            clear_attentions();
        }
    assert_int_equal(shared.barriers, 0);
}

static void scope_and_type_count_only_when_the_reservation_is_taken(void **state)
{
    enroll(A1);
    enroll(B1);
    reserve(A1, EA);
    (void)pr_out(B1, PREEMPT, 0x10 | EA, key_of(B1), key_of(A1), 0);
    assert_int_equal(sense(), INVALID_IN_CDB);
    assert_int_equal(field_pointer(), 2 << 4 | 8 | 7);
    (void)pr_out(B1, PREEMPT, 2, key_of(B1), key_of(A1), 0);
    assert_int_equal(sense(), INVALID_IN_CDB);
    assert_int_equal(field_pointer(), 2 << 4 | 8 | 3);
    reserved_as(EA, key_of(A1));
}

static void preempting_somebody_else_leaves_the_reservation(void **state)
{
    enroll(A2);
    enroll(A1);
    enroll(B1);
    reserve(A1, WE);
    assert_int_equal(pr_out(B1, PREEMPT, EA, key_of(B1), key_of(A2), 0), SCSI_GOOD);
    reserved_as(WE, key_of(A1));
    assert_int_equal(attention(A2), REGISTRATIONS_PREEMPTED);
    no_attention_but(0);
}

static void preempting_all_registrants(void **state)
{
    for (uint8_t old = WEAR; old <= EAAR; old++) {
        enroll(A1);
        enroll(A2);
        enroll(B1);
        reserve(A1, old);
        /* A key: only its registrations go. */
        assert_int_equal(pr_out(B1, PREEMPT, WE, key_of(B1), key_of(A2), 0), SCSI_GOOD);
        reserved_as(old, 0);
        assert_int_equal(attention(A2), REGISTRATIONS_PREEMPTED);
        no_attention_but(0);
        /* Zero: all others go, and the reservation is its own. */
        enroll(A2);
        assert_int_equal(pr_out(B1, PREEMPT, WE, key_of(B1), 0, 0), SCSI_GOOD);
        reserved_as(WE, key_of(B1));
        assert_int_equal(keys(A3, 0), 1);
        assert_int_equal(attention(A1), REGISTRATIONS_PREEMPTED);
        assert_int_equal(attention(A2), REGISTRATIONS_PREEMPTED);
        no_attention_but(0);
        assert_int_equal(pr_out(B1, CLEAR, 0, key_of(B1), 0, 0), SCSI_GOOD);
    }
}

static void a_holder_preempts_itself_to_change_the_type(void **state)
{
    assert_int_equal(pr_out(A1, REGISTER, 0, 0, 5, ALL_TG_PT), SCSI_GOOD);
    enroll(A2);
    assert_int_equal(pr_out(A1, RESERVE, WE, 5, 0, 0), SCSI_GOOD);
    assert_int_equal(pr_out(A1, PREEMPT, EARO, 5, 5, 0), SCSI_GOOD);
    reserved_as(EARO, 5);
    /* Its own registration stays; its other path's has the same key and goes. */
    assert_int_equal(keys(B4, 5), 1);
    assert_int_equal(attention(B1), REGISTRATIONS_PREEMPTED);
    assert_int_equal(attention(A2), RESERVATIONS_RELEASED);
    no_attention_but(0);
}

static void preempting_ones_own_key_that_holds_nothing_removes_it(void **state)
{
    assert_int_equal(pr_out(A1, REGISTER, 0, 0, 5, ALL_TG_PT), SCSI_GOOD);
    assert_int_equal(pr_out(A1, PREEMPT, WE, 5, 5, 0), SCSI_GOOD);
    assert_int_equal(keys(B4, 0), 0);
    assert_int_equal(attention(B1), REGISTRATIONS_PREEMPTED);
    no_attention_but(0);
}

static void preempt_and_abort_ends_the_tasks_of_those_preempted(void **state)
{
    struct scsi_task a1;
    struct scsi_task a2;
    struct scsi_task b1;
    struct scsi_task b4;
    struct scsi_task later;

    enroll(A1);
    enroll(B4);
    enroll(B1);
    reserve(A1, WERO);
    a1 = under_way(A1);
    a2 = under_way(A2);
    b1 = under_way(B1);
    b4 = under_way(B4);
    assert_int_equal(pr_out(B1, PREEMPT_AND_ABORT, WERO, key_of(B1), key_of(A1), 0), SCSI_GOOD);
    /* Complete only when what had begun before has ended in the core. */
    assert_int_equal(shared.barriers, 1);
    assert_int_equal(scsi_task_fate(&a1), SCSI_END_SILENT);
    assert_int_equal(scsi_task_fate(&a2), SCSI_GO_ON);
    assert_int_equal(scsi_task_fate(&b1), SCSI_GO_ON);
    assert_int_equal(scsi_task_fate(&b4), SCSI_GO_ON);
    no_attention_but(1 << A1);
    /* With TAS zero it hears that it lost commands, and that it lost its registration. */
    (void)ready(A1);
    assert_int_equal(sense(), REGISTRATIONS_PREEMPTED);
    assert_int_equal(attention(A1), COMMANDS_CLEARED);
    later = under_way(A1);
    assert_int_equal(scsi_task_fate(&later), SCSI_GO_ON);
}

static void preempt_without_abort_ends_no_task(void **state)
{
    struct scsi_task a1;

    enroll(A1);
    enroll(B1);
    a1 = under_way(A1);
    assert_int_equal(pr_out(B1, PREEMPT, 0, key_of(B1), key_of(A1), 0), SCSI_GOOD);
    assert_int_equal(scsi_task_fate(&a1), SCSI_GO_ON);
    assert_int_equal(attention(A1), REGISTRATIONS_PREEMPTED);
}

static void who_lost_no_command_does_not_hear_that_it_did(void **state)
{
    enroll(A1);
    enroll(B1);
    assert_int_equal(pr_out(B1, PREEMPT_AND_ABORT, 0, key_of(B1), key_of(A1), 0), SCSI_GOOD);
    assert_int_equal(attention(A1), REGISTRATIONS_PREEMPTED);
}

/* PREEMPT AND ABORT of A1's own key, up to its request. The buffer is the caller's to free. */
static struct scsi_task preempting_itself(void)
{
    struct scsi_task self = {0};

    self.nexus = shared.nexus[A1];
    memcpy(self.cdb, (const uint8_t[10]){0x5F, PREEMPT_AND_ABORT, WE, [8] = 24}, 10);
    self.cdb_bytes = 10;
    self.attribute = SCSI_SIMPLE;
    self.expected_out_bytes = 24;
    assert_int_equal(scsi_task_begin(shared.side[A], &self), SCSI_BUFFER);
    self.buffer = calloc(1, self.buffer_bytes);
    put_u64(self.buffer, key_of(A1));
    put_u64(self.buffer + 8, key_of(A1));
    assert_int_equal(scsi_task_run(&self), SCSI_IO);
    assert_int_equal(self.request.flags, HOST_BARRIER);
    return self;
}

/* The command that removes its own registration is not ended by what it does; its neighbours are.
 */
static void a_command_does_not_end_itself(void **state)
{
    struct scsi_task self;
    struct scsi_task other;

    enroll(A1);
    other = under_way(A1);
    self = preempting_itself();
    assert_int_equal(carry_out(&self.request), HOST_OK);
    assert_int_equal(scsi_task_fate(&self), SCSI_GO_ON);
    assert_int_equal(scsi_task_io_done(&self, HOST_OK, 0), SCSI_DONE);
    assert_int_equal(self.status, SCSI_GOOD);
    assert_int_equal(scsi_task_fate(&other), SCSI_END_SILENT);
    assert_int_equal(keys(B4, 0), 0);
    no_attention_but(0);
    free(self.buffer);
}

static void but_a_reset_by_another_ends_it(void **state)
{
    struct scsi_task self;

    enroll(A1);
    self = preempting_itself();
    assert_int_equal(manage(B4, SCSI_LOGICAL_UNIT_RESET, 0), SCSI_FUNCTION_COMPLETE);
    assert_int_equal(scsi_task_fate(&self), SCSI_END_SILENT);
    free(self.buffer);
}

/* ---- REGISTER AND MOVE ---- */

static uint32_t move_list(uint8_t *list, enum host from, uint64_t key, uint16_t port, uint8_t flags,
                          const char *name)
{
    uint32_t size;

    memset(list, 0, 24);
    put_u64(list, key_of(from));
    put_u64(list + 8, key);
    list[17] = flags;
    put_u16(list + 18, port);
    size = put_transport_id(list + 24, name);
    put_u32(list + 20, size);
    return 24 + size;
}

static void a_reservation_moves_to_another_nexus(void **state)
{
    for (uint32_t i = 0; i < 8; i++) {
        uint8_t type = TYPES[i / 2];
        bool unregister = i % 2;
        uint8_t list[512];
        uint32_t size;
        uint32_t before;
        enroll(A1);
        enroll(A2);
        reserve(A1, type);
        before = generation(A3);
        size = move_list(list, A1, 0x99, SCSI_PORT_B, unregister ? 3 : 0, host_port_name(B4));
        assert_int_equal(pr_out_list(A1, MOVE, 0, list, size), SCSI_GOOD);
        reserved_as(type, 0x99);
        assert_int_equal(generation(A3), before + 1);
        assert_int_equal(keys(A3, key_of(A1)), unregister ? 0 : 1);
        assert_int_equal(pr_in(A3, 2, 64), SCSI_GOOD);
        assert_int_equal(shared.buffer[3] & 1, unregister); /* APTPL */
        no_attention_but(0);
        /* The new holder holds it. */
        assert_int_equal(pr_out(B4, RELEASE, type, 0x99, 0, 0), SCSI_GOOD);
        reserved_as(0, 0);
        assert_int_equal(pr_out(B4, CLEAR, 0, 0x99, 0, 0), SCSI_GOOD);
        clear_attentions();
    }
}

static void a_move_to_one_that_is_registered_changes_its_key(void **state)
{
    uint8_t list[512];
    uint32_t size;

    enroll(B4);
    enroll(A1);
    reserve(A1, EA);
    size = move_list(list, A1, 0x99, SCSI_PORT_B, 0, host_port_name(B4));
    assert_int_equal(pr_out_list(A1, MOVE, 0, list, size), SCSI_GOOD);
    assert_int_equal(keys(A3, 0), 2);
    assert_int_equal(keys(A3, 0x99), 1);
    reserved_as(EA, 0x99);
    assert_int_equal(write_block(B4), SCSI_GOOD);
    assert_int_equal(write_block(A1), SCSI_RESERVATION_CONFLICT);
}

/* Table 62 and the list. */
static void a_move_that_may_not_be_changes_nothing(void **state)
{
    uint8_t good[512];
    uint8_t list[512];
    uint32_t size = move_list(good, A1, 0x99, SCSI_PORT_B, 0, host_port_name(B4));
    uint32_t changes;

    assert_int_equal(pr_out_list(A1, MOVE, 0, good, size), SCSI_RESERVATION_CONFLICT);
    enroll(A1);
    enroll(A2);
    (void)pr_out_list(A1, MOVE, 0, good, size); /* nothing is reserved */
    assert_int_equal(sense(), INVALID_IN_CDB);
    assert_int_equal(field_pointer(), 1 << 4 | 8 | 4);
    reserve(A2, EA);
    assert_int_equal(pr_out_list(A1, MOVE, 0, good, size), SCSI_RESERVATION_CONFLICT);
    assert_int_equal(pr_out(A2, RELEASE, EA, key_of(A2), 0, 0), SCSI_GOOD);
    reserve(A1, EAAR);
    assert_int_equal(pr_out_list(A1, MOVE, 0, good, size), SCSI_RESERVATION_CONFLICT);
    assert_int_equal(pr_out(A1, RELEASE, EAAR, key_of(A1), 0, 0), SCSI_GOOD);
    clear_attentions();
    reserve(A1, EA);
    changes = shared.changes;
#define WITH(at, value, expected, pointer)                                                         \
    do {                                                                                           \
        memcpy(list, good, sizeof list);                                                           \
        list[at] = value;                                                                          \
        (void)pr_out_list(A1, MOVE, 0, list, size);                                                \
        assert_int_equal(sense(), expected);                                                       \
        assert_int_equal(field_pointer(), pointer);                                                \
        nothing_changes(changes);                                                                  \
    } while (0)
    WITH(15, 0, INVALID_IN_LIST, 8 << 4);  /* key zero */
    WITH(19, 0, INVALID_IN_LIST, 18 << 4); /* target ports that do not exist */
    WITH(19, 3, INVALID_IN_LIST, 18 << 4);
    WITH(18, 1, INVALID_IN_LIST, 18 << 4);
    WITH(23, 1, LIST_LENGTH, -1);
    WITH(20, 1, LIST_LENGTH, -1);
    WITH(24, 0x05, INVALID_IN_LIST, 24 << 4 | 8 | 7);
    WITH(24, 0x40, INVALID_IN_LIST, 24 << 4 | 8 | 3);
#undef WITH
    memcpy(list, good, sizeof list);
    memset(list + size, 0, 4); /* there is more behind it */
    put_u32(list + 20, size - 24 + 4);
    (void)pr_out_list(A1, MOVE, 0, list, size + 4);
    assert_int_equal(sense(), LIST_LENGTH);
    nothing_changes(changes);
    (void)pr_out_list(A1, MOVE, 0, good, 20);
    assert_int_equal(sense(), LIST_LENGTH);
    memcpy(list, good, sizeof list);
    list[7] ^= 1; /* not its key */
    assert_int_equal(pr_out_list(A1, MOVE, 0, list, size), SCSI_RESERVATION_CONFLICT);
    size = move_list(list, A1, 0x99, SCSI_PORT_A, 0, host_port_name(A1)); /* itself */
    (void)pr_out_list(A1, MOVE, 0, list, size);
    assert_int_equal(sense(), INVALID_IN_LIST);
    assert_int_equal(field_pointer(), 24 << 4);
    nothing_changes(changes);
    reserved_as(EA, key_of(A1));
    /* The same initiator port at the other controller is another nexus. */
    size = move_list(list, A1, 0x99, SCSI_PORT_B, 0, host_port_name(B1));
    assert_int_equal(pr_out_list(A1, MOVE, 0, list, size), SCSI_GOOD);
    reserved_as(EA, 0x99);
}

/* ---- PERSISTENT RESERVE IN ---- */

static void capabilities_are_what_is_there(void **state)
{
    static const uint8_t expected[8] = {0, 8, 0x1D, 0x90, 0xEA, 0x01, 0, 0};

    assert_int_equal(pr_in(A1, 2, 255), SCSI_GOOD);
    assert_int_equal(task.in_bytes, 8);
    assert_memory_equal(shared.buffer, expected, 8);
}

static void an_answer_is_cut_at_the_allocation_length(void **state)
{
    enroll(A1);
    enroll(B1);
    reserve(A1, EA);
    for (uint8_t action = 0; action < 4; action++) {
        uint8_t whole[1024];
        uint32_t size;
        assert_int_equal(pr_in(A1, action, 1024), SCSI_GOOD);
        size = task.in_bytes;
        memcpy(whole, shared.buffer, size);
        for (uint16_t length = 0; length <= size; length++) {
            assert_int_equal(pr_in(B4, action, length), SCSI_GOOD);
            assert_int_equal(task.in_bytes, length);
            assert_memory_equal(shared.buffer, whole, length);
        }
    }
}

static void full_status_names_every_nexus(void **state)
{
    static const enum host enrolled[] = {A1, B1, B4};

    for (int i = 0; i < 3; i++)
        enroll(enrolled[i]);
    for (uint32_t t = 0; t < ARRAY_LENGTH(TYPES); t++) {
        uint8_t type = TYPES[t];
        const uint8_t *at = shared.buffer + 8;
        reserve(B1, type);
        assert_int_equal(pr_in(A3, 3, 4096), SCSI_GOOD);
        assert_int_equal(get_u32(shared.buffer + 4), task.in_bytes - 8);
        for (int i = 0; i < 3; i++) {
            bool holder = type >= WEAR || enrolled[i] == B1;
            const char *name = host_port_name(enrolled[i]);
            uint32_t additional = get_u32(at + 20);
            assert_true(get_u64(at) == key_of(enrolled[i]));
            assert_int_equal(at[12], holder ? 1 : 0);
            assert_int_equal(at[13], holder ? type : 0);
            assert_int_equal(get_u16(at + 18), host_port(enrolled[i]));
            assert_int_equal(additional, 4 + 44);
            assert_int_equal(at[24], 0x45);
            assert_int_equal(get_u16(at + 26), 44);
            assert_string_equal((const char *)at + 28, name);
            for (uint32_t j = (uint32_t)strlen(name); j < 44; j++)
                assert_int_equal(at[28 + j], 0);
            at += 24 + additional;
        }
        assert_ptr_equal(at, shared.buffer + task.in_bytes);
        assert_int_equal(pr_out(B1, RELEASE, type, key_of(B1), 0, 0), SCSI_GOOD);
        clear_attentions();
    }
}

/* ---- two at a time, and one gone ---- */

static void preempted_by_b1(void)
{
    assert_int_equal(pr_out(B1, PREEMPT, EA, key_of(B1), key_of(A1), 0), SCSI_GOOD);
}

static void what_was_overtaken_is_judged_anew(void **state)
{
    enroll(A1);
    enroll(B1);
    /* A1 was registered when its RESERVE was judged, and is not any more when it comes to count. */
    shared.before_change = preempted_by_b1;
    assert_int_equal(pr_out(A1, RESERVE, EA, key_of(A1), 0, 0), SCSI_RESERVATION_CONFLICT);
    assert_null(shared.before_change);
    reserved_as(0, 0);
    assert_int_equal(keys(A3, 0), 1);
    assert_int_equal(attention(A1), REGISTRATIONS_PREEMPTED);
}

static void registered_by_b4(void)
{
    enroll(B4);
}

static void what_was_overtaken_and_still_may_be_happens_once(void **state)
{
    shared.before_change = registered_by_b4;
    enroll(A1);
    assert_int_equal(keys(A3, 0), 2);
    assert_int_equal(generation(A3), 2);
}

static void keep_overtaking(void)
{
    shared.version[VOLUME]++;
    tell_both(VOLUME);
    shared.before_change = keep_overtaking;
}

static void one_that_is_always_overtaken_ends_busy(void **state)
{
    shared.before_change = keep_overtaking;
    assert_int_equal(pr_out(A1, REGISTER, 0, 0, 5, 0), SCSI_STATUS_BUSY);
    assert_int_equal(shared.ios, SCSI_STALE_RETRIES + 1);
    shared.before_change = NULL;
    assert_int_equal(keys(A3, 0), 0);
}

static void a_change_that_the_core_refuses_is_an_error(void **state)
{
    shared.state_result = HOST_NOT_OWNER;
    (void)pr_out(A1, REGISTER, 0, 0, 5, 0);
    assert_int_equal(sense(), 0x2040C);
    shared.state_result = HOST_BUSY;
    assert_int_equal(pr_out(A1, REGISTER, 0, 0, 5, 0), SCSI_TASK_SET_FULL);
}

static void a_reservation_outlives_its_controller(void **state)
{
    for (uint32_t i = 0; i < ARRAY_LENGTH(TYPES); i++) {
        uint8_t type = TYPES[i];
        enroll(A1);
        enroll(B1);
        reserve(A1, type);
        shared_stop(A);
        shared_serve(B, 2);
        clear_attentions();
        reserved_as(type, type >= WEAR ? 0 : key_of(A1));
        assert_int_equal(keys(B4, 0), 2);
        assert_int_equal(write_block(B4), SCSI_RESERVATION_CONFLICT);
        assert_int_equal(write_block(B1), type >= WERO ? SCSI_GOOD : SCSI_RESERVATION_CONFLICT);
        /* The controller comes back, and so does the host. */
        shared_start(A);
        shared_serve(B, 3);
        host_login(A1);
        host_login(A2);
        host_login(A3);
        clear_attentions();
        reserved_as(type, type >= WEAR ? 0 : key_of(A1));
        assert_int_equal(write_block(A1), SCSI_GOOD);
        assert_int_equal(write_block(A2), SCSI_RESERVATION_CONFLICT);
        /* Preempted while its controller was there again. */
        assert_int_equal(pr_out(B1, PREEMPT, WE, key_of(B1), type >= WEAR ? 0 : key_of(A1), 0),
                         SCSI_GOOD);
        assert_int_equal(attention(A1), REGISTRATIONS_PREEMPTED);
        assert_int_equal(pr_out(B1, CLEAR, 0, key_of(B1), 0, 0), SCSI_GOOD);
        clear_attentions();
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, shared_setup, shared_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_registration_is_seen_through_both_controllers),
        TEST(register_follows_the_table),
        TEST(a_registration_belongs_to_one_path_and_one_unit),
        TEST(all_target_ports_at_once),
        TEST(initiator_ports_that_a_list_names_are_registered_with_it),
        TEST(a_wrong_list_of_initiator_ports_changes_nothing),
        TEST(a_list_has_the_length_that_its_action_needs),
        TEST(a_full_table_refuses_one_more),
        TEST(a_table_full_of_long_names_refuses_one_more),
        TEST(aptpl_is_the_last_registrations),
        TEST(every_type_is_reserved_and_released_from_either_side),
        TEST(scope_and_type_of_a_reservation_are_checked),
        TEST(who_is_not_registered_can_only_register),
        TEST(a_holder_that_unregisters_releases),
        TEST(the_holder_stays_when_others_go),
        TEST(clear_ends_everything_and_tells_the_others),
        TEST(preempting_a_key_without_reservation_removes_it),
        TEST(preempting_the_holder_takes_the_reservation),
        TEST(scope_and_type_count_only_when_the_reservation_is_taken),
        TEST(preempting_somebody_else_leaves_the_reservation),
        TEST(preempting_all_registrants),
        TEST(a_holder_preempts_itself_to_change_the_type),
        TEST(preempting_ones_own_key_that_holds_nothing_removes_it),
        TEST(preempt_and_abort_ends_the_tasks_of_those_preempted),
        TEST(preempt_without_abort_ends_no_task),
        TEST(who_lost_no_command_does_not_hear_that_it_did),
        TEST(a_command_does_not_end_itself),
        TEST(but_a_reset_by_another_ends_it),
        TEST(a_reservation_moves_to_another_nexus),
        TEST(a_move_to_one_that_is_registered_changes_its_key),
        TEST(a_move_that_may_not_be_changes_nothing),
        TEST(capabilities_are_what_is_there),
        TEST(an_answer_is_cut_at_the_allocation_length),
        TEST(full_status_names_every_nexus),
        TEST(what_was_overtaken_is_judged_anew),
        TEST(what_was_overtaken_and_still_may_be_happens_once),
        TEST(one_that_is_always_overtaken_ends_busy),
        TEST(a_change_that_the_core_refuses_is_an_error),
        TEST(a_reservation_outlives_its_controller),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
