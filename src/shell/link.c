/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What both directions of the link share: names, secrets, the library's digests, and the core's
 * actions. One configured secret becomes four, one for each end of each session, so that no answer
 * to a challenge is of use elsewhere. */

#include "shell/link.h"

#include "shell/log.h"
#include "shell/socket.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

static bool crypto_digest(void *context, enum iscsi_chap_algorithm algorithm,
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

static bool crypto_random(void *context, void *to, size_t size)
{
    return RAND_bytes(to, (int)size) == 1;
}

static bool names_and_secrets(struct link *link)
{
    static const char *const ends[] = {"initiator", "target"};
    const char *array_name = link->config->name;
    snprintf(link->target_name, LINK_NAME_BYTES, "iqn.2026-11.holdfast:%s.link", array_name);
    for (int i = 0; i < CONTROLLER_COUNT; i++) {
        snprintf(link->initiator_names[i], LINK_NAME_BYTES, "iqn.2026-11.holdfast:%s.%s",
                 array_name, controller_name(i));
        for (int end = 0; link->config->secret[0] && end < 2; end++) {
            char label[32];
            snprintf(label, sizeof label, "%s %s", controller_name(i), ends[end]);
            if (!iscsi_chap_derive(&link->crypto, link->config->secret, label,
                                   link->secrets[i][end]))
                return false;
        }
    }
    return true;
}

static void sweep(struct timer *timer)
{
    struct link *link = (struct link *)((char *)timer - offsetof(struct link, sweep));
    uint64_t now_us = link->loop->now_us;
    struct link_outgoing *out = &link->out;
    if (out->descriptor >= 0 && !out->up && !out->closing &&
        now_us - out->since_us > LINK_LOGIN_MS * 1000ull)
        link_outgoing_lost(link,
                           out->connected ? "the login is not answered" : "it does not answer");
    link_incoming_sweep(link);
    loop_timer_set(link->loop, timer, now_us + LINK_SWEEP_MS * 1000ull);
}

const char *link_start(struct link *link, struct loop *loop, struct array *array,
                       const struct config *config, int self, char why[TRACE_LINE])
{
    memset(link, 0, sizeof *link);
    link->loop = loop;
    link->array = array;
    link->config = config;
    link->self = self;
    link->peer = 1 - self;
    link->crypto = (struct iscsi_crypto){.digest = crypto_digest, .random = crypto_random};
    if (!names_and_secrets(link))
        return "the cryptographic library has no SHA-256";
    if (!config->secret[0])
        log_say(LOG_WARNING, "the link is not authenticated: [array] secret is not set");
    link->listener = socket_listen(&config->controllers[self].link, why);
    if (link->listener < 0)
        return why;
    log_say(LOG_INFO, "link at %s, peer at %s", config->controllers[self].link.text,
            config->controllers[link->peer].link.text);
    link_incoming_start(link);
    link_outgoing_start(link);
    link->sweep.fire = sweep;
    loop_timer_set(loop, &link->sweep, loop->now_us + LINK_SWEEP_MS * 1000ull);
    return NULL;
}

void link_reply(struct link *link, bool good)
{
    CHECK(link->owes);
    link->owes = false;
    link->replied = true;
    struct link_incoming *incoming = link->owed;
    link->owed = NULL;
    if (!incoming)
        return;
    iscsi_link_target_respond(&incoming->session, good);
    link_incoming_flush(incoming);
}

bool link_go_on(struct link *link)
{
    if (!link->replied)
        return false;
    link->replied = false;
    for (int i = 0; i < LINK_INCOMING_LIMIT; i++)
        if (link->in[i].descriptor >= 0 && !link->in[i].closing)
            link_incoming_go_on(&link->in[i]);
    return link->owes;
}
