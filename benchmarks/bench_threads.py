"""Two threads of one ingest against one, and against what the machine gives two processes that share nothing else.

They run in turns; seconds of wall clock of the best round count.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from benchmarks.bench_pipeline import TOOL, Ingested, Runs, ingest_fresh
from benchmarks.goals import ratio
from benchmarks.measure import Found, Spread, race

TOOLS = (TOOL, "ETCH02")
PAYLOADS = 4
"""Payloads of a tool."""


def alone(source: Path) -> Ingested:
    """Ingest ``source`` with one thread of this process, into a lake beside it."""
    return ingest_fresh(source, source.with_suffix(".lake"), 1, time.monotonic)


def apart(runs: Runs, tool: str) -> Path:
    """Return a folder with the payloads of one of the tools alone."""
    source = runs.folder / f"alone-{tool}"
    (source / tool).mkdir(parents=True)
    for path in (runs.source / tool).iterdir():
        os.link(path, source / tool / path.name)
    shutil.copy(runs.source / "loadlock.toml", source)
    return source


def side_by_side(pool: Executor, runs: Runs, sources: Sequence[Path]) -> float:
    """Ingest each of ``sources`` in a process of its own at the same time and return the seconds of wall clock."""
    found = list(pool.map(alone, sources))
    runs.check_rows(sum(each.rows for each in found))
    return max(each.end for each in found) - min(each.begin for each in found)


def compare(folder: Path, pool: Executor, size_mb: float, rounds: int) -> dict[str, Spread]:
    """Return the seconds in which one thread, two threads and two processes ingest ``size_mb`` of each of two tools."""
    folder.mkdir()
    runs = Runs(folder, size_mb, TOOLS, PAYLOADS)
    sources = [apart(runs, tool) for tool in TOOLS]
    contestants = {f"wall_threads{n}": partial(runs.ingest_with, n) for n in (1, 2)}
    found = race(contestants | {"wall_processes2": partial(side_by_side, pool, runs, sources)}, rounds)
    shutil.rmtree(folder)
    return found


def said(size_mb: float, found: dict[str, Spread]) -> str:
    """Return what two processes reach, in words."""
    return f"of {size_mb:,.0f} MB each; two processes: {found['wall_threads1'].best / found['wall_processes2'].best:.2f}"


def run(folder: Path, less_mb: float, size_mb: float, rounds: int) -> Found:
    """Return ``threads2_vs_1`` for ``size_mb`` of each of two tools.

    What two threads lose once (opening, the first commits, which meet, the end, which is not even) weighs more the less they have to do:
    the ratio for ``less_mb`` stands beside it.
    """
    with ProcessPoolExecutor(len(TOOLS), get_context("spawn")) as pool:
        less = compare(folder / "less", pool, less_mb, rounds) if less_mb < size_mb else None
        found = compare(folder / "size", pool, size_mb, rounds)
    note = f"two tools {said(size_mb, found)}"
    if less is not None:
        note += f"; threads {less['wall_threads1'].best / less['wall_threads2'].best:.2f} {said(less_mb, less)}"
    return Found([ratio("threads2_vs_1", found["wall_threads1"], found["wall_threads2"], note)], [], found)
