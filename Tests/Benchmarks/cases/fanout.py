"""The primary's CPU for the same first sync with 1 and with 8 replicas, all started together.

For rsync it is the CPU of all its processes, for one copy and for eight one after the other. The ratio of interest is
8 replicas to 1 within one program; the table's last column judges that, not ours against rsync.
"""

from harness import images, peers, processes, report, trees
from harness.bench import Case
from harness.suite import Suite

REPLICAS = 8


def measure(bench, raw):
    count = bench.count(trees.FILES)
    for number in [1, REPLICAS]:
        with bench.image(2 + number, (number + 2) * trees.FILES) as root:
            trees.small_files(root / "src", count)
            images.syncfs(root)
            targets = [root / f"dst-{index}" for index in range(number)]
            runs = [peers.rsync("-a", f"{root}/src/", f"{target}/") for target in targets]
            raw[f"rsync_{number}_cpu_seconds"] = sum(run.cpu_seconds for run in runs)
        if not bench.tools:
            continue
        with bench.image(2 + 2 * number, (2 * number + 2) * trees.FILES) as root, Suite(bench) as suite:
            trees.small_files(root / "src", count)
            images.syncfs(root)
            targets = [root / f"dst-{index}" for index in range(number)]
            for target in targets:
                target.mkdir()
            _, raw[f"walship_{number}_seconds"], _ = suite.first_sync(root / "src", *targets)
            raw[f"walship_{number}_cpu_seconds"] = processes.cpu_seconds(suite.primary.pid)
            raw[f"walship_{number}_peak_bytes"] = processes.peak_bytes(suite.primary.pid)
            for target in targets:
                peers.check_equal(root / "src", target)
    for name in ["rsync", "walship"]:
        if f"{name}_{REPLICAS}_cpu_seconds" in raw:
            raw[f"{name}_growth"] = raw[f"{name}_{REPLICAS}_cpu_seconds"] / raw[f"{name}_1_cpu_seconds"]


def rows(runs):
    def row(what, unit, key, target=None):
        ours, peer = report.median(runs, f"walship_{key}"), report.median(runs, f"rsync_{key}")
        return report.Row(what, unit, ours, peer, "rsync -a", target)

    return [
        row("primary's CPU, 1 replica", "s", "1_cpu_seconds"),
        row("primary's CPU, 8 replicas", "s", f"{REPLICAS}_cpu_seconds"),
        row("8 replicas to 1", "×", "growth", report.at_most(1.6)),
        report.Row("primary's peak memory, 8 replicas", "bytes", report.median(runs, f"walship_{REPLICAS}_peak_bytes")),
    ]


CASE = Case("fanout", "the primary's CPU with 8 replicas and with 1", measure, rows)
