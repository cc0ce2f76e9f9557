/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Every named bound of the program, with the reason beside it. Relations between bounds are
 * asserted here, at compile time, so that changing one cannot quietly break another. */

#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

#include <stdint.h>

enum {
    SECTOR_SIZE = 512,
    PAGE_SIZE_BYTES = 4096,
    PAGE_SECTORS = PAGE_SIZE_BYTES / SECTOR_SIZE,

    VOLUME_LIMIT = 256,    /* a controller's volumes; a volume number fits one byte on the wire */
    VOLUME_NAME_SIZE = 64, /* bytes with the closing NUL */
    STORE_LIMIT = 64,

    /* One store write or read. A run of adjacent pages goes to the store as one operation of at
       most this. */
    STORE_IO_PAGES = 256,
    STORE_IO_BYTES = STORE_IO_PAGES * PAGE_SIZE_BYTES,

    /* Headers in one batch. With full pages the data is 4 MiB, which keeps the longest wait of a
     * small write behind a large batch near a millisecond on a 40 Gbit/s link, and fits the 24-bit
     * length of WRITE BUFFER (SPC-4 6.49) four times over. */
    BATCH_HEADERS = 1024,
    BATCH_DATA_BYTES = BATCH_HEADERS * PAGE_SIZE_BYTES,
    /* Headers kept for DROP so that a read can always evict, however busy the writers are. */
    BATCH_HEADERS_FOR_READS = 64,
    BATCH_HEADERS_FOR_CONTROL = 16, /* and these for READY, PAIR, MOVE, LEAVE */

    HOST_IO_BYTES =
        32 * 1024 * 1024, /* the largest host request; larger ones are refused by the front */
    COMPARE_WRITE_BYTES = 128 * 1024, /* 255 blocks of 512 bytes fit: the most that the command can
                                         name; one batch carries it whole */
    VOLUME_STATE_BYTES = 16 * 1024, /* what SCSI remembers of a volume: reservations, mode pages */
    SHIP_LIMIT = 256,               /* requests under way to the peer, which owns their volumes */
    SHIP_BYTES = 256 * 1024,        /* the most that one of them carries; longer ones go in steps */
    RANGE_CHUNK_PAGES = 4096,       /* pages of one step of a TRIM or WRITE ZEROES */
    RANGE_SMALL_PAGES = 32, /* up to so many, WRITE ZEROES goes through the cache at memory speed */
    RANGE_OPS = 16,         /* TRIM and WRITE ZEROES under way at a time; more wait */

    /* The remote copy. Two closed cycles keep a link of any length busy: the data of one travels
     * while the answers about the other are on their way. With the open one three are alive. */
    COPY_CLOSED = 2,
    COPY_RING = 4,          /* places for cycles by number: one more than are alive at a time */
    COPY_WINDOW = 32,       /* batches on their way to the second array, from each half */
    COPY_RECORDS = 1024,    /* records in one of them: as many as headers in a batch of the link */
    COPY_ROOM_LEAST = 16,   /* pages that may be held: below, two cycles need not fit */
    COPY_RANGES = 256,      /* ranges of unconfirmed cycles, of each half */
    COPY_REGIONS = 1 << 18, /* regions of one volume: 32 KiB of bitmap */
    COPY_REGION_PAGES = 16, /* pages of the smallest region */
    GROUP_LIMIT = 16,       /* groups of one array; a group's number is a bit of a word */
    GROUP_BASE_PAGES = 1 << 16, /* the most that a group may read of marked regions in a cycle */
    GROUP_ID_SIZE = 16,         /* of a group's identity, the same at both sites */
    SET_LIMIT = 4,              /* primary arrays whose groups are cut at one moment */
    CUT_WINDOW = 8,             /* messages on their way to each of them */
    CUT_LATE_ROW = 5,           /* cuts that fail in a row before an operator is told why */
    COPY_IDLE_MS = 1000,        /* a group where nothing is written is cut so often: it carries the
                                   time */
    HOLD_MS_MOST = 1000,        /* completions of writes are held for a cut, at most */

    FLUSH_GENERATIONS = 64, /* FLUSH requests that wait for different cuts of the dirty pages */
    TRACE_LINE = 200,
};

#define NO_INDEX UINT32_MAX /* "no slot", "no request": the end of every list linked by index */

_Static_assert(BATCH_DATA_BYTES + BATCH_HEADERS * 64 + 256 < (1 << 24),
               "a batch fits WRITE BUFFER's 24-bit parameter list length");
_Static_assert(COPY_RING > COPY_CLOSED + 1,
               "a takeover's new cycle has a place beside all that are alive");
_Static_assert(COPY_WINDOW <= 64,
               "the receiver knows the batches of a window by the bits of a word");
_Static_assert(2 * COPY_RANGES <= COPY_RECORDS, "all ranges of a cycle fit one batch");
_Static_assert(PAGE_SECTORS == 8, "a page's sector mask is one byte");

#endif
