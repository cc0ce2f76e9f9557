# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors
"""The clients: fio with its NBD engine, our own blocking client, and a check with libnbd that a side really keeps what
it is given. All of them run on the client's core."""

import json
import os
import random

import nbd

import processes

KIB = 1 << 10


def fio_command(uri, rw, bs, depth, size_bytes, seconds, extra=()):
    return ["fio", "--name=bench", "--ioengine=nbd", f"--uri={uri}", f"--rw={rw}", f"--bs={bs}",
            f"--iodepth={depth}", f"--size={size_bytes}", f"--runtime={int(seconds * 1000)}ms", "--time_based",
            "--norandommap", "--randrepeat=0", "--lat_percentiles=1", "--clat_percentiles=0",
            "--percentile_list=50:90:99:99.9", "--output-format=json", *extra]


def fio_result(text):
    """IOPS, MB/s and latency percentiles of one job's busier direction."""
    job = json.loads(text[text.index("{"):])["jobs"][0]
    if job["error"] != 0:
        raise processes.BenchError(f"fio: error {job['error']}")
    side = max(job["read"], job["write"], key=lambda one: one["total_ios"])
    percentiles = side["lat_ns"].get("percentile", {})
    result = {"iops": side["iops"], "mb_per_s": side["bw_bytes"] / 1e6, "done": side["total_ios"],
              "mean_us": side["lat_ns"]["mean"] / 1e3}
    for key, name in (("50.000000", "p50_us"), ("99.000000", "p99_us"), ("99.900000", "p999_us")):
        if key in percentiles:
            result[name] = percentiles[key] / 1e3
    return result


def fio(uri, rw, bs, depth, size_bytes, seconds, extra=()):
    command = fio_command(uri, rw, bs, depth, size_bytes, seconds, ["--ramp_time=200ms", *extra])
    return fio_result(processes.run(command, seconds + 60, processes.CLIENT_CORE))


def fill_command(uri, size_bytes, extra=()):
    return ["fio", "--name=fill", "--ioengine=nbd", f"--uri={uri}", "--rw=write", "--bs=128k", "--iodepth=8",
            f"--size={size_bytes}", "--output-format=json", *extra]


def fill(uri, size_bytes, extra=()):
    """Write the whole range once, in large pieces."""
    return fio_result(processes.run(fill_command(uri, size_bytes, extra), 180, processes.CLIENT_CORE))


def read_all(uri, size_bytes):
    """Read the whole range once, so that a cache that can hold it does."""
    command = ["fio", "--name=warm", "--ioengine=nbd", f"--uri={uri}", "--rw=read", "--bs=128k", "--iodepth=8",
               f"--size={size_bytes}", "--output-format=json"]
    return fio_result(processes.run(command, 180, processes.CLIENT_CORE))


def echo_client(bench, port, export, depth, seconds):
    text = processes.run([os.path.join(bench.build, "bench", "echo-client"), "127.0.0.1", port, export, depth,
                          seconds], seconds + 60, processes.CLIENT_CORE)
    return json.loads(text)


def connect(uri):
    handle = nbd.NBD()
    handle.connect_uri(uri)
    return handle


def verify(side, size_bytes):
    """Write random bytes at odd and even places, flush, read them back over another connection, and look at the
    store files where there are any."""
    chosen = random.Random()
    written = {}
    handle = connect(side.uri())
    if handle.get_size() < size_bytes:
        raise processes.BenchError(f"{side.name}: the export has {handle.get_size()} bytes, not {size_bytes}")
    for length in (512, 4 * KIB, 4 * KIB + 512, 128 * KIB):
        for _ in range(4):
            # Each in its own MiB, so that no two overlap.
            place = chosen.randrange(size_bytes >> 20)
            offset = (place << 20) + chosen.randrange(512) * 512
            written.pop(next((at for at in written if at >> 20 == place), None), None)
            written[offset] = chosen.randbytes(length)
            handle.pwrite(written[offset], offset)
    handle.flush()
    handle.shutdown()
    handle = connect(side.uri())
    for offset, data in written.items():
        if bytes(handle.pread(len(data), offset)) != data:
            raise processes.BenchError(f"{side.name}: {len(data)} bytes at {offset} read back otherwise")
        side.check_copies(offset, data)
    handle.shutdown()
    return len(written)


class BackgroundLoad:
    """fio that goes on until its server dies; its end, however it comes, is not an error."""

    def __init__(self, command, log_path):
        self.servers = processes.Processes(log_path)
        self.servers.start(command, processes.CLIENT_CORE)

    def running(self):
        return self.servers.leaders[0].poll() is None

    def stop(self):
        self.servers.stop(grace_s=1.0)
