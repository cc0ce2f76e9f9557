# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""iSCSI hosts with libiscsi's tools and qemu: who is let in and what it sees, through either controller, and what
becomes of sessions at a stop and at a new login. Conformance, task management and takeover have files of their own."""

import re
import socket
import struct
import subprocess
import time

import pytest

import holdfast
from holdfast import KI, MI, PATIENCE, Host, Volume, run, volume_status, wait_for

TARGET = "iqn.2026-11.holdfast:e2e"
WEB, BACKUP, NOBODY = (f"iqn.2026-11.test:{name}" for name in ("web", "backup", "nobody"))
CHAP, MUTUAL = ("webuser", "a-secret-of-web"), ("arrayuser", "a-secret-of-array")


def qemu_io(url, *commands, initiator=None, check=True, timeout=20):
    """qemu-io over libiscsi. Returns the CompletedProcess."""
    words = ["qemu-io", "-f", "raw"]
    for command in commands:
        words += ["-c", command]
    if initiator:
        match = re.fullmatch(r"iscsi://(?:([^%]*)%([^@]*)@)?([^/]*)/([^/]*)/(\d+)", url)
        user, password, portal, target, lun = match.groups()
        # A credential or a name with ":" cannot stand in a URL; the options take anything.
        options = f"driver=iscsi,transport=tcp,portal={portal},target={target},lun={lun},initiator-name={initiator}"
        if user:
            options += f",user={user}"
        words += ["--image-opts", options]
        words.remove("-f")
        words.remove("raw")
    else:
        words.append(url)
    return run(*words, check=check, timeout=timeout)


def listed(portal, initiator=None, login="", check=True):
    words = ["iscsi-ls", "-s"] + (["-i", initiator] if initiator else []) + [f"iscsi://{login}{portal}/"]
    return run(*words, check=check, timeout=20)


@pytest.fixture(scope="module")
def iscsi_pair():
    pair = holdfast.Pair(iscsi=True, volumes=[Volume("alpha", owner="a"), Volume("beta", owner="b", block=4096)],
                         secret="a secret of the controllers")
    try:
        pair.start()
        yield pair
        pair.check_logs()
    finally:
        pair.end()
        pair.remove()


@pytest.fixture(autouse=True)
def _logs(request):
    if "iscsi_pair" in request.fixturenames:
        request.node.pairs = [request.getfixturevalue("iscsi_pair")]


def test_discovery_names_the_portals_of_both_with_their_groups(iscsi_pair):
    for controller in (iscsi_pair.a, iscsi_pair.b):
        for six in (False, True):
            out = listed(controller.portal(six)).stdout
            found = set(re.findall(r"Target:(\S+) Portal:(\S+),(\d+)", out))
            assert found == {(TARGET, portal, group) for c, group in ((iscsi_pair.a, "1"), (iscsi_pair.b, "2"))
                             for portal in (c.portal(), c.portal(six=True))}, out


def test_both_controllers_show_the_same_identity(iscsi_pair):
    seen = set()
    for controller in (iscsi_pair.a, iscsi_pair.b):
        for lun, name in enumerate(("alpha", "beta")):
            naa = volume_status(controller.status(), name)["iscsi"]["naa"]
            out = run("iscsi-inq", "-e", "1", "-c", str(0x80), controller.iscsi_url(lun)).stdout
            assert naa in out, out
            seen.add((name, naa))
    assert len(seen) == 2


@pytest.mark.parametrize("six", [False, True])
def test_what_is_written_through_one_is_read_through_the_other(iscsi_pair, six):
    a, b = iscsi_pair.a, iscsi_pair.b
    for lun in (0, 1):
        # Reads of 32 KiB and more from thin volumes with blocks of 4096 end qemu 7.2 with an assertion of its own
        # (iscsi_co_readv() asks for the status of INT_MAX rounded down to 512 bytes).
        qemu_io(a.iscsi_url(lun, six), "write -P 1 0 1M", "write -P 2 4k 4k", "write -z 512k 64k", "flush")
        out = qemu_io(b.iscsi_url(lun, six), "read -P 1 0 4k", "read -P 2 4k 4k", "read -P 0 512k 28k",
                      "write -P 3 8k 512k", "discard 1M 1M").stdout
        assert "Pattern verification failed" not in out, out
        out = qemu_io(a.iscsi_url(lun, six), "read -P 3 8k 28k", "read -P 3 492k 28k", "read -P 1 600k 28k").stdout
        assert "Pattern verification failed" not in out, out


def test_nbd_and_iscsi_show_the_same_bytes(iscsi_pair):
    handle = iscsi_pair.b.connect("alpha")
    handle.pwrite(b"\x55" * 70000, 3 * MI)
    out = qemu_io(iscsi_pair.b.iscsi_url(0), "read -P 0x55 3M 68k", "write -P 0x66 3M 4k").stdout
    assert "Pattern verification failed" not in out, out
    assert handle.pread(4096, 3 * MI) == b"\x66" * 4096
    handle.shutdown()


def test_the_logical_block_is_the_configured_one(iscsi_pair):
    for lun, block in ((0, 512), (1, 4096)):
        out = run("iscsi-readcapacity16", iscsi_pair.a.iscsi_url(lun)).stdout
        assert re.search(rf"LENGTH IN BYTES:{block}\b", out) and "Total size:16777216" in out, out


def test_an_image_goes_in_through_one_and_comes_back_through_the_other(iscsi_pair, tmp_path):
    image = tmp_path / "image"
    image.write_bytes(bytes(range(256)) * (16 * MI // 256))
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, iscsi_pair.b.iscsi_url(0), timeout=40)
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, iscsi_pair.a.iscsi_url(0), timeout=40)


def test_another_target_or_lun_is_not_there(iscsi_pair):
    wrong = qemu_io(iscsi_pair.a.iscsi_url(0, target=TARGET + ".x"), "read 0 512", check=False)
    assert wrong.returncode != 0
    wrong = qemu_io(iscsi_pair.a.iscsi_url(7), "read 0 512", check=False)
    assert wrong.returncode != 0
    wrong = qemu_io(iscsi_pair.a.iscsi_url(0, target=TARGET + ".ship"), "read 0 512", check=False)
    assert wrong.returncode != 0


def test_the_status_shows_sessions_and_commands(iscsi_pair):
    process = subprocess.Popen(["qemu-io", "-f", "raw", iscsi_pair.a.iscsi_url(0)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        sessions = wait_for("the session is shown", lambda: iscsi_pair.a.status()["iscsi"]["session_list"])
        assert sessions[0]["luns"] == 2 and sessions[0]["host"] is None and not sessions[0]["authenticated"]
        before = volume_status(iscsi_pair.a.status(), "alpha")["iscsi"]
        process.stdin.write(b"write 0 8k\nread 0 4k\n")
        process.stdin.flush()
        wait_for("the commands are counted", lambda: volume_status(
            iscsi_pair.a.status(), "alpha")["iscsi"]["write_bytes"] >= before["write_bytes"] + 8 * KI)
        assert before["sessions"] == 1
        assert "iscsi" in iscsi_pair.a.cli("status").stdout
    finally:
        process.stdin.close()
        process.wait(10)
    wait_for("the session has gone", lambda: iscsi_pair.a.status()["iscsi"]["sessions"] == 0)


# ---- who is let in ----

@pytest.fixture(scope="module")
def guarded_pair():
    hosts = [Host("web", WEB, "beta@3, alpha:ro", chap=CHAP, mutual=MUTUAL), Host("backup", BACKUP, "alpha")]
    pair = holdfast.Pair(hosts=hosts)
    try:
        pair.start()
        yield pair
        pair.check_logs()
    finally:
        pair.end()
        pair.remove()


def secret_options(tmp_path, secret):
    path = tmp_path / "secret"
    path.write_text(secret)
    return ["--object", f"secret,id=s,file={path}"]


def chap_io(controller, tmp_path, lun, *commands, user=CHAP[0], secret=CHAP[1], initiator=WEB):
    options = (f"driver=iscsi,transport=tcp,portal={controller.portal()},target={TARGET},lun={lun},"
               f"initiator-name={initiator},user={user},password-secret=s")
    words = ["qemu-io", *secret_options(tmp_path, secret), "--image-opts", options]
    for command in commands:
        words += ["-c", command]
    return run(*words, check=False, timeout=20)


def test_an_initiator_that_no_host_names_is_refused(guarded_pair):
    for controller in (guarded_pair.a, guarded_pair.b):
        assert qemu_io(controller.iscsi_url(0), "read 0 512", initiator=NOBODY, check=False).returncode != 0
        assert listed(controller.portal(), NOBODY, check=False).returncode != 0
        wait_for("the refusal is logged", lambda c=controller: f"{NOBODY} at " in c.log())
    assert guarded_pair.a.status()["iscsi"]["refused"] >= 2


def test_a_host_sees_only_its_luns(guarded_pair):
    out = listed(guarded_pair.b.portal(), BACKUP).stdout
    assert re.search(r"Lun:0\b", out) and not re.search(r"Lun:[1-9]", out), out
    assert qemu_io(guarded_pair.b.iscsi_url(3), "read 0 512", initiator=BACKUP, check=False).returncode != 0
    out = listed(guarded_pair.a.portal(), WEB, login=f"{CHAP[0]}%{CHAP[1]}@").stdout
    assert re.findall(r"Lun:(\d+)", out)[:2] == ["3", "4"], out


def test_a_host_with_a_secret_must_prove_itself(guarded_pair, tmp_path):
    for controller in (guarded_pair.a, guarded_pair.b):
        good = chap_io(controller, tmp_path, 3, "write -P 5 0 4k", "read -P 5 0 4k")
        assert good.returncode == 0 and "verification failed" not in good.stdout, good.stdout + good.stderr
        assert chap_io(controller, tmp_path, 3, "read 0 512", secret="not-the-secret-of-web").returncode != 0
        assert chap_io(controller, tmp_path, 3, "read 0 512", user="somebody").returncode != 0
        assert qemu_io(controller.iscsi_url(3), "read 0 512", initiator=WEB, check=False).returncode != 0
        # Somebody else's credentials do not help under another name.
        assert chap_io(controller, tmp_path, 3, "read 0 512", initiator=NOBODY).returncode != 0


def test_the_array_proves_itself_when_asked(guarded_pair):
    urls = [f"iscsi://{CHAP[0]}%{CHAP[1]}@{guarded_pair.a.portal()}/{TARGET}/3?target_user={user}&target_password={word}"
            for user, word in (MUTUAL, (MUTUAL[0], "not-the-arrays-secret"))]
    results = [run("iscsi-inq", "-i", WEB, url, check=False, timeout=20).returncode for url in urls]
    assert results[0] == 0
    assert results[1] != 0


def test_a_read_only_lun_takes_no_write(guarded_pair, tmp_path):
    qemu_io(guarded_pair.a.iscsi_url(0), "write -P 9 0 4k", initiator=BACKUP)
    result = chap_io(guarded_pair.a, tmp_path, 4, "write -P 8 0 4k")
    assert "wrote" not in result.stdout, result.stdout
    out = qemu_io(guarded_pair.b.iscsi_url(0), "read -P 9 0 4k", initiator=BACKUP).stdout
    assert "verification failed" not in out, out


# ---- sessions ----

def test_a_stop_lets_hosts_go_and_the_other_controller_has_it_all(make_pair):
    pair = make_pair(iscsi=True)
    process = subprocess.Popen(["qemu-io", "-f", "raw", pair.a.iscsi_url("alpha")], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        process.stdin.write(b"write -P 0x41 0 1M\n")
        process.stdin.flush()
        wait_for("the write is there", lambda: volume_status(pair.a.status(), "alpha")["iscsi"]["write_bytes"] >= MI)
        started = time.monotonic()
        assert pair.a.terminate() == 0
        assert time.monotonic() - started < 10 * PATIENCE
        out = qemu_io(pair.b.iscsi_url("alpha"), "read -P 0x41 0 1M").stdout
        assert "verification failed" not in out, out
    finally:
        process.kill()
        process.wait(5)


def test_a_killed_owner_costs_a_host_of_the_other_nothing(make_pair):
    pair = make_pair(iscsi=True)
    qemu_io(pair.b.iscsi_url("alpha"), "write -P 0x42 0 2M")
    process = subprocess.Popen(["qemu-io", "-f", "raw", pair.b.iscsi_url("alpha")], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for("it is logged in", lambda: pair.b.status()["iscsi"]["sessions"] == 1)
    pair.a.kill()
    out, _ = process.communicate("write -P 0x43 1M 64k\nread -P 0x42 0 1M\nread -P 0x43 1M 64k\nflush\n", timeout=20)
    assert "wrote 65536" in out and out.count("read ") == 2 and "failed" not in out, out
    assert pair.b.role() == "solo"


def login_bytes(name, isid=1):
    text = b"".join(f"{key}\0".encode() for key in (f"InitiatorName={name}", f"TargetName={TARGET}",
                                                     "SessionType=Normal"))
    header = bytearray(48)
    header[0] = 0x43  # Login Request, immediate
    header[1] = 0x80 | 1 << 2 | 3  # transit from the operational stage to the full-feature phase
    header[5:8] = len(text).to_bytes(3, "big")
    header[8:14] = bytes([0x80, 0, 0, 0, 0, isid])
    return bytes(header) + text + bytes(-len(text) % 4)


def log_in(controller, name, isid=1):
    """A session by hand. Returns its socket; the login has succeeded."""
    connection = socket.create_connection(("127.0.0.1", controller.iscsi), 5)
    connection.settimeout(5)
    connection.sendall(login_bytes(name, isid))
    answer = connection.recv(48, socket.MSG_WAITALL)
    assert answer[0] == 0x23 and answer[36:38] == b"\0\0", answer.hex()
    connection.recv(-(-int.from_bytes(answer[5:8], "big") // 4) * 4, socket.MSG_WAITALL)
    assert struct.unpack(">H", answer[14:16])[0] != 0
    return connection


def test_a_new_login_of_the_same_port_takes_the_place_of_the_old(iscsi_pair):
    name = "iqn.2026-11.test:again"
    old, other = log_in(iscsi_pair.a, name), log_in(iscsi_pair.a, name, isid=2)
    new = log_in(iscsi_pair.a, name)
    assert old.recv(1) == b"", "the old session has ended"
    assert iscsi_pair.a.status()["iscsi"]["sessions"] == 2
    other.settimeout(0.3)
    with pytest.raises(TimeoutError):
        other.recv(1)  # another port's session stays
    for connection in (old, other, new):
        connection.close()
    wait_for("all have gone", lambda: iscsi_pair.a.status()["iscsi"]["sessions"] == 0)


def test_a_flood_of_silent_connections_keeps_nobody_out(iscsi_pair):
    flood = [socket.create_connection(("127.0.0.1", iscsi_pair.a.iscsi), 5) for _ in range(600)]
    try:
        started = time.monotonic()
        qemu_io(iscsi_pair.a.iscsi_url(0), "read 0 4k")
        assert time.monotonic() - started < 4 * PATIENCE
        assert iscsi_pair.a.status()["iscsi"]["logging_in"] <= 512
    finally:
        for connection in flood:
            connection.close()
    wait_for("they have gone", lambda: iscsi_pair.a.status()["iscsi"]["logging_in"] == 0)
