"""4 KiB changed inside a file of 1 GiB: what crosses the wire, what the replica writes, and how long it takes.

Bytes written are what the kernel counts for walrecv, its own log and catalog included, until the change is applied and
both daemons are quiet again. The table shows the largest of the changes; times are medians.
"""

import os
import random
import time

from harness import images, peers, processes, report, trees
from harness.bench import Case
from harness.suite import Suite

CHANGE_BYTES = 4096
_CHANGES = 5
_PATIENCE_SECONDS = 120


def changes(size):
    """Offsets, aligned to nothing, and new content."""
    source = random.Random("changes")
    for _ in range(_CHANGES):
        yield source.randrange(size - CHANGE_BYTES), source.randbytes(CHANGE_BYTES)


def overwrite(path, offset, block):
    descriptor = os.open(path, os.O_WRONLY)
    os.pwrite(descriptor, block, offset)
    os.close(descriptor)


def wait_for(path, offset, block):
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        # Opened each time: a replica may replace the file.
        descriptor = os.open(path, os.O_RDONLY)
        found = os.pread(descriptor, len(block), offset)
        os.close(descriptor)
        if found == block:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"a change was not replicated in {_PATIENCE_SECONDS} s")
        time.sleep(0.001)


def measure(bench, raw):
    size = bench.count(1 << 30, least=1 << 20)
    with bench.image(6, 0) as root:
        prepare(root, size)
        peers.rsync("-a", f"{root}/src/", f"{root}/dst/")
        images.syncfs(root)
        done = []
        for offset, block in changes(size):
            overwrite(root / "src/large", offset, block)
            # --ignore-times: else a change within the same clock tick and of the same size is not seen.
            options = ["-a", "--ignore-times", "--no-whole-file", "--stats"]
            done.append(peers.rsync(*options, f"{root}/src/", f"{root}/dst/"))
        keep(raw, "rsync", [(run.seconds, run.wire_bytes(), run.written_bytes) for run in done])
        peers.check_equal(root / "src", root / "dst")
    if not bench.tools:
        return
    with bench.image(6, 0) as root, Suite(bench) as suite:
        prepare(root, size)
        [receiver], _, _ = suite.first_sync(root / "src", root / "dst")
        pids = [suite.primary.pid, receiver.pid]
        done = []
        for offset, block in changes(size):
            processes.wait_until_quiet(pids)
            wire, written = processes.Wire(receiver.pid), processes.written_bytes(receiver.pid)
            start = time.monotonic()
            overwrite(root / "src/large", offset, block)
            wait_for(root / "dst/large", offset, block)
            seconds = time.monotonic() - start
            suite.reach(suite.mark())
            processes.wait_until_quiet(pids)
            done.append((seconds, wire.bytes(), processes.written_bytes(receiver.pid) - written))
        keep(raw, "walship", done)
        peers.check_equal(root / "src", root / "dst")


def prepare(root, size):
    trees.one_file(root / "src/large", size)
    images.syncfs(root)


def keep(raw, name, done):
    raw[f"{name}_all"] = [{"seconds": s, "wire_bytes": wire, "written_bytes": written} for s, wire, written in done]
    raw[f"{name}_seconds"] = report.percentile([s for s, _, _ in done], 50)
    wires = [wire for _, wire, _ in done]
    raw[f"{name}_wire_bytes"] = None if None in wires else max(wires)
    raw[f"{name}_written_bytes"] = max(written for _, _, written in done)


def rows(runs):
    def row(what, unit, key, target=None):
        ours, peer = report.median(runs, f"walship_{key}"), report.median(runs, f"rsync_{key}")
        return report.Row(what, unit, ours, peer, "rsync -a --no-whole-file", target)

    return [
        row("on the wire", "bytes", "wire_bytes", report.at_most(256 << 10)),
        row("written on the replica", "bytes", "written_bytes", report.at_most(256 << 10)),
        row("until visible", "s", "seconds"),
    ]


CASE = Case("patch", "4 KiB changed in a 1 GiB file", measure, rows)
