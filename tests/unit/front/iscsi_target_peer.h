/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A host made by hand for the tests of the iSCSI target: it says one PDU at a time and keeps what
 * was answered, decoded. Every sequence number that the target sends is checked here: StatSN goes
 * up by one with each status, MaxCmdSN never goes back. */

#ifndef TEST_ISCSI_TARGET_PEER_H
#define TEST_ISCSI_TARGET_PEER_H

#include "front/iscsi_target.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "front/iscsi_sender.h"

#include "iscsi_test_crypto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define COUNT(rows) (sizeof(rows) / sizeof(rows)[0])

enum { PEER_ANSWERS = 512, PEER_DATA = 1 << 20, PEER_WINDOW = 4 };

static struct iscsi_target target;
static struct iscsi_target_login login_memory;
static struct iscsi_target_task tasks[ISCSI_TARGET_TASKS(ISCSI_TARGET_WINDOW_LIMIT)];
static struct iscsi_target_admission admission;
static uint16_t refuse_with;
static struct generator crypto_source;
static struct iscsi_crypto crypto = {
    .digest = test_digest, .random = test_random, .context = &crypto_source};

static struct iscsi_pdu answers[PEER_ANSWERS];
static const uint8_t *answer_data[PEER_ANSWERS];
static unsigned answer_count;
static uint8_t answer_bytes[PEER_DATA];
static enum iscsi_target_event events[64];
static unsigned event_count;
static struct iscsi_target_task *commands[64];
static unsigned command_count, released_count;
static uint32_t peer_stat_sn, peer_max_cmd_sn;
static bool peer_sn_known;
static uint8_t source[PEER_DATA], place[PEER_DATA];
/* What the caller does with a write that brings data: take them, or leave that to the test. */
static bool auto_receive = true, refuse_commands;
static uint32_t receive_bytes = UINT32_MAX;

static const struct iscsi_target_portal portals[] = {
    {"192.0.2.1:3260", 1}, {"192.0.2.2:3260", 2}, {"[2001:db8::1]:3260", 1}};
static const struct iscsi_target_node nodes[] = {{"iqn.2026-11.holdfast:t", portals, 3},
                                                 {"iqn.2026-11.holdfast:u", portals, 1}};

static void peer_start(uint32_t window)
{
    admission = (struct iscsi_target_admission){.target_name = nodes[0].name,
                                                .alias = "alias",
                                                .tsih = 5,
                                                .portal_group_tag = 2,
                                                .nodes = nodes,
                                                .node_count = COUNT(nodes),
                                                .wish = iscsi_target_wish()};
    refuse_with = 0;
    answer_count = event_count = command_count = released_count = 0;
    peer_sn_known = false;
    auto_receive = true;
    refuse_commands = false;
    receive_bytes = UINT32_MAX;
    for (size_t i = 0; i < sizeof source; i++)
        source[i] = (uint8_t)(i * 31 + (i >> 8) * 7);
    memset(tasks, 0xA5, sizeof tasks);
    iscsi_target_start(&target, &login_memory, tasks, window, &crypto, 0xFFFFFFFE);
}

static void peer_check_numbers(const struct iscsi_pdu *pdu)
{
    if (pdu->opcode == ISCSI_LOGIN_RESPONSE && pdu->login.status_class != 0)
        return;
    if (!peer_sn_known) {
        peer_stat_sn = pdu->stat_sn;
        peer_max_cmd_sn = pdu->max_cmd_sn;
        peer_sn_known = true;
    }
    if (pdu->opcode != ISCSI_DATA_IN || pdu->data.has_status)
        assert_int_equal(pdu->stat_sn, peer_stat_sn);
    if (iscsi_carries_status(pdu))
        peer_stat_sn++;
    if (iscsi_sn_before(pdu->max_cmd_sn, peer_max_cmd_sn))
        fail_msg("MaxCmdSN went back from %u to %u", peer_max_cmd_sn, pdu->max_cmd_sn);
    peer_max_cmd_sn = pdu->max_cmd_sn;
}

static void peer_collect(void)
{
    while (iscsi_target_released(&target))
        released_count++;
}

/* All that the target has to send, decoded to answers[]. */
static void peer_drain(void)
{
    struct iscsi_receiver receiver;
    enum iscsi_receive_event received;
    struct iovec *iov;
    size_t size = 0, at = 0;
    uint32_t count;

    for (unsigned list = 0; list < 1000; list++) {
        size_t this_size = 0;

        count = iscsi_target_output(&target, &iov);
        assert_true(count <= ISCSI_TARGET_IOV_LIMIT);
        if (count == 0)
            break;
        for (uint32_t i = 0; i < count; i++) {
            assert_true(size + this_size + iov[i].iov_len <= sizeof answer_bytes);
            memcpy(answer_bytes + size + this_size, iov[i].iov_base, iov[i].iov_len);
            this_size += iov[i].iov_len;
        }
        iscsi_target_sent(&target, this_size / 3);
        iscsi_target_sent(&target, this_size - this_size / 3);
        size += this_size;
    }
    peer_collect();
    iscsi_receiver_start(&receiver, ISCSI_DATA_LIMIT);
    /* A Login Response never has digests. */
    if (size > 0 && (answer_bytes[0] & 0x3F) != ISCSI_LOGIN_RESPONSE) {
        receiver.header_digest = target.params.header_digest;
        receiver.data_digest = target.params.data_digest;
    }
    while (at < size) {
        assert_true(answer_count < PEER_ANSWERS);
        at += iscsi_receiver_step(&receiver, answer_bytes + at, size - at, &received);
        if (received == ISCSI_RECEIVE_FAILED)
            fail_msg("%s", receiver.reason);
        assert_int_equal(received, ISCSI_RECEIVE_PDU);
        peer_check_numbers(&receiver.pdu);
        answers[answer_count] = receiver.pdu;
        answer_data[answer_count++] = receiver.data;
    }
}

static void peer_note(enum iscsi_target_event event)
{
    struct iscsi_target_task *task = target.task;

    assert_true(event_count < COUNT(events));
    events[event_count++] = event;
    if (event == ISCSI_TARGET_IDENTIFY) {
        if (refuse_with)
            iscsi_target_refuse(&target, refuse_with, "the test refuses");
        else
            iscsi_target_admit(&target, &admission);
    }
    if (event == ISCSI_TARGET_COMMAND || event == ISCSI_TARGET_EARLY) {
        commands[command_count++ % COUNT(commands)] = task;
        if (refuse_commands && event == ISCSI_TARGET_COMMAND)
            iscsi_target_respond(&target, task, &(struct iscsi_target_answer){.status = 2});
        if (task->write && auto_receive && !task->owner) {
            task->owner = task;
            if (iscsi_target_receive(&target, task, place, receive_bytes))
                events[event_count++] = ISCSI_TARGET_DATA;
        }
    }
}

/* Bytes of the wire, at most `chunk` at a time; the last event. */
static enum iscsi_target_event peer_bytes(const uint8_t *bytes, size_t size, size_t chunk)
{
    enum iscsi_target_event event, last = ISCSI_TARGET_MORE;
    size_t at = 0;

    do {
        size_t end = at + min_u64(chunk, size - at);

        do {
            at += iscsi_target_feed(&target, bytes + at, end - at, &event);
            if (event != ISCSI_TARGET_MORE) {
                last = event;
                peer_note(event);
            }
        } while (event != ISCSI_TARGET_MORE && event != ISCSI_TARGET_FAILED &&
                 event != ISCSI_TARGET_CLOSED);
        if (event != ISCSI_TARGET_MORE)
            return last;
    } while (at < size);
    return last;
}

static size_t peer_encode(const struct iscsi_pdu *pdu, const void *data, uint8_t *bytes)
{
    const bool full = target.state == ISCSI_TARGET_STATE_FULL;
    const bool digest = full && target.params.data_digest;
    size_t size = iscsi_header_put(pdu, full && target.params.header_digest, bytes);

    if (pdu->data_size > 0 && data)
        memcpy(bytes + size, data, pdu->data_size);
    size += pdu->data_size;
    return size +
           iscsi_trailer_put(pdu->data_size, digest,
                             digest && data ? crc32c_more(CRC32C_START, data, pdu->data_size) : 0,
                             bytes + size);
}

static size_t tell_chunk = SIZE_MAX;

/* One PDU to the target, and all of its answers. */
static inline enum iscsi_target_event tell(struct iscsi_pdu pdu, const void *data)
{
    static uint8_t bytes[PEER_DATA + 128];
    enum iscsi_target_event event;

    answer_count = event_count = 0;
    event = peer_bytes(bytes, peer_encode(&pdu, data, bytes), tell_chunk);
    peer_drain();
    return event;
}

/* ---- login ---- */

static struct iscsi_pdu login_of(unsigned stage, bool transit, unsigned next)
{
    struct iscsi_pdu pdu = {.opcode = ISCSI_LOGIN_REQUEST,
                            .immediate = true,
                            .final = transit,
                            .itt = 1,
                            .cmd_sn = 0xFFFFFFFE};

    pdu.login.current_stage = (uint8_t)stage;
    pdu.login.next_stage = (uint8_t)next;
    pdu.login.isid[0] = 0x40;
    pdu.login.isid[5] = 9;
    pdu.login.cid = 3;
    return pdu;
}

#define NORMAL                                                                                     \
    "InitiatorName=iqn.1999-01.h:x\0TargetName=iqn.2026-11.holdfast:t\0SessionType=Normal\0"
#define DISCOVERY "InitiatorName=iqn.1999-01.h:x\0SessionType=Discovery\0"

static inline enum iscsi_target_event say(struct iscsi_pdu pdu, const char *text, size_t size)
{
    pdu.data_size = (uint32_t)size;
    return tell(pdu, text);
}
#define SAY(pdu, text) say(pdu, text, sizeof(text) - 1)

/* The value that the last answer's text has for `key`, or NULL. */
static inline const char *found(const char *key)
{
    static char value[2048];
    struct iscsi_pair pair;
    uint32_t at = 0;

    assert_true(answer_count > 0);
    while (iscsi_pair_next(answer_data[answer_count - 1], answers[answer_count - 1].data_size, &at,
                           &pair) == ISCSI_PAIR_OK)
        if (strcmp(pair.key, key) == 0) {
            snprintf(value, sizeof value, "%s", pair.value);
            return value;
        }
    return NULL;
}

static inline void log_in_with(uint32_t window, const char *keys, size_t size)
{
    char text[4096];

    peer_start(window);
    memcpy(text, NORMAL, sizeof NORMAL - 1);
    memcpy(text + sizeof NORMAL - 1, keys, size);
    assert_int_equal(say(login_of(1, true, 3), text, sizeof NORMAL - 1 + size),
                     ISCSI_TARGET_LOGGED_IN);
    command_count = released_count = 0;
}
#define LOG_IN(window, keys) log_in_with(window, keys, sizeof(keys) - 1)

/* ---- requests ---- */

static inline struct iscsi_pdu request_of(uint8_t opcode, uint32_t itt)
{
    return (struct iscsi_pdu){.opcode = opcode,
                              .final = true,
                              .itt = itt,
                              .ttt = ISCSI_NO_TAG,
                              .cmd_sn = target.exp_cmd_sn};
}

static inline struct iscsi_pdu read_of(uint32_t itt, uint32_t expected)
{
    struct iscsi_pdu pdu = request_of(ISCSI_SCSI_COMMAND, itt);

    pdu.lun = 1ull << 48;
    pdu.command.read = expected > 0;
    pdu.command.expected_size = expected;
    pdu.command.attribute = ISCSI_SIMPLE;
    pdu.command.cdb[0] = 0x28;
    return pdu;
}

static inline struct iscsi_pdu write_of(uint32_t itt, uint32_t expected, uint32_t immediate,
                                        bool final)
{
    struct iscsi_pdu pdu = request_of(ISCSI_SCSI_COMMAND, itt);

    pdu.command.write = true;
    pdu.command.expected_size = expected;
    pdu.command.cdb[0] = 0x2A;
    pdu.data_size = immediate;
    pdu.final = final;
    return pdu;
}

static inline struct iscsi_pdu data_of(uint32_t itt, uint32_t ttt, uint32_t sn, uint32_t offset,
                                       uint32_t size, bool final)
{
    struct iscsi_pdu pdu = {
        .opcode = ISCSI_DATA_OUT, .final = final, .data_size = size, .itt = itt, .ttt = ttt};

    pdu.data.data_sn = sn;
    pdu.data.offset = offset;
    return pdu;
}

static inline struct iscsi_pdu manage_of(uint8_t function, uint32_t itt, uint32_t referenced,
                                         uint32_t cmd_sn)
{
    struct iscsi_pdu pdu = request_of(ISCSI_TASK_REQUEST, itt);

    pdu.immediate = true;
    pdu.task.function = function;
    pdu.task.referenced_tag = referenced;
    pdu.task.referenced_cmd_sn = cmd_sn;
    return pdu;
}

static inline struct iscsi_target_task *last_command(void)
{
    assert_true(command_count > 0);
    return commands[(command_count - 1) % COUNT(commands)];
}

/* Answer and collect what goes out. */
static inline void give(struct iscsi_target_task *task, struct iscsi_target_answer answer)
{
    answer_count = event_count = 0;
    iscsi_target_respond(&target, task, &answer);
    peer_drain();
}

#endif
