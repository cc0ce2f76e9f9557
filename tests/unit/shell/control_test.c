/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The control protocol: each request by rows, good ones with what they mean and bad ones with the
 * sentence that they get; and a whole status, key by key, so that no key of docs/status-json.md is
 * lost or renamed unseen. */

#include "scsi/scsi.h"
#include "shell/control.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct request_row {
    const char *line;
    const char *why; /* NULL: a good one */
    struct control_request request;
};

static const struct request_row request_rows[] = {
    {"{\"command\":\"status\"}", NULL, {.command = CONTROL_STATUS}},
    {"{\"command\":\"status\"}\n", NULL, {.command = CONTROL_STATUS}},
    {"{\"command\":\"stop\"}", NULL, {.command = CONTROL_STOP}},
    {"{\"command\":\"move\",\"volume\":\"v\",\"to\":\"b\"}",
     NULL,
     {.command = CONTROL_MOVE, .volume = "v", .to = 1}},
    {"{\"to\":\"a\",\"volume\":\"v\",\"command\":\"move\"}",
     NULL,
     {.command = CONTROL_MOVE, .volume = "v"}},
    {"{\"command\":\"accept-loss\"}", NULL, {.command = CONTROL_ACCEPT_LOSS}},
    {"{\"command\":\"accept-loss\",\"peer_is_dead\":false}",
     NULL,
     {.command = CONTROL_ACCEPT_LOSS}},
    {"{\"command\":\"accept-loss\",\"peer_is_dead\":true}",
     NULL,
     {.command = CONTROL_ACCEPT_LOSS, .peer_is_dead = true}},
    {"{\"command\":\"group\",\"group\":\"db\",\"action\":\"suspend\"}",
     NULL,
     {.command = CONTROL_GROUP, .group = "db", .action = GROUP_SUSPEND}},
    {"{\"command\":\"group\",\"group\":\"db\",\"action\":\"resume\"}",
     NULL,
     {.command = CONTROL_GROUP, .group = "db", .action = GROUP_RESUME}},
    {"{\"command\":\"group\",\"group\":\"db\",\"action\":\"failover\"}",
     NULL,
     {.command = CONTROL_GROUP, .group = "db", .action = GROUP_FAILOVER}},
    {"{\"command\":\"group\",\"group\":\"db\",\"action\":\"failover\",\"force\":true}",
     NULL,
     {.command = CONTROL_GROUP, .group = "db", .action = GROUP_FAILOVER, .force = true}},
    {"{\"command\":\"group\",\"group\":\"db\",\"action\":\"failover\",\"cut\":512}",
     NULL,
     {.command = CONTROL_GROUP, .group = "db", .action = GROUP_FAILOVER, .cut = 512}},
    {"{\"command\":\"group\",\"group\":\"db\",\"action\":\"failover\",\"cut\":0}",
     "\"cut\" is a number above zero",
     {0}},
    {"{\"command\":\"group\",\"group\":\"db\",\"action\":\"failover\",\"cut\":\"9\"}",
     "\"cut\" is a number above zero",
     {0}},
    {"{\"command\":\"group\",\"group\":\"db\",\"action\":\"reverse\",\"cut\":5}",
     "reverse does not take \"cut\"",
     {0}},
    {"{\"command\":\"group\",\"group\":\"db\",\"action\":\"failover\",\"force\":1}",
     "\"force\" is true or false",
     {0}},
    {"{\"command\":\"group\",\"group\":\"db\",\"action\":\"suspend\",\"force\":true}",
     "suspend does not take \"force\"",
     {0}},
    {"{\"command\":\"group\",\"group\":\"db\",\"action\":\"reverse\"}",
     NULL,
     {.command = CONTROL_GROUP, .group = "db", .action = GROUP_REVERSE}},
    {"{\"command\":\"group\",\"group\":\"db\",\"action\":\"reverse\",\"force\":true}",
     "reverse does not take \"force\"",
     {0}},
    {"{\"command\":\"group\",\"group\":\"db\",\"action\":\"resync\",\"force\":false}",
     NULL,
     {.command = CONTROL_GROUP, .group = "db", .action = GROUP_RESYNC}},
    {"{\"command\":\"group\",\"group\":\"db\"}",
     "group needs \"group\" and \"action\", both strings",
     {0}},
    {"{\"command\":\"group\",\"group\":\"db\",\"action\":\"stop\"}",
     "the action is suspend, resume, failover, reverse, resync or stand",
     {0}},
    {"{\"command\":\"group\",\"group\":\"\",\"action\":\"resume\"}",
     "the name of a group has 1 to 63 bytes",
     {0}},
    {"[]", "a request is a JSON object", {0}},
    {"{}", "a request names its \"command\": status, move, stop, accept-loss or group", {0}},
    {"{\"command\":7}",
     "a request names its \"command\": status, move, stop, accept-loss or group",
     {0}},
    {"{\"command\":\"format\"}",
     "no such command; there are status, move, stop, accept-loss and group",
     {0}},
    {"{\"command\":\"stop\",\"now\":true}", "stop does not take \"now\"", {0}},
    {"{\"command\":\"stop\",\"command\":\"status\"}",
     "not JSON: duplicate object key near '\"command\"'",
     {0}},
    {"{\"command\":\"move\"}", "move needs \"volume\" and \"to\", both strings", {0}},
    {"{\"command\":\"move\",\"volume\":1,\"to\":\"a\"}",
     "move needs \"volume\" and \"to\", both strings",
     {0}},
    {"{\"command\":\"move\",\"volume\":\"v\",\"to\":\"c\"}",
     "a volume moves to \"a\" or to \"b\"",
     {0}},
    {"{\"command\":\"move\",\"volume\":\"\",\"to\":\"a\"}",
     "the name of a volume has 1 to 63 bytes",
     {0}},
    {"{\"command\":\"move\",\"volume\":"
     "\"0123456789012345678901234567890123456789012345678901234567890123\",\"to\":\"a\"}",
     "the name of a volume has 1 to 63 bytes",
     {0}},
    {"{\"command\":\"accept-loss\",\"peer_is_dead\":1}", "\"peer_is_dead\" is true or false", {0}},
};

static void each_request_is_taken_or_refused_with_its_sentence(void **state)
{
    for (size_t i = 0; i < ARRAY_LENGTH(request_rows); i++) {
        const struct request_row *row = &request_rows[i];
        struct control_request request;
        char why[TRACE_LINE] = "";
        bool good = control_parse_request(row->line, strlen(row->line), &request, why);
        assert_string_equal(why, row->why ? row->why : "");
        assert_int_equal(good, row->why == NULL);
        assert_int_equal(request.command, row->request.command);
        assert_string_equal(request.volume, row->request.volume);
        assert_int_equal(request.to, row->request.to);
        assert_int_equal(request.peer_is_dead, row->request.peer_is_dead);
        assert_string_equal(request.group, row->request.group);
        assert_int_equal(request.cut, row->request.cut);
        assert_int_equal(request.action, row->request.action);
        assert_int_equal(request.force, row->request.force);
    }
}

static void what_is_not_json_is_refused(void **state)
{
    static const char *const lines[] = {
        "", "\n", "status", "{", "{\"command\":\"status\"} x", "\xff\xfe", "\"\\u0000\""};
    for (size_t i = 0; i < ARRAY_LENGTH(lines); i++) {
        struct control_request request;
        char why[TRACE_LINE] = "";
        assert_false(control_parse_request(lines[i], strlen(lines[i]), &request, why));
        assert_int_equal(strncmp(why, "not JSON: ", 10), 0);
    }
    char *deep = malloc(CONTROL_REQUEST_BYTES + 1);
    assert_non_null(deep);
    memset(deep, '[', CONTROL_REQUEST_BYTES + 1);
    struct control_request request;
    char why[TRACE_LINE] = "";
    assert_false(control_parse_request(deep, CONTROL_REQUEST_BYTES, &request, why));
    assert_int_equal(strncmp(why, "not JSON: ", 10), 0);
    assert_false(control_parse_request(deep, CONTROL_REQUEST_BYTES + 1, &request, why));
    assert_string_equal(why, "a request of more than 4096 bytes");
    free(deep);
}

static void a_reply_is_one_line(void **state)
{
    char *line = control_format_reply(true, "moved \"v\"\nto b");
    assert_string_equal(line, "{\"ok\":true,\"text\":\"moved \\\"v\\\"\\nto b\"}\n");
    free(line);
    line = control_format_reply(false, "bad \xff byte");
    assert_string_equal(line, "{\"ok\":false,\"text\":\"bad ? byte\"}\n");
    free(line);
}

static struct config config;
static struct control_extra extra;
static struct array_status status;

static void fill(void)
{
    static struct config_errors errors;
    static const char file[] =
        "[array]\nname=demo\nregister=/r\nsecret=a secret of this test\n"
        "[controller a]\nlink=10.0.0.1:1\nwarden=10.0.0.1:2\nnbd=10.0.0.1:3,unix:/n\nrun=/a\n"
        "[controller "
        "b]\nlink=10.0.0.2:1\nwarden=10.0.0.2:2\nnbd=10.0.0.2:3\niscsi=10.0.0.2:4\nrun=/b\n"
        "[store s]\npath=/p\xff\n[volume v0]\nstore=s\nsize=1M\n[volume "
        "v1]\nstore=s\noffset=1M\nsize=2M\nowner=b\n"
        "flush=destage\n"
        "[group g]\nrole=send\narray=far\naddress=10.0.1.1:5,10.0.1.2:5\nsecret=letters of g, "
        "many\nvolumes=v1:w1,v0\nmemory=8M\ntls_psk=/k\n";
    if (!config_parse("f", file, sizeof file - 1, &config, &errors))
        fail_msg("%s", errors.text[0]);

    memset(&extra, 0, sizeof extra);
    extra.controller = 1;
    extra.pid = 4711;
    extra.uptime_us = 12345678;
    extra.version = "9.9";
    extra.nbd_connections = 3;
    extra.nbd_connections_total = 30;
    extra.nbd_refused = 2;
    extra.iscsi.sessions = 41;
    extra.iscsi.discovery_sessions = 42;
    extra.iscsi.logging_in = 43;
    extra.iscsi.sessions_total = 44;
    extra.iscsi.refused = 45;
    extra.iscsi.dropped = 46;
    extra.iscsi.tasks = 47;
    extra.iscsi.task_limit = 48;
    extra.iscsi.managed = 49;
    extra.iscsi.rejects = 50;
    extra.iscsi.shown_count = 1;
    extra.iscsi.shown[0] =
        (struct iscsi_shown){"iqn.x", "10.0.0.9:5", NULL, true, false, true, 51, 52, 53999};
    extra.iscsi.volumes[1] = (struct iscsi_volume_counts){61, 62, 63, 64, 65, 66, 67};
    extra.link_authenticated = true;
    extra.link_logins = 5;
    extra.warden = CONTROL_WARDEN_ALONE;
    snprintf(extra.warden_error, sizeof extra.warden_error, "refused");
    extra.stores[0] =
        (struct control_store){CONTROL_STORE_FAILING, true, 4096, 1 << 30, "Input/output error"};
    extra.volumes[1] = (struct control_volume){1.25, 1000.04, 7, 2};

    memset(&status, 0, sizeof status);
    status.role = ROLE_PAIRED;
    snprintf(status.reason, sizeof status.reason, "the mirror is up");
    status.epoch = 12;
    status.incarnation = 0xfedcba9876543210;
    status.link_up = true;
    status.peer_known = true;
    status.peer_role = ROLE_PAIRED;
    status.lease_left_us = 900000;
    status.takeover_count = 1;
    status.takeover_last_us = 41000;
    status.slots = 100;
    status.slots_clean = 60;
    status.slots_dirty = 30;
    status.slots_free = 10;
    status.slots_image = 20;
    status.requests_waiting_for_room = 6;
    status.sent = (struct stream_status){1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    status.received = (struct stream_status){11, 12, 13, 14, 15, 16, 17, 18, 19, 20};
    status.destage.store_writes = 21;
    status.destage.pages_written = 22;
    status.destage.flushes = 23;
    status.destage.joined_pages = 24;
    status.destage.host_pages = 25;
    status.destage.errors = 26;
    extra.groups[0] = (struct copy_group_counts){
        .sends = true,
        .link = {.up = true, .address = 1, .logins = 72, .round_trip_us = 74},
        .out = {.in_flight = 71,
                .sent_bytes = 73,
                .zstd = true,
                .batch_bytes = 97,
                .packed_bytes = 98},
        .listens = true,
        .from = {"", "192.0.2.7:9"},
        .batches_in = 75,
        .bytes_in = 76,
        .now_wall_us = 1500084};
    status.group_count = 1;
    status.groups[0] = (struct group_status){.state = GROUP_COPYING,
                                             .role = GROUP_ROLE_PRIMARY,
                                             .era = 79,
                                             .reason = "it runs",
                                             .session = true,
                                             .leader = true,
                                             .term = 80,
                                             .open = 81,
                                             .closed = 82,
                                             .confirmed = 83,
                                             .confirmed_wall_us = 84,
                                             .pinned_pages = 85,
                                             .tagged_pages = 86,
                                             .range_pages = 99,
                                             .marked_regions = 87,
                                             .region_count = 97,
                                             .marked_pages = 100,
                                             .cuts = 88,
                                             .falls = 89,
                                             .restarts = 90,
                                             .batches = 91,
                                             .resends = 92,
                                             .refused = 93,
                                             .pages_sent = 94,
                                             .base_pages_sent = 95,
                                             .bytes_sent = 96};
    status.destage.failed_pages = 27;
    status.destage.in_flight = 28;
    status.destage.backlog_pages = 29;
    status.volume_count = 2;
    status.volumes[0].owner = -1;
    struct volume_status *volume = &status.volumes[1];
    volume->owner = 1;
    volume->moving = true;
    volume->dirty_pages = 31;
    volume->reads = 32;
    volume->writes = 33;
    volume->flushes = 34;
    volume->trims = 35;
    volume->zeroes = 36;
    volume->read_bytes = 37;
    volume->write_bytes = 38;
    volume->shipped = 40;
    volume->read_page_hits = 3;
    volume->read_page_misses = 1;
    volume->waiting = 39;
    for (int i = 0; i < 1000; i++)
        histogram_add(&volume->write_latency_us, i < 985 ? 16 : i < 995 ? 1024 : 65536);
}

static const char expected[] =
    "{\"ok\":true,\"status\":{\"version\":\"9.9\",\"array\":\"demo\",\"controller\":\"b\",\"pid\":"
    "4711,"
    "\"uptime_seconds\":12.345,\"role\":\"%s\",\"reason\":\"the mirror is up\",\"epoch\":12,"
    "\"incarnation\":\"fedcba9876543210\",\"refilling\":false,\"stopping\":false,\"takeover_"
    "count\":1,"
    "\"takeover_last_us\":41000,\"flush_messages\":0,"
    "\"link\":{\"up\":true,\"peer_address\":\"10.0.0.1:1\",\"peer_role\":\"%s\",\"lease_left_us\":"
    "900000,"
    "\"authenticated\":true,\"logins\":5,\"error\":null},"
    "\"warden\":{\"state\":\"alone\",\"error\":\"refused\"},"
    "\"cache\":{\"slots\":100,\"slots_clean\":60,\"slots_dirty\":30,\"slots_free\":10,\"slots_"
    "image\":20,"
    "\"requests_waiting_for_room\":6},"
    "\"sent\":{\"batches\":1,\"headers\":2,\"data_bytes\":3,\"writes\":4,\"drops\":5,\"ranges\":6,"
    "\"folds\":7,"
    "\"resends\":8,\"refused\":9,\"headers_waiting\":10},"
    "\"received\":{\"batches\":11,\"headers\":12,\"data_bytes\":13,\"writes\":14,\"drops\":15,"
    "\"ranges\":16,"
    "\"folds\":17,\"resends\":18,\"refused\":19,\"headers_waiting\":20},"
    "\"destage\":{\"store_writes\":21,\"pages_written\":22,\"joined_pages\":24,\"flushes\":23,"
    "\"host_pages\":25,"
    "\"in_flight\":28,\"backlog_pages\":29,\"errors\":26,\"failed_pages\":27},"
    "\"nbd\":{\"addresses\":[\"10.0.0.2:3\"],\"connections\":3,\"connections_total\":30,"
    "\"connections_refused\":2},"
    "\"iscsi\":{\"target\":\"iqn.2026-11.holdfast:demo\",\"addresses\":[\"10.0.0.2:4\"],"
    "\"sessions\":41,\"discovery_sessions\":42,\"logging_in\":43,\"sessions_total\":44,"
    "\"refused\":45,\"dropped\":46,\"commands\":47,\"command_limit\":48,"
    "\"task_management\":49,\"rejects\":50,\"session_list\":[{\"initiator\":\"iqn.x\","
    "\"address\":\"10.0.0.9:5\",\"host\":null,\"authenticated\":true,\"header_digest\":false,"
    "\"data_digest\":true,\"luns\":51,\"commands\":52,\"idle_ms\":53}]},"
    "\"stores\":[{\"name\":\"s\",\"path\":\"/"
    "p?\",\"state\":\"failing\",\"io\":\"direct\",\"block_size_bytes\":4096,"
    "\"size_bytes\":1073741824,\"error\":\"Input/output error\"}],"
    "\"volumes\":[{\"name\":\"v0\",\"owner\":null,\"home\":\"a\",\"moving\":false,\"store\":\"s\","
    "\"offset_bytes\":0,\"size_bytes\":1048576,\"flush\":\"mirror\",\"connections\":0,\"refused\":"
    "0,\"waiting\":0,"
    "\"dirty_pages\":0,\"reads\":0,\"writes\":0,\"flushes\":0,\"trims\":0,\"zeroes\":0,\"read_"
    "bytes\":0,"
    "\"write_bytes\":0,\"shipped\":0,\"read_page_hits\":0,\"read_page_misses\":0,\"hit_rate\":null,"
    "\"read_iops\":"
    "0.0,"
    "\"write_iops\":0.0,\"iscsi\":{\"naa\":\"%s\",\"block_size_bytes\":512,\"sessions\":0,"
    "\"commands\":0,\"read_bytes\":0,\"write_bytes\":0,\"reservation_conflicts\":0,"
    "\"check_conditions\":0,\"busy\":0},\"read_latency_us\":{\"count\":0,\"p50\":0,\"p99\":0,"
    "\"p999\":0},"
    "\"write_latency_us\":{\"count\":0,\"p50\":0,\"p99\":0,\"p999\":0}},"
    "{\"name\":\"v1\",\"owner\":\"b\",\"home\":\"b\",\"moving\":true,\"store\":\"s\",\"offset_"
    "bytes\":1048576,"
    "\"size_bytes\":2097152,\"flush\":\"destage\",\"connections\":2,\"refused\":7,\"waiting\":39,"
    "\"dirty_pages\":31,\"reads\":32,\"writes\":33,\"flushes\":34,\"trims\":35,\"zeroes\":36,"
    "\"read_bytes\":37,"
    "\"write_bytes\":38,\"shipped\":40,\"read_page_hits\":3,\"read_page_misses\":1,\"hit_rate\":0."
    "75,\"read_"
    "iops\":1.3,"
    "\"write_iops\":1000.0,\"iscsi\":{\"naa\":\"%s\",\"block_size_bytes\":512,\"sessions\":61,"
    "\"commands\":62,\"read_bytes\":63,\"write_bytes\":64,\"reservation_conflicts\":65,"
    "\"check_conditions\":66,\"busy\":67},\"read_latency_us\":{\"count\":0,\"p50\":0,\"p99\":0,"
    "\"p999\":0},"
    "\"write_latency_us\":{\"count\":1000,\"p50\":%llu,\"p99\":%llu,\"p999\":%llu}}],"
    "\"groups\":[{\"name\":\"g\",\"array\":\"far\",\"state\":\"copying\",\"reason\":\"it runs\","
    "\"leader\":true,\"term\":80,\"open_cycle\":81,\"closed_cycle\":82,\"confirmed_cycle\":83,"
    "\"confirmed_wall_us\":84,\"pinned_pages\":85,\"tagged_pages\":86,\"range_pages\":99,\"budget_"
    "pages\":2048,"
    "\"marked_regions\":87,\"cuts\":88,\"falls\":89,\"restarts\":90,\"batches\":91,"
    "\"resends\":92,\"refused\":93,\"pages_sent\":94,\"base_pages_sent\":95,\"bytes_sent\":96,"
    "\"role\":\"primary\",\"era\":79,\"condition\":\"consistent\",\"cause\":null,"
    "\"hosts\":\"served\",\"shown_cycle\":83,\"shown_wall_us\":84,"
    "\"behind\":{\"seconds\":1.5,\"bytes\":1515520,\"cycles\":0},\"sync\":null,"
    "\"incoming\":{\"a\":null,\"b\":\"192.0.2.7:9\",\"batches\":75,\"bytes\":76},\"set\":null,"
    "\"link\":{\"up\":true,\"address\":\"10.0.1.2:5\",\"encrypted\":true,\"logins\":72,"
    "\"in_flight\":71,\"sent_bytes\":73,\"compression\":\"zstd\",\"batch_bytes\":97,"
    "\"packed_bytes\":98,\"round_trip_us\":74,\"error\":null},"
    "\"volumes\":[{\"name\":\"v1\",\"remote\":\"w1\"},{\"name\":\"v0\",\"remote\":\"v0\"}]}]}}\n";

static const char *naa_of(const char *volume, char digits[33])
{
    uint8_t naa[16];
    scsi_identity_naa("demo", volume, naa);
    for (int i = 0; i < 16; i++)
        snprintf(digits + 2 * i, 3, "%02x", naa[i]);
    assert_int_equal(digits[0], '6');
    return digits;
}

static void a_status_has_every_key_and_its_number(void **state)
{
    fill();
    const struct histogram *latency = &status.volumes[1].write_latency_us;
    unsigned long long p50 = histogram_percentile(latency, 500),
                       p99 = histogram_percentile(latency, 990);
    assert_true(p50 >= 16 && p50 < 20);
    unsigned long long p999 = histogram_percentile(latency, 999);
    assert_true(p99 >= 1024 && p99 < 1300);
    assert_true(p999 >= 65536 && p999 < 82000);
    size_t size = sizeof expected + 256;
    char *wanted = malloc(size), naa[2][33];
    assert_non_null(wanted);
    snprintf(wanted, size, expected, role_name(ROLE_PAIRED), role_name(ROLE_PAIRED),
             naa_of("v0", naa[0]), naa_of("v1", naa[1]), p50, p99, p999);
    char *line = control_format_status(&config, &extra, &status);
    assert_string_equal(line, wanted);
    assert_null(strstr(line, config.secret));
    assert_null(strstr(line, config.groups[0].secret));
    free(line);
    free(wanted);
}

static void what_is_not_known_is_null(void **state)
{
    fill();
    status.link_up = false;
    extra.stores[0].state = CONTROL_STORE_CLOSED;
    char *line = control_format_status(&config, &extra, &status);
    assert_non_null(strstr(line, "\"peer_role\":null"));
    assert_non_null(strstr(line, "\"io\":null"));
    free(line);
    status.link_up = true;
    status.peer_known = false;
    line = control_format_status(&config, &extra, &status);
    assert_non_null(strstr(line, "\"peer_role\":null"));
    free(line);
}

static void the_largest_status_fits_its_bound(void **state)
{
    fill();
    config.store_count = STORE_LIMIT;
    config.volume_count = VOLUME_LIMIT;
    for (int i = 0; i < STORE_LIMIT; i++) {
        /* Quotes and backslashes take two bytes each in JSON. */
        memset(config.stores[i].path, '"', CONFIG_PATH_SIZE - 1);
        memset(config.stores[i].name, 'n', CONFIG_NAME_SIZE - 1);
        memset(extra.stores[i].error, '\\', TRACE_LINE - 1);
    }
    for (int i = 0; i < VOLUME_LIMIT; i++) {
        memset(&status.volumes[i], 0x7f, sizeof status.volumes[i]);
        status.volumes[i].owner = -1;
        status.volumes[i].moving = true;
        memset(config.volumes[i].name, 'n', VOLUME_NAME_SIZE - 1);
        config.volumes[i].store = 0;
    }
    memset(&extra.iscsi, 0x7f, sizeof extra.iscsi);
    extra.iscsi.shown_count = ISCSI_SHOWN_LIMIT;
    for (int i = 0; i < ISCSI_SHOWN_LIMIT; i++) {
        extra.iscsi.shown[i] = (struct iscsi_shown){.host = config.volumes[0].name};
        memset(extra.iscsi.shown[i].initiator, 'i', CONFIG_INITIATOR_SIZE - 1);
        memset(extra.iscsi.shown[i].address, 'a', ADDRESS_TEXT_SIZE - 1);
    }
    /* Every volume is in one group. */
    status.group_count = config.group_count = GROUP_LIMIT;
    for (int i = 0; i < GROUP_LIMIT; i++) {
        memset(&status.groups[i], 0x7f, sizeof status.groups[i]);
        status.groups[i].state = GROUP_SYNCING;
        status.groups[i].role = GROUP_ROLE_PRIMARY;
        status.groups[i].leader = status.groups[i].hosts_refused = true;
        memset(extra.groups[i].from, '"', sizeof extra.groups[i].from);
        extra.groups[i].sends = extra.groups[i].listens = true;
        memset(status.groups[i].reason, '"', TRACE_LINE);
        status.groups[i].reason[TRACE_LINE - 1] = '\0';
        memset(config.groups[i].name, 'n', CONFIG_NAME_SIZE - 1);
        memset(config.groups[i].array, 'n', CONFIG_NAME_SIZE - 1);
        for (int j = 0; j < CONTROLLER_COUNT; j++)
            extra.groups[i].from[j][ADDRESS_TEXT_SIZE - 1] = '\0';
        memset(extra.groups[i].link.error, '"', TRACE_LINE - 1);
        status.groups[i].set.coordinates = status.groups[i].set.runs = true;
        status.groups[i].set.holding = extra.groups[i].set.coordinates = true;
        config.groups[i].set_count = CONFIG_SET_LIMIT;
        for (int j = 0; j < CONFIG_SET_LIMIT; j++) {
            memset(config.groups[i].set_arrays[j].name, 'n', CONFIG_NAME_SIZE - 1);
            memset(extra.groups[i].set.members[j].link.error, '"', TRACE_LINE - 1);
            status.groups[i].set.members[j] = (struct set_member_status){0};
        }
        config.groups[i].volume_count = VOLUME_LIMIT / GROUP_LIMIT;
        for (int j = 0; j < VOLUME_LIMIT / GROUP_LIMIT; j++)
            memset(config.groups[i].volumes[j].remote, 'n', CONFIG_NAME_SIZE - 1);
    }
    char *line = control_format_status(&config, &extra, &status);
    assert_true(strlen(line) < CONTROL_REPLY_BYTES);
    json_t *root = json_loads(line, 0, NULL);
    assert_non_null(root);
    json_decref(root);
    free(line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_request_is_taken_or_refused_with_its_sentence),
        cmocka_unit_test(what_is_not_json_is_refused),
        cmocka_unit_test(a_reply_is_one_line),
        cmocka_unit_test(a_status_has_every_key_and_its_number),
        cmocka_unit_test(what_is_not_known_is_null),
        cmocka_unit_test(the_largest_status_fits_its_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
