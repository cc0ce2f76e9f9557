/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Stores over temporary files, direct and buffered: what is written is there, past the end are
 * zeros, zeroing and trimming leave zeros, and an operation whose time has passed is not submitted.
 */

#include "shell/store.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <cmocka.h>

enum { FILE_BYTES = 8 * 1024 * 1024, ODD_BYTES = FILE_BYTES + 700 };

static struct loop loop;
static struct stores stores;
static char path[64];
static enum store_result results[64];
static unsigned done_count;
static uint8_t buffer[2 * 1024 * 1024] __attribute__((aligned(4096)));

static void done(void *context, uint32_t io, enum store_result result)
{
    results[io] = result;
    done_count++;
}

static void before_submit(void *context)
{
    stores_before_submit(&stores);
}

static int make_file(void **state)
{
    snprintf(path, sizeof path, "/tmp/holdfast-store-XXXXXX");
    int file = mkstemp(path);
    assert_true(file >= 0);
    assert_int_equal(ftruncate(file, ODD_BYTES), 0);
    uint8_t byte = 0xAB;
    assert_int_equal(pwrite(file, &byte, 1, ODD_BYTES - 1), 1);
    close(file);
    assert_null(loop_open(&loop, 64, -1));
    loop.before_submit = before_submit;
    stores_init(&stores, &loop, done, NULL);
    return 0;
}

static int remove_file(void **state)
{
    stores_close(&stores);
    loop_close(&loop);
    return unlink(path);
}

static struct store *open_store(enum config_io io)
{
    struct config_store config = {.name = "test", .io = io};
    snprintf(config.path, sizeof config.path, "%s", path);
    char why[TRACE_LINE];
    assert_null(stores_open(&stores, &config, why));
    return &stores.store[stores.count - 1];
}

static enum store_result perform(struct store_action action)
{
    unsigned before = done_count;
    stores_perform(&stores, &action);
    for (int turns = 0; turns < 1000 && done_count == before; turns++)
        loop_turn(&loop, loop.now_us + 100000);
    assert_int_equal(done_count, before + 1);
    return results[action.io];
}

static enum store_result transfer(enum store_op op, uint64_t offset, const struct iovec *iov,
                                  uint32_t count)
{
    uint64_t length = 0;
    for (uint32_t i = 0; i < count; i++)
        length += iov[i].iov_len;
    return perform((struct store_action){.io = 7,
                                         .op = op,
                                         .offset_bytes = offset,
                                         .length_bytes = length,
                                         .iov = iov,
                                         .iov_count = count,
                                         .not_after_us = UINT64_MAX});
}

static enum store_result range(enum store_op op, uint64_t offset, uint64_t length)
{
    return perform((struct store_action){.io = 8,
                                         .op = op,
                                         .offset_bytes = offset,
                                         .length_bytes = length,
                                         .not_after_us = UINT64_MAX});
}

static bool all(const uint8_t *bytes, size_t size, uint8_t value)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != value)
            return false;
    return true;
}

static void file_read(uint64_t offset, uint8_t *to, size_t size)
{
    int file = open(path, O_RDONLY);
    assert_int_equal(pread(file, to, size, (off_t)offset), size);
    close(file);
}

static void writes_gather_and_reads_scatter(enum config_io io)
{
    open_store(io);
    memset(buffer, 1, 4096);
    memset(buffer + 8192, 2, 4096);
    struct iovec iov[] = {{buffer, 4096}, {buffer + 8192, 4096}};
    assert_int_equal(transfer(STORE_WRITE, 65536, iov, 2), STORE_DONE);
    assert_int_equal(range(STORE_FLUSH, 0, 0), STORE_DONE);
    uint8_t seen[8192];
    file_read(65536, seen, sizeof seen);
    assert_true(all(seen, 4096, 1) && all(seen + 4096, 4096, 2));
    memset(buffer, 9, 65536);
    struct iovec back[] = {{buffer + 4096, 4096}, {buffer, 4096}};
    assert_int_equal(transfer(STORE_READ, 65536, back, 2), STORE_DONE);
    assert_true(all(buffer, 4096, 2) && all(buffer + 4096, 4096, 1));
}

static void direct_io_moves_the_bytes(void **state)
{
    writes_gather_and_reads_scatter(CONFIG_IO_AUTO);
}

static void buffered_io_moves_the_bytes(void **state)
{
    writes_gather_and_reads_scatter(CONFIG_IO_BUFFERED);
    assert_false(stores.store[0].direct);
}

/* The file ends 700 bytes into a page: what is there is read, and zeros after it. */
static void past_the_end_are_zeros(void **state)
{
    for (int round = 0; round < 2; round++) {
        open_store(round ? CONFIG_IO_BUFFERED : CONFIG_IO_AUTO);
        struct iovec iov[] = {{buffer, 4096}, {buffer + 4096, 8192}};
        for (uint32_t store = 0; store < stores.count; store++) {
            memset(buffer, 7, 65536);
            assert_int_equal(perform((struct store_action){.io = 1,
                                                           .op = STORE_READ,
                                                           .store = (uint8_t)store,
                                                           .offset_bytes = FILE_BYTES,
                                                           .length_bytes = 12288,
                                                           .iov = iov,
                                                           .iov_count = 2,
                                                           .not_after_us = UINT64_MAX}),
                             STORE_DONE);
            assert_true(all(buffer, 699, 0));
            assert_int_equal(buffer[699], 0xAB);
            assert_true(all(buffer + 700, 12288 - 700, 0));
            assert_int_equal(buffer[12288], 7);
        }
        struct iovec far = {buffer, 4096};
        memset(buffer, 7, 4096);
        assert_int_equal(transfer(STORE_READ, 64 * FILE_BYTES, &far, 1), STORE_DONE);
        assert_true(all(buffer, 4096, 0));
    }
}

static void fill(uint64_t offset, size_t size)
{
    memset(buffer, 5, size);
    struct iovec iov = {buffer, size};
    assert_int_equal(transfer(STORE_WRITE, offset, &iov, 1), STORE_DONE);
}

static void zeroing_and_trimming_leave_zeros_and_nothing_else(void **state)
{
    struct store *store = open_store(CONFIG_IO_AUTO);
    static uint8_t seen[2 * 1024 * 1024];
    for (int round = 0; round < 4; round++) {
        enum store_op op = round == 0 ? STORE_TRIM : STORE_ZERO;
        if (round == 2)
            store->can_zero_range = false; /* as on a store that cannot: zeros are written */
        if (round == 3) {
            op = STORE_TRIM;
            store->can_punch = false;
        }
        fill(0, sizeof seen);
        assert_int_equal(range(op, 1024, sizeof seen - 2048), STORE_DONE);
        file_read(0, seen, sizeof seen);
        assert_true(all(seen, 1024, 5));
        assert_true(all(seen + 1024, sizeof seen - 2048, 0));
        assert_true(all(seen + sizeof seen - 1024, 1024, 5));
    }
}

static uint64_t file_blocks(void)
{
    struct stat facts;
    assert_int_equal(stat(path, &facts), 0);
    return (uint64_t)facts.st_blocks;
}

static void a_trim_gives_blocks_back_and_block_status_sees_the_hole(void **state)
{
    struct store *store = open_store(CONFIG_IO_AUTO);
    fill(0, 1 << 20);
    assert_int_equal(range(STORE_FLUSH, 0, 0), STORE_DONE);
    bool hole;
    assert_int_equal(store_extent(store, 0, 1 << 20, &hole), 1 << 20);
    assert_false(hole);
    uint64_t before = file_blocks();
    assert_int_equal(range(STORE_TRIM, 65536, 65536), STORE_DONE);
    assert_true(file_blocks() < before);
    assert_int_equal(store_extent(store, 0, 1 << 20, &hole), 65536);
    assert_false(hole);
    assert_int_equal(store_extent(store, 65536, 1 << 20, &hole), 131072);
    assert_true(hole);
    assert_int_equal(store_extent(store, 64 * FILE_BYTES, 65 * FILE_BYTES, &hole), 65 * FILE_BYTES);
    assert_true(hole);
}

static void an_operation_past_its_time_is_not_submitted(void **state)
{
    open_store(CONFIG_IO_AUTO);
    memset(buffer, 6, 4096);
    struct iovec iov = {buffer, 4096};
    struct store_action late = {.io = 3,
                                .op = STORE_WRITE,
                                .length_bytes = 4096,
                                .iov = &iov,
                                .iov_count = 1,
                                .not_after_us = loop_clock_us() + 2000};
    /* It is in time when it is asked for, and late when the kernel would get it. */
    stores_perform(&stores, &late);
    usleep(5000);
    unsigned before = done_count;
    for (int turns = 0; turns < 100 && done_count == before; turns++)
        loop_turn(&loop, loop.now_us + 100000);
    assert_int_equal(results[3], STORE_NOT_SENT);
    uint8_t seen[4096];
    file_read(0, seen, sizeof seen);
    assert_true(all(seen, sizeof seen, 0));
    late.not_after_us = loop_clock_us() + 60000000;
    assert_int_equal(perform(late), STORE_DONE);
    file_read(0, seen, sizeof seen);
    assert_true(all(seen, sizeof seen, 6));
}

/* A file size limit makes the kernel write less than asked, then refuse: the operation goes on, and
 * then fails. */
static void a_short_write_goes_on_until_it_is_whole_or_fails(void **state)
{
    struct store *store = open_store(CONFIG_IO_BUFFERED);
    struct rlimit old, limit;
    getrlimit(RLIMIT_FSIZE, &old);
    limit = (struct rlimit){.rlim_cur = FILE_BYTES + 8192, .rlim_max = old.rlim_max};
    memset(buffer, 4, 16384);
    struct iovec iov[] = {{buffer, 4096}, {buffer + 4096, 12288}};
    setrlimit(RLIMIT_FSIZE, &limit);
    enum store_result result = transfer(STORE_WRITE, FILE_BYTES, iov, 2);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(result, STORE_ERROR);
    assert_true(store->failing);
    assert_non_null(strstr(store->error, "write at byte 8396800"));
    uint8_t seen[8192];
    file_read(FILE_BYTES, seen, sizeof seen);
    assert_true(all(seen, sizeof seen, 4));
    assert_int_equal(transfer(STORE_WRITE, FILE_BYTES, iov, 2), STORE_DONE);
    assert_false(store->failing);
}

/* tmpfs can punch holes and cannot zero a range: the store finds out, and writes zeros. */
static void a_store_that_cannot_zero_a_range_is_written_zeros(void **state)
{
    struct statfs kind;
    if (statfs("/dev/shm", &kind) < 0 || kind.f_type != TMPFS_MAGIC)
        skip();
    char memory_path[] = "/dev/shm/holdfast-store-XXXXXX";
    int file = mkstemp(memory_path);
    assert_true(file >= 0);
    struct config_store config = {.name = "memory", .io = CONFIG_IO_AUTO};
    snprintf(config.path, sizeof config.path, "%s", memory_path);
    char why[TRACE_LINE];
    const char *wrong = stores_open(&stores, &config, why);
    unlink(memory_path);
    assert_null(wrong);
    fill(0, 1 << 20);
    assert_true(stores.store[0].can_zero_range);
    assert_int_equal(range(STORE_ZERO, 4096, 65536 + 512), STORE_DONE);
    assert_false(stores.store[0].can_zero_range);
    static uint8_t seen[1 << 20];
    assert_int_equal(pread(file, seen, sizeof seen, 0), sizeof seen);
    close(file);
    assert_true(all(seen, 4096, 5));
    assert_true(all(seen + 4096, 65536 + 512, 0));
    assert_true(all(seen + 4096 + 65536 + 512, sizeof seen - 4096 - 65536 - 512, 5));
}

static void what_is_no_store_is_refused_with_a_reason(void **state)
{
    static const struct {
        const char *path, *reason;
    } rows[] = {{"/tmp/holdfast-no-such-store", "No such file"},
                {"/tmp", "directory"},
                {"/dev/null", "neither"}};
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        struct config_store config = {.name = "test", .io = CONFIG_IO_BUFFERED};
        snprintf(config.path, sizeof config.path, "%s", rows[i].path);
        char why[TRACE_LINE];
        const char *reason = stores_open(&stores, &config, why);
        assert_non_null(reason);
        assert_non_null(strstr(reason, rows[i].reason));
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_file, remove_file)
    const struct CMUnitTest tests[] = {
        TEST(direct_io_moves_the_bytes),
        TEST(buffered_io_moves_the_bytes),
        TEST(past_the_end_are_zeros),
        TEST(zeroing_and_trimming_leave_zeros_and_nothing_else),
        TEST(a_trim_gives_blocks_back_and_block_status_sees_the_hole),
        TEST(an_operation_past_its_time_is_not_submitted),
        TEST(a_short_write_goes_on_until_it_is_whole_or_fails),
        TEST(a_store_that_cannot_zero_a_range_is_written_zeros),
        TEST(what_is_no_store_is_refused_with_a_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
