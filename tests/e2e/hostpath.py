# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""What a host's multipath layer does, over libnbd: requests go to the controller that serves the volume; when it dies,
hangs or refuses, every request without an answer is sent again to the other. NBD has no such layer of its own.

A request is reported done once, with success, or the path fails as a whole after `give_up` seconds without any
answer. One thread; submit() may be called from any thread."""

import collections
import errno
import os
import select
import threading
import time

import nbd

READ, WRITE, FLUSH, TRIM, ZERO = "read", "write", "flush", "trim", "zero"

# A controller that does not serve the volume (any more) says so with this error, or ends the connection.
REFUSAL = errno.ESHUTDOWN


class Request:
    __slots__ = ("op", "offset", "length", "data", "flags", "done", "sends", "issued", "tag")

    def __init__(self, op, offset=0, length=0, data=None, flags=0, done=None):
        self.op, self.offset, self.data, self.flags, self.done = op, offset, data, flags, done
        self.length = len(data) if data is not None else length
        self.sends, self.issued = 0, 0.0


class _Session:
    def __init__(self, handle, target):
        self.handle, self.target = handle, target
        self.in_flight = {}
        self.alive = True


class HostPath:
    def __init__(self, targets, volume, depth=64, request_timeout=2.0, give_up=60.0, on_event=None):
        """targets: [(name, host, port)], the one to try first leading. on_event(text) is told of every change."""
        self.targets, self.volume, self.depth = list(targets), volume, depth
        self.request_timeout, self.give_up = request_timeout, give_up
        self.on_event = on_event or (lambda text: None)
        self.waiting = collections.deque()
        self.session = None
        self.next_target = 0
        self.failure = None  # why the path gave up; None while it works
        self.errors = []  # (time, controller, op, errno) of every request answered with an error
        self.losses = []  # (time, controller, text) of every session lost
        self.logins = []  # (time, controller)
        self.acknowledged = 0
        self.longest_gap = 0.0  # seconds between two answers while something was under way
        self._last_answer = None
        self._lock = threading.Lock()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"path to {volume}", daemon=True)

    # ---- for the owner ----

    def start(self):
        self._last_answer = time.monotonic()
        self._thread.start()
        return self

    def submit(self, request):
        with self._lock:
            self.waiting.append(request)
        if threading.current_thread() is not self._thread:
            self._wake()

    def stop(self, timeout=90.0):
        """No more is sent; what has no answer stays without one."""
        self._stopping = True
        self._wake()
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "the path's thread ends"

    def wait(self, request, timeout=90.0):
        """Submit one request and wait for it. Returns the data of a READ."""
        event = threading.Event()
        request.done = lambda _: event.set()
        self.submit(request)
        if not event.wait(timeout) or self.failure:
            raise AssertionError(f"{request.op} at {request.offset} has no answer: {self.failure}")
        return bytes(request.data) if request.op == READ else None

    def controller(self):
        session = self.session
        return session.target[0] if session else None

    def first_after(self, moment, times):
        """Seconds from `moment` to the first of `times` (of answers) after the login that followed it."""
        login = min((t for t, _ in self.logins if t > moment), default=moment)
        later = [t for t in times if t > login]
        return min(later) - moment if later else None

    # ---- the thread ----

    def _wake(self):
        try:
            os.write(self._wake_write, b"x")
        except BlockingIOError:
            pass

    def _swallow_wake(self):
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            pass

    def _run(self):
        try:
            while not self._stopping and not self.failure:
                if self.session is None:
                    self._log_in()
                    continue
                self._send()
                self._turn(0.05)
                self._watch()
        except Exception as error:  # noqa: BLE001 - whatever it is, the test must hear of it
            self.failure = f"the path itself failed: {error!r}"
            raise
        finally:
            self._leave("stopped")
            if self.failure:
                with self._lock:
                    left, self.waiting = list(self.waiting), collections.deque()
                for request in left:
                    if request.done:
                        request.done(request)

    def _log_in(self):
        target = self.targets[self.next_target % len(self.targets)]
        handle = nbd.NBD()
        handle.set_strict_mode(0)
        deadline = time.monotonic() + 2
        error = None
        try:
            handle.aio_connect_uri(f"nbd://{target[1]}:{target[2]}/{self.volume}")
            while handle.aio_is_connecting() or handle.aio_is_negotiating():
                if time.monotonic() > deadline or self._stopping:
                    error = "no answer to the login"
                    break
                handle.poll(20)
        except nbd.Error as refused:
            error = str(refused)
        if error is None and handle.aio_is_ready():
            now = time.monotonic()
            self.logins.append((now, target[0]))
            self.on_event(f"logged in to {target[0]}")
            self.session = _Session(handle, target)
            self._stalled_since = now
            return
        self.next_target += 1
        if time.monotonic() - self._last_answer > self.give_up:
            self.failure = f"no controller served {self.volume} for {self.give_up} s; the last said: {error}"
            return
        time.sleep(0.005)

    def _send(self):
        session = self.session
        while len(session.in_flight) < self.depth:
            with self._lock:
                if not self.waiting:
                    return
                request = self.waiting.popleft()
            request.sends += 1
            request.issued = time.monotonic()
            if not session.in_flight:
                self._stalled_since = request.issued
                self._last_answer = request.issued
            key = id(request)
            session.in_flight[key] = request
            try:
                self._issue(session, request, key)
            except nbd.Error as error:
                self._leave(str(error))
                return

    def _issue(self, session, request, key):
        def answered(error):
            if session.alive and key in session.in_flight:
                self._on_answer(session, session.in_flight.pop(key), buffer, error.value if error else 0)
            return 1

        handle, buffer = session.handle, None
        if request.op == READ:
            buffer = nbd.Buffer(request.length)
            handle.aio_pread(buffer, request.offset, completion=answered)
        elif request.op == WRITE:
            buffer = nbd.Buffer.from_bytearray(request.data)
            handle.aio_pwrite(buffer, request.offset, completion=answered, flags=request.flags)
        elif request.op == FLUSH:
            handle.aio_flush(completion=answered)
        elif request.op == TRIM:
            handle.aio_trim(request.length, request.offset, completion=answered, flags=request.flags)
        else:
            handle.aio_zero(request.length, request.offset, completion=answered, flags=request.flags)

    def _on_answer(self, session, request, buffer, error):
        now = time.monotonic()
        if error == errno.ENOTCONN:
            with self._lock:  # libnbd's own word for "the connection was lost"; nobody refused anything
                self.waiting.appendleft(request)
            return
        if error:
            self.errors.append((now, session.target[0], request.op, error))
            self.on_event(f"{session.target[0]} answered {request.op} with {errno.errorcode.get(error, error)}")
            with self._lock:
                self.waiting.appendleft(request)
            session.alive = False  # left in _watch(): the other controller may serve the volume
            return
        if self._last_answer is not None:
            self.longest_gap = max(self.longest_gap, now - self._last_answer)
        self._last_answer = self._stalled_since = now
        self.acknowledged += 1
        if request.op == READ:
            request.data = buffer.to_bytearray()
        if request.done:
            request.done(request)

    def _turn(self, seconds):
        """Hear the target for so long at most, or until submit() wakes the thread."""
        session = self.session
        if session is None:
            return
        handle = session.handle
        try:
            direction = handle.aio_get_direction()
            events = 0
            if direction & nbd.AIO_DIRECTION_READ:
                events |= select.POLLIN
            if direction & nbd.AIO_DIRECTION_WRITE:
                events |= select.POLLOUT
            poll = select.poll()
            poll.register(handle.aio_get_fd(), events)
            poll.register(self._wake_read, select.POLLIN)
            for descriptor, seen in poll.poll(seconds * 1000):
                if descriptor == self._wake_read:
                    self._swallow_wake()
                elif seen & (select.POLLIN | select.POLLHUP | select.POLLERR):
                    handle.aio_notify_read()
                elif seen & select.POLLOUT:
                    handle.aio_notify_write()
        except nbd.Error as error:
            self._leave(str(error))

    def _watch(self):
        session = self.session
        if session is None:
            return
        if not session.alive:
            self._leave("the controller refused a request")
        elif session.handle.aio_is_dead() or session.handle.aio_is_closed():
            self._leave("the connection was lost")
        elif session.in_flight and time.monotonic() - self._stalled_since > self.request_timeout:
            self._leave(f"no answer for {self.request_timeout} s")

    def _leave(self, why):
        session, self.session = self.session, None
        if session is None:
            return
        session.alive = False
        if not self._stopping:
            self.losses.append((time.monotonic(), session.target[0], why))
            self.on_event(f"left {session.target[0]}: {why}")
        if not session.in_flight and not self.waiting:
            self._last_answer = time.monotonic()  # an idle path has not been waiting for anybody
        # In the order in which they were issued, before anything newer.
        with self._lock:
            for request in sorted(session.in_flight.values(), key=lambda r: r.issued, reverse=True):
                self.waiting.appendleft(request)
        session.in_flight.clear()
        self.next_target = self.targets.index(session.target) + 1
        session.handle = None  # closes it
