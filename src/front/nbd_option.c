/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Negotiation of the NBD engine ("Fixed newstyle negotiation", "Option types"): from the greeting
 * to the volume. It never answers an option before all of its data has arrived, so that how the
 * bytes were cut on their way changes nothing, and never writes more than NBD_OUTPUT_BYTES without
 * asking for room again. A client that is answered with an error may go on with another option. */

#include "front/nbd_wire.h"

/* ---- writing ---- */

static bool has_room(const struct nbd_output *output, enum nbd_next *next)
{
    if (output->size - output->used >= NBD_OUTPUT_BYTES)
        return true;
    *next = NBD_OUTPUT_FULL;
    return false;
}

static void append(struct nbd_output *output, const void *bytes, size_t length)
{
    CHECK(length <= output->size - output->used);
    if (length > 0)
        memcpy(output->bytes + output->used, bytes, length);
    output->used += length;
}

static void append_u16(struct nbd_output *output, uint16_t value)
{
    uint8_t bytes[2];
    put_u16(bytes, value);
    append(output, bytes, sizeof bytes);
}

static void append_u32(struct nbd_output *output, uint32_t value)
{
    uint8_t bytes[4];
    put_u32(bytes, value);
    append(output, bytes, sizeof bytes);
}

static void append_u64(struct nbd_output *output, uint64_t value)
{
    uint8_t bytes[8];
    put_u64(bytes, value);
    append(output, bytes, sizeof bytes);
}

/* The head of an option reply; `length` bytes of data follow it. */
static void reply_head(struct nbd_output *output, uint32_t option, uint32_t type, size_t length)
{
    append_u64(output, NBD_MAGIC_OPTION_REPLY);
    append_u32(output, option);
    append_u32(output, type);
    append_u32(output, (uint32_t)length);
}

static void reply_ack(struct nbd_output *output, uint32_t option)
{
    reply_head(output, option, NBD_REP_ACK, 0);
}

/* Errors carry a sentence for the user ("Option reply types"). */
static void reply_error(struct nbd_output *output, uint32_t option, uint32_t type, const char *text)
{
    size_t length = nbd_text_length(text, NBD_TEXT_BYTES);
    reply_head(output, option, type, length);
    append(output, text, length);
}

/* ---- reading ---- */

/* The data of one option, all of it. Each take moves on, or fails when less is left; a failed one
 * is final. */
struct option_data {
    const uint8_t *bytes;
    size_t length;
};

static bool take(struct option_data *data, size_t length, const uint8_t **bytes)
{
    if (length > data->length)
        return false;
    *bytes = data->bytes;
    data->bytes += length;
    data->length -= length;
    return true;
}

static bool take_u16(struct option_data *data, uint16_t *value)
{
    const uint8_t *bytes;
    if (!take(data, 2, &bytes))
        return false;
    *value = get_u16(bytes);
    return true;
}

static bool take_u32(struct option_data *data, uint32_t *value)
{
    const uint8_t *bytes;
    if (!take(data, 4, &bytes))
        return false;
    *value = get_u32(bytes);
    return true;
}

static bool take_string(struct option_data *data, const uint8_t **bytes, uint32_t *length)
{
    return take_u32(data, length) && *length <= NBD_NAME_BYTES && take(data, *length, bytes);
}

static bool string_is(const uint8_t *bytes, uint32_t length, const char *text)
{
    return length == strlen(text) && memcmp(bytes, text, length) == 0;
}

/* The volume of that name, or NO_INDEX. The empty name means the only volume, when there is only
 * one. */
static uint32_t find_export(const struct nbd_exports *exports, const uint8_t *name, uint32_t length)
{
    if (length == 0)
        return exports->count == 1 ? 0 : NO_INDEX;
    for (uint32_t i = 0; i < exports->count; i++) {
        if (string_is(name, length, exports->table[i].name))
            return i;
    }
    return NO_INDEX;
}

/* ---- the volume ---- */

static bool is_read_only(const struct nbd_exports *exports, uint32_t index)
{
    return exports->table[index].read_only || exports->owners[index].read_only;
}

/* "Transmission flags". CAN_MULTI_CONN holds because all connections meet in one core. */
static uint16_t transmission_flags(const struct nbd_conn *conn, const struct nbd_exports *exports,
                                   uint32_t index)
{
    bool read_only = is_read_only(exports, index);
    unsigned flags =
        NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_CAN_MULTI_CONN;
    flags |= read_only ? NBD_FLAG_READ_ONLY : NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES;
    if (conn->structured)
        flags |= NBD_FLAG_SEND_DF;
    return (uint16_t)flags;
}

static void begin_transmission(struct nbd_conn *conn, const struct nbd_exports *exports,
                               uint32_t index)
{
    conn->export_index = index;
    conn->size_bytes = exports->table[index].size_bytes;
    conn->read_only = is_read_only(exports, index);
    /* What was selected for another volume selects nothing here. */
    conn->block_status = conn->structured && conn->meta_export == index;
    nbd_enter(conn, NBD_TRANSMISSION);
}

/* Whether this controller serves the volume; if not, that is counted. */
static bool is_served(struct nbd_conn *conn, const struct nbd_exports *exports, uint32_t index)
{
    if (exports->owners[index].served == 1)
        return true;
    conn->refused_export = index;
    if (exports->refused != NULL)
        exports->refused[index]++;
    return false;
}

/* NBD_OPT_EXPORT_NAME: it has no way to say no but to close. */
static enum nbd_next option_export_name(struct nbd_conn *conn, const struct nbd_exports *exports,
                                        const struct option_data *data, struct nbd_output *output)
{
    uint32_t index = find_export(exports, data->bytes, (uint32_t)data->length);
    if (index == NO_INDEX)
        return nbd_broken(conn, "EXPORT_NAME of a volume that does not exist", 0);
    if (!is_served(conn, exports, index))
        return nbd_broken(conn, "EXPORT_NAME of a volume that this controller does not serve",
                          index);
    static const uint8_t zeroes[124];
    append_u64(output, exports->table[index].size_bytes);
    append_u16(output, transmission_flags(conn, exports, index));
    if (!conn->no_zeroes)
        append(output, zeroes, sizeof zeroes);
    begin_transmission(conn, exports, index);
    return NBD_READY;
}

static void reply_info_text(struct nbd_output *output, uint32_t option, uint16_t info,
                            const char *text)
{
    size_t length = nbd_text_length(text, NBD_TEXT_BYTES);
    reply_head(output, option, NBD_REP_INFO, 2 + length);
    append_u16(output, info);
    append(output, text, length);
}

/* The information a client asked for, each once; `wanted` has bit n for type n. */
static void reply_infos(const struct nbd_conn *conn, struct nbd_output *output, uint32_t option,
                        const struct nbd_exports *exports, uint32_t index, unsigned wanted)
{
    const struct nbd_export *export = &exports->table[index];
    reply_head(output, option, NBD_REP_INFO, 12);
    append_u16(output, NBD_INFO_EXPORT);
    append_u64(output, export->size_bytes);
    append_u16(output, transmission_flags(conn, exports, index));

    if (wanted & 1 << NBD_INFO_NAME)
        reply_info_text(output, option, NBD_INFO_NAME, export->name);
    if (wanted & 1 << NBD_INFO_DESCRIPTION && export->description != NULL)
        reply_info_text(output, option, NBD_INFO_DESCRIPTION, export->description);
    if (wanted & 1 << NBD_INFO_BLOCK_SIZE) {
        reply_head(output, option, NBD_REP_INFO, 14);
        append_u16(output, NBD_INFO_BLOCK_SIZE);
        append_u32(output, NBD_BLOCK_MINIMUM);
        append_u32(output, NBD_BLOCK_PREFERRED);
        append_u32(output, NBD_BLOCK_MAXIMUM);
    }
}

static bool parse_info(struct option_data data, const uint8_t **name, uint32_t *length,
                       unsigned *wanted)
{
    uint16_t count;
    if (!take_string(&data, name, length) || !take_u16(&data, &count))
        return false;
    if (data.length != 2 * (size_t)count)
        return false;
    *wanted = 0;
    for (uint16_t info; take_u16(&data, &info);) {
        if (info <= NBD_INFO_BLOCK_SIZE)
            *wanted |= 1u << info;
    }
    return true;
}

/* NBD_OPT_INFO and NBD_OPT_GO */
static enum nbd_next option_info(struct nbd_conn *conn, const struct nbd_exports *exports,
                                 uint32_t option, const struct option_data *data,
                                 struct nbd_output *output)
{
    const uint8_t *name;
    uint32_t length;
    unsigned wanted;
    if (!parse_info(*data, &name, &length, &wanted)) {
        reply_error(output, option, NBD_REP_ERR_INVALID, "the option's lengths do not add up");
        return NBD_MORE;
    }
    uint32_t index = find_export(exports, name, length);
    if (index == NO_INDEX) {
        reply_error(output, option, NBD_REP_ERR_UNKNOWN,
                    length > 0 ? "no volume has this name"
                               : "there is no default volume; ask for one by name");
        return NBD_MORE;
    }
    const struct nbd_owner *owner = &exports->owners[index];
    if (!is_served(conn, exports, index)) {
        reply_error(output, option, NBD_REP_ERR_POLICY,
                    owner->refusal != NULL ? owner->refusal
                                           : "this controller does not serve the volume now");
        return NBD_MORE;
    }
    reply_infos(conn, output, option, exports, index, wanted);
    reply_ack(output, option);
    if (option == NBD_OPT_INFO)
        return NBD_MORE;
    begin_transmission(conn, exports, index);
    return NBD_READY;
}

/* ---- metadata contexts ("Metadata querying") ---- */

struct meta_query {
    uint32_t export_index;
    uint32_t count;
    bool allocation; /* a query names base:allocation itself */
    bool wildcard;   /* a query names all of base: */
};

static bool parse_meta(struct option_data data, const struct nbd_exports *exports,
                       struct meta_query *query)
{
    const uint8_t *bytes;
    uint32_t length;
    *query = (struct meta_query){0};
    if (!take_string(&data, &bytes, &length) || !take_u32(&data, &query->count))
        return false;
    query->export_index = find_export(exports, bytes, length);
    /* Every query takes at least 4 bytes, so a false count ends with the data. */
    for (uint32_t i = 0; i < query->count; i++) {
        if (!take_string(&data, &bytes, &length))
            return false;
        query->allocation |= string_is(bytes, length, NBD_CONTEXT_NAME);
        query->wildcard |= string_is(bytes, length, "base:");
    }
    return data.length == 0;
}

/* NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT. A volume that the other controller serves
 * is answered like any: the refusal, with its sentence, comes with GO. */
static void option_meta(struct nbd_conn *conn, const struct nbd_exports *exports, uint32_t option,
                        const struct option_data *data, struct nbd_output *output)
{
    bool set = option == NBD_OPT_SET_META_CONTEXT;
    /* A SET replaces what was set before, even when it fails. */
    if (set)
        conn->meta_export = NO_INDEX;
    struct meta_query query;
    if (!conn->structured) {
        reply_error(output, option, NBD_REP_ERR_INVALID, "negotiate structured replies first");
        return;
    }
    if (!parse_meta(*data, exports, &query)) {
        reply_error(output, option, NBD_REP_ERR_INVALID, "the option's lengths do not add up");
        return;
    }
    if (query.export_index == NO_INDEX) {
        reply_error(output, option, NBD_REP_ERR_UNKNOWN, "no volume has this name");
        return;
    }
    bool match = query.allocation || (!set && (query.wildcard || query.count == 0));
    if (match) {
        reply_head(output, option, NBD_REP_META_CONTEXT, 4 + strlen(NBD_CONTEXT_NAME));
        append_u32(output, set ? NBD_CONTEXT_ID : 0);
        append(output, NBD_CONTEXT_NAME, strlen(NBD_CONTEXT_NAME));
    }
    if (match && set)
        conn->meta_export = query.export_index;
    reply_ack(output, option);
}

/* ---- options ---- */

/* Options that carry no data. True when there was none; else the error is written. */
static bool no_data(const struct option_data *data, uint32_t option, struct nbd_output *output)
{
    if (data->length == 0)
        return true;
    reply_error(output, option, NBD_REP_ERR_INVALID, "this option carries no data");
    return false;
}

/* One whole option. Returns NBD_MORE when negotiation goes on. */
static enum nbd_next option_do(struct nbd_conn *conn, const struct nbd_exports *exports,
                               uint32_t option, const struct option_data *data,
                               struct nbd_output *output)
{
    switch (option) {
    case NBD_OPT_EXPORT_NAME:
        return option_export_name(conn, exports, data, output);
    case NBD_OPT_INFO:
    case NBD_OPT_GO:
        return option_info(conn, exports, option, data, output);
    case NBD_OPT_LIST:
        if (no_data(data, option, output)) {
            conn->list_next = 0;
            nbd_enter(conn, NBD_LISTING);
        }
        return NBD_MORE;
    case NBD_OPT_STRUCTURED_REPLY:
        if (no_data(data, option, output)) {
            conn->structured = true;
            reply_ack(output, option);
        }
        return NBD_MORE;
    case NBD_OPT_LIST_META_CONTEXT:
    case NBD_OPT_SET_META_CONTEXT:
        option_meta(conn, exports, option, data, output);
        return NBD_MORE;
    case NBD_OPT_STARTTLS:
        if (no_data(data, option, output))
            reply_error(output, option, NBD_REP_ERR_UNSUP, "TLS is not offered here");
        return NBD_MORE;
    default:
        reply_error(output, option, NBD_REP_ERR_UNSUP, "this option is not known here");
        return NBD_MORE;
    }
}

bool nbd_option_next(struct nbd_conn *conn, const struct nbd_exports *exports,
                     struct nbd_input *input, struct nbd_output *output, enum nbd_next *next)
{
    *next = NBD_MORE;
    if (input->length < NBD_OPTION_HEAD_BYTES)
        return true;
    const uint8_t *head = input->bytes;
    uint32_t option = get_u32(head + 8);
    uint32_t length = get_u32(head + 12);
    if (get_u64(head) != NBD_MAGIC_OPTION) {
        *next = nbd_broken(conn, "bad option magic", get_u64(head));
        return true;
    }
    if (conn->option_count == NBD_OPTION_LIMIT) {
        *next = nbd_broken(conn, "too many options", NBD_OPTION_LIMIT);
        return true;
    }
    if (!has_room(output, next))
        return true;

    if (option == NBD_OPT_ABORT) {
        /* Whatever data came with it is to be ignored, and nothing follows it. */
        nbd_consume(input, NBD_OPTION_HEAD_BYTES);
        reply_ack(output, option);
        *next = nbd_ended(conn, "the client aborted the negotiation");
        return true;
    }
    if (length > NBD_OPTION_BYTES) {
        if (option == NBD_OPT_EXPORT_NAME || length > NBD_OPTION_SKIP_BYTES) {
            *next = nbd_broken(conn, "an option too long to be skipped", length);
            return true;
        }
        nbd_consume(input, NBD_OPTION_HEAD_BYTES);
        conn->option_count++;
        conn->option = option;
        conn->skip_bytes = length;
        nbd_enter(conn, NBD_OPTION_SKIP);
        return false;
    }
    if (input->length - NBD_OPTION_HEAD_BYTES < length)
        return true;

    struct option_data data = {head + NBD_OPTION_HEAD_BYTES, length};
    nbd_consume(input, NBD_OPTION_HEAD_BYTES + length);
    conn->option_count++;
    *next = option_do(conn, exports, option, &data, output);
    return *next != NBD_MORE;
}

bool nbd_option_skip(struct nbd_conn *conn, struct nbd_input *input, struct nbd_output *output,
                     enum nbd_next *next)
{
    *next = NBD_MORE;
    if (!nbd_skip(conn, input))
        return true;
    if (!has_room(output, next))
        return true;
    reply_error(output, conn->option, NBD_REP_ERR_TOO_BIG, "the option's data is too long");
    /* A SET that fails selects nothing, like any other that fails. */
    if (conn->option == NBD_OPT_SET_META_CONTEXT)
        conn->meta_export = NO_INDEX;
    nbd_enter(conn, NBD_OPTION);
    return false;
}

/* NBD_OPT_LIST, as far as there is room. Volumes of the other controller are listed too: they are
 * part of the array, and GO says where they are served. */
bool nbd_option_list_on(struct nbd_conn *conn, const struct nbd_exports *exports,
                        struct nbd_output *output, enum nbd_next *next)
{
    for (; conn->list_next < exports->count; conn->list_next++) {
        if (!has_room(output, next))
            return true;
        const struct nbd_export *export = &exports->table[conn->list_next];
        size_t name = strlen(export->name);
        size_t description = nbd_text_length(export->description, NBD_TEXT_BYTES);
        CHECK(name < VOLUME_NAME_SIZE);
        reply_head(output, NBD_OPT_LIST, NBD_REP_SERVER, 4 + name + description);
        append_u32(output, (uint32_t)name);
        append(output, export->name, name);
        append(output, export->description, description);
    }
    if (!has_room(output, next))
        return true;
    reply_ack(output, NBD_OPT_LIST);
    nbd_enter(conn, NBD_OPTION);
    return false;
}

/* ---- the beginning ---- */

bool nbd_option_greet(struct nbd_conn *conn, struct nbd_output *output, enum nbd_next *next)
{
    if (!has_room(output, next))
        return true;
    append_u64(output, NBD_MAGIC_PASSWORD);
    append_u64(output, NBD_MAGIC_OPTION);
    append_u16(output, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    nbd_enter(conn, NBD_CLIENT_FLAGS);
    return false;
}

bool nbd_option_client_flags(struct nbd_conn *conn, struct nbd_input *input, enum nbd_next *next)
{
    *next = NBD_MORE;
    if (input->length < 4)
        return true;
    uint32_t flags = get_u32(input->bytes);
    nbd_consume(input, 4);
    if (flags & ~(uint32_t)(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)) {
        *next = nbd_broken(conn, "unknown client flags", flags);
        return true;
    }
    /* A client without FIXED_NEWSTYLE is honoured like one with it, as "Client flags" allows. */
    conn->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
    nbd_enter(conn, NBD_OPTION);
    return false;
}
