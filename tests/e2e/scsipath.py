# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""HostPath over iSCSI: what dm-multipath does with a LUN that two controllers show. One session at a time, to the
controller that leads the list or, when that dies, hangs or says that its port is not one to use now, to the other. Unit
attentions, BUSY and TASK SET FULL cost a repetition on the same session, as they do in a SCSI midlayer."""

import struct
import time

import scsihost
from proxy import ready
from hostpath import FLUSH, READ, WRITE, ZERO, HostPath, _Session

BLOCK = 512
PAUSE_SECONDS = 0.01  # before a command that was answered with BUSY or TASK SET FULL goes out again


def targets(pair, volume, first="a"):
    """As Pair.targets(): [(name, URL, None)], the one to try first leading."""
    order = [pair.a, pair.b] if first != "b" else [pair.b, pair.a]
    return [(c.name, c.iscsi_url(volume), None) for c in order]


class ScsiPath(HostPath):
    """targets: [(name, URL, None)]."""

    def __init__(self, targets, volume, **settings):
        super().__init__(targets, volume, **settings)
        self.initiator = f"iqn.2026-11.test:path-to-{volume}"
        self.attentions = []  # (time, controller, sense)
        self.repeated = []  # (time, controller, status)

    def _log_in(self):
        target = self.targets[self.next_target % len(self.targets)]
        hosts = scsihost.Hosts()
        error = hosts.try_open("path", target[1], self.initiator)
        if error is None:
            now = time.monotonic()
            self.logins.append((now, target[0]))
            self.on_event(f"logged in to {target[0]}")
            self.session = _Session(hosts, target)
            self._stalled_since = now
            return
        hosts.end()
        self.next_target += 1
        if time.monotonic() - self._last_answer > self.give_up:
            self.failure = f"no controller served {self.volume} for {self.give_up} s; the last said: {error}"
            return
        time.sleep(0.005)

    def _issue(self, session, request, key):
        lba, count = request.offset // BLOCK, request.length // BLOCK
        fua = bool(request.flags & 1)
        path = scsihost.Session(session.handle, "path")
        if request.op == READ:
            tag = path.send(scsihost.read16(lba, count, fua), into=request.length)
        elif request.op == WRITE:
            tag = path.send(scsihost.write16(lba, count, fua), out=bytes(request.data))
        elif request.op == FLUSH:
            tag = path.send(struct.pack(">BBQIBB", 0x91, 0, 0, 0, 0, 0))
        elif request.op == ZERO:
            tag = path.send(struct.pack(">BBQIBB", 0x93, 0, lba, count, 0, 0), out=bytes(BLOCK))
        else:
            raise AssertionError(f"{request.op} has no SCSI command here")
        request.data = None if request.op == READ else request.data
        session.in_flight[key].tag = tag

    def _turn(self, seconds):
        session = self.session
        if session is None:
            return
        hosts = session.handle
        said, _ = ready([hosts.process.stdout, self._wake_read], [], seconds)
        if self._wake_read in said:
            self._swallow_wake()
        if hosts.process.stdout in said:
            hosts._hear(0)
        for key, request in list(session.in_flight.items()):
            answer = hosts.answers.pop(("path", request.tag), None)
            if answer is not None and session.alive:
                self._on_scsi(session, session.in_flight.pop(key), answer)
        if "path" in hosts.lost:
            self._leave(hosts.lost["path"])

    def _on_scsi(self, session, request, answer):
        if answer.status == scsihost.GOOD:
            if request.op == READ:
                request.data = bytearray(answer.data)
                assert len(answer.data) == request.length, "a READ was short"
            self._on_answer(session, request, _Held(request.data), 0)
            return
        now, sense = time.monotonic(), answer.sense
        with self._lock:
            self.waiting.appendleft(request)
        if answer.status == scsihost.CANCELLED:
            return
        if sense and sense[0] == scsihost.UNIT_ATTENTION:
            self.attentions.append((now, session.target[0], sense))
        elif answer.status in (scsihost.BUSY, scsihost.FULL):
            self.repeated.append((now, session.target[0], answer.status))
            time.sleep(PAUSE_SECONDS)
        else:
            self.errors.append((now, session.target[0], request.op, answer))
            self.on_event(f"{session.target[0]} answered {request.op} with {answer}")
            session.alive = False

    def _watch(self):
        session = self.session
        if session is None:
            return
        if not session.alive:
            self._leave("the controller refused a request")
        elif session.in_flight and time.monotonic() - self._stalled_since > self.request_timeout:
            self._leave(f"no answer for {self.request_timeout} s")

    def _leave(self, why):
        hosts = self.session.handle if self.session else None
        super()._leave(why)
        if hosts:
            hosts.end()


class _Held:
    """What HostPath wants of a libnbd buffer."""

    def __init__(self, data):
        self.data = data

    def to_bytearray(self):
        return self.data
