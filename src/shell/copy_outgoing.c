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

static struct copy_outgoing *of(struct array_session *session)
{
    return (struct copy_outgoing *)((char *)session - offsetof(struct copy_outgoing, session));
}

/* ---- what the second array says ---- */

static void ask_layout(struct copy_outgoing *out)
{
    struct iscsi_ship_command command = {.in = out->layout, .in_bytes = COPY_LAYOUT_BYTES};
    copy_cdb_layout(command.cdb);
    iscsi_ship_command(&out->session.ship, LAYOUT_TAG, &command);
}

/* The group's identity is another one there: the session ends, and the sentence says why. */
static void on_layout(struct copy_outgoing *out, const struct iscsi_ship_done *done)
{
    char why[TRACE_LINE];
    bool good = done->status == COPY_STATUS_GOOD;
    copy_layout_compare(out->layout, good ? done->received_bytes : 0, out->config, out->group, why);
    array_session_lose(&out->session, why);
}

static enum array_session_verdict judge(struct array_session *session,
                                        const struct iscsi_ship_done *done, const char **why)
{
    struct copy_outgoing *out = of(session);
    struct copy_state state;
    *why = done->status == COPY_STATUS_GOOD
               ? record_get_state(session->answer, done->received_bytes, &state)
               : "the second array does not tell the group's state";
    if (*why)
        return ARRAY_SESSION_WRONG;
    if (memcmp(state.group, out->id, COPY_ID_SIZE) != 0) {
        ask_layout(out);
        return ARRAY_SESSION_ANOTHER;
    }
    out->counts.state = state;
    return state.flags & COPY_STATE_HERE ? ARRAY_SESSION_HERE : ARRAY_SESSION_ELSEWHERE;
}

static void on_up(struct array_session *session)
{
    struct copy_outgoing *out = of(session);
    out->counts.zstd = out->press && out->counts.state.flags & COPY_STATE_ZSTD;
    if (out->press && !out->counts.zstd)
        log_say(LOG_WARNING, "copy: group %s: the other array does not know zstd; sends as it is",
                out->group->name);
    out->user->up(out->context, &out->counts.state);
}

static void on_again(struct array_session *session)
{
    struct copy_outgoing *out = of(session);
    out->user->state(out->context, &out->counts.state);
}

static void on_answered(struct array_session *session, const struct iscsi_ship_done *done)
{
    struct copy_outgoing *out = of(session);
    if (done->itt == LAYOUT_TAG) {
        on_layout(out, done);
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

/* The batches are given back when the press reads none of them any more. */
static bool on_drop(struct array_session *session)
{
    struct copy_outgoing *out = of(session);
    return !out->press || copy_press_drop(out->press);
}

static void emptied(void *context)
{
    struct copy_outgoing *out = context;
    array_session_emptied(&out->session);
}

static void on_over(struct array_session *session, bool was_up)
{
    struct copy_outgoing *out = of(session);
    out->sent_before = out->counts.sent_bytes;
    memset(out->numbers, 0, sizeof out->numbers);
    out->counts.in_flight = 0;
    out->counts.zstd = false;
    if (was_up)
        out->user->down(out->context);
}

static const struct array_session_kind kind = {
    .retry_least_ms = COPY_RETRY_LEAST_MS,
    .retry_most_ms = COPY_RETRY_MOST_MS,
    .login_ms = COPY_LOGIN_MS,
    .ask_ms = COPY_ASK_MS,
    .silent_ms = COPY_SILENT_MS,
    .state_tag = STATE_TAG,
    .state_bytes = COPY_STATE_SIZE,
    .ended = "the second array ended the session",
    .silent = "the second array does not answer",
    .elsewhere = "the other controller of the second array holds the group",
    .unwanted = "the group is not sent from here any more",
    .state_cdb = copy_cdb_state,
    .judge = judge,
    .up = on_up,
    .again = on_again,
    .answered = on_answered,
    .drop = on_drop,
    .over = on_over,
};

/* ---- its owner ---- */

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
    iscsi_ship_command(&out->session.ship, tag, &command);
}

static void pressed(void *context, uint32_t tag, const uint8_t *bytes, uint32_t packed_bytes)
{
    struct copy_outgoing *out = context;
    if (array_session_is_ready(
            &out->session)) /* else the session is ending, and its batches with it */
        issue(out, tag, bytes, packed_bytes);
}

static const struct copy_press_user press_user = {.pressed = pressed, .emptied = emptied};

void copy_outgoing_send(struct copy_outgoing *out, uint64_t number, const struct iovec *iov,
                        uint32_t iov_count, uint32_t length_bytes)
{
    uint32_t tag = 0;
    CHECK(out->session.counts.up);
    CHECK(number != 0);
    CHECK(iov_count > 0);
    CHECK(length_bytes <= COPY_BATCH_BYTES);
    if (!array_session_is_ready(&out->session))
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

void copy_outgoing_flush(struct copy_outgoing *out)
{
    array_session_flush(&out->session);
    out->counts.sent_bytes = out->sent_before + out->session.stream.sent_bytes;
}

const char *copy_outgoing_start(struct copy_outgoing *out, struct loop *loop,
                                const struct config *config, const struct config_group *group,
                                int self, const struct copy_outgoing_user *user, void *context,
                                char why[TRACE_LINE])
{
    memset(out, 0, sizeof *out);
    struct array_session *session = &out->session;
    out->config = config;
    out->group = group;
    out->user = user;
    out->context = context;
    session->crypto = crypto_of_library();
    if (!copy_names_make(&session->names, &session->crypto, config, group, false, self) ||
        !copy_identity(out->id, &session->crypto, config, group))
        return "the cryptographic library has no SHA-256";
    const char *wrong = copy_tls(&session->tls, group, group->array, why);
    if (wrong)
        return wrong;
    if (group->zstd) {
        out->press = calloc(1, sizeof *out->press);
        wrong = out->press ? copy_press_start(out->press, loop, &press_user, out) : "no memory";
        if (wrong)
            return wrong;
    }
    session->addresses = group->addresses;
    session->address_count = group->address_count;
    session->rate_bytes = group->bandwidth_bytes;
    snprintf(session->what, sizeof session->what, "group %s", group->name);
    array_session_start(session, loop, &kind);
    return NULL;
}
