# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""A program whose transactions depend on each other, and the judge of a copy of its volumes.

Transaction n is one sector of one volume, and is written only after n - 1 was acknowledged; the volumes take turns, so
there is never a write to two of them under way. A copy is a state that the volumes really had, together, if and only if
the transactions in it are 1..n for some n. Each has a sector of its own: nothing is written over, a hole cannot hide."""

import struct
import threading
import time
import zlib

from hostpath import WRITE, HostPath, Request

SECTOR = 512
_HEAD = struct.Struct("<16sQQ")  # magic, number, wall time in microseconds
_MAGIC = b"transaction\0\0\0\0\0"


def record(number, wall_us):
    head = _HEAD.pack(_MAGIC, number, wall_us)
    body = head + struct.pack("<Q", number) * ((SECTOR - len(head) - 8) // 8)
    body += bytes(SECTOR - 4 - len(body))
    return body + struct.pack("<I", zlib.crc32(body))


class Wrong(AssertionError):
    """The copy is not a state that the volumes had."""


class Program:
    """Runs until end(), or until no controller of the site answers for `give_up` seconds."""

    def __init__(self, pair, volumes, first=1, pause=0.0, give_up=60.0, on_event=None):
        """volumes: names, or (pair, name) where they are at several arrays; first: the number to go on from.
        on_event(volume, text) is told what happens on the paths."""
        places = [place if isinstance(place, tuple) else (pair, place) for place in volumes]
        self.volumes = [at.volumes[name] for at, name in places]
        self.limit = len(volumes) * min(v.size for v in self.volumes) // SECTOR
        self.paths = []
        for (at, _), volume in zip(places, self.volumes):
            told = (lambda text, name=volume.name: on_event(name, text)) if on_event else None
            self.paths.append(HostPath(at.targets(volume.owner), volume.name, give_up=give_up, on_event=told).start())
        self.first, self.pause = first, pause
        self.acknowledged = first - 1
        self.issued = first - 1
        self.times = {}  # number -> when it was acknowledged, in microseconds of the day's clock
        self.failure = None
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="transactions", daemon=True)
        self._thread.start()

    def _run(self):
        number = self.first
        try:
            while not self._ending and number < self.limit:
                self.issued = number
                which, place = place_of(number, len(self.paths))
                self.paths[which].wait(Request(WRITE, place, data=bytearray(record(number, time.time_ns() // 1000))))
                self.times[number] = time.time_ns() // 1000
                self.acknowledged = number
                number += 1
                if self.pause:
                    time.sleep(self.pause)
        except Exception as error:  # noqa: BLE001 - the site is gone, or the test says what it is
            self.failure = str(error)

    def running(self):
        return self._thread.is_alive()

    def end(self):
        """No transaction begins any more; what is under way is answered, or never will be."""
        self._ending = True
        for path in self.paths:
            path.give_up = 0
        self._thread.join(5)
        for path in self.paths:
            path.stop()


def place_of(number, volume_count):
    """(which volume, offset) of a transaction."""
    return number % volume_count, number // volume_count * SECTOR


def find(preads, size, chunk=1024 * 1024):
    """The numbers found; preads: a function (offset, length) -> bytes for each volume, in the program's order. Raises
    Wrong for a sector that holds anything but zeros or the transaction whose place it is."""
    found = set()
    for which, pread in enumerate(preads):
        for offset in range(0, size, chunk):
            data = bytes(pread(offset, min(chunk, size - offset)))
            for at in range(0, len(data), SECTOR):
                sector = data[at:at + SECTOR]
                if sector == _ZEROS:
                    continue
                magic, number, wall_us = _HEAD.unpack_from(sector)
                if magic != _MAGIC or sector != record(number, wall_us) or \
                        place_of(number, len(preads)) != (which, offset + at):
                    raise Wrong(f"volume {which}, offset {offset + at}: this is no transaction: {sector[:32].hex()}")
                found.add(number)
    return found


def check_no_hole(found, times=None, cut_us=None):
    """The last of 1..n. Raises Wrong when one of them is missing, or one that was acknowledged before the cut."""
    last = max(found, default=0)
    missing = [number for number in range(1, last + 1) if number not in found]
    if missing:
        raise Wrong(f"{len(missing)} of the transactions 1..{last} are missing, the first: {missing[0]}")
    if cut_us is not None:
        early = [number for number, us in times.items() if us < cut_us and number not in found]
        if early:
            raise Wrong(f"transaction {min(early)} was acknowledged before the cut, and is not there")
    return last


_ZEROS = bytes(SECTOR)
