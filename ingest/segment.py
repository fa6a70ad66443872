"""A bounded stretch of a batch: what was decoded from several payloads, joined into one set of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ingest.records import Context, Decoded, Float64, Int32, Int64, Layout, Records, Samples, StreamKey
from kernels.gather import transpose
from kernels.runs import distinct
from kernels.sequence import COUNTER
from storage.texts import Texts
from storage.texts import joined as texts_joined


class Registry:
    """Streams, layouts and contexts of a batch, numbered in order of appearance."""

    def __init__(self) -> None:
        self.streams: list[StreamKey] = []
        self.periods: list[int] = []
        self.layouts: list[Layout] = []
        self.contexts: list[Context] = []
        self._stream: dict[StreamKey, int] = {}
        self._layout: dict[Layout, int] = {}
        self._context: dict[Context, int] = {}

    def stream(self, key: StreamKey, period_us: int) -> int:
        """Return the number of ``key``; ``period_us`` is COUNTER (-1), 0 for a sparse time, else the period of a timed stream."""
        number = self._stream.setdefault(key, len(self.streams))
        if number == len(self.streams):
            self.streams.append(key)
            self.periods.append(period_us)
        return number

    def layout(self, layout: Layout) -> int:
        """Return the number of ``layout``."""
        number = self._layout.setdefault(layout, len(self.layouts))
        if number == len(self.layouts):
            self.layouts.append(layout)
        return number

    def context(self, context: Context) -> int:
        """Return the number of ``context``."""
        number = self._context.setdefault(context, len(self.contexts))
        if number == len(self.contexts):
            self.contexts.append(context)
        return number


@dataclass(slots=True)
class Segment:
    """``n`` records of a batch in order of arrival, their frames (``f``) and samples (``m``).

    ``payload`` and ``frame_payload`` number the batch's payloads; ``frame`` is -1 for a record of a payload that is one single frame.
    """

    stream: Int32
    layout: Int32
    context: Int32
    seq: Int64
    time_us: Int64
    late_us: Int64
    payload: Int32
    frame: Int64
    value_start: Int64
    count: Int64
    values: Samples
    frame_start: Int64
    frame_stop: Int64
    frame_payload: Int32
    texts: Texts
    byte_start: Int64 = field(init=False)

    def __post_init__(self) -> None:
        """Look up where each record's frame begins."""
        inside = self.frame >= 0
        self.byte_start = np.zeros(len(self.frame), np.int64)
        self.byte_start[inside] = self.frame_start[self.frame[inside]]

    def contents(self, record: Int64) -> tuple[Int64, Int64, Int64]:
        """Return (bits, start, count): the samples of ``record`` (n,) as bits of doubles, and where those of each one are among them."""
        start, count = self.value_start[record], self.count[record]
        if self.values.dtype == np.float64:
            return self.values.view(np.int64), start, count
        wide = np.empty(int(count.sum()))
        stop = np.cumsum(count)
        for width in distinct(count).tolist():
            some = count == width
            rows = transpose(self.values, np.arange(width), start[some], np.empty((int(some.sum()), width)))
            wide[np.repeat(some, count)] = rows.reshape(-1)
        return wide.view(np.int64), stop - count, count


SEGMENT_SAMPLES = 4 << 20
"""Samples that wait in memory before they are written; a batch of any size needs no more."""

ROOM = SEGMENT_SAMPLES * 5 // 4


class Arena:
    """Memory for one segment's samples, used again for the next one: fresh pages cost more than decoding.

    It begins with room for ``SEGMENT_SAMPLES`` and the chunk that makes them full; nothing of that is there before it is written to.
    """

    def __init__(self) -> None:
        self._memory: Float64 = np.empty(0, np.float64)
        self._sheet: Float64 = np.empty(0, np.float64)
        self._narrow = True
        self.used = 0

    def append(self, values: Samples) -> None:
        """Copy ``values`` behind those that are here, all as float64 as soon as some are."""
        if self._narrow and values.dtype == np.float64 and len(values):
            held = self._samples()[: self.used].astype(np.float64)
            self.used, self._narrow = 0, False
            self.append(held)
        stop = self.used + len(values)
        self._grow(stop)
        self._samples()[self.used : stop] = values
        self.used = stop

    def take(self) -> Samples:
        """Return all samples, and begin anew: the view holds until the next ``append``."""
        found = self._samples()[: self.used]
        self.used, self._narrow = 0, True
        return found

    def _samples(self) -> Samples:
        return self._memory.view(np.float32) if self._narrow else self._memory

    def _grow(self, samples: int) -> None:
        """Have room for ``samples``."""
        before = self._samples()
        if samples > len(before):
            words = (samples + 1) // 2 if self._narrow else samples
            self._memory = np.empty(max(words, ROOM, len(self._memory) * 3 // 2), np.float64)
            self._samples()[: self.used] = before[: self.used]

    def sheet(self, rows: int, columns: int) -> Float64:
        """Return room for (rows, columns) samples, until the next call."""
        if rows * columns > len(self._sheet):
            self._sheet = np.empty(rows * columns, np.float64)
        return self._sheet[: rows * columns].reshape(rows, columns)


@dataclass(slots=True)
class Pending:
    """Decoded stretches that wait to become a segment."""

    registry: Registry
    arena: Arena
    parts: list[tuple[int, Decoded]] = field(default_factory=list)
    samples: int = 0
    """Samples that wait; eight bytes of an event count as one."""

    def add(self, payload: int, decoded: Decoded) -> None:
        """Take what payload number ``payload`` came to."""
        self.parts.append((payload, decoded))
        if decoded.events is not None:
            self.samples += (decoded.events.vars.nbytes + decoded.events.body.nbytes) >> 3
        if decoded.records is not None:
            records = decoded.records
            records.value_start = records.value_start + self.arena.used
            self.samples += len(records.values)
            self.arena.append(records.values)
            records.values = records.values[:0].copy()

    def take(self) -> Segment:
        """Join all parts and forget them."""
        parts, self.parts, self.samples = self.parts, [], 0
        return _join(parts, self.registry, self.arena.take())


def _numbers(numbers: Sequence[int], index: Int32) -> Int32:
    """Map a part's numbers to the batch's; -1 stays."""
    if not len(index):
        return index
    table = np.asarray([*numbers, -1], np.int32)
    return table[index]


def _period(records: Records, i: int) -> int:
    if not records.timed or not records.timed[i]:
        return COUNTER
    return records.period_us[i] if records.period_us else 0


def _join(parts: list[tuple[int, Decoded]], registry: Registry, values: Samples) -> Segment:
    columns: dict[str, list[np.ndarray]] = {
        name: [] for name in ("stream", "layout", "context", "seq", "time", "late", "payload", "frame", "start", "count")
    }
    frame_start, frame_stop, frame_payload = [], [], []
    texts: list[Texts] = []
    records_in: list[int] = []
    frames = 0
    for payload, part in parts:
        frame_start.append(part.frame_start)
        frame_stop.append(part.frame_stop)
        frame_payload.append(np.full(len(part.frame_start), payload, np.int32))
        records = part.records
        if records is not None and len(records.seq):
            n = len(records.seq)
            streams = [registry.stream(key, _period(records, i)) for i, key in enumerate(records.streams)]
            layouts = [registry.layout(layout) for layout in records.layouts]
            widths = np.asarray([len(layout) for layout in records.layouts], np.int64)
            columns["stream"].append(_numbers(streams, records.stream))
            columns["layout"].append(_numbers(layouts, records.layout))
            columns["context"].append(_numbers([registry.context(context) for context in records.contexts], records.context))
            columns["seq"].append(records.seq)
            columns["time"].append(records.time_us)
            columns["late"].append(records.late_us)
            columns["payload"].append(np.full(n, payload, np.int32))
            columns["frame"].append(np.where(records.frame >= 0, records.frame + frames, -1))
            columns["start"].append(records.value_start)
            columns["count"].append(widths[records.layout])
            texts.append(records.texts)
            records_in.append(n)
        frames += len(part.frame_start)

    def joined(name: str, kind: type) -> np.ndarray:
        return np.concatenate(columns[name]).astype(kind, copy=False) if columns[name] else np.empty(0, kind)

    return Segment(
        joined("stream", np.int32),
        joined("layout", np.int32),
        joined("context", np.int32),
        joined("seq", np.int64).copy(),
        joined("time", np.int64).copy(),
        joined("late", np.int64),
        joined("payload", np.int32),
        joined("frame", np.int64),
        joined("start", np.int64),
        joined("count", np.int64),
        values,
        np.concatenate(frame_start) if frame_start else np.empty(0, np.int64),
        np.concatenate(frame_stop) if frame_stop else np.empty(0, np.int64),
        np.concatenate(frame_payload) if frame_payload else np.empty(0, np.int32),
        texts_joined(texts, records_in),
    )
