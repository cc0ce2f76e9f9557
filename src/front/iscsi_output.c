/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The queue of small PDUs. Bytes move only in iscsi_output_sent(), when none of them is being sent.
 */

#include "front/iscsi_output.h"

#include "base/check.h"
#include "base/crc32c.h"

#include <string.h>

void iscsi_output_start(struct iscsi_output *output)
{
    output->start = 0;
    output->end = 0;
}

void iscsi_output_put(struct iscsi_output *output, const struct iscsi_pdu *pdu, const void *data,
                      bool header_digest, bool data_digest)
{
    uint8_t *to = output->bytes + output->end;

    CHECK(iscsi_output_room(output) >= iscsi_output_need(pdu->data_size));
    to += iscsi_header_put(pdu, header_digest, to);
    if (pdu->data_size > 0) {
        uint32_t crc = data_digest ? crc32c_more(CRC32C_START, data, pdu->data_size) : 0;

        memcpy(to, data, pdu->data_size);
        to += pdu->data_size;
        to += iscsi_trailer_put(pdu->data_size, data_digest, crc, to);
    }
    output->end = (uint32_t)(to - output->bytes);
}

void iscsi_output_sent(struct iscsi_output *output, size_t size)
{
    CHECK(size <= iscsi_output_pending(output));
    output->start += (uint32_t)size;
    if (output->start == output->end) {
        output->start = 0;
        output->end = 0;
    } else if (output->start > ISCSI_OUTPUT_SIZE / 2) {
        memmove(output->bytes, output->bytes + output->start, iscsi_output_pending(output));
        output->end -= output->start;
        output->start = 0;
    }
}
