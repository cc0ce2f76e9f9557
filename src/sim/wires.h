/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What connects the two controllers: a session each way, the wardens' proofs, and the register. A
 * message arrives whole or not at all, never out of order within a session, never after a new
 * login; its answer may be lost. */

#ifndef SIM_WIRES_H
#define SIM_WIRES_H

#include "sim/world.h"

void wires_create(struct world *world);
void wires_destroy(struct world *world);

void wires_send(struct world *world, uint8_t from, const struct send_action *send);
void wires_reply(struct world *world, uint8_t who, bool good);
void wires_on_message(struct world *world, const struct event *event);
void wires_on_status(struct world *world, const struct event *event);

/* One session is cut; its initiator hears of it within `notice_us`. */
void wires_break(struct world *world, uint8_t initiator, uint64_t notice_us);
void wires_on_down(struct world *world, const struct event *event);
void wires_login_later(struct world *world, uint8_t initiator, uint64_t after_us);
void wires_on_login(struct world *world, const struct event *event);
void wires_on_up(struct world *world, const struct event *event);

/* A controller died: its sessions end. `silent`: its machine says nothing to the peer. */
void wires_orphan(struct world *world, uint8_t who, bool silent);

/* Nothing gets from `from` to the other for this long. */
void wires_stall_path(struct world *world, uint8_t from, uint64_t for_us);
/* The same, and now and then it lasts long enough for the sessions to be given up. */
void wires_cut_path(struct world *world, uint8_t from, uint64_t for_us);
bool wires_path_up(const struct world *world, uint8_t from);

/* The warden of `dead` may now say that this incarnation is gone. */
void wires_prove(struct world *world, uint8_t dead, uint64_t incarnation);
void wires_on_proof(struct world *world, const struct event *event);
/* A controller's connection to its peer's warden is looked at, now and then. */
void wires_on_warden(struct world *world, const struct event *event);
void wires_fence(struct world *world, uint8_t asker);
void wires_on_fence(struct world *world, const struct event *event);

void wires_register(struct world *world, uint8_t who, const struct register_action *action);
void wires_on_register_apply(struct world *world, const struct event *event);
void wires_on_register_answer(struct world *world, const struct event *event);

#endif
