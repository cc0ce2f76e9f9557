/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A group at the second array: which cycles are held, which are complete, and up to which one the
 * primary's message has let go (claims (g), (h), (i)). The controller that holds the group drives
 * it by the primary's batches, and its peer, with the same calls, by the headers of its change
 * stream, so both always agree.
 *
 *     receiver_judge()       may this batch be taken?
 *     receiver_hold()        one of its pages has a slot, outside the index: held
 *     receiver_batch_done()  all of it is in both memories: GOOD may be answered
 *     receiver_promote()     "destage up to k"; receiver_pop() then names the slots, oldest cycle
 *                            first, that become ordinary dirty ones
 *     receiver_begin_term()  the primary began anew: receiver_pop() names what is discarded
 *
 * A batch counts once, by its number. A page of a cycle is held once for each generation of its
 * volume: what comes again is known. So any batch may come any number of times, in any order. */

#ifndef COPY_RECEIVER_H
#define COPY_RECEIVER_H

#include "base/arena.h"
#include "copy/record.h"

/* One held slot: 40 bytes beside it. Entries of one page and cycle form a chain, the newest
 * generation first; only that one stands on its cycle's list and in the index. */
struct held {
    uint32_t prev, next;
    uint32_t hash_next;
    uint32_t older; /* of the same page and cycle */
    uint64_t page;
    uint32_t generation; /* 0: a base record, below every other */
    uint8_t volume;
    uint8_t sectors;
    uint8_t place; /* of its cycle in receiver.cycle, or HELD_NONE */
};

enum { HELD_NONE = 0xFF, RECEIVER_CYCLES = COPY_CLOSED };

struct receiver_counts {
    uint64_t pages, base, ranges;
};

struct receiver_part {
    struct receiver_counts got, told; /* told: by END */
    bool ended, done;                 /* done: no marked region was left at that half */
};

struct receiver_cycle {
    uint64_t number; /* 0: none */
    uint64_t wall_us;
    uint64_t cut;   /* of a set that it is a part of; 0: none, or not known yet */
    uint8_t halves; /* 0: no END yet */
    struct receiver_part part[2];
    uint32_t head, tail, count; /* held slots: chains, by their newest */
    uint32_t slots;             /* of all the chains */
};

/* Which batches of a half have been applied: all below `upto`, and bit i: upto + i. */
struct receiver_numbers {
    uint64_t upto, done, taken;
};

enum { RECEIVER_AHEAD = 128 }; /* of a number above the first that is not known */

struct receiver_zero {
    uint64_t cycle; /* 0: this place is free */
    uint64_t page, count;
    uint32_t generation;
    uint8_t volume;
    bool popped;
};

enum { RECEIVER_ZEROES = RECEIVER_CYCLES * 4 * COPY_RANGES };

enum receiver_drain { RECEIVER_REST, RECEIVER_PROMOTING, RECEIVER_DISCARDING };

struct receiver {
    uint8_t group[COPY_ID_SIZE];
    uint8_t role; /* enum copy_role */
    bool consistent;
    uint64_t era, term, first; /* first cycle of the term */
    uint64_t promoted, promoted_wall_us;
    uint64_t promoted_cut; /* of a set; 0: what was promoted last is none */
    bool sealed;           /* the term keeps what is held, and takes nothing more */
    uint64_t memory;
    bool promoting; /* see receiver_promote_begin() */
    uint32_t room;  /* slots that may be held */
    uint32_t held_count;
    uint32_t volume_count;
    const uint64_t *page_counts; /* of each volume, in pages */
    struct receiver_cycle cycle[RECEIVER_CYCLES];
    struct receiver_numbers numbers[2];
    struct receiver_zero *zeroes;
    uint32_t zero_count;
    struct held *held; /* by slot */
    uint32_t slot_count;
    uint32_t *buckets;
    uint32_t bucket_mask;
    enum receiver_drain drain;
    uint64_t drain_to;
    uint32_t walking; /* the slot that was popped last, while older ones may follow */
};

/* `page_counts` is borrowed for good. Empty: nothing was ever received. */
void receiver_create(struct receiver *receiver, struct arena *arena, uint32_t slot_count,
                     uint32_t room, uint32_t volume_count, const uint64_t *page_counts,
                     const uint8_t group[COPY_ID_SIZE], uint64_t memory);

/* After a start: what is known from the last clean stop. The term is over: what it held is gone. */
void receiver_restore(struct receiver *receiver, const struct copy_state *state);

enum receiver_verdict {
    RECEIVER_TAKE,   /* apply it, then receiver_batch_done() */
    RECEIVER_KNOWN,  /* GOOD: it was applied, or its cycle was promoted */
    RECEIVER_WAIT,   /* judge it again when what is being applied has been: the same batch, or a
                        promotion of the term before */
    RECEIVER_REFUSE, /* CHECK CONDITION: *why says why; nothing changes */
};

/* The head of a sound batch. With *new_term receiver_begin_term() must come before the batch is
 * applied. */
enum receiver_verdict receiver_judge(const struct receiver *receiver, const struct copy_head *head,
                                     bool *new_term, const char **why);

/* The same for a batch with KEEP, of a set (docs/remote-copy.md, "Several primary arrays").
 *
 * SEAL begins a newer term and discards nothing, so that no PROMOTE of an older one can come any
 * more, and what is held stands still: it is refused unless it names what was promoted, first - 1,
 * and the newest cut that is held. Taken: receiver_seal().
 *
 * PROMOTE in such a term is about the cut that it names, *cycle: which that is here. One that is
 * not held any more, while a newer one is, is known: nothing is promoted. */
enum receiver_verdict receiver_judge_kept(const struct receiver *receiver,
                                          const struct copy_head *head, bool promotes,
                                          uint64_t *cycle, const char **why);
void receiver_seal(struct receiver *receiver, uint64_t term);

/* The cycle is a part of that cut. It must be held, or have a place. */
void receiver_name_cut(struct receiver *receiver, uint64_t cycle, uint64_t cut);
/* The cycle that is that cut, if it and all before it are held complete; else 0. */
uint64_t receiver_find_cut(const struct receiver *receiver, uint64_t cut);
/* The newest such cut; 0: none. */
uint64_t receiver_held_cut(const struct receiver *receiver);
/* Whether a cycle that is held complete is consistent, as far as can be said without PROMOTE: no
 * half had a marked region left, or an earlier cycle of the term was. */
bool receiver_is_consistent(const struct receiver *receiver, uint64_t cycle);
/* The cut that a held cycle is; 0: none. */
uint64_t receiver_cut_of(const struct receiver *receiver, uint64_t cycle);
/* The time of day of a cycle that is held. */
uint64_t receiver_wall_us(const struct receiver *receiver, uint64_t cycle);

/* The records and data of a batch that may be taken, which stand behind its head: NULL, or what is
 * wrong with them. Only then is anything of it applied. */
const char *receiver_judge_records(const struct receiver *receiver, const struct copy_head *head,
                                   bool new_term, const uint8_t *records);

/* The batch is being applied: the same one coming again has to wait. */
void receiver_taken(struct receiver *receiver, uint8_t half, uint64_t number);
/* It will not be: its session is gone, or its peer. */
void receiver_untaken(struct receiver *receiver, uint8_t half, uint64_t number);

/* A newer term: everything held is discarded. Then receiver_pop() until it is false. */
void receiver_begin_term(struct receiver *receiver, uint64_t term, uint64_t first);

/* Whether this page of this generation is held in the cycle already. */
bool receiver_holds(const struct receiver *receiver, uint64_t cycle, const struct record *record);
/* The slot, on no list, holds the page of the record. */
void receiver_hold(struct receiver *receiver, uint32_t slot, uint64_t cycle, uint64_t wall_us,
                   const struct record *record);
void receiver_zero(struct receiver *receiver, uint64_t cycle, uint64_t wall_us,
                   const struct record *record);
void receiver_end(struct receiver *receiver, uint8_t half, uint64_t cycle, uint64_t wall_us,
                  const struct record *record);

/* All of the batch is held in both memories; what it carried counts. */
void receiver_batch_done(struct receiver *receiver, uint8_t half, uint64_t number, uint64_t cycle,
                         const struct receiver_counts *counts);

/* Whether every cycle up to this one, of those not promoted, is complete. */
bool receiver_complete(const struct receiver *receiver, uint64_t cycle);

/* A promotion was judged well and is on its way to the peer: until it is made, a batch of a newer
 * term has to wait, because it would discard what is about to be promoted. */
void receiver_promote_begin(struct receiver *receiver);

/* "Destage up to `cycle`", which must be complete; the decision is in both memories. Then
 * receiver_pop() until it is false. */
void receiver_promote(struct receiver *receiver, uint64_t cycle, uint64_t wall_us, bool consistent);

struct receiver_popped {
    uint32_t slot; /* NO_INDEX: a range that now reads as zeros */
    bool discard;  /* nothing of it counts, nor of the older ones */
    uint8_t volume;
    uint8_t sectors;
    uint64_t page, count;
};

/* The next step of a promotion, in the order in which it must be made: the ranges of a cycle, then
 * its pages, then the next cycle's. Or of discarding. False: that was all. */
bool receiver_pop(struct receiver *receiver, struct receiver_popped *popped);

/* After each slot that was popped, until NO_INDEX: the next older slot of the same page. Of its
 * `sectors` those that no newer one holds count; the slot itself is given back. */
uint32_t receiver_older(struct receiver *receiver, uint8_t *sectors);

/* Site failover: batches of older eras are refused from here on, and what is held is discarded.
 * Then receiver_pop() until it is false. */
void receiver_fail_over(struct receiver *receiver, uint64_t era);

/* What was held is lost, or given up: the sender begins anew when it sees another memory number.
 * Then receiver_pop() until it is false. */
void receiver_lose(struct receiver *receiver, uint64_t memory);

/* The held slot `from` stands in `to`, which is on no list, from here on. */
void receiver_moved(struct receiver *receiver, uint32_t from, uint32_t to);

/* Whether the slot is held; for which cycle and generation. */
bool receiver_has(const struct receiver *receiver, uint32_t slot, uint64_t *cycle,
                  uint32_t *generation);

/* All that is known but the held slots and ranges, as bytes for the peer; and the other way round,
 * where nothing is held: NULL, or what is wrong with the bytes, and nothing has changed. */
enum { RECEIVER_BYTES = 352 };
void receiver_put(const struct receiver *receiver, uint8_t bytes[RECEIVER_BYTES]);
const char *receiver_judge_bytes(const uint8_t *bytes, uint32_t length);
void receiver_get(struct receiver *receiver, const uint8_t bytes[RECEIVER_BYTES]);

/* What the peer says in its change stream, before it is applied by the calls above: whether it can
 * be true here. */
bool receiver_may_hold(const struct receiver *receiver, uint32_t slot, uint64_t cycle,
                       const struct record *record);
bool receiver_may_count(const struct receiver *receiver, uint8_t half, uint64_t number,
                        uint64_t cycle);
/* The site receives again, or for the first time: nothing is held, and what it shows is no state of
 * the other one until a cycle says so. Cycle numbers and terms still go up. That it says 1 and not
 * 0 is how the sender knows that it still has what it had of its own: a memory that was lost says
 * 0, and then the regions that the two sites have told each other are not all that differ. */
void receiver_reopen(struct receiver *receiver);

void receiver_state(const struct receiver *receiver, struct copy_state *state);

/* Every rule that can be seen by looking at all of it; NULL, or a sentence. */
const char *receiver_check(const struct receiver *receiver);

#endif
