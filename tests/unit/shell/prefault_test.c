/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Touching memory ahead: in small steps, only while the machine has memory to spare, and without
 * changing a byte. */

#include "shell/prefault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { MIB = 1 << 20 };

static void it_goes_in_steps_while_a_quarter_is_free(void **state)
{
    static const struct {
        size_t left;
        uint64_t free, total;
        size_t step;
    } rows[] = {
        {100 * MIB, 600 * MIB, 1000 * MIB, 2 * MIB},
        {MIB, 600 * MIB, 1000 * MIB, MIB},
        {0, 600 * MIB, 1000 * MIB, 0},
        {100 * MIB, 252 * MIB, 1000 * MIB, 2 * MIB},
        {100 * MIB, 251 * MIB, 1000 * MIB, 0},
        {100 * MIB, 0, 1000 * MIB, 0},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++)
        assert_int_equal(prefault_step(rows[i].left, rows[i].free, rows[i].total), rows[i].step);
}

static void what_was_written_stays(void **state)
{
    enum { SIZE = 8 * MIB };
    uint8_t *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    memset(memory + 3 * MIB, 0x5a, MIB);
    prefault_start(memory, SIZE);
    unsigned char there[SIZE / 4096];
    bool touched = false;
    for (int i = 0; i < 500 && !touched; i++) {
        usleep(10000);
        assert_int_equal(mincore(memory, SIZE, there), 0);
        touched = there[sizeof there - 1] & 1;
    }
    uint64_t free_bytes = (uint64_t)sysconf(_SC_AVPHYS_PAGES) * 4096;
    uint64_t total_bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * 4096;
    if (!touched && prefault_step(SIZE, free_bytes, total_bytes) == 0)
        skip(); /* the machine has none to spare */
    assert_true(touched);
    for (size_t i = 0; i < SIZE; i++)
        assert_int_equal(memory[i], i >= 3 * MIB && i < 4 * MIB ? 0x5a : 0);
    /* The memory stays mapped: the thread may still be at its end. */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_goes_in_steps_while_a_quarter_is_free),
        cmocka_unit_test(what_was_written_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
