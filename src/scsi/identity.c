/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The name that a volume has for the world: an NAA 6 identifier out of the array's and the volume's
 * names, the same at both controllers and after every restart. This function's result must never
 * change: hosts know their disks by it. It is no cryptographic hash; scsi_config_check() refuses
 * two volumes of one array that come out the same. */

#include "base/bytes.h"
#include "scsi/scsi.h"

/* A locally administered company identifier: bit 1 of its first byte is set (IEEE 802), so that no
 * vendor's identifiers can be the same. */
enum { COMPANY = 0x024846 };

static uint64_t stir(uint64_t state, uint8_t byte)
{
    state ^= byte;
    state *= UINT64_C(0x9E3779B97F4A7C15);
    return state ^ state >> 29;
}

/* 64 bits of both names; `lane` gives independent results. Each name's end is stirred in too, so
 * that "a", "bc" differs from "ab", "c". */
static uint64_t digest(const char *array_name, const char *volume_name, uint64_t lane)
{
    uint64_t state = UINT64_C(0x486F6C6466617374) ^ lane * UINT64_C(0xD1B54A32D192ED03);

    for (const char *at = array_name; *at != 0; at++)
        state = stir(state, (uint8_t)*at);
    state = stir(state, 0);
    for (const char *at = volume_name; *at != 0; at++)
        state = stir(state, (uint8_t)*at);
    state = stir(state, 0);
    for (int i = 0; i < 4; i++)
        state = stir(state, (uint8_t)lane);
    return state;
}

void scsi_identity_naa(const char *array_name, const char *volume_name, uint8_t naa[16])
{
    uint64_t vendor = digest(array_name, volume_name, 1) >> 28; /* 36 bits */

    put_u64(naa, UINT64_C(6) << 60 | (uint64_t)COMPANY << 36 | vendor);
    put_u64(naa + 8, digest(array_name, volume_name, 2));
}
