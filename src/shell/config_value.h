/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The values of the configuration, one parser for each kind. Each takes the text between "=" and
 * the end of its line, writes the value only when it is legal, and else leaves a sentence in `why`
 * that says what is wrong and what would be right. None of them opens, resolves or allocates
 * anything. */

#ifndef SHELL_CONFIG_VALUE_H
#define SHELL_CONFIG_VALUE_H

#include "shell/config.h"

#include <stdarg.h>

/* Always false, so that a parser can end with it. */
bool value_refuse(char why[TRACE_LINE], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* 1 to 63 of A-Z a-z 0-9 . _ - */
bool value_name(const char *text, char name[CONFIG_NAME_SIZE], char why[TRACE_LINE]);

/* Digits, then perhaps K, M, G or T: powers of 1024. */
bool value_size(const char *text, uint64_t *bytes, char why[TRACE_LINE]);

/* Digits and "ms" or "s", between the two bounds. */
bool value_time(const char *text, uint32_t *ms, uint32_t low_ms, uint32_t high_ms,
                char why[TRACE_LINE]);

/* Digits, perhaps "%": 1 to `high`. */
bool value_percent(const char *text, uint8_t *percent, uint32_t high, char why[TRACE_LINE]);

/* A decimal number between the two bounds. */
bool value_microseconds(const char *text, uint32_t *us, uint32_t high_us, char why[TRACE_LINE]);
bool value_number(const char *text, uint32_t *number, uint32_t low, uint32_t high,
                  char why[TRACE_LINE]);

/* An absolute path of fewer than `size` bytes. */
bool value_path(const char *text, char *path, size_t size, char why[TRACE_LINE]);

/* The index of `text` in `words`, which NULL ends; -1 with a sentence when it is none of them. */
int value_word(const char *text, const char *const *words, char why[TRACE_LINE]);

/* The items of a list with commas between them. */
struct value_list {
    const char *at;
    uint32_t index; /* of the next item */
};
/* The next item into `item`, without the blanks around it. 1: there is one; 0: there are no more;
 * -1 with a sentence. `what` names the items. */
int value_list_next(struct value_list *list, char *item, size_t size, uint32_t limit,
                    const char *what, char why[TRACE_LINE]);

/* An iSCSI name (RFC 7143 4.2.7): iqn., eui. or naa., lower case. */
bool value_iscsi_name(const char *text, char name[CONFIG_INITIATOR_SIZE], char why[TRACE_LINE]);

/* A CHAP name: 1 to 223 printable ASCII characters without blanks. */
bool value_user(const char *text, char user[CONFIG_INITIATOR_SIZE], char why[TRACE_LINE]);

/* NAME[@LUN][:ro]: the name, the LUN or -1, and whether it is read-only. */
bool value_lun(const char *text, char name[CONFIG_NAME_SIZE], int *lun, bool *read_only,
               char why[TRACE_LINE]);

/* 12 to 128 printable ASCII characters. The sentence never quotes it. */
bool value_secret(const char *text, char secret[CONFIG_SECRET_SIZE], char why[TRACE_LINE]);

#endif
