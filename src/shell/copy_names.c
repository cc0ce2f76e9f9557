/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See copy_names.h. */

#include "shell/copy_names.h"

#include "base/bytes.h"

#include <stdio.h>
#include <string.h>

bool copy_names_make(struct copy_names *names, const struct iscsi_crypto *crypto,
                     const struct config *config, const struct config_group *group, bool incoming,
                     int half)
{
    const char *sends = incoming ? group->array : config->name;
    const char *receives = incoming ? config->name : group->array;
    char label[2 * CONFIG_NAME_SIZE + 32];
    snprintf(names->target, COPY_NAME_BYTES, CONFIG_TARGET_PREFIX "%s.copy", receives);
    snprintf(names->initiator, COPY_NAME_BYTES, CONFIG_TARGET_PREFIX "%s.%s:%s", sends,
             controller_name(half), group->name);
    snprintf(label, sizeof label, "%s %s copy initiator", sends, controller_name(half));
    if (!iscsi_chap_derive(crypto, group->secret, label, names->initiator_secret))
        return false;
    snprintf(label, sizeof label, "%s %s copy target", sends, controller_name(half));
    return iscsi_chap_derive(crypto, group->secret, label, names->target_secret);
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

void copy_cdb_batch(uint8_t cdb[16], uint32_t length_bytes)
{
    memset(cdb, 0, 16);
    cdb[0] = COPY_OP_WRITE_BUFFER;
    cdb[1] = COPY_MODE_DATA;
    cdb[2] = COPY_BUFFER_BATCH;
    put_u24(cdb + 6, length_bytes);
}

void copy_cdb_packed(uint8_t cdb[16], uint32_t length_bytes, uint32_t batch_bytes)
{
    copy_cdb_batch(cdb, length_bytes);
    cdb[2] = COPY_BUFFER_PACKED;
    put_u24(cdb + 3, batch_bytes);
}

void copy_cdb_state(uint8_t cdb[16])
{
    memset(cdb, 0, 16);
    cdb[0] = COPY_OP_READ_BUFFER;
    cdb[1] = COPY_MODE_DATA;
    cdb[2] = COPY_BUFFER_STATE;
    put_u24(cdb + 6, COPY_STATE_SIZE);
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
    *batch_bytes = offset;
    if (cdb[0] == COPY_OP_WRITE_BUFFER && cdb[2] == COPY_BUFFER_PACKED &&
        is_batch_length(*length_bytes) && is_batch_length(*batch_bytes))
        return COPY_COMMAND_PACKED;
    return COPY_COMMAND_NONE;
}
