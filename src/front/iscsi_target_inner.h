/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What the parts of the iSCSI target share; only front/iscsi_target*.c include it. It holds no code
 * that touches foreign bytes. */

#ifndef FRONT_ISCSI_TARGET_INNER_H
#define FRONT_ISCSI_TARGET_INNER_H

#include "front/iscsi_target.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"

#include <string.h>

#define NO_TASK ((uint16_t)0xFFFF)

enum task_kind { KIND_COMMAND, KIND_MANAGE, KIND_LOGOUT };

enum {
    /* The largest answer to one PDU, and what the target may say on its own account on top. */
    ANSWER_ROOM = ISCSI_TARGET_SCRATCH_SIZE + 128,
    OWN_ROOM = 256,
};

/* What a request's CmdSN says (RFC 7143 4.2.2.1). */
enum order {
    ORDER_NOW,    /* immediate, or the next one */
    ORDER_AHEAD,  /* in the window, but others are missing before it */
    ORDER_IGNORE, /* out of the window, or there already */
};

/* ---- iscsi_target.c ---- */

enum iscsi_target_event target_end(struct iscsi_target *target, enum iscsi_target_event ending);
/* The host breaks the protocol: with error recovery level 0 that ends the session (RFC 7143 7.1.5);
 * `reject` 0: without a Reject. */
enum iscsi_target_event target_fail(struct iscsi_target *target, uint8_t reject,
                                    const char *reason);
enum iscsi_target_event target_protocol_error(struct iscsi_target *target, const char *reason);
/* A PDU to the host with the sequence numbers that hold now. */
struct iscsi_pdu target_answer(const struct iscsi_target *target, uint8_t opcode, uint32_t itt);
void target_put(struct iscsi_target *target, const struct iscsi_pdu *pdu, const void *data);
/* The data segment of a Reject is the header that was wrong (RFC 7143 11.17). */
void target_reject(struct iscsi_target *target, uint8_t reason);
uint32_t target_next_tag(struct iscsi_target *target);

/* ---- iscsi_target_task.c ---- */

/* Whether a slot can be had for one more request. */
bool task_slot_there(const struct iscsi_target *target);
enum order task_order(const struct iscsi_target *target, const struct iscsi_pdu *pdu);
/* A request that keeps no slot was taken: its CmdSN is used up. */
void task_order_take(struct iscsi_target *target, const struct iscsi_pdu *pdu, enum order order);
/* A SCSI Command whose header is here; its data are whole at `data`, or `data` is NULL and they are
 * still to come, or there are none. */
enum iscsi_target_event task_on_command(struct iscsi_target *target, const uint8_t *data);
/* The data of a command that was announced by its header are whole. */
enum iscsi_target_event task_on_command_data(struct iscsi_target *target);
/* A Data-Out whose header is here: its task, or NULL when its data are to be dropped; or
 * `*event` is FAILED. */
struct iscsi_target_task *task_of_data_out(struct iscsi_target *target,
                                           enum iscsi_target_event *event);
enum iscsi_target_event task_on_data_out(struct iscsi_target *target,
                                         struct iscsi_target_task *task);
/* A Data-Out that was dropped came to its end. */
void task_on_dropped_data(struct iscsi_target *target);
enum iscsi_target_event task_on_manage(struct iscsi_target *target);
enum iscsi_target_event task_on_logout(struct iscsi_target *target);
/* What is due without bytes: the data of a command that came early, and requests whose turn has
 * come. */
enum iscsi_target_event task_due(struct iscsi_target *target);
/* The caller was told of a command and has not said where the data go that come now: see to it. */
void task_settle(struct iscsi_target *target);
/* The answer of a task was generated: it uses no CmdSN any more, and ends with the output list. */
void task_left(struct iscsi_target *target, struct iscsi_target_task *task);
/* All that the output list pointed at was sent. */
void task_list_over(struct iscsi_target *target);
struct iscsi_target_task *task_send_first(struct iscsi_target *target);
void task_send_drop_first(struct iscsi_target *target);

/* ---- iscsi_target_text.c ---- */

enum iscsi_target_event text_on_request(struct iscsi_target *target);

#endif
