/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Reads the configuration file. inih splits "key = value"; the reader that feeds it here knows the
 * line, judges the form of each line and keeps track of the section, because inih tells neither
 * lines nor sections longer than its own buffers. What each key takes is config_keys.c's table. It
 * never stops at the first mistake, and never prints. */

#include "shell/config_read.h"
#include "shell/config_value.h"

#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

struct line_reader {
    struct config_read *read;
    const char *bytes;
    size_t length;
    size_t offset;
    uint32_t line;
    struct section
        *section; /* where keys go now; NULL: before the first one, or in one that was refused */
    bool before_first;
};

/* ---- mistakes ---- */

void config_report(struct config_read *read, uint32_t line, const char *section, const char *key,
                   const char *value, const char *format, ...)
{
    struct config_errors *errors = read->errors;
    errors->total++;
    if (errors->count == CONFIG_ERROR_LIMIT)
        return;
    /* Kept in the order of the lines; what was reported first of one line stays first. */
    uint32_t at = errors->count++;
    for (; at > 0 && errors->line[at - 1] > line; at--) {
        errors->line[at] = errors->line[at - 1];
        memcpy(errors->text[at], errors->text[at - 1], CONFIG_ERROR_SIZE);
    }
    errors->line[at] = line;

    char message[TRACE_LINE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    char place[TRACE_LINE] = "";
    if (section && key && value)
        snprintf(place, sizeof place, "[%s] %.48s = %.60s: ", section, key, value);
    else if (section && key)
        snprintf(place, sizeof place, "[%s] %.48s: ", section, key);
    else if (section)
        snprintf(place, sizeof place, "[%s]: ", section);
    if (line > 0)
        snprintf(errors->text[at], CONFIG_ERROR_SIZE, "%.100s:%u: %s%s", read->file, line, place,
                 message);
    else
        snprintf(errors->text[at], CONFIG_ERROR_SIZE, "%.100s: %s%s", read->file, place, message);
}

const struct section *config_section(const struct config_read *read, enum section_kind kind,
                                     uint32_t index)
{
    for (uint32_t i = 0; i < read->section_count; i++)
        if (read->sections[i].kind == kind && read->sections[i].index == index)
            return &read->sections[i];
    return NULL;
}

/* ---- sections ---- */

/* The names that sections of a kind have taken. */
struct names {
    uint32_t *count;
    uint32_t limit;
    char *first;
    size_t stride;
};

static struct names names_of(struct config *config, enum section_kind kind)
{
    if (kind == SECTION_STORE)
        return (struct names){&config->store_count, STORE_LIMIT, config->stores[0].name,
                              sizeof config->stores[0]};
    if (kind == SECTION_VOLUME)
        return (struct names){&config->volume_count, VOLUME_LIMIT, config->volumes[0].name,
                              sizeof config->volumes[0]};
    if (kind == SECTION_GROUP)
        return (struct names){&config->group_count, GROUP_LIMIT, config->groups[0].name,
                              sizeof config->groups[0]};
    CHECK(kind == SECTION_HOST);
    return (struct names){&config->host_count, CONFIG_HOST_LIMIT, config->hosts[0].name,
                          sizeof config->hosts[0]};
}

/* The index for a new store, volume, host or group of that name, or of controller a or b; -1 with a
 * sentence. */
static int section_index(struct config_read *read, enum section_kind kind, const char *name,
                         char why[TRACE_LINE])
{
    struct config *config = read->config;
    char legal[CONFIG_NAME_SIZE];
    if (kind == SECTION_ARRAY) {
        if (*name == '\0')
            return 0;
        value_refuse(why,
                     "the array's section has no name of its own; write [array] and name = in it");
        return -1;
    }
    if (kind == SECTION_CONTROLLER) {
        if (controller_by_name(name) >= 0)
            return controller_by_name(name);
        value_refuse(why, "there are two controllers; write [controller a] or [controller b]");
        return -1;
    }
    if (!value_name(name, legal, why))
        return -1;
    struct names names = names_of(config, kind);
    for (uint32_t i = 0; i < *names.count; i++)
        if (strcmp(names.first + i * names.stride, legal) == 0)
            return (int)i;
    if (*names.count == names.limit) {
        value_refuse(why, "one more than the %u that a pair may have", names.limit);
        return -1;
    }
    memcpy(names.first + *names.count * names.stride, legal, sizeof legal);
    return (int)(*names.count)++;
}

/* Finds or begins the section of a header line; NULL, reported, when it is not one. */
static struct section *section_open(struct line_reader *reader, const char *title)
{
    struct config_read *read = reader->read;
    char why[TRACE_LINE];
    size_t word_length = strcspn(title, " \t");
    const char *name = title + word_length + strspn(title + word_length, " \t");
    int kind = 0;
    while (kind < SECTION_KINDS &&
           (strlen(config_section_types[kind].word) != word_length ||
            memcmp(config_section_types[kind].word, title, word_length) != 0))
        kind++;
    if (kind == SECTION_KINDS) {
        config_report(
            read, reader->line, title, NULL, NULL,
            "no such section; write [array], [controller a], [controller b], [store NAME], "
            "[volume NAME], [host NAME] or [group NAME]");
        return NULL;
    }
    int index = section_index(read, (enum section_kind)kind, name, why);
    if (index < 0) {
        config_report(read, reader->line, title, NULL, NULL, "%s", why);
        return NULL;
    }
    const struct section *before = config_section(read, (enum section_kind)kind, (uint32_t)index);
    if (before) {
        config_report(read, reader->line, before->title, NULL, NULL,
                      "this section began in line %u already; write it once", before->line);
        return NULL;
    }
    CHECK(read->section_count < SECTION_LIMIT);
    struct section *section = &read->sections[read->section_count++];
    memset(section, 0, sizeof *section);
    section->kind = (enum section_kind)kind;
    section->index = (uint32_t)index;
    section->line = reader->line;
    if (*name)
        snprintf(section->title, sizeof section->title, "%s %s", config_section_types[kind].word,
                 name);
    else
        snprintf(section->title, sizeof section->title, "%s", config_section_types[kind].word);
    return section;
}

/* A line that begins with "[". */
static void on_header(struct line_reader *reader, char *line)
{
    char *end = strchr(line, ']');
    const char *rest = end ? end + 1 + strspn(end + 1, " \t\r\n") : NULL;
    reader->before_first = false;
    reader->section = NULL;
    if (!end || (*rest != '\0' && *rest != ';' && *rest != '#')) {
        config_report(reader->read, reader->line, NULL, NULL, NULL,
                      "not a section; write [NAME] alone on its line");
        return;
    }
    *end = '\0';
    char title[ADDRESS_TEXT_SIZE];
    const char *from = line + 1 + strspn(line + 1, " \t");
    snprintf(title, sizeof title, "%s", from);
    for (size_t length = strlen(title);
         length > 0 && (title[length - 1] == ' ' || title[length - 1] == '\t'); length--)
        title[length - 1] = '\0';
    reader->section = section_open(reader, title);
}

/* ---- lines ---- */

/* Why a line is not text, or NULL. A tab is. */
static const char *foreign_bytes(const char *line, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)line[i];
        if ((byte < 0x20 && byte != '\t') || byte == 0x7f)
            return "holds a control character; the file is plain text";
    }
    return NULL;
}

/* Takes out the next line, judges its form, and says whether inih is to split it. */
static bool next_line(struct line_reader *reader, char *line, size_t size)
{
    const char *from = reader->bytes + reader->offset;
    size_t left = reader->length - reader->offset;
    const char *newline = memchr(from, '\n', left);
    size_t length = newline ? (size_t)(newline - from) : left;
    reader->offset += length + (newline != NULL);
    reader->line++;
    if (reader->line == 1 && length >= 3 && memcmp(from, "\xef\xbb\xbf", 3) == 0) {
        from += 3;
        length -= 3;
    }
    if (length > 0 && from[length - 1] == '\r')
        length--;
    /* inih would take an indented line for the rest of the one before. */
    while (length > 0 && (*from == ' ' || *from == '\t')) {
        from++;
        length--;
    }
    if (length + 2 > size) {
        config_report(reader->read, reader->line, NULL, NULL, NULL,
                      "a line of %zu bytes; the most is %zu", length, size - 2);
        return false;
    }
    const char *foreign = foreign_bytes(from, length);
    if (foreign) {
        config_report(reader->read, reader->line, NULL, NULL, NULL, "%s", foreign);
        return false;
    }
    memcpy(line, from, length);
    line[length] = '\0';
    if (length == 0 || line[0] == ';' || line[0] == '#')
        return false;
    if (line[0] == '[') {
        on_header(reader, line);
        return false;
    }
    size_t key_length = strcspn(line, "=:;#");
    if (key_length == 0 || line[key_length] != '=') {
        config_report(reader->read, reader->line, NULL, NULL, NULL,
                      "neither a section nor a key; write [SECTION] or key = value");
        return false;
    }
    line[length] = '\n';
    line[length + 1] = '\0';
    return true;
}

/* What inih calls for each line (as fgets). Lines that are not "key = value" reach it empty. */
static char *on_read(char *buffer, int size, void *stream)
{
    struct line_reader *reader = stream;
    CHECK(size >= CONFIG_LINE_SIZE);
    if (reader->offset == reader->length)
        return NULL;
    if (!next_line(reader, buffer, CONFIG_LINE_SIZE))
        memcpy(buffer, "\n", 2);
    return buffer;
}

/* The value is not quoted: the key may be a misspelt "secret". */
static void report_unknown_key(struct line_reader *reader, const char *name)
{
    const struct section_type *type = &config_section_types[reader->section->kind];
    char list[TRACE_LINE];
    size_t used = 0;
    for (uint32_t i = 0; i < type->key_count && used < sizeof list; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "",
                                 type->keys[i].name);
    config_report(reader->read, reader->line, reader->section->title, name, NULL,
                  "no such key here; the keys are %s", list);
}

/* What inih calls for each "key = value". */
static int on_key(void *user, const char *ignored, const char *name, const char *value)
{
    struct line_reader *reader = user;
    struct config_read *read = reader->read;
    struct section *section = reader->section;
    if (!section) {
        if (reader->before_first)
            config_report(read, reader->line, NULL, NULL, NULL,
                          "%.48s stands before the first section; write [array] above it", name);
        return 1; /* else: its section was refused already */
    }
    const struct section_type *type = &config_section_types[section->kind];
    uint32_t at = 0;
    while (at < type->key_count && strcmp(type->keys[at].name, name) != 0)
        at++;
    if (at == type->key_count) {
        report_unknown_key(reader, name);
        return 1;
    }
    const struct key *key = &type->keys[at];
    const char *shown = key->hidden ? NULL : value;
    if (section->key_line[at] > 0) {
        config_report(read, reader->line, section->title, name, shown,
                      "line %u set this key already; write it once", section->key_line[at]);
        return 1;
    }
    section->key_line[at] = reader->line;
    if (shown)
        snprintf(section->key_text[at], KEY_TEXT, "%s", shown);
    char why[TRACE_LINE];
    if (*value == '\0')
        config_report(read, reader->line, section->title, name, NULL,
                      "no value; write one, or leave the line out");
    else if (!key->set(read, section->index, value, why))
        config_report(read, reader->line, section->title, name, shown, "%s", why);
    else
        section->key_good[at] = true;
    return 1;
}

/* ---- the whole ---- */

static void set_defaults(struct config *config)
{
    memset(config, 0, sizeof *config);
    config->cache_bytes = (uint64_t)256 << 20;
    config->lease_ms = 1000;
    config->settle_ms = 100;
    config->dirty_low_percent = 40;
    config->dirty_high_percent = 75;
    config->destage_after_ms = 5000;
    for (int i = 0; i < CONTROLLER_COUNT; i++) {
        config->controllers[i].cpu = -1;
        config->controllers[i].request_limit = 4096;
        config->controllers[i].poll_us = 100;
    }
    for (int i = 0; i < VOLUME_LIMIT; i++)
        config->scsi[i].block_size_bytes = CONFIG_BLOCK_LEAST;
    for (int i = 0; i < GROUP_LIMIT; i++) {
        config->groups[i].cycle_ms = 100;
        config->groups[i].hold_ms = CONFIG_HOLD_MS;
    }
}

static void report_missing_keys(struct config_read *read)
{
    for (uint32_t i = 0; i < read->section_count; i++) {
        const struct section *section = &read->sections[i];
        const struct section_type *type = &config_section_types[section->kind];
        for (uint32_t key = 0; key < type->key_count; key++)
            if (type->keys[key].required && section->key_line[key] == 0)
                config_report(read, section->line, section->title, type->keys[key].name, NULL,
                              "missing; this section needs it");
    }
}

bool config_parse(const char *file, const char *bytes, size_t length, struct config *config,
                  struct config_errors *errors)
{
    set_defaults(config);
    errors->count = 0;
    errors->total = 0;
    struct config_read *read = calloc(1, sizeof *read);
    CHECK(read);
    read->file = file;
    read->config = config;
    read->errors = errors;
    struct line_reader reader = {
        .read = read, .bytes = bytes, .length = length, .before_first = true};

    /* inih's own settings: lines as long as ours, on the heap, one line one key, and "key" alone is
     * no key. */
    ini_use_stack = false;
    ini_allow_realloc = false;
    ini_initial_alloc = CONFIG_LINE_SIZE;
    ini_max_line = CONFIG_LINE_SIZE;
    ini_allow_multiline = false;
    ini_allow_no_value = false;
    ini_inline_comment_prefixes = (char *)(uintptr_t) ";#";
    int result =
        length > CONFIG_FILE_BYTES ? 0 : ini_parse_stream(on_read, &reader, on_key, &reader);

    if (length > CONFIG_FILE_BYTES)
        config_report(read, 0, NULL, NULL, NULL, "%zu bytes; a configuration has at most %d",
                      length, CONFIG_FILE_BYTES);
    else if (result != 0)
        /* Every form that inih refuses was kept from it. */
        config_report(read, result > 0 ? (uint32_t)result : 0, NULL, NULL, NULL, "cannot be split");
    else {
        report_missing_keys(read);
        config_check(read);
    }
    free(read);
    return errors->total == 0;
}

bool config_load(const char *path, struct config *config, struct config_errors *errors)
{
    errors->count = 0;
    errors->total = 0;
    struct config_read failed = {.file = path, .config = config, .errors = errors};
    /* One byte more than allowed, so that a file that is too long shows. */
    char *bytes = malloc(CONFIG_FILE_BYTES + 1);
    FILE *file = fopen(path, "rbe");
    bool good = false;
    if (!bytes || !file) {
        config_report(&failed, 0, NULL, NULL, NULL, "cannot be read: %s", strerror(errno));
        goto out;
    }
    size_t length = fread(bytes, 1, CONFIG_FILE_BYTES + 1, file);
    if (ferror(file)) {
        config_report(&failed, 0, NULL, NULL, NULL, "cannot be read: %s", strerror(errno));
        goto out;
    }
    good = config_parse(path, bytes, length, config, errors);
out:
    if (file)
        fclose(file);
    free(bytes);
    return good;
}

bool config_secret_shows(const char *path, const struct config *config)
{
    struct stat file;
    bool any = config->secret[0];
    for (uint32_t i = 0; i < config->host_count && !any; i++)
        any = config->hosts[i].chap_secret[0];
    any |= config->group_count > 0;
    return any && stat(path, &file) == 0 && (file.st_mode & S_IROTH);
}

int controller_by_name(const char *name)
{
    if (strcmp(name, "a") == 0)
        return 0;
    return strcmp(name, "b") == 0 ? 1 : -1;
}

const char *controller_name(int controller)
{
    static const char *const names[] = {"a", "b"};
    return controller == 0 || controller == 1 ? names[controller] : "?";
}

void config_control_path(const struct config *config, int controller, char path[ADDRESS_PATH_SIZE])
{
    CHECK(controller == 0 || controller == 1);
    int length =
        snprintf(path, ADDRESS_PATH_SIZE, "%s/control", config->controllers[controller].run);
    CHECK(length < ADDRESS_PATH_SIZE);
}

const struct config_host *config_host_of(const struct config *config, const char *initiator)
{
    for (uint32_t i = 0; i < config->host_count; i++)
        for (uint32_t j = 0; j < config->hosts[i].initiator_count; j++)
            if (strcasecmp(config->hosts[i].initiators[j], initiator) == 0)
                return &config->hosts[i];
    return NULL;
}

int config_volume_by_name(const struct config *config, const char *name)
{
    for (uint32_t i = 0; i < config->volume_count; i++)
        if (strcmp(config->volumes[i].name, name) == 0)
            return (int)i;
    return -1;
}
