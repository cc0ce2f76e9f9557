/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What a person reads: an ordinary status is laid out as expected, line by line; and no status,
 * however long its names and however large its numbers, makes a line of more than 100 columns or
 * sends a terminal a control code. */

#include "cli/show.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static char *shown(const char *json)
{
    json_error_t error;
    json_t *status = json_loads(json, 0, &error);
    if (!status)
        fail_msg("%s", error.text);
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    show_status(out, status);
    fclose(out);
    json_decref(status);
    return text;
}

static const char ordinary[] =
    "{'version':'0.1.0','array':'demo','controller':'a','pid':4711,'uptime_seconds':3725.5,'role':'"
    "paired',"
    "'reason':'the mirror is up','epoch':12,'refilling':false,'stopping':false,'takeover_count':1,"
    "'takeover_last_us':41000,'flush_messages':0,"
    "'link':{'up':true,'peer_address':'10.0.0.2:3260','peer_role':'paired','authenticated':true,'"
    "logins':2,"
    "'error':null},'warden':{'state':'connected','error':null},"
    "'cache':{'slots':65536,'slots_clean':40000,'slots_dirty':16384,'slots_free':9152,'slots_image'"
    ":256,"
    "'requests_waiting_for_room':0},"
    "'sent':{'batches':1000,'headers':8500,'data_bytes':34816000,'writes':8000,'drops':450,'ranges'"
    ":50,'folds':700,"
    "'resends':1,'refused':0,'headers_waiting':0},"
    "'received':{'batches':0,'headers':0,'data_bytes':0,'writes':0,'drops':0,'ranges':0,'folds':0,'"
    "resends':0,"
    "'refused':0,'headers_waiting':0},"
    "'destage':{'store_writes':120,'pages_written':6000,'joined_pages':5880,'flushes':40,'host_"
    "pages':8000,"
    "'in_flight':3,'backlog_pages':16384,'errors':2,'failed_pages':256},"
    "'nbd':{'addresses':['10.0.0.1:10809'],'connections':3,'connections_total':30,'connections_"
    "refused':2},"
    "'stores':[{'name':'disk','path':'/srv/"
    "disk.img','state':'failing','io':'direct','block_size_bytes':4096,"
    "'size_bytes':42949672960,'error':'Input/output error'}],"
    "'volumes':[{'name':'vol0','owner':'a','moving':false,'size_bytes':21474836480,'dirty_pages':"
    "16384,"
    "'hit_rate':0.753,'read_iops':1234.0,'write_iops':122000.0,'read_latency_us':{'count':9,'p50':"
    "19,'p99':152,"
    "'p999':1216},'write_latency_us':{'count':9,'p50':76,'p99':304,'p999':41000}},"
    "{'name':'a-volume-with-a-long-name','owner':null,'moving':true,'size_bytes':512,'dirty_pages':"
    "0,"
    "'hit_rate':null,'read_iops':0.0,'write_iops':0.0,'read_latency_us':{'count':0},"
    "'write_latency_us':{'count':0}}],"
    "'groups':[{'name':'db','array':'far','state':'syncing','reason':'it is being sent','role':"
    "'primary','era':1,'condition':'resynchronising','cause':null,'hosts':'served','shown_cycle':"
    "12,"
    "'shown_wall_us':1795280703500000,'behind':{'seconds':4.5,'bytes':8388608,'cycles':2},"
    "'sync':{'percent':75.5,'seconds_left':90.0},'incoming':null,'pinned_pages':256,'budget_pages':"
    "512,'marked_regions':40,'link':{'up':true,'address':'10.1.0.1:9','encrypted':true,'sent_bytes'"
    ":"
    "1048576,'error':null}},"
    "{'name':'web','array':'near','state':'fallen','reason':'nothing is known','role':'receiving',"
    "'era':3,'condition':'behind','cause':'link','hosts':'refused','shown_cycle':7,'shown_wall_us':"
    "1795280703500000,'behind':{'seconds':61.0,'bytes':0,'cycles':0},'sync':null,'link':null,"
    "'incoming':{'a':'10.1.0.7:4444','b':null,'batches':33,'bytes':2097152}},"
    "{'name':'over','array':'near','reason':'hosts are served here','role':'failed "
    "over','condition':"
    "'failed over','cause':null,'hosts':'served','behind':null,'sync':null,'link':null,"
    "'incoming':null}]}";

static const char *const ordinary_lines[] = {
    "array demo, controller a: paired",
    "  reason      the mirror is up",
    "  epoch       12",
    "  process     4711, version 0.1.0, up 1 h 2 min",
    "  takeovers   1, the last took 41ms",
    "  link        up to 10.0.0.2:3260, authenticated, 2 logins; in its last hello the peer was "
    "paired",
    "  parent      connected",
    "  cache       256M: 64M dirty (25 %), 156M clean; 1.0M mirrored for the peer; 0 writes wait "
    "for room",
    "  nbd         3 connections, 30 since the start, 2 turned away",
    "",
    "  volume           owner    size  dirty hit% read/s writ/s  read p50/p99/p999 write "
    "p50/p99/p999",
    "  vol0             a         20G    64M   75   1234   122k   19us/152us/1.2ms    "
    "76us/304us/41ms",
    "  a-volume-with-a~ - move    512      0    -      0      0                  -                 "
    " -",
    "",
    "  group       db, copied to array far: resynchronising",
    "              it is being sent",
    "              the copy shows cycle 12 of 2026-11-21 17:05:03 UTC: behind by 4.5 s, 8.0M, 2 "
    "cycles",
    "              75.5 % of what differed is sent, 40 regions to go; time left: 1 min 30 s",
    "              1.0M of 2.0M wait here; 40 regions differ",
    "              session up to 10.1.0.1:9, encrypted, 1.0M sent",
    "  group       web, a copy of what is at array near: behind (link); hosts: refused",
    "              nothing is known",
    "              it shows cycle 7 of 2026-11-21 17:05:03 UTC, 61.0 s ago",
    "              there: controller a from 10.1.0.7:4444, b is not logged in; 2.0M came in 33 "
    "batches",
    "  group       over, failed over from array near: failed over",
    "              hosts are served here",
    "              it shows no state of the other site yet",
    "",
    "  stream      batches headers  writes   drops  ranges  folded  resent refused    data h/batch",
    "  sent           1000    8500    8000     450      50     700       1       0     33M     8.5",
    "  received          0       0       0       0       0       0       0       0       0     0.0",
    "",
    "  destage     120 store writes of 6000 pages (5880 joined), for 8000 pages from hosts; 40 "
    "flushes",
    "              64M to go, 3 writes in flight; 0 messages to the peer for it",
    "              ERRORS: 2 so far, 256 pages wait to be tried again",
    "  store       disk: failing, direct, 40G in blocks of 4096, /srv/disk.img",
    "              last error: Input/output error",
};

/* JSON with ' for ", so that it can be read here. */
static char *quoted(const char *json)
{
    char *text = strdup(json);
    assert_non_null(text);
    for (char *at = text; *at; at++)
        if (*at == '\'')
            *at = '"';
    return text;
}

static void an_ordinary_status_reads_as_laid_out(void **state)
{
    char *json = quoted(ordinary);
    char *text = shown(json);
    char *rest = text;
    for (size_t i = 0; i < ARRAY_LENGTH(ordinary_lines); i++) {
        char *line = strsep(&rest, "\n");
        assert_non_null(rest);
        assert_string_equal(line, ordinary_lines[i]);
    }
    assert_string_equal(rest, "");
    free(text);
    free(json);
}

static void check_columns(const char *text)
{
    size_t column = 0;
    for (const char *at = text; *at; at++) {
        column = *at == '\n' ? 0 : column + 1;
        assert_true(column <= SHOW_COLUMNS);
        assert_true(*at == '\n' || (*at >= 0x20 && *at != 0x7f));
    }
}

/* Every string and number of the status made as wide as it can be. */
static void widen(json_t *value, const char *wide)
{
    const char *key;
    json_t *child;
    size_t index;
    void *next;
    if (json_is_object(value)) {
        json_object_foreach_safe(value, next, key, child)
        {
            if (json_is_string(child))
                json_object_set_new(value, key, json_string(wide));
            else if (json_is_integer(child))
                json_object_set_new(value, key, json_integer(INT64_MAX));
            else if (json_is_real(child))
                json_object_set_new(value, key, json_real(1e300));
            else if (json_is_false(child))
                json_object_set_new(value, key, json_true());
            else
                widen(child, wide);
        }
    } else if (json_is_array(value)) {
        json_array_foreach(value, index, child) widen(child, wide);
    }
}

static void no_line_is_wider_than_100_columns(void **state)
{
    static char words[600], one_word[600], codes[600];
    for (size_t i = 0; i + 1 < sizeof words; i++) {
        words[i] = i % 13 == 12 ? ' ' : 'w';
        one_word[i] = 'o';
        codes[i] = i % 2 ? '\n' : '\x1b';
    }
    const char *const wide[] = {words, one_word, codes};
    char *json = quoted(ordinary);
    for (size_t i = 0; i < ARRAY_LENGTH(wide); i++) {
        json_t *status = json_loads(json, 0, NULL);
        widen(status, wide[i]);
        char *all = json_dumps(status, 0);
        char *text = shown(all);
        check_columns(text);
        free(text);
        free(all);
        json_decref(status);
    }
    free(json);
}

static void what_is_not_there_is_shown_as_none(void **state)
{
    static const char *const statuses[] = {"{}", "{\"volumes\":[{}],\"stores\":[{}]}",
                                           "{\"volumes\":{},\"link\":7}"};
    for (size_t i = 0; i < ARRAY_LENGTH(statuses); i++) {
        char *text = shown(statuses[i]);
        assert_non_null(strstr(text, "array -, controller ?: -"));
        check_columns(text);
        free(text);
    }
}

static void numbers_fit_six_columns_and_round_well(void **state)
{
    static const struct {
        uint64_t us;
        const char *duration, *count, *size;
    } rows[] = {
        {0, "0us", "0", "0"},
        {999, "999us", "999", "999"},
        {1000, "1.0ms", "1000", "1.0K"},
        {1024, "1.0ms", "1024", "1.0K"},
        {9949, "9.9ms", "9949", "9.7K"},
        {9950, "10ms", "9950", "9.7K"},
        {99999, "100ms", "99999", "98K"},
        {100000, "100ms", "100k", "98K"},
        {999499, "999ms", "999k", "976K"},
        {999500, "1.0s", "1.0M", "976K"},
        {123456789, "123s", "123M", "118M"},
        {10000000000, ">999s", "10G", "9.3G"},
        {UINT64_MAX, ">999s", "99999T", "16E"},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        char text[SHOW_SHORT];
        show_duration(text, rows[i].us);
        assert_string_equal(text, rows[i].duration);
        show_count(text, rows[i].us);
        assert_string_equal(text, rows[i].count);
        show_size(text, rows[i].us);
        assert_string_equal(text, rows[i].size);
    }
}

static void who_is_offline_is_told_what_to_do(void **state)
{
    char *json =
        quoted("{'array':'x','controller':'b','role':'offline','reason':'both memories are lost'}");
    char *text = shown(json);
    assert_non_null(strstr(text, "what to do"));
    assert_non_null(strstr(text, "`holdfast accept-loss --controller b`"));
    free(text);
    free(json);
    json = quoted("{'array':'x','controller':'b','role':'offline','reason':'the register cannot be "
                  "reached'}");
    text = shown(json);
    assert_non_null(strstr(text, "bring the register back"));
    assert_null(strstr(text, "accept-loss"));
    free(text);
    free(json);
    json = quoted("{'array':'x','controller':'b','role':'paired','reason':'both'}");
    text = shown(json);
    assert_null(strstr(text, "what to do"));
    free(text);
    free(json);
}

#define SET_GROUP(role, rest)                                                                      \
    "{'array':'x','groups':[{'name':'db','array':'far','leader':true,'role':'" role                \
    "','set':{'name':'shop'," rest "}}]}"

static void a_set_is_shown_where_it_is_cut_and_where_it_is_held(void **state)
{
    static const struct {
        const char *json, *lines;
    } rows[] = {
        {SET_GROUP("primary", "'coordinates':true,'runs':true,'cut':12,'cuts':9,'failed_cuts':2,"
                              "'hold':{'count':4,'last_us':1250,'mean_us':900,'longest_us':50000},"
                              "'members':[{'array':'berlin','session':null},{'array':'paris',"
                              "'session':{'up':true}}]"),
         "              set shop, coordinated here: all arrays are cut together; cut 12; 2 of 9 "
         "cuts failed\n"
         "              writes were held for a cut 1.2 ms at last, 0.9 ms on average, 50.0 ms at "
         "most\n"
         "              0 of 0 wait here"},
        {SET_GROUP("primary", "'coordinates':true,'runs':false,'cut':12,'cuts':0,'failed_cuts':0,"
                              "'hold':{'count':0},'members':[{'array':'berlin','session':null},"
                              "{'array':'paris','session':{'up':false,'address':'10.3.0.1:1',"
                              "'error':'it does not answer'}}]"),
         "              set shop, coordinated here: waits for its arrays; cut 12; 0 of 0 cuts "
         "failed\n"
         "              array paris is NOT reached at 10.3.0.1:1; last error: it does not answer\n"
         "              0 of 0 wait here"},
        {SET_GROUP("primary", "'place':1,'coordinates':false,'coordinator':'10.1.0.1:7'"),
         "              set shop: its coordinator is logged in from 10.1.0.1:7\n"},
        {SET_GROUP("primary", "'place':1,'coordinates':false,'coordinator':null"),
         "              set shop: no coordinator is logged in here\n"},
        {SET_GROUP("primary", "'place':0,'coordinates':false,'coordinator':null"),
         "              set shop: the controller of this array that leads the group coordinates\n"},
        {SET_GROUP("receiving", "'here':true,'shown_cut':7,'held_cut':9"),
         "              set shop: it shows cut 7, and holds up to cut 9\n"},
        {SET_GROUP("receiving", "'here':true,'shown_cut':7,'held_cut':7"),
         "              set shop: it shows cut 7\n"},
        {"{'array':'x','groups':[{'name':'db','array':'far','leader':false,'role':'primary','set':{"
         "'name':'shop','place':1,'coordinates':false,'coordinator':null}}]}",
         "              set shop: the other controller leads the group\n"},
        {SET_GROUP("receiving", "'here':false"), "              set shop\n"},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        char *json = quoted(rows[i].json);
        char *text = shown(json);
        check_columns(text);
        if (!strstr(text, rows[i].lines))
            fail_msg("row %zu:\n%s", i, text);
        free(text);
        free(json);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_ordinary_status_reads_as_laid_out),
        cmocka_unit_test(no_line_is_wider_than_100_columns),
        cmocka_unit_test(who_is_offline_is_told_what_to_do),
        cmocka_unit_test(what_is_not_there_is_shown_as_none),
        cmocka_unit_test(a_set_is_shown_where_it_is_cut_and_where_it_is_held),
        cmocka_unit_test(numbers_fit_six_columns_and_round_well),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
