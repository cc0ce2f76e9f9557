/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The cheapest NBD client there can be: random 4 KiB writes over one TCP connection, with blocking
 * calls and a fixed number of requests in flight. It drives the echo chain and any NBD server
 * alike, so a difference between two servers is the servers' own, not fio's. It writes zeros and
 * reads nothing back: it must never be pointed at data that matters.
 *
 * Prints one line of JSON: requests done, seconds, IOPS, and the latency's percentiles in
 * microseconds. An error reply ends it with exit status 1, so a server that refuses cannot look
 * fast. */

#include "base/bytes.h"
#include "base/check.h"
#include "base/generator.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    PAGE = 4096,
    REQUEST_HEAD = 28,
    REPLY = 16,
    DEPTH_LIMIT = 256,
    SAMPLES = 1 << 23,    /* later latencies are counted, not kept */
    INFO_REPLIES = 16,    /* NBD_REP_INFO before the ACK of GO */
    TIMEOUT_SECONDS = 20, /* of silence, then it gives up */
};

struct client {
    int fd;
    uint64_t pages;
    uint32_t depth;
    double seconds;
    struct generator *random;
    uint64_t sent_at_ns[DEPTH_LIMIT];
    uint32_t *latency_ns;
    uint64_t done;
};

_Noreturn static void give_up(const char *what)
{
    perror(what);
    exit(1);
}

_Noreturn static void refuse(const char *what)
{
    fprintf(stderr, "echo-client: %s\n", what);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void read_whole(int fd, void *buffer, size_t size)
{
    uint8_t *at = buffer;

    while (size > 0) {
        ssize_t got = read(fd, at, size);

        if (got == 0)
            refuse("the server closed the connection");
        if (got < 0)
            give_up("read");
        at += got;
        size -= (size_t)got;
    }
}

static void writev_whole(int fd, struct iovec *iov, int count)
{
    while (count > 0) {
        ssize_t put = writev(fd, iov, count);

        if (put <= 0)
            give_up("writev");
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
}

static int connect_to(const char *host, uint16_t port)
{
    struct timeval timeout = {.tv_sec = TIMEOUT_SECONDS};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;

    if (fd < 0)
        give_up("socket");
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
        refuse("HOST must be an IPv4 address");
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        give_up("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    return fd;
}

/* Fixed newstyle with NBD_OPT_GO; returns the export's size. */
static uint64_t handshake(int fd, const char *export)
{
    uint8_t hello[18], head[20], data[4096], out[64 + 4 + 16];
    uint32_t name = (uint32_t)strlen(export);
    uint64_t size = 0;

    if (name > 63)
        refuse("the export's name is longer than 63 bytes");
    read_whole(fd, hello, sizeof(hello));
    if (memcmp(hello, "NBDMAGICIHAVEOPT", 16) != 0)
        refuse("not an NBD server with newstyle negotiation");
    put_u32(out, get_u16(hello + 16) & 3);
    memcpy(out + 4, "IHAVEOPT", 8);
    put_u32(out + 12, 7);
    put_u32(out + 16, name + 6);
    put_u32(out + 20, name);
    memcpy(out + 24, export, name);
    put_u16(out + 24 + name, 0);
    writev_whole(fd, &(struct iovec){out, 26 + name}, 1);
    for (int i = 0; i < INFO_REPLIES; i++) {
        uint32_t type, length;

        read_whole(fd, head, sizeof(head));
        type = get_u32(head + 12);
        length = get_u32(head + 16);
        if (length > sizeof(data))
            refuse("an option reply is too long");
        read_whole(fd, data, length);
        if (type == 1)
            return size;
        if (type != 3)
            refuse("the server refused NBD_OPT_GO");
        if (length >= 12 && get_u16(data) == 0)
            size = get_u64(data + 2);
    }
    refuse("no ACK for NBD_OPT_GO");
}

/* Send a new request for each of `count` handles, in one call. */
static void send_requests(struct client *client, const uint32_t *handles, uint32_t count)
{
    static const uint8_t page[PAGE];
    static uint8_t heads[DEPTH_LIMIT][REQUEST_HEAD];
    static struct iovec iov[2 * DEPTH_LIMIT];
    uint64_t now = now_ns();

    for (uint32_t i = 0; i < count; i++) {
        uint64_t to = generator_next(client->random) % client->pages;

        put_u32(heads[i], 0x25609513);
        put_u16(heads[i] + 4, 0);
        put_u16(heads[i] + 6, 1);
        put_u64(heads[i] + 8, handles[i]);
        put_u64(heads[i] + 16, to * PAGE);
        put_u32(heads[i] + 24, PAGE);
        iov[2 * i] = (struct iovec){heads[i], REQUEST_HEAD};
        iov[2 * i + 1] = (struct iovec){(void *)(uintptr_t)page, PAGE};
        client->sent_at_ns[handles[i]] = now;
    }
    writev_whole(client->fd, iov, (int)(2 * count));
}

/* Take what replies have come, at least one; returns how many, their handles in `handles`. */
static uint32_t take_replies(struct client *client, uint32_t *handles)
{
    static uint8_t buffer[DEPTH_LIMIT * REPLY];
    static size_t have;
    uint32_t count = 0;
    uint64_t now;

    while (have < REPLY) {
        ssize_t got = read(client->fd, buffer + have, sizeof(buffer) - have);

        if (got == 0)
            refuse("the server closed the connection");
        if (got < 0)
            give_up("read");
        have += (size_t)got;
    }
    now = now_ns();
    while (have >= (size_t)(count + 1) * REPLY) {
        const uint8_t *reply = buffer + (size_t)count * REPLY;
        uint64_t handle = get_u64(reply + 8);

        if (get_u32(reply) != 0x67446698 || get_u32(reply + 4) != 0 || handle >= client->depth)
            refuse("an error reply, or no simple reply");
        if (client->done < SAMPLES)
            client->latency_ns[client->done] = (uint32_t)(now - client->sent_at_ns[handle]);
        client->done++;
        handles[count++] = (uint32_t)handle;
    }
    have -= (size_t)count * REPLY;
    memmove(buffer, buffer + (size_t)count * REPLY, have);
    return count;
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static void report(const struct client *client, double seconds)
{
    uint64_t kept = client->done < SAMPLES ? client->done : SAMPLES;
    static const struct {
        const char *name;
        double at;
    } wanted[] = {{"p50_us", 0.5}, {"p90_us", 0.9}, {"p99_us", 0.99}, {"p999_us", 0.999}};

    qsort(client->latency_ns, kept, sizeof(uint32_t), compare_u32);
    printf("{\"done\": %llu, \"seconds\": %.3f, \"iops\": %.1f", (unsigned long long)client->done,
           seconds, (double)client->done / seconds);
    for (size_t i = 0; i < ARRAY_LENGTH(wanted); i++) {
        uint64_t rank = (uint64_t)(wanted[i].at * (double)kept);

        printf(", \"%s\": %.1f", wanted[i].name,
               client->latency_ns[rank < kept ? rank : kept - 1] / 1e3);
    }
    printf("}\n");
}

static void run(struct client *client)
{
    uint32_t handles[DEPTH_LIMIT], in_flight = client->depth;
    uint64_t start = now_ns(), end = start + (uint64_t)(client->seconds * 1e9), last = start;

    for (uint32_t i = 0; i < client->depth; i++)
        handles[i] = i;
    send_requests(client, handles, client->depth);
    while (in_flight > 0) {
        uint32_t count = take_replies(client, handles);

        last = now_ns();
        if (last < end)
            send_requests(client, handles, count);
        else
            in_flight -= count;
    }
    report(client, (double)(last - start) / 1e9);
}

int main(int argc, char **argv)
{
    struct client client = {0};
    struct generator random;
    uint8_t bye[REQUEST_HEAD] = {0x25, 0x60, 0x95, 0x13, 0, 0, 0, 2};

    if (argc != 6) {
        fprintf(stderr, "usage: %s HOST PORT EXPORT DEPTH SECONDS\n", argv[0]);
        return 2;
    }
    client.depth = (uint32_t)atoi(argv[4]);
    client.seconds = atof(argv[5]);
    if (client.depth < 1 || client.depth > DEPTH_LIMIT)
        refuse("DEPTH must be from 1 to 256");
    if (!(client.seconds > 0 && client.seconds <= 600))
        refuse("SECONDS must be above 0 and at most 600");
    client.latency_ns = calloc(SAMPLES, sizeof(uint32_t));
    if (client.latency_ns == NULL)
        give_up("calloc");
    generator_seed(&random, now_ns());
    client.random = &random;
    client.fd = connect_to(argv[1], (uint16_t)atoi(argv[2]));
    client.pages = handshake(client.fd, argv[3]) / PAGE;
    if (client.pages == 0)
        refuse("the export is smaller than one page");
    run(&client);
    writev_whole(client.fd, &(struct iovec){bye, sizeof(bye)}, 1);
    close(client.fd);
    free(client.latency_ns);
    return 0;
}
