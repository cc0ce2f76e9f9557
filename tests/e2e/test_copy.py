# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""A pair whose volumes are copied over a long way to a second array, which is the real receiving end of the session in a
program of its own (copy_second.c). The first site is then destroyed; what the second one was told to keep is read from
its files."""

import os
import signal
import struct
import subprocess
import threading
import time

import pytest

from holdfast import BINARY, LONG_LEASE, MI, PATIENCE, Volume, free_port, wait_for
from proxy import Proxy

SECOND = BINARY.parent / "tests" / "copy-second" if BINARY else None
SIZE = 8 * MI
CONFIG = """[array]
name = far
register = /none/register
[controller a]
link = 127.0.0.1:1
warden = 127.0.0.1:2
nbd = 127.0.0.1:3
copy = 127.0.0.1:{port}
run = /none/a
[controller b]
link = 127.0.0.1:11
warden = 127.0.0.1:12
nbd = 127.0.0.1:13
copy = 127.0.0.1:4
run = /none/b
[store disk]
path = /none/disk
[volume alpha2]
store = disk
size = {size}
[volume beta]
store = disk
offset = {size}
size = {size}
[group db]
role = receive
array = e2e
secret = letters of this test
volumes = alpha2:alpha, beta
{tls}
"""


class Second:
    def __init__(self, directory, port, tls):
        self.directory = directory / "second"
        self.directory.mkdir()
        (self.directory / "conf").write_text(CONFIG.format(port=port, size=SIZE, tls=tls))
        (self.directory / "conf").chmod(0o600)
        self.log = open(self.directory / "log", "wb")
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen([SECOND, self.directory / "conf", self.directory], stderr=self.log,
                                        stdin=subprocess.DEVNULL)

    def end(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(10 * PATIENCE)
            self.process = None

    def state(self):
        """The cycle that the images show, and whether that is a state of the first site."""
        cycle, word = (self.directory / "state").read_text().split(" ", 1)
        return int(cycle), word.strip() == "consistent"

    def read(self, place):
        return (self.directory / f"{place}.img").read_bytes()


@pytest.fixture(params=["plain", "tls"])
def copied(request, make_pair):
    """The pair, its second array, and the way between them: 20 ms each way."""
    if not os.path.exists(SECOND):
        pytest.skip("copy-second is not built")
    pair = make_pair(start=False, volumes=[Volume("alpha", size=SIZE, owner="a"), Volume("beta", size=SIZE, owner="b")],
                     cache="128M", secret="a secret of the link", lease=LONG_LEASE)
    tls = ""
    if request.param == "tls":
        psk = pair.directory / "psk"
        psk.touch(0o600)
        psk.write_text("00112233445566778899aabbccddeeff\n")
        tls = f"tls_psk = {psk}"
    port = free_port()
    second = Second(pair.directory, port, tls)
    way = Proxy(free_port(), port)
    way.delay = 0.02
    pair.more = ["[group db]", "role = send", "array = far", f"address = 127.0.0.1:{way.port}",
                 "secret = letters of this test", "volumes = alpha:alpha2, beta", "cycle = 50ms", "memory = 12M", tls]
    try:
        pair.start()
        yield pair, second, way
    finally:
        second.end()
        way.end()


def group_of(controller):
    return controller.wait_status()["groups"][0]


def wait_copying(pair, timeout=20):
    wait_for("the group to be copied", lambda: any(group_of(c)["state"] == "copying" and group_of(c)["leader"]
                                                   for c in (pair.a, pair.b) if c.running()), timeout)


class Transactions:
    """Number n is written to one volume only after n - 1 was acknowledged on the other."""

    def __init__(self, pair, pause=0.003):
        self.pause = pause  # so that the group's memory lasts for ten seconds in which a machine stands still
        self.handles = [pair.a.connect("alpha"), pair.b.connect("beta")]
        self.done, self.ending = 0, False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            while not self.ending:
                number = self.done + 1
                place = number // 2 % PAGES
                self.handles[number % 2].pwrite(struct.pack("<Q", number) * 512, place * 4096)
                self.done = number
                time.sleep(self.pause)
        except Exception:  # the site is gone
            pass

    def failed(self):
        return not self.thread.is_alive()

    def end(self):
        self.ending = True
        self.thread.join(5 * PATIENCE)


PAGES = SIZE // 4096


def newest(second):
    return max(struct.unpack_from("<Q", data, at)[0] for data in (second.read(0), second.read(1))
               for at in range(0, SIZE, 4096))


def check_no_hole(second):
    """Every page of both images holds the newest transaction up to n that belongs there, and nothing of a later one;
    so all of 1..n are there, or were written over by one that is. Returns n."""
    last = newest(second)
    expected = [{}, {}]
    for number in range(max(1, last - 2 * PAGES), last + 1):
        expected[number % 2][number // 2 % PAGES] = number
    for place in (0, 1):
        data = second.read(place)
        for page in range(PAGES):
            number = expected[place].get(page, 0)
            assert data[page * 4096:page * 4096 + 4096] == struct.pack("<Q", number) * 512, \
                f"page {page} of volume {place} of {last}: {struct.unpack_from('<Q', data, page * 4096)[0]}, not {number}"
    return last


def test_what_is_found_after_the_loss_of_the_site_has_no_hole(copied):
    pair, second, way = copied
    wait_copying(pair)
    falls = sum(group_of(c)["falls"] for c in (pair.a, pair.b))
    work = Transactions(pair)
    wait_for("some hundred at the second site", lambda: work.failed() or newest(second) > 300, 30)
    assert sum(group_of(c)["falls"] for c in (pair.a, pair.b)) == falls, "the link did not keep up"
    for controller in (pair.a, pair.b):
        controller.destroy()
    work.end()
    time.sleep(0.2)
    second.end()
    last = check_no_hole(second)
    assert 300 < last <= work.done + 1
    assert second.state()[1]


def test_a_link_that_does_not_keep_up_is_never_shown_as_a_state_that_was_not(copied):
    pair, second, way = copied
    wait_copying(pair)
    work = Transactions(pair, pause=0)
    time.sleep(4)
    for controller in (pair.a, pair.b):
        controller.destroy()
    work.end()
    time.sleep(0.2)
    second.end()
    if second.state()[1]:
        check_no_hole(second)


def test_a_broken_way_and_a_dead_controller_cost_no_consistency(copied):
    pair, second, way = copied
    wait_copying(pair)
    work = Transactions(pair)
    wait_for("some are there", lambda: work.done > 50)
    way.break_connections()
    before = work.done
    wait_for("it goes on", lambda: work.done > before + 50)
    pair.b.destroy()
    work.end()
    wait_copying(pair, 30)
    # All that was acknowledged arrives by itself.
    wait_for("the last number", lambda: newest(second) >= work.done, 20)
    pair.a.destroy()
    second.end()
    assert check_no_hole(second) >= work.done


def test_a_suspended_group_comes_back_when_it_is_resumed(copied):
    pair, second, way = copied
    wait_copying(pair)
    pair.a.cli("group", "suspend", "db")
    wait_for("both to be suspended", lambda: all(group_of(c)["state"] == "suspended" for c in (pair.a, pair.b)))
    handle = pair.a.connect("alpha")
    handle.pwrite(b"x" * 65536, MI)
    time.sleep(0.5)
    assert second.read(0)[MI:MI + 65536] == bytes(65536)
    text = pair.a.cli("status").stdout
    assert "group" in text and "suspended" in text
    pair.b.cli("group", "resume", "db")
    wait_for("what was written meanwhile", lambda: second.read(0)[MI:MI + 65536] == b"x" * 65536, 20)
    wait_copying(pair)
    refused = pair.a.cli("group", "resume", "nothing", check=False)
    assert refused.returncode != 0 and "there is no group nothing" in refused.stderr
