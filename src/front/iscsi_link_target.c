/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The target of the link: login, then one command at a time (a command window of one). A refused
 * command's unsolicited data are dropped before it is answered, so the stream never gets out of
 * step. Invariant: `received_size` bytes of the command's data stand in the buffer, and never more
 * than its size. */

#include "front/iscsi_link.h"

#include "base/bytes.h"
#include "base/check.h"

enum {
    /* The largest answer to one PDU, and what respond() needs at any time on top. */
    ANSWER_ROOM = ISCSI_SCRATCH_SIZE + 128,
    RESPOND_ROOM = 256,

    ILLEGAL_REQUEST = 0x05, /* sense keys */
    ABORTED_COMMAND = 0x0B,
    INVALID_OPCODE = 0x2000, /* ASC << 8 | ASCQ */
    INVALID_FIELD_IN_CDB = 0x2400,
    LUN_NOT_SUPPORTED = 0x2500,
    NO_CODE = 0x0000,

    SENSE_SIZE = 18,
    INQUIRY_SIZE = 36,
};

_Static_assert(ANSWER_ROOM + RESPOND_ROOM < ISCSI_OUTPUT_SIZE, "an empty queue takes any answer");
_Static_assert((int)ISCSI_LOGIN_TEXT_SIZE <= (int)ISCSI_SCRATCH_SIZE, "and any Login Response");

static enum iscsi_link_event target_end(struct iscsi_link_target *target,
                                        enum iscsi_link_event ending)
{
    target->state = ISCSI_LINK_TARGET_OVER;
    target->ending = ending;
    return ending;
}

/* ---- answers ---- */

/* A PDU to the initiator with the sequence numbers that hold now. While a command is under way the
 * window is closed. */
static struct iscsi_pdu answer_start(const struct iscsi_link_target *target, uint8_t opcode,
                                     uint32_t itt)
{
    bool open = target->state == ISCSI_LINK_TARGET_READY;

    return (struct iscsi_pdu){.opcode = opcode,
                              .final = true,
                              .itt = itt,
                              .stat_sn = target->stat_sn,
                              .exp_cmd_sn = target->exp_cmd_sn,
                              .max_cmd_sn = target->exp_cmd_sn - (open ? 0 : 1)};
}

static void answer_put(struct iscsi_link_target *target, const struct iscsi_pdu *pdu,
                       const void *data)
{
    iscsi_output_put(&target->output, pdu, data, target->logged_in && target->params.header_digest,
                     target->logged_in && target->params.data_digest);
}

/* The data segment of a Reject is the header that was wrong (RFC 7143 11.17). */
static void put_reject(struct iscsi_link_target *target, uint8_t reason)
{
    struct iscsi_pdu pdu = answer_start(target, ISCSI_REJECT, ISCSI_NO_TAG);

    pdu.data_size = ISCSI_BHS_SIZE;
    pdu.reject.reason = reason;
    target->stat_sn++;
    answer_put(target, &pdu, target->receiver.header);
}

/* The peer breaks the protocol: with error recovery level 0 that ends the session (RFC 7143 7.1.5).
 */
static enum iscsi_link_event target_fail(struct iscsi_link_target *target, uint8_t reject,
                                         const char *reason)
{
    iscsi_reason_set(target->reason, reason, "");
    if (reject != 0 && target->logged_in)
        put_reject(target, reject);
    return target_end(target, ISCSI_LINK_FAILED);
}

static enum iscsi_link_event protocol_error(struct iscsi_link_target *target, const char *reason)
{
    return target_fail(target, ISCSI_REJECT_PROTOCOL, reason);
}

/* The SCSI Response for target->request; the state is that after the command. */
static void put_response(struct iscsi_link_target *target, uint8_t status, uint8_t key,
                         uint16_t code)
{
    uint8_t sense[2 + SENSE_SIZE] = {0};
    struct iscsi_pdu pdu = answer_start(target, ISCSI_SCSI_RESPONSE, target->request.itt);
    uint32_t expected = target->request.command.expected_size;

    pdu.response.status = status;
    pdu.response.exp_data_sn = target->r2t_sn;
    if (target->received_size < expected) {
        pdu.response.underflow = true;
        pdu.response.residual = expected - target->received_size;
    }
    if (status == SCSI_CHECK_CONDITION) {
        pdu.data_size = sizeof sense;
        put_u16(sense, SENSE_SIZE);
        sense[2] = 0x70; /* current, fixed format (SPC-4 4.5.3) */
        sense[4] = key;
        sense[9] = SENSE_SIZE - 8;
        put_u16(sense + 14, code);
        target->refused_count++;
    }
    target->stat_sn++;
    answer_put(target, &pdu, sense);
}

void iscsi_link_target_respond(struct iscsi_link_target *target, bool good)
{
    CHECK(target->state == ISCSI_LINK_TARGET_BUSY);
    target->state = ISCSI_LINK_TARGET_READY;
    if (good)
        put_response(target, SCSI_GOOD, 0, NO_CODE);
    else
        put_response(target, SCSI_CHECK_CONDITION, ABORTED_COMMAND, NO_CODE);
}

/* Standard INQUIRY data (SPC-4 6.6.2): a processor device, so that no host takes the link for a
 * disk. Sent with the status in the Data-In PDU. */
static void put_inquiry(struct iscsi_link_target *target)
{
    static const char text[] = "HOLDFASTLINK            1   ";
    const struct iscsi_pdu *request = &target->request;
    struct iscsi_pdu pdu = answer_start(target, ISCSI_DATA_IN, request->itt);
    uint8_t data[INQUIRY_SIZE] = {0x03, 0x00, 0x06, 0x02, INQUIRY_SIZE - 5};
    uint32_t size = min_u32(get_u16(request->command.cdb + 3), INQUIRY_SIZE);
    uint32_t expected = request->command.expected_size;

    _Static_assert(sizeof text - 1 == INQUIRY_SIZE - 8, "vendor 8, product 16, revision 4");
    memcpy(data + 8, text, sizeof text - 1);
    pdu.data_size = min_u32(size, expected);
    if (pdu.data_size == 0) {
        put_response(target, SCSI_GOOD, 0, NO_CODE);
        return;
    }
    pdu.ttt = ISCSI_NO_TAG;
    pdu.data.has_status = true;
    pdu.data.underflow = size < expected;
    pdu.data.overflow = size > expected;
    pdu.data.residual = size < expected ? expected - size : size - expected;
    target->stat_sn++;
    answer_put(target, &pdu, data);
}

static void put_r2t(struct iscsi_link_target *target)
{
    uint32_t size =
        min_u32(target->params.max_burst_bytes, target->expected_size - target->received_size);
    struct iscsi_pdu pdu = answer_start(target, ISCSI_R2T, target->request.itt);

    target->burst_end = target->received_size + size;
    target->burst_ttt = target->next_ttt;
    target->next_ttt = target->next_ttt + 1 == ISCSI_NO_TAG ? 1 : target->next_ttt + 1;
    target->exp_data_sn = 0;
    pdu.lun = target->request.lun;
    pdu.ttt = target->burst_ttt;
    pdu.r2t.r2t_sn = target->r2t_sn++;
    pdu.r2t.offset = target->received_size;
    pdu.r2t.desired_size = size;
    answer_put(target, &pdu, NULL);
}

/* ---- SCSI commands ---- */

/* Decide about a command from its header alone: refused with which sense, or not. */
static void judge(struct iscsi_link_target *target, const struct iscsi_pdu *pdu)
{
    const uint8_t *cdb = pdu->command.cdb;
    uint32_t length = get_u24(cdb + 6);

    target->refused = true;
    target->refuse_key = ILLEGAL_REQUEST;
    target->refuse_code = INVALID_FIELD_IN_CDB;
    if (pdu->lun != 0) {
        target->refuse_code = LUN_NOT_SUPPORTED;
        return;
    }
    switch (cdb[0]) {
    case 0x00: /* TEST UNIT READY */
        target->refused = false;
        return;
    case 0x12: /* INQUIRY; no vital product data */
        target->refused = (cdb[1] & 1) != 0 || cdb[2] != 0;
        return;
    case 0x3B: /* WRITE BUFFER (SPC-4 6.49): mode 02h, from offset 0, as much as the transfer brings
                */
        target->refused = (cdb[1] & 0x1F) != 0x02 || get_u24(cdb + 3) != 0 || pdu->command.read ||
                          pdu->command.write != (length > 0) ||
                          (length > 0 && length != pdu->command.expected_size) ||
                          length > target->buffer_size;
        return;
    default:
        target->refuse_code = INVALID_OPCODE;
        return;
    }
}

/* Whether the data of this command go to the buffer. */
static bool wants_data(const struct iscsi_link_target *target)
{
    return !target->refused && target->request.command.cdb[0] == 0x3B;
}

/* All that will come of the command is here. */
static enum iscsi_link_event command_whole(struct iscsi_link_target *target, const uint8_t *data)
{
    target->state = ISCSI_LINK_TARGET_READY;
    if (target->refused) {
        target->received_size = 0; /* nothing of it was taken */
        put_response(target, SCSI_CHECK_CONDITION, target->refuse_key, target->refuse_code);
        return ISCSI_LINK_MORE;
    }
    switch (target->request.command.cdb[0]) {
    case 0x00:
        put_response(target, SCSI_GOOD, 0, NO_CODE);
        return ISCSI_LINK_MORE;
    case 0x12:
        put_inquiry(target);
        return ISCSI_LINK_MORE;
    default:
        break;
    }
    CHECK(target->received_size == target->expected_size);
    target->state = ISCSI_LINK_TARGET_BUSY;
    target->command = (struct iscsi_link_command){.buffer_id = target->request.command.cdb[2],
                                                  .length = target->received_size,
                                                  .data = data,
                                                  .itt = target->request.itt};
    if (data != target->buffer)
        target->in_place_count++;
    return ISCSI_LINK_COMMAND;
}

/* A sequence has ended (F bit): more is asked for, or the command is whole. */
static enum iscsi_link_event sequence_end(struct iscsi_link_target *target, const uint8_t *data)
{
    if (wants_data(target) && target->received_size < target->expected_size) {
        put_r2t(target);
        return ISCSI_LINK_MORE;
    }
    return command_whole(target, data);
}

/* What is wrong with a command's header and immediate data; NULL when nothing is. */
static const char *command_check(const struct iscsi_link_target *target,
                                 const struct iscsi_pdu *pdu)
{
    const struct iscsi_params *params = &target->params;
    uint32_t expected = pdu->command.write ? pdu->command.expected_size : 0;

    if (pdu->itt == ISCSI_NO_TAG)
        return "a command without a task tag";
    if (pdu->data_size > 0 && !params->immediate_data)
        return "immediate data although ImmediateData=No";
    if (pdu->data_size > expected)
        return "more immediate data than the command transfers";
    if (pdu->data_size > params->first_burst_bytes)
        return "more immediate data than FirstBurstLength";
    if (!pdu->final && (params->initial_r2t || !pdu->command.write))
        return "unsolicited data announced although they are not allowed";
    return NULL;
}

/* Whether a non-immediate request is the next in order and the window is open; others are ignored
 * (RFC 7143 4.2.2.1). */
static bool in_window(const struct iscsi_link_target *target, const struct iscsi_pdu *pdu)
{
    return pdu->immediate ||
           (target->state == ISCSI_LINK_TARGET_READY && pdu->cmd_sn == target->exp_cmd_sn);
}

static enum iscsi_link_event on_command(struct iscsi_link_target *target)
{
    const struct iscsi_receiver *receiver = &target->receiver;
    const struct iscsi_pdu *pdu = &receiver->pdu;
    const char *wrong = command_check(target, pdu);

    if (!in_window(target, pdu))
        return ISCSI_LINK_MORE;
    if (wrong)
        return protocol_error(target, wrong);
    if (target->state != ISCSI_LINK_TARGET_READY) {
        /* Unsolicited data of a command that is not taken could not be told from the other's. */
        if (!pdu->final)
            return target_fail(target, ISCSI_REJECT_TOO_MANY_IMMEDIATE,
                               "an immediate command with unsolicited data beside another");
        put_reject(target, ISCSI_REJECT_TOO_MANY_IMMEDIATE);
        return ISCSI_LINK_MORE;
    }
    if (!pdu->immediate)
        target->exp_cmd_sn++;
    target->state = ISCSI_LINK_TARGET_DATA;
    target->request = *pdu;
    target->expected_size = pdu->command.write ? pdu->command.expected_size : 0;
    target->received_size = pdu->data_size;
    target->burst_end = min_u32(target->expected_size, target->params.first_burst_bytes);
    target->burst_ttt = ISCSI_NO_TAG;
    target->exp_data_sn = 0;
    target->r2t_sn = 0;
    judge(target, pdu);
    if (!pdu->final || (wants_data(target) && pdu->data_size < target->expected_size)) {
        /* The data are to be assembled. */
        if (wants_data(target) && receiver->kept_size < pdu->data_size)
            return protocol_error(target, "a command before the answer to the last one");
        if (wants_data(target) && pdu->data_size > 0 && receiver->data != target->buffer)
            memcpy(target->buffer, receiver->data, pdu->data_size);
        return pdu->final ? sequence_end(target, target->buffer) : ISCSI_LINK_MORE;
    }
    if (wants_data(target) && receiver->kept_size < pdu->data_size)
        return protocol_error(target, "a command before the answer to the last one");
    return command_whole(target, pdu->data_size > 0 ? receiver->data : target->buffer);
}

/* What is wrong with a Data-Out; NULL when it is the next of the command under way. */
static const char *data_out_check(const struct iscsi_link_target *target,
                                  const struct iscsi_pdu *pdu)
{
    if (target->state != ISCSI_LINK_TARGET_DATA || pdu->itt != target->request.itt)
        return "a Data-Out of no command";
    if (pdu->ttt != target->burst_ttt)
        return "a Data-Out with a wrong target transfer tag";
    if (pdu->data.data_sn != target->exp_data_sn)
        return "a Data-Out with a wrong DataSN";
    if (pdu->data.offset != target->received_size)
        return "a Data-Out with a wrong offset";
    if (pdu->data_size > target->burst_end - target->received_size)
        return "a Data-Out beyond the end of its sequence";
    if (pdu->data_size == 0 && !pdu->final)
        return "a Data-Out that brings nothing";
    if (pdu->final && pdu->ttt != ISCSI_NO_TAG &&
        pdu->data_size != target->burst_end - target->received_size)
        return "a sequence that ends before its R2T does";
    return NULL;
}

static enum iscsi_link_event on_data_out(struct iscsi_link_target *target)
{
    const struct iscsi_receiver *receiver = &target->receiver;
    const struct iscsi_pdu *pdu = &receiver->pdu;
    const char *wrong = data_out_check(target, pdu);
    uint8_t *to;

    if (wrong)
        return protocol_error(target, wrong);
    if (wants_data(target) && pdu->data_size > 0) {
        CHECK(target->received_size + pdu->data_size <= target->buffer_size);
        CHECK(receiver->kept_size == pdu->data_size);
        to = target->buffer + target->received_size;
        if (receiver->data != to)
            memcpy(to, receiver->data, pdu->data_size);
    }
    target->received_size += pdu->data_size;
    target->exp_data_sn++;
    return pdu->final ? sequence_end(target, target->buffer) : ISCSI_LINK_MORE;
}

/* ---- the other requests ---- */

static enum iscsi_link_event on_nop_out(struct iscsi_link_target *target)
{
    const struct iscsi_pdu *pdu = &target->receiver.pdu;
    struct iscsi_pdu answer;

    if (!in_window(target, pdu) || pdu->itt == ISCSI_NO_TAG)
        return ISCSI_LINK_MORE;
    if (!pdu->immediate)
        target->exp_cmd_sn++;
    answer = answer_start(target, ISCSI_NOP_IN, pdu->itt);
    answer.ttt = ISCSI_NO_TAG;
    answer.lun = pdu->lun;
    /* Ping data past the scratch are not echoed; nobody pings with more than 8 KiB. */
    answer.data_size = min_u32(min_u32(target->receiver.kept_size, ISCSI_SCRATCH_SIZE),
                               target->params.peer_data_limit_bytes);
    target->stat_sn++;
    answer_put(target, &answer, target->receiver.data);
    return ISCSI_LINK_MORE;
}

static enum iscsi_link_event on_text(struct iscsi_link_target *target)
{
    const struct iscsi_pdu *pdu = &target->receiver.pdu;
    struct iscsi_pdu answer;
    struct iscsi_text out;
    struct iscsi_pair pair;
    enum iscsi_pair_result result = ISCSI_PAIR_END;
    uint32_t at = 0;
    char text[ISCSI_LOGIN_TEXT_SIZE];
    const char *why;

    if (!in_window(target, pdu))
        return ISCSI_LINK_MORE;
    if (!pdu->immediate)
        target->exp_cmd_sn++;
    if (pdu->text.continues || !pdu->final || pdu->ttt != ISCSI_NO_TAG ||
        target->receiver.kept_size < pdu->data_size || pdu->data_size > ISCSI_TEXT_LIMIT) {
        put_reject(target, ISCSI_REJECT_UNSUPPORTED);
        return ISCSI_LINK_MORE;
    }
    iscsi_text_start(&out, text,
                     min_u32(sizeof text, target->login.negotiation.agreed.peer_data_limit_bytes));
    while (pdu->data_size > 0 && (result = iscsi_pair_next(target->receiver.data, pdu->data_size,
                                                           &at, &pair)) == ISCSI_PAIR_OK) {
        if (strcmp(pair.key, "SendTargets") == 0)
            iscsi_text_put(&out, "TargetName", target->login.config->target_name);
        else
            iscsi_negotiation_on_text(&target->login.negotiation, &pair, &out, &why);
    }
    target->params.peer_data_limit_bytes = target->login.negotiation.agreed.peer_data_limit_bytes;
    if (result == ISCSI_PAIR_MALFORMED || out.overflow) {
        put_reject(target, ISCSI_REJECT_INVALID_FIELD);
        return ISCSI_LINK_MORE;
    }
    answer = answer_start(target, ISCSI_TEXT_RESPONSE, pdu->itt);
    answer.ttt = ISCSI_NO_TAG;
    answer.data_size = out.used;
    target->stat_sn++;
    answer_put(target, &answer, text);
    return ISCSI_LINK_MORE;
}

static enum iscsi_link_event on_logout(struct iscsi_link_target *target)
{
    const struct iscsi_pdu *pdu = &target->receiver.pdu;
    struct iscsi_pdu answer;

    if (!in_window(target, pdu))
        return ISCSI_LINK_MORE;
    if (!pdu->immediate)
        target->exp_cmd_sn++;
    answer = answer_start(target, ISCSI_LOGOUT_RESPONSE, pdu->itt);
    target->stat_sn++;
    if (pdu->logout.reason > 1) {
        answer.logout.response = 2; /* connection recovery is not supported */
        answer_put(target, &answer, NULL);
        return ISCSI_LINK_MORE;
    }
    answer_put(target, &answer, NULL);
    return target_end(target, ISCSI_LINK_CLOSED);
}

static enum iscsi_link_event on_login(struct iscsi_link_target *target)
{
    struct iscsi_login *login = &target->login;
    enum iscsi_login_event event =
        iscsi_login_on_pdu(login, &target->receiver.pdu, target->receiver.data);

    answer_put(target, &login->out, login->out_text);
    if (event == ISCSI_LOGIN_REPLY)
        return ISCSI_LINK_MORE;
    if (event == ISCSI_LOGIN_FAILED) {
        iscsi_reason_set(target->reason, "login: ", login->reason);
        return target_end(target, ISCSI_LINK_FAILED);
    }
    target->params = login->negotiation.agreed;
    target->logged_in = true;
    target->receiver.header_digest = target->params.header_digest;
    target->receiver.data_digest = target->params.data_digest;
    target->receiver.data_limit = target->params.own_data_limit_bytes;
    target->stat_sn = login->stat_sn;
    target->exp_cmd_sn = login->cmd_sn;
    target->next_ttt = 1;
    target->state = ISCSI_LINK_TARGET_READY;
    return ISCSI_LINK_LOGGED_IN;
}

/* ---- bytes ---- */

void iscsi_link_target_start(struct iscsi_link_target *target,
                             const struct iscsi_login_config *config, void *buffer,
                             uint32_t buffer_size)
{
    memset(target, 0, offsetof(struct iscsi_link_target, scratch));
    target->state = ISCSI_LINK_TARGET_LOGIN;
    target->buffer = buffer;
    target->buffer_size = buffer_size;
    iscsi_output_start(&target->output);
    iscsi_receiver_start(&target->receiver, ISCSI_TEXT_LIMIT);
    iscsi_login_start(&target->login, config, ISCSI_TARGET);
}

static enum iscsi_link_event on_pdu(struct iscsi_link_target *target)
{
    if (target->state == ISCSI_LINK_TARGET_LOGIN)
        return on_login(target);
    if (!target->receiver.known)
        return target_fail(target, ISCSI_REJECT_UNSUPPORTED, "a PDU with an unknown opcode");
    switch (target->receiver.pdu.opcode) {
    case ISCSI_SCSI_COMMAND:
        return on_command(target);
    case ISCSI_DATA_OUT:
        return on_data_out(target);
    case ISCSI_NOP_OUT:
        return on_nop_out(target);
    case ISCSI_TEXT_REQUEST:
        return on_text(target);
    case ISCSI_LOGOUT_REQUEST:
        return on_logout(target);
    case ISCSI_TASK_REQUEST:
        if (in_window(target, &target->receiver.pdu)) {
            if (!target->receiver.pdu.immediate)
                target->exp_cmd_sn++;
            put_reject(target, ISCSI_REJECT_UNSUPPORTED);
        }
        return ISCSI_LINK_MORE;
    case ISCSI_SNACK_REQUEST:
        put_reject(target, ISCSI_REJECT_SNACK);
        return ISCSI_LINK_MORE;
    default:
        return protocol_error(target, "a PDU that has no place in the full-feature phase");
    }
}

/* The data of the PDU are not whole in the caller's bytes: those of the command under way go to
 * their place in the buffer, small ones to the scratch. The checks are made again when the PDU is
 * whole. */
static void place(struct iscsi_link_target *target)
{
    struct iscsi_receiver *receiver = &target->receiver;
    const struct iscsi_pdu *pdu = &receiver->pdu;

    if (pdu->opcode == ISCSI_SCSI_COMMAND && target->logged_in) {
        bool next = target->state == ISCSI_LINK_TARGET_READY && in_window(target, pdu) &&
                    !command_check(target, pdu);

        /* The same bound as judge(): a length that fits, and no more data than that. */
        if (next && pdu->command.cdb[0] == 0x3B && pdu->data_size <= target->buffer_size)
            iscsi_receiver_place(receiver, target->buffer, pdu->data_size);
        else
            iscsi_receiver_place(receiver, target->scratch, 0);
    } else if (pdu->opcode == ISCSI_DATA_OUT && target->logged_in) {
        if (!data_out_check(target, pdu) && wants_data(target))
            iscsi_receiver_place(receiver, target->buffer + target->received_size, pdu->data_size);
        else
            iscsi_receiver_place(receiver, target->scratch, 0);
    } else {
        iscsi_receiver_place(receiver, target->scratch, sizeof target->scratch);
    }
}

size_t iscsi_link_target_feed(struct iscsi_link_target *target, const void *bytes, size_t size,
                              enum iscsi_link_event *event)
{
    struct iscsi_receiver *receiver = &target->receiver;
    enum iscsi_receive_event received;
    size_t done = 0;

    *event = ISCSI_LINK_MORE;
    /* Each pass takes a header's bytes or ends, so `size` bounds the passes. */
    while (*event == ISCSI_LINK_MORE && target->state != ISCSI_LINK_TARGET_OVER) {
        if (iscsi_output_room(&target->output) < ANSWER_ROOM + RESPOND_ROOM)
            return done;
        done += iscsi_receiver_step(receiver, size > done ? (const uint8_t *)bytes + done : NULL,
                                    size - done, &received);
        switch (received) {
        case ISCSI_RECEIVE_MORE:
            return done;
        case ISCSI_RECEIVE_HEADER:
            place(target);
            break;
        case ISCSI_RECEIVE_PDU:
            *event = on_pdu(target);
            break;
        case ISCSI_RECEIVE_FAILED:
            *event = target_fail(target, receiver->reject, receiver->reason);
            break;
        }
    }
    if (target->state == ISCSI_LINK_TARGET_OVER) {
        *event = target->ending;
        return size;
    }
    return done;
}

uint32_t iscsi_link_target_wants(struct iscsi_link_target *target, uint8_t **place)
{
    return target->state == ISCSI_LINK_TARGET_OVER ? 0
                                                   : iscsi_receiver_wants(&target->receiver, place);
}

void iscsi_link_target_filled(struct iscsi_link_target *target, uint32_t size)
{
    iscsi_receiver_filled(&target->receiver, size);
}

uint32_t iscsi_link_target_output(struct iscsi_link_target *target, struct iovec **iov)
{
    uint32_t pending = iscsi_output_pending(&target->output);

    target->control_iov =
        (struct iovec){.iov_base = target->output.bytes + target->output.start, .iov_len = pending};
    *iov = &target->control_iov;
    return pending > 0 ? 1 : 0;
}

void iscsi_link_target_sent(struct iscsi_link_target *target, size_t size)
{
    iscsi_output_sent(&target->output, size);
}
