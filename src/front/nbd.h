/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The server's half of the NBD protocol, fixed newstyle: bytes in, requests and reply bytes out. It
 * never reads a socket, never takes memory, never waits, and keeps no pointer into the caller's
 * buffers. Every byte that comes in is foreign: it is answered with the protocol's own error or
 * ends the connection with a reason for the log. Clauses named here are headings of the protocol
 * document (doc/proto.md of NetworkBlockDevice/nbd).
 *
 * nbd_start(), then one nbd_step() without input for the greeting; from then on, whenever bytes
 * have arrived, nbd_step() again and again, doing what it says:
 *
 *     NBD_MORE         send output; move what is left of input to the buffer's front; receive more
 *     NBD_OUTPUT_FULL  send output; step again with room
 *     NBD_READY        send output; conn.export_index is the volume; step on
 *     NBD_REQUEST      pass it on; take what is missing of a WRITE's payload; step on
 *     NBD_ANSWER       nbd_reply() with request.error and request.message; step on
 *     NBD_END          send output; answer what is under way; close
 *     NBD_BROKEN       send output; log conn.reason; close */

#ifndef FRONT_NBD_H
#define FRONT_NBD_H

#include "base/bytes.h"
#include "volume/volume.h"

enum {
    /* Data of one option: an export name of the longest length that the document allows (4096) and
     * as much again for information requests or metadata queries. Longer data is skipped and
     * answered with ERR_TOO_BIG ... */
    NBD_OPTION_BYTES = 8192,
    /* ... up to here; past it the connection is closed, so that nobody can keep the skipping going.
     */
    NBD_OPTION_SKIP_BYTES = 1 << 20,
    NBD_OPTION_LIMIT =
        1024, /* options of one connection; LIST and INFO may be asked for every volume */

    /* A WRITE longer than HOST_IO_BYTES is skipped and answered with EINVAL up to here; past it the
     * connection is closed ("Block size constraints" leaves the choice to the server). */
    NBD_PAYLOAD_SKIP_BYTES = 2 * HOST_IO_BYTES,

    NBD_REQUEST_BYTES = 28,
    NBD_TEXT_BYTES = 255, /* descriptions and error messages are cut here */
    NBD_EXTENT_LIMIT = 256,

    /* The smallest buffers that always make progress. The input buffer must hold the larger of
     * NBD_INPUT_BYTES and NBD_REQUEST_BYTES + whole_payload_bytes. */
    NBD_INPUT_BYTES = 16 + NBD_OPTION_BYTES,
    NBD_OUTPUT_BYTES = 1024,

    NBD_REPLY_BYTES = 20 + 6 + NBD_TEXT_BYTES, /* the most that nbd_reply() writes */
    NBD_READ_HEADER_BYTES = 28,                /* the most that nbd_read_header_size() says */
};

/* The most that nbd_reply_block_status() writes for `count` extents. */
#define NBD_BLOCK_STATUS_BYTES(count) (20 + 4 + 8 * (count))

/* "Error values": what goes over the wire, whatever errno is here. */
enum nbd_error {
    NBD_OK = 0,
    NBD_EPERM = 1,
    NBD_EIO = 5,
    NBD_ENOMEM = 12,
    NBD_EINVAL = 22,
    NBD_ENOSPC = 28,
    NBD_EOVERFLOW = 75,
    NBD_ENOTSUP = 95,
    NBD_ESHUTDOWN = 108,
};

/* "Request types". CACHE and RESIZE are not advertised and are answered with EINVAL. */
enum nbd_command {
    NBD_READ = 0,
    NBD_WRITE = 1,
    NBD_DISC = 2, /* never handed out: it becomes NBD_END */
    NBD_FLUSH = 3,
    NBD_TRIM = 4,
    NBD_WRITE_ZEROES = 6,
    NBD_BLOCK_STATUS = 7,
};

/* "Command flags". */
enum {
    NBD_FUA = 1 << 0,
    NBD_NO_HOLE = 1 << 1,
    NBD_DF = 1 << 2,
    NBD_REQ_ONE = 1 << 3,
    NBD_FAST_ZERO = 1 << 4,
};

/* What a volume is; fixed for the life of the process. Strings are borrowed for as long as a
 * connection lives. */
struct nbd_export {
    const char *name;        /* at most VOLUME_NAME_SIZE - 1 bytes */
    const char *description; /* may be NULL */
    uint64_t size_bytes;
    bool read_only;
};

/* Who serves a volume; the caller keeps it up to date. */
struct nbd_owner {
    int8_t served;       /* 1: this controller serves it; anything else: it does not now */
    const char *refusal; /* the sentence for the client when it does not; may be NULL */
    bool read_only;      /* for now: a client that comes later may write */
};

struct nbd_exports {
    const struct nbd_export *table;
    const struct nbd_owner *owners;
    uint32_t count;    /* at most VOLUME_LIMIT; the same in every step of a connection */
    uint64_t *refused; /* a counter a volume: INFO, GO or EXPORT_NAME refused; may be NULL */
};

/* What has arrived and is not consumed. nbd_step() moves `bytes` forward and makes `length` less.
 */
struct nbd_input {
    const uint8_t *bytes;
    size_t length;
};

/* Where negotiation is written. nbd_step() only appends and raises `used`; the caller sends and
 * sets it back. In the transmission phase nbd_step() writes nothing. */
struct nbd_output {
    uint8_t *bytes;
    size_t size;
    size_t used;
};

enum nbd_next {
    NBD_MORE,        /* needs more than is there */
    NBD_OUTPUT_FULL, /* needs NBD_OUTPUT_BYTES of room in the output */
    NBD_READY,       /* negotiation has ended: the volume is conn.export_index */
    NBD_REQUEST,     /* a request for the core, or BLOCK_STATUS for the caller */
    NBD_ANSWER, /* a request that needs no core: reply with request.error, which may be NBD_OK */
    NBD_END,    /* the client ended in order: answer what is under way, then close */
    NBD_BROKEN, /* the client broke the protocol or was turned away: conn.reason; close now */
};

struct nbd_request {
    uint64_t cookie; /* the client's; returned in the reply */
    uint64_t offset_bytes;
    uint32_t length_bytes;
    uint16_t command; /* enum nbd_command; in NBD_ANSWER any number */
    uint16_t flags;   /* NBD_FUA and so on, as sent */

    enum host_op op;    /* what the core is asked for; not set for BLOCK_STATUS */
    uint8_t host_flags; /* HOST_FUA | HOST_NO_HOLE */

    /* WRITE: the part of the payload that has arrived, inside the input, already consumed; and how
     * many bytes are still to come. When some are, the caller takes exactly so many from the socket
     * itself before it steps again. */
    const uint8_t *payload;
    uint32_t payload_bytes;
    uint32_t payload_missing_bytes;

    enum nbd_error error; /* NBD_ANSWER only */
    const char *message;  /* a literal, or NULL; NBD_ANSWER only */
};

/* The states of a connection. Beside each step stands the function that makes it.
 *
 *     NBD_GREETING         --nbd_option_greet-->             NBD_CLIENT_FLAGS
 *     NBD_CLIENT_FLAGS     --nbd_option_client_flags-->      NBD_OPTION
 *     NBD_OPTION           --nbd_option_next, LIST-->        NBD_LISTING
 *     NBD_LISTING          --nbd_option_list_on-->           NBD_OPTION
 *     NBD_OPTION           --nbd_option_next, too long-->    NBD_OPTION_SKIP
 *     NBD_OPTION_SKIP      --nbd_option_skip-->              NBD_OPTION
 *     NBD_OPTION           --nbd_option_next, GO or EXPORT_NAME--> NBD_TRANSMISSION
 *     NBD_OPTION           --nbd_option_next, ABORT-->       NBD_ENDED
 *     NBD_TRANSMISSION     --request_next, refused WRITE-->  NBD_REFUSED_PAYLOAD
 *     NBD_REFUSED_PAYLOAD  --refused_payload-->              NBD_TRANSMISSION
 *     NBD_TRANSMISSION     --request_next, DISC-->           NBD_ENDED
 *     NBD_CLIENT_FLAGS, NBD_OPTION, NBD_TRANSMISSION --nbd_broken--> NBD_CLOSED
 *
 * What holds in each:
 *
 *     NBD_GREETING         nothing was sent or read
 *     NBD_CLIENT_FLAGS     the greeting was written; the next 4 bytes are the client's flags
 *     NBD_OPTION           the next 16 bytes are an option's head; nothing of it was consumed
 *     NBD_OPTION_SKIP      skip_bytes of an option's data are to come; ERR_TOO_BIG answers it then
 *     NBD_LISTING          the first list_next volumes of a LIST were written
 *     NBD_TRANSMISSION     export_index, size_bytes, read_only are the volume's; a request is next
 *     NBD_REFUSED_PAYLOAD  skip_bytes > 0 of a payload are to come; `refused` is handed out then
 *     NBD_ENDED, NBD_CLOSED  nothing more is read or written; nbd_step() repeats itself */
enum nbd_state {
    NBD_GREETING,
    NBD_CLIENT_FLAGS,
    NBD_OPTION,
    NBD_OPTION_SKIP,
    NBD_LISTING,
    NBD_TRANSMISSION,
    NBD_REFUSED_PAYLOAD,
    NBD_ENDED,
    NBD_CLOSED,
    NBD_STATE_COUNT
};

/* One connection. All of it is written by the functions below; the caller reads export_index,
 * size_bytes, read_only, structured, refused_export, reason and reason_value. */
struct nbd_conn {
    uint64_t size_bytes;
    enum nbd_state state;
    uint32_t whole_payload_bytes;
    uint32_t export_index; /* NO_INDEX before NBD_READY */
    bool read_only;
    bool structured;   /* structured replies were negotiated */
    bool block_status; /* base:allocation was selected for this volume */
    bool no_zeroes;

    /* The volume last refused because this controller does not serve it, or NO_INDEX; the caller
     * may set it back to NO_INDEX. */
    uint32_t refused_export;
    uint32_t meta_export; /* the volume base:allocation was last selected for, or NO_INDEX */
    uint32_t list_next;
    uint32_t option; /* the option being skipped */
    uint32_t option_count;
    uint32_t skip_bytes;
    struct nbd_request refused; /* the WRITE whose payload is being skipped */

    const char *reason;    /* a literal: why NBD_END or NBD_BROKEN */
    uint64_t reason_value; /* the offending number, or 0 */
};

/* Begin. A WRITE of at most `whole_payload_bytes` is handed out only when all of its payload is in
 * the input, so the caller need not collect it (0: never wait); its input buffer must then hold
 * that much and the header. */
void nbd_start(struct nbd_conn *conn, uint32_t whole_payload_bytes);

/* Do the next thing that the input allows; see enum nbd_next. Every call that does not return
 * NBD_MORE, NBD_OUTPUT_FULL, NBD_END or NBD_BROKEN consumed input. `request` is set for NBD_REQUEST
 * and NBD_ANSWER. */
enum nbd_next nbd_step(struct nbd_conn *conn, const struct nbd_exports *exports,
                       struct nbd_input *input, struct nbd_output *output,
                       struct nbd_request *request);

/* ---- replies ("Simple reply message", "Structured reply chunk message"); each returns how many
 * bytes it wrote ---- */

/* The reply that carries no data: success of WRITE, FLUSH, TRIM, WRITE_ZEROES (and of a READ of
 * nothing), and every error. `command`, `cookie`: the request's. `message` may be NULL; it is sent
 * where the form has room for it. Writes at most NBD_REPLY_BYTES; success of anything but READ
 * always 16. */
size_t nbd_reply(const struct nbd_conn *conn, uint8_t *to, uint16_t command, uint64_t cookie,
                 enum nbd_error error, const char *message);

/* What stands before the data of a READ that succeeded: the caller leaves this much in front of the
 * data, writes the header there with nbd_reply_read_header() and sends both. Fixed after NBD_READY.
 */
static inline size_t nbd_read_header_size(const struct nbd_conn *conn)
{
    return conn->structured ? 28 : 16;
}

/* `length_bytes` > 0: all that the request asked for, in one chunk (so DF always holds). */
size_t nbd_reply_read_header(const struct nbd_conn *conn, uint8_t *to, uint64_t cookie,
                             uint64_t offset_bytes, uint32_t length_bytes);

/* "NBD_REPLY_TYPE_BLOCK_STATUS" of base:allocation. */
enum {
    NBD_STATE_HOLE = 1,
    NBD_STATE_ZERO = 2,
};

struct nbd_extent {
    uint32_t length_bytes; /* > 0 */
    uint32_t flags;        /* NBD_STATE_*; 0: data */
};

/* `extents`: from the request's offset on, not past its end, 1 to NBD_EXTENT_LIMIT of them, just
 * one for NBD_REQ_ONE. They may stop short of the request's end. Writes
 * NBD_BLOCK_STATUS_BYTES(count). */
size_t nbd_reply_block_status(const struct nbd_conn *conn, uint8_t *to, uint64_t cookie,
                              const struct nbd_extent *extents, uint32_t count);

/* The error value for the core's answer to `command`. */
enum nbd_error nbd_error_of(enum host_result result, uint16_t command);

#endif
