/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What sites.c and sites_draw.c share: what the operator is about, and what a seed has drawn for
 * it. Nobody else includes it. */

#ifndef SIM_SITES_INNER_H
#define SIM_SITES_INNER_H

#include "sim/calls.h"
#include "sim/copies.h"
#include "sim/sites.h"

enum stage {
    STAGE_COPYING,   /* from the first site to the second */
    STAGE_LEAVING,   /* the copy is to be failed over */
    STAGE_LEFT,      /* it was, and hosts wait until all of the set are */
    STAGE_AWAY,      /* hosts are at the second site, nothing is copied */
    STAGE_REVERSING, /* it is to be copied back */
    STAGE_BACK,      /* it is being copied back */
    STAGE_DRAINING,  /* hosts wait, and all is to be copied */
    STAGE_STOPPING,  /* the group is to be suspended at the second site */
    STAGE_HOMING,    /* and failed over to the first */
    STAGE_RETURNING, /* the second site is lost: what has come home is to be failed over */
    STAGE_TURNING,   /* hosts are at home again, and it is to be copied again */
    STAGE_ALONE,     /* hosts are at home again, and there is no other site any more */
};

enum { REFUSALS = 30 }; /* until he does something else */
enum { SETTLED_US = 5 * 1000 * 1000 };

/* What an EVENT_SITES says besides. */
enum { SITE_NOW = 1, SITE_ON_WAY };

/* Which site is lost for good on the way home; as the fault's `who` from SITE_HOW_WAY on. */
enum way_loss { WAY_LOSES_NONE, WAY_LOSES_FIRST, WAY_LOSES_SECOND };
enum { SITE_HOW_WAY = 1 };

struct site_group {
    enum stage stage;
    uint64_t next_us; /* the operator's next look at it */
    enum group_action action;
    uint64_t handle; /* what he asked, and has no answer to; 0: nothing */
    struct world *asked;
    uint8_t asked_who;
    uint64_t asked_incarnation;
    uint32_t refusals;
    char said[TRACE_LINE]; /* the last refusal */
};

/* Groups of several primary arrays: none, or two with one second array for both, or one for each.
 */
enum set { SET_NONE, SET_SHARED, SET_APART };

struct sites {
    enum set set;
    struct generator draw;
    uint32_t group_count; /* twins */
    struct site_group groups[TWINS_LIMIT];
    uint64_t site_after; /* host requests until the first site is lost; UINT64_MAX: never */
    uint8_t site_how;    /* 0: for good, 1: it is given up while it lives */
    uint64_t away_us;    /* until hosts go home */
    uint64_t leave_us;   /* until the operator acts */
    bool goes_home;
    enum way_loss way_loss;
    uint64_t way_us; /* from the beginning of the way home */
    struct copies_rates rates;
    struct calls_rates calls;
    uint64_t cut; /* that the set is failed over to */
    bool cut_known, forced;
    bool late_faults;       /* of a set: none before it has begun */
    bool begun;             /* of a set: all copies have been one, or never will be */
    uint64_t at_first;      /* requests until then */
    uint64_t common_before; /* common cuts when the faults stopped */
    uint64_t lose_by_us;    /* a site is due to be lost, and will be by then; 0: it is not */
};

/* Which group is of which arrays: those of the first one are at the second one; in a set each
 * primary array has one. */
void sites_tie_twins(const struct sites *sites, struct world *root);
/* What the oracle calls the volumes: those of the first array by their numbers, then of other
 * primary arrays, the second ones' own behind them; a copy has its original's. */
void sites_name_volumes(struct world *root);
/* A twin's configuration at one of its arrays. */
const struct group_config *sites_config_of(const struct world *root, uint32_t twin, int site);

#endif
