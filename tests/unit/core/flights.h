/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Sessions of the remote copy and the batches that are on their way in them. What a batch's bytes
 * were when it was sent they must still be when it arrives, unless its session is over; and each
 * batch that has arrived has exactly one answer. When a session begins, and whether anything moves
 * in it now, is for the world that has it to say. */

#ifndef TESTS_FLIGHTS_H
#define TESTS_FLIGHTS_H

#include "copy_common.h"

enum { FLIGHTS = 4 * COPY_WINDOW };

/* A batch on its way: in its session, or left behind by it. */
struct flight {
    bool used;
    bool left;      /* its session is over */
    bool delivered; /* its answer has to come */
    bool answered, good;
    int at;                    /* delivered: which controller there */
    struct copy_action action; /* its bytes are the core's: looked at again when it arrives */
    uint8_t *bytes;
};

/* What a controller has to the other array. */
struct session {
    bool up, reset_due, down_due;
    bool changed; /* a batch was not what it had been: the next pump has to end the session */
    int at;       /* which controller of the other array */
    uint64_t asked_us;
    uint32_t batches, refused, resets; /* of all the controller's sessions */
    struct flight flight[FLIGHTS];
};

static inline void flight_over(struct flight *flight)
{
    free(flight->bytes);
    *flight = (struct flight){.used = false};
}

/* What has arrived is still to be answered, to nobody. */
static inline void session_over(struct session *session)
{
    for (int i = 0; i < FLIGHTS; i++) {
        struct flight *flight = &session->flight[i];
        flight->left = true;
        if (flight->used && (!flight->delivered || flight->answered))
            flight_over(flight);
    }
}

/* So it ends with its controller. */
static inline void session_lost(struct session *session)
{
    session_over(session);
    session->up = session->reset_due = session->down_due = session->changed = false;
}

/* A controller of the other array has ended: what it had is never answered. */
static inline void session_lost_there(struct session *session, int self)
{
    for (int i = 0; i < FLIGHTS; i++) {
        struct flight *flight = &session->flight[i];
        if (flight->used && flight->delivered && !flight->answered && flight->at == self)
            flight_over(flight);
    }
    if (session->up && session->at == self)
        session->down_due = true;
}

static inline void session_free(struct session *session)
{
    for (int i = 0; i < FLIGHTS; i++)
        flight_over(&session->flight[i]);
}

static inline void session_begins(struct session *session, int self, int at,
                                  const struct copy_state *state)
{
    session->up = true;
    session->at = at;
    session->asked_us = pair.now_us;
    array_on_copy_up(pair.side[self].array, pair.now_us, 0, state);
}

static inline void session_ends(struct session *session, int self)
{
    if (session->up)
        array_on_copy_down(pair.side[self].array, pair.now_us, 0);
    session_lost(session);
}

static inline void flatten(const struct copy_action *action, uint8_t *bytes)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < action->iov_count; at += (uint32_t)action->iov[i++].iov_len)
        memcpy(bytes + at, action->iov[i].iov_base, action->iov[i].iov_len);
    assert_int_equal(at, action->length_bytes);
}

/* What one pump of the controller sends. */
static inline void session_take(struct session *session, const struct actions *actions)
{
    for (uint32_t i = 0; i < actions->copy_count; i++) {
        const struct copy_action *action = &actions->copies[i];
        int at = 0;
        assert_true(session->up);
        while (session->flight[at].used)
            assert_true(++at < FLIGHTS);
        session->flight[at] =
            (struct flight){.used = true, .action = *action, .bytes = malloc(action->length_bytes)};
        flatten(action, session->flight[at].bytes);
        session->batches++;
    }
    if (session->changed && !(actions->copy_reset & 1))
        fail_msg("a batch has changed on its way");
    session->changed = false;
    if (!(actions->copy_reset & 1))
        return;
    session->reset_due = true;
    session->resets++;
    session_over(session); /* of what is on its way the bytes may change from here on */
}

/* True: it does not arrive, because it is not what it was. */
static inline bool flight_has_changed(struct session *session, struct flight *flight)
{
    uint8_t *now = malloc(flight->action.length_bytes);
    flatten(&flight->action, now);
    bool same = memcmp(now, flight->bytes, flight->action.length_bytes) == 0;
    free(now);
    if (same)
        return false;
    flight_over(flight);
    session->changed = true;
    return true;
}

/* At the controller that its session goes to. */
static inline void flight_arrives(const struct session *session, struct flight *flight, int which,
                                  uint64_t handle)
{
    struct pair_world *there = &pair_worlds[which];
    flight->delivered = true;
    flight->at = session->at;
    array_on_copy_message(there->side[flight->at].array, there->now_us, handle, 0, flight->bytes,
                          flight->action.length_bytes);
}

/* The controller there, which is `self` in its pair, has answered. */
static inline void flight_answered(struct flight *flight, int self, bool good)
{
    assert_true(flight->used && flight->delivered && !flight->answered);
    assert_int_equal(flight->at, self);
    flight->answered = true;
    flight->good = good;
    if (flight->left)
        flight_over(flight);
}

/* The answer comes to who sent it: controller `self` of the pair in use. */
static inline void flight_returns(struct session *session, struct flight *flight, int self,
                                  bool good)
{
    uint64_t number = flight->action.number;
    flight_over(flight);
    session->refused += !good;
    array_on_copy_answered(pair.side[self].array, pair.now_us, 0, number, good);
}

/* The same, if it is there and is let through. */
static inline bool flight_returns_now(struct session *session, struct flight *flight, int self,
                                      bool held)
{
    if (!flight->answered || flight->left || held)
        return false;
    flight_returns(session, flight, self, flight->good);
    return true;
}

#endif
