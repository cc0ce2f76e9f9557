/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Fuzz target of the SCSI device server. The input is a row of steps: a head of HEAD_BYTES, then as
 * many bytes of payload as the head says. A step is a command of one of two hosts to one of a few
 * LUNs (any CDB, any data, any expected lengths, the core's answers as the head wishes), a task
 * management function, or a state record of any bytes. After each, nothing may have been read or
 * written past a buffer, and every unit must still have a record that can be encoded and read.
 *
 *     clang -g -D_GNU_SOURCE -fsanitize=fuzzer,address,undefined -Isrc tests/fuzz/scsi_fuzz.c \
 *         src/scsi/[a-z]*.c src/base/check.c src/base/arena.c src/base/crc32c.c -lisal */

#define UNIT_BYTES     (256 << 10)
#define TRANSFER_BYTES (64 << 10)

#include "../unit/scsi/memory_units.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    HEAD_BYTES = 26,
    STEPS = 64,
    OUT_BYTES = 256 << 10,
    /* What the first byte of a head says. */
    KIND = 0x03, /* 0 and 1: a command; 2: a function; 3: a record */
    OTHER_HOST = 0x04,
    FAILS = 0x08,
    REPEATS = 0x10, /* the payload again and again, to the expected length */
};

static uint8_t out[OUT_BYTES];

static void check_units(void)
{
    static struct record record;
    static uint8_t bytes[VOLUME_STATE_BYTES];

    for (int i = 0; i < UNITS; i++) {
        uint32_t length = record_encode(&units.scsi->units[i].record, bytes);
        CHECK(length <= VOLUME_STATE_BYTES);
        CHECK(record_decode(&record, bytes, length) == NULL);
    }
}

static void run_command(const uint8_t *head, const uint8_t *payload, uint32_t payload_bytes)
{
    uint32_t expected = get_u24(head + 19);
    bool writes = (head[18] & 1) != 0;

    expected = min_u32(expected, OUT_BYTES);
    if (writes) {
        memset(out, 0, expected);
        for (uint32_t at = 0; at < expected && payload_bytes > 0; at += payload_bytes) {
            memcpy(out + at, payload, min_u32(payload_bytes, expected - at));
            if (!(head[0] & REPEATS))
                break;
        }
    }
    units.in_expected = expected;
    units.fail_at = head[0] & FAILS ? head[22] : UINT32_MAX;
    units.fail_with = (enum host_result)(head[23] % (HOST_READ_ONLY + 1));
    units.attribute = (enum scsi_attribute)(head[18] >> 1 & 7);
    (void)units_send(head[1] % (UNITS + 1), head + 2, 16, out, writes ? expected : 0);
}

static void run_function(const uint8_t *head)
{
    static uint8_t buffer[VOLUME_STATE_BYTES];
    struct scsi_manage manage = {.function = (enum scsi_function)(head[2] % (SCSI_UPKEEP + 1)),
                                 .nexus = units.nexus[units.nexus_used],
                                 .buffer = buffer};
    uint64_t detail;
    enum scsi_step step;

    if (manage.function == SCSI_UPKEEP)
        manage.nexus = NULL;
    manage.lun[1] = head[1] % (UNITS + 1);
    units.fail_at = UINT32_MAX;
    step = scsi_manage_begin(units.scsi, &manage);
    for (int i = 0; step == SCSI_IO; i++) {
        CHECK(i < STEP_LIMIT);
        step = scsi_manage_io_done(&manage, units_carry_out(&manage.request, &detail));
    }
    CHECK(step == SCSI_DONE);
}

/* What the peer might send if it were out of its mind. */
static void run_record(const uint8_t *head, const uint8_t *payload, uint32_t payload_bytes)
{
    uint8_t volume = head[1] % UNITS;
    const char *reason;

    if (payload_bytes > VOLUME_STATE_BYTES)
        payload_bytes = VOLUME_STATE_BYTES;
    (void)!scsi_on_state(units.scsi, volume, units.version[volume] + 1, payload, payload_bytes,
                         &reason);
    if (reason == NULL)
        units.version[volume]++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    units_create();
    for (int i = 0; i < STEPS && size >= HEAD_BYTES; i++) {
        const uint8_t *head = data, *payload = data + HEAD_BYTES;
        uint32_t payload_bytes = get_u16(head + 24);

        payload_bytes = min_u32(payload_bytes, (uint32_t)min_u64(size - HEAD_BYTES, UINT16_MAX));
        units.nexus_used = head[0] & OTHER_HOST ? 1 : 0;
        if ((head[0] & KIND) == 2)
            run_function(head);
        else if ((head[0] & KIND) == 3)
            run_record(head, payload, payload_bytes);
        else
            run_command(head, payload, payload_bytes);
        check_units();
        data += HEAD_BYTES + payload_bytes;
        size -= HEAD_BYTES + payload_bytes;
    }
    units_destroy();
    return 0;
}
