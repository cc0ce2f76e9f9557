/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See listing.h. The settings are a table of fields of struct world, so that a field which is drawn
 * one day is a row here. */

#include "sim/listing.h"

#include "sim/sites.h"
#include "sim/world.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_BYTES = 256 };

static const char *const op_names[HOST_OP_COUNT] = {
    [HOST_READ] = "read",   [HOST_WRITE] = "write", [HOST_FLUSH] = "flush",
    [HOST_TRIM] = "trim",   [HOST_ZERO] = "zero",   [HOST_COMPARE_WRITE] = "compare",
    [HOST_STATE] = "state", [HOST_MOVE] = "move",
};

void listing_free(struct listing *listing)
{
    free(listing->settings);
    free(listing->lines);
    *listing = (struct listing){.seed = 0};
}

void listing_copy(struct listing *to, const struct listing *from)
{
    listing_free(to);
    *to = *from;
    to->line_room = from->line_count + 1;
    to->settings = malloc((from->setting_count + 1) * sizeof *to->settings);
    to->lines = malloc(to->line_room * sizeof *to->lines);
    CHECK(to->settings != NULL);
    CHECK(to->lines != NULL);
    if (from->setting_count > 0)
        memcpy(to->settings, from->settings, from->setting_count * sizeof *to->settings);
    if (from->line_count > 0)
        memcpy(to->lines, from->lines, from->line_count * sizeof *to->lines);
}

void listing_add(struct listing *listing, const struct listing_line *line)
{
    if (listing->line_count == listing->line_room) {
        listing->line_room = listing->line_room ? listing->line_room * 2 : 256;
        listing->lines = realloc(listing->lines, listing->line_room * sizeof *listing->lines);
        CHECK(listing->lines != NULL);
    }
    listing->lines[listing->line_count++] = *line;
}

/* ---- settings ---- */

#define EACH(name, field) visit(context, name, &(field), sizeof(field))

static void each_of_volumes(struct world *world, each_setting *visit, void *context)
{
    char name[LISTING_NAME];
    for (uint32_t s = 0; s < world->config.store_count && s < STORE_LIMIT; s++) {
        snprintf(name, sizeof name, "store-%u-block", s);
        EACH(name, world->config.stores[s].block_size_bytes);
        snprintf(name, sizeof name, "store-%u-can-zero", s);
        EACH(name, world->config.stores[s].can_zero);
        snprintf(name, sizeof name, "store-%u-size", s);
        EACH(name, world->disks[s].size);
    }
    for (uint32_t v = 0; v < world->config.volume_count && v < VOLUME_LIMIT; v++) {
        struct volume_config *volume = &world->config.volumes[v];
        snprintf(name, sizeof name, "volume-%u-store", v);
        EACH(name, volume->store);
        snprintf(name, sizeof name, "volume-%u-size", v);
        EACH(name, volume->size_bytes);
        snprintf(name, sizeof name, "volume-%u-offset", v);
        EACH(name, volume->store_offset_bytes);
        snprintf(name, sizeof name, "volume-%u-home", v);
        EACH(name, volume->home);
        snprintf(name, sizeof name, "volume-%u-flush-destage", v);
        EACH(name, volume->flush_destage);
    }
}

static void each_of_rates(struct world *world, each_setting *visit, void *context)
{
    char name[LISTING_NAME];
    struct rates *rates = &world->rates;
    for (int kind = 0; kind < FAULT_COUNT; kind++) {
        snprintf(name, sizeof name, "mean-%s", fault_name[kind]);
        EACH(name, rates->mean_us[kind]);
    }
    EACH("link", rates->link_us);
    EACH("link-jitter", rates->link_jitter_us);
    EACH("link-spikes", rates->link_spike_per_mille);
    EACH("read", rates->read_us);
    EACH("write", rates->write_us);
    EACH("flush", rates->flush_us);
    EACH("land-limit", rates->land_limit_us);
    EACH("late", rates->late);
    EACH("torn", rates->torn_percent);
    EACH("restart", rates->restart_us);
    EACH("pump-delay", rates->pump_delay_us);
    EACH("proof-missing", rates->proof_missing_percent);
    EACH("worst", rates->worst_percent);
    EACH("skew", rates->skew_ppm);
    EACH("data-moves", rates->data_moves);
    EACH("leaves-listed", rates->leaves_listed);
}

static void each_setting_of(struct world *world, each_setting *visit, void *context)
{
    struct array_config *config = &world->config;
    EACH("stores", config->store_count);
    EACH("volumes", config->volume_count);
    EACH("slots", config->slot_count);
    EACH("requests", config->request_limit);
    EACH("destage-io", config->destage_io_limit);
    EACH("fetch-io", config->fetch_io_limit);
    EACH("dirty-low", config->dirty_low_percent);
    EACH("dirty-high", config->dirty_high_percent);
    EACH("destage-after", config->destage_after_ms);
    EACH("lease", config->lease_ms);
    EACH("settle", config->settle_ms);
    EACH("auto-giveback", config->auto_giveback);
    EACH("clock-rate-a", world->controllers[0].clock_rate);
    EACH("clock-rate-b", world->controllers[1].clock_rate);
    EACH("clock-offset-a", world->controllers[0].clock_offset);
    EACH("clock-offset-b", world->controllers[1].clock_offset);
    EACH("check-every", world->options.check_every);
    EACH("cell", world->cell_bytes);
    EACH("finish", world->finish);
    each_of_rates(world, visit, context);
    each_of_volumes(world, visit, context);
}

static uint64_t field_get(const void *field, size_t size)
{
    switch (size) {
    case 1:
        return *(const uint8_t *)field;
    case 4:
        return *(const uint32_t *)field;
    default:
        CHECK(size == 8);
        return *(const uint64_t *)field;
    }
}

static void take_one(void *context, const char *name, void *field, size_t size)
{
    struct listing *listing = context;
    listing->settings =
        realloc(listing->settings, (listing->setting_count + 1) * sizeof *listing->settings);
    CHECK(listing->settings != NULL);
    struct listing_setting *setting = &listing->settings[listing->setting_count++];
    snprintf(setting->name, sizeof setting->name, "%s", name);
    setting->value = field_get(field, size);
}

void listing_take_settings(struct listing *listing, struct world *world)
{
    listing->seed = world->options.seed;
    each_setting_of(world, take_one, listing);
    if (world->sites)
        sites_each_setting(world, take_one, listing);
    for (struct world *at = world->next; at; at = at->next) {
        struct listing there = {.seed = 0};
        each_setting_of(at, take_one, &there);
        for (uint32_t i = 0; i < there.setting_count; i++) {
            char name[LISTING_NAME];
            snprintf(name, sizeof name, "%s-%.31s", world_name(at->number), there.settings[i].name);
            take_one(listing, name, &there.settings[i].value, sizeof there.settings[i].value);
        }
        listing_free(&there);
    }
}

uint64_t *listing_setting(struct listing *listing, const char *name)
{
    for (uint32_t i = 0; i < listing->setting_count; i++)
        if (strcmp(listing->settings[i].name, name) == 0)
            return &listing->settings[i].value;
    return NULL;
}

static void give_one(void *context, const char *name, void *field, size_t size)
{
    const struct listing *listing = context;
    for (uint32_t i = 0; i < listing->setting_count; i++) {
        uint64_t value = listing->settings[i].value;
        if (strcmp(listing->settings[i].name, name) != 0)
            continue;
        if (size == 1)
            *(uint8_t *)field = (uint8_t)value;
        else if (size == 4)
            *(uint32_t *)field = (uint32_t)value;
        else
            *(uint64_t *)field = value;
    }
}

void listing_give_settings(const struct listing *listing, struct world *world)
{
    struct listing copy = *listing;
    each_setting_of(world, give_one, &copy);
    if (world->sites)
        sites_each_setting(world, give_one, &copy);
    for (struct world *at = world->next; at; at = at->next) {
        struct listing there = {.seed = 0};
        const char *prefix = world_name(at->number);
        size_t length = strlen(prefix);
        for (uint32_t i = 0; i < copy.setting_count; i++) {
            struct listing_setting *setting = &copy.settings[i];
            if (strncmp(setting->name, prefix, length) == 0 && setting->name[length] == '-')
                take_one(&there, setting->name + length + 1, &setting->value,
                         sizeof setting->value);
        }
        each_setting_of(at, give_one, &there);
        listing_free(&there);
    }
}

/* ---- as text ---- */

void listing_print(const struct listing *listing, FILE *to)
{
    fprintf(to, "seed %" PRIu64 "\nend %" PRIu64 "\n", listing->seed, listing->end_us);
    for (uint32_t i = 0; i < listing->setting_count; i++)
        fprintf(to, "set %s %" PRIu64 "\n", listing->settings[i].name, listing->settings[i].value);
    for (uint32_t i = 0; i < listing->line_count; i++) {
        const struct listing_line *line = &listing->lines[i];
        const struct host_request *request = &line->request;
        fprintf(to, "at %" PRIu64 " %s%s", line->at_us, world_name(line->array),
                line->array > 0 ? " " : "");
        switch (line->kind) {
        case LISTING_HOST:
            fprintf(to,
                    "host %u slot %u %s volume %u offset %" PRIu64 " length %" PRIu64
                    " flags %u to %c%s\n",
                    line->host, line->slot, op_names[request->op], request->volume,
                    request->offset_bytes, request->length_bytes, request->flags,
                    world_letter(line->who), line->outside ? " outside" : "");
            break;
        case LISTING_FAULT:
            fprintf(to, "fault %s who %u\n", fault_name[line->what], line->who);
            break;
        case LISTING_HOLD:
            fprintf(to, "hold %c\n", world_letter(line->who));
            break;
        case LISTING_ACCEPT:
            fprintf(to, "accept %c\n", world_letter(line->who));
            break;
        case LISTING_LEAVE:
            fprintf(to, "leave slot %u\n", line->slot);
            break;
        }
    }
}

static bool read_host(const char *text, struct listing_line *line)
{
    char op[16], to, outside[16] = "";
    uint32_t volume, flags;
    struct host_request *request = &line->request;
    int count = sscanf(text,
                       "host %" SCNu32 " slot %" SCNu32 " %15s volume %" SCNu32 " offset %" SCNu64
                       " length %" SCNu64 " flags %" SCNu32 " to %c %15s",
                       &line->host, &line->slot, op, &volume, &request->offset_bytes,
                       &request->length_bytes, &flags, &to, outside);
    if (count < 8 || volume >= VOLUME_LIMIT || flags > UINT8_MAX || (to != 'a' && to != 'b') ||
        request->length_bytes > 1ull << 40)
        return false;
    int kind = 0;
    while (kind < HOST_OP_COUNT && strcmp(op_names[kind], op) != 0)
        kind++;
    if (kind == HOST_OP_COUNT)
        return false;
    request->op = (enum host_op)kind;
    request->volume = (uint8_t)volume;
    request->flags = (uint8_t)flags;
    line->kind = LISTING_HOST;
    line->who = to == 'b';
    line->outside = strcmp(outside, "outside") == 0;
    return true;
}

static bool read_line(const char *text, struct listing_line *line)
{
    char word[16], who;
    uint32_t number;
    for (uint8_t array = 1; array < ARRAYS_LIMIT; array++) {
        size_t length = strlen(world_name(array));
        if (strncmp(text, world_name(array), length) != 0 || text[length] != ' ')
            continue;
        line->array = array;
        text += length + 1;
        break;
    }
    if (read_host(text, line))
        return true;
    if (sscanf(text, "fault %15s who %" SCNu32, word, &number) == 2 &&
        (number < 2 || (number < 4 && strcmp(word, fault_name[FAULT_SITE]) == 0))) {
        int kind = 0;
        while (kind < FAULT_COUNT && strcmp(fault_name[kind], word) != 0)
            kind++;
        line->kind = LISTING_FAULT;
        line->what = (uint8_t)kind;
        line->who = (uint8_t)number;
        return kind < FAULT_COUNT;
    }
    if (sscanf(text, "leave slot %" SCNu32, &line->slot) == 1) {
        line->kind = LISTING_LEAVE;
        return true;
    }
    if (sscanf(text, "%15s %c", word, &who) != 2 || (who != 'a' && who != 'b'))
        return false;
    line->who = who == 'b';
    line->kind = strcmp(word, "hold") == 0 ? LISTING_HOLD : LISTING_ACCEPT;
    return strcmp(word, "hold") == 0 || strcmp(word, "accept") == 0;
}

static bool read_text(struct listing *listing, const char *text)
{
    struct listing_setting setting;
    struct listing_line line = {.at_us = 0};
    int at = 0;
    if (text[0] == '#' || text[0] == '\n' || text[0] == '\0')
        return true;
    if (sscanf(text, "seed %" SCNu64, &listing->seed) == 1 ||
        sscanf(text, "end %" SCNu64, &listing->end_us) == 1)
        return true;
    if (sscanf(text, "set %39s %" SCNu64, setting.name, &setting.value) == 2) {
        take_one(listing, setting.name, &setting.value, sizeof setting.value);
        return true;
    }
    if (sscanf(text, "at %" SCNu64 " %n", &line.at_us, &at) != 1 || at == 0 ||
        !read_line(text + at, &line))
        return false;
    listing_add(listing, &line);
    return true;
}

const char *listing_read(struct listing *listing, const char *path)
{
    static char sentence[LINE_BYTES];
    char *text = NULL;
    size_t room = 0;
    *listing = (struct listing){.seed = 0};
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return "it cannot be opened";
    const char *wrong = NULL;
    for (unsigned number = 1; wrong == NULL && getline(&text, &room, file) > 0; number++) {
        if (read_text(listing, text))
            continue;
        snprintf(sentence, sizeof sentence, "line %u is none of a listing: %.100s", number, text);
        wrong = sentence;
    }
    free(text);
    fclose(file);
    if (wrong == NULL && (listing->setting_count == 0 || listing->end_us == 0))
        wrong = "it has no settings or no end";
    return wrong;
}
