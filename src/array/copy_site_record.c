/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What a controller must find again about a group when it starts, as bytes that the shell keeps:
 * made here, judged here when they come back. A record that cannot be the group's counts as none.
 *
 *     0 u32 magic "HFGR"                    56 u64 wall time of that cut
 *     4 u16 version 1                       64 u64 term
 *     6 u8  role (enum site_role)           72 u64 newest confirmed cycle
 *     7 u8  flags, see RECORD_*             80 u32 volumes
 *     8     group, 16 bytes                 84 u32 bytes of bitmaps that follow, or 0
 *    24 u64 era                             88 u32 CRC-32C of all of it, these four bytes zero
 *    32 u64 epoch of the pair               92 u8  stop (enum site_stop)
 *    40 u64 newest promoted cut of a set     93 3 bytes reserved
 *    48 u64 newest promoted cycle           96 the bitmap of each volume, in the group's order
 *
 * The bitmaps are there only after a stop that left everything on the stores. */

#include "array/internal.h"
#include "base/crc32c.h"
#include "base/mistake.h"

enum {
    RECORD_MAGIC = 0x48464752, /* "HFGR" */
    RECORD_VERSION = 1,
    RECORD_HEAD = 96,
    RECORD_CRC_AT = 88,
    RECORD_MARKS = 1,
    RECORD_SUSPENDED = 2,
    RECORD_WAS_CONSISTENT = 4, /* SITE_RECEIVING: what was promoted is a state of the primary */
    RECORD_WAS_EMPTY = 8,      /* SITE_RECEIVING: nothing was ever received */
    RECORD_FLAGS = 15,
    RETRY_US = 1000 * 1000,
};

uint32_t array_group_record_size(const struct array_config *config, uint8_t number)
{
    CHECK(number < config->group_count);
    const struct group_config *group = &config->groups[number];
    uint64_t size = RECORD_HEAD;
    for (uint32_t i = 0; i < group->volume_count; i++)
        size +=
            regions_bytes_of((config->volumes[group->volumes[i]].size_bytes + PAGE_SIZE_BYTES - 1) /
                             PAGE_SIZE_BYTES);
    return (uint32_t)size;
}

void copy_site_lay_out(struct group *group, const struct array_config *config, uint8_t index,
                       struct arena *arena)
{
    uint32_t size = array_group_record_size(config, index);
    uint8_t *bytes = arena_take(arena, size, 64);
    if (group == NULL)
        return;
    group->site.bytes = bytes;
    group->site.room_bytes = size;
}

static uint32_t crc_of(const uint8_t *bytes, uint32_t length)
{
    static const uint8_t zero[4];
    uint32_t crc = crc32c_more(CRC32C_START, bytes, RECORD_CRC_AT);
    crc = crc32c_more(crc, zero, sizeof zero);
    return crc32c_end(crc32c_more(crc, bytes + RECORD_CRC_AT + 4, length - RECORD_CRC_AT - 4));
}

static uint32_t put_bitmaps(const struct group *group, uint8_t *bytes)
{
    const struct regions *regions = &group->sender.regions;
    uint32_t at = 0;
    for (uint32_t place = 0; place < group->config->volume_count; place++) {
        uint32_t size = (uint32_t)regions_byte_count(regions, (uint8_t)place);
        regions_get_bytes(regions, (uint8_t)place, 0, size, bytes + at);
        at += size;
    }
    return at;
}

static uint32_t encode(const struct group *group, uint8_t *bytes)
{
    const struct site *site = &group->site;
    const struct site_record *now = &site->now;
    bool receives = now->role == SITE_RECEIVING && copy_receives(group);
    const struct receiver *receiver = &group->second.receiver;
    uint32_t flags = (now->marks ? RECORD_MARKS : 0) | (now->suspended ? RECORD_SUSPENDED : 0) |
                     (receives && receiver->consistent ? RECORD_WAS_CONSISTENT : 0) |
                     (receives && receiver->role == COPY_EMPTY ? RECORD_WAS_EMPTY : 0);
    memset(bytes, 0, RECORD_HEAD);
    put_u32(bytes, RECORD_MAGIC);
    put_u16(bytes + 4, RECORD_VERSION);
    bytes[6] = (uint8_t)now->role;
    bytes[7] = (uint8_t)flags;
    memcpy(bytes + 8, group->config->id, GROUP_ID_SIZE);
    put_u64(bytes + 24, now->era);
    put_u64(bytes + 32, now->epoch);
    put_u64(bytes + 40, receives ? receiver->promoted_cut : site->promoted_cut);
    put_u64(bytes + 48, receives ? receiver->promoted : site->promoted);
    put_u64(bytes + 56, receives ? receiver->promoted_wall_us : site->promoted_wall_us);
    put_u64(bytes + 64, receives ? receiver->term : group->sender.term);
    put_u64(bytes + 72, site->known_cycle);
    put_u32(bytes + 80, group->config->volume_count);
    bytes[92] = (uint8_t)now->stop;
    uint32_t bitmaps = 0;
    if (now->stop == SITE_STOPPED && now->role != SITE_RECEIVING)
        bitmaps = put_bitmaps(group, bytes + RECORD_HEAD);
    put_u32(bytes + 84, bitmaps);
    put_u32(bytes + RECORD_CRC_AT, crc_of(bytes, RECORD_HEAD + bitmaps));
    return RECORD_HEAD + bitmaps;
}

static bool same_record(const struct site_record *a, const struct site_record *b)
{
    return a->era == b->era && a->role == b->role && a->epoch == b->epoch &&
           a->suspended == b->suspended && a->marks == b->marks && a->stop == b->stop;
}

bool copy_site_keep(struct array *array, struct group *group)
{
    struct site *site = &group->site;
    /* Of what is not known nothing is kept: the older record still says since when. */
    if (site->now.unknown || same_record(&site->now, &site->kept))
        return true;
    if (site->record_out || array->now_us < site->retry_us)
        return false;
    site->bitmap_loaded = false;
    uint32_t length = encode(group, site->bytes);
    site->out = site->now;
    site->record_out = true;
    CHECK(array->actions.group_record_count < array->config.group_count);
    array->copy.records[array->actions.group_record_count++] =
        (struct group_record){.group = (uint8_t)(group - array->copy.groups),
                              .bytes = site->bytes,
                              .length_bytes = length};
    return false;
}

void array_on_group_record_kept(struct array *array, uint64_t now_us, uint8_t number, bool good)
{
    array_begin(array, now_us);
    CHECK(number < array->config.group_count);
    struct group *group = &array->copy.groups[number];
    struct site *site = &group->site;
    CHECK(site->record_out);
    site->record_out = false;
    site->stop_failed = !good && site->out.stop != SITE_RUNS;
    if (!good) {
        site->retry_us = now_us + RETRY_US;
        array_log(array, LOG_ERROR,
                  "group %s: its record cannot be kept: a change of its role waits",
                  group->config->name);
        return;
    }
    bool was = copy_site_is_kept(site);
    site->kept = site->out;
    site->unsaid |= !was && copy_site_is_kept(site);
}

/* ---- what comes back ---- */

static const char *judge(const struct group *group, const uint8_t *bytes, uint32_t length)
{
    if (length < RECORD_HEAD || get_u32(bytes) != RECORD_MAGIC)
        return "it is not a group's record";
    if (get_u16(bytes + 4) != RECORD_VERSION)
        return "it has a version that this program does not know";
    if (length > group->site.room_bytes || length - RECORD_HEAD != get_u32(bytes + 84))
        return "its length is wrong";
    if (get_u32(bytes + RECORD_CRC_AT) != crc_of(bytes, length))
        return "its checksum is wrong";
    if (memcmp(bytes + 8, group->config->id, GROUP_ID_SIZE) != 0)
        return "it is another group's: its arrays, names, volumes or sizes were others";
    if (get_u32(bytes + 80) != group->config->volume_count)
        return "it has another number of volumes";
    if ((bytes[7] & ~RECORD_FLAGS) || bytes[93] != 0 || bytes[94] != 0 || bytes[95] != 0)
        return "reserved bytes are set";
    if (bytes[92] >= SITE_STOP_COUNT || get_u64(bytes + 32) == 0 ||
        !copy_site_possible(group, get_u64(bytes + 24), bytes[6]))
        return "its era, role, epoch or stop is impossible";
    uint64_t bitmaps = 0;
    for (uint32_t place = 0; place < group->config->volume_count; place++)
        bitmaps += regions_byte_count(&group->sender.regions, (uint8_t)place);
    if (length != RECORD_HEAD && length != RECORD_HEAD + bitmaps)
        return "its bitmaps are of other volumes";
    return NULL;
}

void array_load_group(struct array *array, uint8_t number, const void *bytes, uint32_t length_bytes)
{
    CHECK(number < array->config.group_count);
    struct group *group = &array->copy.groups[number];
    struct site *site = &group->site;
    const uint8_t *record = bytes;
    array_begin(array, array->now_us);
    const char *why = judge(group, record, length_bytes);
    if (why != NULL) {
        array_log(array, LOG_ERROR, "group %s: its record is not taken: %s", group->config->name,
                  why);
        return;
    }
    memcpy(site->bytes, record, length_bytes);
    site->bitmap_loaded = true;
    site->kept = (struct site_record){.era = get_u64(record + 24),
                                      .role = (enum site_role)record[6],
                                      .epoch = get_u64(record + 32),
                                      .suspended = (record[7] & RECORD_SUSPENDED) != 0,
                                      .marks = (record[7] & RECORD_MARKS) != 0,
                                      .stop = (enum site_stop)record[92]};
    site->now = site->kept;
    site->promoted = get_u64(record + 48);
    site->promoted_wall_us = get_u64(record + 56);
    site->promoted_cut = get_u64(record + 40);
    site->settled = site->open = false; /* until this controller serves */
    group->suspended = site->now.suspended;
    copy_site_forget(group);
}

bool copy_site_restore(struct array *array, struct group *group)
{
    struct site *site = &group->site;
    struct receiver *receiver = &group->second.receiver;
    const uint8_t *record = site->bytes;
    if (!site->bitmap_loaded)
        return false;
    if (site->kept.role == SITE_RECEIVING) {
        if (!copy_receives(group))
            return true;
        const struct copy_state state = {
            .role = record[7] & RECORD_WAS_EMPTY ? COPY_EMPTY : COPY_RECEIVING,
            .flags = record[7] & RECORD_WAS_CONSISTENT ? COPY_STATE_CONSISTENT : 0,
            .era = site->kept.era,
            .term = get_u64(record + 64),
            .promoted = site->promoted,
            .promoted_wall_us = site->promoted_wall_us,
            .cut = site->promoted_cut};
        receiver_restore(receiver, &state);
        return true;
    }
    const uint8_t *from = record + RECORD_HEAD;
    if (get_u32(record + 84) == 0)
        return false;
    for (uint32_t place = 0; place < group->config->volume_count; place++) {
        uint32_t size = (uint32_t)regions_byte_count(&group->sender.regions, (uint8_t)place);
        regions_join_bytes(&group->sender.regions, (uint8_t)place, 0, size, from);
        from += size;
    }
    group->sender.term = max_u64(group->sender.term, get_u64(record + 64));
    site->known_cycle = get_u64(record + 72);
    array_log(array, LOG_INFO, "group %s: %llu regions are marked since the last stop",
              group->config->name, (unsigned long long)regions_left(&group->sender.regions));
    return true;
}
