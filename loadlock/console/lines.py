"""Lines of samples: put together from pieces, thinned where they grow long, and cut to what a chart shows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.downsample import KEPT, extremes

FINE = 40_000
"""Cells of time that a long line is thinned to, so that it can be zoomed into a hundred times without being read again."""

MOST = KEPT * FINE
"""Points that a line has at the most; a line of fewer samples holds all of them."""

Times = NDArray[np.int64]


class Line(NamedTuple):
    """A sensor's samples of one window, trace and stream, by time: ``n`` points, each with the number of samples that it stands for.

    Thinned by cells of ``cell_us`` it shows in any wider cells what all samples would; 0: it holds all.
    """

    window: int
    start_us: int
    trace: str
    since_us: Times
    seq: Times
    values: NDArray[np.float64]
    weight: Times
    cell_us: int

    def cut(self, low_us: int, high_us: int, cells: int) -> tuple[Times, int]:
        """Return the places of the points to draw from ``low_us`` to ``high_us`` in so many cells, and how many samples are there."""
        begin, end = np.searchsorted(self.since_us, [low_us, high_us + 1])
        since_us = self.since_us[begin:end]
        places = np.arange(begin, end)
        if len(places) > KEPT * cells:
            places = places[extremes(since_us, self.values[begin:end], cell_of(int(since_us[-1] - since_us[0]), cells))]
        return places, int(self.weight[begin:end].sum())


def cell_of(span_us: int, cells: int) -> int:
    """Return how wide cells are of which at most ``cells`` fill ``span_us``: a power of two, so that they nest."""
    return int(1 << (max(0, span_us) // cells).bit_length())


class Growing:
    """A line while its samples are read: at no time does it hold more than a few times ``MOST`` points."""

    def __init__(self) -> None:
        self._parts: list[tuple[NDArray[Any], ...]] = []
        self._size = 0
        self._cell_us = 0

    def add(self, since_us: Times, seq: Times, values: NDArray[np.float64]) -> None:
        """Add samples, in any order."""
        self._parts.append((since_us, seq, values, np.ones(len(seq), np.int64)))
        self._size += len(seq)
        if self._size > 2 * MOST:
            self._settle()

    def _settle(self) -> None:
        since_us, seq, values, weight = (np.concatenate(columns) for columns in zip(*self._parts, strict=True))
        if np.any(since_us[1:] < since_us[:-1]):
            order = np.lexsort((seq, since_us))
            since_us, seq, values, weight = since_us[order], seq[order], values[order], weight[order]
        if len(seq) > MOST:
            self._cell_us = max(self._cell_us, cell_of(int(since_us[-1] - since_us[0]), FINE - 1))
            kept = extremes(since_us, values, self._cell_us)
            weight = np.diff(np.cumsum(weight)[kept], prepend=0)
            since_us, seq, values = since_us[kept], seq[kept], values[kept]
        self._parts = [(since_us, seq, values, weight)]
        self._size = len(seq)

    def line(self, window: int, start_us: int, trace: str) -> Line:
        """Return what came."""
        self._settle()
        ((since_us, seq, values, weight),) = self._parts
        return Line(window, start_us, trace, since_us, seq, values, weight, self._cell_us)
