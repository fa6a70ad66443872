"""Exact deduplication by runs against a sum over the keys, and against duckdb, polars and pandas.

Everyone says of each key, in order of arrival, whether it is new; the answers are compared key by key. Batches go through the kernels as
``ingest/keys.py`` sends them: records in order are taken, late ones matched against the runs, new late ones sorted and merged. Contents are
not compared here, by nobody. What is judged has 5 % of its keys sent again, up to 500,000 arrivals later; a further line has 1 % of the new
keys late as well, which leaves gaps until they come.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from os import sysconf
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl

from benchmarks.goals import ratio
from benchmarks.measure import Figure, Found, race, timed
from kernels import sequence

STREAMS = 1_000
RESENT = 0.05
LATE = 0.01
DELAY_MAX = 500_000
"""How many arrivals later a late or resent key comes at most."""
PERIOD_US = 100_000
BYTES_A_KEY = 160
"""Memory that the hungriest peer takes, with the keys and everyone's answers."""


@dataclass(frozen=True)
class Keys:
    """Keys in order of arrival."""

    stream: Any
    time_us: Any
    seq: Any

    def packed(self) -> Any:
        """Return the keys as one column, which is what the others are fastest with: the time is left out, it says nothing more here."""
        return (self.stream.astype(np.uint64) << np.uint64(40)) | self.seq.astype(np.uint64)

    def total(self) -> Any:
        """Return the sum over the keys as they come, all three columns."""
        return self.stream.sum() + self.time_us.sum() + self.seq.sum()


def make(n: int, resent: float = RESENT, late: float = 0.0) -> Keys:
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
        late, *keys, run_stream, runs, begin = sequence.advance(stream, time_us, seq, self.run_stream, self.runs, self.step)
        outside = np.flatnonzero(sequence.covered(*keys, begin, runs) < 0)
        order, *keys = sequence.order_keys(*(column[outside] for column in keys))
        fresh = ~sequence.same_as_previous(*keys)
        self.run_stream, self.runs = sequence.merge_runs(*(column[fresh] for column in keys), run_stream, runs, self.step)
        new = np.ones(len(stream), np.bool_)
        new[late] = False
        new[late[outside[order[fresh]]]] = True
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


def mask(n: int, rows: Any) -> Any:
    """Return which of ``n`` keys stand in the ``rows``."""
    new = np.zeros(n, np.bool_)
    new[rows] = True
    return new


def peers(keys: Keys) -> dict[str, Callable[[], Any]]:
    """Return the same deduplication by others: which keys are new. Everyone begins with the columns that arrive, and packs them."""
    n = len(keys.seq)
    row = np.arange(n)
    connection = duckdb.connect()
    first = "select min(row) as row from keys group by key"

    def frame() -> pl.DataFrame:
        return pl.DataFrame({"key": keys.packed(), "row": row})

    def grouped() -> Any:
        connection.register("keys", frame().to_arrow())
        return mask(n, connection.sql(first).fetchnumpy()["row"])

    return {
        "pandas duplicated": lambda: ~pd.Series(keys.packed()).duplicated().to_numpy(),
        "polars is_first_distinct": lambda: pl.Series(keys.packed()).is_first_distinct().to_numpy(),
        "polars unique, first": lambda: mask(n, frame().unique("key", keep="first").get_column("row").to_numpy()),
        "duckdb group by": grouped,
    }


COUNTING = "polars unique"
"""Returns how many keys are distinct, and not which: less than we do. A line of its own."""


def dedupe(n: int, batch: int, rounds: int) -> Found:
    """``dedupe_vs_key_sum``, ``dedupe_vs_best_peer``; the latter with late keys too; ``dedupe_state``: the most bytes carried along."""
    keys = make(n)
    new, state = ours(keys, batch)
    contestants = {"sum of keys": timed(keys.total), "ours": timed(lambda: ours(keys, batch))}
    others = _checked(keys, new)
    contestants |= {name: timed(answer) for name, answer in others.items()}

    def counted() -> int:
        return len(pl.Series(keys.packed()).unique())

    np.testing.assert_equal(counted(), new.sum())
    contestants[COUNTING] = timed(counted)
    spreads = race(contestants, rounds)
    mine = spreads["ours"]
    best = min(others, key=lambda name: spreads[name].best)
    figures = [
        ratio("dedupe_vs_key_sum", spreads["sum of keys"], mine, f"{n / 1e6:g} M keys"),
        ratio("dedupe_vs_best_peer", spreads[best], mine, f"{n / 1e6:g} M keys; the best peer is {best}"),
    ]
    further = [
        Figure("dedupe_ns", mine.best / n * 1e9, "ns a key"),
        Figure(
            "dedupe_vs_counting", spreads[COUNTING].best / mine.best, "x", note=f"{COUNTING} counts the keys and says not which are new"
        ),
        Figure("dedupe_state", float(state), "bytes"),
    ]
    return Found(figures, [*further, *_late(n, batch, rounds, best)], {f"dedupe {name}": spread for name, spread in spreads.items()})


def _checked(keys: Keys, new: Any) -> dict[str, Callable[[], Any]]:
    """Return the peers, once each has given our answer."""
    others = peers(keys)
    for name, answer in others.items():
        np.testing.assert_array_equal(answer(), new, err_msg=name)
    return others


def _late(n: int, batch: int, rounds: int, peer: str) -> list[Figure]:
    """Return the figures of keys of which some new ones are late, against the peer that is best without."""
    keys = make(n, late=LATE)
    new, state = ours(keys, batch)
    other = {peer: peers(keys)[peer]}
    np.testing.assert_array_equal(other[peer](), new, err_msg=peer)
    spreads = race({"late, ours": timed(lambda: ours(keys, batch)), "late, peer": timed(other[peer])}, rounds)
    value = spreads["late, peer"].best / spreads["late, ours"].best
    return [
        Figure("dedupe_late_vs_peer", value, "x", note=f"{LATE:.0%} of the new keys late as well, against {peer}"),
        Figure("dedupe_state_late", float(state), "bytes"),
    ]


def once(n: int, batch: int) -> Found:
    """The same with ``n`` keys, once, as further figures; where memory is short for the peers, that is what is said."""
    room = sysconf("SC_PHYS_PAGES") * sysconf("SC_PAGE_SIZE")
    if room < n * BYTES_A_KEY:
        why = f"{n / 1e6:g} M keys need {n * BYTES_A_KEY / 1e9:.0f} GB of memory (the peers do), there are {room / 1e9:.0f} GB"
        return Found(further=[Figure(f"dedupe_{n // 10**6}M", None, "x", note=why)])
    found = dedupe(n, batch, 1)
    named = [replace(one, name=f"{one.name}_{n // 10**6}M") for one in (*found.figures, *found.further)]
    return Found(further=named, spreads={f"{name}, {n // 10**6} M keys": spread for name, spread in found.spreads.items()})
