/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What both ends of a session between two arrays have to agree on before a byte is sent: names,
 * secrets and the group's identity, all from the configuration alone, and the two SCSI commands. */

#ifndef SHELL_COPY_NAMES_H
#define SHELL_COPY_NAMES_H

#include "copy/cut.h"
#include "copy/record.h"
#include "front/iscsi_chap.h"
#include "shell/config.h"
#include "shell/tls.h"

enum {
    COPY_NAME_BYTES = 224, /* an iSCSI name (RFC 7143 4.2.7.1) */
    COPY_COMMANDS = 64, /* the command window: a group's batches, and questions about its state */
    COPY_OP_WRITE_BUFFER = 0x3B, /* SPC-4 6.49 */
    COPY_OP_READ_BUFFER = 0x3C,  /* SPC-4 6.15 */
    COPY_MODE_DATA = 0x02,
    COPY_BUFFER_BATCH = 2,
    COPY_BUFFER_STATE = 3,
    COPY_BUFFER_PACKED = 4, /* a batch as in copy_zstd.h; only to who says COPY_STATE_ZSTD */
    COPY_BUFFER_LAYOUT = 5, /* the group's volumes, asked for when its identity is another one */
    COPY_BUFFER_CUT = 6,    /* of the coordinator of a set, in sessions of their own */
    COPY_BUFFER_CUT_STATE = 7,
    COPY_LAYOUT_HEAD = 16,
    COPY_LAYOUT_PLACE = 8 + 2 * CONFIG_NAME_SIZE,
    COPY_LAYOUT_BYTES = COPY_LAYOUT_HEAD + VOLUME_LIMIT * COPY_LAYOUT_PLACE, /* at most */
    COPY_STATUS_GOOD = 0x00,
    COPY_STATUS_CHECK_CONDITION = 0x02,
    COPY_STATUS_TASK_SET_FULL = 0x28,
    COPY_SENSE_BYTES = 18,
};

_Static_assert((int)COPY_COMMANDS > (int)COPY_WINDOW, "a question fits beside the batches");

/* For one group and one controller of the sending array. Which array sends may change with the
 * group's role, so each end says which way the session goes. */
struct copy_names {
    char target[COPY_NAME_BYTES];    /* iqn...:RECEIVING-ARRAY.copy */
    char initiator[COPY_NAME_BYTES]; /* iqn...:SENDING-ARRAY.a:GROUP */
    /* CHAP both ways: one configured secret becomes one for each end of each session. */
    char initiator_secret[ISCSI_CHAP_DERIVED_SIZE], target_secret[ISCSI_CHAP_DERIVED_SIZE];
};

/* `incoming`: the other array sends, and this one listens. `half`: of the sending array. False: the
 * library has no SHA-256. */
MUST_CHECK bool copy_names_make(struct copy_names *names, const struct iscsi_crypto *crypto,
                                const struct config *config, const struct config_group *group,
                                bool incoming, int half);

/* The same for the coordinator's session to another primary array of the group's set: target
 * iqn...:MEMBER.cut, initiator iqn...:COORDINATOR.a:SET, secrets from the set's one. */
MUST_CHECK bool copy_names_make_cut(struct copy_names *names, const struct iscsi_crypto *crypto,
                                    const char *coordinator, const struct config_group *group,
                                    const char *member, int half);

/* The identity of the group's set: a digest of its name and its primary arrays' in their order. */
MUST_CHECK bool copy_set_identity(uint8_t id[COPY_ID_SIZE], const struct iscsi_crypto *crypto,
                                  const struct config_group *group);

/* The group's identity: a digest of its name, both arrays' names, and of each place the volumes'
 * names and size. So two arrays whose files do not agree are two different groups to each other,
 * and nothing is copied to a wrong place. The same at both sites, whichever sends. */
MUST_CHECK bool copy_identity(uint8_t id[COPY_ID_SIZE], const struct iscsi_crypto *crypto,
                              const struct config *config, const struct config_group *group);

/* The group's TLS, as its keys say: *context NULL when there is none. `peer` as in
 * tls_context_make(). NULL, or a sentence. */
const char *copy_tls(struct tls_context **context, const struct config_group *group,
                     const char *peer, char why[TRACE_LINE]);

void copy_cdb_batch(uint8_t cdb[16], uint32_t length_bytes);
/* `batch_bytes`: how long it is when it is whole. */
void copy_cdb_packed(uint8_t cdb[16], uint32_t length_bytes, uint32_t batch_bytes);
void copy_cdb_state(uint8_t cdb[16]);
void copy_cdb_layout(uint8_t cdb[16]);
void copy_cdb_cut(uint8_t cdb[16]);
void copy_cdb_cut_state(uint8_t cdb[16]);

/* The volumes of a group as this array has them, for the other one to compare; returns how many of
 * at most COPY_LAYOUT_BYTES. */
uint32_t copy_layout_put(uint8_t *bytes, const struct config *config,
                         const struct config_group *group);
/* Foreign bytes: what in the other array's volumes does not fit ours, as a sentence in `why`. */
void copy_layout_compare(const uint8_t *bytes, uint32_t length, const struct config *config,
                         const struct config_group *group, char why[TRACE_LINE]);

enum copy_command {
    COPY_COMMAND_BATCH,
    COPY_COMMAND_PACKED,
    COPY_COMMAND_STATE,
    COPY_COMMAND_LAYOUT,
    COPY_COMMAND_CUT,
    COPY_COMMAND_CUT_STATE,
    COPY_COMMAND_NONE,
};
/* Foreign bytes: which of them, how long its data are, and the batch in them. */
enum copy_command copy_cdb_judge(const uint8_t cdb[16], uint32_t *length_bytes,
                                 uint32_t *batch_bytes);

#endif
