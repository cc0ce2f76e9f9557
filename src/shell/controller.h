/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The controller's process: the core and everything around it, on one loop. */

#ifndef SHELL_CONTROLLER_H
#define SHELL_CONTROLLER_H

#include "array/array.h"
#include "shell/control_server.h"
#include "shell/copy_groups.h"
#include "shell/iscsi_server.h"
#include "shell/link.h"
#include "shell/nbd_server.h"
#include "shell/register_file.h"
#include "shell/store.h"
#include "shell/warden.h"
#include "shell/watch.h"

enum {
    CONTROLLER_RING_ENTRIES = 1024,
    CONTROLLER_BURST_ROUNDS = 4, /* pumps in one turn, while each lets waiting requests on */
    CONTROLLER_SAMPLE_MS = 1000, /* how often rates are measured */
    CONTROLLER_LINGER_MS = 200,  /* after the stop: for replies on their way */
    CONTROLLER_LEAVE_MS = 2500,  /* and for iSCSI hosts that log out */
    CONTROLLER_LEAVE_LOOK_MS = 50,
    CONTROLLER_DESTAGE_IOS = 32, /* store writes in flight */
    CONTROLLER_FETCH_IOS = 128,  /* store reads in flight */
};

struct controller {
    const struct config *config;
    int self;
    struct warden_ticket ticket;
    uint64_t started_us;

    struct loop loop;
    struct array *array;
    struct array_config array_config;
    void *memory;
    size_t memory_size;

    struct stores stores;
    struct register_thread reg;
    struct ship *ship;
    struct copy_groups *groups; /* NULL: none is configured */
    struct link link;
    struct watch watch;
    struct nbd_server nbd;
    struct iscsi_server *iscsi; /* NULL: none is configured */
    struct control_server control;

    struct op signal;
    int signal_descriptor;
    uint8_t signal_bytes[128];
    struct timer sample, linger;
    bool stopping;
    uint64_t stopped_us;

    enum role role_told; /* to the service manager */
    enum role role_seen; /* by the iSCSI server */
    uint64_t sampled_us;
    uint64_t sampled_reads[VOLUME_LIMIT], sampled_writes[VOLUME_LIMIT];
    double read_iops[VOLUME_LIMIT], write_iops[VOLUME_LIMIT];
    struct array_status status; /* filled when somebody asks */
    struct control_extra extra;
};

/* Runs until the clean stop has ended; returns the process's exit status. */
int controller_run(const struct config *config, int self, const struct warden_ticket *ticket);

/* For the control socket: everything that `holdfast status` shows. */
char *controller_status_line(struct controller *controller);
/* A clean stop is asked for. */
void controller_stop(struct controller *controller);

#endif
