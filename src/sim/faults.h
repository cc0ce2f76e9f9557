/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What goes wrong in the simulated world, when, and for how long; and what its operator does. */

#ifndef SIM_FAULTS_H
#define SIM_FAULTS_H

#include "sim/world.h"

/* Draws the rates and plans the first of each. */
void faults_create(struct world *world);
void faults_print(const struct world *world);

void faults_on_fault(struct world *world, const struct event *event);

/* It happens now. */
void faults_happen(struct world *world, enum fault_kind kind, uint8_t who);

/* It happens soon. */
void faults_aim(struct world *world, enum fault_kind kind, uint8_t who, uint64_t after_us);

/* A controller's role has just changed: the worst moment for more. */
void faults_on_role(struct world *world, uint8_t who);

/* The operator looks at the array, now and then: accepts losses, starts again what was stopped. */
void faults_on_operator(struct world *world, const struct event *event);

void faults_on_reply(struct world *world, uint8_t who, const struct operator_reply *reply);

/* All faults end, and everything that is broken is mended. */
void faults_heal(struct world *world);

/* A controller serves alone from now on: what it has just read may not be durable. */
void faults_on_takeover(struct world *world);

/* A controller has died. */
void faults_on_death(struct world *world);

#endif
