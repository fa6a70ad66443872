"""Gaps follow from a stream's runs: numbers missing between two neighbours of one epoch."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from ingest.keys import StreamState
from ingest.records import Int64
from kernels import sequence


class Gap(NamedTuple):
    """Missing sequence numbers, first and last inclusive, and the times (microseconds UTC) of the records around them."""

    first_missing: int
    last_missing: int
    missing: int
    after_us: int
    before_us: int


def gap_count(runs: Int64, period_us: int) -> int:
    """Return how many gaps there are between ``runs`` (r, 4). A counter that does not rise opens an epoch, and there is no gap."""
    return len(_places(runs, period_us))


def gaps_of(runs: Int64, period_us: int) -> set[Gap]:
    """Return the gaps between ``runs`` (r, 4)."""
    at = _places(runs, period_us)
    seq_hi, seq_lo = runs[at, 3], runs[at + 1, 1]
    period = np.full(len(at), 1 if period_us == sequence.COUNTER else period_us, np.int64)
    first, last = seq_hi + period, seq_lo - period
    missing = np.maximum(1, (2 * (seq_lo - seq_hi) + period) // (2 * period) - 1)
    columns = (first, np.maximum(first, last), missing, runs[at, 2], runs[at + 1, 0])
    return {Gap(*row) for row in zip(*(column.tolist() for column in columns), strict=True)}


def _places(runs: Int64, period_us: int) -> Int64:
    """Return the runs behind which there is a gap."""
    if len(runs) < 2 or period_us == sequence.ANY:
        return np.empty(0, np.int64)
    return np.flatnonzero(runs[1:, 1] > runs[:-1, 3] + 1) if period_us == sequence.COUNTER else np.arange(len(runs) - 1)


def gap_id(state: StreamState, gap: Gap) -> str:
    """Return the name of a gap: the same gap of the same stream has the same name."""
    return hashlib.sha256("\x1f".join([*(part or "" for part in state.key), *map(str, gap)]).encode()).hexdigest()[:32]
