/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What the status shows of the iSCSI server. Counters only go up while the process lives. */

#ifndef SHELL_ISCSI_COUNTS_H
#define SHELL_ISCSI_COUNTS_H

#include "shell/config.h"

enum { ISCSI_SHOWN_LIMIT = 128 }; /* sessions shown one by one; all are counted */

struct iscsi_volume_counts {
    uint32_t sessions;            /* that see it, now */
    uint64_t commands;            /* SCSI commands answered */
    uint64_t in_bytes, out_bytes; /* data given to hosts, and taken from them */
    uint64_t conflicts;           /* RESERVATION CONFLICT */
    uint64_t errors;              /* CHECK CONDITION, unit attentions included */
    uint64_t busy;                /* BUSY and TASK SET FULL */
};

/* A normal session. */
struct iscsi_shown {
    char initiator[CONFIG_INITIATOR_SIZE];
    char address[ADDRESS_TEXT_SIZE];
    const char *host; /* its [host]; NULL: none is configured */
    bool authenticated, header_digest, data_digest;
    uint32_t luns, commands; /* commands: under way now */
    uint64_t idle_us;        /* since the host last sent something */
};

struct iscsi_counts {
    uint32_t sessions, discovery_sessions, logging_in; /* now */
    uint64_t sessions_total;                           /* normal sessions logged in */
    uint64_t refused;                                  /* logins and connections turned away */
    uint64_t dropped; /* sessions that this side ended because of what the host did or did not do */
    uint32_t tasks, task_limit; /* commands under way now, and how many there may be */
    uint64_t managed;           /* task management functions answered */
    uint64_t rejects;           /* iSCSI Rejects sent, by sessions that have ended and those here */
    uint32_t shown_count;
    struct iscsi_shown shown[ISCSI_SHOWN_LIMIT];
    struct iscsi_volume_counts volumes[VOLUME_LIMIT];
};

#endif
