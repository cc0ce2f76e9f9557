# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""The second act: a site is destroyed, and the other one has a state that it really had.

Two arrays of two controllers each, 20 ms apart on a narrow line. A program writes numbered transactions over three
volumes of both controllers, each only after the one before it was acknowledged. A controller is killed at each site; one
of them comes back. Then all of the first site is killed at once. The second is failed over and read: it holds the
transactions 1..n without a hole, and the program goes on there."""

import datetime
import signal
import time

import holdfast
from holdfast import MI, Sites, wait_for
from telling import Lost, say, seconds, show_table
from transactions import Program, Wrong, check_no_hole, find

VOLUMES = [("orders", 8 * MI, "a"), ("stock", 8 * MI, "b"), ("journal", 8 * MI, "a")]
NAMES = [name for name, _, _ in VOLUMES]
DELAY_S, BANDWIDTH = 0.02, 4_000_000


class Stage:
    """Two sites, and the databases that stand on them; what the demonstration's main program wants to end, show and
    remove."""

    def __init__(self, **settings):
        # The lease is for machines that fall silent: here all die by a signal, which their parents prove at once.
        self.sites = Sites(delay=DELAY_S, lease="5s", start=False, **settings)
        self.databases = []
        self.pairs = (self.sites.first, self.sites.second)
        self.directory = " ".join(str(pair.directory) for pair in self.pairs)

    def logs(self, lines):
        return "\n".join(f"######## {pair.name}\n{pair.logs(lines)}" for pair in self.pairs)

    def end(self):
        for database in self.databases:
            database.kill()
        for pair in self.pairs:
            pair.end()
        self.sites.end()
        for database in self.databases:
            database.end()

    def remove(self):
        for thing in (*self.databases, *self.pairs):
            thing.remove()


def prepare():
    return Stage(volumes=VOLUMES, bandwidth=BANDWIDTH, memory="7M")


def clock(wall_us):
    return datetime.datetime.fromtimestamp(wall_us / 1e6).strftime("%H:%M:%S.%f")[:-3]


class Watch:
    """What the program and the group have done, told in one line."""

    def __init__(self, sites, program):
        self.sites, self.program = sites, program
        self.sent = {}  # life of a controller -> (bytes over the line, pages sent, falls), the newest

    def look(self):
        groups = []
        for controller in (self.sites.first.a, self.sites.first.b):
            status = controller.status()
            for group in status["groups"] if status else ():
                if group["link"]:
                    self.sent[status["incarnation"]] = group["link"]["sent_bytes"], group["falls"]
                groups.append(group)
        return groups

    def totals(self):
        return [sum(row[i] for row in self.sent.values()) for i in range(2)]

    def tell(self, span):
        """Lets the program run on for `span` seconds."""
        time.sleep(span)
        leader = next((g for g in self.look() if g["leader"]), None)
        if not self.program.running():
            raise Lost(f"the program has stopped: {self.program.failure}")
        where = "the group is between two leaders"
        if leader:
            behind = time.time() - leader["confirmed_wall_us"] / 1e6
            where = f"the second site has cycle {leader['confirmed_cycle']}, {behind * 1000:.0f} ms ago"
        say(f"  {self.program.acknowledged:,} transactions acknowledged; {where}")


def owner_of_copy(sites):
    """The controller of the second array that holds the group."""
    name = wait_for("an owner of the copy", lambda: sites.second.owner(NAMES[0]))
    return sites.second.controller(name)


def refused_at(pair):
    """What a host hears there that wants to write, or None when it may."""
    try:
        handle = pair.a.connect(NAMES[0])
        handle.pwrite(bytes(512), 0)
    except holdfast.nbd.Error as error:
        return error.string.strip().splitlines()[0]
    return None


def start(sites):
    say(f"two arrays, four controllers; {len(VOLUMES)} volumes of both controllers: {', '.join(NAMES)}")
    say(f"between them {DELAY_S * 1000:.0f} ms each way, and {BANDWIDTH / 1e6:.0f} MB/s")
    sites.start()
    say("both arrays are paired; the initial copy runs")
    sites.wait_state(sites.first, "copying", timeout=40)
    say("the initial copy is done: from here on the second site always holds a state of the first")
    refused = refused_at(sites.second)
    if refused is None:
        raise Lost("a host could write at the second site while the first one serves")
    say(f"a host at the second site is refused: {refused}")


def hurt_both(sites, watch):
    first, second = sites.first, sites.second
    watch.tell(2)
    pid = first.b.kill(signal.SIGKILL)
    say(f"kill -9 {pid}: controller b of the first site is gone; a takes over its volume and its part of the cycles")
    first.a.wait_role("solo")
    watch.tell(2)
    sites.wait_state(first, "copying", timeout=30)
    first.b.process.wait(20)
    first.b.start()
    first.wait_paired(20)
    say("controller b of the first site is back, filled while the program ran")
    watch.tell(1.5)
    holder = owner_of_copy(sites)
    pid = holder.kill(signal.SIGKILL)
    say(f"kill -9 {pid}: controller {holder.name} of the second site, which held the copy, is gone for good")
    second.other(holder).wait_role("solo")
    watch.tell(3)
    sites.wait_state(first, "copying", timeout=30)
    watch.tell(2)
    return second.other(holder)


def destroy(sites, program):
    """Returns when it happened, in microseconds of the day's clock."""
    sites.destroy(sites.first)
    moment, acknowledged = time.time_ns() // 1000, program.acknowledged
    say(f"kill -9 of all of the first site, after transaction {acknowledged:,} was acknowledged")
    program.end()
    return moment


def until_consistent(sites):
    """A site that is lost while the copy is being sent anew leaves none, on a machine that is faster than the line."""
    wait_for("a copy that is a state of the first site",
             lambda: any(group["condition"] in ("consistent", "behind") for group in sites.groups(sites.second)), 30)


def fail_over(sites):
    def refused(text):
        say(f"holdfast group failover db: {text}")
        say("it is asked again until the first site has been silent for some seconds")

    text = sites.fail_over(sites.second, on_refusal=refused)
    for line in text.splitlines():
        say(f"holdfast group failover db: {line}")


def read_copy(survivor, program=None, cut_us=None):
    """The last of 1..n. cut_us: all that the program had an answer to before must be there."""
    handles = [survivor.connect(name) for name in NAMES]
    preads = [lambda offset, length, handle=handle: handle.pread(length, offset) for handle in handles]
    found = find(preads, min(size for _, size, _ in VOLUMES))
    last = check_no_hole(found, program.times if program else None, cut_us)
    for handle in handles:
        handle.shutdown()
    return last


def story(stage):
    sites = stage.sites
    start(sites)
    program = Program(sites.first, NAMES, pause=0.001, give_up=20,
                      on_event=lambda volume, text: say(f"    host, {volume}: {text}"))
    watch = Watch(sites, program)
    say("the program runs: transaction n + 1 is written after n was acknowledged, never to two volumes at once")
    try:
        survivor = hurt_both(sites, watch)
        until_consistent(sites)
        moment = destroy(sites, program)
    finally:
        program.end()
    fail_over(sites)
    cut_us = next(g["shown_wall_us"] for g in sites.groups(sites.second) if g["role"] == "failed over")
    last = read_copy(survivor, program, cut_us)
    if last > program.issued:
        raise Wrong(f"transaction {last} is there, which was never written")
    lost = max(program.acknowledged - last, 0)
    lost_s = max(moment - program.times[last + 1], 0) / 1e6 if lost else 0.0
    say(f"read at the second site: transactions 1..{last:,}, no hole; the last acknowledged was {program.acknowledged:,}")
    more = go_on(sites, last)
    say(f"the program goes on at the second site: 1..{more:,}, no hole")
    sent, falls = watch.totals()
    show_table([("transactions acknowledged", f"{program.acknowledged:,}"),
                ("found at the second site", f"1..{last:,}"),
                ("holes", "0"),
                ("acknowledged and lost", f"{lost:,}"),
                ("seconds lost", f"{lost_s:.3f}"),
                ("of them before the cut", "0"),
                ("sent over the line", f"{sent / MI:.1f} MiB"),
                ("fallen to the bitmap", f"{falls}")])


def go_on(sites, last):
    program = Program(sites.second, NAMES, first=last + 1, give_up=20)
    try:
        wait_for("the program to go on", lambda: program.acknowledged > last + 200 or not program.running(), 20)
    finally:
        program.end()
    if program.acknowledged <= last + 200:
        raise Lost(f"the program does not go on at the second site: {program.failure}")
    return check_at_least(sites, program.acknowledged)


def check_at_least(sites, acknowledged):
    survivor = next(c for c in (sites.second.a, sites.second.b) if c.running())
    last = read_copy(survivor)
    if last < acknowledged:
        raise Wrong(f"{acknowledged} was acknowledged at the second site, and {last} is the last there")
    return last
