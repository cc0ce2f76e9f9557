/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Makes malformed iSCSI PDUs, so many of each type, and gives them to the fuzz target of the iSCSI
 * target: a sound request of that type with some of its fields made wrong, after none or a few
 * sound ones, so that it meets a session in many states. Digests, where they are in force, are
 * right more often than not, so that the fields are what is judged. */

#include "front/iscsi_pdu.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/check_report.h"
#include "base/crc32c.h"
#include "base/generator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { INPUT_LIMIT = 32768, DATA_LIMIT = 2048, REQUESTS_BEFORE = 12 };

static struct generator dice;
static uint8_t input[INPUT_LIMIT];
/* The last write that was made, so that Data-Out may fit it. */
static struct {
    uint32_t itt, expected, at, sn, ttt;
} last;

static uint32_t roll(uint32_t below)
{
    return (uint32_t)(generator_next(&dice) % below);
}

static uint32_t odd_number(void)
{
    static const uint32_t odd[] = {0,   1,    2,          3,          4,          7,         8,
                                   9,   15,   16,         48,         511,        512,       513,
                                   600, 1024, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF};

    return roll(3) ? odd[roll(ARRAY_LENGTH(odd))] : (uint32_t)generator_next(&dice);
}

/* A request of this type that is sound, or nearly. */
static struct iscsi_pdu sound(uint8_t opcode, uint32_t cmd_sn)
{
    struct iscsi_pdu pdu = {.opcode = opcode,
                            .immediate = !roll(4),
                            .final = roll(4),
                            .lun = (uint64_t)roll(4) << 48,
                            .itt = 1 + roll(6),
                            .ttt = roll(2) ? ISCSI_NO_TAG : 1 + roll(4),
                            .cmd_sn = cmd_sn};

    switch (opcode) {
    case ISCSI_SCSI_COMMAND:
        pdu.command.read = roll(2);
        pdu.command.write = !pdu.command.read;
        pdu.command.attribute = (uint8_t)roll(5);
        pdu.command.expected_size = roll(5000);
        if (pdu.command.write && roll(2))
            pdu.data_size = roll(min_u32(pdu.command.expected_size + 1, 600));
        if (pdu.command.write) {
            last.itt = pdu.itt;
            last.expected = pdu.command.expected_size;
            last.at = pdu.data_size;
            last.sn = 0;
            last.ttt = pdu.final ? 1 : ISCSI_NO_TAG;
        }
        break;
    case ISCSI_DATA_OUT:
        if (roll(4) && last.at < last.expected) {
            pdu.itt = last.itt;
            pdu.ttt = last.ttt;
            pdu.data.data_sn = last.sn++;
            pdu.data.offset = last.at;
            pdu.data_size = min_u32(min_u32(last.expected - last.at, 1024), 1 + roll(600));
            last.at += pdu.data_size;
            pdu.final = last.at == last.expected || last.at == 1024 || !roll(4);
            if (pdu.final) {
                last.sn = 0;
                last.ttt = last.ttt == ISCSI_NO_TAG ? 1 : last.ttt + 1;
            }
            break;
        }
        pdu.data.data_sn = roll(3);
        pdu.data.offset = roll(3) * 512;
        pdu.data_size = roll(4) ? 512 : roll(1024);
        break;
    case ISCSI_TASK_REQUEST:
        pdu.task.function = (uint8_t)(1 + roll(8));
        pdu.task.referenced_tag = 1 + roll(6);
        pdu.task.referenced_cmd_sn = cmd_sn - roll(3);
        break;
    case ISCSI_LOGOUT_REQUEST:
        pdu.logout.reason = (uint8_t)roll(3);
        break;
    case ISCSI_LOGIN_REQUEST:
        pdu.itt = 0;
        pdu.login.current_stage = (uint8_t)roll(2);
        pdu.login.next_stage = roll(2) ? 1 : 3;
        break;
    case ISCSI_NOP_OUT:
        pdu.data_size = roll(2) ? 0 : roll(700);
        break;
    default:
        break;
    }
    return pdu;
}

static const char *const texts[] = {"SendTargets=All",
                                    "SendTargets=",
                                    "SendTargets=iqn.t",
                                    "InitiatorName=iqn.a",
                                    "TargetName=iqn.t",
                                    "SessionType=Discovery",
                                    "SessionType=Normal",
                                    "AuthMethod=CHAP,None",
                                    "CHAP_A=5,7",
                                    "CHAP_N=x",
                                    "CHAP_R=0x00",
                                    "CHAP_I=300",
                                    "CHAP_C=0b====",
                                    "MaxRecvDataSegmentLength=512",
                                    "MaxRecvDataSegmentLength=16777216",
                                    "MaxBurstLength=-1",
                                    "FirstBurstLength=0x",
                                    "HeaderDigest=CRC32C,None,,",
                                    "InitialR2T=Maybe",
                                    "=",
                                    "no pair",
                                    "X-odd=NotUnderstood"};

/* Bytes for the data segment: text where the type has it. */
static void put_data(uint8_t opcode, uint8_t *to, uint32_t size)
{
    uint32_t at = 0;

    for (uint32_t i = 0; i < size; i++)
        to[i] = (uint8_t)i;
    if (opcode != ISCSI_TEXT_REQUEST && opcode != ISCSI_LOGIN_REQUEST)
        return;
    memset(to, 0, size);
    while (at < size) {
        const char *text = texts[roll(ARRAY_LENGTH(texts))];
        size_t length = min_u64(strlen(text) + (roll(20) > 0), size - at);

        memcpy(to + at, text, length);
        at += (uint32_t)length;
    }
}

/* One PDU to `to`; wrong in some of its header's bytes when asked for. */
static size_t put_pdu(uint8_t opcode, uint32_t cmd_sn, bool wrong, bool digests, uint8_t *to)
{
    bool known = opcode <= ISCSI_LOGOUT_REQUEST || opcode == ISCSI_SNACK_REQUEST ||
                 (opcode >= ISCSI_NOP_IN && opcode <= ISCSI_LOGOUT_RESPONSE) ||
                 opcode == ISCSI_R2T || opcode == ISCSI_ASYNC_MESSAGE || opcode == ISCSI_REJECT;
    struct iscsi_pdu pdu = sound(known ? opcode : ISCSI_NOP_OUT, cmd_sn);
    uint32_t size, ahs;
    size_t at;

    if (opcode == ISCSI_TEXT_REQUEST || opcode == ISCSI_LOGIN_REQUEST)
        pdu.data_size = roll(400);
    iscsi_bhs_encode(&pdu, to);
    to[0] = (uint8_t)((to[0] & 0xC0) | opcode);
    for (uint32_t n = wrong ? 1 + roll(4) : 0; n > 0; n--)
        switch (roll(6)) {
        case 0:
            to[1 + roll(3)] = (uint8_t)generator_next(&dice);
            break;
        case 1:
            put_u32(to + 16 + 4 * roll(8), odd_number());
            break;
        case 2:
            put_u24(to + 5, roll(8) ? roll(DATA_LIMIT) : odd_number() & 0xFFFFFF);
            break;
        case 3:
            to[4] = roll(4) ? 0 : (uint8_t)roll(4); /* AHS */
            break;
        case 4:
            to[1 + roll(47)] ^= (uint8_t)(1u << roll(8));
            break;
        default:
            put_u64(to + 8, generator_next(&dice));
            break;
        }
    size = min_u32(get_u24(to + 5), DATA_LIMIT);
    ahs = to[4] * 4u;
    at = 48;
    memset(to + at, 0, ahs);
    at += ahs;
    if (digests) {
        uint32_t crc = crc32c(to, at) ^ (roll(20) ? 0 : 1);

        for (unsigned i = 0; i < 4; i++)
            to[at++] = (uint8_t)(crc >> (8 * i));
    }
    put_data(opcode, to + at, size);
    if (digests && size > 0) {
        uint32_t padded = (size + 3) & ~3u, crc;

        memset(to + at + size, 0, padded - size);
        crc = crc32c(to + at, padded) ^ (roll(20) ? 0 : 1);
        for (unsigned i = 0; i < 4; i++)
            to[at + padded + i] = (uint8_t)(crc >> (8 * i));
        return at + padded + 4;
    }
    memset(to + at + size, 0, 3);
    return at + ((size + 3) & ~3u);
}

static void one_input(uint8_t opcode)
{
    static const uint8_t before[] = {ISCSI_SCSI_COMMAND, ISCSI_SCSI_COMMAND, ISCSI_SCSI_COMMAND,
                                     ISCSI_DATA_OUT,     ISCSI_DATA_OUT,     ISCSI_DATA_OUT,
                                     ISCSI_TASK_REQUEST, ISCSI_NOP_OUT,      ISCSI_TEXT_REQUEST};
    const bool digests = !roll(4), login = opcode == ISCSI_LOGIN_REQUEST && roll(8);
    uint32_t cmd_sn = 1, count = login ? 0 : roll(REQUESTS_BEFORE + 1);
    size_t at = 3;
    uint8_t *exact;

    memset(&last, 0, sizeof last);

    input[0] = (uint8_t)((login ? 0 : 1) | (roll(2) ? 2 : 0) | (digests && !login ? 4 : 0) |
                         (roll(2) ? 8 : 0) | (roll(2) ? 16 : 0) | (roll(16) ? 0 : 32));
    input[1] = roll(2) ? 0 : (uint8_t)(1 + roll(255));
    input[2] = (uint8_t)roll(256);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t kind = before[roll(ARRAY_LENGTH(before))];

        /* Now and then ahead of its turn; the one left out may come later. */
        at += put_pdu(kind, cmd_sn + !roll(6), false, digests && !login, input + at);
        cmd_sn += kind != ISCSI_DATA_OUT;
    }
    for (uint32_t i = login ? 3 : 1; i > 0; i--)
        at += put_pdu(opcode, cmd_sn, true, digests && !login, input + at);
    /* What follows must still find the stream in step. */
    if (!login && roll(2))
        at += put_pdu(ISCSI_SCSI_COMMAND, cmd_sn + roll(2), false, digests, input + at);
    CHECK(at <= sizeof input);
    /* A buffer of just the input's size lets a sanitizer see a read past its end. */
    exact = malloc(at);
    CHECK(exact != NULL);
    memcpy(exact, input, at);
    LLVMFuzzerTestOneInput(exact, at);
    free(exact);
}

static void print_failure(const char *expression, const char *file, int line)
{
    fprintf(stderr, "%s:%d: %s\n", file, line, expression);
}

int main(int argc, char **argv)
{
    unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
    unsigned types = 0;

    if (count == 0 || count > 10000000) {
        fprintf(stderr, "usage: %s COUNT\n", argv[0]);
        return 2;
    }
    check_on_failure(print_failure);
    for (unsigned opcode = 0; opcode < 64; opcode++, types++) {
        generator_seed(&dice, opcode + 1);
        for (unsigned long i = 0; i < count; i++)
            one_input((uint8_t)opcode);
    }
    printf("%lu malformed PDUs of each of %u types\n", count, types);
    return 0;
}
