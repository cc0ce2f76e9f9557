# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors
"""What is measured. Each function fills one part of the result and knows nothing of the others; the result is plain
data, so that targets and report need no more than the file."""

import json
import os
import select
import signal
import subprocess
import sys
import time

import load
import pair
import processes
import sides

MIB = 1 << 20

# name: (title, client, fio's --rw, block size, depth, sides that take part or None for all)
READERS = {"holdfast", "nbdkit", "nbd-server", "qemu"}
RAW = {"chain", "chain-single", "holdfast", "nbdkit"}
STREAMS = {"holdfast", "nbdkit", "qemu", "quorum-unix"}
THROUGHPUT = {
    "read-1": ("4 KiB random reads, cached, 1 in flight", "fio", "randread", "4k", 1, READERS),
    "read-32": ("4 KiB random reads, cached, 32 in flight", "fio", "randread", "4k", 32, READERS),
    "write-1": ("4 KiB random writes, 1 in flight", "fio", "randwrite", "4k", 1, None),
    "write-32": ("4 KiB random writes, 32 in flight", "fio", "randwrite", "4k", 32, None),
    "raw-write-1": ("4 KiB random writes, 1 in flight, blocking client", "raw", None, None, 1, RAW),
    "raw-write-32": ("4 KiB random writes, 32 in flight, blocking client", "raw", None, None, 32, RAW),
    "stream": ("128 KiB sequential writes, 8 in flight", "fio", "write", "128k", 8, STREAMS),
}


def say(text):
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def measure(bench, side, name, size_bytes):
    """One scenario on one running side: the client's figures, and what the servers' processors spent."""
    _, client, rw, bs, depth, _ = THROUGHPUT[name]
    before, spent = side.status(), side.servers.cpu_seconds()
    start = time.monotonic()
    if client == "raw":
        result = load.echo_client(bench, side.port, side.export, depth, bench.seconds)
        done = result["done"]
    else:
        result = load.fio(side.uri(), rw, bs, depth, size_bytes, bench.seconds)
        # The ramp is not in fio's count; the processors' time is for all of it.
        done = result["done"] * (bench.seconds + 0.2) / bench.seconds
    elapsed = time.monotonic() - start
    result["server_cpu_us"] = (side.servers.cpu_seconds() - spent) / max(done, 1) * 1e6
    result["elapsed_s"] = elapsed
    side.servers.check_alive()
    add_batching(result, before, side.status())
    return result


def add_batching(result, before, after):
    """Host writes for one link command, from the owner's counters, where the side has any."""
    if before is None or after is None:
        return
    deltas = {}
    for key, names in (("host_writes", ("volumes", "writes")), ("batches", ("sent", "batches"))):
        old, new = pair.find(before, *names), pair.find(after, *names)
        if old is None or new is None:
            return
        deltas[key] = new - old
    if deltas["batches"] > 0 and deltas["host_writes"] > 0:
        result["writes_per_batch"] = deltas["host_writes"] / deltas["batches"]


def one_round(bench, side_class, names, first):
    """Start a side, fill it, measure its scenarios, stop it."""
    side = side_class(bench)
    results = {}
    with processes.directory() as path:
        try:
            side.start(path, bench.volume_bytes)
            if side.stores_data:
                load.fill(side.uri(), bench.volume_bytes)
                if first:
                    say(f"{side.name}: {load.verify(side, bench.volume_bytes)} writes read back as written")
                load.read_all(side.uri(), bench.volume_bytes)
            for name in names:
                results[name] = measure(bench, side, name, bench.volume_bytes)
        except processes.BenchError as error:
            log = side.servers.log_tail() if side.servers else ""
            raise processes.BenchError(f"{side.name}: {error}\n{log}") from error
        finally:
            side.stop()
    return results


def throughput(bench, result):
    """Every side, every scenario, rounds interleaved: a slow minute of the machine hits all sides alike."""
    chosen = [one for one in sides.ALL if bench.wants_side(one.name)]
    rows = result.setdefault("throughput", {})
    for one in list(chosen):
        why = one(bench).missing()
        if why:
            result["skipped"][one.name] = why
            say(f"{one.name}: skipped, {why}")
            chosen.remove(one)
    for turn in range(bench.rounds):
        for one in chosen:
            names = [name for name, row in THROUGHPUT.items()
                     if bench.wants_scenario(name) and (row[5] is None or one.name in row[5])
                     and (one.stores_data or "write-" in name)]
            if one.name in result["failed"] or not names:
                continue
            say(f"round {turn + 1}/{bench.rounds}: {one.name}")
            try:
                measured = one_round(bench, one, names, turn == 0)
            except processes.BenchError as error:
                result["failed"][one.name] = str(error)
                say(f"failed: {error}")
                continue
            for name, figures in measured.items():
                rows.setdefault(name, {}).setdefault(one.name, []).append(figures)


def overwrite(bench, result):
    """Zipf 1.1 over 1 GiB with a cache of 256 MiB: how many host pages become one page written to the store."""
    size = 1024 * MIB
    rows = result.setdefault("overwrite", [])
    for turn in range(1 if bench.quick else min(bench.rounds, 3)):
        say(f"overwrite: zipf 1.1, {bench.zipf_seconds:g} s")
        with processes.directory() as path:
            own = pair.Pair(bench, path, size, cache="256M")
            try:
                own.start()
                before = own.counters()
                fio = load.fio(own.uri(0), "randwrite", "4k", 32, size, bench.zipf_seconds,
                               ["--random_distribution=zipf:1.1"])
                after = own.counters()
            finally:
                own.stop()
        change = {key: after[key] - before[key] for key in after}
        row = {"iops": fio["iops"], **change}
        # Pages that are still dirty will be written some day: counted as if each already had been.
        owed = change["pages_written"] + max(0, change["backlog_pages"])
        row["host_pages_per_store_page"] = change["host_pages"] / max(1, owed)
        row["host_writes_per_store_write"] = change["host_writes"] / max(1, change["store_writes"])
        rows.append(row)


def cache_size(bench, result):
    """The same load on a cache of 256 MiB and on one of 8 GiB, rounds interleaved."""
    size = 64 * MIB
    rows = result.setdefault("cache_size", {})
    for turn in range(bench.rounds):
        for cache in ("256M", "8G"):
            say(f"cache size, round {turn + 1}/{bench.rounds}: {cache}")
            with processes.directory() as path:
                own = pair.Pair(bench, path, size, cache=cache)
                try:
                    own.start(60)
                    load.fill(own.uri(0), size)
                    spent = own.servers.cpu_seconds()
                    fio = load.fio(own.uri(0), "randwrite", "4k", 32, size, bench.seconds)
                    spent = own.servers.cpu_seconds() - spent
                    done = fio["done"] * (bench.seconds + 0.2) / bench.seconds
                    fio["server_cpu_us"] = spent / max(done, 1) * 1e6
                finally:
                    own.stop()
            rows.setdefault(cache, []).append(fio)


# ---- takeover ----

def start_probe(own):
    command = processes.pinned(processes.CLIENT_CORE, [
        sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "probe.py"), own.uri(1)])
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def read_line(process, timeout_s):
    ready, _, _ = select.select([process.stdout], [], [], timeout_s)
    if not ready:
        raise processes.BenchError(f"the takeover probe said nothing within {timeout_s:g} s")
    return process.stdout.readline()


def one_takeover(bench, how, dirty_bytes):
    """Fill, load, end the owner's process with signal `how`; milliseconds until a write completes on the other."""
    size = 2 * dirty_bytes
    with processes.directory() as path:
        own = pair.Pair(bench, path, size, cache=str(int(dirty_bytes * 2.5) // MIB) + "M", dirty_low=80,
                        dirty_high=90, destage_after="3600s")
        probe = busy = None
        try:
            own.start(60)
            load.fill(own.uri(0), dirty_bytes)
            dirty = own.counters()["backlog_pages"] * 4096
            if dirty < dirty_bytes:
                raise processes.BenchError(f"takeover: only {dirty >> 20} MiB dirty after the fill")
            victim = own.controller_pid(0)
            probe = start_probe(own)
            read_line(probe, 10)
            busy = load.BackgroundLoad(
                load.fio_command(own.uri(0), "randwrite", "4k", 32, dirty_bytes, 60), os.path.join(path, "fio.log"))
            time.sleep(1.0)
            if not busy.running():
                raise processes.BenchError(f"takeover: the load ended too early: {busy.servers.log_tail()}")
            ended_at = time.monotonic()
            os.kill(victim, how)
            probe.stdin.write("go\n")
            probe.stdin.flush()
            seen = json.loads(read_line(probe, 30))
            if seen["done_at"] is None:
                raise processes.BenchError(f"takeover: no write completed: {seen['first_error']}; "
                                           f"{own.servers.log_tail()}")
            if not seen["reads_back"]:
                raise processes.BenchError("takeover: the write does not read back")
            status = own.status(1) or {}
            return {"ms": (seen["done_at"] - ended_at) * 1e3, "dirty_mib": dirty >> 20,
                    "attempts": seen["attempts"], "first_error": seen["first_error"],
                    "own_us": pair.find(status, "takeover_last_us")}
        finally:
            if busy:
                busy.stop()
            if probe:
                probe.kill()
                probe.wait(5)
            own.servers.stop(grace_s=0.5)  # 1 GiB need not be destaged into a file that goes away


def takeover(bench, result):
    rows = result.setdefault("takeover", {})
    for turn in range(1 if bench.quick else bench.rounds):
        for name, how in (("kill", signal.SIGKILL), ("stop", signal.SIGSTOP)):
            say(f"takeover by SIG{name.upper()}, round {turn + 1}")
            rows.setdefault(name, []).append(one_takeover(bench, how, bench.takeover_mib * MIB))


# ---- the core alone ----

def core_cost(bench, result):
    """Instructions and nanoseconds of the two cores for one mirrored write, without sockets and disks."""
    program = os.path.join(bench.build, "bench", "core-cost")
    if not os.path.exists(program):
        result["skipped"]["core-cost"] = "core-cost is not built"
        say(f"core-cost: skipped, {program} is not built")
        return
    rows = result.setdefault("core_cost", {})
    for depth in (32,) if bench.quick else (1, 32):
        for slots in (65536,) if bench.quick else (65536, 2097152):
            say(f"core alone: {depth} in flight, {slots} slots")
            key = f"{depth}/{slots}"
            rows[key] = json.loads(processes.run([program, "--depth", depth, "--slots", slots, "--writes", 300000],
                                                 120, processes.CLIENT_CORE))
            rows[key].update(instructions(bench, program, depth, slots))


def instructions(bench, program, depth, slots):
    """Instructions per write of each controller: callgrind collects only inside the step function of one of them."""
    counted = {}
    writes = 4000 if bench.quick else 20000
    for controller in "ab":
        with processes.directory() as path:
            out = os.path.join(path, "callgrind.out")
            processes.run(["valgrind", "--tool=callgrind", f"--toggle-collect=core_cost_step_{controller}",
                           "--collect-atstart=no", f"--callgrind-out-file={out}", program, "--depth", depth,
                           "--slots", slots, "--writes", writes], 300)
            with open(out, encoding="utf-8") as file:
                total = next(int(line.split()[1]) for line in file if line.startswith(("summary:", "totals:")))
        counted[f"instructions_{controller}"] = total / writes
    counted["instructions"] = counted["instructions_a"] + counted["instructions_b"]
    return counted
