/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Sets of groups in the configuration: what a good file gives, every mistake with its sentence, and
 * what does not fit between the arrays that take part in one. */

#include "config_texts.h"

static struct config other;

#define CONTROLLERS                                                                                \
    "register = /r/register\n"                                                                     \
    "[controller a]\nlink = 127.0.0.1:1\nwarden = 127.0.0.1:2\nnbd = 127.0.0.1:3\n"                \
    "run = /r/a\ncopy = 127.0.0.1:4\n"                                                             \
    "[controller b]\nlink = 127.0.0.1:11\nwarden = 127.0.0.1:12\nnbd = 127.0.0.1:13\n"             \
    "run = /r/b\ncopy = 127.0.0.1:14\n"                                                            \
    "[store disk]\npath = /s/disk.img\n"                                                           \
    "[volume one]\nstore = disk\nsize = 8M\n"                                                      \
    "[volume two]\nstore = disk\noffset = 8M\nsize = 8M\n" /* lines 3 to 24 */
#define SET "set = shop\nset_arrays = berlin, paris 10.3.0.1:3262 10.3.0.2:3262\n"

static const char berlin[] =
    "[array]\nname = berlin\n" CONTROLLERS
    "[group orders]\nrole = send\narray = munich\naddress = 10.2.0.1:1, 10.2.0.2:1\n" /* 25 to 28 */
    "secret = twelve letters and more\nvolumes = one\n"                               /* 29, 30 */
    SET "hold = 20ms\n"; /* 31, 32, 33 */
static const char paris[] =
    "[array]\nname = paris\n" CONTROLLERS
    "[group stock]\nrole = send\narray = munich\naddress = 10.2.0.1:1, 10.2.0.2:1\n"
    "secret = twelve letters and more\nvolumes = one:two\n" SET "hold = 20ms\n";
static const char munich[] =
    "[array]\nname = munich\n" CONTROLLERS
    "[group orders]\nrole = receive\narray = berlin\nsecret = twelve letters and more\n"
    "volumes = one\n" SET
    "[group stock]\nrole = receive\narray = paris\nsecret = twelve letters and more\n"
    "volumes = two:one\n" SET;

static void a_good_file_gives_what_it_says(void **state)
{
    if (!parse(berlin, &config))
        fail_msg("%s", errors.text[0]);
    const struct config_group *group = &config.groups[0];
    assert_string_equal(group->set, "shop");
    assert_int_equal(group->set_count, 2);
    assert_int_equal(group->hold_ms, 20);
    assert_string_equal(group->set_arrays[0].name, "berlin");
    assert_int_equal(group->set_arrays[0].address_count, 0);
    assert_string_equal(group->set_arrays[1].name, "paris");
    assert_int_equal(group->set_arrays[1].address_count, 2);
    assert_string_equal(group->set_arrays[1].addresses[1].host, "10.3.0.2");
    assert_int_equal(config_set_place_of(&config, group), 0);
    assert_int_equal(config_set_place(group, "paris"), 1);
    assert_int_equal(config_set_place(group, "munich"), -1);
    if (!parse(munich, &config))
        fail_msg("%s", errors.text[0]);
    assert_int_equal(config_set_place_of(&config, &config.groups[0]), 0);
    assert_int_equal(config_set_place_of(&config, &config.groups[1]), 1);
    assert_int_equal(config.groups[1].hold_ms, CONFIG_HOLD_MS);
    if (!parse(paris, &config))
        fail_msg("%s", errors.text[0]);
}

static const struct row {
    const char *file, *find, *replace;
    const char *message;
} rows[] = {
    {berlin, "set = shop\n", "",
     "f:31: [group orders] set_arrays = berlin, paris 10.3.0.1:3262 10.3.0.2:3262: needs set = in "
     "the same section"},
    {berlin, "set_arrays = berlin, paris 10.3.0.1:3262 10.3.0.2:3262\n", "",
     "f:31: [group orders] set = shop: needs set_arrays = in the same section"},
    {berlin, SET, "", "f:31: [group orders] hold = 20ms: needs set = in the same section"},
    {berlin, "set = shop", "set = orders",
     "f:31: [group orders] set = orders: a group has this name, and commands take both; write "
     "another one"},
    {berlin, "hold = 20ms", "hold = 2s",
     "f:33: [group orders] hold = 2s: out of range; write 1ms to 1s"},
    {berlin, "set = shop", "set = Shop",
     "f:31: [group orders] set = Shop: it stands in an iSCSI name; write a-z 0-9 . - only, with a "
     "letter or digit first"},
    {berlin, "berlin, paris 10.3.0.1:3262 10.3.0.2:3262", "berlin",
     "f:32: [group orders] set_arrays = berlin: one array makes no set; write all primary arrays, "
     "the one that coordinates first"},
    {berlin, "berlin, paris 10.3.0.1:3262 10.3.0.2:3262", "berlin, paris 1.1.1.1:1, berlin",
     "f:32: [group orders] set_arrays = berlin, paris 1.1.1.1:1, berlin: berlin stands here twice"},
    {berlin, "berlin, paris 10.3.0.1:3262 10.3.0.2:3262", "berlin, a, b, c, d",
     "f:32: [group orders] set_arrays = berlin, a, b, c, d: more than 4 arrays"},
    {berlin, "berlin, paris 10.3.0.1:3262 10.3.0.2:3262", "berlin, paris 1.1.1.1:1 1.1.1.1:2 x",
     "f:32: [group orders] set_arrays = berlin, paris 1.1.1.1:1 1.1.1.1:2 x: more than two "
     "addresses of paris"},
    {berlin, "berlin, paris 10.3.0.1:3262 10.3.0.2:3262", "berlin, paris unix:/x",
     "f:32: [group orders] set_arrays = berlin, paris unix:/x: the other array connects by TCP; "
     "write ADDRESS:PORT or [IPV6]:PORT"},
    {berlin, "berlin, paris 10.3.0.1:3262 10.3.0.2:3262", "berlin, paris",
     "f:32: [group orders] set_arrays = berlin, paris: no address behind paris; this array "
     "coordinates, and goes to those that stand as copy = there"},
    {berlin, "berlin, paris 10.3.0.1:3262 10.3.0.2:3262", "rome, paris 1.1.1.1:1",
     "f:32: [group orders] set_arrays = rome, paris 1.1.1.1:1: berlin, where the group's hosts "
     "write, is not among them"},
    {munich, "berlin, paris 10.3.0.1:3262 10.3.0.2:3262", "berlin, rome",
     "f:38: [group stock] set_arrays = berlin, rome: paris, where the group's hosts write, is not "
     "among them"},
    {munich, "berlin, paris 10.3.0.1:3262 10.3.0.2:3262", "paris, berlin",
     "f:37: [group stock] set = shop: other arrays, or another order, than in another group of the "
     "set; write the same line"},
    {munich, "array = paris\nsecret = twelve letters and more\nvolumes = two:one",
     "array = berlin\nsecret = twelve letters and more\nvolumes = two",
     "f:37: [group stock] set = shop: another group of the same primary array is in the set; one "
     "group of each array is, so put all its volumes into that one"},
    {munich, "secret = twelve letters and more", "secret = other letters and more",
     "f:37: [group stock] set = shop: the groups of a set have one secret; write the same"},
};

static void every_mistake_has_its_message(void **state)
{
    unsigned wrong = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char *text = changed_last(rows[i].file, rows[i].find, rows[i].replace);
        assert_false(parse(text, &config));
        if (!said_just(&rows[i].message, 1)) {
            print_error("in row %zu\n", i);
            wrong++;
        }
        free(text);
    }
    assert_int_equal(wrong, 0);
}

static void whoever_is_coordinated_listens(void **state)
{
    char *text = changed_last(paris, "copy = 127.0.0.1:14\n", ""), *none;
    none = changed_last(text, "copy = 127.0.0.1:4\n", "");
    assert_false(parse(none, &config));
    assert_int_equal(errors.total, 2);
    assert_string_equal(errors.text[0],
                        "f:23: [group stock]: array berlin coordinates the set, but [controller a] "
                        "has no copy = for it to come to; write one");
    free(text);
    free(none);
    text = changed_last(berlin, "copy = 127.0.0.1:14\n", "");
    none = changed_last(text, "copy = 127.0.0.1:4\n", "");
    assert_true(parse(none, &config)); /* the coordinator goes out itself */
    free(text);
    free(none);
}

static const struct pair {
    const char *here, *there, *find, *replace;
    const char *said; /* NULL: they fit */
} pairs[] = {
    {berlin, paris, "shop", "shop", NULL},
    {berlin, munich, "shop", "shop", NULL},
    {munich, paris, "shop", "shop", NULL},
    {berlin, paris, "secret = twelve", "secret = eleven",
     "f: [orders] secret: not that of [group stock] in g; the groups of a set have one secret"},
    {berlin, paris, "hold = 20ms", "hold = 30ms",
     "f: [orders] hold: 20 ms, and 30 ms for [group stock] in g; write the same"},
    {berlin, paris, "hold = 20ms", "tls_psk = /k\nhold = 20ms",
     "f: [orders] tls_psk: [group stock] in g proves itself by other means; write the same kind of "
     "TLS keys in both"},
    {berlin, paris, "berlin, paris 10.3.0.1:3262 10.3.0.2:3262", "berlin, paris, rome",
     "f: [orders] set_arrays: other arrays, or another order, than of [group stock] in g; write "
     "the same line"},
    {paris, munich, "set = shop", "set = shops",
     "f: [stock] set: \"shop\" here and \"shops\" in g; write the same set = and set_arrays = in "
     "both"},
    {paris, munich, SET, "",
     "f: [stock] set: \"shop\" here and \"\" in g; write the same set = and set_arrays = in both"},
    {berlin, paris, "set = shop", "set = shops", "f: no group is copied to or from paris of g"},
};

static void arrays_of_a_set_are_compared(void **state)
{
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        char *text = changed_last(pairs[i].there, pairs[i].find, pairs[i].replace);
        assert_true(parse(pairs[i].here, &config));
        if (!parse(text, &other))
            fail_msg("pair %zu: %s", i, errors.text[0]);
        bool fits = config_compare(&config, "f", &other, "g", &errors);
        if (fits != !pairs[i].said || (!fits && strcmp(errors.text[0], pairs[i].said) != 0))
            fail_msg("pair %zu: %s", i, fits ? "fits" : errors.text[0]);
        bool strangers = pairs[i].said && strstr(pairs[i].said, "no group is");
        assert_int_equal(config_related(&config, &other), !strangers);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_file_gives_what_it_says),
        cmocka_unit_test(every_mistake_has_its_message),
        cmocka_unit_test(whoever_is_coordinated_listens),
        cmocka_unit_test(arrays_of_a_set_are_compared),
    };
    return cmocka_run_group_tests_name("config_set", tests, NULL, NULL);
}
