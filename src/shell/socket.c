/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Opens sockets. It never waits: connecting and accepting are the loop's. */

#include "shell/socket.h"

#include "base/check.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

enum { LISTEN_BACKLOG = 1024 };

socklen_t socket_address(const struct address *address, struct sockaddr_storage *to)
{
    memset(to, 0, sizeof *to);
    if (address->kind == ADDRESS_UNIX) {
        struct sockaddr_un *local = (struct sockaddr_un *)to;
        local->sun_family = AF_UNIX;
        snprintf(local->sun_path, sizeof local->sun_path, "%s", address->path);
        return sizeof *local;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char port[8];
    snprintf(port, sizeof port, "%u", address->port);
    if (getaddrinfo(address->host, port, &hints, &found) != 0)
        return 0;
    socklen_t size = found->ai_addrlen;
    memcpy(to, found->ai_addr, size);
    freeaddrinfo(found);
    return size;
}

int socket_for(const struct address *address, int flags)
{
    struct sockaddr_storage where;
    if (socket_address(address, &where) == 0) {
        errno = EINVAL;
        return -1;
    }
    return socket(where.ss_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
}

/* A socket file that a killed process left behind is in the way of bind(); one that somebody
 * answers at is not ours. */
static void remove_stale(const struct address *address, const struct sockaddr_storage *where,
                         socklen_t size)
{
    int probe = socket_for(address, 0);
    if (probe < 0)
        return;
    if (connect(probe, (const struct sockaddr *)where, size) < 0 && errno == ECONNREFUSED)
        unlink(address->path);
    close(probe);
}

int socket_listen(const struct address *address, char why[TRACE_LINE])
{
    struct sockaddr_storage where;
    socklen_t size = socket_address(address, &where);
    int descriptor = size ? socket_for(address, SOCK_NONBLOCK) : -1;
    int on = 1;
    if (descriptor >= 0 && address->kind == ADDRESS_UNIX)
        remove_stale(address, &where, size);
    if (descriptor >= 0 && address->kind == ADDRESS_IP) {
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (where.ss_family == AF_INET6)
            setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    }
    if (descriptor < 0 || bind(descriptor, (struct sockaddr *)&where, size) < 0 ||
        listen(descriptor, LISTEN_BACKLOG) < 0) {
        snprintf(why, TRACE_LINE, "cannot listen at %.110s: %s", address->text, strerror(errno));
        if (descriptor >= 0)
            close(descriptor);
        return -1;
    }
    return descriptor;
}

void socket_no_delay(int descriptor)
{
    int on = 1;
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

void socket_unsent(int descriptor, uint32_t bytes)
{
    setsockopt(descriptor, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof bytes);
}

/* How much may be under way at once is what decides here. bbr paces, with a timer for every few
 * segments. cubic leaves its slow start when answers come later (HyStart), which they do as soon as
 * the peer has work; so a message goes in pieces, and each piece wakes both controllers. reno opens
 * the window until something is lost, and on a path between two controllers that is hardly ever. */
void socket_to_peer(int descriptor)
{
    static const char *const unfit[] = {"bbr", "cubic"};
    static const char fit[] = "reno"; /* in every kernel, and everybody may choose it */
    char name[16] = "";
    socklen_t size = sizeof name - 1;
    socket_no_delay(descriptor);
    if (getsockopt(descriptor, IPPROTO_TCP, TCP_CONGESTION, name, &size) < 0)
        return; /* not TCP */
    for (size_t i = 0; i < ARRAY_LENGTH(unfit); i++) {
        if (strncmp(name, unfit[i], strlen(unfit[i])) == 0)
            setsockopt(descriptor, IPPROTO_TCP, TCP_CONGESTION, fit, sizeof fit - 1);
    }
}

/* The last number of a file of /proc/sys/net/ipv4/tcp_?mem: how far the kernel's tuning goes. */
static uint32_t tuned_most(const char *path)
{
    unsigned least, usual, most = 0;
    FILE *file = fopen(path, "re");
    if (file && fscanf(file, "%u %u %u", &least, &usual, &most) != 3)
        most = 0;
    if (file)
        fclose(file);
    return most;
}

/* One direction. */
static uint32_t widen(int descriptor, int name, int forced, const char *tuning, uint32_t wished)
{
    int got = 0, half = (int)(wished / 2); /* the kernel doubles it, for its overhead */
    socklen_t size = sizeof got;
    uint32_t tuned = tuned_most(tuning);
    if (tuned >= wished)
        return tuned;
    /* A probe: to have set the size of a socket ends its tuning for good. */
    int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (probe >= 0) {
        if (setsockopt(probe, SOL_SOCKET, forced, &half, sizeof half) < 0)
            setsockopt(probe, SOL_SOCKET, name, &half, sizeof half);
        getsockopt(probe, SOL_SOCKET, name, &got, &size);
        close(probe);
    }
    if (got <= 0 || (uint32_t)got <= tuned)
        return tuned;
    if (setsockopt(descriptor, SOL_SOCKET, forced, &half, sizeof half) < 0)
        setsockopt(descriptor, SOL_SOCKET, name, &half, sizeof half);
    return (uint32_t)got;
}

void socket_widen(int descriptor, uint32_t wished_bytes, uint32_t *send_bytes,
                  uint32_t *receive_bytes)
{
    *send_bytes =
        widen(descriptor, SO_SNDBUF, SO_SNDBUFFORCE, "/proc/sys/net/ipv4/tcp_wmem", wished_bytes);
    *receive_bytes =
        widen(descriptor, SO_RCVBUF, SO_RCVBUFFORCE, "/proc/sys/net/ipv4/tcp_rmem", wished_bytes);
}

void socket_watch(int descriptor)
{
    int on = 1, silent_ms = SOCKET_SILENT_MS, every_s = SOCKET_SILENT_MS / 3000, tries = 3;
    setsockopt(descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT, &silent_ms, sizeof silent_ms);
    setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, &every_s, sizeof every_s);
    setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof every_s);
    setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPCNT, &tries, sizeof tries);
}

void socket_peer_text(int descriptor, char text[ADDRESS_TEXT_SIZE])
{
    struct sockaddr_storage who;
    socklen_t size = sizeof who;
    char host[64], port[8];
    snprintf(text, ADDRESS_TEXT_SIZE, "a local socket");
    if (getpeername(descriptor, (struct sockaddr *)&who, &size) < 0 || who.ss_family == AF_UNIX)
        return;
    if (getnameinfo((struct sockaddr *)&who, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        snprintf(text, ADDRESS_TEXT_SIZE, who.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host,
                 port);
}
