/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Hosts of the volumes that are copied, from a seed: they write, discard and read at both
 * controllers, and remember what was acknowledged before what was asked for. So whether a copy is a
 * cut can be seen: nothing is missing that was acknowledged before something that it shows was
 * asked for. The test that includes this says what the copy shows. */

#ifndef TESTS_COPY_HOSTS_H
#define TESTS_COPY_HOSTS_H

#include "base/generator.h"
#include "copy_common.h"

enum { SPOTS = 40, SPOT_BASE = LAST_PAGES - 8, WRITES = REQUESTS };

struct doing {
    bool used;
    uint32_t handle, write;
    int self;
    uint8_t volume; /* its place in `copied` */
    uint64_t page, pages;
    uint8_t from, end; /* sectors of the only page; both 0: whole pages that become zeros */
};

static struct {
    struct generator dice;
    uint32_t write_count;
    uint32_t acked_at[WRITES]; /* writes asked for when it was acknowledged, or 0 */
    uint32_t newest_acked[COPIED][LAST_PAGES][PAGE_SECTORS];
    uint32_t newest_zero[COPIED][LAST_PAGES];
    uint32_t shown[COPIED][LAST_PAGES][PAGE_SECTORS];
    bool moved[VOLUME_LIMIT]; /* since the pair was formed */
    bool busy[COPIED][LAST_PAGES];
    struct doing doing[64];
    uint32_t kills, returns, moves, consistent, refused;
} world;

static inline bool chance(uint32_t percent)
{
    return generator_chance(&world.dice, percent, 100);
}

static inline uint32_t below(uint32_t bound)
{
    return (uint32_t)generator_below(&world.dice, bound);
}

/* What the copy shows, as the test that includes this knows. */
static uint32_t shown_at(int volume, uint64_t page, int sector);

static inline void look_at_the_copy(void)
{
    uint32_t latest = 0;
    world.consistent++;
    for (int v = 0; v < COPIED; v++) {
        for (uint64_t p = 0; p < LAST_PAGES; p++) {
            for (int s = 0; s < PAGE_SECTORS; s++)
                latest = latest > shown_at(v, p, s) ? latest : shown_at(v, p, s);
        }
    }
    for (int v = 0; v < COPIED; v++) {
        for (uint64_t p = 0; p < LAST_PAGES; p++) {
            for (int s = 0; s < PAGE_SECTORS; s++) {
                uint32_t shown = shown_at(v, p, s), due = world.newest_acked[v][p][s];
                uint32_t is = shown == 0 ? world.newest_zero[v][p] : shown;
                if (is < due && world.acked_at[due] < latest)
                    fail_msg("no cut: %d/%llu/%d shows %u, but %u was acknowledged before %u", v,
                             (unsigned long long)p, s, shown, due, latest);
                if (is < world.shown[v][p][s])
                    fail_msg("the copy goes back: %d/%llu/%d shows %u after %u", v,
                             (unsigned long long)p, s, is, world.shown[v][p][s]);
                if (shown != 0)
                    world.shown[v][p][s] = shown;
            }
        }
    }
}

/* ---- hosts ---- */

static inline void hold_pages(const struct doing *doing, bool busy)
{
    for (uint64_t p = doing->page; p < doing->page + doing->pages; p++)
        world.busy[doing->volume][p] = busy;
}

static inline void acknowledge(const struct doing *doing)
{
    TELL("%llu acknowledged %u\n", (unsigned long long)pair.now_us, doing->write);

    world.acked_at[doing->write] = world.write_count;
    for (uint64_t p = doing->page; p < doing->page + doing->pages; p++) {
        for (int s = doing->from; s < (doing->end == 0 ? PAGE_SECTORS : doing->end); s++)
            world.newest_acked[doing->volume][p][s] = doing->write;
    }
}

static inline void collect(void)
{
    for (size_t i = 0; i < ARRAY_LENGTH(world.doing); i++) {
        struct doing *doing = &world.doing[i];
        if (!doing->used || !pair.seen[doing->handle].complete)
            continue;
        doing->used = false;
        hold_pages(doing, false);
        if (pair.seen[doing->handle].result == HOST_OK)
            acknowledge(doing);
        else
            world.refused++;
    }
}

/* The controller is gone: what it had not answered is never answered. */
static inline void forget_requests(int self)
{
    for (size_t i = 0; i < ARRAY_LENGTH(world.doing); i++) {
        if (world.doing[i].used && world.doing[i].self == self) {
            world.doing[i].used = false;
            hold_pages(&world.doing[i], false);
        }
    }
}

static inline struct doing *begin(void)
{
    collect();
    if (world.write_count + 1 >= WRITES || pair.request_count + 16 >= REQUESTS)
        return NULL;
    for (size_t i = 0; i < ARRAY_LENGTH(world.doing); i++) {
        if (!world.doing[i].used)
            return &world.doing[i];
    }
    return NULL;
}

static inline int server_of(uint8_t volume)
{
    for (int self = A; self < PAIR; self++) {
        if (!pair.side[self].dead && array_owner(pair.side[self].array, copied[volume]) == 1)
            return self;
    }
    return -1;
}

static inline void submit(struct doing *doing, enum host_op op, uint64_t offset, uint64_t length)
{
    struct seen *seen = &pair.seen[doing->handle = pair.request_count++];
    seen->data = malloc(length + 1);
    for (uint64_t at = 0; at < length; at += 4)
        put_u32(seen->data + at, doing->write);
    const struct host_request request = {.handle = doing->handle,
                                         .op = op,
                                         .volume = copied[doing->volume],
                                         .flags = HOST_HERE,
                                         .offset_bytes = offset,
                                         .length_bytes = length,
                                         .data = seen->data};
    doing->used = true;
    TELL("%llu %c: host asks for %u: op %d volume %u page %llu count %llu sectors %u to %u\n",
         (unsigned long long)pair.now_us, 'a' + doing->self, doing->write, (int)op, doing->volume,
         (unsigned long long)doing->page, (unsigned long long)doing->pages, doing->from,
         doing->end);
    hold_pages(doing, true);
    struct host_outcome outcome = array_host(pair.side[doing->self].array, pair.now_us, &request);
    seen->complete = outcome.complete;
    seen->result = outcome.result;
    if (op == HOST_WRITE && !outcome.data_held)
        memset(seen->data, 0x5A, length);
}

static inline uint64_t any_page(void)
{
    uint64_t page = below(chance(50) ? 4 : SPOTS);
    return chance(15) ? SPOT_BASE + page % 8 : page;
}

static inline void host_writes(void)
{
    struct doing *doing = begin();
    uint8_t volume = (uint8_t)below(COPIED);
    uint64_t page = any_page();
    int self = server_of(volume);
    if (doing == NULL || self < 0 || world.busy[volume][page])
        return;
    uint8_t sectors = volume == 1 && page == LAST_PAGES - 1 ? 5 : PAGE_SECTORS;
    *doing = (struct doing){.write = ++world.write_count,
                            .self = self,
                            .volume = volume,
                            .page = page,
                            .pages = 1,
                            .from = chance(50) ? 0 : (uint8_t)below(sectors),
                            .end = sectors};
    if (chance(40))
        doing->end = (uint8_t)(doing->from + 1 + below(sectors - doing->from));
    submit(doing, HOST_WRITE, page * PAGE + doing->from * (uint64_t)SECTOR_SIZE,
           (doing->end - doing->from) * (uint64_t)SECTOR_SIZE);
}

static inline void host_discards(void)
{
    struct doing *doing = begin();
    uint8_t volume = (uint8_t)below(COPIED);
    uint64_t page = below(SPOTS), pages = 1 + below(40);
    int self = server_of(volume);
    if (doing == NULL || self < 0)
        return;
    for (uint64_t p = page; p < page + pages; p++) {
        if (world.busy[volume][p])
            return;
    }
    *doing = (struct doing){
        .write = ++world.write_count, .self = self, .volume = volume, .page = page, .pages = pages};
    for (uint64_t p = page; p < page + pages; p++)
        world.newest_zero[volume][p] = doing->write;
    submit(doing, chance(50) ? HOST_TRIM : HOST_ZERO, page * PAGE, pages * PAGE);
}

static inline void host_reads(void)
{
    uint8_t volume = (uint8_t)below(VOLUMES);
    uint64_t page = below(VOLUME_BYTES / PAGE - 32);
    for (int self = A; self < PAIR; self++) {
        if (pair.request_count + 16 < REQUESTS && !pair.side[self].dead &&
            array_owner(pair.side[self].array, volume) == 1)
            ask_read(self, volume, page * PAGE, (1 + below(32)) * (uint64_t)PAGE);
    }
}

#endif
