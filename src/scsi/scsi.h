/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The SCSI device server (SAM-5, SPC-4, SBC-3): one command at a time becomes requests to the core
 * and an answer. It does no I/O, has no clock, takes no memory after scsi_create(), keeps no list
 * of tasks and never waits: the caller owns every task and does what a step says.
 *
 *     scsi_task_begin()  -+-> SCSI_BUFFER  give task->buffer, collect task->out_bytes into it,
 *                         |                then scsi_task_run()
 *     scsi_task_run()    -+-> SCSI_IO      submit task->request; on its end scsi_task_io_done()
 *     ..._io_done()      -+-> SCSI_MAP     find out what is allocated; then scsi_task_map_done()
 *     ..._map_done()     -+-> SCSI_DONE    task->status, sense, in_bytes; the task is over
 *
 * What changed comes before what ended: of one burst of the core the caller passes on the state
 * records and owners (scsi_on_state(), scsi_on_service(), scsi_on_controllers()) before it calls
 * scsi_task_io_done() for the completions, so that a command sees the record it has itself made. */

#ifndef SCSI_SCSI_H
#define SCSI_SCSI_H

#include "volume/volume.h"

enum {
    SCSI_LUN_LIMIT = 256,         /* LUN numbers of a nexus: 0 to 255 */
    SCSI_PORT_NAME_SIZE = 241,    /* "iqn..." (223 bytes at most) ",i,0x" 12 digits and the NUL */
    SCSI_TARGET_NAME_SIZE = 224,  /* RFC 7143 4.2.7.1: 223 bytes, and the NUL */
    SCSI_CDB_BYTES = 16,          /* no command of ours is longer */
    SCSI_SENSE_BYTES = 64,        /* the most that a task answers */
    SCSI_NEXUS_LIMIT = 16384,     /* sessions of one controller */
    SCSI_STALE_RETRIES = 16,      /* how often a command looks at the state record again */
    SCSI_PORT_A = 1,              /* relative target port, target port group and portal group: */
    SCSI_PORT_B = 2,              /* 1 at controller a, 2 at controller b */
    SCSI_PIECE_BYTES = 1 << 20,   /* what a command reads at a time to look at it; a task's
                                     buffer is at most transfer_bytes and one piece */
    SCSI_PARAMETER_BYTES = 65536, /* the longest parameter list or data that is not blocks */
};

/* SAM-5 5.3.1. */
enum scsi_status {
    SCSI_GOOD = 0x00,
    SCSI_CHECK_CONDITION = 0x02,
    SCSI_CONDITION_MET = 0x04, /* PRE-FETCH: all of it will be in the cache */
    SCSI_STATUS_BUSY = 0x08,
    SCSI_RESERVATION_CONFLICT = 0x18,
    SCSI_TASK_SET_FULL = 0x28,
    SCSI_TASK_ABORTED = 0x40,
};

/* SAM-5 8.6; the numbers are iSCSI's (RFC 7143 11.3.1). The order that ORDERED and HEAD OF QUEUE
 * ask for is kept by the caller, within the nexus and LUN (TST = 001b). */
enum scsi_attribute {
    SCSI_UNTAGGED = 0,
    SCSI_SIMPLE = 1,
    SCSI_ORDERED = 2,
    SCSI_HEAD_OF_QUEUE = 3,
    SCSI_ACA = 4, /* refused: NACA is not supported */
};

/* What a command gets while the volume is between owners. */
enum scsi_transition {
    SCSI_TRANSITION_WAIT, /* the core holds its requests */
    SCSI_TRANSITION_BUSY, /* status BUSY */
    SCSI_TRANSITION_SENSE /* NOT READY, ASYMMETRIC ACCESS STATE TRANSITION */
};

/* Where the requests of a volume end up now: enum array_service, with the same numbers. */
enum scsi_service { SCSI_SERVED_HERE, SCSI_SERVED_THERE, SCSI_HELD, SCSI_UNSERVED };

/* ---- configuration ---- */

struct scsi_unit_config {
    char name[VOLUME_NAME_SIZE];
    uint64_t size_bytes;  /* a multiple of block_bytes */
    uint32_t block_bytes; /* 512 or 4096 */
    bool thin;            /* the store can discard: a discarded page reads as zeros */
    enum scsi_transition transition;
};

/* The same at both controllers but for `self` and `nexus_limit`. */
struct scsi_config {
    uint8_t self; /* 0 = a, 1 = b */
    char array_name[VOLUME_NAME_SIZE];
    char target_name[SCSI_TARGET_NAME_SIZE]; /* the iSCSI name of the target */
    uint32_t transfer_bytes;                 /* the most that one command moves; a multiple of 4096,
                                                64 KiB to HOST_IO_BYTES */
    uint32_t nexus_limit;                    /* 1 to SCSI_NEXUS_LIMIT */
    uint32_t unit_count;
    struct scsi_unit_config units[VOLUME_LIMIT]; /* by volume number */
};

struct scsi;

/* NULL when the config is sound, else a sentence naming the field and what would be right. */
const char *scsi_config_check(const struct scsi_config *config);

/* Bytes that scsi_create() needs. The config must have passed scsi_config_check(). */
size_t scsi_memory_size(const struct scsi_config *config);

/* `memory`: zero-filled, aligned to 64 bytes, scsi_memory_size() bytes, the caller's, for as long
 * as this lives. `config` is copied. Every volume is SCSI_UNSERVED and has an empty record until
 * scsi_on_service() and scsi_on_state() say something else. */
struct scsi *scsi_create(const struct scsi_config *config, void *memory, size_t size);

/* ---- what changed ---- */

/* Each of these returns true when local tasks must end or upkeep is due because of the change: the
 * caller then asks scsi_task_fate() of every task of that volume, and scsi_upkeep(). */

/* The state record of `volume`, as array_state() gives it. It was written by this program, here or
 * at the peer; one that cannot be read is refused, NULL becomes the reason, and the old one stays.
 */
MUST_CHECK bool scsi_on_state(struct scsi *scsi, uint8_t volume, uint32_t version,
                              const void *bytes, uint32_t length, const char **reason);

/* Whether the volume's record is to be kept over a power loss of both controllers (APTPL), as of
 * the last scsi_on_state(): the caller keeps it before it goes on with the command that made it. */
bool scsi_keeps_state(const struct scsi *scsi, uint8_t volume);

/* A record that was kept over a loss of power of both controllers, as it counts after it (SPC-4
 * 5.13.5, SAM-5 6.3.1): registrations and the persistent reservation stay, all else is as after
 * power on. Writes at most VOLUME_STATE_BYTES to `to` and returns how many; 0: nothing is left of
 * it, or *reason says why it cannot be read. The same bytes give the same bytes everywhere. */
uint32_t scsi_power_on_state(struct scsi *scsi, const void *bytes, uint32_t length, void *to,
                             const char **reason);

/* Who owns the volume (0 a, 1 b; -1 nobody or not known) and where its requests end up. */
void scsi_on_service(struct scsi *scsi, uint8_t volume, int owner, enum scsi_service service);

/* The volume is a copy that hosts may read: write protected, as MODE SENSE says (SPC-4 7.5.3), or
 * not any more. */
void scsi_on_copy(struct scsi *scsi, uint8_t volume, bool is_copy);

/* Which controllers are in the pair: bit 0 a, bit 1 b. The target port group of one that is not is
 * unavailable (SPC-4 5.15.2.4.5). */
void scsi_on_controllers(struct scsi *scsi, uint8_t in);

/* ---- I_T nexus ---- */

struct scsi_nexus;

struct scsi_lun_map {
    uint8_t lun;
    uint8_t volume;
    bool read_only;
};

/* A session has logged in. `port_name`: the initiator port, "IQN,i,0xISID" (RFC 7143 4.2.7.1; the
 * ISID as 12 hexadecimal digits). The target port is this controller's. NULL when nexus_limit are
 * open, or a name is too long, a LUN or volume is named twice or does not exist. */
struct scsi_nexus *scsi_nexus_open(struct scsi *scsi, const char *port_name,
                                   const struct scsi_lun_map *luns, uint32_t lun_count);

/* The session has logged out, or its connection has broken. What it reserved by RESERVE hinders
 * nobody here from now on, though the record says so only when SCSI_NEXUS_LOSS is through. */
void scsi_nexus_leave(struct scsi *scsi, struct scsi_nexus *nexus);

/* The session is gone and every one of its tasks has ended or was aborted (I_T nexus loss, SAM-5
 * 6.3.4). Before it, run scsi_manage() with SCSI_NEXUS_LOSS, which gives back what it reserved. */
void scsi_nexus_close(struct scsi *scsi, struct scsi_nexus *nexus);

/* The volume behind an 8-byte LUN of this nexus; -1 when there is none. */
int scsi_nexus_volume(const struct scsi_nexus *nexus, const uint8_t lun[8]);

/* ---- tasks ---- */

enum scsi_step {
    SCSI_DONE,   /* over: the answer is in the task */
    SCSI_BUFFER, /* wants task->buffer */
    SCSI_IO,     /* wants task->request carried out */
    SCSI_MAP,    /* wants to know which parts of task->map are allocated */
};

/* GET LBA STATUS: a range of a volume. */
struct scsi_map {
    uint8_t volume;
    uint64_t offset_bytes;
    uint64_t length_bytes;
    uint32_t extent_limit; /* more than so many are not looked at */
};

struct scsi_extent {
    uint64_t length_bytes;
    bool hole; /* not allocated, reads as zeros, and nothing in the cache either */
};

struct scsi_command;
struct scsi_access;
struct scsi_unit;

struct scsi_task {
    /* The caller's, set before scsi_task_begin(), unchanged until SCSI_DONE. */
    struct scsi_nexus *nexus;
    uint8_t lun[8];
    uint8_t cdb[SCSI_CDB_BYTES];
    uint32_t cdb_bytes; /* as it came; more than 16 is refused (SPC-4 4.3.4) */
    enum scsi_attribute attribute;
    uint32_t expected_out_bytes; /* the expected data transfer length, of a write ... */
    uint32_t expected_in_bytes;  /* ... and of a read (RFC 7143 11.3.4) */

    /* SCSI_BUFFER: what is wanted, and the caller's answer to it. The buffer is borrowed until
     * SCSI_DONE and, for in_bytes, until they are sent. It need not be cleared. */
    uint32_t buffer_bytes; /* more than 0 */
    uint32_t out_bytes;    /* of these come from the initiator, at the buffer's beginning; at most
                              expected_out_bytes; what more is sent is thrown away */
    uint8_t *buffer;       /* aligned to 64 bytes */

    /* SCSI_IO. The caller sets request.handle; the rest it must not touch. */
    struct host_request request;

    /* SCSI_MAP. */
    struct scsi_map map;

    /* SCSI_DONE. in_bytes stand at buffer + in_offset; they never exceed expected_in_bytes.
     * `transfer_bytes` is what the command itself would have moved, in its direction: with the
     * expected length it gives the residual count (RFC 7143 11.4.5). */
    uint8_t status; /* enum scsi_status */
    uint8_t sense_bytes;
    uint32_t in_offset;
    uint32_t in_bytes;
    uint64_t transfer_bytes;
    bool writes; /* the direction of transfer_bytes: true out, false in */
    uint8_t sense[SCSI_SENSE_BYTES];

    /* The rest is scsi's own between scsi_task_begin() and SCSI_DONE. */
    struct scsi *scsi;
    struct scsi_unit *unit;     /* NULL: no such LUN */
    struct scsi_access *access; /* the nexus's view of the LUN; NULL with unit */
    const struct scsi_command *command;
    uint32_t epoch;            /* of the access, when the task began */
    uint32_t state_version;    /* of the record that allowed the command */
    uint8_t retries;           /* SCSI_STALE_RETRIES at most */
    uint8_t phase;             /* of a command that takes more than one request */
    bool exempt;               /* the change that ends other tasks is this one's */
    uint64_t lba, block_count; /* as the CDB says */
    uint64_t done_bytes;       /* of the command's work */
    uint64_t want_bytes;
    uint32_t piece_bytes; /* of the request under way */
    uint32_t value[4];    /* for the command alone */
};

/* Begin a command. Any step may come; commands without data need no buffer. */
enum scsi_step scsi_task_begin(struct scsi *scsi, struct scsi_task *task);

/* task->buffer stands there and holds the task->out_bytes from the initiator. */
enum scsi_step scsi_task_run(struct scsi_task *task);

/* task->request has ended. `detail`: as in struct completion. */
enum scsi_step scsi_task_io_done(struct scsi_task *task, enum host_result result, uint64_t detail);

/* What is allocated, from map.offset_bytes on; 0 extents: all of it, or not known. Extents past
 * the range's end are cut; when they stop short of it, so does the answer. */
enum scsi_step scsi_task_map_done(struct scsi_task *task, const struct scsi_extent *extents,
                                  uint32_t count);

/* The task ends without an answer (ABORT TASK, a lost connection). Its request, if one is under
 * way, is waited for by the caller; scsi_task_io_done() must not be called for it any more. */
void scsi_task_abort(struct scsi_task *task);

/* Whether a task under way must end because of a reset, a clear or a preempt (SAM-5 5.6). */
enum scsi_fate {
    SCSI_GO_ON,
    SCSI_END_SILENT, /* no answer is sent */
    SCSI_END_ABORTED /* status TASK ABORTED: another nexus did it and TAS is one */
};
enum scsi_fate scsi_task_fate(const struct scsi_task *task);

/* The data could not be had (digest error, the initiator broke the transfer): ends the task with
 * ABORTED COMMAND and the additional sense code given, e.g. 0x4705 (RFC 7143 11.4.7.2). */
void scsi_task_fail(struct scsi_task *task, uint16_t additional_sense);

/* ---- task management (SAM-5 7) ---- */

/* Which of the caller's tasks a function ends is listed beside it; the caller ends them itself
 * without an answer, except where scsi_task_fate() says otherwise. */
enum scsi_function {
    SCSI_ABORT_TASK,         /* the named one; needs no scsi_manage_begin() */
    SCSI_ABORT_TASK_SET,     /* those of this nexus and LUN */
    SCSI_CLEAR_TASK_SET,     /* TST = 001b: the same as ABORT TASK SET (SAM-5 7.4) */
    SCSI_CLEAR_ACA,          /* rejected: NormACA is zero */
    SCSI_LOGICAL_UNIT_RESET, /* those of the volume, from every nexus, at both controllers */
    SCSI_TARGET_RESET,       /* LOGICAL UNIT RESET of every LUN of the nexus (warm and cold) */
    SCSI_QUERY_TASK,
    SCSI_QUERY_TASK_SET,
    SCSI_NEXUS_LOSS, /* not from a host: the session has gone; those of this nexus */
    SCSI_UPKEEP,     /* not from a host: what scsi_upkeep() found is put right */
};

enum scsi_manage_result {
    SCSI_FUNCTION_COMPLETE,
    SCSI_FUNCTION_NO_LUN,
    SCSI_FUNCTION_REJECTED, /* not supported */
    SCSI_FUNCTION_FAILED    /* the record could not be changed */
};

/* A function that changes what both controllers share: a few HOST_STATE requests, one after the
 * other. begin, then io_done for each SCSI_IO, until SCSI_DONE; then `result`. */
struct scsi_manage {
    /* The caller's, set before scsi_manage_begin(). */
    enum scsi_function function;
    struct scsi_nexus *nexus; /* NULL for SCSI_UPKEEP */
    uint8_t lun[8];
    uint8_t *buffer; /* VOLUME_STATE_BYTES, the caller's until SCSI_DONE */

    struct host_request request; /* SCSI_IO */
    enum scsi_manage_result result;

    /* scsi's own. */
    struct scsi *scsi;
    uint16_t next; /* LUN or volume that comes next */
    uint8_t retries;
};

enum scsi_step scsi_manage_begin(struct scsi *scsi, struct scsi_manage *manage);
enum scsi_step scsi_manage_io_done(struct scsi_manage *manage, enum host_result result);

/* True when something in a record has lapsed that this controller must take out, such as the
 * SPC-2 reservation of a nexus that died with its controller: run SCSI_UPKEEP. */
bool scsi_upkeep(const struct scsi *scsi);

/* ---- identities, for the shell's status and for discovery ---- */

/* NAA 6 identifier of a volume (SPC-4 7.8.6.6.6), from the array's and the volume's name: 16 bytes,
 * the same at both controllers and after every restart. */
void scsi_identity_naa(const char *array_name, const char *volume_name, uint8_t naa[16]);

#endif
