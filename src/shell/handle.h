/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Whose request a handle of the core belongs to: the top byte says which server gave it, the rest
 * is that server's own. The core only carries handles; the controller sorts the completions. */

#ifndef SHELL_HANDLE_H
#define SHELL_HANDLE_H

#include <stdint.h>

enum handle_kind {
    HANDLE_NBD,
    HANDLE_ISCSI,        /* a SCSI command's request */
    HANDLE_ISCSI_MANAGE, /* a task management function's request */
    HANDLE_SHIPPED,      /* a request that the peer sent here */
};

#define HANDLE_SHIFT 56

static inline uint64_t handle_make(enum handle_kind kind, uint32_t index)
{
    return (uint64_t)kind << HANDLE_SHIFT | index;
}

static inline enum handle_kind handle_kind(uint64_t handle)
{
    return (enum handle_kind)(handle >> HANDLE_SHIFT);
}

static inline uint32_t handle_index(uint64_t handle)
{
    return (uint32_t)handle;
}

#endif
