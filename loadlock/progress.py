"""Progress of long work on stderr: live lines on a terminal, nothing elsewhere; never 100 % before the commit."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from storage.telling import Tell, nobody

MOST_TOOLS = 12
"""Tools that have a line of their own, those with the most bytes."""


def _total(sources: list[str]) -> int:
    size = 0
    for source in sources:
        path = Path(source)
        if path.is_dir():
            size += sum(item.stat().st_size for item in path.rglob("*") if item.is_file())
        elif path.exists():
            size += path.stat().st_size
    return size


class Figures(NamedTuple):
    """What came in so far, in all or from one tool; bytes as delivered."""

    bytes_in: int = 0
    samples: int = 0
    duplicates: int = 0
    quarantined: int = 0

    def plus(self, other: Figures) -> Figures:
        """Return the sum."""
        return Figures(*(a + b for a, b in zip(self, other, strict=True)))


class Meter:
    """Counts what batches took, by tool. One batch a thread is under way; its figures change until the thread shows the next one.

    ``report`` is what the pipeline calls, from any of its threads; ``by_tool`` is read by the thread that draws.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begin = clock()
        self._lock = threading.Lock()
        self._done: dict[str, Figures] = {}
        self._current: dict[int, tuple[list[Any], int]] = {}  # by thread: the batch's payloads, bytes read of the last one

    def report(self, batch: Any, position: int) -> None:
        """Take note of a batch that is being decoded, with the bytes read of its last payload."""
        with self._lock:
            thread = threading.get_ident()
            before = self._current.get(thread)
            if before is not None and before[0] is not batch.payloads:
                _add(self._done, before[0], None)
            self._current[thread] = (batch.payloads, position)

    def by_tool(self) -> dict[str, Figures]:
        """Return the figures of each tool; of a file that holds several the name of its mapping stands for them."""
        with self._lock:
            found = dict(self._done)
            for payloads, position in self._current.values():
                _add(found, payloads, position)
            return found

    def line(self, figures: Figures) -> str:
        """Return figures as people read them."""
        rate = figures.samples / max(0.001, self._clock() - self._begin)
        size = f"{figures.bytes_in / 1e6:,.1f} MB, {rate:,.0f} samples/s"
        return f"{size}, {figures.duplicates:,} duplicates, {figures.quarantined:,} quarantined"


def _add(found: dict[str, Figures], payloads: list[Any], position: int | None) -> None:
    for payload in list(payloads):
        account = payload.account
        read = payload.size if position is None or payload is not payloads[-1] else position
        mine = Figures(read, account.samples, account.records_duplicate, account.frames_quarantined)
        name = payload.sole or payload.tool or payload.mapping or "?"
        found[name] = found.get(name, Figures()).plus(mine)


@contextmanager
def progress(options: argparse.Namespace) -> Iterator[Any]:
    """Yield what the pipeline calls while it decodes, or None where nobody looks."""
    if options.json or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table

    total = max(1, _total([source for source in options.sources if source != "-"]))
    meter = Meter()
    bar = Progress(
        TextColumn("ingest"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[figures]}", markup=False),
        TimeElapsedColumn(),
    )
    task = bar.add_task("ingest", total=total, figures="")

    def draw() -> Group:
        tools = meter.by_tool()
        every = Figures()
        for figures in tools.values():
            every = every.plus(figures)
        bar.update(task, completed=min(every.bytes_in, total * 0.99), figures=meter.line(every))
        lines = Table.grid(padding=(0, 2))
        for name, figures in sorted(tools.items(), key=lambda item: -item[1].bytes_in)[:MOST_TOOLS]:
            lines.add_row(f"  {name}".replace("[", r"\["), meter.line(figures))
        if len(tools) > MOST_TOOLS:
            lines.add_row("", f"and {len(tools) - MOST_TOOLS:,} more tools")
        return Group(bar, lines)

    with Live(get_renderable=draw, console=Console(stderr=True), transient=True, refresh_per_second=8):
        yield meter.report


@contextmanager
def working(options: argparse.Namespace) -> Iterator[Tell]:
    """Yield what long work tells its steps: one line on a terminal with what is done and since when, nothing where nobody looks."""
    if options.json or not sys.stderr.isatty():
        yield nobody
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"{options.command}", total=None)

        def tell(what: str, done: int, of: int) -> None:
            count = f": {done:,} of {of:,}" if of else f": {done:,}" if done else ""
            bar.update(task, description=f"{options.command}, {what}{count}")

        yield tell
