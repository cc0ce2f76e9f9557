/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Small PDUs on their way out: a byte queue with a fixed end. It never moves bytes that are being
 * sent and never drops one; when it has no room its owner stops taking input, so a peer that does
 * not read is not answered for ever. */

#ifndef FRONT_ISCSI_OUTPUT_H
#define FRONT_ISCSI_OUTPUT_H

#include "front/iscsi_pdu.h"

enum { ISCSI_OUTPUT_SIZE = 24 * 1024 };

struct iscsi_output {
    uint32_t start, end;
    uint8_t bytes[ISCSI_OUTPUT_SIZE];
};

static inline uint32_t iscsi_output_room(const struct iscsi_output *output)
{
    return ISCSI_OUTPUT_SIZE - output->end;
}

static inline uint32_t iscsi_output_pending(const struct iscsi_output *output)
{
    return output->end - output->start;
}

/* Bytes that a PDU with `data_size` bytes of data takes at most. */
static inline uint32_t iscsi_output_need(uint32_t data_size)
{
    return ISCSI_HEADER_ROOM + data_size + ISCSI_TRAILER_ROOM;
}

void iscsi_output_start(struct iscsi_output *output);

/* Append a PDU with pdu->data_size bytes of `data`; the room must be there. */
void iscsi_output_put(struct iscsi_output *output, const struct iscsi_pdu *pdu, const void *data,
                      bool header_digest, bool data_digest);

/* `size` bytes from the start were sent, and nothing is being sent now. */
void iscsi_output_sent(struct iscsi_output *output, size_t size);

#endif
