"""Accepted records become sorted, narrow trace rows, sensor by sensor, and the windows that they fill are reduced on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ingest.derived import Derived
from ingest.records import Float64, Int32, Int64, Layout
from ingest.segment import Arena, Registry, Segment
from ingest.timing import Clock
from kernels.gather import count_nulls, transpose
from kernels.reduce import COLUMNS, reduce_windows
from kernels.runs import begins, distinct, numbered
from storage.index import Window
from storage.pieces import Piece, SharedColumns


@dataclass(slots=True)
class Reduced:
    """Statistics (k, 13) of a trace's sensors in one window, from the samples that one segment held."""

    window: Window
    trace: str
    positions: list[int]
    names: list[str]
    statistics: Float64
    spooled: tuple[int, tuple[int, ...]] | None = None
    """Where :class:`ingest.spool.Spool` put the statistics (offset, shape), if they are not here."""


@dataclass(slots=True)
class Group:
    """The accepted records of one (chamber, trace) with one layout, in order of (time, seq, stream)."""

    chamber: str | None
    trace: str
    layout: Layout
    record: Int64
    window: Int64


def groups_of(segment: Segment, registry: Registry, record: Int64, window: Int64) -> list[Group]:
    """Split ``record`` (indices of one tool's accepted records; ``window`` beside) by chamber, trace and layout."""
    places: dict[tuple[str, str], int] = {}
    place_of = np.zeros(len(registry.streams), np.int64)
    rank = np.zeros(len(registry.streams), np.int64)
    rank[sorted(range(len(rank)), key=lambda i: registry.streams[i].stream)] = np.arange(len(rank))
    for number, key in enumerate(registry.streams):
        place_of[number] = places.setdefault((key.chamber or "", key.trace), len(places))
    code = place_of[segment.stream[record]] * len(registry.layouts) + segment.layout[record]
    names = list(places)
    out = []
    for value in distinct(code).tolist():
        place, layout = divmod(value, len(registry.layouts))
        at = np.flatnonzero(code == value)
        members = record[at]
        order = np.lexsort((rank[segment.stream[members]], segment.seq[members], segment.time_us[members]))
        out.append(Group(names[place][0] or None, names[place][1], registry.layouts[layout], members[order], window[at[order]]))
    return sorted(out, key=lambda g: (g.chamber or "", g.trace, len(g.layout)))


def by_stream(stream: Int64) -> Int64 | None:
    """Return the order that puts each of ``stream`` (codes (n,) without a gap, in order of time) on end, streams as they begin.

    None where they stand so. Streams that run side by side share neither times nor values: mixed they compress worse, and a window's
    samples lie scattered.
    """
    if np.count_nonzero(np.diff(stream)) == stream.max():
        return None
    _, first, inverse = np.unique(stream, return_index=True, return_inverse=True)
    return np.argsort(first[inverse], kind="stable")


def by_name(layout: Layout) -> Int64:
    """Return the positions (from 0) of a layout in order of sensor name, as the files are sorted."""
    return np.asarray(sorted(range(len(layout)), key=lambda i: (layout[i].name, i)), np.int64)


class Reduction:
    """The windows of one group, reduced some sensors at a time.

    ``window``, ``time_us``: of its ``n`` records as the matrices hold them; ``moment``: their places in order of time, None where that is
    their order.
    """

    def __init__(self, trace: str, window: Int64, time_us: Int64, moment: Int64 | None, sensors: int) -> None:
        self._trace = trace
        edges = begins(window)
        self._together: Int64 | None = None
        if len(np.unique(window[edges])) != len(edges) or (moment is not None and ((np.diff(moment) < 0) & (np.diff(window) == 0)).any()):
            self._together = np.lexsort((np.arange(len(window)) if moment is None else moment, window))
            window, time_us = window[self._together], time_us[self._together]
            edges = begins(window)
        stops = np.append(edges[1:], len(window))
        held = window[edges] > 0
        self._ids, self._starts, self._stops = window[edges][held], edges[held], stops[held]
        self._time_us = time_us
        self._statistics = np.empty((len(self._ids), sensors, len(COLUMNS)))

    def add(self, some: slice, matrix: Float64) -> None:
        """Reduce the samples (k, n) of the sensors ``some``."""
        if len(self._ids):
            matrix = matrix if self._together is None else matrix[:, self._together]
            self._statistics[:, some] = reduce_windows(matrix, self._time_us, self._starts, self._stops)

    def finish(self, windows: dict[int, Window], names: list[str], positions: list[int]) -> list[Reduced]:
        """Return the statistics of each window."""
        ids = self._ids.tolist()
        return [Reduced(windows[at], self._trace, positions, names, self._statistics[i]) for i, at in enumerate(ids)]


class TraceFile:
    """The rows of one tool's accepted records of one segment."""

    def __init__(
        self,
        tool: str,
        segment: Segment,
        registry: Registry,
        groups: Sequence[Group],
        payload_ids: Sequence[str],
        arena: Arena,
        derived: Derived,
    ) -> None:
        self._derived = derived
        self._arena = arena
        self._tool = tool
        self._segment = segment
        self._registry = registry
        self._groups = groups
        self._payloads = tuple(payload_ids)
        self.reduced: list[Reduced] = []

    def optional(self) -> set[str]:
        """Return the columns that hold nulls; all others are required in the file."""
        optional = set()
        if any(group.chamber is None for group in self._groups):
            optional.add("chamber")
        if any((group.window == 0).any() for group in self._groups):
            optional.add("window_id")
        values = self._segment.values
        if values.dtype == np.float64 and count_nulls(values.view(np.int64)):
            optional.add("value")
        return optional

    def pieces(self, rows: int, windows: dict[int, Window], clock: Clock) -> Iterator[Piece]:
        """Yield the rows in order, in pieces of at most ``rows`` rows, and reduce each group's windows on the way."""
        for timely in self._groups:
            group = timely
            with clock("order"):
                order = by_name(group.layout)
                names = [group.layout[i].name for i in order.tolist()]
                positions = (order + 1).astype(np.int32)
                used, codes = numbered(self._segment.stream[group.record])
                moment = by_stream(codes)
                if moment is not None:
                    group, codes = replace(group, record=group.record[moment], window=group.window[moment]), codes[moment]
                streams = tuple(self._registry.streams[i].stream for i in used.tolist())
                cuts = self._cuts(len(group.record), len(order), rows)
            reduction = Reduction(group.trace, group.window, self._segment.time_us[group.record], moment, len(order))
            for at, blocks in cuts:
                shared = self._shared(group, at, streams, codes[at].astype(np.int32))
                starts = self._segment.value_start[group.record[at]]
                for some in blocks:
                    with clock("order"):
                        matrix = self._matrix(starts, order[some])
                    if len(cuts) == 1 and self._derived.works:
                        with clock("features"), self._derived.guard():
                            reduction.add(some, matrix)
                    yield Piece(shared, names[some], positions[some], matrix)
            if len(cuts) > 1 and self._derived.works:  # windows may span cuts
                starts = self._segment.value_start[group.record]
                with clock("features"), self._derived.guard():
                    for j in range(len(order)):
                        reduction.add(slice(j, j + 1), self._matrix(starts, order[j : j + 1]))
            if self._derived.works:
                self.reduced += reduction.finish(windows, names, positions.tolist())

    def _cuts(self, records: int, sensors: int, rows: int) -> list[tuple[slice, list[slice]]]:
        """Return stretches of records and for each the blocks of sensors of its pieces."""
        cuts = []
        for a in range(0, records, rows):
            at = slice(a, min(records, a + rows))
            together = max(1, rows // (at.stop - at.start))
            cuts.append((at, [slice(j, min(sensors, j + together)) for j in range(0, sensors, together)]))
        return cuts

    def _matrix(self, starts: Int64, columns: Int64) -> Float64:
        """Return the samples (k, n) of ``k`` columns of ``n`` records, whose values begin at ``starts``; they hold until the next call."""
        sheet: Float64 = self._arena.sheet(len(columns), len(starts))
        transpose(self._segment.values, starts, columns, sheet)
        return sheet

    def _shared(self, group: Group, at: slice, streams: tuple[str, ...], codes: Int32) -> SharedColumns:
        """Return the columns that are the same for every sensor."""
        segment, record = self._segment, group.record[at]
        return SharedColumns(
            tool=self._tool,
            chamber=group.chamber,
            trace=group.trace,
            streams=streams,
            stream=codes,
            payloads=self._payloads,
            payload=segment.payload[record],
            seq=segment.seq[record],
            ts=segment.time_us[record],
            window_id=group.window[at],
            byte_start=segment.byte_start[record],
        )
