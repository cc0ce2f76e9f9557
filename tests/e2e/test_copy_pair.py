# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""Two arrays of two controllers each, all of them real processes: the copy is made, outlives a controller of each site,
is failed over when the first site is gone, goes there and home again with no more than what was touched, is suspended and
resumed, outlives a link that is cut, and clean stops; hosts get of it what they may, and nothing hangs."""

import errno
import os
import time

import nbd
import pytest

import scsihost
from holdfast import BINARY, KI, LONG_LEASE, MI, run, wait_for
from transactions import Program, check_no_hole, find

VOLUMES = [("alpha", 4 * MI, "a"), ("beta", 4 * MI, "b"), ("gamma", 4 * MI, "a")]
NAMES = [name for name, _, _ in VOLUMES]
SETTINGS = {"volumes": VOLUMES, "cache": "64M", "memory": "6M", "cycle": "20ms", "destage_after": "10ms",
            "lease": LONG_LEASE}
WRITE_PROTECTED = (7, 0x27, 0)
UNAVAILABLE = 3  # SPC-4 table 307


def condition(sites, pair, wanted, cause=None, timeout=20.0):
    """Until a controller of the pair says so, and why; returns what it says of the group."""
    seen = [None]

    def there():
        seen[0] = sites.groups(pair)
        return next((g for g in seen[0] if g["condition"] == wanted and cause in (None, g["cause"])), None)

    return wait_for(lambda: f"{pair.name}: {wanted}, {cause}; it is: {[(g['condition'], g['cause'], g['reason']) for g in seen[0]]}"
                            f"\n{pair.logs(40)}", there, timeout)


def both_consistent(sites, timeout=20.0):
    condition(sites, sites.first, "consistent", timeout=timeout)
    return condition(sites, sites.second, "consistent", timeout=timeout)


def readers(pair):
    """A function (offset, length) -> bytes for each volume, over NBD at its owner."""
    handles = []
    for name in NAMES:
        owner = wait_for(f"{name} is served", lambda name=name: pair.owner(name), 10)
        handles.append(pair.controller(owner).connect(name))
    return [lambda offset, length, handle=handle: handle.pread(length, offset) for handle in handles]


def contents(pair):
    return [b"".join(bytes(pread(at, MI)) for at in range(0, 4 * MI, MI)) for pread in readers(pair)]


def holder(sites):
    """The controller of the second array that holds the group."""
    def there():
        return next((c for c in (sites.second.a, sites.second.b) if c.running() and
                     any(g["incoming"]["a"] and g["incoming"]["b"] for g in (c.status() or {"groups": []})["groups"])), None)
    return wait_for(lambda: f"both halves are logged in\n{sites.second.logs(30)}", there, 15)


def refusal_of(controller, volume):
    """What the log says of an NBD client that is not let in."""
    mark = len(controller.log())
    with pytest.raises(nbd.Error):
        controller.connect(volume)
    return controller.log_since(mark)


@pytest.fixture
def scsi_hosts():
    hosts = scsihost.Hosts()
    yield hosts
    hosts.end()


def test_the_second_site_has_what_the_first_one_had_when_it_was_lost(make_sites, scsi_hosts):
    sites = make_sites(**{**SETTINGS, "lease": "5s"}, delay=0.005, iscsi=True)
    first, second = sites.first, sites.second
    both_consistent(sites)
    assert "in use at array first" in refusal_of(second.a, "alpha")
    waiting = {c: scsi_hosts.open(c.name, c.iscsi_url("alpha")) for c in (second.a, second.b)}
    for host in waiting.values():
        while (answer := host.test_unit_ready()).sense[0] == scsihost.UNIT_ATTENTION:
            pass
        assert answer.sense[0] == 2, "NOT READY"
        assert host.read(0).sense[0] == 2
        assert {state for state, _, _ in host.target_port_groups().values()} == {UNAVAILABLE}
    program = Program(first, NAMES, pause=0.001)
    wait_for("some are acknowledged", lambda: program.acknowledged > 50)
    lost = holder(sites)
    lost.kill()
    other = second.other(lost)
    wait_for("the other one holds the group", lambda: holder(sites) is other, 20)
    condition(sites, second, "consistent", timeout=30)
    before = program.acknowledged
    first.b.kill()
    wait_for("hosts go on", lambda: program.acknowledged > before + 20, 20)
    sites.wait_copied(program.times[before], timeout=30)
    sites.destroy(first)
    program.end()
    sites.fail_over(second)
    shown = condition(sites, second, "failed over")
    assert shown["hosts"] == "served" and shown["role"] == "failed over"
    assert scsihost.ACCESS_STATE_CHANGED in waiting[other].clear_attentions()
    assert waiting[other].read(0).status == scsihost.GOOD
    last = check_no_hole(find(readers(second), 4 * MI), program.times, shown["shown_wall_us"])
    assert last >= before
    more = Program(second, NAMES, first=last + 1)
    wait_for("hosts work there", lambda: more.acknowledged > last + 50, 10)
    more.end()
    last = check_no_hole(find(readers(second), 4 * MI))
    assert last >= more.acknowledged

    # The first site comes back with what it had, and gives it up.
    first.start()
    condition(sites, first, "initial copy")
    assert all(g["hosts"] == "refused" for g in sites.groups(first))
    second.other(other).start()
    second.wait_paired()
    sites.act(second, "reverse")
    both_consistent(sites, timeout=30)
    wait_for("it holds what the second site has",
             lambda: find([first.store_pread(name) for name in NAMES], 4 * MI) == set(range(1, last + 1)), 20, step=1)


def test_there_and_home_again_costs_what_was_touched(make_sites, tmp_path):
    """Encrypted and compressed, as a long way often is."""
    psk = tmp_path / "psk"
    psk.touch(0o600)
    psk.write_text("00112233445566778899aabbccddeeff\n")
    sites = make_sites(**SETTINGS, expose="read-only", keys=[f"tls_psk = {psk}", "compression = zstd"])
    first, second = sites.first, sites.second
    for name in NAMES:
        handle = first.a.connect(name)
        handle.pwrite(os.urandom(2 * MI), 0)
    both_consistent(sites)
    wait_for("all of it is there", lambda: contents(second) == contents(first), 10)
    before = contents(first)

    refused = sites.act(second, "failover", check=False)
    assert refused.returncode != 0 and "still answers" in refused.stderr
    old, copied = first.a.connect("alpha"), second.a.connect("alpha")
    old.pwrite(b"1" * 4096, 3 * MI)
    wait_for("it is copied", lambda: copied.pread(4096, 3 * MI) == b"1" * 4096, 10)
    sites.cut()
    lost = first.a.connect("gamma")
    lost.pwrite(b"lost" * 1024, MI)
    text = sites.act(second, "failover", "--force").stdout
    assert "cycle" in text
    condition(sites, second, "failed over")
    lost.pwrite(b"lost" * 1024, 3 * MI)  # the first site cannot know
    sites.heal()
    wait_for("the first site has heard of it", lambda: all(g["hosts"] == "refused" for g in sites.groups(first)), 10)
    with pytest.raises(nbd.Error) as denied:
        old.pwrite(b"2" * 4096, 3 * MI)
    assert denied.value.errnum in (errno.EPERM, errno.EIO, errno.ESHUTDOWN)
    assert "in use at array second" in refusal_of(first.a, "beta")

    there = second.a.connect("beta")
    there.pwrite(b"3" * 65536, MI)
    sites.act(second, "reverse")
    condition(sites, second, "consistent", timeout=30)
    shown = condition(sites, first, "consistent", timeout=30)
    assert shown["role"] == "receiving" and shown["era"] == 2
    now = contents(second)
    assert now[0] == before[0][:3 * MI] + b"1" * 4096 + before[0][3 * MI + 4096:]
    assert now[1] == before[1][:MI] + b"3" * 65536 + before[1][MI + 65536:] and now[2] == before[2]
    carried = sum(g["base_pages_sent"] for g in sites.all_groups(second))
    assert 32 <= carried <= 32 + 6 * 16, f"{carried} pages came home, of 18 that were touched"

    there.pwrite(b"4" * 4096, 2 * MI)
    wait_for("nothing waits", lambda: all(g["behind"]["bytes"] == 0 for g in sites.all_groups(second)), 10)
    condition(sites, first, "consistent")
    sites.act(second, "suspend")
    sites.act(first, "failover", "--force")
    condition(sites, first, "failed over")
    back = contents(first)
    assert back[1][2 * MI:2 * MI + 4096] == b"4" * 4096
    assert back[2] == before[2], "what the first site wrote after the cut was given up"
    sent = sum(g["base_pages_sent"] for g in sites.all_groups(first))
    sites.act(first, "reverse")
    both_consistent(sites, timeout=30)
    home = first.a.connect("gamma")
    home.pwrite(b"5" * 4096, 0)
    wait_for("the copy is one again", lambda: contents(second) == contents(first), 15)
    assert sites.groups(first)[0]["era"] == 3
    assert sum(g["base_pages_sent"] for g in sites.all_groups(first)) <= sent + 4 * 16


def test_a_suspended_copy_stays_as_it_is_and_is_read_only(make_sites, scsi_hosts):
    sites = make_sites(**SETTINGS, expose="read-only", iscsi=True)
    first, second = sites.first, sites.second
    writer = first.a.connect("alpha")
    writer.pwrite(b"a" * 8192, 0)
    both_consistent(sites)
    reader = second.b.connect("alpha")
    assert reader.is_read_only()
    wait_for("it is there", lambda: reader.pread(8192, 0) == b"a" * 8192, 10)
    host = scsi_hosts.open("h", second.a.iscsi_url("alpha"))
    host.clear_attentions()
    assert host.good(bytes([0x1A, 0, 0x0A, 0, 64, 0]), into=64)[2] & 0x80  # MODE SENSE: write protected
    assert host.write(0, bytes(512)).sense == WRITE_PROTECTED
    assert host.read(0, 16).data == b"a" * 8192

    sites.act(first, "suspend")
    condition(sites, first, "suspended", "operator")
    writer.pwrite(b"b" * 8192, 0)
    time.sleep(0.5)
    assert reader.pread(8192, 0) == b"a" * 8192
    assert "suspended (operator)" in sites.cli(first, "group", "status").stdout
    sites.act(first, "resume")
    wait_for("what was written meanwhile", lambda: reader.pread(8192, 0) == b"b" * 8192, 10)
    both_consistent(sites)


def test_a_link_that_is_cut_costs_hosts_nothing_and_comes_back(make_sites):
    sites = make_sites(**SETTINGS, expose="read-only")
    first, second = sites.first, sites.second
    both_consistent(sites)
    sites.cut()
    writer = first.a.connect("alpha")
    for number in range(48):  # more than the group's memory; whoever waited for the link would wait for ever
        writer.pwrite(bytes([number + 1]) * 65536, number * 65536)
    condition(sites, first, "suspended", "link")
    condition(sites, second, "behind", "link")
    sites.heal()
    both_consistent(sites, timeout=30)
    assert contents(second)[0] == contents(first)[0]


def stopped_last(pair):
    return next(c for c in (pair.a, pair.b) if "stopped: everything is on the stores" in c.log().rpartition("---- start")[2])


@pytest.mark.parametrize("begins", ["the last", "the other"])
@pytest.mark.parametrize("how", ["at once", "one by one"])
def test_after_a_clean_stop_nothing_is_copied_that_was_not_touched(make_sites, how, begins):
    """Whichever controller is started first; it is alone for a while."""
    sites = make_sites(**SETTINGS, expose="read-only")
    first, second = sites.first, sites.second
    first.a.connect("alpha").pwrite(b"x" * MI, 0)
    both_consistent(sites)
    for pair in (first, second):
        sent = 0 if pair is first else sum(g["base_pages_sent"] for g in sites.all_groups(first))
        if how == "at once":
            pair.stop()
        else:
            sites.cli(pair, "stop")
            assert pair.a.wait_exit() == pair.b.wait_exit() == 0
        last = stopped_last(pair)
        begin = last if begins == "the last" else pair.other(last)
        begin.start()
        begin.wait_role("solo")
        if pair is first and begin is not last:
            assert condition(sites, first, "suspended", "record")["base_pages_sent"] == 0
            refused = sites.act(first, "resync", check=False)
            assert refused.returncode != 0 and ("stopped last" in refused.stderr or "refused" in refused.stderr)
        pair.other(begin).start()
        pair.wait_paired()
        both_consistent(sites, timeout=30)
        assert sum(g["base_pages_sent"] for g in sites.all_groups(first)) == sent, pair.name
    first.a.connect("alpha").pwrite(b"y" * 4096, 2 * MI)
    wait_for("it goes on", lambda: contents(second) == contents(first), 20)


def test_a_volume_of_another_size_is_found(make_sites):
    sites = make_sites(volumes=[("alpha", 4 * MI, "a")], start=False, lease=LONG_LEASE)
    sites.second.volumes["alpha"].size = 4 * MI + 64 * KI
    sites.second._lay_out()
    for pair in (sites.first, sites.second):
        pair.write_config()
    compared = run(BINARY, "check", sites.first.a.config, sites.second.a.config, check=False)
    assert compared.returncode != 0 and "make them the same size" in compared.stdout
    sites.start()
    errors = [None]

    def said():
        errors[0] = [g["link"]["error"] or "" for g in sites.groups(sites.first)]
        return any("alpha" in error and "bytes" in error for error in errors[0])  # not while one of them is still starting

    wait_for(lambda: f"it is said: {errors[0]}", said, 10)
    assert "alpha" in sites.first.a.log() + sites.first.b.log()
