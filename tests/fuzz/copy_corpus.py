#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors
"""Writes the seed corpus of copy_record_fuzz.c: a batch of each kind, a record of each type, a state, a coordinator's
message of each type and the state that answers it. Its checksums are zero: the target makes them right."""

import pathlib
import struct
import sys

GROUP = b"0123456789abcde\0"


def record(kind, flags=0, volume=0, sectors=0, generation=0, page=0, count=0, crc=0):
    return struct.pack(">BBBBIQQII", kind, flags, volume, sectors, generation, page, count, crc, 0)


def batch(records, data=b"", half=0, term=5, cycle=10, number=2, first=10):
    head = struct.pack(">IHBB", 0x48464342, 1, half, 0) + GROUP
    head += struct.pack(">QQQQQQII", 0, term, cycle, number, first, 1, len(records), len(data))
    return b"b" + head.ljust(128, b"\0") + b"".join(records) + data


page = record(1, volume=1, sectors=0x03, generation=2, page=499)
zero = record(2, volume=1, generation=2, page=3, count=497)
end = record(3, generation=2, page=1, count=2, crc=3)
inputs = {
    "page": batch([page], b"x" * 1024),
    "base": batch([record(1, flags=1, sectors=1, page=999)], b"y" * 512),
    "known_page": batch([record(1, sectors=1, generation=1, page=7)], b"z" * 512),
    "pages_and_range": batch([zero, page, page], b"x" * 2048, half=1),
    "end": batch([end], half=1),
    "end_again": batch([record(3, generation=2)]),
    "promote": batch([record(4, flags=1)]),
    "new_term": batch([page], b"x" * 1024, term=6, cycle=12, first=11),
    "record_page": b"r" + page,
    "record_zero": b"r" + zero,
    "record_end": b"r" + end,
    "record_promote": b"r" + record(4, flags=1),
    "state": b"s" + (struct.pack(">IHBB", 0x48464353, 1, 1, 3) + GROUP
                     + struct.pack(">QQQQQII", 1, 2, 3, 4, 5, 6, 32)).ljust(128, b"\0"),
}
for name, kind, cut in (("resolve", 1, 0), ("begin", 2, 7), ("close", 3, 8), ("release", 4, 8), ("promote", 5, 8)):
    inputs[f"cut_{name}"] = b"c" + (struct.pack(">IHBB", 0x48464B4D, 1, kind, 0) + GROUP
                                    + struct.pack(">QQ", 3, cut)).ljust(64, b"\0")
inputs["cut_state"] = b"t" + (struct.pack(">IHBB", 0x48464B53, 1, 7, 0) + GROUP
                              + struct.pack(">QQQ", 3, 8, 9)).ljust(64, b"\0")
where = pathlib.Path(__file__).parent / "corpus" / "copy_record"
where.mkdir(parents=True, exist_ok=True)
for name, content in inputs.items():
    (where / name).write_bytes(content)
sys.exit(0)
