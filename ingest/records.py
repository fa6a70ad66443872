"""What every decoder yields: columns of records and events, rejected spans, and the bytes of all else.

Shapes: ``n`` records, ``m`` samples, ``e`` events, ``f`` frames. All arrays are in payload order. Byte ranges are half-open and
relative to the decompressed payload. Times are int64 microseconds UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.texts import Texts

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]
Float64 = npt.NDArray[np.float64]
Samples = npt.NDArray[np.float64] | npt.NDArray[np.float32]
"""Values as they travel: float32 where every number came as one and none is NULL, else float64."""

NO_TIME = np.iinfo(np.int64).min
"""``time_us`` of an event whose report holds no time."""


WALLED = "circuit_open"
"""Why a sound row is rejected: the circuit of its tool is open."""


class StreamKey(NamedTuple):
    """(tool, chamber, trace, key values as JSON text or ''): the scope of a sequence."""

    tool: str
    chamber: str | None
    trace: str
    stream: str


class Context(NamedTuple):
    """What a wafer's place in production is called; None where the tool does not say."""

    lot: str | None = None
    wafer: str | None = None
    recipe: str | None = None
    step: str | None = None


class Sensor(NamedTuple):
    """The name of one position (its index + 1) of a layout. ``source``: configured, learned or ordinal."""

    name: str
    unit: str | None = None
    svid: str | None = None
    source: str = "ordinal"


Layout = tuple[Sensor, ...]


@dataclass(slots=True, frozen=True)
class Rejected:
    """A byte range that could not be understood, with its bytes.

    ``rows``: ``start`` and ``stop`` are row numbers (from 0) of a Parquet or Arrow file, ``data`` is the row as JSON, counted as 0 bytes.
    """

    start: int
    stop: int
    reason: str
    detail: str
    data: bytes
    tool: str | None = None
    rows: bool = False


@dataclass(slots=True)
class Records:
    """``n`` records with ``m`` samples in all; ``step_us`` is 0 where the sequence counts by ones.

    A record's samples are ``values[value_start : value_start + len(layouts[layout])]``, NULL and NaN as in ``kernels.missing``
    (float32 values: the canonical NaN, no NULL).
    ``late_us`` differs from ``time_us`` where a local time was read in a repeated hour: the later of the two readings.
    ``context`` is -1 where windows come from events, else an index into ``contexts``.
    Text values (and 64-bit integers beyond 2**53, exactly) stand beside, in ``texts``.
    """

    streams: list[StreamKey]
    layouts: list[Layout]
    contexts: list[Context]
    stream: Int32
    layout: Int32
    context: Int32
    seq: Int64
    time_us: Int64
    late_us: Int64
    frame: Int64
    value_start: Int64
    values: Samples
    texts: Texts
    timed: list[bool] = field(default_factory=list)
    """Per stream: True where the sequence is a sparse time (seq = time_us), not a counter."""
    period_us: list[int] = field(default_factory=list)
    """Per stream: the configured period of a timed stream, 0 where none (then it has no gaps)."""


class EventKind(NamedTuple):
    """What many events have in common.

    ``role`` is start, end or None. In ``chamber`` and ``context`` None means that the event does not say, '' that it says there is none.
    """

    event: str | None = None
    ceid: int | None = None
    role: str | None = None
    chamber: str | None = None
    context: Context = Context()


@dataclass(slots=True)
class Events:
    """``e`` events (S6F11, S5F1), column by column; ``kind`` counts in ``kinds``. ``time_us`` is NO_TIME where the report has no time.

    Arrow columns: ``dataid`` int64, null where there is none; ``vars`` JSON text; ``body`` the whole SECS-II bodies. ``system`` holds the
    system bytes.
    """

    tool: str
    kinds: list[EventKind]
    kind: Int32
    dataid: pa.Int64Array
    time_us: Int64
    late_us: Int64
    vars: pa.StringArray
    body: pa.BinaryArray
    system: Int64
    frame: Int64


@dataclass(slots=True)
class Decoded:
    """What one stretch of a payload came to. Frames, rejected spans and other bytes tile it without overlap.

    ``frame_start``, ``frame_stop``: the ``f`` frames that carry the records and events. ``other_bytes`` and ``other_frames``: what was
    understood and is not data. A Parquet or Arrow file is one frame: it stands in the first Decoded that holds records; in later ones the
    frame arrays are empty and ``records.frame`` is -1, meaning the payload's single frame.
    """

    frame_start: Int64
    frame_stop: Int64
    records: Records | None
    events: Events | None
    rejected: list[Rejected]
    other_bytes: int
    other_frames: int
    more: bool = False
    """Whether events that stand among these frames come in a later Decoded, soon."""


class Decoder(Protocol):
    """A format's decoder: no I/O, any cut into chunks gives the same records, events and spans.

    No input raises; a payload that the configuration cannot map raises ``ingest.errors.MappingMissing``.
    """

    def feed(self, data: bytes) -> Iterator[Decoded]:
        """Take the next bytes of the payload; yield what became whole."""

    def finish(self) -> Iterator[Decoded]:
        """Yield the rest, a torn tail as one rejected span: the payload has ended."""
