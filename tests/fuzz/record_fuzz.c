/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* State records from a peer or from disk, decoded: no input may crash or read past its end, and
 * what is taken for a record encodes to one that decodes to the same. The checksum is made right
 * first, so that what is behind it is reached. */

#include "base/bytes.h"
#include "base/crc32c.h"
#include "scsi/record.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct record record, again;
    static uint8_t bytes[VOLUME_STATE_BYTES];
    uint8_t *copy = malloc(size + 1);
    char name[SCSI_PORT_NAME_SIZE];

    CHECK(copy != NULL);
    for (size_t i = 0; i < size; i++)
        copy[i] = data[i];
    if (size >= 4 && size <= VOLUME_STATE_BYTES)
        put_u32(copy + size - 4, crc32c(copy, size - 4));
    if (record_decode(&record, copy, (uint32_t)size) == NULL) {
        uint32_t length = record_encode(&record, bytes);
        CHECK(record_decode(&again, bytes, length) == NULL);
        CHECK(memcmp(&record, &again, sizeof record) == 0);
        (void)record_has_room(&record);
    }
    if (record_port_name(name, (const char *)copy, (uint32_t)size)) {
        char same[SCSI_PORT_NAME_SIZE];
        CHECK(record_port_name(same, name, SCSI_PORT_NAME_SIZE));
        CHECK(strcmp(name, same) == 0);
    }
    free(copy);
    return 0;
}
