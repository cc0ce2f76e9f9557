# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors
"""Failover of a second array that holds 1 GiB that was never promoted: the first array's controllers die together when
all of a cycle has come but the last word of one half; then the time from the operator's command to the first write that
a host completes at the second array."""

import os
import signal
import subprocess
import time

import load
import pair
import processes
import remote

MIB = 1 << 20
SIZE = 528 * MIB  # of each of two volumes, one at each controller of the first array
HELD = 1 << 30
RATE = 250_000_000
CYCLE_S = 10.0    # all is written within one, which is sent when it is over
NEEDS = 14 << 30  # of memory that nobody uses; controllers leave a quarter of the machine alone

OTHER = """
[volume other]
store = main
offset = {size}
size = {size}
owner = {owner}
flush = mirror
"""


def free_memory():
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    return 0


def sites(bench, path):
    def other(owner):
        return OTHER.format(size=SIZE, owner=owner)
    return remote.Sites(bench, path, SIZE, delay_s=0.001, rate=RATE, cache="2300M", memory="560M", cycle_s=CYCLE_S,
                        dirty_high=50, second_cache="5800M", second_memory="1430M", volumes=f"{pair.VOLUME}, other",
                        first_more=other("b"), second_more=other("a"), store_bytes=2 * SIZE)


def wait_for_cut(two):
    cuts = two.leader()["cuts"]
    processes.wait_until("a cut", lambda: two.leader()["cuts"] > cuts, 2 * CYCLE_S, 0.01)


def run(bench, result, say):
    if free_memory() < NEEDS:
        raise processes.BenchError(f"less than {NEEDS >> 30} GiB of memory are free")
    say("remote copy: failover with 1 GiB held")
    with processes.directory() as path:
        two = sites(bench, path)
        try:
            two.start(fill=False, touched=False)
            two.wait_copying(CYCLE_S * 16, CYCLE_S * 2)
            wait_for_cut(two)
            fills = [subprocess.Popen([str(word) for word in processes.pinned(processes.CLIENT_CORE, load.fill_command(
                uri, SIZE, ["--refill_buffers=1"]))], stdout=subprocess.DEVNULL) for uri in
                (two.first.uri(0), two.first.uri(1).replace(pair.VOLUME, "other"))]
            start, before = two.passed(), two.incoming()
            if any(fill.wait(60) for fill in fills):
                raise processes.BenchError("fio did not write all")
            early = two.passed() - start
            processes.wait_until("the cycle to come over", lambda: two.passed() - start >= HELD * 1.015, 60, 0.001)
            for leader in two.first.servers.leaders:
                os.killpg(leader.pid, signal.SIGKILL)
            time.sleep(1.0)
            held = two.incoming() - before
            began = time.monotonic()
            answer = two.second.command("group", "failover", pair.VOLUME, "--force")
            answered = time.monotonic()
            handle = load.connect(two.second.uri(0))
            handle.pwrite(bytes(4096), 0)
            written = time.monotonic()
            handle.shutdown()
        finally:
            two.stop()
    result["copy_failover"] = {"held_mib": held / MIB, "early_mib": early / MIB, "answer": answer.strip(), "answer_ms": (answered - began) * 1e3,
                               "write_ms": (written - began) * 1e3}
