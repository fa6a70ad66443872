"""Progress of long work on stderr: a live line on a terminal, nothing elsewhere; never 100 % before the commit."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def _total(sources: list[str]) -> int:
    size = 0
    for source in sources:
        path = Path(source)
        if path.is_dir():
            size += sum(item.stat().st_size for item in path.rglob("*") if item.is_file())
        elif path.exists():
            size += path.stat().st_size
    return size


@contextmanager
def progress(options: argparse.Namespace) -> Iterator[Any]:
    """Yield what the pipeline calls while it decodes, or None where nobody looks."""
    if options.json or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    total = max(1, _total([source for source in options.sources if source != "-"]))
    begin = time.monotonic()
    done: dict[int, tuple[int, int, int, int]] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("ingest", total=total, figures="")

        def report(batch: Any, position: int) -> None:
            accounts = [payload.account for payload in batch.payloads]
            read = sum(payload.size for payload in batch.payloads[:-1]) + position
            duplicates = sum(account.records_duplicate for account in accounts)
            quarantined = sum(account.frames_quarantined for account in accounts)
            done[id(batch)] = (read, sum(account.samples for account in accounts), duplicates, quarantined)
            spent = max(0.001, time.monotonic() - begin)
            figures = [sum(item[i] for item in done.values()) for i in range(4)]
            text = f"{figures[0] >> 20:,} MB, {figures[1] / spent:,.0f} samples/s, {figures[2]:,} duplicates, {figures[3]:,} quarantined"
            bar.update(task, completed=min(figures[0], total * 0.99), figures=text)

        yield report
