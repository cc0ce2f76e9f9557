/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The way between two sites: a TCP proxy through which every byte arrives `delay` later, and at
 * most `rate` bytes a second leave each end, over all its connections together. What has come and
 * not left waits for at most WAITING_US; then nothing more is read, and the sender feels it, as
 * behind a real router. It keeps its bytes in rings taken at start, and carries 1 Gbit/s over 100
 * ms without being what limits it.
 *
 *     way DELAY-US RATE-BYTES PORT TO-PORT [PORT TO-PORT ...]     0: no delay, no limit
 *
 * For each line on stdin it prints how many bytes have passed so far, there and back. Ends with
 * stdin. */

#include "base/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    DOORS = 4,
    LINES = 16,
    RING_BYTES = 64 << 20, /* 200 ms at 1 Gbit/s are 25 MB */
    CHUNKS = 1 << 15,
    CHUNK_BYTES = 16 * 1024, /* a kernel that is not preempted copies no more at a time */
    TAKES = 16,              /* chunks of a connection at a time: the others come next */
    WAITING_US = 20000,
    LOOK_US = 500, /* while something comes it is looked for so often, and nobody wakes this ... */
    QUIET_US = 5000, /* ... program, as nobody is woken by a wire; until so long nothing came */
    WAITING_BYTES = 2 << 20,
    SECOND_US = 1000000,
};

struct chunk {
    uint64_t due_us, upto;
};

/* One direction of one connection. */
struct flow {
    int from, to, end; /* end: 0 there, 1 back */
    uint8_t *bytes;
    uint64_t head, tail;
    struct chunk *chunks;
    uint32_t chunk_head, chunk_tail;
    bool over; /* nothing more comes */
};

struct line {
    bool used;
    struct flow flows[2];
};

static struct door {
    int listener;
    uint16_t to;
} doors[DOORS];
static struct line lines[LINES];
static int door_count;
static uint64_t delay_us, rate_bytes;
static uint64_t free_us[2]; /* when what was taken so far has left that end */
static uint64_t passed[2];
static uint64_t came_us; /* when something came last */

static uint64_t clock_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND_US + (uint64_t)now.tv_nsec / 1000;
}

static bool is_full(const struct flow *flow, uint64_t now_us)
{
    return flow->over || free_us[flow->end] > now_us + WAITING_US ||
           flow->tail - flow->head > RING_BYTES - CHUNK_BYTES ||
           flow->chunk_tail - flow->chunk_head == CHUNKS;
}

/* False: nothing is there. */
static bool take(struct flow *flow, uint64_t now_us)
{
    uint64_t at = flow->tail % RING_BYTES, size = RING_BYTES - at;
    ssize_t got =
        recv(flow->from, flow->bytes + at, size < CHUNK_BYTES ? size : CHUNK_BYTES, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (got <= 0) {
        flow->over = true;
        return false;
    }
    uint64_t *from_us = &free_us[flow->end];
    /* What this program was late to take would have begun to leave when it came. */
    if (*from_us + WAITING_US < now_us)
        *from_us = now_us - WAITING_US;
    if (rate_bytes > 0)
        *from_us += (uint64_t)got * SECOND_US / rate_bytes;
    came_us = now_us;
    flow->tail += (uint64_t)got;
    flow->chunks[flow->chunk_tail++ % CHUNKS] =
        (struct chunk){max_u64(*from_us, now_us) + delay_us, flow->tail};
    passed[flow->end] += (uint64_t)got;
    return true;
}

/* When the next bytes are due; UINT64_MAX: none are on their way. */
static uint64_t due_us(const struct flow *flow)
{
    return flow->chunk_head == flow->chunk_tail ? UINT64_MAX
                                                : flow->chunks[flow->chunk_head % CHUNKS].due_us;
}

static void give(struct flow *flow, uint64_t now_us)
{
    while (due_us(flow) <= now_us) {
        uint64_t upto = flow->chunks[flow->chunk_head % CHUNKS].upto;
        uint64_t at = flow->head % RING_BYTES, size = upto - flow->head;
        size = size < RING_BYTES - at ? size : RING_BYTES - at;
        ssize_t put = send(flow->to, flow->bytes + at, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (put < 0 && errno != EAGAIN && errno != EINTR) {
            flow->over = true;
            flow->chunk_head = flow->chunk_tail; /* nobody takes it any more */
        }
        if (put < 0)
            return;
        flow->head += (uint64_t)put;
        if (flow->head == upto)
            flow->chunk_head++;
    }
}

static void hang_up(struct line *line)
{
    close(line->flows[0].from);
    close(line->flows[0].to);
    line->used = false;
}

static void widen(int descriptor)
{
    int size = 8 << 20, yes = 1;
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

static void open_line(struct line *line, int near, uint16_t to_port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(to_port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int far = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(far, (struct sockaddr *)&to, sizeof to) < 0) {
        close(far);
        close(near);
        return;
    }
    widen(near);
    widen(far);
    for (int i = 0; i < 2; i++) {
        struct flow *flow = &line->flows[i];
        *flow = (struct flow){.from = i ? far : near,
                              .to = i ? near : far,
                              .end = i,
                              .bytes = flow->bytes,
                              .chunks = flow->chunks};
        if (!flow->bytes) {
            flow->bytes =
                mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            flow->chunks = malloc(CHUNKS * sizeof *flow->chunks);
            CHECK(flow->bytes != MAP_FAILED && flow->chunks);
        }
    }
    line->used = true;
}

static void let_in(const struct door *door)
{
    int near = accept4(door->listener, NULL, NULL, SOCK_CLOEXEC);
    for (int i = 0; i < LINES && near >= 0; i++)
        if (!lines[i].used) {
            open_line(&lines[i], near, door->to);
            return;
        }
    if (near >= 0)
        close(near);
}

/* Waits for the first thing to do. False: stdin has ended. */
static bool wait_for_work(uint64_t now_us)
{
    struct pollfd look[1 + DOORS + 4 * LINES];
    nfds_t count = 0;
    bool looks = came_us != 0 && now_us < came_us + QUIET_US;
    uint64_t until_us = now_us + (looks ? LOOK_US : 50000);
    look[count++] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
    for (int i = 0; i < door_count; i++)
        look[count++] = (struct pollfd){.fd = doors[i].listener, .events = POLLIN};
    for (int i = 0; i < 2 * LINES; i++) {
        const struct flow *flow = &lines[i / 2].flows[i % 2];
        if (!lines[i / 2].used)
            continue;
        if (!is_full(flow, now_us) && !looks)
            look[count++] = (struct pollfd){.fd = flow->from, .events = POLLIN};
        else if (free_us[flow->end] > now_us + WAITING_US)
            until_us = min_u64(until_us, free_us[flow->end] - WAITING_US);
        if (due_us(flow) <= now_us) /* it was tried, and there was no room */
            look[count++] = (struct pollfd){.fd = flow->to, .events = POLLOUT};
        else
            until_us = min_u64(until_us, due_us(flow));
    }
    uint64_t wait_us = until_us > now_us ? until_us - now_us : 0;
    struct timespec wait = {.tv_nsec = (long)wait_us * 1000};
    ppoll(look, count, &wait, NULL);
    for (int i = 0; i < door_count; i++)
        if (look[1 + i].revents)
            let_in(&doors[i]);
    if (look[0].revents) {
        char text[64];
        if (read(STDIN_FILENO, text, sizeof text) <= 0)
            return false;
        printf("%llu %llu\n", (unsigned long long)passed[0], (unsigned long long)passed[1]);
        fflush(stdout);
    }
    return true;
}

static int listen_at(const char *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    int yes = 1, little = WAITING_BYTES;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    /* What stands in this socket waits, too, and a wire holds little. */
    setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) < 0 || listen(listener, 16) < 0) {
        perror(port);
        exit(1);
    }
    return listener;
}

int main(int argc, char **argv)
{
    if (argc < 5 || argc % 2 == 0 || argc > 3 + 2 * DOORS) {
        fprintf(stderr, "usage: way DELAY-US RATE-BYTES PORT TO-PORT [PORT TO-PORT ...]\n");
        return 2;
    }
    delay_us = strtoull(argv[1], NULL, 10);
    rate_bytes = strtoull(argv[2], NULL, 10);
    for (int i = 3; i < argc; i += 2)
        doors[door_count++] = (struct door){listen_at(argv[i]), (uint16_t)atoi(argv[i + 1])};
    prctl(PR_SET_TIMERSLACK, 1000);
    for (uint64_t now_us = clock_us(); wait_for_work(now_us); now_us = clock_us()) {
        now_us = clock_us();
        for (int i = 0; i < 2 * LINES; i++) {
            struct line *line = &lines[i / 2];
            struct flow *flow = &line->flows[i % 2];
            if (!line->used)
                continue;
            for (int n = 0; n < TAKES && !is_full(flow, now_us) && take(flow, now_us); n++)
                continue;
            give(flow, now_us);
            if (flow->over && due_us(flow) == UINT64_MAX)
                hang_up(line);
        }
    }
    return 0;
}
