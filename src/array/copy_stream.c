/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What the two controllers of a primary pair say to each other about a group: as headers of the
 * change stream, in order with the writes that they are about. What the peer says is judged before
 * it is applied; and where it cannot be true of what stands here, the group falls to the bitmap,
 * because there nothing is lost. */

#include "array/internal.h"
#include "base/crc32c.h"
#include "base/mistake.h"

enum { FALL_AS_IS, FALL_SUSPENDED, FALL_RESUMED, FALL_ALL, FALL_COUNT };
enum { JOIN_SUSPENDED = 1, JOIN_FIXED = 48 };

static bool room(struct array *array)
{
    return lists_have_room(&array->lists, 1, true);
}

void copy_say_header(struct array *array, struct group *group, const struct header *header)
{
    CHECK(array->mirroring);
    group->begun_in_list |= header->type == HEADER_MARK || header->type == HEADER_GROUP;
    lists_add(&array->lists, header);
    array->controls_sent++;
    TRACE(array, "fill group header %d group %u cycle %llu", header->type, header->volume,
          (unsigned long long)header->page);
}

static void say_fall(struct array *array, struct group *group)
{
    struct header header = {.type = HEADER_FALL,
                            .volume = (uint8_t)(group - array->copy.groups),
                            .slot = group->fall_all    ? FALL_ALL
                                    : group->suspended ? FALL_SUSPENDED
                                    : group->resumed   ? FALL_RESUMED
                                                       : FALL_AS_IS,
                            .page = group->sender.term};
    /* Suspended as well: that is said by a header of its own. */
    group->fall_unsaid = group->fall_all && group->suspended;
    group->fall_all = group->resumed = false;
    group->falls_out++;
    copy_say_header(array, group, &header);
}

/* What is confirmed is said before the next MARK: the peer has room for two closed cycles, too. */
static void say_confirmed(struct array *array, struct group *group)
{
    struct header header = {.volume = (uint8_t)(group - array->copy.groups)};
    while (group->sender.leader && group->confirmed_said < group->sender.confirmed && room(array)) {
        header.type = HEADER_CONFIRM;
        header.page = ++group->confirmed_said;
        copy_say_header(array, group, &header);
    }
    for (uint32_t place = 0; place < group->config->volume_count; place++) {
        if (group->cleared[place] <= group->said[place] || !room(array))
            continue;
        group->said[place] = group->cleared[place];
        copy_say_header(array, group,
                        &(struct header){.type = HEADER_REGIONS,
                                         .volume = group->config->volumes[place],
                                         .page = group->said[place],
                                         .count = group->sender.term});
    }
}

void copy_say(struct array *array, struct group *group)
{
    struct sender *sender = &group->sender;
    struct header header = {.type = HEADER_HELD, .volume = (uint8_t)(group - array->copy.groups)};
    bool done;
    if (!array->mirroring) {
        group->fall_unsaid = group->fall_all = group->resumed =
            false; /* a returned peer hears it by GROUP */
        group->confirmed_said = sender->confirmed;
        return;
    }
    if (group->fall_unsaid && room(array))
        say_fall(array, group);
    if (sender->mode == SENDER_BITMAP)
        return;
    say_confirmed(array, group);
    if (group->hold.release_due != 0 && room(array)) {
        copy_say_header(array, group,
                        &(struct header){.type = HEADER_RELEASE,
                                         .volume = (uint8_t)(group - array->copy.groups),
                                         .page = group->hold.release_due});
        group->hold.release_due = 0;
    }
    while (room(array) && (header.page = sender_held_due(sender, &done)) != 0) {
        bool late = sender->cycle[header.page % COPY_RING].late && !MISTAKE(set_late_unnoticed);
        header.flags = (uint8_t)((done ? HEADER_DONE : 0) | (late ? HEADER_LATE : 0));
        copy_say_header(array, group, &header);
    }
}

void copy_say_zeroing(struct array *array, uint32_t place, uint8_t volume, uint64_t page,
                      uint64_t count)
{
    copy_say_header(
        array, copy_group(array, volume),
        &(struct header){
            .type = HEADER_ZEROING, .volume = volume, .slot = place, .page = page, .count = count});
}

/* ---- sealing ---- */

void copy_seal_write(const struct array *array, const struct slot *slot, struct header *header)
{
    const struct group *group = copy_group(array, header->volume);
    if (group == NULL || (header->flags & HEADER_HOLD))
        return;
    uint64_t cycle = slot->pinned ? sender_waits(&group->sender, header->slot) : 0;
    header->cycle = MISTAKE(tag_not_sent) ? 0 : cycle;
    if (cycle == 0 && (slot->pinned || slot->settled))
        header->flags |= HEADER_SETTLED;
}

void copy_sealed_write(struct array *array, const struct slot *slot, const struct header *header)
{
    if (slot->pinned && !(header->flags & HEADER_HOLD))
        pins_summed(&array->copy.pins, header->slot, header->sectors, header->data_crc);
}

void copy_seal_data(struct array *array, struct header *header)
{
    struct copy *copy = &array->copy;
    uint32_t size = wire_header_data_bytes(header);
    uint8_t *data;
    if (size == 0)
        return;
    if (header->type == HEADER_RECEIVED) {
        data = copy->groups[header->volume].second.said;
    } else if (header->type == HEADER_GROUP) {
        data = copy->groups[header->volume].join;
    } else {
        const struct volume *volume = &array->volumes[header->volume];
        CHECK(copy->bitmaps_sealed < BITMAP_PIECES);
        data = copy->bitmaps + (size_t)copy->bitmaps_sealed++ * WIRE_DATA_BYTES;
        regions_get_bytes(&copy->groups[volume->group].sender.regions, volume->group_place,
                          header->page, size, data);
    }
    header->data_crc = crc32c(data, size);
    lists_add_data(&array->lists, data, size);
}

void copy_sealed(struct array *array)
{
    array->copy.bitmaps_in_list = array->copy.bitmaps_sealed = array->copy.held_in_list = 0;
    for (uint32_t i = 0; i < array->config.group_count; i++)
        array->copy.groups[i].begun_in_list = false;
}

void copy_acknowledged(struct array *array, const struct header *header)
{
    if (header->type == HEADER_RECEIVED)
        array->copy.groups[header->volume].second.saying = false;
    if (header->type == HEADER_MARK && (header->flags & HEADER_HOLDS))
        copy_set_marked(array, &array->copy.groups[header->volume], header->page);
    if (header->type != HEADER_FALL)
        return;
    struct group *group = &array->copy.groups[header->volume];
    group->falls_out -= group->falls_out > 0;
}

/* ---- what the peer says ---- */

static const char *judge_join(const struct array *array, const struct header *header,
                              const uint8_t *data)
{
    const struct group_config *config = &array->config.groups[header->volume];
    if (header->count != JOIN_FIXED + 2 * (uint64_t)config->volume_count)
        return "group header of another number of volumes";
    if (array->role.state == ROLE_PAIRED)
        return "group header of a peer that fills, while paired";
    for (uint32_t i = 1; i < 8; i++) {
        if (data[i] != 0)
            return "group header with reserved bytes set";
    }
    uint64_t first = get_u64(data + 8), confirmed = get_u64(data + 16), open = get_u64(data + 24);
    if (data[0] & ~JOIN_SUSPENDED)
        return "group header with unknown flags";
    if (header->page != 0 && (open <= confirmed || open - 1 - confirmed > COPY_CLOSED ||
                              first > open || get_u64(data + 32) > header->page))
        return "group header with impossible cycles";
    for (uint32_t i = 0; i < config->volume_count; i++) {
        if (get_u16(data + JOIN_FIXED + 2 * i) == 0)
            return "group header with an impossible generation";
    }
    return NULL;
}

static const char *judge_volume(const struct array *array, const struct header *header)
{
    const struct group *group =
        header->volume < array->config.volume_count ? copy_group(array, header->volume) : NULL;
    if (group == NULL)
        return "header of the remote copy for a volume without a group";
    const struct volume *volume = &array->volumes[header->volume];
    uint64_t bytes = regions_byte_count(&group->sender.regions, volume->group_place);
    if (header->type == HEADER_BITMAP &&
        (header->page > bytes || header->count > bytes - header->page))
        return "bitmap header outside its volume";
    if (header->type != HEADER_ZEROING)
        return NULL;
    if (header->slot >= ARRAY_LENGTH(array->copy.zeroings))
        return "zeroing header for a place that is none";
    if (header->page > volume->page_count || header->count > volume->page_count - header->page)
        return "zeroing header outside its volume";
    return NULL;
}

/* What the owner of a received group says. */
static bool is_of_second(uint8_t type)
{
    return (type >= HEADER_RECEIVED && type <= HEADER_ZEROED) || type == HEADER_CUT;
}

const char *copy_judge(const struct array *array, const struct header *header, const uint8_t *data)
{
    if (is_of_second(header->type))
        return copy_second_judge(array, header, data);
    switch (header->type) {
    case HEADER_REGIONS:
    case HEADER_BITMAP:
    case HEADER_ZEROING:
        return judge_volume(array, header);
    default:
        break;
    }
    if (header->volume >= array->config.group_count)
        return "header of an unknown group";
    if (header->type == HEADER_SITE)
        return copy_site_judge_header(array, header);
    if (header->type == HEADER_GROUP && (header->flags & HEADER_JOIN))
        return judge_join(array, header, data);
    if (header->type == HEADER_FALL && header->slot >= FALL_COUNT)
        return "fall header of an unknown kind";
    return NULL;
}

/* What the peer says cannot be true here: both go to the bitmap, and the leader begins anew. */
static void disagree(struct array *array, struct group *group, uint64_t term)
{
    copy_fall(array, group, "the two controllers do not agree about its cycles", false);
    group->sender.term = max_u64(group->sender.term, term);
    group->fall_unsaid = true;
}

static void apply_begin(struct array *array, struct group *group, const struct header *header)
{
    struct sender *sender = &group->sender;
    if (sender->mode == SENDER_CYCLES || header->page <= sender->term ||
        header->count <= sender->open || array->role.state == ROLE_SOLO) {
        disagree(array, group, header->page);
        return;
    }
    group->suspended = false;
    memset(group->said, 0, sizeof group->said);
    memset(group->cleared, 0, sizeof group->cleared);
    sender_begin(sender, array->now_us, header->page, header->count, false);
}

static void apply_restart(struct array *array, struct group *group, const struct header *header)
{
    struct sender *sender = &group->sender;
    if (sender->mode == SENDER_BITMAP || sender->leader || header->page <= sender->term ||
        header->count != sender->open + 1)
        disagree(array, group, header->page); /* perhaps this half fell meanwhile */
    else
        copy_restart(array, group, header->page, false);
}

static void apply_join(struct array *array, struct group *group, const struct header *header,
                       const uint8_t *data)
{
    struct sender *sender = &group->sender;
    uint16_t generation[VOLUME_LIMIT];
    if (sender->mode == SENDER_CYCLES || sender->term != 0) {
        disagree(array, group, header->page);
        return;
    }
    for (uint32_t i = 0; i < group->config->volume_count; i++)
        generation[i] = get_u16(data + JOIN_FIXED + 2 * i);
    group->suspended = (data[0] & JOIN_SUSPENDED) != 0;
    group->site.known_cycle = get_u64(data + 40);
    sender->leader = false;
    if (header->page == 0) {
        memcpy(sender->generation, generation, group->config->volume_count * sizeof generation[0]);
        sender->open = get_u64(data + 24);
        return;
    }
    sender_join(sender, array->now_us, header->page, get_u64(data + 8), get_u64(data + 16),
                get_u64(data + 24), generation);
    sender->run_term = get_u64(data + 32);
}

static void apply_mark(struct array *array, struct group *group, const struct header *header)
{
    struct sender *sender = &group->sender;
    uint8_t halves = header->flags & HEADER_BOTH ? 2 : 1;
    if (sender->mode == SENDER_BITMAP)
        return; /* this half fell, and the leader has not heard of it */
    if (sender->leader || !sender_may_close(sender, header->page, halves)) {
        disagree(array, group, sender->term);
        return;
    }
    sender_close(sender, array->now_us, header->count, halves);
    group->cuts++;
    if (header->flags & HEADER_HOLDS)
        copy_set_hold(array, group, header->page);
}

static void apply_fall(struct array *array, struct group *group, const struct header *header)
{
    if (header->slot == FALL_SUSPENDED)
        group->suspended = true;
    else if (header->slot == FALL_RESUMED)
        group->suspended = false;
    else if (header->slot == FALL_ALL)
        regions_mark_all(&group->sender.regions);
    if (sender_fall_concerns(&group->sender, header->page))
        copy_fall(array, group,
                  group->suspended ? "suspended at the other controller"
                                   : "the other controller fell back",
                  false);
}

static void apply_regions(struct array *array, const struct header *header)
{
    struct group *group = copy_group(array, header->volume);
    const struct sender *sender = &group->sender;
    /* Of an older term, or said before the peer heard that this half fell: bits that were set since
     * would go with them. */
    if (sender->mode == SENDER_BITMAP || header->count != sender->term ||
        array_owns(array, header->volume))
        return;
    regions_clear(&group->sender.regions, array->volumes[header->volume].group_place, header->page);
}

void copy_apply(struct array *array, const struct header *header, const uint8_t *data)
{
    if (header->type == HEADER_SITE) {
        copy_site_apply(array, header);
        return;
    }
    if (is_of_second(header->type)) {
        copy_second_apply(array, header, data);
        return;
    }
    struct copy *copy = &array->copy;
    const struct volume *volume = &array->volumes[header->volume];
    bool of_volume = header->type >= HEADER_REGIONS && header->type <= HEADER_ZEROING;
    struct group *group =
        of_volume ? copy_group(array, header->volume) : &copy->groups[header->volume];
    struct sender *sender = &group->sender;
    switch (header->type) {
    case HEADER_GROUP:
        if (header->flags & HEADER_BEGIN)
            apply_begin(array, group, header);
        else if (header->flags & HEADER_RESTART)
            apply_restart(array, group, header);
        else
            apply_join(array, group, header, data);
        break;
    case HEADER_MARK:
        apply_mark(array, group, header);
        break;
    case HEADER_HELD:
        if (sender_peer_held(sender, header->page, (header->flags & HEADER_DONE) != 0))
            sender->cycle[header->page % COPY_RING].peer_late = (header->flags & HEADER_LATE) != 0;
        break;
    case HEADER_RELEASE:
        if (sender->holding != 0 && sender->holding == header->page)
            copy_set_let_go(array, group, false);
        break;
    case HEADER_CONFIRM:
        if (sender->mode == SENDER_CYCLES && !sender->leader &&
            !copy_confirm(array, group, header->page))
            disagree(array, group, sender->term);
        break;
    case HEADER_FALL:
        apply_fall(array, group, header);
        break;
    case HEADER_REGIONS:
        apply_regions(array, header);
        break;
    case HEADER_BITMAP:
        regions_join_bytes(&sender->regions, volume->group_place, header->page,
                           (uint32_t)header->count, data);
        break;
    case HEADER_ZEROING:
        copy->zeroings[header->slot] = (struct zeroing){
            .volume = header->volume, .page = header->page, .count = header->count};
        break;
    default:
        CHECK(false);
    }
}

void copy_apply_write(struct array *array, const struct header *header, struct slot *slot)
{
    struct group *group = copy_group(array, header->volume);
    if (group == NULL || (header->flags & HEADER_SETTLED) || !copy_notes(group))
        return;
    uint32_t index = slot_index(&array->table, slot);
    sender_tagged(&group->sender, index, array->volumes[header->volume].group_place, header->page,
                  header->cycle, header->sectors);
    slot->pinned = pins_has(&array->copy.pins, index);
}

void copy_apply_range(struct array *array, const struct header *header)
{
    struct group *group = copy_group(array, header->volume);
    if (group == NULL)
        return;
    uint8_t place = array->volumes[header->volume].group_place;
    if (copy_notes(group) &&
        !sender_range_tagged(&group->sender, place, header->page, header->count, header->cycle))
        regions_mark(&group->sender.regions, place, header->page, header->count);
    for (uint32_t i = 0; i < ARRAY_LENGTH(array->copy.zeroings); i++) {
        struct zeroing *zeroing = &array->copy.zeroings[i];
        if (!(header->flags & HEADER_NOTED) && zeroing->volume == header->volume &&
            zeroing->page == header->page && zeroing->count == header->count)
            zeroing->count = 0;
    }
}

/* ---- a returned peer ---- */

void copy_refill_begin(struct array *array)
{
    for (uint32_t i = 0; i < array->config.group_count; i++) {
        struct group *group = &array->copy.groups[i];
        const struct sender *sender = &group->sender;
        uint8_t *data = group->join;
        copy_give_back(array, group, UINT32_MAX);
        memset(data, 0, JOIN_SIZE);
        data[0] = group->suspended ? JOIN_SUSPENDED : 0;
        put_u64(data + 8, sender->term_first);
        put_u64(data + 16, sender->confirmed);
        put_u64(data + 24, sender->open);
        put_u64(data + 32, sender->run_term);
        put_u64(data + 40, group->site.known_cycle);
        for (uint32_t place = 0; place < group->config->volume_count; place++)
            put_u16(data + JOIN_FIXED + 2 * place, sender->generation[place]);
        group->confirmed_said = sender->confirmed;
        copy_say_header(array, group,
                        &(struct header){.type = HEADER_GROUP,
                                         .flags = HEADER_JOIN,
                                         .volume = (uint8_t)i,
                                         .page = sender->mode == SENDER_CYCLES ? sender->term : 0,
                                         .count = JOIN_FIXED + 2 * group->config->volume_count});
        copy_site_say(array, group, true);
        if (copy_receives(group))
            copy_second_say_all(array, group);
    }
}

static bool send_ranges(struct array *array, struct group *group)
{
    uint32_t *at = &array->refill.group_range;
    for (; *at < SENDER_RANGES; ++*at) {
        const struct sender_range *range = &group->sender.ranges[*at];
        if (range->cycle == 0 || range->tag)
            continue;
        if (!lists_have_room(&array->lists, 1, false))
            return false;
        copy_say_header(array, group,
                        &(struct header){.type = HEADER_RANGE,
                                         .flags = HEADER_NOTED,
                                         .volume = group->config->volumes[range->volume],
                                         .page = range->page,
                                         .count = range->count,
                                         .cycle = range->cycle});
    }
    return true;
}

static bool is_clear(const struct regions *regions, uint8_t volume, uint64_t from, uint32_t count)
{
    uint8_t bytes[WIRE_DATA_BYTES];
    regions_get_bytes(regions, volume, from, count, bytes);
    for (uint32_t i = 0; i < count; i++) {
        if (bytes[i] != 0)
            return false;
    }
    return true;
}

bool copy_say_bitmaps(struct array *array, struct group *group, uint32_t *at_volume,
                      uint64_t *at_byte)
{
    const struct regions *regions = &group->sender.regions;
    for (; *at_volume < group->config->volume_count; ++*at_volume) {
        uint8_t place = (uint8_t)*at_volume;
        uint64_t bytes = regions_byte_count(regions, place);
        while (*at_byte < bytes) {
            uint32_t count = (uint32_t)min_u64(WIRE_DATA_BYTES, bytes - *at_byte);
            bool full = array->copy.bitmaps_in_list == BITMAP_PIECES ||
                        !lists_have_room(&array->lists, 1, false);
            bool clear = is_clear(regions, place, *at_byte, count);
            if (!clear && full)
                return false;
            if (!clear) {
                array->copy.bitmaps_in_list++;
                copy_say_header(array, group,
                                &(struct header){.type = HEADER_BITMAP,
                                                 .volume = group->config->volumes[place],
                                                 .page = *at_byte,
                                                 .count = count});
            }
            *at_byte += count;
        }
        *at_byte = 0;
    }
    return true;
}

bool copy_refill_send(struct array *array)
{
    struct refill *refill = &array->refill;
    for (; refill->group < array->config.group_count; refill->group++) {
        struct group *group = &array->copy.groups[refill->group];
        if (!send_ranges(array, group) ||
            !copy_say_bitmaps(array, group, &refill->group_volume, &refill->group_byte) ||
            !copy_second_refill_ranges(array, group, &refill->group_held))
            return false;
        refill->group_range = refill->group_volume = refill->group_held = 0;
    }
    return true;
}
