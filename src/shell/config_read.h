/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What the two halves of reading a configuration share: config.c takes the file apart into sections
 * and keys, config_check.c judges what only the whole can show. Both report to the same list of
 * mistakes. */

#ifndef SHELL_CONFIG_READ_H
#define SHELL_CONFIG_READ_H

#include "shell/config.h"

enum section_kind {
    SECTION_ARRAY,
    SECTION_CONTROLLER,
    SECTION_STORE,
    SECTION_VOLUME,
    SECTION_HOST,
    SECTION_GROUP,
    SECTION_KINDS
};

enum {
    SECTION_LIMIT =
        1 + CONTROLLER_COUNT + STORE_LIMIT + VOLUME_LIMIT + CONFIG_HOST_LIMIT + GROUP_LIMIT,
    KEY_LIMIT = 17, /* keys of one kind of section */
    KEY_TEXT = 128, /* bytes of a value kept for a later message */
};

/* A section that the file has: where it stands, and where its keys do. */
struct section {
    enum section_kind kind;
    uint32_t index; /* of the controller, store, volume or host */
    uint32_t line;
    char title[CONFIG_NAME_SIZE + 16]; /* "volume vol0" */
    uint32_t key_line[KEY_LIMIT];      /* 0: the key is not there */
    bool key_good[KEY_LIMIT];          /* its value was legal */
    char key_text[KEY_LIMIT][KEY_TEXT];
};

struct config_read {
    const char *file;
    struct config *config;
    struct config_errors *errors;
    uint32_t section_count;
    struct section sections[SECTION_LIMIT];
    char volume_store[VOLUME_LIMIT][CONFIG_NAME_SIZE];      /* resolved when all stores are known */
    char host_volumes[CONFIG_HOST_LIMIT][CONFIG_LINE_SIZE]; /* and these when all volumes are */
    char group_volumes[GROUP_LIMIT][CONFIG_LINE_SIZE];
};

/* The keys whose place config_check.c names; config.c's tables are in this order. */
enum {
    ARRAY_NAME,
    ARRAY_SECRET,
    ARRAY_REGISTER,
    ARRAY_CACHE,
    ARRAY_LEASE,
    ARRAY_SETTLE,
    ARRAY_GIVEBACK,
    ARRAY_DIRTY_LOW,
    ARRAY_DIRTY_HIGH,
    ARRAY_DESTAGE_AFTER,
    ARRAY_KEYS
};
enum {
    CONTROLLER_LINK,
    CONTROLLER_WARDEN,
    CONTROLLER_NBD,
    CONTROLLER_ISCSI,
    CONTROLLER_COPY,
    CONTROLLER_RUN,
    CONTROLLER_CPU,
    CONTROLLER_REQUESTS,
    CONTROLLER_POLL,
    CONTROLLER_KEYS
};
enum { STORE_PATH, STORE_IO, STORE_KEYS };
enum {
    VOLUME_STORE,
    VOLUME_OFFSET,
    VOLUME_SIZE,
    VOLUME_OWNER,
    VOLUME_FLUSH,
    VOLUME_BLOCK,
    VOLUME_TRANSITION,
    VOLUME_KEYS
};
enum {
    HOST_INITIATOR,
    HOST_CHAP_USER,
    HOST_CHAP_SECRET,
    HOST_MUTUAL_USER,
    HOST_MUTUAL_SECRET,
    HOST_VOLUMES,
    HOST_KEYS
};

enum {
    GROUP_ROLE,
    GROUP_ARRAY,
    GROUP_ADDRESS,
    GROUP_SECRET,
    GROUP_VOLUMES,
    GROUP_CYCLE,
    GROUP_MEMORY,
    GROUP_BANDWIDTH,
    GROUP_TLS_PSK,
    GROUP_TLS_CERTIFICATE,
    GROUP_TLS_KEY,
    GROUP_TLS_AUTHORITY,
    GROUP_EXPOSE,
    GROUP_COMPRESSION,
    GROUP_SET,
    GROUP_SET_ARRAYS,
    GROUP_HOLD,
    GROUP_KEYS
};

/* Takes the value of one key; false with a sentence. */
typedef bool key_setter(struct config_read *read, uint32_t index, const char *text,
                        char why[TRACE_LINE]);

struct key {
    const char *name;
    key_setter *set;
    bool required;
    bool hidden; /* never quoted in a message */
};

/* What each kind of section is called and which keys it takes (config_keys.c). */
struct section_type {
    const char *word;
    const struct key *keys;
    uint32_t key_count;
};
extern const struct section_type config_section_types[SECTION_KINDS];

/* One mistake. `section` and `key` may be NULL; `value` NULL: not quoted. The lines of errors end
 * up sorted. */
void config_report(struct config_read *read, uint32_t line, const char *section, const char *key,
                   const char *value, const char *format, ...)
    __attribute__((format(printf, 6, 7)));

/* The section of that kind and index, or NULL. */
const struct section *config_section(const struct config_read *read, enum section_kind kind,
                                     uint32_t index);

/* Everything that needs more than one key to judge. */
void config_check(struct config_read *read);

/* ---- between config_check.c, config_group.c and config_set.c ---- */

/* Whether the section is there and that key of it was read without a mistake. */
bool config_has(const struct section *section, uint32_t key);
/* Whatever concerns the groups (config_group.c); the volumes are known. */
void config_check_groups(struct config_read *read);
/* Of them, what ties groups of several arrays together (config_set.c). */
void config_check_set(struct config_read *read, uint32_t group);
/* What of the sets that both arrays know does not fit; how many there are. */
uint32_t config_compare_sets(struct config_read *read, const struct config *there,
                             const char *there_file);
/* A mistake in a key of a group. */
void config_report_key(struct config_read *read, const struct section *section, uint32_t key,
                       const char *message);
/* Whether a name can stand in an iSCSI name, which takes fewer characters (RFC 7143 4.2.7.2). */
bool config_stands_in_a_name(const char *name);

#endif
