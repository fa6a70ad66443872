"""The figures that are judged: what each is, its goal, and the floor below which a change must not fall."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.measure import Figure, Spread

SAME_RUN, COMMITTED, REPORTED = "floor", "committed", "reported"
"""How the gate judges.

At its floor (ratios of one run), against the committed figure (sizes, memory), or not at all (rates, wall clock on shared cores).
"""


@dataclass(frozen=True)
class Goal:
    """``goal`` is wanted, ``floor`` must hold, both at least (``at_least``) or at most."""

    goal: float
    floor: float
    meaning: str
    at_least: bool = True
    unit: str = "x"
    gate: str = SAME_RUN


GOALS: dict[str, Goal] = {
    "decode_f4_vs_memcpy": Goal(0.9, 0.5, "speed of decoding runs of F4 over that of copying the same bytes"),
    "decode_mixed_vs_memcpy": Goal(0.3, 0.12, "the same where no two neighbours have one format"),
    "decode_vs_secsgem": Goal(5000, 1000, "speed of decoding runs of F4 over secsgem's"),
    "table_vs_polars_csv": Goal(0.5, 0.5, "speed of reading a delimited table, account included, over polars' CSV reader"),
    "dedupe_vs_best_peer": Goal(80, 20, "speed of exact deduplication over the best of duckdb, polars and pandas"),
    "dedupe_vs_key_sum": Goal(0.5, 0.1, "the same over summing the key columns"),
    "reduce5_vs_sum": Goal(0.6, 0.4, "speed of n, min, max, mean, std by window over np.sum"),
    "reduce11_vs_sum": Goal(0.3, 0.13, "the same with slope and area"),
    "quantiles3_vs_polars": Goal(1, 1, "speed of median, p05 and p95 by window over polars'"),
    "write_vs_pyarrow": Goal(4, 2.5, "speed of writing traces over pyarrow's writer"),
    "write_vs_value_limit": Goal(0.7, 0.5, "the same over byte-split and zstd of the values alone"),
    "pipeline_vs_value_limit": Goal(4.5, 7, "CPU of a whole ingest over that of byte-split and zstd of its values alone", False),
    "pipeline_bare_vs_value_limit": Goal(2.2, 7, "the same without quantiles and SHA-256", False),
    "pipeline_vs_pyarrow_write": Goal(1.9, 1.9, "CPU of a whole ingest over pyarrow writing the same trace rows", False),
    "threads2_vs_1": Goal(1.7, 1.7, "speed of an ingest with two threads over one, wall clock", gate=REPORTED),
    "samples_per_cpu_s": Goal(30, 15, "samples that a CPU second ingests", unit="M/s", gate=REPORTED),
    "bytes_vs_default_parquet": Goal(0.5, 0.6, "bytes of the trace files over pyarrow's default Parquet", False, gate=COMMITTED),
    "bytes_vs_csv_gz": Goal(0.2, 0.22, "the same over CSV through gzip", False, gate=COMMITTED),
    "bytes_vs_pcodec": Goal(1.1, 1.3, "the same over pcodec of the values alone", False, gate=COMMITTED),
    "help_cpu_ms": Goal(60, 100, "CPU of --help beyond a bare interpreter", False, "ms"),
    "warm_ingest_cpu_s": Goal(1, 1, "all CPU of ingesting a small file, kernels compiled", False, "s", REPORTED),
    "cold_compile_cpu_s": Goal(8, 8, "all CPU of compiling every kernel of an installed wheel, none cached", False, "s", REPORTED),
    "peak_rss_mb": Goal(256, 256, "peak memory of an ingest beyond an interpreter that imported everything", False, "MB", COMMITTED),
    "peak_rss_growth_10x": Goal(1.15, 1.15, "peak memory at ten times the input over that at one", False, gate=COMMITTED),
}
"""Name of a figure to what is asked of it. Where goal and floor are one number, there is no softer one."""


def figure(name: str, value: float | None, note: str = "", low: float | None = None, high: float | None = None) -> Figure:
    """Return the figure ``name`` with its goal and floor; its extremes hold the value, which is that of the best rounds."""
    goal = GOALS[name]
    if value is not None and low is not None and high is not None:
        low, high = min(low, value), max(high, value)
    return Figure(name, value, goal.unit, goal.goal, goal.at_least, note, goal.floor, low, high)


def ratio(name: str, above: Spread, below: Spread, note: str = "", scale: float = 1.0) -> Figure:
    """Return ``above / below`` of the best rounds, times ``scale``; its extremes are those of the rounds, each by itself."""
    by_round = [scale * a / b for a, b in zip(above.rounds, below.rounds, strict=True)]
    return figure(name, scale * above.best / below.best, note, min(by_round), max(by_round))
