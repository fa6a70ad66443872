"""What charts are drawn from: the lake's samples and features, thinned so that a browser can hold them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from duckdb import DuckDBPyConnection

from kernels.downsample import extremes

BUCKETS = 400
"""Stretches that one line is cut into: about two pixels each."""

WINDOWS = 30
"""Lines that one overlay holds at the most."""

_SAMPLES = """
SELECT t.window_id, t.trace, t.seq, epoch_us(t.ts) AS at,
       epoch_us(t.ts) - epoch_us(w.started_at) AS since, t.value
FROM traces t JOIN windows w ON t.window_id = w.window_id AND t.tool = w.tool
WHERE t.tool = ? AND w.tool = ? AND t.sensor = ? AND t.window_id IN (SELECT unnest(?))
  AND since BETWEEN ? AND ?
ORDER BY t.window_id, t.ts, t.seq
"""
_BAND = """
WITH cell AS (
  SELECT t.window_id, floor((epoch_us(t.ts) - epoch_us(w.started_at)) / 1e6 / ?)::BIGINT AS cell, avg(t.value) AS x
  FROM traces t JOIN windows w ON t.window_id = w.window_id AND t.tool = w.tool
  WHERE t.tool = ? AND w.tool = ? AND t.sensor = ? AND t.window_id IN (SELECT unnest(?)) AND t.value IS NOT NULL AND NOT isnan(t.value)
  GROUP BY ALL)
SELECT cell, median(x), 3 * 1.4826 * mad(x) FROM cell GROUP BY cell ORDER BY cell
"""
_EVER = 2**62


def dictionaries(connection: DuckDBPyConnection, query: str, parameters: list[Any] | None = None) -> list[dict[str, Any]]:
    """Return the rows of ``query``, each as a dictionary."""
    done = connection.execute(query, parameters or [])
    names = [column[0] for column in done.description or ()]
    return [dict(zip(names, row, strict=True)) for row in done.fetchall()]


def overlay(
    connection: DuckDBPyConnection, tool: str, sensor: str, windows: list[int], span_s: tuple[float, float] | None = None
) -> dict[str, Any]:
    """Return the samples of ``sensor`` in ``windows`` on one clock, thinned; ``span_s``: a stretch, in seconds."""
    low, high = (-_EVER, _EVER) if span_s is None else (int(edge * 1e6) for edge in span_s)
    found = connection.execute(_SAMPLES, [tool, tool, sensor, windows[:WINDOWS], low, high]).fetchnumpy()
    window = np.asarray(found["window_id"], np.int64)
    since = np.ascontiguousarray(found["since"], np.int64)
    values = np.ma.filled(np.ma.asarray(found["value"], np.float64), np.nan)
    lines, shown = [], 0
    edges = [*np.flatnonzero(np.diff(window, prepend=window[:1] - 1)), len(window)]
    for begin, end in pairwise(edges):
        kept = extremes(since[begin:end], values[begin:end], BUCKETS) + begin
        shown += len(kept)
        lines.append(
            {
                "window": int(window[begin]),
                "trace": str(found["trace"][begin]),
                "x": (since[kept] / 1e6).tolist(),
                "y": [float(f"{value:.7g}") for value in values[kept]],
                "seq": found["seq"][kept].tolist(),
                "at": found["at"][kept].tolist(),
            }
        )
    return {"lines": lines, "shown": shown, "samples": len(window)}


def band(connection: DuckDBPyConnection, tool: str, sensor: str, windows: list[int], length_s: float) -> tuple[list[float], ...]:
    """Return (seconds, median, half width) of ``sensor`` over ``windows``; the half width is three robust sigmas."""
    grid_s = max(length_s / 200, 0.001)
    rows = connection.execute(_BAND, [grid_s, tool, tool, sensor, windows]).fetchall()
    return [(row[0] + 0.5) * grid_s for row in rows], [row[1] for row in rows], [row[2] for row in rows]
