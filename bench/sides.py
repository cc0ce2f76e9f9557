# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors
"""The sides that are compared. A side starts its servers in a directory, says where its export is, and stops.
All of them serve hosts over loopback TCP and keep their data in memory (/dev/shm)."""

import os
import shutil

import pair
import processes

MIB = 1 << 20


class Side:
    """What every side has. Subclasses fill in launch()."""

    name = ""
    title = ""
    mirrored = False
    stores_data = True
    needs = ()

    def __init__(self, bench):
        self.bench = bench
        self.port = bench.port
        self.servers = None
        self.path = None
        self.export = "bench"

    def missing(self):
        """None, or a sentence saying why this side cannot run."""
        for program in self.needs:
            if not shutil.which(program):
                return f"{program} is not installed"
        return None

    def start(self, path, size_bytes):
        self.path = path
        self.servers = processes.Processes(os.path.join(path, "log"))
        self.launch(size_bytes)
        self.servers.wait_for(("127.0.0.1", self.port))

    def launch(self, size_bytes):
        raise NotImplementedError

    def stop(self):
        if self.servers:
            self.servers.stop()

    def uri(self):
        return f"nbd://127.0.0.1:{self.port}/{self.export}"

    def status(self):
        """Counters of the side, for those that have any."""
        return None

    def check_copies(self, offset, data):
        """After a write and a flush: the bytes in every store file, where there is one."""
        for copy in self.copies():
            with open(copy, "rb") as file:
                file.seek(offset)
                if file.read(len(data)) != data:
                    raise processes.BenchError(f"{self.name}: {copy} does not hold what was written")

    def copies(self):
        return []

    def store(self, name, size_bytes):
        path = os.path.join(self.path, name)
        processes.make_store(path, size_bytes)
        return path


class EchoChain(Side):
    name = "chain"
    title = "two-hop echo chain (the limit)"
    stores_data = False
    single = False

    def missing(self):
        return None if os.path.exists(self.program()) else "echo-chain is not built"

    def program(self):
        return os.path.join(self.bench.build, "bench", "echo-chain")

    def launch(self, size_bytes):
        self.servers.start([self.program(), self.port, self.port + 1] + (["--single"] if self.single else []))


class EchoChainSingle(EchoChain):
    name = "chain-single"
    title = "two-hop echo chain, one write a message"
    single = True


class Holdfast(Side):
    name = "holdfast"
    title = "holdfast, mirrored pair"
    mirrored = True

    def __init__(self, bench):
        super().__init__(bench)
        self.pair = None

    def missing(self):
        return pair.missing(self.bench)

    def start(self, path, size_bytes):
        self.path = path
        self.pair = pair.Pair(self.bench, path, size_bytes, cache=self.bench.cache)
        self.servers = self.pair.servers
        self.port = self.pair.nbd_port(0)
        self.export = pair.VOLUME
        self.pair.start()

    def status(self):
        return self.pair.status(0)

    def stop(self):
        if self.pair:
            self.pair.stop()


class Nbdkit(Side):
    name = "nbdkit"
    title = "nbdkit memory, no mirror"
    needs = ("nbdkit",)

    def launch(self, size_bytes):
        self.servers.start(["nbdkit", "--foreground", "--ipaddr", "127.0.0.1", "--port", self.port,
                            "memory", str(size_bytes)])


class NbdServer(Side):
    name = "nbd-server"
    title = "nbd-server, no mirror"
    needs = ("nbd-server",)

    def launch(self, size_bytes):
        config = os.path.join(self.path, "nbd-server.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"[generic]\nlistenaddr = 127.0.0.1\nport = {self.port}\nallowlist = true\n"
                       f"[bench]\nexportname = {self.store('nbd-server.img', size_bytes)}\nflush = true\n")
        pid_file = os.path.join(self.path, "nbd-server.pid")
        self.servers.start_daemon(["nbd-server", "-C", config, "-p", pid_file], pid_file)

    def copies(self):
        return [os.path.join(self.path, "nbd-server.img")]


def storage_daemon(*arguments):
    return ["qemu-storage-daemon", *arguments]


def file_node(name, path, bench):
    return ["--blockdev", f"driver=file,node-name={name},filename={path},aio={bench.qemu_aio}"]


def nbd_export(node, name):
    return ["--export", f"type=nbd,id={name},node-name={node},name={name},writable=on"]


class QemuPlain(Side):
    name = "qemu"
    title = "qemu-storage-daemon, no mirror"
    needs = ("qemu-storage-daemon",)

    def launch(self, size_bytes):
        self.servers.start(storage_daemon(
            *file_node("store", self.store("qemu.img", size_bytes), self.bench),
            "--nbd-server", f"addr.type=inet,addr.host=127.0.0.1,addr.port={self.port}",
            *nbd_export("store", self.export)))

    def copies(self):
        return [os.path.join(self.path, "qemu.img")]


class QemuQuorum(Side):
    """The nearest user-space synchronous mirror: a write is acknowledged when the local file and a second process,
    reached by NBD, both have it."""

    needs = ("qemu-storage-daemon",)
    mirrored = True

    def second(self):
        """(--nbd-server address of the second process, where to wait for it, quorum's server.* options)"""
        raise NotImplementedError

    def launch(self, size_bytes):
        listen, address, server = self.second()
        self.servers.start(storage_daemon(
            *file_node("store", self.store("quorum-b.img", size_bytes), self.bench),
            "--nbd-server", listen, *nbd_export("store", "second")))
        self.servers.wait_for(address)
        self.servers.start(storage_daemon(
            *file_node("local", self.store("quorum-a.img", size_bytes), self.bench),
            "--blockdev", f"driver=nbd,node-name=remote,export=second,{server}",
            "--blockdev", "driver=quorum,node-name=both,vote-threshold=2,children.0=local,children.1=remote",
            "--nbd-server", f"addr.type=inet,addr.host=127.0.0.1,addr.port={self.port}",
            *nbd_export("both", self.export)))

    def copies(self):
        return [os.path.join(self.path, name) for name in ("quorum-a.img", "quorum-b.img")]


class QemuQuorumUnix(QemuQuorum):
    name = "quorum-unix"
    title = "qemu quorum, second copy over a UNIX socket"

    def second(self):
        path = os.path.join(self.path, "second")
        return f"addr.type=unix,addr.path={path}", path, f"server.type=unix,server.path={path}"


class QemuQuorumTcp(QemuQuorum):
    name = "quorum-tcp"
    title = "qemu quorum, second copy over TCP"

    def second(self):
        port = self.port + 1
        return (f"addr.type=inet,addr.host=127.0.0.1,addr.port={port}", ("127.0.0.1", port),
                f"server.type=inet,server.host=127.0.0.1,server.port={port}")


ALL = [EchoChain, EchoChainSingle, Holdfast, QemuQuorumUnix, QemuQuorumTcp, Nbdkit, NbdServer, QemuPlain]
