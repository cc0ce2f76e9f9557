/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The mistake that this process makes. Compiled only with -Dmistakes=true; never part of a build
 * that serves anyone. */

#include "base/mistake.h"

enum mistake mistake_made = MISTAKE_NONE;
