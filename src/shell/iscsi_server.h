/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The iSCSI server as the controller sees it: hosts' sessions on the loop, between
 * front/iscsi_target.h, scsi/ and the core. What stands behind it is in iscsi_session.h. */

#ifndef SHELL_ISCSI_SERVER_H
#define SHELL_ISCSI_SERVER_H

#include "array/array.h"
#include "shell/config.h"
#include "shell/iscsi_counts.h"
#include "shell/loop.h"
#include "shell/store.h"

struct iscsi_server;

/* Requests that it may have in the core at a time. */
uint32_t iscsi_server_request_limit(const struct config *config, int controller);

/* Opens the portals. NULL, or a sentence. *server stays NULL when the controller has none. The
 * config must stay. */
const char *iscsi_server_start(struct iscsi_server **server, struct loop *loop, struct array *array,
                               const struct stores *stores, const struct config *config,
                               int controller, char why[TRACE_LINE]);

/* A completion of the core whose handle is HANDLE_ISCSI or HANDLE_ISCSI_MANAGE. Does not call the
 * core. */
void iscsi_server_complete(struct iscsi_server *server, const struct completion *completion);

/* actions.changed of a burst. Does not call the core. */
void iscsi_server_changed(struct iscsi_server *server, const uint64_t changed[VOLUME_LIMIT / 64]);

/* Which controllers are in the pair: bit 0 a, bit 1 b. */
void iscsi_server_controllers(struct iscsi_server *server, uint8_t in);

/* After the actions of a burst: pass on what changed, then what ended, let waiting sessions go on,
 * and start every send. Returns whether the core got requests, so that it has to be pumped again.
 */
bool iscsi_server_flush(struct iscsi_server *server);

/* The controller is about to leave: no new session; hosts are asked to log out. */
void iscsi_server_leave(struct iscsi_server *server);
/* Whether every session has gone since. */
bool iscsi_server_left(const struct iscsi_server *server);
/* Drop what is still there. */
void iscsi_server_stop(struct iscsi_server *server);

void iscsi_server_counts(struct iscsi_server *server, struct iscsi_counts *counts);

#endif
