/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The limit that a mirrored write is compared against: two processes that carry the bytes of a
 * mirrored 4 KiB NBD write and do nothing else with them.
 *
 *     client --28 + 4096--> a --148 + 4096--> b      request; WRITE BUFFER with one header and its
 * page client <-----16------ a <------48------ b      simple reply; SCSI response
 *
 * Blocking read() and write(), loopback TCP with TCP_NODELAY. What has arrived when `a` looks
 * travels to `b` as one message, as a batch of the mirror does; --single sends one request a
 * message. Of NBD it speaks as much as a client needs to start (fixed newstyle: GO, INFO,
 * EXPORT_NAME); it stores nothing, so it must never be given data that matters, and a READ ends the
 * connection. Each connection has its own process on each side, one client after the other; every
 * one of them dies with the program. */

#include "base/bytes.h"
#include "base/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    PAGE = 4096,
    REQUEST_HEAD = 28, /* NBD protocol, "Transmission phase": request message */
    REPLY = 16,        /* simple reply */
    REQUEST = REQUEST_HEAD + PAGE,
    MESSAGE_HEAD = 48 + 52, /* iSCSI basic header segment (RFC 7143 11.2), head of a batch */
    RECORD_HEAD = 48,       /* one header of a batch */
    RESPONSE = 48,          /* SCSI response PDU (RFC 7143 11.4) */
    REQUESTS = 256,         /* in one message at most */
    BUFFER = REQUESTS * (REQUEST + RECORD_HEAD) + MESSAGE_HEAD,
    OPTION_LIMIT = 64, /* option haggling ends after this many */
    OPTION_BYTES = 8192,
    CONNECTIONS = 100000, /* a bench never makes as many; the accept loops end there */
};

static void give_up(const char *what)
{
    perror(what);
    exit(1);
}

/* False at the end of the stream or on an error: the connection is over either way. */
static bool read_whole(int fd, void *buffer, size_t size)
{
    uint8_t *at = buffer;

    while (size > 0) {
        ssize_t got = read(fd, at, size);

        if (got <= 0)
            return false;
        at += got;
        size -= (size_t)got;
    }
    return true;
}

static bool write_whole(int fd, const void *buffer, size_t size)
{
    const uint8_t *at = buffer;

    while (size > 0) {
        ssize_t put = write(fd, at, size);

        if (put <= 0)
            return false;
        at += put;
        size -= (size_t)put;
    }
    return true;
}

/* Send every byte of `iov`, which is changed on the way. */
static bool writev_whole(int fd, struct iovec *iov, int count)
{
    while (count > 0) {
        ssize_t put = writev(fd, iov, count < IOV_MAX ? count : IOV_MAX);

        if (put <= 0)
            return false;
        while (count > 0 && (size_t)put >= iov->iov_len) {
            put -= (ssize_t)iov->iov_len;
            iov++;
            count--;
        }
        if (count > 0) {
            iov->iov_base = (uint8_t *)iov->iov_base + put;
            iov->iov_len -= (size_t)put;
        }
    }
    return true;
}

static int listen_on(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;

    if (fd < 0)
        give_up("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        give_up("bind");
    if (listen(fd, 16) < 0)
        give_up("listen");
    return fd;
}

static int connect_to(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;

    if (fd < 0)
        give_up("socket");
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        give_up("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

/* ---- b: takes a message, answers it ---- */

static void serve_b(int a)
{
    static uint8_t buffer[BUFFER];
    uint8_t response[RESPONSE] = {0x21};

    for (;;) {
        size_t have = 0, length = MESSAGE_HEAD;

        while (have < length) {
            ssize_t got = read(a, buffer + have, sizeof(buffer) - have);

            if (got <= 0)
                return;
            have += (size_t)got;
            if (have >= MESSAGE_HEAD)
                length = get_u32(buffer + 4);
            if (length > sizeof(buffer))
                return;
        }
        if (!write_whole(a, response, sizeof(response)))
            return;
    }
}

/* ---- a: takes requests, sends them on, answers when b has ---- */

/* Carry `count` requests that lie one after the other at `requests` to b, wait for its answer,
 * answer the client. */
static bool carry(int client, int b, uint8_t *requests, uint32_t count)
{
    static uint8_t head[MESSAGE_HEAD], records[REQUESTS][RECORD_HEAD], replies[REQUESTS][REPLY];
    static struct iovec iov[1 + 2 * REQUESTS];
    uint8_t response[RESPONSE];

    put_u32(head + 4, (uint32_t)(MESSAGE_HEAD + count * (RECORD_HEAD + PAGE)));
    iov[0] = (struct iovec){head, sizeof(head)};
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *request = requests + (size_t)i * REQUEST;

        iov[1 + 2 * i] = (struct iovec){records[i], RECORD_HEAD};
        iov[2 + 2 * i] = (struct iovec){request + REQUEST_HEAD, PAGE};
        put_u32(replies[i], 0x67446698);
        memcpy(replies[i] + 8, request + 8, 8);
    }
    return writev_whole(b, iov, (int)(1 + 2 * count)) && read_whole(b, response, RESPONSE) &&
           write_whole(client, replies, (size_t)count * REPLY);
}

static void serve_requests(int client, int b, uint32_t at_once)
{
    static uint8_t buffer[REQUESTS * REQUEST];
    size_t have = 0;

    for (;;) {
        size_t from = 0;

        while (have < REQUEST) {
            ssize_t got = read(client, buffer + have, sizeof(buffer) - have);

            if (got <= 0)
                return;
            have += (size_t)got;
            if (have >= REQUEST_HEAD && get_u16(buffer + 6) != 1)
                return; /* only WRITE is carried; DISC ends it here too */
        }
        while (have - from >= REQUEST) {
            uint32_t count = 0;

            while (count < at_once && have - from >= (size_t)(count + 1) * REQUEST) {
                const uint8_t *request = buffer + from + (size_t)count * REQUEST;

                if (get_u32(request) != 0x25609513 || get_u16(request + 6) != 1 ||
                    get_u32(request + 24) != PAGE)
                    return;
                count++;
            }
            if (!carry(client, b, buffer + from, count))
                return;
            from += (size_t)count * REQUEST;
        }
        have -= from;
        memmove(buffer, buffer + from, have);
    }
}

/* ---- as much of the NBD handshake as a client needs ---- */

static bool reply_option(int fd, uint32_t option, uint32_t type, const void *data, uint32_t size)
{
    uint8_t reply[20 + 64];

    CHECK(size <= 64);
    put_u64(reply, 0x3e889045565a9);
    put_u32(reply + 8, option);
    put_u32(reply + 12, type);
    put_u32(reply + 16, size);
    if (size > 0)
        memcpy(reply + 20, data, size);
    return write_whole(fd, reply, 20 + size);
}

/* True when the client has entered transmission. */
static bool handshake(int fd, uint64_t size_bytes)
{
    uint8_t hello[18], flags[4], head[16], data[OPTION_BYTES], export[12] = {0};

    memcpy(hello, "NBDMAGICIHAVEOPT", 16);
    put_u16(hello + 16, 3); /* fixed newstyle, no zeroes */
    if (!write_whole(fd, hello, sizeof(hello)) || !read_whole(fd, flags, sizeof(flags)))
        return false;
    put_u64(export + 2, size_bytes);
    put_u16(export + 10, 1 | 4 | 256); /* has flags, FLUSH, several connections */
    for (int i = 0; i < OPTION_LIMIT; i++) {
        uint32_t option, size;

        if (!read_whole(fd, head, sizeof(head)) || memcmp(head, "IHAVEOPT", 8) != 0)
            return false;
        option = get_u32(head + 8);
        size = get_u32(head + 12);
        if (size > sizeof(data) || !read_whole(fd, data, size))
            return false;
        switch (option) {
        case 1: /* EXPORT_NAME */
            return write_whole(fd, export + 2, 10);
        case 6: /* INFO */
        case 7: /* GO */
            if (!reply_option(fd, option, 3, export, sizeof(export)) ||
                !reply_option(fd, option, 1, NULL, 0))
                return false;
            if (option == 7)
                return true;
            break;
        case 2: /* ABORT */
            return false;
        default:
            if (!reply_option(fd, option, 0x80000001, NULL, 0))
                return false;
        }
    }
    return false;
}

/* ---- the processes ---- */

struct plan {
    uint16_t port_a, port_b;
    uint64_t size_bytes;
    uint32_t at_once;
};

static void serve_a(int client, const struct plan *plan)
{
    int b;

    if (!handshake(client, plan->size_bytes))
        return;
    b = connect_to(plan->port_b);
    serve_requests(client, b, plan->at_once);
    close(b);
}

/* Accept for as long as the program lives, one process a connection. */
static void accept_loop(int listener, const struct plan *plan, bool is_a)
{
    for (int i = 0; i < CONNECTIONS; i++) {
        int one = 1, fd = accept(listener, NULL, NULL);
        pid_t child;

        /* Those that ended since; reaped, not ignored, so that their processor time stays
         * countable. */
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0)
            give_up("accept");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        child = fork();
        if (child < 0)
            give_up("fork");
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            close(listener);
            if (is_a)
                serve_a(fd, plan);
            else
                serve_b(fd);
            _exit(0);
        }
        close(fd);
    }
}

int main(int argc, char **argv)
{
    struct plan plan = {.size_bytes = 1ull << 30, .at_once = REQUESTS};
    int listener_a, listener_b;
    cpu_set_t core;
    pid_t b;

    if (argc < 3 || (argc > 3 && strcmp(argv[3], "--single") != 0)) {
        fprintf(stderr, "usage: %s PORT_A PORT_B [--single]\n", argv[0]);
        return 2;
    }
    plan.port_a = (uint16_t)atoi(argv[1]);
    plan.port_b = (uint16_t)atoi(argv[2]);
    if (argc > 3)
        plan.at_once = 1;
    CPU_ZERO(&core);
    CPU_SET(0, &core);
    if (sched_setaffinity(0, sizeof(core), &core) < 0)
        give_up("sched_setaffinity");
    listener_b = listen_on(plan.port_b);
    listener_a = listen_on(plan.port_a);
    b = fork();
    if (b < 0)
        give_up("fork");
    if (b == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(listener_a);
        accept_loop(listener_b, &plan, false);
        _exit(0);
    }
    close(listener_b);
    accept_loop(listener_a, &plan, true);
    return 0;
}
