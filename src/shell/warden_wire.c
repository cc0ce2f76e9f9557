/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Lines between a controller and its peer's parent, written and read. It neither sends nor waits. A
 * line that is too long, unknown, out of place or wrongly signed is an error with a reason; nothing
 * foreign is kept beyond one line. */

#include "shell/warden_wire.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MAC_BYTES = 32, MAC_DIGITS = 2 * MAC_BYTES };

static const char *const words[WARDEN_WORD_COUNT] = {
    [WARDEN_HEAD] = "HOLDFAST-WARDEN",
    [WARDEN_WATCH] = "WATCH",
    [WARDEN_ALIVE] = "ALIVE",
    [WARDEN_PING] = "PING",
    [WARDEN_PONG] = "PONG",
    [WARDEN_FENCE] = "FENCE",
    [WARDEN_GONE] = "GONE",
    [WARDEN_SEEN] = "SEEN",
};

static void to_hex(const uint8_t *bytes, size_t size, char *to)
{
    for (size_t i = 0; i < size; i++)
        sprintf(to + 2 * i, "%02x", bytes[i]);
}

bool warden_wire_start(struct warden_wire *wire, const char *array_name, const char *secret,
                       int controller, bool parent)
{
    *wire = (struct warden_wire){
        .array_name = array_name, .secret = secret, .controller = controller, .parent = parent};
    uint8_t random[16];
    if (RAND_bytes(random, sizeof random) != 1)
        return false;
    to_hex(random, sizeof random, wire->own_nonce);
    return true;
}

/* The signature of line `number` that the parent (or the controller) says. */
static void sign(const struct warden_wire *wire, bool from_parent, uint64_t number,
                 const char *text, char digits[MAC_DIGITS + 1])
{
    char whole[WARDEN_LINE_BYTES * 2];
    const char *controller_nonce = wire->parent ? wire->peer_nonce : wire->own_nonce;
    const char *parent_nonce = wire->parent ? wire->own_nonce : wire->peer_nonce;
    int length =
        snprintf(whole, sizeof whole, "holdfast warden 1 %s %s %s %s %s %" PRIu64 " %s",
                 from_parent ? "parent" : "controller", wire->array_name,
                 controller_name(wire->controller), controller_nonce, parent_nonce, number, text);
    CHECK(length > 0 && (size_t)length < sizeof whole);
    uint8_t mac[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    CHECK(HMAC(EVP_sha256(), wire->secret, (int)strlen(wire->secret), (const uint8_t *)whole,
               (size_t)length, mac, &size));
    CHECK(size == MAC_BYTES);
    to_hex(mac, size, digits);
}

uint32_t warden_wire_put(struct warden_wire *wire, enum warden_word word, uint64_t number,
                         char line[WARDEN_LINE_BYTES])
{
    int length;
    if (word == WARDEN_HEAD) {
        length = snprintf(line, WARDEN_LINE_BYTES, "%s 1 %s %s %s\n", words[word], wire->array_name,
                          controller_name(wire->controller), wire->own_nonce);
        return (uint32_t)length;
    }
    CHECK(wire->greeted);
    if (word == WARDEN_WATCH)
        length = snprintf(line, WARDEN_LINE_BYTES, "%s", words[word]);
    else
        length = snprintf(line, WARDEN_LINE_BYTES, "%s %016" PRIx64, words[word], number);
    uint64_t line_number = wire->lines_out++;
    if (wire->secret[0]) {
        char digits[MAC_DIGITS + 1];
        sign(wire, wire->parent, line_number, line, digits);
        length += snprintf(line + length, WARDEN_LINE_BYTES - (size_t)length, " %s", digits);
    }
    CHECK(length + 1 < WARDEN_LINE_BYTES);
    line[length] = '\n';
    return (uint32_t)length + 1;
}

char *warden_wire_place(struct warden_wire *wire, uint32_t *room)
{
    *room = (uint32_t)sizeof wire->in - wire->used;
    return wire->in + wire->used;
}

void warden_wire_received(struct warden_wire *wire, uint32_t count)
{
    CHECK(count <= sizeof wire->in - wire->used);
    wire->used += count;
}

static bool read_head(struct warden_wire *wire, const char *text, const char **why)
{
    char expected[WARDEN_LINE_BYTES];
    int length = snprintf(expected, sizeof expected, "%s 1 %s %s ", words[WARDEN_HEAD],
                          wire->array_name, controller_name(wire->controller));
    if (strncmp(text, expected, (size_t)length) != 0) {
        *why = "the other end is not part of this array, or speaks another version";
        return false;
    }
    const char *nonce = text + length;
    if (strlen(nonce) != WARDEN_NONCE_SIZE - 1 ||
        strspn(nonce, "0123456789abcdef") != WARDEN_NONCE_SIZE - 1 ||
        strcmp(nonce, wire->own_nonce) == 0) {
        *why = "a nonce that is none";
        return false;
    }
    memcpy(wire->peer_nonce, nonce, WARDEN_NONCE_SIZE);
    wire->greeted = true;
    return true;
}

/* Takes the signature off the line. */
static bool check_signature(struct warden_wire *wire, char *text, const char **why)
{
    uint64_t number = wire->lines_in++;
    if (!wire->secret[0])
        return true;
    char digits[MAC_DIGITS + 1];
    char *space = strrchr(text, ' ');
    *why = "a line is not signed with the array's secret";
    if (!space || strlen(space + 1) != MAC_DIGITS)
        return false;
    *space = '\0';
    sign(wire, !wire->parent, number, text, digits);
    return CRYPTO_memcmp(digits, space + 1, MAC_DIGITS) == 0;
}

static bool read_line(struct warden_wire *wire, char *text, struct warden_line *line,
                      const char **why)
{
    if (!wire->greeted) {
        line->word = WARDEN_HEAD;
        return read_head(wire, text, why);
    }
    if (!check_signature(wire, text, why))
        return false;
    *why = "a line that is not understood";
    for (int word = WARDEN_WATCH; word < WARDEN_WORD_COUNT; word++) {
        size_t length = strlen(words[word]);
        if (strncmp(text, words[word], length) != 0)
            continue;
        line->word = (enum warden_word)word;
        line->number = 0;
        if (word == WARDEN_WATCH)
            return text[length] == '\0';
        int end = 0;
        return sscanf(text + length, " %16" SCNx64 "%n", &line->number, &end) == 1 &&
               text[length + (size_t)end] == '\0';
    }
    return false;
}

int warden_wire_next(struct warden_wire *wire, struct warden_line *line, const char **why)
{
    char *newline = memchr(wire->in, '\n', wire->used);
    if (!newline) {
        *why = "a line is too long";
        return wire->used == sizeof wire->in ? -1 : 0;
    }
    char text[WARDEN_LINE_BYTES];
    uint32_t length = (uint32_t)(newline - wire->in);
    memcpy(text, wire->in, length);
    text[length] = '\0';
    wire->used -= length + 1;
    memmove(wire->in, newline + 1, wire->used);
    if (strlen(text) != length) {
        *why = "a line holds a NUL byte";
        return -1;
    }
    return read_line(wire, text, line, why) ? 1 : -1;
}
