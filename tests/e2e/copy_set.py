# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""Several primary arrays whose groups are one set, and the arrays that hold the copies: berlin coordinates, paris is the
other one; munich holds both copies, or munich and vienna one each. Every way to a copy, and from the coordinator to the
other primary, leads through a proxy."""

import contextlib
import os
import signal
import subprocess

from holdfast import BINARY, MI, NAMES, Pair, Volume, free_port, wait_for
from proxy import Proxy, Wire

SECRET = "letters that all arrays of the set know"


class Set:
    """`primaries`: berlin, paris; `seconds`: munich, or munich and vienna. Of each primary one group: orders, stock."""

    NAME = "shop"
    GROUPS = {"berlin": "orders", "paris": "stock"}

    def __init__(self, make=Pair, seconds=1, volume_size=4 * MI, cycle="20ms", hold="50ms", memory="3M", delay=0.0,
                 between=0.0, keys=(), start=True, **settings):
        """volume_size: each primary has two volumes, of a and of b; between: delay of the wire to paris; delay: of that
        to the last of the seconds: copies that are not cut together would then not be of one moment."""
        settings = {"cache": "64M", "start": False, **settings}
        if make is Pair:
            settings.pop("start")
        self.make, self.settings = make, settings
        self.common = [f"secret = {SECRET}", f"cycle = {cycle}", f"memory = {memory}", f"set = {self.NAME}", *keys]
        self.volumes = {array: [f"{group}{i}" for i in range(2)] for array, group in self.GROUPS.items()}
        self.volume_size = volume_size
        self.home = dict.fromkeys(self.GROUPS, "munich") if seconds == 1 else {"berlin": "munich", "paris": "vienna"}
        self.berlin, self.paris = (self._pair(array, {array: NAMES}) for array in self.GROUPS)
        self.primaries = [self.berlin, self.paris]
        copies = {}
        for array, second in self.home.items():
            # A group that is received has one home; two groups get one controller each.
            copies.setdefault(second, {})[array] = NAMES[len(copies.get(second, {}))] * 2
        self.seconds = [self._pair(second, owners) for second, owners in copies.items()]
        self.pairs = [*self.primaries, *self.seconds]
        self.to_paris = self._ways(self.paris, Wire(between))
        self.to = {second.name: self._ways(second, Wire(delay if second is self.seconds[-1] else 0.0))
                   for second in self.seconds}
        for primary in self.primaries:
            primary.more = self._group(primary, primary.name, hold)
        for second in self.seconds:
            for array in copies[second.name]:
                second.more = second.more + self._group(second, array, None)
        if start:
            self.start()

    def _pair(self, name, owners):
        """owners: whose volumes it has -> the owners of these here."""
        pair = self.make(name=name, volumes=[Volume(volume, size=self.volume_size, owner=owner)
                                             for array in owners
                                             for volume, owner in zip(self.volumes[array], owners[array])],
                         **self.settings)
        pair.copy = {controller: free_port() for controller in NAMES}
        return pair

    @staticmethod
    def _ways(pair, wire):
        return {name: Proxy(free_port(), pair.copy[name], wire=wire) for name in NAMES}

    def _group(self, pair, array, hold):
        """The section of that array's group at `pair`; hold: where it is the primary."""
        second = next(s for s in self.seconds if s.name == self.home[array])
        ports = [self.to[second.name][n].port for n in NAMES] if hold else \
            [self.primary(array).copy[n] for n in NAMES]
        paris = " ".join(f"127.0.0.1:{self.to_paris[n].port}" for n in NAMES)
        return [f"[group {self.GROUPS[array]}]", f"role = {'send' if hold else 'receive'}",
                f"array = {second.name if hold else array}",
                f"address = {', '.join(f'127.0.0.1:{port}' for port in ports)}",
                f"volumes = {', '.join(self.volumes[array])}", f"set_arrays = berlin, paris {paris}",
                *([f"hold = {hold}"] if hold else []), *self.common]

    def primary(self, array):
        return next(p for p in self.primaries if p.name == array)

    def start(self):
        for pair in [*self.seconds, *self.primaries]:
            pair.start(wait=False)
        for pair in self.pairs:
            pair.wait_paired()
        return self

    def end(self):
        """The ways; the pairs are whoever's who made them."""
        for ways in (self.to_paris, *self.to.values()):
            for way in ways.values():
                way.end()

    # ---- questions ----

    def all_volumes(self, pairs):
        """(pair, volume) of every volume of the set, at these pairs, in an order that changes the array each time."""
        return [(pair, self.volumes[array][i]) for i in range(2) for array in self.GROUPS for pair in pairs
                if self.volumes[array][i] in pair.volumes]

    def groups(self, pair, group=None):
        """What each running controller of the pair says of the group, or of all."""
        statuses = [c.status() for c in (pair.a, pair.b) if c.running()]
        return [g for s in statuses if s for g in s["groups"] if group in (None, g["name"])]

    def coordinator(self):
        """(controller, its set) of who coordinates; None."""
        for controller in (self.berlin.a, self.berlin.b):
            status = controller.status() if controller.running() else None
            if status and status["groups"][0]["set"]["coordinates"]:
                return controller, status["groups"][0]["set"]
        return None

    def wait_running(self, timeout=20.0):
        """Until cuts are made and are shown by all copies; returns who coordinates."""
        begun = {}

        def there():
            found = self.coordinator()
            if not found or not found[1]["runs"]:
                return None
            first = begun.setdefault(found[0].name, found[1]["promoted_cut"])
            return found[0] if found[1]["promoted_cut"] > max(first, 1) else None

        return wait_for(lambda: f"cuts are made and shown: {self.coordinator()}\n{self.logs(15)}", there, timeout)

    def wait_condition(self, pair, wanted, cause=None, timeout=20.0):
        """Until for each group of the pair one of its controllers says so."""
        def there():
            groups = self.groups(pair)
            names = {g["name"] for g in groups}
            good = {g["name"]: g for g in groups if g["condition"] == wanted and cause in (None, g["cause"])}
            return good if names and set(good) == names else None

        return wait_for(lambda: f"{pair.name}: {wanted}, {cause}; it is: "
                        f"{[(g['name'], g['condition'], g['cause'], g['reason'], g['set']) for g in self.groups(pair)]}"
                        f"\n{self.logs(15)}", there, timeout)

    def wait_consistent(self, timeout=20.0):
        for pair in self.pairs:
            self.wait_condition(pair, "consistent", timeout=timeout)

    def logs(self, lines):
        return "\n".join(f"== {pair.name}\n{pair.logs(lines)}" for pair in self.pairs)

    # ---- what an operator does ----

    def cli(self, *words, pairs, check=True, timeout=60.0):
        """`holdfast WORDS`, with the file of a controller of each of the pairs."""
        files = [str(next((c for c in (p.a, p.b) if c.running()), p.a).config) for p in pairs]
        configs = files if words[0] == "check" else [word for file in files for word in ("--config", file)]
        result = subprocess.run([BINARY, *words, *configs], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                timeout=timeout)
        if check and result.returncode != 0:
            raise AssertionError(f"holdfast {' '.join(words)}: exit {result.returncode}\n{result.stdout}{result.stderr}\n"
                                 f"{self.logs(20)}")
        return result

    def fail_over(self, patience=20.0):
        """`holdfast group failover SET`, again while it is refused because an array was heard just now."""
        answers = []

        def done():
            answers.append(self.cli("group", "failover", self.NAME, pairs=self.seconds, check=False))
            if answers[-1].returncode != 0 and "still answers" not in answers[-1].stderr:
                raise AssertionError(f"failover:\n{answers[-1].stdout}{answers[-1].stderr}\n{self.logs(30)}")
            return answers[-1].returncode == 0

        wait_for(lambda: f"the failover: {answers[-1].stderr}\n{self.logs(15)}", done, patience, step=0.2)
        return answers[-1].stdout

    @staticmethod
    def destroy(*pairs):
        """All of them at once: SIGKILL."""
        pids = [pid for pair in pairs for c in (pair.a, pair.b) if c.process is not None for pid in c.pids()]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
