/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The many-commands initiator against the target for hosts, in memory: every combination of what
 * the login can agree on, random sizes, random cuts of both streams, answers in any order; then
 * peers that break the rules. */

#include "front/iscsi_ship.h"
#include "front/iscsi_target.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/generator.h"

#include "iscsi_test_crypto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define COUNT(rows) (sizeof(rows) / sizeof(rows)[0])

enum {
    PIECES = 1000,
    MOST = 70000,
    WIRE = 1 << 20,
    READ = 0x28,
    WRITE = 0x2A,
    NONE = 0x00,
    FAULT = 0xC0
};

static struct iscsi_ship ship;
static struct iscsi_target target;
static struct iscsi_target_login login;
static struct iscsi_target_task tasks[ISCSI_TARGET_TASKS(ISCSI_TARGET_WINDOW_LIMIT)];
static struct iscsi_login_config config;
static struct iscsi_params target_wish;
static struct iscsi_identity initiator_identity, self_identity;
static struct generator random_source, crypto_source;
static struct iscsi_crypto crypto = {
    .digest = test_digest, .random = test_random, .context = &crypto_source};
static uint32_t window = 16;

/* The initiator's side: one buffer for each tag. */
static struct one {
    uint8_t op;
    uint32_t length;
    uint8_t bytes[MOST + 16];
    bool busy;
    struct iovec pieces[PIECES];
} ones[ISCSI_SHIP_TASK_LIMIT];
static unsigned done_count;

/* The target's side: one buffer for each slot, and the commands that wait for their answer. */
static uint8_t places[ISCSI_TARGET_TASKS(ISCSI_TARGET_WINDOW_LIMIT)][MOST + 16];
static struct iscsi_target_task *waiting[ISCSI_TARGET_TASKS(ISCSI_TARGET_WINDOW_LIMIT)];
static unsigned waiting_count, lent_count, most_open;
static bool direct;

/* Two pipes: what was sent and not yet received. */
static struct pipe {
    uint8_t bytes[WIRE];
    size_t start, end;
} to_target, to_ship;

static uint32_t pick(uint32_t below)
{
    return (uint32_t)(generator_next(&random_source) % below);
}

static uint8_t pattern(uint32_t itt, uint32_t length, uint32_t at)
{
    return (uint8_t)(itt * 7 + length * 13 + at * 31 + (at >> 8));
}

static void start(uint64_t seed)
{
    generator_seed(&random_source, seed);
    generator_seed(&crypto_source, seed);
    config = (struct iscsi_login_config){.initiator_name = "iqn.2026-11.holdfast:a",
                                         .target_name = "iqn.2026-11.holdfast:t.ship",
                                         .isid = {0x80},
                                         .first_sn = 0xFFFFFFF0,
                                         .crypto = &crypto,
                                         .wish = iscsi_params_wish()};
    target_wish = iscsi_target_wish();
    initiator_identity = self_identity = (struct iscsi_identity){0};
    to_target.start = to_target.end = to_ship.start = to_ship.end = 0;
    memset(ones, 0, sizeof ones);
    waiting_count = lent_count = most_open = done_count = 0;
    direct = false;
    window = 16;
}

static void connect_both(void)
{
    iscsi_ship_start(&ship, &config);
    iscsi_target_start(&target, &login, tasks, window, &crypto, 0xFFFFFFFC);
}

/* ---- the target's caller ---- */

static void answer(struct iscsi_target_task *task)
{
    static const uint8_t sense[18] = {0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24};
    struct iscsi_target_answer reply = {0};
    uint32_t length = get_u32(task->cdb + 2);

    if (task->cdb[0] == FAULT) {
        reply.status = 2;
        reply.sense = sense;
        reply.sense_bytes = sizeof sense;
    } else if (task->cdb[0] == READ) {
        uint8_t *bytes = places[task->index];

        for (uint32_t i = 0; i < length; i++)
            bytes[i] = pattern(task->itt, length, i);
        reply.data = bytes;
        reply.data_bytes = length;
    } else if (task->cdb[0] == WRITE) {
        assert_int_equal(task->received_bytes, length);
        for (uint32_t i = 0; i < length; i++)
            if (places[task->index][i] != pattern(task->itt, length, i))
                fail_msg("byte %u of write %u is wrong", i, task->itt);
        reply.out_bytes = length;
    }
    iscsi_target_respond(&target, task, &reply);
}

static void ready(struct iscsi_target_task *task)
{
    assert_true(waiting_count < COUNT(waiting));
    waiting[waiting_count++] = task;
}

static void on_command(struct iscsi_target_task *task)
{
    assert_null(task->owner);
    task->owner = task;
    lent_count++;
    assert_true(lent_count <= window + ISCSI_TARGET_IMMEDIATE_LIMIT);
    if (target.open_count > most_open)
        most_open = target.open_count;
    if (!task->write || (task->cdb[0] == FAULT && pick(2)))
        ready(task);
    else if (iscsi_target_receive(&target, task, places[task->index], MOST))
        ready(task);
}

static void collect(void)
{
    while (iscsi_target_released(&target)) {
        assert_true(lent_count > 0);
        lent_count--;
    }
}

/* The refusals are answered at once, as a target must that got data with the command. */
static void note_target(enum iscsi_target_event event)
{
    struct iscsi_target_admission admission = {.target_name = config.target_name,
                                               .tsih = 7,
                                               .portal_group_tag = 1,
                                               .initiator = initiator_identity,
                                               .self = self_identity,
                                               .wish = target_wish};

    switch (event) {
    case ISCSI_TARGET_IDENTIFY:
        assert_string_equal(target.identify.initiator_name, config.initiator_name);
        assert_string_equal(target.identify.target_name, config.target_name);
        iscsi_target_admit(&target, &admission);
        break;
    case ISCSI_TARGET_COMMAND:
        on_command(target.task);
        if (waiting_count > 0 && waiting[waiting_count - 1] == target.task &&
            target.task->unsolicited && target.task->cdb[0] == FAULT) {
            waiting_count--;
            answer(target.task);
        }
        break;
    case ISCSI_TARGET_DATA:
        ready(target.task);
        break;
    case ISCSI_TARGET_FAILED:
        if (*ship.reason == '\0')
            fail_msg("the target failed: %s", target.reason);
        break;
    default:
        break;
    }
}

static void target_takes(void)
{
    enum iscsi_target_event event;
    size_t size = min_u64(to_target.end - to_target.start, 1 + pick(pick(4) ? 200 : 100000));
    const uint8_t *bytes = to_target.bytes + to_target.start;
    size_t taken = 0;
    uint8_t *place;

    if (direct && size > 0) {
        uint32_t wants = iscsi_target_wants(&target, &place);

        if (wants > 0) {
            taken = min_u64(wants, size);
            memcpy(place, bytes, taken);
            iscsi_target_filled(&target, (uint32_t)taken);
        }
    }
    do {
        taken += iscsi_target_feed(&target, bytes + taken, size - taken, &event);
        note_target(event);
        collect();
    } while (event != ISCSI_TARGET_MORE && event != ISCSI_TARGET_FAILED &&
             event != ISCSI_TARGET_CLOSED);
    to_target.start += taken;
}

/* ---- the initiator's caller ---- */

static void note_ship(enum iscsi_ship_event event)
{
    struct one *one;

    if (event != ISCSI_SHIP_STATUS)
        return;
    one = &ones[ship.done.itt % ISCSI_SHIP_TASK_LIMIT];
    assert_true(one->busy);
    one->busy = false;
    done_count++;
    if (one->op == FAULT) {
        assert_int_equal(ship.done.status, 2);
        assert_int_equal(ship.done.sense_bytes, 18);
        assert_int_equal(ship.done.sense[12], 0x24);
        assert_int_equal(ship.done.residual, one->length);
        return;
    }
    assert_int_equal(ship.done.status, 0);
    assert_false(ship.done.overflow || ship.done.underflow);
    if (one->op != READ)
        return;
    assert_int_equal(ship.done.received_bytes, one->length);
    for (uint32_t i = 0; i < one->length; i++)
        if (one->bytes[i] != pattern(ship.done.itt, one->length, i))
            fail_msg("byte %u of read %u is wrong", i, ship.done.itt);
    assert_int_equal(one->bytes[one->length], 0xEE);
}

static void ship_takes(void)
{
    enum iscsi_ship_event event;
    size_t size = min_u64(to_ship.end - to_ship.start, 1 + pick(pick(4) ? 200 : 100000));
    const uint8_t *bytes = to_ship.bytes + to_ship.start;
    size_t taken = 0;
    uint8_t *place;

    if (direct && size > 0) {
        uint32_t wants = iscsi_ship_wants(&ship, &place);

        if (wants > 0) {
            taken = min_u64(wants, size);
            memcpy(place, bytes, taken);
            iscsi_ship_filled(&ship, (uint32_t)taken);
        }
    }
    do {
        taken += iscsi_ship_feed(&ship, bytes + taken, size - taken, &event);
        note_ship(event);
    } while (event != ISCSI_SHIP_MORE && event != ISCSI_SHIP_FAILED && event != ISCSI_SHIP_CLOSED);
    to_ship.start += taken;
}

/* The data in pieces of all sizes: fewer and more than one PDU holds. */
static void cut_in_pieces(struct one *one)
{
    uint32_t most = 1 + pick(pick(2) ? 40 : 9000), at = 0;

    for (uint32_t i = 0; at < one->length; i++) {
        uint32_t left = one->length - at, size = i + 1 == PIECES ? left : 1 + pick(most);

        size = size < left ? size : left;
        one->pieces[i] = (struct iovec){.iov_base = one->bytes + at, .iov_len = size};
        at += size;
    }
}

static void begin(uint32_t itt, uint8_t op, uint32_t length)
{
    struct one *one = &ones[itt];
    struct iscsi_ship_command command = {.lun = {0, 1}, .cdb = {op}};
    bool out = op == WRITE || (op == FAULT && (length & 1));

    *one = (struct one){.op = op, .length = length, .busy = true};
    memset(one->bytes, 0xEE, sizeof one->bytes);
    for (uint32_t i = 0; out && i < length; i++)
        one->bytes[i] = pattern(itt, length, i);
    put_u32(command.cdb + 2, length);
    if (out) {
        command.out_bytes = length;
        if (pick(2) && length > 0) {
            cut_in_pieces(one);
            command.pieces = one->pieces;
        } else {
            command.out = one->bytes;
        }
    } else {
        command.in = one->bytes;
        command.in_bytes = length;
    }
    /* Tags are free but for their low byte. */
    iscsi_ship_command(&ship, itt | pick(0xFFFFFE) << 8, &command);
}

/* ---- both ---- */

static size_t gather(struct iovec *iov, uint32_t count, struct pipe *pipe)
{
    size_t size = 0, limit = 1 + pick(pick(2) ? 300 : 200000);

    if (pipe->start == pipe->end)
        pipe->start = pipe->end = 0;
    limit = min_u64(limit, WIRE - pipe->end);
    for (uint32_t i = 0; i < count && size < limit; i++) {
        size_t take = min_u64(iov[i].iov_len, limit - size);

        memcpy(pipe->bytes + pipe->end, iov[i].iov_base, take);
        pipe->end += take;
        size += take;
    }
    return size;
}

/* One random step; false when there was nothing to do. */
static bool step(void)
{
    struct iovec *iov;
    uint32_t count = iscsi_ship_output(&ship, &iov);
    size_t moved = gather(iov, count, &to_target), back;

    assert_true(count <= ISCSI_SHIP_IOV_LIMIT);
    iscsi_ship_sent(&ship, moved);
    count = iscsi_target_output(&target, &iov);
    assert_true(count <= ISCSI_TARGET_IOV_LIMIT);
    back = gather(iov, count, &to_ship);
    iscsi_target_sent(&target, back);
    collect();
    target_takes();
    ship_takes();
    while (waiting_count > 0 && pick(2)) {
        uint32_t which = pick(waiting_count);
        struct iscsi_target_task *task = waiting[which];

        waiting[which] = waiting[--waiting_count];
        answer(task);
    }
    return moved > 0 || back > 0 || waiting_count > 0 || to_target.start < to_target.end ||
           to_ship.start < to_ship.end;
}

/* Until nothing moves for some steps: a step may be empty by chance. */
static void run(void)
{
    unsigned idle = 0;

    for (unsigned round = 0; round < 2000000 && idle < 3; round++)
        idle = step() ? 0 : idle + 1;
    assert_int_equal(idle, 3);
}

static void log_in(void)
{
    connect_both();
    run();
    if (ship.state != ISCSI_SHIP_STATE_READY || target.state != ISCSI_TARGET_STATE_FULL)
        fail_msg("no login: %s / %s", ship.reason, target.reason);
}

static void carry(unsigned count)
{
    static const uint32_t lengths[] = {0, 1, 511, 512, 513, 4096, 8193, 70000};
    static const uint8_t ops[] = {READ, WRITE, READ, WRITE, NONE, FAULT};
    unsigned begun = 0, before = done_count;

    for (unsigned round = 0; round < 2000000 && done_count - before < count; round++) {
        uint32_t itt = pick(ISCSI_SHIP_TASK_LIMIT);

        if (begun < count && !ones[itt].busy && pick(3)) {
            uint8_t op = ops[pick(COUNT(ops))];

            begin(itt, op, op == NONE ? 0 : lengths[pick(COUNT(lengths))]);
            begun++;
        }
        step();
        if (ship.state != ISCSI_SHIP_STATE_READY)
            fail_msg("%s / %s", ship.reason, target.reason);
    }
    assert_int_equal(done_count - before, count);
    run();
    assert_int_equal(lent_count, 0);
    assert_int_equal(ship.open_count, 0);
    assert_int_equal(target.open_count, 0);
    assert_int_equal(target.window_used, 0);
}

static void every_combination_carries_commands_both_ways(void **state)
{
    static const uint32_t limits[] = {512, 4096, 262144}, bursts[] = {512, 5000, 1 << 20};

    for (unsigned mix = 0; mix < 16; mix++)
        for (unsigned l = 0; l < COUNT(limits); l++)
            for (unsigned f = 0; f < COUNT(bursts); f++)
                for (unsigned m = f; m < COUNT(bursts); m++) {
                    start(mix * 1000 + l * 100 + f * 10 + m);
                    target_wish.initial_r2t = mix & 1;
                    target_wish.immediate_data = mix & 2;
                    config.wish.header_digest = mix & 4;
                    config.wish.data_digest = mix & 8;
                    target_wish.own_data_limit_bytes = limits[l];
                    config.wish.own_data_limit_bytes = limits[(l + mix) % COUNT(limits)];
                    target_wish.first_burst_bytes = bursts[f];
                    target_wish.max_burst_bytes = bursts[m];
                    direct = l & 1;
                    window = 1 + mix * 7;
                    log_in();
                    assert_int_equal(target.params.header_digest, !!(mix & 4));
                    assert_int_equal(target.params.data_digest, !!(mix & 8));
                    assert_int_equal(target.params.initial_r2t, mix & 1);
                    assert_int_equal(target.params.immediate_data, !!(mix & 2));
                    assert_int_equal(target.params.first_burst_bytes, bursts[f]);
                    carry(60);
                }
}

static void the_window_is_filled_and_never_passed(void **state)
{
    static const uint32_t windows[] = {1, 2, 31, 128};

    for (unsigned i = 0; i < COUNT(windows); i++) {
        start(i);
        window = windows[i];
        log_in();
        for (uint32_t itt = 0; itt < ISCSI_SHIP_TASK_LIMIT; itt++)
            begin(itt, itt & 1 ? WRITE : READ, 3000);
        run();
        assert_int_equal(done_count, ISCSI_SHIP_TASK_LIMIT);
        assert_true(most_open <= window);
        assert_true(most_open * 2 >= window);
        assert_int_equal(target.ignored_count, 0);
    }
}

static void chap_works_one_way_and_both_ways(void **state)
{
    for (unsigned mix = 0; mix < 8; mix++) {
        bool mutual = mix & 1, wrong = mix & 2, no_sha = mix & 4;

        start(mix);
        crypto.no_md5 = !no_sha;
        config.self =
            (struct iscsi_identity){"host", wrong ? "another secret.." : "host's secret.."};
        initiator_identity = (struct iscsi_identity){"host", "host's secret.."};
        self_identity = (struct iscsi_identity){"array", "array's secret."};
        if (mutual)
            config.peer = self_identity;
        connect_both();
        if (wrong)
            iscsi_reason_set(ship.reason, "expected", "");
        run();
        assert_int_equal(ship.state == ISCSI_SHIP_STATE_READY, !wrong);
        assert_int_equal(target.authenticated, !wrong);
        if (wrong)
            assert_non_null(strstr(ship.reason, "0201"));
        else
            carry(5);
    }
    crypto.no_md5 = false;
}

static void pings_and_the_end_work_both_ways(void **state)
{
    start(1);
    log_in();
    assert_true(iscsi_ship_ping(&ship));
    assert_false(iscsi_ship_ping(&ship));
    assert_true(iscsi_target_ping(&target));
    assert_false(iscsi_target_ping(&target));
    run();
    assert_false(ship.ping_pending);
    assert_false(target.ping_pending);
    carry(3);
    assert_true(iscsi_ship_logout(&ship));
    run();
    assert_int_equal(ship.state, ISCSI_SHIP_STATE_OVER);
    assert_int_equal(ship.ending, ISCSI_SHIP_CLOSED);
    assert_int_equal(target.ending, ISCSI_TARGET_CLOSED);
    start(2);
    log_in();
    assert_true(iscsi_target_async(&target, ISCSI_ASYNC_LOGOUT, 0, 0, 5));
    run();
    assert_int_equal(ship.ending, ISCSI_SHIP_FAILED);
    assert_string_equal(ship.reason, "the target asks for a logout");
}

/* ---- a target made by hand ---- */

static enum iscsi_ship_event hear(struct iscsi_pdu pdu, const void *data)
{
    uint8_t bytes[4096];
    enum iscsi_ship_event event, last = ISCSI_SHIP_MORE;
    uint32_t size = iscsi_header_put(&pdu, false, bytes);
    size_t at = 0;

    memcpy(bytes + size, data ? data : "", pdu.data_size);
    size += pdu.data_size;
    size += iscsi_trailer_put(pdu.data_size, false, 0, bytes + size);
    do {
        at += iscsi_ship_feed(&ship, bytes + at, size - at, &event);
        if (event != ISCSI_SHIP_MORE)
            last = event;
    } while (event == ISCSI_SHIP_STATUS || event == ISCSI_SHIP_LOGGED_IN);
    return last;
}

static void drain(void)
{
    struct iovec *iov;

    for (unsigned i = 0; i < 1000; i++) {
        uint32_t count = iscsi_ship_output(&ship, &iov);
        size_t size = 0;

        if (count == 0)
            return;
        for (uint32_t p = 0; p < count; p++)
            size += iov[p].iov_len;
        iscsi_ship_sent(&ship, size);
    }
    fail();
}

static struct iscsi_pdu said(uint8_t opcode, uint32_t itt)
{
    return (struct iscsi_pdu){.opcode = opcode,
                              .final = true,
                              .itt = itt,
                              .ttt = ISCSI_NO_TAG,
                              .stat_sn = ship.exp_stat_sn,
                              .exp_cmd_sn = ship.cmd_sn,
                              .max_cmd_sn = ship.cmd_sn + 8};
}

static struct iscsi_pdu data_in(uint32_t sn, uint32_t offset, uint32_t size, bool status)
{
    struct iscsi_pdu pdu = said(ISCSI_DATA_IN, 3);

    pdu.data_size = size;
    pdu.data.data_sn = sn;
    pdu.data.offset = offset;
    pdu.data.has_status = status;
    return pdu;
}

static void ready_for(uint8_t op, uint32_t length)
{
    start(9);
    target_wish.initial_r2t = true;
    target_wish.immediate_data = false;
    log_in();
    begin(3, op, length);
    ship.tasks[3].itt = 3; /* as the PDUs made below name it */
    drain();
}

#define EXPECT_FAILED(pdu, text)                                                                   \
    do {                                                                                           \
        assert_int_equal(hear(pdu, ones[9].bytes), ISCSI_SHIP_FAILED);                             \
        if (!strstr(ship.reason, text))                                                            \
            fail_msg("%s", ship.reason);                                                           \
    } while (0)

static void a_target_that_breaks_the_rules_is_left(void **state)
{
    struct iscsi_pdu pdu, answer_pdu;

    ready_for(READ, 1000);
    EXPECT_FAILED(data_in(1, 0, 500, false), "wrong DataSN");
    ready_for(READ, 1000);
    EXPECT_FAILED(data_in(0, 4, 500, false), "not due");
    ready_for(READ, 1000);
    EXPECT_FAILED(data_in(0, 0, 1001, false), "not due");
    ready_for(READ, 1000);
    EXPECT_FAILED(data_in(0, 0, 999, true), "without all data");
    ready_for(READ, 1000);
    pdu = data_in(0, 0, 1000, true);
    pdu.itt = 4;
    EXPECT_FAILED(pdu, "no command");
    ready_for(READ, 1000);
    EXPECT_FAILED(said(ISCSI_SCSI_RESPONSE, 3), "without all data");
    ready_for(READ, 1000);
    pdu = said(ISCSI_SCSI_RESPONSE, 3);
    pdu.stat_sn++;
    EXPECT_FAILED(pdu, "StatSN");
    ready_for(WRITE, 1000);
    EXPECT_FAILED(said(ISCSI_SCSI_RESPONSE, 3), "without all data");
    ready_for(WRITE, 1000);
    pdu = said(ISCSI_R2T, 3);
    pdu.r2t.desired_size = 1000;
    EXPECT_FAILED(pdu, "no tag");
    ready_for(WRITE, 1000);
    pdu.stat_sn = ship.exp_stat_sn;
    pdu.ttt = 5;
    pdu.r2t.desired_size = 1001;
    EXPECT_FAILED(pdu, "not due");
    ready_for(WRITE, 1000);
    pdu.r2t.desired_size = 600;
    assert_int_equal(hear(pdu, NULL), ISCSI_SHIP_MORE);
    answer_pdu = said(ISCSI_SCSI_RESPONSE, 3);
    answer_pdu.response.status = 2;
    EXPECT_FAILED(answer_pdu, "before the data were sent");
    ready_for(WRITE, 1000);
    assert_int_equal(hear(pdu, NULL), ISCSI_SHIP_MORE);
    pdu.r2t.r2t_sn = 1;
    pdu.r2t.offset = 600;
    pdu.r2t.desired_size = 400;
    EXPECT_FAILED(pdu, "MaxOutstandingR2T");
    ready_for(NONE, 0);
    pdu = said(ISCSI_REJECT, ISCSI_NO_TAG);
    pdu.reject.reason = 4;
    EXPECT_FAILED(pdu, "reason 0x04");
    ready_for(NONE, 0);
    pdu = said(ISCSI_SCSI_RESPONSE, 3);
    pdu.response.response = 1;
    EXPECT_FAILED(pdu, "could not complete");
}

/* The status may come while the list with the command's data is still being sent: its bytes stay
 * borrowed. */
static void a_status_waits_for_the_list_of_its_data(void **state)
{
    struct iovec *iov;
    enum iscsi_ship_event event;
    size_t size = 0;
    uint32_t count;

    start(3);
    log_in();
    begin(3, WRITE, 1000);
    ship.tasks[3].itt = 3;
    count = iscsi_ship_output(&ship, &iov);
    for (uint32_t i = 0; i < count; i++)
        size += iov[i].iov_len;
    iscsi_ship_sent(&ship, size - 1);
    assert_int_equal(hear(said(ISCSI_SCSI_RESPONSE, 3), NULL), ISCSI_SHIP_MORE);
    iscsi_ship_sent(&ship, 1);
    iscsi_ship_feed(&ship, NULL, 0, &event);
    assert_int_equal(event, ISCSI_SHIP_STATUS);
    assert_int_equal(ship.done.itt, 3);
    iscsi_ship_feed(&ship, NULL, 0, &event);
    assert_int_equal(event, ISCSI_SHIP_MORE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_combination_carries_commands_both_ways),
        cmocka_unit_test(the_window_is_filled_and_never_passed),
        cmocka_unit_test(chap_works_one_way_and_both_ways),
        cmocka_unit_test(pings_and_the_end_work_both_ways),
        cmocka_unit_test(a_target_that_breaks_the_rules_is_left),
        cmocka_unit_test(a_status_waits_for_the_list_of_its_data),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
