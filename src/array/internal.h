/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The controller's insides, shared by the files of this folder and by nobody else.
 *
 *   array.c    life, the pump, the action lists         link.c    hellos, sealing, answers,
 * messages host.c     reads, writes, flushes                   image.c   a peer's batch: judged
 * whole, then applied range.c    TRIM and WRITE ZEROES                    duty.c    what the role
 * orders: takeover, refill, moves, stop pages.c    slots: taking, dirtying, settling status.c  what
 * is shown stores.c   fetches, destages, flushes               audit.c   array_check() */

#ifndef ARRAY_INTERNAL_H
#define ARRAY_INTERNAL_H

#include "array/array.h"
#include "array/copy.h"
#include "cache/replace.h"
#include "cache/slot.h"
#include "destage/destage.h"
#include "mirror/lists.h"
#include "mirror/wire.h"
#include "role/role.h"
#include "volume/request.h"

enum {
    LOG_LINES = 512,
    OPERATOR_REPLIES =
        VOLUME_LIMIT + 64,  /* every move that ends at once, and a burst of questions */
    PAGES_PER_FETCH_IO = 8, /* scratch frames for each fetch in flight, beside one full-sized one */
    REFILL_STEP = 65536,    /* slots looked at in one pump while refilling */
    REFILL_COPIES = 1024,   /* pages copied in one such pump */
};

/* Which operation a store completion belongs to: the kind in the top bits, the index below. */
enum io_kind { IO_RUN = 1, IO_FLUSH, IO_FETCH, IO_RANGE, IO_ZERO };
enum { IO_KIND_SHIFT = 24 };

struct fetch_io {
    bool used;
    uint32_t count;
    uint32_t next_free;
    uint16_t frames[STORE_IO_PAGES];
    struct iovec iov[STORE_IO_PAGES];
};

/* Store reads land in scratch frames, so that a write to the page meanwhile disturbs nothing. */
struct fetches {
    struct fetch_io *ios;
    uint32_t io_count, io_free;
    uint32_t ios_used;
    uint8_t *frames;
    uint32_t *frame_slot; /* used: the slot it fills; free: the next free frame */
    uint32_t frame_count, frame_free, frames_used;
};

enum range_state {
    RANGE_FREE,
    RANGE_QUIET,
    RANGE_ANNOUNCE,
    RANGE_STORE,
    RANGE_FLUSH,
    RANGE_DROP,
    RANGE_MIRROR,
    RANGE_WRITE,
    RANGE_DEAD
};

/* A TRIM or WRITE ZEROES under way over whole pages: no other request touches them until it is
 * over. */
struct range {
    enum range_state state;
    uint8_t volume;
    bool trim, no_hole;
    bool covered; /* RANGE_FLUSH: by the flush under way */
    bool suspect; /* a flush of its store failed since it began */
    uint32_t request;
    uint64_t first, end; /* pages of the present chunk */
    uint64_t scan;       /* RANGE_QUIET: the next page to look at */
};

/* A volume's state record: what SCSI remembers of it, opaque here. */
struct volume_state {
    uint32_t version; /* 0: never set */
    uint32_t length;
    uint8_t *bytes; /* VOLUME_STATE_BYTES */
};

/* The one change of a state record that is under way. */
struct state_change {
    bool used;
    bool committed; /* done here; HOST_BARRIER: older requests are still to end */
    uint8_t volume;
    uint32_t request;
    uint32_t version, length; /* the new ones */
    uint8_t *bytes;
};

/* A host's request that the peer carries out, or its present step. */
struct ship {
    uint32_t request; /* or NO_INDEX: free */
    uint32_t next_free;
    uint32_t tag;
    bool out;              /* with the shell: its data may not move and it may not end */
    bool lost;             /* the session broke: what became of it is known when the next is up */
    bool flush;            /* sent as a FLUSH, because only durability is missing */
    uint64_t length_bytes; /* of the step */
    uint64_t done_bytes;   /* of the step: what the peer's stream says is done */
    uint32_t gone_on; /* tag of a lost step that was here: nothing may come about it any more */
};

struct ships {
    bool up;
    bool reset_wanted;
    bool late_progress;    /* something did come: array_check() */
    uint64_t again_us;     /* after a refusal nothing is shipped before */
    uint32_t session;      /* ours to the peer, while it is up */
    uint32_t served, said; /* the peer's that is let in here; the one that our stream has named */
    uint32_t used, lost, free;
    uint32_t generation;
    struct ship ship[SHIP_LIMIT];
    struct ship_action actions[SHIP_LIMIT];
};

enum move_state { MOVE_NONE, MOVE_DESTAGE, MOVE_HOLD, MOVE_SENT };

struct volume {
    const struct volume_config *config;
    uint64_t page_count;
    uint8_t owner;
    uint8_t group, group_place; /* of the remote copy; NO_GROUP: in none */
    uint32_t tenure; /* goes up when the volume is taken over: what was clean before may be old */
    enum move_state move;
    bool move_answer; /* an operator waits */
    uint64_t move_handle;
    uint64_t move_cut; /* MOVE_DESTAGE: the flush generation to wait for */
    uint64_t move_since_us;
    uint32_t active;         /* requests that have begun and not ended */
    uint32_t side_active[2]; /* those that may change the volume, by the side of the last
                                HOST_BARRIER that they began on */
    uint8_t side;
    struct volume_state state;
    enum array_service service_said; /* as last put into actions.changed */
    uint32_t fetches;                /* pages being fetched */
    struct volume_status status;
};

struct incoming {
    bool open;
    uint64_t stream;
    uint64_t epoch;        /* of its sender, when it began */
    uint64_t applied;      /* number of the last batch applied */
    uint32_t ship_session; /* as it said: ours that the peer serves */
};

struct outgoing {
    bool link_up;
    bool greeted; /* the peer has answered our hello in this session */
    bool hello_wanted;
    bool hello_sent; /* a hello is under way */
    bool batch_sent; /* a batch is under way, even when its list was voided since */
    uint64_t hello_next_us;
    uint64_t message_us; /* when the message under way was given to the link */
    uint8_t hello[HELLO_SIZE];
    struct iovec hello_iov;
};

enum refill_state { REFILL_NONE, REFILL_CLOSING, REFILL_SENDING, REFILL_READY, REFILL_DONE };

struct refill {
    enum refill_state state;
    uint32_t states; /* volumes whose state record has been sent, or need not be */
    uint32_t group;  /* of the remote copy: before it all ranges and bitmaps have been sent */
    uint32_t group_range, group_volume;
    uint64_t group_byte;
    uint32_t group_held;
    uint32_t cursor;
    bool again; /* something was under way that may have to be sent after all */
};

struct array {
    struct array_config config;
    uint64_t now_us;

    struct slot_table table;
    struct replace replace;
    struct destage destage;
    struct lists lists;
    struct role_machine role;
    struct request_pool requests;
    struct fetches fetches;
    struct range ranges[RANGE_OPS];
    uint32_t ranges_used;
    struct volume volumes[VOLUME_LIMIT];
    struct incoming incoming;
    struct outgoing outgoing;
    struct refill refill;
    struct copy copy;

    uint32_t batch_marks;
    bool mirroring; /* writes go to the filling list: paired, or solo while refilling */
    bool stopping, leave_sent, leave_answered, peer_stopping;
    bool drop_pending; /* what the memory holds is stale: forget it as soon as no store operation
                          uses it */
    bool homing;       /* a fresh start: volumes go to their homes when the peer joins */
    /* By store: what a former owner wrote may be visible there and not durable. No page is read
     * until a flush has been done, or a host could see what the store then loses. */
    uint64_t barrier_wanted, barrier_covered; /* covered: by the flush under way */
    uint64_t barrier_retry_us;
    enum role logged_role;
    char logged_reason[sizeof((struct role_machine){0}.reason)];
    bool solo_drained; /* since this solo began, everything acknowledged before it has become
                          durable */
    uint64_t solo_cut;
    uint32_t high_slots, low_slots;
    uint64_t pace_us;    /* when pace_credit was last topped up */
    int64_t pace_credit; /* millionths of a page that may be destaged now, while nobody waits */
    bool pace_due;       /* there is more to destage than the pace allows at once */
    bool fill_first;     /* a page that is to be destaged waits for a place for its fetch */
    uint64_t flushed_us; /* when a store was last asked to flush destaged runs */
    uint64_t stream_count;
    uint32_t config_crc;
    bool misfit_logged;

    struct request_queue run;         /* to be run in the next pump */
    struct request_queue room_writes; /* in arrival order, until there is room */
    struct request_queue room_reads;
    struct request_queue held;       /* until the role serves again, or the move is over */
    struct request_queue range_wait; /* until a range is over */
    struct request_queue flush_wait; /* until a generation is durable */
    struct request_queue state_wait; /* until the change of a state record is over */
    struct request_queue move_wait;  /* until a move is over */
    struct request_queue ship_wait;  /* until a ship is free and the session is up */
    struct request_queue hold_wait;  /* over; until the cut of a set of groups is made */
    struct state_change state_change;
    struct ships ships;
    uint64_t changed_volumes[VOLUME_LIMIT / 64]; /* for the next actions.changed */
    bool reserved;          /* the writes of this moment have made sure of their room */
    uint32_t service_stamp; /* counts what may change array_service(): moves and owners */
    uint32_t service_stamp_said;
    enum role service_role_said;
    uint32_t store_waiting; /* writes in REQUEST_STORE */
    bool room_turn;         /* the request being run is the first of room_writes */

    struct request *synchronous; /* the request array_host() is dealing with */
    struct host_outcome outcome;
    struct request *last_held;

    struct stream_status sent, received;
    uint64_t host_pages;
    uint64_t controls_sent; /* headers of role changes, moves, state records and progress */

    struct actions actions;
    bool drained; /* the last actions have been handed out */
    struct store_action *store_actions;
    uint32_t store_action_limit;
    struct completion *completions;
    struct operator_reply operators[OPERATOR_REPLIES];
    struct log_line log[LOG_LINES];
    uint32_t log_lost;
};

/* ---- array.c ---- */
void array_begin(struct array *array,
                 uint64_t now_us); /* first thing in every entry: time, fresh action lists */
__attribute__((format(printf, 3, 4))) void array_log(struct array *array, enum log_level level,
                                                     const char *format, ...);
#define TRACE(array, ...)                                                                          \
    do {                                                                                           \
        if (__builtin_expect((array)->config.trace, 0))                                            \
            array_log((array), LOG_TRACE, __VA_ARGS__);                                            \
    } while (0)
void array_store_action(struct array *array, const struct store_action *action);
void array_reply(struct array *array, uint64_t handle, bool done, const char *text);

static inline bool array_is_solo(const struct array *array)
{
    return array->role.state == ROLE_SOLO;
}

static inline bool array_owns(const struct array *array, uint8_t volume)
{
    return array->volumes[volume].owner == array->config.self;
}

static inline uint32_t io_id(enum io_kind kind, uint32_t index)
{
    return (uint32_t)kind << IO_KIND_SHIFT | index;
}

/* Sectors of a page that lie inside its volume. */
static inline uint8_t page_mask(const struct volume *volume, uint64_t page)
{
    uint64_t left = (volume->config->size_bytes - page * PAGE_SIZE_BYTES) / SECTOR_SIZE;
    return left >= PAGE_SECTORS ? SLOT_SECTORS_ALL : (uint8_t)((1u << left) - 1);
}

/* ---- host.c ---- */
void host_run(struct array *array, struct request *request);
void host_complete(struct array *array, struct request *request, enum host_result result);
void host_resume(struct array *array, struct request_queue *queue); /* all of it to `run` */
void host_pump(struct array *array);
void host_refuse_all(struct array *array);
/* The peer's requests must change nothing from here on: its hosts may have sent them again to us,
 * been answered, and gone on. Each is refused when it would next do something. */
void host_drop_shipped(struct array *array);
void host_wait_slot(struct array *array, struct request *request, struct slot *slot);
/* One page's part [from, to) of a write (`data` NULL: zeros). False: the request now waits
 * somewhere. */
bool host_write_page(struct array *array, struct request *request, uint64_t page, uint32_t from,
                     uint32_t to, const uint8_t *data);
void host_write_applied(struct array *array, struct request *request);
/* All of it is in both memories: what is left is to wait for the store, where that is promised. */
void host_write_mirrored(struct array *array, struct request *request);
/* The slot's data may be seen now (mirrored, fetched, durable): waiters take what they need, or run
 * again. */
void host_slot_settled(struct array *array, struct slot *slot, bool durable);
void host_slot_fetch_failed(struct array *array, struct slot *slot, bool retry);

/* Whether a write of `pages` pages may be made as one step: with `headers` in one list and `slots`
 * fresh slots. False: the request now waits for room. */
bool host_reserve(struct array *array, struct request *request, uint32_t headers, uint32_t slots,
                  uint32_t pages);
/* A page of the request is absent or in part: fetch it and wait. */
void host_fetch(struct array *array, struct request *request, struct slot *slot, uint64_t key);
void host_wait_room(struct array *array, struct request *request);
/* Of those that wait for room, end what was judged by a record that a barrier has replaced, and run
 * what has been dropped, which ends too. The others keep their order. */
void host_clear_room_line(struct array *array);
void host_complete_detail(struct array *array, struct request *request, enum host_result result,
                          uint64_t detail);

/* ---- compare.c ---- */
void compare_run(struct array *array, struct request *request);

/* ---- state.c ---- */
size_t state_bytes_needed(uint32_t volume_count);
void state_create(struct array *array, uint8_t *memory);
void state_run(struct array *array, struct request *request);
/* Whether a HOST_VERSIONED request may begin; else it has been completed or waits. */
bool state_admit(struct array *array, struct request *request);
void state_seal(struct array *array, struct header *header);
void state_apply(struct array *array, const struct header *header, const uint8_t *data);
void state_forget_all(struct array *array);
void state_request_over(struct array *array, const struct request *request);
/* The header for a volume's present record. There must be room for LISTS_STATE_WEIGHT headers. */
void state_send(struct array *array, uint8_t volume);
void state_changed(struct array *array, uint8_t volume);
void state_pump(struct array *array);

/* ---- ship.c ---- */
void ship_create(struct array *array);
void ship_request(struct array *array, struct request *request);
void ship_resume(struct array *array); /* what a lost session left behind looks where to go on */
void ship_pump(struct array *array);
uint64_t ship_deadline(const struct array *array);
/* At the owner: how far a shipped request has come; there must be room for one header. */
void ship_note_progress(struct array *array, struct request *request, uint64_t done_bytes);
/* At the sender: the owner's word about that. */
void ship_progress(struct array *array, uint32_t tag, uint64_t done_bytes);
/* The peer is lost, or this controller is out: what is under way ends with the session. */
void ship_leave(struct array *array);
/* A request must end. False: it will, with the session. */
bool ship_refuse(struct array *array, struct request *request);

/* ---- range.c ---- */
void range_run(struct array *array, struct request *request);
bool range_covers(const struct array *array, uint8_t volume, uint64_t page,
                  const struct request *except);
void range_on_store(struct array *array, uint32_t index, enum store_result result);
void range_on_flush(struct array *array, struct range *range, enum store_result result);

/* ---- pages.c ---- */
struct slot *pages_find(struct array *array, uint64_t key);
struct slot *pages_take(struct array *array, uint64_t key, bool for_read);
/* The slot that a write to the page may change, or NULL: wait for room. `slot`: what pages_find()
 * has just found for it. */
struct slot *pages_write_slot(struct array *array, struct slot *slot, uint64_t key);
void pages_written(struct array *array, struct slot *slot, uint8_t touched);
void pages_acknowledged(struct array *array, struct slot *slot);
void pages_mirror_void(struct array *array);
void pages_durable(struct array *array, struct slot *slot);
void pages_keep_clean(struct array *array, struct slot *slot); /* CLEAN, filled: kept for reads */
void pages_send(struct array *array, struct slot *slot);       /* DIRTY becomes FILLING, whole */
bool pages_relocate(struct array *array, struct slot *slot);
/* The same for a slot that is CLEAN and pinned. */
bool pages_relocate_pinned(struct array *array, struct slot *slot);
/* A pinned slot, CLEAN or DIRTY, whose page has another slot or was discarded: it stays outside the
 * index. */
void pages_put_aside(struct array *array, struct slot *slot);
/* The remote copy needs the slot no more. */
void pages_unpinned(struct array *array, struct slot *slot);
/* Make sure that `slots` slots of our own half are free, and that `pages` may become dirty. */
bool pages_reserve(struct array *array, uint32_t slots, uint32_t pages);

/* ---- stores.c ---- */
void stores_create(struct fetches *fetches, struct arena *arena, uint32_t io_count);
/* Fetch the page of `slot` (in the index, no fetch yet), and those that follow of the same volume
 * up to `end_page` that are absent, in one read. False: no fetch or no frame free. */
bool stores_fetch(struct array *array, struct slot *slot, uint64_t end_page);
void stores_pump(struct array *array);
uint64_t stores_deadline(const struct array *array);
bool stores_quiet(const struct array *array); /* no store operation under way */

static inline struct group *copy_group(const struct array *array, uint8_t volume)
{
    uint8_t group = array->volumes[volume].group;
    return group == NO_GROUP ? NULL : &array->copy.groups[group];
}

static inline bool copy_set_hides(const struct array *array, const struct slot *slot)
{
    return array->copy.holds > 0 && (slot->pinned || slot->superseded) &&
           copy_set_hides_slot(array, slot);
}

/* ---- link.c ---- */
void link_pump(struct array *array);
uint64_t link_deadline(const struct array *array);

/* ---- image.c ---- */
bool image_message(struct array *array, const uint8_t *bytes, uint32_t length);
void image_drop_all(struct array *array);

/* ---- duty.c ---- */
void duty_orders(struct array *array);
void duty_pump(struct array *array);
void duty_acknowledged(struct array *array, const struct header *header);
void duty_moved_here(struct array *array, uint8_t volume);
void duty_peer_leaves(struct array *array);
void duty_abort_refill(struct array *array);
void duty_move(struct array *array, uint8_t volume);              /* to the other controller, now */
void duty_move_run(struct array *array, struct request *request); /* HOST_MOVE */

#endif
