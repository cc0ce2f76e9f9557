/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The rules of RFC 7143 that every initiator keeps, as functions of what it knows. */

#include "front/iscsi_sender.h"

#include "base/check.h"

#include <string.h>

void iscsi_burst_first(const struct iscsi_params *params, uint32_t length, uint32_t *immediate,
                       uint32_t *unsolicited)
{
    uint32_t first_burst = min_u32(params->first_burst_bytes, length);

    *immediate = params->immediate_data ? min_u32(first_burst, params->peer_data_limit_bytes) : 0;
    *unsolicited = params->initial_r2t ? *immediate : first_burst;
}

struct iscsi_pdu iscsi_burst_next(struct iscsi_burst *burst, uint32_t limit_bytes, uint32_t itt,
                                  uint32_t exp_stat_sn)
{
    uint32_t size = min_u32(limit_bytes, burst->end - burst->at);
    struct iscsi_pdu pdu = {.opcode = ISCSI_DATA_OUT,
                            .final = burst->at + size == burst->end,
                            .data_size = size,
                            .lun = burst->lun,
                            .itt = itt,
                            .ttt = burst->ttt,
                            .exp_stat_sn = exp_stat_sn};

    CHECK(burst->active);
    pdu.data.data_sn = burst->data_sn++;
    pdu.data.offset = burst->at;
    burst->at += size;
    burst->active = burst->at < burst->end;
    return pdu;
}

const char *iscsi_burst_on_r2t(struct iscsi_burst *burst, const struct iscsi_pdu *pdu,
                               const struct iscsi_params *params, uint32_t length,
                               uint32_t *r2t_offset, uint32_t *exp_r2t_sn)
{
    if (pdu->r2t.r2t_sn != *exp_r2t_sn || pdu->ttt == ISCSI_NO_TAG)
        return "an R2T with a wrong R2TSN or no tag";
    if (pdu->r2t.offset != *r2t_offset || pdu->r2t.desired_size == 0 ||
        pdu->r2t.desired_size > length - *r2t_offset ||
        pdu->r2t.desired_size > params->max_burst_bytes)
        return "an R2T for data that are not due";
    if (burst->active)
        return "more R2Ts than MaxOutstandingR2T";
    *burst = (struct iscsi_burst){.at = pdu->r2t.offset,
                                  .end = pdu->r2t.offset + pdu->r2t.desired_size,
                                  .ttt = pdu->ttt,
                                  .lun = pdu->lun,
                                  .active = true};
    *r2t_offset = burst->end;
    (*exp_r2t_sn)++;
    return NULL;
}

void iscsi_window_update(const struct iscsi_pdu *pdu, uint32_t *exp_cmd_sn, uint32_t *max_cmd_sn)
{
    if (iscsi_sn_before(pdu->max_cmd_sn, pdu->exp_cmd_sn - 1))
        return;
    if (iscsi_sn_before(*max_cmd_sn, pdu->max_cmd_sn))
        *max_cmd_sn = pdu->max_cmd_sn;
    if (iscsi_sn_before(*exp_cmd_sn, pdu->exp_cmd_sn))
        *exp_cmd_sn = pdu->exp_cmd_sn;
}

bool iscsi_carries_status(const struct iscsi_pdu *pdu)
{
    switch (pdu->opcode) {
    case ISCSI_R2T:
        return false;
    case ISCSI_NOP_IN:
        return pdu->itt != ISCSI_NO_TAG;
    case ISCSI_DATA_IN:
        return pdu->data.has_status;
    default:
        return true;
    }
}

struct iscsi_pdu iscsi_pong(const struct iscsi_pdu *ping, uint32_t cmd_sn, uint32_t exp_stat_sn)
{
    return (struct iscsi_pdu){.opcode = ISCSI_NOP_OUT,
                              .immediate = true,
                              .final = true,
                              .lun = ping->lun,
                              .itt = ISCSI_NO_TAG,
                              .ttt = ping->ttt,
                              .cmd_sn = cmd_sn,
                              .exp_stat_sn = exp_stat_sn};
}

const char *iscsi_async_reason(uint8_t event)
{
    switch (event) {
    case 0:
        return "the target sent asynchronous sense data";
    case 1:
        return "the target asks for a logout";
    case 2:
        return "the target drops the connection";
    case 3:
        return "the target drops every connection of the session";
    case 4:
        return "the target asks for a new negotiation";
    default:
        return "the target sent an unknown asynchronous message";
    }
}

void iscsi_reject_reason_set(char reason[ISCSI_REASON_SIZE], uint8_t code)
{
    static const char digits[] = "0123456789abcdef";
    char text[5] = {'0', 'x', digits[code >> 4], digits[code & 15]};

    iscsi_reason_set(reason, "the target rejected a PDU, reason ", text);
}
