# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors
"""What the other tests stand on: ports that no two runs share, a wire that is as long and as narrow as it was asked to
be, judges of a copy that see what is wrong with one, and a runner that tests the program it was given."""

import importlib.machinery
import importlib.util
import socket
import subprocess
import sys
import threading
import time

import pytest

import holdfast
import postgres
import transactions
from proxy import WAITING_S, Proxy, Wire

NARROW = 40

TAKE = """
import sys
sys.path.insert(0, sys.argv[1])
import holdfast
holdfast.PORT_FIRST, holdfast.PORT_LAST = int(sys.argv[2]), int(sys.argv[3])
taken = []
try:
    while True:
        taken.append(holdfast.free_port())
except RuntimeError:
    print(*taken, flush=True)
sys.stdin.read()
"""


def test_two_runs_never_get_the_same_port():
    """Two processes that take all they can get of one narrow range, at the same time."""
    first = str(holdfast.PORT_FIRST + 100)
    last = str(holdfast.PORT_FIRST + 100 + NARROW - 1)
    runs = [subprocess.Popen([sys.executable, "-B", "-c", TAKE, str(holdfast.ROOT / "tests" / "e2e"), first, last],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    taken = [[int(word) for word in run.stdout.readline().split()] for run in runs]
    for run in runs:
        run.communicate(timeout=10)
    both = taken[0] + taken[1]
    assert len(both) == len(set(both)), "a port was given out twice"
    assert len(both) > NARROW // 2


class Sink:
    """A server that notes when what came in whole had come, and answers with one byte."""

    def __init__(self, count):
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port, self.count, self.ended = self.server.getsockname()[1], count, None
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        connection, _ = self.server.accept()
        with connection:
            left = self.count
            while left > 0:
                left -= len(connection.recv(65536))
            self.ended = time.monotonic()
            connection.sendall(b"x")


def test_two_ways_over_one_wire_share_its_bandwidth_and_hold_little():
    count, delay, bandwidth = 500_000, 0.05, 2_000_000
    wire = Wire(delay, bandwidth)
    sinks = [Sink(count), Sink(count)]
    ways = [Proxy(holdfast.free_port(), sink.port, wire=wire) for sink in sinks]
    try:
        ends = [socket.create_connection(("127.0.0.1", way.port)) for way in ways]
        began = time.monotonic()
        senders = [threading.Thread(target=end.sendall, args=(bytes(count),)) for end in ends]
        for sender in senders:
            sender.start()
        most = 0
        while any(sink.ended is None for sink in sinks) and time.monotonic() < began + 30:
            most = max(most, sum(flow.size for way in ways for flow in list(way.flows)))
            time.sleep(0.005)
        for sender in senders:
            sender.join(5)
        for end in ends:
            assert end.recv(1) == b"x"
        took, answered = max(sink.ended for sink in sinks) - began, time.monotonic() - began
        assert took >= 2 * count / bandwidth + delay
        assert answered >= took + 0.9 * delay
        assert took < 20 * (2 * count / bandwidth + delay)
        assert most <= bandwidth * (delay + WAITING_S) + 4 * 65536
    finally:
        for way in ways:
            way.end()


def volumes_with(numbers, count=3, size=65536):
    volumes = [bytearray(size) for _ in range(count)]
    for number in numbers:
        which, place = transactions.place_of(number, count)
        volumes[which][place:place + transactions.SECTOR] = transactions.record(number, 1000 * number)
    return volumes


def judge(volumes, **more):
    preads = [lambda offset, length, data=data: data[offset:offset + length] for data in volumes]
    return transactions.check_no_hole(transactions.find(preads, len(volumes[0])), **more)


def test_a_copy_of_transactions_is_good_only_without_a_hole():
    assert judge(volumes_with(())) == 0
    assert judge(volumes_with(range(1, 200))) == 199
    for missing in (1, 7, 198):
        with pytest.raises(transactions.Wrong, match=f"the first: {missing}$"):
            judge(volumes_with(set(range(1, 200)) - {missing}))
    torn = volumes_with(range(1, 200))
    torn[0][300] ^= 1
    with pytest.raises(transactions.Wrong, match="this is no transaction"):
        judge(torn)
    moved = volumes_with(range(1, 200))
    moved[0][1024:1536] = moved[1][1024:1536]
    with pytest.raises(transactions.Wrong, match="this is no transaction"):
        judge(moved)
    times = {number: 1000 * number for number in range(1, 300)}
    assert judge(volumes_with(range(1, 200)), times=times, cut_us=200_000) == 199
    with pytest.raises(transactions.Wrong, match="transaction 200 was acknowledged before the cut"):
        judge(volumes_with(range(1, 200)), times=times, cut_us=200_001)


def test_a_copy_of_a_database_is_good_only_if_it_is_what_had_been_committed_at_some_moment():
    # Two clients; each transaction takes 8 us, the second client's begin 5 us later than the first's.
    committed = {(client, n): (10 * n + 5 * client, 10 * n + 5 * client + 8) for client in (0, 1) for n in range(1, 50)}
    found = {key for key, (_, answered) in committed.items() if answered < 300}
    missing = len(committed) - len(found)
    assert postgres.check_prefix(committed, found) == missing
    assert postgres.check_prefix(committed, found, cut_us=300) == missing
    assert postgres.check_prefix(committed, found | {(0, 30)}) == missing - 1  # not answered, and there: that may be
    with pytest.raises(postgres.Wrong, match="before the cut"):
        postgres.check_prefix(committed, found, cut_us=330)
    with pytest.raises(postgres.Wrong, match="client 1: a hole"):
        postgres.check_prefix(committed, found - {(1, 7)})
    behind = {key for key in found if key[0] == 0 or key[1] < 20}  # without a hole, and no state that there was
    with pytest.raises(postgres.Wrong, match="after a missing one was answered"):
        postgres.check_prefix(committed, behind)
    with pytest.raises(postgres.Wrong, match="had begun only 50"):
        postgres.check_prefix(committed, found | {(0, n) for n in range(1, 53)})


def load_run_tests():
    loader = importlib.machinery.SourceFileLoader("run_tests", str(holdfast.ROOT / "tools" / "run-tests"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("run_tests", loader))
    loader.exec_module(module)
    return module


def test_the_runner_names_the_program_and_demands_it(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import os\n"
        f"def test_name(): assert os.environ['HOLDFAST'] == {str(tmp_path / 'build' / 'holdfast')!r}\n"
        "def test_required(): assert os.environ['HOLDFAST_REQUIRED'] == '1'\n"
        "def test_that_fails(): assert False\n")
    passed, failed, bad = load_run_tests().run_pytest(str(tmp_path), str(tmp_path / "build"))
    assert (passed, failed) == (2, 1) and len(bad) == 1 and bad[0].endswith("test_it::test_that_fails")


def test_a_program_that_was_not_built_is_a_failure(tmp_path):
    directory = str(holdfast.ROOT / "tests" / "e2e")
    passed, failed, bad = load_run_tests().run_pytest(directory, str(tmp_path))
    assert (passed, failed) == (0, 1), bad
