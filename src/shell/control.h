/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The control protocol, without its socket: one line of JSON in, one line of JSON out
 * (docs/status-json.md). Nothing here reads, writes or waits; the event loop hands over whole lines
 * and sends what it gets back. A request is foreign text: whatever is in it, the answer is a
 * request or a sentence.
 *
 *     {"command":"status"}
 *     {"command":"move","volume":"vol0","to":"b"}
 *     {"command":"stop"}
 *     {"command":"accept-loss","peer_is_dead":true}
 *     {"command":"group","group":"db","action":"failover","force":true,"cut":512}
 *
 *     {"ok":true,"status":{...}}   {"ok":true,"text":"..."}   {"ok":false,"text":"why not"} */

#ifndef SHELL_CONTROL_H
#define SHELL_CONTROL_H

#include "array/status.h"
#include "shell/config.h"
#include "shell/copy_groups.h"
#include "shell/iscsi_counts.h"

#include <sys/types.h>

enum {
    CONTROL_REQUEST_BYTES = 4096,  /* one request line with its newline; a longer one is refused */
    CONTROL_REPLY_BYTES = 1 << 20, /* no reply line is longer */
    CONTROL_CONNECTION_LIMIT = 16, /* operators at a time */
};

enum control_command {
    CONTROL_STATUS,
    CONTROL_MOVE,
    CONTROL_STOP,
    CONTROL_ACCEPT_LOSS,
    CONTROL_GROUP,
};

struct control_request {
    enum control_command command;
    char volume[VOLUME_NAME_SIZE]; /* MOVE: a legal name, but perhaps not a volume of ours */
    uint8_t to;                    /* MOVE: 0 = a, 1 = b */
    bool peer_is_dead;             /* ACCEPT_LOSS */
    char group[VOLUME_NAME_SIZE];  /* GROUP: perhaps not a group of ours */
    enum group_action action;      /* GROUP */
    bool force;                    /* GROUP: RESUME, FAILOVER, RESYNC */
    uint64_t cut;                  /* GROUP: FAILOVER, of a set; 0: none was said */
};

enum control_store_state {
    CONTROL_STORE_CLOSED, /* not opened yet, or given up */
    CONTROL_STORE_OPEN,
    CONTROL_STORE_FAILING, /* open; the last operation failed */
};

struct control_store {
    enum control_store_state state;
    bool direct; /* O_DIRECT; else buffered, with flushes */
    uint32_t block_size_bytes;
    uint64_t size_bytes;
    char error[TRACE_LINE]; /* the last error in words; empty: none */
};

struct control_volume {
    double read_iops, write_iops; /* over the last seconds */
    uint64_t refused;             /* requests answered "the other controller owns this volume" */
    uint32_t connections;
};

enum control_warden_state {
    CONTROL_WARDEN_ABSENT,    /* no parent process: started without one */
    CONTROL_WARDEN_ALONE,     /* our parent is there, the peer's parent does not answer */
    CONTROL_WARDEN_CONNECTED, /* both parents see each other */
};

/* What the shell knows beside the core. Large: make it static or take it from the heap. Zero it
 * first. */
struct control_extra {
    int controller; /* 0 = a, 1 = b */
    pid_t pid;
    uint64_t uptime_us;
    const char *version;

    uint32_t nbd_connections;       /* now */
    uint64_t nbd_connections_total; /* since the start */
    uint64_t nbd_refused;           /* connections turned away: limit reached, or not NBD */

    struct iscsi_counts iscsi;

    bool link_authenticated;     /* CHAP, both ways */
    uint64_t link_logins;        /* our sessions to the peer that were made since the start */
    char link_error[TRACE_LINE]; /* why the last session ended or was refused; empty: none */

    enum control_warden_state warden;
    char warden_error[TRACE_LINE];

    struct control_store stores[STORE_LIMIT];     /* by the config's index */
    struct control_volume volumes[VOLUME_LIMIT];  /* by the config's index */
    struct copy_group_counts groups[GROUP_LIMIT]; /* by the config's index */
};

/* One line, without or with its newline. Returns false with a sentence in `why`. */
MUST_CHECK bool control_parse_request(const char *line, size_t length,
                                      struct control_request *request, char why[TRACE_LINE]);

/* An answer is sent when the thing is done: `stop` is answered after actions.stopped, before the
 * process exits. */

/* Each returns one line that ends in a newline, from malloc(); the caller frees it. NULL: out of
 * memory. */
char *control_format_status(const struct config *config, const struct control_extra *extra,
                            const struct array_status *status);
char *control_format_reply(bool done, const char *text);

#endif
