/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See shrink.h. A failing run is written down and played again with less and less: without whole
 * hosts, without whole kinds of faults, without halves, quarters, ... of what is left down to
 * single lines, then with calmer delays. A try is kept when the oracle says the same sentence but
 * for its numbers and names; a run that fails in another way is another story. */

#include "sim/shrink.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct shrink {
    const struct world_options *options;
    struct listing *best;
    char class[256]; /* of the failure that has to stay */
    struct shrink_result *result;
    time_t end;
};

/* The sentence without numbers, letters of controllers, and what is only possible. */
static void classify(const char *sentence, char *class, size_t size)
{
    size_t at = 0;
    const char *holds = strstr(sentence, " holds ");
    const char *end = sentence + strlen(sentence);
    if (strncmp(sentence, "a read of ", 10) == 0 && holds != NULL) {
        snprintf(class, size, "a read holds what it cannot");
        return;
    }
    if (strncmp(sentence, "liveness: ", 10) == 0 && strchr(sentence, ';') != NULL)
        end = strchr(sentence, ';');
    else if (holds != NULL)
        end = holds;
    for (const char *from = sentence; from < end && at + 1 < size; from++) {
        bool alone = (from == sentence || from[-1] == ' ') &&
                     (from[1] == ' ' || from[1] == ',' || from[1] == ':' || from[1] == '\0');
        if (*from >= '0' && *from <= '9')
            continue;
        class[at++] = alone && (*from == 'a' || *from == 'b') ? '?' : *from;
    }
    class[at] = '\0';
}

const char *shrink_replay(const struct listing *listing, const struct world_options *options,
                          struct statistics *count)
{
    static char failure[1024];
    struct world_options played = *options;
    played.seed = listing->seed;
    played.replay = listing;
    played.record = NULL;
    struct world *world = world_create(&played);
    const char *wrong = world_run(world);
    if (wrong)
        snprintf(failure, sizeof failure, "%s", wrong);
    if (count)
        *count = world->count;
    world_destroy(world);
    return wrong ? failure : NULL;
}

/* Whether the listing still fails in the same way; then it is the best so far. */
static bool still_fails(struct shrink *shrink, struct listing *tried)
{
    char class[sizeof shrink->class];
    shrink->result->runs++;
    const char *wrong = shrink_replay(tried, shrink->options, NULL);
    if (wrong == NULL)
        return false;
    classify(wrong, class, sizeof class);
    if (strcmp(class, shrink->class) != 0)
        return false;
    snprintf(shrink->result->failure, sizeof shrink->result->failure, "%s", wrong);
    listing_copy(shrink->best, tried);
    return true;
}

static bool time_is_up(const struct shrink *shrink)
{
    return time(NULL) >= shrink->end;
}

/* Without the lines [from, to) of the best. */
static bool without_lines(struct shrink *shrink, uint32_t from, uint32_t to)
{
    struct listing tried = {.seed = 0};
    listing_copy(&tried, shrink->best);
    memmove(tried.lines + from, tried.lines + to, (tried.line_count - to) * sizeof *tried.lines);
    tried.line_count -= to - from;
    bool good = still_fails(shrink, &tried);
    listing_free(&tried);
    return good;
}

/* Without all lines that are like this one: of the same host, or the same kind of fault. */
static bool without_kin(struct shrink *shrink, enum listing_kind kind, uint32_t number)
{
    struct listing tried = {.seed = 0};
    listing_copy(&tried, shrink->best);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < tried.line_count; i++) {
        const struct listing_line *line = &tried.lines[i];
        bool kin = line->kind == kind && (kind == LISTING_HOST    ? line->host == number
                                          : kind == LISTING_FAULT ? line->what == number
                                                                  : true);
        if (!kin)
            tried.lines[kept++] = *line;
    }
    bool good = kept < tried.line_count;
    tried.line_count = kept;
    good = good && still_fails(shrink, &tried);
    listing_free(&tried);
    return good;
}

static void drop_kin(struct shrink *shrink)
{
    for (uint32_t host = 0; host < 32 && !time_is_up(shrink); host++)
        without_kin(shrink, LISTING_HOST, host);
    for (uint32_t kind = 0; kind < FAULT_COUNT && !time_is_up(shrink); kind++)
        without_kin(shrink, LISTING_FAULT, kind);
    without_kin(shrink, LISTING_HOLD, 0);
    without_kin(shrink, LISTING_ACCEPT, 0);
    without_kin(shrink, LISTING_LEAVE, 0);
}

static bool drop_pieces(struct shrink *shrink, uint32_t size)
{
    bool any = false;
    for (uint32_t to = shrink->best->line_count; to > 0 && !time_is_up(shrink);) {
        uint32_t from = to > size ? to - size : 0;
        any |= without_lines(shrink, from, to);
        to = from;
    }
    return any;
}

static void drop_lines(struct shrink *shrink)
{
    for (uint32_t size = shrink->best->line_count / 2; size > 1; size /= 2)
        drop_pieces(shrink, size);
    while (drop_pieces(shrink, 1) && !time_is_up(shrink))
        ;
}

static void set(struct shrink *shrink, const char *name, uint64_t value)
{
    struct listing tried = {.seed = 0};
    listing_copy(&tried, shrink->best);
    uint64_t *setting = listing_setting(&tried, name);
    if (setting != NULL && *setting != value) {
        *setting = value;
        still_fails(shrink, &tried);
    }
    listing_free(&tried);
}

/* Delays that do not matter are the plain ones, and the faults end when the last line has happened.
 */
static void calm(struct shrink *shrink)
{
    static const struct {
        const char *name;
        uint64_t value;
    } plain[] = {{"link-jitter", 0},
                 {"link-spikes", 0},
                 {"torn", 0},
                 {"late", 0},
                 {"pump-delay", 0},
                 {"proof-missing", 0},
                 {"data-moves", 0},
                 {"auto-giveback", 0},
                 {"clock-rate-a", 1000000},
                 {"clock-rate-b", 1000000},
                 {"clock-offset-a", 1},
                 {"clock-offset-b", 1},
                 {"volume-0-flush-destage", 0}};
    for (size_t i = 0; i < ARRAY_LENGTH(plain) && !time_is_up(shrink); i++)
        set(shrink, plain[i].name, plain[i].value);
    struct listing tried = {.seed = 0};
    listing_copy(&tried, shrink->best);
    if (tried.line_count > 0)
        tried.end_us = tried.lines[tried.line_count - 1].at_us + 1;
    still_fails(shrink, &tried);
    listing_free(&tried);
}

bool shrink_seed(const struct world_options *options, uint64_t limit_s, struct listing *listing,
                 struct shrink_result *result)
{
    struct world_options recorded = *options;
    *listing = (struct listing){.seed = 0};
    *result = (struct shrink_result){.runs = 1};
    recorded.record = listing;
    struct world *world = world_create(&recorded);
    const char *wrong = world_run(world);
    char found[1024] = "";
    if (wrong)
        snprintf(found, sizeof found, "%s", wrong);
    world_destroy(world);
    if (wrong == NULL) {
        snprintf(result->failure, sizeof result->failure, "this seed does not fail");
        return false;
    }
    struct shrink shrink = {
        .options = options, .best = listing, .result = result, .end = time(NULL) + (time_t)limit_s};
    struct listing whole = {.seed = 0};
    classify(found, shrink.class, sizeof shrink.class);
    listing_copy(&whole, listing);
    result->before = whole.line_count;
    bool same = still_fails(&shrink, &whole);
    listing_free(&whole);
    if (!same) {
        snprintf(result->failure, sizeof result->failure, "played again it does not end so: %.900s",
                 found);
        return false;
    }
    drop_kin(&shrink);
    drop_lines(&shrink);
    calm(&shrink);
    drop_lines(&shrink);
    result->after = listing->line_count;
    return true;
}
