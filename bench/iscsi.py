# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors
"""iSCSI hosts: the same load, by the same program, on tgtd (which mirrors nothing), on the controller that owns the
volume, and on the other one, which ships each command to the owner. What libiscsi's and QEMU's own programs find stands
beside it. One side after the other, rounds interleaved, pinned as everything else is."""

import json
import os
import random
import re
import shutil

import pair
import processes
import tgt

MIB = 1 << 20
RAMP_S = 0.2

# name: (title, client, mode, bytes of one command, in flight)
SCENARIOS = {
    "iscsi-read-1": ("iSCSI, 4 KiB random reads, cached, 1 in flight", "load", "randread", 4096, 1),
    "iscsi-read-32": ("iSCSI, 4 KiB random reads, cached, 32 in flight", "load", "randread", 4096, 32),
    "iscsi-write-1": ("iSCSI, 4 KiB random writes, 1 in flight", "load", "randwrite", 4096, 1),
    "iscsi-write-32": ("iSCSI, 4 KiB random writes, 32 in flight", "load", "randwrite", 4096, 32),
    "iscsi-stream-read": ("iSCSI, 256 KiB sequential reads, 8 in flight", "load", "read", 262144, 8),
    "iscsi-stream-write": ("iSCSI, 256 KiB sequential writes, 8 in flight", "load", "write", 262144, 8),
    "iscsi-perf-32": ("iscsi-perf, 4 KiB random reads, 32 in flight", "iscsi-perf", "randread", 4096, 32),
    "iscsi-qemu-write-32": ("qemu-img bench, 4 KiB writes, 32 in flight", "qemu-img", "write", 4096, 32),
}

TITLES = {
    "direct": "holdfast, the owner, mirrored",
    "shipped": "holdfast, the other controller: shipped to the owner",
    "tgtd": "tgtd, no mirror",
}


def program(bench):
    return os.path.join(bench.build, "bench", "iscsi-load")


def missing(bench):
    """None, or a sentence saying why this part cannot run."""
    for name in ("iscsi-perf", "qemu-img", "qemu-io", "tgtd"):
        if not shutil.which(name):
            return f"{name} is not installed"
    return None if os.path.exists(program(bench)) else "iscsi-load is not built"


def load(bench, url, mode, size, depth, seconds, ramp=RAMP_S):
    return json.loads(processes.run([program(bench), url, mode, size, depth, seconds, ramp], seconds + 120,
                                    processes.CLIENT_CORE))


def once(bench, url, mode):
    """Each byte of the volume, however fast that goes."""
    load(bench, url, mode, 262144, 8, 60, ramp=0)


def perf_result(text):
    """iscsi-perf's last word; it gives no latencies."""
    return {"iops": float(re.findall(r"iops average (\d+)", text)[-1])}


def iscsi_perf(url, size, depth, seconds):
    text = processes.run(["iscsi-perf", "-m", depth, "-b", size // 512, "-r", "-t", max(1, round(seconds)), url],
                         seconds + 60, processes.CLIENT_CORE)
    return perf_result(text)


def qemu_img(url, size, depth, guess, seconds):
    """So many writes as `guess` IOPS make in the time; qemu-img counts commands, not seconds."""
    count = max(1000, int(guess * seconds))
    text = processes.run(["qemu-img", "bench", "-f", "raw", "-t", "none", "-n", "-w", "-c", count, "-d", depth, "-s",
                          size, url], 120, processes.CLIENT_CORE)
    return {"iops": count / float(re.search(r"Run completed in ([0-9.]+) seconds", text).group(1))}


def measure(bench, servers, url, name, before):
    """One scenario on one running side; `before` holds what this round has found on it so far."""
    _, client, mode, size, depth = SCENARIOS[name]
    spent = servers.cpu_seconds()
    if client == "load":
        result = load(bench, url, mode, size, depth, bench.seconds)
        done = result["done"] * (bench.seconds + RAMP_S) / bench.seconds
        result["server_cpu_us"] = (servers.cpu_seconds() - spent) / max(done, 1) * 1e6
    elif client == "iscsi-perf":
        result = iscsi_perf(url, size, depth, bench.seconds)
    else:
        guess = before.get("iscsi-write-32", {}).get("iops", 20000)
        result = qemu_img(url, size, depth, guess, bench.seconds)
    servers.check_alive()
    return result


def verify(url, image):
    """What is written is read back over another session, and stands in the store after a flush."""
    chosen = random.Random()
    pieces = {}
    for place, length in enumerate((512, 4096, 4608, 131072)):
        pieces[(place << 20) + chosen.randrange(512) * 512] = (length, chosen.randrange(1, 256))
    write = [word for at, (length, byte) in pieces.items() for word in ("-c", f"write -P {byte} {at} {length}")]
    read = [word for at, (length, byte) in pieces.items() for word in ("-c", f"read -P {byte} {at} {length}")]
    processes.run(["qemu-io", "-f", "raw", *write, "-c", "flush", url], 30)
    if "verification failed" in processes.run(["qemu-io", "-f", "raw", *read, url], 30):
        raise processes.BenchError(f"{url}: what was written reads back otherwise")
    if image:
        with open(image, "rb") as file:
            for at, (length, byte) in pieces.items():
                file.seek(at)
                if file.read(length) != bytes([byte]) * length:
                    raise processes.BenchError(f"{image} does not hold what was written")


def one_side(bench, servers, url, image, names, first):
    once(bench, url, "fill")
    if first:
        verify(url, image)
    once(bench, url, "warm")
    found = {}
    for name in names:
        found[name] = measure(bench, servers, url, name, found)
    return found


def round_of_tgtd(bench, names, first):
    with processes.directory() as path:
        image = os.path.join(path, "tgtd.img")
        processes.make_store(image, bench.volume_bytes)
        target = tgt.Tgtd(path, bench.port, image)
        try:
            return {"tgtd": one_side(bench, target.servers, target.url(), image, names, first)}
        finally:
            target.stop()


def round_of_ours(bench, names, first):
    with processes.directory() as path:
        own = pair.Pair(bench, path, bench.volume_bytes, cache=bench.cache, iscsi=True)
        try:
            own.start()
            return {side: one_side(bench, own.servers, own.iscsi_url(controller), None, names, first)
                    for side, controller in (("direct", 0), ("shipped", 1))}
        except processes.BenchError as error:
            raise processes.BenchError(f"{error}\n{own.servers.log_tail()}") from error
        finally:
            own.stop()


def run(bench, result, say):
    why = missing(bench)
    if why:
        result["skipped"]["iscsi"] = why
        say(f"iscsi: skipped, {why}")
        return
    steps = {"holdfast": round_of_ours, "tgtd": round_of_tgtd}
    if pair.missing(bench):
        result["skipped"]["iscsi, holdfast"] = pair.missing(bench)
        del steps["holdfast"]
    names = [name for name in SCENARIOS if bench.wants_scenario(name)]
    rows = result.setdefault("iscsi", {})
    for turn in range(bench.rounds):
        for side, step in steps.items():
            if not bench.wants_side(side):
                continue
            say(f"iscsi, round {turn + 1}/{bench.rounds}: {side}")
            for one, found in step(bench, names, turn == 0).items():
                for name, figures in found.items():
                    rows.setdefault(name, {}).setdefault(one, []).append(figures)


def score(bench, result, say):
    """libiscsi's conformance tests: tools/iscsi-score's rows."""
    why = None if shutil.which("iscsi-test-cu") else "iscsi-test-cu is not installed"
    if why:
        result["skipped"]["iscsi-score"] = why
        say(f"iscsi-score: skipped, {why}")
        return
    say("iscsi-score")
    with processes.directory() as path:
        out = os.path.join(path, "score.json")
        root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        try:
            processes.run([os.path.join(root, "tools", "iscsi-score"), "--build", bench.build, "--json", out], 600)
        except processes.BenchError:
            if not os.path.exists(out):
                raise  # else it has its rows, and only says that a test did not pass
        with open(out, encoding="utf-8") as file:
            result["iscsi_score"] = json.load(file)
