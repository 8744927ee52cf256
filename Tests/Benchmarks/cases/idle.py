"""What both daemons do for 20 s while nothing changes: bytes written, and how often their threads wake.

A thread that waits for events and exchanges a heartbeat each second wakes twice a second, once for its own and once for
the peer's; above that something polls.
"""

import time

from harness import images, peers, processes, report, trees
from harness.bench import Case
from harness.suite import Suite

SECONDS = 20
_FILES = 1000


def measure(bench, raw):
    if not bench.tools:
        return
    with bench.image(1, 50_000) as root, Suite(bench) as suite:
        trees.equal_files(root / "src", _FILES, 4096)
        images.syncfs(root)
        [receiver], _, _ = suite.first_sync(root / "src", root / "dst")
        daemons = {"primary": suite.primary, "replica": receiver}
        raw["quiet_before"] = processes.wait_until_quiet([daemon.pid for daemon in daemons.values()], seconds=3)
        before = {name: counters(daemon.pid) for name, daemon in daemons.items()}
        start = time.monotonic()
        time.sleep(bench.seconds(SECONDS))
        after = {name: counters(daemon.pid) for name, daemon in daemons.items()}
        raw["seconds"] = time.monotonic() - start
        for name in daemons:
            written, cpu, switches = after[name]
            raw[f"{name}_written_bytes"] = written - before[name][0]
            raw[f"{name}_cpu_seconds"] = cpu - before[name][1]
            by_thread = {thread: count - before[name][2].get(thread, 0) for thread, count in switches.items()}
            raw[f"{name}_switches"] = by_thread
            raw[f"{name}_switches_per_second"] = sum(by_thread.values()) / raw["seconds"]
            raw[f"{name}_busiest_per_second"] = max(by_thread.values()) / raw["seconds"]
        suite.reach(suite.mark())
        peers.check_equal(root / "src", root / "dst")


def counters(pid):
    return processes.written_bytes(pid), processes.cpu_seconds(pid), processes.context_switches(pid)


def rows(runs):
    def row(what, unit, key, target=None):
        return report.Row(what, unit, report.median(runs, key), target=target)

    made = []
    for name in ["primary", "replica"]:
        made += [
            row(f"{name}, written", "bytes", f"{name}_written_bytes", report.at_most(0)),
            row(f"{name}, busiest thread wakes", "/s", f"{name}_busiest_per_second", report.at_most(2)),
            row(f"{name}, context switches", "/s", f"{name}_switches_per_second"),
        ]
    return made


CASE = Case("idle", "20 s in which nothing changes", measure, rows)
