/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The coordinator's session to another array of its set, both ends in one process on one loop:
 * it finds the controller that leads and moves with it, each message is answered once in any order,
 * an end that falls silent is left, only who has the set's secret comes in, and what belongs to the
 * copy's sessions is refused here, as it is the other way round. */

#include "shell/copy_outgoing.h"
#include "shell/copy_server.h"
#include "shell/cut_outgoing.h"

#include "shell/crypto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include "array_sessions.h"

static struct loop loop;
static struct config berlin, paris;
static struct cut_outgoing *out;
static struct copy_server *servers[CONTROLLER_COUNT];
static bool stalled[CONTROLLER_COUNT]; /* this one's process stands still */

/* ---- the other array ---- */

static int leader; /* which of its controllers leads; -1: none */
static struct {
    int server;
    uint32_t handle;
    uint64_t number;
} asked[CUT_WINDOW];
static uint32_t asked_count;
static unsigned strange, batches;
static uint64_t state_count; /* told so many times */
static uint8_t set_id[GROUP_ID_SIZE];

static void on_copy_state(void *context, uint32_t group, struct copy_state *state)
{
    *state = (struct copy_state){.flags = COPY_STATE_HERE, .memory = 1, .window = COPY_WINDOW};
}

static void on_batch(void *context, uint32_t group, int half, uint32_t handle, const uint8_t *bytes,
                     uint32_t length)
{
    batches++;
    copy_server_answer(servers[context == (void *)&servers[1]], handle, true);
}

static void on_cut_state(void *context, uint32_t group, struct cut_state *state)
{
    int self = context == (void *)&servers[1];
    assert_int_equal(group, 0);
    *state = (struct cut_state){
        .flags = leader == self ? CUT_STATE_LEADER : 0, .run = 7, .promoted = ++state_count};
    memcpy(state->set, set_id, GROUP_ID_SIZE);
}

static void on_cut(void *context, uint32_t group, uint32_t handle, const uint8_t *bytes,
                   uint32_t length)
{
    int self = context == (void *)&servers[1];
    uint64_t number;
    assert_int_equal(group, 0);
    assert_true(asked_count < CUT_WINDOW);
    memcpy(&number, bytes, sizeof number);
    strange += length != CUT_MESSAGE_SIZE;
    for (uint32_t i = 8; i < length; i++)
        strange += bytes[i] != (uint8_t)(number + i);
    asked[asked_count].server = self;
    asked[asked_count].handle = handle;
    asked[asked_count++].number = number;
}

static const struct copy_server_user server_user = {
    .state = on_copy_state, .batch = on_batch, .cut_state = on_cut_state, .cut = on_cut};

/* The newest first; odd numbers are agreed to. */
static void answer_all(void)
{
    while (asked_count > 0) {
        asked_count--;
        copy_server_answer(servers[asked[asked_count].server], asked[asked_count].handle,
                           asked[asked_count].number % 2);
    }
}

/* ---- the coordinator ---- */

static unsigned ups, downs, states, goods, bads;
static uint64_t told;        /* the newest state */
static uint64_t told_before; /* the answer that came last */
static uint64_t answers[64];

static void on_up(void *context, const struct cut_state *state)
{
    assert_int_equal(ups, downs);
    assert_true(state->flags & CUT_STATE_LEADER);
    assert_int_equal(state->run, 7);
    ups++;
}

static void on_state(void *context, const struct cut_state *state)
{
    states++;
    told = state->promoted;
}

static void on_down(void *context)
{
    downs++;
    assert_int_equal(ups, downs);
}

static void on_answered(void *context, uint64_t number, bool good)
{
    assert_true(goods + bads < 64);
    assert_int_equal(good, number % 2);
    answers[goods + bads] = number;
    told_before = told;
    if (good)
        goods++;
    else
        bads++;
}

static const struct cut_outgoing_user user = {
    .up = on_up, .state = on_state, .down = on_down, .answered = on_answered};

static void send_message(uint64_t number, bool with_state)
{
    uint8_t bytes[CUT_MESSAGE_SIZE];
    for (uint32_t i = 8; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(number + i);
    memcpy(bytes, &number, sizeof number);
    cut_outgoing_send(out, number, bytes, with_state);
}

static void turn(void)
{
    loop_turn(&loop, loop.now_us + 5000);
    array_session_flush(&out->session);
    for (int i = 0; i < CONTROLLER_COUNT; i++)
        if (servers[i] && !stalled[i])
            copy_server_flush(servers[i]);
}

/* ---- configurations ---- */

static void parse(struct config *to, const char *name, const uint16_t ports[2],
                  const uint16_t others[2], const char *secret)
{
    char text[1024];
    snprintf(text, sizeof text,
             "[group of-%s]\nrole = send\narray = munich\naddress = 127.0.0.1:9\nvolumes = v\n"
             "secret = %s\nset = shop\nset_arrays = berlin, paris 127.0.0.1:%u 127.0.0.1:%u\n",
             name, secret, others[0], others[1]);
    parse_array(to, name, ports, text);
}

static void start(const char *secret)
{
    char why[TRACE_LINE];
    uint16_t ports[2] = {free_port(), free_port()}, own[2] = {8, 9};
    const char *wrong = loop_open(&loop, 256, -1);
    assert_null(wrong);
    parse(&berlin, "berlin", own, ports, "twelve letters");
    parse(&paris, "paris", ports, ports, secret);
    for (int i = 0; i < 2; i++) {
        stalled[i] = false;
        servers[i] = server_start(&loop, &paris, i, &server_user, &servers[i]);
    }
    out = calloc(1, sizeof *out);
    assert_non_null(out);
    wrong = cut_outgoing_start(out, &loop, &berlin, &berlin.groups[0], 1, 0, &user, NULL, why);
    if (wrong)
        fail_msg("%s", wrong);
    array_session_want(&out->session, true);
    leader = 0;
    state_count = told = 0;
    struct iscsi_crypto crypto = crypto_of_library();
    assert_true(copy_set_identity(set_id, &crypto, &paris.groups[0]));
    ups = downs = states = goods = bads = strange = batches = asked_count = 0;
}

static void stop(void)
{
    loop_close(&loop);
    for (int i = 0; i < 2; i++)
        server_free(servers[i]);
    session_free(&out->session);
    free(out);
}

/* ---- tests ---- */

static void messages_are_answered_once_in_any_order(void **state)
{
    start("twelve letters");
    UNTIL(ups == 1, 5);
    for (uint64_t number = 1; number <= CUT_WINDOW; number++)
        send_message(number, false);
    UNTIL(asked_count == CUT_WINDOW, 5);
    answer_all();
    UNTIL(goods + bads == CUT_WINDOW, 5);
    assert_int_equal(goods, CUT_WINDOW / 2);
    uint32_t seen = 0;
    for (uint32_t i = 0; i < CUT_WINDOW; i++)
        seen |= 1u << answers[i];
    assert_int_equal(seen, (2u << CUT_WINDOW) - 2);
    assert_int_equal(strange, 0);
    unsigned before = states;
    UNTIL(states >= before + 3, 5); /* it keeps asking */
    assert_int_equal(downs, 0);
    assert_non_null(copy_server_coordinator(servers[0], 0));
    assert_null(copy_server_coordinator(servers[1], 0));
    assert_null(copy_server_from(servers[0], 0, 0)); /* that is the copy's */
    stop();
}

static void it_is_where_the_leader_is(void **state)
{
    start("twelve letters");
    leader = 1;
    UNTIL(ups == 1, 5);
    assert_int_equal(out->session.counts.address, 1);
    send_message(3, true);
    UNTIL(asked_count == 1, 5);
    leader = 0; /* what is under way is never answered */
    UNTIL(ups == 2, 5);
    assert_int_equal(out->session.counts.address, 0);
    answer_all();
    send_message(5, false);
    UNTIL(asked_count == 1, 5);
    assert_int_equal(asked[0].server, 0);
    answer_all();
    UNTIL(goods == 1, 5);
    assert_int_equal(answers[0], 5);
    copy_server_leave(servers[0], 0); /* of the copy's sessions */
    for (int i = 0; i < 20; i++)
        turn();
    assert_int_equal(downs, 1);
    leader = -1;
    copy_server_leave_set(servers[0], 0); /* at once, not when it is asked */
    UNTIL(downs == 2, 1);
    array_session_want(&out->session, false);
    leader = 0;
    for (int i = 0; i < 100; i++)
        turn();
    assert_int_equal(ups, 2);
    array_session_want(&out->session, true);
    UNTIL(ups == 3, 5);
    array_session_reset(&out->session);
    UNTIL(ups == 4, 5);
    assert_int_equal(downs, 3);
    stop();
}

/* What was carried out is answered after a state that was read since. */
static void a_state_that_is_wanted_is_newer_than_the_answer(void **state)
{
    start("twelve letters");
    UNTIL(ups == 1, 5);
    for (int round = 0; round < 6; round++) {
        unsigned before = goods + bads;
        send_message(101, true);
        send_message(102, true); /* refused: nothing is read for it */
        if (round % 2)
            send_message(103, true);
        UNTIL(asked_count == 2u + round % 2, 5);
        for (int i = 0; i < round * 20; i++) /* at other moments of what it asks by itself */
            turn();
        uint64_t when = state_count;
        answer_all();
        UNTIL(goods + bads == before + 2 + round % 2, 5);
        assert_true(told_before > when);
    }
    assert_int_equal(bads, 6);
    set_id[3]++; /* another set */
    UNTIL(downs == 1, 5);
    assert_non_null(strstr(out->session.counts.error, "another set of this name"));
    stop();
}

static void who_says_nothing_is_left(void **state)
{
    start("twelve letters");
    UNTIL(ups == 1, 5);
    stalled[0] = true;
    uint64_t before_us = loop_clock_us();
    UNTIL(downs == 1, 10);
    assert_true(loop_clock_us() - before_us < (CUT_SILENT_MS + 2 * CUT_ASK_MS + 1000) * 1000ull);
    assert_string_equal(out->session.counts.error, "it does not answer");
    leader = 1;
    UNTIL(ups == 2, 5 + CUT_LOGIN_MS / 1000);
    assert_int_equal(out->session.counts.address, 1);
    stop();
}

/* The copy goes on while anything moves: its batches may keep a thin line from an answer for long.
 * A cut does not wait for what its question waits for. */
static void silence_is_what_its_kind_says(void **state)
{
    for (int by_question = 0; by_question < 2; by_question++) {
        start("twelve letters");
        UNTIL(ups == 1, 5);
        struct array_session_kind brief = *out->session.kind;
        brief.silent_ms = 1000;
        brief.silent_by_question = by_question;
        out->session.kind = &brief;
        stalled[0] = true;
        for (uint64_t number = 1; number < CUT_WINDOW && downs == 0; number++) {
            uint64_t next_us = loop_clock_us() + 300000;
            send_message(number, false); /* it leaves, and nothing comes back */
            while (loop_clock_us() < next_us && downs == 0)
                turn();
        }
        assert_int_equal(downs, by_question);
        stop();
    }
}

static void only_the_coordinator_comes_in(void **state)
{
    start("other letters");
    UNTIL(out->session.counts.error[0], 5);
    for (int i = 0; i < 50; i++)
        turn();
    assert_int_equal(ups, 0);
    if (!strstr(out->session.counts.error, "uthenticat"))
        fail_msg("%s", out->session.counts.error);
    stop();
    start("twelve letters");
    snprintf(out->session.names.initiator, sizeof out->session.names.initiator,
             "iqn.2026-11.holdfast:rome.a:shop");
    UNTIL(out->session.counts.error[0], 5);
    assert_int_equal(ups, 0);
    stop();
}

/* A batch of the copy is nothing that comes from a coordinator. */
static void the_copys_commands_are_not_for_it(void **state)
{
    static uint8_t batch[4096];
    start("twelve letters");
    UNTIL(ups == 1, 5);
    struct iscsi_ship_command command = {.out = batch, .out_bytes = sizeof batch};
    copy_cdb_batch(command.cdb, sizeof batch);
    iscsi_ship_command(&out->session.ship, 100, &command);
    UNTIL(downs == 1, 5);
    assert_int_equal(batches, 0);
    UNTIL(ups == 2, 5);
    copy_cdb_state(command.cdb);
    static uint8_t answer[COPY_STATE_SIZE];
    command = (struct iscsi_ship_command){.in = answer, .in_bytes = sizeof answer};
    copy_cdb_state(command.cdb);
    iscsi_ship_command(&out->session.ship, 100, &command);
    UNTIL(downs == 2, 5);
    stop();
}

/* And its own are told from others by all of their bytes. */
static void commands_are_judged(void **state)
{
    uint8_t cdb[16];
    uint32_t length, batch;
    copy_cdb_cut(cdb);
    assert_int_equal(copy_cdb_judge(cdb, &length, &batch), COPY_COMMAND_CUT);
    assert_int_equal(length, CUT_MESSAGE_SIZE);
    assert_int_equal(batch, CUT_MESSAGE_SIZE);
    cdb[8]++;
    assert_int_equal(copy_cdb_judge(cdb, &length, &batch), COPY_COMMAND_NONE);
    copy_cdb_cut_state(cdb);
    assert_int_equal(copy_cdb_judge(cdb, &length, &batch), COPY_COMMAND_CUT_STATE);
    cdb[5] = 1;
    assert_int_equal(copy_cdb_judge(cdb, &length, &batch), COPY_COMMAND_NONE);
}

static void sets_and_members_have_secrets_of_their_own(void **state)
{
    uint16_t ports[2] = {8, 9};
    struct iscsi_crypto crypto = crypto_of_library();
    struct copy_names one, other;
    uint8_t id[2][COPY_ID_SIZE];
    parse(&berlin, "berlin", ports, ports, "twelve letters");
    struct config_group *group = &berlin.groups[0];
    assert_true(copy_names_make_cut(&one, &crypto, "berlin", group, "paris", 0));
    assert_string_equal(one.target, "iqn.2026-11.holdfast:paris.cut");
    assert_string_equal(one.initiator, "iqn.2026-11.holdfast:berlin.a:shop");
    assert_true(copy_names_make_cut(&other, &crypto, "berlin", group, "rome", 0));
    assert_string_not_equal(one.target_secret, other.target_secret);
    assert_true(copy_names_make_cut(&other, &crypto, "berlin", group, "paris", 1));
    assert_string_not_equal(one.initiator_secret, other.initiator_secret);
    assert_true(copy_names_make(&other, &crypto, &berlin, group, false, 0));
    assert_string_not_equal(one.initiator_secret, other.initiator_secret);
    assert_true(copy_set_identity(id[0], &crypto, group));
    struct config_set_array first = group->set_arrays[0];
    group->set_arrays[0] = group->set_arrays[1];
    group->set_arrays[1] = first;
    assert_true(copy_set_identity(id[1], &crypto, group));
    assert_memory_not_equal(id[0], id[1], COPY_ID_SIZE);
}

/* Both ends of two versions of the program have to make the same secrets of the configured one. */
static void the_labels_of_secrets_stay(void **state)
{
    uint16_t ports[2] = {8, 9};
    struct iscsi_crypto crypto = crypto_of_library();
    struct copy_names copy, cut;
    parse(&berlin, "berlin", ports, ports, "twelve letters");
    struct config_group *group = &berlin.groups[0];
    assert_true(copy_names_make(&copy, &crypto, &berlin, group, false, 1));
    assert_true(copy_names_make_cut(&cut, &crypto, "berlin", group, "paris", 1));
    const struct {
        const char *label, *secret;
    } rows[] = {
        {"berlin b copy initiator", copy.initiator_secret},
        {"berlin b copy target", copy.target_secret},
        {"berlin b cut initiator", cut.initiator_secret},
        {"berlin b paris cut target", cut.target_secret},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char derived[ISCSI_CHAP_DERIVED_SIZE];
        assert_true(iscsi_chap_derive(&crypto, "twelve letters", rows[i].label, derived));
        assert_string_equal(rows[i].secret, derived);
    }
    assert_string_equal(copy.target, "iqn.2026-11.holdfast:munich.copy");
    assert_string_equal(copy.initiator, "iqn.2026-11.holdfast:berlin.b:of-berlin");
    assert_true(copy_names_make(&copy, &crypto, &berlin, group, true, 0));
    assert_string_equal(copy.target, "iqn.2026-11.holdfast:berlin.copy");
    assert_string_equal(copy.initiator, "iqn.2026-11.holdfast:munich.a:of-berlin");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_answered_once_in_any_order),
        cmocka_unit_test(it_is_where_the_leader_is),
        cmocka_unit_test(a_state_that_is_wanted_is_newer_than_the_answer),
        cmocka_unit_test(who_says_nothing_is_left),
        cmocka_unit_test(silence_is_what_its_kind_says),
        cmocka_unit_test(only_the_coordinator_comes_in),
        cmocka_unit_test(the_copys_commands_are_not_for_it),
        cmocka_unit_test(commands_are_judged),
        cmocka_unit_test(sets_and_members_have_secrets_of_their_own),
        cmocka_unit_test(the_labels_of_secrets_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
