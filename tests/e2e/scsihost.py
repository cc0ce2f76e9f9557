# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""SCSI hosts for the tests: sessions of libiscsi in one process of tests/iscsi/scsi_host.c, told from here what to send.
A command is sent without waiting for it; its answer is waited for with a bound. Every answer is shown as it came: unit
attentions are neither hidden nor retried."""

import collections
import os
import struct
import subprocess
import time

import holdfast
from proxy import ready

GOOD, CHECK, CONDITION_MET, BUSY, CONFLICT, FULL, ABORTED = 0, 2, 4, 8, 0x18, 0x28, 0x40
CANCELLED = "cancelled"  # the session ended first

# (sense key, ASC, ASCQ)
UNIT_ATTENTION = 6
ACCESS_STATE_CHANGED = (6, 0x2A, 0x06)
RESERVATIONS_PREEMPTED = (6, 0x2A, 0x03)
RESERVATIONS_RELEASED = (6, 0x2A, 0x04)
REGISTRATIONS_PREEMPTED = (6, 0x2A, 0x05)
MODE_CHANGED = (6, 0x2A, 0x01)
CLEARED_BY_ANOTHER = (6, 0x2F, 0x00)
BUS_DEVICE_RESET = (6, 0x29, 0x03)
PORT_UNAVAILABLE = (2, 0x04, 0x0C)
MISCOMPARE = (0xE, 0x1D, 0x00)

# Responses to task management (RFC 7143 section 11.6.1).
COMPLETE, NO_TASK, NO_LUN, NOT_SUPPORTED, REJECTED = 0, 1, 2, 5, 255

WE, EA, WE_RO, EA_RO, WE_AR, EA_AR = 1, 3, 5, 6, 7, 8  # types of persistent reservations


def program(name):
    """A program of tests/iscsi or bench, of the same build as the one under test."""
    path = holdfast.BINARY.parent / name
    assert path.is_file(), f"{path} is not built: it takes libiscsi-dev"
    return path


class Answer:
    """What came back for one command."""

    def __init__(self, status, sense=b"", residual=0, data=b""):
        self.status, self.sense_bytes, self.residual, self.data = status, sense, residual, data

    @property
    def sense(self):
        """(key, ASC, ASCQ) of fixed or descriptor sense data; None without any."""
        data = self.sense_bytes
        if len(data) < 4:
            return None
        if data[0] & 0x7F in (0x72, 0x73):
            return data[1] & 15, data[2], data[3]
        return (data[2] & 15, data[12], data[13]) if len(data) >= 14 else (data[2] & 15, 0, 0)

    @property
    def field(self):
        """(in the CDB, byte, bit or None) of the field pointer of ILLEGAL REQUEST (SPC-4 4.5.2.4.2); None without."""
        data = self.sense_bytes
        specific = data[15:18] if len(data) >= 18 and data[0] & 0x7F in (0x70, 0x71) else b""
        if len(data) > 8 and data[0] & 0x7F in (0x72, 0x73):
            at = 8
            while at + 8 <= len(data):
                if data[at] == 2:
                    specific = data[at + 4:at + 7]
                at += 2 + data[at + 1]
        if len(specific) < 3 or not specific[0] & 0x80:
            return None
        bit = specific[0] & 7 if specific[0] & 8 else None
        return bool(specific[0] & 0x40), specific[1] << 8 | specific[2], bit

    def __repr__(self):
        sense = self.sense
        return f"<status {self.status}{' sense %x/%02x/%02x' % sense if sense else ''} {len(self.data)} bytes>"


class Hosts:
    """The process; sessions of it are opened with open()."""

    def __init__(self, binary=None):
        self.process = subprocess.Popen([binary or program("tests/iscsi/scsi-host")], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, preexec_fn=holdfast._die_with_parent, bufsize=0)
        os.set_blocking(self.process.stdin.fileno(), False)
        self.answers = {}  # (session, tag) -> Answer or response
        self.lost = {}  # session -> why
        self.said = collections.deque(maxlen=200)
        self._opened = {}
        self._rest = b""
        self._count = 0

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)

    def tag(self):
        self._count += 1
        return f"t{self._count}"

    def tell(self, *words):
        line = (" ".join(str(word) for word in words) + "\n").encode()
        while line:  # it may itself be waiting for us to hear it
            said, free = ready([self.process.stdout], [self.process.stdin], 10)
            if said:
                self._hear(0)
            elif free:
                line = line[os.write(self.process.stdin.fileno(), line):]
            else:
                raise holdfast.Timeout("scsi-host takes no orders")

    def _hear(self, seconds):
        if not ready([self.process.stdout], [], max(0, seconds))[0]:
            return
        data = os.read(self.process.stdout.fileno(), 1 << 20)
        if not data:
            raise AssertionError(f"scsi-host ended with {self.process.wait(5)}; it said: {list(self.said)[-5:]}")
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._understand(line.decode(errors="replace"))

    def _understand(self, line):
        self.said.append(line[:200])
        words = line.split(" ")
        if words[0] == "done":
            status = words[3] if words[3] == CANCELLED else int(words[3])
            sense, data = (bytes.fromhex("" if word == "-" else word) for word in (words[4], words[6]))
            self.answers[words[1], words[2]] = Answer(status, sense, int(words[5]), data)
        elif words[0] == "managed":
            self.answers[words[1], words[2]] = words[3] if words[3] == CANCELLED else int(words[3])
        elif words[0] == "lost":
            self.lost[words[1]] = " ".join(words[2:])
        elif words[0] in ("opened", "closed", "dropped"):
            self._opened[words[1]] = None
        elif words[0] == "refused":
            self._opened[words[1]] = " ".join(words[2:])

    def until(self, what, found, seconds):
        """Hear what is said until found() is not None."""
        deadline = time.monotonic() + seconds
        while found() is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise holdfast.Timeout(f"not within {seconds} s: {what}; said: {list(self.said)[-5:]}")
            self._hear(left)
        return found()

    def open(self, name, url, initiator=None, digest=False):
        """A logged-in Session, or an AssertionError with what the target (or libiscsi) said."""
        why = self.try_open(name, url, initiator, digest)
        assert why is None, f"{name} was not let in: {why}"
        return Session(self, name)

    def try_open(self, name, url, initiator=None, digest=False):
        """None when it was let in, else why not."""
        self._opened.pop(name, None)
        self.lost.pop(name, None)
        self.tell("open", name, url, initiator or f"iqn.2026-11.test:{name}", *(["digest"] if digest else []))
        self.until(f"the login of {name}", lambda: True if name in self._opened else None, 25)
        return self._opened[name]


class Session:
    def __init__(self, hosts, name):
        self.hosts, self.name = hosts, name

    # ---- the plain way ----

    def send(self, cdb, out=None, into=0):
        """Send a CDB; returns a tag for wait()."""
        tag = self.hosts.tag()
        if out is not None:
            self.hosts.tell("send", self.name, tag, cdb.hex(), "out", out.hex() or "-")
        elif into:
            self.hosts.tell("send", self.name, tag, cdb.hex(), "in", into)
        else:
            self.hosts.tell("send", self.name, tag, cdb.hex(), "none")
        return tag

    def wait(self, tag, seconds=10.0):
        answer = self.hosts.until(f"an answer to {self.name}", lambda: self.hosts.answers.get((self.name, tag)), seconds)
        del self.hosts.answers[self.name, tag]
        return answer

    def answered(self, tag, seconds=0.0):
        """Whether the answer has come, or comes within so many seconds."""
        try:
            self.hosts.until("", lambda: self.hosts.answers.get((self.name, tag)), seconds)
        except holdfast.Timeout:
            return False
        return True

    def run(self, cdb, out=None, into=0, seconds=10.0):
        return self.wait(self.send(cdb, out, into), seconds)

    def good(self, cdb, out=None, into=0, seconds=10.0):
        """Its data; anything but GOOD is a failure."""
        answer = self.run(cdb, out, into, seconds)
        assert answer.status == GOOD, f"{self.name}: {cdb.hex()}: {answer}"
        return answer.data

    def manage(self, function, of=None):
        tag = self.hosts.tag()
        self.hosts.tell("manage", self.name, tag, function, *([of] if of else []))
        return tag

    def lost(self, seconds=5.0):
        """Why the session ended; it must, within so many seconds."""
        return self.hosts.until(f"the end of {self.name}", lambda: self.hosts.lost.get(self.name), seconds)

    def close(self):
        self.hosts.tell("close", self.name)

    def drop(self):
        self.hosts.tell("drop", self.name)

    # ---- commands ----

    def test_unit_ready(self, seconds=10.0):
        return self.run(bytes(6), seconds=seconds)

    def clear_attentions(self):
        """The unit attentions that were pending, in their order, until TEST UNIT READY is GOOD."""
        found = []
        for _ in range(16):
            answer = self.test_unit_ready()
            if answer.status == GOOD:
                return found
            assert answer.sense and answer.sense[0] == UNIT_ATTENTION, answer
            found.append(answer.sense)
        raise AssertionError(f"no end of unit attentions: {found}")

    def inquiry(self, page=None, into=1024):
        return self.good(struct.pack(">BBBHB", 0x12, page is not None, page or 0, into, 0), into=into)

    def read(self, lba, blocks=1, block=512, seconds=10.0):
        return self.run(read16(lba, blocks), into=blocks * block, seconds=seconds)

    def write(self, lba, data, block=512, seconds=10.0, fua=False):
        return self.run(write16(lba, len(data) // block, fua), out=data, seconds=seconds)

    def compare_and_write(self, lba, old, new, seconds=10.0):
        return self.run(struct.pack(">BBQ3xBBB", 0x89, 0, lba, 1, 0, 0), out=old + new, seconds=seconds)

    def target_port_groups(self):
        """{group: (state, preferred, [relative port identifiers])} of REPORT TARGET PORT GROUPS (SPC-4 6.37)."""
        data = self.good(struct.pack(">BB4xIBB", 0xA3, 0x0A, 4096, 0, 0), into=4096)
        return port_groups(data)

    def report_groups_raw(self):
        return self.good(struct.pack(">BB4xIBB", 0xA3, 0x0A, 4096, 0, 0), into=4096)

    # ---- persistent reservations (SPC-4 6.15, 6.16) ----

    def pr_out(self, action, key=0, new_key=0, kind=0, aptpl=False, seconds=10.0):
        cdb = struct.pack(">BBB2xIB", 0x5F, action, kind, 24, 0)
        return self.run(cdb, out=struct.pack(">QQ4xB3x", key, new_key, aptpl), seconds=seconds)

    def register(self, key, old=0, aptpl=False):
        return self.pr_out(0, old, key, aptpl=aptpl)

    def reserve(self, key, kind):
        return self.pr_out(1, key, kind=kind)

    def release(self, key, kind):
        return self.pr_out(2, key, kind=kind)

    def clear(self, key):
        return self.pr_out(3, key)

    def preempt(self, key, victim, kind, abort=False):
        return self.pr_out(5 if abort else 4, key, victim, kind)

    def keys(self):
        """(PRgeneration, [keys])"""
        data = self.good(struct.pack(">BB5xHB", 0x5E, 0, 1024, 0), into=1024)
        generation, length = struct.unpack_from(">II", data)
        return generation, list(struct.unpack_from(f">{length // 8}Q", data, 8))

    def reservation(self):
        """(key, type) or None"""
        data = self.good(struct.pack(">BB5xHB", 0x5E, 1, 1024, 0), into=1024)
        length, = struct.unpack_from(">I", data, 4)
        if length == 0:
            return None
        return struct.unpack_from(">Q", data, 8)[0], data[21] & 15

    def full_status(self):
        """[(key, holder, relative port, initiator port's name)] of READ FULL STATUS, sorted by key."""
        data = self.good(struct.pack(">BB5xHB", 0x5E, 3, 4096, 0), into=4096)
        end, at, found = 8 + struct.unpack_from(">I", data, 4)[0], 8, []
        while at < end:
            key, flags, port, more = struct.unpack_from(">Q4xB5xHI", data, at)
            # An iSCSI TransportID with the session's ISID: format 01b, a name that zeros follow.
            name = data[at + 28:at + 24 + more].rstrip(b"\0").decode()
            found.append((key, bool(flags & 1), port, name))
            at += 24 + more
        return sorted(found)


def port_groups(data):
    end, at, groups = 4 + struct.unpack_from(">I", data)[0], 4, {}
    while at < end:
        flags, _, group, _, _, _, count = struct.unpack_from(">BBHBBBB", data, at)
        ports = [struct.unpack_from(">2xH", data, at + 8 + 4 * i)[0] for i in range(count)]
        groups[group] = (flags & 15, bool(flags & 0x80), ports)
        at += 8 + 4 * count
    return groups


def read16(lba, blocks, fua=False):
    return struct.pack(">BBQIBB", 0x88, 8 if fua else 0, lba, blocks, 0, 0)


def write16(lba, blocks, fua=False):
    return struct.pack(">BBQIBB", 0x8A, 8 if fua else 0, lba, blocks, 0, 0)
