# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""What clusters and multipath rely on: one logical unit that two controllers show. Reservations, unit attentions, mode
pages and port groups are the same through both, and survive the loss of either."""

import re
import struct
import subprocess
import time

import pytest

import scsihost
from holdfast import LONG_LEASE, MI, Host, Volume, wait_for
from scsihost import CHECK, CONFLICT, GOOD

OPTIMIZED, NON_OPTIMIZED, STANDBY, UNAVAILABLE, TRANSITIONING = 0, 1, 2, 3, 15


@pytest.fixture
def hosts():
    hosts = scsihost.Hosts()
    yield hosts
    hosts.end()


@pytest.fixture
def iscsi_pair(make_pair):
    return make_pair(iscsi=True)


def log_in(hosts, controller, name, volume="alpha", initiator=None):
    """A session without pending unit attentions, named after the host and its path."""
    session = hosts.open(f"{name}-{controller.name}", controller.iscsi_url(volume), initiator or f"iqn.2026-11.test:{name}")
    session.clear_attentions()
    return session


def both(hosts, pair, name, volume="alpha"):
    return log_in(hosts, pair.a, name, volume), log_in(hosts, pair.b, name, volume)


def survivor_of(pair, name):
    """Kill the controller; the other one, serving alone."""
    other = pair.other(pair.controller(name))
    pair.controller(name).kill()
    other.wait_role("solo")
    return other


# ---- identity ----

def designators(session):
    """{(association, type): bytes} of the device identification page (SPC-4 7.8.6)."""
    data = session.inquiry(0x83)
    at, end, found = 4, 4 + struct.unpack_from(">H", data, 2)[0], {}
    while at < end:
        found[data[at + 1] >> 4 & 3, data[at + 1] & 15] = data[at + 4:at + 4 + data[at + 3]]
        at += 4 + data[at + 3]
    return found


def test_the_volume_has_one_name_and_each_path_its_own_port(iscsi_pair, hosts):
    one, two = both(hosts, iscsi_pair, "x")
    here, there = designators(one), designators(two)
    assert here[0, 3] == there[0, 3] and len(here[0, 3]) == 16 and here[0, 3][0] >> 4 == 6, "NAA 6"
    assert (here[1, 4][-2:], there[1, 4][-2:]) == (b"\0\1", b"\0\2"), "relative target ports"
    assert (here[1, 5][-2:], there[1, 5][-2:]) == (b"\0\1", b"\0\2"), "target port groups"
    assert designators(log_in(hosts, iscsi_pair.a, "y", "beta"))[0, 3] != here[0, 3]


def test_the_name_survives_a_restart_of_both(iscsi_pair, hosts):
    name = designators(log_in(hosts, iscsi_pair.a, "x"))[0, 3]
    iscsi_pair.stop()
    iscsi_pair.start()
    assert designators(log_in(hosts, iscsi_pair.b, "y"))[0, 3] == name


# ---- target port groups ----

def states(session):
    return {group: state for group, (state, _, _) in session.target_port_groups().items()}


def test_port_groups_are_reported_alike_through_both_paths(iscsi_pair, hosts):
    for volume, expected in (("alpha", {1: OPTIMIZED, 2: NON_OPTIMIZED}), ("beta", {1: NON_OPTIMIZED, 2: OPTIMIZED})):
        one, two = both(hosts, iscsi_pair, volume, volume)
        assert one.report_groups_raw() == two.report_groups_raw()
        assert states(one) == expected
        assert [ports for _, _, ports in one.target_port_groups().values()] == [[1], [2]]


def test_a_move_changes_the_groups_and_every_path_is_told(iscsi_pair, hosts):
    one, two = both(hosts, iscsi_pair, "x")
    iscsi_pair.move("alpha", "b")
    iscsi_pair.wait_owner("alpha", "b")
    for session in (one, two):
        assert session.clear_attentions() == [scsihost.ACCESS_STATE_CHANGED]
    assert states(one) == states(two) == {1: NON_OPTIMIZED, 2: OPTIMIZED}


def test_set_target_port_groups_moves_the_volume(iscsi_pair, hosts):
    one, two = both(hosts, iscsi_pair, "x")
    wanted = struct.pack(">4xBxHBxH", OPTIMIZED, 2, NON_OPTIMIZED, 1)
    answer = one.run(struct.pack(">BB4xIBB", 0xA4, 0x0A, len(wanted), 0, 0), out=wanted)
    assert answer.status == GOOD, answer
    iscsi_pair.wait_owner("alpha", "b")
    # SPC-4 5.11.2.6: the nexus that asked is not told what it asked for; the others are.
    assert two.clear_attentions() == [scsihost.ACCESS_STATE_CHANGED]
    assert states(two) == {1: NON_OPTIMIZED, 2: OPTIMIZED}


def test_after_a_takeover_the_dead_ones_group_is_unavailable(iscsi_pair, hosts):
    other = log_in(hosts, iscsi_pair.b, "x")
    survivor_of(iscsi_pair, "a")
    assert other.clear_attentions() == [scsihost.ACCESS_STATE_CHANGED]
    assert states(other) == {1: UNAVAILABLE, 2: OPTIMIZED}
    iscsi_pair.a.start()
    iscsi_pair.wait_paired(timeout=15)
    wait_for("the returned one's group is usable", lambda: other.clear_attentions() is not None
             and states(other) == {1: NON_OPTIMIZED, 2: OPTIMIZED}, 5)
    back = log_in(hosts, iscsi_pair.a, "x")
    assert back.report_groups_raw() == other.report_groups_raw()


@pytest.mark.parametrize("transition", ["wait", "busy", "transitioning"])
def test_a_command_during_a_takeover_gets_what_the_volume_says(make_pair, hosts, transition):
    # A short lease: until it has passed, the commands must not fill the session's window.
    lease_ms = 1500
    pair = make_pair(iscsi=True, volumes=[Volume("alpha", transition=transition)], lease=f"{lease_ms}ms")
    other = log_in(hosts, pair.b, "x")
    pair.a.kill(19)  # SIGSTOP: nobody can prove its end, so the lease must pass
    begin, sent = time.monotonic(), []
    # The first is shipped to the one that is frozen, and waits for the takeover; those that follow show its phases.
    while not (sent and other.answered(sent[0], 0.02)) and time.monotonic() < begin + 20:
        sent.append(other.send(scsihost.write16(len(sent), 1), out=b"t" * 512))
    assert time.monotonic() - begin > 0.5 * lease_ms / 1000, "nothing may be written before the fencing is over"
    seen = set()
    for tag in sent:
        answer = other.wait(tag, 20)
        if answer.status != GOOD and not (answer.sense and answer.sense[0] == scsihost.UNIT_ATTENTION):
            seen.add(answer.sense or answer.status)
    assert seen == {"wait": set(), "busy": {scsihost.BUSY}, "transitioning": {(2, 4, 0x0A)}}[transition]
    other.clear_attentions()
    assert other.write(0, b"u" * 512).status == GOOD and other.read(0).data == b"u" * 512


# ---- persistent reservations ----

def test_registrations_are_the_same_through_both(iscsi_pair, hosts):
    (xa, xb), (ya, yb) = both(hosts, iscsi_pair, "x"), both(hosts, iscsi_pair, "y")
    for session, key in ((xa, 0x11), (xb, 0x11), (yb, 0x22)):
        assert session.register(key).status == GOOD
    generation, keys = xa.keys()
    assert sorted(keys) == [0x11, 0x11, 0x22]
    for session in (xb, ya, yb):
        assert session.keys() == (generation, keys)
    assert xa.reserve(0x11, scsihost.WE_RO).status == GOOD
    assert all(session.reservation() == (0x11, scsihost.WE_RO) for session in (xa, xb, ya, yb))
    full = xa.full_status()
    assert full == yb.full_status()
    assert [(key, port, holder) for key, holder, port, _ in full] == [(0x11, 2, False), (0x11, 1, True), (0x22, 2, False)]
    assert all(re.match(r"iqn\.2026-11\.test:[xy],i,0x", name) for _, _, _, name in full), full


@pytest.mark.parametrize("kind, reads, writes", [(scsihost.WE, True, False), (scsihost.EA, False, False),
                                                 (scsihost.WE_RO, True, False), (scsihost.EA_RO, False, False),
                                                 (scsihost.WE_AR, True, False), (scsihost.EA_AR, False, False)])
def test_a_reservation_made_through_one_holds_at_the_other(iscsi_pair, hosts, kind, reads, writes):
    xa, yb = log_in(hosts, iscsi_pair.a, "x"), log_in(hosts, iscsi_pair.b, "y")
    assert xa.register(1).status == GOOD and xa.reserve(1, kind).status == GOOD
    assert yb.read(0).status == (GOOD if reads else CONFLICT)
    assert yb.write(0, bytes(512)).status == (GOOD if writes else CONFLICT)
    assert yb.test_unit_ready().status == GOOD and xa.write(0, bytes(512)).status == GOOD
    assert yb.register(2).status == GOOD
    all_registrants = kind not in (scsihost.WE, scsihost.EA)
    assert yb.write(0, bytes(512)).status == (GOOD if all_registrants else CONFLICT)
    assert xa.release(1, kind).status == GOOD
    assert yb.clear_attentions() == ([scsihost.RESERVATIONS_RELEASED] if all_registrants else [])
    assert yb.write(0, bytes(512)).status == GOOD


@pytest.mark.parametrize("dies", ["a", "b"])
def test_reservations_survive_a_takeover(iscsi_pair, hosts, dies):
    xa, xb = both(hosts, iscsi_pair, "x")
    ya, yb = both(hosts, iscsi_pair, "y")
    za, zb = both(hosts, iscsi_pair, "z")
    for session in (xa, xb):
        assert session.register(1).status == GOOD
    for session in (ya, yb):
        assert session.register(2).status == GOOD
    assert (xa if dies == "a" else xb).reserve(1, scsihost.WE_RO).status == GOOD
    before = xa.full_status(), xa.keys()
    survivor_of(iscsi_pair, dies)
    x, y, z = (xb, yb, zb) if dies == "a" else (xa, ya, za)
    for session in (x, y, z):
        session.clear_attentions()
    assert (x.full_status(), x.keys()) == before, "those of the dead controller's port, too"
    assert x.reservation() == (1, scsihost.WE_RO)
    assert z.write(0, bytes(512)).status == CONFLICT and z.read(0).status == GOOD
    assert x.write(0, bytes(512)).status == GOOD and y.write(0, bytes(512)).status == GOOD
    # The other node of the cluster fences the one that is lost: its registrations at both ports are gone.
    assert y.preempt(2, 1, scsihost.WE_RO).status == GOOD
    assert y.keys()[1] == [2, 2] and y.reservation() == (2, scsihost.WE_RO)
    assert x.clear_attentions() == [scsihost.REGISTRATIONS_PREEMPTED]
    assert x.write(0, bytes(512)).status == CONFLICT
    iscsi_pair.controller(dies).start()
    iscsi_pair.wait_paired(timeout=15)
    back = log_in(hosts, iscsi_pair.controller(dies), "w")
    assert back.keys()[1] == [2, 2] and back.write(0, bytes(512)).status == CONFLICT


def test_a_preempted_host_is_told_at_the_other_controller(iscsi_pair, hosts):
    xa, yb = log_in(hosts, iscsi_pair.a, "x"), log_in(hosts, iscsi_pair.b, "y")
    assert xa.register(1).status == GOOD and yb.register(2).status == GOOD
    assert xa.reserve(1, scsihost.EA_RO).status == GOOD
    assert yb.preempt(2, 1, scsihost.EA_RO).status == GOOD
    assert xa.clear_attentions() == [scsihost.REGISTRATIONS_PREEMPTED]
    assert xa.write(0, bytes(512)).status == CONFLICT and yb.write(0, bytes(512)).status == GOOD
    assert yb.clear(2).status == GOOD and yb.keys()[1] == []


def test_registrations_outlive_the_session_and_only_APTPL_outlives_both_controllers(iscsi_pair, hosts):
    xa = log_in(hosts, iscsi_pair.a, "x")
    assert xa.register(1).status == GOOD and xa.reserve(1, scsihost.WE).status == GOOD
    xa.close()
    yb = log_in(hosts, iscsi_pair.b, "y")
    assert yb.keys()[1] == [1] and yb.write(0, bytes(512)).status == CONFLICT
    xa = log_in(hosts, iscsi_pair.a, "x")
    assert xa.write(0, bytes(512)).status == GOOD, "the same initiator port is the holder again"
    beta = log_in(hosts, iscsi_pair.b, "v", "beta")
    assert beta.register(7, aptpl=True).status == GOOD and beta.reserve(7, scsihost.EA).status == GOOD
    iscsi_pair.stop()
    iscsi_pair.start()
    alpha, beta = log_in(hosts, iscsi_pair.a, "x"), log_in(hosts, iscsi_pair.a, "w", "beta")
    assert alpha.keys()[1] == [] and alpha.reservation() is None
    assert beta.keys()[1] == [7] and beta.reservation() == (7, scsihost.EA)
    assert beta.read(0).status == CONFLICT


def test_a_reservation_of_SPC_2_is_held_against_the_other_path_and_ends_with_its_session(iscsi_pair, hosts):
    xa, yb = log_in(hosts, iscsi_pair.a, "x"), log_in(hosts, iscsi_pair.b, "y")
    assert xa.run(bytes([0x16, 0, 0, 0, 0, 0])).status == GOOD
    assert yb.write(0, bytes(512)).status == CONFLICT and yb.run(bytes([0x16, 0, 0, 0, 0, 0])).status == CONFLICT
    xa.drop()
    wait_for("the reservation ends with the nexus", lambda: yb.write(0, bytes(512)).status == GOOD, 5)


# ---- unit attentions and mode pages ----

def mode_select_control(session, changed):
    """MODE SENSE (6) of the control page, `changed` applied to its bytes, MODE SELECT (6)."""
    data = bytearray(session.good(bytes([0x1A, 8, 0x0A, 0, 255, 0]), into=255))
    page = bytearray(data[4:4 + 12])
    changed(page)
    page[0] &= 0x3F
    return session.run(bytes([0x15, 0x10, 0, 0, 16, 0]), out=bytes(4) + bytes(page))


def test_a_mode_page_changed_through_one_is_changed_at_the_other_which_is_told(iscsi_pair, hosts):
    xa, yb = log_in(hosts, iscsi_pair.a, "x"), log_in(hosts, iscsi_pair.b, "y")
    ya = log_in(hosts, iscsi_pair.a, "w")

    def protect(page):
        page[4] |= 8  # SWP: WRITE PROTECTED (SPC-4 7.5.8)

    assert mode_select_control(xa, protect).status == GOOD
    for session in (yb, ya):
        assert session.clear_attentions() == [scsihost.MODE_CHANGED]
        assert session.write(0, bytes(512)).sense == (7, 0x27, 0x00)
    assert xa.clear_attentions() == []
    survivor_of(iscsi_pair, "a")
    yb.clear_attentions()
    assert yb.write(0, bytes(512)).sense == (7, 0x27, 0x00), "it survives the takeover"


def test_a_unit_attention_is_told_once_and_not_to_INQUIRY(iscsi_pair, hosts):
    one = log_in(hosts, iscsi_pair.a, "x")
    iscsi_pair.move("alpha", "b")
    iscsi_pair.wait_owner("alpha", "b")
    one.inquiry()
    answer = one.read(0)
    assert answer.status == CHECK and answer.sense == scsihost.ACCESS_STATE_CHANGED
    assert one.read(0).status == GOOD


# ---- who may see what ----

def report_luns(session):
    data = session.good(struct.pack(">BBB3xIxx", 0xA0, 0, 0, 1024), into=1024)
    return [data[at + 1] for at in range(8, 8 + struct.unpack_from(">I", data)[0], 8)]


def test_a_host_sees_its_luns_and_no_other(make_pair, hosts):
    pair = make_pair(hosts=[Host("one", "iqn.2026-11.test:one", "beta@5, alpha@0:ro"),
                            Host("two", ["iqn.2026-11.test:two", "iqn.2026-11.test:three"], "alpha@7")])
    one = hosts.open("one", pair.b.iscsi_url(0), "iqn.2026-11.test:one")
    three = hosts.open("three", pair.a.iscsi_url(7), "iqn.2026-11.test:three")
    for session in (one, three):
        session.clear_attentions()
    assert report_luns(one) == [0, 5] and report_luns(three) == [7]
    assert one.read(0).status == GOOD
    assert one.write(0, bytes(512)).sense == (7, 0x27, 0x00), "write protected for this host"
    assert three.write(0, b"3" * 512).status == GOOD and one.read(0).data == b"3" * 512
    stray = hosts.open("stray", pair.a.iscsi_url(5), "iqn.2026-11.test:two")
    answer = stray.test_unit_ready()
    assert answer.sense == (5, 0x25, 0x00), answer
    assert stray.inquiry()[0] == 0x7F, "peripheral qualifier 3: no such unit"
    for stranger in ("iqn.2026-11.test:four", "iqn.2026-11.test:on"):
        assert "515" in hosts.try_open("no", pair.a.iscsi_url(7), stranger) or \
            "514" in hosts.try_open("no", pair.a.iscsi_url(7), stranger)


# ---- COMPARE AND WRITE ----

def counter(pair, *words, disturb=None, at=0):
    """caw-counter to its end; `disturb` is called once the first initiator has made `at` increments."""
    process = subprocess.Popen([scsihost.program("tests/iscsi/caw-counter"), *map(str, words)], text=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if disturb and line == f"at {at}\n":
                disturb()
                disturb = None
        assert process.wait(60) == 0 and disturb is None, "".join(said[-5:])
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(5)
    found = re.search(r"counter (\d+) expected (\d+) miscompares (\d+) path_changes (\d+)", said[-1])
    return [int(number) for number in found.groups()]


def urls(pair):
    return pair.a.iscsi_url("alpha"), pair.b.iscsi_url("alpha")


@pytest.mark.parametrize("initiators", [2, 6])
def test_no_increment_through_two_controllers_at_once_is_lost(iscsi_pair, initiators):
    found, expected, miscompares, changes = counter(iscsi_pair, 512, 400, *urls(iscsi_pair), initiators)
    assert found == expected == 400 * initiators and changes == 0
    assert miscompares > 0, "they must have met for this to show anything"


@pytest.mark.parametrize("dies", ["a", "b"])
def test_no_increment_is_lost_or_made_twice_by_a_takeover(iscsi_pair, dies):
    found, expected, _, changes = counter(iscsi_pair, 512, 600, *urls(iscsi_pair), 4,
                                          disturb=iscsi_pair.controller(dies).kill, at=100)
    assert found == expected and changes >= 1


def test_no_increment_is_lost_while_the_volume_moves(iscsi_pair):
    def move():
        for to in ("b", "a", "b"):
            iscsi_pair.move("alpha", to)
            iscsi_pair.wait_owner("alpha", to)

    found, expected, _, changes = counter(iscsi_pair, 512, 3000, *urls(iscsi_pair), 2, disturb=move, at=100)
    assert found == expected and changes == 0, "a move costs no path"


def test_a_miscompare_says_where(iscsi_pair, hosts):
    one = log_in(hosts, iscsi_pair.b, "x")
    assert one.write(9, b"a" * 512).status == GOOD
    answer = one.compare_and_write(9, b"a" * 300 + b"b" + b"a" * 211, b"c" * 512)
    assert answer.sense == scsihost.MISCOMPARE
    assert struct.unpack_from(">I", answer.sense_bytes, 3)[0] == 300, "INFORMATION: the first byte that differs"
    assert one.read(9).data == b"a" * 512
    assert one.compare_and_write(9, b"a" * 512, b"c" * 512).status == GOOD and one.read(9).data == b"c" * 512


# ---- task management against a store that hangs ----

FUNCTIONS = ["abort", "abort-set", "clear-set", "lun-reset", "warm-reset", "cold-reset"]


@pytest.mark.parametrize("path", ["a", "b"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_task_management_is_answered_while_the_store_hangs(make_pair, hosts, function, path):
    pair = make_pair(iscsi=True, faulty={}, lease=LONG_LEASE)
    one, other = log_in(hosts, pair.controller(path), "x"), log_in(hosts, pair.a, "y")
    pair.faulty.pause()
    stuck = [one.send(scsihost.read16(lba, 8), into=4096) for lba in (8000, 16000)]
    theirs = other.send(scsihost.read16(12000, 8), into=4096)
    assert not one.answered(stuck[0], 0.3), "this test needs a store that hangs"
    begin = time.monotonic()
    managed = one.manage(function, stuck[0] if function == "abort" else None)
    if function == "cold-reset":
        # RFC 7143 section 11.5.1: the target then ends all its sessions; whether the answer comes first is open.
        hosts.until("an answer or the end", lambda: hosts.lost.get(one.name) or hosts.answers.get((one.name, managed)), 9)
        one.lost(9)
        if path == "a":
            other.lost(5)  # of all initiators, at that controller
    else:
        assert one.wait(managed, 9) == scsihost.COMPLETE
    assert time.monotonic() - begin < 9, "before the time limit of 10 s ends it"
    pair.faulty.resume()
    if function == "cold-reset":
        one = log_in(hosts, pair.controller(path), "x")
        if path == "a":
            other = log_in(hosts, pair.a, "y")
        else:
            assert [sense[:2] for sense in other.clear_attentions()] == [(6, 0x29)], "reset, at the other controller"
    else:
        # What was aborted is never answered; what was not is.
        assert one.answered(stuck[1], 2) == (function == "abort")
        assert not one.answered(stuck[0])
        # TST = 001b: each nexus has a task set of its own, so CLEAR TASK SET clears but that (SAM-5 7.3, SPC-4 7.5.8).
        assert other.answered(theirs, 2) == (function in ("abort", "abort-set", "clear-set"))
        expected = {"lun-reset": [scsihost.BUS_DEVICE_RESET]}
        told = other.clear_attentions()
        if function == "warm-reset":
            assert told and told[0][:2] == (6, 0x29), told
        else:
            assert told == expected.get(function, []), told
        one.clear_attentions()
    for session in (one, other):
        assert session.write(8000, b"z" * 4096).status == GOOD and session.read(8000, 8).data == b"z" * 4096


def waiting_for_room(controller):
    return controller.status()["cache"]["requests_waiting_for_room"]


@pytest.mark.parametrize("path", ["a", "b"])
def test_a_reset_does_not_wait_for_writes_that_wait_for_room(make_pair, hosts, path):
    # The kernel lets a dozen operations wait on a FUSE file, and the one that asks for more stands still with its lease:
    # so all is dirty in one piece before the first destage is due.
    pair = make_pair(iscsi=True, faulty={}, cache="4M", destage_after="60s", dirty_low=74, dirty_high=75, lease="20s")
    one, other = log_in(hosts, pair.controller(path), "x"), log_in(hosts, pair.a, "y")
    pair.faulty.pause()
    written, waiting = 0, []
    while not waiting:
        assert written < 8 * MI, "this test needs a cache that is full"
        tag = one.send(scsihost.write16(written // 512, 8), out=bytes(4096))
        written += 4096
        if one.answered(tag, 1) or not waiting_for_room(pair.a):
            assert one.wait(tag).status == GOOD
        else:
            waiting.append(tag)
    waiting += [one.send(scsihost.write16(written // 512 + 8 * number, 8), out=bytes(4096)) for number in range(7)]
    wait_for("all of them wait for room", lambda: waiting_for_room(pair.a) == 8)
    begin = time.monotonic()
    assert one.wait(one.manage("lun-reset"), 9) == scsihost.COMPLETE
    assert time.monotonic() - begin < 9, "before the time limit of 10 s ends it"
    pair.faulty.resume()
    assert not any(one.answered(tag, 0.1) for tag in waiting)
    for session in (one, other):
        session.clear_attentions()
        assert session.write(8000, b"z" * 4096).status == GOOD and session.read(8000, 8).data == b"z" * 4096


def test_preempt_and_abort_ends_the_victims_commands_while_the_store_hangs(make_pair, hosts):
    pair = make_pair(iscsi=True, faulty={})
    xa, yb = log_in(hosts, pair.a, "x"), log_in(hosts, pair.b, "y")
    assert xa.register(1).status == GOOD and yb.register(2).status == GOOD
    assert xa.reserve(1, scsihost.WE_RO).status == GOOD
    pair.faulty.pause()
    stuck = xa.send(scsihost.read16(8000, 8), into=4096)
    assert not xa.answered(stuck, 0.3)
    answer = yb.preempt(2, 1, scsihost.WE_RO, abort=True)
    pair.faulty.resume()
    assert answer.status == GOOD, answer
    assert not xa.answered(stuck, 1), "an aborted command has no answer (TAS = 0)"
    assert scsihost.REGISTRATIONS_PREEMPTED in xa.clear_attentions()
    assert xa.write(0, bytes(512)).status == CONFLICT


# ---- sessions ----

def test_a_second_session_of_the_same_port_replaces_the_first(iscsi_pair, hosts):
    first = log_in(hosts, iscsi_pair.a, "x")
    again = hosts.open("again", iscsi_pair.a.iscsi_url("alpha"), "iqn.2026-11.test:x")
    first.lost(5)
    again.clear_attentions()
    assert again.read(0).status == GOOD


def test_header_digests_are_done_when_asked_for(iscsi_pair, hosts):
    one = hosts.open("d", iscsi_pair.b.iscsi_url("alpha"), digest=True)
    one.clear_attentions()
    data = bytes(range(256)) * 256
    assert one.write(100, data).status == GOOD and one.read(100, 128).data == data
