/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The many-commands initiator. Tasks with something to send wait in a queue; each list of pieces is
 * generated from its head, PDU by PDU. Invariants: CmdSN follows the order of the queue's commands;
 * an answer that overtakes the sending of its command's data waits for it. */

#include "front/iscsi_ship.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"

#include <string.h>

#define NO_TASK ((uint16_t)0xFFFF)

enum {
    CONTROL_ROOM = 256 + ISCSI_LOGIN_TEXT_SIZE, /* the largest PDU that one PDU can cause */
    PDU_ROOM = ISCSI_HEADER_ROOM + ISCSI_TRAILER_ROOM,
    PDU_PIECES = 3,
    STATUS_GOOD = 0x00,
};

/* Task tags that no command has. */
#define LOGOUT_TAG ISCSI_SHIP_TAG_END
#define PING_TAG   (ISCSI_SHIP_TAG_END + 1)

_Static_assert(ISCSI_SHIP_POOL_SIZE / ISCSI_SHIP_PDU_LIMIT >= PDU_ROOM, "the pool lasts as long");
_Static_assert(ISCSI_SHIP_IOV_LIMIT / ISCSI_SHIP_PDU_LIMIT >= PDU_PIECES, "and the pieces");
_Static_assert(ISCSI_SHIP_IOV_LIMIT >= ISCSI_SHIP_PDU_PIECES + PDU_PIECES, "for any PDU");

/* Data that were asked for never wait behind a command that waits for the window. */
enum ship_queue { QUEUE_DATA, QUEUE_COMMANDS, QUEUE_COUNT };

static enum iscsi_ship_event ship_end(struct iscsi_ship *ship, enum iscsi_ship_event ending)
{
    ship->state = ISCSI_SHIP_STATE_OVER;
    ship->ending = ending;
    return ending;
}

static enum iscsi_ship_event ship_fail(struct iscsi_ship *ship, const char *reason)
{
    iscsi_reason_set(ship->reason, reason, "");
    return ship_end(ship, ISCSI_SHIP_FAILED);
}

static void control_put(struct iscsi_ship *ship, const struct iscsi_pdu *pdu, const void *data)
{
    iscsi_output_put(&ship->output, pdu, data, ship->logged_in && ship->params.header_digest,
                     ship->logged_in && ship->params.data_digest);
}

void iscsi_ship_start(struct iscsi_ship *ship, const struct iscsi_login_config *config)
{
    memset(ship, 0, offsetof(struct iscsi_ship, control_iov));
    ship->iov_first = ship->iov_count = ship->pool_used = ship->listed_count = 0;
    ship->state = ISCSI_SHIP_STATE_LOGIN;
    for (unsigned i = 0; i < QUEUE_COUNT; i++)
        ship->first[i] = ship->last[i] = NO_TASK;
    iscsi_output_start(&ship->output);
    iscsi_receiver_start(&ship->receiver, ISCSI_TEXT_LIMIT);
    iscsi_login_start(&ship->login, config, ISCSI_INITIATOR);
    control_put(ship, &ship->login.out, ship->login.out_text);
}

/* ---- the queue ---- */

static void send_queue(struct iscsi_ship *ship, enum ship_queue queue, uint32_t itt)
{
    struct iscsi_ship_task *task = &ship->tasks[itt];

    if (task->queued)
        return;
    task->queued = true;
    task->next = NO_TASK;
    if (ship->first[queue] == NO_TASK)
        ship->first[queue] = (uint16_t)itt;
    else
        ship->tasks[ship->last[queue]].next = (uint16_t)itt;
    ship->last[queue] = (uint16_t)itt;
}

static void send_queue_ahead(struct iscsi_ship *ship, enum ship_queue queue, uint32_t itt)
{
    struct iscsi_ship_task *task = &ship->tasks[itt];

    if (ship->first[queue] == NO_TASK) {
        send_queue(ship, queue, itt);
        return;
    }
    task->queued = true;
    task->next = ship->first[queue];
    ship->first[queue] = (uint16_t)itt;
}

static void send_drop_first(struct iscsi_ship *ship, enum ship_queue queue)
{
    struct iscsi_ship_task *task = &ship->tasks[ship->first[queue]];

    task->queued = false;
    ship->first[queue] = task->next;
}

void iscsi_ship_command(struct iscsi_ship *ship, uint32_t itt,
                        const struct iscsi_ship_command *command)
{
    uint32_t index = itt % ISCSI_SHIP_TASK_LIMIT;
    struct iscsi_ship_task *task = &ship->tasks[index];

    CHECK(ship->state == ISCSI_SHIP_STATE_READY);
    CHECK(itt < ISCSI_SHIP_TAG_END);
    CHECK(task->state == ISCSI_SHIP_TASK_FREE);
    CHECK(command->out_bytes == 0 || command->in_bytes == 0);
    task->command = *command;
    task->itt = itt;
    task->state = ISCSI_SHIP_TASK_DUE;
    task->burst = task->next_burst = (struct iscsi_burst){0};
    task->r2t_offset = task->exp_r2t_sn = 0;
    task->received_bytes = task->exp_data_sn = 0;
    task->piece = task->piece_used = 0;
    ship->open_count++;
    if (command->ahead)
        send_queue_ahead(ship, QUEUE_COMMANDS, index);
    else
        send_queue(ship, QUEUE_COMMANDS, index);
}

bool iscsi_ship_ping(struct iscsi_ship *ship)
{
    struct iscsi_pdu pdu = {.opcode = ISCSI_NOP_OUT,
                            .immediate = true,
                            .final = true,
                            .itt = PING_TAG,
                            .ttt = ISCSI_NO_TAG,
                            .cmd_sn = ship->cmd_sn,
                            .exp_stat_sn = ship->exp_stat_sn};

    if (ship->state != ISCSI_SHIP_STATE_READY || ship->ping_pending ||
        iscsi_output_room(&ship->output) < CONTROL_ROOM + iscsi_output_need(0))
        return false;
    ship->ping_pending = true;
    control_put(ship, &pdu, NULL);
    return true;
}

bool iscsi_ship_logout(struct iscsi_ship *ship)
{
    struct iscsi_pdu pdu = {.opcode = ISCSI_LOGOUT_REQUEST,
                            .immediate = true,
                            .final = true,
                            .itt = LOGOUT_TAG,
                            .cmd_sn = ship->cmd_sn,
                            .exp_stat_sn = ship->exp_stat_sn};

    if (ship->state != ISCSI_SHIP_STATE_READY || ship->open_count > 0 ||
        iscsi_output_room(&ship->output) < CONTROL_ROOM + iscsi_output_need(0))
        return false;
    ship->state = ISCSI_SHIP_STATE_LOGOUT;
    control_put(ship, &pdu, NULL);
    return true;
}

/* ---- what comes in ---- */

static enum iscsi_ship_event on_login(struct iscsi_ship *ship, const struct iscsi_pdu *pdu)
{
    struct iscsi_login *login = &ship->login;
    enum iscsi_login_event event = iscsi_login_on_pdu(login, pdu, ship->receiver.data);

    if (event == ISCSI_LOGIN_FAILED)
        return ship_fail(ship, login->reason);
    if (event == ISCSI_LOGIN_REPLY) {
        control_put(ship, &login->out, login->out_text);
        return ISCSI_SHIP_MORE;
    }
    CHECK(event == ISCSI_LOGIN_DONE);
    ship->params = login->negotiation.agreed;
    ship->logged_in = true;
    ship->receiver.header_digest = ship->params.header_digest;
    ship->receiver.data_digest = ship->params.data_digest;
    ship->receiver.data_limit = ship->params.own_data_limit_bytes;
    ship->cmd_sn = login->cmd_sn;
    ship->exp_stat_sn = login->stat_sn;
    ship->exp_cmd_sn = pdu->exp_cmd_sn;
    ship->max_cmd_sn = pdu->max_cmd_sn;
    ship->state = ISCSI_SHIP_STATE_READY;
    return ISCSI_SHIP_LOGGED_IN;
}

/* The command in flight that a PDU names, or NULL. */
static struct iscsi_ship_task *task_of(struct iscsi_ship *ship, const struct iscsi_pdu *pdu)
{
    struct iscsi_ship_task *task = &ship->tasks[pdu->itt % ISCSI_SHIP_TASK_LIMIT];

    return task->state == ISCSI_SHIP_TASK_SENT && task->itt == pdu->itt ? task : NULL;
}

static enum iscsi_ship_event report(struct iscsi_ship *ship, struct iscsi_ship_task *task)
{
    task->state = ISCSI_SHIP_TASK_FREE;
    ship->open_count--;
    ship->done = task->done;
    return ISCSI_SHIP_STATUS;
}

/* task->done holds the status. */
static enum iscsi_ship_event task_over(struct iscsi_ship *ship, struct iscsi_ship_task *task)
{
    if (task->burst.active || task->next_burst.active)
        return ship_fail(ship, "a status before the data were sent");
    task->done.received_bytes = task->received_bytes;
    task->done.sense = task->sense;
    if (!task->in_list)
        return report(ship, task);
    task->state = ISCSI_SHIP_TASK_OVER;
    ship->over_count++;
    return ISCSI_SHIP_MORE;
}

static enum iscsi_ship_event on_response(struct iscsi_ship *ship, const struct iscsi_pdu *pdu)
{
    struct iscsi_ship_task *task = task_of(ship, pdu);
    const uint8_t *data = ship->receiver.data;
    uint32_t sense_size = 0;

    if (!task)
        return ship_fail(ship, "a SCSI Response to no command");
    if (pdu->response.response != 0)
        return ship_fail(ship, "the target could not complete the command");
    if (pdu->response.overflow && pdu->response.underflow)
        return ship_fail(ship, "a residual that is both over and under");
    if (pdu->response.status == STATUS_GOOD && !pdu->response.underflow &&
        (task->r2t_offset != task->command.out_bytes ||
         task->received_bytes != task->command.in_bytes))
        return ship_fail(ship, "GOOD status without all data");
    if (ship->receiver.kept_size >= 2)
        sense_size =
            min_u32(min_u32(get_u16(data), ship->receiver.kept_size - 2), ISCSI_SHIP_SENSE_LIMIT);
    if (sense_size > 0)
        memcpy(task->sense, data + 2, sense_size);
    task->done = (struct iscsi_ship_done){.itt = pdu->itt,
                                          .status = pdu->response.status,
                                          .overflow = pdu->response.overflow,
                                          .underflow = pdu->response.underflow,
                                          .residual = pdu->response.residual,
                                          .sense_bytes = sense_size};
    return task_over(ship, task);
}

static const char *data_in_check(const struct iscsi_ship_task *task, const struct iscsi_pdu *pdu)
{
    if (!task)
        return "a Data-In of no command";
    if (pdu->data.data_sn != task->exp_data_sn)
        return "a Data-In with a wrong DataSN";
    if (pdu->data.offset != task->received_bytes ||
        pdu->data_size > task->command.in_bytes - task->received_bytes)
        return "a Data-In with data that are not due";
    if (pdu->data.has_status && !pdu->final)
        return "a status before the end of a sequence";
    if (pdu->data.has_status && !pdu->data.underflow &&
        task->received_bytes + pdu->data_size != task->command.in_bytes)
        return "a status without all data";
    return NULL;
}

static enum iscsi_ship_event on_data_in(struct iscsi_ship *ship, const struct iscsi_pdu *pdu)
{
    struct iscsi_ship_task *task = task_of(ship, pdu);
    const char *wrong = data_in_check(task, pdu);

    if (wrong)
        return ship_fail(ship, wrong);
    if (pdu->data_size > 0) { /* else the command may have no place for any */
        uint8_t *to = (uint8_t *)task->command.in + task->received_bytes;

        if (ship->receiver.data != to)
            memcpy(to, ship->receiver.data, pdu->data_size);
    }
    task->received_bytes += pdu->data_size;
    task->exp_data_sn++;
    if (!pdu->data.has_status)
        return ISCSI_SHIP_MORE;
    task->done = (struct iscsi_ship_done){.itt = pdu->itt,
                                          .status = pdu->data.status,
                                          .overflow = pdu->data.overflow,
                                          .underflow = pdu->data.underflow,
                                          .residual = pdu->data.residual};
    return task_over(ship, task);
}

static enum iscsi_ship_event on_r2t(struct iscsi_ship *ship, const struct iscsi_pdu *pdu)
{
    struct iscsi_ship_task *task = task_of(ship, pdu);
    const char *wrong;

    if (!task)
        return ship_fail(ship, "an R2T for no command");
    wrong = iscsi_burst_on_r2t(&task->next_burst, pdu, &ship->params, task->command.out_bytes,
                               &task->r2t_offset, &task->exp_r2t_sn);
    if (wrong)
        return ship_fail(ship, wrong);
    ship->r2t_count++;
    send_queue(ship, QUEUE_DATA, pdu->itt % ISCSI_SHIP_TASK_LIMIT);
    return ISCSI_SHIP_MORE;
}

static enum iscsi_ship_event on_nop_in(struct iscsi_ship *ship, const struct iscsi_pdu *pdu)
{
    struct iscsi_pdu answer;

    if (pdu->itt == PING_TAG && ship->ping_pending) {
        ship->ping_pending = false;
        return ISCSI_SHIP_MORE;
    }
    if (pdu->itt != ISCSI_NO_TAG)
        return ship_fail(ship, "a NOP-In that answers nothing");
    if (pdu->ttt != ISCSI_NO_TAG) {
        answer = iscsi_pong(pdu, ship->cmd_sn, ship->exp_stat_sn);
        control_put(ship, &answer, NULL);
    }
    return ISCSI_SHIP_MORE;
}

static enum iscsi_ship_event on_pdu(struct iscsi_ship *ship)
{
    const struct iscsi_pdu *pdu = &ship->receiver.pdu;

    if (!ship->receiver.known)
        return ship_fail(ship, "a PDU with an unknown opcode");
    if (ship->state == ISCSI_SHIP_STATE_LOGIN)
        return on_login(ship, pdu);
    if (pdu->opcode < ISCSI_NOP_IN)
        return ship_fail(ship, "a PDU that only an initiator sends");
    if (iscsi_carries_status(pdu)) {
        if (pdu->stat_sn != ship->exp_stat_sn)
            return ship_fail(ship, "a wrong StatSN");
        ship->exp_stat_sn++;
    }
    iscsi_window_update(pdu, &ship->exp_cmd_sn, &ship->max_cmd_sn);
    switch (pdu->opcode) {
    case ISCSI_SCSI_RESPONSE:
        return on_response(ship, pdu);
    case ISCSI_DATA_IN:
        return on_data_in(ship, pdu);
    case ISCSI_R2T:
        return on_r2t(ship, pdu);
    case ISCSI_NOP_IN:
        return on_nop_in(ship, pdu);
    case ISCSI_REJECT:
        iscsi_reject_reason_set(ship->reason, pdu->reject.reason);
        return ship_end(ship, ISCSI_SHIP_FAILED);
    case ISCSI_ASYNC_MESSAGE:
        return ship_fail(ship, iscsi_async_reason(pdu->async.event));
    case ISCSI_LOGOUT_RESPONSE:
        if (ship->state != ISCSI_SHIP_STATE_LOGOUT || pdu->itt != LOGOUT_TAG)
            return ship_fail(ship, "a Logout Response to no request");
        return ship_end(ship, ISCSI_SHIP_CLOSED);
    default:
        return ship_fail(ship, "a PDU that answers nothing");
    }
}

/* The data of this PDU are not whole in the caller's bytes: data-in go to their place. The checks
 * are made again when the PDU is whole. */
static void place(struct iscsi_ship *ship)
{
    struct iscsi_receiver *receiver = &ship->receiver;
    const struct iscsi_pdu *pdu = &receiver->pdu;
    struct iscsi_ship_task *task =
        ship->logged_in && pdu->opcode == ISCSI_DATA_IN ? task_of(ship, pdu) : NULL;

    if (task && !data_in_check(task, pdu))
        iscsi_receiver_place(receiver, (uint8_t *)task->command.in + task->received_bytes,
                             pdu->data_size);
    else
        iscsi_receiver_place(receiver, ship->scratch, sizeof ship->scratch);
}

/* A status that waited for its command's data to be sent. */
static enum iscsi_ship_event report_over(struct iscsi_ship *ship)
{
    for (uint32_t itt = 0; itt < ISCSI_SHIP_TASK_LIMIT; itt++) {
        struct iscsi_ship_task *task = &ship->tasks[itt];

        if (task->state == ISCSI_SHIP_TASK_OVER && !task->in_list) {
            ship->over_count--;
            return report(ship, task);
        }
    }
    return ISCSI_SHIP_MORE;
}

size_t iscsi_ship_feed(struct iscsi_ship *ship, const void *bytes, size_t size,
                       enum iscsi_ship_event *event)
{
    struct iscsi_receiver *receiver = &ship->receiver;
    enum iscsi_receive_event received;
    size_t done = 0;

    *event = ISCSI_SHIP_MORE;
    if (ship->over_count > 0 && ship->state != ISCSI_SHIP_STATE_OVER)
        *event = report_over(ship);
    /* Each pass takes a header's bytes or ends, so `size` bounds the passes. */
    while (*event == ISCSI_SHIP_MORE && ship->state != ISCSI_SHIP_STATE_OVER) {
        if (receiver->state <= ISCSI_AT_EXTRA && size > done &&
            iscsi_output_room(&ship->output) < CONTROL_ROOM)
            return done;
        done += iscsi_receiver_step(receiver, size > done ? (const uint8_t *)bytes + done : NULL,
                                    size - done, &received);
        switch (received) {
        case ISCSI_RECEIVE_MORE:
            return done;
        case ISCSI_RECEIVE_HEADER:
            place(ship);
            break;
        case ISCSI_RECEIVE_PDU:
            *event = on_pdu(ship);
            break;
        case ISCSI_RECEIVE_FAILED:
            *event = ship_fail(ship, receiver->reason);
            break;
        }
    }
    if (ship->state == ISCSI_SHIP_STATE_OVER) {
        *event = ship->ending;
        return size;
    }
    return done;
}

uint32_t iscsi_ship_wants(struct iscsi_ship *ship, uint8_t **place)
{
    return ship->state == ISCSI_SHIP_STATE_OVER ? 0 : iscsi_receiver_wants(&ship->receiver, place);
}

void iscsi_ship_filled(struct iscsi_ship *ship, uint32_t size)
{
    iscsi_receiver_filled(&ship->receiver, size);
}

/* ---- what goes out ---- */

static void list_add(struct iscsi_ship *ship, const void *bytes, size_t size)
{
    CHECK(ship->iov_count < ISCSI_SHIP_IOV_LIMIT);
    /* struct iovec has no const; nothing writes there. */
    ship->list_bytes += size;
    ship->iov[ship->iov_count++] =
        (struct iovec){.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
}

/* How many of the next `most` bytes of a command's data one PDU can hold. */
static uint32_t pieces_fit(const struct iscsi_ship_task *task, uint32_t most)
{
    uint32_t fit = 0, used = task->piece_used;

    if (task->command.out)
        return most;
    for (uint32_t i = 0; i < ISCSI_SHIP_PDU_PIECES && fit < most; i++, used = 0)
        fit += (uint32_t)min_u64(task->command.pieces[task->piece + i].iov_len - used, most - fit);
    return fit;
}

/* The next `left` bytes of the command's data, which are sent in order, from `offset` on. Returns
 * the digest of them all when one is wanted. */
static uint32_t list_data(struct iscsi_ship *ship, struct iscsi_ship_task *task, uint32_t offset,
                          uint32_t left, bool digest)
{
    const struct iscsi_ship_command *command = &task->command;
    uint32_t crc = CRC32C_START;

    if (command->out) {
        const uint8_t *data = (const uint8_t *)command->out + offset;

        list_add(ship, data, left);
        return digest ? crc32c_more(crc, data, left) : crc;
    }
    while (left > 0) {
        const struct iovec *piece = &command->pieces[task->piece];
        const uint8_t *data = (const uint8_t *)piece->iov_base + task->piece_used;
        uint32_t size = (uint32_t)min_u64(piece->iov_len - task->piece_used, left);

        CHECK(size > 0);
        list_add(ship, data, size);
        if (digest)
            crc = crc32c_more(crc, data, size);
        task->piece_used += size;
        left -= size;
        if (task->piece_used == piece->iov_len) {
            task->piece++;
            task->piece_used = 0;
        }
    }
    return crc;
}

/* A PDU with pdu->data_size bytes of the command's data, from `offset` on. */
static void list_pdu(struct iscsi_ship *ship, uint32_t index, const struct iscsi_pdu *pdu,
                     uint32_t offset)
{
    const bool digest = ship->params.data_digest;
    uint8_t *to = ship->pool + ship->pool_used;
    uint32_t size = iscsi_header_put(pdu, ship->params.header_digest, to), crc;

    ship->tasks[index].in_list = true;
    ship->listed[ship->listed_count++] = (uint16_t)index;
    list_add(ship, to, size);
    ship->pool_used += size;
    if (pdu->data_size == 0)
        return;
    crc = list_data(ship, &ship->tasks[index], offset, pdu->data_size, digest);
    to += size;
    size = iscsi_trailer_put(pdu->data_size, digest, crc, to);
    if (size > 0)
        list_add(ship, to, size);
    ship->pool_used += size;
}

static void generate_command(struct iscsi_ship *ship, uint32_t index)
{
    struct iscsi_ship_task *task = &ship->tasks[index];
    const struct iscsi_ship_command *command = &task->command;
    uint32_t immediate, unsolicited;
    struct iscsi_pdu pdu = {.opcode = ISCSI_SCSI_COMMAND,
                            .lun = get_u64(command->lun),
                            .itt = task->itt,
                            .cmd_sn = ship->cmd_sn++,
                            .exp_stat_sn = ship->exp_stat_sn};

    iscsi_burst_first(&ship->params, command->out_bytes, &immediate, &unsolicited);
    immediate = pieces_fit(task, immediate);
    if (ship->params.initial_r2t)
        unsolicited = immediate;
    pdu.final = unsolicited == immediate;
    pdu.data_size = immediate;
    pdu.command.read = command->in_bytes > 0;
    pdu.command.write = command->out_bytes > 0;
    pdu.command.attribute = ISCSI_SIMPLE;
    pdu.command.expected_size = command->in_bytes + command->out_bytes;
    memcpy(pdu.command.cdb, command->cdb, sizeof pdu.command.cdb);
    task->state = ISCSI_SHIP_TASK_SENT;
    task->r2t_offset = unsolicited;
    task->burst = (struct iscsi_burst){.at = immediate,
                                       .end = unsolicited,
                                       .ttt = ISCSI_NO_TAG,
                                       .active = unsolicited > immediate};
    send_drop_first(ship, QUEUE_COMMANDS);
    if (task->burst.active)
        send_queue(ship, QUEUE_DATA, index);
    list_pdu(ship, index, &pdu, 0);
}

static void generate_data_out(struct iscsi_ship *ship, uint32_t index)
{
    struct iscsi_ship_task *task = &ship->tasks[index];
    struct iscsi_pdu pdu;
    uint32_t most;

    if (!task->burst.active) {
        task->burst = task->next_burst;
        task->next_burst.active = false;
    }
    most = min_u32(ship->params.peer_data_limit_bytes, task->burst.end - task->burst.at);
    pdu = iscsi_burst_next(&task->burst, pieces_fit(task, most), task->itt, ship->exp_stat_sn);
    if (!task->burst.active && !task->next_burst.active)
        send_drop_first(ship, QUEUE_DATA);
    list_pdu(ship, index, &pdu, pdu.data.offset);
}

/* Fill the list with what can be sent now. */
static void generate(struct iscsi_ship *ship)
{
    ship->iov_first = 0;
    ship->iov_count = 0;
    ship->pool_used = 0;
    ship->listed_count = 0;
    ship->list_bytes = 0;
    while (ship->state == ISCSI_SHIP_STATE_READY && ship->listed_count < ISCSI_SHIP_PDU_LIMIT &&
           ship->list_bytes < ISCSI_SHIP_LIST_BYTES &&
           ship->iov_count + ISCSI_SHIP_PDU_PIECES + PDU_PIECES <= ISCSI_SHIP_IOV_LIMIT) {
        if (ship->first[QUEUE_DATA] != NO_TASK) {
            generate_data_out(ship, ship->first[QUEUE_DATA]);
            continue;
        }
        /* When the window is closed the next PDU from the target may open it. */
        if (ship->first[QUEUE_COMMANDS] == NO_TASK ||
            iscsi_sn_before(ship->max_cmd_sn, ship->cmd_sn))
            return;
        generate_command(ship, ship->first[QUEUE_COMMANDS]);
    }
}

uint32_t iscsi_ship_output(struct iscsi_ship *ship, struct iovec **iov)
{
    if (ship->iov_first == ship->iov_count) {
        uint32_t pending = iscsi_output_pending(&ship->output);

        if (pending > 0) {
            ship->control_iov = (struct iovec){.iov_base = ship->output.bytes + ship->output.start,
                                               .iov_len = pending};
            *iov = &ship->control_iov;
            return 1;
        }
        generate(ship);
    }
    *iov = ship->iov + ship->iov_first;
    return ship->iov_count - ship->iov_first;
}

void iscsi_ship_sent(struct iscsi_ship *ship, size_t size)
{
    if (ship->iov_first == ship->iov_count) {
        iscsi_output_sent(&ship->output, size);
        return;
    }
    while (size > 0) {
        struct iovec *piece = &ship->iov[ship->iov_first];
        size_t take;

        CHECK(ship->iov_first < ship->iov_count);
        take = min_u64(size, piece->iov_len);
        piece->iov_base = (uint8_t *)piece->iov_base + take;
        piece->iov_len -= take;
        size -= take;
        if (piece->iov_len == 0)
            ship->iov_first++;
    }
    if (ship->iov_first < ship->iov_count)
        return;
    for (uint32_t i = 0; i < ship->listed_count; i++)
        ship->tasks[ship->listed[i]].in_list = false;
}
