/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* One half of a group at the primary: what one of the two controllers knows of the group's cycles,
 * and, at the leader, when to cut and what to promote. The protocol is in docs/remote-copy.md.
 *
 *     sender_written()     a host's write: its slot is pinned in the open cycle (claims e, f)
 *     sender_close()       the cut: at the leader beside its MARK, else when MARK is applied
 *     sender_next_batch()  what to send to the second array now
 *     sender_answered()    a completion (claim g)
 *     sender_next_batch()  at the leader, when all is complete: PROMOTE (claim h)
 *     sender_confirm()     promoted; sender_pop() then names the slots that are given back
 *
 * It knows slots by number, and never looks at one: the controller drives it, and does what it
 * returns. No call needs more than the numbers given to it. */

#ifndef COPY_SENDER_H
#define COPY_SENDER_H

#include "copy/pins.h"
#include "copy/regions.h"

/* BITMAP: hosts' writes set bits; no cycle exists. CYCLES: they are pinned in the open cycle.
 *
 *     BITMAP --sender_begin--> CYCLES --sender_fall--> BITMAP
 *
 * A cycle: open -> closed (sender_close) -> complete (all its batches answered, END too)
 *          -> confirmed (sender_confirm) -> forgotten (sender_pop to its end). */
enum sender_mode { SENDER_BITMAP, SENDER_CYCLES };

struct sender_config {
    uint16_t group;        /* its place in the configuration */
    uint32_t volume_count; /* of the group */
    uint32_t budget_pages; /* pins of this half; more of them: sender_over_budget() */
    uint32_t base_pages;   /* base records of one cycle */
    uint64_t shortest_us;  /* between two cuts */
    bool coordinated;      /* of a set: somebody else says when to cut and what to promote */
};

struct sender_cycle {
    uint64_t number; /* 0: none */
    struct pin_list pins, tags;
    uint32_t ranges[2];    /* own, tags */
    uint32_t pages;        /* closed: pins */
    uint32_t base;         /* pages of marked regions that belong to it */
    uint32_t base_reading; /* of these: not read yet */
    uint32_t base_ready;   /* read, and in no batch yet */
    uint32_t cursor;       /* closed: the first pin that is in no batch yet */
    uint32_t batches_out;  /* not answered */
    uint8_t halves;        /* that belong to it: 1 when it was cut by a controller alone */
    bool ranges_sent, end_sent, complete;
    bool held_said;       /* the leader has been told that it is complete here */
    bool moved;           /* a volume changed hands since it was opened */
    bool marked;          /* a region was marked since it was opened, at this half */
    bool done, peer_done; /* when it was closed no marked region was left */
    bool peer_complete;   /* the leader's: the other half is */
    bool promote_sent;
    uint64_t cut; /* of a set: which one it is a part of; 0: of none, as far as is known here */
    bool late, peer_late; /* completions went before every half of the set had closed */
    uint64_t wall_us;
};

/* In one batch. A window of them is 32 MiB, more than 1 Gbit/s has on its way over 100 ms. */
enum { SENDER_PAGES = 256 };
_Static_assert((int)SENDER_PAGES <= (int)COPY_RECORDS, "they fit a batch");

enum { SENDER_RANGES = 4 * COPY_RANGES }; /* own and tags, twice each: see sender.c */

struct sender_range {
    uint64_t cycle; /* 0: this place is free */
    uint64_t page, count;
    uint32_t generation;
    uint8_t volume;
    bool tag; /* the peer's */
};

enum sender_kind { SEND_RANGES, SEND_PAGES, SEND_BASE, SEND_END, SEND_PROMOTE };
enum sender_batch_state { SENDER_FREE, SENDER_OUT, SENDER_LOST, SENDER_ANSWERED };

/* What one batch carries. The same number always carries the same. */
struct sender_batch {
    enum sender_batch_state state;
    enum sender_kind kind;
    uint64_t number, cycle, wall_us;
    uint32_t first; /* SEND_PAGES: the first slot; the following ones by pins_next() */
    uint32_t count; /* SEND_PAGES, SEND_BASE */
    /* SEND_END */
    uint32_t pages, base, ranges;
    uint8_t halves;
    uint64_t cut;    /* SEND_END */
    bool consistent; /* SEND_PROMOTE; SEND_END of a set: for this half */
};

enum sender_drain { DRAIN_NONE, DRAIN_FALL, DRAIN_RESTART };

struct sender {
    struct sender_config config;
    struct pins *pins; /* of all groups */
    struct regions regions;
    enum sender_mode mode;
    bool leader;
    bool paired;   /* the other half takes part in what is cut from now on */
    bool attached; /* a session to the second array */
    uint64_t term;
    uint64_t run_term;   /* the term in which the group last came from the bitmap */
    uint64_t run_first;  /* first cycle since the group last came from the bitmap */
    uint64_t term_first; /* first cycle of the term */
    uint64_t open, confirmed;
    uint64_t over; /* confirmed, and its slots are being given back; 0: none. Until they are they
                      stay as they were: frozen, and on its lists */
    struct sender_cycle cycle[COPY_RING];
    struct sender_range *ranges; /* SENDER_RANGES */
    uint32_t range_count[2];     /* own, tags */
    uint16_t *generation;        /* by volume */
    bool *own;                   /* by volume: this half sends its marked regions */
    uint32_t pinned;             /* own pins in all cycles */
    uint64_t batch_oldest, batch_next;
    struct sender_batch batches[COPY_WINDOW]; /* by number */
    uint32_t window;
    uint64_t cut_us;
    enum sender_drain drain;
    uint64_t drain_at, drain_to; /* cycles that are being given back */
    bool drain_alone;            /* DRAIN_RESTART: the peer is lost, its tags become pins */
    bool consistent;             /* as of the confirmed cycle */
    uint64_t promote_to;         /* coordinated: the newest cycle that may be promoted */
    uint64_t holding;            /* the cycle since whose closing completions are held; 0: none */
};

/* `page_counts`: of each volume. In BITMAP with nothing marked. */
void sender_create(struct sender *sender, struct arena *arena, struct pins *pins,
                   const struct sender_config *config, const uint64_t *page_counts);

/* ---- hosts' writes ---- */

/* These sectors of the page were written in `slot`. Returns the cycle for the header's tag; 0: a
 * bit was set. The slot must not be frozen. */
uint64_t sender_written(struct sender *sender, uint32_t slot, uint8_t volume, uint64_t page,
                        uint8_t sectors);

/* The slot belongs to a closed cycle: a write to its page takes a fresh one. */
bool sender_frozen(const struct sender *sender, uint32_t slot);

/* `heir` takes the place of `old` and holds all that it holds. */
void sender_inherit(struct sender *sender, uint32_t old, uint32_t heir);

/* The unconfirmed cycle on whose list the slot stands, as a pin or a tag; 0: none. */
uint64_t sender_waits(const struct sender *sender, uint32_t slot);

/* Sectors that the slot's FRESH header must carry beside the dirty ones. */
static inline uint8_t sender_owed(const struct sender *sender, uint32_t slot)
{
    return pins_at(sender->pins, slot)->owed;
}

/* The page of `from`, with all its bytes, now stands in `to`; nothing when `from` is not pinned. */
void sender_relocate(struct sender *sender, uint32_t from, uint32_t to);

/* A range was discarded or zeroed. The caller then unpins the slots of its pages that are not
 * frozen. False: no room, and nothing was noted. */
bool sender_range(struct sender *sender, uint8_t volume, uint64_t page, uint64_t count);

/* The slot's page was discarded in the open cycle: nothing of it is to be sent. */
void sender_unpin(struct sender *sender, uint32_t slot);
/* In ranges, of both halves, that wait for the second array. */
uint64_t sender_range_pages(const struct sender *sender);

/* The volume has begun to change hands, or has; every record of it from now on counts as newer. */
void sender_moved(struct sender *sender, uint8_t volume);
/* From here on this half sends (or no longer sends) the volume's marked regions. */
void sender_own(struct sender *sender, uint8_t volume, bool own);

/* ---- the peer's writes, as they are applied ---- */

void sender_tagged(struct sender *sender, uint32_t slot, uint8_t volume, uint64_t page,
                   uint64_t cycle, uint8_t sectors);
/* The image slot's page has another slot, or was discarded. Nothing when it has no tag. */
void sender_untag(struct sender *sender, uint32_t slot);
bool sender_range_tagged(struct sender *sender, uint8_t volume, uint64_t page, uint64_t count,
                         uint64_t cycle);

/* ---- cycles ---- */

/* From the bitmap to cycles, under a term that is newer than any before. `leader`: this half
 * cuts. */
void sender_begin(struct sender *sender, uint64_t now_us, uint64_t term, uint64_t cycle,
                  bool leader);

/* The same at a controller that returns to its peer: the leader's cycles after `confirmed` and
 * before `open` are closed, and this half has no part in them. `generation`: of each volume. */
void sender_join(struct sender *sender, uint64_t now_us, uint64_t term, uint64_t first,
                 uint64_t confirmed, uint64_t open, const uint16_t *generation);

/* The other half takes part in what is cut from now on, or not. */
static inline void sender_pair(struct sender *sender, bool paired)
{
    sender->paired = paired;
}

/* The peer is lost while the group is in BITMAP: this half leads from here on, also when the peer
 * returns before the first cycle. sender_restart() with `alone` does the same in CYCLES. */
static inline void sender_lead(struct sender *sender)
{
    sender->leader = true;
    sender->paired = false;
}

/* The leader: whether there is something to cut; else a cycle carries the time only. */
bool sender_wants_cut(const struct sender *sender);
/* Whether to cut now. */
bool sender_cut_due(const struct sender *sender, uint64_t now_us);
/* When it may be due, if nothing else happens; UINT64_MAX: something must. */
uint64_t sender_cut_deadline(const struct sender *sender);
/* Whether the open cycle may be closed: foreign MARKs are judged by it. */
bool sender_may_close(const struct sender *sender, uint64_t cycle, uint8_t halves);
/* `halves`: 2, or 1 when only the leader has a part in it; MARK says which. */
void sender_close(struct sender *sender, uint64_t now_us, uint64_t wall_us, uint8_t halves);

/* The other half's cycle is complete (its HELD). False: that cannot be. */
bool sender_peer_held(struct sender *sender, uint64_t cycle, bool done);
/* The half that does not lead: the next cycle to say HELD of; 0: none. Said once. */
uint64_t sender_held_due(struct sender *sender, bool *done);

/* The leader: whether this cycle, all before it being confirmed with it, is a state of the group as
 * a whole, with nothing left of what the bitmap marks. It is the promise that PROMOTE makes
 * (RECORD_CONSISTENT). */
bool sender_vouches(const struct sender *sender, const struct sender_cycle *cycle);

/* Coordinated: every cycle up to this one is complete, at both halves. */
bool sender_whole(const struct sender *sender, uint64_t cycle);

/* The cycle was promoted: at the other half by the leader's CONFIRM. False: that cannot be. Then
 * sender_pop() until it is false, of which some may come later: before the next confirmation,
 * restart or fall, and before a peer is told all that waits. */
bool sender_confirm(struct sender *sender, uint64_t cycle);

/* Everything unconfirmed goes into one new open cycle, under a newer term. `alone`: the other half
 * is lost and all of it is this one's. Then sender_pop() and sender_keep() until it is false. The
 * sessions to the second array must be dropped. */
void sender_restart(struct sender *sender, uint64_t term, bool alone);

/* To the bitmap: pins are given back, and ranges marked. Then sender_pop() until it is false; the
 * caller marks the page of each. The sessions to the second array must be dropped. */
void sender_fall(struct sender *sender);

/* Whether the peer's word that it fell, said in `term`, is about the cycles that run here. It is
 * not when this half came from the bitmap since; a restart in between makes no difference. */
static inline bool sender_fall_concerns(const struct sender *sender, uint64_t term)
{
    return sender->mode == SENDER_CYCLES && term >= sender->run_term;
}

struct sender_popped {
    uint32_t slot;
    bool tag;
    uint8_t owed;
    uint16_t generation;
    uint64_t cycle;
};

/* One slot that is needed no more; false: that was all. */
bool sender_pop(struct sender *sender, struct sender_popped *popped);

enum sender_fate {
    SENDER_KEPT,    /* it joins the new cycle */
    SENDER_DROPPED, /* it is needed no more: what it said is said by something newer, or marked */
};

/* After a restart: what becomes of the popped slot. `superseded`: the page's newest slot is `heir`
 * (NO_INDEX: it has none). */
enum sender_fate sender_keep(struct sender *sender, const struct sender_popped *popped,
                             uint8_t volume, uint64_t page, bool superseded, uint32_t heir);

/* What the store holds of these pages, or the page's newest slot, has to be sent, whatever the
 * table of ranges says: after a takeover, of a range that the peer had announced and not yet said.
 */
void sender_mark(struct sender *sender, uint8_t volume, uint64_t page, uint64_t count);

bool sender_over_budget(const struct sender *sender);

/* ---- marked regions ---- */

/* The next pages of a marked region to read; they belong to the open cycle. False: none now. Each
 * call is followed by one sender_base_read() for that cycle. */
bool sender_base_next(struct sender *sender, uint32_t limit, uint8_t *volume, uint64_t *first,
                      uint32_t *count, uint64_t *cycle);
void sender_base_read(struct sender *sender, uint64_t cycle, uint32_t count);

/* ---- the session to the second array ---- */

/* `window`: batches it takes at a time. */
void sender_attach(struct sender *sender, uint32_t window);
/* Lost: what has no answer is sent again. */
void sender_detach(struct sender *sender);
/* Whether there is one to be sent now. */
bool sender_has_batch(const struct sender *sender);
/* The next batch to send; false: none now. It stays as it is until it is answered. */
bool sender_next_batch(struct sender *sender, struct sender_batch *batch);
/* GOOD for the batch of that number. Returns the cycle that is promoted by it, for
 * sender_confirm(); else 0. */
uint64_t sender_answered(struct sender *sender, uint64_t number);

/* The ranges of a cycle, this half's: the first at or after place `at`, or NULL. */
const struct sender_range *sender_range_at(const struct sender *sender, uint64_t cycle,
                                           uint32_t at);

/* ---- questions ---- */

static inline uint64_t sender_closed_count(const struct sender *sender)
{
    return sender->open - 1 - sender->confirmed;
}

/* Every rule that can be seen by looking at all of it; NULL, or a sentence. */
const char *sender_check(const struct sender *sender);

#endif
