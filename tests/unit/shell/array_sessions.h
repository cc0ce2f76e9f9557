/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What tests of sessions between arrays share: configurations of arrays on free ports, waiting with
 * an end, and the freeing of both ends, which controllers do only by ending, so that a leak in a
 * test is one. Included once by each, after cmocka's headers. */

#ifndef TESTS_UNIT_SHELL_ARRAY_SESSIONS_H
#define TESTS_UNIT_SHELL_ARRAY_SESSIONS_H

#include "shell/array_session.h"
#include "shell/copy_server.h"

#include "idle_buffers.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Turns of the test's own turn() until the condition holds; what `out` says else. */
#define UNTIL(condition, seconds)                                                                  \
    do {                                                                                           \
        uint64_t end_us = loop_clock_us() + (seconds)*1000000ull;                                  \
        while (!(condition)) {                                                                     \
            if (loop_clock_us() > end_us)                                                          \
                fail_msg("not within %d s: %s (%s)", (int)(seconds), #condition,                   \
                         out->session.counts.error);                                               \
            turn();                                                                                \
        }                                                                                          \
    } while (0)

static inline uint16_t listen_somewhere(int *listener)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    *listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(*listener, (struct sockaddr *)&at, size), 0);
    assert_int_equal(listen(*listener, 16), 0);
    assert_int_equal(getsockname(*listener, (struct sockaddr *)&at, &size), 0);
    return ntohs(at.sin_port);
}

static inline uint16_t free_port(void)
{
    int listener;
    uint16_t port = listen_somewhere(&listener);
    close(listener);
    return port;
}

/* An array with one store and volume v on it, listening for copies at these ports; then `rest`. */
static inline void parse_array(struct config *to, const char *name, const uint16_t ports[2],
                               const char *rest)
{
    static struct config_errors errors;
    char text[4096];
    snprintf(text, sizeof text,
             "[array]\nname = %s\nregister = /r\n"
             "[controller a]\nlink = 127.0.0.1:1\nwarden = 127.0.0.1:2\nnbd = 127.0.0.1:3\n"
             "copy = 127.0.0.1:%u\nrun = /r/a\n"
             "[controller b]\nlink = 127.0.0.1:11\nwarden = 127.0.0.1:12\nnbd = 127.0.0.1:13\n"
             "copy = 127.0.0.1:%u\nrun = /r/b\n"
             "[store disk]\npath = /s/disk.img\n[volume v]\nstore = disk\nsize = 1G\n%s",
             name, ports[0], ports[1], rest);
    if (!config_parse("f", text, strlen(text), to, &errors))
        fail_msg("%s", errors.text[0]);
}

/* `context` is what each is told apart by. */
static inline struct copy_server *server_start(struct loop *loop, const struct config *config,
                                               int self, const struct copy_server_user *user,
                                               void *context)
{
    char why[TRACE_LINE];
    struct copy_server *server = calloc(1, sizeof *server);
    assert_non_null(server);
    const char *wrong = copy_server_start(server, loop, config, self, user, context, why);
    if (wrong)
        fail_msg("%s", wrong);
    return server;
}

static inline void stream_free(struct stream *stream)
{
    if (stream->descriptor >= 0)
        close(stream->descriptor);
    tls_end(&stream->tls);
}

/* Once the loop is closed: what the ring still had goes first. */
static inline void server_free(struct copy_server *server)
{
    worker_end(&server->worker);
    ZSTD_freeDCtx(server->decompressor);
    close(server->listener);
    for (uint32_t i = 0; i < COPY_SESSION_LIMIT; i++) {
        if (server->sessions[i])
            stream_free(&server->sessions[i]->stream);
        free(server->sessions[i]);
    }
    for (uint32_t i = 0; i < COPY_TASK_LIMIT; i++) {
        if (server->tasks[i].buffer)
            buffer_give(&server->buffers, server->tasks[i].buffer);
        if (server->tasks[i].packed)
            buffer_give(&server->buffers, server->tasks[i].packed);
    }
    free_idle_buffers(&server->buffers);
    tls_context_free(server->tls);
    free(server->tasks);
    free(server);
}

static inline void session_free(struct array_session *session)
{
    stream_free(&session->stream);
    tls_context_free(session->tls);
}

#endif
