/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See copy_names.h. */

#include "shell/copy_names.h"

#include "base/bytes.h"

#include <stdio.h>
#include <string.h>

/* What a session is for, in names and labels: "copy" of a group, or "cut" of a set. */
struct ends {
    const char *purpose, *of;
    const char *sends, *receives;
    int half;
    const char *bound_to; /* in the label of the target's secret; may be empty */
};

static bool make(struct copy_names *names, const struct iscsi_crypto *crypto, const char *secret,
                 const struct ends *ends)
{
    const char *half = controller_name(ends->half);
    char label[3 * CONFIG_NAME_SIZE + 32];
    snprintf(names->target, COPY_NAME_BYTES, CONFIG_TARGET_PREFIX "%s.%s", ends->receives,
             ends->purpose);
    snprintf(names->initiator, COPY_NAME_BYTES, CONFIG_TARGET_PREFIX "%s.%s:%s", ends->sends, half,
             ends->of);
    snprintf(label, sizeof label, "%s %s %s initiator", ends->sends, half, ends->purpose);
    if (!iscsi_chap_derive(crypto, secret, label, names->initiator_secret))
        return false;
    snprintf(label, sizeof label, "%s %s %s%s%s target", ends->sends, half, ends->bound_to,
             ends->bound_to[0] ? " " : "", ends->purpose);
    return iscsi_chap_derive(crypto, secret, label, names->target_secret);
}

bool copy_names_make(struct copy_names *names, const struct iscsi_crypto *crypto,
                     const struct config *config, const struct config_group *group, bool incoming,
                     int half)
{
    const struct ends ends = {.purpose = "copy",
                              .of = group->name,
                              .sends = incoming ? group->array : config->name,
                              .receives = incoming ? config->name : group->array,
                              .half = half,
                              .bound_to = ""};
    return make(names, crypto, group->secret, &ends);
}

bool copy_names_make_cut(struct copy_names *names, const struct iscsi_crypto *crypto,
                         const char *coordinator, const struct config_group *group,
                         const char *member, int half)
{
    const struct ends ends = {.purpose = "cut",
                              .of = group->set,
                              .sends = coordinator,
                              .receives = member,
                              .half = half,
                              /* One that was taken over cannot pose as another. */
                              .bound_to = member};
    return make(names, crypto, group->secret, &ends);
}

bool copy_set_identity(uint8_t id[COPY_ID_SIZE], const struct iscsi_crypto *crypto,
                       const struct config_group *group)
{
    static const char purpose[] = "holdfast set 1";
    char text[(CONFIG_SET_LIMIT + 1) * CONFIG_NAME_SIZE] = {0};
    uint8_t digest[32];
    snprintf(text, CONFIG_NAME_SIZE, "%s", group->set);
    for (uint32_t i = 0; i < group->set_count; i++)
        snprintf(text + (i + 1) * CONFIG_NAME_SIZE, CONFIG_NAME_SIZE, "%s",
                 group->set_arrays[i].name);
    struct iscsi_piece pieces[] = {{purpose, sizeof purpose},
                                   {text, (group->set_count + 1) * CONFIG_NAME_SIZE}};
    if (!crypto->digest(crypto->context, ISCSI_CHAP_SHA256, pieces, 2, digest))
        return false;
    memcpy(id, digest, COPY_ID_SIZE);
    return true;
}

bool copy_identity(uint8_t id[COPY_ID_SIZE], const struct iscsi_crypto *crypto,
                   const struct config *config, const struct config_group *group)
{
    enum { PLACE_BYTES = 8 + 2 * CONFIG_NAME_SIZE, HEAD_BYTES = 3 * CONFIG_NAME_SIZE };
    static uint8_t text[HEAD_BYTES + VOLUME_LIMIT * PLACE_BYTES];
    static const char purpose[] = "holdfast group 1";
    /* In the order of the arrays' names, so that both sites write the same. */
    bool first = strcmp(config->name, group->array) < 0;
    uint8_t *at = text, digest[32];
    memset(text, 0, sizeof text);
    /* What stands behind a name's end is not looked at. */
    snprintf((char *)at, CONFIG_NAME_SIZE, "%s", group->name);
    snprintf((char *)at + CONFIG_NAME_SIZE, CONFIG_NAME_SIZE, "%s",
             first ? config->name : group->array);
    snprintf((char *)at + 2 * CONFIG_NAME_SIZE, CONFIG_NAME_SIZE, "%s",
             first ? group->array : config->name);
    at += HEAD_BYTES;
    for (uint32_t i = 0; i < group->volume_count; i++, at += PLACE_BYTES) {
        const struct volume_config *volume = &config->volumes[group->volumes[i].volume];
        const char *here = volume->name, *there = group->volumes[i].remote;
        put_u64(at, volume->size_bytes);
        snprintf((char *)at + 8, CONFIG_NAME_SIZE, "%s", first ? here : there);
        snprintf((char *)at + 8 + CONFIG_NAME_SIZE, CONFIG_NAME_SIZE, "%s", first ? there : here);
    }
    struct iscsi_piece pieces[] = {{purpose, sizeof purpose}, {text, (size_t)(at - text)}};
    if (!crypto->digest(crypto->context, ISCSI_CHAP_SHA256, pieces, 2, digest))
        return false;
    memcpy(id, digest, COPY_ID_SIZE);
    return true;
}

const char *copy_tls(struct tls_context **context, const struct config_group *group,
                     const char *peer, char why[TRACE_LINE])
{
    struct tls_files files = {.psk = group->tls_psk,
                              .certificate = group->tls_certificate,
                              .key = group->tls_key,
                              .authority = group->tls_authority};
    *context = NULL;
    if (!group->tls_psk[0] && !group->tls_certificate[0])
        return NULL;
    return tls_context_make(context, &files, peer, why);
}

static void make_cdb(uint8_t cdb[16], uint8_t operation, uint8_t buffer, uint32_t offset,
                     uint32_t length_bytes)
{
    memset(cdb, 0, 16);
    cdb[0] = operation;
    cdb[1] = COPY_MODE_DATA;
    cdb[2] = buffer;
    put_u24(cdb + 3, offset);
    put_u24(cdb + 6, length_bytes);
}

void copy_cdb_batch(uint8_t cdb[16], uint32_t length_bytes)
{
    make_cdb(cdb, COPY_OP_WRITE_BUFFER, COPY_BUFFER_BATCH, 0, length_bytes);
}

void copy_cdb_packed(uint8_t cdb[16], uint32_t length_bytes, uint32_t batch_bytes)
{
    make_cdb(cdb, COPY_OP_WRITE_BUFFER, COPY_BUFFER_PACKED, batch_bytes, length_bytes);
}

void copy_cdb_state(uint8_t cdb[16])
{
    make_cdb(cdb, COPY_OP_READ_BUFFER, COPY_BUFFER_STATE, 0, COPY_STATE_SIZE);
}

void copy_cdb_layout(uint8_t cdb[16])
{
    make_cdb(cdb, COPY_OP_READ_BUFFER, COPY_BUFFER_LAYOUT, 0, COPY_LAYOUT_BYTES);
}

void copy_cdb_cut(uint8_t cdb[16])
{
    make_cdb(cdb, COPY_OP_WRITE_BUFFER, COPY_BUFFER_CUT, 0, CUT_MESSAGE_SIZE);
}

void copy_cdb_cut_state(uint8_t cdb[16])
{
    make_cdb(cdb, COPY_OP_READ_BUFFER, COPY_BUFFER_CUT_STATE, 0, CUT_STATE_SIZE);
}

/* ---- the layout: found out when the identities differ ---- */

static const uint8_t layout_magic[4] = {'H', 'F', 'C', 'L'};

uint32_t copy_layout_put(uint8_t *bytes, const struct config *config,
                         const struct config_group *group)
{
    uint32_t length = COPY_LAYOUT_HEAD + group->volume_count * COPY_LAYOUT_PLACE;
    memset(bytes, 0, length);
    memcpy(bytes, layout_magic, sizeof layout_magic);
    put_u16(bytes + 4, 1);
    put_u32(bytes + 8, group->volume_count);
    for (uint32_t i = 0; i < group->volume_count; i++) {
        uint8_t *at = bytes + COPY_LAYOUT_HEAD + i * COPY_LAYOUT_PLACE;
        const struct volume_config *volume = &config->volumes[group->volumes[i].volume];
        put_u64(at, volume->size_bytes);
        snprintf((char *)at + 8, CONFIG_NAME_SIZE, "%s", volume->name);
        snprintf((char *)at + 8 + CONFIG_NAME_SIZE, CONFIG_NAME_SIZE, "%s",
                 group->volumes[i].remote);
    }
    return length;
}

/* A foreign name, made fit for a line of the log. */
static void take_name(char name[CONFIG_NAME_SIZE], const uint8_t *bytes)
{
    memcpy(name, bytes, CONFIG_NAME_SIZE);
    name[CONFIG_NAME_SIZE - 1] = '\0';
    for (char *at = name; *at; at++)
        if (*at < 0x20 || *at == 0x7f)
            *at = '?';
}

/* False: the two sides of this place fit each other. */
static bool differs(const uint8_t *at, const struct config *config,
                    const struct config_group *group, uint32_t place, char why[TRACE_LINE])
{
    const struct config_copy *ours = &group->volumes[place];
    const struct volume_config *volume = &config->volumes[ours->volume];
    char name[CONFIG_NAME_SIZE], remote[CONFIG_NAME_SIZE];
    uint64_t size = get_u64(at);
    take_name(name, at + 8);
    take_name(remote, at + 8 + CONFIG_NAME_SIZE);
    if (strcmp(name, ours->remote) != 0 || strcmp(remote, volume->name) != 0)
        snprintf(why, TRACE_LINE,
                 "volume %u is %.26s:%.26s here and %.26s:%.26s there; write the same pairs in "
                 "the same order",
                 place + 1, volume->name, ours->remote, name, remote);
    else if (size != volume->size_bytes)
        snprintf(why, TRACE_LINE,
                 "volume %.40s has %llu bytes here and %.40s %llu there; make them the same size",
                 volume->name, (unsigned long long)volume->size_bytes, name,
                 (unsigned long long)size);
    else
        return false;
    return true;
}

void copy_layout_compare(const uint8_t *bytes, uint32_t length, const struct config *config,
                         const struct config_group *group, char why[TRACE_LINE])
{
    static const char strange[] = "the second array has another group of this name";
    uint32_t count = length >= COPY_LAYOUT_HEAD ? get_u32(bytes + 8) : 0;
    snprintf(why, TRACE_LINE, "%s", strange);
    if (length < COPY_LAYOUT_HEAD || memcmp(bytes, layout_magic, sizeof layout_magic) != 0 ||
        get_u16(bytes + 4) != 1 || count > VOLUME_LIMIT ||
        length != COPY_LAYOUT_HEAD + count * COPY_LAYOUT_PLACE)
        return;
    if (count != group->volume_count) {
        snprintf(why, TRACE_LINE,
                 "the group has %u volumes here and %u there; write the same pairs",
                 group->volume_count, count);
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        if (differs(bytes + COPY_LAYOUT_HEAD + i * COPY_LAYOUT_PLACE, config, group, i, why))
            return;
}

static bool is_batch_length(uint32_t bytes)
{
    return bytes >= COPY_HEAD_SIZE && bytes <= COPY_BATCH_BYTES;
}

enum copy_command copy_cdb_judge(const uint8_t cdb[16], uint32_t *length_bytes,
                                 uint32_t *batch_bytes)
{
    uint32_t offset = get_u24(cdb + 3);
    *length_bytes = *batch_bytes = get_u24(cdb + 6);
    if (cdb[1] != COPY_MODE_DATA || cdb[9] != 0)
        return COPY_COMMAND_NONE;
    if (cdb[0] == COPY_OP_WRITE_BUFFER && cdb[2] == COPY_BUFFER_BATCH && offset == 0 &&
        is_batch_length(*length_bytes))
        return COPY_COMMAND_BATCH;
    if (cdb[0] == COPY_OP_READ_BUFFER && cdb[2] == COPY_BUFFER_STATE && offset == 0)
        return COPY_COMMAND_STATE;
    if (cdb[0] == COPY_OP_READ_BUFFER && cdb[2] == COPY_BUFFER_LAYOUT && offset == 0)
        return COPY_COMMAND_LAYOUT;
    if (cdb[0] == COPY_OP_READ_BUFFER && cdb[2] == COPY_BUFFER_CUT_STATE && offset == 0)
        return COPY_COMMAND_CUT_STATE;
    if (cdb[0] == COPY_OP_WRITE_BUFFER && cdb[2] == COPY_BUFFER_CUT && offset == 0 &&
        *length_bytes == CUT_MESSAGE_SIZE)
        return COPY_COMMAND_CUT;
    *batch_bytes = offset;
    if (cdb[0] == COPY_OP_WRITE_BUFFER && cdb[2] == COPY_BUFFER_PACKED &&
        is_batch_length(*length_bytes) && is_batch_length(*batch_bytes))
        return COPY_COMMAND_PACKED;
    return COPY_COMMAND_NONE;
}
