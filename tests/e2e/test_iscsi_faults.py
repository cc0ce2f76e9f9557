# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""iSCSI hosts whose controllers die, freeze, move and stop: every write that a host was told is done is still there, and
no command is failed, whichever path it came by."""

import hashlib
import os
import random
import signal
import subprocess
import time

import pytest

import qemufuse
import scsihost
import scsipath
from holdfast import LONG_LEASE, MI, Volume, free_port, run, volume_status, wait_for
from load import Load
from proxy import Proxy


def load_on(pair, first="a", volume="alpha", **settings):
    return Load(scsipath.targets(pair, volume, first), volume, pair.volumes[volume].size, path=scsipath.ScsiPath,
                **settings).start()


@pytest.fixture
def iscsi_pair(make_pair):
    return make_pair(iscsi=True)


def judge(load, pair, *through):
    """What it wrote is there, through NBD's way in, which shares nothing with the one it came by."""
    for controller in through:
        load.verify_through(controller)
    assert load.written_sectors() > 500


def attentions_only(load, *allowed):
    """No command was failed; unit attentions were those of a change of access state, or of a new session."""
    assert not load.path.errors, load.path.errors[:3]
    for _, _, sense in load.path.attentions:
        assert sense == scsihost.ACCESS_STATE_CHANGED or sense[1] == 0x29, sense


# ---- death ----

@pytest.mark.parametrize("first, dies", [("a", "a"), ("b", "a"), ("b", "b"), ("a", "b")])
def test_a_kill_under_load_loses_nothing_through_either_path(iscsi_pair, first, dies):
    """alpha is a's: first "a" is the direct path, "b" the shipped one."""
    alpha = load_on(iscsi_pair, first)
    alpha.wait_acknowledged(1000)
    iscsi_pair.controller(dies).kill()
    alpha.wait_acknowledged(500)
    survivor = iscsi_pair.other(iscsi_pair.controller(dies))
    survivor.wait_role("solo")
    assert [name for _, name in alpha.path.logins] == ([first] if first != dies else [first, survivor.name])
    iscsi_pair.controller(dies).wait_exit()
    iscsi_pair.controller(dies).start()
    iscsi_pair.wait_paired(timeout=15)
    alpha.wait_acknowledged(500)
    alpha.stop()
    attentions_only(alpha)
    judge(alpha, iscsi_pair, survivor)
    iscsi_pair.stop()
    alpha.verify(iscsi_pair.store_pread("alpha"), "the store")


def test_a_frozen_owner_is_taken_over_and_loses_nothing(iscsi_pair):
    direct, shipped = load_on(iscsi_pair), load_on(iscsi_pair, volume="beta", seed=2)
    direct.wait_acknowledged(500)
    shipped.wait_acknowledged(500)
    iscsi_pair.a.kill(signal.SIGSTOP)
    direct.wait_acknowledged(300)
    shipped.wait_acknowledged(300)
    iscsi_pair.b.wait_role("solo")
    direct.stop()
    shipped.stop()
    judge(direct, iscsi_pair, iscsi_pair.b)
    judge(shipped, iscsi_pair, iscsi_pair.b)


def test_writes_acknowledged_through_the_shipped_path_survive_both_deaths_in_turn(iscsi_pair):
    shipped = load_on(iscsi_pair, "b", limit=2000)
    wait_for("all answered", lambda: shipped.path.acknowledged == 2000, 30)
    shipped.stop()
    iscsi_pair.a.kill()
    iscsi_pair.b.wait_role("solo")
    judge(shipped, iscsi_pair, iscsi_pair.b)
    iscsi_pair.a.wait_exit()
    iscsi_pair.a.start()
    iscsi_pair.wait_paired(timeout=15)
    iscsi_pair.b.kill()
    iscsi_pair.a.wait_role("solo")
    judge(shipped, iscsi_pair, iscsi_pair.a)


# ---- planned ----

@pytest.mark.parametrize("first", ["a", "b"])
def test_a_move_under_load_fails_no_command_and_costs_no_path(iscsi_pair, first):
    alpha = load_on(iscsi_pair, first)
    alpha.wait_acknowledged(300)
    for to in ("b", "a", "b"):
        iscsi_pair.move("alpha", to)
        iscsi_pair.wait_owner("alpha", to)
        alpha.wait_acknowledged(300)
    alpha.stop()
    attentions_only(alpha)
    assert len(alpha.path.logins) == 1 and not alpha.path.losses
    assert any(sense == scsihost.ACCESS_STATE_CHANGED for _, _, sense in alpha.path.attentions)
    judge(alpha, iscsi_pair, iscsi_pair.a, iscsi_pair.b)


def test_a_rolling_restart_fails_no_command(iscsi_pair):
    alpha, beta = load_on(iscsi_pair), load_on(iscsi_pair, "b", "beta", seed=2)
    for name in "ab":
        alpha.wait_acknowledged(200)
        beta.wait_acknowledged(200)
        controller = iscsi_pair.controller(name)
        assert controller.terminate() == 0
        iscsi_pair.other(controller).wait_role("solo")
        alpha.wait_acknowledged(200)
        beta.wait_acknowledged(200)
        controller.start()
        iscsi_pair.wait_paired(timeout=15)
    alpha.stop()
    beta.stop()
    for load in (alpha, beta):
        # A controller that is out says so, and the host's other path is there: nothing else was said.
        assert all(answer.sense == scsihost.PORT_UNAVAILABLE for _, _, _, answer in load.path.errors), load.path.errors
        load.path.errors.clear()
        attentions_only(load)
    judge(alpha, iscsi_pair, iscsi_pair.a)
    judge(beta, iscsi_pair, iscsi_pair.b)


def test_NBD_is_shipped_as_well(iscsi_pair):
    """A host that knows NBD alone, at the controller that does not own the volume: no refusal, and no loss of a's death."""
    alpha = Load(iscsi_pair.targets("b"), "alpha", iscsi_pair.volumes["alpha"].size).start()
    alpha.wait_acknowledged(1000)
    iscsi_pair.a.kill()
    alpha.wait_acknowledged(500)
    alpha.stop()
    assert [name for _, name in alpha.path.logins] == ["b"] and not alpha.path.errors
    judge(alpha, iscsi_pair, iscsi_pair.b)


# ---- a file system on top ----

class Files:
    """Files on a mounted file system: written, synced, and only then remembered."""

    def __init__(self, directory, seed=5):
        self.directory, self.generator, self.sums = directory, random.Random(seed), {}

    def write(self, count):
        for _ in range(count):
            path = self.directory / f"f{len(self.sums)}"
            data = self.generator.randbytes(self.generator.randrange(1, 200_000))
            with open(path, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self.sums[path.name] = hashlib.sha256(data).digest()

    def verify(self):
        for name, expected in self.sums.items():
            assert hashlib.sha256((self.directory / name).read_bytes()).digest() == expected, f"{name} is not what it was"


def test_a_file_system_whose_owner_is_killed_in_the_middle_keeps_every_synced_file(make_pair, tmp_path):
    """The host's path is a relay to the owner that then leads to the other one: QEMU's initiator logs in anew and sends
    again what has no answer, as a multipath layer would on its other path."""
    if qemufuse.usable():
        pytest.skip(qemufuse.usable())
    size = 64 * MI
    pair = make_pair(iscsi=True, volumes=[Volume("alpha", size=size)], cache="32M", lease=LONG_LEASE)
    relay = Proxy(free_port(), pair.a.iscsi)
    lun = loop = None
    mounted = False
    mount = tmp_path / "mount"
    mount.mkdir()
    try:
        lun = qemufuse.LunFile(tmp_path, pair.a.iscsi_url("alpha", portal=f"127.0.0.1:{relay.port}"), size)
        loop = qemufuse.LoopDevice(lun.path)
        if loop.reason:
            pytest.skip(loop.reason)
        run("mkfs.ext4", "-q", loop.device)
        if subprocess.run(["mount", loop.device, mount], check=False).returncode:
            pytest.skip("ext4 cannot be mounted here")
        mounted = True
        files = Files(mount)
        files.write(40)
        writer = subprocess.Popen(["dd", "if=/dev/urandom", f"of={mount / 'stream'}", "bs=64k", "count=300",
                                   "oflag=dsync", "status=none"])
        time.sleep(0.1)
        pair.a.kill()
        relay.turn_to(pair.b.iscsi)
        files.write(40)
        assert writer.wait(40) == 0, "the stream through the takeover ends without an error"
        files.verify()
        run("umount", mount)
        mounted = False
        run("fsck.ext4", "-f", "-n", loop.device)
        run("mount", loop.device, mount)
        mounted = True
        files.verify()
        assert len(files.sums) == 80 and pair.b.role() == "solo"
    finally:
        if mounted:
            subprocess.run(["umount", "-l", mount], check=False)
        if loop:
            loop.end()
        if lun:
            lun.end()
        relay.end()


def test_fio_verifies_through_a_takeover(make_pair, tmp_path):
    if qemufuse.usable():
        pytest.skip(qemufuse.usable())
    size = 32 * MI
    # Alone, each write waits for the store: in memory, so that a machine's disk is not what takes the time.
    pair = make_pair(iscsi=True, volumes=[Volume("alpha", size=size)], cache="16M", memory=True,
                     lease=LONG_LEASE)
    relay = Proxy(free_port(), pair.a.iscsi)
    lun = None
    try:
        lun = qemufuse.LunFile(tmp_path, pair.a.iscsi_url("alpha", portal=f"127.0.0.1:{relay.port}"), size)
        fio = subprocess.Popen(["fio", "--name=verify", f"--filename={lun.path}", "--ioengine=libaio", "--rw=randwrite",
                                "--bsrange=512-64k", f"--size={size}", "--io_size=96M", "--iodepth=16",
                                "--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--minimal"], cwd=tmp_path,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        wait_for("it writes", lambda: fio.poll() is not None or volume_status(pair.a.wait_status(), "alpha")["writes"] > 50,
                 step=0)
        assert fio.poll() is None, f"the kill must come in the middle: {fio.stdout.read()}"
        pair.a.kill()
        relay.turn_to(pair.b.iscsi)
        said, _ = fio.communicate(timeout=150)
        assert fio.returncode == 0, said
        assert pair.b.role() == "solo"
    finally:
        if lun:
            lun.end()
        relay.end()
