/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The digests that a shell would supply, from OpenSSL, and random bytes that are the same in each
 * run. */

#ifndef TEST_ISCSI_CRYPTO_H
#define TEST_ISCSI_CRYPTO_H

#include "front/iscsi_chap.h"

#include "base/generator.h"

#include <openssl/evp.h>

static inline bool test_digest(void *context, enum iscsi_chap_algorithm algorithm,
                               const struct iscsi_piece *pieces, unsigned piece_count, uint8_t *to)
{
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    bool ok = EVP_DigestInit_ex(digest, algorithm == ISCSI_CHAP_SHA256 ? EVP_sha256() : EVP_md5(),
                                NULL) == 1;

    for (unsigned i = 0; i < piece_count; i++)
        ok = ok && EVP_DigestUpdate(digest, pieces[i].bytes, pieces[i].size) == 1;
    ok = ok && EVP_DigestFinal_ex(digest, to, NULL) == 1;
    EVP_MD_CTX_free(digest);
    return ok;
}

static inline bool test_random(void *context, void *to, size_t size)
{
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)to)[i] = (uint8_t)generator_next(context);
    return true;
}

#endif
