# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""PostgreSQL with its tables on one volume and its write-ahead log on another, and the judge of what a copy of both
recovers to. Each volume is a file (nbdfuse), a loop device over it, and an ext4 file system, mounted where only the
server sees it: with the server the mounts and the loop devices are gone, however it ended.

The server demands another user than root; all that it gets is in directories of its own."""

import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile

from holdfast import _die_with_parent, read_stat, wait_for

WAL_SEGMENT_MB = 1
OPTIONS = {
    "listen_addresses": "", "shared_buffers": "16MB", "max_connections": "20", "fsync": "on", "full_page_writes": "on",
    "synchronous_commit": "on", "wal_sync_method": "fdatasync", "max_wal_size": "16MB", "min_wal_size": "4MB",
    "checkpoint_timeout": "30s", "checkpoint_completion_target": "0.5",  # so that tables are written all the time
    "log_checkpoints": "off", "logging_collector": "off",
}
# One transaction of pgbench's own kind, which also says its number: n + 1 only after n was committed.
SCRIPT = """\\set aid random(1, 100000 * :scale)
\\set bid random(1, 1 * :scale)
\\set tid random(1, 10 * :scale)
\\set delta random(-5000, 5000)
\\set n :n + 1
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);
INSERT INTO done (client, n) VALUES (:client_id, :n);
END;
"""


class Wrong(AssertionError):
    """The copy is not a state that the database had."""


def programs():
    """The directory of PostgreSQL's programs, of the newest version there is, or None."""
    found = sorted((int(path.name), path / "bin") for path in pathlib.Path("/usr/lib/postgresql").glob("*")
                   if path.name.isdigit() and (path / "bin" / "initdb").exists() and (path / "bin" / "pgbench").exists())
    return found[-1][1] if found else None


# Mounts that nobody else sees; and all processes in it end with the one that we know.
_APART = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child=KILL", "--"]


def unusable():
    """A reason why this cannot be done here, or None."""
    if programs() is None:
        return "PostgreSQL is not installed; on Debian: apt install postgresql"
    if os.geteuid() != 0:
        return "loop devices need root"
    for name in ("nbdfuse", "fusermount3", "mke2fs", "unshare", "setpriv", "losetup"):
        if not shutil.which(name):
            return f"{name} is not installed"
    for path in ("/dev/fuse", "/dev/loop-control"):
        try:
            open(path, "rb").close()
        except OSError as error:
            return f"{path}: {error.strerror}"
    try:
        tried = subprocess.run([*_APART, "true"], timeout=10, check=False,
                               stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except subprocess.TimeoutExpired:
        return "unshare does not end"
    return f"unshare: {tried.stderr.strip()}" if tried.returncode else None


def children(pid):
    stats = ((int(entry), read_stat(int(entry))) for entry in os.listdir("/proc") if entry.isdigit())
    return [child for child, stat in stats if stat is not None and stat[1] == pid]


def _server_user():
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise KeyError("neither a user postgres nor nobody")


class VolumeFile:
    """path: a file whose bytes are those of the volume at the NBD URI."""

    def __init__(self, directory, name, uri):
        self.path = directory / f"{name}.fuse"
        self.path.touch()
        self.log_path = directory / f"{name}.nbdfuse.log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(["nbdfuse", self.path, uri], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            preexec_fn=_die_with_parent)
        wait_for(lambda: f"the file that nbdfuse shows: {self.log_path.read_text()}",
                 lambda: self.process.poll() is not None or self.path.stat().st_size > 0)
        assert self.process.poll() is None, f"nbdfuse {uri}: {self.log_path.read_text()}"

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        subprocess.run(["fusermount3", "-u", "-z", self.path], stderr=subprocess.DEVNULL, timeout=10, check=False)


# $1, $2: the files of the volumes; $3: where they are mounted; $4: user:group; then the server and its words. The first
# time (no directory "pg" yet) the cluster is made.
_SERVE = """set -e
data=$1 wal=$2 at=$3 owner=$4
shift 4
mkdir -p "$at/data" "$at/wal"
mount -o loop,noatime "$data" "$at/data"
mount -o loop,noatime "$wal" "$at/wal"
if [ ! -d "$at/data/pg" ]; then
    mkdir "$at/data/pg" "$at/wal/pg"
    chown "$owner" "$at/data/pg" "$at/wal/pg"
    chmod 700 "$at/data/pg" "$at/wal/pg"
    setpriv --reuid="${owner%:*}" --regid="${owner#*:}" --clear-groups "${1%/*}/initdb" \\
        --auth=trust --username=postgres --encoding=UTF8 --locale=C --data-checksums --wal-segsize=SEGMENT \\
        --waldir="$at/wal/pg" --pgdata="$at/data/pg"
fi
exec setpriv --reuid="${owner%:*}" --regid="${owner#*:}" --clear-groups "$@" -D "$at/data/pg"
""".replace("SEGMENT", str(WAL_SEGMENT_MB))


class Database:
    """A server on the volumes behind two NBD URIs. start() recovers what it finds there."""

    def __init__(self, data_uri, wal_uri, name="db", like=None):
        """like: the database whose copy this is. It is mounted where that one was, as the link from the tables to the
        log demands; each server sees its own mounts only."""
        self.bin, self.user = programs(), _server_user()
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"holdfast-{name}-"))
        self.directory.chmod(0o711)
        self.at = like.at if like else self.directory / "at"
        self.sockets = self.directory / "s"
        self.sockets.mkdir()
        os.chown(self.sockets, self.user.pw_uid, self.user.pw_gid)
        self.log_path = self.directory / "server.log"
        self.files, self.server = [], None
        for part, uri in (("data", data_uri), ("wal", wal_uri)):
            self.files.append(VolumeFile(self.directory, part, uri))

    def make_file_systems(self):
        for file in self.files:
            subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", file.path], stdin=subprocess.DEVNULL, timeout=60,
                           check=True)

    def start(self, timeout=40):
        words = [*_APART, "sh", "-c", _SERVE, "serve",
                 self.files[0].path, self.files[1].path, self.at,
                 f"{self.user.pw_uid}:{self.user.pw_gid}", self.bin / "postgres", "-k", self.sockets]
        for key, value in OPTIONS.items():
            words += ["-c", f"{key}={value}"]
        with open(self.log_path, "ab") as log:
            self.server = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                           cwd="/", preexec_fn=_die_with_parent)
        wait_for(lambda: f"PostgreSQL to accept connections:\n{self.log()}",
                 lambda: self.server.poll() is not None or self._ready(), timeout, step=0.1)
        assert self.server.poll() is None, f"PostgreSQL did not start:\n{self.log()}"

    def _ready(self):
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.sockets / ".s.PGSQL.5432"))
            except OSError:
                return False
        return self.query("SELECT 1", check=False) == "1"

    def log(self):
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-40:])

    def _run(self, program, *words, check=True, timeout=60):
        environment = {**os.environ, "PGHOST": str(self.sockets), "PGUSER": "postgres", "PGDATABASE": "postgres"}
        done = subprocess.run([self.bin / program, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=timeout, env=environment)
        if check and done.returncode != 0:
            raise AssertionError(f"{program} {' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}\n{self.log()}")
        return done

    def query(self, text, check=True):
        done = self._run("psql", "-X", "-q", "-A", "-t", "-F", " ", "-v", "ON_ERROR_STOP=1", "-c", text, check=check)
        return done.stdout.strip()

    # ---- the work ----

    def fill(self):
        self._run("pgbench", "-i", "-q", "-s", "1")
        self.query("CREATE TABLE done (client int, n bigint, PRIMARY KEY (client, n))")

    def begin_work(self, clients=4, seconds=120, rate=400):
        """pgbench, until the server is gone. Its own log says when each transaction was committed. rate: transactions a
        second, so that a fast machine does not write more than the line to the copy carries."""
        script = self.directory / "script.sql"
        script.write_text(SCRIPT)
        environment = {**os.environ, "PGHOST": str(self.sockets), "PGUSER": "postgres", "PGDATABASE": "postgres"}
        with open(self.directory / "pgbench.out", "wb") as out:
            return subprocess.Popen(
                [self.bin / "pgbench", "-n", "-c", str(clients), "-j", "2", "-T", str(seconds), "-R", str(rate), "-D", "n=0",
                 "-f", script, "-l", f"--log-prefix={self.directory / 'committed'}"],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, preexec_fn=_die_with_parent)

    def committed(self):
        """{(client, n): (begun, answered)} of what pgbench knows to be committed; microseconds of the day's clock. Of
        use when pgbench has ended."""
        found, counts = {}, {}
        for path in sorted(self.directory.glob("committed.*")):
            for line in path.read_text().splitlines():
                client, _, took_us, _, seconds, us, waited_us = (int(word) for word in line.split())
                counts[client] = counts.get(client, 0) + 1
                answered = seconds * 1_000_000 + us
                found[client, counts[client]] = (answered - took_us + waited_us, answered)
        return found

    def found(self):
        """The (client, n) that this database holds."""
        lines = self.query("SELECT client, n FROM done").splitlines()
        return {tuple(int(word) for word in line.split()) for line in lines}

    def check_inside(self):
        """What holds after any number of whole transactions, and in every page and index."""
        sums = self.query("SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),"
                          " (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM"
                          " pgbench_history), (SELECT count(*) FROM pgbench_history), (SELECT count(*) FROM done)").split()
        if len(set(sums[:4])) != 1 or sums[4] != sums[5]:
            raise Wrong(f"the sums over accounts, tellers, branches and history, and the counts, differ: {sums}")
        self._run("pg_amcheck", "--install-missing", "--heapallindexed")

    # ---- the end ----

    def kill(self):
        """The machine of the server is gone."""
        if self.server is not None and self.server.poll() is None:
            self.server.send_signal(signal.SIGKILL)
            self.server.wait(20)

    def end(self):
        if self.server is not None and self.server.poll() is None:
            for pid in children(self.server.pid):
                os.kill(pid, signal.SIGINT)  # a fast shutdown
            try:
                self.server.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        for file in self.files:
            file.end()

    def remove(self):
        shutil.rmtree(self.directory, ignore_errors=True)


def check_prefix(committed, found, cut_us=None):
    """Raises Wrong unless what was found is what had been committed at some moment: of each client 1..m; nothing found
    that began after something that is missing was answered; and all that was answered before `cut_us`. Returns how many
    of the committed ones are missing."""
    for client in {client for client, _ in found}:
        numbers = {n for c, n in found if c == client}
        if numbers != set(range(1, len(numbers) + 1)):
            raise Wrong(f"client {client}: a hole in 1..{max(numbers)}: {len(numbers)} are there")
        known = sum(1 for c, _ in committed if c == client)
        if len(numbers) > known + 1:
            raise Wrong(f"client {client}: {len(numbers)} are there, and it had begun only {known + 1}")
    missing = {key: times for key, times in committed.items() if key not in found}
    first_answer = min((answered for _, answered in missing.values()), default=None)
    for key in found & committed.keys():
        if first_answer is not None and committed[key][0] > first_answer:
            raise Wrong(f"{key} is there, and began {committed[key][0] - first_answer} us after a missing one was answered")
    if cut_us is not None and first_answer is not None and first_answer < cut_us:
        raise Wrong(f"a transaction answered {cut_us - first_answer} us before the cut is missing")
    return len(missing)
