/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The state record of a volume, decoded: what both controllers must know alike so that a host finds
 * its reservations, mode parameters and resets through either of them, and after a takeover. The
 * core keeps it as bytes with a version and mirrors it; a change is made by writing a whole new
 * record against the version that it was made from. record.c is the only file that knows the bytes.
 *
 * What is counted here is an event: that a counter differs between the record a controller had and
 * the one it gets means that it happened in between, and `..._by` says who did it last. */

#ifndef SCSI_RECORD_H
#define SCSI_RECORD_H

#include "scsi/scsi.h"

enum {
    /* Registrants of one volume: 64 hosts on 4 paths each. Whether they also fit the record's bytes
     * depends on how long their names are; record_has_room() says so. */
    RECORD_REGISTRANT_LIMIT = 256,
    RECORD_NO_HOLDER = UINT16_MAX,
};

/* SPC-4 6.15.4.3 table 195: the numbers of the wire. */
enum reservation_type {
    RESERVATION_NONE = 0, /* ours: no reservation */
    RESERVATION_WRITE_EXCLUSIVE = 1,
    RESERVATION_EXCLUSIVE_ACCESS = 3,
    RESERVATION_WRITE_EXCLUSIVE_REGISTRANTS_ONLY = 5,
    RESERVATION_EXCLUSIVE_ACCESS_REGISTRANTS_ONLY = 6,
    RESERVATION_WRITE_EXCLUSIVE_ALL_REGISTRANTS = 7,
    RESERVATION_EXCLUSIVE_ACCESS_ALL_REGISTRANTS = 8,
};

/* An I_T nexus as the record knows it: by names, so that it means the same at both controllers. */
struct record_nexus {
    uint16_t port;                       /* relative target port; 0: none */
    char initiator[SCSI_PORT_NAME_SIZE]; /* as record_port_name() writes it */
};

struct record_registrant {
    struct record_nexus nexus;
    uint64_t key; /* never 0 */
};

/* Current values of the changeable mode parameters. */
struct record_mode {
    bool write_cache_disabled;      /* caching page (08h): WCE is zero */
    bool read_cache_disabled;       /* RCD */
    bool software_protected;        /* control page (0Ah): SWP */
    bool descriptor_sense;          /* D_SENSE */
    bool task_aborted_status;       /* TAS */
    uint32_t change_count;          /* counts MODE SELECTs that changed something */
    struct record_nexus changed_by; /* gets no unit attention */
};

struct record {
    uint32_t generation; /* PRGENERATION */
    bool aptpl;          /* the registrations outlive a power loss; PTPL_A */
    uint8_t type;        /* enum reservation_type */
    uint16_t holder;     /* index into registrants; RECORD_NO_HOLDER for none and all registrants */
    uint16_t registrant_count;
    struct record_registrant registrants[RECORD_REGISTRANT_LIMIT];

    struct record_nexus reserved_by; /* SPC-2 RESERVE(6)/(10); port 0: nobody */

    uint32_t reset_count; /* LOGICAL UNIT RESET */
    struct record_nexus reset_by;
    uint32_t preempt_count; /* PREEMPT that took a registration, with or without abort */
    uint32_t abort_count;   /* PREEMPT AND ABORT */
    struct record_nexus preempt_by;
    uint32_t clear_count; /* CLEAR */
    struct record_nexus clear_by;
    uint32_t release_count; /* a reservation ended or changed its type, so that the registrants that
                               stay must hear of it */
    struct record_nexus release_by;

    bool stopped; /* START STOP UNIT with START zero */
    struct record_mode mode;
};

/* The counters alone. */
struct record_events {
    uint32_t reset, preempt, abort, clear, release, mode;
};

/* An empty record: what version 0 means. */
void record_clear(struct record *record);

/* NULL, or why the bytes are no record. `record` is undefined then. */
MUST_CHECK const char *record_decode(struct record *record, const uint8_t *bytes, uint32_t length);

/* At most VOLUME_STATE_BYTES, for a record that has room; returns how many. */
uint32_t record_encode(const struct record *record, uint8_t *bytes);

/* Whether the registrations fit the record's bytes, also when each of the other names in it becomes
 * the longest one. Ask before a registration is added; false is INSUFFICIENT REGISTRATION
 * RESOURCES. */
bool record_has_room(const struct record *record);

/* What of a record outlives a power loss of both controllers (SPC-4 5.13.5, SAM-5 6.3.1): the
 * registrations and the reservation if APTPL says so, and nothing else. */
void record_power_on(struct record *record);

/* The initiator port name of RFC 7143 4.2.7.1 in the one spelling that is compared: the iSCSI name
 * in lower case, ",i,0x", the ISID as 12 lower-case hexadecimal digits. False when `from` (at most
 * `length` bytes, ending there or at a NUL) is no such name. */
MUST_CHECK bool record_port_name(char to[SCSI_PORT_NAME_SIZE], const char *from, uint32_t length);

#endif
