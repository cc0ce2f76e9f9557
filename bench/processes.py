# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors
"""The processes of the bench: started pinned to a core, each in a session of its own, and stopped by the ids that
starting them gave. Nothing here looks for a process by name, and every wait has a bound."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

SERVER_CORE = 0
CLIENT_CORE = 1
TICKS = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """Something the bench needs did not happen; the message says what."""


def pinned(core, command):
    return ["taskset", "-c", str(core), *[str(word) for word in command]]


def making_way(command):
    """The same, behind what the bench itself runs on that core, and like it ahead of the machine's other work when the
    bench was started in a real-time class."""
    if os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR):
        return ["chrt", "-f", str(max(1, os.sched_getparam(0).sched_priority - 1)), *command]
    return ["nice", "-n", "5", *command]


def wait_until(what, condition, timeout_s=10.0, pause_s=0.01):
    """Return the first true value of condition(), or raise BenchError after timeout_s."""
    end = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise BenchError(f"{what}: not within {timeout_s:g} s")
        time.sleep(pause_s)


def answers(address):
    """Whether something listens at (host, port) or at a UNIX path."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(address)
        except OSError:
            return False
    return True


def run(command, timeout_s, core=None):
    """Run to the end and return stdout; BenchError with the end of stderr when it fails."""
    if core is not None:
        command = pinned(core, command)
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                              timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{command[0]}: still running after {timeout_s:g} s") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-800:]
        raise BenchError(f"{' '.join(map(str, command))}: exit status {done.returncode}: {said}")
    return done.stdout


def session_of(pid):
    """The session id in /proc/PID/stat and its CPU ticks, or None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return int(fields[3]), sum(int(fields[i]) for i in (11, 12, 13, 14))


class Adopted:
    """A daemon that a program of ours became; its pid file lies in our own directory. As much of Popen as is used."""

    def __init__(self, pid, name):
        self.pid = pid
        self.args = ["", "", "", name]
        self.returncode = None

    def poll(self):
        return None if session_of(self.pid) else 0

    def wait(self, timeout_s):
        end = time.monotonic() + timeout_s
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(self.args, timeout_s)
            time.sleep(0.01)


class Processes:
    """Servers of one side. Each is the leader of a session; stop() ends the session, children included."""

    def __init__(self, log_path):
        self.log_path = log_path
        self.leaders = []

    def start(self, command, core=SERVER_CORE, behind=False, **pipes):
        command = pinned(core, command)
        with open(self.log_path, "ab") as log:
            process = subprocess.Popen(making_way(command) if behind else command, start_new_session=True,
                                       **{"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, **pipes})
        self.leaders.append(process)
        return process

    def start_daemon(self, command, pid_file):
        """For a program that can only run in the background: wait until it says who it has become."""
        def pid():
            with contextlib.suppress(OSError, ValueError):
                with open(pid_file, encoding="ascii") as file:
                    return int(file.read())
            return None
        run(command, 10, SERVER_CORE)
        self.leaders.append(Adopted(wait_until(f"{command[0]}'s pid file", pid), command[0]))

    def check_alive(self):
        for process in self.leaders:
            if process.poll() is not None:
                raise BenchError(f"{process.args[3]} ended with status {process.returncode}: {self.log_tail()}")

    def log_tail(self):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as log:
                return log.read()[-1500:].strip()
        except OSError:
            return ""

    def wait_for(self, address, timeout_s=10.0):
        """Until something answers at the address; at once an error when a server has ended."""
        def ready():
            self.check_alive()
            return answers(address)
        wait_until(f"a server at {address}", ready, timeout_s)

    def cpu_seconds(self):
        """Processor time of all processes of all sessions so far, ended children included."""
        wanted = {process.pid for process in self.leaders}
        ticks = 0
        for name in os.listdir("/proc"):
            if name.isdigit():
                found = session_of(name)
                if found and found[0] in wanted:
                    ticks += found[1]
        return ticks / TICKS

    def stop(self, grace_s=5.0):
        """SIGTERM to each leader (its children hear of it from the leader: a second SIGTERM would mean "now"), then
        SIGKILL for what is left of our own sessions."""
        for process in reversed(self.leaders):
            self._signal(process, signal.SIGCONT)
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)
        end = time.monotonic() + grace_s
        for process in self.leaders:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.05, end - time.monotonic()))
            self._signal(process, signal.SIGKILL)
            process.wait(10)
        self.leaders = []

    @staticmethod
    def _signal(process, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


@contextlib.contextmanager
def directory(parent="/dev/shm"):
    """A directory of our own in memory, removed at the end whatever happened."""
    path = tempfile.mkdtemp(prefix="holdfast-bench-", dir=parent)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def make_store(path, size_bytes):
    """A file with all its blocks allocated and touched, so that no side pays for that while it is measured: memory that
    was only reserved with fallocate() costs its first writer many times what a copy does."""
    zeros = bytes(1 << 20)
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, size_bytes)
        for at in range(0, size_bytes, len(zeros)):
            file.write(zeros[:size_bytes - at])
