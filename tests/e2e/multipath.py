# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""An NBD server that stands where a host's multipath layer does: programs that know one address (fio, nbdcopy) connect
here, and each of their requests is carried to the controller that serves the volume, again through the other one if
need be. It notes a checksum of every sector whose write was acknowledged to the program."""

import socket
import struct
import threading
import time
import zlib

from hostpath import FLUSH, READ, TRIM, WRITE, ZERO, HostPath, Request

_REQUEST = struct.Struct(">IHHQQI")
_OPS = {0: READ, 1: WRITE, 3: FLUSH, 4: TRIM, 6: ZERO}
_FLAGS = 1 | 4 | 8 | 32 | 64  # HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES
_ZERO_SECTOR = zlib.crc32(bytes(512))


def _take(connection, count):
    data = bytearray(count)
    view, have = memoryview(data), 0
    while have < count:
        got = connection.recv_into(view[have:])
        if got == 0:
            raise EOFError
        have += got
    return data


class Multipath:
    def __init__(self, port, targets, volume, size, depth=64, give_up=20.0, request_timeout=2.0, on_event=None):
        self.targets, self.volume, self.size = targets, volume, size
        self.depth, self.give_up, self.request_timeout, self.on_event = depth, give_up, request_timeout, on_event
        self.sums = {}  # sector -> CRC-32 of what was acknowledged last
        self.writes = 0  # acknowledged to the program
        self.write_bytes = 0
        self.answers = []  # times at which writes were acknowledged
        self.paths = []
        self.failure = None
        self._lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", port))
        self.uri = f"nbd://127.0.0.1:{port}/{volume}"
        threading.Thread(target=self._accept, name="multipath", daemon=True).start()

    def end(self):
        self.listener.close()
        for path in self.paths:
            path.stop()

    def first_answer_after(self, moment):
        """Seconds from `moment` until a write was answered by the controller that the host went to after it."""
        found = [path.first_after(moment, self.answers) for path in self.paths]
        return min((seconds for seconds in found if seconds is not None), default=None)

    def count_wrong(self, pread, chunk=1024 * 1024):
        """How many acknowledged sectors `pread(offset, length)` does not give back."""
        wrong = 0
        for offset in range(0, self.size, chunk):
            data = pread(offset, min(chunk, self.size - offset))
            for number in range(len(data) // 512):
                want = self.sums.get(offset // 512 + number)
                if want is not None and zlib.crc32(data[number * 512:(number + 1) * 512]) != want:
                    wrong += 1
        return wrong

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        path = HostPath(self.targets, self.volume, depth=self.depth, give_up=self.give_up,
                        request_timeout=self.request_timeout, on_event=self.on_event)
        try:
            if self._negotiate(connection):
                path.start()
                self.paths.append(path)
                self._transmit(connection, path)
        except (EOFError, ConnectionError):
            pass
        finally:
            connection.close()
            if path in self.paths:
                path.stop()

    def _negotiate(self, connection):
        """Fixed newstyle with EXPORT_NAME, INFO and GO; everything else is refused as unsupported."""
        connection.sendall(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3))
        _take(connection, 4)
        while True:
            magic, option, length = struct.unpack(">8sII", _take(connection, 16))
            if magic != b"IHAVEOPT" or length > 65536:
                raise EOFError
            _take(connection, length)
            if option == 1:
                connection.sendall(struct.pack(">QH", self.size, _FLAGS))
                return True
            if option in (6, 7):
                info = struct.pack(">HQH", 0, self.size, _FLAGS)
                connection.sendall(struct.pack(">QIII", 0x3E889045565A9, option, 3, len(info)) + info)
                connection.sendall(struct.pack(">QIII", 0x3E889045565A9, option, 1, 0))
                if option == 7:
                    return True
            elif option == 2:
                connection.sendall(struct.pack(">QIII", 0x3E889045565A9, option, 1, 0))
                return False
            else:
                connection.sendall(struct.pack(">QIII", 0x3E889045565A9, option, 0x80000001, 0))

    def _transmit(self, connection, path):
        sending = threading.Lock()

        def answer(cookie, error=0, data=b""):
            with sending:
                try:
                    connection.sendall(struct.pack(">IIQ", 0x67446698, error, cookie) + data)
                except OSError:
                    pass

        while True:
            magic, flags, kind, cookie, offset, length = _REQUEST.unpack(_take(connection, _REQUEST.size))
            if magic != 0x25609513:
                raise EOFError
            data = _take(connection, length) if kind == 1 else None
            if kind == 2:
                return
            op = _OPS.get(kind)
            if op is None or (op != FLUSH and (offset + length > self.size or length == 0)):
                answer(cookie, 22)
                continue

            def done(request, cookie=cookie):
                if path.failure:
                    self.failure = path.failure
                    answer(cookie, 5)
                    return
                self._note(request)
                answer(cookie, 0, request.data if request.op == READ else b"")

            # FUA is carried on; the other flags are hints.
            path.submit(Request(op, offset, length, data=data, flags=flags & 1, done=done))

    def _note(self, request):
        if request.op not in (WRITE, ZERO, TRIM):
            return
        with self._lock:
            first, count = request.offset // 512, request.length // 512
            if request.op == TRIM:
                for sector in range(first, first + count):
                    self.sums.pop(sector, None)
                return
            if request.op == ZERO:
                for sector in range(first, first + count):
                    self.sums[sector] = _ZERO_SECTOR
            else:
                view = memoryview(request.data)
                for number in range(count):
                    self.sums[first + number] = zlib.crc32(view[number * 512:(number + 1) * 512])
            self.writes += 1
            self.write_bytes += request.length
            self.answers.append(time.monotonic())
