/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The digests and random bytes that front/ leaves to the process. */

#ifndef SHELL_CRYPTO_H
#define SHELL_CRYPTO_H

#include "front/iscsi_chap.h"

/* Needs no context and holds no state. */
struct iscsi_crypto crypto_of_library(void);

#endif
