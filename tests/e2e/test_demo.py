# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""The demonstration: found wherever the program stands, and its second act, which is what a visitor sees first of the
remote copy, ends well."""

import os
import re
import shutil
import subprocess

import pytest

from holdfast import BINARY, ROOT, run


def demo(program, *words, timeout=170):
    environment = {key: value for key, value in os.environ.items() if key != "HOLDFAST"}
    return subprocess.run([program, "demo", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=timeout, env=environment, cwd="/")


def test_an_installation_has_all_that_the_acts_need(tmp_path):
    if not (BINARY.parent / "build.ninja").exists():
        pytest.skip("the program under test is not in its build folder")
    run("meson", "install", "-C", BINARY.parent, "--no-rebuild", "--quiet", f"--destdir={tmp_path}")
    script = next(tmp_path.rglob("libexec/holdfast/demo"))
    shutil.copytree(script.parent, tmp_path / "moved" / "libexec" / "holdfast")
    (tmp_path / "moved" / "bin").mkdir()
    program = shutil.copy2(next(path for path in tmp_path.rglob("bin/holdfast")), tmp_path / "moved" / "bin" / "holdfast")
    for act in ("act_takeover", "act_remote", "act_postgres"):
        run("/usr/bin/python3", "-B", "-c", "import sys; "
            f"sys.path.insert(0, {str(tmp_path / 'moved' / 'libexec' / 'holdfast')!r}); import {act}", cwd="/")
    # Without Python's libnbd nothing can be shown, and the words say what is missing.
    (tmp_path / "moved" / "libexec" / "holdfast" / "nbd.py").write_text("raise ModuleNotFoundError(name='nbd')\n")
    said = demo(program, "--remote")
    assert said.returncode == 1 and "apt install python3-libnbd" in said.stdout, said.stdout
    alone = shutil.copy2(program, tmp_path / "holdfast")
    said = demo(alone)
    assert said.returncode == 1 and "was not installed with this program" in said.stdout, said.stdout


def test_the_second_act_finds_no_hole():
    said = subprocess.run([ROOT / "tools" / "demo", "--remote"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=170, env={**os.environ, "HOLDFAST": str(BINARY)})
    assert said.returncode == 0, said.stdout
    found = re.search(r"found at the second site +1\.\.([\d,]+)\n +holes +0\n", said.stdout)
    assert found and int(found[1].replace(",", "")) > 100, said.stdout
