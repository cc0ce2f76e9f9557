/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The sessions to the second array, and what leaves in them: batches of records, whose data go
 * straight from the frames of slots that nobody changes. A batch that is sent again has the bytes
 * that it had. */

#include "array/internal.h"
#include "base/crc32c.h"
#include "base/mistake.h"

enum { FAR_AWAY = 62 }; /* bits: no term or cycle that is really in use comes near it */
/* Pages that are read and summed in a pump. Memory that no cache holds gives 16 in some 20
 * microseconds, and so long a host's request waits for it at most. While hosts are served, and the
 * link's window is far from full, steps are smaller, and each falls where nobody waits (see
 * copy_pump.c). */
enum { ENCODE_STEP = 16, GENTLE_STEP = 8, MOMENT_STEP = 4 };

void copy_stop_encoding(struct group *group)
{
    group->encoding.batch.number = 0;
}

void copy_forget_batches(struct group *group)
{
    copy_stop_encoding(group);
    for (int i = 0; i < COPY_WINDOW; i++)
        group->buffers[i].number = 0;
}

static struct group *group_at(struct array *array, uint8_t group)
{
    CHECK(group < array->config.group_count);
    return &array->copy.groups[group];
}

static const char *unfit(const struct group *group, const struct copy_state *state)
{
    if (memcmp(state->group, group->config->id, COPY_ID_SIZE) != 0)
        return "the second array answers for another group";
    if (!(state->flags & COPY_STATE_HERE))
        return "this controller of the second array does not hold the group";
    if (state->role == COPY_FAILED_OVER)
        return NULL; /* no batch of a cycle goes there */
    if (state->room_pages == 0 || state->window == 0)
        return "the second array has no room for it";
    if (state->term >> FAR_AWAY || state->promoted >> FAR_AWAY)
        return "the second array names an impossible term or cycle";
    return NULL;
}

void array_on_copy_up(struct array *array, uint64_t now_us, uint8_t number,
                      const struct copy_state *state)
{
    array_begin(array, now_us);
    struct group *group = group_at(array, number);
    CHECK(!group->up);
    const char *why = unfit(group, state);
    group->up = true;
    group->resetting = false;
    if (why != NULL) {
        array_log(array, LOG_WARNING, "group %s: %s", group->config->name, why);
        copy_drop_session(array, group);
        return;
    }
    group->state = *state;
    TRACE(array, "group %s session up", group->config->name);
    copy_set_session(array, group);
    copy_site_heard_state(array, group, state);
}

void array_on_copy_down(struct array *array, uint64_t now_us, uint8_t number)
{
    array_begin(array, now_us);
    struct group *group = group_at(array, number);
    if (group->sender.attached)
        sender_detach(&group->sender);
    copy_stop_encoding(group);
    group->up = group->resetting = false;
    copy_marks_begin_anew(group);
    copy_set_session(array, group);
    TRACE(array, "group %s session down", group->config->name);
}

static void count_answer(struct group *group, struct copy_buffer *buffer)
{
    group->batches++;
    group->pages_sent += buffer->pages;
    group->base_pages_sent += buffer->base;
    group->bytes_sent += buffer->length_bytes;
    buffer->number = 0;
}

void array_on_copy_answered(struct array *array, uint64_t now_us, uint8_t index, uint64_t number,
                            bool good)
{
    array_begin(array, now_us);
    struct group *group = group_at(array, index);
    struct copy_buffer *buffer = &group->buffers[number % COPY_WINDOW];
    if (copy_marks_answered(array, group, number, good) ||
        copy_set_answered(array, group, number, good))
        return;
    if (!group->up || !group->sender.attached || buffer->number != number)
        return;
    TRACE(array, "group %s batch %llu answered %d", group->config->name, (unsigned long long)number,
          good);
    if (!good) {
        group->refused++;
        copy_drop_session(array, group);
        return;
    }
    count_answer(group, buffer);
    uint64_t promoted = sender_answered(&group->sender, number);
    while (group->sender.confirmed < promoted) {
        bool confirmed = copy_confirm(array, group, group->sender.confirmed + 1);
        CHECK(confirmed);
    }
}

/* ---- encoding ---- */

static void add_data(struct copy_buffer *buffer, void *data, uint32_t size)
{
    struct iovec *last = &buffer->iov[buffer->iov_count - 1];
    buffer->length_bytes += size;
    if (buffer->iov_count > 1 && (uint8_t *)last->iov_base + last->iov_len == (uint8_t *)data) {
        last->iov_len += size; /* neighbouring frames leave as one piece */
        return;
    }
    buffer->iov[buffer->iov_count++] = (struct iovec){.iov_base = data, .iov_len = size};
}

/* `summed`: with record->crc, which needs not be made. */
static void add_page(struct copy_buffer *buffer, uint32_t at, struct record *record, uint8_t *frame,
                     bool summed)
{
    uint32_t crc = CRC32C_START;
    for (uint32_t sector = 0; sector < PAGE_SECTORS;) {
        uint32_t end = sector;
        while (end < PAGE_SECTORS && record->sectors & 1u << end)
            end++;
        if (end > sector) {
            uint32_t size = (end - sector) * SECTOR_SIZE;
            if (!summed)
                crc = crc32c_more(crc, frame + sector * SECTOR_SIZE, size);
            add_data(buffer, frame + sector * SECTOR_SIZE, size);
        }
        sector = end + 1;
    }
    if (!summed)
        record->crc = crc32c_end(crc);
    record_put(buffer->bytes + COPY_HEAD_SIZE + (size_t)at * COPY_RECORD_SIZE, record);
}

static void put_page(struct array *array, struct group *group, struct copy_buffer *buffer)
{
    struct copy_encoding *encoding = &group->encoding;
    const struct slot *slot = slot_at(&array->table, encoding->next);
    const struct pin *pin = pins_at(&array->copy.pins, encoding->next);
    CHECK(slot->pinned);
    CHECK((pin->sectors & ~slot->valid) == 0);
    struct record record = {.type = RECORD_PAGE,
                            .volume = array->volumes[slot_key_volume(slot->key)].group_place,
                            .sectors = pin->sectors,
                            .generation = pin->generation,
                            .page = slot_key_page(slot->key),
                            .crc = array->copy.pins.crc[encoding->next]};
    add_page(buffer, encoding->done, &record, slot_frame(&array->table, slot), pin->summed);
    encoding->next = pin->next;
}

static void put_base(const struct array *array, struct group *group, struct copy_buffer *buffer)
{
    struct copy_encoding *encoding = &group->encoding;
    const struct base_page *page = &group->base.pages[encoding->next];
    const struct volume *volume = &array->volumes[group->config->volumes[page->volume]];
    struct record record = {.type = RECORD_PAGE,
                            .flags = RECORD_BASE,
                            .volume = page->volume,
                            .sectors = page_mask(volume, page->page),
                            .page = page->page};
    add_page(buffer, encoding->done, &record,
             group->base.frames + (size_t)encoding->next * PAGE_SIZE_BYTES, false);
    encoding->next = page->next;
}

static uint32_t put_ranges(const struct sender *sender, const struct sender_batch *batch,
                           uint8_t *records)
{
    uint32_t count = 0;
    const struct sender_range *range = sender_range_at(sender, batch->cycle, 0);
    while (range != NULL && count < COPY_RECORDS) {
        record_put(records + (size_t)count++ * COPY_RECORD_SIZE,
                   &(struct record){.type = RECORD_ZERO,
                                    .volume = range->volume,
                                    .generation = range->generation,
                                    .page = range->page,
                                    .count = range->count});
        range = sender_range_at(sender, batch->cycle, (uint32_t)(range - sender->ranges) + 1);
    }
    CHECK(count == batch->count);
    return count;
}

/* What is no page; the number of its records. */
static uint32_t put_few(const struct sender *sender, const struct sender_batch *batch,
                        uint8_t *records)
{
    struct record record = {.type = RECORD_PROMOTE,
                            .flags = batch->consistent ? RECORD_CONSISTENT : 0};
    if (batch->kind == SEND_RANGES)
        return put_ranges(sender, batch, records);
    if (batch->kind == SEND_END)
        record = (struct record){.type = RECORD_END,
                                 .flags = batch->consistent ? RECORD_DONE : 0,
                                 .generation = batch->halves,
                                 .page = batch->pages,
                                 .count = batch->base,
                                 .crc = batch->ranges};
    record_put(records, &record);
    return 1;
}

/* All its records and data are there: it counts from here on. */
static void finish(const struct array *array, const struct group *group,
                   const struct sender_batch *batch, struct copy_buffer *buffer, uint32_t records)
{
    struct copy_head head = {.half = array->config.self,
                             .era = group->site.now.era,
                             .term = group->sender.term,
                             .cycle = batch->cycle,
                             .number = batch->number,
                             .first = group->sender.term_first,
                             .wall_us = batch->wall_us,
                             .cut = batch->cut,
                             .record_count = records,
                             .data_bytes = buffer->length_bytes};
    memcpy(head.group, group->config->id, COPY_ID_SIZE);
    record_put_head(buffer->bytes, &head);
    uint32_t size = COPY_HEAD_SIZE + records * COPY_RECORD_SIZE;
    buffer->iov[0] = (struct iovec){.iov_base = buffer->bytes, .iov_len = size};
    buffer->length_bytes += size;
    buffer->number = batch->number;
}

static void encode_begin(struct array *array, struct group *group, struct copy_buffer *buffer)
{
    struct copy_encoding *encoding = &group->encoding;
    const struct sender_batch *batch = &encoding->batch;
    buffer->number = 0; /* until all of it is there */
    buffer->iov_count = 1;
    buffer->length_bytes = 0;
    buffer->pages = batch->kind == SEND_PAGES ? batch->count : 0;
    buffer->base = batch->kind == SEND_BASE ? batch->count : 0;
    encoding->done = 0;
    encoding->next = batch->kind == SEND_BASE ? copy_base_take(group, batch) : batch->first;
}

/* `left`: pages that may still be read in this pump. False: it goes on in the next. */
static bool encode(struct array *array, struct group *group, struct copy_buffer *buffer,
                   uint32_t *left)
{
    struct copy_encoding *encoding = &group->encoding;
    const struct sender_batch *batch = &encoding->batch;
    uint32_t records = buffer->pages + buffer->base;
    for (; encoding->done<records && * left> 0; encoding->done++, --*left) {
        if (batch->kind == SEND_PAGES)
            put_page(array, group, buffer);
        else
            put_base(array, group, buffer);
    }
    if (encoding->done < records)
        return false;
    if (records == 0)
        records = put_few(&group->sender, batch, buffer->bytes + COPY_HEAD_SIZE);
    finish(array, group, batch, buffer, records);
    return true;
}

static void give(struct array *array, struct group *group, const struct copy_buffer *buffer)
{
    CHECK(array->actions.copy_count < array->config.group_count * COPY_WINDOW);
    array->copy.actions[array->actions.copy_count++] =
        (struct copy_action){.group = (uint8_t)(group - array->copy.groups),
                             .number = buffer->number,
                             .iov = buffer->iov,
                             .iov_count = buffer->iov_count,
                             .length_bytes = buffer->length_bytes};
    TRACE(array, "group %s sends batch %llu of cycle %llu kind %d", group->config->name,
          (unsigned long long)buffer->number, (unsigned long long)group->encoding.batch.cycle,
          (int)group->encoding.batch.kind);
}

void copy_send(struct array *array, struct group *group)
{
    struct sender_batch *batch = &group->encoding.batch;
    enum copy_pace pace = array_copy_pace(array, (uint8_t)(group - array->copy.groups));
    uint32_t left = pace == COPY_FREELY ? ENCODE_STEP
                    : pace == COPY_NOW  ? MOMENT_STEP
                                        : GENTLE_STEP;
    while (left > 0 && group->sender.attached) {
        bool begun = batch->number != 0;
        if (!begun && !sender_next_batch(&group->sender, batch)) {
            batch->number = 0;
            return;
        }
        struct copy_buffer *buffer = &group->buffers[batch->number % COPY_WINDOW];
        bool again = !begun && buffer->number == batch->number;
        group->resends += again;
        if (!begun && !again)
            encode_begin(array, group, buffer);
        if (!again && !encode(array, group, buffer, &left))
            break;
        give(array, group, buffer);
        batch->number = 0;
    }
    group->more |= left == 0 && pace == COPY_FREELY;
}
