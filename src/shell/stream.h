/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* One TCP connection of the long link on the loop, with or without TLS, with or without a limit of
 * bandwidth: it carries the bytes between the kernel and a protocol engine of front/. What comes
 * goes straight to the place that the engine wants, encrypted or not. Invariants: at most one
 * receive and one send are under way; closed() is called once, from the loop, when neither is, and
 * never from inside a call of the owner's.
 *
 *     stream_connect() or stream_accept() -> opened() -> feed(), ... -> stream_close() -> closed()
 *     each turn of the loop: stream_flush() */

#ifndef SHELL_STREAM_H
#define SHELL_STREAM_H

#include "array/array.h"
#include "shell/bucket.h"
#include "shell/config.h"
#include "shell/loop.h"
#include "shell/tls.h"

enum {
    STREAM_INPUT = 64 * 1024,
    STREAM_UNSENT = 256 * 1024, /* left with the kernel before TCP can send it: what goes ahead of
                                   the rest cannot go ahead of that */
    STREAM_SEND = 64 * 1024, /* given to the kernel at a time, which copies it while hosts wait */
    STREAM_GENTLE_SEND = 16 * 1024, /* the same while hosts are served, and ... */
    STREAM_GENTLE_US = 150,         /* ... the longest pause behind it */
    STREAM_RECEIVE = 32 * 1024, /* taken from the kernel at a time, which does nothing else while it
                                   copies; and as long as more than that is there ... */
    STREAM_RECEIVE_MOST = 1024 * 1024, /* ... twice as much each time, up to this */
    STREAM_INPUT_AFTER = 4096,         /* received behind data that go to their own place */
    STREAM_SOCKET_BYTES = 32 << 20, /* wished for each way: 100 ms at 1 Gbit/s are 12.5 MB, and the
                                       kernel counts its own overhead in */
};

struct stream;

/* What the owner does; one table for all streams of a kind. */
struct stream_user {
    /* The connection is there, and with TLS the other end has proved who it is. */
    void (*opened)(struct stream *stream);
    /* Bytes came; returns how many were taken. *again: something happened and was dealt with; ask
     * once more even when nothing is left. Nothing taken and not again: wait for a flush. */
    size_t (*feed)(struct stream *stream, const uint8_t *bytes, size_t size, bool *again);
    /* Where the next bytes go (0: into the stream's own buffer), and that so many stand there. */
    uint32_t (*wants)(struct stream *stream, uint8_t **place);
    void (*filled)(struct stream *stream, uint32_t size);
    /* What to send now, and that so much of it has left, or was encrypted. */
    uint32_t (*output)(struct stream *stream, struct iovec **iov);
    void (*sent)(struct stream *stream, size_t size);
    /* It is over. The owner may begin anew with the same struct, at once. */
    void (*closed)(struct stream *stream, const char *why);
};

struct stream {
    enum copy_pace pace; /* set by the owner: when to send, and how much at a time */
    /* Read by the owner. */
    int descriptor;                      /* -1: none */
    bool is_open;                        /* opened() was called and it is not closing */
    uint64_t heard_us, moved_us;         /* when something came; when something came or left */
    uint64_t sent_bytes, received_bytes; /* over the wire, since it was opened */
    uint32_t send_room_bytes, receive_room_bytes; /* what the kernel may hold each way */
    bool with_tls;
    struct tls tls;

    /* Its own. */
    const struct stream_user *user;
    struct loop *loop;
    struct op connect, receive, send;
    bool connecting, receiving, sending, closing;
    bool poll_first, feed_waits;
    struct timer wake, retire;
    struct bucket bucket;
    uint64_t pause_us; /* when it is gentle: nothing is sent before */
    struct sockaddr_storage address;
    struct msghdr send_message, receive_message;
    struct iovec receive_iov[2], send_piece;
    struct iovec *cut; /* the piece of the list under way that was cut to the bandwidth ... */
    size_t cut_bytes;  /* ... and how long it was */
    size_t send_bytes;
    uint32_t direct_bytes, direct_most, input_start, input_end;
    char why[TRACE_LINE];
    uint8_t input[STREAM_INPUT];
};

/* Once for each struct. */
void stream_make(struct stream *stream, struct loop *loop, const struct stream_user *user);

/* Without TLS `context` is NULL. `rate_bytes` a second, 0: no limit. What fails is told by
 * closed(). */
void stream_connect(struct stream *stream, const struct address *address,
                    struct tls_context *context, uint64_t rate_bytes);
/* Takes the descriptor over. */
void stream_accept(struct stream *stream, int descriptor, struct tls_context *context);

/* Send what there is to send; feed what waits. Once a turn, after everything that may have changed
 * what there is. */
void stream_flush(struct stream *stream);

/* No more; closed() follows. The first reason counts. */
void stream_close(struct stream *stream, const char *why);

#endif
