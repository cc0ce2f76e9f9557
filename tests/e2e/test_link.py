# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""The way between the two controllers: cut, stalled, slow, broken in the middle of a batch, approached by a stranger, and
read by Wireshark."""

import hashlib
import os
import re
import shutil
import socket
import struct
import subprocess
import time

import nbd
import pytest

from holdfast import LONG_LEASE, PATIENCE, wait_for
from load import Load

SECRET = "correct horse battery"


def load_on(pair, volume="alpha", first="a", **settings):
    return Load(pair.targets(first), volume, pair.volumes[volume].size, **settings).start()


def heal_and_pair(pair):
    """After the cables are whole again, whoever was ended by the fence is started again."""
    for proxy in pair.cables.all():
        proxy.heal()
    deadline = time.monotonic() + 20 * PATIENCE
    while time.monotonic() < deadline:
        roles = [c.role() for c in (pair.a, pair.b)]
        if roles == ["paired", "paired"]:
            return
        for controller in (pair.a, pair.b):
            if not controller.running():
                controller.start()
        time.sleep(0.05)
    pair.wait_paired(timeout=0.1)


def servers(pair, volume):
    """Which controllers answer a read of `volume` now. When it is none they are asked again: they may be slow."""
    return wait_for(f"somebody serves {volume}", lambda: asked_once(pair, volume))


def asked_once(pair, volume):
    found = []
    for controller in (pair.a, pair.b):
        if not controller.running():
            continue
        handle = nbd.NBD()
        handle.set_strict_mode(0)
        answered = []
        try:
            handle.aio_connect_uri(controller.uri(volume))
            deadline = time.monotonic() + 1
            while not handle.aio_is_ready() and time.monotonic() < deadline:
                handle.poll(20)
            buffer = nbd.Buffer(512)
            handle.aio_pread(buffer, 0, completion=lambda error: answered.append(error.value) or 1)
            while not answered and time.monotonic() < deadline:
                handle.poll(20)
        except nbd.Error:
            pass
        if answered == [0]:
            found.append(controller.name)
    return found


def test_a_connection_that_breaks_is_made_again_and_nothing_else_happens(make_pair):
    pair = make_pair(cables=True, lease=LONG_LEASE)
    epoch = pair.a.wait_status()["epoch"]
    alpha, beta = load_on(pair, request_timeout=60), load_on(pair, "beta", first="b", seed=2, request_timeout=60)
    for _ in range(5):
        alpha.wait_acknowledged(100)
        for proxy in pair.cables.links():
            proxy.break_connections()
    alpha.wait_acknowledged(200).stop()
    beta.stop()
    assert pair.a.role() == pair.b.role() == "paired"
    status = pair.a.wait_status()
    assert status["epoch"] == epoch and status["link"]["logins"] >= 2
    assert not alpha.path.errors and not alpha.path.losses
    alpha.verify_through(pair.a)
    beta.verify_through(pair.b)
    # What the other holds must be the same: the death of each shows its mirror image.
    pair.a.kill()
    pair.b.wait_role("solo")
    alpha.verify_through(pair.b)


@pytest.mark.parametrize("count", [1, 47, 48, 100, 5000, 70000])
def test_a_batch_that_arrives_in_part_changes_nothing(make_pair, count):
    pair = make_pair(cables=True, lease=LONG_LEASE)
    alpha = load_on(pair, largest=64)
    alpha.wait_acknowledged(100)
    pair.cables.link["a"].cut_in("up", count)
    wait_for("the link broke in the middle", lambda: pair.cables.link["a"].is_cut, 5)
    pair.cables.link["a"].heal()
    alpha.wait_acknowledged(200)
    pair.a.kill()
    alpha.wait_acknowledged(100).stop()
    pair.b.wait_role("solo")
    alpha.verify_through(pair.b)


@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_a_lost_link_leaves_one_server_and_no_write_is_lost(make_pair, fault):
    """The parents still see each other: one controller wins, the other is out."""
    pair = make_pair(cables=True)
    alpha, beta = load_on(pair, request_timeout=1), load_on(pair, "beta", first="b", seed=2, request_timeout=1)
    alpha.wait_acknowledged(500)
    for proxy in pair.cables.links():
        getattr(proxy, fault)()
    alpha.wait_acknowledged(300)
    beta.wait_acknowledged(300)
    wait_for("one serves alone", lambda: "solo" in [c.role() for c in (pair.a, pair.b) if c.running()], 5)
    found = servers(pair, "alpha")
    assert len(found) == 1 and servers(pair, "beta") == found, found
    heal_and_pair(pair)
    alpha.wait_acknowledged(200).stop()
    beta.wait_acknowledged(200).stop()
    for load in (alpha, beta):
        load.verify_through(pair.controller(pair.owner(load.volume)))


@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_with_every_way_lost_the_lease_decides(make_pair, fault):
    """No proof from a parent either: the winner of the register waits until the other has certainly stopped."""
    pair = make_pair(cables=True)
    alpha, beta = load_on(pair, request_timeout=0.5), load_on(pair, "beta", first="b", seed=2, request_timeout=0.5)
    alpha.wait_acknowledged(500)
    moment = time.monotonic()
    for proxy in pair.cables.all():
        getattr(proxy, fault)()
    alpha.wait_acknowledged(300)
    beta.wait_acknowledged(300)
    gaps = [load.first_answer_after(moment) for load in (alpha, beta)]
    print(f"first answers {gaps[0] * 1000:.0f} and {gaps[1] * 1000:.0f} ms after the cut")
    found = servers(pair, "alpha")
    assert len(found) == 1 and servers(pair, "beta") == found, found
    heal_and_pair(pair)
    alpha.wait_acknowledged(200).stop()
    beta.wait_acknowledged(200).stop()
    for load in (alpha, beta):
        load.verify_through(pair.controller(pair.owner(load.volume)))


def test_a_slow_link_makes_batches_larger_not_writes_fail(make_pair):
    pair = make_pair(cables=True, lease=LONG_LEASE)
    for proxy in pair.cables.links():
        proxy.delay = 0.02
    before = pair.a.wait_status()["sent"]
    alpha = load_on(pair, depth=32, zeroes=0, flushes=0, writes=100, request_timeout=60)
    alpha.wait_acknowledged(600).stop()
    after = pair.a.wait_status()["sent"]
    headers, batches = after["headers"] - before["headers"], after["batches"] - before["batches"]
    print(f"{headers} headers in {batches} batches")
    assert headers / batches > 4, "lists grow by themselves while one is on its way"
    alpha.verify_through(pair.a)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_is_still_on_its_way_to_the_peer_was_not_acknowledged(make_pair, seed):
    """The link is slow, and it ends together with the controller: what was in it is gone for good."""
    pair = make_pair(cables=True, lease=LONG_LEASE)
    for proxy in pair.cables.links():
        proxy.delay = 0.03
    alpha = load_on(pair, depth=32, zeroes=10, flushes=5, seed=seed)
    alpha.wait_acknowledged(300 + 100 * seed)
    for proxy in pair.cables.links():
        proxy.cut()
    pair.a.kill()
    alpha.wait_acknowledged(100).stop()
    pair.b.wait_role("solo")
    alpha.verify_through(pair.b)


def test_the_peers_parent_out_of_sight_changes_nothing(make_pair):
    pair = make_pair(cables=True)
    alpha = load_on(pair)
    alpha.wait_acknowledged(200)
    for proxy in pair.cables.warden.values():
        proxy.cut()
    time.sleep(1.2)
    alpha.wait_acknowledged(300).stop()
    assert pair.a.role() == pair.b.role() == "paired"
    wait_for("status says so", lambda: pair.a.status()["warden"]["state"] == "alone", 5)


# ---- strangers ----

def log_after(controller, mark):
    return controller.log()[mark:]


def test_a_pair_with_a_secret_pairs_and_never_writes_it_down(make_pair):
    pair = make_pair(secret=SECRET)
    assert pair.a.status()["link"]["authenticated"] is True
    assert pair.b.status()["link"]["authenticated"] is True
    alpha = load_on(pair)
    alpha.wait_acknowledged(300).stop()
    for controller in (pair.a, pair.b):
        assert SECRET not in controller.log()
        assert SECRET not in controller.cli("status").stdout + controller.cli("status", "--json").stdout
        with open(f"/proc/{controller.child_pid()}/cmdline", "rb") as cmdline:
            assert SECRET.encode() not in cmdline.read()


def test_two_secrets_do_not_pair_and_the_log_says_why(make_pair):
    pair = make_pair(start=False, secret=SECRET)
    pair.secrets["b"] = "another secret altogether"
    pair.start(wait=False)
    wait_for("the refusal is logged", lambda: re.search(r"(?i)secret|chap|authenti", pair.a.log() + pair.b.log()), 10)
    time.sleep(1)
    assert "paired" not in (pair.a.role(), pair.b.role())


def login_bytes(keys, csg=0, nsg=1, transit=True):
    """A Login Request PDU (RFC 7143, 11.12) with the given text keys."""
    text = b"".join(f"{k}={v}".encode() + b"\0" for k, v in keys)
    flags = (0x80 if transit else 0) | csg << 2 | nsg
    head = struct.pack(">BBBBB3s6sHIHHII16s", 0x43, flags, 0, 0, 0, len(text).to_bytes(3, "big"),
                       b"\x80\x12\x34\x56\x00\x01", 0, 1, 0, 0, 1, 0, bytes(16))
    assert len(head) == 48
    return head + text + bytes(-len(text) % 4)


def read_pdu(connection):
    head = b""
    while len(head) < 48:
        part = connection.recv(48 - len(head))
        if not part:
            return None, b""
        head += part
    length = int.from_bytes(head[5:8], "big")
    length += -length % 4
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            break
        data += part
    return head, data


def names(peer):
    return [("InitiatorName", f"iqn.2026-11.holdfast:e2e.{peer}"), ("TargetName", "iqn.2026-11.holdfast:e2e.link"),
            ("SessionType", "Normal")]


def test_a_login_with_a_wrong_secret_is_refused_and_harms_nobody(make_pair):
    pair = make_pair(secret=SECRET)
    alpha = load_on(pair)
    alpha.wait_acknowledged(100)
    mark = len(pair.a.log())
    with socket.create_connection(("127.0.0.1", pair.a.link), timeout=5) as stranger:
        stranger.sendall(login_bytes([*names("b"), ("AuthMethod", "CHAP")], transit=False))
        head, data = read_pdu(stranger)
        assert head and head[0] & 0x3F == 0x23 and head[36] == 0, (head, data)
        assert b"AuthMethod=CHAP" in data
        stranger.sendall(login_bytes([("CHAP_A", "7,5")], transit=False))
        head, data = read_pdu(stranger)
        keys = dict(p.decode().split("=", 1) for p in data.rstrip(b"\0").split(b"\0") if b"=" in p)
        assert keys["CHAP_A"] in ("5", "7")
        number = int(keys["CHAP_I"])
        challenge = bytes.fromhex(keys["CHAP_C"][2:])
        make = hashlib.sha256 if keys["CHAP_A"] == "7" else hashlib.md5
        answer = make(bytes([number]) + b"not the secret at all" + challenge).hexdigest()
        stranger.sendall(login_bytes([("CHAP_N", "b"), ("CHAP_R", "0x" + answer)]))
        head, data = read_pdu(stranger)
        if head:  # Login Response, status class 2 (initiator error), detail 1 (authentication failure)
            assert head[0] & 0x3F == 0x23 and head[36] == 2, head
        stranger.settimeout(5)
        assert stranger.recv(1) == b"", "the connection is closed after the refusal"
    said = wait_for("the refusal is logged", lambda: re.search(r"(?i)refus|authent|secret|chap",
                                                              log_after(pair.a, mark)), 5)
    assert said
    assert SECRET not in pair.a.log() and "not the secret" not in pair.a.log()
    alpha.wait_acknowledged(300).stop()
    assert pair.a.role() == pair.b.role() == "paired"
    assert not alpha.path.errors and not alpha.path.losses


def test_a_login_without_a_secret_is_refused_where_one_is_set(make_pair):
    pair = make_pair(secret=SECRET)
    with socket.create_connection(("127.0.0.1", pair.a.link), timeout=5) as stranger:
        stranger.sendall(login_bytes([*names("b"), ("AuthMethod", "None")]))
        head, _ = read_pdu(stranger)
        assert head is None or (head[0] & 0x3F == 0x23 and head[36] == 2), head
    assert pair.a.role() == pair.b.role() == "paired"


def test_noise_at_the_link_and_at_the_parent_harms_nobody(pair):
    alpha = load_on(pair)
    alpha.wait_acknowledged(100)
    whole = login_bytes(names("b"))
    noise = [os.urandom(n) for n in (1, 47, 48, 49, 500, 5000, 100000)]
    noise += [whole[:n] for n in range(0, len(whole), 7)]
    noise += [b"\x01" + os.urandom(47), whole.replace(b"e2e.link", b"no.such!"),
              whole[:5] + b"\xff\xff\xff" + whole[8:]]
    for port in (pair.a.link, pair.a.warden):
        for text in noise:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as stranger:
                try:
                    stranger.sendall(text)
                    stranger.shutdown(socket.SHUT_WR)
                    stranger.settimeout(0.05)
                    stranger.recv(4096)
                except OSError:
                    pass
    alpha.wait_acknowledged(300).stop()
    assert pair.a.role() == pair.b.role() == "paired"
    assert not alpha.path.errors and not alpha.path.losses
    alpha.verify_through(pair.a)


def test_silent_strangers_do_not_use_up_the_link(pair):
    """Connections that say nothing are held for a bounded time, and the peer's own gets in beside them."""
    crowd = [socket.create_connection(("127.0.0.1", pair.a.link), timeout=5) for _ in range(40)]
    pair.b.kill()
    pair.b.wait_exit()
    pair.b.start()
    pair.wait_paired(timeout=20)
    for stranger in crowd:
        stranger.close()


# ---- Wireshark ----

def test_wireshark_reads_the_link(make_pair, tmp_path):
    if not shutil.which("tshark"):
        pytest.skip("tshark is not installed")
    pair = make_pair(start=False, secret=SECRET)
    ports = (pair.a.link, pair.b.link)
    capture = tmp_path / "link.pcapng"
    wanted = f"tcp port {ports[0]} or tcp port {ports[1]}"
    tshark = subprocess.Popen(["dumpcap", "-q", "-i", "lo", "-f", wanted, "-B", "16", "-w", capture, "-a", "duration:60"],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for line in tshark.stdout:
            if line.startswith("File:"):
                break
        else:
            pytest.skip("capturing on lo is not allowed here")
        time.sleep(0.3)
        pair.start()
        alpha = load_on(pair, depth=8, largest=64)
        alpha.wait_acknowledged(400).stop()
        time.sleep(0.3)
    finally:
        tshark.terminate()
        tshark.wait(10)
    dissect = ["tshark", "-r", str(capture), "-o", "tcp.desegment_tcp_streams:TRUE",
               *[word for port in ports for word in ("-d", f"tcp.port=={port},iscsi")]]

    def rows(display_filter, *fields):
        words = [word for field in fields for word in ("-e", field)]
        text = subprocess.run([*dissect, "-Y", display_filter, "-T", "fields", "-E", "occurrence=a", *words],
                              capture_output=True, text=True, timeout=60, check=True).stdout
        return [line.split("\t") for line in text.splitlines()]

    login = [value for row in rows("iscsi.opcode == 0x03 || iscsi.opcode == 0x23", "iscsi.keyvalue")
             for value in row[0].split(",")]
    assert any("TargetName=iqn.2026-11.holdfast:e2e.link" in key for key in login), login
    assert any(key.startswith("CHAP_A=") for key in login)
    assert not any(SECRET in key for key in login)
    commands = sum(row[0].split(",").count("0x01")
                   for row in rows("iscsi.opcode == 0x01 && scsi_sbc.opcode == 0x3b", "iscsi.opcode"))
    others = rows("iscsi.opcode == 0x01 && !(scsi_sbc.opcode == 0x3b)", "frame.number")
    assert not others, "WRITE BUFFER is the only command"
    responses = [status for row in rows("iscsi.opcode == 0x21", "iscsi.scsiresponse.status")
                 for status in row[0].split(",")]
    print(f"{commands} WRITE BUFFER commands, {len(responses)} responses")
    assert commands > 50
    assert set(responses) == {"0x00"}, "every batch was answered GOOD"
    assert abs(len(responses) - commands) <= 4
    bad = rows("_ws.malformed || iscsi.opcode.invalid || iscsi.keyvalue.invalid", "frame.number", "_ws.expert.message")
    assert not bad, bad[:10]
    experts = rows("(iscsi || scsi) && _ws.expert.severity >= 0x600000", "frame.number", "_ws.expert.message")
    assert not [row for row in experts if "TCP" not in row[1] and "segment" not in row[1].lower()], experts[:10]
