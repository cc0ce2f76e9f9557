/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Sockets from configured addresses. Addresses are numeric, so nothing here asks a name server or
 * waits for one. */

#ifndef SHELL_SOCKET_H
#define SHELL_SOCKET_H

#include "shell/config.h"

#include <sys/socket.h>

/* A numeric address as the kernel wants it. Returns its size, or 0 when it is not one. */
socklen_t socket_address(const struct address *address, struct sockaddr_storage *to);

/* A listening socket, close-on-exec. Returns it, or -1 with a sentence in `why`. A socket file that
 * nobody listens at any more is replaced. */
int socket_listen(const struct address *address, char why[TRACE_LINE]);

/* An unconnected stream socket for `address`, or -1 with errno. `flags`: SOCK_NONBLOCK or 0. */
int socket_for(const struct address *address, int flags);

/* TCP: small messages leave at once. No effect on UNIX sockets. */
void socket_no_delay(int descriptor);
/* How much the kernel takes that it cannot send yet. */
void socket_unsent(int descriptor, uint32_t bytes);

/* For a connection between the controllers: a message leaves at once and, as far as the path takes
 * it, in one go. Where the machine's congestion control is cubic or bbr, which hold it back, this
 * socket gets reno; any other choice of the machine stands. */
void socket_to_peer(int descriptor);

/* A connection over a long way, before it connects or listens (the window's scale is chosen then,
 * RFC 7323 2.2): as much room each way as the kernel lets us have, up to `wished_bytes`. Where its
 * own tuning may give more than a fixed size, it is left to that. Tells what there can be, as the
 * kernel counts: data and its own overhead. */
void socket_widen(int descriptor, uint32_t wished_bytes, uint32_t *send_bytes,
                  uint32_t *receive_bytes);

/* TCP over a long way: the kernel ends the connection when nothing sent was answered for
 * SOCKET_SILENT_MS, or nothing at all came when it asked. */
enum { SOCKET_SILENT_MS = 15000 };
void socket_watch(int descriptor);

/* Who is at the other end, for a log line. */
void socket_peer_text(int descriptor, char text[ADDRESS_TEXT_SIZE]);

#endif
