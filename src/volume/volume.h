/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What a host sees: a volume, and what may be asked of it. A volume is a range of one store; one
 * controller owns it at a time. Offsets and lengths are bytes; the core takes any alignment. */

#ifndef VOLUME_VOLUME_H
#define VOLUME_VOLUME_H

#include "base/check.h"
#include "base/limits.h"

enum host_op {
    HOST_READ,
    HOST_WRITE,
    HOST_FLUSH,
    HOST_TRIM, /* whole pages read as zeros afterwards where the store can discard; else nothing
                  changes */
    HOST_ZERO, /* the range reads as zeros afterwards */
    /* If the range holds the first half of `data`, write the second half, as one step that no other
     * request sees half of, at either controller, also across a takeover (SBC-3 5.2). */
    HOST_COMPARE_WRITE,
    /* Replace the volume's state record: `length_bytes` from `data`; if it still has
     * `state_version`. Complete when both controllers have the new one. */
    HOST_STATE,
    HOST_MOVE, /* give the volume to controller `offset_bytes` (0 a, 1 b); complete when it is there
                */
    HOST_OP_COUNT
};

enum {
    HOST_FUA = 1,     /* complete only when as safe as a following FLUSH would make it */
    HOST_NO_HOLE = 2, /* HOST_ZERO: keep the blocks allocated */
    /* Refuse with HOST_STALE unless the volume's state record has `state_version` when the request
     * begins at the controller that carries it out. */
    HOST_VERSIONED = 4,
    HOST_BARRIER = 8,  /* HOST_STATE: complete only when what had begun before the change and may
                          change the volume has ended */
    HOST_SHIPPED = 16, /* the peer sent it: it is never sent on. `tag` is the peer's */
    HOST_HERE = 32,    /* do not ship: HOST_NOT_OWNER when the other controller serves the volume */
};

/* How a host's request ends. */
enum host_result {
    HOST_OK,
    HOST_NOT_OWNER,  /* the other controller serves this volume, or none does now; ask there */
    HOST_RANGE,      /* outside the volume */
    HOST_BUSY,       /* no request slot free: the caller broke its own limit */
    HOST_IO_ERROR,   /* the store failed a read */
    HOST_MISCOMPARE, /* HOST_COMPARE_WRITE: the data differ, first at byte `detail`; nothing changed
                      */
    HOST_STALE,      /* the state record has another version: look at it again */
    HOST_REFUSED,    /* HOST_MOVE: not possible now */
    HOST_COPY,       /* the volume is a copy, or its group was failed over: hosts use the other
                        array's */
    HOST_READ_ONLY,  /* the same, and only reads are allowed */
};

struct volume_config {
    char name[VOLUME_NAME_SIZE];
    uint64_t size_bytes;         /* a multiple of SECTOR_SIZE */
    uint64_t store_offset_bytes; /* a multiple of the store's block_size_bytes */
    uint8_t store;               /* index into the stores */
    uint8_t home;                /* the controller that owns it when both are well: 0 = a, 1 = b */
    bool flush_destage;          /* FLUSH and FUA wait for the store even while the mirror is up */
};

enum group_side {
    GROUP_PRIMARY, /* hosts write here; what they write is copied to the second array */
    GROUP_SECOND,  /* this array holds the copy */
    GROUP_SIDE_COUNT
};

/* The set that a group is a part of, when hosts write to several primary arrays and their copies
 * must be of one moment (docs/remote-copy.md, "Several primary arrays"). Each array of the set has
 * one group in it, its member; member 0's leader coordinates. Where copies of several members are
 * at one second array, its configuration has several groups with the same set there. */
struct group_set {
    uint8_t member_count;      /* 0: in no set; else 2 to SET_LIMIT */
    uint8_t self;              /* which member the group is */
    uint8_t id[GROUP_ID_SIZE]; /* of the set; the same at all arrays */
    uint32_t hold_ms;          /* completions of writes are held so long for a cut, at most */
};

/* Volumes that the remote copy keeps in the order of their writes (docs/remote-copy.md). */
struct group_config {
    char name[VOLUME_NAME_SIZE];
    uint8_t id[GROUP_ID_SIZE]; /* the same at both sites */
    uint8_t side;              /* enum group_side */
    uint32_t volume_count;
    uint8_t volumes[VOLUME_LIMIT]; /* which ones; a volume's place here is its number between the
                                      sites */
    uint32_t budget_pages; /* pages of this controller that may wait for the second array; past it
                              the group falls back to its bitmap */
    uint32_t room_pages;   /* pages of this controller that may be held for the other array while
                              they wait for its word to promote them; GROUP_SECOND: not zero */
    uint32_t base_pages;   /* pages of marked regions that one cycle carries */
    uint64_t shortest_us;  /* between two cuts */
    bool expose;           /* GROUP_SECOND: hosts may read the copy */
    struct group_set set;
};

struct host_request {
    uint64_t handle; /* the caller's; comes back in the completion */
    enum host_op op;
    uint8_t volume;
    uint8_t flags;          /* HOST_FUA and its kin */
    uint32_t tag;           /* HOST_SHIPPED: what the peer calls the request; not zero */
    uint32_t state_version; /* HOST_VERSIONED, HOST_STATE */
    uint64_t offset_bytes;
    /* READ and WRITE: at most HOST_IO_BYTES; TRIM and ZERO: any; COMPARE_WRITE: at most
     * COMPARE_WRITE_BYTES, and `data` is twice as long; STATE: at most VOLUME_STATE_BYTES. */
    uint64_t length_bytes;
    /* READ: where the bytes go. WRITE and its kin: where they are. Borrowed until the request
     * completes, or, for a WRITE, until host_outcome.data_held is false. */
    void *data;
};

#endif
