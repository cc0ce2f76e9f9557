# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""A TCP proxy that stands in for a cable: it can be cut, stall, be slow, or break in the middle of a message. Several
proxies may stand for ways over one long wire, whose delay and bandwidth they share.

One thread for all connections of a proxy. `towards` in the limits is "up" (what the side that connected says) or
"down"."""

import collections
import select
import socket
import threading
import time

CHUNK = 64 * 1024
WAITING_S = 0.02  # how long bytes wait for the wire at most; then the proxies on it take no more from their senders


def _number(end):
    return end if isinstance(end, int) else end.fileno()


def ready(readers, writers, seconds):
    """Which of these (sockets, pipes, numbers) can be read, and written. poll(), not select(): the numbers of a test that
    held thousands of sessions before this one pass 1,023, where select() ends."""
    poll, wanted = select.poll(), {}
    for ends, event in ((readers, select.POLLIN), (writers, select.POLLOUT)):
        for end in ends:
            wanted[_number(end)] = wanted.get(_number(end), 0) | event
    for number, events in wanted.items():
        poll.register(number, events)  # ValueError for a socket that was closed: its number is -1
    seen = dict(poll.poll(seconds * 1000))
    broken = select.POLLHUP | select.POLLERR
    return ({end for end in readers if seen.get(_number(end), 0) & (select.POLLIN | broken)},
            {end for end in writers if seen.get(_number(end), 0) & (select.POLLOUT | broken)})


class Wire:
    """So many seconds each way, and so many bytes a second each way for all connections of all proxies on it; None: as
    fast as they come. Both may be changed at any time."""

    def __init__(self, delay=0.0, bandwidth=None):
        self.delay, self.bandwidth = delay, bandwidth
        self._free = {"up": 0.0, "down": 0.0}  # when the last byte so far has left its end
        self._lock = threading.Lock()

    def waiting(self, towards, now):
        """Seconds until what was put on the wire so far has left its end."""
        return max(0.0, self._free[towards] - now) if self.bandwidth else 0.0

    def put(self, towards, count, now):
        """When `count` bytes more are at the far end."""
        with self._lock:
            start = max(now, self._free[towards])
            self._free[towards] = start + count / self.bandwidth if self.bandwidth else now
            return self._free[towards] + self.delay


class _Flow:
    """One direction of one connection."""

    def __init__(self, source, sink, towards, number):
        self.source, self.sink, self.towards = source, sink, towards
        self.number = number  # of its connection
        self.queue = collections.deque()  # (time at which it may go on, bytes)
        self.size = 0
        self.ended = False


class Proxy:
    def __init__(self, port, target_port, host="127.0.0.1", wire=None):
        """wire: one that other proxies use too."""
        self.port, self.target = port, (host, target_port)
        self.wire = wire or Wire()
        self.listener = socket.create_server((host, port))
        self.listener.setblocking(False)
        self.flows = []
        self.is_cut = False
        self.stalled = ()  # the directions in which nothing passes
        self.tap = None  # called with (connection's number, towards, bytes) of all that passes
        self.cut_after = None  # (towards, bytes still to pass)
        self.passed = {"up": 0, "down": 0}
        self.accepted = 0
        self._lock = threading.RLock()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name=f"proxy {port}", daemon=True)
        self._thread.start()

    @property
    def delay(self):
        return self.wire.delay

    @delay.setter
    def delay(self, seconds):
        self.wire.delay = seconds

    # ---- the faults ----

    def cut(self):
        """All connections end with a reset, and no new one is let in."""
        with self._lock:
            self.is_cut = True
            self._drop_all()

    def stall(self, *towards):
        """Connections stay, nothing passes (that way; both, when none is named); the far end is not told."""
        self.stalled = towards or ("up", "down")

    def break_connections(self):
        """Every connection ends now; new ones are welcome."""
        with self._lock:
            self._drop_all()

    def turn_to(self, target_port):
        """Every connection ends; new ones go there."""
        with self._lock:
            self.target = (self.target[0], target_port)
            self._drop_all()

    def cut_in(self, towards, count):
        """Pass `count` more bytes in that direction, over all connections, then cut: a message arrives in part."""
        with self._lock:
            self.cut_after = [towards, count]

    def heal(self):
        with self._lock:
            self.is_cut, self.stalled = False, ()
            self.wire.delay, self.wire.bandwidth, self.cut_after = 0.0, None, None

    def end(self):
        self._ending = True
        self._thread.join(5)

    # ---- the thread ----

    def _drop_all(self):
        for flow in self.flows:
            for end in (flow.source, flow.sink):
                try:
                    # SO_LINGER with no time: a reset, as a cable's end would give after the next packet.
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                except OSError:
                    pass
                end.close()
        self.flows = []

    def _accept(self):
        try:
            near, _ = self.listener.accept()
        except BlockingIOError:
            return
        if self.is_cut:
            near.close()
            return
        self.accepted += 1
        try:
            far = socket.create_connection(self.target, timeout=1)
        except OSError:
            near.close()
            return
        for end in (near, far):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.flows += [_Flow(near, far, "up", self.accepted), _Flow(far, near, "down", self.accepted)]

    def _drop(self, flow):
        """A connection ends as a whole once one of its directions has."""
        pair = [f for f in self.flows if f.source in (flow.source, flow.sink)]
        self.flows = [f for f in self.flows if f not in pair]
        flow.source.close()
        flow.sink.close()

    def _room(self):
        """The most that a flow holds: what is on its way, and 1 MiB."""
        return 16 * CHUNK + int((self.wire.bandwidth or 0) * self.wire.delay)

    def _read(self, flow):
        try:
            data = flow.source.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            flow.ended = True
            return
        flow.queue.append((self.wire.put(flow.towards, len(data), time.monotonic()), data))
        flow.size += len(data)

    def _write(self, flow, now):
        while flow.queue and flow.queue[0][0] <= now:
            due, data = flow.queue.popleft()
            limit = self.cut_after if self.cut_after and self.cut_after[0] == flow.towards else None
            part = data[:limit[1]] if limit else data
            try:
                sent = flow.sink.send(part) if part else 0
            except BlockingIOError:
                flow.queue.appendleft((due, data))
                return
            except OSError:
                flow.ended = True
                flow.queue.clear()
                return
            flow.size -= sent
            if self.tap and sent:
                self.tap(flow.number, flow.towards, bytes(data[:sent]))
            self.passed[flow.towards] += sent
            if limit:
                limit[1] -= sent
                if limit[1] <= 0:
                    time.sleep(0.02)  # let the far end take what has passed before the reset discards it
                    self.cut()
                    return
            if sent < len(data):
                flow.queue.appendleft((due, data[sent:]))
                return

    def _run(self):
        while not self._ending:
            with self._lock:
                now = time.monotonic()
                stalled = self.stalled
                readers = [self.listener]
                writers = []
                soonest = 0.02
                for flow in list(self.flows):
                    if flow.ended and not flow.queue:
                        self._drop(flow)
                        continue
                    if flow.towards in stalled or flow not in self.flows:
                        continue
                    waiting = self.wire.waiting(flow.towards, now)
                    if waiting > WAITING_S:
                        soonest = min(soonest, waiting - WAITING_S)
                    elif not flow.ended and flow.size < self._room():
                        readers.append(flow.source)
                    if flow.queue:
                        if flow.queue[0][0] <= now:
                            writers.append(flow.sink)
                        else:
                            soonest = min(soonest, flow.queue[0][0] - now)
            try:
                readable, writable = ready(readers, writers, soonest)
            except (ValueError, OSError):
                continue  # cut from another thread meanwhile
            with self._lock:
                if self.listener in readable:
                    self._accept()
                now = time.monotonic()
                for flow in list(self.flows):
                    if flow in self.flows and flow.towards not in self.stalled and flow.source in readable:
                        self._read(flow)
                for flow in list(self.flows):
                    if flow in self.flows and flow.towards not in self.stalled and \
                            (flow.sink in writable or flow.source in readable):
                        self._write(flow, now)
        with self._lock:
            self._drop_all()
            self.listener.close()


class Cables:
    """The four ways between the two controllers of a pair, each through a proxy. Make it before the pair starts."""

    def __init__(self, pair, free_port, warden=True):
        self.link = {}
        self.warden = {}
        for reader, peer in (("a", pair.b), ("b", pair.a)):
            port = free_port()
            self.link[reader] = Proxy(port, peer.link)
            pair.reached[reader, "link"] = port
            if warden:
                port = free_port()
                self.warden[reader] = Proxy(port, peer.warden)
                pair.reached[reader, "warden"] = port

    def all(self):
        return [*self.link.values(), *self.warden.values()]

    def links(self):
        return list(self.link.values())

    def end(self):
        for proxy in self.all():
            proxy.end()
