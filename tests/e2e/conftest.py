# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""What every end-to-end test gets: a pair of its own, a bound on its time, and the logs in the report when it fails."""

import faulthandler
import os
import signal
import sys
import threading

import pytest

import holdfast
from proxy import Cables
from stores import FaultyStore, usable

TEST_SECONDS = 180


def pytest_collection_modifyitems(items):
    if holdfast.BINARY is None:
        # `make test` sets HOLDFAST_REQUIRED: there a program that was not built is a failure, not a reason to skip.
        if os.environ.get("HOLDFAST_REQUIRED"):
            raise pytest.UsageError("there is no program to test: build it, or name it in $HOLDFAST")
        for item in items:
            item.add_marker(pytest.mark.skip(reason="no program: build it (make), or name it in $HOLDFAST"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    setattr(item, f"report_{report.when}", report)
    if report.failed:
        for pair in getattr(item, "pairs", []):
            report.sections.append((f"logs in {pair.directory}", pair.logs(60)))


def _end_all(pairs):
    """From a thread of its own: a call into libnbd does not come back for a signal, but it does when its peer dies."""
    for pair in pairs:
        if pair.faulty:
            pair.faulty.let_go()
        for controller in (pair.a, pair.b):
            controller.destroy()


@pytest.fixture(autouse=True)
def bounded(request):
    """No test runs for longer than TEST_SECONDS: past it, the line it hangs at is the failure."""
    watchdog = threading.Timer(TEST_SECONDS + 1, lambda: _end_all(getattr(request.node, "pairs", [])))
    watchdog.daemon = True
    watchdog.start()

    def late(number, frame):
        faulthandler.dump_traceback(file=sys.__stderr__)
        raise holdfast.Timeout(f"the test ran for longer than {TEST_SECONDS} s")

    previous = signal.signal(signal.SIGALRM, late)
    signal.alarm(TEST_SECONDS)
    yield
    watchdog.cancel()
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


class _Maker:
    """Makes pairs and what stands around them; undoes it all, in the right order, after the test."""

    def __init__(self, node):
        self.node, self.pairs, self.things = node, [], []
        node.pairs = self.pairs

    def __call__(self, start=True, faulty=None, cables=False, **settings):
        """faulty: settings of a FaultyStore in place of the disk; cables: a proxy on each way between the two."""
        pair = holdfast.Pair(**settings)
        self.pairs.append(pair)
        pair.faulty = pair.cables = None
        if faulty is not None:
            reason = usable()
            if reason:
                pytest.skip(f"no faulty store here: {reason}")
            pair.faulty = FaultyStore(pair, **faulty)
        if cables:
            pair.cables = Cables(pair, holdfast.free_port)
        if start:
            pair.start()
        return pair

    def end(self):
        for pair in self.pairs:
            if pair.faulty:
                pair.faulty.let_go()
            pair.end()
            if pair.faulty:
                pair.faulty.end()
            if pair.cables:
                pair.cables.end()

    def remove(self, keep):
        for pair in self.pairs:
            if keep:
                print(f"kept for a look: {pair.directory}", file=sys.stderr)
            else:
                pair.remove()


@pytest.fixture
def make_pair(request):
    """make_pair(**settings of holdfast.Pair) -> a running pair of the test's own."""
    maker = _Maker(request.node)
    yield maker
    maker.end()
    report = getattr(request.node, "report_call", None)
    failed = report is None or report.failed
    try:
        if not failed:
            for pair in maker.pairs:
                pair.check_logs()
    finally:
        maker.remove(keep=failed and bool(os.environ.get("HOLDFAST_KEEP")))
        request.node.pairs = []  # what their hosts remember is much, and pytest keeps every node


@pytest.fixture
def make_sites(make_pair):
    """make_sites(**settings of holdfast.Sites) -> two running arrays, one the copy of the other."""
    made = []

    def make(**settings):
        sites = holdfast.Sites(make=make_pair, **settings)
        made.append(sites)
        return sites

    yield make
    for sites in made:
        sites.end()


@pytest.fixture
def pair(make_pair):
    """A running pair with the default volumes: alpha, served by a, and beta, served by b."""
    return make_pair()


@pytest.fixture(scope="module")
def module_pair(request):
    """module_pair(**settings of holdfast.Pair) -> a pair for all tests of a module that only use it as a client does.
    Its lease is long: none of them is about a takeover."""
    maker = _Maker(request.node)
    request.node.module_pairs = maker.pairs
    yield lambda **settings: maker(**{"lease": holdfast.LONG_LEASE, **settings})
    maker.end()
    try:
        for pair in maker.pairs:
            pair.check_logs()
    finally:
        maker.remove(keep=False)


@pytest.fixture(scope="module")
def shared_pair(module_pair):
    """The one that test modules of NBD clients share."""
    return module_pair(volumes=[holdfast.Volume("alpha", owner="a"), holdfast.Volume("beta", owner="b"),
                                holdfast.Volume("image", size=64 * holdfast.MI, owner="a")], cache="32M")


@pytest.fixture(autouse=True)
def _shared_logs(request):
    """A failure shows the logs of the module's pairs, and its watchdog may end them."""
    if "module_pair" in request.fixturenames:
        request.node.pairs = request.node.getparent(pytest.Module).module_pairs
    yield
