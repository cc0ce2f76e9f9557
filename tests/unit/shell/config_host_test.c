/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The configuration's iSCSI half: portals, hosts, their names and secrets, LUNs, and what SCSI
 * hosts see of a volume. Each row changes one piece of a good file and names all the messages that
 * must come of it. */

#include "config_texts.h"

#include <sys/stat.h>
#include <unistd.h>

#define HEAD                                                                                       \
    "[array]\n"                            /* 1 */                                                 \
    "name = demo\n"                        /* 2 */                                                 \
    "register = /r/register\n"             /* 3 */                                                 \
    "[controller a]\n"                     /* 4 */                                                 \
    "link = 127.0.0.1:1\n"                 /* 5 */                                                 \
    "warden = 127.0.0.1:2\n"               /* 6 */                                                 \
    "nbd = 127.0.0.1:3\n"                  /* 7 */                                                 \
    "iscsi = 127.0.0.1:3260, [::1]:3260\n" /* 8 */                                                 \
    "run = /r/a\n"                         /* 9 */                                                 \
    "[controller b]\n"                     /* 10 */                                                \
    "link = 127.0.0.1:11\n"                /* 11 */                                                \
    "warden = 127.0.0.1:12\n"              /* 12 */                                                \
    "nbd = 127.0.0.1:13\n"                 /* 13 */                                                \
    "iscsi = 127.0.0.2:3260\n"             /* 14 */                                                \
    "run = /r/b\n"                         /* 15 */                                                \
    "[store disk]\n"                       /* 16 */                                                \
    "path = /s/disk.img\n"                 /* 17 */                                                \
    "[volume vol0]\n"                      /* 18 */                                                \
    "store = disk\n"                       /* 19 */                                                \
    "size = 1G\n"                          /* 20 */                                                \
    "block = 4096\n"                       /* 21 */                                                \
    "transition = busy\n"                  /* 22 */                                                \
    "[volume vol1]\n"                      /* 23 */                                                \
    "store = disk\n"                       /* 24 */                                                \
    "offset = 1G\n"                        /* 25 */                                                \
    "size = 512\n"                         /* 26 */
static const char good[] =
    HEAD "[host web]\n"                                                     /* 27 */
         "initiator = iqn.2004-10.com.example:web1, eui.0123456789abcdef\n" /* 28 */
         "chap_user = web\n"                                                /* 29 */
         "chap_secret = twelve letters and more\n"                          /* 30 */
         "mutual_user = array\n"                                            /* 31 */
         "mutual_secret = another secret of ours\n"                         /* 32 */
         "volumes = vol1@7:ro, vol0\n"                                      /* 33 */
         "[host backup]\n"                                                  /* 34 */
         "initiator = naa.5000c500a1b2c3d4\n"                               /* 35 */
         "volumes = vol0:ro\n";                                             /* 36 */

static void a_good_file_gives_what_it_says(void **state)
{
    if (!parse(good, &config))
        print_error("%s\n", errors.text[0]);
    assert_int_equal(errors.total, 0);
    const struct config_controller *a = &config.controllers[0];
    assert_int_equal(a->iscsi_count, 2);
    assert_string_equal(a->iscsi[0].host, "127.0.0.1");
    assert_string_equal(a->iscsi[1].host, "::1");
    assert_int_equal(a->iscsi[1].port, 3260);
    assert_int_equal(config.controllers[1].iscsi_count, 1);
    assert_int_equal(config.scsi[0].block_size_bytes, 4096);
    assert_int_equal(config.scsi[0].transition, CONFIG_TRANSITION_BUSY);
    assert_int_equal(config.scsi[1].block_size_bytes, 512);
    assert_int_equal(config.scsi[1].transition, CONFIG_TRANSITION_WAIT);
    assert_int_equal(config.host_count, 2);
    const struct config_host *web = &config.hosts[0];
    assert_string_equal(web->name, "web");
    assert_int_equal(web->initiator_count, 2);
    assert_string_equal(web->initiators[1], "eui.0123456789abcdef");
    assert_string_equal(web->chap_user, "web");
    assert_string_equal(web->chap_secret, "twelve letters and more");
    assert_string_equal(web->mutual_user, "array");
    assert_string_equal(web->mutual_secret, "another secret of ours");
    /* A LUN that is not given is one more than the one before it. */
    assert_int_equal(web->lun_count, 2);
    assert_int_equal(web->luns[0].lun, 7);
    assert_int_equal(web->luns[0].volume, 1);
    assert_true(web->luns[0].read_only);
    assert_int_equal(web->luns[1].lun, 8);
    assert_int_equal(web->luns[1].volume, 0);
    assert_false(web->luns[1].read_only);
    assert_int_equal(config.hosts[1].luns[0].lun, 0);
    assert_true(config.hosts[1].luns[0].read_only);
    assert_string_equal(config.hosts[1].chap_secret, "");
}

static void without_iscsi_nothing_is_there(void **state)
{
    char *text = strdup(good);
    assert_non_null(text);
    *strstr(text, "[host web]") = '\0';
    char *at = strstr(text, "iscsi = 127.0.0.1");
    memset(at, ';', strcspn(at, "\n"));
    at = strstr(text, "iscsi = 127.0.0.2");
    memset(at, ';', strcspn(at, "\n"));
    assert_true(parse(text, &config));
    assert_int_equal(config.controllers[0].iscsi_count, 0);
    assert_int_equal(config.host_count, 0);
    assert_null(config_host_of(&config, "iqn.2004-10.com.example:web1"));
    free(text);
}

static void a_host_is_found_by_each_of_its_names_in_any_case(void **state)
{
    assert_true(parse(good, &config));
    assert_ptr_equal(config_host_of(&config, "iqn.2004-10.com.example:web1"), &config.hosts[0]);
    assert_ptr_equal(config_host_of(&config, "IQN.2004-10.com.Example:WEB1"), &config.hosts[0]);
    assert_ptr_equal(config_host_of(&config, "eui.0123456789abcdef"), &config.hosts[0]);
    assert_ptr_equal(config_host_of(&config, "naa.5000c500a1b2c3d4"), &config.hosts[1]);
    assert_null(config_host_of(&config, "iqn.2004-10.com.example:web"));
    assert_null(config_host_of(&config, ""));
}

static const struct row {
    const char *find, *replace;
    const char *messages[3];
} rows[] = {
    /* portals */
    {"[::1]:3260",
     "0.0.0.0:3260",
     {"f:8: [controller a] iscsi = 127.0.0.1:3260, 0.0.0.0:3260: hosts are told this address at "
      "discovery, so \"any\" is no answer; write each address that they shall use"}},
    {"[::1]:3260",
     "unix:/x",
     {"f:8: [controller a] iscsi = 127.0.0.1:3260, unix:/x: hosts come here by TCP; write "
      "ADDRESS:PORT or [IPV6]:PORT"}},
    {"[::1]:3260",
     "",
     {"f:8: [controller a] iscsi = 127.0.0.1:3260,: an empty place in the list; separate addresses "
      "with one comma"}},
    {"iscsi = 127.0.0.2:3260",
     "iscsi = [::1]:1,[::1]:2,[::1]:3,[::1]:4,[::1]:5,[::1]:6,[::1]:7,[::1]:8,[::1]:9",
     {"f:14: [controller b] iscsi = [::1]:1,[::1]:2,[::1]:3,[::1]:4,[::1]:5,[::1]:6,[::1]:7,[::1: "
      "more than 8 addresses"}},
    {"iscsi = 127.0.0.2:3260",
     "iscsi = 127.0.0.1:3260",
     {"f:14: [controller b] iscsi = 127.0.0.1:3260: 127.0.0.1:3260 is taken by iscsi in "
      "[controller a]; write another address or port"}},
    {"[::1]:3260",
     "127.0.0.1:3",
     {"f:8: [controller a] iscsi = 127.0.0.1:3260, 127.0.0.1:3: 127.0.0.1:3 is taken by nbd in "
      "[controller a]; write another address or port"}},
    {"name = demo",
     "name = My_array",
     {"f:2: [array] name = My_array: it stands in the name of the iSCSI target, which takes a-z "
      "0-9 . - only"}},
    /* volumes */
    {"block = 4096",
     "block = 1024",
     {"f:21: [volume vol0] block = 1024: not a choice here; write 512 or 4096"}},
    {"transition = busy",
     "transition = fail",
     {"f:22: [volume vol0] transition = fail: not a choice here; write wait or busy or "
      "transitioning"}},
    {"size = 1G",
     "size = 1073741312",
     {"f:21: [volume vol0] block = 4096: the volume's size is not a multiple of that; write 512, "
      "or another size"}},
    /* hosts */
    {"[host web]",
     "[host]",
     {"f:27: [host]: not a legal name; write 1 to 63 of A-Z a-z 0-9 . _ -"}},
    {"[host backup]",
     "[host web]",
     {"f:34: [host web]: this section began in line 27 already; write it once"}},
    {"initiator = naa.5000c500a1b2c3d4\n",
     "",
     {"f:34: [host backup] initiator: missing; this section needs it"}},
    {"volumes = vol0:ro\n", "", {"f:34: [host backup] volumes: missing; this section needs it"}},
    {"naa.5000c500a1b2c3d4",
     "naa.5000c500a1b2c3d",
     {"f:35: [host backup] initiator = naa.5000c500a1b2c3d: \"naa.5000c500a1b2c3d\" is not an "
      "iSCSI name; write one like iqn.2004-10.com.example:host, of a-z 0-9 . - : and at most 223 "
      "bytes"}},
    {"naa.5000c500a1b2c3d4",
     "web1.example.com",
     {"f:35: [host backup] initiator = web1.example.com: \"web1.example.com\" is not an iSCSI "
      "name; write one like iqn.2004-10.com.example:host, of a-z 0-9 . - : and at most 223 bytes"}},
    {"naa.5000c500a1b2c3d4",
     "iqn.2004-10.com.example:Backup",
     {"f:35: [host backup] initiator = iqn.2004-10.com.example:Backup: "
      "\"iqn.2004-10.com.example:Backup\" is not an iSCSI name; write one like "
      "iqn.2004-10.com.example:host, of a-z 0-9 . - : and at most 223 bytes"}},
    {"naa.5000c500a1b2c3d4",
     "eui.0123456789abcdef",
     {"f:35: [host backup] initiator: eui.0123456789abcdef stands in [host web] already; write it "
      "once"}},
    {"eui.0123456789abcdef",
     "iqn.2004-10.com.example:web1",
     {"f:28: [host web] initiator = iqn.2004-10.com.example:web1, iqn.2004-10.com.example:web1: "
      "iqn.2004-10.com.example:web1 stands here twice"}},
    /* CHAP */
    {"chap_user = web\n",
     "",
     {"f:29: [host web] chap_secret: needs chap_user = in the same section"}},
    {"chap_secret = twelve letters and more\n",
     "",
     {"f:29: [host web] chap_user: needs chap_secret = in the same section"}},
    {"mutual_user = array\n",
     "",
     {"f:31: [host web] mutual_secret: needs mutual_user = in the same section"}},
    {"mutual_secret = another secret of ours\n",
     "",
     {"f:31: [host web] mutual_user: needs mutual_secret = in the same section"}},
    {"chap_user = web\nchap_secret = twelve letters and more\n",
     "",
     {"f:30: [host web] mutual_secret: needs chap_secret = in the same section"}},
    {"mutual_secret = another secret of ours",
     "mutual_secret = twelve letters and more",
     {"f:32: [host web] mutual_secret: the same as chap_secret; write another one (RFC 7143 "
      "9.2.1)"}},
    {"chap_secret = twelve letters and more",
     "chap_secret = short",
     {"f:30: [host web] chap_secret: 5 characters are too few; write 12 to 128"}},
    {"chap_user = web\n",
     "chap_user = w b\n",
     {"f:29: [host web] chap_user = w b: a CHAP name is printable ASCII without blanks"}},
    /* LUNs */
    {"vol0:ro",
     "vol2",
     {"f:36: [host backup] volumes = vol2: there is no volume vol2; write a [volume vol2], or one "
      "that is there"}},
    {"vol0:ro",
     "vol0:rw",
     {"f:36: [host backup] volumes = vol0:rw: \"vol0:rw\": only :ro (read-only) can follow"}},
    {"vol0:ro",
     "vol0@256",
     {"f:36: [host backup] volumes = vol0@256: \"vol0@256\": the LUN is not a number; write 0 to "
      "255"}},
    {"vol0:ro",
     "vol0@",
     {"f:36: [host backup] volumes = vol0@: \"vol0@\": the LUN is not a number; write 0 to 255"}},
    {"vol0:ro",
     "@1",
     {"f:36: [host backup] volumes = @1: \"@1\" does not begin with a volume's name; write NAME, "
      "NAME@LUN, NAME:ro or NAME@LUN:ro"}},
    {"vol0:ro",
     "vol0@255, vol1",
     {"f:36: [host backup] volumes = vol0@255, vol1: \"vol1\" would be LUN 256; write NAME@LUN "
      "with 0 to 255"}},
    {"vol0:ro",
     "vol0@3, vol1@3",
     {"f:36: [host backup] volumes = vol0@3, vol1@3: \"vol1@3\": LUN 3 is taken by vol0; write "
      "another one"}},
    {"vol0:ro",
     "vol0, vol0@9",
     {"f:36: [host backup] volumes = vol0, vol0@9: the volume vol0 stands here twice"}},
    {"vol0:ro",
     "vol0,",
     {"f:36: [host backup] volumes = vol0,: an empty place in the list; separate volumes with one "
      "comma"}},
};

static void every_mistake_has_its_message(void **state)
{
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        const char *at = strstr(good, rows[i].find);
        assert_non_null(at);
        char text[4096];
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, rows[i].replace,
                 at + strlen(rows[i].find));
        bool accepted = parse(text, &config);
        if (accepted)
            print_error("accepted: %s\n", rows[i].replace);
        assert_false(accepted);
        uint32_t count = 0;
        for (; rows[i].messages[count]; count++)
            assert_string_equal(errors.text[count], rows[i].messages[count]);
        assert_int_equal(errors.total, count);
    }
}

static void no_message_ever_shows_a_secret(void **state)
{
    static const char *const secrets[] = {"tooshort1", "s\xc3\xa9"
                                                       "cret with other bytes"};
    for (size_t i = 0; i < ARRAY_LENGTH(secrets); i++) {
        char text[4096];
        snprintf(text, sizeof text,
                 HEAD "[host h]\ninitiator = iqn.x\nvolumes = vol0\nchap_user = u\n"
                      "chap_secret = %s\nchap_secret = %s\nmutual_secret = %s\n",
                 secrets[i], secrets[i], secrets[i]);
        assert_false(parse(text, &config));
        for (uint32_t j = 0; j < errors.count; j++)
            assert_null(strstr(errors.text[j], secrets[i]));
    }
}

static void as_many_hosts_as_the_limit_and_no_more(void **state)
{
    size_t size = sizeof good + 96 * (CONFIG_HOST_LIMIT + 1);
    char *text = malloc(size);
    assert_non_null(text);
    size_t used = (size_t)snprintf(text, size, "%s", good);
    for (int i = 2; i < CONFIG_HOST_LIMIT; i++)
        used += (size_t)snprintf(text + used, size - used,
                                 "[host h%d]\ninitiator = iqn.h%d\nvolumes = vol1\n", i, i);
    assert_true(parse(text, &config));
    assert_int_equal(config.host_count, CONFIG_HOST_LIMIT);
    assert_ptr_equal(config_host_of(&config, "iqn.h255"), &config.hosts[255]);
    snprintf(text + used, size - used, "[host more]\n");
    assert_false(parse(text, &config));
    assert_int_equal(errors.total, 1);
    assert_non_null(
        strstr(errors.text[0], "[host more]: one more than the 256 that a pair may have"));
    free(text);
}

static void a_hosts_secret_that_anybody_can_read_is_told(void **state)
{
    char path[] = "/tmp/holdfast-config-test-XXXXXX";
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    assert_int_equal(fchmod(descriptor, 0644), 0);
    assert_true(parse(good, &config));
    assert_string_equal(config.secret, "");
    assert_true(config_secret_shows(path, &config));
    config.hosts[0].chap_secret[0] = '\0';
    assert_false(config_secret_shows(path, &config));
    close(descriptor);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_file_gives_what_it_says),
        cmocka_unit_test(without_iscsi_nothing_is_there),
        cmocka_unit_test(a_host_is_found_by_each_of_its_names_in_any_case),
        cmocka_unit_test(every_mistake_has_its_message),
        cmocka_unit_test(no_message_ever_shows_a_secret),
        cmocka_unit_test(as_many_hosts_as_the_limit_and_no_more),
        cmocka_unit_test(a_hosts_secret_that_anybody_can_read_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
