/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Two whole arrays under everything that can happen to both, from seeds. Hosts write, discard and
 * read at the first; controllers of each die and return, volumes move, sessions break, stores
 * stall and fail. Each time the second array promotes and says that its copy is consistent, what it
 * would show must be a cut; between promotions that must not change by a byte, whoever takes over
 * there; and when the faults are over the two sites become the same. */

#include "copy_hosts.h"
#include "two_arrays.h"

enum { STEPS = 4000 };

static uint8_t *visible[COPIED];
static int shown_by;
static uint32_t kills_there, returns_there, moves_there, looks;

static uint32_t shown_at(int volume, uint64_t page, int sector)
{
    return get_u32(visible[volume] + page * PAGE + (uint64_t)sector * SECTOR_SIZE);
}

static void take_picture(int self)
{
    for (int v = 0; v < COPIED; v++) {
        for (uint64_t p = 0; p < LAST_PAGES; p++)
            peek(self, v, p, visible[v] + p * PAGE);
    }
}

static void look_at_a_promotion(void)
{
    shown_by = shower();
    take_picture(shown_by);
    if (group_there(shown_by)->second.receiver.consistent)
        look_at_the_copy();
}

/* Nothing is to be seen there but what the last promotion showed. */
static void look_again(void)
{
    uint8_t bytes[PAGE];
    int self = shower();
    if (self < 0 || (self == shown_by && !chance(2)))
        return;
    looks++;
    shown_by = self;
    for (int v = 0; v < COPIED; v++) {
        for (uint64_t p = 0; p < LAST_PAGES; p++) {
            peek(self, v, p, bytes);
            for (int s = 0; s < PAGE_SECTORS; s++) {
                uint32_t is = get_u32(bytes + s * SECTOR_SIZE), was = shown_at(v, p, s);
                if (is != was)
                    fail_msg("%c shows %u at %d/%llu/%d, where cycle %llu showed %u", 'c' + self,
                             is, v, (unsigned long long)p, s,
                             (unsigned long long)between.promoted_seen, was);
            }
        }
    }
}

/* ---- hosts there ---- */

/* A host there that may read: it sees what was promoted when it asked or when it was answered. */
static struct {
    bool asked;
    int self, volume;
    uint32_t handle;
    uint64_t page, promoted;
    uint32_t was[PAGE_SECTORS];
} reading;
static uint32_t reads_there;

static void check_read(void)
{
    const struct seen *seen = &pair_worlds[THERE].seen[reading.handle];
    if (!reading.asked || !seen->complete)
        return;
    if (group_there(reading.self)->second.receiver.promoted > between.promoted_seen)
        return; /* its volumes are on their way, so nobody has looked at what it promoted */
    reading.asked = false;
    if (seen->result != HOST_OK || between.promoted_seen > reading.promoted + 1)
        return;
    reads_there++;
    for (int s = 0; s < PAGE_SECTORS - 3; s++) { /* the last page of a volume has five */
        uint32_t is = get_u32(seen->data + s * SECTOR_SIZE);
        if (is != reading.was[s] && is != shown_at(reading.volume, reading.page, s))
            fail_msg("a host there reads %u at %d/%llu/%d, which shows %u after %u", is,
                     reading.volume, (unsigned long long)reading.page, s,
                     shown_at(reading.volume, reading.page, s), reading.was[s]);
    }
}

static void read_there(void)
{
    int self = shower();
    if (self < 0 || reading.asked || pair_worlds[THERE].request_count + 16 >= REQUESTS)
        return;
    reading.asked = true;
    reading.self = self;
    reading.volume = (int)below(COPIED);
    reading.page = chance(80) ? below(SPOTS) : below(LAST_PAGES);
    reading.promoted = between.promoted_seen;
    for (int s = 0; s < PAGE_SECTORS; s++)
        reading.was[s] = shown_at(reading.volume, reading.page, s);
    pair_use(THERE);
    reading.handle = ask_read(self, copied[reading.volume], reading.page * PAGE, 5 * SECTOR_SIZE);
    pair_use(HERE);
    check_read();
}

static bool store_takes_its_time(void)
{
    return chance(20);
}

/* ---- faults ---- */

static bool serves(int self, enum role role)
{
    return !pair.side[self].dead && status_of(self)->role == role;
}

/* Of either pair: it dies, and what it had asked its stores for is done or not. */
static bool dies(int self)
{
    struct side *side = &pair.side[self], *peer = &pair.side[self ^ 1];
    bool spare = serves(self ^ 1, ROLE_PAIRED) && serves(self, ROLE_PAIRED);
    if (!spare && !(serves(self ^ 1, ROLE_SOLO) && !side->dead))
        return false;
    if (status_of(self)->epoch > status_of(self ^ 1)->epoch)
        return false; /* alone */
    for (uint32_t i = 0; i < side->op_count; i++) {
        if (chance(50))
            store_move(&side->ops[i]);
    }
    side->dead = true;
    side->op_count = 0;
    side->message_due = side->status_due = false;
    peer->down_due = true;
    if (chance(50))
        peer->message_due = false;
    array_on_peer_gone(peer->array, pair.now_us, 0);
    return true;
}

static bool returns(int self)
{
    if (!pair.side[self].dead || !serves(self ^ 1, ROLE_SOLO))
        return false;
    pair_create_side(self);
    pair.side[self].up_due = pair.side[self ^ 1].up_due = pair.side[self ^ 1].down_due = true;
    return true;
}

static void dies_here(int self)
{
    if (!dies(self))
        return;
    forget_requests(self);
    between.hold_batches = chance(50);
    for (int i = 0; i < FLIGHTS; i++) {
        struct flight *flight = &between.session[self].flight[i];
        if (flight->used && !flight->delivered)
            flight_step(self, flight);
    }
    between.hold_batches = false;
    session_lost(&between.session[self]);
    world.kills++;
}

static void dies_there(int self)
{
    pair_use(THERE);
    bool died = dies(self);
    pair_use(HERE);
    if (!died)
        return;
    there_lost(self);
    reading.asked &= reading.self != self;
    kills_there++;
}

static void returns_here(int self)
{
    if (!returns(self))
        return;
    world.returns++;
    memset(world.moved, 0, sizeof world.moved);
}

static void returns_to_there(int self)
{
    pair_use(THERE);
    returns_there += returns(self);
    pair_use(HERE);
}

static void moves_here(void)
{
    uint8_t volume = (uint8_t)below(COPIED);
    int self = server_of(volume);
    if (self < 0 || !serves(self, ROLE_PAIRED))
        return;
    array_operator_move(pair.side[self].array, pair.now_us, 5, copied[volume], (uint8_t)!self);
    world.moves++;
    world.moved[copied[volume]] = true;
}

static void moves_over_there(void)
{
    uint8_t volume = (uint8_t)below(COPIED);
    pair_use(THERE);
    int self = server_of(volume);
    if (self >= 0 && serves(self, ROLE_PAIRED)) {
        array_operator_move(pair.side[self].array, pair.now_us, 5, copied[volume], (uint8_t)!self);
        moves_there++;
    }
    pair_use(HERE);
}

static void stores_fail_there(bool fail)
{
    for (int op = 0; op <= STORE_TRIM; op++)
        pair_worlds[THERE].answer[op] =
            fail && op != STORE_READ && chance(50) ? STORE_ERROR : STORE_DONE;
}

static void stores_hang(int site, int self)
{
    pair_worlds[site].side[self].hold_store = chance(60);
}

static void fault(void)
{
    int self = (int)below(PAIR);
    switch (below(14)) {
    case 0:
        if (chance(40))
            dies_here(self);
        break;
    case 1:
        returns_here(self);
        break;
    case 2:
        dies_there(self);
        break;
    case 3:
    case 4:
        returns_to_there(self);
        break;
    case 5:
        between.session[self].down_due = between.session[self].up;
        break;
    case 6:
        between.hold_batches = chance(40);
        break;
    case 7:
        between.hold_answers = chance(60);
        break;
    case 8:
        stores_hang(chance(70) ? THERE : HERE, self);
        break;
    case 9:
        moves_here();
        break;
    case 10:
        moves_over_there();
        break;
    case 11:
        stores_fail_there(chance(50));
        break;
    case 12:
        if (!pair.side[self].dead && chance(20))
            array_operator_group(pair.side[self].array, pair.now_us, 7, 0,
                                 chance(40) ? GROUP_SUSPEND : GROUP_RESUME, false);
        break;
    default:
        if (chance(50))
            between.hold_sessions = chance(30);
        else if (!pair_worlds[THERE].side[self].dead)
            pair_worlds[THERE].side[self].down_due = pair_worlds[THERE].side[self].up_due = true;
    }
}

static void soon_over(int self)
{
    between.hold_answers = between.hold_batches = between.hold_sessions = false;
    pair_worlds[HERE].side[self].hold_store = pair_worlds[THERE].side[self].hold_store = false;
    stores_fail_there(false);
    if (!pair.side[self].dead)
        array_operator_group(pair.side[self].array, pair.now_us, 7, 0, GROUP_RESUME, false);
}

static void step(bool faults)
{
    pass_time(chance(20) ? below(30000) : below(30));
    array_step(HERE, (int)below(PAIR));
    array_step(THERE, (int)below(PAIR));
    if (chance(20))
        host_writes();
    if (chance(3))
        host_discards();
    if (chance(3))
        host_reads();
    if (chance(10))
        read_there();
    check_read();
    if (faults && chance(4))
        fault();
    if (chance(3)) /* most of what goes wrong is soon over */
        soon_over((int)below(PAIR));
    collect();
    look_again();
}

static bool all_is_well(void)
{
    int self = shower();
    if (self < 0 || !serves(A, ROLE_PAIRED) || !serves(B, ROLE_PAIRED))
        return false;
    pair_use(THERE);
    bool well = serves(A, ROLE_PAIRED) && serves(B, ROLE_PAIRED);
    pair_use(HERE);
    const struct receiver *receiver = &group_there(self)->second.receiver;
    return well && receiver->consistent && receiver->held_count == 0;
}

static void heal(void)
{
    soon_over(A);
    soon_over(B);
    pair_worlds[THERE].store_later = NULL;
    for (int i = 0; i < 1500; i++) {
        for (int self = A; self < PAIR; self++) {
            returns_here(self);
            returns_to_there(self);
            if (!pair.side[self].dead && i % 50 == 0)
                array_operator_group(pair.side[self].array, pair.now_us, 7, 0, GROUP_RESUME, false);
        }
        pass_both_ms(20);
        collect();
        if (i > 150 && all_is_well())
            return;
    }
    pair_use(THERE);
    fail_msg("never well again: there %s, %s, shown by %d", status_of(A)->reason,
             status_of(B)->reason, shower());
}

static void sites_are_the_same(void)
{
    take_picture(shower());
    for (int v = 0; v < COPIED; v++) {
        uint64_t size = pair.config.volumes[copied[v]].size_bytes;
        uint32_t read = ask_read(server_of((uint8_t)v), copied[v], 0, size);
        settle_both();
        assert_ok(read);
        for (uint64_t at = 0; at < size; at += SECTOR_SIZE) {
            if (memcmp(pair.seen[read].data + at, visible[v] + at, SECTOR_SIZE) != 0)
                fail_msg("the sites differ: %d/%llu/%llu is %u here and %u there", v,
                         (unsigned long long)(at / PAGE),
                         (unsigned long long)(at % PAGE / SECTOR_SIZE),
                         get_u32(pair.seen[read].data + at), get_u32(visible[v] + at));
        }
    }
}

static void a_life(uint64_t seed, uint32_t slots, uint32_t budget, uint32_t room, bool faults)
{
    memset(&world, 0, sizeof world);
    kills_there = returns_there = moves_there = looks = reads_there = 0;
    reading.asked = false;
    shown_by = -1;
    for (int v = 0; v < COPIED; v++)
        visible[v] = calloc(1, VOLUME_BYTES);
    generator_seed(&world.dice, seed);
    create_both(slots, budget, room);
    between.promoted = look_at_a_promotion;
    pair_worlds[THERE].store_later = store_takes_its_time;
    memset(world.moved, true, sizeof world.moved); /* each went to its home */
    for (int i = 0; i < STEPS; i++)
        step(faults);
    heal();
    sites_are_the_same();
    print_message("seed %llu: writes %u kills %u+%u returns %u+%u moves %u+%u promotions %u "
                  "consistent %u falls %llu restarts %llu refused %u there %u looks %u "
                  "reads %u\n",
                  (unsigned long long)seed, world.write_count, world.kills, kills_there,
                  world.returns, returns_there, world.moves, moves_there, between.promotions,
                  between.consistent, (unsigned long long)(group_of(A)->falls + group_of(B)->falls),
                  (unsigned long long)(group_of(A)->restarts + group_of(B)->restarts),
                  world.refused, between.session[A].refused + between.session[B].refused, looks,
                  reads_there);
    destroy_both();
    for (int v = 0; v < COPIED; v++)
        free(visible[v]);
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

static void without_faults(void **state)
{
    for (uint64_t seed = 1; seed <= 2; seed++)
        a_life(seed, 512, 60, ROOM, false);
}

static void with_every_fault(void **state)
{
    uint64_t first = number_of("COPY_SEED", 1), count = number_of("COPY_SEEDS", 5);
    for (uint64_t seed = first; seed < first + count; seed++) {
        bool small = seed % 5 == 0;
        a_life(seed, small ? 160 : 1024, small ? 20 : 100, small ? 50 : 380, true);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_faults),
        cmocka_unit_test(with_every_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
