/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See cut.h: bytes to structs and back, nothing else. What a message means is decided by
 * coordinator.c and member.c. */

#include "copy/cut.h"

#include "base/crc32c.h"

/*   message, 64 bytes                     state, 64 bytes
 *     0 u32 magic "HFKM"                    0 u32 magic "HFKS"
 *     4 u16 version 1                       4 u16 version 1
 *     6 u8  type                            6 u8  flags
 *     7 u8  reserved                        7 u8  reserved
 *     8     set, 16 bytes                   8     set, 16 bytes
 *    24 u64 run                            24 u64 run
 *    32 u64 cut                            32 u64 newest promoted cut
 *    40     20 bytes reserved              40 u64 newest held cut
 *    60 u32 CRC-32C of bytes 0..59         48     12 bytes reserved, then the CRC-32C */
enum {
    MESSAGE_MAGIC = 0x48464B4D, /* "HFKM" */
    STATE_MAGIC = 0x48464B53,   /* "HFKS" */
    CUT_VERSION = 1,
    CRC_AT = 60,
};

static void put_head(uint8_t *bytes, uint32_t magic, const uint8_t set[GROUP_ID_SIZE])
{
    memset(bytes, 0, CUT_MESSAGE_SIZE);
    put_u32(bytes, magic);
    put_u16(bytes + 4, CUT_VERSION);
    memcpy(bytes + 8, set, GROUP_ID_SIZE);
}

void cut_put_message(uint8_t bytes[CUT_MESSAGE_SIZE], const struct cut_message *message)
{
    put_head(bytes, MESSAGE_MAGIC, message->set);
    bytes[6] = message->type;
    put_u64(bytes + 24, message->run);
    put_u64(bytes + 32, message->cut);
    put_u32(bytes + CRC_AT, crc32c(bytes, CRC_AT));
}

void cut_put_state(uint8_t bytes[CUT_STATE_SIZE], const struct cut_state *state)
{
    put_head(bytes, STATE_MAGIC, state->set);
    bytes[6] = state->flags;
    put_u64(bytes + 24, state->run);
    put_u64(bytes + 32, state->promoted);
    put_u64(bytes + 40, state->held);
    put_u32(bytes + CRC_AT, crc32c(bytes, CRC_AT));
}

static const char *judge_head(const uint8_t *bytes, uint32_t length, uint32_t magic)
{
    if (length != CUT_MESSAGE_SIZE)
        return "cut message or state of a wrong length";
    if (get_u32(bytes) != magic)
        return "cut message or state without its magic";
    if (get_u16(bytes + 4) != CUT_VERSION)
        return "cut message or state of another version";
    if (get_u32(bytes + CRC_AT) != crc32c(bytes, CRC_AT))
        return "cut message or state checksum is wrong";
    return bytes[7] != 0 ? "cut message or state with reserved bytes set" : NULL;
}

const char *cut_get_message(const uint8_t *bytes, uint32_t length, struct cut_message *message)
{
    const char *why = judge_head(bytes, length, MESSAGE_MAGIC);
    if (why != NULL)
        return why;
    *message = (struct cut_message){
        .type = bytes[6], .run = get_u64(bytes + 24), .cut = get_u64(bytes + 32)};
    memcpy(message->set, bytes + 8, GROUP_ID_SIZE);
    if (!bytes_all_zero(bytes + 40, CRC_AT - 40))
        return "cut message with reserved bytes set";
    if (message->type == 0 || message->type >= CUT_TYPE_COUNT)
        return "cut message of an unknown type";
    bool of_none = message->type == CUT_RESOLVE || message->type == CUT_WANTED;
    if (message->run == 0 || (of_none && message->cut != 0) ||
        (!of_none && message->type != CUT_BEGIN && message->cut == 0))
        return "cut message without a run, or with an impossible cut";
    return NULL;
}

const char *cut_get_state(const uint8_t *bytes, uint32_t length, struct cut_state *state)
{
    const char *why = judge_head(bytes, length, STATE_MAGIC);
    if (why != NULL)
        return why;
    *state = (struct cut_state){.flags = bytes[6],
                                .run = get_u64(bytes + 24),
                                .promoted = get_u64(bytes + 32),
                                .held = get_u64(bytes + 40)};
    memcpy(state->set, bytes + 8, GROUP_ID_SIZE);
    if (!bytes_all_zero(bytes + 48, CRC_AT - 48))
        return "cut state with reserved bytes set";
    if (state->flags & ~(CUT_STATE_LEADER | CUT_STATE_SEALED | CUT_STATE_RUNS))
        return "cut state with unknown flags";
    return NULL;
}
