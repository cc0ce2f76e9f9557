/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Which parts of a volume are holes: for NBD's block status and SCSI's GET LBA STATUS. */

#ifndef SHELL_VOLUME_MAP_H
#define SHELL_VOLUME_MAP_H

#include "array/array.h"
#include "shell/store.h"

/* What stands at `from`, which is before `to`: *hole, and where that ends (past `from`, at most
 * `to`). Only where the volume is served is it known what the cache holds dirty; elsewhere, and
 * where the store cannot say, all is data. */
uint64_t volume_map_next(const struct array *array, const struct stores *stores,
                         const struct volume_config *config, uint8_t volume, uint64_t from,
                         uint64_t to, bool *hole);

#endif
