# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors
"""Our own side: two controllers on one machine with one configuration. This file knows the configuration's keys, the
commands of the program, and how counters are found in its status; no other part of the bench does."""

import json
import os
import time

import processes

VOLUME = "bench"
NAMES = "ab"
TARGET = "iqn.2026-11.holdfast:bench"

CONFIG = """\
; Written by bench/run; removed when it ends.
[array]
name = {name}
register = {path}/register
cache = {cache}
lease = {lease_ms}ms
settle = {settle_ms}ms
giveback = manual
dirty_low = {dirty_low}%
dirty_high = {dirty_high}%
destage_after = {destage_after}

[controller a]
link = 127.0.0.1:{port0}
warden = 127.0.0.1:{port1}
nbd = 127.0.0.1:{port2}
{iscsi0}{copy0}run = {path}/a
cpu = {core}

[controller b]
link = 127.0.0.1:{port3}
warden = 127.0.0.1:{port4}
nbd = 127.0.0.1:{port5}
{iscsi1}{copy1}run = {path}/b
cpu = {core}

[store main]
path = {path}/store.img
io = auto

[volume {volume}]
store = main
offset = 0
size = {size}
owner = a
flush = mirror
{more}"""


def program(bench):
    return bench.holdfast or os.path.join(bench.build, "holdfast")


def missing(bench):
    path = program(bench)
    return None if os.access(path, os.X_OK) else "the program holdfast is not built"


def find(status, *names):
    """The number at the end of a chain of keys, each looked for at any depth under the one before; None if absent.
    Counters keep their names while the layout around them may change."""
    here = status
    for name in names:
        here = _find_key(here, name)
        if here is None:
            return None
    return here


def _find_key(node, name):
    if isinstance(node, dict):
        if name in node:
            return node[name]
        children = node.values()
    elif isinstance(node, list):
        children = node
    else:
        return None
    for child in children:
        found = _find_key(child, name)
        if found is not None:
            return found
    return None


class Pair:
    """Two controllers. Index 0 is a, which owns the volume; 1 is b."""

    def __init__(self, bench, path, size_bytes, cache="256M", lease_ms=1000, settle_ms=100, dirty_low=40,
                 dirty_high=75, destage_after="5s", iscsi=False, name="bench", copy=False, more="", offset=10,
                 core=processes.SERVER_CORE, behind=False, store_bytes=None):
        """copy: both take copies, at copy_port(); more: further lines of the configuration; behind: it makes way for
        whatever else runs on its core, as if it had a machine of its own."""
        self.bench = bench
        self.path = path
        self.lease_ms = lease_ms
        self.size_bytes = size_bytes
        self.config = os.path.join(path, "holdfast.conf")
        self.servers = processes.Processes(os.path.join(path, "log"))
        self.parents = [None, None]
        self.core, self.behind = core, behind
        self.first_port = bench.port + offset
        ports = {f"port{i}": self.first_port + i for i in range(6)}
        ports.update({f"iscsi{i}": f"iscsi = 127.0.0.1:{self.first_port + 6 + i}\n" if iscsi else "" for i in (0, 1)})
        ports.update({f"copy{i}": f"copy = 127.0.0.1:{self.copy_port(i)}\n" if copy else "" for i in (0, 1)})
        for controller in NAMES:
            os.makedirs(os.path.join(path, controller), exist_ok=True)
        processes.make_store(os.path.join(path, "store.img"), store_bytes or size_bytes)
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(CONFIG.format(path=path, cache=cache, lease_ms=lease_ms, settle_ms=settle_ms,
                                     dirty_low=dirty_low, dirty_high=dirty_high, destage_after=destage_after,
                                     volume=VOLUME, size=size_bytes, name=name, core=core, more=more, **ports))
        processes.run([program(bench), "check", self.config], 10)

    def nbd_port(self, controller):
        return self.first_port + (2, 5)[controller]

    def copy_port(self, controller):
        return self.first_port + 8 + controller

    def uri(self, controller):
        return f"nbd://127.0.0.1:{self.nbd_port(controller)}/{VOLUME}"

    def iscsi_url(self, controller):
        return f"iscsi://127.0.0.1:{self.first_port + 6 + controller}/{TARGET}/0"

    def start(self, timeout_s=20.0):
        for controller, name in enumerate(NAMES):
            self.parents[controller] = self.servers.start(
                [program(self.bench), "run", "--config", self.config, "--controller", name], self.core, self.behind)

        def paired():
            self.servers.check_alive()
            roles = [str(find(self.status(i) or {}, "role")).lower() for i in (0, 1)]
            return roles == ["paired", "paired"]
        try:
            processes.wait_until("the pair to be paired", paired, timeout_s, 0.05)
        except processes.BenchError as error:
            raise processes.BenchError(f"{error}: {self.servers.log_tail()}") from error
        self._bring_home()

    def _bring_home(self):
        """Which controller of a fresh pair owns the volume depends on who came first; the bench wants a."""
        if str(find(self.status(0), "volumes", "owner")) in ("a", "0"):
            return
        self.command("volume", "move", VOLUME, "a")
        processes.wait_until("volume on a", lambda: str(find(self.status(0), "volumes", "owner")) in ("a", "0"))

    def command(self, *words, timeout_s=30):
        return processes.run([program(self.bench), *words, "--config", self.config], timeout_s)

    def status(self, controller):
        """The status as a dict; None when the controller does not answer."""
        try:
            text = processes.run([program(self.bench), "status", "--json", "--config", self.config,
                                  "--controller", NAMES[controller]], 5)
            return json.loads(text)
        except (processes.BenchError, ValueError):
            return None

    def counters(self):
        """The counters of the owner that scenarios take differences of."""
        status = self.status(0) or {}
        counters = {
            "host_writes": find(status, "volumes", "writes"),
            "batches": find(status, "sent", "batches"),
            "headers": find(status, "sent", "headers"),
            "host_pages": find(status, "destage", "host_pages"),
            "pages_written": find(status, "destage", "pages_written"),
            "store_writes": find(status, "destage", "store_writes"),
            "backlog_pages": find(status, "destage", "backlog_pages"),
            "flush_messages": find(status, "flush_messages"),
        }
        absent = [name for name, value in counters.items() if not isinstance(value, (int, float))]
        if absent:
            raise processes.BenchError(f"status of controller a has no {', '.join(absent)}: {self.servers.log_tail()}")
        return counters

    def controller_pid(self, controller):
        """The process that serves: what its status says, which must be a child of the parent that we started."""
        parent = self.parents[controller].pid
        with open(f"/proc/{parent}/task/{parent}/children", encoding="ascii") as file:
            children = [int(word) for word in file.read().split()]
        said = find(self.status(controller) or {}, "pid")
        if said in children:
            return said
        if len(children) == 1:
            return children[0]
        raise processes.BenchError(f"controller {NAMES[controller]}: no process of its own to be seen")

    def wait_touched(self, timeout_s=90.0):
        """Until the controllers have all of their memory from the system, which they take in the background: whoever
        needs some before waits for it, and taking it is work that delays others. They leave it be when the machine has
        little to spare; so it is enough that nothing comes any more."""
        seen, since = None, time.monotonic()

        def touched():
            nonlocal seen, since
            now = []
            for controller in (0, 1):
                with open(f"/proc/{self.controller_pid(controller)}/statm", encoding="ascii") as file:
                    now.append(int(file.read().split()[1]))
            if seen is None or any(abs(a - b) > 64 for a, b in zip(now, seen)):
                seen, since = now, time.monotonic()
            return time.monotonic() - since > 1.5
        try:
            processes.wait_until("the cache's memory", touched, timeout_s, 0.2)
        except processes.BenchError:
            pass

    def stop(self):
        self.servers.stop(grace_s=20.0)
