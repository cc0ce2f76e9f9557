/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What the initiators share: the command window as the target moves it, the sequences of a write's
 * data, and what a target's PDUs mean. No state of its own, and no bytes are touched here. */

#ifndef FRONT_ISCSI_SENDER_H
#define FRONT_ISCSI_SENDER_H

#include "front/iscsi_login.h"

/* A sequence of Data-Out PDUs over the caller's data. */
struct iscsi_burst {
    uint32_t at, end; /* data offsets: next byte, end of this burst */
    uint32_t ttt;     /* ISCSI_NO_TAG: unsolicited */
    uint64_t lun;
    uint32_t data_sn;
    bool active;
};

/* What a write of `length` bytes may send without being asked: *immediate bytes with the command,
 * and up to *unsolicited in all (RFC 7143 13.10-13.11, 13.14). */
void iscsi_burst_first(const struct iscsi_params *params, uint32_t length, uint32_t *immediate,
                       uint32_t *unsolicited);

/* The next Data-Out of a burst; the burst moves on. */
struct iscsi_pdu iscsi_burst_next(struct iscsi_burst *burst, uint32_t limit_bytes, uint32_t itt,
                                  uint32_t exp_stat_sn);

/* The burst that an R2T asks for. NULL, or what is wrong with it: data are asked for in order, from
 * `*r2t_offset` on, in a command of `length` bytes. */
const char *iscsi_burst_on_r2t(struct iscsi_burst *burst, const struct iscsi_pdu *pdu,
                               const struct iscsi_params *params, uint32_t length,
                               uint32_t *r2t_offset, uint32_t *exp_r2t_sn);

/* RFC 7143 4.2.2.1: a MaxCmdSN below ExpCmdSN - 1 is ignored, and so is an older one. */
void iscsi_window_update(const struct iscsi_pdu *pdu, uint32_t *exp_cmd_sn, uint32_t *max_cmd_sn);

/* Whether this PDU carries a status, and so uses up a StatSN (RFC 7143 4.2.2.2). */
bool iscsi_carries_status(const struct iscsi_pdu *pdu);

/* The answer to a target's ping (RFC 7143 11.18-11.19). */
struct iscsi_pdu iscsi_pong(const struct iscsi_pdu *ping, uint32_t cmd_sn, uint32_t exp_stat_sn);

/* Why an Asynchronous Message or a Reject ends a session of ours. */
const char *iscsi_async_reason(uint8_t event);
void iscsi_reject_reason_set(char reason[ISCSI_REASON_SIZE], uint8_t code);

#endif
