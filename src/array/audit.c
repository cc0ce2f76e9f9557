/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Every invariant that can be seen by looking at all of the state at once. For tests and the
 * simulator: it costs a pass over the slot table. */

#include "array/internal.h"

static const char *audit_slot(const struct array *array, const struct slot *slot)
{
    const struct slot_table *table = &array->table;
    bool image = slot_in_image(table, slot);
    if (slot->state == SLOT_FREE) {
        if (slot->valid || slot->counted || slot->waiters != NO_INDEX || slot->fetch)
            return "a free slot holds something";
        if (slot_is_mirrored(table, slot))
            return "a free slot counts as mirrored";
        return !image && slot->list != LIST_FREE ? "a free slot is not on the free list" : NULL;
    }
    if (slot->dirty & ~slot->valid)
        return "a dirty sector is not valid";
    if (slot->superseded != (slot_find(table, slot->key) != slot))
        return "a slot is superseded and in the index, or neither";
    if (slot->superseded && slot->state == SLOT_CLEAN && !slot->pinned && !slot->foreign)
        return "a superseded slot is clean";
    if (slot->state == SLOT_CLEAN && slot->dirty)
        return "a clean slot has dirty sectors";
    /* The remote copy may send a page that the store has, too. */
    bool copied = array->volumes[slot_key_volume(slot->key)].group != NO_GROUP &&
                  (slot->state == SLOT_FILLING || slot->state == SLOT_TRAVELLING);
    if (slot_is_dirty(slot) && !slot->superseded && !slot->dirty && !copied)
        return "a dirty slot has no dirty sector";
    if (slot->state == SLOT_CLEAN && !image &&
        (slot->fetch == 0 && !slot->pinned && !slot->foreign) !=
            (slot->list == LIST_SMALL || slot->list == LIST_MAIN))
        return "a clean slot is on no replacement queue, or on one while it is fetched";
    if (slot->state == SLOT_DIRTY && slot->list == LIST_NONE)
        return "a dirty slot is on no list";
    if ((slot->state == SLOT_FILLING || slot_is_carried(slot)) && slot->list != LIST_NONE)
        return "a slot that is carried is on a list";
    if ((slot->state == SLOT_FILLING || slot->state == SLOT_TRAVELLING) && image)
        return "a slot of the image half travels";
    if (array->role.state == ROLE_PAIRED && slot->state == SLOT_DIRTY && !image &&
        !slot->superseded && !slot_is_mirrored(table, slot) && array->role.epoch != 0)
        return "paired, and a dirty slot is not mirrored";
    if (slot->elder != NO_INDEX) {
        const struct slot *elder = slot_at(table, slot->elder);
        if (elder->key != slot->key || !elder->superseded || !slot_is_dirty(elder))
            return "a slot waits for an elder that is none";
    }
    return NULL;
}

static const char *audit_lists(const struct array *array)
{
    const struct lists *lists = &array->lists;
    uint32_t filling = 0, travelling = 0;
    for (int i = 0; i < 2; i++) {
        const struct list *list = &lists->list[i];
        bool active = i != lists->filling;
        for (uint32_t h = 0; h < list->count; h++) {
            if (list->headers[h].type != HEADER_WRITE)
                continue;
            const struct slot *slot = slot_at(&array->table, list->headers[h].slot);
            if (slot->state != (active ? SLOT_TRAVELLING : SLOT_FILLING))
                return "a header names a slot that is not in its list's state";
            filling += !active;
            travelling += active;
        }
    }
    if (filling != array->table.state_count[0][SLOT_FILLING] ||
        travelling != array->table.state_count[0][SLOT_TRAVELLING])
        return "a slot is filling or travelling without a header";
    return NULL;
}

static const char *audit_dirty_counts(const struct array *array)
{
    const struct slot_table *table = &array->table;
    uint64_t counted = 0;
    uint64_t generation_sum = 0;
    uint64_t volume_sum = 0;
    for (uint32_t i = 0; i < table->total; i++)
        counted += table->slots[i].counted;
    for (int i = 0; i < FLUSH_GENERATIONS; i++)
        generation_sum += array->destage.generations.count[i];
    for (uint32_t i = 0; i < array->config.volume_count; i++)
        volume_sum += array->destage.generations.volume_pages[i];
    uint64_t adopted = array->destage.generations.adopting ? slot_list_count(table, LIST_IMAGE) : 0;
    if (counted + adopted != generation_sum)
        return "the flush generations count other slots than are dirty";
    if (counted != volume_sum)
        return "the volumes count other pages than are dirty";
    return NULL;
}

static const char *audit_requests(const struct array *array)
{
    uint64_t begun = 0, active = 0;
    for (uint32_t i = 0; i < array->requests.limit; i++) {
        const struct request *request = &array->requests.requests[i];
        if (!request->used)
            continue;
        begun += request->begun;
        bool at_store =
            request->range != 0 && (array->ranges[request->range - 1].state == RANGE_STORE ||
                                    array->ranges[request->range - 1].state == RANGE_FLUSH);
        bool shipped = request->ship != 0;
        if (!request->queued && !at_store && !shipped)
            return "a request waits for nothing";
    }
    for (uint32_t i = 0; i < array->config.volume_count; i++) {
        const struct volume *volume = &array->volumes[i];
        active += volume->active;
        if (volume->active < volume->side_active[0] + volume->side_active[1])
            return "a volume counts more requests by side than altogether";
    }
    if (array->ships.late_progress)
        return "the owner's stream tells of a shipped request that has gone on without that";
    return begun == active ? NULL : "the volumes count other requests than are active";
}

/* Both hold the page for another array, for the same cycle, or neither does. */
static const char *audit_held(const struct array *from, const struct slot *slot,
                              const struct array *to, const struct slot *copy)
{
    const struct group *here = copy_group(from, slot_key_volume(slot->key));
    const struct group *there = copy_group(to, slot_key_volume(slot->key));
    uint64_t cycle[2];
    uint32_t generation[2];
    if (!copy->foreign || copy->key != slot->key || copy->valid != slot->valid)
        return "a page is held here, but not in the peer's image";
    bool both = receiver_has(&here->second.receiver, slot_index(&from->table, slot), &cycle[0],
                             &generation[0]) &&
                receiver_has(&there->second.receiver, slot_index(&to->table, copy), &cycle[1],
                             &generation[1]);
    if (!both || cycle[0] != cycle[1] || generation[0] != generation[1])
        return "a page is held for another cycle or generation in the peer's image";
    return NULL;
}

static const char *audit_copy(const struct array *from, const struct slot *slot,
                              const struct array *to, const struct slot *copy)
{
    if (slot->foreign) {
        const char *why = audit_held(from, slot, to, copy);
        if (why != NULL)
            return why;
    } else if (copy->state == SLOT_FREE || copy->superseded || copy->key != slot->key)
        return "a slot counts as mirrored, but the peer's image does not hold its page";
    if (slot_is_dirty(slot) && (slot->dirty & ~copy->valid))
        return "a slot counts as mirrored, but the peer's image lacks some of its sectors";
    if (slot->pinned &&
        (pins_at(&from->copy.pins, slot_index(&from->table, slot))->owed & ~copy->valid))
        return "the peer's image lacks a sector that an unconfirmed cycle owes";
    const uint8_t *here = slot_frame(&from->table, slot), *there = slot_frame(&to->table, copy);
    for (uint32_t sector = 0; sector < PAGE_SECTORS; sector++) {
        if ((slot->valid & copy->valid & 1u << sector) &&
            memcmp(here + sector * SECTOR_SIZE, there + sector * SECTOR_SIZE, SECTOR_SIZE) != 0)
            return "a slot counts as mirrored, but the peer's image holds other bytes";
    }
    return NULL;
}

const char *array_check_mirror(const struct array *from, const struct array *to,
                               const bool moved[VOLUME_LIMIT])
{
    const struct lists *lists = &from->lists;
    if (from->role.state != ROLE_PAIRED || to->role.state != ROLE_PAIRED ||
        from->role.epoch != to->role.epoch || !from->mirroring || !to->incoming.open ||
        to->incoming.stream != lists->stream || lists->active ||
        lists->list[lists->filling].count > 0)
        return NULL;
    if (copy_second_promotes(from))
        return NULL; /* the peer has promoted, and the owner waits until its stores are quiet */
    const char *held = copy_second_check_mirror(from, to);
    if (held != NULL)
        return held;
    for (uint32_t i = 0; i < from->table.half; i++) {
        const struct slot *slot = &from->table.slots[i];
        const struct slot *copy = &to->table.slots[to->table.half + i];
        bool mirrored = slot->state != SLOT_FREE && slot_is_mirrored(&from->table, slot);
        uint8_t volume = slot_key_volume(copy->key);
        if (slot->pinned && !slot->superseded && !mirrored &&
            array_owns(from, slot_key_volume(slot->key)) && !moved[slot_key_volume(slot->key)])
            return "a pinned slot is not mirrored";
        if (mirrored) {
            const char *why = audit_copy(from, slot, to, copy);
            if (why != NULL)
                return why;
        } else if (copy->state != SLOT_FREE && !moved[volume] && !array_owns(to, volume)) {
            return "the peer's image holds a page that its slot here has given up";
        }
    }
    return NULL;
}

const char *array_check(const struct array *array)
{
    for (uint32_t i = 0; i < array->table.total; i++) {
        const char *why = audit_slot(array, &array->table.slots[i]);
        if (why != NULL)
            return why;
    }
    const char *why = audit_lists(array);
    if (why == NULL)
        why = audit_dirty_counts(array);
    if (why == NULL)
        why = audit_requests(array);
    const struct stream_status *sent = &array->sent;
    if (why == NULL &&
        array->lists.added != sent->writes + sent->drops + sent->ranges + array->controls_sent)
        why = "a destage sent a message";
    return why != NULL ? why : copy_check(array);
}
