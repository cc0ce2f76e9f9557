/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The target for hosts: CmdSN order and window, task management and aborts in every state of a
 * task, pings, rejects, logout and asynchronous messages. */

#include "iscsi_target_peer.h"

static struct iscsi_pdu at_sn(struct iscsi_pdu pdu, uint32_t offset)
{
    pdu.cmd_sn = target.exp_cmd_sn + offset;
    return pdu;
}

static void good(struct iscsi_target_task *task)
{
    give(task, (struct iscsi_target_answer){0});
}

/* ---- order and window ---- */

static void the_window_is_what_is_free(void **state)
{
    LOG_IN(3, "");
    for (uint32_t itt = 1; itt <= 3; itt++)
        assert_int_equal(tell(read_of(itt, 0), NULL), ISCSI_TARGET_COMMAND);
    /* Closed: the next one is ignored, however often it comes. */
    assert_int_equal(tell(read_of(4, 0), NULL), ISCSI_TARGET_MORE);
    assert_int_equal(tell(read_of(4, 0), NULL), ISCSI_TARGET_MORE);
    assert_int_equal(target.ignored_count, 2);
    assert_int_equal(answer_count, 0);
    good(commands[1]);
    assert_int_equal(answers[0].itt, 2);
    assert_int_equal(answers[0].exp_cmd_sn, 1); /* the first was 0xFFFFFFFE */
    assert_int_equal(answers[0].max_cmd_sn, 1);
    assert_int_equal(tell(read_of(4, 0), NULL), ISCSI_TARGET_COMMAND);
    good(commands[0]);
    good(commands[2]);
    good(commands[3]);
    assert_int_equal(answers[0].max_cmd_sn - answers[0].exp_cmd_sn, 2);
    assert_int_equal(released_count, 4);
}

static void a_cmd_sn_out_of_the_window_is_ignored(void **state)
{
    static const uint32_t offsets[] = {0xFFFFFFFF, 0x80000001, 4, 5, 1000, 0x7FFFFFFF};

    for (unsigned i = 0; i < COUNT(offsets); i++) {
        LOG_IN(4, "");
        assert_int_equal(tell(at_sn(read_of(1, 0), offsets[i]), NULL), ISCSI_TARGET_MORE);
        assert_int_equal(target.ignored_count, 1);
        /* With data that follow it. */
        assert_int_equal(tell(at_sn(write_of(2, 1000, 100, false), offsets[i]), source),
                         ISCSI_TARGET_MORE);
        assert_int_equal(tell(data_of(2, ISCSI_NO_TAG, 0, 100, 900, true), source),
                         ISCSI_TARGET_MORE);
        assert_int_equal(answer_count, 0);
        assert_int_equal(command_count, 0);
        assert_int_equal(tell(read_of(3, 0), NULL), ISCSI_TARGET_COMMAND);
    }
}

static void commands_ahead_of_their_turn_wait_for_it(void **state)
{
    struct iscsi_pdu nop = request_of(ISCSI_NOP_OUT, 60);

    LOG_IN(6, "");
    nop = request_of(ISCSI_NOP_OUT, 60);
    nop.immediate = false;
    assert_int_equal(tell(at_sn(read_of(4, 0), 3), NULL), ISCSI_TARGET_MORE);
    assert_int_equal(tell(at_sn(read_of(2, 0), 1), NULL), ISCSI_TARGET_MORE);
    assert_int_equal(tell(at_sn(read_of(22, 0), 1), NULL), ISCSI_TARGET_MORE); /* there already */
    assert_int_equal(target.ignored_count, 1);
    assert_int_equal(tell(at_sn(nop, 2), NULL), ISCSI_TARGET_MORE); /* answered at once */
    assert_int_equal(answers[0].opcode, ISCSI_NOP_IN);
    assert_int_equal(answers[0].exp_cmd_sn, 0xFFFFFFFE);
    assert_int_equal(answers[0].max_cmd_sn, 0xFFFFFFFE + 5);
    assert_int_equal(command_count, 0);
    tell(read_of(1, 0), NULL);
    assert_int_equal(command_count, 3);
    assert_int_equal(commands[0]->itt, 1);
    assert_int_equal(commands[1]->itt, 2);
    assert_int_equal(commands[2]->itt, 4);
    assert_int_equal(target.exp_cmd_sn, 2);
    assert_int_equal(target.ahead_count, 0);
    good(commands[0]);
    good(commands[2]);
    good(commands[1]);
    assert_int_equal(target.window_used, 0);
    assert_int_equal(answers[0].max_cmd_sn - answers[0].exp_cmd_sn, 5);
}

static void a_write_ahead_of_its_turn_keeps_its_data_or_is_busy(void **state)
{
    for (unsigned mix = 0; mix < 8; mix++) {
        bool take = mix & 1, pieces = mix & 2, more = mix & 4;

        LOG_IN(4, "InitialR2T=No\0");
        memset(place, 0, 4096);
        tell_chunk = pieces ? 30 : SIZE_MAX;
        auto_receive = take;
        assert_int_equal(tell(at_sn(write_of(2, 1000, 400, !more), 1), source), ISCSI_TARGET_EARLY);
        if (more)
            tell(data_of(2, ISCSI_NO_TAG, 0, 400, 600, true), source + 400);
        assert_int_equal(answer_count, 0);
        auto_receive = true;
        tell(read_of(1, 0), NULL);
        assert_int_equal(commands[1]->itt, 1);
        if (!take) {
            assert_int_equal(answer_count, 1);
            assert_int_equal(answers[0].itt, 2);
            assert_int_equal(answers[0].response.status, 8);
            assert_int_equal(command_count, 2); /* EARLY, and COMMAND for the other */
            continue;
        }
        assert_int_equal(command_count, 3);
        assert_ptr_equal(commands[2], commands[0]);
        if (!more) { /* the rest is asked for only now */
            assert_int_equal(answers[0].opcode, ISCSI_R2T);
            assert_int_equal(answers[0].r2t.offset, 400);
            assert_int_equal(tell(data_of(2, answers[0].ttt, 0, 400, 600, true), source + 400),
                             ISCSI_TARGET_DATA);
        } else {
            assert_int_equal(events[event_count - 1], ISCSI_TARGET_DATA);
        }
        assert_ptr_equal(target.task, commands[0]);
        assert_memory_equal(place, source, 1000);
        give(commands[0], (struct iscsi_target_answer){.out_bytes = 1000});
        assert_int_equal(answers[0].response.status, 0);
    }
    tell_chunk = SIZE_MAX;
}

static void immediate_commands_have_slots_of_their_own(void **state)
{
    LOG_IN(1, "");
    tell(read_of(1, 0), NULL);
    for (uint32_t itt = 2; itt < 2 + ISCSI_TARGET_IMMEDIATE_LIMIT; itt++) {
        struct iscsi_pdu pdu = read_of(itt, 0);

        pdu.immediate = true;
        assert_int_equal(tell(pdu, NULL), ISCSI_TARGET_COMMAND);
        assert_true(last_command()->immediate);
    }
    for (unsigned data = 0; data < 2; data++) {
        struct iscsi_pdu pdu = write_of(9, 1000, data * 1000, true);

        pdu.immediate = true;
        tell_chunk = data ? 60 : SIZE_MAX;
        assert_int_equal(tell(pdu, source), ISCSI_TARGET_MORE);
        assert_int_equal(answers[0].opcode, ISCSI_REJECT);
        assert_int_equal(answers[0].reject.reason, ISCSI_REJECT_TOO_MANY_IMMEDIATE);
        assert_int_equal(get_u32(answer_data[0] + 16), 9);
    }
    tell_chunk = SIZE_MAX;
    good(commands[1]);
    {
        struct iscsi_pdu pdu = read_of(9, 0);

        pdu.immediate = true;
        assert_int_equal(tell(pdu, NULL), ISCSI_TARGET_COMMAND);
    }
}

/* A slot whose answer is still being sent is waited for, and nothing is lost. */
static void slots_being_sent_hold_the_input_back(void **state)
{
    uint8_t bytes[48 * 16];
    size_t size = 0, taken;
    enum iscsi_target_event event;
    struct iovec *iov;
    uint32_t count;

    LOG_IN(2, "");
    for (uint32_t itt = 1; itt <= 2; itt++)
        tell(read_of(itt, 0), NULL);
    for (uint32_t itt = 3; itt < 3 + ISCSI_TARGET_IMMEDIATE_LIMIT; itt++) {
        struct iscsi_pdu pdu = read_of(itt, 0);

        pdu.immediate = true;
        tell(pdu, NULL);
    }
    for (unsigned i = 0; i < 6; i++)
        iscsi_target_respond(&target, commands[i], &(struct iscsi_target_answer){0});
    count = iscsi_target_output(&target, &iov);
    assert_int_equal(count, 6);
    {
        struct iscsi_pdu pdu = read_of(20, 0);

        size = peer_encode(&pdu, NULL, bytes);
    }
    taken = iscsi_target_feed(&target, bytes, size, &event);
    assert_int_equal(event, ISCSI_TARGET_MORE);
    assert_int_equal(taken, 0);
    iscsi_target_sent(&target, (size_t)6 * 48);
    assert_int_equal(iscsi_target_feed(&target, bytes, size, &event), 0);
    peer_collect();
    assert_int_equal(released_count, 6);
    assert_int_equal(iscsi_target_feed(&target, bytes, size, &event), 48);
    assert_int_equal(event, ISCSI_TARGET_COMMAND);
}

/* ---- task management ---- */

static void aborts_are_judged_by_what_the_task_is(void **state)
{
    LOG_IN(8, "");
    tell(read_of(1, 512), NULL);
    /* Handed out: the caller's to abort. */
    assert_int_equal(tell(manage_of(ISCSI_ABORT_TASK, 40, 1, 0xFFFFFFFE), NULL),
                     ISCSI_TARGET_MANAGE);
    assert_ptr_equal(target.manage.aborted, commands[0]);
    assert_int_equal(target.manage.function, ISCSI_ABORT_TASK);
    assert_true(iscsi_target_abort(&target, target.manage.aborted));
    iscsi_target_manage_done(&target, target.manage.request, ISCSI_FUNCTION_COMPLETE);
    peer_drain();
    assert_int_equal(answer_count, 1);
    assert_int_equal(answers[0].opcode, ISCSI_TASK_RESPONSE);
    assert_int_equal(answers[0].itt, 40);
    assert_int_equal(answers[0].task.response, ISCSI_FUNCTION_COMPLETE);
    assert_int_equal(target.open_count, 0);
    assert_int_equal(released_count, 0); /* it came back at once */
    assert_null(iscsi_target_find(&target, 1));
    /* No such task. */
    tell(manage_of(ISCSI_ABORT_TASK, 40, 1, 0xFFFFFFFE), NULL);
    assert_int_equal(answers[0].task.response, ISCSI_FUNCTION_NO_TASK);
    /* In the window, but after the request. */
    tell(manage_of(ISCSI_ABORT_TASK, 40, 9, target.exp_cmd_sn), NULL);
    assert_int_equal(answers[0].task.response, ISCSI_FUNCTION_NO_TASK);
    /* Ahead of its turn: ended here, and its turn passes. */
    tell(at_sn(read_of(3, 0), 1), NULL);
    tell(manage_of(ISCSI_ABORT_TASK, 40, 3, target.exp_cmd_sn + 1), NULL);
    assert_int_equal(answers[0].task.response, ISCSI_FUNCTION_COMPLETE);
    tell(read_of(2, 0), NULL);
    assert_int_equal(last_command()->itt, 2);
    assert_int_equal(command_count, 2);
    assert_int_equal(target.exp_cmd_sn, 1);
    /* Not yet come, and before the request: it counts as received (RFC 7143 11.6.1). */
    {
        struct iscsi_pdu pdu = manage_of(ISCSI_ABORT_TASK, 40, 5, target.exp_cmd_sn);

        pdu.cmd_sn = target.exp_cmd_sn + 1;
        tell(pdu, NULL);
        assert_int_equal(answers[0].task.response, ISCSI_FUNCTION_COMPLETE);
        assert_int_equal(target.exp_cmd_sn, 2);
        assert_int_equal(tell(at_sn(read_of(5, 0), 0xFFFFFFFF), NULL), ISCSI_TARGET_MORE);
        assert_int_equal(command_count, 2);
        assert_int_equal(tell(read_of(6, 0), NULL), ISCSI_TARGET_COMMAND);
    }
}

static void an_answer_on_its_way_stays_and_goes_first(void **state)
{
    struct iscsi_target_answer answer = {0};

    LOG_IN(4, "");
    tell(read_of(1, 0), NULL);
    iscsi_target_respond(&target, commands[0], &answer);
    tell(manage_of(ISCSI_ABORT_TASK, 40, 1, 0xFFFFFFFE), NULL);
    assert_int_equal(answer_count, 2);
    assert_int_equal(answers[0].opcode, ISCSI_SCSI_RESPONSE);
    assert_int_equal(answers[1].opcode, ISCSI_TASK_RESPONSE);
    assert_int_equal(answers[1].task.response, ISCSI_FUNCTION_NO_TASK);
}

static void every_function_is_handed_out_or_answered(void **state)
{
    static const struct {
        uint8_t function;
        int response; /* -1: handed out */
    } rows[] = {{0, 5},  {1, 1},  {2, -1}, {3, -1}, {4, -1}, {5, -1},
                {6, -1}, {7, -1}, {8, 4},  {9, 5},  {127, 5}};

    for (unsigned i = 0; i < COUNT(rows) * 2; i++) {
        struct iscsi_pdu pdu;
        enum iscsi_target_event event;

        LOG_IN(2, "");
        pdu = manage_of(rows[i / 2].function, 40, ISCSI_NO_TAG, 0);
        pdu.lun = 7ull << 48;
        pdu.immediate = i & 1;
        event = tell(pdu, NULL);
        assert_int_equal(target.exp_cmd_sn, i & 1 ? 0xFFFFFFFE : 0xFFFFFFFF);
        if (rows[i / 2].response >= 0) {
            assert_int_equal(event, ISCSI_TARGET_MORE);
            assert_int_equal(answers[0].task.response, rows[i / 2].response);
            continue;
        }
        assert_int_equal(event, ISCSI_TARGET_MANAGE);
        assert_int_equal(target.manage.function, rows[i / 2].function);
        assert_int_equal(target.manage.lun[1], 7);
        assert_int_equal(answer_count, 0);
        iscsi_target_manage_done(&target, target.manage.request, ISCSI_FUNCTION_NO_LUN);
        peer_drain();
        assert_int_equal(answers[0].task.response, ISCSI_FUNCTION_NO_LUN);
        assert_int_equal(released_count, 0);
        assert_int_equal(target.window_used + target.immediate_used, 0);
    }
    /* In its turn, when it comes ahead. */
    LOG_IN(4, "");
    {
        struct iscsi_pdu pdu = manage_of(ISCSI_LOGICAL_UNIT_RESET, 40, ISCSI_NO_TAG, 0);

        pdu.immediate = false;
        assert_int_equal(tell(at_sn(pdu, 1), NULL), ISCSI_TARGET_MORE);
        assert_int_equal(tell(read_of(1, 0), NULL), ISCSI_TARGET_MANAGE);
        assert_int_equal(events[0], ISCSI_TARGET_COMMAND);
        assert_int_equal(iscsi_target_next(&target, NULL)->itt, 1);
        assert_null(iscsi_target_next(&target, iscsi_target_next(&target, NULL)));
    }
}

/* ABORT TASK of a write in each state of its data; what comes later is dropped, the tag may be used
 * again, and the slot comes back. */
static void a_write_is_aborted_in_every_state(void **state)
{
    enum { NO_DATA_YET, UNASKED_OPEN, ASKED, WHOLE, COUNT_OF_STATES };

    for (unsigned which = 0; which < COUNT_OF_STATES; which++)
        for (unsigned rest = 0; rest < 3; rest++) {
            struct iscsi_target_task *task;
            uint32_t ttt = ISCSI_NO_TAG, sn = 0, from = 500;

            LOG_IN(2, "InitialR2T=No\0FirstBurstLength=2000\0MaxBurstLength=2000\0");
            memset(place, 0, 8000);
            switch (which) {
            case NO_DATA_YET:
                auto_receive = false;
                tell(write_of(50, 6000, 0, true), NULL);
                break;
            case UNASKED_OPEN:
                tell(write_of(50, 6000, 500, false), source);
                break;
            case ASKED:
                tell(write_of(50, 6000, 500, true), source);
                ttt = answers[0].ttt;
                assert_int_equal(answers[0].opcode, ISCSI_R2T);
                tell(data_of(50, ttt, 0, 500, 100, false), source + 500);
                sn = 1;
                from = 600;
                break;
            case WHOLE:
                tell(write_of(50, 500, 500, true), source);
                break;
            }
            task = last_command();
            tell(manage_of(ISCSI_ABORT_TASK, 40, 50, 0xFFFFFFFE), NULL);
            assert_ptr_equal(target.manage.aborted, task);
            assert_true(iscsi_target_abort(&target, task));
            iscsi_target_manage_done(&target, target.manage.request, ISCSI_FUNCTION_COMPLETE);
            peer_drain();
            assert_int_equal(answers[0].opcode, ISCSI_TASK_RESPONSE);
            assert_int_equal(target.window_used, 0);
            memset(place, 0, 8000);
            if (rest == 0) { /* its data come all the same */
                assert_int_equal(tell(data_of(50, ttt, sn, from, 700, false), source),
                                 ISCSI_TARGET_MORE);
                assert_int_equal(tell(data_of(50, ttt, sn + 1, from + 700, 100, true), source),
                                 ISCSI_TARGET_MORE);
                assert_int_equal(answer_count, 0);
            }
            for (unsigned i = 0; i < 8000; i++)
                assert_int_equal(place[i], 0);
            auto_receive = true;
            /* As many commands as ever, with the same tag. */
            for (unsigned round = 0; round < 20; round++) {
                uint32_t itt = rest == 1 ? 50 : 60 + round;

                tell(write_of(itt, 100, 100, true), source);
                assert_int_equal(events[event_count - 1], ISCSI_TARGET_DATA);
                good(last_command());
                assert_int_equal(answers[0].itt, itt);
            }
            assert_int_equal(released_count, 20);
        }
}

/* While bytes are on their way to its place the task is not given back. */
static void an_abort_waits_for_bytes_under_way(void **state)
{
    for (unsigned by_data_out = 0; by_data_out < 2; by_data_out++)
        for (unsigned more = 0; more < 2; more++) {
            enum iscsi_target_event event;
            struct iscsi_target_task *task;
            struct iscsi_pdu pdu;
            uint8_t bytes[128], *to;
            size_t size;

            LOG_IN(2, "InitialR2T=No\0");
            pdu = write_of(50, 4096, by_data_out ? 0 : 1000, !more && !by_data_out);
            if (by_data_out) {
                tell(pdu, NULL);
                pdu = data_of(50, ISCSI_NO_TAG, 0, 0, 1000, !more);
            }
            event_count = 0;
            size = iscsi_header_put(&pdu, false, bytes);
            peer_bytes(bytes, size, SIZE_MAX);
            task = last_command();
            assert_int_equal(iscsi_target_wants(&target, &to), 1000);
            assert_ptr_equal(to, place);
            assert_false(iscsi_target_abort(&target, task));
            assert_int_equal(target.open_count, 0);
            peer_collect();
            assert_int_equal(released_count, 0);
            memcpy(to, source, 1000);
            iscsi_target_filled(&target, 1000);
            iscsi_target_feed(&target, NULL, 0, &event);
            assert_int_equal(event, ISCSI_TARGET_MORE);
            peer_collect();
            assert_int_equal(released_count, 1);
            if (more)
                assert_int_equal(
                    tell(data_of(50, ISCSI_NO_TAG, by_data_out, 1000, 500, true), source),
                    ISCSI_TARGET_MORE);
            assert_int_equal(tell(read_of(50, 0), NULL), ISCSI_TARGET_COMMAND);
        }
}

static void an_abort_waits_for_what_is_being_sent(void **state)
{
    for (unsigned many = 0; many < 2; many++) {
        struct iscsi_target_answer answer = {.data = source, .data_bytes = 200000};
        struct iovec *iov;
        uint32_t count;
        size_t size = 0;

        /* Many PDUs: more than one list. */
        if (many)
            LOG_IN(2, "MaxRecvDataSegmentLength=512\0");
        else
            LOG_IN(2, "MaxRecvDataSegmentLength=1000000\0");
        tell(read_of(1, 200000), NULL);
        iscsi_target_respond(&target, commands[0], &answer);
        count = iscsi_target_output(&target, &iov);
        assert_true(many ? count > 60 : count == 2);
        for (uint32_t i = 0; i < count; i++)
            size += iov[i].iov_len;
        iscsi_target_sent(&target, 100);
        assert_false(iscsi_target_abort(&target, commands[0]));
        peer_collect();
        assert_int_equal(released_count, 0);
        iscsi_target_sent(&target, size - 100);
        peer_collect();
        assert_int_equal(released_count, 1);
        assert_int_equal(iscsi_target_output(&target, &iov), 0);
        assert_int_equal(target.window_used, 0);
        assert_int_equal(target.leaving_count, 0);
    }
    /* Between two lists nothing of it is being sent. */
    {
        struct iovec *iov;
        uint32_t count;
        size_t size = 0;

        LOG_IN(2, "MaxRecvDataSegmentLength=512\0");
        tell(read_of(1, 200000), NULL);
        iscsi_target_respond(&target, commands[0],
                             &(struct iscsi_target_answer){.data = source, .data_bytes = 200000});
        count = iscsi_target_output(&target, &iov);
        for (uint32_t i = 0; i < count; i++)
            size += iov[i].iov_len;
        iscsi_target_sent(&target, size);
        assert_true(iscsi_target_abort(&target, commands[0]));
        assert_int_equal(iscsi_target_output(&target, &iov), 0);
        assert_int_equal(target.window_used, 0);
        /* A status alone. */
        tell(read_of(2, 0), NULL);
        iscsi_target_respond(&target, last_command(), &(struct iscsi_target_answer){0});
        count = iscsi_target_output(&target, &iov);
        assert_int_equal(count, 1);
        assert_false(iscsi_target_abort(&target, last_command()));
        assert_int_equal(target.window_used, 0);
        iscsi_target_sent(&target, 48);
        peer_collect();
        assert_int_equal(released_count, 1);
        assert_int_equal(target.leaving_count, 0);
    }
    /* Answered and not yet generated: it is never sent. */
    LOG_IN(2, "");
    tell(read_of(1, 100), NULL);
    iscsi_target_respond(&target, commands[0],
                         &(struct iscsi_target_answer){.data = source, .data_bytes = 100});
    assert_true(iscsi_target_abort(&target, commands[0]));
    answer_count = 0;
    peer_drain();
    assert_int_equal(answer_count, 0);
    assert_int_equal(target.window_used, 0);
}

/* An answer before the data makes an R2T that was not sent yet superfluous; one that was sent is
 * waited for. */
static void an_early_answer_takes_back_what_was_not_asked(void **state)
{
    enum iscsi_target_event event;
    uint8_t bytes[1024];
    struct iscsi_pdu pdu;

    LOG_IN(2, "");
    pdu = write_of(50, 5000, 100, true);
    event_count = answer_count = 0;
    event = peer_bytes(bytes, peer_encode(&pdu, source, bytes), SIZE_MAX);
    assert_int_equal(event, ISCSI_TARGET_COMMAND);
    give(last_command(), (struct iscsi_target_answer){.status = 2});
    assert_int_equal(answer_count, 1);
    assert_int_equal(answers[0].opcode, ISCSI_SCSI_RESPONSE);
    assert_int_equal(answers[0].response.exp_data_sn, 0);
    tell(write_of(51, 5000, 100, true), source);
    assert_int_equal(answers[0].opcode, ISCSI_R2T);
    pdu = data_of(51, answers[0].ttt, 0, 100, 4900, true);
    give(last_command(), (struct iscsi_target_answer){.status = 2});
    assert_int_equal(answer_count, 0);
    assert_int_equal(tell(pdu, source), ISCSI_TARGET_MORE);
    assert_int_equal(answer_count, 1);
    assert_int_equal(answers[0].opcode, ISCSI_SCSI_RESPONSE);
}

/* ---- the other requests ---- */

static void pings_go_both_ways(void **state)
{
    struct iscsi_pdu pdu;

    LOG_IN(2, "MaxRecvDataSegmentLength=600\0");
    pdu = request_of(ISCSI_NOP_OUT, 9);
    pdu.immediate = true;
    pdu.data_size = 301;
    pdu.lun = 3;
    for (unsigned pieces = 0; pieces < 2; pieces++) {
        tell_chunk = pieces ? 10 : SIZE_MAX;
        assert_int_equal(tell(pdu, source), ISCSI_TARGET_MORE);
        assert_int_equal(answers[0].opcode, ISCSI_NOP_IN);
        assert_int_equal(answers[0].itt, 9);
        assert_int_equal(answers[0].ttt, ISCSI_NO_TAG);
        assert_int_equal(answers[0].lun, 3);
        assert_int_equal(answers[0].data_size, 301);
        assert_memory_equal(answer_data[0], source, 301);
    }
    tell_chunk = SIZE_MAX;
    pdu.data_size = 5000;
    tell(pdu, source);
    assert_int_equal(answers[0].data_size, 600); /* not more than the host takes */
    pdu.data_size = 0;
    pdu.itt = ISCSI_NO_TAG;
    assert_int_equal(tell(pdu, NULL), ISCSI_TARGET_MORE); /* only brings numbers */
    assert_int_equal(answer_count, 0);
    assert_true(iscsi_target_ping(&target));
    assert_true(target.ping_pending);
    assert_false(iscsi_target_ping(&target));
    answer_count = 0;
    peer_drain();
    assert_int_equal(answers[0].opcode, ISCSI_NOP_IN);
    assert_int_equal(answers[0].itt, ISCSI_NO_TAG);
    pdu.ttt = answers[0].ttt + 1;
    tell(pdu, NULL);
    assert_int_equal(answers[0].reject.reason, ISCSI_REJECT_INVALID_FIELD);
    assert_true(target.ping_pending);
    pdu.ttt = target.ping_ttt;
    assert_int_equal(tell(pdu, NULL), ISCSI_TARGET_PONG);
    assert_false(target.ping_pending);
    /* In its turn, or out of it. */
    pdu = request_of(ISCSI_NOP_OUT, 9);
    tell(pdu, NULL);
    assert_int_equal(answer_count, 1);
    assert_int_equal(answers[0].exp_cmd_sn, 0xFFFFFFFF);
    assert_int_equal(tell(pdu, NULL), ISCSI_TARGET_MORE);
    assert_int_equal(answer_count, 0);
}

static void what_is_not_supported_is_rejected(void **state)
{
    static const struct {
        uint8_t opcode, reason;
        bool over;
    } rows[] = {
        {ISCSI_SNACK_REQUEST, ISCSI_REJECT_SNACK, false},
        {0x07, ISCSI_REJECT_UNSUPPORTED, false},
        {0x1C, ISCSI_REJECT_UNSUPPORTED, false},
        {0x1D, ISCSI_REJECT_UNSUPPORTED, false},
        {0x1E, ISCSI_REJECT_UNSUPPORTED, false},
        {0x3C, ISCSI_REJECT_UNSUPPORTED, false},
        {ISCSI_LOGIN_REQUEST, ISCSI_REJECT_PROTOCOL, true},
        {ISCSI_NOP_IN, ISCSI_REJECT_PROTOCOL, true},
        {ISCSI_SCSI_RESPONSE, ISCSI_REJECT_PROTOCOL, true},
        {ISCSI_TASK_RESPONSE, ISCSI_REJECT_PROTOCOL, true},
        {ISCSI_LOGIN_RESPONSE, ISCSI_REJECT_PROTOCOL, true},
        {ISCSI_TEXT_RESPONSE, ISCSI_REJECT_PROTOCOL, true},
        {ISCSI_DATA_IN, ISCSI_REJECT_PROTOCOL, true},
        {ISCSI_LOGOUT_RESPONSE, ISCSI_REJECT_PROTOCOL, true},
        {ISCSI_R2T, ISCSI_REJECT_PROTOCOL, true},
        {ISCSI_ASYNC_MESSAGE, ISCSI_REJECT_PROTOCOL, true},
        {ISCSI_REJECT, ISCSI_REJECT_PROTOCOL, true},
    };

    for (unsigned i = 0; i < COUNT(rows); i++)
        for (size_t chunk = 20; chunk <= 1000; chunk += 980) {
            uint8_t bytes[48 + 300] = {rows[i].opcode, 0x80};
            enum iscsi_target_event event;

            LOG_IN(2, "");
            put_u24(bytes + 5, 300);
            put_u32(bytes + 16, 77);
            answer_count = event_count = 0;
            event = peer_bytes(bytes, sizeof bytes, chunk);
            peer_drain();
            if (event != (rows[i].over ? ISCSI_TARGET_FAILED : ISCSI_TARGET_MORE) ||
                answer_count != 1 || answers[0].opcode != ISCSI_REJECT ||
                answers[0].reject.reason != rows[i].reason)
                fail_msg("opcode %02x: event %d, reason %02x", rows[i].opcode, event,
                         answers[0].reject.reason);
            assert_int_equal(answers[0].itt, ISCSI_NO_TAG);
            assert_memory_equal(answer_data[0], bytes, 48);
            if (!rows[i].over)
                assert_int_equal(tell(read_of(1, 0), NULL), ISCSI_TARGET_COMMAND);
        }
    /* A data segment longer than what we declared. */
    LOG_IN(2, "");
    {
        uint8_t bytes[48] = {ISCSI_NOP_OUT | 0x40, 0x80};

        put_u24(bytes + 5, 262145);
        answer_count = event_count = 0;
        assert_int_equal(peer_bytes(bytes, sizeof bytes, SIZE_MAX), ISCSI_TARGET_FAILED);
        peer_drain();
        assert_int_equal(answers[0].reject.reason, ISCSI_REJECT_PROTOCOL);
    }
}

static void logout_ends_the_session_after_its_answers(void **state)
{
    static const struct {
        uint8_t reason;
        uint16_t cid;
        int response;
    } rows[] = {{0, 0, 0}, {0, 9, 0}, {1, 3, 0}, {1, 4, 1}, {2, 3, 2}};

    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct iscsi_pdu pdu;
        enum iscsi_target_event event;

        LOG_IN(2, "");
        tell(read_of(1, 0), NULL);
        iscsi_target_respond(&target, commands[0], &(struct iscsi_target_answer){0});
        pdu = request_of(ISCSI_LOGOUT_REQUEST, 8);
        pdu.immediate = true;
        pdu.logout.reason = rows[i].reason;
        pdu.logout.cid = rows[i].cid;
        event = tell(pdu, NULL);
        assert_int_equal(event, rows[i].response ? ISCSI_TARGET_MORE : ISCSI_TARGET_CLOSED);
        assert_int_equal(answer_count, 2);
        {
            unsigned at = rows[i].response ? 0 : 1; /* a refusal may overtake */

            assert_int_equal(answers[at].opcode, ISCSI_LOGOUT_RESPONSE);
            assert_int_equal(answers[at].logout.response, rows[i].response);
            assert_int_equal(answers[at].itt, 8);
            assert_int_equal(answers[1 - at].opcode, ISCSI_SCSI_RESPONSE);
        }
    }
    /* In its turn, when it comes ahead. */
    LOG_IN(2, "");
    assert_int_equal(tell(at_sn(request_of(ISCSI_LOGOUT_REQUEST, 8), 1), NULL), ISCSI_TARGET_MORE);
    assert_int_equal(answer_count, 0);
    assert_int_equal(tell(read_of(1, 0), NULL), ISCSI_TARGET_CLOSED);
    assert_int_equal(answers[0].opcode, ISCSI_LOGOUT_RESPONSE);
}

static void the_target_speaks_on_its_own(void **state)
{
    static const enum iscsi_target_async all[] = {ISCSI_ASYNC_LOGOUT, ISCSI_ASYNC_DROP_CONNECTION,
                                                  ISCSI_ASYNC_DROP_SESSION};

    peer_start(2);
    assert_false(iscsi_target_ping(&target));
    assert_false(iscsi_target_async(&target, ISCSI_ASYNC_LOGOUT, 0, 0, 0));
    LOG_IN(2, "HeaderDigest=CRC32C\0DataDigest=CRC32C\0");
    for (unsigned i = 0; i < COUNT(all); i++) {
        answer_count = 0;
        assert_true(iscsi_target_async(&target, all[i], 1, 2, 3));
        peer_drain();
        assert_int_equal(answers[0].opcode, ISCSI_ASYNC_MESSAGE);
        assert_int_equal(answers[0].itt, ISCSI_NO_TAG);
        assert_int_equal(answers[0].async.event, i + 1);
        for (unsigned p = 0; p < 3; p++)
            assert_int_equal(answers[0].async.parameter[p], p + 1);
    }
    /* A host that reads nothing is not told for ever, nor answered for ever. */
    {
        struct iscsi_pdu pdu = request_of(ISCSI_NOP_OUT, 9);
        uint8_t bytes[8192];
        enum iscsi_target_event event = ISCSI_TARGET_MORE;
        unsigned told = 0, answered = 0;
        size_t size;

        while (told < 100000 && iscsi_target_async(&target, ISCSI_ASYNC_LOGOUT, 0, 0, 0))
            told++;
        assert_true(told > 10 && told < 1000);
        pdu.immediate = true;
        pdu.data_size = 100;
        size = peer_encode(&pdu, source, bytes);
        while (answered < 100000 && iscsi_target_feed(&target, bytes, size, &event) == size)
            answered++;
        assert_true(answered < 1000);
        assert_int_equal(event, ISCSI_TARGET_MORE);
        answer_count = 0;
        peer_drain();
        assert_int_equal(answer_count, told + answered);
        assert_int_equal(iscsi_target_feed(&target, bytes, size, &event), size);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_window_is_what_is_free),
        cmocka_unit_test(a_cmd_sn_out_of_the_window_is_ignored),
        cmocka_unit_test(commands_ahead_of_their_turn_wait_for_it),
        cmocka_unit_test(a_write_ahead_of_its_turn_keeps_its_data_or_is_busy),
        cmocka_unit_test(immediate_commands_have_slots_of_their_own),
        cmocka_unit_test(slots_being_sent_hold_the_input_back),
        cmocka_unit_test(aborts_are_judged_by_what_the_task_is),
        cmocka_unit_test(an_answer_on_its_way_stays_and_goes_first),
        cmocka_unit_test(every_function_is_handed_out_or_answered),
        cmocka_unit_test(a_write_is_aborted_in_every_state),
        cmocka_unit_test(an_abort_waits_for_bytes_under_way),
        cmocka_unit_test(an_abort_waits_for_what_is_being_sent),
        cmocka_unit_test(an_early_answer_takes_back_what_was_not_asked),
        cmocka_unit_test(pings_go_both_ways),
        cmocka_unit_test(what_is_not_supported_is_rejected),
        cmocka_unit_test(logout_ends_the_session_after_its_answers),
        cmocka_unit_test(the_target_speaks_on_its_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
