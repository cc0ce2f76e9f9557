/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The two sides of a connection's output. It never moves bytes that the kernel may be reading, and
 * frees a buffer only when all of it was sent or the connection has ended. */

#include "shell/output.h"

#include <stdlib.h>
#include <string.h>

void output_init(struct output *output, struct buffers *buffers)
{
    *output = (struct output){.buffers = buffers};
}

static void side_drop_buffers(struct output *output, struct output_side *side)
{
    for (uint32_t i = 0; i < side->piece_count; i++)
        if (side->pieces[i].buffer)
            buffer_give(output->buffers, side->pieces[i].buffer);
    side->piece_count = 0;
    side->run_used = 0;
}

void output_free(struct output *output)
{
    for (int i = 0; i < 2; i++) {
        side_drop_buffers(output, &output->sides[i]);
        free(output->sides[i].run);
        free(output->sides[i].pieces);
    }
    free(output->iov);
    memset(output->sides, 0, sizeof output->sides);
    output->iov = NULL;
}

uint8_t *output_reserve(struct output *output, size_t size)
{
    struct output_side *side = &output->sides[output->gathering];
    if (side->run_used + size > side->run_size) {
        size_t wanted = side->run_size ? side->run_size : OUTPUT_FIRST_BYTES;
        while (wanted < side->run_used + size)
            wanted *= 2;
        side->run = realloc(side->run, wanted);
        CHECK(side->run);
        side->run_size = wanted;
    }
    return side->run + side->run_used;
}

static struct output_piece *piece_add(struct output_side *side)
{
    if (side->piece_count == side->piece_size) {
        side->piece_size = side->piece_size ? side->piece_size * 2 : 4;
        side->pieces = realloc(side->pieces, side->piece_size * sizeof *side->pieces);
        CHECK(side->pieces);
    }
    return &side->pieces[side->piece_count++];
}

void output_commit(struct output *output, size_t size)
{
    struct output_side *side = &output->sides[output->gathering];
    CHECK(side->run_used + size <= side->run_size);
    if (size == 0)
        return;
    if (side->piece_count > 0 && !side->pieces[side->piece_count - 1].buffer)
        side->pieces[side->piece_count - 1].length += size;
    else
        *piece_add(side) = (struct output_piece){.offset = side->run_used, .length = size};
    side->run_used += size;
    output->waiting_bytes += size;
}

void output_put_buffer(struct output *output, struct buffer *buffer, uint8_t *at, size_t length)
{
    CHECK(length > 0);
    struct output_side *side = &output->sides[output->gathering];
    *piece_add(side) = (struct output_piece){.buffer = buffer, .at = at, .length = length};
    output->waiting_bytes += length;
}

static uint8_t *piece_at(const struct output_side *side, const struct output_piece *piece)
{
    return piece->buffer ? piece->at : side->run + piece->offset;
}

void output_prepare(struct output *output, struct io_uring_sqe *sqe, int descriptor)
{
    if (!output->sending) {
        CHECK(output_gathered(output));
        output->gathering ^= 1;
        output->sending = true;
        output->first = 0;
        output->first_sent = 0;
    }
    struct output_side *side = &output->sides[output->gathering ^ 1];
    uint32_t count = min_u32(side->piece_count - output->first, OUTPUT_IOV_LIMIT);
    struct output_piece *first = &side->pieces[output->first];
    if (count == 1) {
        io_uring_prep_send(sqe, descriptor, piece_at(side, first) + output->first_sent,
                           first->length - output->first_sent, MSG_NOSIGNAL);
        return;
    }
    if (!output->iov)
        output->iov = malloc(OUTPUT_IOV_LIMIT * sizeof *output->iov);
    CHECK(output->iov);
    for (uint32_t i = 0; i < count; i++)
        output->iov[i] = (struct iovec){piece_at(side, first + i), first[i].length};
    output->iov[0].iov_base = (uint8_t *)output->iov[0].iov_base + output->first_sent;
    output->iov[0].iov_len -= output->first_sent;
    output->message = (struct msghdr){.msg_iov = output->iov, .msg_iovlen = count};
    io_uring_prep_sendmsg(sqe, descriptor, &output->message, MSG_NOSIGNAL);
}

bool output_sent(struct output *output, size_t sent)
{
    struct output_side *side = &output->sides[output->gathering ^ 1];
    CHECK(output->sending && sent <= output->waiting_bytes);
    output->waiting_bytes -= sent;
    while (sent > 0) {
        CHECK(output->first < side->piece_count);
        struct output_piece *piece = &side->pieces[output->first];
        size_t left = piece->length - output->first_sent;
        if (sent < left) {
            output->first_sent += sent;
            return false;
        }
        sent -= left;
        if (piece->buffer)
            buffer_give(output->buffers, piece->buffer);
        piece->buffer = NULL;
        output->first++;
        output->first_sent = 0;
    }
    if (output->first < side->piece_count)
        return false;
    side->piece_count = 0;
    side->run_used = 0;
    if (side->run_size > OUTPUT_KEEP_BYTES) {
        free(side->run);
        side->run = NULL;
        side->run_size = 0;
    }
    output->sending = false;
    return true;
}
