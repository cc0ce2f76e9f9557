/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Asks a control socket one question. It waits in poll() up to one deadline for all of it, takes no
 * more than a bounded answer, and never looks into it. */

#include "cli/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Waits until `descriptor` can do `events`. False, with a sentence, when the time is over. */
static bool wait_for(int descriptor, short events, int64_t deadline_ms, char why[TRACE_LINE])
{
    for (;;) {
        int64_t left = deadline_ms - now_ms();
        struct pollfd poller = {.fd = descriptor, .events = events};
        int ready = left > 0 ? poll(&poller, 1, (int)left) : 0;
        if (ready > 0)
            return true;
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready == 0)
            snprintf(why, TRACE_LINE, "no answer within the time given");
        else
            snprintf(why, TRACE_LINE, "poll: %s", strerror(errno));
        return false;
    }
}

static int connect_to(const char *path, int64_t deadline_ms, char why[TRACE_LINE])
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        snprintf(why, TRACE_LINE, "a socket's path has at most %zu bytes",
                 sizeof address.sun_path - 1);
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0) {
        snprintf(why, TRACE_LINE, "socket: %s", strerror(errno));
        return -1;
    }
    /* A UNIX socket connects at once, or EAGAIN says that its backlog is full: then try again in a
     * while. */
    while (connect(descriptor, (struct sockaddr *)&address, sizeof address) != 0) {
        if (errno == EINTR || (errno == EAGAIN && now_ms() < deadline_ms)) {
            poll(NULL, 0, 10);
            continue;
        }
        snprintf(why, TRACE_LINE, "%.110s: %s", path, strerror(errno));
        close(descriptor);
        return -1;
    }
    return descriptor;
}

static bool send_line(int descriptor, const char *line, int64_t deadline_ms, char why[TRACE_LINE])
{
    size_t length = strlen(line);
    size_t sent = 0;
    while (sent < length) {
        ssize_t count = send(descriptor, line + sent, length - sent, MSG_NOSIGNAL);
        if (count >= 0) {
            sent += (size_t)count;
        } else if (errno == EAGAIN) {
            if (!wait_for(descriptor, POLLOUT, deadline_ms, why))
                return false;
        } else if (errno != EINTR) {
            snprintf(why, TRACE_LINE, "send: %s", strerror(errno));
            return false;
        }
    }
    return true;
}

static char *receive_line(int descriptor, int64_t deadline_ms, char why[TRACE_LINE])
{
    char *answer = malloc(CLIENT_REPLY_BYTES);
    if (!answer) {
        snprintf(why, TRACE_LINE, "out of memory");
        return NULL;
    }
    size_t length = 0;
    while (length < CLIENT_REPLY_BYTES) {
        if (!wait_for(descriptor, POLLIN, deadline_ms, why))
            goto fail;
        ssize_t count = recv(descriptor, answer + length, CLIENT_REPLY_BYTES - length, 0);
        if (count < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (count <= 0) {
            snprintf(why, TRACE_LINE, "the controller closed the connection without an answer");
            goto fail;
        }
        char *newline = memchr(answer + length, '\n', (size_t)count);
        length += (size_t)count;
        if (newline) {
            *newline = '\0';
            return answer;
        }
    }
    snprintf(why, TRACE_LINE, "an answer of more than %d bytes", CLIENT_REPLY_BYTES);
fail:
    free(answer);
    return NULL;
}

char *client_ask(const char *path, const char *line, uint32_t timeout_ms, char why[TRACE_LINE])
{
    int64_t deadline_ms = now_ms() + timeout_ms;
    int descriptor = connect_to(path, deadline_ms, why);
    if (descriptor < 0)
        return NULL;
    char *answer = NULL;
    if (send_line(descriptor, line, deadline_ms, why))
        answer = receive_line(descriptor, deadline_ms, why);
    close(descriptor);
    return answer;
}

json_t *client_request(const char *path, json_t *request, uint32_t timeout_ms, char why[TRACE_LINE])
{
    char *text = json_dumps(request, JSON_COMPACT);
    json_decref(request);
    CHECK(text);
    size_t length = strlen(text);
    char *line = realloc(text, length + 2);
    CHECK(line);
    memcpy(line + length, "\n", 2);
    char *answer = client_ask(path, line, timeout_ms, why);
    free(line);
    if (!answer)
        return NULL;
    json_t *reply = json_loads(answer, JSON_REJECT_DUPLICATES, NULL);
    free(answer);
    if (json_is_object(reply) && json_is_boolean(json_object_get(reply, "ok")))
        return reply;
    json_decref(reply);
    snprintf(why, TRACE_LINE, "%.100s: the answer is not one of a controller", path);
    return NULL;
}

json_t *client_status(const char *path, uint32_t timeout_ms, char why[TRACE_LINE])
{
    json_t *reply = client_request(path, json_pack("{ss}", "command", "status"), timeout_ms, why);
    if (!reply)
        return NULL;
    json_t *status = json_incref(json_object_get(reply, "status"));
    if (!json_is_object(status)) {
        const char *text = json_string_value(json_object_get(reply, "text"));
        snprintf(why, TRACE_LINE, "%.150s", text ? text : "the answer holds no status");
        json_decref(status);
        status = NULL;
    }
    json_decref(reply);
    return status;
}
