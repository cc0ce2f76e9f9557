/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Two sites that change their roles, from seeds: failover, reverse, suspension and
 * resynchronisation at any moment, while controllers of both die and return, arrays stop and start,
 * and the sites are cut from each other. Hosts write numbers, one after the other was acknowledged,
 * at the site that has the truth. What a site shows when it takes over, and says is consistent,
 * must be what they had written up to some number; and when the faults are over both sites must
 * show what the last one with the truth acknowledged. */

#include "base/generator.h"
#include "two_sites.h"

enum { SPOTS = 48, HISTORY = 4096, STEPS = 200, SEEDS = 8 };

static struct {
    struct generator dice;
    uint32_t number;
    uint64_t era;
    int truth;
    uint32_t base[COPIED][SPOTS], now[COPIED][SPOTS];
    bool unsure[COPIED][SPOTS]; /* a write was not answered */
    struct {
        uint8_t volume, spot;
        uint32_t number;
    } history[HISTORY];
    uint32_t written;
    enum site_role role[PAIRS]; /* as it was after the step before */
    bool consistent[PAIRS];
    uint32_t failovers, checked, reverses, kills, stops, writes;
} world;

static bool chance(uint32_t percent)
{
    return generator_chance(&world.dice, percent, 100);
}

static uint32_t below(uint32_t bound)
{
    return (uint32_t)generator_below(&world.dice, bound);
}

/* Spread over three regions of each volume. */
static uint64_t page_of(int spot)
{
    return (uint64_t)(spot / 16) * 300 + (uint64_t)(spot % 16) * 2;
}

static int owner_at(int site, uint8_t volume)
{
    for (int self = A; self < PAIR; self++) {
        const struct array *array = array_of(site, self);
        if (array != NULL && copy_serves(array) && array_owner(array, volume) == 1)
            return self;
    }
    return -1;
}

/* ---- what a site shows ---- */

static bool is_state(uint32_t shown[COPIED][SPOTS], uint32_t state[COPIED][SPOTS])
{
    for (int v = 0; v < COPIED; v++) {
        for (int spot = 0; spot < SPOTS; spot++) {
            if (shown[v][spot] != state[v][spot] && !world.unsure[v][spot])
                return false;
        }
    }
    return true;
}

static void check_it_was_a_state(int site, uint32_t shown[COPIED][SPOTS])
{
    uint32_t state[COPIED][SPOTS];
    memcpy(state, world.base, sizeof state);
    bool found = is_state(shown, state);
    for (uint32_t i = 0; i < world.written && !found; i++) {
        state[world.history[i].volume][world.history[i].spot] = world.history[i].number;
        found = is_state(shown, state);
    }
    if (found)
        return;
    for (int v = 0; v < COPIED; v++) {
        for (int spot = 0; spot < SPOTS; spot++)
            TELL("%d/%d: %u, newest %u%s\n", v, spot, shown[v][spot], world.now[v][spot],
                 world.unsure[v][spot] ? " unsure" : "");
    }
    fail_msg("site %d took over with what was never a state", site + 1);
}

static void shown_by(int site, int self, uint32_t shown[COPIED][SPOTS])
{
    uint8_t bytes[PAGE];
    for (int v = 0; v < COPIED; v++) {
        for (int spot = 0; spot < SPOTS; spot++) {
            peek_at(site, self, v, page_of(spot), bytes);
            shown[v][spot] = get_u32(bytes);
        }
    }
}

/* The site serves hosts in a newer era: from here on it has the truth. */
static void take_over(int site, int self, uint64_t era)
{
    uint32_t shown[COPIED][SPOTS];
    shown_by(site, self, shown);
    bool sure = world.role[site] == SITE_RECEIVING && world.consistent[site];
    TELL("%llu: site %d has era %llu, was %d %s\n", (unsigned long long)pair.now_us, site + 1,
         (unsigned long long)era, (int)world.role[site], sure ? "consistent" : "");
    if (sure && era == world.era + 1)
        check_it_was_a_state(site, shown);
    world.checked += sure;
    world.failovers++;
    world.era = era;
    world.truth = site;
    memcpy(world.base, shown, sizeof shown);
    memcpy(world.now, shown, sizeof shown);
    memset(world.unsure, 0, sizeof world.unsure);
    world.written = 0;
}

static void look(void)
{
    for (int site = ONE; site < PAIRS; site++) {
        int self = owner_at(site, V_A);
        if (self < 0)
            continue;
        const struct site *now = &inner(site, self)->site;
        uint64_t era;
        if (site_is_open(site, &era) && era > world.era && now->open)
            take_over(site, self, era);
        if (now->now.role == SITE_RECEIVING || now->now.role == SITE_FENCED) {
            world.role[site] = now->now.role;
            world.consistent[site] = inner(site, self)->second.receiver.consistent;
        }
    }
}

/* ---- hosts ---- */

static void write_one(int site, int self, int volume, int spot, uint32_t number)
{
    pair_use(site);
    uint32_t handle = pair.request_count++;
    assert_true(handle < REQUESTS);
    struct seen *seen = &pair.seen[handle];
    seen->data = malloc(PAGE);
    for (int s = 0; s < PAGE_SECTORS; s++)
        put_u32(seen->data + s * SECTOR_SIZE, number);
    const struct host_request request = {.handle = handle,
                                         .op = HOST_WRITE,
                                         .volume = copied[volume],
                                         .flags = HOST_HERE,
                                         .offset_bytes = page_of(spot) * PAGE,
                                         .length_bytes = PAGE,
                                         .data = seen->data};
    struct host_outcome outcome = array_host(pair.side[self].array, pair.now_us, &request);
    seen->complete = outcome.complete;
    seen->result = outcome.result;
    uint64_t era = world.era;
    settle_both();
    bool done = seen->complete, good = done && seen->result == HOST_OK;
    if (site != world.truth || era != world.era) {
        /* At a site that has not heard of the newer era: lost, as the operator wanted. */
    } else if (good) {
        assert_true(world.written < HISTORY);
        world.history[world.written].volume = (uint8_t)volume;
        world.history[world.written].spot = (uint8_t)spot;
        world.history[world.written++].number = number;
        world.now[volume][spot] = number;
        world.unsure[volume][spot] = false;
        world.writes++;
    } else {
        world.unsure[volume][spot] = true;
    }
    /* An old primary that has heard of it must not acknowledge. */
    if (good && site != world.truth && inner(site, self)->site.now.role != SITE_PRIMARY &&
        inner(site, self)->site.now.role != SITE_FAILED_OVER)
        fail_msg("site %d acknowledged a write", site + 1);
    pair_use(ONE);
}

static void hosts_write(void)
{
    int site = chance(90) ? world.truth : world.truth ^ 1;
    for (uint32_t left = 1 + below(12); left > 0; left--) {
        int volume = (int)below(COPIED);
        int self = owner_at(site, copied[volume]);
        if (self < 0)
            return;
        write_one(site, self, volume, (int)below(SPOTS), ++world.number);
    }
}

/* ---- faults ---- */

static enum role role_at(int site, int self)
{
    int used = array_used();
    pair_use(site);
    enum role role = status_of(self)->role;
    pair_use(used);
    return role;
}

static void dies(int site, int self)
{
    struct side *side = side_of(site, self), *peer = side_of(site, self ^ 1);
    if (side->dead || peer->dead || role_at(site, A) != ROLE_PAIRED ||
        role_at(site, B) != ROLE_PAIRED)
        return;
    side_dies(site, self);
    sessions_lost(site, self);
    world.kills++;
}

static void starts(int site, int self)
{
    struct side *side = side_of(site, self);
    if (!side->dead)
        return;
    pair_use(site);
    sessions_lost(site, self);
    pair_create_side(self);
    pair.side[self].up_due = pair.side[self ^ 1].up_due = pair.side[self ^ 1].down_due = true;
    pair_use(ONE);
}

static bool ended(int site, int self)
{
    struct side *side = side_of(site, self);
    if (side->stopped && !side->dead) {
        side->dead = true;
        sessions_lost(site, self);
    }
    return side->dead;
}

/* Both are looked at: who has stopped is put out of the way. */
static bool both_ended(int site)
{
    bool a = ended(site, A), b = ended(site, B);
    return a && b;
}

/* The whole array stops cleanly, and starts again in any order. */
static void stops(int site)
{
    if (side_of(site, A)->dead || side_of(site, B)->dead || role_at(site, A) != ROLE_PAIRED ||
        role_at(site, B) != ROLE_PAIRED)
        return;
    side_of(site, A)->hold_records = side_of(site, B)->hold_records = false;
    for (int self = A; self < PAIR; self++)
        array_operator_stop(array_of(site, self), pair_worlds[site].now_us);
    for (int i = 0; i < 1000 && !both_ended(site); i++)
        pass_both_ms(10);
    if (!both_ended(site))
        fail_msg("site %d never stopped", site + 1);
    world.stops++;
    int first = (int)below(PAIR);
    starts(site, first);
    if (chance(50))
        pass_both_ms(10 + below(400));
    starts(site, first ^ 1);
}

static void operates(void)
{
    static const enum group_action actions[] = {GROUP_FAILOVER, GROUP_FAILOVER, GROUP_REVERSE,
                                                GROUP_REVERSE,  GROUP_SUSPEND,  GROUP_RESUME,
                                                GROUP_RESUME,   GROUP_RESYNC};
    enum group_action action = actions[below(ARRAY_LENGTH(actions))];
    int site = action == GROUP_FAILOVER ? world.truth ^ 1 : world.truth;
    int self = owner_at(site, V_A);
    bool early =
        action == GROUP_FAILOVER && !inner(site, self < 0 ? A : self)->second.receiver.consistent;
    if (self < 0 || (early && chance(90)))
        return;
    world.reverses += action == GROUP_REVERSE;
    array_operator_group(array_of(site, self), pair_worlds[site].now_us, 1, 0, action, chance(60));
}

static void something(void)
{
    int site = (int)below(PAIRS), self = (int)below(PAIR);
    switch (below(14)) {
    case 0:
        dies(site, self);
        break;
    case 1:
    case 2:
        starts(site, self);
        break;
    case 3:
        between.cut = !between.cut;
        break;
    case 4:
        between.cut = false;
        break;
    case 5:
    case 13:
        operates();
        break;
    case 6:
        if (chance(15))
            stops(site);
        break;
    case 7:
        side_of(site, self)->hold_records = chance(50);
        break;
    case 8:
        between.hold_batches = chance(40);
        break;
    default:
        hosts_write();
        break;
    }
}

/* ---- the end ---- */

static bool is_whole(void)
{
    const struct group *truth = inner(world.truth, A), *copy = NULL;
    for (int self = A; self < PAIR; self++) {
        const struct sender *sender = &inner(world.truth, self)->sender;
        if (side_of(world.truth, self)->dead || sender->mode != SENDER_CYCLES ||
            (sender->leader && !sender->consistent) || sender->pinned > 0 ||
            regions_left(&sender->regions) > 0)
            return false;
    }
    for (int self = A; self < PAIR; self++) {
        if (!side_of(world.truth ^ 1, self)->dead && owner_at(world.truth ^ 1, V_A) == self)
            copy = inner(world.truth ^ 1, self);
    }
    return truth->site.now.role == SITE_PRIMARY && copy != NULL &&
           copy->site.now.role == SITE_RECEIVING && copy->site.now.era == truth->site.now.era &&
           copy->second.receiver.consistent && copy->second.receiver.held_count == 0;
}

static void faults_end(void)
{
    between.cut = between.hold_batches = false;
    for (int site = ONE; site < PAIRS; site++) {
        for (int self = A; self < PAIR; self++) {
            side_of(site, self)->hold_records = false;
            starts(site, self);
        }
    }
    for (int i = 0; i < 3000; i++) {
        pass_both_ms(10);
        if (is_whole())
            break;
        int self = owner_at(world.truth, V_A);
        if (i % 100 != 99 || self < 0)
            continue;
        struct array *array = array_of(world.truth, self);
        array_operator_group(array, pair_worlds[world.truth].now_us, 1, 0, GROUP_REVERSE, false);
        array_operator_group(array, pair_worlds[world.truth].now_us, 1, 0, GROUP_RESUME, false);
    }
    if (!is_whole())
        fail_msg("the sites never became the same: %d and %d, %s",
                 (int)inner(world.truth, A)->site.now.role,
                 (int)inner(world.truth ^ 1, A)->site.now.role, inner(world.truth, A)->reason);
    pass_both_ms(100);
}

static void compare_all(void)
{
    uint8_t bytes[PAIRS][PAGE];
    for (int v = 0; v < COPIED; v++) {
        for (uint64_t page = 0; page < LAST_PAGES; page++) {
            for (int site = ONE; site < PAIRS; site++)
                peek_at(site, owner_at(site, copied[v]), v, page, bytes[site]);
            if (memcmp(bytes[ONE], bytes[TWO], PAGE) != 0)
                fail_msg("volume %d page %llu: %u and %u", v, (unsigned long long)page,
                         get_u32(bytes[ONE]), get_u32(bytes[TWO]));
        }
        for (int spot = 0; spot < SPOTS; spot++) {
            peek_at(world.truth, owner_at(world.truth, copied[v]), v, page_of(spot), bytes[0]);
            if (get_u32(bytes[0]) != world.now[v][spot] && !world.unsure[v][spot])
                fail_msg("volume %d spot %d shows %u, and %u was acknowledged", v, spot,
                         get_u32(bytes[0]), world.now[v][spot]);
        }
    }
}

static void one_seed(uint64_t seed)
{
    memset(&world, 0, sizeof world);
    generator_seed(&world.dice, seed);
    world.era = 1;
    world.truth = ONE;
    create_sites(512, 60);
    between.look = look;
    for (int step = 0; step < STEPS; step++) {
        something();
        pass_both_ms(1 + below(6) * 20);
    }
    faults_end();
    compare_all();
    TELL("seed %llu: %u writes, %u failovers (%u checked), %u reverses, %u kills, %u stops\n",
         (unsigned long long)seed, world.writes, world.failovers, world.checked, world.reverses,
         world.kills, world.stops);
    destroy_sites();
}

static void the_truth_survives_every_change_of_roles(void **state)
{
    const char *named = getenv("COPY_SEED"), *count = getenv("COPY_SEEDS");
    uint64_t first = named != NULL ? strtoull(named, NULL, 10) : 1;
    uint64_t seeds = count != NULL ? strtoull(count, NULL, 10) : named != NULL ? 1 : SEEDS;
    uint32_t failovers = 0, checked = 0;
    (void)state;
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        if (getenv("COPY_SEEDS") != NULL)
            printf("seed %llu\n", (unsigned long long)seed);
        one_seed(seed);
        failovers += world.failovers;
        checked += world.checked;
    }
    if (named == NULL) {
        assert_true(failovers >= seeds / 2); /* or it shows nothing */
        assert_true(checked > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_truth_survives_every_change_of_roles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
