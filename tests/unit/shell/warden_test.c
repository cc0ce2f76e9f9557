/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The parent process and the watcher of it, as processes: a death is told, an end can be asked for,
 * a wrong secret is not believed, and the proof waits for a store write that is still under way
 * after the process has gone. The last needs a slow block device: a loop device over nbdfuse over
 * nbdkit's delay filter; it is skipped where that cannot be had. */

#include "shell/warden.h"

#include "shell/log.h"
#include "shell/socket.h"
#include "shell/watch.h"

#include <errno.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static struct config config;
static struct shared {
    _Atomic pid_t child;
    _Atomic uint64_t incarnation;
    _Atomic bool writing;
} * shared; /* what the controller's process tells the test */
static struct loop loop;
static struct watch watch;
static uint64_t gone[8], gone_us[8];
static unsigned gone_count;
static bool answers, fence_wanted = true;
static char slow_device[64];
static pid_t last_parent; /* ended by tear_down() when a test has failed */
static void slow_device_stop(void);
static pid_t server;

static void on_gone(void *context, uint64_t incarnation)
{
    assert_true(gone_count < ARRAY_LENGTH(gone));
    gone_us[gone_count] = loop.now_us;
    gone[gone_count++] = incarnation;
}

static void on_answers(void *context, bool now)
{
    assert_int_not_equal(answers, now);
    answers = now;
}

static bool on_fence_wanted(void *context)
{
    return fence_wanted;
}

static const struct watch_events events = {
    .gone = on_gone, .answers = on_answers, .fence_wanted = on_fence_wanted};

/* A port that nobody listens at, so that two runs of this test do not meet. */
static uint16_t free_port(void)
{
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof where;
    int probe = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(probe, (struct sockaddr *)&where, size), 0);
    assert_int_equal(getsockname(probe, (struct sockaddr *)&where, &size), 0);
    close(probe);
    return ntohs(where.sin_port);
}

static int set_up(void **state)
{
    memset(&config, 0, sizeof config);
    strcpy(config.name, "test");
    strcpy(config.secret, "a secret of the test");
    config.lease_ms = 1000;
    struct config_controller *a = &config.controllers[0];
    a->warden = (struct address){
        .kind = ADDRESS_IP, .port = free_port(), .host = "127.0.0.1", .text = "the warden"};
    strcpy(a->run, "/tmp/holdfast-warden-XXXXXX");
    assert_non_null(mkdtemp(a->run));
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    gone_count = 0;
    answers = false;
    memset(&watch, 0, sizeof watch);
    watch.descriptor = -1;
    assert_null(loop_open(&loop, 64, -1));
    return 0;
}

static int tear_down(void **state)
{
    if (last_parent > 0) {
        kill(last_parent, SIGKILL);
        waitpid(last_parent, NULL, 0);
    }
    last_parent = 0;
    if (shared->child > 0)
        kill(shared->child, SIGKILL);
    if (server > 0)
        slow_device_stop();
    char path[128];
    snprintf(path, sizeof path, "%s/lock", config.controllers[0].run);
    unlink(path);
    rmdir(config.controllers[0].run);
    munmap(shared, sizeof *shared);
    loop_close(&loop);
    if (watch.descriptor >= 0)
        close(watch.descriptor);
    return 0;
}

/* A controller that only waits; where there is a slow device, with a write under way on it. */
static int controller(void *context, const struct warden_ticket *ticket)
{
    struct loop own;
    const int held[] = {ticket->alive, ticket->lock};
    signal(SIGTERM, SIG_IGN);
    if (loop_open(&own, 8, -1) || loop_hold(&own, held, 2))
        return 1;
    close(ticket->alive);
    close(ticket->lock);
    if (slow_device[0]) {
        static uint8_t page[4096] __attribute__((aligned(4096)));
        memset(page, 0x5A, sizeof page);
        int device = open(slow_device, O_RDWR | O_DIRECT);
        struct op op = {.done = NULL};
        struct io_uring_sqe *sqe = loop_sqe(&own);
        io_uring_prep_write(sqe, device, page, sizeof page, 0);
        loop_own(sqe, &op);
        if (device < 0 || io_uring_submit(&own.ring) != 1)
            return 1;
        shared->writing = true;
    }
    shared->incarnation = ticket->incarnation;
    shared->child = getpid();
    for (int i = 0; i < 600; i++)
        usleep(100000);
    return 0;
}

static int stops_when_asked(void *context, const struct warden_ticket *ticket)
{
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigprocmask(SIG_BLOCK, &stop, NULL);
    shared->incarnation = ticket->incarnation;
    shared->child = getpid();
    int signal;
    sigwait(&stop, &signal);
    return 0;
}

static pid_t start_warden(int (*run)(void *, const struct warden_ticket *))
{
    shared->child = 0;
    pid_t parent = last_parent = fork();
    if (parent == 0) {
        log_open("warden-test", LOG_ERROR + 1); /* quiet: the deaths are on purpose */
        struct warden_job job = {.config = &config, .controller = 0, .run = run};
        _exit(warden_run(&job));
    }
    for (int i = 0; i < 1000 && shared->child == 0; i++)
        usleep(10000);
    assert_true(shared->child != 0);
    return parent;
}

static int end_of(pid_t parent)
{
    int status = 0;
    for (int i = 0; i < 1500 && waitpid(parent, &status, WNOHANG) == 0; i++)
        loop_turn(&loop, loop.now_us + 10000);
    last_parent = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Turns of the loop until `flag` is `wanted`, at most `most_ms`. */
static void turn_until(const volatile unsigned *count, unsigned wanted, uint64_t most_ms)
{
    uint64_t end_us = loop_clock_us() + most_ms * 1000;
    while (*count < wanted && loop_clock_us() < end_us)
        loop_turn(&loop, min_u64(end_us, loop.now_us + 20000));
}

static void watch_it(void)
{
    watch_start(&watch, &loop, &config, 0, &events);
    uint64_t end_us = loop_clock_us() + 3000000;
    while (!answers && loop_clock_us() < end_us)
        loop_turn(&loop, end_us);
}

static void a_killed_controller_is_told_gone_and_its_parent_leaves(void **state)
{
    pid_t parent = start_warden(controller);
    watch_it();
    assert_true(answers);
    assert_int_equal(watch.incarnation, shared->incarnation);
    uint64_t killed_us = loop_clock_us();
    kill(shared->child, SIGKILL);
    turn_until(&gone_count, 1, 3000);
    assert_int_equal(gone_count, 1);
    assert_true(gone[0] == shared->incarnation);
    assert_true(gone_us[0] - killed_us < 500000);
    assert_int_equal(end_of(parent), 128 + SIGKILL);
}

static void the_end_can_be_asked_for_even_of_a_stopped_controller(void **state)
{
    pid_t parent = start_warden(controller);
    kill(shared->child, SIGSTOP);
    watch_it();
    watch_fence(&watch);
    turn_until(&gone_count, 2, 3000);
    assert_int_equal(gone_count, 2);
    assert_true(gone[0] == shared->incarnation);
    assert_true(gone[1] == 0);
    assert_int_equal(end_of(parent), 128 + SIGKILL);
}

static void a_fence_that_is_no_longer_wanted_is_not_sent(void **state)
{
    pid_t parent = start_warden(controller);
    fence_wanted = false;
    watch_it();
    watch_fence(&watch);
    turn_until(&gone_count, 1, 300);
    fence_wanted = true;
    assert_int_equal(gone_count, 0);
    kill(shared->child, SIGKILL);
    turn_until(&gone_count, 1, 3000);
    assert_int_equal(gone_count, 1);
    end_of(parent);
}

static void sigterm_is_passed_on_and_a_clean_stop_ends_with_zero(void **state)
{
    pid_t parent = start_warden(stops_when_asked);
    watch_it();
    kill(parent, SIGTERM);
    turn_until(&gone_count, 1, 3000);
    assert_int_equal(gone_count, 1);
    assert_int_equal(end_of(parent), 0);
}

static void a_second_sigterm_ends_a_controller_that_does_not_stop(void **state)
{
    pid_t parent = start_warden(controller);
    kill(parent, SIGTERM);
    usleep(20000);
    kill(parent, SIGTERM); /* of a sender that signals the group as well */
    usleep(300000);
    assert_int_equal(kill(shared->child, 0), 0); /* it ignores the first */
    kill(parent, SIGTERM);
    assert_int_equal(end_of(parent), 128 + SIGKILL);
}

static void the_controller_dies_with_its_parent_without_any_proof(void **state)
{
    pid_t parent = start_warden(controller);
    watch_it();
    kill(parent, SIGKILL);
    turn_until(&gone_count, 1, 600);
    assert_int_equal(gone_count, 0);
    assert_false(answers);
    assert_int_equal(waitpid(parent, NULL, 0), parent);
    last_parent = 0;
    for (int i = 0; i < 300 && kill(shared->child, 0) == 0; i++)
        usleep(10000);
    assert_int_equal(kill(shared->child, 0), -1);
}

static void a_parent_that_hangs_does_not_answer(void **state)
{
    pid_t parent = start_warden(controller);
    watch_it();
    assert_true(answers);
    kill(parent, SIGSTOP);
    turn_until(&gone_count, 1, 900);
    assert_false(answers);
    assert_int_equal(gone_count, 0);
    kill(parent, SIGCONT);
    uint64_t end_us = loop_clock_us() + 3000000;
    while (!answers && loop_clock_us() < end_us)
        loop_turn(&loop, end_us);
    assert_true(answers);
    kill(shared->child, SIGKILL);
    turn_until(&gone_count, 1, 3000);
    end_of(parent);
}

static void a_wrong_secret_is_neither_answered_nor_believed(void **state)
{
    pid_t parent = start_warden(controller);
    strcpy(config.secret, "another secret, not the array's");
    watch_start(&watch, &loop, &config, 0, &events);
    watch_fence(&watch);
    turn_until(&gone_count, 1, 500);
    assert_int_equal(gone_count, 0);
    assert_false(answers);
    assert_int_equal(kill(shared->child, 0), 0);
    kill(shared->child, SIGKILL);
    turn_until(&gone_count, 1, 500);
    assert_int_equal(gone_count, 0);
    kill(parent, SIGKILL);
    waitpid(parent, NULL, 0);
}

static void foreign_bytes_and_many_connections_do_no_harm(void **state)
{
    pid_t parent = start_warden(controller);
    struct sockaddr_storage where;
    socklen_t size = socket_address(&config.controllers[0].warden, &where);
    int sockets[40];
    for (int i = 0; i < 40; i++) {
        sockets[i] = socket_for(&config.controllers[0].warden, 0);
        assert_int_equal(connect(sockets[i], (struct sockaddr *)&where, size), 0);
        char junk[300];
        memset(junk, i % 3 == 0 ? 'x' : i % 3 == 1 ? '\n' : 0, sizeof junk);
        if (i < 20) /* these say nothing, and take up all places */
            send(sockets[i], junk, sizeof junk, MSG_NOSIGNAL);
    }
    watch_it();
    assert_true(answers);
    for (int i = 0; i < 40; i++)
        close(sockets[i]);
    kill(shared->child, SIGKILL);
    turn_until(&gone_count, 1, 3000);
    assert_int_equal(gone_count, 1);
    end_of(parent);
}

/* ---- a slow block device ---- */

static char mount_point[64], backing[96];

static bool slow_device_start(void)
{
    strcpy(mount_point, "/tmp/holdfast-slow-XXXXXX");
    if (!mkdtemp(mount_point))
        return false;
    snprintf(backing, sizeof backing, "%s/nbd", mount_point);
    server = fork();
    if (server == 0) {
        execlp("nbdfuse", "nbdfuse", mount_point, "[", "nbdkit", "--exit-with-parent",
               "--filter=delay", "memory", "1M", "delay-write=3", "]", NULL);
        _exit(127);
    }
    struct stat facts;
    for (int i = 0; i < 300 && stat(backing, &facts) < 0; i++) {
        if (waitpid(server, NULL, WNOHANG) == server)
            return false;
        usleep(10000);
    }
    char command[256];
    snprintf(command, sizeof command, "losetup --find --show %s 2>/dev/null", backing);
    FILE *pipe = popen(command, "r");
    if (!pipe || !fgets(slow_device, sizeof slow_device, pipe))
        slow_device[0] = '\0';
    slow_device[strcspn(slow_device, "\n")] = '\0';
    if (pipe)
        pclose(pipe);
    return slow_device[0] != '\0';
}

static void slow_device_stop(void)
{
    char command[256];
    if (slow_device[0]) {
        snprintf(command, sizeof command, "losetup -d %s", slow_device);
        assert_int_equal(system(command), 0);
    }
    snprintf(command, sizeof command, "fusermount3 -u -z %s 2>/dev/null", mount_point);
    if (system(command) != 0)
        kill(server, SIGTERM);
    waitpid(server, NULL, 0);
    server = 0;
    rmdir(mount_point);
    slow_device[0] = '\0';
}

static void the_proof_waits_for_a_write_that_is_still_under_way(void **state)
{
    if (geteuid() != 0 || !slow_device_start()) {
        slow_device_stop();
        skip();
    }
    pid_t parent = start_warden(controller);
    watch_it();
    assert_true(shared->writing);
    usleep(200000);
    uint64_t killed_us = loop_clock_us();
    kill(shared->child, SIGKILL);
    /* The process is really gone long before: its parent reaps it, and its number is free. */
    uint64_t reaped_us = 0;
    while (gone_count == 0 && loop_clock_us() - killed_us < 10000000) {
        loop_turn(&loop, loop.now_us + 10000);
        if (reaped_us == 0 && kill(shared->child, 0) < 0)
            reaped_us = loop.now_us;
    }
    assert_int_equal(gone_count, 1);
    assert_true(reaped_us != 0 && reaped_us - killed_us < 1000000);
    assert_true(gone_us[0] - killed_us > 2000000);
    /* And when the proof comes, the bytes are there. */
    int device = open(slow_device, O_RDONLY | O_DIRECT);
    static uint8_t page[4096] __attribute__((aligned(4096)));
    assert_int_equal(read(device, page, sizeof page), sizeof page);
    close(device);
    assert_int_equal(page[4095], 0x5A);
    end_of(parent);
    slow_device_stop();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    log_open("warden-test", LOG_ERROR + 1);
    watch.descriptor = -1;
    const struct CMUnitTest tests[] = {
        TEST(a_killed_controller_is_told_gone_and_its_parent_leaves),
        TEST(the_end_can_be_asked_for_even_of_a_stopped_controller),
        TEST(a_fence_that_is_no_longer_wanted_is_not_sent),
        TEST(sigterm_is_passed_on_and_a_clean_stop_ends_with_zero),
        TEST(a_second_sigterm_ends_a_controller_that_does_not_stop),
        TEST(the_controller_dies_with_its_parent_without_any_proof),
        TEST(a_parent_that_hangs_does_not_answer),
        TEST(a_wrong_secret_is_neither_answered_nor_believed),
        TEST(foreign_bytes_and_many_connections_do_no_harm),
        TEST(the_proof_waits_for_a_write_that_is_still_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
