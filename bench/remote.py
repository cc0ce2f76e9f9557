# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors
"""The remote copy: two arrays of two controllers and the long way between them (way.c). The first array runs where every
server of the bench does; the second one and the way share the client's core and make way for the client, as they would
be on machines of their own. What it costs hosts is measured against the same array without a group, rounds interleaved."""

import json
import os
import socket
import subprocess
import threading
import time

import load
import pair
import processes

MIB = 1 << 20
GBIT = 125_000_000
SIZE = 128 * MIB
CYCLE_S = 0.1
CACHE = "1G"

# name: (title, fio's depth, offered writes a second; 0: as many as it can)
HOSTS = {
    "copy-write-1": ("4 KiB random writes, 1 in flight", 1, 0),
    "copy-write-32": ("4 KiB random writes, 32 in flight, 20,000 a second offered", 32, 20000),
    "copy-full-32": ("4 KiB random writes, 32 in flight, as many as it can: more than the link takes", 32, 0),
}

GROUP = """
[group bench]
role = {role}
array = {array}
address = {addresses}
secret = twelve letters of the bench
volumes = {volume}
cycle = {cycle_ms}ms
memory = {memory}
compression = {compression}
"""


class Sites:
    """Two arrays. What is asked of the first one's status is asked over its control socket, which costs little."""

    def __init__(self, bench, path, size_bytes=SIZE, delay_s=0.01, rate=GBIT, cache=CACHE, memory="120M",
                 compression="none", cycle_s=CYCLE_S, dirty_high=75, volumes=pair.VOLUME, first_more="", second_more="",
                 second_cache=None, second_memory=None, store_bytes=None):
        self.bench, self.path, self.delay_s = bench, path, delay_s
        self.way, self.log = None, processes.Processes(os.path.join(path, "way.log"))
        up = [bench.port + 36 + i for i in (0, 1)]

        def group(role, array, ports, room):
            return GROUP.format(role=role, array=array, volume=volumes, cycle_ms=int(cycle_s * 1000), memory=room,
                                compression=compression, addresses=", ".join(f"127.0.0.1:{port}" for port in ports))
        for name in ("first", "second"):
            os.makedirs(os.path.join(path, name))
        self.second = pair.Pair(bench, os.path.join(path, "second"), size_bytes, second_cache or cache, name="second",
                                more=second_more + group("receive", "first", [bench.port + 18, bench.port + 19],
                                                         second_memory or memory), offset=24, copy=True,
                                core=processes.CLIENT_CORE, behind=True, dirty_high=dirty_high, destage_after="500ms",
                                store_bytes=store_bytes)
        self.first = pair.Pair(bench, os.path.join(path, "first"), size_bytes, cache, name="first", copy=True,
                               more=first_more + group("send", "second", up, memory), dirty_high=dirty_high,
                               store_bytes=store_bytes)
        self.command = [os.path.join(bench.build, "bench", "way"), int(delay_s * 1e6), int(rate)]
        for controller in (0, 1):
            self.command += [up[controller], self.second.copy_port(controller)]

    def start(self, fill=True, touched=True):
        self.way = self.log.start(self.command, processes.CLIENT_CORE, True, stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)
        self.second.start()
        self.first.start()
        if touched:
            self.second.wait_touched()
            self.first.wait_touched()
            self.wait_copying()
        if fill:
            load.fill(self.first.uri(0), self.first.size_bytes)
            self.wait_copying()

    def stop(self):
        for one in (self.first, self.second, self.log):
            one.stop() if isinstance(one, pair.Pair) else one.stop(1.0)

    def passed(self):
        """Bytes that have gone to the second site so far."""
        self.way.stdin.write("?\n")
        self.way.stdin.flush()
        return int(self.way.stdout.readline().split()[0])

    def incoming(self):
        """Bytes of batches that the second array has been given."""
        return sum((self.group(controller, self.second)["incoming"] or {}).get("bytes", 0) for controller in (0, 1))

    def group(self, controller=0, site=None):
        """What a controller of the first array, or of another, says of the group."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(5)
            asking.connect(os.path.join((site or self.first).path, pair.NAMES[controller], "control"))
            asking.sendall(b'{"command":"status"}\n')
            text = b""
            while not text.endswith(b"\n"):
                text += asking.recv(1 << 16)
        return json.loads(text)["status"]["groups"][0]

    def leader(self):
        return next((group for group in map(self.group, (0, 1)) if group["leader"]), None)

    def wait_copying(self, timeout_s=60.0, age_s=1.0):
        """Until the copy is a state of the first array, and not an old one."""
        def there():
            self.first.servers.check_alive()
            self.second.servers.check_alive()
            group = self.leader()
            return group and group["state"] == "copying" and time.time() - group["confirmed_wall_us"] / 1e6 < age_s
        try:
            processes.wait_until("the copy to be there", there, timeout_s, 0.05)
        except processes.BenchError as error:
            raise processes.BenchError(f"{error}: {self.group(0)['state']}: {self.group(0)['reason']}\n"
                                       f"{self.first.servers.log_tail()}\n{self.second.servers.log_tail()}") from error


def fio(one, depth, offered, seconds, extra=()):
    rate = [f"--rate_iops={offered}"] if offered else []
    return load.fio(one.uri(0), "randwrite", "4k", depth, one.size_bytes, seconds, [*rate, *extra])


# ---- what it costs hosts ----

def hosts(bench, result, say):
    rows = result.setdefault("copy_hosts", {})
    for turn in range(bench.rounds):
        for way in ("off", "on"):
            say(f"remote copy {way}, round {turn + 1}/{bench.rounds}")
            with processes.directory() as path:
                sites = None
                if way == "on":
                    sites = Sites(bench, path)
                    one = sites.first
                else:
                    one = pair.Pair(bench, path, SIZE, CACHE)
                try:
                    if sites:
                        sites.start()
                    else:
                        one.start()
                        one.wait_touched()
                        load.fill(one.uri(0), SIZE)
                        time.sleep(0.5)
                    for name, (_, depth, offered) in HOSTS.items():
                        if sites:
                            sites.wait_copying()
                        falls = sites.group()["falls"] if sites else 0
                        spent = one.servers.cpu_seconds()
                        row = fio(one, depth, offered, bench.seconds)
                        done = row["done"] * (bench.seconds + 0.2) / bench.seconds
                        row["server_cpu_us"] = (one.servers.cpu_seconds() - spent) / max(done, 1) * 1e6
                        row["falls"] = sites.group()["falls"] - falls if sites else 0
                        rows.setdefault(name, {}).setdefault(way, []).append(row)
                finally:
                    (sites or one).stop()


# ---- how far behind, how much passes, how much is saved ----

def ages(sites, seconds):
    """How old the copy is, looked at again and again."""
    seen, before, began = [], sites.leader(), time.monotonic()
    while time.monotonic() < began + seconds:
        group = sites.leader()
        seen.append(time.time() - group["confirmed_wall_us"] / 1e6)
        time.sleep(0.01)
    cuts = sites.leader()["cuts"] - before["cuts"]
    seen.sort()
    return {"cycle_s": (time.monotonic() - began) / max(1, cuts), "age_median_s": seen[len(seen) // 2],
            "age_most_s": seen[-1], "age_p99_s": seen[int(len(seen) * 0.99)], "samples": len(seen)}


def behind(bench, result, say):
    rows = result.setdefault("copy_behind", [])
    for delay_s in (0.01, 0.05):
        for offered in (1000, 15000):
            say(f"remote copy: how old, {offered} writes a second, round trip {2000 * delay_s:.0f} ms")
            with processes.directory() as path:
                sites = Sites(bench, path, delay_s=delay_s)
                try:
                    sites.start()
                    falls = sites.group()["falls"]
                    seconds = max(2.0, bench.seconds)
                    busy = threading.Thread(target=fio, args=(sites.first, 8, offered, seconds + 2), daemon=True)
                    busy.start()
                    time.sleep(1.0)
                    row = ages(sites, seconds)
                    busy.join(30)
                    row["falls"] = sites.group()["falls"] - falls
                finally:
                    sites.stop()
            bound_s = 2 * max(CYCLE_S, row["cycle_s"]) + 4 * delay_s
            rows.append({"offered": offered, "round_trip_ms": 2000 * delay_s, "bound_s": bound_s, **row,
                         "share": row["age_p99_s"] / bound_s})


def link(bench, result, say):
    """Resynchronising after the whole volume was written anew with incompressible bytes: nothing but the link limits that."""
    rows = result.setdefault("copy_link", [])
    size = 384 * MIB  # twice that is less than the second array's dirty_high: its store is not what is measured
    for delay_s, compression in ((0.025, "none"), (0.05, "none"), (0.025, "zstd")):
        say(f"remote copy: 1 Gbit/s, round trip {2000 * delay_s:.0f} ms, compression {compression}")
        with processes.directory() as path:
            sites = Sites(bench, path, size, delay_s=delay_s, cache="2G", memory="510M", compression=compression,
                          dirty_high=50)
            try:
                sites.start(fill=False)
                sites.first.command("group", "suspend", "bench")
                load.fill(sites.first.uri(0), size, ["--refill_buffers=1"])
                sites.first.command("group", "resume", "bench")
                start = sites.passed()
                processes.wait_until("the link to be in use", lambda: sites.passed() > start + size // 8, 60, 0.002)
                start, began = sites.passed(), time.monotonic()
                processes.wait_until("the link's use", lambda: sites.passed() > start + size // 8 * 6, 120, 0.002)
                count, seconds = sites.passed() - start, time.monotonic() - began
                group = sites.group()
            finally:
                sites.stop()
        rows.append({"compression": compression, "round_trip_ms": 2000 * delay_s, "mib": size // MIB, "seconds": seconds, "mb_per_s": count / seconds / 1e6,
                     "share": count / seconds / GBIT, "batch_bytes": group["link"]["batch_bytes"],
                     "packed_bytes": group["link"]["packed_bytes"]})


def folding(bench, result, say):
    """Overwrites within a cycle travel once."""
    rows = result.setdefault("copy_folding", [])
    for cycle_s in (0.1, 1.0):
        say(f"remote copy: zipf 1.1, cycles of {cycle_s:g} s")
        with processes.directory() as path:
            sites = Sites(bench, path, 256 * MIB, cycle_s=cycle_s)
            try:
                sites.start(fill=False)
                before, falls = sites.passed(), sites.group()["falls"]
                row = fio(sites.first, 32, 10000, bench.zipf_seconds, ["--random_distribution=zipf:1.1"])
                time.sleep(1.0)
                sites.wait_copying()
                sent, written = sites.passed() - before, row["done"] * 4096 * (bench.zipf_seconds + 0.2) / bench.zipf_seconds
                rows.append({"cycle_s": cycle_s, "written": written, "sent": sent, "share": sent / written,
                             "falls": sites.group()["falls"] - falls})
            finally:
                sites.stop()
