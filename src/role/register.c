/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The register's record as bytes. It only converts; what may stand in a record and when it changes
 * is decided by the roles. Bytes that do not carry the magic, the version, zero padding and the
 * right checksum are refused, so that a torn or foreign file can never be taken for a record. */

#include "role/register.h"

#include "base/bytes.h"
#include "base/crc32c.h"

/* Byte by byte, big-endian:
 *   0  4  magic "HFRG"
 *   4  1  version 1
 *   5  1  flags: bit 0 unclean; the rest zero
 *   6  1  in: bit 0 a, bit 1 b; the rest zero
 *   7  1  zero
 *   8  8  epoch
 *  16 12  zero
 *  28  4  CRC-32C of bytes 0 to 27 */
enum {
    VERSION = 1,
    AT_VERSION = 4,
    AT_FLAGS = 5,
    AT_IN = 6,
    AT_EPOCH = 8,
    AT_CHECKSUM = REGISTER_SIZE - 4,
    FLAG_UNCLEAN = 1,
};
static const uint8_t magic[4] = {'H', 'F', 'R', 'G'};

void register_encode(const struct register_record *record, uint8_t bytes[REGISTER_SIZE])
{
    CHECK((record->in & ~REGISTER_IN_BOTH) == 0);
    memset(bytes, 0, REGISTER_SIZE);
    memcpy(bytes, magic, sizeof magic);
    bytes[AT_VERSION] = VERSION;
    bytes[AT_FLAGS] = record->unclean ? FLAG_UNCLEAN : 0;
    bytes[AT_IN] = record->in;
    put_u64(bytes + AT_EPOCH, record->epoch);
    put_u32(bytes + AT_CHECKSUM, crc32c(bytes, AT_CHECKSUM));
}

static const char *wrong_with(const uint8_t bytes[REGISTER_SIZE])
{
    if (memcmp(bytes, magic, sizeof magic) != 0)
        return "it does not begin with HFRG";
    if (get_u32(bytes + AT_CHECKSUM) != crc32c(bytes, AT_CHECKSUM))
        return "its checksum does not match";
    if (bytes[AT_VERSION] != VERSION)
        return "it was written by a version of Holdfast that this one does not know";
    if (bytes[AT_FLAGS] & ~FLAG_UNCLEAN)
        return "it has an unknown flag";
    if (bytes[AT_IN] & ~REGISTER_IN_BOTH)
        return "it names an unknown controller";
    if (bytes[7] != 0)
        return "a reserved byte is not zero";
    for (int i = AT_EPOCH + 8; i < AT_CHECKSUM; i++)
        if (bytes[i] != 0)
            return "a reserved byte is not zero";
    return NULL;
}

bool register_decode(const uint8_t bytes[REGISTER_SIZE], struct register_record *record,
                     const char **why)
{
    *why = wrong_with(bytes);
    if (*why)
        return false;
    *record = (struct register_record){
        .epoch = get_u64(bytes + AT_EPOCH),
        .in = bytes[AT_IN],
        .unclean = (bytes[AT_FLAGS] & FLAG_UNCLEAN) != 0,
    };
    return true;
}
