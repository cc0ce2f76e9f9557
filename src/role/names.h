/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The roles of a controller, for the state machine and for whoever shows them. The numbers travel
 * in hellos. */

#ifndef ROLE_NAMES_H
#define ROLE_NAMES_H

enum role {
    ROLE_STARTING, /* reading the register */
    ROLE_WAITING, /* the peer serves, or may hold data that this controller lacks; asking to join */
    ROLE_JOINING, /* being filled by the peer; not serving */
    ROLE_OFFLINE, /* acknowledged writes were lost with both memories: waits for accept-loss */
    ROLE_SOLO,    /* serves every volume, write-through */
    ROLE_PAIRED,  /* serves its own volumes, mirrored */
    ROLE_RACING,  /* the link lease ran out or the peer died: asking the register who goes on; hosts
                     are held */
    ROLE_FENCING, /* won the register; waiting until the peer certainly does not touch a store;
                     hosts are held */
    ROLE_STOPPED,
    ROLE_COUNT
};

const char *role_name(enum role role);

#endif
