/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* CRC-32C (Castagnoli; RFC 7143 appendix, RFC 3720 B.4): the checksum of every batch and of iSCSI
 * digests. */

#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of `size` bytes. To go on over several pieces, start with CRC32C_START, feed each
 * piece's result into the next call, and finish with crc32c_end(). */
#define CRC32C_START 0xFFFFFFFFu
uint32_t crc32c_more(uint32_t state, const void *data, size_t size);

static inline uint32_t crc32c_end(uint32_t state)
{
    return ~state;
}

static inline uint32_t crc32c(const void *data, size_t size)
{
    return crc32c_end(crc32c_more(CRC32C_START, data, size));
}

/* The same of bytes that hold their own checksum: the four at `crc_at`, within `size`, count as
 * zeroes. */
uint32_t crc32c_around(const uint8_t *bytes, size_t size, size_t crc_at);

#endif
