/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The NBD engine's entry, its states, and the transmission phase: requests out of bytes, replies
 * into bytes. It never copies a payload and never looks at one. A request that it hands out for the
 * core lies inside the volume, keeps to the advertised sizes and flags, and is allowed on this
 * volume; every other one is answered here. Negotiation is in nbd_option.c. */

#include "front/nbd_wire.h"

/* ---- the state ---- */

static const uint16_t may_follow[NBD_STATE_COUNT] = {
    [NBD_GREETING] = 1 << NBD_CLIENT_FLAGS,
    [NBD_CLIENT_FLAGS] = 1 << NBD_OPTION | 1 << NBD_CLOSED,
    [NBD_OPTION] = 1 << NBD_OPTION_SKIP | 1 << NBD_LISTING | 1 << NBD_TRANSMISSION |
                   1 << NBD_ENDED | 1 << NBD_CLOSED,
    [NBD_OPTION_SKIP] = 1 << NBD_OPTION,
    [NBD_LISTING] = 1 << NBD_OPTION,
    [NBD_TRANSMISSION] = 1 << NBD_REFUSED_PAYLOAD | 1 << NBD_ENDED | 1 << NBD_CLOSED,
    [NBD_REFUSED_PAYLOAD] = 1 << NBD_TRANSMISSION,
};

void nbd_enter(struct nbd_conn *conn, enum nbd_state state)
{
    CHECK(conn->state < NBD_STATE_COUNT);
    CHECK(may_follow[conn->state] & 1 << state);
    conn->state = state;
}

enum nbd_next nbd_broken(struct nbd_conn *conn, const char *reason, uint64_t value)
{
    nbd_enter(conn, NBD_CLOSED);
    conn->reason = reason;
    conn->reason_value = value;
    return NBD_BROKEN;
}

enum nbd_next nbd_ended(struct nbd_conn *conn, const char *reason)
{
    nbd_enter(conn, NBD_ENDED);
    conn->reason = reason;
    return NBD_END;
}

void nbd_start(struct nbd_conn *conn, uint32_t whole_payload_bytes)
{
    CHECK(whole_payload_bytes <= HOST_IO_BYTES);
    *conn = (struct nbd_conn){
        .state = NBD_GREETING,
        .whole_payload_bytes = whole_payload_bytes,
        .export_index = NO_INDEX,
        .meta_export = NO_INDEX,
        .refused_export = NO_INDEX,
    };
}

size_t nbd_text_length(const char *text, size_t limit)
{
    if (text == NULL)
        return 0;
    size_t length = strnlen(text, limit + 1);
    if (length <= limit)
        return length;
    length = limit;
    while (length > 0 && ((unsigned char)text[length] & 0xC0) == 0x80)
        length--;
    return length;
}

/* ---- requests ("Request message") ---- */

/* What each command may carry. A command that is not here is answered with EINVAL. */
static const struct command_rule {
    bool known;
    bool in_range;        /* offset and length name bytes of the volume */
    bool bounded;         /* length is at most the maximum block size */
    bool changes;         /* refused on a read-only volume */
    uint16_t flags;       /* allowed; FUA always is, as "Command flags" demands */
    uint8_t past_end;     /* the error for a range past the volume's end */
    uint8_t host_flags;   /* of HOST_FUA | HOST_NO_HOLE, those that mean something here */
    enum host_op host_op; /* not for BLOCK_STATUS */
} rules[] = {
    [NBD_READ] = {.known = true,
                  .in_range = true,
                  .bounded = true,
                  .flags = NBD_FUA | NBD_DF,
                  .past_end = NBD_EINVAL,
                  .host_op = HOST_READ},
    [NBD_WRITE] = {.known = true,
                   .in_range = true,
                   .bounded = true,
                   .changes = true,
                   .flags = NBD_FUA,
                   .past_end = NBD_ENOSPC,
                   .host_flags = HOST_FUA,
                   .host_op = HOST_WRITE},
    [NBD_FLUSH] = {.known = true, .flags = NBD_FUA, .host_op = HOST_FLUSH},
    [NBD_TRIM] = {.known = true,
                  .in_range = true,
                  .changes = true,
                  .flags = NBD_FUA,
                  .past_end = NBD_EINVAL,
                  .host_flags = HOST_FUA,
                  .host_op = HOST_TRIM},
    [NBD_WRITE_ZEROES] = {.known = true,
                          .in_range = true,
                          .changes = true,
                          .flags = NBD_FUA | NBD_NO_HOLE | NBD_FAST_ZERO,
                          .past_end = NBD_ENOSPC,
                          .host_flags = HOST_FUA | HOST_NO_HOLE,
                          .host_op = HOST_ZERO},
    [NBD_BLOCK_STATUS] = {.known = true,
                          .in_range = true,
                          .flags = NBD_FUA | NBD_REQ_ONE,
                          .past_end = NBD_EINVAL},
};

static enum nbd_error refuse(struct nbd_request *request, enum nbd_error error, const char *message)
{
    request->message = message;
    return error;
}

/* NBD_OK, or the error to answer with; request->message then says why. The order matters only for
 * which of several faults is named. */
static enum nbd_error request_check(const struct nbd_conn *conn, struct nbd_request *request)
{
    if (request->command >= ARRAY_LENGTH(rules) || !rules[request->command].known)
        return refuse(request, NBD_EINVAL, "unknown command");
    const struct command_rule *rule = &rules[request->command];

    if (request->flags & ~rule->flags)
        return refuse(request, NBD_EINVAL, "a flag that this command does not have");
    if (request->flags & NBD_DF && !conn->structured)
        return refuse(request, NBD_EINVAL, "DF without structured replies");
    if (request->command == NBD_BLOCK_STATUS && !conn->block_status)
        return refuse(request, NBD_EINVAL, "block status was not negotiated");
    if (rule->changes && conn->read_only)
        return refuse(request, NBD_EPERM, "the volume is read-only");
    if (!rule->in_range) {
        if (request->offset_bytes != 0 || request->length_bytes != 0)
            return refuse(request, NBD_EINVAL, "FLUSH has no offset and no length");
        return NBD_OK;
    }
    if (rule->bounded && request->length_bytes > HOST_IO_BYTES)
        return refuse(request, NBD_EINVAL, "longer than the maximum block size");
    if (request->offset_bytes > conn->size_bytes ||
        request->length_bytes > conn->size_bytes - request->offset_bytes)
        return refuse(request, (enum nbd_error)rule->past_end, "past the end of the volume");
    if (request->flags & NBD_FAST_ZERO)
        return refuse(request, NBD_ENOTSUP, "fast zeroing is not offered");
    if (request->command == NBD_BLOCK_STATUS && request->length_bytes == 0)
        return refuse(request, NBD_EINVAL, "block status of nothing");
    return NBD_OK;
}

/* A WRITE that is refused is answered only after its payload: a client may look for replies only
 * between its own messages. */
static enum nbd_next request_refused(struct nbd_conn *conn, const struct nbd_request *request)
{
    if (request->command != NBD_WRITE || request->length_bytes == 0)
        return NBD_ANSWER;
    conn->refused = *request;
    conn->skip_bytes = request->length_bytes;
    nbd_enter(conn, NBD_REFUSED_PAYLOAD);
    return NBD_MORE;
}

static enum nbd_next refused_payload(struct nbd_conn *conn, struct nbd_input *input,
                                     struct nbd_request *request)
{
    CHECK(conn->skip_bytes > 0);
    if (!nbd_skip(conn, input))
        return NBD_MORE;
    *request = conn->refused;
    nbd_enter(conn, NBD_TRANSMISSION);
    return NBD_ANSWER;
}

/* The payload's part that is here goes with the request; false when more of it must come first. */
static bool request_payload(const struct nbd_conn *conn, struct nbd_input *input,
                            struct nbd_request *request)
{
    size_t here = input->length - NBD_REQUEST_BYTES;
    uint32_t length = request->length_bytes;
    if (here < length && length <= conn->whole_payload_bytes)
        return false;
    request->payload = input->bytes + NBD_REQUEST_BYTES;
    request->payload_bytes = here < length ? (uint32_t)here : length;
    request->payload_missing_bytes = length - request->payload_bytes;
    nbd_consume(input, NBD_REQUEST_BYTES + request->payload_bytes);
    return true;
}

static enum nbd_next request_next(struct nbd_conn *conn, struct nbd_input *input,
                                  struct nbd_request *request)
{
    if (input->length < NBD_REQUEST_BYTES)
        return NBD_MORE;
    const uint8_t *head = input->bytes;
    if (get_u32(head) != NBD_MAGIC_REQUEST)
        return nbd_broken(conn, "bad request magic", get_u32(head));

    request->flags = get_u16(head + 4);
    request->command = get_u16(head + 6);
    request->cookie = get_u64(head + 8);
    request->offset_bytes = get_u64(head + 16);
    request->length_bytes = get_u32(head + 24);
    request->host_flags = 0;
    request->payload = NULL;
    request->payload_bytes = 0;
    request->payload_missing_bytes = 0;
    request->error = NBD_OK;
    request->message = NULL;

    if (request->command == NBD_DISC) {
        nbd_consume(input, NBD_REQUEST_BYTES);
        return nbd_ended(conn, "the client disconnected");
    }
    if (request->command == NBD_WRITE && request->length_bytes > NBD_PAYLOAD_SKIP_BYTES)
        return nbd_broken(conn, "a WRITE too long to be skipped", request->length_bytes);

    request->error = request_check(conn, request);
    if (request->error != NBD_OK) {
        nbd_consume(input, NBD_REQUEST_BYTES);
        return request_refused(conn, request);
    }

    const struct command_rule *rule = &rules[request->command];
    request->op = rule->host_op;
    /* NBD's FUA and NO_HOLE bits are HOST_FUA and HOST_NO_HOLE; the assertion below keeps it so. */
    request->host_flags = (uint8_t)(request->flags & rule->host_flags);

    if (request->command == NBD_WRITE && request->length_bytes > 0)
        return request_payload(conn, input, request) ? NBD_REQUEST : NBD_MORE;
    nbd_consume(input, NBD_REQUEST_BYTES);
    /* Nothing of nothing is done at once; what it should mean the document leaves open. */
    return rule->in_range && request->length_bytes == 0 ? NBD_ANSWER : NBD_REQUEST;
}

_Static_assert((int)NBD_FUA == (int)HOST_FUA, "request_next() passes FUA on as it is");
_Static_assert((int)NBD_NO_HOLE == (int)HOST_NO_HOLE, "request_next() passes NO_HOLE on as it is");

/* ---- the entry ---- */

/* Each turn consumes input, writes output or leaves a state for good, so the loop ends with the
 * input. */
static enum nbd_next negotiate(struct nbd_conn *conn, const struct nbd_exports *exports,
                               struct nbd_input *input, struct nbd_output *output)
{
    CHECK(output->size >= NBD_OUTPUT_BYTES);
    CHECK(output->used <= output->size);
    CHECK(exports->count <= VOLUME_LIMIT);

    enum nbd_next next = NBD_MORE;
    for (bool over = false; !over;) {
        switch (conn->state) {
        case NBD_GREETING:
            over = nbd_option_greet(conn, output, &next);
            break;
        case NBD_CLIENT_FLAGS:
            over = nbd_option_client_flags(conn, input, &next);
            break;
        case NBD_OPTION:
            over = nbd_option_next(conn, exports, input, output, &next);
            break;
        case NBD_OPTION_SKIP:
            over = nbd_option_skip(conn, input, output, &next);
            break;
        case NBD_LISTING:
            over = nbd_option_list_on(conn, exports, output, &next);
            break;
        default:
            CHECK(!"a state of negotiation");
        }
    }
    return next;
}

enum nbd_next nbd_step(struct nbd_conn *conn, const struct nbd_exports *exports,
                       struct nbd_input *input, struct nbd_output *output,
                       struct nbd_request *request)
{
    if (__builtin_expect(conn->state == NBD_TRANSMISSION, 1)) {
        enum nbd_next next = request_next(conn, input, request);
        if (conn->state != NBD_REFUSED_PAYLOAD)
            return next;
    }
    switch (conn->state) {
    case NBD_REFUSED_PAYLOAD:
        return refused_payload(conn, input, request);
    case NBD_ENDED:
        return NBD_END;
    case NBD_CLOSED:
        return NBD_BROKEN;
    default:
        return negotiate(conn, exports, input, output);
    }
}

/* ---- replies ---- */

static size_t reply_simple(uint8_t *to, uint64_t cookie, enum nbd_error error)
{
    put_u32(to, NBD_MAGIC_SIMPLE);
    put_u32(to + 4, error);
    put_u64(to + 8, cookie);
    return NBD_SIMPLE_BYTES;
}

/* Every structured reply of ours is one chunk, so each is also the last. */
static uint8_t *reply_chunk(uint8_t *to, uint16_t type, uint64_t cookie, uint32_t length)
{
    put_u32(to, NBD_MAGIC_STRUCTURED);
    put_u16(to + 4, NBD_REPLY_DONE);
    put_u16(to + 6, type);
    put_u64(to + 8, cookie);
    put_u32(to + 16, length);
    return to + NBD_CHUNK_BYTES;
}

size_t nbd_reply(const struct nbd_conn *conn, uint8_t *to, uint16_t command, uint64_t cookie,
                 enum nbd_error error, const char *message)
{
    /* With structured replies negotiated a READ must be answered by chunks; for the others a simple
     * reply stays allowed ("Structured reply chunk message") and is the shorter one. BLOCK_STATUS
     * has no success without data. */
    CHECK_IMPLIES(command == NBD_BLOCK_STATUS, error != NBD_OK);
    if (!conn->structured)
        return reply_simple(to, cookie, error);
    if (error == NBD_OK) {
        if (command != NBD_READ)
            return reply_simple(to, cookie, NBD_OK);
        return (size_t)(reply_chunk(to, NBD_REPLY_NONE, cookie, 0) - to);
    }
    size_t length = nbd_text_length(message, NBD_TEXT_BYTES);
    uint8_t *at = reply_chunk(to, NBD_REPLY_ERROR, cookie, (uint32_t)(6 + length));
    put_u32(at, error);
    put_u16(at + 4, (uint16_t)length);
    if (length > 0)
        memcpy(at + 6, message, length);
    return NBD_CHUNK_BYTES + 6 + length;
}

size_t nbd_reply_read_header(const struct nbd_conn *conn, uint8_t *to, uint64_t cookie,
                             uint64_t offset_bytes, uint32_t length_bytes)
{
    CHECK(length_bytes > 0);
    CHECK(length_bytes <= HOST_IO_BYTES);
    if (!conn->structured)
        return reply_simple(to, cookie, NBD_OK);
    uint8_t *at = reply_chunk(to, NBD_REPLY_OFFSET_DATA, cookie, 8 + length_bytes);
    put_u64(at, offset_bytes);
    return NBD_CHUNK_BYTES + 8;
}

size_t nbd_reply_block_status(const struct nbd_conn *conn, uint8_t *to, uint64_t cookie,
                              const struct nbd_extent *extents, uint32_t count)
{
    CHECK(conn->block_status);
    CHECK(count > 0);
    CHECK(count <= NBD_EXTENT_LIMIT);
    uint8_t *at = reply_chunk(to, NBD_REPLY_BLOCK_STATUS, cookie, 4 + 8 * count);
    put_u32(at, NBD_CONTEXT_ID);
    at += 4;
    for (uint32_t i = 0; i < count; i++, at += 8) {
        CHECK(extents[i].length_bytes > 0);
        put_u32(at, extents[i].length_bytes);
        put_u32(at + 4, extents[i].flags);
    }
    return (size_t)(at - to);
}

enum nbd_error nbd_error_of(enum host_result result, uint16_t command)
{
    switch (result) {
    case HOST_OK:
        return NBD_OK;
    case HOST_NOT_OWNER:
        return NBD_ESHUTDOWN;
    case HOST_RANGE:
        return command == NBD_WRITE || command == NBD_WRITE_ZEROES ? NBD_ENOSPC : NBD_EINVAL;
    case HOST_BUSY:
        return NBD_ENOMEM;
    case HOST_IO_ERROR:
        return NBD_EIO;
    case HOST_COPY:
    case HOST_READ_ONLY:
        return NBD_EPERM;
    case HOST_MISCOMPARE:
    case HOST_STALE:
    case HOST_REFUSED:
        break; /* answers to what NBD never asks */
    }
    CHECK(!"a host_result");
    return NBD_EIO;
}
