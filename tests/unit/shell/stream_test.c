/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A stream by itself, over a socket pair: an engine that lists its bytes in many lists gets all of
 * them sent although nothing else happens, and in order. */

#include "shell/stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

enum { LISTS = 64, LIST_BYTES = 3000, TURNS = 20 * LISTS, TURN_US = 200 * 1000 };

static struct loop loop;
static struct stream stream;
static uint8_t bytes[LISTS * LIST_BYTES];
static size_t left_at; /* what has left so far */
static struct iovec list;

static void opened(struct stream *opened)
{
}

static size_t feed(struct stream *fed, const uint8_t *from, size_t size, bool *again)
{
    return size;
}

static uint32_t wants(struct stream *wanting, uint8_t **place)
{
    return 0;
}

static void filled(struct stream *wanting, uint32_t size)
{
}

/* Never more than what is left of one list, as engines do. */
static uint32_t output(struct stream *sending, struct iovec **iov)
{
    list = (struct iovec){bytes + left_at, LIST_BYTES - left_at % LIST_BYTES};
    *iov = &list;
    return left_at < sizeof bytes;
}

static void sent(struct stream *sending, size_t size)
{
    left_at += size;
}

static void closed(struct stream *over, const char *why)
{
    loop.stopped = true;
}

static const struct stream_user user = {.opened = opened,
                                        .feed = feed,
                                        .wants = wants,
                                        .filled = filled,
                                        .output = output,
                                        .sent = sent,
                                        .closed = closed};

static void a_list_behind_a_list_waits_for_nothing_else(void **state)
{
    int pair[2], room = 1 << 20;
    assert_null(loop_open(&loop, 64, -1));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room), 0);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 251);
    stream_make(&stream, &loop, &user);
    stream_accept(&stream, pair[0], NULL);
    for (int turn = 0; turn < TURNS && left_at < sizeof bytes; turn++) {
        uint64_t began_us = loop_clock_us();
        stream_flush(&stream);
        loop_turn(&loop, began_us + TURN_US);
        assert_true(loop_clock_us() < began_us + TURN_US); /* it was not time that ended the turn */
    }
    assert_int_equal(left_at, sizeof bytes);
    static uint8_t came[sizeof bytes];
    assert_int_equal(recv(pair[1], came, sizeof came, MSG_WAITALL), sizeof came);
    assert_memory_equal(came, bytes, sizeof bytes);
    stream_close(&stream, "done");
    for (int turn = 0; turn < TURNS && !loop.stopped; turn++)
        loop_turn(&loop, loop_clock_us() + 1000);
    assert_true(loop.stopped);
    close(pair[1]);
    loop_close(&loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_behind_a_list_waits_for_nothing_else),
    };
    return cmocka_run_group_tests_name("shell/stream", tests, NULL, NULL);
}
