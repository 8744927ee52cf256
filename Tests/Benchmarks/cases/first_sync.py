"""The first sync of a tree: 50,000 small files, and one file of 1 GiB.

Each program gets a filesystem of its own with the same data, synced and warm in the page cache. Ours is timed from the
start of both daemons to a finished syncfs(2), and is compared with an rsync that syncs nothing.
"""

import time

from harness import images, peers, processes, report, trees
from harness.bench import Case
from harness.suite import Suite

LARGE_BYTES = 1 << 30


def measure(bench, raw, generate, gib, inodes):
    modes = {"rsync": ["-a"]}
    if peers.rsync_can_fsync():
        modes["rsync_fsync"] = ["-a", "--fsync"]
    for name, options in modes.items():
        with bench.image(gib, inodes) as root:
            raw["tree_bytes"] = generate(root / "src")
            images.syncfs(root)
            start = time.monotonic()
            done = peers.rsync(*options, f"{root}/src/", f"{root}/dst/")
            images.syncfs(root)
            raw[f"{name}_seconds"] = done.seconds
            raw[f"{name}_and_sync_seconds"] = time.monotonic() - start
            raw[f"{name}_cpu_seconds"] = done.cpu_seconds
            raw[f"{name}_peak_bytes"] = done.peak_bytes
            peers.check_equal(root / "src", root / "dst")
    if not bench.tools:
        return
    with bench.image(gib, inodes) as root, Suite(bench) as suite:
        generate(root / "src")
        images.syncfs(root)
        [receiver], raw["applied_seconds"], raw["synced_seconds"] = suite.first_sync(root / "src", root / "dst")
        for name, daemon in [("primary", suite.primary), ("replica", receiver)]:
            raw[f"{name}_peak_bytes"] = processes.peak_bytes(daemon.pid)
            raw[f"{name}_cpu_seconds"] = processes.cpu_seconds(daemon.pid)
            raw[f"{name}_written_bytes"] = processes.written_bytes(daemon.pid)
        peers.check_equal(root / "src", root / "dst")


def measure_files(bench, raw):
    count = bench.count(trees.FILES)
    measure(bench, raw, lambda source: trees.small_files(source, count), 4, 3 * trees.FILES)


def measure_file(bench, raw):
    size = bench.count(LARGE_BYTES)

    def generate(source):
        trees.one_file(source / "large", size)
        return size

    measure(bench, raw, generate, 6, 0)


def rows(runs, target):
    def row(what, unit, ours, peer, peer_name, target=None):
        return report.Row(what, unit, report.median(runs, ours), report.median(runs, peer), peer_name, target)

    return [
        row("synced", "s", "synced_seconds", "rsync_seconds", "rsync -a, not synced", report.ratio(target)),
        row("synced", "s", "synced_seconds", "rsync_and_sync_seconds", "rsync -a, then sync"),
        row("synced", "s", "synced_seconds", "rsync_fsync_seconds", "rsync -a --fsync"),
        row("primary's peak memory", "bytes", "primary_peak_bytes", "rsync_peak_bytes", "rsync, largest process"),
        row("replica's peak memory", "bytes", "replica_peak_bytes", "rsync_peak_bytes", "rsync, largest process"),
    ]


FILES = Case(
    "first-sync-files", "first sync of 50,000 small files", measure_files, lambda runs: rows(runs, target=0.8)
)
FILE = Case("first-sync-file", "first sync of one 1 GiB file", measure_file, lambda runs: rows(runs, target=1.0))
