/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* CHAP as iSCSI uses it (RFC 1994, RFC 7143 12.1.3), one-way and mutual, SHA-256 (algorithm 7)
 * before MD5 (5). Digests and random bytes are injected; nothing here calls out. Invariants: a
 * response is compared in constant time; a challenge equal to our own is never answered; a secret
 * never appears in a text or a reason. */

#ifndef FRONT_ISCSI_CHAP_H
#define FRONT_ISCSI_CHAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum iscsi_chap_algorithm { ISCSI_CHAP_MD5 = 5, ISCSI_CHAP_SHA256 = 7 };

enum {
    ISCSI_CHAP_DIGEST_LIMIT = 32,
    ISCSI_CHAP_CHALLENGE_SIZE = 32,    /* what we send */
    ISCSI_CHAP_CHALLENGE_LIMIT = 1024, /* what we accept (RFC 7143 12.1.3) */
    ISCSI_CHAP_SECRET_LIMIT = 255,
    ISCSI_CHAP_SECRET_LEAST = 12, /* 96 bits: RFC 7143 9.2.1 */
    ISCSI_CHAP_NAME_SIZE = 256,
    ISCSI_CHAP_DERIVED_SIZE = 65, /* 64 hexadecimal digits and a NUL */
};

struct iscsi_piece {
    const void *bytes;
    size_t size;
};

/* What the shell supplies. */
struct iscsi_crypto {
    /* The digest of the pieces, one after the other, to `to` (16 bytes for MD5, 32 for SHA-256).
     * False: this algorithm is not available (MD5 on a FIPS machine). */
    bool (*digest)(void *context, enum iscsi_chap_algorithm algorithm,
                   const struct iscsi_piece *pieces, unsigned piece_count, uint8_t *to);
    /* `size` unpredictable bytes. False: there are none now. */
    bool (*random)(void *context, void *to, size_t size);
    void *context;
    bool no_md5; /* neither offer nor accept MD5 */
};

/* Who somebody is and how it proves that. secret == NULL: there is none. Borrowed for the login's
 * time. */
struct iscsi_identity {
    const char *name;   /* CHAP_N; as a peer's identity NULL accepts any name */
    const char *secret; /* ISCSI_CHAP_SECRET_LEAST to ISCSI_CHAP_SECRET_LIMIT bytes */
};

/* The challenge that we sent, and the one that we got. */
struct iscsi_chap {
    enum iscsi_chap_algorithm algorithm;
    uint8_t own_id;
    uint8_t own_challenge[ISCSI_CHAP_CHALLENGE_SIZE];
    bool challenged; /* own_* are valid */
};

/* Choose from the peer's CHAP_A list; false when nothing in it is known. */
bool iscsi_chap_choose(const struct iscsi_crypto *crypto, const char *list,
                       enum iscsi_chap_algorithm *algorithm);
/* Our CHAP_A list. */
const char *iscsi_chap_offer(const struct iscsi_crypto *crypto);
uint32_t iscsi_chap_digest_size(enum iscsi_chap_algorithm algorithm);

/* Make our challenge. False: no random bytes. */
bool iscsi_chap_challenge(struct iscsi_chap *chap, const struct iscsi_crypto *crypto);

enum iscsi_chap_result {
    ISCSI_CHAP_OK,
    ISCSI_CHAP_WRONG,     /* the response is not that of the secret */
    ISCSI_CHAP_REFLECTED, /* the peer sent our own challenge back */
    ISCSI_CHAP_WEAK,      /* an empty or overlong challenge */
    ISCSI_CHAP_NO_DIGEST, /* the digest is not available */
};

/* Answer the peer's challenge: iscsi_chap_digest_size() bytes to `response`. */
enum iscsi_chap_result iscsi_chap_respond(const struct iscsi_chap *chap,
                                          const struct iscsi_crypto *crypto, const char *secret,
                                          uint8_t id, const uint8_t *challenge, uint32_t size,
                                          uint8_t *response);
/* Check the peer's response to our challenge. */
enum iscsi_chap_result iscsi_chap_verify(const struct iscsi_chap *chap,
                                         const struct iscsi_crypto *crypto, const char *secret,
                                         const uint8_t *response, uint32_t size);

/* One configured secret for many directions: a secret of its own for each `label` ("a initiator",
 * "a target", ...), so that a response which one endpoint gives is of no use towards any other
 * (reflection over a second connection). SHA-256 of a fixed text, the label and the secret, in
 * hexadecimal. False: no SHA-256. */
bool iscsi_chap_derive(const struct iscsi_crypto *crypto, const char *secret, const char *label,
                       char derived[ISCSI_CHAP_DERIVED_SIZE]);

#endif
