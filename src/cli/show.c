/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Lays a status out for a person. Every line goes through one of two ways: a table whose columns
 * cut what is too wide, or a labelled text that is broken between words; so none is wider than
 * SHOW_COLUMNS. Control characters never reach the terminal. */

#include "cli/show.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LABEL_WIDTH = 11, LINE_BYTES = 1024 };

/* ---- numbers in few columns ---- */

/* value / unit with one decimal below 10, else none: "1.2K", "41K". */
static void scaled(char text[SHOW_SHORT], double value, const char *unit)
{
    snprintf(text, SHOW_SHORT, value < 9.95 ? "%.1f%s" : "%.0f%s", value, unit);
}

void show_duration(char text[SHOW_SHORT], uint64_t us)
{
    if (us < 1000)
        snprintf(text, SHOW_SHORT, "%uus", (unsigned)us);
    else if (us < 999500)
        scaled(text, (double)us / 1e3, "ms");
    else if (us < 999500000)
        scaled(text, (double)us / 1e6, "s");
    else
        snprintf(text, SHOW_SHORT, ">999s");
}

void show_count(char text[SHOW_SHORT], uint64_t count)
{
    if (count < 100000)
        snprintf(text, SHOW_SHORT, "%u", (unsigned)count);
    else if (count < 999500)
        scaled(text, (double)count / 1e3, "k");
    else if (count < 999500000)
        scaled(text, (double)count / 1e6, "M");
    else if (count < 999500000000)
        scaled(text, (double)count / 1e9, "G");
    else
        scaled(text, (double)min_u64(count, 99999 * (uint64_t)1000000000000) / 1e12, "T");
}

void show_size(char text[SHOW_SHORT], uint64_t bytes)
{
    static const char *const units[] = {"", "K", "M", "G", "T", "P", "E"};
    double value = (double)bytes;
    size_t unit = 0;
    for (; value >= 999.5 && unit + 1 < ARRAY_LENGTH(units); unit++)
        value /= 1024;
    if (unit == 0)
        snprintf(text, SHOW_SHORT, "%u", (unsigned)bytes);
    else
        scaled(text, value, units[unit]);
}

void show_time(char text[SHOW_SHORT * 2], uint64_t wall_us)
{
    time_t seconds = (time_t)(wall_us / 1000000);
    struct tm parts;
    if (!gmtime_r(&seconds, &parts) ||
        strftime(text, SHOW_SHORT * 2, "%Y-%m-%d %H:%M:%S UTC", &parts) == 0)
        snprintf(text, SHOW_SHORT * 2, "?");
}

/* How long something has gone on, in words. */
static void show_age(char text[SHOW_SHORT * 2], double seconds)
{
    uint64_t whole = seconds > 0 ? (uint64_t)(seconds < 1e12 ? seconds : 1e12) : 0;
    if (whole < 60)
        snprintf(text, SHOW_SHORT * 2, "%" PRIu64 " s", whole);
    else if (whole < 3600)
        snprintf(text, SHOW_SHORT * 2, "%" PRIu64 " min %" PRIu64 " s", whole / 60, whole % 60);
    else if (whole < 86400)
        snprintf(text, SHOW_SHORT * 2, "%" PRIu64 " h %" PRIu64 " min", whole / 3600,
                 whole / 60 % 60);
    else
        snprintf(text, SHOW_SHORT * 2, "%" PRIu64 " d %" PRIu64 " h", whole / 86400,
                 whole / 3600 % 24);
}

/* ---- what a status holds ---- */

static uint64_t number(const json_t *object, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(object, key));
    return value > 0 ? (uint64_t)value : 0;
}

static double rate(const json_t *object, const char *key)
{
    double value = json_number_value(json_object_get(object, key));
    return value > 0 && value < 1e15 ? value : 0;
}

/* NULL when the key is absent, null or empty. */
static const char *words(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value && *value ? value : NULL;
}

static bool yes(const json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

/* "a" or "b"; `none` for anything else. */
static char letter(const json_t *object, const char *key, char none)
{
    const char *value = words(object, key);
    return value && (*value == 'a' || *value == 'b') ? *value : none;
}

/* ---- lines ---- */

/* Replaces what a terminal would obey. */
static void make_plain(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
}

/* "  label     text", broken between words where it would be too wide, and within a word that is by
 * itself. */
static void labelled(FILE *out, const char *label, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void labelled(FILE *out, const char *label, const char *format, ...)
{
    char line[LINE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    make_plain(line);

    const size_t width = SHOW_COLUMNS - 2 - LABEL_WIDTH - 1;
    const char *at = line;
    do {
        size_t left = strlen(at);
        size_t take = left;
        if (left > width) {
            take = width;
            while (take > 0 && at[take] != ' ')
                take--;
            if (take == 0)
                take = width;
        }
        fprintf(out, "  %-*s %.*s\n", LABEL_WIDTH, label, (int)take, at);
        at += take;
        at += strspn(at, " ");
        label = "";
    } while (*at);
}

/* `text` in at most `width` columns; a "~" shows where it was cut. */
static const char *cut(char to[LINE_BYTES], const char *text, size_t width)
{
    CHECK(width > 0);
    CHECK(width < LINE_BYTES);
    snprintf(to, LINE_BYTES, "%s", text ? text : "-");
    make_plain(to);
    if (strlen(to) > width) {
        to[width - 1] = '~';
        to[width] = '\0';
    }
    return to;
}

/* ---- sections ---- */

/* Offline lasts until somebody does something; so that is said, and not only why. */
static void show_way_out(FILE *out, char controller, const char *reason)
{
    if (reason && strstr(reason, "register"))
        labelled(out, "what to do", "bring the register back; nothing is served until then");
    else
        labelled(out, "what to do",
                 "if a controller that still holds the data can come back, start it. If none can: "
                 "`holdfast accept-loss --controller %c` serves what the stores hold, without the "
                 "writes that were in memory only",
                 controller);
}

static void show_head(FILE *out, const json_t *status)
{
    char array[LINE_BYTES], role[LINE_BYTES], age[SHOW_SHORT * 2];
    cut(array, words(status, "array"), 30);
    cut(role, words(status, "role"), 12);
    fprintf(out, "array %s, controller %c: %s%s%s\n", array, letter(status, "controller", '?'),
            role, yes(status, "refilling") ? ", refilling the peer" : "",
            yes(status, "stopping") ? ", stopping" : "");
    const char *reason = words(status, "reason");
    if (reason)
        labelled(out, "reason", "%s", reason);
    if (strcmp(role, "offline") == 0)
        show_way_out(out, letter(status, "controller", '?'), reason);
    show_age(age, rate(status, "uptime_seconds"));
    labelled(out, "epoch", "%" PRIu64, number(status, "epoch"));
    labelled(out, "process", "%" PRIu64 ", version %s, up %s", number(status, "pid"),
             words(status, "version") ? words(status, "version") : "?", age);
    if (number(status, "takeover_count") > 0) {
        char last[SHOW_SHORT];
        show_duration(last, number(status, "takeover_last_us"));
        labelled(out, "takeovers", "%" PRIu64 ", the last took %s",
                 number(status, "takeover_count"), last);
    }
}

static void show_link(FILE *out, const json_t *status)
{
    const json_t *link = json_object_get(status, "link");
    const json_t *warden = json_object_get(status, "warden");
    const char *address = words(link, "peer_address");
    const char *peer = words(link, "peer_role");
    labelled(out, "link", "%s %s, %s, %" PRIu64 " login%s%s%s",
             yes(link, "up") ? "up to" : "DOWN to", address ? address : "?",
             yes(link, "authenticated") ? "authenticated" : "not authenticated",
             number(link, "logins"), number(link, "logins") == 1 ? "" : "s",
             peer ? "; in its last hello the peer was " : "", peer ? peer : "");
    if (words(link, "error"))
        labelled(out, "", "last error: %s", words(link, "error"));
    labelled(out, "parent", "%s%s%s", words(warden, "state") ? words(warden, "state") : "?",
             words(warden, "error") ? ": " : "",
             words(warden, "error") ? words(warden, "error") : "");
}

static void show_cache(FILE *out, const json_t *status)
{
    const json_t *cache = json_object_get(status, "cache");
    const json_t *nbd = json_object_get(status, "nbd");
    uint64_t slots = number(cache, "slots");
    char all[SHOW_SHORT], dirty[SHOW_SHORT], clean[SHOW_SHORT], image[SHOW_SHORT];
    show_size(all, slots * 4096);
    show_size(dirty, number(cache, "slots_dirty") * 4096);
    show_size(clean, number(cache, "slots_clean") * 4096);
    show_size(image, number(cache, "slots_image") * 4096);
    labelled(out, "cache",
             "%s: %s dirty (%.0f %%), %s clean; %s mirrored for the peer; %" PRIu64
             " writes wait for room",
             all, dirty,
             slots > 0 ? 100.0 * (double)number(cache, "slots_dirty") / (double)slots : 0.0, clean,
             image, number(cache, "requests_waiting_for_room"));
    labelled(out, "nbd",
             "%" PRIu64 " connections, %" PRIu64 " since the start, %" PRIu64 " turned away",
             number(nbd, "connections"), number(nbd, "connections_total"),
             number(nbd, "connections_refused"));
}

static void show_iscsi(FILE *out, const json_t *status)
{
    const json_t *iscsi = json_object_get(status, "iscsi");
    if (!json_is_object(iscsi))
        return;
    labelled(out, "iscsi",
             "%" PRIu64 " sessions, %" PRIu64 " since the start, %" PRIu64 " turned away, %" PRIu64
             " dropped; %" PRIu64 " commands under way",
             number(iscsi, "sessions"), number(iscsi, "sessions_total"), number(iscsi, "refused"),
             number(iscsi, "dropped"), number(iscsi, "commands"));
}

/* "p50/p99/p999". */
static void show_latency(char text[3 * SHOW_SHORT], const json_t *latency)
{
    char p50[SHOW_SHORT], p99[SHOW_SHORT], p999[SHOW_SHORT];
    if (number(latency, "count") == 0) {
        snprintf(text, 3 * SHOW_SHORT, "-");
        return;
    }
    show_duration(p50, number(latency, "p50"));
    show_duration(p99, number(latency, "p99"));
    show_duration(p999, number(latency, "p999"));
    snprintf(text, 3 * SHOW_SHORT, "%s/%s/%s", p50, p99, p999);
}

static void show_volumes(FILE *out, const json_t *status)
{
    static const char format[] = "  %-16s %-6s %6s %6s %4s %6s %6s %18s %18s\n";
    fprintf(out, "\n  %-16s %-6s %6s %6s %4s %6s %6s %18s %18s\n", "volume", "owner", "size",
            "dirty", "hit%", "read/s", "writ/s", "read p50/p99/p999", "write p50/p99/p999");
    size_t index;
    json_t *volume;
    json_array_foreach(json_object_get(status, "volumes"), index, volume)
    {
        char name[LINE_BYTES], owner[SHOW_SHORT], size[SHOW_SHORT], dirty[SHOW_SHORT],
            hits[SHOW_SHORT];
        char reads[SHOW_SHORT], writes[SHOW_SHORT], read_us[3 * SHOW_SHORT],
            write_us[3 * SHOW_SHORT];
        snprintf(owner, sizeof owner, "%c%s", letter(volume, "owner", '-'),
                 yes(volume, "moving") ? " move" : "");
        show_size(size, number(volume, "size_bytes"));
        show_size(dirty, number(volume, "dirty_pages") * 4096);
        snprintf(hits, sizeof hits, "%.0f", 100 * rate(volume, "hit_rate"));
        if (!json_is_number(json_object_get(volume, "hit_rate")))
            snprintf(hits, sizeof hits, "-");
        show_count(reads, (uint64_t)rate(volume, "read_iops"));
        show_count(writes, (uint64_t)rate(volume, "write_iops"));
        show_latency(read_us, json_object_get(volume, "read_latency_us"));
        show_latency(write_us, json_object_get(volume, "write_latency_us"));
        hits[4] = '\0';
        fprintf(out, format, cut(name, words(volume, "name"), 16), owner, size, dirty, hits, reads,
                writes, read_us, write_us);
    }
}

static const char *or_mark(const char *text)
{
    return text ? text : "?";
}

/* What the copy shows, and how old that is. */
static void show_behind(FILE *out, const json_t *group, bool copy)
{
    const json_t *behind = json_object_get(group, "behind");
    char when[SHOW_SHORT * 2], bytes[SHOW_SHORT];
    if (!json_is_object(behind)) {
        labelled(out, "", "%s",
                 copy ? "it shows no state of the other site yet"
                      : "no state of this site is there yet");
        return;
    }
    show_time(when, number(group, "shown_wall_us"));
    show_size(bytes, number(behind, "bytes"));
    if (copy)
        labelled(out, "", "it shows cycle %" PRIu64 " of %s, %.1f s ago",
                 number(group, "shown_cycle"), when, rate(behind, "seconds"));
    else
        labelled(out, "",
                 "the copy shows cycle %" PRIu64 " of %s: behind by %.1f s, %s, %" PRIu64 " cycles",
                 number(group, "shown_cycle"), when, rate(behind, "seconds"), bytes,
                 number(behind, "cycles"));
}

static void show_sync(FILE *out, const json_t *group)
{
    const json_t *sync = json_object_get(group, "sync");
    char left[SHOW_SHORT * 2] = "not known";
    if (!json_is_object(sync))
        return;
    if (json_is_number(json_object_get(sync, "seconds_left")))
        show_age(left, rate(sync, "seconds_left"));
    labelled(out, "", "%.1f %% of what differed is sent, %" PRIu64 " regions to go; time left: %s",
             rate(sync, "percent"), number(group, "marked_regions"), left);
}

static void show_sender(FILE *out, const json_t *group)
{
    const json_t *link = json_object_get(group, "link");
    char sent[SHOW_SHORT], pinned[SHOW_SHORT], budget[SHOW_SHORT];
    show_size(pinned, number(group, "pinned_pages") * 4096);
    show_size(budget, number(group, "budget_pages") * 4096);
    labelled(out, "", "%s of %s wait here; %" PRIu64 " regions differ", pinned, budget,
             number(group, "marked_regions"));
    show_size(sent, number(link, "sent_bytes"));
    if (json_is_object(link))
        labelled(out, "", "session %s %s%s, %s sent%s%s", yes(link, "up") ? "up to" : "DOWN to",
                 or_mark(words(link, "address")), yes(link, "encrypted") ? ", encrypted" : "", sent,
                 words(link, "error") ? "; last error: " : "",
                 words(link, "error") ? words(link, "error") : "");
}

static void show_receiver(FILE *out, const json_t *group)
{
    const json_t *incoming = json_object_get(group, "incoming");
    const char *a = words(incoming, "a"), *b = words(incoming, "b");
    char came[SHOW_SHORT];
    if (!json_is_object(incoming))
        return;
    show_size(came, number(incoming, "bytes"));
    labelled(out, "", "there: controller a %s%s, b %s%s; %s came in %" PRIu64 " batches",
             a ? "from " : "", a ? a : "is not logged in", b ? "from " : "",
             b ? b : "is not logged in", came, number(incoming, "batches"));
}

/* The sessions of a coordinator that are not there, one a line. */
static void show_members(FILE *out, const json_t *set)
{
    size_t index;
    json_t *member;
    json_array_foreach(json_object_get(set, "members"), index, member)
    {
        const json_t *session = json_object_get(member, "session");
        char array[LINE_BYTES];
        if (!json_is_object(session) || yes(session, "up"))
            continue;
        labelled(out, "", "array %s is NOT reached at %s%s%s",
                 cut(array, words(member, "array"), 40), or_mark(words(session, "address")),
                 words(session, "error") ? "; last error: " : "",
                 words(session, "error") ? words(session, "error") : "");
    }
}

/* Of a group that is cut together with those of other arrays. */
static void show_set(FILE *out, const json_t *group, bool copy)
{
    const json_t *set = json_object_get(group, "set"), *hold = json_object_get(set, "hold");
    char name[LINE_BYTES];
    if (!json_is_object(set))
        return;
    cut(name, words(set, "name"), 40);
    if (copy && yes(set, "here") && number(set, "held_cut") <= number(set, "shown_cut"))
        labelled(out, "", "set %s: it shows cut %" PRIu64, name, number(set, "shown_cut"));
    else if (copy && yes(set, "here"))
        labelled(out, "", "set %s: it shows cut %" PRIu64 ", and holds up to cut %" PRIu64, name,
                 number(set, "shown_cut"), number(set, "held_cut"));
    else if (copy)
        labelled(out, "", "set %s", name);
    else if (yes(set, "coordinates"))
        labelled(out, "",
                 "set %s, coordinated here: %s; cut %" PRIu64 "; %" PRIu64 " of %" PRIu64
                 " cuts failed",
                 name, yes(set, "runs") ? "all arrays are cut together" : "waits for its arrays",
                 number(set, "cut"), number(set, "failed_cuts"), number(set, "cuts"));
    else if (number(set, "place") == 0)
        labelled(out, "", "set %s: the controller of this array that leads the group coordinates",
                 name);
    else if (!yes(group, "leader"))
        labelled(out, "", "set %s: the other controller leads the group", name);
    else
        labelled(out, "", "set %s: %s%s", name,
                 words(set, "coordinator") ? "its coordinator is logged in from "
                                           : "no coordinator is logged in here",
                 words(set, "coordinator") ? words(set, "coordinator") : "");
    if (!copy && number(hold, "count") > 0)
        labelled(out, "",
                 "writes were held for a cut %.1f ms at last, %.1f ms on average, %.1f ms at most",
                 (double)number(hold, "last_us") / 1e3, (double)number(hold, "mean_us") / 1e3,
                 (double)number(hold, "longest_us") / 1e3);
    show_members(out, set);
}

static void show_group(FILE *out, const json_t *group)
{
    static const char primary[] = "copied to array";
    const char *role = words(group, "role"), *hosts = words(group, "hosts");
    const char *cause = words(group, "cause");
    bool copy = role && strcmp(role, "primary") != 0;
    bool over = role && strcmp(role, "failed over") == 0;
    char name[LINE_BYTES], array[LINE_BYTES];
    labelled(out, "group", "%s, %s %s: %s%s%s%s%s%s", cut(name, words(group, "name"), 40),
             over   ? "failed over from array"
             : copy ? "a copy of what is at array"
                    : primary,
             cut(array, words(group, "array"), 40),
             or_mark(words(group, "condition") ? words(group, "condition") : words(group, "state")),
             cause ? " (" : "", cause ? cause : "", cause ? ")" : "",
             hosts && strcmp(hosts, "served") != 0 ? "; hosts: " : "",
             hosts && strcmp(hosts, "served") != 0 ? hosts : "");
    if (words(group, "reason"))
        labelled(out, "", "%s", words(group, "reason"));
    show_behind(out, group, copy);
    show_sync(out, group);
    show_set(out, group, copy);
    if (!copy || json_is_object(json_object_get(group, "link")))
        show_sender(out, group);
    if (copy)
        show_receiver(out, group);
}

static void show_all_groups(FILE *out, const json_t *status)
{
    size_t index;
    json_t *group;
    json_array_foreach(json_object_get(status, "groups"), index, group) show_group(out, group);
}

void show_groups(FILE *out, const json_t *status)
{
    char array[LINE_BYTES];
    fprintf(out, "array %s, controller %c\n", cut(array, words(status, "array"), 40),
            letter(status, "controller", '?'));
    if (json_array_size(json_object_get(status, "groups")) == 0)
        labelled(out, "group", "none is configured");
    show_all_groups(out, status);
}

static void show_stream(FILE *out, const char *label, const json_t *stream)
{
    static const char *const keys[] = {"batches", "headers", "writes",  "drops",
                                       "ranges",  "folds",   "resends", "refused"};
    char text[SHOW_SHORT];
    fprintf(out, "  %-11s", label);
    for (size_t i = 0; i < ARRAY_LENGTH(keys); i++) {
        show_count(text, number(stream, keys[i]));
        fprintf(out, " %7s", text);
    }
    show_size(text, number(stream, "data_bytes"));
    uint64_t batches = number(stream, "batches");
    double each = batches > 0 ? (double)number(stream, "headers") / (double)batches : 0;
    fprintf(out, " %7s %7.1f\n", text, each < 99999 ? each : 99999.0);
}

static void show_streams(FILE *out, const json_t *status)
{
    fprintf(out, "\n  %-11s %7s %7s %7s %7s %7s %7s %7s %7s %7s %7s\n", "stream", "batches",
            "headers", "writes", "drops", "ranges", "folded", "resent", "refused", "data",
            "h/batch");
    show_stream(out, "sent", json_object_get(status, "sent"));
    show_stream(out, "received", json_object_get(status, "received"));
}

static void show_destage(FILE *out, const json_t *status)
{
    const json_t *destage = json_object_get(status, "destage");
    char stores[SHOW_SHORT], pages[SHOW_SHORT], joined[SHOW_SHORT], flushes[SHOW_SHORT],
        host[SHOW_SHORT];
    char backlog[SHOW_SHORT];
    show_count(stores, number(destage, "store_writes"));
    show_count(pages, number(destage, "pages_written"));
    show_count(joined, number(destage, "joined_pages"));
    show_count(flushes, number(destage, "flushes"));
    show_count(host, number(destage, "host_pages"));
    show_size(backlog, number(destage, "backlog_pages") * 4096);
    fputc('\n', out);
    labelled(out, "destage",
             "%s store writes of %s pages (%s joined), for %s pages from hosts; %s flushes", stores,
             pages, joined, host, flushes);
    labelled(out, "",
             "%s to go, %" PRIu64 " writes in flight; %" PRIu64 " messages to the peer for it",
             backlog, number(destage, "in_flight"), number(status, "flush_messages"));
    if (number(destage, "errors") > 0 || number(destage, "failed_pages") > 0)
        labelled(out, "", "ERRORS: %" PRIu64 " so far, %" PRIu64 " pages wait to be tried again",
                 number(destage, "errors"), number(destage, "failed_pages"));
    size_t index;
    json_t *store;
    json_array_foreach(json_object_get(status, "stores"), index, store)
    {
        char name[LINE_BYTES], size[SHOW_SHORT];
        show_size(size, number(store, "size_bytes"));
        labelled(out, "store", "%s: %s, %s, %s in blocks of %" PRIu64 ", %s",
                 cut(name, words(store, "name"), 64),
                 words(store, "state") ? words(store, "state") : "?",
                 words(store, "io") ? words(store, "io") : "-", size,
                 number(store, "block_size_bytes"),
                 words(store, "path") ? words(store, "path") : "?");
        if (words(store, "error"))
            labelled(out, "", "last error: %s", words(store, "error"));
    }
}

void show_status(FILE *out, const json_t *status)
{
    show_head(out, status);
    show_link(out, status);
    show_cache(out, status);
    show_iscsi(out, status);
    show_volumes(out, status);
    if (json_array_size(json_object_get(status, "groups")) > 0)
        fputc('\n', out);
    show_all_groups(out, status);
    show_streams(out, status);
    show_destage(out, status);
}
