/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See cuts.h. A cycle's records are put together by the rules of docs/remote-copy.md alone: of two
 * records about a sector the one of the higher generation wins, within a generation a page over a
 * range, and a base page is below everything. */

#include "sim/cuts.h"

#include "base/bytes.h"
#include "sim/copies.h"
#include "sim/focus.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sent {
    struct sent *next;
    struct copy_head head;
    bool from_second;
    uint32_t length;
    uint8_t *bytes;
};

/* What stands there: it is known; a controller alone died, and its last promotion may have reached
 * the stores in part; the site has lost some of it, and everything has to come again. */
enum { VAGUE_NOT, VAGUE_LOST, VAGUE_MAYBE };

struct image {
    uint64_t sectors, cells;
    uint8_t *bytes;
    uint8_t *vague;    /* by sector: VAGUE_* */
    uint64_t *key;     /* by sector: the best record of the cycle that is being built */
    uint64_t *due;     /* by cell: an acknowledged write that may not be missing any more */
    uint8_t place[2];  /* the volume's number at each site */
    uint8_t in_oracle; /* and what the oracle calls it */
};

struct cut_group {
    const struct twin *twin;
    bool may_go_back; /* the other site has lost what it had acknowledged */
    bool blackout;    /* both controllers there were without memory since it was last asked */
    bool forward;  /* from one consistent image to the next: marked pages may have been read late */
    bool forked;   /* a site that hosts had written to receives: it has what nobody knows here */
    bool fresh;    /* the copy goes another way since a failover: cycles count anew */
    bool hosts_at; /* which site's they are: the first one's, or the second one's */
    uint32_t image_count;
    struct image *images;
    struct sent *sent;
    uint64_t promoted;
    bool consistent;       /* the last image was called so, and was checked */
    bool lost;             /* the site that holds the copy has lost some of it */
    bool loss_asked;       /* that is to be accepted, if it is so */
    bool lacking;          /* the original has accepted a loss, and the operator has not decided */
    bool lacking_kept;     /* and a record of that is durable */
    uint64_t vague;        /* sectors */
    uint64_t latest;       /* the begin of the latest write that any image showed */
    uint64_t facts;        /* of what hosts know to have happened, so much has been looked at */
    uint64_t floor;        /* those that began before may be missing: a loss was accepted */
    uint64_t loss_term[2]; /* by site: what left there in it or before knows nothing of a loss */
    uint64_t serial;       /* of built cycles */
    uint64_t changes;      /* of what may be read there */
    /* Of a set: */
    uint64_t cut; /* that the image is; 0: none */
    uint64_t promoted_term;
    uint64_t named_cut;  /* that an operator has named */
    uint64_t newest_cut; /* that it ever was, or was about to be */
    uint64_t memory;     /* the second array's memory number, and how many common cuts there had */
    uint64_t memory_since; /* been when it was a new one */
};

struct cuts {
    struct world *root;
    uint64_t common;       /* of a set: the newest cut that all images were of at one moment */
    uint64_t common_count; /* so many were there */
    struct cut_group groups[TWINS_LIMIT];
    uint32_t group_count;
    uint64_t *shown; /* every sector that was ever shown, by its place and bytes: a hash */
    uint64_t shown_count, shown_room;
};

/* ---- what was ever shown ---- */

static uint64_t sector_hash(const struct image *image, uint64_t sector, const uint8_t *bytes)
{
    uint64_t hash = (sector << 8 | image->in_oracle) * 0x9E3779B97F4A7C15u;
    for (uint32_t i = 0; i < SECTOR_SIZE / sizeof(uint64_t); i++) {
        uint64_t word;
        memcpy(&word, bytes + i * sizeof word, sizeof word);
        hash = (hash ^ word) * 0xBF58476D1CE4E5B9u;
        hash ^= hash >> 29;
    }
    return hash | 1;
}

static bool shown_find(const struct cuts *cuts, uint64_t hash, uint64_t *at)
{
    uint64_t mask = cuts->shown_room - 1;
    for (*at = hash & mask; cuts->shown[*at] != 0; *at = (*at + 1) & mask)
        if (cuts->shown[*at] == hash)
            return true;
    return false;
}

static void shown_add(struct cuts *cuts, uint64_t hash)
{
    uint64_t at;
    if (shown_find(cuts, hash, &at))
        return;
    cuts->shown[at] = hash;
    if (++cuts->shown_count * 2 < cuts->shown_room)
        return;
    uint64_t *old = cuts->shown, room = cuts->shown_room;
    cuts->shown_room *= 2;
    cuts->shown = calloc(cuts->shown_room, sizeof *cuts->shown);
    CHECK(cuts->shown != NULL);
    for (uint64_t i = 0; i < room; i++)
        if (old[i] != 0 && !shown_find(cuts, old[i], &at))
            cuts->shown[at] = old[i];
    free(old);
}

static bool was_shown(const struct cuts *cuts, const struct image *image, uint64_t sector,
                      const uint8_t *bytes)
{
    uint64_t at;
    return bytes_all_zero(bytes, SECTOR_SIZE) ||
           shown_find(cuts, sector_hash(image, sector, bytes), &at);
}

/* ---- life ---- */

static void image_create(struct image *image, const struct world *first, uint8_t here,
                         uint8_t there)
{
    uint64_t pages =
        (first->config.volumes[here].size_bytes + PAGE_SIZE_BYTES - 1) / PAGE_SIZE_BYTES;
    image->sectors = pages * PAGE_SECTORS;
    image->cells = first->config.volumes[here].size_bytes / first->cell_bytes;
    image->bytes = calloc(image->sectors, SECTOR_SIZE);
    image->vague = calloc(image->sectors, 1);
    image->key = calloc(image->sectors, sizeof *image->key);
    image->due = calloc(image->cells, sizeof *image->due);
    CHECK(image->bytes != NULL && image->vague != NULL);
    CHECK(image->key != NULL && image->due != NULL);
    image->place[0] = here;
    image->place[1] = there;
    image->in_oracle = first->oracle_volume[here];
}

struct cuts *cuts_create(struct world *root)
{
    struct cuts *cuts = calloc(1, sizeof *cuts);
    CHECK(cuts != NULL);
    cuts->root = root;
    cuts->group_count = root->twin_count;
    cuts->shown_room = 1 << 12;
    cuts->shown = calloc(cuts->shown_room, sizeof *cuts->shown);
    CHECK(cuts->shown != NULL);
    for (uint32_t g = 0; g < cuts->group_count; g++) {
        const struct twin *twin = &root->twins[g];
        const struct world *first = twin->site[0], *second = twin->site[1];
        const struct group_config *here = &first->config.groups[twin->group[0]];
        const struct group_config *there = &second->config.groups[twin->group[1]];
        struct cut_group *group = &cuts->groups[g];
        group->twin = twin;
        group->image_count = here->volume_count;
        group->images = calloc(group->image_count, sizeof *group->images);
        CHECK(group->images != NULL);
        for (uint32_t i = 0; i < group->image_count; i++)
            image_create(&group->images[i], first, here->volumes[i], there->volumes[i]);
    }
    return cuts;
}

static void sent_free(struct sent *sent)
{
    free(sent->bytes);
    free(sent);
}

void cuts_destroy(struct cuts *cuts)
{
    for (uint32_t g = 0; g < cuts->group_count; g++) {
        struct cut_group *group = &cuts->groups[g];
        while (group->sent) {
            struct sent *sent = group->sent;
            group->sent = sent->next;
            sent_free(sent);
        }
        for (uint32_t i = 0; i < group->image_count; i++) {
            free(group->images[i].bytes);
            free(group->images[i].vague);
            free(group->images[i].key);
            free(group->images[i].due);
        }
        free(group->images);
    }
    free(cuts->shown);
    free(cuts);
}

/* Which one a group of this array is. */
static struct cut_group *group_of(const struct world *world, uint8_t group)
{
    return &world->cuts->groups[world_twin(world, group)];
}

/* ---- what leaves ---- */

void cuts_sent(struct world *from, uint8_t index, const uint8_t *bytes, uint32_t length)
{
    struct cut_group *group = group_of(from, index);
    struct copy_head head;
    const char *wrong = record_get_head(bytes, length, &head);
    CHECK(wrong == NULL);
    if (bytes[COPY_HEAD_SIZE] > RECORD_PROMOTE)
        return; /* which pages differ, on the way home: no data */
    if (group->lacking && bytes[COPY_HEAD_SIZE] == RECORD_PROMOTE &&
        group->hosts_at == from->second)
        world_fail(from, "what an accepted loss left is copied over a better copy");
    for (struct sent *sent = group->sent; sent; sent = sent->next) {
        if (sent->from_second != from->second || sent->head.half != head.half ||
            sent->head.era != head.era || sent->head.term != head.term ||
            sent->head.number != head.number)
            continue;
        if (sent->length != length || memcmp(sent->bytes, bytes, length) != 0)
            world_fail(from,
                       "batch %" PRIu64 " of half %u in term %" PRIu64
                       " is sent again with other bytes",
                       head.number, head.half, head.term);
        return;
    }
    struct sent *sent = calloc(1, sizeof *sent);
    CHECK(sent != NULL);
    *sent = (struct sent){.next = group->sent,
                          .head = head,
                          .from_second = from->second,
                          .length = length,
                          .bytes = malloc(length)};
    CHECK(sent->bytes != NULL);
    memcpy(sent->bytes, bytes, length);
    group->sent = sent;
}

/* ---- building an image ---- */

static const char *site_of(const struct image *image, char text[64], uint64_t sector)
{
    snprintf(text, 64, "volume %u (of the first site), byte %" PRIu64, image->place[0],
             sector * SECTOR_SIZE);
    return text;
}

/* One sector has new bytes: what it shows is noted. */
static void show(struct world *world, struct cut_group *group, struct image *image, uint64_t sector,
                 const uint8_t *bytes)
{
    struct oracle *oracle = world->oracle;
    uint32_t cell_bytes = world->cell_bytes;
    uint8_t *to = image->bytes + sector * SECTOR_SIZE;
    char text[64];
    for (uint32_t at = 0; at < SECTOR_SIZE; at += cell_bytes) {
        uint64_t cell = (sector * SECTOR_SIZE + at) / cell_bytes, id, before;
        if (cell >= image->cells)
            break;
        if (!oracle_decode(oracle, image->in_oracle, cell, bytes + at, &id))
            world_fail(world, "the copy of %s gets bytes that nobody wrote there",
                       site_of(image, text, sector));
        bool known = oracle_decode(oracle, image->in_oracle, cell, to + at, &before);
        CHECK(known);
        if (id == 0)
            continue;
        const struct oracle_write *write = oracle_write_of(oracle, id);
        group->latest = max_u64(group->latest, write->begin);
        if (write->never)
            world_fail(world, "the copy of %s gets write %" PRIu64 ", which was refused",
                       site_of(image, text, sector), id);
        /* One that was never acknowledged may be promoted and then be lost by a controller that
         * serves alone. */
        bool kept = before != 0 && !oracle_write_of(oracle, before)->unknown &&
                    oracle_write_of(oracle, before)->end != UINT64_MAX;
        if (kept && before != id && group->forward && !group->may_go_back && !group->lost &&
            !image->vague[sector] && write->end < oracle_write_of(oracle, before)->begin)
            world_fail(world, "the copy of %s goes back from write %" PRIu64 " to %" PRIu64,
                       site_of(image, text, sector), before, id);
    }
    memcpy(to, bytes, SECTOR_SIZE);
    group->vague -= image->vague[sector] == VAGUE_LOST;
    image->vague[sector] = VAGUE_NOT;
    shown_add(world->cuts, sector_hash(image, sector, bytes));
}

typedef void each_record(struct world *world, struct cut_group *group, const struct record *record,
                         const uint8_t *data);

static uint64_t key_of(const struct cut_group *group, const struct record *record)
{
    uint64_t rank = record->type == RECORD_ZERO   ? record->generation * UINT64_C(2) + 1
                    : record->flags & RECORD_BASE ? 1
                                                  : record->generation * UINT64_C(2) + 2;
    return group->serial << 40 | rank;
}

static void rank_record(struct world *world, struct cut_group *group, const struct record *record,
                        const uint8_t *data)
{
    (void)world;
    (void)data;
    struct image *image = &group->images[record->volume];
    uint64_t key = key_of(group, record);
    uint64_t first = record->page * PAGE_SECTORS, count = PAGE_SECTORS;
    if (record->type == RECORD_ZERO)
        count *= record->count;
    for (uint64_t i = 0; i < count; i++)
        if (record->type == RECORD_ZERO || record->sectors & 1u << i)
            image->key[first + i] = max_u64(image->key[first + i], key);
}

static void show_record(struct world *world, struct cut_group *group, const struct record *record,
                        const uint8_t *data)
{
    static const uint8_t zeros[SECTOR_SIZE];
    struct image *image = &group->images[record->volume];
    uint64_t key = key_of(group, record);
    uint64_t first = record->page * PAGE_SECTORS, count = PAGE_SECTORS;
    if (record->type == RECORD_ZERO)
        count *= record->count;
    for (uint64_t i = 0; i < count; i++) {
        if (record->type == RECORD_PAGE && !(record->sectors & 1u << i))
            continue;
        if (image->key[first + i] == key)
            show(world, group, image, first + i, record->type == RECORD_ZERO ? zeros : data);
        if (record->type == RECORD_PAGE)
            data += SECTOR_SIZE;
    }
}

static void each_of_batch(struct world *world, struct cut_group *group, const struct sent *sent,
                          each_record *visit)
{
    const uint8_t *records = sent->bytes + COPY_HEAD_SIZE;
    const uint8_t *data = records + sent->head.record_count * COPY_RECORD_SIZE;
    for (uint32_t i = 0; i < sent->head.record_count; i++) {
        struct record record;
        const char *wrong = record_get(records + i * COPY_RECORD_SIZE, &record);
        if (wrong)
            world_fail(group->twin->site[!world->second], "a record that is not sound: %s", wrong);
        bool about = record.type == RECORD_PAGE || record.type == RECORD_ZERO;
        uint64_t pages = record.type == RECORD_ZERO ? record.count : 1;
        if (about && (record.volume >= group->image_count ||
                      (record.page + pages) * PAGE_SECTORS > group->images[record.volume].sectors))
            world_fail(group->twin->site[!world->second],
                       "a record about a page that is not there");
        if (about)
            visit(world, group, &record, data);
        data += record_data_bytes(&record);
    }
}

static void build(struct world *world, struct cut_group *group, uint64_t term, uint64_t cycle)
{
    group->serial++;
    for (const struct sent *sent = group->sent; sent; sent = sent->next)
        if (sent->head.term == term && sent->head.cycle == cycle &&
            sent->from_second != world->second)
            each_of_batch(world, group, sent, rank_record);
    for (const struct sent *sent = group->sent; sent; sent = sent->next)
        if (sent->head.term == term && sent->head.cycle == cycle &&
            sent->from_second != world->second)
            each_of_batch(world, group, sent, show_record);
}

/* ---- is it a cut? ---- */

static void check_cell(struct world *world, const struct cut_group *group,
                       const struct image *image, uint64_t cell)
{
    uint64_t due = image->due[cell], id;
    uint64_t byte = cell * world->cell_bytes;
    char text[64];
    if (due == 0 || image->vague[byte / SECTOR_SIZE])
        return;
    bool readable = oracle_decode(world->oracle, image->in_oracle, cell, image->bytes + byte, &id);
    CHECK(readable);
    if (oracle_no_older(world->oracle, image->in_oracle, cell, due, id))
        return;
    world_fail(world,
               "cycle %" PRIu64 " is no cut: %s holds write %" PRIu64 " and not %" PRIu64
               ", which was acknowledged or read before another write that it shows was issued",
               group->promoted, site_of(image, text, byte / SECTOR_SIZE), id, due);
}

static struct image *image_of(struct cut_group *group, uint8_t in_oracle)
{
    for (uint32_t i = 0; i < group->image_count; i++)
        if (group->images[i].in_oracle == in_oracle)
            return &group->images[i];
    return NULL;
}

/* What was acknowledged before the latest write that the copy shows was issued is due. */
static void look_at_due(struct world *world, struct cut_group *group, bool check)
{
    struct oracle *oracle = world->oracle;
    for (; group->facts < oracle_fact_count(oracle); group->facts++) {
        const struct oracle_fact *fact = oracle_fact(oracle, group->facts);
        const struct oracle_write *write = oracle_write_of(oracle, fact->id);
        uint64_t id = fact->id;
        if (fact->at >= group->latest)
            return;
        struct image *image = image_of(group, write->volume);
        if (image == NULL || write->begin < group->floor)
            continue;
        uint64_t end = (fact->offset + fact->length) / world->cell_bytes;
        for (uint64_t cell = fact->offset / world->cell_bytes; cell < end; cell++) {
            if (oracle_write_of(oracle, image->due[cell])->begin <= write->begin)
                image->due[cell] = id;
            if (check)
                check_cell(world, group, image, cell);
        }
    }
}

static void check_all(struct world *world, const struct cut_group *group)
{
    for (uint32_t i = 0; i < group->image_count; i++)
        for (uint64_t cell = 0; cell < group->images[i].cells; cell++)
            check_cell(world, group, &group->images[i], cell);
}

/* ---- promotions ---- */

static const struct sent *promotion_of(const struct world *world, const struct cut_group *group,
                                       const struct copy_state *state)
{
    const struct sent *found = NULL;
    for (const struct sent *sent = group->sent; sent; sent = sent->next) {
        bool names = sent->bytes[COPY_HEAD_SIZE] == RECORD_PROMOTE && !sent->head.keep &&
                     sent->head.cycle == state->promoted && sent->from_second != world->second &&
                     sent->head.term <= state->term;
        if (names && (found == NULL || sent->head.term > found->head.term))
            found = sent;
    }
    return found;
}

/* Of a set, when the cut is named and not the cycle: by an operator, or because another second
 * array has promoted it. Then it is the cycle whose END says so. */
static const struct sent *end_of(const struct world *world, const struct cut_group *group,
                                 const struct copy_state *state)
{
    const struct sent *end = NULL;
    bool named = group->named_cut == state->cut;
    for (const struct sent *sent = group->sent; sent && state->cut != 0; sent = sent->next) {
        if (sent->head.cut != state->cut || sent->from_second == world->second)
            continue;
        if (sent->head.keep)
            named = true;
        else if (sent->head.cycle == state->promoted &&
                 (end == NULL || sent->head.term > end->head.term))
            end = sent;
    }
    return named ? end : NULL;
}

/* Of a set: which cut the cycle is, as its ENDs say. */
static uint64_t cut_of(const struct world *world, const struct cut_group *group, uint64_t term,
                       uint64_t cycle)
{
    for (const struct sent *sent = group->sent; sent; sent = sent->next)
        if (sent->head.cut != 0 && !sent->head.keep && sent->head.term == term &&
            sent->head.cycle == cycle && sent->from_second != world->second)
            return sent->head.cut;
    return 0;
}

static void forget(struct cut_group *group, uint64_t term, uint64_t cycle)
{
    struct sent **at = &group->sent;
    while (*at) {
        struct sent *sent = *at;
        if (sent->head.cycle > cycle && sent->head.term >= term) {
            at = &sent->next;
            continue;
        }
        *at = sent->next;
        sent_free(sent);
    }
}

static void doubt_all(struct cut_group *group)
{
    for (uint32_t i = 0; i < group->image_count; i++)
        for (uint64_t s = 0; s < group->images[i].sectors; s++)
            if (group->images[i].vague[s] == VAGUE_NOT)
                group->images[i].vague[s] = VAGUE_MAYBE;
}

/* A copy that is consistent has everything: what was not in doubt has not come again. */
static void know_all(struct cut_group *group)
{
    for (uint32_t i = 0; i < group->image_count; i++)
        for (uint64_t s = 0; s < group->images[i].sectors; s++)
            if (group->images[i].vague[s] == VAGUE_MAYBE)
                group->images[i].vague[s] = VAGUE_NOT;
}

static void promote(struct world *world, struct cut_group *group, const struct copy_state *state)
{
    const struct sent *named = promotion_of(world, group, state);
    bool whole = named != NULL;
    if (named == NULL)
        named = end_of(world, group, state);
    if (named == NULL && group->fresh) {
        group->promoted = state->promoted;
        return;
    }
    if (named == NULL)
        world_fail(world, "cycle %" PRIu64 " is promoted, which the other site never named",
                   state->promoted);
    uint64_t term = named->head.term, cycle = named->head.cycle;
    struct record record;
    CHECK(record_get(named->bytes + COPY_HEAD_SIZE, &record) == NULL);
    bool consistent = whole ? (record.flags & RECORD_CONSISTENT) != 0
                            : (state->flags & COPY_STATE_CONSISTENT) != 0 ||
                                  (state->role == COPY_FAILED_OVER && group->consistent &&
                                   group->promoted_term == term);
    uint64_t from = max_u64(group->promoted + 1, named->head.first);
    group->forward = consistent && group->consistent;
    for (uint64_t c = from; c <= cycle; c++)
        build(world, group, term, c);
    group->promoted = cycle;
    group->promoted_term = term;
    uint64_t cut = cut_of(world, group, term, cycle);
    if (cut != 0 && cut < group->newest_cut && !group->lost)
        world_fail(world, "cut %" PRIu64 " is promoted after cut %" PRIu64, cut, group->newest_cut);
    group->cut = cut;
    group->fresh = false;
    group->changes++;
    world->count.cuts++;
    world->count.consistent += consistent;
    world_trace(world, "promoted is cycle %" PRIu64 "%s", cycle,
                consistent ? ", a consistent one" : "");
    if (consistent && group->vague > 0)
        world_fail(world,
                   "cycle %" PRIu64 " is called consistent, but %" PRIu64
                   " sectors that were lost have not come again",
                   cycle, group->vague);
    if (!consistent)
        group->consistent = false;
    look_at_due(world, group, false);
    if (consistent)
        check_all(world, group);
    if (consistent) {
        group->lost = group->forked = false;
        if (term > group->loss_term[!world->second])
            group->may_go_back = false;
        know_all(group);
    }
    group->consistent = consistent;
    forget(group, term, cycle);
}

/* ---- a set: several images ---- */

/* All images are of one cut: together they must be one, as each is by itself. */
static void check_common(struct cuts *cuts)
{
    uint64_t cut = cuts->groups[0].cut, latest = 0;
    for (uint32_t g = 0; g < cuts->group_count; g++) {
        const struct cut_group *group = &cuts->groups[g];
        if (group->cut != cut || cut == 0 || !group->consistent || group->lost || group->hosts_at)
            return;
        latest = max_u64(latest, group->latest);
    }
    if (cut == cuts->common)
        return;
    cuts->common = cut;
    cuts->common_count++;
    cuts->root->count.common_cuts++;
    world_trace(cuts->root, "all copies are cut %" PRIu64, cut);
    for (uint32_t g = 0; g < cuts->group_count; g++) {
        struct cut_group *group = &cuts->groups[g];
        struct world *second = group->twin->site[1];
        group->latest = latest;
        look_at_due(second, group, false);
        check_all(second, group);
    }
}

/* What the second array of another member is known to have lost since all were at one cut. */
static bool has_forgotten(const struct cuts *cuts, const struct cut_group *group,
                          const struct copy_state *state)
{
    return state->memory != group->memory || group->memory_since == cuts->common_count;
}

/* A second array shows a cut: each other one shows it, or holds it. */
static void check_held(struct world *world, const struct cut_group *shows, uint64_t cut)
{
    const struct cuts *cuts = world->cuts;
    for (uint32_t g = 0; g < cuts->group_count; g++) {
        const struct cut_group *group = &cuts->groups[g];
        struct world *second = group->twin->site[1];
        struct copy_state state;
        uint8_t holder = copies_holder(second, group->twin->group[1], &state);
        if (group == shows || holder == 2 ||
            array_group_role(second->controllers[holder].array, group->twin->group[1]) !=
                GROUP_ROLE_RECEIVING ||
            has_forgotten(cuts, group, &state) || !(state.flags & COPY_STATE_CONSISTENT))
            continue;
        if (state.cut < cut && state.held_cut < cut)
            world_fail(second,
                       "%c shows cut %" PRIu64 " of group %u and holds %" PRIu64
                       ", but another second array shows cut %" PRIu64,
                       world_letter(holder), state.cut, g, state.held_cut, cut);
    }
}

static void note_cut(struct world *world, uint8_t who, struct cut_group *group,
                     const struct copy_state *state)
{
    struct cuts *cuts = world->cuts;
    if (state->memory != group->memory) {
        group->memory = state->memory;
        group->memory_since = cuts->common_count;
    }
    if (state->cut < group->cut)
        world_fail(world, "%c shows cut %" PRIu64 ", and says that it is %" PRIu64,
                   world_letter(who), group->cut, state->cut);
    /* What it says may be about to be promoted: that counts, too. */
    if (state->cut > group->newest_cut) {
        group->newest_cut = state->cut;
        if (state->cut > cuts->common)
            check_held(world, group, state->cut);
    }
    check_common(cuts);
}

uint64_t cuts_common_count(const struct world *root)
{
    return root->cuts->common_count;
}

void cuts_name(struct world *root, uint64_t cut)
{
    for (uint32_t g = 0; g < root->cuts->group_count; g++)
        root->cuts->groups[g].named_cut = cut;
}

bool cuts_may_refuse(const struct world *root, uint64_t cut)
{
    const struct cuts *cuts = root->cuts;
    for (uint32_t g = 0; g < cuts->group_count; g++) {
        const struct cut_group *group = &cuts->groups[g];
        struct copy_state state;
        if (!copies_is_copy(group->twin->site[1], group->twin->group[1]))
            continue; /* it has done so */
        if (group->lost || group->blackout || !group->consistent || group->newest_cut == 0 ||
            copies_holder(group->twin->site[1], group->twin->group[1], &state) == 2 ||
            has_forgotten(cuts, group, &state))
            return true;
    }
    return cut == 0;
}

void cuts_check_failover(struct world *root, uint64_t cut)
{
    bool consistent = true;
    for (uint32_t g = 0; g < root->cuts->group_count; g++) {
        const struct cut_group *group = &root->cuts->groups[g];
        consistent = consistent && group->consistent && !group->lost;
        if (group->cut != cut)
            world_fail(group->twin->site[1],
                       "group %u was failed over to cut %" PRIu64 ", but shows cut %" PRIu64, g,
                       cut, group->cut);
    }
    if (root->cuts->common != cut && consistent)
        world_fail(root, "cut %" PRIu64 " was failed over to, and is no common one", cut);
}

static void lose(struct world *world, struct cut_group *group)
{
    group->lost = true;
    group->loss_asked = group->consistent = false;
    group->vague = 0;
    for (uint32_t i = 0; i < group->image_count; i++) {
        struct image *image = &group->images[i];
        memset(image->vague, VAGUE_LOST, image->sectors);
        uint64_t there = (image->cells * world->cell_bytes + SECTOR_SIZE - 1) / SECTOR_SIZE;
        memset(image->vague + there, 0, image->sectors - there);
        group->vague += there;
    }
}

void cuts_state(struct world *world, uint8_t who, uint8_t index, const struct copy_state *state)
{
    struct cut_group *group = group_of(world, index);
    bool consistent = state->flags & COPY_STATE_CONSISTENT;
    if (group->hosts_at == world->second)
        return; /* hosts write here now, or wait until they may write at home again */
    if (group->loss_asked && !consistent)
        lose(world, group);
    group->loss_asked = false; /* refused: the other controller had it all along */
    if (state->promoted < group->promoted) {
        bool forgot = group->blackout && !consistent;
        if (!group->lost && !group->fresh && !forgot)
            world_fail(world, "the promoted cycle goes back at %c, from %" PRIu64 " to %" PRIu64,
                       world_letter(who), group->promoted, state->promoted);
        group->promoted = state->promoted;
        group->consistent = group->consistent && !forgot;
        group->cut = group->newest_cut = world->cuts->common = 0; /* and numbers may come again */
    }
    if (group->blackout && !consistent)
        doubt_all(group);
    group->blackout = false;
    if (state->promoted > group->promoted) {
        promote(world, group, state);
        focus_at(world, who, MOMENT_PROMOTED);
    }
    if (consistent && !group->consistent)
        world_fail(world, "%c says that the copy is consistent at cycle %" PRIu64 ", but it is not",
                   world_letter(who), state->promoted);
    if (world->calls)
        note_cut(world, who, group, state);
}

void cuts_late(struct world *world, uint8_t who, uint8_t index, const struct copy_state *state)
{
    const struct cut_group *group = group_of(world, index);
    if (state->promoted > group->promoted &&
        (promotion_of(world, group, state) != NULL || end_of(world, group, state) != NULL))
        cuts_state(world, who, index, state);
}

/* ---- what is seen there ---- */

static struct image *find(const struct world *world, uint8_t volume, struct cut_group **found)
{
    for (uint32_t g = 0; g < world->cuts->group_count; g++) {
        struct cut_group *group = &world->cuts->groups[g];
        if (!world_has_twin(world, (uint8_t)g))
            continue;
        for (uint32_t i = 0; i < group->image_count; i++)
            if (group->images[i].place[world->second] == volume) {
                *found = group;
                return &group->images[i];
            }
    }
    return NULL;
}

void cuts_landed(struct world *world, uint8_t store, uint64_t offset, uint64_t length,
                 const uint8_t *data)
{
    if (data == NULL || !world->second)
        return;
    for (uint8_t v = 0; v < world->config.volume_count; v++) {
        const struct volume_config *volume = &world->config.volumes[v];
        struct cut_group *group = world->cuts->groups;
        if (volume->store != store || offset < volume->store_offset_bytes ||
            offset + length > volume->store_offset_bytes + volume->size_bytes || !world->closed[v])
            continue;
        struct image *image = find(world, v, &group);
        if (image == NULL || !copies_is_copy(world, group->twin->group[world->second]))
            continue; /* it was failed over; whoever asked for that has not heard of it */
        uint64_t sector = (offset - volume->store_offset_bytes) / SECTOR_SIZE;
        for (uint64_t i = 0; i < length / SECTOR_SIZE; i++)
            if (!was_shown(world->cuts, image, sector + i, data + i * SECTOR_SIZE))
                world_fail(world,
                           "sector %" PRIu64 " of volume %u goes to the store with what no "
                           "promoted cycle has ever shown there (cycle %" PRIu64 ")",
                           sector + i, v, group->promoted);
    }
}

bool cuts_is_original(const struct world *world, uint8_t volume)
{
    struct cut_group *group = NULL;
    return world->cuts == NULL || find(world, volume, &group) == NULL ||
           group->hosts_at == world->second;
}

uint64_t cuts_count(const struct world *world, uint8_t volume)
{
    struct cut_group *group = NULL;
    if (world->cuts == NULL || find(world, volume, &group) == NULL)
        return 0;
    return group->changes;
}

void cuts_read(struct world *world, uint8_t volume, uint64_t offset, uint64_t length,
               const uint8_t *data, uint64_t since)
{
    struct cut_group *group;
    struct image *image = find(world, volume, &group);
    /* A loss that was asked for may have come true, and its state may not have been looked at. */
    if (image == NULL || group->lost || group->loss_asked || group->forked)
        return;
    for (uint64_t at = 0; at < length; at += world->cell_bytes) {
        uint64_t byte = offset + at, sector = byte / SECTOR_SIZE;
        bool same = memcmp(image->bytes + byte, data + at, world->cell_bytes) == 0;
        if (same || group->changes != since || image->vague[sector])
            continue;
        world_fail(world,
                   "a host reads from volume %u, byte %" PRIu64
                   ", what is not that of cycle %" PRIu64,
                   volume, byte, group->promoted);
    }
}

uint64_t cuts_promoted(const struct world *world, uint8_t index, bool *known)
{
    const struct cut_group *group = group_of(world, index);
    *known = group->vague == 0 && !group->lost && !group->loss_asked;
    return group->promoted;
}

void cuts_compare(struct world *world, uint8_t volume, const uint8_t *data)
{
    struct cut_group *group;
    struct image *image = find(world, volume, &group);
    CHECK(image != NULL);
    uint64_t size = world->config.volumes[volume].size_bytes;
    for (uint64_t at = 0; at < size; at += SECTOR_SIZE)
        if (memcmp(image->bytes + at, data + at, SECTOR_SIZE) != 0)
            world_fail(world,
                       "after a clean stop volume %u, byte %" PRIu64 ", is not what cycle %" PRIu64
                       " shows",
                       volume, at, group->promoted);
}

/* ---- losses and failovers ---- */

/* Nothing that was acknowledged before now is due any more. */
static void begin_anew(struct world *world, struct cut_group *group)
{
    group->floor = oracle_now(world->oracle) + 1;
    for (uint32_t i = 0; i < group->image_count; i++)
        memset(group->images[i].due, 0, group->images[i].cells * sizeof(uint64_t));
}

void cuts_blackout(struct world *world)
{
    for (uint32_t g = 0; world->cuts && g < world->cuts->group_count; g++) {
        struct cut_group *group = &world->cuts->groups[g];
        if (!world_has_twin(world, (uint8_t)g))
            continue;
        if (group->hosts_at != world->second)
            group->blackout = true;
        else if (!group->lacking_kept) /* of a group in doubt nothing is kept */
            group->lacking = false;
    }
}

/* A cycle that was held before a loss may be promoted after it: of a set, when the run is new. */
static uint64_t newest_term(const struct world *from, const struct cut_group *group)
{
    uint64_t newest = group->loss_term[from->second];
    for (const struct sent *sent = group->sent; sent; sent = sent->next)
        if (sent->from_second == from->second)
            newest = max_u64(newest, sent->head.term);
    return newest;
}

void cuts_loss(struct world *world)
{
    if (world->cuts == NULL)
        return;
    for (uint32_t g = 0; g < world->cuts->group_count; g++) {
        struct cut_group *group = &world->cuts->groups[g];
        if (!world_has_twin(world, (uint8_t)g))
            continue;
        if (group->hosts_at == world->second) {
            begin_anew(world, group); /* hosts' writes are lost */
            group->may_go_back = true;
            group->loss_term[world->second] = newest_term(world, group);
            continue;
        }
        group->loss_asked = true;
    }
}

void cuts_lacking(struct world *world)
{
    for (uint32_t g = 0; world->cuts && g < world->cuts->group_count; g++)
        if (world_has_twin(world, (uint8_t)g) && world->cuts->groups[g].hosts_at == world->second) {
            world->cuts->groups[g].lacking = true;
            world->cuts->groups[g].lacking_kept = false;
        }
}

void cuts_recorded(struct world *world, uint8_t index)
{
    struct cut_group *group = group_of(world, index);
    if (group->hosts_at == world->second)
        group->lacking_kept = true;
}

void cuts_decided(struct world *world, uint8_t index)
{
    world->cuts->groups[index].lacking = false;
}

void cuts_home(struct world *world, uint8_t index)
{
    struct cut_group *group = group_of(world, index);
    begin_anew(world, group);
    group->fresh = group->forked = true;
    group->consistent = false;
    group->hosts_at = world->second;
    while (group->sent) {
        struct sent *sent = group->sent;
        group->sent = sent->next;
        sent_free(sent);
    }
}

bool cuts_whole(const struct world *world, uint8_t index)
{
    const struct cut_group *group = &world->cuts->groups[index];
    return !group->lost && !group->loss_asked && !group->blackout;
}

/* What came home is not whole: the rest is as it was before the copy was failed over. */
void cuts_return(struct world *world, uint8_t index)
{
    struct cut_group *group = group_of(world, index);
    if (!group->consistent || group->forked)
        lose(world, group);
}

void cuts_failover(struct world *world, uint8_t index)
{
    struct cut_group *group = group_of(world, index);
    if (group->loss_asked)
        lose(world, group);
    if (group->blackout)
        doubt_all(group);
    for (uint32_t i = 0; i < group->image_count; i++) {
        struct image *image = &group->images[i];
        oracle_adopt(world->oracle, image->in_oracle, image->bytes, image->vague);
    }
    cuts_home(world, index);
}
