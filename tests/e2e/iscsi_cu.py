# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""Runs iscsi-test-cu, the conformance tests of libiscsi, one suite at a time, and reads what became of each test.

Each suite is a process of its own with a limit on its time: run all at once, the suites leave reservations and unit
attentions to each other, and one that hangs hides the rest. CUnit's own summary counts a test that gave up with a line
"[SKIPPED]" as passed, so the lines are read, not the summary. A test that says nothing at its end is `hung`."""

import dataclasses
import re
import subprocess

PROGRAM = "iscsi-test-cu"
FAMILIES = ("SCSI", "iSCSI")  # ALL holds the suites of both once more; LINUX some of SCSI's
SUITE_SECONDS = 120

PASSED, FAILED, SKIPPED, HUNG = "passed", "failed", "skipped", "hung"

_TEST = re.compile(r"^  Test: (\S+) \.\.\.", re.MULTILINE)
_END = re.compile(r"^(passed|FAILED)", re.MULTILINE)
_SUMMARY = re.compile(r"^ +tests +(\d+)", re.MULTILINE)


@dataclasses.dataclass
class Outcome:
    """What became of one test; `said` are the lines that tell why."""
    suite: str
    test: str
    what: str
    said: list

    @property
    def name(self):
        return f"{self.suite}.{self.test}"


def listed():
    """{"SCSI.Read10": ["Simple", ...], ...}: every suite once, in the program's order."""
    text = subprocess.run([PROGRAM, "--list"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20,
                          check=False).stdout
    found = {}
    for line in text.splitlines():
        words = line.strip().split(".")
        if words[0] in FAMILIES and len(words) == 3:
            found.setdefault(f"{words[0]}.{words[1]}", []).append(words[2])
    suites = {}
    for name, tests in found.items():
        if not any(name.split(".")[1] == one.split(".")[1] for one in suites):
            suites[name] = tests
    return suites


def outcome_of(text, hung):
    """(what became of it, the lines that tell why) from what one test printed."""
    skipped = [line.strip() for line in text.splitlines() if "[SKIPPED]" in line]
    failed = [line.strip() for line in text.splitlines() if "[FAILED]" in line or re.match(r" +\d+\. \S+:\d+", line)]
    end = _END.search(text)
    if end is None:
        return (HUNG if hung else FAILED), [*failed, "it never said how it ended", *text.splitlines()[-3:]]
    if end.group(1) == "FAILED":
        return FAILED, failed or text.splitlines()[-3:]
    return (SKIPPED, skipped) if skipped else (PASSED, [])


def outcomes_of(suite, tests, text, hung):
    """One Outcome for each test of the suite, from what the program printed."""
    places = list(_TEST.finditer(text))
    found = {}
    for number, place in enumerate(places):
        end = places[number + 1].start() if number + 1 < len(places) else len(text)
        what, said = outcome_of(text[place.end():end], hung)
        found[place.group(1)] = Outcome(suite, place.group(1), what, said)
    tail = [line for line in text.splitlines() if line.strip()][-3:]
    return [found.get(test) or Outcome(suite, test, HUNG if hung else FAILED, ["it was not run", *tail])
            for test in tests]


def run_suite(suite, tests, urls, seconds=SUITE_SECONDS):
    """Runs one suite ("SCSI.Read10") against a URL, or two of one LUN; never waits for longer than `seconds`."""
    command = [PROGRAM, "--dataloss", "--allow-sanitize", "-V", f"--test={suite}", *urls]
    hung = False
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=seconds, check=False)
        output = done.stdout
    except subprocess.TimeoutExpired as late:
        hung, output = True, late.stdout or b""
    text = output.decode(errors="replace")
    outcomes = outcomes_of(suite, tests, text, hung)
    summary = _SUMMARY.search(text)
    if not hung and (summary is None or int(summary.group(1)) != len(tests)):
        for one in outcomes:  # it ended in the middle: what it did not deny is not believed
            if one.what == PASSED:
                one.what, one.said = FAILED, ["the program ended before its summary", *text.splitlines()[-3:]]
    return outcomes


def score(outcomes):
    """{"passed": n, "failed": n, "skipped": n}; what hung has failed."""
    count = {PASSED: 0, FAILED: 0, SKIPPED: 0}
    for one in outcomes:
        count[FAILED if one.what == HUNG else one.what] += 1
    return count
