/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A pair whose volumes are copied, under everything that can happen to it, from seeds. Hosts write,
 * discard and read at both controllers; controllers die and return, volumes move, sessions break,
 * the second array loses what it held. Each time it says that its copy is consistent, the copy must
 * be a cut: nothing is missing that was acknowledged before something that it shows was asked for.
 * When the faults are over the two sites become the same. */

#include "copy_hosts.h"
#include "copy_second.h"

enum { STEPS = 4000 };

static uint32_t shown_at(int volume, uint64_t page, int sector)
{
    return get_u32(second.visible[volume] + page * PAGE + (uint64_t)sector * SECTOR_SIZE);
}

static void look_when_consistent(void)
{
    if (second.receiver.consistent)
        look_at_the_copy();
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
        struct flight *flight = &second.session[self].flight[i];
        if (flight->used && chance(50))
            second_receive(flight->bytes, flight->action.length_bytes);
    }
    side->dead = true;
    side->op_count = 0;
    side->message_due = side->status_due = false;
    peer->down_due = true;
    if (chance(50))
        peer->message_due = false;
    forget_requests(self);
    session_lost(&second.session[self]);
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
        second.session[self].down_due = true;
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
    second.promoted = look_when_consistent;
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
                  world.refused, second.session[A].refused + second.session[B].refused,
                  second.session[A].resets + second.session[B].resets);
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
