/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The target for hosts, against a host made by hand: login and its keys, commands with their data
 * and residuals, order and window, task management, and everything that breaks the rules. */

#include "iscsi_target_peer.h"

/* ---- login ---- */

static void a_host_is_identified_before_it_is_let_in(void **state)
{
    peer_start(PEER_WINDOW);
    assert_int_equal(SAY(login_of(1, true, 3), NORMAL), ISCSI_TARGET_LOGGED_IN);
    assert_int_equal(event_count, 2);
    assert_int_equal(events[0], ISCSI_TARGET_IDENTIFY);
    assert_string_equal(target.initiator_name, "iqn.1999-01.h:x");
    assert_int_equal(target.isid[0], 0x40);
    assert_int_equal(target.isid[5], 9);
    assert_int_equal(target.portal_group_tag, 2);
    assert_int_equal(target.tsih, 5);
    assert_false(target.discovery);
    assert_int_equal(answer_count, 1);
    assert_int_equal(answers[0].login.tsih, 5);
    assert_int_equal(answers[0].login.next_stage, 3);
    assert_true(answers[0].final);
    assert_string_equal(found("TargetPortalGroupTag"), "2");
    assert_string_equal(found("TargetAlias"), "alias");
    assert_string_equal(found("MaxRecvDataSegmentLength"), "262144");
    /* ExpCmdSN is the login's CmdSN, and the window is open. */
    assert_int_equal(target.exp_cmd_sn, 0xFFFFFFFE);
}

static void a_refused_host_gets_the_status(void **state)
{
    static const uint16_t statuses[] = {0x0202, 0x0203, 0x0302};

    for (unsigned i = 0; i < COUNT(statuses); i++) {
        peer_start(PEER_WINDOW);
        refuse_with = statuses[i];
        assert_int_equal(SAY(login_of(0, true, 1), NORMAL), ISCSI_TARGET_FAILED);
        assert_int_equal(answers[0].login.status_class, statuses[i] >> 8);
        assert_int_equal(answers[0].login.status_detail, statuses[i] & 0xFF);
        assert_non_null(strstr(target.reason, "the test refuses"));
    }
}

static void logins_that_are_wrong_get_their_status(void **state)
{
    static const struct {
        const char *label, *text;
        size_t size;
        uint16_t status;
    } rows[] = {
#define ROW(label, text, status) {label, text, sizeof(text) - 1, status}
        ROW("no initiator", "TargetName=x\0", 0x0207),
        ROW("empty initiator", "InitiatorName=\0TargetName=x\0", 0x0207),
        ROW("initiator with a space", "InitiatorName=a b\0TargetName=x\0", 0x0200),
        ROW("no target", "InitiatorName=x\0", 0x0207),
        ROW("no target, normal", "InitiatorName=x\0SessionType=Normal\0", 0x0207),
        ROW("unknown type", "InitiatorName=x\0SessionType=Odd\0", 0x0200),
        ROW("twice", "InitiatorName=x\0InitiatorName=x\0TargetName=y\0", 0x0200),
        ROW("malformed", "InitiatorName=x\0TargetName", 0x0200),
        ROW("a target's key", NORMAL "TargetAlias=x\0", 0x0200),
        ROW("NotUnderstood for nothing", NORMAL "X-a=NotUnderstood\0", 0x0200),
        ROW("key twice", NORMAL "InitialR2T=No\0InitialR2T=No\0", 0x0200),
    };
#undef ROW

    for (unsigned i = 0; i < COUNT(rows); i++) {
        peer_start(PEER_WINDOW);
        if (say(login_of(1, true, 3), rows[i].text, rows[i].size) != ISCSI_TARGET_FAILED)
            fail_msg("%s: let in", rows[i].label);
        if ((answers[0].login.status_class << 8 | answers[0].login.status_detail) != rows[i].status)
            fail_msg("%s: %s", rows[i].label, target.reason);
    }
    peer_start(PEER_WINDOW);
    struct iscsi_pdu pdu = login_of(1, true, 3);
    pdu.login.tsih = 5;
    SAY(pdu, NORMAL);
    assert_int_equal(answers[0].login.status_detail, 0x0A);
}

/* What the target for hosts answers to each key, and what holds afterwards. NULL: no answer. */
static void every_key_has_its_answer(void **state)
{
    static const struct {
        const char *key, *offer, *answer;
    } rows[] = {
        {"HeaderDigest", "None", "None"},
        {"HeaderDigest", "CRC32C", "CRC32C"},
        {"HeaderDigest", "CRC32C,None", "CRC32C"},
        {"HeaderDigest", "None,CRC32C", "None"},
        {"HeaderDigest", "X-other,CRC32C", "CRC32C"},
        {"HeaderDigest", "crc32c", "Reject"},
        {"HeaderDigest", "", "Reject"},
        {"DataDigest", "None", "None"},
        {"DataDigest", "CRC32C", "CRC32C"},
        {"DataDigest", "CRC32C,None", "CRC32C"},
        {"DataDigest", "MD5", "Reject"},
        {"MaxConnections", "1", "1"},
        {"MaxConnections", "65535", "1"},
        {"MaxConnections", "0", "Reject"},
        {"MaxConnections", "65536", "Reject"},
        {"MaxConnections", "one", "Reject"},
        {"InitialR2T", "Yes", "Yes"},
        {"InitialR2T", "No", "No"},
        {"InitialR2T", "yes", "Reject"},
        {"ImmediateData", "Yes", "Yes"},
        {"ImmediateData", "No", "No"},
        {"ImmediateData", "", "Reject"},
        {"MaxRecvDataSegmentLength", "512", NULL},
        {"MaxRecvDataSegmentLength", "16777215", NULL},
        {"MaxRecvDataSegmentLength", "511", "Reject"},
        {"MaxRecvDataSegmentLength", "16777216", "Reject"},
        {"MaxBurstLength", "512", "512"},
        {"MaxBurstLength", "0x200", "512"},
        {"MaxBurstLength", "16777215", "1048576"},
        {"MaxBurstLength", "511", "Reject"},
        {"MaxBurstLength", "16777216", "Reject"},
        {"FirstBurstLength", "512", "512"},
        {"FirstBurstLength", "16777215", "262144"},
        {"FirstBurstLength", "511", "Reject"},
        {"FirstBurstLength", "16777216", "Reject"},
        {"DefaultTime2Wait", "0", "2"},
        {"DefaultTime2Wait", "3600", "3600"},
        {"DefaultTime2Wait", "3601", "Reject"},
        {"DefaultTime2Retain", "0", "0"},
        {"DefaultTime2Retain", "3600", "20"},
        {"DefaultTime2Retain", "3601", "Reject"},
        {"MaxOutstandingR2T", "1", "1"},
        {"MaxOutstandingR2T", "65535", "1"},
        {"MaxOutstandingR2T", "0", "Reject"},
        {"MaxOutstandingR2T", "65536", "Reject"},
        {"DataPDUInOrder", "Yes", "Yes"},
        {"DataPDUInOrder", "No", "Yes"},
        {"DataPDUInOrder", "1", "Reject"},
        {"DataSequenceInOrder", "Yes", "Yes"},
        {"DataSequenceInOrder", "No", "Yes"},
        {"DataSequenceInOrder", "NO", "Reject"},
        {"ErrorRecoveryLevel", "0", "0"},
        {"ErrorRecoveryLevel", "2", "0"},
        {"ErrorRecoveryLevel", "3", "Reject"},
        {"TaskReporting", "RFC3720", "RFC3720"},
        {"TaskReporting", "FastAbort", "Reject"},
        {"iSCSIProtocolLevel", "1", "1"},
        {"iSCSIProtocolLevel", "2", "1"},
        {"iSCSIProtocolLevel", "32", "Reject"},
        {"IFMarker", "No", "Reject"},
        {"OFMarker", "Yes", "Reject"},
        {"IFMarkInt", "2048", "Reject"},
        {"OFMarkInt", "2048", "Reject"},
        {"InitiatorAlias", "me", NULL},
        {"X-com.example.key", "1", "NotUnderstood"},
        {"SendTargets", "All", "NotUnderstood"},
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        char text[1024];
        const char *got;
        int size;

        peer_start(PEER_WINDOW);
        memcpy(text, NORMAL, sizeof NORMAL - 1);
        size = snprintf(text + sizeof NORMAL - 1, sizeof text - sizeof NORMAL, "%s=%s", rows[i].key,
                        rows[i].offer);
        if (say(login_of(1, true, 3), text, sizeof NORMAL + (size_t)size) != ISCSI_TARGET_LOGGED_IN)
            fail_msg("%s=%s: %s", rows[i].key, rows[i].offer, target.reason);
        got = found(rows[i].key);
        if (strcmp(rows[i].key, "MaxRecvDataSegmentLength") == 0 && !rows[i].answer) {
            assert_string_equal(got, "262144"); /* our own declaration */
            assert_int_equal(target.params.peer_data_limit_bytes, atoi(rows[i].offer));
            continue;
        }
        if (!!got != !!rows[i].answer || (got && strcmp(got, rows[i].answer) != 0))
            fail_msg("%s=%s: %s", rows[i].key, rows[i].offer, got ? got : "nothing");
        /* A refused offer leaves the default (RFC 7143 6.2). */
        if (got && strcmp(got, "Reject") == 0) {
            struct iscsi_params expected = iscsi_params_default();

            assert_int_equal(target.params.max_burst_bytes, expected.max_burst_bytes);
            assert_int_equal(target.params.first_burst_bytes, expected.first_burst_bytes);
            assert_int_equal(target.params.initial_r2t, expected.initial_r2t);
            assert_int_equal(target.params.immediate_data, expected.immediate_data);
            assert_false(target.params.header_digest || target.params.data_digest);
        }
    }
    /* The first burst is never longer than a burst. */
    LOG_IN(PEER_WINDOW, "MaxBurstLength=1024\0FirstBurstLength=4096\0");
    assert_int_equal(target.params.first_burst_bytes, 1024);
}

static void the_login_may_come_in_pieces_and_stages(void **state)
{
    struct iscsi_pdu pdu = login_of(0, false, 0);

    peer_start(PEER_WINDOW);
    tell_chunk = 7;
    pdu.login.continues = true;
    assert_int_equal(say(pdu, NORMAL, 20), ISCSI_TARGET_MORE);
    assert_int_equal(answer_count, 1);
    assert_int_equal(answers[0].data_size, 0);
    assert_int_equal(say(login_of(0, true, 1), &NORMAL[20], sizeof NORMAL - 1 - 20),
                     ISCSI_TARGET_IDENTIFY);
    assert_true(answers[0].final);
    assert_string_equal(found("TargetPortalGroupTag"), "2");
    assert_int_equal(SAY(login_of(1, false, 0), "InitialR2T=Yes\0"), ISCSI_TARGET_MORE);
    assert_string_equal(found("InitialR2T"), "Yes");
    assert_null(found("TargetPortalGroupTag"));
    assert_int_equal(SAY(login_of(1, true, 3), ""), ISCSI_TARGET_LOGGED_IN);
    tell_chunk = SIZE_MAX;
    assert_true(target.params.initial_r2t);
}

/* ---- discovery and text ---- */

static struct iscsi_pdu text_of(uint32_t itt, uint32_t ttt, bool final, bool more)
{
    struct iscsi_pdu pdu = request_of(ISCSI_TEXT_REQUEST, itt);

    pdu.ttt = ttt;
    pdu.final = final;
    pdu.text.continues = more;
    return pdu;
}

#define LIST_T                                                                                     \
    "TargetName=iqn.2026-11.holdfast:t\0TargetAddress=192.0.2.1:3260,1\0"                          \
    "TargetAddress=192.0.2.2:3260,2\0TargetAddress=[2001:db8::1]:3260,1\0"
#define LIST_U "TargetName=iqn.2026-11.holdfast:u\0TargetAddress=192.0.2.1:3260,1\0"

static void expect_text(const char *text, size_t size)
{
    assert_int_equal(answer_count, 1);
    assert_int_equal(answers[0].opcode, ISCSI_TEXT_RESPONSE);
    assert_int_equal(answers[0].data_size, size);
    assert_memory_equal(answer_data[0], text, size);
    assert_true(answers[0].final);
    assert_int_equal(answers[0].ttt, ISCSI_NO_TAG);
}

static void discover(const char *keys, size_t size)
{
    char text[512];

    peer_start(PEER_WINDOW);
    admission.target_name = NULL;
    memcpy(text, DISCOVERY, sizeof DISCOVERY - 1);
    memcpy(text + sizeof DISCOVERY - 1, keys, size);
    assert_int_equal(say(login_of(1, true, 3), text, sizeof DISCOVERY - 1 + size),
                     ISCSI_TARGET_LOGGED_IN);
    assert_true(target.discovery);
    assert_null(target.identify.target_name);
}

static void discovery_lists_the_portals_of_both_controllers(void **state)
{
    discover("", 0);
    assert_null(found("TargetPortalGroupTag"));
    SAY(text_of(2, ISCSI_NO_TAG, true, false), "SendTargets=All\0");
    expect_text(LIST_T LIST_U, sizeof(LIST_T LIST_U) - 1);
    SAY(text_of(3, ISCSI_NO_TAG, true, false), "SendTargets=iqn.2026-11.holdfast:u\0");
    expect_text(LIST_U, sizeof LIST_U - 1);
    SAY(text_of(4, ISCSI_NO_TAG, true, false), "SendTargets=iqn.2026-11.holdfast:v\0");
    expect_text("", 0);
    SAY(text_of(5, ISCSI_NO_TAG, true, false), "SendTargets=\0");
    expect_text("SendTargets=Reject\0", 19);
    /* Nothing but text, logout and pings. */
    assert_int_equal(tell(read_of(6, 0), NULL), ISCSI_TARGET_FAILED);
    assert_int_equal(answers[0].opcode, ISCSI_REJECT);
    assert_int_equal(answers[0].reject.reason, ISCSI_REJECT_PROTOCOL);
    /* Keys without a meaning there. */
    discover("MaxBurstLength=512\0", 19);
    assert_string_equal(found("MaxBurstLength"), "Irrelevant");
}

static void send_targets_in_a_normal_session_names_its_own(void **state)
{
    LOG_IN(PEER_WINDOW, "");
    SAY(text_of(2, ISCSI_NO_TAG, true, false), "SendTargets=\0");
    expect_text(LIST_T, sizeof LIST_T - 1);
    SAY(text_of(2, ISCSI_NO_TAG, true, false), "SendTargets=iqn.2026-11.holdfast:t\0");
    expect_text(LIST_T, sizeof LIST_T - 1);
    SAY(text_of(2, ISCSI_NO_TAG, true, false), "SendTargets=iqn.2026-11.holdfast:u\0");
    expect_text("", 0);
    SAY(text_of(2, ISCSI_NO_TAG, true, false), "SendTargets=All\0");
    expect_text("SendTargets=Reject\0", 19);
}

static void an_answer_of_any_length_goes_out_in_parts(void **state)
{
    static struct iscsi_target_portal many[64];
    static const struct iscsi_target_node node = {"iqn.2026-11.holdfast:t", many, COUNT(many)};
    char whole[8192], got[8192];
    size_t size = 0, got_size = 0;
    uint32_t ttt = ISCSI_NO_TAG;

    discover("MaxRecvDataSegmentLength=512\0", 29);
    target.nodes = &node;
    target.node_count = 1;
    size = (size_t)snprintf(whole, sizeof whole, "TargetName=%s", node.name) + 1;
    for (unsigned i = 0; i < COUNT(many); i++) {
        many[i] = (struct iscsi_target_portal){.address = "[2001:db8::1234]:3260",
                                               .group = (uint16_t)(i * 1000)};
        size += (size_t)snprintf(whole + size, sizeof whole - size, "TargetAddress=%s,%u",
                                 many[i].address, i * 1000u) +
                1;
    }
    SAY(text_of(2, ISCSI_NO_TAG, true, false), "SendTargets=All\0");
    for (unsigned part = 0; part < 20; part++) {
        assert_int_equal(answer_count, 1);
        assert_true(answers[0].data_size <= 512);
        memcpy(got + got_size, answer_data[0], answers[0].data_size);
        got_size += answers[0].data_size;
        if (answers[0].final)
            break;
        assert_true(answers[0].text.continues);
        assert_int_not_equal(answers[0].ttt, ISCSI_NO_TAG);
        ttt = answers[0].ttt;
        tell(text_of(2, ttt, true, false), NULL);
    }
    assert_true(got_size > 1000);
    assert_int_equal(got_size, size);
    assert_memory_equal(got, whole, size);
    /* Another's tag ends the exchange, and so does one that is over. */
    SAY(text_of(2, ISCSI_NO_TAG, true, false), "SendTargets=All\0");
    ttt = answers[0].ttt;
    assert_int_not_equal(ttt, ISCSI_NO_TAG);
    tell(text_of(2, ttt + 1, true, false), NULL);
    assert_int_equal(answers[0].opcode, ISCSI_REJECT);
    tell(text_of(2, ttt, true, false), NULL);
    assert_int_equal(answers[0].opcode, ISCSI_REJECT);
    assert_int_equal(answers[0].reject.reason, ISCSI_REJECT_INVALID_FIELD);
}

static void a_request_may_come_in_parts(void **state)
{
    LOG_IN(PEER_WINDOW, "");
    say(text_of(2, ISCSI_NO_TAG, false, true), "SendTar", 7);
    assert_int_equal(answer_count, 1);
    assert_int_equal(answers[0].data_size, 0);
    assert_false(answers[0].final);
    assert_int_not_equal(answers[0].ttt, ISCSI_NO_TAG);
    tell_chunk = 5;
    say(text_of(2, answers[0].ttt, true, false), "gets=\0X-a=1\0", 12);
    tell_chunk = SIZE_MAX;
    expect_text("X-a=NotUnderstood\0" LIST_T, sizeof("X-a=NotUnderstood\0" LIST_T) - 1);
    /* More than is gathered. */
    for (unsigned part = 0; part < 5 && answers[0].opcode == ISCSI_TEXT_RESPONSE; part++)
        say(text_of(2, part ? answers[0].ttt : ISCSI_NO_TAG, false, true), (char *)source, 900);
    assert_int_equal(answers[0].opcode, ISCSI_REJECT);
    assert_int_equal(answers[0].reject.reason, ISCSI_REJECT_OUT_OF_RESOURCES);
    SAY(text_of(2, ISCSI_NO_TAG, true, false), "no pair\0");
    assert_int_equal(answers[0].reject.reason, ISCSI_REJECT_INVALID_FIELD);
    SAY(text_of(3, ISCSI_NO_TAG, true, false), "MaxRecvDataSegmentLength=4096\0");
    expect_text("", 0);
    assert_int_equal(target.params.peer_data_limit_bytes, 4096);
    SAY(text_of(3, ISCSI_NO_TAG, true, false), "MaxBurstLength=4096\0");
    expect_text("MaxBurstLength=Reject\0", 22);
    /* Without the F bit the exchange stays open. */
    SAY(text_of(4, ISCSI_NO_TAG, false, false), "X-b=1\0");
    assert_false(answers[0].final);
    assert_false(answers[0].text.continues);
    SAY(text_of(4, answers[0].ttt, true, false), "X-c=1\0");
    expect_text("X-c=NotUnderstood\0", 18);
}

/* ---- commands ---- */

static void a_read_is_one_pdu_with_its_status(void **state)
{
    struct iscsi_pdu pdu;

    LOG_IN(PEER_WINDOW, "");
    pdu = read_of(7, 4096);
    pdu.command.attribute = ISCSI_HEAD_OF_QUEUE;
    pdu.command.cdb[9] = 8;
    assert_int_equal(tell(pdu, NULL), ISCSI_TARGET_COMMAND);
    assert_int_equal(last_command()->itt, 7);
    assert_int_equal(last_command()->lun[1], 1);
    assert_int_equal(last_command()->cdb[9], 8);
    assert_int_equal(last_command()->attribute, ISCSI_HEAD_OF_QUEUE);
    assert_int_equal(last_command()->expected_bytes, 4096);
    assert_true(last_command()->read && !last_command()->write && !last_command()->immediate);
    assert_int_equal(target.open_count, 1);
    give(last_command(), (struct iscsi_target_answer){.data = source, .data_bytes = 4096});
    assert_int_equal(answer_count, 1);
    assert_int_equal(answers[0].opcode, ISCSI_DATA_IN);
    assert_true(answers[0].final && answers[0].data.has_status);
    assert_int_equal(answers[0].data.status, 0);
    assert_false(answers[0].data.underflow || answers[0].data.overflow);
    assert_int_equal(answers[0].data_size, 4096);
    assert_memory_equal(answer_data[0], source, 4096);
    assert_int_equal(released_count, 1);
    assert_int_equal(target.open_count, 0);
    /* The slot is counted free in the very PDU that carries the status. */
    assert_int_equal(answers[0].max_cmd_sn - answers[0].exp_cmd_sn, PEER_WINDOW - 1);
}

static void data_in_keeps_segments_and_bursts(void **state)
{
    static const struct {
        uint32_t length;
        uint8_t status;
    } rows[] = {{1, 0}, {511, 0}, {512, 0}, {513, 0}, {1536, 0}, {5000, 0}, {5000, 2}};

    for (unsigned i = 0; i < COUNT(rows); i++)
        for (unsigned digest = 0; digest < 2; digest++) {
            uint32_t at = 0, burst = 0;
            unsigned n;

            if (digest)
                LOG_IN(PEER_WINDOW, "MaxRecvDataSegmentLength=600\0MaxBurstLength=1536\0"
                                    "DataDigest=CRC32C\0HeaderDigest=CRC32C\0");
            else
                LOG_IN(PEER_WINDOW, "MaxRecvDataSegmentLength=600\0MaxBurstLength=1536\0");
            tell(read_of(7, 5000), NULL);
            give(last_command(), (struct iscsi_target_answer){.data = source,
                                                              .data_bytes = rows[i].length,
                                                              .status = rows[i].status});
            for (n = 0; n < answer_count && answers[n].opcode == ISCSI_DATA_IN; n++) {
                assert_int_equal(answers[n].data.data_sn, n);
                assert_int_equal(answers[n].data.offset, at);
                assert_true(answers[n].data_size > 0 && answers[n].data_size <= 600);
                assert_memory_equal(answer_data[n], source + at, answers[n].data_size);
                at += answers[n].data_size;
                burst += answers[n].data_size;
                assert_true(burst <= 1536);
                assert_int_equal(answers[n].final, burst == 1536 || at == rows[i].length);
                if (answers[n].final)
                    burst = 0;
                assert_int_equal(answers[n].data.has_status,
                                 at == rows[i].length && rows[i].status == 0);
            }
            assert_int_equal(at, rows[i].length);
            if (rows[i].status) {
                assert_int_equal(n, answer_count - 1);
                assert_int_equal(answers[n].opcode, ISCSI_SCSI_RESPONSE);
                assert_int_equal(answers[n].response.status, 2);
                assert_int_equal(answers[n].response.exp_data_sn, n);
            } else {
                assert_int_equal(n, answer_count);
                assert_int_equal(answers[n - 1].data.residual, 5000 - rows[i].length);
                assert_int_equal(answers[n - 1].data.underflow, rows[i].length < 5000);
            }
            assert_int_equal(released_count, 1);
        }
}

static void residuals_say_how_much_more_or_less(void **state)
{
    static const struct {
        char kind; /* r: read, w: write, n: neither */
        uint32_t expected, had;
        uint8_t status;
        bool over, under;
        uint32_t residual, sent;
    } rows[] = {
        {'r', 512, 512, 0, false, false, 0, 512},  {'r', 512, 1024, 0, true, false, 512, 512},
        {'r', 512, 100, 0, false, true, 412, 100}, {'r', 512, 0, 0, false, true, 512, 0},
        {'r', 512, 0, 2, false, true, 512, 0},     {'n', 0, 0, 0, false, false, 0, 0},
        {'n', 0, 36, 0, true, false, 36, 0},       {'w', 512, 512, 0, false, false, 0, 0},
        {'w', 512, 1024, 0, true, false, 512, 0},  {'w', 1024, 512, 0, false, true, 512, 0},
        {'w', 512, 0, 2, false, true, 512, 0},
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        struct iscsi_target_answer answer = {.status = rows[i].status};
        const struct iscsi_pdu *last;

        LOG_IN(PEER_WINDOW, "");
        if (rows[i].kind == 'w') {
            tell(write_of(7, rows[i].expected, rows[i].expected, true), source);
            answer.out_bytes = rows[i].had;
        } else {
            tell(read_of(7, rows[i].expected), NULL);
            answer.data = source;
            answer.data_bytes = rows[i].had;
        }
        give(last_command(), answer);
        last = &answers[answer_count - 1];
        assert_int_equal(answer_count, 1);
        if (rows[i].sent > 0) {
            assert_int_equal(last->opcode, ISCSI_DATA_IN);
            assert_int_equal(last->data_size, rows[i].sent);
            assert_int_equal(last->data.overflow, rows[i].over);
            assert_int_equal(last->data.underflow, rows[i].under);
            assert_int_equal(last->data.residual, rows[i].residual);
        } else {
            assert_int_equal(last->opcode, ISCSI_SCSI_RESPONSE);
            assert_int_equal(last->response.overflow, rows[i].over);
            assert_int_equal(last->response.underflow, rows[i].under);
            assert_int_equal(last->response.residual, rows[i].residual);
            assert_int_equal(last->response.status, rows[i].status);
        }
    }
}

static void sense_data_follow_their_length(void **state)
{
    static const uint32_t sizes[] = {1, 2, 18, 19, 20, 252};

    for (unsigned i = 0; i < COUNT(sizes) * 2; i++) {
        uint32_t size = sizes[i / 2];

        if (i & 1)
            LOG_IN(PEER_WINDOW, "DataDigest=CRC32C\0");
        else
            LOG_IN(PEER_WINDOW, "");
        tell(read_of(7, 0), NULL);
        give(last_command(),
             (struct iscsi_target_answer){.status = 2, .sense = source, .sense_bytes = size});
        assert_int_equal(answers[0].data_size, size + 2);
        assert_int_equal(get_u16(answer_data[0]), size);
        assert_memory_equal(answer_data[0] + 2, source, size);
    }
}

/* ---- write data ---- */

static void expect_r2t(uint32_t sn, uint32_t offset, uint32_t size)
{
    assert_int_equal(answer_count, 1);
    assert_int_equal(answers[0].opcode, ISCSI_R2T);
    assert_int_equal(answers[0].r2t.r2t_sn, sn);
    assert_int_equal(answers[0].r2t.offset, offset);
    assert_int_equal(answers[0].r2t.desired_size, size);
    assert_int_not_equal(answers[0].ttt, ISCSI_NO_TAG);
    assert_int_equal(answers[0].itt, 50);
}

/* 2048 without being asked for, bursts of 1024, segments of any size. */
#define BURSTS "FirstBurstLength=2048\0MaxBurstLength=4096\0InitialR2T=No\0"

static void a_write_gets_its_data_three_ways(void **state)
{
    uint32_t ttt;

    for (unsigned pieces = 0; pieces < 2; pieces++) {
        LOG_IN(PEER_WINDOW, BURSTS);
        memset(place, 0, 10000);
        tell_chunk = pieces ? 77 : SIZE_MAX;
        assert_int_equal(tell(write_of(50, 7000, 700, false), source), ISCSI_TARGET_COMMAND);
        assert_true(last_command()->unsolicited);
        assert_int_equal(answer_count, 0);
        tell(data_of(50, ISCSI_NO_TAG, 0, 700, 800, false), source + 700);
        tell(data_of(50, ISCSI_NO_TAG, 1, 1500, 548, true), source + 1500);
        expect_r2t(0, 2048, 4096);
        ttt = answers[0].ttt;
        tell(data_of(50, ttt, 0, 2048, 4000, false), source + 2048);
        assert_int_equal(answer_count, 0);
        tell(data_of(50, ttt, 1, 6048, 96, true), source + 6048);
        expect_r2t(1, 6144, 856);
        assert_int_equal(tell(data_of(50, answers[0].ttt, 0, 6144, 856, true), source + 6144),
                         ISCSI_TARGET_DATA);
        assert_ptr_equal(target.task, last_command());
        assert_int_equal(target.task->received_bytes, 7000);
        assert_memory_equal(place, source, 7000);
        assert_int_equal(place[7000], 0);
        give(target.task, (struct iscsi_target_answer){.out_bytes = 7000});
        assert_int_equal(answers[0].response.status, 0);
        assert_int_equal(answers[0].response.exp_data_sn, 2);
        assert_false(answers[0].response.underflow);
    }
    tell_chunk = SIZE_MAX;
}

static void only_what_is_wanted_is_asked_for_and_kept(void **state)
{
    for (unsigned pieces = 0; pieces < 2; pieces++) {
        tell_chunk = pieces ? 100 : SIZE_MAX;
        LOG_IN(PEER_WINDOW, BURSTS);
        receive_bytes = 512;
        memset(place, 0xEE, 10000);
        /* Beyond 512 bytes they are dropped, and the rest is not asked for. */
        tell(write_of(50, 7000, 700, true), source);
        assert_int_equal(events[event_count - 1], ISCSI_TARGET_DATA);
        assert_int_equal(answer_count, 0);
        assert_int_equal(last_command()->received_bytes, 512);
        assert_memory_equal(place, source, 512);
        for (unsigned i = 512; i < 10000; i++)
            assert_int_equal(place[i], 0xEE);
        give(last_command(), (struct iscsi_target_answer){.out_bytes = 512});
        assert_true(answers[0].response.underflow);
        assert_int_equal(answers[0].response.residual, 6488);
        /* Answered before its data came: they are dropped, then the answer goes out. */
        LOG_IN(PEER_WINDOW, BURSTS);
        auto_receive = false;
        refuse_commands = true;
        tell(write_of(50, 3000, 0, false), NULL);
        assert_int_equal(answer_count, 0);
        tell(data_of(50, ISCSI_NO_TAG, 0, 0, 1000, false), source);
        assert_int_equal(answer_count, 0);
        tell(data_of(50, ISCSI_NO_TAG, 1, 1000, 1048, true), source);
        assert_int_equal(answer_count, 1);
        assert_int_equal(answers[0].response.status, 2);
        assert_int_equal(answers[0].response.residual, 3000);
    }
    tell_chunk = SIZE_MAX;
}

/* What the wire holds goes straight to the place, when the caller receives there itself. */
static void data_go_straight_to_their_place(void **state)
{
    enum iscsi_target_event event;
    uint8_t bytes[128], *to;
    struct iscsi_pdu pdu;
    size_t size;

    LOG_IN(PEER_WINDOW, "");
    pdu = write_of(50, 4096, 4096, true);
    size = iscsi_header_put(&pdu, false, bytes);
    event_count = 0;
    assert_int_equal(peer_bytes(bytes, size, SIZE_MAX), ISCSI_TARGET_COMMAND);
    assert_int_equal(iscsi_target_wants(&target, &to), 4096);
    assert_ptr_equal(to, place);
    memcpy(to, source, 1000);
    iscsi_target_filled(&target, 1000);
    iscsi_target_feed(&target, NULL, 0, &event);
    assert_int_equal(event, ISCSI_TARGET_MORE);
    assert_int_equal(iscsi_target_wants(&target, &to), 3096);
    assert_ptr_equal(to, place + 1000);
    memcpy(to, source + 1000, 3096);
    iscsi_target_filled(&target, 3096);
    iscsi_target_feed(&target, NULL, 0, &event);
    assert_int_equal(event, ISCSI_TARGET_DATA);
    assert_memory_equal(place, source, 4096);
}

static void writes_that_break_the_rules_end_the_session(void **state)
{
    enum { IMMEDIATE, UNASKED, ASKED };
    static const struct {
        const char *label, *keys;
        size_t keys_size;
        struct {
            uint32_t expected, immediate;
            bool final;
        } write;
        struct {
            bool own_ttt;
            uint32_t ttt, sn, offset, size;
            bool final;
        } data; /* size 0, not final: none */
        const char *reason;
    } rows[] = {
#define KEYS(keys) keys, sizeof(keys) - 1
        {"immediate data", KEYS("ImmediateData=No\0"), {100, 100, true}, {0}, "ImmediateData=No"},
        {"too much immediate", KEYS(BURSTS), {5000, 2049, true}, {0}, "FirstBurstLength"},
        {"more than expected", KEYS(BURSTS), {100, 101, true}, {0}, "than the command transfers"},
        {"unsolicited", KEYS("InitialR2T=Yes\0"), {5000, 0, false}, {0}, "not allowed"},
        {"not asked for",
         KEYS(BURSTS),
         {100, 100, true},
         {false, 1, 0, 100, 4, true},
         "not asked for"},
        {"tag", KEYS(BURSTS), {5000, 0, false}, {false, 3, 0, 0, 4, true}, "transfer tag"},
        {"offset", KEYS(BURSTS), {5000, 0, false}, {false, ISCSI_NO_TAG, 0, 4, 4, true}, "offset"},
        {"offset back",
         KEYS(BURSTS),
         {5000, 8, false},
         {false, ISCSI_NO_TAG, 0, 4, 4, true},
         "offset"},
        {"first burst",
         KEYS(BURSTS),
         {5000, 0, false},
         {false, ISCSI_NO_TAG, 0, 0, 2049, true},
         "beyond"},
        {"beyond the end",
         KEYS(BURSTS),
         {50, 0, false},
         {false, ISCSI_NO_TAG, 0, 0, 51, true},
         "beyond"},
        {"nothing",
         KEYS(BURSTS),
         {50, 40, false},
         {false, ISCSI_NO_TAG, 0, 40, 0, false},
         "brings nothing"},
        {"R2T's tag", KEYS(BURSTS), {5000, 0, true}, {false, 99, 0, 0, 100, false}, "transfer tag"},
        {"R2T's size", KEYS(BURSTS), {5000, 0, true}, {true, 0, 0, 0, 4097, true}, "beyond"},
        {"R2T's end", KEYS(BURSTS), {5000, 0, true}, {true, 0, 0, 0, 4095, true}, "before its R2T"},
        {"R2T's offset", KEYS(BURSTS), {5000, 0, true}, {true, 0, 0, 512, 512, false}, "offset"},
#undef KEYS
    };

    for (unsigned i = 0; i < COUNT(rows); i++)
        for (unsigned pieces = 0; pieces < 2; pieces++) {
            enum iscsi_target_event event;

            log_in_with(PEER_WINDOW, rows[i].keys, rows[i].keys_size);
            tell_chunk = pieces ? 50 : SIZE_MAX;
            event = tell(
                write_of(50, rows[i].write.expected, rows[i].write.immediate, rows[i].write.final),
                source);
            if (event != ISCSI_TARGET_FAILED) {
                uint32_t ttt = rows[i].data.own_ttt ? answers[0].ttt : rows[i].data.ttt;

                event = tell(data_of(50, ttt, rows[i].data.sn, rows[i].data.offset,
                                     rows[i].data.size, rows[i].data.final),
                             source);
            }
            if (event != ISCSI_TARGET_FAILED || !strstr(target.reason, rows[i].reason))
                fail_msg("%s: event %d, %s", rows[i].label, event, target.reason);
            assert_int_equal(answers[answer_count - 1].opcode, ISCSI_REJECT);
            assert_int_equal(answers[answer_count - 1].reject.reason, ISCSI_REJECT_PROTOCOL);
            assert_int_equal(answers[answer_count - 1].data_size, 48);
        }
    tell_chunk = SIZE_MAX;
}

/* RFC 7143 7.9: a DataSN that is not the next one costs the command, not the session. */
static void a_data_sn_that_is_wrong_costs_the_command(void **state)
{
    static const struct {
        uint32_t first, second;
        bool damaged;
    } rows[] = {{0, 1, false}, {0, 0, true}, {27, 1, true}, {0xFFFFFFFF, 0, true}, {1, 0, true}};

    for (unsigned i = 0; i < COUNT(rows) * 4; i++) {
        bool asked = i & 1;
        uint32_t ttt = ISCSI_NO_TAG, row = i / 4;
        enum iscsi_target_event event;

        LOG_IN(PEER_WINDOW, BURSTS);
        tell_chunk = i & 2 ? 60 : SIZE_MAX;
        tell(write_of(50, 1000, 0, asked), NULL);
        if (asked)
            ttt = answers[0].ttt;
        tell(data_of(50, ttt, rows[row].first, 0, 400, false), source);
        assert_int_equal(answer_count, 0);
        event = tell(data_of(50, ttt, rows[row].second, 400, 600, true), source + 400);
        assert_int_equal(event, rows[row].damaged ? ISCSI_TARGET_DAMAGED : ISCSI_TARGET_DATA);
        assert_ptr_equal(target.task, last_command());
        give(target.task, (struct iscsi_target_answer){.status = 2});
        assert_int_equal(answers[0].response.status, 2);
        assert_int_equal(tell(read_of(50, 0), NULL), ISCSI_TARGET_COMMAND);
    }
    tell_chunk = SIZE_MAX;
}

static void data_of_no_command_are_dropped(void **state)
{
    for (unsigned pieces = 0; pieces < 2; pieces++) {
        LOG_IN(PEER_WINDOW, "");
        tell_chunk = pieces ? 100 : SIZE_MAX;
        assert_int_equal(tell(data_of(99, 5, 0, 0, 1000, true), source), ISCSI_TARGET_MORE);
        assert_int_equal(answer_count, 0);
        assert_int_equal(target.ignored_count, 1);
        assert_int_equal(tell(data_of(ISCSI_NO_TAG, 5, 0, 0, 1000, true), source),
                         ISCSI_TARGET_MORE);
        assert_int_equal(tell(read_of(1, 0), NULL), ISCSI_TARGET_COMMAND);
    }
    tell_chunk = SIZE_MAX;
}

static void a_tag_in_use_is_refused(void **state)
{
    LOG_IN(PEER_WINDOW, "");
    tell(read_of(7, 0), NULL);
    assert_int_equal(tell(read_of(7, 0), NULL), ISCSI_TARGET_FAILED);
    LOG_IN(PEER_WINDOW, "");
    assert_int_equal(tell(read_of(ISCSI_NO_TAG, 0), NULL), ISCSI_TARGET_FAILED);
}

/* ---- digests ---- */

static void digest_errors_end_the_session(void **state)
{
    for (unsigned data = 0; data < 2; data++)
        for (unsigned pieces = 0; pieces < 2; pieces++) {
            uint8_t bytes[4096];
            struct iscsi_pdu pdu;
            size_t size;

            LOG_IN(PEER_WINDOW, "HeaderDigest=CRC32C\0DataDigest=CRC32C\0");
            pdu = write_of(50, 1001, 1001, true);
            size = peer_encode(&pdu, source, bytes);
            assert_int_equal(size, 52 + 1004 + 4);
            tell(pdu, source);
            assert_int_equal(events[event_count - 1], ISCSI_TARGET_DATA);
            give(last_command(), (struct iscsi_target_answer){.out_bytes = 1001});
            pdu.cmd_sn++;
            size = peer_encode(&pdu, source, bytes);
            bytes[data ? 60 : 40] ^= 1;
            answer_count = event_count = 0;
            assert_int_equal(peer_bytes(bytes, size, pieces ? 33 : SIZE_MAX), ISCSI_TARGET_FAILED);
            peer_drain();
            assert_non_null(strstr(target.reason, data ? "data digest" : "header digest"));
            /* A header that cannot be trusted is not sent back. */
            assert_int_equal(answer_count, data);
            if (data)
                assert_int_equal(answers[0].reject.reason, ISCSI_REJECT_DATA_DIGEST);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_host_is_identified_before_it_is_let_in),
        cmocka_unit_test(a_refused_host_gets_the_status),
        cmocka_unit_test(logins_that_are_wrong_get_their_status),
        cmocka_unit_test(every_key_has_its_answer),
        cmocka_unit_test(the_login_may_come_in_pieces_and_stages),
        cmocka_unit_test(discovery_lists_the_portals_of_both_controllers),
        cmocka_unit_test(send_targets_in_a_normal_session_names_its_own),
        cmocka_unit_test(an_answer_of_any_length_goes_out_in_parts),
        cmocka_unit_test(a_request_may_come_in_parts),
        cmocka_unit_test(a_read_is_one_pdu_with_its_status),
        cmocka_unit_test(data_in_keeps_segments_and_bursts),
        cmocka_unit_test(residuals_say_how_much_more_or_less),
        cmocka_unit_test(sense_data_follow_their_length),
        cmocka_unit_test(a_write_gets_its_data_three_ways),
        cmocka_unit_test(only_what_is_wanted_is_asked_for_and_kept),
        cmocka_unit_test(data_go_straight_to_their_place),
        cmocka_unit_test(writes_that_break_the_rules_end_the_session),
        cmocka_unit_test(a_data_sn_that_is_wrong_costs_the_command),
        cmocka_unit_test(data_of_no_command_are_dropped),
        cmocka_unit_test(a_tag_in_use_is_refused),
        cmocka_unit_test(digest_errors_end_the_session),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
