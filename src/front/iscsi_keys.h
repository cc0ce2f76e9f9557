/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* iSCSI text: key=value pairs (RFC 7143 section 6.1) and the negotiation of the session's keys
 * (section 13) as one table of rules. It never decides about authentication or stages (see
 * iscsi_login) and keeps no state beyond struct iscsi_params. Invariant: a value that is not legal
 * for its key never reaches the parameters. */

#ifndef FRONT_ISCSI_KEYS_H
#define FRONT_ISCSI_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    ISCSI_NAME_SIZE = 224, /* an iSCSI name is at most 223 bytes (RFC 7143 4.2.7.1) */
    ISCSI_KEY_SIZE = 64,   /* a key name is at most 63 bytes (RFC 7143 6.1) */
    ISCSI_TEXT_LIMIT =
        8192, /* text of one negotiation step: the default MaxRecvDataSegmentLength */
    ISCSI_SIMPLE_LIMIT = 255 /* bytes of a value unless its key says otherwise (RFC 7143 6.1) */
};

enum iscsi_role { ISCSI_INITIATOR = 1, ISCSI_TARGET = 2 };

/* Text being written. `overflow` sticks: the writer checks it once at the end. */
struct iscsi_text {
    char *bytes; /* borrowed */
    uint32_t size, used;
    bool overflow;
};

void iscsi_text_start(struct iscsi_text *text, void *bytes, uint32_t size);
/* "key=value" and the closing NUL. */
void iscsi_text_put(struct iscsi_text *text, const char *key, const char *value);
void iscsi_text_put_number(struct iscsi_text *text, const char *key, uint32_t value);
/* "key=0x..." in lower-case hexadecimal. */
void iscsi_text_put_binary(struct iscsi_text *text, const char *key, const void *bytes,
                           uint32_t size);

/* One pair read; both strings end with a NUL and lie in the text that was read. */
struct iscsi_pair {
    const char *value;
    uint32_t value_size;
    char key[ISCSI_KEY_SIZE];
};

enum iscsi_pair_result { ISCSI_PAIR_END, ISCSI_PAIR_OK, ISCSI_PAIR_MALFORMED };

/* The next pair at *at. MALFORMED: no '=', an empty or overlong key, a character not allowed in a
 * key, or no closing NUL. */
enum iscsi_pair_result iscsi_pair_next(const uint8_t *text, uint32_t size, uint32_t *at,
                                       struct iscsi_pair *pair);

/* A number as RFC 7143 6.1 has it: decimal or 0x hexadecimal, at most 2^32 - 1. */
bool iscsi_number_parse(const char *value, uint32_t *number);
/* A binary value: 0x hexadecimal, 0b base64, or a decimal constant of at most 64 bits. Returns the
 * byte count, or -1 when it is not legal or longer than `room`. */
int iscsi_binary_parse(const char *value, uint8_t *to, uint32_t room);

/* What a session's two sides have agreed on, or what one side wishes to agree on. */
struct iscsi_params {
    bool header_digest,
        data_digest;      /* CRC32C; in a wish: offered first, with None as second choice */
    bool digest_required; /* wish only: do not offer or accept None */
    bool initial_r2t, immediate_data;
    bool data_pdu_in_order, data_sequence_in_order;
    uint32_t max_connections;
    uint32_t max_burst_bytes, first_burst_bytes;
    uint32_t max_outstanding_r2t;
    uint32_t default_time2wait_s, default_time2retain_s;
    uint32_t error_recovery_level;
    uint32_t own_data_limit_bytes;  /* MaxRecvDataSegmentLength that we declare */
    uint32_t peer_data_limit_bytes; /* and that the peer declared */
};

/* The values that hold when nothing is said (RFC 7143 section 13). */
struct iscsi_params iscsi_params_default(void);
/* What the link wishes: no R2T, immediate data, 16 MiB - 1 bursts, 256 KiB data segments, no
 * digests. */
struct iscsi_params iscsi_params_wish(void);

/* The operational keys under negotiation on one side. */
struct iscsi_negotiation {
    enum iscsi_role role;
    bool discovery;             /* SessionType=Discovery */
    struct iscsi_params wish;   /* ours */
    struct iscsi_params agreed; /* so far */
    uint32_t offered;           /* bit per rule: we offered it and wait for the answer */
    uint32_t
        settled; /* bit per rule: negotiated or declared by the peer; a second time is an error */
    uint32_t declared; /* bit per rule: we have declared it */
};

void iscsi_negotiation_start(struct iscsi_negotiation *negotiation, enum iscsi_role role,
                             const struct iscsi_params *wish);

/* Initiator: write every operational offer and declaration. */
void iscsi_negotiation_offer(struct iscsi_negotiation *negotiation, struct iscsi_text *out);
/* Target: declare what it has not yet declared (MaxRecvDataSegmentLength). */
void iscsi_negotiation_declare(struct iscsi_negotiation *negotiation, struct iscsi_text *out);

enum iscsi_key_result {
    ISCSI_KEY_DONE,     /* taken; the answer, if the key has one, is written */
    ISCSI_KEY_REJECTED, /* the value is not legal here; the answer Reject is written, nothing
                           changed */
    ISCSI_KEY_UNKNOWN,  /* the answer NotUnderstood is written */
    ISCSI_KEY_PROTOCOL, /* the peer breaks the rules (a key twice, an answer to nothing, an answer
                           that is not allowed): the login must fail */
};

/* One operational key from the peer: an offer to answer, the answer to our offer, or a declaration.
 * `*why` is a static sentence unless the result is DONE. */
enum iscsi_key_result iscsi_negotiation_on_pair(struct iscsi_negotiation *negotiation,
                                                const struct iscsi_pair *pair,
                                                struct iscsi_text *out, const char **why);

/* Everything we offered has been answered. */
bool iscsi_negotiation_done(const struct iscsi_negotiation *negotiation);

/* The same for a Text Request in the full-feature phase, where only MaxRecvDataSegmentLength may
 * still change. */
enum iscsi_key_result iscsi_negotiation_on_text(struct iscsi_negotiation *negotiation,
                                                const struct iscsi_pair *pair,
                                                struct iscsi_text *out, const char **why);

/* Whether `offered` (a comma-separated list) holds `choice`. */
bool iscsi_list_has(const char *offered, const char *choice);

#endif
