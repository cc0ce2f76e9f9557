/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The iSCSI target for hosts against arbitrary bytes, with a caller that answers, aborts, waits and
 * sends as its dice say. First byte:
 *   bit 0  1: the session is logged in already, so every byte meets the full-feature phase
 *   bit 1  1: CHAP is demanded and offered (without bit 0)
 *   bit 2  1: digests are wished for; with bit 0 they are in force
 *   bit 3  1: small bursts and segments, so that R2T is reached
 *   bit 4  1: bytes are received straight into their place
 *   bit 5  1: a discovery session (with bit 0)
 * The second byte is the size of the pieces in which the rest arrives (0: at once), the third seeds
 * the dice. Asserted: bytes taken are bytes given, every pass makes progress, what is sent is a
 * sound stream of PDUs with StatSN in order and a window that never shrinks, a task comes back just
 * once, and nothing is written past its place or after it came back. */

#include "front/iscsi_sender.h"
#include "front/iscsi_target.h"

#include "base/check.h"
#include "base/generator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW = 8, SLOTS = ISCSI_TARGET_TASKS(WINDOW), PLACE_SIZE = 4096, GUARD = 64, MARK = 0xA5 };

static struct iscsi_target target;
static struct iscsi_target_login login_memory;
static struct iscsi_target_task tasks[SLOTS];
static uint8_t places[SLOTS][PLACE_SIZE + GUARD];
static uint8_t source[20000];
static uint8_t sense[ISCSI_TARGET_SENSE_LIMIT];
static bool lent[SLOTS], open_task[SLOTS], ready[SLOTS];
static uint32_t placed_bytes[SLOTS];
static struct generator dice;
static uint8_t mode;
static struct iscsi_target_task *manage_request;

/* What the target sent, followed as a host would. */
static struct iscsi_receiver reader;
static uint8_t reader_scratch[65536];
static uint32_t stat_sn, max_cmd_sn;

static bool fuzz_digest(void *context, enum iscsi_chap_algorithm algorithm,
                        const struct iscsi_piece *pieces, unsigned piece_count, uint8_t *to)
{
    uint8_t sum = (uint8_t)algorithm;

    for (unsigned i = 0; i < piece_count; i++)
        for (size_t at = 0; at < pieces[i].size; at++)
            sum = (uint8_t)(sum * 31 + ((const uint8_t *)pieces[i].bytes)[at]);
    memset(to, sum, iscsi_chap_digest_size(algorithm));
    return true;
}

static bool fuzz_random(void *context, void *to, size_t size)
{
    memset(to, 0x5A, size);
    return true;
}

static const struct iscsi_crypto crypto = {.digest = fuzz_digest, .random = fuzz_random};
static const struct iscsi_target_portal portals[] = {{"192.0.2.1:3260", 1}, {"[::1]:3260", 2}};
static const struct iscsi_target_node nodes[] = {{"iqn.t", portals, 2}, {"iqn.u", portals, 1}};

static uint32_t roll(uint32_t below)
{
    return (uint32_t)(generator_next(&dice) % below);
}

/* ---- what goes out ---- */

static void follow_pdu(void)
{
    const struct iscsi_pdu *pdu = &reader.pdu;

    CHECK(reader.known);
    CHECK(pdu->opcode >= ISCSI_NOP_IN);
    if (pdu->opcode == ISCSI_LOGIN_RESPONSE) {
        /* The digests hold from the next PDU on. */
        if (pdu->login.tsih != 0) {
            reader.header_digest = target.params.header_digest;
            reader.data_digest = target.params.data_digest;
        }
        stat_sn = pdu->stat_sn + 1;
        max_cmd_sn = pdu->max_cmd_sn;
        return;
    }
    if (pdu->opcode != ISCSI_DATA_IN || pdu->data.has_status)
        CHECK(pdu->stat_sn == stat_sn);
    stat_sn += iscsi_carries_status(pdu);
    CHECK(!iscsi_sn_before(pdu->max_cmd_sn, max_cmd_sn));
    CHECK(!iscsi_sn_before(pdu->max_cmd_sn, pdu->exp_cmd_sn - 1));
    CHECK(pdu->max_cmd_sn - (pdu->exp_cmd_sn - 1) <= WINDOW);
    max_cmd_sn = pdu->max_cmd_sn;
}

static void follow(const uint8_t *bytes, size_t size)
{
    size_t at = 0;

    while (at < size) {
        enum iscsi_receive_event event;

        at += iscsi_receiver_step(&reader, bytes + at, size - at, &event);
        CHECK(event != ISCSI_RECEIVE_FAILED);
        if (event == ISCSI_RECEIVE_HEADER)
            iscsi_receiver_place(&reader, reader_scratch, sizeof reader_scratch);
        if (event == ISCSI_RECEIVE_PDU)
            follow_pdu();
    }
}

static void collect(void)
{
    struct iscsi_target_task *task;

    while ((task = iscsi_target_released(&target)) != NULL) {
        CHECK(lent[task->index]);
        CHECK(!open_task[task->index]);
        lent[task->index] = false;
    }
}

/* Send some, or all, of what is there. */
static void send_some(bool all)
{
    for (unsigned list = 0; list < 2000; list++) {
        struct iovec *iov;
        uint32_t count = iscsi_target_output(&target, &iov);
        size_t size = 0, want = all ? SIZE_MAX : roll(400);

        CHECK(count <= ISCSI_TARGET_IOV_LIMIT);
        for (uint32_t i = 0; i < count && size < want; i++) {
            size_t take = min_u64(iov[i].iov_len, want - size);

            follow(iov[i].iov_base, take);
            size += take;
        }
        iscsi_target_sent(&target, size);
        collect();
        if (!all || count == 0)
            return;
    }
    CHECK(false);
}

/* ---- the caller ---- */

static void respond(struct iscsi_target_task *task)
{
    struct iscsi_target_answer answer = {.status = roll(3) ? 0 : 2,
                                         .data = source,
                                         .data_bytes = roll(sizeof source),
                                         .out_bytes = roll(8192),
                                         .sense = sense};

    if (answer.status)
        answer.sense_bytes = roll(ISCSI_TARGET_SENSE_LIMIT + 1);
    open_task[task->index] = ready[task->index] = false;
    iscsi_target_respond(&target, task, &answer);
}

static void abort_task(struct iscsi_target_task *task)
{
    open_task[task->index] = ready[task->index] = false;
    if (iscsi_target_abort(&target, task))
        lent[task->index] = false;
}

static void receive(struct iscsi_target_task *task)
{
    uint32_t size = roll(4) ? PLACE_SIZE : roll(PLACE_SIZE);

    memset(places[task->index], MARK, sizeof places[task->index]);
    placed_bytes[task->index] = size;
    lent[task->index] = true;
    task->owner = places[task->index];
    if (iscsi_target_receive(&target, task, places[task->index], size))
        ready[task->index] = true;
}

static void on_command(struct iscsi_target_task *task)
{
    CHECK(task->index < SLOTS);
    CHECK(lent[task->index] == (task->owner != NULL)); /* EARLY gave it a place */
    CHECK(!open_task[task->index]);
    lent[task->index] = open_task[task->index] = true;
    if (!task->owner && task->write && roll(5)) {
        receive(task);
        if (!roll(4))
            abort_task(task);
    } else if (task->unsolicited && !task->owner) {
        if (roll(3))
            respond(task);
        else
            abort_task(task);
    } else if (!task->write) {
        ready[task->index] = true;
    }
}

static void manage(void)
{
    const struct iscsi_target_manage *order = &target.manage;

    if (order->aborted && open_task[order->aborted->index] && roll(4))
        abort_task(order->aborted);
    if (!order->aborted && roll(2))
        for (struct iscsi_target_task *task = NULL;
             (task = iscsi_target_next(&target, task)) != NULL;) {
            CHECK(open_task[task->index]);
            abort_task(task);
        }
    if (roll(3) || manage_request)
        iscsi_target_manage_done(&target, order->request,
                                 roll(2) ? ISCSI_FUNCTION_COMPLETE : ISCSI_FUNCTION_NO_LUN);
    else
        manage_request = order->request;
}

static void admit(void)
{
    struct iscsi_target_admission admission = {.target_name =
                                                   target.identify.discovery ? NULL : "iqn.t",
                                               .tsih = 1,
                                               .portal_group_tag = 1,
                                               .nodes = nodes,
                                               .node_count = 2,
                                               .wish = iscsi_target_wish()};

    if (!roll(20)) {
        iscsi_target_refuse(&target, ISCSI_LOGIN_NOT_FOUND, "no such target");
        return;
    }
    admission.wish.header_digest = admission.wish.data_digest = mode & 4;
    if (mode & 8) {
        admission.wish.first_burst_bytes = 1024;
        admission.wish.max_burst_bytes = 2048;
        admission.wish.own_data_limit_bytes = 600;
    }
    if (mode & 2) {
        admission.initiator =
            (struct iscsi_identity){.name = "x", .secret = "a secret of some length"};
        admission.self = (struct iscsi_identity){.name = "y", .secret = "another secret"};
    }
    iscsi_target_admit(&target, &admission);
}

static void on_event(enum iscsi_target_event event)
{
    switch (event) {
    case ISCSI_TARGET_IDENTIFY:
        admit();
        break;
    case ISCSI_TARGET_COMMAND:
        on_command(target.task);
        break;
    case ISCSI_TARGET_EARLY:
        if (roll(2)) {
            receive(target.task);
            CHECK(!ready[target.task->index]);
        }
        break;
    case ISCSI_TARGET_DATA:
        CHECK(open_task[target.task->index]);
        CHECK(target.task->received_bytes <= placed_bytes[target.task->index]);
        ready[target.task->index] = true;
        break;
    case ISCSI_TARGET_DAMAGED:
        CHECK(open_task[target.task->index]);
        respond(target.task);
        break;
    case ISCSI_TARGET_MANAGE:
        manage();
        break;
    default:
        break;
    }
}

/* Between the bytes: answers, aborts, pings, and sending. */
static void act(void)
{
    uint32_t which = roll(SLOTS);

    if (target.state == ISCSI_TARGET_STATE_FULL) {
        if (ready[which] && roll(2))
            respond(&tasks[which]);
        else if (open_task[which] && !roll(16))
            abort_task(&tasks[which]);
        if (manage_request && !roll(4)) {
            iscsi_target_manage_done(&target, manage_request, ISCSI_FUNCTION_COMPLETE);
            manage_request = NULL;
        }
        if (!roll(32))
            iscsi_target_ping(&target);
        if (!roll(64))
            iscsi_target_async(&target, ISCSI_ASYNC_LOGOUT, 1, 2, 3);
    }
    send_some(false);
    for (unsigned i = 0; i < SLOTS; i++) {
        if (!lent[i] || !tasks[i].owner)
            continue;
        for (unsigned at = placed_bytes[i]; at < PLACE_SIZE + GUARD; at++)
            CHECK(places[i][at] == MARK);
    }
}

static size_t feed_once(const uint8_t *bytes, size_t size)
{
    size_t taken = 0;
    enum iscsi_target_event event;
    uint8_t *place;
    uint32_t wants = mode & 16 ? iscsi_target_wants(&target, &place) : 0;

    if (wants > 0) {
        wants = (uint32_t)min_u64(wants, size);
        memcpy(place, bytes, wants);
        iscsi_target_filled(&target, wants);
        taken = wants;
    }
    for (unsigned i = 0; i < 200000; i++) {
        size_t this_time = iscsi_target_feed(&target, bytes + taken, size - taken, &event);

        CHECK(this_time <= size - taken);
        taken += this_time;
        on_event(event);
        if (event == ISCSI_TARGET_MORE || target.state == ISCSI_TARGET_STATE_OVER)
            return taken;
        if (!roll(4))
            collect();
    }
    CHECK(false);
    return taken;
}

static void log_in(void)
{
    static const char normal[] = "InitiatorName=iqn.a\0TargetName=iqn.t";
    static const char discovery[] = "InitiatorName=iqn.a\0SessionType=Discovery";
    static const char digests[] = "HeaderDigest=CRC32C\0DataDigest=CRC32C";
    uint8_t bytes[512] = {0};
    const bool discover = mode & 32;
    size_t size = discover ? sizeof discovery : sizeof normal;
    struct iscsi_pdu pdu = {.opcode = ISCSI_LOGIN_REQUEST, .immediate = true, .final = true};
    enum iscsi_target_event event;

    pdu.cmd_sn = 1;
    pdu.login.current_stage = 1;
    pdu.login.next_stage = 3;
    memcpy(bytes + 48, discover ? discovery : normal, size);
    if (mode & 4) {
        memcpy(bytes + 48 + size, digests, sizeof digests);
        size += sizeof digests;
    }
    pdu.data_size = (uint32_t)size;
    iscsi_bhs_encode(&pdu, bytes);
    iscsi_target_feed(&target, bytes, 48 + ((size + 3) & ~(size_t)3), &event);
    CHECK(event == ISCSI_TARGET_IDENTIFY);
    generator_seed(&dice, 1); /* never refused */
    admit();
    iscsi_target_feed(&target, NULL, 0, &event);
    CHECK(event == ISCSI_TARGET_LOGGED_IN);
    CHECK(target.params.header_digest == !!(mode & 4));
    send_some(true);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    size_t piece, at = 3, passes = 0, stuck = 0;

    if (size < 3)
        return 0;
    mode = bytes[0];
    if (mode & 1)
        mode &= (uint8_t)~2;
    piece = bytes[1] == 0 ? SIZE_MAX : bytes[1];
    memset(lent, 0, sizeof lent);
    memset(open_task, 0, sizeof open_task);
    memset(ready, 0, sizeof ready);
    manage_request = NULL;
    iscsi_receiver_start(&reader, ISCSI_DATA_LIMIT);
    iscsi_target_start(&target, &login_memory, tasks, WINDOW, &crypto, 0xFFFFFFFE);
    if (mode & 1)
        log_in();
    generator_seed(&dice, bytes[2]);
    while (at < size && target.state != ISCSI_TARGET_STATE_OVER) {
        size_t taken = feed_once(bytes + at, min_u64(piece, size - at));

        CHECK(passes++ < 8 * size + 4096);
        at += taken;
        /* Bytes left are a promise that sending helps. */
        if (taken == 0) {
            CHECK(stuck++ < 3);
            send_some(true);
        } else {
            stuck = 0;
        }
        act();
    }
    send_some(true);
    return 0;
}
