/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See copy_outgoing.h. Invariant: down() is said once for each up(), when the kernel no longer
 * touches any batch; nothing is answered between a reset and it. */

#include "shell/copy_outgoing.h"

#include "shell/crypto.h"
#include "shell/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STATE_TAG = COPY_WINDOW, LAYOUT_TAG };

_Static_assert((int)LAYOUT_TAG < (int)COPY_COMMANDS, "both questions fit beside the batches");

static struct copy_outgoing *of_stream(struct stream *stream)
{
    return (struct copy_outgoing *)((char *)stream - offsetof(struct copy_outgoing, stream));
}

static void lost(struct copy_outgoing *out, const char *why)
{
    stream_close(&out->stream, why);
}

/* ---- what the second array says ---- */

static void ask(struct copy_outgoing *out)
{
    struct iscsi_ship_command command = {
        .in = out->answer, .in_bytes = COPY_STATE_SIZE, .ahead = true};
    copy_cdb_state(command.cdb);
    out->asking = true;
    out->asked_us = out->loop->now_us;
    iscsi_ship_command(&out->session, STATE_TAG, &command);
}

static void ask_layout(struct copy_outgoing *out)
{
    struct iscsi_ship_command command = {.in = out->layout, .in_bytes = COPY_LAYOUT_BYTES};
    copy_cdb_layout(command.cdb);
    iscsi_ship_command(&out->session, LAYOUT_TAG, &command);
}

/* The group's identity is another one there: the session ends, and the sentence says why. */
static void on_layout(struct copy_outgoing *out)
{
    const struct iscsi_ship_done *done = &out->session.done;
    char why[TRACE_LINE];
    bool good = done->status == COPY_STATUS_GOOD;
    copy_layout_compare(out->layout, good ? done->received_bytes : 0, out->config, out->group, why);
    lost(out, why);
}

static const char *judge_state(struct copy_outgoing *out, struct copy_state *state)
{
    const struct iscsi_ship_done *done = &out->session.done;
    if (done->status != COPY_STATUS_GOOD)
        return "the second array does not tell the group's state";
    return record_get_state(out->answer, done->received_bytes, state);
}

static void on_state(struct copy_outgoing *out)
{
    struct copy_state state;
    const char *wrong = judge_state(out, &state);
    out->asking = false;
    out->counts.round_trip_us = out->loop->now_us - out->asked_us;
    if (wrong) {
        lost(out, wrong);
        return;
    }
    if (memcmp(state.group, out->id, COPY_ID_SIZE) != 0) {
        out->asking = true; /* nothing else is asked */
        ask_layout(out);
        return;
    }
    out->counts.state = state;
    if (!(state.flags & COPY_STATE_HERE)) {
        out->elsewhere = true;
        lost(out, "the other controller of the second array holds the group");
        return;
    }
    if (out->up) {
        out->user->state(out->context, &state);
        return;
    }
    out->up = out->counts.up = true;
    out->counts.zstd = out->press && state.flags & COPY_STATE_ZSTD;
    out->tried = 0;
    out->retry_ms = COPY_RETRY_LEAST_MS;
    out->counts.error[0] = out->said[0] = '\0';
    out->counts.logins++;
    log_say(LOG_INFO, "copy: group %s: logged in at %s, authenticated both ways%s",
            out->group->name, out->group->addresses[out->address].text,
            out->stream.with_tls ? ", encrypted" : "");
    if (out->press && !out->counts.zstd)
        log_say(LOG_WARNING, "copy: group %s: the other array does not know zstd; sends as it is",
                out->group->name);
    out->user->up(out->context, &state);
}

static void on_status(struct copy_outgoing *out)
{
    const struct iscsi_ship_done *done = &out->session.done;
    if (done->itt == STATE_TAG) {
        on_state(out);
        return;
    }
    if (done->itt == LAYOUT_TAG) {
        on_layout(out);
        return;
    }
    CHECK(done->itt < COPY_WINDOW);
    uint64_t number = out->numbers[done->itt];
    CHECK(number != 0);
    out->numbers[done->itt] = 0;
    out->counts.in_flight--;
    out->counts.batches++;
    out->user->answered(out->context, number, done->status == COPY_STATUS_GOOD);
}

/* ---- the stream ---- */

static void opened(struct stream *stream)
{
    iscsi_ship_start(&of_stream(stream)->session, &of_stream(stream)->login);
}

static size_t feed(struct stream *stream, const uint8_t *bytes, size_t size, bool *again)
{
    struct copy_outgoing *out = of_stream(stream);
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
        lost(out, "the second array ended the session");
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

static void retire(struct copy_outgoing *out)
{
    const char *why = out->stream.why;
    uint32_t wait_ms = out->retry_ms;
    snprintf(out->counts.error, sizeof out->counts.error, "%s", why);
    if (strcmp(out->said, why) != 0 && !out->elsewhere)
        log_say(out->up && out->wanted ? LOG_WARNING : LOG_INFO,
                "copy: group %s: session to %s: %s", out->group->name,
                out->group->addresses[out->address].text, why);
    if (!out->elsewhere)
        snprintf(out->said, sizeof out->said, "%s", why);
    out->sent_before = out->counts.sent_bytes;
    memset(out->numbers, 0, sizeof out->numbers);
    out->counts.in_flight = 0;
    /* The other controller is tried at once; when neither is right there is a pause. */
    out->address = (out->address + 1) % out->group->address_count;
    if (++out->tried < out->group->address_count)
        wait_ms = 0;
    else {
        out->tried = 0;
        out->retry_ms = min_u32(out->retry_ms * 2, COPY_RETRY_MOST_MS);
    }
    if (out->wanted)
        loop_timer_set(out->loop, &out->retry, out->loop->now_us + wait_ms * 1000ull);
    else
        out->counts.error[0] = out->said[0] = '\0';
    out->asking = out->elsewhere = false;
    if (!out->up)
        return;
    out->up = out->counts.up = out->counts.zstd = false;
    out->user->down(out->context);
}

/* The batches are given back when the press reads none of them any more. */
static void closed(struct stream *stream, const char *why)
{
    struct copy_outgoing *out = of_stream(stream);
    if (!out->press || copy_press_drop(out->press))
        retire(out);
    else
        out->emptying = true;
}

static void emptied(void *context)
{
    struct copy_outgoing *out = context;
    CHECK(out->emptying);
    out->emptying = false;
    retire(out);
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
    struct copy_outgoing *out =
        (struct copy_outgoing *)((char *)timer - offsetof(struct copy_outgoing, retry));
    out->since_us = out->loop->now_us;
    out->counts.address = out->address;
    stream_connect(&out->stream, &out->group->addresses[out->address], out->tls,
                   out->group->bandwidth_bytes);
}

static void sweep(struct timer *timer)
{
    struct copy_outgoing *out =
        (struct copy_outgoing *)((char *)timer - offsetof(struct copy_outgoing, sweep));
    uint64_t now_us = out->loop->now_us;
    loop_timer_set(out->loop, timer, now_us + COPY_ASK_MS * 1000ull);
    if (out->stream.descriptor < 0)
        return;
    if (!out->up) {
        if (now_us - out->since_us > COPY_LOGIN_MS * 1000ull)
            lost(out, out->stream.is_open ? "the login is not answered" : "it does not answer");
        return;
    }
    if (now_us - out->stream.moved_us > COPY_SILENT_MS * 1000ull)
        lost(out, "the second array does not answer");
    else if (!out->asking && out->session.state == ISCSI_SHIP_STATE_READY)
        ask(out);
}

/* ---- its owner ---- */

static bool is_ready(const struct copy_outgoing *out)
{
    return out->stream.is_open && out->session.state == ISCSI_SHIP_STATE_READY;
}

/* `packed_bytes` 0: as it is. */
static void issue(struct copy_outgoing *out, uint32_t tag, const uint8_t *packed,
                  uint32_t packed_bytes)
{
    const struct copy_batch *batch = &out->batches[tag];
    struct iscsi_ship_command command = {.pieces = batch->pieces, .out_bytes = batch->length_bytes};
    out->counts.batch_bytes += batch->length_bytes;
    if (packed_bytes > 0) {
        command = (struct iscsi_ship_command){.out = packed, .out_bytes = packed_bytes};
        copy_cdb_packed(command.cdb, packed_bytes, batch->length_bytes);
    } else {
        copy_cdb_batch(command.cdb, batch->length_bytes);
    }
    out->counts.packed_bytes += command.out_bytes;
    /* Behind the data of the cycle after its own a PROMOTE would leave the link without work until
     * its answer is there. */
    command.ahead = command.out_bytes < COPY_ZSTD_LEAST_BYTES;
    iscsi_ship_command(&out->session, tag, &command);
}

static void pressed(void *context, uint32_t tag, const uint8_t *bytes, uint32_t packed_bytes)
{
    struct copy_outgoing *out = context;
    if (is_ready(out)) /* else the session is ending, and its batches with it */
        issue(out, tag, bytes, packed_bytes);
}

static const struct copy_press_user press_user = {.pressed = pressed, .emptied = emptied};

void copy_outgoing_send(struct copy_outgoing *out, uint64_t number, const struct iovec *iov,
                        uint32_t iov_count, uint32_t length_bytes)
{
    uint32_t tag = 0;
    CHECK(out->up);
    CHECK(number != 0);
    CHECK(iov_count > 0);
    CHECK(length_bytes <= COPY_BATCH_BYTES);
    if (!is_ready(out))
        return; /* the owner hears of the loss as soon as the kernel is done */
    while (tag < COPY_WINDOW && out->numbers[tag] != 0)
        tag++;
    CHECK(tag < COPY_WINDOW);
    out->numbers[tag] = number;
    out->counts.in_flight++;
    out->batches[tag] = (struct copy_batch){iov, iov_count, length_bytes};
    if (out->counts.zstd && length_bytes >= COPY_ZSTD_LEAST_BYTES)
        copy_press_give(out->press, tag, iov, iov_count, length_bytes);
    else
        issue(out, tag, NULL, 0);
}

void copy_outgoing_reset(struct copy_outgoing *out)
{
    if (out->stream.descriptor >= 0 && !out->emptying) /* else it was lost by itself */
        lost(out, "this controller begins again");
}

void copy_outgoing_want(struct copy_outgoing *out, bool wanted)
{
    if (out->wanted == wanted)
        return;
    out->wanted = wanted;
    loop_timer_clear(&out->retry);
    if (out->stream.descriptor >= 0)
        lost(out, "the group is not sent from here any more");
    else if (wanted && !out->stream.closing && !out->emptying) /* else retire() does it */
        loop_timer_set(out->loop, &out->retry, out->loop->now_us);
}

void copy_outgoing_flush(struct copy_outgoing *out)
{
    stream_flush(&out->stream);
    out->counts.sent_bytes = out->sent_before + out->stream.sent_bytes;
}

static void login_config(struct copy_outgoing *out)
{
    struct iscsi_login_config *login = &out->login;
    *login = (struct iscsi_login_config){
        .initiator_name = out->names.initiator,
        .target_name = out->names.target,
        .isid = {0x80},
        .first_sn = 1,
        .wish = iscsi_params_wish(), /* a batch in one burst: no round trip for an R2T */
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

const char *copy_outgoing_start(struct copy_outgoing *out, struct loop *loop,
                                const struct config *config, const struct config_group *group,
                                int self, const struct copy_outgoing_user *user, void *context,
                                char why[TRACE_LINE])
{
    CHECK(group->address_count > 0);
    memset(out, 0, sizeof *out);
    out->loop = loop;
    out->config = config;
    out->group = group;
    out->user = user;
    out->context = context;
    out->crypto = crypto_of_library();
    out->retry_ms = COPY_RETRY_LEAST_MS;
    if (!copy_names_make(&out->names, &out->crypto, config, group, false, self) ||
        !copy_identity(out->id, &out->crypto, config, group))
        return "the cryptographic library has no SHA-256";
    const char *wrong = copy_tls(&out->tls, group, group->array, why);
    if (wrong)
        return wrong;
    if (group->zstd) {
        out->press = calloc(1, sizeof *out->press);
        wrong = out->press ? copy_press_start(out->press, loop, &press_user, out) : "no memory";
        if (wrong)
            return wrong;
    }
    stream_make(&out->stream, loop, &stream_user);
    login_config(out);
    out->retry.fire = retry;
    out->sweep.fire = sweep;
    loop_timer_set(loop, &out->sweep, loop->now_us + COPY_ASK_MS * 1000ull);
    return NULL;
}
