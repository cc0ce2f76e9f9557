# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""A LUN as a file: qemu-storage-daemon's own iSCSI initiator, shown over FUSE. Programs that know nothing of iSCSI work
on it, and a loop device over it takes a file system."""

import os
import re
import shutil
import subprocess

from holdfast import _die_with_parent, wait_for


def usable():
    """A reason why this cannot be done here, or None."""
    for name in ("qemu-storage-daemon", "fusermount3"):
        if not shutil.which(name):
            return f"{name} is not installed"
    try:
        open("/dev/fuse", "rb").close()
    except OSError as error:
        return f"/dev/fuse: {error}"
    return None


class LunFile:
    """path: a file whose bytes are those of the LUN at the URL."""

    def __init__(self, directory, url, size, name="lun", timeout=10):
        self.path = directory / f"{name}.fuse"
        self.path.touch()
        self.log_path = directory / f"{name}.qsd.log"
        portal, target, lun = re.match(r"iscsi://([^/]+)/([^/]+)/(\d+)$", url).groups()
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                ["qemu-storage-daemon", "--blockdev",
                 f"driver=iscsi,node-name=lun,transport=tcp,portal={portal},target={target},lun={lun},"
                 f"initiator-name=iqn.2026-11.test:{name},timeout={timeout}",
                 "--export", f"type=fuse,id=export,node-name=lun,mountpoint={self.path},writable=on"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent)
        wait_for(lambda: f"the file that qemu-storage-daemon shows: {self.log_path.read_text()}",
                 lambda: self.process.poll() is None and self.path.stat().st_size == size)

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        subprocess.run(["fusermount3", "-u", "-z", self.path], stderr=subprocess.DEVNULL, timeout=10, check=False)


class LoopDevice:
    """A block device over a file; `reason` says why there is none."""

    def __init__(self, path):
        self.device = self.reason = None
        if os.geteuid() != 0:
            self.reason = "a loop device needs root"
            return
        made = subprocess.run(["losetup", "--find", "--show", str(path)], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=10, check=False)
        if made.returncode != 0:
            self.reason = f"losetup: {made.stderr.strip()}"
            return
        self.device = made.stdout.strip()

    def end(self):
        if self.device:
            subprocess.run(["losetup", "--detach", self.device], timeout=10, check=False)
