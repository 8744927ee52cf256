"""Starting over a tree that has not changed: from starting walship until `walctl mark` first answers.

The answer needs a finished comparison of the tree with the catalog, and contains the start of walctl. Its peer is an
rsync that finds nothing to do. Both have the tree's metadata in the page cache.
"""

import time

from harness import images, peers, report, trees
from harness.bench import Case
from harness.suite import Suite

_STARTS = 5


def measure(bench, raw):
    with bench.image(4, 3 * trees.FILES) as root:
        raw["tree_bytes"] = trees.small_files(root / "src", bench.count(trees.FILES))
        images.syncfs(root)
        peers.rsync("-a", f"{root}/src/", f"{root}/dst/")
        images.syncfs(root)
        raw["rsync_all"] = [peers.rsync("-a", f"{root}/src/", f"{root}/dst/").seconds for _ in range(_STARTS)]
        raw["rsync_seconds"] = report.percentile(raw["rsync_all"], 50)
    if not bench.tools:
        return
    with bench.image(4, 3 * trees.FILES) as root, Suite(bench) as suite:
        source = root / "src"
        trees.small_files(source, bench.count(trees.FILES))
        images.syncfs(root)
        [receiver], _, _ = suite.first_sync(source, root / "dst")
        peers.check_equal(source, root / "dst")
        suite.end(receiver)
        positions = [suite.mark()]
        suite.end(suite.primary)
        raw["walship_all"] = []
        for _ in range(_STARTS):
            images.syncfs(root)
            start = time.monotonic()
            suite.ship(source)
            positions.append(suite.mark())
            raw["walship_all"].append(time.monotonic() - start)
            suite.end(suite.primary)
        raw["walship_seconds"] = report.percentile(raw["walship_all"], 50)
        raw["positions"] = positions


def rows(runs):
    ours, peer = report.median(runs, "walship_seconds"), report.median(runs, "rsync_seconds")
    return [report.Row("until mark answers", "s", ours, peer, "rsync -a, nothing to do", report.ratio(0.8))]


CASE = Case("start", "start over 50,000 unchanged files", measure, rows)
