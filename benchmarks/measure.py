"""CPU time of contestants that run in turns, and the figures that come of it.

A benchmark part returns :class:`Found`; the goals of the figures that are judged stand in :mod:`benchmarks.goals`.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from storage.zstd import zstd


@dataclass(frozen=True)
class Spread:
    """CPU seconds of one contestant over all rounds."""

    best: float
    median: float
    worst: float
    rounds: tuple[float, ...] = ()

    @staticmethod
    def of(seconds: Sequence[float]) -> Spread:
        """Return the spread of ``seconds``."""
        return Spread(min(seconds), statistics.median(seconds), max(seconds), tuple(seconds))


@dataclass(frozen=True)
class Figure:
    """One line of the result; ``value`` is None where it was not measured, and ``note`` then says why.

    ``goal`` is wanted, ``floor`` must hold: at least (``at_least``) or at most; None where there is none. ``low`` and ``high`` are the
    extremes over the rounds.
    """

    name: str
    value: float | None
    unit: str
    goal: float | None = None
    at_least: bool = True
    note: str = ""
    floor: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def reached(self) -> bool | None:
        """Return whether the goal is met."""
        return self.keeps(self.goal)

    @property
    def holds(self) -> bool | None:
        """Return whether the floor is met."""
        return self.keeps(self.floor)

    def keeps(self, limit: float | None) -> bool | None:
        """Return whether the value is on the right side of ``limit``; None where one of them is missing."""
        if limit is None or self.value is None:
            return None
        return self.value >= limit if self.at_least else self.value <= limit

    def row(self) -> dict[str, Any]:
        """Return the figure as it stands in the result file."""
        return asdict(self) | {"reached": self.reached, "holds": self.holds}


@dataclass
class Found:
    """What one part of the benchmark found: figures with goals, further ones without, CPU seconds, and tables by name."""

    figures: list[Figure] = field(default_factory=list)
    further: list[Figure] = field(default_factory=list)
    spreads: dict[str, Spread] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)

    def add(self, other: Found) -> None:
        """Take in what ``other`` found."""
        self.figures += other.figures
        self.further += other.further
        self.spreads |= other.spreads
        self.tables |= other.tables


def check(holds: bool, message: str) -> None:
    """Stop where a contestant did not do the work that it is timed for."""
    if not holds:
        raise SystemExit(f"bench: {message}")


def race(contestants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Spread]:
    """Run all contestants in turns, ``rounds`` times; each returns the seconds that count, of CPU unless it says otherwise."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name, contestant in contestants.items():
            seconds[name].append(contestant())
            print(f"  round {number + 1}/{rounds} {name}: {seconds[name][-1]:.4f} s", file=sys.stderr)
    return {name: Spread.of(values) for name, values in seconds.items()}


def timed(function: Callable[[], Any]) -> Callable[[], float]:
    """Return a contestant of which all CPU time of the process counts, every thread's included."""

    def run() -> float:
        start = time.process_time()
        function()
        return time.process_time() - start

    return run


def child(command: Sequence[str]) -> Callable[[], float]:
    """Return a contestant of which the user and system CPU time of a child process counts."""

    def run() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return run


PEAK = "\nprint(next(int(line.split()[1]) // 1024 for line in open('/proc/self/status') if line.startswith('VmHWM')))"
"""A child's own peak in MB. ``ru_maxrss`` would not do: it starts at the peak of the process that forked it."""


def peak_mb(script: str) -> int:
    """Run a Python ``script`` in a child process and return its peak resident memory in MB."""
    done = subprocess.run([sys.executable, "-c", script + PEAK], check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1])


def io_bytes() -> int:
    """Return the bytes that this process has read so far through read calls, whether or not they were in memory (``rchar``)."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return int(lines[0].removeprefix("rchar:"))


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    libraries = ("numpy", "numba", "pyarrow", "polars", "duckdb", "secsgem")
    versions = {name: version(name) for name in libraries}
    return {
        "cpus": os.cpu_count(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "zstd": zstd.zstd_version,
        **versions,
    }


def table(figures: Sequence[Figure]) -> str:
    """Return ``figures`` as text."""
    lines = [f"{'figure':<34}{'value':>12} {'low':>10}{'high':>10} {'unit':<10}{'goal':>10}{'floor':>9}   reached  holds  note"]
    for figure in figures:
        sign = ">=" if figure.at_least else "<="
        goal, floor = ("" if limit is None else f"{sign} {limit:g}" for limit in (figure.goal, figure.floor))
        value, low, high = ("-" if x is None else f"{x:.4g}" for x in (figure.value, figure.low, figure.high))
        reached, holds = ({None: "", True: "yes", False: "NO"}[answer] for answer in (figure.reached, figure.holds))
        start = f"{figure.name:<34}{value:>12} {low:>10}{high:>10} {figure.unit:<10}{goal:>10}{floor:>9}"
        lines.append(f"{start}   {reached:<8} {holds:<6} {figure.note}".rstrip())
    return "\n".join(lines)


def rows_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return ``rows``, which share the keys of the first, as a text table: numbers to four digits, texts to the left."""
    if not rows:
        return "(no rows)"
    names = list(rows[0])
    cells = [[_cell(row.get(name)) for name in names] for row in rows]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(names)]
    left = [any(isinstance(row.get(name), str) for row in rows) for name in names]
    lines = [names, *cells]
    padded = [[text.ljust(w) if flush else text.rjust(w) for text, w, flush in zip(line, widths, left, strict=True)] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in padded)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return number(value) if isinstance(value, float) else str(value)


def number(value: float) -> str:
    """Return ``value`` to four digits, large ones in full."""
    return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def write_result(path: Path, figures: Sequence[Figure], **parts: Any) -> None:
    """Write a result file: schema, machine, ``parts``, and the figures."""
    result = {"schema": 1, "machine": machine(), **parts, "figures": [figure.row() for figure in figures]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
