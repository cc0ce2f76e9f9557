/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The link between two controllers as iSCSI sessions (RFC 7143): an initiator that carries one SCSI
 * WRITE BUFFER (SPC-4 6.49, mode 02h) at a time, and the target that receives it. Bytes in, bytes
 * out: no socket, no clock, no memory beyond the two structs. Invariants: the data of a command are
 * never copied on the way out; nothing is written past the caller's buffer on the way in; whatever
 * a peer sends ends in an event or in a bounded answer. */

#ifndef FRONT_ISCSI_LINK_H
#define FRONT_ISCSI_LINK_H

#include "front/iscsi_login.h"
#include "front/iscsi_output.h"
#include "front/iscsi_sender.h"

#include <sys/uio.h>

enum {
    ISCSI_SCRATCH_SIZE = ISCSI_TEXT_LIMIT, /* data of small PDUs that came in pieces */
    ISCSI_IOV_LIMIT = 1024,                /* one sendmsg() takes no more (IOV_MAX) */
    ISCSI_POOL_SIZE = 80 * 60,             /* headers and trailers of one output list */
    ISCSI_WRITE_LIMIT = ISCSI_DATA_LIMIT,  /* parameter list length of WRITE BUFFER */
};

/* SCSI status (SAM-5 5.3). */
enum { SCSI_GOOD = 0x00, SCSI_CHECK_CONDITION = 0x02, SCSI_BUSY = 0x08 };

enum iscsi_link_event {
    ISCSI_LINK_MORE, /* nothing to report. When bytes were left: send the output, then feed them
                        again */
    ISCSI_LINK_LOGGED_IN, /* the full-feature phase has begun */
    ISCSI_LINK_COMMAND,   /* target: a whole WRITE BUFFER in `command`; answer it with
                             iscsi_link_target_respond() */
    ISCSI_LINK_STATUS,    /* initiator: the command is over, see `result` */
    ISCSI_LINK_CLOSED,    /* logged out: send the output if there is any, then close */
    ISCSI_LINK_FAILED,    /* `reason` says why: send the output if there is any, then close */
};

/* ---- initiator ---- */

enum iscsi_initiator_state {
    ISCSI_INITIATOR_LOGIN,
    ISCSI_INITIATOR_READY,   /* logged in, no command */
    ISCSI_INITIATOR_COMMAND, /* one command under way */
    ISCSI_INITIATOR_LOGOUT,
    ISCSI_INITIATOR_OVER,
};

struct iscsi_result {
    uint8_t status;               /* SCSI_GOOD, SCSI_CHECK_CONDITION, ... */
    uint8_t sense_key, asc, ascq; /* for CHECK CONDITION with sense */
    bool has_sense;
};

struct iscsi_initiator {
    /* Read by the owner. */
    enum iscsi_initiator_state state;
    struct iscsi_result result;
    char reason[ISCSI_REASON_SIZE];
    struct iscsi_params params; /* agreed; valid once logged in */
    uint64_t r2t_count;         /* R2Ts honoured since the login */

    /* The initiator's own. */
    struct iscsi_login login;
    struct iscsi_receiver receiver;
    struct iscsi_output output;
    enum iscsi_link_event ending; /* CLOSED or FAILED, once state is OVER */
    bool logged_in;
    uint32_t cmd_sn, exp_stat_sn, max_cmd_sn, exp_cmd_sn;
    uint32_t next_itt, itt;

    /* The command under way. */
    uint8_t buffer_id;
    uint32_t length;
    const struct iovec *data_iov; /* borrowed until ISCSI_LINK_STATUS, CLOSED or FAILED */
    uint32_t data_iov_count;
    uint32_t data_index; /* where the generator stands in data_iov */
    size_t data_within;
    uint32_t data_position; /* the same as an offset */
    bool command_due;       /* the command PDU is not yet generated (it may wait for the window) */
    struct iscsi_burst burst;
    struct iscsi_burst next_burst; /* an R2T that came while the burst was being sent */
    uint32_t r2t_offset;           /* where the next R2T must begin: data come in order */
    uint32_t exp_r2t_sn;
    bool pdu_open;     /* the current PDU's data or trailer are not all generated */
    uint32_t pdu_size; /* its data segment */
    uint32_t pdu_left; /* of it, not yet generated */
    uint32_t pdu_crc;

    /* The list handed out: headers and trailers stand in `pool`, data in the caller's memory. */
    struct iovec iov[ISCSI_IOV_LIMIT];
    uint32_t iov_first, iov_count;
    uint32_t pool_used;
    uint8_t pool[ISCSI_POOL_SIZE];
    struct iovec control_iov;

    uint8_t scratch[ISCSI_SCRATCH_SIZE];
};

/* `config` is borrowed for the session's life and must have passed iscsi_login_config_check(). The
 * first Login Request is in the output at once. Start again with a new connection. */
void iscsi_initiator_start(struct iscsi_initiator *initiator,
                           const struct iscsi_login_config *config);

/* Bytes came; returns how many were taken. Feed what is left again after handling the event. */
size_t iscsi_initiator_feed(struct iscsi_initiator *initiator, const void *bytes, size_t size,
                            enum iscsi_link_event *event);

/* One WRITE BUFFER, in ISCSI_INITIATOR_READY only: `length` <= ISCSI_WRITE_LIMIT bytes from `iov`.
 * The list and the bytes are borrowed until ISCSI_LINK_STATUS, ISCSI_LINK_CLOSED or
 * ISCSI_LINK_FAILED. */
void iscsi_initiator_command(struct iscsi_initiator *initiator, uint8_t buffer_id,
                             const struct iovec *iov, uint32_t iov_count, uint32_t length);

/* Ask for the end of the session (RFC 7143 11.14); in ISCSI_INITIATOR_READY only. ISCSI_LINK_CLOSED
 * follows. */
void iscsi_initiator_logout(struct iscsi_initiator *initiator);

/* What to send now: at most ISCSI_IOV_LIMIT pieces; 0 when there is nothing. Call it only when no
 * earlier list is being sent; the list and the bytes stay valid until iscsi_initiator_sent(). */
uint32_t iscsi_initiator_output(struct iscsi_initiator *initiator, struct iovec **iov);
/* `size` bytes of that list were sent. Ask again: there may be more. */
void iscsi_initiator_sent(struct iscsi_initiator *initiator, size_t size);

/* ---- target ---- */

enum iscsi_link_target_state {
    ISCSI_LINK_TARGET_LOGIN,
    ISCSI_LINK_TARGET_READY, /* logged in, no command */
    ISCSI_LINK_TARGET_DATA,  /* a command's data are coming */
    ISCSI_LINK_TARGET_BUSY,  /* the caller has the command and owes the answer */
    ISCSI_LINK_TARGET_OVER,
};

struct iscsi_link_command {
    uint8_t buffer_id;
    uint32_t length;
    const uint8_t *data; /* in the bytes last fed, or in the caller's buffer; unaligned */
    uint32_t itt;
};

struct iscsi_link_target {
    /* Read by the owner. */
    enum iscsi_link_target_state state;
    struct iscsi_link_command command;
    char reason[ISCSI_REASON_SIZE];
    struct iscsi_params params;
    uint64_t in_place_count; /* commands whose data were handed out without a copy */
    uint64_t refused_count;  /* commands answered with CHECK CONDITION here */

    /* The target's own. */
    struct iscsi_login login;
    struct iscsi_receiver receiver;
    struct iscsi_output output;
    enum iscsi_link_event ending; /* CLOSED or FAILED, once state is OVER */
    bool logged_in;
    uint32_t stat_sn, exp_cmd_sn;
    uint8_t *buffer; /* borrowed */
    uint32_t buffer_size;

    /* The command whose data are coming. */
    struct iscsi_pdu request;
    uint32_t expected_size, received_size;
    uint32_t burst_end;   /* where the running sequence ends */
    uint32_t burst_ttt;   /* ISCSI_NO_TAG while data are unsolicited */
    uint32_t exp_data_sn; /* within the sequence */
    uint32_t r2t_sn, next_ttt;
    bool refused; /* its unsolicited data are dropped, then it is answered with this sense: */
    uint8_t refuse_key;
    uint16_t refuse_code; /* ASC << 8 | ASCQ */

    struct iovec control_iov;
    uint8_t scratch[ISCSI_SCRATCH_SIZE];
};

/* `buffer` (borrowed): where a command's data are assembled; a longer command is refused with CHECK
 * CONDITION, ILLEGAL REQUEST, INVALID FIELD IN CDB. */
void iscsi_link_target_start(struct iscsi_link_target *target,
                             const struct iscsi_login_config *config, void *buffer,
                             uint32_t buffer_size);

/* Bytes came; returns how many were taken. The data of ISCSI_LINK_COMMAND may lie in `bytes`: keep
 * them until the answer. */
size_t iscsi_link_target_feed(struct iscsi_link_target *target, const void *bytes, size_t size,
                              enum iscsi_link_event *event);

/* Where the next bytes of the stream go: at least 1 of them may be received straight to *place (and
 * whatever follows them into another buffer, with readv). 0: receive into an own buffer and feed.
 * After receiving report with iscsi_link_target_filled(), then call iscsi_link_target_feed() (with
 * no bytes, or what followed). */
uint32_t iscsi_link_target_wants(struct iscsi_link_target *target, uint8_t **place);
void iscsi_link_target_filled(struct iscsi_link_target *target, uint32_t size);

/* Answer the command, in ISCSI_LINK_TARGET_BUSY only: GOOD, or CHECK CONDITION with ABORTED
 * COMMAND. */
void iscsi_link_target_respond(struct iscsi_link_target *target, bool good);

/* The same as for the initiator; one piece at most. */
uint32_t iscsi_link_target_output(struct iscsi_link_target *target, struct iovec **iov);
void iscsi_link_target_sent(struct iscsi_link_target *target, size_t size);

#endif
