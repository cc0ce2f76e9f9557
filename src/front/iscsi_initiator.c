/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The initiator of the link: login, then one WRITE BUFFER at a time. What goes out is generated
 * list by list: PDU headers stand in a small pool, data stay where the caller has them, so a
 * command of any size needs the same memory and no copy. Invariant: once a PDU's header is in a
 * list, its data and trailer follow before anything else is sent. */

#include "front/iscsi_link.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"

enum { CONTROL_ROOM = 64 + ISCSI_LOGIN_TEXT_SIZE }; /* the largest PDU that one PDU can cause */

static enum iscsi_link_event initiator_end(struct iscsi_initiator *initiator,
                                           enum iscsi_link_event ending)
{
    initiator->state = ISCSI_INITIATOR_OVER;
    initiator->ending = ending;
    return ending;
}

static enum iscsi_link_event initiator_fail(struct iscsi_initiator *initiator, const char *reason)
{
    iscsi_reason_set(initiator->reason, reason, "");
    return initiator_end(initiator, ISCSI_LINK_FAILED);
}

static void control_put(struct iscsi_initiator *initiator, const struct iscsi_pdu *pdu,
                        const void *data)
{
    iscsi_output_put(&initiator->output, pdu, data,
                     initiator->logged_in && initiator->params.header_digest,
                     initiator->logged_in && initiator->params.data_digest);
}

void iscsi_initiator_start(struct iscsi_initiator *initiator,
                           const struct iscsi_login_config *config)
{
    memset(initiator, 0, offsetof(struct iscsi_initiator, scratch));
    initiator->state = ISCSI_INITIATOR_LOGIN;
    iscsi_output_start(&initiator->output);
    iscsi_receiver_start(&initiator->receiver, ISCSI_TEXT_LIMIT);
    iscsi_login_start(&initiator->login, config, ISCSI_INITIATOR);
    control_put(initiator, &initiator->login.out, initiator->login.out_text);
}

/* ---- what comes in ---- */

static enum iscsi_link_event on_login(struct iscsi_initiator *initiator,
                                      const struct iscsi_pdu *pdu)
{
    struct iscsi_login *login = &initiator->login;

    switch (iscsi_login_on_pdu(login, pdu, initiator->receiver.data)) {
    case ISCSI_LOGIN_REPLY:
        control_put(initiator, &login->out, login->out_text);
        return ISCSI_LINK_MORE;
    case ISCSI_LOGIN_FAILED:
        return initiator_fail(initiator, login->reason);
    case ISCSI_LOGIN_IDENTIFY: /* a target's */
        CHECK(false);
        break;
    case ISCSI_LOGIN_DONE:
        break;
    }
    initiator->params = login->negotiation.agreed;
    initiator->logged_in = true;
    initiator->receiver.header_digest = initiator->params.header_digest;
    initiator->receiver.data_digest = initiator->params.data_digest;
    initiator->receiver.data_limit = initiator->params.own_data_limit_bytes;
    initiator->cmd_sn = login->cmd_sn;
    initiator->exp_stat_sn = login->stat_sn;
    initiator->exp_cmd_sn = pdu->exp_cmd_sn;
    initiator->max_cmd_sn = pdu->max_cmd_sn;
    initiator->state = ISCSI_INITIATOR_READY;
    return ISCSI_LINK_LOGGED_IN;
}

/* Sense data: two bytes of length, then fixed or descriptor format (SPC-4 4.5). */
static void take_sense(struct iscsi_result *result, const uint8_t *data, uint32_t size)
{
    const uint8_t *sense;
    uint32_t sense_size;

    if (size < 2)
        return; /* autosense is optional (RFC 7143 11.4.7.2), and without data there is no pointer
                 */
    sense = data + 2;
    sense_size = min_u32(get_u16(data), size - 2);
    if (sense_size < 8)
        return;
    switch (sense[0] & 0x7F) {
    case 0x70:
    case 0x71:
        result->sense_key = sense[2] & 0x0F;
        result->asc = sense_size > 12 ? sense[12] : 0;
        result->ascq = sense_size > 13 ? sense[13] : 0;
        result->has_sense = true;
        break;
    case 0x72:
    case 0x73:
        result->sense_key = sense[1] & 0x0F;
        result->asc = sense[2];
        result->ascq = sense[3];
        result->has_sense = true;
        break;
    default:
        break;
    }
}

static enum iscsi_link_event on_response(struct iscsi_initiator *initiator,
                                         const struct iscsi_pdu *pdu)
{
    bool all_sent = !initiator->command_due && !initiator->burst.active &&
                    !initiator->next_burst.active && !initiator->pdu_open;

    if (initiator->state != ISCSI_INITIATOR_COMMAND || pdu->itt != initiator->itt)
        return initiator_fail(initiator, "a SCSI Response to no command");
    if (pdu->response.response != 0)
        return initiator_fail(initiator, "the target could not complete the command");
    /* Data under way belong to the caller again after the status, so a status must not overtake
     * them. */
    if (!all_sent)
        return initiator_fail(initiator, "a SCSI Response before the data were sent");
    initiator->result = (struct iscsi_result){.status = pdu->response.status};
    if (pdu->response.status == SCSI_GOOD && (pdu->response.overflow || pdu->response.underflow ||
                                              initiator->r2t_offset != initiator->length))
        return initiator_fail(initiator, "GOOD status without all data");
    if (pdu->response.status == SCSI_CHECK_CONDITION)
        take_sense(&initiator->result, initiator->receiver.data, initiator->receiver.kept_size);
    initiator->state = ISCSI_INITIATOR_READY;
    return ISCSI_LINK_STATUS;
}

static enum iscsi_link_event on_r2t(struct iscsi_initiator *initiator, const struct iscsi_pdu *pdu)
{
    const char *wrong;

    if (initiator->state != ISCSI_INITIATOR_COMMAND || pdu->itt != initiator->itt ||
        initiator->command_due)
        return initiator_fail(initiator, "an R2T for no command");
    wrong = iscsi_burst_on_r2t(&initiator->next_burst, pdu, &initiator->params, initiator->length,
                               &initiator->r2t_offset, &initiator->exp_r2t_sn);
    if (wrong)
        return initiator_fail(initiator, wrong);
    initiator->r2t_count++;
    return ISCSI_LINK_MORE;
}

/* RFC 7143 11.18-11.19: a ping is answered with its own tag; one without a tag only brings sequence
 * numbers. */
static enum iscsi_link_event on_nop_in(struct iscsi_initiator *initiator,
                                       const struct iscsi_pdu *pdu)
{
    struct iscsi_pdu answer = iscsi_pong(pdu, initiator->cmd_sn, initiator->exp_stat_sn);

    if (pdu->itt != ISCSI_NO_TAG)
        return initiator_fail(initiator, "a NOP-In that answers nothing");
    if (pdu->ttt != ISCSI_NO_TAG)
        control_put(initiator, &answer, NULL);
    return ISCSI_LINK_MORE;
}

static enum iscsi_link_event on_reject(struct iscsi_initiator *initiator,
                                       const struct iscsi_pdu *pdu)
{
    iscsi_reject_reason_set(initiator->reason, pdu->reject.reason);
    return initiator_end(initiator, ISCSI_LINK_FAILED);
}

static enum iscsi_link_event on_pdu(struct iscsi_initiator *initiator)
{
    const struct iscsi_pdu *pdu = &initiator->receiver.pdu;

    if (!initiator->receiver.known)
        return initiator_fail(initiator, "a PDU with an unknown opcode");
    if (initiator->state == ISCSI_INITIATOR_LOGIN)
        return on_login(initiator, pdu);
    if (pdu->opcode < ISCSI_NOP_IN)
        return initiator_fail(initiator, "a PDU that only an initiator sends");
    if (iscsi_carries_status(pdu)) {
        if (pdu->stat_sn != initiator->exp_stat_sn)
            return initiator_fail(initiator, "a wrong StatSN");
        initiator->exp_stat_sn++;
    }
    iscsi_window_update(pdu, &initiator->exp_cmd_sn, &initiator->max_cmd_sn);
    switch (pdu->opcode) {
    case ISCSI_SCSI_RESPONSE:
        return on_response(initiator, pdu);
    case ISCSI_R2T:
        return on_r2t(initiator, pdu);
    case ISCSI_NOP_IN:
        return on_nop_in(initiator, pdu);
    case ISCSI_REJECT:
        return on_reject(initiator, pdu);
    case ISCSI_ASYNC_MESSAGE:
        return initiator_fail(initiator, iscsi_async_reason(pdu->async.event));
    case ISCSI_LOGOUT_RESPONSE:
        if (initiator->state != ISCSI_INITIATOR_LOGOUT || pdu->itt != initiator->itt)
            return initiator_fail(initiator, "a Logout Response to no request");
        return initiator_end(initiator, ISCSI_LINK_CLOSED);
    default:
        return initiator_fail(initiator, "a PDU that answers nothing");
    }
}

size_t iscsi_initiator_feed(struct iscsi_initiator *initiator, const void *bytes, size_t size,
                            enum iscsi_link_event *event)
{
    struct iscsi_receiver *receiver = &initiator->receiver;
    enum iscsi_receive_event received;
    size_t done = 0;

    *event = ISCSI_LINK_MORE;
    /* Each pass takes a header's bytes or ends, so `size` bounds the passes. */
    while (*event == ISCSI_LINK_MORE && initiator->state != ISCSI_INITIATOR_OVER) {
        if (iscsi_output_room(&initiator->output) < CONTROL_ROOM)
            return done;
        done += iscsi_receiver_step(receiver, size > done ? (const uint8_t *)bytes + done : NULL,
                                    size - done, &received);
        switch (received) {
        case ISCSI_RECEIVE_MORE:
            return done;
        case ISCSI_RECEIVE_HEADER:
            iscsi_receiver_place(receiver, initiator->scratch, sizeof initiator->scratch);
            break;
        case ISCSI_RECEIVE_PDU:
            *event = on_pdu(initiator);
            break;
        case ISCSI_RECEIVE_FAILED:
            *event = initiator_fail(initiator, receiver->reason);
            break;
        }
    }
    if (initiator->state == ISCSI_INITIATOR_OVER) {
        *event = initiator->ending;
        return size;
    }
    return done;
}

/* ---- what goes out ---- */

static uint32_t next_tag(struct iscsi_initiator *initiator)
{
    if (++initiator->next_itt == ISCSI_NO_TAG)
        initiator->next_itt = 1;
    return initiator->next_itt;
}

void iscsi_initiator_command(struct iscsi_initiator *initiator, uint8_t buffer_id,
                             const struct iovec *iov, uint32_t iov_count, uint32_t length)
{
    CHECK(initiator->state == ISCSI_INITIATOR_READY);
    CHECK(length <= ISCSI_WRITE_LIMIT);
    initiator->state = ISCSI_INITIATOR_COMMAND;
    initiator->itt = next_tag(initiator);
    initiator->buffer_id = buffer_id;
    initiator->length = length;
    initiator->data_iov = iov;
    initiator->data_iov_count = iov_count;
    initiator->data_index = 0;
    initiator->data_within = 0;
    initiator->command_due = true;
    initiator->exp_r2t_sn = 0;
}

void iscsi_initiator_logout(struct iscsi_initiator *initiator)
{
    struct iscsi_pdu pdu = {.opcode = ISCSI_LOGOUT_REQUEST,
                            .immediate = true,
                            .final = true,
                            .cmd_sn = initiator->cmd_sn,
                            .exp_stat_sn = initiator->exp_stat_sn};

    CHECK(initiator->state == ISCSI_INITIATOR_READY);
    initiator->state = ISCSI_INITIATOR_LOGOUT;
    initiator->itt = next_tag(initiator);
    pdu.itt = initiator->itt;
    /* The queue is empty of anything large here: at most the answers to one burst of pings stand in
     * it. */
    CHECK(iscsi_output_room(&initiator->output) >= iscsi_output_need(0));
    control_put(initiator, &pdu, NULL);
}

static void list_add(struct iscsi_initiator *initiator, void *bytes, size_t size)
{
    CHECK(initiator->iov_count < ISCSI_IOV_LIMIT);
    initiator->iov[initiator->iov_count++] = (struct iovec){.iov_base = bytes, .iov_len = size};
}

static void pdu_begin(struct iscsi_initiator *initiator, const struct iscsi_pdu *pdu)
{
    uint8_t *header = initiator->pool + initiator->pool_used;
    uint32_t size = iscsi_header_put(pdu, initiator->params.header_digest, header);

    initiator->pool_used += size;
    CHECK(initiator->pool_used <= sizeof initiator->pool);
    list_add(initiator, header, size);
    initiator->pdu_open = pdu->data_size > 0;
    initiator->pdu_size = pdu->data_size;
    initiator->pdu_left = pdu->data_size;
    initiator->pdu_crc = CRC32C_START;
}

/* The current PDU's data as far as the list has entries, then its trailer. */
static void pdu_go_on(struct iscsi_initiator *initiator)
{
    uint8_t *trailer = initiator->pool + initiator->pool_used;
    uint32_t size;

    while (initiator->pdu_left > 0 && initiator->iov_count < ISCSI_IOV_LIMIT - 1) {
        const struct iovec *from;
        uint8_t *bytes;
        size_t take;

        CHECK(initiator->data_index < initiator->data_iov_count);
        from = &initiator->data_iov[initiator->data_index];
        take = min_u64(from->iov_len - initiator->data_within, initiator->pdu_left);
        bytes = (uint8_t *)from->iov_base + initiator->data_within;
        if (take > 0)
            list_add(initiator, bytes, take);
        if (initiator->params.data_digest && take > 0)
            initiator->pdu_crc = crc32c_more(initiator->pdu_crc, bytes, take);
        initiator->pdu_left -= (uint32_t)take;
        initiator->data_within += take;
        if (initiator->data_within == from->iov_len) {
            initiator->data_index++;
            initiator->data_within = 0;
        }
    }
    if (initiator->pdu_left > 0)
        return;
    size = iscsi_trailer_put(initiator->pdu_size, initiator->params.data_digest, initiator->pdu_crc,
                             trailer);
    initiator->pool_used += size;
    CHECK(initiator->pool_used <= sizeof initiator->pool);
    if (size > 0)
        list_add(initiator, trailer, size);
    initiator->pdu_open = false;
}

static void begin_command(struct iscsi_initiator *initiator)
{
    uint32_t immediate, unsolicited;
    struct iscsi_pdu pdu = {.opcode = ISCSI_SCSI_COMMAND,
                            .itt = initiator->itt,
                            .cmd_sn = initiator->cmd_sn++,
                            .exp_stat_sn = initiator->exp_stat_sn};

    iscsi_burst_first(&initiator->params, initiator->length, &immediate, &unsolicited);
    pdu.final = unsolicited == immediate;
    pdu.data_size = immediate;
    pdu.command.write = initiator->length > 0;
    pdu.command.attribute = ISCSI_SIMPLE;
    pdu.command.expected_size = initiator->length;
    pdu.command.cdb[0] = 0x3B; /* WRITE BUFFER */
    pdu.command.cdb[1] = 0x02; /* mode: data */
    pdu.command.cdb[2] = initiator->buffer_id;
    put_u24(pdu.command.cdb + 6, initiator->length);
    initiator->command_due = false;
    initiator->burst = (struct iscsi_burst){.at = immediate,
                                            .end = unsolicited,
                                            .ttt = ISCSI_NO_TAG,
                                            .active = unsolicited > immediate};
    initiator->r2t_offset = unsolicited;
    pdu_begin(initiator, &pdu);
}

static void begin_data_out(struct iscsi_initiator *initiator)
{
    struct iscsi_pdu pdu =
        iscsi_burst_next(&initiator->burst, initiator->params.peer_data_limit_bytes, initiator->itt,
                         initiator->exp_stat_sn);

    pdu_begin(initiator, &pdu);
}

/* Fill the list with what can be sent now. */
static void generate(struct iscsi_initiator *initiator)
{
    initiator->iov_first = 0;
    initiator->iov_count = 0;
    initiator->pool_used = 0;
    if (initiator->pdu_open)
        pdu_go_on(initiator);
    /* A PDU needs at least a header, a slice of data and a trailer. */
    while (!initiator->pdu_open && initiator->iov_count + 3 <= ISCSI_IOV_LIMIT &&
           initiator->pool_used + ISCSI_HEADER_ROOM + ISCSI_TRAILER_ROOM <= ISCSI_POOL_SIZE) {
        if (initiator->state != ISCSI_INITIATOR_COMMAND)
            return;
        if (!initiator->burst.active && initiator->next_burst.active) {
            initiator->burst = initiator->next_burst;
            initiator->next_burst.active = false;
        }
        if (initiator->command_due) {
            if (iscsi_sn_before(initiator->max_cmd_sn, initiator->cmd_sn))
                return; /* the window is closed; the next PDU from the target may open it */
            begin_command(initiator);
        } else if (initiator->burst.active) {
            begin_data_out(initiator);
        } else {
            return;
        }
        if (initiator->pdu_open)
            pdu_go_on(initiator);
    }
}

uint32_t iscsi_initiator_output(struct iscsi_initiator *initiator, struct iovec **iov)
{
    if (initiator->iov_first == initiator->iov_count) {
        uint32_t pending = iscsi_output_pending(&initiator->output);

        if (pending > 0 && !initiator->pdu_open) {
            initiator->control_iov = (struct iovec){
                .iov_base = initiator->output.bytes + initiator->output.start, .iov_len = pending};
            *iov = &initiator->control_iov;
            return 1;
        }
        generate(initiator);
    }
    *iov = initiator->iov + initiator->iov_first;
    return initiator->iov_count - initiator->iov_first;
}

void iscsi_initiator_sent(struct iscsi_initiator *initiator, size_t size)
{
    /* A list is generated only when no small PDU waits, so while there is one it is what was handed
     * out. */
    if (initiator->iov_first == initiator->iov_count) {
        iscsi_output_sent(&initiator->output, size);
        return;
    }
    while (size > 0) {
        struct iovec *piece = &initiator->iov[initiator->iov_first];
        size_t take;

        CHECK(initiator->iov_first < initiator->iov_count);
        take = min_u64(size, piece->iov_len);
        piece->iov_base = (uint8_t *)piece->iov_base + take;
        piece->iov_len -= take;
        size -= take;
        if (piece->iov_len == 0)
            initiator->iov_first++;
    }
}
