"""Stored features against their recomputation from the stored samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kernels.reduce import COLUMNS
from storage.recompute import statistics_of
from storage.store import Store

SAMPLE = 32
WINDOWS_PER_READ = 32

_WINDOW = ("tool", "chamber", "lot", "wafer", "recipe", "step", "occurrence", "started_at", "ended_at", "complete")
_SAMPLES = (
    "SELECT window_id, trace, position, sensor, epoch_us(ts) AS time_us, seq, stream, value FROM lake.main.traces "
    "WHERE tool = ? AND ts BETWEEN ? AND coalesce(?, TIMESTAMP 'infinity') AND list_contains(?, window_id) "
    "ORDER BY window_id, trace, position, time_us, seq, stream"
)


def feature_faults(store: Store, *, every: bool) -> tuple[int, list[str]]:
    """Return how many windows were computed anew, and those whose features are not what came out.

    ``every`` takes all windows whose features are not owed, else a sample that moves with the ledger's head.
    """
    names = ", ".join(("window_id", *_WINDOW))
    order = "tool, started_at, window_id" if every else f"hash(window_id + {store.head()[0]}) LIMIT {SAMPLE}"
    paid = f"SELECT {names} FROM windows ANTI JOIN features_owed USING (window_id) ORDER BY {order}"
    windows = store.rows(f"SELECT {names} FROM ({paid}) ORDER BY tool, started_at, window_id")
    faults: list[str] = []
    for tool in dict.fromkeys(window[1] for window in windows):
        own = [window for window in windows if window[1] == tool]
        for a in range(0, len(own), WINDOWS_PER_READ):
            faults += _compare(store, tool, own[a : a + WINDOWS_PER_READ])
    return len(windows), faults


def _compare(store: Store, tool: str, windows: Sequence[tuple[Any, ...]]) -> list[str]:
    by_id = {window[0]: window[1:] for window in windows}
    ends = [window[9] for window in windows]
    hi = None if None in ends else max(ends)
    rows = store.arrow(_SAMPLES, [tool, min(window[8] for window in windows), hi, list(by_id)])
    computed = {
        (found.window_id, found.trace, position): values
        for found in statistics_of(rows)
        for position, values in zip(found.positions, found.statistics, strict=True)
    }
    quoted = ", ".join(f'"{name}"' for name in COLUMNS)
    stored = store.rows(
        f"SELECT window_id, trace, position, {quoted}, {', '.join(_WINDOW)} FROM features WHERE tool = ? AND list_contains(?, window_id)",
        [tool, list(by_id)],
    )
    bad: dict[int, str] = {}
    seen: set[tuple[int, str, int]] = set()
    for row in stored:
        key, values, context = row[:3], row[3 : 3 + len(COLUMNS)], row[3 + len(COLUMNS) :]
        if key in seen:
            bad.setdefault(key[0], f"position {key[2]} of trace {key[1]} is there twice")
        seen.add(key)
        if key not in computed:
            bad.setdefault(key[0], f"position {key[2]} of trace {key[1]} has features and no samples")
        elif not np.array_equal(computed[key], np.asarray([np.nan if value is None else value for value in values], float), equal_nan=True):
            bad.setdefault(key[0], f"position {key[2]} of trace {key[1]} has other statistics than its samples give")
        elif context != by_id[key[0]]:
            bad.setdefault(key[0], "its feature rows name another context, start or end than the window")
    for key in computed.keys() - seen:
        bad.setdefault(key[0], f"position {key[2]} of trace {key[1]} has samples and no features")
    return [f"features of window {window_id} of {tool}: {text}" for window_id, text in sorted(bad.items())]
