/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What both directions of the link share: names, secrets, and the core's actions. One configured
 * secret becomes four, one for each end of each session, so that no answer to a challenge is of use
 * elsewhere. */

#include "shell/link.h"

#include "shell/crypto.h"
#include "shell/log.h"
#include "shell/socket.h"

#include <stdio.h>
#include <string.h>

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

const char *link_start(struct link *link, struct loop *loop, struct array *array, struct ship *ship,
                       const struct config *config, int self, char why[TRACE_LINE])
{
    memset(link, 0, sizeof *link);
    link->loop = loop;
    link->array = array;
    link->ship = ship;
    link->config = config;
    link->self = self;
    link->peer = 1 - self;
    link->crypto = crypto_of_library();
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
