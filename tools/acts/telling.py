# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""What the acts of the demonstration share: they tell what happens as it happens, run other programs, and end with a
table. Nothing here knows what an act shows."""

import pathlib
import shutil
import subprocess
import sys
import time

_ROOT = pathlib.Path(__file__).resolve().parents[2]
# Real files to work with; an installed demonstration has no source tree.
SOURCES = [_ROOT / name for name in ("src", "tests", "docs", "tools")] if (_ROOT / "meson.build").exists() else []
_started = time.monotonic()


class Lost(Exception):
    """Something that was acknowledged is not there, or is what never was; the message says what."""


def begin():
    global _started
    _started = time.monotonic()


def seconds():
    return time.monotonic() - _started


def say(text):
    print(f"{seconds():6.2f}s  {text}", flush=True)


def command(*words, check=True, timeout=60, **more):
    words = [str(word) for word in words]
    result = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, timeout=timeout, **more)
    if check and result.returncode != 0:
        raise Lost(f"{' '.join(words)} ended with {result.returncode}:\n{result.stdout}")
    return result


def need(*programs):
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        sys.exit(f"the demonstration needs {', '.join(missing)}; `make demo` in the source tree installs what is missing")


def show_table(rows):
    width = max(max(len(name) for name, _ in rows), 28)
    print()
    for name, value in rows:
        print(f"    {name:<{width}} {value:>12}")
    print(f"\n    in {seconds():.0f} s", flush=True)
