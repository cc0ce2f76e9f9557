/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A run written down: the drawn world, and every request of a host, fault and act of the operator,
 * with its time. Played again it is the same run; with lines left out, one in which these things
 * did not happen and everything else meets the same chances (see throw_dice() in world.c). As text
 * it is a story that no change of the drawing of seeds can change:
 *
 *     seed 7                                      of the dice only
 *     end 1200000                                 when the faults stop
 *     set slots 64                                what was drawn, number by number
 *     at 5000 host 0 slot 3 write volume 1 offset 4096 length 512 flags 0 to a
 *     at 7000 fault crash who 0
 *     at 7100 hold a                              it is stopped between deciding and doing
 *     at 9000 accept b                            the operator accepts a loss
 *     at 9100 second fault crash who 1            at the second array
 *
 * It keeps no state of the run itself and decides nothing. */

#ifndef SIM_LISTING_H
#define SIM_LISTING_H

#include "volume/volume.h"

#include <stdbool.h>
#include <stdio.h>

struct world;

enum listing_kind { LISTING_HOST, LISTING_FAULT, LISTING_HOLD, LISTING_ACCEPT, LISTING_LEAVE };

struct listing_line {
    uint64_t at_us;
    enum listing_kind kind;
    uint8_t what; /* FAULT: of which kind */
    uint8_t who;  /* the controller; HOST: whom it asks */
    uint32_t host, slot;
    bool outside;  /* HOST: beyond the end of the volume, on purpose */
    uint8_t array; /* at which */
    struct host_request request;
};

enum { LISTING_NAME = 40 };

/* A field that a seed draws, by its name. */
typedef void each_setting(void *context, const char *name, void *field, size_t size);

struct listing_setting {
    char name[LISTING_NAME];
    uint64_t value;
};

struct listing {
    uint64_t seed;
    uint64_t end_us;
    struct listing_setting *settings;
    uint32_t setting_count;
    struct listing_line *lines;
    uint32_t line_count, line_room;
};

void listing_free(struct listing *listing);
/* `to` is overwritten. */
void listing_copy(struct listing *to, const struct listing *from);

void listing_add(struct listing *listing, const struct listing_line *line);

/* What was drawn for the world, by name. */
void listing_take_settings(struct listing *listing, struct world *world);
/* The other way. A name that the world does not know is passed over. */
void listing_give_settings(const struct listing *listing, struct world *world);
/* The value of one; NULL: there is none of this name. */
uint64_t *listing_setting(struct listing *listing, const char *name);

void listing_print(const struct listing *listing, FILE *to);
/* NULL, or a sentence saying what is wrong with the file. */
const char *listing_read(struct listing *listing, const char *path);

#endif
