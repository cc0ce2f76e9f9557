/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See cut_outgoing.h. Invariant: down() is said once for each up(), and nothing is answered between
 * a reset and it. Messages are small and copied, so a session that ends gives nothing back. */

#include "shell/cut_outgoing.h"

#include "shell/crypto.h"

#include <stdio.h>
#include <string.h>

enum { STATE_TAG = CUT_WINDOW };

static struct cut_outgoing *of(struct array_session *session)
{
    return (struct cut_outgoing *)((char *)session - offsetof(struct cut_outgoing, session));
}

/* ---- what the other array says ---- */

static void asked(struct array_session *session)
{
    struct cut_outgoing *out = of(session);
    out->asked_for = 0;
    for (uint32_t tag = 0; tag < CUT_WINDOW; tag++)
        out->asked_for |= out->slots[tag].good ? 1u << tag : 0;
}

static enum array_session_verdict judge(struct array_session *session,
                                        const struct iscsi_ship_done *done, const char **why)
{
    struct cut_outgoing *out = of(session);
    struct cut_state state;
    *why = done->status == COPY_STATUS_GOOD
               ? cut_get_state(session->answer, done->received_bytes, &state)
               : "it does not tell the state of its group";
    if (!*why && memcmp(state.set, out->id, GROUP_ID_SIZE) != 0)
        *why = "it has another set of this name; write the same set_arrays = in both";
    if (*why)
        return ARRAY_SESSION_WRONG;
    out->state = state;
    return state.flags & CUT_STATE_LEADER ? ARRAY_SESSION_HERE : ARRAY_SESSION_ELSEWHERE;
}

static void on_up(struct array_session *session)
{
    struct cut_outgoing *out = of(session);
    out->user->up(out->context, &out->state);
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
static void on_again(struct array_session *session)
{
    struct cut_outgoing *out = of(session);
    uint32_t asked_for = out->asked_for;
    bool more = false;
    out->user->state(out->context, &out->state);
    for (uint32_t tag = 0; tag < CUT_WINDOW; tag++) {
        if (asked_for & 1u << tag)
            answer(out, tag, true);
        more |= out->slots[tag].good;
    }
    if (more)
        array_session_ask(session);
}

static void on_answered(struct array_session *session, const struct iscsi_ship_done *done)
{
    struct cut_outgoing *out = of(session);
    CHECK(done->itt < CUT_WINDOW);
    struct cut_message_slot *slot = &out->slots[done->itt];
    bool good = done->status == COPY_STATUS_GOOD;
    slot->good = good && slot->with_state;
    if (!slot->good)
        answer(out, done->itt, good);
    else if (!session->asking)
        array_session_ask(session);
}

static void on_over(struct array_session *session, bool was_up)
{
    struct cut_outgoing *out = of(session);
    memset(out->slots, 0, sizeof out->slots);
    if (was_up)
        out->user->down(out->context);
}

static const struct array_session_kind kind = {
    .retry_least_ms = CUT_RETRY_LEAST_MS,
    .retry_most_ms = CUT_RETRY_MOST_MS,
    .login_ms = CUT_LOGIN_MS,
    .ask_ms = CUT_ASK_MS,
    .silent_ms = CUT_SILENT_MS,
    .silent_by_question = true,
    .state_tag = STATE_TAG,
    .state_bytes = CUT_STATE_SIZE,
    .ended = "it ended the session",
    .silent = "it does not answer",
    .elsewhere = "no controller there leads the group",
    .unwanted = "the set is not coordinated from here any more",
    .state_cdb = copy_cdb_cut_state,
    .asked = asked,
    .judge = judge,
    .up = on_up,
    .again = on_again,
    .answered = on_answered,
    .over = on_over,
};

/* ---- its owner ---- */

void cut_outgoing_send(struct cut_outgoing *out, uint64_t number, const uint8_t *bytes,
                       bool with_state)
{
    uint32_t tag = 0;
    CHECK(out->session.counts.up);
    CHECK(number != 0);
    if (!array_session_is_ready(&out->session))
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
    out->messages++;
    iscsi_ship_command(&out->session.ship, tag, &command);
}

const char *cut_outgoing_start(struct cut_outgoing *out, struct loop *loop,
                               const struct config *config, const struct config_group *group,
                               uint32_t place, int self, const struct cut_outgoing_user *user,
                               void *context, char why[TRACE_LINE])
{
    CHECK(place < group->set_count);
    memset(out, 0, sizeof *out);
    const struct config_set_array *array = &group->set_arrays[place];
    struct array_session *session = &out->session;
    out->user = user;
    out->context = context;
    session->crypto = crypto_of_library();
    if (!copy_names_make_cut(&session->names, &session->crypto, config->name, group, array->name,
                             self) ||
        !copy_set_identity(out->id, &session->crypto, group))
        return "the cryptographic library has no SHA-256";
    const char *wrong = copy_tls(&session->tls, group, array->name, why);
    if (wrong)
        return wrong;
    session->addresses = array->addresses;
    session->address_count = array->address_count;
    snprintf(session->what, sizeof session->what, "set %s", group->set);
    snprintf(session->where, sizeof session->where, "array %s, ", array->name);
    array_session_start(session, loop, &kind);
    return NULL;
}
