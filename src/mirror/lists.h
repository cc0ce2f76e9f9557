/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The filling list and the active list (claims 2, 3, 6, 7, 9). Headers gather in the filling list
 * while the active one travels to the peer as one command. When the link is free and the filling
 * list holds anything, even one header, the lists change places. There is no timer and no size to
 * wait for: a busy link makes long lists, an idle one short ones.
 *
 * A list holds what was said, and which requests wait for it to be acknowledged. The data stays in
 * the slots; this file is told where it lies when a list is sealed. */

#ifndef MIRROR_LISTS_H
#define MIRROR_LISTS_H

#include "base/arena.h"
#include "mirror/wire.h"
#include "volume/request.h"

#include <sys/uio.h>

struct list {
    uint32_t count;
    uint32_t weight; /* what its STATE headers carry beyond a page each, in pages */
    uint32_t
        data_bytes; /* bound while filling: what its WRITE headers may carry; exact once sealed */
    struct header *headers;
    struct request_queue waiting; /* requests to go on when this list is acknowledged */
};

struct lists {
    struct list list[2];
    uint8_t filling;      /* which of the two */
    bool active;          /* the other one is sealed: on its way, or to be sent again */
    bool on_the_way;      /* it was given to the link and not answered yet */
    uint64_t stream;      /* which stream the numbers belong to */
    uint64_t added;       /* headers ever added, over all streams */
    uint64_t next_number; /* of the next list to be sealed */
    uint64_t sealed_us;   /* when the active list was last given to the link */

    uint8_t *bytes;    /* head and headers of the active list, encoded */
    struct iovec *iov; /* [0] = bytes, then the data */
    uint32_t iov_count;
    uint32_t length_bytes;
};

void lists_create(struct lists *lists, struct arena *arena);

/* Both empty, nothing on its way, a new stream. The waiting requests must have been taken before.
 */
void lists_reset(struct lists *lists, uint64_t stream);

static inline struct list *lists_filling(struct lists *lists)
{
    return &lists->list[lists->filling];
}

static inline struct list *lists_active(struct lists *lists)
{
    return &lists->list[lists->filling ^ 1];
}

/* Whether `headers` more fit the filling list; writers leave BATCH_HEADERS_FOR_READS to reads. */
static inline bool lists_have_room(const struct lists *lists, uint32_t headers, bool for_read)
{
    uint32_t limit =
        BATCH_HEADERS - BATCH_HEADERS_FOR_CONTROL - (for_read ? 0 : BATCH_HEADERS_FOR_READS);
    const struct list *filling = &lists->list[lists->filling];
    return filling->count + filling->weight + headers <= limit;
}

enum { LISTS_STATE_WEIGHT = VOLUME_STATE_BYTES / PAGE_SIZE_BYTES }; /* of a STATE, in headers */

/* The place of the filling list in the stream, for those who come back to a header of theirs. */
static inline uint64_t lists_filling_number(const struct lists *lists)
{
    return lists->next_number;
}

/* A header joins the filling list; there must be room. */
void lists_add(struct lists *lists, const struct header *header);

/* The filling list becomes the active one; there must be none. The caller then fills in each WRITE
 * header's sectors and checksum, adds its data with lists_add_data(), and ends with lists_encode().
 */
struct list *lists_seal(struct lists *lists);
void lists_add_data(struct lists *lists, void *data, uint32_t size_bytes);
void lists_encode(struct lists *lists, struct batch_head *head);

/* The active list was acknowledged: it is empty and may fill again. Its waiting requests must have
 * been taken. */
void lists_acknowledged(struct lists *lists);

#endif
