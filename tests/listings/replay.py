#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors
"""Plays every listing of this folder: runs of the simulator, made small with --shrink, that once showed a mistake.

The right core passes each. In a build with -Dmistakes=true a listing that has the name of a planted mistake must also
fail with it, so that a listing which no longer shows anything is noticed.

    tests/listings/replay.py SIMULATOR
"""

import pathlib
import subprocess
import sys

LIMIT_S = 60  # one listing takes milliseconds


def play(simulator, listing, *arguments):
    """(passed, the sentence of the failure)"""
    command = [simulator, "--replay", str(listing), "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=LIMIT_S)
    failed = [line for line in (done.stdout + done.stderr).splitlines() if "FAILED" in line or "CHECK" in line]
    return done.returncode == 0, failed[0] if failed else f"exit status {done.returncode}: {done.stderr.strip()}"


def main():
    simulator = sys.argv[1]
    listed = subprocess.run([simulator, "--list-mistakes"], capture_output=True, text=True, check=True).stdout
    mistakes = {line.split("\t")[0] for line in listed.splitlines()}
    listings = sorted(pathlib.Path(__file__).parent.glob("*.listing"))
    planted = subprocess.run([simulator, "--mistake", next(iter(mistakes)), "--seed", "1", "--steps", "1", "--quiet"],
                             capture_output=True, text=True).returncode != 2
    wrong = 0
    for listing in listings:
        passed, sentence = play(simulator, listing)
        if not passed:
            print(f"{listing.name}: {sentence}")
            wrong += 1
        if planted and listing.stem in mistakes and play(simulator, listing, "--mistake", listing.stem)[0]:
            print(f"{listing.name}: no longer shows the mistake that it is named after; make it anew with --shrink")
            wrong += 1
    print(f"{len(listings)} listings, {wrong} wrong{'' if planted else ' (mistakes not planted in this build)'}")
    return 1 if wrong or not listings else 0


if __name__ == "__main__":
    sys.exit(main())
