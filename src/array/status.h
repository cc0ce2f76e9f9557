/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What `holdfast status` shows of a controller: plain numbers, filled by array_status(). Counters
 * only go up within one incarnation. */

#ifndef ARRAY_STATUS_H
#define ARRAY_STATUS_H

#include "base/histogram.h"
#include "base/limits.h"
#include "role/names.h"
#include "volume/volume.h"

struct volume_status {
    int owner; /* 0 = a, 1 = b, -1 not known */
    bool moving;
    uint64_t dirty_pages;
    uint64_t reads, writes, flushes, trims, zeroes; /* completed */
    uint64_t compares, states;                      /* COMPARE AND WRITE; changes of the record */
    uint64_t shipped; /* steps of these that the peer carried out, which owns the volume */
    uint64_t read_bytes, write_bytes;
    uint64_t read_page_hits, read_page_misses;
    uint64_t waiting; /* requests in the core now */
    struct histogram read_latency_us, write_latency_us;
};

struct stream_status {
    uint64_t batches, headers, data_bytes; /* acknowledged (sent) or applied (received) */
    uint64_t writes, drops, ranges;        /* headers by kind */
    uint64_t folds; /* host writes that changed a page already in the filling list */
    uint64_t resends, refused;
    uint32_t headers_waiting; /* in the filling list now */
};

struct destage_status {
    uint64_t store_writes, pages_written, flushes;
    uint64_t joined_pages; /* pages that went with a neighbour: pages_written - store_writes */
    uint64_t host_pages;   /* pages written by hosts: what the cache was asked to destage */
    uint64_t errors;
    uint64_t failed_pages; /* waiting to be tried again after an error, now */
    uint32_t in_flight;
    uint64_t backlog_pages; /* dirty now */
};

enum group_state {
    GROUP_NOT_HERE,  /* this controller holds nothing of it: it is out, or being filled */
    GROUP_SUSPENDED, /* by an operator, or because the second array was failed over */
    GROUP_FALLEN,    /* only noted in the bitmap until the session is up */
    GROUP_SYNCING,   /* cycles run, and marked regions are still to be sent */
    GROUP_COPYING,   /* cycles run; what the second array shows is a state of this one */
    GROUP_STATE_COUNT
};

/* Where the group's truth is. It begins as the configuration's side says, or as the kept record
 * does, and changes by failover and reverse. */
enum group_role {
    GROUP_ROLE_PRIMARY,     /* hosts write here, and it is copied to the other array */
    GROUP_ROLE_RECEIVING,   /* the copy is here: no host writes */
    GROUP_ROLE_FAILED_OVER, /* hosts write here, and nothing is copied until `reverse` */
    GROUP_ROLE_COUNT
};

/* A member of a set, as the coordinating controller knows it. */
struct set_member_status {
    bool session; /* this array's own: always */
    bool sealed;  /* what its second array holds is known */
    bool runs;    /* it takes part in cuts */
};

/* A group's part in a set; all zero for a group that is in none. */
struct set_status {
    uint8_t member_count;
    uint8_t self;
    bool coordinates; /* this controller decides when all are cut */
    bool runs;        /* coordinating: cuts are made; else: this member takes part in them */
    uint64_t run;
    uint64_t cut;      /* coordinating: the newest that was begun */
    uint64_t promoted; /* coordinating: the newest that every second array has promoted */
    uint64_t cuts, failed_cuts, runs_begun; /* coordinating */
    /* How long completions were held here for a cut. */
    uint64_t holds, late_holds; /* late: until the time was over */
    uint64_t hold_last_us, hold_longest_us, hold_total_us;
    bool holding;
    uint64_t late_row; /* coordinating: cuts that failed in a row because completions could not be
                          held as long as they took */
    uint64_t close_us; /* coordinating: what the last one took until all arrays had closed */
    struct set_member_status members[SET_LIMIT]; /* coordinating: the first member_count */
};

struct group_status {
    enum group_state state;
    enum group_role role;
    bool hosts_refused;  /*  the group's truth is at the other array, or not known */
    bool records_wanted; /* what must be durable before the next step is not yet */
    bool record_away;    /* only the controller that stopped last knows what differs */
    uint64_t era;        /* goes up at every failover */
    uint64_t promoted, promoted_wall_us;    /* RECEIVING, FAILED_OVER: the cycle that is shown */
    char reason[TRACE_LINE];                /* of the state: a sentence */
    bool session;                           /* to the second array */
    bool leader;                            /* this controller cuts and promotes */
    uint64_t term, open, closed, confirmed; /* cycles; closed: the newest that was cut */
    uint64_t confirmed_wall_us; /* time of day of the newest cut that the second array has promoted,
                                   as this controller knows */
    uint64_t pinned_pages;      /* of this controller, that wait for the second array */
    uint64_t tagged_pages;      /* of the peer */
    uint64_t range_pages;       /* in discarded ranges of both that wait for it */
    uint64_t marked_regions, region_count; /* that may differ; all there are */
    uint64_t marked_pages;                 /* in them, at most */
    uint64_t cuts, falls, restarts, batches, resends, refused;
    uint64_t pages_sent, base_pages_sent, bytes_sent; /* answered well */
    uint64_t shown_cut, held_cut; /* RECEIVING, FAILED_OVER: of a set, as in struct copy_state */
    uint64_t promoted_cut; /* the cut that `promoted` is; shown_cut may already be the next one */
    struct set_status set;
};

struct array_status {
    enum role role;
    char reason[TRACE_LINE];
    uint64_t epoch;
    uint64_t incarnation;
    bool refilling; /* solo, and sending every dirty page to the returned peer */
    bool stopping;
    bool link_up;          /* our session to the peer */
    bool peer_known;       /* a hello from the peer was seen since the link came up */
    enum role peer_role;   /* from its last hello */
    int64_t lease_left_us; /* paired: how long this controller may still serve unheard */
    uint64_t takeover_count;
    uint64_t takeover_last_us; /* from the loss of the peer (first noticed) to serving */
    uint32_t slots, slots_clean, slots_dirty, slots_free,
        slots_image; /* image: of the peer, dirty there */
    uint64_t requests_waiting_for_room;
    uint64_t
        flush_messages; /* messages that any destage ever sent to the peer: always 0, and counted */
    struct stream_status sent, received;
    struct destage_status destage;
    uint32_t volume_count;
    uint32_t group_count;
    struct group_status groups[GROUP_LIMIT];    /* the first group_count are filled */
    struct volume_status volumes[VOLUME_LIMIT]; /* the first volume_count are filled */
};

#endif
