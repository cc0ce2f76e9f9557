/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The state record as bytes: what goes in comes out, and nothing else is taken for a record. */

#include "../check_trap.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "scsi/record.h"

#include <stdio.h>
#include <stdlib.h>

static struct record record, back;
static uint8_t bytes[VOLUME_STATE_BYTES];

enum { AT_OTHERS = 44, AT_NAMES = 104 };

static void name_nexus(struct record_nexus *nexus, uint16_t port, const char *name)
{
    memset(nexus, 0, sizeof *nexus);
    nexus->port = port;
    assert_true(record_port_name(nexus->initiator, name, SCSI_PORT_NAME_SIZE));
}

static void add(uint16_t port, const char *name, uint64_t key)
{
    struct record_registrant *registrant = &record.registrants[record.registrant_count++];

    name_nexus(&registrant->nexus, port, name);
    registrant->key = key;
}

/* A record in which every field says something. */
static int full_record(void **state)
{
    record_clear(&record);
    add(1, "iqn.2026-11.example:one,i,0x00023d000001", 0x1111);
    add(2, "iqn.2026-11.example:one,i,0x00023d000001", 0x2222);
    add(1, "iqn.2026-11.example:one,i,0x00023d000002", 0x3333);
    add(2, "eui.02004567a425678d,i,0xffffffffffff", UINT64_MAX);
    record.generation = 0x01020304;
    record.aptpl = true;
    record.type = RESERVATION_EXCLUSIVE_ACCESS_REGISTRANTS_ONLY;
    record.holder = 2;
    record.reset_count = 10;
    record.preempt_count = 11;
    record.abort_count = 12;
    record.clear_count = 13;
    record.release_count = 14;
    record.mode.change_count = 15;
    name_nexus(&record.reserved_by, 2, "iqn.2026-11.example:two,i,0x1");
    name_nexus(&record.reset_by, 1, "iqn.2026-11.example:three,i,0x2");
    name_nexus(&record.preempt_by, 2, "iqn.2026-11.example:four,i,0x3");
    name_nexus(&record.clear_by, 1, "iqn.2026-11.example:five,i,0x4");
    name_nexus(&record.release_by, 2, "iqn.2026-11.example:six,i,0x5");
    name_nexus(&record.mode.changed_by, 1, "iqn.2026-11.example:seven,i,0x6");
    record.stopped = true;
    record.mode.write_cache_disabled = true;
    record.mode.descriptor_sense = true;
    return 0;
}

static uint32_t encode(void)
{
    memset(bytes, 0xA5, sizeof bytes);
    return record_encode(&record, bytes);
}

static void comes_back(void)
{
    uint32_t length = encode();

    memset(&back, 0x5A, sizeof back);
    assert_null(record_decode(&back, bytes, length));
    assert_memory_equal(&record, &back, sizeof record);
}

/* Change the bytes and make the checksum right again. */
static const char *decode_with(uint32_t at, uint32_t value, uint32_t size)
{
    uint32_t length = encode();

    if (size == 1)
        bytes[at] = (uint8_t)value;
    else
        put_u16(bytes + at, (uint16_t)value);
    put_u32(bytes + length - 4, crc32c(bytes, length - 4));
    return record_decode(&back, bytes, length);
}

#define REFUSED(word, at, value, size)                                                             \
    do {                                                                                           \
        const char *reason = decode_with(at, value, size);                                         \
        assert_non_null(reason);                                                                   \
        assert_non_null(strstr(reason, word));                                                     \
    } while (0)

static void what_is_encoded_comes_back(void **state)
{
    comes_back();
    record_clear(&record);
    comes_back();
}

static void each_flag_comes_back_alone(void **state)
{
    bool *const flags[] = {&record.aptpl,
                           &record.stopped,
                           &record.mode.write_cache_disabled,
                           &record.mode.read_cache_disabled,
                           &record.mode.software_protected,
                           &record.mode.descriptor_sense,
                           &record.mode.task_aborted_status};

    for (uint32_t i = 0; i < ARRAY_LENGTH(flags); i++) {
        for (uint32_t j = 0; j < ARRAY_LENGTH(flags); j++)
            *flags[j] = i == j;
        comes_back();
    }
}

static void each_reservation_type_comes_back_and_no_other(void **state)
{
    for (uint32_t type = 0; type < 256; type++) {
        bool single = type == 1 || type == 3 || type == 5 || type == 6;
        bool all = type == 7 || type == 8;
        record.type = (uint8_t)type;
        record.holder = single ? 3 : RECORD_NO_HOLDER;
        if (single || all || type == 0)
            comes_back();
        else
            assert_non_null(record_decode(&back, bytes, encode()));
        record.holder = single ? RECORD_NO_HOLDER : 0;
        assert_non_null(record_decode(&back, bytes, encode()));
    }
}

static void a_holder_is_one_of_the_registrants(void **state)
{
    record.holder = 4;
    assert_non_null(record_decode(&back, bytes, encode()));
    record.holder = 3;
    assert_null(record_decode(&back, bytes, encode()));
    record.type = RESERVATION_WRITE_EXCLUSIVE_ALL_REGISTRANTS;
    record.holder = RECORD_NO_HOLDER;
    record.registrant_count = 0;
    assert_non_null(strstr(record_decode(&back, bytes, encode()), "has none"));
}

static void each_damaged_byte_is_refused(void **state)
{
    uint32_t length = encode();

    for (uint32_t i = 0; i < length; i++)
        for (int bit = 0; bit < 8; bit++) {
            bytes[i] ^= (uint8_t)(1 << bit);
            assert_non_null(record_decode(&back, bytes, length));
            bytes[i] ^= (uint8_t)(1 << bit);
        }
    assert_null(record_decode(&back, bytes, length));
}

static void each_wrong_length_is_refused(void **state)
{
    static uint8_t longer[VOLUME_STATE_BYTES + 8];
    uint32_t length = encode();

    for (uint32_t i = 0; i < length; i++) {
        /* A copy of exactly that length, so that a sanitizer sees a read past it. */
        uint8_t *copy = malloc(i + 1);
        memcpy(copy, bytes, i);
        assert_non_null(record_decode(&back, copy, i));
        if (i >= 4) {
            put_u32(copy + i - 4, crc32c(copy, i - 4));
            assert_non_null(record_decode(&back, copy, i));
        }
        free(copy);
    }
    memcpy(longer, bytes, length);
    put_u32(longer + length, crc32c(longer, length));
    assert_non_null(record_decode(&back, longer, length + 4));
    assert_non_null(record_decode(&back, longer, VOLUME_STATE_BYTES + 1));
}

static void each_wrong_field_is_refused_with_its_reason(void **state)
{
    uint32_t length = encode();
    uint32_t registrants = length - 4 - 4 * 18;

    REFUSED("HFSR", 0, 'X', 1);
    REFUSED("version", 4, 2, 1);
    REFUSED("flag", 5, 0x80, 1);
    REFUSED("type", 6, 2, 1);
    REFUSED("reserved byte", 7, 1, 1);
    REFUSED("reserved byte", 42, 1, 1);
    REFUSED("reserved byte", 43, 1, 1);
    REFUSED("holder", 36, 4, 2);
    REFUSED("registrants", 38, 257, 2);
    REFUSED("length", 38, 3, 2);
    REFUSED("length", 38, 5, 2);
    REFUSED("names", 40, 300, 2);
    REFUSED("target port", AT_OTHERS, 3, 2);
    REFUSED("no port", AT_OTHERS, 0, 2);
    REFUSED("not in the record", AT_OTHERS + 2, 8, 2);
    REFUSED("empty", AT_NAMES, 0, 1);
    REFUSED("too long", AT_NAMES, 224, 1);
    REFUSED("pass its end", registrants - 21, 223, 1);
    REFUSED("character", AT_NAMES + 1, ',', 1);
    REFUSED("character", AT_NAMES + 1, ' ', 1);
    REFUSED("character", AT_NAMES + 1, 0, 1);
    REFUSED("character", AT_NAMES + 1, 'I', 1);
    REFUSED("no port", registrants + 8, 0, 2);
    REFUSED("twice", registrants + 8, 2, 2);
}

static void a_registrant_without_key_or_nexus_is_refused(void **state)
{
    uint32_t length;

    record.registrants[1].key = 0;
    length = encode();
    assert_non_null(strstr(record_decode(&back, bytes, length), "key zero"));
    record.registrants[1].key = 1;
    record.registrants[1].nexus.port = 0;
    length = encode();
    assert_non_null(strstr(record_decode(&back, bytes, length), "no nexus"));
}

static void a_name_stands_in_it_once(void **state)
{
    uint32_t with;
    uint32_t without;

    with = encode();
    assert_int_equal(get_u16(bytes + 40), 8);
    record.registrant_count--;
    record.holder = 0;
    without = encode();
    assert_int_equal(with - without, 18 + 1 + 20);
    /* One that stands there twice could hide a nexus that is registered twice. */
    record_clear(&record);
    name_nexus(&record.reset_by, 1, "aa,i,0x1");
    name_nexus(&record.clear_by, 1, "ab,i,0x1");
    with = encode();
    bytes[AT_NAMES + 5] = 'a';
    put_u32(bytes + with - 4, crc32c(bytes, with - 4));
    assert_non_null(strstr(record_decode(&back, bytes, with), "twice"));
}

static void long_name(char *name, int index)
{
    memset(name, 'n', SCSI_PORT_NAME_SIZE);
    snprintf(name, 8, "i%03d", index);
    name[4] = '.';
    snprintf(name + 223, SCSI_PORT_NAME_SIZE - 223, ",i,0x%012x", index);
}

static void all_registrants_fit_with_names_of_usual_length(void **state)
{
    char name[SCSI_PORT_NAME_SIZE];

    record_clear(&record);
    /* 64 hosts on two sessions to each controller. */
    for (int i = 0; i < RECORD_REGISTRANT_LIMIT; i++) {
        snprintf(name, sizeof name,
                 "iqn.1991-05.com.microsoft:node-%02d.cluster.example.com,i,0x%x", i / 4,
                 i / 2 % 2);
        add((uint16_t)(1 + i % 2), name, 1 + (uint64_t)i);
        assert_true(record_has_room(&record));
    }
    comes_back();
}

static void room_ends_before_the_bytes_do_whatever_the_other_names(void **state)
{
    char name[SCSI_PORT_NAME_SIZE];
    uint32_t count = 0;

    record_clear(&record);
    while (record_has_room(&record)) {
        long_name(name, (int)count++);
        add(1, name, 7);
        assert_in_range(record.registrant_count, 0, RECORD_REGISTRANT_LIMIT);
    }
    assert_non_null(strstr(record_decode(&back, bytes, encode()), "no room"));
    record.registrant_count--;
    memset(&record.registrants[record.registrant_count], 0, sizeof record.registrants[0]);
    assert_true(record_has_room(&record));
    assert_in_range(record.registrant_count, 55, 62);
    for (int i = 0; i < 6; i++) {
        struct record_nexus *const others[] = {&record.reserved_by, &record.reset_by,
                                               &record.preempt_by,  &record.clear_by,
                                               &record.release_by,  &record.mode.changed_by};
        long_name(name, 900 + i);
        name_nexus(others[i], 2, name);
    }
    assert_true(encode() <= VOLUME_STATE_BYTES);
    comes_back();
}

static void a_record_without_room_is_our_bug(void **state)
{
    char name[SCSI_PORT_NAME_SIZE];

    record_clear(&record);
    for (int i = 0; i < 80; i++) {
        long_name(name, i);
        add(1, name, 7);
    }
    ASSERT_CHECK_FAILS((void)encode());
}

static void port_names_have_one_spelling(void **state)
{
    static const struct {
        const char *from;
        const char *to; /* NULL: refused */
    } rows[] = {
        {"iqn.2026-11.example:h,i,0x00023d000001", "iqn.2026-11.example:h,i,0x00023d000001"},
        {"IQN.2026-11.Example:H,I,0X00023D00000A", "iqn.2026-11.example:h,i,0x00023d00000a"},
        {"a,i,0x1", "a,i,0x000000000001"},
        {"a,i,0xabcdef012345", "a,i,0xabcdef012345"},
        {"\xc3\xa4.b:c-d,i,0x0", "\xc3\xa4.b:c-d,i,0x000000000000"},
        {"", NULL},
        {"a", NULL},
        {"a,", NULL},
        {"a,i", NULL},
        {"a,i,0x", NULL},
        {"a,i,0x0000000000001", NULL}, /* 13 digits */
        {"a,i,0xg", NULL},
        {"a,i,1x1", NULL},
        {"a,i,001", NULL},
        {"a,t,0x1", NULL},
        {"a;i,0x1", NULL},
        {"a,i;0x1", NULL},
        {",i,0x1", NULL},
        {"a b,i,0x1", NULL},
        {"a\x7f"
         "b,i,0x1",
         NULL},
        {"a\nb,i,0x1", NULL},
        {"a,b,i,0x1", NULL},
        {"a,i,0x1 ", NULL},
    };
    char name[SCSI_PORT_NAME_SIZE];

    for (uint32_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        bool good = record_port_name(name, rows[i].from, SCSI_PORT_NAME_SIZE);
        if (good != (rows[i].to != NULL))
            print_error("row %u: %s\n", i, rows[i].from);
        assert_int_equal(good, rows[i].to != NULL);
        if (good)
            assert_string_equal(name, rows[i].to);
    }
}

static void a_port_name_is_at_most_223_bytes_and_an_isid(void **state)
{
    char name[SCSI_PORT_NAME_SIZE + 1];
    char to[SCSI_PORT_NAME_SIZE];

    long_name(name, 3);
    assert_int_equal(strlen(name), SCSI_PORT_NAME_SIZE - 1);
    assert_true(record_port_name(to, name, SCSI_PORT_NAME_SIZE));
    assert_string_equal(name, to);
    memset(name, 'n', 224);
    strcpy(name + 224, ",i,0x1");
    assert_false(record_port_name(to, name, sizeof name));
    /* No NUL: it ends where the bytes end. */
    memcpy(name, "a,i,0x12", 8);
    assert_true(record_port_name(to, name, 7));
    assert_string_equal(to, "a,i,0x000000000001");
}

static void only_aptpl_registrations_outlive_a_power_loss(void **state)
{
    struct record *kept = &back;

    *kept = record;
    record_power_on(kept);
    assert_int_equal(kept->generation, 0);
    assert_true(kept->aptpl);
    assert_int_equal(kept->registrant_count, 4);
    assert_memory_equal(kept->registrants, record.registrants, sizeof record.registrants);
    assert_int_equal(kept->type, record.type);
    assert_int_equal(kept->holder, record.holder);
    assert_int_equal(kept->reserved_by.port, 0);
    assert_false(kept->stopped);
    assert_false(kept->mode.write_cache_disabled);
    assert_false(kept->mode.descriptor_sense);
    *kept = record;
    kept->aptpl = false;
    record_power_on(kept);
    record_clear(&record);
    assert_memory_equal(kept, &record, sizeof record);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_is_encoded_comes_back, full_record),
        cmocka_unit_test_setup(each_flag_comes_back_alone, full_record),
        cmocka_unit_test_setup(each_reservation_type_comes_back_and_no_other, full_record),
        cmocka_unit_test_setup(a_holder_is_one_of_the_registrants, full_record),
        cmocka_unit_test_setup(each_damaged_byte_is_refused, full_record),
        cmocka_unit_test_setup(each_wrong_length_is_refused, full_record),
        cmocka_unit_test_setup(each_wrong_field_is_refused_with_its_reason, full_record),
        cmocka_unit_test_setup(a_registrant_without_key_or_nexus_is_refused, full_record),
        cmocka_unit_test_setup(a_name_stands_in_it_once, full_record),
        cmocka_unit_test(all_registrants_fit_with_names_of_usual_length),
        cmocka_unit_test(room_ends_before_the_bytes_do_whatever_the_other_names),
        cmocka_unit_test(a_record_without_room_is_our_bug),
        cmocka_unit_test(port_names_have_one_spelling),
        cmocka_unit_test(a_port_name_is_at_most_223_bytes_and_an_isid),
        cmocka_unit_test_setup(only_aptpl_registrations_outlive_a_power_loss, full_record),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
