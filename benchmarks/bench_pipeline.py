"""The whole ingest, read to commit, against what it can't do without: pyarrow's write of the same rows, compression of the values alone.

Contestants run in turns in one process; CPU seconds of the best round count, of threads wall seconds.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pyarrow.parquet as pq

import ingest.intake
import ingest.spanning
import ingest.tracefile
import loadlock
import storage.files
import storage.recompute
from benchmarks import capture
from benchmarks.goals import figure, ratio
from benchmarks.measure import Figure, Found, Spread, check, race
from benchmarks.parquet_baseline import rewrite, trace_files
from kernels.pages import byte_streams
from kernels.reduce import TRENDS, reduce_windows
from storage.zstd import zstd

MB = 1_000_000
TOOL, OTHER = "ETCH01", "ETCH02"
LEVEL = 1
BARE = "quantiles and the SHA-256 of payload and files put out of action by the benchmark: the product has no switch for that"
PAYLOADS = 4
"""Payloads of a tool where there are two."""


class Runs:
    """Ingests of one capture, each into a fresh lake: ``size_mb`` of each of ``tools``."""

    def __init__(self, folder: Path, size_mb: float, tools: tuple[str, ...] = (TOOL,), payloads: int = 1) -> None:
        self.folder = folder
        self.source = folder / "pipeline"
        self.counts = capture.write(self.source, int(len(tools) * size_mb * MB), tools=tools, payloads=payloads)
        self.lake = folder / "pipeline.lake"
        self.stages: list[dict[str, float]] = []

    def ingest(self) -> float:
        """Ingest all into a fresh lake and return the CPU seconds."""
        return self._ingest(time.process_time, 1)

    def ingest_with(self, jobs: int) -> float:
        """Ingest all into a fresh lake with ``jobs`` threads and return the seconds of wall clock."""
        return self._ingest(time.perf_counter, jobs)

    def _ingest(self, clock: Callable[[], float], jobs: int) -> float:
        shutil.rmtree(self.lake, ignore_errors=True)
        with loadlock.open(self.lake) as lake:
            start = clock()
            lake.ingest(self.source, config=self.source / "loadlock.toml", jobs=jobs)
            seconds = clock() - start
            self.stages.append(dict(lake.last_timings))
            rows = lake.sql("select count(*) from traces").fetchone()
        check(rows == (self.counts.samples,), f"the lake holds {rows} samples, not {self.counts.samples}")
        return seconds

    def ingest_bare(self) -> float:
        """Ingest without quantiles and hashes."""
        with bare():
            return self.ingest()

    def write(self) -> float:
        """Write the rows of the last lake with pyarrow."""
        return rewrite(trace_files(self.lake), self.folder / "baseline.parquet", LEVEL)

    def values(self) -> list[np.ndarray]:
        """Return the values of the last lake, an array for each sensor of a row group."""
        out: list[np.ndarray] = []
        for path in trace_files(self.lake):
            file = pq.ParquetFile(path)
            for number in range(file.num_row_groups):
                rows = file.read_row_group(number, columns=["position", "value"])
                cuts = np.flatnonzero(np.diff(rows.column("position").to_numpy())) + 1
                out += np.split(np.ascontiguousarray(rows.column("value").to_numpy()), cuts)
        return out


@contextmanager
def bare() -> Iterator[None]:
    """Let windows be reduced without quantiles, and payload and data files go unhashed."""
    stand_in = SimpleNamespace(sha256=_Unhashed, file_digest=lambda _file, _name: _Unhashed())
    with ExitStack() as stack:
        for module in (ingest.spanning, ingest.tracefile, storage.recompute):
            stack.enter_context(mock.patch.object(module, "reduce_windows", partial(reduce_windows, what=TRENDS)))
        for hashed in (ingest.intake, storage.files):
            stack.enter_context(mock.patch.object(hashed, "hashlib", stand_in))
        yield


class _Unhashed:
    """What stands in for SHA-256: no work, and a name that no other payload has."""

    def __init__(self, _data: bytes = b"") -> None:
        self._name = secrets.token_hex(hashlib.sha256().digest_size)

    def update(self, data: object) -> None:
        """Do nothing."""

    def hexdigest(self) -> str:
        """Return the name."""
        return self._name


def compress(values: list[np.ndarray]) -> float:
    """Split and compress ``values`` as pages of Parquet hold them, and nothing else; return the CPU seconds."""
    compressor = zstd.ZstdCompressor(level=LEVEL)
    start = time.process_time()
    for part in values:
        compressor.compress(byte_streams(part.view(np.uint64)), compressor.FLUSH_FRAME)
    return time.process_time() - start


def threads(folder: Path, size_mb: float, rounds: int) -> dict[str, Spread]:
    """Return the seconds of wall clock in which one and two threads ingest ``size_mb`` of each of two tools."""
    runs = Runs(folder, size_mb, (TOOL, OTHER), PAYLOADS)
    found = race({f"wall_threads{n}": partial(runs.ingest_with, n) for n in (1, 2)}, rounds)
    shutil.rmtree(runs.lake)
    shutil.rmtree(runs.source)
    return found


def run(folder: Path, size_mb: float, threads_mb: float, rounds: int) -> Found:
    """Return the figures of ingesting ``size_mb`` of one tool, the share of CPU by stage, and those of two tools of ``threads_mb`` each.

    What two threads lose once (opening, the first commits, which meet, the end, which is not even) weighs more the less they have to do:
    the ratio at ``size_mb`` stands beside that at ``threads_mb``.
    """
    runs = Runs(folder, size_mb)
    runs.ingest_bare()
    runs.ingest()
    runs.stages.clear()
    values = runs.values()
    compress(values[:1])
    stages: list[dict[str, float]] = []

    def whole() -> float:
        seconds = runs.ingest()
        stages.append(runs.stages[-1])
        return seconds

    contestants = {"ingest_bare": runs.ingest_bare, "ingest": whole, "pyarrow_write": runs.write, "values_alone": lambda: compress(values)}
    spreads = race(contestants, rounds)
    shutil.rmtree(runs.lake)
    shutil.rmtree(runs.source)
    wall = threads(folder, threads_mb, rounds)
    note = f"two tools of {threads_mb:,.0f} MB each, --jobs 2 against --jobs 1"
    if size_mb < threads_mb:
        less = threads(folder, size_mb, rounds)
        note += f"; of {size_mb:,.0f} MB: {less['wall_threads1'].best / less['wall_threads2'].best:.2f}"
    alone, rate = spreads["values_alone"], runs.counts.samples / MB
    seconds = {name: min(found.get(name, 0.0) for found in stages) for name in stages[0]}
    figures = [
        ratio("pipeline_vs_value_limit", spreads["ingest"], alone, f"values alone: {rate / alone.best:.0f} M/CPU s"),
        ratio("pipeline_bare_vs_value_limit", spreads["ingest_bare"], alone, BARE),
        ratio("pipeline_vs_pyarrow_write", spreads["ingest"], spreads["pyarrow_write"]),
        ratio("threads2_vs_1", wall["wall_threads1"], wall["wall_threads2"], note),
        samples_rate(rate, spreads["ingest"].rounds),
    ]
    further = [Figure(f"stage_{name}", found / sum(seconds.values()), "of CPU") for name, found in seconds.items()]
    return Found(figures, sorted(further, key=lambda one: -(one.value or 0)), spreads | wall)


def samples_rate(samples: float, seconds: tuple[float, ...]) -> Figure:
    """Return ``samples_per_cpu_s`` of ingests that took ``seconds``."""
    return figure("samples_per_cpu_s", samples / min(seconds), "", samples / max(seconds), samples / min(seconds))
