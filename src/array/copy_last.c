/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* After a clean stop of both controllers only the one that stopped last knows what differs between
 * the sites, or what a receiving site was promoted to: it was alone then. If the other one begins
 * first it lacks that. It neither copies nor takes anything, and notes what its own hosts write,
 * until the one that stopped last has joined and told it: the bitmap, or what the receiver knows,
 * as headers of the change stream. What it is told is joined to what it noted itself, so nothing
 * that differs is missing. Whoever never comes is waited for until an operator says otherwise: it
 * may know of a suspension, or of a loss that was accepted. When it cannot be told any more,
 * everything is marked as if both memories had been lost, and that is copied at an operator's word.
 *
 * Who stopped last is never guessed: the register was found with nobody in, so a controller that
 * was alone had put everything on the stores; it kept the pair's epoch of that time, which is two
 * less than the one in which the other began. */

#include "array/internal.h"
#include "base/mistake.h"

const char copy_last_text[] = "the controller that stopped last knows what differs, and is waited "
                              "for: start it, or say group resync --force here";

bool copy_last_is_the_other(const struct array *array, const struct site_record *kept)
{
    bool stopped_here = kept->stop == SITE_STOPPED && kept->epoch + 2 == array->role.epoch;
    return array->copy.fresh_in == 0 && kept->epoch != 0 && array->role.epoch > 2 && !stopped_here;
}

/* ---- the one that stopped last ---- */

void copy_last_fill(struct array *array, struct group *group, const struct header *header,
                    bool counts)
{
    struct site *site = &group->site;
    const struct site_record *kept = &site->kept;
    site->lacks = false;
    site->gives = GIVES_NOTHING;
    if (!(header->slot & SITE_LACKS))
        return;
    bool receives = site->now.role == SITE_RECEIVING;
    bool last = kept->stop == SITE_STOPPED && (kept->role == SITE_RECEIVING) == receives &&
                (kept->epoch + 2 == array->incoming.epoch || MISTAKE(older_stop_is_the_last));
    if (last && !receives)
        last = copy_site_restore(array, group);
    if (!last && !receives)
        regions_mark_all(&group->sender.regions);
    if (!last)
        return;
    site->gives = GIVES_SOON;
    if (kept->era != site->now.era)
        site->known_cycle = 0;
    else
        site->now.marks |= kept->marks;
    /* Of two who may be right the one counts that copies nothing. */
    bool suspends = kept->suspended || (group->suspended && !counts);
    if (suspends == group->suspended)
        return;
    group->suspended = suspends;
    group->resumed = !suspends;
    group->fall_unsaid = true;
}

uint32_t copy_last_flags(struct group *group)
{
    struct site *site = &group->site;
    switch (site->gives) {
    case GIVES_SOON:
        site->gives = GIVES_NOW;
        site->mirror_volume = 0;
        site->mirror_byte = 0;
        return SITE_GIVES;
    case GIVES_NOW:
        return SITE_GIVES;
    case GIVES_DONE:
        site->gives = GIVES_NOTHING;
        return SITE_WHOLE;
    default:
        return site->lacks ? SITE_LACKS : 0;
    }
}

static void give(struct array *array, struct group *group)
{
    struct site *site = &group->site;
    bool receives = site->now.role == SITE_RECEIVING;
    if (array->role.state != ROLE_PAIRED) {
        site->gives = GIVES_NOTHING; /* nobody is left to be told */
        return;
    }
    /* The next record takes the place of the one that says this. */
    if (site->gives == GIVES_SOON && receives && group->second.receiver.term == 0)
        (void)copy_site_restore(array, group);
    if (site->gives != GIVES_NOW || !array->mirroring)
        return;
    if (!receives) {
        if (!copy_say_bitmaps(array, group, &site->mirror_volume, &site->mirror_byte))
            return;
    } else if (copy_receives(group)) {
        if (group->second.saying || !lists_have_room(&array->lists, 1, true))
            return;
        copy_second_say_all(array, group);
    }
    site->gives = GIVES_DONE;
    site->unsaid = true;
}

/* ---- the one that began first ---- */

void copy_last_give_up(struct array *array, struct group *group, const char *why, bool asked)
{
    struct site *site = &group->site;
    if (!site->lacks)
        return;
    site->lacks = false;
    if (site->now.role == SITE_RECEIVING) {
        array_log(array, LOG_WARNING, "group %s: everything is to be received anew: %s",
                  group->config->name, why);
        return;
    }
    copy_site_mark_all(array, group, why);
    if (!asked)
        copy_site_suspend(array, group,
                          "what the controller that stopped last knew is lost, and it may have "
                          "accepted a loss or suspended the group: group resume here copies all "
                          "of it");
}

void copy_last_heard(struct array *array, struct group *group, const struct header *header)
{
    struct site *site = &group->site;
    if (!site->lacks || (header->slot & (SITE_FILLS | SITE_GIVES)))
        return;
    if (!(header->slot & SITE_WHOLE)) {
        copy_last_give_up(array, group, "no controller has the record of the last stop", false);
        return;
    }
    site->lacks = false;
    site->known_cycle = max_u64(site->known_cycle, header->count - 1);
    group->reason = "the other controller has said what differs";
    array_log(array, LOG_INFO,
              "group %s: the other controller has said what it knew when it stopped: %llu regions "
              "are marked",
              group->config->name, (unsigned long long)regions_left(&group->sender.regions));
}

void copy_last_pump(struct array *array, struct group *group)
{
    if (group->site.gives != GIVES_NOTHING)
        give(array, group);
}
