"""What charts are drawn from: the lake's samples and features, thinned so that a browser can hold them."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from duckdb import DuckDBPyConnection
from numpy.typing import NDArray

from loadlock.console.lines import Line
from loadlock.console.shelf import Shelf

CELLS = 512
"""Stretches of time that a line is drawn in at the most: two pixels each or more."""

BEHIND = 4096
"""Stretches of time that all lines behind the marked ones share."""

WINDOWS = 30
"""Windows that one overlay holds at the most."""

_BAND = """
WITH cell AS (
  SELECT t.window_id, floor((epoch_us(t.ts) - epoch_us(w.started_at)) / 1e6 / ?)::BIGINT AS cell, avg(t.value) AS x
  FROM traces t JOIN windows w ON t.window_id = w.window_id AND t.tool = w.tool
  WHERE t.tool = ? AND w.tool = ? AND t.sensor = ? AND t.window_id IN (SELECT unnest(?)) AND t.value IS NOT NULL AND NOT isnan(t.value)
  GROUP BY ALL)
SELECT cell, median(x), 3 * 1.4826 * mad(x) FROM cell GROUP BY cell ORDER BY cell
"""


def dictionaries(connection: DuckDBPyConnection, query: str, parameters: list[Any] | None = None) -> list[dict[str, Any]]:
    """Return the rows of ``query``, each as a dictionary."""
    done = connection.execute(query, parameters or [])
    names = [column[0] for column in done.description or ()]
    return [dict(zip(names, row, strict=True)) for row in done.fetchall()]


def overlay(
    connection: DuckDBPyConnection,
    tool: str,
    sensor: str,
    windows: Sequence[int],
    span_s: tuple[float, float] | None = None,
    *,
    marked: Collection[int] = (),
    shelf: Shelf | None = None,
) -> dict[str, Any]:
    """Return the samples of ``sensor`` in ``windows`` on one clock, thinned; ``span_s``: a stretch, in seconds.

    Lines of ``marked`` windows are drawn finely, those behind them share ``BEHIND`` cells. ``shelf`` holds what was read before.
    """
    span_us = None if span_s is None else (round(span_s[0] * 1e6), round(span_s[1] * 1e6))
    lines = (shelf or Shelf()).lines(connection, tool, sensor, windows[:WINDOWS], span_us, CELLS)
    low_us, high_us = span_us or (-(2**62), 2**62)
    behind = sum(line.window not in marked for line in lines)
    drawn, samples, all_counted = [], 0, True
    for line in lines:
        places, count = line.cut(low_us, high_us, CELLS if line.window in marked else max(64, min(CELLS, BEHIND // behind)))
        samples += count
        all_counted &= span_us is None or line.cell_us == 0
        if len(places):
            drawn.append(_drawn(line, places))
    return {"lines": drawn, "shown": sum(len(line["x"]) for line in drawn), "samples": samples, "counted": all_counted}


def _drawn(line: Line, places: NDArray[np.int64]) -> dict[str, Any]:
    values = line.values[places]
    finite = values[np.isfinite(values)]
    height = float(finite.max() - finite.min()) if len(finite) else 0.0
    decimals = 7 - math.floor(math.log10(height)) if 1e-300 < height < 1e300 else 17
    return {
        "window": line.window,
        "trace": line.trace,
        "start_us": line.start_us,
        "x": (line.since_us[places] / 1e6).tolist(),
        "y": np.round(values, decimals).tolist() if -300 < decimals < 17 else values.tolist(),
        "seq": [seq if abs(seq) < 2**53 else str(seq) for seq in line.seq[places].tolist()],  # JavaScript's numbers end there
    }


def band(connection: DuckDBPyConnection, tool: str, sensor: str, windows: list[int], length_s: float) -> tuple[list[float], ...]:
    """Return (seconds, median, half width) of ``sensor`` over ``windows``; the half width is three robust sigmas."""
    grid_s = max(length_s / 200, 0.001)
    rows = connection.execute(_BAND, [grid_s, tool, tool, sensor, windows]).fetchall()
    return [(row[0] + 0.5) * grid_s for row in rows], [row[1] for row in rows], [row[2] for row in rows]
