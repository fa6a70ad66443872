"""Window reduction against ``np.sum`` over the same samples, and its quantiles against polars; the answers are compared, too.

Each function returns figures; contestants run in turns and the best round counts. ``python -m benchmarks.bench_reduce``.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from benchmarks.goals import figure, ratio
from benchmarks.measure import Figure, Found, race, table, timed
from kernels.reduce import COLUMNS, MOMENTS, QUANTILES, TRENDS, reduce_windows
from kernels.reference.reduce import reduce_one

SENSORS = 50
PERIOD_US = 100_000
QUANTILE_NAMES = {"median": 0.5, "p05": 0.05, "p95": 0.95}


@dataclass(frozen=True)
class Load:
    """Sensors on one time axis and the windows on it."""

    matrix: Any
    time_us: Any
    start: Any
    stop: Any

    def reduce(self, what: int) -> Any:
        """Return the statistics of every window and sensor."""
        return reduce_windows(self.matrix, self.time_us, self.start, self.stop, what)


def make(samples: int, sensors: int = SENSORS) -> Load:
    """Windows of 400 to 600 samples; of ten sensors four step as a 12-bit converter does, three have decimals, two are raw, one counts."""
    rng = np.random.default_rng(1)
    n = samples // sensors
    stop = np.cumsum(rng.integers(400, 601, n // 400))
    stop = stop[stop <= n]
    start = np.append(0, stop[:-1])
    matrix = rng.normal(scale=0.2, size=(sensors, n)) + 100
    for j, row in enumerate(matrix):
        digits = j % 10
        if digits < 4:
            row[:] = np.round(row * (4095 / 200)) * (200 / 4095)
        elif digits < 7:
            row[:] = np.round(row, 2 + j % 3)
        elif digits == 9:
            row[:] = np.round(row * 5)
    return Load(matrix, np.arange(n) * PERIOD_US, start, stop)


def check(load: Load) -> None:
    """Compare some windows of each kind of sensor with numpy."""
    rows = slice(0, min(10, len(load.matrix)))
    some = Load(np.ascontiguousarray(load.matrix[rows]), load.time_us, load.start[:5], load.stop[:5])
    found = some.reduce(QUANTILES)
    for w in range(5):
        x = some.matrix[:, some.start[w] : some.stop[w]]
        t = load.time_us[some.start[w] : some.stop[w]] / 1e6
        cell = dict(zip(COLUMNS, found[w].T, strict=True))
        own = {"min": x.min(1), "max": x.max(1), "first": x[:, 0], "last": x[:, -1]}
        own |= {name: np.quantile(x, q, axis=1) for name, q in QUANTILE_NAMES.items()}
        close = {"mean": x.mean(1), "std": x.std(1, ddof=1), "area": np.trapezoid(x, t, axis=1), "slope": np.polyfit(t - t[0], x.T, 1)[0]}
        for name, values in own.items():
            np.testing.assert_array_equal(cell[name], values, err_msg=name)
        for name, values in close.items():
            np.testing.assert_allclose(cell[name], values, rtol=1e-6 if name == "slope" else 1e-9, atol=1e-9, err_msg=name)


def against_sum(samples: int, rounds: int, sensors: int = SENSORS) -> Found:
    """``reduce5_vs_sum``: n, min, max, mean, std (missing, first and last come along); ``reduce11_vs_sum``: slope and area as well."""
    load = make(samples, sensors)
    check(load)
    contestants = {"np.sum": timed(load.matrix.sum)}
    contestants |= {name: timed(lambda what=what: load.reduce(what)) for name, what in (("reduce5", MOMENTS), ("reduce11", TRENDS))}
    contestants["reduce_all"] = timed(lambda: load.reduce(QUANTILES))
    spreads = race(contestants, rounds)
    summed, everything = spreads["np.sum"], spreads["reduce_all"].best
    return Found(
        [ratio(f"{name}_vs_sum", summed, spreads[name]) for name in ("reduce5", "reduce11")],
        [Figure("reduce_all_vs_sum", summed.best / everything, "x"), Figure("reduce_all_ns", everything / samples * 1e9, "ns a sample")],
        spreads,
    )


def against_polars(samples: int, rounds: int) -> Found:
    """``quantiles3_vs_polars``: polars' time for the three quantiles over that of all thirteen statistics less that of the other ten.

    ``reduce_all_vs_polars3``: over that of all thirteen.
    """
    load = make(samples)
    sizes = load.stop - load.start
    keys = np.repeat(np.arange(len(sizes) * SENSORS), np.tile(sizes, SENSORS))
    frame = pl.DataFrame({"key": keys, "x": np.ascontiguousarray(load.matrix[:, : load.stop[-1]]).reshape(-1)})
    frame = frame.with_columns(pl.col("key").set_sorted())
    wanted = [pl.col("x").quantile(q, "linear").alias(name) for name, q in QUANTILE_NAMES.items()]

    def theirs() -> Any:
        return frame.group_by("key", maintain_order=True).agg(wanted)

    answer, ours = theirs(), load.reduce(QUANTILES)
    for name in QUANTILE_NAMES:
        mine = ours[:, :, COLUMNS.index(name)].T.reshape(-1)
        np.testing.assert_allclose(answer[name].to_numpy(), mine, rtol=1e-13, err_msg=name)
    spreads = race(
        {"polars": timed(theirs), "others": timed(lambda: load.reduce(TRENDS)), "all": timed(lambda: load.reduce(QUANTILES))}, rounds
    )
    polars, others, everything = (spreads[name] for name in ("polars", "others", "all"))
    alone = everything.best - others.best
    by_round = [p / max(a - o, 1e-9) for p, o, a in zip(polars.rounds, others.rounds, everything.rounds, strict=True)]
    return Found(
        [figure("quantiles3_vs_polars", polars.best / alone, "", min(by_round), max(by_round))],
        [Figure("reduce_all_vs_polars3", polars.best / everything.best, "x")],
        {f"quantiles {name}": spread for name, spread in spreads.items()},
    )


def std_error() -> Figure:
    """Worst relative error of std of 500 samples with noise of 1e-3 at 1e9, against exact rationals."""
    worst = 0.0
    for seed in range(20):
        values = 1e9 + np.random.default_rng(seed).normal(scale=1e-3, size=500)
        exact = reduce_one(values.tolist(), list(range(500)), 0)["std"]
        found = reduce_windows(values.reshape(1, -1), np.arange(500), np.asarray([0]), np.asarray([500]), MOMENTS)[
            0, 0, COLUMNS.index("std")
        ]
        assert exact is not None
        worst = max(worst, abs(found - exact) / exact)
    return Figure("std_error_at_1e9", worst, "relative", 1e-12, at_least=False)


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(prog="bench_reduce", description=__doc__)
    parser.add_argument("--samples", type=int, default=50_000_000)
    parser.add_argument("--polars-samples", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    for title, part in (
        ("50 sensors on one time axis", lambda: against_sum(options.samples, options.rounds)),
        ("one sensor", lambda: against_sum(options.samples // 5, options.rounds, 1)),
        ("quantiles", lambda: against_polars(options.polars_samples, options.rounds)),
        ("exactness", lambda: Found([std_error()])),
    ):
        found = part()
        print(title, table(found.figures + found.further), sep="\n")


if __name__ == "__main__":
    main()
