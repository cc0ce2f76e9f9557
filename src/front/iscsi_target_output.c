/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What the iSCSI target sends. Tasks wait in a queue; a list of pieces is generated from it,
 * headers and trailers in the pool, data where the caller has them. Invariants: sequence numbers
 * are given when a PDU is generated, so they are in the order of the wire; a list is generated only
 * when the last one and the small PDUs are sent. */

#include "front/iscsi_target_inner.h"

enum { STATUS_GOOD = 0x00, PDU_ROOM = ISCSI_HEADER_ROOM + 2 + ISCSI_TRAILER_ROOM, PDU_PIECES = 3 };

_Static_assert(PDU_ROOM <= ISCSI_TARGET_POOL_SIZE / (ISCSI_TARGET_IOV_LIMIT / PDU_PIECES),
               "the pool lasts as long as the list");

static void list_add(struct iscsi_target *target, const void *bytes, size_t size)
{
    CHECK(target->iov_count < ISCSI_TARGET_IOV_LIMIT);
    /* struct iovec has no const; nothing writes there. */
    target->iov[target->iov_count++] =
        (struct iovec){.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
}

/* A header, with `extra_size` bytes of the data segment behind it. */
static void list_header(struct iscsi_target *target, const struct iscsi_pdu *pdu,
                        const uint8_t *extra, uint32_t extra_size)
{
    uint8_t *to = target->pool + target->pool_used;
    uint32_t size = iscsi_header_put(pdu, target->params.header_digest, to);

    if (extra_size > 0)
        memcpy(to + size, extra, extra_size);
    list_add(target, to, size + extra_size);
    target->pool_used += size + extra_size;
}

static void list_trailer(struct iscsi_target *target, uint32_t data_size, uint32_t crc)
{
    uint8_t *to = target->pool + target->pool_used;
    uint32_t size = iscsi_trailer_put(data_size, target->params.data_digest, crc, to);

    if (size > 0)
        list_add(target, to, size);
    target->pool_used += size;
}

static void generate_r2t(struct iscsi_target *target, struct iscsi_target_task *task)
{
    uint32_t size =
        min_u32(target->params.max_burst_bytes, task->place_bytes - task->arrived_bytes);
    struct iscsi_pdu pdu;

    task_send_drop_first(target);
    task->sequence_open = true;
    task->sequence_end = task->arrived_bytes + size;
    task->sequence_ttt = target_next_tag(target);
    task->exp_data_sn = 0;
    pdu = target_answer(target, ISCSI_R2T, task->itt);
    pdu.lun = get_u64(task->lun);
    pdu.ttt = task->sequence_ttt;
    pdu.r2t.r2t_sn = task->r2t_sn++;
    pdu.r2t.offset = task->arrived_bytes;
    pdu.r2t.desired_size = size;
    list_header(target, &pdu, NULL, 0);
}

/* RFC 7143 11.4.5: how much more or less the command had than was expected. */
static uint32_t residual_of(const struct iscsi_target_task *task, bool *overflow, bool *underflow)
{
    uint32_t expected = task->read || task->write ? task->expected_bytes : 0;
    uint32_t had = task->write ? task->answer.out_bytes : task->answer.data_bytes;

    *overflow = had > expected;
    *underflow = had < expected;
    return *overflow ? had - expected : expected - had;
}

/* The next Data-In. The last one carries the status when that is GOOD; a sequence ends with each
 * MaxBurstLength (RFC 7143 11.7). */
static void generate_data_in(struct iscsi_target *target, struct iscsi_target_task *task)
{
    const struct iscsi_params *params = &target->params;
    uint32_t left = task->data_send - task->data_at;
    uint32_t burst_left = params->max_burst_bytes - task->data_at % params->max_burst_bytes;
    uint32_t size = min_u32(min_u32(left, burst_left), params->peer_data_limit_bytes);
    const uint8_t *data = (const uint8_t *)task->answer.data + task->data_at;
    const bool has_status = size == left && task->answer.status == STATUS_GOOD;
    struct iscsi_pdu pdu;

    if (has_status)
        task_left(target, task);
    pdu = target_answer(target, ISCSI_DATA_IN, task->itt);
    pdu.final = size == left || size == burst_left;
    pdu.data_size = size;
    pdu.ttt = ISCSI_NO_TAG;
    pdu.data.data_sn = task->data_in_sn++;
    pdu.data.offset = task->data_at;
    if (has_status) {
        pdu.data.has_status = true;
        pdu.data.residual = residual_of(task, &pdu.data.overflow, &pdu.data.underflow);
        target->stat_sn++;
    }
    task->data_at += size;
    task->in_list = true;
    list_header(target, &pdu, NULL, 0);
    list_add(target, data, size);
    list_trailer(target, size,
                 params->data_digest ? crc32c_more(CRC32C_START, data, size) : CRC32C_START);
}

/* The SCSI Response (RFC 7143 11.4); sense data behind their length. */
static void generate_response(struct iscsi_target *target, struct iscsi_target_task *task)
{
    uint32_t sense_size = task->answer.sense_bytes;
    uint8_t length[2];
    struct iscsi_pdu pdu;
    uint32_t crc = CRC32C_START;

    task_left(target, task);
    pdu = target_answer(target, ISCSI_SCSI_RESPONSE, task->itt);
    target->stat_sn++;
    pdu.response.status = task->answer.status;
    pdu.response.exp_data_sn = task->r2t_sn + task->data_in_sn;
    pdu.response.residual = residual_of(task, &pdu.response.overflow, &pdu.response.underflow);
    if (sense_size == 0) {
        list_header(target, &pdu, NULL, 0);
        return;
    }
    pdu.data_size = sense_size + (uint32_t)sizeof length;
    put_u16(length, (uint16_t)sense_size);
    list_header(target, &pdu, length, sizeof length);
    list_add(target, task->answer.sense, sense_size);
    if (target->params.data_digest)
        crc = crc32c_more(crc32c_more(crc, length, sizeof length), task->answer.sense, sense_size);
    list_trailer(target, pdu.data_size, crc);
}

static void generate_other(struct iscsi_target *target, struct iscsi_target_task *task)
{
    const bool manage = task->kind == KIND_MANAGE;
    struct iscsi_pdu pdu;

    task_left(target, task);
    pdu = target_answer(target, manage ? ISCSI_TASK_RESPONSE : ISCSI_LOGOUT_RESPONSE, task->itt);
    target->stat_sn++;
    if (manage)
        pdu.task.response = task->response;
    else
        pdu.logout.response = task->response;
    list_header(target, &pdu, NULL, 0);
}

/* Fill the list with what can be sent now. */
static void generate(struct iscsi_target *target)
{
    struct iscsi_target_task *task;

    target->iov_first = 0;
    target->iov_count = 0;
    target->pool_used = 0;
    if (target->state == ISCSI_TARGET_STATE_OVER && target->ending == ISCSI_TARGET_FAILED)
        return;
    while ((task = task_send_first(target)) != NULL &&
           target->iov_count + PDU_PIECES <= ISCSI_TARGET_IOV_LIMIT &&
           target->pool_used + PDU_ROOM <= ISCSI_TARGET_POOL_SIZE) {
        if (task->kind != KIND_COMMAND)
            generate_other(target, task);
        else if (!task->answered)
            generate_r2t(target, task);
        else if (task->data_at < task->data_send)
            generate_data_in(target, task);
        else
            generate_response(target, task);
    }
}

uint32_t iscsi_target_output(struct iscsi_target *target, struct iovec **iov)
{
    if (target->iov_first == target->iov_count) {
        uint32_t pending = iscsi_output_pending(&target->output);

        if (pending > 0) {
            target->control_iov = (struct iovec){
                .iov_base = target->output.bytes + target->output.start, .iov_len = pending};
            *iov = &target->control_iov;
            return 1;
        }
        generate(target);
    }
    *iov = target->iov + target->iov_first;
    return target->iov_count - target->iov_first;
}

void iscsi_target_sent(struct iscsi_target *target, size_t size)
{
    /* A list is generated only when no small PDU waits, so while there is one it is what was handed
     * out. */
    if (target->iov_first == target->iov_count) {
        iscsi_output_sent(&target->output, size);
        return;
    }
    while (size > 0) {
        struct iovec *piece = &target->iov[target->iov_first];
        size_t take;

        CHECK(target->iov_first < target->iov_count);
        take = min_u64(size, piece->iov_len);
        piece->iov_base = (uint8_t *)piece->iov_base + take;
        piece->iov_len -= take;
        size -= take;
        if (piece->iov_len == 0)
            target->iov_first++;
    }
    if (target->iov_first == target->iov_count)
        task_list_over(target);
}
