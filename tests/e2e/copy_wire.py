# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""What passes between two arrays, read from the bytes by RFC 7143 and docs/remote-copy.md and by no code of ours: each
batch of records with the time when its last byte had passed, and the time of its answer. For a line without TLS."""

import struct
import threading
import time

PAGE, ZERO, END, PROMOTE = 1, 2, 3, 4
_LOGIN_ANSWER, _COMMAND, _DATA_OUT, _ANSWER = 0x23, 0x01, 0x05, 0x21
_WRITE_BUFFER = 0x3B
_HEAD = struct.Struct(">4sHBB16sQQQQQQII")  # docs/remote-copy.md, "between the arrays"


class Batch:
    def __init__(self, way, half, cycle, number, term, wall_us, types, sent):
        self.way, self.half, self.cycle, self.term, self.wall_us = way, half, cycle, term, wall_us
        self.number = number  # the same when it is sent again
        self.types, self.sent = types, sent
        self.answered = None  # when its answer had passed
        self.good = None


class _Half:
    """One direction of one connection, cut into PDUs."""

    def __init__(self):
        self.bytes = bytearray()

    def take(self, data):
        """The PDUs that are whole now: (the 48 bytes of the header, the data)."""
        self.bytes += data
        while len(self.bytes) >= 48:
            length = int.from_bytes(self.bytes[5:8], "big")
            whole = 48 + self.bytes[4] * 4 + (length + 3) // 4 * 4
            if len(self.bytes) < whole:
                return
            at = 48 + self.bytes[4] * 4
            header, body = bytes(self.bytes[:48]), bytes(self.bytes[at:at + length])
            del self.bytes[:whole]
            yield header, body


class Listener:
    """Of all connections that are made from now on through the proxies in `ways`. batches: in the order in which they had
    passed. failure: what could not be read."""

    def __init__(self, ways):
        self.batches = []
        self.failure = None
        self.digests = False  # were any agreed on, these bytes could not be read
        self._halves, self._gathering, self._waiting = {}, {}, {}
        self._lock = threading.Lock()
        for number, way in enumerate(ways):
            way.tap = lambda connection, towards, data, number=number, last=way.accepted: \
                connection > last and self._hear((number, connection), towards, data)

    def _hear(self, way, towards, data):
        try:
            self._take(way, towards, data)
        except Exception as error:  # noqa: BLE001 - the proxy's thread must not end by it, and the test must hear of it
            self.failure = self.failure or error

    def _take(self, way, towards, data):
        with self._lock:
            for header, body in self._halves.setdefault((way, towards), _Half()).take(data):
                if towards == "up":
                    self._on_request(way, header, body)
                else:
                    self._on_answer(way, header, body)

    def _on_request(self, way, header, body):
        kind, tag = header[0] & 0x3F, header[16:20]
        if kind == _COMMAND and header[32] == _WRITE_BUFFER:
            self._gathering[way, tag] = [int.from_bytes(header[20:24], "big"), bytearray(body)]
        elif kind == _DATA_OUT and (way, tag) in self._gathering:
            self._gathering[way, tag][1] += body
        wanted, have = self._gathering.get((way, tag), (0, b""))
        if wanted and len(have) >= wanted:
            del self._gathering[way, tag]
            self.batches.append(_batch(way, bytes(have)))
            self._waiting[way, tag] = self.batches[-1]

    def _on_answer(self, way, header, body):
        kind, tag = header[0] & 0x3F, header[16:20]
        if kind == _LOGIN_ANSWER and any(b"Digest=CRC32C" in part for part in body.split(b"\0")):
            self.digests = True
        batch = self._waiting.pop((way, tag), None) if kind == _ANSWER else None
        if batch:
            batch.answered, batch.good = time.monotonic(), header[2] == 0 and header[3] == 0


def _batch(way, data):
    magic, version, half, _, _, _, term, cycle, number, _, wall_us, count, _ = _HEAD.unpack_from(data)
    assert (magic, version) == (b"HFCB", 1)
    types = [data[128 + 32 * i] for i in range(count)]
    return Batch(way, half, cycle, number, term, wall_us, types, time.monotonic())
