/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The host-facing iSCSI target (RFC 7143): one connection, which is one session (MaxConnections 1,
 * error recovery level 0). Bytes in, events out; answers in, bytes out. It never looks into a CDB,
 * has no socket, no clock and no memory beyond what the caller hands in. Invariants: write data go
 * straight to the caller's place and never past its end; read data are sent from where the caller
 * has them; every command that was handed out comes back exactly once through
 * iscsi_target_released() or iscsi_target_abort(), unless the session ends first; whatever a host
 * sends ends in an event or in a bounded answer.
 *
 *     login      feed() -> IDENTIFY, admit() or refuse(), feed() -> ... -> LOGGED_IN
 *     no data    feed() -> COMMAND, respond(), output()/sent(), released()
 *     read       feed() -> COMMAND, respond(data), output()/sent(), released()
 *     write      feed() -> COMMAND, receive(place), feed()/wants()/filled() -> DATA, respond(),
 *                output()/sent(), released()
 *
 * Memory for each session: struct iscsi_target (about 40 KiB, of which an idle session touches the
 * first few), the caller's array of struct iscsi_target_task (lent lowest first, so few are ever
 * touched), and struct iscsi_target_login only while it logs in. */

#ifndef FRONT_ISCSI_TARGET_H
#define FRONT_ISCSI_TARGET_H

#include "front/iscsi_login.h"
#include "front/iscsi_output.h"

#include <sys/uio.h>

enum {
    ISCSI_TARGET_WINDOW_LIMIT = 128,  /* commands at a time, at most */
    ISCSI_TARGET_IMMEDIATE_LIMIT = 4, /* slots beyond the window, for immediate requests */
    ISCSI_TARGET_SCRATCH_SIZE = 8192, /* text and ping data that come in pieces */
    ISCSI_TARGET_TEXT_SIZE = 2048,    /* one Text Request, gathered over its C bits */
    ISCSI_TARGET_IOV_LIMIT = 96,      /* pieces of one output list */
    ISCSI_TARGET_POOL_SIZE = 32 * 64, /* headers and trailers of one output list */
    ISCSI_TARGET_SENSE_LIMIT = 252,   /* SPC-4 4.5: the longest sense data */
};

/* The slots that a window of `window` commands needs. */
#define ISCSI_TARGET_TASKS(window) ((window) + ISCSI_TARGET_IMMEDIATE_LIMIT)

enum iscsi_target_event {
    ISCSI_TARGET_MORE,      /* nothing to report */
    ISCSI_TARGET_IDENTIFY,  /* a host names itself: see `identify`; call iscsi_target_admit() or
                               iscsi_target_refuse() before the next feed */
    ISCSI_TARGET_LOGGED_IN, /* the full-feature phase has begun: see `params`, `discovery`. The
                               login memory is the caller's again. A session of the same
                               InitiatorName, ISID, target and portal group that is still there is
                               now to be dropped (session reinstatement, RFC 7143 6.3.5): the caller
                               knows it */
    ISCSI_TARGET_COMMAND,   /* `task` is a new command, in CmdSN order */
    ISCSI_TARGET_EARLY, /* a write ahead of its turn in the window brings data: give `task` a place
                           for them with iscsi_target_receive(), or do nothing, and it is answered
                           with BUSY in its turn. Otherwise it comes with COMMAND then, and is not
                          the caller's to answer or abort before */
    ISCSI_TARGET_DATA,  /* the data of the write `task` are whole */
    ISCSI_TARGET_DAMAGED, /* data of the write `task` were lost on the way: its data end here.
                             Answer it with CHECK CONDITION, ABORTED COMMAND, 47h/05h (RFC
                             7143 7.8-7.9) */
    ISCSI_TARGET_MANAGE, /* task management: see `manage`; answer with iscsi_target_manage_done() */
    ISCSI_TARGET_PONG,   /* the host answered our ping */
    ISCSI_TARGET_CLOSED, /* the host logged out: send the output if there is any, then close */
    ISCSI_TARGET_FAILED, /* `reason` says why: send the output if there is any, then close */
};

/* ---- what the caller says about itself and about a host ---- */

/* A target that a host may see, and where it is served: the portals of BOTH controllers. */
struct iscsi_target_portal {
    const char *address; /* "192.0.2.1:3260", "[2001:db8::1]:3260" */
    uint16_t group;      /* target portal group tag */
};
struct iscsi_target_node {
    const char *name;
    const struct iscsi_target_portal *portals;
    uint32_t portal_count;
};

/* Who wants in (ISCSI_TARGET_IDENTIFY). Valid until the answer. */
struct iscsi_target_identify {
    const char *initiator_name;
    const char *target_name; /* NULL in a discovery session that names none */
    bool discovery;
    uint8_t isid[6];
};

/* The answer to IDENTIFY. The strings and `nodes` are borrowed until the session ends. */
struct iscsi_target_admission {
    const char *target_name; /* the session's; NULL in a discovery session */
    const char *alias;       /* TargetAlias, or NULL */
    uint16_t tsih;           /* not zero, and no other session's of this target */
    uint16_t portal_group_tag;
    /* CHAP: `initiator.secret` makes it demanded; `self.secret` lets a host demand it of us, too
     * (mutual). Without initiator.secret no CHAP is done. */
    struct iscsi_identity initiator, self;
    const struct iscsi_target_node *nodes; /* what SendTargets tells this host */
    uint32_t node_count;
    struct iscsi_params wish; /* iscsi_target_wish(), changed as wanted */
};

/* What a target wishes: digests when the host wants them, InitialR2T=No, ImmediateData=Yes,
 * MaxBurstLength 1 MiB, FirstBurstLength 256 KiB, MaxRecvDataSegmentLength 256 KiB. */
struct iscsi_params iscsi_target_wish(void);

/* ---- one command ---- */

enum iscsi_target_task_state {
    ISCSI_TASK_FREE,
    ISCSI_TASK_HELD,   /* ahead of its turn */
    ISCSI_TASK_OPEN,   /* the caller has it and has not said where its data go, or it has none */
    ISCSI_TASK_DATA,   /* data are coming */
    ISCSI_TASK_ACTIVE, /* all data that it wants are here */
    ISCSI_TASK_ANSWER, /* answered; waits for a sequence of data to end, or for its turn to be sent,
                          or is being sent */
    ISCSI_TASK_ABORTED, /* no longer a task, but bytes are still moving from or to its buffers, or
                           a sequence of its data may still come */
};

/* The answer to a command. data and sense are borrowed until the task is released. */
struct iscsi_target_answer {
    uint8_t status; /* SAM-5 5.3 */
    const void *sense;
    uint32_t sense_bytes; /* at most ISCSI_TARGET_SENSE_LIMIT */
    const void *data;     /* data-in */
    /* How much the command has for the host, and how much it took from it: the residual counts and
     * the overflow and underflow bits come from these and expected_bytes (RFC 7143 11.4.5). At most
     * expected_bytes are sent; `data` need not hold more. */
    uint32_t data_bytes, out_bytes;
};

/* One slot. The first part is for the caller to read, `owner` to use. */
struct iscsi_target_task {
    uint32_t index; /* of the slot; the same for the session's life */
    uint32_t itt;   /* initiator task tag */
    uint8_t lun[8]; /* as it came */
    uint8_t cdb[16];
    uint8_t attribute; /* enum iscsi_attribute */
    bool immediate, read, write;
    bool unsolicited; /* data come without being asked for: say where (or answer) before the next
                         feed */
    uint32_t expected_bytes; /* EDTL: of data-out when `write`, else of data-in */
    uint32_t received_bytes; /* of data-out that stand at the place, once DATA was reported */
    void *owner;             /* the caller's; NULL when the command comes */

    /* The target's own. */
    uint8_t state;      /* enum iscsi_target_task_state */
    uint8_t kind;       /* a command, task management, or a logout */
    bool was_told;      /* the caller knows it, so it comes back through iscsi_target_released() */
    bool placed;        /* iscsi_target_receive() was called */
    bool refused;       /* EARLY was not answered: BUSY in its turn */
    bool answered;      /* iscsi_target_respond() was called */
    bool queued;        /* in the queue of what is to be sent */
    bool in_list;       /* the output list points at its data */
    bool sequence_open; /* a sequence of its data may still come */
    bool damaged;       /* a Data-Out was missed; the rest of the sequence is dropped */
    bool in_window;     /* counts against the command window */
    uint16_t next;      /* in the one list that it is in */
    uint32_t cmd_sn;
    uint8_t *place;        /* borrowed */
    uint32_t wanted_bytes; /* of data-out, to the place or dropped */
    uint32_t place_bytes;
    uint32_t arrived_bytes; /* in order, so also the offset that is next */
    uint32_t sequence_end, sequence_ttt, exp_data_sn;
    uint32_t r2t_sn, data_in_sn;
    uint32_t data_at;   /* of data-in, generated */
    uint32_t data_send; /* of data-in, all that is sent */
    struct iscsi_target_answer answer;
    uint8_t function, response; /* task management */
    uint32_t referenced_tag, referenced_cmd_sn;
};

/* RFC 7143 11.5.1. Others are answered here. */
enum iscsi_target_function {
    ISCSI_ABORT_TASK = 1,
    ISCSI_ABORT_TASK_SET = 2,
    ISCSI_CLEAR_ACA = 3,
    ISCSI_CLEAR_TASK_SET = 4,
    ISCSI_LOGICAL_UNIT_RESET = 5,
    ISCSI_TARGET_WARM_RESET = 6,
    ISCSI_TARGET_COLD_RESET = 7,
};

/* RFC 7143 11.6.1. */
enum iscsi_target_function_response {
    ISCSI_FUNCTION_COMPLETE = 0,
    ISCSI_FUNCTION_NO_TASK = 1,
    ISCSI_FUNCTION_NO_LUN = 2,
    ISCSI_FUNCTION_NOT_SUPPORTED = 5,
    ISCSI_FUNCTION_NOT_AUTHORIZED = 6,
    ISCSI_FUNCTION_REJECTED = 255,
};

/* ISCSI_TARGET_MANAGE. An ABORT TASK of what is no task (any more, or not yet) is answered without
 * the caller (RFC 7143 11.6.1). */
struct iscsi_target_manage {
    struct iscsi_target_task *request; /* the request itself: give it back with the answer */
    enum iscsi_target_function function;
    uint8_t lun[8];
    struct iscsi_target_task *aborted; /* ABORT TASK: the task; it is the caller's to abort */
};

/* RFC 7143 11.9.1. */
enum iscsi_target_async {
    ISCSI_ASYNC_LOGOUT = 1,          /* parameter 3: seconds to do it in */
    ISCSI_ASYNC_DROP_CONNECTION = 2, /* parameter 1: CID, 2: Time2Wait, 3: Time2Retain */
    ISCSI_ASYNC_DROP_SESSION = 3,    /* parameter 2: Time2Wait, 3: Time2Retain */
};

/* ---- one session ---- */

enum iscsi_target_state {
    ISCSI_TARGET_STATE_LOGIN,
    ISCSI_TARGET_STATE_ASKED, /* IDENTIFY waits for its answer */
    ISCSI_TARGET_STATE_FULL,  /* full-feature phase */
    ISCSI_TARGET_STATE_OVER,
};

/* What a connection needs only while it logs in; a bound on these is a bound on login floods. */
struct iscsi_target_login {
    struct iscsi_login login;
    struct iscsi_login_config config;
};

struct iscsi_target {
    /* Read by the caller. */
    enum iscsi_target_state state;
    struct iscsi_target_task *task; /* COMMAND, EARLY, DATA */
    struct iscsi_target_manage manage;
    struct iscsi_target_identify identify;
    char initiator_name[ISCSI_NAME_SIZE]; /* set by IDENTIFY */
    uint8_t isid[6];
    bool discovery, authenticated;
    uint16_t tsih, portal_group_tag;
    struct iscsi_params params; /* agreed */
    char reason[ISCSI_REASON_SIZE];
    bool ping_pending;      /* our ping is not answered */
    uint32_t open_count;    /* commands handed out and not yet answered or aborted */
    uint64_t reject_count;  /* Rejects sent */
    uint64_t ignored_count; /* requests out of the window, data of no task: dropped silently */

    /* The target's own. */
    struct iscsi_target_login *login; /* NULL once logged in */
    bool admitted;                    /* IDENTIFY was answered: */
    uint16_t refusal;
    const char *refusal_reason;
    const struct iscsi_target_node *nodes;
    const char *target_name;
    uint32_t node_count;
    enum iscsi_target_event ending;
    struct iscsi_receiver receiver;
    uint32_t stat_sn, exp_cmd_sn, window, next_ttt, ping_ttt;
    uint32_t window_used; /* requests that hold a slot and a CmdSN and have no answer on its way */
    struct iscsi_target_task *tasks;
    uint16_t task_count, fresh_count; /* slots from fresh_count on were never used */
    uint16_t free_first;
    uint16_t send_first, send_last;         /* to be sent, in this order */
    uint16_t list_first, list_last;         /* they end with the output list */
    uint16_t released_first, released_last; /* over; the caller has not asked for them yet */
    uint16_t leaving_count;                 /* in the last two */
    uint16_t placing;   /* the task whose data the receiver is in the middle of */
    uint16_t announced; /* the command just handed out, or ahead of its turn */
    uint16_t due;       /* a command that had its data before its turn */
    uint8_t ahead[ISCSI_TARGET_WINDOW_LIMIT]; /* by CmdSN modulo: what came ahead of its turn */
    uint32_t ahead_count, held_count, immediate_used;
    uint16_t cid;
    bool header_seen;          /* the PDU under way was looked at when its header came */
    const uint8_t *whole_data; /* of `announced`, in the bytes last fed */
    uint32_t whole_bytes;
    uint32_t itts[ISCSI_TARGET_TASKS(ISCSI_TARGET_WINDOW_LIMIT)]; /* by slot */
    /* A text exchange (RFC 7143 6.2): what was gathered of the request, or what is left to say. */
    uint32_t text_itt, text_ttt, text_used, text_at;
    uint8_t text_step;                 /* enum text_step, in iscsi_target_text.c */
    bool text_all;                     /* SendTargets=All */
    char text_target[ISCSI_NAME_SIZE]; /* SendTargets=name; "" when it was not asked for */

    /* The list handed out: headers and trailers stand in `pool`, data in the caller's memory. */
    struct iovec control_iov;
    uint32_t iov_first, iov_count, pool_used;
    struct iovec iov[ISCSI_TARGET_IOV_LIMIT];
    uint8_t pool[ISCSI_TARGET_POOL_SIZE];

    uint8_t text[ISCSI_TARGET_TEXT_SIZE];
    struct iscsi_output output;
    uint8_t scratch[ISCSI_TARGET_SCRATCH_SIZE];
};

/* A new connection. `login` is borrowed until LOGGED_IN, CLOSED or FAILED; `tasks`, of
 * ISCSI_TARGET_TASKS(window) slots, until the session has ended and nothing is being sent or
 * received. 1 <= window <= ISCSI_TARGET_WINDOW_LIMIT. `crypto` as in struct iscsi_login_config;
 * needed for CHAP. `first_sn`: the first StatSN, any number. The memory need not be zeroed. */
void iscsi_target_start(struct iscsi_target *target, struct iscsi_target_login *login,
                        struct iscsi_target_task *tasks, uint32_t window,
                        const struct iscsi_crypto *crypto, uint32_t first_sn);

/* ---- bytes in ---- */

/* Bytes came; returns how many were taken. Feed what is left again after handling the event; `size`
 * may be 0. After a COMMAND with `unsolicited` or an EARLY `bytes` must stay until the next feed.
 */
size_t iscsi_target_feed(struct iscsi_target *target, const void *bytes, size_t size,
                         enum iscsi_target_event *event);

/* Where the next bytes of the stream go: at least 1 of them may be received straight to *place (and
 * whatever follows them into another buffer, with readv). 0: receive into an own buffer and feed.
 * After receiving report with iscsi_target_filled(), then call iscsi_target_feed() (with no bytes,
 * or what followed). */
uint32_t iscsi_target_wants(struct iscsi_target *target, uint8_t **place);
void iscsi_target_filled(struct iscsi_target *target, uint32_t size);

/* ---- bytes out ---- */

/* What to send now: at most ISCSI_TARGET_IOV_LIMIT pieces; 0 when there is nothing. Call it only
 * when no earlier list is being sent; the list and the bytes stay valid until iscsi_target_sent().
 */
uint32_t iscsi_target_output(struct iscsi_target *target, struct iovec **iov);
/* `size` bytes of that list were sent. Ask for released tasks, then for more output. */
void iscsi_target_sent(struct iscsi_target *target, size_t size);

/* The next task that is over and whose buffers (place, data, sense) are the caller's again; NULL
 * when there is none. The task is valid until the next call of any function here but
 * iscsi_target_released(). Ask after iscsi_target_sent() and after iscsi_target_feed(). */
struct iscsi_target_task *iscsi_target_released(struct iscsi_target *target);

/* ---- answers ---- */

/* To IDENTIFY. */
void iscsi_target_admit(struct iscsi_target *target,
                        const struct iscsi_target_admission *admission);
/* `status`: enum iscsi_login_status (0202: not admitted, 0203: no such target, 0302: no memory for
 * another session). `reason`: a literal for the log. FAILED follows at the next feed. */
void iscsi_target_refuse(struct iscsi_target *target, uint16_t status, const char *reason);

/* Where the data-out of `task` go: its first `size` bytes to `place` (borrowed until the task is
 * released), the rest is taken and dropped; at most min(size, expected_bytes) are asked for. Once
 * for each task, after COMMAND or EARLY. True: all of them are here already, and no DATA follows
 * (never at EARLY). */
bool iscsi_target_receive(struct iscsi_target *target, struct iscsi_target_task *task, void *place,
                          uint32_t size);

/* The answer; once for each task. Allowed before its data are whole: those that come without being
 * asked for are dropped first. */
void iscsi_target_respond(struct iscsi_target *target, struct iscsi_target_task *task,
                          const struct iscsi_target_answer *answer);

/* The task ends without an answer (RFC 7143 11.5): also when it was answered and not yet sent.
 * True: its slot and buffers are free at once. False: bytes still move from or to its buffers; it
 * comes back through iscsi_target_released(). */
bool iscsi_target_abort(struct iscsi_target *target, struct iscsi_target_task *task);

void iscsi_target_manage_done(struct iscsi_target *target, struct iscsi_target_task *request,
                              enum iscsi_target_function_response response);

/* The live task with that tag that was handed out, or NULL. */
struct iscsi_target_task *iscsi_target_find(struct iscsi_target *target, uint32_t itt);
/* All tasks that were handed out and not yet answered or aborted: begin with NULL. Aborting the one
 * just returned is allowed. */
struct iscsi_target_task *iscsi_target_next(struct iscsi_target *target,
                                            const struct iscsi_target_task *after);

/* ---- on the target's own account; false: no room now, or not in the full-feature phase ---- */

/* NOP-In that asks for an answer (RFC 7143 11.19); ping_pending until PONG. One at a time. */
bool iscsi_target_ping(struct iscsi_target *target);
/* An Asynchronous Message (RFC 7143 11.9). */
bool iscsi_target_async(struct iscsi_target *target, enum iscsi_target_async event, uint16_t first,
                        uint16_t second, uint16_t third);

#endif
