# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""A database that knows nothing of us: PostgreSQL with its tables on a volume of one controller and its write-ahead log
on one of the other. The site is lost under load; the database recovers from the copy and is a state that it had."""

import time

import pytest

import postgres
from holdfast import MI, wait_for

VOLUMES = [("tables", 80 * MI, "a"), ("log", 32 * MI, "b")]
REASON = postgres.unusable()


@pytest.fixture
def databases():
    """Open databases, ended and removed after the test whatever it did."""
    made = []

    def make(sites, pair, like=None):
        uris = [pair.controller(wait_for("an owner", lambda v=v: pair.owner(v))).uri(v) for v, _, _ in VOLUMES]
        made.append(postgres.Database(*uris, name=pair.name, like=like))
        return made[-1]

    yield make
    for database in made:
        database.kill()
        database.end()
        database.remove()


@pytest.mark.skipif(REASON is not None, reason=str(REASON))
def test_postgresql_recovers_from_the_copy_to_a_prefix_of_what_it_committed(make_sites, databases):
    sites = make_sites(volumes=VOLUMES, cache="256M", memory="31M", delay=0.02)
    database = databases(sites, sites.first)
    database.make_file_systems()
    database.start()
    database.fill()
    sites.wait_state(sites.first, "copying", timeout=60)
    pgbench = database.begin_work()
    wait_for("some hundred are committed", lambda: pgbench.poll() is not None or int(database.query("SELECT count(*) FROM done")) > 500,
             30, step=0.5)
    sites.wait_copied(time.time_ns() // 1000, timeout=30)
    assert pgbench.poll() is None
    sites.destroy(sites.first)
    pgbench.wait(60)
    database.kill()
    committed = database.committed()
    sites.fail_over(sites.second)
    copy = databases(sites, sites.second, like=database)
    copy.start()
    found = copy.found()
    cut_us = next(g["shown_wall_us"] for g in sites.groups(sites.second) if g["role"] == "failed over")
    postgres.check_prefix(committed, found, cut_us)
    assert len(found) > 500
    copy.check_inside()
