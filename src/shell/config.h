/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The configuration: one INI file that describes both controllers, read into one plain struct.
 * Reading it asks no name server and opens nothing that it names. A struct that was accepted has
 * passed every check that needs no more than the text; a file with mistakes yields all of them,
 * each with its line and what would be right, and no configuration. The secret is never part of a
 * message. */

#ifndef SHELL_CONFIG_H
#define SHELL_CONFIG_H

#include "base/check.h"
#include "base/limits.h"
#include "volume/volume.h"

enum {
    CONTROLLER_COUNT = 2, /* 0 = a, 1 = b, everywhere */

    CONFIG_FILE_BYTES = 1 << 20, /* a larger file is refused unread */
    CONFIG_LINE_SIZE = 4096,     /* bytes of one line with its end */
    CONFIG_PATH_SIZE = 1024,     /* bytes of a path with the closing NUL */
    CONFIG_ERROR_LIMIT = 64,     /* mistakes kept; more are only counted */
    CONFIG_ERROR_SIZE = 640,

    CONFIG_CACHE_MIN = 1 << 20,
    CONFIG_DIRTY_PERCENT = 90, /* the highest dirty_high; array_config_check() refuses more */

    CONFIG_NAME_SIZE = VOLUME_NAME_SIZE, /* names of the array and the stores: as a volume's */
    CONFIG_SECRET_SIZE = 129,
    CONFIG_SECRET_MIN = 12, /* RFC 7143 section 12.1.3: a CHAP secret has at least 96 random bits */
    CONFIG_RUN_SIZE =
        96, /* a run directory with "/control" fits a UNIX socket address (108 bytes) */
    CONFIG_NBD_LIMIT = 8,   /* addresses that one controller's NBD server listens at */
    CONFIG_ISCSI_LIMIT = 8, /* and its iSCSI portals */

    CONFIG_HOST_LIMIT = 256,     /* [host] sections: one a host, or one a cluster of hosts */
    CONFIG_INITIATOR_LIMIT = 16, /* initiator names of one; a line of the file holds no more */
    CONFIG_INITIATOR_SIZE = 224, /* an iSCSI name is at most 223 bytes (RFC 7143 4.2.7.1) */
    CONFIG_LUN_LIMIT = 256,      /* LUNs 0 to 255: peripheral addressing (SAM-5 4.7.7.2), which
                                    every host's system knows */
    CONFIG_GROUP_MEMORY_LEAST = 1 << 20,
    CONFIG_BANDWIDTH_LEAST = 64 << 10,
    CONFIG_SET_LIMIT = 4, /* primary arrays of one set */
    CONFIG_HOLD_MS = 50,

    CONFIG_BLOCK_LEAST = SECTOR_SIZE,
    CONFIG_BLOCK_MOST = PAGE_SIZE_BYTES,

    ADDRESS_HOST_SIZE = 64,  /* a numeric address with a scope: fe80::1%eth0 */
    ADDRESS_PATH_SIZE = 108, /* sun_path */
    ADDRESS_TEXT_SIZE = 128,
};

/* The iSCSI name of the array's target, before the array's name. */
#define CONFIG_TARGET_PREFIX "iqn.2026-11.holdfast:"

#define CONFIG_CACHE_MAX ((uint64_t)1 << 40) /* slot numbers stay far below NO_INDEX */

enum address_kind {
    ADDRESS_NONE, /* not set */
    ADDRESS_IP,   /* host and port; host is a numeric IPv4 or IPv6 address without brackets */
    ADDRESS_UNIX, /* path */
};

/* Where to listen or connect. The shell makes a sockaddr of it with getaddrinfo(AI_NUMERICHOST). */
struct address {
    enum address_kind kind;
    uint16_t port;
    char host[ADDRESS_HOST_SIZE];
    char path[ADDRESS_PATH_SIZE];
    char text[ADDRESS_TEXT_SIZE]; /* as written: for log lines */
};

enum config_io {
    CONFIG_IO_AUTO, /* direct where the store can, else buffered */
    CONFIG_IO_DIRECT,
    CONFIG_IO_BUFFERED,
};

struct config_controller {
    struct address link;   /* iSCSI: the peer connects here */
    struct address warden; /* the parent process: the peer's parent connects here */
    uint32_t nbd_count;    /* at least 1 */
    struct address nbd[CONFIG_NBD_LIMIT];
    uint32_t iscsi_count;                     /* 0: no iSCSI server */
    struct address iscsi[CONFIG_ISCSI_LIMIT]; /* portals: ADDRESS_IP, and none of them is "any" */
    struct address copy;       /* iSCSI: another array's controllers connect here; ADDRESS_NONE: it
                                  takes no copies */
    char run[CONFIG_RUN_SIZE]; /* directory of the control socket and the lock file */
    int cpu;                   /* pin to this processor; -1: do not pin */
    uint32_t poll_us;          /* look so long for the next event before sleeping; 0: never */
    uint32_t request_limit;    /* host requests in the core at a time */
};

struct config_store {
    char name[CONFIG_NAME_SIZE];
    char path[CONFIG_PATH_SIZE];
    enum config_io io;
};

/* What a SCSI host hears while no controller serves a volume for a moment (SPC-4 5.15.2.7). */
enum config_transition {
    CONFIG_TRANSITION_WAIT,          /* nothing: its commands wait */
    CONFIG_TRANSITION_BUSY,          /* status BUSY */
    CONFIG_TRANSITION_TRANSITIONING, /* NOT READY, ASYMMETRIC ACCESS STATE TRANSITION */
};

/* What SCSI hosts see of a volume beyond struct volume_config. */
struct config_scsi {
    uint32_t block_size_bytes; /* logical block: 512 or 4096 */
    enum config_transition transition;
};

struct config_lun {
    uint16_t lun;
    uint8_t volume;
    bool read_only;
};

/* Who may come in over iSCSI, how it proves who it is, and what it sees. */
struct config_host {
    char name[CONFIG_NAME_SIZE];
    uint32_t initiator_count; /* at least 1 */
    char initiators[CONFIG_INITIATOR_LIMIT][CONFIG_INITIATOR_SIZE];
    char chap_user[CONFIG_INITIATOR_SIZE], chap_secret[CONFIG_SECRET_SIZE]; /* empty: no CHAP */
    char mutual_user[CONFIG_INITIATOR_SIZE],
        mutual_secret[CONFIG_SECRET_SIZE]; /* by which we prove who we are */
    uint32_t lun_count;                    /* at least 1 */
    struct config_lun luns[CONFIG_LUN_LIMIT];
};

/* One volume of a group and the other array's volume that holds the same. */
struct config_copy {
    uint8_t volume;
    char remote[CONFIG_NAME_SIZE];
};

/* One primary array of a set. The first of them coordinates, and needs the others' addresses. */
struct config_set_array {
    char name[CONFIG_NAME_SIZE];
    uint32_t address_count;
    struct address addresses[CONTROLLER_COUNT]; /* [controller] copy, there */
};

/* Volumes that are copied to, or from, another array as one (docs/remote-copy.md). Their order is
 * their place in the group, the same at both arrays. */
struct config_group {
    char name[CONFIG_NAME_SIZE];
    bool receives;                /* this array holds the copy */
    char array[CONFIG_NAME_SIZE]; /* the other array's name */
    uint32_t address_count;       /* where its controllers take copies; at least 1 when we send */
    struct address addresses[CONTROLLER_COUNT];
    char secret[CONFIG_SECRET_SIZE];
    uint32_t volume_count; /* at least 1 */
    struct config_copy volumes[VOLUME_LIMIT];
    uint32_t cycle_ms;              /* the shortest */
    uint64_t memory_bytes;          /* 0: a thirty-second of the cache */
    uint64_t bandwidth_bytes;       /* a second, of each controller; 0: no limit */
    char tls_psk[CONFIG_PATH_SIZE]; /* this one, or the three below, or none: no TLS */
    char tls_certificate[CONFIG_PATH_SIZE], tls_key[CONFIG_PATH_SIZE],
        tls_authority[CONFIG_PATH_SIZE];
    bool expose;                /* the copy can be read while it is one */
    bool zstd;                  /* what this array sends is compressed */
    char set[CONFIG_NAME_SIZE]; /* groups of several arrays that are cut together; empty: none */
    uint32_t set_count;         /* at least 2 then */
    struct config_set_array set_arrays[CONFIG_SET_LIMIT]; /* in the same order everywhere */
    uint32_t hold_ms; /* the longest that a cut may hold completions back */
};

/* Large (some 2 MiB): make it static or take it from the heap. */
struct config {
    char name[CONFIG_NAME_SIZE];
    char secret[CONFIG_SECRET_SIZE]; /* empty: the link is not authenticated */
    char register_path[CONFIG_PATH_SIZE];
    uint64_t cache_bytes; /* a multiple of PAGE_SIZE_BYTES */
    uint32_t lease_ms;
    uint32_t settle_ms;
    bool auto_giveback;
    uint8_t dirty_low_percent;
    uint8_t dirty_high_percent;
    uint32_t destage_after_ms;

    struct config_controller controllers[CONTROLLER_COUNT];

    uint32_t store_count;
    struct config_store stores[STORE_LIMIT];
    uint32_t volume_count;
    struct volume_config volumes[VOLUME_LIMIT];
    struct config_scsi scsi[VOLUME_LIMIT]; /* of the volumes, in their order */
    uint32_t host_count; /* 0: whoever comes from a loopback address sees every volume */
    struct config_host hosts[CONFIG_HOST_LIMIT];
    uint32_t group_count; /* 0: nothing is copied to or from another array */
    struct config_group groups[GROUP_LIMIT];
};

/* All mistakes of one file, in the order of its lines. Each text is ready to print, without a
 * newline: "FILE:LINE: [section] key = value: what is wrong; what would be right". */
struct config_errors {
    uint32_t count;                    /* kept in text[] */
    uint32_t total;                    /* found */
    uint32_t line[CONFIG_ERROR_LIMIT]; /* 0: the file as a whole */
    char text[CONFIG_ERROR_LIMIT][CONFIG_ERROR_SIZE];
};

/* Reads and checks the file at `path`. Returns false when there is any mistake; *config is then not
 * to be used. */
MUST_CHECK bool config_load(const char *path, struct config *config, struct config_errors *errors);

/* The same over bytes in memory; `file` is only the name for messages. No I/O. */
MUST_CHECK bool config_parse(const char *file, const char *bytes, size_t length,
                             struct config *config, struct config_errors *errors);

/* Whether the file holds any secret and everybody on the machine may read it. */
bool config_secret_shows(const char *path, const struct config *config);

/* "127.0.0.1:3260", "[::1]:3260" or "unix:/path". Host names are refused: nothing here asks a name
 * server. Returns false with a sentence in `why`. */
MUST_CHECK bool address_parse(const char *text, struct address *address, char why[TRACE_LINE]);

/* 0 for "a", 1 for "b", -1 for anything else; and the way back. */
int controller_by_name(const char *name);
const char *controller_name(int controller);

/* The UNIX socket of `holdfast status` and its kin: RUN/control. */
void config_control_path(const struct config *config, int controller, char path[ADDRESS_PATH_SIZE]);

/* The host of an initiator's name, or NULL. iSCSI names do not depend on case (RFC 7143 4.2.7.2).
 */
const struct config_host *config_host_of(const struct config *config, const char *initiator);

/* The group that a volume is in, or NULL. */
const struct config_group *config_group_of(const struct config *config, uint32_t volume);

/* The memory of a group, also when the file leaves it out. */
uint64_t config_group_memory(const struct config *config, const struct config_group *group);

/* What of `here` and `there`, the configurations of two arrays, does not fit the other: groups that
 * only one of them has, roles, volumes, sizes, secrets. Both were accepted. Reports against `here`,
 * and returns whether all of it fits. No I/O. */
MUST_CHECK bool config_compare(const struct config *here, const char *here_file,
                               const struct config *there, const char *there_file,
                               struct config_errors *errors);

/* Whether the two have anything to be compared: a group, or a set. */
bool config_related(const struct config *here, const struct config *there);

/* The place of an array of that name in the group's set, or -1; and of the group's primary. */
int config_set_place(const struct config_group *group, const char *array);
int config_set_place_of(const struct config *config, const struct config_group *group);

/* The index of the volume of that name, or -1. */
int config_volume_by_name(const struct config *config, const char *name);

#endif
