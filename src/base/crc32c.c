/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* CRC-32C by ISA-L, which picks the machine's fastest way at load time. */

#include "base/crc32c.h"

#include "base/check.h"

#include <isa-l/crc.h>
#include <limits.h>

uint32_t crc32c_more(uint32_t state, const void *data, size_t size)
{
    CHECK(size <= INT_MAX);
    return crc32_iscsi((unsigned char *)(uintptr_t)data, (int)size, state);
}

uint32_t crc32c_around(const uint8_t *bytes, size_t size, size_t crc_at)
{
    static const uint8_t zero[4];
    size_t behind = crc_at + sizeof zero;
    CHECK(behind <= size);
    uint32_t crc = crc32c_more(CRC32C_START, bytes, crc_at);
    crc = crc32c_more(crc, zero, sizeof zero);
    return crc32c_end(crc32c_more(crc, bytes + behind, size - behind));
}
