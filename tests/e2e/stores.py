# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors

"""A store that can be slow, stop, or fail: a file behind nbdkit's delay, pause and error filters, shown as a file again
by nbdfuse. It does O_DIRECT, and a write that it holds back is as much under way for the kernel as one on a disk."""

import shutil
import socket
import subprocess

from holdfast import _die_with_parent, wait_for


def usable():
    """A reason why such a store cannot be made here, or None."""
    for program in ("nbdkit", "nbdfuse", "fusermount3"):
        if not shutil.which(program):
            return f"{program} is not installed"
    try:
        open("/dev/fuse", "rb").close()
    except OSError as error:
        return f"/dev/fuse: {error}"
    return None


class FaultyStore:
    """Takes the place of the pair's store file `store`: pair.store_paths[store] becomes the path of the faulty one.
    The bytes are in `backing`, which can be read without it."""

    def __init__(self, pair, store="disk", write_delay_ms=0):
        self.pair, self.store = pair, store
        self.backing = pair.store_paths[store]
        self.mount = pair.directory / f"{store}.faulty"
        self.mount.touch()
        self.trigger = pair.directory / f"{store}.fail"
        self.socket = pair.directory / f"{store}.sock"
        self.control = pair.directory / f"{store}.pause"
        filters = ["--filter=pause", "--filter=error"]
        settings = [f"pause-control={self.control}", "error-pwrite=EIO", "error-pwrite-rate=100%",
                    f"error-file={self.trigger}"]
        if write_delay_ms:
            filters.append("--filter=delay")
            settings.append(f"wdelay={write_delay_ms}ms")
        log = open(pair.directory / f"{store}.nbdkit.log", "wb")
        self.nbdkit = subprocess.Popen(
            ["nbdkit", "-f", "-t", "64", "-U", self.socket, *filters, "file", self.backing, *settings],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent)
        wait_for("nbdkit's socket", self.socket.exists)
        self.fuse = subprocess.Popen(["nbdfuse", self.mount, "--unix", self.socket], stdin=subprocess.DEVNULL,
                                     stdout=log, stderr=log, preexec_fn=_die_with_parent)
        log.close()
        wait_for("the file that nbdfuse shows", lambda: self.mount.stat().st_size == self.backing.stat().st_size)
        pair.store_paths[store] = self.mount

    def fail_writes(self):
        self.trigger.touch()

    def _say(self, letter):
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(10)
            control.connect(str(self.control))
            control.sendall(letter)
            answer = control.recv(1)
            assert answer == letter.upper(), f"the pause filter answered {answer!r}"

    def pause(self):
        """What is under way ends first; every operation after it hangs until resume()."""
        self._say(b"p")

    def resume(self):
        self._say(b"r")

    def heal(self):
        self.trigger.unlink(missing_ok=True)

    def let_go(self):
        """Whole and awake again, whatever it was, so that processes that wait for it can end."""
        self.heal()
        if self.nbdkit.poll() is None:
            try:
                self.resume()
            except (OSError, AssertionError):
                pass

    def end(self):
        """After the controllers have ended."""
        self.let_go()
        subprocess.run(["fusermount3", "-u", "-z", self.mount], stderr=subprocess.DEVNULL, timeout=10)
        for process in (self.fuse, self.nbdkit):
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)
        self.pair.store_paths[self.store] = self.backing
