/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See array_session.h. It knows nothing of what a kind's commands mean, and keeps none of them. */

#include "shell/array_session.h"

#include "base/bytes.h"
#include "shell/log.h"

#include <stdio.h>
#include <string.h>

static struct array_session *of_stream(struct stream *stream)
{
    return (struct array_session *)((char *)stream - offsetof(struct array_session, stream));
}

void array_session_lose(struct array_session *session, const char *why)
{
    stream_close(&session->stream, why);
}

/* ---- what the other array says ---- */

void array_session_ask(struct array_session *session)
{
    const struct array_session_kind *kind = session->kind;
    struct iscsi_ship_command command = {
        .in = session->answer, .in_bytes = kind->state_bytes, .ahead = true};
    CHECK(!session->asking);
    kind->state_cdb(command.cdb);
    session->asking = true;
    session->asked_us = session->loop->now_us;
    if (kind->asked)
        kind->asked(session);
    iscsi_ship_command(&session->ship, kind->state_tag, &command);
}

static void on_up(struct array_session *session)
{
    session->counts.up = true;
    session->tried = 0;
    session->retry_ms = session->kind->retry_least_ms;
    session->counts.error[0] = session->said[0] = '\0';
    session->counts.logins++;
    log_say(LOG_INFO, "copy: %s: logged in at %s%s, authenticated both ways%s", session->what,
            session->where, session->addresses[session->address].text,
            session->stream.with_tls ? ", encrypted" : "");
    session->kind->up(session);
}

static void on_state(struct array_session *session)
{
    const char *why = NULL;
    session->asking = false;
    session->counts.round_trip_us = session->loop->now_us - session->asked_us;
    switch (session->kind->judge(session, &session->ship.done, &why)) {
    case ARRAY_SESSION_WRONG:
        array_session_lose(session, why);
        break;
    case ARRAY_SESSION_ANOTHER:
        session->asking = true; /* nothing else is asked */
        break;
    case ARRAY_SESSION_ELSEWHERE:
        session->elsewhere = true;
        array_session_lose(session, session->kind->elsewhere);
        break;
    case ARRAY_SESSION_HERE:
        if (session->counts.up)
            session->kind->again(session);
        else
            on_up(session);
        break;
    }
}

/* ---- the stream ---- */

static void opened(struct stream *stream)
{
    iscsi_ship_start(&of_stream(stream)->ship, &of_stream(stream)->login);
}

static size_t feed(struct stream *stream, const uint8_t *bytes, size_t size, bool *again)
{
    struct array_session *session = of_stream(stream);
    enum iscsi_ship_event event;
    size_t taken = iscsi_ship_feed(&session->ship, bytes, size, &event);
    *again = event != ISCSI_SHIP_MORE;
    switch (event) {
    case ISCSI_SHIP_MORE:
        break;
    case ISCSI_SHIP_LOGGED_IN:
        array_session_ask(session);
        break;
    case ISCSI_SHIP_STATUS:
        if (session->ship.done.itt == session->kind->state_tag)
            on_state(session);
        else
            session->kind->answered(session, &session->ship.done);
        break;
    case ISCSI_SHIP_CLOSED:
        array_session_lose(session, session->kind->ended);
        break;
    case ISCSI_SHIP_FAILED:
        array_session_lose(session, session->ship.reason);
        break;
    }
    return taken;
}

static uint32_t wants(struct stream *stream, uint8_t **place)
{
    return iscsi_ship_wants(&of_stream(stream)->ship, place);
}

static void filled(struct stream *stream, uint32_t size)
{
    iscsi_ship_filled(&of_stream(stream)->ship, size);
}

static uint32_t output(struct stream *stream, struct iovec **iov)
{
    return iscsi_ship_output(&of_stream(stream)->ship, iov);
}

static void sent(struct stream *stream, size_t size)
{
    iscsi_ship_sent(&of_stream(stream)->ship, size);
}

/* The other controller is tried at once; when neither is right there is a pause. */
static uint32_t next_address(struct array_session *session)
{
    uint32_t wait_ms = session->retry_ms;
    session->address = (session->address + 1) % session->address_count;
    if (++session->tried < session->address_count)
        return 0;
    session->tried = 0;
    session->retry_ms = min_u32(session->retry_ms * 2, session->kind->retry_most_ms);
    return wait_ms;
}

static void retire(struct array_session *session)
{
    const char *why = session->stream.why;
    bool was_up = session->counts.up;
    snprintf(session->counts.error, sizeof session->counts.error, "%s", why);
    if (strcmp(session->said, why) != 0 && !session->elsewhere)
        log_say(was_up && session->wanted ? LOG_WARNING : LOG_INFO, "copy: %s: session to %s%s: %s",
                session->what, session->where, session->addresses[session->address].text, why);
    if (!session->elsewhere)
        snprintf(session->said, sizeof session->said, "%s", why);
    uint32_t wait_ms = next_address(session);
    if (session->wanted)
        loop_timer_set(session->loop, &session->retry, session->loop->now_us + wait_ms * 1000ull);
    else
        session->counts.error[0] = session->said[0] = '\0';
    session->asking = session->elsewhere = session->counts.up = false;
    session->kind->over(session, was_up);
}

static void closed(struct stream *stream, const char *why)
{
    struct array_session *session = of_stream(stream);
    if (!session->kind->drop || session->kind->drop(session))
        retire(session);
    else
        session->emptying = true;
}

void array_session_emptied(struct array_session *session)
{
    CHECK(session->emptying);
    session->emptying = false;
    retire(session);
}

static const struct stream_user stream_user = {.opened = opened,
                                               .feed = feed,
                                               .wants = wants,
                                               .filled = filled,
                                               .output = output,
                                               .sent = sent,
                                               .closed = closed};

/* ---- time ---- */

static void retry(struct timer *timer)
{
    struct array_session *session =
        (struct array_session *)((char *)timer - offsetof(struct array_session, retry));
    CHECK(!session->emptying);
    session->since_us = session->loop->now_us;
    session->counts.address = session->address;
    stream_connect(&session->stream, &session->addresses[session->address], session->tls,
                   session->rate_bytes);
}

static bool is_silent(const struct array_session *session)
{
    uint64_t limit_us = session->kind->silent_ms * 1000ull, now_us = session->loop->now_us;
    if (session->kind->silent_by_question)
        return session->asking && now_us - session->asked_us > limit_us;
    return now_us - session->stream.moved_us > limit_us;
}

static void sweep(struct timer *timer)
{
    struct array_session *session =
        (struct array_session *)((char *)timer - offsetof(struct array_session, sweep));
    const struct array_session_kind *kind = session->kind;
    uint64_t now_us = session->loop->now_us;
    loop_timer_set(session->loop, timer, now_us + kind->ask_ms * 1000ull);
    if (session->stream.descriptor < 0)
        return;
    if (!session->counts.up) {
        if (now_us - session->since_us > kind->login_ms * 1000ull)
            array_session_lose(session, session->stream.is_open ? "the login is not answered"
                                                                : "it does not answer");
        return;
    }
    if (is_silent(session))
        array_session_lose(session, kind->silent);
    else if (!session->asking && session->ship.state == ISCSI_SHIP_STATE_READY)
        array_session_ask(session);
}

/* ---- its owner ---- */

bool array_session_is_ready(const struct array_session *session)
{
    return session->stream.is_open && session->ship.state == ISCSI_SHIP_STATE_READY;
}

void array_session_reset(struct array_session *session)
{
    if (session->stream.descriptor >= 0) /* else it was lost by itself */
        array_session_lose(session, "this controller begins again");
}

void array_session_want(struct array_session *session, bool wanted)
{
    if (session->wanted == wanted)
        return;
    session->wanted = wanted;
    loop_timer_clear(&session->retry);
    if (session->stream.descriptor >= 0)
        array_session_lose(session, session->kind->unwanted);
    else if (wanted && !session->stream.closing && !session->emptying) /* else retire() does it */
        loop_timer_set(session->loop, &session->retry, session->loop->now_us);
}

void array_session_flush(struct array_session *session)
{
    stream_flush(&session->stream);
}

static void login_config(struct array_session *session)
{
    struct iscsi_login_config *login = &session->login;
    const struct copy_names *names = &session->names;
    *login = (struct iscsi_login_config){
        .initiator_name = names->initiator,
        .target_name = names->target,
        .isid = {0x80},
        .first_sn = 1,
        .wish = iscsi_params_wish(), /* a batch in one burst: no round trip for an R2T */
        .crypto = &session->crypto,
        .self = {names->initiator, names->initiator_secret},
        .peer = {names->target, names->target_secret},
    };
    /* RFC 7143 11.12.5: 24 random bits, then a qualifier. */
    CHECK(session->crypto.random(session->crypto.context, login->isid + 1, 3));
    const char *wrong = iscsi_login_config_check(login, ISCSI_INITIATOR);
    if (wrong)
        log_say(LOG_ERROR, "copy: %s", wrong);
    CHECK(!wrong);
}

void array_session_start(struct array_session *session, struct loop *loop,
                         const struct array_session_kind *kind)
{
    CHECK(session->address_count > 0);
    CHECK(kind->state_bytes <= ARRAY_SESSION_STATE_LIMIT);
    session->loop = loop;
    session->kind = kind;
    session->retry_ms = kind->retry_least_ms;
    stream_make(&session->stream, loop, &stream_user);
    login_config(session);
    session->retry.fire = retry;
    session->sweep.fire = sweep;
    loop_timer_set(loop, &session->sweep, loop->now_us + kind->ask_ms * 1000ull);
}
