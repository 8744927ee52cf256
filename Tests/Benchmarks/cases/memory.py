"""Peak memory at 1,000,000 empty files, after their first sync. Takes minutes, so it runs only when named."""

from harness import images, peers, processes, report, trees
from harness.bench import Case
from harness.suite import Suite

FILES = 1_000_000


def measure(bench, raw):
    count = bench.count(FILES)
    with bench.image(4, 3 * FILES) as root:
        trees.empty_files(root / "src", count)
        images.syncfs(root)
        done = peers.rsync("-a", f"{root}/src/", f"{root}/dst/")
        raw["rsync_seconds"], raw["rsync_peak_bytes"] = done.seconds, done.peak_bytes
    if not bench.tools:
        return
    with bench.image(6, 3 * FILES) as root, Suite(bench) as suite:
        trees.empty_files(root / "src", count)
        images.syncfs(root)
        [receiver], _, raw["synced_seconds"] = suite.first_sync(root / "src", root / "dst")
        raw["primary_peak_bytes"] = processes.peak_bytes(suite.primary.pid)
        raw["replica_peak_bytes"] = processes.peak_bytes(receiver.pid)
        peers.check_equal(root / "src", root / "dst")


def rows(runs):
    def row(what, unit, ours, peer, peer_name, target=None):
        return report.Row(what, unit, report.median(runs, ours), report.median(runs, peer), peer_name, target)

    limit = report.at_most(200e6)
    return [
        row("primary's peak", "bytes", "primary_peak_bytes", "rsync_peak_bytes", "rsync, largest process", limit),
        row("replica's peak", "bytes", "replica_peak_bytes", "rsync_peak_bytes", "rsync, largest process", limit),
        row("first sync, synced", "s", "synced_seconds", "rsync_seconds", "rsync -a, not synced"),
    ]


CASE = Case("memory", "peak memory at 1,000,000 empty files", measure, rows, by_default=False)
