/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* CHAP's arithmetic: response = digest(identifier, secret, challenge) (RFC 1994 4.1). The order of
 * the PDUs that carry it is iscsi_login's. */

#include "front/iscsi_chap.h"

#include "front/iscsi_keys.h"

#include "base/check.h"

#include <string.h>

bool iscsi_chap_choose(const struct iscsi_crypto *crypto, const char *list,
                       enum iscsi_chap_algorithm *algorithm)
{
    /* Ours is the order of preference, not the peer's: a peer that lists MD5 first must not weaken
     * the proof. */
    if (iscsi_list_has(list, "7"))
        *algorithm = ISCSI_CHAP_SHA256;
    else if (!crypto->no_md5 && iscsi_list_has(list, "5"))
        *algorithm = ISCSI_CHAP_MD5;
    else
        return false;
    return true;
}

const char *iscsi_chap_offer(const struct iscsi_crypto *crypto)
{
    return crypto->no_md5 ? "7" : "7,5";
}

uint32_t iscsi_chap_digest_size(enum iscsi_chap_algorithm algorithm)
{
    return algorithm == ISCSI_CHAP_SHA256 ? 32 : 16;
}

bool iscsi_chap_challenge(struct iscsi_chap *chap, const struct iscsi_crypto *crypto)
{
    chap->challenged =
        crypto->random(crypto->context, &chap->own_id, 1) &&
        crypto->random(crypto->context, chap->own_challenge, sizeof chap->own_challenge);
    return chap->challenged;
}

static bool chap_digest(const struct iscsi_crypto *crypto, enum iscsi_chap_algorithm algorithm,
                        const char *secret, uint8_t id, const uint8_t *challenge, uint32_t size,
                        uint8_t *to)
{
    struct iscsi_piece pieces[] = {{&id, 1}, {secret, strlen(secret)}, {challenge, size}};

    return crypto->digest(crypto->context, algorithm, pieces, ARRAY_LENGTH(pieces), to);
}

enum iscsi_chap_result iscsi_chap_respond(const struct iscsi_chap *chap,
                                          const struct iscsi_crypto *crypto, const char *secret,
                                          uint8_t id, const uint8_t *challenge, uint32_t size,
                                          uint8_t *response)
{
    if (size == 0 || size > ISCSI_CHAP_CHALLENGE_LIMIT)
        return ISCSI_CHAP_WEAK;
    /* RFC 7143 9.2.1: the answer to our own challenge would be the proof that the peer lacks. */
    if (chap->challenged && size == sizeof chap->own_challenge &&
        memcmp(challenge, chap->own_challenge, size) == 0)
        return ISCSI_CHAP_REFLECTED;
    if (!chap_digest(crypto, chap->algorithm, secret, id, challenge, size, response))
        return ISCSI_CHAP_NO_DIGEST;
    return ISCSI_CHAP_OK;
}

enum iscsi_chap_result iscsi_chap_verify(const struct iscsi_chap *chap,
                                         const struct iscsi_crypto *crypto, const char *secret,
                                         const uint8_t *response, uint32_t size)
{
    uint8_t expected[ISCSI_CHAP_DIGEST_LIMIT], difference = 0;

    CHECK(chap->challenged);
    if (!chap_digest(crypto, chap->algorithm, secret, chap->own_id, chap->own_challenge,
                     sizeof chap->own_challenge, expected))
        return ISCSI_CHAP_NO_DIGEST;
    if (size != iscsi_chap_digest_size(chap->algorithm))
        return ISCSI_CHAP_WRONG;
    /* No early end: the time must not say how many bytes were right. */
    for (uint32_t i = 0; i < size; i++)
        difference |= (uint8_t)(expected[i] ^ response[i]);
    return difference == 0 ? ISCSI_CHAP_OK : ISCSI_CHAP_WRONG;
}

bool iscsi_chap_derive(const struct iscsi_crypto *crypto, const char *secret, const char *label,
                       char derived[ISCSI_CHAP_DERIVED_SIZE])
{
    static const char context[] = "holdfast link secret";
    static const char digits[] = "0123456789abcdef";
    /* The closing NULs keep the three texts apart. */
    struct iscsi_piece pieces[] = {
        {context, sizeof context}, {label, strlen(label) + 1}, {secret, strlen(secret)}};
    uint8_t digest[ISCSI_CHAP_DIGEST_LIMIT];

    if (!crypto->digest(crypto->context, ISCSI_CHAP_SHA256, pieces, ARRAY_LENGTH(pieces), digest))
        return false;
    for (unsigned i = 0; i < sizeof digest; i++) {
        derived[2 * i] = digits[digest[i] >> 4];
        derived[2 * i + 1] = digits[digest[i] & 15];
    }
    derived[2 * sizeof digest] = '\0';
    return true;
}
