/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A pair whose volumes are copied, under everything that can happen to it, from seeds. Hosts write,
 * discard and read at both controllers; controllers die and return, volumes move, sessions break,
 * the second array loses what it held. Each time it says that its copy is consistent, the copy must
 * be a cut: nothing is missing that was acknowledged before something that it shows was asked for.
 * When the faults are over the two sites become the same. */

#include "base/generator.h"
#include "copy_second.h"

enum { SPOTS = 40, SPOT_BASE = LAST_PAGES - 8, WRITES = REQUESTS, STEPS = 4000 };

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

static bool chance(uint32_t percent)
{
    return generator_chance(&world.dice, percent, 100);
}

static uint32_t below(uint32_t bound)
{
    return (uint32_t)generator_below(&world.dice, bound);
}

static uint32_t shown_at(int volume, uint64_t page, int sector)
{
    return get_u32(second.visible[volume] + page * PAGE + (uint64_t)sector * SECTOR_SIZE);
}

static void look_at_the_copy(void)
{
    uint32_t latest = 0;
    if (!second.receiver.consistent)
        return;
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

static void hold_pages(const struct doing *doing, bool busy)
{
    for (uint64_t p = doing->page; p < doing->page + doing->pages; p++)
        world.busy[doing->volume][p] = busy;
}

static void acknowledge(const struct doing *doing)
{
    TELL("%llu acknowledged %u\n", (unsigned long long)pair.now_us, doing->write);

    world.acked_at[doing->write] = world.write_count;
    for (uint64_t p = doing->page; p < doing->page + doing->pages; p++) {
        for (int s = doing->from; s < (doing->end == 0 ? PAGE_SECTORS : doing->end); s++)
            world.newest_acked[doing->volume][p][s] = doing->write;
    }
}

static void collect(void)
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
static void forget_requests(int self)
{
    for (size_t i = 0; i < ARRAY_LENGTH(world.doing); i++) {
        if (world.doing[i].used && world.doing[i].self == self) {
            world.doing[i].used = false;
            hold_pages(&world.doing[i], false);
        }
    }
}

static struct doing *begin(void)
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

static int server_of(uint8_t volume)
{
    for (int self = A; self < PAIR; self++) {
        if (!pair.side[self].dead && array_owner(pair.side[self].array, copied[volume]) == 1)
            return self;
    }
    return -1;
}

static void submit(struct doing *doing, enum host_op op, uint64_t offset, uint64_t length)
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

static uint64_t any_page(void)
{
    uint64_t page = below(chance(50) ? 4 : SPOTS);
    return chance(15) ? SPOT_BASE + page % 8 : page;
}

static void host_writes(void)
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

static void host_discards(void)
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

static void host_reads(void)
{
    uint8_t volume = (uint8_t)below(VOLUMES);
    uint64_t page = below(VOLUME_BYTES / PAGE - 32);
    for (int self = A; self < PAIR; self++) {
        if (pair.request_count + 16 < REQUESTS && !pair.side[self].dead &&
            array_owner(pair.side[self].array, volume) == 1)
            ask_read(self, volume, page * PAGE, (1 + below(32)) * (uint64_t)PAGE);
    }
}

/* ---- faults ---- */

static bool serves(int self, enum role role)
{
    return !pair.side[self].dead && status_of(self)->role == role;
}

static void dies(int self)
{
    struct side *side = &pair.side[self], *peer = &pair.side[self ^ 1];
    bool spare = serves(self ^ 1, ROLE_PAIRED) && serves(self, ROLE_PAIRED);
    if (!spare && !(serves(self ^ 1, ROLE_SOLO) && !side->dead))
        return;
    if (status_of(self)->epoch > status_of(self ^ 1)->epoch)
        return; /* alone */
    for (uint32_t i = 0; i < side->op_count; i++) {
        if (chance(50))
            store_move(&side->ops[i]);
    }
    for (int i = 0; i < FLIGHTS; i++) {
        if (second.flight[self][i].used && chance(50))
            second_receive(second.flight[self][i].bytes,
                           second.flight[self][i].action.length_bytes);
    }
    side->dead = true;
    side->op_count = 0;
    side->message_due = side->status_due = false;
    peer->down_due = true;
    if (chance(50))
        peer->message_due = false;
    forget_requests(self);
    second_lost(self);
    array_on_peer_gone(peer->array, pair.now_us, 0);
    world.kills++;
}

static void returns(int self)
{
    if (!pair.side[self].dead || !serves(self ^ 1, ROLE_SOLO))
        return;
    pair_create_side(self);
    pair.side[self].up_due = pair.side[self ^ 1].up_due = pair.side[self ^ 1].down_due = true;
    world.returns++;
    memset(world.moved, 0, sizeof world.moved);
}

static void moves(void)
{
    uint8_t volume = (uint8_t)below(COPIED);
    int self = server_of(volume);
    if (self < 0 || !serves(self, ROLE_PAIRED))
        return;
    array_operator_move(pair.side[self].array, pair.now_us, 5, copied[volume], (uint8_t)!self);
    world.moves++;
    world.moved[copied[volume]] = true;
}

static void fault(void)
{
    int self = (int)below(PAIR);
    switch (below(10)) {
    case 0:
        if (chance(40))
            dies(self);
        break;
    case 1:
    case 2:
        returns(self);
        break;
    case 3:
        second.down_due[self] = true;
        break;
    case 4:
        second.hold_answers = chance(40);
        break;
    case 5:
        pair.side[self].hold_store = chance(40);
        break;
    case 6:
        moves();
        break;
    case 7:
        if (chance(20))
            second_restart();
        break;
    case 8:
        if (!pair.side[self].dead && chance(20))
            array_operator_group(pair.side[self].array, pair.now_us, 7, 0,
                                 chance(40) ? GROUP_SUSPEND : GROUP_RESUME, false);
        break;
    default:
        second.hold_sessions = chance(30);
    }
}

/* What is owed to the second array stands in both memories, whenever nothing is on its way. */
static void look_at_the_mirror(void)
{
    for (int self = A; self < PAIR; self++) {
        if (pair.side[A].dead || pair.side[B].dead)
            return;
        const char *why =
            array_check_mirror(pair.side[self].array, pair.side[self ^ 1].array, world.moved);
        if (why != NULL)
            fail_msg("array_check_mirror from %c: %s", 'a' + self, why);
    }
}

static void step(bool faults)
{
    int self = (int)below(PAIR);
    pair.now_us += chance(20) ? below(30000) : below(30);
    side_step(self);
    if (chance(20))
        host_writes();
    if (chance(2))
        host_discards();
    if (chance(4))
        host_reads();
    if (faults && chance(3))
        fault();
    if (chance(3)) { /* most of what goes wrong is soon over */
        second.hold_answers = second.hold_sessions = pair.side[self].hold_store = false;
        if (!pair.side[self].dead)
            array_operator_group(pair.side[self].array, pair.now_us, 7, 0, GROUP_RESUME, false);
    }
    collect();
    look_at_the_mirror();
}

static void heal(void)
{
    second.hold_answers = second.hold_sessions = false;
    for (int i = 0; i < 1000; i++) {
        for (int self = A; self < PAIR; self++) {
            pair.side[self].hold_store = false;
            returns(self);
            if (!pair.side[self].dead && i % 50 == 0)
                array_operator_group(pair.side[self].array, pair.now_us, 7, 0, GROUP_RESUME, false);
        }
        pass_ms(20);
        collect();
        if (i > 150 && second.receiver.consistent && second.receiver.held_count == 0 &&
            serves(A, ROLE_PAIRED) && serves(B, ROLE_PAIRED))
            return;
    }
    fail_msg("never consistent again: %s (%s), %s (%s)", group_of(A)->reason, status_of(A)->reason,
             group_of(B)->reason, status_of(B)->reason);
}

static void sites_are_the_same(void)
{
    for (int v = 0; v < COPIED; v++) {
        uint64_t size = pair.config.volumes[copied[v]].size_bytes;
        uint32_t read = ask_read(server_of((uint8_t)v), copied[v], 0, size);
        settle();
        assert_ok(read);
        for (uint64_t at = 0; at < size; at += SECTOR_SIZE) {
            if (memcmp(pair.seen[read].data + at, second.visible[v] + at, SECTOR_SIZE) != 0)
                fail_msg("the sites differ: %d/%llu/%llu is %u here and %u there", v,
                         (unsigned long long)(at / PAGE),
                         (unsigned long long)(at % PAGE / SECTOR_SIZE),
                         get_u32(pair.seen[read].data + at), get_u32(second.visible[v] + at));
        }
    }
}

static void a_life(uint64_t seed, uint32_t slots, uint32_t budget, bool faults)
{
    memset(&world, 0, sizeof world);
    generator_seed(&world.dice, seed);
    set_up_copy(slots, budget);
    second.promoted = look_at_the_copy;
    memset(world.moved, true, sizeof world.moved); /* each went to its home */
    for (int i = 0; i < STEPS; i++)
        step(faults);
    heal();
    sites_are_the_same();
    print_message("seed %llu: writes %u kills %u returns %u moves %u promotions %u consistent %u "
                  "falls %llu restarts %llu refused %u there %u resets %u\n",
                  (unsigned long long)seed, world.write_count, world.kills, world.returns,
                  world.moves, second.promotions, world.consistent,
                  (unsigned long long)(group_of(A)->falls + group_of(B)->falls),
                  (unsigned long long)(group_of(A)->restarts + group_of(B)->restarts),
                  world.refused, second.refused, second.resets);
    void *state = NULL;
    second_destroy();
    pair_destroy(&state);
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

static void without_faults(void **state)
{
    for (uint64_t seed = 1; seed <= 3; seed++)
        a_life(seed, 512, 60, false);
}

static void with_every_fault(void **state)
{
    uint64_t first = number_of("COPY_SEED", 1), count = number_of("COPY_SEEDS", 12);
    for (uint64_t seed = first; seed < first + count; seed++)
        a_life(seed, seed % 5 == 0 ? 160 : 512, seed % 5 == 0 ? 20 : 60, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_faults),
        cmocka_unit_test(with_every_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
