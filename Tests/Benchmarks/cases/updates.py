"""Sustained small updates: two writers create and overwrite 4 KiB files as fast as they can for 20 s.

No path is written twice, so that no update can be saved by merging it with the next: half of them overwrite files that
the replica already holds, while these last, and half are new. The rate counts all of them, from the first write until
the replica has applied the last.
"""

import multiprocessing
import os
import random
import time

from harness import images, peers, processes, report, trees
from harness.bench import Case
from harness.suite import Suite

WRITERS = 2
SECONDS = 20
FILE_BYTES = 4096
FILES_BEFORE = 40_000
# Bounds the disk space; the writers stop early when they reach it.
MOST_UPDATES = 400_000
_POOL_BYTES = 16 << 20
_FILES_PER_FOLDER = 1000


def write(source, number, paths_before, seconds, most, written):
    """One writer. Every file starts with its own number, which makes its content differ from all others."""
    processes.die_with_parent()
    pool = random.Random(f"writer {number}")
    contents = [trees.content(pool, FILE_BYTES, index) for index in range(_POOL_BYTES // FILE_BYTES)]
    overwrite = iter(paths_before)
    deadline = time.monotonic() + seconds
    created = 0
    for index in range(most):
        if time.monotonic() > deadline:
            break
        path = next(overwrite, None) if index % 2 else None
        if path is None:
            folder = f"{source}/writer-{number}-{created // _FILES_PER_FOLDER:04}"
            if created % _FILES_PER_FOLDER == 0:
                os.mkdir(folder)
            path = f"{folder}/file-{created:07}"
            created += 1
        label = b"%d %d\n" % (number, index)
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
        os.write(descriptor, label + contents[index % len(contents)][len(label) :])
        os.close(descriptor)
        written.value = index + 1


def measure(bench, raw):
    if not bench.tools:
        return
    before = bench.count(FILES_BEFORE)
    most = bench.count(MOST_UPDATES)
    with bench.image(18, 3 * (FILES_BEFORE + MOST_UPDATES)) as root, Suite(bench) as suite:
        trees.equal_files(root / "src/before", before, FILE_BYTES)
        paths = sorted(str(path) for path in root.glob("src/before/*/*"))
        images.syncfs(root)
        [receiver], _, _ = suite.first_sync(root / "src", root / "dst")
        processes.wait_until_quiet([suite.primary.pid, receiver.pid])

        context = multiprocessing.get_context("fork")
        counts = [context.Value("q", 0, lock=False) for _ in range(WRITERS)]
        writers = [
            context.Process(
                target=write,
                args=(root / "src", n, paths[n::WRITERS], bench.seconds(SECONDS), most // WRITERS, counts[n]),
            )
            for n in range(WRITERS)
        ]
        start = time.monotonic()
        try:
            for writer in writers:
                writer.start()
            for writer in writers:
                writer.join()
        finally:
            for writer in writers:
                if writer.is_alive():
                    writer.kill()
                    writer.join()
        if any(writer.exitcode for writer in writers):
            raise RuntimeError("a writer failed")
        raw["writing_seconds"] = time.monotonic() - start
        position = suite.mark()
        raw["captured_seconds"] = time.monotonic() - start
        raw["applied_seconds"] = suite.reach(position) - start
        raw["behind_seconds"] = raw["applied_seconds"] - raw["writing_seconds"]
        raw["updates"] = sum(count.value for count in counts)
        raw["written_per_second"] = raw["updates"] / raw["writing_seconds"]
        raw["applied_per_second"] = raw["updates"] / raw["applied_seconds"]
        for name, daemon in [("primary", suite.primary), ("replica", receiver)]:
            raw[f"{name}_peak_bytes"] = processes.peak_bytes(daemon.pid)
            raw[f"{name}_cpu_seconds"] = processes.cpu_seconds(daemon.pid)
        peers.check_equal(root / "src", root / "dst")


def rows(runs):
    def row(what, unit, key, target=None):
        return report.Row(what, unit, report.median(runs, key), target=target)

    return [
        row("end to end", "files/s", "applied_per_second", report.at_least(5000)),
        row("written by the writers", "files/s", "written_per_second"),
        row("behind when they stopped", "s", "behind_seconds"),
        row("primary's peak memory", "bytes", "primary_peak_bytes"),
        row("replica's peak memory", "bytes", "replica_peak_bytes"),
    ]


CASE = Case("updates", "4 KiB files as fast as two writers can for 20 s", measure, rows)
