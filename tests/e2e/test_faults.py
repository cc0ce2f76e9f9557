# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""Controllers that die, freeze and come back, and stores that are slow, full or broken: whatever happens, every write
that a host was told is done is still there."""

import os
import re
import signal
import subprocess
import time

import nbd
import pytest

from holdfast import LEASE_MS, LONG_LEASE, MI, PATIENCE, Timeout, Volume, process_alive, run, volume_status, wait_for
from load import Load

LEASE = LEASE_MS / 1000  # seconds; the pairs' default


def load_on(pair, volume="alpha", first="a", **settings):
    return Load(pair.targets(first), volume, pair.volumes[volume].size, **settings).start()


def bring_back(pair, name):
    """Start the controller again and wait until the two are paired."""
    pair.controller(name).start()
    pair.wait_paired(timeout=15)


# ---- death ----

def test_kill_of_the_owner_under_load_loses_nothing(pair):
    alpha, beta = load_on(pair, "alpha"), load_on(pair, "beta", first="b", seed=2)
    alpha.wait_acknowledged(1500)
    moment = time.monotonic()
    pair.a.kill(signal.SIGKILL)
    alpha.wait_acknowledged(500)
    beta.wait_acknowledged(200)
    gap = alpha.first_answer_after(moment)
    print(f"first answer {gap * 1000:.0f} ms after kill -9 of the controller")
    status = pair.b.wait_role("solo")
    assert pair.owner("alpha", pair.b) == "b"
    assert status["takeover_count"] == 1
    assert "took over: the peer is gone" in pair.b.log(), "the parent's proof is enough, and no lease is waited for"
    pair.a.wait_exit()
    bring_back(pair, "a")
    alpha.wait_acknowledged(500)
    alpha.stop()
    beta.stop()
    alpha.verify_through(pair.b)
    beta.verify_through(pair.b)
    assert alpha.written_sectors() > 1000
    pair.stop()
    alpha.verify(pair.store_pread("alpha"), "the store")
    beta.verify(pair.store_pread("beta"), "the store")


def test_kill_of_the_parent_process_takes_the_controller_with_it_and_loses_nothing(pair):
    alpha = load_on(pair)
    alpha.wait_acknowledged(1000)
    child = pair.a.child_pid()
    moment = time.monotonic()
    pair.a.kill_warden(signal.SIGKILL)
    alpha.wait_acknowledged(500)
    print(f"first answer {alpha.first_answer_after(moment) * 1000:.0f} ms after kill -9 of the parent process")
    wait_for("the controller is gone with its parent", lambda: not process_alive(child), 3)
    pair.b.wait_role("solo")
    pair.a.wait_exit()
    bring_back(pair, "a")
    alpha.stop()
    alpha.verify_through(pair.b)


def test_kill_of_the_controller_that_mirrors_only_goes_on_at_once(pair):
    alpha = load_on(pair)
    alpha.wait_acknowledged(500)
    pair.b.kill()
    alpha.wait_acknowledged(1000)
    pair.a.wait_role("solo")
    assert all(target == "a" for _, target in alpha.path.logins), "the owner stays the owner"
    assert not alpha.path.errors
    pair.b.wait_exit()
    bring_back(pair, "b")
    alpha.wait_acknowledged(500).stop()
    alpha.verify_through(pair.a)


def test_each_in_turn_is_killed_and_comes_back(pair):
    """Four deaths, each of the controller that serves: the data lives on in a memory that was never killed."""
    alpha = load_on(pair, depth=8)
    for _ in range(4):
        alpha.wait_acknowledged(300)
        owner = pair.controller(pair.owner("alpha"))
        owner.kill()
        alpha.wait_acknowledged(100)
        owner.wait_exit()
        bring_back(pair, owner.name)
    alpha.stop()
    alpha.verify_through(pair.controller(pair.owner("alpha")))


def test_a_volume_goes_home_by_itself_when_the_configuration_says_so(make_pair):
    pair = make_pair(giveback="auto")
    alpha = load_on(pair, depth=4)
    alpha.wait_acknowledged(200)
    pair.a.kill()
    alpha.wait_acknowledged(100)
    pair.a.wait_exit()
    bring_back(pair, "a")
    pair.wait_owner("alpha", "a", 15)
    alpha.wait_acknowledged(200).stop()
    alpha.verify_through(pair.a)


# ---- sleep ----

def test_an_owner_that_sleeps_past_its_lease_is_taken_over_and_cannot_serve_stale_data(pair):
    alpha = load_on(pair, request_timeout=0.3)
    alpha.wait_acknowledged(1000)
    old = pair.a.connect("alpha")  # stays connected through the sleep
    child = pair.a.child_pid()
    moment = time.monotonic()
    pair.a.kill(signal.SIGSTOP)
    alpha.wait_acknowledged(300)
    gap = alpha.first_answer_after(moment)
    print(f"first answer {gap * 1000:.0f} ms after SIGSTOP with a lease of {LEASE * 1000:.0f} ms")
    pair.b.wait_role("solo", "paired")
    assert gap < LEASE + 4 * PATIENCE
    handle = pair.b.connect("alpha")
    handle.pwrite(b"written on the survivor" + bytes(489), 16 * MI - 512)
    alpha.stop()
    alpha.acknowledged[-1] = 0
    if process_alive(child):  # its parent may have ended it for the peer: then there is nobody to wake
        pair.a.kill(signal.SIGCONT)
    with pytest.raises(nbd.Error):
        old.pread(512, 16 * MI - 512)
        old.pwrite(bytes(512), 16 * MI - 512)
    if not wait_exit_or_paired(pair):
        pair.a.start()
    pair.wait_paired(timeout=15)
    assert handle.pread(23, 16 * MI - 512) == b"written on the survivor"
    handle.zero(512, 16 * MI - 512)
    assert pair.owner("alpha") == "b"
    alpha.verify_through(pair.b)


def wait_exit_or_paired(pair, name="a", timeout=5.0):
    """After a fence the one that was fenced either ended (False) or joined again by itself (True)."""
    controller = pair.controller(name)

    def settled():
        if not controller.running():
            return "ended"
        return "paired" if controller.role() == "paired" else None
    return wait_for("the fenced controller ended or joined again", settled, timeout) == "paired"


def test_a_machine_that_sleeps_past_its_lease_is_taken_over_and_joins_again(pair):
    """Both processes of a stand still, as on a machine that is paused: no proof comes, so the lease must run out. What
    hosts sent meanwhile lies in a's sockets and is the first thing that it sees when it wakes."""
    alpha = load_on(pair, request_timeout=0.3, span=8 * MI)
    alpha.wait_acknowledged(500)
    place = 15 * MI
    reader, writer = pair.a.connect("alpha"), pair.a.connect("alpha")
    writer.pwrite(b"old" * 1000, place)
    assert reader.pread(3000, place) == b"old" * 1000
    moment = time.monotonic()
    pair.a.kill_warden(signal.SIGSTOP)
    child = pair.a.kill(signal.SIGSTOP)
    alpha.wait_acknowledged(300)
    gap = alpha.first_answer_after(moment)
    print(f"first answer {gap * 1000:.0f} ms after the machine froze, with a lease of {LEASE * 1000:.0f} ms")
    assert gap < LEASE + 4 * PATIENCE
    pair.b.wait_role("solo")
    handle = pair.b.connect("alpha")
    handle.pwrite(b"new" * 1000, place)
    answers, buffer = {}, nbd.Buffer(3000)
    reader.aio_pread(buffer, place, completion=lambda error: answers.update(read=error.value) or 1)
    writer.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(b"bad" * 1000)), place,
                      completion=lambda error: answers.update(write=error.value) or 1)
    os.kill(child, signal.SIGCONT)
    pair.a.kill_warden(signal.SIGCONT)
    for client in (reader, writer):
        wait_for("an answer or the end", lambda: ended(client), 5, step=0)
    assert answers.get("read") != 0, f"a stale read: {bytes(buffer.to_bytearray()[:9])!r}"
    assert answers.get("write") != 0, "a write by one who was taken over"
    if not wait_exit_or_paired(pair):
        pair.a.start()
    pair.wait_paired(timeout=15)
    assert handle.pread(3000, place) == b"new" * 1000
    handle.shutdown()
    alpha.wait_acknowledged(300).stop()
    alpha.verify_through(pair.b)


def ended(client):
    """Let an asynchronous libnbd handle go on; True once nothing is in flight."""
    try:
        if client.aio_in_flight() == 0 or client.aio_is_dead() or client.aio_is_closed():
            return True
        client.poll(20)
    except nbd.Error:
        return True
    return False


def test_a_sleep_shorter_than_the_lease_changes_nothing(make_pair):
    pair = make_pair(lease=LONG_LEASE)
    alpha = load_on(pair, request_timeout=60)
    alpha.wait_acknowledged(300)
    epoch = pair.a.wait_status()["epoch"]
    pair.b.kill(signal.SIGSTOP)
    time.sleep(1)
    pair.b.kill(signal.SIGCONT)
    alpha.wait_acknowledged(500).stop()
    assert pair.a.role() == pair.b.role() == "paired"
    assert pair.a.wait_status()["epoch"] == epoch
    alpha.verify_through(pair.a)


# ---- the register ----

def test_while_paired_the_register_is_not_needed(pair):
    alpha = load_on(pair)
    alpha.wait_acknowledged(200)
    aside = pair.directory / "register-aside"
    pair.register.parent.rename(aside)
    time.sleep(2 * LEASE)
    alpha.wait_acknowledged(500)
    assert pair.a.role() == pair.b.role() == "paired"
    aside.rename(pair.register.parent)
    alpha.stop()
    alpha.verify_through(pair.a)


def test_without_the_register_nobody_takes_over_and_with_it_somebody_does(pair):
    alpha = load_on(pair, request_timeout=60)
    alpha.wait_acknowledged(200)
    aside = pair.directory / "register-aside"
    pair.register.parent.rename(aside)
    pair.a.kill()
    time.sleep(3 * LEASE)
    assert pair.b.role() not in ("solo", "paired"), "hosts are held: the register has not said who goes on"
    before = alpha.path.acknowledged
    time.sleep(0.3)
    assert alpha.path.acknowledged == before
    aside.rename(pair.register.parent)
    pair.b.wait_role("solo")
    alpha.wait_acknowledged(200).stop()
    alpha.verify_through(pair.b)


# ---- both ----

def test_after_both_died_with_dirty_pages_nothing_is_served_until_the_loss_is_accepted(pair):
    alpha = load_on(pair)
    alpha.wait_acknowledged(500)
    pair.a.process.send_signal(signal.SIGSTOP)  # so that neither parent can act between the two deaths
    pair.b.process.send_signal(signal.SIGSTOP)
    children = [pair.a.kill(), pair.b.kill()]
    alpha.abandon()
    for controller in (pair.a, pair.b):
        controller.process.kill()
        controller.wait_exit()
    wait_for("both are gone", lambda: not any(process_alive(c) for c in children), 5)
    pair.a.start()
    pair.b.start()
    for controller in (pair.a, pair.b):
        status = controller.wait_role("offline", timeout=15)
        assert re.search(r"lost|loss", status["reason"]), status["reason"]
        assert "accept-loss" in controller.log() + status["reason"] + controller.cli("status").stdout, "says what to do"
        with pytest.raises(nbd.Error):
            handle = controller.connect("alpha")
            handle.pread(4096, 0)
    pair.a.cli("accept-loss")
    pair.a.wait_role("solo", "paired", timeout=15)
    if not wait_exit_or_paired(pair, "b"):  # its parent has ended it, to prove that it is out
        pair.b.start()
    pair.wait_paired(timeout=15)
    owner = pair.controller(pair.owner("alpha"))
    handle = owner.connect("alpha")
    handle.pwrite(b"new" * 1000, 0)
    assert handle.pread(3000, 0) == b"new" * 1000
    handle.shutdown()


def test_when_the_other_served_alone_an_operator_must_say_that_it_is_dead(pair):
    """a died, b served alone and wrote what a never saw, b died: a alone cannot tell a dead b from one out of sight."""
    alpha = load_on(pair)
    alpha.wait_acknowledged(300)
    pair.a.kill()
    alpha.wait_acknowledged(300)
    pair.b.wait_role("solo")
    alpha.stop()
    pair.a.wait_exit()
    pair.b.kill()
    pair.b.wait_exit()
    pair.a.start()
    time.sleep(2 * LEASE)
    status = pair.a.wait_role("waiting", "offline")
    assert status["reason"]
    refused = pair.a.cli("accept-loss", check=False)
    assert refused.returncode != 0 and "--peer-is-dead" in refused.stdout + refused.stderr
    assert pair.a.role() in ("waiting", "offline")
    pair.a.cli("accept-loss", "--peer-is-dead")
    pair.a.wait_role("solo")
    assert pair.owner("alpha", pair.a) == "a"
    handle = pair.a.connect("alpha")
    handle.pwrite(bytes(4096), 0)
    handle.shutdown()
    bring_back(pair, "b")


def test_one_that_comes_back_first_after_a_double_failure_waits_for_the_other(pair):
    """b served alone when it died; what it wrote through is on the store, so once b is back nothing is missing."""
    alpha = load_on(pair)
    alpha.wait_acknowledged(300)
    pair.a.kill()
    alpha.wait_acknowledged(300)
    pair.b.wait_role("solo")
    wait_for("what b took over is on the store", lambda: clean(pair.b, "alpha"), 10)
    alpha.stop()
    pair.a.wait_exit()
    pair.b.kill()
    pair.b.wait_exit()
    pair.b.start()
    status = pair.b.wait_role("solo", "offline", "waiting")
    if status["role"] != "solo":
        pair.b.cli("accept-loss")
        pair.b.wait_role("solo")
    alpha.verify_through(pair.b)
    bring_back(pair, "a")
    alpha.verify_through(pair.controller(pair.owner("alpha")))


def test_a_controller_that_starts_alone_after_a_clean_stop_serves(pair):
    handle = pair.a.connect("alpha")
    handle.pwrite(b"kept" * 1024, 0)
    handle.shutdown()
    pair.stop()
    pair.b.start()
    deadline = 15
    try:
        pair.b.wait_role("solo", timeout=deadline)
    except Timeout:
        # A cautious build waits for the operator when it cannot see the peer: it must say so.
        assert pair.b.status()["reason"]
        pair.b.cli("accept-loss", "--peer-is-dead")
        pair.b.wait_role("solo")
    handle = pair.b.connect("alpha")
    assert handle.pread(4096, 0) == b"kept" * 1024
    handle.shutdown()


# ---- stores ----

def test_a_store_that_fails_writes_loses_none_and_they_are_tried_again(make_pair):
    pair = make_pair(faulty={}, destage_after="200ms")
    pair.faulty.fail_writes()
    alpha = load_on(pair, limit=800, zeroes=0, flushes=0, span=4 * MI)
    wait_for("all writes are acknowledged", lambda: alpha.path.acknowledged == 800, 15)
    # Pages that are being tried again are not among the failed ones, so one look may see none.
    status = wait_for("the status shows the error and failed pages",
                      lambda: (lambda seen: seen and seen["destage"]["failed_pages"] and seen)(failing(pair.a)), 10)
    assert volume_status(status, "alpha")["dirty_pages"] > 0
    assert re.search(r"error|fail", pair.a.cli("status").stdout, re.IGNORECASE)
    assert re.search(r"EIO|Input/output error|error", pair.a.log())
    alpha.stop()
    alpha.verify_through(pair.a)
    pair.faulty.heal()
    wait_for("everything is on the store", lambda: clean(pair.a, "alpha"), 20)
    alpha.verify(pair.store_pread("alpha"), "the store")


def failing(controller):
    status = controller.status()
    return status if status and status["destage"]["errors"] else None


def clean(controller, volume):
    status = controller.status()
    return status if status and volume_status(status, volume)["dirty_pages"] == 0 else None


def test_a_store_that_fails_while_its_controller_dies_loses_nothing(make_pair):
    pair = make_pair(faulty={}, destage_after="200ms")
    pair.faulty.fail_writes()
    alpha = load_on(pair, limit=400, zeroes=0, flushes=0, span=2 * MI)
    wait_for("all writes are acknowledged", lambda: alpha.path.acknowledged == 400, 15)
    alpha.stop()
    wait_for("the status shows the error", lambda: failing(pair.a), 10)
    pair.a.kill()
    time.sleep(1)
    pair.faulty.heal()
    pair.b.wait_role("solo", timeout=20)
    alpha.verify_through(pair.b)
    wait_for("everything is on the store", lambda: clean(pair.b, "alpha"), 20)
    alpha.verify(pair.store_pread("alpha"), "the store")


def test_a_slow_store_and_a_full_cache_make_hosts_wait_and_fail_nothing(make_pair):
    pair = make_pair(faulty={"write_delay_ms": 40}, cache="4M", destage_after="1s")
    alpha = load_on(pair, depth=32, aligned=True, largest=128, zeroes=0, flushes=0, request_timeout=30,
                    give_up=40)
    waited = wait_for("writes wait for room",
                      lambda: waiting_for_room(pair.a), 15, step=0.005)
    assert waited > 0
    reader = pair.a.connect("beta") if pair.owner("beta") == "a" else pair.b.connect("beta")
    started = time.monotonic()
    reader.pread(4096, 0)
    assert time.monotonic() - started < 2 * PATIENCE, "reads go on while writes wait"
    reader.shutdown()
    alpha.wait_acknowledged(200, timeout=40).stop(timeout=40)
    assert not alpha.path.errors and not alpha.path.losses
    alpha.verify_through(pair.a)


def waiting_for_room(controller):
    status = controller.status()
    return status["cache"]["requests_waiting_for_room"] if status else 0


def test_flush_waits_for_the_store_only_where_the_volume_says_so(make_pair):
    pair = make_pair(faulty={"write_delay_ms": 300}, destage_after="60s",
                     volumes=[Volume("fast", size=4 * MI), Volume("safe", size=4 * MI, flush="destage")])
    took = {}
    store = pair.store_pread("fast")
    for volume in ("fast", "safe"):
        handle = pair.a.connect(volume)
        handle.pwrite(b"x" * 4096, 0)
        started = time.monotonic()
        handle.flush()
        took[volume] = time.monotonic() - started
        started = time.monotonic()
        handle.pwrite(b"y" * 4096, 4096, nbd.CMD_FLAG_FUA)
        took[volume, "fua"] = time.monotonic() - started
        handle.shutdown()
        if volume == "fast":
            assert not any(store(0, 8192)), "the flush left the pages where they were: in two memories"
    assert took["safe"] > 0.28 and took["safe", "fua"] > 0.28, took
    assert pair.store_pread("safe")(0, 8192) == b"x" * 4096 + b"y" * 4096
    assert store(0, 8192) == b"x" * 4096 + b"y" * 4096, "a FLUSH that waits for the store takes all dirty pages along"


def test_the_proof_of_death_waits_for_a_store_write_under_way(make_pair):
    """The process is gone at once, its write is not: until the store has answered, nobody else may touch the store."""
    pair = make_pair(faulty={}, destage_after="100ms", lease="20s")
    handle = pair.a.connect("alpha")
    pair.faulty.pause()
    handle.pwrite(b"in flight" * 8192, 0)
    wait_for("a store write is under way", lambda: in_flight(pair.a), 10)
    child = pair.a.kill()
    wait_for("the process is gone", lambda: not process_alive(child), 5)
    time.sleep(1.2)
    assert pair.b.role() != "solo", "the proof came although a write of the dead controller was under way"
    ended = time.monotonic()
    pair.faulty.resume()
    pair.b.wait_role("solo", timeout=5)
    print(f"takeover {1000 * (time.monotonic() - ended):.0f} ms after the store answered")
    survivor = pair.b.connect("alpha")
    assert survivor.pread(9 * 8192, 0) == b"in flight" * 8192
    survivor.shutdown()


def in_flight(controller):
    status = controller.status()
    return status["destage"]["in_flight"] if status else 0


def test_a_new_start_waits_for_the_last_write_of_the_old_one(make_pair):
    """The lock in the run directory belongs to the ring: a quick restart cannot overtake its predecessor's write."""
    pair = make_pair(faulty={}, destage_after="100ms", lease="20s")
    handle = pair.a.connect("alpha")
    pair.faulty.pause()
    handle.pwrite(b"in flight" * 8192, 0)
    wait_for("a store write is under way", lambda: in_flight(pair.a), 10)
    child = pair.a.child_pid()
    pair.a.kill_warden()
    pair.a.wait_exit()
    wait_for("the process is gone", lambda: not process_alive(child), 5)
    pair.a.start()
    time.sleep(1.2)
    assert pair.a.role() is None, "the new controller came up beside a write of the old one"
    assert pair.a.log().rstrip().splitlines()[-1].endswith("is locked)"), "it waits at the lock, not at the store"
    pair.faulty.resume()
    pair.wait_paired(timeout=20)
    owner = pair.controller(pair.owner("alpha"))
    survivor = owner.connect("alpha")
    assert survivor.pread(9 * 8192, 0) == b"in flight" * 8192
    survivor.shutdown()


def test_a_store_that_is_full_loses_nothing(make_pair):
    """A store file on a file system without room: ENOSPC is an error like any other, and ends when room is made."""
    if os.geteuid() != 0:
        pytest.skip("a small file system of our own needs root")
    pair = make_pair(start=False, destage_after="200ms")
    mount = pair.directory / "small"
    mount.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3M", "tmpfs", str(mount)], check=False)
    if made.returncode != 0:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        store = mount / "disk.img"
        store.open("wb").truncate(32 * MI)
        pair.store_paths["disk"] = store
        pair.start()
        alpha = load_on(pair, limit=600, aligned=True, largest=64, zeroes=0, flushes=0, span=8 * MI)
        wait_for("all writes are acknowledged", lambda: alpha.path.acknowledged == 600, 15)
        alpha.stop()
        wait_for("the status shows the error", lambda: failing(pair.a), 10)
        alpha.verify_through(pair.a)
        run("mount", "-o", "remount,size=40M", mount)
        wait_for("everything is on the store", lambda: clean(pair.a, "alpha"), 20)
        pair.stop()
        alpha.verify(pair.store_pread("alpha"), "the store")
    finally:
        pair.end()
        subprocess.run(["umount", "-l", str(mount)], check=False)
