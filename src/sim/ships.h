/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What a controller sends on to the owner of a volume, and what comes back: the third kind of
 * session between the two. */

#ifndef SIM_SHIPS_H
#define SIM_SHIPS_H

#include "sim/world.h"

/* A handle of a shipped request has this bit; a host's has not. */
#define SHIPS_HANDLE (UINT64_C(1) << 63)

void ships_create(struct world *world);
void ships_destroy(struct world *world);

void ships_send(struct world *world, uint8_t from, const struct ship_action *action);
void ships_on_arrival(struct world *world, const struct event *event);
void ships_on_completion(struct world *world, uint8_t who, const struct completion *completion);
void ships_on_answer(struct world *world, const struct event *event);

/* The session is cut; its initiator hears of it within `notice_us`. */
void ships_break(struct world *world, uint8_t initiator, uint64_t notice_us);
/* The initiator itself gives the session up: it does not wait until the network says so. */
void ships_reset(struct world *world, uint8_t initiator);
void ships_on_down(struct world *world, const struct event *event);
void ships_login_later(struct world *world, uint8_t initiator, uint64_t after_us);
void ships_on_login(struct world *world, const struct event *event);

/* Whether a request that the other one has shipped runs there. */
bool ships_run_at(const struct world *world, uint8_t who);

/* A controller died. */
void ships_orphan(struct world *world, uint8_t who, bool silent);

/* A write that ended at `from` without an answer may still take effect at the owner: then its end
 * is told to the oracle when that can no longer be. False: nothing of it is under way. */
bool ships_carry(struct world *world, uint8_t from, uint64_t handle, uint64_t write_id);

/* The volume is another site's from now on: what is under way has no effect there. */
void ships_forget(struct world *world, uint8_t volume);

/* Its host has tried the write again at the owner, and was answered: from now on the first try may
 * not take effect any more. */
void ships_superseded(struct world *world, uint64_t write_id);

#endif
