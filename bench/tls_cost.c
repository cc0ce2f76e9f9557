/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What TLS costs the long link: both ends in one process on one processor, no network between them.
 * Prints the gigabits per second of plain text that one processor encrypts and decrypts, and the
 * handshakes per second. The one argument is the file of a pre-shared key. */

#include "shell/tls.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { PIECE = 256 * 1024, HANDSHAKES = 200 };

static struct tls ends[2];

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static bool carry(struct tls *from, struct tls *to)
{
    uint8_t *bytes, *place;
    size_t size = tls_output(from, &bytes), room = tls_place(to, &place);
    size = size < room ? size : room;
    if (size == 0)
        return false;
    memcpy(place, bytes, size);
    tls_received(to, size);
    tls_sent(from, size);
    return true;
}

static void connect_both(struct tls_context *context)
{
    CHECK(tls_start(&ends[0], context, false));
    CHECK(tls_start(&ends[1], context, true));
    bool moved = true;
    while (moved) {
        tls_step(&ends[0]);
        tls_step(&ends[1]);
        moved = carry(&ends[0], &ends[1]);
        moved |= carry(&ends[1], &ends[0]);
    }
    CHECK(ends[0].state == TLS_READY);
    CHECK(ends[1].state == TLS_READY);
}

int main(int argc, char **argv)
{
    static uint8_t text[PIECE], got[PIECE];
    char why[TRACE_LINE];
    struct tls_context *context;
    struct tls_files files = {.psk = argc == 2 ? argv[1] : ""};
    const char *wrong =
        argc == 2 ? tls_context_make(&context, &files, "", why) : "usage: tls-cost PSK-FILE";
    if (wrong) {
        fprintf(stderr, "%s\n", wrong);
        return 2;
    }
    double start_s = now_s();
    for (int i = 0; i < HANDSHAKES; i++) {
        connect_both(context);
        tls_end(&ends[0]);
        tls_end(&ends[1]);
    }
    printf("handshakes/s %.0f\n", HANDSHAKES / (now_s() - start_s));
    connect_both(context);
    uint64_t bytes = 0;
    start_s = now_s();
    while (now_s() - start_s < 2) {
        for (int i = 0; i < 64; i++) {
            tls_write(&ends[0], text, sizeof text);
            carry(&ends[0], &ends[1]);
            bytes += tls_read(&ends[1], got, sizeof got);
        }
    }
    printf("both ends on one processor, Gbit/s %.1f\n",
           (double)bytes * 8 / 1e9 / (now_s() - start_s));
    return 0;
}
