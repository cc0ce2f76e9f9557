/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Sessions between two arrays, all ends in one process on one loop: one controller that sends, both
 * controllers of the second array, and a way between them that can be long and can break. Batches
 * arrive whole and are answered in any order; the session finds the controller that holds the
 * group, moves with it, and comes back by itself; only who has the secret and the same volumes
 * comes in; a long way and a limit of bandwidth cost what they must and no more. Compressed batches
 * are whole again when they are handed out, and go only to who knows them. */

#include "shell/copy_outgoing.h"
#include "shell/copy_server.h"

#include "base/generator.h"
#include "shell/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "array_sessions.h"

enum { BATCHES = COPY_WINDOW, PIECES = 1100 };

static struct loop loop;
static struct config first, second;
static struct copy_outgoing *out;
static struct copy_server *servers[CONTROLLER_COUNT];
static struct generator chance;
static char directory[64], psk_path[128];

static uint32_t pick(uint32_t below)
{
    return (uint32_t)(generator_next(&chance) % below);
}

/* ---- a long way: every byte arrives `delay_ms` later, any number may be on the way ---- */

enum { WAY_BYTES = 64 << 20, WAY_CHUNKS = 1 << 16, WAY_READ = 256 * 1024 };

static struct way {
    pthread_t thread;
    int listener;
    uint16_t port, to_port;
    atomic_uint delay_ms;
    atomic_bool cut, end;
    struct flow {
        uint8_t *bytes;
        uint64_t head, tail; /* of the ring */
        struct {
            uint64_t due_us, upto;
        } * chunks;
        uint32_t chunk_head, chunk_tail;
        int from, to;
    } flows[2];
} ways[CONTROLLER_COUNT];

static void flow_read(struct flow *flow, uint64_t due_us)
{
    uint64_t at = flow->tail % WAY_BYTES, room = WAY_BYTES - (flow->tail - flow->head);
    uint64_t size = WAY_BYTES - at < room ? WAY_BYTES - at : room;
    if (size == 0 || flow->chunk_tail - flow->chunk_head == WAY_CHUNKS)
        return;
    ssize_t got =
        recv(flow->from, flow->bytes + at, size < WAY_READ ? size : WAY_READ, MSG_DONTWAIT);
    if (got <= 0)
        return;
    flow->tail += (uint64_t)got;
    flow->chunks[flow->chunk_tail % WAY_CHUNKS].due_us = due_us;
    flow->chunks[flow->chunk_tail++ % WAY_CHUNKS].upto = flow->tail;
}

static void flow_write(struct flow *flow, uint64_t now_us)
{
    while (flow->chunk_head != flow->chunk_tail &&
           flow->chunks[flow->chunk_head % WAY_CHUNKS].due_us <= now_us) {
        uint64_t upto = flow->chunks[flow->chunk_head % WAY_CHUNKS].upto;
        uint64_t at = flow->head % WAY_BYTES, size = upto - flow->head;
        if (size > WAY_BYTES - at)
            size = WAY_BYTES - at;
        ssize_t put = send(flow->to, flow->bytes + at, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (put <= 0)
            return;
        flow->head += (uint64_t)put;
        if (flow->head == upto)
            flow->chunk_head++;
    }
}

static void way_close(struct way *way)
{
    struct linger now = {.l_onoff = 1};
    for (int i = 0; i < 2; i++)
        if (way->flows[i].from >= 0) {
            setsockopt(way->flows[i].from, SOL_SOCKET, SO_LINGER, &now, sizeof now);
            close(way->flows[i].from);
            way->flows[i].from = -1;
        }
}

static bool is_over(int descriptor)
{
    char byte;
    ssize_t got = recv(descriptor, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN);
}

static int way_connect(struct way *way)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(way->to_port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int far = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(far, (struct sockaddr *)&to, sizeof to) == 0)
        return far;
    close(far);
    return -1;
}

static void way_open(struct way *way)
{
    int near = accept4(way->listener, NULL, NULL, SOCK_CLOEXEC), far = -1;
    if (near < 0)
        return;
    way_close(way);
    if (!atomic_load(&way->cut))
        far = way_connect(way);
    if (far < 0) {
        close(near);
        return;
    }
    socket_no_delay(near);
    socket_no_delay(far);
    for (int i = 0; i < 2; i++) {
        struct flow *flow = &way->flows[i];
        flow->from = i ? far : near;
        flow->to = i ? near : far;
        flow->head = flow->tail = flow->chunk_head = flow->chunk_tail = 0;
    }
}

static void *way_run(void *context)
{
    struct way *way = context;
    while (!atomic_load(&way->end)) {
        struct pollfd look[3] = {{.fd = way->listener, .events = POLLIN},
                                 {.fd = way->flows[0].from, .events = POLLIN},
                                 {.fd = way->flows[1].from, .events = POLLIN}};
        poll(look, 3, 1);
        if (look[0].revents)
            way_open(way);
        if (way->flows[0].from < 0)
            continue;
        uint64_t now_us = loop_clock_us();
        bool over = atomic_load(&way->cut);
        for (int i = 0; i < 2; i++) {
            flow_read(&way->flows[i], now_us + atomic_load(&way->delay_ms) * 1000ull);
            flow_write(&way->flows[i], now_us);
            over |= is_over(way->flows[i].from);
        }
        if (over)
            way_close(way);
    }
    way_close(way);
    return NULL;
}

static void way_start(struct way *way, uint16_t to_port)
{
    memset(way, 0, sizeof *way);
    way->to_port = to_port;
    way->port = listen_somewhere(&way->listener);
    for (int i = 0; i < 2; i++) {
        way->flows[i].from = -1;
        way->flows[i].bytes = malloc(WAY_BYTES);
        way->flows[i].chunks = malloc(WAY_CHUNKS * sizeof *way->flows[i].chunks);
    }
    assert_int_equal(pthread_create(&way->thread, NULL, way_run, way), 0);
}

/* ---- the second array ---- */

static int here; /* which of its controllers holds the group */
static bool refuses;
static struct asked {
    int server, half;
    uint32_t handle;
    uint64_t number;
} asked[4 * BATCHES];
static uint32_t asked_count;
static bool hold_answers;
static uint64_t taken_bytes;
static uint32_t taken_count, most_ahead; /* arrived there while their answers were on their way */
static uint32_t random_step;             /* of so many bytes 8 are random; 0: none are */
static bool lies;                        /* heads that say another length than follows */
static unsigned corrupt;

static uint8_t pattern(uint64_t number, uint32_t at)
{
    return (uint8_t)(number * 13 + at * 7 + (at >> 8));
}

static void on_state(void *context, uint32_t group, struct copy_state *state)
{
    int self = context == (void *)&servers[1];
    assert_int_equal(group, 0);
    *state = (struct copy_state){.role = COPY_RECEIVING,
                                 .flags = here == self ? COPY_STATE_HERE : 0,
                                 .era = 3,
                                 .memory = 7,
                                 .room_pages = 1000,
                                 .window = COPY_WINDOW};
}

static void on_batch(void *context, uint32_t group, int half, uint32_t handle, const uint8_t *bytes,
                     uint32_t length)
{
    int self = context == (void *)&servers[1];
    uint64_t number;
    memcpy(&number, bytes, sizeof number);
    for (uint32_t i = 8; i < length; i += 61)
        corrupt += bytes[i] != pattern(number, i);
    corrupt += bytes[length - 1] != pattern(number, length - 1);
    taken_bytes += length;
    taken_count++;
    assert_true(asked_count < 4 * BATCHES);
    asked[asked_count++] = (struct asked){self, half, handle, number};
}

static const struct copy_server_user server_user = {.state = on_state, .batch = on_batch};

static void answer_some(void)
{
    while (asked_count > 0 && !hold_answers) {
        uint32_t which = pick(asked_count);
        copy_server_answer(servers[asked[which].server], asked[which].handle, !refuses);
        asked[which] = asked[--asked_count];
    }
}

/* ---- the sender ---- */

static struct batch {
    uint64_t number; /* 0: free */
    struct iovec pieces[PIECES];
    uint8_t bytes[COPY_BATCH_BYTES];
} * batches[BATCHES];
static uint32_t batch_count;
static unsigned ups, downs, goods, bads;
static bool is_up;
static struct copy_state told;

static void on_up(void *context, const struct copy_state *state)
{
    assert_false(is_up);
    is_up = true;
    told = *state;
    ups++;
}

static void on_down(void *context)
{
    assert_true(is_up);
    is_up = false;
    downs++;
    if (out->press)
        assert_int_equal(out->press->busy, 0); /* nobody reads what is given back */
    for (uint32_t i = 0; i < batch_count; i++)
        batches[i]->number = 0;
}

static void on_answered(void *context, uint64_t number, bool good)
{
    assert_true(is_up);
    goods += good;
    bads += !good;
    for (uint32_t i = 0; i < batch_count; i++)
        if (batches[i]->number == number) {
            batches[i]->number = 0;
            return;
        }
    fail_msg("an answer to nothing: %llu", (unsigned long long)number);
}

static unsigned told_again;

static void on_told(void *context, const struct copy_state *state)
{
    assert_true(is_up);
    told = *state;
    told_again++;
}

static const struct copy_outgoing_user outgoing_user = {
    .up = on_up, .state = on_told, .down = on_down, .answered = on_answered};

/* What the rest of a batch of this length could be. */
static void put_counts(uint8_t *bytes, uint32_t length)
{
    uint32_t rest = length - COPY_HEAD_SIZE;
    uint32_t records = rest / COPY_RECORD_SIZE < COPY_RECORDS ? 1 : COPY_RECORDS;
    if (rest < COPY_RECORD_SIZE)
        return;
    put_u32(bytes + 72, records);
    put_u32(bytes + 76, rest - records * COPY_RECORD_SIZE + (lies ? 1 : 0));
}

static void send_batch(struct batch *batch, uint64_t number, uint32_t length)
{
    uint32_t at = 0, count = 0;
    batch->number = number;
    memcpy(batch->bytes, &number, sizeof number);
    for (uint32_t i = COPY_HEAD_SIZE; i + 8 <= length && random_step > 0; i += random_step)
        put_u64(batch->bytes + i, generator_next(&chance));
    for (uint32_t i = 8; i < length; i += 61)
        batch->bytes[i] = pattern(number, i);
    batch->bytes[length - 1] = pattern(number, length - 1);
    put_counts(batch->bytes, length);
    while (at < length) {
        uint32_t size = count == 0            ? COPY_HEAD_SIZE
                        : count + 1 == PIECES ? length - at
                                              : 1 + pick(8192);
        if (size > length - at)
            size = length - at;
        batch->pieces[count++] = (struct iovec){batch->bytes + at, size};
        at += size;
    }
    copy_outgoing_send(out, number, batch->pieces, count, length);
}

static uint64_t burst(void *context)
{
    answer_some();
    copy_outgoing_flush(out);
    for (int i = 0; i < CONTROLLER_COUNT; i++)
        copy_server_flush(servers[i]);
    return loop.now_us + 5000;
}

static void turn(void)
{
    static uint64_t next_us;
    loop_turn(&loop, next_us);
    next_us = burst(NULL);
}

static bool all_idle(void)
{
    for (uint32_t i = 0; i < batch_count; i++)
        if (batches[i]->number != 0)
            return false;
    return true;
}

/* ---- configurations ---- */

static void parse(struct config *to, const char *name, const char *group, const uint16_t ports[2])
{
    char text[1200];
    snprintf(text, sizeof text, "[volume w]\nstore = disk\noffset = 1G\nsize = 2G\n[group db]\n%s",
             group);
    parse_array(to, name, ports, text);
}

struct plan {
    const char *send, *receive; /* keys of the group beside role, array and address */
};

static const struct plan usual = {"secret = twelve letters\nvolumes = v, w\n",
                                  "secret = twelve letters\nvolumes = v, w\n"};
static const struct plan squeezed = {
    "secret = twelve letters\nvolumes = v, w\ncompression = zstd\n",
    "secret = twelve letters\nvolumes = v, w\n"};

static void start(const struct plan *plan, bool both)
{
    char text[1024], why[TRACE_LINE];
    uint16_t ports[2];
    assert_null(loop_open(&loop, 256, -1));
    for (int i = 0; i < 2; i++)
        ports[i] = free_port();
    snprintf(text, sizeof text, "role = receive\narray = first\n%s", plan->receive);
    parse(&second, "second", text, ports);
    for (int i = 0; i < 2; i++)
        way_start(&ways[i], ports[i]);
    if (both)
        snprintf(text, sizeof text,
                 "role = send\narray = second\naddress = 127.0.0.1:%u, 127.0.0.1:%u\n%s",
                 ways[0].port, ways[1].port, plan->send);
    else
        snprintf(text, sizeof text, "role = send\narray = second\naddress = 127.0.0.1:%u\n%s",
                 ways[0].port, plan->send);
    ports[0] = ports[1] + 1 < 60000 ? 60001 : 40001;
    ports[1] = 60002;
    parse(&first, "first", text, ports);
    for (int i = 0; i < 2; i++)
        servers[i] = server_start(&loop, &second, i, &server_user, &servers[i]);
    out = calloc(1, sizeof *out);
    const char *wrong =
        copy_outgoing_start(out, &loop, &first, &first.groups[0], 0, &outgoing_user, NULL, why);
    if (wrong)
        fail_msg("%s", wrong);
    array_session_want(&out->session, true);
    here = 0;
    is_up = refuses = hold_answers = lies = false;
    random_step = 0;
    ups = downs = goods = bads = corrupt = told_again = 0;
    asked_count = 0;
    taken_bytes = taken_count = most_ahead = 0;
    for (uint32_t i = 0; i < batch_count; i++)
        memset(batches[i], 0, sizeof *batches[i]);
}

static void stop(void)
{
    for (int i = 0; i < 2; i++) {
        atomic_store(&ways[i].end, true);
        pthread_join(ways[i].thread, NULL);
        close(ways[i].listener);
        for (int j = 0; j < 2; j++) {
            free(ways[i].flows[j].bytes);
            free(ways[i].flows[j].chunks);
        }
    }
    /* Everything is still with the ring: it goes first. */
    loop_close(&loop);
    for (int i = 0; i < 2; i++)
        server_free(servers[i]);
    session_free(&out->session);
    if (out->press)
        copy_press_end(out->press);
    free(out->press);
    free(out);
}

/* ---- tests ---- */

/* `count` batches, as many at a time as the window takes. */
static void talk(unsigned count, uint32_t least, uint32_t most)
{
    static uint64_t number;
    unsigned begun = 0;
    uint64_t end_us = loop_clock_us() + 60 * 1000000ull;
    while (begun < count || !all_idle()) {
        for (uint32_t i = 0; i < batch_count && begun < count && is_up; i++)
            if (batches[i]->number == 0) {
                send_batch(batches[i], ++number, least + pick(most - least + 1));
                begun++;
            }
        if (loop_clock_us() > end_us)
            fail_msg("%u of %u after a minute: %s", begun, count, out->session.counts.error);
        turn();
        if (taken_count > goods + most_ahead)
            most_ahead = taken_count - goods;
    }
}

static void batches_arrive_whole_and_are_answered_in_any_order(void **state)
{
    for (int kind = 0; kind < 4; kind++) {
        char send[300], receive[256];
        snprintf(receive, sizeof receive, "%s%s%s\n", usual.send, kind & 1 ? "tls_psk = " : "",
                 kind & 1 ? psk_path : "");
        snprintf(send, sizeof send, "%s%s", receive, kind & 2 ? "compression = zstd\n" : "");
        start(&(struct plan){send, receive}, true);
        UNTIL(is_up, 5);
        assert_int_equal(told.era, 3);
        assert_int_equal(told.window, COPY_WINDOW);
        assert_int_equal(out->session.stream.with_tls, kind & 1);
        assert_int_equal(out->counts.zstd, kind >> 1);
        talk(300, COPY_HEAD_SIZE, 20000);
        talk(60, COPY_BATCH_BYTES - 100, COPY_BATCH_BYTES);
        assert_int_equal(goods, 360);
        assert_int_equal(bads + downs + corrupt, 0);
        assert_int_equal(out->session.ship.r2t_count, 0);
        assert_int_equal(out->counts.batch_bytes, taken_bytes);
        if (kind & 2)
            assert_true(out->counts.packed_bytes < taken_bytes / 2);
        else
            assert_int_equal(out->counts.packed_bytes, taken_bytes);
        refuses = true;
        talk(3, 200, 300);
        assert_int_equal(bads, 3);
        stop();
    }
}

static void the_session_is_where_the_group_is(void **state)
{
    start(&usual, true);
    here = 1;
    UNTIL(is_up, 5);
    assert_int_equal(out->session.counts.address, 1);
    here = 0; /* it moves: the next question finds that out */
    UNTIL(is_up && out->session.counts.address == 0, 10);
    assert_int_equal(downs, 1);
    talk(40, 128, 9000);
    assert_int_equal(goods, 40);
    here = -1; /* nobody holds it for a while */
    UNTIL(!is_up, 5);
    for (int i = 0; i < 200; i++)
        turn();
    assert_false(is_up);
    here = 1;
    UNTIL(is_up, 10);
    stop();
}

static void a_session_that_is_not_wanted_goes_and_comes_again(void **state)
{
    start(&usual, true);
    UNTIL(is_up, 5);
    UNTIL(told_again > 0, 5);
    array_session_want(&out->session, false);
    array_session_want(&out->session, false);
    UNTIL(!is_up, 5);
    for (int i = 0; i < 300; i++)
        turn();
    assert_int_equal(ups, 1);
    assert_int_equal(out->session.stream.descriptor, -1);
    array_session_want(&out->session, true);
    UNTIL(is_up, 5);
    array_session_want(&out->session, false); /* and again before the last one has ended */
    array_session_want(&out->session, true);
    UNTIL(ups == 3, 5);
    talk(40, 128, 9000);
    assert_int_equal(goods, 40);
    stop();
}

/* The core may drop a session that was lost before it said so, while the next one is waited for. */
static void without_a_session_there_is_none_to_drop(void **state)
{
    start(&usual, true);
    array_session_reset(&out->session);
    UNTIL(is_up, 5);
    array_session_want(&out->session, false);
    UNTIL(out->session.stream.descriptor < 0 && !out->session.stream.closing, 5);
    array_session_want(&out->session, true);
    array_session_reset(&out->session);
    UNTIL(ups == 2, 5);
    talk(40, 128, 9000);
    assert_int_equal(goods, 40);
    stop();
}

static void who_loses_the_group_sends_its_sessions_away(void **state)
{
    start(&usual, true);
    UNTIL(is_up, 5);
    assert_int_equal(out->session.counts.address, 0);
    assert_non_null(copy_server_from(servers[0], 0, 0));
    assert_null(copy_server_from(servers[0], 0, 1));
    assert_null(copy_server_from(servers[1], 0, 0));
    here = 1;
    uint64_t began_us = loop_clock_us();
    copy_server_leave(servers[0], 0);
    assert_null(copy_server_from(servers[0], 0, 0));
    UNTIL(is_up && out->session.counts.address == 1, 5);
    assert_true(loop_clock_us() - began_us < COPY_ASK_MS * 900ull); /* no question was waited for */
    stop();
}

static void what_does_not_get_shorter_goes_as_it_is(void **state)
{
    start(&squeezed, true);
    random_step = 8;
    UNTIL(is_up, 5);
    talk(100, COPY_HEAD_SIZE, 200000);
    assert_int_equal(goods, 100);
    assert_int_equal(corrupt, 0);
    assert_true(out->counts.zstd);
    assert_int_equal(out->counts.packed_bytes, taken_bytes);
    assert_int_equal(servers[0]->counts.packed_batches, 0);
    stop();
}

static void who_does_not_know_zstd_is_not_sent_it(void **state)
{
    start(&squeezed, true);
    servers[0]->zstd = false;
    UNTIL(is_up, 5);
    assert_false(out->counts.zstd);
    talk(50, COPY_HEAD_SIZE, 200000);
    assert_int_equal(goods, 50);
    assert_int_equal(downs + corrupt, 0);
    assert_int_equal(out->counts.packed_bytes, taken_bytes);
    /* The group moves to one that does. */
    here = 1;
    UNTIL(is_up && out->session.counts.address == 1, 10);
    assert_true(out->counts.zstd);
    talk(50, 10000, 200000);
    assert_true(servers[1]->counts.packed_batches >= 50);
    assert_int_equal(corrupt, 0);
    stop();
}

static void a_packed_batch_that_is_none_is_refused(void **state)
{
    start(&squeezed, true);
    UNTIL(is_up, 5);
    lies = true;
    talk(40, 10000, 200000);
    assert_int_equal(bads, 40);
    assert_int_equal(taken_bytes, 0);
    assert_int_equal(servers[0]->counts.packed_refused, 40);
    lies = false;
    talk(40, 10000, 200000);
    assert_int_equal(goods, 40);
    assert_int_equal(downs + corrupt, 0);
    stop();
}

static void a_packed_batch_that_is_damaged_is_refused(void **state)
{
    char limited[256];
    snprintf(limited, sizeof limited, "%sbandwidth = 1M\n", squeezed.send);
    start(&(struct plan){limited, squeezed.receive}, true);
    UNTIL(is_up, 5);
    random_step = 64;
    send_batch(batches[0], 1, COPY_BATCH_BYTES);
    UNTIL(out->counts.packed_bytes > 0, 5);
    assert_true(out->counts.packed_bytes > 100000); /* so that its end has not left yet */
    memset(out->press->places[0].bytes + out->counts.packed_bytes - 64, 0, 64);
    UNTIL(bads == 1, 10);
    assert_int_equal(servers[0]->counts.packed_refused, 1);
    assert_int_equal(taken_bytes, 0);
    talk(3, 10000, 20000);
    assert_int_equal(goods, 3);
    assert_int_equal(corrupt, 0);
    stop();
}

static void batches_being_compressed_are_given_back_unread(void **state)
{
    start(&squeezed, true);
    for (unsigned round = 1; round <= 10; round++) {
        UNTIL(is_up, 10);
        for (uint32_t i = 0; i < BATCHES; i++)
            send_batch(batches[i], round * 100 + i, COPY_BATCH_BYTES);
        for (unsigned turns = pick(round); turns > 0; turns--)
            turn();
        assert_true(out->press->busy > 0);
        array_session_reset(&out->session);
        array_session_reset(&out->session);
        UNTIL(downs == round, 10);
    }
    UNTIL(is_up, 10);
    talk(40, 10000, 20000);
    assert_int_equal(corrupt, 0);
    stop();
}

/* An owner that does not answer soon has all the memory for batches that there is: what comes then
 * waits, also packed, and what belongs to a session that has gone is given back. */
static void packed_batches_take_no_more_memory_than_there_is(void **state)
{
    start(&squeezed, true);
    for (int round = 0; round < 2; round++) {
        UNTIL(is_up, 10);
        hold_answers = true;
        for (uint32_t i = 0; i < BATCHES; i++)
            send_batch(batches[i], i + 1, COPY_BATCH_BYTES);
        UNTIL(asked_count > 0 && !buffers_have_room(&servers[0]->buffers), 20);
        for (int i = 0; i < 50; i++) {
            turn();
            assert_true(servers[0]->buffers.used_bytes <= BUFFER_BUDGET_BYTES);
        }
        assert_true(asked_count < BATCHES);
        if (round == 0) {
            array_session_reset(&out->session);
            UNTIL(downs == 1, 10);
        }
        hold_answers = false;
        UNTIL(all_idle() && asked_count == 0, 20);
    }
    assert_int_equal(goods, BATCHES);
    assert_int_equal(servers[0]->buffers.used_bytes, 0);
    assert_int_equal(corrupt, 0);
    stop();
}

static void break_the_way(const struct plan *plan)
{
    start(plan, true);
    UNTIL(is_up, 5);
    for (unsigned round = 1; round <= 4; round++) {
        hold_answers = round % 2; /* batches that the other side still has when the way breaks */
        for (uint32_t i = 0; i < 8; i++)
            send_batch(batches[i], round * 1000 + i, 500000 + pick(500000));
        unsigned turns = pick(40);
        for (unsigned i = 0; i < turns; i++)
            turn();
        atomic_store(&ways[out->session.counts.address].cut, true);
        unsigned before = downs;
        if (pick(2))
            UNTIL(downs > before, 10);
        else {
            array_session_reset(&out->session);
            UNTIL(downs > before, 10);
        }
        atomic_store(&ways[0].cut, false);
        atomic_store(&ways[1].cut, false);
        /* It is let in again while the answers of the old session are still owed. */
        UNTIL(is_up, 10);
        hold_answers = false;
        talk(50, 128, 100000);
    }
    assert_int_equal(corrupt, 0);
    assert_true(servers[0]->counts.waiting + servers[1]->counts.waiting == 0);
    /* Nothing of the broken sessions is left behind. */
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < COPY_TASK_LIMIT; j++)
            assert_false(servers[i]->tasks[j].used && !servers[i]->tasks[j].front);
    stop();
}

static void a_broken_way_costs_no_more_than_sending_again(void **state)
{
    break_the_way(&usual);
    break_the_way(&squeezed);
}

static void only_the_right_ones_come_in(void **state)
{
    char tls[256];
    snprintf(tls, sizeof tls, "%stls_psk = %s\n", usual.send, psk_path);
    const struct {
        struct plan plan;
        const char *said;
    } rows[] = {
        {{usual.send, "secret = other letters\nvolumes = v, w\n"}, "uthenticat"},
        {{usual.send, "secret = twelve letters\nvolumes = w, v\n"},
         "volume 1 is v:v here and w:w there; write the same pairs in the same order"},
        {{usual.send, "secret = twelve letters\nvolumes = v\n"},
         "the group has 2 volumes here and 1 there"},
        {{tls, usual.receive}, ""},
        {{usual.send, tls}, ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        start(&rows[i].plan, false);
        uint64_t end_us = loop_clock_us() + 700000;
        while (loop_clock_us() < end_us)
            turn();
        if (is_up || ups > 0 || !strstr(out->session.counts.error, rows[i].said) ||
            !out->session.counts.error[0])
            fail_msg("row %zu: %u %s", i, ups, out->session.counts.error);
        stop();
    }
}

/* Round trips of 100 ms: without many batches on the way this would be 4 MiB for each. */
static void what_does_not_fit_is_named(void **state)
{
    static uint8_t bytes[COPY_LAYOUT_BYTES + 1];
    char why[TRACE_LINE];
    start(&usual, false);
    stop();
    uint32_t length = copy_layout_put(bytes, &second, &second.groups[0]);
    assert_true(length <= COPY_LAYOUT_BYTES);
    put_u64(bytes + COPY_LAYOUT_HEAD + COPY_LAYOUT_PLACE, 4096);
    copy_layout_compare(bytes, length, &first, &first.groups[0], why);
    assert_non_null(strstr(why, "volume w has "));
    assert_non_null(strstr(why, "and w 4096 there; make them the same size"));
    /* Foreign bytes get a sentence, whatever they are, and without control characters. */
    for (int i = 0; i < 20000; i++) {
        length = copy_layout_put(bytes, &second, &second.groups[0]);
        for (uint32_t times = pick(4); times-- > 0;)
            bytes[pick(length)] = (uint8_t)pick(256);
        length = pick(3) ? length : pick(length + 1);
        uint8_t *exact = malloc(length + 1);
        memcpy(exact, bytes, length);
        copy_layout_compare(exact, length, &first, &first.groups[0], why);
        assert_true(why[0] != '\0');
        for (const char *at = why; *at; at++)
            assert_true((unsigned char)*at >= 0x20 && *at != 0x7f);
        free(exact);
    }
}

static void a_long_way_does_not_limit_what_passes(void **state)
{
    start(&usual, true);
    UNTIL(is_up, 5);
    for (int i = 0; i < 2; i++)
        atomic_store(&ways[i].delay_ms, 50);
    talk(2, 1000, 2000);
    uint64_t start_us = loop_clock_us(), before = taken_bytes;
    talk(120, COPY_BATCH_BYTES - 10, COPY_BATCH_BYTES);
    double seconds = (double)(loop_clock_us() - start_us) / 1e6;
    double rate = (double)(taken_bytes - before) / seconds / 1e6;
    print_message("           100 ms round trip: %.0f MB/s\n", rate);
    assert_true(most_ahead > 8); /* one at a time would give one, and 42 MB/s */
    assert_int_equal(downs, 0);
    stop();
}

static void a_short_batch_goes_before_long_ones_that_wait(void **state)
{
    char limited[256];
    snprintf(limited, sizeof limited, "%sbandwidth = 16M\n", usual.send);
    start(&(struct plan){limited, usual.receive}, true);
    UNTIL(is_up, 5);
    for (uint32_t i = 0; i < 8; i++)
        send_batch(batches[i], i + 1, COPY_BATCH_BYTES);
    for (int i = 0; i < 20; i++)
        turn();
    send_batch(batches[8], 9, 200);
    UNTIL(batches[8]->number == 0, 10);
    assert_true(goods <= 3); /* itself, and what had begun to leave */
    UNTIL(all_idle(), 20);
    assert_int_equal(goods, 9);
    assert_int_equal(corrupt + downs, 0);
    stop();
}

static void the_bandwidth_is_kept_to(void **state)
{
    char limited[256];
    snprintf(limited, sizeof limited, "%sbandwidth = 8M\n", usual.send);
    const struct plan plan = {limited, usual.receive};
    start(&plan, true);
    UNTIL(is_up, 5);
    uint64_t start_us = loop_clock_us();
    talk(6, COPY_BATCH_BYTES - 10, COPY_BATCH_BYTES);
    double seconds = (double)(loop_clock_us() - start_us) / 1e6;
    double rate = (double)taken_bytes / seconds / (1 << 20);
    print_message("           limit 8 MiB/s: %.2f MiB/s\n", rate);
    assert_true(rate < 8.4);
    assert_true(rate > 6);
    stop();
}

static int set_up(void **state)
{
    generator_seed(&chance, 11);
    snprintf(directory, sizeof directory, "/tmp/holdfast-copy-XXXXXX");
    assert_non_null(mkdtemp(directory));
    snprintf(psk_path, sizeof psk_path, "%s/psk", directory);
    int descriptor = open(psk_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(descriptor, "000102030405060708090a0b0c0d0e0f", 32), 32);
    close(descriptor);
    batch_count = BATCHES;
    for (uint32_t i = 0; i < BATCHES; i++)
        assert_non_null(batches[i] = calloc(1, sizeof *batches[i]));
    return 0;
}

static int tear_down(void **state)
{
    for (uint32_t i = 0; i < BATCHES; i++)
        free(batches[i]);
    unlink(psk_path);
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_arrive_whole_and_are_answered_in_any_order),
        cmocka_unit_test(the_session_is_where_the_group_is),
        cmocka_unit_test(a_session_that_is_not_wanted_goes_and_comes_again),
        cmocka_unit_test(without_a_session_there_is_none_to_drop),
        cmocka_unit_test(who_loses_the_group_sends_its_sessions_away),
        cmocka_unit_test(what_does_not_get_shorter_goes_as_it_is),
        cmocka_unit_test(who_does_not_know_zstd_is_not_sent_it),
        cmocka_unit_test(a_packed_batch_that_is_none_is_refused),
        cmocka_unit_test(a_packed_batch_that_is_damaged_is_refused),
        cmocka_unit_test(batches_being_compressed_are_given_back_unread),
        cmocka_unit_test(packed_batches_take_no_more_memory_than_there_is),
        cmocka_unit_test(a_broken_way_costs_no_more_than_sending_again),
        cmocka_unit_test(only_the_right_ones_come_in),
        cmocka_unit_test(what_does_not_fit_is_named),
        cmocka_unit_test(a_long_way_does_not_limit_what_passes),
        cmocka_unit_test(a_short_batch_goes_before_long_ones_that_wait),
        cmocka_unit_test(the_bandwidth_is_kept_to),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
