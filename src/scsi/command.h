/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The table of commands, for those who list it. A command is found with command_find(). */

#ifndef SCSI_COMMAND_H
#define SCSI_COMMAND_H

#include "scsi/internal.h"

enum { COMMAND_LIMIT = 96 }; /* rows; bounds REPORT SUPPORTED OPERATION CODES */

extern const struct scsi_command commands[];
extern const uint32_t command_count;

#endif
