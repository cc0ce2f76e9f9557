# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""A host that remembers every write that was acknowledged, and can tell whether all of them are still there.

Every 512-byte sector it writes says which volume, sector and write it belongs to, sixteen times over, so a lost, stale,
misplaced or torn sector is seen as such. Requests under way never overlap, so for each sector there is exactly one
right answer: the stamp of its last acknowledged write. The same goes for the reads that it makes meanwhile."""

import random
import struct
import threading
import time

from holdfast import PATIENCE, wait_for
from hostpath import FLUSH, READ, WRITE, ZERO, HostPath, Request

SECTOR = 512
_STAMP = struct.Struct("<8sQQQ")  # magic, volume's number, sector, stamp: 32 bytes, 16 times
MAGIC = b"HFstamp\n"


def sector_bytes(volume_id, sector, stamp):
    return _STAMP.pack(MAGIC, volume_id, sector, stamp) * (SECTOR // _STAMP.size)


def stamp_of(data, volume_id, sector):
    """The stamp in a sector's 512 bytes; 0 when it is all zeros; a sentence when it is neither."""
    if not any(data):
        return 0
    magic, volume, number, stamp = _STAMP.unpack_from(data)
    if magic != MAGIC:
        return f"no stamp but {bytes(data[:16])!r}"
    if volume != volume_id or number != sector:
        return f"the bytes of sector {number} of volume {volume}"
    if data != data[:_STAMP.size] * (SECTOR // _STAMP.size):
        return f"torn inside write {stamp}"
    return stamp


class Load:
    """Random verified I/O on one volume through a HostPath until stop() or `limit` acknowledged requests."""

    def __init__(self, targets, volume, size, depth=16, seed=1, limit=None, writes=70, zeroes=3, flushes=2,
                 largest=16, aligned=False, pause=0.0, request_timeout=10.0, give_up=20.0 * PATIENCE, on_event=None,
                 span=None, after=None, path=HostPath):
        """`writes`, `zeroes`, `flushes`: percent of the requests; the rest are reads. `largest`: sectors of one
        request at most. `aligned`: only whole 4 KiB pages. `span`: use the first so many bytes only.
        `path`: how to the controllers: HostPath (NBD) or scsipath.ScsiPath.
        `after`: an earlier load on this volume, whose writes are there already; without it the volume holds zeros."""
        self.volume, self.volume_id = volume, sum(volume.encode())
        self.sectors = (span or size) // SECTOR
        self.generator = random.Random(seed)
        self.depth, self.limit = depth, limit
        self.writes, self.zeroes, self.flushes = writes, zeroes, flushes
        self.largest, self.aligned, self.pause = largest, aligned, pause
        self.stamp = 0
        self.acknowledged = [0] * self.sectors  # the stamp that each sector must hold
        self.in_doubt = {}  # sector -> stamps of writes without an answer, in the end
        if after:
            self.stamp = after.stamp
            self.acknowledged[:] = (after.acknowledged + self.acknowledged)[:self.sectors]
            self.in_doubt = {sector: set(stamps) for sector, stamps in after.in_doubt.items()}
        self.busy = bytearray(self.sectors)
        self.problems = []
        self.write_count = self.read_count = self.zero_count = self.flush_count = 0
        self.write_times = []  # (issued, acknowledged) of the writes, for takeover figures
        self.path = path(targets, volume, depth=depth, request_timeout=request_timeout, give_up=give_up,
                         on_event=on_event)
        self._pending = {}
        self._issued = 0
        self._going = True
        self._finished = threading.Event()
        self._lock = threading.RLock()

    def start(self):
        self.path.start()
        for _ in range(self.depth):
            self._next()
        return self

    def run_for(self, seconds):
        time.sleep(seconds)
        self.check_alive()
        return self

    def check_alive(self):
        assert not self.path.failure, self.path.failure
        assert not self.problems, "\n".join(self.problems[:10])

    def wait_acknowledged(self, count, timeout=20.0):
        """Until so many MORE requests have been answered."""
        goal = self.path.acknowledged + count
        timeout *= PATIENCE
        deadline = time.monotonic() + timeout
        while self.path.acknowledged < goal:
            self.check_alive()
            if time.monotonic() > deadline:
                raise AssertionError(f"only {count - (goal - self.path.acknowledged)} of {count} requests on "
                                     f"{self.volume} were answered within {timeout} s; events: {self.path.losses[-5:]}")
            time.sleep(0.005)
        return self

    def stop(self, timeout=30.0):
        """Let what is under way end, then leave."""
        with self._lock:
            self._going = False
            if not self._pending:
                self._finished.set()
        ended = self._finished.wait(timeout * PATIENCE)
        self.path.stop()
        self.check_alive()
        assert ended, f"{len(self._pending)} requests on {self.volume} have no answer; {self.path.losses[-5:]}"
        return self

    def abandon(self):
        """Leave now, as a host that dies; what had no answer is in doubt."""
        with self._lock:
            self._going = False
        self.path.stop()
        for request, (first, count, stamp) in self._pending.values():
            if request.op in (WRITE, ZERO):
                for sector in range(first, first + count):
                    self.in_doubt.setdefault(sector, set()).add(stamp)
        self._pending.clear()
        return self

    # ---- the stream of requests ----

    def _pick(self):
        for _ in range(200):
            if self.aligned:
                count = 8 * self.generator.randint(1, max(1, self.largest // 8))
                first = self.generator.randrange(0, self.sectors - count + 1, 8)
            else:
                count = self.generator.randint(1, self.largest)
                first = self.generator.randrange(0, self.sectors - count + 1)
            if not any(self.busy[first:first + count]):
                return first, count
        return None

    def _next(self):
        with self._lock:
            if not self._going or (self.limit and self._issued >= self.limit):
                if not self._pending:
                    self._finished.set()
                return
            dice = self.generator.randrange(100)
            place = self._pick()
            if dice < self.flushes or place is None:
                request, note = Request(FLUSH), (0, 0, 0)
            else:
                first, count = place
                self.busy[first:first + count] = b"\1" * count
                offset, length = first * SECTOR, count * SECTOR
                if dice < self.flushes + self.zeroes:
                    request, note = Request(ZERO, offset, length), (first, count, 0)
                elif dice < self.flushes + self.zeroes + self.writes:
                    self.stamp += 1
                    data = b"".join(sector_bytes(self.volume_id, s, self.stamp) for s in range(first, first + count))
                    request, note = Request(WRITE, offset, data=bytearray(data)), (first, count, self.stamp)
                else:
                    request, note = Request(READ, offset, length), (first, count, 0)
            request.done = self._done
            self._issued += 1
            self._pending[id(request)] = (request, note)
        request.issued = time.monotonic()
        self.path.submit(request)

    def _done(self, request):
        if self.path.failure:
            self._finished.set()
            return
        now = time.monotonic()
        with self._lock:
            _, (first, count, stamp) = self._pending.pop(id(request))
            if request.op == WRITE:
                self.acknowledged[first:first + count] = [stamp] * count
                self.write_count += 1
                self.write_times.append((request.issued, now))
            elif request.op == ZERO:
                self.acknowledged[first:first + count] = [0] * count
                self.zero_count += 1
            elif request.op == READ:
                self.read_count += 1
                self._compare(request.data, first, count, f"a read through {self.path.controller()}")
            else:
                self.flush_count += 1
            if self.in_doubt and request.op in (WRITE, ZERO):
                for sector in range(first, first + count):
                    self.in_doubt.pop(sector, None)
            self.busy[first:first + count] = bytes(count)
        if self.pause:
            time.sleep(self.pause)
        self._next()

    # ---- the judgement ----

    def _compare(self, data, first, count, where):
        wrong = 0
        for number in range(count):
            sector = first + number
            got = stamp_of(data[number * SECTOR:(number + 1) * SECTOR], self.volume_id, sector)
            want = self.acknowledged[sector]
            if got == want or got in self.in_doubt.get(sector, ()):
                continue
            wrong += 1
            if len(self.problems) < 100:
                kind = "LOST or stale" if isinstance(got, int) and got < want else "wrong"
                self.problems.append(f"{self.volume} sector {sector}: {kind}: write {want} was acknowledged, "
                                     f"{where} found {got}")
        return wrong

    def verify(self, pread, where, chunk=256 * 1024):
        """Compare every sector with `pread(offset, length)`; returns how many are wrong, and fails on any."""
        wrong = self.count_wrong(pread, where, chunk)
        assert wrong == 0, f"{wrong} of {self.sectors} sectors wrong:\n" + "\n".join(self.problems[:10])
        return self

    def count_wrong(self, pread, where, chunk=256 * 1024):
        wrong = 0
        for offset in range(0, self.sectors * SECTOR, chunk):
            length = min(chunk, self.sectors * SECTOR - offset)
            data = pread(offset, length)
            if len(data) < length:
                data = bytes(data) + bytes(length - len(data))
            wrong += self._compare(data, offset // SECTOR, length // SECTOR, where)
        return wrong

    def verify_through(self, controller):
        handle = controller.connect(self.volume)
        try:
            return self.verify(lambda offset, length: handle.pread(length, offset), f"controller {controller.name}")
        finally:
            handle.shutdown()

    def written_sectors(self):
        return sum(1 for stamp in self.acknowledged if stamp)

    def first_answer_after(self, moment):
        """Seconds from `moment` until a write was answered by the controller that the path went to after it (by any,
        when it stayed where it was): what the host saw of a takeover."""
        return wait_for("an answer after the path's login",
                        lambda: self.path.first_after(moment, [done for _, done in list(self.write_times)]))
