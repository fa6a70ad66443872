"""All figures in one run: ``make bench``. Writes one result file, and from it the page and its chart (:mod:`benchmarks.report`)."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import (
    bench_commit,
    bench_decode,
    bench_dedupe,
    bench_infrastructure,
    bench_pipeline,
    bench_process,
    bench_queries,
    bench_reduce,
    bench_sizes,
    bench_tables,
    bench_threads,
    bench_writer,
    capacity,
    report,
)
from benchmarks.goals import GOALS
from benchmarks.measure import Figure, Found, table, write_result


@dataclass(frozen=True)
class Sizes:
    """How much every part measures, and how often."""

    rounds: int = 7
    decode_mb: float = 100
    secsgem_messages: int = 100
    table_mb: float = 40
    pipeline_mb: float = 400
    pipeline_rounds: int = 4
    threads_mb: float = 2_000
    threads_rounds: int = 5
    memory_mb: float = 100
    memory_rounds: int = 2
    start_rounds: int = 15
    cold_rounds: int = 3
    cold_source_rounds: int = 1
    keys: int = 10_000_000
    keys_batch: int = 250_000
    keys_rounds: int = 3
    samples: int = 20_000_000
    quantile_samples: int = 5_000_000
    write_steps: int = 60
    sizes_mb: float = 30
    data_sets: tuple[str, ...] = tuple(bench_sizes.LAKES)
    chains_mb: float = bench_infrastructure.SMALL_MB
    chains_large_mb: float = bench_infrastructure.LARGE_MB
    chains_rounds: int = 2
    keys_once: int = 100_000_000
    query_rows: int = 200_000_000
    files: tuple[int, ...] = bench_commit.LEVELS


USUAL = Sizes()
GATE = Sizes(
    rounds=7,
    decode_mb=40,
    secsgem_messages=30,
    table_mb=16,
    pipeline_mb=120,
    pipeline_rounds=3,
    threads_mb=120,
    threads_rounds=3,
    memory_mb=30,
    memory_rounds=1,
    cold_rounds=1,
    cold_source_rounds=0,
    keys=10_000_000,  # the peers are faster while their tables fit in a cache
    keys_batch=250_000,
    samples=5_000_000,
    quantile_samples=2_000_000,
    write_steps=30,
    sizes_mb=10,
    data_sets=(bench_sizes.EVERYWHERE,),
)

Part = Callable[[Sizes, Path], Found]

PARTS: dict[str, Part] = {
    "start_up": lambda s, folder: bench_process.start_up(folder, s.start_rounds),
    "cold": lambda s, folder: bench_process.cold_compile(folder, s.cold_rounds, s.cold_source_rounds),
    "decode": lambda s, _: bench_decode.run(s.decode_mb, s.rounds, s.secsgem_messages),
    "tables": lambda s, _: bench_tables.run(s.table_mb, 3 * s.rounds),
    "dedupe": lambda s, _: bench_dedupe.dedupe(s.keys, s.keys_batch, s.keys_rounds),
    "reduce": lambda s, _: bench_reduce.against_sum(s.samples, s.rounds),
    "quantiles": lambda s, _: bench_reduce.against_polars(s.quantile_samples, s.rounds),
    "write": lambda s, _: bench_writer.run(s.write_steps, s.rounds),
    "pipeline": lambda s, folder: bench_pipeline.run(folder, s.pipeline_mb, s.pipeline_rounds),
    "threads": lambda s, folder: bench_threads.run(folder, s.pipeline_mb, s.threads_mb, s.threads_rounds),
    "sizes": lambda s, _: bench_sizes.run(s.data_sets, bench_sizes.real_data(), s.sizes_mb),
    "memory": lambda s, folder: bench_process.memory(folder, s.memory_mb, s.memory_rounds),
}
"""Part to its function (sizes, folder to write into): those that give the figures with goals, which the gate judges."""

LONG_PARTS: dict[str, Part] = {
    "dedupe_once": lambda s, _: bench_dedupe.once(s.keys_once, s.keys_batch),
    "commits": lambda s, folder: bench_commit.run(folder, s.files),
    "queries": lambda s, folder: bench_queries.run(folder, s.query_rows),
    "infrastructure": lambda s, _: bench_infrastructure.through_all(s.chains_mb, s.chains_large_mb, s.chains_rounds),
}
"""Parts that take minutes, with tables of their own on the pages."""

ALL_PARTS = PARTS | LONG_PARTS


def measure(names: Sequence[str], sizes: Sizes) -> Found:
    """Run the parts ``names`` one after the other; the wall seconds of each are in the table ``wall_s``."""
    whole, wall = Found(), {}
    for name in names:
        print(f"{name}:", file=sys.stderr)
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="loadlock-bench-") as folder:
            whole.add(ALL_PARTS[name](sizes, Path(folder)))
        wall[name] = round(time.monotonic() - begin, 1)
    whole.tables["wall_s"] = wall
    return whole


def ordered(figures: Sequence[Figure]) -> list[Figure]:
    """Return ``figures`` in the order of the goals."""
    return sorted(figures, key=lambda one: list(GOALS).index(one.name))


def main() -> None:
    """Measure, print the table, write the result file and the pages."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--only", choices=list(ALL_PARTS), action="append", help="part; may be repeated: then nothing is written")
    options = parser.parse_args()
    found = measure(options.only or list(ALL_PARTS), USUAL)
    figures = ordered(found.figures)
    print(table(figures + found.further))
    if options.only:
        return
    spreads = {name: asdict(spread) for name, spread in found.spreads.items()}
    further = [one.row() for one in found.further]
    write_result(report.RESULT, figures, settings=asdict(USUAL), further=further, seconds=spreads, **found.tables)
    report.main()
    capacity.main()


if __name__ == "__main__":
    main()
