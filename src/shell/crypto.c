/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* CHAP's digests and random bytes from the cryptographic library. It keeps no secret and no state
 * between calls. */

#include "shell/crypto.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

static bool digest_pieces(void *context, enum iscsi_chap_algorithm algorithm,
                          const struct iscsi_piece *pieces, unsigned piece_count, uint8_t *to)
{
    const EVP_MD *kind = algorithm == ISCSI_CHAP_SHA256 ? EVP_sha256() : EVP_md5();
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    bool good = digest && EVP_DigestInit_ex(digest, kind, NULL) == 1;
    for (unsigned i = 0; good && i < piece_count; i++)
        good = EVP_DigestUpdate(digest, pieces[i].bytes, pieces[i].size) == 1;
    good = good && EVP_DigestFinal_ex(digest, to, NULL) == 1;
    EVP_MD_CTX_free(digest);
    return good;
}

static bool random_bytes(void *context, void *to, size_t size)
{
    return RAND_bytes(to, (int)size) == 1;
}

struct iscsi_crypto crypto_of_library(void)
{
    return (struct iscsi_crypto){.digest = digest_pieces, .random = random_bytes};
}
