/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Whether a foreign batch may be taken: judged whole, before anything of it is applied (invariant
 * 5). It changes nothing. */

#include "base/crc32c.h"
#include "base/mistake.h"
#include "copy/receiver.h"

#include <string.h>

static enum receiver_verdict refuse(const char **why, const char *text)
{
    *why = text;
    return RECEIVER_REFUSE;
}

/* Whether the number is new, in a term that has begun. */
static enum receiver_verdict judge_number(const struct receiver_numbers *numbers, uint64_t number,
                                          const char **why)
{
    if (number < numbers->upto)
        return RECEIVER_KNOWN;
    uint64_t at = number - numbers->upto;
    if (at >= RECEIVER_AHEAD)
        return refuse(why, "copy batch too far ahead of those that came");
    if (at >= 64)
        return RECEIVER_TAKE;
    if (numbers->done & 1ull << at)
        return MISTAKE(copy_batch_twice) ? RECEIVER_TAKE : RECEIVER_KNOWN;
    if (numbers->taken & 1ull << at)
        return MISTAKE(copy_batch_known_early) ? RECEIVER_KNOWN : RECEIVER_WAIT;
    return RECEIVER_TAKE;
}

/* Whether batches of this group, era and term are taken at all. */
static const char *judge_origin(const struct receiver *receiver, const struct copy_head *head)
{
    if (memcmp(head->group, receiver->group, COPY_ID_SIZE) != 0)
        return "copy batch of another group";
    if (receiver->role == COPY_FAILED_OVER)
        return "copy batch after this site took over";
    if (head->era != receiver->era && !(head->era < receiver->era && MISTAKE(old_era_accepted)))
        return "copy batch of another era";
    return head->term < receiver->term ? "copy batch of an older term" : NULL;
}

enum receiver_verdict receiver_judge_kept(const struct receiver *receiver,
                                          const struct copy_head *head, bool promotes,
                                          uint64_t *cycle, const char **why)
{
    *why = judge_origin(receiver, head);
    if (*why != NULL)
        return RECEIVER_REFUSE;
    if (head->term > receiver->term) {
        if (promotes)
            return refuse(why, "promotion in a term that was not sealed");
        if (receiver->promoting)
            return RECEIVER_WAIT;
        if (head->first != receiver->promoted + 1 || head->cut != receiver_held_cut(receiver))
            return refuse(why, "seal of another state than there is");
        return RECEIVER_TAKE;
    }
    if (!receiver->sealed)
        return refuse(why, "seal of a term that has begun without it");
    if (!promotes || receiver->promoted_cut >= head->cut)
        return RECEIVER_KNOWN;
    if (receiver->promoting)
        return RECEIVER_WAIT;
    *cycle = receiver_find_cut(receiver, head->cut);
    if (*cycle != 0)
        return RECEIVER_TAKE;
    /* What is held is newer: it was lost, and never comes again. Who asked sees it by the state. */
    return receiver_held_cut(receiver) > head->cut
               ? RECEIVER_KNOWN
               : refuse(why, "promotion of a cut that is not held");
}

enum receiver_verdict receiver_judge(const struct receiver *receiver, const struct copy_head *head,
                                     bool *new_term, const char **why)
{
    *new_term = false;
    *why = judge_origin(receiver, head);
    if (*why != NULL)
        return RECEIVER_REFUSE;
    if (receiver->sealed && head->term == receiver->term)
        return refuse(why, "copy batch in a term that was sealed");
    uint64_t from = max_u64(receiver->promoted + 1, head->first);
    if (head->term > receiver->term) {
        if (head->first <= receiver->promoted)
            return refuse(why, "copy batch whose cycle numbers go back");
        if (head->number > COPY_WINDOW)
            return refuse(why, "copy batch too far ahead of those that came");
        if (receiver->promoting && !MISTAKE(copy_term_passes_promotion))
            return RECEIVER_WAIT;
        *new_term = true;
    } else {
        if (head->first != receiver->first)
            return refuse(why, "copy batch of the same term with another first cycle");
        enum receiver_verdict verdict =
            judge_number(&receiver->numbers[head->half], head->number, why);
        if (verdict != RECEIVER_TAKE)
            return verdict;
        if (head->cycle <= receiver->promoted)
            return RECEIVER_KNOWN;
    }
    if (head->cycle - from >= RECEIVER_CYCLES)
        return refuse(why, "copy batch of a cycle too far ahead");
    return RECEIVER_TAKE;
}

static const struct receiver_cycle *cycle_as_known(const struct receiver *receiver,
                                                   const struct copy_head *head, bool new_term)
{
    for (int i = 0; i < RECEIVER_CYCLES && !new_term; i++) {
        if (receiver->cycle[i].number == head->cycle)
            return &receiver->cycle[i];
    }
    return NULL;
}

static const char *judge_end(const struct receiver_cycle *cycle, uint8_t half,
                             const struct record *record)
{
    if (cycle == NULL)
        return NULL;
    const struct receiver_part *part = &cycle->part[half], *other = &cycle->part[half ^ 1];
    if (other->ended && (record->generation != 2 || cycle->halves != 2))
        return "end record of a cycle that has other halves";
    if (part->ended && (part->told.pages != record->page || part->told.base != record->count ||
                        part->told.ranges != record->crc || cycle->halves != record->generation))
        return "end record unlike the one that came";
    return NULL;
}

static const char *judge_range(const struct receiver *receiver, const struct record *record)
{
    if (record->volume >= receiver->volume_count)
        return "record of an unknown volume";
    uint64_t pages = receiver->page_counts[record->volume];
    uint64_t count = record->type == RECORD_PAGE ? 1 : record->count;
    if (record->page >= pages || count > pages - record->page)
        return "record outside its volume";
    if (record->generation > UINT16_MAX)
        return "record of an impossible generation";
    if ((record->type == RECORD_ZERO || !(record->flags & RECORD_BASE)) !=
        (record->generation != 0))
        return "record whose generation disagrees with its kind";
    return NULL;
}

const char *receiver_judge_records(const struct receiver *receiver, const struct copy_head *head,
                                   bool new_term, const uint8_t *records)
{
    const uint8_t *data = records + (size_t)head->record_count * COPY_RECORD_SIZE;
    const struct receiver_cycle *cycle = cycle_as_known(receiver, head, new_term);
    uint32_t left = head->data_bytes, fresh = 0, zeroes = 0;
    for (uint32_t i = 0; i < head->record_count; i++) {
        struct record record;
        const char *why = record_get(records + (size_t)i * COPY_RECORD_SIZE, &record);
        if (why == NULL && (record.type == RECORD_PAGE || record.type == RECORD_ZERO))
            why = judge_range(receiver, &record);
        else if (why == NULL && head->record_count != 1)
            why = "end or promote record that is not alone";
        else if (why == NULL && record.type > RECORD_PROMOTE)
            why = "record for a site that was failed over";
        else if (why == NULL && record.type == RECORD_END)
            why = judge_end(cycle, head->half, &record);
        else if (why == NULL && (new_term || !receiver_complete(receiver, head->cycle)))
            why = "promote record of a cycle that is not complete";
        if (why != NULL)
            return why;
        uint32_t size = record_data_bytes(&record);
        if (size > left)
            return "page record without its data";
        if (size > 0 && crc32c(data, size) != record.crc)
            return "copy data checksum is wrong";
        data += size;
        left -= size;
        zeroes += record.type == RECORD_ZERO;
        fresh += record.type == RECORD_PAGE &&
                 (new_term || !receiver_holds(receiver, head->cycle, &record));
    }
    if (left != 0)
        return "copy batch with data that no record names";
    if (fresh > receiver->room - (new_term ? 0 : receiver->held_count))
        return "copy batch for which there is no room";
    if (zeroes > RECEIVER_ZEROES - (new_term ? 0 : receiver->zero_count))
        return "copy batch with more ranges than there is room for";
    return NULL;
}
