"""Exact deduplication by runs against a sum over the keys, and against duckdb, polars and pandas; masks and counts are compared, too.

Batches go through the kernels as ``ingest/keys.py`` sends them: order, repeated within the batch, inside a run, merge into the runs.
Contents are not compared here. ``python -m benchmarks.bench_dedupe``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl

from benchmarks.goals import figure, ratio
from benchmarks.measure import Figure, Found, race, table, timed
from kernels import sequence

STREAMS = 1_000
RESENT = 0.05
LATE = 0.01
DELAY_MAX = 500_000
"""How many arrivals later a late or resent key comes at most."""
PERIOD_US = 100_000


@dataclass(frozen=True)
class Keys:
    """Keys in order of arrival."""

    stream: Any
    time_us: Any
    seq: Any

    def packed(self) -> Any:
        """Return the keys as one column, which is less than we get and what the others are fastest with."""
        return (self.stream.astype(np.uint64) << np.uint64(40)) | self.seq.astype(np.uint64)

    def total(self) -> Any:
        """Return the sum over the keys as they come, all three columns."""
        return self.stream.sum() + self.time_us.sum() + self.seq.sum()


def make(n: int, resent: float = RESENT, late: float = LATE) -> Keys:
    """Return ``n`` keys of interleaved streams that count, some late and some sent again."""
    rng = np.random.default_rng(1)
    own = round(n / (1 + resent))
    stream = rng.integers(0, STREAMS, own).astype(np.int32)
    by_stream = np.argsort(stream, kind="stable")
    counts = np.bincount(stream, minlength=STREAMS)
    seq = np.empty(own, np.int64)
    seq[by_stream] = np.arange(own) - np.repeat(np.cumsum(counts) - counts, counts) + 1
    arrival = np.arange(own, dtype=np.float64)
    delayed = rng.random(own) < late
    arrival[delayed] += rng.integers(1, DELAY_MAX, int(delayed.sum()))
    again = rng.integers(0, own, n - own)
    order = np.argsort(np.concatenate([arrival, arrival[again] + rng.integers(1, DELAY_MAX, n - own)]), kind="stable")
    stream, seq = np.concatenate([stream, stream[again]])[order], np.concatenate([seq, seq[again]])[order]
    return Keys(stream, seq * PERIOD_US + stream, seq)


@dataclass
class Book:
    """The runs of all streams, carried from batch to batch."""

    run_stream: Any
    runs: Any
    step: Any

    @staticmethod
    def empty() -> Book:
        """Return a book of streams that count."""
        return Book(np.empty(0, np.int32), np.empty((0, 4), np.int64), np.full(STREAMS, sequence.COUNTER, np.int64))

    def take(self, stream: Any, time_us: Any, seq: Any) -> Any:
        """Return for each key of a batch whether it is new, and take the new ones into the runs."""
        record, stream, time_us, seq = sequence.order_keys(stream, time_us, seq)
        repeated = sequence.same_as_previous(stream, time_us, seq)
        inside = sequence.covered(stream, time_us, seq, self.run_stream, self.runs)
        fresh = ~repeated & (inside < 0)
        new = np.empty(len(record), np.bool_)
        new[record] = fresh
        self.run_stream, self.runs = sequence.merge_runs(stream[fresh], time_us[fresh], seq[fresh], self.run_stream, self.runs, self.step)
        return new

    @property
    def state_bytes(self) -> int:
        """Return the size of what is carried along."""
        return int(self.run_stream.nbytes + self.runs.nbytes)


def ours(keys: Keys, batch: int) -> tuple[Any, int]:
    """Return (which keys are new, the most bytes of state carried from one batch to the next)."""
    book, new, state = Book.empty(), [], 0
    for a in range(0, len(keys.seq), batch):
        new.append(book.take(keys.stream[a : a + batch], keys.time_us[a : a + batch], keys.seq[a : a + batch]))
        state = max(state, book.state_bytes)
    return np.concatenate(new), state


def peers(keys: Keys) -> dict[str, Callable[[], Any]]:
    """Return the same deduplication by others: a mask, or the number of distinct keys."""
    packed = keys.packed()
    series, column = pd.Series(packed), pl.Series(packed)
    table = pl.DataFrame({"key": column}).to_arrow()
    connection = duckdb.connect()
    connection.register("keys", table)
    return {
        "pandas duplicated": lambda: ~series.duplicated().to_numpy(),
        "polars is_first_distinct": lambda: column.is_first_distinct().to_numpy(),
        "polars unique": lambda: len(column.unique()),
        "duckdb distinct": lambda: connection.sql("select count(*) from (select distinct key from keys)").fetchall()[0][0],
    }


def dedupe(n: int, batch: int, rounds: int, with_peers: bool) -> Found:
    """``dedupe_vs_key_sum``, ``dedupe_vs_best_peer``, ``state_bytes``: at most while keys come late, ``in_order_state_bytes``."""
    keys = make(n)
    new, state = ours(keys, batch)
    contestants = {"sum of keys": timed(keys.total), "ours": timed(lambda: ours(keys, batch))}
    names = []
    if with_peers:
        for name, answer in peers(keys).items():
            found = answer()
            if isinstance(found, int):
                assert found == new.sum(), name
            else:
                np.testing.assert_array_equal(found, new, err_msg=name)
            contestants[name] = timed(answer)
            names.append(name)
    spreads = race(contestants, rounds)
    mine = spreads["ours"]
    figures = [ratio("dedupe_vs_key_sum", spreads["sum of keys"], mine, f"{n / 1e6:g} M keys")]
    if names:
        best = min(names, key=lambda name: spreads[name].best)
        figures.append(ratio("dedupe_vs_best_peer", spreads[best], mine, f"{n / 1e6:g} M keys; the best peer is {best}"))
    else:
        figures.append(figure("dedupe_vs_best_peer", None, "left out: the peers' memory does not suffice"))
    in_order = make(n, 0.0, 0.0)
    further = [
        Figure("dedupe_ns", mine.best / n * 1e9, "ns a key"),
        Figure("dedupe_state_late", float(state), "bytes"),
        Figure("dedupe_state_in_order", float(ours(in_order, batch)[1]), "bytes"),
    ]
    return Found(figures, further, {f"dedupe {name}": spread for name, spread in spreads.items()})


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(prog="bench_dedupe", description=__doc__)
    parser.add_argument("--keys", type=int, default=10_000_000)
    parser.add_argument("--batch", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-peers", action="store_true", help="leave the others out, whose memory does not suffice for 100M keys")
    options = parser.parse_args()
    found = dedupe(options.keys, options.batch, options.rounds, not options.no_peers)
    print(table(found.figures + found.further))


if __name__ == "__main__":
    main()
