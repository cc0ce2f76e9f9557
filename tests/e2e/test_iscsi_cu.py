# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""libiscsi's conformance tests against the pair: through the owner, through the other controller (whose I/O is shipped
to the owner), and with both paths to one LUN. Nothing may fail or hang, and what is skipped must stand in a table here
with the reason for which the standard allows it; a row that has become untrue fails as well."""

import concurrent.futures
import fnmatch
import shutil

import pytest

import iscsi_cu
from holdfast import MI, Host, Volume

# SPC-4: "SBC-3 4.x" and the like name the standard that leaves the thing to the device server. A row: which tests, on
# which paths, what the test says when it is skipped, and why it may be.
ANY = ("a", "b", "both", "a-4096")
ONE_URL = ("a", "b", "a-4096")
NOT_REMOVABLE = ("the medium of a volume is not removable (RMB = 0 in standard INQUIRY data, SPC-4 6.6.2), so there is "
                 "nothing to eject, to prevent from being removed, or to be absent")
SANITIZE = "SANITIZE is optional (SBC-3 table 33); overwriting a volume's store is an operator's decision"
ATOMIC = "WRITE ATOMIC (16) came with SBC-4; we claim SBC-3, where its operation code is not assigned"
WHOLE_PHYSICAL = "a logical block of 4096 bytes is a whole physical one: there is no part of one to be wrong with"
ALLOWED = [
    ("SCSI.NoMedia.*", ANY, "not removable", NOT_REMOVABLE),
    ("SCSI.PreventAllow.*", ANY, "not removable", NOT_REMOVABLE),
    ("SCSI.StartStopUnit.*", ANY, "not removable", NOT_REMOVABLE),
    ("SCSI.Sanitize.*", ANY, "SANITIZE", SANITIZE),
    ("SCSI.WriteAtomic16.*", ANY, "WRITEATOMIC16 is not implemented", ATOMIC),
    ("SCSI.ReadOnly.*", ANY, "not write-protected",
     "the LUN of these runs is written to; the suite runs against a read-only LUN in a test of its own below"),
    ("SCSI.WriteSame1?.ZeroBlocks", ANY, "does not support 0-blocks",
     "WSNZ = 1 in the block limits page (SBC-3 6.6.4): a WRITE SAME of no blocks, which would mean the rest of the "
     "volume, is refused"),
    ("SCSI.CompareAndWrite.InvalidDataOutSize", ("a-4096",), "LBPPB < 2", WHOLE_PHYSICAL),
    ("SCSI.WriteSame1?.UnmapUnaligned", ("a-4096",), "LBPPB < 2", WHOLE_PHYSICAL),
    ("SCSI.WriteSame1?.InvalidDataOutSize", ("a-4096",), "LBPPB < 2", WHOLE_PHYSICAL),
    ("SCSI.MultipathIO.*", ONE_URL, "Multipath unavailable",
     "it needs two paths; the runs with both URLs have them"),
]

# Tests that ask for something that the standard forbids or leaves open: name, paths, what every one of their complaints
# says, and the clause.
WRONG = [
    ("SCSI.GetLBAStatus.UnmapSingle", ("a", "b", "both"), "test_get_lba_status_unmap_single.c:135",
     "it asks about LBA i + 1 and expects the first descriptor to begin at LBA i + 8. The first descriptor begins at the "
     "STARTING LOGICAL BLOCK ADDRESS of the CDB (SBC-3 5.6.2), so the two agree only where a physical block is one "
     "logical block; there, with blocks of 4096 bytes, it passes"),
]

SUITES = iscsi_cu.listed() if shutil.which(iscsi_cu.PROGRAM) else {}


def test_the_program_is_here_and_has_the_suites_that_are_counted_on():
    assert len(SUITES) == 51 and sum(len(tests) for tests in SUITES.values()) == 230


def urls(pair, path):
    controllers = {"both": (pair.a, pair.b), "b": (pair.b,)}.get(path, (pair.a,))
    return [controller.iscsi_url("alpha") for controller in controllers]


@pytest.fixture(scope="module")
def outcomes(request, module_pair):
    """outcomes(path, suite) -> its Outcomes. The program sleeps for much of its time, so the paths are run beside each
    other, each on a pair of its own: resets of a target reach whoever is logged in there. A path's suites run in turn."""
    wanted = [(item.callspec.params["path"], item.callspec.params["suite"]) for item in request.session.items
              if item.path == request.path and "outcomes" in item.fixturenames]
    lanes, pairs, found = {}, {}, {}
    for path, suite in wanted:
        if path not in lanes:
            block = 4096 if path == "a-4096" else 512
            pairs[path] = module_pair(start=False, iscsi=True, cache="32M", memory=True,
                                      volumes=[Volume("alpha", size=64 * MI, block=block)]).start(wait=False)
            lanes[path] = concurrent.futures.ThreadPoolExecutor(1)
            lanes[path].submit(pairs[path].wait_paired)
        found[path, suite] = lanes[path].submit(iscsi_cu.run_suite, suite, SUITES[suite], urls(pairs[path], path))
    yield lambda path, suite: found[path, suite].result(iscsi_cu.SUITE_SECONDS + 20)
    for lane in lanes.values():
        lane.shutdown(cancel_futures=True)


def allowed(outcome, path):
    """The rows of ALLOWED that this test and path fall under."""
    return [row for row in ALLOWED if fnmatch.fnmatch(outcome.name, row[0]) and path in row[1]]


def judge(outcome, path):
    """None, or what is wrong with this outcome."""
    said = "\n        ".join(outcome.said)
    rows = allowed(outcome, path)
    if outcome.what == iscsi_cu.SKIPPED:
        if any(row[2].lower() in said.lower() for row in rows):
            return None
        return f"{outcome.name} was skipped, and no row of ALLOWED says why it may be:\n        {said}"
    if outcome.what == iscsi_cu.PASSED:
        wrong = [row for row in WRONG if row[0] == outcome.name and path in row[1]]
        return f"{outcome.name} passed: its row in ALLOWED or WRONG is untrue" if rows or wrong else None
    for name, paths, words, _ in WRONG:
        if outcome.name == name and path in paths and outcome.what == iscsi_cu.FAILED and \
                all(words in line for line in outcome.said):
            return None
    return f"{outcome.name} {outcome.what}:\n        {said}"


@pytest.mark.parametrize("suite", list(SUITES))
@pytest.mark.parametrize("path", ANY)
def test_suite(outcomes, path, suite):
    problems = [text for text in (judge(one, path) for one in outcomes(path, suite)) if text]
    assert not problems, "\n    ".join([f"through {path}:", *problems])


def test_the_read_only_suite_on_a_read_only_lun(make_pair):
    pair = make_pair(hosts=[Host("reader", "iqn.2007-10.com.github:sahlberg:libiscsi:iscsi-test", "alpha@0:ro"),
                            Host("writer", "iqn.2026-11.test:writer", "alpha@0")])
    outcomes = iscsi_cu.run_suite("SCSI.ReadOnly", SUITES["SCSI.ReadOnly"], [pair.a.iscsi_url(0)])
    assert [one.what for one in outcomes] == [iscsi_cu.PASSED], outcomes[0].said


# ---- the judgement itself ----

TEXT = """
Suite: Read10
  Test: Simple ...
    [OK] READ10 returned SUCCESS
passed    Send PRIN/READ_KEYS
  Test: Odd ...
    [SKIPPED] LUN is not removable. Skipping test.
passed    Send PRIN/READ_KEYS
  Test: Bad ...
    [FAILED] READ10 failed
FAILED
    1. test_read10.c:38  - CU_ASSERT_EQUAL(_r,0)
  Test: Stuck ...
    Send READ10
"""


def test_what_the_program_prints_is_read_line_by_line():
    found = iscsi_cu.outcomes_of("SCSI.Read10", ["Simple", "Odd", "Bad", "Stuck", "Never"], TEXT, True)
    assert [one.what for one in found] == ["passed", "skipped", "failed", "hung", "hung"]
    assert "READ10 failed" in found[2].said[0] and "test_read10.c:38" in found[2].said[1]
    assert iscsi_cu.score(found) == {"passed": 1, "failed": 3, "skipped": 1}


def test_an_unknown_skip_and_an_untrue_row_are_problems():
    def outcome(name, what, said):
        suite, test = name.rsplit(".", 1)
        return iscsi_cu.Outcome(suite, test, what, [said])
    odd = outcome("SCSI.Read10.Odd", "skipped", "[SKIPPED] LUN is not removable.")
    assert "no row" in judge(odd, "a")
    assert judge(outcome("SCSI.NoMedia.NoMediaSBC", "skipped", "[SKIPPED] LUN is not removable."), "b") is None
    assert "no row" in judge(outcome("SCSI.NoMedia.NoMediaSBC", "skipped", "[SKIPPED] no READ10."), "b")
    assert "untrue" in judge(outcome("SCSI.NoMedia.NoMediaSBC", "passed", ""), "both")
    assert "no row" in judge(outcome("SCSI.MultipathIO.Simple", "skipped", "[SKIPPED] Multipath unavailable."), "both")
    assert "hung" in judge(outcome("SCSI.Read10.Simple", "hung", ""), "a")


def test_every_row_names_a_test_that_exists():
    names = [f"{suite}.{test}" for suite, tests in SUITES.items() for test in tests]
    for pattern in [row[0] for row in ALLOWED] + [row[0] for row in WRONG]:
        assert fnmatch.filter(names, pattern), pattern
