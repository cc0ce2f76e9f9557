/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What a host may read. The oracle follows every write of every host in cells of 32 to 512 bytes,
 * and says for each read whether some legal order of all the writes allows what came back (each
 * cell is a linearizable register). It knows nothing of controllers, slots or epochs: only when a
 * request began, when and how it ended, and the bytes. Each write fills its cells with a stamp that
 * no other write uses, so a cell read back names its write.
 *
 * A sound oracle: it never blames a legal history. Where it cannot tell (two ways of writing zeros
 * look the same), it allows. */

#ifndef SIM_ORACLE_H
#define SIM_ORACLE_H

#include "base/check.h"
#include "base/limits.h"

enum { ORACLE_CELL_LEAST = 32, ORACLE_CELL_MOST = 512 };

struct oracle;

/* The volumes start as zeros. `cell_bytes`: a power of two; small cells see more, large ones are
 * faster. */
struct oracle *oracle_create(uint32_t cell_bytes, uint32_t volume_count,
                             const uint64_t *size_bytes);
void oracle_destroy(struct oracle *oracle);

/* A write begins. `zero`: TRIM and WRITE ZEROES, whose cells become zeros. Returns its number, from
 * 1 upwards. `offset` and `length` are multiples of the
 * cell. */
uint64_t oracle_write_begin(struct oracle *oracle, uint8_t volume, uint64_t offset, uint64_t length,
                            bool zero);

/* The bytes that write `id` has to carry. */
void oracle_fill(const struct oracle *oracle, uint64_t id, void *data);

/* It was acknowledged. */
void oracle_write_done(struct oracle *oracle, uint64_t id);

/* And it stands on the store for good: not even an accepted loss may take it away. */
void oracle_write_durable(struct oracle *oracle, uint64_t id);

/* The oracle's own time; a FLUSH that began then has ended well and promises the store: whatever of
 * the volume had been acknowledged before is durable. */
uint64_t oracle_now(const struct oracle *oracle);
void oracle_flushed(struct oracle *oracle, uint8_t volume, uint64_t began);

/* It ended without an answer that says it happened (refused, failed, or its controller died): it
 * may have taken effect until now, in any of its cells, or not at all. */
void oracle_write_unknown(struct oracle *oracle, uint64_t id);

/* It was refused on the spot: it never took effect. */
void oracle_write_never(struct oracle *oracle, uint64_t id);

/* A read begins: returns its token. */
uint64_t oracle_read_begin(struct oracle *oracle);

/* It ended: with `data`, or NULL when it gave none. Returns NULL, or a sentence saying which bytes
 * cannot be. */
const char *oracle_read_end(struct oracle *oracle, uint64_t token, uint8_t volume, uint64_t offset,
                            uint64_t length, const void *data);

/* The operator accepted that acknowledged writes of these volumes are lost: each cell now may hold
 * anything that was ever written to it, but nothing older than what was durable there, until it is
 * read. */
void oracle_accept_loss(struct oracle *oracle, const bool volumes[VOLUME_LIMIT]);

/* What the store holds durably of the range of write `id`, which was promised to be there: nothing
 * older than it. NULL, or a sentence. */
const char *oracle_check_durable(struct oracle *oracle, uint64_t id, const void *data);

/* A write that was never to take effect may do so after all: it begins now. */
void oracle_write_revive(struct oracle *oracle, uint64_t id);

/* ---- for cuts.c ---- */

struct oracle_write {
    uint64_t begin, end;     /* end: UINT64_MAX while pending */
    uint64_t offset, length; /* the cells [offset, offset + length) of the volume */
    uint8_t volume;
    bool zero;
    bool unknown; /* ended without an acknowledgement */
    bool never;   /* refused on the spot */
};

/* Write 0 is the zeros of the beginning. */
const struct oracle_write *oracle_write_of(const struct oracle *oracle, uint64_t id);
/* What hosts know to have happened, in the order in which they came to know it: a write was
 * acknowledged, or a part of it was read before that. */
struct oracle_fact {
    uint64_t id, at;
    uint64_t offset, length;
};
uint64_t oracle_fact_count(const struct oracle *oracle);
const struct oracle_fact *oracle_fact(const struct oracle *oracle, uint64_t number);
/* Which write put these bytes of a cell there; 0: zeros. False: none could have. */
bool oracle_decode(const struct oracle *oracle, uint8_t volume, uint64_t cell, const uint8_t *data,
                   uint64_t *id);
/* Whether a cell that shows `found` may be one in which write `id` has taken effect. */
bool oracle_no_older(const struct oracle *oracle, uint8_t volume, uint64_t cell, uint64_t id,
                     uint64_t found);
/* Another site goes on with the volume, from exactly these bytes; any value where the sector's byte
 * in `vague` says so. No write of it may be pending. */
void oracle_adopt(struct oracle *oracle, uint8_t volume, const uint8_t *bytes,
                  const uint8_t *vague);

/* The store's own bytes of a whole volume, after a clean stop. NULL, or a sentence. */
const char *oracle_check_store(struct oracle *oracle, uint8_t volume, const void *data);

#endif
