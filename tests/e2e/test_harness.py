# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors
"""What the other tests stand on: ports that no two runs share, and a runner that tests the program it was given."""

import importlib.machinery
import importlib.util
import subprocess
import sys

import holdfast

NARROW = 40

TAKE = """
import sys
sys.path.insert(0, sys.argv[1])
import holdfast
holdfast.PORT_FIRST, holdfast.PORT_LAST = int(sys.argv[2]), int(sys.argv[3])
taken = []
try:
    while True:
        taken.append(holdfast.free_port())
except RuntimeError:
    print(*taken, flush=True)
sys.stdin.read()
"""


def test_two_runs_never_get_the_same_port():
    """Two processes that take all they can get of one narrow range, at the same time."""
    first = str(holdfast.PORT_FIRST + 100)
    last = str(holdfast.PORT_FIRST + 100 + NARROW - 1)
    runs = [subprocess.Popen([sys.executable, "-B", "-c", TAKE, str(holdfast.ROOT / "tests" / "e2e"), first, last],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    taken = [[int(word) for word in run.stdout.readline().split()] for run in runs]
    for run in runs:
        run.communicate(timeout=10)
    both = taken[0] + taken[1]
    assert len(both) == len(set(both)), "a port was given out twice"
    assert len(both) > NARROW // 2


def load_run_tests():
    loader = importlib.machinery.SourceFileLoader("run_tests", str(holdfast.ROOT / "tools" / "run-tests"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("run_tests", loader))
    loader.exec_module(module)
    return module


def test_the_runner_names_the_program_and_demands_it(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import os\n"
        f"def test_name(): assert os.environ['HOLDFAST'] == {str(tmp_path / 'build' / 'holdfast')!r}\n"
        "def test_required(): assert os.environ['HOLDFAST_REQUIRED'] == '1'\n"
        "def test_that_fails(): assert False\n")
    passed, failed, bad = load_run_tests().run_pytest(str(tmp_path), str(tmp_path / "build"))
    assert (passed, failed) == (2, 1) and len(bad) == 1 and bad[0].endswith("test_it::test_that_fails")


def test_a_program_that_was_not_built_is_a_failure(tmp_path):
    directory = str(holdfast.ROOT / "tests" / "e2e")
    passed, failed, bad = load_run_tests().run_pytest(directory, str(tmp_path))
    assert (passed, failed) == (0, 1), bad
