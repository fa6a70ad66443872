"""The whole ingest, read to commit, against what it can't do without: pyarrow's write of the same rows, compression of the values alone.

Contestants run in turns in one process; CPU seconds of the best round count.
"""

from __future__ import annotations

import gc
import hashlib
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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
from benchmarks.measure import Figure, Found, check, race
from benchmarks.parquet_baseline import rewrite, trace_files
from kernels.pages import byte_streams
from kernels.reduce import TRENDS, reduce_windows
from storage.zstd import zstd

MB = 1_000_000
TOOL = "ETCH01"
LEVEL = 1
BARE = "quantiles and the SHA-256 of payload and files put out of action by the benchmark: the product has no switch for that"


@dataclass(frozen=True)
class Ingested:
    """When an ingest began and ended, in seconds of its clock; how many trace rows the lake holds, and the CPU seconds of each stage."""

    begin: float
    end: float
    rows: int
    stages: dict[str, float]


def ingest_fresh(source: Path, lake: Path, jobs: int, clock: Callable[[], float]) -> Ingested:
    """Ingest ``source`` into a fresh lake; what is imported is kept from the collector, as the command does."""
    shutil.rmtree(lake, ignore_errors=True)
    with loadlock.open(lake) as opened:
        gc.collect()
        gc.freeze()
        try:
            begin = clock()
            opened.ingest(source, config=source / "loadlock.toml", jobs=jobs)
            end = clock()
        finally:
            gc.unfreeze()
        rows = opened.sql("select count(*) from traces").fetchone()
    assert rows is not None
    return Ingested(begin, end, rows[0], opened.last_timings)


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
        found = ingest_fresh(self.source, self.lake, jobs, clock)
        self.stages.append(found.stages)
        self.check_rows(found.rows)
        return found.end - found.begin

    def check_rows(self, rows: int) -> None:
        """Stop where lakes hold other ``rows`` of traces than came."""
        check(rows == self.counts.samples, f"the lake holds {rows} samples, not {self.counts.samples}")

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


def run(folder: Path, size_mb: float, rounds: int) -> Found:
    """Return the figures of ingesting ``size_mb`` of one tool, and the share of CPU by stage."""
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
    alone, rate = spreads["values_alone"], runs.counts.samples / MB
    seconds = {name: min(found.get(name, 0.0) for found in stages) for name in stages[0]}
    figures = [
        ratio("pipeline_vs_value_limit", spreads["ingest"], alone, f"values alone: {rate / alone.best:.0f} M/CPU s"),
        ratio("pipeline_bare_vs_value_limit", spreads["ingest_bare"], alone, BARE),
        ratio("pipeline_vs_pyarrow_write", spreads["ingest"], spreads["pyarrow_write"]),
        samples_rate(rate, spreads["ingest"].rounds),
    ]
    further = [Figure(f"stage_{name}", found / sum(seconds.values()), "of CPU") for name, found in seconds.items()]
    return Found(figures, sorted(further, key=lambda one: -(one.value or 0)), spreads)


def samples_rate(samples: float, seconds: tuple[float, ...]) -> Figure:
    """Return ``samples_per_cpu_s`` of ingests that took ``seconds``."""
    return figure("samples_per_cpu_s", samples / min(seconds), "", samples / max(seconds), samples / min(seconds))
