#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors
"""Writes runs of several arrays down and plays them: each must be the same run, line by line, to its end.

Only so can a seed with groups that fails be made small (--shrink).

    tests/listings/again.py SIMULATOR [FIRST_SEED [SEEDS]]
"""

import pathlib
import subprocess
import sys
import tempfile

WORLDS = {"groups": ["--groups", "on", "--steps", "300"], "close": ["--groups", "close", "--steps", "300"],
          "sets": ["--sets", "on", "--steps", "100"]}
# A replay has the fault itself, not what armed it; and it does not count the hosts' turns that came to nothing.
NOT_COMPARED = ("is the last of someone's", " register operations, ")
LIMIT_S = 60


def trace(*command):
    done = subprocess.run([*command, "--trace"], capture_output=True, text=True, errors="replace", timeout=LIMIT_S)
    return [line for line in done.stdout.splitlines() if not any(words in line for words in NOT_COMPARED)]


def main():
    simulator = sys.argv[1]
    first, count = (int(sys.argv[2]) if len(sys.argv) > 2 else 1), (int(sys.argv[3]) if len(sys.argv) > 3 else 5)
    wrong = runs = 0
    with tempfile.TemporaryDirectory() as directory:
        listing = str(pathlib.Path(directory) / "run.listing")
        for name, world in WORLDS.items():
            for seed in range(first, first + count):
                was = trace(simulator, "--seed", str(seed), *world, "--record", listing)
                now = trace(simulator, "--replay", listing)
                runs += 1
                if was == now and len(was) > 100:
                    continue
                at = next((i for i, (a, b) in enumerate(zip(was, now)) if a != b), min(len(was), len(now)))
                print(f"{name}, seed {seed}: line {at} of {len(was)}:", *was[at:at + 1], "and played again:",
                      *now[at:at + 1], sep="\n    ")
                wrong += 1
    print(f"{runs} runs played again, {wrong} not the same")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
