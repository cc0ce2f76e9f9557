/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The peer's batches. A batch is judged whole before any of it is applied (invariant 5): its place
 * in the stream, every header against the image as it will be then, every checksum. What passes is
 * applied to the end; what does not changes nothing. The image shares the slot table's index, so
 * when the peer is lost there is nothing to search or rebuild. */

#include "array/internal.h"
#include "base/copy.h"
#include "base/crc32c.h"
#include "base/mistake.h"

enum { RANGES_PER_BATCH = 64 };

struct judged {
    struct array *array;
    const uint8_t *headers;
    const uint8_t *data;
    struct batch_head head;
    bool
        begins; /* the batch begins a stream that fills us: what the image holds now will be gone */
    uint32_t mark; /* stands in slot.batch_mark of every image slot that an earlier header of this
                      batch touches */
    uint32_t range_count;
    struct {
        uint8_t volume;
        uint64_t first, end;
    } ranges[RANGES_PER_BATCH];
};

static struct slot *image_slot(struct array *array, uint32_t slot)
{
    return slot_at(&array->table, array->table.half + slot);
}

/* Where the batch stands: NULL when it is the next one (or *again: the last one, sent once more).
 */
static const char *judge_place(struct array *array, const struct batch_head *head,
                               const struct header *first, bool *again)
{
    const struct role_machine *role = &array->role;
    const struct incoming *incoming = &array->incoming;
    *again = false;
    if (!role->peer.known || head->sender != role->peer.incarnation)
        return "batch from a start of the peer that has not said hello";
    if (head->receiver != array->config.incarnation)
        return "batch for another start of this controller";
    if (first != NULL && first->type == HEADER_START) {
        if (incoming->open && head->stream == incoming->stream &&
            head->number == incoming->applied) {
            *again = true;
            return NULL;
        }
        if (head->number != 1 || first->page != head->epoch)
            return "start of a stream that is not its beginning";
        if (role->state == ROLE_PAIRED)
            return incoming->open || head->epoch != role->epoch
                       ? "start of a stream while one is open"
                       : NULL;
        return stores_quiet(array) ? NULL
                                   : "not yet: store operations of a former role are under way";
    }
    if (role->state != ROLE_PAIRED && role->state != ROLE_JOINING && !MISTAKE(old_epoch_accepted))
        return "batch in a role that takes none";
    if (!incoming->open || head->stream != incoming->stream)
        return "batch of another stream";
    if (head->number == incoming->applied && !MISTAKE(resend_not_known)) {
        *again = true;
        return NULL;
    }
    return head->number == incoming->applied + 1 ? NULL : "batch out of order";
}

static bool in_batch_range(const struct judged *judged, uint8_t volume, uint64_t page)
{
    for (uint32_t i = 0; i < judged->range_count; i++) {
        if (judged->ranges[i].volume == volume && page >= judged->ranges[i].first &&
            page < judged->ranges[i].end)
            return true;
    }
    return false;
}

static const char *judge_write(struct judged *judged, const struct header *header,
                               uint32_t *data_at)
{
    struct array *array = judged->array;
    if (header->volume >= array->config.volume_count)
        return "write header for an unknown volume";
    const struct volume *volume = &array->volumes[header->volume];
    if (header->slot >= array->table.half)
        return "write header for a slot outside the image";
    if (header->page >= volume->page_count || (header->sectors & ~page_mask(volume, header->page)))
        return "write header outside its volume";
    if (array_owns(array, header->volume) && array->role.state == ROLE_PAIRED &&
        volume->move != MOVE_SENT)
        return "write header for a volume that this controller owns";
    if (volume->group == NO_GROUP && (header->cycle != 0 || (header->flags & HEADER_SETTLED)))
        return "write header of a cycle for a volume without a group";
    uint32_t size = wire_data_bytes(header->sectors);
    if (size > judged->head.data_bytes - *data_at)
        return "write header without its data";
    if (crc32c(judged->data + *data_at, size) != header->data_crc &&
        !MISTAKE(checksum_not_compared))
        return "data checksum is wrong";
    *data_at += size;
    if (header->flags & HEADER_HOLD) {
        image_slot(array, header->slot)->batch_mark = judged->mark;
        return copy_second_judge_held(array, header);
    }
    if (judged->begins)
        return header->flags & HEADER_FRESH
                   ? NULL
                   : "write header joins a page in a stream that has only begun";
    uint64_t key = slot_key(header->volume, header->page);
    struct slot *target = image_slot(array, header->slot);
    struct slot *holder = slot_find(&array->table, key);
    if (holder != NULL && !slot_in_image(&array->table, holder) &&
        (holder->state != SLOT_CLEAN || holder->fetch != 0 || holder->waiters != NO_INDEX))
        return "write header for a page that is in use here";
    if (header->flags & HEADER_FRESH) {
        if (holder != NULL)
            holder->batch_mark = judged->mark;
    } else if (holder != target || target->batch_mark == judged->mark ||
               in_batch_range(judged, header->volume, header->page)) {
        return "write header joins a page that its slot does not hold";
    }
    target->batch_mark = judged->mark;
    return NULL;
}

static const char *judge_state(struct judged *judged, const struct header *header,
                               uint32_t *data_at)
{
    const struct array *array = judged->array;
    if (header->volume >= array->config.volume_count)
        return "state header for an unknown volume";
    if (array_owns(array, header->volume) && array->role.state == ROLE_PAIRED &&
        array->volumes[header->volume].move != MOVE_SENT)
        return "state header for a volume that this controller owns";
    uint32_t size = (uint32_t)header->count;
    if (size > judged->head.data_bytes - *data_at)
        return "state header without its data";
    if (crc32c(judged->data + *data_at, size) != header->data_crc)
        return "data checksum is wrong";
    *data_at += size;
    return NULL;
}

/* What the remote copy says, and the data that belong to it. */
static const char *judge_copy(const struct judged *judged, const struct header *header,
                              uint32_t *data_at)
{
    uint32_t size = wire_header_data_bytes(header);
    const uint8_t *data = judged->data + *data_at;
    if (size > judged->head.data_bytes - *data_at)
        return "header of the remote copy without its data";
    if (size > 0 && crc32c(data, size) != header->data_crc)
        return "data checksum is wrong";
    *data_at += size;
    return copy_judge(judged->array, header, data);
}

static const char *judge_range(struct judged *judged, const struct header *header)
{
    const struct array *array = judged->array;
    if (header->volume >= array->config.volume_count)
        return "range header for an unknown volume";
    uint64_t pages = array->volumes[header->volume].page_count;
    bool held = (header->flags & HEADER_HELD_RANGE) != 0;
    if ((header->count > RANGE_CHUNK_PAGES && !held) || header->page > pages ||
        header->count > pages - header->page)
        return "range header outside its volume";
    bool grouped = array->volumes[header->volume].group != NO_GROUP;
    if (!grouped && (header->cycle != 0 || (header->flags & HEADER_NOTED)))
        return "range header of a cycle for a volume without a group";
    if (held)
        return copy_second_judge_held(array, header);
    if (header->flags & HEADER_NOTED)
        return NULL;
    if (judged->range_count == RANGES_PER_BATCH)
        return "batch with too many ranges";
    judged->ranges[judged->range_count].volume = header->volume;
    judged->ranges[judged->range_count].first = header->page;
    judged->ranges[judged->range_count++].end = header->page + header->count;
    return NULL;
}

static const char *judge_header(struct judged *judged, const struct header *header, uint32_t index,
                                uint32_t *data_at)
{
    struct array *array = judged->array;
    switch (header->type) {
    case HEADER_WRITE:
        return judge_write(judged, header, data_at);
    case HEADER_DROP:
        if (header->slot >= array->table.half)
            return "drop header for a slot outside the image";
        image_slot(array, header->slot)->batch_mark = judged->mark;
        return NULL;
    case HEADER_RANGE:
        return judge_range(judged, header);
    case HEADER_STATE:
        return judge_state(judged, header, data_at);
    case HEADER_START:
        return index == 0 ? NULL : "start header that is not the first";
    case HEADER_OWNER:
    case HEADER_MOVE:
        return header->volume < array->config.volume_count && header->slot < 2
                   ? NULL
                   : "owner header of an unknown volume or controller";
    default:
        return header->type >= HEADER_GROUP ? judge_copy(judged, header, data_at) : NULL;
    }
}

static const char *judge(struct judged *judged)
{
    uint32_t data_at = 0;
    for (uint32_t i = 0; i < judged->head.header_count; i++) {
        struct header header;
        const char *why = wire_get_header(judged->headers + i * HEADER_SIZE, &header);
        if (why == NULL)
            why = judge_header(judged, &header, i, &data_at);
        if (why != NULL)
            return why;
    }
    return data_at == judged->head.data_bytes ? NULL : "batch with data that no header names";
}

/* The page has another slot at its owner, or none. */
static void give_up(struct array *array, struct slot *slot)
{
    if (slot->foreign) {
        copy_second_lost_slot(array, slot);
        return;
    }
    if (slot_in_image(&array->table, slot))
        copy_untag(array, slot);
    if (slot->pinned)
        pages_put_aside(array, slot); /* of an earlier time as its owner: it sends this itself */
    else
        slot_release(&array->table, slot);
}

static void apply_write(struct array *array, const struct header *header, const uint8_t *data)
{
    struct slot_table *table = &array->table;
    uint64_t key = slot_key(header->volume, header->page);
    struct slot *slot = image_slot(array, header->slot);
    if (header->flags & HEADER_FRESH) {
        if (slot->state != SLOT_FREE)
            give_up(array, slot);
        if (header->flags & HEADER_HOLD) {
            copy_second_apply_write(array, header, data);
            array->received.writes++;
            return;
        }
        struct slot *holder = slot_find(table, key);
        if (holder != NULL) /* its older slot, or a clean one from when we owned the volume */
            give_up(array, holder);
        slot = slot_take_image(table, header->slot, key);
    }
    uint8_t *frame = slot_frame(table, slot);
    if (header->sectors == SLOT_SECTORS_ALL) {
        copy_past_cache(frame, data, PAGE_SIZE_BYTES); /* read only after a takeover */
    } else {
        for (uint32_t sector = 0; sector < PAGE_SECTORS; sector++) {
            if (!(header->sectors & 1u << sector))
                continue;
            copy_past_cache(frame + sector * SECTOR_SIZE, data, SECTOR_SIZE);
            data += SECTOR_SIZE;
        }
    }
    slot->valid |= header->sectors;
    slot->dirty |= header->sectors;
    copy_apply_write(array, header, slot);
    array->received.writes++;
}

static void apply_range(struct array *array, const struct header *header)
{
    if (header->flags & HEADER_HELD_RANGE) {
        copy_second_apply_range(array, header);
        array->received.ranges++;
        return;
    }
    copy_apply_range(array, header);
    if (header->flags & HEADER_NOTED)
        return;
    for (uint64_t page = header->page; page < header->page + header->count; page++) {
        struct slot *slot = slot_find(&array->table, slot_key(header->volume, page));
        if (slot != NULL &&
            (slot_in_image(&array->table, slot) || (slot->state == SLOT_CLEAN && slot->fetch == 0)))
            give_up(array, slot);
    }
    array->received.ranges++;
}

static void apply_header(struct array *array, const struct header *header)
{
    struct slot *slot;
    switch (header->type) {
    case HEADER_DROP:
        slot = image_slot(array, header->slot);
        if (slot->state != SLOT_FREE)
            give_up(array, slot);
        array->received.drops++;
        break;
    case HEADER_RANGE:
        apply_range(array, header);
        break;
    case HEADER_OWNER:
        array->volumes[header->volume].owner = (uint8_t)header->slot;
        copy_owner_changed(array, header->volume);
        break;
    case HEADER_READY:
        role_on_ready(&array->role, header->page);
        break;
    case HEADER_PAIR:
        role_on_pair(&array->role, array->now_us, header->page);
        break;
    case HEADER_MOVE:
        duty_moved_here(array, header->volume);
        break;
    case HEADER_LEAVE:
        duty_peer_leaves(array);
        break;
    case HEADER_PROGRESS:
        ship_progress(array, header->slot, header->page);
        break;
    default:
        break;
    }
}

static void apply(struct judged *judged)
{
    struct array *array = judged->array;
    const uint8_t *data = judged->data;
    uint32_t count = judged->head.header_count;
    if (MISTAKE(half_a_batch) && count > 1)
        count /= 2;
    for (uint32_t i = 0; i < count; i++) {
        struct header header;
        const char *why = wire_get_header(judged->headers + i * HEADER_SIZE, &header);
        CHECK(why == NULL);
        if (header.type == HEADER_WRITE)
            apply_write(array, &header, data);
        else if (header.type == HEADER_STATE)
            state_apply(array, &header, data);
        else if (header.type >= HEADER_GROUP)
            copy_apply(array, &header, data);
        else
            apply_header(array, &header);
        data += wire_header_data_bytes(&header);
    }
    copy_past_cache_end();
    array->received.batches++;
    array->received.headers += judged->head.header_count;
    array->received.data_bytes += judged->head.data_bytes;
}

void image_drop_all(struct array *array)
{
    CHECK(stores_quiet(array));
    array->drop_pending = false;
    destage_reset(&array->destage);
    const uint32_t half = array->table.half;
    if (array->table.state_count[0][SLOT_FREE] != half ||
        array->table.state_count[1][SLOT_FREE] != half)
        slot_table_reset(&array->table);
    copy_forget(array);
}

/* A stream begins: the survivor fills us, or the joiner that has just come in begins its own. */
static bool begin_stream(struct array *array, const struct batch_head *head)
{
    if (array->role.state != ROLE_PAIRED) {
        if (!role_on_start(&array->role, array->now_us))
            return false;
        image_drop_all(array);
        state_forget_all(array); /* those that count come with the stream */
    }
    array->incoming = (struct incoming){.open = true, .stream = head->stream, .epoch = head->epoch};
    return true;
}

bool image_message(struct array *array, const uint8_t *bytes, uint32_t length)
{
    struct judged judged = {.array = array, .headers = bytes + BATCH_HEAD_SIZE};
    struct header first;
    bool again = false;
    const char *why = wire_get_batch_head(bytes, length, &judged.head);
    const struct batch_head *head = &judged.head;
    bool has_first = why == NULL && head->header_count > 0;
    if (has_first)
        why = wire_get_header(judged.headers, &first);
    if (why == NULL)
        why = judge_place(array, head, has_first ? &first : NULL, &again);
    if (why == NULL && !again) {
        judged.data = judged.headers + head->header_count * HEADER_SIZE;
        judged.mark = ++array->batch_marks;
        judged.begins = has_first && first.type == HEADER_START && array->role.state != ROLE_PAIRED;
        why = judge(&judged);
    }
    if (why == NULL && has_first && first.type == HEADER_START && !again &&
        !begin_stream(array, head))
        why = "start of a stream in a role that takes none";
    if (why != NULL) {
        array->received.refused++;
        array_log(array, array->config.trace ? LOG_TRACE : LOG_INFO, "link: refused a batch: %s",
                  why);
        return false;
    }
    TRACE(array, "apply batch %llu headers %u%s", (unsigned long long)head->number,
          head->header_count, again ? " again" : "");
    array->peer_stopping = (head->flags & BATCH_STOPPING) != 0;
    role_on_answering(&array->role, array->now_us);
    if (again)
        return true;
    apply(&judged);
    array->incoming.applied = head->number;
    array->incoming.ship_session = head->ship_session;
    return true;
}
