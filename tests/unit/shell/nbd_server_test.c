/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The NBD server between real sockets and a real core that serves alone: every request is answered
 * once and with the right bytes, however many come at once, however they are cut, and whoever goes
 * in the middle of one; and nothing is kept afterwards. The register answers when the test lets it,
 * so that a volume which nobody serves yet can be asked for. */

#include "shell/nbd_connection.h"

#include "front/nbd_wire.h"
#include "idle_buffers.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

enum {
    VOLUME_BYTES = 16 << 20,
    REQUEST_LIMIT = 16,
    TURNS = 5000,
    LARGE = 3 << 20, /* past NBD_WHOLE_PAYLOAD and NBD_READ_IN_RUN */
};

static struct config config;
static struct loop loop;
static struct stores stores;
static struct nbd_server server;
static struct array *array;
static void *memory;
static size_t memory_size;
static bool register_answers, register_asked;
static struct register_action asked;
static uint64_t completions;
static uint8_t bytes[8 << 20], got[8 << 20];

/* ---- a controller without a peer ---- */

static void on_store(void *context, uint32_t io, enum store_result result)
{
    array_on_store(array, loop.now_us, io, result);
}

static void before_submit(void *context)
{
    stores_before_submit(&stores);
}

static void perform(const struct actions *actions)
{
    for (uint32_t i = 0; i < actions->store_count; i++)
        stores_perform(&stores, &actions->store[i]);
    if (actions->register_wanted) {
        register_asked = true;
        asked = actions->reg;
    }
    assert_false(actions->send_wanted);
    completions += actions->completion_count;
    for (uint32_t i = 0; i < actions->completion_count; i++)
        nbd_server_complete(&server, actions->completions[i].handle,
                            actions->completions[i].result);
}

static uint64_t burst(void)
{
    static struct register_record record;
    for (int round = 0; round < 8; round++) {
        loop.now_us = loop_clock_us();
        const struct actions *actions = array_pump(array, loop.now_us);
        uint64_t deadline_us = actions->deadline_us;
        perform(actions);
        bool again = nbd_server_flush(&server);
        if (register_asked && register_answers) {
            record = asked.swap ? asked.wanted : (struct register_record){0};
            register_asked = false;
            array_on_register(array, loop.now_us, REGISTER_OK, &record);
            again = true;
        }
        if (!again)
            return deadline_us;
    }
    return 0;
}

static void turns(int count)
{
    for (int i = 0; i < count; i++) {
        uint64_t next_us = burst();
        loop_turn(&loop, min_u64(next_us, loop.now_us + 1000));
    }
    burst();
}

static void create_array(void)
{
    static struct array_config made;
    made = (struct array_config){
        .incarnation = 1,
        .slot_count = 1024,
        .request_limit = REQUEST_LIMIT,
        .destage_io_limit = 8,
        .fetch_io_limit = 8,
        .dirty_low_percent = 40,
        .dirty_high_percent = 75,
        .destage_after_ms = 100,
        .lease_ms = 1000,
        .settle_ms = 100,
        .volume_count = 1,
        .store_count = 1,
    };
    made.volumes[0] = config.volumes[0];
    made.stores[0] = stores.store[0].config;
    assert_null(array_config_check(&made));
    memory_size = array_memory_size(&made);
    memory = mmap(NULL, memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    array = array_create(&made, memory, memory_size, loop.now_us);
}

static int set_up(void **state)
{
    memset(&config, 0, sizeof config);
    strcpy(config.name, "test");
    config.store_count = config.volume_count = 1;
    config.stores[0] = (struct config_store){.name = "disk", .io = CONFIG_IO_AUTO};
    strcpy(config.stores[0].path, "/tmp/holdfast-nbd-store-XXXXXX");
    int file = mkstemp(config.stores[0].path);
    assert_true(file >= 0);
    assert_int_equal(ftruncate(file, VOLUME_BYTES), 0);
    close(file);
    config.volumes[0] = (struct volume_config){.name = "vol0", .size_bytes = VOLUME_BYTES};
    struct config_controller *a = &config.controllers[0];
    a->request_limit = REQUEST_LIMIT;
    a->nbd_count = 1;
    a->nbd[0].kind = ADDRESS_UNIX;
    snprintf(a->nbd[0].path, sizeof a->nbd[0].path, "%s.nbd", config.stores[0].path);
    strcpy(a->nbd[0].text, "the test's socket");
    strcpy(config.controllers[1].nbd[0].text, "10.9.8.7:10809");

    assert_null(loop_open(&loop, 256, -1));
    loop.before_submit = before_submit;
    stores_init(&stores, &loop, on_store, NULL);
    char why[TRACE_LINE];
    assert_null(stores_open(&stores, &config.stores[0], why));
    register_asked = false;
    register_answers = true;
    create_array();
    assert_null(nbd_server_start(&server, &loop, array, &stores, &config, 0, why));
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 31 + i / 4096);
    return 0;
}

static int tear_down(void **state)
{
    register_answers = true;
    nbd_server_stop(&server);
    for (int i = 0; i < TURNS && (server.connections || stores.under_way > 0); i++)
        turns(1);
    assert_null(server.connections);
    assert_int_equal(server.connection_count, 0);
    assert_int_equal(server.slots_used, 0);
    assert_true(server.buffers.used_bytes == 0);
    assert_int_equal(server.volume_connections[0], 0);
    assert_null(array_check(array));
    loop_close(&loop);
    stores_close(&stores);
    free_idle_buffers(&server.buffers);
    free(server.slots);
    munmap(memory, memory_size);
    unlink(config.controllers[0].nbd[0].path);
    return unlink(config.stores[0].path);
}

static void wait_served(void)
{
    for (int i = 0; i < TURNS && array_owner(array, 0) != 1; i++)
        turns(1);
    assert_int_equal(array_owner(array, 0), 1);
}

/* ---- a client; it never waits, the loop is turned in between ---- */

static int client_open(void)
{
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_un where = {.sun_family = AF_UNIX};
    snprintf(where.sun_path, sizeof where.sun_path, "%.100s", config.controllers[0].nbd[0].path);
    assert_int_equal(connect(client, (struct sockaddr *)&where, sizeof where), 0);
    return client;
}

static void client_send(int client, const void *data, size_t length)
{
    size_t done = 0;
    for (int i = 0; i < TURNS && done < length; i++) {
        ssize_t some = send(client, (const uint8_t *)data + done, length - done, MSG_NOSIGNAL);
        assert_true(some > 0 || errno == EAGAIN);
        done += some > 0 ? (size_t)some : 0;
        turns(1);
    }
    assert_int_equal(done, length);
}

static void client_read(int client, void *data, size_t length)
{
    size_t done = 0;
    for (int i = 0; i < TURNS && done < length; i++) {
        ssize_t some = recv(client, (uint8_t *)data + done, length - done, 0);
        assert_true(some > 0 || (some < 0 && errno == EAGAIN));
        done += some > 0 ? (size_t)some : 0;
        if (done < length)
            turns(1);
    }
    assert_int_equal(done, length);
}

/* The server closes; what it still sent is passed over. */
static void client_sees_the_end(int client)
{
    uint8_t rest[4096];
    ssize_t some = 1;
    for (int i = 0; i < TURNS && some != 0; i++) {
        turns(1);
        some = recv(client, rest, sizeof rest, 0);
        assert_true(some >= 0 || errno == EAGAIN || errno == ECONNRESET);
        if (some < 0 && errno == ECONNRESET)
            some = 0;
    }
    assert_int_equal(some, 0);
    close(client);
}

static void send_option(int client, uint32_t option, const void *data, uint32_t length)
{
    uint8_t head[NBD_OPTION_HEAD_BYTES + 64];
    put_u64(head, NBD_MAGIC_OPTION);
    put_u32(head + 8, option);
    put_u32(head + 12, length);
    memcpy(head + NBD_OPTION_HEAD_BYTES, data, length);
    client_send(client, head, NBD_OPTION_HEAD_BYTES + length);
}

static void greet(int client)
{
    uint8_t greeting[NBD_GREETING_BYTES], flags[4];
    client_read(client, greeting, sizeof greeting);
    assert_true(get_u64(greeting + 8) == NBD_MAGIC_OPTION);
    put_u32(flags, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    client_send(client, flags, sizeof flags);
}

/* The reply's type; its data is in `got`. */
static uint32_t read_option_reply(int client)
{
    uint8_t head[NBD_OPTION_REPLY_BYTES];
    client_read(client, head, sizeof head);
    assert_true(get_u64(head) == NBD_MAGIC_OPTION_REPLY);
    uint32_t length = get_u32(head + 16);
    assert_true(length < 4096);
    client_read(client, got, length);
    got[length] = '\0';
    return get_u32(head + 12);
}

/* Through the negotiation to simple replies. */
static int client_begin(void)
{
    int client = client_open();
    greet(client);
    send_option(client, NBD_OPT_GO, "\0\0\0\4vol0\0\0", 10);
    assert_int_equal(read_option_reply(client), NBD_REP_INFO);
    assert_true(get_u64(got + 2) == VOLUME_BYTES);
    assert_int_equal(read_option_reply(client), NBD_REP_ACK);
    return client;
}

static size_t put_request(uint8_t *to, uint16_t flags, uint16_t command, uint64_t cookie,
                          uint64_t offset, uint32_t length)
{
    put_u32(to, NBD_MAGIC_REQUEST);
    put_u16(to + 4, flags);
    put_u16(to + 6, command);
    put_u64(to + 8, cookie);
    put_u64(to + 16, offset);
    put_u32(to + 24, length);
    return NBD_REQUEST_BYTES;
}

static void send_request(int client, uint16_t flags, uint16_t command, uint64_t cookie,
                         uint64_t offset, uint32_t length)
{
    uint8_t head[NBD_REQUEST_BYTES];
    client_send(client, head, put_request(head, flags, command, cookie, offset, length));
}

/* A reply's head: its cookie; the error must be the expected one. */
static uint64_t read_reply(int client, uint32_t error)
{
    uint8_t head[NBD_SIMPLE_BYTES];
    client_read(client, head, sizeof head);
    assert_int_equal(get_u32(head), NBD_MAGIC_SIMPLE);
    assert_int_equal(get_u32(head + 4), error);
    return get_u64(head + 8);
}

static void write_at(int client, uint16_t flags, uint64_t offset, uint32_t length)
{
    uint8_t first[NBD_REQUEST_BYTES + 512]; /* some of the payload comes with the head */
    uint32_t some = length < 512 ? length : 512;
    size_t head = put_request(first, flags, NBD_WRITE, offset, offset, length);
    memcpy(first + head, bytes + offset, some);
    client_send(client, first, head + some);
    client_send(client, bytes + offset + some, length - some);
    assert_true(read_reply(client, NBD_OK) == offset);
}

static void read_at(int client, uint64_t offset, uint32_t length)
{
    send_request(client, 0, NBD_READ, offset + 1, offset, length);
    assert_true(read_reply(client, NBD_OK) == offset + 1);
    client_read(client, got, length);
    assert_memory_equal(got, bytes + offset, length);
}

/* ---- tests ---- */

static void what_is_written_is_read_and_on_the_store(void **state)
{
    static const struct {
        uint64_t offset;
        uint32_t length;
    } rows[] = {{0, 4096},
                {4096 + 512, 512},
                {12345, 7777},
                {65536, NBD_WHOLE_PAYLOAD},
                {262144, NBD_WHOLE_PAYLOAD + 1},
                {1 << 20, LARGE}};
    wait_served();
    int client = client_begin();
    assert_int_equal(server.volume_connections[0], 1);
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++)
        write_at(client, 0, rows[i].offset, rows[i].length);
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++)
        read_at(client, rows[i].offset, rows[i].length);
    send_request(client, 0, NBD_FLUSH, 99, 0, 0);
    assert_true(read_reply(client, NBD_OK) == 99);
    int file = open(config.stores[0].path, O_RDONLY);
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        assert_int_equal(pread(file, got, rows[i].length, (off_t)rows[i].offset), rows[i].length);
        assert_memory_equal(got, bytes + rows[i].offset, rows[i].length);
    }
    close(file);
    send_request(client, 0, NBD_DISC, 0, 0, 0);
    client_sees_the_end(client);
}

/* Many times what the core takes at once, in one go: who finds no room waits, and each is answered
 * once. */
static void more_requests_than_the_core_takes_are_all_answered(void **state)
{
    enum { MANY = 20 * REQUEST_LIMIT };
    static uint8_t heads[2][MANY * (NBD_REQUEST_BYTES + 512)];
    static bool answered[2][MANY];
    int clients[2];
    wait_served();
    memset(answered, 0, sizeof answered);
    for (int c = 0; c < 2; c++)
        clients[c] = client_begin();
    for (int c = 0; c < 2; c++) {
        size_t used = 0;
        for (uint32_t i = 0; i < MANY; i++) {
            uint64_t offset = ((uint64_t)c * MANY + i) * 4096;
            used += put_request(heads[c] + used, 0, NBD_WRITE, i, offset, 512);
            memcpy(heads[c] + used, bytes + offset, 512);
            used += 512;
        }
        ssize_t sent = send(clients[c], heads[c], used, 0);
        assert_true(sent > 0);
        client_send(clients[c], heads[c] + sent, used - (size_t)sent);
    }
    for (int c = 0; c < 2; c++)
        for (uint32_t i = 0; i < MANY; i++) {
            uint64_t cookie = read_reply(clients[c], NBD_OK);
            assert_true(cookie < MANY && !answered[c][cookie]);
            answered[c][cookie] = true;
            assert_true(server.slots_used <= REQUEST_LIMIT);
        }
    for (int c = 0; c < 2; c++) {
        for (uint32_t i = 0; i < MANY; i++)
            read_at(clients[c], ((uint64_t)c * MANY + i) * 4096, 512);
        close(clients[c]);
    }
}

static void bytes_that_come_one_by_one_are_the_same_request(void **state)
{
    wait_served();
    int client = client_begin();
    uint8_t head[NBD_REQUEST_BYTES];
    put_request(head, NBD_FUA, NBD_WRITE, 5, 8192, 100);
    for (size_t i = 0; i < sizeof head; i++)
        client_send(client, head + i, 1);
    for (size_t i = 0; i < 100; i++)
        client_send(client, bytes + 8192 + i, 1);
    assert_true(read_reply(client, NBD_OK) == 5);
    read_at(client, 8192, 100);
    close(client);
}

/* In the middle of a payload that is received straight into its buffer, and with a read under way:
 * slot and buffer come back. */
static void a_client_that_goes_in_the_middle_leaves_nothing_behind(void **state)
{
    wait_served();
    int stays = client_begin();
    write_at(stays, 0, 0, LARGE);
    for (int way = 0; way < 3; way++) {
        int client = client_begin();
        send_request(client, 0, way == 1 ? NBD_READ : NBD_WRITE, 1, 4 << 20, LARGE);
        if (way == 0)
            client_send(client, bytes, LARGE / 2);
        if (way == 2)
            client_send(client, bytes, 100);
        struct linger reset = {.l_onoff = 1};
        setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(client);
        for (int i = 0; i < TURNS && server.connection_count > 1; i++)
            turns(1);
        assert_int_equal(server.connection_count, 1);
        assert_int_equal(server.slots_used, 0);
        assert_true(server.buffers.used_bytes == 0);
    }
    read_at(stays, 0, LARGE); /* half a payload changed nothing */
    close(stays);
}

/* A client that takes no replies holds a bounded amount of memory; when it takes them, all come. */
static void replies_that_are_not_taken_are_bounded(void **state)
{
    enum { READS = 400, EACH = 32768 };
    static uint8_t heads[READS * NBD_REQUEST_BYTES];
    wait_served();
    int client = client_begin();
    write_at(client, 0, 0, LARGE);
    size_t used = 0;
    for (uint32_t i = 0; i < READS; i++)
        used += put_request(heads + used, 0, NBD_READ, i, (i % 64) * EACH, EACH);
    client_send(client, heads, used);
    turns(50);
    assert_true(server.connections->output.waiting_bytes <=
                NBD_OUTPUT_HIGH + REQUEST_LIMIT * (EACH + NBD_SIMPLE_BYTES));
    for (uint32_t i = 0; i < READS; i++) {
        uint64_t cookie = read_reply(client, NBD_OK);
        assert_true(cookie < READS);
        client_read(client, got, EACH);
        assert_memory_equal(got, bytes + (cookie % 64) * EACH, EACH);
    }
    close(client);
}

static void errors_are_answered_and_the_connection_goes_on(void **state)
{
    wait_served();
    int client = client_begin();
    send_request(client, 0, NBD_READ, 1, VOLUME_BYTES, 512);
    assert_true(read_reply(client, NBD_EINVAL) == 1);
    send_request(client, 0, NBD_WRITE, 2, VOLUME_BYTES - 1, 4096);
    client_send(client, bytes, 4096);
    assert_true(read_reply(client, NBD_ENOSPC) == 2);
    send_request(client, 0, 77, 3, 0, 0);
    assert_true(read_reply(client, NBD_EINVAL) == 3);
    write_at(client, 0, 4096, 512);
    read_at(client, 4096, 512);
    close(client);
}

static unsigned count_lines(FILE *log, const char *one, const char *other)
{
    char line[1024];
    unsigned count = 0;
    rewind(log);
    while (fgets(line, sizeof line, log))
        count += strstr(line, one) && strstr(line, other);
    return count;
}

/* Before anybody serves: refused when the volume is asked for, counted each time, said once; the
 * same connection may ask again, and is let in when the volume is served. */
static void a_volume_that_is_not_served_is_refused_counted_and_said_once(void **state)
{
    FILE *log = tmpfile();
    assert_non_null(log);
    int standard = dup(STDERR_FILENO);
    dup2(fileno(log), STDERR_FILENO);
    register_answers = false;
    int client = client_open();
    greet(client);
    for (uint32_t i = 1; i <= 3; i++) {
        send_option(client, i == 2 ? NBD_OPT_INFO : NBD_OPT_GO, "\0\0\0\4vol0\0\0", 10);
        assert_int_equal(read_option_reply(client), NBD_REP_ERR_POLICY);
        assert_non_null(strstr((char *)got, "no controller serves this volume now"));
        assert_true(server.volume_refused[0] == i);
    }
    assert_int_equal(server.volume_connections[0], 0);
    dup2(standard, STDERR_FILENO);
    close(standard);
    assert_int_equal(count_lines(log, "volume vol0: NBD client a local socket refused",
                                 "no controller serves this volume now"),
                     1);
    fclose(log);
    register_answers = true;
    wait_served();
    send_option(client, NBD_OPT_GO, "\0\0\0\4vol0\0\0", 10);
    assert_int_equal(read_option_reply(client), NBD_REP_INFO);
    assert_int_equal(read_option_reply(client), NBD_REP_ACK);
    assert_true(server.volume_refused[0] == 3);
    write_at(client, 0, 0, 512);
    close(client);
}

static void a_stop_closes_every_connection(void **state)
{
    wait_served();
    int idle = client_open(), ready = client_begin();
    greet(idle);
    send_request(ready, 0, NBD_WRITE, 1, 0, LARGE);
    client_send(ready, bytes, 1000);
    nbd_server_stop(&server);
    client_sees_the_end(idle);
    client_sees_the_end(ready);
    assert_int_equal(access(config.controllers[0].nbd[0].path, F_OK), -1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_is_written_is_read_and_on_the_store),
        TEST(more_requests_than_the_core_takes_are_all_answered),
        TEST(bytes_that_come_one_by_one_are_the_same_request),
        TEST(a_client_that_goes_in_the_middle_leaves_nothing_behind),
        TEST(replies_that_are_not_taken_are_bounded),
        TEST(errors_are_answered_and_the_connection_goes_on),
        TEST(a_volume_that_is_not_served_is_refused_counted_and_said_once),
        TEST(a_stop_closes_every_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
