/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Where another array's controllers bring their copies: the listener at [controller] copy, and the
 * sessions of both controllers of each sending array, one for each group; and where the coordinator
 * of a set comes to, as a target of its own. It takes batches whole
 * and hands them out, any number of a session at a time, to be answered in any order; and it
 * answers questions about a group's state. What the batches mean is not its business. Packed ones
 * are decompressed in a thread of their own first, to exactly the length that their head says.
 *
 * Bounds: COPY_SESSION_LIMIT sessions; of each the COPY_COMMANDS of its window; memory for batches
 * from one budget. When that is used nothing more is read, and the sender waits. */

#ifndef SHELL_COPY_SERVER_H
#define SHELL_COPY_SERVER_H

#include "front/iscsi_target.h"
#include "shell/buffers.h"
#include "shell/copy_names.h"
#include "shell/copy_zstd.h"
#include "shell/stream.h"
#include "shell/worker.h"

enum {
    COPY_SESSION_LIMIT = 4 * GROUP_LIMIT + 8, /* two a group, two of its set's coordinator, and
                                                 those that want to be */
    COPY_TASK_LIMIT = 2 * GROUP_LIMIT * COPY_COMMANDS,
    COPY_SERVER_LOGIN_MS = 10000,
};

/* What it tells its owner, from the loop. `group`: its place in the configuration. */
struct copy_server_user {
    /* The group's state now: it was asked for. */
    void (*state)(void *context, uint32_t group, struct copy_state *state);
    /* A whole batch, to be answered once with copy_server_answer(), during the call or later, also
     * when its session has gone since. The bytes stay until then. They are foreign. `half`: which
     * controller of the sending array has logged in. */
    void (*batch)(void *context, uint32_t group, int half, uint32_t handle, const uint8_t *bytes,
                  uint32_t length);
    /* The coordinator of the group's set asks how the group is here now. */
    void (*cut_state)(void *context, uint32_t group, struct cut_state *state);
    /* A message of the coordinator's, answered like a batch. */
    void (*cut)(void *context, uint32_t group, uint32_t handle, const uint8_t *bytes,
                uint32_t length);
};

struct copy_server_counts {
    uint32_t sessions;                                 /* logged in */
    uint32_t waiting;                                  /* batches that the owner has */
    uint64_t logins, refused, batches, received_bytes; /* bytes: as they came */
    uint64_t packed_batches, packed_refused;
};

struct copy_server;

/* One command. Free when the owner, the front and the worker have let go of it. */
struct copy_task {
    struct copy_session *session; /* NULL: gone, or free */
    struct iscsi_target_task *front;
    struct copy_server *server;
    struct buffer *packed; /* what came; `buffer` is where it is made whole */
    struct buffer *buffer;
    struct work work;
    const char *wrong;    /* the worker's: with what it decompressed */
    uint32_t batch_bytes; /* in `buffer` */
    uint32_t index, next_free, length_bytes;
    bool used, with_owner, with_worker;
    uint8_t sense[COPY_SENSE_BYTES];
};

struct copy_session {
    struct stream stream;
    struct copy_server *server;
    struct iscsi_target target;
    struct iscsi_target_login login;
    struct iscsi_target_task slots[ISCSI_TARGET_TASKS(COPY_COMMANDS)];
    struct copy_names names;
    uint64_t since_us;
    uint32_t group;
    int half;
    bool used, logged_in, ending;
    bool cuts; /* it is the coordinator of the group's set that comes, not the other array */
    bool held; /* it was told that this controller holds the group, or leads it */
    char who[ADDRESS_TEXT_SIZE];
};

struct copy_server {
    /* Read by the owner. */
    struct copy_server_counts counts;

    /* Its own. */
    struct loop *loop;
    const struct config *config;
    const struct copy_server_user *user;
    void *context;
    struct iscsi_crypto crypto;
    struct tls_context *tls;
    uint8_t ids[GROUP_LIMIT][COPY_ID_SIZE];
    struct op accept;
    struct timer accept_retry, sweep;
    int listener;
    struct copy_session *sessions[COPY_SESSION_LIMIT];
    struct copy_task *tasks; /* COPY_TASK_LIMIT */
    uint32_t free_task;
    bool zstd; /* it takes packed batches, and says so */
    struct worker worker;
    ZSTD_DCtx *decompressor; /* the worker's */
    struct buffers buffers;
};

/* Listens for the other arrays of all groups, whoever sends now; there is at least one group.
 * `config` is borrowed for good. NULL, or a sentence. */
const char *copy_server_start(struct copy_server *server, struct loop *loop,
                              const struct config *config, int self,
                              const struct copy_server_user *user, void *context,
                              char why[TRACE_LINE]);

void copy_server_answer(struct copy_server *server, uint32_t handle, bool good);

/* This controller does not hold the group any more: who brings it goes to the other one. */
void copy_server_leave(struct copy_server *server, uint32_t group);

/* The same for the coordinator of its set: this controller does not lead the group any more. */
void copy_server_leave_set(struct copy_server *server, uint32_t group);

/* From where a controller of the set's coordinator is logged in; NULL: none is. */
const char *copy_server_coordinator(const struct copy_server *server, uint32_t group);

/* From where the controller `half` of the group's other array is logged in; NULL: it is not. */
const char *copy_server_from(const struct copy_server *server, uint32_t group, int half);

/* Once a turn of the loop. */
void copy_server_flush(struct copy_server *server);

#endif
