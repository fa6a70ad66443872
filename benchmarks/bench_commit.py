"""Commit latency: a small ingest into a lake that already names 10, 1,000 and 10,000 data files.

The files that fill the lake are real ones, durable and in the catalog, written through the storage API some hundred to a commit. The
ingest that is timed is a recipe step of ten messages (2,000 samples) of one tool, with its events, features and ledger entry.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks import capture
from benchmarks.measure import Figure, Found, Spread, rows_text
from ingest.config import parse
from loadlock.lake import Lake
from storage.files import StagedFile, Stager, write_durably
from storage.index import IndexDelta
from storage.schema import arrow_schema
from storage.store import Change

LEVELS = (10, 1_000, 10_000)
FILES_A_COMMIT = 500
FILE_ROWS = 8
FILLING_TOOLS = 50
STEP_MESSAGES = 10
TOOL = "ETCH01"
FIRST_US = 1_700_000_000_000_000
HOUR_US = 3_600_000_000
GROWTH_MOST = 2.0
DURABLE = "durable_file_ms"
DURABLE_BYTES, DURABLE_FILES = 200_000, 50


def small_rows(number: int) -> pa.Table:
    """Return the rows of the file ``number``: an hour's worth of one tool, in no window."""
    times = FIRST_US + number // FILLING_TOOLS * HOUR_US + np.arange(FILE_ROWS) * 1_000_000
    columns: dict[str, Any] = {
        "tool": [f"FILL{number % FILLING_TOOLS:02d}"] * FILE_ROWS,
        "chamber": ["A"] * FILE_ROWS,
        "trace": [str(capture.TRID)] * FILE_ROWS,
        "stream": [""] * FILE_ROWS,
        "seq": np.arange(FILE_ROWS) + number,
        "ts": pa.array(times, pa.int64()).cast(pa.timestamp("us")),
        "sensor": ["sensor_001"] * FILE_ROWS,
        "position": [1] * FILE_ROWS,
        "value": np.arange(FILE_ROWS) * 0.5,
        "window_id": pa.nulls(FILE_ROWS, pa.int64()),
        "payload_id": [f"fill{number}"] * FILE_ROWS,
        "byte_start": np.arange(FILE_ROWS) * 100,
    }
    schema = arrow_schema("traces")
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in schema}, schema=schema)


def data_files(lake: Lake) -> int:
    """Return the data files that the catalog names."""
    ((count,),) = lake.store.rows("SELECT count(*) FROM __ducklake_metadata_lake.ducklake_data_file WHERE end_snapshot IS NULL")
    return int(count)


def filling(body: dict[str, Any], staged: list[StagedFile], _seq: int) -> Change:
    """Return the change that commits the files ``staged``."""
    return Change("fill", "bench", "", body, IndexDelta(0, ""), files=staged)


def fill(lake: Lake, files: int, numbers: itertools.count[int]) -> None:
    """Commit small trace files until the catalog names ``files`` data files."""
    missing = files - data_files(lake)
    while missing > 0:
        count = min(missing, FILES_A_COMMIT)
        chosen = list(itertools.islice(numbers, count))
        names = iter([f"fill{number:08d}" for number in chosen])
        stager = Stager(lake.store.data, names.__next__, level=1, row_group_rows=1_000)
        staged = [stager.write("traces", small_rows(number)) for number in chosen]
        body = {"files": [one.entry(lake.store.path) for one in staged]}
        with lake.store.locked(60.0):
            lake.store.commit(partial(filling, body, staged))
        stager.release()
        missing -= count


class Watch:
    """Wall seconds between the steps of a commit."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._last = clock()
        self.seconds: dict[str, float] = {}

    def __call__(self, step: str) -> None:
        """Book the time since the step before."""
        now = self._clock()
        self.seconds[step] = self.seconds.get(step, 0.0) + now - self._last
        self._last = now


def measure(lake: Lake, watch: Watch, tool: capture.Tool, rounds: int) -> dict[str, Any]:
    """Ingest ``rounds`` steps, each a commit; return the row of the table: milliseconds by part, files before."""
    config = parse(capture.configuration())
    before = data_files(lake)
    wall, cpu, commits, steps = [], [], [], []
    for _ in range(rounds):
        data = tool.next_step()
        watch.seconds = {}
        begin, cpu_begin = time.perf_counter(), time.process_time()
        summary = lake.ingest(data=data, tool=TOOL, config=config)
        wall.append(time.perf_counter() - begin)
        cpu.append(time.process_time() - cpu_begin)
        if summary.samples != STEP_MESSAGES * capture.SVS:
            raise SystemExit(f"bench: {summary.samples} samples were committed")
        steps.append({**watch.seconds, "lock_held": 0.0})  # before it stands the decoding
        commits.append(sum(steps[-1].values()))
    best = commits.index(min(commits))
    slowest = max(steps[best], key=lambda step: steps[best][step])
    spread = Spread.of(wall)
    return {
        "files": before,
        "ingest_ms": 1000 * spread.best,
        "median_ms": 1000 * spread.median,
        "worst_ms": 1000 * spread.worst,
        "ingest_cpu_ms": 1000 * min(cpu),
        "commit_ms": 1000 * min(commits),
        "slowest_step": slowest,
        "slowest_ms": 1000 * steps[best][slowest],
        "catalog_kb": (lake.store.path / "catalog.sqlite").stat().st_size / 1000,
    }


def durable_file_ms(folder: Path) -> float:
    """Return the milliseconds that it takes to make one file of a trace file's size last: write, fsync, rename, fsync of the folder."""
    data = np.random.default_rng(0).bytes(DURABLE_BYTES)
    seconds = []
    for number in range(DURABLE_FILES):
        begin = time.perf_counter()
        write_durably(folder / "durable" / f"{number}.bin", data)
        seconds.append(time.perf_counter() - begin)
    return 1000 * statistics.median(seconds)


def rows_at(folder: Path, levels: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """Return a row for every level; each opens the lake anew."""
    tool = capture.Tool(TOOL, step_messages=STEP_MESSAGES, resent=0)
    numbers = itertools.count()
    rows = []
    for level in levels:
        watch = Watch()
        with Lake(folder / "commit.lake", on_step=watch) as lake:
            lake.ingest(data=tool.next_step(), tool=TOOL, config=parse(capture.configuration()))
            fill(lake, level, numbers)
        begin = time.perf_counter()
        lake = Lake(folder / "commit.lake", on_step=watch)
        opened = time.perf_counter() - begin
        with lake:
            rows.append(measure(lake, watch, tool, rounds) | {"open_ms": 1000 * opened})
        print(rows_text(rows[-1:]), file=sys.stderr)
    return rows


def run(folder: Path, levels: Sequence[int] = LEVELS, rounds: int = 9) -> Found:
    """Return the latency at each level, its growth from the first to the last, and what one durable file costs."""
    durable = durable_file_ms(folder)
    rows = rows_at(folder, levels, rounds)
    found = [Figure(f"ingest_ms_at_{row['files']}_files", row["ingest_ms"], "ms", note=f"commit {row['commit_ms']:.0f} ms") for row in rows]
    growth = rows[-1]["ingest_ms"] / rows[0]["ingest_ms"]
    found += [
        Figure("ingest_growth", growth, "x", GROWTH_MOST, False, f"{rows[-1]['files'] / rows[0]['files']:.0f} times the files"),
        Figure(DURABLE, durable, "ms", note=f"{DURABLE_BYTES / 1000:.0f} kB, median of {DURABLE_FILES}"),
    ]
    return Found(further=found, tables={"commits": rows})
