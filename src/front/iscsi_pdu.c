/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The layouts of RFC 7143 section 11 in one encoder and one decoder, and the receiver's five
 * states. It trusts no length: the header names sizes, the receiver compares them with what the
 * owner allows. */

#include "front/iscsi_pdu.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"

enum { FLAG_FINAL = 0x80, FLAG_IMMEDIATE = 0x40, FLAG_CONTINUE = 0x40 };

/* Which group of sequence numbers an opcode carries. */
enum numbers { NUMBERS_NONE, NUMBERS_REQUEST, NUMBERS_DATA_OUT, NUMBERS_RESPONSE };

static enum numbers numbers_of(uint8_t opcode)
{
    switch (opcode) {
    case ISCSI_NOP_OUT:
    case ISCSI_SCSI_COMMAND:
    case ISCSI_TASK_REQUEST:
    case ISCSI_LOGIN_REQUEST:
    case ISCSI_TEXT_REQUEST:
    case ISCSI_LOGOUT_REQUEST:
        return NUMBERS_REQUEST;
    case ISCSI_DATA_OUT:
    case ISCSI_SNACK_REQUEST:
        return NUMBERS_DATA_OUT;
    case ISCSI_NOP_IN:
    case ISCSI_SCSI_RESPONSE:
    case ISCSI_TASK_RESPONSE:
    case ISCSI_LOGIN_RESPONSE:
    case ISCSI_TEXT_RESPONSE:
    case ISCSI_DATA_IN:
    case ISCSI_LOGOUT_RESPONSE:
    case ISCSI_R2T:
    case ISCSI_ASYNC_MESSAGE:
    case ISCSI_REJECT:
        return NUMBERS_RESPONSE;
    default:
        return NUMBERS_NONE;
    }
}

/* Bytes 8-15 are the LUN, except in login (ISID, TSIH). */
static bool has_lun(uint8_t opcode)
{
    return opcode != ISCSI_LOGIN_REQUEST && opcode != ISCSI_LOGIN_RESPONSE;
}

/* Bytes 20-23 are the target transfer tag. */
static bool has_ttt(uint8_t opcode)
{
    switch (opcode) {
    case ISCSI_NOP_OUT:
    case ISCSI_NOP_IN:
    case ISCSI_TEXT_REQUEST:
    case ISCSI_TEXT_RESPONSE:
    case ISCSI_DATA_OUT:
    case ISCSI_DATA_IN:
    case ISCSI_R2T:
        return true;
    default:
        return false;
    }
}

/* ---- encoding ---- */

static void encode_login(const struct iscsi_pdu *pdu, uint8_t *bhs)
{
    bhs[1] |= (uint8_t)((pdu->login.continues ? FLAG_CONTINUE : 0) |
                        (pdu->login.current_stage & 3) << 2 | (pdu->login.next_stage & 3));
    bhs[2] = pdu->login.version_max;
    bhs[3] = pdu->login.version_min;
    memcpy(bhs + 8, pdu->login.isid, 6);
    put_u16(bhs + 14, pdu->login.tsih);
    if (pdu->opcode == ISCSI_LOGIN_REQUEST) {
        put_u16(bhs + 20, pdu->login.cid);
    } else {
        bhs[36] = pdu->login.status_class;
        bhs[37] = pdu->login.status_detail;
    }
}

static void encode_data(const struct iscsi_pdu *pdu, uint8_t *bhs)
{
    put_u32(bhs + 36, pdu->data.data_sn);
    put_u32(bhs + 40, pdu->data.offset);
    if (pdu->opcode == ISCSI_DATA_IN) {
        bhs[1] |= (uint8_t)((pdu->data.acknowledge ? 0x40 : 0) | (pdu->data.overflow ? 0x04 : 0) |
                            (pdu->data.underflow ? 0x02 : 0) | (pdu->data.has_status ? 0x01 : 0));
        bhs[3] = pdu->data.status;
        put_u32(bhs + 44, pdu->data.residual);
        if (!pdu->data.has_status)
            put_u32(bhs + 24, 0); /* StatSN is reserved without status (11.7.3) */
    }
}

static void encode_specific(const struct iscsi_pdu *pdu, uint8_t *bhs)
{
    switch (pdu->opcode) {
    case ISCSI_SCSI_COMMAND:
        bhs[1] |= (uint8_t)((pdu->command.read ? 0x40 : 0) | (pdu->command.write ? 0x20 : 0) |
                            (pdu->command.attribute & 7));
        put_u32(bhs + 20, pdu->command.expected_size);
        memcpy(bhs + 32, pdu->command.cdb, 16);
        break;
    case ISCSI_SCSI_RESPONSE:
        bhs[1] |=
            (uint8_t)((pdu->response.overflow ? 0x04 : 0) | (pdu->response.underflow ? 0x02 : 0));
        bhs[2] = pdu->response.response;
        bhs[3] = pdu->response.status;
        put_u32(bhs + 36, pdu->response.exp_data_sn);
        put_u32(bhs + 44, pdu->response.residual);
        break;
    case ISCSI_TASK_REQUEST:
        bhs[1] |= pdu->task.function & 0x7F;
        put_u32(bhs + 20, pdu->task.referenced_tag);
        put_u32(bhs + 32, pdu->task.referenced_cmd_sn);
        break;
    case ISCSI_TASK_RESPONSE:
        bhs[2] = pdu->task.response;
        break;
    case ISCSI_LOGIN_REQUEST:
    case ISCSI_LOGIN_RESPONSE:
        encode_login(pdu, bhs);
        break;
    case ISCSI_TEXT_REQUEST:
    case ISCSI_TEXT_RESPONSE:
        bhs[1] |= pdu->text.continues ? FLAG_CONTINUE : 0;
        break;
    case ISCSI_DATA_OUT:
    case ISCSI_DATA_IN:
        encode_data(pdu, bhs);
        break;
    case ISCSI_R2T:
        put_u32(bhs + 36, pdu->r2t.r2t_sn);
        put_u32(bhs + 40, pdu->r2t.offset);
        put_u32(bhs + 44, pdu->r2t.desired_size);
        break;
    case ISCSI_LOGOUT_REQUEST:
        bhs[1] |= pdu->logout.reason & 0x7F;
        put_u16(bhs + 20, pdu->logout.cid);
        break;
    case ISCSI_LOGOUT_RESPONSE:
        bhs[2] = pdu->logout.response;
        put_u16(bhs + 40, pdu->logout.time2wait);
        put_u16(bhs + 42, pdu->logout.time2retain);
        break;
    case ISCSI_REJECT:
        bhs[2] = pdu->reject.reason;
        break;
    case ISCSI_ASYNC_MESSAGE:
        bhs[36] = pdu->async.event;
        bhs[37] = pdu->async.vendor;
        for (unsigned i = 0; i < 3; i++)
            put_u16(bhs + 38 + 2 * i, pdu->async.parameter[i]);
        break;
    default:
        break;
    }
}

void iscsi_bhs_encode(const struct iscsi_pdu *pdu, uint8_t *bhs)
{
    enum numbers numbers = numbers_of(pdu->opcode);

    CHECK(numbers != NUMBERS_NONE);
    CHECK(pdu->data_size <= ISCSI_DATA_LIMIT);
    memset(bhs, 0, ISCSI_BHS_SIZE);
    bhs[0] = (uint8_t)(pdu->opcode | (pdu->immediate ? FLAG_IMMEDIATE : 0));
    bhs[1] = pdu->final ? FLAG_FINAL : 0;
    put_u24(bhs + 5, pdu->data_size);
    if (has_lun(pdu->opcode))
        put_u64(bhs + 8, pdu->lun);
    put_u32(bhs + 16, pdu->itt);
    if (has_ttt(pdu->opcode))
        put_u32(bhs + 20, pdu->ttt);
    if (numbers == NUMBERS_REQUEST)
        put_u32(bhs + 24, pdu->cmd_sn);
    if (numbers == NUMBERS_REQUEST || numbers == NUMBERS_DATA_OUT)
        put_u32(bhs + 28, pdu->exp_stat_sn);
    if (numbers == NUMBERS_RESPONSE) {
        put_u32(bhs + 24, pdu->stat_sn);
        put_u32(bhs + 28, pdu->exp_cmd_sn);
        put_u32(bhs + 32, pdu->max_cmd_sn);
    }
    encode_specific(pdu, bhs);
}

/* ---- decoding ---- */

static void decode_login(const uint8_t *bhs, struct iscsi_pdu *pdu)
{
    pdu->login.continues = bhs[1] & FLAG_CONTINUE;
    pdu->login.current_stage = bhs[1] >> 2 & 3;
    pdu->login.next_stage = bhs[1] & 3;
    pdu->login.version_max = bhs[2];
    pdu->login.version_min = bhs[3];
    memcpy(pdu->login.isid, bhs + 8, 6);
    pdu->login.tsih = get_u16(bhs + 14);
    if (pdu->opcode == ISCSI_LOGIN_REQUEST) {
        pdu->login.cid = get_u16(bhs + 20);
    } else {
        pdu->login.status_class = bhs[36];
        pdu->login.status_detail = bhs[37];
    }
}

static void decode_data(const uint8_t *bhs, struct iscsi_pdu *pdu)
{
    pdu->data.data_sn = get_u32(bhs + 36);
    pdu->data.offset = get_u32(bhs + 40);
    if (pdu->opcode == ISCSI_DATA_IN) {
        pdu->data.acknowledge = bhs[1] & 0x40;
        pdu->data.overflow = bhs[1] & 0x04;
        pdu->data.underflow = bhs[1] & 0x02;
        pdu->data.has_status = bhs[1] & 0x01;
        pdu->data.status = bhs[3];
        pdu->data.residual = get_u32(bhs + 44);
    }
}

static void decode_specific(const uint8_t *bhs, struct iscsi_pdu *pdu)
{
    switch (pdu->opcode) {
    case ISCSI_SCSI_COMMAND:
        pdu->command.read = bhs[1] & 0x40;
        pdu->command.write = bhs[1] & 0x20;
        pdu->command.attribute = bhs[1] & 7;
        pdu->command.expected_size = get_u32(bhs + 20);
        memcpy(pdu->command.cdb, bhs + 32, 16);
        break;
    case ISCSI_SCSI_RESPONSE:
        pdu->response.overflow = bhs[1] & 0x04;
        pdu->response.underflow = bhs[1] & 0x02;
        pdu->response.response = bhs[2];
        pdu->response.status = bhs[3];
        pdu->response.exp_data_sn = get_u32(bhs + 36);
        pdu->response.residual = get_u32(bhs + 44);
        break;
    case ISCSI_TASK_REQUEST:
        pdu->task.function = bhs[1] & 0x7F;
        pdu->task.referenced_tag = get_u32(bhs + 20);
        pdu->task.referenced_cmd_sn = get_u32(bhs + 32);
        break;
    case ISCSI_TASK_RESPONSE:
        pdu->task.response = bhs[2];
        break;
    case ISCSI_LOGIN_REQUEST:
    case ISCSI_LOGIN_RESPONSE:
        decode_login(bhs, pdu);
        break;
    case ISCSI_TEXT_REQUEST:
    case ISCSI_TEXT_RESPONSE:
        pdu->text.continues = bhs[1] & FLAG_CONTINUE;
        break;
    case ISCSI_DATA_OUT:
    case ISCSI_DATA_IN:
        decode_data(bhs, pdu);
        break;
    case ISCSI_R2T:
        pdu->r2t.r2t_sn = get_u32(bhs + 36);
        pdu->r2t.offset = get_u32(bhs + 40);
        pdu->r2t.desired_size = get_u32(bhs + 44);
        break;
    case ISCSI_LOGOUT_REQUEST:
        pdu->logout.reason = bhs[1] & 0x7F;
        pdu->logout.cid = get_u16(bhs + 20);
        break;
    case ISCSI_LOGOUT_RESPONSE:
        pdu->logout.response = bhs[2];
        pdu->logout.time2wait = get_u16(bhs + 40);
        pdu->logout.time2retain = get_u16(bhs + 42);
        break;
    case ISCSI_REJECT:
        pdu->reject.reason = bhs[2];
        break;
    case ISCSI_ASYNC_MESSAGE:
        pdu->async.event = bhs[36];
        pdu->async.vendor = bhs[37];
        for (unsigned i = 0; i < 3; i++)
            pdu->async.parameter[i] = get_u16(bhs + 38 + 2 * i);
        break;
    default:
        break;
    }
}

bool iscsi_bhs_decode(const uint8_t *bhs, struct iscsi_pdu *pdu)
{
    enum numbers numbers;

    memset(pdu, 0, sizeof *pdu);
    pdu->opcode = bhs[0] & 0x3F;
    pdu->immediate = bhs[0] & FLAG_IMMEDIATE;
    pdu->final = bhs[1] & FLAG_FINAL;
    pdu->ahs_words = bhs[4];
    pdu->data_size = get_u24(bhs + 5);
    pdu->itt = get_u32(bhs + 16);
    numbers = numbers_of(pdu->opcode);
    if (numbers == NUMBERS_NONE)
        return false;
    if (has_lun(pdu->opcode))
        pdu->lun = get_u64(bhs + 8);
    if (has_ttt(pdu->opcode))
        pdu->ttt = get_u32(bhs + 20);
    if (numbers == NUMBERS_REQUEST)
        pdu->cmd_sn = get_u32(bhs + 24);
    if (numbers == NUMBERS_REQUEST || numbers == NUMBERS_DATA_OUT)
        pdu->exp_stat_sn = get_u32(bhs + 28);
    if (numbers == NUMBERS_RESPONSE) {
        pdu->stat_sn = get_u32(bhs + 24);
        pdu->exp_cmd_sn = get_u32(bhs + 28);
        pdu->max_cmd_sn = get_u32(bhs + 32);
    }
    decode_specific(bhs, pdu);
    return true;
}

/* A digest goes out with its least significant byte first (RFC 7143 appendix; 32 zero bytes give aa
 * 36 91 8a). */
static void put_digest(uint8_t *to, uint32_t crc_state)
{
    uint32_t crc = crc32c_end(crc_state);

    to[0] = (uint8_t)crc;
    to[1] = (uint8_t)(crc >> 8);
    to[2] = (uint8_t)(crc >> 16);
    to[3] = (uint8_t)(crc >> 24);
}

static bool digest_is(const uint8_t *digest, uint32_t crc_state)
{
    uint8_t expected[ISCSI_DIGEST_SIZE];

    put_digest(expected, crc_state);
    return memcmp(expected, digest, sizeof expected) == 0;
}

uint32_t iscsi_header_put(const struct iscsi_pdu *pdu, bool header_digest, uint8_t *to)
{
    iscsi_bhs_encode(pdu, to);
    if (!header_digest)
        return ISCSI_BHS_SIZE;
    put_digest(to + ISCSI_BHS_SIZE, crc32c_more(CRC32C_START, to, ISCSI_BHS_SIZE));
    return ISCSI_HEADER_ROOM;
}

uint32_t iscsi_trailer_put(uint32_t data_size, bool data_digest, uint32_t crc, uint8_t *to)
{
    uint32_t padding = iscsi_padding(data_size);

    if (data_size == 0)
        return 0;
    memset(to, 0, padding);
    if (!data_digest)
        return padding;
    put_digest(to + padding, padding ? crc32c_more(crc, to, padding) : crc);
    return padding + ISCSI_DIGEST_SIZE;
}

/* ---- the receiver ---- */

void iscsi_receiver_start(struct iscsi_receiver *receiver, uint32_t data_limit)
{
    memset(receiver, 0, sizeof *receiver);
    receiver->data_limit = data_limit;
    receiver->state = ISCSI_AT_HEADER;
}

static enum iscsi_receive_event receiver_fail(struct iscsi_receiver *receiver, uint8_t reject,
                                              const char *reason)
{
    receiver->state = ISCSI_AT_FAILED;
    receiver->reject = reject;
    receiver->reason = reason;
    return ISCSI_RECEIVE_FAILED;
}

static uint32_t extra_size(const struct iscsi_receiver *receiver)
{
    return receiver->pdu.ahs_words * 4u + (receiver->header_digest ? ISCSI_DIGEST_SIZE : 0u);
}

static uint32_t trailer_size(const struct iscsi_receiver *receiver)
{
    return iscsi_padding(receiver->pdu.data_size) +
           (receiver->data_digest ? ISCSI_DIGEST_SIZE : 0u);
}

static enum iscsi_receive_event receiver_whole(struct iscsi_receiver *receiver)
{
    receiver->state = ISCSI_AT_HEADER;
    receiver->taken = 0;
    return ISCSI_RECEIVE_PDU;
}

/* HEADER: 48 bytes. */
static size_t step_header(struct iscsi_receiver *receiver, const uint8_t *bytes, size_t size)
{
    size_t take = min_u64(size, ISCSI_BHS_SIZE - receiver->taken);

    memcpy(receiver->header + receiver->taken, bytes, take);
    receiver->taken += (uint32_t)take;
    if (receiver->taken < ISCSI_BHS_SIZE)
        return take;
    receiver->known = iscsi_bhs_decode(receiver->header, &receiver->pdu);
    receiver->data = NULL;
    receiver->kept_size = 0;
    receiver->place = NULL;
    receiver->data_crc = CRC32C_START;
    if (receiver->header_digest)
        receiver->header_crc = crc32c_more(CRC32C_START, receiver->header, ISCSI_BHS_SIZE);
    receiver->state = ISCSI_AT_EXTRA;
    receiver->taken = 0;
    return take;
}

/* EXTRA: additional header segments are skipped (they go into the digest), then the header digest.
 */
static size_t step_extra(struct iscsi_receiver *receiver, const uint8_t *bytes, size_t size)
{
    uint32_t ahs_size = receiver->pdu.ahs_words * 4u;
    size_t done = 0;

    if (receiver->taken < ahs_size) {
        done = min_u64(size, ahs_size - receiver->taken);
        if (receiver->header_digest)
            receiver->header_crc = crc32c_more(receiver->header_crc, bytes, done);
        receiver->taken += (uint32_t)done;
    }
    if (receiver->taken >= ahs_size) {
        size_t take = min_u64(size - done, extra_size(receiver) - receiver->taken);

        memcpy(receiver->digest + (receiver->taken - ahs_size), bytes + done, take);
        receiver->taken += (uint32_t)take;
        done += take;
    }
    return done;
}

/* The whole header is here: check it, and see whether the data are here as well. */
static size_t step_header_whole(struct iscsi_receiver *receiver, const uint8_t *bytes, size_t size,
                                enum iscsi_receive_event *event)
{
    uint32_t data_size = receiver->pdu.data_size, padding = iscsi_padding(data_size);
    size_t whole = (size_t)data_size + trailer_size(receiver);

    if (receiver->header_digest && !digest_is(receiver->digest, receiver->header_crc)) {
        *event = receiver_fail(receiver, 0, "header digest error");
        return 0;
    }
    if (data_size > receiver->data_limit) {
        *event = receiver_fail(receiver, ISCSI_REJECT_PROTOCOL,
                               "data segment longer than MaxRecvDataSegmentLength");
        return 0;
    }
    if (data_size == 0) {
        *event = receiver_whole(receiver);
        return 0;
    }
    if (size < whole) {
        receiver->state = ISCSI_AT_PLACING;
        *event = ISCSI_RECEIVE_HEADER;
        return 0;
    }
    if (receiver->data_digest &&
        !digest_is(bytes + data_size + padding,
                   crc32c_more(CRC32C_START, bytes, (size_t)data_size + padding))) {
        *event = receiver_fail(receiver, ISCSI_REJECT_DATA_DIGEST, "data digest error");
        return 0;
    }
    receiver->data = bytes;
    receiver->kept_size = data_size;
    *event = receiver_whole(receiver);
    return whole;
}

static void receiver_count_data(struct iscsi_receiver *receiver, const uint8_t *bytes,
                                uint32_t size)
{
    if (receiver->data_digest)
        receiver->data_crc = crc32c_more(receiver->data_crc, bytes, size);
    receiver->taken += size;
    if (receiver->taken == receiver->pdu.data_size) {
        receiver->state = ISCSI_AT_TRAILER;
        receiver->taken = 0;
    }
}

/* DATA: to the place, and past its end to nowhere. */
static size_t step_data(struct iscsi_receiver *receiver, const uint8_t *bytes, size_t size)
{
    uint32_t take = (uint32_t)min_u64(size, receiver->pdu.data_size - receiver->taken);

    if (take == 0)
        return 0;
    if (receiver->taken < receiver->kept_size)
        memcpy(receiver->place + receiver->taken, bytes,
               min_u32(take, receiver->kept_size - receiver->taken));
    receiver_count_data(receiver, bytes, take);
    return take;
}

/* TRAILER: padding, then the data digest. */
static size_t step_trailer(struct iscsi_receiver *receiver, const uint8_t *bytes, size_t size,
                           enum iscsi_receive_event *event)
{
    uint32_t padding = iscsi_padding(receiver->pdu.data_size);
    size_t done = 0;

    if (receiver->taken < padding) {
        done = min_u64(size, padding - receiver->taken);
        if (receiver->data_digest)
            receiver->data_crc = crc32c_more(receiver->data_crc, bytes, done);
        receiver->taken += (uint32_t)done;
    }
    if (receiver->taken >= padding) {
        size_t take = min_u64(size - done, trailer_size(receiver) - receiver->taken);

        memcpy(receiver->digest + (receiver->taken - padding), bytes + done, take);
        receiver->taken += (uint32_t)take;
        done += take;
    }
    if (receiver->taken < trailer_size(receiver))
        return done;
    if (receiver->data_digest && !digest_is(receiver->digest, receiver->data_crc))
        *event = receiver_fail(receiver, ISCSI_REJECT_DATA_DIGEST, "data digest error");
    else
        *event = receiver_whole(receiver);
    return done;
}

size_t iscsi_receiver_step(struct iscsi_receiver *receiver, const uint8_t *bytes, size_t size,
                           enum iscsi_receive_event *event)
{
    static const uint8_t nothing[1];
    size_t done = 0;

    if (size == 0)
        bytes = nothing; /* memcpy() wants a pointer even for no bytes */
    *event = ISCSI_RECEIVE_MORE;
    /* At most one pass for each state: each either moves to the next one or has used up the bytes.
     */
    for (unsigned pass = 0; pass < 5 && *event == ISCSI_RECEIVE_MORE; pass++) {
        enum iscsi_receive_state before = receiver->state;

        switch (receiver->state) {
        case ISCSI_AT_HEADER:
            done += step_header(receiver, bytes + done, size - done);
            break;
        case ISCSI_AT_EXTRA:
            done += step_extra(receiver, bytes + done, size - done);
            if (receiver->taken == extra_size(receiver))
                done += step_header_whole(receiver, bytes + done, size - done, event);
            break;
        case ISCSI_AT_PLACING:
            CHECK(false); /* the owner owes iscsi_receiver_place() */
            break;
        case ISCSI_AT_DATA:
            done += step_data(receiver, bytes + done, size - done);
            break;
        case ISCSI_AT_TRAILER:
            done += step_trailer(receiver, bytes + done, size - done, event);
            break;
        case ISCSI_AT_FAILED:
            *event = ISCSI_RECEIVE_FAILED;
            break;
        }
        if (receiver->state == before)
            break;
    }
    CHECK(done <= size);
    return done;
}

void iscsi_receiver_place(struct iscsi_receiver *receiver, void *place, uint32_t size)
{
    CHECK(receiver->state == ISCSI_AT_PLACING);
    receiver->place = place;
    receiver->data = place;
    receiver->kept_size = min_u32(size, receiver->pdu.data_size);
    receiver->taken = 0;
    receiver->state = ISCSI_AT_DATA;
}

uint32_t iscsi_receiver_wants(const struct iscsi_receiver *receiver, uint8_t **place)
{
    if (receiver->state != ISCSI_AT_DATA || receiver->taken >= receiver->kept_size)
        return 0;
    *place = receiver->place + receiver->taken;
    return receiver->kept_size - receiver->taken;
}

void iscsi_receiver_filled(struct iscsi_receiver *receiver, uint32_t size)
{
    uint8_t *place = NULL;

    CHECK(size <= iscsi_receiver_wants(receiver, &place));
    if (size > 0)
        receiver_count_data(receiver, place, size);
}
