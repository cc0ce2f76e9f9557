# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors
"""A result as tables. The same rows are printed at the end of a run and filled into docs/performance.md, so no figure
is ever typed by hand."""

import iscsi
import remote
import scenarios
import sides
import targets


def number(value, digits=0):
    return "-" if value is None else f"{value:,.{digits}f}"


def titles():
    return {one.name: one.title for one in sides.ALL}


def machine(result):
    about = result["machine"]
    rows = [[key, str(value)] for key, value in about.items()]
    settings = result["settings"]
    rows.append(["rounds, seconds a measurement", f"{settings['rounds']}, {settings['seconds']:g}"])
    rows.append(["measured", result["when"]])
    rows.append(["command", f"`{result['command']}`"])
    return ["what", "value"], rows


def throughput(result, name):
    rows = []
    for side, title in titles().items():
        figures = result.get("throughput", {}).get(name, {}).get(side)
        if not figures:
            continue
        low, high = targets.spread(figures, "iops")
        row = [title, number(targets.median(figures, "iops")), f"{number(low)} to {number(high)}",
               number(targets.median(figures, "p50_us"), 1), number(targets.median(figures, "p99_us"), 1),
               number(targets.median(figures, "server_cpu_us"), 1)]
        if name == "stream":
            row.insert(1, number(targets.median(figures, "mb_per_s")))
        rows.append(row)
    head = ["side", "IOPS, median", "IOPS, rounds", "p50 us", "p99 us", "server CPU us/IO"]
    if name == "stream":
        head.insert(1, "MB/s, median")
    return head, rows


def hosts(result, name):
    """A scenario of the iSCSI part."""
    rows = []
    for side, title in iscsi.TITLES.items():
        figures = result.get("iscsi", {}).get(name, {}).get(side)
        if figures:
            low, high = targets.spread(figures, "iops")
            row = [title, number(targets.median(figures, "iops")), f"{number(low)} to {number(high)}"]
            if iscsi.SCENARIOS[name][1] == "load":
                row += [number(targets.median(figures, "mb_per_s")), number(targets.median(figures, "p50_us"), 1),
                        number(targets.median(figures, "p99_us"), 1),
                        number(targets.median(figures, "server_cpu_us"), 1)]
            rows.append(row)
    head = ["side", "IOPS, median", "IOPS, rounds"]
    if iscsi.SCENARIOS[name][1] == "load":
        head += ["MB/s, median", "p50 us", "p99 us", "server CPU us/IO"]
    return head, rows


def iscsi_score(result):
    rows = [[row["title"], number(row["passed"]), number(row["failed"]), number(row["skipped"])]
            for row in result.get("iscsi_score", [])]
    return ["target", "passed", "failed", "skipped"], rows


def judged(result, wanted=None):
    rows = []
    for row in targets.judge(result, wanted):
        unit = f" {row['unit']}" if row["unit"] else ""
        rows.append([row["what"], number(row["found"], 2), f"{row['bound']} {row['wanted']:g}{unit}",
                     {None: "not measured", True: "yes", False: "**no**"}[row["reached"]]])
    return ["target", "found", "wanted", "reached"], rows


def overwrite(result):
    rows = [[number(row["host_pages"]), number(row["pages_written"]), number(row["store_writes"]),
             number(row["backlog_pages"]), number(row["host_pages_per_store_page"], 2),
             number(row["host_writes_per_store_write"], 2), number(row.get("flush_messages"))]
            for row in result.get("overwrite", [])]
    return ["host pages", "store pages", "store writes", "still dirty", "host pages/store page",
            "host writes/store write", "flush messages"], rows


def cache_size(result):
    rows = [[cache, number(targets.median(figures, "iops")), number(targets.median(figures, "p50_us"), 1),
             number(targets.median(figures, "server_cpu_us"), 1)]
            for cache, figures in result.get("cache_size", {}).items()]
    return ["cache", "IOPS, median", "p50 us", "server CPU us/IO"], rows


def takeover(result):
    rows = []
    for how, title in (("kill", "kill -9"), ("stop", "SIGSTOP")):
        figures = result.get("takeover", {}).get(how)
        if figures:
            low, high = targets.spread(figures, "ms")
            own = targets.median(figures, "own_us")
            rows.append([title, number(targets.median(figures, "dirty_mib")), number(targets.median(figures, "ms"), 1),
                         f"{low:.1f} to {high:.1f}", number(None if own is None else own / 1e3, 1)])
    return ["owner ended by", "MiB dirty", "ms, median", "ms, rounds", "ms by its own status"], rows


def core_cost(result):
    rows = []
    for key, figures in result.get("core_cost", {}).items():
        depth, slots = key.split("/")
        rows.append([depth, f"{int(slots) * 4096 >> 20:,} MiB", number(figures["instructions_a"]),
                     number(figures["instructions_b"]), number(figures["instructions"]),
                     number(figures["ns_per_write"]), number(figures["writes_per_batch"], 1)])
    return ["in flight", "cache", "instructions, owner", "instructions, peer", "instructions, both",
            "ns, both, with one copy", "writes/batch"], rows


def copy_hosts(result, name):
    rows = []
    for way, figures in result.get("copy_hosts", {}).get(name, {}).items():
        low, high = targets.spread(figures, "iops")
        rows.append([f"copy {way}", number(targets.median(figures, "iops")), f"{number(low)} to {number(high)}",
                     number(targets.median(figures, "p50_us"), 1), number(targets.median(figures, "p99_us"), 1),
                     number(targets.median(figures, "server_cpu_us"), 1), number(targets.median(figures, "falls"))])
    return ["side", "IOPS, median", "IOPS, rounds", "p50 us", "p99 us", "server CPU us/IO", "falls to the bitmap"], rows


def copy_behind(result):
    rows = [[number(row["offered"]), number(row["round_trip_ms"]), number(row["cycle_s"] * 1e3),
             number(row["age_median_s"] * 1e3), number(row["age_p99_s"] * 1e3), number(row["bound_s"] * 1e3),
             number(row["falls"])] for row in result.get("copy_behind", [])]
    return ["writes/s offered", "round trip ms", "cycle ms", "age ms, median", "age ms, p99",
            "two cycles and two round trips", "falls to the bitmap"], rows


def copy_link(result):
    rows = [[row["compression"], number(row["round_trip_ms"]), number(row["mib"]), number(row["mb_per_s"], 1),
             number(row["share"], 2), number(row["packed_bytes"] / max(1, row["batch_bytes"]), 2)]
            for row in result.get("copy_link", [])]
    return ["compression", "round trip ms", "MiB", "MB/s", "share of 1 Gbit/s", "bytes sent for one"], rows


def copy_folding(result):
    rows = [[f"{row['cycle_s']:g}", number(row["written"] / 1e6), number(row["sent"] / 1e6), number(row["share"], 2),
             number(row["falls"])] for row in result.get("copy_folding", [])]
    return ["shortest cycle s", "MB written", "MB sent", "sent for one written", "falls to the bitmap"], rows


def copy_failover(result):
    row = result.get("copy_failover")
    return ["MiB held", "ms to the answer", "ms to a host's first write"], [] if not row else [
        [number(row["held_mib"]), number(row["answer_ms"]), number(row["write_ms"])]]


def everything(result):
    """(marker, title, head, rows) of every table that has rows, in the document's order."""
    tables = [("machine", "Machine", *machine(result)), ("targets", "Targets", *judged(result))]
    for name, row in scenarios.THROUGHPUT.items():
        tables.append((name, row[0], *throughput(result, name)))
    tables += [
        ("overwrite", "Overwrites: zipf 1.1 over 1 GiB, cache 256 MiB", *overwrite(result)),
        ("cache-size", "Cache size: 4 KiB random writes, 32 in flight", *cache_size(result)),
        ("takeover", "Takeover: first completed write on the survivor", *takeover(result)),
        ("core-cost", "The core alone, for one mirrored 4 KiB write", *core_cost(result)),
    ]
    tables += [(name, row[0], *hosts(result, name)) for name, row in iscsi.SCENARIOS.items()]
    tables += [("copy-targets", "Remote copy: targets", *judged(result, targets.COPY_TARGETS)),
               ("copy-machine", "Remote copy: the run", *machine(result))]
    tables += [(name, f"Remote copy: {row[0]}", *copy_hosts(result, name)) for name, row in remote.HOSTS.items()]
    tables += [("copy-behind", "Remote copy: how old the copy is", *copy_behind(result)),
               ("copy-link", "Remote copy: resynchronising over 1 Gbit/s", *copy_link(result)),
               ("copy-folding", "Remote copy: zipf 1.1, 10,000 a second offered", *copy_folding(result)),
               ("copy-failover", "Remote copy: failover", *copy_failover(result))]
    tables.append(("iscsi-score", "iscsi-test-cu: 230 tests", *iscsi_score(result)))
    skipped = {**result.get("skipped", {}), **{k: v.splitlines()[0][:100] for k, v in result.get("failed", {}).items()}}
    tables.append(("skipped", "Not measured", ["what", "why"], [[name, why] for name, why in skipped.items()]))
    return tables


def markdown(head, rows):
    if not rows:
        return "Nothing.\n" if head[0] == "what" else "Not measured yet.\n"
    lines = ["| " + " | ".join(head) + " |",
             "|" + "|".join([" --- "] + [" --- " if len(head) == 2 else " ---: "] * (len(head) - 1)) + "|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def plain(head, rows):
    widths = [max(len(line[i]) for line in [head, *rows]) for i in range(len(head))]
    if len(head) == 2:
        return "\n".join(f"{line[0].ljust(widths[0])}  {line[1]}" for line in [head, *rows])
    return "\n".join("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                               for i, (cell, width) in enumerate(zip(line, widths))) for line in [head, *rows])
