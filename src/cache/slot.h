/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The slot table: every 4 KiB frame of the controller's memory, which page it holds, and how far
 * that page's newest data has come. One index finds the slot of a page. The first half of the table
 * is this controller's own cache; the second half is the mirror image of the peer's, slot for slot:
 * the peer's slot s stands here as half + s. Both halves share the one index, because a page
 * belongs to a volume and a volume to one controller; so a takeover has nothing to rebuild.
 *
 * This file never decides which slot to give up (replace.c) or to destage (destage/), and copies no
 * data. */

#ifndef CACHE_SLOT_H
#define CACHE_SLOT_H

#include "base/arena.h"
#include "base/limits.h"

/* A slot's life. A slot outside the index is `superseded`: its page has a newer slot (or was
 * discarded), and it lives on only until what carries it has finished.
 *
 *            slot_take                        list_seal                mirror acknowledged
 *     FREE ------------> CLEAN --write--> FILLING --------> TRAVELLING -----------------+
 *      ^                 | ^ \               ^                   |                      |
 *      |  slot_release   | |  \ write, solo  | write, refill     | mirror lost          |
 *      +-----------------+ |   \             |                   v                      |
 *      |                   |    +---------> DIRTY <--------------+----------------------+
 *      |    write, flush   |                | ^
 *      |    done           |   destage_pick | | store error
 *      +---------------- DESTAGING <--------+ |
 *        (superseded)      |__________________|
 *
 * While the remote copy needs it a superseded slot stays, CLEAN, when nothing else carries it: it
 * comes there from any state but FREE. So does a page that another array has sent and that does not
 * count yet (`foreign`).
 *
 * CLEAN       the store has what `valid` marks, durably; the only state that may be given up
 * FILLING     named by a header in the filling list; not mirrored; may be written in place
 * TRAVELLING  named by the active list, on its way to the peer; immutable
 * DIRTY       newer than the store; mirrored (paired) or the only copy (solo); may be written in
 * place DESTAGING   a store write of it, or the flush after that write, is under way; immutable */
enum slot_state {
    SLOT_FREE,
    SLOT_CLEAN,
    SLOT_FILLING,
    SLOT_TRAVELLING,
    SLOT_DIRTY,
    SLOT_DESTAGING,
    SLOT_STATE_COUNT
};

enum { SLOT_SECTORS_ALL = 0xFF };

/* Lists that a slot can stand on; it stands on at most one. */
enum slot_list_id {
    LIST_NONE,
    LIST_FREE,    /* FREE, own half */
    LIST_SMALL,   /* CLEAN, own half: seen once lately */
    LIST_MAIN,    /* CLEAN, own half: seen again */
    LIST_BACKLOG, /* DIRTY, oldest first: destaged ahead of need */
    LIST_URGENT,  /* DIRTY, oldest first: a host waits for the store */
    LIST_FAILED,  /* DIRTY or superseded after a store error: tried again later */
    LIST_IMAGE, /* DIRTY in the image half, in the order of application; after a takeover: adopted,
                   to be destaged */
    LIST_COUNT
};

struct slot {
    uint64_t key;          /* slot_key(): what page; meaningless when FREE */
    uint32_t hash_next;    /* next in the index chain */
    uint32_t prev, next;   /* links of `list` */
    uint32_t waiters;      /* first request that waits for this slot (array/) */
    uint32_t elder;        /* older slot of the page that is still being destaged: it goes first */
    uint32_t mirror_stamp; /* equals its volume's in slot_table.mirror_stamps: the peer's copy of
                              this slot is valid */
    uint32_t batch_mark;   /* image half: last batch that touched it, while a batch is checked */
    uint32_t dirty_ms;     /* LIST_BACKLOG: when it came there; CLEAN: its volume's tenure then */
    uint16_t fetch;        /* 1 + index of the store read that fills this slot, or 0 */
    uint8_t state;         /* enum slot_state; written by slot_set_state() only */
    uint8_t list;          /* enum slot_list_id; written by the list functions only */
    uint8_t valid;         /* sectors that hold the page's newest data */
    uint8_t dirty;         /* sectors newer than the store; part of valid */
    uint8_t send;          /* FILLING, TRAVELLING: sectors its header carries */
    uint8_t frequency;     /* hits since it was last looked at by replacement, at most 3 */
    uint8_t generation;    /* dirty: which flush generation counts it (destage/generation.h) */
    bool counted : 1;      /* dirty: counted in its generation */
    bool superseded : 1;   /* not in the index */
    bool unsafe : 1;       /* holds a write that no host may see yet: not mirrored, or solo and not
                              durable */
    bool failed : 1;       /* its last store write failed */
    bool held : 1; /* a TRIM or WRITE ZEROES is about to discard it: not to be destaged meanwhile */
    bool fresh : 1;  /* FILLING, TRAVELLING: the header gives the slot a new identity at the peer */
    bool pinned : 1; /* the remote copy needs it: it is neither given up nor released */
    bool foreign : 1; /* another array sent it, and has not said yet that it counts: outside the
                         index, neither read nor destaged nor given up */
    bool settled : 1; /* FILLING, TRAVELLING: sent only for the mirror's sake; the remote copy knows
                         of all that it holds */
};

_Static_assert(sizeof(struct slot) <= 64, "a slot's record fits a cache line");

struct slot_list {
    uint32_t head, tail;
    uint32_t count;
};

struct slot_table {
    struct slot *slots;
    uint8_t *frames;
    uint32_t *buckets;
    uint32_t bucket_mask;
    uint32_t half; /* slots of each half */
    uint32_t total;
    uint32_t last_stamp;
    uint32_t mirror_stamps[VOLUME_LIMIT]; /* by volume: a new one makes all its copies at the peer
                                             invalid at once */
    uint32_t state_count[2][SLOT_STATE_COUNT]; /* by half */
    struct slot_list lists[LIST_COUNT];
};

/* `half` slots of our own and as many for the image. */
void slot_table_create(struct slot_table *table, struct arena *arena, uint32_t half);

static inline uint64_t slot_key(uint8_t volume, uint64_t page)
{
    return (uint64_t)volume << 48 | page;
}

static inline uint8_t slot_key_volume(uint64_t key)
{
    return (uint8_t)(key >> 48);
}

static inline uint64_t slot_key_page(uint64_t key)
{
    return key & 0xFFFFFFFFFFFFu;
}

static inline struct slot *slot_at(const struct slot_table *table, uint32_t index)
{
    CHECK(index < table->total);
    return &table->slots[index];
}

static inline uint32_t slot_index(const struct slot_table *table, const struct slot *slot)
{
    return (uint32_t)(slot - table->slots);
}

static inline uint8_t *slot_frame(const struct slot_table *table, const struct slot *slot)
{
    return table->frames + (size_t)slot_index(table, slot) * PAGE_SIZE_BYTES;
}

static inline bool slot_in_image(const struct slot_table *table, const struct slot *slot)
{
    return slot_index(table, slot) >= table->half;
}

/* FILLING, TRAVELLING, DIRTY or DESTAGING: holds data the store lacks. */
static inline bool slot_is_dirty(const struct slot *slot)
{
    return slot->state >= SLOT_FILLING;
}

/* Something carries it: nobody may change its bytes. */
static inline bool slot_is_carried(const struct slot *slot)
{
    return slot->state == SLOT_TRAVELLING || slot->state == SLOT_DESTAGING;
}

static inline bool slot_is_mirrored(const struct slot_table *table, const struct slot *slot)
{
    return slot->mirror_stamp == table->mirror_stamps[slot_key_volume(slot->key)];
}

static inline void slot_set_mirrored(const struct slot_table *table, struct slot *slot,
                                     bool mirrored)
{
    slot->mirror_stamp = mirrored ? table->mirror_stamps[slot_key_volume(slot->key)] : 0;
}

/* The peer's copies of the volume's slots are invalid: it dropped them, or they are its own now. */
void slot_mirror_forget(struct slot_table *table, uint8_t volume);
void slot_mirror_forget_all(struct slot_table *table);

/* Everything FREE again, in no time that depends on what was there; nothing may be under way. */
void slot_table_reset(struct slot_table *table);

/* The slot of a page, or NULL. */
struct slot *slot_find(const struct slot_table *table, uint64_t key);

/* A FREE slot of our own half becomes CLEAN with nothing valid, in the index, on no list; NULL when
 * none is free. */
struct slot *slot_take(struct slot_table *table, uint64_t key);

/* The image's slot `index` (FREE) takes a page of the peer's: DIRTY, in the index, last of
 * LIST_IMAGE. */
struct slot *slot_take_image(struct slot_table *table, uint32_t index, uint64_t key);

/* The slot leaves the index, keeping its data for what carries it. */
void slot_supersede(struct slot_table *table, struct slot *slot);
/* It comes (back) into the index, where its page has no slot. */
void slot_reinstate(struct slot_table *table, struct slot *slot);

/* Any state but TRAVELLING, DESTAGING and FILLING (unless superseded or the mirror was lost)
 * becomes FREE: out of the index, off its list; own slots go to LIST_FREE. It must have no waiters
 * and no fetch. */
void slot_release(struct slot_table *table, struct slot *slot);

/* The only writer of slot.state; asserts that the step is in the diagram. */
void slot_set_state(struct slot_table *table, struct slot *slot, enum slot_state state);

void slot_list_append(struct slot_table *table, enum slot_list_id list, struct slot *slot);
void slot_list_prepend(struct slot_table *table, enum slot_list_id list, struct slot *slot);
void slot_list_remove(struct slot_table *table,
                      struct slot *slot); /* from whichever it stands on, if any */

/* The oldest of a list, or NULL. */
static inline struct slot *slot_list_first(const struct slot_table *table, enum slot_list_id list)
{
    uint32_t head = table->lists[list].head;
    return head == NO_INDEX ? NULL : &table->slots[head];
}

static inline uint32_t slot_list_count(const struct slot_table *table, enum slot_list_id list)
{
    return table->lists[list].count;
}

static inline uint32_t slot_dirty_count(const struct slot_table *table, int half)
{
    const uint32_t *count = table->state_count[half];
    return count[SLOT_FILLING] + count[SLOT_TRAVELLING] + count[SLOT_DIRTY] + count[SLOT_DESTAGING];
}

#endif
