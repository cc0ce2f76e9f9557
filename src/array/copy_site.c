/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Where a group's truth is: its era, this site's role in it, and how both change.
 *
 *     odd eras: GROUP_PRIMARY has the truth       even eras: GROUP_SECOND has it
 *
 *     RECEIVING   --failover: era + 1--> FAILED_OVER --reverse--> PRIMARY
 *     PRIMARY, FAILED_OVER --a newer era is heard of--> FENCED --the bitmap is handed over-->
 *     RECEIVING
 *
 * Era and role only go forward, (era, role) before (era, later role), so two controllers that say
 * to each other what they know agree by taking the later one. A step counts ("settled") when every
 * controller that is there has it in its record: until then no host is served by it and no batch
 * taken. The rule kept here: no site serves hosts in an era whose truth is elsewhere, as far as any
 * of its controllers has heard (invariant 17). */

#include "array/internal.h"
#include "base/mistake.h"
#include "base/wall.h"

#include <stdio.h>

enum {
    PATIENCE_US = 10 * 1000 * 1000, /* hosts wait so long for the other controller's word */
    STAND_US = 30 * 1000 * 1000,    /* what is shown stays so long, while a set is failed over */
    HEARD_US = 5 * 1000 * 1000,     /* the primary answers: it was heard of within so long */
};

static bool truth_is_here(const struct group *group, uint64_t era)
{
    return (era % 2 == 1) == (group->config->side == GROUP_PRIMARY);
}

bool copy_site_possible(const struct group *group, uint64_t era, uint32_t role)
{
    if (era == 0 || role >= SITE_ROLE_COUNT)
        return false;
    return truth_is_here(group, era) == (role == SITE_FAILED_OVER || role == SITE_PRIMARY);
}

static bool is_later(uint64_t era, enum site_role role, const struct site_record *than)
{
    return era > than->era || (era == than->era && role > than->role);
}

static bool has_truth(const struct site *site)
{
    return site->now.role == SITE_FAILED_OVER || site->now.role == SITE_PRIMARY;
}

void copy_site_create(struct array *array, struct group *group)
{
    struct site *site = &group->site;
    (void)array;
    site->now = (struct site_record){
        .era = 1, .role = group->config->side == GROUP_PRIMARY ? SITE_PRIMARY : SITE_RECEIVING};
    site->kept = site->now;
    site->settled = true;
    site->open = has_truth(site);
    copy_site_forget(group);
}

enum group_role array_group_role(const struct array *array, uint8_t number)
{
    CHECK(number < array->config.group_count);
    return array->copy.groups[number].role;
}

/* ---- what follows from the role ---- */

static bool is_readable(const struct group *group)
{
    const struct site *site = &group->site;
    return site->now.role == SITE_RECEIVING && !site->now.unknown && group->config->expose;
}

enum host_result copy_site_judge(const struct group *group, enum host_op op)
{
    if (group->site.open || op == HOST_STATE || op == HOST_MOVE || MISTAKE(copy_serves_hosts))
        return HOST_OK;
    if (!is_readable(group))
        return HOST_COPY;
    return op == HOST_READ || op == HOST_FLUSH ? HOST_OK : HOST_READ_ONLY;
}

bool copy_site_refuses(const struct array *array, uint8_t volume)
{
    const struct group *group = copy_group(array, volume);
    return group != NULL && copy_site_judge(group, HOST_READ) != HOST_OK && !copy_site_waits(group);
}

bool copy_site_copies(const struct group *group)
{
    const struct site *site = &group->site;
    const struct copy_state *state = &group->state;
    return site->now.role == SITE_PRIMARY && site->settled && !site->now.unknown &&
           site->now.stop == SITE_RUNS && (!site->lacks || MISTAKE(lacking_copies)) && group->up &&
           state->role != COPY_FAILED_OVER && state->era <= site->now.era;
}

bool copy_site_takes(const struct group *group)
{
    const struct site *site = &group->site;
    return site->now.role == SITE_RECEIVING && site->settled && !site->now.unknown &&
           !site->changing && !site->sync_due && !site->lacks && site->now.stop == SITE_RUNS;
}

void copy_site_state(const struct array *array, const struct group *group, struct copy_state *state)
{
    const struct site *site = &group->site;
    uint8_t first = group->config->volumes[0];
    state->era = site->now.era;
    if (copy_site_takes(group))
        return;
    state->role = COPY_EMPTY;
    state->flags = 0;
    state->held_cut = 0;
    if (!has_truth(site) || site->now.unknown)
        return;
    state->role = COPY_FAILED_OVER;
    state->promoted = site->promoted;
    state->promoted_wall_us = site->promoted_wall_us;
    state->cut = site->promoted_cut;
    if (site->settled && array_owns(array, first) &&
        (array->role.state == ROLE_SOLO || array->role.state == ROLE_PAIRED))
        state->flags = COPY_STATE_HERE;
}

/* ---- changes ---- */

static void note_role(struct group *group)
{
    static const enum group_role roles[SITE_ROLE_COUNT] = {
        [SITE_FENCED] = GROUP_ROLE_PRIMARY,
        [SITE_RECEIVING] = GROUP_ROLE_RECEIVING,
        [SITE_FAILED_OVER] = GROUP_ROLE_FAILED_OVER,
        [SITE_PRIMARY] = GROUP_ROLE_PRIMARY,
    };
    group->role = roles[group->site.now.role];
    group->era = group->site.now.era;
    if (copy_receives(group))
        group->second.receiver.era = group->site.now.era;
}

static void refresh(struct array *array, struct group *group)
{
    struct site *site = &group->site;
    bool open = has_truth(site) && !site->now.unknown &&
                (site->settled || MISTAKE(failover_without_record));
    if (open == site->open)
        return;
    site->open = open;
    array->service_stamp++;
    host_resume(array, &array->held);
}

static const char *const role_texts[SITE_ROLE_COUNT] = {
    [SITE_FENCED] = "the other array was failed over: hosts are refused here",
    [SITE_RECEIVING] = "receives the copy: hosts are refused here",
    [SITE_FAILED_OVER] = "failed over: hosts are served here",
    [SITE_PRIMARY] = "the primary: hosts are served here, and it is copied",
};

/* What was not promoted is gone, here and, as it hears of this, at the peer. */
static void discard_held(struct array *array, struct group *group)
{
    struct receiver *receiver = &group->second.receiver;
    if (!copy_receives(group))
        return;
    group->site.promoted = receiver->promoted;
    group->site.promoted_wall_us = receiver->promoted_wall_us;
    group->site.promoted_cut = receiver->promoted_cut;
    receiver_fail_over(receiver, group->site.now.era);
    copy_second_discard(array, group);
}

static const char accepted_text[] =
    "a loss was accepted here: group failover at the second array serves its copy, group resume "
    "here copies over it";

/* What each role begins with. The peer does the same when it hears of it. */
static void begin_role(struct array *array, struct group *group, enum site_role was, bool doubted)
{
    struct site *site = &group->site;
    struct sender *sender = &group->sender;
    switch (site->now.role) {
    case SITE_FENCED:
        copy_fall(array, group, role_texts[SITE_FENCED], false);
        copy_marks_begin_anew(group);
        break;
    case SITE_RECEIVING:
        copy_fall(array, group, role_texts[SITE_RECEIVING], false);
        copy_drop_session(array, group);
        for (uint32_t place = 0; place < group->config->volume_count; place++)
            regions_clear(&sender->regions, (uint8_t)place, UINT64_MAX);
        if (copy_receives(group)) {
            receiver_lose(&group->second.receiver, copy_second_next_memory(array, group));
            copy_second_discard(array, group);
            receiver_reopen(&group->second.receiver);
        }
        site->sync_due = !site->lacks; /* else the peer knows, and tells */
        break;
    case SITE_FAILED_OVER:
        if (was == SITE_RECEIVING)
            discard_held(array, group);
        if (was == SITE_RECEIVING && site->promoted == 0 && !site->lacks) /* in nobody's bitmap */
            copy_site_mark_all(array, group, "this site has lost what it had promoted");
        else if (was != SITE_RECEIVING && was != SITE_FENCED)
            copy_site_mark_all(array, group, "the record of what differs was lost");
        break;
    default:
        break;
    }
    /* A controller that began with nothing as a copy has no bitmap of what hosts wrote since;
     * unless the one that stopped last is about to say it. */
    if (doubted && was == SITE_RECEIVING && site->now.role != SITE_RECEIVING && !site->lacks)
        copy_site_mark_all(array, group, "nothing is known of what the other array holds");
    group->reason = role_texts[site->now.role];
    /* Only now is it known that what was lost may be at the other array, and only there. */
    if (doubted && array->role.loss_accepted)
        copy_site_suspend(array, group, accepted_text);
}

static void enter(struct array *array, struct group *group, uint64_t era, enum site_role role)
{
    struct site *site = &group->site;
    CHECK(copy_site_possible(group, era, role));
    CHECK(is_later(era, role, &site->now) || site->now.unknown);
    enum site_role was = site->now.role;
    bool doubted = site->now.unknown;
    if (era != site->now.era) {
        site->now.marks = false;
        site->known_cycle = 0;
        group->suspended = false;
    }
    site->now.era = era;
    site->now.role = role;
    site->now.unknown = false;
    /* The record of this must not look older than what the other controller kept before. */
    site->now.epoch = max_u64(site->now.epoch, array->role.epoch);
    site->settled = site->changing = false;
    site->unsaid = true;
    site->quiet_said = site->peer_quiet = false;
    site->open = false;
    array->service_stamp++;
    begin_role(array, group, was, doubted);
    note_role(group);
    array_log(array, LOG_WARNING, "group %s: era %llu: %s", group->config->name,
              (unsigned long long)era, role_texts[role]);
    refresh(array, group);
}

/* It waits until nothing is being received: what has been promoted is being carried out. */
static void change_to(struct group *group, uint64_t era, enum site_role role)
{
    group->site.changing = true;
    group->site.next_era = era;
    group->site.next_role = role;
}

void copy_site_handed_over(struct group *group)
{
    if (group->site.now.role == SITE_FENCED && !group->site.changing)
        change_to(group, group->site.now.era, SITE_RECEIVING);
}

static void be_unknown(struct array *array, struct group *group, const char *why)
{
    struct site *site = &group->site;
    if (site->now.unknown)
        return;
    site->now.unknown = true;
    site->unsaid = true;
    copy_fall(array, group, why, false);
    group->reason = why;
    array_log(array, LOG_ERROR, "group %s: %s", group->config->name, why);
    refresh(array, group);
}

static void be_known(struct array *array, struct group *group)
{
    struct site *site = &group->site;
    site->now.unknown = false;
    site->unsaid = true;
    group->reason = role_texts[site->now.role];
    array_log(array, LOG_INFO, "group %s: era %llu: %s", group->config->name,
              (unsigned long long)site->now.era, role_texts[site->now.role]);
    refresh(array, group);
}

void copy_site_mark_all(struct array *array, struct group *group, const char *why)
{
    copy_fall(array, group, why, true);
    regions_mark_all(&group->sender.regions);
    group->site.lacks = false;
    group->site.now.marks = true; /* whatever the other site had, it is among them */
    group->site.all_marked = true;
    group->fall_all = group->fall_unsaid = array->mirroring;
    array_log(array, LOG_WARNING, "group %s: everything is to be copied anew: %s",
              group->config->name, why);
}

void copy_site_suspend(struct array *array, struct group *group, const char *why)
{
    if (group->site.now.role != SITE_PRIMARY || group->suspended || MISTAKE(loss_copied))
        return;
    group->suspended = true;
    group->fall_unsaid = array->mirroring;
    group->reason = why;
    array_log(array, LOG_WARNING, "group %s: %s", group->config->name, why);
}

/* ---- the other site ---- */

/* The other site knows of a failover, but not of what the other controller here did while it served
 * alone: it may have accepted a loss, or an operator may have suspended the group. All would be
 * copied anew, perhaps over the better copy: that is for an operator to say. Who stopped last after
 * a clean stop is waited for and tells all of it: see copy_last.c. */
static void suspend_after_doubt(struct array *array, struct group *group)
{
    if (!group->site.lacks)
        copy_site_suspend(array, group,
                          "the other controller has served alone, and may have accepted a loss or "
                          "suspended it: group resume here copies all of it");
}

void copy_site_heard_state(struct array *array, struct group *group, const struct copy_state *state)
{
    struct site *site = &group->site;
    if (state->era > site->now.era && !truth_is_here(group, state->era)) {
        if (site->now.role != SITE_RECEIVING && !MISTAKE(newer_era_ignored))
            enter(array, group, state->era, SITE_FENCED);
    } else if (state->era > site->now.era) {
        site->heard_era = state->era;
        be_unknown(array, group,
                   "the other array knows a newer era in which this one has the truth, and its "
                   "record is lost here: an operator must say failover --force");
    } else if (state->era == site->now.era && site->now.unknown && has_truth(site) &&
               state->role != COPY_FAILED_OVER) {
        be_known(array, group); /* nobody has taken over since */
        suspend_after_doubt(array, group);
    }
}

void array_on_copy_state(struct array *array, uint64_t now_us, uint8_t number,
                         const struct copy_state *state)
{
    array_begin(array, now_us);
    CHECK(number < array->config.group_count);
    struct group *group = &array->copy.groups[number];
    if (!group->up || memcmp(state->group, group->config->id, COPY_ID_SIZE) != 0)
        return;
    group->state = *state;
    copy_site_heard_state(array, group, state);
}

bool copy_site_message(struct array *array, struct group *group, const uint8_t *bytes,
                       uint32_t length_bytes, const char **why)
{
    struct site *site = &group->site;
    struct copy_head head;
    *why = record_get_head(bytes, length_bytes, &head);
    bool ours = *why == NULL && memcmp(head.group, group->config->id, COPY_ID_SIZE) == 0;
    bool newer = ours && head.era > site->now.era && !truth_is_here(group, head.era);
    *why = NULL;
    site->heard_us = array->now_us;
    if (newer && site->now.role != SITE_RECEIVING && !MISTAKE(newer_era_ignored))
        enter(array, group, head.era, SITE_FENCED);
    if (site->now.role != SITE_RECEIVING) {
        if (!copy_marks_take(array, group, bytes, length_bytes, why))
            array_log(array, array->config.trace ? LOG_TRACE : LOG_INFO, "group %s: refused: %s",
                      group->config->name, *why);
        return true;
    }
    /* An era that this site slept through, or has no record of. */
    if (newer && !site->now.unknown && !site->changing && copy_serves(array) &&
        array_owns(array, group->config->volumes[0])) {
        change_to(group, head.era, SITE_RECEIVING);
        *why = "copy batch of a newer era: this site has to hear of it first";
        return true;
    }
    return false;
}

void array_on_copy_heard(struct array *array, uint64_t now_us, uint8_t number)
{
    array_begin(array, now_us);
    CHECK(number < array->config.group_count);
    array->copy.groups[number].site.heard_us = now_us;
}

/* ---- the peer ---- */

void copy_site_say(struct array *array, struct group *group, bool fills)
{
    struct site *site = &group->site;
    const struct site_record *now = &site->now;
    uint32_t flags = (fills ? SITE_FILLS : 0) | (copy_site_is_kept(site) ? SITE_KEPT : 0) |
                     (site->settled ? SITE_SETTLED : 0) | (now->unknown ? SITE_UNKNOWN : 0) |
                     (site->quiet_said ? SITE_QUIET : 0) | (site->kept.epoch == 0 ? SITE_NONE : 0) |
                     (now->marks && !site->mirror_marks ? SITE_MARKS : 0);
    uint32_t last = copy_last_flags(group);
    site->unsaid = false;
    copy_say_header(array, group,
                    &(struct header){.type = HEADER_SITE,
                                     .volume = (uint8_t)(group - array->copy.groups),
                                     .slot = now->role | flags | last,
                                     .page = now->era,
                                     .count = last & SITE_WHOLE ? site->known_cycle + 1
                                                                : max_u64(now->epoch, 1)});
}

const char *copy_site_judge_header(const struct array *array, const struct header *header)
{
    const struct group *group = &array->copy.groups[header->volume];
    if ((header->slot & ~SITE_FLAGS & ~0xFFu) ||
        !copy_site_possible(group, header->page, header->slot & 0xFF))
        return "site header of an impossible era or role";
    if ((header->slot & SITE_FILLS) && array->role.state == ROLE_PAIRED)
        return "site header of a peer that fills, while paired";
    if ((header->slot & SITE_FILLS) && (header->slot & (SITE_GIVES | SITE_WHOLE)))
        return "site header of a peer that fills and knows less";
    return NULL;
}

/* Being filled: what the survivor says counts, older or newer; but for a survivor whose own record
 * is older than the one here. */
static void apply_fill(struct array *array, struct group *group, const struct header *header)
{
    struct site *site = &group->site;
    bool unknown = (header->slot & SITE_UNKNOWN) != 0;
    struct site_record theirs = {.era = header->page,
                                 .role = (enum site_role)(header->slot & 0xFF)};
    /* Both records are here now, and what was settled stands in one of them: the newer counts. */
    bool newer =
        site->kept.epoch > header->count ||
        (site->kept.epoch == header->count && is_later(site->kept.era, site->kept.role, &theirs));
    bool counts = unknown && newer;
    if (counts) {
        site->now = site->kept;
        /* The survivor, whose record is older, has not heard of it. */
        if (site->kept.suspended && !group->suspended)
            group->suspended = group->fall_unsaid = true;
        array_log(array, LOG_WARNING,
                  "group %s: the record here is newer than the other controller's",
                  group->config->name);
        unknown = false;
    } else {
        /* Where nobody has a record nothing was ever kept: it is the first era. */
        bool none = site->kept.epoch == 0;
        unknown = unknown && none && !(header->slot & SITE_NONE);
        site->now = theirs;
        site->now.unknown = unknown;
    }
    site->sync_due = false;
    site->now.marks = (header->slot & SITE_MARKS) != 0;
    site->now.stop = SITE_RUNS;
    site->settled = !unknown && (header->slot & SITE_SETTLED) != 0;
    if ((header->slot & SITE_UNKNOWN) && !unknown)
        site->unsaid = true; /* the survivor's doubt ends as well */
    group->reason = role_texts[site->now.role];
    copy_last_fill(array, group, header, counts);
}

void copy_site_apply(struct array *array, const struct header *header)
{
    struct group *group = &array->copy.groups[header->volume];
    struct site *site = &group->site;
    enum site_role role = (enum site_role)(header->slot & 0xFF);
    bool unknown = (header->slot & SITE_UNKNOWN) != 0;
    if (header->slot & SITE_FILLS) {
        apply_fill(array, group, header);
    } else if (site->now.unknown && !unknown) {
        if (role == site->now.role && header->page == site->now.era &&
            header->page >= site->heard_era)
            be_known(array, group);
        else if (is_later(header->page, role, &site->now))
            enter(array, group, header->page, role);
    } else if (!unknown && is_later(header->page, role, &site->now)) {
        enter(array, group, header->page, role);
    } else if (unknown && !site->now.unknown) {
        site->unsaid = true;
    }
    bool same = site->now.era == header->page && site->now.role == role;
    bool news = !site->peer_known || site->peer_era != header->page || site->peer_role != role;
    /* It has only just begun to receive, with nothing: it has to hear what is known here. */
    if (same && news && role == SITE_RECEIVING && !site->settled)
        site->sync_due = true;
    site->peer_known = true;
    site->peer_era = header->page;
    site->peer_role = role;
    site->peer_kept = (header->slot & SITE_KEPT) != 0;
    site->peer_quiet = (header->slot & SITE_QUIET) != 0;
    if (same && (header->slot & SITE_MARKS))
        site->now.marks = true;
    if (same && (header->slot & SITE_SETTLED))
        site->settled = true;
    copy_last_heard(array, group, header);
    note_role(group);
    refresh(array, group);
}

void copy_site_mirror_void(struct group *group)
{
    struct site *site = &group->site;
    site->peer_known = site->peer_kept = site->peer_quiet = false;
    site->mirror_volume = 0;
    site->mirror_byte = 0;
    site->mirror_marks = false; /* a returned peer is filled with the whole bitmap */
}

void copy_site_paired(struct array *array)
{
    for (uint32_t i = 0; i < array->config.group_count; i++)
        array->copy.groups[i].site.unsaid = true;
}

/* ---- starting, being out ---- */

void copy_site_forget(struct group *group)
{
    struct site *site = &group->site;
    note_role(group);
    site->known_cycle = 0;
    site->all_marked = site->lacks = false;
    site->gives = GIVES_NOTHING;
    copy_marks_begin_anew(group);
}

void copy_site_note_fresh(struct array *array)
{
    array->copy.fresh_in = array->role.expected.in;
}

/* Nobody but this controller can have changed the role since its record was kept: each time that
 * the other one serves alone, and each time that this one begins, the epoch goes up. Without a
 * record only the very first start of the pair is certainly in the first era. */
static bool record_is_current(const struct array *array, const struct site_record *kept)
{
    uint64_t epoch = array->role.epoch;
    if (epoch == kept->epoch + 1 || MISTAKE(old_record_believed))
        return true;
    if (array->copy.fresh_in != 0)
        return false;
    return (kept->stop == SITE_STOPPED && epoch == kept->epoch + 2) ||
           (kept->stop == SITE_LEFT && epoch == kept->epoch + 3);
}

void copy_site_fresh(struct array *array, struct group *group)
{
    struct site *site = &group->site;
    struct site_record kept = site->kept;
    bool current = record_is_current(array, &kept);
    bool stopped = kept.stop == SITE_STOPPED && kept.epoch + 2 == array->role.epoch;
    /* Nothing is received any more once both stop; of a bitmap that could not be said. */
    bool left = kept.stop == SITE_LEFT && kept.epoch + 3 == array->role.epoch &&
                kept.role == SITE_RECEIVING;
    bool whole = current && array->copy.fresh_in == 0 && (stopped || left) &&
                 copy_site_restore(array, group);
    site->bitmap_loaded = site->sync_due = false;
    site->now = kept;
    site->now.stop = SITE_RUNS;
    /* What is missing here may be at the second array, and only there. */
    bool lacking = kept.role == SITE_PRIMARY && array->role.loss_accepted && !MISTAKE(loss_copied);
    group->suspended = kept.suspended || lacking;
    site->settled = current;
    site->unsaid = false;
    group->reason = role_texts[kept.role];
    site->lacks = !whole && copy_last_is_the_other(array, &kept);
    if (!whole && !site->lacks && kept.role != SITE_RECEIVING) {
        regions_mark_all(&group->sender.regions);
        site->now.marks = site->all_marked = true;
        group->reason = kept.role == SITE_PRIMARY
                            ? "nothing is known of what the second array holds"
                            : role_texts[kept.role];
    }
    if (lacking)
        group->reason = accepted_text;
    note_role(group);
    site->patient = !current;
    site->doubt_us = array->now_us;
    if (!current)
        be_unknown(array, group,
                   "the other controller has served alone since this one was last there, and may "
                   "know of a failover: start it, or say resume --force here");
    refresh(array, group);
}

static void answer_operator(struct array *array, struct group *group, bool done, const char *text)
{
    if (group->site.asked)
        array_reply(array, group->site.handle, done, text);
    group->site.asked = false;
}

void copy_site_leave(struct array *array, struct group *group)
{
    struct site *site = &group->site;
    answer_operator(array, group, false,
                    "this controller went out meanwhile: see the group's status at the other one");
    site->changing = site->cutting = site->unsaid = false;
    site->peer_known = site->peer_kept = site->peer_quiet = false;
    site->mirror_marks = false;
}

/* ---- the pump ---- */

static void settle(struct array *array, struct group *group)
{
    struct site *site = &group->site;
    const struct site_record *now = &site->now;
    if (site->settled || now->unknown || !copy_site_is_kept(site))
        return;
    if (array->role.state == ROLE_PAIRED &&
        !(site->peer_known && site->peer_kept && site->peer_era == now->era &&
          site->peer_role == now->role) &&
        !MISTAKE(peer_record_not_awaited))
        return;
    site->settled = true;
    site->unsaid = true;
}

static bool no_request_active(const struct array *array, const struct group *group)
{
    for (uint32_t place = 0; place < group->config->volume_count; place++) {
        if (array->volumes[group->config->volumes[place]].active > 0)
            return false;
    }
    return true;
}

/* Fenced, and nothing of a host's is under way any more: from here on the bitmap does not change by
 * what this controller does, and all that it did stands before this in its stream. */
static void note_quiet(const struct array *array, struct group *group)
{
    struct site *site = &group->site;
    if (site->now.role != SITE_FENCED || site->quiet_said || !no_request_active(array, group))
        return;
    site->quiet_said = site->unsaid = true;
}

static void answer_when_done(struct array *array, struct group *group)
{
    struct site *site = &group->site;
    char text[TRACE_LINE], when[WALL_TEXT] = "an unknown time";
    if (!site->asked || site->changing || site->cutting || !site->settled)
        return;
    if (site->action == GROUP_FAILOVER && site->open) {
        if (site->promoted_wall_us > 0)
            wall_text(when, site->promoted_wall_us);
        snprintf(text, sizeof text, "failed over at cycle %llu of %s, era %llu",
                 (unsigned long long)site->promoted, when, (unsigned long long)site->now.era);
        answer_operator(array, group, true, text);
    } else if (site->action == GROUP_REVERSE) {
        answer_operator(array, group, true,
                        "reversed: what differs is copied to the other array as soon as it takes "
                        "it");
    }
}

/* Before anything is received both controllers have to know the same of what came before: terms,
 * cycles, the memory number. While the group is on its way the new owner is the one that tells. */
static void sync_receivers(struct array *array, struct group *group)
{
    struct site *site = &group->site;
    bool tells = array->mirroring && array_owns(array, group->config->volumes[0]);
    bool leaves = array->volumes[group->config->volumes[0]].move == MOVE_SENT;
    /* Who lacks what the peer knows cannot tell it: it hears that first. */
    if (!site->sync_due || site->lacks || (array->mirroring && (site->unsaid || leaves)))
        return;
    if (tells && copy_receives(group)) {
        if (group->second.saying || !lists_have_room(&array->lists, 1, true))
            return;
        copy_second_say_all(array, group);
    }
    site->sync_due = false;
}

void copy_site_pump(struct array *array, struct group *group)
{
    struct site *site = &group->site;
    copy_last_pump(array, group);
    if (!site->now.unknown)
        site->now.epoch = array->role.epoch;
    if (site->patient && array->now_us >= site->doubt_us + PATIENCE_US) {
        site->patient = false;
        array->service_stamp++;
        host_resume(array, &array->held);
    }
    site->now.suspended = group->suspended;
    /* The slots that are given up are used again: the peer has to hear of this before that. */
    if (site->changing && !copy_second_busy(array, group) &&
        (!array->mirroring || lists_have_room(&array->lists, 1, true))) {
        enter(array, group, site->next_era, site->next_role);
        if (array->mirroring)
            copy_site_say(array, group, false);
    }
    note_quiet(array, group);
    (void)copy_site_keep(array, group);
    settle(array, group);
    refresh(array, group);
    copy_marks_give(array, group);
    copy_marks_mirror(array, group);
    if (site->unsaid && array->mirroring && lists_have_room(&array->lists, 1, true))
        copy_site_say(array, group, false);
    sync_receivers(array, group);
    answer_when_done(array, group);
}

uint64_t copy_site_deadline(const struct array *array, const struct group *group)
{
    const struct site *site = &group->site;
    uint64_t deadline = site->retry_us > array->now_us ? site->retry_us : UINT64_MAX;
    return copy_site_waits(group) ? min_u64(deadline, site->doubt_us + PATIENCE_US) : deadline;
}

bool copy_site_stopped(struct array *array, bool left)
{
    bool all = true;
    for (uint32_t i = 0; i < array->config.group_count; i++) {
        struct group *group = &array->copy.groups[i];
        struct site *site = &group->site;
        answer_operator(array, group, false, "this controller stops");
        if (!left && !site->now.unknown)
            copy_last_give_up(array, group, "the other controller was not back before this stop",
                              false);
        if (!left)
            copy_fall(array, group, "this controller stops", false);
        if (!site->now.unknown)
            site->now.epoch = array->role.epoch;
        site->now.suspended = group->suspended; /* since the pump, a loss may have been accepted */
        site->now.stop = !left ? SITE_STOPPED : array->peer_stopping ? SITE_LEFT : SITE_RUNS;
        bool ready =
            !site->changing && !copy_second_busy(array, group) && copy_site_keep(array, group);
        all &= ready || site->stop_failed;
    }
    return all;
}

/* ---- the operator ---- */

static uint64_t shown_cut(const struct group *group)
{
    return group->site.now.role == SITE_RECEIVING && copy_receives(group)
               ? group->second.receiver.promoted_cut
               : group->site.promoted_cut;
}

static const char *refuse_to_leave(const struct array *array, const struct group *group, bool force)
{
    const struct site *site = &group->site;
    if (has_truth(site) && !site->now.unknown)
        return "the group's truth is here already";
    if (!array_owns(array, group->config->volumes[0]))
        return "the other controller holds the group: ask it";
    if (force)
        return NULL;
    if (site->now.unknown)
        return "another controller may know better than the record here: see the status, or say "
               "--force";
    if (site->now.role == SITE_FENCED)
        return "the other array was failed over: --force gives up what was written there since";
    if (site->heard_us != 0 && array->now_us - site->heard_us < HEARD_US)
        return "the other array still answers: stop its hosts and suspend the group there, or say "
               "--force";
    return NULL;
}

/* `cut`: not 0, and it has to be promoted first. */
static const char *refuse_failover(const struct array *array, const struct group *group,
                                   uint64_t cut, bool force)
{
    const struct receiver *receiver = &group->second.receiver;
    const char *why = refuse_to_leave(array, group, force);
    if (why != NULL || force)
        return why;
    bool shown = cut == 0 || cut == shown_cut(group);
    if (shown ? !receiver->consistent
              : !receiver_is_consistent(receiver, receiver_find_cut(receiver, cut)))
        return "the copy is not consistent: --force serves it as it is";
    return NULL;
}

/* A set is failed over to one cut at all its second arrays. */
static const char *refuse_cut(const struct group *group, uint64_t cut)
{
    uint64_t shown = shown_cut(group);
    if (cut == shown)
        return NULL;
    if (group->site.now.role != SITE_RECEIVING || !copy_receives(group))
        return "this site does not hold the copy";
    if (cut < shown)
        return "a newer cut than this one has been promoted here";
    if (receiver_find_cut(&group->second.receiver, cut) == 0)
        return "this cut is not held here";
    return NULL;
}

static void take_over(struct group *group)
{
    if (group->site.now.role == SITE_RECEIVING)
        group->site.lacks = false; /* what the copy would go on from is of no use any more */
    uint64_t era = max_u64(group->site.now.era, group->site.heard_era) + 1;
    change_to(group, era + !truth_is_here(group, era), SITE_FAILED_OVER);
}

static const char *begin_failover(struct array *array, struct group *group, uint64_t cut,
                                  bool force)
{
    const char *why = cut == 0 ? NULL : refuse_cut(group, cut);
    if (why == NULL)
        why = refuse_failover(array, group, cut, force);
    if (why != NULL)
        return why;
    if (cut != 0 && cut != shown_cut(group)) {
        group->site.cutting = true;
        copy_second_promote_cut(array, group, cut);
        return NULL;
    }
    take_over(group);
    return NULL;
}

void copy_site_cut_over(struct array *array, struct group *group, bool good)
{
    struct site *site = &group->site;
    if (!site->cutting)
        return;
    site->cutting = false;
    if (good && site->now.role == SITE_RECEIVING)
        take_over(group);
    else
        answer_operator(array, group, false, "the cut could not be promoted: see the status");
}

static const char *begin_reverse(struct array *array, struct group *group)
{
    const struct site *site = &group->site;
    if (site->now.role == SITE_PRIMARY && !site->now.unknown)
        return "this array is the primary already";
    if (site->now.role != SITE_FAILED_OVER || site->now.unknown || !site->settled)
        return "only what was failed over can be reversed, where it was";
    enter(array, group, site->now.era, SITE_PRIMARY);
    return NULL;
}

static void suspend_or_resume(struct array *array, struct group *group, uint64_t handle,
                              bool suspend, bool force)
{
    struct site *site = &group->site;
    if (site->now.unknown && !suspend && force && site->heard_era <= site->now.era) {
        be_known(array, group);
        copy_last_give_up(array, group, "an operator said that the record here counts", true);
        array_reply(array, handle, true, "the record here counts");
        return;
    }
    if (site->now.role != SITE_PRIMARY || site->now.unknown) {
        array_reply(array, handle, false, role_texts[site->now.role]);
        return;
    }
    if (site->lacks && !suspend) {
        array_reply(array, handle, false, copy_last_text);
        return;
    }
    if (group->suspended == suspend) {
        array_reply(array, handle, true,
                    suspend ? "it is suspended already" : "it is not suspended");
        return;
    }
    group->suspended = suspend;
    group->resumed = !suspend;
    copy_fall(array, group, suspend ? "an operator suspended it" : "an operator resumed it", true);
    group->fall_unsaid = array->mirroring;
    array_reply(array, handle, true, suspend ? "suspended" : "resumed");
}

static void resync(struct array *array, struct group *group, uint64_t handle, bool force)
{
    const struct site *site = &group->site;
    if (site->lacks && !site->now.unknown) {
        if (force)
            copy_last_give_up(array, group, "an operator asked for it", true);
        array_reply(array, handle, force, force ? "all of it counts as different" : copy_last_text);
        return;
    }
    if (site->now.role != SITE_PRIMARY || site->now.unknown) {
        array_reply(array, handle, false, role_texts[site->now.role]);
        return;
    }
    if (force)
        copy_site_mark_all(array, group, "an operator asked for it");
    else
        copy_fall(array, group, "an operator asked for a resynchronisation", true);
    group->rise_us = array->now_us;
    array_reply(array, handle, true,
                force ? "everything is copied anew" : "what is marked is copied");
}

static void operate(struct array *array, uint64_t handle, uint8_t number, enum group_action action,
                    uint64_t cut, bool force)
{
    CHECK(number < array->config.group_count);
    struct group *group = &array->copy.groups[number];
    struct site *site = &group->site;
    const char *why = NULL;
    if (!copy_serves(array))
        why = "this controller does not serve: ask the other one";
    else if (array->stopping)
        why = "this controller stops";
    else if (site->asked || site->changing || site->cutting)
        why = "a change of its role is under way";
    else if (action == GROUP_FAILOVER)
        why = begin_failover(array, group, cut, force);
    else if (action == GROUP_STAND)
        why = refuse_to_leave(array, group, force);
    else if (action == GROUP_REVERSE)
        why = begin_reverse(array, group);
    if (why != NULL) {
        array_reply(array, handle, false, why);
    } else if (action == GROUP_FAILOVER || action == GROUP_REVERSE) {
        site->asked = true;
        site->handle = handle;
        site->action = action;
    } else if (action == GROUP_STAND) {
        group->second.stands_us = array->now_us + STAND_US;
        array_reply(array, handle, true, "what is shown stands for half a minute");
    } else if (action == GROUP_RESYNC) {
        resync(array, group, handle, force);
    } else {
        suspend_or_resume(array, group, handle, action == GROUP_SUSPEND, force);
    }
}

void array_operator_group(struct array *array, uint64_t now_us, uint64_t handle, uint8_t number,
                          enum group_action action, bool force)
{
    array_begin(array, now_us);
    operate(array, handle, number, action, 0, force);
}

void array_operator_failover(struct array *array, uint64_t now_us, uint64_t handle, uint8_t number,
                             uint64_t cut, bool force)
{
    array_begin(array, now_us);
    operate(array, handle, number, GROUP_FAILOVER, cut, force);
}
