/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What the files of scsi/ share: the device server, a logical unit, a nexus, the decoded state
 * record, and what each file offers to the command table. Nothing outside scsi/ includes it.
 *
 *     scsi.c          life, nexus, the way of a task through its steps
 *     command.c       the table of commands
 *     sense.c         one function for each outcome
 *     inquiry.c, report.c, mode.c, block.c, verify.c, provisioning.c, atomic.c, copy.c, buffer.c
 *     record.c        state record: decode, encode
 *     attention.c     unit attentions, and what a change of the record means to each nexus
 *     reservations.c  what a reservation lets through; RESERVE, RELEASE
 *     reservation_in.c, reservation_out.c  PERSISTENT RESERVE IN, OUT
 *     alua.c          REPORT / SET TARGET PORT GROUPS
 *     manage.c        task management, nexus loss, upkeep, fate */

#ifndef SCSI_INTERNAL_H
#define SCSI_INTERNAL_H

#include "base/arena.h"
#include "base/bytes.h"
#include "scsi/record.h"
#include "scsi/scsi.h"

/* ---- unit attentions: one bit each in access.attentions; the lowest is reported first ---- */

enum attention {
    ATTENTION_POWER_ON,                /* 29/00: the first command of a nexus */
    ATTENTION_BUS_DEVICE_RESET,        /* 29/03: LOGICAL UNIT RESET, TARGET RESET */
    ATTENTION_NEXUS_LOSS,              /* 29/07 */
    ATTENTION_RESERVATIONS_PREEMPTED,  /* 2A/03 */
    ATTENTION_RESERVATIONS_RELEASED,   /* 2A/04 */
    ATTENTION_REGISTRATIONS_PREEMPTED, /* 2A/05 */
    ATTENTION_COMMANDS_CLEARED,        /* 2F/00 */
    ATTENTION_MODE_CHANGED,            /* 2A/01 */
    ATTENTION_ACCESS_STATE_CHANGED,    /* 2A/06 */
    ATTENTION_COUNT
};

enum { SCSI_DEPARTED = 1024 }; /* initiator ports that are remembered after they have left */

static inline uint16_t attention_bit(enum attention attention)
{
    return (uint16_t)(1u << attention);
}

/* ---- the things ---- */

struct scsi_unit {
    uint8_t volume;
    uint8_t block_shift; /* 9 or 12 */
    bool thin;
    uint8_t transition; /* enum scsi_transition */
    uint64_t block_count;
    uint64_t size_bytes;

    /* Written by scsi_on_state(). */
    uint32_t state_version;
    uint32_t state_length;
    uint32_t state_checksum;   /* the bytes' last four */
    struct record_events seen; /* attention.c: the counters of the last record that is known */
    /* A nexus that is not the holder may be refused: reservation_check() must look. Kept by
     * scsi_on_state() through reservation_present(), so that the short path asks one bool. */
    bool guarded;
    /* The nexus that holds it by RESERVE has left, and the record does not say so yet. Written by
     * manage_reserver_left(); ask reservation_of_spc2(). */
    bool reserver_left;
    struct record record;

    /* Written by scsi_on_service(). */
    int8_t owner;    /* 0 a, 1 b, -1 nobody or not known */
    uint8_t service; /* enum scsi_service */
    bool is_copy;    /* hosts may read it, and not write */
    /* alua.c: the states of groups 1 and 2 when it was last not between owners. */
    uint8_t settled[2];

    uint8_t naa[16];
    char name[VOLUME_NAME_SIZE];

    /* buffer.c: the echo and data buffer, and who wrote the echo last. */
    uint32_t echo_bytes;
    struct scsi_nexus *echo_by;
    uint8_t echo[4096];
    uint8_t data[4096];
};

/* What a nexus is in the record of a unit. */
enum standing {
    STANDING_REGISTERED = 1 << 0, /* has a persistent reservation key */
    STANDING_HOLDER = 1 << 1,     /* holds the persistent reservation, alone */
    STANDING_RESERVER = 1 << 2,   /* holds the SPC-2 reservation */
};

/* One LUN of a nexus. */
struct scsi_access {
    bool present;
    bool read_only;
    uint8_t volume;
    bool aborted_by_other; /* why `epoch` was raised last: another nexus ... */
    bool aborted_status;   /* ... and TAS was one: TASK ABORTED */
    bool commands_cleared; /* ... or zero: a task that ends leaves COMMANDS CLEARED behind */
    uint8_t asked_group;   /* SET TARGET PORT GROUPS of this nexus is under way to here; 0: none */
    bool was_registered;   /* in the last record that is known: attention.c */
    uint8_t standing;      /* enum standing: written by attention.c, with every record */
    uint16_t attentions;   /* bits: attention_bit() */
    uint32_t epoch;        /* raised when the tasks that had begun before must end */
};

struct scsi_nexus {
    bool open;
    bool leaving;  /* scsi_nexus_leave() */
    uint16_t port; /* relative target port: this controller's */
    uint32_t next_free;
    char name[SCSI_PORT_NAME_SIZE]; /* initiator port name */
    uint32_t lun_count;
    struct scsi_access luns[SCSI_LUN_LIMIT]; /* by LUN */
    /* copy.c: the outcome of the last EXTENDED COPY, for RECEIVE COPY RESULTS. */
    struct copy_outcome {
        bool held;
        uint8_t list_id;
        uint8_t status; /* SPC-4 6.25: 01h completed without error, 02h with error */
        uint16_t segments;
        uint32_t transfer_count; /* bytes */
        uint8_t sense_bytes;
        uint8_t sense[SCSI_SENSE_BYTES];
    } copy;
};

struct scsi {
    struct scsi_config config;
    uint8_t self;
    uint8_t controllers;        /* bit 0 a, bit 1 b: in the pair */
    bool upkeep;                /* scsi_upkeep(): written by manage.c */
    struct scsi_unit *units;    /* config.unit_count */
    struct scsi_nexus *nexuses; /* config.nexus_limit */
    /* For one call: a handler makes its new record in `draft`; scsi_on_state() decodes into
     * `incoming`. Too large for the stack. */
    struct record draft;
    struct record incoming;
    /* attention.c: checksums of the initiator ports that left last, for I_T NEXUS LOSS. */
    uint32_t departed[SCSI_DEPARTED];
    uint32_t departed_count; /* ever; the ring's place is the remainder */
    uint32_t nexus_high;     /* no open nexus at or past this index */
    uint32_t free_nexus;
    uint8_t first_row[256]; /* command_index() */
};

static inline void record_nexus_set(struct record_nexus *record, const struct scsi_nexus *nexus)
{
    record->port = nexus->port;
    memcpy(record->initiator, nexus->name, sizeof record->initiator);
}

static inline bool record_nexus_is(const struct record_nexus *record,
                                   const struct scsi_nexus *nexus)
{
    return record->port == nexus->port && strcmp(record->initiator, nexus->name) == 0;
}

/* The nexus's LUN that is `volume`, or NULL. */
struct scsi_access *nexus_access(struct scsi_nexus *nexus, uint8_t volume);

/* ---- the command table (command.c) ---- */

enum command_flag {
    /* Allowed ... */
    COMMAND_WITH_ATTENTION = 1 << 0, /* with a unit attention pending, which stays (SAM-5 5.14) */
    COMMAND_WITHOUT_UNIT = 1 << 1,   /* for a LUN that does not exist: it looks itself */
    COMMAND_WHILE_UNAVAILABLE = 1 << 2, /* in every asymmetric access state (SPC-4 5.15.2.4) */
    COMMAND_WHILE_STOPPED = 1 << 3,     /* after START STOP UNIT with START zero */
    /* Against a reservation of another nexus (SPC-4 table 64, SBC-3 table 13): without one of
     * these the command is in conflict with every reservation. */
    COMMAND_RESERVED_ANY = 1 << 4,   /* allowed whatever is reserved */
    COMMAND_RESERVED_READS = 1 << 5, /* allowed under write exclusive: it only reads */
    COMMAND_RESERVED_SPC2 = 1 << 6,  /* allowed under another's RESERVE(6)/(10) too (SPC-2 5.5.1) */
    COMMAND_WRITES = 1 << 7,         /* refused on a read-only LUN, or with SWP: DATA PROTECT */
    COMMAND_THIN = 1 << 10,          /* exists only where the store can discard */
    COMMAND_STALE_ITSELF = 1 << 9,   /* the handler deals with HOST_STALE (EXTENDED COPY) */
    COMMAND_RESERVED_ITSELF = 1 << 8, /* the handler checks (PERSISTENT RESERVE OUT, RELEASE) */
};

struct scsi_command {
    uint8_t opcode;
    uint8_t service_action;
    bool has_service_action;
    uint8_t cdb_bytes;
    uint16_t flags; /* enum command_flag */
    const char *name;
    uint8_t usage[SCSI_CDB_BYTES]; /* CDB usage map (SPC-4 6.35.3); [0] is the opcode */
    /* Read the CDB: answer at once through sense.h or task_good(), or task_buffer(), or an I/O. */
    enum scsi_step (*begin)(struct scsi_task *task);
    /* The buffer and the data have come. NULL: never asks for a buffer. */
    enum scsi_step (*run)(struct scsi_task *task);
    /* The request ended; never HOST_STALE for HOST_VERSIONED requests, scsi.c deals with that. For
     * HOST_STATE requests HOST_STALE does come, and the newer record is in unit->record. NULL:
     * makes no request. */
    enum scsi_step (*io_done)(struct scsi_task *task, enum host_result result, uint64_t detail);
};

/* For each operation code its first row, counted from one; 0: none. */
void command_index(uint8_t first[256]);
/* The row for a CDB; NULL when there is none. *known_opcode becomes true when only the service
 * action is unknown (the field pointer then names byte 1). */
const struct scsi_command *command_find(const uint8_t first[256], const uint8_t *cdb,
                                        bool *known_opcode);

/* ---- steps that handlers end with (scsi.c) ---- */

enum scsi_step task_good(struct scsi_task *task);
/* Status without sense: RESERVATION CONFLICT, BUSY, TASK SET FULL, CONDITION MET. */
enum scsi_step task_status(struct scsi_task *task, enum scsi_status status);

/* A command whose parameter list is `list_bytes` long by its CDB, and which needs `total_bytes` of
 * buffer: the list comes first, what is behind is for the handler (a HOST_STATE's record: use
 * task_record()). With list_bytes of 0 and total_bytes of 0 goes on with run() at once. */
enum scsi_step task_buffer_out(struct scsi_task *task, uint64_t list_bytes, uint32_t total_bytes);
/* A command that gives data of at most `limit_bytes` (its allocation length counts in task_in()).
 */
enum scsi_step task_buffer_in(struct scsi_task *task, uint32_t limit_bytes);
/* GOOD with `length_bytes` of data at the buffer's beginning, cut at the allocation length. */
enum scsi_step task_in(struct scsi_task *task, uint32_t length_bytes, uint32_t allocation_bytes);

/* Change the shared record: `record` is encoded behind the out data (the buffer must have been
 * asked for with out_bytes + VOLUME_STATE_BYTES) and submitted against unit->state_version; `flags`
 * is 0 or HOST_BARRIER. On HOST_STALE call it again with a record made from the newer one, while
 * task_may_retry() says so; else answer task_status(SCSI_STATUS_BUSY). */
enum scsi_step task_record(struct scsi_task *task, const struct record *record, uint8_t flags);
bool task_may_retry(struct scsi_task *task);
/* Submit a request for blocks, against the record's version that the reservations were checked
 * with. `flags`: HOST_FUA and its kin. */
enum scsi_step task_host(struct scsi_task *task, enum host_op op, uint8_t flags,
                         uint64_t offset_bytes, uint64_t length_bytes, void *data);
/* The answer to a host_result that is not HOST_OK and that the handler does not treat itself. */
/* Whether the nexus may not write the unit. */
bool task_is_protected(const struct scsi_unit *unit, const struct scsi_access *access);
enum scsi_step task_host_error(struct scsi_task *task, enum host_result result);

/* Blocks of the CDB, READ/WRITE style of 6, 10, 12 and 16 bytes: task->lba, block_count. */
void task_range(struct scsi_task *task);
/* False: the range is not on the medium, and the answer is in the task. */
bool task_range_fits(struct scsi_task *task);
/* False: longer than one command may move (VPD B0h), and the answer is in the task. */
bool task_length_fits(struct scsi_task *task);
/* HOST_FUA when the CDB says so (bit 3 of byte 1) or the write cache is off. */
uint8_t task_fua(const struct scsi_task *task);

/* Bounds of how long a command takes. */
enum {
    RANGE_BYTES = 256 << 20, /* of one UNMAP, all descriptors together */
    /* PRE-FETCH of more is not done: the answer is then GOOD, not CONDITION MET (SBC-3 5.8). */
    PREFETCH_BYTES = 16 << 20,
    UNMAP_DESCRIPTOR_LIMIT = 256, /* of one UNMAP */
};

static inline uint32_t unit_block_bytes(const struct scsi_unit *unit)
{
    return 1u << unit->block_shift;
}

/* ---- the commands' handlers, by file ---- */

#define SCSI_BEGIN(name) enum scsi_step name##_begin(struct scsi_task *task)
#define SCSI_RUN(name)   enum scsi_step name##_run(struct scsi_task *task)
#define SCSI_IO_DONE(name)                                                                         \
    enum scsi_step name##_done(struct scsi_task *task, enum host_result result, uint64_t detail)

/* inquiry.c */
SCSI_BEGIN(inquiry);
SCSI_RUN(inquiry);

/* report.c */
SCSI_BEGIN(report_ready); /* TEST UNIT READY */
SCSI_BEGIN(report_sense);
SCSI_RUN(report_sense);
SCSI_BEGIN(report_luns);
SCSI_RUN(report_luns);
SCSI_BEGIN(report_capacity10);
SCSI_RUN(report_capacity10);
SCSI_BEGIN(report_capacity16);
SCSI_RUN(report_capacity16);
SCSI_BEGIN(report_opcodes);
SCSI_RUN(report_opcodes);
SCSI_BEGIN(report_functions);
SCSI_RUN(report_functions);
SCSI_BEGIN(report_defects);
SCSI_RUN(report_defects);

/* mode.c */
SCSI_BEGIN(mode_sense);
SCSI_RUN(mode_sense);
SCSI_BEGIN(mode_select);
SCSI_RUN(mode_select);
SCSI_IO_DONE(mode_select);
SCSI_BEGIN(mode_start_stop);
SCSI_RUN(mode_start_stop);
SCSI_IO_DONE(mode_start_stop);

/* block.c */
SCSI_BEGIN(block_read);
SCSI_RUN(block_read);
SCSI_IO_DONE(block_read);
SCSI_BEGIN(block_write);
SCSI_RUN(block_write);
SCSI_IO_DONE(block_write);
SCSI_BEGIN(block_flush); /* SYNCHRONIZE CACHE */
SCSI_IO_DONE(block_flush);
SCSI_BEGIN(block_prefetch);
SCSI_RUN(block_prefetch);
SCSI_IO_DONE(block_prefetch);

/* verify.c */
SCSI_BEGIN(verify);
SCSI_RUN(verify);
SCSI_IO_DONE(verify);
SCSI_BEGIN(verify_write); /* WRITE AND VERIFY */
SCSI_RUN(verify_write);
SCSI_IO_DONE(verify_write);

/* provisioning.c */
SCSI_BEGIN(provisioning_unmap);
SCSI_RUN(provisioning_unmap);
SCSI_IO_DONE(provisioning_unmap);
SCSI_BEGIN(provisioning_same); /* WRITE SAME */
SCSI_RUN(provisioning_same);
SCSI_IO_DONE(provisioning_same);
SCSI_BEGIN(provisioning_status); /* GET LBA STATUS */
SCSI_RUN(provisioning_status);

/* atomic.c */
SCSI_BEGIN(atomic_compare);
SCSI_RUN(atomic_compare);
SCSI_IO_DONE(atomic_compare);
SCSI_BEGIN(atomic_or);
SCSI_RUN(atomic_or);
SCSI_IO_DONE(atomic_or);

/* copy.c */
SCSI_BEGIN(copy);
SCSI_RUN(copy);
SCSI_IO_DONE(copy);
SCSI_BEGIN(copy_results);
SCSI_RUN(copy_results);

/* buffer.c */
SCSI_BEGIN(buffer_write);
SCSI_RUN(buffer_write);
SCSI_BEGIN(buffer_read);
SCSI_RUN(buffer_read);
SCSI_BEGIN(buffer_diagnostic); /* SEND DIAGNOSTIC */

/* ---- attention.c ---- */

/* A nexus has been opened and has its LUNs: POWER ON, or I_T NEXUS LOSS when this initiator port
 * was here before; and its standing in each record. */
void attention_on_open(struct scsi *scsi, struct scsi_nexus *nexus);
void attention_on_close(struct scsi *scsi, const struct scsi_nexus *nexus);
/* A record has come; `known` is false when there is none yet (version 0), as after this controller
 * has rejoined the pair. Queue at every local nexus what the step from the last known one to `new`
 * means for it, note its standing, and raise the epoch of every access whose tasks must end. True
 * when some must. */
bool attention_on_record(struct scsi *scsi, struct scsi_unit *unit, const struct record *new,
                         bool known);

/* ---- reservations.c, reservation_in.c, reservation_out.c ---- */

/* Whether a nexus may carry out a command with these flags on `unit`, which is access->volume. For
 * commands without COMMAND_RESERVED_ITSELF. Only asked when unit->guarded. */
bool reservation_check(const struct scsi_unit *unit, const struct scsi_access *access,
                       uint16_t flags);
/* Somebody who is still there holds the unit by RESERVE. */
static inline bool reservation_of_spc2(const struct scsi_unit *unit)
{
    return unit->record.reserved_by.port != 0 && !unit->reserver_left;
}
/* Whether anything is reserved, so that reservation_check() could refuse somebody. */
bool reservation_present(const struct record *record);
/* The index of a nexus among the registrants; registrant_count when it is not registered. */
uint32_t reservation_find(const struct record *record, uint16_t port, const char *initiator);
/* Every registered nexus holds the reservation together (SPC-4 5.13.9). */
bool reservation_of_all(uint8_t type);
/* Every registered nexus may do what the holder may: registrants only, all registrants. */
bool reservation_of_registrants(uint8_t type);
/* Whether `type` is one of the six. */
bool reservation_type_known(uint8_t type);

enum scsi_step reservation_in_begin(struct scsi_task *task); /* PERSISTENT RESERVE IN, 4 actions */
enum scsi_step reservation_in_run(struct scsi_task *task);
enum scsi_step reservation_out_begin(struct scsi_task *task); /* PERSISTENT RESERVE OUT, 8 */
enum scsi_step reservation_out_run(struct scsi_task *task);
enum scsi_step reservation_out_done(struct scsi_task *task, enum host_result result,
                                    uint64_t detail);
enum scsi_step reservation_reserve_begin(struct scsi_task *task); /* RESERVE(6), RESERVE(10) */
enum scsi_step reservation_reserve_run(struct scsi_task *task);
enum scsi_step reservation_reserve_done(struct scsi_task *task, enum host_result result,
                                        uint64_t detail);
enum scsi_step reservation_release_begin(struct scsi_task *task); /* RELEASE(6), RELEASE(10) */
enum scsi_step reservation_release_run(struct scsi_task *task);
enum scsi_step reservation_release_done(struct scsi_task *task, enum host_result result,
                                        uint64_t detail);

/* ---- alua.c ---- */

/* SPC-4 6.37: asymmetric access state of a target port group (1 or 2) for a unit. */
enum alua_state {
    ALUA_OPTIMIZED = 0x0,
    ALUA_NON_OPTIMIZED = 0x1,
    ALUA_UNAVAILABLE = 0x3,
    ALUA_TRANSITIONING = 0xF,
};
enum alua_state alua_state(const struct scsi *scsi, const struct scsi_unit *unit, uint16_t group);

enum scsi_step alua_report_begin(struct scsi_task *task); /* REPORT TARGET PORT GROUPS */
enum scsi_step alua_report_run(struct scsi_task *task);
enum scsi_step alua_set_begin(struct scsi_task *task); /* SET TARGET PORT GROUPS: HOST_MOVE */
enum scsi_step alua_set_run(struct scsi_task *task);
enum scsi_step alua_set_done(struct scsi_task *task, enum host_result result, uint64_t detail);
/* Owner, service or controllers of a unit may have changed: ASYMMETRIC ACCESS STATE CHANGED where
 * the unit has settled in other states than before. */
void alua_on_change(struct scsi *scsi, struct scsi_unit *unit);

/* ---- manage.c: scsi_manage_*(), scsi_task_fate(), scsi_upkeep(), and this ---- */

/* Look whether something in the unit's record has lapsed; sets scsi->upkeep. Called after
 * scsi_on_state(), scsi_on_service() and scsi_on_controllers(). */
void manage_look(struct scsi *scsi, struct scsi_unit *unit);
/* Note whether the unit is held by RESERVE of a nexus here that is leaving. Called when either has
 * changed. */
void manage_reserver_left(struct scsi *scsi, struct scsi_unit *unit);

#endif
