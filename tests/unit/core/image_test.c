/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A peer's batch is applied whole or not at all. The test speaks as controller a would: it takes
 * the batch that a has really sent, or writes one of its own with right checksums, and gives it to
 * b. */

#include "pair.h"

enum { WRONG_BYTES = 1 << 20, HEADERS = 16 };

static uint8_t batch[WRONG_BYTES];
static uint32_t batch_bytes;

/* The batch that a has sent stays with the test; b never gets it. */
static void take_batch(void)
{
    struct side *b = &pair.side[B];
    side_step(A);
    assert_true(b->message_due && b->buffer_id == MESSAGE_BATCH);
    assert_true(b->message_bytes <= sizeof batch);
    memcpy(batch, b->message, b->message_bytes);
    batch_bytes = b->message_bytes;
    b->message_due = false;
}

/* What b says to these bytes. Its link is quiet, so nothing else is answered. */
static bool give(const uint8_t *bytes, uint32_t length)
{
    struct side *b = &pair.side[B];
    b->refused_why[0] = 0;
    array_on_message(b->array, pair.now_us, MESSAGE_BATCH, bytes, length);
    const struct actions *actions = array_pump(b->array, pair.now_us);
    assert_true(actions->reply_wanted);
    bool good = actions->reply_good;
    take_log(b, actions);
    assert_null(array_check(b->array));
    if (!good)
        assert_true(b->refused_why[0] != 0);
    return good;
}

/* All of b's memory that a batch could change, except what counts refusals and marks. */
struct shot {
    uint64_t image, batches, headers, bytes, writes, drops, ranges;
    int owner[VOLUMES];
    uint64_t cached;
};

static struct shot shot_of_b(void)
{
    struct array_status *status = status_of(B);
    struct shot shot = {status->slots_image,
                        status->received.batches,
                        status->received.headers,
                        status->received.data_bytes,
                        status->received.writes,
                        status->received.drops,
                        status->received.ranges,
                        {0},
                        0};
    for (int v = 0; v < VOLUMES; v++)
        shot.owner[v] = array_owner(pair.side[B].array, (uint8_t)v);
    for (uint64_t at = 0; at < VOLUME_BYTES; at += PAGE)
        shot.cached =
            shot.cached * 31 + (array_next_cached(pair.side[B].array, V_A, at, at + PAGE) == at);
    return shot;
}

static void assert_same(struct shot before)
{
    struct shot after = shot_of_b();
    assert_memory_equal(&before, &after, sizeof before);
}

/* Three headers: a page that is new, sectors that join one b holds, and a page in two sectors. */
static void prepare(void)
{
    write_now(A, V_A, 0, PAGE, 1);
    write_now(A, V_A, 4 * PAGE, PAGE, 2);
    ask_write(A, V_A, 8 * PAGE, PAGE, 3);
    ask_write(A, V_A, 512, 512, 4);
    ask_write(A, V_A, 12 * PAGE + 512, 1024, 5);
    take_batch();
}

static void take_over_and_compare(uint8_t expected_first, uint8_t expected_new)
{
    kill_side(A);
    assert_int_equal(status_of(B)->role, ROLE_SOLO);
    assert_reads(B, V_A, 0, 512, 1);
    assert_reads(B, V_A, 512, 512, expected_first);
    assert_reads(B, V_A, 1024, PAGE - 1024, 1);
    assert_reads(B, V_A, 4 * PAGE, PAGE, 2);
    assert_reads(B, V_A, 8 * PAGE, PAGE, expected_new);
}

static void any_flipped_byte_is_refused_and_changes_nothing(void **state)
{
    prepare();
    struct shot before = shot_of_b();
    for (uint32_t at = 0; at < batch_bytes; at++) {
        batch[at] ^= 0x41;
        assert_false(give(batch, batch_bytes));
        batch[at] ^= 0x41;
        assert_same(before);
    }
    assert_int_equal(status_of(B)->received.refused, batch_bytes);
    take_over_and_compare(1, 0);
}

static void any_flipped_bit_of_the_heads_is_refused(void **state)
{
    prepare();
    struct shot before = shot_of_b();
    for (uint32_t bit = 0; bit < (BATCH_HEAD_SIZE + 3 * HEADER_SIZE) * 8; bit++) {
        batch[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(give(batch, batch_bytes));
        batch[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_same(before);
    assert_true(give(batch, batch_bytes)); /* unharmed, it is taken after all that */
    take_over_and_compare(4, 3);
}

static void a_batch_cut_short_changes_nothing(void **state)
{
    prepare();
    struct shot before = shot_of_b();
    for (uint32_t length = 0; length < batch_bytes; length += length < 300 ? 1 : 97)
        assert_false(give(batch, length));
    assert_same(before);
    take_over_and_compare(1, 0);
}

static void a_batch_with_one_wrong_data_checksum_changes_nothing(void **state)
{
    prepare();
    struct shot before = shot_of_b();
    batch[batch_bytes - 1] ^= 1; /* the very last byte: all the rest is sound */
    assert_false(give(batch, batch_bytes));
    assert_string_equal(pair.side[B].refused_why, "data checksum is wrong");
    assert_same(before);
    take_over_and_compare(1, 0);
}

static void a_batch_sent_again_is_answered_well_and_applied_once(void **state)
{
    prepare();
    assert_true(give(batch, batch_bytes));
    struct shot before = shot_of_b();
    assert_true(give(batch, batch_bytes));
    assert_same(before);
    take_over_and_compare(4, 3);
}

/* ---- batches of the test's own ---- */

static struct batch_head head;
static uint64_t next_number;
static struct header headers[HEADERS];
static uint32_t header_count;
static uint8_t fills[HEADERS];

/* b's place in a's stream, read from a batch of a's that b does not get. */
static void forge(void)
{
    ask_write(A, V_A, 1000 * PAGE, 512, 9);
    take_batch();
    assert_null(wire_get_batch_head(batch, batch_bytes, &head));
    next_number = head.number;
    header_count = 0;
}

static void add(struct header header, uint8_t fill)
{
    fills[header_count] = fill;
    headers[header_count++] = header;
}

static uint32_t encode(uint8_t *bytes)
{
    uint8_t *data = bytes + BATCH_HEAD_SIZE + header_count * HEADER_SIZE;
    head.data_bytes = 0;
    for (uint32_t i = 0; i < header_count; i++) {
        struct header header = headers[i];
        uint32_t size = header.type == HEADER_WRITE ? wire_data_bytes(header.sectors) : 0;
        memset(data, fills[i], size);
        if (header.type == HEADER_WRITE)
            header.data_crc = crc32c(data, size);
        data += size;
        head.data_bytes += size;
        wire_put_header(bytes + BATCH_HEAD_SIZE + i * HEADER_SIZE, &header);
    }
    head.header_count = header_count;
    wire_put_batch_head(bytes, &head);
    return (uint32_t)(data - bytes);
}

static bool give_forged(void)
{
    static uint8_t bytes[WRONG_BYTES];
    bool good = give(bytes, encode(bytes));
    header_count = 0;
    if (good)
        head.number++;
    return good;
}

static struct header fresh(uint32_t slot, uint64_t page, uint8_t sectors)
{
    return (struct header){.type = HEADER_WRITE,
                           .flags = HEADER_FRESH,
                           .volume = V_A,
                           .slot = slot,
                           .page = page,
                           .sectors = sectors};
}

static struct header join(uint32_t slot, uint64_t page, uint8_t sectors)
{
    return (struct header){
        .type = HEADER_WRITE, .volume = V_A, .slot = slot, .page = page, .sectors = sectors};
}

static struct header drop(uint32_t slot)
{
    return (struct header){.type = HEADER_DROP, .slot = slot};
}

static struct header range(uint64_t page, uint64_t count)
{
    return (struct header){.type = HEADER_RANGE, .volume = V_A, .page = page, .count = count};
}

static void assert_refused(const char *why)
{
    struct shot before = shot_of_b();
    assert_false(give_forged());
    assert_string_equal(pair.side[B].refused_why, why);
    assert_same(before);
}

static void a_batch_out_of_stream_order_is_refused(void **state)
{
    static const struct {
        int64_t number, stream, sender, receiver;
        const char *why;
    } rows[] = {
        {1, 0, 0, 0, "batch out of order"},
        {-2, 0, 0, 0, "batch out of order"},
        {INT64_MAX, 0, 0, 0, "batch out of order"},
        {0, 1, 0, 0, "batch of another stream"},
        {0, 0, 1, 0, "batch from a start of the peer that has not said hello"},
        {0, 0, 0, 1, "batch for another start of this controller"},
    };
    forge();
    const struct batch_head right = head;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        head = right;
        head.number += (uint64_t)rows[i].number;
        head.stream += (uint64_t)rows[i].stream;
        head.sender += (uint64_t)rows[i].sender;
        head.receiver += (uint64_t)rows[i].receiver;
        add(fresh(100, 500, 0xFF), 1);
        assert_refused(rows[i].why);
    }
    head = right;
    add(fresh(100, 500, 0xFF), 1);
    assert_true(give_forged());
}

static void each_header_that_fits_nothing_is_refused_with_its_reason(void **state)
{
    const uint64_t last = pair.config.volumes[V_B].size_bytes / PAGE;
    const struct {
        struct header header;
        const char *why;
    } rows[] = {
        {{.type = HEADER_WRITE, .flags = 1, .volume = VOLUMES, .sectors = 1},
         "write header for an unknown volume"},
        {{.type = HEADER_WRITE, .flags = 1, .volume = V_A, .sectors = 1, .slot = 128},
         "write header for a slot outside the image"},
        {{.type = HEADER_WRITE, .flags = 1, .volume = V_A, .sectors = 1, .slot = UINT32_MAX},
         "write header for a slot outside the image"},
        {{.type = HEADER_WRITE, .flags = 1, .volume = V_A, .sectors = 1, .page = 1024},
         "write header outside its volume"},
        {{.type = HEADER_WRITE, .flags = 1, .volume = V_A, .sectors = 1, .page = UINT64_MAX},
         "write header outside its volume"},
        {{.type = HEADER_WRITE, .flags = 1, .volume = V_B, .sectors = 0x20, .page = last},
         "write header outside its volume"},
        {{.type = HEADER_WRITE, .flags = 1, .volume = V_B, .sectors = 1},
         "write header for a volume that this controller owns"},
        {{.type = HEADER_WRITE, .volume = V_A, .sectors = 1, .page = 77},
         "write header joins a page that its slot does not hold"},
        {{.type = HEADER_DROP, .slot = 128}, "drop header for a slot outside the image"},
        {{.type = HEADER_RANGE, .volume = VOLUMES, .count = 1},
         "range header for an unknown volume"},
        {{.type = HEADER_RANGE, .volume = V_A, .page = 1024, .count = 1},
         "range header outside its volume"},
        {{.type = HEADER_RANGE, .volume = V_A, .page = 1, .count = 1024},
         "range header outside its volume"},
        {{.type = HEADER_RANGE, .volume = V_A, .page = UINT64_MAX, .count = 2},
         "range header outside its volume"},
        {{.type = HEADER_RANGE, .volume = V_A, .count = RANGE_CHUNK_PAGES + 1},
         "range header outside its volume"},
        {{.type = HEADER_OWNER, .volume = VOLUMES},
         "owner header of an unknown volume or controller"},
        {{.type = HEADER_MOVE, .volume = V_A, .slot = 2},
         "owner header of an unknown volume or controller"},
        {{.type = HEADER_START, .page = 2}, "start header that is not the first"},
    };
    forge();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        add(fresh(100, 500, 0xFF),
            1); /* a sound one before it, and one after: none of them is applied */
        add(rows[i].header, 2);
        add(fresh(101, 501, 0xFF), 3);
        assert_refused(rows[i].why);
    }
}

/* Each header is judged against the image as the earlier ones of its batch will have left it. */
static void headers_of_one_batch_are_judged_in_their_order(void **state)
{
    forge();
    add(fresh(100, 500, 0xFF), 1);
    add(fresh(101, 501, 0xFF), 1);
    add(fresh(102, 502, 0xFF), 1);
    assert_true(give_forged());
    static const char why[] = "write header joins a page that its slot does not hold";
    add(drop(100), 0);
    add(join(100, 500, 1), 2);
    assert_refused(why);
    add(range(400, 200), 0);
    add(join(100, 500, 1), 2);
    assert_refused(why);
    add(fresh(100, 600, 0xFF), 2); /* the slot takes another page */
    add(join(100, 500, 1), 2);
    assert_refused(why);
    add(fresh(103, 500, 0xFF), 2); /* the page takes another slot */
    add(join(100, 500, 1), 2);
    assert_refused(why);
    add(join(101, 500, 1), 2);
    assert_refused(why);
    add(range(400, 100), 0); /* touches none of them */
    add(drop(101), 0);
    add(join(100, 500, 1), 2);
    add(drop(102), 0);
    add(fresh(102, 502, 0x80), 3);
    assert_true(give_forged());
    kill_side(A);
    assert_reads(B, V_A, 500 * PAGE, 512, 2);
    assert_reads(B, V_A, 500 * PAGE + 512, PAGE - 512, 1);
    assert_reads(B, V_A, 501 * PAGE, PAGE, 0);
    assert_reads(B, V_A, 502 * PAGE, PAGE - 512, 0);
    assert_reads(B, V_A, 503 * PAGE - 512, 512, 3);
}

static void a_page_has_one_slot_and_a_slot_one_page(void **state)
{
    forge();
    add(fresh(100, 500, 0xFF), 1);
    assert_true(give_forged());
    assert_int_equal(status_of(B)->slots_image, 1);
    add(fresh(101, 500, 0xFF), 2);
    assert_true(give_forged());
    assert_int_equal(status_of(B)->slots_image, 1);
    add(fresh(101, 501, 0xFF), 3);
    assert_true(give_forged());
    assert_int_equal(status_of(B)->slots_image, 1);
    kill_side(A);
    assert_reads(B, V_A, 500 * PAGE, PAGE, 0); /* the old version never comes back */
    assert_reads(B, V_A, 501 * PAGE, PAGE, 3);
}

static void data_and_headers_must_agree(void **state)
{
    static uint8_t bytes[WRONG_BYTES];
    forge();
    add(fresh(100, 500, 0xFF), 1);
    uint32_t length = encode(bytes);
    head.data_bytes = 0;
    wire_put_batch_head(bytes, &head);
    struct shot before = shot_of_b();
    assert_false(give(bytes, length - PAGE));
    assert_string_equal(pair.side[B].refused_why, "write header without its data");
    head.data_bytes = PAGE + 512;
    wire_put_batch_head(bytes, &head);
    assert_false(give(bytes, length + 512));
    assert_string_equal(pair.side[B].refused_why, "batch with data that no header names");
    assert_same(before);
}

static void ranges_in_a_batch_are_bounded(void **state)
{
    static uint8_t bytes[WRONG_BYTES];
    forge();
    head.header_count = 65;
    head.data_bytes = 0;
    const struct header one = range(1, 1);
    for (uint32_t i = 0; i < 65; i++)
        wire_put_header(bytes + BATCH_HEAD_SIZE + i * HEADER_SIZE, &one);
    wire_put_batch_head(bytes, &head);
    assert_false(give(bytes, BATCH_HEAD_SIZE + 65 * HEADER_SIZE));
    assert_string_equal(pair.side[B].refused_why, "batch with too many ranges");
    head.header_count = 64;
    wire_put_batch_head(bytes, &head);
    assert_true(give(bytes, BATCH_HEAD_SIZE + 64 * HEADER_SIZE));
}

static void a_start_is_refused_while_a_stream_is_open(void **state)
{
    forge();
    head.stream += 5;
    head.number = 1;
    add((struct header){.type = HEADER_START, .page = head.epoch}, 0);
    assert_refused("start of a stream while one is open");
    head.number = 2;
    add((struct header){.type = HEADER_START, .page = head.epoch}, 0);
    assert_refused("start of a stream that is not its beginning");
    head.number = 1;
    add((struct header){.type = HEADER_START, .page = head.epoch + 1}, 0);
    assert_refused("start of a stream that is not its beginning");
}

static void a_controller_alone_takes_no_batch(void **state)
{
    forge();
    kill_side(A);
    assert_int_equal(status_of(B)->role, ROLE_SOLO);
    add(fresh(100, 500, 0xFF), 1);
    assert_refused("batch in a role that takes none");
}

static void bytes_for_no_buffer_are_refused(void **state)
{
    struct side *b = &pair.side[B];
    for (int id = 2; id < 256; id += 51) {
        array_on_message(b->array, pair.now_us, (uint8_t)id, batch, 100);
        const struct actions *actions = array_pump(b->array, pair.now_us);
        assert_true(actions->reply_wanted);
        assert_false(actions->reply_good);
    }
    array_on_message(b->array, pair.now_us, MESSAGE_HELLO, batch, 0);
    assert_false(array_pump(b->array, pair.now_us)->reply_good);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, pair_set_up, pair_destroy)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(any_flipped_byte_is_refused_and_changes_nothing),
        TEST(any_flipped_bit_of_the_heads_is_refused),
        TEST(a_batch_cut_short_changes_nothing),
        TEST(a_batch_with_one_wrong_data_checksum_changes_nothing),
        TEST(a_batch_sent_again_is_answered_well_and_applied_once),
        TEST(a_batch_out_of_stream_order_is_refused),
        TEST(each_header_that_fits_nothing_is_refused_with_its_reason),
        TEST(headers_of_one_batch_are_judged_in_their_order),
        TEST(a_page_has_one_slot_and_a_slot_one_page),
        TEST(data_and_headers_must_agree),
        TEST(ranges_in_a_batch_are_bounded),
        TEST(a_start_is_refused_while_a_stream_is_open),
        TEST(a_controller_alone_takes_no_batch),
        TEST(bytes_for_no_buffer_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
