# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors
"""The host that takeover is measured with: it has a path to the survivor open, and when told to go writes 4 KiB there
until one write completes. Its own process, so that a survivor that never answers costs a timeout and not the bench.

    probe.py URI        prints "ready", waits for a line on stdin, prints one line of JSON and ends"""

import json
import sys
import time

import nbd

LIMIT_S = 20.0
PAUSE_S = 0.001


def connect(uri):
    handle = nbd.NBD()
    handle.connect_uri(uri)
    return handle


def main():
    uri = sys.argv[1]
    page = b"taken over".ljust(4096, b".")
    handle, attempts, first_error = None, 0, None
    try:
        handle = connect(uri)
    except nbd.Error:
        pass  # The survivor refuses at the handshake while it does not own the volume.
    print("ready", flush=True)
    sys.stdin.readline()
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        attempts += 1
        try:
            if handle is None:
                handle = connect(uri)
            handle.pwrite(page, 0)
            done = time.monotonic()
            same = bytes(handle.pread(4096, 0)) == page
            print(json.dumps({"done_at": done, "attempts": attempts, "first_error": first_error, "reads_back": same}))
            return 0
        except nbd.Error as error:
            first_error = first_error or str(error)
            if handle is not None and not handle.aio_is_ready():
                handle = None
            time.sleep(PAUSE_S)
    print(json.dumps({"done_at": None, "attempts": attempts, "first_error": first_error, "reads_back": False}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
