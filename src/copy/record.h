/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Everything that two arrays say to each other about a group, on one page. WRITE BUFFER (SPC-4
 * 6.49, mode 02h) with buffer id 2 carries a batch of records to the second array; READ BUFFER
 * (SPC-4 6.15, mode 02h) with buffer id 3 returns the group's state there. All integers are
 * big-endian; reserved bytes are zero and checked. The tables are in docs/remote-copy.md.
 *
 * A batch is about one cycle: head, `record_count` records, then the data of each PAGE in the order
 * of the records. This file says only what can be said from the bytes; what they mean is decided by
 * receiver.c. */

#ifndef COPY_RECORD_H
#define COPY_RECORD_H

#include "base/bytes.h"
#include "base/check.h"
#include "base/limits.h"

enum {
    COPY_HEAD_SIZE = 128,
    COPY_RECORD_SIZE = 32,
    COPY_STATE_SIZE = 128,
    COPY_ID_SIZE = GROUP_ID_SIZE,
    COPY_DATA_BYTES = COPY_RECORDS * PAGE_SIZE_BYTES,
    COPY_BATCH_BYTES = COPY_HEAD_SIZE + COPY_RECORDS * COPY_RECORD_SIZE + COPY_DATA_BYTES,
};

_Static_assert(COPY_BATCH_BYTES < 1 << 24,
               "a batch fits WRITE BUFFER's 24-bit parameter list length");

enum record_type {
    RECORD_PAGE = 1, /* these sectors of this page */
    RECORD_ZERO = 2, /* this range reads as zeros; of a lower place than the PAGEs of its cycle */
    RECORD_END = 3,  /* all of the half's part of the cycle, in records by kind */
    RECORD_PROMOTE = 4, /* destage up to this cycle (claim (h)); alone in its batch */
    /* From a primary that was failed over, to the array that took over: nothing of a cycle. */
    RECORD_MARKED = 5,     /* these pages may differ */
    RECORD_MARKED_END = 6, /* and no others; alone in its batch */
    RECORD_SEAL =
        7, /* a new term that leaves what is held as it is; alone in its batch, with KEEP */
    RECORD_TYPE_COUNT
};

enum {
    RECORD_BASE = 1,       /* PAGE: sent because its region is marked; a host's record wins */
    RECORD_DONE = 1,       /* END of a set's member: no marked region was left at the half */
    RECORD_CONSISTENT = 1, /* PROMOTE: nothing differs between the sites but later cycles */
};

struct copy_head {
    uint8_t half; /* 0 a, 1 b */
    bool keep;    /* SEAL, and PROMOTE in a term that began with it: see receiver_judge_kept() */
    uint8_t group[COPY_ID_SIZE];
    uint64_t era;
    uint64_t term;
    uint64_t cycle;
    uint64_t number; /* of the batch in its half and term, from 1 */
    uint64_t first;  /* the term's first cycle */
    uint64_t wall_us;
    uint64_t cut; /* END: which cut of a set the cycle is a part of; with KEEP: see there; else 0 */
    uint32_t record_count;
    uint32_t data_bytes;
};

struct record {
    uint8_t type; /* enum record_type */
    uint8_t flags;
    uint8_t volume;      /* its place in the group */
    uint8_t sectors;     /* PAGE */
    uint32_t generation; /* PAGE, ZERO: of the volume; END: halves of the cycle, 1 or 2 */
    uint64_t page;       /* PAGE; ZERO: the first; END: PAGE records without BASE */
    uint64_t count;      /* ZERO: pages; END: PAGE records with BASE */
    uint32_t crc;        /* PAGE: CRC-32C of the data; END: ZERO records */
};

enum copy_role { COPY_EMPTY, COPY_RECEIVING, COPY_FAILED_OVER, COPY_ROLE_COUNT };

enum {
    COPY_STATE_CONSISTENT = 1, /* what the second array would show is a state of the primary */
    COPY_STATE_HERE = 2,       /* the controller that answers holds the group */
    COPY_STATE_ZSTD = 4,       /* it takes packed batches (shell/copy_zstd.h) */
};

struct copy_state {
    uint8_t role; /* enum copy_role */
    uint8_t flags;
    uint8_t group[COPY_ID_SIZE];
    uint64_t era;
    uint64_t term;
    uint64_t promoted;
    uint64_t promoted_wall_us;
    uint64_t memory; /* another number when held cycles were lost */
    uint32_t room_pages;
    uint32_t window;
    uint64_t cut;      /* of a set that was promoted last; 0: the promoted cycle is none */
    uint64_t held_cut; /* newest cut that is held complete, and so are all cycles before it; 0: none
                        */
};

/* The records stand already encoded behind the head at `bytes`; the checksum covers both. */
void record_put_head(uint8_t *bytes, const struct copy_head *head);
void record_put(uint8_t *bytes, const struct record *record);
void record_put_state(uint8_t bytes[COPY_STATE_SIZE], const struct copy_state *state);

/* Foreign bytes: NULL when sound in themselves, else what is wrong with them. */
const char *record_get_head(const uint8_t *bytes, uint32_t length, struct copy_head *head);
const char *record_get(const uint8_t *bytes, struct record *record);
const char *record_get_state(const uint8_t *bytes, uint32_t length, struct copy_state *state);

/* Bytes of the batch's data that belong to the record. */
static inline uint32_t record_data_bytes(const struct record *record)
{
    return record->type == RECORD_PAGE ? (uint32_t)__builtin_popcount(record->sectors) * SECTOR_SIZE
                                       : 0;
}

#endif
