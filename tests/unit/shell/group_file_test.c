/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Groups' records on disk: what was kept is read again, what is damaged, cut short, too long or
 * another group's is not taken and says so, a crash between two writes leaves the old record, and
 * what cannot be written is reported. */

#include "shell/group_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

enum { MOST = 70000 };

static struct config config;
static struct loop loop;
static struct group_files files;
static uint32_t kept_count;
static bool kept_good;
static uint8_t kept_group;
static char folder[] = "/tmp/holdfast-group-test-XXXXXX";
static const uint8_t id[GROUP_ID_SIZE] = "sixteen letters", other_id[GROUP_ID_SIZE] = "another";

static void on_kept(void *context, uint8_t group, bool good)
{
    kept_count++;
    kept_good = good;
    kept_group = group;
}

static void save(uint8_t group, const void *record, uint32_t length)
{
    uint32_t before = kept_count;
    group_files_save(&files, group, id, record, length);
    for (int i = 0; i < 500 && kept_count == before; i++)
        loop_turn(&loop, loop_clock_us() + 10000);
    assert_int_equal(kept_count, before + 1);
    assert_int_equal(kept_group, group);
}

/* NULL and the record in `into`, or the sentence. */
static const char *load(uint8_t group, const uint8_t *as, uint8_t *into, uint32_t *length)
{
    static char why[TRACE_LINE];
    uint8_t *bytes;
    const uint8_t *record;
    const char *wrong = group_files_load(&files, group, as, MOST, &bytes, &record, length, why);
    if (wrong)
        assert_null(bytes);
    else if (bytes)
        memcpy(into, record, *length);
    else
        *length = 0;
    free(bytes);
    return wrong;
}

static const char *path_of(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/group/%s", folder, name);
    return path;
}

static uint32_t read_file(const char *name, uint8_t *bytes)
{
    FILE *file = fopen(path_of(name), "rb");
    assert_non_null(file);
    uint32_t size = (uint32_t)fread(bytes, 1, 2 * MOST, file);
    fclose(file);
    return size;
}

static void write_file(const char *name, const uint8_t *bytes, uint32_t size)
{
    FILE *file = fopen(path_of(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

static int begin(void **state)
{
    char why[TRACE_LINE];
    if (!mkdtemp(folder))
        return -1;
    config.group_count = 2;
    strcpy(config.groups[0].name, "db");
    strcpy(config.groups[1].name, "web");
    snprintf(config.controllers[1].run, sizeof config.controllers[1].run, "%s", folder);
    if (loop_open(&loop, 64, -1))
        return -1;
    return group_files_start(&files, &loop, &config, 1, on_kept, NULL, why) ? -1 : 0;
}

static int end(void **state)
{
    char path[256];
    static const char *const names[] = {"group/db",      "group/db.new", "group/web",
                                        "group/web.new", "group",        ""};
    for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        remove(path);
    }
    return 0;
}

static void what_was_kept_is_read_again(void **state)
{
    static uint8_t record[MOST], got[MOST];
    uint32_t length;
    assert_null(load(0, id, got, &length));
    assert_int_equal(length, 0);
    for (uint32_t i = 0; i < MOST; i++)
        record[i] = (uint8_t)(i * 7 + i / 251);
    save(0, record, MOST);
    assert_true(kept_good);
    assert_null(load(0, id, got, &length));
    assert_int_equal(length, MOST);
    assert_memory_equal(got, record, MOST);
    record[0] ^= 1;
    save(0, record, 100);
    assert_null(load(0, id, got, &length));
    assert_int_equal(length, 100);
    assert_memory_equal(got, record, 100);
    assert_null(load(1, id, got, &length));
    assert_int_equal(length, 0);
}

static void a_damaged_file_is_not_taken(void **state)
{
    static uint8_t bytes[2 * MOST], got[MOST];
    uint32_t length;
    save(1, "a record", 8);
    uint32_t size = read_file("web", bytes);
    assert_int_equal(size, GROUP_FILE_HEAD + 8 + 4);
    for (uint32_t i = 0; i < size; i++)
        for (int bit = 0; bit < 8; bit++) {
            bytes[i] ^= (uint8_t)(1 << bit);
            write_file("web", bytes, size);
            assert_non_null(load(1, id, got, &length));
            bytes[i] ^= (uint8_t)(1 << bit);
        }
    for (uint32_t cut = 0; cut < size; cut++) {
        write_file("web", bytes, cut);
        assert_non_null(load(1, id, got, &length));
    }
    bytes[size] = 0;
    write_file("web", bytes, size + 1);
    assert_non_null(strstr(load(1, id, got, &length), "its length is wrong"));
    write_file("web", bytes, size);
    assert_null(load(1, id, got, &length));
}

static void another_groups_record_is_not_taken(void **state)
{
    static uint8_t got[MOST];
    uint32_t length;
    save(1, "a record", 8);
    const char *wrong = load(1, other_id, got, &length);
    assert_non_null(wrong);
    assert_non_null(strstr(wrong, "other volumes, sizes or arrays"));
}

static void a_record_longer_than_it_can_be_is_not_taken(void **state)
{
    static uint8_t record[MOST + 1], got[MOST];
    uint32_t length;
    save(0, record, MOST + 1);
    assert_non_null(strstr(load(0, id, got, &length), "its length is wrong"));
    save(0, record, 5);
    assert_null(load(0, id, got, &length));
}

static void a_torn_new_file_leaves_the_old_record(void **state)
{
    static uint8_t got[MOST];
    uint32_t length;
    save(1, "the old one", 11);
    write_file("web.new", (const uint8_t *)"HFGR half of", 12);
    assert_null(load(1, id, got, &length));
    assert_int_equal(length, 11);
    save(1, "the new one", 11);
    assert_null(load(1, id, got, &length));
    assert_memory_equal(got, "the new one", 11);
}

static void what_cannot_be_written_is_reported(void **state)
{
    static uint8_t got[MOST];
    uint32_t length;
    save(1, "before", 6);
    assert_int_equal(mkdir(path_of("web.new"), 0700), 0);
    save(1, "after", 5);
    assert_false(kept_good);
    assert_int_equal(rmdir(path_of("web.new")), 0);
    assert_null(load(1, id, got, &length));
    assert_memory_equal(got, "before", 6);
    save(1, "after", 5);
    assert_true(kept_good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_kept_is_read_again),
        cmocka_unit_test(a_damaged_file_is_not_taken),
        cmocka_unit_test(another_groups_record_is_not_taken),
        cmocka_unit_test(a_record_longer_than_it_can_be_is_not_taken),
        cmocka_unit_test(a_torn_new_file_leaves_the_old_record),
        cmocka_unit_test(what_cannot_be_written_is_reported),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
