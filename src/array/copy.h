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
 *   copy_site*.c   which site has the truth: era, role, the kept record, failover and reverse
 *   copy_last.c    what only the controller knows that stopped last, told to the one that began
 *                  first
 *   copy_set*.c    several primary arrays: this array's member, its hold, the coordinator's way
 *   copy_second*.c the other side: what another array sends, held and promoted; see copy_second.c
 *
 * The rule of all of them: a slot whose `pinned` bit is set stands on one of a sender's lists, and
 * the other way round. A volume without a group meets one comparison, and nothing else. */

#ifndef ARRAY_COPY_H
#define ARRAY_COPY_H

#include "array/array.h"
#include "array/copy_second.h"
#include "cache/slot.h"
#include "copy/coordinator.h"
#include "copy/sender.h"
#include "mirror/wire.h"

enum {
    NO_GROUP = 0xFF,
    COPY_RUNS = PAGE_SECTORS / 2, /* pieces of a page that its sectors fall into, at most */
    BITMAP_PIECES = 8,            /* BITMAP headers in one list */
    BASE_READING = 64,            /* marked pages that are being read at a time, of a group */
    JOIN_SIZE = 48 + 2 * VOLUME_LIMIT,
    COPY_CUT_REPLIES = 1024, /* between two pumps: more than a shell lets wait */
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
    uint64_t cycle;
    uint64_t page;
    uint32_t next;  /* that was read after it for the same cycle; free: another free place */
    uint8_t volume; /* its place in the group */
};

/* Places are given out as they came back, the last one first, so that what is sent stands in few
 * frames, and none is touched that is not needed. */
struct base_pages {
    struct base_page *pages;
    uint8_t *frames;
    uint32_t count;
    uint32_t free;    /* the first of those that came back; NO_INDEX: none */
    uint32_t fresh;   /* from here on none was ever used */
    uint32_t reading; /* those whose bytes do not stand in their frames yet */
    uint32_t at[BASE_READING];
    struct {
        uint32_t first, last; /* that were read for this cycle, in this order; NO_INDEX: none */
        uint32_t waits;       /* the first that is in no batch; NO_INDEX: none */
    } cycles[COPY_RING];
    struct {
        uint64_t number; /* 0: none */
        uint32_t first;  /* of its pages */
    } batches[COPY_WINDOW];
};

/* The batch that is being written: a few pages of it in each pump. */
struct copy_encoding {
    struct sender_batch batch; /* its number 0: none */
    uint32_t done;             /* of its pages */
    uint32_t next;             /* slot, or place of a base page */
};

/* A range that the peer's store is about to discard: said before it happens, so that a takeover
 * knows that what stands there may have changed without a word. */
struct zeroing {
    uint64_t page, count; /* 0 pages: none */
    uint8_t volume;
};

/* What a group's site is. An era has its truth at one site: odd ones where the configuration says
 * GROUP_PRIMARY, even ones at the other; each failover begins the next. In the order in which a
 * site goes through them within an era. */
enum site_role {
    SITE_FENCED,    /* the truth went elsewhere: hosts are refused, the bitmap is to be handed over
                     */
    SITE_RECEIVING, /* handed over, or never had: batches of the era are taken */
    SITE_FAILED_OVER, /* the truth is here, and not copied */
    SITE_PRIMARY,     /* the truth is here, and is copied */
    SITE_ROLE_COUNT
};

enum site_stop {
    SITE_RUNS,
    SITE_LEFT,    /* stopped while the peer was stopping as well: it changes no role any more */
    SITE_STOPPED, /* stopped alone, with everything on the stores: the bitmap is in the record */
    SITE_STOP_COUNT
};

/* Flags of HEADER_SITE; its slot field has the role in the lowest byte. */
enum {
    SITE_FILLS = 1 << 8,
    SITE_KEPT = 1 << 9,
    SITE_SETTLED = 1 << 10,
    SITE_UNKNOWN = 1 << 11,
    SITE_QUIET = 1 << 12,
    SITE_MARKS = 1 << 13,
    SITE_NONE = 1 << 14,  /* the sender has no record at all */
    SITE_LACKS = 1 << 15, /* only the controller that stopped last knows what differs */
    SITE_GIVES = 1 << 16, /* that is the sender, and what it knows follows */
    SITE_WHOLE = 1 << 17, /* all of it has been said; count = 1 + the newest confirmed cycle */
    SITE_FLAGS = (1 << 18) - (1 << 8),
};

/* Of the controller that stopped last, when the other one serves already. */
enum site_gives {
    GIVES_NOTHING,
    GIVES_SOON, /* paired, the peer hears that it will be told */
    GIVES_NOW,  /* it is being said */
    GIVES_DONE  /* and now that this was all */
};

/* What a start must find again; see copy_site_record.c. */
struct site_record {
    uint64_t era;
    enum site_role role;
    uint64_t epoch; /* of the pair, when this controller was in it last; 0: never kept */
    bool suspended; /* by an operator */
    bool unknown;   /* the other controller may know better: nothing may be done, nothing kept */
    bool marks;     /* truth here: what the other site had of its own is in the bitmap */
    enum site_stop stop;
};

struct site {
    struct site_record now, kept, out; /* out: what is being made durable */
    bool record_out;
    bool stop_failed; /* the record of a stop could not be kept */
    uint64_t retry_us;
    uint8_t *bytes;
    uint32_t room_bytes;
    bool bitmap_loaded; /* `bytes` hold the record of the last stop */
    bool settled;       /* what is `now` has been durable at every controller that is there */
    bool open;          /* hosts are served */
    bool patient;       /* unknown: hosts wait for the other controller's word */
    uint64_t doubt_us;  /* since when */
    bool sync_due;      /* RECEIVING: the owner has to tell its peer what its receiver knows */
    bool changing;      /* to the next role, as soon as nothing is being received */
    uint64_t next_era;
    enum site_role next_role;
    bool asked; /* an operator waits for a change */
    uint64_t handle;
    enum group_action action;
    /* the peer */
    bool unsaid;
    bool peer_known, peer_kept, peer_quiet, quiet_said;
    uint64_t peer_era;
    enum site_role peer_role;
    /* the other site */
    uint64_t heard_us;    /* when it last said anything here; 0: never */
    uint64_t heard_era;   /* of which no record is here, though the truth would be */
    uint64_t known_cycle; /* that the second array has promoted in this era, at least */
    bool all_marked;      /* no cycle was confirmed since everything was marked */
    uint64_t promoted, promoted_wall_us; /* failed over: what was shown then */
    uint64_t promoted_cut;
    bool cutting; /* an operator's failover waits for a promotion */
    /* handing over the bitmap */
    uint64_t marks_number, marks_out; /* of the last batch; of the one under way */
    bool marks_ended;                 /* the one under way is the last */
    uint32_t marks_volume;
    uint64_t marks_page;
    /* after a clean stop of both; see copy_last.c */
    bool lacks; /* the other controller stopped last: only it knows what differs */
    enum site_gives gives;
    bool mirror_marks; /* the peer is being told of a bitmap that was handed over */
    uint32_t mirror_volume;
    uint64_t mirror_byte;
};

/* What a coordinator waits for: the answer to its message. */
struct set_ask {
    bool waits;
    bool local; /* the coordinator is this controller: `handle` is the message's number */
    uint64_t handle;
};

/* A cut that this member has a part in. */
struct set_cut {
    uint64_t cut;   /* 0: this place is free */
    uint64_t cycle; /* which is its part; 0: not closed yet */
    bool marked;    /* the other half has closed it too */
    bool released;
    struct set_ask close, release, promote;
};

/*     OUT --RESOLVE--> SEALING --its second array says so--> SEALED --BEGIN--> BEGINNING --> RUNS
 *      what breaks the group's term, from any of them: OUT                                       */
enum set_phase { SET_OUT, SET_SEALING, SET_SEALED, SET_BEGINNING, SET_RUNS };

/* A group as the member of a set, at its leader. */
struct set_member {
    enum set_phase phase;
    uint64_t run;
    struct set_ask resolve, begin, wanted;
    uint64_t target;           /* BEGINNING: the cut that the second array is to have promoted */
    uint64_t term;             /* RUNS: in which the run's batches go */
    struct copy_state sealed;  /* SEALED and later: what the second array said when it was */
    uint64_t seal_term, asked; /* asked: number of the batch with KEEP that is under way; 0: none */
    uint64_t batch_number;
    bool promotes;      /* that batch is a promotion */
    uint64_t asked_for; /* the cut of the last one that was answered GOOD in this run */
    uint64_t promoted;
    struct set_cut cuts[COPY_CLOSED];
    uint8_t bytes[COPY_HEAD_SIZE + COPY_RECORD_SIZE];
    struct iovec iov;
};

/* How long completions are held at this half; the cycle is sender.holding. */
struct set_hold {
    uint64_t since_us, until_us;
    uint64_t release_due; /* RELEASE of this cycle has to be said */
    uint64_t holds, late, last_us, longest_us, total_us;
};

struct group {
    const struct group_config *config;
    struct site site;
    enum group_role role; /* as site.now says; only copy_site.c changes it */
    uint64_t era;         /* the same */
    struct sender sender;
    struct second second; /* what is received, when config->room_pages is not zero */
    struct set_member member;
    struct set_hold hold;
    struct coordinator coordinator; /* when it is member 0 */
    uint8_t cut_bytes[SET_LIMIT][CUT_WINDOW][CUT_MESSAGE_SIZE];
    bool up;           /* a session to the second array, whose state is `state` */
    bool resetting;    /* the shell has been asked to drop it */
    bool more;         /* the next pump, at once, reads or encodes further pages */
    uint64_t pause_us; /* while hosts are served: not before, a piece of the copy's work */
    struct copy_state state;
    uint64_t memory_known; /* state.memory when batches were last sent; 0: never */
    bool suspended;
    bool resumed;                   /* has to be said, by FALL */
    bool fall_all;                  /* the same: everything is marked */
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
    struct copy_encoding encoding;
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
    uint64_t host_us; /* when a host asked for something last */
    bool answered;    /* somebody was, and no piece of the copy's work was done since */
    bool moment;      /* this pump: nobody waits for anything, and somebody was just answered */
    uint8_t fresh_in; /* who was in the register when this controller began to serve */
    struct copy_action *actions;
    struct group_record *records;
    struct copy_reply *replies;
    struct cut_reply *cut_replies;
    struct cut_action *cut_actions;
    uint32_t holds;              /* groups whose completions are held */
    uint32_t foreign;            /* slots of our own half that are held for other arrays */
    bool hungry;                 /* and a page that is to be held waits for a slot */
    uint8_t *bitmaps;            /* BITMAP_PIECES pages: the data of the active list */
    uint32_t bitmaps_in_list;    /* BITMAP headers in the filling list */
    uint32_t held_in_list;       /* pages of arrivals in it */
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
/* The same by the leader, in the group's next term; the peer hears of it. */
void copy_restart_both(struct array *array, struct group *group);
/* The cycle was promoted; false: that cannot be. */
bool copy_confirm(struct array *array, struct group *group, uint64_t cycle);
/* At most `count` slots of the cycle that was confirmed last leave its lists; true: none is left on
 * them. Before the lists are looked at as a whole all of them must. */
bool copy_give_back(struct array *array, struct group *group, uint32_t count);
/* The session, and all that is under way in it, is to be made anew. */
void copy_drop_session(struct array *array, struct group *group);

const char *copy_check(const struct array *array);
void copy_status(const struct array *array, struct array_status *status);

/* ---- copy_stream.c ---- */

/* Sealing: a WRITE learns its cycle, a GROUP or BITMAP its data. Once a WRITE has its checksum, the
 * second array's record of the same sectors has it, too. */
void copy_seal_write(const struct array *array, const struct slot *slot, struct header *header);
void copy_sealed_write(struct array *array, const struct slot *slot, const struct header *header);
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
/* The whole bitmap, from where the last call stopped; false: there is more to say. */
bool copy_say_bitmaps(struct array *array, struct group *group, uint32_t *at_volume,
                      uint64_t *at_byte);

/* ---- copy_set.c: several primary arrays ---- */

/* In its first direction only: on the way home each group goes by itself, while its set's other
 * groups may be anywhere. */
static inline bool copy_in_set(const struct group *group)
{
    return group->config->set.member_count != 0 && group->config->side == GROUP_PRIMARY;
}
void copy_set_create(struct group *group);
/* The group's cycles are over, or begin anew: it takes part in no run any more. */
void copy_set_break(struct array *array, struct group *group);
void copy_set_pump(struct array *array, struct group *group);
uint64_t copy_set_deadline(const struct array *array, const struct group *group);
/* Whether the group may begin cycles, and whether batches may go to the second array. */
bool copy_set_may_begin(const struct group *group);
bool copy_set_may_send(const struct group *group);
/* Cycles have begun from the bitmap: whether that was for the set. */
void copy_set_begun(struct array *array, struct group *group);
/* The peer has closed the cycle, as MARK said. */
void copy_set_marked(struct array *array, struct group *group, uint64_t cycle);
/* Whether the answer was to a batch of this file. */
bool copy_set_answered(struct array *array, struct group *group, uint64_t number, bool good);
/* The session to the second array is up or lost. */
void copy_set_session(struct array *array, struct group *group);
/* When cut after cut fails in the same way: why, in place of the reason that stands there. */
void copy_set_reason(const struct group *group, char reason[TRACE_LINE]);
void copy_set_status(const struct array *array, const struct group *group, struct set_status *into);

/* ---- copy_set_hold.c ---- */

/* Completions to the group's volumes are held since this cycle was closed. */
void copy_set_hold(struct array *array, struct group *group, uint64_t cycle);
/* They may go; `late`: before anybody said so. */
void copy_set_let_go(struct array *array, struct group *group, bool late);
void copy_set_let_all_go(struct array *array);
bool copy_set_goes_on(struct array *array, struct request *request);
/* Those whose time is over. */
void copy_set_hold_pump(struct array *array);
uint64_t copy_set_hold_deadline(const struct array *array);
/* Whether the request, which is over, has to wait for that. */
bool copy_set_holds(const struct array *array, const struct request *request,
                    enum host_result result);
/* Whether the slot shows what was written since, and nobody may see that yet. */
bool copy_set_hides_slot(const struct array *array, const struct slot *slot);
static inline bool copy_set_hides(const struct array *array, const struct slot *slot);
/* The same of a page that was discarded since: it reads as zeros. */
bool copy_set_hides_range(const struct array *array, uint8_t volume, uint64_t page);

/* ---- copy_batch.c ---- */

void copy_send(struct array *array, struct group *group);
/* The batch that is being written is written anew when it is asked for again. */
void copy_stop_encoding(struct group *group);
void copy_forget_batches(struct group *group);

/* ---- copy_base.c ---- */

size_t copy_base_count(const struct group_config *config);
void copy_base_pump(struct array *array, struct group *group);
void copy_base_fetched(struct array *array, const struct slot *slot);
/* As many pages of the batch's cycle as it says become part of it, or are so already: the place of
 * the first. The following ones by `next`. */
uint32_t copy_base_take(struct group *group, const struct sender_batch *batch);
void copy_base_confirmed(struct group *group, uint64_t cycle);
void copy_base_forget(struct group *group);
bool copy_base_reads(const struct group *group, uint8_t place);

/* ---- copy_pump.c ---- */

/* Whether this controller may decide about its groups now. */
bool copy_serves(const struct array *array);
bool copy_joiner_may_go_on(const struct array *array);
void copy_pump(struct array *array);
uint64_t copy_deadline(const struct array *array);
/* A term that is newer than any that was used. */
uint64_t copy_next_term(const struct array *array, const struct group *group);

/* ---- copy_site.c, copy_site_record.c, copy_site_marks.c ---- */

void copy_site_create(struct array *array, struct group *group);
/* Of the memory for records, as copy_lay_out() takes it. */
void copy_site_lay_out(struct group *group, const struct array_config *config, uint8_t index,
                       struct arena *arena);
/* This controller begins to serve with nothing in memory: what its record is worth then. Before
 * that: how the register stood, when it was asked. */
void copy_site_fresh(struct array *array, struct group *group);
void copy_site_note_fresh(struct array *array);
/* All memory has been dropped, and the receiver with it. */
void copy_site_forget(struct group *group);
/* The mirror is void: what the peer said of itself counts no more. */
void copy_site_mirror_void(struct group *group);
/* Paired: the peer is told, and tells. */
void copy_site_paired(struct array *array);
/* This controller is out. */
void copy_site_leave(struct array *array, struct group *group);
void copy_site_pump(struct array *array, struct group *group);
uint64_t copy_site_deadline(const struct array *array, const struct group *group);
/* A clean stop waits for the records. `left`: the peer goes on. */
bool copy_site_stopped(struct array *array, bool left);

/* How a host's request to a volume of the group ends that may not be carried out; HOST_OK: it may.
 */
enum host_result copy_site_judge(const struct group *group, enum host_op op);
/* Hosts wait: it is not known yet whether they may be served. */
static inline bool copy_site_waits(const struct group *group)
{
    const struct site *site = &group->site;
    return site->patient && !site->open &&
           (site->now.unknown || site->now.role == SITE_FAILED_OVER ||
            site->now.role == SITE_PRIMARY);
}
/* Whether hosts may not even read the volume here. */
bool copy_site_refuses(const struct array *array, uint8_t volume);
/* Whether cycles may run: this site is the primary, and the other one can take them. */
bool copy_site_copies(const struct group *group);
/* Whether batches may be taken: this site receives. */
bool copy_site_takes(const struct group *group);
/* Whether what is written to a slot may differ from what the other array has. What is promoted here
 * does not. */
static inline bool copy_notes(const struct group *group)
{
    return group->site.now.role != SITE_RECEIVING;
}
/* A batch of the other array. True: it has been dealt with, well (*why is NULL) or not. */
bool copy_site_message(struct array *array, struct group *group, const uint8_t *bytes,
                       uint32_t length_bytes, const char **why);
/* What the second array's state means for the role here. */
void copy_site_heard_state(struct array *array, struct group *group,
                           const struct copy_state *state);
/* What the group's state says of the role here, over what a receiver would say. */
void copy_site_state(const struct array *array, const struct group *group,
                     struct copy_state *state);
/* What is known of the second array cannot be relied upon: everything may differ. */
void copy_site_mark_all(struct array *array, struct group *group, const char *why);
/* At a primary: nothing is copied until an operator says resume. */
void copy_site_suspend(struct array *array, struct group *group, const char *why);

/* HEADER_SITE, and the same as a returned peer hears it. */
void copy_site_say(struct array *array, struct group *group, bool fills);
const char *copy_site_judge_header(const struct array *array, const struct header *header);
void copy_site_apply(struct array *array, const struct header *header);

bool copy_site_possible(const struct group *group, uint64_t era, uint32_t role);

/* The record. copy_site_keep(): whether it is durable as it is now; if not it is on its way, or
 * tried again. */
static inline bool copy_site_is_kept(const struct site *site)
{
    return site->kept.epoch != 0 && site->kept.era == site->now.era &&
           site->kept.role == site->now.role && !site->now.unknown;
}
bool copy_site_keep(struct array *array, struct group *group);
/* The bitmap, and what was promoted, of the record that was loaded. */
bool copy_site_restore(struct array *array, struct group *group);

/* ---- copy_last.c ---- */

/* Why a group stands still that lacks what only the other controller knows. */
extern const char copy_last_text[];

/* The record of the last stop is not here: whether it can be at the other controller. */
bool copy_last_is_the_other(const struct array *array, const struct site_record *kept);
/* Filled by a survivor that may lack it: what the record here is worth then. `counts`: where the
 * truth is was taken from the record here. */
void copy_last_fill(struct array *array, struct group *group, const struct header *header,
                    bool counts);
/* What the flags of a header from the peer say of it. */
void copy_last_heard(struct array *array, struct group *group, const struct header *header);
/* The flags of the next header to the peer. */
uint32_t copy_last_flags(struct group *group);
void copy_last_pump(struct array *array, struct group *group);
/* It cannot be told any more: everything may differ, and unless an operator has `asked` for that
 * the group is suspended. */
void copy_last_give_up(struct array *array, struct group *group, const char *why, bool asked);

/* The bitmap of a primary that was failed over, to the site that took over and from there. */
void copy_marks_give(struct array *array, struct group *group);
/* Whether the answer was to one of its batches. */
bool copy_marks_answered(struct array *array, struct group *group, uint64_t number, bool good);
/* The promotion that a failover waits for is done, or cannot be. */
void copy_site_cut_over(struct array *array, struct group *group, bool good);
/* The last of them was answered well. */
void copy_site_handed_over(struct group *group);
void copy_marks_begin_anew(struct group *group);
/* A batch for a site that does not receive. False: refused, and why. */
bool copy_marks_take(struct array *array, struct group *group, const uint8_t *bytes,
                     uint32_t length_bytes, const char **why);
void copy_marks_mirror(struct array *array, struct group *group);

#endif
