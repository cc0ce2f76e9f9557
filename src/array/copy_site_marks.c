/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* What a primary wrote that the second array does not have, when that array was failed over: its
 * bitmap goes there, as ranges of pages that differ, one batch at a time, and then it is a site
 * that receives. The other end joins them with its own, and tells its peer. Both may come to an end
 * in the middle: it is begun anew then, because a bit that is set twice does no harm. */

#include "array/internal.h"
#include "base/mistake.h"

/* ---- giving ---- */

void copy_marks_begin_anew(struct group *group)
{
    struct site *site = &group->site;
    site->marks_out = 0;
    site->marks_ended = false;
    site->marks_volume = 0;
    site->marks_page = 0;
}

static uint32_t put_marks(struct group *group, uint8_t *records)
{
    struct site *site = &group->site;
    uint32_t count = 0;
    while (count < COPY_RECORDS && site->marks_volume < group->config->volume_count) {
        uint64_t first, pages;
        if (!regions_run(&group->sender.regions, (uint8_t)site->marks_volume, site->marks_page,
                         &first, &pages)) {
            site->marks_volume++;
            site->marks_page = 0;
            continue;
        }
        record_put(records + (size_t)count++ * COPY_RECORD_SIZE,
                   &(struct record){.type = RECORD_MARKED,
                                    .volume = (uint8_t)site->marks_volume,
                                    .page = first,
                                    .count = pages});
        site->marks_page = first + pages;
    }
    return count;
}

static bool may_give(const struct array *array, const struct group *group)
{
    const struct site *site = &group->site;
    bool quiet = site->quiet_said && (array->role.state == ROLE_SOLO || site->peer_quiet);
    return site->now.role == SITE_FENCED && !site->now.unknown && !site->changing && !site->lacks &&
           group->sender.leader && group->up && quiet && site->marks_out == 0 &&
           copy_receives(group) && (array->role.state == ROLE_SOLO || array->mirroring) &&
           group->state.role == COPY_FAILED_OVER && group->state.era == site->now.era;
}

void copy_marks_give(struct array *array, struct group *group)
{
    struct site *site = &group->site;
    if (!may_give(array, group))
        return;
    struct copy_buffer *buffer = &group->buffers[0];
    uint8_t *records = buffer->bytes + COPY_HEAD_SIZE;
    uint32_t count = put_marks(group, records);
    if (count == 0) {
        record_put(records, &(struct record){.type = RECORD_MARKED_END});
        site->marks_ended = true;
        count = 1;
    }
    site->marks_out = ++site->marks_number;
    struct copy_head head = {.half = array->config.self,
                             .era = site->now.era,
                             .term = 1,
                             .cycle = 1,
                             .number = site->marks_out,
                             .first = 1,
                             .record_count = count};
    memcpy(head.group, group->config->id, COPY_ID_SIZE);
    record_put_head(buffer->bytes, &head);
    uint32_t size = COPY_HEAD_SIZE + count * COPY_RECORD_SIZE;
    buffer->iov[0] = (struct iovec){.iov_base = buffer->bytes, .iov_len = size};
    CHECK(array->actions.copy_count < array->config.group_count * COPY_WINDOW);
    array->copy.actions[array->actions.copy_count++] =
        (struct copy_action){.group = (uint8_t)(group - array->copy.groups),
                             .number = site->marks_out,
                             .iov = buffer->iov,
                             .iov_count = 1,
                             .length_bytes = size};
}

bool copy_marks_answered(struct array *array, struct group *group, uint64_t number, bool good)
{
    struct site *site = &group->site;
    if (site->marks_out == 0 || site->marks_out != number)
        return false;
    site->marks_out = 0;
    if (!group->up || site->now.role != SITE_FENCED)
        return true;
    if (!good)
        copy_drop_session(array, group); /* and all of it is begun anew */
    else if (site->marks_ended)
        copy_site_handed_over(group);
    return true;
}

/* ---- taking ---- */

static const char *judge(const struct group *group, const struct copy_head *head,
                         const uint8_t *records)
{
    const struct site *site = &group->site;
    if (memcmp(head->group, group->config->id, COPY_ID_SIZE) != 0)
        return "copy batch of another group";
    if (head->era != site->now.era && !MISTAKE(marks_of_any_era))
        return "copy batch of another era: this site took over";
    if (head->data_bytes != 0)
        return "copy batch after this site took over";
    for (uint32_t i = 0; i < head->record_count; i++) {
        struct record record;
        const char *why = record_get(records + (size_t)i * COPY_RECORD_SIZE, &record);
        if (why != NULL)
            return why;
        if (record.type == RECORD_MARKED_END && head->record_count == 1)
            continue;
        if (record.type != RECORD_MARKED)
            return "copy batch after this site took over";
        if (record.volume >= group->config->volume_count)
            return "record of an unknown volume";
        uint64_t pages = group->sender.regions.maps[record.volume].page_count;
        if (record.page >= pages || record.count > pages - record.page)
            return "record outside its volume";
    }
    return NULL;
}

bool copy_marks_take(struct array *array, struct group *group, const uint8_t *bytes,
                     uint32_t length_bytes, const char **why)
{
    struct site *site = &group->site;
    struct copy_head head;
    const uint8_t *records = bytes + COPY_HEAD_SIZE;
    bool truth = site->now.role == SITE_FAILED_OVER || site->now.role == SITE_PRIMARY;
    *why = record_get_head(bytes, length_bytes, &head);
    if (*why == NULL && (!truth || site->now.unknown || !site->settled))
        *why = "copy batch for a site that takes none now";
    if (*why == NULL)
        *why = judge(group, &head, records);
    if (*why != NULL)
        return false;
    if (group->sender.mode == SENDER_CYCLES)
        return true; /* it comes late: everything had been handed over before */
    for (uint32_t i = 0; i < head.record_count; i++) {
        struct record record;
        *why = record_get(records + (size_t)i * COPY_RECORD_SIZE, &record);
        CHECK(*why == NULL);
        if (record.type == RECORD_MARKED_END) {
            site->now.marks = site->unsaid = true;
            site->mirror_marks = array->mirroring;
            site->mirror_volume = 0;
            site->mirror_byte = 0;
            array_log(array, LOG_INFO, "group %s: the other array has said what it had of its own",
                      group->config->name);
        } else if (!MISTAKE(reverse_forgets_old_bitmap)) {
            regions_mark(&group->sender.regions, record.volume, record.page, record.count);
        }
    }
    return true;
}

/* The peer hears of them by the whole bitmap, and then, by HEADER_SITE, that it has it. Should this
 * controller be lost before, the peer marks everything. */
void copy_marks_mirror(struct array *array, struct group *group)
{
    struct site *site = &group->site;
    if (!site->mirror_marks || array->refill.state != REFILL_NONE)
        return;
    if (!array->mirroring ||
        copy_say_bitmaps(array, group, &site->mirror_volume, &site->mirror_byte)) {
        site->mirror_marks = false;
        site->unsaid = true;
    }
}
