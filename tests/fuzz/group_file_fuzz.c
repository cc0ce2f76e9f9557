/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A group's record as it is found on disk, and another array's volumes as they come: no input may
 * crash or read past its end, and what is taken is what would be written again. The checksum is
 * made right first, so that what is behind it is reached. */

#include "base/bytes.h"
#include "base/crc32c.h"
#include "shell/copy_names.h"
#include "shell/group_file.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void compare_layout(const uint8_t *bytes, size_t size)
{
    static struct config config;
    struct config_group *group = &config.groups[0];
    char why[TRACE_LINE] = "";
    strcpy(config.volumes[0].name, "v");
    config.volumes[0].size_bytes = 4096;
    strcpy(group->volumes[0].remote, "v");
    group->volume_count = 1;
    copy_layout_compare(bytes, (uint32_t)size, &config, group, why);
    CHECK(why[0] != '\0');
    for (const char *at = why; *at; at++)
        CHECK((unsigned char)*at >= 0x20 && *at != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t id[GROUP_ID_SIZE] = "0123456789abcde";
    uint8_t head[GROUP_FILE_HEAD], tail[4];
    const uint8_t *record;
    uint32_t length;
    uint8_t *copy = malloc(size + 1); /* exact, so that a byte too far is seen */
    CHECK(copy);
    if (size > 0)
        memcpy(copy, data, size);
    compare_layout(copy, size);
    if (size >= 4)
        put_u32(copy + size - 4, crc32c(copy, size - 4));
    if (group_file_decode(copy, size, id, &record, &length) == NULL) {
        CHECK(length > 0);
        CHECK(record == copy + GROUP_FILE_HEAD);
        group_file_ends(id, record, length, head, tail);
        CHECK(memcmp(head, copy, sizeof head) == 0);
        CHECK(memcmp(tail, record + length, sizeof tail) == 0);
    }
    free(copy);
    return 0;
}
