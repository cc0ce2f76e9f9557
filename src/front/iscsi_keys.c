/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The table of operational keys with their result functions (RFC 7143 section 13), and the text
 * that carries them. What is particular to a key stands in its row; the functions only know the
 * kinds of rows. */

#include "front/iscsi_keys.h"

#include "base/check.h"

#include <string.h>

/* ---- writing ---- */

void iscsi_text_start(struct iscsi_text *text, void *bytes, uint32_t size)
{
    *text = (struct iscsi_text){.bytes = bytes, .size = size};
}

static void text_append(struct iscsi_text *text, const char *bytes, size_t size)
{
    if (text->overflow || size > text->size - text->used) {
        text->overflow = true;
        return;
    }
    memcpy(text->bytes + text->used, bytes, size);
    text->used += (uint32_t)size;
}

void iscsi_text_put(struct iscsi_text *text, const char *key, const char *value)
{
    text_append(text, key, strlen(key));
    text_append(text, "=", 1);
    text_append(text, value, strlen(value) + 1);
}

void iscsi_text_put_number(struct iscsi_text *text, const char *key, uint32_t value)
{
    char digits[11];
    unsigned at = sizeof digits - 1;

    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    iscsi_text_put(text, key, digits + at);
}

void iscsi_text_put_binary(struct iscsi_text *text, const char *key, const void *bytes,
                           uint32_t size)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *from = bytes;

    text_append(text, key, strlen(key));
    text_append(text, "=0x", 3);
    for (uint32_t i = 0; i < size; i++) {
        char pair[2] = {digits[from[i] >> 4], digits[from[i] & 15]};

        text_append(text, pair, sizeof pair);
    }
    text_append(text, "", 1);
}

/* ---- reading ---- */

static bool key_character(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '+' || c == '@' || c == '_';
}

enum iscsi_pair_result iscsi_pair_next(const uint8_t *text, uint32_t size, uint32_t *at,
                                       struct iscsi_pair *pair)
{
    const uint8_t *end;
    uint32_t key_size = 0, from;

    /* Some initiators count the padding as text. */
    while (*at < size && text[*at] == 0)
        (*at)++;
    if (*at >= size)
        return ISCSI_PAIR_END;
    from = *at;
    while (from + key_size < size && key_character(text[from + key_size]))
        key_size++;
    if (key_size == 0 || key_size >= ISCSI_KEY_SIZE || from + key_size >= size ||
        text[from + key_size] != '=')
        return ISCSI_PAIR_MALFORMED;
    memcpy(pair->key, text + from, key_size);
    pair->key[key_size] = '\0';
    from += key_size + 1;
    end = memchr(text + from, 0, size - from);
    if (!end)
        return ISCSI_PAIR_MALFORMED;
    pair->value = (const char *)(text + from);
    pair->value_size = (uint32_t)(end - (text + from));
    *at = from + pair->value_size + 1;
    return ISCSI_PAIR_OK;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static bool has_prefix(const char *value, char letter, char capital)
{
    return value[0] == '0' && (value[1] == letter || value[1] == capital);
}

/* Decimal or 0x hexadecimal, at most `limit`. */
static bool parse_number(const char *value, uint64_t limit, uint64_t *number)
{
    unsigned base = 10;

    *number = 0;
    if (has_prefix(value, 'x', 'X')) {
        base = 16;
        value += 2;
    }
    if (*value == '\0')
        return false;
    for (; *value; value++) {
        int digit = hex_digit(*value);

        if (digit < 0 || (unsigned)digit >= base)
            return false;
        if (*number > (limit - (unsigned)digit) / base)
            return false;
        *number = *number * base + (unsigned)digit;
    }
    return true;
}

bool iscsi_number_parse(const char *value, uint32_t *number)
{
    uint64_t wide;

    if (!parse_number(value, UINT32_MAX, &wide))
        return false;
    *number = (uint32_t)wide;
    return true;
}

static int parse_hex(const char *value, uint8_t *to, uint32_t room)
{
    uint32_t used = 0;

    for (; value[0]; value += 2) {
        int high = hex_digit(value[0]), low = high < 0 ? -1 : hex_digit(value[1]);

        if (low < 0 || used == room)
            return -1;
        to[used++] = (uint8_t)(high << 4 | low);
    }
    return (int)used;
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static int parse_base64(const char *value, uint8_t *to, uint32_t room)
{
    uint32_t used = 0, bits = 0, bit_count = 0, digits = 0, padding = 0;

    for (; *value; value++) {
        int digit = base64_digit(*value);

        if (*value == '=' && padding < 2) {
            padding++;
            continue;
        }
        if (digit < 0 || padding > 0)
            return -1;
        digits++;
        bits = (bits << 6 | (unsigned)digit) & 0xFFFF;
        bit_count += 6;
        if (bit_count >= 8) {
            bit_count -= 8;
            if (used == room)
                return -1;
            to[used++] = (uint8_t)(bits >> bit_count);
        }
    }
    if ((digits + padding) % 4 != 0 || (bits & ((1u << bit_count) - 1)) != 0)
        return -1;
    return (int)used;
}

int iscsi_binary_parse(const char *value, uint8_t *to, uint32_t room)
{
    uint64_t number;
    uint32_t size = 1;

    if (has_prefix(value, 'x', 'X'))
        return parse_hex(value + 2, to, room);
    if (has_prefix(value, 'b', 'B'))
        return parse_base64(value + 2, to, room);
    if (!parse_number(value, UINT64_MAX, &number))
        return -1;
    while (size < 8 && number >> (8 * size) != 0)
        size++;
    if (size > room)
        return -1;
    for (uint32_t i = 0; i < size; i++)
        to[i] = (uint8_t)(number >> (8 * (size - 1 - i)));
    return (int)size;
}

bool iscsi_list_has(const char *offered, const char *choice)
{
    size_t size = strlen(choice);

    for (;;) {
        const char *comma = strchr(offered, ',');
        size_t item = comma ? (size_t)(comma - offered) : strlen(offered);

        if (item == size && memcmp(offered, choice, size) == 0)
            return true;
        if (!comma)
            return false;
        offered = comma + 1;
    }
}

/* ---- the rules ---- */

enum rule_kind {
    RULE_DIGEST,     /* a list of None and CRC32C; the answerer takes the first that it can */
    RULE_OR,         /* Yes when one side says Yes */
    RULE_AND,        /* Yes when both do */
    RULE_MINIMUM,    /* a number in a range; the smaller one holds */
    RULE_MAXIMUM,    /* the larger one holds */
    RULE_DATA_LIMIT, /* MaxRecvDataSegmentLength: each side declares its own */
    RULE_REPORTING,  /* TaskReporting: only RFC3720 is understood */
    RULE_LEVEL,      /* iSCSIProtocolLevel: ours is 1 */
    RULE_REJECT,     /* obsoleted keys that must be answered with Reject (RFC 7143 13.25) */
};

struct rule {
    const char *name;
    enum rule_kind kind;
    bool offer;     /* an initiator of ours offers it */
    bool discovery; /* has a meaning in a discovery session */
    uint32_t least, most;
    size_t field; /* in struct iscsi_params: a bool or a uint32_t by kind */
};

#define FIELD(name) offsetof(struct iscsi_params, name)

static const struct rule rules[] = {
    {"HeaderDigest", RULE_DIGEST, true, true, 0, 0, FIELD(header_digest)},
    {"DataDigest", RULE_DIGEST, true, true, 0, 0, FIELD(data_digest)},
    {"MaxConnections", RULE_MINIMUM, true, false, 1, 65535, FIELD(max_connections)},
    {"InitialR2T", RULE_OR, true, false, 0, 0, FIELD(initial_r2t)},
    {"ImmediateData", RULE_AND, true, false, 0, 0, FIELD(immediate_data)},
    {"MaxRecvDataSegmentLength", RULE_DATA_LIMIT, false, true, 512, (1 << 24) - 1, 0},
    {"MaxBurstLength", RULE_MINIMUM, true, false, 512, (1 << 24) - 1, FIELD(max_burst_bytes)},
    {"FirstBurstLength", RULE_MINIMUM, true, false, 512, (1 << 24) - 1, FIELD(first_burst_bytes)},
    {"DefaultTime2Wait", RULE_MAXIMUM, true, true, 0, 3600, FIELD(default_time2wait_s)},
    {"DefaultTime2Retain", RULE_MINIMUM, true, true, 0, 3600, FIELD(default_time2retain_s)},
    {"MaxOutstandingR2T", RULE_MINIMUM, true, false, 1, 65535, FIELD(max_outstanding_r2t)},
    {"DataPDUInOrder", RULE_OR, true, false, 0, 0, FIELD(data_pdu_in_order)},
    {"DataSequenceInOrder", RULE_OR, true, false, 0, 0, FIELD(data_sequence_in_order)},
    {"ErrorRecoveryLevel", RULE_MINIMUM, true, true, 0, 2, FIELD(error_recovery_level)},
    {"TaskReporting", RULE_REPORTING, false, false, 0, 0, 0},
    {"iSCSIProtocolLevel", RULE_LEVEL, false, true, 0, 31, 0},
    {"IFMarker", RULE_REJECT, false, true, 0, 0, 0},
    {"OFMarker", RULE_REJECT, false, true, 0, 0, 0},
    {"IFMarkInt", RULE_REJECT, false, true, 0, 0, 0},
    {"OFMarkInt", RULE_REJECT, false, true, 0, 0, 0},
};

_Static_assert(ARRAY_LENGTH(rules) <= 32, "offered, settled and declared hold a bit for each rule");

static bool *bool_field(struct iscsi_params *params, const struct rule *rule)
{
    return (bool *)((char *)params + rule->field);
}

static uint32_t *number_field(struct iscsi_params *params, const struct rule *rule)
{
    return (uint32_t *)(void *)((char *)params + rule->field);
}

static const struct rule *rule_of(const char *key)
{
    for (unsigned i = 0; i < ARRAY_LENGTH(rules); i++)
        if (strcmp(rules[i].name, key) == 0)
            return &rules[i];
    return NULL;
}

static uint32_t bit_of(const struct rule *rule)
{
    return 1u << (rule - rules);
}

struct iscsi_params iscsi_params_default(void)
{
    return (struct iscsi_params){
        .initial_r2t = true,
        .immediate_data = true,
        .data_pdu_in_order = true,
        .data_sequence_in_order = true,
        .max_connections = 1,
        .max_burst_bytes = 262144,
        .first_burst_bytes = 65536,
        .max_outstanding_r2t = 1,
        .default_time2wait_s = 2,
        .default_time2retain_s = 20,
        .own_data_limit_bytes = 8192,
        .peer_data_limit_bytes = 8192,
    };
}

struct iscsi_params iscsi_params_wish(void)
{
    struct iscsi_params wish = iscsi_params_default();

    wish.initial_r2t = false;
    wish.max_burst_bytes = (1 << 24) - 1;
    wish.first_burst_bytes = (1 << 24) - 1;
    wish.own_data_limit_bytes = 262144;
    wish.default_time2retain_s = 0;
    return wish;
}

void iscsi_negotiation_start(struct iscsi_negotiation *negotiation, enum iscsi_role role,
                             const struct iscsi_params *wish)
{
    *negotiation =
        (struct iscsi_negotiation){.role = role, .wish = *wish, .agreed = iscsi_params_default()};
}

static const char *digest_offer(const struct iscsi_negotiation *negotiation, bool wanted)
{
    if (!wanted)
        return "None";
    return negotiation->wish.digest_required ? "CRC32C" : "CRC32C,None";
}

void iscsi_negotiation_declare(struct iscsi_negotiation *negotiation, struct iscsi_text *out)
{
    const struct rule *rule = rule_of("MaxRecvDataSegmentLength");

    if (negotiation->declared & bit_of(rule))
        return;
    negotiation->declared |= bit_of(rule);
    negotiation->agreed.own_data_limit_bytes = negotiation->wish.own_data_limit_bytes;
    iscsi_text_put_number(out, rule->name, negotiation->wish.own_data_limit_bytes);
}

static void offer_bool(struct iscsi_negotiation *negotiation, const struct rule *rule,
                       struct iscsi_text *out)
{
    bool wish = *bool_field(&negotiation->wish, rule);

    /* Yes to an OR and No to an AND fix the result, whether or not the peer answers. */
    if (wish == (rule->kind == RULE_OR))
        *bool_field(&negotiation->agreed, rule) = wish;
    iscsi_text_put(out, rule->name, wish ? "Yes" : "No");
}

void iscsi_negotiation_offer(struct iscsi_negotiation *negotiation, struct iscsi_text *out)
{
    for (unsigned i = 0; i < ARRAY_LENGTH(rules); i++) {
        const struct rule *rule = &rules[i];

        if (!rule->offer || (negotiation->discovery && !rule->discovery))
            continue;
        negotiation->offered |= bit_of(rule);
        if (rule->kind == RULE_DIGEST)
            iscsi_text_put(out, rule->name,
                           digest_offer(negotiation, *bool_field(&negotiation->wish, rule)));
        else if (rule->kind == RULE_OR || rule->kind == RULE_AND)
            offer_bool(negotiation, rule, out);
        else
            iscsi_text_put_number(out, rule->name, *number_field(&negotiation->wish, rule));
    }
    iscsi_negotiation_declare(negotiation, out);
}

static bool parse_bool(const char *value, bool *result)
{
    *result = strcmp(value, "Yes") == 0;
    return *result || strcmp(value, "No") == 0;
}

static bool parse_ranged(const struct rule *rule, const char *value, uint32_t *number)
{
    return iscsi_number_parse(value, number) && *number >= rule->least && *number <= rule->most;
}

static enum iscsi_key_result rejected(const struct rule *rule, struct iscsi_text *out,
                                      const char **why, const char *reason)
{
    iscsi_text_put(out, rule->name, "Reject");
    *why = reason;
    return ISCSI_KEY_REJECTED;
}

/* The peer offers a digest list: take the first entry that both sides can. */
static enum iscsi_key_result answer_digest(struct iscsi_negotiation *negotiation,
                                           const struct rule *rule, const char *value,
                                           struct iscsi_text *out, const char **why)
{
    bool wanted = *bool_field(&negotiation->wish, rule);
    bool none_allowed = !wanted || !negotiation->wish.digest_required;

    for (;;) {
        const char *comma = strchr(value, ',');
        size_t size = comma ? (size_t)(comma - value) : strlen(value);
        bool is_crc = size == 6 && memcmp(value, "CRC32C", 6) == 0;
        bool is_none = size == 4 && memcmp(value, "None", 4) == 0;

        if ((is_crc && wanted) || (is_none && none_allowed)) {
            *bool_field(&negotiation->agreed, rule) = is_crc;
            iscsi_text_put(out, rule->name, is_crc ? "CRC32C" : "None");
            return ISCSI_KEY_DONE;
        }
        if (!comma)
            return rejected(rule, out, why, "no digest in the list can be used");
        value = comma + 1;
    }
}

static enum iscsi_key_result answer_bool(struct iscsi_negotiation *negotiation,
                                         const struct rule *rule, const char *value,
                                         struct iscsi_text *out, const char **why)
{
    bool own = *bool_field(&negotiation->wish, rule), theirs, result;

    if (!parse_bool(value, &theirs))
        return rejected(rule, out, why, "neither Yes nor No");
    result = rule->kind == RULE_OR ? own || theirs : own && theirs;
    *bool_field(&negotiation->agreed, rule) = result;
    iscsi_text_put(out, rule->name, result ? "Yes" : "No");
    return ISCSI_KEY_DONE;
}

static enum iscsi_key_result answer_number(struct iscsi_negotiation *negotiation,
                                           const struct rule *rule, const char *value,
                                           struct iscsi_text *out, const char **why)
{
    uint32_t own = rule->kind == RULE_LEVEL ? 1 : *number_field(&negotiation->wish, rule);
    uint32_t theirs, result;

    if (!parse_ranged(rule, value, &theirs))
        return rejected(rule, out, why, "not a number in this key's range");
    result = rule->kind == RULE_MAXIMUM ? max_u32(own, theirs) : min_u32(own, theirs);
    if (rule->kind != RULE_LEVEL)
        *number_field(&negotiation->agreed, rule) = result;
    iscsi_text_put_number(out, rule->name, result);
    return ISCSI_KEY_DONE;
}

static enum iscsi_key_result answer_offer(struct iscsi_negotiation *negotiation,
                                          const struct rule *rule, const char *value,
                                          struct iscsi_text *out, const char **why)
{
    if (negotiation->discovery && !rule->discovery) {
        iscsi_text_put(out, rule->name, "Irrelevant");
        return ISCSI_KEY_DONE;
    }
    switch (rule->kind) {
    case RULE_DIGEST:
        return answer_digest(negotiation, rule, value, out, why);
    case RULE_OR:
    case RULE_AND:
        return answer_bool(negotiation, rule, value, out, why);
    case RULE_MINIMUM:
    case RULE_MAXIMUM:
    case RULE_LEVEL:
        return answer_number(negotiation, rule, value, out, why);
    case RULE_REPORTING:
        if (!iscsi_list_has(value, "RFC3720"))
            return rejected(rule, out, why, "only RFC3720 is supported");
        iscsi_text_put(out, rule->name, "RFC3720");
        return ISCSI_KEY_DONE;
    case RULE_REJECT:
        return rejected(rule, out, why, "an obsolete key");
    case RULE_DATA_LIMIT:
        break;
    }
    CHECK(false);
    return ISCSI_KEY_PROTOCOL;
}

static enum iscsi_key_result protocol_error(const char **why, const char *reason)
{
    *why = reason;
    return ISCSI_KEY_PROTOCOL;
}

/* The peer's answer to our offer: it may only choose from what we offered. */
static enum iscsi_key_result take_answer(struct iscsi_negotiation *negotiation,
                                         const struct rule *rule, const char *value,
                                         const char **why)
{
    uint32_t number;
    bool flag;

    negotiation->offered &= ~bit_of(rule);
    if (strcmp(value, "Reject") == 0 || strcmp(value, "Irrelevant") == 0 ||
        strcmp(value, "NotUnderstood") == 0) {
        /* No value was agreed: the default holds (RFC 7143 6.2). */
        if (rule->kind == RULE_DIGEST && *bool_field(&negotiation->wish, rule) &&
            negotiation->wish.digest_required)
            return protocol_error(why, "the peer refused the digest that is required");
        return ISCSI_KEY_DONE;
    }
    switch (rule->kind) {
    case RULE_DIGEST:
        flag = strcmp(value, "CRC32C") == 0;
        if (!iscsi_list_has(digest_offer(negotiation, *bool_field(&negotiation->wish, rule)),
                            value))
            return protocol_error(why, "the answer names a digest that was not offered");
        *bool_field(&negotiation->agreed, rule) = flag;
        return ISCSI_KEY_DONE;
    case RULE_OR:
    case RULE_AND:
        if (!parse_bool(value, &flag))
            return protocol_error(why, "the answer is neither Yes nor No");
        if (*bool_field(&negotiation->wish, rule) == (rule->kind == RULE_OR) &&
            flag != (rule->kind == RULE_OR))
            return protocol_error(why, "the answer is not what the two values give");
        *bool_field(&negotiation->agreed, rule) = flag;
        return ISCSI_KEY_DONE;
    default:
        if (!parse_ranged(rule, value, &number))
            return protocol_error(why, "the answer is not a number in this key's range");
        if (rule->kind == RULE_MAXIMUM ? number < *number_field(&negotiation->wish, rule)
                                       : number > *number_field(&negotiation->wish, rule))
            return protocol_error(why, "the answer is not what the two values give");
        *number_field(&negotiation->agreed, rule) = number;
        return ISCSI_KEY_DONE;
    }
}

static enum iscsi_key_result take_data_limit(struct iscsi_negotiation *negotiation,
                                             const struct rule *rule, const char *value,
                                             struct iscsi_text *out, const char **why)
{
    uint32_t number;

    if (!parse_ranged(rule, value, &number))
        return rejected(rule, out, why, "not a number in this key's range");
    negotiation->agreed.peer_data_limit_bytes = number;
    return ISCSI_KEY_DONE;
}

static enum iscsi_key_result unknown_key(const struct iscsi_pair *pair, struct iscsi_text *out,
                                         const char **why)
{
    *why = "an unknown key";
    iscsi_text_put(out, pair->key, "NotUnderstood");
    return ISCSI_KEY_UNKNOWN;
}

enum iscsi_key_result iscsi_negotiation_on_pair(struct iscsi_negotiation *negotiation,
                                                const struct iscsi_pair *pair,
                                                struct iscsi_text *out, const char **why)
{
    const struct rule *rule = rule_of(pair->key);

    *why = "";
    if (!rule) {
        /* An answer to a key that we never sent must not start an exchange of NotUnderstood. */
        if (strcmp(pair->value, "NotUnderstood") == 0)
            return protocol_error(why, "NotUnderstood as the answer to nothing");
        return unknown_key(pair, out, why);
    }
    if (negotiation->settled & bit_of(rule))
        return protocol_error(why, "a key was sent twice");
    negotiation->settled |= bit_of(rule);
    if (rule->kind == RULE_DATA_LIMIT)
        return take_data_limit(negotiation, rule, pair->value, out, why);
    if (negotiation->offered & bit_of(rule))
        return take_answer(negotiation, rule, pair->value, why);
    return answer_offer(negotiation, rule, pair->value, out, why);
}

bool iscsi_negotiation_done(const struct iscsi_negotiation *negotiation)
{
    uint32_t open = negotiation->offered;

    /* A Yes/No offer that fixes the result by itself needs no answer (RFC 7143 6.2.2). */
    for (unsigned i = 0; i < ARRAY_LENGTH(rules); i++) {
        struct iscsi_params wish = negotiation->wish;

        if ((rules[i].kind == RULE_OR && *bool_field(&wish, &rules[i])) ||
            (rules[i].kind == RULE_AND && !*bool_field(&wish, &rules[i])))
            open &= ~bit_of(&rules[i]);
    }
    return open == 0;
}

enum iscsi_key_result iscsi_negotiation_on_text(struct iscsi_negotiation *negotiation,
                                                const struct iscsi_pair *pair,
                                                struct iscsi_text *out, const char **why)
{
    const struct rule *rule = rule_of(pair->key);

    *why = "";
    if (!rule)
        return unknown_key(pair, out, why);
    if (rule->kind == RULE_DATA_LIMIT)
        return take_data_limit(negotiation, rule, pair->value, out, why);
    return rejected(rule, out, why, "this key belongs to the login");
}
