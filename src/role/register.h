/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The register: one small record outside the pair that says who may serve. It is changed only by
 * compare-and-swap over the whole record. The shell keeps it (a file, or later a key in etcd). */

#ifndef ROLE_REGISTER_H
#define ROLE_REGISTER_H

#include "base/check.h"

#include <string.h>

enum {
    REGISTER_IN_A = 1,
    REGISTER_IN_B = 2,
    REGISTER_IN_BOTH = 3,
    REGISTER_SIZE = 32, /* bytes of the encoded record */
};

/* A register that was never written reads as all zero: epoch 0, nobody in, clean. */
struct register_record {
    uint64_t epoch; /* goes up by one whenever `in` changes */
    uint8_t in;     /* REGISTER_IN_*: who holds data and may serve */
    bool unclean;   /* acknowledged writes may exist that are not on the stores */
};

static inline bool register_equal(const struct register_record *a, const struct register_record *b)
{
    return a->epoch == b->epoch && a->in == b->in && a->unclean == b->unclean;
}

/* What became of a read or a compare-and-swap. */
enum register_result {
    REGISTER_OK,       /* read: record holds it; swap: the new record is in place and durable */
    REGISTER_CONFLICT, /* swap: not done; record holds what is there instead */
    REGISTER_UNKNOWN,  /* no answer, but the operation is no longer under way; a swap may or may not
                          have happened */
};

/* The record as bytes: magic "HFRG", version 1, flags, `in`, epoch, zero padding, CRC-32C;
 * big-endian. */
void register_encode(const struct register_record *record, uint8_t bytes[REGISTER_SIZE]);

/* Returns false with *why set to a sentence when the bytes are not a register record. */
bool register_decode(const uint8_t bytes[REGISTER_SIZE], struct register_record *record,
                     const char **why);

#endif
