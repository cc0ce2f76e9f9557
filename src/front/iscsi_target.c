/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The iSCSI target's session: the login with its question to the caller, the dispatch of PDUs, and
 * small requests. Tasks and their data are iscsi_target_task's, what goes out of them is
 * iscsi_target_output's. Invariant: the full-feature phase is entered in one place, and every way
 * out of it goes through target_end(). */

#include "front/iscsi_target_inner.h"

_Static_assert(ANSWER_ROOM + OWN_ROOM < ISCSI_OUTPUT_SIZE, "an empty queue takes any answer");
_Static_assert((int)ISCSI_LOGIN_TEXT_SIZE <= (int)ISCSI_TARGET_SCRATCH_SIZE, "and any login");
_Static_assert((int)ISCSI_TEXT_LIMIT <= (int)ISCSI_TARGET_SCRATCH_SIZE, "login text in pieces");

struct iscsi_params iscsi_target_wish(void)
{
    struct iscsi_params wish = iscsi_params_default();

    wish.header_digest = wish.data_digest = true; /* when the host offers them first */
    wish.initial_r2t = false;
    wish.max_burst_bytes = 1 << 20;
    wish.first_burst_bytes = 1 << 18;
    wish.own_data_limit_bytes = 1 << 18;
    return wish;
}

enum iscsi_target_event target_end(struct iscsi_target *target, enum iscsi_target_event ending)
{
    target->state = ISCSI_TARGET_STATE_OVER;
    target->ending = ending;
    return ending;
}

/* ---- small PDUs ---- */

struct iscsi_pdu target_answer(const struct iscsi_target *target, uint8_t opcode, uint32_t itt)
{
    return (struct iscsi_pdu){.opcode = opcode,
                              .final = true,
                              .itt = itt,
                              .stat_sn = target->stat_sn,
                              .exp_cmd_sn = target->exp_cmd_sn,
                              /* Held requests stand in the window beyond ExpCmdSN. */
                              .max_cmd_sn = target->exp_cmd_sn - 1 + target->window -
                                            target->window_used + target->held_count};
}

void target_put(struct iscsi_target *target, const struct iscsi_pdu *pdu, const void *data)
{
    const bool full = target->state != ISCSI_TARGET_STATE_LOGIN;

    iscsi_output_put(&target->output, pdu, data, full && target->params.header_digest,
                     full && target->params.data_digest);
}

void target_reject(struct iscsi_target *target, uint8_t reason)
{
    struct iscsi_pdu pdu = target_answer(target, ISCSI_REJECT, ISCSI_NO_TAG);

    pdu.data_size = ISCSI_BHS_SIZE;
    pdu.reject.reason = reason;
    target->stat_sn++;
    target->reject_count++;
    target_put(target, &pdu, target->receiver.header);
}

enum iscsi_target_event target_fail(struct iscsi_target *target, uint8_t reject, const char *reason)
{
    iscsi_reason_set(target->reason, reason, "");
    if (reject != 0 && target->state == ISCSI_TARGET_STATE_FULL)
        target_reject(target, reject);
    return target_end(target, ISCSI_TARGET_FAILED);
}

enum iscsi_target_event target_protocol_error(struct iscsi_target *target, const char *reason)
{
    return target_fail(target, ISCSI_REJECT_PROTOCOL, reason);
}

uint32_t target_next_tag(struct iscsi_target *target)
{
    if (++target->next_ttt == ISCSI_NO_TAG)
        target->next_ttt = 1;
    return target->next_ttt;
}

bool iscsi_target_ping(struct iscsi_target *target)
{
    struct iscsi_pdu pdu;

    if (target->state != ISCSI_TARGET_STATE_FULL || target->ping_pending ||
        iscsi_output_room(&target->output) < ANSWER_ROOM + OWN_ROOM)
        return false;
    target->ping_pending = true;
    target->ping_ttt = target_next_tag(target);
    pdu = target_answer(target, ISCSI_NOP_IN, ISCSI_NO_TAG);
    pdu.ttt = target->ping_ttt;
    target_put(target, &pdu, NULL);
    return true;
}

bool iscsi_target_async(struct iscsi_target *target, enum iscsi_target_async event, uint16_t first,
                        uint16_t second, uint16_t third)
{
    struct iscsi_pdu pdu;

    if (target->state != ISCSI_TARGET_STATE_FULL ||
        iscsi_output_room(&target->output) < ANSWER_ROOM + OWN_ROOM)
        return false;
    pdu = target_answer(target, ISCSI_ASYNC_MESSAGE, ISCSI_NO_TAG);
    pdu.async.event = (uint8_t)event;
    pdu.async.parameter[0] = first;
    pdu.async.parameter[1] = second;
    pdu.async.parameter[2] = third;
    target->stat_sn++;
    target_put(target, &pdu, NULL);
    return true;
}

/* RFC 7143 11.18: with a task tag it is the host's ping; without one it answers ours, or only
 * brings sequence numbers. */
static enum iscsi_target_event on_nop_out(struct iscsi_target *target)
{
    const struct iscsi_pdu *pdu = &target->receiver.pdu;
    enum order order = task_order(target, pdu);
    struct iscsi_pdu answer;

    if (order == ORDER_IGNORE) {
        target->ignored_count++;
        return ISCSI_TARGET_MORE;
    }
    task_order_take(target, pdu, order);
    if (pdu->itt == ISCSI_NO_TAG) {
        if (pdu->ttt == ISCSI_NO_TAG)
            return ISCSI_TARGET_MORE;
        if (target->ping_pending && pdu->ttt == target->ping_ttt) {
            target->ping_pending = false;
            return ISCSI_TARGET_PONG;
        }
    }
    if (pdu->ttt != ISCSI_NO_TAG) {
        target_reject(target, ISCSI_REJECT_INVALID_FIELD);
        return ISCSI_TARGET_MORE;
    }
    answer = target_answer(target, ISCSI_NOP_IN, pdu->itt);
    answer.ttt = ISCSI_NO_TAG;
    answer.lun = pdu->lun;
    answer.data_size = min_u32(min_u32(target->receiver.kept_size, ISCSI_TARGET_SCRATCH_SIZE),
                               target->params.peer_data_limit_bytes);
    target->stat_sn++;
    target_put(target, &answer, target->receiver.data);
    return ISCSI_TARGET_MORE;
}

/* ---- login ---- */

/* The one way into the full-feature phase. */
static void enter_full(struct iscsi_target *target)
{
    const struct iscsi_login *login = &target->login->login;

    target->params = login->negotiation.agreed;
    target->authenticated = login->authenticated;
    target->tsih = login->tsih;
    target->cid = login->cid;
    target->portal_group_tag = target->login->config.portal_group_tag;
    target->stat_sn = login->stat_sn;
    target->exp_cmd_sn = login->cmd_sn;
    target->receiver.header_digest = target->params.header_digest;
    target->receiver.data_digest = target->params.data_digest;
    target->receiver.data_limit = target->params.own_data_limit_bytes;
    target->login = NULL;
    target->state = ISCSI_TARGET_STATE_FULL;
}

static enum iscsi_target_event ask(struct iscsi_target *target)
{
    const struct iscsi_login *login = &target->login->login;

    memcpy(target->initiator_name, login->initiator_name, sizeof target->initiator_name);
    memcpy(target->isid, login->isid, sizeof target->isid);
    target->discovery = login->discovery;
    target->identify = (struct iscsi_target_identify){
        .initiator_name = target->initiator_name,
        .target_name = *login->target_name ? login->target_name : NULL,
        .discovery = login->discovery};
    memcpy(target->identify.isid, login->isid, sizeof login->isid);
    target->admitted = false;
    target->state = ISCSI_TARGET_STATE_ASKED;
    return ISCSI_TARGET_IDENTIFY;
}

static enum iscsi_target_event on_login_event(struct iscsi_target *target,
                                              enum iscsi_login_event event)
{
    struct iscsi_login *login = &target->login->login;

    if (event == ISCSI_LOGIN_IDENTIFY)
        return ask(target);
    target->state = ISCSI_TARGET_STATE_LOGIN;
    target_put(target, &login->out, login->out_text);
    switch (event) {
    case ISCSI_LOGIN_FAILED:
        iscsi_reason_set(target->reason, "login: ", login->reason);
        return target_end(target, ISCSI_TARGET_FAILED);
    case ISCSI_LOGIN_DONE:
        enter_full(target);
        return ISCSI_TARGET_LOGGED_IN;
    default:
        return ISCSI_TARGET_MORE;
    }
}

void iscsi_target_admit(struct iscsi_target *target, const struct iscsi_target_admission *admission)
{
    struct iscsi_login_config *config = &target->login->config;

    CHECK(target->state == ISCSI_TARGET_STATE_ASKED && !target->admitted);
    config->target_name = admission->target_name;
    config->alias = admission->alias;
    config->tsih = admission->tsih;
    config->portal_group_tag = admission->portal_group_tag;
    config->wish = admission->wish;
    config->peer = admission->initiator;
    config->self = admission->self;
    target->nodes = admission->nodes;
    target->node_count = admission->node_count;
    target->target_name = admission->target_name;
    target->admitted = true;
    target->refusal = 0;
}

void iscsi_target_refuse(struct iscsi_target *target, uint16_t status, const char *reason)
{
    CHECK(target->state == ISCSI_TARGET_STATE_ASKED && !target->admitted);
    CHECK(status != 0);
    target->admitted = true;
    target->refusal = status;
    target->refusal_reason = reason;
}

/* ---- bytes ---- */

void iscsi_target_start(struct iscsi_target *target, struct iscsi_target_login *login,
                        struct iscsi_target_task *tasks, uint32_t window,
                        const struct iscsi_crypto *crypto, uint32_t first_sn)
{
    CHECK(window >= 1 && window <= ISCSI_TARGET_WINDOW_LIMIT);
    memset(target, 0, offsetof(struct iscsi_target, iov));
    target->state = ISCSI_TARGET_STATE_LOGIN;
    target->login = login;
    target->tasks = tasks;
    target->window = window;
    target->task_count = (uint16_t)ISCSI_TARGET_TASKS(window);
    target->free_first = target->send_first = target->send_last = NO_TASK;
    target->list_first = target->list_last = NO_TASK;
    target->released_first = target->released_last = NO_TASK;
    target->placing = target->announced = target->due = NO_TASK;
    target->text_ttt = ISCSI_NO_TAG;
    iscsi_output_start(&target->output);
    iscsi_receiver_start(&target->receiver, ISCSI_TEXT_LIMIT);
    login->config = (struct iscsi_login_config){
        .identify = true, .first_sn = first_sn, .crypto = crypto, .wish = iscsi_target_wish()};
    iscsi_login_start(&login->login, &login->config, ISCSI_TARGET);
}

static enum iscsi_target_event on_data_out(struct iscsi_target *target)
{
    enum iscsi_target_event event = ISCSI_TARGET_MORE;
    struct iscsi_target_task *task = target->placing != NO_TASK ? &target->tasks[target->placing]
                                                                : task_of_data_out(target, &event);

    if (event != ISCSI_TARGET_MORE)
        return event;
    if (task)
        return task_on_data_out(target, task);
    target->ignored_count++;
    return ISCSI_TARGET_MORE;
}

/* A whole PDU; a command's header may have been looked at before. */
static enum iscsi_target_event on_pdu(struct iscsi_target *target, bool header_seen)
{
    struct iscsi_receiver *receiver = &target->receiver;
    const uint8_t opcode = receiver->pdu.opcode;

    if (target->state == ISCSI_TARGET_STATE_LOGIN)
        return on_login_event(
            target, iscsi_login_on_pdu(&target->login->login, &receiver->pdu, receiver->data));
    if (receiver->known && target->discovery && opcode != ISCSI_TEXT_REQUEST &&
        opcode != ISCSI_LOGOUT_REQUEST && opcode != ISCSI_NOP_OUT)
        return target_protocol_error(target, "a request that a discovery session does not have");
    switch (receiver->known ? opcode : 0xFF) {
    case ISCSI_SCSI_COMMAND:
        return header_seen ? task_on_command_data(target) : task_on_command(target, receiver->data);
    case ISCSI_DATA_OUT:
        return on_data_out(target);
    case ISCSI_NOP_OUT:
        return on_nop_out(target);
    case ISCSI_TEXT_REQUEST:
        return text_on_request(target);
    case ISCSI_LOGOUT_REQUEST:
        return task_on_logout(target);
    case ISCSI_TASK_REQUEST:
        return task_on_manage(target);
    case ISCSI_SNACK_REQUEST:
        target_reject(target, ISCSI_REJECT_SNACK);
        return ISCSI_TARGET_MORE;
    case 0xFF:
        /* Its lengths are where they are in every PDU, so the stream is still in step. */
        target_reject(target, ISCSI_REJECT_UNSUPPORTED);
        return ISCSI_TARGET_MORE;
    default:
        return target_protocol_error(target, "a PDU that has no place in the full-feature phase");
    }
}

/* The header of a PDU whose data are not whole in the caller's bytes. */
static enum iscsi_target_event on_header(struct iscsi_target *target)
{
    struct iscsi_receiver *receiver = &target->receiver;
    enum iscsi_target_event event = ISCSI_TARGET_MORE;
    struct iscsi_target_task *task;

    target->placing = NO_TASK;
    if (target->state != ISCSI_TARGET_STATE_FULL || target->discovery || !receiver->known ||
        (receiver->pdu.opcode != ISCSI_SCSI_COMMAND && receiver->pdu.opcode != ISCSI_DATA_OUT)) {
        iscsi_receiver_place(receiver, target->scratch, sizeof target->scratch);
        return event;
    }
    if (receiver->pdu.opcode == ISCSI_SCSI_COMMAND) {
        event = task_on_command(target, NULL);
    } else {
        task = task_of_data_out(target, &event);
        if (task && task->state != ISCSI_TASK_ABORTED)
            target->placing = (uint16_t)task->index;
    }
    if (event == ISCSI_TARGET_MORE)
        task_settle(target);
    return event;
}

/* Whether the next PDU may be begun: there is room for its answer, and a slot, unless slots will
 * not become free by sending. */
static bool may_begin(const struct iscsi_target *target)
{
    return iscsi_output_room(&target->output) >= ANSWER_ROOM + OWN_ROOM &&
           (target->leaving_count == 0 || task_slot_there(target));
}

static enum iscsi_target_event next_event(struct iscsi_target *target, const uint8_t *bytes,
                                          size_t size, size_t *done, bool *more)
{
    struct iscsi_receiver *receiver = &target->receiver;
    enum iscsi_receive_event received;
    bool header_seen;

    if (receiver->state <= ISCSI_AT_EXTRA && size > 0 && !may_begin(target)) {
        *more = false;
        return ISCSI_TARGET_MORE;
    }
    *done += iscsi_receiver_step(receiver, bytes, size, &received);
    switch (received) {
    case ISCSI_RECEIVE_HEADER:
        target->header_seen = true;
        return on_header(target);
    case ISCSI_RECEIVE_PDU:
        header_seen = target->header_seen;
        target->header_seen = false;
        return on_pdu(target, header_seen);
    case ISCSI_RECEIVE_FAILED:
        return target_fail(target, receiver->reject, receiver->reason);
    case ISCSI_RECEIVE_MORE:
        break;
    }
    *more = false;
    return ISCSI_TARGET_MORE;
}

size_t iscsi_target_feed(struct iscsi_target *target, const void *bytes, size_t size,
                         enum iscsi_target_event *event)
{
    size_t done = 0;
    bool more = true;

    *event = ISCSI_TARGET_MORE;
    if (target->state == ISCSI_TARGET_STATE_ASKED) {
        if (!target->admitted)
            return 0;
        *event = on_login_event(target, iscsi_login_admit(&target->login->login, target->refusal,
                                                          target->refusal_reason));
    }
    task_settle(target);
    /* Each pass takes a header's bytes, or hands out what was kept, or ends. */
    while (*event == ISCSI_TARGET_MORE && more && target->state != ISCSI_TARGET_STATE_OVER) {
        if (target->due != NO_TASK || target->ahead_count > 0)
            *event = task_due(target);
        if (*event == ISCSI_TARGET_MORE)
            *event = next_event(target, size > done ? (const uint8_t *)bytes + done : NULL,
                                size - done, &done, &more);
    }
    if (target->state == ISCSI_TARGET_STATE_OVER) {
        *event = target->ending;
        return size;
    }
    return done;
}

uint32_t iscsi_target_wants(struct iscsi_target *target, uint8_t **place)
{
    if (target->state == ISCSI_TARGET_STATE_OVER)
        return 0;
    return iscsi_receiver_wants(&target->receiver, place);
}

void iscsi_target_filled(struct iscsi_target *target, uint32_t size)
{
    iscsi_receiver_filled(&target->receiver, size);
}
