# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""The steps (a) to (i) of the remote copy (docs/claims.md), one after the other, on four controllers: what hosts hear is
seen by a host, what the arrays say to each other on the line, and what is destaged in the second array's store files."""

import time

import pytest

from copy_wire import END, PAGE, PROMOTE, Listener
from holdfast import MI, wait_for

VOLUMES = [("alpha", 4 * MI, "a"), ("beta", 4 * MI, "b")]
FIRST, SECOND = b"1" * 4096, b"2" * 4096


@pytest.fixture
def sites(make_sites):
    sites = make_sites(volumes=VOLUMES, destage_after="10ms")
    sites.wait_state(sites.first, "copying", timeout=40)
    # What is promoted from here on is in the store at once: nothing of the initial copy stands before it.
    wait_for("the initial copy to be destaged", lambda: all(
        volume["dirty_pages"] == 0 for c in (sites.second.a, sites.second.b) for volume in c.wait_status()["volumes"]), 40)
    return sites


def stall(sites, *towards):
    for way in sites.up.values():
        way.stall(*towards)


def let_pass(sites):
    for way in sites.up.values():
        way.heal()


def write_one_after_the_other(sites):
    """The first write to a volume of a, the second, of b's, after the first was acknowledged."""
    handles = [sites.first.a.connect("alpha"), sites.first.b.connect("beta")]
    handles[0].pwrite(FIRST, MI)
    handles[1].pwrite(SECOND, MI)
    for handle in handles:
        handle.shutdown()


def shown(sites):
    """Whether the second array's store holds each of the two writes."""
    return tuple(sites.second.store_pread(volume)(MI, 4096) == data
                 for volume, data in (("alpha", FIRST), ("beta", SECOND)))


def look_for(sites, seconds):
    """All that shown() was within so many seconds."""
    seen, end = set(), time.monotonic() + seconds
    while time.monotonic() < end:
        seen.add(shown(sites))
        time.sleep(0.01)
    return seen


def test_a_to_d_hosts_have_their_completions_although_nothing_reaches_the_second_site(sites):
    stall(sites)
    write_one_after_the_other(sites)  # nothing passes yet: whoever waited for the second site would wait for ever
    for controller, volume, data in ((sites.first.b, "alpha", FIRST), (sites.first.a, "beta", SECOND)):
        handle = controller.connect(volume)  # through the other controller: both halves of the cache serve it
        assert handle.pread(4096, MI) == data
        handle.shutdown()
    assert look_for(sites, 0.5) == {(False, False)}
    let_pass(sites)
    wait_for("both at the second site", lambda: shown(sites) == (True, True), 20)


def test_e_to_h_what_travels_is_cycles_and_each_is_promoted_after_all_of_it_was_reported_complete(sites):
    listener = Listener(sites.up.values())
    sites.up["a"].break_connections()  # so that it hears the sessions from their beginning
    sites.up["b"].break_connections()

    def promotions_heard():
        return [b for b in list(listener.batches) if PROMOTE in b.types and b.good]

    def has_data(promotion):
        return any(PAGE in b.types and (b.term, b.cycle) == (promotion.term, promotion.cycle) for b in list(listener.batches))

    def write_and_look():
        write_one_after_the_other(sites)
        time.sleep(0.05)  # longer than a cycle, so that there are many
        return sum(has_data(promotion) for promotion in promotions_heard()) > 6

    wait_for("seven promotions with data", write_and_look, 20)
    wait_for("both at the second site", lambda: shown(sites) == (True, True), 20)
    assert not listener.failure and not listener.digests
    promotions = promotions_heard()
    batches = list(listener.batches)
    with_data, begun = 0, False
    for number, promotion in enumerate(promotions):
        assert promotion.types == [PROMOTE]
        own = [b for b in batches if (b.term, b.cycle) == (promotion.term, promotion.cycle) and PROMOTE not in b.types
               and b.sent < promotion.sent]
        if not own:
            continue  # of a cycle that was sent before the listener heard
        begun |= number >= 3 or {batch.half for batch in own if END in batch.types} == {0, 1}
        if not begun:
            continue  # of one that was closed by then: one half had said END in a session that broke
        assert all(batch.wall_us == promotion.wall_us for batch in own if batch.half == promotion.half)
        ends = {batch.half for batch in own if END in batch.types and batch.good and batch.answered < promotion.sent}
        assert ends == {0, 1}, f"cycle {promotion.cycle} was promoted, and its ENDs answered are of {ends}"
        # One that was on its way when a session broke has been sent again, under the same number.
        held = {(batch.half, batch.number) for batch in own if batch.good and batch.answered < promotion.sent}
        assert {(batch.half, batch.number) for batch in own if PAGE in batch.types} <= held
        with_data += any(PAGE in batch.types for batch in own)
    assert with_data > 4
    cycles = [promotion.cycle for promotion in promotions]
    assert cycles == sorted(set(cycles)), "promotions go in order"
    walls = [promotion.wall_us for promotion in promotions]
    assert walls == sorted(walls)


def test_i_nothing_is_destaged_at_the_second_site_before_the_message_that_says_so(sites):
    # All that the first array sends arrives, but it hears no answer: so it sends no promotion of what is written now.
    stall(sites, "down")

    def came():
        return sum(g["incoming"]["batches"] for g in sites.all_groups(sites.second))

    before = came()
    write_one_after_the_other(sites)
    wait_for("a batch comes", lambda: came() > before, 20)
    assert look_for(sites, 1.5) == {(False, False)}
    let_pass(sites)
    seen = look_for(sites, 3)
    assert seen <= {(False, False), (True, False), (False, True), (True, True)}
    wait_for("both at the second site", lambda: shown(sites) == (True, True), 20)


def test_i_what_is_not_promoted_is_not_there_after_a_failover(sites):
    stall(sites, "down")
    write_one_after_the_other(sites)
    time.sleep(0.5)
    sites.destroy(sites.first)
    sites.fail_over(sites.second)
    handle = sites.second.a.connect("alpha")
    assert handle.pread(4096, MI) == bytes(4096)
    handle.shutdown()
