"""Lines at hand: what was read from the lake for one picture is not read again for the next zoom."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from duckdb import DuckDBPyConnection

from loadlock.console.lines import Growing, Line, cell_of

POINTS = 8_000_000
"""Points that are kept at hand in all, of 32 bytes each."""

ROWS = 500_000
"""Samples that come from DuckDB at once."""

_WINDOWS = "SELECT window_id, revision, epoch_us(started_at) FROM windows WHERE tool = ? AND window_id IN (SELECT unnest(?))"
_SAMPLES = """
SELECT window_id, hash(trace), hash(stream), seq, epoch_us(ts), value FROM traces
WHERE tool = ? AND sensor = ? AND window_id IN (SELECT unnest(?)) AND ts IS NOT NULL
"""
_BETWEEN = " AND ts BETWEEN make_timestamp(?) AND make_timestamp(?)"
_NAME = "SELECT trace FROM traces WHERE tool = ? AND sensor = ? AND window_id = ? AND hash(trace) = ? LIMIT 1"


class Place(NamedTuple):
    """The samples of one sensor in one window as it stands; a change of its samples gives it another revision."""

    tool: str
    sensor: str
    window: int
    revision: int


class Stretch(NamedTuple):
    """Lines of a window from ``low_us`` to ``high_us`` since its start."""

    low_us: int
    high_us: int
    lines: list[Line]

    def shows(self, low_us: int, high_us: int, cell_us: int) -> bool:
        """Tell whether cells of ``cell_us`` can be drawn from this."""
        return self.low_us <= low_us and high_us <= self.high_us and all(line.cell_us <= cell_us for line in self.lines)


EVER = (-(2**61), 2**61)


class Shelf:
    """Lines that were read, the least used leave first; may be used by several threads."""

    def __init__(self, points: int = POINTS) -> None:
        self._points = points
        self._lock = threading.Lock()
        self._held: OrderedDict[Place, list[Stretch]] = OrderedDict()
        self.reads = 0
        """How often samples were read from the lake."""

    def lines(
        self, connection: DuckDBPyConnection, tool: str, sensor: str, windows: Sequence[int], span_us: tuple[int, int] | None, cells: int
    ) -> list[Line]:
        """Return the lines of ``sensor`` in ``windows``, in their order, fine enough for so many cells of ``span_us`` (None: the whole)."""
        found = connection.execute(_WINDOWS, [tool, list(windows)]).fetchall()
        places = {Place(tool, sensor, window, revision): start_us for window, revision, start_us in found}
        missing = {place: start_us for place, start_us in places.items() if self._whole(place) is None}
        if missing:
            for place, lines in self._read(connection, missing).items():
                self._keep(place, Stretch(*EVER, lines))
        chosen = {place.window: self._fitting(connection, place, start_us, span_us, cells) for place, start_us in places.items()}
        return [line for window in windows for line in chosen.get(window, ())]

    def _whole(self, place: Place) -> Stretch | None:
        with self._lock:
            held = self._held.get(place)
            if held is None:
                return None
            self._held.move_to_end(place)
            return held[0]

    def _fitting(
        self, connection: DuckDBPyConnection, place: Place, start_us: int, span_us: tuple[int, int] | None, cells: int
    ) -> list[Line]:
        with self._lock:
            held = list(self._held.get(place, ()))
        if span_us is None and held:
            return held[0].lines
        low_us, high_us = span_us or EVER
        cell_us = cell_of(high_us - low_us, cells)
        for stretch in held:
            if stretch.shows(low_us, high_us, cell_us):
                return stretch.lines
        margin_us = high_us - low_us  # the next step aside is at hand, too
        wide = (low_us - margin_us, high_us + margin_us) if span_us else EVER
        stretch = Stretch(*wide, self._read(connection, {place: start_us}, wide)[place])
        self._keep(place, stretch)
        return stretch.lines

    def _keep(self, place: Place, stretch: Stretch) -> None:
        """Hold the whole of a place and the last stretch of it."""
        with self._lock:
            held = self._held.setdefault(place, [])
            self._held[place] = [*held[:1], stretch]
            self._held.move_to_end(place)
            while len(self._held) > 1 and sum(_size(stretches) for stretches in self._held.values()) > self._points:
                self._held.popitem(last=False)

    def _read(self, connection: DuckDBPyConnection, places: dict[Place, int], span_us: tuple[int, int] = EVER) -> dict[Place, list[Line]]:
        """Return all lines of ``places`` (place -> its start); what is long is thinned as it comes."""
        self.reads += 1
        by_window = {place.window: place for place in places}
        first = next(iter(places))
        parameters: list[Any] = [first.tool, first.sensor, list(by_window)]
        query = _SAMPLES
        if span_us is not EVER:
            query += _BETWEEN
            parameters += [places[first] + edge for edge in span_us]
        growing: dict[tuple[int, int, int], Growing] = {}
        for batch in connection.execute(query, parameters).to_arrow_reader(ROWS):
            window, trace, stream, seq, at_us, value = (column.to_numpy(zero_copy_only=False) for column in batch.columns)
            changes = (window[1:] != window[:-1]) | (trace[1:] != trace[:-1]) | (stream[1:] != stream[:-1])
            edges = [0, *(np.flatnonzero(changes) + 1), len(window)]
            for begin, end in pairwise(edges):
                key = (int(window[begin]), int(trace[begin]), int(stream[begin]))
                since_us = at_us[begin:end] - places[by_window[key[0]]]
                growing.setdefault(key, Growing()).add(since_us, seq[begin:end], np.asarray(value[begin:end], np.float64))
        names: dict[int, str] = {}
        lines: dict[Place, list[Line]] = {place: [] for place in places}
        for (window_id, trace_hash, _), samples in sorted(growing.items()):
            if trace_hash not in names:
                found = connection.execute(_NAME, [first.tool, first.sensor, window_id, trace_hash]).fetchone()
                names[trace_hash] = str(found[0]) if found else ""
            place = by_window[window_id]
            lines[place].append(samples.line(window_id, places[place], names[trace_hash]))
        return lines


def _size(stretches: list[Stretch]) -> int:
    return sum(len(line.seq) for stretch in stretches for line in stretch.lines)
