# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""Runs a pair of controllers as real processes for the tests and the demo: writes their configuration, starts them,
asks for their status, hurts them, and stops what it started. It ends processes only by pid, and only those it started
or that one of them named as its own in `status --json`. Every wait has a bound and says what it waited for."""

import contextlib
import ctypes
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import nbd

from proxy import Proxy, Wire

ROOT = pathlib.Path(__file__).resolve().parents[2]
PORT_FIRST, PORT_LAST = 20000, 31999  # below what the kernel gives to outgoing connections
NAMES = ("a", "b")
LEASE_MS = 4000  # longer than a busy machine often stands still, and short enough to wait for
LONG_LEASE = "10s"  # where no test waits for a lease to end: a machine that stands still is no fault of the pair
SLOW_ANSWER = 4.0  # seconds: the command was not refused, it waited in vain
PATIENCE = 3  # a machine that is busy with other things is slow, and that is no fault either
KI, MI = 1024, 1024 * 1024


def find_binary():
    """The program under test: $HOLDFAST, else the one of the usual build folder; None when there is none."""
    if os.environ.get("HOLDFAST"):
        path = pathlib.Path(os.environ["HOLDFAST"])
        return path.resolve() if path.is_file() else None
    path = ROOT / "build" / "holdfast"
    return path if path.is_file() else None


BINARY = find_binary()


class Timeout(AssertionError):
    """Something that must happen within a bound did not."""


def wait_for(what, condition, timeout=10.0, step=0.02):
    """Calls condition() until it returns something true, and returns that. `what` names it in the failure; it may be a
    function, so that the message can hold the last state seen. `timeout` is for an idle machine: whoever wants to know
    how long a thing takes looks at the clock."""
    timeout *= PATIENCE
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            text = what() if callable(what) else what
            raise Timeout(f"not within {timeout} s: {text}")
        time.sleep(step)


_taken_ports = {}  # port -> the socket that keeps it ours


def _take_port(port):
    """Keeps other test runs of this machine away from the port until this process ends: the name of an abstract UNIX
    socket is given out once, and with the process it is gone, however that ends."""
    keeper = socket.socket(socket.AF_UNIX)
    try:
        keeper.bind(f"\0holdfast-test-port-{port}")
    except OSError:
        keeper.close()
        return False
    _taken_ports[port] = keeper
    return True


def free_port():
    """A loopback port of our range that nobody listens at now, handed out once in this process, and by no other."""
    ports = [p for p in range(PORT_FIRST, PORT_LAST + 1) if p not in _taken_ports]
    random.SystemRandom().shuffle(ports)  # tests seed the other generator
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if _take_port(port):
            return port
    raise RuntimeError(f"no free port from {PORT_FIRST} to {PORT_LAST}")


def _die_with_parent():
    """In a child before exec: end with the test process, however that ends (prctl PR_SET_PDEATHSIG, SIGTERM)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)


def read_stat(pid):
    """(state letter, parent's pid) of a process, or None when it is gone."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rsplit(")", 1)[1].split()
    return fields[0], int(fields[1])


def process_alive(pid):
    stat = read_stat(pid)
    return stat is not None and stat[0] not in "ZX"


class Volume:
    def __init__(self, name, size=16 * MI, owner="a", store="disk", offset=None, flush="mirror", block=512,
                 transition="wait"):
        self.name, self.size, self.owner = name, size, owner
        self.store, self.offset, self.flush = store, offset, flush
        self.block, self.transition = block, transition


class Host:
    """A [host] section: who is let in over iSCSI. volumes: the text of the key, such as "alpha@1, beta:ro"."""

    def __init__(self, name, initiators, volumes, chap=None, mutual=None):
        """chap, mutual: (user, secret)."""
        self.name, self.volumes, self.chap, self.mutual = name, volumes, chap, mutual
        self.initiators = [initiators] if isinstance(initiators, str) else list(initiators)

    def lines(self):
        lines = [f"[host {self.name}]", f"initiator = {', '.join(self.initiators)}", f"volumes = {self.volumes}"]
        if self.chap:
            lines += [f"chap_user = {self.chap[0]}", f"chap_secret = {self.chap[1]}"]
        if self.mutual:
            lines += [f"mutual_user = {self.mutual[0]}", f"mutual_secret = {self.mutual[1]}"]
        return lines


class Controller:
    """One `holdfast run`: the parent process ("warden") that we started, and its child, the controller itself."""

    def __init__(self, pair, name):
        self.pair, self.name = pair, name
        self.link, self.warden, self.nbd = free_port(), free_port(), free_port()
        self.iscsi = free_port()
        self.run = pair.directory / f"run-{name}"
        self.config = pair.directory / f"{name}.conf"
        self.log_path = pair.directory / f"{name}.log"
        self.socket = pair.directory / f"{name}.nbd"
        self.process = None
        self.exit_status = None

    # ---- life ----

    def start(self, environment=None):
        assert self.process is None or self.process.poll() is not None, f"{self.name} runs already"
        self.run.mkdir(exist_ok=True)
        with open(self.log_path, "ab") as log:
            log.write(f"---- start of {self.name} ----\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                [BINARY, "run", "--config", self.config, "--controller", self.name],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent,
                env={**os.environ, **(environment or {})})
        return self

    def running(self):
        return self.process is not None and self.process.poll() is None

    def child_pid(self):
        """The controller's pid: from its status, or the warden's only child when it does not answer."""
        if not self.running():
            return None
        children = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                stat = read_stat(int(entry))
                if stat is not None and stat[1] == self.process.pid and stat[0] not in "ZX":
                    children.append(int(entry))
        return children[0] if len(children) == 1 else None

    def kill(self, number=signal.SIGKILL):
        """Signal the controller itself, not its warden. Returns its pid."""
        pid = wait_for(f"{self.name} has a controller process", self.child_pid, 3)
        os.kill(pid, number)
        return pid

    def kill_warden(self, number=signal.SIGKILL):
        self.process.send_signal(number)

    def terminate(self, timeout=15.0):
        """SIGTERM and wait: the clean stop. Returns the exit status."""
        self.process.terminate()
        return self.wait_exit(timeout)

    def wait_exit(self, timeout=10.0):
        timeout *= PATIENCE
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Timeout(f"{self.name} did not exit within {timeout} s; log:\n{self.log_tail()}") from None

    def end(self):
        """Whatever state it is in, afterwards nothing of it runs. Not a clean stop: see Pair.stop()."""
        if self.process is None:
            return
        child = self.child_pid()
        self.destroy()
        if self.running():
            self.process.wait(10 * PATIENCE)
        wait_for(f"the processes of {self.name} are gone", lambda: not child or not process_alive(child), 5)

    def destroy(self):
        """SIGKILL to both processes; nothing is waited for."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def pids(self):
        """Of the controller and its warden, those that run."""
        return [pid for pid in (self.child_pid(), self.process.pid if self.running() else None) if pid]

    # ---- questions ----

    def cli(self, *words, timeout=20.0, check=True):
        """`holdfast WORDS --config ... --controller ...`; returns the CompletedProcess."""
        result = subprocess.run([BINARY, *words, "--config", str(self.config), "--controller", self.name],
                                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
        if check and result.returncode != 0:
            raise AssertionError(f"holdfast {' '.join(words)} on {self.name}: exit {result.returncode}\n"
                                 f"{result.stdout}{result.stderr}")
        return result

    def status(self):
        """The status as a dict, or None while the controller does not answer. One that is only slow is asked again: a
        machine may stand still for longer than the command waits."""
        for _ in range(PATIENCE):
            began = time.monotonic()
            result = self.cli("status", "--json", timeout=60, check=False)
            if result.returncode == 0:
                status = json.loads(result.stdout)
                return status.get("status", status)
            if time.monotonic() - began < SLOW_ANSWER or self.frozen():
                return None
        return None

    def frozen(self):
        """Whether the controller was stopped by a signal, or is gone."""
        pid = self.child_pid()
        stat = read_stat(pid) if pid else None
        return stat is None or stat[0] in "TZX"

    def wait_status(self):
        """The status of a controller that runs, as soon as it answers."""
        return wait_for(lambda: f"{self.name} answers\n{self.log_tail()}", self.status)

    def role(self):
        status = self.status()
        return status["role"] if status else None

    def wait_role(self, *roles, timeout=10.0):
        seen = [None]

        def there():
            seen[0] = self.status()
            return seen[0] if seen[0] and seen[0]["role"] in roles else None

        def text():
            state = f"{seen[0]['role']} ({seen[0].get('reason')})" if seen[0] else "no answer"
            return f"{self.name} is {' or '.join(roles)}; it is: {state}\n{self.log_tail()}"

        return wait_for(text, there, timeout)

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_since(self, mark):
        """What the log says after its first `mark` bytes: mark = len(log()) of an earlier moment."""
        return self.log()[mark:]

    def log_tail(self, lines=40):
        return "\n".join(self.log().splitlines()[-lines:])

    def uri(self, volume):
        return f"nbd://127.0.0.1:{self.nbd}/{volume}"

    def unix_uri(self, volume):
        return f"nbd+unix:///{volume}?socket={self.socket}"

    def portal(self, six=False):
        return f"[::1]:{self.iscsi}" if six else f"127.0.0.1:{self.iscsi}"

    def iscsi_url(self, lun, six=False, login="", target=None, portal=None):
        """As libiscsi's tools and qemu take it. lun: a number, or a volume's name when there are no hosts. portal: of a
        proxy in front of the controller's own."""
        if isinstance(lun, str):
            lun = list(self.pair.volumes).index(lun)
        return f"iscsi://{login}{portal or self.portal(six)}/{target or self.pair.target_name}/{lun}"

    def connect(self, volume, structured=True, contexts=()):
        """A libnbd handle, connected."""
        handle = nbd.NBD()
        handle.set_request_structured_replies(structured)
        for context in contexts:
            handle.add_meta_context(context)
        handle.connect_uri(self.uri(volume))
        return handle


class Pair:
    """Two controllers, their store files and their configuration, in a directory of their own."""

    def __init__(self, volumes=None, lease=f"{LEASE_MS}ms", settle="50ms", cache="16M", secret=None, giveback="manual",
                 destage_after="5s", dirty_low=None, dirty_high=None, requests=None, memory=False, io="auto",
                 iscsi=False, hosts=(), name="e2e"):
        """iscsi: both controllers have portals on 127.0.0.1 and ::1. hosts: of Host; none: loopback sees it all. name: of
        the array."""
        base = "/dev/shm" if memory else os.environ.get("TMPDIR", "/tmp")
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-e2e-", dir=base))
        self.name = name
        self.volumes = {v.name: v for v in volumes or (Volume("alpha", owner="a"), Volume("beta", owner="b"))}
        self.lease, self.settle, self.cache, self.secret, self.giveback = lease, settle, cache, secret, giveback
        self.destage_after, self.dirty_low, self.dirty_high = destage_after, dirty_low, dirty_high
        self.requests, self.io = requests, io
        self.iscsi, self.hosts = iscsi or bool(hosts), list(hosts)
        self.target_name = f"iqn.2026-11.holdfast:{name}"
        self.secrets = {"a": secret, "b": secret}
        self.register = self.directory / "register" / "record"
        self.register.parent.mkdir()
        self.a, self.b = Controller(self, "a"), Controller(self, "b")
        self.store_paths = {}
        self.more = []  # lines of further sections
        self.copy = {}  # controller -> its `copy` port
        self.reached = {}  # (from, "link" or "warden") -> port to dial instead of the peer's own: a proxy's
        self._lay_out()

    def _lay_out(self):
        ends = {}
        for volume in self.volumes.values():
            if volume.offset is None:
                volume.offset = -(-ends.get(volume.store, 0) // MI) * MI
            ends[volume.store] = max(ends.get(volume.store, 0), volume.offset + volume.size)
        for store, end in ends.items():
            path = self.directory / f"{store}.img"
            self.store_paths[store] = path
            with open(path, "wb") as file:
                file.truncate(-(-end // 4096) * 4096)

    def controller(self, name):
        return self.a if name == "a" else self.b

    def other(self, controller):
        return self.b if controller is self.a else self.a

    # ---- configuration ----

    def config_text(self, reader):
        """The file that controller `reader` is given. It differs between the two only where a proxy stands between
        them, or where a test gives them different secrets."""
        lines = ["[array]", f"name = {self.name}", f"register = {self.register}", f"cache = {self.cache}",
                 f"lease = {self.lease}", f"settle = {self.settle}", f"giveback = {self.giveback}",
                 f"destage_after = {self.destage_after}"]
        if self.secrets[reader]:
            lines.append(f"secret = {self.secrets[reader]}")
        if self.dirty_low:
            lines.append(f"dirty_low = {self.dirty_low}")
        if self.dirty_high:
            lines.append(f"dirty_high = {self.dirty_high}")
        for controller in (self.a, self.b):
            link, warden = controller.link, controller.warden
            if controller.name != reader:
                link = self.reached.get((reader, "link"), link)
                warden = self.reached.get((reader, "warden"), warden)
            lines += [f"[controller {controller.name}]", f"link = 127.0.0.1:{link}", f"warden = 127.0.0.1:{warden}",
                      f"nbd = 127.0.0.1:{controller.nbd}, [::1]:{controller.nbd}, unix:{controller.socket}",
                      f"run = {controller.run}"]
            if self.iscsi:
                lines.append(f"iscsi = {controller.portal()}, {controller.portal(six=True)}")
            if self.requests:
                lines.append(f"requests = {self.requests}")
            if controller.name in self.copy:
                lines.append(f"copy = 127.0.0.1:{self.copy[controller.name]}")
        for store, path in self.store_paths.items():
            lines += [f"[store {store}]", f"path = {path}", f"io = {self.io}"]
        for volume in self.volumes.values():
            lines += [f"[volume {volume.name}]", f"store = {volume.store}", f"offset = {volume.offset}",
                      f"size = {volume.size}", f"owner = {volume.owner}", f"flush = {volume.flush}",
                      f"block = {volume.block}", f"transition = {volume.transition}"]
        for host in self.hosts:
            lines += host.lines()
        lines += self.more
        return "\n".join(lines) + "\n"

    def write_config(self):
        for controller in (self.a, self.b):
            controller.config.write_text(self.config_text(controller.name))
            controller.config.chmod(0o600)

    # ---- life ----

    def start(self, wait=True):
        self.write_config()
        self.a.start()
        self.b.start()
        if wait:
            self.wait_paired()
        return self

    def wait_paired(self, timeout=10.0):
        self.a.wait_role("paired", timeout=timeout)
        self.b.wait_role("paired", timeout=timeout)

    def owner(self, volume, ask=None):
        """Who serves the volume as `ask` (or any that answers) says: "a", "b" or None."""
        for controller in [ask] if ask else [self.a, self.b]:
            status = controller.status()
            if status:
                return volume_status(status, volume)["owner"]
        return None

    def wait_owner(self, volume, name, timeout=10.0):
        return wait_for(f"{volume} is served by {name}",
                        lambda: self.owner(volume, self.controller(name)) == name, timeout)

    def move(self, volume, to, via=None):
        via = via or self.controller(self.owner(volume) or "a")
        return via.cli("volume", "move", volume, to)

    def targets(self, first=None):
        """The NBD addresses as the load and the multipath stand-in want them."""
        order = [self.a, self.b] if first != "b" else [self.b, self.a]
        return [(c.name, "127.0.0.1", c.nbd) for c in order]

    def stop(self, timeout=20.0):
        """The clean stop of both, as an operator would: SIGTERM to the one, then to the other."""
        statuses = []
        for controller in (self.a, self.b):
            if controller.running():
                controller.process.terminate()
        for controller in (self.a, self.b):
            if controller.process is not None:
                statuses.append(controller.wait_exit(timeout))
        assert all(s == 0 for s in statuses), f"a clean stop ends with 0, not {statuses}\n{self.logs()}"

    def end(self):
        for controller in (self.a, self.b):
            if controller.process is not None:
                controller.destroy()
        for controller in (self.a, self.b):
            controller.end()

    def remove(self):
        shutil.rmtree(self.directory, ignore_errors=True)

    def logs(self, lines=60):
        return "\n".join(f"==== {c.name}: {c.log_path}\n{c.log_tail(lines)}" for c in (self.a, self.b))

    def check_logs(self):
        """What must never stand in a log, whatever the test did."""
        for controller in (self.a, self.b):
            text = controller.log()
            for bad in ("AddressSanitizer", "runtime error:", "assertion failed", "check failed", "Assertion"):
                assert bad not in text, f"{controller.name}'s log says {bad!r}:\n{controller.log_tail()}"
            chap = {pair[1] for host in self.hosts for pair in (host.chap, host.mutual) if pair}
            groups = {line.partition(" = ")[2] for line in self.more if line.startswith("secret = ")}
            for secret in filter(None, {self.secret, *self.secrets.values(), *chap, *groups}):
                assert secret not in text, f"{controller.name}'s log holds the secret"

    # ---- the store, read without us ----

    def store_pread(self, volume):
        """A function (offset, length) -> bytes over the volume's range of its store file."""
        volume = self.volumes[volume]
        path = self.store_paths[volume.store]

        def pread(offset, length):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                return os.pread(descriptor, length, volume.offset + offset)
            finally:
                os.close(descriptor)

        return pread


class Sites:
    """Two arrays of two controllers each: `first`, whose hosts write, and `second`, which holds the copy of one group of
    its volumes. Every way between them leads through a proxy: `up` to the second site, `down` to the first, each by the
    controller that it leads to. Those that lead to one site share a wire. The volumes have the same names at both."""

    GROUP_SECRET = "letters that both sites know"

    def __init__(self, make=Pair, volumes=None, cycle="50ms", memory=None, expose=None, keys=(), delay=0.0,
                 bandwidth=None, group="db", home="a", start=True, **settings):
        """make: as Pair; volumes: (name, bytes, owner) of each; memory: of the group, at both sites; keys: further lines
        of both group sections; delay, bandwidth: of the wires, as Wire's; home: which controller of the second array
        owns the group's volumes there; settings: of both pairs."""
        volumes = volumes or [("alpha", 8 * MI, "a"), ("beta", 8 * MI, "b")]
        settings = {"cache": "64M", "start": False, "lease": LONG_LEASE, **settings}
        if make is Pair:
            settings.pop("start")
        self.group, self.expose = group, expose
        self.first, self.second = (
            make(name=name, volumes=[Volume(n, size=size, owner=home if name == "second" else owner)
                                     for n, size, owner in volumes], **settings) for name in ("first", "second"))
        self.up, self.down = {}, {}
        for pair, ways in ((self.second, self.up), (self.first, self.down)):
            wire = Wire(delay, bandwidth)
            for name in NAMES:
                pair.copy[name] = free_port()
                ways[name] = Proxy(free_port(), pair.copy[name], wire=wire)
        common = [f"secret = {self.GROUP_SECRET}", f"volumes = {', '.join(n for n, _, _ in volumes)}", f"cycle = {cycle}",
                  *keys]
        if memory:
            common.append(f"memory = {memory}")
        self.first.more = self.section("send", "second", self.up) + common
        self.second.more = self.section("receive", "first", self.down) + common
        if expose:
            self.second.more.append(f"expose = {expose}")
        if start:
            self.start()

    def section(self, role, array, ways):
        return [f"[group {self.group}]", f"role = {role}", f"array = {array}",
                f"address = {', '.join(f'127.0.0.1:{ways[n].port}' for n in NAMES)}"]

    def start(self):
        for pair in (self.second, self.first):
            pair.start(wait=False)
        for pair in (self.second, self.first):
            pair.wait_paired()
        return self

    def ways(self):
        return [*self.up.values(), *self.down.values()]

    def cut(self):
        for way in self.ways():
            way.cut()

    def heal(self, delay=0.0, bandwidth=None):
        for way in self.ways():
            way.heal()
            way.wire.delay, way.wire.bandwidth = delay, bandwidth

    def end(self):
        """The ways. The pairs are whoever's who made them; see destroy()."""
        for way in self.ways():
            way.end()

    # ---- questions ----

    def groups(self, pair):
        """What each running controller of the pair says of the group."""
        statuses = [c.status() for c in (pair.a, pair.b) if c.running()]
        return [g for s in statuses if s for g in s["groups"] if g["name"] == self.group]

    def all_groups(self, pair):
        """The same, of every controller of the pair that runs: for what is summed up over both."""
        return [g for c in (pair.a, pair.b) if c.running() for g in c.wait_status()["groups"] if g["name"] == self.group]

    def wait_state(self, pair, *states, timeout=20.0):
        """Until a controller of the pair says that the group is in one of these states, and returns what it says."""
        seen = [None]

        def there():
            seen[0] = self.groups(pair)
            return next((g for g in seen[0] if g["state"] in states), None)

        def text():
            return f"{pair.name}: the group is {' or '.join(states)}; it is: " + \
                ", ".join(f"{g['state']} ({g.get('reason')})" for g in seen[0]) + f"\n{pair.logs(30)}"

        return wait_for(text, there, timeout)

    def wait_copied(self, wall_us, timeout=20.0):
        """Until the copy is one of a moment after that (microseconds of the day's clock), as the array says that has it:
        the first one hears later of it."""
        seen = [None]

        def there():
            seen[0] = self.groups(self.second)
            return any(g["condition"] in ("consistent", "behind") and (g["shown_wall_us"] or 0) > wall_us for g in seen[0])

        wait_for(lambda: f"the copy is newer than {wall_us}; it is: {[(g['condition'], g['shown_wall_us']) for g in seen[0]]}"
                         f"\n{self.second.logs(30)}", there, timeout)

    def cli(self, pair, *words, check=True, timeout=60.0):
        """`holdfast WORDS` without --controller: as an operator types it. Of the first running controller's file."""
        controller = next((c for c in (pair.a, pair.b) if c.running()), pair.a)
        result = subprocess.run([BINARY, *words, "--config", str(controller.config)], stdin=subprocess.DEVNULL,
                                capture_output=True, text=True, timeout=timeout)
        if check and result.returncode != 0:
            raise AssertionError(f"holdfast {' '.join(words)} at {pair.name}: exit {result.returncode}\n"
                                 f"{result.stdout}{result.stderr}\n{pair.logs(30)}")
        return result

    def act(self, pair, action, *words, **more):
        """`holdfast group ACTION GROUP`."""
        return self.cli(pair, "group", action, self.group, *words, **more)

    def fail_over(self, pair, patience=15.0, on_refusal=None):
        """`holdfast group failover`, again while it is refused because the other array was heard just now, or because a
        controller of this one is taking over. Returns what it said. on_refusal(text): told of the first refusal."""
        answers = []

        def passes(text):
            return "still answers" in text or "does not serve" in text

        def done():
            answers.append(self.act(pair, "failover", check=False))
            if answers[-1].returncode != 0 and not passes(answers[-1].stderr):
                raise AssertionError(f"failover at {pair.name}:\n{answers[-1].stderr}\n{pair.logs(30)}")
            if "still answers" in answers[-1].stderr and len(answers) == 1 and on_refusal:
                on_refusal(next(line for line in answers[0].stderr.splitlines() if "still answers" in line))
            return answers[-1].returncode == 0

        wait_for(lambda: f"the failover at {pair.name}: {answers[-1].stderr}\n{pair.logs(30)}", done, patience, step=0.1)
        return answers[-1].stdout.strip()

    def destroy(self, pair):
        """The site is gone, all at once: SIGKILL to all of it."""
        pids = [pid for controller in (pair.a, pair.b) if controller.process is not None for pid in controller.pids()]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def volume_status(status, name):
    for volume in status["volumes"]:
        if volume["name"] == name:
            return volume
    raise KeyError(name)


def run(*words, timeout=60.0, check=True, **more):
    """A client program to its end; its output is in the failure. `timeout` as in wait_for(): one that the kernel does not
    let end, because it waits for a device that does not answer, is left to itself."""
    words = [str(word) for word in words]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               **more)
    try:
        out, _ = process.communicate(timeout=timeout * PATIENCE)
    except BaseException:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        raise
    if check and process.returncode != 0:
        raise AssertionError(f"{' '.join(words)}: exit {process.returncode}\n{out}")
    return subprocess.CompletedProcess(words, process.returncode, out)
