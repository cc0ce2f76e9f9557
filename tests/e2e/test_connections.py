# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""The NBD port and what may come to it: crowds, noise, half-finished handshakes, broken requests."""

import os
import random
import re
import socket
import struct
import time

import pytest

from holdfast import MI, PATIENCE, wait_for
from load import Load

OPTION = b"IHAVEOPT"
CLIENT_FLAGS = struct.pack(">I", 3)


def descriptors(controller):
    return len(os.listdir(f"/proc/{controller.child_pid()}/fd"))


def dial(controller):
    connection = socket.create_connection(("127.0.0.1", controller.nbd), timeout=5)
    return connection


def take(connection, count):
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise EOFError(f"closed after {len(data)} of {count} bytes")
        data += part
    return data


def option(number, data=b""):
    return OPTION + struct.pack(">II", number, len(data)) + data


def go(name, information=()):
    name = name.encode()
    return option(7, struct.pack(">I", len(name)) + name + struct.pack(">H", len(information)) +
                  b"".join(struct.pack(">H", n) for n in information))


def into_transmission(controller, volume):
    """A connection past GO, with simple replies."""
    connection = dial(controller)
    assert take(connection, 18)[:16] == b"NBDMAGICIHAVEOPT"
    connection.sendall(CLIENT_FLAGS + go(volume))
    while True:
        magic, number, kind, length = struct.unpack(">QIII", take(connection, 20))
        assert magic == 0x3E889045565A9 and number == 7
        take(connection, length)
        if kind == 1:
            return connection
        assert kind < 0x80000000, f"GO was answered with {kind:#x}"


def request(kind, offset, length, cookie=1, flags=0, magic=0x25609513):
    return struct.pack(">IHHQQI", magic, flags, kind, cookie, offset, length)


def still_well(controller, volume="alpha"):
    handle = controller.connect(volume)
    handle.pwrite(b"well", 0)
    assert handle.pread(4, 0) == b"well"
    handle.shutdown()


def test_a_thousand_connections_opened_and_closed_leave_nothing_behind(shared_pair):
    controller = shared_pair.a
    still_well(controller)
    time.sleep(0.1)
    before = descriptors(controller)
    for number in range(1000):
        connection = dial(controller)
        if number % 3 == 0:
            take(connection, 18)
            connection.sendall(CLIENT_FLAGS + go("alpha"))
        elif number % 3 == 1:
            connection.sendall(CLIENT_FLAGS[:number % 4])
        connection.close()
    wait_for("descriptors are back to what they were", lambda: descriptors(controller) <= before, 10)
    status = controller.status()
    assert status["nbd"]["connections_total"] >= 1000
    wait_for("no connection is counted", lambda: controller.status()["nbd"]["connections"] == 0, 5)
    still_well(controller)


def test_connections_closed_with_requests_under_way_leave_nothing_behind(shared_pair):
    controller = shared_pair.a
    still_well(controller)
    before = descriptors(controller)
    for number in range(100):
        connection = into_transmission(controller, "alpha")
        connection.sendall(b"".join(request(0, n * 65536, 65536, n) for n in range(32)) +
                           request(1, 0, 65536) + bytes(random.Random(number).randrange(65536)))
        connection.close()
    wait_for("descriptors are back to what they were", lambda: descriptors(controller) <= before, 10)
    still_well(controller)


def test_many_connections_at_a_time_are_served(shared_pair):
    handles = [shared_pair.a.connect("alpha") for _ in range(60)]
    for number, handle in enumerate(handles):
        handle.pwrite(bytes([number]) * 512, number * 512)
    for number, handle in enumerate(handles):
        assert handle.pread(512, (59 - number) * 512) == bytes([59 - number]) * 512
    for handle in handles:
        handle.shutdown()


def test_every_prefix_of_a_good_conversation_does_no_harm(shared_pair):
    controller = shared_pair.a
    before = descriptors(controller)
    meta = struct.pack(">I5sII15s", 5, b"alpha", 1, 15, b"base:allocation")
    talk = (CLIENT_FLAGS + option(3) + option(8) + option(10, meta) + go("alpha", (3,)) +
            request(0, 0, 512) + request(1, 0, 512) + bytes(512) + request(3, 0, 0) + request(2, 0, 0))
    for length in range(len(talk) - 500):
        connection = dial(controller)
        connection.sendall(talk[:length])
        if length % 2:
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(2)
            try:
                while connection.recv(65536):
                    pass
            except (TimeoutError, ConnectionError):
                pass
        connection.close()
    wait_for("descriptors are back to what they were", lambda: descriptors(controller) <= before, 10)
    still_well(controller)


@pytest.mark.parametrize("seed", range(4))
def test_noise_does_no_harm(shared_pair, seed):
    controller, generator = shared_pair.a, random.Random(seed)
    for _ in range(60):
        connection = dial(controller)
        head = generator.choice([b"", CLIENT_FLAGS, CLIENT_FLAGS + OPTION, CLIENT_FLAGS + option(7)[:12],
                                 CLIENT_FLAGS + go("alpha")])
        try:
            connection.sendall(head + generator.randbytes(generator.choice([1, 4, 16, 28, 300, 40000])))
            connection.settimeout(0.02)
            while connection.recv(65536):
                pass
        except OSError:
            pass
        connection.close()
    still_well(controller)


@pytest.mark.parametrize("text", [
    pytest.param(struct.pack(">I", 0xFFFFFFFF), id="unknown client flags"),
    pytest.param(CLIENT_FLAGS + b"IHAVENOT" + bytes(8), id="a wrong option magic"),
    pytest.param(CLIENT_FLAGS + OPTION + struct.pack(">II", 7, 0xFFFFFFFF), id="an option of 4 GiB"),
])
def test_a_handshake_that_cannot_go_on_ends_the_connection(shared_pair, text):
    connection = dial(shared_pair.a)
    take(connection, 18)
    connection.sendall(text)
    connection.settimeout(5)
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    connection.close()
    still_well(shared_pair.a)


@pytest.mark.parametrize("number,data,reply", [
    pytest.param(99, b"", 0x80000001, id="an unknown option is unsupported"),
    pytest.param(5, b"", 0x80000001, id="STARTTLS is unsupported"),
    pytest.param(3, b"x", 0x80000003, id="LIST with data is invalid"),
    pytest.param(7, b"\0\0\0\5alp", 0x80000003, id="GO whose name is cut short is invalid"),
    pytest.param(7, b"\xff\xff\xff\xffalpha\0\0", 0x80000003, id="GO with a name of 4 GiB is invalid"),
    pytest.param(7, b"\0\0\0\6nobody\0\0", 0x80000006, id="GO for nobody is unknown"),
])
def test_an_option_that_is_wrong_gets_its_own_error_and_the_talk_goes_on(shared_pair, number, data, reply):
    connection = dial(shared_pair.a)
    take(connection, 18)
    connection.sendall(CLIENT_FLAGS + option(number, data))
    magic, about, kind, length = struct.unpack(">QIII", take(connection, 20))
    take(connection, length)
    assert (magic, about) == (0x3E889045565A9, number)
    assert kind in (reply, 0x80000002 if number == 5 else reply), hex(kind)  # STARTTLS may be "policy" too
    connection.sendall(option(3))
    listed = []
    while True:
        _, _, kind, length = struct.unpack(">QIII", take(connection, 20))
        listed.append(take(connection, length)[4:])
        if kind == 1:
            break
    assert any(name.startswith(b"alpha") for name in listed)
    connection.close()


@pytest.mark.parametrize("kind,offset,length,error", [
    pytest.param(0, 16 * MI, 1, 22, id="a read past the end"),
    pytest.param(0, 2**64 - 1, 512, 22, id="a read whose end does not fit 64 bits"),
    pytest.param(0, 0, 32 * MI + 1, 22, id="a read of more than 32 MiB"),
    pytest.param(0, 0, 2**32 - 1, 22, id="a read of 4 GiB"),
    pytest.param(4, 2**64 - 4096, 8192, 22, id="a trim whose end does not fit 64 bits"),
    pytest.param(77, 0, 512, 22, id="an unknown command"),
])
def test_a_request_that_is_wrong_gets_an_error_and_the_connection_stays(shared_pair, kind, offset, length, error):
    connection = into_transmission(shared_pair.a, "alpha")
    connection.sendall(request(kind, offset, length, cookie=5) + request(0, 0, 512, cookie=6))
    answers = {}
    for _ in range(2):
        magic, code, cookie = struct.unpack(">IIQ", take(connection, 16))
        assert magic == 0x67446698
        answers[cookie] = code
        if cookie == 6:
            take(connection, 512)
    assert answers[5] in (error, 28 if kind == 4 else error, 75 if kind == 0 else error, 95 if kind == 77 else error)
    assert answers[6] == 0
    connection.close()


def test_a_request_with_a_wrong_magic_ends_the_connection(shared_pair):
    connection = into_transmission(shared_pair.a, "alpha")
    connection.sendall(request(0, 0, 512, magic=0x12345678))
    connection.settimeout(5)
    try:
        assert connection.recv(1) == b""
    except ConnectionError:
        pass
    connection.close()
    assert re.search(r"(?i)nbd|magic", shared_pair.a.log())
    still_well(shared_pair.a)


def test_a_client_that_never_reads_does_not_hold_up_the_others(shared_pair):
    deaf = into_transmission(shared_pair.a, "image")
    deaf.setblocking(False)
    wanted = b"".join(request(0, 0, MI, cookie=n) for n in range(400))
    try:
        while wanted:
            wanted = wanted[deaf.send(wanted):]
    except BlockingIOError:
        pass
    started = time.monotonic()
    load = Load(shared_pair.targets(), "alpha", 16 * MI, span=MI, zeroes=0, writes=100, flushes=0).start()
    load.wait_acknowledged(300, timeout=10).stop()
    assert time.monotonic() - started < 10 * PATIENCE
    deaf.close()
    still_well(shared_pair.a)


def test_a_client_that_sends_a_write_byte_by_byte_is_served_in_the_end(shared_pair):
    slow = into_transmission(shared_pair.a, "alpha")
    slow.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in request(1, 8 * MI, 600, cookie=9) + bytes(range(200)) * 3:
        slow.sendall(bytes([byte]))
    assert struct.unpack(">IIQ", take(slow, 16)) == (0x67446698, 0, 9)
    slow.sendall(request(0, 8 * MI, 600, cookie=10))
    take(slow, 16)
    assert take(slow, 600) == bytes(range(200)) * 3
    slow.close()
