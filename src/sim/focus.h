/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Seeds that look closely at the copy. Half of those with groups: small volumes, so that the copy
 * is whole again soon after each fault and the oracle can judge it; few of the faults that cost an
 * array its memory; habits that are about one thing; and faults that strike at chosen moments of a
 * cycle and of a failover. The other seeds do not change by any of this. */

#ifndef SIM_FOCUS_H
#define SIM_FOCUS_H

#include "sim/copies.h"
#include "sim/world.h"

enum moment {
    MOMENT_PAGES_THERE, /* a batch has arrived at the other site */
    MOMENT_ZERO_THERE,
    MOMENT_END_SENT,
    MOMENT_END_THERE,
    MOMENT_PROMOTE_SENT,
    MOMENT_PROMOTE_THERE,
    MOMENT_PROMOTED,              /* it says so */
    MOMENT_ANSWERED,              /* a batch's answer has come back */
    MOMENT_ZEROED,                /* a range has been zeroed on a store */
    MOMENT_RECORD,                /* a group's record is to be kept */
    MOMENT_USUAL,                 /* the ones before this come often, those from here on seldom */
    MOMENT_MARKED = MOMENT_USUAL, /* a piece of a bitmap, or its end, is handed over */
    MOMENT_GROUP_ROLE,
    MOMENT_AGAIN, /* a batch has arrived that is still being applied there */
    MOMENT_OFTEN_ENOUGH,
    MOMENT_TERM = MOMENT_OFTEN_ENOUGH, /* the first batch of a term leaves */
    MOMENT_PAIRED,
    MOMENT_ALONE,
    MOMENT_COUNT,
};

enum focus_habit {
    FOCUS_ZEROES = 1,  /* hosts discard and zero much */
    FOCUS_PARTS = 2,   /* they write parts of a few pages, which are destaged at once */
    FOCUS_TIGHT = 4,   /* few pages may wait for the other site */
    FOCUS_FAR = 8,     /* cycles are long on their way */
    FOCUS_STALLS = 16, /* and sometimes nothing gets through */
    FOCUS_SLOW = 32,   /* stores are slow */
    FOCUS_MOVES = 64,  /* volumes move */
    /* Seldom, and with dice of their own. */
    FOCUS_WIDE = 128,  /* large volumes with few writes: what was forgotten is not written again */
    FOCUS_FALLS = 256, /* the group falls to its bitmap again and again */
    FOCUS_HANDS = 512, /* volumes change hands while what differs is being sent, on a slow link */
};

/* Whether this seed is one of them. Before the groups are drawn; and what is drawn after them. */
void focus_draw(struct world *first, struct copies_rates *rates);
void focus_draw_groups(struct world *first);
void focus_destroy(struct world *first);
void focus_print(const struct world *first);

/* It has room for what comes. */
bool focus_roomy(const struct world *second);

bool focus_has(const struct world *world, enum focus_habit habit);

/* The first site is to be lost, `how` as faults_happen() takes it. False: now. */
bool focus_takes_site(struct world *first, uint8_t how);

/* Something happens at `who` of this array. */
void focus_at(struct world *world, uint8_t who, enum moment moment);

#endif
