"""Figures, targets, the table and the record."""

import dataclasses
import datetime
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import typing


@dataclasses.dataclass(frozen=True)
class Target:
    kind: str
    limit: float

    def met(self, row):
        """None when there is nothing to judge."""
        value = row.ratio() if self.kind == "ratio" else row.ours
        if value is None:
            return None
        return value >= self.limit if self.kind == "at least" else value <= self.limit

    def shown(self, unit):
        if self.kind == "ratio":
            return f"≤ {self.limit:g} ×"
        return f"{'≥' if self.kind == 'at least' else '≤'} {show(self.limit, unit)}"


def ratio(limit):
    """Ours is at most `limit` times the peer's figure of the same run."""
    return Target("ratio", limit)


def at_most(limit):
    return Target("at most", limit)


def at_least(limit):
    return Target("at least", limit)


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table. Figures are in seconds, bytes or what `unit` names; None is unknown, never 0."""

    what: str
    unit: str
    ours: typing.Optional[float]
    peer: typing.Optional[float] = None
    peer_name: str = ""
    target: typing.Optional[Target] = None

    def ratio(self):
        return None if self.ours is None or not self.peer else self.ours / self.peer

    def met(self):
        return self.target and self.target.met(self)

    def as_dict(self):
        return {
            "what": self.what,
            "unit": self.unit,
            "peer": self.peer_name,
            "peer_figure": self.peer,
            "ours": self.ours,
            "ratio": self.ratio(),
            "target": self.target and self.target.shown(self.unit),
            "met": self.met(),
        }


def median(runs, key):
    """Over the repeats that have the figure; None if none has."""
    values = [run[key] for run in runs if run.get(key) is not None]
    return statistics.median(values) if values else None


def percentile(values, percent):
    """Nearest rank: the smallest value that at least `percent` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def show(value, unit):
    if value is None:
        return "–"
    if unit == "bytes":
        for name, size in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]:
            if value >= size:
                return f"{value / size:.4g} {name}"
        return f"{value:g} B"
    if unit == "s":
        return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"
    return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.3g} {unit}"


def table(record, rows_by_case):
    """As plain text. A scale other than 1 is not the size that the targets are for: the verdict is in parentheses."""
    full = record["options"]["scale"] == 1
    lines = [["benchmark", "peer figure", "ours", "ratio", "target", ""]]
    for entry in record["benchmarks"]:
        for row in rows_by_case.get(entry["benchmark"], []):
            if record["options"]["peers_only"] and row.peer is None:
                continue
            verdict = {None: "", True: "met", False: "missed"}[row.met()]
            lines.append(
                [
                    f"{entry['benchmark']}: {row.what}",
                    f"{show(row.peer, row.unit)} {row.peer_name}" if row.peer_name else "",
                    show(row.ours, row.unit),
                    f"{row.ratio():.2f}" if row.ratio() is not None else "",
                    row.target.shown(row.unit) if row.target else "",
                    verdict if full or not verdict else f"({verdict})",
                ]
            )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
    shown.insert(1, "─" * sum(widths, 2 * (len(widths) - 1)))
    for entry in record["benchmarks"]:
        shown += [f"FAILED {entry['benchmark']}: {error}" for error in entry["errors"]]
    if not full:
        shown.append(f"scale {record['options']['scale']:g}: the targets are for scale 1")
    host = record["host"]
    shown.insert(
        0,
        f"{record['date']}, commit {record['commit']}{' with changes' if record['changed'] else ''}, "
        f"{host['cores']} cores, {host['memory_bytes'] / 2**30:.1f} GiB, Linux {host['kernel']}, "
        f"{record['options']['repeat']} run(s)\n",
    )
    return "\n".join(shown)


def new_record(repository, options):
    # This runs as root, maybe in another user's checkout: git has to accept that, and must not write to it.
    git = ["git", "-c", "safe.directory=*", "--no-optional-locks", "-C", repository]
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": _line(*git, "rev-parse", "HEAD"),
        "changed": bool(_line(*git, "status", "--porcelain")),
        "host": {
            "cores": len(os.sched_getaffinity(0)),
            "cpu": _cpu_model(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "kernel": platform.release(),
            "load_at_start": os.getloadavg(),
            "python": platform.python_version(),
            "rsync": _line("rsync", "--version"),
            "lsyncd": _line("lsyncd", "--version"),
        },
        "options": {
            "scale": options.scale,
            "repeat": options.repeat,
            "peers_only": options.peers_only,
            "only": [case.name for case in options.cases],
        },
        "benchmarks": [],
    }


def write(folder, record):
    path = pathlib.Path(folder) / f"benchmarks-{record['date'][:19].replace(':', '')}.json"
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return path


def _cpu_model():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _line(*argv):
    """The first line that a command prints, or None when it is not there."""
    if shutil.which(argv[0]) is None:
        return None
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True)
    return (done.stdout.strip().splitlines() or [None])[0]
