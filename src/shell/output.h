/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What one connection still has to send. Small replies are written one behind the other into a byte
 * run; the data of large READs are sent from where they are. There are two sides: one is being sent
 * and does not move, the other gathers, so everything that a burst of events produces leaves in one
 * sendmsg(2). */

#ifndef SHELL_OUTPUT_H
#define SHELL_OUTPUT_H

#include "shell/buffers.h"
#include "shell/loop.h"

#include <sys/socket.h>
#include <sys/uio.h>

enum {
    OUTPUT_FIRST_BYTES = 4096,
    OUTPUT_KEEP_BYTES = 256 * 1024, /* a longer run is given back after it was sent */
    OUTPUT_IOV_LIMIT = 256,         /* pieces of one sendmsg(2) */
};

struct output_piece {
    struct buffer *buffer; /* ours until sent; NULL: part of the run */
    uint8_t *at;           /* with a buffer */
    size_t offset;         /* else */
    size_t length;
};

struct output_side {
    uint8_t *run;
    size_t run_size, run_used;
    struct output_piece *pieces;
    uint32_t piece_size, piece_count;
};

struct output {
    struct buffers *buffers;
    struct output_side sides[2];
    uint8_t gathering; /* the side that gathers; the other is being sent */
    bool sending;
    uint32_t first;       /* first piece not wholly sent */
    size_t first_sent;    /* bytes of it that were */
    size_t waiting_bytes; /* on both sides, not yet sent */
    struct msghdr message;
    struct iovec *iov; /* NULL until more than one piece had to be sent */
};

void output_init(struct output *output, struct buffers *buffers);
void output_free(struct output *output);

/* Room for `size` bytes at the end of the run; valid until the next call. Then say how many were
 * written. */
uint8_t *output_reserve(struct output *output, size_t size);
void output_commit(struct output *output, size_t size);

/* `length` bytes at `at` inside the buffer, which is handed over. */
void output_put_buffer(struct output *output, struct buffer *buffer, uint8_t *at, size_t length);

/* Whether there is something that is not being sent yet. */
static inline bool output_gathered(const struct output *output)
{
    return output->sides[output->gathering].piece_count > 0;
}

/* Fill in the SQE that sends what was gathered, or goes on with what was sent in part. Only when no
 * send is under way. */
void output_prepare(struct output *output, struct io_uring_sqe *sqe, int descriptor);
/* The send ended with `sent` bytes. True: all of that side is gone; false: prepare again. */
bool output_sent(struct output *output, size_t sent);

#endif
