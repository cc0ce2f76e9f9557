/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Who may serve. One state machine a controller: it is told what was heard of the peer, of the
 * register and of the operator; it says what role follows, and gives orders that the array carries
 * out. It knows nothing of slots and volumes.
 *
 *   STARTING --register read--> decide --+--> WAITING   the peer serves, or may hold what we lack
 *                                        +--> OFFLINE   both memories are lost; an operator must
 * accept that
 *                                        +--> SOLO      nothing was owed: swap in "me", serve
 * (write-through) WAITING/OFFLINE --the peer starts a stream--> JOINING --PAIR, or READY and the
 * register says so--> PAIRED SOLO --every dirty page is at the peer, swap in "both"--> PAIRED
 *   PAIRED --lease over, proof of the peer's death, or it left--> RACING --swap won--> FENCING -->
 * SOLO |    --swap lost--> WAITING
 *
 * Two rules keep at most one server (invariant 8). A paired controller serves, and touches stores,
 * only while the lease holds: lease_ms from the moment it SENT a message that the peer has answered
 * well. And a controller that wants to go on alone first stops answering, then swaps, then waits
 * until everything it ever answered has run out (lease_ms from its last answer, an eighth for
 * clocks that differ, and settle_ms for writes under way), unless it has proof that the other is
 * gone. A controller that holds solo needs no lease: nobody can take solo from it without proof. */

#ifndef ROLE_ROLE_H
#define ROLE_ROLE_H

#include "base/limits.h"
#include "role/names.h"
#include "role/register.h"

struct role_config {
    uint8_t self;
    uint64_t incarnation;
    uint64_t lease_us, settle_us;
};

/* What the peer's last hello said. */
struct role_peer {
    bool known;          /* a hello has come since our start */
    bool serving_memory; /* its role says that it holds a live cache: SOLO, PAIRED, RACING, FENCING,
                            JOINING */
    bool may_be_in;      /* waiting, and it holds the data if the register has both in at `epoch` */
    bool fits;           /* same configuration: it may join */
    enum role role;
    uint64_t incarnation;
    uint64_t epoch;
    uint64_t heard_us;
};

/* Orders to the array, each given once. */
enum {
    ORDER_SERVE_FRESH = 1,  /* SOLO with nothing in memory */
    ORDER_ADOPT = 2,        /* SOLO: the image's pages are ours now */
    ORDER_HOLD = 4,         /* hosts wait from now on */
    ORDER_REFUSE = 8,       /* this controller is out: hosts are told to ask the other */
    ORDER_PAIRED_LEAD = 16, /* the survivor: the register has both in; tell the joiner */
    ORDER_PAIRED_JOIN = 32, /* the joiner: in; begin our own stream */
    ORDER_FENCE_PEER = 64,  /* ask the peer's parent to end it and prove that */
    ORDER_RESUME = 128,     /* the role changed in a way that lets held requests go on */
    ORDER_STOPPED = 256,
};

/* What a swap of the register is for: decides what follows when it is won or lost. */
enum role_swap {
    SWAP_NONE,
    SWAP_BEGIN,
    SWAP_ACCEPT_LOSS,
    SWAP_TAKEOVER,
    SWAP_PAIR,
    SWAP_CLEAN,
    SWAP_STOP
};

struct role_machine {
    struct role_config config;
    enum role state;
    uint64_t
        epoch; /* PAIRED, SOLO, RACING, FENCING: of the register record that lets us hold data */
    char reason[TRACE_LINE];
    struct register_record record; /* as last read or swapped */
    bool record_known;

    bool register_busy;  /* an operation is wanted or out */
    bool register_asked; /* it has been handed to the shell */
    enum role_swap swap; /* what the swap is for; SWAP_NONE: it is a read */
    bool swap_unknown;   /* that swap's outcome is not known: read until it is */
    struct register_record expected, wanted;
    uint64_t read_began_us;
    uint64_t register_next_us; /* no read before this */

    struct role_peer peer;
    uint64_t joiner;           /* SOLO: the peer's start that is being filled */
    uint64_t partner;          /* the peer's start that we are paired with; 0 when not paired */
    uint64_t gone_incarnation; /* the peer's start that is proven gone; 0 none */
    bool adopt;                /* FENCING: the image is taken over; else the loss was accepted */
    bool loss_accepted;        /* serving began with what the stores hold, by an operator's word */
    bool peer_is_dead;         /* SWAP_ACCEPT_LOSS: the operator says so */
    bool left;                 /* the peer said LEAVE: it touches nothing any more */
    bool warden_answers; /* the peer's parent answers: it would tell us, so its proof is awaited */

    uint64_t lease_until_us; /* PAIRED: may serve before this */
    uint64_t race_after_us;  /* PAIRED: no answer by then either: the peer is lost */
    uint64_t answered_us; /* when we last answered the peer well; it may serve lease_us from before
                             this */
    bool pairing; /* SOLO: "both" is being swapped in; the outcome may be that we are paired */
    uint64_t pending_epoch; /* JOINING: READY named it */
    uint64_t heard_us;      /* JOINING: when the stream last spoke */

    uint64_t lost_us; /* when the loss of the peer was noticed */
    uint64_t takeover_count, takeover_last_us;
    uint32_t orders;
};

void role_init(struct role_machine *role, const struct role_config *config, uint64_t now_us);

/* Time passes: leases end, polls are due. Called in every pump. */
void role_tick(struct role_machine *role, uint64_t now_us);

/* When role_tick() next has something to do. */
uint64_t role_deadline(const struct role_machine *role);

void role_on_register(struct role_machine *role, uint64_t now_us, enum register_result result,
                      const struct register_record *record);
void role_on_hello(struct role_machine *role, uint64_t now_us, const struct role_peer *peer);
void role_on_peer_gone(struct role_machine *role, uint64_t now_us, uint64_t incarnation);
void role_on_warden(struct role_machine *role, uint64_t now_us, bool answers);
void role_on_left(struct role_machine *role, uint64_t now_us);

/* A message we sent at sent_us was answered well. */
void role_on_answer(struct role_machine *role, uint64_t sent_us);

/* We are about to answer the peer's message well. */
void role_on_answering(struct role_machine *role, uint64_t now_us);

/* The peer's stream: it began (true if we may be filled now), named the epoch to come, named us in.
 */
bool role_on_start(struct role_machine *role, uint64_t now_us);
void role_on_ready(struct role_machine *role, uint64_t epoch);
bool role_on_pair(struct role_machine *role, uint64_t now_us, uint64_t epoch);

/* SOLO: every dirty page is at the peer, and it has answered READY. */
void role_on_refilled(struct role_machine *role, uint64_t now_us);

/* SOLO: nothing acknowledged is missing on the stores. Marks the register clean if it is not. */
void role_on_drained(struct role_machine *role, uint64_t now_us);

/* A clean stop: SOLO and drained, or paired and left. */
void role_stop(struct role_machine *role, uint64_t now_us, bool left);

/* NULL when accepted, else why not. */
const char *role_accept_loss(struct role_machine *role, uint64_t now_us, bool peer_is_dead);

/* May hosts be served and stores be touched at this moment? */
bool role_may_serve(const struct role_machine *role, uint64_t now_us);

/* May it be said that something is done which both controllers had when it was? While the lease
 * lasts nobody else serves, although this one may know already that its peer is lost. */
bool role_may_answer(const struct role_machine *role, uint64_t now_us);

/* Until when what role_may_serve() allows may still be submitted; UINT64_MAX in SOLO. */
uint64_t role_serve_until(const struct role_machine *role);

/* Waiting with a filled image: the swap that brings this controller in, at role->pending_epoch, may
 * have landed or land yet, and the image is kept for that. */
bool role_may_be_in(const struct role_machine *role);

/* The role holds data (SOLO, PAIRED, RACING, FENCING, JOINING). */
bool role_has_memory(enum role role);

#endif
