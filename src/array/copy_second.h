/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The receiving side of a group, where another array's pages are held until that array says that
 * they count. copy/receiver.h decides; the files here give it slots, headers and stores:
 *
 *   copy_second.c         what comes, where it waits, what is answered, when it is promoted
 *   copy_second_hold.c    slots: held, promoted, discarded, at the owner and at its peer alike
 *   copy_second_stream.c  what the owner tells its peer; filling a returned peer
 *   copy_second_zero.c    ranges of promoted cycles, zeroed on the store
 *
 * The rule of all of them: a slot whose `foreign` bit is set is held by one receiver, and the other
 * way round. */

#ifndef ARRAY_COPY_SECOND_H
#define ARRAY_COPY_SECOND_H

#include "array/array.h"
#include "backend/backend.h"
#include "cache/slot.h"
#include "copy/receiver.h"
#include "mirror/wire.h"

#include <sys/uio.h>

enum { COPY_REPLIES = 4096 }; /* between two pumps: more than a shell lets wait */

/* A batch, from its arrival to its answer. */
enum arrival_state {
    ARRIVAL_FREE,
    ARRIVAL_WAITS,   /* to be judged */
    ARRIVAL_TAKEN,   /* being applied, as far as there is room; one of a group at a time */
    ARRIVAL_SAID,    /* all of it is held here, and on its way to the peer */
    ARRIVAL_DECIDED, /* PROMOTE: both know; to be carried out here */
    ARRIVAL_DURABLE, /* PROMOTE, serving alone: carried out, on its way to the stores */
};

struct arrival {
    enum arrival_state state;
    bool promotes, consistent;
    bool answered; /* early, as not good: it goes on without anybody */
    bool unheard;  /* SAID: the mirror is gone, no answer of the peer's will come */
    bool stale;    /* DURABLE: a newer term has begun */
    bool own;      /* it counts under no number: of a set, or an operator's; nothing of its bytes is
                      applied */
    bool operates; /* a failover waits for it; it has no bytes and no answer */
    uint64_t handle;
    uint64_t place;       /* in the order of arrival */
    uint64_t said;        /* SAID: number of the list that says the last of it */
    uint64_t cut;         /* DURABLE: flush generation to wait for */
    const uint8_t *bytes; /* the shell's, until the answer */
    struct copy_head head;
    uint32_t record, data_at; /* the next one to apply */
    struct receiver_counts counts;
};

/* A range of a promoted cycle that the store has to show as zeros. */
struct second_zero {
    uint64_t page, count;
    uint8_t volume; /* its place in the group */
};

enum zero_state {
    ZERO_NEXT,  /* the next piece is to be asked for */
    ZERO_STORE, /* a piece is with the store */
    ZERO_FLUSH, /* all has been zeroed; the stores are to make it durable */
};

/* All of what was promoted last. The peer knows the same ranges, and begins anew when it takes
 * over; so their pages are destaged only when ZEROED has been said. */
struct second_zeroes {
    struct second_zero *zeroes; /* RECEIVER_ZEROES places */
    uint32_t count;
    uint64_t cycle;
    enum zero_state state;
    uint32_t at;              /* the next range */
    uint64_t done;            /* pages of it */
    uint64_t piece;           /* pages with the store */
    bool plain;               /* the piece goes as zeros that are written */
    bool suspect;             /* a flush failed since: all of it again */
    uint64_t stores;          /* a bit each: that have been asked to zero */
    uint64_t wanted, covered; /* ... to be flushed; by the flush under way */
    uint64_t retry_us;
    struct iovec *iov; /* STORE_IO_PAGES */
};

struct second {
    struct receiver receiver;
    struct arrival *arrivals; /* COPY_MESSAGES of them; NULL: nothing is received here ever */
    uint32_t waiting;         /* that are not FREE */
    uint64_t arrived;
    uint32_t memories;  /* how often what was held here has been lost since the start */
    bool astray;        /* mirror: what the owner said cannot be true here; nothing is held until it
                           says all anew */
    bool saying;        /* RECEIVED has been said, and `said` may not change */
    bool quieting;      /* a promotion waits until nothing moves in its ranges */
    uint64_t stands_us; /* until then no PROMOTE is taken: see GROUP_STAND */
    uint32_t quiet_at;  /* ranges of the receiver before this are quiet */
    uint64_t quiet_page;
    uint8_t *said; /* RECEIVER_BYTES */
    struct second_zeroes zero;
    uint64_t taken, refused, promotions; /* batches; for status */
};

struct array;
struct group;

/* ---- copy_second.c ---- */

/* What a forgotten past must leave, and what stays. `second`: NULL while measuring. */
void copy_second_create(struct second *second, const struct array_config *config, uint8_t group,
                        struct arena *arena);
void copy_second_lay_out(struct second *second, const struct group_config *config,
                         struct arena *arena);
void copy_second_pump(struct array *array);
uint64_t copy_second_deadline(const struct array *array);
/* The list of that number has been applied by the peer. */
void copy_second_acknowledged(struct array *array, uint64_t number);
/* What was said and not acknowledged never will be. */
void copy_second_mirror_void(struct array *array);
/* This controller is out, or stops: everything that waits is answered not good and forgotten. */
void copy_second_leave(struct array *array);
/* The peer is lost; what it owned is ours from here on, as this controller knows it. */
void copy_second_takeover(struct array *array);

/* Something of it is under way that neither a returned peer's filling, nor a move, nor a stop may
 * cut in two: said and not acknowledged, decided and not carried out, ranges not yet zeroed. */
bool copy_second_busy(const struct array *array, const struct group *group);
bool copy_second_any_busy(const struct array *array);
/* Ranges of its promoted cycles are not all zero on the store. */
bool copy_second_any_zeroing(const struct array *array);
/* A promotion has been decided, and is not carried out here. */
bool copy_second_promotes(const struct array *array);
/* Hosts of the volume wait: what it shows is just being changed on the store. */
bool copy_second_holds_hosts(const struct array *array, uint8_t volume);
/* No page of the volume may be fetched just now. */
bool copy_second_holds_fetches(const struct array *array, uint8_t volume);

/* The group is received here, so its volumes have one owner and move together. */
bool copy_second_together(const struct array *array, uint8_t volume);
/* It is about to change hands: what is held is given up, and the peer is told all that is known.
 * There must be room for one header. */
void copy_second_hand_over(struct array *array, struct group *group);
/* For what is held from now on, after a loss. */
uint64_t copy_second_next_memory(const struct array *array, struct group *group);

/* A failover to that cut, which is to be promoted first; copy_site_cut_over() follows. */
void copy_second_promote_cut(struct array *array, struct group *group, uint64_t cut);
/* The newest cut that was promoted, or is about to be. */
uint64_t copy_second_cut(const struct group *group);
/* A cut of a set is held that other second arrays may have promoted: what is held may not be given
 * up. */
bool copy_second_keeps_cut(const struct group *group);

const char *copy_second_check(const struct array *array);
/* The same of both: what one holds the other holds, when nothing is on its way. */
const char *copy_second_check_mirror(const struct array *from, const struct array *to);

/* ---- copy_second_hold.c ---- */

/* The page of the record has its slot, or had it. False: no room now. */
bool copy_second_hold(struct array *array, struct group *group, const struct copy_head *head,
                      const struct record *record, const uint8_t *data);
/* What is held and does not count any more, after receiver_begin_term() and its kin. */
void copy_second_discard(struct array *array, struct group *group);
/* Whether nothing moves in the ranges of cycles up to this one; asked again until it is so. */
bool copy_second_quiet(struct array *array, struct group *group, uint64_t cycle);
/* One atomic step: all of it is the newest of its pages. `owner`: else at the owner's peer. */
void copy_second_promote(struct array *array, struct group *group, uint64_t cycle, uint64_t wall_us,
                         bool consistent, bool owner);
/* A held slot of the image half moves to our own. */
bool copy_second_relocate(struct array *array, struct slot *slot);
/* The image slot, FREE, holds what the header says. */
void copy_second_take_image(struct array *array, struct group *group, uint32_t index,
                            const struct header *header, const uint8_t *data);
/* The slot at place `i` of a walk over the pages of a range that are in the index, in
 * copy_second_steps() steps; NULL: none there. */
uint64_t copy_second_steps(const struct array *array, const struct second_zero *zero);
struct slot *copy_second_step(const struct array *array, const struct group *group,
                              const struct second_zero *zero, uint64_t i);

/* ---- copy_second_stream.c ---- */

void copy_second_say_held(struct array *array, struct group *group, struct slot *slot);
void copy_second_say_range(struct array *array, const struct group *group, uint64_t cycle,
                           const struct record *record);
void copy_second_say_end(struct array *array, const struct group *group,
                         const struct arrival *arrival, const struct record *record);
void copy_second_say_term(struct array *array, const struct group *group);
void copy_second_say_taken(struct array *array, const struct group *group,
                           const struct arrival *arrival);
void copy_second_say_cut(struct array *array, const struct group *group,
                         const struct copy_head *head);
void copy_second_say_promote(struct array *array, const struct group *group,
                             const struct arrival *arrival);
void copy_second_say_zeroed(struct array *array, const struct group *group);
/* All that is known, but what is held: `said` may be used. */
void copy_second_say_all(struct array *array, struct group *group);
bool copy_second_refill_ranges(struct array *array, struct group *group, uint32_t *at);

const char *copy_second_judge(const struct array *array, const struct header *header,
                              const uint8_t *data);
const char *copy_second_judge_held(const struct array *array, const struct header *header);
void copy_second_apply(struct array *array, const struct header *header, const uint8_t *data);
void copy_second_apply_write(struct array *array, const struct header *header, const uint8_t *data);
void copy_second_apply_range(struct array *array, const struct header *header);
/* A slot is to be used that is held here: the owner and this controller do not agree. */
void copy_second_lost_slot(struct array *array, struct slot *slot);

/* ---- copy_second_zero.c ---- */

void copy_second_zero_pump(struct array *array, struct group *group);
void copy_second_zero_on_store(struct array *array, uint32_t group, enum store_result result);
bool copy_second_zero_wants_flush(struct array *array, uint32_t store);
void copy_second_zero_flushed(struct array *array, uint32_t store, enum store_result result);
/* What the store had taken and not made durable is in doubt. */
void copy_second_zero_suspect(struct array *array, uint32_t store);
bool copy_second_zero_with_store(const struct array *array);
/* All of them are zero; the peer of the one that did it only hears of it. */
void copy_second_zero_over(struct array *array, struct group *group);

#endif
