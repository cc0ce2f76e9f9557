/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* iSCSI PDUs as bytes (RFC 7143 section 11): the 48-byte basic header segment encoded and decoded,
 * and a receiver that cuts a byte stream into whole PDUs. It never calls out, allocates or keeps
 * more than one header; it knows nothing of sessions, so the link between controllers and a
 * host-facing target share it. Invariant: the receiver never reads past the bytes it was given and
 * never writes past the place it was told. */

#ifndef FRONT_ISCSI_PDU_H
#define FRONT_ISCSI_PDU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    ISCSI_BHS_SIZE = 48,
    ISCSI_DIGEST_SIZE = 4,
    ISCSI_AHS_LIMIT = 255 * 4, /* TotalAHSLength counts words in one byte */
    ISCSI_HEADER_ROOM =
        ISCSI_BHS_SIZE + ISCSI_DIGEST_SIZE,     /* what the encoder writes before data */
    ISCSI_TRAILER_ROOM = 3 + ISCSI_DIGEST_SIZE, /* padding and data digest */
    ISCSI_DATA_LIMIT = (1 << 24) - 1,           /* DataSegmentLength is 24 bits */
};

#define ISCSI_NO_TAG 0xFFFFFFFFu /* reserved value of both task tags */

/* RFC 7143 11.2.1.2. */
enum iscsi_opcode {
    ISCSI_NOP_OUT = 0x00,
    ISCSI_SCSI_COMMAND = 0x01,
    ISCSI_TASK_REQUEST = 0x02,
    ISCSI_LOGIN_REQUEST = 0x03,
    ISCSI_TEXT_REQUEST = 0x04,
    ISCSI_DATA_OUT = 0x05,
    ISCSI_LOGOUT_REQUEST = 0x06,
    ISCSI_SNACK_REQUEST = 0x10,
    ISCSI_NOP_IN = 0x20,
    ISCSI_SCSI_RESPONSE = 0x21,
    ISCSI_TASK_RESPONSE = 0x22,
    ISCSI_LOGIN_RESPONSE = 0x23,
    ISCSI_TEXT_RESPONSE = 0x24,
    ISCSI_DATA_IN = 0x25,
    ISCSI_LOGOUT_RESPONSE = 0x26,
    ISCSI_R2T = 0x31,
    ISCSI_ASYNC_MESSAGE = 0x32,
    ISCSI_REJECT = 0x3F,
};

/* RFC 7143 11.17.1: why a PDU was rejected. */
enum iscsi_reject_reason {
    ISCSI_REJECT_DATA_DIGEST = 0x02,
    ISCSI_REJECT_SNACK = 0x03,
    ISCSI_REJECT_PROTOCOL = 0x04,
    ISCSI_REJECT_UNSUPPORTED = 0x05,
    ISCSI_REJECT_TOO_MANY_IMMEDIATE = 0x06,
    ISCSI_REJECT_INVALID_FIELD = 0x09,
    ISCSI_REJECT_OUT_OF_RESOURCES = 0x0A,
};

/* RFC 7143 11.3.1: the task attribute of a SCSI Command. */
enum iscsi_attribute {
    ISCSI_UNTAGGED = 0,
    ISCSI_SIMPLE = 1,
    ISCSI_ORDERED = 2,
    ISCSI_HEAD_OF_QUEUE = 3
};

/* A basic header segment, decoded. Fields that an opcode does not have are zero. Requests carry
 * cmd_sn and exp_stat_sn; what a target sends carries stat_sn, exp_cmd_sn and max_cmd_sn. */
struct iscsi_pdu {
    uint8_t opcode;     /* enum iscsi_opcode, or a number this file does not know */
    bool immediate;     /* I bit */
    bool final;         /* F bit; T (transit) in login PDUs */
    uint8_t ahs_words;  /* decoding only: we send none */
    uint32_t data_size; /* DataSegmentLength, without padding */
    uint64_t lun;
    uint32_t itt;
    uint32_t ttt;
    uint32_t cmd_sn, exp_stat_sn;
    uint32_t stat_sn, exp_cmd_sn, max_cmd_sn;
    union {
        struct {
            bool read, write;
            uint8_t attribute;
            uint32_t expected_size; /* expected data transfer length, bytes */
            uint8_t cdb[16];
        } command;
        struct { /* SCSI Response */
            uint8_t response, status;
            bool overflow, underflow;
            uint32_t residual, exp_data_sn;
        } response;
        struct { /* Data-Out and Data-In */
            uint32_t data_sn, offset;
            bool acknowledge, has_status, overflow, underflow; /* Data-In only */
            uint8_t status;
            uint32_t residual;
        } data;
        struct {
            uint32_t r2t_sn, offset, desired_size;
        } r2t;
        struct {            /* Login Request and Response */
            bool continues; /* C bit */
            uint8_t current_stage, next_stage;
            uint8_t version_max, version_min; /* in a response: max and active */
            uint8_t isid[6];
            uint16_t tsih, cid;
            uint8_t status_class, status_detail;
        } login;
        struct { /* Text Request and Response */
            bool continues;
        } text;
        struct {
            uint8_t reason, response;
            uint16_t cid, time2wait, time2retain;
        } logout;
        struct {
            uint8_t function, response;
            uint32_t referenced_tag, referenced_cmd_sn;
        } task;
        struct {
            uint8_t reason;
        } reject;
        struct {
            uint8_t event, vendor;
            uint16_t parameter[3];
        } async;
    };
};

/* Encode into ISCSI_BHS_SIZE bytes. The opcode must be one of enum iscsi_opcode. */
void iscsi_bhs_encode(const struct iscsi_pdu *pdu, uint8_t *bhs);

/* Decode ISCSI_BHS_SIZE bytes. False: the opcode is not one of enum iscsi_opcode (the common
 * fields, so also the lengths, are decoded all the same). Reserved bits are ignored as RFC
 * 7143 11.1 asks of a receiver. */
bool iscsi_bhs_decode(const uint8_t *bhs, struct iscsi_pdu *pdu);

/* Header and, when asked for, header digest. `to` has ISCSI_HEADER_ROOM bytes; returns how many
 * were written. */
uint32_t iscsi_header_put(const struct iscsi_pdu *pdu, bool header_digest, uint8_t *to);

/* Padding and, when asked for, data digest. `crc` is the state of crc32c_more() after the data
 * (unused without digest). `to` has ISCSI_TRAILER_ROOM bytes; returns how many were written, 0 for
 * an empty data segment. */
uint32_t iscsi_trailer_put(uint32_t data_size, bool data_digest, uint32_t crc, uint8_t *to);

/* Bytes of padding after `data_size` bytes (RFC 7143 11.1). */
static inline uint32_t iscsi_padding(uint32_t data_size)
{
    return -data_size & 3;
}

/* a < b in serial number arithmetic (RFC 7143 4.2.2.1, RFC 1982). */
static inline bool iscsi_sn_before(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}

/* ---- the receiver ----
 *
 *            48 bytes         AHS, digest     data not whole here     iscsi_receiver_place()
 *   HEADER ----------> EXTRA -----------> PLACING ------------------------------> DATA
 *     ^                  |                                                          |
 *     |                  | no data, or all of it whole in the caller's bytes        | last data
 * byte
 *     +------------------+<------------------------------------------ TRAILER <-----+
 *
 * FAILED is left by iscsi_receiver_start() only. */

enum iscsi_receive_event {
    ISCSI_RECEIVE_MORE,   /* every byte was taken; give more */
    ISCSI_RECEIVE_HEADER, /* `pdu` is decoded, its data are not whole here: call
                             iscsi_receiver_place() */
    ISCSI_RECEIVE_PDU,    /* `pdu` is whole, its data at `data`; valid until the next step */
    ISCSI_RECEIVE_FAILED, /* `reason` says why; the stream can no longer be cut into PDUs */
};

enum iscsi_receive_state {
    ISCSI_AT_HEADER,
    ISCSI_AT_EXTRA,
    ISCSI_AT_PLACING,
    ISCSI_AT_DATA,
    ISCSI_AT_TRAILER,
    ISCSI_AT_FAILED,
};

struct iscsi_receiver {
    /* Set by the owner, between PDUs only. */
    bool header_digest, data_digest;
    uint32_t data_limit; /* our MaxRecvDataSegmentLength; a longer data segment fails */

    /* Read by the owner after an event. */
    struct iscsi_pdu pdu;
    bool known;          /* the opcode is one we can decode */
    const uint8_t *data; /* pdu.data_size bytes, or the first `kept_size` of them when placed */
    uint32_t kept_size;
    const char *reason; /* static text */
    uint8_t reject;     /* enum iscsi_reject_reason, for the Reject that a target sends */
    uint8_t header[ISCSI_BHS_SIZE];

    /* The receiver's own. */
    enum iscsi_receive_state state;
    uint32_t taken; /* bytes taken of what the state collects */
    uint32_t header_crc, data_crc;
    uint8_t *place;
    uint8_t digest[ISCSI_DIGEST_SIZE];
};

void iscsi_receiver_start(struct iscsi_receiver *receiver, uint32_t data_limit);

/* Take bytes up to the next event; returns how many were taken. Call it again with what is left.
 * `size` may be 0. */
size_t iscsi_receiver_step(struct iscsi_receiver *receiver, const uint8_t *bytes, size_t size,
                           enum iscsi_receive_event *event);

/* After ISCSI_RECEIVE_HEADER: the first `size` data bytes go to `place` (borrowed until the PDU is
 * whole), the rest is dropped. */
void iscsi_receiver_place(struct iscsi_receiver *receiver, void *place, uint32_t size);

/* How many of the next bytes of the stream go to one place, and which: the owner may receive them
 * there itself and report with iscsi_receiver_filled(). 0 when the next bytes must go through
 * iscsi_receiver_step(). */
uint32_t iscsi_receiver_wants(const struct iscsi_receiver *receiver, uint8_t **place);

/* `size` <= iscsi_receiver_wants() bytes now stand at the place. */
void iscsi_receiver_filled(struct iscsi_receiver *receiver, uint32_t size);

#endif
