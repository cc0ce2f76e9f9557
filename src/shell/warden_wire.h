/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What a controller and its peer's parent process say to each other, as lines of text:
 *
 *     controller                              parent
 *     HOLDFAST-WARDEN 1 NAME CONTROLLER NONCE
 *                                             HOLDFAST-WARDEN 1 NAME CONTROLLER NONCE
 *     WATCH
 *                                             ALIVE INCARNATION
 *     PING NUMBER
 *                                             PONG NUMBER
 *     FENCE INCARNATION
 *                                             GONE INCARNATION
 *     SEEN INCARNATION
 *
 * NAME is the array's, CONTROLLER the one that is watched, a nonce 32 random hexadecimal digits, an
 * incarnation 16. With a secret every line after the first two ends in " MAC": HMAC-SHA256 of the
 * direction, both nonces, the line's number and its text, so a line can be neither forged, nor
 * repeated, nor taken from another connection. */

#ifndef SHELL_WARDEN_WIRE_H
#define SHELL_WARDEN_WIRE_H

#include "shell/config.h"

enum {
    WARDEN_LINE_BYTES = 256, /* a longer one ends the connection */
    WARDEN_NONCE_SIZE = 33,  /* 32 digits and a NUL */
};

enum warden_word {
    WARDEN_HEAD,
    WARDEN_WATCH,
    WARDEN_ALIVE,
    WARDEN_PING,
    WARDEN_PONG,
    WARDEN_FENCE,
    WARDEN_GONE,
    WARDEN_SEEN,
    WARDEN_WORD_COUNT
};

struct warden_line {
    enum warden_word word;
    uint64_t number; /* incarnation or count */
};

/* One end of one connection. */
struct warden_wire {
    const char *array_name; /* borrowed, as the secret */
    const char *secret;     /* empty: none */
    int controller;         /* the one that is watched */
    bool parent;            /* which end this is */
    bool greeted;           /* the other end's first line was good */
    char own_nonce[WARDEN_NONCE_SIZE], peer_nonce[WARDEN_NONCE_SIZE];
    uint64_t lines_out, lines_in; /* after the first */
    uint32_t used;                /* bytes in `in` */
    char in[WARDEN_LINE_BYTES];
};

/* False: no random bytes. */
bool warden_wire_start(struct warden_wire *wire, const char *array_name, const char *secret,
                       int controller, bool parent);

/* One line to send, with its newline; returns its length. WARDEN_HEAD first. */
uint32_t warden_wire_put(struct warden_wire *wire, enum warden_word word, uint64_t number,
                         char line[WARDEN_LINE_BYTES]);

/* Where to receive, and how many bytes at most. */
char *warden_wire_place(struct warden_wire *wire, uint32_t *room);
void warden_wire_received(struct warden_wire *wire, uint32_t count);

/* The next whole line: 1 = it is in *line, 0 = there is none, -1 = the other end is not ours (`why`
 * says so). */
int warden_wire_next(struct warden_wire *wire, struct warden_line *line, const char **why);

#endif
