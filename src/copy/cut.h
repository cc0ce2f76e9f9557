/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What the arrays of a set say to each other: groups of several primary arrays that are cut at one
 * moment (docs/remote-copy.md, "Several primary arrays"). The first of them coordinates. WRITE
 * BUFFER (SPC-4 6.49, mode 02h) with buffer id 6 carries one message from the coordinating
 * controller to a member, READ BUFFER (SPC-4 6.15, mode 02h) with buffer id 7 returns the member's
 * state. All integers are big-endian; reserved bytes are zero and checked.
 *
 * A message is answered GOOD when what it asks for has happened, perhaps late, or CHECK CONDITION
 * (ABORTED COMMAND) when it will not happen. */

#ifndef COPY_CUT_H
#define COPY_CUT_H

#include "base/bytes.h"
#include "base/check.h"
#include "base/limits.h"

enum { CUT_MESSAGE_SIZE = 64, CUT_STATE_SIZE = 64 };

/* What the coordinator asks. `run` names an unbroken row of cuts: the coordinator begins another
 * one after anything that broke it, with a higher number. */
enum cut_type {
    CUT_RESOLVE = 1, /* stop sending; make what your second array holds stand still. GOOD: it does,
                        and your state says what it is */
    CUT_BEGIN = 2,   /* let it promote cut `cut` if it holds that one, then begin anew. GOOD: cycles
                        run, and cuts may come */
    CUT_CLOSE = 3,   /* close your cycle, as a part of cut `cut`. GOOD: every half has closed, and
                        holds completions */
    CUT_RELEASE = 4, /* every member has closed: let completions go. GOOD: no half had let go
                        before, and your second array holds all up to this cut */
    CUT_PROMOTE = 5, /* every second array holds it. GOOD: yours has promoted it */
    CUT_WANTED = 6,  /* GOOD: something waits at your half or the other one for the next cut. Late,
                        as long as nothing does */
    CUT_TYPE_COUNT
};

struct cut_message {
    uint8_t type; /* enum cut_type */
    uint8_t set[GROUP_ID_SIZE];
    uint64_t run;
    uint64_t cut; /* BEGIN: 0: none was ever promoted; RESOLVE, WANTED: 0 */
};

enum {
    CUT_STATE_LEADER = 1, /* this controller speaks for the member; at the other one a session is of
                             no use */
    CUT_STATE_SEALED = 2, /* what its second array holds stands still */
    CUT_STATE_RUNS = 4,   /* it takes part in the run's cuts */
};

struct cut_state {
    uint8_t flags;
    uint8_t set[GROUP_ID_SIZE];
    uint64_t run;      /* that it takes part in, or is resolved for; 0: none */
    uint64_t promoted; /* newest cut that its second array has promoted; 0: none */
    uint64_t held;     /* newest cut that is held there, complete, and not promoted; 0: none */
};

void cut_put_message(uint8_t bytes[CUT_MESSAGE_SIZE], const struct cut_message *message);
void cut_put_state(uint8_t bytes[CUT_STATE_SIZE], const struct cut_state *state);

/* Foreign bytes: NULL when sound in themselves, else what is wrong with them. */
const char *cut_get_message(const uint8_t *bytes, uint32_t length, struct cut_message *message);
const char *cut_get_state(const uint8_t *bytes, uint32_t length, struct cut_state *state);

#endif
