# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""What an operator does: check, look, move, restart, stop; and that none of it costs a host a command or a byte."""

import os
import random
import re
import socket
import subprocess
import threading
import time

import nbd
import pytest

from holdfast import BINARY, LEASE_MS, MI, Volume, process_alive, run, volume_status, wait_for
from hostpath import REFUSAL
from load import Load


def load_on(pair, volume="alpha", first="a", **settings):
    return Load(pair.targets(first), volume, pair.volumes[volume].size, **settings).start()


def only_refusals_after_a_move(load):
    """A host may be told "not here any more", never anything else, and never be left without an answer."""
    for _, controller, op, number in load.path.errors:
        assert number == REFUSAL, f"{controller} answered {op} with error {number}"
    for _, controller, why in load.path.losses:
        assert "no answer" not in why, f"{controller}: {why}"


# ---- check ----

def test_check_says_nothing_bad_of_a_good_file(make_pair):
    pair = make_pair(start=False)
    pair.write_config()
    pair.a.config.chmod(0o644)
    result = run(BINARY, "check", pair.a.config)
    assert result.returncode == 0 and "warning" not in result.stdout


def test_check_warns_of_a_secret_that_anybody_can_read(make_pair):
    pair = make_pair(start=False, secret="a secret of this test")
    pair.write_config()
    for mode, warned in ((0o640, False), (0o644, True)):
        pair.a.config.chmod(mode)
        result = run(BINARY, "check", pair.a.config)
        assert result.returncode == 0 and "a secret of this test" not in result.stdout
        assert bool(re.search(r"warning: .*secret", result.stdout)) == warned, result.stdout


@pytest.mark.parametrize("change,line,expected", [
    pytest.param(("cache = 16M", "cache = a lot"), "cache", r"cache", id="a size that is none"),
    pytest.param(("cache = 16M", "cash = 16M"), "cash", r"cash", id="an unknown key"),
    pytest.param((f"lease = {LEASE_MS}ms", "lease = 5 apples"), "lease", r"lease", id="a time that is none"),
    pytest.param(("owner = b", "owner = c"), "owner = c", r"owner", id="an owner that is none"),
    pytest.param(("[store disk]", "[sture disk]"), "[sture", r"sture", id="an unknown section"),
    pytest.param(("giveback = manual", "giveback = maybe"), "giveback", r"manual|auto", id="a choice that is none"),
    pytest.param(("offset = 16777216", "offset = 4096"), "[volume beta]", r"overlaps.*alpha",
                 id="volumes that overlap"),
])
def test_check_names_each_mistake_with_its_line(make_pair, change, line, expected):
    pair = make_pair(start=False)
    pair.write_config()
    text = pair.a.config.read_text()
    assert change[0] in text
    text = text.replace(change[0], change[1], 1)
    pair.a.config.write_text(text)
    number = next(n for n, words in enumerate(text.splitlines(), 1) if line in words)
    result = run(BINARY, "check", pair.a.config, check=False)
    assert result.returncode != 0
    assert re.search(rf":{number}\b", result.stdout), f"line {number} in:\n{result.stdout}"
    assert re.search(expected, result.stdout), result.stdout
    started = subprocess.run([BINARY, "run", "--config", pair.a.config, "--controller", "a"], capture_output=True,
                             text=True, timeout=10, stdin=subprocess.DEVNULL)
    assert started.returncode != 0 and re.search(expected, started.stderr), "run refuses the same file"


def test_check_finds_all_mistakes_at_once_and_hides_the_secret(make_pair):
    pair = make_pair(start=False, secret="short one 7")
    pair.write_config()
    text = pair.a.config.read_text().replace("cache = 16M", "cache = -1").replace("owner = b", "owner = B!")
    pair.a.config.write_text(text)
    result = run(BINARY, "check", pair.a.config, check=False)
    for word in ("cache", "owner", "secret"):
        assert word in result.stdout
    assert "short one 7" not in result.stdout


def test_check_of_a_file_that_is_not_there(tmp_path):
    result = run(BINARY, "check", tmp_path / "none", check=False)
    assert result.returncode != 0 and "none" in result.stdout


# ---- help, status ----

@pytest.mark.parametrize("words", [[], ["run"], ["check"], ["status"], ["volume"], ["stop"], ["accept-loss"]])
def test_help(words):
    result = run(BINARY, *words, "--help")
    assert "holdfast" in result.stdout
    assert all(len(line) <= 100 for line in result.stdout.splitlines())


def test_version_and_nonsense():
    assert re.search(r"\d+\.\d+", run(BINARY, "--version").stdout)
    for words in (["fly"], ["status", "--fly"], ["run"]):
        assert run(BINARY, *words, check=False).returncode != 0


def test_status_for_people_fits_100_columns_and_names_everything(pair):
    load = load_on(pair)
    load.wait_acknowledged(300)
    for controller in (pair.a, pair.b):
        text = controller.cli("status").stdout
        assert max(len(line) for line in text.splitlines()) <= 100, text
        for word in ("paired", "alpha", "beta"):
            assert word in text
    load.stop()
    result = run(BINARY, "status", "--json", "--socket", pair.a.run / "control")
    assert '"paired"' in result.stdout


def test_status_counts_what_hosts_did(pair):
    load = load_on(pair, limit=500, aligned=True)
    wait_for("all answered", lambda: load.path.acknowledged == 500)
    load.stop()
    status = pair.a.status()
    volume = volume_status(status, "alpha")
    assert volume["writes"] == load.write_count
    assert volume["reads"] == load.read_count
    assert volume["flushes"] == load.flush_count
    assert volume["zeroes"] == load.zero_count
    assert volume["owner"] == "a"
    assert status["sent"]["headers"] >= status["sent"]["batches"] > 0
    assert status["flush_messages"] == 0
    peer = pair.b.status()
    assert peer["received"]["headers"] == status["sent"]["headers"]
    assert peer["received"]["batches"] == status["sent"]["batches"]
    assert volume["write_latency_us"]["p99"] >= volume["write_latency_us"]["p50"] > 0


def test_status_of_a_controller_that_does_not_run_says_so(make_pair):
    pair = make_pair(start=False)
    pair.write_config()
    result = pair.a.cli("status", check=False, timeout=30)
    assert result.returncode != 0
    assert result.stderr.strip() and "Traceback" not in result.stderr


def test_destage_sends_the_peer_nothing(make_pair):
    """Claims 1, 9, 10, 12: pages go to the store, and no header and no batch follows from it."""
    pair = make_pair(destage_after="300ms")
    handle = pair.a.connect("alpha")
    for number in range(256):
        handle.pwrite(bytes([number]) * 4096, number * 4096)
    before = pair.a.status()
    assert volume_status(before, "alpha")["dirty_pages"] > 0
    status = wait_for("all is destaged", lambda: (lambda s: s if volume_status(s, "alpha")["dirty_pages"] == 0
                                                  else None)(pair.a.status()), 10)
    assert status["sent"]["headers"] == before["sent"]["headers"]
    assert status["sent"]["drops"] == before["sent"]["drops"] == 0
    assert status["flush_messages"] == 0
    assert status["destage"]["joined_pages"] > 128, "neighbours go as one write"
    assert pair.store_pread("alpha")(0, 256 * 4096) == b"".join(bytes([n]) * 4096 for n in range(256))
    handle.shutdown()


def test_a_read_that_takes_a_destaged_slot_tells_the_peer_to_drop_it(make_pair):
    """Claims 8 and 19: a DROP for each once-mirrored slot that a read reuses; none when a write reuses it."""
    pair = make_pair(cache="2M", destage_after="100ms")
    handle = pair.a.connect("alpha")
    for number in range(64):
        handle.pwrite(b"w" * 16384, number * 16384)
    wait_for("all is destaged", lambda: volume_status(pair.a.status(), "alpha")["dirty_pages"] == 0)
    assert pair.a.status()["sent"]["drops"] == 0
    image = pair.b.status()["cache"]["slots_image"]
    assert image >= 256
    handle.pread(8 * MI, 4 * MI)
    status = pair.a.status()
    assert status["sent"]["drops"] > 100
    wait_for("the peer has dropped them", lambda: pair.b.status()["received"]["drops"] == status["sent"]["drops"], 5)
    assert pair.b.status()["cache"]["slots_image"] == image - status["sent"]["drops"]
    assert handle.pread(MI, 0) == b"w" * MI
    handle.shutdown()


# ---- move ----

def test_a_move_under_load_costs_no_command(pair):
    alpha, beta = load_on(pair), load_on(pair, "beta", first="b", seed=2)
    alpha.wait_acknowledged(300)
    for to in ("b", "a", "b"):
        pair.move("alpha", to)
        pair.wait_owner("alpha", to)
        alpha.wait_acknowledged(300)
        beta.wait_acknowledged(100)
    alpha.stop()
    beta.stop()
    only_refusals_after_a_move(alpha)
    assert not beta.path.errors and not beta.path.losses
    assert pair.a.role() == pair.b.role() == "paired"
    alpha.verify_through(pair.b)
    beta.verify_through(pair.b)
    # The image of the moved volume is with its former owner now.
    pair.b.kill()
    pair.a.wait_role("solo")
    alpha.verify_through(pair.a)
    beta.verify_through(pair.a)


def test_a_move_that_makes_no_sense_is_refused_in_words(pair):
    for words in (("nosuch", "b"), ("alpha", "c")):
        result = pair.a.cli("volume", "move", *words, check=False)
        assert result.returncode != 0 and (result.stderr + result.stdout).strip()
    pair.b.kill()
    pair.a.wait_role("solo")
    result = pair.a.cli("volume", "move", "alpha", "b", check=False)
    assert result.returncode != 0, "there is nobody to move it to"
    assert pair.owner("alpha", pair.a) == "a"


def test_a_rolling_restart_of_both_costs_no_command(pair):
    alpha, beta = load_on(pair), load_on(pair, "beta", first="b", seed=2)
    alpha.wait_acknowledged(300)
    for name, volume in (("a", "alpha"), ("b", "beta")):
        controller, other = pair.controller(name), pair.other(pair.controller(name))
        for moved in ("alpha", "beta"):
            if pair.owner(moved) == name:
                pair.move(moved, other.name)
                pair.wait_owner(moved, other.name)
        assert controller.terminate() == 0
        other.wait_role("solo")
        alpha.wait_acknowledged(200)
        beta.wait_acknowledged(200)
        controller.start()
        pair.wait_paired(timeout=15)
        pair.move(volume, name)
        pair.wait_owner(volume, name)
        alpha.wait_acknowledged(200)
        beta.wait_acknowledged(200)
    alpha.stop()
    beta.stop()
    only_refusals_after_a_move(alpha)
    only_refusals_after_a_move(beta)
    alpha.verify_through(pair.a)
    beta.verify_through(pair.b)


# ---- stop ----

def test_a_clean_stop_leaves_everything_on_the_store(make_pair):
    pair = make_pair(destage_after="60s")
    alpha, beta = load_on(pair, limit=3000), load_on(pair, "beta", first="b", seed=2, limit=3000)
    wait_for("all answered", lambda: alpha.path.acknowledged + beta.path.acknowledged == 6000, 30)
    alpha.stop()
    beta.stop()
    dirty = volume_status(pair.a.status(), "alpha")["dirty_pages"]
    assert dirty > 0, "this test must have something to destage"
    pair.stop()
    alpha.verify(pair.store_pread("alpha"), "the store")
    beta.verify(pair.store_pread("beta"), "the store")
    pair.start()
    alpha.verify_through(pair.a)
    beta.verify_through(pair.b)


def test_one_that_is_stopped_right_after_its_peer_died_destages_first(make_pair):
    pair = make_pair(destage_after="60s")
    alpha = load_on(pair, limit=3000)
    wait_for("all answered", lambda: alpha.path.acknowledged == 3000, 30)
    alpha.stop()
    pair.b.kill()
    assert pair.a.terminate() == 0
    alpha.verify(pair.store_pread("alpha"), "the store")


def test_stop_by_command_hands_over_and_ends_with_0(pair):
    alpha = load_on(pair)
    alpha.wait_acknowledged(200)
    assert "controller a: stopped: the other controller goes on" in pair.a.cli("stop").stdout
    assert pair.a.wait_exit() == 0
    pair.b.wait_role("solo")
    alpha.wait_acknowledged(200)
    alpha.stop()
    only_refusals_after_a_move(alpha)
    assert "controller b: stopped: everything is on the stores" in pair.b.cli("stop").stdout
    assert pair.b.wait_exit() == 0
    alpha.verify(pair.store_pread("alpha"), "the store")


def test_a_second_SIGTERM_ends_it_now(make_pair):
    pair = make_pair(faulty={}, destage_after="60s")
    handle = pair.a.connect("alpha")
    handle.pwrite(b"x" * MI, 0)
    pair.b.kill()  # so that the stop must destage, which the store does not let it
    pair.b.wait_exit()
    pair.a.wait_role("solo")
    # Alone, this is answered when the store has flushed it, so the flush of the takeover is over as well: the kernel
    # would not let a process end beside a flush that hangs in FUSE.
    handle.pwrite(b"x" * 4096, 3 * MI)
    pair.faulty.pause()
    writer = threading.Thread(target=lambda: swallow(lambda: handle.pwrite(b"y" * MI, MI)), daemon=True)
    writer.start()
    wait_for("it is in the cache", lambda: volume_status(pair.a.status(), "alpha")["dirty_pages"] > 0)
    child = pair.a.child_pid()
    pair.a.process.terminate()
    time.sleep(0.7)
    assert pair.a.running(), "the clean stop waits for the store"
    pair.a.process.terminate()
    wait_for("the controller is ended", lambda: not process_alive(child), 3)
    pair.faulty.resume()
    assert pair.a.wait_exit() != 0
    writer.join(5)


def swallow(call):
    try:
        call()
    except nbd.Error:
        pass


def test_a_second_run_of_the_same_controller_is_refused(pair):
    result = subprocess.run([BINARY, "run", "--config", pair.a.config, "--controller", "a"], capture_output=True,
                            text=True, timeout=30, stdin=subprocess.DEVNULL)
    assert result.returncode != 0
    assert re.search(r"lock|runs|running|in use", result.stderr), result.stderr
    assert pair.a.role() == "paired"


def test_systemd_is_told_when_it_is_ready(make_pair):
    pair = make_pair(start=False)
    pair.write_config()
    address = pair.directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(address))
        notify.settimeout(10)
        pair.a.start({"NOTIFY_SOCKET": str(address)})
        pair.b.start()
        said = notify.recv(4096).decode()
        while "READY=1" not in said:
            said += notify.recv(4096).decode()
        pair.wait_paired()
        pair.a.process.terminate()
        while "STOPPING=1" not in said:
            said += notify.recv(4096).decode()
    assert pair.a.wait_exit() == 0


# ---- stores ----

def test_an_image_from_elsewhere_is_served_as_it_is(make_pair, tmp_path):
    image = tmp_path / "image"
    image.write_bytes(random.Random(3).randbytes(8 * MI))
    pair = make_pair(start=False, volumes=[Volume("image", size=8 * MI)])
    pair.store_paths["disk"] = image
    before = image.read_bytes()
    pair.start()
    handle = pair.a.connect("image")
    assert handle.pread(8 * MI, 0) == before
    handle.pwrite(b"changed", 4 * MI + 100)
    handle.shutdown()
    pair.stop()
    after = image.read_bytes()
    assert len(after) == len(before), "the store holds the volume's bytes and nothing else"
    assert after == before[:4 * MI + 100] + b"changed" + before[4 * MI + 107:]


@pytest.mark.parametrize("size", [8 * MI + 512, 8 * MI + 2560])
def test_a_volume_that_does_not_end_at_a_page(make_pair, tmp_path, size):
    image = tmp_path / "image"
    image.write_bytes(random.Random(4).randbytes(size))
    pair = make_pair(start=False, volumes=[Volume("image", size=size)])
    pair.store_paths["disk"] = image
    before = image.read_bytes()
    pair.start()
    handle = pair.a.connect("image")
    assert handle.get_size() == size
    assert handle.pread(512, size - 512) == before[-512:]
    handle.pwrite(b"end", size - 3)
    handle.pwrite(b"page", 8 * MI - 2)
    handle.shutdown()
    pair.stop()
    want = bytearray(before)
    want[-3:], want[8 * MI - 2:8 * MI + 2] = b"end", b"page"
    assert image.read_bytes() == want


def test_a_file_shorter_than_its_volume_reads_as_zeros_there_and_grows(make_pair, tmp_path):
    image = tmp_path / "image"
    image.write_bytes(b"head" * MI)
    pair = make_pair(start=False, volumes=[Volume("image", size=8 * MI)])
    pair.store_paths["disk"] = image
    pair.start()
    handle = pair.a.connect("image")
    assert handle.pread(6 * MI, 0) == b"head" * MI + bytes(2 * MI)
    handle.pwrite(b"far", 7 * MI)
    handle.shutdown()
    pair.stop()
    data = image.read_bytes()
    assert data[:4 * MI] == b"head" * MI and data[4 * MI:7 * MI + 3] == bytes(3 * MI) + b"far"


def test_a_store_that_is_not_there_is_refused_in_words(make_pair, tmp_path):
    pair = make_pair(start=False)
    pair.store_paths["disk"] = tmp_path / "none" / "disk.img"
    pair.write_config()
    pair.a.start()
    assert pair.a.wait_exit(10) != 0
    assert re.search(r"none/disk.img.*No such file", pair.a.log())


def test_a_store_without_O_DIRECT_is_used_buffered_and_says_so(make_pair):
    """A file on a tmpfs of an older kernel; where tmpfs does O_DIRECT, asking for buffered I/O must do the same."""
    pair = make_pair(memory=True, io="buffered")
    store = pair.a.status()["stores"][0]
    assert store["io"] == "buffered"
    alpha = load_on(pair)
    alpha.wait_acknowledged(300).stop()
    pair.stop()
    alpha.verify(pair.store_pread("alpha"), "the store")


def test_trim_gives_room_back_to_the_store(make_pair):
    pair = make_pair(destage_after="200ms")
    handle = pair.a.connect("alpha")
    handle.pwrite(b"full" * (2 * MI), 0)
    wait_for("all is destaged", lambda: volume_status(pair.a.status(), "alpha")["dirty_pages"] == 0)
    full = os.stat(pair.store_paths["disk"]).st_blocks
    handle.trim(8 * MI, 0)
    handle.flush()
    assert handle.pread(4096, 0) in (bytes(4096), b"full" * 1024)
    if handle.pread(4096, 0) == bytes(4096):
        wait_for("the blocks are given back", lambda: os.stat(pair.store_paths["disk"]).st_blocks < full / 2)
    handle.shutdown()


def test_the_control_socket_takes_noise(pair):
    for text in (b"\n", b"{}\n", b"{\"command\":\"fly\"}\n", b"[" * 3000 + b"\n", os.urandom(5000), b"x" * 100000,
                 b"{\"command\":\"move\",\"volume\":5,\"to\":null}\n", b"{\"command\":"):
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(0.3)
            control.connect(str(pair.a.run / "control"))
            try:
                control.sendall(text)
                control.recv(4096)
            except OSError:
                pass
    assert pair.a.role() == "paired"
