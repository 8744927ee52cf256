"""The lag of a single change: from before a new 4 KiB file is opened in the source until it is whole on the replica.

The replica is polled with stat(2) every 0.2 ms, which is the resolution. Samples on an idle pair come at random
distances, so that they do not fall into step with a timer of the program; then files come at 100 a second.
"""

import collections
import os
import random
import time

from harness import images, peers, report, trees
from harness.bench import Case
from harness.suite import Suite

FILE_BYTES = 4096
FILES_PER_SECOND = 100
_POLL_SECONDS = 0.0002
_PATIENCE_SECONDS = 60
_FILES_BEFORE = 1000


def new_files(source, replica, samples, pauses, one_at_a_time):
    """Writes `samples` files, a pause before each, and returns their lags in seconds.

    One at a time, the pause starts when the one before is visible; else all keep to a schedule, late or not.
    """
    contents = random.Random("lag")
    lags = []
    waiting = collections.deque()
    written = 0
    due = time.monotonic() + next(pauses)
    while len(lags) < samples:
        now = time.monotonic()
        if written < samples and now >= due and not (one_at_a_time and waiting):
            name = f"new-{written:05}"
            block = contents.randbytes(FILE_BYTES)
            now = time.monotonic()
            (source / name).write_bytes(block)
            waiting.append((replica / name, now))
            written += 1
            due += next(pauses)
        for _ in range(len(waiting)):
            path, begun = waiting.popleft()
            if _whole(path):
                lags.append(time.monotonic() - begun)
                if one_at_a_time:
                    due = time.monotonic() + next(pauses)
            elif now - begun > _PATIENCE_SECONDS:
                raise TimeoutError(f"{path.name} was not replicated in {_PATIENCE_SECONDS} s")
            else:
                waiting.append((path, begun))
        time.sleep(_POLL_SECONDS)
    return lags


def _whole(path):
    try:
        return os.stat(path).st_size == FILE_BYTES
    except FileNotFoundError:
        return False


def _random_pauses():
    source = random.Random("pauses")
    while True:
        yield source.uniform(0.1, 0.2)


def _steady_pauses():
    while True:
        yield 1 / FILES_PER_SECOND


def sample(root, raw, name, idle_samples, busy_samples):
    source, replica = root / "src", root / "dst"
    for load, samples, pauses in [("idle", idle_samples, _random_pauses()), ("busy", busy_samples, _steady_pauses())]:
        lags = new_files(source / load, replica / load, samples, pauses, one_at_a_time=load == "idle")
        raw[f"{name}_{load}_lags"] = [round(lag, 6) for lag in lags]
        raw[f"{name}_{load}_p50"] = report.percentile(lags, 50)
        raw[f"{name}_{load}_p99"] = report.percentile(lags, 99)


def prepare(root):
    trees.equal_files(root / "src/before", _FILES_BEFORE, FILE_BYTES)
    for load in ["idle", "busy"]:
        (root / "src" / load).mkdir()
    images.syncfs(root)


def measure(bench, raw):
    if peers.have_lsyncd():
        with bench.image(1, 50_000) as root:
            prepare(root)
            daemon = peers.start_lsyncd(bench.work, root / "src", root / "dst")
            try:
                _wait_for_first_run(daemon, root)
                # Each takes over a second: a tenth of the samples will do.
                sample(root, raw, "lsyncd", bench.count(20, least=5), bench.count(300, least=20))
            except BaseException:
                daemon.show_log()
                raise
            finally:
                daemon.stop()
                daemon.close()
            peers.check_equal(root / "src", root / "dst")
    if not bench.tools:
        return
    with bench.image(1, 50_000) as root, Suite(bench) as suite:
        prepare(root)
        suite.first_sync(root / "src", root / "dst")
        sample(root, raw, "walship", bench.count(200, least=20), bench.count(300, least=20))
        suite.reach(suite.mark())
        peers.check_equal(root / "src", root / "dst")


def _wait_for_first_run(daemon, root):
    deadline = time.monotonic() + _PATIENCE_SECONDS
    # rsync makes folders in the order of their names and files after them: `idle` is whole when the last are there.
    while not (root / "dst/idle").is_dir() or len(list(root.glob("dst/before/*/*"))) < _FILES_BEFORE:
        daemon.check_alive()
        if time.monotonic() > deadline:
            raise TimeoutError("lsyncd did not finish its first run")
        time.sleep(0.05)


def rows(runs):
    def row(what, key, target=None):
        ours, peer = report.median(runs, f"walship_{key}"), report.median(runs, f"lsyncd_{key}")
        return report.Row(what, "s", ours, peer, "lsyncd, delay 1", target)

    return [
        row("idle, p50", "idle_p50", report.at_most(0.070)),
        row("idle, p99", "idle_p99"),
        row("100 files/s, p50", "busy_p50"),
        row("100 files/s, p99", "busy_p99", report.at_most(0.200)),
    ]


CASE = Case("lag", "one new 4 KiB file until visible", measure, rows)
