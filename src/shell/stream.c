/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See stream.h. Without TLS the engine's own lists are given to the kernel; with TLS they are
 * encrypted into its ring, which is then sent. */

#include "shell/stream.h"

#include "base/bytes.h"
#include "shell/socket.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct stream *of(const void *part, size_t offset)
{
    return (struct stream *)((uintptr_t)part - offset);
}

static void process(struct stream *stream);

/* ---- its end ---- */

static void retire(struct timer *timer)
{
    struct stream *stream = of(timer, offsetof(struct stream, retire));
    if (stream->descriptor >= 0)
        close(stream->descriptor);
    stream->descriptor = -1;
    stream->closing = false;
    loop_timer_clear(&stream->wake);
    tls_end(&stream->tls);
    stream->user->closed(stream, stream->why);
}

static void retire_if_idle(struct stream *stream)
{
    if (!stream->connecting && !stream->receiving && !stream->sending)
        loop_timer_set(stream->loop, &stream->retire, stream->loop->now_us);
}

void stream_close(struct stream *stream, const char *why)
{
    if (stream->closing)
        return;
    snprintf(stream->why, sizeof stream->why, "%s", why);
    stream->closing = true;
    stream->is_open = false;
    if (stream->connecting)
        loop_cancel(stream->loop, &stream->connect);
    else if (stream->descriptor >= 0)
        shutdown(stream->descriptor, SHUT_RDWR);
    retire_if_idle(stream);
}

static bool is_live(const struct stream *stream)
{
    return stream->descriptor >= 0 && !stream->closing;
}

/* An operation has ended. True: the stream goes on. */
static bool goes_on(struct stream *stream)
{
    if (stream->closing)
        retire_if_idle(stream);
    return is_live(stream);
}

static bool is_error(int result)
{
    return result < 0 && result != -EINTR && result != -EAGAIN;
}

/* ---- what comes ---- */

static void receive(struct stream *stream)
{
    struct io_uring_sqe *sqe;
    uint8_t *place = NULL;
    if (stream->receiving)
        return;
    stream->direct_bytes = 0;
    if (stream->with_tls) {
        size_t room = tls_place(&stream->tls, &place);
        if (room == 0) { /* it has to send something before it reads on */
            stream->feed_waits = true;
            return;
        }
        sqe = loop_sqe(stream->loop);
        io_uring_prep_recv(sqe, stream->descriptor, place, room, 0);
    } else {
        uint32_t left = stream->input_end - stream->input_start;
        memmove(stream->input, stream->input + stream->input_start, left);
        stream->input_start = 0;
        stream->input_end = left;
        uint32_t wanted = left == 0 ? stream->user->wants(stream, &place) : 0;
        sqe = loop_sqe(stream->loop);
        if (wanted > 0) {
            bool part = wanted > stream->direct_most;
            wanted = min_u32(wanted, stream->direct_most);
            stream->receive_iov[0] = (struct iovec){place, wanted};
            stream->receive_iov[1] = (struct iovec){stream->input, STREAM_INPUT_AFTER};
            stream->receive_message =
                (struct msghdr){.msg_iov = stream->receive_iov, .msg_iovlen = part ? 1 : 2};
            stream->direct_bytes = wanted;
            io_uring_prep_recvmsg(sqe, stream->descriptor, &stream->receive_message, 0);
        } else {
            io_uring_prep_recv(sqe, stream->descriptor, stream->input + left, STREAM_INPUT - left,
                               0);
        }
    }
    if (stream->poll_first)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    loop_own(sqe, &stream->receive);
    stream->receiving = true;
}

/* The next decrypted bytes, to where they are wanted. False: there are none. */
static bool decrypt(struct stream *stream)
{
    uint8_t *place;
    uint32_t left = stream->input_end - stream->input_start;
    uint32_t wanted = left == 0 ? stream->user->wants(stream, &place) : 0;
    size_t got;
    if (wanted > 0) {
        got = tls_read(&stream->tls, place, wanted);
        if (got > 0)
            stream->user->filled(stream, (uint32_t)got);
    } else {
        memmove(stream->input, stream->input + stream->input_start, left);
        stream->input_start = 0;
        got = tls_read(&stream->tls, stream->input + left, STREAM_INPUT - left);
        stream->input_end = left + (uint32_t)got;
    }
    if (got == 0 && stream->tls.state == TLS_CLOSED)
        stream_close(stream, "the connection was closed");
    else if (got == 0 && stream->tls.state == TLS_FAILED)
        stream_close(stream, stream->tls.reason);
    return got > 0;
}

static void opened(struct stream *stream)
{
    stream->is_open = true;
    stream->user->opened(stream);
}

/* False: the handshake goes on, or has failed. */
static bool shake_hands(struct stream *stream)
{
    if (stream->is_open)
        return true;
    switch (tls_step(&stream->tls)) {
    case TLS_HANDSHAKE:
        return false;
    case TLS_READY:
        opened(stream);
        return is_live(stream);
    default:
        break;
    }
    /* What is left tells the other end why; it may get through. */
    uint8_t *bytes;
    size_t size = tls_output(&stream->tls, &bytes);
    if (size > 0 && !stream->sending)
        (void)!send(stream->descriptor, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    stream_close(stream, stream->tls.state == TLS_FAILED ? stream->tls.reason
                                                         : "the connection was closed");
    return false;
}

/* Everything that came is given to the engine, as far as it takes it. */
static void process(struct stream *stream)
{
    stream->feed_waits = false;
    if (stream->with_tls && !shake_hands(stream)) {
        if (is_live(stream))
            receive(stream);
        return;
    }
    while (is_live(stream) && !stream->receiving) {
        bool again = false;
        size_t size = stream->input_end - stream->input_start;
        size_t taken =
            stream->user->feed(stream, stream->input + stream->input_start, size, &again);
        stream->input_start += (uint32_t)taken;
        if (again)
            continue;
        if (size > 0 && taken == 0) {
            stream->feed_waits = true;
            return;
        }
        if (stream->input_start < stream->input_end)
            continue;
        if (!stream->with_tls || !decrypt(stream))
            break;
    }
    if (is_live(stream))
        receive(stream);
}

static void received(struct op *op, int result, unsigned flags)
{
    struct stream *stream = of(op, offsetof(struct stream, receive));
    stream->receiving = false;
    if (!goes_on(stream))
        return;
    if (result == 0 || is_error(result)) {
        stream_close(stream, result == 0 ? "the connection was closed" : strerror(-result));
        return;
    }
    uint32_t got = result > 0 ? (uint32_t)result : 0;
    stream->poll_first = !(flags & IORING_CQE_F_SOCK_NONEMPTY);
    stream->heard_us = stream->moved_us = stream->loop->now_us;
    stream->received_bytes += got;
    if (stream->with_tls) {
        tls_received(&stream->tls, got);
    } else {
        uint32_t direct = min_u32(got, stream->direct_bytes);
        if (direct > 0)
            stream->user->filled(stream, direct);
        if (direct > 0 && direct == stream->direct_most)
            stream->direct_most = min_u32(direct * 2, STREAM_RECEIVE_MOST); /* it piles up */
        else
            stream->direct_most = STREAM_RECEIVE;
        stream->input_end += got - direct;
    }
    process(stream);
}

/* ---- what goes ---- */

/* The engine may have something to tell now that its bytes have left. */
static void told_sent(struct stream *stream, size_t size)
{
    bool again = true;
    stream->user->sent(stream, size);
    while (is_live(stream) && again) {
        again = false;
        stream->user->feed(stream, NULL, 0, &again);
    }
}

static void encrypt(struct stream *stream)
{
    bool more = stream->is_open;
    while (more && is_live(stream)) {
        struct iovec *iov;
        uint32_t count = stream->user->output(stream, &iov);
        size_t taken = 0, wanted = 0;
        for (uint32_t i = 0; i < count && taken == wanted; i++) {
            wanted += iov[i].iov_len;
            taken += tls_write(&stream->tls, iov[i].iov_base, iov[i].iov_len);
        }
        more = taken > 0;
        if (stream->tls.state == TLS_FAILED)
            stream_close(stream, stream->tls.reason);
        else if (taken > 0)
            told_sent(stream, taken);
    }
}

/* The list cut to what the bandwidth allows. */
static uint32_t cut_list(struct stream *stream, struct iovec *iov, uint32_t count, uint64_t allowed)
{
    stream->cut = NULL;
    stream->send_bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (iov[i].iov_len >= allowed - stream->send_bytes) {
            stream->cut = &iov[i];
            stream->cut_bytes = iov[i].iov_len;
            iov[i].iov_len = allowed - stream->send_bytes;
            stream->send_bytes = allowed;
            return i + 1;
        }
        stream->send_bytes += iov[i].iov_len;
    }
    return count;
}

static bool must_wait(const struct stream *stream, uint64_t now_us)
{
    return stream->pace == COPY_SOON || (stream->pace == COPY_NOT_NOW && now_us < stream->pause_us);
}

static void send_list(struct stream *stream)
{
    struct iovec *iov = &stream->send_piece;
    uint32_t count = 1;
    if (stream->with_tls) {
        uint8_t *bytes;
        stream->send_piece.iov_len = tls_output(&stream->tls, &bytes);
        stream->send_piece.iov_base = bytes;
        count = stream->send_piece.iov_len > 0;
    } else {
        count = stream->is_open ? stream->user->output(stream, &iov) : 0;
    }
    if (count == 0)
        return;
    uint64_t allowed = bucket_allows(&stream->bucket, stream->loop->now_us);
    uint64_t now_us = stream->loop->now_us;
    bool gently = stream->pace != COPY_FREELY;
    if (allowed == 0 || must_wait(stream, now_us)) {
        loop_timer_set(stream->loop, &stream->wake,
                       allowed == 0                ? bucket_when_us(&stream->bucket)
                       : stream->pace == COPY_SOON ? now_us
                                                   : stream->pause_us);
        return;
    }
    stream->pause_us = now_us + STREAM_GENTLE_US;
    count =
        cut_list(stream, iov, count, min_u64(allowed, gently ? STREAM_GENTLE_SEND : STREAM_SEND));
    stream->send_message = (struct msghdr){.msg_iov = iov, .msg_iovlen = count};
    struct io_uring_sqe *sqe = loop_sqe(stream->loop);
    io_uring_prep_sendmsg(sqe, stream->descriptor, &stream->send_message, MSG_NOSIGNAL);
    /* Never loop_send_now(): behind this list the engine may have the next one, for which the loop
     * has to come back as soon as this one has left. */
    if (stream->cut)
        loop_yield(stream->loop);
    loop_own(sqe, &stream->send);
    stream->sending = true;
}

static void sent(struct op *op, int result, unsigned flags)
{
    struct stream *stream = of(op, offsetof(struct stream, send));
    stream->sending = false;
    if (stream->cut)
        stream->cut->iov_len = stream->cut_bytes;
    stream->cut = NULL;
    if (!goes_on(stream))
        return;
    if (is_error(result)) {
        stream_close(stream, strerror(-result));
        return;
    }
    size_t size = result > 0 ? (size_t)result : 0;
    stream->sent_bytes += size;
    bucket_take(&stream->bucket, size);
    if (size > 0)
        stream->moved_us = stream->loop->now_us;
    if (stream->with_tls)
        tls_sent(&stream->tls, size);
    else
        told_sent(stream, size);
}

void stream_flush(struct stream *stream)
{
    if (!is_live(stream) || stream->connecting)
        return;
    if (stream->feed_waits)
        process(stream);
    if (is_live(stream) && stream->with_tls)
        encrypt(stream);
    if (is_live(stream) && !stream->sending)
        send_list(stream);
}

/* ---- its beginning ---- */

/* Nothing to do: the turn's flush follows. */
static void woken(struct timer *timer)
{
}

static bool begin(struct stream *stream, struct tls_context *context, bool server)
{
    stream->input_start = stream->input_end = 0;
    stream->feed_waits = stream->is_open = false;
    stream->poll_first = true;
    stream->direct_most = STREAM_RECEIVE;
    stream->heard_us = stream->moved_us = stream->loop->now_us;
    stream->sent_bytes = stream->received_bytes = 0;
    stream->with_tls = context != NULL;
    socket_no_delay(stream->descriptor);
    socket_unsent(stream->descriptor, STREAM_UNSENT);
    socket_watch(stream->descriptor);
    if (!context || tls_start(&stream->tls, context, server))
        return true;
    stream_close(stream, "no memory for TLS");
    return false;
}

static void start(struct stream *stream)
{
    if (stream->with_tls) {
        process(stream); /* the client's first bytes */
        return;
    }
    opened(stream);
    if (is_live(stream))
        process(stream);
}

static void connected(struct op *op, int result, unsigned flags)
{
    struct stream *stream = of(op, offsetof(struct stream, connect));
    stream->connecting = false;
    if (!goes_on(stream))
        return;
    if (result < 0)
        stream_close(stream, strerror(-result));
    else
        start(stream);
}

void stream_make(struct stream *stream, struct loop *loop, const struct stream_user *user)
{
    memset(stream, 0, offsetof(struct stream, input));
    stream->descriptor = -1;
    stream->loop = loop;
    stream->user = user;
    stream->connect.done = connected;
    stream->receive.done = received;
    stream->send.done = sent;
    stream->wake.fire = woken;
    stream->retire.fire = retire;
}

void stream_connect(struct stream *stream, const struct address *address,
                    struct tls_context *context, uint64_t rate_bytes)
{
    CHECK(stream->descriptor < 0);
    CHECK(!stream->closing);
    stream->descriptor = socket_for(address, 0);
    bucket_start(&stream->bucket, stream->loop->now_us, rate_bytes);
    if (stream->descriptor < 0) {
        stream_close(stream, strerror(errno));
        return;
    }
    socket_widen(stream->descriptor, STREAM_SOCKET_BYTES, &stream->send_room_bytes,
                 &stream->receive_room_bytes);
    if (!begin(stream, context, false))
        return;
    socklen_t size = socket_address(address, &stream->address);
    struct io_uring_sqe *sqe = loop_sqe(stream->loop);
    io_uring_prep_connect(sqe, stream->descriptor, (struct sockaddr *)&stream->address, size);
    loop_own(sqe, &stream->connect);
    stream->connecting = true;
}

void stream_accept(struct stream *stream, int descriptor, struct tls_context *context)
{
    CHECK(stream->descriptor < 0);
    CHECK(!stream->closing);
    stream->descriptor = descriptor;
    bucket_start(&stream->bucket, stream->loop->now_us, 0);
    if (begin(stream, context, true))
        start(stream);
}
