/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* libFuzzer target for both ends of the link. The first byte says which end and how it stands:
 *   bit 0      1: initiator, else target
 *   bit 1      1: with a secret (the peer's proof is hard to guess; without it the full-feature
 * phase is reached) bit 2      1: with digests wished for bit 3      1: small limits (bursts and
 * data segments), so that R2T is reached bit 4      1: the end is logged in already by an honest
 * peer, so every byte meets the full-feature phase bit 5      1: the target's buffer is received
 * into directly The second byte is the size of the pieces in which the rest arrives (0: at once).
 * Asserted: bytes taken are bytes given, lists are bounded, every pass makes progress, and nothing
 * is written past the buffer. */

#include "front/iscsi_link.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

enum { BUFFER_SIZE = 4096, GUARD = 64, SOURCE_SIZE = 20000 };

static uint8_t buffer[BUFFER_SIZE + GUARD];
static uint8_t source[SOURCE_SIZE];
static struct iscsi_initiator initiator;
static struct iscsi_link_target target;

/* A digest that is cheap and the same in each run; it need not be one. */
static bool fuzz_digest(void *context, enum iscsi_chap_algorithm algorithm,
                        const struct iscsi_piece *pieces, unsigned piece_count, uint8_t *to)
{
    uint8_t sum = (uint8_t)algorithm;

    for (unsigned i = 0; i < piece_count; i++)
        for (size_t at = 0; at < pieces[i].size; at++)
            sum = (uint8_t)(sum * 31 + ((const uint8_t *)pieces[i].bytes)[at]);
    memset(to, sum, iscsi_chap_digest_size(algorithm));
    return true;
}

static bool fuzz_random(void *context, void *to, size_t size)
{
    memset(to, 0x5A, size);
    return true;
}

static const struct iscsi_crypto crypto = {.digest = fuzz_digest, .random = fuzz_random};

static struct iscsi_login_config config_of(uint8_t mode)
{
    struct iscsi_login_config config = {.initiator_name = "iqn.a",
                                        .target_name = "iqn.t",
                                        .isid = {0x80},
                                        .tsih = 1,
                                        .portal_group_tag = 1,
                                        .first_sn = 1,
                                        .wish = iscsi_params_wish(),
                                        .crypto = &crypto};

    config.wish.header_digest = config.wish.data_digest = mode & 4;
    if (mode & 8) {
        config.wish.first_burst_bytes = 512;
        config.wish.max_burst_bytes = 1024;
        config.wish.own_data_limit_bytes = 600;
    }
    if (mode & 2) {
        config.self = (struct iscsi_identity){.name = "x", .secret = "a secret of some length"};
        config.peer = config.self;
    }
    return config;
}

static size_t drain_target(uint8_t *to, size_t room)
{
    struct iovec *iov;
    size_t size = 0;

    if (iscsi_link_target_output(&target, &iov) > 0) {
        size = iov[0].iov_len;
        if (to && size <= room)
            memcpy(to, iov[0].iov_base, size);
        iscsi_link_target_sent(&target, size);
    }
    return size;
}

static size_t drain_initiator(uint8_t *to, size_t room)
{
    size_t size = 0;

    for (unsigned list = 0; list < 1000; list++) {
        struct iovec *iov;
        uint32_t count = iscsi_initiator_output(&initiator, &iov);
        size_t this_size = 0;

        CHECK(count <= ISCSI_IOV_LIMIT);
        if (count == 0)
            return size;
        for (uint32_t i = 0; i < count; i++) {
            if (to && size + this_size + iov[i].iov_len <= room)
                memcpy(to + size + this_size, iov[i].iov_base, iov[i].iov_len);
            this_size += iov[i].iov_len;
        }
        iscsi_initiator_sent(&initiator, this_size);
        size += this_size;
    }
    CHECK(false);
    return 0;
}

/* Both ends log in with each other. */
static void log_in(void)
{
    uint8_t bytes[32768];

    for (unsigned round = 0; round < 10; round++) {
        enum iscsi_link_event event;
        size_t size = drain_initiator(bytes, sizeof bytes), at = 0;

        while (at < size)
            at += iscsi_link_target_feed(&target, bytes + at, size - at, &event);
        size = drain_target(bytes, sizeof bytes);
        for (at = 0; at < size;)
            at += iscsi_initiator_feed(&initiator, bytes + at, size - at, &event);
    }
    CHECK(target.state == ISCSI_LINK_TARGET_READY);
    CHECK(initiator.state == ISCSI_INITIATOR_READY);
}

static void fuzz_target(uint8_t mode, size_t piece, const uint8_t *bytes, size_t size)
{
    size_t at = 0, passes = 0;

    while (at < size && target.state != ISCSI_LINK_TARGET_OVER) {
        enum iscsi_link_event event;
        uint8_t *place;
        size_t end = at + min_u64(piece, size - at), taken;
        uint32_t wants = mode & 32 ? iscsi_link_target_wants(&target, &place) : 0;

        CHECK(passes++ < 4 * size + 16);
        if (wants > 0) {
            wants = (uint32_t)min_u64(wants, end - at);
            memcpy(place, bytes + at, wants);
            iscsi_link_target_filled(&target, wants);
            at += wants;
        }
        taken = iscsi_link_target_feed(&target, bytes + at, end - at, &event);
        CHECK(taken <= end - at);
        at += taken;
        if (event == ISCSI_LINK_COMMAND) {
            CHECK(target.command.length <= BUFFER_SIZE);
            /* Read all of it: the sanitizer sees whether it is really there. */
            uint8_t sum = 0;
            for (uint32_t i = 0; i < target.command.length; i++)
                sum ^= target.command.data[i];
            iscsi_link_target_respond(&target, sum & 1);
        }
        drain_target(NULL, 0);
        CHECK(iscsi_output_pending(&target.output) == 0);
    }
    for (unsigned i = 0; i < GUARD; i++)
        CHECK(buffer[BUFFER_SIZE + i] == 0xA5);
}

static void fuzz_initiator(size_t piece, const uint8_t *bytes, size_t size)
{
    static const struct iovec data[] = {{source, 700}, {source + 700, 1}, {source + 701, 19299}};
    size_t at = 0, passes = 0;

    while (at < size && initiator.state != ISCSI_INITIATOR_OVER) {
        enum iscsi_link_event event;
        size_t end = at + min_u64(piece, size - at), taken;

        CHECK(passes++ < 4 * size + 16);
        if (initiator.state == ISCSI_INITIATOR_READY)
            iscsi_initiator_command(&initiator, 0, data, ARRAY_LENGTH(data), SOURCE_SIZE);
        drain_initiator(NULL, 0);
        taken = iscsi_initiator_feed(&initiator, bytes + at, end - at, &event);
        CHECK(taken <= end - at);
        at += taken;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct iscsi_login_config config;
    uint8_t mode;
    size_t piece;

    if (size < 2)
        return 0;
    mode = bytes[0];
    piece = bytes[1] == 0 ? SIZE_MAX : bytes[1];
    config = config_of(mode);
    memset(buffer, 0xA5, sizeof buffer);
    iscsi_initiator_start(&initiator, &config);
    iscsi_link_target_start(&target, &config, buffer, BUFFER_SIZE);
    if (mode & 16 && !(mode & 2)) /* equal challenges of the fixed generator would be refused */
        log_in();
    if (mode & 1)
        fuzz_initiator(piece, bytes + 2, size - 2);
    else
        fuzz_target(mode, piece, bytes + 2, size - 2);
    return 0;
}
