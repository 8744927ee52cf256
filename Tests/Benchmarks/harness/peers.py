"""rsync and lsyncd, the programs that ours are measured beside, and the check that two trees are equal."""

import dataclasses
import functools
import os
import re
import shutil
import subprocess
import time

from harness.processes import Daemon, die_with_parent


class TreesDiffer(Exception):
    pass


@dataclasses.dataclass(frozen=True)
class Finished:
    """A run of rsync. CPU, memory and bytes written cover all of its processes, the memory the largest of them."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    written_bytes: int
    output: str

    def wire_bytes(self):
        """With --stats: what the sender and the receiver sent to each other."""
        counts = re.findall(r"^Total bytes (?:sent|received): ([\d,.]+)", self.output, re.M)
        return sum(int(re.sub(r"\D", "", count)) for count in counts)


def rsync(*options):
    argv = ["rsync", *map(str, options)]
    output = os.memfd_create("rsync")
    try:
        start = time.monotonic()
        process = subprocess.Popen(argv, stdout=output, stderr=output, preexec_fn=die_with_parent)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        seconds = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        text = os.pread(output, 1 << 24, 0).decode(errors="replace")
    finally:
        os.close(output)
    if process.returncode != 0:
        raise RuntimeError(f"rsync ended with {process.returncode}: {text[-2000:]}")
    return Finished(
        seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10, usage.ru_oublock * 512, text
    )


@functools.cache
def rsync_can_fsync():
    return "--fsync" in subprocess.run(["rsync", "--help"], capture_output=True, text=True).stdout


def check_equal(source, replica):
    """Compares content, metadata, hard links, ACLs and extended attributes, by an independent program."""
    found = rsync("-aHAXcni", "--delete", "--exclude=/.wal", f"{source}/", f"{replica}/").output
    if found:
        lines = found.splitlines()
        raise TreesDiffer(f"{len(lines)} differences between source and replica, first: {'; '.join(lines[:5])}")


def have_lsyncd():
    return shutil.which("lsyncd") is not None


def start_lsyncd(work, source, replica):
    """lsyncd at the shortest delay that its manual's examples use, mirroring with rsync."""
    configuration = work / "lsyncd.lua"
    configuration.write_text(
        f'sync {{ default.rsync, source = "{source}", target = "{replica}", '
        "delay = 1, rsync = { archive = true } }\n"
    )
    return Daemon("lsyncd", "-nodaemon", str(configuration))
