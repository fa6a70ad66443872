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


def gaps_of(runs: Int64, period_us: int) -> set[Gap]:
    """Return the gaps between ``runs`` (r, 4). A counter that does not rise opens an epoch, and there is no gap."""
    if len(runs) < 2 or period_us == sequence.ANY:
        return set()
    seq_hi, seq_lo = runs[:-1, 3], runs[1:, 1]
    if period_us == sequence.COUNTER:
        at = np.flatnonzero(seq_lo > seq_hi + 1)
        period = np.ones(len(at), np.int64)
    else:
        at = np.arange(len(seq_lo))
        period = np.full(len(at), period_us, np.int64)
    first, last = seq_hi[at] + period, seq_lo[at] - period
    missing = np.maximum(1, (2 * (seq_lo[at] - seq_hi[at]) + period) // (2 * period) - 1)
    columns = (first, np.maximum(first, last), missing, runs[:-1, 2][at], runs[1:, 0][at])
    return {Gap(*row) for row in zip(*(column.tolist() for column in columns), strict=True)}


def gap_id(state: StreamState, gap: Gap) -> str:
    """Return the name of a gap: the same gap of the same stream has the same name."""
    return hashlib.sha256("\x1f".join([*(part or "" for part in state.key), *map(str, gap)]).encode()).hexdigest()[:32]
