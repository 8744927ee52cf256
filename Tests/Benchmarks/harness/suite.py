"""The commands under test, driven as an operator would drive them."""

import json
import pathlib
import socket
import subprocess
import time

from harness import images, processes


class Tools:
    NAMES = ("walship", "walrecv", "walctl")
    _USAGE = 64

    def __init__(self, folder):
        self.walship, self.walrecv, self.walctl = (str(pathlib.Path(folder).resolve() / name) for name in self.NAMES)

    def ask(self, *arguments, timeout_seconds=60, meanwhile=lambda: None):
        """Runs walctl, and calls `meanwhile` every second, which may raise. Returns its exit code and its output."""
        asked = f"walctl {' '.join(map(str, arguments))}"
        deadline = time.monotonic() + timeout_seconds
        with subprocess.Popen(
            [self.walctl, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=processes.die_with_parent,
        ) as process:
            try:
                while True:
                    try:
                        answer, talk = process.communicate(timeout=1)
                        break
                    except subprocess.TimeoutExpired:
                        meanwhile()
                        if time.monotonic() > deadline:
                            raise TimeoutError(f"{asked}: no answer in {timeout_seconds} s") from None
            except BaseException:
                process.kill()
                raise
        if process.returncode == self._USAGE:
            raise RuntimeError(f"{asked}: {talk.strip()}")
        return process.returncode, answer.strip() or talk.strip()


class Suite:
    """One primary and its replicas on loopback. Leaving the `with` ends them and demands exit code 0 of each."""

    def __init__(self, bench):
        self._tools = bench.tools
        self._timeout_seconds = bench.timeout_seconds()
        self._running = []

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        codes = {}
        # Replicas first: a primary that goes before them would make them dial for nothing.
        for daemon in reversed(self._running):
            codes[f"{daemon.name} {daemon.pid}"] = daemon.stop()
        failed = {name: code for name, code in codes.items() if code != 0}
        if failed or (error is not None and not isinstance(error, SystemExit)):
            for daemon in self._running:
                daemon.show_log()
        for daemon in self._running:
            daemon.close()
        if failed and error is None:
            raise RuntimeError(f"SIGTERM must end a daemon with 0: {failed}")

    def ship(self, source):
        """Starts walship on a free port, kept as `address`."""
        self.source = source
        self.address = f"127.0.0.1:{_free_port()}"
        self.primary = self._start(self._tools.walship, source, "--listen", self.address)
        return self.primary

    def receive(self, replica):
        return self._start(self._tools.walrecv, replica, "--from", self.address)

    def end(self, daemon):
        """Ends one daemon early."""
        self._running.remove(daemon)
        code = daemon.stop()
        if code != 0:
            daemon.show_log()
        daemon.close()
        if code != 0:
            raise RuntimeError(f"SIGTERM must end {daemon.name} with 0, not {code}")

    def mark(self):
        """The position that holds all that was written before. Waits for a primary that is only starting."""
        control = pathlib.Path(self.source) / ".wal" / "control.sock"
        deadline = time.monotonic() + self._timeout_seconds
        answer = f"nothing listens at {control}"
        while time.monotonic() < deadline:
            self._check_alive()
            if _listens(control):
                code, answer = self._tools.ask(
                    "mark", self.source, timeout_seconds=self._timeout_seconds, meanwhile=self._check_alive
                )
                if code == 0:
                    return answer
            time.sleep(0.002)
        raise TimeoutError(f"walctl mark gave no position in {self._timeout_seconds} s: {answer}")

    def reach(self, position, replicas=1):
        """Returns when that many replicas have applied the position, so that their trees show it.

        Gives the monotonic time at which it was so: asking for the status after the wait is not counted.
        """
        code, answer = self._tools.ask(
            *("wait", self.address, position, "--replicas", replicas, "--timeout", f"{self._timeout_seconds}s"),
            timeout_seconds=self._timeout_seconds + 30,
            meanwhile=self._check_alive,
        )
        if code != 0:
            raise RuntimeError(f"walctl wait {position} --replicas {replicas} ended with {code}: {answer}")
        reached = time.monotonic()
        wanted = int(position.split(":")[1])
        deadline = time.monotonic() + self._timeout_seconds
        while sum((replica["applied_seq"] or 0) >= wanted for replica in self.status()["replicas"]) < replicas:
            if time.monotonic() > deadline:
                raise TimeoutError(f"durable, but not applied in {self._timeout_seconds} s: {position}")
            time.sleep(0.02)
            reached = time.monotonic()
        return reached

    def status(self):
        code, answer = self._tools.ask("status", self.address, "--json")
        if code != 0:
            raise RuntimeError(f"walctl status {self.address} ended with {code}: {answer}")
        return json.loads(answer)

    def first_sync(self, source, *replicas):
        """Starts everything together from nothing. Returns the receivers and the seconds until all was applied, and
        until all of the filesystem was synced after that."""
        start = time.monotonic()
        self.ship(source)
        receivers = [self.receive(replica) for replica in replicas]
        applied_seconds = self.reach(self.mark(), len(replicas)) - start
        before_sync = time.monotonic()
        images.syncfs(source)
        return receivers, applied_seconds, applied_seconds + time.monotonic() - before_sync

    def _check_alive(self):
        for daemon in self._running:
            daemon.check_alive()

    def _start(self, *argv):
        daemon = processes.Daemon(*map(str, argv))
        self._running.append(daemon)
        return daemon


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _listens(path):
    """Connecting tells a socket that is served from one that an ended daemon left behind."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            return False
        return True
