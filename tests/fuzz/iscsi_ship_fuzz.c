/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The many-commands initiator against arbitrary bytes from its target. First byte:
 *   bit 0  1: logged in already, by an honest target
 *   bit 1  1: small bursts and segments, no unsolicited data
 *   bit 2  1: data are received straight into their place
 *   bit 3  1: what there is to send is sent by halves
 * The second byte is the size of the pieces in which the rest arrives (0: at once). Asserted: bytes
 * taken are bytes given, a command is over just once, lists are bounded, and nothing is written
 * past the place of a command that is in flight. */

#include "front/iscsi_ship.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

enum { COMMANDS = 6, SIZE = 3000, GUARD = 64, MARK = 0xA5 };

static struct iscsi_ship ship;
static uint8_t source[SIZE], places[COMMANDS][SIZE + GUARD];
static bool busy[COMMANDS];
static uint8_t mode;
static uint32_t begun;

static void begin(uint32_t itt)
{
    struct iscsi_ship_command command = {.cdb = {(uint8_t)begun}};

    memset(places[itt], MARK, sizeof places[itt]);
    if (itt % 3 == 0) {
        command.out = source;
        command.out_bytes = SIZE - itt;
    } else if (itt % 3 == 1) {
        command.in = places[itt];
        command.in_bytes = SIZE - itt;
    }
    busy[itt] = true;
    begun++;
    iscsi_ship_command(&ship, itt, &command);
}

static void drain(void)
{
    for (unsigned list = 0; list < 1000; list++) {
        struct iovec *iov;
        uint32_t count = iscsi_ship_output(&ship, &iov);
        size_t size = 0;

        CHECK(count <= ISCSI_SHIP_IOV_LIMIT);
        for (uint32_t i = 0; i < count; i++) {
            uint8_t sum = 0;

            /* Read all of it: the sanitizer sees whether it is really there. */
            for (size_t at = 0; at < iov[i].iov_len; at++)
                sum ^= ((const uint8_t *)iov[i].iov_base)[at];
            size += iov[i].iov_len + (sum & 0);
        }
        iscsi_ship_sent(&ship, mode & 8 ? (size + 1) / 2 : size);
        if (count == 0 || mode & 8)
            return;
    }
    CHECK(false);
}

static void on_event(enum iscsi_ship_event event)
{
    if (event != ISCSI_SHIP_STATUS)
        return;
    CHECK(ship.done.itt < COMMANDS);
    CHECK(busy[ship.done.itt]);
    CHECK(ship.done.sense_bytes <= ISCSI_SHIP_SENSE_LIMIT);
    CHECK(ship.done.received_bytes <= SIZE);
    busy[ship.done.itt] = false;
}

static size_t feed(const uint8_t *bytes, size_t size)
{
    enum iscsi_ship_event event;
    size_t taken = 0;
    uint8_t *place;
    uint32_t wants = mode & 4 ? iscsi_ship_wants(&ship, &place) : 0;

    if (wants > 0) {
        wants = (uint32_t)min_u64(wants, size);
        memcpy(place, bytes, wants);
        iscsi_ship_filled(&ship, wants);
        taken = wants;
    }
    for (unsigned i = 0; i < 100000; i++) {
        size_t now = iscsi_ship_feed(&ship, bytes + taken, size - taken, &event);

        CHECK(now <= size - taken);
        taken += now;
        on_event(event);
        if (event == ISCSI_SHIP_MORE || ship.state == ISCSI_SHIP_STATE_OVER)
            return taken;
    }
    CHECK(false);
    return taken;
}

/* An honest target's two answers. */
static void log_in(void)
{
    static const char keys[] =
        "HeaderDigest=None\0DataDigest=None\0MaxConnections=1\0InitialR2T=No\0"
        "ImmediateData=Yes\0MaxBurstLength=16777215\0"
        "FirstBurstLength=16777215\0DefaultTime2Wait=2\0"
        "DefaultTime2Retain=0\0MaxOutstandingR2T=1\0DataPDUInOrder=Yes\0"
        "DataSequenceInOrder=Yes\0ErrorRecoveryLevel=0\0"
        "MaxRecvDataSegmentLength=8192";
    static const char small[] = "HeaderDigest=None\0DataDigest=None\0MaxConnections=1\0"
                                "InitialR2T=Yes\0ImmediateData=No\0MaxBurstLength=1024\0"
                                "FirstBurstLength=512\0DefaultTime2Wait=2\0DefaultTime2Retain=0\0"
                                "MaxOutstandingR2T=1\0DataPDUInOrder=Yes\0"
                                "DataSequenceInOrder=Yes\0ErrorRecoveryLevel=0\0"
                                "MaxRecvDataSegmentLength=512";
    static const char method[] = "AuthMethod=None\0TargetPortalGroupTag=1";
    const char *texts[] = {method, mode & 2 ? small : keys};
    const size_t sizes[] = {sizeof method, mode & 2 ? sizeof small : sizeof keys};

    for (unsigned step = 0; step < 2; step++) {
        uint8_t bytes[1024] = {0};
        struct iscsi_pdu pdu = {.opcode = ISCSI_LOGIN_RESPONSE,
                                .final = true,
                                .data_size = (uint32_t)sizes[step],
                                .stat_sn = 1 + step,
                                .exp_cmd_sn = 1,
                                .max_cmd_sn = 4};

        pdu.login.isid[0] = 0x80;
        pdu.login.current_stage = (uint8_t)step;
        pdu.login.next_stage = step ? 3 : 1;
        pdu.login.tsih = (uint16_t)step;
        drain();
        drain();
        drain();
        iscsi_bhs_encode(&pdu, bytes);
        memcpy(bytes + 48, texts[step], sizes[step]);
        feed(bytes, 48 + ((sizes[step] + 3) & ~(size_t)3));
    }
    CHECK(ship.state == ISCSI_SHIP_STATE_READY);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct iscsi_login_config config = {.initiator_name = "iqn.a",
                                        .target_name = "iqn.t",
                                        .isid = {0x80},
                                        .first_sn = 1,
                                        .wish = iscsi_params_wish()};
    size_t piece, at = 2, passes = 0;

    if (size < 2)
        return 0;
    mode = bytes[0];
    piece = bytes[1] == 0 ? SIZE_MAX : bytes[1];
    memset(busy, 0, sizeof busy);
    begun = 0;
    iscsi_ship_start(&ship, &config);
    if (mode & 1)
        log_in();
    while (at < size && ship.state != ISCSI_SHIP_STATE_OVER) {
        size_t taken;

        for (uint32_t itt = 0; itt < COMMANDS && ship.state == ISCSI_SHIP_STATE_READY; itt++)
            if (!busy[itt] && begun < 1000)
                begin(itt);
        drain();
        taken = feed(bytes + at, min_u64(piece, size - at));
        at += taken;
        CHECK(passes++ < 4 * size + 64);
        for (uint32_t itt = 0; itt < COMMANDS; itt++)
            for (unsigned i = 0; busy[itt] && i < GUARD; i++)
                CHECK(places[itt][SIZE + i] == MARK);
    }
    return 0;
}
