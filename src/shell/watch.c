/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Keeps one connection to the peer's parent. It believes only lines that warden_wire.h accepts,
 * never takes a lost connection for a death, and says "does not answer" as soon as a ping is
 * overdue, because a takeover waits for this parent while it answers. */

#include "shell/watch.h"

#include "shell/log.h"
#include "shell/socket.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void connection_open(struct watch *watch);

static bool is_open(const struct watch *watch)
{
    return watch->descriptor >= 0 && !watch->closing;
}

static void set_answering(struct watch *watch, bool answering)
{
    if (watch->answering == answering)
        return;
    watch->answering = answering;
    watch->events.answers(watch->events.context, answering);
}

static void connection_free(struct watch *watch)
{
    close(watch->descriptor);
    watch->descriptor = -1;
    watch->closing = watch->connected = false;
    loop_timer_set(watch->loop, &watch->timer, watch->loop->now_us + watch->retry_ms * 1000ull);
    watch->retry_ms = min_u32(watch->retry_ms * 2, WATCH_RETRY_MOST_MS);
}

static void connection_lost(struct watch *watch, const char *why)
{
    if (watch->closing)
        return;
    if (watch->answering)
        log_say(LOG_WARNING, "the peer's parent at %s is lost: %s",
                watch->config->controllers[watch->peer].warden.text, why);
    snprintf(watch->error, sizeof watch->error, "%s", why);
    set_answering(watch, false);
    watch->closing = true;
    if (watch->pending == 0) {
        connection_free(watch);
        return;
    }
    /* The operations under way end because of this; the last one frees the descriptor. */
    if (watch->connected)
        shutdown(watch->descriptor, SHUT_RDWR);
    else
        loop_cancel(watch->loop, &watch->connect);
}

static void say(struct watch *watch, enum warden_word word, uint64_t number)
{
    char line[WARDEN_LINE_BYTES];
    uint32_t length = warden_wire_put(&watch->wire, word, number, line);
    if (send(watch->descriptor, line, length, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)length)
        connection_lost(watch, "it does not take a line");
}

static void fence_if_possible(struct watch *watch)
{
    if (!watch->fence || watch->fence_said || !is_open(watch) || watch->connection_alive == 0)
        return;
    if (!watch->events.fence_wanted(watch->events.context)) {
        watch->fence = false;
        return;
    }
    watch->fence_said = true;
    say(watch, WARDEN_FENCE, watch->connection_alive);
}

void watch_fence(struct watch *watch)
{
    watch->fence = true;
    watch->fence_said = false;
    fence_if_possible(watch);
}

static void on_alive(struct watch *watch, uint64_t incarnation)
{
    uint64_t before = watch->incarnation;
    watch->incarnation = watch->connection_alive = incarnation;
    watch->retry_ms = WATCH_RETRY_LEAST_MS;
    watch->error[0] = '\0';
    set_answering(watch, true);
    if (before != 0 && before != incarnation) {
        /* A new one runs only when it has the lock, and that the ring of the old one held to its
         * end. */
        watch->fence = false;
        watch->events.gone(watch->events.context, before);
    }
    fence_if_possible(watch);
}

static void on_gone(struct watch *watch, uint64_t incarnation)
{
    bool asked = watch->fence;
    watch->fence = false;
    watch->incarnation = incarnation;
    say(watch, WARDEN_SEEN, incarnation);
    watch->events.gone(watch->events.context, incarnation);
    if (asked)
        watch->events.gone(watch->events.context, 0);
}

static void on_line(struct watch *watch, const struct warden_line *line)
{
    watch->heard_us = watch->loop->now_us;
    switch (line->word) {
    case WARDEN_HEAD:
        say(watch, WARDEN_WATCH, 0);
        break;
    case WARDEN_ALIVE:
        on_alive(watch, line->number);
        break;
    case WARDEN_GONE:
        on_gone(watch, line->number);
        break;
    case WARDEN_PONG:
        set_answering(watch, true);
        break;
    default:
        connection_lost(watch, "a line out of place");
    }
}

static void receive(struct watch *watch)
{
    uint32_t room;
    char *place = warden_wire_place(&watch->wire, &room);
    struct io_uring_sqe *sqe = loop_sqe(watch->loop);
    io_uring_prep_recv(sqe, watch->descriptor, place, room, 0);
    loop_own(sqe, &watch->receive);
    watch->pending++;
}

static void received(struct op *op, int result, unsigned flags)
{
    struct watch *watch = (struct watch *)((char *)op - offsetof(struct watch, receive));
    watch->pending--;
    if (watch->closing) {
        if (watch->pending == 0)
            connection_free(watch);
        return;
    }
    if (result <= 0 && result != -EINTR && result != -EAGAIN) {
        connection_lost(watch, result == 0 ? "it closed the connection" : strerror(-result));
        return;
    }
    if (result > 0)
        warden_wire_received(&watch->wire, (uint32_t)result);
    struct warden_line line;
    const char *why = NULL;
    int next = 0;
    while (is_open(watch) && (next = warden_wire_next(&watch->wire, &line, &why)) > 0)
        on_line(watch, &line);
    if (!is_open(watch))
        return;
    if (next < 0) {
        log_say(LOG_ERROR, "the peer's parent at %s: %s",
                watch->config->controllers[watch->peer].warden.text, why);
        connection_lost(watch, why);
        return;
    }
    receive(watch);
}

static void connected(struct op *op, int result, unsigned flags)
{
    struct watch *watch = (struct watch *)((char *)op - offsetof(struct watch, connect));
    watch->pending--;
    if (watch->closing) {
        connection_free(watch);
        return;
    }
    if (result < 0) {
        connection_lost(watch, strerror(-result));
        return;
    }
    watch->connected = true;
    watch->heard_us = watch->loop->now_us;
    socket_no_delay(watch->descriptor);
    say(watch, WARDEN_HEAD, 0);
    if (is_open(watch))
        receive(watch);
}

static void tick(struct timer *timer)
{
    struct watch *watch = (struct watch *)((char *)timer - offsetof(struct watch, timer));
    if (watch->descriptor < 0) {
        connection_open(watch);
        return;
    }
    uint64_t now_us = watch->loop->now_us;
    loop_timer_set(watch->loop, timer, now_us + watch->ping_ms * 1000ull);
    if (watch->closing)
        return;
    if (now_us - watch->heard_us > watch->silence_ms * 1000ull) {
        connection_lost(watch, "it does not answer");
        return;
    }
    if (watch->connection_alive != 0) {
        say(watch, WARDEN_PING, ++watch->ping_count);
        if (is_open(watch))
            fence_if_possible(watch);
    }
}

static void connection_open(struct watch *watch)
{
    const struct address *address = &watch->config->controllers[watch->peer].warden;
    socklen_t size = socket_address(address, &watch->address);
    watch->descriptor = socket_for(address, 0);
    watch->connection_alive = 0;
    watch->fence_said = false;
    if (watch->descriptor < 0 || !warden_wire_start(&watch->wire, watch->config->name,
                                                    watch->config->secret, watch->peer, false)) {
        snprintf(watch->error, sizeof watch->error, "no socket: %s", strerror(errno));
        if (watch->descriptor >= 0)
            close(watch->descriptor);
        watch->descriptor = -1;
        loop_timer_set(watch->loop, &watch->timer,
                       watch->loop->now_us + WATCH_RETRY_MOST_MS * 1000ull);
        return;
    }
    watch->heard_us = watch->loop->now_us;
    struct io_uring_sqe *sqe = loop_sqe(watch->loop);
    io_uring_prep_connect(sqe, watch->descriptor, (struct sockaddr *)&watch->address, size);
    loop_own(sqe, &watch->connect);
    watch->pending++;
    loop_timer_set(watch->loop, &watch->timer, watch->loop->now_us + watch->ping_ms * 1000ull);
}

void watch_start(struct watch *watch, struct loop *loop, const struct config *config, int peer,
                 const struct watch_events *events)
{
    *watch = (struct watch){
        .loop = loop,
        .config = config,
        .peer = peer,
        .events = *events,
        .connect.done = connected,
        .receive.done = received,
        .timer.fire = tick,
        .descriptor = -1,
        .retry_ms = WATCH_RETRY_LEAST_MS,
        .ping_ms = max_u32(config->lease_ms / 8, WATCH_PING_LEAST_MS),
        .silence_ms = max_u32(config->lease_ms / 2, 4 * WATCH_PING_LEAST_MS),
    };
    connection_open(watch);
}
