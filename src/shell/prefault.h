/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Touches the cache's memory ahead of its use, so that no host waits for the first touch of a large
 * page: the kernel clears 2 MiB for it, and on a virtual machine has to ask for them first, which
 * takes milliseconds. */

#ifndef SHELL_PREFAULT_H
#define SHELL_PREFAULT_H

#include "base/check.h"

enum {
    PREFAULT_STEP_BYTES = 2 * 1024 * 1024,
    PREFAULT_SPARE_SHARE = 4, /* it stops while a quarter of the machine's memory is still free */
    PREFAULT_NICE = 15,       /* all else goes first */
};

/* How many bytes from `memory` on may be touched now; a multiple of the step, or all that is left.
 * 0: the machine has no memory to spare for a use that may never come. */
size_t prefault_step(size_t left_bytes, uint64_t free_bytes, uint64_t total_bytes);

/* Begins on a thread of its own, which ends by itself. `memory` is page-aligned and must stay until
 * the process ends. Failing to is no harm. */
void prefault_start(void *memory, size_t size_bytes);

#endif
