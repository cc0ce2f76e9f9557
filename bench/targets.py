# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors
"""What is to be reached, and whether a result reaches it. A ratio of two sides is the median of the rounds' ratios:
rounds are interleaved, so a slow spell of the machine falls on both halves of one ratio."""

import statistics


def median(rows, key):
    values = [row[key] for row in rows if row.get(key) is not None]
    return statistics.median(values) if values else None


def spread(rows, key):
    """Smallest and largest of the rounds."""
    values = [row[key] for row in rows if row.get(key) is not None]
    return (min(values), max(values)) if values else None


def ratio(result, scenario, ours, other, key="iops"):
    rows = result.get("throughput", {}).get(scenario, {})
    pairs = [(a[key], b[key]) for a, b in zip(rows.get(ours, []), rows.get(other, [])) if b.get(key)]
    return statistics.median(a / b for a, b in pairs) if pairs else None


def time_ratio(result, scenario, ours, other):
    """How many times as long as `other` takes for one I/O."""
    found = ratio(result, scenario, other, ours)
    return found


def iscsi_ratio(result, scenario, ours, other, key="iops"):
    rows = result.get("iscsi", {}).get(scenario, {})
    pairs = [(a[key], b[key]) for a, b in zip(rows.get(ours, []), rows.get(other, [])) if b.get(key)]
    return statistics.median(a / b for a, b in pairs) if pairs else None


def _batching(result):
    return median(result.get("throughput", {}).get("write-32", {}).get("holdfast", []), "writes_per_batch")


def _cache_size(result):
    rows = result.get("cache_size", {})
    pairs = list(zip(rows.get("256M", []), rows.get("8G", [])))
    return statistics.median(small["iops"] / large["iops"] for small, large in pairs) if pairs else None


def _takeover(result, how):
    rows = result.get("takeover", {}).get(how, [])
    return median(rows, "ms")


def _core_slots(result):
    rows = result.get("core_cost", {})
    if "32/65536" not in rows or "32/2097152" not in rows:
        return None
    return rows["32/2097152"]["instructions"] / rows["32/65536"]["instructions"]


# (what, how it is found, "at most" or "at least", wanted, unit)
TARGETS = [
    ("1 in flight, blocking client: time of the two-hop limit",
     lambda r: time_ratio(r, "raw-write-1", "holdfast", "chain"), "at most", 1.3, "x"),
    ("1 in flight, fio: time of the two-hop limit",
     lambda r: time_ratio(r, "write-1", "holdfast", "chain"), "at most", 1.3, "x"),
    ("1 in flight: IOPS of the quorum peer (UNIX)",
     lambda r: ratio(r, "write-1", "holdfast", "quorum-unix"), "at least", 1.25, "x"),
    ("32 in flight: IOPS of the quorum peer (UNIX)",
     lambda r: ratio(r, "write-32", "holdfast", "quorum-unix"), "at least", 3.0, "x"),
    ("32 in flight: IOPS of nbdkit memory, which mirrors nothing",
     lambda r: ratio(r, "write-32", "holdfast", "nbdkit"), "at least", 0.6, "x"),
    ("32 in flight: host writes for one link command", _batching, "at least", 4.0, ""),
    ("128 KiB sequential writes, 8 in flight: qemu-storage-daemon, which mirrors nothing",
     lambda r: ratio(r, "stream", "holdfast", "qemu"), "at least", 0.6, "x"),
    ("read hits, 1 in flight: IOPS of nbdkit memory",
     lambda r: ratio(r, "read-1", "holdfast", "nbdkit"), "at least", 1.0, "x"),
    ("read hits, 32 in flight: IOPS of nbdkit memory",
     lambda r: ratio(r, "read-32", "holdfast", "nbdkit"), "at least", 1.0, "x"),
    ("zipf 1.1 over 1 GiB, cache 256 MiB: host pages for one store page, the backlog counted as written",
     lambda r: median(r.get("overwrite", []), "host_pages_per_store_page"), "at least", 3.0, ""),
    ("zipf 1.1 over 1 GiB, cache 256 MiB: host writes for one store write",
     lambda r: median(r.get("overwrite", []), "host_writes_per_store_write"), "at least", 3.0, ""),
    ("cost of an I/O with 8 GiB of cache, to that with 256 MiB", _cache_size, "at most", 1.1, "x"),
    ("instructions of the core with 8 GiB of cache, to those with 256 MiB", _core_slots, "at most", 1.1, "x"),
    ("takeover after kill -9 with 1 GiB dirty: first completed write",
     lambda r: _takeover(r, "kill"), "at most", 200.0, "ms"),
    ("takeover after SIGSTOP with 1 GiB dirty: first completed write (lease + 500 ms)",
     lambda r: _takeover(r, "stop"), "at most", 1500.0, "ms"),
    ("iSCSI, read hits, 1 in flight: IOPS of tgtd",
     lambda r: iscsi_ratio(r, "iscsi-read-1", "direct", "tgtd"), "at least", 1.7, "x"),
    ("iSCSI, read hits, 32 in flight: IOPS of tgtd",
     lambda r: iscsi_ratio(r, "iscsi-read-32", "direct", "tgtd"), "at least", 1.7, "x"),
    ("iSCSI, writes, 1 in flight: IOPS of tgtd, which mirrors nothing",
     lambda r: iscsi_ratio(r, "iscsi-write-1", "direct", "tgtd"), "at least", 0.8, "x"),
    ("iSCSI, writes, 32 in flight: IOPS of tgtd, which mirrors nothing",
     lambda r: iscsi_ratio(r, "iscsi-write-32", "direct", "tgtd"), "at least", 1.2, "x"),
    ("iSCSI, 256 KiB sequential reads: tgtd",
     lambda r: iscsi_ratio(r, "iscsi-stream-read", "direct", "tgtd"), "at least", 1.0, "x"),
    ("iSCSI, 256 KiB sequential writes: tgtd, which mirrors nothing",
     lambda r: iscsi_ratio(r, "iscsi-stream-write", "direct", "tgtd"), "at least", 1.0, "x"),
    ("iSCSI, shipped reads, 1 in flight: time of direct ones",
     lambda r: iscsi_ratio(r, "iscsi-read-1", "shipped", "direct", "mean_us"), "at most", 2.0, "x"),
    ("iSCSI, shipped writes, 1 in flight: time of direct ones",
     lambda r: iscsi_ratio(r, "iscsi-write-1", "shipped", "direct", "mean_us"), "at most", 2.0, "x"),
]



def copy_cost(result, name, key):
    """With the remote copy on to without: the median of the rounds' ratios."""
    rows = result.get("copy_hosts", {}).get(name, {})
    pairs = zip(rows.get("on", []), rows.get("off", []))
    ratios = [on[key] / off[key] for on, off in pairs if on.get(key) and off.get(key)]
    return statistics.median(ratios) if ratios else None


def _worst(result, name, key, least=False):
    values = [row[key] for row in result.get(name, []) if row.get(key) is not None]
    return (min if least else max)(values) if values else None


COPY_TARGETS = [
    ("copy on, 1 in flight: p50 to that without", lambda r: copy_cost(r, "copy-write-1", "p50_us"), "at most", 1.05, "x"),
    ("copy on, 1 in flight: p99 to that without", lambda r: copy_cost(r, "copy-write-1", "p99_us"), "at most", 1.1, "x"),
    ("copy on, 20,000 a second offered: p50 to that without",
     lambda r: copy_cost(r, "copy-write-32", "p50_us"), "at most", 1.05, "x"),
    ("copy on, 20,000 a second offered: p99 to that without",
     lambda r: copy_cost(r, "copy-write-32", "p99_us"), "at most", 1.1, "x"),
    ("age of the copy, p99, to two cycles and two round trips, the worst case",
     lambda r: _worst(r, "copy_behind", "share"), "at most", 1.0, "x"),
    ("share of 1 Gbit/s that is used, the worst case", lambda r: _worst(r, "copy_link", "share", True), "at least", 0.9, ""),
    ("failover with 1 GiB held: a host's first write at the second array",
     lambda r: r.get("copy_failover", {}).get("write_ms"), "at most", 1000, "ms"),
]


def judge(result, targets=None):
    """Rows of {what, found, bound, wanted, unit, reached}; found and reached are None where nothing was measured."""
    rows = []
    for what, find, bound, wanted, unit in TARGETS if targets is None else targets:
        found = find(result)
        reached = None
        if found is not None:
            reached = found <= wanted if bound == "at most" else found >= wanted
        rows.append({"what": what, "found": found, "bound": bound, "wanted": wanted, "unit": unit, "reached": reached})
    return rows
