# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""PostgreSQL beside the second act: tables on one volume, the write-ahead log on another, of different controllers.
pgbench runs, all of the first site is killed, and the database recovers from the copy at the second one. What it holds
then is what had been committed at some moment: a prefix, no hole."""

import time

import postgres
from act_remote import Stage, fail_over, until_consistent
from holdfast import MI, wait_for
from telling import Lost, say, show_table

VOLUMES = [("tables", 80 * MI, "a"), ("log", 32 * MI, "b")]
BANDWIDTH = 12_000_000


def prepare():
    reason = postgres.unusable()
    if reason:
        print(f"PostgreSQL on the copied volumes is not shown here: {reason}.")
        return None
    return Stage(volumes=VOLUMES, bandwidth=BANDWIDTH, cache="256M", memory="31M")


def open_database(stage, pair, like=None):
    """tables and log, each at the controller that serves it."""
    uris = [pair.controller(wait_for("an owner", lambda v=v: pair.owner(v))).uri(v) for v, _, _ in VOLUMES]
    database = postgres.Database(*uris, name=pair.name, like=like)
    stage.databases.append(database)
    return database


def story(stage):
    sites = stage.sites
    say("two arrays, four controllers, and PostgreSQL at the first site: tables on a volume of controller a, the "
        "write-ahead log on one of b")
    sites.start()
    database = open_database(stage, sites.first)
    database.make_file_systems()
    database.start()
    database.fill()
    say("a cluster is made and filled with pgbench's tables")
    sites.wait_state(sites.first, "copying", timeout=60)
    say("the second site holds a state of the first")
    pgbench = database.begin_work()
    for _ in range(4):
        time.sleep(2)
        if pgbench.poll() is not None:
            raise Lost(f"pgbench has ended:\n{(database.directory / 'pgbench.out').read_text()}")
        say(f"  pgbench: {database.query('SELECT count(*) FROM done')} transactions committed")
    until_consistent(sites)
    sites.destroy(sites.first)
    moment = time.time_ns() // 1000
    say("kill -9 of all of the first site; its server has no disk any more")
    pgbench.wait(30)
    database.kill()
    committed = database.committed()
    fail_over(sites)
    recover(stage, database, committed, moment)


def recover(stage, database, committed, moment):
    began = time.monotonic()
    copy = open_database(stage, stage.sites.second, like=database)
    copy.start()
    took = time.monotonic() - began
    found = copy.found()
    cut_us = next(g["shown_wall_us"] for g in stage.sites.groups(stage.sites.second) if g["role"] == "failed over")
    missing = postgres.check_prefix(committed, found, cut_us)
    copy.check_inside()
    say(f"PostgreSQL has recovered at the second site in {took:.1f} s: {len(found):,} transactions, a prefix of what was "
        "committed; sums, pages and indexes are sound")
    first = min((answered for key, (_, answered) in committed.items() if key not in found), default=moment)
    show_table([("transactions committed", f"{len(committed):,}"),
                ("found at the second site", f"{len(found):,}"),
                ("holes", "0"),
                ("committed and lost", f"{missing:,}"),
                ("seconds lost", f"{max(moment - first, 0) / 1e6:.3f}")])
