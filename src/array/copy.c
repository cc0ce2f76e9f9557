/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The groups of the remote copy where their hosts write: what their configuration may be, the
 * memory that they take, and every moment at which a slot becomes pinned, changes its place, or is
 * given back. Kept here: `pinned` of a slot says whether a sender's list holds it, and a pinned
 * slot stands on no replacement queue. */

#include "array/internal.h"
#include "base/crc32c.h"
#include "base/mistake.h"

#include <stdio.h>

enum {
    RISE_PAUSE_US = 1000 * 1000
}; /* after a fall: a store or a link that is in trouble is not
      asked again at once */

static const char *check_group(const struct array_config *config, const struct group_config *group,
                               bool taken[VOLUME_LIMIT])
{
    static const uint8_t nobody[GROUP_ID_SIZE];
    if (memcmp(group->id, nobody, sizeof nobody) == 0)
        return "a group's id must not be zero";
    if (group->side >= GROUP_SIDE_COUNT)
        return "a group's side must be primary or second";
    if ((group->side == GROUP_SECOND || group->room_pages != 0) &&
        group->room_pages < COPY_ROOM_LEAST)
        return "a received group's room_pages must be at least 16";
    if (group->volume_count == 0 || group->volume_count > VOLUME_LIMIT)
        return "a group must have 1 to 256 volumes";
    for (uint32_t i = 0; i < group->volume_count; i++) {
        uint8_t volume = group->volumes[i];
        if (volume >= config->volume_count)
            return "a group's volumes must exist";
        if (taken[volume])
            return "a volume may be in one group only, and there once";
        taken[volume] = true;
        if (group->side == GROUP_SECOND &&
            config->volumes[volume].home != config->volumes[group->volumes[0]].home)
            return "the volumes of a received group must have one home";
    }
    if (group->budget_pages == 0)
        return "a group's budget_pages must not be zero";
    if (group->base_pages == 0 || group->base_pages > GROUP_BASE_PAGES)
        return "a group's base_pages must be 1 to 65536";
    const struct group_set *set = &group->set;
    if (set->member_count == 0)
        return NULL;
    if (set->member_count < 2 || set->member_count > SET_LIMIT || set->self >= set->member_count)
        return "a set must have 2 to 4 members, and the group must be one of them";
    if (set->hold_ms == 0 || set->hold_ms > HOLD_MS_MOST)
        return "a set's hold_ms must be 1 to 1000";
    return NULL;
}

const char *copy_config_check(const struct array_config *config)
{
    bool taken[VOLUME_LIMIT] = {false};
    uint64_t budget = 0, room = 0;
    if (config->group_count > GROUP_LIMIT)
        return "group_count must be at most 16";
    for (uint32_t i = 0; i < config->group_count; i++) {
        const struct group_config *group = &config->groups[i];
        for (uint32_t other = 0; other < i; other++) {
            if (memcmp(config->groups[other].id, group->id, GROUP_ID_SIZE) == 0)
                return "two groups must not have the same id";
            const struct group_set *a = &group->set, *b = &config->groups[other].set;
            if (a->member_count != 0 && b->member_count != 0 && a->self == b->self &&
                memcmp(a->id, b->id, GROUP_ID_SIZE) == 0)
                return "two groups must not be the same member of a set";
        }
        const char *why = check_group(config, group, taken);
        if (why != NULL)
            return why;
        budget += group->budget_pages;
        room += group->room_pages;
    }
    /* Else pins and dirty pages together could leave no slot to read into. */
    uint64_t high = (uint64_t)config->slot_count * config->dirty_high_percent / 100;
    if (room > high / 2)
        return "all groups' room_pages must fit half of what dirty_high_percent allows";
    if (budget > (config->slot_count - high) / 2)
        return "all groups' budget_pages must fit half of the slots that dirty_high_percent leaves";
    return NULL;
}

uint32_t copy_config_checksum(const struct array_config *config, uint32_t crc)
{
    for (uint32_t i = 0; i < config->group_count; i++) {
        const struct group_config *group = &config->groups[i];
        uint8_t bytes[5] = {group->side};
        put_u32(bytes + 1, group->volume_count);
        crc = crc32c_more(crc, group->id, sizeof group->id);
        crc = crc32c_more(crc, bytes, sizeof bytes);
        crc = crc32c_more(crc, group->volumes, group->volume_count);
        if (group->set.member_count == 0)
            continue;
        uint8_t set[6] = {group->set.member_count, group->set.self};
        put_u32(set + 2, group->set.hold_ms);
        crc = crc32c_more(crc, group->set.id, sizeof group->set.id);
        crc = crc32c_more(crc, set, sizeof set);
    }
    return crc;
}

/* ---- memory ---- */

static void create_senders(struct copy *copy, const struct array_config *config,
                           struct arena *arena)
{
    pins_create(&copy->pins, arena, config->slot_count * 2);
    for (uint32_t i = 0; i < config->group_count; i++) {
        const struct group_config *group = &config->groups[i];
        const struct sender_config sender = {.group = (uint16_t)i,
                                             .volume_count = group->volume_count,
                                             .budget_pages = group->budget_pages,
                                             .base_pages = group->base_pages,
                                             .shortest_us = group->shortest_us,
                                             .coordinated = group->set.member_count != 0 &&
                                                            group->side == GROUP_PRIMARY};
        uint64_t page_counts[VOLUME_LIMIT];
        for (uint32_t v = 0; v < group->volume_count; v++)
            page_counts[v] = (config->volumes[group->volumes[v]].size_bytes + PAGE_SIZE_BYTES - 1) /
                             PAGE_SIZE_BYTES;
        struct sender *into = arena->base == NULL ? NULL : &copy->groups[i].sender;
        sender_create(into, arena, &copy->pins, &sender, page_counts);
        copy_second_create(arena->base == NULL ? NULL : &copy->groups[i].second, config, (uint8_t)i,
                           arena);
    }
}

static void lay_out_group(struct group *group, const struct group_config *config,
                          struct arena *arena)
{
    for (int i = 0; i < COPY_WINDOW; i++) {
        uint8_t *bytes = arena_take(arena, COPY_HEAD_SIZE + COPY_RECORDS * COPY_RECORD_SIZE, 64);
        struct iovec *iov = arena_array(arena, struct iovec, 1 + COPY_RECORDS * COPY_RUNS);
        if (group != NULL)
            group->buffers[i] = (struct copy_buffer){.bytes = bytes, .iov = iov};
    }
    uint32_t count = (uint32_t)copy_base_count(config);
    struct base_page *pages = arena_array(arena, struct base_page, count);
    uint8_t *frames = arena_take(arena, (size_t)count * PAGE_SIZE_BYTES, PAGE_SIZE_BYTES);
    if (group != NULL)
        group->base = (struct base_pages){.pages = pages, .frames = frames, .count = count};
    if (group != NULL)
        copy_base_forget(group);
}

void copy_lay_out(struct copy *copy, const struct array_config *config, struct arena *arena)
{
    struct copy none = {.groups = NULL};
    bool measures = arena->base == NULL;
    if (config->group_count == 0)
        return;
    if (measures)
        copy = &none;
    struct copy_reply *replies = arena_array(arena, struct copy_reply, COPY_REPLIES);
    struct cut_reply *cut_replies = arena_array(arena, struct cut_reply, COPY_CUT_REPLIES);
    struct group *groups = arena_array(arena, struct group, config->group_count);
    if (!measures) {
        copy->groups = groups;
        copy->replies = replies;
        copy->cut_replies = cut_replies;
    }
    uint8_t *memory = arena_take(arena, 0, PAGE_SIZE_BYTES);
    size_t start = arena->used;
    create_senders(copy, config, arena);
    if (!measures) {
        copy->memory = memory;
        copy->memory_size = arena->used - start;
    }
    for (uint32_t i = 0; i < config->group_count; i++) {
        lay_out_group(measures ? NULL : &groups[i], &config->groups[i], arena);
        copy_second_lay_out(measures ? NULL : &groups[i].second, &config->groups[i], arena);
        copy_site_lay_out(measures ? NULL : &groups[i], config, (uint8_t)i, arena);
    }
    struct group_record *records = arena_array(arena, struct group_record, config->group_count);
    struct cut_action *cut_actions =
        arena_array(arena, struct cut_action, config->group_count * SET_LIMIT * CUT_WINDOW);
    struct copy_action *actions =
        arena_array(arena, struct copy_action, config->group_count * COPY_WINDOW);
    uint8_t *bitmaps = arena_take(arena, (size_t)BITMAP_PIECES * WIRE_DATA_BYTES, PAGE_SIZE_BYTES);
    if (measures)
        return;
    copy->actions = actions;
    copy->cut_actions = cut_actions;
    copy->records = records;
    copy->bitmaps = bitmaps;
}

void copy_create(struct array *array)
{
    for (uint32_t v = 0; v < array->config.volume_count; v++)
        array->volumes[v].group = NO_GROUP;
    for (uint32_t i = 0; i < array->config.group_count; i++) {
        const struct group_config *config = &array->config.groups[i];
        struct group *group = &array->copy.groups[i];
        group->config = config;
        group->reason = "nothing is held here";
        copy_set_create(group);
        copy_site_create(array, group);
        for (uint32_t place = 0; place < config->volume_count; place++) {
            array->volumes[config->volumes[place]].group = (uint8_t)i;
            array->volumes[config->volumes[place]].group_place = (uint8_t)place;
            copy_owner_changed(array, config->volumes[place]);
        }
    }
}

void copy_forget(struct array *array)
{
    struct copy *copy = &array->copy;
    if (array->config.group_count == 0)
        return;
    copy_leave(array);
    memset(copy->memory, 0, copy->memory_size);
    memset(copy->zeroings, 0, sizeof copy->zeroings);
    copy->foreign = 0;
    struct arena arena = arena_over(copy->memory, copy->memory_size);
    create_senders(copy, &array->config, &arena);
    CHECK(arena.used == copy->memory_size);
    for (uint32_t i = 0; i < array->config.group_count; i++) {
        struct group *group = &copy->groups[i];
        copy_forget_batches(group);
        copy_base_forget(group);
        copy_set_break(array, group);
        group->memory_known = 0;
        group->suspended = group->fall_unsaid = group->fall_all = group->begun_in_list = false;
        group->falls_out = 0;
        copy_site_forget(group);
        group->confirmed_said = 0;
        group->confirmed_wall_us = 0;
        memset(group->said, 0, sizeof group->said);
        memset(group->cleared, 0, sizeof group->cleared);
    }
    for (uint32_t v = 0; v < array->config.volume_count; v++)
        copy_owner_changed(array, (uint8_t)v);
}

void copy_serve_fresh(struct array *array)
{
    for (uint32_t i = 0; i < array->config.group_count; i++) {
        struct group *group = &array->copy.groups[i];
        group->sender.leader = true;
        copy_site_fresh(array, group);
    }
}

/* ---- pins ---- */

static void set_pinned(struct array *array, struct slot *slot)
{
    slot->pinned = true;
    if (slot->state == SLOT_CLEAN)
        slot_list_remove(&array->table, slot); /* no victim from here on */
}

bool copy_frozen(const struct array *array, const struct slot *slot)
{
    const struct group *group = copy_group(array, slot_key_volume(slot->key));
    if (group == NULL)
        return false;
    /* Its header stands before a MARK: a write that joined it would belong to the cycle that the
     * peer closes there. */
    if (slot->state == SLOT_FILLING && !slot->pinned && group->begun_in_list)
        return true;
    return slot->pinned && sender_frozen(&group->sender, slot_index(&array->table, slot)) &&
           !MISTAKE(frozen_written);
}

void copy_written(struct array *array, struct slot *slot, uint8_t touched)
{
    uint8_t volume = slot_key_volume(slot->key);
    struct group *group = copy_group(array, volume);
    if (group == NULL || !copy_notes(group))
        return;
    slot->settled = false;
    sender_written(&group->sender, slot_index(&array->table, slot),
                   array->volumes[volume].group_place, slot_key_page(slot->key), touched);
    if (group->sender.mode == SENDER_CYCLES)
        set_pinned(array, slot);
}

uint8_t copy_owed(const struct array *array, const struct slot *slot)
{
    const struct group *group = copy_group(array, slot_key_volume(slot->key));
    if (group == NULL || MISTAKE(owed_not_sent))
        return 0;
    return sender_owed(&group->sender, slot_index(&array->table, slot));
}

void copy_replaced(struct array *array, struct slot *old, struct slot *heir)
{
    if (!old->pinned)
        return;
    struct sender *sender = &copy_group(array, slot_key_volume(old->key))->sender;
    uint32_t from = slot_index(&array->table, old), to = slot_index(&array->table, heir);
    if (sender_frozen(sender, from)) {
        sender_inherit(sender, from, to);
        return;
    }
    /* Of the open cycle, and only on its way to the peer or the store: the heir says it all. */
    sender_relocate(sender, from, to);
    old->pinned = false;
    set_pinned(array, heir);
}

void copy_relocated(struct array *array, struct slot *from, struct slot *to)
{
    if (!from->pinned)
        return;
    struct group *group = copy_group(array, slot_key_volume(from->key));
    if (sender_frozen(&group->sender, slot_index(&array->table, from))) {
        if (group->sender.attached)
            copy_drop_session(array, group); /* a batch may be on its way from the old frame ... */
        copy_forget_batches(group);          /* ... and one that was lost is written anew */
    }
    sender_relocate(&group->sender, slot_index(&array->table, from), slot_index(&array->table, to));
    from->pinned = false;
    set_pinned(array, to);
}

void copy_discarded(struct array *array, struct slot *slot)
{
    if (!slot->pinned)
        return;
    struct sender *sender = &copy_group(array, slot_key_volume(slot->key))->sender;
    uint32_t index = slot_index(&array->table, slot);
    if (sender_frozen(sender, index) || pins_at(&array->copy.pins, index)->tag)
        return;
    sender_unpin(sender, index);
    slot->pinned = false;
}

void copy_untag(struct array *array, struct slot *slot)
{
    if (!slot->pinned)
        return;
    struct group *group = copy_group(array, slot_key_volume(slot->key));
    sender_untag(&group->sender, slot_index(&array->table, slot));
    slot->pinned = false;
}

bool copy_range(struct array *array, uint8_t volume, uint64_t page, uint64_t count, uint64_t *cycle)
{
    struct group *group = copy_group(array, volume);
    *cycle = 0;
    if (group == NULL || !copy_notes(group))
        return true;
    if (!sender_range(&group->sender, array->volumes[volume].group_place, page, count))
        return false;
    if (group->sender.mode == SENDER_CYCLES)
        *cycle = group->sender.open;
    return true;
}

/* ---- giving back ---- */

/* After a restart: whether the slot stays pinned. */
static bool keep(struct array *array, struct group *group, struct slot *slot,
                 const struct sender_popped *popped)
{
    struct slot *heir = slot->superseded ? slot_find(&array->table, slot->key) : NULL;
    uint32_t index = heir == NULL ? NO_INDEX : slot_index(&array->table, heir);
    uint8_t place = array->volumes[slot_key_volume(slot->key)].group_place;
    enum sender_fate fate = sender_keep(&group->sender, popped, place, slot_key_page(slot->key),
                                        slot->superseded, index);
    return fate == SENDER_KEPT;
}

/* What becomes of a slot whose cycle was confirmed. */
static void give_back(struct array *array, struct slot *slot)
{
    CHECK(slot->pinned);
    if (slot->state == SLOT_FILLING)
        slot->settled = true; /* the second array has it before the peer was told */
    pages_unpinned(array, slot);
}

bool copy_give_back(struct array *array, struct group *group, uint32_t count)
{
    struct sender_popped popped;
    for (; group->sender.over != 0 && count > 0; count--) {
        if (sender_pop(&group->sender, &popped))
            give_back(array, slot_at(&array->table, popped.slot));
    }
    return group->sender.over == 0;
}

static void drain(struct array *array, struct group *group, enum sender_drain how)
{
    struct sender *sender = &group->sender;
    struct sender_popped popped;
    while (sender_pop(sender, &popped)) {
        struct slot *slot = slot_at(&array->table, popped.slot);
        CHECK(slot->pinned);
        if (how == DRAIN_RESTART && keep(array, group, slot, &popped))
            continue;
        uint8_t volume = slot_key_volume(slot->key);
        if (how == DRAIN_FALL && !MISTAKE(fall_forgets))
            regions_mark(&sender->regions, array->volumes[volume].group_place,
                         slot_key_page(slot->key), 1);
        pages_unpinned(array, slot);
    }
}

void copy_drop_session(struct array *array, struct group *group)
{
    if (group->sender.attached)
        sender_detach(&group->sender);
    copy_stop_encoding(group);
    if (!group->up)
        return;
    group->up = false;
    group->resetting = true;
    array->actions.copy_reset |= 1u << (group - array->copy.groups);
}

void copy_fall(struct array *array, struct group *group, const char *why, bool tell)
{
    group->reason = why;
    if (group->sender.mode == SENDER_BITMAP)
        return;
    group->falls++;
    copy_set_break(array, group);
    copy_drop_session(array, group);
    copy_forget_batches(group);
    copy_base_forget(group);
    copy_give_back(array, group, UINT32_MAX);
    sender_fall(&group->sender);
    drain(array, group, DRAIN_FALL);
    group->rise_us = array->now_us + RISE_PAUSE_US;
    group->fall_unsaid = tell && array->mirroring;
    array->refill.group = array->refill.group_range =
        0; /* a peer that is being filled gets the bitmaps anew */
    array->refill.group_volume = array->refill.group_byte = 0;
    array_log(array, LOG_WARNING, "group %s: falls back to its bitmap: %s", group->config->name,
              why);
}

void copy_restart(struct array *array, struct group *group, uint64_t term, bool alone)
{
    group->restarts++;
    copy_set_break(array, group);
    copy_drop_session(array, group);
    copy_forget_batches(group);
    copy_base_forget(group);
    copy_give_back(array, group, UINT32_MAX);
    sender_restart(&group->sender, term, alone);
    drain(array, group, DRAIN_RESTART);
    group->confirmed_said = group->sender.confirmed;
    memset(group->said, 0, sizeof group->said);
    memset(group->cleared, 0, sizeof group->cleared);
    TRACE(array, "group %s restarts term %llu cycle %llu", group->config->name,
          (unsigned long long)term, (unsigned long long)group->sender.open);
}

void copy_restart_both(struct array *array, struct group *group)
{
    struct sender *sender = &group->sender;
    group->memory_known = group->state.memory;
    copy_restart(array, group, copy_next_term(array, group), !sender->paired);
    if (array->mirroring)
        copy_say_header(array, group,
                        &(struct header){.type = HEADER_GROUP,
                                         .flags = HEADER_RESTART,
                                         .volume = (uint8_t)(group - array->copy.groups),
                                         .page = sender->term,
                                         .count = sender->open});
}

bool copy_confirm(struct array *array, struct group *group, uint64_t cycle)
{
    struct sender *sender = &group->sender;
    uint64_t wall_us = sender->cycle[cycle % COPY_RING].wall_us;
    copy_give_back(array, group, UINT32_MAX);
    if (!sender_confirm(sender, cycle))
        return false;
    group->confirmed_wall_us = wall_us;
    group->site.all_marked = false;
    group->site.known_cycle = cycle;
    for (uint32_t place = 0; place < group->config->volume_count; place++) {
        uint64_t clear = regions_confirmed(&sender->regions, (uint8_t)place, cycle % COPY_RING);
        if (sender->own[place])
            group->cleared[place] = max_u64(group->cleared[place], clear);
    }
    if (array->refill.state != REFILL_NONE)
        copy_give_back(array, group, UINT32_MAX);
    copy_base_confirmed(group, cycle);
    TRACE(array, "group %s confirmed %llu", group->config->name, (unsigned long long)cycle);
    return true;
}

/* ---- roles ---- */

void copy_owner_changed(struct array *array, uint8_t volume)
{
    struct group *group = copy_group(array, volume);
    if (group == NULL)
        return;
    uint8_t place = array->volumes[volume].group_place;
    group->said[place] = group->cleared[place] = 0;
    sender_own(&group->sender, place, array_owns(array, volume));
}

void copy_moved(struct array *array, uint8_t volume)
{
    struct group *group = copy_group(array, volume);
    if (group != NULL && group->sender.holding != 0)
        copy_set_let_go(array, group, true); /* the other half may not hold */
    if (group != NULL)
        sender_moved(&group->sender, array->volumes[volume].group_place);
}

bool copy_reads(const struct array *array, uint8_t volume)
{
    const struct group *group = copy_group(array, volume);
    return group != NULL && copy_base_reads(group, array->volumes[volume].group_place);
}

/* What was pinned here when the volume went to the peer, and has not changed since. The peer may
 * have begun to discard it on the store without a chance to say so: this is what counts, at both
 * sites, so it is to be written again. */
static void revive_clean_pins(struct array *array)
{
    struct slot_table *table = &array->table;
    for (uint32_t i = 0; i < table->half; i++) {
        struct slot *slot = slot_at(table, i);
        if (!slot->pinned || slot->state != SLOT_CLEAN || slot->superseded ||
            array_owns(array, slot_key_volume(slot->key)))
            continue;
        slot->valid = slot->dirty = pins_at(&array->copy.pins, i)->owed;
        generation_join(&array->destage.generations, slot);
        slot_set_state(table, slot, SLOT_DIRTY);
        slot->dirty_ms = (uint32_t)(array->now_us / 1000);
        slot_list_append(table, LIST_BACKLOG, slot);
    }
}

void copy_take_over(struct array *array)
{
    struct copy *copy = &array->copy;
    if (array->config.group_count == 0)
        return;
    for (uint32_t i = 0; i < array->config.group_count; i++)
        copy_give_back(array, &copy->groups[i], UINT32_MAX);
    revive_clean_pins(array);
    copy_second_takeover(array);
    for (uint32_t i = 0; i < array->config.group_count; i++) {
        struct group *group = &copy->groups[i];
        for (uint32_t place = 0; place < group->config->volume_count; place++) {
            if (!array_owns(array, group->config->volumes[place]))
                sender_moved(&group->sender, (uint8_t)place);
        }
        group->falls_out = 0;
        copy_last_give_up(array, group, "the peer was lost before it had said what differs", false);
        group->fall_unsaid = false;
        if (group->sender.mode == SENDER_CYCLES)
            copy_restart(array, group, copy_next_term(array, group), true);
        else
            sender_lead(&group->sender);
    }
    for (uint32_t i = 0; i < ARRAY_LENGTH(copy->zeroings); i++) {
        struct zeroing *zeroing = &copy->zeroings[i];
        if (zeroing->count > 0 && copy_notes(copy_group(array, zeroing->volume)))
            sender_mark(&copy_group(array, zeroing->volume)->sender,
                        array->volumes[zeroing->volume].group_place, zeroing->page, zeroing->count);
        zeroing->count = 0;
    }
}

void copy_mirror_void(struct array *array)
{
    copy_second_mirror_void(array);
    array->copy.bitmaps_in_list = array->copy.held_in_list = 0;
    for (uint32_t i = 0; i < array->config.group_count; i++) {
        struct group *group = &array->copy.groups[i];
        group->falls_out = 0;
        group->fall_unsaid = group->fall_all = group->begun_in_list = false;
        copy_set_break(array, group);
        copy_site_mirror_void(group);
        group->confirmed_said = group->sender.confirmed;
    }
}

void copy_leave(struct array *array)
{
    copy_second_leave(array);
    for (uint32_t i = 0; i < array->config.group_count; i++) {
        copy_drop_session(array, &array->copy.groups[i]);
        copy_forget_batches(&array->copy.groups[i]);
        copy_set_break(array, &array->copy.groups[i]);
        coordinator_stop(&array->copy.groups[i].coordinator);
        copy_site_leave(array, &array->copy.groups[i]);
    }
}

/* ---- looking ---- */

static enum group_state state_of(const struct array *array, const struct group *group)
{
    if (array->role.state != ROLE_SOLO && array->role.state != ROLE_PAIRED &&
        array->role.state != ROLE_RACING && array->role.state != ROLE_FENCING)
        return GROUP_NOT_HERE;
    if (group->sender.mode == SENDER_BITMAP)
        return group->suspended ? GROUP_SUSPENDED : GROUP_FALLEN;
    return group->sender.consistent ? GROUP_COPYING : GROUP_SYNCING;
}

static const char *reason_of(const struct group *group, enum group_state state)
{
    bool waits = copy_in_set(group) && group->sender.leader && group->member.phase != SET_RUNS;
    if (waits && (state == GROUP_SYNCING || state == GROUP_COPYING))
        return "it waits for the other arrays of its set";
    switch (state) {
    case GROUP_NOT_HERE:
        return "this controller holds nothing of it";
    case GROUP_SYNCING:
        return group->up ? "what differs between the sites is being sent"
                         : "there is no session to the second array";
    case GROUP_COPYING:
        return group->up ? "every cycle goes to the second array"
                         : "there is no session to the second array";
    default:
        return group->site.lacks && !group->site.now.unknown ? copy_last_text : group->reason;
    }
}

void copy_status(const struct array *array, struct array_status *status)
{
    status->group_count = array->config.group_count;
    for (uint32_t i = 0; i < array->config.group_count; i++) {
        const struct group *group = &array->copy.groups[i];
        const struct sender *sender = &group->sender;
        struct group_status *into = &status->groups[i];
        uint64_t tagged = 0;
        for (int c = 0; c < COPY_RING; c++)
            tagged += sender->cycle[c].number != 0 ? sender->cycle[c].tags.count : 0;
        *into = (struct group_status){.state = state_of(array, group),
                                      .role = array_group_role(array, (uint8_t)i),
                                      .era = group->site.now.era,
                                      .hosts_refused = !group->site.open,
                                      .records_wanted = !group->site.settled,
                                      .record_away = group->site.lacks,
                                      .promoted = group->site.promoted,
                                      .promoted_wall_us = group->site.promoted_wall_us,
                                      .session = group->up,
                                      .leader = sender->leader,
                                      .term = sender->term,
                                      .open = sender->open,
                                      .closed = sender->open - (sender->open > 0),
                                      .confirmed = sender->confirmed,
                                      .confirmed_wall_us = group->confirmed_wall_us,
                                      .pinned_pages = sender->pinned,
                                      .tagged_pages = tagged,
                                      .range_pages = sender_range_pages(sender),
                                      .marked_regions = regions_left(&sender->regions),
                                      .cuts = group->cuts,
                                      .falls = group->falls,
                                      .restarts = group->restarts,
                                      .batches = group->batches,
                                      .resends = group->resends,
                                      .refused = group->refused,
                                      .pages_sent = group->pages_sent,
                                      .base_pages_sent = group->base_pages_sent,
                                      .bytes_sent = group->bytes_sent};
        for (uint32_t v = 0; v < sender->regions.volume_count; v++) {
            const struct region_map *map = &sender->regions.maps[v];
            into->region_count += map->region_count;
            into->marked_pages += min_u64((uint64_t)map->marked << map->shift, map->page_count);
        }
        if (copy_receives(group) && group->site.now.role == SITE_RECEIVING) {
            into->promoted = group->second.receiver.promoted;
            into->promoted_wall_us = group->second.receiver.promoted_wall_us;
        }
        into->shown_cut = into->promoted_cut = group->site.promoted_cut;
        if (copy_receives(group) && group->site.now.role == SITE_RECEIVING) {
            into->shown_cut = copy_second_cut(group);
            into->promoted_cut = group->second.receiver.promoted_cut;
            into->held_cut = receiver_held_cut(&group->second.receiver);
        }
        copy_set_status(array, group, &into->set);
        snprintf(into->reason, sizeof into->reason, "%s", reason_of(group, into->state));
        if (into->state != GROUP_NOT_HERE && into->state != GROUP_SUSPENDED)
            copy_set_reason(group, into->reason);
    }
}

const char *copy_check(const struct array *array)
{
    const struct copy *copy = &array->copy;
    if (array->config.group_count == 0)
        return NULL;
    for (uint32_t i = 0; i < array->config.group_count; i++) {
        const char *why = sender_check(&copy->groups[i].sender);
        if (why != NULL)
            return why;
    }
    for (uint32_t i = 0; i < array->table.total; i++) {
        const struct slot *slot = &array->table.slots[i];
        const struct pin *pin = pins_at(&copy->pins, i);
        if (slot->pinned != (pin->ring != PIN_NONE))
            return "a slot is pinned and on no sender's list, or the other way round";
        if (!slot->pinned)
            continue;
        if (array->volumes[slot_key_volume(slot->key)].group != pin->group)
            return "a slot is pinned by another group than its volume's";
        if (pin->owed & ~slot->valid)
            return "a pinned slot does not hold what it owes";
        if (pin->tag && !slot_in_image(&array->table, slot))
            return "a slot of our own has a tag";
        if (!pin->tag && slot_in_image(&array->table, slot) && array->role.state == ROLE_PAIRED)
            return "paired, and a slot of the image half is pinned";
        if (slot->state == SLOT_CLEAN && slot->list != LIST_NONE)
            return "a pinned slot may be given up";
    }
    return copy_second_check(array);
}
