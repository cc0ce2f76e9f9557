/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* How a request that is shipped to the volume's owner looks as a SCSI command, and its result as
 * SCSI status and sense: docs/protocol.md, "Shipped requests". */

#ifndef SHELL_SHIP_WIRE_H
#define SHELL_SHIP_WIRE_H

#include "array/array.h"

enum {
    SHIP_SENSE_BYTES = 18,
    SHIP_STATUS_GOOD = 0x00,
    SHIP_STATUS_CHECK_CONDITION = 0x02,
    SHIP_STATUS_TASK_SET_FULL = 0x28,
};

/* A command, and how many bytes go which way. */
struct ship_command {
    uint8_t lun[8];
    uint8_t cdb[16];
    uint32_t out_bytes, in_bytes;
};

/* What both sides call a session, from the ISID of its login (RFC 7143 11.12.5); never 0. */
static inline uint32_t ship_session_name(const uint8_t isid[6])
{
    return 1u << 24 | (uint32_t)isid[1] << 16 | (uint32_t)isid[2] << 8 | isid[3];
}

void ship_encode(const struct host_request *request, struct ship_command *command);

/* Data-out that stands in no request: SET TARGET PORT GROUPS's parameter list. NULL: the request's
 * own data go out. */
const void *ship_parameters(const struct host_request *request);

/* The way back; the bytes are foreign. NULL, or why it is none of ours. `handle`, `tag` and `data`
 * are the caller's to set. For a HOST_MOVE the parameter list comes as data: ship_decode_move(). */
const char *ship_decode(const struct ship_command *command, uint32_t volume_count,
                        struct host_request *request);
const char *ship_decode_move(const uint8_t *parameters, struct host_request *request);

/* SCSI status of a result; *sense_bytes of sense. */
uint8_t ship_encode_result(enum host_result result, uint64_t detail,
                           uint8_t sense[SHIP_SENSE_BYTES], uint32_t *sense_bytes);
/* False: that is no answer of ours. */
MUST_CHECK bool ship_decode_result(uint8_t status, const uint8_t *sense, uint32_t sense_bytes,
                                   enum host_result *result, uint64_t *detail);

#endif
