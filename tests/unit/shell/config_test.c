/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The configuration's reader: a good file gives exactly what it says, and every mistake gives
 * exactly one message that names its line, its place and what would be right. Each row takes the
 * good file, changes one piece of its text, and lists all the messages that must come of it, in
 * their order. */

#include "array/array.h"
#include "config_texts.h"

#include <sys/stat.h>
#include <unistd.h>

static const char good[] = "; two controllers, one file\n"                        /* 1 */
                           "[array]\n"                                            /* 2 */
                           "name = demo\n"                                        /* 3 */
                           "secret = correct horse battery\n"                     /* 4 */
                           "register = /r/register\n"                             /* 5 */
                           "cache = 64M\n"                                        /* 6 */
                           "lease = 1500ms\n"                                     /* 7 */
                           "settle = 200ms\n"                                     /* 8 */
                           "giveback = auto\n"                                    /* 9 */
                           "dirty_low = 30%\n"                                    /* 10 */
                           "dirty_high = 80%\n"                                   /* 11 */
                           "destage_after = 2s\n"                                 /* 12 */
                           "[controller a]\n"                                     /* 13 */
                           "link = 127.0.0.1:3260\n"                              /* 14 */
                           "warden = 127.0.0.1:3261\n"                            /* 15 */
                           "nbd = 127.0.0.1:10809, [::1]:10809, unix:/r/a.sock\n" /* 16 */
                           "run = /r/a/\n"                                        /* 17 */
                           "cpu = 0\n"                                            /* 18 */
                           "requests = 512\n"                                     /* 19 */
                           "[controller b]\n"                                     /* 20 */
                           "link = 127.0.0.1:3270\n"                              /* 21 */
                           "warden = 127.0.0.1:3271\n"                            /* 22 */
                           "nbd = 127.0.0.1:10810\n"                              /* 23 */
                           "run = /r/b\n"                                         /* 24 */
                           "# stores and volumes\n"                               /* 25 */
                           "[store disk]\n"                                       /* 26 */
                           "path = /s/disk.img   ; raw\n"                         /* 27 */
                           "io = buffered\n"                                      /* 28 */
                           "[volume vol0]\n"                                      /* 29 */
                           "store = disk\n"                                       /* 30 */
                           "size = 1G\n"                                          /* 31 */
                           "owner = a\n"                                          /* 32 */
                           "[volume vol1]\n"                                      /* 33 */
                           "store = disk\n"                                       /* 34 */
                           "offset = 1G\n"                                        /* 35 */
                           "size = 512\n"                                         /* 36 */
                           "owner = b\n"                                          /* 37 */
                           "flush = destage\n";                                   /* 38 */

static void expect_messages(const char *const *messages)
{
    assert_true(said_just(messages, UINT32_MAX));
}

static void a_good_file_gives_what_it_says(void **state)
{
    if (!parse(good, &config))
        print_error("%s\n", errors.text[0]);
    assert_int_equal(errors.total, 0);
    assert_string_equal(config.name, "demo");
    assert_string_equal(config.secret, "correct horse battery");
    assert_string_equal(config.register_path, "/r/register");
    assert_int_equal(config.cache_bytes, 64 << 20);
    assert_int_equal(config.lease_ms, 1500);
    assert_int_equal(config.settle_ms, 200);
    assert_true(config.auto_giveback);
    assert_int_equal(config.dirty_low_percent, 30);
    assert_int_equal(config.dirty_high_percent, 80);
    assert_int_equal(config.destage_after_ms, 2000);

    const struct config_controller *a = &config.controllers[0];
    assert_int_equal(a->link.kind, ADDRESS_IP);
    assert_string_equal(a->link.host, "127.0.0.1");
    assert_int_equal(a->link.port, 3260);
    assert_string_equal(a->link.text, "127.0.0.1:3260");
    assert_int_equal(a->warden.port, 3261);
    assert_int_equal(a->nbd_count, 3);
    assert_string_equal(a->nbd[1].host, "::1");
    assert_int_equal(a->nbd[1].port, 10809);
    assert_int_equal(a->nbd[2].kind, ADDRESS_UNIX);
    assert_string_equal(a->nbd[2].path, "/r/a.sock");
    assert_string_equal(a->run, "/r/a");
    assert_int_equal(a->cpu, 0);
    assert_int_equal(a->request_limit, 512);
    assert_int_equal(config.controllers[1].cpu, -1);
    assert_int_equal(config.controllers[1].request_limit, 4096);
    assert_int_equal(config.controllers[1].poll_us, 100);

    assert_int_equal(config.store_count, 1);
    assert_string_equal(config.stores[0].name, "disk");
    assert_string_equal(config.stores[0].path, "/s/disk.img");
    assert_int_equal(config.stores[0].io, CONFIG_IO_BUFFERED);
    assert_int_equal(config.volume_count, 2);
    assert_string_equal(config.volumes[0].name, "vol0");
    assert_int_equal(config.volumes[0].size_bytes, 1 << 30);
    assert_int_equal(config.volumes[0].store_offset_bytes, 0);
    assert_int_equal(config.volumes[0].home, 0);
    assert_false(config.volumes[0].flush_destage);
    assert_int_equal(config.volumes[1].store, 0);
    assert_int_equal(config.volumes[1].store_offset_bytes, 1 << 30);
    assert_int_equal(config.volumes[1].size_bytes, 512);
    assert_int_equal(config.volumes[1].home, 1);
    assert_true(config.volumes[1].flush_destage);

    char path[ADDRESS_PATH_SIZE];
    config_control_path(&config, 1, path);
    assert_string_equal(path, "/r/b/control");
    assert_int_equal(config_volume_by_name(&config, "vol1"), 1);
    assert_int_equal(config_volume_by_name(&config, "vol2"), -1);
}

static void what_is_left_out_has_its_default(void **state)
{
    assert_true(
        parse("[array]\nname=n\nregister=/r\n"
              "[controller a]\nlink=10.0.0.1:1\nwarden=10.0.0.1:2\nnbd=0.0.0.0:10809\nrun=/a\n"
              "[controller b]\nlink=10.0.0.2:1\nwarden=10.0.0.2:2\nnbd=0.0.0.0:10809\nrun=/b\n"
              "[volume v]\nstore=s\nsize=1M\n[store s]\npath=/p\n",
              &config));
    assert_string_equal(config.secret, "");
    assert_int_equal(config.cache_bytes, 256 << 20);
    assert_int_equal(config.lease_ms, 1000);
    assert_int_equal(config.settle_ms, 100);
    assert_false(config.auto_giveback);
    assert_int_equal(config.dirty_low_percent, 40);
    assert_int_equal(config.dirty_high_percent, 75);
    assert_int_equal(config.destage_after_ms, 5000);
    assert_int_equal(config.stores[0].io, CONFIG_IO_AUTO);
    assert_int_equal(config.volumes[0].home, 0);
}

struct row {
    const char *find, *replace;
    const char *messages[5];
};

static const struct row rows[] = {
    /* the form of lines */
    {"name = demo\n",
     "name demo\n",
     {"f:2: [array] name: missing; this section needs it",
      "f:3: neither a section nor a key; write [SECTION] or key = value"}},
    {"cache = 64M\n",
     "cache: 64M\n",
     {"f:6: neither a section nor a key; write [SECTION] or key = value"}},
    {"cache = 64M\n",
     "= 64M\n",
     {"f:6: neither a section nor a key; write [SECTION] or key = value"}},
    {"cache = 64M\n",
     "cache =\n",
     {"f:6: [array] cache: no value; write one, or leave the line out"}},
    {"cache = 64M\n",
     "cache = 6\x01M\n",
     {"f:6: holds a control character; the file is plain text"}},
    {"# stores and volumes\n",
     "[store disk\n",
     {"f:25: not a section; write [NAME] alone on its line"}},
    {"# stores and volumes\n",
     "[store x] path = /x\n",
     {"f:25: not a section; write [NAME] alone on its line"}},
    {"; two controllers, one file\n",
     "early = 1\n",
     {"f:1: early stands before the first section; write [array] above it"}},
    /* sections */
    {"# stores and volumes\n",
     "[volumes]\n",
     {"f:25: [volumes]: no such section; write [array], [controller a], [controller b], [store "
      "NAME], "
      "[volume NAME], [host NAME] or [group NAME]"}},
    {"# stores and volumes\n",
     "[]\n",
     {"f:25: []: no such section; write [array], [controller a], [controller b], [store NAME], "
      "[volume NAME], [host NAME] or [group NAME]"}},
    {"# stores and volumes\n",
     "[controller c]\nlink = x\n",
     {"f:25: [controller c]: there are two controllers; write [controller a] or [controller b]"}},
    {"# stores and volumes\n",
     "[array demo]\n",
     {"f:25: [array demo]: the array's section has no name of its own; write [array] and name = in "
      "it"}},
    {"# stores and volumes\n",
     "[store]\n",
     {"f:25: [store]: not a legal name; write 1 to 63 of A-Z a-z 0-9 . _ -"}},
    {"# stores and volumes\n",
     "[store a/b]\n",
     {"f:25: [store a/b]: not a legal name; write 1 to 63 of A-Z a-z 0-9 . _ -"}},
    {"# stores and volumes\n",
     "[array]\n",
     {"f:25: [array]: this section began in line 2 already; write it once"}},
    {"[volume vol1]\n",
     "[volume vol0]\n",
     {"f:33: [volume vol0]: this section began in line 29 already; write it once"}},
    {"[array]\n",
     "[arry]\n",
     {"f: [array]: missing; both controllers share one file",
      "f:2: [arry]: no such section; write [array], [controller a], [controller b], [store NAME], "
      "[volume NAME], [host NAME] or [group NAME]"}},
    {"[controller b]\n",
     "[controller a]\n",
     {"f: [controller b]: missing; both controllers share one file",
      "f:20: [controller a]: this section began in line 13 already; write it once"}},
    /* keys */
    {"cache = 64M\n",
     "chache = 64M\n",
     {"f:6: [array] chache: no such key here; the keys are name, secret, register, cache, "
      "lease, settle, "
      "giveback, dirty_low, dirty_high, destage_after"}},
    {"io = buffered\n",
     "secret = do not show this\n",
     {"f:28: [store disk] secret: no such key here; the keys are path, io"}},
    {"lease = 1500ms\n",
     "cache = 32M\n",
     {"f:7: [array] cache = 32M: line 6 set this key already; write it once"}},
    {"cache = 64M\n",
     "secret = another secret text\n",
     {"f:6: [array] secret: line 4 set this key already; write it once"}},
    {"register = /r/register\n", "\n", {"f:2: [array] register: missing; this section needs it"}},
    {"link = 127.0.0.1:3260\n",
     "\n",
     {"f:13: [controller a] link: missing; this section needs it"}},
    {"warden = 127.0.0.1:3271\n",
     "\n",
     {"f:20: [controller b] warden: missing; this section needs it"}},
    {"nbd = 127.0.0.1:10810\n", "\n", {"f:20: [controller b] nbd: missing; this section needs it"}},
    {"run = /r/b\n", "\n", {"f:20: [controller b] run: missing; this section needs it"}},
    {"path = /s/disk.img   ; raw\n",
     "\n",
     {"f:26: [store disk] path: missing; this section needs it"}},
    {"store = disk\n", "\n", {"f:29: [volume vol0] store: missing; this section needs it"}},
    {"size = 1G\n", "\n", {"f:29: [volume vol0] size: missing; this section needs it"}},
    /* values of [array] */
    {"name = demo\n",
     "name = de mo\n",
     {"f:3: [array] name = de mo: not a legal name; write 1 to 63 of A-Z a-z 0-9 . _ -"}},
    {"correct horse battery",
     "elevenchars",
     {"f:4: [array] secret: 11 characters are too few; write 12 to 128"}},
    {"correct horse battery",
     "caf\xc3\xa9 caf\xc3\xa9 caf\xc3\xa9",
     {"f:4: [array] secret: holds something other than printable ASCII"}},
    {"/r/register",
     "r/register",
     {"f:5: [array] register = r/register: not an absolute path; start it with /"}},
    {"64M",
     "lots",
     {"f:6: [array] cache = lots: not a size; write a number with K, M, G or T, such as 20G"}},
    {"64M",
     "-1M",
     {"f:6: [array] cache = -1M: not a size; write a number with K, M, G or T, such as 20G"}},
    {"64M",
     "64Q",
     {"f:6: [array] cache = 64Q: \"Q\" is not a unit of size; write K, M, G or T, such as 20G"}},
    {"64M",
     "64MB",
     {"f:6: [array] cache = 64MB: \"MB\" is not a unit of size; write K, M, G or T, such as 20G"}},
    {"64M", "512K", {"f:6: [array] cache = 512K: out of range; write 1M to 1T"}},
    {"64M", "2T", {"f:6: [array] cache = 2T: out of range; write 1M to 1T"}},
    {"64M",
     "1048577",
     {"f:6: [array] cache = 1048577: not a multiple of 4096 bytes; the nearest below is 1024K"}},
    {"64M", "8388608T", {"f:6: [array] cache = 8388608T: too large; the most is below 8388608T"}},
    {"64M",
     "99999999999999999999",
     {"f:6: [array] cache = 99999999999999999999: not a size; write a number with K, M, G or T, "
      "such as 20G"}},
    {"1500ms", "99ms", {"f:7: [array] lease = 99ms: out of range; write 100ms to 60s"}},
    {"1500ms", "61s", {"f:7: [array] lease = 61s: out of range; write 100ms to 60s"}},
    {"1500ms",
     "1500",
     {"f:7: [array] lease = 1500: a time without its unit; write ms or s behind the number"}},
    {"1500ms", "2m", {"f:7: [array] lease = 2m: \"m\" is not a unit of time; write ms or s"}},
    {"1500ms", "soon", {"f:7: [array] lease = soon: not a time; write 100ms to 60s, with ms or s"}},
    {"200ms", "61000ms", {"f:8: [array] settle = 61000ms: out of range; write 0s to 60s"}},
    {"auto", "yes", {"f:9: [array] giveback = yes: not a choice here; write manual or auto"}},
    {"30%",
     "0%",
     {"f:10: [array] dirty_low = 0%: not a share of the cache for this; write 1% to 89%"}},
    {"30%",
     "30 pct",
     {"f:10: [array] dirty_low = 30 pct: \" pct\" behind the number; write 1% to 89%"}},
    {"80%",
     "91%",
     {"f:11: [array] dirty_high = 91%: not a share of the cache for this; write 1% to 90%"}},
    {"80%",
     "100%",
     {"f:11: [array] dirty_high = 100%: not a share of the cache for this; write 1% to 90%"}},
    {"30%",
     "90%",
     {"f:10: [array] dirty_low = 90%: not a share of the cache for this; write 1% to 89%"}},
    {"30%", "80%", {"f:10: [array] dirty_low = 80%: not below dirty_high (80%); write less"}},
    {"dirty_low = 30%\ndirty_high = 80%\n",
     "dirty_low = 75\n\n",
     {"f:10: [array] dirty_low = 75: not below dirty_high (75%); write less"}},
    {"dirty_low = 30%\ndirty_high = 80%\n",
     "\ndirty_high = 40%\n",
     {"f:11: [array] dirty_high = 40%: not above dirty_low (40%); write more"}},
    {"2s", "5ms", {"f:12: [array] destage_after = 5ms: out of range; write 10ms to 3600s"}},
    /* values of [controller ...] */
    {"127.0.0.1:3260",
     "localhost:3260",
     {"f:14: [controller a] link = localhost:3260: the host is not a numeric IPv4 address; names "
      "are not looked "
      "up here, write one like 127.0.0.1:PORT"}},
    {"127.0.0.1:3260",
     "[fe80::zz]:3260",
     {"f:14: [controller a] link = [fe80::zz]:3260: the host is not a numeric IPv6 address; names "
      "are not "
      "looked up here, write one like [::1]:PORT"}},
    {"127.0.0.1:3260",
     "127.0.0.1",
     {"f:14: [controller a] link = 127.0.0.1: no port; write ADDRESS:PORT, [IPV6]:PORT or "
      "unix:/PATH"}},
    {"127.0.0.1:3260",
     "::1:3260",
     {"f:14: [controller a] link = ::1:3260: an IPv6 address stands in brackets; write "
      "[::1]:PORT"}},
    {"127.0.0.1:3260",
     "[::1:3260",
     {"f:14: [controller a] link = [::1:3260: the ] of the IPv6 address is missing; write "
      "[::1]:PORT"}},
    {"127.0.0.1:3260",
     ":3260",
     {"f:14: [controller a] link = :3260: no address before the port; write 127.0.0.1:PORT or "
      "[::1]:PORT"}},
    {"127.0.0.1:3260",
     "127.0.0.1:0",
     {"f:14: [controller a] link = 127.0.0.1:0: the port is not a number; write 1 to 65535"}},
    {"127.0.0.1:3260",
     "127.0.0.1:65536",
     {"f:14: [controller a] link = 127.0.0.1:65536: the port is not a number; write 1 to 65535"}},
    {"127.0.0.1:3260",
     "unix:/r/link",
     {"f:14: [controller a] link = unix:/r/link: the other controller connects here by TCP; write "
      "ADDRESS:PORT or "
      "[IPV6]:PORT"}},
    {"127.0.0.1:3261",
     "0.0.0.0:3261",
     {"f:15: [controller a] warden = 0.0.0.0:3261: the other controller connects here, so \"any\" "
      "is no answer; "
      "write this controller's own address"}},
    {"unix:/r/a.sock",
     "unix:a.sock",
     {"f:16: [controller a] nbd = 127.0.0.1:10809, [::1]:10809, unix:a.sock: not an absolute path; "
      "start it "
      "with /"}},
    {"127.0.0.1:10809, ",
     "127.0.0.1:10809,, ",
     {"f:16: [controller a] nbd = 127.0.0.1:10809,, [::1]:10809, unix:/r/a.sock: an empty place in "
      "the list; "
      "separate addresses with one comma"}},
    {"nbd = 127.0.0.1:10810\n",
     "nbd = [::1]:1,[::1]:2,[::1]:3,[::1]:4,[::1]:5,[::1]:6,[::1]:7,[::1]:8,[::1]:9\n",
     {"f:23: [controller b] nbd = [::1]:1,[::1]:2,[::1]:3,[::1]:4,[::1]:5,[::1]:6,[::1]:7,[::1: "
      "more than 8 "
      "addresses"}},
    {"/r/a/", "run", {"f:17: [controller a] run = run: not an absolute path; start it with /"}},
    {"run = /r/b\n",
     "run = "
     "/long/long/long/long/long/long/long/long/long/long/long/long/long/long/long/long/long/long/"
     "long/long\n",
     {"f:24: [controller b] run = /long/long/long/long/long/long/long/long/long/long/long/long: a "
      "path of 100 "
      "bytes; the most here is 95"}},
    {"cpu = 0\n",
     "cpu = first\n",
     {"f:18: [controller a] cpu = first: not a number in range; write 0 to 1023"}},
    {"requests = 512\n",
     "poll = 100\n",
     {"f:19: [controller a] poll = 100: not a time for this; write 0 or 1us to 1000us"}},
    {"requests = 512\n",
     "poll = 1001us\n",
     {"f:19: [controller a] poll = 1001us: not a time for this; write 0 or 1us to 1000us"}},
    {"512\n",
     "8\n",
     {"f:19: [controller a] requests = 8: not a number in range; write 16 to 65536"}},
    /* what collides */
    {"127.0.0.1:3270",
     "127.0.0.1:3260",
     {"f:21: [controller b] link = 127.0.0.1:3260: 127.0.0.1:3260 is taken by link in [controller "
      "a]; write "
      "another address or port"}},
    {"127.0.0.1:3261",
     "127.0.0.1:3260",
     {"f:15: [controller a] warden = 127.0.0.1:3260: 127.0.0.1:3260 is taken by link in "
      "[controller a]; write "
      "another address or port"}},
    {"127.0.0.1:10810",
     "127.0.0.1:10811, [0:0:0:0:0:0:0:1]:10809",
     {"f:23: [controller b] nbd = 127.0.0.1:10811, [0:0:0:0:0:0:0:1]:10809: "
      "[0:0:0:0:0:0:0:1]:10809 is taken by "
      "nbd in [controller a]; write another address or port"}},
    {"127.0.0.1:10810",
     "unix:/r/a.sock",
     {"f:23: [controller b] nbd = unix:/r/a.sock: unix:/r/a.sock is taken by nbd in [controller "
      "a]; write "
      "another address or port"}},
    {"run = /r/b\n",
     "run = /r/a\n",
     {"f:24: [controller b] run = /r/a: the directory of controller a; write one for each "
      "controller"}},
    /* values of [store ...] and [volume ...] */
    {"buffered",
     "fast",
     {"f:28: [store disk] io = fast: not a choice here; write auto or direct or buffered"}},
    {"/s/disk.img",
     "/r/register",
     {"f:27: [store disk] path = /r/register: the register's file; a store holds volumes and "
      "nothing else"}},
    {"# stores and volumes\n",
     "[store again]\npath = /s/disk.img\n",
     {"f:28: [store disk] path = /s/disk.img: the path of [store again]; write one store and let "
      "both volumes "
      "name it"}},
    {"store = disk\n",
     "store = disc\n",
     {"f:30: [volume vol0] store = disc: no such store; write a [store disc] or one that is "
      "there"}},
    {"size = 1G\n",
     "size = 0\n",
     {"f:31: [volume vol0] size = 0: a volume without a byte; write its size, such as 20G"}},
    {"size = 1G\n",
     "size = 1000\n",
     {"f:31: [volume vol0] size = 1000: not a multiple of 512 bytes; the nearest below is 512"}},
    {"size = 512\n",
     "size = 9223372036854775296\n",
     {"f:36: [volume vol1] size = 9223372036854775296: offset and size together pass the largest "
      "store there "
      "can be; write "
      "less"}},
    {"offset = 1G\n",
     "offset = 1073742336\n",
     {"f:35: [volume vol1] offset = 1073742336: not a multiple of 4096 bytes; the nearest below is "
      "1073741824"}},
    {"offset = 1G\n",
     "offset = 1048572K\n",
     {"f:33: [volume vol1]: overlaps [volume vol0] on store disk, which ends at 1073741824; write "
      "an offset there "
      "or after it"}},
    {"offset = 1G\n",
     "\n",
     {"f:33: [volume vol1]: overlaps [volume vol0] on store disk, which ends at 1073741824; write "
      "an offset there "
      "or after it"}},
    /* a volume whose own place is wrong collides with nothing */
    {"store = disk\nsize = 1G\nowner = a\n[volume vol1]\nstore = disk\noffset = 1G\n",
     "store = disc\nsize = 1G\nowner = a\n[volume vol1]\nstore = disk\noffset = 0\n",
     {"f:30: [volume vol0] store = disc: no such store; write a [store disc] or one that is "
      "there"}},
    {"owner = a\n",
     "owner = c\n",
     {"f:32: [volume vol0] owner = c: not a choice here; write a or b"}},
    {"flush = destage\n",
     "flush = never\n",
     {"f:38: [volume vol1] flush = never: not a choice here; write mirror or destage"}},
};

static void every_mistake_has_its_message(void **state)
{
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        char *text = changed(good, rows[i].find, rows[i].replace);
        bool accepted = parse(text, &config);
        if (accepted)
            print_error("accepted: %s\n", rows[i].replace);
        assert_false(accepted);
        expect_messages(rows[i].messages);
        free(text);
    }
}

static void all_mistakes_of_a_file_are_reported_in_the_order_of_lines(void **state)
{
    assert_false(
        parse("[array]\nname = n\nregister = r\nlease = 1\n[controller a]\nlink = x:1\nrun = /a\n",
              &config));
    static const char *const messages[] = {
        "f: [controller b]: missing; both controllers share one file",
        "f: no store; write [store NAME] with path = in it",
        "f: no volume; write [volume NAME] with store = and size = in it",
        "f:3: [array] register = r: not an absolute path; start it with /",
        "f:4: [array] lease = 1: a time without its unit; write ms or s behind the number",
        "f:5: [controller a] warden: missing; this section needs it",
        "f:5: [controller a] nbd: missing; this section needs it",
        "f:6: [controller a] link = x:1: the host is not a numeric IPv4 address; names are not "
        "looked up here, "
        "write one like 127.0.0.1:PORT",
        NULL};
    expect_messages(messages);
}

static void no_message_ever_shows_the_secret(void **state)
{
    static const char *const places[][2] = {
        {"correct horse battery", "hunter2"},
        {"cache = 64M\n", "secret = hunter2 hunter2\n"},
        {"owner = a\n", "secret = hunter2 hunter2\n"},
        {"owner = a\n", "secrte = hunter2 hunter2\n"},
        {"secret = correct horse battery", "secret: hunter2 hunter2"},
        {"secret = correct horse battery", "secret hunter2 hunter2"},
    };
    for (size_t i = 0; i < ARRAY_LENGTH(places); i++) {
        char *text = changed(good, places[i][0], places[i][1]);
        assert_false(parse(text, &config));
        assert_true(errors.count > 0);
        for (uint32_t j = 0; j < errors.count; j++)
            assert_null(strstr(errors.text[j], "hunter2"));
        free(text);
    }
}

static void long_and_endless_input_is_bounded(void **state)
{
    /* A line past the limit. */
    char *line = malloc(2 * CONFIG_LINE_SIZE);
    assert_non_null(line);
    memset(line, 'x', 2 * CONFIG_LINE_SIZE);
    assert_false(config_parse("f", line, 2 * CONFIG_LINE_SIZE, &config, &errors));
    assert_string_equal(errors.text[3], "f: no store; write [store NAME] with path = in it");
    assert_string_equal(errors.text[5], "f:1: a line of 8192 bytes; the most is 4094");
    free(line);

    /* A line of just the limit is read whole: a path as long as a path may be. */
    size_t path_length = CONFIG_PATH_SIZE - 1;
    char path[CONFIG_PATH_SIZE];
    memset(path, 'p', sizeof path);
    path[0] = '/';
    path[path_length] = '\0';
    char *text = changed(good, "/s/disk.img", path);
    assert_true(parse(text, &config));
    assert_string_equal(config.stores[0].path, path);
    free(text);

    /* More mistakes than are kept are counted. */
    char many[8192] = "";
    size_t used = 0;
    for (int i = 0; i < 200; i++)
        used += (size_t)snprintf(many + used, sizeof many - used, "nonsense %d\n", i);
    assert_false(parse(many, &config));
    assert_int_equal(errors.count, CONFIG_ERROR_LIMIT);
    assert_int_equal(errors.total, 205);

    /* More than a configuration may have is refused unread. */
    char *large = calloc(1, CONFIG_FILE_BYTES + 1);
    assert_non_null(large);
    assert_false(config_parse("f", large, CONFIG_FILE_BYTES + 1, &config, &errors));
    assert_string_equal(errors.text[0], "f: 1048577 bytes; a configuration has at most 1048576");
    assert_int_equal(errors.total, 1);
    free(large);
}

static void as_many_stores_and_volumes_as_the_limits_and_no_more(void **state)
{
    size_t size = sizeof good + 64 * (STORE_LIMIT + VOLUME_LIMIT);
    char *text = malloc(size);
    assert_non_null(text);
    size_t used = (size_t)snprintf(text, size, "%s", good);
    for (int i = 1; i < STORE_LIMIT; i++)
        used += (size_t)snprintf(text + used, size - used, "[store s%d]\npath = /s/%d\n", i, i);
    for (int i = 2; i < VOLUME_LIMIT; i++)
        used += (size_t)snprintf(text + used, size - used,
                                 "[volume v%d]\nstore=disk\nsize=1M\noffset=%dM\n", i, 2048 + i);
    assert_true(parse(text, &config));
    assert_int_equal(config.store_count, STORE_LIMIT);
    assert_int_equal(config.volume_count, VOLUME_LIMIT);
    assert_int_equal(config.volumes[VOLUME_LIMIT - 1].store, 0);

    snprintf(text + used, size - used, "[store more]\n[volume more]\n");
    assert_false(parse(text, &config));
    assert_int_equal(errors.total, 2);
    assert_non_null(
        strstr(errors.text[0], "[store more]: one more than the 64 that a pair may have"));
    assert_non_null(
        strstr(errors.text[1], "[volume more]: one more than the 256 that a pair may have"));
    free(text);
}

static void other_editors_files_read_the_same(void **state)
{
    /* A byte-order mark, CR LF, blanks before keys, comments behind values, no newline at the end.
     */
    assert_true(parse(
        "\xef\xbb\xbf[array]\r\n  name=n # the name\r\n\tregister=/r ; where\r\n"
        "[controller a] ; first\r\nlink=10.0.0.1:1\r\nwarden=10.0.0.1:2\r\nnbd=[::]:1\r\nrun=/a\r\n"
        "[ controller  b ]\r\nlink=10.0.0.2:1\r\nwarden=10.0.0.2:2\r\nnbd=[::]:1\r\nrun=/b\r\n"
        "[store s]\r\npath=/p\r\n[volume v]\r\nstore=s\r\nsize=1m",
        &config));
    assert_string_equal(config.name, "n");
    assert_string_equal(config.register_path, "/r");
    assert_int_equal(config.volumes[0].size_bytes, 1 << 20);
}

static void volumes_of_two_stores_do_not_collide(void **state)
{
    char *text = changed(good, "[volume vol1]\nstore = disk\noffset = 1G\n",
                         "[store more]\npath = /s/more\n[volume vol1]\nstore = more\n");
    assert_true(parse(text, &config));
    assert_int_equal(config.volumes[0].store_offset_bytes, config.volumes[1].store_offset_bytes);
    assert_int_equal(config.volumes[1].store, 1);
    free(text);
}

static void load_reads_a_file_and_names_it(void **state)
{
    char path[] = "/tmp/holdfast-config-test-XXXXXX";
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    assert_int_equal(write(descriptor, good, sizeof good - 1), sizeof good - 1);
    assert_true(config_load(path, &config, &errors));
    assert_string_equal(config.name, "demo");

    assert_int_equal(write(descriptor, "wrong\n", 6), 6);
    close(descriptor);
    assert_false(config_load(path, &config, &errors));
    char expected[128];
    snprintf(expected, sizeof expected,
             "%s:39: neither a section nor a key; write [SECTION] or key = value", path);
    assert_string_equal(errors.text[0], expected);
    unlink(path);

    assert_false(config_load(path, &config, &errors));
    snprintf(expected, sizeof expected, "%s: cannot be read: No such file or directory", path);
    assert_string_equal(errors.text[0], expected);
    assert_int_equal(errors.total, 1);
    assert_false(config_load("/", &config, &errors));
    assert_string_equal(errors.text[0], "/: cannot be read: Is a directory");
}

/* What `holdfast check` allows, the core must take: dirty_high = 90% and not one more. */
static void the_highest_dirty_high_is_that_of_the_core(void **state)
{
    char *text = changed(good, "dirty_high = 80%", "dirty_high = 90%");
    assert_true(parse(text, &config));
    assert_int_equal(config.dirty_high_percent, 90);
    free(text);
    static struct array_config core = {.incarnation = 1,
                                       .slot_count = 1 << 20,
                                       .request_limit = 1,
                                       .destage_io_limit = 1,
                                       .fetch_io_limit = 1};
    core.dirty_low_percent = config.dirty_low_percent;
    core.dirty_high_percent = config.dirty_high_percent;
    const char *wrong = array_config_check(&core); /* of other things, but not of this one */
    assert_true(!wrong || !strstr(wrong, "dirty"));
    core.dirty_high_percent++;
    wrong = array_config_check(&core);
    assert_true(wrong && strstr(wrong, "dirty_high"));
}

static void a_secret_that_anybody_can_read_is_told(void **state)
{
    char path[] = "/tmp/holdfast-config-test-XXXXXX";
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    assert_true(parse(good, &config));
    static const struct {
        mode_t mode;
        bool told;
    } modes[] = {{0600, false}, {0640, false}, {0644, true}, {0604, true}, {0400, false}};
    for (size_t i = 0; i < ARRAY_LENGTH(modes); i++) {
        assert_int_equal(fchmod(descriptor, modes[i].mode), 0);
        strcpy(config.secret, "a secret of the test");
        assert_int_equal(config_secret_shows(path, &config), modes[i].told);
        config.secret[0] = '\0';
        assert_false(config_secret_shows(path, &config));
    }
    close(descriptor);
    unlink(path);
    strcpy(config.secret, "a secret of the test");
    assert_false(config_secret_shows(path, &config)); /* not there */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_file_gives_what_it_says),
        cmocka_unit_test(what_is_left_out_has_its_default),
        cmocka_unit_test(every_mistake_has_its_message),
        cmocka_unit_test(all_mistakes_of_a_file_are_reported_in_the_order_of_lines),
        cmocka_unit_test(no_message_ever_shows_the_secret),
        cmocka_unit_test(long_and_endless_input_is_bounded),
        cmocka_unit_test(as_many_stores_and_volumes_as_the_limits_and_no_more),
        cmocka_unit_test(other_editors_files_read_the_same),
        cmocka_unit_test(volumes_of_two_stores_do_not_collide),
        cmocka_unit_test(load_reads_a_file_and_names_it),
        cmocka_unit_test(the_highest_dirty_high_is_that_of_the_core),
        cmocka_unit_test(a_secret_that_anybody_can_read_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
