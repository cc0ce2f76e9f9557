/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The smallest world in which a group can be copied: two halves of a primary with slots that hold
 * the numbers of writes instead of bytes, the change stream between them, a second array of two
 * controllers with a stream of its own, and sessions whose messages come late, twice, in any order
 * or never. A test drives it from a seed. It does what array/ has to do with senders and receivers,
 * and nothing cleverer. */

#ifndef TESTS_COPY_WORLD_H
#define TESTS_COPY_WORLD_H

#include "base/crc32c.h"
#include "base/generator.h"
#include "copy/receiver.h"
#include "copy/sender.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    VOLUMES = 3,
    PAGES = 40,
    OWN = 400,
    SLOTS = 2 * OWN,
    HELD_SLOTS = 1000,
    QUEUE = 4096,
    FLIGHTS = 128,
    BASES = 512,
    WRITES = 4000,
    BUDGET = 120,
    CUTS = 16, /* views that are remembered, of each half */
};

typedef uint32_t cells[PAGE_SECTORS]; /* the number of the write whose bytes a sector holds */

struct mslot {
    bool used, superseded, mirrored;
    uint8_t volume, valid, dirty;
    uint32_t said; /* where its last header stands in the queue */
    uint64_t page;
    cells cell;
};

enum mtype {
    M_WRITE,
    M_ZEROING,
    M_DROP,
    M_RANGE,
    M_MARK,
    M_HELD,
    M_CONFIRM,
    M_BEGIN,
    M_RESTART,
    M_FALL,
    M_MOVE,
    M_JOIN,
    M_PAIR
};

struct mheader {
    enum mtype type;
    uint32_t slot, write;
    uint8_t volume, sectors, halves;
    uint8_t touched; /* by the write itself: `sectors` may be more */
    bool fresh, done;
    uint64_t page, count, cycle, term, first, confirmed, open;
    uint16_t generation[VOLUMES];
    cells cell;
};

/* What hosts of the group would read, as a half knows it: of each volume since it last owned it. */
struct view {
    uint64_t term, cycle;
    uint32_t tenure[VOLUMES]; /* the higher, the later it owned the volume */
    cells cell[VOLUMES][PAGES];
};

/* A range that a host zeroes: announced to the peer, then done on the store, then said. */
struct mzeroing {
    uint8_t volume;
    bool stored;
    uint64_t page, count; /* 0: none */
    uint32_t said;
};

struct mbase {
    bool ready;
    uint64_t cycle, first;
    uint32_t count;
    uint8_t volume;
    cells cell[64];
};

struct half {
    bool alive, in; /* in: serves, or is paired */
    bool streaming; /* its changes go to the peer */
    bool mirrors;   /* hosts wait for the peer, not for the store */
    bool fall_said; /* its own fall is not known to the peer yet */
    void *memory;
    struct pins pins;
    struct sender sender;
    struct mslot slot[SLOTS];
    uint32_t current[VOLUMES][PAGES];
    uint8_t owner[VOLUMES];
    bool giving[VOLUMES]; /* no host writes there until it can move */
    bool moving[VOLUMES];
    struct mheader queue[QUEUE];
    uint32_t queue_from, queue_to;
    struct mzeroing zeroing, announced; /* own, the peer's */
    bool session;
    uint32_t session_number;
    uint64_t memory_known;
    struct {
        uint8_t *bytes;
        uint32_t length;
    } sent[COPY_WINDOW];
    struct mbase base[BASES];
    uint32_t base_count;
    struct view view;
};

enum stype { S_HOLD, S_ZERO, S_END, S_BATCH, S_TERM, S_PROMOTE };

struct sheader {
    enum stype type;
    uint32_t slot;
    uint8_t half;
    uint32_t session;
    struct copy_head head;
    struct record record;
    struct receiver_counts counts;
    cells cell;
};

struct second {
    void *memory;
    struct receiver receiver;
    cells cell[HELD_SLOTS];
    uint32_t free[HELD_SLOTS];
    uint32_t free_count;
    cells visible[VOLUMES][PAGES];
};

struct flight {
    uint8_t *bytes;
    uint32_t length;
    uint8_t half;
    uint32_t session;
};

struct world {
    struct generator dice;
    uint64_t now_us, term, epoch;
    uint32_t tenure;
    struct half half[2];
    struct view cut[2][CUTS]; /* the halves' views when that cycle was closed */
    cells store[VOLUMES][PAGES];
    uint32_t write_count;
    uint32_t acked_at[WRITES];            /* writes issued when it was acknowledged, or 0 */
    uint32_t newest_zero[VOLUMES][PAGES]; /* ranges issued, acknowledged or not */
    uint32_t newest_acked[VOLUMES][PAGES][PAGE_SECTORS];
    struct second second[2];
    uint8_t main;
    bool second_paired;
    struct sheader squeue[QUEUE];
    uint32_t squeue_from, squeue_to;
    struct flight flight[FLIGHTS];
    uint64_t page_counts[VOLUMES];
    uint64_t memory_number;
    cells shown[VOLUMES][PAGES]; /* when it was last consistent */
    /* What has happened, so that a test can say that it did. */
    uint32_t promotions, consistent, takeovers, returns, falls, restarts, moves, second_lost, wiped,
        duplicates, refused, given_up, base_sent, ranges, compared;
};

static struct world *w;

static inline bool chance(uint32_t percent)
{
    return generator_chance(&w->dice, percent, 100);
}

static inline uint32_t below(uint32_t bound)
{
    return (uint32_t)generator_below(&w->dice, bound);
}

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail_msg("line %d: %s", __LINE__, #condition);                                         \
    } while (0)

/* COPY_TRACE=volume.page tells what happens to that page, and of cycles. */
static int trace_volume = -1, trace_page = -1;

#define TELL(...)                                                                                  \
    do {                                                                                           \
        if (trace_volume >= 0)                                                                     \
            printf(__VA_ARGS__);                                                                   \
    } while (0)
#define TELL_PAGE(v, p, ...)                                                                       \
    do {                                                                                           \
        if (trace_volume == (int)(v) && trace_page == (int)(p))                                    \
            printf(__VA_ARGS__);                                                                   \
    } while (0)

static void trace_begin(void)
{
    const char *asked = getenv("COPY_TRACE");
    if (asked != NULL)
        sscanf(asked, "%d.%d", &trace_volume, &trace_page);
}

/* ---- the second array ---- */

static const uint8_t group_id[COPY_ID_SIZE] = "group";

static void second_create(struct second *second)
{
    struct arena measure = arena_over(NULL, 0);
    struct receiver none;
    receiver_create(&none, &measure, HELD_SLOTS, HELD_SLOTS - 64, VOLUMES, w->page_counts, group_id,
                    w->memory_number);
    free(second->memory);
    second->memory = calloc(1, measure.used);
    struct arena arena = arena_over(second->memory, measure.used);
    receiver_create(&second->receiver, &arena, HELD_SLOTS, HELD_SLOTS - 64, VOLUMES, w->page_counts,
                    group_id, w->memory_number);
    second->free_count = HELD_SLOTS;
    for (uint32_t i = 0; i < HELD_SLOTS; i++)
        second->free[i] = HELD_SLOTS - 1 - i;
}

static void second_give(struct second *second, uint32_t slot)
{
    second->free[second->free_count++] = slot;
}

/* What the receiver gives out after a promotion or a new term. */
static void second_drain(struct second *second)
{
    struct receiver_popped popped;
    while (receiver_pop(&second->receiver, &popped)) {
        if (popped.slot == NO_INDEX) {
            for (uint64_t page = popped.page; page < popped.page + popped.count; page++)
                memset(second->visible[popped.volume][page], 0, sizeof(cells));
            continue;
        }
        uint32_t *visible = second->visible[popped.volume][popped.page];
        TELL_PAGE(popped.volume, popped.page, "  there: popped, discard %d sectors %x cell %u\n",
                  popped.discard, popped.sectors, second->cell[popped.slot][0]);
        uint8_t taken = 0, sectors = popped.sectors;
        for (uint32_t slot = popped.slot; slot != NO_INDEX;) {
            for (int s = 0; s < PAGE_SECTORS && !popped.discard; s++) {
                if (sectors & ~taken & 1 << s)
                    visible[s] = second->cell[slot][s];
            }
            taken |= sectors;
            second_give(second, slot);
            slot = receiver_older(&second->receiver, &sectors);
        }
    }
}

/* The view of the whole group at the cut that the receiver has promoted: NULL when no half knows it
 * any more. Of each volume the half counts that owned it last. */
static const cells *volume_at_cut(const struct receiver *receiver, int volume)
{
    const struct view *best = NULL;
    for (int i = 0; i < 2; i++) {
        const struct view *cut = &w->cut[i][receiver->promoted % CUTS];
        if (cut->term == receiver->term && cut->cycle == receiver->promoted &&
            (best == NULL || cut->tenure[volume] > best->tenure[volume]))
            best = cut;
    }
    return best == NULL ? NULL : best->cell[volume];
}

/* The copy is the state at one cut, in every sector. */
static void compare_with_the_cut(const struct second *second)
{
    for (int v = 0; v < VOLUMES; v++) {
        const cells *cut = volume_at_cut(&second->receiver, v);
        if (cut == NULL)
            return;
        w->compared++;
        for (int p = 0; p < PAGES; p++) {
            for (int s = 0; s < PAGE_SECTORS; s++) {
                if (second->visible[v][p][s] != cut[p][s])
                    fail_msg("not the cut: %d/%d/%d shows %u, but was %u when cycle %lu was cut", v,
                             p, s, second->visible[v][p][s], cut[p][s], second->receiver.promoted);
            }
        }
    }
}

/* The copy is a state in which nothing is missing that came before something it shows. */
static void look_at_the_copy(const struct second *second)
{
    uint32_t latest = 0;
    w->promotions++;
    if (!second->receiver.consistent)
        return;
    w->consistent++;
    compare_with_the_cut(second);
    for (int v = 0; v < VOLUMES; v++) {
        for (int p = 0; p < PAGES; p++) {
            for (int s = 0; s < PAGE_SECTORS; s++)
                latest = max_u32(latest, second->visible[v][p][s]);
        }
    }
    for (int v = 0; v < VOLUMES; v++) {
        for (int p = 0; p < PAGES; p++) {
            for (int s = 0; s < PAGE_SECTORS; s++) {
                uint32_t shown = second->visible[v][p][s];
                uint32_t due = w->newest_acked[v][p][s];
                if (shown != 0 && shown < w->shown[v][p][s])
                    fail_msg("the copy goes back: %d/%d/%d shows %u after %u", v, p, s, shown,
                             w->shown[v][p][s]);
                w->shown[v][p][s] = max_u32(shown, w->shown[v][p][s]);
                if (shown < due && w->acked_at[due] < latest &&
                    !(shown == 0 && w->newest_zero[v][p] >= due))
                    fail_msg("no cut: %d/%d/%d shows %u, but %u was acknowledged before %u came", v,
                             p, s, shown, due, latest);
            }
        }
    }
}

static void second_apply(struct second *second, const struct sheader *header)
{
    struct receiver *receiver = &second->receiver;
    if (header->type == S_PROMOTE || header->type == S_TERM)
        TELL("  there %d: %s term %lu cycle %lu flags %x\n", (int)(second - w->second),
             header->type == S_TERM ? "TERM" : "PROMOTE", header->head.term, header->head.cycle,
             header->record.flags);
    switch (header->type) {
    case S_TERM:
        receiver_begin_term(receiver, header->head.term, header->head.first);
        second_drain(second);
        break;
    case S_HOLD:
        TELL_PAGE(header->record.volume, header->record.page,
                  "  there %d: cycle %lu sectors %x generation %u cells %u %u\n",
                  (int)(second - w->second), header->head.cycle, header->record.sectors,
                  header->record.generation, header->cell[0], header->cell[7]);
        if (receiver_holds(receiver, header->head.cycle, &header->record))
            break;
        MUST(second->free_count > 0);
        memcpy(second->cell[second->free[--second->free_count]], header->cell, sizeof(cells));
        receiver_hold(receiver, second->free[second->free_count], header->head.cycle,
                      header->head.wall_us, &header->record);
        break;
    case S_ZERO:
        receiver_zero(receiver, header->head.cycle, header->head.wall_us, &header->record);
        break;
    case S_END:
        receiver_end(receiver, header->half, header->head.cycle, header->head.wall_us,
                     &header->record);
        break;
    case S_PROMOTE:
        receiver_promote(receiver, header->head.cycle, header->head.wall_us,
                         header->record.flags & RECORD_CONSISTENT);
        second_drain(second);
        break;
    case S_BATCH:
        if (header->head.term == receiver->term)
            receiver_batch_done(receiver, header->half, header->head.number, header->head.cycle,
                                &header->counts);
        break;
    }
}

static void answer(uint8_t half, uint32_t session, uint64_t number);

/* A header counts here once the peer has it, or at once when there is none. */
static void second_settled(const struct sheader *header)
{
    struct second *second = &w->second[w->main];
    if (header->type == S_PROMOTE || header->type == S_BATCH)
        second_apply(second, header);
    if (header->type == S_PROMOTE)
        look_at_the_copy(second);
    if (header->type == S_BATCH)
        answer(header->half, header->session, header->head.number);
}

static void second_say(const struct sheader *header)
{
    if (header->type != S_PROMOTE && header->type != S_BATCH)
        second_apply(&w->second[w->main], header);
    if (!w->second_paired) {
        second_settled(header);
        return;
    }
    MUST(w->squeue_to - w->squeue_from < QUEUE);
    w->squeue[w->squeue_to++ % QUEUE] = *header;
}

static bool second_stream_step(void)
{
    if (w->squeue_from == w->squeue_to)
        return false;
    struct sheader header = w->squeue[w->squeue_from++ % QUEUE];
    second_apply(&w->second[w->main ^ 1], &header);
    second_settled(&header);
    return true;
}

/* False: it has to wait. */
static bool second_receive(const struct flight *flight)
{
    struct second *second = &w->second[w->main];
    struct sheader header = {.half = flight->half, .session = flight->session};
    bool new_term;
    const char *why = record_get_head(flight->bytes, flight->length, &header.head);
    MUST(why == NULL);
    const uint8_t *records = flight->bytes + COPY_HEAD_SIZE;
    enum receiver_verdict verdict =
        receiver_judge(&second->receiver, &header.head, &new_term, &why);
    if (verdict == RECEIVER_WAIT)
        return false;
    if (verdict == RECEIVER_TAKE)
        why = receiver_judge_records(&second->receiver, &header.head, new_term, records);
    if (verdict == RECEIVER_REFUSE || why != NULL) {
        struct half *half = &w->half[flight->half];
        w->refused++;
        if (half->session && half->session_number == flight->session) {
            half->session = false;
            sender_detach(&half->sender);
        }
        return true;
    }
    if (verdict == RECEIVER_KNOWN) {
        w->duplicates++;
        answer(flight->half, flight->session, header.head.number);
        return true;
    }
    if (new_term) {
        header.type = S_TERM;
        second_say(&header);
    }
    receiver_taken(&second->receiver, flight->half, header.head.number);
    const uint8_t *data = records + header.head.record_count * COPY_RECORD_SIZE;
    for (uint32_t i = 0; i < header.head.record_count; i++) {
        MUST(record_get(records + i * COPY_RECORD_SIZE, &header.record) == NULL);
        memset(header.cell, 0, sizeof header.cell);
        for (int s = 0; s < PAGE_SECTORS && header.record.type == RECORD_PAGE; s++) {
            if (!(header.record.sectors & 1 << s))
                continue;
            header.cell[s] = get_u32(data);
            data += SECTOR_SIZE;
        }
        switch (header.record.type) {
        case RECORD_PAGE:
            header.type = S_HOLD;
            header.counts.base += header.record.flags & RECORD_BASE;
            header.counts.pages += !(header.record.flags & RECORD_BASE);
            break;
        case RECORD_ZERO:
            header.type = S_ZERO;
            header.counts.ranges++;
            break;
        case RECORD_END:
            header.type = S_END;
            break;
        default:
            header.type = S_PROMOTE;
            receiver_promote_begin(&second->receiver);
        }
        second_say(&header);
    }
    header.type = S_BATCH;
    second_say(&header);
    return true;
}

static void second_dies(void)
{
    if (!w->second_paired)
        return;
    w->second_lost++;
    w->squeue_from = w->squeue_to;
    w->second_paired = false;
    bool main_dies = chance(50);
    struct second *left = &w->second[main_dies ? w->main ^ 1 : w->main];
    if (main_dies) {
        w->main ^= 1;
    } else if (left->receiver.promoting) {
        /* It goes on alone with the promotion; nobody was told, so nobody misses it either way. */
        left->receiver.promoting = false;
        for (int half = 0; half < 2; half++)
            left->receiver.numbers[half].taken = 0;
    } else {
        for (int half = 0; half < 2; half++)
            left->receiver.numbers[half].taken = 0;
    }
    for (int i = 0; i < 2; i++) {
        if (w->half[i].session)
            sender_detach(&w->half[i].sender);
        w->half[i].session = false;
    }
}

static void second_returns(void)
{
    if (w->second_paired)
        return;
    struct second *from = &w->second[w->main], *to = &w->second[w->main ^ 1];
    second_create(to);
    struct receiver pointers = to->receiver;
    memcpy(pointers.held, from->receiver.held, HELD_SLOTS * sizeof(struct held));
    memcpy(pointers.buckets, from->receiver.buckets, (pointers.bucket_mask + 1) * sizeof(uint32_t));
    memcpy(pointers.zeroes, from->receiver.zeroes, RECEIVER_ZEROES * sizeof(struct receiver_zero));
    to->receiver = from->receiver;
    to->receiver.held = pointers.held;
    to->receiver.buckets = pointers.buckets;
    to->receiver.zeroes = pointers.zeroes;
    memcpy(to->cell, from->cell, sizeof to->cell);
    memcpy(to->free, from->free, sizeof to->free);
    to->free_count = from->free_count;
    memcpy(to->visible, from->visible, sizeof to->visible);
    w->second_paired = true;
}

/* A clean stop and start of the whole second array. */
static void second_restarts(void)
{
    while (second_stream_step())
        ;
    w->wiped++;
    w->memory_number++;
    for (int i = 0; i < 2; i++) {
        struct copy_state state;
        receiver_state(&w->second[w->main].receiver, &state);
        if (i != w->main)
            memcpy(w->second[i].visible, w->second[w->main].visible, sizeof w->second[i].visible);
        state.memory = w->memory_number;
        if (i == w->main)
            continue;
        second_create(&w->second[i]);
        receiver_restore(&w->second[i].receiver, &state);
    }
    w->main ^= 1;
    w->second_paired = false;
    second_returns();
    for (int i = 0; i < 2; i++) {
        if (w->half[i].session)
            sender_detach(&w->half[i].sender);
        w->half[i].session = false;
    }
}

#endif
