/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* One question to a controller's control socket: a line out, a line back, within a time. */

#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H

#include "base/check.h"
#include "base/limits.h"

#include <jansson.h>

enum { CLIENT_REPLY_BYTES = 1 << 20 };

/* Sends `line` (with its newline) to the UNIX socket at `path` and waits at most `timeout_ms` for
 * the answer. Returns the answer without its newline, from malloc(); NULL with a sentence in `why`.
 */
char *client_ask(const char *path, const char *line, uint32_t timeout_ms, char why[TRACE_LINE]);

/* The same with objects: the request is taken over. NULL with a sentence when nothing comes that a
 * controller says. */
json_t *client_request(const char *path, json_t *request, uint32_t timeout_ms,
                       char why[TRACE_LINE]);

/* A controller's status, the object of docs/status-json.md. */
json_t *client_status(const char *path, uint32_t timeout_ms, char why[TRACE_LINE]);

#endif
