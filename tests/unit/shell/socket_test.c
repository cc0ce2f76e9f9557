/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Connections between the controllers: nothing waits to be sent, and no congestion control paces
 * what is; every other choice of the machine stands. */

#include "shell/socket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { NAME_SIZE = 16 }; /* TCP_CA_NAME_MAX */

static bool choose(int descriptor, const char *name)
{
    return setsockopt(descriptor, IPPROTO_TCP, TCP_CONGESTION, name, (socklen_t)strlen(name)) == 0;
}

static void assert_chosen(int descriptor, const char *name, bool equal)
{
    char found[NAME_SIZE + 1] = "";
    socklen_t size = NAME_SIZE;
    assert_int_equal(getsockopt(descriptor, IPPROTO_TCP, TCP_CONGESTION, found, &size), 0);
    assert_int_equal(strcmp(found, name) == 0, equal);
}

static void what_does_not_pace_stands(void **state)
{
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(choose(descriptor, "reno"));
    socket_to_peer(descriptor);
    assert_chosen(descriptor, "reno", true);
    close(descriptor);
}

static void what_paces_gives_way(void **state)
{
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (!choose(descriptor, "bbr")) {
        close(descriptor);
        skip(); /* this kernel has none, or keeps it for others */
    }
    socket_to_peer(descriptor);
    assert_chosen(descriptor, "bbr", false);
    close(descriptor);
}

static void nothing_waits_to_be_sent(void **state)
{
    int on = 0;
    socklen_t size = sizeof on;
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socket_to_peer(descriptor);
    assert_int_equal(getsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, &size), 0);
    assert_true(on);
    close(descriptor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_does_not_pace_stands),
        cmocka_unit_test(what_paces_gives_way),
        cmocka_unit_test(nothing_waits_to_be_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
