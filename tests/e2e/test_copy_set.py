# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""Several primary arrays that are cut at one moment, all controllers real processes: transactions that depend on each
other go over all of them, one controller after another dies, the sites are lost, and the copies are failed over to one
cut: no transaction is there whose predecessor is not. A member that is gone costs hosts nothing."""

import time

import pytest

from copy_set import Set
from holdfast import LONG_LEASE, MI, PATIENCE, wait_for
from transactions import Program, check_no_hole, find

SETTINGS = {"destage_after": "10ms"}


@pytest.fixture
def make_set(make_pair):
    """make_set(**settings of copy_set.Set) -> its running arrays."""
    made = []

    def make(**settings):
        made.append(Set(make=make_pair, **{**SETTINGS, **settings}))
        return made[-1]

    yield make
    for one in made:
        one.end()


def readers(arrays, places):
    """A function (offset, length) -> bytes for each volume, over NBD at its owner."""
    handles = []
    for pair, name in places:
        owner = wait_for(f"{name} is served", lambda pair=pair, name=name: pair.owner(name), 10)
        handles.append(pair.controller(owner).connect(name))
    return [lambda offset, length, handle=handle: handle.pread(length, offset) for handle in handles]


def shown(arrays):
    """group -> what the controllers of the arrays with the copies say of it."""
    return {g["name"]: g for pair in arrays.seconds for g in arrays.groups(pair)}


def check_copies(arrays, program):
    """After the failover: one cut, and the transactions 1..n, all that were acknowledged before it among them."""
    groups = shown(arrays)
    cuts = {g["set"]["shown_cut"] for g in groups.values()}
    assert set(groups) == {"orders", "stock"} and len(cuts) == 1 and cuts != {0}, groups
    assert all(g["condition"] == "failed over" and g["hosts"] == "served" for g in groups.values())
    found = find(readers(arrays, arrays.all_volumes(arrays.seconds)), arrays.volume_size)
    return check_no_hole(found, program.times, min(g["shown_wall_us"] for g in groups.values()))


def lose_the_primaries(arrays, program):
    """One after the other, as sites do: a transaction may be at the one and not at the other."""
    arrays.destroy(arrays.paris)
    arrays.destroy(arrays.berlin)
    program.end()
    assert program.acknowledged > 100, program.failure


def test_two_arrays_and_one_copy_outlive_the_coordinator_and_both_sites(make_set):
    arrays = make_set(lease=LONG_LEASE)
    arrays.wait_consistent(30)
    coordinator = arrays.wait_running()
    program = Program(None, arrays.all_volumes(arrays.primaries), pause=0.001)
    wait_for("transactions", lambda: program.acknowledged > 200, 20)
    coordinator.kill()
    before = program.acknowledged
    wait_for("hosts go on", lambda: program.acknowledged > before + 100, 30)
    other = arrays.wait_running(30)
    assert other is not coordinator
    before = arrays.coordinator()[1]["promoted_cut"]
    wait_for("cuts go on", lambda: arrays.coordinator()[1]["promoted_cut"] > before + 3, 20)
    lose_the_primaries(arrays, program)
    arrays.fail_over()
    last = check_copies(arrays, program)
    assert last > before / 2
    # Hosts work there, across both groups.
    more = Program(None, arrays.all_volumes(arrays.seconds), first=last + 1)
    wait_for("hosts work there", lambda: more.acknowledged > last + 50, 10)
    more.end()


def test_two_arrays_and_two_copies_show_one_moment(make_set, tmp_path):
    psk = tmp_path / "psk"
    psk.touch(0o600)
    psk.write_text("00112233445566778899aabbccddeeff\n")
    arrays = make_set(seconds=2, lease=LONG_LEASE, delay=0.02, keys=[f"tls_psk = {psk}"])
    arrays.wait_consistent(30)
    coordinator = arrays.wait_running()
    assert "set shop: logged in at array paris" in coordinator.log()
    assert all("encrypted" in line for line in coordinator.log().splitlines() if "logged in at array paris" in line)
    program = Program(None, arrays.all_volumes(arrays.primaries), pause=0.0005)
    wait_for("transactions", lambda: program.acknowledged > 300, 20)
    _, set_ = arrays.coordinator()
    assert set_["hold"]["count"] > 5
    # On average: a machine with other work may let one of them wait; the bound itself is for the simulator's clock.
    assert set_["hold"]["mean_us"] <= set_["hold"]["limit_ms"] * 1000, "cuts held writes for longer than they may"
    lose_the_primaries(arrays, program)

    # Not without the other copy, and nothing is done then.
    munich, vienna = arrays.seconds
    alone = arrays.cli("group", "failover", Set.NAME, pairs=[munich], check=False)
    assert alone.returncode == 1 and "the copy of what is at array paris is not at the arrays asked" in alone.stderr
    by_itself = arrays.cli("group", "failover", "stock", pairs=[vienna], check=False)
    assert by_itself.returncode == 1 and "is one of set shop" in by_itself.stderr
    assert {g["condition"] for g in arrays.groups(munich) + arrays.groups(vienna)} <= {"consistent", "behind"}
    said = arrays.fail_over()
    assert "all copies go to cut" in said
    check_copies(arrays, program)
    again = arrays.cli("group", "failover", Set.NAME, pairs=arrays.seconds)
    assert again.stdout.count("it was failed over before") == 2


def test_hosts_do_not_wait_for_a_member_that_is_gone(make_set):
    arrays = make_set(lease=LONG_LEASE)
    arrays.wait_consistent(30)
    arrays.wait_running()
    for way in arrays.to_paris.values():
        way.cut()
    program = Program(None, arrays.all_volumes(arrays.primaries))
    began, slowest, last = time.monotonic(), 0.0, 0
    while time.monotonic() < began + 3:
        at, acknowledged = time.monotonic(), program.acknowledged
        wait_for("a transaction", lambda acknowledged=acknowledged: program.acknowledged > acknowledged, 10, step=0.001)
        slowest = max(slowest, time.monotonic() - at)
        last = program.acknowledged
    assert slowest < PATIENCE, "a host waited for a member"
    arrays.wait_condition(arrays.berlin, "suspended", "members", timeout=30)
    for way in arrays.to_paris.values():
        way.heal()
    arrays.wait_running(30)
    arrays.wait_consistent(30)
    wait_for("hosts go on", lambda: program.acknowledged > last, 10)
    lose_the_primaries(arrays, program)
    arrays.fail_over()
    check_copies(arrays, program)


def test_a_set_is_quiet_when_nobody_writes(make_set):
    arrays = make_set(lease=LONG_LEASE)
    arrays.wait_consistent(30)
    coordinator = arrays.wait_running()
    time.sleep(1)
    began, cuts = time.monotonic(), coordinator.status()["groups"][0]["set"]["cuts"]
    time.sleep(4)
    made = coordinator.status()["groups"][0]["set"]["cuts"] - cuts
    assert made <= time.monotonic() - began + 1, "cycle is 20 ms, and nobody writes"
    program = Program(None, arrays.all_volumes(arrays.primaries), pause=0.001)
    cuts += made
    wait_for("cuts as often as ever", lambda: coordinator.status()["groups"][0]["set"]["cuts"] > cuts + 20, 8)
    program.end()


def test_cuts_that_take_longer_than_completions_may_be_held_are_named(make_set):
    arrays = make_set(lease=LONG_LEASE, hold="10ms", between=0.03)
    named = arrays.wait_condition(arrays.berlin, "initial copy", "hold", timeout=60)["orders"]
    assert "no cut is made: completions are held for 10 ms at most (hold), and it took" in named["reason"]
    assert named["set"]["failed_in_a_row"] >= 5 and named["set"]["close_us"] >= 60000
    program = Program(None, arrays.all_volumes(arrays.primaries))
    wait_for("hosts go on", lambda: program.acknowledged > 50, 20)
    program.end()


def test_files_that_mean_different_sets_are_found(make_set):
    arrays = make_set(seconds=2, start=False)
    for pair in arrays.pairs:
        pair.write_config()
    text = arrays.cli("check", pairs=arrays.pairs).stdout
    assert "set shop: array berlin coordinates, its copy is at munich, array paris, its copy is at vienna" in text
    text = arrays.cli("check", pairs=[arrays.berlin, arrays.seconds[0]]).stdout
    assert "array paris (not among these files)" in text
    arrays.paris.more = [line.replace("hold = 50ms", "hold = 70ms") for line in arrays.paris.more]
    arrays.paris.write_config()
    checked = arrays.cli("check", pairs=arrays.pairs, check=False)
    assert checked.returncode == 1 and "hold: 50 ms, and 70 ms for [group stock]" in checked.stderr
    checked = arrays.cli("check", pairs=[arrays.berlin, arrays.seconds[1]], check=False)
    assert checked.returncode == 0, "they share the set and no group"


def test_failover_while_the_primaries_live(make_set):
    """Refused by all copies before anything is done; with --force they are of one moment, whatever is promoted meanwhile."""
    arrays = make_set(seconds=2, lease=LONG_LEASE, delay=0.01)
    arrays.wait_consistent(30)
    arrays.wait_running()
    program = Program(None, arrays.all_volumes(arrays.primaries), pause=0.0005)
    wait_for("transactions", lambda: program.acknowledged > 200, 20)
    refused = arrays.cli("group", "failover", Set.NAME, pairs=arrays.seconds, check=False)
    assert refused.returncode == 1 and "still answers" in refused.stderr and "nothing was done" in refused.stderr
    assert {g["role"] for g in shown(arrays).values()} == {"receiving"}
    before = program.acknowledged
    wait_for("hosts go on", lambda: program.acknowledged > before + 50, 20)
    arrays.cli("group", "failover", Set.NAME, "--force", pairs=arrays.seconds)
    program.end()
    check_copies(arrays, program)
    wait_for("the primaries hear of it", lambda: all(
        g["era"] == 2 and g["hosts"] == "refused" for primary in arrays.primaries for g in arrays.groups(primary)), 20)


def test_way_home_of_a_set(make_set):
    """Hosts stop, each group goes home, and then they are cut together again."""
    arrays = make_set(lease=LONG_LEASE)
    arrays.wait_consistent(30)
    arrays.wait_running()
    program = Program(None, arrays.all_volumes(arrays.primaries), pause=0.001)
    wait_for("transactions", lambda: program.acknowledged > 100, 20)
    program.end()
    lost = program.acknowledged
    for pair in arrays.primaries:
        for group in {g["name"] for g in arrays.groups(pair)}:
            arrays.cli("group", "suspend", group, pairs=[pair])
    arrays.cli("group", "failover", Set.NAME, "--force", pairs=arrays.seconds)
    last = check_copies(arrays, program)
    munich = arrays.seconds[0]
    more = Program(None, arrays.all_volumes(arrays.seconds), first=last + 1)
    wait_for("hosts work there", lambda: more.acknowledged > max(last, lost) + 20, 10)
    more.end()
    for group in Set.GROUPS.values():
        arrays.cli("group", "reverse", group, pairs=[munich])
    arrays.wait_condition(munich, "consistent", timeout=40)
    wait_for("nothing waits", lambda: all(g["behind"]["bytes"] == 0 for g in arrays.groups(munich)), 20)
    for primary in arrays.primaries:
        arrays.wait_condition(primary, "consistent", timeout=20)
        group = Set.GROUPS[primary.name]
        arrays.cli("group", "suspend", group, pairs=[munich])
        arrays.cli("group", "failover", group, "--force", pairs=[primary])
        arrays.cli("group", "reverse", group, pairs=[primary])
    arrays.wait_running(40)
    arrays.wait_consistent(40)
    found = find(readers(arrays, arrays.all_volumes(arrays.primaries)), arrays.volume_size)
    assert check_no_hole(found) >= more.acknowledged
