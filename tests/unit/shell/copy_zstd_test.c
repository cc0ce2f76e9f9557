/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Batches made shorter and whole again: what comes out is what went in, whatever pieces it was in;
 * what does not gain goes raw; foreign bytes never write past the length that they declare. */

#include "shell/copy_zstd.h"

#include "base/generator.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <cmocka.h>

enum { PIECES = 300 };

static struct generator chance;
static ZSTD_CCtx *compressor;
static ZSTD_DCtx *decompressor;
static uint8_t batch[COPY_BATCH_BYTES], packed[COPY_ZSTD_MOST_BYTES];
static uint8_t *fence; /* the first byte that must not be written: a page that cannot be */

static uint32_t pick(uint32_t below)
{
    return (uint32_t)(generator_next(&chance) % below);
}

/* A batch of so many full pages; of each eight bytes one in `random_in` is random. */
static uint32_t make(uint32_t pages, uint32_t random_in)
{
    uint32_t length = COPY_HEAD_SIZE + pages * (COPY_RECORD_SIZE + PAGE_SIZE_BYTES);
    for (uint32_t i = 0; i < length; i += 8)
        put_u64(batch + i, random_in && pick(random_in) == 0 ? generator_next(&chance) : i);
    put_u32(batch + 72, pages);
    put_u32(batch + 76, pages * PAGE_SIZE_BYTES);
    return length;
}

static uint32_t pack(uint32_t length, uint32_t pieces)
{
    struct iovec iov[PIECES];
    uint32_t at = 0, count = 0;
    while (at < length) {
        uint32_t size = count + 1 < pieces ? COPY_HEAD_SIZE + pick(8000) : length - at;
        size = size < length - at ? size : length - at;
        iov[count++] = (struct iovec){batch + at, size};
        at += size;
    }
    return copy_zstd_pack(compressor, iov, count, length, packed);
}

/* To where the batch ends just before the fence. */
static const char *unpack(const uint8_t *bytes, uint32_t length, uint8_t **to, uint32_t *size)
{
    const char *why = copy_zstd_measure(bytes, length, size);
    if (why)
        return why;
    assert_true(*size <= COPY_BATCH_BYTES);
    *to = fence - *size;
    return copy_zstd_unpack(decompressor, bytes, length, *to, *size);
}

static void what_comes_out_is_what_went_in(void **state)
{
    for (int round = 0; round < 60; round++) {
        uint8_t *whole;
        uint32_t size, pages = round == 0 ? COPY_RECORDS : 1 + pick(200);
        uint32_t length = make(pages, 4 + pick(100));
        uint32_t gained = pack(length, 1 + pick(PIECES));
        assert_true(gained > 0);
        assert_true(gained <= length / 8 * 7);
        assert_null(unpack(packed, gained, &whole, &size));
        assert_int_equal(size, length);
        assert_memory_equal(whole, batch, length);
    }
}

static void what_gains_little_goes_raw(void **state)
{
    for (int round = 0; round < 20; round++) {
        assert_int_equal(pack(make(1 + pick(1000), 1), 1 + pick(PIECES)), 0);
        assert_true(pack(make(1 + pick(1000), 50), 1 + pick(PIECES)) >
                    0); /* and the next is well */
    }
}

static void damaged_bytes_are_refused_or_are_a_batch_of_the_same_length(void **state)
{
    uint32_t length = make(40, 20), gained = pack(length, 7), refused = 0;
    uint8_t *whole, *copy = malloc(gained);
    uint32_t size;
    for (uint32_t cut = 0; cut < gained; cut += cut < 300 ? 1 : 977)
        assert_non_null(unpack(packed, cut, &whole, &size));
    for (int round = 0; round < 4000; round++) {
        memcpy(copy, packed, gained);
        for (uint32_t i = 0; i <= pick(4); i++)
            copy[pick(round % 2 ? gained : 200)] ^= (uint8_t)(1 + pick(255));
        refused += unpack(copy, gained, &whole, &size) != NULL;
    }
    assert_in_range(refused, 400, 3999); /* the rest is for the batch's checksums to find */
    free(copy);
}

/* One frame as RFC 8878 3.1.1 has it: `content` is what its header says, `blocks` of 128 KiB of one
 * byte are what it holds. */
static uint32_t bomb(uint8_t *to, uint32_t records, uint32_t data, uint32_t content,
                     uint32_t blocks)
{
    static const uint8_t magic[4] = {0x28, 0xB5, 0x2F, 0xFD};
    uint32_t at = COPY_HEAD_SIZE + sizeof magic;
    memset(to, 0, COPY_HEAD_SIZE);
    put_u32(to + 72, records);
    put_u32(to + 76, data);
    memcpy(to + COPY_HEAD_SIZE, magic, sizeof magic);
    to[at++] = 0xA0; /* a single segment, and its size in four bytes */
    for (int i = 0; i < 4; i++)
        to[at++] = (uint8_t)(content >> 8 * i);
    for (uint32_t i = 0; i < blocks; i++) {
        uint32_t block = (i + 1 == blocks) | 1 << 1 | (128u << 10) << 3;
        for (int j = 0; j < 3; j++)
            to[at++] = (uint8_t)(block >> 8 * j);
        to[at++] = 'x';
    }
    return at;
}

static void a_frame_that_holds_more_than_the_head_says_writes_nothing_past_it(void **state)
{
    static uint8_t bytes[65536];
    const uint32_t block = 128 << 10, half = block / 2 - COPY_RECORD_SIZE;
    const struct {
        uint32_t records, data, content, blocks;
        const char *said; /* NULL: it is taken */
    } rows[] = {
        {1, 2 * block - COPY_RECORD_SIZE, 2 * block, 2, NULL},
        {1, 2 * block - COPY_RECORD_SIZE, 2 * block, 3, "does not decompress"},
        {1, 2 * block - COPY_RECORD_SIZE, 2 * block, 4000, "does not decompress"},
        {1, 2 * block - COPY_RECORD_SIZE, 2 * block, 1, "does not decompress"},
        {1, half, block / 2, 1, "does not decompress"},
        {1, half, 4000 * block, 4000, "another length"},
        {1, half, block / 2 + 1, 1, "another length"},
        {0, block, block, 1, "impossible number"},
        {COPY_RECORDS + 1, block, block, 1, "impossible number"},
        {1, COPY_DATA_BYTES + 1, COPY_DATA_BYTES + 33, 1, "impossible number"},
        {1, UINT32_MAX, 31, 1, "impossible number"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint32_t size,
            length = bomb(bytes, rows[i].records, rows[i].data, rows[i].content, rows[i].blocks);
        uint8_t *whole;
        const char *why = unpack(bytes, length, &whole, &size);
        if (rows[i].said ? !why || !strstr(why, rows[i].said) : why != NULL)
            fail_msg("row %zu: %s", i, why ? why : "taken");
    }
}

static void only_one_frame_of_the_one_kind_is_taken(void **state)
{
    static uint8_t bytes[65536];
    const uint32_t block = 128 << 10;
    uint8_t *whole;
    uint32_t size, length = bomb(bytes, 1, block - COPY_RECORD_SIZE, block, 1);
    assert_null(unpack(bytes, length, &whole, &size));
    /* Something behind it: another frame, one to be skipped, nothing that means anything. */
    static const uint8_t behind[][8] = {
        {0x28, 0xB5, 0x2F, 0xFD, 0x20, 0, 1}, {0x50, 0x2A, 0x4D, 0x18}, {1}};
    for (size_t i = 0; i < sizeof behind / sizeof behind[0]; i++) {
        memcpy(bytes + length, behind[i], 8);
        assert_string_equal(unpack(bytes, length + 8, &whole, &size),
                            "packed batch that is not one whole zstd frame");
    }
    /* The magic numbers of older formats, of a dictionary, of a frame to be skipped. */
    static const uint32_t magics[] = {0xFD2FB527, 0xFD2FB525, 0xFD2FB51E, 0xEC30A437, 0x184D2A50};
    for (size_t i = 0; i < sizeof magics / sizeof magics[0]; i++) {
        for (int j = 0; j < 4; j++)
            bytes[COPY_HEAD_SIZE + j] = (uint8_t)(magics[i] >> 8 * j);
        assert_string_equal(unpack(bytes, length, &whole, &size), "packed batch that is not zstd");
    }
}

static int set_up(void **state)
{
    generator_seed(&chance, 5);
    size_t room = (COPY_BATCH_BYTES + 4095) & ~(size_t)4095;
    uint8_t *memory =
        mmap(NULL, room + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    fence = memory + room;
    assert_int_equal(mprotect(fence, 4096, PROT_NONE), 0);
    compressor = copy_zstd_compressor();
    decompressor = ZSTD_createDCtx();
    return compressor && decompressor ? 0 : -1;
}

static int tear_down(void **state)
{
    ZSTD_freeCCtx(compressor);
    ZSTD_freeDCtx(decompressor);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_comes_out_is_what_went_in),
        cmocka_unit_test(what_gains_little_goes_raw),
        cmocka_unit_test(damaged_bytes_are_refused_or_are_a_batch_of_the_same_length),
        cmocka_unit_test(a_frame_that_holds_more_than_the_head_says_writes_nothing_past_it),
        cmocka_unit_test(only_one_frame_of_the_one_kind_is_taken),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
