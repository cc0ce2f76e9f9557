/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The coordinator of a set: when all its members are cut, whether the cut is one, and what their
 * second arrays promote (docs/remote-copy.md, "Several primary arrays"). It knows its members by
 * number, this array's own among them, and only by their answers.
 *
 *     IDLE --coordinator_lead--> RESOLVING --all are sealed--> BEGINNING --all run--> RUNS
 *       any refusal, lost session or broken member: RESOLVING, in another run
 *
 *     a cut: CLOSE to all -- all GOOD --> RELEASE to all -- all GOOD --> PROMOTE to all
 *
 * It is made after the shortest pause when a member has said that something waits for it (WANTED),
 * else after COPY_IDLE_MS.
 *
 * Two rules are kept here: RELEASE goes out when every member has closed, so what any half lets go
 * is acknowledged after the cut everywhere; PROMOTE when every second array holds the cut, so what
 * one has promoted the others can promote. */

#ifndef COPY_COORDINATOR_H
#define COPY_COORDINATOR_H

#include "copy/cut.h"

enum coordinator_phase {
    COORDINATOR_IDLE, /* it is not this controller that decides */
    COORDINATOR_RESOLVING,
    COORDINATOR_BEGINNING,
    COORDINATOR_RUNS,
};

struct coordinator_message {
    uint64_t number; /* 0: this place is free */
    bool given;      /* to the shell */
    struct cut_message message;
};

struct coordinator_member {
    bool up;
    bool reported; /* RESOLVE or BEGIN of this run was answered GOOD */
    struct cut_state state;
    uint64_t next_number;
    struct coordinator_message messages[CUT_WINDOW];
};

enum coordinator_step { CUT_NONE, CUT_CLOSES, CUT_RELEASES, CUT_PROMOTES, CUT_FAILED };

struct coordinator_cut {
    enum coordinator_step step;
    uint64_t cut, begun_us;
    uint8_t answered; /* GOOD to the present step: a bit for each member */
};

struct coordinator {
    uint8_t set[GROUP_ID_SIZE];
    uint8_t member_count, self;
    uint64_t shortest_us;
    enum coordinator_phase phase;
    bool touched; /* something was said since coordinator_pump() */
    uint64_t run;
    uint64_t floor;    /* no cut's number is at or below it */
    uint64_t target;   /* BEGINNING: what all second arrays are to have promoted; 0: nothing */
    uint64_t retry_us; /* RESOLVING: not before */
    uint64_t cut_us;   /* of the last cut */
    bool wanted;       /* something waits for the next one, at some member */
    uint64_t cut, promoted;
    struct coordinator_member members[SET_LIMIT];
    struct coordinator_cut cuts[COPY_CLOSED];
    uint64_t cuts_made, cuts_failed, runs;
    uint64_t late_row; /* cuts in a row that failed because completions could not be held so long */
    uint64_t close_us; /* what the last cut took until all had closed */
};

void coordinator_create(struct coordinator *coordinator, const uint8_t set[GROUP_ID_SIZE],
                        uint8_t member_count, uint8_t self, uint64_t shortest_us);

/* This controller decides from here on, or not any more. Runs get numbers from `run` on. */
void coordinator_lead(struct coordinator *coordinator, uint64_t now_us, uint64_t run);
void coordinator_stop(struct coordinator *coordinator);

/* The session to a member; `state`: what the member says of itself. */
void coordinator_up(struct coordinator *coordinator, uint64_t now_us, uint8_t member,
                    const struct cut_state *state);
void coordinator_down(struct coordinator *coordinator, uint64_t now_us, uint8_t member);
void coordinator_state(struct coordinator *coordinator, uint64_t now_us, uint8_t member,
                       const struct cut_state *state);
void coordinator_answered(struct coordinator *coordinator, uint64_t now_us, uint8_t member,
                          uint64_t number, bool good);

/* Decides. `next_cut`: the number that a cut made now would have; 0: none can be made. */
void coordinator_pump(struct coordinator *coordinator, uint64_t now_us, uint64_t next_cut);

/* The next message to hand out to the member; NULL: none now. */
const struct coordinator_message *coordinator_next(struct coordinator *coordinator, uint8_t member);

/* When coordinator_pump() has something to do if nothing else happens. */
uint64_t coordinator_deadline(const struct coordinator *coordinator);

#endif
