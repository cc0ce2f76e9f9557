/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The configuration's groups: what a good file gives, every mistake with its sentence, and what of
 * two arrays' files does not fit. Each row changes one piece of a good file and names all the
 * messages that must come of it. */

#include "config_texts.h"

static struct config other;

#define COMMON                                                                                     \
    "register = /r/register\n"    /* 3 */                                                          \
    "[controller a]\n"            /* 4 */                                                          \
    "link = 127.0.0.1:1\n"        /* 5 */                                                          \
    "warden = 127.0.0.1:2\n"      /* 6 */                                                          \
    "nbd = 127.0.0.1:3\n"         /* 7 */                                                          \
    "cpu = 0\n"                   /* 8 */                                                          \
    "run = /r/a\n"                /* 9 */                                                          \
    "[controller b]\n"            /* 10 */                                                         \
    "link = 127.0.0.1:11\n"       /* 11 */                                                         \
    "warden = 127.0.0.1:12\n"     /* 12 */                                                         \
    "nbd = 127.0.0.1:13\n"        /* 13 */                                                         \
    "cpu = 1\n"                   /* 14 */                                                         \
    "run = /r/b\n"                /* 15 */                                                         \
    "[store disk]\n"              /* 16 */                                                         \
    "path = /s/disk.img\n"        /* 17 */                                                         \
    "[volume data]\n"             /* 18 */                                                         \
    "store = disk\nsize = 1G\n"   /* 19, 20 */                                                     \
    "[volume log]\n"              /* 21 */                                                         \
    "store = disk\noffset = 1G\n" /* 22, 23 */                                                     \
    "size = 8M\n"                 /* 24 */                                                         \
    "[volume rest]\n"             /* 25 */                                                         \
    "store = disk\noffset = 2G\n" /* 26, 27 */                                                     \
    "size = 1M\n"                 /* 28 */

static const char first[] = "[array]\nname = first\n"                        /* 1, 2 */
    COMMON "[group db]\n"                                                    /* 29 */
                            "role = send\n"                                  /* 30 */
                            "array = second\n"                               /* 31 */
                            "address = 192.0.2.1:4000, [2001:db8::1]:4000\n" /* 32 */
                            "secret = twelve letters and more\n"             /* 33 */
                            "volumes = data:data2, log\n"                    /* 34 */
                            "cycle = 2s\n"                                   /* 35 */
                            "memory = 12M\n"                                 /* 36 */
                            "bandwidth = 100M\n"                             /* 37 */
                            "tls_psk = /k/psk\n"                             /* 38 */
                            "[group misc]\n"                                 /* 39 */
                            "role = send\n"                                  /* 40 */
                            "array = second\n"                               /* 41 */
                            "address = 192.0.2.1:4000\n"                     /* 42 */
                            "secret = another twelve letters\n"              /* 43 */
                            "volumes = rest\n"                               /* 44 */
                            "tls_certificate = /k/crt\n"                     /* 45 */
                            "tls_key = /k/key\n"                             /* 46 */
                            "tls_authority = /k/ca\n";                       /* 47 */

static const char second[] = "[array]\nname = second\n"
                             "register = /r/register\n"
                             "[controller a]\nlink = 127.0.0.1:1\nwarden = 127.0.0.1:2\n"
                             "nbd = 127.0.0.1:3\ncopy = 127.0.0.1:4\nrun = /r/a\n"
                             "[controller b]\nlink = 127.0.0.1:11\nwarden = 127.0.0.1:12\n"
                             "nbd = 127.0.0.1:13\ncopy = [::1]:14\nrun = /r/b\n"
                             "[store disk]\npath = /s/disk.img\n"
                             "[volume data2]\nstore = disk\nsize = 1G\n"
                             "[volume log]\nstore = disk\noffset = 1G\nsize = 8M\n"
                             "[volume rest]\nstore = disk\noffset = 2G\nsize = 1M\n"
                             "[group db]\nrole = receive\narray = first\n"
                             "secret = twelve letters and more\n"
                             "volumes = data2:data, log\nexpose = read-only\ntls_psk = /k/psk\n"
                             "[group misc]\nrole = receive\narray = first\n"
                             "secret = another twelve letters\nvolumes = rest\n"
                             "tls_psk = /k/psk\n";

static void a_good_file_gives_what_it_says(void **state)
{
    if (!parse(first, &config))
        print_error("%s\n", errors.text[0]);
    assert_int_equal(errors.total, 0);
    assert_int_equal(config.group_count, 2);
    const struct config_group *db = &config.groups[0], *misc = &config.groups[1];
    assert_string_equal(db->name, "db");
    assert_string_equal(db->array, "second");
    assert_false(db->receives);
    assert_int_equal(db->address_count, 2);
    assert_string_equal(db->addresses[1].host, "2001:db8::1");
    assert_string_equal(db->secret, "twelve letters and more");
    assert_int_equal(db->volume_count, 2);
    assert_int_equal(db->volumes[0].volume, 0);
    assert_string_equal(db->volumes[0].remote, "data2");
    assert_int_equal(db->volumes[1].volume, 1);
    assert_string_equal(db->volumes[1].remote, "log");
    assert_int_equal(db->cycle_ms, 2000);
    assert_int_equal(config_group_memory(&config, db), 12 << 20);
    assert_int_equal(db->bandwidth_bytes, 100 << 20);
    assert_string_equal(db->tls_psk, "/k/psk");
    assert_int_equal(misc->cycle_ms, 100);
    assert_int_equal(misc->bandwidth_bytes, 0);
    assert_int_equal(config_group_memory(&config, misc), 8 << 20);
    assert_string_equal(misc->tls_authority, "/k/ca");
    assert_ptr_equal(config_group_of(&config, 1), db);
    assert_ptr_equal(config_group_of(&config, 2), misc);
    assert_true(parse(second, &config));
    assert_string_equal(config.controllers[1].copy.host, "::1");
    assert_true(config.groups[0].receives);
    assert_true(config.groups[0].expose);
    assert_int_equal(config.groups[0].address_count, 0);
}

static const struct row {
    const char *find, *replace;
    const char *messages[3];
} rows[] = {
    {"[group db]",
     "[group DB]",
     {"f:29: [group DB]: it stands in an iSCSI name; write a-z 0-9 . - only, with a letter or "
      "digit "
      "first"}},
    {"name = first",
     "name = First",
     {"f:2: [array] name = First: it stands in an iSCSI name; write a-z 0-9 . - only, with a "
      "letter "
      "or digit first"}},
    {"array = second",
     "array = first",
     {"f:31: [group db] array = first: this array's own name: its volumes would be copied onto "
      "themselves; write the other array's"}},
    {"array = second\n", "", {"f:29: [group db] array: missing; this section needs it"}},
    {"role = send",
     "role = primary",
     {"f:30: [group db] role = primary: not a choice here; write send or receive"}},
    {"address = 192.0.2.1:4000, [2001:db8::1]:4000\n",
     "",
     {"f:29: [group db] address: missing; a group that sends needs the addresses that stand as "
      "copy "
      "= at the other array's controllers"}},
    {"192.0.2.1:4000, [2001:db8::1]:4000",
     "192.0.2.1:4000, 192.0.2.1:4000",
     {"f:32: [group db] address = 192.0.2.1:4000, 192.0.2.1:4000: 192.0.2.1:4000 stands here "
      "twice; "
      "write one of each controller"}},
    {"192.0.2.1:4000, [2001:db8::1]:4000",
     "1.1.1.1:1, 1.1.1.1:2, 1.1.1.1:3",
     {"f:32: [group db] address = 1.1.1.1:1, 1.1.1.1:2, 1.1.1.1:3: more than 2 addresses"}},
    {"192.0.2.1:4000, [2001:db8::1]:4000",
     "unix:/x",
     {"f:32: [group db] address = unix:/x: the other array connects by TCP; write ADDRESS:PORT or "
      "[IPV6]:PORT"}},
    {"cpu = 1",
     "copy = 0.0.0.0:14",
     {"f:4: [controller a] copy: missing, and the other controller has one; a group may be held by "
      "either: write both or none",
      "f:14: [controller b] copy = 0.0.0.0:14: \"any\" is no address to connect to; write the one "
      "that the other array reaches"}},
    {"cpu = 0",
     "copy = 127.0.0.1:3",
     {"f:7: [controller a] nbd = 127.0.0.1:3: 127.0.0.1:3 is taken by copy in [controller a]; "
      "write "
      "another address or port",
      "f:10: [controller b] copy: missing, and the other controller has one; a group may be held "
      "by either: write both or none",
      "f:39: [group misc]: other TLS files than [group db]; what comes to this array comes to one "
      "listener, copy =: write the same"}},
    {"secret = twelve letters and more\n",
     "secret = short\n",
     {"f:33: [group db] secret: 5 characters are too few; write 12 to 128"}},
    {"secret = twelve letters and more\n",
     "",
     {"f:29: [group db] secret: missing; this section needs it"}},
    {"data:data2, log",
     "data:data2, nothing",
     {"f:34: [group db] volumes = data:data2, nothing: there is no volume nothing; write a [volume "
      "nothing], or one that is there"}},
    {"data:data2, log",
     "data:data2, data:log",
     {"f:34: [group db] volumes = data:data2, data:log: the volume data stands here twice"}},
    {"data:data2, log",
     "data:data2, log:data2",
     {"f:34: [group db] volumes = data:data2, log:data2: data2 at the other array is already "
      "data's; "
      "write another one"}},
    {"data:data2, log",
     "data>data2, log",
     {"f:34: [group db] volumes = data>data2, log: \"data>data2\" names no volumes; write NAME or "
      "NAME:NAME-THERE"}},
    {"volumes = rest",
     "volumes = log",
     {"f:44: [group misc] volumes = log: the volume log is in [group db]; write it in one group"}},
    {"volumes = rest",
     "volumes = rest:log",
     {"f:44: [group misc] volumes = rest:log: log at the other array is already log's; write "
      "another "
      "one"}},
    {"cycle = 2s",
     "cycle = 1ms",
     {"f:35: [group db] cycle = 1ms: out of range; write 10ms to 3600s"}},
    {"memory = 12M", "memory = 1K", {"f:36: [group db] memory = 1K: out of range; write 1M to 1T"}},
    {"memory = 12M",
     "memory = 25M",
     {"f:39: [group misc] memory: the groups together take 33M, more than the 31M that a cache of "
      "256M leaves above dirty_high; write less, or a larger cache"}},
    {"bandwidth = 100M",
     "bandwidth = 9",
     {"f:37: [group db] bandwidth = 9: out of range; write 64K to 1T, in bytes a second"}},
    {"tls_psk = /k/psk",
     "tls_psk = psk",
     {"f:38: [group db] tls_psk = psk: not an absolute path; start it with /"}},
    {"tls_certificate = /k/crt",
     "tls_psk = /k/psk",
     {"f:45: [group misc] tls_psk = /k/psk: beside a certificate; write the one or the other, the "
      "same "
      "at both arrays"}},
    {"tls_key = /k/key\n",
     "",
     {"f:45: [group misc] tls_certificate = /k/crt: needs tls_key = in the same section"}},
    {"tls_authority = /k/ca\n",
     "",
     {"f:45: [group misc] tls_certificate = /k/crt: needs tls_authority = in the same section"}},
    {"tls_certificate = /k/crt\ntls_key = /k/key\n",
     "",
     {"f:45: [group misc] tls_authority = /k/ca: needs tls_certificate = in the same section"}},
    {"cycle = 2s",
     "compression = lzo",
     {"f:35: [group db] compression = lzo: not a choice here; write none or zstd"}},
    {"cycle = 2s",
     "expose = maybe",
     {"f:35: [group db] expose = maybe: not a choice here; write no or read-only"}},
    {"cycle = 2s",
     "cycles = 2s",
     {"f:35: [group db] cycles: no such key here; the keys are role, array, address, secret, "
      "volumes, "
      "cycle, memory, bandwidth, tls_psk, tls_certificate, tls_key, tls_authority, expose, "
      "compression, set, set_arrays, hold"}},
};

static void every_mistake_has_its_message(void **state)
{
    unsigned wrong = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char *text = changed(first, rows[i].find, rows[i].replace);
        assert_false(parse(text, &config));
        if (!said_just(rows[i].messages, 3)) {
            print_error("in row %zu\n", i);
            wrong++;
        }
        free(text);
    }
    assert_int_equal(wrong, 0);
}

static void a_receiver_needs_a_place_to_listen_at(void **state)
{
    char *text = changed(second, "copy = [::1]:14\n", "");
    assert_false(parse(text, &config));
    assert_int_equal(errors.total, 2);
    assert_non_null(
        strstr(errors.text[0], "receives, but [controller b] has no copy = to listen at"));
    free(text);
}

static void a_received_group_is_at_one_controller(void **state)
{
    char *text = changed(second, "offset = 1G\n", "offset = 1G\nowner = b\n");
    assert_false(parse(text, &config));
    assert_int_equal(errors.total, 1);
    assert_non_null(strstr(errors.text[0],
                           "[group db] volumes = data2:data, log: data2 has owner a "
                           "and log b, and one controller holds a group that is "
                           "received; write the same"));
    free(text);
    text = changed(first, "offset = 1G\n", "offset = 1G\nowner = b\n");
    assert_true(parse(text, &config)); /* a group that is sent may be at both */
    free(text);
}

static void all_that_is_received_comes_by_the_same_tls(void **state)
{
    char *text = changed(second, "tls_psk = /k/psk\n", "");
    assert_false(parse(text, &config));
    assert_int_equal(errors.total, 1);
    assert_non_null(strstr(errors.text[0], "[group misc]: other TLS files than [group db]"));
    free(text);
}

static void no_message_shows_a_secret(void **state)
{
    char *text = changed(first, "secret = twelve letters and more",
                         "secret = twelve letters and more\nsecret = twelve letters and more");
    assert_false(parse(text, &config));
    for (uint32_t i = 0; i < errors.count; i++)
        assert_null(strstr(errors.text[i], "letters"));
    free(text);
}

static void two_arrays_are_compared(void **state)
{
    static const struct {
        const char *find, *replace, *said;
    } pairs[] = {
        {"size = 8M", "size = 4M",
         "f: [db] volumes: log has 8388608 bytes here and log 4194304 there; make them the same "
         "size"},
        {"volumes = data2:data, log", "volumes = log, data2:data",
         "f: [db] volumes: number 1 is data:data2 here and log:log there; write the same pairs in "
         "the same order"},
        {"volumes = data2:data, log", "volumes = data2:data",
         "f: [db] volumes: 2 here and 1 there; write the same pairs"},
        {"role = receive\narray = first\nsecret = twelve",
         "role = send\naddress = 1.1.1.1:1\narray = first\nsecret = twelve",
         "f: [db] role: the same at both arrays; one sends and the other receives"},
        {"secret = twelve letters and more", "secret = some other letters here",
         "f: [db] secret: not the other array's; write the same"},
        {"tls_psk = /k/psk\n", "",
         "f: [db] tls_psk: one array proves itself by other means than the other; write the same "
         "kind of TLS keys in both"},
        {"[group db]", "[group web]", "f: [db]: there is no such group in g"},
        {"array = first", "array = third", "f: [db] array: there it is third's, not this array's"},
        {"role = receive\narray = first\nsecret = twelve",
         "role = receive\narray = first\naddress = 1.1.1.1:1\nsecret = twelve",
         "f: [controller a] copy: missing, and g sends group db back here; write it in both "
         "controllers' sections"},
    };
    char *here =
        changed(first, "tls_certificate = /k/crt\ntls_key = /k/key\ntls_authority = /k/ca\n",
                "tls_psk = /k/psk\n");
    assert_true(parse(here, &config));
    free(here);
    assert_true(parse(second, &other));
    assert_true(config_compare(&config, "f", &other, "g", &errors));
    assert_true(config_compare(&other, "g", &config, "f", &errors));
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        char *text = changed(second, pairs[i].find, pairs[i].replace);
        if (pairs[i].replace[0] == '\0') { /* in both groups */
            char *more = changed(text, pairs[i].find, "");
            free(text);
            text = more;
        }
        if (strstr(pairs[i].replace, "role = send")) {
            char *more = changed(text, "expose = read-only\n", "");
            free(text);
            text = more;
        }
        if (!parse(text, &other))
            fail_msg("pair %zu: %s", i, errors.text[0]);
        assert_false(config_compare(&config, "f", &other, "g", &errors));
        if (strcmp(errors.text[0], pairs[i].said) != 0)
            fail_msg("pair %zu: %s", i, errors.text[0]);
        free(text);
    }
    char *back = changed(second, "array = first\n", "array = first\naddress = 1.1.1.1:1\n");
    assert_true(parse(back, &other));
    free(back);
    assert_false(config_compare(&other, "g", &config, "f", &errors));
    assert_string_equal(errors.text[0],
                        "g: [db] address: nothing listens there: f has no copy =; write it there, "
                        "or no address");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_file_gives_what_it_says),
        cmocka_unit_test(every_mistake_has_its_message),
        cmocka_unit_test(a_receiver_needs_a_place_to_listen_at),
        cmocka_unit_test(a_received_group_is_at_one_controller),
        cmocka_unit_test(all_that_is_received_comes_by_the_same_tls),
        cmocka_unit_test(no_message_shows_a_secret),
        cmocka_unit_test(two_arrays_are_compared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
