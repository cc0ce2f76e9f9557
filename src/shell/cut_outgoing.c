/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See cut_outgoing.h. Invariant: down() is said once for each up(), and nothing is answered between
 * a reset and it. Messages are small and copied, so a session that ends gives nothing back. */

#include "shell/cut_outgoing.h"

#include "shell/crypto.h"
#include "shell/log.h"

#include <stdio.h>
#include <string.h>

enum { STATE_TAG = CUT_WINDOW };

static struct cut_outgoing *of_stream(struct stream *stream)
{
    return (struct cut_outgoing *)((char *)stream - offsetof(struct cut_outgoing, stream));
}

static void lost(struct cut_outgoing *out, const char *why)
{
    stream_close(&out->stream, why);
}

/* ---- what the other array says ---- */

static void ask(struct cut_outgoing *out)
{
    struct iscsi_ship_command command = {
        .in = out->answer, .in_bytes = sizeof out->answer, .ahead = true};
    copy_cdb_cut_state(command.cdb);
    out->asking = true;
    out->asked_us = out->loop->now_us;
    out->asked_for = 0;
    for (uint32_t tag = 0; tag < CUT_WINDOW; tag++)
        out->asked_for |= out->slots[tag].good ? 1u << tag : 0;
    iscsi_ship_command(&out->session, STATE_TAG, &command);
}

static void on_up(struct cut_outgoing *out)
{
    out->up = out->counts.up = true;
    out->tried = 0;
    out->retry_ms = CUT_RETRY_LEAST_MS;
    out->counts.error[0] = out->said[0] = '\0';
    out->counts.logins++;
    log_say(LOG_INFO, "copy: set %s: logged in at array %s, %s, authenticated both ways%s",
            out->group->set, out->array->name, out->array->addresses[out->address].text,
            out->stream.with_tls ? ", encrypted" : "");
    out->user->up(out->context, &out->counts.state);
}

static void answer(struct cut_outgoing *out, uint32_t tag, bool good)
{
    uint64_t number = out->slots[tag].number;
    CHECK(number != 0);
    out->slots[tag].number = 0;
    out->slots[tag].good = false;
    out->user->answered(out->context, number, good);
}

/* The state while it is up; then the answers that waited for it, and what was GOOD since it was
 * asked for waits for another one. */
static void on_state_again(struct cut_outgoing *out)
{
    uint32_t asked_for = out->asked_for;
    bool more = false;
    out->user->state(out->context, &out->counts.state);
    for (uint32_t tag = 0; tag < CUT_WINDOW; tag++) {
        if (asked_for & 1u << tag)
            answer(out, tag, true);
        more |= out->slots[tag].good;
    }
    if (more)
        ask(out);
}

static const char *judge_state(struct cut_outgoing *out, struct cut_state *state)
{
    const struct iscsi_ship_done *done = &out->session.done;
    if (done->status != COPY_STATUS_GOOD)
        return "it does not tell the state of its group";
    const char *wrong = cut_get_state(out->answer, done->received_bytes, state);
    if (!wrong && memcmp(state->set, out->id, GROUP_ID_SIZE) != 0)
        wrong = "it has another set of this name; write the same set_arrays = in both";
    return wrong;
}

static void on_state(struct cut_outgoing *out)
{
    struct cut_state state;
    const char *wrong = judge_state(out, &state);
    out->asking = false;
    out->counts.round_trip_us = out->loop->now_us - out->asked_us;
    if (wrong) {
        lost(out, wrong);
        return;
    }
    out->counts.state = state;
    if (!(state.flags & CUT_STATE_LEADER)) {
        out->elsewhere = true;
        lost(out, "no controller there leads the group");
    } else if (out->up) {
        on_state_again(out);
    } else {
        on_up(out);
    }
}

static void on_status(struct cut_outgoing *out)
{
    const struct iscsi_ship_done *done = &out->session.done;
    if (done->itt == STATE_TAG) {
        on_state(out);
        return;
    }
    CHECK(done->itt < CUT_WINDOW);
    struct cut_message_slot *slot = &out->slots[done->itt];
    bool good = done->status == COPY_STATUS_GOOD;
    slot->good = good && slot->with_state;
    if (!slot->good)
        answer(out, done->itt, good);
    else if (!out->asking)
        ask(out);
}

/* ---- the stream ---- */

static void opened(struct stream *stream)
{
    iscsi_ship_start(&of_stream(stream)->session, &of_stream(stream)->login);
}

static size_t feed(struct stream *stream, const uint8_t *bytes, size_t size, bool *again)
{
    struct cut_outgoing *out = of_stream(stream);
    enum iscsi_ship_event event;
    size_t taken = iscsi_ship_feed(&out->session, bytes, size, &event);
    *again = event != ISCSI_SHIP_MORE;
    switch (event) {
    case ISCSI_SHIP_MORE:
        break;
    case ISCSI_SHIP_LOGGED_IN:
        ask(out);
        break;
    case ISCSI_SHIP_STATUS:
        on_status(out);
        break;
    case ISCSI_SHIP_CLOSED:
        lost(out, "it ended the session");
        break;
    case ISCSI_SHIP_FAILED:
        lost(out, out->session.reason);
        break;
    }
    return taken;
}

static uint32_t wants(struct stream *stream, uint8_t **place)
{
    return iscsi_ship_wants(&of_stream(stream)->session, place);
}

static void filled(struct stream *stream, uint32_t size)
{
    iscsi_ship_filled(&of_stream(stream)->session, size);
}

static uint32_t output(struct stream *stream, struct iovec **iov)
{
    return iscsi_ship_output(&of_stream(stream)->session, iov);
}

static void sent(struct stream *stream, size_t size)
{
    iscsi_ship_sent(&of_stream(stream)->session, size);
}

static void closed(struct stream *stream, const char *why)
{
    struct cut_outgoing *out = of_stream(stream);
    uint32_t wait_ms = out->retry_ms;
    snprintf(out->counts.error, sizeof out->counts.error, "%s", why);
    if (strcmp(out->said, why) != 0 && !out->elsewhere)
        log_say(out->up && out->wanted ? LOG_WARNING : LOG_INFO,
                "copy: set %s: session to array %s, %s: %s", out->group->set, out->array->name,
                out->array->addresses[out->address].text, why);
    if (!out->elsewhere)
        snprintf(out->said, sizeof out->said, "%s", why);
    memset(out->slots, 0, sizeof out->slots);
    /* The other controller is tried at once; when neither is right there is a pause. */
    out->address = (out->address + 1) % out->array->address_count;
    if (++out->tried < out->array->address_count)
        wait_ms = 0;
    else {
        out->tried = 0;
        out->retry_ms = min_u32(out->retry_ms * 2, CUT_RETRY_MOST_MS);
    }
    if (out->wanted)
        loop_timer_set(out->loop, &out->retry, out->loop->now_us + wait_ms * 1000ull);
    else
        out->counts.error[0] = out->said[0] = '\0';
    out->asking = out->elsewhere = false;
    if (!out->up)
        return;
    out->up = out->counts.up = false;
    out->user->down(out->context);
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
    struct cut_outgoing *out =
        (struct cut_outgoing *)((char *)timer - offsetof(struct cut_outgoing, retry));
    out->since_us = out->loop->now_us;
    out->counts.address = out->address;
    stream_connect(&out->stream, &out->array->addresses[out->address], out->tls, 0);
}

static void sweep(struct timer *timer)
{
    struct cut_outgoing *out =
        (struct cut_outgoing *)((char *)timer - offsetof(struct cut_outgoing, sweep));
    uint64_t now_us = out->loop->now_us;
    loop_timer_set(out->loop, timer, now_us + CUT_ASK_MS * 1000ull);
    if (out->stream.descriptor < 0)
        return;
    if (!out->up) {
        if (now_us - out->since_us > CUT_LOGIN_MS * 1000ull)
            lost(out, out->stream.is_open ? "the login is not answered" : "it does not answer");
        return;
    }
    if (out->asking && now_us - out->asked_us > CUT_SILENT_MS * 1000ull)
        lost(out, "it does not answer");
    else if (!out->asking && out->session.state == ISCSI_SHIP_STATE_READY)
        ask(out);
}

/* ---- its owner ---- */

void cut_outgoing_send(struct cut_outgoing *out, uint64_t number, const uint8_t *bytes,
                       bool with_state)
{
    uint32_t tag = 0;
    CHECK(out->up);
    CHECK(number != 0);
    if (!out->stream.is_open || out->session.state != ISCSI_SHIP_STATE_READY)
        return; /* the owner hears of the loss soon */
    while (tag < CUT_WINDOW && out->slots[tag].number != 0)
        tag++;
    CHECK(tag < CUT_WINDOW);
    struct cut_message_slot *slot = &out->slots[tag];
    *slot = (struct cut_message_slot){.number = number, .with_state = with_state};
    memcpy(slot->bytes, bytes, CUT_MESSAGE_SIZE);
    struct iscsi_ship_command command = {
        .out = slot->bytes, .out_bytes = CUT_MESSAGE_SIZE, .ahead = true};
    copy_cdb_cut(command.cdb);
    out->counts.messages++;
    iscsi_ship_command(&out->session, tag, &command);
}

void cut_outgoing_reset(struct cut_outgoing *out)
{
    if (out->stream.descriptor >= 0) /* else it was lost by itself */
        lost(out, "this controller begins again");
}

void cut_outgoing_want(struct cut_outgoing *out, bool wanted)
{
    if (out->wanted == wanted)
        return;
    out->wanted = wanted;
    loop_timer_clear(&out->retry);
    if (out->stream.descriptor >= 0)
        lost(out, "the set is not coordinated from here any more");
    else if (wanted && !out->stream.closing) /* else closed() does it */
        loop_timer_set(out->loop, &out->retry, out->loop->now_us);
}

void cut_outgoing_flush(struct cut_outgoing *out)
{
    stream_flush(&out->stream);
}

static void login_config(struct cut_outgoing *out)
{
    struct iscsi_login_config *login = &out->login;
    *login = (struct iscsi_login_config){
        .initiator_name = out->names.initiator,
        .target_name = out->names.target,
        .isid = {0x80},
        .first_sn = 1,
        .wish = iscsi_params_wish(),
        .crypto = &out->crypto,
        .self = {out->names.initiator, out->names.initiator_secret},
        .peer = {out->names.target, out->names.target_secret},
    };
    /* RFC 7143 11.12.5: 24 random bits, then a qualifier. */
    CHECK(out->crypto.random(out->crypto.context, login->isid + 1, 3));
    const char *wrong = iscsi_login_config_check(login, ISCSI_INITIATOR);
    if (wrong)
        log_say(LOG_ERROR, "copy: %s", wrong);
    CHECK(!wrong);
}

const char *cut_outgoing_start(struct cut_outgoing *out, struct loop *loop,
                               const struct config *config, const struct config_group *group,
                               uint32_t place, int self, const struct cut_outgoing_user *user,
                               void *context, char why[TRACE_LINE])
{
    CHECK(place < group->set_count && group->set_arrays[place].address_count > 0);
    memset(out, 0, sizeof *out);
    out->loop = loop;
    out->group = group;
    out->array = &group->set_arrays[place];
    out->user = user;
    out->context = context;
    out->crypto = crypto_of_library();
    out->retry_ms = CUT_RETRY_LEAST_MS;
    if (!copy_names_make_cut(&out->names, &out->crypto, config->name, group, out->array->name,
                             self) ||
        !copy_set_identity(out->id, &out->crypto, group))
        return "the cryptographic library has no SHA-256";
    const char *wrong = copy_tls(&out->tls, group, out->array->name, why);
    if (wrong)
        return wrong;
    stream_make(&out->stream, loop, &stream_user);
    login_config(out);
    out->retry.fire = retry;
    out->sweep.fire = sweep;
    loop_timer_set(loop, &out->sweep, loop->now_us + CUT_ASK_MS * 1000ull);
    return NULL;
}
