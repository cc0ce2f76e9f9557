/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What the two halves of the NBD engine share: the numbers of the wire and the steps of the state
 * machine. Only front/nbd*.c include it. It holds no code that touches foreign bytes. Numbers are
 * from "Values" and "Protocol phases" of the protocol document. */

#ifndef FRONT_NBD_WIRE_H
#define FRONT_NBD_WIRE_H

#include "front/nbd.h"

#define NBD_MAGIC_PASSWORD     UINT64_C(0x4e42444d41474943) /* "NBDMAGIC" */
#define NBD_MAGIC_OPTION       UINT64_C(0x49484156454f5054) /* "IHAVEOPT" */
#define NBD_MAGIC_OPTION_REPLY UINT64_C(0x0003e889045565a9)
#define NBD_MAGIC_REQUEST      UINT32_C(0x25609513)
#define NBD_MAGIC_SIMPLE       UINT32_C(0x67446698)
#define NBD_MAGIC_STRUCTURED   UINT32_C(0x668e33ef)

enum {
    NBD_GREETING_BYTES = 18,
    NBD_OPTION_HEAD_BYTES = 16,
    NBD_OPTION_REPLY_BYTES = 20,
    NBD_SIMPLE_BYTES = 16,
    NBD_CHUNK_BYTES = 20,
    NBD_NAME_BYTES = 4096, /* the longest string that the document allows */
};

/* "Handshake flags" and "Client flags" */
enum {
    NBD_FLAG_FIXED_NEWSTYLE = 1 << 0,
    NBD_FLAG_NO_ZEROES = 1 << 1,
};

/* "Transmission flags" */
enum {
    NBD_FLAG_HAS_FLAGS = 1 << 0,
    NBD_FLAG_READ_ONLY = 1 << 1,
    NBD_FLAG_SEND_FLUSH = 1 << 2,
    NBD_FLAG_SEND_FUA = 1 << 3,
    NBD_FLAG_SEND_TRIM = 1 << 5,
    NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6,
    NBD_FLAG_SEND_DF = 1 << 7,
    NBD_FLAG_CAN_MULTI_CONN = 1 << 8,
};

/* "Option types" */
enum {
    NBD_OPT_EXPORT_NAME = 1,
    NBD_OPT_ABORT = 2,
    NBD_OPT_LIST = 3,
    NBD_OPT_STARTTLS = 5,
    NBD_OPT_INFO = 6,
    NBD_OPT_GO = 7,
    NBD_OPT_STRUCTURED_REPLY = 8,
    NBD_OPT_LIST_META_CONTEXT = 9,
    NBD_OPT_SET_META_CONTEXT = 10,
};

/* "Option reply types" */
#define NBD_REP_ACK          UINT32_C(1)
#define NBD_REP_SERVER       UINT32_C(2)
#define NBD_REP_INFO         UINT32_C(3)
#define NBD_REP_META_CONTEXT UINT32_C(4)
#define NBD_REP_ERR_UNSUP    UINT32_C(0x80000001)
#define NBD_REP_ERR_POLICY   UINT32_C(0x80000002)
#define NBD_REP_ERR_INVALID  UINT32_C(0x80000003)
#define NBD_REP_ERR_UNKNOWN  UINT32_C(0x80000006)
#define NBD_REP_ERR_TOO_BIG  UINT32_C(0x80000009)

/* Information types, under "Option reply types", NBD_REP_INFO */
enum {
    NBD_INFO_EXPORT = 0,
    NBD_INFO_NAME = 1,
    NBD_INFO_DESCRIPTION = 2,
    NBD_INFO_BLOCK_SIZE = 3,
};

/* "Block size constraints": any alignment is served; a page at a time is served best. */
enum {
    NBD_BLOCK_MINIMUM = 1,
    NBD_BLOCK_PREFERRED = PAGE_SIZE_BYTES,
    NBD_BLOCK_MAXIMUM = HOST_IO_BYTES,
};

#define NBD_CONTEXT_NAME "base:allocation"
enum { NBD_CONTEXT_ID = 1 };

/* "Structured reply flags" and "Structured reply types" */
enum {
    NBD_REPLY_DONE = 1 << 0,

    NBD_REPLY_NONE = 0,
    NBD_REPLY_OFFSET_DATA = 1,
    NBD_REPLY_BLOCK_STATUS = 5,
    NBD_REPLY_ERROR = (1 << 15) + 1,
};

/* The only writer of conn->state; the step must be one of the diagram in nbd.h. */
void nbd_enter(struct nbd_conn *conn, enum nbd_state state);

/* The client broke the protocol or is turned away. `reason`: a literal. Returns NBD_BROKEN. */
enum nbd_next nbd_broken(struct nbd_conn *conn, const char *reason, uint64_t value);

/* The client ended in order. Returns NBD_END. */
enum nbd_next nbd_ended(struct nbd_conn *conn, const char *reason);

static inline void nbd_consume(struct nbd_input *input, size_t length)
{
    CHECK(length <= input->length);
    input->bytes += length;
    input->length -= length;
}

/* Consume up to conn->skip_bytes; true when none is left to skip. */
static inline bool nbd_skip(struct nbd_conn *conn, struct nbd_input *input)
{
    size_t length = input->length < conn->skip_bytes ? input->length : conn->skip_bytes;
    nbd_consume(input, length);
    conn->skip_bytes -= (uint32_t)length;
    return conn->skip_bytes == 0;
}

/* How much of `text` fits `limit` bytes without cutting a UTF-8 sequence; 0 for NULL. */
size_t nbd_text_length(const char *text, size_t limit);

/* ---- negotiation, nbd_option.c. Each returns false when it made a step and the next state may go
 * on, true when
 * `*next` is to be handed to the caller. ---- */

bool nbd_option_greet(struct nbd_conn *conn, struct nbd_output *output, enum nbd_next *next);
bool nbd_option_client_flags(struct nbd_conn *conn, struct nbd_input *input, enum nbd_next *next);
bool nbd_option_next(struct nbd_conn *conn, const struct nbd_exports *exports,
                     struct nbd_input *input, struct nbd_output *output, enum nbd_next *next);
bool nbd_option_skip(struct nbd_conn *conn, struct nbd_input *input, struct nbd_output *output,
                     enum nbd_next *next);
bool nbd_option_list_on(struct nbd_conn *conn, const struct nbd_exports *exports,
                        struct nbd_output *output, enum nbd_next *next);

#endif
