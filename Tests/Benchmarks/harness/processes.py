"""Starting and ending processes, and what the kernel counts about them."""

import ctypes
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def die_with_parent():
    """Runs in a child between fork and exec: should this program be killed, its children are too."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Daemon:
    """A program in the background. Its output goes to memory: a log file would count as bytes that it wrote."""

    def __init__(self, *argv):
        self.name = pathlib.Path(argv[0]).name
        self._log = os.memfd_create(self.name)
        # A session of its own, so that Ctrl-C on the terminal reaches this program alone, which then ends the others.
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        self.pid = self._process.pid

    def check_alive(self):
        code = self._process.poll()
        if code is not None:
            raise RuntimeError(f"{self.name} ended by itself with {code}")

    def stop(self, patience_seconds=30):
        """SIGTERM, then SIGKILL when it does not help. Returns the exit code, negative for a signal."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(patience_seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        return self._process.returncode

    def log_tail(self, bytes=4096):
        size = os.fstat(self._log).st_size
        return os.pread(self._log, bytes, max(0, size - bytes)).decode(errors="replace")

    def show_log(self):
        print(f"--- the last that {self.name} said ---\n{self.log_tail()}", file=sys.stderr)

    def close(self):
        os.close(self._log)


def cpu_seconds(pid):
    """User and system time of the process so far, all threads: proc_pid_stat(5)."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def peak_bytes(pid):
    """The largest resident set that the process has had."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^VmHWM:\s+(\d+) kB", status, re.M)[1]) << 10


def written_bytes(pid):
    """Bytes that the process made the kernel write to storage, counted as pages are dirtied: proc_pid_io(5)."""
    return int(re.search(r"^write_bytes: (\d+)", pathlib.Path(f"/proc/{pid}/io").read_text(), re.M)[1])


def context_switches(pid):
    """Switches so far by thread, voluntary and forced."""
    switches = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            status = (task / "status").read_text()
        except FileNotFoundError:
            continue  # The thread ended between the listing and the reading.
        switches[task.name] = sum(int(n) for n in re.findall(r"^\w+_ctxt_switches:\s+(\d+)", status, re.M))
    return switches


def wait_until_quiet(pids, seconds=1.0, patience_seconds=60):
    """Returns True once none of the processes has written anything or used CPU for `seconds`, else False."""

    def now():
        return [(written_bytes(pid), round(cpu_seconds(pid), 1)) for pid in pids]

    deadline = time.monotonic() + patience_seconds
    while time.monotonic() < deadline:
        before = now()
        time.sleep(seconds)
        if now() == before:
            return True
    return False


class Wire:
    """Bytes that the TCP connections of a process carry, both directions, from creation until `bytes()`."""

    def __init__(self, pid):
        self._pid = pid
        self._before = self._connections()

    def bytes(self):
        """None when a connection from before has ended: what it carried is then unknown."""
        now = self._connections()
        if not self._before.keys() <= now.keys():
            return None
        return sum(now.values()) - sum(self._before.values())

    def _connections(self):
        listing = subprocess.run(["ss", "-HOtinp"], capture_output=True, text=True, check=True).stdout
        found = {}
        for line in listing.splitlines():
            if f",pid={self._pid}," in line:
                state, _, _, local, peer = line.split()[:5]
                counts = re.findall(r"\bbytes_(?:sent|received):(\d+)", line)
                found[local, peer] = sum(int(count) for count in counts)
        return found
