/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Our side of the link: hellos, and the change stream. A list is sealed the moment the link is free
 * and stays the active list until the peer has answered it well; a lost session only means that it
 * is sent again (claims 2, 3, 7). An empty list is sent now and then so that both leases live. */

#include "array/internal.h"
#include "base/mistake.h"
#include "base/crc32c.h"

static uint64_t beat_us(const struct array *array)
{
    return (uint64_t)array->config.lease_ms * 1000 / 4;
}

static bool may_stream(const struct array *array)
{
    return array->outgoing.link_up && array->outgoing.greeted && array->mirroring;
}

/* A WRITE's sectors leave as they are now; from here on the slot is immutable. */
static void seal_write(struct array *array, struct header *header)
{
    struct slot_table *table = &array->table;
    struct slot *slot = slot_at(table, header->slot);
    CHECK(slot->state == SLOT_FILLING);
    CHECK(slot_key_page(slot->key) == header->page);
    slot_set_state(table, slot, SLOT_TRAVELLING);
    header->sectors = slot->send;
    copy_seal_write(array, slot, header);
    uint32_t crc = CRC32C_START;
    uint8_t *frame = slot_frame(table, slot);
    for (uint32_t sector = 0; sector < PAGE_SECTORS;) {
        if (!(slot->send & 1u << sector)) {
            sector++;
            continue;
        }
        uint32_t end = sector + 1;
        while (end < PAGE_SECTORS && slot->send & 1u << end)
            end++;
        uint8_t *data = frame + sector * SECTOR_SIZE;
        uint32_t size = (end - sector) * SECTOR_SIZE;
        crc = crc32c_more(crc, data, size);
        lists_add_data(&array->lists, data, size);
        sector = end;
    }
    header->data_crc = crc32c_end(crc);
    copy_sealed_write(array, slot, header);
    if (MISTAKE(destage_before_mirrored) && !slot->superseded && slot->list == LIST_NONE) {
        slot_set_state(table, slot, SLOT_DIRTY);
        slot_list_append(table, LIST_URGENT, slot);
    }
}

/* The active list gets its head, and with it its number. */
static void encode(struct array *array)
{
    struct batch_head head = {.flags = array->stopping ? BATCH_STOPPING : 0,
                              .epoch = array->role.epoch,
                              .sender = array->config.incarnation,
                              .receiver = array->role.peer.incarnation,
                              .time_us = array->now_us,
                              .ship_session = array->ships.served};
    array->ships.said = array->ships.served;
    lists_encode(&array->lists, &head);
    TRACE(array, "seal batch %llu headers %u data %u", (unsigned long long)head.number,
          head.header_count, head.data_bytes);
}

static void seal(struct array *array)
{
    struct list *list = lists_seal(&array->lists);
    for (uint32_t i = 0; i < list->count; i++) {
        if (list->headers[i].type == HEADER_WRITE)
            seal_write(array, &list->headers[i]);
        else if (list->headers[i].type == HEADER_STATE)
            state_seal(array, &list->headers[i]);
        else if (list->headers[i].type >= HEADER_GROUP)
            copy_seal_data(array, &list->headers[i]);
    }
    copy_sealed(array);
    encode(array);
}

static void send_batch(struct array *array)
{
    struct lists *lists = &array->lists;
    lists->on_the_way = true;
    array->outgoing.batch_sent = true;
    lists->sealed_us = array->now_us;
    array->actions.send_wanted = true;
    array->actions.send = (struct send_action){.buffer_id = MESSAGE_BATCH,
                                               .length_bytes = lists->length_bytes,
                                               .iov = lists->iov,
                                               .iov_count = lists->iov_count};
}

static void send_hello(struct array *array)
{
    struct outgoing *outgoing = &array->outgoing;
    bool may_be_in = role_may_be_in(&array->role);
    struct hello hello = {.controller = array->config.self,
                          .role = (uint8_t)array->role.state,
                          .flags = (uint16_t)((array->stopping ? HELLO_STOPPING : 0) |
                                              (may_be_in ? HELLO_MAY_BE_IN : 0)),
                          .epoch = may_be_in ? array->role.pending_epoch : array->role.epoch,
                          .incarnation = array->config.incarnation,
                          .peer_incarnation = array->role.peer.incarnation,
                          .slots = array->config.slot_count,
                          .config_crc = array->config_crc};
    wire_put_hello(outgoing->hello, &hello);
    outgoing->hello_iov = (struct iovec){.iov_base = outgoing->hello, .iov_len = HELLO_SIZE};
    outgoing->hello_sent = true;
    outgoing->hello_wanted = false;
    outgoing->hello_next_us = array->now_us + beat_us(array);
    outgoing->message_us = array->now_us;
    array->actions.send_wanted = true;
    array->actions.send = (struct send_action){.buffer_id = MESSAGE_HELLO,
                                               .length_bytes = HELLO_SIZE,
                                               .iov = &outgoing->hello_iov,
                                               .iov_count = 1};
}

static bool hello_is_due(const struct array *array)
{
    const struct outgoing *outgoing = &array->outgoing;
    if (!outgoing->link_up)
        return false;
    /* A refused one is said again: without it no batch may go. */
    bool again = !array->mirroring || !outgoing->greeted;
    return outgoing->hello_wanted || (again && array->now_us >= outgoing->hello_next_us);
}

void link_pump(struct array *array)
{
    struct lists *lists = &array->lists;
    struct outgoing *outgoing = &array->outgoing;
    bool busy = MISTAKE(void_batch_forgotten) ? lists->on_the_way : outgoing->batch_sent;
    if (outgoing->hello_sent || busy)
        return;
    if (hello_is_due(array)) {
        send_hello(array);
        return;
    }
    if (!may_stream(array))
        return;
    if (lists->active) {
        array->sent.resends++;
        if (MISTAKE(resend_with_new_number))
            encode(array);
        TRACE(array, "send again batch %llu", (unsigned long long)(lists->next_number - 1));
        send_batch(array);
        return;
    }
    bool says = array->ships.said != array->ships.served; /* the peer waits to hear of it */
    if (lists_filling(lists)->count == 0 && !says &&
        array->now_us < lists->sealed_us + beat_us(array))
        return;
    seal(array);
    send_batch(array);
}

uint64_t link_deadline(const struct array *array)
{
    const struct outgoing *outgoing = &array->outgoing;
    if (!outgoing->link_up || outgoing->hello_sent || outgoing->batch_sent)
        return UINT64_MAX;
    if (!array->mirroring || !outgoing->greeted)
        return outgoing->hello_next_us;
    return array->lists.sealed_us + beat_us(array);
}

void array_on_link_up(struct array *array, uint64_t now_us)
{
    array_begin(array, now_us);
    array->outgoing =
        (struct outgoing){.link_up = true, .hello_wanted = true, .hello_next_us = now_us};
    TRACE(array, "link up");
}

void array_on_link_down(struct array *array, uint64_t now_us)
{
    array_begin(array, now_us);
    array->outgoing = (struct outgoing){.link_up = false};
    array->lists.on_the_way = false;
    TRACE(array, "link down");
    duty_abort_refill(array);
}

static void acknowledged(struct array *array)
{
    struct lists *lists = &array->lists;
    struct list *list = lists_active(lists);
    TRACE(array, "acknowledged batch %llu", (unsigned long long)(lists->next_number - 1));
    role_on_answer(&array->role, MISTAKE(lease_from_answer) ? array->now_us : lists->sealed_us);
    array->sent.batches++;
    array->sent.headers += list->count;
    array->sent.data_bytes += list->data_bytes;
    for (uint32_t i = 0; i < list->count; i++) {
        if (list->headers[i].type == HEADER_WRITE)
            pages_acknowledged(array, slot_at(&array->table, list->headers[i].slot));
    }
    host_resume(array, &list->waiting);
    if (array->config.group_count > 0)
        copy_second_acknowledged(array, lists->next_number - 1);
    uint32_t count = list->count;
    lists_acknowledged(lists);
    for (uint32_t i = 0; i < count; i++)
        duty_acknowledged(array, &list->headers[i]);
}

void array_on_status(struct array *array, uint64_t now_us, bool good)
{
    array_begin(array, now_us);
    struct outgoing *outgoing = &array->outgoing;
    if (outgoing->hello_sent) {
        outgoing->hello_sent = false;
        outgoing->greeted = good;
        return;
    }
    outgoing->batch_sent = false;
    if (!array->lists.on_the_way)
        return; /* the mirror was voided while it travelled */
    if (good) {
        acknowledged(array);
        return;
    }
    /* The peer could not take it: it is in another role, or lost its place. Begin a session anew,
     * with a hello. */
    array->lists.on_the_way = false;
    array->sent.refused++;
    outgoing->greeted = false;
    array->actions.link_reset = true;
    TRACE(array, "batch refused");
}

static bool hello_message(struct array *array, const uint8_t *bytes, uint32_t length)
{
    struct hello hello;
    const char *why = wire_get_hello(bytes, length, &hello);
    if (why == NULL && hello.controller == array->config.self)
        why = "hello from a controller of our own name: is it configured twice?";
    if (why == NULL && hello.role >= ROLE_COUNT)
        why = "hello in an unknown role";
    if (why != NULL) {
        array_log(array, LOG_WARNING, "link: %s", why);
        return false;
    }
    bool fits = hello.slots == array->config.slot_count && hello.config_crc == array->config_crc;
    if (!fits && !array->misfit_logged)
        array_log(
            array, LOG_ERROR,
            "link: the peer's cache size, volumes or stores differ from ours: it cannot join");
    array->misfit_logged = !fits;
    struct role_peer peer = {.known = true,
                             .serving_memory = role_has_memory((enum role)hello.role),
                             .may_be_in = (hello.flags & HELLO_MAY_BE_IN) != 0,
                             .fits = fits,
                             .role = (enum role)hello.role,
                             .incarnation = hello.incarnation,
                             .epoch = hello.epoch};
    bool news = !array->role.peer.known || array->role.peer.incarnation != hello.incarnation;
    array->peer_stopping = (hello.flags & HELLO_STOPPING) != 0;
    role_on_hello(&array->role, array->now_us, &peer);
    TRACE(array, "hello from %c role %s", 'a' + hello.controller, role_name(peer.role));
    if (news)
        array->outgoing.hello_wanted = true; /* it may not have heard us since it started */
    return true;
}

void array_on_message(struct array *array, uint64_t now_us, uint8_t buffer_id, const void *bytes,
                      uint32_t length)
{
    array_begin(array, now_us);
    bool good = buffer_id == MESSAGE_HELLO   ? hello_message(array, bytes, length)
                : buffer_id == MESSAGE_BATCH ? image_message(array, bytes, length)
                                             : false;
    array->actions.reply_wanted = true;
    array->actions.reply_good = good;
}
