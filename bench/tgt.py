# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors
"""A tgtd of our own, as the other side of a comparison: on a loopback port, with a management socket in a directory of
ours, and one thin LUN over one file. A tgtd of the machine is never spoken to."""

import os
import subprocess

import processes

NAME = "iqn.2026-11.test:tgt"
LUN = 1  # 0 is tgtd's own controller device


class Tgtd:
    """It refuses SIGTERM while it has targets; its sessions and its file are ours, so stopping it is SIGKILL."""

    def __init__(self, path, port, image, core=processes.SERVER_CORE):
        self.port = port
        self.socket = os.path.join(path, "tgtd")
        self.servers = processes.Processes(os.path.join(path, "tgtd.log"))
        # Through env(1), because the pinned command is what Processes starts.
        self.servers.start(["env", f"TGT_IPC_SOCKET={self.socket}", "tgtd", "--foreground", "--iscsi",
                            f"portal=127.0.0.1:{port}"], core)
        try:
            self.servers.wait_for(("127.0.0.1", port))
            self._configure(image)
        except Exception:
            self.stop()
            raise

    def _configure(self, image):
        target = ["--mode", "target", "--tid", "1"]
        unit = ["--mode", "logicalunit", "--tid", "1", "--lun", str(LUN)]
        processes.wait_until("tgtd to take a target",
                             lambda: self._say("--op", "new", *target, "--targetname", NAME).returncode == 0)
        for words in (["--op", "new", *unit, "--backing-store", image],
                      ["--op", "update", *unit, "--params", "thin_provisioning=1"],
                      ["--op", "bind", *target, "--initiator-address", "127.0.0.1"]):
            done = self._say(*words)
            if done.returncode != 0:
                raise processes.BenchError(f"tgtadm {' '.join(words)}: {done.stderr or done.stdout}")

    def _say(self, *words):
        return subprocess.run(["tgtadm", "--lld", "iscsi", *words], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=10, check=False, env=dict(os.environ, TGT_IPC_SOCKET=self.socket))

    def url(self):
        return f"iscsi://127.0.0.1:{self.port}/{NAME}/{LUN}"

    def stop(self):
        self.servers.stop(grace_s=0.1)
