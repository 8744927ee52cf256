"""A directory of 50,000 files is renamed: how long until the replica has it under the new name, and what it costs.

The table shows medians of the times and the largest count of bytes.
"""

import os
import time

from harness import images, peers, processes, report, trees
from harness.bench import Case
from harness.suite import Suite

_RENAMES = 3
_PATIENCE_SECONDS = 120


def wait_for(replica, old, new):
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not os.path.lexists(replica / new) or os.path.lexists(replica / old):
        if time.monotonic() > deadline:
            raise TimeoutError(f"a rename was not replicated in {_PATIENCE_SECONDS} s")
        time.sleep(0.0002)


def measure(bench, raw):
    count = bench.count(trees.FILES)
    with bench.image(4, 3 * trees.FILES) as root:
        trees.small_files(root / "src/name-0", count)
        images.syncfs(root)
        peers.rsync("-a", f"{root}/src/", f"{root}/dst/")
        images.syncfs(root)
        # Once: it deletes and creates all files, after which this filesystem measures nothing else well.
        os.rename(root / "src/name-0", root / "src/name-1")
        done = peers.rsync("-a", "--delete", "--stats", f"{root}/src/", f"{root}/dst/")
        raw["rsync_seconds"], raw["rsync_wire_bytes"] = done.seconds, done.wire_bytes()
        peers.check_equal(root / "src", root / "dst")
    if not bench.tools:
        return
    with bench.image(4, 3 * trees.FILES) as root, Suite(bench) as suite:
        source, replica = root / "src", root / "dst"
        trees.small_files(source / "name-0", count)
        images.syncfs(root)
        [receiver], _, _ = suite.first_sync(source, replica)
        raw["walship_all"] = []
        for number in range(_RENAMES):
            old, new = f"name-{number}", f"name-{number + 1}"
            processes.wait_until_quiet([suite.primary.pid, receiver.pid])
            wire = processes.Wire(receiver.pid)
            start = time.monotonic()
            os.rename(source / old, source / new)
            wait_for(replica, old, new)
            seconds = time.monotonic() - start
            suite.reach(suite.mark())
            raw["walship_all"].append({"seconds": seconds, "wire_bytes": wire.bytes()})
        raw["walship_seconds"] = report.percentile([each["seconds"] for each in raw["walship_all"]], 50)
        wires = [each["wire_bytes"] for each in raw["walship_all"]]
        raw["walship_wire_bytes"] = None if None in wires else max(wires)
        peers.check_equal(source, replica)


def rows(runs):
    def row(what, unit, key, target):
        ours, peer = report.median(runs, f"walship_{key}"), report.median(runs, f"rsync_{key}")
        return report.Row(what, unit, ours, peer, "rsync -a --delete", target)

    return [
        row("until visible", "s", "seconds", report.at_most(0.3)),
        row("on the wire", "bytes", "wire_bytes", report.at_most(4 << 10)),
    ]


CASE = Case("rename", "a directory of 50,000 files renamed", measure, rows)
