/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What the array keeps of its groups, and what the files of this folder tell each other about
 * them. copy/sender.h decides about cycles; the files here give it slots, headers and sessions:
 *
 *   copy.c         configuration, memory, slots that are pinned, tagged, given back
 *   copy_stream.c  what is said in the change stream, and applied from it; filling a returned peer
 *   copy_batch.c   sessions to the second array, batches out of slots
 *   copy_base.c    pages of marked regions, read through the cache
 *   copy_pump.c    when: cuts, promotions, falling to the bitmap and coming back
 *   copy_site.c    which site has the truth: era, role, the kept record, failover and reverse
 *   copy_second*.c the other side: what another array sends, held and promoted; see copy_second.c
 *
 * The rule of all of them: a slot whose `pinned` bit is set stands on one of a sender's lists, and
 * the other way round. A volume without a group meets one comparison, and nothing else. */

#ifndef ARRAY_COPY_H
#define ARRAY_COPY_H

#include "array/array.h"
#include "array/copy_second.h"
#include "cache/slot.h"
#include "copy/sender.h"
#include "mirror/wire.h"

enum {
    NO_GROUP = 0xFF,
    COPY_RUNS = PAGE_SECTORS / 2, /* pieces of a page that its sectors fall into, at most */
    BITMAP_PIECES = 8,            /* BITMAP headers in one list */
    BASE_READING = 64,            /* marked pages that are being read at a time, of a group */
    JOIN_SIZE = 40 + 2 * VOLUME_LIMIT,
};

_Static_assert((int)JOIN_SIZE <= (int)WIRE_DATA_BYTES,
               "what a filled peer hears of a group fits one page");

/* A batch as it was given to the shell. The same number is sent again with the same bytes. */
struct copy_buffer {
    uint64_t number; /* 0: none */
    uint8_t *bytes;  /* head and records */
    struct iovec *iov;
    uint32_t iov_count;
    uint32_t length_bytes;
    uint32_t pages, base;
};

/* A page of a marked region: chosen for a cycle, being read, read, sent. */
struct base_page {
    uint64_t cycle; /* 0: this place is free */
    uint64_t page;
    uint64_t batch; /* that carries it; 0: none yet */
    uint8_t volume; /* its place in the group */
    bool ready;     /* its bytes stand in the frame of this place */
};

struct base_pages {
    struct base_page *pages;
    uint8_t *frames;
    uint32_t count;
    uint32_t free_hint;
    uint32_t reading; /* those that are not ready */
    uint32_t at[BASE_READING];
};

/* A range that the peer's store is about to discard: said before it happens, so that a takeover
 * knows that what stands there may have changed without a word. */
struct zeroing {
    uint64_t page, count; /* 0 pages: none */
    uint8_t volume;
};

struct group {
    const struct group_config *config;
    enum group_role role;
    uint64_t era;
    uint64_t heard_us; /* when the other array last said anything here; 0: never */
    struct sender sender;
    struct second second; /* what is received, when config->room_pages is not zero */
    bool up;              /* a session to the second array, whose state is `state` */
    bool resetting;       /* the shell has been asked to drop it */
    struct copy_state state;
    uint64_t memory_known; /* state.memory when batches were last sent; 0: never */
    bool suspended;
    bool resumed;                   /* has to be said, by FALL */
    bool fall_unsaid;               /* FALL has to be said */
    uint32_t falls_out;             /* FALL headers that are not acknowledged */
    uint64_t confirmed_said;        /* by CONFIRM */
    bool begun_in_list;             /* the filling list holds a MARK or a GROUP */
    uint64_t rise_us;               /* not before, to cycles again */
    const char *reason;             /* of standing in the bitmap */
    uint64_t cleared[VOLUME_LIMIT]; /* by the volume's place: regions before it are clear */
    uint64_t said[VOLUME_LIMIT];    /* the same, as REGIONS has said */
    uint8_t join[JOIN_SIZE];        /* the data of the last GROUP header that had any */
    uint64_t base_retry_us;
    struct base_pages base;
    struct copy_buffer buffers[COPY_WINDOW]; /* by number */
    uint64_t confirmed_wall_us;
    uint64_t cuts, falls, restarts, batches, resends, refused, pages_sent, base_pages_sent,
        bytes_sent;
};

struct copy {
    struct pins pins;
    struct group *groups; /* config.group_count */
    uint8_t *memory;      /* of the pins and senders: all that a forgotten past must leave */
    size_t memory_size;
    uint64_t wall_us;
    struct copy_action *actions;
    struct copy_reply *replies;
    uint32_t foreign;            /* slots of our own half that are held for other arrays */
    bool hungry;                 /* and a page that is to be held waits for a slot */
    uint8_t *bitmaps;            /* BITMAP_PIECES pages: the data of the active list */
    uint32_t bitmaps_in_list;    /* BITMAP headers in the filling list */
    uint32_t bitmaps_sealed;     /* while it is being sealed */
    struct zeroing zeroings[16]; /* of the peer, by place */
};

struct array;
struct request;

/* Whether another array's pages may be held for it. */
static inline bool copy_receives(const struct group *group)
{
    return group->second.arrivals != NULL;
}

/* ---- copy.c ---- */

/* NULL, or what is wrong with the groups of a configuration that is sound but for them. */
const char *copy_config_check(const struct array_config *config);
/* What both controllers must have in common about them. */
uint32_t copy_config_checksum(const struct array_config *config, uint32_t crc);

void copy_lay_out(struct copy *copy, const struct array_config *config, struct arena *arena);
/* Once the config has its place: groups know their volumes and the other way round. */
void copy_create(struct array *array);
/* All memory has been dropped: nothing is pinned, nothing known to differ. */
void copy_forget(struct array *array);
/* This controller serves with nothing in memory: anything may differ between the sites. */
void copy_serve_fresh(struct array *array);
/* The peer is lost and its volumes are ours from here on; the mirror is void already, and owners
 * are still as they were. */
void copy_take_over(struct array *array);
/* The mirror is void: what was said and not acknowledged is forgotten. */
void copy_mirror_void(struct array *array);
/* Sessions are of no use here any more. */
void copy_leave(struct array *array);
/* The volume's owner is another one now. */
void copy_owner_changed(struct array *array, uint8_t volume);
/* It begins to change hands, or has. */
void copy_moved(struct array *array, uint8_t volume);
/* Whether marked pages of it are still being read: a move waits for that. */
bool copy_reads(const struct array *array, uint8_t volume);

/* Nobody may write into the slot, though nothing of the array's carries it. */
bool copy_frozen(const struct array *array, const struct slot *slot);
/* These sectors of its page were written in it. */
void copy_written(struct array *array, struct slot *slot, uint8_t touched);
/* Sectors that its FRESH header must carry beside the dirty ones. */
uint8_t copy_owed(const struct array *array, const struct slot *slot);
/* `heir` has taken the place of `old` for a write, with all that it held. */
void copy_replaced(struct array *array, struct slot *old, struct slot *heir);
/* The page stands, with all its bytes, in `to` now. */
void copy_relocated(struct array *array, struct slot *from, struct slot *to);
/* The slot's page was discarded: unless it is frozen nothing needs it. */
void copy_discarded(struct array *array, struct slot *slot);
/* An image slot gives up its page. */
void copy_untag(struct array *array, struct slot *slot);
/* Whether a range can be noted; if so it has been. *cycle is for its header. */
bool copy_range(struct array *array, uint8_t volume, uint64_t page, uint64_t count,
                uint64_t *cycle);

/* To the bitmap, in a sentence why; `tell`: the peer does not know yet. */
void copy_fall(struct array *array, struct group *group, const char *why, bool tell);
/* What is unconfirmed joins one new cycle, under a newer term. */
void copy_restart(struct array *array, struct group *group, uint64_t term, bool alone);
/* The cycle was promoted; false: that cannot be. */
bool copy_confirm(struct array *array, struct group *group, uint64_t cycle);
/* The session, and all that is under way in it, is to be made anew. */
void copy_drop_session(struct array *array, struct group *group);

const char *copy_check(const struct array *array);
void copy_status(const struct array *array, struct array_status *status);

/* ---- copy_stream.c ---- */

/* Sealing: a WRITE learns its cycle, a GROUP or BITMAP its data. */
void copy_seal_write(const struct array *array, const struct slot *slot, struct header *header);
void copy_seal_data(struct array *array, struct header *header);
void copy_sealed(struct array *array); /* the filling list is empty now */
void copy_acknowledged(struct array *array, const struct header *header);
void copy_say_range(struct array *array, const struct header *range);
/* Whether the peer knows that this range is about to be discarded; says it when it does not. */
void copy_say_zeroing(struct array *array, uint32_t place, uint8_t volume, uint64_t page,
                      uint64_t count);

/* NULL, or why a header of the peer's is refused. `data`: WIRE_DATA_BYTES of it at most. */
const char *copy_judge(const struct array *array, const struct header *header, const uint8_t *data);
void copy_apply(struct array *array, const struct header *header, const uint8_t *data);
void copy_apply_write(struct array *array, const struct header *header, struct slot *slot);
void copy_apply_range(struct array *array, const struct header *header);

/* What is due to be said; each waits for room. */
void copy_say(struct array *array, struct group *group);
/* One header of a group, for which there is room. */
void copy_say_header(struct array *array, struct group *group, const struct header *header);

/* A returned peer: the groups first, then all that the bitmaps and tables hold. False: there is
 * more to send. */
void copy_refill_begin(struct array *array);
bool copy_refill_send(struct array *array);

/* ---- copy_batch.c ---- */

void copy_send(struct array *array, struct group *group);
void copy_forget_batches(struct group *group);

/* ---- copy_base.c ---- */

size_t copy_base_count(const struct group_config *config);
void copy_base_pump(struct array *array, struct group *group);
void copy_base_fetched(struct array *array, const struct slot *slot);
/* As many pages of the batch's cycle as it says become part of it, or are so already. */
uint32_t copy_base_take(struct group *group, const struct sender_batch *batch, uint32_t *places);
void copy_base_confirmed(struct group *group, uint64_t cycle);
void copy_base_forget(struct group *group);
bool copy_base_reads(const struct group *group, uint8_t place);

/* ---- copy_pump.c ---- */

void copy_pump(struct array *array);
uint64_t copy_deadline(const struct array *array);
/* A term that is newer than any that was used. */
uint64_t copy_next_term(const struct array *array, const struct group *group);

/* ---- copy_site.c ---- */

/* Whether hosts may not use the volume here, because its group's truth is elsewhere. */
bool copy_site_refuses(const struct array *array, uint8_t volume);

#endif
