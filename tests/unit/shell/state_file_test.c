/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* State records on disk: what was kept is read again, what is damaged is not taken, the newest of
 * several is what stays, and a record that is to be kept no more is gone. */

#include "shell/state_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static struct config config;
static struct loop loop;
static struct state_files files;
static uint32_t saved_count;
static char folder[] = "/tmp/holdfast-state-test-XXXXXX";

static void on_saved(void *context)
{
    saved_count++;
}

static void wait_saved(uint8_t volume)
{
    for (int i = 0; i < 500 && state_files_busy(&files, volume); i++)
        loop_turn(&loop, loop_clock_us() + 10000);
    assert_false(state_files_busy(&files, volume));
}

static int begin(void **state)
{
    char why[TRACE_LINE];
    if (!mkdtemp(folder))
        return -1;
    config.volume_count = 2;
    strcpy(config.volumes[0].name, "alpha");
    strcpy(config.volumes[1].name, "beta");
    snprintf(config.controllers[1].run, sizeof config.controllers[1].run, "%s", folder);
    if (loop_open(&loop, 64, -1))
        return -1;
    return state_files_start(&files, &loop, &config, 1, on_saved, NULL, why) ? -1 : 0;
}

static int end(void **state)
{
    char path[256];
    static const char *const names[] = {"state/alpha", "state/beta", "state", ""};
    for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        remove(path);
    }
    return 0;
}

static void what_was_kept_is_read_again(void **state)
{
    uint8_t record[VOLUME_STATE_BYTES];
    const uint8_t *back;
    uint32_t version, length;
    assert_false(state_files_load(&files, 0, &version, &back, &length));
    memset(record, 0x5a, sizeof record);
    for (uint32_t i = 1; i <= 20; i++) {
        record[0] = (uint8_t)i;
        state_files_save(&files, 0, i, record, i == 20 ? sizeof record : 100);
        assert_true(state_files_busy(&files, 0));
        assert_false(state_files_busy(&files, 1));
    }
    wait_saved(0);
    assert_true(saved_count > 0);
    assert_true(state_files_load(&files, 0, &version, &back, &length));
    assert_int_equal(version, 20);
    assert_int_equal(length, sizeof record);
    assert_memory_equal(back, record, sizeof record);
    assert_false(state_files_load(&files, 1, &version, &back, &length));
}

static void a_record_that_is_kept_no_more_is_gone(void **state)
{
    const uint8_t *back;
    uint32_t version, length;
    state_files_save(&files, 1, 7, "x", 1);
    wait_saved(1);
    assert_true(state_files_load(&files, 1, &version, &back, &length));
    state_files_save(&files, 1, 8, NULL, 0);
    wait_saved(1);
    assert_false(state_files_load(&files, 1, &version, &back, &length));
    state_files_save(&files, 1, 9, NULL, 0); /* nothing to do, and nothing is waited for */
    assert_false(state_files_busy(&files, 1));
}

static void what_is_damaged_is_not_taken(void **state)
{
    uint8_t bytes[STATE_FILE_BYTES];
    uint32_t version, length, size = state_file_encode(bytes, 3, "record", 6);
    const uint8_t *record;
    assert_null(state_file_decode(bytes, size, &version, &record, &length));
    assert_int_equal(version, 3);
    assert_int_equal(length, 6);
    for (uint32_t i = 0; i < size; i++) {
        bytes[i] ^= 0x10;
        assert_non_null(state_file_decode(bytes, size, &version, &record, &length));
        bytes[i] ^= 0x10;
        assert_non_null(state_file_decode(bytes, i, &version, &record, &length));
    }
    assert_non_null(state_file_decode(bytes, size + 1, &version, &record, &length));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_kept_is_read_again),
        cmocka_unit_test(a_record_that_is_kept_no_more_is_gone),
        cmocka_unit_test(what_is_damaged_is_not_taken),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
