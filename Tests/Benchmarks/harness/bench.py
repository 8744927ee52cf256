"""What a benchmark is, and what one is given to work with."""

import contextlib
import dataclasses
import sys
import typing

from harness import images


@dataclasses.dataclass(frozen=True)
class Case:
    """One benchmark.

    `measure(bench, raw)` puts every figure into `raw` as soon as it has it, so that an error later loses nothing.
    `rows(runs)` turns the `raw` of all repeats, complete or not, into lines of the table.
    """

    name: str
    about: str
    measure: typing.Callable
    rows: typing.Callable
    by_default: bool = True


@dataclasses.dataclass(frozen=True)
class Bench:
    work: typing.Any
    scale: float
    tools: typing.Any
    """The commands under test, or None when only the peers are measured."""

    def count(self, full, least=1):
        return max(least, round(full * self.scale))

    def seconds(self, full):
        """Durations shrink with a small scale but do not grow with a large one."""
        return max(1.0, full * min(1.0, self.scale))

    def timeout_seconds(self):
        return round(600 * max(1.0, self.scale))

    @contextlib.contextmanager
    def image(self, gib, inodes):
        """A fresh filesystem of `gib` GiB at scale 1 (and 2 more at any), with an empty `src` and `dst` in it."""
        with images.fresh(self.work, round((2 + gib * self.scale) * 2**30), self.count(inodes) + 20_000) as root:
            (root / "src").mkdir()
            (root / "dst").mkdir()
            yield root

    def say(self, text):
        print(text, file=sys.stderr, flush=True)
