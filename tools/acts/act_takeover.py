# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""The first act: a write survives the controller that acknowledged it.

Two controllers with one store file; nbdcopy copies a file system in while fio writes verified random blocks; the
controller that serves both is killed in the middle; its peer carries on; it comes back, a volume goes home, both stop.
Then the store file is read without Holdfast."""

import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

import holdfast
from holdfast import MI, Pair, Volume, volume_status, wait_for
from multipath import Multipath
from telling import SOURCES, Lost, command, need, say, show_table

RANDOM_SIZE, FILES_SIZE, FILES_BYTES = 32 * MI, 128 * MI, 64 * MI


# ---- the file system ----

def gather(tree):
    """Copies real files (the source tree, where there is one, then /usr/share/doc) to `tree`; returns {path: SHA-256}."""
    sums, room = {}, FILES_BYTES
    for source in [*SOURCES, pathlib.Path("/usr/share/doc")]:
        for folder, folders, files in os.walk(source):
            folders[:] = sorted(f for f in folders if not f.startswith((".", "__")))
            for name in sorted(files):
                path = pathlib.Path(folder, name)
                if path.is_symlink() or not path.is_file() or path.stat().st_size > room:
                    continue
                inside = path.relative_to(source.parent)
                copy = tree / inside
                copy.parent.mkdir(parents=True, exist_ok=True)
                data = path.read_bytes()
                copy.write_bytes(data)
                room -= len(data) + 512
                sums[str(inside)] = hashlib.sha256(data).hexdigest()
    return sums


def make_image(directory):
    tree, image = directory / "tree", directory / "files.img"
    tree.mkdir()
    sums = gather(tree)
    with open(image, "wb") as file:
        file.truncate(FILES_SIZE)
    command("mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, image)
    shutil.rmtree(tree)
    return image, sums


# ---- what status says, over every life of both controllers ----

class Counters:
    """Sums of counters that start at zero with each life of a controller: the last seen of each life count."""

    def __init__(self):
        self.lives = {}
        self.takeover_us = 0

    def look(self, *controllers):
        for controller in controllers:
            status = controller.status()
            if status:
                self.lives[status["incarnation"]] = status
                self.takeover_us = max(self.takeover_us, status["takeover_last_us"])

    def total(self, *path):
        found = 0
        for status in self.lives.values():
            for key in path:
                status = status[key]
            found += status
        return found


# ---- the story ----

def start_fio(directory, uri):
    words = ["fio", "--name=random", "--ioengine=nbd", f"--uri={uri}", "--rw=randwrite", "--bs=4k",
             f"--size={RANDOM_SIZE}", "--iodepth=16", "--randseed=7", "--verify=crc32c", "--do_verify=1",
             "--verify_fatal=1", "--rate_iops=,3000", "--lat_percentiles=1", "--output-format=json"]
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, cwd=directory)


def finish_fio(fio):
    text, _ = fio.communicate(timeout=60)
    if fio.returncode != 0:
        raise Lost(f"fio ended with {fio.returncode}:\n{text[-2000:]}")
    return json.loads(text[text.index("{"):])["jobs"][0]


def copy_and_kill(pair, counters, files, image, fio):
    """nbdcopy runs; when half of the file system is in, a dies. Returns when it was killed."""
    copy = subprocess.Popen(["nbdcopy", "--flush", image, files.uri], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_for("half of the file system is copied", lambda: files.write_bytes > FILES_BYTES / 2
                 or copy.poll() is not None, 30, step=0.001)
        if copy.poll() is not None or fio.poll() is not None:
            raise Lost("the hosts were done before the kill: nothing was shown")
        counters.look(pair.a, pair.b)
        moment = time.monotonic()
        pid = pair.a.kill(signal.SIGKILL)
        say(f"kill -9 {pid}: controller a is gone in the middle of both")
        text, _ = copy.communicate(timeout=60)
        if copy.returncode != 0:
            raise Lost(f"nbdcopy ended with {copy.returncode}:\n{text}")
        return moment
    finally:
        if copy.poll() is None:
            copy.kill()
            copy.wait()


def hosts_at_work(pair, counters, image):
    events = []

    def tell(volume):
        return lambda text: (events.append(text), say(f"  host, {volume}: {text}"))

    files = Multipath(holdfast.free_port(), pair.targets(), "files", FILES_SIZE, on_event=tell("files"))
    random = Multipath(holdfast.free_port(), pair.targets(), "random", RANDOM_SIZE, on_event=tell("random"))
    say("fio writes verified random blocks to volume random, nbdcopy copies the file system to volume files")
    fio = start_fio(pair.directory, random.uri)
    try:
        wait_for("fio writes", lambda: random.writes > 500 or fio.poll() is not None, 20)
        moment = copy_and_kill(pair, counters, files, image, fio)
        status = pair.b.wait_role("solo")
        counters.look(pair.b)
        say(f"controller b serves both volumes: {status['reason'] or status['role']}")
        gap = max(p.first_answer_after(moment) or 99 for p in (files, random))
        say(f"takeover took {status['takeover_last_us'] / 1000:.1f} ms; both hosts had their first answer "
            f"from b within {gap * 1000:.0f} ms of the kill")
        say("nbdcopy has ended well; fio goes on and reads back what it wrote ...")
        job = finish_fio(fio)
        say(f"fio has ended well: {job['write']['total_ios']} blocks written, {job['read']['total_ios']} verified")
    finally:
        if fio.poll() is None:
            fio.kill()
            fio.wait()
    return files, random


def bring_home(pair, counters, files):
    pair.a.process.wait(20)
    say("controller a is started again; b fills it with every dirty page while it serves")
    pair.a.start()
    pair.wait_paired(20)
    say("a and b are paired again")
    pair.move("files", "a")
    pair.wait_owner("files", "a")
    say("volume files has moved home to a")
    handle = pair.a.connect("files")
    wrong = files.count_wrong(lambda offset, length: handle.pread(length, offset))
    handle.shutdown()
    if wrong:
        raise Lost(f"{wrong} sectors read through a are not what was acknowledged")
    say("volume files read back through a: every acknowledged block is there")
    counters.look(pair.a, pair.b)


def read_the_store(pair, files, random, sums):
    """Returns how many acknowledged sectors are missing. Raises Lost for anything else that is wrong."""
    store = pair.store_paths["disk"]
    wrong = files.count_wrong(pair.store_pread("files")) + random.count_wrong(pair.store_pread("random"))
    say(f"{len(files.sums) + len(random.sums)} acknowledged sectors compared with the store file: {wrong} wrong")

    image = pair.directory / "from-the-store.img"
    command("dd", f"if={store}", f"of={image}", "bs=1M", f"skip={pair.volumes['files'].offset // MI}",
            f"count={FILES_SIZE // MI}", "conv=sparse")
    command("e2fsck", "-fn", image)
    say("e2fsck -fn on the store's range of volume files: clean")
    out = pair.directory / "out"
    out.mkdir()
    command("debugfs", "-R", f"rdump / {out}", image)
    bad = [path for path, digest in sums.items()
           if not (out / path).is_file() or hashlib.sha256((out / path).read_bytes()).hexdigest() != digest]
    if bad:
        raise Lost(f"{len(bad)} of {len(sums)} files differ, the first: {bad[0]}")
    say(f"{len(sums)} files have the SHA-256 that they had before")
    # The blocks of volume random lie at the front of the store, where fio's own headers say they are.
    command("fio", "--name=random", f"--filename={store}", "--ioengine=psync", "--rw=randwrite", "--bs=4k",
            f"--size={RANDOM_SIZE}", "--randseed=7", "--verify=crc32c", "--verify_only=1", "--verify_fatal=1",
            cwd=pair.directory)
    say("fio --verify_only on the store itself: every block good")
    return wrong


def table(pair, counters, files, random, wrong):
    batches, headers = counters.total("sent", "batches"), counters.total("sent", "headers")
    joined = counters.total("destage", "joined_pages") + counters.total("sent", "folds")
    rows = [("acknowledged writes", f"{files.writes + random.writes:,}"),
            ("lost", f"{wrong}"),
            ("takeover", f"{counters.takeover_us / 1000:.1f} ms"),
            ("batches", f"{batches:,}"),
            ("headers a batch", f"{headers / batches:.1f}" if batches else "-"),
            ("flush messages", f"{counters.total('flush_messages')}"),
            ("writes joined by the cache", f"{joined:,}")]
    show_table(rows)
    if wrong or counters.total("flush_messages"):
        raise Lost(f"{wrong} sectors lost")


def prepare():
    need("fio", "nbdcopy", "mke2fs", "e2fsck", "debugfs")
    return Pair(volumes=[Volume("random", size=RANDOM_SIZE, owner="a"), Volume("files", size=FILES_SIZE, owner="a")],
                lease="1000ms", settle="100ms", cache="64M")


def story(pair):
    image, sums = make_image(pair.directory)
    say(f"an ext4 image of {len(sums)} real files: {image.stat().st_size // MI} MiB")
    counters = Counters()
    pair.start()
    say(f"controllers a and b are up and paired, epoch {pair.a.status()['epoch']}; one store file behind both: "
        f"{pair.store_paths['disk']}")
    files, random = hosts_at_work(pair, counters, image)
    bring_home(pair, counters, files)
    files.end()
    random.end()
    dirty = sum(volume_status(s, v)["dirty_pages"] for v, s in
                (("files", pair.a.status()), ("random", pair.b.status())))
    say(f"clean stop of both, with {dirty:,} dirty pages still to be destaged")
    pair.stop()
    say("both have ended with status 0; from here on only the store file is read")
    wrong = read_the_store(pair, files, random, sums)
    table(pair, counters, files, random, wrong)
