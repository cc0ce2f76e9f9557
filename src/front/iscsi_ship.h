/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* An iSCSI initiator with many commands in flight (RFC 7143): what one controller ships to the
 * other. Bytes in, bytes out: no socket, no clock, no memory beyond the struct. Invariants: data
 * are never copied on the way out, and on the way in only when they came together with others; a
 * command is reported over only when none of its bytes is being sent any more; nothing is written
 * past the place that a command gave. */

#ifndef FRONT_ISCSI_SHIP_H
#define FRONT_ISCSI_SHIP_H

#include "front/iscsi_login.h"
#include "front/iscsi_output.h"
#include "front/iscsi_sender.h"

#include <sys/uio.h>

enum {
    ISCSI_SHIP_TASK_LIMIT = 256,
    ISCSI_SHIP_SENSE_LIMIT = 252,
    ISCSI_SHIP_SCRATCH_SIZE = ISCSI_TEXT_LIMIT, /* data of small PDUs that came in pieces */
    ISCSI_SHIP_IOV_LIMIT = 1024,                /* pieces of one output list: sendmsg()'s most */
    ISCSI_SHIP_PDU_PIECES = 66, /* of the data of one PDU: 64 pages, and parts at both ends */
    ISCSI_SHIP_LIST_BYTES = 512 * 1024, /* what goes ahead of the rest waits for the list */
    ISCSI_SHIP_PDU_LIMIT = 64,          /* PDUs of one output list */
    ISCSI_SHIP_POOL_SIZE = 64 * 64,     /* their headers and trailers */
};

enum iscsi_ship_event {
    ISCSI_SHIP_MORE, /* nothing to report. When bytes were left: send the output, then feed them
                        again */
    ISCSI_SHIP_LOGGED_IN, /* the full-feature phase has begun */
    ISCSI_SHIP_STATUS,    /* a command is over: see `done` */
    ISCSI_SHIP_CLOSED,    /* logged out: close */
    ISCSI_SHIP_FAILED,    /* `reason` says why: send the output if there is any, then close. All
                             commands in flight are over, without status */
};

/* Task tags from here on are our own. */
#define ISCSI_SHIP_TAG_END 0xFFFFFF00u

/* Either data-out or data-in, or neither; borrowed until ISCSI_SHIP_STATUS, or until the session
 * has ended and nothing is being sent or received. */
struct iscsi_ship_command {
    uint8_t lun[8];
    uint8_t cdb[16];
    const void *out;            /* data-out in one piece, or ... */
    const struct iovec *pieces; /* ... when `out` is NULL: in many, none of them empty, of out_bytes
                                   together; the list is borrowed like the data */
    uint32_t out_bytes;
    void *in;
    uint32_t in_bytes;
    bool ahead; /* goes before commands that have not begun to be sent */
};

struct iscsi_ship_done {
    uint32_t itt;
    uint8_t status;
    bool overflow, underflow;
    uint32_t residual;
    uint32_t received_bytes; /* of data-in */
    uint32_t sense_bytes;
    const uint8_t *sense; /* valid until the next call */
};

enum iscsi_ship_task_state {
    ISCSI_SHIP_TASK_FREE,
    ISCSI_SHIP_TASK_DUE,  /* not yet sent: waits for the list, or for the window */
    ISCSI_SHIP_TASK_SENT, /* its command is in a list or sent */
    ISCSI_SHIP_TASK_OVER, /* answered; the list that has its bytes is not sent */
};

struct iscsi_ship_task {
    struct iscsi_ship_command command;
    uint32_t itt;
    uint8_t state; /* enum iscsi_ship_task_state */
    bool queued, in_list;
    uint16_t next;
    struct iscsi_burst burst, next_burst; /* next: an R2T that came while the other was sent */
    uint32_t r2t_offset, exp_r2t_sn;      /* data are asked for in order */
    uint32_t piece, piece_used;           /* of the pieces: where the next byte to send stands */
    uint32_t received_bytes, exp_data_sn;
    struct iscsi_ship_done done;
    uint8_t sense[ISCSI_SHIP_SENSE_LIMIT];
};

enum iscsi_ship_state {
    ISCSI_SHIP_STATE_LOGIN,
    ISCSI_SHIP_STATE_READY,
    ISCSI_SHIP_STATE_LOGOUT,
    ISCSI_SHIP_STATE_OVER,
};

struct iscsi_ship {
    /* Read by the owner. */
    enum iscsi_ship_state state;
    struct iscsi_ship_done done;
    char reason[ISCSI_REASON_SIZE];
    struct iscsi_params params; /* agreed; valid once logged in */
    uint32_t open_count;        /* commands in flight */
    uint64_t r2t_count;         /* R2Ts honoured since the login */
    bool ping_pending;

    /* The initiator's own. */
    struct iscsi_login login;
    struct iscsi_receiver receiver;
    struct iscsi_output output;
    enum iscsi_ship_event ending; /* CLOSED or FAILED, once state is OVER */
    bool logged_in;
    uint32_t cmd_sn, exp_stat_sn, max_cmd_sn, exp_cmd_sn;
    uint16_t first[2], last[2]; /* enum ship_queue: tasks with something to send, in this order */
    uint32_t over_count;        /* tasks in ISCSI_SHIP_TASK_OVER */
    struct iscsi_ship_task tasks[ISCSI_SHIP_TASK_LIMIT];

    /* The list handed out: headers and trailers stand in `pool`, data in the caller's memory. */
    struct iovec control_iov;
    struct iovec iov[ISCSI_SHIP_IOV_LIMIT];
    uint32_t iov_first, iov_count, pool_used, listed_count, list_bytes;
    uint16_t listed[ISCSI_SHIP_PDU_LIMIT]; /* the tasks of the list's PDUs */
    uint8_t pool[ISCSI_SHIP_POOL_SIZE];

    uint8_t scratch[ISCSI_SHIP_SCRATCH_SIZE];
};

/* `config` is borrowed for the session's life and must have passed iscsi_login_config_check(). The
 * first Login Request is in the output at once. Start again with a new connection. */
void iscsi_ship_start(struct iscsi_ship *ship, const struct iscsi_login_config *config);

/* Bytes came; returns how many were taken. After each event other than MORE call it again with what
 * is left, also when nothing is; and with or without bytes after iscsi_ship_sent(). */
size_t iscsi_ship_feed(struct iscsi_ship *ship, const void *bytes, size_t size,
                       enum iscsi_ship_event *event);

/* Where the next bytes of the stream go, as with iscsi_target_wants(): data-in are received
 * straight to their place. */
uint32_t iscsi_ship_wants(struct iscsi_ship *ship, uint8_t **place);
void iscsi_ship_filled(struct iscsi_ship *ship, uint32_t size);

/* One command, in ISCSI_SHIP_STATE_READY only. `itt` < ISCSI_SHIP_TAG_END is the caller's choice;
 * no other in flight is the same modulo ISCSI_SHIP_TASK_LIMIT. It comes back in `done`. Commands go
 * out in the order given, as the target's window allows. `command` is copied. */
void iscsi_ship_command(struct iscsi_ship *ship, uint32_t itt,
                        const struct iscsi_ship_command *command);

/* NOP-Out as a ping (RFC 7143 11.18); ping_pending until it is answered. False: not now. */
bool iscsi_ship_ping(struct iscsi_ship *ship);

/* Ask for the end of the session (RFC 7143 11.14), in ISCSI_SHIP_STATE_READY with no command in
 * flight. ISCSI_SHIP_CLOSED follows. False: not now. */
bool iscsi_ship_logout(struct iscsi_ship *ship);

/* What to send now: at most ISCSI_SHIP_IOV_LIMIT pieces; 0 when there is nothing. Call it only when
 * no earlier list is being sent; the list and the bytes stay valid until iscsi_ship_sent(). */
uint32_t iscsi_ship_output(struct iscsi_ship *ship, struct iovec **iov);
/* `size` bytes of that list were sent. Feed (there may be a status to report), then ask again. */
void iscsi_ship_sent(struct iscsi_ship *ship, size_t size);

#endif
