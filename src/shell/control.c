/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Requests of an operator from JSON, and the state of a controller to JSON; the keys are those of
 * docs/status-json.md and do not change their meaning. It owns no socket and keeps no state between
 * calls. Text that is not UTF-8 (a path may be anything) is shown with its odd bytes replaced,
 * never dropped. */

#include "shell/control.h"

#include "scsi/scsi.h"
#include "shell/control_group.h"
#include "shell/control_set.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- requests ---- */

static bool refuse(char why[TRACE_LINE], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool refuse(char why[TRACE_LINE], const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, TRACE_LINE, format, arguments);
    va_end(arguments);
    return false;
}

static const struct command {
    const char *name;
    enum control_command command;
    const char *keys[5]; /* that it takes beside "command" */
} commands[] = {
    {"status", CONTROL_STATUS, {NULL}},
    {"move", CONTROL_MOVE, {"volume", "to", NULL}},
    {"stop", CONTROL_STOP, {NULL}},
    {"accept-loss", CONTROL_ACCEPT_LOSS, {"peer_is_dead", NULL}},
    {"group", CONTROL_GROUP, {"group", "action", "force", "cut", NULL}},
};

static bool takes_key(const struct command *command, const char *key)
{
    if (strcmp(key, "command") == 0)
        return true;
    for (int i = 0; command->keys[i]; i++)
        if (strcmp(command->keys[i], key) == 0)
            return true;
    return false;
}

static bool parse_move(const json_t *root, struct control_request *request, char why[TRACE_LINE])
{
    const char *volume = json_string_value(json_object_get(root, "volume"));
    const char *to = json_string_value(json_object_get(root, "to"));
    if (!volume || !to)
        return refuse(why, "move needs \"volume\" and \"to\", both strings");
    if (*volume == '\0' || strlen(volume) >= sizeof request->volume)
        return refuse(why, "the name of a volume has 1 to %zu bytes", sizeof request->volume - 1);
    int controller = controller_by_name(to);
    if (controller < 0)
        return refuse(why, "a volume moves to \"a\" or to \"b\"");
    memcpy(request->volume, volume, strlen(volume) + 1);
    request->to = (uint8_t)controller;
    return true;
}

static const struct {
    const char *name;
    enum group_action action;
    bool takes_force;
} actions[] = {
    {"suspend", GROUP_SUSPEND, false},  {"resume", GROUP_RESUME, true},
    {"failover", GROUP_FAILOVER, true}, {"reverse", GROUP_REVERSE, false},
    {"resync", GROUP_RESYNC, true},     {"stand", GROUP_STAND, true},
};

static bool parse_group(const json_t *root, struct control_request *request, char why[TRACE_LINE])
{
    const char *group = json_string_value(json_object_get(root, "group"));
    const char *action = json_string_value(json_object_get(root, "action"));
    if (!group || !action)
        return refuse(why, "group needs \"group\" and \"action\", both strings");
    if (*group == '\0' || strlen(group) >= sizeof request->group)
        return refuse(why, "the name of a group has 1 to %zu bytes", sizeof request->group - 1);
    size_t which = 0;
    while (which < ARRAY_LENGTH(actions) && strcmp(actions[which].name, action) != 0)
        which++;
    if (which == ARRAY_LENGTH(actions))
        return refuse(why, "the action is suspend, resume, failover, reverse, resync or stand");
    const json_t *force = json_object_get(root, "force");
    if (force && !json_is_boolean(force))
        return refuse(why, "\"force\" is true or false");
    if (force && !actions[which].takes_force)
        return refuse(why, "%s does not take \"force\"", action);
    const json_t *cut = json_object_get(root, "cut");
    if (cut && (!json_is_integer(cut) || json_integer_value(cut) <= 0))
        return refuse(why, "\"cut\" is a number above zero");
    if (cut && actions[which].action != GROUP_FAILOVER)
        return refuse(why, "%s does not take \"cut\"", action);
    request->cut = cut ? (uint64_t)json_integer_value(cut) : 0;
    memcpy(request->group, group, strlen(group) + 1);
    request->action = actions[which].action;
    request->force = json_is_true(force);
    return true;
}

static bool parse_object(json_t *root, struct control_request *request, char why[TRACE_LINE])
{
    if (!json_is_object(root))
        return refuse(why, "a request is a JSON object");
    const char *name = json_string_value(json_object_get(root, "command"));
    if (!name)
        return refuse(why,
                      "a request names its \"command\": status, move, stop, accept-loss or group");
    const struct command *command = NULL;
    for (size_t i = 0; i < ARRAY_LENGTH(commands); i++)
        if (strcmp(commands[i].name, name) == 0)
            command = &commands[i];
    if (!command)
        return refuse(why, "no such command; there are status, move, stop, accept-loss and group");
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value) if (!takes_key(command, key)) return refuse(
        why, "%s does not take \"%.40s\"", command->name, key);
    request->command = command->command;
    if (command->command == CONTROL_MOVE)
        return parse_move(root, request, why);
    if (command->command == CONTROL_GROUP)
        return parse_group(root, request, why);
    const json_t *dead = json_object_get(root, "peer_is_dead");
    if (dead && !json_is_boolean(dead))
        return refuse(why, "\"peer_is_dead\" is true or false");
    request->peer_is_dead = json_is_true(dead);
    return true;
}

bool control_parse_request(const char *line, size_t length, struct control_request *request,
                           char why[TRACE_LINE])
{
    memset(request, 0, sizeof *request);
    if (length > CONTROL_REQUEST_BYTES)
        return refuse(why, "a request of more than %d bytes", CONTROL_REQUEST_BYTES);
    json_error_t error;
    json_t *root = json_loadb(line, length, JSON_REJECT_DUPLICATES, &error);
    if (!root)
        return refuse(why, "not JSON: %.120s", error.text);
    struct control_request parsed = {.command = CONTROL_STATUS};
    bool good = parse_object(root, &parsed, why);
    if (good)
        *request = parsed;
    json_decref(root);
    return good;
}

/* ---- replies ---- */

/* A JSON string of any bytes; NULL, or empty with `empty_is_null`, gives null. */
static json_t *text(const char *bytes, bool empty_is_null)
{
    if (!bytes || (empty_is_null && *bytes == '\0'))
        return json_null();
    json_t *string = json_string(bytes);
    if (string)
        return string;
    char shown[CONFIG_PATH_SIZE];
    snprintf(shown, sizeof shown, "%s", bytes);
    for (char *at = shown; *at; at++)
        if ((unsigned char)*at >= 0x80)
            *at = '?';
    return json_string(shown);
}

static void put(json_t *object, const char *key, json_t *value)
{
    json_object_set_new(object, key, value);
}

static void put_number(json_t *object, const char *key, uint64_t number)
{
    json_object_set_new(object, key, json_integer((json_int_t)min_u64(number, INT64_MAX)));
}

static void put_rate(json_t *object, const char *key, double rate)
{
    /* One decimal place is more than two seconds can tell. NaN and infinity are not JSON. */
    bool sane = rate >= 0 && rate < 1e12;
    json_object_set_new(object, key,
                        json_real(sane ? (double)(uint64_t)(rate * 10 + 0.5) / 10 : 0));
}

static json_t *latency(const struct histogram *histogram)
{
    json_t *object = json_object();
    put_number(object, "count", histogram->count);
    put_number(object, "p50", histogram_percentile(histogram, 500));
    put_number(object, "p99", histogram_percentile(histogram, 990));
    put_number(object, "p999", histogram_percentile(histogram, 999));
    return object;
}

static json_t *hit_rate(const struct volume_status *volume)
{
    uint64_t pages = volume->read_page_hits + volume->read_page_misses;
    if (pages == 0)
        return json_null();
    return json_real((double)(volume->read_page_hits * 1000 / pages) / 1000);
}

static json_t *format_volume_iscsi(const struct config *config, uint32_t index,
                                   const struct iscsi_volume_counts *counts)
{
    uint8_t naa[16];
    char digits[2 * sizeof naa + 1];
    scsi_identity_naa(config->name, config->volumes[index].name, naa);
    for (size_t i = 0; i < sizeof naa; i++)
        snprintf(digits + 2 * i, 3, "%02x", naa[i]);
    json_t *object = json_object();
    put(object, "naa", text(digits, false));
    put_number(object, "block_size_bytes", config->scsi[index].block_size_bytes);
    put_number(object, "sessions", counts->sessions);
    put_number(object, "commands", counts->commands);
    put_number(object, "read_bytes", counts->in_bytes);
    put_number(object, "write_bytes", counts->out_bytes);
    put_number(object, "reservation_conflicts", counts->conflicts);
    put_number(object, "check_conditions", counts->errors);
    put_number(object, "busy", counts->busy);
    return object;
}

static json_t *format_volume(const struct config *config, uint32_t index,
                             const struct control_volume *extra,
                             const struct iscsi_volume_counts *iscsi,
                             const struct volume_status *status)
{
    const struct volume_config *volume = &config->volumes[index];
    json_t *object = json_object();
    put(object, "name", text(volume->name, false));
    put(object, "owner",
        status->owner < 0 ? json_null() : text(controller_name(status->owner), false));
    put(object, "home", text(controller_name(volume->home), false));
    put(object, "moving", json_boolean(status->moving));
    put(object, "store", text(config->stores[volume->store].name, false));
    put_number(object, "offset_bytes", volume->store_offset_bytes);
    put_number(object, "size_bytes", volume->size_bytes);
    put(object, "flush", text(volume->flush_destage ? "destage" : "mirror", false));
    put_number(object, "connections", extra->connections);
    put_number(object, "refused", extra->refused);
    put_number(object, "waiting", status->waiting);
    put_number(object, "dirty_pages", status->dirty_pages);
    put_number(object, "reads", status->reads);
    put_number(object, "writes", status->writes);
    put_number(object, "flushes", status->flushes);
    put_number(object, "trims", status->trims);
    put_number(object, "zeroes", status->zeroes);
    put_number(object, "read_bytes", status->read_bytes);
    put_number(object, "write_bytes", status->write_bytes);
    put_number(object, "shipped", status->shipped);
    put_number(object, "read_page_hits", status->read_page_hits);
    put_number(object, "read_page_misses", status->read_page_misses);
    put(object, "hit_rate", hit_rate(status));
    put_rate(object, "read_iops", extra->read_iops);
    put_rate(object, "write_iops", extra->write_iops);
    put(object, "iscsi", format_volume_iscsi(config, index, iscsi));
    put(object, "read_latency_us", latency(&status->read_latency_us));
    put(object, "write_latency_us", latency(&status->write_latency_us));
    return object;
}

static json_t *format_store(const struct config_store *store, const struct control_store *extra)
{
    static const char *const states[] = {
        [CONTROL_STORE_CLOSED] = "closed",
        [CONTROL_STORE_OPEN] = "open",
        [CONTROL_STORE_FAILING] = "failing",
    };
    json_t *object = json_object();
    put(object, "name", text(store->name, false));
    put(object, "path", text(store->path, false));
    put(object, "state", text(states[extra->state], false));
    bool open = extra->state != CONTROL_STORE_CLOSED;
    put(object, "io", text(!open ? NULL : extra->direct ? "direct" : "buffered", false));
    put_number(object, "block_size_bytes", extra->block_size_bytes);
    put_number(object, "size_bytes", extra->size_bytes);
    put(object, "error", text(extra->error, true));
    return object;
}

static json_t *format_stream(const struct stream_status *stream)
{
    json_t *object = json_object();
    put_number(object, "batches", stream->batches);
    put_number(object, "headers", stream->headers);
    put_number(object, "data_bytes", stream->data_bytes);
    put_number(object, "writes", stream->writes);
    put_number(object, "drops", stream->drops);
    put_number(object, "ranges", stream->ranges);
    put_number(object, "folds", stream->folds);
    put_number(object, "resends", stream->resends);
    put_number(object, "refused", stream->refused);
    put_number(object, "headers_waiting", stream->headers_waiting);
    return object;
}

static json_t *format_destage(const struct destage_status *destage)
{
    json_t *object = json_object();
    put_number(object, "store_writes", destage->store_writes);
    put_number(object, "pages_written", destage->pages_written);
    put_number(object, "joined_pages", destage->joined_pages);
    put_number(object, "flushes", destage->flushes);
    put_number(object, "host_pages", destage->host_pages);
    put_number(object, "in_flight", destage->in_flight);
    put_number(object, "backlog_pages", destage->backlog_pages);
    put_number(object, "errors", destage->errors);
    put_number(object, "failed_pages", destage->failed_pages);
    return object;
}

static json_t *format_cache(const struct array_status *status)
{
    json_t *object = json_object();
    put_number(object, "slots", status->slots);
    put_number(object, "slots_clean", status->slots_clean);
    put_number(object, "slots_dirty", status->slots_dirty);
    put_number(object, "slots_free", status->slots_free);
    put_number(object, "slots_image", status->slots_image);
    put_number(object, "requests_waiting_for_room", status->requests_waiting_for_room);
    return object;
}

static json_t *format_link(const struct config *config, const struct control_extra *extra,
                           const struct array_status *status)
{
    json_t *object = json_object();
    put(object, "up", json_boolean(status->link_up));
    put(object, "peer_address", text(config->controllers[!extra->controller].link.text, true));
    bool known = status->link_up && status->peer_known;
    put(object, "peer_role", known ? text(role_name(status->peer_role), false) : json_null());
    put(object, "lease_left_us", json_integer(status->lease_left_us));
    put(object, "authenticated", json_boolean(extra->link_authenticated));
    put_number(object, "logins", extra->link_logins);
    put(object, "error", text(extra->link_error, true));
    return object;
}

static json_t *format_warden(const struct control_extra *extra)
{
    static const char *const states[] = {
        [CONTROL_WARDEN_ABSENT] = "absent",
        [CONTROL_WARDEN_ALONE] = "alone",
        [CONTROL_WARDEN_CONNECTED] = "connected",
    };
    json_t *object = json_object();
    put(object, "state", text(states[extra->warden], false));
    put(object, "error", text(extra->warden_error, true));
    return object;
}

static json_t *format_nbd(const struct config *config, const struct control_extra *extra)
{
    const struct config_controller *self = &config->controllers[extra->controller];
    json_t *object = json_object();
    json_t *addresses = json_array();
    for (uint32_t i = 0; i < self->nbd_count; i++)
        json_array_append_new(addresses, text(self->nbd[i].text, false));
    put(object, "addresses", addresses);
    put_number(object, "connections", extra->nbd_connections);
    put_number(object, "connections_total", extra->nbd_connections_total);
    put_number(object, "connections_refused", extra->nbd_refused);
    return object;
}

static json_t *format_session(const struct iscsi_shown *shown)
{
    json_t *object = json_object();
    put(object, "initiator", text(shown->initiator, false));
    put(object, "address", text(shown->address, false));
    put(object, "host", text(shown->host, true));
    put(object, "authenticated", json_boolean(shown->authenticated));
    put(object, "header_digest", json_boolean(shown->header_digest));
    put(object, "data_digest", json_boolean(shown->data_digest));
    put_number(object, "luns", shown->luns);
    put_number(object, "commands", shown->commands);
    put_number(object, "idle_ms", shown->idle_us / 1000);
    return object;
}

static json_t *format_iscsi(const struct config *config, const struct control_extra *extra)
{
    const struct config_controller *self = &config->controllers[extra->controller];
    const struct iscsi_counts *counts = &extra->iscsi;
    if (self->iscsi_count == 0)
        return json_null();
    json_t *object = json_object();
    char target[CONFIG_NAME_SIZE + 32];
    snprintf(target, sizeof target, CONFIG_TARGET_PREFIX "%s", config->name);
    put(object, "target", text(target, false));
    json_t *addresses = json_array();
    for (uint32_t i = 0; i < self->iscsi_count; i++)
        json_array_append_new(addresses, text(self->iscsi[i].text, false));
    put(object, "addresses", addresses);
    put_number(object, "sessions", counts->sessions);
    put_number(object, "discovery_sessions", counts->discovery_sessions);
    put_number(object, "logging_in", counts->logging_in);
    put_number(object, "sessions_total", counts->sessions_total);
    put_number(object, "refused", counts->refused);
    put_number(object, "dropped", counts->dropped);
    put_number(object, "commands", counts->tasks);
    put_number(object, "command_limit", counts->task_limit);
    put_number(object, "task_management", counts->managed);
    put_number(object, "rejects", counts->rejects);
    json_t *sessions = json_array();
    for (uint32_t i = 0; i < counts->shown_count; i++)
        json_array_append_new(sessions, format_session(&counts->shown[i]));
    put(object, "session_list", sessions);
    return object;
}

static json_t *format_group_link(const struct config_group *group,
                                 const struct copy_group_counts *counts)
{
    const struct array_session_counts *link = &counts->link;
    const struct copy_outgoing_counts *out = &counts->out;
    json_t *object = json_object();
    put(object, "up", json_boolean(link->up));
    put(object, "address", text(group->addresses[link->address].text, false));
    put(object, "encrypted", json_boolean(group->tls_psk[0] || group->tls_certificate[0]));
    put_number(object, "logins", link->logins);
    put_number(object, "in_flight", out->in_flight);
    put_number(object, "sent_bytes", out->sent_bytes);
    put(object, "compression", text(out->zstd ? "zstd" : "none", false));
    put_number(object, "batch_bytes", out->batch_bytes);
    put_number(object, "packed_bytes", out->packed_bytes);
    put_number(object, "round_trip_us", link->round_trip_us);
    put(object, "error", text(link->error, true));
    return object;
}

static json_t *format_group(const struct config *config, uint32_t index,
                            const struct copy_group_counts *counts,
                            const struct group_status *status)
{
    static const char *const states[GROUP_STATE_COUNT] = {
        [GROUP_NOT_HERE] = "not here", [GROUP_SUSPENDED] = "suspended", [GROUP_FALLEN] = "fallen",
        [GROUP_SYNCING] = "syncing",   [GROUP_COPYING] = "copying",
    };
    const struct config_group *group = &config->groups[index];
    json_t *object = json_object(), *volumes = json_array();
    put(object, "name", text(group->name, false));
    put(object, "array", text(group->array, false));
    put(object, "state", text(states[status->state], false));
    put(object, "reason", text(status->reason, false));
    put(object, "leader", json_boolean(status->leader));
    put_number(object, "term", status->term);
    put_number(object, "open_cycle", status->open);
    put_number(object, "closed_cycle", status->closed);
    put_number(object, "confirmed_cycle", status->confirmed);
    put_number(object, "confirmed_wall_us", status->confirmed_wall_us);
    put_number(object, "pinned_pages", status->pinned_pages);
    put_number(object, "tagged_pages", status->tagged_pages);
    put_number(object, "range_pages", status->range_pages);
    put_number(object, "budget_pages", config_group_memory(config, group) / PAGE_SIZE_BYTES);
    put_number(object, "marked_regions", status->marked_regions);
    put_number(object, "cuts", status->cuts);
    put_number(object, "falls", status->falls);
    put_number(object, "restarts", status->restarts);
    put_number(object, "batches", status->batches);
    put_number(object, "resends", status->resends);
    put_number(object, "refused", status->refused);
    put_number(object, "pages_sent", status->pages_sent);
    put_number(object, "base_pages_sent", status->base_pages_sent);
    put_number(object, "bytes_sent", status->bytes_sent);
    control_group_put(object, group, counts, status);
    put(object, "set", control_set_format(config, group, counts, status));
    bool sends = counts->sends && group->address_count > 0;
    put(object, "link", sends ? format_group_link(group, counts) : json_null());
    for (uint32_t i = 0; i < group->volume_count; i++) {
        json_t *volume = json_object();
        put(volume, "name", text(config->volumes[group->volumes[i].volume].name, false));
        put(volume, "remote", text(group->volumes[i].remote, false));
        json_array_append_new(volumes, volume);
    }
    put(object, "volumes", volumes);
    return object;
}

/* What stands at the top of a status. */
static void put_head(json_t *root, const struct config *config, const struct control_extra *extra,
                     const struct array_status *status)
{
    char incarnation[24];
    snprintf(incarnation, sizeof incarnation, "%016llx", (unsigned long long)status->incarnation);
    put(root, "version", text(extra->version, false));
    put(root, "array", text(config->name, false));
    put(root, "controller", text(controller_name(extra->controller), false));
    put_number(root, "pid", (uint64_t)extra->pid);
    put(root, "uptime_seconds", json_real((double)(extra->uptime_us / 1000) / 1000));
    put(root, "role", text(role_name(status->role), false));
    put(root, "reason", text(status->reason, false));
    put_number(root, "epoch", status->epoch);
    put(root, "incarnation", text(incarnation, false));
    put(root, "refilling", json_boolean(status->refilling));
    put(root, "stopping", json_boolean(status->stopping));
    put_number(root, "takeover_count", status->takeover_count);
    put_number(root, "takeover_last_us", status->takeover_last_us);
    put_number(root, "flush_messages", status->flush_messages);
}

/* One line with its newline; takes `root` over. */
static char *dump(json_t *root)
{
    char *line = json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(12));
    json_decref(root);
    if (!line)
        return NULL;
    size_t length = strlen(line);
    CHECK(length + 1 < CONTROL_REPLY_BYTES);
    char *ended = realloc(line, length + 2);
    if (!ended) {
        free(line);
        return NULL;
    }
    memcpy(ended + length, "\n", 2);
    return ended;
}

char *control_format_status(const struct config *config, const struct control_extra *extra,
                            const struct array_status *status)
{
    CHECK(extra->controller == 0 || extra->controller == 1);
    json_t *root = json_object();
    put_head(root, config, extra, status);
    put(root, "link", format_link(config, extra, status));
    put(root, "warden", format_warden(extra));
    put(root, "cache", format_cache(status));
    put(root, "sent", format_stream(&status->sent));
    put(root, "received", format_stream(&status->received));
    put(root, "destage", format_destage(&status->destage));
    put(root, "nbd", format_nbd(config, extra));
    put(root, "iscsi", format_iscsi(config, extra));
    json_t *stores = json_array();
    for (uint32_t i = 0; i < config->store_count; i++)
        json_array_append_new(stores, format_store(&config->stores[i], &extra->stores[i]));
    put(root, "stores", stores);
    json_t *volumes = json_array();
    for (uint32_t i = 0; i < config->volume_count; i++)
        json_array_append_new(volumes,
                              format_volume(config, i, &extra->volumes[i], &extra->iscsi.volumes[i],
                                            &status->volumes[i]));
    put(root, "volumes", volumes);
    json_t *groups = json_array();
    for (uint32_t i = 0; i < status->group_count; i++)
        json_array_append_new(groups,
                              format_group(config, i, &extra->groups[i], &status->groups[i]));
    put(root, "groups", groups);
    json_t *reply = json_object();
    put(reply, "ok", json_true());
    put(reply, "status", root);
    return dump(reply);
}

char *control_format_reply(bool done, const char *message)
{
    json_t *reply = json_object();
    put(reply, "ok", json_boolean(done));
    put(reply, "text", text(message, false));
    return dump(reply);
}
