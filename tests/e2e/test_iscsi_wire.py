# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""Hosts that do what RFC 7143 forbids, or as little as it allows: wrong digests and proofs, data that never come, answers
that are never read, floods of logins. The controller stays, and serves everybody else."""

import os
import random
import resource
import select
import struct
import time

import pytest

import iscsi_raw
import scsihost
from holdfast import MI, PATIENCE, Host, Timeout, Volume, process_alive, run, wait_for
from iscsi_raw import (ASYNC, DATA_IN, FINAL, LOGIN_ANSWER, MANAGED, NOP_IN, R2T, READ, REJECT, RESPONSE, WRITE, Raw,
                       Refused)

ME = "iqn.2026-11.test:raw"
SECRET, OTHER = "a-secret-of-sixteen", "another-of-eighteen"


@pytest.fixture(scope="module")
def target(module_pair):
    return module_pair(iscsi=True, volumes=[Volume("alpha"), Volume("beta", owner="b")])


@pytest.fixture
def raw(target):
    connections = []

    def connect(controller="a", log_in=True, name=ME, receive_buffer=None, **settings):
        connection = Raw(target.controller(controller).iscsi, receive_buffer=receive_buffer)
        connections.append(connection)
        if log_in:
            connection.login(name, target.target_name, **settings)
            clear(connection)
        return connection

    yield connect
    for connection in connections:
        connection.close()


def clear(connection, lun=0):
    """TEST UNIT READY until no unit attention is left."""
    for _ in range(8):
        tag = connection.command(lun, bytes(6))
        if connection.until(RESPONSE, tag).header[3] == 0:
            return
    raise AssertionError("no end of unit attentions")


def serves(target, name="a"):
    """Another host's I/O goes on."""
    url = target.controller(name).iscsi_url("beta")
    out = run("qemu-io", "-f", "raw", "-c", "write -P 7 0 4k", "-c", "read -P 7 0 4k", url, timeout=20).stdout
    assert "wrote 4096/4096" in out and "verification failed" not in out, out


# ---- login ----

def test_a_name_that_is_not_ours_is_refused(target):
    with Raw(target.a.iscsi) as connection, pytest.raises(Refused) as refused:
        connection.login(ME, "iqn.2026-11.nobody:x")
    assert refused.value.status == 0x0203  # target not found


@pytest.mark.parametrize("keys, expected", [
    ([("InitialR2T", "Yes"), ("ImmediateData", "No")], {"InitialR2T": "Yes", "ImmediateData": "No"}),
    ([("MaxBurstLength", "8192"), ("FirstBurstLength", "4096")], {"MaxBurstLength": "8192", "FirstBurstLength": "4096"}),
    ([("ErrorRecoveryLevel", "2")], {"ErrorRecoveryLevel": "0"}),
    ([("MaxConnections", "8")], {"MaxConnections": "1"}),
    ([("MaxOutstandingR2T", "16")], {}),
    ([("X-org.example.thing", "1")], {"X-org.example.thing": "NotUnderstood"}),
    ([("IFMarker", "Yes"), ("OFMarker", "Yes")], {}),
])
def test_what_is_negotiated_is_what_the_RFC_says(raw, keys, expected):
    connection = raw(keys=keys)
    for key, value in expected.items():
        assert connection.given.get(key) == value, connection.given
    data = random.Random(1).randbytes(65536)
    assert connection.write(0, 0, data) == 0 and connection.read(0, 0, 128) == (0, data)


@pytest.mark.parametrize("initial", ["Yes", "No"])
@pytest.mark.parametrize("immediate", ["Yes", "No"])
@pytest.mark.parametrize("first, burst, segment", [(512, 512, 512), (65536, 262144, 8192), (4096, 16776192, 65536)])
def test_writes_in_every_combination_of_unsolicited_data(raw, initial, immediate, first, burst, segment):
    connection = raw("b", keys=[("InitialR2T", initial), ("ImmediateData", immediate),
                                ("FirstBurstLength", str(first)), ("MaxBurstLength", str(burst)),
                                ("MaxRecvDataSegmentLength", str(segment))])
    data = random.Random(first).randbytes(60 * 512)
    given = {key: connection.given.get(key, value) for key, value in
             (("InitialR2T", initial), ("ImmediateData", immediate), ("FirstBurstLength", str(first)))}
    budget, limit = int(given["FirstBurstLength"]), int(connection.given.get("MaxRecvDataSegmentLength", 8192))
    at = min(budget, limit, len(data)) if given["ImmediateData"] == "Yes" else 0
    more = given["InitialR2T"] == "No" and at < min(budget, len(data))
    tag = connection.command(0, scsihost.write16(0, 60), (0 if more else FINAL) | WRITE, len(data), data[:at])
    number = 0
    while more:
        part = min(limit, min(budget, len(data)) - at)
        more = at + part < min(budget, len(data))
        connection.data_out(tag, iscsi_raw.NO_TAG, number, at, data[at:at + part], final=not more)
        at, number = at + part, number + 1
    asked = at
    while True:
        pdu = connection.receive()
        if pdu.opcode == RESPONSE:
            break
        assert pdu.opcode == R2T, pdu
        offset, length = pdu.word(40), pdu.word(44)
        assert offset == asked and length <= int(connection.given.get("MaxBurstLength", burst))
        asked += length
        for number, place in enumerate(range(0, length, limit)):
            part = data[offset + place:offset + min(place + limit, length)]
            connection.data_out(tag, pdu.word(20), number, offset + place, part, final=place + limit >= length)
    assert pdu.header[3] == 0 and asked == len(data)
    assert connection.read(0, 0, 60) == (0, data)


def test_SendTargets_names_the_portals_of_both_controllers(target):
    for controller in (target.a, target.b):
        with Raw(controller.iscsi) as connection:
            connection.login(ME, None, session="Discovery")
            said = connection.text([("SendTargets", "All")]).data.decode()
        for each, group in ((target.a, 1), (target.b, 2)):
            assert f"TargetAddress={each.portal()},{group}\0" in said, said
        connection.close()


# ---- CHAP ----

@pytest.fixture(scope="module")
def guarded(module_pair):
    return module_pair(hosts=[Host("one", ME, "alpha", chap=("me", SECRET)),
                              Host("two", ME + "2", "alpha", chap=("me2", SECRET), mutual=("array", OTHER))])


@pytest.mark.parametrize("algorithm", [5, 7])
def test_CHAP_one_way(guarded, algorithm):
    with Raw(guarded.a.iscsi) as connection:
        connection.login(ME, guarded.target_name, chap=(algorithm, "me", SECRET))
        clear(connection)


@pytest.mark.parametrize("algorithm", [5, 7])
def test_CHAP_both_ways(guarded, algorithm):
    with Raw(guarded.b.iscsi) as connection:
        connection.login(ME + "2", guarded.target_name, chap=(algorithm, "me2", SECRET, ("array", OTHER)))
        clear(connection)


@pytest.mark.parametrize("name, chap", [
    (ME, (5, "me", "a-wrong-secret-here")), (ME, (5, "you", SECRET)), (ME, (7, "me2", SECRET)),
    (ME + "2", (5, "me", SECRET)), ("iqn.2026-11.test:stranger", (5, "me", SECRET)), (ME, None)])
def test_a_wrong_proof_or_none_is_refused(guarded, name, chap):
    with Raw(guarded.a.iscsi) as connection, pytest.raises((Refused, AssertionError)) as refused:
        connection.login(name, guarded.target_name, chap=chap)
    if isinstance(refused.value, Refused):
        assert refused.value.status >> 8 == 2, "an initiator error: authentication or authorization"


def test_a_proof_that_is_sent_back_is_refused(guarded):
    """Reflection: a host without the secret gives the target its own challenge to answer (RFC 7143 section 9.2.1)."""
    with Raw(guarded.a.iscsi) as connection:
        connection.login_pdu(0, 1, [("InitiatorName", ME + "2"), ("SessionType", "Normal"),
                                    ("TargetName", guarded.target_name), ("AuthMethod", "CHAP")], transit=False)
        connection.receive()
        connection.login_pdu(0, 1, [("CHAP_A", "5")], transit=False)
        keys = connection.receive().keys
        connection.login_pdu(0, 1, [("CHAP_N", "me2"), ("CHAP_R", "0x" + "00" * 16), ("CHAP_I", keys["CHAP_I"]),
                                    ("CHAP_C", keys["CHAP_C"])])
        for pdu in connection.ended():
            assert pdu.opcode == LOGIN_ANSWER and pdu.header[36] == 2 and "CHAP_R" not in pdu.keys, pdu.keys


def test_libiscsi_and_QEMU_prove_themselves(guarded):
    url = guarded.a.iscsi_url(0, login=f"me%{SECRET}@")
    assert "DIRECT_ACCESS" in run("iscsi-inq", "-i", ME, url).stdout
    bad = run("iscsi-inq", "-i", ME, guarded.a.iscsi_url(0, login="me%not-the-secret-1@"), check=False)
    assert bad.returncode != 0


# ---- digests ----

def test_data_and_headers_are_covered_when_both_want_it(raw):
    connection = raw(digests="CRC32C,None")
    assert connection.digests == [True, True]
    data = random.Random(2).randbytes(128 * 512)
    assert connection.write(0, 40, data) == 0 and connection.read(0, 40, 128) == (0, data)


def test_a_wrong_header_digest_ends_the_session(raw, target):
    """RFC 7143 section 7.7: at error recovery level 0 the connection is dropped; nothing of the PDU is believed."""
    connection = raw(digests="CRC32C")
    connection.spoil = "header"
    connection.command(0, scsihost.write16(0, 1), FINAL | WRITE, 512, b"!" * 512)
    assert not [pdu for pdu in connection.ended() if pdu.opcode == RESPONSE and pdu.header[3] == 0]
    serves(target)


def test_data_with_a_wrong_digest_are_never_written(raw, target):
    connection = raw(digests="CRC32C", keys=[("ImmediateData", "No"), ("InitialR2T", "Yes")])
    assert connection.write(0, 7, b"=" * 512) == 0
    tag = connection.command(0, scsihost.write16(7, 1), FINAL | WRITE, 512)
    order = connection.until(R2T, tag)
    connection.spoil = "data"
    connection.data_out(tag, order.word(20), 0, 0, b"!" * 512)
    # A reject and, for the command, CHECK CONDITION; or the session ends at once: section 7.8 leaves both.
    said = []
    try:
        said.append(connection.until(RESPONSE, tag))
    except iscsi_raw.Ended:
        pass
    assert not said or said[0].header[3] != 0, "a write with wrong data must not be GOOD"
    reader = raw(name=ME + "-reader")
    assert reader.read(0, 7, 1) == (0, b"=" * 512)
    serves(target)


# ---- order ----

def test_commands_ahead_of_their_turn_within_the_window_wait_for_it(raw):
    connection = raw()
    first = connection.cmd_sn
    for number in (first + 2, first + 1):
        connection.command(0, bytes(6), cmd_sn=number & 0xFFFFFFFF, tag=1000 + number - first)
    connection.socket.settimeout(0.3)
    with pytest.raises(Timeout):
        connection.receive()
    connection.socket.settimeout(10)
    connection.command(0, bytes(6), cmd_sn=first, tag=1000)
    assert sorted(connection.until(RESPONSE).tag for _ in range(3)) == [1000, 1001, 1002]
    connection.cmd_sn = first + 3 & 0xFFFFFFFF
    clear(connection)


def test_a_ping_brings_its_data_back(raw):
    connection = raw("b")
    connection.nop(connection.next_tag(), data=b"are you there" * 20)
    assert connection.until(NOP_IN).data == b"are you there" * 20


def test_an_unknown_opcode_is_rejected(raw, target):
    connection = raw()
    connection.send(struct.pack(">B47x", 0x1C | iscsi_raw.IMMEDIATE))
    said = []
    try:
        said.append(connection.receive())
    except iscsi_raw.Ended:
        pass
    assert not said or said[0].opcode == REJECT
    serves(target)


# ---- hosts that stop ----

def test_a_host_that_stops_reading_is_left_alone_and_costs_nobody_else(raw, target):
    connection = raw(receive_buffer=4096)
    window = 64
    for number in range(window):
        connection.command(0, scsihost.read16(0, 2048), FINAL | READ, MI)
    time.sleep(0.5)
    for name in ("a", "b"):
        serves(target, name)
    assert target.a.status()["role"] == "paired"
    answered = 0
    while answered < window:  # and when it reads again it gets everything
        pdu = connection.receive()
        answered += pdu.opcode == RESPONSE or (pdu.opcode == DATA_IN and bool(pdu.flags & 1))


@pytest.mark.parametrize("hosts, commands, size", [(40, 32, MI), (1, 128, 2 * MI), (6, 16, 8 * MI)])
def test_hosts_that_never_send_their_data_do_not_use_up_what_others_need(raw, target, hosts, commands, size):
    """They asked for many times what is lent for data, and bring nothing: what they may not have they are refused at
    once, and others get theirs without having to wait for it."""
    silent = [raw(name=f"{ME}-{number}", keys=[("ImmediateData", "No"), ("InitialR2T", "Yes")])
              for number in range(hosts)]
    for connection in silent:
        for _ in range(commands):
            connection.command(0, scsihost.write16(0, size // 512), FINAL | WRITE, size)
    for connection in silent:  # every command has been looked at: asked for its data, or refused
        answers = [connection.receive() for _ in range(commands)]
        assert {pdu.opcode for pdu in answers} <= {R2T, RESPONSE}
        assert {pdu.header[3] for pdu in answers if pdu.opcode == RESPONSE} <= {0x28}, "TASK SET FULL, not BUSY"
        assert answers[0].opcode == R2T, "nobody is left without anything"
    begin = time.monotonic()
    serves(target)
    other = raw(name=ME + "-other")
    assert other.write(0, 0, b"o" * MI) == 0 and other.read(0, 0, 2048) == (0, b"o" * MI)
    assert time.monotonic() - begin < 3 * PATIENCE, "no other host has to wait until something is given back"
    one = silent[0]
    managed = one.manage(2)  # ABORT TASK SET
    assert one.until(MANAGED, managed).header[2] == 0, "a host that brings no data can still abort"
    for connection in silent:
        connection.close()
    wait_for("their buffers are back", lambda: serves(target) is None, 10)


def test_a_host_that_leaves_in_the_middle_of_its_data_leaves_nothing(raw, target):
    connection = raw(keys=[("ImmediateData", "No"), ("InitialR2T", "Yes")])
    assert connection.write(0, 100, b"=" * 4096) == 0
    tag = connection.command(0, scsihost.write16(100, 8), FINAL | WRITE, 4096)
    order = connection.until(R2T, tag)
    connection.data_out(tag, order.word(20), 0, 0, b"!" * 2048, final=False)
    connection.close()
    reader = raw(name=ME + "-reader")
    assert reader.read(0, 100, 8) == (0, b"=" * 4096)


# ---- the order of commands (SAM-5 8.6) ----

SIMPLE, ORDERED, HEAD_OF_QUEUE = 1, 2, 3


def test_an_ORDERED_command_waits_and_one_at_the_HEAD_OF_QUEUE_does_not(make_pair):
    pair = make_pair(iscsi=True, faulty={})
    with Raw(pair.a.iscsi) as connection, Raw(pair.a.iscsi) as other:
        for each, name in ((connection, ME), (other, ME + "-other")):
            each.login(name, pair.target_name)
            clear(each)
        assert connection.write(0, 0, b"c" * 4096) == 0  # in the cache: the store is not needed to read it
        pair.faulty.pause()

        def read(lba, attribute):
            return connection.command(0, struct.pack(">BBQIBB", 0x88, 0, lba, 1, 0, 0), FINAL | READ, 512,
                                      attribute=attribute)

        stuck, passes = read(8000, SIMPLE), read(0, SIMPLE)
        assert connection.until(DATA_IN).tag == passes, "SIMPLE ones may pass each other"
        ordered, behind, first = read(1, ORDERED), read(2, SIMPLE), read(3, HEAD_OF_QUEUE)
        assert connection.until(DATA_IN).tag == first, "it passes all that wait"
        assert other.read(0, 0, 1) == (0, b"c" * 512), "each nexus has a task set of its own"
        connection.socket.settimeout(0.5)
        with pytest.raises(Timeout):
            connection.receive()
        connection.socket.settimeout(10)
        pair.faulty.resume()
        assert [connection.until(DATA_IN).tag for _ in range(3)] == [stuck, ordered, behind]


# ---- floods ----

def resident_mib(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096 / MI


def test_a_flood_of_connections_that_never_log_in(target):
    pid = target.a.child_pid()
    before = resident_mib(pid)
    crowd = [Raw(target.a.iscsi) for _ in range(400)]
    for number, connection in enumerate(crowd):
        if number % 2:
            connection.socket.sendall(b"\x43\x87" + bytes(20))  # half a login header
    serves(target)
    assert resident_mib(pid) - before < 100, "each costs little before it has said who it is"
    for connection in crowd:
        connection.close()
    serves(target)
    assert process_alive(pid)


def test_a_flood_of_logins_leaves_no_sessions_behind(target):
    pid = target.a.child_pid()
    for turn in range(3):
        crowd = []
        for number in range(100):
            connection = Raw(target.a.iscsi)
            connection.login(f"{ME}-{number}", target.target_name)
            crowd.append(connection)
        serves(target)
        for connection in crowd:
            connection.close()
        if turn == 0:
            wait_for("the sessions are gone", lambda: serves(target) is None, 5)
            before, files = resident_mib(pid), open_files(pid)
    wait_for("their sockets are closed", lambda: open_files(pid) <= files + 5, 10)
    assert resident_mib(pid) - before < 10, "what a session takes is given back"


def one_after_the_other(count, crowd):
    """0 to count - 1. On a busy machine that takes longer than a host may be silent (ISCSI_PING_MS and ISCSI_PONG_MS),
    so in between those of the crowd that are asked whether they live say so; they wait for nothing else."""
    due = time.monotonic() + 5
    for number in range(count):
        if time.monotonic() >= due:
            hosts, poll = {connection.socket.fileno(): connection for connection in crowd}, select.poll()
            for descriptor in hosts:
                poll.register(descriptor, select.POLLIN)
            for descriptor, _ in poll.poll(0):
                hosts[descriptor].answer_ping(hosts[descriptor].receive())
            due = time.monotonic() + 5
        yield number


def test_a_thousand_sessions_at_once_take_little_memory_and_all_are_served(target):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1200:
        pytest.skip("this process may not open 1,200 files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    pid, count, crowd = target.a.child_pid(), 1000, []
    before = resident_mib(pid)
    try:
        for number in one_after_the_other(count, crowd):
            connection = Raw(target.a.iscsi)
            crowd.append(connection)
            connection.login(f"{ME}-of-many-{number}", target.target_name)
        assert target.a.status()["iscsi"]["sessions"] >= count
        for number in one_after_the_other(count, crowd):
            clear(crowd[number])
            assert crowd[number].write(0, 8 * number, struct.pack(">Q", number) * 64) == 0
        for number in one_after_the_other(count, crowd):
            other = (number + 1) % count
            assert crowd[number].read(0, 8 * other, 1) == (0, struct.pack(">Q", other) * 64)
        # 40 KiB of each session, and what the allocator and the kernel's pages add.
        assert resident_mib(pid) - before < count * 64 / 1024
        serves(target)
    finally:
        for connection in crowd:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_for("the sessions are gone", lambda: target.a.status()["iscsi"]["sessions"] == 0, 10)


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_noise_on_the_port_is_survived(target):
    generator = random.Random(8)
    for _ in range(60):
        with Raw(target.a.iscsi) as connection:
            try:
                connection.socket.sendall(generator.randbytes(generator.choice((1, 47, 48, 200, 5000))))
            except OSError:
                pass
    serves(target)


def test_noise_after_a_login_is_survived(raw, target):
    generator = random.Random(9)
    for number in range(40):
        connection = raw(name=f"{ME}-{number}")
        header = bytearray(generator.randbytes(48))
        header[0] = generator.choice((0, 1, 2, 4, 5, 6, 0x10, 0x1F)) | generator.choice((0, 0x40))
        header[4:8] = struct.pack(">I", generator.choice((0, 4, 300)))
        try:
            connection.socket.sendall(bytes(header) + generator.randbytes(512))
        except OSError:
            pass
        connection.close()
    serves(target)


# ---- a planned stop ----

def test_a_planned_stop_is_announced(make_pair):
    """RFC 7143 section 11.9.1: event 1 asks for a logout, 2 and 3 announce that the target drops the connection."""
    pair = make_pair(iscsi=True)
    with Raw(pair.a.iscsi) as connection:
        connection.login(ME, pair.target_name)
        clear(connection)
        pair.a.process.terminate()
        said = connection.ended()
    events = [pdu.header[36] for pdu in said if pdu.opcode == ASYNC]
    assert events and events[0] in (1, 2, 3), said
    assert pair.a.wait_exit(20) == 0


# ---- the end of a session ----

@pytest.mark.parametrize("leave", [Raw.logout, Raw.close], ids=["logout", "close"])
def test_what_a_host_had_reserved_is_free_as_soon_as_it_has_left(raw, leave):
    """RESERVE (6) of one that logs out is over when the answer to the logout comes, at both controllers; of one whose
    connection ends, when the controller hears of that, which is before it reads what another one says later."""
    here, there = raw("a", name=f"{ME}.here"), raw("b", name=f"{ME}.there")
    for _ in range(20):
        one = raw("a", name=f"{ME}.holder")
        one.until(RESPONSE, one.command(0, bytes([0x16, 0, 0, 0, 0, 0])))
        tag = here.command(0, bytes(6))
        assert here.until(RESPONSE, tag).header[3] == scsihost.CONFLICT
        leave(one)
        statuses = [here.write(0, 8, bytes(512))]
        if leave is Raw.logout:
            statuses.append(there.write(0, 8, bytes(512)))
        assert set(statuses) == {scsihost.GOOD}
        one.close()
