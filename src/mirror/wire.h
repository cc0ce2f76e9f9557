/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Everything that two controllers say to each other, on one page. Each message is the parameter
 * list of one SCSI WRITE BUFFER command (SPC-4 6.49, mode 02h): buffer id 0 carries a batch, buffer
 * id 1 a hello. All integers are big-endian; reserved bytes are zero and checked. */

/* clang-format off
 *
 * A batch: head, `header_count` headers, then the data of each WRITE, in the order of the headers.
 *
 *   head, 96 bytes                              header, 32 bytes
 *     0 u32 magic "HFBT"                          0 u8  type: HEADER_*
 *     4 u16 version 1                             1 u8  flags: HEADER_FRESH
 *     6 u16 flags: BATCH_STOPPING                 2 u8  volume
 *     8 u64 epoch of the sender                   3 u8  sectors, bit i = page bytes from 512 i
 *    16 u64 stream, chosen by its sender          4 u32 slot
 *    24 u64 incarnation of the sender             8 u64 page (WRITE), first page (RANGE); see below
 *    32 u64 incarnation of the receiver          16 u64 page count (RANGE), else 0
 *    40 u64 number, 1, 2, 3 ... in the stream    24 u32 CRC-32C of the data (WRITE), else 0
 *    48 u64 sender's clock, microseconds         28 u32 reserved
 *    56 u32 header count
 *    60 u32 data bytes
 *    64 u32 CRC-32C of the head (with these four bytes zero) and the headers
 *    68 u32 the receiver's shipping session that the sender serves, 0: none
 *    72 24 bytes reserved
 *
 * A hello, 64 bytes: who is there, in what role. It changes nothing in the mirror image.
 *     0 u32 magic "HFHI"
 *     4 u16 version 1
 *     6 u8  controller (0 a, 1 b)
 *     7 u8  role (enum role)
 *     8 u64 epoch
 *    16 u64 incarnation
 *    24 u64 the other's incarnation as known, or 0
 *    32 u32 slots
 *    36 u32 CRC-32C of the configuration both must share
 *    40 u16 flags: HELLO_*
 *    42 18 bytes reserved
 *    60 u32 CRC-32C of bytes 0..59
 *
 * clang-format on */

#ifndef MIRROR_WIRE_H
#define MIRROR_WIRE_H

#include "base/bytes.h"
#include "base/check.h"
#include "base/limits.h"

enum {
    BATCH_HEAD_SIZE = 96,
    HEADER_SIZE = 32,
    HELLO_SIZE = 64,
    BATCH_BYTES = BATCH_HEAD_SIZE + BATCH_HEADERS * HEADER_SIZE + BATCH_DATA_BYTES,
};

enum header_type {
    HEADER_WRITE = 1, /* slot now holds these sectors of this page */
    HEADER_DROP = 2,  /* slot holds nothing any more */
    HEADER_RANGE = 3, /* no slot holds any page of the range any more: it was discarded or zeroed */
    HEADER_START = 4, /* a new stream: forget all that came before. page = epoch */
    HEADER_OWNER = 5, /* volume is owned by controller `slot` (0 a, 1 b) */
    HEADER_READY =
        6, /* every dirty page has been sent; page = the epoch in which the receiver will be in */
    HEADER_PAIR = 7,   /* the register has both in; page = the epoch */
    HEADER_MOVE = 8,   /* volume goes to controller `slot`; the sender holds nothing of it that the
                          store lacks */
    HEADER_LEAVE = 9,  /* the sender stops: it owns nothing and will not touch a store again */
    HEADER_STATE = 10, /* volume's state record: version `page`, `count` bytes, which follow among
                          the data */
    HEADER_PROGRESS = 11, /* the receiver's shipped request with tag `slot` has been carried out up
                             to byte `page`, by this batch and those before it */
    /* The remote copy (docs/remote-copy.md). In the first five `volume` is the group's place in the
     * configuration. */
    HEADER_GROUP = 12,   /* cycles run under term `page`; the flag says how they began */
    HEADER_MARK = 13,    /* cycle `page` is closed; count = the time of day of the cut */
    HEADER_HELD = 14,    /* the sender's part of cycle `page` is held by the second array */
    HEADER_CONFIRM = 15, /* cycle `page` was promoted */
    HEADER_FALL = 16,    /* to the bitmap, from term `page`; slot = why, chosen by its sender */
    HEADER_REGIONS = 17, /* bits of the volume's regions before `page` are clear; count = term */
    HEADER_BITMAP = 18,  /* `count` bytes of the volume's bitmap from byte `page` on, which follow
                            among the data */
    HEADER_ZEROING = 19, /* the store is about to discard or zero this range of the volume; slot =
                            one of RANGE_OPS places, which holds only the last that was said */
    /* The same at the array that receives a group; `volume` is the group's place. */
    HEADER_RECEIVED = 20, /* all that was held is gone; what counts are the `count` bytes that
                             follow among the data, and what is said from here on */
    HEADER_TERM = 21,     /* the other array began term `page`; its first cycle is `count` */
    HEADER_END = 22,      /* the half has sent its part of cycle `page`: `count` pages, `slot` base
                             pages, as many ranges as stand in place of the checksum */
    HEADER_TAKEN = 23,    /* batch `page` of the half, of cycle `count`, is held: pages in the lower
                             half of `slot`, base pages in the upper one, ranges as above */
    HEADER_PROMOTE = 24,  /* what is held of cycles up to `page` counts; count = its time of day */
    HEADER_ZEROED = 25,   /* the ranges of cycles up to `page` read as zeros on the store */
    HEADER_SITE = 26,     /* the group's era is `page`, and the sender's role in it `slot`, with
                                flags (array/copy_site.c); count = its epoch */
    /* Of a set of groups. */
    HEADER_CUT = 27,     /* second array: cycle `page` is a part of cut `count` */
    HEADER_RELEASE = 28, /* completions that were held since cycle `page` was closed may go */
    HEADER_TYPE_COUNT
};

enum {
    HEADER_FRESH = 1,   /* WRITE: the slot's identity is new; else the sectors join what it holds */
    HEADER_SETTLED = 2, /* WRITE: nothing of it waits for the remote copy */
    HEADER_HOLD = 4,    /* WRITE: held for another array's word; it says cycle and generation */
    HEADER_HELD_RANGE = 2, /* RANGE: the same */
    HEADER_HALF = 1,       /* END, TAKEN: of the other array's controller b */
    HEADER_TWO = 2,        /* END: the cycle has two halves */
    HEADER_ALL = 4,        /* END: no marked region was left at that half */
    HEADER_CONSISTENT = 1, /* PROMOTE: nothing differs between the sites but later cycles */
    HEADER_NOTED = 1,      /* RANGE: of the past; only noted, and no slot is given up for it */
    HEADER_BOTH = 1,       /* MARK: both controllers have a part in the cycle */
    HEADER_HOLDS = 2,      /* MARK: completions are held from here on, until RELEASE */
    HEADER_DONE = 1,       /* HELD: no marked region was left at the sender when it was closed */
    HEADER_LATE = 2,       /* HELD: completions had gone before RELEASE came */
    HEADER_KEEP = 1,       /* TERM: what is held stays */
    HEADER_BEGIN = 1,      /* GROUP: from the bitmap, with cycle `count` */
    HEADER_RESTART = 2,    /* GROUP: all that was unconfirmed joins cycle `count` */
    HEADER_JOIN = 4,       /* GROUP: as `count` bytes say, which follow among the data */
};
enum {
    WIRE_DATA_BYTES = PAGE_SIZE_BYTES, /* the most that a GROUP or a BITMAP carries */
};
enum { BATCH_STOPPING = 1 }; /* the sender is on its way to a clean stop */
enum {
    HELLO_STOPPING = 1,
    HELLO_MAY_BE_IN = 2, /* waiting with a filled image: `epoch` is the one whose register may have
                            it in, and then it holds the data of that epoch */
};

struct batch_head {
    uint16_t flags;
    uint64_t epoch;
    uint64_t stream;
    uint64_t sender, receiver; /* incarnations */
    uint64_t number;
    uint64_t time_us;
    uint32_t header_count;
    uint32_t data_bytes;
    uint32_t ship_session;
};

struct header {
    uint8_t type; /* enum header_type */
    uint8_t flags;
    uint8_t volume;
    uint8_t sectors;
    uint32_t slot;
    uint64_t page;
    uint64_t count;
    uint64_t cycle; /* WRITE, RANGE: of the remote copy; 0: none */
    uint32_t data_crc;
    uint32_t generation; /* WRITE with HOLD, RANGE with HELD_RANGE: of the volume */
};

struct hello {
    uint8_t controller;
    uint8_t role;
    uint16_t flags;
    uint64_t epoch;
    uint64_t incarnation;
    uint64_t peer_incarnation;
    uint32_t slots;
    uint32_t config_crc;
};

/* `headers` stand already encoded behind the head at `bytes`; the checksum covers both. */
void wire_put_batch_head(uint8_t *bytes, const struct batch_head *head);
void wire_put_header(uint8_t *bytes, const struct header *header);
void wire_put_hello(uint8_t bytes[HELLO_SIZE], const struct hello *hello);

/* The head of a whole message: NULL when sound (magic, version, reserved bytes, counts against
 * `length`, checksum of head and headers), else what is wrong with it. */
const char *wire_get_batch_head(const uint8_t *bytes, uint32_t length, struct batch_head *head);

/* One header: NULL when sound in itself (type, flags and fields that its type leaves zero, data_crc
 * still unchecked). */
const char *wire_get_header(const uint8_t *bytes, struct header *header);

const char *wire_get_hello(const uint8_t *bytes, uint32_t length, struct hello *hello);

/* Bytes of data that a WRITE of these sectors carries. */
static inline uint32_t wire_data_bytes(uint8_t sectors)
{
    return (uint32_t)__builtin_popcount(sectors) * SECTOR_SIZE;
}

/* Bytes of the batch's data that belong to the header; it must be sound. */
static inline uint32_t wire_header_data_bytes(const struct header *header)
{
    bool carries = header->type == HEADER_STATE || header->type == HEADER_BITMAP ||
                   header->type == HEADER_RECEIVED ||
                   (header->type == HEADER_GROUP && (header->flags & HEADER_JOIN));
    return header->type == HEADER_WRITE ? wire_data_bytes(header->sectors)
           : carries                    ? (uint32_t)header->count
                                        : 0;
}

#endif
