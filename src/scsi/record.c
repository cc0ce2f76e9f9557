/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The state record as bytes and back. It only converts; what may change in a record is decided by
 * reservations.c, manage.c and mode.c, and what a change means to a host by attention.c. Bytes that
 * are not wholly a record of this version are refused, however they came; what was encoded decodes
 * to the same record. */

#include "scsi/record.h"

#include "base/bytes.h"
#include "base/crc32c.h"

/* Byte by byte, big-endian:
 *   0  4  magic "HFSR"
 *   4  1  version 1
 *   5  1  flags: FLAG_*; the rest zero
 *   6  1  reservation type
 *   7  1  zero
 *   8  4  PRGENERATION
 *  12 24  counters: reset, preempt, abort, clear, release, mode change
 *  36  2  holder, FFFFh when there is no single one
 *  38  2  registrants
 *  40  2  names
 *  42  2  zero
 *  44 60  nexuses: SPC-2 holder, then who reset, preempted, cleared, released, changed the mode
 * 104  .  names: one byte length, then an iSCSI name; each stands there once
 *   .  .  registrants: key 8, nexus 10
 *   .  4  CRC-32C of all before
 * A nexus is relative target port 2, number of the name 2, ISID 6; all zero: none. */
enum {
    VERSION = 1,
    AT_VERSION = 4,
    AT_FLAGS = 5,
    AT_TYPE = 6,
    AT_GENERATION = 8,
    AT_COUNTERS = 12,
    AT_HOLDER = 36,
    AT_REGISTRANT_COUNT = 38,
    AT_NAME_COUNT = 40,
    AT_OTHERS = 44,
    AT_NAMES = 104,

    FLAG_APTPL = 1 << 0,
    FLAG_STOPPED = 1 << 1,
    FLAG_WRITE_CACHE_DISABLED = 1 << 2,
    FLAG_READ_CACHE_DISABLED = 1 << 3,
    FLAG_SOFTWARE_PROTECTED = 1 << 4,
    FLAG_DESCRIPTOR_SENSE = 1 << 5,
    FLAG_TASK_ABORTED_STATUS = 1 << 6,
    FLAGS_KNOWN = (1 << 7) - 1,

    NEXUS_BYTES = 10,
    REGISTRANT_BYTES = 8 + NEXUS_BYTES,
    CHECKSUM_BYTES = 4,
    OTHER_LIMIT = 6,  /* nexuses that need not be registered */
    SUFFIX_SIZE = 17, /* ",i,0x" and 12 digits */
    ISID_BYTES = 6,
    NAME_LIMIT = SCSI_TARGET_NAME_SIZE - 1, /* any iSCSI name: 223 bytes */
    NAMES_LIMIT = RECORD_REGISTRANT_LIMIT + OTHER_LIMIT,
};
static const uint8_t magic[4] = {'H', 'F', 'S', 'R'};

_Static_assert(AT_OTHERS + OTHER_LIMIT * NEXUS_BYTES == AT_NAMES, "the layout above adds up");
_Static_assert(SCSI_PORT_NAME_SIZE == NAME_LIMIT + SUFFIX_SIZE + 1, "any name and ISID fit");
_Static_assert(AT_NAMES + RECORD_REGISTRANT_LIMIT * REGISTRANT_BYTES + CHECKSUM_BYTES +
                       OTHER_LIMIT * (1 + NAME_LIMIT) <
                   VOLUME_STATE_BYTES / 2,
               "at least half of a record is left for the names of registrants");

void record_clear(struct record *record)
{
    memset(record, 0, sizeof *record);
    record->holder = RECORD_NO_HOLDER;
}

void record_power_on(struct record *record)
{
    bool aptpl = record->aptpl;

    if (!aptpl) {
        record_clear(record);
        return;
    }
    record->generation = 0;
    record->reserved_by.port = 0;
    record->stopped = false;
    memset(&record->mode, 0, sizeof record->mode);
}

/* ---- names ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* RFC 7143 4.2.7.2 has fewer characters than these in a name; what matters here is that a name
 * cannot end early, hide in a log line, or be taken for a name with an ISID. */
static bool name_byte(uint8_t byte)
{
    return byte > ' ' && byte != 0x7F && byte != ',';
}

static void append_isid(char *to, uint64_t isid)
{
    static const char digits[] = "0123456789abcdef";

    memcpy(to, ",i,0x", 5);
    for (int i = 0; i < 2 * ISID_BYTES; i++)
        to[5 + i] = digits[isid >> (4 * (2 * ISID_BYTES - 1 - i)) & 15];
    to[SUFFIX_SIZE] = 0;
}

bool record_port_name(char to[SCSI_PORT_NAME_SIZE], const char *from, uint32_t length)
{
    uint32_t size = (uint32_t)strnlen(from, length);
    uint32_t name_size = 0;
    uint64_t isid = 0;

    while (name_size < size && from[name_size] != ',')
        name_size++;
    if (name_size == 0 || name_size > NAME_LIMIT)
        return false;
    for (uint32_t i = 0; i < name_size; i++) {
        char c = from[i];
        if (!name_byte((uint8_t)c))
            return false;
        to[i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    from += name_size;
    size -= name_size;
    if (size < 6 || size > SUFFIX_SIZE || from[0] != ',' || (from[1] | 0x20) != 'i' ||
        from[2] != ',' || from[3] != '0' || (from[4] | 0x20) != 'x')
        return false;
    for (uint32_t i = 5; i < size; i++) {
        int digit = hex_digit(from[i]);
        if (digit < 0)
            return false;
        isid = isid << 4 | (uint64_t)digit;
    }
    append_isid(to + name_size, isid);
    return true;
}

/* Bytes of the iSCSI name that an initiator port name begins with. */
static uint32_t device_name_bytes(const struct record_nexus *nexus)
{
    size_t size = strnlen(nexus->initiator, SCSI_PORT_NAME_SIZE);

    CHECK(size > SUFFIX_SIZE);
    CHECK(size < SCSI_PORT_NAME_SIZE);
    return (uint32_t)size - SUFFIX_SIZE;
}

static uint64_t isid_of(const struct record_nexus *nexus)
{
    const char *digits = nexus->initiator + device_name_bytes(nexus) + 5;
    uint64_t isid = 0;

    for (int i = 0; i < 2 * ISID_BYTES; i++)
        isid = isid << 4 | (uint64_t)hex_digit(digits[i]);
    return isid;
}

/* ---- encode ---- */

/* The iSCSI names of a record, each once. */
struct names {
    uint32_t count;
    uint32_t bytes; /* encoded */
    const char *name[NAMES_LIMIT];
    uint8_t name_bytes[NAMES_LIMIT];
};

static uint16_t name_number(struct names *names, const struct record_nexus *nexus)
{
    uint32_t size = device_name_bytes(nexus);

    for (uint32_t i = 0; i < names->count; i++)
        if (names->name_bytes[i] == size && memcmp(names->name[i], nexus->initiator, size) == 0)
            return (uint16_t)i;
    CHECK(names->count < NAMES_LIMIT);
    names->name[names->count] = nexus->initiator;
    names->name_bytes[names->count] = (uint8_t)size;
    names->bytes += 1 + size;
    return (uint16_t)names->count++;
}

static void put_nexus(uint8_t *to, struct names *names, const struct record_nexus *nexus)
{
    uint64_t isid;

    memset(to, 0, NEXUS_BYTES);
    if (nexus->port == 0)
        return;
    isid = isid_of(nexus);
    put_u16(to, nexus->port);
    put_u16(to + 2, name_number(names, nexus));
    put_u16(to + 4, (uint16_t)(isid >> 32));
    put_u32(to + 6, (uint32_t)isid);
}

static const struct record_nexus *other_nexus(const struct record *record, int index)
{
    const struct record_nexus *const others[OTHER_LIMIT] = {
        &record->reserved_by, &record->reset_by,   &record->preempt_by,
        &record->clear_by,    &record->release_by, &record->mode.changed_by,
    };

    return others[index];
}

static uint8_t flags_of(const struct record *record)
{
    return (uint8_t)((record->aptpl ? FLAG_APTPL : 0) | (record->stopped ? FLAG_STOPPED : 0) |
                     (record->mode.write_cache_disabled ? FLAG_WRITE_CACHE_DISABLED : 0) |
                     (record->mode.read_cache_disabled ? FLAG_READ_CACHE_DISABLED : 0) |
                     (record->mode.software_protected ? FLAG_SOFTWARE_PROTECTED : 0) |
                     (record->mode.descriptor_sense ? FLAG_DESCRIPTOR_SENSE : 0) |
                     (record->mode.task_aborted_status ? FLAG_TASK_ABORTED_STATUS : 0));
}

uint32_t record_encode(const struct record *record, uint8_t *bytes)
{
    struct names names = {0};
    const uint32_t counters[] = {record->reset_count,   record->preempt_count,
                                 record->abort_count,   record->clear_count,
                                 record->release_count, record->mode.change_count};
    uint8_t registrants[RECORD_REGISTRANT_LIMIT * REGISTRANT_BYTES];
    uint32_t at = AT_NAMES;

    CHECK(record->registrant_count <= RECORD_REGISTRANT_LIMIT);
    memset(bytes, 0, AT_NAMES);
    memcpy(bytes, magic, sizeof magic);
    bytes[AT_VERSION] = VERSION;
    bytes[AT_FLAGS] = flags_of(record);
    bytes[AT_TYPE] = record->type;
    put_u32(bytes + AT_GENERATION, record->generation);
    for (uint32_t i = 0; i < ARRAY_LENGTH(counters); i++)
        put_u32(bytes + AT_COUNTERS + 4 * i, counters[i]);
    put_u16(bytes + AT_HOLDER, record->holder);
    put_u16(bytes + AT_REGISTRANT_COUNT, record->registrant_count);
    for (int i = 0; i < OTHER_LIMIT; i++)
        put_nexus(bytes + AT_OTHERS + i * NEXUS_BYTES, &names, other_nexus(record, i));
    for (uint32_t i = 0; i < record->registrant_count; i++) {
        put_u64(registrants + i * REGISTRANT_BYTES, record->registrants[i].key);
        put_nexus(registrants + i * REGISTRANT_BYTES + 8, &names, &record->registrants[i].nexus);
    }
    put_u16(bytes + AT_NAME_COUNT, (uint16_t)names.count);
    CHECK(AT_NAMES + names.bytes + record->registrant_count * REGISTRANT_BYTES + CHECKSUM_BYTES <=
          VOLUME_STATE_BYTES);
    for (uint32_t i = 0; i < names.count; i++) {
        bytes[at++] = names.name_bytes[i];
        memcpy(bytes + at, names.name[i], names.name_bytes[i]);
        at += names.name_bytes[i];
    }
    memcpy(bytes + at, registrants, (size_t)record->registrant_count * REGISTRANT_BYTES);
    at += record->registrant_count * (uint32_t)REGISTRANT_BYTES;
    put_u32(bytes + at, crc32c(bytes, at));
    return at + CHECKSUM_BYTES;
}

bool record_has_room(const struct record *record)
{
    struct names names = {0};

    for (uint32_t i = 0; i < record->registrant_count; i++)
        (void)name_number(&names, &record->registrants[i].nexus);
    return AT_NAMES + names.bytes + OTHER_LIMIT * (1 + NAME_LIMIT) +
               record->registrant_count * REGISTRANT_BYTES + CHECKSUM_BYTES <=
           VOLUME_STATE_BYTES;
}

/* ---- decode ---- */

static const char *wrong_with_head(const uint8_t *bytes, uint32_t length)
{
    if (length < AT_NAMES + CHECKSUM_BYTES)
        return "it is shorter than any record";
    if (length > VOLUME_STATE_BYTES)
        return "it is longer than any record";
    if (memcmp(bytes, magic, sizeof magic) != 0)
        return "it does not begin with HFSR";
    if (get_u32(bytes + length - CHECKSUM_BYTES) != crc32c(bytes, length - CHECKSUM_BYTES))
        return "its checksum does not match";
    if (bytes[AT_VERSION] != VERSION)
        return "it was written by a version of Holdfast that this one does not know";
    if (bytes[AT_FLAGS] & ~FLAGS_KNOWN)
        return "it has an unknown flag";
    if (bytes[7] != 0 || bytes[42] != 0 || bytes[43] != 0)
        return "a reserved byte is not zero";
    if (get_u16(bytes + AT_REGISTRANT_COUNT) > RECORD_REGISTRANT_LIMIT)
        return "it has more registrants than there can be";
    if (get_u16(bytes + AT_NAME_COUNT) > NAMES_LIMIT)
        return "it has more names than there can be";
    return NULL;
}

/* Where each name stands. *at: behind the last one. */
static const char *read_names(struct names *names, const uint8_t *bytes, uint32_t end, uint32_t *at)
{
    uint32_t count = get_u16(bytes + AT_NAME_COUNT);

    *at = AT_NAMES;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t size;
        if (*at >= end)
            return "its names pass its end";
        size = bytes[(*at)++];
        if (size == 0 || size > NAME_LIMIT)
            return "a name is empty or too long";
        if (size > end - *at)
            return "its names pass its end";
        for (uint32_t j = 0; j < size; j++) {
            uint8_t byte = bytes[*at + j];
            if (!name_byte(byte) || (byte >= 'A' && byte <= 'Z'))
                return "a name has a character that no iSCSI name has";
        }
        for (uint32_t j = 0; j < i; j++)
            if (names->name_bytes[j] == size && memcmp(names->name[j], bytes + *at, size) == 0)
                return "a name stands in it twice";
        names->name[i] = (const char *)bytes + *at;
        names->name_bytes[i] = (uint8_t)size;
        *at += size;
    }
    names->count = count;
    return NULL;
}

static const char *read_nexus(struct record_nexus *nexus, const struct names *names,
                              const uint8_t *from)
{
    static const uint8_t none[NEXUS_BYTES];
    uint32_t number = get_u16(from + 2);
    uint64_t isid = (uint64_t)get_u16(from + 4) << 32 | get_u32(from + 6);

    memset(nexus, 0, sizeof *nexus);
    nexus->port = get_u16(from);
    if (nexus->port == 0)
        return memcmp(from, none, NEXUS_BYTES) == 0 ? NULL : "a nexus has a name but no port";
    if (nexus->port > SCSI_PORT_B)
        return "a nexus has a target port that does not exist";
    if (number >= names->count)
        return "a nexus has a name that is not in the record";
    memcpy(nexus->initiator, names->name[number], names->name_bytes[number]);
    append_isid(nexus->initiator + names->name_bytes[number], isid);
    return NULL;
}

static const char *read_registrants(struct record *record, const struct names *names,
                                    const uint8_t *from)
{
    for (uint32_t i = 0; i < record->registrant_count; i++) {
        const uint8_t *at = from + i * REGISTRANT_BYTES;
        const char *reason = read_nexus(&record->registrants[i].nexus, names, at + 8);
        if (reason != NULL)
            return reason;
        record->registrants[i].key = get_u64(at);
        if (record->registrants[i].key == 0)
            return "a registrant has the key zero";
        if (record->registrants[i].nexus.port == 0)
            return "a registrant is no nexus";
        for (uint32_t j = 0; j < i; j++)
            if (memcmp(at + 8, from + j * REGISTRANT_BYTES + 8, NEXUS_BYTES) == 0)
                return "a nexus is registered twice";
    }
    return NULL;
}

static const char *wrong_with_reservation(const struct record *record)
{
    switch ((enum reservation_type)record->type) {
    case RESERVATION_NONE:
        return record->holder == RECORD_NO_HOLDER ? NULL
                                                  : "nothing is reserved but it has a holder";
    case RESERVATION_WRITE_EXCLUSIVE:
    case RESERVATION_EXCLUSIVE_ACCESS:
    case RESERVATION_WRITE_EXCLUSIVE_REGISTRANTS_ONLY:
    case RESERVATION_EXCLUSIVE_ACCESS_REGISTRANTS_ONLY:
        return record->holder < record->registrant_count ? NULL
                                                         : "the reservation's holder is unknown";
    case RESERVATION_WRITE_EXCLUSIVE_ALL_REGISTRANTS:
    case RESERVATION_EXCLUSIVE_ACCESS_ALL_REGISTRANTS:
        if (record->registrant_count == 0)
            return "it is reserved to all registrants and has none";
        return record->holder == RECORD_NO_HOLDER
                   ? NULL
                   : "a reservation of all registrants has one holder";
    }
    return "its reservation type does not exist";
}

const char *record_decode(struct record *record, const uint8_t *bytes, uint32_t length)
{
    struct names names = {0};
    uint32_t end = length - CHECKSUM_BYTES;
    uint32_t at = 0;
    uint8_t flags;
    const char *reason = wrong_with_head(bytes, length);

    if (reason == NULL)
        reason = read_names(&names, bytes, end, &at);
    if (reason != NULL)
        return reason;
    record_clear(record);
    flags = bytes[AT_FLAGS];
    record->aptpl = flags & FLAG_APTPL;
    record->stopped = flags & FLAG_STOPPED;
    record->mode.write_cache_disabled = flags & FLAG_WRITE_CACHE_DISABLED;
    record->mode.read_cache_disabled = flags & FLAG_READ_CACHE_DISABLED;
    record->mode.software_protected = flags & FLAG_SOFTWARE_PROTECTED;
    record->mode.descriptor_sense = flags & FLAG_DESCRIPTOR_SENSE;
    record->mode.task_aborted_status = flags & FLAG_TASK_ABORTED_STATUS;
    record->type = bytes[AT_TYPE];
    record->generation = get_u32(bytes + AT_GENERATION);
    record->reset_count = get_u32(bytes + AT_COUNTERS);
    record->preempt_count = get_u32(bytes + AT_COUNTERS + 4);
    record->abort_count = get_u32(bytes + AT_COUNTERS + 8);
    record->clear_count = get_u32(bytes + AT_COUNTERS + 12);
    record->release_count = get_u32(bytes + AT_COUNTERS + 16);
    record->mode.change_count = get_u32(bytes + AT_COUNTERS + 20);
    record->holder = get_u16(bytes + AT_HOLDER);
    record->registrant_count = get_u16(bytes + AT_REGISTRANT_COUNT);
    if (end - at != record->registrant_count * (uint32_t)REGISTRANT_BYTES)
        return "its length is not that of its registrants";
    for (int i = 0; i < OTHER_LIMIT && reason == NULL; i++) {
        struct record_nexus *const others[OTHER_LIMIT] = {
            &record->reserved_by, &record->reset_by,   &record->preempt_by,
            &record->clear_by,    &record->release_by, &record->mode.changed_by,
        };
        reason = read_nexus(others[i], &names, bytes + AT_OTHERS + i * NEXUS_BYTES);
    }
    if (reason == NULL)
        reason = read_registrants(record, &names, bytes + at);
    if (reason == NULL)
        reason = wrong_with_reservation(record);
    if (reason == NULL && !record_has_room(record))
        reason = "its registrations leave no room for the other names";
    return reason;
}
