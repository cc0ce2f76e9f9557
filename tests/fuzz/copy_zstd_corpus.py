#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors
"""Writes the seed corpus of copy_zstd_fuzz.c, with the zstd program of Debian: packed batches of one and of many pages, and
what looks like one."""

import pathlib
import struct
import subprocess
import sys


def head(records, data):
    return (struct.pack(">IHBB", 0x48464342, 1, 0, 0) + b"0123456789abcde\0" + bytes(48)
            + struct.pack(">II", records, data)).ljust(128, b"\0")


def frame(content, *options):
    # From a file, so that the frame says its content's size.
    source = pathlib.Path("/tmp/copy-zstd-corpus")
    source.write_bytes(content)
    try:
        return subprocess.run(["zstd", "-q", "-c", "--no-check", *options, source], capture_output=True, check=True).stdout
    finally:
        source.unlink()


text = b"".join(struct.pack("<II", i * i & 0xFFFF, i) for i in range(8 * 512))
whole = bytes(32) + text[:4096]
inputs = {
    "one_page": head(1, 4096) + frame(whole, "-1"),
    "one_page_19": head(1, 4096) + frame(whole, "-19"),
    "many_pages": head(8, 32768) + frame(bytes(8 * 32) + text, "-1"),
    "zeros": head(64, 64 * 4096) + frame(bytes(64 * 4128), "-1"),
    "checksum": head(1, 4096) + frame(whole, "-1", "--check"),
    "raw_block": head(1, 512) + frame(bytes(range(256)) * 2 + bytes(32), "-1"),
    "longer_than_it_says": head(1, 2048) + frame(whole, "-1"),
    "two_frames": head(2, 8192) + frame(whole, "-1") * 2,
    "no_data": head(1, 0) + frame(bytes(32), "-1"),
}
where = pathlib.Path(__file__).parent / "corpus" / "copy_zstd"
where.mkdir(parents=True, exist_ok=True)
for name, content in inputs.items():
    (where / name).write_bytes(content)
sys.exit(0)
