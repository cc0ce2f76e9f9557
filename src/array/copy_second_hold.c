/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Slots that hold another array's pages: taken, promoted, discarded, moved. The owner of the group
 * and its peer make the same step at the same place of the change stream, so that a takeover finds
 * what the owner had. A promotion is one step in memory: before it no held byte can be seen, after
 * it each page's newest is the promoted one, and what the store is still to forget is noted. */

#include "array/internal.h"
#include "base/copy.h"
#include "base/mistake.h"

static void set_foreign(struct array *array, struct slot *slot, bool foreign)
{
    slot->foreign = foreign;
    if (slot_in_image(&array->table, slot))
        return;
    CHECK(foreign || array->copy.foreign > 0);
    array->copy.foreign += foreign ? 1 : -1;
}

/* These sectors of `bytes`, which holds no others, into the slot's frame. */
static void spread(struct array *array, struct slot *slot, uint8_t sectors, const uint8_t *bytes)
{
    uint8_t *frame = slot_frame(&array->table, slot);
    for (uint32_t sector = 0; sector < PAGE_SECTORS; sector++) {
        if (!(sectors & 1u << sector))
            continue;
        copy_past_cache(frame + sector * SECTOR_SIZE, bytes, SECTOR_SIZE);
        bytes += SECTOR_SIZE;
    }
    copy_past_cache_end();
}

static void merge(struct array *array, struct slot *to, const struct slot *from, uint8_t sectors)
{
    uint8_t *into = slot_frame(&array->table, to);
    const uint8_t *bytes = slot_frame(&array->table, from);
    for (uint32_t sector = 0; sector < PAGE_SECTORS; sector++) {
        if (sectors & 1u << sector)
            memcpy(into + sector * SECTOR_SIZE, bytes + sector * SECTOR_SIZE, SECTOR_SIZE);
    }
}

/* Held pages count beside the dirty ones, which they become: hosts and reads keep their share. */
static bool has_room(const struct array *array)
{
    return array->copy.foreign + slot_dirty_count(&array->table, 0) < array->high_slots;
}

/* Pages in one list to the peer; the next are held when it has left. One message of 1 MiB keeps a
 * kernel that is not preempted from all else for some 300 microseconds. */
enum { HOLD_STEP = 32 };

bool copy_second_hold(struct array *array, struct group *group, const struct copy_head *head,
                      const struct record *record, const uint8_t *data)
{
    struct receiver *receiver = &group->second.receiver;
    if (receiver_holds(receiver, head->cycle, record))
        return true;
    if (array->mirroring &&
        (array->copy.held_in_list == HOLD_STEP || !lists_have_room(&array->lists, 1, false)))
        return false;
    uint64_t key = slot_key(group->config->volumes[record->volume], record->page);
    struct slot *slot = has_room(array) ? pages_take(array, key, false) : NULL;
    if (slot == NULL) {
        array->copy.hungry = true;
        return false;
    }
    slot_supersede(&array->table, slot);
    set_foreign(array, slot, true);
    spread(array, slot, record->sectors, data);
    slot->valid = record->sectors;
    receiver_hold(receiver, slot_index(&array->table, slot), head->cycle, head->wall_us, record);
    if (array->mirroring && !MISTAKE(hold_not_said)) {
        copy_second_say_held(array, group, slot);
        array->copy.held_in_list++;
    }
    return true;
}

void copy_second_take_image(struct array *array, struct group *group, uint32_t index,
                            const struct header *header, const uint8_t *data)
{
    struct slot_table *table = &array->table;
    const struct record record = {.type = RECORD_PAGE,
                                  .volume = array->volumes[header->volume].group_place,
                                  .sectors = header->sectors,
                                  .generation = header->generation,
                                  .page = header->page};
    struct slot *slot = slot_take_image(table, index, slot_key(header->volume, header->page));
    slot_supersede(table, slot);
    slot_list_remove(table, slot);
    slot_set_state(table, slot, SLOT_CLEAN);
    set_foreign(array, slot, true);
    spread(array, slot, header->sectors, data);
    slot->valid = header->sectors;
    receiver_hold(&group->second.receiver, slot_index(table, slot), header->cycle, 0, &record);
}

/* The receiver needs the slot no more, and it holds nothing that counts. */
static void let_go(struct array *array, struct slot *slot)
{
    CHECK(slot->foreign);
    set_foreign(array, slot, false);
    if (slot->state == SLOT_CLEAN)
        slot_release(&array->table, slot);
    else /* the list that names it releases it, when it has been acknowledged */
        slot_set_mirrored(&array->table, slot, false);
}

void copy_second_discard(struct array *array, struct group *group)
{
    struct receiver *receiver = &group->second.receiver;
    struct receiver_popped popped;
    uint8_t sectors;
    while (receiver_pop(receiver, &popped)) {
        for (uint32_t slot = popped.slot; slot != NO_INDEX;) {
            uint32_t older = receiver_older(receiver, &sectors);
            let_go(array, slot_at(&array->table, slot));
            slot = older;
        }
    }
}

/* ---- ranges ---- */

uint64_t copy_second_steps(const struct array *array, const struct second_zero *zero)
{
    return min_u64(zero->count, array->table.total);
}

struct slot *copy_second_step(const struct array *array, const struct group *group,
                              const struct second_zero *zero, uint64_t i)
{
    uint8_t volume = group->config->volumes[zero->volume];
    if (zero->count <= array->table.total)
        return slot_find(&array->table, slot_key(volume, zero->page + i));
    struct slot *slot = slot_at(&array->table, (uint32_t)i);
    uint64_t page = slot_key_page(slot->key);
    bool within = slot->state != SLOT_FREE && !slot->superseded &&
                  slot_key_volume(slot->key) == volume && page >= zero->page &&
                  page - zero->page < zero->count;
    return within ? slot : NULL;
}

/* What is dirty there is held back; what is on its way to or from the store is waited for. */
bool copy_second_quiet(struct array *array, struct group *group, uint64_t cycle)
{
    struct second *second = &group->second;
    const struct receiver *receiver = &second->receiver;
    second->quieting = receiver->zero_count > 0;
    for (; second->quieting && second->quiet_at < RECEIVER_ZEROES; second->quiet_at++) {
        const struct receiver_zero *range = &receiver->zeroes[second->quiet_at];
        const struct second_zero zero = {
            .page = range->page, .count = range->count, .volume = range->volume};
        if (range->cycle == 0 || range->cycle > cycle)
            continue;
        for (; second->quiet_page < copy_second_steps(array, &zero); second->quiet_page++) {
            struct slot *slot = copy_second_step(array, group, &zero, second->quiet_page);
            if (slot == NULL)
                continue;
            if ((slot->state == SLOT_DESTAGING || slot->fetch != 0 || slot->elder != NO_INDEX) &&
                !MISTAKE(promote_while_busy))
                return false;
            slot->held = true;
        }
        second->quiet_page = 0;
    }
    second->quiet_at = 0;
    return true;
}

/* The page reads as zeros now: whatever the cache has of it goes. */
static void drop_page(struct array *array, struct slot *slot, bool owner)
{
    if (!owner) {
        if (!slot_in_image(&array->table, slot))
            CHECK(slot->state == SLOT_CLEAN && slot->fetch == 0);
    } else {
        generation_leave(&array->destage.generations, slot);
        host_slot_settled(array, slot, true);
    }
    slot->held = false;
    if (slot->pinned)
        pages_put_aside(array, slot);
    else
        slot_release(&array->table, slot);
}

static void promote_range(struct array *array, struct group *group,
                          const struct receiver_popped *popped, bool owner)
{
    struct second_zeroes *zero = &group->second.zero;
    CHECK(zero->count < RECEIVER_ZEROES);
    struct second_zero *range = &zero->zeroes[zero->count++];
    *range = (struct second_zero){
        .page = popped->page, .count = popped->count, .volume = popped->volume};
    for (uint64_t i = 0; i < copy_second_steps(array, range); i++) {
        struct slot *slot = copy_second_step(array, group, range, i);
        if (slot != NULL)
            drop_page(array, slot, owner);
    }
}

static bool is_zeroed(const struct second_zeroes *zero, uint8_t volume, uint64_t page)
{
    for (uint32_t i = 0; i < zero->count; i++) {
        const struct second_zero *range = &zero->zeroes[i];
        if (range->volume == volume && page >= range->page && page - range->page < range->count)
            return true;
    }
    return false;
}

/* ---- pages ---- */

/* At the owner: the promoted slot takes all that the page's older slot holds and it does not. */
static void succeed(struct array *array, struct slot *old, struct slot *heir)
{
    struct slot_table *table = &array->table;
    struct generations *generations = &array->destage.generations;
    merge(array, heir, old, old->valid & (uint8_t)~heir->valid);
    heir->valid |= old->valid;
    heir->dirty |= old->dirty;
    heir->frequency = old->frequency;
    slot_supersede(table, old);
    slot_set_mirrored(table, old, false); /* the peer gives its copy up at the same word */
    if (old->state == SLOT_DESTAGING && !MISTAKE(promote_passes_elder)) {
        heir->elder = slot_index(table, old);
    } else {
        heir->elder = old->elder;
        old->elder = NO_INDEX;
        if (old->list == LIST_IMAGE)
            generation_join(generations, old);
        generation_inherit(generations, old, heir);
    }
    if (old->fetch != 0) {
        heir->fetch = old->fetch;
        array->fetches.frame_slot[old->fetch - 1] = slot_index(table, heir);
        old->fetch = 0;
    }
    host_slot_settled(array, old, false); /* its waiters look at the heir */
    if (old->state != SLOT_DIRTY && old->state != SLOT_CLEAN)
        return; /* what carries it releases it */
    slot_list_remove(table, old);
    old->dirty = 0;
    old->held = old->unsafe = old->failed = false;
    if (old->state == SLOT_DIRTY)
        slot_set_state(table, old, SLOT_CLEAN);
    if (!old->pinned)
        slot_release(table, old);
}

static void install_as_owner(struct array *array, struct slot *slot)
{
    struct slot_table *table = &array->table;
    bool solo = array_is_solo(array);
    struct slot *old = pages_find(array, slot->key);
    if (old != NULL)
        succeed(array, old, slot);
    slot_reinstate(table, slot);
    generation_join(&array->destage.generations, slot);
    slot_set_state(table, slot, SLOT_DIRTY);
    slot->dirty_ms = (uint32_t)(array->now_us / 1000);
    slot->unsafe = solo; /* alone it may be seen only when the store has it */
    slot_list_append(table, solo ? LIST_URGENT : LIST_BACKLOG, slot);
}

static void install_as_peer(struct array *array, struct slot *slot)
{
    struct slot_table *table = &array->table;
    struct slot *old = slot_find(table, slot->key);
    if (old != NULL && slot_in_image(table, old)) {
        merge(array, slot, old, old->valid & (uint8_t)~slot->valid);
        slot->valid |= old->valid;
        slot->dirty |= old->dirty;
    }
    if (old != NULL)
        drop_page(array, old, false);
    slot_reinstate(table, slot);
    slot_set_state(table, slot, SLOT_DIRTY);
    slot_list_append(table, LIST_IMAGE, slot);
}

/* The page's slots of the cycle, newest first: one of them holds it all, and counts from now on. */
static void promote_page(struct array *array, struct group *group,
                         const struct receiver_popped *popped, bool owner)
{
    struct receiver *receiver = &group->second.receiver;
    struct slot *slot = slot_at(&array->table, popped->slot);
    uint8_t taken = popped->discard ? 0 : popped->sectors, sectors = 0;
    CHECK(slot->state == SLOT_CLEAN);
    for (uint32_t i; (i = receiver_older(receiver, &sectors)) != NO_INDEX;) {
        struct slot *older = slot_at(&array->table, i);
        uint8_t more = popped->discard ? 0 : sectors & (uint8_t)~taken;
        merge(array, slot, older, more);
        taken |= more;
        CHECK(older->state == SLOT_CLEAN);
        let_go(array, older);
    }
    if (taken == 0) {
        let_go(array, slot);
        return;
    }
    set_foreign(array, slot, false);
    slot->valid = slot->dirty = taken;
    if (owner)
        install_as_owner(array, slot);
    else
        install_as_peer(array, slot);
    slot->held = !MISTAKE(promoted_before_zeroed) &&
                 is_zeroed(&group->second.zero, popped->volume, popped->page);
}

void copy_second_promote(struct array *array, struct group *group, uint64_t cycle, uint64_t wall_us,
                         bool consistent, bool owner)
{
    struct second *second = &group->second;
    struct receiver_popped popped;
    CHECK(second->zero.count == 0);
    receiver_promote(&second->receiver, cycle, wall_us, consistent);
    second->quieting = false;
    second->promotions++;
    while (receiver_pop(&second->receiver, &popped)) {
        if (popped.slot == NO_INDEX)
            promote_range(array, group, &popped, owner);
        else
            promote_page(array, group, &popped, owner);
    }
    second->zero.cycle = cycle;
    TRACE(array, "group %s promoted %llu with %u ranges", group->config->name,
          (unsigned long long)cycle, second->zero.count);
}

/* ---- a returned peer ---- */

bool copy_second_relocate(struct array *array, struct slot *slot)
{
    struct slot_table *table = &array->table;
    CHECK(slot->foreign);
    CHECK(slot->state == SLOT_CLEAN);
    struct slot *to = pages_take(array, slot->key, false);
    if (to == NULL)
        return false;
    slot_supersede(table, to);
    memcpy(slot_frame(table, to), slot_frame(table, slot), PAGE_SIZE_BYTES);
    to->valid = slot->valid;
    set_foreign(array, to, true);
    receiver_moved(&copy_group(array, slot_key_volume(slot->key))->second.receiver,
                   slot_index(table, slot), slot_index(table, to));
    set_foreign(array, slot, false);
    slot_release(table, slot);
    return true;
}
