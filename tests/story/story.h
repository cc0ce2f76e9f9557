/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Two cores, driven by a script: each line of a test lets one thing happen (a host's request, a
 * message that arrives, a store operation that ends), and says which trace it expects. The trace is
 * an interface; it is changed on purpose, never by accident.
 *
 * One line of the trace is `a: what`, where what is a line that the core logs, or an action:
 *
 *     store write 0+4096 | store read 0+4096 | store flush | store zero ... | store trim ...
 *     register read | register swap 1/a/clean to 2/ab/unclean
 *     reply good | reply refused | send batch 4224 | send hello | reset link | fence peer
 *     done 7 ok | done 7 not-owner | operator done: text | stopped
 *
 * Nothing happens by itself, and time passes only where a test says so, except in story_settle().
 */

#ifndef STORY_STORY_H
#define STORY_STORY_H

#include "array/array.h"

enum { A = 0, B = 1, STORY_SLOTS = 64, STORY_PAGES = 256 };

struct story;

/* One volume "v" of STORY_PAGES pages, home a, on one store of 4 KiB blocks that can zero. Both
 * controllers start, and become paired; what led there is not part of the trace. */
struct story *story_begin(void);

/* The same, but nothing has happened yet: neither controller has started. */
struct story *story_begin_cold(void);

/* Every expected line must have been seen. */
void story_end(struct story *story);

/* ---- what happens; each is followed by a pump of that controller ---- */

void story_start(struct story *story, int who);
void story_crash(struct story *story, int who);

/* A host's requests. A page's data is one byte repeated. */
void story_write(struct story *story, int who, uint64_t handle, uint64_t page, uint8_t byte);
void story_read(struct story *story, int who, uint64_t handle, uint64_t page);
void story_flush(struct story *story, int who, uint64_t handle);
void story_trim(struct story *story, int who, uint64_t handle, uint64_t page, uint64_t count);
/* From a byte to a byte. */
void story_zero(struct story *story, int who, uint64_t handle, uint64_t from, uint64_t to);

/* What the last READ that completed found: its byte, or -1 when the page held more than one. */
int story_found(const struct story *story, uint64_t handle);

/* The message that `from` sent arrives whole; its answer stays on the way until story_answer(). */
void story_deliver(struct story *story, int from);
/* The answer reaches `from`. */
void story_answer(struct story *story, int from);
/* Both. */
void story_carry(struct story *story, int from);

/* The session of `who` breaks; what was on the way is lost, or was delivered before. */
void story_link_down(struct story *story, int who);
void story_link_up(struct story *story, int who);

/* The oldest store operation of `who` ends. */
void story_store(struct story *story, int who, enum store_result result);
/* All of them, and those that follow, end well. */
void story_stores(struct story *story, int who);

/* The register answers: as it should, or not at all (and the swap has not happened). */
void story_register(struct story *story, int who);
void story_register_silent(struct story *story, int who);
/* It holds this now, by a swap of one that is gone. */
void story_register_holds(struct story *story, uint64_t epoch, uint8_t in, bool unclean);
/* story_settle() leaves its questions alone. */
void story_register_hold(struct story *story, bool hold);

void story_gone(struct story *story, int who); /* `who` hears that the other is gone */
void story_warden(struct story *story, int who, bool answers);
void story_move(struct story *story, int who, int to);
void story_accept_loss(struct story *story, int who, bool peer_is_dead);
void story_stop(struct story *story, int who);

/* Time passes; both are pumped (one that stands still is not). */
void story_wait(struct story *story, uint32_t ms);
/* `who` is not pumped and hears nothing until it is woken. */
void story_pause(struct story *story, int who);
void story_wake(struct story *story, int who);

/* Everything that is under way goes on until nothing is: messages, answers, store operations, the
 * register, logins; for at most `ms` of time. None of it is part of the trace. */
void story_settle(struct story *story, uint32_t ms);

/* ---- what must have happened ---- */

/* The trace since the last time, compared with the text; lines of the core's log only where
 * `story_log` is on. */
void story_expect(struct story *story, const char *text);

/* Forget the trace since the last time. */
void story_skip(struct story *story);

/* Leave out (or keep) the core's LOG_TRACE lines. On at the beginning. */
void story_log(struct story *story, bool on);

enum role story_role(struct story *story, int who);
int story_owner(struct story *story, int who);
struct array_status *story_status(struct story *story, int who);

/* What the store holds in a page: its byte, or -1. */
int story_stored(const struct story *story, uint64_t page);

#endif
