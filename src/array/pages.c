/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What becomes of slots: taking one for a page, making it dirty, and each step until the store has
 * it. The rules of who may change which bytes are kept here (invariant 3): a slot that something
 * carries is never written; the page takes a fresh one. So is invariant 7: a slot whose copy at the
 * peer is valid changes its identity only together with a header. */

#include "array/internal.h"

#include "base/mistake.h"

struct slot *pages_find(struct array *array, uint64_t key)
{
    struct slot *slot = slot_find(&array->table, key);
    if (slot == NULL)
        return NULL;
    bool image = slot_in_image(&array->table, slot);
    /* Clean since before the volume was taken over, from an earlier time as its owner. The lost
     * owner may have discarded it on the store without a chance to say so. */
    bool old = !image && slot->state == SLOT_CLEAN && slot->fetch == 0 && slot->valid != 0 &&
               slot->waiters == NO_INDEX &&
               slot->dirty_ms != array->volumes[slot_key_volume(key)].tenure;
    if (!old && (!image || array_is_solo(array)))
        return slot;
    /* Else it is left over from when the peer owned this volume. Its owner destaged everything
     * before it gave the volume away, and any change since would have come through here: the store
     * holds the same bytes. */
    if (slot->pinned)
        pages_put_aside(array, slot);
    else
        slot_release(&array->table, slot);
    return NULL;
}

/* Give up a clean page's slot. For a write the peer will hear of it by that write's header. */
static bool free_one(struct array *array, bool for_read)
{
    struct slot_table *table = &array->table;
    /* The header is paid for before the slot is given up. */
    if (for_read && array->mirroring && !lists_have_room(&array->lists, 1, true))
        return false;
    struct slot *victim = replace_victim(&array->replace, table);
    if (victim == NULL)
        return false;
    if (for_read && array->mirroring && slot_is_mirrored(table, victim)) {
        struct header drop = {.type = HEADER_DROP, .slot = slot_index(table, victim)};
        if (!MISTAKE(drop_not_sent)) {
            lists_add(&array->lists, &drop);
            array->sent.drops++;
        }
        TRACE(array, "drop slot %u", drop.slot);
    }
    slot_release(table, victim);
    return true;
}

/* Make sure that a slot of our own half is FREE. */
static bool make_free(struct array *array, bool for_read)
{
    return slot_list_count(&array->table, LIST_FREE) > 0 || free_one(array, for_read);
}

struct slot *pages_take(struct array *array, uint64_t key, bool for_read)
{
    return make_free(array, for_read) ? slot_take(&array->table, key) : NULL;
}

static bool dirty_room(const struct array *array)
{
    return array->reserved ||
           slot_dirty_count(&array->table, 0) + array->copy.foreign < array->high_slots;
}

bool pages_reserve(struct array *array, uint32_t slots, uint32_t pages)
{
    struct slot_table *table = &array->table;
    uint32_t dirty = slot_dirty_count(table, 0) + array->copy.foreign;
    if (dirty > array->copy.foreign && dirty + pages > array->high_slots)
        return false; /* with nothing dirty a step of any size goes, or it would wait for ever */
    while (slot_list_count(table, LIST_FREE) < slots) {
        if (!free_one(array, true))
            return false;
    }
    return true;
}

/* Out of the index, while the remote copy still needs it. What it held that the store lacks has
 * another slot, or was discarded. */
static void put_aside(struct array *array, struct slot *slot)
{
    struct slot_table *table = &array->table;
    CHECK(slot->pinned);
    CHECK(slot->superseded);
    slot_list_remove(table, slot);
    slot->dirty = 0;
    slot->unsafe = slot->failed = slot->held = false;
    slot_set_mirrored(table, slot, false);
    if (slot->state != SLOT_CLEAN)
        slot_set_state(table, slot, SLOT_CLEAN);
}

void pages_put_aside(struct array *array, struct slot *slot)
{
    slot_supersede(&array->table, slot);
    put_aside(array, slot);
}

void pages_unpinned(struct array *array, struct slot *slot)
{
    struct slot_table *table = &array->table;
    bool image = slot_in_image(table, slot);
    slot->pinned = false;
    if (slot->state != SLOT_CLEAN)
        return;
    if (slot->superseded)
        slot_release(table, slot);
    else if (slot->fetch == 0 && !image)
        replace_insert(&array->replace, table, slot);
}

/* The page's newest data moves to a fresh slot, because its present one is being carried. */
static struct slot *replace_carried(struct array *array, struct slot *old)
{
    struct slot_table *table = &array->table;
    if (!make_free(array, false))
        return NULL;
    slot_supersede(table, old);
    struct slot *heir = slot_take(table, old->key);
    memcpy(slot_frame(table, heir), slot_frame(table, old), PAGE_SIZE_BYTES);
    heir->valid = old->valid;
    heir->dirty = old->dirty;
    heir->frequency = old->frequency;
    slot_set_mirrored(table, old, false); /* the heir's header frees the peer's copy */
    if (old->state == SLOT_DESTAGING) {
        heir->elder = slot_index(table, old);
    } else {
        heir->elder = old->elder;
        old->elder = NO_INDEX;
        if (old->list == LIST_IMAGE)
            generation_join(&array->destage.generations, old);
        generation_inherit(&array->destage.generations, old, heir);
    }
    copy_replaced(array, old, heir);
    if (old->fetch != 0) {
        heir->fetch = old->fetch;
        array->fetches.frame_slot[old->fetch - 1] = slot_index(table, heir);
        old->fetch = 0;
        host_slot_settled(array, old, false); /* its waiters look at the heir */
    }
    if (old->state == SLOT_DIRTY || old->state == SLOT_CLEAN) {
        host_slot_settled(array, old, false);
        put_aside(array, old); /* only the remote copy needs it */
    }
    TRACE(array, "slot %u supersedes slot %u", slot_index(table, heir), slot_index(table, old));
    return heir;
}

/* Written where it stands; the header that names it goes with what it then holds. */
static bool in_place(const struct slot *slot)
{
    return slot->state == SLOT_FILLING ||
           (MISTAKE(write_in_transit) && slot->state == SLOT_TRAVELLING) ||
           (MISTAKE(write_in_destage) && slot->state == SLOT_DESTAGING);
}

struct slot *pages_write_slot(struct array *array, struct slot *slot, uint64_t key)
{
    bool frozen = slot != NULL && copy_frozen(array, slot);
    if (slot != NULL && in_place(slot) && !frozen)
        return slot;
    if (array->mirroring && !lists_have_room(&array->lists, 1, false))
        return NULL;
    if (slot != NULL && slot->state == SLOT_DIRTY && !frozen)
        return slot;
    if (slot != NULL && slot_in_image(&array->table, slot) && !slot_is_carried(slot) && !frozen)
        return slot; /* adopted: it has its room already */
    if (!dirty_room(array))
        return NULL;
    if (slot == NULL)
        return pages_take(array, key, false);
    return slot_is_carried(slot) || frozen ? replace_carried(array, slot) : slot;
}

static void add_write_header(struct array *array, struct slot *slot, uint8_t touched)
{
    struct slot_table *table = &array->table;
    CHECK(!slot_in_image(table, slot));
    slot->fresh = !slot_is_mirrored(table, slot) && !MISTAKE(fresh_not_said);
    slot->send = slot->fresh ? slot->dirty | copy_owed(array, slot) : touched;
    slot_set_mirrored(table, slot, true);
    slot_set_state(table, slot, SLOT_FILLING);
    struct header header = {.type = HEADER_WRITE,
                            .flags = slot->fresh ? HEADER_FRESH : 0,
                            .volume = slot_key_volume(slot->key),
                            .slot = slot_index(table, slot),
                            .page = slot_key_page(slot->key)};
    lists_add(&array->lists, &header);
    array->sent.writes++;
    TRACE(array, "fill write slot %u volume %u page %llu%s", header.slot, header.volume,
          (unsigned long long)header.page, slot->fresh ? " fresh" : "");
}

void pages_written(struct array *array, struct slot *slot, uint8_t touched)
{
    struct slot_table *table = &array->table;
    slot->valid |= touched;
    slot->dirty |= touched;
    slot->unsafe = true;
    copy_written(array, slot, touched);
    array->host_pages++;
    generation_join(&array->destage.generations, slot);
    if (in_place(slot)) {
        slot->send |= touched;
        array->sent.folds++;
        return;
    }
    bool sent = !(MISTAKE(dirty_again_not_sent) && slot->state == SLOT_DIRTY &&
                  slot_is_mirrored(table, slot));
    slot_list_remove(table, slot);
    if (array->mirroring && sent) {
        add_write_header(array, slot, touched);
        return;
    }
    if (slot->state != SLOT_DIRTY)
        slot_set_state(table, slot, SLOT_DIRTY);
    slot_list_append(table, LIST_URGENT, slot);
}

void pages_send(struct array *array, struct slot *slot)
{
    CHECK(slot->state == SLOT_DIRTY || (slot->state == SLOT_CLEAN && slot->pinned));
    slot_list_remove(&array->table, slot);
    slot->settled = !slot->pinned && copy_group(array, slot_key_volume(slot->key)) != NULL;
    add_write_header(array, slot, slot->dirty);
}

/* A slot that no list carries any more, still newer than the store. */
static void back_to_dirty(struct array *array, struct slot *slot)
{
    struct slot_table *table = &array->table;
    slot->send = 0;
    if (slot->foreign) {
        slot_set_state(table, slot, SLOT_CLEAN);
        return;
    }
    if (slot->superseded) {
        host_slot_settled(array, slot, false);
        generation_leave(&array->destage.generations, slot);
        if (slot->pinned)
            put_aside(array, slot);
        else
            slot_release(table, slot);
        return;
    }
    if (slot->dirty == 0) { /* it was sent for the remote copy's sake */
        slot_set_state(table, slot, SLOT_CLEAN);
        host_slot_settled(array, slot, true);
        if (slot->fetch == 0)
            pages_keep_clean(array, slot);
        return;
    }
    slot_set_state(table, slot, SLOT_DIRTY);
    slot->dirty_ms = (uint32_t)(array->now_us / 1000);
    slot_list_append(table, slot->unsafe ? LIST_URGENT : LIST_BACKLOG, slot);
}

void pages_acknowledged(struct array *array, struct slot *slot)
{
    CHECK(slot->state == SLOT_TRAVELLING || MISTAKE(destage_before_mirrored));
    if (!array_is_solo(array))
        slot->unsafe = false; /* solo: a new write may be seen only when the store has it, too */
    if (!slot->unsafe)
        host_slot_settled(array, slot,
                          false); /* a superseded slot too: its readers get this version */
    if (MISTAKE(destage_before_mirrored) && slot->state != SLOT_TRAVELLING)
        return;
    back_to_dirty(array, slot);
}

void pages_mirror_void(struct array *array)
{
    struct lists *lists = &array->lists;
    for (int i = 0; i < 2; i++) {
        /* The older list first, so that pages keep their order. */
        struct list *list = i == 0 ? lists_active(lists) : lists_filling(lists);
        for (uint32_t h = 0; h < list->count; h++) {
            if (list->headers[h].type == HEADER_WRITE)
                back_to_dirty(array, slot_at(&array->table, list->headers[h].slot));
        }
        for (struct request *request;
             (request = request_queue_pop(&array->requests, &list->waiting)) != NULL;)
            request_queue_append(&array->requests, &array->run, request);
    }
    if (lists->on_the_way)
        array->actions.link_reset = true; /* its bytes are ours to change from here on */
    lists_reset(lists, 0);
    slot_mirror_forget_all(&array->table);
    array->mirroring = false;
    copy_mirror_void(array);
}

void pages_keep_clean(struct array *array, struct slot *slot)
{
    slot->dirty_ms = array->volumes[slot_key_volume(slot->key)].tenure;
    if (!slot->pinned || MISTAKE(pinned_given_up))
        replace_insert(&array->replace, &array->table, slot);
}

void pages_durable(struct array *array, struct slot *slot)
{
    struct slot_table *table = &array->table;
    CHECK(slot->state == SLOT_DESTAGING);
    generation_leave(&array->destage.generations, slot);
    slot->dirty = 0;
    slot->unsafe = slot->failed = false;
    struct slot *heir = slot_find(table, slot->key);
    if (heir != NULL && heir->elder == slot_index(table, slot))
        heir->elder = NO_INDEX;
    if (slot->superseded) {
        host_slot_settled(array, slot, true);
        if (slot->pinned)
            put_aside(array, slot);
        else
            slot_release(table, slot);
        return;
    }
    slot_set_state(table, slot, SLOT_CLEAN);
    host_slot_settled(array, slot, true);
    if (slot->fetch == 0)
        pages_keep_clean(array, slot);
}

bool pages_relocate(struct array *array, struct slot *slot)
{
    struct slot_table *table = &array->table;
    CHECK(slot->state == SLOT_DIRTY);
    CHECK(slot_in_image(table, slot));
    enum slot_list_id list =
        slot->list == LIST_FAILED || slot->list == LIST_URGENT ? slot->list : LIST_BACKLOG;
    if (slot->fetch != 0 || !make_free(array, false))
        return false;
    generation_join(&array->destage.generations, slot);
    slot_list_remove(table, slot);
    slot_supersede(table, slot);
    struct slot *heir = slot_take(table, slot->key);
    memcpy(slot_frame(table, heir), slot_frame(table, slot), PAGE_SIZE_BYTES);
    heir->valid = slot->valid;
    heir->dirty = slot->dirty;
    heir->unsafe = slot->unsafe;
    heir->failed = slot->failed;
    heir->held = slot->held;
    heir->frequency = slot->frequency;
    heir->elder = slot->elder;
    slot->elder = NO_INDEX;
    heir->dirty_ms = (uint32_t)(array->now_us / 1000);
    slot_set_state(table, heir, SLOT_DIRTY);
    generation_inherit(&array->destage.generations, slot, heir);
    slot_list_append(table, list, heir);
    copy_relocated(array, slot, heir);
    host_slot_settled(array, slot, false);
    slot_release(table, slot);
    return true;
}

bool pages_relocate_pinned(struct array *array, struct slot *slot)
{
    struct slot_table *table = &array->table;
    CHECK(slot->state == SLOT_CLEAN);
    CHECK(slot->pinned);
    if (slot->fetch != 0 || !make_free(array, false))
        return false;
    bool superseded = slot->superseded;
    if (!superseded)
        slot_supersede(table, slot);
    struct slot *heir = slot_take(table, slot->key);
    if (superseded)
        slot_supersede(table, heir);
    memcpy(slot_frame(table, heir), slot_frame(table, slot), PAGE_SIZE_BYTES);
    heir->valid = slot->valid;
    heir->frequency = slot->frequency;
    heir->dirty_ms = slot->dirty_ms;
    copy_relocated(array, slot, heir);
    host_slot_settled(array, slot, false);
    slot_release(table, slot);
    return true;
}
