"""Accepted records become sorted, narrow trace rows, sensor by sensor, and the windows that they fill are reduced on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ingest.records import Float64, Int64, Layout
from ingest.segment import Arena, Registry, Segment
from ingest.timing import Clock
from kernels.gather import count_nulls, transpose, valid_bits
from kernels.reduce import reduce_windows
from storage.files import value_encoding
from storage.index import Window
from storage.schema import arrow_schema

DICTIONARY = pa.dictionary(pa.int32(), pa.string())


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
    for value in np.unique(code).tolist():
        place, layout = divmod(value, len(registry.layouts))
        at = np.flatnonzero(code == value)
        members = record[at]
        order = np.lexsort((rank[segment.stream[members]], segment.seq[members], segment.time_us[members]))
        out.append(Group(names[place][0] or None, names[place][1], registry.layouts[layout], members[order], window[at[order]]))
    return sorted(out, key=lambda g: (g.chamber or "", g.trace, len(g.layout)))


def by_name(layout: Layout) -> Int64:
    """Return the positions (from 0) of a layout in order of sensor name, as the files are sorted."""
    return np.asarray(sorted(range(len(layout)), key=lambda i: (layout[i].name, i)), np.int64)


def constant(value: str | None, rows: int) -> pa.DictionaryArray:
    """Return a column that holds one text, or nothing, ``rows`` times."""
    if value is None:
        return pa.DictionaryArray.from_arrays(pa.nulls(rows, pa.int32()), pa.array([], pa.string()))
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([value]))


def numbers(values: Float64) -> pa.Array:
    """Return float64 values as an Arrow array in which the NULL pattern is null."""
    bitmap, nulls = valid_bits(values.view(np.int64))
    return pa.Array.from_buffers(pa.float64(), len(values), [pa.py_buffer(bitmap) if nulls else None, pa.py_buffer(values)], nulls)


def window_ids(window: Int64) -> pa.Array:
    """Return window ids as an Arrow array in which 0 is null."""
    absent = window == 0
    return pa.array(window, mask=absent) if absent.any() else pa.array(window)


class TraceFile:
    """The rows of one tool's accepted records of one segment."""

    def __init__(
        self, tool: str, segment: Segment, registry: Registry, groups: Sequence[Group], payload_ids: Sequence[str], arena: Arena
    ) -> None:
        self._arena = arena
        self._tool = tool
        self._segment = segment
        self._registry = registry
        self._groups = groups
        self._payloads = pa.array(payload_ids, pa.string())
        self.reduced: list[Reduced] = []

    def schema(self) -> pa.Schema:
        """Return the file's schema: dictionary columns, and required where nothing is null."""
        optional = set()
        if any(group.chamber is None for group in self._groups):
            optional.add("chamber")
        if any((group.window == 0).any() for group in self._groups):
            optional.add("window_id")
        if count_nulls(self._segment.values.view(np.int64)):
            optional.add("value")
        text = pa.string()
        return pa.schema(
            [
                pa.field(field.name, DICTIONARY if field.type == text else field.type, nullable=field.name in optional)
                for field in arrow_schema("traces")
            ]
        )

    def encoding(self) -> str:
        """Return the encoding that suits the segment's values."""
        return value_encoding(self._segment.values)

    def pieces(self, rows: int, windows: dict[int, Window], clock: Clock) -> Iterator[pa.Table]:
        """Yield the rows in order, in tables of at most ``rows`` rows, and reduce each group's windows on the way."""
        schema = self.schema()
        for group in self._groups:
            with clock("order"):
                order = by_name(group.layout)
                sheet = self._arena.sheet(len(order), len(group.record))
                matrix = transpose(self._segment.values, self._segment.value_start[group.record], order, sheet)
            with clock("features"):
                self._reduce(group, order, matrix, windows)
            yield from self._cut(group, order, matrix, rows, schema)

    def _cut(self, group: Group, order: Int64, matrix: Float64, rows: int, schema: pa.Schema) -> Iterator[pa.Table]:
        segment, record = self._segment, group.record
        n = len(record)
        used, codes = np.unique(segment.stream[record], return_inverse=True)
        streams = pa.array([self._registry.streams[i].stream for i in used.tolist()], pa.string())
        for a in range(0, n, rows):
            at = slice(a, min(n, a + rows))
            count = at.stop - at.start
            together = max(1, rows // count)
            tiled: dict[int, dict[str, pa.Array]] = {}
            for j in range(0, len(order), together):
                some = order[j : j + together]
                k = len(some)
                if k not in tiled:
                    tiled[k] = self._shared(group, at, k, pa.array(codes[at].astype(np.int32)), streams)
                columns = dict(tiled[k])
                names = [group.layout[i].name for i in some.tolist()]
                columns["sensor"] = pa.DictionaryArray.from_arrays(
                    pa.array(np.repeat(np.arange(k, dtype=np.int32), count)), pa.array(names)
                )
                columns["position"] = pa.array(np.repeat((some + 1).astype(np.int32), count))
                columns["value"] = numbers(matrix[j : j + k, at].reshape(-1).copy())  # the sheet is used again
                yield pa.table([columns[name] for name in schema.names], schema=schema)

    def _shared(self, group: Group, at: slice, k: int, codes: pa.Array, streams: pa.Array) -> dict[str, pa.Array]:
        """Return the columns that are the same for every run of ``k`` sensors."""
        segment, record = self._segment, group.record[at]
        total = k * len(record)
        return {
            "tool": constant(self._tool, total),
            "chamber": constant(group.chamber, total),
            "trace": constant(group.trace, total),
            "stream": pa.DictionaryArray.from_arrays(pa.array(np.tile(np.asarray(codes), k)), streams),
            "seq": pa.array(np.tile(segment.seq[record], k)),
            "ts": pa.array(np.tile(segment.time_us[record], k)).cast(pa.timestamp("us")),
            "window_id": window_ids(np.tile(group.window[at], k)),
            "payload_id": pa.DictionaryArray.from_arrays(pa.array(np.tile(segment.payload[record], k)), self._payloads),
            "byte_start": pa.array(np.tile(segment.byte_start[record], k)),
        }

    def _reduce(self, group: Group, order: Int64, matrix: Float64, windows: dict[int, Window]) -> None:
        window, time_us = group.window, self._segment.time_us[group.record]
        if not window.any():
            return
        edges = np.flatnonzero(np.append(True, np.diff(window) != 0))
        if len(np.unique(window)) != len(edges):
            together = np.argsort(window, kind="stable")
            window, time_us, matrix = window[together], time_us[together], matrix[:, together]
            edges = np.flatnonzero(np.append(True, np.diff(window) != 0))
        stops = np.append(edges[1:], len(window))
        held = window[edges] > 0
        ids, starts, stops = window[edges][held], edges[held], stops[held]
        statistics = reduce_windows(matrix, time_us, starts, stops)
        names = [group.layout[i].name for i in order.tolist()]
        positions = (order + 1).tolist()
        for i, window_id in enumerate(ids.tolist()):
            self.reduced.append(Reduced(windows[window_id], group.trace, positions, names, statistics[i]))
