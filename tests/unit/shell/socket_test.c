/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Connections between the controllers: nothing waits to be sent, and no congestion control that
 * holds messages back is used; every other choice of the machine stands. */

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

static void assert_chosen(int descriptor, const char *name)
{
    char found[NAME_SIZE + 1] = "";
    socklen_t size = NAME_SIZE;
    assert_int_equal(getsockopt(descriptor, IPPROTO_TCP, TCP_CONGESTION, found, &size), 0);
    assert_string_equal(found, name);
}

static void becomes_reno(const char *name)
{
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool known = choose(descriptor, name);
    if (known) {
        socket_to_peer(descriptor);
        assert_chosen(descriptor, "reno");
    }
    close(descriptor);
    if (!known)
        skip(); /* this kernel has none, or keeps it for others */
}

static void reno_stands(void **state)
{
    becomes_reno("reno");
}

static void bbr_gives_way(void **state)
{
    becomes_reno("bbr");
}

static void cubic_gives_way(void **state)
{
    becomes_reno("cubic");
}

static void others_stand(void **state)
{
    static const char *const names[] = {"dctcp", "vegas", "westwood", "htcp"};
    bool any = false;
    for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
        int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (choose(descriptor, names[i])) {
            socket_to_peer(descriptor);
            assert_chosen(descriptor, names[i]);
            any = true;
        }
        close(descriptor);
    }
    if (!any)
        skip();
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
        cmocka_unit_test(reno_stands),
        cmocka_unit_test(bbr_gives_way),
        cmocka_unit_test(cubic_gives_way),
        cmocka_unit_test(others_stand),
        cmocka_unit_test(nothing_waits_to_be_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
